"""Products on tensor cores, and the two-pass step that is made of them: as exact as float32, whoever runs first."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import cuda_on_cpu
import fake_cupy
import fullbatch as fb
from cuda_on_cpu import FakeCuPy
from fullbatch import steps
from fullbatch.core.parameters import flatten
from fullbatch.fold.fold import Fold
from fullbatch.machine import arrays, cuda
from fullbatch.sources import Dense, Examples
from fullbatch.steps import ArrayStep, OnePassStep, TensorStep, TwoPassStep
from fullbatch.steps.cuda import tensor, tiles, twopass
from fullbatch.steps.cuda.launch import Kernel
from reference import problem, relative

on_cpu = pytest.mark.skipif(cuda_on_cpu.COMPILER is None, reason="no g++ to compile the kernels for the CPU")


def host_arrays(total):
    return [np.asarray(array) for layer in total.gradients for array in layer]


def case(sizes, k, dtype="float32", hidden="tanh", output="", step=TwoPassStep, seed=0):
    """A step of a network with its parameters, X, Y, and the gradient's function in float64."""
    network = fb.Network(sizes, hidden=hidden, output=output or ("sigmoid" if sizes[-1] == 1 else "softmax"))
    params, X, Y = problem(sizes, k, network.output.name, seed=seed, dtype=dtype)
    theta = flatten(tuple(fb.Layer(W, b) for W, b in params))
    made, array, truth = (
        step(network, X, k, xp=FakeCuPy()),
        ArrayStep(network, X, k),
        ArrayStep(network, X.astype(float), k),
    )
    for each in (made, array, truth):
        each.load(theta if each is not truth else theta.astype(float))
    return made, array, truth, X, Y


# --- The instruction ------------------------------------------------------------------------------------------------

ONE_TILE = (
    "#define T float\n#define EVERY_LANE 0xffffffffu\n#define PRODUCTS 3\n"
    + tiles.INSTRUCTIONS
    + r"""
extern "C" __global__ void one_tile(const T* A, const T* B, T* C) {  // (16, 8), (8, 8), (16, 8): as the manual has them
    const int lane = threadIdx.x, g = lane >> 2, t = lane & 3;
    unsigned a[4], b[2];
    float c[4];
    for (int i = 0; i < 4; ++i) {
        const int row = i == 0 || i == 2 ? g : g + 8, column = i < 2 ? t : t + 4;
        a[i] = to_tf32(A[row * 8 + column]);
    }
    for (int i = 0; i < 2; ++i) b[i] = to_tf32(B[(i == 0 ? t : t + 4) * 8 + g]);
    for (int i = 0; i < 4; ++i) c[i] = C[(i < 2 ? g : g + 8) * 8 + 2 * t + (i & 1)];
    mma(c, a, b);
    for (int i = 0; i < 4; ++i) C[(i < 2 ? g : g + 8) * 8 + 2 * t + (i & 1)] = c[i];
}
"""
)


def in_tf32(x):
    """The nearest numbers of 11 bits, of two the one that is larger in size."""
    bits = np.abs(x).view(np.uint32)
    return np.copysign(((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32), x)


@on_cpu
def test_a_tile_is_the_product_of_what_the_manual_gives_its_lanes():
    rng = np.random.default_rng(0)
    A, B, C = (rng.standard_normal(shape).astype("float32") for shape in ((16, 8), (8, 8), (16, 8)))
    wanted = C + in_tf32(A).astype(float) @ in_tf32(B)
    Kernel(FakeCuPy(), ONE_TILE, "one_tile", 32)((1,), A, B, C)
    assert np.max(np.abs(C - wanted)) < 2 * np.spacing(np.float32(np.max(np.abs(wanted)))), "it rounds twice"
    assert np.max(np.abs(C - wanted)) > 0, "it rounds as a tensor core does, towards zero"


def product(kind, dtype, transposed, A, B):
    """A (16 M, K) B (K, 8 N) by one warp's ``add_products``."""
    M, N, K = A.shape[0] // 16, B.shape[1] // 8, A.shape[1]
    lines = {"T": {"float32": "float", "float64": "double"}[dtype], "PRODUCTS": kind, "M_": M, "N_": N, "K_": K,
             "PAIRED_": "true" if transposed else "false"}  # fmt: skip
    source = "".join(f"#define {name} {value}\n" for name, value in lines.items())
    source += "__device__ T m_abs(T x) { return x < 0 ? -x : x; }\n"
    source += (
        (tiles.INSTRUCTIONS if kind else "")
        + tiles.SOURCE
        + r"""
extern "C" __global__ void multiply(const T* A, const T* B, T* C) {
    T sums[M_][N_][4];
    clear(sums);
    add_products<PAIRED_>(sums, A, K_, 1, B, 1, 8 * N_, 8, K_ / 8, 8);
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    for (int m = 0; m < M_; ++m) for (int n = 0; n < N_; ++n) for (int r = 0; r < 4; ++r)
        C[(16 * m + g + 8 * (r / 2)) * 8 * N_ + 8 * n + 2 * t + r % 2] = sums[m][n][r];
}
"""
    )
    C = np.full((A.shape[0], B.shape[1]), np.nan, dtype)
    Kernel(FakeCuPy(), source, "multiply", 32)((1,), A.astype(dtype), B.astype(dtype), C)
    return C


@on_cpu
@pytest.mark.parametrize(("tiles_of", "paired"), [((1, 3), False), ((3, 2), True)])
@pytest.mark.parametrize(
    ("kind", "dtype", "least", "most"),
    [(tiles.SPLIT, "float32", 1e-8, 2e-7), (tiles.TF32, "float32", 1e-4, 1e-3), (tiles.PLAIN, "float64", 0, 1e-15)],
)
def test_products_are_as_exact_as_they_say(tiles_of, paired, kind, dtype, least, most):
    """Of positive numbers, so that no digits cancel."""
    rng = np.random.default_rng(1)
    A, B = (rng.random(shape).astype("float32") + 0.1 for shape in ((16 * tiles_of[0], 8), (8, 8 * tiles_of[1])))
    error = np.max(np.abs(product(kind, dtype, paired, A, B) / (A.astype(float) @ B) - 1))
    assert least <= error < most


@on_cpu
def test_a_long_sum_does_not_go_astray():
    """A tensor core alone would round it down a hundred times."""
    rng = np.random.default_rng(1)
    A, B = (rng.random(shape).astype("float32") + 0.1 for shape in ((16, 800), (800, 8)))
    wanted = A.astype(float) @ B
    ours, plain = (
        np.max(np.abs(product(kind, "float32", False, A, B) / wanted - 1)) for kind in (tiles.SPLIT, tiles.PLAIN)
    )
    assert ours < min(plain, 1e-6)


# --- The two-pass step ----------------------------------------------------------------------------------------------


@on_cpu
@pytest.mark.parametrize(
    ("sizes", "hidden", "output", "dtype"),
    [
        ([5, 70, 1], "tanh", "sigmoid", "float32"),
        ([5, 70, 2], "gelu", "identity", "float32"),
        ([20, 64, 11], "silu", "softmax", "float32"),
        ([70, 130, 32], "relu", "softmax", "float64"),
        ([17, 129, 3], "sigmoid", "exp", "float64"),
    ],
)
def test_it_is_the_array_step(sizes, hidden, output, dtype):
    ours, array, _, X, Y = case(sizes, 150, dtype, hidden, output)
    weight = np.linspace(0.1, 1, 150, dtype=dtype)
    weight[3] = 0
    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
    cuda_on_cpu.launched.clear()
    found, wanted = ours.gradient(X, Y, weight), array.gradient(X, Y, weight)
    assert [name for name, _ in cuda_on_cpu.launched] == ["outward", "head", "inward", "tree"]
    assert relative(host_arrays(found), host_arrays(wanted)) < tolerance
    cost = [float(value) for value in ours.cost(X, Y, weight)]
    assert cost == pytest.approx([float(wanted.loss), float(wanted.weight)], rel=tolerance, abs=tolerance)
    assert [float(found.loss), float(found.weight)] == cost
    assert relative([ours.predict(X)], [array.predict(X)]) < tolerance
    other = ours.gradient(np.asfortranarray(X), Y, weight)
    assert [a.tobytes() for a in host_arrays(other)] == [a.tobytes() for a in host_arrays(found)], "X's layout"


@on_cpu
@pytest.mark.parametrize("sizes", [[784, 128, 1], [100, 1000, 1]])
def test_as_wide_as_it_is_for_it_is_as_exact_as_float32(sizes):
    ours, array, truth, X, Y = case(sizes, 20)
    exact = host_arrays(truth.gradient(X.astype(float), Y.astype(float), None))
    errors = [relative(host_arrays(step.gradient(X, Y, None)), exact) for step in (ours, array)]
    assert errors[0] < max(3e-7, 1.5 * errors[1])
    assert relative([ours.predict(X)], [truth.predict(X.astype(float))]) < 1e-6


@on_cpu
def test_tf32_is_asked_for(monkeypatch):
    ours, _, truth, X, Y = case([20, 64, 11], 40, hidden="silu")
    exact = host_arrays(truth.gradient(X.astype(float), Y.astype(float), None))
    errors = []
    for plain in (True, False):
        monkeypatch.setattr(twopass, "in_tf32", lambda dtype, plain=plain: plain)
        errors.append(relative(host_arrays(ours.gradient(X, Y, None)), exact))
    assert 1e-5 < errors[0] < 3e-3
    assert errors[1] < 1e-6


@fake_cupy.pretended
def test_it_is_what_runs(monkeypatch):
    """From the estimator's side: with its name, and without cuBLAS; and in TF32 where that is asked for."""
    cupy = fake_cupy.install(monkeypatch)
    network = fb.Network([70, 64, 3], output="softmax")
    params, X, Y = problem(network.sizes, 200, "softmax", dtype="float32")
    there = Examples(*(Dense(cupy.asarray(a)) for a in (X, Y)), None)
    theta = flatten(tuple(fb.Layer(W, b) for W, b in params))
    for precision, kind in ((None, tiles.SPLIT), ("tf32", tiles.TF32)):
        cuda_on_cpu.launched.clear()
        cuda_on_cpu.multiplied.clear()
        with cuda.products(precision, there.X.like):
            assert steps.choose(network, there.X.like, precision or "") == "twopass"
            step = steps.make(network, there.X.like, 200)
            step.load(cupy.asarray(theta))
            step.gradient(*(cupy.asarray(a) for a in (X, Y)), None)
            assert list(step._kernels) == [kind]
        assert {name for name, _ in cuda_on_cpu.launched} == {"outward", "head", "inward", "tree"}
        assert cuda_on_cpu.multiplied == []
    with Fold(network, there) as fold:
        fold.gradient(cupy.asarray(theta))
        assert fold.step_name == "twopass"


def test_which_networks_take_two_passes(monkeypatch):
    monkeypatch.setattr(arrays, "is_cupy", lambda array: True)

    def can(sizes, dtype="float32", shared=227 * 2**10, capability="90", **options):
        attributes = {"MaxSharedMemoryPerBlockOptin": shared}
        device = SimpleNamespace(attributes=attributes, compute_capability=capability)
        return TwoPassStep.can_run(fb.Network(sizes, **options), SimpleNamespace(dtype=np.dtype(dtype), device=device))

    assert can([784, 128, 1])
    assert can([100, 1000, 1])
    assert can([100, 1000, 32], output="softmax")
    assert can([100, 1000, 32], output="softmax", shared=99 * 2**10)
    assert can([784, 128, 10], output="softmax", capability="75")
    assert not can([100, 1000, 33], output="softmax")
    assert can([1023, 128, 1])
    assert not can([1024, 128, 1])
    assert not can([784, 128, 1], shared=163 * 2**10), "what an A100 has: its W1 and X do not fit"
    assert not can([784, 63, 1])
    assert can([200, 128, 1], "float64")
    assert not can([784, 128, 1], "float64")
    assert not can([28, 64, 64, 1])
    assert not can([28, 64, 1], hidden=(np.tanh, np.cos))


def test_without_tensor_cores_each_lane_multiplies():
    assert tiles.kind("float32", False, True) == tiles.PLAIN
    assert tiles.kind("float64", True, True) == tiles.PLAIN
    assert tiles.kind("float32", True, False) == tiles.SPLIT
    turing = SimpleNamespace(device=SimpleNamespace(compute_capability="75"))
    assert not tiles.has_tensor_cores(turing)


# --- One pass on tensor cores ---------------------------------------------------------------------------------------


@on_cpu
@pytest.mark.parametrize(("sizes", "hidden"), [([28, 64, 1], "tanh"), ([4, 70, 1], "gelu")])
def test_one_pass_on_tensor_cores_is_as_exact_as_float32(sizes, hidden, monkeypatch):
    ours, array, truth, X, Y = case(sizes, 70, hidden=hidden, step=TensorStep)
    weight = np.linspace(0.1, 1, 70, dtype="float32")
    weight[3] = 0
    cuda_on_cpu.launched.clear()
    found, wanted = ours.gradient(X, Y, weight), truth.gradient(X.astype(float), Y.astype(float), weight.astype(float))
    assert [name for name, _ in cuda_on_cpu.launched] == ["tensor", "tree"]
    plain = relative(host_arrays(array.gradient(X, Y, weight)), host_arrays(wanted))
    assert relative(host_arrays(found), host_arrays(wanted)) < max(3e-7, 1.5 * plain)
    near = pytest.approx([float(wanted.loss), float(wanted.weight)], rel=1e-6)
    assert [float(value) for value in ours.cost(X, Y, weight)] == [float(found.loss), float(found.weight)] == near
    assert relative([ours.predict(X)], [truth.predict(X.astype(float))]) < 1e-6
    other = ours.gradient(np.asfortranarray(X), Y, weight)
    assert [a.tobytes() for a in host_arrays(other)] == [a.tobytes() for a in host_arrays(found)], "X's layout"
    if hidden == "tanh":
        X[0, 5] = np.inf
        assert relative([ours.predict(X)], [array.predict(X)]) < 1e-5
    monkeypatch.setattr(tensor, "in_tf32", lambda dtype: True)
    assert 1e-5 < relative([ours.predict(X[:, 6:])], [array.predict(X[:, 6:])]) < 3e-3


@on_cpu
def test_it_takes_segment_after_segment():
    ours, array, _, X, Y = case([4, 70, 1], 1100, hidden="gelu", step=TensorStep)
    found, wanted = (step.gradient(X, Y, None) for step in (ours, array))
    assert relative(host_arrays(found), host_arrays(wanted)) < 1e-5
    assert float(found.loss) == pytest.approx(float(wanted.loss), rel=1e-6)


def test_it_is_for_tf32_unless_it_is_named(monkeypatch):
    monkeypatch.setattr(arrays, "is_cupy", lambda array: True)

    def chosen(sizes, precision="tf32", dtype="float32", capability="90"):
        attributes = {"MaxSharedMemoryPerBlockOptin": 227 * 2**10}
        device = SimpleNamespace(attributes=attributes, compute_capability=capability)
        return steps.choose(fb.Network(sizes), SimpleNamespace(dtype=np.dtype(dtype), device=device), precision)

    assert chosen([28, 64, 1]) == "tensor"
    assert chosen([28, 64, 1], "") == "onepass"
    assert chosen([31, 256, 1]) == "tensor"
    assert chosen([31, 257, 1]) == "twopass"
    assert chosen([32, 64, 1]) == "twopass"
    assert chosen([32, 60, 1]) == "fused"
    assert chosen([28, 64, 1], "", "float64") == "onepass"


# --- Who runs first -------------------------------------------------------------------------------------------------


def bits(step, X, Y):
    total = step.gradient(X, Y, None)
    return [array.tobytes() for array in [*host_arrays(total), np.asarray(total.loss)]]


# Each step with a network that has several warps, parts of X, groups and tiles, and the barriers in each kernel's text.
# Of the last two in ``head`` one would do.
RACES = [
    (OnePassStep, [4, 70, 1], {"onepass": 4}),
    (TensorStep, [4, 70, 1], {"tensor": 4}),
    (TwoPassStep, [20, 130, 3], {"outward": 4, "head": 1, "inward": 4}),
]


@on_cpu
@pytest.mark.parametrize(("step", "sizes", "barriers"), RACES)
def test_no_order_of_the_threads_changes_a_bit_and_each_barrier_is_needed(step, sizes, barriers, monkeypatch):
    monkeypatch.setattr(twopass, "LEAST", 256)
    monkeypatch.setattr(twopass, "NUMBERS_A_ROW", 0)
    made, *_, X, Y = case(sizes, 150, step=step)

    def bits(seed, fault):
        monkeypatch.setattr(cuda_on_cpu, "stalls", seed)
        monkeypatch.setattr(cuda_on_cpu, "fault", fault)
        total = made.gradient(X, Y, None)
        return [array.tobytes() for array in [*host_arrays(total), np.asarray(total.loss)]]

    wanted = bits(0, {})
    assert bits(1, {}) == wanted
    for kernel, count in barriers.items():
        for barrier in range(1, count + 1):
            differ = (bits(seed, {kernel: barrier}) != wanted for seed in range(1, 6))
            assert any(differ), f"barrier {barrier} of {kernel}"
