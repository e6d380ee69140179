"""Tables from files: CSV, Parquet and Arrow IPC, read batch by batch into codes and numbers.

A text column becomes small integer codes while it is read, so that neither Python's strings nor Arrow's exist
for the whole table. Dates, times and durations become seconds (dates: since 1970).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from fullbatch.errors import TableError
from fullbatch.tables.csv import read_csv
from fullbatch.tables.indexes import without_row_numbers
from fullbatch.tables.inputs import FORMATS, files_of, kind_of, seekable
from fullbatch.tables.joining import as_numbers, check_same_columns, differing, joined, with_values
from fullbatch.tables.parquet import read_arrow, read_parquet
from fullbatch.tables.raw import RawTable, finish, listed


def read_table(
    paths: str | Path | Sequence[str | Path],
    *,
    columns: Sequence[str] | None = None,
    text: Collection[str] = (),
    keep: Collection[str] = (),
    format: str | None = None,
) -> RawTable:
    """Read a table from a file, or from several: CSV, Parquet or Arrow IPC (Feather).

    paths : a path, or several; each may be a pattern (``part-*.csv``), a folder, whose ``year=2024`` become columns, or
        "-", standard input
    columns : read these alone (the order in the file is kept); None: all of them
    text : columns that are text whatever they look like (at prediction: ``TableEncoding.text_names``)
    keep : columns that are not left out: without ``columns``, row numbers that pandas or R wrote are, and columns of
        lists, structs, UUIDs or bytes (which then are an error); ``RawTable.left_out`` says which and why
    format : "csv", "tsv", "parquet" or "arrow", where no name's ending says it

    A CSV file is UTF-8 with a header; comma, semicolon or tab separate its values; it may be compressed (gzip, zstd,
    bz2). The files of one table have the same columns, in any order. Raises TableError: no such file, not a table, a
    damaged one, no rows, ragged rows, unknown or duplicate column names, files with other columns.
    """
    if format is not None and format not in FORMATS:
        raise TableError(f"the format is {format!r}; expected one of {listed(list(FORMATS), 'or')}.")
    files = files_of(paths)
    with _lean_memory():
        if len(files) == 1 and not any(files.values()):
            return _read_file(next(iter(files)), columns, text, keep, format)
        return _read_files(files, columns, text, keep, format)


def _read_files(
    files: dict[Path, dict[str, str | None]],
    columns: Sequence[str] | None,
    text: Collection[str],
    keep: Collection[str],
    form: str | None,
) -> RawTable:
    partitions = list(dict.fromkeys(name for values in files.values() for name in values))
    inner = None if columns is None else [name for name in columns if name not in partitions]

    def read(path: Path, more_text: Collection[str] = ()) -> RawTable:
        table = _read_file(path, inner, {*text, *more_text}, keep, form)
        values = {name: value for name, value in files[path].items() if columns is None or name in columns}
        return with_values(table, values)

    tables = {path: read(path) for path in files}
    check_same_columns({str(path): table for path, table in tables.items()})
    if other := differing(list(tables.values())):
        # Where a column is one of numbers in one CSV file and of texts in the next, it is one of texts.
        tables = {path: read(path, other) for path in files}
        if still := differing(list(tables.values())):
            kinds = " and ".join(sorted({table.columns[still[0]].kind for table in tables.values()}))
            raise TableError(f"column {still[0]!r} differs among the files: {kinds}; expected one kind.")
    table = joined(list(tables.values()))
    return as_numbers(table, [name for name in partitions if name in table.names and name not in text])


def _read_file(
    path: Path, columns: Sequence[str] | None, text: Collection[str], keep: Collection[str], form: str | None
) -> RawTable:
    shown = Path("standard input") if str(path) == "-" else path
    with seekable(path, form) as file:
        try:
            kind, compression = kind_of(file, shown, form)
            if kind != "csv":
                read = read_parquet if kind == "parquet" else read_arrow
                return finish(str(shown), *read(file, columns, text, keep))
            table = finish(str(shown), read_csv(file, compression, columns, text))
        except TableError as error:  # The user does not know the copy of what can be read but once.
            raise TableError(str(error).replace(str(file), str(shown))) from None
    return table if columns is not None else without_row_numbers(table, keep)


@contextmanager
def _lean_memory() -> Iterator[None]:
    """Let Arrow take memory from the system: its own allocators keep what they once had, 50 MB for a file of 7."""
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.default_memory_pool().release_unused()
        pa.set_memory_pool(usual)
