"""``fullbatch columns``: what it shows without training; and what ``train`` and ``info MODEL`` show of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from command.conftest import QUICK, write


@pytest.fixture
def stray(tmp_path):
    """D1: one cell among many numbers is none."""
    rng = np.random.default_rng(0)
    income = rng.normal(5e4, 2e4, 3000).round(2).astype(str)
    late = np.where(income.astype(float) + rng.normal(0, 1e4, 3000) > 5e4, "yes", "no")
    income[777] = "unknown"
    rows = "".join(f"{a},{b}\n" for a, b in zip(income, late, strict=True))
    return write(tmp_path / "stray.csv", "income,late\n" + rows)


def test_columns_are_shown(run, folder):
    status, out, err = run("columns", folder / "people.csv", "--target", "pays")
    assert status == 0
    for word in ("town", "category", "3 levels", "18 to 79", "target pays: classification", "2 classes: no"):
        assert word in out
    assert "warning: column 'spends': it alone predicts the target" in err
    assert "--drop spends" in err
    status, out, err = run("columns", folder / "people.csv", "--target", "pays", "--json")
    found = json.loads(out)
    assert [column["name"] for column in found["columns"]] == ["town", "age", "income", "spends", "pays"]
    assert found["target"]["classes"][0][0] == "no"
    assert [doubt["column"] for doubt in found["doubts"]] == ["spends"]
    assert run("columns", folder / "people.csv")[1].count("target") == 0


def test_one_stray_cell_is_said_and_cured(run, stray):
    _, _, err = run("columns", stray)
    assert "is 'unknown' in row 778; --missing unknown reads it as missing" in err
    _, out, err = run("train", stray, "--target", "late", *QUICK)
    assert "warning: column 'income'" in err
    assert "1 category" in out
    _, out, err = run("train", stray, "--target", "late", "--missing", "unknown", "--json", *QUICK)
    found = json.loads(out)
    assert "warning" not in err
    assert found["report"]["columns"][0]["kind"] == "number"
    assert found["held_out"]["auc"] > 0.9
    assert run("train", stray, "--target", "late", "--quiet", *QUICK)[2] == ""


def test_what_is_missing_is_so_for_the_model_too(run, stray, tmp_path):
    model = tmp_path / "m.model"
    assert run("train", stray, "--target", "late", "--missing", "unknown", "--model", model, "-q", *QUICK)[0] == 0
    new = write(tmp_path / "new.csv", "income\n50000\nunknown\n")
    status, out, _ = run("predict", model, new)
    assert (status, len(out.splitlines())) == (0, 3)


@pytest.mark.parametrize("mark", [" NA", ".", "-", " ", "   ", "None", " ?"])
def test_marks_for_missing_leave_a_column_of_numbers(run, tmp_path, mark):
    rows = "".join(f"{mark if i % 9 == 4 else i / 7},{i % 2}\n" for i in range(60))
    found = json.loads(run("columns", write(tmp_path / "t.csv", "x,y\n" + rows), "--json")[1])
    assert (found["columns"][0]["kind"], found["columns"][0]["missing"]) == ("number", 7)


def test_words_for_missing_can_be_kept(run, tmp_path):
    data = write(tmp_path / "t.csv", "land,y\n" + "NA,1\nDE,2\n,1\n" * 10)
    usual = json.loads(run("columns", data, "--json")[1])["columns"][0]
    kept = json.loads(run("columns", data, "--keep-missing-words", "--json")[1])["columns"][0]
    assert (usual["missing"], kept["missing"], kept["values"]) == (20, 10, "2 levels")


def test_a_class_that_is_a_word_for_missing(run, tmp_path):
    data = write(tmp_path / "t.csv", "x,y\n" + "1.5,NA\n2.5,DE\n" * 20)
    args = ("train", data, "--target", "y", "--keep-missing-words", "--model", tmp_path / "m", "--json", *QUICK)
    assert json.loads(run(*args)[1])["classes"] == ["DE", "NA"]
    assert run("evaluate", tmp_path / "m", data)[0] == 0


def test_columns_are_left_out(run, folder):
    args = ("train", folder / "people.csv", "--target", "pays", "--json", *QUICK)
    assert json.loads(run(*args, "--drop", "spends,age")[1])["columns"] == 2
    found = json.loads(run(*args, "--columns", "age")[1])
    assert found["columns"] == 1
    left_out = [column["name"] for column in found["report"]["columns"] if column["kind"] == "left out"]
    assert left_out == ["town", "income", "spends"]


def test_info_shows_what_the_model_file_keeps(run, folder):
    status, out, _ = run("info", folder / "pays.model")
    assert status == 0
    for word in ("town", "18 to 79", "classification", "accuracy", "learned from", "359 rows", "epochs"):
        assert word in out
    record = json.loads(run("info", folder / "pays.model", "--json")[1])
    assert set(record["versions"]) == {"fullbatch", "numpy"}
    assert record["data"]["files"] == [{"name": "people.csv", "bytes": (folder / "people.csv").stat().st_size}]
    assert (record["data"]["rows"], record["rows"], record["left_out"]) == (
        400,
        360,
        {"without_target": 0, "weight_0": 0},
    )
    assert record["parameters"]["hidden"] == [8]
    assert record["chosen"]["batch_size"] == 32
    assert "device" not in record["parameters"]


def test_info_of_an_earlier_file(run, data_folder):
    status, out, _ = run("info", data_folder / "table.v1.fullbatch")
    assert (status, "keeps no record" in out) == (0, True)


def test_contradictions(fails, folder):
    data = folder / "people.csv"
    assert "--drop leaves it out" in fails("train", data, "--target", "pays", "--drop", "pays")
    assert "in --columns and in --drop" in fails("columns", data, "--columns", "age", "--drop", "age")
    assert "'income'" in fails("columns", data, "--drop", "incom")
    assert "'income'" in fails("columns", data, "--columns", "incom")
