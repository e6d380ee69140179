"""Tables of many inputs: compressed files, Arrow IPC, several files, folders, standard input, and their errors."""

import bz2
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv as csv_file
from pyarrow import feather

from fullbatch.errors import TableError
from fullbatch.tables.reading import read_table
from tables.conftest import plain

TABLE = pa.table({"a": [1, 2, 3], "t": ["x", None, "y"]})


def same(table) -> bool:
    return (plain(table, "a"), plain(table, "t")) == ([1, 2, 3], ["x", None, "y"])


@pytest.mark.parametrize("name", ["t.tsv", "t.txt", "t.csv.bz2", "t.csv.zst", "T.TSV.ZST"])
def test_texts_and_their_compressions(csv, name):
    mark = "\t" if "tsv" in name.lower() else ";"
    content = f"a{mark}t\n1{mark}x\n2{mark}\n3{mark}y\n".encode()
    if name.endswith("bz2"):
        content = bz2.compress(content)
    elif name.lower().endswith("zst"):
        content = pa.compress(content, codec="zstd", asbytes=True)
    assert same(read_table(csv(content, name)))
    if b";" not in content and name.endswith(("zst", "bz2")):
        with pytest.raises(TableError, match="damaged or cut short"):
            read_table(csv(content[:-9], name))


@pytest.mark.parametrize("write", ["file", "stream", "polars 2.1.0"])
def test_arrow_ipc(tmp_path, write):
    path = tmp_path / "t.arrow"
    if write.startswith("polars"):
        polars = pytest.importorskip("polars")
        polars.from_arrow(TABLE).write_ipc(path, compression="lz4")
    else:
        with (pa.ipc.new_file if write == "file" else pa.ipc.new_stream)(str(path), TABLE.schema) as writer:
            writer.write_table(TABLE, max_chunksize=2)
    assert same(read_table(path))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(TableError, match="damaged or cut short"):
        read_table(path)


def test_several_files_and_patterns(tmp_path, csv):
    one, two = csv("a,t\n1,x\n2,\n", "p1.csv"), csv("t,a\ny,3\n", "p2.csv")
    for paths in ([one, two], tmp_path / "p*.csv", [str(tmp_path / "p[12].csv")], tmp_path):
        assert same(read_table(paths))
    assert plain(read_table([two, one], columns=["t"]), "t") == ["y", "x", None]
    late = csv("t,a\n?,z\n", "p3.csv")
    assert plain(read_table([one, two, late]), "a") == ["1", "2", "3", "z"]
    assert plain(read_table([late, one]), "t") == [None, "x", None]


def test_partitions_become_columns(tmp_path):
    """As pyarrow 26.0.1 writes them (flavor "hive"), and Spark and polars with it."""
    table = pa.table({"a": [1, 2, 3, 4], "year": [2023, 2024, 2024, 2025], "town": ["K\u00f6ln", "Kiel", None, "A/B"]})
    pq.write_to_dataset(table, tmp_path / "d", partition_cols=["year", "town"])
    (tmp_path / "d" / "_SUCCESS").touch()
    read = read_table(tmp_path / "d")
    rows = sorted(zip(plain(read, "a"), plain(read, "year"), plain(read, "town"), strict=True))
    assert rows == [(1, 2023, "K\u00f6ln"), (2, 2024, "Kiel"), (3, 2024, None), (4, 2025, "A/B")]
    assert read.column("year").integer
    assert read_table(tmp_path / "d", columns=["a", "year"]).names == ("a", "year")


def test_bad_sets_of_files(tmp_path, csv):
    one = csv("a,t\n1,x\n", "p1.csv")
    with pytest.raises(TableError, match=r"p2.csv has other columns than .*p1.csv: it lacks 't' and has 'b' besides"):
        read_table([one, csv("a,b\n1,x\n", "p2.csv")])
    with pytest.raises(TableError, match=r"no file matches .*nothing"):
        read_table(tmp_path / "nothing*.csv")
    with pytest.raises(TableError, match="no file is given"):
        read_table([])
    pq.write_table(TABLE, tmp_path / "t.parquet")
    with pytest.raises(TableError, match=r"mixes kinds of files: '.csv' and '.parquet'"):
        read_table(tmp_path)
    with pytest.raises(TableError, match="the format is 'xml'"):
        read_table(one, format="xml")


def test_standard_input():
    program = "from fullbatch.tables.reading import read_table; t = read_table('-', format={!r}); print(t.m, t.names)"
    for form, content, expected in [
        ("csv", b"a;t\n1;x\n2;y\n", "2 ('a', 't')"),
        ("csv", b"a,t\n1\n", "standard input: row 1"),
        (None, b"a,t\n1,x\n", "expected its format"),
    ]:
        command = [sys.executable, "-c", program.format(form)]
        done = subprocess.run(command, input=content, capture_output=True, check=False, timeout=60)
        assert expected in (done.stdout + done.stderr).decode()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_named_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(TableError, match="is a named pipe; expected a file"):
        read_table(tmp_path / "pipe.csv")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("# made by x, y\n# on Monday\na,t\n1,x\n2,\n3,y\n", ("a", "t")),
        ("#a,t\n1,x\n2,\n3,y\n", ("#a", "t")),
        ("##meta\n#a,t\n1,x\n2,\n3,y\n", ("#a", "t")),
        ("Sales, in USD\n\na;t\n1;x\n2;\n3;y\n", ("a", "t")),
        ('"Price, USD";t\n1;x\n2;\n3;y\n', ("Price, USD", "t")),
        ("a;t\n1;x,y\n2;u,v\n", ("a", "t")),
        ("a;t\n1,5;2,5\n3,5;4,5\n", ("a", "t")),
        ("#a\n1\n2\n", ("#a",)),
        ("a|t\n1|x\n2|y\n", ("a", "t")),
        ("t\nx|y\nu|v\n", ("t",)),  # no separator stands in the header
        ("sep=;\r\na;t\r\n1,5;x\r\n2,5;y\r\n", ("a", "t")),
        ('"sep=\t"\na\tt\n1\tx\n2\ty\n', ("a", "t")),
        ("\ufeffsep=|\na,b|t\n1,5|x\n", ("a,b", "t")),
        ("sep=;,t\n1,x\n2,y\n", ("sep=;", "t")),  # a column of that name
    ],
)
def test_headers(csv, content, names):
    assert read_table(csv(content)).names == names


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
def test_no_column_at_all_is_refused(tmp_path, form):
    path = tmp_path / f"t.{form}"
    {"csv": csv_file.write_csv, "parquet": pq.write_table, "arrow": feather.write_feather}[form](TABLE, path)
    with pytest.raises(TableError, match="no column of it is asked for; expected at least one"):
        read_table(path, columns=[])
    with pytest.raises(TableError, match="no column of it can be read; 'a' was left out"):
        read_table(path, drop=TABLE.column_names)


def test_a_header_beyond_a_block(csv):
    names = [f"a column with a rather long name {i}" for i in range(40_000)]
    path = csv(",".join(names) + "\n" + ",".join(["1"] * len(names)) + "\n")
    assert path.stat().st_size > 1 << 20
    assert read_table(path, columns=names[-2:]).names == tuple(names[-2:])
