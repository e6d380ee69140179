"""``fullbatch columns``: what it shows without training; and what ``train`` and ``info MODEL`` show of it."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from command.conftest import QUICK, people, write
from fullbatch.command.columns import print_columns
from fullbatch.command.printing import console


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
    assert not any(line.endswith(" ") for line in out.splitlines())
    assert "warning: column 'spends': it alone predicts the target" in err
    assert "--drop spends" in err
    status, out, err = run("columns", folder / "people.csv", "--target", "pays", "--json")
    found = json.loads(out)
    assert [column["name"] for column in found["columns"]] == ["town", "age", "income", "spends", "pays"]
    assert found["target"]["classes"][0][0] == "no"
    assert [doubt["column"] for doubt in found["doubts"]] == ["spends"]
    assert run("columns", folder / "people.csv")[1].count("target") == 0


def test_on_a_narrow_terminal_what_is_cut_is_marked(folder):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = console(terminal := Terminal())
    out.width = 80
    column = {"kind": "category", "missing": 3, "values": "12,345 to 9,876,543", "why": "text", "examples": ["x" * 60]}
    names = ("a", "a_name_of_some_length")
    print_columns(out, {"columns": [column | {"name": name} for name in names], "rows": 9, "target": None}, "t.csv")
    lines = [line for line in terminal.getvalue().splitlines() if "text" in line]
    assert len(lines) == len(names)
    assert all("x…" in line for line in lines)


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
        359,
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


# ---- dates and decimals --------------------------------------------------------------------------


@pytest.fixture
def sales(tmp_path):
    """A semicolon file with decimal commas and dates, of which the weekday decides."""
    rng = np.random.default_rng(0)
    days = rng.permutation(600).astype("datetime64[D]") + np.timedelta64(19_000, "D")
    weekend = (days.astype(int) + 3) % 7 > 4
    price = rng.normal(5, 2, 600).round(2)
    sold = np.where(weekend, "many", "few")
    rows = [
        f"{day:%d.%m.%Y};{str(x).replace('.', ',')};{y}\n"
        for day, x, y in zip(days.tolist(), price.tolist(), sold, strict=True)
    ]
    return write(tmp_path / "sales.csv", "day;price;sold\n" + "".join(rows))


def test_dates_and_decimals_are_understood_and_kept(run, sales, tmp_path):
    _, out, err = run("columns", sales)
    assert "date by %d.%m.%Y: number, weekday, month" in out
    assert "column 'price': it is a category, though all of its texts are numbers with a comma" in err
    assert "--decimal , reads them as numbers" in err
    model = tmp_path / "m.model"
    options = ("--target", "sold", "--decimal", ",", "--model", model, "--json", *QUICK)
    status, out, err = run("train", sales, *options)
    found = json.loads(out)
    assert (status, "warning" in err) == (0, False)
    assert [column["kind"] for column in found["report"]["columns"]] == ["date", "number", "target"]
    assert found["held_out"]["accuracy"] > 0.97
    # A single row, whose day could be a month, and no day beyond 12 beside it: the 3rd of February 2024, a Saturday.
    new = write(tmp_path / "new.csv", "day;price\n03.02.2024;4,5\n")
    assert run("predict", model, new)[1].split("\n")[1].startswith("many")
    new = write(tmp_path / "new.csv", "day;price\n02.02.2024;4,5\n;\n")
    assert run("predict", model, new)[1].split("\n")[1].startswith("few")
    assert run("evaluate", model, sales)[0] == 0
    for content, said in (
        ("day;price\n2024-02-02;4,5\n", "column 'day' must hold dates as '%d.%m.%Y', but row 1 has '2024-02-02'"),
        (
            "day;price\n02.02.2024;1.234,5\n02.02.2024;1,234.5\n",
            "column 'price' must hold numbers, but row 2 has '1,234.5'",
        ),
        ("day,price\n02.02.2024,4\n", "which separates the values"),
    ):
        status, _, err = run("predict", model, write(tmp_path / "new.csv", content))
        assert (status, err.count("\n")) == (2, 1)
        assert said in err


def test_a_format_by_option(run, tmp_path):
    rows = "".join(f"{i % 12 + 1}/{i % 9 + 1}/2024,{i % 11 + 1}/5/24,{i % 2}\n" for i in range(200))
    path = write(tmp_path / "t.csv", "a,b,y\n" + rows)
    kinds = lambda *options: [  # noqa: E731
        column["kind"] for column in json.loads(run("columns", path, "--json", *options)[1])["columns"]
    ]
    assert kinds() == ["category", "category", "number"]
    assert kinds("--date-format", "%d/%m/%Y") == ["date", "category", "number"]
    assert kinds("--date-format", "%d/%m/%Y", "--date-format", "b=%m/%d/%y") == ["date", "date", "number"]
    _, out, _ = run("columns", path, "--date-format", "a=%m/%d/%Y", "--columns", "a")
    assert "date by %m/%d/%Y" in out
    model = tmp_path / "m.model"
    options = ("--target", "y", "--date-format", "a=%d/%m/%Y", "--model", model, "-q", *QUICK)
    assert run("train", path, *options)[0] == 0
    assert run("evaluate", model, path)[0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--date-format", "a=%d.%m.%Y"], "column 'a' must hold dates as '%d.%m.%Y', but row 1 has '1/2/2024'"),
        (["--date-format", "%d.%m.%Y"], "the date format '%d.%m.%Y' fits no column of text"),
        (["--date-format", "a=%d"], "no year"),
        (["--date-format", "a=%d/%m/%Y", "--categorical", "a"], "column 'a' is in --date-format and in --categorical"),
        (["--date-format", "a=%d/%m/%Y", "--numeric", "b,a"], "column 'a' is in --date-format and in --numeric"),
        (["--date-format", "a=%d/%m/%Y", "--drop", "a"], "column 'a' is in --date-format and in --drop"),
        (["--date-format", "a=%d/%m/%Y", "--date-format", "a=%Y"], "gives column 'a' two formats"),
        (["--date-format", "a=%d/%m/%Y", "--columns", "b"], "no column of dates 'a'"),
        (["--date-format", "aa=%d/%m/%Y"], "Did you mean 'a'?"),
        (["--decimal", ","], "which separates the values"),
        (["--decimal", ";"], "';' is unknown; the known ones are ., ,."),
    ],
)
@pytest.mark.parametrize("command", ["columns", "train"])
def test_what_contradicts_itself(run, tmp_path, command, options, said):
    path = write(tmp_path / "t.csv", "a,b,y\n1/2/2024,5,0\n3/4/2024,6,1\n")
    status, _, err = run(command, path, "--target", "y", *options)
    assert (status, err.count("\n")) == (2, 1)
    assert said in err


def test_a_mark_among_numbers_is_missing_in_files_of_any_kind(run, tmp_path):
    table = people().set_column(1, "age", pa.array([-999 if i % 5 == 0 else 20 + i % 50 for i in range(400)]))
    csv.write_csv(table, tmp_path / "marked.csv")
    parquet.write_table(table, tmp_path / "marked.parquet")
    said = {}
    for path in (tmp_path / "marked.csv", tmp_path / "marked.parquet"):
        status, out, err = run("columns", path, "--target", "pays", "--json", "--missing", "-999")
        assert status == 0
        assert "mark" not in err
        assert {one["name"]: one["missing"] for one in json.loads(out)["columns"]}["age"] == 80
        doubted = run("columns", path, "--target", "pays")[2]
        assert "column 'age': -999 stands in 80 rows, first in row 1" in doubted
        assert "--missing -999 reads it as missing" in doubted
        model = tmp_path / f"{path.suffix}.model"
        how = ("--target", "pays", "--missing", "-999", "--model", model)
        assert run("train", path, *how, *QUICK)[0] == 0
        said |= {(model.name, other.name): run("predict", model, other)[1] for other in tmp_path.glob("marked.*")}
    assert len(set(said.values())) == 1
    assert len(said) == 4
