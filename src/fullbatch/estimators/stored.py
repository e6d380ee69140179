"""A store as what ``fit`` works on: its own target, weights and held-out rows, none of them in memory as a whole."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fullbatch.core.losses import LOSSES, check_quantile
from fullbatch.errors import ArrayTypeError
from fullbatch.estimators.inputs import Inputs, check_features, placed
from fullbatch.estimators.job import Part, Target
from fullbatch.sources.columns import Examples
from fullbatch.sources.fingerprints import fingerprint
from fullbatch.sources.spread import spread
from fullbatch.sources.store_parts import AnyPart, Reweighted, class_totals
from fullbatch.sources.windows import part_of


def read_store(
    estimator: Any, store: Any, given: tuple[Any, ...], *, first: bool, dtype: str | None, record: Any
) -> tuple[Inputs, Target, Part, Part | None]:
    """The inputs, the target, and the examples to learn from and to score.

    store : a Store, or a ShardedTable of a cluster
    given : what a store brings itself: y, sample_weight, X_val, y_val, sample_weight_val
    first : a fit that starts anew;  dtype : as which the estimator was fitted before

    Raises ValueError for whatever the store does not go with.
    """
    _check(estimator, store, given, dtype)
    check_features(estimator, store.n, first)
    k = len(store.classes)
    if k:
        codes = getattr(estimator, "_learns_codes", False)
        estimator._set_classes(np.arange(k) if codes else np.array(store.classes), not first)
    train, held_out = _weighted(estimator, store)
    whole = store.examples(train)
    inputs = placed(whole.X, estimator.device)
    unit = ("softmax" if k > 2 else "logistic") if k else LOSSES[estimator.loss].output
    target = Target(np.empty(0), max(k, 2) if k else 0, k if k > 2 else 1, unit)
    if record.active:
        data, resumed = record.facts["data"], record.resumed
        data["X"] = fingerprint(whole.X)
        if store.held_out.m and (resumed is None or "X_val" in resumed.facts["data"]):  # an earlier version had none
            data["X_val"] = fingerprint(store.examples(held_out).X)
    test = None
    if store.held_out.m:
        test = Part(spread(store.examples(held_out, inputs.place), inputs.X), *_labels(estimator, store.held_out))
    elif estimator.early_stopping:
        raise ValueError(f"early_stopping needs held-out rows, and {store.path} has none: convert it with a share.")
    return inputs, target, Part(spread(store.examples(train, inputs.place), inputs.X), target.values, None), test


def _weighted(estimator: Any, store: Any) -> tuple[AnyPart, AnyPart]:
    """The rows to learn from and the held-out ones, weighed by class where the estimator asks for that."""
    asked = getattr(estimator, "class_weight", None)
    if asked is None:
        return store.train, store.held_out
    by_class = estimator._weight_of_classes(partial(class_totals, store.train, len(store.classes)))
    if not np.isfinite(by_class.astype(store.dtype)).all() or not by_class.any():
        raise ValueError(f"class_weight {asked!r} must be finite as {store.dtype.name}, and above 0 for one class.")
    # In memory too, weights of classes are float64, and those of rows that are held out are of the table's type.
    return Reweighted(store.train, by_class), Reweighted(store.held_out, by_class.astype(store.dtype))


def least_cost(examples: Examples, loss: str) -> float:
    """The mean of the least loss of each row of a store, which no parameter changes."""
    part, total, count = part_of(examples), 0.0, 0.0
    if part is None:
        raise ValueError(f"loss={loss!r} does not go with a store on a cluster; train from it in one process.")
    least = LOSSES[loss].least
    assert least is not None
    for start in range(0, part.m, part.leaf):
        found = part.arrays(slice(start, min(start + part.leaf, part.m)))
        weight = np.ones(len(found.y)) if found.weight is None else found.weight.astype(np.float64)
        total += float(np.reshape(least(found.y.astype(np.float64)[np.newaxis], np), -1) @ weight)
        count += float(weight.sum())
    return total / count


def _check(estimator: Any, store: Any, given: tuple[Any, ...], dtype: str | None) -> None:
    if any(one is not None for one in given):
        raise ValueError(
            "a store has its target, its weights and its held-out rows itself: fit(store) takes no y, sample_weight or "
            "X_val beside it."
        )
    classifies = hasattr(estimator, "predict_proba")
    if classifies != (store.task == "classify"):
        raise ValueError(f"{type(estimator).__name__} cannot learn from {store.path}, which was made to {store.task}.")
    poisson = store.content.get("loss") == "poisson"
    if not classifies and (estimator.loss == "poisson") != poisson:
        made = "for loss='poisson', whose" if poisson else "for other losses than 'poisson', and its"
        raise ValueError(
            f"loss={estimator.loss!r} does not go with {store.path}: it was made {made} target is scaled in another "
            "way; convert the table for this loss."
        )
    if not classifies:
        check_quantile(estimator.loss, estimator.quantile)
    if dtype not in (None, store.dtype.name):
        raise ArrayTypeError(f"the store is of {store.dtype.name} and it must be of {dtype}.")


def _labels(estimator: Any, part: AnyPart) -> tuple[np.ndarray, np.ndarray | None]:
    """The held-out target, and its weights, in memory where a score needs them; the loss does not."""
    if not estimator.early_stopping or estimator.scoring == "loss":
        return np.empty(0), None
    y = np.empty(part.m, part.kinds["y"][0])
    part.fill("y", slice(0, part.m), y)
    if "weight" not in part.kinds:
        return y, None
    weight = np.empty(part.m, part.kinds["weight"][0])
    part.fill("weight", slice(0, part.m), weight)
    return y, weight
