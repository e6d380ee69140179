"""The sources that lie in memory: each gives the columns of one and the same matrix, by slice and by index."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import fullbatch as fb
from fullbatch.errors import InputError
from fullbatch.machine import places
from fullbatch.sources import Checked, Dense, Examples, OneHot, Sparse, Subset, Uploaded, length
from fullbatch.training.objective import Objective
from reference import problem, relative
from through_layers import cost_and_layers

rng = np.random.default_rng(0)
WHERES = [
    slice(0, 11),
    slice(3, 7),
    slice(10, 11),
    np.array([4]),
    np.array([10, 0, 4, 4, 7]),
    np.arange(11)[::-1].astype("int32"),
]


def check(source, expected, host=np.asarray, wheres=WHERES):
    """The source is ``expected`` (n, m), whatever is read first and however often."""
    assert (source.n, source.m) == expected.shape
    read, other = source.reader(), source.reader()
    for where in [*wheres, *wheres]:
        block = read(where)
        assert type(block) is type(source.like)
        assert block.dtype == source.like.dtype
        assert np.array_equal(host(block), expected[:, where])
        kept = host(block).copy()
        other(wheres[0])  # another thread's reader does not touch this one's block
        assert np.array_equal(host(block), kept)


def test_dense(xp):
    array = rng.standard_normal((3, 11))
    source = Dense(xp.array(array))
    check(source, array.astype(xp.dtype), xp.host)
    assert xp.has(source.like)
    assert xp.has(source.reader()(np.array([1, 2])))


@pytest.mark.parametrize("order", ["C", "F"])
def test_dense_blocks_of_a_table_are_views_and_gathered_rows_are_rows(order):
    array = np.array(rng.standard_normal((3, 11)), order=order)
    read = Dense(array).reader()
    assert np.shares_memory(read(slice(2, 5)), array)
    assert read(np.array([1, 5])).T.flags.c_contiguous
    check(Dense(array), array)
    check(Dense(np.asfortranarray(array)[::-1]), array[::-1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["int64", "int8", "uint16", "bool"])
def test_one_hot(dtype, kind):
    codes = rng.integers(0, 2 if kind == "bool" else 4, size=11).astype(kind)
    if kind != "bool":
        check(OneHot(codes, 4, dtype), np.eye(4, dtype=dtype)[:, codes])
    check(OneHot(codes, 1, dtype), codes[None, :].astype(dtype))  # one sigmoid unit: the code is the target


@pytest.mark.parametrize("form", ["csr_matrix", "csr_array"])
def test_sparse(form):
    table = rng.standard_normal((11, 5)) * (rng.random((11, 5)) < 0.4)
    check(Sparse(getattr(sparse, form)(table.astype("float32"))), table.T.astype("float32"))


def test_subset_of_any_source():
    array = rng.standard_normal((3, 20))
    indices = rng.permutation(20)[:11]
    check(Subset(Dense(array), indices), array[:, indices])
    check(Subset(Subset(Dense(array), np.arange(20)[::-1]), indices), array[:, ::-1][:, indices])
    codes = rng.integers(0, 4, size=20)
    check(Subset(OneHot(codes, 4, "float32"), indices), np.eye(4, dtype="float32")[:, codes[indices]])


def test_uploaded_puts_each_block_to_its_place():
    place = places.Place("cuda:0", array_api_strict, array_api_strict.Device("device1"))
    for array in (rng.standard_normal((3, 11)), np.asfortranarray(rng.standard_normal((3, 11)).astype("float32"))):
        array.flags.writeable = False
        source = Uploaded(Dense(array), place)
        check(source, array, lambda block: np.asarray(block._array))
        assert source.reader()(slice(0, 2)).device == place.device
        assert source.like.device == place.device
        again = Uploaded(Subset(OneHot(np.arange(11) % 3, 3, "float64"), np.arange(11)), place)
        check(again, np.eye(3)[:, np.arange(11) % 3], lambda block: np.asarray(block._array))


@given(start=st.integers(0, 50), count=st.integers(1, 50))
def test_length(start, count):
    assert length(slice(start, start + count)) == count
    assert length(np.arange(count)) == count


def test_examples_are_checked():
    X, Y = Dense(np.ones((2, 5))), Dense(np.ones((1, 4)))
    with pytest.raises(InputError, match="X has 5 examples and Y has 4"):
        Examples(X, Y)
    with pytest.raises(InputError, match=r"sample_weight has shape \(4,\); it must have shape \(5,\)"):
        Examples(X, None, np.ones(4))
    assert Examples(X).m == 5
    with pytest.raises(FrozenInstanceError):
        Examples(X).X = Y


def test_a_training_does_not_care_where_its_examples_come_from():
    """Sparse X and class codes against the dense arrays that they stand for."""
    params, _, _ = problem([5, 4, 3], 1, "softmax")
    params = tuple(fb.Layer(*layer) for layer in params)
    table = rng.standard_normal((300, 5)) * (rng.random((300, 5)) < 0.4)
    codes = rng.integers(0, 3, size=300)
    network = fb.Network([5, 4, 3], output="softmax")
    J, expected = fb.cost_and_gradients(network, params, table.T, np.eye(3)[:, codes])
    with Objective(
        network, Examples(Sparse(sparse.csr_array(table)), OneHot(codes, 3, "float64")), threads=2
    ) as objective:
        K, gradients = cost_and_layers(objective, params)
    assert pytest.approx(J, rel=1e-12) == K
    assert relative([a for g in gradients for a in g], [a for g in expected for a in g]) < 1e-12


def test_a_table_is_looked_at_while_it_is_read_and_the_first_wrong_row_is_named():
    table = np.zeros((300, 2), np.float32)
    table[:200] = np.finfo(np.float32).max  # whose sum is infinite
    read = Checked(table.T, columns=["a", "b"]).reader()
    np.testing.assert_array_equal(read(slice(0, 100)), table[:100].T)
    table[150, 1], table[250, 0] = np.inf, np.nan
    with pytest.raises(InputError, match=r"infinity .* row 150, column 1 \('b'\)"):  # the first, whatever was read
        read(slice(200, 300))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_prediction_of_many_rows_reads_them_through_such_a_look(jobs, monkeypatch):
    seen = []
    reader = Checked.reader
    monkeypatch.setattr(Checked, "reader", lambda self: seen.append(self.m) or reader(self))
    table = np.random.default_rng(0).normal(size=(20_000, 3))
    model = fb.MLPClassifier((2,), max_iter=1, random_state=0, n_jobs=jobs)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(table[:50], table[:50, 0] > 0)
    expected = np.concatenate([model.predict_proba(table[i : i + 50]) for i in range(0, len(table), 50)])
    assert not seen  # of so few rows, and of training
    found = model.predict_proba(table)
    assert set(seen) == {20_000}
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    table[[9_000, 19_999], 2] = np.nan
    for ask in (model.predict_proba, fb.predictor(model)):
        with pytest.raises(ValueError, match=r"contains NaN\. The first is in row 9000, column 2"):
            ask(table)
