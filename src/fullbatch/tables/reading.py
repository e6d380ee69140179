"""Tables from files: CSV, CSV.gz and Parquet, read batch by batch into codes and numbers.

A text column becomes small integer codes while it is read, so that neither Python's strings nor Arrow's exist
for the whole table. Dates, times and durations become seconds (dates: since 1970).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fullbatch.errors import TableError

# What stands for a missing value, in the text columns of any file and everywhere in a CSV file.
MISSING = frozenset(["", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "Null", "null"])
MOST_LEVELS = 65_000  # different texts kept per column, so that codes fit 16 bits
BATCH_ROWS = 65_536
CSV_BLOCK = 1 << 20  # bytes; a row must fit
PARQUET_GROUP = 32  # columns decoded side by side: each holds a decompressed page or more

_MISSING_CODE, _BEYOND_CODE = 65_535, 65_534  # while reading; in a RawColumn they follow the levels
_TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class RawColumn:
    """One column of a table as it was in the file.

    values : (m,), numbers as they are, missing ones NaN; or, where there are ``levels``, unsigned codes: c
        stands for ``levels[c]``, ``len(levels)`` for a missing value, ``len(levels) + 1`` for a text that
        came after MOST_LEVELS others and was not kept
    levels : the texts of a text column (spaces around them are gone), (False, True) of a boolean one, or None
    integer : all values were integers in the file (where some are missing, ``values`` are floats)
    """

    values: np.ndarray
    levels: tuple[Any, ...] | None = None
    integer: bool = False

    @property
    def kind(self) -> str:
        """Either "number", "text" or "boolean"."""
        if self.levels is None:
            return "number"
        return "boolean" if self.levels == (False, True) else "text"

    @property
    def missing(self) -> np.ndarray:
        """Which values are missing: bool (m,)."""
        if self.levels is not None:
            return self.values == len(self.levels)
        return np.isnan(self.values) if self.values.dtype.kind == "f" else np.zeros(len(self.values), bool)


@dataclass(frozen=True)
class RawTable:
    """The columns of a table, all of length ``m``, in the file's order."""

    columns: Mapping[str, RawColumn]
    m: int

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> RawTable:
        """A table from arrays or lists in memory, each (m,): numbers, booleans or texts; None is missing."""
        builders = {str(name): _Builder(str(name)) for name in columns}
        for builder, values in zip(builders.values(), columns.values(), strict=True):
            builder.add(pa.array(values))
        lengths = {name: builder.m for name, builder in builders.items()}
        if len(set(lengths.values())) > 1:
            raise TableError(f"The columns of a table have one length; these have {lengths}.")
        return _finish("The table", builders)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def column(self, name: str) -> RawColumn:
        """The column of this name. TableError, with the near names, where there is none."""
        self.require([name])
        return self.columns[name]

    def require(self, names: Sequence[str], what: str = "column") -> None:
        """TableError that names the absent ones, and near names; ``what`` is how the message calls them."""
        _require(names, self.names, what)

    def select(self, rows: np.ndarray) -> RawTable:
        """The rows with these indices, in this order. Codes and numbers are copied, levels are shared."""
        picked = {
            name: RawColumn(column.values[rows], column.levels, column.integer) for name, column in self.columns.items()
        }
        return RawTable(picked, len(rows))


def read_table(path: str | Path, *, columns: Sequence[str] | None = None, text: Collection[str] = ()) -> RawTable:
    """Read a CSV, CSV.gz or Parquet file.

    columns : read these alone (the order in the file is kept); None: all of them
    text : columns that are text whatever they look like (at prediction: ``TableEncoding.text_names``)

    A CSV file is UTF-8 with a header; comma, semicolon or tab separate its values. Raises TableError: no such
    file, not a table, a damaged one, no rows, ragged rows, unknown or duplicate column names.
    """
    path = Path(path)
    kind = _kind(path)
    with _lean_memory():
        if kind == "parquet":
            return _finish(str(path), _read_parquet(path, columns, text))
        return _finish(str(path), _read_csv(path, kind, columns, text))


@contextmanager
def _lean_memory() -> Iterator[None]:
    """Arrow's own allocators keep what they once had, 50 MB for a file of 7; the system's gives it back."""
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.default_memory_pool().release_unused()
        pa.set_memory_pool(usual)


# ---- what kind of file ---------------------------------------------------------------------------


def _kind(path: Path) -> str:
    """What the first bytes say: "csv", "csv.gz" or "parquet". Plain text is CSV only if it is called so."""
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except FileNotFoundError:
        raise TableError(_no_such_file(path)) from None
    except IsADirectoryError:
        raise TableError(f"{path} is a folder; expected a CSV, CSV.gz or Parquet file.") from None
    except PermissionError:
        raise TableError(f"{path} cannot be read: permission denied.") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}.") from None
    name = path.name.lower()
    if not start:
        raise TableError(f"{path} is empty; expected a table with a header and rows.")
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"\x1f\x8b"):
        return "csv.gz"
    if name.endswith(".parquet"):
        raise TableError(f"{path} is not a Parquet file: it does not start with PAR1.")
    if name.endswith(".gz"):
        raise TableError(f"{path} is not a gzip file.")
    if not name.endswith(".csv"):
        raise TableError(f"{path}: unknown kind of file; the known endings are .csv, .csv.gz and .parquet.")
    return "csv"


def _no_such_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"No such file: {path} (there is no folder {folder})."
    try:
        others = [entry.name for entry in folder.iterdir()]
    except OSError:
        others = []
    near = difflib.get_close_matches(path.name, others, cutoff=0.75)
    return f"No such file: {path}." + (f" Did you mean {_listed(near, 'or')}?" if near else "")


# ---- CSV -----------------------------------------------------------------------------------------


def _read_csv(path: Path, kind: str, columns: Sequence[str] | None, text: Collection[str]) -> dict[str, _Builder]:
    """Types come from the first block; where a later value contradicts its column's, that type is widened and
    the reading starts again: a column's type never depends on where in the file a value stands."""
    with _csv_errors(path):
        types = {}
        schema = _csv_reader(path, kind, None, None).schema
        names = schema.names
        _check_names(path, names)
        _require(columns or (), names, "column")
        for field in schema:
            if columns is None or field.name in columns:
                types[field.name] = _TEXT if field.name in text else _csv_type(field.type)
        while True:
            builders = {name: _Builder(name, name in text) for name in types}
            try:
                for batch in _csv_reader(path, kind, types, list(types)):
                    for builder, array in zip(builders.values(), batch.columns, strict=True):
                        builder.add(array)
                return builders
            except pa.ArrowInvalid as error:
                late = _LATE_VALUE.match(str(error))
                name = names[int(late[1])] if late else None
                if late is None or name is None or types[name] == _TEXT:
                    raise
                types[name] = _wider(types[name], late[2])


_LATE_VALUE = re.compile(r"In CSV column #(\d+): .*conversion error to .*invalid value '(.*)'", re.DOTALL)


def _csv_reader(path: Path, kind: str, types: Mapping[str, pa.DataType] | None, include: list[str] | None) -> Any:
    """Arrow's reader of the file, block by block.

    Nobody closes it or its file. A thread of Arrow's reads ahead, also where one thread is asked for; a file that is
    closed under it gives its number to the next one that is opened, and that thread takes a block of that one. So the
    file is left to the last reference, which is the thread's. (pyarrow 26.0: with closing, 7 of 1,350 readings of a
    valid file failed on a busy machine; so none of 1,800. findings/ has the script.)
    """
    from pyarrow import csv

    compression = "gzip" if kind == "csv.gz" else None
    with pa.input_stream(str(path), compression=compression) as stream:
        start = stream.read(4096)
    if b"\0" in start:
        raise TableError("not a CSV file: it holds binary data, or text that is not UTF-8.")
    header = start.split(b"\n")[0]
    delimiter = max(",;\t", key=lambda mark: header.count(mark.encode()))
    return csv.open_csv(
        pa.input_stream(str(path), compression=compression),
        # One thread: row numbers in errors, and less memory; reading is not what takes the time.
        read_options=csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=types,
            include_columns=include,
            null_values=[*MISSING, "None"],  # among numbers; among texts "None" may be a class
            strings_can_be_null=False,
        ),
    )


def _csv_type(inferred: pa.DataType) -> pa.DataType:
    """Texts are coded as they are read; true and false too: they become booleans if nothing else comes."""
    if pa.types.is_null(inferred):  # all missing so far
        return pa.int64()
    if pa.types.is_binary(inferred):
        raise TableError("its text is not UTF-8; save it as UTF-8.")
    return _TEXT if pa.types.is_string(inferred) or pa.types.is_boolean(inferred) else inferred


def _wider(type_: pa.DataType, value: str) -> pa.DataType:
    """The type to try next for a column in which this value came."""
    if pa.types.is_int64(type_):
        return pa.float64() if _is_number(value) else _TEXT
    if pa.types.is_date(type_):
        return pa.timestamp("s")
    return pa.timestamp("ns") if type_ == pa.timestamp("s") else _TEXT


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
        if ragged := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", message):
            row, expected, got = map(int, ragged.groups())
            message = (
                f"row {row - 1} (not counting the header) has {got} values, the header has {expected}; "
                "every row needs one value per column."
            )
        elif "UTF8" in message:
            message = "its text is not UTF-8; save it as UTF-8."
        elif "Empty CSV" in message:
            message = "it has no rows; expected a header and at least one row."
        elif "straddl" in message:
            message = f"a row is longer than {CSV_BLOCK} bytes; is a quote not closed?"
        elif "runcated" in message or "zlib" in message:
            message = "the gzip data are damaged or cut short; make or copy the file again."
        else:
            message = f"cannot be read as CSV: {message.splitlines()[0]}"
        raise TableError(f"{path}: {message}") from None


# ---- Parquet -------------------------------------------------------------------------------------


def _read_parquet(path: Path, columns: Sequence[str] | None, text: Collection[str]) -> dict[str, _Builder]:
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
        _check_names(path, schema.names)
        _require(columns or (), schema.names, "column")
        names = [name for name in schema.names if columns is None or name in columns]
        builders = {name: _Builder(name, name in text) for name in names}
        texts = [name for name in names if _is_text(schema.field(name).type)]
        with parquet.ParquetFile(path, read_dictionary=texts, pre_buffer=False) as file:
            for first in range(0, len(names), PARQUET_GROUP):
                group = names[first : first + PARQUET_GROUP]
                for batch in file.iter_batches(BATCH_ROWS, columns=group, use_threads=False):
                    for name, array in zip(batch.schema.names, batch.columns, strict=True):
                        builders[name].add(array)
        return builders
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise TableError(f"{path}: the Parquet file is damaged or cut short ({reason}).") from None


# ---- columns, batch by batch ---------------------------------------------------------------------


class _Builder:
    """One column as it is read: codes or numbers, a chunk per batch.

    text : it stays text where there is nothing but true and false
    """

    def __init__(self, name: str, text: bool = False) -> None:
        self.name = name
        self.text = text
        self.m = 0
        self.chunks: list[np.ndarray] = []
        self.codes: dict[Any, int] | None = None  # level -> code, of a text or boolean column
        self.integer = True
        self._dictionary: Any = None  # of the last batch,
        self._lookup = np.empty(0, np.uint16)  # and the codes of its entries

    def add(self, array: pa.Array) -> None:
        type_ = array.type
        self.m += len(array)
        if pa.types.is_dictionary(type_) and not _is_text(type_.value_type):
            array = array.dictionary_decode()
            type_ = array.type
        if _is_text(type_):
            self.chunks.append(self._coded(array.dictionary_encode()))
        elif pa.types.is_dictionary(type_):
            self.chunks.append(self._coded(array))
        elif pa.types.is_boolean(type_):
            self.codes = {False: 0, True: 1}
            self.chunks.append(np.where(_valid(array), _bits(array, 1), _MISSING_CODE).astype(np.uint16))
        else:
            self.integer &= pa.types.is_integer(type_)
            self.chunks.append(_smallest(_numbers(array, self.name)))

    def _coded(self, array: pa.Array) -> np.ndarray:
        """The codes of one batch: (k,) uint16."""
        dictionary, indices = array.dictionary, array.indices
        if self._dictionary is None or not dictionary.equals(self._dictionary):
            entries = [self._code(text) for text in dictionary.to_pylist()]
            self._lookup = np.array([*entries, _MISSING_CODE], np.uint16)  # never empty
            self._dictionary = dictionary
        codes = self._lookup.take(_buffer(indices), mode="clip")  # below a null there may be any index
        if indices.null_count:
            codes[~_valid(indices)] = _MISSING_CODE
        return codes

    def _code(self, text: str | None) -> int:
        if self.codes is None:
            self.codes = {}
        text = None if text is None else text.strip()
        if text is None or text in MISSING:
            return _MISSING_CODE
        if text not in self.codes and len(self.codes) >= MOST_LEVELS:
            return _BEYOND_CODE
        return self.codes.setdefault(text, len(self.codes))

    def finish(self) -> RawColumn:
        values = np.concatenate(self.chunks)
        self.chunks.clear()
        if self.codes is None:
            return RawColumn(values, None, self.integer and not np.isnan(values).all())
        levels: tuple[Any, ...] = tuple(self.codes)
        truths = [str(level).lower() for level in levels]
        boolean = bool(truths) and set(truths) <= {"true", "false"} and not self.text
        count = 2 if boolean else len(levels)
        code = np.zeros(65_536, np.min_scalar_type(count + 1))  # of the column, at the code while reading
        code[: len(levels)] = [truth == "true" for truth in truths] if boolean else np.arange(count)
        code[_MISSING_CODE], code[_BEYOND_CODE] = count, count + 1
        return RawColumn(code[values], (False, True) if boolean else levels)


def _numbers(array: pa.Array, name: str) -> np.ndarray:
    """Integers where no value is missing, else floats with NaN."""
    type_ = array.type
    if pa.types.is_null(type_):
        return np.full(len(array), np.nan, np.float32)
    if pa.types.is_decimal(type_):
        array = array.cast(pa.float64())
    elif not (pa.types.is_integer(type_) or pa.types.is_floating(type_) or _is_time(type_)):
        raise TableError(f"column {name!r} holds {type_}; expected numbers, texts, booleans, dates or times.")
    numbers = _buffer(array)
    if _is_time(type_):
        numbers = numbers * _SECONDS[str(type_)[:6] if pa.types.is_date(type_) else type_.unit]
    if array.null_count:
        numbers = np.where(_valid(array), numbers, np.nan)
    return numbers


_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "date32": 86_400.0, "date64": 1e-3}


def _is_time(type_: pa.DataType) -> bool:
    return pa.types.is_temporal(type_) and not pa.types.is_interval(type_)


# NumPy views of Arrow's buffers. ``to_numpy`` would import pandas, where it is installed, and Arrow's compute
# functions: a quarter of a second and 50 MB for nothing.


def _buffer(array: pa.Array) -> np.ndarray:
    """The values (k,) of an array of numbers or times; below a null, anything."""
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
    return numbers.astype(smallest, copy=False)


def _is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)


def _finish(origin: str, builders: dict[str, _Builder]) -> RawTable:
    m = next((builder.m for builder in builders.values()), 0)
    if m == 0:
        raise TableError(f"{origin}: it has no rows; expected a header and at least one row.")
    return RawTable({name: builder.finish() for name, builder in builders.items()}, m)


# ---- names ---------------------------------------------------------------------------------------


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise TableError(f"column names must differ; more than one is called {_listed(twice)}.")


def _require(names: Sequence[str], known: Sequence[str], what: str) -> None:
    absent = [name for name in dict.fromkeys(names) if name not in known]
    if not absent:
        return
    near = [match for name in absent for match in _near(name, known)]
    hint = f"Did you mean {_listed(near, 'or')}?" if near else f"It has {_listed(known)}."
    raise TableError(f"the table has no {what} {_listed(absent)}. {hint}")


def _near(name: str, known: Sequence[str]) -> list[str]:
    """Those of the same letters in another case; else at most two similar ones."""
    same = [other for other in known if other.casefold() == name.casefold()]
    return same or difflib.get_close_matches(name, known, n=2)


def _listed(names: Sequence[str], last: str = "and") -> str:
    """'a', 'b' and 'c'; at most ten."""
    quoted = [repr(name) for name in dict.fromkeys(names)]
    if len(quoted) > 10:
        return f"{', '.join(quoted[:10])} and {len(quoted) - 10} more"
    return f" {last} ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
