"""Category codes on a GPU: the sums of an encoded table are those of its one-hot matrix, and only codes go there.

The kernels' own text runs on the CPU (cuda_on_cpu.py), whole calls on a card that is pretended (fake_cupy.py).
"""

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
from fullbatch.fold import blocks, tree
from fullbatch.fold.fold import Fold
from fullbatch.machine import places
from fullbatch.sources import Dense, Examples, Subset, Uploaded, in_memory, selected
from fullbatch.sources.columns import Coded
from fullbatch.sources.encoded import EncodedTable, EncodedThere
from fullbatch.sources.placing import as_whole
from fullbatch.steps import ArrayStep, CodedStep
from fullbatch.steps.cuda import coded, fused
from fullbatch.training import card_batches
from fullbatch.training.card_batches import CardBatches
from fullbatch.training.loop import epochs
from fullbatch.training.minibatches import PythonBatches
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import adam
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import TrainingState
from reference import problem, relative

on_cpu = pytest.mark.skipif(cuda_on_cpu.COMPILER is None, reason="no g++ to compile the kernels for the CPU")
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


def table_of(m, widths=(3, 20, 17), k=2, codes="uint8", dtype="float32", seed=0):
    """Numbers and a category of each of these widths; one code in four stands for none."""
    rng = np.random.default_rng(seed)
    starts = k + np.cumsum([0, *widths[:-1]])
    ones = np.stack([start + rng.integers(0, width, m) for start, width in zip(starts, widths, strict=True)], axis=1)
    ones[rng.random(ones.shape) < 0.25] = 0
    return EncodedTable(rng.standard_normal((m, k)).astype(dtype), ones.astype(codes), k + sum(widths))


def whole(table):
    return table.reader()(slice(0, table.m))


def block_of(table, where=slice(None)):
    return Coded(table.numbers[where], table.ones[where], (table.n, len(table.numbers[where])))


def case(m, hidden=(40,), last=1, name="tanh", dtype="float32", **options):
    """A network for a table, its parameters as one vector, the table and a target."""
    table = table_of(m, dtype=dtype, **options)
    network = fb.Network([table.n, *hidden, last], hidden=name, output="softmax" if last > 1 else "sigmoid")
    params, _, Y = problem(network.sizes, m, network.output.name, dtype=dtype)
    return network, flatten(tuple(fb.Layer(W, b) for W, b in params)), table, Y


def host_arrays(total):
    return [np.asarray(getattr(array, "host", array)) for layer in total.gradients for array in layer]


# --- The kernels ----------------------------------------------------------------------------------------------------


@on_cpu
@pytest.mark.parametrize(
    ("hidden", "last", "name", "dtype", "codes", "weighted", "shared"),
    [
        ((40,), 1, "tanh", "float32", "uint8", True, None),
        ((7, 5), 3, "gelu", "float64", "uint8", False, None),
        ((70,), 1, "silu", "float32", "uint8", False, 7000),  # the features of several thread blocks
        ((), 1, "tanh", "float32", "uint8", True, None),
        ((), 3, "tanh", "float64", "uint16", False, None),
        ((3,), 1, "relu", "float32", "uint32", False, None),
    ],
)
def test_the_step_is_the_array_step_of_the_one_hot_matrix(
    hidden, last, name, dtype, codes, weighted, shared, monkeypatch
):
    if shared is not None:
        monkeypatch.setattr(coded, "SHARED", shared)
    monkeypatch.setattr("fullbatch.steps.cuda.products.address", lambda array: array.ctypes.data)
    network, theta, table, Y = case(150, hidden, last, name, dtype, codes=codes)
    twin, truth = CodedStep(network, Y, 100, xp=FakeCuPy()), ArrayStep(network, Y, 150)
    assert twin.codes.parts == (1 if shared is None else 2)
    cuda_on_cpu.launched.clear()
    for step in (twin, truth):
        step.load(theta)
    for stop in (150, 33):  # more than it was made for, and through used buffers
        part, Y_part = slice(0, stop), Y[:, :stop]
        weight = np.linspace(0, 2, stop, dtype=dtype) if weighted else None
        X, dense = block_of(table, part), whole(table)[:, part]
        ours, wanted = twin.gradient(X, Y_part, weight), truth.gradient(dense, Y_part, weight)
        assert relative(host_arrays(ours), host_arrays(wanted)) < TOLERANCE[dtype]
        near = {"rel": TOLERANCE[dtype], "abs": TOLERANCE[dtype]}
        assert [float(ours.loss), float(ours.weight)] == [float(value) for value in twin.cost(X, Y_part, weight)]
        assert float(ours.loss) == pytest.approx(float(wanted.loss), **near)
        assert relative([twin.predict(X)], [truth.predict(dense)]) < TOLERANCE[dtype]
    assert {"pick", "scatter"} <= {name for name, _ in cuda_on_cpu.launched}


@on_cpu
def test_no_grid_or_order_of_the_threads_changes_a_bit_and_each_barrier_is_needed(monkeypatch):
    """Those of ``scatter``: the sums are 0, the tile is there, the sums are done, they are written."""
    monkeypatch.setattr(fused, "LEAST", 64)
    monkeypatch.setattr(fused, "NUMBERS_A_ROW", 0)
    network, theta, table, Y = case(150)
    X, found = block_of(table), []

    def bits(processors=2, seed=0, fault=0, segments=65_535):
        monkeypatch.setattr(coded, "MOST_SEGMENTS", segments)
        monkeypatch.setattr(cuda_on_cpu, "stalls", seed)
        monkeypatch.setattr(cuda_on_cpu, "fault", {"scatter": fault})
        step = CodedStep(network, Y, 150, xp=FakeCuPy(processors))
        step.load(theta)
        total = step.gradient(X, Y, None)
        return [array.tobytes() for array in [*host_arrays(total), np.asarray(total.loss)]]

    wanted = bits()
    found = [bits(1), bits(7), bits(seed=1), bits(segments=1), bits(seed=2, segments=1)]
    assert all(one == wanted for one in found)
    for barrier in range(1, 5):
        assert any(bits(seed=seed, fault=barrier, segments=1) != wanted for seed in range(1, 8)), barrier


# --- What goes to the card ------------------------------------------------------------------------------------------


@pytest.fixture
def card(monkeypatch):
    """The pretended card, with the bytes that were copied there; leaves of 256 examples, segments of 64."""
    cupy = fake_cupy.install(monkeypatch)
    sent, copy = [], fake_cupy._copy

    def counted(target, source, size, kind, stream):
        sent.append(size)
        copy(target, source, size, kind, stream)

    monkeypatch.setattr(cupy.cuda.runtime, "memcpyAsync", counted)
    cupy.sent = sent
    monkeypatch.setattr(tree, "MOST_EXAMPLES", 256)
    monkeypatch.setattr(blocks, "SHORTEST", 32)
    monkeypatch.setattr(fused, "LEAST", 64)
    monkeypatch.setattr(fused, "NUMBERS_A_ROW", 0)
    return cupy


def on_card(table, Y, budget):
    """Examples of a table where a training has them: as a whole if it fits into so many bytes, else streamed."""
    place = places.place("cuda")
    X, _ = as_whole(Uploaded(table, place), budget, Y.nbytes)
    return Examples(X, Uploaded(Dense(Y), place) if isinstance(X, Uploaded) else Dense(place.put(Y)))


@fake_cupy.pretended
@pytest.mark.parametrize(("hidden", "last"), [((40,), 1), ((), 3)])
def test_codes_are_all_that_is_sent_and_the_bits_are_the_same(card, hidden, last, monkeypatch):
    m = 600
    network, theta, table, Y = case(m, hidden, last)
    there = card.asarray(theta)
    a_row = 2 * 4 + 3  # numbers and codes; one-hot it would be 4 x 42
    found = []
    for budget, size in ((np.inf, None), (0, 100_000), (0, 128), (0, 64)):
        if size is not None:
            monkeypatch.setattr(blocks, "block_size", lambda *_, size=size, **__: size)
        card.sent.clear()
        examples = on_card(table, Y, budget)
        assert (sum(card.sent) == m * a_row) == (budget > 0)
        assert type(examples.X) is (Uploaded if budget == 0 else EncodedThere)
        with Fold(network, examples) as fold:
            assert fold.step_name == "coded"
            card.sent.clear()
            total = fold.gradient(there)
            assert sum(card.sent) == (m * (a_row + 4 * last) if budget == 0 else 0)
            loss, _ = fold.cost(there)
            found.append([*(a.tobytes() for a in host_arrays(total)), float(total.loss), float(loss)])
            yhat = fold.predict(there)
    assert all(one == found[0] for one in found)
    with Fold(network, Examples(Dense(whole(table).astype(float)), Dense(Y.astype(float)))) as fold:
        wanted = fold.gradient(theta.astype(float))
        assert relative(host_arrays(total), host_arrays(wanted)) < 1e-5
        assert relative([yhat.host], [fold.predict(theta.astype(float))]) < 1e-5


@fake_cupy.pretended
def test_memory_that_runs_out_changes_no_bit(card, monkeypatch):
    network, theta, table, Y = case(600)
    there, found, real = card.asarray(theta), [], CodedStep.gradients
    for most in (600, 100):

        def work(self, X, Y, weight, segment, most=most):
            if X.shape[1] > most:
                raise fake_cupy.OutOfMemoryError("Out of memory allocating 1 byte (allocated so far: 0 bytes).")
            return real(self, X, Y, weight, segment)

        monkeypatch.setattr(CodedStep, "gradients", work)
        with Fold(network, on_card(table, Y, 0)) as fold:
            total = fold.gradient(there)
            assert fold.plan.block <= most or most == 600
            found.append([a.tobytes() for a in host_arrays(total)])
    assert found[0] == found[1]


@fake_cupy.pretended
def test_where_no_step_reads_codes_they_become_ones_on_the_card(card):
    """Of an activation without kernels; and a table of few levels lies there as ones from the start."""
    network, theta, table, Y = case(100)
    own = fb.Network(network.sizes, hidden=(lambda Z: Z * Z, lambda Z: 2 * Z))
    with Fold(own, on_card(table, Y, np.inf)) as fold, Fold(own, Examples(Dense(whole(table)), Dense(Y))) as truth:
        card.sent.clear()
        found = fold.gradient(card.asarray(theta))
        assert card.sent == []
        assert relative(host_arrays(found), host_arrays(truth.gradient(theta))) < 1e-5
    few = table_of(50, widths=(2, 3))
    for which, wanted in ((few, few), (Subset(few, np.arange(9)), None)):
        X, left = as_whole(Uploaded(which, places.place("cuda")), 1e6, 100, 20)
        if wanted is None:
            assert type(X) is Uploaded
            continue
        assert np.array_equal(X.array.host, whole(few))
        assert left == 1e6 - whole(few).nbytes - 120
    X, left = as_whole(Uploaded(few, places.place("cuda")), 2 * few.numbers.nbytes + 2 * few.ones.nbytes, 0, 0)
    assert type(X) is EncodedThere, "there is no room for the ones"
    assert left == few.numbers.nbytes + few.ones.nbytes
    alone = EncodedTable(few.numbers, few.ones[:, :0], 2)
    X, _ = as_whole(Uploaded(alone, places.place("cuda")), 1e6)
    assert np.array_equal(X.array.host, few.numbers.T)


def test_which_tables_are_read_as_codes(monkeypatch):
    monkeypatch.setattr("fullbatch.machine.arrays.is_cupy", lambda array: True)
    network, like = fb.Network([42, 40, 1]), SimpleNamespace(dtype=np.dtype("float32"))
    assert steps.choose(network, like, entries=5) == steps.choose(network, like, entries=10) == "coded"
    assert steps.choose(network, like, "tf32", entries=5) == "coded"
    monkeypatch.setattr(steps.OnePassStep, "can_run", staticmethod(lambda *given: True))
    assert steps.choose(network, like) == steps.choose(network, like, entries=11) == "onepass"
    assert not CodedStep.takes_dropout


# --- Mini-batches ---------------------------------------------------------------------------------------------------


def train(network, examples, theta, kind=CardBatches, l2=0.1):
    """What two epochs of Adam come to, and the way that they went."""
    optimizer = adam()
    state = TrainingState.start(theta, optimizer, Schedule("constant", 0.01))
    rng, made = np.random.default_rng(1), []
    orders = [rng.permutation(examples.m).astype(np.int32) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch, Objective(network, examples, l2=l2) as objective:
        if kind is PythonBatches:
            patch.setattr(CardBatches, "can_run", staticmethod(lambda *rest: False))
        real = CardBatches.__init__
        patch.setattr(CardBatches, "__init__", lambda self, *given: made.append(self) or real(self, *given))
        *_, last = epochs(objective, optimizer, state, orders=orders, batch_size=20)
    assert bool(made) == (kind is CardBatches)
    return last, made


@fake_cupy.pretended
@pytest.mark.parametrize(("hidden", "last"), [((40,), 1), ((), 3)])
def test_epochs_of_mini_batches(card, hidden, last, monkeypatch):
    """Wherever the rows are, with a graph where there is no cuBLAS, and of a selection of rows: to the same bits."""
    monkeypatch.setattr(card_batches, "REPEATS", 2)
    m = 150
    network, theta, table, Y = case(m, hidden, last)
    theta, rows = card.asarray(theta), np.random.default_rng(2).permutation(2 * m)[:m]
    wide = EncodedTable(np.zeros((2 * m, 2), "float32"), np.zeros((2 * m, 3), "uint8"), table.n)
    wide.numbers[rows], wide.ones[rows] = table.numbers, table.ones
    wide_Y = np.zeros((last, 2 * m), "float32")
    wide_Y[:, rows] = Y
    there = on_card(wide, wide_Y, np.inf)
    chosen = Examples(selected(there.X, rows), selected(there.Y, rows))
    assert in_memory(chosen.X) is not None
    states = []
    for examples in (on_card(table, Y, np.inf), on_card(table, Y, 0), chosen):
        before = fake_cupy.Graph.launched
        state, (made,) = train(network, examples, theta)
        assert made.worker.step.name == "coded"
        ran = {gathers for name, _, gathers in made.worker.step.codes._made if name in ("pick", "scatter")}
        assert ran == {not isinstance(examples.X, Uploaded)}, "what lies there is gathered as it is loaded"
        repeated = fake_cupy.Graph.launched > before
        assert repeated == (hidden == (40,) and not isinstance(examples.X, Uploaded))
        states.append(state)
    assert len({state.theta.host.tobytes() for state in states}) == 1
    truth, _ = train(network, on_card(table, Y, np.inf), theta, PythonBatches)
    assert list(states[0].costs) == pytest.approx(list(truth.costs), rel=1e-5)
    assert relative([states[0].theta.host], [truth.theta.host]) < 3e-5


@fake_cupy.pretended
def test_an_epoch_waits_twice_and_sends_its_order_alone(card):
    network, theta, table, Y = case(150)
    theta, examples = card.asarray(theta), on_card(table, Y, np.inf)
    card.sent.clear()
    card.ndarray.reads = card.ndarray.sends = 0
    train(network, examples, theta)
    once = card.ndarray.reads, card.ndarray.sends
    assert card.sent == []
    assert once[0] <= 4
    assert once[1] <= 6, "two orders, and what a training begins with"


@fake_cupy.pretended
@pytest.mark.parametrize("batch_size", ["full", 50])
def test_a_table_is_learned_there_as_codes(card, batch_size, monkeypatch):
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal(300), "town": rng.choice([f"t{i}" for i in range(40)], 300)}
    data["late"] = np.where((data["x"] > 0) ^ (data["town"] < "t3"), "yes", "no")
    options = {"hidden": (9,), "batch_size": batch_size, "epochs": 2, "validation": 0.0, "random_state": 0}
    names, made = [], steps.make
    monkeypatch.setattr(steps, "make", lambda *given: names.append(given[-1]) or made(*given))
    ours = fb.TableClassifier(device="cuda", **options).fit(data, target="late")
    assert set(names) == {"coded"}
    truth = fb.TableClassifier(device="cpu", **options).fit(data, target="late")
    assert np.max(np.abs(ours.predict_proba(data) - truth.predict_proba(data))) < 1e-4
