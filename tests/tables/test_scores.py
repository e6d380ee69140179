"""The scores: those of scikit-learn, with weights and for classes without rows too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from fullbatch.errors import InputError
from fullbatch.tables.scores import best_threshold, check_metric, decide, score_by, score_classes, score_numbers


def drawn(k: int, m: int = 200, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that know something of the classes, the classes, and weights."""
    rng = np.random.default_rng(seed)
    target = np.concatenate([np.arange(k), rng.integers(0, k, m - k)])
    proba = rng.dirichlet(np.ones(k), m) + 0.5 * np.eye(k)[target]
    return proba / proba.sum(axis=1, keepdims=True), target, rng.integers(1, 5, m).astype(float)


@pytest.mark.parametrize("k", [2, 4])
def test_scores_of_classes_are_scikit_learns(k):
    proba, target, _ = drawn(k)
    found = score_classes(np.log(proba), target)
    assert found["m"] == 200
    assert found["accuracy"] == metrics.accuracy_score(target, proba.argmax(axis=1))
    assert found["log_loss"] == found["cost"] == pytest.approx(metrics.log_loss(target, proba))
    auc = metrics.roc_auc_score(target, proba[:, 1] if k == 2 else proba, multi_class="ovr")
    assert found["auc"] == pytest.approx(auc)
    assert found["confusion_matrix"] == metrics.confusion_matrix(target, proba.argmax(axis=1)).tolist()
    if k == 2:
        assert found["average_precision"] == pytest.approx(metrics.average_precision_score(target, proba[:, 1]))
    else:
        assert "average_precision" not in found


@pytest.mark.parametrize("k", [2, 4])
def test_a_row_of_weight_3_counts_as_three_rows(k):
    proba, target, weight = drawn(k)
    weighted = score_classes(np.log(proba), target, weight)
    rows = np.repeat(np.arange(len(target)), weight.astype(int))
    repeated = score_classes(np.log(proba[rows]), target[rows])
    for name, value in repeated.items():
        if name != "m":
            assert np.asarray(weighted[name]) == pytest.approx(np.asarray(value)), name
    numbers = score_numbers(proba[:, 0], target, weight)
    assert numbers == pytest.approx(score_numbers(proba[rows, 0], target[rows]))


def test_the_threshold_decides_what_is_predicted():
    proba = np.array([[0.9, 0.1], [0.7, 0.3], [0.5, 0.5], [0.2, 0.8]])
    assert decide(proba).tolist() == [0, 0, 0, 1]
    assert decide(proba, 0.3).tolist() == [0, 1, 1, 1]
    found = score_classes(np.log(proba), np.array([0, 0, 1, 1]), threshold=0.4)
    assert found["accuracy"] == 1.0
    assert found["confusion_matrix"] == [[2, 0], [0, 2]]


def test_a_class_without_rows_is_left_out_of_the_mean_area():
    proba = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    assert score_classes(np.log(proba), np.array([0, 1, 1]))["auc"] == 1.0
    assert np.isnan(score_classes(np.log(proba), np.array([1, 1, 1]))["auc"])
    of_two = score_classes(np.log(proba[:, :2]), np.array([1, 1, 1]))
    assert np.isnan(of_two["auc"])
    assert np.isnan(of_two["average_precision"])


def test_scores_of_numbers_are_scikit_learns():
    rng = np.random.default_rng(4)
    target, predicted = rng.normal(size=50), rng.normal(size=50)
    found = score_numbers(predicted, target)
    assert found["r2"] == pytest.approx(metrics.r2_score(target, predicted))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(target, predicted))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(target, predicted))
    assert np.isnan(score_numbers(predicted, np.ones(50))["r2"])


# --- Scores by name


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy", "roc_auc", "neg_log_loss", "neg_brier_score", "recall"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_metric_is_what_its_scorer_says_of_an_estimator(metric, weighted):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(5)
    X = rng.normal(size=(300, 3))
    y = (X[:, 0] + rng.normal(size=300) > 0.8).astype(int)
    weight = rng.random(300) if weighted else None
    model = LogisticRegression().fit(X, y)
    expected = metrics.get_scorer(metric)(model, X, y, **({"sample_weight": weight} if weighted else {}))
    assert score_by(metric, model.predict_proba(X), y, weight) == pytest.approx(expected)


def test_metrics_of_numbers_and_of_a_threshold():
    predicted, target = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 3.0])
    assert score_by("neg_mean_absolute_error", predicted, target) == pytest.approx(-2 / 3)
    proba, target, _ = drawn(2)
    high = metrics.recall_score(target, proba[:, 1] >= 0.9)
    assert score_by("recall", proba, target, threshold=0.9) == high < score_by("recall", proba, target)


def test_what_is_no_metric_or_does_not_fit_is_one_error():
    with pytest.raises(InputError, match="'acuracy' is no metric of scikit-learn's scoring; near are accuracy"):
        check_metric("acuracy")
    with pytest.raises(InputError, match="'xyzzy' is no metric"):
        check_metric("xyzzy", 2)
    proba, target, _ = drawn(3)
    with pytest.raises(InputError, match="'f1' does not fit here"):
        score_by("f1", proba, target)


@pytest.mark.parametrize(
    ("metric", "fits"),
    [
        ("f1", [2]),
        ("f1_macro", [2, 3]),
        ("roc_auc", [2]),
        ("roc_auc_ovr", [2, 3]),
        ("neg_log_loss", [2, 3]),
        ("accuracy", [2, 3]),
        ("r2", [0]),  # Class numbers are numbers to scikit-learn too, and would be scored.
        ("neg_root_mean_squared_error", [0]),
        ("average_precision", [2, 3]),
        ("d2_absolute_error_score", [0]),
        ("adjusted_rand_score", [2, 3]),
    ],
)
def test_whether_a_metric_fits_is_known_before_the_training(metric, fits):
    for k in (0, 2, 3):
        if k in fits:
            check_metric(metric, k)
        else:
            with pytest.raises(InputError, match=f"the metric '{metric}' does not fit here"):
                check_metric(metric, k)


# --- The best threshold


@settings(max_examples=9)  # each scores a hundred thresholds by scikit-learn
@given(st.integers(0, 2**16), st.sampled_from(["balanced_accuracy", "f1", "accuracy"]), st.booleans())
def test_no_threshold_of_a_grid_is_better(seed, metric, weighted):
    rng = np.random.default_rng(seed)
    target = np.append(rng.random(100) < 0.2, [False, True]).astype(int)
    second = np.clip(rng.normal(0.3 + 0.2 * target, 0.15), 0.01, 0.99)
    proba = np.column_stack([1 - second, second])
    weight = rng.integers(1, 4, 102).astype(float) if weighted else None
    best = best_threshold(proba, target, metric, weight)
    reached = score_by(metric, proba, target, weight, best)
    # The tuner's grid: 100 thresholds between the least and the greatest probability.
    grid = np.linspace(second.min(), second.max(), 100)
    grid = {(second >= one).tobytes(): one for one in grid}.values()  # Thresholds that decide alike score alike.
    assert reached == pytest.approx(max(score_by(metric, proba, target, weight, one) for one in grid))


def test_where_no_threshold_can_be_chosen():
    proba, target, _ = drawn(3)
    with pytest.raises(InputError, match="a threshold is of two classes; here are 3"):
        best_threshold(proba, target)
    proba, target, _ = drawn(2)
    with pytest.raises(InputError, match="of one class"):
        best_threshold(proba, np.zeros(200, int))
    with pytest.raises(InputError, match="no threshold can be chosen by 'f1_samples'"):
        best_threshold(proba, target, "f1_samples")
