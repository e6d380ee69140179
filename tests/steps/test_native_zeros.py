"""The native step's products without zeros, of X and of hidden layers: the bits of the dense products, and they ran.

X by columns is not searched for zeros, so that is the dense twin; but where a layer takes tiles (amx, float32) it is
searched in either order, for those bits are others.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_native import host_arrays, layers

import fullbatch as fb
from conftest import ISAS, use
from fullbatch import steps
from fullbatch.core.dropout import Dropout
from fullbatch.core.parameters import flatten
from fullbatch.machine import arrays
from fullbatch.sources import Dense, Examples
from fullbatch.training import native_batches, optimizers
from fullbatch.training.minibatches import PythonBatches
from fullbatch.training.native_batches import NativeBatches
from fullbatch.training.objective import Objective
from reference import problem
from training.test_minibatches import both, start, train

pytestmark = pytest.mark.skipif(not ISAS, reason="the native step is not here")


@pytest.fixture(params=ISAS)
def isa(request, monkeypatch):
    use(f"native-{request.param}", monkeypatch)
    return request.param


def mostly_zero(sizes, m, output="sigmoid", *, density=0.1, dtype="float64", seed=0):
    """Parameters, X (n[0], m) example by example in memory, and Y."""
    params, X, Y = problem(sizes, m, output, seed=seed, dtype=dtype)
    X *= np.random.default_rng(seed).random(X.shape) < density
    return layers(params), np.asfortranarray(X), Y


def made(network, X, params):
    step = steps.NativeStep(network, X, X.shape[1])
    step.load(flatten(params))
    return step


def left_out(step):
    """The tiles whose zeros were left out so far."""
    return step.library.fb_tiles_without_zeros(step.handle)


@given(
    m=st.sampled_from([2, 63, 64, 65, 300]),
    inputs=st.sampled_from([64, 65, 128, 200]),
    hidden=st.lists(st.sampled_from([33, 64, 100, 129, 300]), min_size=1, max_size=2),
    outputs=st.sampled_from([1, 3, 40]),
    density=st.sampled_from([0.0, 0.02, 0.1]),
    dtype=st.sampled_from(["float32", "float64"]),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_bits_are_those_of_the_dense_products(m, inputs, hidden, outputs, density, dtype, weighted, seed):
    network = fb.Network([inputs, *hidden, outputs])
    params, X, Y = mostly_zero(network.sizes, m, density=density, dtype=dtype, seed=seed)
    weight = np.random.default_rng(seed).random(m).astype(dtype) if weighted else None
    for isa in ISAS:
        with pytest.MonkeyPatch.context() as patch:
            use(f"native-{isa}", patch)
            without, dense = made(network, X, params), made(network, X, params)
        columns = np.ascontiguousarray(X)
        for ours, theirs in zip(
            (*host_arrays(without.gradient(X, Y, weight)), without.predict(X), *without.cost(X, Y, weight)),
            (*host_arrays(dense.gradient(columns, Y, weight)), dense.predict(columns), *dense.cost(columns, Y, weight)),
            strict=True,
        ):
            assert np.array_equal(ours, theirs)
        assert left_out(without) == 3 * -(-m // 64)
        by_tiles = isa == "amx" and dtype == "float32" and hidden[0] >= 64
        assert left_out(dense) == (left_out(without) if by_tiles else 0)


@pytest.mark.parametrize("sizes", [[64, 40], [64, 33, 2]])
def test_one_layer_and_sums_over_many_tiles(isa, sizes):
    network = fb.Network(sizes, output="softmax")
    params, X, Y = mostly_zero(sizes, 5000, "softmax", dtype="float32")
    without, dense = made(network, X, params), made(network, X, params)
    for ours, theirs in zip(
        host_arrays(without.gradient(X, Y, None)),
        host_arrays(dense.gradient(np.ascontiguousarray(X), Y, None)),
        strict=True,
    ):
        assert np.array_equal(ours, theirs)
    assert left_out(without) == -(-5000 // 64)


def test_what_has_no_zeros_is_looked_at_once_in_a_block(isa):
    """And a tile with zeros further on is found at the next look."""
    network = fb.Network([64, 40, 1])
    params, X, Y = mostly_zero(network.sizes, 2048)
    X[:, 0:64] = 1
    step = made(network, X, params)
    step.cost(X, Y, None)
    assert left_out(step) == 16


def test_few_inputs_or_units_are_not_searched(isa):
    for sizes in ([63, 40, 1], [64, 2, 1], [64, 1]):
        network = fb.Network(sizes)
        params, X, Y = mostly_zero(sizes, 200)
        step = made(network, X, params)
        step.gradient(X, Y, None)
        assert left_out(step) == 0


@pytest.mark.parametrize("what", ["W", "Y", "X"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("example", [0, 63, 129])  # the ends of tiles
def test_what_is_not_finite_gets_as_far_as_in_the_array_step(isa, what, value, dtype, example):
    """0 * infinity is NaN: where W or dZ is not finite, zeros count."""
    network = fb.Network([64, 33, 2], hidden="relu", output="identity")
    params, X, Y = mostly_zero(network.sizes, 130, "identity", dtype=dtype)
    X[7] = 0
    {"W": params[0].W, "Y": Y, "X": X}[what][1, 7 if what == "W" else example] = value
    outcomes = []
    for which in ("native", "array"):
        step = steps.STEPS[which](network, X, 130)
        step.load(flatten(params))
        with arrays.quiet():
            outcomes.append([*host_arrays(step.gradient(X, Y, None)), step.predict(X)])
    for ours, theirs in zip(*outcomes, strict=True):
        assert np.array_equal(np.isnan(ours), np.isnan(theirs))
        assert np.array_equal(np.isposinf(ours), np.isposinf(theirs))


# --- Mini-batches ---------------------------------------------------------------------------------------------------


@pytest.fixture
def counts(monkeypatch):
    """By trainer, the tiles whose zeros it has left out."""
    found = {}
    run = NativeBatches._run

    def noted(self, *arguments):
        for _ in run(self, *arguments):
            found[id(self)] = self.library.fb_tiles_without_zeros(self.handle)
            yield

    monkeypatch.setattr(NativeBatches, "_run", noted)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [optimizers.gd(), optimizers.adam(0.8, 0.95, 1e-3)])
@pytest.mark.parametrize("batch", [64, 130])
def test_batches_without_zeros_are_those_of_the_loop_in_python(isa, dtype, optimizer, batch, counts):
    network = fb.Network([70, 33, 3], output="softmax")
    params, X, Y = mostly_zero(network.sizes, 300, "softmax", dtype=dtype)
    params = tuple(fb.Layer(0.5 * W, b) for W, b in params)
    order = np.random.default_rng(0).permutation(300)
    examples = Examples(Dense(X), Dense(Y))
    both(network, examples, params, optimizer, [order] * 2, batch, dtype, l2=0.1, rate=0.01)
    assert sum(counts.values()) >= 2 * 300 // 64


def test_x_by_columns_is_searched_example_by_example(isa, counts):
    network = fb.Network([64, 40, 1])
    params, X, Y = mostly_zero(network.sizes, 200)
    X[0] = 1  # what comes first in memory has no zeros
    for columns in (X, np.ascontiguousarray(X)):
        with Objective(network, Examples(Dense(columns), Dense(Y))) as objective:
            train(objective, start(params, optimizers.gd()), optimizers.gd(), [slice(0, 200)], 64, NativeBatches)
        assert counts.popitem()[1] == 4


def test_the_number_of_threads_does_not_change_a_bit(isa, counts, monkeypatch):
    monkeypatch.setattr(native_batches, "SHARE", 1)
    network = fb.Network([90, 70, 40, 3], output="softmax")
    params, X, Y = mostly_zero(network.sizes, 700, "softmax", dtype="float32")
    order = np.random.default_rng(0).permutation(700)
    outcomes = []
    for threads in (1, 2, 3, 7):
        with Objective(network, Examples(Dense(X), Dense(Y)), threads=threads) as objective:
            objective.fold.threads = threads
            state = start(params, optimizers.adam())
            end = train(objective, state, optimizers.adam(), [order] * 2, 200, NativeBatches)
        outcomes.append((list(end.costs), end.theta.tobytes(), *(array.tobytes() for array in end.arrays)))
        assert counts.popitem()[1] >= 2 * 700 // 64
    assert all(outcome == outcomes[0] for outcome in outcomes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("hidden", "dropout"), [("relu", None), ("tanh", 0.7), ("silu", 0.7)])
def test_zeros_of_hidden_layers_change_no_bit(isa, dtype, hidden, dropout, counts, monkeypatch):
    """Where the square of a weight is infinite none are left out: the twin has one, of an input that is always 0."""
    monkeypatch.setattr(native_batches, "SHARE", 1)
    network = fb.Network([20, 90, 150, 70, 40, 2], hidden=hidden, output="softmax")
    params, X, Y = mostly_zero(network.sizes, 300, "softmax", density=1, dtype=dtype)
    shift = 0.8 if hidden == "relu" else 0  # which leaves a few units on
    params = tuple(fb.Layer(W, b - W.dtype.type(shift * (n < 5))) for n, (W, b) in enumerate(params, 1))
    X[7] = 0
    order = np.random.default_rng(0).permutation(300)
    outcomes = []
    for unused in (0, 1e25 if dtype == "float32" else 1e200):
        params[0].W[0, 7] = unused
        for threads in (1, 3):
            rates = None if dropout is None else Dropout((dropout,) * 4, seed=5)
            with Objective(network, Examples(Dense(X), Dense(Y)), threads=threads, dropout=rates) as objective:
                objective.fold.threads = threads
                state = start(params, optimizers.adam())
                end = train(objective, state, optimizers.adam(), [order] * 2, 130, NativeBatches)
            end.theta[7] = 0
            outcomes.append((list(end.costs), end.theta.tobytes(), *(array.tobytes() for array in end.arrays)))
            # Of each of the 2 * 12 tiles the zeros of three layers, or most of them; of none in the twin.
            assert (counts.popitem()[1] > 2 * 12) == (unused == 0)
    assert all(outcome == outcomes[0] for outcome in outcomes)


@pytest.mark.parametrize("what", ["W", "Y"])
def test_zeros_of_hidden_layers_count_beside_what_is_not_finite(isa, what):
    network = fb.Network([20, 90, 70, 1], hidden="relu", output="identity")
    params, X, Y = mostly_zero(network.sizes, 128, "identity", density=1)
    params = (fb.Layer(params[0].W, params[0].b - 2), *params[1:])
    if what == "W":
        params[1].W[1, 7] = np.inf
    else:
        Y[0, 5] = np.inf
    outcomes = []
    for kind in (NativeBatches, PythonBatches):
        with Objective(network, Examples(Dense(X), Dense(Y))) as objective, arrays.quiet():
            end = train(objective, start(params, optimizers.gd()), optimizers.gd(), [np.arange(128)], 64, kind)
        outcomes.append(np.isnan(end.theta))
    assert outcomes[0].any()
    assert np.array_equal(*outcomes)


@pytest.mark.parametrize("what", ["W", "Y"])
def test_batches_pass_on_what_is_not_finite(isa, what):
    """From a weight that is NaN, of an input that is always 0, or from a target."""
    network = fb.Network([64, 33, 1], hidden="tanh", output="identity")
    params, X, Y = mostly_zero(network.sizes, 128, "identity")
    X[7] = 0
    if what == "W":
        params[0].W[0, 7] = np.nan
    else:
        Y[0, 127] = np.nan  # of the last batch: in the next one W is not finite
    with Objective(network, Examples(Dense(X), Dense(Y))) as objective:
        state = start(params, optimizers.gd())
        end = train(objective, state, optimizers.gd(), [slice(0, 128)], 64, NativeBatches)
    assert np.isnan(end.costs[0])
    first = end.theta[: 33 * 64].reshape(33, 64)
    assert np.isnan(first[:, 7] if what == "Y" else first[0, 7]).all()


def test_a_weight_that_overflows_in_a_run_counts_from_the_next_batch_on(isa):
    """The second batch's examples are 0 where the first one's step made W infinite."""
    network = fb.Network([64, 33, 1], hidden="tanh", output="identity")
    params, X, Y = mostly_zero(network.sizes, 128, "identity")
    X[:32, 64:] = X[32:, :64] = 0
    X[3, 0], params[0].W[:, 3] = 1e200, 0
    with Objective(network, Examples(Dense(X), Dense(Y))) as objective:
        state = start(params, optimizers.gd(), 1e150)
        end = train(objective, state, optimizers.gd(), [slice(0, 128)], 64, NativeBatches)
    assert np.isnan(end.theta[: 33 * 64]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_a_run_ends_does_not_change_a_bit(isa, dtype, counts, monkeypatch):
    """A run that begins with examples without zeros looks for none; one that begins after them does."""
    network = fb.Network([90, 70, 3], output="softmax")
    params, X, Y = mostly_zero(network.sizes, 700, "softmax", dtype=dtype)
    X[:, :64] = 1
    outcomes, found = [], []
    for seconds in (1e9, -1.0):
        monkeypatch.setattr(native_batches, "SLICE", seconds)
        with Objective(network, Examples(Dense(X), Dense(Y))) as objective:
            state = start(params, optimizers.adam())
            end = train(objective, state, optimizers.adam(), [slice(0, 700)], 130, NativeBatches)
        outcomes.append((list(end.costs), end.theta.tobytes(), *(array.tobytes() for array in end.arrays)))
        found.append(counts.popitem()[1])
    by_batch = isa == "amx" and dtype == "float32"  # by tiles each batch is looked at by itself
    # 4 in each batch after the first, and 1 in the last one, which is short.
    assert found == [17 if by_batch else 0, 17]
    assert outcomes[0] == outcomes[1]
