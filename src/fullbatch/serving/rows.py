"""One raw row -> what its features are, to the bit as ``TableEncoding.encode`` has it, in some microseconds.

Numbers, texts and gaps that are plain to see are looked up here. Any other value of a column (a date as text, a number
where training had texts) goes through the reading of tables, as a table of one row, which takes far longer.
"""

from __future__ import annotations

import datetime
from bisect import bisect_right
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, NamedTuple

import numpy as np

from fullbatch.errors import TableError
from fullbatch.serving.worker import Worker
from fullbatch.tables import bins
from fullbatch.tables.encoding import TAIL, Category, TableEncoding, features_of, numbers_of, tail
from fullbatch.tables.parts import LEVELS, part_of_one

NAN = float("nan")
EXACT = 2**53  # whole numbers beyond are not all floats
EPOCH = datetime.datetime(1970, 1, 1)


class _Codes(NamedTuple):
    """Which feature a value of a category is: ``of`` each level, of any ``other`` one, of a gap; 0: it is none.

    at_position : of a part of dates, the same for each position of ``part_of_one``
    """

    category: Category
    start: int
    of: dict[Any, int]
    other: int
    missing: int
    at_position: tuple[int, ...]

    @classmethod
    def at(cls, category: Category, start: int) -> _Codes:
        other = start + len(category.levels) if category.other else 0
        missing = start + category.width - 1 if category.missing else other
        of = {level: start + i for i, level in enumerate(category.levels)}
        at_position = (*(of.get(level, other) for level in LEVELS.get(category.part or "", ())), missing)
        return cls(category, start, of, other, missing, at_position)

    def of_number(self, seconds: float) -> int:
        """Of the part of a date, or of a number's bin."""
        part = self.category.part
        if part == bins.NAME:
            return self.missing if seconds != seconds else self.start + bisect_right(self.category.edges, seconds)
        assert part is not None
        return self.at_position[part_of_one(seconds, part)]


class RowEncoding:
    """Writes a row's values into a ``Worker``.

    width : how many values a row has at most that are not zero
    """

    def __init__(self, encoding: TableEncoding, sparse: bool) -> None:
        self.encoding, self.sparse = encoding, sparse
        self.factor = [1.0 / scale if scale > 0 else 0.0 for scale in encoding.scale.tolist()]
        self.center = encoding.center.tolist()
        self.first = max(len(encoding.numbers) + len(encoding.indicators), 1 if encoding.categories else 0)
        self.position = {name: j for j, name in enumerate(encoding.numbers)}
        self.indicator = {name: len(encoding.numbers) + i for i, name in enumerate(encoding.indicators)}
        start, self.codes = self.first, []
        for category in encoding.categories:
            self.codes.append(_Codes.at(category, start))
            start += category.width
        self.missing_words, self.marks = _missing_of(encoding)
        self.readers = [self._reader(name) for name in encoding.feature_names]
        letter = "f" if encoding.dtype == "float32" else "d"
        self.put_numbers = Struct(f"={self.first}{letter}").pack_into
        self.put_features = Struct(f"={len(self.codes)}i").pack_into
        self.put_ones = Struct(f"={len(self.codes)}{letter}").pack_into
        self.size = self.first * (4 if letter == "f" else 8)

    @property
    def width(self) -> int:
        return self.first + len(self.codes)

    def write(self, values: Sequence[Any], worker: Worker) -> None:
        """The values of ``feature_names``, in their order. TableError as ``encode`` has it, of row 1."""
        numbers, codes = [0.0] * self.first, [0] * len(self.codes)
        for read, value in zip(self.readers, values, strict=True):
            read(value, numbers, codes)
        if self.sparse:
            self.put_features(worker.features, 4 * self.first, *codes)
            self.put_ones(worker.values, self.size, *[1.0 if code else 0.0 for code in codes])
        else:
            worker.values[self.first :] = 0
            worker.values[codes] = 1  # Where a code is 0, for no feature, this spoils number 0, which is written next.
        self.put_numbers(worker.values, 0, *numbers)

    # How a column is read

    def _reader(self, name: str) -> Callable[[Any, list[float], list[int]], None]:
        own = [(j, codes) for j, codes in enumerate(self.codes) if codes.category.name == name]
        slow = self._slow(name, own)
        if name in dict(self.encoding.date_formats):
            return slow
        if name in self.position:
            return self._number(name, own, slow)
        ((j, codes),) = own
        return self._text(j, codes, slow) if codes.category.is_text else self._level(j, codes, slow)

    def _number(self, name: str, own: list[tuple[int, _Codes]], slow: Any) -> Any:
        position, indicator = self.position[name], self.indicator.get(name)
        center, factor, put = self.center[position], self.factor[position], self._put_number
        marks, moments = self.marks

        def read(value: Any, numbers: list[float], codes: list[int]) -> None:
            kind = type(value)
            if kind is int and -EXACT < value < EXACT:
                value = float(value)
            elif value is None:
                value = NAN
            elif kind is datetime.datetime and value.tzinfo is None:
                value = _seconds(value)
                value = NAN if value in moments else value
            elif kind is not float:
                return slow(value, numbers, codes)
            if marks and kind is not datetime.datetime and value in marks:
                value = NAN
            z = (value - center) * factor
            if -TAIL <= z <= TAIL:
                numbers[position] = z
            elif value != value:
                if indicator is not None:
                    numbers[indicator] = 1.0
            elif value in (np.inf, -np.inf):
                return slow(value, numbers, codes)  # which says what is wrong
            else:
                numbers[position] = put(z)
            for j, of in own:
                if of.category.part is not None:
                    codes[j] = of.of_number(value)
                else:
                    codes[j] = of.missing if value != value else of.of.get(value, of.other)

        return read

    @staticmethod
    def _put_number(z: float) -> float:
        return float(tail(np.array([z]))[0])

    def _text(self, j: int, own: _Codes, slow: Any) -> Any:
        position, missing_words = own.of, self.missing_words

        def read(value: Any, numbers: list[float], codes: list[int]) -> None:
            if type(value) is str:
                code = position.get(value)
                if code is None:
                    text = value.strip()
                    code = own.missing if text in missing_words else position.get(text, own.other)
            elif value is None or value != value:
                code = own.missing
            else:
                return slow(value, numbers, codes)
            codes[j] = code

        return read

    def _level(self, j: int, own: _Codes, slow: Any) -> Any:
        """Of a category of numbers or booleans."""
        position, marks = own.of, self.marks.numbers

        def read(value: Any, numbers: list[float], codes: list[int]) -> None:
            if value is None or value != value or (type(value) is not bool and value in marks):
                codes[j] = own.missing
            elif type(value) in (bool, int, float):
                codes[j] = position.get(value, own.other)
            else:
                slow(value, numbers, codes)

        return read

    def _slow(self, name: str, own: list[tuple[int, _Codes]]) -> Any:
        """By way of a table of one row: whatever a column can hold, and every error."""
        encoding = self.encoding

        def read(value: Any, numbers: list[float], codes: list[int]) -> None:
            column = _column(encoding, name, value)
            if name in self.position:
                position = self.position[name]
                number = float(numbers_of(name, column)[0])
                if number == number:
                    z = (number - self.center[position]) * self.factor[position]
                    numbers[position] = z if -TAIL <= z <= TAIL else self._put_number(z)
                if name in self.indicator:
                    numbers[self.indicator[name]] = float(column.missing[0])
            for j, of in own:
                table = _Single(name, column)
                codes[j] = int(features_of(of.category, of.category.column_of(table), of.start)[0])  # type: ignore[arg-type]

        return read


class _Single(NamedTuple):
    """As much of a table as ``Category.column_of`` looks at."""

    name: str
    its: Any

    def column(self, name: str) -> Any:
        return self.its


def _column(encoding: TableEncoding, name: str, value: Any) -> Any:
    from fullbatch.tables.frames import as_table
    from fullbatch.tables.raw import Conventions

    if isinstance(value, (list, tuple, dict, set, np.ndarray)):
        raise TableError(f"column {name!r} of a row must hold one value, but it holds a {type(value).__name__}.")
    return as_table({name: [value]}, text=encoding.text_names, conventions=Conventions.of(encoding)).column(name)


def _missing_of(encoding: TableEncoding) -> tuple[frozenset[str], Any]:
    """The words and the values that stand for a missing one."""
    from fullbatch.tables.raw import Conventions

    conventions = Conventions.of(encoding)
    return conventions.missing.everywhere, conventions.marks


def _seconds(moment: datetime.datetime) -> float:
    """Since 1970, as Arrow's microseconds become seconds."""
    since = moment - EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1e-6
