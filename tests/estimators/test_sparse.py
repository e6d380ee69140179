"""Sparse matrices whose arrays do not fit are told as that, before compiled code trusts them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from fullbatch import LogisticRegression

M, N = 60, 4
Y = np.arange(M) % 2


def matrix(form: str = "csr") -> Any:
    return sp.random_array((M, N), density=0.5, rng=np.random.default_rng(0)).asformat(form)


def changed(name: str, at: Any, value: Any, form: str = "csr") -> Any:
    table = matrix(form)
    getattr(table, name)[at] = value
    return table


def cut(name: str, entries: int) -> Any:
    table = matrix()
    setattr(table, name, getattr(table, name)[:-entries])
    return table


def floating(name: str) -> Any:
    table = matrix()
    setattr(table, name, getattr(table, name).astype(float))
    return table


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: changed("indices", 3, N), "indices has 4 at position 3, where 0 to 3 are possible"),
        (lambda: changed("indices", 3, 2**31 - 1), "indices has 2147483647 at position 3"),
        (lambda: changed("indices", 7, -1), "indices has -1 at position 7"),
        (lambda: changed("indptr", -1, 125), "indptr ends at 125 and indices has 120 entries"),
        (lambda: changed("indptr", 0, 2), "indptr begins at 2 and not at 0"),
        (lambda: changed("indptr", 5, 100), "indptr falls from 100 to"),
        (lambda: changed("indptr", 1, -2), "indptr falls from 0 to -2 at position 1"),
        (lambda: cut("indices", 4), "indptr ends at 120 and indices has 116 entries"),
        (lambda: cut("data", 4), "indptr ends at 120 and data has 116 entries"),
        (lambda: cut("indptr", 2), "indptr has 59 entries and not 61"),
        (lambda: floating("indices"), "indices is of float64 and not of integers"),
        (lambda: floating("indptr"), "indptr is of float64 and not of integers"),
        (lambda: changed("indices", 3, M, "csc"), "indices has 60 at position 3, where 0 to 59 are possible"),
        (lambda: changed("indices", 0, N, "bsr"), "indices has 4 at position 0"),
        (lambda: changed("row", 3, M, "coo"), "row has 60 at position 3"),
        (lambda: changed("col", 3, -2, "coo"), "col has -2 at position 3"),
    ],
)
def test_a_damaged_matrix_is_told_as_that(make: Any, words: str) -> None:
    model = LogisticRegression().fit(matrix(), Y)
    for call in (lambda X: LogisticRegression().fit(X, Y), model.predict):
        with pytest.raises(ValueError, match=rf"^X is a damaged sparse matrix of shape \(60, 4\): {words}"):
            call(make())


def test_what_scipy_allows_is_allowed() -> None:
    """Unsorted indices, an index twice, and entries behind the last that indptr counts, of which none is looked at."""
    table = matrix()
    rows = [slice(*table.indptr[i : i + 2]) for i in range(M)]
    unsorted = table.copy()
    for row in rows:
        unsorted.indices[row], unsorted.data[row] = table.indices[row][::-1], table.data[row][::-1]
    unsorted.has_sorted_indices = False
    twice = sp.csr_array((np.repeat(table.data / 2, 2), np.repeat(table.indices, 2), 2 * table.indptr), shape=(M, N))
    longer = table.copy()
    longer.data, longer.indices = np.append(table.data, np.nan), np.append(table.indices, 99)
    expected = LogisticRegression().fit(table, Y).predict_proba(table)
    for other in (unsorted, twice, longer):
        np.testing.assert_allclose(LogisticRegression().fit(other, Y).predict_proba(other), expected, rtol=1e-9)
    empty = sp.csr_array((M, N))
    assert LogisticRegression().fit(empty, Y).coef_.tolist() == [[0.0] * N]
