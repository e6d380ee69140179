"""pytest-benchmark cases of the step: one cost and gradient, a cost, and predictions.

    pytest bench --benchmark-autosave            now, and again at another revision with
    pytest bench --benchmark-compare

Each case says its shape, dtype, device, threads and the step that ran in ``extra_info``. On a GPU the timed call ends
with a synchronise.
"""

from __future__ import annotations

from typing import Any

import pytest

import fullbatch as fb
from bench import own
from bench.conftest import Timed
from bench.problem import Problem, Shape, make
from fullbatch.core.parameters import Layer, flatten
from fullbatch.fold.fold import Fold
from fullbatch.machine import places
from fullbatch.sources import Dense

# Enough examples for every thread to have some blocks, and few enough for a case to take about a second.
EXAMPLES = {"28-64-1": 50_000, "28-300-1": 20_000, "784-128-1": 5_000, "784-256-128-10": 5_000, "28-1": 200_000}
DEVICES = ["cpu", *(device.name for device in fb.devices() if device.name != "cpu" and device.usable)]
WAYS = [name for name, value in own.WAYS.items() if own.missing(value) is None]


def _placed(shape: str, device: str = "cpu", dtype: str = "float32") -> tuple[Problem, Any, Any, Any]:
    """The problem, and its parameters, X and Y on the device."""
    p = make(Shape.parse(shape), EXAMPLES[shape], dtype)
    put = places.place(device).put
    return p, tuple(Layer(put(W), put(b)) for W, b in p.params), put(p.table).T, put(p.targets).T


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", EXAMPLES)
def test_cost_and_gradients(timed: Timed, shape: str, device: str) -> None:
    p, params, X, Y = _placed(shape, device)
    timed(lambda: fb.cost_and_gradients(p.network, params, X, Y), shape=shape, dtype=X.dtype, device=device, m=p.m)


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("shape", EXAMPLES)
def test_cost_and_gradients_in_another_way(timed: Timed, shape: str, way: str) -> None:
    p, params, X, Y = _placed(shape)
    call = lambda: fb.cost_and_gradients(p.network, params, X, Y)  # noqa: E731
    timed(call, shape=shape, dtype=X.dtype, native=own.WAYS[way], m=p.m)


def test_cost_and_gradients_on_one_thread(timed: Timed) -> None:
    p, params, X, Y = _placed("28-64-1")
    call = lambda: fb.cost_and_gradients(p.network, params, X, Y, threads=1)  # noqa: E731
    timed(call, shape="28-64-1", dtype=X.dtype, threads=1, m=p.m)


def test_cost_and_gradients_in_float64(timed: Timed) -> None:
    p, params, X, Y = _placed("28-64-1", dtype="float64")
    timed(lambda: fb.cost_and_gradients(p.network, params, X, Y), shape="28-64-1", dtype=X.dtype, m=p.m)


@pytest.mark.parametrize("device", DEVICES)
def test_cost(timed: Timed, device: str) -> None:
    p, params, X, Y = _placed("28-64-1", device)
    timed(lambda: fb.cost(p.network, params, X, Y), shape="28-64-1", dtype=X.dtype, device=device, m=p.m)


@pytest.mark.parametrize("device", DEVICES)
def test_predict(timed: Timed, device: str) -> None:
    p, params, X, _ = _placed("28-64-1", device)
    with Fold(p.network, Dense(X)) as fold:
        timed(lambda: fold.predict(flatten(params)), shape="28-64-1", dtype=X.dtype, device=device, m=p.m)
