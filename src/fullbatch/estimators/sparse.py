"""What must hold between the arrays of a sparse matrix. SciPy does not look, and compiled code trusts it."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_structure(X: Any) -> None:
    """A ValueError that says what is wrong with a SciPy matrix in CSR, CSC, BSR or COO whose arrays do not fit.

    The order of the indices within a row is free, an index may come twice, and there may be entries behind the last
    that ``indptr`` counts, all as SciPy has it. Other formats and other tables are left alone.
    """
    form = getattr(X, "format", None)
    if form == "coo" and hasattr(X, "row"):
        _check_range("row", X.row, X.shape[0], X.shape)
        _check_range("col", X.col, X.shape[1], X.shape)
        if not len(X.row) == len(X.col) == len(X.data):
            _refuse(f"row, col and data have {len(X.row)}, {len(X.col)} and {len(X.data)} entries", X.shape)
    elif form in ("csr", "csc", "bsr") and hasattr(X, "indptr"):
        rows, columns = X.shape[::-1] if form == "csc" else X.shape
        if form == "bsr":
            rows, columns = rows // X.blocksize[0], columns // X.blocksize[1]
        _check_indptr(X, rows)
        _check_range("indices", X.indices[: int(X.indptr[-1])], columns, X.shape)


def _check_indptr(X: Any, rows: int) -> None:
    indptr = X.indptr
    if len(indptr) != rows + 1:
        _refuse(f"indptr has {len(indptr)} entries and not {rows + 1}", X.shape)
    if indptr.dtype.kind not in "iu":
        _refuse(f"indptr is of {indptr.dtype} and not of integers", X.shape)
    if indptr[0] != 0:
        _refuse(f"indptr begins at {indptr[0]} and not at 0", X.shape)
    falls = np.flatnonzero(indptr[1:] < indptr[:-1])
    if falls.size:
        at = int(falls[0])
        _refuse(f"indptr falls from {indptr[at]} to {indptr[at + 1]} at position {at + 1}", X.shape)
    for name, array in (("indices", X.indices), ("data", X.data)):
        if indptr[-1] > len(array):
            _refuse(f"indptr ends at {indptr[-1]} and {name} has {len(array)} entries", X.shape)


def _check_range(name: str, indices: Any, size: int, shape: Any) -> None:
    if not len(indices):
        return
    if indices.dtype.kind not in "iu":
        _refuse(f"{name} is of {indices.dtype} and not of integers", shape)
    if indices.min() < 0 or indices.max() >= size:
        at = int(np.flatnonzero((indices < 0) | (indices >= size))[0])
        _refuse(f"{name} has {indices[at]} at position {at}, where 0 to {size - 1} are possible", shape)


def _refuse(what: str, shape: Any) -> None:
    raise ValueError(
        f"X is a damaged sparse matrix of shape {tuple(shape)}: {what}. Its arrays were changed, or read from a file, "
        "without a look at each other; make it anew."
    )
