"""The elastic net of LogisticRegression: scikit-learn's minimum, exact zeros, and a training that goes on."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Theirs

import fullbatch as fb
from fullbatch.training import optimizers


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 8)) * np.logspace(-0.5, 0.5, 8)
    score = X[:, 0] * 3 - X[:, 5] + 0.5 * rng.normal(size=150)
    return X, score, rng.integers(0, 4, 150).astype(float)


TIGHT = {"tol": 1e-9, "max_iter": 5000}


@pytest.mark.parametrize("l1_ratio", [1.0, 0.6])
@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_the_minimum_that_saga_finds(data, l1_ratio, classes):
    X, score, weight = data
    y = np.digitize(score, [0] if classes == 2 else [-2, 2])
    options = {"l1_ratio": l1_ratio, "C": 0.1}
    ours = fb.LogisticRegression(**options, **TIGHT).fit(X, y, sample_weight=weight)
    theirs = Theirs(solver="saga", **options, tol=1e-10, max_iter=100_000, random_state=0).fit(X, y, weight)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    assert np.count_nonzero(ours.coef_ == 0) > 0
    assert np.array_equal(ours.coef_ == 0, np.abs(theirs.coef_) < 1e-7)
    norms = l1_ratio * np.abs(ours.coef_).sum() + (1 - l1_ratio) / 2 * (ours.coef_**2).sum()
    proba = ours.predict_proba(X)[np.arange(len(y)), y]
    J = (weight @ -np.log(proba) + norms / 0.1) / weight.sum()
    assert ours.loss_curve_[-1] == pytest.approx(J, rel=1e-9)  # the whole cost is what the curve shows


def test_without_an_l1_norm_nothing_changes(data):
    X, score, _ = data
    one, other = (fb.LogisticRegression(**more).fit(X, score > 0) for more in ({}, {"l1_ratio": 0.0}))
    assert np.array_equal(one.coef_, other.coef_)
    free, none = (
        fb.LogisticRegression(C=np.inf, l1_ratio=ratio, max_iter=20).fit(X[:, 1:], score > 0) for ratio in (0, 1)
    )
    assert np.array_equal(free.coef_, none.coef_)


def test_a_large_penalty_leaves_the_bias_and_none_without_it(data):
    X, score, _ = data
    y = score > -1
    model = fb.LogisticRegression(l1_ratio=1, C=1e-4, **TIGHT).fit(X, y)
    assert not model.coef_.any()
    assert model.predict_proba(X[:1])[0, 1] == pytest.approx(y.mean(), abs=1e-6)
    assert not fb.LogisticRegression(l1_ratio=1, fit_intercept=False).fit(X, y).intercept_.any()
    single = fb.LogisticRegression(l1_ratio=1, C=0.1).fit(X.astype(np.float32), y)
    assert single.coef_.dtype == np.float32
    assert (single.coef_ == 0).any()


def test_what_does_not_go_together_is_refused(data):
    X, score, _ = data
    with pytest.raises(ValueError, match=r"l1_ratio=0\.5 needs solver='lbfgs'; solver='adam' knows L2 alone"):
        fb.LogisticRegression(l1_ratio=0.5, solver="adam").fit(X, score > 0)
    with pytest.raises(ValueError, match="'l1_ratio' parameter"):
        fb.LogisticRegression(l1_ratio=1.5).fit(X, score > 0)


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_a_training_goes_on_to_the_same_bits_and_is_saved(data, tmp_path):
    X, score, _ = data
    options = {"l1_ratio": 0.7, "C": 0.1, "tol": 1e-9}
    whole = fb.LogisticRegression(**options, max_iter=12).fit(X, score > 0)
    keeper = fb.Checkpoint(tmp_path / "kept")
    fb.LogisticRegression(**options, max_iter=5).set_callbacks(keeper).fit(X, score > 0)
    again = fb.LogisticRegression(**options, max_iter=12).fit(X, score > 0, resume=fb.Checkpoint(tmp_path / "kept"))
    assert np.array_equal(again.coef_, whole.coef_)
    assert again.loss_curve_ == whole.loss_curve_
    fb.save(whole, tmp_path / "m.fb")
    assert fb.load(tmp_path / "m.fb").l1_ratio == 0.7


def test_what_scipy_is_asked_for_has_the_gradient_that_differences_give():
    rng = np.random.default_rng(1)
    theta, penalised = rng.normal(size=5), np.array([True, True, False, True, False])
    split = optimizers._Split(0.3, penalised)
    vector = split.apart(theta)
    np.testing.assert_allclose(split.together(vector), theta)
    assert split.bounds() == [(0.0, None), (0.0, None), (None, None), (0.0, None), (None, None), *[(0.0, None)] * 3]
    asked = split.asking(lambda theta: (float((theta**3).sum()), 3 * theta**2))
    value, gradient = asked(vector)
    assert value == pytest.approx((theta**3).sum() + 0.3 * np.abs(theta[penalised]).sum())
    steps = 1e-6 * np.eye(len(vector))
    slopes = [(asked(vector + step)[0] - asked(vector - step)[0]) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient, slopes, atol=1e-7)
