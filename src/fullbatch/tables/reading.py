"""Tables from files: CSV, CSV.gz and Parquet, read batch by batch into codes and numbers.

A text column becomes small integer codes while it is read, so that neither Python's strings nor Arrow's exist
for the whole table. Dates, times and durations become seconds (dates: since 1970).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from fullbatch.errors import TableError
from fullbatch.tables.csv import csv_names, read_csv
from fullbatch.tables.indexes import without_row_numbers
from fullbatch.tables.parquet import parquet_names, read_parquet
from fullbatch.tables.raw import DROPPED, USUAL, MissingWords, RawTable, finish, listed


def read_table(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    text: Collection[str] = (),
    keep: Collection[str] = (),
    drop: Collection[str] = (),
    missing: MissingWords = USUAL,
) -> RawTable:
    """Read a CSV, CSV.gz or Parquet file.

    columns : read these alone (the order in the file is kept); None: all of them
    text : columns that are text whatever they look like (at prediction: ``TableEncoding.text_names``)
    keep : columns that are not left out: without ``columns``, row numbers that pandas or R wrote are, and columns of
        lists, structs, UUIDs or bytes (which then are an error); ``RawTable.left_out`` says which and why
    drop : columns that are not read
    missing : the texts that stand for a missing value

    A CSV file is UTF-8 with a header; comma, semicolon or tab separate its values. Raises TableError: no such
    file, not a table, a damaged one, no rows, ragged rows, unknown or duplicate column names.
    """
    path = Path(path)
    kind = _kind(path)
    with _lean_memory():
        if kind == "parquet":
            return finish(str(path), *read_parquet(path, columns, text, keep, drop, missing))
        compression = "gzip" if kind == "csv.gz" else None
        builders = read_csv(path, compression, columns, text, drop, missing)
        table = finish(str(path), builders, dict.fromkeys(drop, DROPPED))
        return table if columns is not None else without_row_numbers(table, keep)


def read_names(path: str | Path) -> list[str]:
    """The names of a file's columns, without reading its rows. Raises TableError as ``read_table`` does."""
    path = Path(path)
    kind = _kind(path)
    return parquet_names(path) if kind == "parquet" else csv_names(path, "gzip" if kind == "csv.gz" else None)


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
    return f"No such file: {path}." + (f" Did you mean {listed(near, 'or')}?" if near else "")
