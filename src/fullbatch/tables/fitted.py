"""What a fitted TableClassifier or TableRegressor is asked: predictions of its network, and scores."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fullbatch.errors import InputError, TableWarning
from fullbatch.estimators.inputs import on_host, read_weight
from fullbatch.tables.fit import said_of_columns
from fullbatch.tables.given import beside
from fullbatch.tables.network import TableNetwork
from fullbatch.tables.raw import RawTable
from fullbatch.tables.roles import weights_of


class FittedOnTable(BaseEstimator):
    """The predicting half of the two."""

    dtype: str
    metric: str | None
    device: str
    device_memory: float | None
    n_jobs: int | None
    network_: TableNetwork
    n_features_in_: int
    feature_names_in_: np.ndarray

    def _network(self) -> TableNetwork:
        """The network where this estimator's parameters say that it is computed."""
        check_is_fitted(self, "network_")
        return self.network_.on(self.device, self.device_memory, self.n_jobs)

    def _table(self, X: Any, more: Sequence[str] = ()) -> RawTable:
        """The columns of X that the model needs, by name."""
        network = self._network()
        if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] != self.n_features_in_:
            raise InputError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input."
            )
        self._warn_of_others(X)
        return network.read(X, more=more)

    def _warn_of_others(self, X: Any) -> None:
        if others := self._network().unused(X):
            warnings.warn(f"{said_of_columns(others)}.", TableWarning, stacklevel=4)

    def evaluate(self, X: Any, y: Any = None, sample_weight: Any = None) -> dict[str, Any]:
        """The scores that ``fullbatch evaluate`` prints; rows without a target are left out.

        Parameters
        ----------
        X : a table, as in ``fit``
            That of the rows to score.
        y : array-like (m,), optional
            The target, where it is no column of X by the name that it had in ``fit``.
        sample_weight : array-like (m,), or str, optional
            What each row counts, or the name of the column of X that has it.

        Returns
        -------
        dict
            m, cost (without L2); of a classification accuracy, auc, average_precision (of two classes), log_loss and
            confusion_matrix, of a regression r2, rmse and mae, the last two in the target's own units; ``metric``, its
            name and value, where the parameter asks for one. NaN where one is not defined.
        """
        network = self._network()
        table = self._with_target(X, y, [sample_weight] if isinstance(sample_weight, str) else [])
        return network.evaluate(table, self._weights(table, sample_weight), self.metric)

    def _with_target(self, X: Any, y: Any, more: Sequence[str] = ()) -> RawTable:
        network = self._network()
        if y is None:
            self._warn_of_others(X)
            return network.read(X, with_target=True, more=more)
        return beside(self._table(X, more), y, str(network.encoding.target), text=network.encoding.text_names)

    def _target_of(self, X: Any, y: Any) -> tuple[Any, Any]:
        """X and y as ``score`` compares them: y is the target's column of X where it is not given."""
        if y is not None:
            return X, on_host("y", y)
        encoding = self._network().encoding
        table = self._with_target(X, None)
        return table, encoding.decode_target(encoding.encode_target(table))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The columns that the model reads.

        Parameters
        ----------
        input_features : ignored, default=None
            As scikit-learn has it.

        Returns
        -------
        array of str (n,)
            In the order of the training table.
        """
        check_is_fitted(self, "network_")
        return self.feature_names_in_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.categorical = tags.input_tags.allow_nan = True
        return tags

    def _weights(self, table: RawTable, weight: Any) -> np.ndarray | None:
        """The weights of the rows, from a column by its name, or as they are given."""
        if isinstance(weight, str):
            return weights_of(table, weight, self.dtype)
        return read_weight(weight, table.m, self.dtype)
