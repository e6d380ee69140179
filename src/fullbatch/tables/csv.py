"""CSV into the columns of a raw table: one pass, block by block, wherever a value stands that changes a column's type.

What a column is follows from all its values: whole numbers, numbers, dates and times, times of day, or texts. A block
that contradicts what came before widens the column from there on; what was read is kept. Only where numbers (not whole
ones), dates or times turn out to be texts are their blocks read again, once for all such columns.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from fullbatch.errors import InputError, TableError
from fullbatch.tables.dates import ISO, fitting, fitting_seconds
from fullbatch.tables.indexes import NAMELESS, RowNumbers
from fullbatch.tables.raw import USUAL_CONVENTIONS, Builder, Conventions, MissingWords, check_names, require
from fullbatch.tables.row_numbers import rows_from
from fullbatch.tables.rows import Rows, quotes
from fullbatch.tables.written import is_number, number_of

_TEXT = pa.dictionary(pa.int32(), pa.string())
FAMILIES = {
    "text": _TEXT, "whole": pa.int64(), "number": pa.float64(), "time": pa.timestamp("s"), "clock": pa.time32("s"),
    None: pa.null(),
}  # fmt: skip


def read_csv(
    path: Path,
    compression: str | None,
    columns: Sequence[str] | None,
    text: Collection[str],
    drop: Collection[str] = (),
    conventions: Conventions = USUAL_CONVENTIONS,
) -> tuple[dict[str, Builder], str]:
    """The columns of a file, these alone or all, and what separates the values.

    Those in ``text`` stay text, those in ``drop`` are left out.

    compression : None, or one that Arrow knows: "gzip", "zstd", "bz2"
    """
    with _csv_errors(path):
        reader = _opened(path, compression, columns, text, drop, conventions)
        with reader.sound():
            if reader.columns:
                reader.read()
        return {name: column.builder for name, column in reader.columns.items()}, reader.rows.delimiter


def csv_pieces(
    path: Path, compression: str | None, columns: Sequence[str], text: Collection[str], conventions: Conventions
) -> Iterator[dict[str, Builder]]:
    """These columns of a file, block by block: builders of each block alone, which are of the kinds that it has."""
    with _csv_errors(path):
        reader = _opened(path, compression, columns, text, (), conventions)
        with reader.sound():
            for block in reader.rows.blocks():
                yield reader.piece(block)


class Looked(NamedTuple):
    """What all values of a file say of its columns, by their names.

    types : as Arrow reads them; null where no value is there
    row_numbers : the first column, where it has no name and counts the rows
    """

    types: dict[str, pa.DataType]
    row_numbers: str | None


def csv_look(
    path: Path, compression: str | None, columns: Sequence[str] | None, text: Collection[str], conventions: Conventions
) -> Looked:
    """What ``read_csv`` would understand the columns as, found in little memory; those in ``text`` stay text."""
    with _csv_errors(path):
        reader = _opened(path, compression, columns, text, (), conventions)
        first = next(iter(reader.columns), None)
        numbers = RowNumbers() if first in NAMELESS and len(reader.names) > 1 else None
        decimals = {name: Decimals(conventions) for name in reader.columns}
        with reader.sound():
            for block in reader.rows.blocks():
                table = reader.table(block)
                for name, column in reader.columns.items():
                    for array in table.column(name).chunks:
                        array, column.family = column.understood(array)
                        if column.builder.codes_only:
                            decimals[name].add(array)
                        if name == first and numbers is not None:
                            numbers.add(array)
        if not reader.m:
            raise TableError("it has no rows; expected a header and at least one row.")
        families = {name: column.family for name, column in reader.columns.items()}
        families |= {name: "number" for name, one in decimals.items() if one.there()}
        counted = first if numbers is not None and numbers.count_rows() else None
        return Looked({name: FAMILIES[family] for name, family in families.items()}, counted)


class Decimals:
    """Whether texts that are so because of leading zeros are numbers after all: one of them is not whole."""

    def __init__(self, conventions: Conventions) -> None:
        self.conventions, self.sound, self.whole = conventions, True, True

    def add(self, array: pa.Array) -> None:
        texts = array.dictionary if pa.types.is_dictionary(array.type) else array.cast(pa.string()).unique()
        for text in map(str.strip, filter(None, texts.to_pylist()) if self.sound else ()):
            if text not in self.conventions.missing:
                self.whole &= text.lstrip("+-").isdecimal()
                self.sound &= number_of(text, self.conventions.decimal) is not None

    def there(self) -> bool:
        return self.sound and not self.whole


def csv_batches(
    path: Path, compression: str | None, types: Mapping[str, pa.DataType], conventions: Conventions
) -> Iterator[dict[str, pa.Array]]:
    """These columns of a file, block by block, as ``csv_look`` has understood them."""
    with _csv_errors(path):
        families = {name: _family_of(type_) for name, type_ in types.items()}
        texts = [name for name, family in families.items() if family == "text"]
        reader = _opened(path, compression, list(types), texts, (), conventions)
        for name, column in reader.columns.items():
            if families[name] is not None:
                column.type, column.family = types[name], families[name]
        with reader.sound():
            for block in reader.rows.blocks():
                table = reader.table(block)
                batch = {}
                for name, column in reader.columns.items():
                    array, family = column.understood(table.column(name).combine_chunks())
                    if family == "text" and families[name] == "number":
                        array, family = _numbers(array, conventions), "number"
                    if family not in (families[name], None, "whole" if families[name] == "number" else None):
                        raise TableError("it has changed while it was read; do this again when nobody writes to it.")
                    batch[name] = pa.nulls(len(array)) if families[name] is None else array
                yield batch


def _numbers(array: pa.Array, conventions: Conventions) -> pa.Array:
    """Texts that are numbers, as Python reads them: +5 is one."""
    numbers = [number_of(text.strip(), conventions.decimal) for text in array.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(array.indices, pa.array(numbers, pa.float64())).dictionary_decode()


def _family_of(type_: pa.DataType) -> str | None:
    return None if pa.types.is_null(type_) else _family(type_)


def _opened(
    path: Path,
    compression: str | None,
    columns: Sequence[str] | None,
    text: Collection[str],
    drop: Collection[str],
    conventions: Conventions,
) -> _Reader:
    rows = Rows(path, compression)
    if rows.delimiter == conventions.decimal:
        raise InputError(f"the decimal mark is {conventions.decimal!r}, which separates the values of {path}.")
    names = _parse(rows.header, rows.delimiter, None, None, None, conventions).schema.names
    check_names(names)
    require(columns or (), names, "column")
    require(list(drop), names, "column to drop")
    chosen, left_out = set(names if columns is None else columns), set(drop)
    wanted = [name for name in names if name in chosen and name not in left_out]
    return _Reader(rows, names, {name: _Column(name, name in text, conventions) for name in wanted}, conventions)


def csv_names(path: Path, compression: str | None) -> list[str]:
    """The names of the columns."""
    with _csv_errors(path):
        rows = Rows(path, compression)
        return list(_parse(rows.header, rows.delimiter, None, None, None, USUAL_CONVENTIONS).schema.names)


def _parse(
    block: bytes,
    delimiter: str,
    names: Sequence[str] | None,
    types: Mapping[str, pa.DataType] | None,
    include: Sequence[str] | None,
    conventions: Conventions,
) -> pa.Table:
    """Arrow's table of some rows; without names, the first row has them."""
    from pyarrow import csv

    return csv.read_csv(
        pa.BufferReader(block),
        # One thread reads, because then errors have row numbers and memory is less; reading is not what takes the time.
        read_options=csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=types,
            include_columns=include,
            # Those that are missing in texts too are looked for when these are coded.
            null_values=conventions.missing.nulls(),
            strings_can_be_null=False,
            decimal_point=conventions.decimal,
        ),
    )


# Arrow's errors for a value in a column of integers (its number, counted from 0) that is none, and for uneven rows.
_LATE_VALUE = re.compile(r"In CSV column #(\d+): .*conversion error to int64: invalid value '(.*)'", re.DOTALL)
_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")


# A number whose decimals end with a zero and have other digits, as 12.10. Programs write no such zero, or as many
# decimals in all of a column.
_ZERO_AT_THE_END = {mark: re.compile(rb"\%b(\d+)0(?:[^\d.]|$)" % mark.encode()) for mark in ".,"}
_ZERO_BEHIND = re.compile(r"\s*[-+]?\d+[.,](\d+)0\s*")


class _Reader:
    """Reads the blocks of a file into its columns. ``m`` rows have been read."""

    def __init__(self, rows: Rows, names: Sequence[str], columns: dict[str, _Column], conventions: Conventions) -> None:
        self.rows = rows
        self.names = names
        self.columns = columns
        self.conventions = conventions
        self.m = 0

    @contextmanager
    def sound(self) -> Iterator[None]:
        """Where compressed data are damaged, say so, and not what is wrong with the rows because of it."""
        try:
            yield
        except (TableError, pa.ArrowInvalid):
            self.rows.check()
            raise

    def read(self) -> None:
        for k, block in enumerate(self.rows.blocks()):
            self._add(block, k)
        self._read_again()

    def piece(self, block: bytes) -> dict[str, Builder]:
        """The columns of a block alone; of what came before, the types are known that hold it."""
        for column in self.columns.values():
            column.begin_piece()
        self._add(block, 0, self.m)
        return {name: column.builder for name, column in self.columns.items()}

    def table(self, block: bytes) -> pa.Table:
        """The next block."""
        with self._row_numbers():
            table = self._table(block)
        self.m += table.num_rows
        return table

    def _add(self, block: bytes, k: int, first: int = 0) -> None:
        """first : the row at which the columns that are read begin"""
        table = self.table(block)
        for name, column in self.columns.items():
            for array in table.column(name).chunks:
                with rows_from(first):
                    column.add(array, k)
        if self.m == table.num_rows:
            self._find_twins(block)

    def _find_twins(self, block: bytes) -> None:
        """Find different texts of one number in a column, as versions are; in the first rows alone, for the time."""
        names = [name for name, column in self.columns.items() if column.family == "number"]
        block = block[: block.rfind(b"\n", 0, _PART) + 1] if len(block) > _PART else block
        ends = _ZERO_AT_THE_END[self.conventions.decimal].finditer(block)
        if not names or not any(found[1].strip(b"0") for found in ends):
            return
        try:
            table = _parse(block, self.rows.delimiter, self.names, dict.fromkeys(names, _TEXT), names, self.conventions)
        except pa.ArrowInvalid:  # The part ends within a quoted text of several lines.
            return
        for name in names:
            texts = table.column(name).combine_chunks()
            known: dict[float, str] = {}
            for text in texts.dictionary.to_pylist():
                other = known.setdefault(number_of(text, self.conventions.decimal) or 0.0, text)
                found = _ZERO_BEHIND.fullmatch(text)
                if found and found[1].strip("0") and other != text and len(other) != len(text):
                    row = texts.indices.index(texts.dictionary.index(text)).as_py()
                    self.columns[name].builder.twins = (row, text, other)
                    break

    def _table(self, block: bytes) -> pa.Table:
        """The block in the columns' types, which are widened where it contradicts them."""
        if self.m == 0:
            self._widen(block)
        else:
            self._find_codes(block)
        for _ in range(2):  # Whole numbers that become numbers, the usual case, cost one more parse each, not two.
            try:
                return self._parse(block)
            except pa.ArrowInvalid as error:
                if "conversion error" not in str(error):
                    raise
                late = _LATE_VALUE.match(str(error))
                if late is None or not is_number(late[2], self.conventions.decimal):
                    self._widen(block)
                    break
                self.columns[self.names[int(late[1])]].type = pa.float64()
        try:
            return self._parse(block)
        except pa.ArrowInvalid:
            self._widen(block)
            return self._parse(block)

    def _parse(self, block: bytes) -> pa.Table:
        types = {name: column.type for name, column in self.columns.items()}
        return _parse(block, self.rows.delimiter, self.names, types, list(types), self.conventions)

    def _widen(self, block: bytes) -> None:
        """Let Arrow say what the block looks like by itself, and give each column a type that holds it."""
        for field in _parse(block, self.rows.delimiter, self.names, None, list(self.columns), self.conventions).schema:
            self.columns[field.name].widen(field.type)
        self._find_codes(block)

    def _find_codes(self, block: bytes) -> None:
        """Make columns of whole numbers texts where one of them has a leading zero: Arrow reads 007 as 7."""
        whole = {}
        for j, name in enumerate(self.names):
            if name in self.columns and pa.types.is_int64(self.columns[name].type):
                whole[j] = self.columns[name]
        if whole:
            for j in _leading_zeros(block, self.rows.delimiter, whole):
                whole[j].type = _TEXT
                whole[j].builder.codes_only = True

    def _read_again(self) -> None:
        """Read the first blocks of those columns again that were not known to be texts then."""
        late = {name: column for name, column in self.columns.items() if column.again}
        if not late:
            return
        for column in late.values():
            column.builder.begin_again()
        last = max(column.again for column in late.values())
        for k, block in enumerate(self.rows.blocks()):
            if k == last:
                break
            types = {name: _TEXT for name, column in late.items() if column.again > k}
            table = _parse(block, self.rows.delimiter, self.names, types, list(types), self.conventions)
            for name in types:
                for array in table.column(name).chunks:
                    late[name].builder.add(array)
        for column in late.values():
            column.builder.go_on()

    @contextmanager
    def _row_numbers(self) -> Iterator[None]:
        try:
            yield
        except pa.ArrowInvalid as error:
            if not (ragged := _RAGGED.search(str(error))):
                raise
            row, expected, got = map(int, ragged.groups())
            raise TableError(
                f"row {self.m + row} (not counting the header) has {got} values, the header has {expected}; "
                "every row needs one value per column."
            ) from None


# ---- what a column is ----------------------------------------------------------------------------


class _Column:
    """What is known of a column, and its builder.

    type : what Arrow is asked for in the next block
    family : what all values so far are: "whole", "number", "time", "clock", "text"; None: none but missing ones
    again : so many blocks, the first ones, have to be read again as text
    """

    def __init__(self, name: str, text: bool, conventions: Conventions) -> None:
        self.fresh = partial(Builder, name, text, conventions)
        self.builder = self.fresh()
        text = text or self.builder.format is not None  # A format reads texts.
        self.type = _TEXT if text else pa.int64()
        self.family = "text" if text else None
        self.again = 0
        self.gaps = False  # whether a value was missing

    def begin_piece(self) -> None:
        """Forget what was read, but for the type that holds it."""
        codes_only, self.builder = self.builder.codes_only, self.fresh()
        self.builder.codes_only = codes_only
        self.gaps = False

    def widen(self, seen: pa.DataType) -> None:
        """Take a type that holds the next block, which looks like ``seen``; the family follows with its values."""
        if pa.types.is_binary(seen):
            raise TableError("its text is not UTF-8; save it as UTF-8.")
        if pa.types.is_null(seen) or self.family == "text":
            return
        family = _family(seen)
        if self.family in (None, family) or (self.family, family) == ("whole", "number"):
            self.type = _TEXT if family == "text" else seen
        elif (self.family, family) != ("number", "whole"):
            self.type = _TEXT

    def understood(self, array: pa.Array) -> tuple[pa.Array, str | None]:
        """The column of the next block, and the family of all values so far."""
        missing = array.null_count == len(array) and array.type != _TEXT
        family = self.family if missing else _family(array.type)
        if family == "text" and self.family in (None, "time") and not self.builder.codes_only:
            # Times with and without a zone are texts to Arrow where they are in one block.
            seconds = _seconds(array, self.builder.missing)
            if seconds is not None:
                self.type, self.builder.time = pa.timestamp("s"), "date"
                return seconds, "time"
        if family == "text":
            self.type = _TEXT
        return array, family

    def add(self, array: pa.Array, block: int) -> None:
        """Take in the column of this block."""
        array, family = self.understood(array)
        if family == "text" and self.family != "text":
            # What is missing among numbers may be "None", which among texts is one.
            if self.family == "whole" and not self.gaps:
                self.builder.turn_to_text()
            elif self.builder.m:
                self.again = block
                self.builder.forget()
        self.family = family
        # Among whole numbers 999 is missing too where the word for it is 999.0, and among texts it is not.
        self.gaps |= array.null_count > 0 or bool(self.builder.marks.numbers)
        self.builder.add(array)
        self.builder.integer &= family in (None, "whole", "number")


def _family(type_: pa.DataType) -> str:
    """True and false are coded as texts are: they become booleans if nothing else comes."""
    if pa.types.is_int64(type_):
        return "whole"
    if pa.types.is_floating(type_):
        return "number"
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        return "time"
    return "clock" if pa.types.is_time(type_) else "text"


def _seconds(array: pa.Array, missing: MissingWords) -> pa.Array | None:
    """Texts as seconds since 1970, if all of them are dates and times with or without a zone (then: UTC)."""
    texts = [text.strip() for text in array.dictionary.to_pylist()]
    known = [text for text in texts if text not in missing]
    if not fitting(known[:100], [ISO]) or (seconds := fitting_seconds(texts, ISO, missing)) is None:
        return None
    numbers = pa.array(seconds, pa.float64(), mask=np.isnan(seconds))
    return pa.DictionaryArray.from_arrays(array.indices, numbers).dictionary_decode()


def _leading_zeros(block: bytes, delimiter: str, columns: Collection[int]) -> set[int]:
    """Which of these columns have a whole number with a leading zero, 007 or 0x10."""
    if not block.startswith(b"0") and not _zeros(block, delimiter).size:
        return set()
    block = b"\n" + block + b"\n"
    bytes_ = np.frombuffer(block, np.uint8)
    at = _zeros(block, delimiter)
    before, behind = bytes_[at], bytes_[at - 1]
    signed = (before == ord("-")) | (before == ord("+"))
    at = at[~signed | (behind < ord("-")) | (behind == ord(delimiter))]  # A date has digits before its "-".
    if not at.size:
        return set()
    marks = np.flatnonzero((bytes_ == ord(delimiter)) | (bytes_ == ord("\n")))
    opens, closes = quotes(block, delimiter)
    if len(closes):
        k = np.searchsorted(opens[: len(closes)], marks) - 1
        marks = marks[(k < 0) | (closes[k] < marks)]
    ends = np.flatnonzero(bytes_[marks] == ord("\n"))  # which of the marks end a row
    mark = np.searchsorted(marks, at, side="right") - 1  # the last mark before the value
    column = mark - ends[np.searchsorted(ends, mark, side="right") - 1]
    pattern = re.compile(rb'0(?:\d+|[xX][0-9a-fA-F]+)[ "\t]*[\r\n' + re.escape(delimiter.encode()) + rb"]")
    return {j for j in columns if any(pattern.match(block, int(place) + 1) for place in at[column == j])}


_PART = 1 << 16  # bytes that are looked through at a time, so that they stay in the cache: three times as fast


def _zeros(block: bytes, delimiter: str) -> np.ndarray:
    """Where a value may begin with a zero and another digit: the positions before the zero."""
    bytes_ = np.frombuffer(block, np.uint8)
    found = [np.empty(0, np.intp)]
    for i in range(0, max(len(block) - 2, 0), _PART):
        part = bytes_[i : i + _PART + 2]
        before, zero, after = part[:-2], part[1:-1], part[2:]
        places = zero == ord("0")
        # A separator, a line end, a space, a quote or a sign.
        places &= (before < ord(".")) | (before == ord(delimiter))
        places &= (after - ord("0") < 10) | (after | 32 == ord("x"))
        if places.any():
            found.append(np.flatnonzero(places) + i)
    return np.concatenate(found)


# ---- errors --------------------------------------------------------------------------------------


@contextmanager
def _csv_errors(path: Path) -> Iterator[None]:
    """Arrow's errors in the words of someone who sees a file."""
    try:
        yield
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise TableError(f"{path}: its column names are not UTF-8 text; save it as UTF-8.") from None
    except (pa.ArrowException, OSError) as error:
        message = str(error)
        if "UTF8" in message:
            message = "its text is not UTF-8; save it as UTF-8."
        elif "Empty CSV" in message:
            message = "it has no rows; expected a header and at least one row."
        elif "runcated" in message or "zlib" in message or "decompress" in message.lower():
            message = "the compressed data are damaged or cut short; make or copy the file again."
        else:
            message = f"cannot be read as CSV: {message.splitlines()[0]}"
        raise TableError(f"{path}: {message}") from None
