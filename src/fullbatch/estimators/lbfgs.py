"""L-BFGS for an estimator: by SciPy on the host in float64; the passes run where the inputs are, in their dtype."""

from __future__ import annotations

import secrets
import warnings
from typing import Any

import numpy as np
from sklearn.callback import CallbackContext
from sklearn.exceptions import ConvergenceWarning

from fullbatch.core.parameters import refuse_equal_units, weight_spans
from fullbatch.estimators.descent import append_cost, append_held_out
from fullbatch.estimators.job import Job
from fullbatch.estimators.record import Record
from fullbatch.machine import arrays
from fullbatch.training import optimizers
from fullbatch.training.optimizers import Evaluation, ReplayError
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import TrainingState


def minimize(estimator: Any, job: Job, record: Record) -> Any:
    """Train to the end, write down each iteration, and give theta."""
    refuse_equal_units(job.start(), job.objective.network.sizes)
    search = _Search(estimator, job, record)
    if record.is_over():
        return search.there(search.state.theta)
    record.tell(search.state, search=search.name, before=search.before)
    try:
        with arrays.quiet():
            result = search.run()
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=6)
        search._tell(last=True)
        return search.there(search.state.theta)
    search.end(result)
    if result.status not in (0, 99):  # 99: a callback stopped it
        warnings.warn(
            f"lbfgs failed to converge after {estimator.n_iter_} iteration(s) (status={result.status}): "
            f"{result.message}. Raise max_iter ({estimator.max_iter}) or max_fun ({estimator.max_fun}), or scale the "
            "data.",
            ConvergenceWarning,
            stacklevel=6,
        )
    return search.there(result.x)


class _Search:
    """What SciPy asks, and what it tells.

    state  : after the last iteration, whose ``arrays`` are the start, and ``updates`` the evaluations since then
    name   : of the search, and of no other;  before : iterations that were over when it began
    """

    def __init__(self, estimator: Any, job: Job, record: Record) -> None:
        self.estimator, self.job, self.record = estimator, job, record
        self.task: CallbackContext | None = None
        self.name, self.before = secrets.token_hex(4), 0
        self.known: Any = ()
        self.number = self.iteration = 0  # of this search, those that are told again too
        if record.resumed is None:
            start = arrays.to_host(job.start()).astype(np.float64)
            state = TrainingState(start, "lbfgs", Schedule("constant", 0.0), (start,), examples=estimator.t_)
        else:
            state = record.resumed.state
            self.name, self.before = record.resumed.search, record.resumed.before
            self.known = record.resumed.evaluations
        self.state = state

    def there(self, theta: np.ndarray) -> Any:
        """SciPy's vector, where the passes run and in their dtype."""
        return self.job.inputs.place.put(theta.astype(self.job.inputs.dtype))

    def run(self) -> Any:
        """To SciPy's end. A search that cannot be told again as it was begins anew where it had come to."""
        if self.known is None and self.state.updates:
            self._begin_anew("the log of L-BFGS's evaluations is not there")
        try:
            return self._minimize()
        except ReplayError:
            self._begin_anew("L-BFGS does not ask for the points that it asked for then")
        return self._minimize()

    def _minimize(self) -> Any:
        limits = self.estimator._limits()
        limits["max_iter"] -= self.before
        return optimizers.lbfgs(
            self.evaluate, self.state.arrays[0], **self.l1(), callback=self.after_iteration, known=self.known or (),
            tell=self.tell if self.record.active else None, **limits,
        )  # fmt: skip

    def l1(self) -> dict[str, Any]:
        """The L1 penalty, divided by the sum of the weights as all else, and what it is of; {}: there is none."""
        l1, objective = self.estimator._l1(), self.job.objective
        if l1 == 0.0:
            return {}
        penalised = np.zeros(self.state.arrays[0].shape, dtype=bool)
        for span in weight_spans(objective.network.sizes):
            penalised[span] = True
        weight = objective.weight(self.there(self.state.arrays[0]))
        return {"l1": l1 / weight, "penalised": penalised}

    def _begin_anew(self, reason: str) -> None:
        warnings.warn(
            f"{reason}: the training goes on from the parameters that it had, without the memory of its search, so "
            "that its bits will differ from those that it would have had.",
            stacklevel=8,
        )
        self.name, self.before, self.known = secrets.token_hex(4), self.state.epoch, ()
        self.number = self.iteration = 0
        self.state = self.state._replace(arrays=(self.state.theta,), updates=0)

    def evaluate(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        if self.task is None and self.before + self.iteration >= self.state.epoch:
            self.task = self.job.begin_task(f"iteration {self.estimator.n_iter_}")
        J, gradient = self.job.objective.cost_and_gradient(self.there(theta))
        if not self.record.active or self.number >= self.state.updates:  # else the log was cut, and this was counted
            self.estimator.t_ += self.job.m
            self.state = self.state._replace(updates=self.state.updates + 1, examples=self.estimator.t_)
        return J, arrays.to_host(gradient).astype(np.float64, copy=False)

    def tell(self, evaluation: Evaluation) -> None:
        self.number += 1
        self._tell(evaluation=evaluation, number=self.number)

    def _tell(self, **of_the_moment: Any) -> None:
        self.record.tell(self.state, search=self.name, before=self.before, **of_the_moment)

    def after_iteration(self, intermediate_result: Any) -> None:  # SciPy looks at this name, and then passes cost too
        self.iteration += 1
        if self.before + self.iteration <= self.state.epoch:
            return  # it is told again, and whoever listens knows it
        estimator, held_out = self.estimator, self.job.held_out
        theta = intermediate_result.x.copy()
        append_cost(estimator, float(intermediate_result.fun) + self.job.offset)
        estimator.best_loss_ = estimator.loss_
        costs = self.state.held_out
        if held_out is not None:
            costs = costs.appended(held_out.cost(self.there(theta)))
            append_held_out(estimator, costs[-1])
        self.state = self.state._replace(
            theta=theta, epoch=self.state.epoch + 1, costs=self.state.costs.appended(estimator.loss_),
            held_out=costs, best=estimator.loss_,
        )  # fmt: skip
        ended, self.task = self.task, None
        if ended is not None and self.job.end_task(ended, self.there(theta)):
            raise StopIteration
        self._tell()

    def end(self, result: Any) -> None:
        """SciPy came to an end of its own, or a callback's: the last moment of the training."""
        self.estimator.loss_ = self.estimator.best_loss_ = loss = float(result.fun) + self.job.offset
        over = str(result.message) if result.status in (0, 2) else ""  # not where a limit stopped it, or a callback
        self.state = self.state._replace(theta=result.x.copy(), best=loss, stopped=over)
        self._tell(last=True)
