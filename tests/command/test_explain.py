"""``fullbatch explain``: a model and a table in; a page, plots and tables out."""

from __future__ import annotations

import importlib.util

import pytest
from pyarrow import csv

from command.conftest import people, write


@pytest.fixture(autouse=True)
def drawing():
    for name in ("matplotlib", "jinja2"):
        pytest.importorskip(name)


def test_a_model_is_explained(run, folder, tmp_path):
    options = ("--rows", 100, "--repeats", 2, "--columns", 2, "--seed", 3)
    status, stdout, err = run(
        "explain", folder / "pays.model", folder / "people.csv", "--out", tmp_path / "a", *options
    )
    assert status == 0, err
    head, _, *lines = stdout.strip("\n").splitlines()
    assert head.split("  ")[0].strip() == "column"
    assert "log_loss rises by" in head
    assert {line.split()[0] for line in lines} == {"town", "age", "income", "spends"}
    falls = [float(line.split()[1]) for line in lines]
    assert falls == sorted(falls, reverse=True)
    assert "of 100 rows, drawn at random from 400" in err
    assert "permuted 2 times (seed 3)" in err
    assert (tmp_path / "a" / "index.html").exists()


def test_without_the_target_there_is_dependence_and_no_importance(run, folder, tmp_path):
    csv.write_csv(people().drop(["pays"]), tmp_path / "t.csv")
    status, stdout, err = run("explain", folder / "pays.model", tmp_path / "t.csv", "--out", tmp_path / "a")
    assert (status, stdout) == (0, "")
    assert "Importance needs the target 'pays', which is not there: it is left out." in err
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"dependence.csv", "dependence.png", "index.html"}


def test_what_cannot_be_explained_is_refused_and_nothing_is_written(fails, folder, tmp_path, monkeypatch):
    out = tmp_path / "a"
    args = ("explain", folder / "pays.model", folder / "people.csv", "--out")
    assert "it is a file; give the name of a folder" in fails(*args, write(tmp_path / "file", "x"))
    inside = tmp_path / "file" / "inside"
    assert f"cannot write the explanation to {inside}: " in fails(*args, inside / "deeper")
    csv.write_csv(people().drop(["age"]), tmp_path / "t.csv")
    assert "'age'" in fails("explain", folder / "pays.model", tmp_path / "t.csv", "--out", out)
    assert "--repeats" in fails(*args, out, "--repeats", 0)
    assert "metric" in fails(*args, out, "--metric", "f2")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "jinja2" else find(name, *rest)
    )
    assert "jinja2, which is not installed: pip install 'fullbatch[explain]'" in fails(*args, out)
    assert not out.exists()
