"""``fullbatch evaluate`` and ``predict``: scores and predictions of tables that come in any form, or do not fit."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from command.conftest import QUICK, people, write


def test_a_score_that_is_not_defined_is_null(run, folder, tmp_path):
    table = people()
    csv.write_csv(table.filter(pa.compute.equal(table["pays"], "yes")), tmp_path / "yes.csv")
    status, out, _ = run("evaluate", folder / "pays.model", tmp_path / "yes.csv", "--json")
    assert status == 0
    assert json.loads(out)["auc"] is None


def test_a_regression_is_scored_by_r2_and_mae(run, folder, tmp_path):
    model = tmp_path / "spends.model"
    status, out, _ = run("train", folder / "people.csv", "--target", "spends", "--model", model, *QUICK)
    assert status == 0
    assert "R²" in out
    assert "the mean" in out
    _, out, _ = run("evaluate", model, folder / "people.csv", "--json")
    scores = json.loads(out)
    assert set(scores) == {"m", "cost", "r2", "rmse", "mae"}
    assert scores["r2"] > 0.5
    _, out, _ = run("predict", model, folder / "people.csv")
    assert out.splitlines()[0] == "prediction"
    assert float(out.splitlines()[1]) > 1000


def test_predictions_go_where_the_ending_says(run, folder, tmp_path):
    outs = [tmp_path / f"p{ending}" for ending in (".csv", ".csv.gz", ".parquet")]
    for out in outs:
        status, stdout, err = run("predict", folder / "pays.model", folder / "people.csv", "--out", out)
        assert (status, stdout) == (0, "")
        assert "400 predictions" in err
    tables = [csv.read_csv(outs[0]), csv.read_csv(outs[1]), parquet.read_table(outs[2])]
    for table in tables:
        assert table.column_names == ["prediction", "probability_no", "probability_yes"]
        assert table["prediction"].to_pylist() == tables[0]["prediction"].to_pylist()
        total = table["probability_no"].to_numpy() + table["probability_yes"].to_numpy()
        assert total == pytest.approx(np.ones(400), abs=1e-6)
    assert set(tables[0]["prediction"].to_pylist()) == {"no", "yes"}


def test_predictions_are_the_same_in_blocks(run, folder, monkeypatch):
    _, whole, _ = run("predict", folder / "pays.model", folder / "people.csv")
    monkeypatch.setattr("fullbatch.tables.predictions.ROWS", 33)
    _, parts, _ = run("predict", folder / "pays.model", folder / "people.csv")
    a, b = (csv.read_csv(pa.BufferReader(text.encode())) for text in (whole, parts))
    assert a["prediction"].to_pylist() == b["prediction"].to_pylist()
    assert a["probability_yes"].to_numpy() == pytest.approx(b["probability_yes"].to_numpy(), abs=1e-6)


def test_the_order_of_columns_and_other_columns_do_not_matter(run, folder, tmp_path):
    table = people()
    other = table.select(["income", "pays", "age", "spends", "town"]).append_column("extra", [["x"] * 400])
    csv.write_csv(other, tmp_path / "other.csv")
    _, expected, _ = run("predict", folder / "pays.model", folder / "people.csv")
    status, found, _ = run("predict", folder / "pays.model", tmp_path / "other.csv")
    assert status == 0
    assert found == expected
    csv.write_csv(other.drop_columns(["pays"]), tmp_path / "other.csv")
    assert run("predict", folder / "pays.model", tmp_path / "other.csv")[1] == expected


@pytest.mark.parametrize(
    ("values", "header", "first"),
    [
        ([True, False], "prediction,probability_false,probability_true", {"true", "false"}),
        ([3, 7], "prediction,probability_3,probability_7", {"3", "7"}),
        (
            ['say "hi", you', "b"],
            'prediction,probability_b,"probability_say ""hi"", you"',
            {'"say ""hi"", you"', '"b"'},
        ),
    ],
)
def test_classes_are_written_as_they_were(run, tmp_path, values, header, first):
    x = np.tile([0.0, 1.0], 40)
    data = tmp_path / "d.parquet"
    parquet.write_table(pa.table({"x": x, "y": values * 40}), data)
    assert run("train", data, "--target", "y", "--model", tmp_path / "m.model", *QUICK)[0] == 0
    _, out, _ = run("predict", tmp_path / "m.model", data)
    lines = out.splitlines()
    assert lines[0] == header
    assert {re.split(r",(?=[\d.e-]+,[\d.e-]+$)", line)[0] for line in lines[1:]} == first


# --- Bad input


def test_tables_that_do_not_fit_the_model(fails, run, folder, tmp_path):
    text = (folder / "people.csv").read_text()
    model = folder / "pays.model"
    lines = text.splitlines()
    missing = write(tmp_path / "missing.csv", "\n".join(line.split(",", 1)[1] for line in lines))
    assert "'town'" in fails("predict", model, missing)
    cells = lines[3].split(",")
    cells[2] = "plenty"
    words = write(tmp_path / "words.csv", "\n".join([*lines[:3], ",".join(cells), *lines[4:]]))
    said = fails("predict", model, words)
    assert "'income'" in said
    assert "row 3 has 'plenty'" in said
    maybe = write(tmp_path / "maybe.csv", re.sub(r'"yes"$', '"maybe"', text, count=1, flags=re.M))
    assert "'maybe'" in fails("evaluate", model, maybe)
    assert run("predict", model, maybe)[0] == 0


@pytest.mark.parametrize(("cell", "says"), [("plenty", "row 35 has 'plenty'"), ("inf", "infinite in row 35")])
def test_a_bad_row_is_named_before_a_prediction_is_written(fails, folder, tmp_path, monkeypatch, cell, says):
    monkeypatch.setattr("fullbatch.tables.predictions.ROWS", 10)
    lines = (folder / "people.csv").read_text().splitlines()
    cells = lines[35].split(",")
    cells[2] = cell
    bad = write(tmp_path / "bad.csv", "\n".join([*lines[:35], ",".join(cells), *lines[36:]]))
    assert says in fails("predict", folder / "pays.model", bad)  # and nothing is on stdout


def test_models_that_cannot_be_used(fails, folder, tmp_path):
    data, content = folder / "people.csv", (folder / "pays.model").read_bytes()
    for name, damaged, says in [
        ("empty.model", b"", "empty"),
        ("cut.model", content[:-50], "truncated or damaged"),
        ("header.model", content[:200], "truncated or damaged"),
        ("noise.model", b"\x80\x04\x95pickle", "not a model file"),
        ("newer.model", re.sub(rb'("format_version.{4})\d', rb"\g<1>9", content), "newer fullbatch"),
    ]:
        assert says in fails("predict", write(tmp_path / name, damaged), data), name
    assert "not a model file" in fails("evaluate", data, folder / "pays.model")
    assert "folder" in fails("evaluate", folder, data)


def test_a_model_of_a_gpu_is_used_without_one(run, folder, tmp_path):
    import fullbatch as fb

    model = fb.load(folder / "pays.model")
    model.device = model.estimator_.device = "cuda:7"
    fb.save(model, tmp_path / "gpu.model")
    assert fb.load(tmp_path / "gpu.model").device == "auto"
    assert run("evaluate", tmp_path / "gpu.model", folder / "people.csv")[0] == 0


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_a_bare_estimator_knows_no_columns(fails, folder, tmp_path):
    import fullbatch as fb

    fb.save(fb.MLPClassifier((3,), max_iter=1).fit(np.eye(4), [0, 1, 0, 1]), tmp_path / "bare.model")
    assert "bare MLPClassifier" in fails("predict", tmp_path / "bare.model", folder / "people.csv")


def test_levels_that_training_had_not_are_said(run, fails, folder, tmp_path):
    """D8: codes that a float column wrote as 1.0, other spellings, later dates as text."""
    rows = (folder / "people.csv").read_text().replace('"Ulm"', '"ulm"').replace("Ulm", "ulm")
    data = write(tmp_path / "new.csv", rows)
    share = rows.count("ulm") / 400
    for command in (("predict", "--out", tmp_path / "p.csv"), ("evaluate",)):
        status, _, err = run(command[0], folder / "pays.model", data, *command[1:])
        assert status == 0
        said = f"column 'town': {100 * share:.3g} % of the rows have a level that training had not, the first"
        assert said in err
        assert "'ulm'" in err
        assert "'ulm'" in fails(command[0], folder / "pays.model", data, "--strict")
        assert run(command[0], folder / "pays.model", folder / "people.csv", "--strict")[0] == 0


def test_what_is_ignored_and_left_out_is_said(run, folder, tmp_path):
    rows = (folder / "people.csv").read_text().replace("\n", ",0\n").replace(",0\n", ",more\n", 1).splitlines()
    for row in (1, 7):
        rows[row] = re.sub(r'"?(yes|no)"?,0$', ",0", rows[row])
    data = write(tmp_path / "more.csv", "\n".join(rows) + "\n")
    _, out, err = run("evaluate", folder / "pays.model", data, "--json")
    assert json.loads(out)["m"] == 398
    assert "the model does not know column 'more', which is ignored." in err
    assert "2 of 400 rows have no target; they are left out." in err
    _, _, err = run("predict", folder / "pays.model", data, "--out", tmp_path / "p.csv")
    assert "column 'more'" in err
    assert "no target" not in err
    assert "column" not in run("predict", folder / "pays.model", folder / "people.csv", "--out", tmp_path / "p.csv")[2]
    args = ("--target", "pays", "--drop", "more", *QUICK)
    _, out, err = run("train", data, *args, "--model", tmp_path / "m.model")
    assert "2 of 400 rows have no target; they are left out." in err
    assert "2 of 400 rows have no target; they are left out." in out
    assert "2 of 400 rows" in run("columns", data, "--target", "pays")[2]
    assert "2 of 400 rows" in run("info", tmp_path / "m.model")[1]
    assert run("predict", tmp_path / "m.model", data, "--out", tmp_path / "p.csv")[2].count("column") == 0
    found = json.loads(run("train", data, *args, "--json", "-q")[1])
    assert found["left_out"] == {"without_target": 2, "weight_0": 0}
    assert found["m"] + found["held_out"]["m"] == 398


# --- Columns that are kept


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_kept_columns_stand_before_the_predictions(run, folder, tmp_path, monkeypatch, ending):
    monkeypatch.setattr("fullbatch.tables.predictions.ROWS", 150)
    lines = (folder / "people.csv").read_text().splitlines()
    more = ['"id, no",' + lines[0], *(f'"{i:03}, {i}",{line}' for i, line in enumerate(lines[1:]))]
    data, model = write(tmp_path / "more.csv", "\n".join(more) + "\n"), folder / "pays.model"
    assert run("predict", model, folder / "people.csv", "--out", tmp_path / f"plain{ending}")[0] == 0
    keep = ("--keep", "id, no", "--keep", "income,town")
    status, _, err = run("predict", model, data, "--out", tmp_path / f"kept{ending}", *keep)
    assert (status, "does not know" in err) == (0, False)
    read = parquet.read_table if ending == ".parquet" else csv.read_csv
    plain, kept = read(tmp_path / f"plain{ending}"), read(tmp_path / f"kept{ending}")
    assert kept.schema.names == ["id, no", "income", "town", *plain.schema.names]
    assert kept.select(plain.schema.names).equals(plain)
    own = csv.read_csv(data)
    assert kept.column("id, no").to_pylist() == own.column("id, no").to_pylist()
    assert kept.select(["income", "town"]).equals(own.select(["income", "town"]))
    if ending == ".csv":
        text = (tmp_path / "kept.csv").read_text().splitlines()
        assert text[1].startswith('"000, 0",' + own.column("income")[0].cast("string").as_py() + ",")
        assert run("predict", model, data, *keep)[1].splitlines() == text


def test_kept_columns_that_cannot_be(fails, folder, tmp_path):
    arguments = ("predict", folder / "pays.model", folder / "people.csv", "--out", tmp_path / "p.csv", "--keep")
    assert "no column 'twon'. Did you mean 'town'" in fails(*arguments, "twon")
    lines = (folder / "people.csv").read_text().splitlines()
    for name in ("prediction", "probability_yes"):
        data = write(tmp_path / "same.csv", "\n".join([f"{name},{lines[0]}", *(f"1,{line}" for line in lines[1:])]))
        said = fails("predict", folder / "pays.model", data, "--out", tmp_path / "p.csv", "--keep", name)
        assert f"--keep {name}: the predictions have a column of this name" in said
    assert not (tmp_path / "p.csv").exists()


# --- Tables in pieces


@pytest.fixture
def small_pieces(monkeypatch):
    """Blocks and batches of few rows, as those of a table that does not fit into memory."""
    monkeypatch.setattr("fullbatch.tables.rows.CSV_BLOCK", 700)
    monkeypatch.setattr("fullbatch.tables.stream.ROWS", 37)


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_pieces_of_any_size_give_the_same_bytes(run, folder, tmp_path, request, ending):
    data, model = folder / f"people{ending}", folder / "pays.model"
    _, expected, _ = run("predict", model, folder / "people.csv")
    _, scores, _ = run("evaluate", model, folder / "people.csv", "--json")
    request.getfixturevalue("small_pieces")
    assert run("predict", model, data)[1] == expected
    assert run("evaluate", model, data, "--json")[1] == scores
    assert run("predict", model, data, "--out", tmp_path / "p.csv")[0] == 0
    assert (tmp_path / "p.csv").read_text() == expected


def test_several_files_are_one_table(run, folder, tmp_path):
    table = people()
    (tmp_path / "part=2").mkdir()
    parquet.write_table(table.slice(0, 150), tmp_path / "1.parquet")
    csv.write_csv(table.slice(150, 50), tmp_path / "2.csv")
    parquet.write_table(table.slice(200), tmp_path / "part=2" / "3.parquet")
    files = [tmp_path / "1.parquet", tmp_path / "2.csv", tmp_path / "part=2"]
    _, expected, _ = run("predict", folder / "pays.model", folder / "people.csv")
    assert run("predict", folder / "pays.model", *files)[1] == expected
    _, expected, _ = run("evaluate", folder / "pays.model", folder / "people.csv", "--json")
    assert run("evaluate", folder / "pays.model", *files, "--json")[1] == expected


def test_what_is_wrong_in_a_later_piece_has_its_row(run, fails, folder, tmp_path, small_pieces):
    lines = (folder / "people.csv").read_text().splitlines()
    model = folder / "pays.model"

    def with_cell(row, column, text):
        cells = lines[row].split(",")
        cells[column] = text
        return write(tmp_path / "bad.csv", "\n".join([*lines[:row], ",".join(cells), *lines[row + 1 :]]) + "\n")

    for command in (("predict",), ("predict", "--out", tmp_path / "p.csv"), ("evaluate",)):
        said = fails(command[0], model, with_cell(301, 2, "plenty"), *command[1:])
        assert "row 301 has 'plenty'" in said
    assert not (tmp_path / "p.csv").exists()
    assert "row 350 has 'maybe'" in fails("evaluate", model, with_cell(350, 4, "maybe"))
    dates = [re.sub(r",\d+,", ",2024-01-01,", line) for line in lines[200:]]
    said = fails("predict", model, write(tmp_path / "bad.csv", "\n".join([*lines[:200], *dates])))
    assert "'age'" in said
    text = "\n".join(lines[:300]) + "\n" + "1,2\n"
    assert "row 300" in fails("predict", model, write(tmp_path / "bad.csv", text))
    _, _, err = run("evaluate", model, with_cell(333, 0, "Rom"))
    assert "column 'town': 0.25 % of the rows have a level that training had not, the first of them 'Rom'" in err


def test_a_table_of_which_nothing_can_be_scored(fails, folder, tmp_path):
    header, *lines = (folder / "people.csv").read_text().splitlines()
    model = folder / "pays.model"
    bare = "\n".join(re.sub(r',"?(yes|no)"?$', ",", line) for line in lines)
    assert "missing in every row" in fails("evaluate", model, write(tmp_path / "a.csv", f"{header}\n{bare}\n"))
    assert "it has no rows" in fails("evaluate", model, write(tmp_path / "a.csv", header + "\n"))
    weighted = "\n".join(line + ",0" for line in lines)
    file = write(tmp_path / "a.csv", f"{header},w\n{weighted}\n")
    assert "have a weight of 0" in fails("evaluate", model, file, "--weight", "w")


def test_a_file_that_changes_while_it_is_predicted(fails, folder, tmp_path, monkeypatch):
    from fullbatch.tables import in_pieces

    data = write(tmp_path / "people.csv", (folder / "people.csv").read_bytes())
    stamps = iter([(1, 1), (1, 2)])
    monkeypatch.setattr(in_pieces, "stamp_of", lambda path: next(stamps))
    monkeypatch.setattr("fullbatch.tables.stream.stamp_of", lambda path: next(stamps))
    said = fails("predict", folder / "pays.model", data, "--out", tmp_path / "p.csv")
    assert "people.csv has changed while it was read" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people.csv"]


def test_standard_input_is_a_table(run, fails, folder, tmp_path, monkeypatch):
    model = folder / "pays.model"

    def given(path, *args, check=run):
        with path.open("rb") as file:
            monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=file))
            return check(*args)

    (tmp_path / "bad.csv").write_text("town,age,income\nUlm,20,1.5\nUlm,20\n")
    for name, form in (("people.parquet", "parquet"), ("people.csv", "csv"), ("people.csv.gz", "csv")):
        path, asked = folder / name, ("-", "--format", form)
        assert given(path, "predict", model, *asked, "--keep", "age") == run("predict", model, path, "--keep", "age")
        assert given(path, "evaluate", model, *asked, "--json") == run("evaluate", model, path, "--json")
        assert given(path, "columns", *asked, "--json") == run("columns", path, "--json")
        assert given(path, "train", *asked, "--target", "pays", *QUICK, "-q", "--model", tmp_path / form)[0] == 0
        assert run("predict", tmp_path / form, path) == run("predict", model, path)
    for command in (("columns",), ("predict", model), ("evaluate", model), ("train", "--target", "pays")):
        assert "its format, one of" in given(folder / "people.csv", *command, "-", check=fails)
        asked = ("-", "--format", "csv")
        assert "error: standard input: " in given(tmp_path / "bad.csv", *command, *asked, check=fails)
        assert "--format is of standard input" in fails(*command, folder / "people.csv", "--format", "csv")


def test_a_table_that_does_not_fit_is_one_line(fails, folder, tmp_path):
    (tmp_path / "t.csv").write_text("town,more\nUlm,1\n")
    for command in ("predict", "evaluate"):
        assert "no column 'age'" in fails(command, folder / "pays.model", tmp_path / "t.csv")
