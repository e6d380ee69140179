"""Mini-batches of a store: window after window, each in memory while the batches of it are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fullbatch.sources import Where, length
from fullbatch.sources.windows import Window
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import Optimizer
from fullbatch.training.state import TrainingState

if TYPE_CHECKING:
    from fullbatch.training.minibatches import Batches


class WindowBatches:
    """The batches of an epoch of a store's rows; see minibatches.Batches. What runs each window is ``make``'s choice."""

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        state: TrainingState,
        batch_size: int,
        make: Callable[[Objective, Optimizer, TrainingState, int], Batches],
    ) -> None:
        self.window = Window(objective.examples, batch_size)
        self.inner = make(objective.over(self.window.examples), optimizer, state, batch_size)

    @property
    def theta(self) -> Any:
        return self.inner.theta

    @property
    def arrays(self) -> tuple[Any, ...]:
        return self.inner.arrays

    @property
    def updates(self) -> int:
        return self.inner.updates

    def run(self, order: Where, rate: Callable[[int], float]) -> Iterator[float]:
        total, m = 0.0, length(order)
        for chunk in self.window.chunks(order):
            share, cost = length(chunk) / m, 0.0
            for cost in self.inner.run(chunk, rate):
                yield total + cost * share
            total += cost * share
