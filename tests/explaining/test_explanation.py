"""What is explained is what scikit-learn's inspection says of the raw columns; the page needs nothing but itself."""

from __future__ import annotations

import csv
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.inspection import permutation_importance
from sklearn.metrics import log_loss

import fullbatch as fb
from fullbatch.errors import InputError
from fullbatch.explaining import explanation
from fullbatch.explaining.asked import Column

M = 160
QUICK = {"hidden": (4,), "epochs": 8, "batch_size": 32, "learning_rate": 0.03, "random_state": 0}


@pytest.fixture(scope="module")
def frame():
    """Raw columns; the target hangs on the town and on x, and not at all on the day."""
    rng = np.random.default_rng(0)
    town, x = rng.choice(["<b>Bonn</b>", "Kiel", "Ulm"], M), rng.normal(size=M)
    score = x + 1.5 * (town == "Ulm")
    return pd.DataFrame(
        {
            "town": np.where(rng.random(M) < 0.1, None, town),
            "x": np.where(rng.random(M) < 0.1, np.nan, x),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, M), "D"),
            "late": np.where(score > 0.5, "yes", "no"),
            "size": np.digitize(score, [-0.5, 0.5, 1.5]),
            "cost": score,
        }
    )


@pytest.fixture(scope="module")
def model(frame):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fb.TableClassifier(**QUICK, drop=["size", "cost"]).fit(frame, target="late")


def test_importance_is_that_of_scikit_learn_over_the_raw_columns(frame, model):
    X, codes = frame[["town", "x", "day"]], (frame["late"] == "yes").astype(int)
    found = fb.explain(model, frame, repeats=3, random_state=5)

    def score(estimator, X, y):
        return -log_loss(y, estimator.predict_proba(X).astype(float), labels=[0, 1])

    theirs = permutation_importance(model, X, codes, scoring=score, n_repeats=3, random_state=5)
    ours = {one.column: one for one in found.importance}
    np.testing.assert_allclose([ours[name].repeats for name in X], theirs.importances, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose([ours[name].mean for name in X], theirs.importances_mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose([ours[name].spread for name in X], theirs.importances_std, rtol=1e-9, atol=1e-12)
    assert [one.mean for one in found.importance] == sorted((one.mean for one in found.importance), reverse=True)
    assert found.importance[-1].column == "day"
    by_name = fb.explain(model, X, frame["late"], repeats=3, random_state=5)
    assert by_name.importance == found.importance
    accuracy = fb.explain(model, frame, metric="accuracy", repeats=3, random_state=5)
    theirs = permutation_importance(model, X, frame["late"], scoring="accuracy", n_repeats=3, random_state=5)
    assert accuracy.importance[0].mean == pytest.approx(theirs.importances_mean.max())


def test_dependence_is_the_mean_prediction_with_one_value_for_all(frame, model):
    found = fb.explain(model, frame, columns=3, repeats=1)
    assert {one.column for one in found.dependence} == {"town", "x", "day"}
    for one in found.dependence:
        assert one.series == ("yes",)
        assert (
            len(one.labels) == 20
            if one.column != "town"
            else set(one.labels) == {"<b>Bonn</b>", "Kiel", "Ulm", "(missing)"}
        )
        for label, mean in zip(one.labels[::7], one.means[0][::7], strict=True):
            value = {"town": None if label == "(missing)" else label, "x": 0.0, "day": pd.Timestamp("2024-01-01")}
            if one.values is not None:
                number = one.values[one.labels.index(label)]
                value |= {"x": number, "day": pd.Timestamp(number, unit="s")}
            alike = frame.assign(**{one.column: value[one.column]})
            assert mean == pytest.approx(model.predict_proba(alike)[:, 1].mean(), abs=1e-6)
    assert "2024-" in next(one for one in found.dependence if one.column == "day").labels[0]


def test_scores_and_the_worst_rows_are_those_of_the_model(frame, model):
    found = fb.explain(model, frame, repeats=1, columns=1)
    own = model.evaluate(frame)
    assert found.scores["log_loss"] == pytest.approx(own["log_loss"], rel=1e-6)
    assert found.scores["confusion_matrix"] == own["confusion_matrix"]
    proba = model.predict_proba(frame)[np.arange(M), (frame["late"] == "yes").astype(int)]
    worst = found.worst[0]
    assert worst.row == int(proba.argmin()) + 1
    assert worst.loss == pytest.approx(-np.log(proba.min()), rel=1e-5)
    assert worst.target == frame["late"][worst.row - 1] != worst.predicted
    assert worst.cells[0] == (frame["town"][worst.row - 1] or "")
    lines = repr(found).splitlines()
    assert lines[0] == "Explanation of 'late': importance, by neg_log_loss:"
    assert [line.split()[0] for line in lines[1:-1]] == [one.column for one in found.importance]


def test_a_target_that_is_missing_in_some_rows_or_in_all(frame, model):
    gaps = frame.assign(late=frame["late"].where(np.arange(M) >= 5))
    found = fb.explain(model, gaps, repeats=1, columns=1)
    assert found.notes[0] == "5 rows without a target are left out."
    assert found.scores["m"] == M - 5
    without = fb.explain(model, frame.drop(columns="late"), columns=2)
    assert (without.importance, without.scores, without.worst) == (None, {}, ())
    assert any("Importance needs the target 'late'" in note for note in without.notes)
    assert [one.range for one in without.dependence] == sorted((one.range for one in without.dependence), reverse=True)
    assert set(without.tables()) == {"dependence"}
    assert repr(without).count("\n") == 3
    with pytest.raises(InputError, match="missing in every row"):
        fb.explain(model, frame.assign(late=None))
    with pytest.raises(InputError, match="a class that training had not"):
        fb.explain(model, frame.assign(late="perhaps"))


def test_many_rows_are_drawn_and_that_is_said(frame, model, monkeypatch):
    monkeypatch.setattr(explanation, "SCORED", 100)
    monkeypatch.setattr(explanation, "LEAST", 10)
    found, again, other = (fb.explain(model, frame, rows=50, repeats=2, random_state=seed) for seed in (1, 1, 2))
    assert found.notes[:2] == (
        "Scores, plots and worst rows are of 100 rows, drawn at random from 160.",
        "Importance and dependence are of 50 rows, drawn at random from 160.",
    )
    assert found.scores["m"] == 100
    assert found.importance == again.importance != other.importance
    proba = model.predict_proba(frame)[np.arange(M), (frame["late"] == "yes").astype(int)]
    assert found.worst[0].loss == pytest.approx(-np.log(proba[found.worst[0].row - 1]), rel=1e-5)  # its own number
    monkeypatch.setattr(explanation, "WORK", 1)
    assert "of 10 rows" in fb.explain(model, frame, repeats=1).notes[1]


@pytest.fixture(scope="module")
def page(frame, model, tmp_path_factory):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    folder = tmp_path_factory.mktemp("explained") / "new" / "page"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert fb.explain(model, frame, repeats=2, columns=3).save(folder) == folder / "index.html"
    return folder


def test_the_page_holds_its_plots_and_asks_no_network(page):
    names = {"importance", "dependence", "scores", "calibration", "confusion"}
    tables = {"importance", "dependence", "worst", "scores", "confusion"}
    assert {path.name for path in page.iterdir()} == {
        "index.html", *(f"{name}.png" for name in names), *(f"{name}.csv" for name in tables),
    }  # fmt: skip
    text = (page / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|<script|<link", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    assert text.count("data:image/png;base64,") == len(names)
    assert "<b>Bonn" not in text
    assert "&lt;b&gt;Bonn" in text  # what is in the data is escaped
    for name in names:
        assert (page / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with open(page / "importance.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["column", "mean", "spread", "repeat_1", "repeat_2"]
    assert len(rows) == 4


@pytest.mark.parametrize("target", ["size", "cost"])
def test_several_classes_and_numbers_are_drawn_too(frame, target, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    kind = fb.TableClassifier if target == "size" else fb.TableRegressor
    rest = [name for name in ("late", "size", "cost") if name != target]
    model = kind(**QUICK, drop=rest).fit(frame, target=target)
    found = fb.explain(model, frame, repeats=1, columns=2)
    found.save(tmp_path)
    if target == "size":
        assert found.dependence[0].means.shape[0] == 4
        assert (tmp_path / "confusion.png").exists()
    else:
        assert found.scores["r2"] == pytest.approx(model.evaluate(frame)["r2"], rel=1e-6)
        assert (tmp_path / "errors.png").exists()
        assert found.dependence[0].series == ("cost",)


def test_an_estimator_of_numbers_is_explained_too():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(M, 3))
    y = np.where(X[:, 1] > 0, "a", "b")
    model = fb.LogisticRegression().fit(X, y)
    found = fb.explain(model, X, y, repeats=2)
    assert found.importance[0].column == "x1"

    def score(estimator, X, y):
        return -log_loss(y, estimator.predict_proba(X))

    theirs = permutation_importance(model, X, y, scoring=score, n_repeats=2, random_state=0)
    assert found.importance[0].repeats == pytest.approx(tuple(theirs.importances[1]))
    assert fb.explain(model, X).importance is None
    number = fb.explain(fb.MLPRegressor(max_iter=2).fit(X, X[:, 0]), X, X[:, 0], repeats=1, columns=1)
    assert number.metric == "r2"
    for given, message in [
        ((X[:, :2], y), r"X has the shape \(160, 2\), and the model takes \(m, 3\)"),
        ((X, y[:5]), "X has 160 rows and y the shape"),
        ((X, np.full(M, "c")), "y has 'c' in row 0, a class that training had not"),
    ]:
        with pytest.raises(InputError, match=message):
            fb.explain(model, *given)
    for wrong in ({"repeats": 0}, {"rows": 1}, {"columns": True}):
        with pytest.raises(InputError, match="must be an integer of at least"):
            fb.explain(model, X, y, **wrong)
    with pytest.raises(InputError, match="several targets"):
        fb.explain(fb.MLPClassifier(max_iter=2).fit(X, X > 0), X)
    with pytest.raises(InputError, match="not fitted"):
        fb.explain(fb.MLPClassifier(), X)


def test_a_value_of_most_rows_leaves_the_grid_to_the_others():
    values = np.concatenate([np.zeros(920), np.random.default_rng(0).exponential(5000, 80)])
    rows, _, grid = Column("gain", values, None).grid(20)
    assert len(grid) == 20
    assert (grid[0], min(grid[1:]) > 0, grid) == (0, True, sorted(grid))
    np.testing.assert_array_equal(values[rows], grid)


def test_a_column_of_one_value_or_of_none_has_a_grid():
    assert Column("x", np.full(4, np.nan), None).grid(20)[1:] == ([], [])
    assert Column("x", np.array([2.0, np.nan, 2.0]), None).grid(20)[1] == ["2"]
    rows, labels, values = Column("t", np.array([1, 1, 2, 0, 2, 2]), ("a", "b")).grid(2)
    assert (rows.tolist(), labels, values) == ([0, 2], ["b", "(missing)"], None)
    X = np.zeros((20, 2))
    X[:, 0] = np.arange(20)
    found = fb.explain(fb.LogisticRegression().fit(X, np.arange(20) > 9), X, np.arange(20) > 9, repeats=1)
    assert {one.column for one in found.dependence} == {"x0", "x1"}
