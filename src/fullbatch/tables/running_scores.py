"""Scores of rows that come in parts, in memory that does not grow with them.

Up to EXACT rows are kept, and scored at once as those of a table are. Of more, whatever is a sum is summed in float64
(log-loss, accuracy, the confusion matrix, errors and r2), and whatever follows from the order of rows (auc, average
precision, a threshold) comes from a histogram of the logit: two of them add, and what is lost is the order within a
bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.errors import InputError
from fullbatch.tables.scores import NOTHING, best_threshold, decide, score_by, score_classes

if TYPE_CHECKING:
    from fullbatch.tables.network import TableNetwork

EXACT = 2**20  # So many rows are scored at once, as those of a table are,
ENTRIES = 2**24  # where they have so many probabilities at most.
BINS = 2**20
MOST_BINS = 2**23  # of all classes together
FARTHEST = 64.0  # Logits and logarithms beyond this are one bin.
THRESHOLDS = 100  # So many are tried, as scikit-learn's tuner does.

OF_RANKS = {"roc_auc": "auc", "average_precision": "average_precision"}  # metrics that the scores have already
OF_ERRORS = {"r2": ("r2", 1), "neg_root_mean_squared_error": ("rmse", -1), "neg_mean_absolute_error": ("mae", -1)}


def kept(m: int, k: int) -> bool:
    """Whether so many rows of so many classes are scored at once."""
    return m <= EXACT and m * k <= ENTRIES


def check_counted(metric: str | None, k: int) -> None:
    """InputError for a metric that does not follow from counts and sums, which are what many rows leave.

    k : classes; 0: numbers
    """
    from sklearn.metrics import get_scorer

    if metric is None or metric == "neg_log_loss" or metric in (OF_RANKS if k == 2 else () if k else OF_ERRORS):
        return
    if not k or getattr(get_scorer(metric), "_response_method", "") != "predict":
        raise InputError(
            f"the metric {metric!r} needs all rows at once, and here are more than {EXACT:,}; choose one of predicted "
            "classes, such as f1, or leave it away."
            if k
            else f"the metric {metric!r} needs all rows at once, and here are more than {EXACT:,}; choose one of "
            f"{', '.join(OF_ERRORS)}."
        )


class ClassScores:
    """The scores of ``score_classes``, of parts.

    k : classes
    threshold : of two classes, the probability from which on the second is predicted
    metric : a name of scikit-learn's ``scoring``, by which rows are scored besides
    """

    def __init__(self, k: int, threshold: float | None = None, metric: str | None = None) -> None:
        self.k, self.threshold, self.metric = k, threshold, metric
        self.m = 0
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []
        self.ranks: list[Ranks] = []  # none as long as the parts are kept
        self.matrix = np.zeros((k, k))
        self.loss, self.whole = 0.0, True

    def add(self, log_proba: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Logarithms of probabilities (rows, k), each row's own class (rows,), and what it counts."""
        target = target.astype(np.int64, copy=False)
        self.m += len(target)
        if not self.ranks:
            self.parts.append((log_proba, target, weight))
            if kept(self.m, self.k):
                return
            check_counted(self.metric, self.k)
            bins = min(BINS, MOST_BINS // self.k)
            self.ranks = [Ranks(bins) for _ in range(1 if self.k == 2 else self.k)]
            parts, self.parts = self.parts, []
        else:
            parts = [(log_proba, target, weight)]
        for part in parts:
            self._count(*part)

    def _count(self, log_proba: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> None:
        own = np.take_along_axis(log_proba, target[:, np.newaxis], axis=1)[:, 0].astype(np.float64)
        self.loss -= float(own.sum() if weight is None else own @ weight.astype(np.float64))
        predicted = decide(np.exp(log_proba) if self.threshold is not None else log_proba, self.threshold)
        pairs = np.bincount(target * self.k + predicted, weights=weight, minlength=self.k**2)
        self.matrix += pairs.reshape(self.k, self.k)
        self.whole &= weight is None
        if self.k == 2:
            self.ranks[0].add(log_proba[:, 1].astype(np.float64) - log_proba[:, 0], target == 1, weight)
            return
        for j, one in enumerate(self.ranks):
            one.add(log_proba[:, j], target == j, weight)

    def scores(self) -> dict[str, Any]:
        """As ``score_classes`` has them; ``bins`` where the order of rows is known to within a bin."""
        if self.ranks:
            scores = self._of_counts()
        else:
            log_proba, target, weight = _joined(self.parts)
            scores = score_classes(log_proba, target, weight, self.threshold)
        if self.metric is not None:
            scores["metric"] = {"name": self.metric, "value": self._by_metric(scores)}
        return scores

    def _of_counts(self) -> dict[str, Any]:
        total = float(self.matrix.sum())
        areas = [area for one in self.ranks if not np.isnan(area := one.auc())]
        loss = self.loss / total
        scored = {"m": self.m, "cost": loss, "accuracy": float(np.trace(self.matrix)) / total}
        scored["auc"] = float(np.mean(areas)) if areas else NOTHING
        if self.k == 2:
            scored["average_precision"] = self.ranks[0].average_precision()
        matrix = self.matrix.astype(np.int64) if self.whole else self.matrix
        return {**scored, "log_loss": loss, "confusion_matrix": matrix.tolist(), "bins": len(self.ranks[0].counts[0])}

    def _by_metric(self, scores: dict[str, Any]) -> float:
        assert self.metric is not None
        if not self.ranks:
            log_proba, target, weight = _joined(self.parts)
            return score_by(self.metric, np.exp(log_proba), target, weight, self.threshold)
        if self.metric == "neg_log_loss":
            return -float(scores["log_loss"])
        if self.metric in OF_RANKS:
            return float(scores[OF_RANKS[self.metric]])
        return _by_counts(self.metric, self.matrix)

    def best_threshold(self, metric: str | None) -> float:
        """That by which these rows have the highest score, as ``scores.best_threshold`` has it."""
        metric = metric or "balanced_accuracy"
        if not self.ranks:
            log_proba, target, weight = _joined(self.parts)
            return best_threshold(np.exp(log_proba), target, metric, weight)
        check_counted(metric, 2)
        return self.ranks[0].best_threshold(metric)


def _joined(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]) -> Any:
    """All rows at once."""
    if len(parts) > 1:
        columns = zip(*parts, strict=True)
        parts[:] = [tuple(None if column[0] is None else np.concatenate(column) for column in columns)]  # type: ignore[list-item]
    return parts[0]


def _by_counts(metric: str, matrix: np.ndarray) -> float:
    """The score of as many rows of each true and predicted class as a confusion matrix counts."""
    k = len(matrix)
    true, predicted = np.divmod(np.arange(k * k), k)
    there = matrix.reshape(-1) > 0
    return score_by(metric, np.eye(k)[predicted[there]], true[there], matrix.reshape(-1)[there])


class Ranks:
    """The scores of the order of rows, from how many of both kinds have each value, to within a bin; two add.

    counts : (2, bins), of the rows that are none and of those that are; weights where rows have them
    """

    def __init__(self, bins: int = BINS) -> None:
        self.counts = np.zeros((2, bins))

    def add(self, values: np.ndarray, positive: np.ndarray, weight: np.ndarray | None = None) -> None:
        bins = self.bins_of(values)
        for counts, rows in zip(self.counts, (~positive, positive), strict=True):
            own = None if weight is None else weight[rows]
            counts += np.bincount(bins[rows], weights=own, minlength=len(counts))

    def bins_of(self, values: np.ndarray) -> np.ndarray:
        # Bins are narrowest around 0, where most logits are: of BINS 9e-6 there, 4e-5 at 4.
        end, bins = np.arcsinh(FARTHEST), self.counts.shape[1]
        return np.clip((np.arcsinh(values) + end) * (bins / (2 * end)), 0, bins - 1).astype(np.int64)

    def auc(self) -> float:
        negative, positive = self.counts
        pairs = negative.sum() * positive.sum()
        return float(((np.cumsum(negative) - negative / 2) @ positive) / pairs) if pairs else NOTHING

    def average_precision(self) -> float:
        """The rows of a bin have one threshold, as those of one value have."""
        negative, positive = self.counts[:, ::-1]
        if not positive.sum() or not negative.sum():
            return NOTHING
        right = np.cumsum(positive)
        all_so_far = right + np.cumsum(negative)
        precision = np.divide(right, all_so_far, out=np.zeros_like(right), where=all_so_far > 0)
        return float((positive * precision).sum() / right[-1])

    def best_threshold(self, metric: str) -> float:
        """The lower end of a bin, as a probability, from which on to say yes gives the highest score."""
        if not self.counts.sum(axis=1).all():
            raise InputError("the held-out rows are of one class, so no threshold can be chosen on them.")
        end, bins = np.arcsinh(FARTHEST), self.counts.shape[1]
        filled = np.flatnonzero(self.counts.sum(axis=0))
        edges = np.sinh(np.arange(bins + 1) * (2 * end / bins) - end)
        least, greatest = (1 / (1 + np.exp(-edges[[filled[0], filled[-1]]]))).tolist()
        tried = np.linspace(least, greatest, THRESHOLDS)
        logits = np.log(tried) - np.log1p(-tried)
        at = np.unique(np.clip(self.bins_of(logits), 1, bins - 1))
        below = np.cumsum(self.counts, axis=1)[:, at - 1]
        above = self.counts.sum(axis=1, keepdims=True) - below
        found = [_by_counts(metric, np.stack([b, a], axis=1)) for b, a in zip(below.T, above.T, strict=True)]
        return float(1 / (1 + np.exp(-edges[at[int(np.argmax(found))]])))


class NumberScores:
    """The scores of a regression, of parts: what ``TableNetwork.evaluate`` gives of all rows.

    network : what predicted, whose encoding and loss are needed
    """

    def __init__(self, network: TableNetwork, metric: str | None = None) -> None:
        self.network, self.metric = network, metric
        self.m = 0
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []
        self.errors: Errors | None = None

    def add(self, scaled: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Predictions (rows,) and the targets, both scaled as in training, and what each row counts."""
        self.m += len(target)
        parts = [(scaled, target, weight)]
        if self.errors is None:
            self.parts += parts
            if kept(self.m, 0):
                return
            check_counted(self.metric, 0)
            self.errors, parts, self.parts = Errors(), self.parts, []
        decode = self.network.encoding.decode_target
        for predicted, y, w in parts:
            own = decode(y, predicted=False)
            losses = self.network.losses(predicted.astype(np.float64), y.astype(np.float64))
            self.errors.add(losses, decode(predicted.astype(np.float64)) - own, own, w)

    def scores(self) -> dict[str, Any]:
        if self.errors is None:
            scaled, target, weight = _joined(self.parts)
            return self.network.score_numbers(scaled.astype(np.float64), target, weight, self.metric)
        scores = {"m": self.m, **self.errors.scores()}
        if self.metric is not None:
            name, sign = OF_ERRORS[self.metric]
            scores["metric"] = {"name": self.metric, "value": sign * scores[name]}
        return scores


@dataclass
class Errors:
    """Sums of errors, and of the deviations of what was to be predicted (Chan, Golub and LeVeque 1979)."""

    total: float = 0.0  # of the weights
    cost: float = 0.0
    squares: float = 0.0
    absolute: float = 0.0
    mean: float = 0.0
    spread: float = 0.0
    least: float = np.inf
    greatest: float = -np.inf

    def add(self, losses: np.ndarray, error: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> None:
        w = np.ones(len(target)) if weight is None else weight.astype(np.float64)
        count = float(w.sum())
        mean = float(target @ w) / count
        apart, total = mean - self.mean, self.total + count
        self.spread += float(((target - mean) ** 2) @ w) + apart * apart * self.total * count / total
        self.mean += apart * count / total
        self.total = total
        self.least, self.greatest = min(self.least, float(target.min())), max(self.greatest, float(target.max()))
        self.cost += float(losses @ w)
        self.squares += float(error**2 @ w)
        self.absolute += float(np.abs(error) @ w)

    def scores(self) -> dict[str, Any]:
        return {
            "cost": self.cost / self.total,
            "r2": 1 - self.squares / self.spread if self.least < self.greatest else NOTHING,
            "rmse": (self.squares / self.total) ** 0.5,
            "mae": self.absolute / self.total,
        }
