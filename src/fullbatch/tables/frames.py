"""Tables in memory as raw tables: data frames, Arrow's tables and streams, dicts of columns, NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fullbatch.errors import TableError
from fullbatch.tables.raw import USUAL_CONVENTIONS, Builder, Conventions, RawTable, check_names, finish, require
from fullbatch.tables.reading import read_by_conventions

TAKEN = (
    "a pandas or polars data frame, an Arrow table, anything with __arrow_c_stream__, a dict of columns, a NumPy array "
    "of two axes, or a path"
)


def as_table(
    X: Any,
    *,
    columns: Sequence[str] | None = None,
    text: Collection[str] = (),
    conventions: Conventions = USUAL_CONVENTIONS,
) -> RawTable:
    """A raw table of what a caller has; a path is read from its file.

    columns : these alone, in the order that they have there; None: all of them
    text : columns that stay text where there is nothing but true and false
    conventions : how its values are written

    Columns of an array are called x0, x1, ... A stream that can be read only once is read once. Raises TableError, with
    the column's name, for what is no table or holds what has no meaning here.
    """
    if isinstance(X, RawTable):
        return X if columns is None else RawTable({name: X.column(name) for name in columns}, X.m)
    if isinstance(X, (str, os.PathLike)):
        return read_by_conventions(os.fspath(X), conventions, columns, text)
    if isinstance(X, np.ndarray):
        X = _named(X)
    if isinstance(X, Mapping):
        wanted = {str(name): _arrow(str(name), values) for name, values in X.items() if _is_wanted(name, columns)}
        require(columns or (), [str(name) for name in X], "column")
        return _built({name: [array] for name, array in wanted.items()}, text, conventions)
    table = _arrow_table(X)
    check_names(table.column_names)
    require(columns or (), table.column_names, "column")
    chunks = {name: table.column(name).chunks for name in table.column_names if _is_wanted(name, columns)}
    return _built(chunks, text, conventions)


def _is_wanted(name: Any, columns: Sequence[str] | None) -> bool:
    return columns is None or str(name) in columns


def _named(X: np.ndarray) -> dict[str, np.ndarray]:
    if X.ndim != 2:
        raise TableError(f"an array of shape {X.shape} is no table; expected one of two axes, a row for each example.")
    return {f"x{j}": X[:, j] for j in range(X.shape[1])}


def _arrow(name: str, values: Any) -> pa.Array:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(values, np.ndarray) and values.dtype.kind == "U":
        values = values.tolist()
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TableError(
            f"column {name!r} holds values of more than one kind, or none that is known ({reason})."
        ) from None
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _arrow_table(X: Any) -> pa.Table:
    """An Arrow table of a frame; pandas' index is no column of it, as everywhere in scikit-learn."""
    if isinstance(X, pa.Table):
        return X
    if isinstance(X, pa.RecordBatch):
        return pa.Table.from_batches([X])
    if type(X).__module__.partition(".")[0] == "pandas":
        if not hasattr(X, "columns"):
            raise TableError(f"a {type(X).__name__} is one column; expected {TAKEN}.")
        names = [str(name) for name in X.columns]
        check_names(names)
        return pa.table([_arrow(name, X.iloc[:, j]) for j, name in enumerate(names)], names=names)
    if hasattr(X, "__arrow_c_stream__"):
        return pa.table(X)
    raise TableError(f"X is of type {type(X).__module__}.{type(X).__qualname__}; expected {TAKEN}.")


def _built(chunks: Mapping[str, Sequence[pa.Array]], text: Collection[str], conventions: Conventions) -> RawTable:
    builders = {name: Builder(name, name in text, conventions) for name in chunks}
    for name, arrays in chunks.items():
        for array in arrays:
            builders[name].add(array)
    lengths = {name: builder.m for name, builder in builders.items()}
    if len(set(lengths.values())) > 1:
        raise TableError(f"the columns of a table have one length; these have {lengths}.")
    return finish("the table", builders)
