"""The model of a raw table: it predicts and scores tables as they come, in the words and units of their columns."""

from __future__ import annotations

import numpy as np
import pytest

from fullbatch import TableRegressor
from fullbatch.errors import InputError, TableError
from fullbatch.tables.raw import RawTable
from tables.conftest import QUICK, people


def test_predictions_are_the_classes_of_the_table(trained):
    new = people(50, seed=9)
    proba, labels = trained.predict_proba(new), trained.predict(new)
    assert proba.shape == (50, 2)
    assert proba.sum(axis=1) == pytest.approx(np.ones(50), abs=1e-6)
    assert np.array_equal(labels, np.array(["no", "yes"])[proba.argmax(axis=1)])
    truth = np.array(["no", "yes"])[trained.network_.encoding.encode_target(new)]
    assert trained.evaluate(new)["accuracy"] == np.mean(labels == truth) == trained.score(new)


def test_a_regression_predicts_in_the_targets_own_units():
    trained = TableRegressor(**QUICK).fit(people(900), target="spends")
    model, guess = trained.record_["held_out"], trained.record_["guess"]
    assert set(model) == set(guess) == {"m", "cost", "r2", "rmse", "mae"}
    assert model["r2"] > 0.7 > 0.1 > guess["r2"]
    assert 1e3 < model["mae"] < guess["mae"]
    new = people(80, seed=5)
    predicted, truth = trained.predict(new), new.column("spends").values
    assert trained.evaluate(new)["mae"] == pytest.approx(np.mean(np.abs(predicted - truth)), rel=1e-4)
    with pytest.raises(InputError, match="no probabilities"):
        trained.network_.predict_proba(new)


def test_a_class_that_training_had_not_is_refused(trained):
    new = people(5, seed=1)
    strange = RawTable({**new.columns, "pays": RawTable.of({"y": ["yes", "no", "maybe", "no", "no"]}).columns["y"]}, 5)
    assert len(trained.predict(strange)) == 5  # the target is of no interest there
    with pytest.raises(TableError, match="'maybe'"):
        trained.evaluate(strange)


def test_rows_without_a_target_are_not_scored(trained):
    new = people(50, seed=9)
    pays = [None, None, *np.array(["no", "yes"])[trained.network_.encoding.encode_target(new)].tolist()[2:]]
    some = RawTable({**new.columns, "pays": RawTable.of({"y": pays}).columns["y"]}, 50)
    assert trained.evaluate(some) == trained.evaluate(new.select(np.arange(2, 50)))
    with pytest.raises(TableError, match="missing in every row"):
        trained.evaluate(some.select(np.arange(2)))


def test_a_model_says_what_it_is(trained):
    assert "target='pays'" in repr(trained.network_)
    assert repr(trained).startswith("TableClassifier(")
