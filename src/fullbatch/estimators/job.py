"""What one call of ``fit`` works on: the target, examples to learn from and to score, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.callback import CallbackContext
from sklearn.model_selection import train_test_split

from fullbatch.estimators.inputs import Inputs, target_bytes, target_columns
from fullbatch.machine import arrays, places
from fullbatch.sources import Examples, selected
from fullbatch.sources.mapped import is_large_map
from fullbatch.training.objective import Objective


@dataclass(frozen=True)
class Target:
    """y as the training sees it.

    values : codes (m,), indicators (m, k) or numbers (m,) or (m, k), on the host
    classes : how many classes the codes have; 0 for what is not a code
    outputs : n[L];  activation : of the output unit, in scikit-learn's words
    """

    values: np.ndarray
    classes: int
    outputs: int
    activation: str


class Part(NamedTuple):
    """Examples to learn from or to score: as the passes see them, and target and weights once more on the host."""

    examples: Examples
    target: np.ndarray
    weight: np.ndarray | None

    def rows(self, rows: np.ndarray) -> Part:
        """Some of the examples; nothing is copied but their indices, target and weights."""
        X, Y, there = self.examples.X, self.examples.Y, self.examples.weight
        assert Y is not None
        if there is not None:
            xp = arrays.namespace(there)
            there = xp.take(there, places.place_of(there).put(rows))
        weight = None if self.weight is None else self.weight[rows]
        return Part(Examples(selected(X, rows), selected(Y, rows), there), self.target[rows], weight)


def part(inputs: Inputs, values: np.ndarray, classes: int, weight: np.ndarray | None) -> Part:
    """The examples of ``inputs`` with their target and weights, at its place."""
    there = None if weight is None else inputs.place.put(weight)
    return Part(Examples(inputs.X, target_columns(values, classes, inputs), there), values, weight)


def beside(inputs: Inputs, budget: float, values: np.ndarray, classes: int, weight: np.ndarray | None) -> Inputs:
    """The inputs where the passes run, and the budget that they, their target and their weights leave there."""
    taken = target_bytes(values, classes, inputs.dtype)
    return inputs.resident(budget, taken, 0 if weight is None else weight.nbytes)


def split(whole: Part, target: Target, share: float, rng: np.random.RandomState) -> tuple[Part, Part]:
    """Rows to learn from and rows to score, drawn as scikit-learn does: by class where there is one output."""
    by_class = None
    if target.classes and target.outputs == 1:
        by_class = target.values.astype(bool)
        if np.bincount(target.values).min() < 2:
            by_class = by_class.reshape(-1, 1)  # an error, and so one in the words of scikit-learn's own MLP
    train, test = train_test_split(np.arange(whole.examples.m), random_state=rng, test_size=share, stratify=by_class)
    if len(test) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    if is_large_map(whole.examples.X):  # Rows in any order would be read one by one.
        train, test = np.sort(train), np.sort(test)
    parts = whole.rows(train), whole.rows(test)
    if any(one.weight is not None and not one.weight.any() for one in parts):
        raise ValueError(
            "early_stopping split the rows so that all of one side have a sample_weight of 0. Leave rows of weight "
            "0 out of X, or give X_val and y_val."
        )
    return parts


@dataclass(frozen=True)
class HeldOut:
    """Examples that are scored after each epoch, and not learned from.

    objective : of these examples, without L2;  target : codes, indicators or numbers on the host
    weight : on the host, or None;  offset : what scikit-learn's loss has beyond J
    """

    objective: Objective
    target: np.ndarray
    weight: np.ndarray | None
    offset: float

    def cost(self, theta: Any) -> float:
        return self.objective.cost(theta) + self.offset

    def predict(self, theta: Any, finish: Callable[[Any], Any]) -> np.ndarray:
        out = self.objective.fold.predict(theta, lambda block: arrays.to_host(finish(block)))
        return np.asarray(out).T


@dataclass(frozen=True)
class Job:
    """One call of fit: what is minimised, from where, and who is told of it.

    offset : what scikit-learn's loss has beyond J, and no parameter changes
    start : makes all parameters, one vector;  anew : the same of those that a training from scratch starts from
    weights_of : such a vector as fitted attributes, by name
    views_of : the same of one on the host, as views of it
    """

    objective: Objective
    offset: float
    inputs: Inputs
    m: int
    start: Callable[[], Any]
    anew: Callable[[], Any]
    held_out: HeldOut | None
    weights_of: Callable[[Any], dict[str, Any]]
    views_of: Callable[[Any], dict[str, Any]]
    context: CallbackContext
    hooks: dict[str, Any]

    @property
    def note(self) -> str:
        """Why the folds' bits may differ from those of another run; "" where they do not."""
        return self.objective.fold.note or ("" if self.held_out is None else self.held_out.objective.fold.note)

    def begin_task(self, name: str) -> CallbackContext:
        """Tell the callbacks that an epoch or an iteration begins."""
        task = self.context.subcontext(task_name=name)
        task.call_on_fit_task_begin(**self.hooks)
        return task

    def end_task(self, task: CallbackContext, theta: Any) -> bool:
        """Tell the callbacks that it is over; True if one of them wants to stop."""
        return bool(task.call_on_fit_task_end(**self.hooks, reconstruction_attributes=lambda: self.weights_of(theta)))
