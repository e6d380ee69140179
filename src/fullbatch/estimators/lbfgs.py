"""L-BFGS for an estimator: by SciPy on the host in float64; the passes run where the inputs are, in their dtype."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.callback import CallbackContext
from sklearn.exceptions import ConvergenceWarning

from fullbatch.core.parameters import refuse_equal_units
from fullbatch.estimators.descent import note_cost, note_held_out
from fullbatch.estimators.job import Job
from fullbatch.machine import arrays
from fullbatch.training import optimizers


def minimize(estimator: Any, job: Job) -> Any:
    """Train to the end, write down each iteration, and give theta."""
    refuse_equal_units(job.start, job.objective.network.sizes)
    search = _Search(estimator, job)
    start = arrays.to_host(job.start).astype(np.float64)
    try:
        with arrays.quiet():
            result = optimizers.lbfgs(search.evaluate, start, callback=search.after_iteration, **estimator._limits())
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=5)
        return search.theta
    estimator.loss_ = estimator.best_loss_ = float(result.fun) + job.offset
    if result.status not in (0, 99):  # 99: a callback stopped it
        warnings.warn(
            f"lbfgs failed to converge after {estimator.n_iter_} iteration(s) (status={result.status}): "
            f"{result.message}. Raise max_iter ({estimator.max_iter}) or max_fun ({estimator.max_fun}), or scale the "
            "data.",
            ConvergenceWarning,
            stacklevel=5,
        )
    return search.there(result.x)


class _Search:
    """What SciPy asks, and what it tells. theta : after the last iteration, where the passes run."""

    def __init__(self, estimator: Any, job: Job) -> None:
        self.estimator, self.job = estimator, job
        self.theta = job.start
        self.task: CallbackContext | None = None

    def there(self, theta: np.ndarray) -> Any:
        """SciPy's vector, where the passes run and in their dtype."""
        return self.job.inputs.place.put(theta.astype(self.job.inputs.dtype))

    def evaluate(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        self.estimator.t_ += self.job.m
        if self.task is None:
            self.task = self.job.begin_task(f"iteration {self.estimator.n_iter_}")
        J, gradient = self.job.objective.cost_and_gradient(self.there(theta))
        return J, arrays.to_host(gradient).astype(np.float64)

    def after_iteration(self, intermediate_result: Any) -> None:  # SciPy looks at this name, and then passes cost too
        estimator, held_out = self.estimator, self.job.held_out
        self.theta = self.there(intermediate_result.x)
        note_cost(estimator, float(intermediate_result.fun) + self.job.offset)
        estimator.best_loss_ = estimator.loss_
        if held_out is not None:
            note_held_out(estimator, held_out.cost(self.theta))
        ended, self.task = self.task, None
        if ended is not None and self.job.end_task(ended, self.theta):
            raise StopIteration
