"""CSV and CSV.gz into the columns of a raw table."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from fullbatch.errors import TableError
from fullbatch.tables.raw import MISSING, Builder, check_names, require

CSV_BLOCK = 1 << 20  # bytes that Arrow reads at a time; each row must fit into a block

_TEXT = pa.dictionary(pa.int32(), pa.string())


def read_csv(path: Path, kind: str, columns: Sequence[str] | None, text: Collection[str]) -> dict[str, Builder]:
    """The columns of a file: these alone, or all. ``kind`` is "csv" or "csv.gz"; the columns in ``text`` stay text.

    Types come from the first block; where a later value contradicts its column's, that type is widened and
    the reading starts again: a column's type never depends on where in the file a value stands.
    """
    with _csv_errors(path):
        types = {}
        schema = _csv_reader(path, kind, None, None).schema
        names = schema.names
        check_names(names)
        require(columns or (), names, "column")
        for field in schema:
            if columns is None or field.name in columns:
                types[field.name] = _TEXT if field.name in text else _csv_type(field.type)
        while True:
            builders = {name: Builder(name, name in text) for name in types}
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


# Arrow's error where a value does not fit the type of its column: the column's number, counted from 0, and the value.
_LATE_VALUE = re.compile(r"In CSV column #(\d+): .*conversion error to .*invalid value '(.*)'", re.DOTALL)


def _csv_reader(path: Path, kind: str, types: Mapping[str, pa.DataType] | None, include: list[str] | None) -> Any:
    """Arrow's reader of the file, block by block.

    Nobody closes it or its file. A thread of Arrow's reads ahead, also where one thread is asked for; a file that is
    closed under it gives its number to the next one that is opened, and that thread takes a block of that one. So the
    file is left to the last reference, which is the thread's. (pyarrow 26.0: with closing, 7 of 1,350 readings of a
    valid file failed on a busy machine; without it none of 1,800. findings/ has the script.)
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
        # One thread reads, because then errors have row numbers and memory is less; reading is not what takes the time.
        read_options=csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=types,
            include_columns=include,
            # "None" is missing among numbers alone: among texts it may be a class. Those of MISSING are looked for in
            # texts too, but when they are coded.
            null_values=[*MISSING, "None"],
            strings_can_be_null=False,
        ),
    )


def _csv_type(inferred: pa.DataType) -> pa.DataType:
    """The type that Arrow is to give a column of which the first block looks like this.

    Texts are coded as they are read; true and false too: they become booleans if nothing else comes.
    """
    if pa.types.is_null(inferred):  # All values of the block are missing: integers are what ``_wider`` begins with.
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
