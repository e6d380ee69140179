"""What the estimators take and give back: tables of many kinds, arrays on devices, and scikit-learn's machinery."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import array_api_strict
import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fullbatch
from conftest import HOST_TWINS, use
from fullbatch import LogisticRegression, MLPClassifier, MLPRegressor, steps
from fullbatch.errors import ArrayTypeError
from fullbatch.machine import arrays, places
from fullbatch.machine.places import Place
from fullbatch.machine.threads import thread_count

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
LABELS = np.array(["setosa", "versicolor", "virginica"])[Y]
NAMES = ["sepal_l", "sepal_w", "petal_l", "petal_w"]
DEVICE = array_api_strict.Device("device1")
ESTIMATORS: list[Any] = [
    MLPClassifier(max_iter=4, random_state=0),
    MLPClassifier(max_iter=6, random_state=0, solver="sgd", early_stopping=True, class_weight="balanced"),
    MLPClassifier(max_iter=4, random_state=0, solver="lbfgs", activation="tanh"),
    MLPRegressor(max_iter=4, random_state=0),
    MLPRegressor(max_iter=4, random_state=0, loss="poisson", solver="gd"),
    LogisticRegression(max_iter=20),
]
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)


def as_frame() -> pd.DataFrame:
    return pd.DataFrame(X, columns=NAMES)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


TABLES = {
    "list": (X.tolist(), LABELS.tolist()),
    "read-only": (read_only(X), read_only(LABELS)),
    "column after column": (np.asfortranarray(X), LABELS),
    "strided": (np.repeat(X, 2, axis=1)[:, ::2], LABELS[::-1][::-1]),
    "pandas": (as_frame(), pd.Series(LABELS)),
    "pandas categories": (as_frame(), pd.Series(LABELS, dtype="category")),
    "polars": (pl.DataFrame(X, schema=NAMES), pl.Series(LABELS)),
    "arrow": (pa.table(as_frame()), pa.array(LABELS)),
    "arrow in chunks": (
        pa.concat_tables([pa.table(as_frame()[:70]), pa.table(as_frame()[70:])]),
        pa.chunked_array([LABELS[:9], LABELS[9:]]),
    ),
    "csr array": (sp.csr_array(X), LABELS),
    "csc matrix": (sp.csc_matrix(X), LABELS),
    "coo array": (sp.coo_array(X), LABELS),
}


@pytest.mark.parametrize("kind", TABLES)
def test_every_kind_of_table_gives_the_same_model(kind: str) -> None:
    table, y = TABLES[kind]
    plain = MLPClassifier(max_iter=4, random_state=0, batch_size=32).fit(X, LABELS)
    model = MLPClassifier(max_iter=4, random_state=0, batch_size=32).fit(table, y)
    np.testing.assert_allclose(model.coefs_[0], plain.coefs_[0], rtol=1e-10)
    np.testing.assert_allclose(model.predict_proba(table), plain.predict_proba(X), rtol=1e-10)
    np.testing.assert_array_equal(model.predict(table), plain.predict(X))
    assert model.score(table, y) == plain.score(X, LABELS)
    named = kind.startswith(("pandas", "polars", "arrow"))
    assert hasattr(model, "feature_names_in_") == named
    if named:
        assert list(model.feature_names_in_) == NAMES
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(as_frame().rename(columns={"petal_w": "width"}))
        broken = as_frame()
        broken.loc[3, "petal_w"] = np.nan
        with pytest.raises(ValueError, match=r"row 3, column 3 \('petal_w'\)"):
            model.predict(broken)


@pytest.mark.parametrize("twin", HOST_TWINS)
@pytest.mark.parametrize("many", [False, True])
def test_sparse_tables_stay_sparse_or_are_made_dense_block_by_block(twin: str, many: bool, monkeypatch: Any) -> None:
    share = steps.STEPS[use(twin, monkeypatch)].takes_sparse
    density = 1.3 * share if many else 0.7 * share
    largest = 0

    class Watched(sp.csr_array):  # type: ignore[misc]
        def toarray(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal largest
            largest = max(largest, self.shape[0])
            return super().toarray(*args, **kwargs)

    rng = np.random.default_rng(0)
    table = Watched(sp.random_array((6000, 300), density=density, rng=rng, format="csr"))
    dense, y = table.todense(), rng.integers(0, 2, 6000)
    by_dense = MLPClassifier((400,), solver="gd", max_iter=2, random_state=0).fit(dense, y)
    largest = 0
    model = MLPClassifier((400,), solver="gd", max_iter=2, random_state=0).fit(table, y)
    np.testing.assert_allclose(model.predict_proba(table), by_dense.predict_proba(dense), rtol=1e-9)
    assert 0 < largest < 2000 if many else largest == 0


def test_sparse_tables_with_bad_values_are_refused_with_the_place() -> None:
    table = sp.lil_array((50, 4))
    table[0, 1], table[31, 2] = 3.0, np.nan
    with pytest.raises(ValueError, match=r"Input X contains NaN\. The first is in row 31, column 2"):
        MLPClassifier().fit(table.tocsr(), np.arange(50) % 2)


# --- Arrays on devices -----------------------------------------------------------------------------------------------


@each_estimator
def test_arrays_come_back_where_they_came_from(xp: Any, estimator: Any) -> None:
    """Also with y and weights elsewhere: they follow X. Without SCIPY_ARRAY_API, and without a setting."""
    Xd, weight = xp.array(X), 1.0 + Y
    host = clone(estimator).fit(X.astype(xp.dtype), Y, sample_weight=weight)
    model = clone(estimator).fit(Xd, Y, sample_weight=xp.array(weight))
    tolerance = {"rtol": 1e-8, "atol": 1e-12} if xp.dtype == "float64" else {"rtol": 1e-3, "atol": 1e-4}
    for name in ("coefs_", "intercepts_"):
        for ours, theirs in zip(getattr(model, name), getattr(host, name), strict=True):
            assert xp.has(ours)
            np.testing.assert_allclose(xp.host(ours), theirs, **tolerance)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        if hasattr(model, method):
            result, expected = getattr(model, method)(Xd), getattr(host, method)(X.astype(xp.dtype))
            assert xp.has(result, str(expected.dtype))
            np.testing.assert_allclose(xp.host(result), expected, **tolerance)
    score = host.score(X, Y, sample_weight=weight)
    assert model.score(Xd, xp.array(Y, "int64"), sample_weight=weight) == pytest.approx(score, rel=1e-3)
    if not xp.on_numpy:
        with pytest.raises(ValueError, match=rf"{type(model).__name__}.predict\(\) must use the same namespace"):
            model.predict(X)
        with pytest.raises(ValueError, match="must use the same namespace"):
            host.predict(Xd)


def on_device(values: Any) -> Any:
    return array_api_strict.asarray(values, device=DEVICE)


def test_text_labels_have_no_place_on_a_device() -> None:
    model = MLPClassifier(max_iter=4, random_state=0).fit(on_device(X), LABELS)
    plain = MLPClassifier(max_iter=4, random_state=0).fit(X, LABELS)
    np.testing.assert_array_equal(model.predict(on_device(X)), plain.predict(X))
    assert model.score(on_device(X), LABELS) == plain.score(X, LABELS)


def test_device_arrays_are_checked() -> None:
    fit = MLPClassifier(max_iter=1).fit
    broken = X.copy()
    broken[11, 3] = np.nan
    with pytest.raises(ValueError, match=r"Input X contains NaN\. The first is in row 11, column 3"):
        fit(on_device(broken), Y)
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array instead"):
        fit(on_device(X[:, 0]), Y)
    with pytest.raises(ValueError, match="Complex data not supported"):
        fit(on_device(X + 1j), Y)
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        fit(on_device(X[:0]), Y[:0])
    with pytest.raises(ValueError, match=r"Found array with 0 feature\(s\)"):
        fit(on_device(X[:, :0]), Y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fit(on_device(X), Y[:9])
    model = fit(on_device((10 * X).astype(np.int64)), Y)
    assert str(model.coefs_[0].dtype).endswith("float64")
    with pytest.raises(ValueError, match="X has 3 features, but MLPClassifier is expecting 4"):
        model.predict(on_device(X[:, :3]))


def test_partial_fit_takes_classes_from_a_device_in_every_call() -> None:
    model = MLPClassifier(random_state=0)
    for _ in range(2):
        model.partial_fit(on_device(X), on_device(Y), classes=on_device(np.unique(Y)))
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        model.partial_fit(on_device(X), on_device(Y), classes=on_device(np.array([0, 1])))


def test_an_array_on_a_device_leaves_no_names_of_an_earlier_table_behind() -> None:
    model = MLPClassifier(max_iter=1).fit(as_frame(), Y)
    assert list(model.feature_names_in_) == NAMES
    assert not hasattr(model.fit(on_device(X), Y), "feature_names_in_")


def test_a_device_without_float64() -> None:
    device = array_api_strict.Device("no_float64")
    table = array_api_strict.asarray((10 * X).astype(np.int32), device=device)
    model = MLPClassifier(max_iter=2, random_state=0).fit(table, Y)
    assert str(model.coefs_[0].dtype).endswith("float32")
    assert model.predict_proba(table).shape == (150, 3)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Place:
    """A stand-in for a GPU: arrays there cannot be mixed with arrays on the host."""
    gpu, host = Place("cuda:0", array_api_strict, DEVICE), places.place("cpu")
    monkeypatch.setattr(places, "place", lambda device: host if device == "cpu" else gpu)
    return gpu


@pytest.mark.parametrize("room", [1e12, 0], ids=["resident", "streamed"])
@pytest.mark.parametrize("table", [X, sp.csr_array(X)], ids=["dense", "sparse"])
@each_estimator
def test_host_tables_are_computed_on_the_device(
    cuda: Place, estimator: Any, table: Any, room: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "memory", lambda self: (room, 1e12))
    on_cpu = clone(estimator).set_params(device="cpu").fit(X, Y, X_val=X, y_val=Y)
    model = clone(estimator).set_params(device="cuda").fit(table, Y, X_val=table, y_val=Y)
    assert (on_cpu.device_, model.device_) == ("cpu", "cuda:0")
    assert model.step_ == "array"
    assert type(model.coefs_[0]) is np.ndarray
    np.testing.assert_allclose(model.coefs_[0], on_cpu.coefs_[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.validation_costs_, on_cpu.validation_costs_, rtol=1e-9)
    assert type(model.predict(table)) is np.ndarray
    np.testing.assert_allclose(model.predict(table), on_cpu.predict(X), rtol=1e-9)
    assert model.score(table, Y) == pytest.approx(on_cpu.score(X, Y))


def test_partial_fit_moves_the_state_of_the_optimiser(cuda: Place) -> None:
    model = MLPClassifier(device="cuda", random_state=0).partial_fit(X, Y, classes=[0, 1, 2])
    plain = MLPClassifier(device="cpu", random_state=0).partial_fit(X, Y, classes=[0, 1, 2])
    for device in ("cpu", "cuda", "cuda"):
        model.set_params(device=device).partial_fit(X, Y)
        plain.partial_fit(X, Y)
    np.testing.assert_allclose(model.coefs_[0], plain.coefs_[0], rtol=1e-9)


def test_a_model_fitted_on_a_device_unpickles_without_its_library(tmp_path: Path) -> None:
    """Its pickle holds host arrays alone: the library is not needed, and copies in memory stay on the device."""
    model = MLPClassifier(max_iter=3, random_state=0).fit(on_device(X), Y)
    assert type(copy.copy(model).coefs_[0]) is type(copy.deepcopy(model).coefs_[0]) is type(model.coefs_[0])
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model))
    np.save(tmp_path / "X.npy", X)
    script = """
        import pickle, sys
        sys.modules["array_api_strict"] = None
        import numpy as np
        model = pickle.loads(open("model.pkl", "rb").read())
        X = np.load("X.npy")
        np.save("proba.npy", model.predict_proba(X))
        model.partial_fit(X, model.predict(X))
    """
    env = {**os.environ, "PYTHONPATH": str(Path(fullbatch.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, env=env, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "proba.npy"), arrays.to_host(model.predict_proba(on_device(X))))


def test_a_model_fitted_on_ndonnx_is_pickled_as_numbers() -> None:
    """It was pickled as an object array of shape () without an error, and its device was told by a memory address."""
    ndx = pytest.importorskip("ndonnx", reason="ndonnx is not installed")
    model = MLPClassifier(hidden_layer_sizes=(3,), max_iter=1, random_state=0).fit(ndx.asarray(X[:20]), Y[:20])
    assert model.device_ == "ndonnx"
    copied = pickle.loads(pickle.dumps(model))
    assert [type(array) for array in copied.coefs_] == [np.ndarray] * 2
    np.testing.assert_array_equal(copied.predict(X), model.predict(ndx.asarray(X)).unwrap_numpy())


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_an_estimator_settles_dask_arrays_after_each_update(solver: str) -> None:
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    from dask.callbacks import Callback

    def tasks(epochs: int) -> int:
        ran: list[Any] = []
        model = MLPClassifier(hidden_layer_sizes=(3,), solver=solver, batch_size="full", max_iter=epochs, tol=0.0)
        with Callback(pretask=lambda key, *_: ran.append(key)):
            model.fit(da.from_array(X, chunks=(50, 4)), Y)
        return len(ran)

    few, many, more = (tasks(epochs) for epochs in (2, 4, 6))
    assert more - many == many - few > 0


def test_a_device_that_is_named_is_not_left_in_silence() -> None:
    """device="cpu" takes what lies on a CPU, of whatever library, and refuses the rest."""
    with pytest.raises(ArrayTypeError, match=r"device='cpu' and X is an array of array_api_strict on .*device1"):
        MLPClassifier(device="cpu").fit(on_device(X), Y)
    there = array_api_strict.asarray(X)
    np.testing.assert_array_equal(
        arrays.to_host(MLPClassifier(device="cpu", max_iter=1, random_state=0).fit(there, Y).coefs_[0]),
        arrays.to_host(MLPClassifier(max_iter=1, random_state=0).fit(there, Y).coefs_[0]),
    )
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        MLPClassifier(device="gpu").fit(there, Y)


# --- scikit-learn's machinery ----------------------------------------------------------------------------------------


@each_estimator
def test_clone_pickle_and_joblib(estimator: Any, tmp_path: Path) -> None:
    model = clone(estimator).fit(X, Y)
    assert clone(model).get_params() == estimator.get_params()
    assert not hasattr(clone(model), "coefs_")
    joblib.dump(model, tmp_path / "model.joblib")
    for other in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib"), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
        if hasattr(other, "partial_fit") and not other.early_stopping:
            other.partial_fit(X, Y)  # the optimiser's state came along
            np.testing.assert_array_equal(other.coefs_[0], copy.deepcopy(model).partial_fit(X, Y).coefs_[0])


def test_joblib_memory_maps_a_model(tmp_path: Path) -> None:
    model = MLPClassifier(max_iter=2).fit(X, Y)
    joblib.dump(model, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    np.testing.assert_array_equal(mapped.predict_proba(X), model.predict_proba(X))
    mapped.partial_fit(X, Y)


def test_pipeline_and_search_in_two_processes() -> None:
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(max_iter=5, random_state=0))
    grid = {"mlpclassifier__alpha": [1e-4, 10.0], "mlpclassifier__activation": ["tanh", "gelu"]}
    scores = [
        GridSearchCV(pipeline, grid, cv=3, n_jobs=n_jobs).fit(X, LABELS).cv_results_["mean_test_score"]
        for n_jobs in (1, 2)
    ]
    np.testing.assert_array_equal(*scores)


def test_no_more_threads_than_cores_in_the_processes_of_a_search() -> None:
    threads = joblib.Parallel(n_jobs=2)(joblib.delayed(thread_count)(None) for _ in range(2))
    assert sum(threads) <= max(2, joblib.cpu_count())
    in_threads = joblib.Parallel(n_jobs=2, backend="threading")(joblib.delayed(thread_count)(None) for _ in range(2))
    assert in_threads == [1, 1]


def test_metadata_routing_brings_the_weights() -> None:
    weight = np.where(Y == 0, 5.0, 0.1)
    with sklearn.config_context(enable_metadata_routing=True):
        model = MLPClassifier(max_iter=5, random_state=0).set_fit_request(sample_weight=True, X_val=True, y_val=True)
        model.set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        pipeline.fit(X, Y, sample_weight=weight, X_val=X, y_val=Y)
        by_hand = MLPClassifier(max_iter=5, random_state=0).fit(
            StandardScaler().fit_transform(X), Y, sample_weight=weight
        )
        np.testing.assert_array_equal(pipeline[-1].coefs_[0], by_hand.coefs_[0])
        assert len(pipeline[-1].validation_costs_) == 5
        results = cross_validate(model, X, Y, params={"sample_weight": weight, "X_val": X, "y_val": Y}, cv=3)
        assert len(results["test_score"]) == 3
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            make_pipeline(MLPClassifier()).fit(X, Y, sample_weight=weight)


def test_estimators_are_shown_with_their_parameters() -> None:
    assert repr(MLPClassifier((5,), device="cpu")) == "MLPClassifier(device='cpu', hidden_layer_sizes=(5,))"
    assert repr(LogisticRegression(C=2)) == "LogisticRegression(C=2)"


def test_pickles_do_not_hold_the_data() -> None:
    table = np.random.default_rng(0).normal(size=(20_000, 5))
    model = MLPClassifier((5,), max_iter=1).fit(table, table[:, 0] > 0)
    file = io.BytesIO()
    pickle.dump(model, file)
    assert file.tell() < 20_000
