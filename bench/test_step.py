"""pytest-benchmark cases of the step, and of what surrounds it: an update, an epoch of batches, one-hot columns.

    pytest bench/test_*.py --benchmark-autosave            now, and again at another revision with
    pytest bench/test_*.py --benchmark-compare

Each case says its shape, dtype, device, threads and the step that ran in ``extra_info``. On a GPU the timed call ends
with a synchronise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

import fullbatch as fb
from bench import own
from bench.problem import Problem, Shape, make
from fullbatch.core.parameters import Layer, flatten
from fullbatch.fold.fold import Fold
from fullbatch.machine import places
from fullbatch.machine.threads import thread_count
from fullbatch.sources import Dense, Examples
from fullbatch.sources.encoded import EncodedTable
from fullbatch.training import optimizers
from fullbatch.training.loop import epochs
from fullbatch.training.objective import Objective
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import TrainingState

# Enough examples for every thread to have some blocks, and few enough for a case to take about a second.
EXAMPLES = {"28-64-1": 50_000, "28-300-1": 20_000, "784-128-1": 5_000, "784-256-128-10": 5_000, "28-1": 200_000}
DEVICES = ["cpu", *(device.name for device in fb.devices() if device.name != "cpu" and device.usable)]
WAYS = {name: value for name, value in own.WAYS.items() if own.missing(value) is None}
OF_EPOCHS, ROWS = Shape((784, 100, 10)), 4_000


class Case(NamedTuple):
    """What is timed, and what is written down beside its time.

    make : gives the call, of what is open until it was timed;  device : where it works
    threads : on the CPU, None for all;  native : what FULLBATCH_NATIVE is meanwhile, None for as it is
    """

    make: Callable[[ExitStack], Callable[[], Any]]
    shape: str
    dtype: str = "float32"
    device: str = "cpu"
    threads: int | None = None
    native: str | None = None
    more: dict[str, Any] = {}  # noqa: RUF012


def _placed(case: str, device: str, dtype: str) -> tuple[Problem, Any, Any, Any]:
    """The problem, and its parameters, X and Y on the device."""
    p = make(Shape.parse(case), EXAMPLES[case], dtype)
    put = places.place(device).put
    return p, tuple(Layer(put(W), put(b)) for W, b in p.params), put(p.table).T, put(p.targets).T


def of_shape(call: str, shape: str, device: str = "cpu", dtype: str = "float32", **others: Any) -> Case:
    """One cost, cost and gradient, or predictions of all examples."""

    def made(held: ExitStack) -> Callable[[], Any]:
        p, params, X, Y = _placed(shape, device, dtype)
        if call == "predict":
            return partial(held.enter_context(Fold(p.network, Dense(X))).predict, flatten(params))
        options = {"threads": others["threads"]} if "threads" in others else {}
        return partial(getattr(fb, call), p.network, params, X, Y, **options)

    return Case(made, shape, dtype, device, more={"m": EXAMPLES[shape]}, **others)


def one_hot_block(held: ExitStack) -> Callable[[], Any]:
    """1,000 rows of 250 features: 10 numbers and 12 categories of 20 levels."""
    rng = np.random.default_rng(0)
    m, numbers, categories, levels = 20_000, 10, 12, 20
    starts = numbers + levels * np.arange(categories)
    ones = (rng.integers(0, levels, (m, categories)) + starts).astype(np.uint16)
    table = EncodedTable(rng.standard_normal((m, numbers), dtype=np.float32), ones, numbers + levels * categories)
    return partial(table.reader(), rng.permutation(m)[:1000])


def update_of_adam(held: ExitStack) -> Callable[[], Any]:
    theta, adam = flatten(OF_EPOCHS.network.init(0, dtype="float32")), optimizers.adam()
    return partial(adam.update, np.ones_like(theta), adam.init(theta), theta, 1e-3, 1)


def epoch_of_batches(held: ExitStack, batch: int) -> Callable[[], Any]:
    p, adam = make(OF_EPOCHS, ROWS), optimizers.adam()
    order = np.random.default_rng(0).permutation(p.m)
    objective = held.enter_context(Objective(p.network, Examples(Dense(p.X), Dense(p.Y))))

    def epoch() -> None:
        start = TrainingState.start(flatten(p.params), adam, Schedule("constant", 1e-3))
        next(epochs(objective, adam, start, orders=[order], batch_size=batch))

    return epoch


def few_examples(held: ExitStack) -> Callable[[], Any]:
    """400 points, 4 hidden units, 100 steps: the time is the interpreter's."""
    p = make(Shape((2, 4, 1)), 400, "float64")
    return partial(fb.gradient_descent, p.network, p.params, p.X, p.Y, learning_rate=1.2, iterations=100)


def cases() -> Iterator[tuple[str, Case]]:
    for device in DEVICES:
        for shape in EXAMPLES:
            yield f"cost and gradients, {shape}, {device}", of_shape("cost_and_gradients", shape, device)
        for call in ("cost", "predict"):
            yield f"{call}, {device}", of_shape(call, "28-64-1", device)
    for (way, native), shape in ((way, shape) for way in [*WAYS.items()][1:] for shape in EXAMPLES):
        yield f"cost and gradients, {shape}, {way}", of_shape("cost_and_gradients", shape, native=native)
    yield "cost and gradients, one thread", of_shape("cost_and_gradients", "28-64-1", threads=1)
    yield "cost and gradients, float64", of_shape("cost_and_gradients", "28-64-1", dtype="float64")
    yield "one-hot columns", Case(one_hot_block, "250 x 1000", threads=1)
    yield "update of Adam", Case(update_of_adam, str(OF_EPOCHS.weights), threads=1)
    for batch in (200, 1000):
        shape = f"{OF_EPOCHS.name}, {ROWS} rows in batches of {batch}"
        yield f"epoch, batches of {batch}", Case(partial(epoch_of_batches, batch=batch), shape)
    yield "gradient descent, few examples", Case(few_examples, "2-4-1, 100 steps", "float64")


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in cases()])
def test_time(benchmark: Any, case: Case) -> None:
    with ExitStack() as held, own.forced(case.native):
        call = case.make(held) if case.device == "cpu" else _finished(case.make(held))
        with own.seen() as labels:
            call()
        benchmark.extra_info.update(
            shape=case.shape, dtype=case.dtype, device=case.device,
            threads=thread_count(case.threads) if case.device == "cpu" else 1,
            step=" and ".join(labels), **case.more,
        )  # fmt: skip
        benchmark(call)


def _finished(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call, and the wait for its end on the GPU."""
    import cupy

    def both() -> Any:
        result = call()
        cupy.cuda.get_current_stream().synchronize()
        return result

    return both
