"""``fullbatch convert``, and the other commands on what it makes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import time
from types import SimpleNamespace

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from command.conftest import QUICK


@pytest.fixture(scope="module")
def store(folder):
    from fullbatch.command import app

    out = folder / "pays.store"
    assert app.main(["convert", str(folder / "people.parquet"), "--target", "pays", "--out", str(out), "--quiet"]) == 0
    return out


def test_a_table_becomes_a_store_and_a_model(run, folder, store, tmp_path):
    status, out, err = run("convert", folder / "people.parquet", "--target", "pays", "--out", tmp_path / "pays.store")
    assert status == 0
    assert re.search(r"fullbatch: 3\d\d rows to learn from, \d\d held out; [\d.]+ kB to write, [\d.]+ .?B free\.", err)
    assert f"fullbatch train {tmp_path / 'pays.store'}" in " ".join(out.split())
    assert (tmp_path / "pays.store").read_bytes() == store.read_bytes()
    status, out, _ = run("train", store, "--model", tmp_path / "model", *QUICK, "--json")
    assert status == 0
    found = json.loads(out)
    assert found["m"] + found["held_out"]["m"] == 400
    assert found["held_out"]["accuracy"] > 0.6
    status, out, _ = run("evaluate", tmp_path / "model", folder / "people.csv", "--json")
    assert status == 0
    assert json.loads(out)["m"] == 400
    status, out, err = run("evaluate", tmp_path / "model", store, "--json")
    assert "held-out rows of the store are scored" in err
    assert json.loads(out) == found["held_out"]


def test_several_files_and_selected_columns(run, folder, store, tmp_path):
    table = parquet.read_table(folder / "people.parquet")
    for i in range(4):
        parquet.write_table(table.slice(100 * i, 100), tmp_path / f"{i}.parquet")
    parts = sorted(tmp_path.glob("*.parquet"))
    assert run("convert", *parts, "--target", "pays", "--out", tmp_path / "a", "--quiet")[0] == 0
    assert (tmp_path / "a").read_bytes() == store.read_bytes()
    options = ["--drop", "spends", "--seed", 4, "--validation", 0, "--numeric", "age"]
    status, out, _ = run("convert", *parts, "--target", "pays", "--out", tmp_path / "b", *options, "--json")
    assert status == 0
    found = json.loads(out)
    assert found["rows"] == {"train": 400, "held_out": 0}
    assert [column["name"] for column in found["columns"] if column["kind"] == "left out"] == ["spends"]
    assert run("convert", folder / "people.csv", "--target", "pays", "--out", tmp_path / "c", "--quiet")[0] == 0


def test_weights_groups_and_losses_are_options(run, fails, folder, tmp_path):
    data, out, model = folder / "people.parquet", tmp_path / "spends.store", tmp_path / "model"
    options = ("--weight", "income", "--group", "age", "--validation", "0.2")
    positive = pa.compute.greater(parquet.read_table(data)["income"], 0)
    parquet.write_table(parquet.read_table(data).filter(positive), tmp_path / "t.parquet")
    status, text, _ = run("convert", tmp_path / "t.parquet", "--target", "pays", "--out", out, *options, "--json", "-q")
    found = json.loads(text)
    assert (status, found["weight"], found["held_out_by"]) == (0, "income", "whole groups of age")
    asked = ("--class-weight", "balanced", "--threshold", "auto", "--metric", "f1", "--validation", "0.2")
    status, text, _ = run("train", out, "--model", model, *QUICK, *asked, "--json", "-q")
    trained = json.loads(text)
    assert (status, trained["held_out_by"], trained["weight"]) == (0, "whole groups of age", "income")
    assert trained["held_out"]["metric"]["name"] == "f1"
    text = run("evaluate", model, out, "--json")[1]
    assert json.loads(text) == trained["held_out"]
    made = (
        "convert",
        tmp_path / "t.parquet",
        "--target",
        "spends",
        "--out",
        out,
        "--loss",
        "poisson",
        "--split-by",
        "age",
    )
    assert run(*made, "--drop", "age,pays", "-q")[0] == 0
    assert "convert the table with these options" in fails("train", out)
    status, text, _ = run("train", out, "--loss", "poisson", *QUICK, "--json", "-q")
    assert (status, json.loads(text)["loss"]) == (0, "poisson")
    assert "age >= " in json.loads(text)["held_out_by"]


def test_info_and_columns_of_a_store(run, store):
    status, out, _ = run("info", store)
    assert status == 0
    assert "to learn from" in out
    assert "town" in out
    status, out, _ = run("info", store, "--json")
    assert json.loads(out)["seed"] == 0
    assert json.loads(out)["in_place"] == {
        "used": False,
        "why_not": "its categories become ones and zeros, block by block",
    }
    status, out, _ = run("columns", store)
    assert status == 0
    assert "small whole numbers" in out or "whole numbers" in out
    status, out, _ = run("columns", store, "--json")
    assert json.loads(out)["target"]["name"] == "pays"


def test_bad_input_is_one_line(run, fails, folder, store, tmp_path):
    cut = tmp_path / "cut.store"
    cut.write_bytes(store.read_bytes()[:-100])
    for command in (("train", cut), ("info", cut), ("columns", cut)):
        assert "is cut short" in fails(*command)
    assert "was decided when the store" in fails("train", store, "--drop", "age")
    assert "validation=0.3 was decided" in fails("train", store, "--validation", "0.3")
    assert "the target of the store" in fails("train", store, "--target", "town")
    assert "was decided when" in fails("columns", store, "--categorical", "age")
    assert "same file" in fails("convert", store, "--target", "pays", "--out", store)
    assert "is a store" in fails("convert", store, "--target", "pays", "--out", tmp_path / "out")
    assert run("convert", folder / "people.csv", "--target", "pays", "--out", tmp_path / "o", "--drop", "age")[0] == 0
    said = fails("evaluate", folder / "pays.model", tmp_path / "o")
    assert "was not made as the model's table was: it lacks 'age'" in said
    assert "is a store" in fails("predict", folder / "pays.model", store)
    assert "no column 'nothing'" in fails("convert", folder / "people.parquet", "--target", "nothing", "--out", cut)
    parquet.write_table(pa.table({"other": [1, 2], "pays": ["a", "b"]}), tmp_path / "t.parquet")
    assert "other columns" in fails(
        "convert", folder / "people.parquet", tmp_path / "t.parquet", "--target", "pays", "--out", tmp_path / "x"
    )
    assert not (tmp_path / "x").exists()


def test_ending_it_leaves_nothing_behind(run, folder, tmp_path, monkeypatch):
    from fullbatch.tables import store as stores

    def write(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(stores, "_write", write)
    status, out, err = run("convert", folder / "people.parquet", "--target", "pays", "--out", tmp_path / "x", "--quiet")
    assert (status, out) == (128 + signal.SIGTERM, "")
    assert err == "fullbatch: interrupted; nothing of the store is kept.\n"
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == []


def test_damaged_stores_and_full_disks_are_one_line(run, fails, folder, store, tmp_path, monkeypatch):
    from fullbatch.sources.stored import open_store
    from fullbatch.tables import store as stores

    data = bytearray(store.read_bytes())
    with open_store(store) as there:
        data[there.file.leaves[0].offsets["numbers"] + 3] ^= 1
    (tmp_path / "bad.store").write_bytes(data)
    # Said of the CPU: where CuPy is installed and no driver, "auto" says why it takes it.
    said = fails("train", tmp_path / "bad.store", "--device", "cpu", "--model", tmp_path / "model", *QUICK)
    assert "leaf 0 of 2 is damaged" in said
    assert not (tmp_path / "model").exists()
    newer = re.sub(rb'("format_version": )2', rb"\g<1>9", store.read_bytes())
    (tmp_path / "newer.store").write_bytes(newer)
    assert "is of version 9, and this fullbatch reads versions up to 2" in fails("train", tmp_path / "newer.store")
    usage = stores.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(stores.shutil, "disk_usage", lambda folder: usage._replace(free=100))
    made = ("convert", folder / "people.csv", "--target", "pays", "--quiet", "--out")
    assert "bytes of disk while it is written, and 100 are free" in fails(*made, tmp_path / "full.store")
    assert "does not exist" in fails(*made, tmp_path / "none" / "x.store")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.store", "newer.store"]


MADE = ("--target", "pays", "-q", "--out")


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 64 kB, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_really_full(run, fails, folder, small_disk, monkeypatch):
    from fullbatch.tables import large
    from fullbatch.tables import store as stores

    data = small_disk.parent / "t.parquet"
    parquet.write_table(pa.concat_tables([parquet.read_table(folder / "people.parquet")] * 20), data)
    assert "bytes of disk while it is written, and" in fails("convert", data, *MADE, small_disk / "s.store")
    usage = stores.shutil.disk_usage(folder)
    monkeypatch.setattr(stores.shutil, "disk_usage", lambda folder: usage._replace(free=10**12))
    assert "cannot write the store" in fails("convert", data, *MADE, small_disk / "s.store")
    asked = ("train", data, "--target", "pays", *QUICK, "--memory", "1kB", "-q", "--store", small_disk)
    assert "is in memory (tmpfs)" in fails(*asked)
    monkeypatch.setattr(large, "IN_MEMORY", ())
    assert "No space left on device" in fails(*asked)
    assert list(small_disk.iterdir()) == []


def test_no_permission_a_changed_and_a_damaged_file(run, fails, folder, tmp_path, monkeypatch):
    from fullbatch.tables import store as stores

    said = fails("convert", folder / "people.parquet", *MADE, "/sys/late.store")
    assert "cannot write the store to /sys/late.store: Permission denied" in said
    table = parquet.read_table(folder / "people.parquet")
    for i in range(3):
        parquet.write_table(table.slice(100 * i, 100), tmp_path / f"{i}.parquet")
    parts = sorted(tmp_path.iterdir())
    (tmp_path / "1.parquet").chmod(0)
    if not os.access(tmp_path / "1.parquet", os.R_OK):  # to root it is no matter
        assert "1.parquet cannot be read: " in fails("convert", *parts, *MADE, tmp_path / "s")
    (tmp_path / "1.parquet").chmod(0o600)
    write = stores._records

    def touched(*args):
        os.utime(parts[1], ns=(1, 1))
        return write(*args)

    monkeypatch.setattr(stores, "_records", touched)
    assert "1.parquet has changed while it was read" in fails("convert", *parts, *MADE, tmp_path / "s")
    monkeypatch.undo()
    data = bytearray(parts[1].read_bytes())
    data[100:1500] = bytes(1400)
    parts[1].write_bytes(data)
    assert "1.parquet: " in fails("convert", *parts, *MADE, tmp_path / "s")
    asked = ("--target", "pays", "--hidden", "4", "--solver", "gd", "--epochs", "1", "--memory", "1kB", "-q")
    assert "1.parquet: " in fails("train", tmp_path / "*.parquet", *asked)
    assert sorted(tmp_path.iterdir()) == parts


def test_standard_input_becomes_the_store_of_the_file(run, fails, folder, store, tmp_path, monkeypatch):
    for name, form in (("people.parquet", "parquet"), ("people.csv", "csv")):
        with (folder / name).open("rb") as file:
            monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=file))
            assert run("convert", "-", "--format", form, "--target", "pays", "--out", tmp_path / form, "-q")[0] == 0
    assert (tmp_path / "parquet").read_bytes() == store.read_bytes()
    made = ("--target", "pays", "--out", tmp_path / "x")
    assert "--format says it" in fails("convert", "-", *made)
    assert "--format is of standard input" in fails("convert", folder / "people.csv", "--format", "csv", *made)
    assert "is a table by itself" in fails("convert", "-", folder / "people.csv", "--format", "csv", *made)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a,b\n1,2,3\n")))
    assert "standard input" in fails("convert", "-", "--format", "csv", "--target", "a", "--out", tmp_path / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["csv", "parquet"]


def test_held_out_rows_come_from_a_file(run, fails, folder, tmp_path):
    table = parquet.read_table(folder / "people.parquet")
    parquet.write_table(table.slice(0, 300), tmp_path / "t.parquet")
    csv.write_csv(table.slice(300), tmp_path / "held.csv")
    made = ("convert", tmp_path / "t.parquet", "--target", "pays", "--out", tmp_path / "s", "--json", "-q")
    status, out, _ = run(*made, "--validation", tmp_path / "held.csv")
    assert (status, json.loads(out)["rows"]) == (0, {"train": 300, "held_out": 100})
    assert json.loads(out)["held_out_by"] == "those of held.csv"
    asked = ("train", "--target", "pays", *QUICK, "--json", "-q")
    found = json.loads(run("train", tmp_path / "s", *QUICK, "--json", "-q")[1])
    expected = json.loads(run(*asked, tmp_path / "t.parquet", "--validation", tmp_path / "held.csv")[1])
    assert found["guess"] == expected["guess"]
    held = ("--validation", tmp_path / "held.csv")
    assert "has nothing to decide" in fails(*made, *held, "--group", "age")
    assert "No such file" in fails(*made, "--validation", tmp_path / "none.csv")
    assert "same file" in fails(*made[:4], "--out", tmp_path / "held.csv", *held)
    csv.write_csv(table.slice(300).set_column(4, "pays", pa.array(["often"] * 100)), tmp_path / "held.csv")
    assert "no row is left to score" in fails(*made, *held)


def test_two_trainings_of_one_store_at_once(store):
    from threading import Thread

    import fullbatch as fb

    found = []

    def train():
        with fb.open_store(store) as own:
            found.append(fb.MLPClassifier((4,), max_iter=3, random_state=0, tol=0, learning_rate="linear").fit(own))

    threads = [Thread(target=train) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0].loss_curve_ == found[1].loss_curve_
