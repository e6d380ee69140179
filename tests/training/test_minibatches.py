"""The native batches are held to the loop in Python, which runs the same step; and they must be what ran."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import fullbatch as fb
from conftest import ISAS, use
from fullbatch.core.activations import ACTIVATIONS
from fullbatch.core.parameters import count, flatten, unflatten
from fullbatch.machine import native_library
from fullbatch.sources import Dense, Examples, OneHot, Sparse, Subset
from fullbatch.sources.encoded import EncodedTable
from fullbatch.steps.cuda.updates import KINDS
from fullbatch.steps.native import as_c, put_targets, put_X
from fullbatch.training import minibatches, native_batches, optimizers
from fullbatch.training.loop import Interrupted, epochs
from fullbatch.training.minibatches import PythonBatches
from fullbatch.training.native_batches import NativeBatches
from fullbatch.training.objective import Objective
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import TrainingState
from reference import PAIRS, kind, problem, relative

pytestmark = pytest.mark.skipif(not ISAS, reason="the native step is not here")
OPTIMIZERS = {
    "gd": optimizers.gd(),
    "momentum": optimizers.sgd(0.9, False),
    "nesterov": optimizers.sgd(0.8),
    "adam": optimizers.adam(0.8, 0.95, 1e-3),
}
TOLERANCE = {
    "float64": 1e-11,
    "float32": 3e-5,
}  # of parameters after some updates, which carry on the gradients' rounding


def case(*arguments, **options):
    params, X, Y = problem(*arguments, **options)
    return tuple(fb.Layer(W, b) for W, b in params), X, Y


class Falling(Schedule):
    """Another rate at each update, of which there are ``epochs`` in an epoch."""

    def at(self, rate, epoch):
        return rate / (1 + round(epoch * self.epochs))


def start(params, optimizer, rate=0.05):
    schedule = rate if isinstance(rate, Schedule) else Schedule("constant", rate)
    return TrainingState.start(flatten(params), optimizer, schedule)


def train(objective, state, optimizer, orders, batch_size, kind):
    """The last epoch's state, made by ``kind``."""
    seen = []

    class Watch(kind):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            seen.append(type(self).__mro__[1])

    with pytest.MonkeyPatch.context() as patch:
        if kind is PythonBatches:
            patch.setattr(NativeBatches, "can_run", staticmethod(lambda *rest: False))
            patch.setattr(minibatches, "PythonBatches", Watch)
        else:
            patch.setattr(minibatches, "NativeBatches", Watch)
        done = list(epochs(objective, optimizer, state, orders=orders, batch_size=batch_size))
    assert seen == [kind]
    assert [after.epoch - state.epoch for after in done] == list(range(1, len(orders) + 1))
    return done[-1]


def both(network, examples, params, optimizer, orders, batch_size, dtype, rate=0.05, **options):
    """Train either way and compare costs, parameters and the optimiser's arrays."""
    with Objective(network, examples, **options) as objective:
        assert objective.fold.step_name == "native"
        native, python = (
            train(objective, start(params, optimizer, rate), optimizer, orders, batch_size, kind)
            for kind in (NativeBatches, PythonBatches)
        )
    assert native.updates == python.updates
    assert list(native.costs) == pytest.approx(list(python.costs), rel=TOLERANCE[dtype])
    assert relative([native.theta], [python.theta]) < TOLERANCE[dtype]
    for ours, truth in zip(native.arrays, python.arrays, strict=True):
        assert relative([ours], [truth]) < 10 * TOLERANCE[dtype]
    return native


@st.composite
def networks(draw):
    output = draw(st.sampled_from(sorted(PAIRS)))
    hidden = draw(st.lists(st.sampled_from([1, 3, 16, 17, 33, 100]), max_size=3))
    names = [draw(st.sampled_from(sorted(ACTIVATIONS))) for _ in hidden]
    last = draw(st.sampled_from([2, 4, 5, 18] if output == "softmax" else [1, 2, 3, 5, 18]))
    return fb.Network([draw(st.sampled_from([1, 3, 16, 29, 40])), *hidden, last], hidden=names, **PAIRS[output])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_that_shrink_for_ever_end_at_zero_and_the_process_keeps_its_denormals(isa, dtype, threads, monkeypatch):
    """An input that is always 0 leaves nothing but L2 to its weights; denormal ones would take many times as long."""
    use(f"native-{isa}", monkeypatch)
    monkeypatch.setattr(native_batches, "SHARE", 1)
    params, X, Y = case([3, 16, 1], 300, "sigmoid", dtype=dtype)
    X[1] = 0
    denormal = np.finfo(dtype).smallest_normal / 8
    first = params[0].W.copy()
    first[:, 1] = denormal
    params = (fb.Layer(first, params[0].b), *params[1:])
    sgd, network = OPTIMIZERS["momentum"], fb.Network([3, 16, 1])
    with Objective(network, Examples(Dense(X), Dense(Y)), threads=threads) as objective:
        after = train(objective, start(params, sgd), sgd, [slice(0, 300)], 64, NativeBatches)
    assert not unflatten(after.theta, network.sizes)[0].W[:, 1].any()
    assert denormal / 2 > 0


@pytest.mark.parametrize("isa", ISAS)
@given(
    network=networks(),
    dtype=st.sampled_from(["float32", "float64"]),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    m=st.integers(2, 300),
    batch=st.sampled_from([1, 7, 63, 64, 65, 100, 200]),
    weighted=st.booleans(),
    shuffled=st.booleans(),
    fortran=st.booleans(),
    l2=st.sampled_from([0.0, 0.3]),
    intercept=st.booleans(),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_native_batches_are_those_of_the_loop_in_python(
    isa, network, dtype, optimizer, m, batch, weighted, shuffled, fortran, l2, intercept, threads, seed
):
    with pytest.MonkeyPatch.context() as patch:
        use(f"native-{isa}", patch)
        patch.setattr(native_batches, "SHARE", 1)  # so that small networks take all threads too
        params, X, Y = case(network.sizes, m, kind(network), seed=seed, dtype=dtype)
        if fortran:
            X, Y = np.asfortranarray(X), np.asfortranarray(Y)
        params = tuple(fb.Layer(0.5 * W, b) for W, b in params)  # tamer, so that a few steps stay near one another
        rng = np.random.default_rng(seed)
        weight = rng.random(m).astype(dtype) * (rng.random(m) < 0.8) if weighted else None
        if weighted:
            weight[0] = 1
        orders = [rng.permutation(m) if shuffled else slice(0, m) for _ in range(2)]
        both(
            network, Examples(Dense(X), Dense(Y), weight), params, OPTIMIZERS[optimizer], orders, min(batch, m - 1),
            dtype,
            l2=l2, intercept=intercept, threads=threads, rate=Falling("own", 0.01, epochs=-(-m // min(batch, m - 1))),
        )  # fmt: skip


def table(rng, m, numbers, levels, dtype="float64"):
    ones = rng.integers(0, levels, (m, 3)) + numbers + np.arange(3) * levels
    return EncodedTable(rng.standard_normal((m, numbers)).astype(dtype), ones.astype(np.uint16), numbers + 3 * levels)


def with_gaps(rng, m, dtype="float64"):
    """More numbers than the rows of a register tile, and codes of 0, which stand for no feature."""
    full = table(rng, m, 17, 90, dtype)
    return replace(full, ones=np.where(rng.random(full.ones.shape) < 0.3, np.uint16(0), full.ones))


def sources(rng, m):
    rows = scipy.sparse.random(m, 70, density=0.02, format="csr", rng=rng)
    dense = Dense(rng.standard_normal((9, 2 * m)))
    return {
        "a selection": Subset(dense, rng.permutation(2 * m)[:m]),
        "sparse": Sparse(rows),
        "sparse, dense enough": Sparse(scipy.sparse.random(m, 12, density=0.4, format="csr", rng=rng)),
        "numbers": EncodedTable(rng.standard_normal((m, 9)), np.empty((m, 0), np.uint8), 9),
        "categories": table(rng, m, 2, 5),
        "many categories": table(rng, m, 1, 60),
        "many categories with gaps": with_gaps(rng, m),
        "a selection of categories": Subset(table(rng, 2 * m, 1, 60), rng.permutation(2 * m)[:m]),
    }


def test_what_lies_in_memory_is_taken_as_it_lies():
    """No block of it is made in Python; of the others blocks are read."""
    Y = np.zeros((1, 130))
    rng = np.random.default_rng(0)
    lies = {"a selection", "sparse", "numbers", "many categories"}
    lies |= {"many categories with gaps", "a selection of categories"}
    for name, X in sources(rng, 130).items():
        network = fb.Network([X.n, 5, 1])
        state = start(network.init(seed=0), optimizers.gd())
        with Objective(network, Examples(X, Dense(Y))) as objective:
            loop = minibatches.make(objective, optimizers.gd(), state, 20)
            assert (loop.in_memory is not None) == (name in lies), name


@pytest.mark.parametrize("name", sorted(sources(np.random.default_rng(0), 4)))
@pytest.mark.parametrize("hidden", [[], [20, 5]])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("per_chunk", [1, 40, 1000])
def test_each_source(name, hidden, outputs, per_chunk, monkeypatch):
    """Whole chunks of a source that makes its blocks, of one batch or several; the last batch is smaller."""
    rng = np.random.default_rng(3)
    m = 130
    X = sources(rng, m)[name]
    monkeypatch.setattr(native_batches, "CHUNK", per_chunk * X.n * 8)
    monkeypatch.setattr(native_batches, "LONGEST", per_chunk * 64)
    network = fb.Network([X.n, *hidden, outputs], output="softmax" if outputs > 1 else "sigmoid")
    Y = OneHot(rng.integers(0, max(outputs, 2), m), outputs, np.dtype("float64"))
    examples = Examples(X, Y, rng.random(m))
    orders = [rng.permutation(m), slice(0, m), rng.permutation(m)]
    params = network.init(seed=0)
    both(network, examples, params, optimizers.adam(), orders, 20, "float64", l2=0.1, rate=0.01)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("of", ["numbers", "sparse", "codes"])
@pytest.mark.parametrize("batch", [50, 200, 333])
def test_the_number_of_threads_does_not_change_a_bit(isa, of, batch, monkeypatch):
    use(f"native-{isa}", monkeypatch)
    monkeypatch.setattr(native_batches, "SHARE", 1)
    rng = np.random.default_rng(0)
    m = 700
    X = {
        "numbers": lambda: Dense(rng.standard_normal((90, m), dtype="float32")),
        "sparse": lambda: Sparse(scipy.sparse.random(m, 90, density=0.03, format="csr", rng=rng, dtype="float32")),
        "codes": lambda: with_gaps(rng, m, "float32"),
    }[of]()
    network = fb.Network([X.n, 70, 64, 3], output="softmax")  # both are wide enough for tiles, where there are some
    examples = Examples(X, OneHot(rng.integers(0, 3, m), 3, np.dtype("float32")))
    params = network.init(seed=1, dtype="float32")
    order = rng.permutation(m)
    outcomes = []
    for threads in (1, 2, 3, 7):
        with Objective(network, examples, l2=0.1, threads=threads) as objective:
            objective.fold.threads = threads
            adam = optimizers.adam()
            end = train(objective, start(params, adam), adam, [order] * 2, batch, NativeBatches)
        outcomes.append((list(end.costs), end.theta.tobytes(), *(array.tobytes() for array in end.arrays)))
    assert all(outcome == outcomes[0] for outcome in outcomes)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_network_is_copied_out_of_c_by_all_threads_to_the_same_bits(isa, dtype, monkeypatch):
    """Panels of two vectors and of one, units that fill no vector, a narrow last layer, biases: each in its place."""
    use(f"native-{isa}", monkeypatch)
    network = fb.Network([77, 657, 203, 1], hidden="relu", output="identity")
    rng = np.random.default_rng(0)
    assert 3 * count(network.sizes) > 2**19  # of epoch.h: fewer numbers are one thread's
    vectors = [rng.standard_normal(count(network.sizes)).astype(dtype) for _ in range(3)]
    library, shape = as_c(network, np.dtype(dtype))
    rule = native_library.Rule(kind=KINDS.index("adam"), a=0.9, b=0.999, epsilon=1e-8)
    trainer = library.fb_trainer_new(*shape, 64, rule)
    X, Y, block = np.zeros((77, 64), dtype), np.zeros((1, 64), dtype), native_library.Block(m=64)
    rates, kept = np.zeros(1), put_X(block, X, X.dtype, 77) + put_targets(block, Y, None, Y.dtype, Y.shape)
    for threads in (1, 3):  # those of the last run
        run = (trainer, threads, block, None, 64, 64, rates.ctypes.data, 60.0, ctypes.c_double())
        assert library.fb_trainer_run(*run) == 64
        library.fb_trainer_load(trainer, *(vector.ctypes.data for vector in vectors))
        stored = [np.full_like(vector, np.nan) for vector in vectors]
        library.fb_trainer_store(trainer, *(vector.ctypes.data for vector in stored))
        assert all(np.array_equal(*pair) for pair in zip(stored, vectors, strict=True))
    library.fb_trainer_free(trainer)
    del kept


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("numbers", ["large", "small"])
def test_numbers_that_tiles_cannot_cut(isa, by_columns, numbers, monkeypatch):
    """2^60, of an example that weighs nothing; and some so small that tiles would lose digits of their sums."""
    use(f"native-{isa}", monkeypatch)
    network = fb.Network([50, 90, 64, 2], output="softmax")
    params, X, Y = case(network.sizes, 200, "softmax", dtype="float32")
    weight = np.ones(200, "float32")
    if numbers == "large":
        X[:, 7] = 2.0**60
        weight[7] = 0
    else:
        X *= np.float32(1e-30)
    X = np.ascontiguousarray(X) if by_columns else np.asfortranarray(X)
    examples, momentum = Examples(Dense(X), Dense(Y), weight), optimizers.sgd(0.9, False)
    with Objective(network, examples, threads=2) as objective:
        native, python = (
            train(objective, start(params, momentum), momentum, [slice(0, 200)], 100, kind)
            for kind in (NativeBatches, PythonBatches)
        )
    first = slice(0, 90 * 50)  # W[1], by itself: with small numbers its gradient is 10^-30 of the others
    assert relative([native.theta], [python.theta]) < TOLERANCE["float32"]
    assert relative([native.arrays[0][first]], [python.arrays[0][first]]) < TOLERANCE["float32"]
    assert np.any(native.arrays[0][first])


def test_a_training_goes_on_where_the_last_one_stopped():
    params, X, Y = case([5, 8, 1], 90, "sigmoid")
    network = fb.Network([5, 8, 1])
    orders = [np.random.default_rng(i).permutation(90) for i in range(4)]
    with Objective(network, Examples(Dense(X), Dense(Y))) as objective:
        for optimizer in OPTIMIZERS.values():
            whole = train(objective, start(params, optimizer), optimizer, orders, 20, NativeBatches)
            half = train(objective, start(params, optimizer), optimizer, orders[:2], 20, NativeBatches)
            rest = train(objective, half, optimizer, orders[2:], 20, NativeBatches)
            assert rest.costs == whole.costs
            assert np.array_equal(rest.theta, whole.theta)


def test_ctrl_c_within_a_long_epoch_leaves_the_state_of_the_last_run(monkeypatch):
    """With no time at all each run does one batch; nothing but the number of runs may change."""
    params, X, Y = case([5, 8, 1], 90, "sigmoid")
    network = fb.Network([5, 8, 1])
    adam = optimizers.adam()
    run = NativeBatches._run
    with Objective(network, Examples(Dense(X), Dense(Y))) as objective:
        whole = train(objective, start(params, adam), adam, [np.arange(90)], 20, NativeBatches)
        monkeypatch.setattr(native_batches, "SLICE", 0.0)
        sliced = train(objective, start(params, adam), adam, [np.arange(90)], 20, NativeBatches)
        assert sliced.costs == whole.costs
        assert np.array_equal(sliced.theta, whole.theta)

        def third(self, *what):
            for done in run(self, *what):
                if self.updates == 3:
                    raise KeyboardInterrupt
                yield done

        monkeypatch.setattr(NativeBatches, "_run", third)
        with pytest.raises(Interrupted) as caught:
            list(epochs(objective, adam, start(params, adam), orders=[np.arange(90)], batch_size=20))
        monkeypatch.setattr(NativeBatches, "_run", run)
        three = train(objective, start(params, adam), adam, [np.arange(60)], 20, NativeBatches)
        state = caught.value.state
        rest = train(objective, state, adam, [np.arange(90)], 20, NativeBatches)
    assert rest.costs == whole.costs
    assert np.array_equal(rest.theta, whole.theta)
    assert (state.updates, state.epoch, state.epoch_examples) == (3, 0, 60)
    assert np.array_equal(state.theta, three.theta)
    assert all(map(np.array_equal, state.arrays, three.arrays))


def test_examples_that_all_weigh_nothing_change_nothing_but_the_optimisers_means():
    params, X, Y = case([4, 6, 1], 40, "sigmoid")
    network = fb.Network([4, 6, 1])
    weight = np.r_[np.zeros(20), np.ones(20)]
    both(
        network, Examples(Dense(X), Dense(Y), weight), params, optimizers.adam(), [slice(0, 40)], 20, "float64", l2=1.0
    )


def test_a_cost_that_is_not_finite_is_passed_on():
    params, X, Y = case([3, 5, 1], 60, "identity")
    network = fb.Network([3, 5, 1], hidden="relu", output="identity")
    with Objective(network, Examples(Dense(X), Dense(Y))) as objective:
        state = start(params, optimizers.gd(), 1e6)
        costs = train(objective, state, optimizers.gd(), [slice(0, 60)] * 20, 20, NativeBatches).costs
    assert not np.isfinite(costs[-1])


def test_what_it_does_not_serve_stays_in_python():
    params, X, Y = case([3, 5, 1], 60, "sigmoid")
    own = fb.Network([3, 5, 1], hidden=(np.tanh, lambda Z: 1 - np.tanh(Z) ** 2))
    for network, optimizer, batch, expected in [
        (own, optimizers.adam(), 20, PythonBatches),
        (fb.Network([3, 5, 1]), optimizers.adam()._replace(name="own"), 20, PythonBatches),
        (fb.Network([3, 5, 1]), optimizers.adam(), 60, PythonBatches),
        (fb.Network([3, 5, 1]), optimizers.adam(), 59, NativeBatches),
    ]:
        with Objective(network, Examples(Dense(X), Dense(Y))) as objective:
            assert type(minibatches.make(objective, optimizer, start(params, optimizer), batch)) is expected
    large = np.zeros((3, native_batches.LARGEST + 2))
    with Objective(fb.Network([3, 5, 1]), Examples(Dense(large), Dense(large[:1]))) as objective:
        for batch, expected in [(native_batches.LARGEST, NativeBatches), (native_batches.LARGEST + 1, PythonBatches)]:
            assert type(minibatches.make(objective, optimizers.gd(), start(params, optimizers.gd()), batch)) is expected


@pytest.mark.parametrize("sizes", [(3, 4, 2), (5, 4, 1), (5, 4, 3)])
def test_shapes_that_do_not_fit_raise(sizes):
    """C cannot see how long an array is."""
    X, Y = np.zeros((5, 40), "float32"), np.zeros((2, 40), "float32")
    network = fb.Network([5, 4, 2], output="identity")
    with Objective(network, Examples(Dense(X), Dense(Y))) as objective:
        network = fb.Network(sizes, output="identity")
        gd = optimizers.gd()
        state = start(network.init(seed=0, dtype="float32"), gd)

        def train():
            options = {"batch_size": 10, "l2": 0.0, "intercept": True, "threads": 1}
            batches = NativeBatches(network, objective.examples, gd, state, **options)
            list(batches.run(slice(0, 40), lambda t: 0.1))

        with pytest.raises(ValueError, match=r"has the shape|where Y is to be"):
            train()


@pytest.mark.parametrize("wrong", ["theta", "velocity", "mean", "square"])
@pytest.mark.parametrize("by", [-1, 1])
def test_too_few_or_many_numbers_raise_before_c_reads_them(wrong, by, monkeypatch):
    monkeypatch.setattr(native_batches, "as_c", None)  # without it nothing of C can be called
    network = fb.Network([5, 4, 1])
    n = {name: 29 + by * (name == wrong) for name in ("theta", "velocity", "mean", "square")}
    optimizer = optimizers.sgd(0.9, False) if wrong == "velocity" else optimizers.adam()
    kept = tuple(np.zeros(n[name]) for name in optimizer.keeps)
    state = TrainingState(np.zeros(n["theta"]), optimizer.name, Schedule("constant", 0.1), kept)
    examples = Examples(Dense(np.zeros((5, 40))), Dense(np.zeros((1, 40))))
    options = {"batch_size": 10, "l2": 0.0, "intercept": True, "threads": 1}
    with pytest.raises(ValueError, match=rf"has the shape \({29 + by},\) for the 29 parameters"):
        NativeBatches(network, examples, optimizer, state, **options)


def test_a_table_with_fewer_codes_than_numbers_raises():
    whole = sources(np.random.default_rng(0), 60)["many categories"]
    torn = EncodedTable(whole.numbers, whole.ones[:50], whole.n)
    network = fb.Network([torn.n, 4, 1])
    state = start(network.init(seed=0), optimizers.gd())
    with (
        Objective(network, Examples(torn, Dense(np.zeros((1, 60))))) as objective,
        pytest.raises(ValueError, match="60 rows of numbers and 50 of codes"),
    ):
        minibatches.make(objective, optimizers.gd(), state, 20)


def test_an_order_beyond_x_raises():
    params, X, Y = case([5, 4, 2], 40, "softmax", dtype="float32")
    with Objective(fb.Network([5, 4, 2], output="softmax"), Examples(Dense(X), Dense(Y))) as objective:
        batches = minibatches.make(objective, optimizers.gd(), start(params, optimizers.gd()), 10)
        assert isinstance(batches, NativeBatches)
        batches.in_memory = batches.in_memory[0], 30
        with pytest.raises(IndexError, match="beyond the 30 of X"):
            list(batches.run(np.arange(30, 40), lambda t: 0.1))


def test_sparse_x_with_wide_indices_is_read_as_it_lies():
    """SciPy makes them of 64 bits for large arrays."""
    rng = np.random.default_rng(0)
    rows = scipy.sparse.random_array((300, 50), density=0.05, format="csr", rng=rng).astype("float32")
    theta, used = [], []
    for integer in (np.int32, np.int64):
        rows.indices, rows.indptr = rows.indices.astype(integer), rows.indptr.astype(integer)
        params, _, Y = case([50, 4, 1], 300, "sigmoid", dtype="float32")
        with Objective(fb.Network([50, 4, 1]), Examples(Sparse(rows), Dense(Y))) as objective:
            batches = minibatches.make(objective, optimizers.gd(), start(params, optimizers.gd()), 10)
            used.append(batches.in_memory is not None)
            list(batches.run(slice(0, 300), lambda t: 0.1))
            theta.append(batches.theta)
    assert used == [True, True]
    assert np.array_equal(*theta)


def test_a_feature_out_of_range_raises():
    """Codes and sparse rows are looked at where they are read: a wrong one must not reach the memory of others."""
    Y = Dense(np.zeros((1, 60)))
    for name in ("sparse", "many categories"):
        source = sources(np.random.default_rng(0), 60)[name]
        network = fb.Network([source.n, 4, 1])
        if name == "sparse":
            source.rows.indices[3] = source.n
        else:
            source.ones[7, 1] = source.n
        with Objective(network, Examples(source, Y)) as objective:
            loop = minibatches.make(objective, optimizers.gd(), start(network.init(seed=0), optimizers.gd()), 20)
            with pytest.raises(ValueError, match="out of range"):
                list(loop.run(slice(0, 60), lambda t: 0.1))


def test_a_feature_out_of_range_ends_all_threads(monkeypatch, no_hang):
    """A thread that finds it while another is still on its way must not wait for that one for ever."""
    monkeypatch.setattr(native_batches, "SHARE", 1)
    rows = scipy.sparse.random(400, 30, density=0.2, format="csr", rng=np.random.default_rng(0))
    rows.indices[:] = 30
    network = fb.Network([30, 4, 1])
    state = start(network.init(seed=0), optimizers.gd())
    with Objective(network, Examples(Sparse(rows), Dense(np.zeros((1, 400)))), threads=2) as objective:
        objective.fold.threads = 2
        for _ in range(300):
            loop = minibatches.make(objective, optimizers.gd(), state, 200)
            with pytest.raises(ValueError, match="out of range"):
                list(loop.run(slice(0, 400), lambda t: 0.1))


@pytest.mark.parametrize("beta", [0.999, 1 - 1e-6, 1 - 1e-8])
@pytest.mark.parametrize("name", ["beta_1", "beta_2"])
def test_adams_means_are_of_full_precision_in_float32(name, beta):
    """float32 rounds 1 - 1e-8 to 1, and then 1 - beta would be 0."""
    params, X, Y = case([5, 8, 1], 200, "sigmoid", dtype="float32")
    optimizer = optimizers.adam(**{name: beta})
    orders = [np.random.default_rng(i).permutation(200) for i in range(5)]
    both(
        fb.Network([5, 8, 1]),
        Examples(Dense(X), Dense(Y)),
        params,
        optimizer,
        orders,
        20,
        "float32",
        rate=0.01,
    )


@pytest.mark.parametrize("hidden", [[], [3], [20]])
@pytest.mark.parametrize(("dtype", "epsilon"), [("float32", 1e-50), ("float32", 0.0), ("float64", 0.0)])
def test_an_epsilon_of_zero_leaves_the_lanes_that_are_no_parameter(hidden, dtype, epsilon):
    params, X, Y = case([5, *hidden, 1], 200, "sigmoid", dtype=dtype)
    examples = Examples(Dense(X), Dense(Y))
    network, orders = fb.Network([5, *hidden, 1]), [slice(0, 200)] * 2
    both(network, examples, params, optimizers.adam(epsilon=epsilon), orders, 20, dtype, rate=0.01)


def test_without_l2_large_weights_have_no_penalty():
    """Their squares overflow, and infinity times 0 is NaN."""
    params, X, Y = case([5, 1], 60, "sigmoid", dtype="float32")
    params = (fb.Layer(np.full((1, 5), 1e20, "float32"), params[0].b),)
    X = X * np.float32(1e-20)
    both(fb.Network([5, 1]), Examples(Dense(X), Dense(Y)), params, optimizers.gd(), [slice(0, 60)], 20, "float32")


def test_indices_that_count_from_the_end():
    rng = np.random.default_rng(0)
    whole = Dense(rng.standard_normal((9, 100)))
    examples = Examples(Subset(whole, rng.permutation(100)[:60] - 100), Dense(rng.random((1, 60))))
    network = fb.Network([9, 4, 1])
    both(network, examples, network.init(seed=0), optimizers.gd(), [rng.permutation(60)], 20, "float64")


FITS_FOR_EVER = """
import threading, time, warnings
import numpy as np
from fullbatch import MLPClassifier
warnings.simplefilter("ignore")
X = np.random.default_rng(0).standard_normal((20_000, 50)).astype("float32")
def fit():
    while True:
        MLPClassifier((100,), batch_size={batch_size}, max_iter=1000).fit(X, X[:, 0] > 0)
MLPClassifier((2,), max_iter=1).fit(X[:9], X[:9, 0] > 0)  # what is imported at a first fit takes no time in the thread
before = time.process_time()
threading.Thread(target=fit, daemon=True).start()
while time.process_time() < before + 0.3:  # however busy the machine is, it has come to fitting by then
    time.sleep(0.01)
"""


@pytest.mark.parametrize("batch_size", [200, "full"])
def test_python_may_end_while_a_daemon_thread_is_fitting(batch_size):
    """What C still uses must not be given back at exit."""
    code = FITS_FOR_EVER.format(batch_size=repr(batch_size))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, (ended.returncode, ended.stderr)


FITS_AT_EXIT = """
import atexit, warnings
import numpy as np
from fullbatch import MLPClassifier
warnings.simplefilter("ignore")
X = np.random.default_rng(0).standard_normal((40_000, 20)).astype("float32")
def fit():
    return MLPClassifier((100,), batch_size={batch_size}, max_iter=2, n_jobs=2).fit(X, X[:, 0] > 0)
{before}
atexit.register(lambda: print(fit().loss_))
"""


@pytest.mark.parametrize(("batch_size", "before"), [(20_000, "fit()"), ("full", "fit()"), ("full", "")])
def test_a_fit_at_exit_needs_no_new_thread(batch_size, before):
    """Python starts none by then. A daemon thread that meets the same error may end the process by writing it."""
    code = FITS_AT_EXIT.format(batch_size=repr(batch_size), before=before)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.stderr == ""
    assert float(ended.stdout) > 0
