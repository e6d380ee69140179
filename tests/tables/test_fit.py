"""Training on a table: rows held out first, the defaults, and what comes of the training."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from fullbatch import TableClassifier, TableRegressor
from fullbatch.errors import TableError
from fullbatch.tables.fit import Settings, learnable, task_of
from fullbatch.tables.raw import RawTable
from fullbatch.tables.splits import HoldOut
from tables.conftest import QUICK, people

SCORES = {"m", "cost", "accuracy", "auc", "average_precision", "log_loss", "confusion_matrix"}


def rows_of(table):
    """Those that are learned from, and those that are held out, by the defaults."""
    split = HoldOut().split(table, "pays", "classify")
    return split.train, split.held_out


# --- The training


def test_nothing_is_learned_from_the_held_out_rows(trained):
    table = people()
    learn, _ = rows_of(table)
    income = table.column("income").values[learn]
    encoding = trained.network_.encoding
    assert encoding.center[encoding.numbers.index("income")] == pytest.approx(income.mean())
    assert trained.record_["rows"] == len(learn)
    assert trained.record_["held_out"]["m"] == table.m - len(learn)


def test_a_classification_beats_the_majority_guess(trained):
    model, guess = trained.record_["held_out"], trained.record_["guess"]
    assert set(model) == set(guess) == SCORES
    assert model["accuracy"] > 0.9 > guess["accuracy"] + 0.1
    assert model["log_loss"] < 0.5 * guess["log_loss"]
    assert guess["auc"] == 0.5
    assert trained.network_.task == "classify"
    assert trained.network_.classes == ("no", "yes")


def test_the_guess_knows_the_training_shares_alone(trained):
    table = people()
    learn, held_out = rows_of(table)
    target = trained.network_.encoding.encode_target(table)
    share, target = np.mean(target[learn]), target[held_out]
    guess = trained.record_["guess"]
    assert guess["log_loss"] == pytest.approx(metrics.log_loss(target, np.full(len(target), share)))
    assert guess["accuracy"] == np.mean(target == (share > 0.5))


def test_the_seed_decides_the_model():
    def proba(seed):
        return TableClassifier((4,), epochs=2, random_state=seed).fit(people(200), target="pays").predict_proba(new)

    new = people(20, seed=3)
    assert np.array_equal(proba(1), proba(1))
    assert not np.array_equal(proba(1), proba(2))


def test_without_held_out_rows_there_are_no_scores():
    model = TableClassifier((4,), epochs=2, validation=0).fit(people(60), target="pays")
    assert model.record_["rows"] == 60
    assert model.record_["held_out"] is None
    assert model.validation_costs_ is None


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")  # after so few iterations
@pytest.mark.parametrize(
    ("solver", "hidden"), [("gd", (4,)), ("sgd", (4, 3)), ("lbfgs", (4,)), ("adam", ()), ("gd", ())]
)
def test_each_solver_and_depth_trains(solver, hidden):
    model = TableClassifier(hidden, solver=solver, epochs=20).fit(people(300), target="pays")
    assert np.isfinite(model.record_["held_out"]["log_loss"])
    assert len(model.estimator_.coefs_) == len(hidden) + 1


def test_an_unknown_target_is_named():
    with pytest.raises(TableError, match=r"'payz'.*'pays'"):
        TableClassifier(**QUICK).fit(people(50), target="payz")
    with pytest.raises(TableError, match=r"'payz'.*'pays'"):
        task_of(people(50), "payz")


# --- Rows that cannot be learned from


def test_a_class_that_is_a_word_for_missing_is_told():
    table = RawTable.of({"x": np.arange(60), "y": ["no", "NA", "no"] * 20})
    with pytest.raises(TableError, match=r"'no' in every row that has one; .*20 of 60 rows .*--keep-missing-words"):
        task_of(table, "y")
    with pytest.raises(TableError, match=r"expected at least two classes\.$"):
        task_of(RawTable.of({"y": [1, 1, None] * 20}), "y")


@pytest.mark.filterwarnings("ignore:.* of 60 rows have no target")
@pytest.mark.parametrize("option", [{"loss": "poisson"}, {"log_target": True}])
def test_a_negative_target_is_in_the_row_of_the_whole_table(option):
    table = {"x": np.arange(60), "y": [None, 2.0, 3.0, -1.0, *range(56)]}
    with pytest.raises(TableError, match="row 4 has -1"):
        TableRegressor(epochs=1, **option).fit(table, target="y")
    whole = {"x": np.arange(60), "y": np.arange(60) / 7}
    if "loss" in option:
        with pytest.raises(TableError, match=r"X_val: target 'y': the loss 'poisson' .* row 4 has -1"):
            TableRegressor(epochs=1, **option).fit(whole, target="y", X_val=table)


def test_rows_without_a_target_and_of_weight_0_are_left_out():
    table = RawTable.of({"x": np.arange(6.0), "y": ["a", None, "b", "a", None, "b"]})
    rows = learnable(table, "y", np.array([1.0, 1, 0, 2, 0, 3]))
    assert rows.table.column("x").values.tolist() == [0, 3, 5]
    assert rows.weight.tolist() == [1, 2, 3]
    assert rows.left_out == {"without_target": 2, "weight_0": 1}
    assert task_of(table, "y") == ("classify", ("a", "b"))
    whole = RawTable.of({"x": np.arange(6.0), "y": list("ababab")})
    assert learnable(whole, "y").table is whole
    with pytest.raises(TableError, match="no row is left to learn from: 2 of 2 rows have no target"):
        learnable(RawTable.of({"x": [1, 2], "y": [None, None]}), "y")
    infinite = RawTable.of({"x": [1.0, 2, np.inf], "y": [None, "a", "b"]})
    with pytest.raises(TableError, match="infinite in row 3"):  # of the whole table
        learnable(infinite, "y")


@given(m=st.integers(1, 10**9))
def test_defaults_are_in_range_for_any_number_of_rows(m):
    for solver in ("adam", "sgd", "gd", "lbfgs"):
        chosen = Settings(solver=solver).for_rows(m)
        assert 2 <= chosen.epochs <= 1000
        assert chosen.batch_size == "full" or 1 <= chosen.batch_size <= 1000
        assert 0 < chosen.learning_rate < 1
        assert chosen.l2 > 0
    assert (chosen.hidden, chosen.dropout) == ((128, 64), 0.0)  # of two classes, and not by batches
    given_ = Settings(epochs=3, batch_size=7, learning_rate=0.5, l2=0.0).for_rows(m)
    assert (given_.epochs, given_.batch_size, given_.learning_rate, given_.l2) == (3, 7, 0.5, 0.0)


@pytest.mark.parametrize(
    ("given_", "m", "task", "classes", "hidden", "dropout"),
    [
        ({}, 100_000, "classify", 3, (256, 128), 0.1),
        ({}, 100_001, "classify", 3, (128, 64), 0.0),
        ({}, 100, "classify", 2, (128, 64), 0.1),
        ({}, 100, "regress", 0, (128, 64), 0.0),
        ({"solver": "lbfgs"}, 100, "classify", 3, (256, 128), 0.0),
        ({"solver": "gd"}, 100, "classify", 3, (256, 128), 0.0),
        ({"device": "cuda:0,cuda:1"}, 100, "classify", 3, (256, 128), 0.0),
        ({"batch_size": "full"}, 100, "classify", 3, (256, 128), 0.0),
        ({"batch_size": 10}, 100, "classify", 2, (128, 64), 0.1),
        ({"hidden": (8,)}, 100, "classify", 3, (8,), 0.0),
        ({"hidden": (), "dropout": 0.5}, 100, "classify", 3, (), 0.5),
        ({"dropout": 0.0}, 100, "classify", 3, (256, 128), 0.0),
    ],
)
def test_the_network_is_chosen_by_rows_and_classes_where_nobody_says(given_, m, task, classes, hidden, dropout):
    chosen = Settings(**given_).for_rows(m, task, classes)
    assert (chosen.hidden, chosen.dropout) == (hidden, dropout)
