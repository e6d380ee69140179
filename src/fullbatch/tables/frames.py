"""Tables in memory as raw tables: data frames, Arrow's tables and streams, dicts of columns, NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fullbatch.core import door
from fullbatch.errors import TableError
from fullbatch.machine import arrays
from fullbatch.tables.inputs import files_of
from fullbatch.tables.raw import USUAL_CONVENTIONS, Builder, Conventions, RawTable, check_names, finish, require
from fullbatch.tables.reading import read_by_conventions, read_names

TAKEN = (
    "a pandas or polars data frame, an Arrow table, anything with __arrow_c_stream__, a dict of columns, an array of "
    "two axes, a list of rows, or a path, or several"
)


def as_table(
    X: Any,
    *,
    columns: Sequence[str] | None = None,
    text: Collection[str] = (),
    conventions: Conventions = USUAL_CONVENTIONS,
) -> RawTable:
    """A raw table of what a caller has; a path, or several, is read from its file.

    columns : these alone, in the order that they have there; None: all of them
    text : columns that stay text where there is nothing but true and false
    conventions : how its values are written

    Columns of an array are called x0, x1, ... A stream that can be read only once is read once. Raises TableError, with
    the column's name, for what is no table or holds what has no meaning here.
    """
    if isinstance(X, RawTable):
        return X if columns is None else RawTable({name: X.column(name) for name in columns}, X.m)
    if paths := paths_of(X):
        return read_by_conventions(paths, conventions, columns, text)
    if hasattr(X, "nnz") and hasattr(X, "toarray"):
        raise TableError("X is a sparse matrix, which is no table; give X.toarray(), or take MLPClassifier, as it is.")
    X = _array_of(X)
    if isinstance(X, np.ndarray):
        X = _named(X)
    if isinstance(X, Mapping):
        wanted = {str(name): _arrow(str(name), values) for name, values in X.items() if _is_wanted(name, columns)}
        require(columns or (), [str(name) for name in X], "column")
        return _built({name: [array] for name, array in wanted.items()}, text, conventions)
    table = arrow_table(X)
    check_names(table.column_names)
    require(columns or (), table.column_names, "column")
    chunks = {name: table.column(name).chunks for name in table.column_names if _is_wanted(name, columns)}
    return _built(chunks, text, conventions)


def paths_of(X: Any) -> list[str]:
    """The path, or the paths, that X is; [] for what is a table itself."""
    given = X if isinstance(X, (list, tuple)) else [X]
    if not all(isinstance(one, (str, os.PathLike)) for one in given):
        return []
    return [os.fspath(one) for one in given]


def column_names(X: Any) -> list[str]:
    """The names of a table's columns, as far as they are known before it is read; of a file, they are in its header."""
    if paths := paths_of(X):
        first = next(iter(files_of(paths)))
        return read_names(first) if first.is_file() else []  # A pipe can be read but once.
    if getattr(X, "ndim", 0) == 2 and not hasattr(X, "columns"):
        return [f"x{j}" for j in range(X.shape[1])]
    if isinstance(X, RawTable):
        return list(X.names)
    if isinstance(X, Mapping):
        return [str(name) for name in X]
    schema = getattr(X, "schema", None)
    names = schema.names if isinstance(schema, pa.Schema) else getattr(X, "columns", ())
    return [str(name) for name in names]


def _is_wanted(name: Any, columns: Sequence[str] | None) -> bool:
    return columns is None or str(name) in columns


def _array_of(X: Any) -> Any:
    """An array of NumPy, where X is one of any library, or a list of rows; whatever else it is, as it is."""
    if arrays.is_array(X):
        return arrays.to_host(door.admitted("X", X))
    if isinstance(X, (list, tuple)):
        # Of objects, so that each column keeps its own type, where NumPy would make texts of a row with one text.
        rows = np.empty((len(X), len(X[0]) if X and isinstance(X[0], (list, tuple)) else 0), dtype=object)
        if not rows.shape[1] or not all(isinstance(row, (list, tuple)) and len(row) == rows.shape[1] for row in X):
            raise TableError("a list is a table where it has rows, each of them a list, and all of one length.")
        rows[:] = X
        return rows
    plain = hasattr(X, "__array__") and not hasattr(X, "__arrow_c_stream__") and not hasattr(X, "columns")
    return np.asarray(X) if plain else X


def _named(X: np.ndarray) -> dict[str, np.ndarray]:
    if X.ndim != 2:
        raise TableError(
            f"an array of shape {X.shape} is no table; expected one of two axes, a row for each example. Reshape your "
            "data: X.reshape(-1, 1) if it has a single column, X.reshape(1, -1) if it is a single row."
        )
    if not X.shape[1]:
        raise TableError(f"X has 0 feature(s) (shape={X.shape}) while a minimum of 1 is required.")
    return {f"x{j}": X[:, j] for j in range(X.shape[1])}


def _arrow(name: str, values: Any) -> pa.Array:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(values, np.ndarray) and values.dtype.kind == "U":
        values = values.tolist()
    if isinstance(values, np.ndarray) and values.dtype.kind == "c":
        raise TableError(f"column {name!r} holds complex numbers. Complex data not supported; give real columns.")
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TableError(
            f"column {name!r} holds values of more than one kind, or none that is known ({reason})."
        ) from None
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def arrow_table(X: Any) -> pa.Table:
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
    for name, parts in chunks.items():
        for array in parts:
            builders[name].add(array)
    lengths = {name: builder.m for name, builder in builders.items()}
    if len(set(lengths.values())) > 1:
        raise TableError(f"the columns of a table have one length; these have {lengths}.")
    return finish("the table", builders)
