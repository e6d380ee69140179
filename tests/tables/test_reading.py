"""Reading tables: the same from CSV and Parquet, one clear line for each way to be bad, and what reading costs."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fullbatch.errors import TableError
from fullbatch.tables.reading import read_table
from tables.conftest import ARROW, plain


def test_all_columns_of_parquet_equal_those_of_csv(tmp_path, csv):
    content = "i,f,t,b,d\n1,1.5,x,true,2020-01-01\n,,?,,\n3,2.5,NA,false,1960-05-05\n"
    one = read_table(csv(content))
    from pyarrow import csv as arrow_csv

    pq.write_table(arrow_csv.read_csv(tmp_path / "table.csv"), tmp_path / "t.parquet")
    other = read_table(tmp_path / "t.parquet")
    for name in one.names:
        assert plain(one, name) == plain(other, name)
        assert one.column(name).kind == other.column(name).kind
        assert one.column(name).integer == other.column(name).integer


# ---- bad files -----------------------------------------------------------------------------------


GZIP = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(100_000)))
BAD = {
    "empty.csv": (b"", "is empty"),
    "empty.csv.gz": (gzip.compress(b""), "no rows"),
    "blank.csv": (b"\n\n\n", "no rows"),
    "header.csv": (b"a,b\n", "no rows"),
    "header without line end.csv": (b"a,b", "no rows"),
    "short row.csv": (b"a,b\n1,2\n3\n", "row 2 .* has 1 values, the header has 2"),
    "long row.csv": (b"a,b\n1,2\n3,4\n5,6,7\n", "row 3 .* has 3 values, the header has 2"),
    "late ragged.csv": (b"a,b\n" + b"1,2\n" * 400_000 + b"3\n", "row 400001 .* has 1 values"),
    "duplicate.csv": (b"a,b,a\n1,2,3\n", "more than one is called 'a'"),
    "latin.csv": ("a,b\n1,é\n".encode("latin1"), "UTF-8"),
    "late latin.csv": (b"a,b\n" + b"1,x\n" * 400_000 + "1,é\n".encode("latin1"), "UTF-8"),
    "latin header.csv": ("a,é\n1,2\n".encode("latin1"), "column names are not UTF-8"),
    "utf16.csv": ("a,b\n1,2\n".encode("utf16"), "not a CSV file"),
    "binary.csv": (bytes(range(256)) * 20, "not a CSV file"),
    "binary.csv.gz": (gzip.compress(bytes(range(256)) * 20), "not a CSV file"),
    "quote.csv": (b'a,b\n1,"x\n' + b"3,4\n" * 600_000, "is a quote not closed"),
    "cut.csv.gz": (GZIP[: len(GZIP) // 2], "damaged or cut short"),
    "cut at the end.csv.gz": (GZIP[:-6], "damaged or cut short"),
    "cut at the start.csv.gz": (GZIP[:12], "damaged or cut short"),
    "damaged.csv.gz": (GZIP[:9000] + b"junkjunk" + GZIP[9008:], "damaged or cut short"),
    "not gzip.csv.gz": (b"a,b\n1,2\n", "not a gzip file"),
    "book.xlsx": (b"PK\x03\x04", "known endings are .csv, .csv.gz and .parquet"),
    "not parquet.parquet": (b"a,b\n1,2\n", "not a Parquet file"),
    "start.parquet": (b"PAR1", "damaged or cut short"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(csv, name):
    content, expected = BAD[name]
    path = csv(content, name)
    with pytest.raises(TableError, match=expected) as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_columns_of_a_file(tmp_path, csv):
    path = csv("late,hour\n1,2\n")
    with pytest.raises(TableError, match=r"table.csv: the table has no column 'lat'. Did you mean 'late'\?"):
        read_table(path, columns=["hour", "lat"])
    pq.write_table(pa.table({"late": [1]}), tmp_path / "t.parquet")
    with pytest.raises(TableError, match=r"t.parquet: the table has no column 'lat'. Did you mean 'late'\?"):
        read_table(tmp_path / "t.parquet", columns=["lat"])


def test_files_that_are_not_there(tmp_path, csv):
    csv("a\n1\n", "flights.csv")
    with pytest.raises(TableError, match=r"No such file: .*fligths.csv. Did you mean 'flights.csv'\?"):
        read_table(tmp_path / "fligths.csv")
    with pytest.raises(TableError, match=r"No such file: .*there is no folder"):
        read_table(tmp_path / "nowhere" / "flights.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match="is a folder without files"):
        read_table(tmp_path / "empty")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(csv):
    path = csv("a\n1\n")
    path.chmod(0)
    with pytest.raises(TableError, match="permission denied"):
        read_table(path)


def test_no_permission_as_the_system_says_it(csv, monkeypatch):
    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    path = csv("a\n1\n")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TableError, match="permission denied"):
        read_table(path)


# ---- what reading costs --------------------------------------------------------------------------


def test_reading_leaves_no_trace(tmp_path, csv):
    """Pandas and Arrow's compute functions cost more than most tables do; the memory pool is others'."""
    pq.write_table(ARROW.drop_columns(["decimal", "number_category", "view"]), tmp_path / "t.parquet")
    table = csv("a,b,c\n1,x,\n")
    program = (
        "import sys, pyarrow; from fullbatch.tables.reading import read_table\n"
        "pool = pyarrow.default_memory_pool().backend_name\n"
        f"read_table({str(tmp_path / 't.parquet')!r}); read_table({str(table)!r})\n"
        "assert pyarrow.default_memory_pool().backend_name == pool != 'system'\n"
        "assert not {'pandas', 'pyarrow.compute', 'pyarrow.dataset'} & set(sys.modules), sorted(sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
