"""Dask's collections: partitions that stay where they are, as examples of a cluster, and as rows to predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fullbatch.errors import ArrayTypeError, ClusterError, InputError, TableError
from fullbatch.sources.pieces import BlockRows, Facts, as_block, facts
from fullbatch.sources.sharded import Count, Piece, Sharded, ShardedTable
from fullbatch.tables.network import TableNetwork


def is_collection(X: Any) -> bool:
    """Whether X is a Dask Array, DataFrame or Series."""
    return callable(getattr(X, "__dask_graph__", None)) and hasattr(X, "to_delayed")


# What all partitions must have alike, and how an error calls it.
WORDS = {"n": "a number of columns of", "dtype": "numbers of", "columns": "the columns"}


# --- On the driver --------------------------------------------------------------------------------------------------


def gathered(estimator: Any, X: Any, y: Any, sample_weight: Any, workers: Any) -> ShardedTable:
    """A collection, with y and weights beside it, as examples; each partition stays where it is."""
    classify = hasattr(estimator, "predict_proba")
    _check(estimator, X, y, sample_weight, classify)
    client = workers.client
    blocks, found = _computed(client, X, y, sample_weight, classify)
    told: list[Facts] = client.gather(found)
    _check_alike(told)
    classes = None
    if classify:
        classes = np.unique(np.concatenate([one.labels for one in told if one.labels is not None]))
    where = client.who_has(blocks)
    pieces = []
    for number, (block, one) in enumerate(zip(blocks, told, strict=True)):
        if not where.get(block.key):
            raise ClusterError(f"partition {number} is on no worker any more; persist the collection again.")
        pieces.append(Piece(one.rows, where[block.key][0], block))
    m, n, dtype = sum(one.rows for one in told), told[0].n, np.dtype(told[0].dtype)
    rows = BlockRows(n, classes)
    sharded = Sharded(n, m, np.empty((n, 0), dtype), rows, workers, tuple(pieces))
    if told[0].columns:
        estimator.feature_names_in_ = np.array(told[0].columns, dtype=object)
    labels = () if classes is None else tuple(classes.tolist())
    return ShardedTable(n, labels, dtype, Count(m), sharded, "classify" if classify else "regress")


def _check(estimator: Any, X: Any, y: Any, sample_weight: Any, classify: bool) -> None:
    if getattr(X, "ndim", 0) != 2:
        raise InputError(f"X must have two axes, rows and features; it has {getattr(X, 'ndim', 'none')}.")
    for name, one in (("y", y), ("sample_weight", sample_weight)):
        if one is None and name == "sample_weight":
            continue
        if not is_collection(one):
            raise ArrayTypeError(f"{name} must be a Dask Array or Series as X is; got {type(one).__name__}.")
        if one.ndim != 1:
            raise InputError(f"{name} must have one axis on a cluster; it has {one.ndim}.")
    if getattr(estimator, "class_weight", None) is not None:
        raise InputError("class_weight is refused with a Dask collection; give sample_weight.")
    if not classify and estimator.loss == "poisson":
        raise InputError("loss='poisson' is refused with a Dask collection.")


def _computed(client: Any, X: Any, y: Any, weight: Any, classify: bool) -> tuple[list[Any], list[Any]]:
    """Futures of the partitions as blocks, and of what is known of each."""
    import dask

    parts = _delayed(X)
    beside = [[None] * len(parts) if one is None else _delayed(one) for one in (y, weight)]
    for name, others in zip(("y", "sample_weight"), beside, strict=True):
        if len(others) != len(parts):
            raise InputError(f"X has {len(parts)} partitions and {name} {len(others)}: rechunk them alike.")
    makes, tells = dask.delayed(as_block, pure=False), dask.delayed(facts, pure=False)
    blocks = [makes(i, part, *others, classify) for i, (part, *others) in enumerate(zip(parts, *beside, strict=True))]
    found = [tells(block, part, classify) for block, part in zip(blocks, parts, strict=True)]
    futures = client.compute([*blocks, *found])
    return futures[: len(parts)], futures[len(parts) :]


def _delayed(X: Any) -> list[Any]:
    """The partitions of rows, each a delayed value."""
    if hasattr(X, "chunks") and getattr(X, "ndim", 0) == 2 and X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    return list(np.ravel(X.to_delayed()))


def _check_alike(told: Sequence[Facts]) -> None:
    first = told[0]
    for number, one in enumerate(told):
        for name in ("n", "dtype", "columns"):
            if getattr(one, name) != getattr(first, name):
                own, other = getattr(one, name), getattr(first, name)
                raise TableError(
                    f"partition {number} has {WORDS[name]} {own!r} and partition 0 {other!r}; all need the same."
                )
    if not sum(one.rows for one in told):
        raise TableError("the collection has no row.")


# --- Predictions ----------------------------------------------------------------------------------------------------


def mapped(model: Any, method: str, X: Any) -> Any:
    """What a method of a plain estimator makes of each partition, lazily and in their order: an array."""
    import dask
    import dask.array as da

    call = Call(model, method)
    empty = call.empty
    if not hasattr(X, "chunks"):  # a frame, of whose partitions nobody knows the lengths
        made, shape = dask.delayed(call, pure=False), (np.nan, *empty.shape[1:])
        return da.concatenate([da.from_delayed(made(part), shape, empty.dtype) for part in X.to_delayed()])
    if X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    if empty.ndim == 1:
        return X.map_blocks(call, dtype=empty.dtype, drop_axis=1, meta=empty)
    return X.map_blocks(call, dtype=empty.dtype, chunks=(X.chunks[0], (empty.shape[1],)), meta=empty)


class Call:
    """A method of a plain estimator, as tasks have it.

    empty : what it makes of no row
    """

    def __init__(self, model: Any, method: str) -> None:
        # Dask gives each thread of a worker a task, so that a task takes one; no bit depends on their number.
        if model.n_jobs is None:
            model.n_jobs = 1
        self.model, self.method = model, method
        table = getattr(model, "network_", None)
        dtype = np.dtype(model.coefs_[0].dtype if table is None else table.theta.dtype)
        classes: Any = getattr(model, "classes_", None)
        if method != "predict":
            self.empty = np.empty((0, len(np.ravel(classes))), dtype)
        elif classes is not None:
            self.empty = np.empty(0, classes.dtype)
        else:
            self.empty = np.empty(0, dtype if table is None else np.float64)

    def __call__(self, X: Any) -> np.ndarray:
        if not len(X):
            return self.empty
        return np.asarray(getattr(self.model, self.method)(X)).astype(self.empty.dtype, copy=False)


def score_of(model: Any, X: Any, y: Any, sample_weight: Any) -> Any:
    """``model.score`` of partitions, lazily: each is predicted where it lies, and one worker scores."""
    import dask

    for name, one in (("y", y), ("sample_weight", sample_weight)):
        if not is_collection(one) and not (name == "sample_weight" and one is None):
            raise ArrayTypeError(f"{name} must be a Dask Array or Series as X is; got {type(one).__name__}.")
    beside = [y, *([] if sample_weight is None else [sample_weight])]
    return dask.delayed(_score, pure=False)(hasattr(model, "predict_proba"), mapped(model, "predict", X), *beside)


def score_of_table(model: Any, X: Any, y: Any, sample_weight: Any) -> Any:
    """The same of a table's model, whose target is a column of the frame."""
    if y is not None or sample_weight is not None:
        raise InputError("the target of a Dask DataFrame is its column; evaluate takes weights, by name.")
    import dask

    target = model.network_.encoding.target
    return dask.delayed(_score, pure=False)(hasattr(model, "predict_proba"), mapped(model, "predict", X), X[target])


def _score(classifies: bool, predicted: np.ndarray, y: Any, weight: Any = None) -> float:
    from sklearn.metrics import accuracy_score, r2_score

    score = accuracy_score if classifies else r2_score
    return float(score(np.asarray(y), predicted, sample_weight=None if weight is None else np.asarray(weight)))


def scored(model: Any, X: Any, weight: str | None) -> Any:
    """The scores of a table's model on a frame's rows, lazily: partitions are predicted, and one worker scores."""
    import dask

    predicted, scores = dask.delayed(_predicted, pure=False), dask.delayed(_scores, pure=False)
    return scores(model, [predicted(model, part, weight) for part in X.to_delayed()])


def _predicted(model: Any, X: Any, weight: str | None) -> Any:
    """What the network makes of the rows of a partition that have a target, their targets and weights."""
    network = model.network_.on("cpu", None, 1)
    table = network.read(X, with_target=True, more=[weight] if weight else [])
    if not table.m or table.column(network.encoding.target).missing.all():
        return None
    return network.scored(table, model._weights(table, weight))


def _scores(model: Any, parts: Sequence[Any]) -> dict[str, Any]:
    parts = [part for part in parts if part is not None]
    if not parts:
        raise TableError("no row has the target; expected at least one that has it.")
    made, target, weights = zip(*parts, strict=True)
    weight = None if weights[0] is None else np.concatenate(weights)
    network: TableNetwork = model.network_
    return network.scores_of(np.concatenate(made), np.concatenate(target), weight, model.metric)
