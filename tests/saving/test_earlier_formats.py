"""Model files that earlier revisions wrote load, and predict what they predicted then.

tests/data has a small file of each kind for each version of the format, written by the revision that had it, and the
predictions of its first rows. Another instruction set or BLAS may change their last digits; a wrong weight, activation
or scale changes far more.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import fullbatch as fb
from fullbatch.tables.raw import RawTable

DATA = Path(__file__).parents[1] / "data"
EXPECTED = json.loads((DATA / "predictions.v1.json").read_text(encoding="utf-8"))
KINDS = {"classifier": fb.MLPClassifier, "regressor": fb.MLPRegressor, "logistic": fb.LogisticRegression}


@pytest.fixture
def X():
    return np.round(np.random.default_rng(7).standard_normal((60, 3)), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_an_estimator_of_format_1(kind, X):
    model = fb.load(DATA / f"{kind}.v1.fullbatch")
    assert type(model) is KINDS[kind]
    predicted = model.predict(X[:6]) if kind == "regressor" else model.predict_proba(X[:6])
    np.testing.assert_allclose(predicted, EXPECTED[kind], rtol=1e-12)


def test_a_model_of_a_table_of_format_1(X, tmp_path):
    model = fb.load(DATA / "table.v1.fullbatch")
    table = RawTable.of({"b": ["x" if value > 0 else "y" for value in X[:6, 1]], "a": X[:6, 0]})
    assert type(model) is fb.TableClassifier
    assert model.classes_.tolist() == ["no", "yes"]
    assert (model.hidden, model.epochs, model.record_, model.columns_) == ((3,), 5, {}, [])
    np.testing.assert_allclose(model.predict_proba(table), EXPECTED["table"], rtol=1e-5)
    fb.save(model, tmp_path / "m.model")
    again = fb.load(tmp_path / "m.model")
    assert again.get_params() == model.get_params()
    assert np.array_equal(again.predict_proba(table), model.predict_proba(table))


def test_a_model_of_a_table_of_format_2(X):
    """It has a date as a number alone, a small integer, a word for missing of its own."""
    model = fb.load(DATA / "table.v2.fullbatch")
    days = [datetime(2022, 1, 1) + timedelta(days=20 * i, hours=i) for i in range(6)]
    columns = {"b": ["x" if value > 0 else "y" for value in X[:6, 1]], "a": X[:6, 0], "day": days, "hour": range(6)}
    assert [category.name for category in model.network_.encoding.categories] == ["b", "hour"]
    expected = json.loads((DATA / "predictions.v2.json").read_text(encoding="utf-8"))["table"]
    np.testing.assert_allclose(model.predict_proba(RawTable.of(columns)), expected, rtol=1e-5)
    np.testing.assert_array_equal(
        fb.load(DATA / "table.v2.fullbatch").predict_proba(columns), model.predict_proba(columns)
    )
