"""What is counted of a column: levels, extremes, moments, shapes of texts. The statistics of two parts add.

They are to columns what ``GradientSum`` is to gradients: those of a part's rows, added to those of the rows that
follow, are those of both. So a table need not be in memory, nor on one machine, for its columns to be known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from fullbatch.errors import TableError
from fullbatch.fold.tree import Node, Tree
from fullbatch.tables.distinct import distinct, tallied
from fullbatch.tables.written import Pattern, is_marked, is_number

if TYPE_CHECKING:  # Raw tables need Arrow, which takes long to import; a model that is loaded does without it.
    from fullbatch.tables.raw import RawColumn

MOST_COUNTED = 65_000  # So many levels of a column are counted; of more, those of the least hashes.
SMALL_RANGE = 65_536  # Integers of no larger range are counted by their distance from the least, without sorting.
LEAF = 65_536  # So many values are counted at a time where the order of their sums is fixed.
WIDE = 64  # Of numbers in a larger range, levels are not kept there.
EXACT = 2.0**53  # Up to here a float64 tells each whole number from the next.

_MONTH = (  # in English, German, French, Spanish and Italian, as they begin
    "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|jän|mär|mrz|mai|okt|dez|fév|avr|jui|aoû|déc|ene|abr|ago|dic"
    "|gen|mag|giu|lug|set|ott)"
)
_YEAR = r"(19|20)\d{2}"
_DATE = (
    r"(\d{4}(?P<first>[-/.])\d{1,2}(?P=first)\d{1,2}|\d{1,2}(?P<last>[-/.])\d{1,2}(?P=last)(\d{4}|\d{2})"
    rf"|\d{{1,2}}[-. ]*{_MONTH}[^\W\d]*[-., ]*\d{{2,4}}|{_MONTH}[^\W\d]*[-., ]*(\d{{1,2}},? )?\d{{2,4}}"
    rf"|{_YEAR}[-/](0[1-9]|1[0-2])|(0?[1-9]|1[0-2])/{_YEAR})"
)
_TIME = r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?(\s?[AaPp]\.?[Mm]\.?)?(Z|\s?[-+]\d{2}:?\d{2}|\s?[A-Z]{2,4})?"
_DATES = Pattern(f"{_DATE}([ T:]{_TIME})?|{_TIME}", re.IGNORECASE)
# What a text can be beside a level. "marked" numbers are those that ``number_written`` reads by either decimal mark.
SHAPES = ("number", "marked", "date")


@dataclass(frozen=True)
class Shape:
    """How many values of a text column have one shape.

    other : the first value that has not, as (its row from 0, the text)
    """

    count: int = 0
    other: tuple[int, str] | None = None


@dataclass(frozen=True)
class ColumnStatistics:
    """What is known of the values of a column, or of a part of its rows.

    kind : "number", "text", "boolean" or "category" as in ``RawColumn``; None where no value was seen
    whole : all numbers are whole, and so small that floats tell them apart; those of dates and times are not taken so
    least, greatest, mean, deviations, zeros : of numbers. ``deviations`` is the sum of (x - mean)^2, from which the
        sum of squares follows; kept so, because of a sum of squares nothing is left where the mean is large.
    levels : how often each value of a text, a truth or a whole number occurs. Where there are more than
        MOST_COUNTED, those of the least hashes are kept, a sample whose counts are exact and add exactly.
    beyond : how many values are none of ``levels``
    unread : how many of these are texts that the reader did not keep
    shapes : of texts, by the names of SHAPES
    start, counting : of a column that counts its rows, the number of the first one, and that it counts
    """

    rows: int = 0
    missing: int = 0
    kind: str | None = None
    whole: bool = True
    least: float | None = None
    greatest: float | None = None
    mean: float = 0.0
    deviations: float = 0.0
    zeros: int = 0
    levels: Mapping[Any, int] = field(default_factory=dict)
    beyond: int = 0
    unread: int = 0
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    start: int | None = None
    counting: bool = True

    @classmethod
    def of(cls, column: RawColumn, rows: np.ndarray | None = None) -> ColumnStatistics:
        """The statistics of a column in these rows (indices); None: in all."""
        column = column if rows is None else column.select(rows)
        if not len(column.values):
            return cls()
        # The seconds of dates are no levels, though most are whole: to count each takes longer than all else.
        return _of_numbers(column.values, bool(column.time)) if column.levels is None else _of_codes(column)

    @property
    def present(self) -> int:
        """How many values are not missing."""
        return self.rows - self.missing

    @property
    def sum(self) -> float:
        return self.mean * self.present

    @property
    def squares(self) -> float:
        """The sum of squares."""
        return self.deviations + self.mean * self.sum

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return math.sqrt(self.deviations / self.present) if self.present else 0.0

    @property
    def all_differ(self) -> bool:
        """Whether no value occurs twice; of a column with more than MOST_COUNTED levels, none of a sample of these."""
        return self.present > 0 and all(count == 1 for count in self.levels.values()) and bool(self.levels)

    def __add__(self, later: ColumnStatistics) -> ColumnStatistics:
        """The statistics of these rows and of ``later``'s, which follow them."""
        if self.kind is not None and later.kind is not None and self.kind != later.kind:
            raise TableError(f"a column holds {self.kind} values in one part and {later.kind} values in another.")
        kind = self.kind or later.kind
        extremes = [one for one in (self, later) if one.least is not None]
        mean, deviations = _moments(self, later)
        whole = self.whole and later.whole
        levels, beyond = _levels_of_both(self, later) if whole else ({}, self.present + later.present)
        follows = not self.rows or not later.rows or (
            self.start is not None and later.start == self.start + self.rows
        )  # fmt: skip
        counting = self.counting and later.counting and follows
        return ColumnStatistics(
            rows=self.rows + later.rows,
            missing=self.missing + later.missing,
            kind=kind,
            whole=whole,
            least=min((one.least for one in extremes if one.least is not None), default=None),
            greatest=max((one.greatest for one in extremes if one.greatest is not None), default=None),
            mean=mean,
            deviations=deviations,
            zeros=self.zeros + later.zeros,
            levels=levels,
            beyond=beyond,
            unread=self.unread + later.unread,
            shapes=_shapes_of_both(self, later) if kind == "text" else {},
            start=(self.start if self.rows else later.start) if counting else None,
            counting=counting,
        )


# ---- one part ------------------------------------------------------------------------------------


def _of_numbers(values: np.ndarray, time: bool = False) -> ColumnStatistics:
    m = len(values)
    if values.dtype.kind == "f" and np.isnan(values.min()):  # Where one value is NaN, so is the least.
        values = values[~np.isnan(values)]
    if not len(values):
        return ColumnStatistics(m, m, counting=False)
    missing = m - len(values)
    least, greatest = values.min().item(), values.max().item()
    whole = not time and _is_whole(values, least, greatest)
    if whole and values.dtype.kind == "f":
        values, least, greatest = values.astype(np.int64), int(least), int(greatest)
    if whole and greatest - least < SMALL_RANGE:
        found, counts = _counted(values, least)
        levels, beyond = _bounded(dict(zip(found, counts.tolist(), strict=True)), len(values))
        mean, deviations = _spread(np.array(found, np.float64), counts)
    else:
        levels, beyond = _numbers_by_level(values) if whole else ({}, len(values))
        mean, deviations = _spread(values.astype(np.float64))
    start = int(values[0]) if whole and not missing else None
    counting = start is not None and greatest - least == m - 1 and _counts_from(values, start)
    zeros = int(np.count_nonzero(values == 0)) if least <= 0 <= greatest else 0  # Of floats, the faster way.
    return ColumnStatistics(
        m, missing, "number", whole, least, greatest, mean, deviations, zeros, levels, beyond,
        start=start if counting else None, counting=counting,
    )  # fmt: skip


def _spread(values: np.ndarray, counts: np.ndarray | None = None) -> tuple[float, float]:
    """The mean and the sum of squared deviations of values, which are lost, each taken so many times."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(values.mean()) if counts is None else float(values @ counts) / int(counts.sum())
        apart = np.subtract(values, mean, out=values)  # New memory for each leaf would take as long.
        apart *= apart
        return mean, float(np.add.reduce(apart) if counts is None else apart @ counts)


def _is_whole(values: np.ndarray, least: float, greatest: float) -> bool:
    if values.dtype.kind != "f":
        return True
    if not -EXACT <= least <= greatest <= EXACT:
        return False
    first = values[:256]  # Most columns of fractions show one here, and the others need not be looked at.
    return bool((first == np.rint(first)).all() and (values == np.rint(values)).all())


def _counts_from(values: np.ndarray, start: int) -> bool:
    steps = values if values.dtype.itemsize == 8 else values.astype(np.int64)
    return int(steps[-1]) == start + len(steps) - 1 and bool((steps[1:] - steps[:-1] == 1).all())


def _counted(values: np.ndarray, least: int) -> tuple[list[int], np.ndarray]:
    """The whole numbers that occur, and how often each, where all are near the least."""
    # The difference fits the unsigned type of the same size, also where the signed one overflows.
    distances = (values - values.dtype.type(least)).view(f"u{values.dtype.itemsize}")
    counts = np.bincount(distances.astype(np.intp))  # NumPy 2.1 counts no unsigned integers of 64 bits
    (found,) = np.nonzero(counts)
    return [least + distance for distance in found.tolist()], counts[found]


def _numbers_by_level(values: np.ndarray) -> tuple[dict[int, int], int]:
    """How often each whole number occurs, and how many values are beyond those that are kept."""
    kept = values
    if len(values) > MOST_COUNTED:
        hashes = _mixed(values.astype(np.uint64) if values.dtype.kind == "u" else values.astype(np.int64).view("u8"))
        different = distinct(hashes)
        if len(different) > MOST_COUNTED:
            kept = values[hashes <= different[MOST_COUNTED - 1]]
    found, counts = tallied(kept)
    return dict(zip(found.tolist(), counts.tolist(), strict=True)), len(values) - len(kept)


def _of_codes(column: RawColumn) -> ColumnStatistics:
    codes, levels = column.values, column.levels or ()
    *counts, missing, unread = np.bincount(codes, minlength=len(levels) + 2).tolist()
    m = len(codes)
    if missing == m:
        return ColumnStatistics(m, m, counting=False)
    seen = {level: count for level, count in zip(levels, counts, strict=True) if count}
    kept, beyond = _bounded(seen, m - missing)
    shapes = {}
    if column.kind == "text":
        has_shape: dict[str, Callable[[str], Any]] = {
            "number": partial(is_number, decimal=column.decimal),
            "marked": is_marked,
            "date": _DATES.fullmatch,
        }
        shapes = {shape: _shape(has, column, counts) for shape, has in has_shape.items()}
    return ColumnStatistics(
        m, missing, column.kind, levels=kept, beyond=beyond, unread=unread, shapes=shapes, counting=False
    )


def _shape(has: Callable[[str], Any], column: RawColumn, counts: Sequence[int]) -> Shape:
    """How many of the texts that the reader kept have the shape, and the first text that has not."""
    levels = column.levels or ()
    mask = [bool(has(level)) for level in levels]
    count = sum(count for one, count in zip(mask, counts, strict=True) if one)
    other = ~np.array([*mask, True, True])
    firsts = [column.stray] if column.stray is not None and not has(column.stray[1]) else []
    for rows in (slice(0, 256), slice(None)):  # In most columns it is among the first.
        found = other.take(column.values[rows])
        if found[row := int(found.argmax())]:
            firsts.append((row, levels[column.values[row]]))
            break
    return Shape(count, min(firsts, default=None))


# ---- many parts ----------------------------------------------------------------------------------


class Folding:
    """The statistics of numbers that come in parts, to the same bits however they are cut into these.

    They are counted by leaves of LEAF values, whose statistics are added by the tree of ``fold``. Levels are kept only
    where they are few and near each other, as those of a category of numbers are.

    time : they are seconds of dates or times
    first : the number of their first leaf, where they are a part of a column
    """

    def __init__(self, time: bool = False, first: int = 0) -> None:
        self.time = time
        self.tree, self.leaves = Tree(), first
        self.waiting: list[np.ndarray] = []  # less than a leaf

    def add(self, values: np.ndarray) -> None:
        """The next values, NaN where missing; they may be changed afterwards."""
        waiting = sum(map(len, self.waiting))
        while waiting + len(values) >= LEAF:
            head, values = values[: LEAF - waiting], values[LEAF - waiting :]
            self._add_leaf(np.concatenate([*self.waiting, head]) if self.waiting else head)
            self.waiting, waiting = [], 0
        if len(values):
            self.waiting.append(values.copy())

    def total(self) -> ColumnStatistics:
        """Of all values that were added; nothing may be added after it."""
        return self.tree.total() if self.nodes() else ColumnStatistics()

    def nodes(self) -> list[Node]:
        """The nodes of the tree that the values are; nothing may be added after it."""
        if self.waiting:
            self._add_leaf(np.concatenate(self.waiting))
            self.waiting = []
        return self.tree.nodes

    def _add_leaf(self, values: np.ndarray) -> None:
        counted = _of_numbers(values, self.time)
        if counted.least is not None and counted.greatest is not None and counted.greatest - counted.least >= WIDE:
            counted = replace(counted, levels={}, beyond=counted.present)
        self.tree.add(Node(self.leaves, 1, counted))
        self.leaves += 1


# ---- two parts -----------------------------------------------------------------------------------


def _moments(a: ColumnStatistics, b: ColumnStatistics) -> tuple[float, float]:
    """Mean and squared deviations of both (Chan, Golub and LeVeque 1979)."""
    m = a.present + b.present
    if not a.present or not b.present:
        one = a if a.present else b
        return one.mean, one.deviations
    apart = b.mean - a.mean
    mean = a.mean + apart * (b.present / m)
    return mean, a.deviations + b.deviations + apart * apart * (a.present * b.present / m)


def _levels_of_both(a: ColumnStatistics, b: ColumnStatistics) -> tuple[dict[Any, int], int]:
    levels = dict(a.levels)
    for level, count in b.levels.items():
        levels[level] = levels.get(level, 0) + count
    return _bounded(levels, a.present + b.present)


def _bounded(levels: dict[Any, int], present: int) -> tuple[dict[Any, int], int]:
    """At most MOST_COUNTED levels, those of the least hashes: of any parts, whatever their order, the same ones."""
    if len(levels) > MOST_COUNTED:
        if isinstance(next(iter(levels)), str):
            order = sorted(levels, key=lambda level: (crc32(level.encode()), level))
        else:
            hashes = _mixed(np.array([_bits_of(level) for level in levels], np.uint64))
            every = list(levels)
            order = [every[i] for i in np.argsort(hashes, kind="stable")]
        levels = {level: levels[level] for level in order[:MOST_COUNTED]}
    return levels, present - sum(levels.values())


def _bits_of(number: float) -> int:
    return int(number) & (2**64 - 1) if number == int(number) else int(np.float64(number).view(np.uint64))


def _mixed(bits: np.ndarray) -> np.ndarray:
    """A hash of each number (SplitMix64): no two are the same."""
    z = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _shapes_of_both(a: ColumnStatistics, b: ColumnStatistics) -> dict[str, Shape]:
    shapes = {}
    for name in SHAPES:
        first, second = a.shapes.get(name, Shape()), b.shapes.get(name, Shape())
        other = first.other
        if other is None and second.other is not None:
            other = (second.other[0] + a.rows, second.other[1])
        shapes[name] = Shape(first.count + second.count, other)
    return shapes
