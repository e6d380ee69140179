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
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score

import fullbatch as fb
from fullbatch.command.app import main
from fullbatch.errors import InputError, TableError, TableWarning
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
    for table in (pl.from_pandas(X), pa.Table.from_pandas(X), dict(X.items()), pa.RecordBatch.from_pandas(X)):
        assert np.array_equal(model.predict_proba(table), proba)
    for table in (more, pl.from_pandas(more), pa.Table.from_pandas(more), dict(more.items())):
        with pytest.warns(TableWarning, match="does not know column 'other', which is ignored"):
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
    halving = HalvingGridSearchCV(fb.TableClassifier(**SMALL), {"hidden": [(), (8,)]}, cv=2, min_resources=100)
    assert halving.fit(X, LATE).best_score_ > 0.6
    numbers = X[["size"]].to_numpy()
    assert cross_val_score(fb.TableRegressor(**SMALL), numbers, COST.to_numpy(), cv=2).shape == (2,)
    for table in ("t.parquet", dict(X.items())):  # scikit-learn's own words: it takes rows apart, and these have none
        with pytest.raises(ValueError, match=r"must be an array-like|inconsistent numbers of samples"):
            cross_val_score(fb.TableClassifier(**SMALL), table, LATE.to_numpy(), cv=2)
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
    assert back.evaluate(X.assign(y=LATE))["accuracy"] == model.score(X, LATE) == back.score(X.assign(y=LATE))
    assert back.evaluate(X, LATE) == model.evaluate(X, LATE)
    assert back.record_ == model.record_
    assert back.columns_ == model.columns_
    assert back.get_params() == model.get_params()


def test_a_path_and_its_target(tmp_path):
    path = tmp_path / "t.parquet"
    X.assign(late=LATE).to_parquet(path)
    model = fb.TableClassifier(**SMALL).fit(path, target="late")
    assert np.array_equal(model.predict_proba(path), fb.TableClassifier(**SMALL).fit(X, LATE).predict_proba(X))
    assert fb.read_table(path).m == 300
    assert model.record_["data"]["files"] == [{"name": "t.parquet", "bytes": path.stat().st_size}]
    assert (
        model.record_["data"]["crc32"]
        == fb.TableClassifier(epochs=1).fit(fb.read_table(path), target="late").record_["data"]["crc32"]
    )
    for half, rows in (("a", slice(0, 150)), ("b", slice(150, 300))):
        X.assign(late=LATE)[rows].to_parquet(tmp_path / f"{half}.parquet")
    parts = fb.TableClassifier(**SMALL).fit([str(tmp_path / "a.parquet"), tmp_path / "b.parquet"], target="late")
    assert np.array_equal(parts.predict_proba(path), model.predict_proba(path))


class Stream:
    """A table that can be read once."""

    def __init__(self, table):
        self.reader = table.to_reader()

    def __arrow_c_stream__(self, requested_schema=None):
        reader, self.reader = self.reader, None
        return reader.__arrow_c_stream__(requested_schema)


def test_a_stream_is_read_once():
    table = pa.Table.from_pandas(X.assign(late=LATE), preserve_index=False)
    model = fb.TableClassifier(**SMALL).set_callbacks(Recorder()).fit(Stream(table), target="late")
    expected = model.predict_proba(table)
    assert np.array_equal(model.predict_proba(Stream(table)), expected)
    assert np.array_equal(fb.TableClassifier(**SMALL).fit(table, target="late").predict_proba(table), expected)


def test_a_list_of_rows_is_a_table():
    rows = [[1.5, "a"], [2.5, "b"], [None, "b"], [0.5, "a"]] * 20
    model = fb.TableClassifier(**SMALL).fit(rows, ["no", "yes", "yes", "no"] * 20)
    assert [(column["name"], column["kind"]) for column in model.columns_] == [
        ("x0", "number"), ("x1", "category"), ("y", "target"),
    ]  # fmt: skip
    assert model.score(rows[:4], ["no", "yes", "yes", "no"]) == 1
    with pytest.raises(TableError, match="all of one length"):
        model.predict([[1.5, "a"], [2.5]])


# --- Weights, and rows that cannot be learned from


def test_rows_without_a_target_and_of_weight_0_are_left_out_and_said():
    late = LATE.astype(object).copy()
    late[:20] = None
    weight = np.ones(300)
    weight[10:40] = 0
    with pytest.warns(TableWarning, match="20 of 300 rows have no target and 20 of 300 rows have a weight of 0; they"):
        model = fb.TableClassifier(**SMALL).fit(X, late, sample_weight=weight)
    assert model.record_["left_out"] == {"without_target": 20, "weight_0": 20}
    assert model.record_["rows"] + model.record_["held_out"]["m"] == 260
    rest = fb.TableClassifier(**SMALL).fit(X[40:], LATE[40:])
    assert np.array_equal(model.predict_proba(X), rest.predict_proba(X))
    assert next(column for column in model.columns_ if column["kind"] == "target")["missing"] == 20


def test_weights_of_rows_and_of_classes():
    plain = fb.TableClassifier(**SMALL).fit(X, LATE)
    weight = np.where(LATE == "yes", 5.0, 1.0)
    weighted = fb.TableClassifier(**SMALL).fit(X, LATE, sample_weight=weight)
    by_class = fb.TableClassifier(**SMALL, class_weight={"yes": 5.0}).fit(X, LATE)
    assert np.allclose(weighted.predict_proba(X), by_class.predict_proba(X), atol=1e-6)
    assert weighted.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean() + 0.05
    balanced = fb.TableClassifier(**SMALL, class_weight="balanced").fit(X, LATE)
    assert not np.array_equal(balanced.predict_proba(X), plain.predict_proba(X))
    with pytest.raises(ValueError, match=r"class_weight has \['maybe'\]"):
        fb.TableClassifier(class_weight={"maybe": 2, "no": 1}).fit(X, LATE)
    with pytest.raises(ValueError, match="Negative values in sample_weight"):
        fb.TableClassifier().fit(X, LATE, sample_weight=-weight)


def test_rows_of_the_users_own_choose_the_epoch():
    model = fb.TableClassifier(**SMALL).fit(X[:200], LATE[:200], X_val=X[200:], y_val=LATE[200:])
    assert (model.record_["rows"], model.record_["held_out"]["m"]) == (200, 100)
    assert model.record_["held_out"]["accuracy"] == model.score(X[200:], LATE[200:])
    assert len(model.validation_costs_) == SMALL["epochs"]
    named = X.assign(late=LATE)
    by_name = fb.TableClassifier(**SMALL).fit(named[:200], target="late", X_val=named[200:])
    assert np.array_equal(by_name.predict_proba(X), model.predict_proba(X))
    late = LATE[200:].astype(object).where(LATE.index[200:] > 210, None)
    with pytest.warns(TableWarning, match="of X_val 11 of 100 rows have no target"):
        some = fb.TableClassifier(**SMALL).fit(X[:200], LATE[:200], X_val=X[200:], y_val=late)
    assert some.record_["held_out"]["m"] == 89
    with pytest.raises(TableError, match="'maybe', a class that training had not"):
        fb.TableClassifier(**SMALL).fit(X[:200], LATE[:200], X_val=X[:2], y_val=["no", "maybe"])
    with pytest.raises(TableError, match="leave y_val away"):
        fb.TableClassifier(**SMALL).fit(named, target="late", X_val=named, y_val=LATE)


def test_levels_that_only_held_out_rows_have_are_counted():
    town = X["town"].where(X.index < 298, "Oslo")
    some, others = X.assign(town=town)[:200], X.assign(town=town)[200:]
    model = fb.TableClassifier(**SMALL).fit(some, LATE[:200], X_val=others, y_val=LATE[200:])
    assert model.record_["unseen"] == {"town": [0.02, "Oslo"]}


# --- Callbacks


class Recorder:
    """Notes what it is told."""

    def __init__(self, stop: int = 10**6) -> None:
        self.calls: list[str] = []
        self.epochs: list[tuple] = []
        self.stop = stop

    def setup(self, estimator, context):
        self.calls.append("setup")
        self.planned = context.max_subtasks

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append("begin")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.calls.append("end")
        if context.max_subtasks:
            return False
        score = fitted_estimator.score(X, y)
        self.epochs.append((type(estimator), estimator.n_iter_, len(estimator.validation_costs_), score))
        return estimator.n_iter_ >= self.stop


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_callbacks_hear_of_each_epoch(solver):
    recorder = Recorder()
    model = fb.TableClassifier(**SMALL, solver=solver, validation=0.2).set_callbacks(recorder).fit(X, LATE)
    m = int(np.ravel(model.n_iter_)[0])
    assert recorder.planned == 12
    assert recorder.calls == ["setup", "begin", *["begin", "end"] * m, "end", "teardown"]
    assert [epoch[:3] for epoch in recorder.epochs] == [(fb.TableClassifier, i, i) for i in range(1, m + 1)]
    if solver == "lbfgs":
        assert recorder.epochs[-1][3] == model.score(X, LATE)
    assert np.array_equal(model.predict_proba(X), fb.TableClassifier(**SMALL, solver=solver, validation=0.2).fit(
        X, LATE).predict_proba(X))  # fmt: skip
    assert not hasattr(model.estimator_, "_skl_callbacks")


def test_a_callback_stops_the_training_and_goes_through_a_search(capsys):
    model = fb.TableRegressor(**SMALL).set_callbacks(Recorder(stop=3)).fit(X.assign(c=COST), target="c")
    assert model.n_iter_ == len(model.loss_curve_) == 3
    monitor = ScoringMonitor(scoring="accuracy")
    fb.TableClassifier(**SMALL).set_callbacks(monitor).fit(X, LATE)
    assert len(monitor.get_logs().data_as_pandas) >= SMALL["epochs"]
    GridSearchCV(fb.TableClassifier(**SMALL), {"hidden": [(), (4,)]}, cv=2).set_callbacks(ProgressBar()).fit(X, LATE)
    assert "TableClassifier" in capsys.readouterr().out


# --- Copies, and where it is computed


def test_parameters_say_where_it_is_computed(tmp_path):
    model = fb.TableClassifier(**SMALL, n_jobs=2).fit(X, LATE)
    fb.save(model, tmp_path / "m.model")
    back = fb.load(tmp_path / "m.model").set_params(n_jobs=-1, device="cpu")
    assert np.array_equal(back.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ValueError, match="n_jobs == 0"):
        back.set_params(n_jobs=0).predict(X)
    assert repr(fb.TableClassifier(epochs=3)) == "TableClassifier(epochs=3)"


def test_a_generator_gives_the_seed():
    first, again = (fb.TableClassifier(**SMALL, random_state=np.random.RandomState(3)).fit(X, LATE) for _ in range(2))
    assert np.array_equal(first.predict_proba(X), again.predict_proba(X))
    seed = first.record_["chosen"]["random_state"]
    assert np.array_equal(
        fb.TableClassifier(**SMALL, random_state=seed).fit(X, LATE).predict_proba(X), first.predict_proba(X)
    )


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((X,), {}, "requires y to be passed"),
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
