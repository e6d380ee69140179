"""Parquet and Arrow IPC into the columns of a raw table."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from fullbatch.errors import TableError
from fullbatch.sources.store_file import KEY
from fullbatch.tables.indexes import INDEX, pandas_indexes
from fullbatch.tables.raw import (
    DROPPED,
    USUAL_CONVENTIONS,
    Builder,
    Conventions,
    check_names,
    is_category,
    is_text,
    require,
    unreadable,
)

BATCH_ROWS = 65_536
PARQUET_GROUP = 32  # columns that are decoded side by side: each of them holds a decompressed page or more


def read_parquet(
    path: Path,
    columns: Sequence[str] | None,
    text: Collection[str],
    keep: Collection[str],
    drop: Collection[str] = (),
    conventions: Conventions = USUAL_CONVENTIONS,
) -> tuple[dict[str, Builder], dict[str, str]]:
    """The columns of a file, these alone or all, and why which were left out.

    text : these stay text where there is but true and false
    keep : these are not left out
    drop : these are
    """
    from pyarrow import parquet

    with _parquet_errors(path):
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            metadata, schema = file.metadata, file.schema_arrow
        check_names(schema.names)
        require(columns or (), schema.names, "column")
        require(list(drop), schema.names, "column to drop")
        left_out = _left_out(schema, {*keep, *(columns or ())}) | dict.fromkeys(drop, DROPPED)
        names = [name for name in schema.names if name not in left_out and (columns is None or name in columns)]
        builders = {name: Builder(name, name in text, conventions) for name in names}
        declared = _declared_categories(metadata)
        texts = [name for name in names if is_text(schema.field(name).type)]
        texts = _dictionary_readable(metadata, texts)
        # Without a unit, Arrow reads INT96 as nanoseconds, and dates beyond 2262 become others: 9999-12-31 is in 1816.
        with parquet.ParquetFile(
            path, read_dictionary=texts, pre_buffer=False, coerce_int96_timestamp_unit="us"
        ) as file:
            for first in range(0, len(names), PARQUET_GROUP):
                group = names[first : first + PARQUET_GROUP]
                for batch in file.iter_batches(BATCH_ROWS, columns=group, use_threads=False):
                    for name, array in zip(batch.schema.names, batch.columns, strict=True):
                        builders[name].add(array.dictionary_encode() if name in declared else array)
        return builders, left_out if columns is None else {}


def read_arrow(
    path: Path,
    columns: Sequence[str] | None,
    text: Collection[str],
    keep: Collection[str],
    drop: Collection[str] = (),
    conventions: Conventions = USUAL_CONVENTIONS,
) -> tuple[dict[str, Builder], dict[str, str]]:
    """The same of an Arrow IPC file (Feather), or of a stream of that format in a file."""
    with _parquet_errors(path), pa.memory_map(str(path)) as file:
        reader, whole = _opened(file)
        schema = reader.schema
        check_names(schema.names)
        require(columns or (), schema.names, "column")
        require(list(drop), schema.names, "column to drop")
        left_out = _left_out(schema, {*keep, *(columns or ())}) | dict.fromkeys(drop, DROPPED)
        names = [name for name in schema.names if name not in left_out and (columns is None or name in columns)]
        builders = {name: Builder(name, name in text, conventions) for name in names}
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if whole else reader
        for batch in batches:
            for name in names:
                builders[name].add(batch.column(name))
        return builders, left_out if columns is None else {}


def _opened(file: Any) -> tuple[Any, bool]:
    """Arrow's reader, and whether it is of a file; else it is of a stream."""
    whole = file.read(6) == b"ARROW1"
    file.seek(0)
    reader = pa.ipc.open_file(file) if whole else pa.ipc.open_stream(file)
    if KEY in (reader.schema.metadata or {}):
        raise TableError("it is a store, whose rows are encoded; expected the table that it was made of, or its like.")
    return reader, whole


def arrow_names(path: Path) -> list[str]:
    """The names of the columns."""
    with _parquet_errors(path), pa.memory_map(str(path)) as file:
        return list(_opened(file)[0].schema.names)


def parquet_names(path: Path) -> list[str]:
    """The names of the columns."""
    from pyarrow import parquet

    with _parquet_errors(path), parquet.ParquetFile(path, pre_buffer=False) as file:
        return list(file.schema_arrow.names)


def _left_out(schema: pa.Schema, keep: Collection[str]) -> dict[str, str]:
    """The columns that are none for us, or indexes that pandas wrote beside the table's own columns; and why."""
    indexes = pandas_indexes(schema)
    reasons = {}
    for name, type_ in zip(schema.names, schema.types, strict=True):
        reason = INDEX if name in indexes else unreadable(type_)
        if reason and name not in keep:
            reasons[name] = reason
    return reasons


def _declared_categories(metadata: Any) -> set[str]:
    """Columns of numbers that were a pandas category or an Arrow dictionary when they were written.

    Arrow reads only texts back as dictionaries; what type a column had is in the file's own Arrow schema.
    """
    written = (metadata.metadata or {}).get(b"ARROW:schema")
    if written is None:
        return set()
    try:
        schema = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(written)))
    except (pa.ArrowException, OSError, ValueError):
        return set()  # Arrow itself, which reads the columns, decides whether the file is damaged.
    types = zip(schema.names, schema.types, strict=True)
    return {name for name, type_ in types if _is_dictionary_of_numbers(type_)}


def _is_dictionary_of_numbers(type_: pa.DataType) -> bool:
    return pa.types.is_dictionary(type_) and is_category(type_) and not is_text(type_.value_type)


# Arrow can decode texts of these encodings into a dictionary; those of DELTA_BYTE_ARRAY, for example, it refuses to.
_DICTIONARY_ENCODINGS = frozenset(["PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "RLE", "BIT_PACKED"])


def _dictionary_readable(metadata: Any, texts: Collection[str]) -> list[str]:
    """Those of the text columns that can be read as dictionaries in all row groups, which is faster and smaller."""
    readable = []
    places = {metadata.schema.column(j).path: j for j in range(len(metadata.schema)) if texts}
    groups = range(metadata.num_row_groups)
    for name in texts:
        encodings = {encoding for i in groups for encoding in metadata.row_group(i).column(places[name]).encodings}
        if encodings <= _DICTIONARY_ENCODINGS:
            readable.append(name)
    return readable


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    """Arrow's errors as what they are: not all of them mean that the file is damaged."""
    try:
        yield
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise TableError(f"{path}: it has text that is not UTF-8; write the file again with UTF-8 text.") from None
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path}: {_said(error)}") from None


def _said(error: Exception) -> str:
    """What an error of Arrow's means to someone who sees a file."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, pa.ArrowNotImplementedError) or "ot yet implemented" in reason or "NotImplemented" in reason:
        return f"pyarrow {pa.__version__} cannot read this kind of file ({reason}); write it in another way."
    if isinstance(error, MemoryError):
        return f"there is not enough memory to read it ({reason})."
    if "decrypt" in reason or "encrypted" in reason:
        return f"the file is encrypted ({reason}); expected one that is not."
    if isinstance(error, OSError) and error.errno:
        return f"it cannot be read: {error.strerror or reason}."
    return f"the file is damaged or cut short ({reason})."
