"""TableClassifier and TableRegressor: scikit-learn's contract for raw tables, with text, categories, dates and gaps.

They train as the command does, by its defaults: rows are held out, the encoding is learned from the others, and the
parameters of the epoch are kept whose cost on the held-out rows is the least.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.validation import check_is_fitted

from fullbatch.errors import InputError, TableError
from fullbatch.tables.fit import Settings, train_table
from fullbatch.tables.frames import as_table
from fullbatch.tables.raw import RawTable


class _TableEstimator(BaseEstimator):
    """What the two share. ``model_`` is the TableModel that predicts; ``fullbatch.save`` writes it."""

    _task = ""

    def __init__(
        self,
        hidden: Sequence[int] = (128, 64),
        activation: str = "relu",
        *,
        solver: str = "adam",
        epochs: int | None = None,
        batch_size: Any = None,
        learning_rate: float | None = None,
        l2: float | None = None,
        validation: float = 0.1,
        max_levels: int = 1024,
        categorical: Sequence[str] = (),
        numeric: Sequence[str] = (),
        dtype: str = "float32",
        random_state: int = 0,
        device: str = "auto",
        device_memory: float | None = None,
        precision: str | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.solver = solver
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.l2 = l2
        self.validation = validation
        self.max_levels = max_levels
        self.categorical = categorical
        self.numeric = numeric
        self.dtype = dtype
        self.random_state = random_state
        self.device = device
        self.device_memory = device_memory
        self.precision = precision
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None, *, target: str | None = None) -> Any:
        """Learn from a raw table X of m rows.

        Parameters
        ----------
        X : a table
            A pandas or polars data frame, an Arrow table, anything with ``__arrow_c_stream__``, a dict of columns, a
            NumPy array (m, n), or a path of a CSV or Parquet file. A stream is read once.
        y : array-like (m,), optional
            The target, where it is no column of X.
        target : str, optional
            The name of the target's column in X. Either ``y`` or this.

        Returns
        -------
        self

        Raises
        ------
        TableError
            For columns that do not fit, both or neither of ``y`` and ``target``, and targets with gaps.
        InputError, DeviceError, NonFiniteError
            As ``fullbatch train`` has them.
        """
        if (y is None) == (target is None):
            raise TableError("give the target either as y or, by the name of its column in X, as target=.")
        table = as_table(X)
        if target is None:
            table, target = _with_target(table, y)
        trained = train_table(
            table, target, self._settings(), task=self._task, categorical=tuple(self.categorical),
            numeric=tuple(self.numeric),
        )  # fmt: skip
        self.model_ = trained.model
        names = trained.model.encoding.feature_names
        self.n_features_in_ = len(names)
        self.feature_names_in_ = np.array(names, dtype=object)
        self.n_iter_ = trained.model.estimator.n_iter_
        self.loss_curve_ = trained.model.estimator.loss_curve_
        return self

    def _settings(self) -> Settings:
        return Settings(
            hidden=tuple(self.hidden), activation=self.activation, solver=self.solver, epochs=self.epochs,
            batch_size=self.batch_size, learning_rate=self.learning_rate, l2=self.l2, validation=self.validation,
            max_levels=self.max_levels, dtype=self.dtype, device=self.device, device_memory=self.device_memory,
            precision=self.precision, seed=self.random_state, threads=self.n_jobs,
        )  # fmt: skip

    def _table(self, X: Any) -> RawTable:
        """The columns of X that the model needs, by name; others are ignored."""
        check_is_fitted(self, "model_")
        if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] != self.n_features_in_:
            raise InputError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input."
            )
        return self.model_.read(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The columns that the model reads, in the order of the training table."""
        check_is_fitted(self, "model_")
        return self.feature_names_in_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.categorical = tags.input_tags.allow_nan = True
        return tags


class TableClassifier(ClassifierMixin, _TableEstimator):
    """A network that tells classes apart, of a raw table: text, categories, dates, numbers and gaps, as they are.

    Parameters
    ----------
    hidden : sequence of int
        Units of each hidden layer; () is logistic regression.
    activation : str
        Of the hidden layers, as in ``Network``.
    solver, epochs, batch_size, learning_rate, l2
        As the options of ``fullbatch train``; None leaves the choice to its rules, by the number of rows.
    validation : float
        The share of the rows that is held out, to choose the epoch.
    max_levels : int
        Levels of a category column; rarer ones share one.
    categorical, numeric : sequences of str
        Columns of which the kind is decided here.
    dtype, random_state, device, device_memory, precision, n_jobs
        As in ``MLPClassifier``.

    Examples
    --------
    >>> import fullbatch as fb
    >>> table = {"size": [1.0, 2.0, 8.0, 9.0] * 50, "town": ["a", None, "b", "b"] * 50}
    >>> table["late"] = ["no", "no", "yes", "yes"] * 50
    >>> model = fb.TableClassifier(hidden=(), epochs=50, learning_rate=0.1).fit(table, target="late")
    >>> model.predict({"size": [1.5, 8.5], "town": ["a", "b"]}).tolist()
    ['no', 'yes']
    """

    _task = "classify"

    def fit(self, X: Any, y: Any = None, *, target: str | None = None) -> Any:
        super().fit(X, y, target=target)
        self.classes_ = np.array(self.model_.classes)
        return self

    fit.__doc__ = _TableEstimator.fit.__doc__

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, (m,)."""
        return self.model_.predict(self._table(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, (m, k), in the order of ``classes_``."""
        return self.model_.predict_proba(self._table(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of rows whose prediction is right."""
        return float(accuracy_score(y, self.predict(X), sample_weight=sample_weight))


class TableRegressor(RegressorMixin, _TableEstimator):
    """A network that predicts a number, of a raw table; parameters as of ``TableClassifier``.

    Examples
    --------
    >>> import fullbatch as fb
    >>> table = {"rooms": [1, 2, 3, 4] * 30, "price": [10.0, 20.0, 30.0, 40.0] * 30}
    >>> model = fb.TableRegressor(hidden=(), epochs=60, learning_rate=0.05).fit(table, target="price")
    >>> bool(abs(model.predict({"rooms": [3]})[0] - 30) < 3)
    True
    """

    _task = "regress"

    def predict(self, X: Any) -> np.ndarray:
        """The predicted numbers, (m,), in the target's own units."""
        return self.model_.predict(self._table(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2."""
        return float(r2_score(y, self.predict(X), sample_weight=sample_weight))


def _with_target(table: RawTable, y: Any) -> tuple[RawTable, str]:
    """The table and the target as one table, under a name that no column has."""
    name = "y"
    while name in table.names:
        name += "_"
    column = as_table({name: y}).columns[name]
    if len(column.values) != table.m:
        raise TableError(f"X has {table.m} rows and y {len(column.values)}; each row has a target.")
    return RawTable({**table.columns, name: column}, table.m), name
