"""Scores of predictions, as scikit-learn computes them: of classes by their probabilities, of numbers by distance."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fullbatch.errors import InputError

NUMBERS = np.array([1.25, 2.5, 5.0])  # on which a metric is tried
NOTHING = float("nan")  # a score that is not defined: that of the order of rows, where all are of one class


def score_classes(
    log_proba: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    threshold: float | None = None,
) -> dict[str, Any]:
    """m, cost, accuracy, auc, average_precision (of two classes), log_loss and confusion_matrix.

    Parameters
    ----------
    log_proba : ndarray, shape (m, k)
        Logarithms of the probabilities of k classes.
    target : ndarray, shape (m,)
        The index of each row's own class.
    weight : ndarray, shape (m,), optional
        What each row counts.
    threshold : float, optional
        Of two classes, the probability from which on the second is predicted; None: the more probable one is.

    Returns
    -------
    dict
        ``confusion_matrix`` has a row for each true class and a column for each predicted one. ``auc`` is, of more than
        two classes, that of one against the rest, the mean over the classes that some rows have and some have not; NaN
        where there is none.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix

    m, k = log_proba.shape
    own = np.take_along_axis(log_proba, target[:, np.newaxis], axis=1)[:, 0]
    log_loss = -float(np.average(own.astype(np.float64), weights=weight))
    predicted = decide(np.exp(log_proba) if threshold is not None else log_proba, threshold)
    scores: dict[str, Any] = {
        "m": m,
        "cost": log_loss,
        "accuracy": float(accuracy_score(target, predicted, sample_weight=weight)),
        **_ranking(log_proba, target, weight),
        "log_loss": log_loss,
    }
    matrix = confusion_matrix(target, predicted, labels=np.arange(k), sample_weight=weight)
    return {**scores, "confusion_matrix": matrix.tolist()}


def _ranking(log_proba: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> dict[str, float]:
    """The scores of the order in which probabilities put the rows."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    k = log_proba.shape[1]
    if k == 2:
        positive, order = target == 1, log_proba[:, 1] - log_proba[:, 0]
        if positive.all() or not positive.any():
            return {"auc": NOTHING, "average_precision": NOTHING}
        return {
            "auc": float(roc_auc_score(positive, order, sample_weight=weight)),
            "average_precision": float(average_precision_score(positive, order, sample_weight=weight)),
        }
    there = np.bincount(target, minlength=k)
    areas = [
        roc_auc_score(target == j, log_proba[:, j], sample_weight=weight)
        for j in range(k)
        if 0 < there[j] < len(target)
    ]
    return {"auc": float(np.mean(areas)) if areas else NOTHING}


def decide(proba: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """The index of each row's predicted class, (m,): the most probable, or, from the threshold on, the second."""
    if threshold is None:
        return np.argmax(proba, axis=1)
    return (proba[:, 1] >= threshold).astype(np.intp)


def score_numbers(predicted: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> dict[str, float]:
    """r2, rmse and mae of predictions (m,) for the true numbers (m,). r2 is NaN where these are all the same."""
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    spread = bool(np.any(target != target[:1]))
    return {
        "r2": float(r2_score(target, predicted, sample_weight=weight)) if spread else NOTHING,
        "rmse": float(root_mean_squared_error(target, predicted, sample_weight=weight)),
        "mae": float(mean_absolute_error(target, predicted, sample_weight=weight)),
    }


# --- A score by scikit-learn's name, and the threshold that is best by it --------------------------------------------


def check_metric(metric: str, k: int | None = None) -> None:
    """InputError for a name that ``sklearn.metrics.get_scorer`` does not know, or that does not fit the task.

    k : classes; 0: numbers are predicted; None: not known yet, so that the name alone is checked
    """
    from sklearn.metrics import get_scorer_names

    names = get_scorer_names()
    if metric not in names:
        near = difflib.get_close_matches(metric, names, 3)
        others = f"near are {', '.join(near)}" if near else "its user guide lists them, accuracy, f1 and r2 among them"
        raise InputError(f"{metric!r} is no metric of scikit-learn's scoring; {others}.")
    if k is not None:  # What does not fit fails on any predictions, so that nobody trains for hours to hear of it.
        right = np.arange(2 * k) % k if k else NUMBERS
        score_by(metric, 0.4 * np.eye(k)[right] + 0.6 / k if k else right, right)
        if k and _scores_numbers(metric):
            raise InputError(f"the metric {metric!r} does not fit here: it is of numbers, and classes are predicted.")


def _scores_numbers(metric: str) -> bool:
    """Whether a metric takes what is no class; of classes it would score the numbers by which they are counted."""
    try:
        score_by(metric, NUMBERS, NUMBERS)
    except InputError:
        return False
    return True


def score_by(
    metric: str,
    predicted: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    threshold: float | None = None,
) -> float:
    """The score by a name of scikit-learn's ``scoring``, of which more is better.

    predicted : probabilities (m, k), or numbers (m,)
    target : the index of each row's own class, or the true numbers, (m,)
    """
    from sklearn.metrics import get_scorer

    from fullbatch.tables.known import known

    weights = {} if weight is None else {"sample_weight": weight}
    try:
        with _undefined_in_silence():
            # Those of clusterings warn where they are given numbers, and score each as a cluster of its own.
            warnings.filterwarnings("error", message="Clustering metrics expects discrete values")
            return float(get_scorer(metric)(known(predicted, threshold), predicted, target, **weights))
    except (ValueError, TypeError, AttributeError, UserWarning) as error:
        raise InputError(f"the metric {metric!r} does not fit here: {str(error).splitlines()[0]}") from error


@contextmanager
def _undefined_in_silence() -> Iterator[None]:
    """A score that scikit-learn calls undefined is 0 by its rule: the precision of a guess that never says yes."""
    from sklearn.exceptions import UndefinedMetricWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        yield


def check_two_classes(target: np.ndarray) -> None:
    """InputError where held-out rows are of one class, on which no threshold can be chosen."""
    if len(np.unique(target)) < 2:
        raise InputError("the held-out rows are of one class, so no threshold can be chosen on them.")


def best_threshold(
    proba: np.ndarray, target: np.ndarray, metric: str = "balanced_accuracy", weight: np.ndarray | None = None
) -> float:
    """The threshold by which these rows' predictions of two classes have the highest score, by scikit-learn's tuner.

    proba : probabilities (m, 2);  target : 0 or 1 for each row, (m,)
    """
    import sklearn
    from sklearn.metrics import get_scorer
    from sklearn.model_selection import TunedThresholdClassifierCV

    from fullbatch.tables.known import known

    if proba.shape[1] != 2:
        raise InputError(f"a threshold is of two classes; here are {proba.shape[1]}.")
    check_two_classes(target)
    weights = {} if weight is None else {"sample_weight": weight}
    try:
        with sklearn.config_context(enable_metadata_routing=True), _undefined_in_silence():
            scorer = get_scorer(metric).set_score_request(sample_weight=weight is not None)
            tuner = TunedThresholdClassifierCV(known(proba), scoring=scorer, cv="prefit", refit=False)
            return float(tuner.fit(proba, target, **weights).best_threshold_)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"no threshold can be chosen by {metric!r}: {str(error).splitlines()[0]}") from error
