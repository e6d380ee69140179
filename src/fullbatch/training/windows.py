"""Mini-batches of a store: window after window, each in memory while the batches of it are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fullbatch.sources import Where, length
from fullbatch.sources.windows import Window, WindowOrder
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import Optimizer
from fullbatch.training.state import OrderState, TrainingState

if TYPE_CHECKING:
    from fullbatch.training.minibatches import Batches


class WindowBatches:
    """The batches of an epoch of a store's rows; see minibatches.Batches. What runs a window is ``make``'s choice."""

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

    @property
    def place(self) -> int:
        return self.inner.place

    @property
    def total(self) -> float:
        return self.inner.total

    @property
    def cost(self) -> float:
        return self.inner.cost

    def begin(self, place: int, total: float) -> None:
        self.inner.begin(place, total)

    def run(self, order: Where, rate: Callable[[int], float], first: int = 0, m: int | None = None) -> Iterator[float]:
        m = m or length(order)
        for chunk in self.window.chunks(order):
            if first + length(chunk) > self.inner.place:  # else a training that goes on has done it
                yield from self.inner.run(chunk, rate, first, m)
            first += length(chunk)


class WindowOrders:
    """The orders of a store's rows, for ever: epoch e's follows from e and a seed that the generator gave first.

    state : None, or what all orders follow from
    """

    def __init__(self, m: int, shuffled: bool, rng: Any, state: OrderState | None = None) -> None:
        if state is not None:
            rng.set_state(state.start)
        self.m, self.drawn, self.start = m, 0 if state is None else state.drawn, rng.get_state()
        self.seed = int(rng.randint(2**31 - 1)) if shuffled else None
        self.now = rng.get_state() if state is None else state.now
        rng.set_state(self.now)

    def __iter__(self) -> Iterator[WindowOrder]:
        return self

    def __next__(self) -> WindowOrder:
        order = WindowOrder(self.m, self.seed, self.drawn)
        self.drawn += 1
        return order

    @property
    def state(self) -> OrderState | None:
        return None if self.seed is None else OrderState(self.start, self.drawn, self.now)
