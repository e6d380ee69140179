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
from fullbatch.saving.model_file import FORMAT_VERSION, read
from fullbatch.saving.training_state import IN_FILES, VERSION
from fullbatch.sources import store_file
from fullbatch.tables.raw import RawTable
from fullbatch.training.state import OrderState, TrainingState

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


# The first of format 3 of model files, of version 1 of checkpoints and of stores.
OF_0_2 = json.loads((DATA / "predictions.v3.json").read_text(encoding="utf-8"))


def test_models_of_format_3(X):
    rows = {
        "b": ["x" if value > 0 else "y" for value in X[:6, 1]],
        "a": X[:6, 0],
        "day": [str(np.datetime64("2022-01-01") + np.timedelta64(20 * i, "D")) for i in range(6)],
    }
    found = fb.load(DATA / "table.v3.fullbatch").predict_proba(rows)
    np.testing.assert_allclose(found, OF_0_2["table"], rtol=1e-5)
    found = fb.load(DATA / "classifier.v3.fullbatch").predict_proba(X[:6])
    np.testing.assert_allclose(found, OF_0_2["classifier"], rtol=1e-12)


@pytest.mark.filterwarnings("ignore:.*its last digits will differ")  # of another machine, or of newer libraries
@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_of_an_earlier_version(version, X, tmp_path):
    """It is a model, and its training goes on. One of version 2 may keep the order of an epoch, as this one does."""
    path = tmp_path / "late.ckpt"
    path.write_bytes((DATA / f"checkpoint.v{version}.ckpt").read_bytes())
    expected = (OF_0_2 if version == 1 else OF_FORMAT_4)["checkpoint"]
    np.testing.assert_allclose(fb.load(path).predict_proba(X[:6]), expected, rtol=1e-12)
    kept = fb.Checkpoint(path).state().state.order.kept
    assert (None if kept is None else kept.drawn) == (None if version == 1 else 3)
    model = fb.MLPClassifier(hidden_layer_sizes=(3,), max_iter=5, batch_size=20, learning_rate="linear", random_state=0)
    model.fit(X, (X[:, 0] > 0).astype(int), resume=fb.Checkpoint(path))
    assert len(model.loss_curve_) == 5
    assert model.loss_curve_[:3] == fb.load(path).loss_curve_


@pytest.mark.parametrize("version", [1, 2])
def test_a_store_of_an_earlier_version(version):
    pytest.importorskip("pyarrow")
    expected = (OF_0_2 if version == 1 else OF_FORMAT_4)["store"]
    with fb.open_store(DATA / f"table.v{version}.store") as store:
        sizes = (54, 6) if version == 1 else (1009, 111)
        assert (store.train.m, store.held_out.m, store.classes) == (*sizes, ("no", "yes"))
        rows = np.asarray(store.examples(store.train).X.reader()(slice(0, len(expected)))).T
        np.testing.assert_allclose(rows, expected, rtol=1e-6)
        fb.TableClassifier(hidden=(2,), epochs=1).fit(store)


# Format 4 of model files: bins beside numbers, a threshold, the logarithm of a target. Version 2 of the others.
OF_FORMAT_4 = json.loads((DATA / "predictions.v4.json").read_text(encoding="utf-8"))


def test_models_of_format_4():
    rows = {"a": [0.25, 2.5, 7.25, 9.0], "b": ["x", "y", "x", "z"]}
    model = fb.load(DATA / "table.v4.fullbatch")
    assert any(category.edges for category in model.network_.encoding.categories)
    np.testing.assert_allclose(model.predict_proba(rows), OF_FORMAT_4["table"], rtol=1e-5)
    assert model.predict(rows).tolist() == OF_FORMAT_4["labels"]
    assert OF_FORMAT_4["labels"] != [["no", "yes"][p > 0.5] for _, p in OF_FORMAT_4["table"]]  # the threshold decides
    found = fb.load(DATA / "numbers.v4.fullbatch").predict(rows)
    np.testing.assert_allclose(found, OF_FORMAT_4["numbers"], rtol=1e-4)


def test_another_field_is_another_version(tmp_path):
    """A field that an earlier reader would not know, and not be able to do without, has to raise the version.

    Then the lists below, and the files of tests/data, have one more version; what a reader may ignore is added here.
    """
    assert (FORMAT_VERSION, VERSION, store_file.FORMAT_VERSION) == (4, 2, 2)
    encoding = ["categories", "classes", "dtype", "feature_names", "indicators", "numbers", "target", "target_scale"]
    model = ["encoding", "estimator", "format_version", "fullbatch", "kind", "params", "record", "sha256", "threshold"]
    content, _ = read(DATA / "table.v4.fullbatch")
    fb.save(fb.load(DATA / "table.v4.fullbatch"), tmp_path / "again")
    again, _ = read(tmp_path / "again")
    assert sorted(content) == sorted(again) == model
    assert sorted(set(again["encoding"]) - {"task"}) == encoding
    kinds = {frozenset(one) for one in again["encoding"]["categories"]}
    assert frozenset().union(*kinds) == {"name", "levels", "other", "missing", "part", "edges"}
    numbers, _ = read(DATA / "numbers.v4.fullbatch")
    assert set(numbers["encoding"]) - set(again["encoding"]) == {"target_unit", "target_least"}
    kept, _ = read(DATA / "checkpoint.v2.ckpt")
    assert sorted(kept["training"]) == [
        "before", "best_theta", "facts", "generator", "log", "search", "state", "theta", "version",
    ]  # fmt: skip
    fields = {IN_FILES.get(name, name) for name in TrainingState._fields}
    assert sorted(kept["training"]["state"]) == sorted(fields - {"theta", "best_theta"})
    assert len(kept["training"]["state"]["order"]) == len(OrderState._fields)
