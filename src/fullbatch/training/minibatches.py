"""The batches of an epoch, one update of the parameters after each: in Python for any library, or native."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from fullbatch.core.parameters import flatten, restore
from fullbatch.machine import arrays
from fullbatch.sources import Where, batches, length
from fullbatch.training.native_batches import NativeBatches
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import Optimizer


class Batches(Protocol):
    """``theta`` and the optimiser's ``state`` are as after the last batch that ``run`` gave."""

    theta: Any
    state: Any

    def run(self, order: Where, rate: Callable[[int], float], updates: int) -> Iterator[tuple[float, int]]:
        """Go through the examples in their order, in batches of one size, the last one maybe smaller.

        rate : of the number of updates done so far;  updates : their number before these

        Yields after each batch, or after several: the sum so far of their J, each before its update, times their share
        of the epoch's examples; and the number of updates so far.
        """
        ...


def make(objective: Objective, optimizer: Optimizer, theta: Any, state: Any, batch_size: int) -> Batches:
    """The fastest that can run."""
    fold, rule = objective.fold, optimizer.rule
    if rule is not None and NativeBatches.can_run(fold.step_name, rule, theta, batch_size, fold.examples.m):
        return NativeBatches(
            fold.network, fold.examples, rule, theta, state,
            batch_size=batch_size, l2=objective.l2, intercept=objective.intercept, threads=fold.threads,
        )  # fmt: skip
    return PythonBatches(objective, optimizer, theta, state, batch_size)


class PythonBatches:
    def __init__(self, objective: Objective, optimizer: Optimizer, theta: Any, state: Any, batch_size: int) -> None:
        self.objective, self.optimizer = objective, optimizer
        self.batch_size, self.theta, self.state = batch_size, theta, state

    def run(self, order: Where, rate: Callable[[int], float], updates: int) -> Iterator[tuple[float, int]]:
        sizes = self.objective.network.sizes
        total = 0.0
        for batch in batches(order, self.batch_size):
            J, gradients = self.objective.cost_and_gradients(restore(self.theta, sizes), batch)
            with arrays.quiet():
                gradient = arrays.namespace(self.theta).astype(flatten(gradients), self.theta.dtype, copy=False)
                updated = self.optimizer.update(gradient, self.state, self.theta, rate(updates))
                self.theta, self.state = arrays.settled(updated)
            updates += 1
            total += J * (length(batch) / length(order))  # in this order: one batch gives J to the bit
            yield total, updates
