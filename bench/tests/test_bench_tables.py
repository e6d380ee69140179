"""The run over real tables: fits in processes of their own, rows that are scored, and what is said of them."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from bench import plots, readme, render, tables
from bench.command import main
from bench.results import Result

pandas = pytest.importorskip("pandas")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pandas")


def row(table: str, contender: str, loss: float, seconds: float, rows: int = 1000, **values) -> dict:
    return {
        "table": table, "contender": contender, "judge": False, "classify": True, "rows": rows, "columns": 3,
        "loss": loss, "seconds": seconds, "cpu": seconds, "others": 0.0, "extra": 10**6, "seeds": 1, "limited": 0,
        **values,
    }  # fmt: skip


def test_the_list_is_of_twelve_tables_and_six_are_looked_at_once():
    assert len(tables.TABLES) == 12
    assert sum(table.judge for table in tables.TABLES.values()) == 6
    assert set(tables.PACKAGES) == set(tables.CONTENDERS) > {tables.OURS, *tables.BOOSTED}


def test_every_fifth_row_is_scored_on_and_rows_without_a_target_are_left_out(tmp_path):
    frame = pandas.DataFrame({"age": np.arange(20), "income-per-year": ["a", "b"] * 9 + [None, None]})
    frame.to_csv(tmp_path / "adult.csv", index=False)
    train, test = tables.load("adult", tmp_path)
    assert test["age"].tolist() == [4, 9, 14]
    assert train["age"].tolist() == [i for i in range(18) if i % 5 != 4]
    for part, rows in (("train", 6), ("test", 3)):
        pandas.DataFrame({"late": ["yes"] * rows}).to_csv(tmp_path / f"nyc-late-{part}.csv.gz", index=False)
    assert [len(part) for part in tables.load("nyc-late", tmp_path)] == [6, 3]
    with pytest.raises(FileNotFoundError, match="--data"):
        tables.load("mnist", None)
    with pytest.raises(FileNotFoundError, match="no mnist"):
        tables.load("mnist", tmp_path)


def test_a_run_measures_goes_on_and_shows(tmp_path, capsys):
    arguments = ["tables", "--quick", "--table", "digits", "--seeds", "1", "--out", str(tmp_path)]
    assert main([*arguments, "--contender", "scikit-learn's MLP"]) == 0
    result = json.loads((tmp_path / "tables.json").read_text())
    assert [p["contender"] for p in result["points"]] == ["fullbatch", "scikit-learn's MLP"]
    for point in result["points"]:
        assert point["rows"] == 1000
        assert 0 < point["loss"] < 1
        assert point["seconds"] > 0
    assert "digits" in capsys.readouterr().out
    assert (tmp_path / "tables.png").exists()
    before = result["points"]
    assert main([*arguments, "--contender", "scikit-learn's MLP", "--resume"]) == 0
    assert json.loads((tmp_path / "tables.json").read_text())["points"] == before  # nothing is fitted again
    before[0]["revision"], result["machine"]["versions"]["fullbatch"] = "another", "0.0.1"
    (tmp_path / "tables.json").write_text(json.dumps(result))
    assert (
        main([*arguments, "--contender", "scikit-learn's MLP", "--resume"]) == 0
    )  # fullbatch is, if it is another one
    after = json.loads((tmp_path / "tables.json").read_text())["points"]
    assert after[:-1] == before[1:]
    assert after[-1]["contender"] == "fullbatch"


def test_the_trees_take_texts_gaps_and_new_levels():
    rng = np.random.default_rng(0)
    X = pandas.DataFrame({"text": rng.choice(["a", "b", None], 300), "number": rng.normal(size=300)})
    y = pandas.Series(np.where((X["text"] == "a") | (X["number"] > 0.3), "yes", "no"))
    for name in ("HistGradientBoosting", "scikit-learn's MLP"):
        fitted = tables.CONTENDERS[name](tables.Rows(X, y, True, 0, 1e6))
        proba = fitted.predict(X.assign(text="new"))
        assert proba.shape == (300, 2), name
        assert not fitted.limited
        assert tables.score(fitted, X, y) < 0.6, name  # 0.68 by the shares alone


def test_a_fit_at_its_limit_of_time_counts_with_what_it_has():
    rng = np.random.default_rng(0)
    X, y = pandas.DataFrame({"number": rng.normal(size=4000)}), pandas.Series(rng.normal(size=4000))
    fitted = tables.hist_gradient_boosting(tables.Rows(X, y, False, 0, 0.0))
    assert fitted.limited
    assert np.isfinite(tables.score(fitted, X, y))


def test_the_verdict_is_of_the_better_trees_and_by_the_size_of_the_table():
    rows = [
        row("small", "fullbatch", 1.04, 1.0), row("small", "XGBoost", 1.0, 2.0),
        row("small", "HistGradientBoosting", 1.2, 0.1), row("small", "scikit-learn's MLP", 1.03, 1.0),
        row("large", "fullbatch", 1.02, 1.0, 10**6), row("large", "XGBoost", 1.0, 3.5, 10**6),
    ]  # fmt: skip
    found = tables.verdicts(rows)
    assert found == [
        "Of 1 tables of at least 100,000 rows, fullbatch is within 1 % of the better of the trees, or ahead, on 0 "
        "(none); it takes a third of their time at most on 1 (large), of the cores' time on 1 (large).",
        "Of 1 tables of fewer than 100,000 rows, fullbatch is within 5 % of the better of the trees, or ahead, on 1 "
        "(small); it takes their time at most on 1 (small), of the cores' time on 1 (small).",
        "It is better than scikit-learn's MLP on 0 of 1.",
    ]


def test_tables_and_pictures_show_what_was_limited_and_looked_at_once(tmp_path):
    from bench.machine import describe

    point = {"seed": 0, "limited": False, "revision": "a"}
    points = [
        {**row("adult", "fullbatch", 0.3, 2.0, others=0.5), **point},
        {**row("adult", "XGBoost", 0.31, 3.0), **point, "limited": True},
        {**row("arrival", "fullbatch", 30.0, 2.0, judge=True, classify=False), **point},
    ]
    result = Result("tables", "", describe(), {}, points, summary=tables.summary(points), finished=True)
    console = render.console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    render.show(result, console)
    text = console.file.getvalue()
    assert "arrival *" in text
    assert text.count("2 disturbed") == 1
    assert "XGBoost (limit)" in text
    assert "30 RMSE" in text
    assert plots.draw(result, tmp_path / "tables.json")[0].stat().st_size > 10_000
    source = readme.Source(tmp_path, [(tmp_path / "tables.json", result)], tmp_path)
    assert "| adult | XGBoost (limit) |" in readme.SECTIONS["tables"](source)
