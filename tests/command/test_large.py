"""``train`` on a table that is larger than --memory: a store is made, learned from, and removed or kept."""

from __future__ import annotations

import json
import os
import signal

import pytest
from pyarrow import csv, parquet

from command.conftest import QUICK, people
from fullbatch.tables import large, stream
from fullbatch.tables.sizes import rows_of


def figures(out):
    return {name: json.loads(out)[name] for name in ("m", "held_out", "guess", "cost", "held_out_by", "unseen")}


@pytest.fixture
def on_disk(monkeypatch):
    """Wherever the tests' folder lies, it counts as a disk."""
    monkeypatch.setattr(large, "_file_system", lambda folder: "ext4")


OPTIONS = ("--target", "pays", *QUICK, "--drop", "spends", "--numeric", "age", "--json")


def test_a_large_table_is_trained_as_its_store_is(run, folder, tmp_path, on_disk):
    for i in range(2):
        parquet.write_table(people().slice(200 * i, 200), tmp_path / f"part{i}.parquet")
    data, model = tmp_path / "part*.parquet", tmp_path / "model"
    status, out, err = run("train", data, *OPTIONS, "--memory", "5kB", "--model", model)
    assert status == 0
    assert "has 6,400 bytes as rows x columns x bytes of a number, more than the 5,000 of --memory" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "part0.parquet", "part1.parquet"]
    made = ("convert", data, "--target", "pays", "--drop", "spends", "--numeric", "age", "--out", tmp_path / "s", "-q")
    assert run(*made)[0] == 0
    expected = run("train", tmp_path / "s", *QUICK, "--json", "-q")[1]
    assert figures(out) == figures(expected)
    import fullbatch as fb

    assert fb.load(model).record_["data"]["store"] == {"bytes": 6400, "memory": 5000.0}
    (tmp_path / "kept").mkdir()
    status, out, err = run("train", data, *OPTIONS, "--memory", "5kB", "--store", tmp_path / "kept", "-q")
    assert (status, figures(out)) == (0, figures(expected))
    assert (tmp_path / "kept" / "part.store").read_bytes() == (tmp_path / "s").read_bytes()
    assert "more than" not in run("train", data, *OPTIONS, "--memory", "6.4kB")[2]


def test_what_an_ended_run_leaves(run, fails, folder, tmp_path, on_disk, monkeypatch):
    data, model = folder / "people.parquet", tmp_path / "model"
    (tmp_path / ".model.store").write_bytes(b"left by a run that was killed")
    asked = ("train", data, "--target", "pays", *QUICK, "--memory", "1kB", "--model", model, "-q")
    assert run(*asked, "--weight", "income", "--validation", "0.2")[0] == 2  # some are negative
    assert run(*asked, "--group", "age")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    from fullbatch.tables import store as stores

    monkeypatch.setattr(stores, "_write", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
    assert run(*asked)[0] == 128 + signal.SIGTERM
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")) == ["model"]


def test_what_does_not_go_with_it(fails, folder, tmp_path, monkeypatch):
    data, asked = folder / "people.parquet", ("--target", "pays", "--memory", "1kB")
    monkeypatch.setattr(large, "_file_system", lambda folder: "tmpfs")
    said = fails("train", data, *asked, "--model", tmp_path / "model")
    assert "is in memory (tmpfs); give a folder on a disk by --store" in said
    assert "is no folder" in fails("train", data, *asked, "--store", tmp_path / "none")
    assert "--target is missing" in fails("train", data, "--memory", "1kB")
    for size in ("0", "0.5", "much"):
        assert "no amount of" in fails("train", data, *asked[:2], "--memory", size)
    assert sorted(tmp_path.iterdir()) == []


def test_one_or_two_full_batches_read_the_files_to_the_bits_of_memory(run, folder, monkeypatch):
    monkeypatch.setattr(stream, "ROWS", 70)
    data, model = folder / "people.parquet", folder / "straight.model"
    rest = ("train", data, "--target", "pays", "--hidden", "4", "--solver", "gd", "--json")
    asked = (*rest, "--epochs", "2")
    found = run(*asked, "--memory", "1kB", "--model", model, "--weight", "age")
    assert found[0] == 0
    assert "its files are read in each iteration, and no store is made" in found[2]
    expected = run(*asked, "--weight", "age", "-q")
    assert figures(found[1]) == figures(expected[1])
    import fullbatch as fb

    assert fb.load(model).record_["data"]["store"]["memory"] == 1000
    assert "a store is made" in run(*rest, "--memory", "1kB", "--epochs", "3")[2]
    assert sorted(path.name for path in folder.glob("*.store")) == []


def test_held_out_rows_of_their_own_beside_a_large_table(run, fails, folder, tmp_path, on_disk):
    table = people()
    parquet.write_table(table.slice(0, 300), tmp_path / "t.parquet")
    csv.write_csv(table.slice(300), tmp_path / "held.csv")
    asked = ("train", tmp_path / "t.parquet", "--target", "pays", "--validation", tmp_path / "held.csv", "--json")
    for more in (QUICK, ("--hidden", "4", "--solver", "gd", "--epochs", "1")):
        status, out, _ = run(*asked, *more, "--memory", "1kB", "--model", tmp_path / "model")
        found, expected = json.loads(out), json.loads(run(*asked, *more, "-q")[1])
        assert (status, found["m"], found["held_out"]["m"]) == (0, 300, 100)
        assert {name: found[name] for name in ("held_out_by", "unseen", "not_scored")} == {
            name: expected[name] for name in ("held_out_by", "unseen", "not_scored")
        }
    assert found["held_out"] == expected["held_out"]
    csv.write_csv(table.select(["town", "pays"]), tmp_path / "held.csv")
    assert "held.csv: the table has no column 'age'" in fails(*asked, "--memory", "1kB", "-q")


def test_a_folder_for_no_store_is_said(run, folder, tmp_path):
    asked = ("train", folder / "people.parquet", "--target", "pays", *QUICK, "-q", "--store", tmp_path)
    status, _, err = run(*asked)
    assert status == 0
    assert f"--store {tmp_path} keeps no store: the table is not larger than the 2,000,000,000 bytes" in err
    assert list(tmp_path.iterdir()) == []


def test_rows_are_counted_without_being_read(folder, tmp_path):
    table = people()
    for name in ("people.csv", "people.csv.gz", "people.parquet"):
        assert rows_of([folder / name], 10) == 400
    assert rows_of([folder / "people.csv"], 10**6) == 0
    csv.write_csv(table, tmp_path / "t.csv")
    assert rows_of([tmp_path / "t.csv", folder / "people.parquet"], 10) == 800
