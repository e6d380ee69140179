"""MLPRegressor: scikit-learn's regressor over the fold, with what is new in ``classification`` too, and ``loss``."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from fullbatch.core.losses import LOSSES, OF_NUMBERS, check_quantile
from fullbatch.docstrings import described
from fullbatch.estimators.base import HIDDEN_CONSTRAINTS, BaseNetwork, can_step
from fullbatch.estimators.descriptions import ATTRIBUTES, FIT, PARAMETERS
from fullbatch.estimators.inputs import on_host, read_target
from fullbatch.estimators.job import Part, Target
from fullbatch.estimators.stored import least_cost
from fullbatch.machine import arrays


@described(PARAMETERS, ATTRIBUTES)
class MLPRegressor(RegressorMixin, BaseNetwork):
    """A network for regression, by one of four losses.

    Names, defaults and attributes are those of scikit-learn's class of this name, and so is the path of a training with
    the same ``random_state``. New are what ``MLPClassifier`` names, and two losses. The cost of several outputs is the
    sum over them, whose gradient is followed; scikit-learn reports the mean instead.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "absolute_error", "quantile"}
        What is minimised, with yhat = z[L], the output unit's pre-activation; for Poisson yhat = exp(z[L]).

        - "squared_error": (yhat - y)^2 / 2, which makes yhat the mean of y.
        - "poisson": yhat - y log yhat, for counts and other y of at least 0, whose mean yhat is too. ``loss_curve_``
          has half the Poisson deviance, yhat - y + y log(y / yhat).
        - "absolute_error": abs(yhat - y), which makes yhat the median. A few wild targets do not move it.
        - "quantile": (1-q) (yhat - y) where yhat > y, else q (y - yhat), which makes yhat the q-quantile: y is below it
          with probability q. Two models, of 0.05 and 0.95, give an interval with 90 % of y.
    quantile : float or None
        q of the loss "quantile", within (0, 1); it is needed there, and None with the others.
    scoring : {"loss"} or None
        What early stopping judges by: None is R2, as ``score`` is with every loss. For a quantile far from the median,
        which is no good guess of y itself, "loss" is the better judge.

    See Also
    --------
    TableRegressor : The same of raw tables, with texts, categories, dates and gaps.

    Notes
    -----
    The gradients of "absolute_error" and "quantile" are of one size, however far yhat is off: a y that is not of the
    order of 1 needs as many more steps. Scale it, as ``sklearn.compose.TransformedTargetRegressor`` does.
    ``TableRegressor`` scales by itself. ``step_`` says which step ran.

    Examples
    --------
    >>> import numpy as np
    >>> import fullbatch as fb
    >>> X = np.random.default_rng(0).random((1000, 1))
    >>> y = X[:, 0] + np.random.default_rng(1).exponential(size=1000)
    >>> options = {"hidden_layer_sizes": (8,), "learning_rate_init": 0.01, "max_iter": 500, "random_state": 0}
    >>> high = fb.MLPRegressor("quantile", quantile=0.9, **options).fit(X, y)
    >>> bool(0.87 < np.mean(y < high.predict(X)) < 0.93)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseNetwork._parameter_constraints,
        "loss": [StrOptions(set(OF_NUMBERS))],
        "quantile": [Interval(Real, 0, 1, closed="neither"), None],
        **HIDDEN_CONSTRAINTS,
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        quantile: float | None = None,
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
        dropout: Any = 0.0,
        scoring: str | None = None,
        retrain: bool = False,
        device: str = "auto",
        device_memory: float | None = None,
        precision: str | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self._keep(locals())

    @described(FIT)
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
        """Learn from rows X and their numbers y.

        Parameters
        ----------
        y : array-like (m,) or (m, k)
            One number for each row, or k of them. Poisson's are not negative.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For input that cannot be used (NaN and infinity with row and column), and for a training that diverges.

        Notes
        -----
        Ctrl-C ends the training with a warning and keeps the model so far. A store's target is scaled, and so are the
        predictions; ``TableRegressor`` has them in the target's own units.
        """
        return self._fit(X, y, sample_weight, held_out=(X_val, y_val, sample_weight_val), resume=resume)

    @available_if(can_step)
    @described(FIT)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Learn from some rows, for one epoch; the optimiser goes on where the last call left it.

        Parameters
        ----------
        y : array-like (m,) or (m, k)
            Their numbers.

        Returns
        -------
        self

        Raises
        ------
        AttributeError
            Where ``solver`` does not learn from one batch at a time: L-BFGS.
        ValueError
            As ``fit``.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Any:
        """The number of each row, yhat.

        Parameters
        ----------
        X : as in fit (m, n)

        Returns
        -------
        array (m,), or (m, k)
            Of X's library, in the units of y.
        """
        yhat = self._forward(X, "predict")[0]
        return yhat[0, :] if yhat.shape[0] == 1 else yhat.T

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2, the mean over the outputs.

        Parameters
        ----------
        X : as in fit (m, n)
        y : as in fit
            The true numbers.
        sample_weight : array-like (m,) or None, default=None
            What each row counts.

        Returns
        -------
        float
            At most 1; 0 is the mean of y for every row.
        """
        y, sample_weight = on_host("y", y), on_host("sample_weight", sample_weight)
        return float(r2_score(y, arrays.to_host(self.predict(X)), sample_weight=sample_weight))

    def _loss(self) -> dict[str, Any]:
        return {"loss": self.loss, "quantile": self.quantile}

    def _read_y(self, y: Any, m: int, incremental: bool) -> Target:
        check_quantile(self.loss, self.quantile)
        y = self._read_held_out_y(y, m)
        return Target(y, 0, 1 if y.ndim == 1 else y.shape[1], LOSSES[self.loss].output)

    def _read_held_out_y(self, y: Any, m: int) -> np.ndarray:
        y = read_target(self, y, m, numeric=True)
        if self.loss == "poisson" and y.min() < 0:
            row = int(np.argwhere(y < 0)[0][0])
            raise ValueError(f"loss='poisson' needs y of at least 0 (counts); row {row} has {y[row]}.")
        return y

    def _loss_offset(self, part: Part) -> float:
        least = LOSSES[self.loss].least
        if least is None:
            return 0.0
        if not len(part.target):  # of a store, whose target is not in memory
            return -least_cost(part.examples, self.loss)
        y = part.target.astype(np.float64).reshape(len(part.target), -1)
        return float(-np.average(least(y.T, np), weights=part.weight))

    def _score_of(self, target: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None) -> float:
        return float(r2_score(target, predicted, sample_weight=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
