"""The loop: objective -> optimiser -> history, and the rules that stop it.

``epochs`` is the loop, as a generator: whoever runs it looks at each epoch and decides when to stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from fullbatch.core.parameters import Params, flatten, refuse_equal_units, restore
from fullbatch.sources import Where
from fullbatch.training import minibatches
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import Optimizer


class Epoch(NamedTuple):
    """One pass over the examples, just done.

    number : counts from 1;  cost : the mean of the batches' J, each before its update;  params, state : after it;
    updates : the number of updates so far, over all epochs
    """

    number: int
    cost: float
    params: Params
    state: Any
    updates: int


def epochs(
    objective: Objective,
    params: Params,
    optimizer: Optimizer,
    *,
    orders: Iterable[Where],
    batch_size: int,
    learning_rate: Callable[[int], float],
    state: Any = None,
    note: Callable[[Any, Any], None] | None = None,
) -> Iterator[Epoch]:
    """Train, and yield after each epoch.

    orders        : the examples of each epoch in their order: a slice, or an array of indices
    batch_size    : examples of a batch; the last one of an epoch may be smaller
    learning_rate : of the number of updates done so far
    state         : an optimiser's state to go on with; a fresh one if None
    note          : called with theta and state during an epoch too, after each batch or at least every 0.2 s

    A cost that is not finite is yielded like any other: who asked for the training makes an error of it.
    """
    refuse_equal_units(params)
    sizes = objective.network.sizes
    theta = flatten(params)
    updates = 0
    state = optimizer.init(theta) if state is None else state
    loop = minibatches.make(objective, optimizer, theta, state, batch_size)
    for number, order in enumerate(orders, start=1):
        total = 0.0
        for cost, done in loop.run(order, learning_rate, updates):
            total, updates = cost, done
            if note is not None:
                note(loop.theta, loop.state)
        yield Epoch(number, total, restore(loop.theta, sizes), loop.state, updates)


@dataclass
class NoImprovement:
    """Counts consecutive values that are not better by ``tol`` than the best before; lower is better."""

    tol: float
    best: float = math.inf
    count: int = 0

    def update(self, value: float) -> bool:
        """Take a value; True if it is the best so far."""
        self.count = 0 if value <= self.best - self.tol else self.count + 1
        better = value < self.best
        if better:
            self.best = value
        return better
