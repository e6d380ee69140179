"""Tables in memory as raw tables: data frames, Arrow's tables and streams, dicts of columns, NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from fullbatch.core import door
from fullbatch.errors import TableError
from fullbatch.machine import arrays
from fullbatch.tables.inputs import files_of
from fullbatch.tables.raw import (
    USUAL_CONVENTIONS,
    Builder,
    Conventions,
    RawTable,
    check_names,
    finish,
    require,
    unreadable,
)
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
    drop: Collection[str] = (),
) -> RawTable:
    """A raw table of what a caller has; a path, or several, is read from its file.

    columns : these alone, in the order that they have there; None: all of them
    text : columns that stay text where there is nothing but true and false
    conventions : how its values are written
    drop : columns that nobody will ask for: whatever they hold is no error

    Columns of an array are called x0, x1, ... A stream that can be read only once is read once. A column of a type that
    has no meaning here is left out, and ``left_out`` says why, as of a file. Raises TableError, with the column's name,
    for what is no table or a column that is of no one type.
    """
    if isinstance(X, RawTable):
        X = X if columns is None else replace(X, columns={name: X.column(name) for name in columns})
        return X.with_missing(conventions.missing)
    if paths := paths_of(X):
        return read_by_conventions(paths, conventions, columns, text)
    if hasattr(X, "nnz") and hasattr(X, "toarray"):
        raise TableError("X is a sparse matrix, which is no table; give X.toarray(), or take MLPClassifier, as it is.")
    X = _array_of(X)
    if isinstance(X, np.ndarray):
        X = _named(X)
    if _is_pandas(X):
        X = _columns_of_pandas(X)
    if isinstance(X, Mapping):
        require(columns or (), [str(name) for name in X], "column")
        wanted = {str(name): values for name, values in X.items() if _is_wanted(name, columns)}
        made = {name: [_arrow(name, values, dropped=name in drop)] for name, values in wanted.items()}
        return _built(made, text, conventions)
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
        return _on_host("X", X)
    if isinstance(X, (list, tuple)):
        # Of objects, so that each column keeps its own type, where NumPy would make texts of a row with one text.
        rows = np.empty((len(X), len(X[0]) if X and isinstance(X[0], (list, tuple)) else 0), dtype=object)
        if not rows.shape[1] or not all(isinstance(row, (list, tuple)) and len(row) == rows.shape[1] for row in X):
            raise TableError("a list is a table where it has rows, each of them a list, and all of one length.")
        rows[:] = X
        return rows
    plain = hasattr(X, "__array__") and not hasattr(X, "__arrow_c_stream__") and not hasattr(X, "columns")
    return np.asarray(X) if plain else X


# The number of the first type that a package adds to NumPy: bfloat16, float8 and int4 of ml_dtypes, which JAX has too.
# A float32 holds all of their values, and Arrow knows none of them.
_ADDED_TO_NUMPY = 256


def _on_host(name: str, array: Any) -> np.ndarray:
    """Any library's array as NumPy's; floats of torch that NumPy lacks (bfloat16, float8) as float32, which has all."""
    array = door.admitted(name, array)
    if str(getattr(array, "dtype", "")).startswith(("torch.bfloat16", "torch.float8")):
        array = array.float()
    return arrays.to_host(array)


def _named(X: np.ndarray) -> dict[str, np.ndarray]:
    if X.ndim == 1 and X.dtype.names:
        return {name: X[name] for name in X.dtype.names}
    if X.ndim != 2:
        raise TableError(
            f"an array of shape {X.shape} is no table; expected one of two axes, a row for each example. Reshape your "
            "data: X.reshape(-1, 1) if it has a single column, X.reshape(1, -1) if it is a single row."
        )
    if not X.shape[1]:
        raise TableError(f"X has 0 feature(s) (shape={X.shape}) while a minimum of 1 is required.")
    return {f"x{j}": X[:, j] for j in range(X.shape[1])}


def _arrow(name: str, values: Any, *, dropped: bool = False) -> pa.Array:
    """The values as Arrow has them; those of a column to be dropped may be of any kind, and are null then."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if getattr(getattr(values, "dtype", None), "kind", "") == "c":
        raise TableError(f"column {name!r} holds complex numbers. Complex data not supported; give real columns.")
    values = _taken_by_arrow(values)
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        if dropped:
            return pa.nulls(len(values))
        reason = str(error).splitlines()[0]
        raise TableError(
            f"column {name!r} holds values of more than one kind, or none that is known ({reason}); make them of one "
            "kind, or give a table without it."
        ) from None
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _taken_by_arrow(values: Any) -> Any:
    """The same values as Arrow takes them: it refuses other libraries' arrays, and some types of NumPy and pandas."""
    if arrays.is_array(values) and not isinstance(values, np.ndarray):
        values = _on_host("a column", values)
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, np.dtype):
        if dtype.num >= _ADDED_TO_NUMPY:
            return values.astype(np.float32)
        if dtype.kind == "U":
            return values.tolist()
        if dtype.kind == "f" and dtype.itemsize > 8:
            return values.astype(np.float64)
        if dtype.kind in "Mm" and np.datetime_data(dtype) not in _TIMES_OF_ARROW[dtype.kind]:
            return values.astype(f"{dtype.kind}8[s]")
        return values if dtype.isnative else values.astype(dtype.newbyteorder("="))
    # pandas' own types go by their names, since pandas need not be installed.
    if type(dtype).__name__ == "SparseDtype":
        return np.asarray(values)
    if type(dtype).__name__ == "IntervalDtype":
        return values.astype("string")
    if type(getattr(getattr(dtype, "categories", None), "dtype", None)).__name__ == "IntervalDtype":
        return getattr(values, "cat", values).rename_categories(str)  # What pandas.cut gives.
    return values


# The unit and how many of it NumPy's times count, where Arrow has the same.
_TIMES_OF_ARROW = {
    kind: {(unit, 1) for unit in units}
    for kind, units in {"M": ("D", "s", "ms", "us", "ns"), "m": ("s", "ms", "us", "ns")}.items()
}


def arrow_table(X: Any) -> pa.Table:
    """An Arrow table of a frame; pandas' index is no column of it, as everywhere in scikit-learn."""
    if isinstance(X, pa.Table):
        return X
    if isinstance(X, pa.RecordBatch):
        return pa.Table.from_batches([X])
    if _is_pandas(X):
        return pa.table({name: _arrow(name, values) for name, values in _columns_of_pandas(X).items()})
    if hasattr(X, "__arrow_c_stream__"):
        try:
            return pa.table(X)
        except pa.ArrowException as error:
            raise TableError(
                f"Arrow cannot read this {type(X).__name__} ({str(error).splitlines()[0]}); cast its columns of types "
                "that the other library alone has."
            ) from None
    cure = " Read it first: X.collect()." if hasattr(X, "collect") else ""
    raise TableError(f"X is of type {type(X).__module__}.{type(X).__qualname__}; expected {TAKEN}.{cure}")


def _is_pandas(X: Any) -> bool:
    return type(X).__module__.partition(".")[0] == "pandas"


def _columns_of_pandas(X: Any) -> dict[str, Any]:
    if not hasattr(X, "columns"):
        raise TableError(f"a {type(X).__name__} is one column; expected {TAKEN}.")
    names = [str(name) for name in X.columns]
    check_names(names)
    return {name: X.iloc[:, j] for j, name in enumerate(names)}


def _built(chunks: Mapping[str, Sequence[pa.Array]], text: Collection[str], conventions: Conventions) -> RawTable:
    lengths = {name: sum(map(len, parts)) for name, parts in chunks.items()}
    if len(set(lengths.values())) > 1:
        raise TableError(f"the columns of a table have one length; these have {lengths}.")
    chunks = {name: [_decoded(array) for array in parts] for name, parts in chunks.items()}
    reasons = {name: unreadable(parts[0].type) for name, parts in chunks.items() if parts}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    builders = {name: Builder(name, name in text, conventions) for name in chunks if name not in left_out}
    for name, builder in builders.items():
        for array in chunks[name]:
            builder.add(array)
    return finish("the table", builders, left_out)


def _decoded(array: pa.Array) -> pa.Array:
    """An array in which each row has its own value, of one that has a value for each run of rows."""
    if not pa.types.is_run_end_encoded(array.type):
        return array
    import pyarrow.compute as pc

    return pc.run_end_decode(array)
