"""A predictor says what the model says, to the bit where the native step runs, and refuses rows that do not fit."""

from __future__ import annotations

import datetime
import pickle
import subprocess
import sys
import threading
import warnings

import numpy as np
import pandas as pd
import pytest

import fullbatch as fb
from fullbatch import steps
from fullbatch.errors import InputError
from fullbatch.serving.tables import TablePredictor

QUICK = {"max_iter": 3, "random_state": 0}
ACTIVATIONS = ["tanh", "gelu", "silu", "leaky_relu"]


@pytest.fixture(autouse=True)
def quietly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three epochs are no training
        yield


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 7))
    X[rng.random(X.shape) < 0.6] = 0  # the native step leaves zeros out of a block
    return X, X[:, 0] + X[:, 1] + 0.1 * rng.normal(size=200)


def models(X, y):
    """(name, model) of each kind of output."""
    several = np.digitize(y, [-1, 0, 1])
    yield "two", fb.MLPClassifier((9,), **QUICK).fit(X, np.where(y > 0, "yes", "no"))
    yield "softmax", fb.MLPClassifier((9, 5), ["relu", "tanh"], **QUICK).fit(X, several)
    yield "labels", fb.MLPClassifier((9,), **QUICK).fit(X, np.stack([y > 0, y > 1], axis=1).astype(int))
    yield "one", fb.MLPClassifier((9,), **QUICK).fit(X, np.zeros(len(y), int))
    yield "logistic", fb.LogisticRegression(max_iter=5).fit(X, several)
    yield "numbers", fb.MLPRegressor(hidden_layer_sizes=(9,), **QUICK).fit(X, y)
    yield "outputs", fb.MLPRegressor(hidden_layer_sizes=(9,), **QUICK).fit(X, np.stack([y, -y], axis=1))
    yield "poisson", fb.MLPRegressor("poisson", (9,), **QUICK).fit(X, np.abs(y))
    yield from ((name, fb.MLPClassifier((17,), name, **QUICK).fit(X, several)) for name in ACTIVATIONS)


def said(model, X):
    return model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)


@pytest.fixture(scope="module")
def fitted(data):
    """The models of ``models``, trained in float32 and float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {dtype: list(models(data[0].astype(dtype), data[1])) for dtype in ("float32", "float64")}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_has_what_the_batch_has(data, fitted, dtype, twin):
    """To the bit with the native step, alone and among others; another step's BLAS may add in another order."""
    X = data[0].astype(dtype)
    for name, model in fitted[dtype]:
        ask, proba, label = fb.predictor(model), said(model, X), model.predict(X)
        assert ask._pools[X.dtype].take().step.name == twin.split("-")[0]
        equal = np.array_equal if twin.startswith("native") else np.testing.assert_allclose
        tolerance = {} if twin.startswith("native") else {"rtol": 1e-5 if dtype == "float32" else 1e-12, "atol": 1e-7}
        for check in (ask, pickle.loads(pickle.dumps(ask))):
            rows = np.array([check(row) for row in X[:70]])
            assert equal(rows, proba[:70], **tolerance) is not False, name
            assert equal(check(X), proba, **tolerance) is not False, name
            assert rows.dtype == (proba.dtype if rows.ndim > 1 else np.float64), name
        for found, those in (([ask.predict(row) for row in X[:70]], label[:70]), (ask.predict(X), label)):
            same = equal if those.dtype.kind == "f" else np.array_equal
            assert same(np.array(found), those, **(tolerance if same is equal else {})) is not False, name
        wide = said(model, np.float64(X[:1]).tolist())[0]
        assert equal(ask(tuple(np.float64(X[0]).tolist())), wide, **tolerance) is not False, name


def test_an_estimator_takes_the_short_way_for_a_few_rows_and_says_the_same(data, twin, monkeypatch):
    for dtype in ("float32", "float64"):
        X = data[0].astype(dtype)
        model = fb.MLPClassifier((9,), **QUICK).fit(X, data[1] > 0)
        whole = model.predict_proba(X)
        with monkeypatch.context() as patch:
            if twin.startswith("native"):  # it is the short way that is looked at
                patch.setattr("fullbatch.estimators.base.Fold", None)
            few = np.concatenate([model.predict_proba(X[i : i + 50]) for i in range(0, 200, 50)])
            one = np.concatenate([model.predict_proba(X[i : i + 1]) for i in range(60)])
        if twin.startswith("native"):
            assert np.array_equal(few, whole)
            assert np.array_equal(one, whole[:60])
        np.testing.assert_allclose(few, whole, rtol=1e-5)
    with pytest.raises(ValueError, match=r"NaN\. The first is in row 0, column 2"):
        model.predict_proba(np.where(np.arange(7) == 2, np.nan, X[:1]))
    with pytest.raises(ValueError, match="expecting 7 features"):
        model.predict_proba(X[:1, :3])


@pytest.fixture(scope="module")
def raw():
    """A table with a column of every kind."""
    rng = np.random.default_rng(1)
    m = 300
    x = rng.standard_t(2, m)  # with values far out, where the tail begins
    town = rng.choice(["Bonn", "Kiel", "Ulm"], m)
    days = [datetime.datetime(2024, 1, 1) + datetime.timedelta(hours=int(h)) for h in rng.integers(0, 8000, m)]
    return {
        "x": np.where(rng.random(m) < 0.2, None, x).tolist(),
        "steps": rng.integers(0, 5, m).tolist(),
        "town": np.where(rng.random(m) < 0.1, None, town).tolist(),
        "flag": (rng.random(m) < 0.5).tolist(),
        "day": days,
        "written": [f"{d:%d/%m/%Y}" for d in days],
        "y": np.where(x + (town == "Ulm") + 0.1 * rng.normal(size=m) > 0.3, "late", "in time").tolist(),
        "cost": (np.abs(x) + 1).tolist(),
    }


@pytest.fixture(scope="module")
def table_models(raw):
    options = {"hidden": (6,), "epochs": 2, "batch_size": 32, "random_state": 0}
    narrow = {"town": raw["town"] * 2, "x": raw["x"] * 2, "y": raw["y"] * 2}  # too narrow for a sparse row
    wide = fb.TableClassifier(**options, dtype="float64", threshold=0.3, max_levels=2, drop=["cost"])
    return [
        fb.TableClassifier(**options, drop=["cost"]).fit(raw, target="y"),
        wide.fit(raw, target="y"),
        fb.TableRegressor(**options, drop=["y"], loss="poisson").fit(raw, target="cost"),
        fb.TableClassifier(**options).fit(narrow, target="y"),
    ]


def rows_of(raw, names, m=40):
    return [{name: raw[name][i] for name in names} for i in range(m)]


ODD = {
    "x": [None, float("nan"), 7, 1e300, -40.0, np.float64(0.5), np.float32(0.5), "1.5", "?", True],
    "steps": [9, 1.0, 2.5, None, "3", np.int64(4), True],
    "town": [" Ulm ", "Paris", "", "NA", None, float("nan"), 5, "None"],
    "flag": [True, False, None, 1, 0.0],
    "day": [datetime.datetime(1601, 2, 3, 4, 5, 6, 789), None, datetime.date(2024, 2, 29), "2024-03-01 10:00", 1.7e9],
    "written": ["01/12/2024", None, "?"],
}


def test_a_raw_row_has_what_the_table_has(raw, table_models):
    native = steps.choose(fb.Network([2, 1]), np.empty((0, 0))) == "native"
    for model in table_models:
        ask, names = fb.predictor(model), list(model.feature_names_in_)
        network = model.network_
        rows = rows_of(raw, names)
        rows += [{**rows[5], name: value} for name in names for value in ODD[name]]
        singly = [{name: [row[name]] for name in names} for row in rows]
        alone = np.array([said_of(network, one)[0] for one in singly])
        for check in (ask, pickle.loads(pickle.dumps(ask))):
            found = np.array([check(row) for row in rows])
            assert np.array_equal(found, alone) if native else np.allclose(found, alone, rtol=1e-5)
        whole = said_of(network, {name: [row[name] for row in rows[:40]] for name in names})
        assert np.array_equal(found[:40], whole) if native else np.allclose(found[:40], whole, rtol=1e-5)
        assert [ask.predict(row) for row in rows[:40]] == network.predict({n: raw[n][:40] for n in names}).tolist()
        assert np.array_equal(ask(rows[:40]), whole)
        assert np.array_equal(ask(tuple(rows[3].values())), found[3])
        assert np.array_equal(ask([list(row.values()) for row in rows[:40]]), whole)
        assert np.array_equal(ask(pd.DataFrame(rows[:40], dtype=object)[names]), whole)


def test_a_raw_row_has_the_bin_that_the_table_has():
    rng = np.random.default_rng(0)
    steps_of_4 = rng.integers(0, 200, 1200) / 4
    table = {"steps": np.where(rng.random(1200) < 0.1, np.nan, steps_of_4), "y": steps_of_4 % 7}
    model = fb.TableRegressor((6,), epochs=2, random_state=0).fit(table, target="y")
    (category,) = model.network_.encoding.categories
    edges = np.array(category.edges)
    for value in [*edges, *np.nextafter(edges, -np.inf), -1e300, 1e300, 7, None, "1.5"]:
        found = fb.predictor(model)({"steps": value})
        np.testing.assert_allclose(found, model.predict({"steps": [value]})[0], rtol=1e-6)


def said_of(network, table):
    return network.predict_proba(table) if network.classes else network.predict(table)


def test_rows_of_a_table_go_as_few_values_where_the_fold_has_them_so(table_models):
    widths = [fb.predictor(model)._pool.sparse > 0 for model in table_models]
    if steps.choose(fb.Network([2, 1]), np.empty((0, 0))) == "native":
        assert widths == [True, True, True, False]
    else:
        assert widths == [False] * 4


def test_bad_rows_of_a_table_are_refused_with_the_column(raw, table_models):
    model = table_models[0]
    ask = fb.predictor(model)
    row = rows_of(raw, ask.features, 1)[0]
    assert ask({**row, "y": "late"}).shape == (2,)  # the target is known, and not looked at
    for wrong, message in [
        ({k: v for k, v in row.items() if k != "town"}, "a row has no 'town'"),
        ({**row, "colour": 1}, "a row has 'colour', which the model does not know"),
        ({("Town" if k == "town" else k): v for k, v in row.items()}, "has no 'town'.*Did you mean 'town'"),
        ({**row, "x": "a lot"}, "column 'x' must hold numbers, but row 1 has 'a lot'"),
        ({**row, "x": float("inf")}, "column 'x' is infinite"),
        ({**row, "x": 2**70}, "column 'x'"),
        ({**row, "written": "2024"}, "column 'written' must hold dates"),
        ({**row, "flag": "perhaps"}, "column 'flag' must hold numbers, but row 1 has 'perhaps'"),
        (tuple(row.values())[:-1], "a row has 5 values, and the model takes 6"),
        (np.zeros((2, 3)), r"a batch has the shape \(2, 3\)"),
    ]:
        with pytest.raises(InputError, match=message):
            ask(wrong)
    with pytest.raises(InputError, match="must hold one value"):
        ask((*tuple(row.values())[:-1], [1]))


def test_bad_rows_of_numbers_are_refused(data):
    X, y = data
    frame = pd.DataFrame(X, columns=list("abcdefg"))
    named, bare = (fb.predictor(fb.LogisticRegression(max_iter=2).fit(table, y > 0)) for table in (frame, X))
    row = dict(frame.iloc[0])
    assert np.array_equal(named(row), bare(X[0]))
    assert np.array_equal(named(frame), bare(X))
    for several in ([row, row], [row, tuple(row.values())], frame.iloc[[0, 0]].astype(object)):
        assert np.array_equal(named(several), bare(X[[0, 0]]))
    assert np.array_equal(bare([1, 2, 3, True, 5, 6, 7]), bare(np.array([1, 2, 3, 1, 5, 6, 7])))
    for ask, wrong, message in [
        (named, {**row, "z": 1}, "has 'z', which the model does not know. Leave that out."),
        (named, {k: v for k, v in row.items() if k != "c"}, "has no 'c'"),
        (named, {**row, "c": "1.5"}, r"value 2 \('c'\) of a row must be a number; it is '1.5'"),
        (named, {**row, "c": None}, "must be a number; it is None"),
        (named, {**row, "c": float("nan")}, r"value 2 \('c'\) of a row must be finite"),
        (named, frame[["a", "b"]], "has no 'c'"),
        (named, {name: [1.0, 2.0] for name in frame}, "a dict of columns is no row"),
        (bare, row, "fitted without names"),
        (bare, (1.0, 2.0), "a row has 2 values, and the model takes 7"),
        (bare, np.zeros(3), "a row has 3 values"),
        (bare, np.full(7, np.inf), "infinity"),
        (bare, np.full(7, "a"), "must be a number; it is 'a'"),
        (bare, 10**400, "expected a row"),
        (bare, (10**400,) * 7, "must be a number"),
        (bare, np.zeros((2, 3)), r"\(2, 3\), and the model takes \(m, 7\)"),
        (bare, np.zeros((0, 7)), "no rows"),
        (bare, np.full((2, 7), np.nan), "NaN. The first is in row 0"),
        (bare, np.full((2, 7), "a"), "value 0 of a row must be a number; it is 'a'"),
        (named, frame.assign(c="a"), r"value 2 \('c'\) of a row must be a number; it is 'a'"),
        (named, [row, tuple(X[0][:2])], "a row has 2 values"),
        (bare, np.ma.masked_array(X[0]), "has a mask"),
    ]:
        with pytest.raises((InputError, fb.errors.ArrayTypeError), match=message):
            ask(wrong)


def test_what_is_no_fitted_model_is_refused():
    with pytest.raises(InputError, match="this MLPClassifier is not fitted"):
        fb.predictor(fb.MLPClassifier())
    with pytest.raises(InputError, match="of a dict; expected a fitted"):
        fb.predictor({})


def test_it_is_frozen(data):
    X, y = data
    model = fb.LogisticRegression(max_iter=2).fit(X, y > 0)
    ask = fb.predictor(model)
    before = ask(X[0])
    model.coefs_[0][...] = 0
    assert np.array_equal(ask(X[0]), before)
    with pytest.raises(AttributeError, match="frozen"):
        ask.classes = ()
    first, second = ask(X[0]), ask(X[1])  # what was given is not written into again
    assert np.array_equal(first, before)
    assert not np.array_equal(first, second)


def test_threads_get_their_own_rows(data, raw, table_models):
    X, y = data
    asks = [
        (fb.predictor(fb.MLPClassifier((9,), **QUICK).fit(X, y > 0)), list(X)),
        (fb.predictor(table_models[0]), rows_of(raw, table_models[0].feature_names_in_, 100)),
    ]
    for ask, rows in asks:
        expected, wrong, start = [ask(row) for row in rows], [], threading.Barrier(4)

        def loop(k, ask=ask, rows=rows, expected=expected, wrong=wrong, start=start):
            start.wait()
            for _ in range(5):
                for i in range(k, len(rows), 2):
                    if not np.array_equal(ask(rows[i]), expected[i]):
                        wrong.append(i)

        threads = [threading.Thread(target=loop, args=(k,)) for k in (0, 1, 0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_loading_and_asking_bring_no_scikit_learn(data, table_models, raw, tmp_path):
    X, y = data
    row = rows_of(raw, table_models[0].feature_names_in_, 1)[0]
    both = (fb.predictor(fb.LogisticRegression(max_iter=2).fit(X, y > 0)), fb.predictor(table_models[0]), X, row)
    file = tmp_path / "asked.pickle"
    file.write_bytes(pickle.dumps(both))
    assert len(pickle.dumps(both[0])) < 2500
    code = (
        "import pickle, sys\n"
        f"ask, raw, X, row = pickle.loads(open({str(file)!r}, 'rb').read())\n"
        "ask(X[0]), ask(tuple(X[0])), ask.predict(X[0]), raw(row), raw.predict(row)\n"
        "print('sklearn' in sys.modules, 'scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["False", "False"]


def test_a_network_read_from_a_file_will_do(table_models, tmp_path, raw):
    from fullbatch.saving.model_file import load_network

    fb.save(table_models[0], tmp_path / "a.fbm")
    ask = fb.predictor(load_network(tmp_path / "a.fbm"))
    assert isinstance(ask, TablePredictor)
    row = rows_of(raw, ask.features, 1)[0]
    assert np.array_equal(ask(row), fb.predictor(table_models[0])(row))
