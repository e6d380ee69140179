"""``fullbatch train``: what it prints, draws and keeps, and what it finds out before the work."""

from __future__ import annotations

import json
import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from command.conftest import QUICK, write
from fullbatch.command import train
from fullbatch.machine import places


def test_json_is_one_object_on_the_last_line(run, folder, tmp_path, host_step):
    status, out, _ = run("train", folder / "people.csv", "--target", "pays", "--json", *QUICK)
    found = json.loads(out.splitlines()[-1])
    assert status == 0
    assert found["classes"] == ["no", "yes"]
    assert (found["m"], found["held_out"]["m"], found["epochs"]) == (359, 41, 12)
    assert found["held_out"]["log_loss"] < found["guess"]["log_loss"]
    assert found["device"] == "cpu"
    assert found["step"] == host_step
    assert found["model"] is None
    assert not found["interrupted"]
    status, out, _ = run("evaluate", folder / "pays.model", folder / "people.csv", "--json")
    scores = json.loads(out)
    assert set(scores) == {"m", "cost", "accuracy", "auc", "average_precision", "log_loss", "confusion_matrix"}
    assert scores["m"] == 400


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
    monkeypatch.setattr(train, "find_spec", lambda name: object())
    monkeypatch.setattr(places, "place", lambda device: places.Place("cpu", np, reason="no driver."))


def test_why_it_computes_on_the_cpu_is_said_before_the_first_epoch(run, folder, no_driver):
    for options in ((), ("--solver", "lbfgs")):
        args = ("--target", "pays", "--drop", "spends", *QUICK, *options)
        status, _, err = run("train", folder / "people.csv", *args)
        assert status == 0
        first, second, *rest = (line for line in err.splitlines() if "warning: column" not in line)
        assert first == "fullbatch: computing on the CPU: no driver."
        assert second.startswith("epoch 1/12")
        assert not any("computing" in line for line in rest)


def test_the_beginning_of_a_fit_is_not_yet_that_of_an_epoch(capsys):
    """Between them the training is put together, which can be an error too."""
    callback = train._BeforeTheFirstEpoch(lambda estimator: ["a line", "another"])
    for epochs, said in ((12, ""), (0, "fullbatch: a line\nfullbatch: another\n"), (0, "")):
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
        "--numeric", "income", "--max-levels", "10", "--device", "cpu", "--dropout", "0.2,0.1",
    )  # fmt: skip
    found = json.loads(out)
    assert found["hidden"] == [5, 3]
    assert (found["epochs"], found["threads"], found["held_out"]["m"]) == (2, 1, 100)
    assert found["n"] == 2 + 11 + 3  # income, spends; ten ages and the others; three towns


def test_hidden_none_is_logistic_regression(run, folder):
    _, out, _ = run("train", folder / "people.csv", "--target", "pays", "--hidden", "none", "--json", "--quiet")
    assert json.loads(out)["hidden"] == []


def test_the_model_file_does_not_depend_on_the_number_of_threads(run, folder, tmp_path):
    args = ("train", folder / "people.csv", "--target", "pays", "-q", *QUICK)
    for threads in (1, 2):
        assert run(*args, "--threads", threads, "--model", tmp_path / f"{threads}.model")[0] == 0
    assert (tmp_path / "1.model").read_bytes() == (tmp_path / "2.model").read_bytes()


# --- Bad input


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
        ("gaps.csv", "a,y\n1,\n2,\n", "y", "no row is left to learn from: 2 of 2 rows have no target"),
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


def test_a_text_target_has_no_regression(fails, folder):
    said = fails("train", folder / "people.csv", "--target", "town", "--task", "regress")
    assert "'town' must hold numbers" in said
    assert "with the task classify" in said


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


# --- Losses of numbers


def test_a_loss_makes_a_regression_and_names_the_guess(run, fails, folder):
    args = ("train", folder / "people.csv", "--target", "income", *QUICK)
    for loss, guess in ((("absolute_error",), "the median"), (("quantile", "--quantile", "0.9"), "the 0.9-quantile")):
        status, out, _ = run(*args, "--loss", *loss)
        assert (status, guess in out) == (0, True)
    out = run("train", folder / "people.csv", "--target", "age", "--log-target", *QUICK)[1]
    assert "learned as log(1 + y /" in out
    assert "regression" in out
    # Counts of few values are classes, where no loss says otherwise.
    found = json.loads(run("train", folder / "people.csv", "--target", "age", "--loss", "poisson", "--json", *QUICK)[1])
    assert (found["task"], found["loss"]) == ("regress", "poisson")
    assert "is classified" in fails(
        "train", folder / "people.csv", "--target", "pays", "--log-target", "--task", "classify"
    )
    assert "quantile must be a number between 0 and 1" in fails(*args, "--loss", "quantile", "--quantile", "1")
    assert "needs a quantile" in fails(*args, "--loss", "quantile")
    assert "belongs to loss='quantile'" in fails(*args, "--quantile", "0.5")
