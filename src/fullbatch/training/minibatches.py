"""The batches of an epoch, one update of the parameters after each: in Python for any library, or native."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from fullbatch.machine import arrays
from fullbatch.sources import Where, batches, length
from fullbatch.sources.windows import part_of
from fullbatch.training.native_batches import NativeBatches
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import Optimizer
from fullbatch.training.state import TrainingState
from fullbatch.training.windows import WindowBatches


class Batches(Protocol):
    """``theta``, the optimiser's ``arrays`` and the number of ``updates`` are as after the last batch that is done."""

    theta: Any
    arrays: tuple[Any, ...]
    updates: int

    def run(self, order: Where, rate: Callable[[int], float]) -> Iterator[float]:
        """Go through the examples in their order, in batches of one size, the last one maybe smaller.

        rate : of the number of updates done so far

        Yields after each batch, or after several: the sum so far of their J, each before its update, times their share
        of the epoch's examples.
        """
        ...


def make(objective: Objective, optimizer: Optimizer, state: TrainingState, batch_size: int) -> Batches:
    """The fastest that can run."""
    fold = objective.fold
    if part_of(fold.examples) is not None and batch_size < fold.examples.m:
        return WindowBatches(objective, optimizer, state, batch_size, make)
    if NativeBatches.can_run(fold.step_name, optimizer, state.theta, batch_size, fold.examples.m):
        return NativeBatches(
            fold.network, fold.examples, optimizer, state,
            batch_size=batch_size, l2=objective.l2, intercept=objective.intercept, threads=fold.threads,
        )  # fmt: skip
    return PythonBatches(objective, optimizer, state, batch_size)


class PythonBatches:
    def __init__(self, objective: Objective, optimizer: Optimizer, state: TrainingState, batch_size: int) -> None:
        self.objective, self.optimizer, self.batch_size = objective, optimizer, batch_size
        self.theta, self.arrays, self.updates = state.theta, state.arrays, state.updates

    def run(self, order: Where, rate: Callable[[int], float]) -> Iterator[float]:
        xp = arrays.namespace(self.theta)
        total, m = 0.0, length(order)
        for batch in batches(order, self.batch_size):
            J, gradient = self.objective.cost_and_gradient(self.theta, batch)
            updates = self.updates + 1
            with arrays.quiet():
                gradient = xp.astype(gradient, self.theta.dtype, copy=False)
                updated = self.optimizer.update(gradient, self.arrays, self.theta, rate(self.updates), updates)
                theta, kept = arrays.settled(updated)
            self.theta, self.arrays, self.updates = theta, kept, updates  # at once: Ctrl-C finds them of one moment
            total += J * (length(batch) / m)  # in this order: one batch gives J to the bit
            yield total
