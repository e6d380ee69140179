"""The fused and the one-pass step: their kernels, run on the CPU as they stand, are the pass; NVRTC compiles them."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cuda_on_cpu
import fullbatch as fb
from cuda_on_cpu import FakeCuPy
from fullbatch.core.activations import ACTIVATIONS
from fullbatch.core.losses import OUTPUTS
from fullbatch.core.parameters import flatten
from fullbatch.machine import arrays
from fullbatch.steps import ArrayStep, FusedStep, OnePassStep, TwoPassStep
from fullbatch.steps.cuda import coded, kernels, onepass, products, segments, tensor, tiles, twopass
from fullbatch.steps.cuda.kernels import Variant
from reference import problem, relative

NAMES = sorted(ACTIVATIONS)
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}

on_cpu = pytest.mark.skipif(cuda_on_cpu.COMPILER is None, reason="no g++ to compile the kernels for the CPU")


@pytest.fixture(scope="module", autouse=True)
def _numpy_arrays_have_addresses():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "address", lambda array: array.ctypes.data)
        yield


def host_arrays(total):
    return [np.asarray(array) for layer in total.gradients for array in layer]


def pair(network, like, block, processors=2, step=FusedStep):
    return step(network, like, block, xp=FakeCuPy(processors)), ArrayStep(network, like, block)


# Of the shape [sizes], as far as the step can do it.
both_steps = pytest.mark.parametrize(
    ("step", "sizes"),
    [
        (FusedStep, [4, 9, 1]), (FusedStep, [4, 9, 3]), (FusedStep, [4, 1]), (OnePassStep, [4, 9, 1]),
        (TwoPassStep, [4, 9, 1]), (TwoPassStep, [4, 9, 3]),
    ],
)  # fmt: skip


def hold(twin, truth, X, Y, weight, dtype):
    """Gradient, cost and prediction of the twin are those of the pass itself."""
    ours, ref = twin.gradient(X, Y, weight), truth.gradient(X, Y, weight)
    assert all(a.dtype in (dtype, np.float64) for a in host_arrays(ours))  # the one-pass step adds in the widest float
    assert [a.shape for a in host_arrays(ours)] == [a.shape for a in host_arrays(ref)]
    assert relative(host_arrays(ours), host_arrays(ref)) < TOLERANCE[dtype]
    near = {"rel": TOLERANCE[dtype], "abs": 10 * TOLERANCE[dtype]}
    assert float(ours.loss) == pytest.approx(float(ref.loss), **near)
    assert float(ours.weight) == pytest.approx(float(ref.weight), rel=1e-6)
    cost = [float(value) for value in twin.cost(X, Y, weight)]
    assert cost == pytest.approx([float(ref.loss), float(ref.weight)], **near)
    assert relative([twin.predict(X)], [truth.predict(X)]) < TOLERANCE[dtype]


@st.composite
def networks(draw):
    output = draw(st.sampled_from(sorted(OUTPUTS)))
    inner = draw(st.lists(st.sampled_from([1, 2, 7, 31, 32, 33, 64, 70]), max_size=3))
    hidden = [draw(st.sampled_from(NAMES)) for _ in inner]
    last = draw(st.integers(2 if output == "softmax" else 1, 4))
    return fb.Network([draw(st.integers(1, 9)), *inner, last], hidden=hidden, output=output)


def block_sizes(dtype):
    """In float32 not of a few examples: dZ may be the difference of almost equal numbers in all of them."""
    return st.lists(st.integers(1 if dtype == "float64" else 20, 150), min_size=1, max_size=3)


@on_cpu
@given(
    network=networks(),
    dtype=st.sampled_from(["float32", "float64"]),
    rows=st.booleans(),
    weighted=st.booleans(),
    processors=st.integers(1, 3),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_the_fused_step_is_the_array_step(network, dtype, rows, weighted, processors, seed, data):
    """One worker does blocks of changing sizes, also larger than it was made for, then other parameters."""
    sizes = data.draw(block_sizes(dtype))
    like = np.empty(0, dtype=dtype)
    twin, truth = pair(network, like, sizes[0], processors)
    cuda_on_cpu.launched.clear()
    for turn, k in enumerate(sizes):
        params, X, Y = problem(network.sizes, k, network.output.name, seed=seed + turn, dtype=dtype)
        params = tuple(fb.Layer(W, b) for W, b in params)
        if rows:
            X, Y = np.asfortranarray(X), np.asfortranarray(Y)
        weight = np.random.default_rng(seed).random(k).astype(dtype) + 0.1 if weighted else None
        before = [a.copy() for a in (X, Y, *(a for layer in params for a in layer))]
        for step in (twin, truth):
            step.load(flatten(params))
        for _ in range(2):  # the second time through used buffers
            hold(twin, truth, X, Y, weight, dtype)
        after = [X, Y, *(a for layer in params for a in layer)]
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    ran = {name for name, _ in cuda_on_cpu.launched}
    one_unit = network.sizes[-1] == 1
    assert ("tail" in ran) == one_unit, "with one output unit the tail must be what ran"
    assert ("output" in ran) == (not one_unit)


@st.composite
def narrow_networks(draw):
    """With every share of the work of lanes and warps: see onepass.Variant."""
    inputs = draw(st.sampled_from([1, 3, 4, 7, 15, 16, 28, 31]))
    hidden = draw(st.sampled_from([1, 5, 31, 32, 33, 64, 65, 130, 192]))
    name, output = draw(st.sampled_from(NAMES)), draw(st.sampled_from(["sigmoid", "identity", "exp"]))
    return fb.Network([inputs, hidden, 1], hidden=name, output=output)


def laid_out(X, how):
    """The same numbers in another arrangement of the memory."""
    if how == "strided":
        wide = np.full((2 * X.shape[0], 3 * X.shape[1]), np.nan, dtype=X.dtype)
        wide[::2, ::3] = X
        return wide[::2, ::3]
    return {"rows": np.asfortranarray, "columns": np.ascontiguousarray}[how](X)


@on_cpu
@given(
    network=narrow_networks(),
    dtype=st.sampled_from(["float32", "float64"]),
    how=st.sampled_from(["rows", "columns", "strided"]),
    weighted=st.booleans(),
    processors=st.integers(1, 3),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_the_one_pass_step_is_the_array_step(network, dtype, how, weighted, processors, seed, data):
    sizes = data.draw(block_sizes(dtype))
    twin, truth = pair(network, np.empty(0, dtype=dtype), sizes[0], processors, OnePassStep)
    cuda_on_cpu.launched.clear()
    for turn, k in enumerate(sizes):
        params, X, Y = problem(network.sizes, k, network.output.name, seed=seed + turn, dtype=dtype)
        params, X = tuple(fb.Layer(np.asfortranarray(W), b) for W, b in params), laid_out(X, how)
        weight = np.random.default_rng(seed).random(k).astype(dtype) + 0.1 if weighted else None
        for step in (twin, truth):
            step.load(flatten(params))
        for _ in range(2):
            hold(twin, truth, X, Y, weight, dtype)
    assert {name for name, _ in cuda_on_cpu.launched} == {"onepass", "tree"}


@on_cpu
@pytest.mark.parametrize("k", [1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize("step", [FusedStep, OnePassStep])
def test_few_examples_in_float32(step, k):
    """Of targets that no output is near: see block_sizes."""
    network = fb.Network([16, 65, 1], hidden="gelu")
    params, X, Y = problem(network.sizes, k, "sigmoid", seed=5, dtype="float32")
    twin, truth = pair(network, X, k, step=step)
    for each in (twin, truth):
        each.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
    assert np.min(np.abs(truth.predict(X) - Y)) > 0.01
    hold(twin, truth, X, Y, None, "float32")


@on_cpu
@pytest.mark.parametrize(("inputs", "hidden", "name"), [(47, 70, "gelu"), (63, 256, "silu"), (31, 384, "tanh")])
def test_the_one_pass_step_at_its_limits(inputs, hidden, name):
    network = fb.Network([inputs, hidden, 1], hidden=name)
    params, X, Y = problem(network.sizes, 70, "sigmoid", dtype="float32")
    twin, truth = pair(network, X, 70, step=OnePassStep)
    for step in (twin, truth):
        step.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
    hold(twin, truth, X, Y, None, "float32")


@on_cpu
@pytest.mark.parametrize("m", [2048, 2064, 5000])
def test_a_thread_block_takes_segment_after_segment(m):
    """With one processor there are two thread blocks."""
    network = fb.Network([3, 40, 1])
    params, X, Y = problem(network.sizes, m, "sigmoid")
    twin, truth = pair(network, X, m, processors=1, step=OnePassStep)
    for step in (twin, truth):
        step.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
    hold(twin, truth, X, Y, None, "float64")


@on_cpu
def test_one_pass_of_float32_adds_up_many_examples_better_than_the_array_step():
    network = fb.Network([3, 8, 1])
    params, X, Y = problem(network.sizes, 100_000, "sigmoid")
    truth = ArrayStep(network, X, X.shape[1])
    truth.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
    exact = host_arrays(truth.gradient(X, Y, None))
    loss = truth.cost(X, Y, None)[0]
    errors = []
    X, Y = X.astype("float32"), Y.astype("float32")
    for step in pair(network, X, X.shape[1], step=OnePassStep):
        step.load(flatten(tuple(fb.Layer(W.astype("float32"), b.astype("float32")) for W, b in params)))
        errors.append(relative(host_arrays(step.gradient(X, Y, None)), exact))
        assert float(step.cost(X, Y, None)[0]) == pytest.approx(float(loss), rel=1e-7)
    assert errors[0] <= 1.5 * errors[1]


@on_cpu
@pytest.mark.parametrize("step", [FusedStep, OnePassStep, TwoPassStep])
@pytest.mark.parametrize("hidden", [9, 32])
def test_an_infinite_x_is_what_it_is_in_the_pass(step, hidden):
    """Also where units that are not there fill up a warp: they weigh nothing, and nothing times infinity is NaN."""
    network = fb.Network([1, hidden, 1])
    params, X, Y = problem(network.sizes, 3, "sigmoid")
    X[0, 0], X[0, 2] = np.inf, -np.inf
    twin, truth = pair(network, X, 3, step=step)
    for each in (twin, truth):
        each.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
    with arrays.quiet():
        assert float(twin.cost(X, Y, None)[0]) == pytest.approx(float(truth.cost(X, Y, None)[0]), rel=1e-12)
        assert relative([twin.predict(X)], [truth.predict(X)]) < 1e-12


@on_cpu
@pytest.mark.parametrize("sizes", [[300, 1], [4, 90, 1], [4, 9, 70, 3], [4, 20, 1]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_take_what_the_step_says(sizes, dtype, monkeypatch):
    """All that a gradient allocates, beside the arrays that the step has from the start."""
    m = 2500  # three segments of a fused step, five of the one-pass step
    for step in (FusedStep, OnePassStep) if sizes == [4, 20, 1] else (FusedStep,):
        network = fb.Network(sizes, output="sigmoid" if sizes[-1] == 1 else "softmax")
        params, X, Y = problem(sizes, m, network.output.name, dtype=dtype)
        twin, taken = step(network, X, m, xp=FakeCuPy()), []
        twin.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
        real = FakeCuPy.empty

        def empty(self, shape, dtype, real=real, taken=taken):
            array = real(self, shape, dtype)
            taken.append(array.nbytes)
            return array

        with monkeypatch.context() as patch:
            patch.setattr(FakeCuPy, "empty", empty)
            nodes = twin.gradients(X, Y, None, step.segment(network))
        assert len(nodes) == 2
        said = step.sums(network, m)
        assert sum(taken) <= said <= (1.5 if dtype == "float64" else 2.5) * sum(taken)


def test_which_networks_take_one_pass(monkeypatch):
    monkeypatch.setattr(arrays, "is_cupy", lambda array: True)

    def can(sizes, dtype="float32", shared=99 * 2**10, **options):
        device = SimpleNamespace(attributes={"MaxSharedMemoryPerBlockOptin": shared})
        like = SimpleNamespace(dtype=np.dtype(dtype), device=device)
        return OnePassStep.can_run(fb.Network(sizes, **options), like)

    assert can([28, 64, 1])
    assert can([31, 384, 1])
    assert not can([31, 385, 1])
    assert can([63, 128, 1])
    assert can([63, 256, 1], shared=2**17)
    assert not can([63, 257, 1], shared=2**20)
    assert not can([64, 64, 1])
    assert can([31, 256, 1], hidden="gelu")
    assert not can([31, 257, 1], hidden="gelu")
    assert can([31, 128, 1], "float64")
    assert not can([31, 129, 1], "float64", shared=2**20)
    assert not can([32, 64, 1], "float64")
    assert not can([28, 64, 2])
    assert not can([28, 64, 2], output="softmax")
    assert not can([28, 64, 64, 1])
    assert not can([28, 1])
    assert not can([28, 64, 1], hidden=(np.tanh, np.cos))
    assert not can([28, 300, 1], shared=48 * 2**10), "there is no room for W1"
    most = max(onepass.Variant("float32", "tanh", "sigmoid", warps, 8).shared for warps in range(1, 7))
    assert most <= 99 * 2**10, "what every card since Ampere has"


@on_cpu
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output", sorted(OUTPUTS))
@pytest.mark.parametrize("last", [1, 3])
def test_each_activation_with_each_output_unit(name, output, last):
    last = 2 if output == "softmax" and last == 1 else last
    network = fb.Network([5, 70, 1, 40, last], hidden=name, output=output)
    params, X, Y = problem(network.sizes, 100, output, seed=4)
    twin, truth = pair(network, X, 100)
    for step in (twin, truth):
        step.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
    hold(twin, truth, X, Y, None, "float64")


@on_cpu
@pytest.mark.parametrize(
    ("dtype", "hidden"), [("float32", 1024), ("float32", 1025), ("float64", 512), ("float64", 513)]
)
def test_as_wide_as_the_registers_hold_and_wider(dtype, hidden):
    network = fb.Network([3, hidden, 1], hidden="silu")
    params, X, Y = problem(network.sizes, 20, "sigmoid", dtype=dtype)
    twin, truth = pair(network, X, 20)
    assert twin.has_tail == (hidden in (1024, 512))
    for step in (twin, truth):
        step.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
    hold(twin, truth, X, Y, None, dtype)


@on_cpu
@pytest.mark.parametrize("how", ["rows", "columns", "strided"])
@pytest.mark.parametrize(("dtype", "inputs"), [("float32", 28), ("float32", 1024), ("float64", 300), ("float64", 513)])
def test_without_a_hidden_layer_x_is_read_once_where_it_lies(dtype, inputs, how):
    network = fb.Network([inputs, 1])
    params, X, Y = problem(network.sizes, 70, "sigmoid", dtype=dtype)
    X = laid_out(X, how)
    before = X.copy()
    twin, truth = pair(network, X, 70)
    cuda_on_cpu.launched.clear()
    for step in (twin, truth):
        step.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
    hold(twin, truth, X, Y, np.linspace(0, 1, 70, dtype=dtype), dtype)
    assert {name for name, _ in cuda_on_cpu.launched} == {"tail" if inputs != 513 else "output", "tree"}
    assert np.array_equal(X, before)
    if inputs != 513:
        twin.xp.ascontiguousarray = None  # no copy is made, and no product of X
        cuda_on_cpu.multiplied.clear()
        twin.gradient(X, Y, None)
        assert cuda_on_cpu.multiplied == []


@on_cpu
@both_steps
def test_targets_and_weights_of_any_stride_and_weights_of_zero(step, sizes):
    network = fb.Network(sizes, output="exp")
    params, X, Y = problem(sizes, 60, "exp")
    params = tuple(fb.Layer(W, b) for W, b in params)
    wide = np.zeros((2 * sizes[-1], 180))
    wide[::2, ::3] = Y
    weight = np.repeat(np.linspace(0, 2, 60), 2)[::2]
    weight[7] = 0
    twin, truth = pair(network, X, 60, step=step)
    for each in (twin, truth):
        each.load(flatten(params))
    hold(twin, truth, X, wide[::2, ::3], weight, "float64")
    backwards = np.ascontiguousarray(Y[:, ::-1])[:, ::-1]
    hold(twin, truth, X, backwards, weight, "float64")


@on_cpu
@both_steps
def test_a_weight_of_zero_leaves_out_what_overflows(step, sizes):
    """exp of 1e6 and of -1e6 or so: the loss, or the gradient, or both are infinite there."""
    network = fb.Network(sizes, hidden="identity", output="exp")
    params, X, Y = problem(sizes, 60, "exp")
    params = tuple(fb.Layer(W, b) for W, b in params)
    weight = np.linspace(1, 2, 60)
    weight[[7, 8]] = 0
    X[:, 7:9] = 0
    twin, truth = pair(network, X, 60, step=step)
    for each in (twin, truth):
        each.load(flatten(params))
    wanted = truth.gradient(X, Y, weight)
    X[:, 7], X[:, 8] = 1e6, -1e6
    with arrays.quiet():
        ours, cost = twin.gradient(X, Y, weight), twin.cost(X, Y, weight)
    assert relative(host_arrays(ours), host_arrays(wanted)) < 1e-12
    assert [float(value) for value in cost] == pytest.approx([float(wanted.loss), float(wanted.weight)], rel=1e-12)
    assert float(ours.loss) == pytest.approx(float(wanted.loss), rel=1e-12)


@on_cpu
@pytest.mark.parametrize(("step", "sizes"), [(FusedStep, [1, 2, 1]), (FusedStep, [1, 2, 2]), (OnePassStep, [1, 2, 1]),
                                             (TwoPassStep, [1, 2, 2])])  # fmt: skip
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_pre_activations_give_finite_gradients_however_large(name, dtype, step, sizes):
    network = fb.Network(sizes, hidden=name, output="sigmoid")
    largest = float(np.finfo(dtype).max)
    X = np.array([[s * z for z in (1e3, 1e10, 1e13, 1e20, largest / 1e4) for s in (-1, 1)]], dtype=dtype)
    last = ([[1e-5, 2e-5], [1e-5, -1e-5]][: sizes[-1]], [[0.0], [0.0]][: sizes[-1]])
    params = tuple(
        fb.Layer(*(np.array(a, dtype=dtype) for a in layer)) for layer in [([[1.0], [-0.5]], [[0.0], [0.1]]), last]
    )
    step = step(network, X, 16, xp=FakeCuPy())
    step.load(flatten(params))
    with arrays.quiet():
        total = step.gradient(X, np.ones((sizes[-1], X.shape[1]), dtype=dtype), 1 / np.abs(X[0]))
    assert all(np.all(np.isfinite(a)) for a in host_arrays(total))
    assert np.isfinite(total.loss)


@on_cpu
@both_steps
@pytest.mark.parametrize("name", NAMES)
def test_a_nan_stays_one(name, step, sizes):
    network = fb.Network(sizes, hidden=name)
    params, X, Y = problem(sizes, 40, "sigmoid")
    X[0, 11] = np.nan
    step = step(network, X, 40, xp=FakeCuPy())
    step.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
    with arrays.quiet():
        assert np.isnan(float(step.gradient(X, Y, None).loss))
        assert np.isnan(float(step.cost(X, Y, None)[0]))


@on_cpu
def test_what_a_step_returned_stays_when_it_goes_on():
    for kind, sizes in [(FusedStep, [3, 5, 4, 2]), (FusedStep, [3, 5, 4, 1]), (OnePassStep, [3, 5, 1]),
                        (TwoPassStep, [4, 9, 3])]:  # fmt: skip
        network = fb.Network(sizes, hidden="identity", output="identity")
        params, X, Y = problem(sizes, 20, "identity")
        step = kind(network, X, 10, xp=FakeCuPy())
        step.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
        total, yhat = step.gradient(X[:, :10], Y[:, :10], None), step.predict(X[:, :10])
        kept = [a.copy() for a in [*host_arrays(total), yhat, total.loss]]
        step.gradient(X[:, 10:], Y[:, 10:], None)
        step.predict(X[:, 10:])
        assert all(np.array_equal(a, b) for a, b in zip([*host_arrays(total), yhat, total.loss], kept, strict=True))


@on_cpu
@pytest.mark.parametrize(("sizes", "kernel"), [([4, 9, 1], "tail tree"), ([4, 9, 5, 1], "activate descend tail tree"),
                                               ([4, 9, 3], "activate output descend tree")])  # fmt: skip
def test_nothing_is_compiled_but_what_is_launched(sizes, kernel):
    class Compiler(FakeCuPy):
        def RawModule(self, *, code):
            assert code.count("__global__") == 1, "one kernel a source"
            made.append(code)
            return super().RawModule(code=code)

    made = []
    network = fb.Network(sizes, output="sigmoid" if sizes[-1] == 1 else "softmax")
    params, X, Y = problem(sizes, 20, network.output.name)
    step = FusedStep(network, X, 20, xp=Compiler())
    step.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
    for _ in range(2):
        step.gradient(X, Y, None)
    assert len(made) == len(kernel.split())
    assert all(any(f"void {name}(" in code or f" {name}(\n" in code for code in made) for name in kernel.split())


@on_cpu
@pytest.mark.parametrize("kind", [FusedStep, OnePassStep, TwoPassStep])
def test_the_same_bits_from_run_to_run(kind):
    network = fb.Network([4, 40, 1])
    params, X, Y = problem(network.sizes, 700, "sigmoid", dtype="float32")
    results = []
    for _ in range(2):
        step = kind(network, X, 700, xp=FakeCuPy())
        step.load(flatten(tuple(fb.Layer(W, b) for W, b in params)))
        total = step.gradient(X, Y, None)
        results.append([a.tobytes() for a in [*host_arrays(total), total.loss]])
    assert results[0] == results[1]


def test_a_users_own_pair_has_no_kernels():
    assert kernels.knows(fb.Network([2, 3, 1]))
    assert not kernels.knows(fb.Network([2, 3, 1], hidden=(np.tanh, np.cos)))
    assert kernels.knows(fb.Network([2, 3, 1], output="identity"))
    assert not kernels.knows(fb.Network([2, 3, 1], output="identity", loss="absolute_error"))
    for step in (FusedStep, OnePassStep, TwoPassStep):
        assert not step.can_run(fb.Network([2, 3, 1]), np.empty(0)), "it is for CuPy"


def test_every_activation_and_output_unit_has_kernels():
    assert set(kernels.ACTIVATIONS) == set(ACTIVATIONS)
    assert set(kernels.C_OUTPUTS) == set(OUTPUTS)


# --- NVRTC --------------------------------------------------------------------------------------------------------

VARIANTS = [
    Variant(dtype, name, sorted(OUTPUTS)[i % 4], per_lane)
    for dtype in ("float32", "float64")
    for i, (name, per_lane) in enumerate(zip(NAMES, (1, 2, 4, 10, 8, 16, 3), strict=True))
] + [Variant("float32", "tanh", "sigmoid", 32), Variant("float32", "gelu", "sigmoid", 32)]
VARIANTS += [Variant("float32", output="sigmoid", per_lane=n, linear=True) for n in (1, 9, 32)]
ONE_PASS = [
    onepass.Variant("float32", "tanh", "sigmoid", 1, 8), onepass.Variant("float32", "gelu", "exp", 6, 16),
    onepass.Variant("float32", "relu", "identity", 2, 4), onepass.Variant("float64", "silu", "sigmoid", 5, 8),
]  # fmt: skip

TWO_PASS = [
    twopass.Variant.of(fb.Network(sizes, hidden=name, output=output), dtype, kind)
    for sizes, name, output, dtype, kind in (
        ([784, 128, 1], "tanh", "sigmoid", "float32", tiles.SPLIT),
        ([100, 1000, 32], "gelu", "softmax", "float32", tiles.TF32),
        ([28, 300, 9], "silu", "exp", "float64", tiles.PLAIN),
    )
]  # fmt: skip

CODED = [(coded.source(name, dtype, codes), name) for name in coded.KERNELS for dtype, codes in
         (("float32", "uint16"), ("float64", "uint32"))]  # fmt: skip

TENSOR = [
    (tensor.Variant("tanh", "sigmoid", tiles.SPLIT, 1, 4), False),
    (tensor.Variant("silu", "exp", tiles.TF32, 4, 4), True),
]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_nvrtc_compiles_the_kernels_without_a_gpu(architecture):
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("cuda.core is not installed (pip install 'cuda-core[cu13]' brings it with NVRTC)")
    core = pytest.importorskip("cuda.core", reason="cuda.core is not installed", exc_type=ImportError)
    options = core.ProgramOptions(arch=architecture, std="c++17", ftz=True)  # as CuPy has it
    sources = [(variant.source(kernel), kernel) for variant in VARIANTS for kernel in kernels.KERNELS]
    sources += [(variant.source, "onepass") for variant in ONE_PASS] + CODED
    sources += [(variant.source(gathers), "tensor") for variant, gathers in TENSOR]
    sources += [(variant.source(kernel), kernel) for variant in TWO_PASS for kernel in twopass.KERNELS]
    for source, kernel in sources + [
        (f"#define T {number}\n{segments.SUMS}{segments.TREE}", "tree") for number in ("float", "double")
    ]:
        try:
            program = core.Program(source, "c++", options)
        except Exception as error:  # it looks for the library here
            if "nvrtc" in str(error).lower():
                pytest.skip(f"NVRTC is missing: {error}")
            raise
        assert kernel.encode() in bytes(program.compile("cubin").code)
