"""The command: what it prints and writes, and one line on stderr for each kind of bad input."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from fullbatch.command import app
from fullbatch.core.activations import ACTIVATIONS
from fullbatch.machine import places


def people(m: int = 400, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    town = rng.choice(["Bonn", "Kiel", "Ulm"], m)
    age = rng.integers(18, 80, m)
    income = np.round(rng.normal(2.0, 1.0, m), 3)
    score = income + (town == "Ulm") + 0.03 * age
    return pa.table(
        {"town": town, "age": age, "income": income, "spends": 1e4 * score, "pays": np.where(score > 3.8, "yes", "no")}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a table as CSV, CSV.gz and Parquet, and a model of it; tests add files and change none."""
    folder = tmp_path_factory.mktemp("people")
    table = people()
    csv.write_csv(table, folder / "people.csv")
    (folder / "people.csv.gz").write_bytes(gzip.compress((folder / "people.csv").read_bytes()))
    parquet.write_table(table, folder / "people.parquet")
    args = [folder / "people.csv", "--target", "pays", "--model", folder / "pays.model"]
    assert app.main(["train", *map(str, args), "--quiet", *QUICK]) == 0
    return folder


QUICK = ("--hidden", "8", "--epochs", "12", "--batch-size", "32", "--learning-rate", "0.02")


@pytest.fixture
def run(capsys):
    """Run the command in this process: its exit status, stdout and stderr."""

    def run(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = app.main([str(arg) for arg in args])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def fails(run):
    """Run the command, which must fail with exit 2 and one line on stderr; return what that line says."""

    def fails(*args: object) -> str:
        status, out, err = run(*args)
        assert status == 2, (status, out, err)
        assert out == ""
        assert re.fullmatch(r"fullbatch: error: [^\n]+\n", err), err
        return err

    return fails


# --- What it does


def test_train_then_evaluate_and_predict(run, folder, tmp_path):
    for kind in ("csv", "csv.gz", "parquet"):
        data, model = folder / f"people.{kind}", tmp_path / f"{kind}.model"
        status, out, err = run("train", data, "--target", "pays", "--model", model, *QUICK)
        assert status == 0
        assert "epoch 12/12" in err
        assert re.search(r"accuracy +\d+\.\d+ % +\d+\.\d+ %", out)
        assert "majority guess" in out
        assert f"fullbatch predict {model} {data}" in out
        status, out, _ = run("evaluate", model, data)
        assert status == 0
        assert "log-loss" in out
        status, out, _ = run("predict", model, data)
        assert out.splitlines()[0] == "prediction,probability_no,probability_yes"
        assert len(out.splitlines()) == 401
    models = {(tmp_path / f"{kind}.model").read_bytes() for kind in ("csv", "parquet")}
    assert len(models) == 1  # the same table and seed: the same bits


def test_json_is_one_object_on_the_last_line(run, folder, tmp_path, host_step):
    status, out, _ = run("train", folder / "people.csv", "--target", "pays", "--json", *QUICK)
    found = json.loads(out.splitlines()[-1])
    assert status == 0
    assert found["classes"] == ["no", "yes"]
    assert (found["m"], found["held_out"]["m"], found["epochs"]) == (360, 40, 12)
    assert found["held_out"]["log_loss"] < found["guess"]["log_loss"]
    assert found["device"] == "cpu"
    assert found["step"] == host_step
    assert found["model"] is None
    assert not found["interrupted"]
    status, out, _ = run("evaluate", folder / "pays.model", folder / "people.csv", "--json")
    scores = json.loads(out)
    assert set(scores) == {"m", "cost", "accuracy", "auc", "log_loss"}
    assert scores["m"] == 400


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
    assert set(scores) == {"m", "cost", "r2", "mae"}
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


def test_train_without_data_shows_held_out_results(run):
    status, out, _ = run("train", "--quiet", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["held_out"]["accuracy"] > 0.93 > 0.2 > found["guess"]["accuracy"]


def test_quiet_train_says_nothing(run, folder):
    assert run("train", folder / "people.csv", "--target", "pays", "--quiet", *QUICK) == (0, "", "")


@pytest.fixture
def no_driver(monkeypatch):
    """CuPy is installed, and there is no GPU that it could use."""
    monkeypatch.setattr(app, "find_spec", lambda name: object())
    monkeypatch.setattr(places, "place", lambda device: places.Place("cpu", np, note="no driver."))


def test_why_it_computes_on_the_cpu_is_said_before_the_first_epoch(run, folder, no_driver):
    for options in ((), ("--solver", "lbfgs")):
        status, _, err = run("train", folder / "people.csv", "--target", "pays", *QUICK, *options)
        assert status == 0
        first, second, *rest = err.splitlines()
        assert first == "fullbatch: computing on the CPU: no driver."
        assert second.startswith("epoch 1/12")
        assert not any("computing" in line for line in rest)


def test_the_beginning_of_a_fit_is_not_yet_that_of_an_epoch(capsys):
    """Between them the training is put together, which can be an error too."""
    callback = app._BeforeTheFirstEpoch("a line")
    for epochs, said in ((12, ""), (0, "fullbatch: a line\n"), (0, "")):
        callback.on_fit_task_begin(None, SimpleNamespace(max_subtasks=epochs))
        assert capsys.readouterr().err == said


def test_why_it_computes_on_the_cpu_is_not_said_quietly_nor_in_front_of_an_error(run, fails, folder, no_driver):
    assert run("train", folder / "people.csv", "--target", "pays", "--quiet", *QUICK) == (0, "", "")
    fails("train", folder / "people.csv", "--target", "pais")
    fails("train", folder / "people.csv", "--target", "pays", "--device-memory", "0")
    fails("train", folder / "people.csv", "--target", "town", "--task", "regress")


def test_plot_draws_the_costs(run, folder, tmp_path):
    pytest.importorskip("matplotlib")
    args = ("--target", "pays", "--quiet", *QUICK, "--plot", tmp_path / "costs.png")
    assert run("train", folder / "people.csv", *args)[0] == 0
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")


def test_options_reach_the_training(run, folder):
    _, out, _ = run(
        "train", folder / "people.csv", "--target", "pays", "--json", "--quiet", "--hidden", "5,3", "--epochs", "2",
        "--batch-size", "full", "--solver", "gd", "--learning-rate", "0.3", "--dtype", "float64", "--seed", "3",
        "--validation", "0.25", "--activation", "tanh", "--l2", "0.5", "--threads", "1", "--categorical", "age,town",
        "--numeric", "income", "--max-levels", "10", "--device", "cpu",
    )  # fmt: skip
    found = json.loads(out)
    assert found["hidden"] == [5, 3]
    assert (found["epochs"], found["threads"], found["held_out"]["m"]) == (2, 1, 100)
    assert found["n"] == 2 + 11 + 3  # income, spends; ten ages and the others; three towns


def test_hidden_none_is_logistic_regression(run, folder):
    _, out, _ = run("train", folder / "people.csv", "--target", "pays", "--hidden", "none", "--json", "--quiet")
    assert json.loads(out)["hidden"] == []


def test_info(run):
    status, out, _ = run("info")
    assert status == 0
    assert "numpy" in out
    assert "cuda" in out
    found = json.loads(run("info", "--json")[1])
    assert found["devices"][0]["name"] == "cpu"
    assert found["devices"][0]["usable"]
    assert set(found["steps"]) >= {"inplace", "array"}
    assert found["threads"] >= 1


def test_help_and_version(run):
    assert run("--version") == (0, f"fullbatch {app.__version__}\n", "")
    for args in ((), ("--help",), ("train", "-h")):
        status, out, err = run(*args)
        assert (status, err) == (0, "")
        assert "Usage: fullbatch" in out


def test_the_activations_are_the_networks():
    assert set(app.ACTIVATIONS) == set(ACTIVATIONS)


# --- Bad input: one line, exit 2


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["trai"], "No such command"),
        (["train", "--frobnicate"], "No such option"),
        (["evaluate"], "Missing argument 'MODEL'"),
        (["evaluate", "x.model", "nothing.csv"], "no such model file: x.model"),
        (["train", "--solver", "newton"], "adam, gd, sgd, lbfgs"),
        (["train", "--activation", "step"], "tanh, relu, gelu"),
        (["train", "--device", "tpu"], "auto, cpu, cuda and cuda:N"),
        (["train", "--dtype", "float16"], "float32, float64"),
        (["train", "--task", "cluster"], "classify, regress"),
        (["train", "--hidden", "0"], "for '--hidden': '0' is not a list of layer sizes"),
        (["train", "--hidden", "64,-2"], "layer sizes"),
        (["train", "--hidden", "big"], "layer sizes"),
        (["train", "--epochs", "0"], "--epochs"),
        (["train", "--epochs", "many"], "--epochs"),
        (["train", "--epochs", "many"], ". Try 'fullbatch train --help'."),
        (["train", "--batch-size", "0"], "no batch size"),
        (["train", "--batch-size", "-3"], "no batch size"),
        (["train", "--learning-rate", "0"], "larger than 0"),
        (["train", "--learning-rate", "-1"], "larger than 0"),
        (["train", "--learning-rate", "nan"], "larger than 0"),
        (["train", "--learning-rate", "inf"], "larger than 0"),
        (["train", "--l2", "-0.1"], "0 or a larger number"),
        (["train", "--validation", "1"], "less than 1"),
        (["train", "--validation", "-0.1"], "at least 0"),
        (["train", "--max-levels", "0"], "--max-levels"),
        (["train", "--threads", "0"], "--threads"),
        (["train", "--seed", "-1"], "--seed"),
        (["train", "--target", "digt"], "no target column 'digt'. Did you mean 'digit'?"),
        (["train", "--target", "DIGIT"], "Did you mean 'digit'?"),
        (["train", "--plot", "costs.gif"], ".png, .pdf, .svg"),
    ],
)
def test_usage(fails, args, says):
    assert says in fails(*args)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


ROWS = "a,b,y\n1,x,no\n2,y,yes\n3,x,no\n4,y,yes\n5,x,no\n6,y,yes\n"


@pytest.mark.parametrize(
    ("name", "content", "target", "says"),
    [
        ("empty.csv", "", "y", "empty"),
        ("empty.parquet", "", "y", "empty"),
        ("header.csv", "a,b,y\n", "y", "no rows"),
        ("junk.csv", b"\x00\x01\x02\xff" * 100, "y", "not a CSV file"),
        ("junk.parquet", b"PAR1 and then nothing PAR1", "y", "damaged"),
        ("junk.csv.gz", b"\x1f\x8b and then nothing", "y", "damaged|cannot be read"),
        ("latin.csv", ROWS.replace("x", "\xe9").encode("latin-1"), "y", "UTF-8"),
        ("table.xlsx", "PK", "y", r"\.csv, \.csv\.gz and \.parquet"),
        ("column.csv", ROWS, "z", "'z'"),
        ("near.csv", ROWS.replace("y\n", "late\n", 1), "latte", "Did you mean 'late'"),
        ("one.csv", ROWS.replace("yes", "no"), "y", "at least two classes"),
        ("gaps.csv", ROWS.replace("6,y,yes", "6,y,"), "y", "missing in 1 of 6 rows"),
        ("twice.csv", ROWS.replace("a,b", "a,a"), "y", "more than one is called 'a'"),
        ("only.csv", "y\nno\nyes\n", "y", "only column"),
        ("ragged.csv", ROWS + "7,x\n", "y", "row 7 .* has 2 values"),
        ("infinite.csv", ROWS.replace("3,x", "inf,x"), "y", "infinite in row 3"),
    ],
)
def test_tables_that_cannot_be_learned(fails, tmp_path, name, content, target, says):
    data, model = write(tmp_path / name, content), tmp_path / "m.model"
    assert re.search(says, fails("train", data, "--target", target, "--model", model))
    assert not model.exists()


def test_files_that_are_not_there(fails, folder, tmp_path):
    assert "Did you mean 'people.csv'" in fails("train", folder / "peple.csv", "--target", "pays")
    assert "folder" in fails("train", folder, "--target", "pays")
    assert "--target is missing" in (said := fails("train", folder / "people.csv"))
    assert "town, age, income, spends, pays" in said


def test_columns_that_are_not_there(fails, folder):
    args = ("train", folder / "people.csv", "--target", "pays")
    assert "'income'" in fails(*args, "--numeric", "incom")
    assert "'town'" in fails(*args, "--categorical", "age,twon")


def test_a_truncated_parquet_file(fails, folder, tmp_path):
    content = (folder / "people.parquet").read_bytes()
    data = write(tmp_path / "cut.parquet", content[: len(content) // 2])
    assert "damaged or cut short" in fails("train", data, "--target", "pays")


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


def test_a_text_target_has_no_regression(fails, folder):
    said = fails("train", folder / "people.csv", "--target", "town", "--task", "regress")
    assert "'town' must hold numbers" in said
    assert "with the task classify" in said


def test_the_model_file_does_not_depend_on_the_number_of_threads(run, folder, tmp_path):
    args = ("train", folder / "people.csv", "--target", "pays", "-q", *QUICK)
    for threads in (1, 2):
        assert run(*args, "--threads", threads, "--model", tmp_path / f"{threads}.model")[0] == 0
    assert (tmp_path / "1.model").read_bytes() == (tmp_path / "2.model").read_bytes()


def test_models_that_cannot_be_used(fails, folder, tmp_path):
    data, content = folder / "people.csv", (folder / "pays.model").read_bytes()
    for name, damaged, says in [
        ("empty.model", b"", "empty"),
        ("cut.model", content[:-50], "truncated or damaged"),
        ("header.model", content[:200], "truncated or damaged"),
        ("noise.model", b"\x80\x04\x95pickle", "not a model file"),
        ("newer.model", content.replace(b'"format_version\\": 2', b'"format_version\\": 9'), "newer fullbatch"),
    ]:
        assert says in fails("predict", write(tmp_path / name, damaged), data), name
    assert "not a model file" in fails("evaluate", data, folder / "pays.model")
    assert "folder" in fails("evaluate", folder, data)


def test_a_model_of_a_gpu_is_used_without_one(run, folder, tmp_path):
    import fullbatch as fb

    model = fb.load(folder / "pays.model")
    model.estimator.device = "cuda:7"
    fb.save(model, tmp_path / "gpu.model")
    assert run("evaluate", tmp_path / "gpu.model", folder / "people.csv")[0] == 0


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_a_bare_estimator_knows_no_columns(fails, folder, tmp_path):
    import fullbatch as fb

    fb.save(fb.MLPClassifier((3,), max_iter=1).fit(np.eye(4), [0, 1, 0, 1]), tmp_path / "bare.model")
    assert "bare MLPClassifier" in fails("predict", tmp_path / "bare.model", folder / "people.csv")


def test_outputs_are_tried_before_the_work(fails, folder, tmp_path, monkeypatch):
    def too_late(*args, **kwargs):
        raise AssertionError("the table was read")

    monkeypatch.setattr("fullbatch.tables.reading.read_table", too_late)
    data = folder / "people.csv"
    train = ("train", data, "--target", "pays")
    assert "does not exist" in fails(*train, "--model", tmp_path / "none" / "m.model")
    assert "does not exist" in fails(*train, "--plot", tmp_path / "none" / "p.png")
    assert "it is a folder" in fails(*train, "--model", tmp_path)
    predict = ("predict", folder / "pays.model", data)
    assert "does not exist" in fails(*predict, "--out", tmp_path / "none" / "p.csv")
    assert ".csv, .csv.gz, .parquet" in fails(*predict, "--out", tmp_path / "p.xlsx")
    assert os.listdir(tmp_path) == []


def test_no_output_takes_the_place_of_an_input(fails, folder, tmp_path):
    data = shutil.copy(folder / "people.csv", tmp_path / "people.csv")
    train = ("train", data, "--target", "pays", "--epochs", "1")
    assert "the same file" in fails(*train, "--model", data)
    assert "the same file" in fails(*train, "--model", tmp_path / "a.png", "--plot", tmp_path / "a.png")
    assert "the same file" in fails("predict", folder / "pays.model", data, "--out", data)
    notes = write(tmp_path / "notes.txt", "mine")
    assert "not a model file" in fails(*train, "--model", notes)
    assert notes.read_text() == "mine"
    assert data.read_bytes() == (folder / "people.csv").read_bytes()


def test_a_training_that_fails_keeps_the_old_model(fails, folder, tmp_path):
    model = shutil.copy(folder / "pays.model", tmp_path / "pays.model")
    said = fails(
        "train", folder / "people.csv", "--target", "spends", "--model", model, "--quiet", "--solver", "gd",
        "--learning-rate", "1e30", "--activation", "identity",
    )  # fmt: skip
    assert "learning rate" in said.replace("-", " ")
    assert model.read_bytes() == (folder / "pays.model").read_bytes()


def test_what_should_not_happen_is_one_line_too(run, monkeypatch):
    def broken():
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(app, "_environment", broken)
    monkeypatch.delenv("FULLBATCH_DEBUG", raising=False)
    status, out, err = run("info")
    assert (status, out) == (1, "")
    assert re.fullmatch(r"fullbatch: error: ZeroDivisionError: two lines [^\n]+\n", err)


# --- As a process


def start(*args: object, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "fullbatch", *map(str, args)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_keeps_the_model_so_far(run, folder, tmp_path, number, status):
    model = tmp_path / "pays.model"
    args = (folder / "people.csv", "--target", "pays", "--model", model, "--hidden", "64", "--epochs", "1000000")
    with start("train", *args, "--json", "--device", "cpu") as process:  # without a word about a GPU
        assert process.stderr.readline().startswith("epoch 1/1000000")
        process.send_signal(number)
        process.send_signal(number)  # an impatient second one changes nothing
        out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    assert re.search(r"interrupted after [\d,]+ epochs? of 1,000,000: the model so far is in .*pays\.model", err)
    assert json.loads(out)["interrupted"]
    assert run("evaluate", model, folder / "people.csv")[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["pays.model"]


def test_an_error_in_a_process_is_one_line_and_exit_2():
    with start("train", "no-such.csv", "--target", "y") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert re.fullmatch(r"fullbatch: error: No such file: no-such\.csv[^\n]*\n", err)


def test_a_reader_that_has_had_enough_is_no_error(folder, tmp_path):
    lines = (folder / "people.csv").read_text().splitlines(keepends=True)
    data = write(tmp_path / "long.csv", "".join([lines[0], *lines[1:] * 500]))
    with start("predict", folder / "pays.model", data) as process:
        first = process.stdout.readline()
        assert first == "prediction,probability_no,probability_yes\n", process.stderr.read()  # what it said instead
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=60)
    assert process.returncode == 1
    assert err == ""


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from fullbatch.command import app; app.main(['train', '--solver', 'x']); "
        "sys.exit(len({'sklearn', 'scipy', 'pyarrow', 'matplotlib', 'cupy'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[1:]) == (0, [])
