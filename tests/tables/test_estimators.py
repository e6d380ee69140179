"""TableClassifier and TableRegressor: what the command does, by scikit-learn's contract, on any table."""

from __future__ import annotations

import doctest
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score

import fullbatch as fb
from fullbatch.command.app import main
from fullbatch.errors import InputError, TableError
from fullbatch.tables import estimators


def frame(m=300):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({
        "size": np.where(rng.random(m) < 0.1, np.nan, rng.normal(3, 2, m)),
        "town": rng.choice(["Ålesund", "Bø", "Å"], m),
        "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, m), unit="D"),
        "new": rng.random(m) < 0.5,
    })  # fmt: skip
    X.loc[3, "town"] = None
    late = (X["size"].fillna(3) + (X["town"] == "Bø") + rng.normal(0, 0.5, m) > 3.3).map({True: "yes", False: "no"})
    return X, late, 10 * X["size"].fillna(3) + 5 * (X["town"] == "Bø")


X, LATE, COST = frame()
SMALL = {"hidden": (8,), "epochs": 12, "learning_rate": 0.02}


def test_it_trains_as_the_command_does(tmp_path):
    some = X.drop(columns="since")
    some.assign(late=LATE).to_parquet(tmp_path / "t.parquet")
    arguments = ["train", tmp_path / "t.parquet", "--target", "late", "--hidden", "8", "--epochs", "3", "--seed", "4"]
    assert main([str(one) for one in (*arguments, "-q", "--model", tmp_path / "m.model")]) == 0
    command = fb.load(tmp_path / "m.model")
    model = fb.TableClassifier(hidden=(8,), epochs=3, random_state=4).fit(some.assign(late=LATE), target="late")
    assert np.array_equal(model.predict_proba(some), command.predict_proba(some))
    assert command.get_params() == model.get_params()
    apart = fb.TableClassifier(hidden=(8,), epochs=3, random_state=4).fit(some, LATE)
    assert np.array_equal(apart.predict_proba(some), model.predict_proba(some))


def test_a_classifier_learns_and_answers_for_each_kind_of_table():
    model = fb.TableClassifier(**SMALL).fit(X, LATE)
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.score(X, LATE) > 0.8
    assert model.feature_names_in_.tolist() == list(X)
    assert model.get_feature_names_out().tolist() == list(X)
    proba = model.predict_proba(X)
    assert proba.shape == (300, 2)
    more = X[["new", "since", "size", "town"]].assign(other="left alone")
    for table in (pl.from_pandas(X), pa.Table.from_pandas(X), more, dict(X.items()), pa.RecordBatch.from_pandas(X)):
        assert np.array_equal(model.predict_proba(table), proba)
    assert np.array_equal(model.predict(X[:5]), np.array(["no", "yes"])[proba[:5].argmax(axis=1)])


def test_a_regressor_predicts_in_the_targets_own_units():
    model = fb.TableRegressor(hidden=(8,), epochs=60, learning_rate=0.02).fit(X, COST)
    assert model.score(X, COST) > 0.8
    assert abs(model.predict(X).mean() - COST.mean()) < 3
    numbers = fb.TableRegressor(**SMALL).fit(X[["size"]].to_numpy(), COST.to_numpy())
    assert numbers.feature_names_in_.tolist() == ["x0"]
    with pytest.raises(InputError, match="X has 2 features, but TableRegressor is expecting 1 features"):
        numbers.predict(np.ones((3, 2)))


def test_integers_of_a_regression_are_no_classes():
    counts = np.arange(300) % 7
    assert not hasattr(fb.TableRegressor(**SMALL).fit(X, counts), "classes_")
    assert fb.TableClassifier(**SMALL).fit(X, counts).classes_.tolist() == list(range(7))


def test_scikit_learns_tools_take_frames_and_arrow():
    for table in (X, pl.from_pandas(X), pa.Table.from_pandas(X, preserve_index=False)):
        scores = cross_val_score(fb.TableClassifier(**SMALL), table, LATE.to_numpy(), cv=3)
        assert scores.min() > 0.6
    search = GridSearchCV(fb.TableClassifier(**SMALL), {"hidden": [(), (8,)]}, cv=2).fit(X, LATE)
    assert search.best_params_["hidden"] in [(), (8,)]
    calibrated = CalibratedClassifierCV(fb.TableClassifier(**SMALL), cv=2).fit(X, LATE)
    assert calibrated.predict_proba(X[:3]).shape == (3, 2)
    model = fb.TableClassifier(**SMALL).fit(X, LATE)
    importance = permutation_importance(model, X, LATE, n_repeats=2, random_state=0).importances_mean
    assert importance.argmax() == 0


def test_parameters_are_stored_as_given_and_copies_predict_the_same():
    model = fb.TableClassifier(hidden=[8], numeric=["size"], epochs=2)
    assert model.get_params()["hidden"] == [8]
    assert clone(model).get_params() == model.get_params()
    model.fit(X, LATE)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), model.predict_proba(X))


def test_a_saved_one_predicts_frames(tmp_path):
    model = fb.TableClassifier(**SMALL).fit(X, LATE)
    fb.save(model, tmp_path / "m.model")
    back = fb.load(tmp_path / "m.model")
    assert np.array_equal(back.predict_proba(pl.from_pandas(X)), model.predict_proba(X))
    assert back.evaluate(X.assign(y=LATE))["accuracy"] == model.score(X, LATE)


def test_a_path_and_its_target(tmp_path):
    path = tmp_path / "t.parquet"
    X.assign(late=LATE).to_parquet(path)
    model = fb.TableClassifier(**SMALL).fit(path, target="late")
    assert np.array_equal(model.predict_proba(path), fb.TableClassifier(**SMALL).fit(X, LATE).predict_proba(X))
    assert fb.read_table(path).m == 300


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((X,), {}, "either as y or"),
        ((X, LATE), {"target": "town"}, "either as y or"),
        ((X,), {"target": "toun"}, "no target column 'toun'. Did you mean 'town'"),
        ((X, LATE[:10]), {}, "X has 300 rows and y 10"),
        ((X, LATE.where(LATE == "none")), {}, "no row is left to learn from: 300 of 300 rows have no target"),
        ((X, LATE), {"X_val": X}, "that of X_val is y_val"),
        ((X, LATE), {"y_val": LATE}, "X_val, which is missing"),
    ],
)
def test_wrong_targets_are_said(arguments, options, says):
    with pytest.raises(TableError, match=says):
        fb.TableClassifier(**SMALL).fit(*arguments, **options)


def test_a_column_that_is_missing_at_predict_is_named():
    model = fb.TableClassifier(**SMALL).fit(X, LATE)
    with pytest.raises(TableError, match="no column 'town'"):
        model.predict(X.drop(columns="town"))


def test_the_examples_run():
    assert doctest.testmod(estimators).attempted >= 6
    assert doctest.testmod(estimators).failed == 0
