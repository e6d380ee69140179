"""Tables elsewhere are read from copies, which are made once."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

import fullbatch as fb
from fullbatch.errors import TableError
from fullbatch.tables.remote import local_copies, url_of


@pytest.fixture
def folder(tmp_path):
    """Two files of a table, in folders that say the year, as a store of objects has them."""
    for year in (2024, 2025):
        inner = tmp_path / "sales" / f"year={year}"
        inner.mkdir(parents=True)
        (inner / "part.csv").write_text(f"price,late\n{year / 2000},yes\n2.5,no\n")
    return tmp_path / "sales"


def test_what_is_a_url():
    assert url_of("s3://bucket/late.csv") == url_of(Path("s3://bucket/late.csv")) == "s3://bucket/late.csv"
    assert url_of("file:///tmp/none.csv") == url_of(Path("file:///tmp/none.csv")) == "file:///tmp/none.csv"
    for path in ("late.csv", "/data/late.csv", "C:/late.csv", "C:\\late.csv", "-", "year=2024/x.csv"):
        assert url_of(path) is None


def test_a_folder_of_that_name_is_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    (tmp_path / "s3:" / "late.csv").write_text("a\n1\n")
    assert url_of(Path("s3://late.csv")) is None
    assert fb.read_table("s3:/late.csv").column("a").values.tolist() == [1]


def test_a_table_elsewhere_is_the_table(folder):
    url = folder.as_uri()
    for paths in (folder, f"{folder}/*/part.csv", folder / "year=2024" / "part.csv"):
        there = str(paths).replace(str(folder), url)
        near, far = fb.read_table(paths), fb.read_table(there)
        assert far.names == near.names
        assert {name: list(far.columns[name].values) for name in far.names} == {
            name: list(near.columns[name].values) for name in near.names
        }


def test_a_file_is_copied_once_and_again_when_it_changed(folder, caplog):
    caplog.set_level(logging.INFO, "fullbatch.remote")
    file = folder / "year=2024" / "part.csv"
    fb.read_table(folder.as_uri())
    fb.read_table(folder.as_uri())
    assert [record.getMessage().partition(" in ")[0] for record in caplog.records] == [
        f"{folder.as_uri()} is read from a copy"
    ]
    file.write_text("price,late\n7.0,no\n")
    (folder / "year=2025" / "part.csv").unlink()
    table = fb.read_table(folder.as_uri())
    assert (table.column("price").values.tolist(), len(caplog.records)) == ([7.0], 2)


def test_a_copy_has_the_time_of_the_original(folder):
    os.utime(folder / "year=2024" / "part.csv", ns=(10**18, 10**18))
    [copy] = local_copies((folder / "year=2024" / "part.csv").as_uri())
    assert copy.stat().st_mtime_ns == 10**18


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("/none.csv", "No such file: file:///"),
        ("/year=*/none.csv", "no file matches file:///"),
        ("/*/*/*/part.csv", "no file matches file:///"),
    ],
)
def test_what_is_not_there_is_said(folder, end, message):
    with pytest.raises(TableError, match=message):
        fb.read_table(folder.as_uri() + end)


def test_a_place_that_pyarrow_does_not_know_is_an_error():
    with pytest.raises(TableError, match=r"ftp://host/late\.csv cannot be opened: Unrecognized filesystem type") as e:
        fb.read_table("ftp://key:secret@host/late.csv?token=secret")
    assert "secret" not in str(e.value)
