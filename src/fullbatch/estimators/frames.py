"""Data frames and Arrow data as arrays of numbers: column by column, each by its type, and nothing but numbers."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import numpy as np

from fullbatch.machine import arrays

TIMES = (np.datetime64, np.timedelta64, datetime.date, datetime.time, datetime.timedelta)


def arrow_table(X: Any) -> Any:
    """X as an Arrow table, by the protocols of Arrow's or of data frames' exchange; None for what has neither.

    A pandas frame is read by scikit-learn, without a copy, unless it has columns of float32 that would lose their type.
    """
    streams = any(hasattr(type(X), name) for name in ("__arrow_c_stream__", "__arrow_c_array__"))
    if not streams and not hasattr(type(X), "__dataframe__"):
        return None
    if is_pandas(X) and all(getattr(dtype, "numpy_dtype", None) != np.float32 for dtype in X.dtypes):
        return None
    import pyarrow

    try:
        if streams:
            return X if isinstance(X, pyarrow.Table) else pyarrow.table(X)
        from pyarrow.interchange import from_dataframe

        return from_dataframe(X)
    except (pyarrow.ArrowException, TypeError):
        return None  # a single column, or a pandas frame with more than Arrow knows: scikit-learn says what it is


def is_pandas(X: Any) -> bool:
    """Whether it is a data frame of pandas, or alike."""
    return hasattr(X, "iloc") and hasattr(X, "dtypes") and getattr(X, "ndim", 0) == 2


def numbers(table: Any, dtype: str | None) -> np.ndarray:
    """An Arrow table as an array (m, n), each column in one piece; a null is NaN.

    dtype : of the array; None for what NumPy makes of the columns' types together, if that is float32, else float64
    """
    found = np.dtype(dtype) if dtype else np.result_type(*map(_number_type, table.columns), np.float16)
    out = np.empty((table.num_columns, table.num_rows), found if found.name in arrays.FLOATS else np.float64)
    for row, field, column in zip(out, table.schema, table.columns, strict=True):
        start = 0
        for chunk in column.chunks:
            try:
                row[start : start + len(chunk)] = _values(chunk)
            except (TypeError, ValueError, NotImplementedError) as error:
                raise ValueError(
                    f"X has column {field.name!r} of {field.type}, and an estimator takes numbers: {error}. Leave it "
                    "out or encode it first, as OneHotEncoder does; `fullbatch train` takes such tables as they are."
                ) from error
            start += len(chunk)
    return out.T


def _values(chunk: Any) -> np.ndarray:
    if not hasattr(chunk, "dictionary"):
        return chunk.to_numpy(zero_copy_only=False)
    # What the codes stand for, and NaN for a null. Arrow decodes no dictionary of polars's kind of text.
    levels = np.append(chunk.dictionary.to_numpy(zero_copy_only=False).astype(np.float64), np.nan)
    return levels[chunk.indices.cast("int64").fill_null(len(levels) - 1).to_numpy(zero_copy_only=False)]


def _number_type(column: Any) -> Any:
    from pyarrow import types

    kind = column.type
    if types.is_floating(kind) or ((types.is_integer(kind) or types.is_boolean(kind)) and not column.null_count):
        return np.dtype(kind.to_pandas_dtype())
    return np.dtype(np.float64)


# --- Dates and times -------------------------------------------------------------------------------------------------


def refuse_times(X: Any, table: Any = None) -> None:
    """A ValueError that names the column where X, or its Arrow ``table``, has dates, times or durations.

    Else they become integers in silence, in a unit that the column's type decides, and a missing one -9.2e18.
    """
    for name, kind in _times(X) if table is None else _arrow_times(table):
        raise ValueError(times_refused(f"X has column {name!r} of {kind}"))


def times_refused(what: str) -> str:
    return (
        f"{what}: an estimator takes numbers, and dates and times are made none in silence. Encode them first, for "
        "example as days since a date that you choose, or as year, month and weekday; the tables of `fullbatch train` "
        "take them as they are."
    )


def _arrow_times(table: Any) -> Iterator[tuple[str, str]]:
    from pyarrow import types

    for field in table.schema:
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if types.is_temporal(kind):
            yield field.name, str(field.type)


def _times(X: Any) -> Iterator[tuple[Any, str]]:
    if is_pandas(X):
        for position, (name, dtype) in enumerate(zip(X.columns, X.dtypes, strict=True)):
            if _is_time(dtype):
                yield name, f"category of {dtype.categories.dtype}" if hasattr(dtype, "categories") else str(dtype)
            elif isinstance(dtype, np.dtype) and dtype.kind == "O" and (kind := _first_time(X.iloc[:, position])):
                yield name, kind
    elif isinstance(X, np.ndarray) and X.dtype.kind in "mM":
        yield 0, str(X.dtype)
    elif isinstance(X, np.ndarray) and X.dtype.kind == "O" and X.ndim == 2:
        for position, column in enumerate(X.T):
            if kind := _first_time(column):
                yield position, kind


def _is_time(dtype: Any) -> bool:
    """Whether a pandas column's type is of times; of a categorical one, whether its categories are."""
    if hasattr(dtype, "categories"):
        return _is_time(dtype.categories.dtype)
    if hasattr(dtype, "pyarrow_dtype"):
        from pyarrow import types

        return bool(types.is_temporal(dtype.pyarrow_dtype))
    name = str(dtype)
    return dtype.kind in "mM" or name.startswith(("period", "interval[datetime", "interval[timedelta"))


def _first_time(column: Any) -> str:
    return next((type(value).__name__ for value in column if isinstance(value, TIMES)), "")
