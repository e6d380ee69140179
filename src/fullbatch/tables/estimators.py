"""TableClassifier and TableRegressor: scikit-learn's contract for raw tables, with text, categories, dates and gaps.

They train as the command does, which makes one of them: rows are held out, the encoding is learned from the others, and
the parameters of the epoch are kept whose cost on the held-out rows is the least. What predicts is their ``network_``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils._param_validation import Interval, StrOptions

from fullbatch.core.losses import OF_NUMBERS
from fullbatch.docstrings import described
from fullbatch.estimators import MLPClassifier, MLPRegressor
from fullbatch.estimators.classification import given_weights
from fullbatch.estimators.inputs import on_host
from fullbatch.tables.base import DEFAULT, TableEstimator
from fullbatch.tables.descriptions import ATTRIBUTES, PARAMETERS
from fullbatch.tables.encoding import TableEncoding


@described(PARAMETERS, ATTRIBUTES)
class TableClassifier(ClassifierMixin, TableEstimator):
    """A network that tells classes apart, of a raw table: text, categories, dates, numbers and gaps, as they are.

    Attributes
    ----------
    classes_ : array (k,)
        The classes as they are in the table, sorted.
    threshold_ : float or None
        That by which ``predict`` decides.

    See Also
    --------
    MLPClassifier : The same of numbers, arrays and sparse matrices.

    Notes
    -----
    Columns go by their names: their order is of no matter at predict, those that the model has not are ignored with a
    TableWarning, and one that is missing is an error. ``cross_val_score``, ``GridSearchCV`` and their kin take the rows
    of X apart, so they need a frame, an Arrow table or an array there: a path or a dict of columns has no rows for
    them, and scikit-learn refuses it (no array-like, or of another length than y). Read it first, as a frame.

    Examples
    --------
    >>> import fullbatch as fb
    >>> table = {"size": [1.0, 2.0, 8.0, 9.0] * 50, "town": ["a", None, "b", "b"] * 50}
    >>> table["late"] = ["no", "no", "yes", "yes"] * 50
    >>> model = fb.TableClassifier(hidden=(), epochs=50, learning_rate=0.1).fit(table, target="late")
    >>> model.predict({"size": [1.5, 8.5], "town": ["a", "b"]}).tolist()
    ['no', 'yes']
    >>> [(column["name"], column["kind"]) for column in model.columns_]
    [('size', 'number'), ('town', 'category'), ('late', 'target')]
    """

    _task = "classify"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TableEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "threshold": [Interval(Real, 0, 1, closed="neither"), StrOptions({"auto"}), None],
    }

    def __init__(
        self,
        hidden: Sequence[int] | None = DEFAULT.hidden,
        activation: str = DEFAULT.activation,
        *,
        dropout: Any = DEFAULT.dropout,
        solver: str = DEFAULT.solver,
        epochs: int | None = DEFAULT.epochs,
        batch_size: Any = DEFAULT.batch_size,
        learning_rate: float | None = DEFAULT.learning_rate,
        l2: float | None = DEFAULT.l2,
        validation: float = DEFAULT.validation,
        split_by: str | None = DEFAULT.split_by,
        group: str | None = DEFAULT.group,
        retrain: bool = DEFAULT.retrain,
        patience: int | None = DEFAULT.patience,
        metric: str | None = DEFAULT.metric,
        max_levels: int = DEFAULT.max_levels,
        categorical: Sequence[str] = (),
        numeric: Sequence[str] = (),
        drop: Sequence[str] = (),
        missing: Sequence[str] = (),
        keep_missing_words: bool = False,
        class_weight: Any = None,
        threshold: Any = DEFAULT.threshold,
        dtype: str = DEFAULT.dtype,
        random_state: Any = DEFAULT.random_state,
        memory: float = DEFAULT.memory,
        device: str = DEFAULT.device,
        device_memory: float | None = DEFAULT.device_memory,
        precision: str | None = DEFAULT.precision,
        n_jobs: int | None = DEFAULT.n_jobs,
    ) -> None:
        self._keep(locals())

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row, the most probable one or, of two, by ``threshold_``.

        Parameters
        ----------
        X : a table, as in ``fit``
            Columns go by name; others than the model's are ignored, with a TableWarning.

        Returns
        -------
        array (m,)
            Classes as they are in the training table.
        """
        return self._network().predict(self._table(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class.

        Parameters
        ----------
        X : a table, as in ``fit``
            Columns go by name; others than the model's are ignored, with a TableWarning.

        Returns
        -------
        array (m, k)
            In the order of ``classes_``.
        """
        return self._network().predict_proba(self._table(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithm of ``predict_proba``, computed without a detour over it, so that it stays finite.

        Parameters
        ----------
        X : a table, as in ``fit``
            Columns go by name; others than the model's are ignored, with a TableWarning.

        Returns
        -------
        array (m, k)
        """
        return self._network().predict_log_proba(self._table(X))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The share of rows whose prediction is right.

        Parameters
        ----------
        X : a table, as in ``fit``
            Columns go by name; others than the model's are ignored, with a TableWarning.
        y : array-like (m,) or None, default=None
            The target; None: it is the column of X by the name that it had in ``fit``.
        sample_weight : array-like (m,) or None, default=None
            What each row counts.

        Returns
        -------
        float
        """
        X, y = self._target_of(X, y)
        return float(accuracy_score(y, self.predict(X), sample_weight=on_host("sample_weight", sample_weight)))

    def _network_estimator(self, encoding: TableEncoding) -> Any:
        return partial(MLPClassifier, class_weight=_by_code(self.class_weight, encoding.classes))

    def _choosing(
        self, scored: np.ndarray | None, target: np.ndarray, y: np.ndarray, weight: np.ndarray | None
    ) -> np.ndarray | None:
        if self.class_weight is None:
            return scored
        k = len(self.classes_)
        if self.class_weight == "balanced":
            counts = np.bincount(y, weights=weight, minlength=k)
            by_class = counts.sum() / (k * np.where(counts > 0, counts, np.inf))
        else:
            by_class = given_weights(self.class_weight, self.classes_.tolist())
        return by_class[target] if scored is None else by_class[target] * scored

    def _describe(self, encoding: TableEncoding, made_of: dict[str, Any]) -> None:
        super()._describe(encoding, made_of)
        self.classes_ = np.array(encoding.classes)


@described(PARAMETERS, ATTRIBUTES)
class TableRegressor(RegressorMixin, TableEstimator):
    """A network that predicts a number, of a raw table: text, categories, dates, numbers and gaps, as they are.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "absolute_error", "quantile"}
        What is least on the training rows, as ``MLPRegressor`` has it: predictions are means, means of counts (or of
        other skewed numbers that are not negative), medians, or the ``quantile``.
    quantile : float or None
        Between 0 and 1; of the loss "quantile" alone, which needs it.
    log_target : bool
        Learn log(1 + 100 y / mean) of a target y that is not negative: relative errors count, and a few large values
        less. The root of the mean square error of real tables was mostly larger with it, the mean absolute error
        smaller.

    See Also
    --------
    MLPRegressor : The same of numbers, arrays and sparse matrices.

    Notes
    -----
    Where the training had no negative target, no prediction is negative. Columns go by their names, as in
    ``TableClassifier``.

    Examples
    --------
    >>> import fullbatch as fb
    >>> table = {"rooms": [1, 2, 3, 4] * 30, "price": [10.0, 20.0, 30.0, 40.0] * 30}
    >>> model = fb.TableRegressor(hidden=(), epochs=60, learning_rate=0.05).fit(table, target="price")
    >>> bool(abs(model.predict({"rooms": [3]})[0] - 30) < 3)
    True
    """

    _task = "regress"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TableEstimator._parameter_constraints,
        "loss": [StrOptions(set(OF_NUMBERS))],
        "log_target": ["boolean"],
    }

    def __init__(
        self,
        hidden: Sequence[int] | None = DEFAULT.hidden,
        activation: str = DEFAULT.activation,
        *,
        dropout: Any = DEFAULT.dropout,
        solver: str = DEFAULT.solver,
        epochs: int | None = DEFAULT.epochs,
        batch_size: Any = DEFAULT.batch_size,
        learning_rate: float | None = DEFAULT.learning_rate,
        l2: float | None = DEFAULT.l2,
        validation: float = DEFAULT.validation,
        split_by: str | None = DEFAULT.split_by,
        group: str | None = DEFAULT.group,
        retrain: bool = DEFAULT.retrain,
        patience: int | None = DEFAULT.patience,
        metric: str | None = DEFAULT.metric,
        loss: str = DEFAULT.loss,
        quantile: float | None = DEFAULT.quantile,
        log_target: bool = DEFAULT.log_target,
        max_levels: int = DEFAULT.max_levels,
        categorical: Sequence[str] = (),
        numeric: Sequence[str] = (),
        drop: Sequence[str] = (),
        missing: Sequence[str] = (),
        keep_missing_words: bool = False,
        dtype: str = DEFAULT.dtype,
        random_state: Any = DEFAULT.random_state,
        memory: float = DEFAULT.memory,
        device: str = DEFAULT.device,
        device_memory: float | None = DEFAULT.device_memory,
        precision: str | None = DEFAULT.precision,
        n_jobs: int | None = DEFAULT.n_jobs,
    ) -> None:
        self._keep(locals())

    def predict(self, X: Any) -> np.ndarray:
        """The predicted number of each row.

        Parameters
        ----------
        X : a table, as in ``fit``
            Columns go by name; others than the model's are ignored, with a TableWarning.

        Returns
        -------
        array (m,)
            In the target's own units.
        """
        return self._network().predict(self._table(X))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R2.

        Parameters
        ----------
        X : a table, as in ``fit``
            Columns go by name; others than the model's are ignored, with a TableWarning.
        y : array-like (m,) or None, default=None
            The target; None: it is the column of X by the name that it had in ``fit``.
        sample_weight : array-like (m,) or None, default=None
            What each row counts.

        Returns
        -------
        float
            At most 1; 0 is the mean of y for every row.
        """
        X, y = self._target_of(X, y)
        return float(r2_score(y, self.predict(X), sample_weight=on_host("sample_weight", sample_weight)))

    def _network_estimator(self, encoding: TableEncoding) -> Any:
        return partial(MLPRegressor, loss=self.loss, quantile=self.quantile)


def _by_code(class_weight: Any, classes: Sequence[Any]) -> Any:
    """The weights by the codes that stand for the classes in the training."""
    if not isinstance(class_weight, dict):
        return class_weight
    return dict(enumerate(given_weights(class_weight, list(classes)).tolist()))
