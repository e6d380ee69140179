"""What a training is at a moment: one value, of which the loop makes the next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from fullbatch.training.optimizers import Optimizer
from fullbatch.training.schedules import Schedule


class History:
    """Numbers, one an epoch. To append makes a new one, in constant time: it shares what both have in common.

    So each state of a training of 10^4 epochs has its own history, and all of them together take one list.
    """

    __slots__ = ("_length", "_values")

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._values = list(values)
        self._length = len(self._values)

    def appended(self, value: float) -> History:
        return self.extended((value,))

    def extended(self, values: Sequence[float]) -> History:
        new = History.__new__(History)
        whole = self._length == len(self._values)  # else somebody went on from here before, and has what follows
        new._values = self._values if whole else self._values[: self._length]
        new._values.extend(values)
        new._length = self._length + len(values)
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        """Its own numbers alone, without what others went on to; and in a form that skops takes."""
        return History, (list(self),)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[float]:
        return iter(self._values[: self._length])

    def __getitem__(self, index: int) -> float:
        return self._values[range(self._length)[index]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"History({list(self)})"


class DrawnOrder(NamedTuple):
    """An order itself, which all later ones follow from.

    drawn : how many orders were drawn with it;  now : the generator's state after it;  indices : of all examples
    """

    drawn: int
    now: Any
    indices: Any


class OrderState(NamedTuple):
    """What shuffled orders follow from: the generator, and no indices, of which there are as many as examples.

    Each order is a shuffle of the one before, so that all of them are drawn again where a training goes on. Where that
    would take longer than a moment one of them is kept, to begin with.

    start : the generator's state before the first epoch;  drawn : how many orders were;  now : its state after them
    shared : whether somebody else drew from it in between, so that they do not follow;  kept : a DrawnOrder, or None
    """

    start: Any
    drawn: int
    now: Any
    shared: bool = False
    kept: Any = None


class TrainingState(NamedTuple):
    """A training after an epoch, or between two batches of one. It is never changed, nor are its arrays.

    theta     : all parameters, one vector
    optimizer : the name of its row in OPTIMIZERS;  arrays : what it keeps, each like theta
    updates   : since its arrays were zeros;  epoch : how many are over;  examples : how many it has learned from
    schedule  : how the rate falls;  learning_rate : of the next update, where it is not one of each update's
    order     : an OrderState; None where examples come as they lie
    costs     : of each epoch: the mean of its batches' J, each before its update
    held_out  : the cost of examples that are not learned from, after each epoch;  scores : their score, if asked for
    best      : the least cost, or the greatest score with its sign changed;  best_theta : where it was, if asked for
    waited    : epochs since it was better by the tolerance
    stopped   : why the training is at its end; "" while it is not
    epoch_examples : how many of the running epoch are done, 0 between epochs
    total     : of their J, as the batches do it
    """

    theta: Any
    optimizer: str
    schedule: Schedule
    arrays: tuple[Any, ...] = ()
    updates: int = 0
    epoch: int = 0
    examples: int = 0
    learning_rate: float = 0.0
    order: Any = None
    costs: History = History()
    held_out: History = History()
    scores: History = History()
    best: float = math.inf
    best_theta: Any = None
    waited: int = 0
    stopped: str = ""
    epoch_examples: int = 0
    total: float = 0.0

    @classmethod
    def start(cls, theta: Any, optimizer: Optimizer, schedule: Schedule) -> TrainingState:
        """Before the first update."""
        return cls(theta, optimizer.name, schedule, optimizer.init(theta), learning_rate=schedule.initial)

    def of_the_optimizer(self) -> TrainingState:
        """Of this what the optimiser knows: all that another epoch, on other examples, goes on from beside theta."""
        return TrainingState(
            None, self.optimizer, self.schedule, self.arrays, self.updates, self.epoch, learning_rate=self.learning_rate
        )
