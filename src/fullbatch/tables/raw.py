"""A raw table in memory, and ``Builder``, which makes its columns of Arrow's arrays, batch by batch."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from fullbatch.errors import InputError, TableError
from fullbatch.tables.dates import ALWAYS, ISO, USUAL_DATES, DateFormats, fitting_seconds, kind_of, seconds_of
from fullbatch.tables.written import number_of, number_written

if TYPE_CHECKING:
    from fullbatch.tables.encoding import TableEncoding

# These texts stand for a missing value, in the text columns of any file and everywhere in a CSV file.
MISSING = frozenset(["", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "Null", "null"])
# These stand for one among numbers alone: among texts each may be a class. The point is what SAS writes.
AMONG_NUMBERS = frozenset(["None", ".", "-"])
MOST_SHOWN = 20  # columns where a table is printed
MOST_LEVELS = 65_000  # A column keeps so many different texts at most, so that its codes fit 16 bits.

# Two codes stand for no level while a column is read: that of a missing value, and that of a text beyond MOST_LEVELS.
# How many levels there will be is not known yet; in a RawColumn both codes come right after the levels.
_MISSING_CODE, _BEYOND_CODE = 65_535, 65_534
NUMBER = "number"  # how texts can be read, beside formats of dates


@dataclass(frozen=True)
class MissingWords:
    """The texts that stand for a missing value, without the spaces that may be around them.

    A word that is a number or a date stands for that value too, however it is stored: see ``marks``.

    everywhere : in the text columns of any file and everywhere in a CSV file
    among_numbers : in the columns of numbers and dates of a CSV file
    """

    everywhere: frozenset[str] = MISSING
    among_numbers: frozenset[str] = AMONG_NUMBERS

    @classmethod
    def of(cls, words: Collection[str] = (), *, keep: bool = False) -> MissingWords:
        """The usual words and these; with ``keep`` these alone, and the empty text."""
        given = frozenset(str(word).strip() for word in ([words] if isinstance(words, str) else words))
        return cls(given | {""}, frozenset()) if keep else cls(MISSING | given)

    @classmethod
    def given(cls, words: MissingWords | Collection[str]) -> MissingWords:
        """What a caller gives: words beside the usual ones, or all of them."""
        return words if isinstance(words, MissingWords) else cls.of(words)

    def unusual(self) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Both sets, sorted, as a model keeps them; None: they are the usual ones."""
        return None if self == USUAL else (tuple(sorted(self.everywhere)), tuple(sorted(self.among_numbers)))

    def nulls(self) -> list[str]:
        """What a reader of numbers that strips nothing is to take for missing."""
        words = self.everywhere | self.among_numbers
        padded = [f"{before}{word}{after}" for word in words if word for before in ("", " ") for after in ("", " ")]
        return [*padded, *(" " * width for width in range(17))]

    def __contains__(self, text: Any) -> bool:
        """Whether this is a missing value among numbers."""
        return text in self.everywhere or text in self.among_numbers


USUAL = MissingWords()


class Marks(NamedTuple):
    """Values that stand for a missing one: among numbers, and among the seconds of dates."""

    numbers: frozenset[float] = frozenset()
    moments: frozenset[float] = frozenset()

    def without(self, values: np.ndarray, time: str) -> np.ndarray:
        """Numbers, or what ``RawColumn.time`` says, with NaN where one of them stands; else the same array."""
        marks = self.moments if time == "date" else frozenset() if time else self.numbers
        if not marks:
            return values
        found = np.zeros(len(values), bool)
        for mark in marks:
            if values.dtype.kind == "f":
                with np.errstate(over="ignore"):
                    found |= values == values.dtype.type(mark)  # -999.9 is another number in 32 bits than in 64.
            elif mark.is_integer():
                found |= values == int(mark)
        return np.where(found, np.nan, values) if found.any() else values


@lru_cache(maxsize=16)
def _marks(words: frozenset[str], decimal: str) -> Marks:
    numbers = {number for word in words if (number := number_of(word, decimal)) is not None and number == number}
    dates = [fitting_seconds([word], ISO) for word in words - MISSING]
    return Marks(frozenset(numbers), frozenset(float(one[0]) for one in dates if one is not None))


@dataclass(frozen=True)
class Conventions:
    """How the values of a table are written, as far as that is not the same everywhere.

    missing : the texts that stand for a missing value
    decimal : what stands between the whole part of a number and its fraction, "." or ","
    dates : how texts become dates
    """

    missing: MissingWords = USUAL
    decimal: str = "."
    dates: DateFormats = USUAL_DATES

    def __post_init__(self) -> None:
        if self.decimal not in (".", ","):
            raise InputError(f"the decimal mark is {self.decimal!r}; expected '.' or ','.")

    @property
    def marks(self) -> Marks:
        """The values that the words for a missing one are, as numbers and as dates."""
        return Marks() if self.missing == USUAL else _marks(self.missing.everywhere, self.decimal)

    @classmethod
    def of(cls, encoding: TableEncoding) -> Conventions:
        """Those of the table that a model learned from: nothing is concluded anew from the values of another one."""
        missing = MissingWords(*map(frozenset, encoding.missing_words)) if encoding.missing_words else USUAL
        return cls(missing, encoding.decimal, DateFormats(dict(encoding.date_formats), guess=False))


USUAL_CONVENTIONS = Conventions()
DROPPED = "it was to be left out"


@dataclass(frozen=True)
class RawColumn:
    """One column of a table as it was in the file.

    values : (m,), numbers as they are, missing ones NaN; or, where there are ``levels``, unsigned codes: c
        stands for ``levels[c]``, ``len(levels)`` for a missing value, ``len(levels) + 1`` for a text that
        came after MOST_LEVELS others and was not kept
    levels : the texts of a text column (spaces around them are gone), (False, True) of a boolean one, or None
    integer : all values are whole, 1.0 too (where some are missing, ``values`` are floats)
    beyond : the texts that were not kept, as numbers, in the order of their rows; None: one of them is no number
    stray : where they are of no kind that all texts before have, numbers or dates, the row, and the text, of the first
        one that is none
    time : "date", "clock" or "duration" where the values are the seconds of dates, times of the day or durations;
        "" where they are none
    format : of dates that were texts, what these were read by; None: they were none, or as ISO 8601 has them
    decimal : of a text column, the mark with which a text is a number
    twins : of numbers that were texts, the row of one, it and another text that is the same number: "12.10" and "12.1"
    """

    values: np.ndarray
    levels: tuple[Any, ...] | None = None
    integer: bool = False
    beyond: np.ndarray | None = None
    stray: tuple[int, str] | None = None
    time: str = ""
    format: str | None = None
    decimal: str = "."
    twins: tuple[int, str, str] | None = None

    @property
    def kind(self) -> str:
        """Either "number", "text", "boolean" or "category": numbers that the file declares to be levels."""
        if self.levels is None:
            return "number"
        if self.levels and not isinstance(self.levels[0], str):
            return "boolean" if isinstance(self.levels[0], bool) else "category"
        return "text"

    @property
    def missing(self) -> np.ndarray:
        """Which values are missing: bool (m,)."""
        if self.levels is not None:
            return self.values == len(self.levels)
        return np.isnan(self.values) if self.values.dtype.kind == "f" else np.zeros(len(self.values), bool)

    def select(self, rows: np.ndarray) -> RawColumn:
        """The column in these rows (indices). Codes and numbers are copied, levels are shared."""
        values = self.values[rows]
        beyond, stray, twins = self.beyond, None, None
        if beyond is not None and self.levels is not None:
            numbers = np.zeros(len(self.values))
            numbers[self.values == len(self.levels) + 1] = beyond
            beyond = numbers[rows][values == len(self.levels) + 1]
        if self.stray is not None and (there := np.flatnonzero(rows == self.stray[0])).size:
            stray = (int(there[0]), self.stray[1])
        if self.twins is not None and (there := np.flatnonzero(rows == self.twins[0])).size:
            twins = (int(there[0]), *self.twins[1:])
        return replace(self, values=values, beyond=beyond, stray=stray, twins=twins)


@dataclass(frozen=True, repr=False)
class RawTable:
    """The columns of a table, all of length ``m``, in the file's order.

    left_out : the columns of the file that were not read though nobody chose so, and for each of them why
    decimal : as ``Conventions`` has it
    delimiter : of a CSV file, what separates its values
    """

    columns: Mapping[str, RawColumn]
    m: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    missing: MissingWords = USUAL
    decimal: str = "."
    delimiter: str | None = None

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> RawTable:
        """A table from arrays or lists in memory, each (m,): numbers, booleans or texts; None is missing."""
        arrays = {str(name): pa.array(values) for name, values in columns.items()}
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise TableError(f"The columns of a table have one length; these have {lengths}.")
        left_out = {name: reason for name, array in arrays.items() if (reason := unreadable(array.type))}
        builders = {name: Builder(name) for name in arrays if name not in left_out}
        for name, builder in builders.items():
            builder.add(arrays[name])
        return finish("The table", builders, left_out)

    def __repr__(self) -> str:
        """The shape, and the names with their kinds: the values and levels would fill pages of a notebook."""
        shown = [f"{name} ({column.time or column.kind})" for name, column in self.columns.items()]
        more = f" and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
        return f"RawTable, {self.m:,} rows, {len(shown)} columns: {', '.join(shown[:MOST_SHOWN])}{more}"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def column(self, name: str) -> RawColumn:
        """The column of this name. TableError, with the near names, where there is none."""
        if name not in self.columns:
            self.require([name])
        return self.columns[name]

    def require(self, names: Sequence[str], what: str = "column") -> None:
        """TableError that names the absent ones, and near names; ``what`` is how the message calls them."""
        for name in names:
            if name in self.left_out and name not in self.columns:
                raise TableError(f"{what} {name!r} was left out: {self.left_out[name]}.")
        require(names, self.names, what)

    def with_missing(self, missing: MissingWords) -> RawTable:
        """The table in which these words stand for a missing value too."""
        if missing in (self.missing, USUAL):
            return self
        both = MissingWords(self.missing.everywhere | missing.everywhere, self.missing.among_numbers)
        marks = Conventions(both, self.decimal).marks
        columns = {name: _with_missing(column, both.everywhere, marks) for name, column in self.columns.items()}
        return replace(self, columns=columns, missing=both)

    def select(self, rows: np.ndarray) -> RawTable:
        """The rows with these indices, in this order. Codes and numbers are copied, levels are shared."""
        columns = {name: column.select(rows) for name, column in self.columns.items()}
        return replace(self, columns=columns, m=len(rows))


def _with_missing(column: RawColumn, words: Collection[str], marks: Marks) -> RawColumn:
    """The column with gaps where a word or a mark stood. A level without rows is left, as of rows that were chosen."""
    if column.levels is None:
        return replace(column, values=marks.without(column.values, column.time))
    numbers = marks.moments if column.time else marks.numbers
    gone = [level in words if isinstance(level, str) else level in numbers and level not in (True, False)
            for level in column.levels]  # fmt: skip
    if not any(gone):
        return column
    final = np.arange(len(gone) + 2, dtype=column.values.dtype)
    final[np.flatnonzero(gone)] = len(gone)
    return replace(column, values=final[column.values])


# ---- columns, batch by batch ---------------------------------------------------------------------


class Builder:
    """One column as it is read: codes or numbers, a chunk per batch.

    text : it stays text where there is nothing but true and false
    """

    def __init__(self, name: str, text: bool = False, conventions: Conventions = USUAL_CONVENTIONS) -> None:
        self.name = name
        self.text = text
        self.conventions = conventions
        self.missing = conventions.missing
        self.marks = conventions.marks
        self.format = None if text else conventions.dates.named.get(name)
        self.m = 0
        self.chunks: list[np.ndarray] = []
        self.codes: dict[Any, int] | None = None  # level -> code; None as long as the column is one of numbers
        self.integer = True
        self.time = kind_of(self.format) if self.format else ""
        # What texts beyond MOST_LEVELS are by each reading that fits all texts so far, a part per batch. A reading is
        # NUMBER, or a format of dates; None: there have been none.
        self.beyond: dict[str, list[np.ndarray]] = defaultdict(list)
        self.readings: list[str] | None = None
        self.stray: tuple[int, str] | None = None
        self.twins: tuple[int, str, str] | None = None  # as ``RawColumn`` has them
        self.codes_only = False  # It is text because of leading zeros alone: numbers if one of them is not whole.
        # Arrow's dictionary of the last batch, and the code of each of its entries: most batches have the same one, so
        # that its texts are looked up once.
        self._dictionary: Any = None
        self._levels_when_full: pa.Array | None = None
        self._dictionary_codes = np.empty(0, np.uint16)

    def add(self, array: pa.Array) -> None:
        """Take in the next batch of the column."""
        array = _stored(array)
        type_ = array.type
        if self.format and (dated := _as_texts(array)) is not None:
            self.chunks.append(self._dated(dated, self.format))
            self.m += len(array)
            return
        if is_text(type_):
            array = array.dictionary_encode()
        elif pa.types.is_dictionary(type_) and not is_category(type_):
            array = array.dictionary_decode()
        elif pa.types.is_null(type_) and self.text:
            array = pa.nulls(len(array), pa.dictionary(pa.int32(), pa.string()))
        if pa.types.is_dictionary(array.type):
            self.chunks.append(self._coded(array))
        elif pa.types.is_boolean(array.type):
            self.codes = {False: 0, True: 1}
            self.chunks.append(np.where(_valid(array), _bits(array, 1), _MISSING_CODE).astype(np.uint16))
        else:
            numbers = self.marks.without(_numbers(array, self.name), _kind_of_time(array.type))
            self.time = _kind_of_time(array.type) or self.time
            self.integer = self.integer and not _is_time(array.type) and _whole(numbers)
            self.chunks.append(_smallest(numbers))
        self.m += len(array)

    def _coded(self, array: pa.Array) -> np.ndarray:
        """The codes of one batch: (k,) uint16."""
        if self.codes is None:  # Not only where a text comes: a column of texts is one where all of them are missing.
            self.codes = {}
        dictionary, indices = array.dictionary, array.indices
        if self._dictionary is None or not dictionary.equals(self._dictionary):
            full = len(self.codes) >= MOST_LEVELS and pa.types.is_string(dictionary.type)
            marks = self.marks.moments if _is_time(dictionary.type) else self.marks.numbers
            levels = [None if level in marks else level for level in _levels(dictionary, self.name)] if not full else []
            entries = self._codes_when_full(dictionary) if full else list(map(self._code, levels))
            # The code at the end is for no entry: ``take`` refuses an empty array, which a batch of nulls would give.
            self._dictionary_codes = np.append(np.array(entries, np.uint16), np.uint16(_MISSING_CODE))
            self._dictionary = dictionary
        # "clip", because Arrow does not say what index stands where a value is null.
        positions = _buffer(indices)
        codes = self._dictionary_codes.take(positions, mode="clip")
        if indices.null_count:
            codes[~_valid(indices)] = _MISSING_CODE
        if len(self.codes) >= MOST_LEVELS and self.readings != []:
            self._keep_beyond(positions, codes)
        return codes

    def _dated(self, array: pa.Array, format: str) -> np.ndarray:
        """Texts as seconds by the format: (k,). TableError, with the row, for one that has another form."""
        import pyarrow.compute as pc

        positions, valid = _buffer(array.indices), _valid(array.indices)
        texts = pc.utf8_trim_whitespace(array.dictionary.cast(pa.string()))
        found = np.append(seconds_of(texts, format), np.nan)  # As in ``_coded``, for a batch of nulls.
        odd = np.flatnonzero(np.isnan(found[:-1])).tolist()
        wrong = np.zeros(len(found), bool)
        wrong[[i for i in odd if (text := texts[i].as_py()) is not None and text not in self.missing]] = True
        rows = np.flatnonzero(wrong.take(positions, mode="clip") & valid)
        if rows.size:
            text = texts[int(positions[rows[0]])].as_py()
            raise TableError(
                f"column {self.name!r} must hold dates as {format!r}, but row {self.m + int(rows[0]) + 1} has "
                f"{text!r}; correct it, or give the format that all of its values have."
            )
        return np.where(valid, self.marks.without(found, self.time).take(positions, mode="clip"), np.nan)

    def _keep_beyond(self, positions: np.ndarray, codes: np.ndarray) -> None:
        """Keep as numbers, or dates, what this batch has beyond MOST_LEVELS, until a text comes that is none."""
        rows = np.flatnonzero(codes == _BEYOND_CODE)
        if not rows.size:
            return
        different, back = np.unique(positions[rows], return_inverse=True)
        texts = [str(self._dictionary[int(position)]).strip() for position in different]
        if self.readings is None:
            numbers_so_far = all(
                number_written(level, self.conventions.decimal) is not None for level in self.codes or ()
            )
            self.readings = [*([NUMBER] if numbers_so_far else []), *self._formats()]
        wrong = np.ones(len(texts), bool)
        for reading in list(self.readings):
            values = self._read_as(texts, reading)
            wrong = np.isnan(values) & np.array([text not in self.missing for text in texts])
            if wrong.any():
                self.readings.remove(reading)
            else:
                self.beyond[reading].append(values[back])
        if not self.readings:
            first = int(wrong[back].argmax())
            self.stray = (self.m + int(rows[first]), texts[back[first]])

    def _read_as(self, texts: Sequence[str], reading: str) -> np.ndarray:
        """Numbers or seconds (k,), NaN where a text is none."""
        if reading != NUMBER:
            return seconds_of(pa.array(texts, pa.string()), reading)
        return np.array([number_written(text, self.conventions.decimal) for text in texts], np.float64)

    def _formats(self) -> list[str]:
        """The formats of dates that all of the texts so far have."""
        texts = [level for level in self.codes or () if isinstance(level, str) and level not in self.missing]
        if self.text or len(texts) < sum(level not in self.missing for level in self.codes or ()):
            return []
        return self.conventions.dates.conclude(self.name, texts)

    def _codes_when_full(self, dictionary: pa.Array) -> np.ndarray:
        """The codes of a dictionary's texts where no more levels are taken: Arrow looks them up, all at once."""
        import pyarrow.compute as pc

        if self._levels_when_full is None:
            self._levels_when_full = pa.array(list(map(str, self.codes or ())), pa.string())
        texts = pc.utf8_trim_whitespace(dictionary)
        missing = pc.is_in(texts, pa.array([*self.missing.everywhere, None], pa.string()))
        found = pc.fill_null(pc.index_in(texts, self._levels_when_full), _BEYOND_CODE)
        return np.where(_bits(missing, 1), _MISSING_CODE, _buffer(found))

    def _code(self, level: Any) -> int:
        assert self.codes is not None
        level = level.strip() if isinstance(level, str) else level
        if level is None or level in self.missing.everywhere:
            return _MISSING_CODE
        if level not in self.codes and len(self.codes) >= MOST_LEVELS:
            return _BEYOND_CODE
        return self.codes.setdefault(level, len(self.codes))

    def turn_to_text(self) -> None:
        """Make of the whole numbers so far, of which none is missing, the texts that they were."""
        chunks, self.chunks, self.m = self.chunks, [], 0
        for chunk in chunks:
            self.add(_texts_of(chunk))

    def forget(self) -> None:
        """Drop the values so far, because they are read again (``begin_again``)."""
        self.chunks = []

    def begin_again(self) -> None:
        """The next batches are the first ones of the column; those that are kept come after them."""
        self._later = (self.chunks, self.beyond, self.m)
        self.chunks, self.beyond, self.m = [], defaultdict(list), 0

    def go_on(self) -> None:
        """The first batches have been read again."""
        chunks, beyond, self.m = self._later
        self.chunks += chunks
        for reading, parts in beyond.items():
            self.beyond[reading] += parts

    def finish(self) -> RawColumn:
        """The whole column, when all of its batches have been added; the builder's own chunks are then gone."""
        values = np.concatenate(self.chunks)
        self.chunks.clear()
        if self.codes is None:
            integer = self.integer and not np.isnan(values).all()
            if integer and values.dtype.kind == "f" and not np.isnan(values).any():
                values = _smallest(values.astype(np.int64))
            return RawColumn(values, None, integer, time=self.time, format=self.format, twins=self.twins)
        levels: tuple[Any, ...] = tuple(self.codes)
        truths = [str(level).lower() for level in levels]
        boolean = bool(truths) and set(truths) <= {"true", "false"} and not self.text
        count = 2 if boolean else len(levels)
        # The codes that were given while reading are indices into ``final``, which has the codes of the RawColumn.
        final = np.zeros(65_536, np.min_scalar_type(count + 1))
        final[: len(levels)] = [truth == "true" for truth in truths] if boolean else np.arange(count)
        final[_MISSING_CODE], final[_BEYOND_CODE] = count, count + 1
        values = final[values]
        if not boolean and (dates := self._dates(values, levels)):
            return dates
        levels = (False, True) if boolean else levels
        beyond = self._beyond(NUMBER)
        column = RawColumn(values, levels, beyond=beyond, stray=self.stray, decimal=self.conventions.decimal)
        return _numbers_if_decimal(column, self.missing, self.marks) if self.codes_only else column

    def _beyond(self, reading: str) -> np.ndarray | None:
        return np.concatenate(self.beyond[reading]) if reading in (self.readings or ()) else None

    def _dates(self, codes: np.ndarray, levels: Sequence[str]) -> RawColumn | None:
        """The column of texts as one of dates, where one format alone fits them."""
        formats = self._formats() if self.readings is None else [one for one in self.readings if one != NUMBER]
        if len(formats) != 1:
            return None
        seconds = fitting_seconds(levels, formats[0], self.missing)
        assert seconds is not None
        values = np.append(seconds, [np.nan, np.nan])[codes]
        if (beyond := self._beyond(formats[0])) is not None:
            values[codes == len(levels) + 1] = beyond
        values, time = self.marks.without(values, kind_of(formats[0])), kind_of(formats[0])
        return RawColumn(values, None, time=time, format=None if formats[0] in ALWAYS else formats[0])


def _numbers(array: pa.Array, name: str) -> np.ndarray:
    """Integers where no value is missing, else floats with NaN."""
    type_ = array.type
    if pa.types.is_null(type_):
        return np.full(len(array), np.nan, np.float32)
    if pa.types.is_decimal(type_):
        array = array.cast(pa.float64())
    elif unreadable(type_):
        raise TableError(f"column {name!r} holds {type_}; expected numbers, texts, booleans, dates or times.")
    numbers = _buffer(array)
    if _is_time(type_):
        numbers = numbers * _SECONDS[str(type_)[:6] if pa.types.is_date(type_) else type_.unit]
    if array.null_count:
        numbers = np.where(_valid(array), numbers, np.nan)
    return numbers


def _levels(dictionary: pa.Array, name: str) -> list[Any]:
    """The texts of a dictionary, or its numbers, of which the whole ones are integers."""
    if is_text(dictionary.type):
        return dictionary.to_pylist()
    numbers = [None if number != number else number for number in _numbers(dictionary, name).tolist()]
    return [int(n) if isinstance(n, float) and n.is_integer() else n for n in numbers]


def _texts_of(numbers: np.ndarray) -> pa.Array:
    """Integers as the texts that they are written as."""
    different, indices = np.unique(numbers, return_inverse=True)
    texts = pa.array([str(number) for number in different.tolist()], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32)), texts)


def _numbers_if_decimal(column: RawColumn, missing: MissingWords, marks: Marks) -> RawColumn:
    """A column of numbers with leading zeros is one of codes only where all of them are whole: 007, and no 1.5."""
    levels = [level for level in column.levels or () if level not in missing]
    numbers = [number_of(level, column.decimal) for level in levels]
    if column.stray or None in numbers or all(level.lstrip("+-").isdecimal() for level in levels):
        return column
    known = [np.nan if level in missing else number_of(level, column.decimal) for level in column.levels or ()]
    values = np.array([*known, np.nan, np.nan])[column.values]
    if column.beyond is not None:
        values[column.values == len(known) + 1] = column.beyond
    values = marks.without(values, "")
    return RawColumn(values, None, _whole(values))


def _whole(numbers: np.ndarray) -> bool:
    """Whether all values that are not missing are whole, and so small that a float tells them from their neighbours."""
    if numbers.dtype.kind != "f":
        return True
    whole = (numbers == np.rint(numbers)) & (np.abs(numbers) <= min(2.0**53, float(np.finfo(numbers.dtype).max)))
    return bool((whole | np.isnan(numbers)).all())


# Seconds in a unit of Arrow's times; dates count days, or milliseconds.
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "date32": 86_400.0, "date64": 1e-3}


def _kind_of_time(type_: pa.DataType) -> str:
    """What ``RawColumn.time`` is of a column of this type."""
    if not _is_time(type_):
        return ""
    return "clock" if pa.types.is_time(type_) else "duration" if pa.types.is_duration(type_) else "date"


def _is_time(type_: pa.DataType) -> bool:
    return pa.types.is_temporal(type_) and not pa.types.is_interval(type_)


def _as_texts(array: pa.Array) -> pa.Array | None:
    """A dictionary of the texts of an array, or of its whole numbers; None: it has neither, but dates perhaps."""
    if pa.types.is_integer(array.type):
        array = array.cast(pa.string())
    if is_text(array.type):
        array = array.dictionary_encode()
    return array if pa.types.is_dictionary(array.type) and is_text(array.type.value_type) else None


# The next three functions make NumPy views of Arrow's buffers themselves, because ``to_numpy`` would import Arrow's
# compute functions and, where it is installed, pandas: a quarter of a second and 50 MB for nothing.


def _buffer(array: pa.Array) -> np.ndarray:
    """The values (k,) of an array of numbers or times; where one is null there may be any number."""
    type_ = array.type
    kind = "f" if pa.types.is_floating(type_) else "u" if pa.types.is_unsigned_integer(type_) else "i"
    values = np.frombuffer(array.buffers()[1], f"{kind}{type_.bit_width // 8}")
    return values[array.offset : array.offset + len(array)]


def _valid(array: pa.Array) -> np.ndarray:
    """Which values are not null: bool (k,)."""
    return _bits(array, 0) if array.null_count else np.ones(len(array), bool)


def _bits(array: pa.Array, buffer: int) -> np.ndarray:
    """A bitmap, the validity (buffer 0) or a boolean array's values (1), as bool (k,)."""
    bits = np.unpackbits(np.frombuffer(array.buffers()[buffer], np.uint8), bitorder="little")
    return bits[array.offset : array.offset + len(array)].astype(bool)


def _smallest(numbers: np.ndarray) -> np.ndarray:
    """Integers in the fewest bytes that hold them; floats as they are."""
    if numbers.dtype.kind == "f" or not len(numbers):
        return numbers
    smallest = np.result_type(np.min_scalar_type(numbers.min()), np.min_scalar_type(numbers.max()))
    # NumPy's type for both -1 and 2**40, which takes an unsigned type for the latter, is a float.
    return numbers if smallest.kind == "f" else numbers.astype(smallest, copy=False)


def is_category(type_: pa.DataType) -> bool:
    """Whether a dictionary is one of levels: of texts, or of numbers that the writer declared to be a category."""
    value = type_.value_type
    return is_text(value) or pa.types.is_integer(value) or pa.types.is_floating(value) or _is_time(value)


def unreadable(type_: pa.DataType) -> str | None:
    """Why a column of this type is none for us; None: it is one."""
    value = getattr(type_, "storage_type", type_)
    value = value.value_type if pa.types.is_dictionary(value) else value
    known = (
        pa.types.is_null(value) or pa.types.is_boolean(value) or pa.types.is_integer(value) or is_text(value)
        or pa.types.is_floating(value) or pa.types.is_decimal(value) or _is_time(value)
    )  # fmt: skip
    name = getattr(type_, "extension_name", str(type_))
    return None if known else f"it holds {name}; expected numbers, texts, booleans, dates or times"


def _stored(array: pa.Array) -> pa.Array:
    """What an array of an extension type is stored as: periods of pandas are integers; bool8 is boolean."""
    if not isinstance(array.type, pa.BaseExtensionType):
        return array
    truth = array.type.extension_name == "arrow.bool8"
    return array.storage.cast(pa.bool_()) if truth else array.storage


def is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)


def finish(
    origin: str,
    builders: dict[str, Builder],
    left_out: Mapping[str, str] | None = None,
    delimiter: str | None = None,
) -> RawTable:
    """The table of all that the builders have read. TableError, which begins with ``origin``, where that is no row."""
    left_out = left_out or {}
    if left_out and not builders:
        name, reason = next(iter(left_out.items()))
        raise TableError(f"{origin}: no column of it can be read; {name!r} was left out: {reason}.")
    if not builders:
        raise TableError(f"{origin}: no column of it is asked for; expected at least one.")
    m = next(builder.m for builder in builders.values())
    if m == 0:
        raise TableError(f"{origin}: it has no rows; expected a header and at least one row.")
    written = next((builder.conventions for builder in builders.values()), USUAL_CONVENTIONS)
    columns = {name: builder.finish() for name, builder in builders.items()}
    return RawTable(columns, m, left_out, written.missing, written.decimal, delimiter)


# ---- names ---------------------------------------------------------------------------------------


def check_names(names: Sequence[str]) -> None:
    """TableError where two columns of a file have one name."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise TableError(f"column names must differ; more than one is called {listed(twice)}.")


def require(names: Sequence[str], known: Sequence[str], what: str) -> None:
    """TableError that names those of ``names`` that are not known, and near ones; ``what`` is how it calls them."""
    there = set(known)
    absent = [name for name in dict.fromkeys(names) if name not in there]
    if not absent:
        return
    near = [match for name in absent for match in _near(name, known)]
    hint = f"Did you mean {listed(near, 'or')}?" if near else f"It has {listed(known)}."
    raise TableError(f"the table has no {what} {listed(absent)}. {hint}")


def _near(name: str, known: Sequence[str]) -> list[str]:
    """The known names of the same letters in another case; else at most two similar ones, or that contain it."""
    folded = name.casefold()
    same = [other for other in known if other.casefold() == folded]
    longer = [other for other in known if len(name) > 2 and folded in other.casefold()]
    return same or difflib.get_close_matches(name, known, n=2) or longer[:2]


def listed(names: Sequence[str], last: str = "and") -> str:
    """The names in quotes as a sentence has them, "'a', 'b' and 'c'"; ten of them at most."""
    quoted = [repr(name) for name in dict.fromkeys(names)]
    if len(quoted) > 10:
        return f"{', '.join(quoted[:10])} and {len(quoted) - 10} more"
    return f" {last} ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
