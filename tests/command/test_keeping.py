"""train --checkpoint and --resume: killed at any moment, a training goes on to the same model file."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest
from sklearn.exceptions import ConvergenceWarning

import fullbatch as fb
from command.test_app import start
from fullbatch.command import app, keeping
from fullbatch.fold import blocks

LONG = ("--target", "pays", "--drop", "spends", "--hidden", "8", "--epochs", "400", "--json", "-q")


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The model of a training that nothing interrupted."""
    model = tmp_path_factory.mktemp("whole") / "whole.model"
    with pytest.MonkeyPatch.context() as patch:  # as for each test
        patch.setattr(blocks, "THREAD_WORK", 1)
        patch.setattr(blocks, "THREAD_EXAMPLES", 1)
        assert app.main(["train", str(folder / "people.csv"), *LONG, "--model", str(model)]) == 0
    return model.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_ended_training_goes_on_to_the_same_model_file(run, folder, tmp_path, whole, number):
    checkpoint, model = tmp_path / "late.ckpt", tmp_path / "late.model"
    args = ("train", folder / "people.csv", *LONG, "--model", model, "--checkpoint", checkpoint)
    with start(*args, "--checkpoint-every", "0") as process:
        end = time.monotonic() + 600
        while not checkpoint.exists() and time.monotonic() < end:
            time.sleep(0.005)
        process.send_signal(number)
        process.communicate(timeout=600)
    assert process.returncode in ({-9, 0} if number == signal.SIGKILL else {143, 0})
    assert type(fb.load(checkpoint)) is fb.TableClassifier
    status, out, err = run("train", "--resume", checkpoint, "--json", "-q")
    assert status == 0
    assert err == "" or "is at its end" in err  # The training may have ended before the signal came.
    assert model.read_bytes() == whole
    assert json.loads(out)["model"] == str(model)
    assert sorted(os.listdir(tmp_path)) == ["late.ckpt", "late.model"]


def test_a_checkpoint_predicts_and_is_told_of(run, folder, tmp_path):
    args = (*LONG[:-4], "--epochs", "3", "--checkpoint", tmp_path / "c.ckpt")
    assert run("train", folder / "people.csv", *args)[0] == 0
    status, out, _ = run("predict", tmp_path / "c.ckpt", folder / "people.csv")
    assert (status, out.count("\n")) == (0, 401)
    assert run("info", tmp_path / "c.ckpt")[0] == 0
    _, _, err = run("train", "--resume", tmp_path / "c.ckpt")
    assert "warning: the training in the checkpoint is at its end (--epochs 3 is reached)" in err
    _, out, err = run("train", "--resume", tmp_path / "c.ckpt", "--epochs", "5", "--json")
    found = json.loads(out)
    assert (found["epochs"], found["epochs_before"], found["planned"]) == (5, 3, 5)
    assert re.findall(r"epoch (\d)/5 ", err) == ["4", "5"]
    assert "5 epochs, 0 of them now, in" in run("train", "--resume", tmp_path / "c.ckpt")[1]


def test_what_cannot_go_on_is_one_line(run, fails, folder, tmp_path, monkeypatch):
    data, checkpoint = tmp_path / "people.csv", tmp_path / "c.ckpt"
    data.write_bytes((folder / "people.csv").read_bytes())
    args = ("train", data, "--target", "pays", "--epochs", "3", "--hidden", "4", "--checkpoint", checkpoint)
    assert run(*args)[0] == 0
    before = checkpoint.read_bytes()
    assert "--hidden is '5', and '4' in" in fails("train", "--resume", checkpoint, "--hidden", "5")
    assert "DATA is " in fails("train", folder / "people.csv", "--resume", checkpoint)
    assert "--target is 'town', and 'pays' in" in fails("train", "--resume", checkpoint, "--target", "town")
    assert "--l2 is 0.5, and not given in" in fails("train", "--resume", checkpoint, "--l2", "0.5")
    assert "holds no training that" in fails("train", "--resume", folder / "pays.model")
    assert "leave --checkpoint" in fails("train", "--resume", checkpoint, "--checkpoint", tmp_path / "other.ckpt")
    assert "no such checkpoint" in fails("train", "--resume", tmp_path / "none.ckpt")
    both = ("train", data, "--target", "pays", "--model", tmp_path / "x", "--checkpoint", tmp_path / "x")
    assert "are the same file" in fails(*both)
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join(lines[:-1]))
    assert "people.csv has " in fails("train", "--resume", checkpoint, "--epochs", "9")
    written = data.stat().st_mtime_ns
    data.write_text("".join([lines[0], *reversed(lines[1:])]))
    os.utime(data, ns=(written, written))  # neither its size nor its time tells
    assert "people.csv has other bytes than when " in fails("train", "--resume", checkpoint, "--epochs", "9")
    monkeypatch.setattr("fullbatch.sources.fingerprints.PIECE_OF_A_FILE", 0)  # nor any of the pieces
    assert run(*args)[0] == 0
    data.write_text("".join(lines))
    told = fails("train", "--resume", checkpoint, "--epochs", "9")
    assert "people.csv, written since the training began: X has other " in told
    data.unlink()
    assert "No such file" in fails("train", "--resume", checkpoint, "--epochs", "9")
    checkpoint.write_bytes(before[:-9])
    assert "truncated or damaged" in fails("train", "--resume", checkpoint)


def test_a_checkpoint_of_before_knows_no_bytes_of_its_files(run, folder, tmp_path):
    data, path = tmp_path / "people.csv", tmp_path / "c.ckpt"
    data.write_bytes((folder / "people.csv").read_bytes())
    assert run("train", data, *LONG[:-4], "--epochs", "2", "--checkpoint", path)[0] == 0
    options = {"data": str(data), "model": None, "store": None}
    kept = fb.Checkpoint(path).extra["files"]
    assert keeping._check_files(kept, options | {"validation": "0.1"}, path) == []
    earlier = [{name: value for name, value in one.items() if name != "checksum"} for one in kept]
    assert keeping._check_files(earlier, options | {"validation": "0.1"}, path) == []


@pytest.mark.parametrize(
    ("option", "value"), [("hidden", 4), ("threads", True), ("drop", ["x", 1]), ("model", {}), ("l2", "1")]
)
def test_options_are_data_too(run, fails, folder, tmp_path, option, value):
    path = tmp_path / "c.ckpt"
    kept = fb.Checkpoint(path)
    kept.carry(extra={"options": {"data": str(folder / "people.csv"), option: value}})
    with pytest.warns(ConvergenceWarning):
        fb.MLPClassifier(max_iter=1).set_callbacks(kept).fit([[0.0], [1.0]], [0, 1])
    assert f"its --{option} is damaged" in fails("train", "--resume", path)
