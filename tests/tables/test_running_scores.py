"""Scores of rows in parts: those of all rows at once, to rounding, and to a bin where the order of rows counts."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fullbatch.core.network import Network
from fullbatch.errors import InputError
from fullbatch.tables import running_scores
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.network import TableNetwork
from fullbatch.tables.quantiles import quantile_of
from fullbatch.tables.raw import RawTable
from fullbatch.tables.running_scores import ClassScores, NumberScores, Ranks

M = 20_000


@pytest.fixture
def few(monkeypatch):
    """So that few rows are many."""
    monkeypatch.setattr(running_scores, "EXACT", 100)


def rows(k, weighted):
    rng = np.random.default_rng(k)
    target = rng.integers(0, k, M)
    z = rng.normal(size=(M, k)) + 2 * np.eye(k)[target]
    log_proba = (z - np.log(np.exp(z).sum(axis=1, keepdims=True))).astype(np.float32)
    return log_proba, target, rng.integers(1, 4, M).astype(np.float32) if weighted else None


def added(scores, *columns):
    for part in np.array_split(np.arange(M), 7):
        scores.add(*(None if column is None else column[part] for column in columns))
    return scores


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("k", "threshold", "metric"), [(2, None, "f1"), (2, 0.3, "roc_auc"), (3, None, "f1_macro")])
def test_classes_in_parts(monkeypatch, k, threshold, metric, weighted):
    columns = rows(k, weighted)
    exact = added(ClassScores(k, threshold, metric), *columns).scores()
    monkeypatch.setattr(running_scores, "EXACT", 100)
    found = added(ClassScores(k, threshold, metric), *columns)
    assert not found.parts
    scores = found.scores()
    assert scores.pop("bins") == running_scores.BINS
    assert np.array_equal(scores.pop("confusion_matrix"), exact.pop("confusion_matrix"))
    assert scores.pop("metric")["value"] == pytest.approx(exact.pop("metric")["value"], abs=1e-6)
    assert scores == pytest.approx(exact, abs=1e-6)


def test_few_rows_are_scored_at_once():
    columns = rows(2, True)
    assert added(ClassScores(2), *columns).scores() == running_scores.score_classes(*columns)


@pytest.mark.parametrize("metric", [None, "f1"])
def test_a_threshold_is_found_in_a_histogram(few, metric):
    log_proba, target, weight = rows(2, True)
    found = added(ClassScores(2), log_proba, target, weight).best_threshold(metric)
    exact = running_scores.best_threshold(np.exp(log_proba), target, metric or "balanced_accuracy", weight)
    by = metric or "balanced_accuracy"
    scores = [running_scores.score_by(by, np.exp(log_proba), target, weight, t) for t in (found, exact)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    one = ClassScores(2)
    one.ranks = [Ranks()]
    one.add(log_proba, np.ones(M, np.int64))
    with pytest.raises(InputError, match="are of one class"):
        one.best_threshold(None)


def test_metrics_that_counts_do_not_give(few):
    with pytest.raises(InputError, match="'neg_brier_score' needs all rows at once"):
        added(ClassScores(2, metric="neg_brier_score"), *rows(2, False))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", [None, "neg_mean_absolute_error", "neg_median_absolute_error"])
def test_numbers_in_parts(monkeypatch, weighted, metric):
    rng = np.random.default_rng(0)
    table = RawTable.of({"x": rng.normal(size=100), "y": rng.gamma(2.0, size=100)})
    network = Network([1, 1], "tanh", "identity", "absolute_error")
    network = TableNetwork(TableEncoding.learn(table, "y"), network, np.zeros(2, np.float32))
    target = rng.normal(size=M).astype(np.float32)
    predicted = target + rng.normal(size=M).astype(np.float32)
    weight = rng.random(M).astype(np.float32) if weighted else None
    exact = added(NumberScores(network, metric), predicted, target, weight).scores()
    monkeypatch.setattr(running_scores, "EXACT", 100)
    if metric == "neg_median_absolute_error":
        with pytest.raises(InputError, match="'neg_median_absolute_error' needs all rows at once"):
            added(NumberScores(network, metric), predicted, target, weight)
        return
    found = added(NumberScores(network, metric), predicted, target, weight).scores()
    assert found.pop("metric", None) == pytest.approx(exact.pop("metric", None))
    assert found == pytest.approx(exact, rel=1e-6)
    same = added(NumberScores(network), predicted, np.full(M, np.float32(0.1)), weight).scores()
    assert np.isnan(same["r2"])


def test_ranks_of_a_histogram():
    rng = np.random.default_rng(0)
    y = rng.random(200_000) < 0.3
    z = rng.normal(size=len(y)) * 2 + 2 * y - 1
    ranks = Ranks()
    for part in np.array_split(np.arange(len(y)), 7):
        ranks.add(z[part], y[part])
    assert abs(ranks.auc() - roc_auc_score(y, z)) < 1e-6
    assert abs(ranks.average_precision() - average_precision_score(y, z)) < 1e-6
    assert np.isnan(Ranks().auc())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("q", [0.01, 0.5, 0.9])
def test_a_quantile_in_passes(dtype, q):
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=999), np.zeros(200), [-1e30, 1e30]]).astype(dtype)
    weight = rng.integers(1, 5, len(values)).astype(np.float32)
    parts = np.array_split(np.arange(len(values)), 5)
    found = quantile_of(lambda: ((values[part], None) for part in parts), q)
    assert found == pytest.approx(np.quantile(values.astype(np.float64), q), rel=1e-12, abs=0)
    found = quantile_of(lambda: ((values[part], weight[part]) for part in parts), q)
    assert found == np.quantile(values, q, weights=weight, method="inverted_cdf")
