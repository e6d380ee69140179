"""Parquet into the columns of a raw table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa

from fullbatch.errors import TableError
from fullbatch.tables.raw import Builder, check_names, is_text, require

BATCH_ROWS = 65_536
PARQUET_GROUP = 32  # columns that are decoded side by side: each of them holds a decompressed page or more


def read_parquet(path: Path, columns: Sequence[str] | None, text: Collection[str]) -> dict[str, Builder]:
    """The columns of a file: these alone, or all. Those in ``text`` stay text where there is but true and false."""
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
        check_names(schema.names)
        require(columns or (), schema.names, "column")
        names = [name for name in schema.names if columns is None or name in columns]
        builders = {name: Builder(name, name in text) for name in names}
        texts = [name for name in names if is_text(schema.field(name).type)]
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
