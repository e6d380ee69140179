"""The five estimators of ``fullbatch.dask``: those of the package, fitted on a cluster.

Each holds its parameters and ``client``. To fit, it makes the plain estimator of the same parameters and lets that one
learn from what lies on the cluster: so checkpoints, callbacks, model files and bits are the plain one's.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

from fullbatch import estimators as plain
from fullbatch.dask import partitions
from fullbatch.dask.connection import connected
from fullbatch.dask.store import ClusterStore
from fullbatch.dask.tables import ClusterTable, Wanted
from fullbatch.docstrings import described, texts_of
from fullbatch.errors import InputError, TableError
from fullbatch.sources.store_file import is_store
from fullbatch.sources.stored import Store
from fullbatch.tables import estimators as tables
from fullbatch.tables.frames import paths_of

CLIENT = {
    "client": """distributed.Client, str or None
        A client, a scheduler's address such as "tcp://host:8786", or "local" for workers on this machine; None: the
        current client.""",
}


def _like(base: type[Any]) -> Callable[[Any], Any]:
    """Completes a docstring by the parameters and attributes of ``base``, and ``client``."""
    return described({**texts_of(base), **CLIENT}, texts_of(base, "Attributes"))


def _with_client(base: type[Any]) -> Callable[..., None]:
    """The constructor of ``base`` with ``client`` beside its parameters."""

    def __init__(self: Any, *args: Any, client: Any = None, **parameters: Any) -> None:
        base.__init__(self, *args, **parameters)
        self.client = client

    own = list(inspect.signature(base.__init__).parameters.values())
    client = inspect.Parameter("client", inspect.Parameter.KEYWORD_ONLY, default=None)
    __init__.__signature__ = inspect.Signature([*own, client])  # type: ignore[attr-defined]  # scikit-learn reads it
    return __init__


class _OnCluster:
    """What the five share. ``_plain`` is the estimator that each stands for."""

    _plain: type[Any]
    client: Any

    def to_local(self) -> Any:
        """The plain estimator of the same parameters, fitted as this one is: it knows no cluster, and can be saved."""
        me: Any = self
        parameters = me.get_params(deep=False)
        local = self._plain(**{name: value for name, value in parameters.items() if name != "client"})
        local.__dict__.update({name: value for name, value in vars(me).items() if name not in parameters})
        return local

    def _fit_there(self, source: Callable[[Any], Any], **more: Any) -> Any:
        """Fit the plain estimator on what ``source`` makes of the workers; take what it learned, however it ends."""
        local = self.to_local()
        known = {*local.get_params(deep=False)}
        try:
            with connected(self.client) as workers:
                found = source(workers)
                local.fit(found, **more)
        finally:
            self.__dict__.update({name: value for name, value in vars(local).items() if name not in known})
        return self

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {**state, "client": None}  # A connection cannot be pickled.


class _Network(_OnCluster):
    """Of the estimators of numbers."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, resume: Any = None, **held_out: Any) -> Any:
        """Learn from examples that the workers read, or hold.

        Parameters
        ----------
        X : a store (``fullbatch.open_store``, or its path), or a Dask Array or DataFrame (m, n)
            A store's path is one that all workers see. The partitions of a collection stay where they are; its bits
            follow them (``note_``).
        y, sample_weight : Dask Array or Series (m,)
            Beside a collection, in partitions of the same lengths. A store has them itself.
        resume : Checkpoint, optional
            As in the plain estimator's ``fit``, whose checkpoints are the same.

        Returns
        -------
        self

        Raises
        ------
        ClusterError
            For a cluster that cannot be used: no scheduler, no worker, workers that do not go together.
        InputError, StoreError
            For data that cannot be used, a path that a worker does not see, a ``batch_size`` that is not whole leaves.

        Examples
        --------
        See the page "A cluster" of the documentation, and ``fullbatch.dask``.
        """
        if any(one is not None for one in held_out.values()):
            raise InputError(
                "held-out rows on a cluster come with a store; X_val, y_val and their weights are refused."
            )
        if partitions.is_collection(X):
            return self._fit_there(lambda there: partitions.gathered(self, X, y, sample_weight, there), resume=resume)
        path, beside = _store_path(X), {"y": y, "sample_weight": sample_weight}
        return self._fit_there(lambda workers: ClusterStore(path, workers), resume=resume, **beside)

    def partial_fit(self, *args: Any, **more: Any) -> Any:
        raise InputError("partial_fit is refused on a cluster: to_local() gives a model that goes on here.")

    def predict(self, X: Any) -> Any:
        """As the plain estimator; of a Dask collection lazily, partition by partition, in their order."""
        return self._of_blocks("predict", X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """As the plain estimator; of Dask collections lazily, a ``dask.delayed``."""
        if not partitions.is_collection(X):
            return super().score(X, y, sample_weight)  # type: ignore[misc]
        return partitions.score_of(self.to_local(), X, y, sample_weight)

    def _of_blocks(self, method: str, X: Any) -> Any:
        if partitions.is_collection(X):
            return partitions.mapped(self.to_local(), method, X)
        return getattr(super(), method)(X)


class _Probabilities:
    """Of a classification."""

    def predict_proba(self, X: Any) -> Any:
        """As the plain estimator; of a Dask collection lazily, partition by partition, in their order."""
        return self._of_blocks("predict_proba", X)  # type: ignore[attr-defined]

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithm of ``predict_proba``, the same way."""
        return self._of_blocks("predict_log_proba", X)  # type: ignore[attr-defined]


@_like(plain.MLPClassifier)
class MLPClassifier(_Probabilities, _Network, plain.MLPClassifier):
    """``fullbatch.MLPClassifier`` on a cluster.

    ``batch_size="auto"`` is whole leaves, a power of two of them, so many that an epoch has up to 256 updates.
    """

    _plain = plain.MLPClassifier
    __init__ = _with_client(plain.MLPClassifier)


@_like(plain.MLPRegressor)
class MLPRegressor(_Network, plain.MLPRegressor):
    """``fullbatch.MLPRegressor`` on a cluster; batches are as of ``MLPClassifier``."""

    _plain = plain.MLPRegressor
    __init__ = _with_client(plain.MLPRegressor)


@_like(plain.LogisticRegression)
class LogisticRegression(_Probabilities, _Network, plain.LogisticRegression):
    """``fullbatch.LogisticRegression`` on a cluster; batches are as of ``MLPClassifier``."""

    _plain = plain.LogisticRegression
    __init__ = _with_client(plain.LogisticRegression)


class _Table(_OnCluster):
    """Of the estimators of tables."""

    def fit(self, X: Any, y: Any = None, *, target: str | None = None, resume: Any = None, **more: Any) -> Any:
        """Learn from a table that the workers read, or hold.

        Parameters
        ----------
        X : a store (``fullbatch.open_store``) or its path; paths of Parquet or Arrow IPC files; a Dask DataFrame
            Files are seen by all workers by the same paths; each worker reads its rows. A DataFrame's partitions stay
            where they are, and the bits follow them (``note_``). Of files the bits of ``solver="gd"`` and ``"lbfgs"``
            are those of the plain estimator on the same files.
        y : not given
            The target is a column.
        target : str
            The name of the target's column; a store has its own.
        sample_weight : str, optional
            The name of a column of weights.
        resume : Checkpoint, optional
            As in the plain estimator's ``fit``.

        Returns
        -------
        self

        Raises
        ------
        ClusterError, InputError, StoreError
            As ``MLPClassifier.fit``.
        TableError
            As the plain estimator's ``fit``; for a partition of other columns or types, which is named.
        """
        if partitions.is_collection(X) or not (_is_store(X) or (target is None and _is_nothing(X))):
            wanted = self._wanted(X, y, target, **more)
            make = ClusterTable.of_partitions if partitions.is_collection(X) else ClusterTable.of_files
            return self._fit_there(lambda workers: make(X, wanted, workers), resume=resume)
        given = {"y": y, "target": target, **more}
        path = _store_path(X)
        return self._fit_there(lambda workers: ClusterStore(path, workers), resume=resume, **given)

    def _wanted(self, X: Any, y: Any, target: str | None, sample_weight: Any = None, **held_out: Any) -> Any:
        """What is asked of a table. InputError, or TableError, for what a cluster does not take."""
        if not partitions.is_collection(X) and not paths_of(X):
            raise InputError(
                f"a cluster learns from a store, files or a Dask DataFrame; got {type(X).__name__}. The plain "
                "estimators learn from what is in this process."
            )
        if target is None or y is not None:
            raise TableError("on a cluster the target is a column of the table: give target=, its name, and no y.")
        if not isinstance(sample_weight, (str, type(None))):
            raise InputError("on a cluster the weights are a column of the table: give sample_weight=, its name.")
        if any(one is not None for one in held_out.values()):
            raise InputError(
                "on a cluster a share of the table is held out; X_val, y_val and their weights are refused."
            )
        return Wanted.of(self, target, sample_weight)

    def predict(self, X: Any) -> Any:
        """As the plain estimator; of a Dask DataFrame lazily, partition by partition, in their order."""
        return self._of_blocks("predict", X)

    def evaluate(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """The scores, as the plain estimator; of a Dask DataFrame that has the target: lazily, a ``dask.delayed``."""
        if not partitions.is_collection(X):
            return super().evaluate(X, y, sample_weight)  # type: ignore[misc]
        if y is not None or not isinstance(sample_weight, (str, type(None))):
            raise InputError("the target of a Dask DataFrame is its column, and so are weights: by name.")
        return partitions.scored(self.to_local(), X, sample_weight)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """As the plain estimator; of a Dask DataFrame that has the target: lazily, a ``dask.delayed``."""
        if not partitions.is_collection(X):
            return super().score(X, y, sample_weight)  # type: ignore[misc]
        return partitions.score_of_table(self.to_local(), X, y, sample_weight)

    def _of_blocks(self, method: str, X: Any) -> Any:
        if partitions.is_collection(X):
            return partitions.mapped(self.to_local(), method, X)
        return getattr(super(), method)(X)


@_like(tables.TableClassifier)
class TableClassifier(_Probabilities, _Table, tables.TableClassifier):
    """``fullbatch.TableClassifier`` on a cluster.

    ``batch_size=None`` is whole leaves, a power of two of them, so many that an epoch has up to 256 updates.
    """

    _plain = tables.TableClassifier
    __init__ = _with_client(tables.TableClassifier)


@_like(tables.TableRegressor)
class TableRegressor(_Table, tables.TableRegressor):
    """``fullbatch.TableRegressor`` on a cluster; batches are as of ``TableClassifier``."""

    _plain = tables.TableRegressor
    __init__ = _with_client(tables.TableRegressor)


def _is_store(X: Any) -> bool:
    """Whether X is a store, or would be one if it were there: a path of one that has no table's ending."""
    if isinstance(X, Store):
        return True
    return isinstance(X, (str, os.PathLike)) and (is_store(X) or os.fspath(X).endswith(".store"))


def _is_nothing(X: Any) -> bool:
    """Whether X is a path at which nothing is."""
    return isinstance(X, (str, os.PathLike)) and not os.path.exists(X)


def _store_path(X: Any) -> str:
    """The path of the store that is meant. InputError where it is none."""
    if isinstance(X, Store):
        return os.fspath(X.path)
    if isinstance(X, (str, os.PathLike)):
        if os.path.exists(X) and not is_store(X):
            raise InputError(
                f"{X} is no store, and a cluster learns from a store or a Dask collection: `fullbatch convert {X} "
                "--target COLUMN --out STORE` writes one."
            )
        return os.fspath(X)
    raise InputError(
        f"a cluster learns from a store, its path, or a Dask collection; got {type(X).__name__}. The plain estimators "
        "learn from what is in this process."
    )
