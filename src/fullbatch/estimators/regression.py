"""MLPRegressor: scikit-learn's regressor over the fold, with what is new in ``classification`` too, and ``loss``."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from fullbatch.estimators.base import HIDDEN_CONSTRAINTS, BaseNetwork, can_step
from fullbatch.estimators.inputs import on_host, read_target
from fullbatch.estimators.job import Target
from fullbatch.machine import arrays


class MLPRegressor(RegressorMixin, BaseNetwork):
    """A network for regression: half squared error, or Poisson loss for counts (``loss="poisson"``, y of at least 0).

    Parameters and fitted attributes are those of ``MLPClassifier``, but for the classes; ``scoring`` None is R2. The
    cost of several outputs is the sum over them, whose gradient is followed; scikit-learn reports the mean instead.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseNetwork._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"})],
        **HIDDEN_CONSTRAINTS,
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        scoring: str | None = None,
        device: str = "auto",
        device_memory: float | None = None,
        precision: str | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self._keep(locals())

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        resume: Any = None,
    ) -> Any:
        """Learn from X (m, n) and numbers y, (m,) or (m, k); the rest is as in ``MLPClassifier.fit``.

        A store's target is scaled, and so are the predictions; ``TableRegressor`` has them in the target's own units.
        """
        return self._fit(X, y, sample_weight, held_out=(X_val, y_val, sample_weight_val), resume=resume)

    @available_if(can_step)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """One epoch over these examples; the optimiser goes on where the last call left it."""
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Any:
        """yhat: (m,) for one output, else (m, k)."""
        yhat = self._forward(X, "predict")[0]
        return yhat[0, :] if yhat.shape[0] == 1 else yhat.T

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2, the mean over the outputs."""
        y, sample_weight = on_host("y", y), on_host("sample_weight", sample_weight)
        return float(r2_score(y, arrays.to_host(self.predict(X)), sample_weight=sample_weight))

    def _read_y(self, y: Any, m: int, incremental: bool) -> Target:
        y = self._read_held_out_y(y, m)
        activation = "exp" if self.loss == "poisson" else "identity"
        return Target(y, 0, 1 if y.ndim == 1 else y.shape[1], activation)

    def _read_held_out_y(self, y: Any, m: int) -> np.ndarray:
        y = read_target(self, y, m, numeric=True)
        if self.loss == "poisson" and y.min() < 0:
            row = int(np.argwhere(y < 0)[0][0])
            raise ValueError(f"loss='poisson' needs y of at least 0 (counts); row {row} has {y[row]}.")
        return y

    def _loss_offset(self, target: np.ndarray, weight: np.ndarray | None) -> float:
        if self.loss != "poisson":
            return 0.0
        y = target.astype(np.float64).reshape(len(target), -1)
        terms = y * np.log(np.where(y > 0, y, 1)) - y  # with J it makes half the Poisson deviance
        return float(np.sum(np.average(terms, axis=0, weights=weight)))

    def _score_of(self, target: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None) -> float:
        return float(r2_score(target, predicted, sample_weight=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
