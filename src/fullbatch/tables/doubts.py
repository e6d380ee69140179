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

from fullbatch.tables.dates import PROPOSED, fitting, said_moment, seconds_of
from fullbatch.tables.distinct import distinct
from fullbatch.tables.forms import (
    THOUSANDS,
    are_numbers_of_things,
    composed,
    is_measure,
    may_be_measures,
    order_of,
    spelling,
    units_of,
)
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
    "marked": ("numbers with signs or marks in them", "--numeric"),
}
# What stands for a missing number where no word for it is known, if it lies far from the others and occurs again.
_SENTINELS = {sign * float(nines) for sign in (1, -1) for nines in ("9" * k for k in range(2, 11))} | {-1.0, -9.0}
# Days that stand for a missing one, as programs and people write them, if they lie far from the others.
_NO_DAYS = {
    datetime(*day, tzinfo=UTC).timestamp()
    for day in (
        (1, 1, 1), (1753, 1, 1), (1899, 12, 30), (1899, 12, 31), (1900, 1, 1), (1901, 1, 1), (1970, 1, 1),
        (2099, 12, 31), (2100, 1, 1), (2199, 12, 31), (2999, 12, 31), (3000, 1, 1), (9999, 1, 1), (9999, 12, 31),
    )
}  # fmt: skip
_A_YEAR = 366 * 86_400.0
FEW_ZEROS = 0.01  # Zeros among numbers that lie far from it are doubted from this share on,
FAR_FROM_ZERO = 0.3  # where the least other number is at least so large beside the median,
DEVIATIONS = 4  # and the mean is so many standard deviations.
_TOTALS = {
    "total", "totals", "grand total", "subtotal", "sum", "sums", "average", "gesamt", "summe", "gesamtsumme",
    "insgesamt", "total général", "total general", "somme", "totale", "totaal", "suma", "итого", "合計", "总计",
}  # fmt: skip
_CALENDAR = (("%Y%m%d", 19_000_101, 21_001_231), ("%Y%m", 190_001, 210_012))
_NO_TOTALS = "leave such a row out of the file if it is one of totals"
_IN_THE_NAME = "write the numbers alone, and what is the same in all of them into the column's name"
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
    if counted.kind == "number" and forced is None and column.levels is None:
        yield from _far_dates(name, column, counted) if column.time == "date" else ()
        yield from _unlikely(name, column, counted) if not column.time else ()
        yield from _two_texts(name, column)
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


def doubts_of_the_last_row(table: RawTable, counted: Mapping[str, ColumnStatistics]) -> Iterator[Doubt]:
    """A last row that has the sums of the others: it says so, or its numbers are these."""
    if table.m < FEW_ROWS:
        return
    last = table.select(np.array([table.m - 1]))
    sums, found = 0, ("", 0.0)
    for name, column in last.columns.items():
        own, value = counted[name], column.values[0]
        if column.levels is not None and value < len(column.levels):
            level = column.levels[value]
            if own.levels.get(level) == 1 and str(level).casefold().strip(" :") in _TOTALS:
                yield Doubt(name, table.m, level, f"the last row, {table.m:,}, is called {level!r}", _NO_TOTALS)
                return
        elif column.levels is None and own.kind == "number" and not column.time and not column.missing[0]:
            total = float(value)
            is_sum = own.zeros < own.present - FEW_ROWS // 2 and math.isclose(own.sum, 2 * total, rel_tol=1e-7)
            if total and is_sum and total in (own.greatest, own.least):
                sums, found = sums + 1, found if sums else (name, total)
            elif not own.counting:
                sums -= 1
    if sums > 0:
        name, total = found
        what = f"its last row, {table.m:,}, holds {total:,.10g}, the sum of all others"
        yield Doubt(name, table.m, total, what, _NO_TOTALS)


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
            marked = next((text for text in counted.levels if not is_number(text, column.decimal)), "")
            what += f", such as {marked!r}" if shape == "marked" else ""
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
        texts = "text" if len(words) == 1 else "texts"
        what = (
            f"it is a category, because of {len(words)} {texts}: {_percent(share)} of its values are numbers, and most "
            f"of the others are {words[0]!r}, first in row {row:,}"
        )
        cure = f"{_option('--missing', ','.join(words))} reads them as missing"
        yield Doubt(name, row, words[0], what, f"{cure}, {quiet}")
        return
    if len(levels) <= FEW_LEVELS:
        return
    units, called = units_of(levels), composed(list(levels))
    if known := _of_an_order(name, list(levels)):
        yield known
    elif "" not in units and (len(units) == 1 or units <= THOUSANDS):
        shown = " or ".join(map(repr, sorted(units)))
        what = f"it is a category of {len(levels):,} levels, and all of them are numbers of the unit {shown}"
        yield Doubt(name, None, None, what, f"{_IN_THE_NAME}, {quiet}")
    elif called:
        what = f"it is a category of {len(levels):,} levels, each its whole text, and its texts are {called}"
        yield Doubt(name, None, None, what, f"make a column of each part, {quiet}")
    elif known := _measures(name, column, levels, counted.present):
        yield known


def _measures(name: str, column: RawColumn, levels: Mapping[str, int], present: int) -> Doubt | None:
    """Texts most of which are numbers with something round them."""
    if not may_be_measures(list(levels), column.decimal):
        return None
    found = [text for text in levels if is_measure(text, column.decimal)]
    share = sum(levels[text] for text in found) / present
    rest = [text for text in found if not is_number(text, column.decimal)]
    if share < MOSTLY or not rest or are_numbers_of_things(rest):
        return None
    row = _row_of(column, rest[0])
    what = (
        f"it is a category of {len(levels):,} levels, and {_percent(share) if share < 1 else 'all'} of its values are "
        f"numbers with something beside (units, bounds, ranges), as {rest[0]!r} in row {row:,}"
    )
    return Doubt(name, row, rest[0], what, f"{_IN_THE_NAME}, {_option('--categorical', name)} is quiet about it")


def _of_an_order(name: str, levels: Sequence[str]) -> Doubt | None:
    """Texts all of which are durations, or quarters, weeks or other periods."""
    if len(levels) <= FEW_LEVELS or not (known := order_of(levels)):
        return None
    called, cure = known
    what = f"it is a category of {len(levels):,} levels, and all of them are {called}, whose order is not seen"
    return Doubt(name, None, None, what, f"{cure}, {_option('--categorical', name)} is quiet about it")


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
    if column.decimal != "." or delimiter == "," or not any("," in text for text in texts):
        return ""
    if not all(number_written(text, ",") is not None for text in texts):
        return ""
    # In a file that is no CSV texts are texts, and 12,5 % is one everywhere.
    also = f" and {_option('--numeric', name)}" if delimiter is None or not all(map(_COMMA.fullmatch, texts)) else ""
    return f"{_option('--decimal', ',')}{also} reads them as numbers"


def _spellings(name: str, column: RawColumn, counted: ColumnStatistics) -> Iterator[Doubt]:
    """Levels that are one level but for capitals, spaces, how letters are stored, or the word for true or false."""
    if len(counted.levels) > MOST_COMPARED:
        return
    same, texts = defaultdict(list), [level for level in counted.levels if isinstance(level, str)]
    plain = spelling(texts)
    for level in texts:
        same[plain(level)].append(level)
    for levels in same.values():
        if len(levels) > 1:
            usual, *others = sorted(levels, key=lambda level: (-counted.levels[level], level))
            row = _row_of(column, others[-1])
            what = (
                f"the level {others[-1]!r} ({_rows(counted.levels[others[-1]])}, the first of them row {row:,}) is "
                f"{usual!r} ({_rows(counted.levels[usual])}) but for how it is written"
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
    yield from _zeros(name, column, counted)
    if greatest >= _FAR:
        sizes = np.abs(column.values[~column.missing & (column.values != 0)].astype(np.float64))
        usual = np.median(sizes)
        if greatest > _FAR * usual or sizes.min() * _FAR < usual:
            what = f"its numbers go from {least:g} to {greatest:g}: texts such as 4E22, which are read as numbers?"
            yield Doubt(name, None, None, what, f"{_option('--categorical', name)} keeps them as texts")
        elif greatest >= EXACT and not counted.whole and (sizes == np.floor(sizes)).all():
            what = f"its whole numbers are as large as {greatest:g}, where a number is not told from the next: an id?"
            yield Doubt(name, None, None, what, f"{_option('--drop', name)} leaves it out")


def _far_dates(name: str, column: RawColumn, counted: ColumnStatistics) -> Iterator[Doubt]:
    """A day that stands for a missing one, and lies far from all others: 9999-12-31."""
    for one in sorted(_NO_DAYS.intersection(one for one in (counted.least, counted.greatest) if one is not None)):
        others = column.values[~column.missing & (column.values != one)]
        count = counted.present - len(others)
        if count < 2 or not len(others):
            continue
        low, high = float(others.min()), float(others.max())
        if min(abs(one - low), abs(one - high)) > 2 * max(high - low, _A_YEAR):
            day, row = str(said_moment(one, "date")), _row_of(column, one)
            what = (
                f"{day} stands in {_rows(count)}, first in row {row:,}, and all others go from "
                f"{said_moment(low, 'date')} to {said_moment(high, 'date')}: a mark for a missing date?"
            )
            yield Doubt(name, row, day, what, f"{_option('--missing', day)} reads it as missing")
            return


def _zeros(name: str, column: RawColumn, counted: ColumnStatistics) -> Iterator[Doubt]:
    """Zeros in many rows of numbers that otherwise lie in a narrow range far from it, as of a weight."""
    share = counted.zeros / counted.present
    if counted.least != 0 or not FEW_ZEROS <= share <= 0.5 or counted.zeros < 2:
        return
    values = column.values[:: max(1, len(column.values) // SIEVE)]  # Few are enough for nearly all columns.
    for found in (values, column.values):
        others = found[found > 0]
        if len(others) < 2 or others.min() < FAR_FROM_ZERO * np.median(others):
            return
    others = others.astype(np.float64)
    if len(distinct(others)) < FEW_LEVELS or others.mean() < DEVIATIONS * others.std():
        return
    row = _row_of(column, 0)
    what = (
        f"0 stands in {_rows(counted.zeros)}, first in row {row:,}, and all others go from {others.min():g} to "
        f"{others.max():g}: a mark for a missing number?"
    )
    yield Doubt(name, row, 0, what, f"{_option('--missing', 0)} reads it as missing, but in all columns of numbers")


def _two_texts(name: str, column: RawColumn) -> Iterator[Doubt]:
    """Texts that differ and are one number: versions, 12.10 and 12.1."""
    if column.twins is not None:
        row, text, other = column.twins
        what = f"{text!r} in row {row + 1:,} and {other!r} are the same number: are they versions, or codes?"
        yield Doubt(name, row + 1, text, what, f"{_option('--categorical', name)} keeps them as texts")


def _are_dates(column: RawColumn, format: str) -> bool:
    """Whether many different whole numbers are dates, 20241231."""
    different = distinct(column.values[~column.missing])
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
