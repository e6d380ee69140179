"""Scores of predictions: of classes by their probabilities, of numbers by their distance."""

from __future__ import annotations

import numpy as np


def score_classes(log_proba: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """m, cost, accuracy, auc and log_loss of logarithms of probabilities (m, k).

    target : the index of each row's own class, (m,)
    """
    m, k = log_proba.shape
    own = np.take_along_axis(log_proba, target[:, np.newaxis], axis=1)
    log_loss = -float(np.mean(own, dtype=np.float64))
    accuracy = float(np.mean(np.argmax(log_proba, axis=1) == target))
    if k == 2:
        auc = area_under_roc(log_proba[:, 1] - log_proba[:, 0], target == 1)
    else:
        areas = [area_under_roc(log_proba[:, j], target == j) for j in range(k)]
        defined = [area for area in areas if not np.isnan(area)]
        auc = float(np.mean(defined)) if defined else float("nan")
    return {"m": m, "cost": log_loss, "accuracy": accuracy, "auc": auc, "log_loss": log_loss}


def score_numbers(predicted: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """r2 and mae of predictions (m,) for the true numbers (m,)."""
    spread = float(np.sum((target - target.mean()) ** 2))
    residual = float(np.sum((target - predicted) ** 2))
    return {
        "r2": 1 - residual / spread if spread else float("nan"),
        "mae": float(np.mean(np.abs(target - predicted))),
    }


def area_under_roc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive row scores higher than a negative one, ties as one half (Mann-Whitney).

    scores : (m,);  positive : bool (m,). NaN where all rows are positive, or none.
    """
    n_positive = int(np.count_nonzero(positive))
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    order = np.argsort(scores)
    ordered = scores[order]
    # Rows of equal scores are a run, from ``start`` to before ``end``. They share the mean of their ranks, which is
    # (start + 1 + end) / 2, so that each pair of them counts as one half.
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ends = np.append(starts[1:], len(ordered))
    positives = np.add.reduceat(positive[order], starts, dtype=np.int64)
    rank_sum = float(np.sum(positives * ((starts + 1 + ends) / 2)))
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
