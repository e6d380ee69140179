"""A store as what ``fit`` works on: its own target, weights and held-out rows, none of them in memory as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from fullbatch.core.losses import check_quantile
from fullbatch.errors import ArrayTypeError
from fullbatch.estimators.inputs import Inputs, check_features, placed
from fullbatch.estimators.job import Part, Target
from fullbatch.sources.fingerprints import fingerprint
from fullbatch.sources.stored import LoadedPart
from fullbatch.sources.stored import Part as StorePart


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
    whole = store.examples(store.train)
    inputs = placed(whole.X, estimator.device)
    k = len(store.classes)
    if k:
        estimator._set_classes(np.array(store.classes), not first)
    target = Target(
        np.empty(0), max(k, 2) if k else 0, k if k > 2 else 1, "softmax" if k > 2 else "logistic" if k else "identity"
    )
    if record.active:
        record.facts["data"]["X"] = fingerprint(whole.X)
    test = None
    if store.held_out.m:
        examples = store.examples(store.held_out, inputs.place)
        test = Part(examples, _labels(estimator, store.held_out), None)
    elif estimator.early_stopping:
        raise ValueError(f"early_stopping needs held-out rows, and {store.path} has none: convert it with a share.")
    return inputs, target, Part(store.examples(store.train, inputs.place), target.values, None), test


def _check(estimator: Any, store: Any, given: tuple[Any, ...], dtype: str | None) -> None:
    if any(one is not None for one in given):
        raise ValueError(
            "a store has its target, its weights and its held-out rows itself: fit(store) takes no y, sample_weight or "
            "X_val beside it."
        )
    classifies = hasattr(estimator, "predict_proba")
    if classifies != (store.task == "classify"):
        raise ValueError(f"{type(estimator).__name__} cannot learn from {store.path}, which was made to {store.task}.")
    if getattr(estimator, "class_weight", None) is not None:
        raise ValueError("class_weight is refused with a store: convert the table with a column of weights.")
    if not classifies and estimator.loss == "poisson":
        raise ValueError("loss='poisson' is refused with a store, whose target is scaled to mean 0.")
    if not classifies:
        check_quantile(estimator.loss, estimator.quantile)
    if dtype not in (None, store.dtype.name):
        raise ArrayTypeError(f"the store is of {store.dtype.name} and it must be of {dtype}.")


def _labels(estimator: Any, part: StorePart | LoadedPart) -> np.ndarray:
    """The held-out target in memory where a score needs it; the loss does not."""
    if not estimator.early_stopping or estimator.scoring == "loss":
        return np.empty(0)
    y = np.empty(part.m, part.kinds["y"][0])
    part.fill("y", slice(0, part.m), y)
    return y
