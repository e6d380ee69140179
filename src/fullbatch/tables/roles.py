"""Columns that have a part of their own in a training: the target, the weight, what decides which rows are held out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fullbatch.errors import InputError, TableError
from fullbatch.tables.encoding import numbers_of

if TYPE_CHECKING:
    from fullbatch.tables.encoding import TableEncoding
    from fullbatch.tables.fit import Learnable
    from fullbatch.tables.raw import RawTable

GROUPS = "its values are groups, none of which is on both sides"
WEIGHS = "it weighs the rows"


@dataclass(frozen=True)
class Roles:
    """The columns of a table that are more than features, or less.

    weight : no feature: what a row counts is not known of a new one
    group : no feature: what is learned of a group says nothing of others, and those that are held out are others
    split_by : a feature, unless it is dropped: a date has a season and a trend, which are there to be learned. It
        decides all the same
    drop : no features
    """

    target: str
    weight: str | None = None
    split_by: str | None = None
    group: str | None = None
    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = {"the target": self.target, "the weight": self.weight, "split_by": self.split_by, "group": self.group}
        named = {part: name for part, name in parts.items() if name is not None}
        twice = [name for name, count in Counter(named.values()).items() if count > 1]
        if twice:
            both = " and ".join(part for part, name in named.items() if name == twice[0])
            raise InputError(f"column {twice[0]!r} is given as {both}; choose one.")
        for part, name in named.items():
            if name in self.drop and part != "split_by":
                raise InputError(f"column {name!r} is given as {part} and to be dropped; choose one.")

    def features(self, table: RawTable) -> RawTable:
        """The table without the columns that are no features, which its ``left_out`` then has."""
        from fullbatch.tables.raw import DROPPED

        reasons = dict.fromkeys(self.drop, DROPPED)
        if self.group is not None:
            reasons[self.group] = GROUPS
        if self.weight is not None:
            reasons[self.weight] = WEIGHS
        table.require([name for name in reasons if name not in self.drop or name not in table.left_out])
        columns = {name: column for name, column in table.columns.items() if name not in reasons}
        return replace(table, columns=columns, left_out={**table.left_out, **reasons})


def weights_of(table: RawTable, name: str, dtype: str) -> np.ndarray:
    """The weights of the rows, (m,), from a column. TableError that names the first row which has none."""
    table.require([name], "weight column")
    column = table.column(name)
    if column.time:
        raise TableError(f"column {name!r} holds dates or times, which are no weights; give another column.")
    with np.errstate(over="ignore"):  # What is too large becomes infinite, and is refused.
        values = numbers_of(name, column, "or weigh the rows by another column").astype(dtype)
    for wrong, what, cure in (
        (np.isnan(values), "no weight", "give each row one; 0 leaves a row out"),
        (values < 0, "a negative weight", "0 leaves a row out"),
    ):
        if wrong.any():
            row = int(wrong.argmax())
            value = "" if np.isnan(values[row]) else f", {values[row]:g}"
            raise TableError(f"column {name!r} has {what} in row {row + 1}{value}; {cure}.")
    if not np.isfinite(values).all():
        raise TableError(f"column {name!r} is too large for {dtype} in row {int(np.isinf(values).argmax()) + 1}.")
    return values


# --- Classes that only held-out rows have ----------------------------------------------------------------------------


def scorable(encoding: TableEncoding, rows: Learnable) -> tuple[Learnable, dict[str, int]]:
    """The held-out rows whose class training has, and of each other class how many rows have it.

    Raises TableError where no row is left.
    """
    known, others = encoding.known_classes(rows.table)
    if not others:
        return rows, {}
    if not known.any():
        raise TableError(f"{said_of_classes(others, rows.table.m)}; no row is left to score.")
    return rows.rows(np.flatnonzero(known)), others


def said_of_classes(others: dict[str, int], m: int) -> str:
    """What is said of held-out rows of which nothing was learned; "" for none."""
    from fullbatch.tables.raw import listed

    if not others:
        return ""
    count = sum(others.values())
    classes = "a class" if len(others) == 1 else "classes"
    return f"{count:,} of {m:,} held-out rows have {classes} that training had not, {listed(list(others))}"
