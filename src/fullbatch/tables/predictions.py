"""Predictions of a raw table as a file: CSV or Parquet, block by block."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fullbatch.errors import TableError

if TYPE_CHECKING:
    from fullbatch.tables.in_pieces import TableInPieces
    from fullbatch.tables.kept import Kept
    from fullbatch.tables.network import TableNetwork

ENDINGS = (".csv", ".csv.gz", ".parquet")
ROWS = 65_536  # So many rows are predicted and written at a time, so that memory does not grow with the table.


def ending_of(name: str) -> str | None:
    """The known ending of a file name, or None."""
    return next((ending for ending in ENDINGS if name.lower().endswith(ending)), None)


def write_predictions(
    model: TableNetwork, rows: TableInPieces, file: IO[bytes], ending: str = ".csv", kept: Kept | None = None
) -> None:
    """Write ``prediction`` and, of a classification, ``probability_<class>``, in the order of the rows, as they come.

    file : open for writing bytes;  ending : one of ENDINGS;  kept : columns that come before them
    """
    batches = _batches(model, rows)
    if ending == ".parquet":
        _write_parquet(batches if kept is None else _beside(kept.typed_blocks(ROWS), batches), file)
    elif ending == ".csv.gz":
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0) as compressed:
            _write_csv(batches, compressed, kept)
    else:
        _write_csv(batches, file, kept)


def names_of(model: TableNetwork) -> list[str]:
    """The columns of predictions."""
    return ["prediction", *map(probability_name, model.classes)]


def _beside(kept: Iterator[Any], batches: Iterator[Any]) -> Iterator[Any]:
    """Columns that are kept, and predictions, together."""
    import pyarrow as pa

    for batch in batches:
        block = next(kept, None)
        if block is None or block.num_rows != batch.num_rows:
            raise TableError("the table has other rows than before: it was changed while predictions were made.")
        named = dict(zip(block.schema.names, block.columns, strict=True))
        yield pa.table({**named, **dict(zip(batch.schema.names, batch.columns, strict=True))})


def _batches(model: TableNetwork, rows: TableInPieces) -> Iterator[Any]:
    import pyarrow as pa

    for part in rows.predicted(ROWS):
        columns: dict[str, np.ndarray] = {}
        if model.task == "classify":
            proba = part.made
            columns["prediction"] = model.decided(proba)
            columns.update((probability_name(label), proba[:, j]) for j, label in enumerate(model.classes))
        else:
            columns["prediction"] = model.encoding.decode_target(part.made)
        yield pa.RecordBatch.from_pydict({name: _as_arrow(values) for name, values in columns.items()})


def _as_arrow(values: np.ndarray) -> Any:
    """As ``pyarrow.array`` does, which first imports pandas where there is one: that takes longer than to predict."""
    import pyarrow as pa

    kind, m = values.dtype.kind, len(values)
    if kind in "iuf" and values.dtype.isnative:
        buffer = pa.py_buffer(np.ascontiguousarray(values))
        return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), m, [None, buffer])
    texts = values.tolist()
    if kind not in "OU" or not all(isinstance(text, str) for text in texts):
        return pa.array(texts)
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), m, [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def probability_name(label: Any) -> str:
    """The name of a class's column; true and false as the ``prediction`` column has them."""
    return f"probability_{str(label).lower() if isinstance(label, bool) else label}"


def _write_parquet(batches: Iterator[Any], file: IO[bytes]) -> None:
    from pyarrow import parquet

    first = next(batches)
    with parquet.ParquetWriter(file, first.schema) as writer:
        writer.write(first)
        for batch in batches:
            writer.write(batch)


def _write_csv(batches: Iterator[Any], file: Any, kept: Kept | None) -> None:
    import pyarrow as pa
    from pyarrow.csv import WriteOptions, write_csv

    if kept is not None:
        _write_csv_beside(_beside(kept.blocks(ROWS), batches), file)
        return
    style = None
    for batch in batches:
        if style is None:
            file.write(_header(batch.schema.names))
            # Arrow quotes all texts or none. Whether a class needs quotes is seen by the header, where all of them are.
            style = "needed" if any(_needs_quotes(name) for name in batch.schema.names) else "none"
        rows = pa.BufferOutputStream()
        write_csv(batch, rows, WriteOptions(include_header=False, quoting_style=style))
        file.write(rows.getvalue())


def _write_csv_beside(tables: Iterator[Any], file: Any) -> None:
    """Where any text can be among the values, so that each is looked at."""
    from fullbatch.tables.kept import csv_lines

    for number, table in enumerate(tables):
        lines = csv_lines(list(zip(table.schema.names, table.columns, strict=True)))
        file.write((b"" if number else _header(table.schema.names)) + lines)


def _header(names: list[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(names)
    return line.getvalue().encode()


def _needs_quotes(text: str) -> bool:
    return _header([text, ""]) != f"{text},\n".encode()
