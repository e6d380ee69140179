"""pytest-benchmark cases of what surrounds the step: a block of one-hot columns, an update, an epoch of batches."""

from __future__ import annotations

import numpy as np
import pytest

import fullbatch as fb
from bench.conftest import Timed
from bench.problem import Shape, make
from fullbatch.core.parameters import flatten
from fullbatch.sources import Dense, Examples
from fullbatch.sources.encoded import EncodedTable
from fullbatch.training import optimizers
from fullbatch.training.loop import epochs
from fullbatch.training.objective import Objective
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import TrainingState

SHAPE = Shape((784, 100, 10))
ROWS = 4_000


def test_block_of_one_hot_columns(timed: Timed) -> None:
    """1,000 rows of 250 features: 10 numbers and 12 categories of 20 levels."""
    rng = np.random.default_rng(0)
    m, numbers, categories, levels = 20_000, 10, 12, 20
    starts = numbers + levels * np.arange(categories)
    ones = (rng.integers(0, levels, (m, categories)) + starts).astype(np.uint16)
    table = EncodedTable(rng.standard_normal((m, numbers), dtype=np.float32), ones, numbers + levels * categories)
    rows = rng.permutation(m)[:1000]
    read = table.reader()
    timed(lambda: read(rows), shape="250 x 1000", dtype=np.float32, threads=1)


def test_update_of_adam(timed: Timed) -> None:
    theta = flatten(SHAPE.network.init(0, dtype="float32"))
    gradient = np.ones_like(theta)
    adam = optimizers.adam()
    state = adam.init(theta)
    call = lambda: adam.update(gradient, state, theta, 1e-3, 1)  # noqa: E731
    timed(call, shape=str(theta.shape[0]), dtype=theta.dtype, threads=1)


@pytest.mark.parametrize("batch", [200, 1000])
def test_epoch_of_mini_batches(timed: Timed, batch: int) -> None:
    p = make(SHAPE, ROWS)
    order = np.random.default_rng(0).permutation(p.m)
    with Objective(p.network, Examples(Dense(p.X), Dense(p.Y))) as objective:

        def epoch() -> None:
            adam = optimizers.adam()
            start = TrainingState.start(flatten(p.params), adam, Schedule("constant", 1e-3))
            next(epochs(objective, adam, start, orders=[order], batch_size=batch))

        timed(epoch, shape=f"{SHAPE.name}, {p.m} rows in batches of {batch}", dtype=p.table.dtype)


def test_gradient_descent_on_few_examples(timed: Timed) -> None:
    """400 points, 4 hidden units, 100 steps: the time is the interpreter's."""
    p = make(Shape((2, 4, 1)), 400, "float64")
    call = lambda: fb.gradient_descent(p.network, p.params, p.X, p.Y, learning_rate=1.2, iterations=100)  # noqa: E731
    timed(call, shape=f"{p.shape.name}, 100 steps", dtype=p.table.dtype)
