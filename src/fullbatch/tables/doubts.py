"""Doubts about a table: what a person should look at before a model is believed, each with the option that cures it."""

from __future__ import annotations

import difflib
import math
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fullbatch.tables.dates import PROPOSED, fitting, seconds_of
from fullbatch.tables.statistics import EXACT, ColumnStatistics
from fullbatch.tables.written import is_number, number_of, number_written

if TYPE_CHECKING:
    from fullbatch.tables.raw import RawColumn, RawTable

MOSTLY = 0.9  # A text column of which this share are numbers, or dates, is doubted.
FEW_LEVELS = 32  # Texts that all are numbers are left in peace where they are so few.
FEW_ROWS = 20  # So few rows may all differ, or count, by chance.
MOST_COMPARED = 10_000  # Levels beyond so many are not compared with each other.
ALONE = 0.99  # What one column alone must not reach: the area under the curve, or r2.
BINS = 64
SIEVE, SURE = 2048, 200_000  # Rows that are looked at first, and where these raise a doubt.
FEW_OF_A_CLASS = 5
MOST_WORDS = 12  # So many texts among numbers may stand for missing ones.
MOST_TRIED = 100  # Of a target of more classes no column is tried alone.

# Integers between these dates may be a time. The units, in seconds.
_EPOCH = (datetime(1990, 1, 1, tzinfo=UTC).timestamp(), datetime(2040, 1, 1, tzinfo=UTC).timestamp())
_UNITS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
_SHAPES = {
    "number": ("numbers", "--numeric"),
    "date": ("dates or times", None),
    "marked": ("numbers with a comma, a currency, a percent sign or brackets", "--numeric"),
}
_CLOCK = r"[+-]?\d+:\d\d(:\d\d(\.\d+)?)?"  # 35:20:00, an hour of no day
_DURATION = re.compile(rf"-?(\d+ days?,? ?)?({_CLOCK})?|-?P(\d+[YMWD])*(T(\d+(\.\d+)?[HMS])+)?")
_PERIOD = re.compile(r"\d{4}[-_ ]?[QWKT]\d{1,2}|[QWKT]\d{1,2}[-_/ ]?\d{4}", re.IGNORECASE)
# Texts that have an order, and how to write them so that it is seen.
_ORDERED = {
    "durations": (_DURATION, "write them as seconds, or another number"),
    "quarters or weeks": (_PERIOD, "write the first day of each"),
}
_UNIT = re.compile(r"[-+]?\d+(?:[.,]\d+)?\s?([^\W\d_]{1,6}|°[CF]|[^\W\d_]{1,3}[²³]|[^\W\d_]{1,3}/[^\W\d_]{1,3})")
_THOUSANDS = {"k", "K", "M", "B", "G"}
# What stands for a missing number where no word for it is known, if it lies far from the others and occurs again.
_SENTINELS = {sign * float(nines) for sign in (1, -1) for nines in ("9" * k for k in range(2, 11))} | {-1.0, -9.0}
_CALENDAR = (("%Y%m%d", 19_000_101, 21_001_231), ("%Y%m", 190_001, 210_012))
_FAR = 1e15  # Numbers so many times as large as others of their column are texts such as 4E22, or a slip.
_COMMA = re.compile(r"[-+]?\d+(,\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Doubt:
    """A column, what is doubtful about it, and the cure.

    row : of the value that is meant, from 1 and without the header; None: no single one is
    """

    column: str
    row: int | None
    value: Any
    what: str
    cure: str

    def of_rows(self, rows: np.ndarray) -> Doubt:
        """This doubt, found among these rows of a table (indices), with the row's number in the table."""
        if self.row is None:
            return self
        row = int(rows[self.row - 1]) + 1
        return replace(self, row=row, what=self.what.replace(f"row {self.row:,}", f"row {row:,}"))

    def __str__(self) -> str:
        return f"column {self.column!r}: {self.what}; {self.cure}."


def doubts_of_column(
    name: str,
    column: RawColumn,
    counted: ColumnStatistics,
    forced: str | None,
    goal: Goal | None,
    delimiter: str | None = None,
) -> Iterator[Doubt]:
    """What is doubtful about an input column.

    forced : the option that has fixed its kind, or None
    goal : the target; None: there is none
    delimiter : what separates the values of the file; None: it has none
    """
    if counted.kind is None:
        return
    shapes = list(_shapes(name, column, counted, delimiter)) if counted.kind == "text" and forced is None else []
    if counted.kind == "text" and forced is None and not shapes:
        shapes = list(_other_forms(name, column, counted))
    yield from shapes
    if counted.kind == "text" or forced == "--categorical":
        yield from _spellings(name, column, counted)
    if counted.kind == "number" and forced is None and not column.time and column.levels is None:
        yield from _unlikely(name, column, counted)
    drop = f"{_option('--drop', name)} leaves it out"
    if counted.counting and counted.rows >= FEW_ROWS:
        what = f"it counts the rows, from {counted.start}: an index, which knows how the table was sorted"
        yield Doubt(name, None, None, what, drop)
    elif not shapes and forced != "--numeric" and not column.time and _all_differ(counted):
        what = "it has another value in each row, as an id has, of which nothing can be learned"
        yield Doubt(name, None, None, what, drop)
    if forced is None and not column.time:
        yield from _epoch(name, counted)
    if goal is not None and (found := _alone(column, goal)):
        what = f"it alone predicts the target ({found}): is it known before the target is?"
        yield Doubt(name, None, None, what, f"if not, {drop}")


def _all_differ(counted: ColumnStatistics) -> bool:
    """Whether each of many rows has a level of its own, which numbers may have, and texts that are read as some."""
    return counted.all_differ and counted.present == counted.rows >= FEW_ROWS


def doubts_of_names(table: RawTable, counted: Mapping[str, ColumnStatistics]) -> Iterator[Doubt]:
    """Names that are values: the first row of a file without a header, which was taken for one."""
    found = [name for name, one in counted.items() if name.strip() and _is_value(name, table.column(name), one)]
    if table.delimiter is not None and found and 2 * len(found) >= len(counted):
        others = f"as are {len(found)} of the {len(counted)} names"
        what = f"its name is a value such as it holds, {others}: the file seems to have no header"
        yield Doubt(found[0], None, None, what, "write a line of names above its rows")


def _is_value(name: str, column: RawColumn, counted: ColumnStatistics) -> bool:
    """Whether a column's name is one of its values, or a number with decimals above numbers."""
    if column.levels is not None:
        return counted.levels.get(name.strip(), counted.levels.get(name, 0)) > 0
    number = number_of(name.strip(), column.decimal)
    if number is None or column.time or not math.isfinite(number):
        return False
    return number != round(number) or bool((column.values == number).any())


def doubts_of_target(name: str, column: RawColumn, classes: Sequence[tuple[Any, int]]) -> Iterator[Doubt]:
    """Classes that occur once."""
    for label, count in classes:
        if count != 1 or len(classes) == len(column.values):
            continue
        near = difflib.get_close_matches(str(label), [str(other) for other, n in classes if n > 1], 1, 0.75)
        row = _row_of(column, label)
        hint = f", as {near[0]!r} is one" if near else ""
        what = f"the class {label!r} occurs once, in row {row:,}{hint}"
        yield Doubt(name, row, label, what, "correct it if it is a slip")


# ---- texts ---------------------------------------------------------------------------------------


def _shapes(name: str, column: RawColumn, counted: ColumnStatistics, delimiter: str | None) -> Iterator[Doubt]:
    """Texts most of which, or all, are numbers or dates."""
    for shape, (called, option) in _SHAPES.items():
        found = counted.shapes[shape]
        share = found.count / (counted.present - counted.unread)
        if share < MOSTLY or (shape == "marked" and counted.shapes["number"].count >= found.count):
            continue
        if found.other is not None:
            row, text = found.other
            share = min(share, 1 - 1 / counted.present)  # It is of the texts that the reader kept.
            what = (
                f"it is a category, because of text: {_percent(share)} of its values are {called}, and the first that "
                f"is none is {text!r} in row {row + 1:,}"
            )
            decimal = _decimal_commas(name, column, [one for one in counted.levels if one != text], delimiter)
            cure = f"{decimal}{', ' if decimal else ''}{_option('--missing', text)} reads it as missing, "
            yield Doubt(name, row + 1, text, what, f"{cure}{_option('--categorical', name)} says that it is meant so")
            return
        if known := _dates_or_commas(name, column, counted, shape, delimiter):
            yield known
            return
        zeros = shape == "number" and any(level[:1] == "0" and level[1:2].isdecimal() for level in counted.levels)
        if len(counted.levels) > FEW_LEVELS and not zeros:
            what = f"it is a category of {len(counted.levels):,} levels, and all of them are {called}"
            readable = shape == "number" or all(
                number_written(text, column.decimal) is not None for text in counted.levels
            )
            unknown = "--date-format says how to read them" if shape == "date" else "write them in the usual form"
            as_numbers = f"{_option(option, name)} reads them as such" if option and readable else unknown
            yield Doubt(name, None, None, what, f"{as_numbers}, {_option('--categorical', name)} is quiet about it")
            return


def _other_forms(name: str, column: RawColumn, counted: ColumnStatistics) -> Iterator[Doubt]:
    """Texts that are durations, quarters, weeks or numbers of a unit; and numbers among which some words stand."""
    levels = {str(level): count for level, count in counted.levels.items()}
    quiet = f"{_option('--categorical', name)} is quiet about it"
    numbers = {text for text in levels if is_number(text, column.decimal)}
    words = sorted(levels.keys() - numbers, key=lambda text: (-levels[text], text))
    share = sum(levels[one] for one in numbers) / max(1, counted.present)
    if 0 < len(words) <= MOST_WORDS and len(numbers) > FEW_LEVELS and share > 0.5:
        row = _row_of(column, words[0])
        what = (
            f"it is a category, because of {len(words)} texts: {_percent(share)} of its values are numbers, and most "
            f"of the others are {words[0]!r}, first in row {row:,}"
        )
        cure = f"{_option('--missing', ','.join(words))} reads them as missing"
        yield Doubt(name, row, words[0], what, f"{cure}, {quiet}")
        return
    units = {found[1] if (found := _UNIT.fullmatch(text)) else "" for text in levels}
    if known := _of_an_order(name, list(levels)):
        yield known
    elif len(levels) > FEW_LEVELS and "" not in units and (len(units) == 1 or units <= _THOUSANDS):
        shown = " or ".join(map(repr, sorted(units)))
        what = f"it is a category of {len(levels):,} levels, and all of them are numbers of the unit {shown}"
        cure = "write the numbers alone, and the unit into the column's name"
        yield Doubt(name, None, None, what, f"{cure}, {quiet}")


def _of_an_order(name: str, levels: Sequence[str]) -> Doubt | None:
    """Texts all of which are durations, or quarters or weeks."""
    for called, (pattern, cure) in _ORDERED.items():
        if len(levels) > FEW_LEVELS and all(map(pattern.fullmatch, levels)):
            what = f"it is a category of {len(levels):,} levels, and all of them are {called}, whose order is not seen"
            return Doubt(name, None, None, what, f"{cure}, {_option('--categorical', name)} is quiet about it")
    return None


def _dates_or_commas(
    name: str, column: RawColumn, counted: ColumnStatistics, shape: str, delimiter: str | None
) -> Doubt | None:
    """Dates that have several readings, or are read only where that is asked for; numbers with decimal commas."""
    quiet = f"{_option('--categorical', name)} is quiet about it"
    if shape == "date" and (formats := fitting(list(counted.levels), PROPOSED)):
        ways = " or ".join(_option("--date-format", f"{name}={text}") for text in formats)
        why = "no day is above 12, so that days and months cannot be told apart" if len(formats) > 1 else ""
        short = "years have two digits" if any("%y" in text for text in formats) else ""
        no_day = "they have no day" if not any("%d" in text for text in formats) else ""
        because = " and ".join(filter(None, [short, no_day, why])) or "of other texts"
        what = f"it is a category, though all of its texts are dates or times, because {because}"
        return Doubt(name, None, None, what, f"{ways} reads them, {quiet}")
    if shape == "date" and (known := _of_an_order(name, list(counted.levels))):
        return known
    if shape == "marked" and (cure := _decimal_commas(name, column, list(counted.levels), delimiter)):
        what = "it is a category, though all of its texts are numbers with a comma before the decimals"
        if all(number_written(text) is not None for text in counted.levels):
            what += ", or between thousands"
            cure = f"{cure} with decimals, {_option('--numeric', name)} with thousands"
        return Doubt(name, None, None, what, f"{cure}, {quiet}")
    return None


def _decimal_commas(name: str, column: RawColumn, texts: Sequence[str], delimiter: str | None) -> str:
    """The option that reads numbers with decimal commas, if these texts are some and it can; else ""."""
    if column.decimal != "." or delimiter == "," or not all(map(_COMMA.fullmatch, texts)):
        return ""
    if not any("," in text for text in texts):
        return ""
    also = f" and {_option('--numeric', name)}" if delimiter is None else ""  # There texts are texts.
    return f"{_option('--decimal', ',')}{also} reads them as numbers"


def _spellings(name: str, column: RawColumn, counted: ColumnStatistics) -> Iterator[Doubt]:
    """Levels that are one level but for capitals and spaces."""
    if len(counted.levels) > MOST_COMPARED:
        return
    same = defaultdict(list)
    for level in counted.levels:
        if isinstance(level, str):
            same["".join(level.casefold().split())].append(level)
    for levels in same.values():
        if len(levels) > 1:
            usual, *others = sorted(levels, key=lambda level: (-counted.levels[level], level))
            row = _row_of(column, others[-1])
            what = (
                f"the level {others[-1]!r} ({_rows(counted.levels[others[-1]])}, the first of them row {row:,}) is "
                f"{usual!r} ({_rows(counted.levels[usual])}) but for capitals or spaces"
            )
            yield Doubt(name, row, others[-1], what, "write both alike if they are the same")
            return


def _row_of(column: RawColumn, level: Any) -> int:
    """The first row, from 1, that has the level."""
    value = level if column.levels is None else column.levels.index(level)
    return int(np.argmax(column.values == value)) + 1


# ---- numbers -------------------------------------------------------------------------------------


def _unlikely(name: str, column: RawColumn, counted: ColumnStatistics) -> Iterator[Doubt]:
    """Numbers that are days of a calendar, that stand for missing ones, or that are ids."""
    least, greatest = counted.least, counted.greatest
    if least is None or greatest is None or least == greatest or not math.isfinite(greatest - least):
        return
    for format, first, last in _CALENDAR:
        if first <= least and greatest <= last and _are_dates(column, format):
            what = f"it is a number, and all of its values are dates, from {least:.0f} to {greatest:.0f}"
            yield Doubt(name, None, None, what, f"{_option('--date-format', f'{name}={format}')} reads them")
            return
    for one in sorted({least, greatest} & _SENTINELS):
        others = column.values[~column.missing & (column.values != one)]
        count, low, high = counted.present - len(others), float(others.min()), float(others.max())
        if count > 1 and min(abs(one - low), abs(one - high)) > 2 * max(high - low, 1.0):
            row = _row_of(column, one)
            what = (
                f"{one:.0f} stands in {_rows(count)}, first in row {row:,}, and all others go from {low:g} to {high:g}:"
                " a mark for a missing number?"
            )
            yield Doubt(name, row, one, what, f"{_option('--missing', f'{one:.0f}')} reads it as missing")
            return
    if greatest >= _FAR:
        sizes = np.abs(column.values[~column.missing & (column.values != 0)].astype(np.float64))
        usual = np.median(sizes)
        if greatest > _FAR * usual or sizes.min() * _FAR < usual:
            what = f"its numbers go from {least:g} to {greatest:g}: texts such as 4E22, which are read as numbers?"
            yield Doubt(name, None, None, what, f"{_option('--categorical', name)} keeps them as texts")
        elif greatest >= EXACT and not counted.whole and (sizes == np.floor(sizes)).all():
            what = f"its whole numbers are as large as {greatest:g}, where a number is not told from the next: an id?"
            yield Doubt(name, None, None, what, f"{_option('--drop', name)} leaves it out")


def _are_dates(column: RawColumn, format: str) -> bool:
    """Whether many different whole numbers are dates, 20241231."""
    different = np.unique(column.values[~column.missing])
    if len(different) < FEW_ROWS or (different != np.floor(different)).any():
        return False
    texts = pa.array([f"{value:.0f}" for value in different[:MOST_COMPARED]])
    return not np.isnan(seconds_of(texts, format)).any()


def _epoch(name: str, counted: ColumnStatistics) -> Iterator[Doubt]:
    """Whole numbers all of which are moments between 1990 and 2040."""
    least, greatest = counted.least, counted.greatest
    if least is None or greatest is None or not counted.whole or least == greatest:
        return
    for unit, seconds in _UNITS.items():
        if _EPOCH[0] <= least * seconds and greatest * seconds <= _EPOCH[1]:
            first, last = (datetime.fromtimestamp(value * seconds, UTC).date() for value in (least, greatest))
            what = f"it is a number, and looks like {unit} since 1970, from {first} to {last}"
            yield Doubt(name, None, None, what, "save it as a timestamp if it is one")


@dataclass(frozen=True)
class Goal:
    """The target as a column alone is tried on it.

    values : its numbers, or the number of each row's class, (m,)
    k : how many classes; 0 for a regression
    samples : rows, first a few, then many; of each class about as many, so that a rare one counts
    """

    values: np.ndarray
    k: int
    samples: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, column: RawColumn, task: str, beside: int) -> Goal:
        """``beside`` : how many columns are to be tried; of very many, each on fewer rows."""
        values = column.values
        if task == "regress" and column.levels is not None:
            values = np.array([*map(float, column.levels), np.nan, np.nan])[values]
        m, k = len(values), 0
        strata = [np.arange(m)]
        if task == "classify":
            different, values = np.unique(values, return_inverse=True) if column.levels is None else (None, values)
            k = len(different) if different is not None else len(column.levels or ())
            strata = [np.flatnonzero(values == j) for j in range(k)] if k <= MOST_TRIED else strata
        sizes = (SIEVE if beside <= 100 else SIEVE // 4, SURE)
        return cls(values, k, tuple(_spread_out(strata, size) for size in sizes))


def _spread_out(strata: Sequence[np.ndarray], size: int) -> np.ndarray:
    """About ``size`` rows, of each stratum as many, at even distances."""
    each = max(size // max(len(strata), 1), 1)
    return np.sort(np.concatenate([rows[:: -(-len(rows) // each) or 1] for rows in strata]))


def _alone(column: RawColumn, goal: Goal) -> str | None:
    """How well the column alone predicts the target, if that is too well to be true: "AUC 0.998", "r2 1.000".

    Few rows are looked at first; only where these raise a doubt many are.
    """
    found = None
    for rows in goal.samples:
        found = _score(column, goal, rows)
        if found is None or found[1] <= ALONE:
            return None
    return f"{found[0]} {found[1]:.3f} on held-out rows" if found else None


def _score(column: RawColumn, goal: Goal, rows: np.ndarray) -> tuple[str, float] | None:
    """Learn the target's mean, or its classes' shares, of each level or bin from every other row; score the rest."""
    if len(rows) < FEW_ROWS or goal.k == 1 or goal.k > MOST_TRIED:
        return None
    bins, size = _binned(column, rows)
    own = goal.values[rows]
    if not goal.k:
        own = own.astype(np.float64)
        return _r2(bins[::2], bins[1::2], own[::2], own[1::2], size)
    cells = bins * goal.k + own
    learned, held_out = (
        np.bincount(cells[first::2], minlength=size * goal.k).reshape(size, goal.k).astype(np.float64)
        for first in (0, 1)
    )
    return _auc(learned, held_out)


def _binned(column: RawColumn, rows: np.ndarray) -> tuple[np.ndarray, int]:
    """The level of each of these rows, or its bin: BINS of what every other row has, and one for missing. How many."""
    values = column.values[rows]
    if column.levels is not None:
        if len(column.levels) <= len(rows):
            return values.astype(np.int64), len(column.levels) + 2
        different, bins = np.unique(values, return_inverse=True)
        return bins, len(different)
    ordered = np.sort(values[::2])
    ordered = ordered[: len(ordered) - int(np.isnan(ordered).sum())] if ordered.dtype.kind == "f" else ordered
    edges = ordered[np.arange(1, BINS) * len(ordered) // BINS] if len(ordered) else ordered
    bins = np.searchsorted(edges, values, side="right")
    if values.dtype.kind == "f":
        bins[np.isnan(values)] = BINS
    return bins, BINS + 1


def _r2(
    fit: np.ndarray, held_out: np.ndarray, learned: np.ndarray, goal: np.ndarray, size: int
) -> tuple[str, float] | None:
    count = np.bincount(fit, minlength=size)
    mean = learned.mean()
    means = np.where(count > 0, np.bincount(fit, learned, size) / np.maximum(count, 1), mean)
    spread = float(np.sum((goal - goal.mean()) ** 2))
    return ("r2", 1 - float(np.sum((goal - means[held_out]) ** 2)) / spread) if spread > 0 else None


def _auc(learned: np.ndarray, held_out: np.ndarray) -> tuple[str, float] | None:
    """The area under the curve of each class against the others, the mean over classes of enough rows.

    learned, held_out : how many rows of each bin have each class, (bins, k)
    """
    shares = (learned + learned.sum(axis=0) / learned.sum()) / (learned.sum(axis=1, keepdims=True) + 1)
    areas = []
    classes = range(learned.shape[1]) if learned.shape[1] > 2 else [1]
    total = held_out.sum(axis=1)
    for j in classes:
        positive, negative = held_out[:, j], total - held_out[:, j]
        if min(positive.sum(), negative.sum(), learned[:, j].sum()) < FEW_OF_A_CLASS:
            continue
        # Bins of one share are ties, which count as one half.
        _, ties = np.unique(shares[:, j], return_inverse=True)
        positive, negative = np.bincount(ties, positive), np.bincount(ties, negative)
        below = np.cumsum(negative) - negative / 2
        areas.append(float(positive @ below / (positive.sum() * negative.sum())))
    return ("AUC", float(np.mean(areas))) if areas else None


# ---- words ---------------------------------------------------------------------------------------


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    """A share that is not 1, so that it does not look as if it were."""
    digits = next((n for n in (0, 1, 2, 3, 4) if round(100 * share, n) < 100), 5)
    return f"{100 * share:.{digits}f} %"


def _option(option: str, value: Any) -> str:
    return shlex.join([option, str(value)])
