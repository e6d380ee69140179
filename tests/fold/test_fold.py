"""The sum over blocks: the same bits whatever the threads, errors come through, memory does not grow with m."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

import fullbatch as fb
from fullbatch.core.parameters import flatten
from fullbatch.errors import InputError
from fullbatch.fold import blocks
from fullbatch.fold.blocks import block_size, cut
from fullbatch.fold.fold import Fold
from fullbatch.fold.threads import OnThreads
from fullbatch.machine import native_library, threads
from fullbatch.sources import Dense, Examples, length
from fullbatch.training.objective import Objective
from reference import oracle, problem, relative
from through_layers import cost_and_layers

SIZES = [5, 9, 6, 2]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 64 examples, so that a small m has many of them."""
    monkeypatch.setattr(blocks, "block_size", lambda *_, **__: 64)


def make(m, sizes=SIZES, output="softmax", dtype="float32", seed=0, hidden="tanh"):
    params, X, Y = problem(sizes, m, output, seed=seed, dtype=dtype)
    return fb.Network(sizes, hidden=hidden, output=output), tuple(fb.Layer(W, b) for W, b in params), X, Y


def bits(J, gradients, *more):
    return [
        np.float64(J).tobytes(),
        *(np.asarray(a).tobytes() for g in gradients for a in g),
        *(a.tobytes() for a in more),
    ]


# --- Blocks ---------------------------------------------------------------------------------------------------------


@given(m=st.integers(1, 50_000), block=st.integers(64, 9000), start=st.integers(0, 100), kind=st.booleans())
def test_blocks_are_consecutive_cover_all_and_depend_on_length_and_block_alone(m, block, start, kind):
    where = slice(start, start + m) if kind else np.arange(start, start + m)
    parts = cut(where, block)
    lengths = [length(part) for part in parts]
    assert max(lengths) <= block
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1
    flat = np.concatenate([np.arange(p.start, p.stop) if isinstance(p, slice) else p for p in parts])
    assert np.array_equal(flat, np.arange(start, start + m))
    assert lengths == [length(part) for part in cut(slice(0, m), block)]


def test_a_native_block_ends_within_a_second_and_is_not_short_for_sparse_x():
    if not native_library.isas():
        pytest.skip("the native step is not here")
    like = np.empty((0, 0), dtype="float32")
    huge = fb.Network([28, 4000, 4000, 1])
    assert blocks.SHORTEST <= block_size(huge, like) <= 2**33 // (28 * 4000 + 4000 * 4000 + 4000)
    tall = fb.Network([100_000, 32, 1])
    assert block_size(tall, like) == 2 * blocks.SHORTEST
    assert block_size(tall, like, sparse=True) >= 4 * block_size(tall, like)
    assert block_size(fb.Network([4000, 500, 1]), like) == blocks.NATIVE_LEAST


def test_the_block_is_fixed_by_shape_and_dtype(twin):
    """What is kept short are the hidden layers, or the X of a step that has no such arrays."""
    wide, narrow = fb.Network([10, 1000, 1]), fb.Network([10, 8, 1])
    if twin == "native":
        wide = fb.Network([4000, 8, 1])
    for network in (wide, narrow):
        for dtype in ("float32", "float64"):
            (size,) = {block_size(network, np.empty((10, m), dtype=dtype)) for m in (0, 1, 10**5)}
            assert size >= blocks.SHORTEST
            if twin == "native":
                row = network.sizes[0] * np.dtype(dtype).itemsize
                assert size <= max(blocks.NATIVE_BLOCK // row, blocks.NATIVE_LEAST)
                assert size * row <= 8 * blocks.NATIVE_BLOCK
            else:
                assert size <= blocks.LONGEST
    assert (
        block_size(wide, np.empty(0))
        <= block_size(wide, np.empty(0, dtype="float32"))
        <= block_size(narrow, np.empty(0))
    )


# --- The same bits --------------------------------------------------------------------------------------------------


def everything(network, params, examples, where, count):
    with Objective(network, examples, l2=0.3, threads=count) as objective:
        J, gradients = cost_and_layers(objective, params, where)
        costs = np.array([objective.cost(flatten(params), where)])
        again, same = cost_and_layers(objective, params, where)
        assert bits(J, gradients) == bits(again, same)  # the second call of the same fold
        return bits(J, gradients, costs, objective.fold.predict(flatten(params)))


@settings(max_examples=25)
@given(
    m=st.integers(1, 900),
    dtype=st.sampled_from(["float32", "float64"]),
    weighted=st.booleans(),
    kind=st.sampled_from(["all", "slice", "indices"]),
    seed=st.integers(0, 99),
    rows=st.booleans(),
    hidden=st.sampled_from(["tanh", "relu", "gelu", (np.tanh, lambda Z: 1 - np.tanh(Z) ** 2)]),
)
def test_the_same_bits_with_1_2_and_3_threads(m, dtype, weighted, kind, seed, rows, hidden):
    """Full batches and mini-batches, cost, gradient and prediction; m is rarely a multiple of the block."""
    network, params, X, Y = make(m, dtype=dtype, seed=seed, hidden=hidden)
    if rows:
        X = np.asfortranarray(X)
    rng = np.random.default_rng(seed)
    weight = (rng.random(m) + 0.1).astype(dtype) if weighted else None
    where = {"all": None, "slice": slice(m // 4, m), "indices": rng.permutation(m)[: max(1, m // 2)]}[kind]
    examples = Examples(Dense(X), Dense(Y), weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "block_size", lambda *_, **__: 64)
        patch.setattr(blocks, "SHARE", 32)
        results = [everything(network, params, examples, where, count) for count in (1, 2, 3, 2)]
    assert all(result == results[0] for result in results[1:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_at_the_real_size_of_a_block_run_after_run(dtype):
    """Blocks, threads and BLAS as they are, a whole training: 3 updates on each of several batches."""
    network, params, X, Y = make(30_011, sizes=[28, 64, 1], output="sigmoid", dtype=dtype)
    results = []
    for count in (1, 2, 3, 3, None):
        run = fb.gradient_descent(network, params, X, Y, learning_rate=0.5, iterations=3, threads=count)
        assert count is None or run.threads == count
        results.append(bits(0.0, run.params, np.array(run.costs)))
    assert all(result == results[0] for result in results[1:])


@pytest.mark.parametrize("batch", [100, 700, 1500, 5000])
def test_the_same_bits_for_mini_batches_of_any_size(batch):
    network, params, X, Y = make(9_000, sizes=[12, 30, 3])
    order = np.random.default_rng(0).permutation(9_000)
    results = []
    for count in (1, 2, 3):
        with Objective(network, Examples(Dense(X), Dense(Y)), threads=count) as objective:
            results.append(
                [bits(*cost_and_layers(objective, params, order[i : i + batch])) for i in range(0, 9_000, batch)]
            )
    assert results[0] == results[1] == results[2]


def test_the_bits_do_not_depend_on_blas_threads_outside():
    network, params, X, Y = make(20_000, sizes=[28, 64, 1], output="sigmoid")
    results = []
    for limit in (1, 2, 4):
        with threadpool_limits(limit):
            results.append(bits(*fb.cost_and_gradients(network, params, X, Y, threads=2)))
    assert results[0] == results[1] == results[2]


@dataclass(frozen=True)
class Uneven:
    """A source whose reader sleeps at random, so that blocks end in another order each time."""

    array: np.ndarray
    seed: int

    n = property(lambda self: self.array.shape[0])
    m = property(lambda self: self.array.shape[1])
    like = property(lambda self: self.array)

    def reader(self):
        rng = np.random.default_rng(self.seed + threading.get_ident() % 97)

        def read(where):
            time.sleep(float(rng.random()) * 0.004)
            return self.array[:, where]

        return read


def test_the_order_in_which_blocks_end_does_not_matter(small_blocks):
    network, params, X, Y = make(1_300)
    results = []
    for seed in range(4):
        with Fold(network, Examples(Uneven(X, seed), Dense(Y)), threads=3) as it:
            total = it.gradient(flatten(params))
            results.append(bits(total.loss, total.gradients, it.predict(flatten(params))))
    assert all(result == results[0] for result in results[1:])


# --- The sums themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 63, 64, 65, 300])
def test_the_fold_is_the_scalar_loop(xp, m, small_blocks):
    params, X, Y = problem([3, 4, 2], m, "softmax", seed=m)
    weight = np.random.default_rng(m).random(m) + 0.1
    network = fb.Network([3, 4, 2], output="softmax")
    examples = xp.examples(X, Y, weight)
    J, expected = oracle(params, ["tanh"], "softmax", X, Y, l2=0.5, weights=weight)
    with Objective(network, examples, l2=0.5, threads=2) as objective:
        cost, gradients = cost_and_layers(objective, xp.params(params))
        assert type(cost) is float
        assert cost == pytest.approx(J, rel=xp.tolerance)
        assert objective.cost(flatten(xp.params(params))) == pytest.approx(J, rel=xp.tolerance)
        assert relative(xp.hosts(gradients), expected) < xp.tolerance


def test_indices_select_examples_on_every_library(xp, small_blocks):
    params, X, Y = problem([3, 4, 2], 200, "softmax", seed=1)
    weight = np.random.default_rng(1).random(200) + 0.1
    network = fb.Network([3, 4, 2], output="softmax")
    where = np.random.default_rng(2).permutation(200)[:150]
    J, expected = oracle(params, ["tanh"], "softmax", X[:, where], Y[:, where], weights=weight[where])
    with Objective(network, xp.examples(X, Y, weight), threads=2) as objective:
        cost, gradients = cost_and_layers(objective, xp.params(params), where)
        assert cost == pytest.approx(J, rel=xp.tolerance)
        assert objective.cost(flatten(xp.params(params)), where) == pytest.approx(J, rel=xp.tolerance)
    assert relative(xp.hosts(gradients), expected) < xp.tolerance
    part = slice(20, 170)
    J, expected = oracle(params, ["tanh"], "softmax", X[:, part], Y[:, part], weights=weight[part])
    with Objective(network, xp.examples(X, Y, weight)) as objective:
        assert cost_and_layers(objective, xp.params(params), part)[0] == pytest.approx(J, rel=xp.tolerance)


def test_float32_blocks_are_added_in_float64(small_blocks):
    """A large sum first and many small ones after it: in float32 the small ones would be lost."""
    network = fb.Network([1, 1], output="identity")
    X = np.full((1, 64_000), 1e-4, dtype="float32")
    X[:, :64] = 2.0**24
    Y = np.zeros_like(X)
    params = (fb.Layer(np.zeros((1, 1), dtype="float32"), np.ones((1, 1), dtype="float32")),)
    with Fold(network, Examples(Dense(X), Dense(Y)), threads=2) as it:
        total = it.gradient(flatten(params))
    assert total.gradients[0].W.dtype == "float64"
    assert float(total.gradients[0].W[0, 0]) == pytest.approx(64 * 2.0**24 + 63_936 * 1e-4, abs=1e-3)


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exp"])
def test_predict_is_the_forward_pass(xp, output, small_blocks):
    params, X, _ = problem([3, 4, 2], 333, output)
    network = fb.Network([3, 4, 2], output=output)
    ours = xp.array(X)
    with Fold(network, Dense(ours), threads=3) as it:
        yhat = it.predict(flatten(xp.params(params)))
    assert xp.has(yhat)
    assert tuple(yhat.shape) == (2, 333)
    expected = network.forward(xp.params(params), ours).A[-1]
    assert relative([xp.host(yhat)], [xp.host(expected)]) < xp.tolerance


def test_predict_finishes_each_block_and_lies_example_by_example(small_blocks):
    network, params, X, _ = make(333)
    with Fold(network, Dense(X), threads=2) as it:
        yhat = it.predict(flatten(params))
        classes = it.predict(flatten(params), finish=lambda block: block.argmax(axis=0))
        views = it.predict(flatten(params), finish=lambda block: block[:1])
    assert yhat.T.flags.c_contiguous
    assert classes.shape == (333,)
    assert classes.dtype == np.int64
    assert np.array_equal(classes, yhat.argmax(axis=0))
    assert np.array_equal(views, yhat[:1])


# --- Errors and Ctrl-C ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failing:
    """A source whose block at column ``at`` raises ``error``, or calls it."""

    array: np.ndarray
    at: int
    error: object

    n = property(lambda self: self.array.shape[0])
    m = property(lambda self: self.array.shape[1])
    like = property(lambda self: self.array)

    def reader(self):
        def read(where):
            time.sleep(0.001)  # so that every thread gets blocks
            if where.start <= self.at < where.stop:
                if isinstance(self.error, BaseException):
                    raise self.error
                self.error()
            return self.array[:, where]

        return read


def fullbatch_threads():
    """The fold's threads that are still there; one that Ctrl-C met while it started may take a moment to end."""
    for _ in range(500):
        left = [thread for thread in threading.enumerate() if thread.name.startswith("fullbatch")]
        if not left:
            break
        time.sleep(0.01)
    return left


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("at", [0, 100, 700, 1299])
@pytest.mark.parametrize("error", [InputError("a bad block"), ValueError("a bad block"), MemoryError("a bad block")])
def test_an_error_in_any_block_comes_through_and_nothing_hangs(count, at, error, small_blocks, no_hang):
    network, params, X, Y = make(1_300)
    before = threadpool_info()
    with (
        pytest.raises(type(error), match="a bad block"),
        Fold(network, Examples(Failing(X, at, error), Dense(Y)), threads=count) as it,
    ):
        it.gradient(flatten(params))
    assert fullbatch_threads() == []
    assert threads._holders == 0
    assert threadpool_info() == before


def test_a_fold_goes_on_after_an_error(small_blocks, no_hang):
    """Whoever catches the error inside has a fold that still adds right."""
    network, params, X, Y = make(1_300)
    with Fold(network, Examples(Dense(X), Dense(Y)), threads=2) as it:
        expected = it.gradient(flatten(params))
        with pytest.raises(IndexError):
            it.gradient(flatten(params), np.array([0] * 1000 + [5000]))
        again = it.gradient(flatten(params))
    assert bits(expected.loss, expected.gradients) == bits(again.loss, again.gradients)


def test_a_failing_finish_comes_through(small_blocks, no_hang):
    network, params, X, _ = make(1_300)

    def finish(block):
        raise ZeroDivisionError("finish")

    with pytest.raises(ZeroDivisionError, match="finish"), Fold(network, Dense(X), threads=3) as it:
        it.predict(flatten(params), finish=finish)
    assert fullbatch_threads() == []


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="no signals")
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("at", [0, 100, 1000])
def test_ctrl_c_ends_the_fold_and_the_fold_can_go_on(count, at, small_blocks, ctrl_c, no_hang):
    """SIGINT out of whichever thread has that block: the interpreter raises it in the main thread."""
    network, params, X, Y = make(1_300)
    before = threadpool_info()
    rude = Failing(X, at, lambda: signal.raise_signal(signal.SIGINT))
    with Fold(network, Examples(Dense(X), Dense(Y)), threads=count) as it:
        expected = it.gradient(flatten(params))
    with Fold(network, Examples(rude, Dense(Y)), threads=count) as it:
        with pytest.raises(KeyboardInterrupt):
            it.gradient(flatten(params))
        polite = slice(0, 64) if at else slice(64, 128)
        assert np.isfinite(it.cost(flatten(params), polite)[0])
    with Fold(network, Examples(Dense(X), Dense(Y)), threads=count) as it:
        again = it.gradient(flatten(params))
    assert bits(expected.loss, expected.gradients) == bits(again.loss, again.gradients)
    assert fullbatch_threads() == []
    assert threadpool_info() == before


IGNORED = """
import signal, sys, pytest
signal.signal(signal.SIGINT, signal.SIG_IGN)
status = pytest.main(["-q", "-p", "no:cacheprovider", "-k", "ctrl_c or ctrl-c", *sys.argv[1:]])
sys.exit(status or signal.getsignal(signal.SIGINT) is not signal.SIG_IGN)
"""


def test_interruption_is_tested_in_a_background_job_too():
    """There SIGINT is ignored from the start, if the shell is not interactive."""
    here = Path(__file__).parents[1]
    files = [str(here / name) for name in ("fold/test_fold.py", "fold/test_device.py", "sources/test_conveyor.py")]
    command = [sys.executable, "-c", IGNORED, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=here.parent)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_a_keyboard_interrupt_in_the_training_leaves_nothing_behind(small_blocks, no_hang):
    def interrupted(Z):
        raise KeyboardInterrupt

    network, params, X, Y = make(1_300, hidden=(np.tanh, interrupted))
    before = threadpool_info()
    with pytest.raises(KeyboardInterrupt):
        fb.gradient_descent(network, params, X, Y, learning_rate=0.1, iterations=5, threads=2)
    assert threadpool_info() == before
    assert fullbatch_threads() == []


def test_a_single_block_runs_in_the_callers_thread():
    seen = []
    network, params, X, Y = make(200, hidden=(lambda Z: seen.append(threading.current_thread()) or np.tanh(Z), np.cos))
    run = fb.gradient_descent(network, params, X, Y, learning_rate=0.1, iterations=3, threads=3)
    assert run.threads == 1
    assert set(seen) == {threading.current_thread()}


def test_a_thread_gets_a_tenth_of_a_millisecond_of_work_or_is_not_started(monkeypatch):
    monkeypatch.undo()  # what the fixture of all tests did
    network, _, X, Y = make(8_000, sizes=[28, 64, 1], output="sigmoid")
    for m, most, team in ((200, 1, 1), (600, 1, 2), (1_000, 1, 2), (3_000, 2, 4), (8_000, 7, 4)):
        with Fold(network, Examples(Dense(X[:, :m]), Dense(Y[:, :m])), threads=16) as opened:
            assert opened.threads == opened.used == min(most, len(opened.plan.blocks()))
            if (blocks := opened.in_one_call()) is not None:
                assert len(blocks.steps) == opened.used == team
            assert (blocks is not None) == (opened.step_name == "native")


def test_threads_that_live_as_long_as_a_training_are_worth_less_work(monkeypatch):
    monkeypatch.undo()
    network, params, X, Y = make(1_000, sizes=[28, 64, 1], output="sigmoid")
    runs = [fb.gradient_descent(network, params, X, Y, learning_rate=0.1, iterations=30, threads=k) for k in (1, 2)]
    assert runs[0].costs == runs[1].costs
    assert [run.threads for run in runs] == ([1, 2] if runs[0].step == "native" else [1, 1])


def test_numpy_takes_threads_where_its_calls_are_long_enough(twin, monkeypatch):
    monkeypatch.setattr(blocks, "THREAD_WORK", 2**21)
    for sizes, most in (([28, 1], 1), ([28, 16, 1], 1), ([28, 64, 1], 3)):
        network, _, X, Y = make(300_000, sizes=sizes, output="sigmoid")
        with Fold(network, Examples(Dense(X), Dense(Y)), threads=3) as opened:
            assert opened.threads == (most if twin == "inplace" else 3)


# --- Memory ---------------------------------------------------------------------------------------------------------

MEASURE = """
import json, resource, sys
import numpy as np
import fullbatch as fb
from fullbatch.core.parameters import flatten
from fullbatch.fold.fold import Fold
from fullbatch.sources import Dense

what, m, hidden = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def peak():
    try:  # Linux counts the parent's memory into a child's ru_maxrss; VmHWM is this program's own
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

network = fb.Network([8, hidden, 1])
params = network.init(seed=0, dtype="float32")
rng, table, y = np.random.default_rng(0), np.empty((m, 8), dtype="float32"), np.zeros((m, 1), dtype="float32")
for start in range(0, m, 5000):  # in place: making the data must not have needed more than the data
    rng.random(out=table[start : start + 5000], dtype="float32")
    y[start : start + 5000] = table[start : start + 5000, :1] > 0.5
X, Y = table.T, y.T

def work(X, Y):
    if what == "descent":
        fb.gradient_descent(network, params, X, Y, learning_rate=0.1, iterations=2, threads=2)
    elif what == "cost":
        fb.cost(network, params, X, Y, threads=2, l2=0.1)
    elif what == "predict":
        with Fold(network, Dense(X), threads=2) as fold:
            fold.predict(flatten(params), finish=lambda block: block[0] > 0.5)
    else:
        total = network.backward(params, network.forward(params, X), Y)

work(X[:, :20_000], Y[:, :20_000])
before = peak()
work(X, Y)
print(peak() - before)
"""


def growth(what, m, hidden):
    """How many bytes the peak memory of a process of its own grows by, after the data are there."""
    command = [sys.executable, "-c", MEASURE, what, str(m), str(hidden)]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout))


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
def test_peak_memory_beyond_the_data_does_not_grow_with_m_nor_with_m_times_the_hidden_width():
    mega = 2**20
    whole = growth("whole", 100_000, 128)
    assert whole > 90 * mega, "whole arrays need 49 MB a layer and array: the measurement sees them"
    for what in ("descent", "cost", "predict"):
        small, large = growth(what, 100_000, 128), growth(what, 400_000, 128)
        assert small < 12 * mega, (what, small)
        assert large < 12 * mega, (what, large)


class Late(Failing):
    """Its first block waits until the other threads have stopped for it, then raises ``error`` if there is one."""

    def __init__(self, array, error=None):
        object.__setattr__(self, "blocks_read", [])
        object.__setattr__(self, "blocks_ahead", [])
        super().__init__(array, 0, lambda: self.hold(error))

    def hold(self, error):
        while not self.blocks_ahead or self.blocks_ahead[-1] < len(self.blocks_read):
            self.blocks_ahead.append(len(self.blocks_read))
            time.sleep(0.2)
        if error:
            raise error

    def reader(self):
        inner = super().reader()

        def counted(where):
            self.blocks_read.append(where)
            return inner(where)

        return counted


def test_a_block_that_is_late_does_not_let_the_others_pile_up(small_blocks, no_hang):
    """Sums wait for their turn; while one thread is held up the others must not run ahead through all of the data."""
    network, params, X, Y = make(64 * 496)
    source = Late(X)
    with Fold(network, Examples(source, Dense(Y)), threads=3) as it:
        total = it.gradient(flatten(params))
    assert (len(source.blocks_read), float(total.weight)) == (496, 64 * 496)
    assert source.blocks_ahead[-1] <= 50, "the sums of so many blocks were waiting"


def test_an_error_in_a_late_block_frees_the_threads_that_wait_for_it(small_blocks, no_hang):
    network, params, X, Y = make(64 * 500)
    source = Late(X, InputError("late and bad"))
    with (
        pytest.raises(InputError, match="late and bad"),
        Fold(network, Examples(source, Dense(Y)), threads=3) as it,
    ):
        it.gradient(flatten(params))
    assert len(source.blocks_read) <= 50
    assert fullbatch_threads() == []


def test_threads_take_each_block_once_although_they_are_made_when_asked_for():
    """What iterates over them is a generator, which raises where a second thread asks it while it runs."""

    class Counts:
        def load(self, theta, dropout):
            pass

        def work(self, operation, where, first):
            return where.start

        def close(self):
            pass

    leaves, merged = 2000, []
    made = blocks.OfLeaves([0, 2, 4], leaves, [blocks.Block(slice(4 * leaves, 4 * leaves + 1), leaves, True)])
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with OnThreads(Counts, 7, holds_blas=False) as engine:
            engine.run("predict", None, made, merged.append)
    finally:
        sys.setswitchinterval(before)
    assert [start for _, start in merged] == [block.where.start for block in made]
