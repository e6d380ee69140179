"""What the tests of the command share: a table and a model of it in files, and how the command is run."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from fullbatch.command import app

QUICK = ("--hidden", "8", "--epochs", "12", "--batch-size", "32", "--learning-rate", "0.02")


def with_others(options: tuple[str, ...], others: tuple[object, ...]) -> tuple[object, ...]:
    """Options of one value each, but for those that are among others, and these."""
    pairs = zip(options[::2], options[1::2], strict=True)
    return (*(word for pair in pairs if pair[0] not in others for word in pair), *others)


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


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def data_folder():
    """Small model files that earlier revisions wrote."""
    return Path(__file__).parents[1] / "data"
