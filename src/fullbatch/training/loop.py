"""The loop: objective -> optimiser -> the next state, and the rules that stop it.

``epochs`` is the loop, as a generator: whoever runs it looks at each epoch's state and decides when to stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

from fullbatch.core.parameters import refuse_equal_units
from fullbatch.sources import Where
from fullbatch.training import minibatches
from fullbatch.training.minibatches import Batches
from fullbatch.training.native_descent import NativeDescent
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import Optimizer
from fullbatch.training.state import TrainingState


class Interrupted(KeyboardInterrupt):
    """Ctrl-C within an epoch. state : as of the last batch that was finished."""

    def __init__(self, state: TrainingState) -> None:
        super().__init__()
        self.state = state


class Watch(NamedTuple):
    """What is looked at after each epoch, and when that ends the training.

    tol      : an epoch counts as better if it is so by this much
    patience : epochs in a row that are not, after which there is a plateau
    offset   : what the caller's loss has beyond J
    held_out : theta -> the cost of examples that are not learned from
    score    : (theta, that cost) -> their score, greater is better: it is judged then instead of the cost
    """

    tol: float = 0.0
    patience: float = math.inf
    offset: float = 0.0
    held_out: Callable[[Any], float] | None = None
    score: Callable[[Any, float], float] | None = None


NOTHING = Watch()


class Epochs:
    """The states after each epoch. None of them is held here: an earlier one is of no use to the next epoch."""

    def __init__(self, batches: Batches, last: list[TrainingState | None], states: Iterator[TrainingState]) -> None:
        self._batches, self._last, self._states = batches, last, states

    def __iter__(self) -> Iterator[TrainingState]:
        return self

    def __next__(self) -> TrainingState:
        return next(self._states)

    def last(self) -> TrainingState:
        """The state between two epochs; within one, Interrupted has it."""
        last = self._last[0]
        assert last is not None
        return self.whole(last._replace(theta=self._batches.theta))

    def whole(self, state: TrainingState) -> TrainingState:
        """The last epoch's state with the optimiser's arrays, where it came without them."""
        return state._replace(arrays=self._batches.arrays)


def epochs(
    objective: Objective,
    optimizer: Optimizer,
    state: TrainingState,
    *,
    orders: Iterable[Where],
    batch_size: int,
    watch: Watch = NOTHING,
    between: Callable[[Callable[[], TrainingState]], None] | None = None,
    light: bool = False,
) -> Epochs:
    """Train on from ``state``, and yield the state after each epoch.

    A state within an epoch is gone on with after the examples that are done: ``orders`` begin with the whole order.

    orders     : the examples of each epoch in their order: a slice, or an array of indices. If it has a ``state``, what
                 that is after an epoch was drawn goes into the training's
    batch_size : examples of a batch; the last one of an epoch may be smaller
    between    : told what gives the state after each batch, or after several, but for an epoch's last; it is asked for
                 the state at once or never
    light      : yield states without the optimiser's arrays, which ``whole`` adds to the last of them

    A cost that is not finite is yielded like any other: who asked for the training makes an error of it.

    Raises Interrupted where Ctrl-C comes within an epoch, InputError for all-zero weights with a hidden layer.
    """
    refuse_equal_units(state.theta, objective.network.sizes)
    batches = minibatches.make(objective, optimizer, state, batch_size, kept=between is not None)
    last: list[TrainingState | None] = [state._replace(theta=None, arrays=())]
    return Epochs(
        batches, last, _epochs(batches, last, objective.examples.m, orders, batch_size, watch, between, light)
    )


def _epochs(
    batches: Batches,
    last: list[TrainingState | None],
    m: int,
    orders: Iterable[Where],
    batch_size: int,
    watch: Watch,
    between: Callable[[Callable[[], TrainingState]], None] | None,
    light: bool,
) -> Iterator[TrainingState]:
    """The states; ``last`` holds the latest, without what the batches have themselves, or None within an epoch."""
    per_epoch, left, none = -(-m // batch_size), iter(orders), object()
    before = last[0]
    assert before is not None
    while True:
        try:
            begun = before.updates  # at the epoch's start
            if before.epoch_examples:
                begun -= -(-before.epoch_examples // batch_size)
            batches.begin(before.epoch_examples, before.total)
            last[0] = None
            order: Any = next(left, none)
            if order is none:
                return
            for _ in batches.run(order, _rate(before, begun, per_epoch)):
                if between is not None and batches.epoch_examples < m:
                    between(partial(_with, before, batches))
            cost = batches.cost + watch.offset
            state = _judged(before, batches, cost, m, watch, getattr(orders, "state", None), light)
            before = last[0] = state._replace(theta=None, arrays=())
        except KeyboardInterrupt as interrupt:
            raise Interrupted(_with(before, batches)) from interrupt
        yield state
        del state


def _rate(before: TrainingState, begun: int, per_epoch: int) -> Callable[[int], float]:
    schedule, over = before.schedule, before.epoch - before.schedule.start
    return lambda updates: schedule.at(before.learning_rate, over + (updates - begun) / per_epoch)


def descents(
    objective: Objective, optimizer: Optimizer, state: TrainingState, *, iterations: int, tol: float, seconds: float
) -> Iterator[TrainingState]:
    """Train on from ``state`` by full batches, to so many ``iterations`` in all: ``epochs`` that leaves states out.

    tol     : where an iteration lowers the cost by less, the states before and after it are yielded (0: no such place)
    seconds : states that are yielded lie no further apart than that, or a tenth of a second; 0: every one is yielded

    The last two before the end are yielded in any case, and those about a cost that is not finite.
    """
    refuse_equal_units(state.theta, objective.network.sizes)
    m = objective.examples.m
    native = NativeDescent.make(objective, optimizer, state) if seconds > 0 else None
    while native is not None and state.epoch < iterations:
        done = state.epoch
        for after in native.run(state, iterations - done, tol, seconds):
            state = after
            yield after
        if state.epoch == done:  # the next one is for the caller to judge
            break
    orders = repeat(slice(0, m), iterations - state.epoch)
    yield from epochs(objective, optimizer, state, orders=orders, batch_size=m)


def ahead(
    objective: Objective, optimizer: Optimizer, state: TrainingState, epochs: int, watch: Watch
) -> Iterator[TrainingState]:
    """States on the way of ``epochs`` by full batches, several at once where that is faster; none where it is not.

    epochs : not more than so many are made. What would end the training is left to the caller, by ``epochs``
    watch : looks at nothing but J
    """
    refuse_equal_units(state.theta, objective.network.sizes)
    last = state.epoch + epochs
    native = NativeDescent.make(objective, optimizer, state) if epochs > 0 else None
    while native is not None and state.epoch < last:
        done = state.epoch
        try:
            state = native.ahead(state, last - done, watch)
        except KeyboardInterrupt as interrupt:
            raise Interrupted(state) from interrupt
        if state.epoch == done:
            return
        yield state


def _with(state: TrainingState, batches: Batches) -> TrainingState:
    kept = batches.arrays  # first: the native ones come with theta
    return state._replace(
        theta=batches.theta,
        arrays=kept,
        updates=batches.updates,
        epoch_examples=batches.epoch_examples,
        total=batches.total,
    )


def _judged(
    before: TrainingState, batches: Batches, cost: float, m: int, watch: Watch, order: Any, light: bool
) -> TrainingState:
    """The state after an epoch: made at once, since a small full batch takes no longer than a few of such values."""
    theta, held_out, scores, schedule = batches.theta, before.held_out, before.scores, before.schedule
    value = cost
    if watch.held_out is not None:
        held_out = held_out.appended(watch.held_out(theta))
        if watch.score is not None:
            scores = scores.appended(watch.score(theta, held_out[-1]))
            value = -scores[-1]
    waited = 0 if value <= before.best - watch.tol else before.waited + 1
    best, best_theta = before.best, before.best_theta
    if value < best:
        best, best_theta = value, theta if watch.score is not None else None
    examples = before.examples + m
    rate, stopped = schedule.after_epoch(before.learning_rate, examples), ""
    if waited > watch.patience:
        rate, stopped = schedule.at_plateau(rate)
        waited = waited if stopped else 0
    return TrainingState(
        theta, before.optimizer, schedule, () if light else batches.arrays, batches.updates, before.epoch + 1,
        examples, rate, order,
        before.costs.appended(cost), held_out, scores, best, best_theta, waited, stopped,
    )  # fmt: skip
