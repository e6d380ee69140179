"""pytest-benchmark cases of the step: one cost and gradient, a cost, and predictions.

    pytest bench --benchmark-autosave            now, and again at another revision with
    pytest bench --benchmark-compare

Each case says its shape, dtype, device and threads in ``extra_info``. On a GPU the timed call ends with a synchronise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import fullbatch as fb
from bench.problem import Problem, Shape, make
from fullbatch import backend
from fullbatch.fold import Fold
from fullbatch.parameters import Layer
from fullbatch.sources import Dense
from fullbatch.threads import thread_count

# Enough examples for every thread to have some blocks, and few enough for a case to take about a second.
EXAMPLES = {"28-64-1": 50_000, "28-300-1": 20_000, "784-128-1": 5_000, "784-256-128-10": 5_000}
DEVICES = ["cpu", *(device.name for device in fb.devices() if device.name != "cpu" and device.usable)]


def _placed(shape: str, device: str, dtype: str = "float32") -> tuple[Problem, Any, Any, Any]:
    """The problem, and its parameters, X and Y on the device."""
    p = make(Shape.parse(shape), EXAMPLES[shape], dtype)
    put = backend.place(device).put
    return p, tuple(Layer(put(W), put(b)) for W, b in p.params), put(p.table).T, put(p.targets).T


def _finished(call: Callable[[], Any], device: str) -> Callable[[], Any]:
    """The call, and on a GPU the wait for its end."""
    if device == "cpu":
        return call
    import cupy

    def both() -> Any:
        result = call()
        cupy.cuda.get_current_stream().synchronize()
        return result

    return both


def _describe(benchmark: Any, p: Problem, device: str, threads: int | None) -> None:
    benchmark.extra_info.update(
        shape=p.shape.name, m=p.m, dtype=str(p.table.dtype), device=device, threads=thread_count(threads)
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", EXAMPLES)
def test_cost_and_gradients(benchmark: Any, shape: str, device: str) -> None:
    p, params, X, Y = _placed(shape, device)
    _describe(benchmark, p, device, None)
    benchmark(_finished(lambda: fb.cost_and_gradients(p.network, params, X, Y), device))


def test_cost_and_gradients_on_one_thread(benchmark: Any) -> None:
    p, params, X, Y = _placed("28-64-1", "cpu")
    _describe(benchmark, p, "cpu", 1)
    benchmark(lambda: fb.cost_and_gradients(p.network, params, X, Y, threads=1))


def test_cost_and_gradients_in_float64(benchmark: Any) -> None:
    p, params, X, Y = _placed("28-64-1", "cpu", "float64")
    _describe(benchmark, p, "cpu", None)
    benchmark(lambda: fb.cost_and_gradients(p.network, params, X, Y))


@pytest.mark.parametrize("device", DEVICES)
def test_cost(benchmark: Any, device: str) -> None:
    p, params, X, Y = _placed("28-64-1", device)
    _describe(benchmark, p, device, None)
    benchmark(_finished(lambda: fb.cost(p.network, params, X, Y), device))


@pytest.mark.parametrize("device", DEVICES)
def test_predict(benchmark: Any, device: str) -> None:
    p, params, X, _ = _placed("28-64-1", device)
    _describe(benchmark, p, device, None)
    with Fold(p.network, Dense(X)) as fold:
        benchmark(_finished(lambda: fold.predict(params), device))
