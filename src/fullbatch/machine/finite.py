"""Whether a caller's numbers are finite, and where the first is that is not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fullbatch.errors import InputError
from fullbatch.machine import arrays

AT_ONCE = 2**20  # elements that are looked at in one go, so that a check needs no array of the table's size
WORTH_A_THREAD = 4  # so many blocks take about a millisecond


def check_finite(table: Any, name: str, columns: Any = None, *, threads: int = 1) -> None:
    """InputError, with the row and the column, where a host or device array of one or two axes is not finite.

    A large array on the host is read by up to ``threads`` threads: beside an epoch of mini-batches one takes long.
    """
    blocks = list(row_blocks(table))
    parts = min(threads, len(blocks) // WORTH_A_THREAD) if arrays.is_numpy(table) else 1
    if parts > 1:
        with ThreadPoolExecutor(parts) as pool:
            if all(pool.map(lambda part: all(_is_finite(rows) for _, rows in blocks[part::parts]), range(parts))):
                return
    for start, rows in blocks:
        if _is_finite(rows):
            continue
        block = arrays.to_host(rows)
        at = np.argwhere(~np.isfinite(block))[0]
        value = float(block[tuple(at)])
        raise InputError(not_finite(name, value, block.dtype, int(at[0]) + start, at[1:], columns))


def _is_finite(rows: Any) -> bool:
    xp = arrays.namespace(rows)
    with arrays.quiet():  # a finite sum is a finite block; an infinite one may be an overflow, so look closer
        # einsum adds in fewer steps than sum, in two thirds of the time.
        total = np.einsum("ij->", rows) if arrays.is_numpy(rows) and rows.ndim == 2 else xp.sum(rows)
        return bool(xp.isfinite(total)) or bool(xp.all(xp.isfinite(rows)))


def row_blocks(table: Any) -> Iterator[tuple[int, Any]]:
    """The rows of an array of one or two axes in blocks, each after the number of its first row."""
    m = int(table.shape[0])
    step = max(1, AT_ONCE // max(1, int(table.shape[-1]) if table.ndim == 2 else 1))
    for start in range(0, m, step):
        rows = slice(start, min(start + step, m))
        yield start, table[rows, :] if table.ndim == 2 else table[rows]


def not_finite(name: str, value: float, dtype: Any, row: int, column: Any, columns: Any) -> str:
    """What is wrong with a value that is not finite, in scikit-learn's words as far as they go, and the cure."""
    kind = "NaN" if np.isnan(value) else f"infinity or a value too large for {dtype!r}"
    where = f"row {row}"
    if len(column):
        where += f", column {int(column[0])}"
        where += f" ({str(columns[column[0]])!r})" if columns is not None else ""
    cure = "fill or drop missing values first (sklearn.impute)" if np.isnan(value) else "mend or drop it first"
    return f"Input {name} contains {kind}. The first is in {where}, counted from 0; {cure}."
