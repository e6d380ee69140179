"""Gradient descent and its kin for an estimator: the loop's states become scikit-learn's fitted attributes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import shuffle

from fullbatch.estimators.job import HeldOut, Job
from fullbatch.machine import arrays
from fullbatch.sources import Where
from fullbatch.training.loop import Watch, epochs
from fullbatch.training.optimizers import OPTIMIZERS, Optimizer
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import TrainingState


class Orders:
    """The order of the examples of each epoch, for ever. Where one batch takes them all the order does not matter.

    state : None, or (the generator's state, the last order): all that the next one follows from. Given one, it goes on
    """

    def __init__(self, m: int, batch_size: int, shuffled: bool, rng: np.random.RandomState, state: Any = None) -> None:
        self.m, self.rng = m, rng
        self.order: np.ndarray | None = None
        if not shuffled or batch_size >= m:
            return
        if state is None:
            self.order = np.arange(m, dtype=np.int32 if m < 2**31 else np.int64)
        else:
            generator, self.order = state
            rng.set_state(generator)

    def __iter__(self) -> Iterator[Where]:
        return self

    def __next__(self) -> Where:
        if self.order is None:
            return slice(0, self.m)
        self.order = shuffle(self.order, random_state=self.rng)  # of the last epoch's order, as scikit-learn does
        return self.order

    @property
    def state(self) -> Any:
        return None if self.order is None else (self.rng.get_state(), self.order)


def make_optimizer(estimator: Any) -> Optimizer:
    """The optimiser that ``solver`` names, made with the estimator's parameters of the names that it asks for."""
    row = OPTIMIZERS[estimator.solver]
    return row.make(**{name: getattr(estimator, name) for name in row.parameters})


def descend(estimator: Any, job: Job, rng: np.random.RandomState, incremental: bool) -> Any:
    """Train by epochs, write down each of them, and give theta: the last, or the best if ``early_stopping`` asks."""
    batch_size = _batch_size(estimator, job.m)
    state = _start(estimator, job, incremental)
    loop = epochs(
        job.objective, make_optimizer(estimator), state,
        orders=Orders(job.m, batch_size, estimator.shuffle, rng), batch_size=batch_size, watch=_watch(estimator, job),
    )  # fmt: skip
    _begin(estimator)
    good = state.theta
    planned = 1 if incremental else estimator.max_iter
    try:
        for number in range(planned):
            task = job.begin_task(f"epoch {number}")
            before, state = state, next(loop)
            _write_down(estimator, state)
            stop = job.end_task(task, state.theta)
            stop = stop or _at_plateau(estimator, before, state)
            sound = math.isfinite(state.costs[-1])
            # To look at the parameters is to wait for a device once more; while costs are finite the end will do.
            if (stop or number + 1 == planned or not sound) and not is_finite(state.theta):
                _note_divergence(estimator, before.theta if is_finite(before.theta) else good, job)
                break
            good = before.theta if sound else good
            if stop:
                break
        else:
            _warn_not_converged(estimator, incremental)
    except KeyboardInterrupt as interrupt:
        warnings.warn("Training interrupted by user.", stacklevel=5)
        state = getattr(interrupt, "state", state)
    # What partial_fit goes on from; the fitted attributes have the rest, which the user may change in between.
    estimator._optimizer = state.of_the_optimizer()
    if not estimator.early_stopping or not estimator.n_iter_:  # in the first epoch nothing is scored yet
        return state.theta
    return job.start if state.best_theta is None else state.best_theta


def _start(estimator: Any, job: Job, incremental: bool) -> TrainingState:
    """A fresh state from the fitted attributes; ``partial_fit`` goes on with that of the last call.

    A fit begins to count anew, a warm start too: a best cost or score belongs to the data and the scoring that it was
    taken on, and those may be others now.
    """
    optimizer = make_optimizer(estimator)
    kept = getattr(estimator, "_optimizer", None)
    if incremental and kept is not None and kept.optimizer == optimizer.name:
        there = tuple(job.inputs.place.put(arrays.to_host(array)) for array in kept.arrays)
        schedule = kept.schedule._replace(power=estimator.power_t, epochs=estimator.max_iter)
        state = kept._replace(theta=job.start, arrays=there, schedule=schedule, stopped="")
    else:
        kind = estimator.learning_rate
        if estimator.solver == "adam" and kind != "linear":  # Adam scales its steps itself
            kind = "constant"
        rate = float(estimator.learning_rate_init)
        state = TrainingState.start(job.start, optimizer, Schedule(kind, rate, estimator.power_t, estimator.max_iter))
        state = state._replace(epoch=len(estimator.loss_curve_) if incremental else 0)
    state = state._replace(examples=estimator.t_)
    if not incremental:
        return state
    best = math.inf if estimator.best_loss_ is None else estimator.best_loss_
    return state._replace(best=best, waited=estimator._no_improvement_count)


def _watch(estimator: Any, job: Job) -> Watch:
    held_out = job.held_out
    if held_out is None:
        return Watch(estimator.tol, estimator.n_iter_no_change, job.offset)

    def score(theta: Any, cost: float) -> float:
        return -cost if estimator.scoring == "loss" else _score(estimator, theta, held_out)

    asked = score if estimator.early_stopping else None
    return Watch(estimator.tol, estimator.n_iter_no_change, job.offset, held_out.cost, asked)


def _score(estimator: Any, theta: Any, held_out: HeldOut) -> float:
    predicted = held_out.predict(theta, estimator._finish_score)
    if predicted.dtype.kind == "f" and not np.isfinite(predicted).all():
        return math.nan
    return float(estimator._score_of(held_out.target, predicted, held_out.weight))


def _begin(estimator: Any) -> None:
    """The attributes of what is counted: the loss, or the score of held-out examples."""
    if estimator.early_stopping:
        estimator.validation_scores_ = estimator.validation_scores_ or []
        estimator.best_loss_ = None
    else:
        estimator.validation_scores_ = estimator.best_validation_score_ = None


def _write_down(estimator: Any, state: TrainingState) -> None:
    """An epoch's state as fitted attributes, and as lines if ``verbose``."""
    estimator.t_ = state.examples
    note_cost(estimator, state.costs[-1])
    if len(state.held_out):
        note_held_out(estimator, state.held_out[-1])
    if len(state.scores):
        estimator.validation_scores_.append(state.scores[-1])
        estimator.best_validation_score_ = -state.best
        if estimator.verbose:
            print(f"Validation score: {state.scores[-1]:f}")
    else:
        estimator.best_loss_ = state.best
    estimator._no_improvement_count = state.waited


def note_cost(estimator: Any, cost: float) -> None:
    estimator.n_iter_ += 1
    estimator.loss_ = cost
    estimator.loss_curve_.append(cost)
    if estimator.verbose:
        print(f"Iteration {estimator.n_iter_}, loss = {cost:.8f}")


def note_held_out(estimator: Any, cost: float) -> None:
    estimator.validation_costs_ = estimator.validation_costs_ or []
    estimator.validation_costs_.append(cost)


def _at_plateau(estimator: Any, before: TrainingState, state: TrainingState) -> bool:
    """True where the training is at its end; "adaptive" has lowered the rate instead, as long as it can."""
    lowered = state.schedule.kind == "adaptive" and state.learning_rate < before.learning_rate
    if estimator.verbose and (state.stopped or lowered):
        what = "Validation score" if estimator.early_stopping else "Training loss"
        then = state.stopped or f"Setting learning rate to {state.learning_rate:f}"
        plateau = f"tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive epochs"
        print(f"{what} did not improve more than {plateau}. {then}")
    return bool(state.stopped)


def _note_divergence(estimator: Any, good: Any, job: Job) -> None:
    """Keep the last parameters that are of use. An error follows, unless ``early_stopping`` has a best to go to."""
    estimator.__dict__.update(job.weights_of(good))
    if estimator.early_stopping:
        warnings.warn(
            f"The parameters had stopped being finite in epoch {estimator.n_iter_} of {estimator.solver}; the training "
            f"ends with the best so far. A smaller learning_rate_init than {estimator.learning_rate_init} helps.",
            ConvergenceWarning,
            stacklevel=6,
        )


def _warn_not_converged(estimator: Any, incremental: bool) -> None:
    if incremental or estimator.learning_rate == "linear":  # "linear" is at its end after max_iter epochs, as planned
        return
    name = "Gradient descent" if OPTIMIZERS[estimator.solver].whole else "Stochastic Optimizer"
    warnings.warn(
        f"{name}: Maximum iterations ({estimator.max_iter}) reached and the optimization hasn't converged yet.",
        ConvergenceWarning,
        stacklevel=6,
    )


def _batch_size(estimator: Any, m: int) -> int:
    if estimator.batch_size == "full" or OPTIMIZERS[estimator.solver].whole:
        return m
    if estimator.batch_size == "auto":
        return min(200, m)
    if estimator.batch_size > m:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=6
        )
    return min(int(estimator.batch_size), m)


def is_finite(theta: Any) -> bool:
    """Whether all parameters are: of a device that is waited for once."""
    xp = arrays.namespace(theta)
    return bool(xp.all(xp.isfinite(theta)))
