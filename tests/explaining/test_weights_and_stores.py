"""Explanations by weights are those of rows that come as often; those of a store are those of its table."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fullbatch as fb
from fullbatch.errors import InputError, TableError
from fullbatch.explaining import explanation

M = 150
QUICK = {"hidden": (4,), "epochs": 4, "batch_size": 32, "learning_rate": 0.03, "random_state": 0}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    town, x = rng.choice(["Bonn", "Kiel", "Ulm"], M), np.round(rng.normal(size=M), 2)
    score = x + 1.5 * (town == "Ulm")
    return {
        "town": np.where(rng.random(M) < 0.1, None, town).astype(object).tolist(),
        "x": np.where(rng.random(M) < 0.1, np.nan, x),
        "n": rng.integers(0, 400, M).astype(float) ** 3,
        "w": rng.integers(0, 4, M).astype(float),
        "late": np.where(score > 0.5, "yes", "no").tolist(),
        "cost": score,
        "size": np.digitize(score, [-0.5, 0.5, 1.5]).tolist(),
    }


def repeated(table, times):
    return {
        name: [value for value, k in zip(column, times, strict=True) for _ in range(k)]
        for name, column in table.items()
    }


def fitted(table, target):
    others = [name for name in ("late", "cost", "size") if name != target]
    kind = fb.TableRegressor if target == "cost" else fb.TableClassifier
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(**QUICK, drop=[*others, "w"]).fit(table, target=target)


@pytest.mark.parametrize("target", ["late", "cost", "size"])
def test_a_weight_is_so_many_rows(table, target):
    model, times = fitted(table, target), np.array(table["w"]).astype(int)
    found = fb.explain(model, table, sample_weight="w", repeats=1)
    rows = fb.explain(model, repeated(table, times), repeats=1)
    assert "Rows count by their weights." in found.notes
    assert f"{(times == 0).sum()} rows of weight 0 are left out." in found.notes
    for name in set(found.scores) - {"m"}:
        np.testing.assert_allclose(found.scores[name], rows.scores[name], rtol=1e-5)
    ours, theirs = ({one.column: one for one in each.dependence} for each in (found, rows))
    for name in ours:
        for label in set(ours[name].labels) & set(theirs[name].labels):
            i, j = ours[name].labels.index(label), theirs[name].labels.index(label)
            np.testing.assert_allclose(ours[name].means[:, i], theirs[name].means[:, j], rtol=1e-5)
    given = fb.explain(model, table, sample_weight=table["w"], repeats=1)
    assert (given.importance, given.scores) == (found.importance, found.scores)


def test_importance_is_weighed_as_scikit_learn_weighs_it():
    from sklearn.inspection import permutation_importance
    from sklearn.metrics import log_loss

    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(60, 3)), rng.uniform(0.5, 3, 60)
    y = (X[:, 1] > 0).astype(int)
    model = fb.LogisticRegression().fit(X, y)
    found = fb.explain(model, X, y, w, repeats=2)

    def score(estimator, X, y, sample_weight):
        return -log_loss(y, estimator.predict_proba(X), labels=[0, 1], sample_weight=sample_weight)

    theirs = permutation_importance(model, X, y, scoring=score, n_repeats=2, random_state=0, sample_weight=w)
    ours = {one.column: one.repeats for one in found.importance}
    np.testing.assert_allclose([ours[f"x{j}"] for j in range(3)], theirs.importances, rtol=1e-9)
    with pytest.raises(InputError, match="sample_weight names a column"):
        fb.explain(model, X, y, "w")


@pytest.mark.parametrize("target", ["late", "cost", "size"])
def test_a_weighed_explanation_is_drawn(table, target, tmp_path):
    for name in ("matplotlib", "jinja2"):
        pytest.importorskip(name)
    found = fb.explain(fitted(table, target), table, sample_weight="w", repeats=1, columns=2)
    assert found.save(tmp_path).exists()
    assert (tmp_path / "calibration.png").stat().st_size > 1000


def test_tenths_are_of_the_weight():
    from fullbatch.explaining.figures import _tenths

    said, true = np.array([0.5, 0.1, 0.9]), np.array([1.0, 0.0, 1.0])
    weight = np.array([5.0, 4.0, 1.0])
    assert _tenths(said, true, None) == ([0.0, 1.0, 1.0], [0.1, 0.5, 0.9])
    assert _tenths(said, true, weight) == ([0.0, 1.0, 1.0], [0.1, 0.5, 0.9])


@pytest.fixture(scope="module")
def stored(table, tmp_path_factory):
    """A table as a store, with weights, and the held-out rows as the store has them."""
    from fullbatch.tables.frames import as_table
    from fullbatch.tables.store import convert

    folder = tmp_path_factory.mktemp("stores")
    made = {}
    for target in ("late", "cost"):
        others = [name for name in ("late", "cost", "size") if name != target]
        own = as_table({name: column for name, column in table.items() if name not in others})
        convert(own, folder / target, target, weight="w", validation=0.4)
        kind = fb.TableRegressor if target == "cost" else fb.TableClassifier
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made[target] = folder / target, kind(**QUICK).fit(fb.open_store(folder / target))
    return made


@pytest.mark.parametrize("target", ["late", "cost"])
def test_the_held_out_rows_of_a_store(stored, target):
    from fullbatch.tables import from_store

    path, model = stored[target]
    with fb.open_store(path) as store:
        found = fb.explain(model, path, repeats=2)
        same = fb.explain(model, store, repeats=2)
        scores = from_store.evaluate(model.network_, store)
    assert (found.importance, found.scores) == (same.importance, same.scores)
    assert "held-out rows of the store are explained" in found.notes[0]
    for name in ("auc", "accuracy", "log_loss") if target == "late" else ("r2", "mae"):
        assert found.scores[name] == pytest.approx(scores[name], rel=1e-5)
    assert {one.column for one in found.importance} == {"town", "x", "n"}
    by_name = {one.column: one for one in found.dependence}
    assert set(by_name["town"].labels) <= {"Bonn", "Kiel", "Ulm", "(missing)"}
    assert by_name["n"].values[-1] > 1e7  # the tail is stretched again
    assert len(found.worst) == explanation.WORST
    assert found.worst[0].cells[0] in ("Bonn", "Kiel", "Ulm", "")


def test_values_of_a_store_are_those_of_its_table(stored, table):
    from fullbatch.explaining.stored import rows_of_store

    path, model = stored["late"]
    with fb.open_store(path) as store:
        rows = rows_of_store(model.network_, store, 1000, [])
        few = rows_of_store(model.network_, store, 10, notes := [])
    known = {
        (str(town or ""), f"{x:.3g}" if x == x else "", f"{n:.3g}")
        for town, x, n in zip(table["town"], table["x"], table["n"], strict=True)
    }
    for i in range(rows.m):
        town, x, n = rows.cells(i)
        assert (town, x and f"{float(x):.3g}".replace("-0", "-0"), f"{float(n):.3g}") in known
    assert few.m == 10
    assert notes[0].startswith("The first 10 of the")


def test_a_permuted_column_of_a_store_takes_all_that_is_of_it(stored):
    path, model = stored["late"]
    from fullbatch.explaining.asked import numbered
    from fullbatch.explaining.stored import rows_of_store

    with fb.open_store(path) as store:
        rows = rows_of_store(model.network_, store, 1000, [])
    which = numbered(rows)
    turned = which[::-1].copy()
    np.testing.assert_array_equal(rows.predict(turned), rows.predict()[::-1])
    which[:, 1] = which[::-1, 1]
    assert not np.array_equal(rows.predict(which), rows.predict())


def test_what_goes_with_no_store(stored, table):
    path, model = stored["late"]
    with pytest.raises(InputError, match="are the store's own"):
        fb.explain(model, path, sample_weight="w")
    with pytest.raises(InputError, match="was not made as the model's table was"):
        fb.explain(fitted(table, "size"), path)
    with pytest.raises(InputError, match="a store is explained by a model of a table"):
        fb.explain(fb.LogisticRegression().fit([[0.0], [1.0]], [0, 1]), path)
    with pytest.raises(TableError, match="negative weight"):
        fb.explain(model, {**table, "w": [-1.0] * M}, sample_weight="w")
