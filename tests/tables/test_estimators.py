"""TableClassifier and TableRegressor: what the command does, by scikit-learn's contract, on any table."""

from __future__ import annotations

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
from fullbatch.saving.model_file import load_network


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
    halving = HalvingGridSearchCV(
        # By five held-out rows a second training is as good as a throw of dice.
        fb.TableClassifier(**SMALL, retrain=False),
        {"hidden": [(), (8,)]},
        cv=2,
        min_resources=100,
        random_state=0,
    )
    assert halving.fit(X, LATE).best_score_ >= 0.6
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


def test_a_column_of_weights_is_no_feature_and_weighs_the_scores_too():
    weight = np.where(LATE == "yes", 5.0, 1.0)
    weight[:30] = 0
    given = fb.TableClassifier(**SMALL).fit(X, LATE, sample_weight=weight)
    named = X.assign(w=weight, late=LATE)
    model = fb.TableClassifier(**SMALL).fit(named, target="late", sample_weight="w")
    assert np.array_equal(model.predict_proba(X), given.predict_proba(X))
    assert model.record_["held_out"] == given.record_["held_out"]
    assert model.record_["guess"] == given.record_["guess"]
    assert model.record_["left_out"] == {"without_target": 0, "weight_0": 30}
    assert [(c["kind"], c["why"]) for c in model.columns_ if c["name"] == "w"] == [("left out", "it weighs the rows")]
    assert model.predict(named).shape == (300,)  # and no warning of a column that it does not know
    assert model.evaluate(named, sample_weight="w") == model.evaluate(X[30:], LATE[30:], sample_weight=weight[30:])
    scores = model.evaluate(named, sample_weight="w")
    assert scores["accuracy"] == pytest.approx(model.score(X, LATE, weight))
    assert (scores["m"], round(sum(map(sum, scores["confusion_matrix"])))) == (270, round(weight.sum()))
    share = np.average(LATE[30:] == "yes", weights=weight[30:])
    assert model.record_["guess"]["log_loss"] == pytest.approx(
        -(share * np.log(share) + (1 - share) * np.log(1 - share)), abs=0.05
    )
    with pytest.raises(TableError, match="all rows that have the target 'late' have a weight of 0"):
        model.evaluate(named[:30], sample_weight="w")


def test_weights_of_the_users_own_rows():
    weight = np.where(np.arange(100) < 50, 0.0, 1 + np.arange(100) % 3)
    named = X.assign(w=np.r_[np.ones(200), weight], late=LATE)
    model = fb.TableClassifier(**SMALL).fit(
        X[:200], LATE[:200], X_val=X[200:], y_val=LATE[200:], sample_weight_val=weight
    )
    assert model.record_["held_out"]["m"] == 50
    assert model.record_["held_out"]["accuracy"] == pytest.approx(model.score(X[200:], LATE[200:], weight))
    by_name = fb.TableClassifier(**SMALL).fit(named[:200], target="late", sample_weight="w", X_val=named[200:])
    assert by_name.record_["held_out"] == model.record_["held_out"]
    for more, says in (
        ({"sample_weight_val": weight}, "X_val, which is missing"),
        ({"sample_weight": "w", "X_val": named[200:], "sample_weight_val": weight}, "leave sample_weight_val away"),
        ({"sample_weight": "w", "X_val": named[200:].drop(columns="w")}, "no column 'w'"),
        ({"sample_weight": "late"}, "'late' is given as the target and the weight"),
        ({"sample_weight": "v"}, "no weight column 'v'"),
    ):
        with pytest.raises((InputError, TableError), match=says):
            fb.TableClassifier(**SMALL).fit(named[:200], target="late", **more)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["1", "two", "3"], "'w' must hold numbers, but row 2 has 'two'; correct it, or weigh the rows by another"),
        ([1, -2, 3], "'w' has a negative weight in row 2, -2; 0 leaves a row out"),
        ([1, None, 3], "'w' has no weight in row 2; give each row one"),
        ([1, np.inf, 3], "'w' is infinite in row 2"),
        ([1, 1e300, 3], "'w' is too large for float32 in row 2"),
        ([0, 0, 0], "no row is left to learn from: 300 of 300 rows have a weight of 0"),
    ],
)
def test_weights_that_are_none_are_named_by_row_and_value(values, says):
    with pytest.raises(TableError, match=says):
        fb.TableRegressor(**SMALL).fit(X.assign(w=values * 100, c=COST), target="c", sample_weight="w")


def test_weights_of_classes_choose_the_epoch_too():
    """Else the epoch is the one in which these weights have had the least effect."""
    by_class = {"no": 1.0, "yes": 30.0}
    model = fb.TableClassifier(**SMALL, class_weight=by_class).fit(X[:200], LATE[:200], X_val=X[200:], y_val=LATE[200:])
    own = model.network_.encoding.encode_target(fb.TableClassifier._with_target(model, X[200:], LATE[200:]))
    cost = -np.average(
        model.predict_log_proba(X[200:])[np.arange(100), own], weights=np.array([1.0, 30.0])[own]
    )  # fmt: skip
    assert min(model.validation_costs_) == pytest.approx(cost, rel=1e-5)


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
    with pytest.warns(TableWarning, match="1 of 2 held-out rows have a class that training had not, 'maybe'; they"):
        few = fb.TableClassifier(**SMALL).fit(X[:200], LATE[:200], X_val=X[:2], y_val=["no", "maybe"])
    assert (few.record_["not_scored"], few.record_["held_out"]["m"]) == ({"maybe": 1}, 1)
    with pytest.raises(TableError, match=r"2 of 2 held-out rows .* 'maybe'; no row is left to score"):
        fb.TableClassifier(**SMALL).fit(X[:200], LATE[:200], X_val=X[:2], y_val=["maybe", "maybe"])
    with pytest.raises(TableError, match="leave y_val away"):
        fb.TableClassifier(**SMALL).fit(named, target="late", X_val=named, y_val=LATE)


def test_the_last_rows_by_a_column_are_held_out():
    model = fb.TableClassifier(**SMALL, split_by="since", validation=0.2).fit(X, LATE)
    assert model.record_["held_out_by"].startswith("since >= 2021-12-29")
    assert 50 <= model.record_["held_out"]["m"] <= 70
    assert "since" in model.feature_names_in_
    without = fb.TableClassifier(**SMALL, split_by="since", drop=["since"], validation=0.2).fit(X, LATE)
    assert without.record_["held_out_by"] == model.record_["held_out_by"]
    assert "since" not in without.feature_names_in_
    assert [c["why"] for c in without.columns_ if c["name"] == "since"] == ["it was to be left out"]
    without.predict(X)  # and no warning of a column that it does not know


def test_whole_groups_are_held_out_and_are_no_feature():
    some = X.assign(user=np.arange(300) % 37, late=LATE)
    model = fb.TableClassifier(**SMALL, group="user").fit(some, target="late")
    assert model.record_["held_out_by"] == "whole groups of user"
    assert model.feature_names_in_.tolist() == list(X)
    assert [(c["kind"], c["why"]) for c in model.columns_ if c["name"] == "user"] == [
        ("left out", "its values are groups, none of which is on both sides")
    ]
    assert np.array_equal(model.predict(some), model.predict(X))


def test_a_class_that_only_held_out_rows_have_is_not_learned_and_not_scored():
    late = LATE.astype(object).copy()
    late[X["since"] > X["since"].sort_values().iloc[-4]] = "never"
    with pytest.warns(TableWarning, match="held-out rows have a class that training had not, 'never'; they are not"):
        model = fb.TableClassifier(**SMALL, split_by="since").fit(X, late)
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.record_["not_scored"] == {"never": 3}
    assert model.record_["held_out"]["m"] + model.record_["rows"] == 297
    early = LATE.where(X["since"] > X["since"].sort_values().iloc[-10], "no")
    with pytest.raises(TableError, match="'no' in every row that is learned from"):
        fb.TableClassifier(**SMALL, split_by="since").fit(X, early)


@pytest.mark.parametrize(
    ("params", "fit", "says"),
    [
        ({"split_by": "since", "group": "town"}, {}, "not by both"),
        ({"split_by": "since", "validation": 0}, {}, "'since' has nothing to decide"),
        ({"split_by": "since"}, {"X_val": X, "y_val": LATE}, "'since' has nothing to decide"),
        ({"group": "town", "drop": ["town"]}, {}, "'town' is given as group and to be dropped"),
        ({"group": "toun"}, {}, "no column 'toun'. Did you mean 'town'"),
        ({"drop": ["toun"]}, {}, "no column 'toun'. Did you mean 'town'"),
        ({"split_by": "town"}, {}, "'town' holds texts"),
        ({"split_by": "size"}, {}, "'size' has no value in row"),
    ],
)
def test_what_holds_out_rows_must_not_contradict_itself(params, fit, says):
    with pytest.raises(ValueError, match=says):
        fb.TableClassifier(**SMALL, **params).fit(X, LATE, **fit)


def test_the_target_has_no_other_part():
    named = X.assign(cost=COST)
    for part in ("split_by", "group"):
        with pytest.raises(InputError, match=f"'cost' is given as the target and {part}; choose one"):
            fb.TableRegressor(**SMALL, **{part: "cost"}).fit(named, target="cost")
    with pytest.raises(InputError, match="'cost' is given as the target and to be dropped"):
        fb.TableRegressor(**SMALL, drop=["cost"]).fit(named, target="cost")


def test_a_gap_is_named_by_its_row_in_the_whole_table():
    late = LATE.astype(object).copy()
    late[:5] = None
    gap = X.assign(day=np.where(np.arange(300) == 20, np.nan, np.arange(300)))
    with pytest.warns(TableWarning), pytest.raises(TableError, match="'day' has no value in row 21 and decides"):
        fb.TableClassifier(**SMALL, split_by="day").fit(gap, late)


def test_levels_that_only_held_out_rows_have_are_counted():
    town = X["town"].where(X.index < 298, "Oslo")
    some, others = X.assign(town=town)[:200], X.assign(town=town)[200:]
    model = fb.TableClassifier(**SMALL).fit(some, LATE[:200], X_val=others, y_val=LATE[200:])
    assert model.record_["unseen"] == {"town": [0.02, "Oslo"]}


# --- What held-out rows choose


@pytest.mark.parametrize("patience", [1, 3])
@pytest.mark.parametrize("callbacks", [False, True])
def test_patience_ends_the_training_after_so_many_epochs_that_are_no_better(patience, callbacks):
    over = {"hidden": (32,), "epochs": 60, "learning_rate": 0.1, "batch_size": 10, "validation": 0.3}
    model = fb.TableClassifier(**over, patience=patience, retrain=False)
    recorder = Recorder()
    (model.set_callbacks(recorder) if callbacks else model).fit(X, LATE)
    costs = model.validation_costs_
    best = int(np.argmin(costs)) + 1
    assert len(costs) == model.n_iter_ == best + patience < 60
    assert all(min(costs[: i + 1]) == min(costs[i - patience + 1 : i + 1]) for i in range(patience, len(costs) - 1))
    assert model.record_["ended"] == {"epoch": best + patience, "best": best, "retraining": None}
    assert model.record_["held_out_chose"] == ["epoch"]
    assert model.record_["held_out"]["cost"] == pytest.approx(min(costs), rel=1e-5)
    assert len(recorder.epochs) == (model.n_iter_ if callbacks else 0)


def test_patience_ends_the_first_training_and_not_the_second():
    over = {"hidden": (32,), "epochs": 60, "learning_rate": 0.1, "batch_size": 10, "validation": 0.3, "patience": 2}
    one, two = (fb.TableClassifier(**over, retrain=retrain).fit(X, LATE) for retrain in (False, True))
    costs, first = two.validation_costs_, len(one.validation_costs_)
    best, second = one.record_["ended"]["best"], max(one.record_["ended"]["best"], 3)
    assert costs[:first] == one.validation_costs_
    assert two.retraining_ == [first, second]
    assert two.record_["ended"] == {
        "epoch": first + second,
        "best": int(np.argmin(costs)) + 1,
        "retraining": {"after": first, "epochs": second, "costs": [min(costs[:first]), min(costs[first:])]},
    }
    assert best == first - 2
    assert two.record_["held_out"]["cost"] == pytest.approx(min(costs), rel=1e-5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("other", [{"solver": "lbfgs"}, {"validation": 0}])
def test_without_epochs_that_held_out_rows_choose_there_is_no_second_training(other):
    model = fb.TableClassifier(**SMALL | other).fit(X, LATE)
    assert (model.retrain, model.retraining_, model.record_["ended"]["retraining"]) == (True, None, None)


def test_a_metric_is_scored_besides(tmp_path):
    named = X.assign(late=LATE)
    model = fb.TableClassifier(**SMALL, metric="f1").fit(named, target="late")
    scores, guess = model.record_["held_out"], model.record_["guess"]
    (_, wrong), (missed, right) = scores["confusion_matrix"]
    assert scores["metric"] == {"name": "f1", "value": pytest.approx(2 * right / (2 * right + wrong + missed))}
    assert guess["metric"]["name"] == "f1"
    assert model.evaluate(named)["metric"]["name"] == "f1"
    rmse = fb.TableRegressor(**SMALL, metric="neg_root_mean_squared_error").fit(X, COST).record_["held_out"]
    assert rmse["metric"]["value"] == pytest.approx(-rmse["rmse"])
    for task, metric, says in (
        (fb.TableClassifier, "f11", "'f11' is no metric of scikit-learn's scoring; near are f1"),
        (fb.TableClassifier, "r22", "no metric"),
        (fb.TableRegressor, "accuracy", "'accuracy' does not fit here"),
    ):
        with pytest.raises(InputError, match=says):
            task(hidden=(), epochs=10**6, metric=metric).fit(X, COST if task is fb.TableRegressor else LATE)


@pytest.mark.parametrize("threshold", ["auto", 0.2])
def test_a_threshold_decides_between_two_classes(tmp_path, threshold):
    rare = LATE.where(np.arange(300) % 4 == 0, "no")
    model = fb.TableClassifier(**SMALL, threshold=threshold, validation=0.3).fit(X, rare)
    proba = model.predict_proba(X)[:, 1]
    assert model.threshold_ == (0.2 if threshold == 0.2 else model.record_["chosen"]["threshold"])
    assert 0 < model.threshold_ < 1
    expected = np.where(proba >= model.threshold_, "yes", "no")
    assert np.array_equal(model.predict(X), expected)
    scores = model.record_["held_out"]
    assert np.sum(scores["confusion_matrix"], axis=0)[1] > 0
    assert model.record_["held_out_chose"] == (["epoch", "threshold"] if threshold == "auto" else ["epoch"])
    fb.save(model, tmp_path / "m.model")
    for back in (fb.load(tmp_path / "m.model"), load_network(tmp_path / "m.model")):
        assert np.array_equal(back.predict(X), expected)
    assert back.threshold == model.threshold_
    assert fb.load(tmp_path / "m.model").threshold_ == model.threshold_
    assert fb.TableClassifier(**SMALL).fit(X, LATE).threshold_ is None


def test_a_threshold_that_cannot_be_chosen_is_found_out_before_the_training():
    one = LATE[:200].where(np.arange(200) < 150, "no")
    recorder = Recorder()
    model = fb.TableClassifier(**SMALL, threshold="auto").set_callbacks(recorder)
    with pytest.raises(InputError, match="the held-out rows are of one class"):
        model.fit(X[:200], one, X_val=X[:200][one == "no"], y_val=one[one == "no"])
    assert recorder.epochs == []


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_with_lbfgs_the_held_out_rows_choose_the_threshold_alone():
    assert fb.TableClassifier(**SMALL, solver="lbfgs").fit(X, LATE).record_["held_out_chose"] == []
    chosen = fb.TableClassifier(**SMALL, solver="lbfgs", threshold="auto", metric="f1").fit(X, LATE)
    assert chosen.record_["held_out_chose"] == ["threshold"]
    assert fb.TableClassifier(**SMALL, validation=0).fit(X, LATE).record_["held_out_chose"] == []


@pytest.mark.parametrize(
    ("params", "y", "says"),
    [
        ({"patience": 2, "validation": 0}, LATE, "patience needs held-out rows"),
        ({"patience": 2, "solver": "lbfgs"}, LATE, "lbfgs stops by itself"),
        ({"threshold": "auto", "validation": 0}, LATE, "threshold 'auto' needs held-out rows"),
        ({"threshold": 0.5}, X["town"].fillna("Å"), "a threshold is of two classes; 'y' has 3"),
        ({"threshold": 1.0}, LATE, "threshold"),
        ({"threshold": "best"}, LATE, "threshold"),
        ({"patience": 0}, LATE, "patience"),
    ],
)
def test_choices_that_cannot_be_made_are_refused(params, y, says):
    with pytest.raises(ValueError, match=says):
        fb.TableClassifier(**{**SMALL, **params}).fit(X[["size", "since", "new"]], y)


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
    assert recorder.planned == (19 if solver == "adam" else 12)  # at most: a second training has up to 7
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


# --- Losses of numbers


@pytest.fixture(scope="module")
def skewed():
    """A table with a positive target whose noise has a long tail: mean, median and quantiles are far apart."""
    rng = np.random.default_rng(0)
    x = rng.random(2000)
    return {"x": x, "y": np.exp(2 * x + rng.normal(size=2000))}


@pytest.mark.parametrize(
    ("parameters", "share_below"),
    [({"loss": "absolute_error"}, 0.5), ({"loss": "quantile", "quantile": 0.9}, 0.9), ({"log_target": True}, 0.5)],
)
def test_losses_predict_medians_and_quantiles(skewed, tmp_path, parameters, share_below):
    model = fb.TableRegressor((8,), epochs=40, learning_rate=1e-3, random_state=0, **parameters)
    model.fit(skewed, target="y")
    predicted = model.predict(skewed)
    assert np.mean(skewed["y"] < predicted) == pytest.approx(share_below, abs=0.04)
    fb.save(model, tmp_path / "m.model")
    again = fb.load(tmp_path / "m.model")
    assert again.get_params() == model.get_params()
    assert np.array_equal(again.predict(skewed), predicted)
    assert again.evaluate(skewed) == model.evaluate(skewed)


def test_poisson_predicts_means_and_nothing_is_negative(skewed):
    table = {"x": skewed["x"], "y": np.floor(skewed["y"])}
    model = fb.TableRegressor(hidden=(8,), epochs=40, loss="poisson").fit(table, target="y")
    assert model.predict(table).mean() == pytest.approx(table["y"].mean(), rel=0.05)
    plain = fb.TableRegressor(hidden=(), epochs=5).fit(table, target="y")
    assert plain.predict({"x": np.linspace(-50, 50, 200)}).min() == 0.0
    assert model.evaluate(table)["cost"] >= 0  # half the deviance
    guess = model.record_["guess"]
    assert guess["cost"] > model.record_["held_out"]["cost"]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"loss": "huber"}, "loss"),
        ({"loss": "quantile"}, "needs a quantile"),
        ({"quantile": 0.5}, "belongs to loss='quantile'"),
        ({"loss": "quantile", "quantile": 1.0}, "between 0 and 1"),
        ({"loss": "poisson", "log_target": True}, "a logarithm of its own"),
    ],
)
def test_losses_that_cannot_be_are_refused(skewed, parameters, says):
    with pytest.raises(ValueError, match=says):
        fb.TableRegressor(**parameters).fit(skewed, target="y")
    with pytest.raises(TableError, match="needs numbers of at least 0, but row 1 has -1"):
        fb.TableRegressor(loss="poisson").fit({"x": [1, 2, 3] * 9, "y": [-1.0, 2.5, 3.0] * 9}, target="y")


# --- Checkpoints


class Stop(Exception):
    pass


class StopsAfter:
    """A callback that ends the training with an error, after so many epochs."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def setup(self, estimator, context) -> None:
        pass

    def on_fit_task_begin(self, estimator, context) -> None:
        pass

    def on_fit_task_end(self, estimator, context) -> None:
        self.left -= context.max_subtasks == 0
        if not self.left:
            raise Stop

    def teardown(self, estimator, context) -> None:
        pass


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_training_goes_on_from_its_checkpoint_to_the_same_bits(skewed, tmp_path, solver):
    table = {**skewed, "town": np.where(skewed["x"] > 0.5, "a", "b")}
    parameters = {"hidden": (8,), "epochs": 9, "solver": solver, "random_state": 0}
    whole = fb.TableRegressor(**parameters).fit(table, target="y")
    checkpoint = fb.Checkpoint(tmp_path / "late.ckpt", seconds=0)
    cut = fb.TableRegressor(**parameters).set_callbacks(checkpoint, StopsAfter(4))
    with pytest.raises(Stop):
        cut.fit(table, target="y")
    so_far = fb.load(tmp_path / "late.ckpt")
    assert type(so_far) is fb.TableRegressor
    assert so_far.predict(table).shape == (2000,)
    assert so_far.record_["ended"]["epoch"] < 9
    rest = fb.TableRegressor(**parameters).set_callbacks(checkpoint).fit(table, target="y", resume=checkpoint)
    assert np.array_equal(rest.predict(table), whole.predict(table))
    assert rest.loss_curve_ == whole.loss_curve_
    assert rest.record_ == whole.record_
    assert np.array_equal(fb.load(tmp_path / "late.ckpt").predict(table), whole.predict(table))
    longer = fb.TableRegressor(**{**parameters, "epochs": 12}).fit(table, target="y", resume=checkpoint)
    assert len(longer.loss_curve_) == 12
    with pytest.raises(InputError, match="hidden_layer_sizes"):
        fb.TableRegressor(**{**parameters, "hidden": (9,)}).fit(table, target="y", resume=checkpoint)
    other = {**table, "x": table["x"][::-1]}
    with pytest.raises(InputError, match="checkpoint"):
        fb.TableRegressor(**{**parameters, "epochs": 12}).fit(other, target="y", resume=checkpoint)
