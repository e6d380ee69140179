"""EncodedTable: blocks against a one-hot matrix built with loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import issparse

import fullbatch as fb
from fullbatch.core.parameters import flatten
from fullbatch.fold.fold import Fold
from fullbatch.sources import Dense, Examples
from fullbatch.sources.encoded import EncodedTable


def dense(table: EncodedTable) -> np.ndarray:
    """(n, m), one number at a time."""
    whole = np.zeros((table.n, table.m), table.numbers.dtype)
    for i in range(table.m):
        for feature in table.ones[i]:
            whole[feature, i] = 1
        for j in range(table.numbers.shape[1]):
            whole[j, i] = table.numbers[i, j]
    return whole


def make(m: int, k: int, widths: list[int], seed: int = 0, dtype: str = "float32") -> EncodedTable:
    """Some numbers and a category of each of these widths; about one code in four is 0: none."""
    random = np.random.default_rng(seed)
    n = k + sum(widths)
    starts = k + np.cumsum([0, *widths[:-1]], dtype=int)
    ones = np.empty((m, len(widths)), np.min_scalar_type(n))
    for j, (start, width) in enumerate(zip(starts, widths, strict=False)):
        ones[:, j] = np.where(random.random(m) < 0.25, 0, start + random.integers(0, width, m))
    return EncodedTable(random.normal(size=(m, k)).astype(dtype), ones, n)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_block_is_that_part_of_the_one_hot_matrix(data):
    widths = data.draw(st.lists(st.integers(1, 300), max_size=4))
    k = data.draw(st.integers(1, 3))
    m = data.draw(st.integers(1, 20))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    table = make(m, k, widths, dtype=dtype)
    whole = dense(table)
    read = table.reader()
    for _ in range(4):  # one reader: the ones of a block must not show in the next
        if data.draw(st.booleans()):
            start = data.draw(st.integers(0, m))
            where = slice(start, data.draw(st.integers(start, m)))
        else:
            where = np.array(data.draw(st.lists(st.integers(0, m - 1), max_size=30)), dtype=np.int64)
        block = read(where)
        assert block.dtype == table.like.dtype == dtype
        np.testing.assert_array_equal(block, whole[:, where])


def test_each_reader_owns_its_blocks():
    table = make(10, 2, [3, 4])
    first, second = table.reader(), table.reader()
    block = first(slice(0, 5))
    before = block.copy()
    second(slice(5, 10))
    np.testing.assert_array_equal(block, before)


def test_numbers_alone_are_not_copied_for_a_slice_nor_changed():
    numbers = np.arange(12, dtype=np.float32).reshape(4, 3)
    numbers.flags.writeable = False
    table = EncodedTable(numbers, np.empty((4, 0), np.uint8), 3)
    read = table.reader()
    assert np.shares_memory(read(slice(1, 3)), numbers)
    assert not np.shares_memory(read(np.array([1, 2])), numbers)


@pytest.mark.parametrize("widths", [[], [4]])
def test_rows_of_a_block_are_contiguous(widths):
    """A block is the transpose of a row-major buffer: what BLAS and copies to a device are fast with."""
    read = make(9, 3, widths).reader()
    assert read(slice(2, 7)).T.flags.c_contiguous
    assert read(np.array([3, 1])).T.flags.c_contiguous


def test_shape():
    table = make(7, 2, [5, 6])
    assert (table.n, table.m) == (13, 7)
    assert table.reader()(slice(3, 3)).shape == (13, 0)


@pytest.mark.parametrize("sizes", [(1,), (16, 1), (400, 3), (8, 4, 2)])
def test_a_table_of_many_levels_is_multiplied_as_a_sparse_one(sizes):
    """The sparse blocks hold the numbers of the dense ones, and the step that takes them gives the same sums."""
    table, m = make(3000, 1, [100, 60, 90]), 3000
    dense = table.reader()(slice(0, m)).copy()
    where = np.random.default_rng(1).permutation(m)[:700]
    sparse = table.sparse_reader(1 / 32)
    for rows in (slice(5, m), where):
        block = sparse(rows)
        assert issparse(block.T)
        assert block.shape == dense[:, rows].shape
        np.testing.assert_array_equal(block.T.toarray().T, dense[:, rows])

    network = fb.Network([table.n, *sizes], "relu", "softmax" if sizes[-1] > 1 else "sigmoid")
    params = network.init(0, dtype=dense.dtype.name)
    Y = np.random.default_rng(2).integers(0, 2, (sizes[-1], m)).astype(dense.dtype)
    with Fold(network, Examples(table, Dense(Y))) as fold, Fold(network, Examples(Dense(dense), Dense(Y))) as plain:
        got, expected = fold.gradient(flatten(params), where), plain.gradient(flatten(params), where)
        assert type(fold.engine._workers[0].read_X).__name__ == "SparseReader"
        np.testing.assert_allclose(fold.predict(flatten(params)), plain.predict(flatten(params)), rtol=1e-5)
    for a, b in zip(got.gradients, expected.gradients, strict=True):
        assert np.abs(a.W - b.W).max() <= 1e-5 * np.abs(b.W).max()
        assert np.abs(a.b - b.b).max() <= 1e-5 * np.abs(b.b).max()


def test_a_table_of_few_levels_is_multiplied_as_a_dense_one():
    assert make(10, 2, [5, 6]).sparse_reader(1 / 32) is None
