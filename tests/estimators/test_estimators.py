"""The estimators against scikit-learn's trajectories, and what they promise beyond scikit-learn."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.linear_model import LogisticRegression as TheirLogisticRegression
from sklearn.metrics import log_loss, mean_absolute_error, mean_pinball_loss, r2_score
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.preprocessing import scale

import fullbatch as fb
from fullbatch import LogisticRegression, MLPClassifier, MLPRegressor
from fullbatch.errors import DeviceError, InputError
from fullbatch.sources import Dense
from fullbatch.training.optimizers import OPTIMIZERS, Optimizer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DIGITS = load_digits(return_X_y=True)
X10, Y10 = DIGITS[0][:900] / 16, DIGITS[1][:900]
X3, Y3 = load_iris(return_X_y=True)
X3 = scale(X3)
X2, Y2 = load_breast_cancer(return_X_y=True)
X2 = scale(X2)
XR, YR = make_regression(250, 8, noise=5, random_state=0)
YR = scale(YR)
WEIGHT = np.random.default_rng(0).uniform(0, 3, 900)
TOLERANCE = 1e-10  # of a trajectory in float64, as a share of the largest value


def close(ours: Any, theirs: Any, tolerance: float = TOLERANCE) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def same_trajectory(ours: Any, theirs: Any) -> None:
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.t_ == theirs.t_
    close(ours.loss_curve_, theirs.loss_curve_)
    for name in ("coefs_", "intercepts_"):
        for mine, yours in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            close(mine, yours)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-10)
    assert ours.best_loss_ == (None if theirs.best_loss_ is None else pytest.approx(theirs.best_loss_, rel=1e-10))
    assert ours.validation_scores_ == (
        None if theirs.validation_scores_ is None else pytest.approx(theirs.validation_scores_, rel=1e-10)
    )
    for name in ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_", "_no_improvement_count"):
        assert getattr(ours, name) == getattr(theirs, name)


# --- scikit-learn's trajectory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"activation": "tanh", "hidden_layer_sizes": (20, 10), "alpha": 1.0},
        {"activation": "logistic", "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3, "shuffle": False},
        {"solver": "sgd", "learning_rate_init": 0.3},
        {"solver": "sgd", "learning_rate_init": 0.3, "nesterovs_momentum": False, "momentum": 0.5},
        {"solver": "sgd", "learning_rate_init": 0.5, "learning_rate": "invscaling", "power_t": 0.3, "batch_size": 37},
        {"solver": "sgd", "learning_rate_init": 0.5, "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1,
         "max_iter": 25},
        {"early_stopping": True, "tol": 0.01, "n_iter_no_change": 2, "max_iter": 40},
        {"hidden_layer_sizes": ()},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("weighted", [False, True])
def test_classifier_follows_scikit_learn(params: dict[str, Any], weighted: bool) -> None:
    params = {"max_iter": 6, "random_state": 3, **params}
    weight = WEIGHT if weighted else None
    theirs = TheirClassifier(**params).fit(X10, Y10, sample_weight=weight)
    ours = MLPClassifier(**params).fit(X10, Y10, sample_weight=weight)
    same_trajectory(ours, theirs)
    close(ours.predict_proba(X10), theirs.predict_proba(X10))
    np.testing.assert_array_equal(ours.predict(X10), theirs.predict(X10))
    assert ours.score(X10, Y10, weight) == pytest.approx(theirs.score(X10, Y10, weight))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_two_classes_follow_scikit_learn(early_stopping: bool) -> None:
    """With early stopping the rows are split by class, which scikit-learn does for two classes alone."""
    params = {"early_stopping": early_stopping, "max_iter": 15, "random_state": 0, "hidden_layer_sizes": 12}
    y = np.array(["benign", "malignant"])[Y2]
    same_trajectory(MLPClassifier(**params).fit(X2, y), TheirClassifier(**params).fit(X2, y))


@pytest.mark.parametrize(
    "params",
    [{}, {"loss": "poisson"}, {"early_stopping": True, "max_iter": 60}, {"solver": "sgd", "activation": "identity"}],
    ids=str,
)
def test_regressor_follows_scikit_learn(params: dict[str, Any]) -> None:
    params = {"max_iter": 20, "random_state": 1, **params}
    y = np.round(np.exp(YR)) if "loss" in params else YR
    theirs, ours = TheirRegressor(**params).fit(XR, y), MLPRegressor(**params).fit(XR, y)
    same_trajectory(ours, theirs)
    close(ours.predict(XR), theirs.predict(XR))
    assert ours.score(XR, y) == pytest.approx(theirs.score(XR, y))


@pytest.mark.parametrize("params", [{}, {"activation": "tanh", "alpha": 0.5}], ids=str)
def test_lbfgs_follows_scikit_learn(params: dict[str, Any]) -> None:
    params = {"solver": "lbfgs", "max_iter": 20, "random_state": 1, "hidden_layer_sizes": 15, **params}
    theirs, ours = TheirClassifier(**params).fit(X2, Y2), MLPClassifier(**params).fit(X2, Y2)
    assert ours.n_iter_ == theirs.n_iter_ == len(ours.loss_curve_)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)
    for mine, yours in zip(ours.coefs_, theirs.coefs_, strict=True):
        close(mine, yours, 1e-5)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_follows_scikit_learn(solver: str) -> None:
    """The optimiser's state goes on from call to call, and from fit to partial_fit."""
    models: list[Any] = [make(solver=solver, random_state=0, max_iter=3) for make in (MLPClassifier, TheirClassifier)]
    for model in models:
        model.fit(X3, Y3)
        for start in (0, 50, 30, 90):
            model.partial_fit(X3[start : start + 60], Y3[start : start + 60])
    same_trajectory(*models)


def test_warm_start_follows_scikit_learn() -> None:
    params = {"warm_start": True, "max_iter": 4, "random_state": 0, "solver": "sgd", "learning_rate": "invscaling"}
    models: list[Any] = [make(**params) for make in (MLPClassifier, TheirClassifier)]
    for model in models:
        model.fit(X3, Y3).fit(X3, Y3)
    same_trajectory(*models)
    assert len(models[0].loss_curve_) == 8


def test_verbose_prints_what_scikit_learn_prints(capsys: pytest.CaptureFixture[str]) -> None:
    params = {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 1e-5, "tol": 0.1, "verbose": True,
              "n_iter_no_change": 2, "random_state": 0, "max_iter": 30}  # fmt: skip
    said = []
    for make in (MLPClassifier, TheirClassifier):
        make(**params).fit(X3, Y3)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "Setting learning rate" in said[0]
    assert "Stopping." in said[0]


@pytest.mark.parametrize("dtype", ["float32", "int64", "float16"])
def test_dtype(dtype: str) -> None:
    X = (10 * X3).astype(dtype)
    model = MLPClassifier(max_iter=3, random_state=0).fit(X, Y3)
    expected = "float32" if dtype == "float32" else "float64"
    assert {str(array.dtype) for array in (*model.coefs_, *model.intercepts_)} == {expected}
    assert model.predict_proba(X).dtype == expected


# --- Logistic regression ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("X", "y"), [(X2, Y2), (X3, Y3)], ids=["two classes", "three classes"])
@pytest.mark.parametrize(
    "params",
    [{}, {"C": 0.03}, {"class_weight": "balanced"}, {"fit_intercept": False}, {"class_weight": {1: 5.0}}],
    ids=str,
)
def test_logistic_regression_agrees_with_scikit_learn(X: Any, y: Any, params: dict[str, Any]) -> None:
    keep = np.arange(len(y)) % 3 > (y == 1)  # unequal classes
    theirs = TheirLogisticRegression(max_iter=1000, tol=1e-7, **params).fit(X[keep], y[keep])
    ours = LogisticRegression(max_iter=1000, tol=1e-7, **params).fit(X[keep], y[keep])
    close(ours.coef_, theirs.coef_, 1e-4)
    assert np.abs(ours.intercept_ - theirs.intercept_).max() < 1e-4
    assert ours.n_iter_.shape == theirs.n_iter_.shape
    close(ours.decision_function(X), theirs.decision_function(X), 1e-4)
    close(ours.predict_proba(X), theirs.predict_proba(X), 1e-4)


def test_logistic_regression_in_float32_tries_a_line_as_often_as_scikit_learn() -> None:
    """With SciPy's own 20 tries this was "ABNORMAL ... Raise max_iter", at the loss where scikit-learn is silent."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 30)).astype("float32")
    y = X @ rng.normal(size=30) + rng.normal(size=300) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = LogisticRegression(tol=1e-7).fit(X, y)
        theirs = TheirLogisticRegression(tol=1e-7).fit(X, y)
    close(ours.coef_, theirs.coef_, 1e-3)
    assert ours._limits()["max_tries"] == 50


@pytest.mark.parametrize("solver", ["adam", "sgd", "gd"])
def test_logistic_regression_by_other_solvers(solver: str) -> None:
    rate = {"adam": 0.1, "sgd": 0.1, "gd": 1.0}[solver]
    best = LogisticRegression(tol=1e-6).fit(X2, Y2)
    model = LogisticRegression(
        solver=solver, learning_rate_init=rate, learning_rate="linear", max_iter=400, tol=0, batch_size="full"
    ).fit(X2, Y2)
    assert model.loss_ == pytest.approx(best.loss_, rel=0.02)
    assert model.loss_ > best.loss_


def test_one_class_is_an_error_for_no_one_but_its_probability_is_one() -> None:
    for model in (MLPClassifier(max_iter=2), LogisticRegression()):
        model.fit(X3, ["all"] * 150)
        assert set(model.predict(X3)) == {"all"}
        np.testing.assert_array_equal(model.predict_proba(X3), np.ones((150, 1)))
        np.testing.assert_array_equal(model.predict_log_proba(X3), np.zeros((150, 1)))


# --- What is new -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["sigmoid", "leaky_relu", "gelu", "silu", "tanh", "relu", "identity"])
def test_activations_by_our_names(activation: str, host_step: str) -> None:
    model = MLPClassifier((9,), activation, solver="lbfgs", max_iter=30, random_state=0).fit(X3, Y3)
    assert model.score(X3, Y3) > 0.9
    assert model.step_ == host_step


def test_sigmoid_is_logistic() -> None:
    fits = [MLPClassifier((5,), name, max_iter=3, random_state=0).fit(X3, Y3) for name in ("sigmoid", "logistic")]
    assert fits[0].loss_curve_ == fits[1].loss_curve_


def test_own_activation_and_one_per_layer() -> None:
    pair = (np.tanh, lambda Z: 1 - np.tanh(Z) ** 2)
    params = {"max_iter": 5, "random_state": 0}
    own = MLPClassifier((6,), pair, **params).fit(X3, Y3)
    assert own.step_ == "array"
    close(own.loss_curve_, MLPClassifier((6,), "tanh", **params).fit(X3, Y3).loss_curve_)
    again = clone(own).fit(X3, Y3)
    assert again.loss_curve_ == own.loss_curve_
    mixed = [MLPClassifier((6, 5), spec, **params).fit(X3, Y3) for spec in (["logistic", "gelu"], ("sigmoid", "gelu"))]
    assert mixed[0].loss_curve_ == mixed[1].loss_curve_
    with pytest.raises(InputError, match="2 hidden layers need 2 activations; got 1"):
        MLPClassifier((6, 5), ["tanh"]).fit(X3, Y3)


def test_gd_is_the_gradient_descent_of_the_notes() -> None:
    model = MLPClassifier(
        (4,), "tanh", solver="gd", learning_rate_init=0.5, alpha=0.7, max_iter=7, tol=0, random_state=0
    )
    params = MLPClassifier((4,), "tanh", solver="gd", max_iter=1, learning_rate_init=1e-300, random_state=0).fit(X2, Y2)
    start = tuple(fb.Layer(W.T, b.reshape(-1, 1)) for W, b in zip(params.coefs_, params.intercepts_, strict=True))
    run = fb.gradient_descent(
        fb.Network([30, 4, 1]), start, X2.T, Y2[np.newaxis].astype(float), learning_rate=0.5, iterations=7, l2=0.7
    )
    model.fit(X2, Y2)
    close(model.loss_curve_, run.costs[:-1])
    close(model.coefs_[0], run.params[0].W.T)


def test_batch_size_full_is_one_update_an_epoch() -> None:
    fits = [
        MLPClassifier(batch_size=size, shuffle=False, max_iter=4, random_state=0).fit(X10, Y10)
        for size in ("full", 900)
    ]
    assert fits[0].loss_curve_ == fits[1].loss_curve_
    with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger than sample size"):
        MLPClassifier(batch_size=901, max_iter=1).fit(X10, Y10)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (fb.MLPClassifier, "alpha"), (fb.MLPClassifier, "epsilon"), (fb.MLPClassifier, "learning_rate_init"),
        (fb.MLPClassifier, "tol"), (fb.MLPClassifier, "power_t"),
        (fb.MLPRegressor, "max_fun"), (fb.LogisticRegression, "C"), (fb.TableClassifier, "l2"),
        (fb.TableClassifier, "epochs"),
    ],
)  # fmt: skip
def test_a_whole_number_beyond_a_float_is_refused_by_name(kind: Any, name: str) -> None:
    """JSON and Python have them; ``float`` raises an OverflowError of its own."""
    X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), [0, 1, 0, 1]
    with pytest.raises(InputError, match=rf"^{name} must be"):
        kind(**{name: 10**400}).fit(X, y)
    with pytest.raises(InputError, match="dropout must be a rate"):
        fb.MLPClassifier(dropout=[10**400]).fit(X, y)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_linear_rate_falls_to_zero_update_by_update(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One example, one parameter that matters: each update is seen in the bias of a network without hidden layer."""
    rates: list[float] = []

    row = OPTIMIZERS[solver]

    @functools.wraps(row.make)
    def watched(*args: Any, **kwargs: Any) -> Optimizer:
        inner = row.make(*args, **kwargs)

        def update(gradient: Any, kept: Any, theta: Any, learning_rate: float, t: int) -> Any:
            rates.append(learning_rate)
            return inner.update(gradient, kept, theta, learning_rate, t)

        return inner._replace(update=update, name="watched")  # which the native batches do not know

    monkeypatch.setitem(OPTIMIZERS, solver, row._replace(make=watched))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)  # the end of the schedule is no failure
        params = {"learning_rate": "linear", "learning_rate_init": 0.3, "max_iter": 4, "batch_size": 100, "tol": 0}
        MLPRegressor(solver=solver, **params).fit(XR, YR)
    assert rates == pytest.approx([0.3 * (1 - t / 12) for t in range(12)])


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_the_linear_rate_goes_on_from_one_partial_fit_to_the_next(solver: str) -> None:
    params = {"solver": solver, "learning_rate": "linear", "learning_rate_init": 0.1, "max_iter": 3, "tol": 0}
    at_once = MLPRegressor(shuffle=False, random_state=0, **params).fit(XR, YR)
    step_by_step = MLPRegressor(shuffle=False, random_state=0, **params)
    for _ in range(3):
        step_by_step.partial_fit(XR, YR)
    assert step_by_step.loss_curve_ == at_once.loss_curve_
    assert np.array_equal(step_by_step.coefs_[0], at_once.coefs_[0])


def test_class_weight_is_example_weight() -> None:
    params = {"max_iter": 5, "random_state": 0}
    by_class = {0: 1.0, 1: 2.5, 2: 0.5}
    ours = MLPClassifier(class_weight=by_class, **params).fit(X3, Y3, sample_weight=WEIGHT[:150])
    by_hand = MLPClassifier(**params).fit(X3, Y3, sample_weight=WEIGHT[:150] * np.vectorize(by_class.get)(Y3))
    close(ours.loss_curve_, by_hand.loss_curve_)
    with pytest.raises(ValueError, match=r"class_weight has \['z'\], which y has not"):
        MLPClassifier(class_weight={"z": 1}).fit(X3, Y3)
    with pytest.raises(ValueError, match=r"balanced.*partial_fit"):
        MLPClassifier(class_weight="balanced").partial_fit(X3, Y3, classes=[0, 1, 2])


def test_class_weight_may_have_a_label_that_a_fold_lacks() -> None:
    """scikit-learn 1.9.1: the same weights are taken, and the same slips of the pen are refused."""
    two, by_class = Y3 < 2, {0: 1.0, 1: 2.5, 2: 0.5}
    ours = LogisticRegression(class_weight=by_class, tol=1e-9).fit(X3[two], Y3[two])
    theirs = TheirLogisticRegression(class_weight=by_class, tol=1e-9).fit(X3[two], Y3[two])
    close(ours.coef_, theirs.coef_, 1e-5)
    for slip in ({0: 1.0, 5: 2.0}, {"1": 2.0}):
        for make in (LogisticRegression, TheirLogisticRegression):
            with pytest.raises(ValueError, match=r"The classes, |class_weight has .*, and no weight for"):
                make(class_weight=slip).fit(X3, Y3)


@pytest.mark.parametrize(
    ("class_weight", "weight", "message"),
    [
        ({0: -1.0}, None, "^class_weight must be finite numbers of at least 0; that of 0 is -1.0"),
        ({0: np.nan}, None, "^class_weight must be finite"),
        ({0: np.inf}, None, "^class_weight must be finite"),
        ({0: "2"}, None, "^class_weight must be finite numbers of at least 0; that of 0 is '2'"),
        ({0: 0, 1: 0, 2: 0}, None, "^class_weight gives every example a weight of 0"),
        ({0: 0}, (Y3 == 0) * 1.0, "^class_weight together with sample_weight gives every example a weight of 0"),
    ],
)
def test_errors_of_class_weight_speak_of_it(class_weight: Any, weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPClassifier(class_weight=class_weight).fit(X3, Y3, weight)


def test_balanced_classes_count_the_weight_of_their_examples() -> None:
    weight = np.arange(150) % 3.0
    often = np.repeat(np.arange(150), weight.astype(int))
    weighted = LogisticRegression(class_weight="balanced").fit(X3, Y3, weight)
    repeated = LogisticRegression(class_weight="balanced").fit(X3[often], Y3[often])
    close(weighted.coef_, repeated.coef_, 1e-6)


def test_at_even_odds_the_prediction_is_the_first_class() -> None:
    model = LogisticRegression(fit_intercept=False).fit(X2, Y2)  # so that a row of zeros has a probability of 1/2
    assert model.predict_proba(np.zeros((1, 30))).tolist() == [[0.5, 0.5]]
    assert model.predict(np.zeros((1, 30))) == [0]


def test_weight_two_is_the_example_twice_and_zero_is_left_out() -> None:
    weight = np.arange(150) % 3
    params = {"max_iter": 8, "random_state": 0, "alpha": 2.0, "batch_size": "full"}
    weighted = MLPClassifier(**params).fit(X3, Y3, sample_weight=weight)
    repeated = MLPClassifier(**params).fit(np.repeat(X3, weight, axis=0), np.repeat(Y3, weight))
    close(weighted.loss_curve_, repeated.loss_curve_)


# --- Held-out examples -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "gd", "lbfgs"])
def test_held_out_costs(solver: str) -> None:
    train, test = slice(0, 600), slice(600, 900)
    model = MLPClassifier(solver=solver, max_iter=6, random_state=0)
    model.fit(X10[train], Y10[train], X_val=X10[test], y_val=Y10[test])
    assert len(model.validation_costs_) == model.n_iter_
    assert model.validation_costs_[-1] == pytest.approx(log_loss(Y10[test], model.predict_proba(X10[test])))
    plain = MLPClassifier(solver=solver, max_iter=6, random_state=0).fit(X10[train], Y10[train])
    assert plain.validation_costs_ is None
    assert plain.loss_curve_ == model.loss_curve_  # to look changes nothing


def test_held_out_weights_and_poisson_offset() -> None:
    counts = np.round(np.exp(YR))
    model = MLPRegressor(loss="poisson", max_iter=5, random_state=0)
    model.fit(XR[:200], counts[:200], X_val=XR[200:], y_val=counts[200:], sample_weight_val=WEIGHT[200:250])
    y, mean, w = counts[200:], model.predict(XR[200:]), WEIGHT[200:250]
    half_deviance = np.where(y > 0, y * np.log(np.maximum(y, 1) / mean), 0) - y + mean
    assert model.validation_costs_[-1] == pytest.approx(np.average(half_deviance, weights=w))


# --- Losses of a regressor ------------------------------------------------------------------------------------------

SKEWED = YR + 3 * np.random.default_rng(4).exponential(size=len(YR))
TWO_LINES = [{"loss": "absolute_error"}, {"loss": "quantile", "quantile": 0.75}]


def their_loss(params: dict[str, Any], y: Any, yhat: Any, weight: Any = None) -> float:
    if params["loss"] == "absolute_error":
        return mean_absolute_error(y, yhat, sample_weight=weight)
    return mean_pinball_loss(y, yhat, alpha=params["quantile"], sample_weight=weight)


@pytest.mark.parametrize("params", TWO_LINES, ids=str)
def test_the_cost_is_scikit_learns_metric(params: dict[str, Any]) -> None:
    """Before the only update, with weights; held out it is that of the fitted model."""
    model = MLPRegressor(**params, alpha=0, solver="gd", max_iter=1, learning_rate_init=1e-12, random_state=0)
    weight = np.arange(200) % 3
    model.fit(XR[:200], SKEWED[:200], sample_weight=weight, X_val=XR[200:], y_val=SKEWED[200:])
    yhat = model.predict(XR)
    assert model.loss_curve_[0] == pytest.approx(their_loss(params, SKEWED[:200], yhat[:200], weight))
    assert model.validation_costs_[0] == pytest.approx(their_loss(params, SKEWED[200:], yhat[200:]))
    assert model.score(XR, SKEWED) == pytest.approx(r2_score(SKEWED, yhat))
    assert model.out_activation_ == "identity"


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs", "gd"])
@pytest.mark.parametrize("params", TWO_LINES, ids=str)
def test_a_constant_is_the_quantile_of_y(params: dict[str, Any], solver: str) -> None:
    """Of inputs that say nothing every solver finds the best constant: the median, or the quantile."""
    rate = {"adam": 0.02, "sgd": 0.02, "gd": 0.5}.get(solver, 0.1)
    model = MLPRegressor(
        **params, hidden_layer_sizes=(), solver=solver, learning_rate_init=rate, max_iter=400, tol=0,
        n_iter_no_change=400, learning_rate="linear", random_state=0,
    )  # fmt: skip
    z = (SKEWED - SKEWED.mean()) / SKEWED.std()
    found = model.fit(np.zeros((len(z), 1)), z).predict(np.zeros((1, 1)))[0]
    assert found == pytest.approx(np.quantile(z, params.get("quantile", 0.5)), abs=0.03)


@pytest.mark.parametrize("params", TWO_LINES, ids=str)
def test_rows_of_weight_0_are_as_good_as_left_out(params: dict[str, Any]) -> None:
    """By L-BFGS, which draws no rows; and a weight of 2 is the row twice."""
    options = {**params, "hidden_layer_sizes": (5,), "solver": "lbfgs", "max_iter": 8, "random_state": 0}
    weight = np.repeat([0, 1, 2], 50)
    rows = np.repeat(np.arange(150), weight)
    weighted = MLPRegressor(**options).fit(XR[:150], SKEWED[:150], sample_weight=weight)
    plain = MLPRegressor(**options).fit(XR[rows], SKEWED[rows])
    close(weighted.predict(XR), plain.predict(XR), 1e-6)


def test_the_quantile_and_its_loss_go_together() -> None:
    with pytest.raises(ValueError, match="loss='quantile' needs a quantile: a number between 0 and 1"):
        MLPRegressor("quantile").fit(XR, YR)
    with pytest.raises(ValueError, match=r"quantile=0.5 belongs to loss='quantile'; the loss is 'squared_error'"):
        MLPRegressor(quantile=0.5).fit(XR, YR)
    for bad in (0, 1.0, 1.5, "half"):
        with pytest.raises(ValueError, match=r"The 'quantile' parameter of MLPRegressor must be a float in the range"):
            MLPRegressor("quantile", quantile=bad).fit(XR, YR)
    with pytest.raises(ValueError, match="The 'loss' parameter of MLPRegressor must be a str among"):
        MLPRegressor("cross_entropy").fit(XR, YR)


def test_a_warm_start_goes_on_by_another_loss_of_the_same_unit() -> None:
    """The mean is a good start for a quantile; what yhat means is left as it was."""
    model = MLPRegressor(max_iter=5, random_state=0, warm_start=True).fit(XR, YR)
    before = model.predict(XR)
    model.set_params(loss="quantile", quantile=0.9, learning_rate_init=1e-12).fit(XR, YR)
    close(model.predict(XR), before, 1e-6)
    assert model.set_params(learning_rate_init=0.01).fit(XR, YR).predict(XR).mean() > before.mean()


@pytest.mark.parametrize("scoring", [None, "loss"])
def test_early_stopping_judges_by_r2_or_by_the_loss(scoring: str | None) -> None:
    params = TWO_LINES[1]
    model = MLPRegressor(**params, early_stopping=True, scoring=scoring, max_iter=30, random_state=0)
    model.fit(XR[:200], SKEWED[:200], X_val=XR[200:], y_val=SKEWED[200:])
    yhat = model.predict(XR[200:])
    if scoring is None:
        assert model.best_validation_score_ == pytest.approx(r2_score(SKEWED[200:], yhat))
    else:
        assert min(model.validation_costs_) == pytest.approx(their_loss(params, SKEWED[200:], yhat))


def test_early_stopping_on_given_examples_keeps_the_best() -> None:
    model = MLPClassifier(early_stopping=True, max_iter=60, n_iter_no_change=3, learning_rate_init=0.05, random_state=0)
    model.fit(X10[:500], Y10[:500], X_val=X10[500:], y_val=Y10[500:])
    assert model.t_ == 500 * model.n_iter_  # nothing was split off
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.score(X10[500:], Y10[500:]) == model.best_validation_score_


@pytest.mark.parametrize("make", [MLPClassifier, MLPRegressor])
def test_scoring_by_loss(make: Any) -> None:
    X, y = (X10, Y10) if make is MLPClassifier else (XR, YR)
    model = make(
        early_stopping=True, scoring="loss", max_iter=40, n_iter_no_change=2, learning_rate_init=0.03, random_state=0
    )
    model.fit(X, y)
    assert model.validation_scores_ == [-cost for cost in model.validation_costs_]
    assert model.best_validation_score_ == max(model.validation_scores_)


def test_held_out_examples_are_checked() -> None:
    fit = MLPClassifier(max_iter=1).fit
    with pytest.raises(ValueError, match="X has 3 features, but MLPClassifier is expecting 4"):
        fit(X3, Y3, X_val=X3[:, :3], y_val=Y3)
    with pytest.raises(ValueError, match=r"y_val has classes that y has not: \[7\]"):
        fit(X3, Y3, X_val=X3, y_val=np.where(Y3 == 2, 7, Y3))
    with pytest.raises(ValueError, match=r"y_val has classes that y has not: \[0, 1, 2\]"):
        fit(X3, np.array(["a", "b", "c"], dtype=object)[Y3], X_val=X3, y_val=Y3)
    with pytest.raises(ValueError, match=r"y has shape \(250,\) and y_val \(250, 2\)"):
        MLPRegressor(max_iter=1).fit(XR, YR, X_val=XR, y_val=np.c_[YR, YR])
    with pytest.raises(ValueError, match="belong to X_val, which is missing"):
        fit(X3, Y3, y_val=Y3)
    with pytest.raises(ValueError, match="requires y to be passed"):
        fit(X3, Y3, X_val=X3)


# --- Predictions -----------------------------------------------------------------------------------------------------


def test_log_probabilities_stay_finite() -> None:
    for y in (Y3, Y3 > 0):
        model = LogisticRegression(C=np.inf, max_iter=20).fit(X3, y)
        far = 1e4 * X3
        assert model.predict_proba(far).min() == 0
        log_proba = model.predict_log_proba(far)
        assert np.isfinite(log_proba).all()
        assert log_proba.min() < -800
        np.testing.assert_allclose(np.exp(log_proba), model.predict_proba(far), atol=1e-12)


def test_several_labels_at_once() -> None:
    X, Y = make_multilabel_classification(200, 10, n_classes=4, random_state=0)
    params = {"max_iter": 10, "random_state": 0}
    ours, theirs = MLPClassifier(**params).fit(X, Y), TheirClassifier(**params).fit(X, Y)
    same_trajectory(ours, theirs)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    close(ours.predict_proba(X), theirs.predict_proba(X))
    assert ours.score(X, Y) == theirs.score(X, Y)
    with pytest.raises(ValueError, match="one label for each example"):
        MLPClassifier(class_weight="balanced").fit(X, Y)


def test_several_numbers_at_once() -> None:
    Y = np.stack([YR, -YR, 2 * YR], axis=1)
    model = MLPRegressor(solver="lbfgs", hidden_layer_sizes=20, max_iter=100, random_state=0).fit(XR, Y)
    assert model.predict(XR).shape == Y.shape
    assert model.score(XR, Y) == pytest.approx(r2_score(Y, model.predict(XR)))
    assert model.score(XR, Y) > 0.95


def test_a_column_of_targets_is_taken_as_a_row_with_a_warning() -> None:
    for make, X, y in ((MLPClassifier, X3, Y3), (MLPRegressor, XR, YR)):
        with pytest.warns(DataConversionWarning):
            model = make(max_iter=1, random_state=0).fit(X, y[:, np.newaxis])
        assert model.predict(X).shape == y.shape


@pytest.mark.parametrize(
    "labels",
    [["b", "a", "c"], [3, -1, 70_000], [2.0, 1.0, 7.0], [True, False, True], np.array([5, 250, 7], dtype=np.uint8)],
    ids=str,
)
def test_labels_come_back_as_they_were(labels: Any) -> None:
    y = np.asarray(labels)[Y3]
    model = MLPClassifier(solver="lbfgs", max_iter=40, random_state=0).fit(X3, y)
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    assert model.predict(X3).dtype == y.dtype
    assert model.score(X3, y) == np.mean(model.predict(X3) == y) > 0.9


@given(st.data())
def test_encode_is_unique(data: st.DataObject) -> None:
    from fullbatch.estimators.inputs import encode

    name = data.draw(st.sampled_from(["int8", "uint8", "int64", "uint64", "bool", "float64", "object", "str"]))
    numbers = st.integers(-128, 127) if name == "int8" else st.integers(0, 255) | st.integers(2**62, 2**62 + 9)
    numbers = st.integers(0, 255) if name in ("uint8", "bool") else numbers
    y = np.array(data.draw(st.lists(numbers, min_size=1, max_size=30))).astype(name)
    classes, codes = encode(y)
    expected, inverse = np.unique(y, return_inverse=True)
    np.testing.assert_array_equal(classes, expected)
    np.testing.assert_array_equal(codes, inverse)
    assert classes.dtype == y.dtype
    assert codes.dtype == np.uint8


# --- What goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("make", [MLPClassifier, MLPRegressor, LogisticRegression])
def test_what_is_not_finite_is_named(make: Any, bad: float) -> None:
    X = X3.copy()
    X[17, 2] = bad
    kind = "NaN" if np.isnan(bad) else r"infinity or a value too large for dtype\('float64'\)"
    with pytest.raises(ValueError, match=rf"^Input X contains {kind}\. The first is in row 17, column 2\b"):
        make().fit(X, Y3)
    model = make(max_iter=1).fit(X3, Y3)
    with pytest.raises(ValueError, match=rf"^Input X contains {kind}\. .*row 17, column 2"):
        model.predict(X)


def test_a_sum_that_overflows_is_no_infinity() -> None:
    from fullbatch.estimators.inputs import check_finite

    check_finite(np.full((4, 3), 1e308), "X")


def test_the_row_is_counted_from_the_start_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullbatch.machine.finite.AT_ONCE", 10)  # it is searched a few rows at a time
    table = X3.copy()
    table[107, 2] = np.nan
    with pytest.raises(ValueError, match=r"The first is in row 107, column 2,"):
        MLPClassifier().fit(table, Y3)


def test_bad_targets() -> None:
    y = YR.copy()
    y[5] = np.nan
    with pytest.raises(ValueError, match=r"Input y contains NaN\. The first is in row 5"):
        MLPRegressor().fit(XR, y)
    labels = np.array(["a", "b", None] * 50, dtype=object)
    with pytest.raises(ValueError, match=r"Input y contains NaN\. The first is in row 2"):
        MLPClassifier().fit(X3, labels)
    with pytest.raises(ValueError, match=r"Input y contains NaN\. The first is in row 2"):
        MLPClassifier().fit(X3, np.array(["a", "b", pd.NA] * 50, dtype=object))
    with pytest.raises(ValueError, match=r"y contains .*too large for dtype\('float32'\)\. The first is in row 1,"):
        MLPRegressor().fit(XR[:3].astype("float32"), [1.0, 1e300, 3.0])
    with pytest.raises(ValueError, match="Mix of label types: y has int, str"):
        MLPClassifier().fit(X3, np.array(["a", 1, "b"] * 50, dtype=object))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        MLPClassifier().fit(XR, YR)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[150, 149\]"):
        MLPClassifier().fit(X3, Y3[:-1])
    with pytest.raises(ValueError, match=r"loss='poisson' needs y of at least 0 \(counts\); row 1 has -2"):
        MLPRegressor(loss="poisson").fit(XR[:3], [1, -2, 3])


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(150), "at least one non-zero"),
        (np.r_[np.ones(149), -1], "Negative values in sample_weight: row 149"),
        (np.r_[np.ones(149), np.nan], "sample_weight contains NaN"),
        (np.ones(149), r"sample_weight.shape == \(149,\), expected \(150,\)"),
        (np.ones((150, 1)), "1D array or scalar"),
    ],
    ids=["zero", "negative", "nan", "short", "column"],
)
def test_bad_weights(weight: Any, message: str) -> None:
    for make in (MLPClassifier, MLPRegressor, LogisticRegression):
        with pytest.raises(ValueError, match=message):
            make().fit(X3, Y3, sample_weight=weight)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"solver": "newton"}, "'solver' parameter of MLPClassifier must be a str among .*'gd'"),
        ({"activation": "swish"}, "'activation' parameter of MLPClassifier must be .*'gelu'"),
        ({"device": "gpu"}, "unknown device 'gpu'; the known ones are auto, cpu, cuda"),
        ({"hidden_layer_sizes": (5, 0)}, r"hidden_layer_sizes must be > 0, got \[5, 0\]"),
        ({"learning_rate_init": 0}, "learning_rate_init"),
        ({"batch_size": -1}, "batch_size"),
        ({"max_iter": 0}, "max_iter"),
        ({"alpha": -1.0}, "alpha"),
        ({"n_jobs": 0}, "n_jobs == 0 has no meaning"),
    ],
    ids=str,
)
def test_bad_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**params).fit(X3, Y3)


def test_cuda_without_cuda_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_gpu(*args: Any) -> Any:
        raise DeviceError("there is no GPU; use device='cpu'")

    monkeypatch.setattr("fullbatch.machine.places._cuda_place", no_gpu)
    with pytest.raises(DeviceError, match="there is no GPU"):
        MLPClassifier(device="cuda").fit(X3, Y3)
    assert MLPClassifier(device="auto", max_iter=1).fit(X3, Y3).device_ == "cpu"


@pytest.mark.parametrize("make", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("solver", ["adam", "lbfgs", "gd"])
def test_equal_units_are_refused_as_a_start(make: Any, solver: str) -> None:
    model = make((4,), solver=solver, warm_start=True, max_iter=2) if make is MLPClassifier else make(
        hidden_layer_sizes=(4,), solver=solver, warm_start=True, max_iter=2
    )  # fmt: skip
    model.fit(X3, Y3)
    model.coefs_ = [np.zeros_like(W) for W in model.coefs_]
    with pytest.raises(InputError, match="all weights are zero"):
        model.fit(X3, Y3)


def test_divergence_is_scikit_learns_error_and_keeps_finite_parameters() -> None:
    model = MLPRegressor(
        hidden_layer_sizes=(5,), activation="identity", solver="sgd", learning_rate_init=100.0, random_state=0
    )
    with pytest.raises(
        ValueError, match=r"^Solver produced non-finite parameter weights\..*smaller learning_rate_init"
    ):
        model.fit(XR, YR)
    assert model.n_iter_ < 200  # it does not go on with what cannot recover
    assert np.isfinite(model.predict(XR)).all()


@pytest.mark.parametrize("solver", ["gd", "sgd"])
def test_wherever_a_training_diverges_it_keeps_the_last_finite_parameters(
    solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the second update does: the cost before it is finite, and the third epoch's is not."""
    ran = []
    monkeypatch.setattr(MLPRegressor, "_initial", lambda self, network, rng: [(np.zeros((8, 1)), np.zeros(1))])
    for epochs in range(1, 6):
        model = MLPRegressor(
            hidden_layer_sizes=(), solver=solver, learning_rate_init=1e161, max_iter=epochs, random_state=0,
            batch_size="full", tol=0, momentum=0.0, alpha=0.0,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            if epochs == 1:
                model.fit(1e-3 * XR, 1e-3 * YR)
            else:
                with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
                    model.fit(1e-3 * XR, 1e-3 * YR)
        ran.append(len(model.loss_curve_))
        assert 1e150 < np.abs(model.coefs_[0]).max() < np.inf, "those after the first update"
    assert ran == [1, 2, 3, 3, 3]
    assert np.isfinite(model.loss_curve_[1])


def test_divergence_with_early_stopping_goes_back_to_the_best() -> None:
    model = MLPRegressor(
        activation="identity", solver="sgd", learning_rate_init=1.0, early_stopping=True, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="being finite in epoch .* smaller learning_rate_init") as caught:
        model.fit(X3, Y3)
    assert caught[0].filename == __file__
    assert np.isnan(model.validation_scores_[-1])
    assert all(np.isfinite(W).all() for W in model.coefs_)


@pytest.mark.parametrize("scoring", [None, "loss"])
@pytest.mark.parametrize("row", [0, 149])
def test_early_stopping_needs_weight_on_both_sides_of_its_split(scoring: str | None, row: int) -> None:
    weight = np.zeros(150)
    weight[row] = 1.0  # so one side or the other has none
    with pytest.raises(ValueError, match="all of one side have a sample_weight of 0"):
        MLPClassifier(early_stopping=True, scoring=scoring, random_state=0).fit(X3, Y3, weight)


def test_partial_fit_and_warm_start_keep_classes_and_shape() -> None:
    model = MLPClassifier((5,), max_iter=1)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model.partial_fit(X3, Y3)
    model.partial_fit(X3[:100], Y3[:100], classes=[0, 1, 2])
    with pytest.raises(ValueError, match="is not the same as on last call"):
        model.partial_fit(X3, Y3, classes=[0, 1])
    with pytest.raises(ValueError, match=r"classes not in `self.classes_`"):
        model.partial_fit(X3, Y3 + 1)
    with pytest.raises(ValueError, match="partial_fit cannot change that"):
        model.set_params(hidden_layer_sizes=(6,)).partial_fit(X3, Y3)
    with pytest.raises(ValueError, match="does not support early_stopping"):
        model.set_params(early_stopping=True).partial_fit(X3, Y3)
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")


def test_partial_fit_computes_in_the_dtype_of_its_first_call() -> None:
    model = MLPClassifier(random_state=0).partial_fit(X3.astype("float32"), Y3, classes=[0, 1, 2])
    assert model.partial_fit(X3, Y3).coefs_[0].dtype == np.float32


@pytest.mark.parametrize("solver", ["adam", "gd", "lbfgs"])
def test_ctrl_c_keeps_the_model_so_far(solver: str) -> None:
    calls = 0

    def interrupted(Z: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise KeyboardInterrupt
        return np.tanh(Z)

    pair = (interrupted, lambda Z: 1 - np.tanh(Z) ** 2)
    model = MLPClassifier((6,), pair, solver=solver, random_state=0, n_jobs=1, learning_rate_init=0.01)
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        model.fit(X3, Y3)
    assert 0 < model.n_iter_ < 30
    assert len(model.loss_curve_) == model.n_iter_
    assert model.score(X3, Y3) > 0.3


def test_ctrl_c_inside_the_first_epoch_keeps_its_updates() -> None:
    calls = 0

    def interrupted(Z: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise KeyboardInterrupt
        return np.tanh(Z)

    model = MLPClassifier((6,), (interrupted, lambda Z: 1 - np.tanh(Z) ** 2), batch_size=10, random_state=0, n_jobs=1)
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        model.fit(X3, Y3)
    assert (model.n_iter_, model.loss_curve_) == (0, [])
    updated = MLPClassifier((6,), "tanh", random_state=0, max_iter=1, learning_rate_init=1e-300).fit(X3, Y3)
    assert np.abs(model.coefs_[0] - updated.coefs_[0]).max() == pytest.approx(9e-3, rel=0.3)  # nine steps of Adam


# --- Reproducible, and small -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [700, "full"])
def test_same_bits_for_any_number_of_threads(batch_size: Any) -> None:
    X = np.random.default_rng(0).normal(size=(5000, 20))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    fits = [
        MLPClassifier(batch_size=batch_size, max_iter=3, random_state=0, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (1, 2, 3)
    ]
    for other in fits[1:]:
        assert other.loss_curve_ == fits[0].loss_curve_
        np.testing.assert_array_equal(other.coefs_[0], fits[0].coefs_[0])
        np.testing.assert_array_equal(other.predict_proba(X), fits[0].predict_proba(X))


def test_prediction_and_training_need_no_memory_of_the_hidden_layer() -> None:
    """100,000 rows times 200 hidden units would be 160 MB."""
    import tracemalloc

    X = np.random.default_rng(0).normal(size=(100_000, 4))
    y = (X[:, 0] > 0).astype(int)
    model = MLPClassifier((200,), solver="gd", max_iter=1, n_jobs=2)
    tracemalloc.start()
    try:
        model.fit(X, y)
        model.score(X, y)
        model.predict_proba(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


class Halves:
    """A ``Columns`` source that is no array: two arrays, read as one."""

    def __init__(self, X: np.ndarray) -> None:
        self.parts = X[:, :1].copy(), X[:, 1:].copy()

    n = property(lambda self: sum(part.shape[1] for part in self.parts))
    m = property(lambda self: len(self.parts[0]))
    like = property(lambda self: self.parts[0])

    def reader(self) -> Any:
        return lambda where: np.concatenate([part[where] for part in self.parts], axis=1).T


def test_n_jobs_counts_down_from_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullbatch.machine.threads.thread_count", lambda threads: 4)
    counts = [MLPClassifier(n_jobs=n_jobs)._threads() for n_jobs in (None, 3, -1, -2, -9)]
    assert counts == [None, 3, 4, 3, 1]


def test_a_source_is_as_good_as_an_array() -> None:
    params = {"max_iter": 5, "random_state": 0, "early_stopping": True}
    plain = MLPClassifier(**params).fit(X3, Y3)
    for source in (Dense(X3.T), Halves(X3)):
        model = MLPClassifier(**params).fit(source, Y3)
        close(model.loss_curve_, plain.loss_curve_)
        close(model.predict_proba(source), plain.predict_proba(X3))
        assert model.score(source, Y3) == plain.score(X3, Y3)
        assert model.n_features_in_ == 4
        given = MLPClassifier(max_iter=2).fit(source, Y3, X_val=source, y_val=Y3)
        assert len(given.validation_costs_) == 2
    with pytest.raises(ValueError, match="X has 3 features, but MLPClassifier is expecting 4"):
        plain.predict(Dense(X3[:, :3].T))
    with pytest.raises(TypeError, match="X is a source of int64 and it must be of float32 or float64"):
        MLPClassifier().fit(Dense(Y3[np.newaxis]), Y3)


# --- What a warm start begins anew, and what it may not change


def halves() -> tuple[Any, Any, Any, Any]:
    """Rows that are easy to tell apart, and rows of which the labels are noise."""
    rng = np.random.default_rng(0)
    easy, hard = rng.standard_normal((300, 4)), rng.standard_normal((300, 4))
    return easy, (easy[:, 0] > 0).astype(int), hard, rng.integers(0, 2, 300)


@pytest.mark.parametrize("scoring", [None, "loss"])
def test_a_warm_start_with_early_stopping_judges_by_its_own_data(scoring: str | None) -> None:
    """The first fit's best score, of easy rows, was kept: the second fit gave back the first one's weights."""
    easy, y_easy, hard, y_hard = halves()
    params = {"early_stopping": True, "scoring": scoring, "warm_start": True, "random_state": 0}
    model = MLPClassifier((5,), learning_rate_init=0.03, max_iter=30, **params)
    model.fit(easy, y_easy)
    first, best, scored = model.coefs_[0].copy(), model.best_validation_score_, len(model.validation_scores_)
    model.set_params(max_iter=1).fit(hard, y_hard)
    assert model.best_validation_score_ == model.validation_scores_[scored]
    assert model.best_validation_score_ < best
    assert not np.array_equal(model.coefs_[0], first)


def test_a_warm_start_may_score_by_another_rule() -> None:
    """A loss with its sign changed is below every accuracy, so that no epoch of the second fit could be the best."""
    easy, y, _, _ = halves()
    model = MLPClassifier((5,), early_stopping=True, warm_start=True, random_state=0, max_iter=5).fit(easy, y)
    first = model.coefs_[0].copy()
    model.set_params(scoring="loss").fit(easy, y)
    assert model.best_validation_score_ == max(model.validation_scores_[5:])
    assert model.best_validation_score_ < 0
    assert not np.array_equal(model.coefs_[0], first)


def test_a_warm_start_on_other_rows_does_not_stop_for_the_first_ones_loss() -> None:
    easy, y_easy, hard, y_hard = halves()
    params = {"warm_start": True, "random_state": 0, "n_iter_no_change": 3, "max_iter": 40}
    model = MLPClassifier((5,), learning_rate_init=0.01, **params).fit(easy, y_easy)
    assert model.best_loss_ < 0.3
    model.fit(hard, y_hard)  # whose loss is 0.7 at best, and falls
    assert model.n_iter_ > 5
    assert model.best_loss_ > 0.5


@pytest.mark.parametrize("again", ["fit", "partial_fit"])
def test_the_output_unit_stays_from_one_call_to_the_next(again: str) -> None:
    """Labels 0 ... k-1, then indicators of k labels: the network has k outputs either way, and another meaning."""
    X, labels = X3, Y3
    indicators = np.eye(3, dtype=int)[Y3]
    for first, second, named in [(labels, indicators, "'softmax'"), (indicators, labels, "'logistic'")]:
        model = MLPClassifier((5,), max_iter=2, warm_start=True, random_state=0).fit(X, first)
        before = model.predict_proba(X)
        with pytest.raises(ValueError, match=f"has the output unit {named}.*cannot change that"):
            getattr(model, again)(X, second)
        assert np.array_equal(model.predict_proba(X), before)
    counts = np.abs(np.round(YR * 3))
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2, warm_start=True, random_state=0).fit(XR, counts)
    with pytest.raises(ValueError, match=r"has the output unit 'identity'.*ask for 'exp'"):
        getattr(model.set_params(loss="poisson"), again)(XR, counts)


@pytest.mark.parametrize("solver", sorted(OPTIMIZERS))
def test_an_estimator_keeps_of_a_training_what_the_optimiser_knows_alone(solver: str) -> None:
    """No order of the rows, no second copy of the parameters: a pickle stays small."""
    model = MLPClassifier((5,), solver=solver, max_iter=3, random_state=0).fit(X3, Y3)
    kept = model._optimizer
    assert (kept.theta, kept.best_theta, kept.order, len(kept.costs)) == (None, None, None, 0)
    assert (kept.optimizer, kept.epoch) == (solver, 3)
    assert len(kept.arrays) == OPTIMIZERS[solver].keeps
