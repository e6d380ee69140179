"""Each twin is held to the array step, which is the pass itself; and the twin must be what ran."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fullbatch as fb
from fullbatch import steps
from fullbatch.core.activations import ACTIVATIONS
from fullbatch.core.parameters import flatten
from fullbatch.fold import blocks
from fullbatch.machine import arrays
from fullbatch.sources import Dense, Examples
from fullbatch.training.objective import Objective
from reference import PAIRS, kind, problem, relative
from through_layers import cost_and_layers

NAMES = sorted(ACTIVATIONS)
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


def lay_out(array, how):
    """The same numbers in another arrangement of the memory."""
    if how == "rows":
        return np.ascontiguousarray(array)
    if how == "columns":  # a table with one row per example, transposed: what callers bring
        return np.asfortranarray(array)
    if how == "read-only":
        array = np.asfortranarray(array)
        array.flags.writeable = False
        return array
    if how == "strided":
        wide = np.zeros((2 * array.shape[0], 3 * array.shape[1]), dtype=array.dtype)
        wide[::2, ::3] = array
        return wide[::2, ::3]
    assert how == "backwards"
    return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]


LAYOUTS = ["rows", "columns", "read-only", "strided", "backwards"]


@st.composite
def networks(draw):
    output = draw(st.sampled_from(sorted(PAIRS)))
    inner = draw(st.lists(st.sampled_from([1, 2, 3, 7, 15, 16, 17, 31, 33, 100]), max_size=3))
    hidden = [draw(st.sampled_from(NAMES)) for _ in inner]
    last = draw(st.sampled_from([2, 3, 4, 18] if output == "softmax" else [1, 2, 3, 4, 5, 18]))
    return fb.Network([draw(st.sampled_from([1, 2, 3, 8, 9, 17, 33])), *inner, last], hidden=hidden, **PAIRS[output])


def host_arrays(total):
    return [np.asarray(array) for layer in total.gradients for array in layer]


def with_step(monkeypatch, name, **names):
    """Only the step of that name is there to choose from."""
    monkeypatch.setattr(steps, "STEPS", {name: steps.STEPS[name]})


@given(
    network=networks(),
    dtype=st.sampled_from(["float32", "float64"]),
    layout=st.sampled_from(LAYOUTS),
    weighted=st.booleans(),
    sizes=st.lists(st.one_of(st.sampled_from([63, 64, 65, 128, 129]), st.integers(1, 70)), min_size=1, max_size=4),
    seed=st.integers(0, 999),
)
def test_a_twin_is_the_array_step(twin, network, dtype, layout, weighted, sizes, seed):
    """One worker does blocks of changing sizes, also larger than it was made for, then other parameters."""
    name = twin
    assert steps.choose(network, np.empty(0, dtype=dtype)) == name
    twin = steps.make(network, np.empty(0, dtype=dtype), block=sizes[0])
    assert (twin.name, type(twin)) == (name, steps.STEPS[name])
    wide = "float64" if name == "native" else dtype  # in which it gives its sums
    pass_itself = steps.ArrayStep(network, np.empty(0, dtype=dtype), block=sizes[0])
    for turn, k in enumerate(sizes):
        params, X, Y = problem(network.sizes, k, kind(network), seed=seed + turn, dtype=dtype)
        params = tuple(fb.Layer(lay_out(W, layout), b) for W, b in params)
        X, Y = lay_out(X, layout), lay_out(Y, layout)
        weight = np.random.default_rng(seed).random(k).astype(dtype) + 0.1 if weighted else None
        before = [a.copy() for a in (X, Y, *(a for layer in params for a in layer))]
        twin.load(flatten(params))
        pass_itself.load(flatten(params))
        for _ in range(2):  # the second time through used buffers
            ours, truth = twin.gradient(X, Y, weight), pass_itself.gradient(X, Y, weight)
            assert all(a.dtype == wide for a in host_arrays(ours))
            assert [a.shape for a in host_arrays(ours)] == [a.shape for a in host_arrays(truth)]
            assert relative(host_arrays(ours), host_arrays(truth)) < TOLERANCE[dtype]
            assert float(ours.loss) == pytest.approx(float(truth.loss), rel=TOLERANCE[dtype], abs=TOLERANCE[dtype])
            assert float(ours.weight) == pytest.approx(float(truth.weight), rel=1e-13)
            cost = [float(value) for value in twin.cost(X, Y, weight)]
            assert cost == pytest.approx([float(truth.loss), float(truth.weight)], rel=TOLERANCE[dtype], abs=1e-5)
            assert relative([twin.predict(X)], [pass_itself.predict(X)]) < TOLERANCE[dtype]
        after = [X, Y, *(a for layer in params for a in layer)]
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output", sorted(PAIRS))
@pytest.mark.parametrize("last", [1, 3])
def test_each_activation_with_each_output_unit(twin, name, output, last):
    if output == "softmax" and last == 1:
        last = 2
    sizes = [5, 70, 1, 6, last]  # a layer of more than 64 units, one of a single unit
    network = fb.Network(sizes, hidden=name, **PAIRS[output])
    params, X, Y = problem(sizes, 50, output, seed=4)
    params = tuple(fb.Layer(W, b) for W, b in params)
    twin, truth = (steps.STEPS[which](network, X, 50) for which in (twin, "array"))
    twin.load(flatten(params))
    truth.load(flatten(params))
    assert relative(host_arrays(twin.gradient(X, Y, None)), host_arrays(truth.gradient(X, Y, None))) < 1e-12


@pytest.mark.parametrize("hidden", [1, 200, 1500])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wide_and_narrow_layers(twin, hidden, dtype):
    """Weights of more than 2^14 numbers and layers wider than 1024 units take other branches."""
    network = fb.Network([90, hidden, 2], output="identity")
    params, X, Y = problem(network.sizes, 130, "identity", dtype=dtype)
    params = tuple(fb.Layer(W, b) for W, b in params)
    twin, truth = (steps.STEPS[which](network, X, 64) for which in (twin, "array"))
    for step in (twin, truth):
        step.load(flatten(params))
    for k in (64, 130, 7):
        ours, ref = twin.gradient(X[:, :k], Y[:, :k], None), truth.gradient(X[:, :k], Y[:, :k], None)
        assert relative(host_arrays(ours), host_arrays(ref)) < TOLERANCE[dtype]


def test_what_a_step_returned_stays_when_it_goes_on(twin):
    """The fold keeps sums until their turn comes, so they must not lie in the step's own buffers."""
    network = fb.Network([3, 5, 4, 2], hidden="identity", output="identity")
    params, X, Y = problem(network.sizes, 20, "identity")
    params = tuple(fb.Layer(W, b) for W, b in params)
    for step in (steps.STEPS[twin](network, X, 10), steps.ArrayStep(network, X, 10)):
        step.load(flatten(params))
        total, yhat = step.gradient(X[:, :10], Y[:, :10], None), step.predict(X[:, :10])
        kept = [a.copy() for a in [*host_arrays(total), yhat]]
        step.gradient(X[:, 10:], Y[:, 10:], None)
        step.predict(X[:, 10:])
        assert all(np.array_equal(a, b) for a, b in zip([*host_arrays(total), yhat], kept, strict=True)), step.name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_finite_pre_activations_give_finite_gradients_however_large(twin, name, dtype):
    """z^2 and z^3 of a GELU overflow long before z does; both steps must come out finite and alike."""
    network = fb.Network([1, 2, 2], hidden=name, output="sigmoid")
    largest = float(np.finfo(dtype).max)
    X = np.array([[s * z for z in (1e3, 1e10, 1e13, 1e20, largest / 1e4) for s in (-1, 1)]], dtype=dtype)
    params = tuple(
        fb.Layer(*(np.array(a, dtype=dtype) for a in pair))
        for pair in [([[1.0], [-0.5]], [[0.0], [0.1]]), ([[1e-5, 2e-5], [1e-5, -1e-5]], [[0.0], [0.0]])]
    )
    Y = np.ones((2, X.shape[1]), dtype=dtype)
    weight = 1 / np.abs(X[0])  # keeps dZ X^T itself in range
    for which in (twin, "array"):
        step = steps.STEPS[which](network, X, 16)
        step.load(flatten(params))
        with arrays.quiet():
            total = step.gradient(X, Y, weight)
        assert all(np.all(np.isfinite(a)) for a in host_arrays(total)), which
        assert np.isfinite(total.loss), which


# --- Which step runs ------------------------------------------------------------------------------------------------


def expected_step(xp, host_step):
    return host_step if xp.on_numpy else "onepass" if xp.name == "cupy" else "array"


def test_users_own_pairs_and_other_libraries_get_the_array_step(xp, host_step):
    named, own = fb.Network([2, 3, 1]), fb.Network([2, 3, 1], hidden=(np.tanh, lambda Z: 1 - np.tanh(Z) ** 2))
    like = xp.array([[0.0]])
    expected = expected_step(xp, host_step)
    assert steps.choose(named, like) == expected
    assert steps.make(named, like, 8).name == expected
    assert steps.choose(own, like) == "array"
    assert steps.choose(fb.Network([2, 3, 3, 1], hidden=["tanh", (np.tanh, np.cos)]), like) == "array"


def test_the_outcome_says_which_step_ran(xp, host_step):
    params, X, Y = problem([2, 3, 1], 9, "sigmoid")
    run = fb.gradient_descent(
        fb.Network([2, 3, 1]), xp.params(params), xp.array(X), xp.array(Y), learning_rate=0.1, iterations=2
    )
    assert run.step == expected_step(xp, host_step)
    own = fb.Network([2, 3, 1], hidden=(lambda Z: Z * 1, lambda Z: Z * 0 + 1))
    run = fb.gradient_descent(own, xp.params(params), xp.array(X), xp.array(Y), learning_rate=0.1, iterations=2)
    assert run.step == "array"


@given(network=networks(), seed=st.integers(0, 99), block=st.sampled_from([64, 100, 256]), m=st.integers(1, 700))
def test_a_whole_fold_gives_the_same_through_either_step(twin, network, seed, block, m):
    params, X, Y = problem(network.sizes, m, kind(network), seed=seed)
    params = tuple(fb.Layer(W, b) for W, b in params)
    results = []
    for which in (twin, "array"):
        with pytest.MonkeyPatch.context() as patch:
            with_step(patch, which)
            patch.setattr(blocks, "block_size", lambda *_, block=block, **__: block)
            with Objective(network, Examples(Dense(X), Dense(Y)), threads=2) as objective:
                assert objective.fold.step_name == which
                J, gradients = cost_and_layers(objective, params)
                results.append((J, [a for layer in gradients for a in layer], objective.fold.predict(flatten(params))))
                assert all(type(worker.step).name == which for worker in objective.fold.engine._workers)
    (J, gradients, yhat), (K, reference, truth) = results
    assert pytest.approx(K, rel=1e-12) == J
    assert relative(gradients, reference) < 1e-12
    assert relative([yhat], [truth]) < 1e-12


@pytest.mark.gpu
def test_on_cupy_the_twin_is_the_array_step():
    import cupy

    for name in NAMES:
        for output, last in [("sigmoid", 1), ("softmax", 3), ("identity", 2), ("exp", 1)]:
            network = fb.Network([5, 7, 6, last], hidden=name, **PAIRS[output])
            params, X, Y = problem(network.sizes, 50, output)
            params = tuple(fb.Layer(cupy.asarray(W), cupy.asarray(b)) for W, b in params)
            X, Y = cupy.asarray(X), cupy.asarray(Y)
            assert steps.choose(network, X) == "fused"
            totals = []
            for which in ("fused", "inplace", "array"):
                step = steps.STEPS[which](network, X, 50)
                step.load(flatten(params))
                totals.append([a.get() for layer in step.gradient(X, Y, None).gradients for a in layer])
            assert relative(totals[0], totals[2]) < 1e-12
            assert relative(totals[1], totals[2]) < 1e-12


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_on_cupy_one_pass_is_the_array_step(name, dtype):
    import cupy

    cases = [([1, 1, 1], "exp", 17), ([28, 64, 1], "sigmoid", 100_003), ([15, 190, 1], "identity", 999)]
    for sizes, output, m in cases:
        network = fb.Network(sizes, hidden=name, **PAIRS[output])
        params, X, Y = problem(sizes, m, output, dtype=dtype)
        params = tuple(fb.Layer(cupy.asarray(W), cupy.asarray(b)) for W, b in params)
        Y, weight = cupy.asarray(Y), cupy.linspace(0, 1, m, dtype=dtype)
        for order in "CF":
            X = cupy.asarray(X, order=order)
            assert steps.choose(network, X) == "onepass"
            outcomes = []
            for which in ("onepass", "array"):
                step = steps.STEPS[which](network, X, m)
                step.load(flatten(params))
                total = step.gradient(X, Y, weight)
                outcomes.append([a.get() for layer in total.gradients for a in layer])
                outcomes[-1] += [step.predict(X).get(), np.array([float(total.loss), float(step.cost(X, Y, None)[0])])]
            for ours, truth in zip(*outcomes, strict=True):
                assert relative([ours], [truth]) < TOLERANCE[dtype]


def test_the_array_step_is_the_pass_of_the_network():
    params, X, Y = problem([3, 4, 2], 9, "softmax")
    network = fb.Network([3, 4, 2], output="softmax")
    device = array_api_strict.Device("device1")
    params = tuple(fb.Layer(*(array_api_strict.asarray(a, device=device) for a in layer)) for layer in params)
    X, Y = (array_api_strict.asarray(a, device=device) for a in (X, Y))
    step = steps.make(network, X, 9)
    assert type(step) is steps.ArrayStep
    step.load(flatten(params))
    total, truth = step.gradient(X, Y, None), network.backward(params, network.forward(params, X), Y)
    assert all(
        bool(array_api_strict.all(a == b))
        for x, y in zip(total.gradients, truth.gradients, strict=True)
        for a, b in zip(x, y, strict=True)
    )
