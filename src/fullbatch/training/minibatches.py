"""The batches of an epoch, one update of the parameters after each: in Python for any library, native, or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from fullbatch.machine import arrays
from fullbatch.sources import Where, batches, length, remaining
from fullbatch.training.card_batches import CardBatches
from fullbatch.training.native_batches import NativeBatches
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import Optimizer
from fullbatch.training.state import TrainingState
from fullbatch.training.windows import WindowBatches, in_windows, leaf_of


class Batches(Protocol):
    """``theta``, the optimiser's ``arrays`` and the number of ``updates`` are as after the last batch that is done.

    epoch_examples : how many of the epoch are done;  total : the sum so far of their J, as this twin adds it
    """

    @property
    def theta(self) -> Any: ...

    @property
    def arrays(self) -> tuple[Any, ...]: ...

    @property
    def updates(self) -> int: ...

    @property
    def epoch_examples(self) -> int: ...

    @property
    def total(self) -> float: ...

    @property
    def cost(self) -> float:
        """What ``run`` yielded last."""
        ...

    def begin(self, done: int, total: float) -> None:
        """Let the next run start after so many of its order: an epoch that is gone on with has done what is before."""
        ...

    def run(
        self, order: Where, rate: Callable[[int], float], first: int = 0, m: int | None = None
    ) -> Iterator[float | None]:
        """Go through the examples in their order, in batches of one size, the last one maybe smaller.

        rate : of the number of updates done so far
        first, m : where ``order`` is a part of the epoch's: the examples before it, and those of the epoch

        Yields after each batch, or after several: the sum so far of their J, each before its update, times their share
        of the epoch's examples; or None, where to say it would be to wait for a device.
        """
        ...


def make(
    objective: Objective, optimizer: Optimizer, state: TrainingState, batch_size: int, kept: bool = False
) -> Batches:
    """The fastest that can run.

    kept : whether a checkpoint asks for what is learned within an epoch
    """
    fold = objective.fold
    if batch_size < fold.examples.m and leaf_of(fold.examples, batch_size):
        return PythonBatches(objective, optimizer, state, batch_size)
    if in_windows(fold.examples) and batch_size < fold.examples.m:
        return WindowBatches(objective, optimizer, state, batch_size, partial(make, kept=kept))
    if NativeBatches.can_run(fold.step_name, optimizer, state.theta, batch_size, fold.examples.m):
        return NativeBatches(
            fold.network, fold.examples, optimizer, state,
            batch_size=batch_size, l2=objective.l2, intercept=objective.intercept, threads=fold.threads,
            dropout=objective.dropout, kept=kept,
        )  # fmt: skip
    on_card = CardBatches.make(objective, optimizer, state, batch_size)
    return PythonBatches(objective, optimizer, state, batch_size) if on_card is None else on_card


class PythonBatches:
    def __init__(self, objective: Objective, optimizer: Optimizer, state: TrainingState, batch_size: int) -> None:
        self.objective, self.optimizer, self.batch_size = objective, optimizer, batch_size
        self.theta, self.arrays, self.updates = state.theta, state.arrays, state.updates
        self.epoch_examples, self.total = state.epoch_examples, state.total

    @property
    def cost(self) -> float:
        return self.total

    def begin(self, done: int, total: float) -> None:
        self.epoch_examples, self.total = done, total

    def run(self, order: Where, rate: Callable[[int], float], first: int = 0, m: int | None = None) -> Iterator[float]:
        xp = arrays.namespace(self.theta)
        m, done = m or length(order), self.epoch_examples - first
        for batch in batches(remaining(order, done) if done else order, self.batch_size):
            J, gradient = self.objective.cost_and_gradient(self.theta, batch, self.updates)
            updates = self.updates + 1
            with arrays.quiet():
                gradient = xp.astype(gradient, self.theta.dtype, copy=False)
                updated = self.optimizer.update(gradient, self.arrays, self.theta, rate(self.updates), updates)
                theta, kept = arrays.settled(updated)
            done = length(batch)
            total = self.total + J * (done / m)  # in this order: one batch gives J to the bit
            # One assignment: where Ctrl-C ends the training, all five are those after the same update.
            self.theta, self.arrays, self.updates, self.epoch_examples, self.total = (
                theta,
                kept,
                updates,
                self.epoch_examples + done,
                total,
            )
            yield total
