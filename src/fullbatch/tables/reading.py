"""Tables from files: CSV, Parquet and Arrow IPC, read batch by batch into codes and numbers.

A text column becomes small integer codes while it is read, so that neither Python's strings nor Arrow's exist
for the whole table. Dates, times and durations become seconds (dates: since 1970).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from fullbatch.docstrings import described
from fullbatch.errors import TableError
from fullbatch.tables.csv import csv_names, read_csv
from fullbatch.tables.dates import DateFormats
from fullbatch.tables.indexes import without_row_numbers
from fullbatch.tables.inputs import FORMATS, files_of, kind_of, seekable
from fullbatch.tables.joining import as_numbers, check_same_columns, differing, joined, one_format, with_values
from fullbatch.tables.parquet import arrow_names, parquet_names, read_arrow, read_parquet
from fullbatch.tables.raw import DROPPED, USUAL, Conventions, MissingWords, RawTable, finish, listed


@described({})
def read_table(
    paths: str | Path | Sequence[str | Path],
    *,
    columns: Sequence[str] | None = None,
    text: Collection[str] = (),
    keep: Collection[str] = (),
    format: str | None = None,
    drop: Collection[str] = (),
    missing: MissingWords | Collection[str] = USUAL,
    decimal: str = ".",
    date_format: str | Sequence[str] | Mapping[str, str] | DateFormats = (),
) -> RawTable:
    """Read a table from a file, or from several: CSV, Parquet or Arrow IPC (Feather).

    A CSV file is UTF-8 with a header; comma, semicolon, tab or "|" separate its values, or what a first line as
    "sep=;" says; it may be compressed (gzip, zstd, bz2). The files of one table have the same columns, in any order.

    Parameters
    ----------
    paths : str, Path or a sequence of them
        Each may be a pattern (``part-*.csv``), a folder, whose ``year=2024`` become columns, or "-", standard input.
    columns : sequence of str, optional
        Read these alone (the order in the file is kept); None: all of them.
    text : collection of str
        Columns that are text whatever they look like (at prediction: ``TableEncoding.text_names``).
    keep : collection of str
        Columns that are not left out: without ``columns``, row numbers that pandas or R wrote are, and columns of
        lists, structs, UUIDs or bytes (which then are an error); ``RawTable.left_out`` says which and why.
    format : str, optional
        "csv", "tsv", "parquet" or "arrow", where no name's ending says it.
    drop : collection of str
        Columns that are not read.
    missing : sequence of str, or MissingWords
        More words for a missing value, or, as ``MissingWords``, all of them. One that is a number or a date, such as
        "-999", stands for it among numbers or dates too, in files of any kind.
    decimal : str
        The mark between the whole part of a number and its fraction, "." or ",". The separator of a CSV file has to be
        another one. A number with thousands apart, 1.234,5, is a text.
    date_format : str, sequence of str, or mapping
        Formats of dates as ``datetime.strptime`` has them: of some columns (``{"born": "%d/%m/%Y"}``), all values of
        which must have theirs; or one or several for any column of text, where one fits all of its values. Without it,
        columns are dates whose values are all written by ISO 8601, or so that of the known formats (with four digits
        for the year) one alone fits them: 31/12/2024 does, 3/4/2024 needs a day above 12 in another row.

    Returns
    -------
    RawTable
        The columns as codes and numbers; dates, times and durations are seconds.

    Raises
    ------
    TableError
        No such file, not a table, a damaged one, no rows, ragged rows, unknown or duplicate column names, files with
        other columns, a date of another format than that of its column, a format that no column has.
    InputError
        A decimal mark that separates the values, or is none; what is no format of dates.

    Examples
    --------
    >>> import fullbatch as fb, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "sales.csv"
    >>> _ = path.write_text("day;price\\n03.02.2024;4,5\\n04.02.2024;5,25\\n")
    >>> table = fb.read_table(path, decimal=",", date_format={"day": "%d.%m.%Y"})
    >>> table.column("price").values.tolist()
    [4.5, 5.25]
    >>> (table.column("day").values / 86_400).tolist()
    [19756.0, 19757.0]
    """
    if format is not None and format not in FORMATS:
        raise TableError(f"the format is {format!r}; expected one of {listed(list(FORMATS), 'or')}.")
    files = files_of(paths)
    dates = DateFormats.of(date_format)
    conventions = Conventions(MissingWords.given(missing), decimal, dates)
    table = read_files(files, Wanted(columns, text, keep, format, drop, conventions))
    check_formats(table, dates)
    return table


def check_formats(table: RawTable, dates: DateFormats) -> None:
    """TableError for a format that was given and has no column to read."""
    table.require(list(dates.named), "column of dates")
    for name, text in dates.named.items():
        if not table.columns[name].time:
            raise TableError(f"column {name!r} holds no texts, which the date format {text!r} could read.")
    read_by = {column.format for column in table.columns.values()}
    if useless := [text for text in dates.anywhere if text not in read_by]:
        raise TableError(f"the date format {useless[0]!r} fits no column of text in all of its values.")


def read_by_conventions(
    paths: Sequence[str], conventions: Conventions, columns: Sequence[str] | None, text: Collection[str]
) -> RawTable:
    """Read a table as the one was that a model learned from."""
    return read_files(files_of(paths), Wanted(columns, text, (), None, (), conventions))


class Wanted(NamedTuple):
    """What ``read_table`` was asked for."""

    columns: Sequence[str] | None
    text: Collection[str]
    keep: Collection[str]
    form: str | None
    drop: Collection[str]
    conventions: Conventions


def read_files(files: dict[Path, dict[str, str | None]], wanted: Wanted) -> RawTable:
    """The table of these files, and of the values that their folders give."""
    with _lean_memory():
        if len(files) == 1 and not any(files.values()):
            return _read_file(next(iter(files)), wanted)
        return _read_files(files, wanted)


def _read_files(files: dict[Path, dict[str, str | None]], wanted: Wanted) -> RawTable:
    columns, text = wanted.columns, wanted.text
    partitions = list(dict.fromkeys(name for values in files.values() for name in values))
    inner = None if columns is None else [name for name in columns if name not in partitions]
    dropped = [name for name in wanted.drop if name not in partitions]

    def read(path: Path, more_text: Collection[str] = (), preferred: Mapping[str, str] | None = None) -> RawTable:
        dates = replace(wanted.conventions.dates, preferred=preferred or {})
        conventions = replace(wanted.conventions, dates=dates)
        asked = wanted._replace(columns=inner, text={*text, *more_text}, drop=dropped, conventions=conventions)
        table = _read_file(path, asked)
        values = {name: value for name, value in files[path].items() if columns is None or name in columns}
        return with_values(table, {name: value for name, value in values.items() if name not in wanted.drop})

    tables = {path: read(path) for path in files}
    check_same_columns({str(path): table for path, table in tables.items()})
    if formats := one_format(list(tables.values())):
        # Which format dates have may be seen in one file alone: 31/12/2024 in one, 3/4/2024 in the next.
        tables = {path: read(path, (), formats) for path in files}
    if other := differing(list(tables.values())):
        # Where a column is one of numbers in one CSV file and of texts in the next, it is one of texts.
        tables = {path: read(path, other, formats) for path in files}
        if still := differing(list(tables.values())):
            kinds = " and ".join(sorted({table.columns[still[0]].kind for table in tables.values()}))
            raise TableError(f"column {still[0]!r} differs among the files: {kinds}; expected one kind.")
    table = joined(list(tables.values()))
    return as_numbers(table, [name for name in partitions if name in table.names and name not in text])


def _read_file(path: Path, wanted: Wanted) -> RawTable:
    columns, text, keep, form, drop, conventions = wanted
    shown = Path("standard input") if str(path) == "-" else path
    with seekable(path, form) as file:
        try:
            kind, compression = kind_of(file, shown, form)
            if kind != "csv":
                read = read_parquet if kind == "parquet" else read_arrow
                return finish(str(shown), *read(file, columns, text, keep, drop, conventions))
            builders, delimiter = read_csv(file, compression, columns, text, drop, conventions)
            table = finish(str(shown), builders, dict.fromkeys(drop, DROPPED), delimiter)
        except TableError as error:  # The user does not know the copy of what can be read but once.
            raise TableError(str(error).replace(str(file), str(shown))) from None
    return table if columns is not None else without_row_numbers(table, keep)


def read_names(path: str | Path | Sequence[str | Path]) -> list[str]:
    """The names of the first file's columns, without reading rows. Raises TableError as ``read_table`` does."""
    first = next(iter(files_of(path)))
    kind, compression = kind_of(first, first, None)
    if kind == "csv":
        return csv_names(first, compression)
    return parquet_names(first) if kind == "parquet" else arrow_names(first)


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
