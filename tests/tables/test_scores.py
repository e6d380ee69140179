"""The scores: those of scikit-learn, with ties and for classes without rows too."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from fullbatch.tables.scores import area_under_roc, score_classes, score_numbers


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 12))
def test_area_is_scikit_learns_with_ties_too(seed, m, different):
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, different, m).astype(np.float32), rng.random(m) < 0.4
    area = area_under_roc(scores, positive)
    if positive.all() or not positive.any():
        assert np.isnan(area)
    else:
        assert area == pytest.approx(metrics.roc_auc_score(positive, scores))


@pytest.mark.parametrize("k", [2, 4])
def test_scores_of_classes_are_scikit_learns(k):
    rng = np.random.default_rng(3)
    proba = rng.dirichlet(np.ones(k), 200)
    target = rng.integers(0, k, 200)
    found = score_classes(np.log(proba), target)
    assert found["m"] == 200
    assert found["accuracy"] == metrics.accuracy_score(target, proba.argmax(axis=1))
    assert found["log_loss"] == found["cost"] == pytest.approx(metrics.log_loss(target, proba))
    with warnings.catch_warnings():
        auc = metrics.roc_auc_score(target, proba[:, 1] if k == 2 else proba, multi_class="ovr")
    assert found["auc"] == pytest.approx(auc)


def test_a_class_without_rows_is_left_out_of_the_mean_area():
    proba = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    assert score_classes(np.log(proba), np.array([0, 1, 1]))["auc"] == 1.0
    assert np.isnan(score_classes(np.log(proba), np.array([1, 1, 1]))["auc"])


def test_scores_of_numbers_are_scikit_learns():
    rng = np.random.default_rng(4)
    target, predicted = rng.normal(size=50), rng.normal(size=50)
    found = score_numbers(predicted, target)
    assert found["r2"] == pytest.approx(metrics.r2_score(target, predicted))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(target, predicted))
    assert np.isnan(score_numbers(predicted, np.ones(50))["r2"])
