"""A table's encoding as nodes: raw columns become the numbers (N, k), and a row of W[1]^T for each category.

What each node does is what ``TableEncoding.encode`` does, in its order, so that the numbers are the same bits, but for
the logarithm of the tail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fullbatch.errors import InputError
from fullbatch.saving.onnx.graph import ML, Graph
from fullbatch.saving.onnx.inputs import NO_DATE, Input
from fullbatch.tables import bins
from fullbatch.tables.encoding import TAIL, Category, TableEncoding
from fullbatch.tables.parts import DAY, FARTHEST, HOUR, LEVELS
from fullbatch.tables.raw import USUAL, Conventions, Marks

# What onnxruntime makes of None and NaN among Python's texts, and what pandas calls a missing one.
WORDS_OF_OTHERS = ("None", "nan", "<NA>")
LARGEST = 1e300  # as ``encoding._tail`` has it
EXACT = 2**53  # Up to here a double holds each integer.


class Encoded(NamedTuple):
    """Names of values in the graph. numbers : (N, k), None where k is 0;  rows : of each category, (N,) int64"""

    numbers: str | None
    rows: list[str]


def encode(graph: Graph, encoding: TableEncoding, inputs: Sequence[Input]) -> Encoded:
    """Add the encoding. The rows are of ``W[1].T[n - c:]``, with a row of zeros after its c rows for "no feature"."""
    kinds = {one.name: one.kind for one in inputs}
    marks = Conventions.of(encoding).marks
    truths = {category.name for category in encoding.categories if isinstance((*category.levels, "")[0], bool)}
    values = {one.name: _without_marks(graph, one, Marks() if one.name in truths else marks) for one in inputs}
    seconds = {one.name: _as_number(graph, values[one.name]) for one in inputs if one.kind == "date"}
    columns = [seconds.get(name, values[name]) for name in encoding.numbers]
    first, rows = 0, []
    nothing = sum(category.width for category in encoding.categories)
    for category in encoding.categories:
        column = Input(values[category.name], kinds[category.name])
        rows.append(_rows(graph, encoding, category, column, first, nothing))
        first += category.width
    gaps = [_gap(graph, seconds.get(name, values[name]), encoding.dtype) for name in encoding.indicators]
    if not columns:
        return Encoded(None, rows)
    scaled = _scaled(graph, encoding, columns)
    return Encoded(graph.op("Concat", scaled, *gaps, axis=1) if gaps else scaled, rows)


# --- Numbers ------------------------------------------------------------------------------------------------


def _scaled(graph: Graph, encoding: TableEncoding, columns: list[str]) -> str:
    """The numbers of all columns as ``_encode_numbers`` has them: (N, k), in the model's dtype."""
    last = graph.constant(np.array([1], np.int64))
    together = [graph.op("Unsqueeze", name, last) for name in columns]
    block = graph.op("Concat", *together, axis=1) if len(together) > 1 else together[0]
    factor = np.divide(1.0, encoding.scale, out=np.zeros(len(columns)), where=encoding.scale > 0)
    z = graph.op("Mul", graph.op("Sub", block, graph.constant(encoding.center)), graph.constant(factor))
    zero, tail = graph.constant(np.float64(0.0)), graph.constant(np.float64(TAIL))
    z = graph.op("Where", graph.op("IsNaN", z), zero, z)
    size = graph.op("Abs", z)
    beyond = graph.op("Sub", graph.op("Min", size, graph.constant(np.float64(LARGEST))), tail)
    # There is no log1p; beyond the tail log(1 + x) is as good, since 3 is added to it.
    grown = graph.op("Log", graph.op("Add", graph.op("Max", beyond, zero), graph.constant(np.float64(1.0))))
    signed = graph.op("Mul", graph.op("Sign", z), graph.op("Add", grown, tail))
    return _cast(graph, graph.op("Where", graph.op("Greater", size, tail), signed, z), encoding.dtype)


def _gap(graph: Graph, column: str, dtype: str) -> str:
    """1 where a number is missing, else 0: (N, 1)."""
    return graph.op(
        "Unsqueeze", _cast(graph, graph.op("IsNaN", column), dtype), graph.constant(np.array([1], np.int64))
    )


def _without_marks(graph: Graph, column: Input, marks: Marks) -> str:
    """The column's value in the graph, a missing one where a number or date stands for that."""
    known: dict[str, tuple[frozenset[float], Any]] = {
        "number": (marks.numbers, np.float64), "date": (marks.moments, np.int64)
    }  # fmt: skip
    values, type_ = known.get(column.kind, (frozenset(), None))
    gap = np.float64(np.nan) if column.kind == "number" else np.int64(NO_DATE)
    value = column.name
    for mark in sorted(values):
        stands = graph.op("Equal", value, graph.constant(type_(mark)))
        value = graph.op("Where", stands, graph.constant(gap), value)
    return value


def _as_number(graph: Graph, date: str) -> str:
    """Seconds as doubles, NaN where the date is missing."""
    missing = graph.op("Equal", date, graph.constant(np.int64(NO_DATE)))
    return graph.op("Where", missing, graph.constant(np.float64(np.nan)), _cast(graph, date, "float64"))


def _cast(graph: Graph, value: str, dtype: str) -> str:
    from onnx import helper

    return graph.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


# --- Categories ---------------------------------------------------------------------------------------------


def _rows(graph: Graph, encoding: TableEncoding, category: Category, column: Input, first: int, nothing: int) -> str:
    """The row of each value of a category: that of its level, of "other" or "missing", or ``nothing``: (N,) int64.

    first : the category's first row
    """
    other = first + len(category.levels) if category.other else nothing
    missing = first + category.width - 1 if category.missing else other
    row = {level: first + i for i, level in enumerate(category.levels)}
    if category.part == bins.NAME:
        return _rows_of_bins(graph, category, column.name, first, nothing)
    if category.part is not None:
        return _rows_of_dates(graph, category, column.name, row, other)
    if column.kind == "boolean":
        yes, no = (graph.constant(np.int64(row.get(truth, other))) for truth in (True, False))
        return graph.op("Where", column.name, yes, no)
    if column.kind == "text":
        words = encoding.missing_words[0] if encoding.missing_words else USUAL.everywhere
        return _looked_up(
            graph, column.name, {**dict.fromkeys([*sorted(words), *WORDS_OF_OTHERS], missing), **row}, other
        )
    if any(abs(level) > EXACT for level in category.levels):
        raise InputError(
            f"column {category.name!r} has levels beyond 2^53, which the graph's input, a double, cannot tell apart; "
            "train with the column as texts."
        )
    found = _looked_up(graph, column.name, {float(level): at for level, at in row.items()}, other)
    return graph.op("Where", graph.op("IsNaN", column.name), graph.constant(np.int64(missing)), found)


def _looked_up(graph: Graph, value: str, rows: Mapping[str | float, int], other: int) -> str:
    """A LabelEncoder: texts, or doubles, to rows."""
    values = list(rows.values())
    if all(isinstance(key, str) for key in rows):
        return graph.op(
            "LabelEncoder", value, domain=ML, keys_strings=list(rows), values_int64s=values, default_int64=other
        )
    from onnx import TensorProto, helper

    def tensor(name: str, type_: int, items: Sequence[float]) -> object:
        return helper.make_tensor(name, type_, [len(items)], items)

    # Of doubles there is a kernel for doubles alone, which hold each row's number.
    found = graph.op(
        "LabelEncoder", value, domain=ML,
        keys_tensor=tensor("keys", TensorProto.DOUBLE, list(map(float, rows))),
        values_tensor=tensor("values", TensorProto.DOUBLE, values),
        default_tensor=tensor("default", TensorProto.DOUBLE, [other]),
    )  # fmt: skip
    return _cast(graph, found, "int64")


def _rows_of_bins(graph: Graph, category: Category, value: str, first: int, nothing: int) -> str:
    """The rows of a number's bins: as many edges as it is not below; ``nothing`` where it is missing."""
    last = graph.constant(np.array([1], np.int64))
    passed = graph.op("GreaterOrEqual", graph.op("Unsqueeze", value, last), graph.constant(np.array([category.edges])))
    count = graph.op("ReduceSum", _cast(graph, passed, "int64"), last, keepdims=0)
    row = graph.op("Add", count, graph.constant(np.int64(first)))
    return graph.op("Where", graph.op("IsNaN", value), graph.constant(np.int64(nothing)), row)


def _rows_of_dates(graph: Graph, category: Category, value: str, row: Mapping[int, int], other: int) -> str:
    """The rows of a part of dates; of what is no date, the missing one too, ``other``."""
    part = str(category.part)
    position = _position(graph, value, part)
    rows = np.array([row.get(level, other) for level in LEVELS[part]], np.int64)
    found = graph.op("Gather", graph.constant(rows), position)
    # In two steps: the least integer has no absolute value.
    limit = int(FARTHEST)
    above = graph.op("Greater", value, graph.constant(np.int64(-limit)))
    below = graph.op("Less", value, graph.constant(np.int64(limit)))
    return graph.op("Where", graph.op("And", above, below), found, graph.constant(np.int64(other)))


def _position(graph: Graph, seconds: str, part: str) -> str:
    """The position of each date's part in its LEVELS, by integers alone: (N,) int64."""

    def number(value: int) -> str:
        return graph.constant(np.int64(value))

    def mod(value: str, by: int) -> str:  # Of integers: the remainder has the divisor's sign, as Python's.
        return graph.op("Mod", value, number(by))

    def floor(value: str, by: int) -> str:  # Div alone rounds towards 0.
        return graph.op("Div", graph.op("Sub", value, mod(value, by)), number(by))

    if part == "hour":
        return graph.op("Div", mod(seconds, DAY), number(HOUR))
    days = floor(seconds, DAY)
    if part == "weekday":
        return mod(graph.op("Add", days, number(3)), 7)
    return _month(graph, days)


def _month(graph: Graph, days: str) -> str:
    """0 to 11, of days since 1970, in the Gregorian calendar: years are counted from March, in cycles of 400.

    After Howard Hinnant, https://howardhinnant.github.io/date_algorithms.html, ``civil_from_days``.
    """

    def number(value: int) -> str:
        return graph.constant(np.int64(value))

    def div(value: str, by: int) -> str:  # of what is not negative
        return graph.op("Div", value, number(by))

    day = graph.op("Mod", graph.op("Add", days, number(719_468)), number(146_097))  # of the cycle
    leap = graph.op("Add", graph.op("Sub", day, div(day, 1460)), div(day, 36_524))
    year = div(graph.op("Sub", leap, div(day, 146_096)), 365)
    before = graph.op("Sub", graph.op("Add", graph.op("Mul", year, number(365)), div(year, 4)), div(year, 100))
    day = graph.op("Sub", day, before)  # of the year that begins in March
    month = div(graph.op("Add", graph.op("Mul", day, number(5)), number(2)), 153)
    return graph.op("Mod", graph.op("Add", month, number(2)), number(12))
