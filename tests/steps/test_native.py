"""The native step where test_steps.py, which holds it to the array step, does not look: edges, numbers, wrong calls."""

from __future__ import annotations

import ctypes
import functools
import gc

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import fullbatch as fb
from conftest import ISAS, use
from fullbatch import steps
from fullbatch.core.activations import ACTIVATIONS
from fullbatch.core.losses import OUTPUTS
from fullbatch.core.parameters import flatten
from fullbatch.machine import arrays, native_library
from fullbatch.sources import Dense, Examples, Sparse
from fullbatch.steps import native
from fullbatch.training.native_batches import KINDS
from fullbatch.training.objective import Objective
from reference import PAIRS, problem, relative
from through_layers import cost_and_layers

pytestmark = pytest.mark.skipif(not ISAS, reason="the native step is not here")


@pytest.fixture(params=ISAS)
def isa(request, monkeypatch):
    use(f"native-{request.param}", monkeypatch)
    return native_library.isa()[0]


def layers(params):
    return tuple(fb.Layer(W, b) for W, b in params)


def host_arrays(total):
    return [np.asarray(array) for layer in total.gradients for array in layer]


def test_the_names_are_in_the_order_of_the_header():
    """Python gives C an index into these tuples."""
    header = (native_library_root() / "native" / "fullbatch_native.h").read_text()

    def names(enum, prefix):
        body = header.split(f"enum {enum} {{")[1].split("}")[0]
        return tuple(word.strip().removeprefix(prefix).lower() for word in body.split(","))

    assert names("fb_activation", "FB_") == native.C_ACTIVATIONS
    assert names("fb_output", "FB_OUT_") == native.C_OUTPUTS
    assert names("fb_optimizer", "FB_") == KINDS
    assert set(native.C_ACTIVATIONS) == set(ACTIVATIONS)
    assert set(native.C_OUTPUTS) == set(OUTPUTS)


def test_two_lines_that_meet(isa):
    """Where a = y the slope is 0, and NaN where there is no number; an example of weight 0 counts for nothing."""
    y = np.array([[0.0, 1.0, -1.0, np.nan, 0.0, -0.0]])
    weight = np.array([1.0, 2.0, 3.0, 0.0, 4.0, 5.0])
    for dtype in ("float32", "float64"):
        network = fb.Network([1, 1], output="identity", loss="quantile", quantile=0.75)
        assert steps.choose(network, np.empty(0, dtype)) == "native"
        step = steps.NativeStep(network, np.zeros((1, 1), dtype), 6)
        step.load(np.zeros(2, dtype))
        X, Y = np.ones((1, 6), dtype), y.astype(dtype)
        total = step.gradient(X, Y, weight.astype(dtype))
        assert float(total.loss) == 0.75 * 2 + 0.25 * 3
        assert total.vector.tolist() == [-0.75 * 2 + 0.25 * 3] * 2
        assert step.cost(X, Y, weight.astype(dtype)) == (total.loss, 15.0)
        assert np.isnan(step.gradient(X, Y, None).vector).all()
        assert np.isnan(step.cost(X, Y, None)[0])


def native_library_root():
    from pathlib import Path

    root = Path(__file__).parents[2] / "src"
    if not (root / "native").exists():
        pytest.skip("the tests run without the sources")
    return root


# --- Numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "output", "hidden", "m", "density"),
    [
        ([28, 64, 1], "sigmoid", "tanh", 10_000, 1),
        ([100, 300, 1], "identity", "tanh", 10_000, 1),
        ([50, 40, 30, 5], "softmax", "tanh", 10_000, 1),
        ([30, 1], "sigmoid", "tanh", 10_000, 1),
        ([10, 16, 8, 1], "sigmoid", "relu", 100_000, 1),  # so many that an error with a sign would not average out
        ([10, 16, 8, 1], "sigmoid", "sigmoid", 100_000, 1),
        ([40, 1], "sigmoid", "tanh", 20_000, 0.02),
        ([200, 30, 3], "softmax", "tanh", 20_000, 0.02),
    ],
)
def test_its_error_is_that_of_the_array_step(isa, sizes, output, hidden, m, density):
    """float32 against float64, over more examples than a block has; the mean of five draws."""
    errors = {"native": [], "array": []}
    for seed in range(5):
        truth, array = exact_gradients(tuple(sizes), output, hidden, m, density, seed)
        network, params, X, Y = drawn(sizes, output, hidden, m, density, seed)
        errors["native"].append(relative(gradients("native", network, params, X, Y), truth))
        errors["array"].append(relative(array, truth))
    assert np.mean(errors["native"]) < 1.5 * np.mean(errors["array"]) < 1e-5


def drawn(sizes, output, hidden, m, density, seed):
    params, X, Y = problem(list(sizes), m, output, seed=seed, dtype="float32")
    if density < 1:
        X *= np.random.default_rng(seed).random(X.shape) < density
        X = scipy.sparse.csr_array(X.T)
    return fb.Network(list(sizes), hidden=hidden, output=output), params, X, Y


def gradients(which, network, params, X, Y):
    """By the step of this name and no other."""
    source = Sparse(X) if scipy.sparse.issparse(X) else Dense(X)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "STEPS", {which: steps.STEPS[which]})
        with Objective(network, Examples(source, Dense(Y))) as objective:
            assert objective.fold.step_name == which
            return [a for g in cost_and_layers(objective, layers(params))[1] for a in g]


@functools.cache
def exact_gradients(sizes, output, hidden, m, density, seed):
    """Of the array step in float64, and in float32: no instruction set changes them, so they are computed once."""
    network, params, X, Y = drawn(sizes, output, hidden, m, density, seed)
    exact = [tuple(a.astype("float64") for a in layer) for layer in params]
    truth = gradients("array", network, exact, X.astype("float64"), Y.astype("float64"))
    return truth, gradients("array", network, params, X, Y)


@pytest.mark.parametrize("output", sorted(PAIRS))
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinity_in_x_come_out_as_from_the_array_step(isa, name, output, dtype):
    """Example by example, in yhat; and no other example, unit or empty lane of a vector catches it."""
    outputs = 1 if output == "sigmoid" else 3
    sizes = [5, 7, outputs]
    network = fb.Network(sizes, hidden=name, **PAIRS[output])
    params, X, _ = problem(sizes, 70, output, seed=2, dtype=dtype)
    X[0, 3], X[1, 10], X[2, 66], X[4, 69] = np.nan, np.inf, -np.inf, np.inf
    yhats = []
    for which in ("native", "array"):
        step = steps.STEPS[which](network, X, 70)
        step.load(flatten(layers(params)))
        with arrays.quiet():
            yhats.append(np.array(step.predict(X)))
    assert np.isnan(yhats[0][:, 3]).all()
    for test in (np.isnan, np.isposinf, np.isneginf):
        assert np.array_equal(test(yhats[0]), test(yhats[1]))
    finite = np.isfinite(yhats[1])
    assert relative([yhats[0][finite]], [yhats[1][finite]]) < (1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize(("dtype", "shift"), [("float32", 1e3), ("float32", 1e7), ("float64", 1e12)])
def test_large_z_of_a_softmax_leave_its_loss_exact(isa, dtype, shift):
    """What is small beside z, the log of the sum, must not be added to z before the z of the class is taken away."""
    network = fb.Network([1, 3], output="softmax")
    step = steps.NativeStep(network, np.zeros((1, 1), dtype), 70)
    step.load(flatten(layers([(np.zeros((3, 1), dtype), np.array([[shift], [shift], [0]], dtype))])))
    loss, weight = step.cost(np.zeros((1, 70), dtype), np.eye(3, dtype=dtype)[:, [0] * 35 + [1] * 35], None)
    assert loss / weight == pytest.approx(np.log(2), rel=1e-6 if dtype == "float32" else 1e-14)


def test_denormal_numbers_still_exist_in_this_process(isa):
    """A library linked with -ffast-math would have turned them off for everybody."""
    step = steps.NativeStep(fb.Network([1, 1]), np.zeros((1, 1), "float32"), 1)
    step.load(flatten(layers([(np.ones((1, 1), "float32"), np.zeros((1, 1), "float32"))])))
    step.predict(np.zeros((1, 1), "float32"))
    assert np.float32(1e-40) * np.float32(0.5) > 0


# --- Blocks ---------------------------------------------------------------------------------------------------------


@given(
    m=st.sampled_from([1, 63, 64, 65, 200]),
    inputs=st.sampled_from([1, 7, 40]),
    hidden=st.lists(st.sampled_from([1, 16, 33]), max_size=2),
    outputs=st.sampled_from([1, 2, 18]),
    density=st.sampled_from([0.0, 0.1, 1.0]),
    dtype=st.sampled_from(["float32", "float64"]),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_sparse_block_is_the_dense_one(m, inputs, hidden, outputs, density, dtype, weighted, seed):
    rng = np.random.default_rng(seed)
    rows = scipy.sparse.random_array((m, inputs), density=density, format="csr", rng=rng, dtype=np.float64).astype(
        dtype
    )
    network = fb.Network([inputs, *hidden, outputs])
    Y = rng.random((outputs, m)).astype(dtype)
    weight = rng.random(m).astype(dtype) if weighted else None
    for isa in ISAS:
        with pytest.MonkeyPatch.context() as patch:
            use(f"native-{isa}", patch)
            step = steps.NativeStep(network, Y, m)
        step.load(flatten(network.init(seed=seed, dtype=dtype)))
        sparse, dense = (step.gradient(X, Y, weight) for X in (rows.T, rows.toarray().T))
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        assert relative(host_arrays(sparse), host_arrays(dense)) < tolerance
        assert float(sparse.loss) == pytest.approx(float(dense.loss), rel=tolerance)
        assert step.cost(rows.T, Y, weight) == pytest.approx(step.cost(rows.toarray().T, Y, weight), rel=tolerance)
        assert relative([step.predict(rows.T)], [step.predict(rows.toarray().T)]) < tolerance


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [[], [5], [40, 3], [64]])
@pytest.mark.parametrize(("output", "outputs"), [("sigmoid", 1), ("softmax", 3), ("identity", 18)])
def test_how_x_lies_in_memory_does_not_change_a_bit(isa, dtype, hidden, output, outputs):
    """By rows, by columns, and with gaps; without hidden layers the product reads X itself, in either order."""
    rng = np.random.default_rng(0)
    for n, m in [(1, 70), (3, 5), (15, 64), (16, 63), (17, 65), (33, 200), (100, 4200)]:
        network = fb.Network([n, *hidden, outputs], output=output)
        table, Y = rng.standard_normal((m, n)).astype(dtype), rng.random((outputs, m)).astype(dtype)
        gaps = np.zeros((m, 2 * n), dtype)[:, ::2]
        gaps[:] = table
        found = []
        for X in (table.T, np.ascontiguousarray(table.T), gaps.T):
            step = steps.NativeStep(network, X, m)
            step.load(flatten(network.init(seed=1, dtype=dtype)))
            total = step.gradient(X, Y, None)
            found.append((float(total.loss), total.vector.tobytes(), np.ascontiguousarray(step.predict(X)).tobytes()))
        assert found[1] == found[0], (n, m)
        assert found[2] == found[0], (n, m)


def test_no_examples_sum_to_nothing(isa):
    network = fb.Network([3, 4, 2])
    step = steps.NativeStep(network, np.zeros((3, 0)), 64)
    step.load(flatten(network.init(seed=0)))
    total = step.gradient(np.zeros((3, 0)), np.zeros((2, 0)), None)
    assert (float(total.loss), total.weight) == (0, 0)
    assert not any(a.any() for a in host_arrays(total))
    assert step.predict(np.zeros((3, 0))).shape == (2, 0)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_number_of_threads_does_not_change_a_bit(isa, sparse):
    rng = np.random.default_rng(0)
    m = 50_000
    X = Dense(rng.standard_normal((20, m), dtype="float32"))
    if sparse:
        X = Sparse(
            scipy.sparse.random_array((m, 60), density=0.02, format="csr", rng=rng, dtype=np.float64).astype("float32")
        )
    network = fb.Network([X.n, 30, 1])
    Y = Dense(rng.integers(0, 2, (1, m)).astype("float32"))
    outcomes = []
    for threads in (1, 2, 3):
        with Objective(network, Examples(X, Y), threads=threads) as objective:
            assert (objective.fold.step_name, objective.fold.threads) == ("native", threads)
            J, gradients = cost_and_layers(objective, network.init(seed=0, dtype="float32"))
            outcomes.append((J, [a.tobytes() for layer in gradients for a in layer]))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_x_is_not_copied_as_a_whole():
    """Not even where each block has to be: of another dtype's alignment, backwards, or in columns."""
    import tracemalloc

    m = 400_000  # of which a block, a quarter of a leaf here, is a twentieth
    buffer = np.zeros(20 * m * 4 + 1, np.uint8)
    unaligned = buffer[1:].view("float32").reshape(m, 20).T
    network = fb.Network([20, 8, 1])
    Y = np.zeros((1, m), "float32")
    for X in (unaligned, np.zeros((m, 40), "float32")[:, ::2].T, np.zeros((20, m), "float32")):
        tracemalloc.start()
        fb.cost_and_gradients(network, network.init(seed=0, dtype="float32"), X, Y, threads=1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**21 < X.nbytes // 10


def test_a_block_leaves_nothing_behind_in_the_tile(isa):
    """A tile of columns takes up the room where a tile of rows has its empty lanes."""
    network = fb.Network([5, 1], output="identity")
    step = steps.NativeStep(network, np.zeros((5, 1)), 64)
    step.load(flatten(network.init(seed=0)))
    strided = np.ones((64, 10))[:, ::2].T
    before = step.predict(strided).copy()
    step.predict(np.full((5, 64), np.inf))
    assert np.array_equal(step.predict(strided), before)


def test_sums_that_overflow_only_without_the_output_units_weights_do_not(isa):
    """The weights of a single output unit are pulled out of the sums: where that overflows it must be done again."""
    network = fb.Network([1, 1, 1], hidden="relu", output="identity")
    params = layers([([[1e-20]], [[0.0]]), ([[1e-10]], [[0.0]])])
    params = tuple(fb.Layer(*(np.array(a, "float32") for a in layer)) for layer in params)
    X, Y = np.full((1, 64), 1e20, "float32"), np.full((1, 64), -1e19, "float32")
    totals = []
    for which in ("native", "array"):
        step = steps.STEPS[which](network, X, 64)
        step.load(flatten(params))
        totals.append(host_arrays(step.gradient(X, Y, None)))
    assert all(np.isfinite(a).all() for a in totals[1])
    assert all(relative([a], [b]) < 1e-5 for a, b in zip(*totals, strict=True))


# --- Wrong calls


def test_wrong_blocks_raise():
    network = fb.Network([3, 4, 2])
    step = steps.NativeStep(network, np.zeros((3, 1)), 64)
    step.load(flatten(network.init(seed=0)))
    X, Y = np.zeros((3, 5)), np.zeros((2, 5))
    for wrong in [(X[:2], Y, None), (X, Y[:1], None), (X, Y[:, :4], None), (X, Y, np.ones(4)), (X, Y, np.ones((5, 1)))]:
        with pytest.raises(ValueError, match=r"for a network of|where Y is to be"):
            step.gradient(*wrong)
    for pointers in ([0, 1, 1, 1, 1, 2_000_000_000], [0, 1, 1, 1, 1, -1]):
        torn = scipy.sparse.csr_array((np.ones(1), [0], [0, 1, 1, 1, 1, 1]), shape=(5, 3)).T
        torn.indptr[:] = pointers
        with pytest.raises(ValueError, match="pointers up to"):
            step.cost(torn, Y, None)
    beyond = scipy.sparse.csr_array((np.ones(1), [0], [0, 1, 1, 1, 1, 1]), shape=(5, 3)).T
    for features in (3, -1):
        beyond.indices[0] = features
        for call in (
            lambda: step.gradient(beyond, Y, None),
            lambda: step.cost(beyond, Y, None),
            lambda: step.predict(beyond),
        ):
            with pytest.raises(ValueError, match="out of range"):
                call()


def test_parameters_of_another_network_raise():
    step = steps.NativeStep(fb.Network([3, 4, 2]), np.zeros((3, 1)), 64)
    for sizes in ([2, 4, 2], [3, 4, 1], [3, 2]):
        with pytest.raises(ValueError, match="parameters for the 26 of"):
            step.load(flatten(fb.Network(sizes).init(seed=0)))


def new_step(library, isa, sizes=(3, 4, 2), activations=(0,), output=(0,), dtype=8, count=None):
    return library.fb_step_new(
        isa, dtype, len(sizes) - 1 if count is None else count, (ctypes.c_int64 * len(sizes))(*sizes),
        (ctypes.c_int32 * max(len(activations), 1))(*activations), native_library.OutputLoss(*output),
    )  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"isa": -1}, {"isa": 99}, {"dtype": 2}, {"count": 0}, {"count": -3}, {"sizes": (3, 0, 2)},
        {"sizes": (-1, 4, 2)}, {"sizes": (2**62, 2**62, 2)}, {"activations": (7,)},
        {"activations": (-1,)}, {"output": (4,)}, {"output": (-1,)}, {"output": (3, 1, 1.0, 1.0)},
        {"output": (2, 1, -1.0, 1.0)}, {"sizes": (2**38, 3, 1)},
    ],
)  # fmt: skip
def test_a_step_that_cannot_be_is_refused(isa, wrong):
    """The last one is of a size that no machine has memory for."""
    library = native_library.load()
    handle = new_step(library, **{"isa": isa, **wrong})
    if handle:
        library.fb_step_free(handle)
    assert not handle


def test_wrong_calls_of_c_are_refused(isa):
    library = native_library.load()
    handle = new_step(library, isa)
    X, Y, out = np.zeros((4, 3)), np.zeros((4, 2)), np.zeros(100)
    loss, weight = ctypes.c_double(), ctypes.c_double()

    def block(**changes):
        fields = {
            "X": X.ctypes.data,
            "x_feature": 1,
            "x_example": 3,
            "Y": Y.ctypes.data,
            "y_unit": 1,
            "y_example": 2,
            "m": 4,
        }
        return native_library.Block(**{**fields, **changes})

    features = np.zeros(1, np.int32)
    starts = {
        name: np.array(s, np.int32) for name, s in {"back": [0, 1, 0, 1, 1], "negative": [-1, 0, 0, 0, 1]}.items()
    }
    wrong = [
        block(m=-1),
        block(X=None),
        *(block(indptr=s.ctypes.data, features=features.ctypes.data) for s in starts.values()),
    ]
    for each in [*wrong, block(Y=None), None]:
        assert library.fb_step_gradient(handle, each, out.ctypes.data, loss, weight) == -1
        assert library.fb_step_cost(handle, each, loss, weight) == -1
    for each in [*wrong, None]:
        assert library.fb_step_predict(handle, each, out.ctypes.data) == -1
    assert library.fb_step_predict(handle, block(), None) == -1
    assert library.fb_step_gradient(handle, block(), None, loss, weight) == -1
    assert library.fb_step_gradient(handle, block(), out.ctypes.data, None, weight) == -1
    assert library.fb_step_gradient(None, block(), out.ctypes.data, loss, weight) == -1
    assert library.fb_step_gradient(handle, block(), out.ctypes.data, loss, weight) == 0
    library.fb_step_free(handle)
    library.fb_step_free(None)


def test_wrong_calls_of_the_trainer_are_refused(isa):
    library = native_library.load()
    rule, output = native_library.Rule(kind=0), native_library.OutputLoss(0)

    def new(batch=4, rule=rule):
        return library.fb_trainer_new(
            isa, 8, 1, (ctypes.c_int64 * 2)(3, 2), (ctypes.c_int32 * 1)(0), output, batch, rule
        )

    assert not new(batch=0)
    assert not new(batch=2**60)
    assert not new(rule=None)
    assert not new(rule=native_library.Rule(kind=4))
    trainer = new()
    theta = np.zeros(8)
    library.fb_trainer_load(trainer, theta.ctypes.data, None, None)
    X, Y, rates, cost = np.zeros((6, 3)), np.zeros((6, 2)), np.zeros(6), ctypes.c_double()
    block = native_library.Block(X=X.ctypes.data, x_feature=1, x_example=3, Y=Y.ctypes.data, y_unit=1, y_example=2, m=6)
    order = np.arange(6)

    def run(block=block, order=order, m=6, batch=4, threads=1, rates=rates.ctypes.data, cost=cost):
        return library.fb_trainer_run(trainer, threads, block, order.ctypes.data, m, batch, rates, 9.0, cost)

    assert run() == 6
    for bad in (np.array([0, 1, 2, 3, 4, 6]), np.array([0, 1, -1, 3, 4, 5])):
        assert run(order=bad) == -1
    for wrong in (
        {"m": 5},
        {"batch": 5},
        {"batch": 0},
        {"threads": 0},
        {"rates": None},
        {"cost": None},
        {"block": None},
    ):
        assert run(**wrong) == -1
    library.fb_trainer_free(trainer)


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_a_step_gives_its_memory_back():
    """1,000 steps of a wide network would take 4 GB. What is there before does not count: JAX's tests leave 2."""
    network = fb.Network([500, 500, 1])
    before = resident()
    for _ in range(1000):
        steps.NativeStep(network, np.zeros((1, 1)), 64)
    gc.collect()
    assert resident() < before + 2**20, "kB"
