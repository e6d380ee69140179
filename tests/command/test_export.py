"""``fullbatch export``: a model file in, an ONNX model out, with a word on how far they differ."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from pyarrow import csv

from command.conftest import QUICK, people, write


@pytest.fixture
def runtime():
    for name in ("onnx", "ndonnx", "onnxruntime"):
        module = pytest.importorskip(name, reason=f"{name} is not installed")
    return module


def test_a_model_is_exported_and_compared(run, folder, tmp_path, runtime):
    out = tmp_path / "pays.onnx"
    status, stdout, err = run("export", folder / "pays.model", "--out", out, "--check", folder / "people.csv")
    assert status == 0, err
    said = re.fullmatch(
        r"largest difference of a probability (\S+); 400 labels are equal \(100 %\) in 400 rows of \S+people.csv\.\n",
        stdout,
    )
    assert said, stdout
    assert float(said[1]) <= 5e-7
    assert "4 inputs; label and probabilities" in err
    session = runtime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    table = people()
    feeds = {
        name: table[name].to_numpy().astype(object if name == "town" else float)
        for name in ("town", "age", "income", "spends")
    }
    label = session.run(["label"], feeds)[0]
    assert "".join(label).count("yes") > 20
    assert run("export", folder / "pays.model", "--out", out)[:2] == (0, "")


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_numbers_bare_estimators_and_rows_that_are_left_out(run, fails, folder, tmp_path, runtime):
    import fullbatch as fb

    model, out = tmp_path / "m.model", tmp_path / "m.onnx"
    table = people().select(["age", "spends"])
    csv.write_csv(table, tmp_path / "t.csv")
    assert run("train", tmp_path / "t.csv", "--target", "spends", "--model", model, *QUICK)[0] == 0
    stdout = run("export", model, "--out", out, "--check", folder / "people.csv")[1]
    assert re.match(r"largest difference of a prediction \S+, of up to \S+, in 400 rows", stdout)
    X = np.random.default_rng(0).normal(size=(20, 2))
    fb.save(fb.MLPClassifier((3,), max_iter=2).fit(X, X[:, 0] > 0), model)
    assert "20 labels are equal" not in run("export", model, "--out", out, "--check", tmp_path / "t.csv")[1]
    assert "'town' must hold numbers" in fails("export", model, "--out", out, "--check", tmp_path_of_two(tmp_path))
    said = fails("export", model, "--out", out, "--check", folder / "people.csv")
    assert "5 columns and the model learned from 2" in said
    lines = ["paid,x,y", *(f"{'true' if i % 3 else 'false'},{i},{'no' if i % 2 else 'yes'}" for i in range(60))]
    data = write(tmp_path / "paid.csv", "\n".join(lines))
    assert run("train", data, "--target", "y", "--model", model, *QUICK)[0] == 0
    gap = write(tmp_path / "gap.csv", "\n".join([*lines, ",1,no"]))
    stdout = run("export", model, "--out", out, "--check", gap)[1]
    assert "in 60 rows of" in stdout
    assert "(1 more have a boolean that is missing, which the graph cannot take)" in stdout


def tmp_path_of_two(folder):
    csv.write_csv(people().select(["town", "age"]), folder / "two.csv")
    return folder / "two.csv"


def test_what_is_refused_leaves_no_file(fails, folder, tmp_path, runtime, monkeypatch):
    model, out = folder / "pays.model", tmp_path / "m.onnx"
    csv.write_csv(people().drop_columns(["income"]), tmp_path / "other.csv")
    assert "no column 'income'" in fails("export", model, "--out", out, "--check", tmp_path / "other.csv")
    assert "an ONNX model's is .onnx" in fails("export", model, "--out", tmp_path / "m.csv")
    assert "does not exist; make it first" in fails("export", model, "--out", tmp_path / "no" / "m.onnx")
    assert "no such model file" in fails("export", tmp_path / "no.model", "--out", out)
    assert "it is a folder" in fails("export", model, "--out", make_folder(tmp_path / "f.onnx"))
    monkeypatch.setitem(sys.modules, "ndonnx", None)
    assert "pip install 'fullbatch[onnx]'" in fails("export", model, "--out", out)
    assert not out.exists()


def make_folder(path):
    path.mkdir()
    return path
