"""The loop: objective -> optimiser -> history, and the rules that stop it.

``epochs`` is the loop, as a generator: whoever runs it looks at each epoch and decides when to stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, NamedTuple

from fullbatch.core.network import Network
from fullbatch.core.parameters import Params, flatten, refuse_equal_units, restore
from fullbatch.errors import InputError, NonFiniteError
from fullbatch.sources import Where
from fullbatch.training import minibatches, optimizers
from fullbatch.training.objective import Objective, Prepared, as_params, check_number, prepare
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

    A cost that is not finite is yielded like any other: ``check_finite`` makes an error of it.
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


def check_finite(cost: float, iteration: int, last: Params, home: bool = False) -> None:
    """A cost that is not finite ends the training; the error keeps ``last``, the last parameters that were good.

    home : whether they are to come back to the host
    """
    if math.isfinite(cost):
        return
    if iteration == 0:
        message = (
            f"the cost is {cost} at the start: X, Y or the parameters contain NaN or infinity, or numbers so large "
            "that the pass overflows. Look for them, or scale the inputs."
        )
    else:
        message = (
            f"the cost became {cost} at iteration {iteration}: the steps are too large. Choose a smaller learning rate "
            "(a tenth, to begin with) or scale the inputs. The last finite parameters are in this error's .params."
        )
    raise NonFiniteError(message, iteration=iteration, params=as_params(last, last, home))


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


@dataclass(frozen=True)
class Run:
    """The outcome of a training.

    params : after the last update;  costs : costs[t] is J after t updates, so there are iterations + 1 of them
    stopped : "iterations" or "tolerance";  step : which step ran;  threads : how many threads it ran on
    device : where;  precision : of the products: the dtype's own, or "tf32"
    note : why the bits may differ from those of another run: the device's memory was short; else ""
    """

    params: Params
    costs: list[float] = field(repr=False)
    stopped: str = "iterations"
    step: str = ""
    threads: int = 1
    device: str = "cpu"
    precision: str = ""
    note: str = ""

    @property
    def iterations(self) -> int:
        return len(self.costs) - 1


def gradient_descent(
    network: Network,
    params: Sequence[Any],
    X: Any,
    Y: Any,
    *,
    learning_rate: float,
    iterations: int,
    l2: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
    tol: float = 0.0,
    sample_weight: Any = None,
    threads: int | None = None,
    device: str | None = None,
    device_memory: float | None = None,
    precision: str | None = None,
) -> Run:
    """Full-batch gradient descent: all parameters at once from the gradients at the old point (N6).

    X (n[0], m), Y (n[L], m), sample_weight (m,) or None; arrays, device, device_memory and precision as for ``cost``.
    learning_rate above 0;  iterations of at least 0;  momentum in [0, 1), with ``nesterov`` in Nesterov's form;
    tol : stop when an iteration lowers the cost by less than this; 0 to run all iterations

    Raises as ``cost`` does; InputError too for all-zero weights with a hidden layer; NonFiniteError, with the last
    finite parameters, when the cost stops being finite.
    """
    learning_rate = check_number("learning_rate", learning_rate, above=0)
    momentum = check_number("momentum", momentum, at_least=0)
    tol = check_number("tol", tol, at_least=0)
    if momentum >= 1:
        raise InputError(f"momentum must be below 1; got {momentum}.")
    if not isinstance(iterations, Integral) or isinstance(iterations, bool) or iterations < 0:
        raise InputError(f"iterations must be an integer of at least 0; got {iterations!r}.")
    ready = prepare(network, params, X, Y, sample_weight, device, device_memory)
    optimizer = optimizers.momentum(momentum, nesterov=nesterov) if momentum else optimizers.gd()
    with ready.place.computing(), ready.objective(network, l2, threads, precision) as objective:
        return _descend(objective, ready, optimizer, learning_rate, int(iterations), tol)


def _descend(
    objective: Objective, ready: Prepared, optimizer: Optimizer, learning_rate: float, iterations: int, tol: float
) -> Run:
    everything = slice(0, ready.examples.m)
    costs: list[float] = []
    start = restore(flatten(ready.params), objective.network.sizes)  # a copy: without iterations the caller gets it
    stopped, last, current = "iterations", start, start
    loop = epochs(
        objective, ready.params, optimizer, batch_size=ready.examples.m, learning_rate=lambda t: learning_rate,
        orders=(everything for _ in range(iterations)),
    )  # fmt: skip
    for epoch in loop:
        check_finite(epoch.cost, epoch.number - 1, last, ready.home)
        costs.append(epoch.cost)
        if len(costs) > 1 and tol > 0 and costs[-2] - costs[-1] < tol:
            stopped = "tolerance"
            break
        last, current = current, epoch.params
    else:
        costs.append(objective.cost(current))
        check_finite(costs[-1], iterations, last, ready.home)
    fold = objective.fold
    return Run(
        as_params(current, ready.params, ready.home), costs, stopped, fold.step_name, fold.threads, ready.place.name,
        fold.precision, fold.note,
    )  # fmt: skip
