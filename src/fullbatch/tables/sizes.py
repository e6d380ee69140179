"""How many rows files have, found without reading what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from fullbatch.tables import parquet
from fullbatch.tables.inputs import kind_of
from fullbatch.tables.rows import Rows


def rows_of(files: Iterable[Path], enough: int) -> int:
    """The rows of all files, those of CSV files by their line ends; 0 where they are certainly not more than enough.

    A pipe has no rows: it can be read but once.
    """
    found = [(path, *kind_of(path, path, None)) for path in files if path.is_file()]
    # A row of a CSV file has two bytes at least.
    plain = all(kind == "csv" and compression is None for _, kind, compression in found)
    if plain and sum(path.stat().st_size for path, *_ in found) // 2 <= enough:
        return 0
    return sum(_rows(path, kind, compression) for path, kind, compression in found)


def _rows(path: Path, kind: str, compression: str | None) -> int:
    if kind == "csv":
        return sum(block.count(b"\n") for block in Rows(path, compression).blocks())
    with parquet._parquet_errors(path):
        if kind == "parquet":
            from pyarrow.parquet import read_metadata

            return int(read_metadata(path).num_rows)
        with pa.memory_map(str(path)) as mapped:
            reader, whole = parquet._opened(mapped)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if whole else reader
            return sum(batch.num_rows for batch in batches)
