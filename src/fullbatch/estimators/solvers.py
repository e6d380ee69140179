"""Parts of an estimator's training: rates and optimiser state, the order of the examples, held-out ones, L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import shuffle

from fullbatch.core.parameters import Params, flatten, restore
from fullbatch.estimators.inputs import Inputs
from fullbatch.machine import arrays
from fullbatch.sources import Where
from fullbatch.training import optimizers
from fullbatch.training.objective import Objective

SMALLEST_RATE = 1e-6  # "adaptive" divides the rate by 5 until it is below this


@dataclass
class Stepper:
    """An optimiser between the calls of ``fit`` and ``partial_fit``: its rate, and what it keeps from step to step.

    state : the optimiser's, None before the first step;  theta : all parameters after the latest step of this call that
    was told to ``note``
    """

    solver: str
    initial: float
    schedule: str
    learning_rate: float
    state: Any = None
    theta: Any = None

    def rate(self, updates_per_epoch: int, epochs_before: int, max_iter: int) -> Callable[[int], float]:
        """The rate as a function of the updates done in this call."""
        if self.schedule != "linear":
            return lambda updates: self.learning_rate

        def linear(updates: int) -> float:
            left = 1 - (epochs_before + updates / updates_per_epoch) / max_iter
            self.learning_rate = self.initial * max(left, 0.0)
            return self.learning_rate

        return linear

    def end_epoch(self, examples_seen: int, power: float) -> None:
        if self.schedule == "invscaling":
            self.learning_rate = self.initial / (examples_seen + 1) ** power

    def lower(self) -> str | None:
        """At a plateau, "adaptive" divides the rate by 5 and goes on; None, or why the training stops instead."""
        if self.schedule != "adaptive":
            return "Stopping."
        if self.learning_rate <= SMALLEST_RATE:
            return "Learning rate too small. Stopping."
        self.learning_rate /= 5
        return None

    def note(self, theta: Any, state: Any) -> None:
        """Keep what an epoch has come to: it is what there is when Ctrl-C ends it early."""
        self.theta, self.state = theta, state


def orders(m: int, batch_size: int, shuffled: bool, rng: np.random.RandomState) -> Iterator[Where]:
    """The order of the examples of each epoch, for ever. Where one batch takes them all the order does not matter."""
    if not shuffled or batch_size >= m:
        while True:
            yield slice(0, m)
    order = np.arange(m, dtype=np.int32 if m < 2**31 else np.int64)
    while True:
        order = shuffle(order, random_state=rng)  # of the last epoch's order, as scikit-learn does
        yield order


@dataclass
class HeldOut:
    """Examples that are scored after each epoch, and not learned from.

    objective : of these examples, without L2;  target : codes, indicators or numbers on the host
    weight : on the host, or None;  offset : what scikit-learn's loss has beyond J
    """

    objective: Objective
    target: np.ndarray
    weight: np.ndarray | None
    offset: float

    def cost(self, params: Params) -> float:
        return self.objective.cost(params) + self.offset

    def predict(self, params: Params, finish: Callable[[Any], Any]) -> np.ndarray:
        out = self.objective.fold.predict(params, lambda block: arrays.to_host(finish(block)))
        return np.asarray(out).T


def minimize(
    objective: Any,
    start: Params,
    inputs: Inputs,
    *,
    before: Callable[[], None],
    after: Callable[[float, Params], bool],
    **limits: Any,
) -> Any:
    """L-BFGS on the host in float64; the passes run where the inputs are, in their dtype. SciPy's OptimizeResult.

    before : called before each evaluation of the cost;  after : called with the cost and the parameters of each
    iteration; it returns True to stop;  limits : max_iter, max_fun, tol, flat of ``optimizers.lbfgs``
    """
    sizes = objective.network.sizes

    def params_of(theta: np.ndarray) -> Params:
        return restore(inputs.place.put(theta.astype(inputs.dtype)), sizes)

    def value_and_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        before()
        J, gradients = objective.cost_and_gradients(params_of(theta))
        return J, arrays.to_host(flatten(gradients)).astype(np.float64)

    def callback(intermediate_result: Any) -> None:  # SciPy looks at this name, and then passes cost and parameters
        if after(float(intermediate_result.fun), params_of(intermediate_result.x)):
            raise StopIteration

    theta = arrays.to_host(flatten(start)).astype(np.float64)
    with arrays.quiet():
        return optimizers.lbfgs(value_and_gradient, theta, callback=callback, **limits)
