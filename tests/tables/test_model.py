"""The model of a raw table: rows held out first, the scores, training and prediction."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from fullbatch.errors import InputError, TableError
from fullbatch.tables.model import (
    Settings,
    TableModel,
    area_under_roc,
    score_classes,
    score_numbers,
    split_rows,
    train_table,
)
from fullbatch.tables.reading import RawTable


def people(m: int = 600, seed: int = 0) -> RawTable:
    """A table whose target follows from a text, an integer and a number, with some noise."""
    rng = np.random.default_rng(seed)
    town = rng.choice(["Bonn", "Kiel", "Ulm"], m)
    age = rng.integers(18, 80, m)
    income = rng.normal(2.0, 1.0, m) + (town == "Ulm")
    score = income + 0.03 * age + 0.3 * rng.normal(size=m)
    return RawTable.of(
        {
            "town": town,
            "age": age,
            "income": income,
            "pays": np.where(score > 3.6, "yes", "no"),
            "spends": 1e5 * score,
        }
    )


QUICK = Settings(hidden=(8,), epochs=30, batch_size=32, learning_rate=0.02)


@pytest.fixture(scope="module")
def trained():
    table = people()
    return train_table(table, "pays", QUICK, numeric=["spends"], categorical=["age"])


# --- Rows that are held out


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_class_keeps_its_share_and_a_row_to_learn_from(counts, fraction, seed):
    labels = np.repeat([f"c{i}" for i in range(len(counts))], counts)
    table = RawTable.of({"x": np.arange(len(labels)), "y": labels})
    learn, held_out = split_rows(table, "y", Settings(validation=fraction, seed=seed))
    assert np.array_equal(np.sort(np.concatenate([learn, held_out])), np.arange(table.m))
    assert np.all(np.diff(learn) > 0)
    assert np.all(np.diff(held_out) > 0)
    for i, count in enumerate(counts):
        of_class = np.count_nonzero(labels[held_out] == f"c{i}")
        assert of_class < count
        assert abs(of_class - fraction * count) <= 1 + 1e-9


def test_the_split_follows_the_seed():
    table = people()
    first = split_rows(table, "pays", Settings(seed=1))
    assert all(np.array_equal(*pair) for pair in zip(first, split_rows(table, "pays", Settings(seed=1)), strict=True))
    assert not np.array_equal(first[1], split_rows(table, "pays", Settings(seed=2))[1])


def test_a_quantity_is_not_split_by_its_values():
    table = RawTable.of({"x": np.arange(200), "y": np.arange(200) / 7})
    assert len(split_rows(table, "y", Settings(validation=0.5))[1]) in (99, 100, 101)  # all are one stratum
    whole = RawTable.of({"x": np.arange(200), "y": np.arange(200)})
    assert len(split_rows(whole, "y", Settings(validation=0.5), "regress")[1]) in (99, 100, 101)
    assert len(split_rows(whole, "y", Settings(validation=0.5), "classify")[1]) == 0  # each class has one row


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 7, float("nan")])
def test_a_share_out_of_range_is_refused(fraction):
    with pytest.raises(InputError, match="validation must be"):
        split_rows(people(), "pays", Settings(validation=fraction))


def test_nothing_is_learned_from_the_held_out_rows(trained):
    table = people()
    learn, _ = split_rows(table, "pays", QUICK)
    income = table.column("income").values[learn]
    encoding = trained.model.encoding
    assert encoding.center[encoding.numbers.index("income")] == pytest.approx(income.mean())
    assert trained.m == len(learn)
    assert trained.held_out.m == table.m - len(learn)


# --- Scores


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


# --- Training and prediction


def test_a_classification_beats_the_majority_guess(trained):
    model, guess = trained.scores()
    assert set(model) == set(guess) == {"m", "cost", "accuracy", "auc", "log_loss"}
    assert model["accuracy"] > 0.9 > guess["accuracy"] + 0.1
    assert model["log_loss"] < 0.5 * guess["log_loss"]
    assert guess["auc"] == 0.5
    assert trained.model.task == "classify"
    assert trained.model.classes == ("no", "yes")


def test_the_guess_knows_the_training_shares_alone(trained):
    guess = trained.scores()[1]
    share = np.mean(trained.targets)
    target = trained.model.encoding.encode_target(trained.held_out)
    assert guess["log_loss"] == pytest.approx(metrics.log_loss(target, np.full(len(target), share)))
    assert guess["accuracy"] == np.mean(target == (share > 0.5))


def test_predictions_are_the_classes_of_the_table(trained):
    new = people(50, seed=9)
    proba, labels = trained.model.predict_proba(new), trained.model.predict(new)
    assert proba.shape == (50, 2)
    assert proba.sum(axis=1) == pytest.approx(np.ones(50), abs=1e-6)
    assert np.array_equal(labels, np.array(["no", "yes"])[proba.argmax(axis=1)])
    truth = np.array(["no", "yes"])[trained.model.encoding.encode_target(new)]
    assert trained.model.evaluate(new)["accuracy"] == np.mean(labels == truth)


def test_a_regression_predicts_in_the_targets_own_units():
    table = people(900)
    trained = train_table(table, "spends", QUICK)
    assert trained.model.task == "regress"
    model, guess = trained.scores()
    assert set(model) == set(guess) == {"m", "cost", "r2", "mae"}
    assert model["r2"] > 0.7 > 0.1 > guess["r2"]
    assert 1e3 < model["mae"] < guess["mae"]
    new = people(80, seed=5)
    predicted, truth = trained.model.predict(new), new.column("spends").values
    assert trained.model.evaluate(new)["mae"] == pytest.approx(np.mean(np.abs(predicted - truth)), rel=1e-4)
    with pytest.raises(InputError, match="no probabilities"):
        trained.model.predict_proba(new)


def test_the_seed_decides_the_model():
    table = people(200)
    first, again, other = (train_table(table, "pays", Settings(hidden=(4,), epochs=2, seed=s)) for s in (1, 1, 2))
    new = people(20, seed=3)
    assert np.array_equal(first.model.predict_proba(new), again.model.predict_proba(new))
    assert not np.array_equal(first.model.predict_proba(new), other.model.predict_proba(new))


def test_without_held_out_rows_there_are_no_scores():
    trained = train_table(people(60), "pays", Settings(hidden=(4,), epochs=2, validation=0))
    assert trained.held_out is None
    assert trained.m == 60
    with pytest.raises(InputError, match="no rows were held out"):
        trained.scores()


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")  # after so few iterations
@pytest.mark.parametrize(
    ("solver", "hidden"), [("gd", (4,)), ("sgd", (4, 3)), ("lbfgs", (4,)), ("adam", ()), ("gd", ())]
)
def test_each_solver_and_depth_trains(solver, hidden):
    trained = train_table(people(300), "pays", Settings(hidden=hidden, solver=solver, epochs=20))
    assert np.isfinite(trained.scores()[0]["log_loss"])
    assert len(trained.model.estimator.coefs_) == len(hidden) + 1


def test_an_unknown_target_is_named():
    with pytest.raises(TableError, match=r"'payz'.*'pays'"):
        train_table(people(50), "payz", QUICK)


def test_a_class_that_training_had_not_is_refused(trained):
    new = people(5, seed=1)
    strange = RawTable({**new.columns, "pays": RawTable.of({"y": ["yes", "no", "maybe", "no", "no"]}).columns["y"]}, 5)
    assert len(trained.model.predict(strange)) == 5  # the target is of no interest there
    with pytest.raises(TableError, match="'maybe'"):
        trained.model.evaluate(strange)


@given(m=st.integers(1, 10**9))
def test_defaults_are_in_range_for_any_number_of_rows(m):
    for solver in ("adam", "sgd", "gd", "lbfgs"):
        chosen = Settings(solver=solver).for_rows(m)
        assert 2 <= chosen.epochs <= 1000
        assert chosen.batch_size == "full" or 1 <= chosen.batch_size <= 1000
        assert 0 < chosen.learning_rate < 1
        assert chosen.l2 > 0
    given_ = Settings(epochs=3, batch_size=7, learning_rate=0.5, l2=0.0).for_rows(m)
    assert (given_.epochs, given_.batch_size, given_.learning_rate, given_.l2) == (3, 7, 0.5, 0.0)


def test_a_model_says_what_it_is(trained):
    assert "target='pays'" in repr(trained.model)
    assert isinstance(trained.model, TableModel)
