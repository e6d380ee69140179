"""Full batches in one call of C against the loop in Python, to the bit; and that it is C that ran."""

from __future__ import annotations

import signal
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

import fullbatch as fb
from conftest import ISAS, use
from fullbatch.core.parameters import flatten
from fullbatch.errors import NonFiniteError
from fullbatch.fold import fold as fold_module
from fullbatch.fold import tree as tree_module
from fullbatch.fold.fold import Fold
from fullbatch.fold.tree import Node, Tree
from fullbatch.machine import native_library
from fullbatch.sources import Dense, Examples, OneHot
from fullbatch.steps.native import NativeBlocks, NativeStep
from fullbatch.training import native_descent
from fullbatch.training.objective import Objective
from reference import problem

pytestmark = pytest.mark.skipif(not ISAS, reason="the native step is not here")

SIZES = [3, 40, 2]  # 242 parameters: more than a chunk of them


class Told:
    """A checkpoint that wants to be told every state: so each update is one of the loop in Python."""

    def __init__(self, seconds=0.0):
        self.seconds, self.states = seconds, []

    def tell(self, moment):
        self.states.append(moment.state)

    def state(self):
        raise AssertionError


@pytest.fixture
def runs(monkeypatch):
    """How many updates each call of C made."""
    made = []
    plain = NativeBlocks.descend

    def counted(self, *args, **settings):
        found = plain(self, *args, **settings)
        made.append(len(found[0]))
        return found

    monkeypatch.setattr(NativeBlocks, "descend", counted)
    return made


def theta_of(params):
    return flatten(tuple(fb.Layer(W, b) for W, b in params))


def bits(run):
    return run.costs, [array.tobytes() for layer in run.params for array in layer], run.stopped


def both(runs, *args, **settings):
    """By the loop in Python and in C; the second, and the updates that C made of it."""
    slow = fb.gradient_descent(*args, checkpoint=Told(), **settings)
    assert runs == []
    fast = fb.gradient_descent(*args, **settings)
    assert bits(fast) == bits(slow)
    return fast, sum(runs)


@pytest.mark.parametrize("name", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options", [{}, {"l2": 0.7}, {"momentum": 0.9, "l2": 0.1}, {"momentum": 0.8, "nesterov": True}], ids=str
)
def test_its_bits_are_those_of_the_loop_in_python(name, dtype, options, runs, monkeypatch):
    use(f"native-{name}", monkeypatch)
    params, X, Y = problem(SIZES, 2300, "softmax", dtype=dtype)
    weight = np.random.default_rng(1).random(2300).astype(dtype) if options else None
    args = (fb.Network(SIZES, output="softmax"), params, X, Y)
    _, made = both(runs, *args, learning_rate=0.3, iterations=25, sample_weight=weight, **options)
    assert made == 25


@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_few_iterations(iterations, runs):
    params, X, Y = problem(SIZES, 70, "softmax")
    run, made = both(runs, fb.Network(SIZES, output="softmax"), params, X, Y, learning_rate=0.3, iterations=iterations)
    assert made == iterations == run.iterations


@pytest.mark.parametrize("wrong", ["strided", "other dtype of weights"])
def test_what_lies_otherwise_has_the_same_outcome(wrong, runs):
    """Where C cannot take an array as it lies, the loop in Python runs."""
    params, X, Y = problem(SIZES, 90, "softmax")
    settings = {"learning_rate": 0.3, "iterations": 5}
    if wrong == "strided":
        X = np.asfortranarray(X)[:, ::-1]
        Y = Y[:, ::-1]
        assert both(runs, fb.Network(SIZES, output="softmax"), params, X, Y, **settings)[1] == 5
    else:
        packed = np.zeros(90, [("one", "i1"), ("weight", "f8")])
        packed["weight"] = 1
        settings["sample_weight"] = packed["weight"]
        assert both(runs, fb.Network(SIZES, output="softmax"), params, X, Y, **settings)[1] == 0


@pytest.mark.parametrize(("m", "threads", "calls"), [(300, 1, 1), (40_000, 2, 2), (40_000, 1, 2)])
def test_small_gradients_are_one_call_of_c_to_the_bit(m, threads, calls, monkeypatch):
    made = []
    plain = NativeBlocks.gradients
    monkeypatch.setattr(
        NativeBlocks, "gradients", lambda self, *args: made.append(len(self.calls)) or plain(self, *args)
    )
    params, X, Y = problem(SIZES, m, "softmax", dtype="float32")
    weight, theta = np.random.default_rng(1).random(m).astype("float32"), theta_of(params)
    with Fold(fb.Network(SIZES, output="softmax"), Examples(Dense(X), Dense(Y), weight), threads=threads) as fold:
        expected = fold._tree("gradient", theta, None).total()
        for _ in range(2):
            found = fold.gradient(theta)
            assert found.vector.tobytes() == expected.vector.tobytes()
            assert (found.loss, found.weight) == (expected.loss, expected.weight)
        assert made == [1] * calls
        fold.gradient(theta, slice(0, 100))
        fold.rest()
        assert fold.gradient(theta).vector.tobytes() == expected.vector.tobytes()


@pytest.mark.parametrize(("together", "calls"), [(1, 6), (2, 3), (4, 2), (8, 1)])
@pytest.mark.parametrize("layout", ["rows", "columns", "backwards"])
def test_a_large_gradient_is_a_few_calls_of_c_to_the_bit(together, calls, layout, monkeypatch):
    """Of leaves of 256 examples, so many in a call; the last leaf and the last call are not full."""
    monkeypatch.setattr(tree_module, "MOST_EXAMPLES", 256)
    monkeypatch.setattr(fold_module, "NATIVE_LIMIT", together * 256 * (3 * 40 + 40 * 2))
    monkeypatch.setattr(fold_module, "FEWEST", 1)
    made = []
    plain = NativeBlocks.gradients
    monkeypatch.setattr(
        NativeBlocks, "gradients", lambda self, *args: made.append(len(self.calls)) or plain(self, *args)
    )
    params, X, Y = problem(SIZES, 5 * 256 + 77, "softmax", dtype="float32")
    weight, theta = np.random.default_rng(1).random(X.shape[1]).astype("float32"), theta_of(params)
    X = {"rows": np.asfortranarray(X), "columns": np.ascontiguousarray(X), "backwards": X[:, ::-1].copy()[:, ::-1]}[
        layout
    ]
    for threads in (1, 2):
        with Fold(fb.Network(SIZES, output="softmax"), Examples(Dense(X), Dense(Y), weight), threads=threads) as fold:
            expected = fold._tree("gradient", theta, None).total()
            found = fold.gradient(theta)
            assert found.vector.tobytes() == expected.vector.tobytes()
            assert (found.loss, found.weight) == (expected.loss, expected.weight)
    assert made == [calls, calls]


@pytest.mark.parametrize(("made", "ready"), [(2**24, True), (0, False)])
def test_classes_become_ones_and_zeros_as_a_whole_only_where_these_are_few(made, ready, monkeypatch):
    monkeypatch.setattr(fold_module, "MADE", made)
    params, X, Y = problem(SIZES, 3000, "softmax", dtype="float32")
    theta = theta_of(params)
    for target in (Dense(Y), OneHot(Y.argmax(axis=0), 2, np.dtype("float32"))):
        with Fold(fb.Network(SIZES, output="softmax"), Examples(Dense(X), target), threads=2) as fold:
            expected = fold._tree("gradient", theta, None).total()
            assert (fold.in_calls(2) is not None) == (ready or isinstance(target, Dense))
            assert fold.gradient(theta).vector.tobytes() == expected.vector.tobytes()


def test_long_blocks_are_not_held_together_by_a_call():
    """Threads would wait for one another at the end of each."""
    like = Dense(np.broadcast_to(np.float32(0), (300, 200_000)))
    with Fold(fb.Network([300, 2000, 1]), Examples(like, Dense(np.zeros((1, 200_000), "float32"))), threads=2) as fold:
        assert fold.in_calls(2) is None


# --- Estimators -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"max_iter": 30, "tol": 0},
        {"max_iter": 400, "tol": 1e-2, "n_iter_no_change": 3},
        {"max_iter": 25, "solver": "sgd", "batch_size": "full", "tol": 0, "momentum": 0.8},
        {"max_iter": 25, "learning_rate_init": 1e38, "activation": "relu"},
        {"max_iter": 1},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*converged:sklearn.exceptions.ConvergenceWarning")
def test_an_estimators_full_batches_run_in_c_to_the_same_fit(settings, runs, caplog):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 3)).astype("float32")
    y = X[:, 0] + X[:, 1] ** 2
    fits = []
    for told in (False, True):
        model = fb.MLPRegressor(
            **{"hidden_layer_sizes": (4,), "solver": "gd", "learning_rate_init": 0.1, "random_state": 0, **settings}
        )
        if told:  # of each epoch, so that they are the loop's
            runs.clear()
            caplog.set_level("DEBUG", "fullbatch")
        try:
            model.fit(X, y)
        except ValueError as error:  # it is not finite any more
            fits.append([str(error)])
        else:
            fits.append([model._no_improvement_count, model.best_loss_, model.t_, model.n_iter_])
        fits[-1] += [model.loss_curve_, [array.tobytes() for array in (*model.coefs_, *model.intercepts_)]]
        assert (sum(runs) > 0) == (not told and settings["max_iter"] > 1)
    assert fits[0] == fits[1]


def test_threads_do_not_change_a_bit(runs):
    params, X, Y = problem(SIZES, 40_000, "softmax", dtype="float32")
    args, settings = (fb.Network(SIZES, output="softmax"), params, X, Y), {"learning_rate": 0.3, "iterations": 4}
    found = [fb.gradient_descent(*args, threads=threads, **settings) for threads in (1, 2, 3)]
    assert sum(runs) == 12
    assert [run.threads for run in found] == [1, 2, 3]
    assert bits(found[0]) == bits(found[1]) == bits(found[2])


def test_it_ends_where_the_cost_falls_by_less_than_tol(runs):
    params, X, Y = problem(SIZES, 70, "softmax")
    args = (fb.Network(SIZES, output="softmax"), params, X, Y)
    run, made = both(runs, *args, learning_rate=0.3, iterations=10_000, tol=1e-4)
    assert run.stopped == "tolerance"
    assert made == run.iterations


def test_a_cost_that_is_not_finite_raises_with_the_last_good_parameters():
    params, X, Y = problem(SIZES, 70, "identity", dtype="float32")
    found = []
    for checkpoint in (Told(), None):
        with np.errstate(all="ignore"), pytest.raises(NonFiniteError) as error:
            fb.gradient_descent(
                fb.Network(SIZES, hidden="relu", output="identity"), params, X, Y,
                learning_rate=50.0, iterations=500, checkpoint=checkpoint,
            )  # fmt: skip
        found.append((error.value.iteration, flatten(error.value.params).tobytes(), str(error.value)))
    assert found[0] == found[1]
    assert found[0][0] > 1


def test_a_checkpoint_is_told_states_that_lie_so_far_apart(runs):
    params, X, Y = problem(SIZES, 70, "softmax")
    args = (fb.Network(SIZES, output="softmax"), params, X, Y)
    every, some = Told(), Told(seconds=1e-9)  # a run of C ends after its first update
    for told in (every, some):
        fb.gradient_descent(*args, learning_rate=0.3, iterations=6, checkpoint=told)
    assert runs == [1] * 6
    assert [state.epoch for state in every.states] == [state.epoch for state in some.states]
    for one, other in zip(every.states, some.states, strict=True):
        assert one._replace(theta=None) == other._replace(theta=None)
        assert one.theta.tobytes() == other.theta.tobytes()


def test_resumed_it_comes_to_the_same_bits(runs, tmp_path):
    params, X, Y = problem(SIZES, 70, "softmax")
    args = (fb.Network(SIZES, output="softmax"), params, X, Y)
    settings = {"learning_rate": 0.3, "momentum": 0.9}
    kept = fb.Checkpoint(tmp_path / "run.ckpt")
    fb.gradient_descent(*args, iterations=7, checkpoint=kept, **settings)
    resumed = fb.gradient_descent(*args, iterations=20, resume=kept, **settings)
    assert sum(runs) == 20
    assert bits(resumed) == bits(fb.gradient_descent(*args, iterations=20, **settings))


def test_ctrl_c_ends_a_run(runs):
    def interrupt(signum, frame):
        raise KeyboardInterrupt

    params, X, Y = problem(SIZES, 70, "softmax")
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            fb.gradient_descent(fb.Network(SIZES, output="softmax"), params, X, Y, learning_rate=1e-9, iterations=10**9)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("leaves", [[0, 1], [0, 2, 5], [0, 1, 2, 4, 5, 7, 8, 9]], ids=str)
def test_blocks_are_added_as_the_fold_adds_them(leaves):
    params, X, Y = problem(SIZES, 90, "softmax")
    network, theta, count = fb.Network(SIZES, output="softmax"), theta_of(params), leaves[-1]
    starts = [10 * i for i in range(count + 1)]
    parts = [(X[:, i : i + 10], Y[:, i : i + 10], None) for i in starts[:-1]]
    steps = [NativeStep(network, X, 10) for _ in range(2)]
    steps[0].load(theta)
    tree = Tree()
    for k, (first, stop) in enumerate(pairwise(leaves)):
        total = None
        for part in parts[first:stop]:
            block = steps[0].gradient(*part)
            total = block if total is None else total + block
        tree.add(Node(k, 1, total))
    expected = tree.total()
    X, Y = X[:, : 10 * count], Y[:, : 10 * count]
    for threads in (1, 2):
        (first, together, total), *more = NativeBlocks(steps, X, Y, None, starts, leaves, 8).gradients(theta, threads)
        assert (first, together, more) == (0, len(leaves) - 1, [])
        assert total.vector.tobytes() == expected.vector.tobytes()
        assert (total.loss, total.weight) == (expected.loss, expected.weight)


def test_wrong_calls_are_refused():
    params, X, Y = problem(SIZES, 70, "softmax")
    network, theta = fb.Network(SIZES, output="softmax"), theta_of(params)
    step = NativeStep(network, X, 70)
    blocks = NativeBlocks([step], X, Y, None, [0, 70], [0, 1], 1)
    ((_, _, total),) = blocks.gradients(theta, 1)
    with Objective(network, Examples(Dense(X), Dense(Y))) as objective:
        assert objective.cost_and_gradient(theta)[1].tobytes() == (total.vector / 70).tobytes()
    settings = {"tol": 0.0, "last": np.inf, "seconds": 1.0}
    for wrong in (native_library.Rule(kind=3), native_library.Rule(kind=-1), native_library.Rule(fixed_biases=1)):
        with pytest.raises(ValueError, match="refused"):
            blocks.descend(wrong, (theta,), 1.0, 1, **settings)
    (_, _, right) = blocks.calls[0]
    for leaves in ([0, 0], [1, 1], [0, 1, 1]):
        bounds = np.array(leaves, np.int64)
        wrong = native_library.Blocks(right.examples, bounds.ctypes.data, len(leaves) - 1, right.work)
        blocks.calls[0] = (0, 1, wrong)
        with pytest.raises(ValueError, match="refused"):
            list(blocks.gradients(theta, 1))
    other = NativeBlocks([step, NativeStep(fb.Network([3, 2]), X, 70)], X, Y, None, [0, 70], [0, 1], 1)
    with pytest.raises(ValueError, match="refused"):
        list(other.gradients(theta, 2))


@pytest.mark.parametrize(("slower", "taken"), [(2, 1), (1, 2)])
def test_few_rows_are_worked_on_by_as_many_threads_as_are_faster(monkeypatch, slower, taken):
    """Threads of which one waits for its core are slower than one; the bits are the same."""
    clock = [0.0]
    monkeypatch.setattr(native_descent, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(native_descent, "SLICE", 60.0)
    monkeypatch.setattr(native_descent, "TRIAL", 3)
    monkeypatch.setattr("fullbatch.fold.blocks.THREAD_WORK", 2**21)
    network, X, Y = fb.Network([28, 64, 1]), np.ones((28, 1000)), np.arange(1000)[None, :] % 2 * 1.0
    params = network.init(seed=0)
    plain, calls = NativeBlocks.descend, []

    def timed(self, *args, threads, **settings):
        found = plain(self, *args, threads=threads, **settings)
        calls.append((threads, len(found[0])))
        clock[0] += 2.0 if threads == slower else 1.0
        return found

    monkeypatch.setattr(NativeBlocks, "descend", timed)
    run = fb.gradient_descent(network, params, X, Y, learning_rate=0.1, iterations=12, threads=2)
    assert calls[:2] == [(2, 3), (1, 3)]
    assert {threads for threads, _ in calls[2:]} == {taken}
    assert sum(made for _, made in calls) in (11, 12)
    assert bits(run) == bits(fb.gradient_descent(network, params, X, Y, learning_rate=0.1, iterations=12, threads=1))
