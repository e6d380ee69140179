"""scikit-learn's callbacks of a table's estimator: they hear of each epoch of the network that trains within it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import numpy as np
from sklearn.callback import CallbackContext

# Attributes that are up to date when an epoch ends.
TOLD = ("n_iter_", "loss_curve_", "validation_costs_", "t_", "retraining_")


class Epochs:
    """A callback of the network's estimator: it hands each epoch on to the callbacks of the table's estimator.

    estimator : the table's;  context : of its fit;  hooks : what its callbacks are handed besides
    """

    def __init__(self, estimator: Any, context: CallbackContext, hooks: dict[str, Any]) -> None:
        self.estimator, self.context, self.hooks = estimator, context, hooks
        self.task: Any = None

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        if context.max_subtasks == 0:  # An epoch; the whole fit has its epochs as subtasks.
            if estimator.retraining_ is not None:  # known since the last epoch ended
                self._tell(estimator)
            self.task = self.context.subcontext(task_name=context.task_name)
            self.task.call_on_fit_task_begin(estimator=self.estimator, **self.hooks)

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        return self._end(estimator, context, None)

    def _end(self, estimator: Any, context: Any, reconstruct: Callable[[], dict[str, Any]] | None) -> bool:
        if context.max_subtasks != 0:
            return False
        self._tell(estimator)
        return bool(
            self.task.call_on_fit_task_end(
                estimator=self.estimator, **self.hooks, reconstruction_attributes=reconstruct
            )
        )

    def _tell(self, estimator: Any) -> None:
        self.estimator.__dict__.update({name: getattr(estimator, name) for name in TOLD})

    def teardown(self, estimator: Any, context: Any) -> None:
        pass


class EpochsWithModel(Epochs):
    """The same where a callback asks for the model of each epoch, whose parameters are copied for it."""

    def __init__(self, *of_all: Any, network_of: Callable[[Any], Any]) -> None:
        super().__init__(*of_all)
        self.network_of = network_of

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> bool:
        return self._end(estimator, context, lambda: {"network_": self.network_of(fitted_estimator)})


def asks_for_the_model(callback: Any) -> bool:
    """Whether a callback is to be handed the model as it is at the end of each epoch."""
    return "fitted_estimator" in signature(callback.on_fit_task_end).parameters


class Patience:
    """A callback of the network's estimator: it ends the training after so many epochs without a better held-out cost.

    scikit-learn's ``n_iter_no_change`` would let one more pass, and cannot be one. A second training has its own end.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.out_of_patience = False  # the network's estimator looks at it: other callbacks want no second training

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        if context.max_subtasks != 0 or estimator.retraining_ is not None:
            return False
        costs = estimator.validation_costs_
        self.out_of_patience = len(costs) - best_epoch(costs) >= self.epochs
        return self.out_of_patience

    def teardown(self, estimator: Any, context: Any) -> None:
        pass


def best_epoch(costs: Sequence[float]) -> int:
    """The number of the epoch whose cost is the least, from 1; one that is not finite never is."""
    return int(np.argmin(np.where(np.isfinite(costs), costs, np.inf))) + 1
