"""fit(paths) of a table that is larger than ``memory``: a store by itself, or the files in each iteration."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import fullbatch as fb
from fullbatch.errors import InputError, TableError, TableWarning
from fullbatch.tables import large, store, stream

M = 700
FIGURE = 5 * 4 * M


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    x, late = rng.normal(size=M), rng.random(M)
    path = tmp_path_factory.mktemp("large") / "t.parquet"
    columns = {
        "x": pa.array(x, mask=rng.random(M) < 0.1), "town": rng.choice(["a", "b"], M), "w": rng.integers(0, 4, M),
        "late": pa.array(np.where(x > late, "yes", "no"), mask=rng.random(M) < 0.02), "cost": x + late,
    }  # fmt: skip
    parquet.write_table(pa.table(columns), path, row_group_size=130)
    return path


@pytest.fixture(autouse=True)
def on_a_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(large, "_file_system", lambda folder: "ext4")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(stream, "ROWS", 50)


def parameters(model):
    return [*model.estimator_.coefs_, *model.estimator_.intercepts_, np.array(model.loss_curve_)]


@pytest.mark.parametrize(
    ("kind", "target", "params"),
    [
        (fb.TableClassifier, "late", {"solver": "gd", "drop": ["cost"], "class_weight": "balanced"}),
        (fb.TableClassifier, "late", {"solver": "lbfgs", "drop": ["cost"], "split_by": "x", "categorical": ["w"]}),
        (fb.TableRegressor, "cost", {"batch_size": "full", "drop": ["late"], "group": "w"}),
        (fb.TableRegressor, "cost", {"solver": "gd", "drop": ["late"], "loss": "absolute_error"}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*have no target:fullbatch.errors.TableWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_one_or_two_full_batches_have_the_bits_of_the_table_in_memory(path, tmp_path, kind, target, params):
    params = {"hidden": (4,), "epochs": 2, "n_jobs": 2, **params}
    if params.get("split_by") == "x":  # which has no gaps there
        table = parquet.read_table(path)
        path = tmp_path / "t.parquet"
        parquet.write_table(table.filter(pa.compute.is_valid(table["x"])), path)
    expected = kind(**params).fit(path, target=target)
    with pytest.warns(TableWarning, match="its files are read in each iteration, and no store is made"):
        model = kind(**params, memory=1000).fit(path, target=target)
    assert all(map(np.array_equal, parameters(model), parameters(expected)))
    assert model.validation_costs_ == expected.validation_costs_
    for name in ("held_out", "guess", "left_out", "held_out_by", "held_out_rows", "rows", "not_scored"):
        assert model.record_[name] == expected.record_[name], name


def test_a_store_is_made_learned_from_and_removed(path, tmp_path):
    params = {"hidden": (4,), "epochs": 3, "drop": ["cost"]}
    with pytest.warns(TableWarning, match=rf"has {FIGURE - 4 * M:,} bytes .* than memory=9,000: a store is made in"):
        model = fb.TableClassifier(**params, memory=9000).fit([path], target="late", sample_weight="w")
    store.convert(path, tmp_path / "s", "late", drop=["cost"], weight="w", validation=0.1)
    with fb.open_store(tmp_path / "s") as there:
        expected = fb.TableClassifier((4,), epochs=3).fit(there)
    assert all(map(np.array_equal, parameters(model), parameters(expected)))
    assert model.record_["data"]["store"] == {"bytes": FIGURE - 4 * M, "memory": 9000}
    assert model.record_["data"]["files"] == [{"name": "t.parquet", "bytes": path.stat().st_size}]
    assert [one.name for one in tmp_path.iterdir()] == ["s"]
    assert model.predict(path).shape == (M,)


def test_rows_to_hold_out_in_a_file_of_their_own(path, tmp_path):
    table = parquet.read_table(path).drop_columns(["cost"])
    for name, rows in (("a", table.slice(0, 500)), ("b", table.slice(500))):
        parquet.write_table(rows, tmp_path / name)
    given = {"target": "late", "sample_weight": "w", "X_val": tmp_path / "b"}
    params = {"hidden": (4,), "epochs": 2, "solver": "gd"}
    with pytest.warns(TableWarning, match="have no target"):
        expected = fb.TableClassifier(**params).fit(tmp_path / "a", **given)
    with pytest.warns(TableWarning, match="read in each iteration"):
        model = fb.TableClassifier(**params, memory=1000).fit(tmp_path / "a", **given)
    assert all(map(np.array_equal, parameters(model), parameters(expected)))
    for name in ("held_out", "guess", "held_out_by", "held_out_rows", "not_scored"):
        assert model.record_[name] == expected.record_[name], name
    assert model.record_["data"]["held_out"] == expected.record_["data"]["held_out"]


@pytest.mark.filterwarnings("ignore:the table has:fullbatch.errors.TableWarning")
def test_what_does_not_go_with_files_in_pieces(path, monkeypatch, tmp_path):
    y = np.zeros(M, int)
    fit = fb.TableClassifier(epochs=1, memory=1000).fit
    for given, words in [
        ({"y": y}, "instead of y give target=, a column"),
        ({"target": "late", "sample_weight": np.ones(M)}, "instead of sample_weight give the name"),
        ({"target": "late", "X_val": {"x": [1.0]}}, "instead of X_val give paths"),
        ({}, "the target is missing"),
    ]:
        with pytest.raises(InputError, match=words):
            fit(path, **given)
    with pytest.raises(TableError, match="no column 'nothing'"):
        fit(path, target="nothing")
    monkeypatch.setattr(large, "_file_system", lambda folder: "tmpfs")
    with pytest.raises(InputError, match=r"is in memory \(tmpfs\); let TMPDIR be a folder on a disk"):
        fit(path, target="late")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_changes_during_a_training_is_one_line(path, tmp_path):
    table = parquet.read_table(path).drop_columns(["cost"])
    parquet.write_table(table, tmp_path / "t.parquet")
    with large.straight(tmp_path / "t.parquet", "late", {}, None) as there:
        parquet.write_table(table.slice(0, 600), tmp_path / "t.parquet")
        with pytest.raises(TableError, match=r"t\.parquet has changed while it was read"):
            fb.TableClassifier((4,), solver="gd", epochs=1).fit(there)
