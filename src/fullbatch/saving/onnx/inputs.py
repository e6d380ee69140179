"""The inputs of a table's graph, one for each raw column, and what a raw table gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.tables import bins
from fullbatch.tables.encoding import TableEncoding, as_kind, numbers_of

if TYPE_CHECKING:
    from fullbatch.tables.raw import RawColumn, RawTable

NO_DATE = np.iinfo(np.int64).min  # a missing date: what NumPy's NaT is as an integer
DTYPES: dict[str, Any] = {"number": np.float64, "text": np.object_, "boolean": np.bool_, "date": np.int64}


@dataclass(frozen=True)
class Input:
    """A raw column as an input of shape (N,).

    kind : "number" (double; NaN is missing), "text" (string; the words for missing are), "boolean" (bool), or "date"
        (int64 seconds since 1970; NO_DATE is missing). A boolean column that had gaps in training is a "number", 0, 1.
    """

    name: str
    kind: str


def inputs_of(encoding: TableEncoding, record: Mapping[str, Any]) -> list[Input]:
    """The inputs of a model of a table, in the order of its columns.

    record : how it was made, which knows of times that have neither parts nor a format, such as durations
    """
    dates = {category.name for category in encoding.categories if category.part not in (None, bins.NAME)}
    dates |= {name for name, _ in encoding.date_formats}
    reported = record.get("report", {}).get("columns", ())
    dates |= {column["name"] for column in reported if column.get("kind") == "date"}
    dates &= set(encoding.numbers)
    levels = {category.name: category for category in encoding.categories if category.part is None}
    return [Input(name, _kind(name, encoding, dates, levels)) for name in encoding.feature_names]


def _kind(name: str, encoding: TableEncoding, dates: set[str], categories: Mapping[str, Any]) -> str:
    if name in dates:
        return "date"
    if name in encoding.numbers:
        return "number"
    category = categories[name]
    if category.levels and all(isinstance(level, bool) for level in category.levels):
        return "number" if category.missing else "boolean"
    return "text" if category.is_text else "number"


def feeds_of(inputs: list[Input], table: RawTable) -> dict[str, np.ndarray]:
    """What the inputs are given for the rows of a table: (m,) each. Fractions of the seconds of dates are dropped."""
    return {one.name: _values(one, table.column(one.name)) for one in inputs}


def _values(one: Input, column: RawColumn) -> np.ndarray:
    if one.kind == "text":
        return _texts(column)
    if one.kind == "boolean":
        truths = [*(str(level).lower() == "true" for level in column.levels or ()), False, False]
        return np.array(truths)[column.values] if column.levels is not None else column.values == 1
    if column.kind == "boolean":
        return np.array([0.0, 1.0, np.nan, np.nan])[column.values]
    numbers = numbers_of(one.name, column)
    if one.kind == "number":
        return np.asarray(numbers, np.float64)
    gaps = np.isnan(numbers)
    return np.where(gaps, NO_DATE, np.floor(np.where(gaps, 0, numbers)).astype(np.int64))


def _texts(column: RawColumn) -> np.ndarray:
    """Levels as the texts that they would have been in training; "" for a gap, "\0" for a text that was not kept."""
    if column.levels is None:
        numbers = column.values.tolist()
        return np.array(["" if number != number else as_kind(number, True, ".") for number in numbers], np.object_)
    texts = [as_kind(level, True, column.decimal) for level in column.levels]
    return np.array([*texts, "", "\0"], np.object_)[column.values]


def gaps_of(inputs: list[Input], table: RawTable) -> np.ndarray:
    """Which rows have a gap that no input can say: that of a boolean column without gaps in training. bool (m,)."""
    found = np.zeros(table.m, bool)
    for one in inputs:
        if one.kind == "boolean":
            found |= table.column(one.name).missing
    return found
