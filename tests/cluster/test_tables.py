"""Tables that workers read, or hold: the encoding, the bits and the scores of one process on the same rows."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import fullbatch as fb
from callbacks import At
from fullbatch.command import app
from fullbatch.errors import ClusterError, InputError, TableError
from fullbatch.fold import cluster as engine
from fullbatch.tables import stream
from in_process import InProcess

pytest.importorskip("distributed", reason="distributed is not installed")
from fullbatch.dask import TableClassifier, TableRegressor
from fullbatch.dask import estimators as estimators_there
from fullbatch.dask.tables import ClusterTable, Wanted

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fullbatch.errors.TableWarning"),
]
LEAF, ROWS = 256, 3000


@pytest.fixture
def small_leaves(monkeypatch):
    for where in ("fullbatch.tables.store", "fullbatch.fold.tree", engine.__name__, "fullbatch.training.windows"):
        monkeypatch.setattr(f"{where}.leaf_size", lambda n: LEAF)
    for where in ("statistics.LEAF", "spans.LEAF", "spans.UNIT"):
        monkeypatch.setattr(f"fullbatch.tables.{where}", LEAF)
    monkeypatch.setattr(stream, "ROWS", 200)


def columns(seed=0, m=ROWS):
    rng = np.random.default_rng(seed)
    table = {
        "a": rng.normal(size=m), "b": rng.integers(0, 20, m).astype(float), "town": rng.choice(["x", "y", "zz"], m),
        "day": np.datetime64("2020-01-01") + rng.integers(0, 400, m), "w": rng.uniform(0, 2, m),
        "group": rng.integers(0, 40, m),
    }  # fmt: skip
    table["b"][rng.uniform(size=m) < 0.1] = np.nan
    table["w"][rng.uniform(size=m) < 0.1] = 0
    late = np.where(table["a"] * table["b"] / 10 + rng.normal(size=m) > 0, "yes", "no").astype(object)
    late[rng.uniform(size=m) < 0.05] = None
    late[7] = "rare"  # which may be held out, and then is no class
    return {**table, "late": late, "price": table["a"] ** 2 + rng.uniform(size=m)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One table as two Parquet files, of row groups of other lengths."""
    folder, table = tmp_path_factory.mktemp("tables"), pa.table(columns())
    parquet.write_table(table.slice(0, 1234), folder / "0.parquet", row_group_size=330)
    parquet.write_table(table.slice(1234), folder / "1.parquet", row_group_size=500)
    return [folder / "0.parquet", folder / "1.parquet"]


def assert_same(found, expected):
    for one, other in zip(found.coefs_ + found.intercepts_, expected.coefs_ + expected.intercepts_, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.loss_curve_ == expected.loss_curve_


ASKED = {
    "plain": ({"solver": "lbfgs", "epochs": 3}, None),
    "weights, the last days": ({"solver": "gd", "epochs": 3, "split_by": "day"}, "w"),
    "groups, by class": (
        {"solver": "lbfgs", "epochs": 2, "group": "group", "class_weight": {"no": 1, "rare": 1, "yes": 2}},
        "w",
    ),
    "by class": ({"solver": "gd", "epochs": 2, "class_weight": {"no": 1, "rare": 1, "yes": 2}}, None),
    "all": ({"solver": "adam", "batch_size": "full", "epochs": 2, "validation": 0.0, "drop": ["w"]}, None),
}


@pytest.mark.parametrize("asked", ASKED)
def test_files_have_the_encoding_the_bits_and_the_scores_of_one_process(files, small_leaves, asked):
    how, weight = ASKED[asked]
    how = {"hidden": (4,), "drop": ["price"], **how}
    expected = fb.TableClassifier(**how).fit(files, target="late", sample_weight=weight)
    for workers in (InProcess(1), InProcess(3, lose=lambda call, address: call == 3)):
        model = fb.TableClassifier(**how)
        table = ClusterTable.of_files(list(map(str, files)), Wanted.of(model, "late", weight), workers)
        assert expected.network_.encoding.same_as(table.encoding)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="cluster: the worker")
            model.fit(table)
        assert workers.calls > 2
        assert_same(model.estimator_, expected.estimator_)
        for name in ("rows", "left_out", "held_out_rows", "held_out", "guess"):
            assert model.record_[name] == expected.record_[name], name


def test_marks_for_missing_values_are_gaps_on_workers_too(tmp_path, small_leaves):
    """As of one process, and with the bits of a table that has the gaps."""
    table = columns()
    gaps = np.random.default_rng(1).random(ROWS) < 0.2
    table["a"][gaps] = -999
    how = {"hidden": (4,), "drop": ["price"], "solver": "lbfgs", "epochs": 2}
    parquet.write_table(pa.table(table), tmp_path / "marked.parquet", row_group_size=330)
    with_gaps = {**table, "a": pa.array(table["a"], mask=gaps)}
    parquet.write_table(pa.table(with_gaps), tmp_path / "gaps.parquet", row_group_size=330)
    expected = fb.TableClassifier(**how).fit(tmp_path / "gaps.parquet", target="late")
    model = fb.TableClassifier(**how, missing=["-999"])
    marked = [str(tmp_path / "marked.parquet")]
    model.fit(ClusterTable.of_files(marked, Wanted.of(model, "late"), InProcess(3)))
    assert_same(model.estimator_, expected.estimator_)
    assert model.record_["held_out"] == expected.record_["held_out"]
    without = fb.TableClassifier(**how)
    without.fit(ClusterTable.of_files(marked, Wanted.of(without, "late"), InProcess(3)))
    assert without.loss_curve_ != expected.loss_curve_


def test_a_second_training_has_the_bits_of_one_process(files, small_leaves, monkeypatch):
    monkeypatch.setattr("fullbatch.estimators.descent.epochs_of_second", lambda best, planned: 3)
    how = {"hidden": (4,), "drop": ["price"], "solver": "gd", "epochs": 5}
    expected = fb.TableClassifier(**how).fit(files, target="late")
    model = fb.TableClassifier(**how)
    model.fit(ClusterTable.of_files(list(map(str, files)), Wanted.of(model, "late"), InProcess(3)))
    assert model.retraining_ == expected.retraining_ == [5, 3]
    assert_same(model.estimator_, expected.estimator_)
    assert model.validation_costs_ == expected.validation_costs_
    assert model.record_["ended"] == expected.record_["ended"]


def test_a_regression_of_the_logarithm(files, small_leaves):
    how = {"hidden": (3,), "solver": "lbfgs", "epochs": 2, "log_target": True, "loss": "absolute_error", "drop": ["w"]}
    expected = fb.TableRegressor(**how).fit(files, target="price")
    model = fb.TableRegressor(**how)
    model.fit(ClusterTable.of_files(list(map(str, files)), Wanted.of(model, "price"), InProcess(2)))
    assert expected.network_.encoding.same_as(model.network_.encoding)
    assert_same(model.estimator_, expected.estimator_)


# --- Of real workers -------------------------------------------------------------------------------------------------


def test_files_on_processes(client, files):
    how = {"hidden": (4,), "solver": "lbfgs", "epochs": 2}
    expected = fb.TableClassifier(**how).fit(files, target="late")
    model = TableClassifier(**how, client=client).fit(list(map(str, files)), target="late")
    assert_same(model.estimator_, expected.estimator_)
    assert model.record_["held_out"] == expected.record_["held_out"]
    assert type(model.to_local()) is fb.TableClassifier


def test_partitions_stay_where_they_are_and_a_training_on_them_goes_on_from_its_checkpoint(client, tmp_path):
    pandas, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    table = pandas.DataFrame(columns())
    how = {"hidden": (4,), "solver": "lbfgs", "epochs": 2}
    expected = fb.TableClassifier(**how).fit(table, target="late", sample_weight="w")
    model = TableClassifier(**how, client=client)
    model.fit(dd.from_pandas(table, npartitions=1), target="late", sample_weight="w")
    assert_same(model.estimator_, expected.estimator_)
    assert model.record_["held_out"] == expected.record_["held_out"]
    frame = dd.from_pandas(table, npartitions=4)
    model.set_callbacks(At(1, stop), fb.Checkpoint(tmp_path / "kept", 0))
    with pytest.raises(InterruptedError):
        model.fit(frame, target="late", sample_weight="w")
    gone_on = TableClassifier(**how, client=client)
    gone_on.fit(frame, target="late", sample_weight="w", resume=fb.Checkpoint(tmp_path / "kept"))
    model.set_callbacks().fit(frame, target="late", sample_weight="w")
    assert_same(gone_on.estimator_, model.estimator_)
    assert "leaves follow the partitions" in model.note_
    assert model.record_["held_out_rows"] == expected.record_["held_out_rows"]
    for one, other in zip(model.estimator_.coefs_, expected.estimator_.coefs_, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-3)
    assert model.score(frame.dropna()).compute() == model.score(table.dropna())


def stop():
    raise InterruptedError


def test_partitions_that_differ_are_named(client):
    pandas, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    import dask

    table = pandas.DataFrame({"a": [1.0, 2.0, 3.0] * 5, "late": ["x", "y", "x"] * 5})
    other = {"columns": table.rename(columns={"a": "c"}), "types": table.assign(a="text")}
    says = {"columns": r"partition 1 has the columns .*'c'", "types": "partition 1 has .*string in column 'a'"}
    for name, one in other.items():
        parts = [dask.delayed(table), dask.delayed(one)]
        frame = dd.from_delayed(parts, meta=table, verify_meta=False)
        with pytest.raises(TableError, match=says[name]):
            TableClassifier(client=client, solver="lbfgs").fit(frame, target="late")


# --- The command ----------------------------------------------------------------------------------------------------


def test_the_command_trains_scores_and_predicts_on_a_cluster(cluster, client, files, path, tmp_path, capsys):
    """``client`` is here for its three workers."""
    address, data = cluster.scheduler_address, str(files[0].parent)
    there, here = tmp_path / "there.model", tmp_path / "here.model"
    how = ["--target", "late", "--solver", "lbfgs", "--epochs", "2", "--hidden", "4", "--quiet", "--drop", "price"]
    assert app.main(["train", data, *how, "--model", str(there), "--cluster", address]) == 0
    assert app.main(["train", data, *how, "--model", str(here)]) == 0
    np.testing.assert_array_equal(fb.load(there).network_.theta, fb.load(here).network_.theta)
    capsys.readouterr()
    own = {}
    for name, more in {"here": [], "there": ["--cluster", address]}.items():
        assert app.main(["evaluate", str(here), data, "--json", "--weight", "w", *more]) == 0
        own[name] = json.loads(capsys.readouterr().out)
        out = tmp_path / f"{name}.parquet"
        assert app.main(["predict", str(here), data, "--out", str(out), "--keep", "town", *more]) == 0
        assert app.main(["predict", str(here), data, *more]) == 0
        own[name]["csv"], own[name]["bytes"] = capsys.readouterr().out, out.read_bytes()
    assert own["here"] == own["there"]
    model = tmp_path / "of_a_store.model"
    assert app.main(["train", str(path), "--solver", "gd", "--epochs", "1", "--quiet", "--model", str(model)]) == 0
    capsys.readouterr()
    scores = []
    for more in ([], ["--cluster", address]):
        assert app.main(["evaluate", str(model), str(path), "--json", *more]) == 0
        scores.append(capsys.readouterr().out)
    assert scores[0] == scores[1]


# --- What cannot be used --------------------------------------------------------------------------------------------


def fit_files(paths, workers=None, **how):
    model = fb.TableClassifier(**{"solver": "lbfgs", **how})
    return model.fit(ClusterTable.of_files(list(map(str, paths)), Wanted.of(model, "late"), workers or InProcess(2)))


def test_what_cannot_be_used(files, tmp_path, monkeypatch, small_leaves):
    (tmp_path / "table.csv").write_text("a,late\n" + "1,yes\n2,no\n" * 20)
    with pytest.raises(InputError, match=r"is CSV, whose rows have to be read from the first on.*fullbatch convert"):
        fit_files([tmp_path / "table.csv"])
    with pytest.raises(ValueError, match=r"mini-batches of files are refused on a cluster: their rows lie in an order"):
        fit_files(files, solver="adam")
    monkeypatch.setattr("fullbatch.tables.spans.MOST_LEVELS", 3)
    with pytest.raises(TableError, match="'town' has 3 different texts or more, which a cluster does not count"):
        fit_files(files)


def test_a_share_without_rows_is_refused_before_anything_is_trained(files, small_leaves):
    workers = InProcess(2)
    with pytest.raises(InputError, match=r"a validation share of 1e-05 of 2,\d\d\d rows holds out none; give a larger"):
        fit_files(files, workers, validation=1e-5)
    assert workers.calls == workers.made == 0
    model, table = fb.TableRegressor(validation=1 - 1e-5), list(map(str, files))
    with pytest.raises(InputError, match=r"of 3,000 rows leaves \d to learn from, and two at least are needed"):
        ClusterTable.of_files(table, Wanted.of(model, "price"), InProcess(2))
    assert fit_files(files, validation=0.0, epochs=1).record_["held_out"] is None


def test_what_is_asked_of_a_table_s_estimator(monkeypatch, files):
    monkeypatch.setattr(estimators_there, "connected", lambda client: pytest.fail("it is known before"))
    model = TableRegressor(client="tcp://127.0.0.1:1")
    with pytest.raises(TableError, match="on a cluster the target is a column of the table: give target="):
        model.fit(files, np.ones(3))
    with pytest.raises(InputError, match="on a cluster the weights are a column of the table"):
        model.fit(files, target="late", sample_weight=np.ones(3))
    with pytest.raises(InputError, match="X_val, y_val and their weights are refused"):
        model.fit(files, target="late", X_val=files[0])
    with pytest.raises(InputError, match="a cluster learns from a store, files or a Dask DataFrame; got dict"):
        model.fit({"a": [1, 2]}, target="a")


def test_files_that_a_worker_does_not_see_or_sees_otherwise(files, tmp_path, small_leaves):
    class Elsewhere(InProcess):
        """The files are other ones by the time that they are counted."""

        def __init__(self, count, become):
            super().__init__(count)
            self.become = become

        def each(self, function, arguments, needs=()):
            if function.__name__ == "count":
                self.become()
            return super().each(function, arguments, needs)

    copied = tmp_path / "0.parquet"
    changes = {
        "Every worker reads the table by this path": copied.unlink,
        r"has 4 bytes on a worker and [0-9,]+ here": lambda: copied.write_bytes(b"PAR1"),
    }
    for match, change in changes.items():
        copied.write_bytes(files[0].read_bytes())
        with pytest.raises(TableError, match=match):
            fit_files([copied], Elsewhere(2, change))


def test_a_worker_that_is_out_of_memory_while_it_counts(client):
    from fullbatch.dask.connection import connected

    with connected(client) as workers:
        for function, match in ((_no_memory, r"out of memory \(1 GB\)"), (_killed, "was lost again and again.*")):
            with pytest.raises(ClusterError, match=match + ": it needs 2 GB; give each"):
                workers.each(function, [()], ["it needs 2 GB"])


@pytest.mark.parametrize("function", ["count", "arrays"])
def test_what_counting_and_encoding_need_is_said(files, small_leaves, function):
    class Short(InProcess):
        def each(self, called, arguments, needs=()):
            if called.__name__ == function:
                assert len(needs) == len(arguments)
                raise MemoryError(needs[0])
            return super().each(called, arguments, needs)

    says = {
        "count": r"to count [0-9,]+ rows it holds [0-9,]+ of them at a time, about [0-9,]+ bytes",
        "arrays": r"its 65,536 rows take up to [0-9,]+ bytes encoded",
    }
    with pytest.raises(MemoryError, match=says[function]):
        fit_files(files, Short(2), epochs=1)


def _no_memory():
    raise MemoryError("1 GB")


def _killed():
    from types import SimpleNamespace

    from distributed.scheduler import KilledWorker

    raise KilledWorker("task", SimpleNamespace(address="tcp://127.0.0.1:1"), 3)
