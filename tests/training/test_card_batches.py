"""Epochs of mini-batches on a GPU: held to the loop in Python; what ran, and how often the host waited for it.

On the card that fake_cupy.py pretends to be, with the kernels' own text on the CPU; tests marked ``gpu`` on a real one.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import cuda_on_cpu
import fake_cupy
import fullbatch as fb
from fullbatch import steps
from fullbatch.core.dropout import Dropout
from fullbatch.core.parameters import flatten
from fullbatch.errors import DeviceError
from fullbatch.fold import blocks
from fullbatch.machine import places
from fullbatch.sources import Dense, Examples, OneHot, Subset, Uploaded
from fullbatch.steps.cuda.updates import segment_of
from fullbatch.training import card_batches, minibatches, optimizers
from fullbatch.training.card_batches import CardBatches
from fullbatch.training.loop import Interrupted, epochs
from fullbatch.training.minibatches import PythonBatches
from fullbatch.training.objective import Objective
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import TrainingState
from reference import problem, relative

OPTIMIZERS = {
    "gd": optimizers.gd(),
    "momentum": optimizers.sgd(0.9, False),
    "nesterov": optimizers.sgd(0.8),
    "adam": optimizers.adam(0.8, 0.95, 1e-3),
}
TOLERANCE = {"float64": 1e-11, "float32": 3e-5}  # of parameters after some updates, as of the native batches
SIZES = {"onepass": [3, 9, 1], "twopass": [4, 64, 3], "fused": [3, 5, 4, 3], "linear": [3, 1]}


@pytest.fixture(
    params=[pytest.param("pretended", marks=fake_cupy.pretended), pytest.param("real", marks=pytest.mark.gpu)]
)
def cupy(request, monkeypatch):
    if request.param == "pretended":
        return fake_cupy.install(monkeypatch)
    import cupy

    return cupy


@pytest.fixture
def fake(monkeypatch):
    return fake_cupy.install(monkeypatch)


class Falling(Schedule):
    """Another rate at each update."""

    def at(self, rate, epoch):
        return rate / (1 + epoch)


def network_of(which):
    sizes = SIZES[which]
    return fb.Network(sizes, output="softmax" if sizes[-1] > 1 else "sigmoid")


def case(cupy, which="onepass", m=150, dtype="float32", weighted=False, seed=0):
    """Network, its parameters as one vector, and examples, all on the card."""
    network = network_of(which)
    params, X, Y = problem(network.sizes, m, network.output.name, dtype=dtype, seed=seed)
    weight = None
    if weighted:
        weight = np.linspace(0, 2, m, dtype=dtype)
        weight[::7] = 0
    X, Y, weight = (None if a is None else cupy.asarray(a) for a in (X, Y, weight))
    theta = cupy.asarray(flatten(tuple(fb.Layer(W, b) for W, b in params)))
    return network, theta, Examples(Dense(X), Dense(Y), weight)


def orders_of(m, count=2, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.permutation(m).astype(np.int32) for _ in range(count)]


def train(objective, theta, name, orders, batch_size, kind=CardBatches, **options):
    """The states after each epoch, made by ``kind``."""
    optimizer, made = OPTIMIZERS[name], []
    state = TrainingState.start(theta, optimizer, Falling("constant", 0.05))
    with pytest.MonkeyPatch.context() as patch:
        if kind is PythonBatches:
            patch.setattr(CardBatches, "can_run", staticmethod(lambda *rest: False))
        real = minibatches.make
        patch.setattr(minibatches, "make", lambda *given, **how: made.append(real(*given, **how)) or made[-1])
        done = list(epochs(objective, optimizer, state, orders=orders, batch_size=batch_size, **options))
    assert [type(one) for one in made] == [kind]
    return done


def host(array):
    return array.get()


def bits(state):
    return [host(array).tobytes() for array in (state.theta, *state.arrays)] + [list(state.costs), state.updates]


# --- What they compute ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize(
    ("which", "dtype", "weighted", "l2", "intercept"),
    [
        ("onepass", "float32", True, 0.3, True), ("fused", "float32", False, 0.0, True),
        ("linear", "float64", True, 0.2, False),
    ],
)  # fmt: skip
def test_they_are_those_of_the_loop_in_python(cupy, name, which, dtype, weighted, l2, intercept):
    network, theta, examples = case(cupy, which, dtype=dtype, weighted=weighted)
    orders = [*orders_of(150), slice(0, 150)]
    before = host(theta).copy()
    with Objective(network, examples, l2=l2, intercept=intercept) as objective:
        ours, truth = (train(objective, theta, name, orders, 40, kind) for kind in (CardBatches, PythonBatches))
    assert np.array_equal(host(theta), before), "a state is never changed"
    assert ours[-1].updates == truth[-1].updates == 12
    assert list(ours[-1].costs) == pytest.approx(list(truth[-1].costs), rel=TOLERANCE[dtype])
    for one, other in zip(ours, truth, strict=True):  # the states of all epochs
        assert relative([host(one.theta)], [host(other.theta)]) < TOLERANCE[dtype]
        for array, wanted in zip(one.arrays, other.arrays, strict=True):
            assert array.dtype == wanted.dtype
            assert relative([host(array)], [host(wanted)]) < 10 * TOLERANCE[dtype]


@fake_cupy.pretended
def test_those_of_two_passes(fake):
    network, theta, examples = case(fake, "twopass", weighted=True)
    with Objective(network, examples) as objective:
        ours, truth = (train(objective, theta, "adam", orders_of(150, 1), 80, k) for k in (CardBatches, PythonBatches))
    assert list(ours[-1].costs) == pytest.approx(list(truth[-1].costs), rel=TOLERANCE["float32"])
    assert relative([host(ours[-1].theta)], [host(truth[-1].theta)]) < TOLERANCE["float32"]


@fake_cupy.pretended
@pytest.mark.parametrize("kind", ["codes", "a selection", "a selection of codes"])
def test_targets_as_codes_and_selections_of_rows(fake, kind):
    m, rows = 150, np.random.default_rng(3).permutation(150)[:90]
    network, theta, examples = case(fake, "fused", m=m, weighted=True)
    Y = examples.Y
    if "codes" in kind:
        Y = OneHot(fake.asarray(np.argmax(host(Y.array), axis=0).astype(np.int32)), 3, np.dtype("float32"))
    whole = Examples(examples.X, Y, examples.weight)
    if "selection" in kind:
        weight = fake.asarray(host(examples.weight)[rows])
        whole = Examples(Subset(examples.X, rows), Subset(Y, rows), weight)
    assert card_batches._resident(whole, fake) is not None
    with Objective(network, whole, l2=0.1) as objective:
        orders = orders_of(whole.m)
        ours, truth = (train(objective, theta, "adam", orders, 32, kind)[-1] for kind in (CardBatches, PythonBatches))
    assert relative([host(ours.theta)], [host(truth.theta)]) < TOLERANCE["float32"]
    assert list(ours.costs) == pytest.approx(list(truth.costs), rel=1e-5)


@fake_cupy.pretended
def test_examples_that_weigh_nothing_and_costs_that_are_not_finite(fake):
    network, theta, examples = case(fake, "onepass", weighted=True)
    examples.weight.host[:40] = 0
    with Objective(network, examples, l2=0.5) as objective:
        ours, truth = (
            train(objective, theta, "adam", [slice(0, 150)], 40, kind)[-1] for kind in (CardBatches, PythonBatches)
        )
    assert ours.costs[0] == pytest.approx(truth.costs[0], rel=1e-5)
    assert relative([host(ours.theta)], [host(truth.theta)]) < TOLERANCE["float32"]
    examples.X.array.host[0, 70] = np.nan
    with Objective(network, examples, l2=0.5) as objective, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = train(objective, theta, "adam", [slice(0, 150)], 40)[-1]
    assert np.isnan(ours.costs[0])


# --- The order of the sums ------------------------------------------------------------------------------------------


@fake_cupy.pretended
@pytest.mark.parametrize("which", ["onepass", "fused"])
def test_the_bits_are_the_same_for_any_grid_with_a_graph_and_wherever_x_is(fake, which, monkeypatch):
    found = []
    network, theta, examples = case(fake, which, m=150, weighted=True)
    on_host = [Uploaded(Dense(host(one.array)), places.place("cuda")) for one in (examples.X, examples.Y)]

    def run(of=examples):
        with Objective(network, of, l2=0.1) as objective:
            found.append(bits(train(objective, theta, "adam", orders_of(150), 20)[-1]))

    run()
    for processors in (1, 7):
        monkeypatch.setattr(
            fake_cupy.Device, "attributes", {**fake_cupy.Device.attributes, "MultiProcessorCount": processors}
        )
        run()
    monkeypatch.setattr(card_batches, "REPEATS", 2)
    before = fake_cupy.Graph.launched
    run()
    assert (fake_cupy.Graph.launched > before) == (which == "onepass"), "cuBLAS is in no graph"
    run(Examples(*on_host, examples.weight))
    assert all(one == found[0] for one in found[1:])


@fake_cupy.pretended
@pytest.mark.parametrize(("which", "precision"), [("twopass", None), ("onepass", "tf32")])
def test_a_graph_repeats_two_passes_and_the_kernel_on_tensor_cores_too(fake, which, precision, monkeypatch):
    network, theta, examples = case(fake, which, m=80)
    found = []
    for repeats in (10**6, 2):
        monkeypatch.setattr(card_batches, "REPEATS", repeats)
        before = fake_cupy.Graph.launched
        with Objective(network, examples, precision=precision) as objective:
            assert objective.fold.step_name == ("tensor" if precision else which)
            found.append(bits(train(objective, theta, "adam", orders_of(80, 1), 10 if precision else 20)[-1]))
        assert (fake_cupy.Graph.launched > before) == (repeats == 2)
    assert found[0] == found[1]


def test_segments_of_batches_follow_from_the_shape_alone():
    least, most = steps.OnePassStep.of_batch
    assert [segment_of(least, most, 1921, 4, batch) for batch in (1, 200, 1000, 2048, 10_000)] == [16, 16, 16, 16, 128]
    assert [segment_of(*steps.FusedStep.of_batch, 79_510, 4, batch) for batch in (100, 1000, 10_000)] == [64, 64, 1024]
    assert segment_of(64, 16, 10**9, 4, 1000) == 1024, "one row of so many parameters, and no more"


# --- Who waits ------------------------------------------------------------------------------------------------------


@fake_cupy.pretended
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("which", ["onepass", "fused"])
def test_an_epoch_waits_twice_however_many_batches_it_has(fake, which, l2, monkeypatch):
    monkeypatch.setattr(card_batches, "REPEATS", 3)
    network, theta, examples = case(fake, which)
    for batch_size in (75, 10):
        with Objective(network, examples, l2=l2) as objective:
            waits = []
            for count in (1, 4):
                fake.ndarray.reads = fake.ndarray.sends = 0
                train(objective, theta, "adam", orders_of(150, count), batch_size)
                waits.append((fake.ndarray.reads, fake.ndarray.sends))
        assert (waits[1][0] - waits[0][0], waits[1][1] - waits[0][1]) == (3, 3), "one each, for each epoch"


@fake_cupy.pretended
def test_a_batch_is_two_kernels_where_one_pass_does_it(fake):
    network, theta, examples = case(fake)
    with Objective(network, examples) as objective:
        cuda_on_cpu.launched.clear()
        train(objective, theta, "adam", orders_of(150, 1), 50)
    assert [name for name, _ in cuda_on_cpu.launched] == ["onepass", "update"] * 3


@fake_cupy.pretended
def test_a_card_without_graphs_launches_one_by_one(fake, monkeypatch):
    def no_graph(self):
        raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    monkeypatch.setattr(card_batches, "REPEATS", 2)
    network, theta, examples = case(fake)
    results = []
    for broken in (False, True):
        with monkeypatch.context() as patch, Objective(network, examples) as objective:
            if broken:
                patch.setattr(fake_cupy.Stream, "begin_capture", no_graph)
            results.append(bits(train(objective, theta, "adam", orders_of(150), 20)[-1]))
    assert results[0] == results[1]


# --- Interruptions --------------------------------------------------------------------------------------------------


@fake_cupy.pretended
@pytest.mark.parametrize("which", ["onepass", "fused"])
@pytest.mark.parametrize("before", [0, 1, 2, 5, 12])
def test_ctrl_c_finds_all_of_one_moment_and_the_training_goes_on_to_the_same_bits(fake, which, before, monkeypatch):
    """It comes before a launch, whichever: parameters, their number and the sum of J are of the last update."""
    monkeypatch.setattr(card_batches, "REPEATS", 3)
    network, theta, examples = case(fake, which, weighted=True)
    orders, optimizer = orders_of(150, 2), OPTIMIZERS["adam"]
    with Objective(network, examples, l2=0.1) as objective:
        whole = train(objective, theta, "adam", orders, 30)[-1]
        real, calls = cuda_on_cpu.Kernel.__call__, []

        def launch(self, *args, **options):
            calls.append(self.name)
            if len(calls) == before + 1:
                raise KeyboardInterrupt
            real(self, *args, **options)

        state = TrainingState.start(theta, optimizer, Falling("constant", 0.05))
        with monkeypatch.context() as patch:
            patch.setattr(cuda_on_cpu.Kernel, "__call__", launch)
            with pytest.raises((Interrupted, KeyboardInterrupt)) as caught:
                list(epochs(objective, optimizer, state, orders=orders, batch_size=30))
            patch.undo()
            state = caught.value.state if isinstance(caught.value, Interrupted) else state
        assert state.updates == calls[:before].count("update") == state.epoch * 5 + state.epoch_examples // 30
        done = list(epochs(objective, optimizer, state, orders=orders[state.epoch :], batch_size=30))
    assert done[-1].updates == whole.updates
    assert host(done[-1].theta).tobytes() == host(whole.theta).tobytes()
    assert list(done[-1].costs) == pytest.approx(list(whole.costs), rel=1e-12)


@fake_cupy.pretended
def test_between_batches_a_checkpoint_is_told_what_is_there(fake, monkeypatch):
    monkeypatch.setattr(card_batches, "SLICE", 0.0)  # as if each batch took that long
    network, theta, examples = case(fake)
    told = []
    with Objective(network, examples) as objective:
        states = train(objective, theta, "adam", orders_of(150, 1), 40, between=lambda make: told.append(make()))
        half = told[1]
        assert [state.epoch_examples for state in told] == [40, 80, 120]
        assert [state.updates for state in told] == [1, 2, 3]
        again = list(epochs(objective, OPTIMIZERS["adam"], half, orders=orders_of(150, 1), batch_size=40))
    assert host(again[-1].theta).tobytes() == host(states[-1].theta).tobytes()
    assert list(again[-1].costs) == pytest.approx(list(states[-1].costs), rel=1e-12)


# --- Where the loop in Python goes on -------------------------------------------------------------------------------


@fake_cupy.pretended
@pytest.mark.parametrize(
    "why",
    [
        "another loss",
        "own activation",
        "an optimiser of another name",
        "no memory",
        "a small budget",
        "one batch",
        "dropout",
    ],
)
def test_what_they_cannot_do_the_loop_in_python_does(fake, why, monkeypatch):
    network, theta, examples = case(fake)
    budget, batch_size, optimizer, more = np.inf, 40, OPTIMIZERS["adam"], {}
    if why == "another loss":
        network = fb.Network([3, 9, 1], output="identity", loss="absolute_error")
    elif why == "own activation":
        network = fb.Network([3, 9, 1], hidden=(lambda Z: Z * Z, lambda Z: 2 * Z))
    elif why == "another optimiser":
        optimizer = optimizer._replace(name="mine")
    elif why == "a small budget":
        budget, batch_size = blocks.workspace(network, theta, 150, m=150), 149
        monkeypatch.setattr(card_batches, "_piece", lambda *_: 0)
    elif why == "one batch":
        batch_size = 150
    elif why == "dropout":
        more["dropout"] = Dropout((0.5,), seed=1)
    else:
        error = fake_cupy.OutOfMemoryError("Out of memory allocating 512 bytes (allocated so far: 0 bytes).")

        def none(self, *args, **options):
            raise error

        monkeypatch.setattr(card_batches, "Updates", none)
    with Objective(network, examples, budget=budget, **more) as objective:
        state = TrainingState.start(theta, optimizer, Schedule("constant", 0.05))
        made = minibatches.make(objective, optimizer, state, batch_size)
        assert type(made) is PythonBatches
        *_, last = epochs(objective, optimizer, state, orders=orders_of(150), batch_size=batch_size)
    assert np.isfinite(host(last.theta)).all()


@fake_cupy.pretended
@pytest.mark.parametrize(
    ("which", "where"), [("onepass", "there"), ("onepass", "streamed"), ("fused", "there"), ("twopass", "streamed")]
)
def test_memory_that_runs_out_within_an_epoch_changes_no_bit(fake, which, where, monkeypatch):
    """In the second epoch, also in a graph: what was under way is done again in halves, and in halves of these."""
    monkeypatch.setattr(card_batches, "REPEATS", 2)
    network, theta, examples = case(fake, which, m=300, weighted=True)
    if where == "streamed":
        on_host = [Uploaded(Dense(host(one.array)), places.place("cuda")) for one in (examples.X, examples.Y)]
        examples = Examples(*on_host, examples.weight)
    step, found, sizes, most = steps.STEPS[which], [], [], [10**6]
    least, _ = step.of_batch
    real, launch = step.rows_of_batch, fake_cupy.Graph.launch

    def look(k):
        sizes.append(k)
        if len(sizes) > 2 and k > most[0]:
            raise fake_cupy.OutOfMemoryError("Out of memory allocating 512 bytes (allocated so far: 0 bytes).")

    def rows_of_batch(self, batch, rows, segment):
        if fake_cupy.Stream.captured is None:
            look(batch.k)
        else:
            repeated.append(batch.k)
        real(self, batch, rows, segment)

    repeated = []
    monkeypatch.setattr(step, "rows_of_batch", rows_of_batch)
    monkeypatch.setattr(fake_cupy.Graph, "launch", lambda self: look(repeated[-1]) or launch(self))
    for limit in (10**6, 2 * least, least):
        sizes.clear()
        most[0] = limit
        with Objective(network, examples, l2=0.1) as objective:
            found.append(bits(train(objective, theta, "adam", orders_of(300), 4 * least + 10)[-1]))
        assert max(sizes[-3:]) <= limit
        assert max(sizes) == 4 * least + 10
    assert found[0] == found[1] == found[2]
    most[0] = least - 1
    sizes.clear()
    there = places.place("cuda")
    with Objective(network, examples) as objective, pytest.raises(DeviceError, match="of memory"), there.computing():
        train(objective, theta, "adam", orders_of(300), 4 * least)


@fake_cupy.pretended
def test_a_batch_for_which_there_is_little_memory_is_done_in_parts_from_the_start(fake, monkeypatch):
    network, theta, examples = case(fake, "fused", m=300)
    found = []
    for budget in (np.inf, blocks.workspace(network, theta, 256, m=300) + 12 * 300):
        with Objective(network, examples, budget=budget) as objective:
            piece = card_batches._piece(objective, 290)
            assert piece == (290 if budget == np.inf else 128), "two segments"
            found.append(bits(train(objective, theta, "adam", orders_of(300), 290)[-1]))
    assert found[0] == found[1]
    with Objective(network, examples) as objective:
        objective.limits["budget"] = 10_000
        assert card_batches._piece(objective, 290) == 0


@fake_cupy.pretended
def test_where_the_step_of_a_pass_does_no_batches_another_one_does(fake, monkeypatch):
    monkeypatch.delattr(steps.OnePassStep, "rows_of_batch")
    network, theta, examples = case(fake)
    with Objective(network, examples) as objective:
        assert objective.fold.step_name == "onepass"
        cuda_on_cpu.launched.clear()
        train(objective, theta, "adam", orders_of(150, 1), 75)
    assert [name for name, _ in cuda_on_cpu.launched] == ["gather", "tail", "update"] * 2


@fake_cupy.pretended
def test_another_error_is_no_reason_for_another_loop(fake, monkeypatch):
    network, theta, examples = case(fake)
    monkeypatch.setattr(card_batches, "Updates", lambda *args, **options: 1 / 0)
    with Objective(network, examples) as objective, pytest.raises(ZeroDivisionError):
        train(objective, theta, "adam", orders_of(150), 40)


# --- Through the estimators -----------------------------------------------------------------------------------------


@fake_cupy.pretended
@pytest.mark.parametrize(("solver", "classes"), [("adam", 2), ("sgd", 3)])
def test_estimators_train_so_with_early_stopping_once_an_epoch(fake, solver, classes, monkeypatch):
    made = []
    real = CardBatches.make.__func__
    monkeypatch.setattr(
        CardBatches, "make", classmethod(lambda cls, *given: made.append(real(cls, *given)) or made[-1])
    )
    X = np.random.default_rng(0).standard_normal((150, 4)).astype("float32")
    y = np.argmax(X[:, :classes], axis=1)
    options = {"solver": solver, "batch_size": 16, "max_iter": 3, "random_state": 0, "tol": 0, "alpha": 0.1}
    for early in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours, truth = (
                fb.MLPClassifier((5,), device=device, early_stopping=early, **options).fit(X, y, np.linspace(0, 2, 150))
                for device in ("cuda", "cpu")
            )
        assert ours.loss_curve_ == pytest.approx(truth.loss_curve_, rel=1e-5)
        assert relative(ours.coefs_, truth.coefs_) < TOLERANCE["float32"]
        if early:
            assert ours.validation_scores_ == truth.validation_scores_
        assert isinstance(made.pop(0), CardBatches)
        assert made in ([], [None]), "not on the host"
        made.clear()
