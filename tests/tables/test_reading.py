"""Reading tables: what comes out of CSV and Parquet, and one clear line for each way to be bad."""

import contextlib
import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv

from fullbatch.errors import TableError
from fullbatch.tables import reading
from fullbatch.tables.reading import RawTable, read_table


def plain(table: RawTable, name: str) -> list:
    """A column as Python values, None where missing."""
    column = table.column(name)
    if column.levels is not None:
        return [dict(enumerate(column.levels)).get(int(code)) for code in column.values]
    return [None if gap else value for value, gap in zip(column.values.tolist(), column.missing, strict=True)]


@pytest.fixture
def csv(tmp_path):
    def write(content: str | bytes, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


# ---- CSV: values ---------------------------------------------------------------------------------


def test_kinds_of_columns(csv):
    table = read_table(csv("i,f,t,b,d\n1,1.5,x,true,2020-01-01\n-300,2,y y,False,1970-01-02\n"))
    assert table.names == ("i", "f", "t", "b", "d")
    assert table.m == 2
    assert [table.column(name).kind for name in table.names] == ["number", "number", "text", "boolean", "number"]
    assert [table.column(name).integer for name in table.names] == [True, False, False, False, False]
    assert plain(table, "i") == [1, -300]
    assert plain(table, "f") == [1.5, 2.0]
    assert plain(table, "t") == ["x", "y y"]
    assert plain(table, "b") == [True, False]
    assert plain(table, "d") == [1577836800.0, 86400.0]


def test_missing_values(csv):
    table = read_table(csv("i,f,t,b,none\n,,,,\n?,NA,NaN,null,NA\n3,1.5, ? ,true,\nNone,nan,None,,?\n"))
    assert plain(table, "i") == [None, None, 3, None]
    assert table.column("i").integer
    assert plain(table, "f") == [None, None, 1.5, None]
    assert plain(table, "t") == [None, None, None, "None"]  # in a text column "None" may be a class
    assert plain(table, "b") == [None, None, True, None]
    assert table.column("none").missing.all()


def test_codes_and_numbers_are_small(csv):
    table = read_table(csv("a,b,c,d\n" + "".join(f"{i % 200},{-i},x{i % 300},y\n" for i in range(1000))))
    assert [table.column(name).values.dtype for name in "abcd"] == [np.uint8, np.int16, np.uint16, np.uint8]


@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [
        ("1", "2.5", 2.5),
        ("1", "x", "x"),
        ("1", "99999999999999999999", 1e20),
        ("1.5", "x", "x"),
        ("", "7", 7),
        ("", "7.5", 7.5),
        ("", "x", "x"),
        ("true", "maybe", "maybe"),
        ("2020-01-01", "2020-01-02 12:00:00", 1577966400.0),
        ("2020-01-01", "some day", "some day"),
        ("x", "1", "1"),
    ],
)
def test_a_late_value_decides_the_type_of_its_column(csv, early, late, expected):
    """It comes after the block from which Arrow guesses: the same as if it had come first."""
    rows = reading.CSV_BLOCK // 10
    late_table = read_table(csv("n,c\n" + f"12345678,{early}\n" * rows + f"2,{late}\n"))
    early_table = read_table(csv(f"n,c\n2,{late}\n" + f"1,{early}\n" * 3))
    assert plain(late_table, "c")[-1] == plain(early_table, "c")[0] == expected
    assert late_table.column("c").kind == early_table.column("c").kind
    assert plain(late_table, "c")[0] == plain(early_table, "c")[1]
    assert late_table.m == rows + 1


def test_several_late_columns(csv):
    rows = reading.CSV_BLOCK // 10
    content = "a,b,c,d\n" + "1,2,3,4\n" * rows + "1.5,2,3,4\n" + "1,x,3,4\n" + "1,2,3,y\n"
    table = read_table(csv(content), columns=["d", "b", "a"])
    assert table.names == ("a", "b", "d")
    assert [plain(table, name)[-3:] for name in "abd"] == [[1.5, 1, 1], ["2", "x", "2"], ["4", "4", "y"]]


def test_columns_asked_for_as_text_stay_text(csv):
    table = read_table(csv("zip,flag,n\n007,true,5\n123,false,6\n"), text=["zip", "flag", "absent"])
    assert plain(table, "zip") == ["007", "123"]
    assert plain(table, "flag") == ["true", "false"]
    assert plain(table, "n") == [5, 6]


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x\n2,\n",
        "\ufeffa,b\r\n1,x\r\n2,\r\n",
        "a;b\n1;x\n2;\n",
        "a\tb\n1\tx\n2\t\n",
        'a,b\n1,"x"\n\n2,""\n',
        "a,b\n 1, x\n 2, ?",
    ],
)
def test_dialects(csv, content):
    table = read_table(csv(content))
    assert (plain(table, "a"), plain(table, "b")) == ([1, 2], ["x", None])


def test_quoted_separators_and_line_ends(csv):
    assert plain(read_table(csv('a,b\n1,"x\ny, ""z"""\n')), "b") == ['x\ny, "z"']


def test_gzip(csv):
    content = b"a,b\n" + b"1,x\n" * 300_000
    for name in ("t.csv.gz", "T.CSV.GZ", "misnamed.csv"):
        assert read_table(csv(gzip.compress(content), name)).m == 300_000
    parts = gzip.compress(b"a,b\n1,x\n") + gzip.compress(b"2,y\n")
    assert plain(read_table(csv(parts, "parts.csv.gz")), "a") == [1, 2]


CELL = st.one_of(
    st.none(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text("ab ,;\"'\n0.-", min_size=1, max_size=5).map(str.strip).filter(lambda text: text != ""),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(column=st.lists(CELL, min_size=1, max_size=30))
def test_any_column_comes_back(tmp_path, column):
    """Numbers where all are numbers, texts where one is none; missing stays missing."""
    import csv as standard

    path = tmp_path / "any.csv"
    with path.open("w", newline="") as file:
        writer = standard.writer(file, lineterminator="\n", quoting=standard.QUOTE_MINIMAL)
        writer.writerows([("n", "x"), *((1, value) for value in column)])
    read = plain(read_table(path), "x")
    for value, got in zip(column, read, strict=True):
        if value is None or got is None:
            assert value is got
        elif isinstance(got, str):
            assert got == str(value)
        else:
            assert got == float(value)
    if any(isinstance(value, str) and not reading._is_number(value) for value in column):
        assert all(got is None or isinstance(got, str) for got in read)


# ---- Parquet -------------------------------------------------------------------------------------


ARROW = pa.table(
    {
        "i8": pa.array([1, None, 3], pa.int8()),
        "u64": pa.array([1, 2, 2**64 - 1], pa.uint64()),
        "f16": pa.array(np.array([1, 2, 3], np.float16)),
        "f32": pa.array([1.5, None, 2.5], pa.float32()),
        "bool": pa.array([True, None, False]),
        "text": pa.array(["x", None, "?"]),
        "large": pa.array(["x", "y", "x"], pa.large_string()),
        "view": pa.array(["x", "y", None], pa.string_view()),
        "category": pa.array(["u", None, "v"]).dictionary_encode(),
        "number_category": pa.array([5, 6, None]).dictionary_encode(),
        "truth": pa.array(["true", "FALSE", None]),
        "decimal": pa.array([1, 2, None], pa.decimal128(5, 2)),
        "null": pa.nulls(3),
        "date": pa.array([0, 1, None], pa.date32()),
        "date64": pa.array([0, 86_400_000, None], pa.date64()),
        "timestamp": pa.array([0, 1500, None], pa.timestamp("ms", tz="UTC")),
        "time": pa.array([0, 60, None], pa.time32("s")),
        "duration": pa.array([0, 2_000_000, None], pa.duration("us")),
        "dotted.name": [1, 2, 3],
    }
)
READ = {
    "i8": [1, None, 3],
    "u64": [1, 2, 2**64 - 1],
    "f16": [1, 2, 3],
    "f32": [1.5, None, 2.5],
    "bool": [True, None, False],
    "text": ["x", None, None],
    "large": ["x", "y", "x"],
    "view": ["x", "y", None],
    "category": ["u", None, "v"],
    "number_category": [5, 6, None],
    "truth": [True, False, None],
    "decimal": [1, 2, None],
    "null": [None, None, None],
    "date": [0, 86_400, None],
    "date64": [0, 86_400, None],
    "timestamp": [0, 1.5, None],
    "time": [0, 60, None],
    "duration": [0, 2, None],
    "dotted.name": [1, 2, 3],
}


@pytest.mark.parametrize("name", READ)
def test_parquet_types(tmp_path, name):
    pq.write_table(ARROW, tmp_path / "t.parquet")
    assert plain(read_table(tmp_path / "t.parquet", columns=[name]), name) == READ[name]


def test_parquet_row_groups_batches_and_column_groups(tmp_path, monkeypatch):
    """Each batch has a dictionary of its own; the codes must agree all the same."""
    monkeypatch.setattr(reading, "BATCH_ROWS", 700)
    monkeypatch.setattr(reading, "PARQUET_GROUP", 2)
    random = np.random.default_rng(0)
    texts = [None if i % 7 == 0 else f"level {i}" for i in random.integers(0, 90, 5000)]
    whole = {"a": random.integers(-5, 300, 5000), "t": texts, "b": random.normal(size=5000), "u": texts[::-1]}
    whole["flag"] = [None if i % 5 == 0 else i % 3 == 0 for i in range(5000)]
    pq.write_table(pa.table(whole), tmp_path / "t.parquet", row_group_size=1500)
    table = read_table(tmp_path / "t.parquet")
    assert table.names == tuple(whole)
    for name, values in whole.items():
        assert plain(table, name) == list(values)


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


def test_a_column_of_names_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_LEVELS", 300)
    texts = [f"name {i}" for i in range(1000)] + [None, "name 1"]
    pq.write_table(pa.table({"t": texts}), tmp_path / "t.parquet")
    column = read_table(tmp_path / "t.parquet").column("t")
    assert column.levels == tuple(texts[:300])
    assert column.values[:300].tolist() == list(range(300))
    assert (column.values[300:1000] == 301).all()
    assert column.values[1000:].tolist() == [300, 1]
    assert np.flatnonzero(column.missing).tolist() == [1000]


# ---- tables in memory ----------------------------------------------------------------------------


def test_table_of_arrays():
    table = RawTable.of(
        {
            "i": np.array([1, 2, 3]),
            "f": np.array([1.5, np.nan, 2]),
            "t": ["x", None, "y"],
            "b": [True, False, None],
        }
    )
    assert [plain(table, name) for name in table.names] == [
        [1, 2, 3], [1.5, None, 2], ["x", None, "y"], [True, False, None],
    ]  # fmt: skip
    with pytest.raises(TableError, match="one length"):
        RawTable.of({"a": [1], "b": [1, 2]})


def test_select_rows():
    table = RawTable.of({"i": [5, 6, 7], "t": ["x", None, "y"]}).select(np.array([2, 0, 2]))
    assert table.m == 3
    assert plain(table, "i") == [7, 5, 7]
    assert plain(table, "t") == ["y", "x", "y"]
    assert table.column("i").integer


def test_unknown_columns_are_named_with_the_near_ones():
    table = RawTable.of({"late": [1], "hour": [2]})
    with pytest.raises(TableError, match=r"no column 'lat'. Did you mean 'late'\?"):
        table.column("lat")
    with pytest.raises(TableError, match=r"no input column 'zz' and 'yy'. It has 'late' and 'hour'."):
        table.require(["hour", "zz", "yy"], "input column")


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


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (pa.table({"x": pa.array([], pa.int32())}), "no rows"),
        (pa.table({"x": [[1], [2]]}), "column 'x' holds list"),
        (pa.table({"x": [{"y": 1}]}), "column 'x' holds struct"),
        (pa.table({"x": [b"y"]}), "column 'x' holds binary"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), "called 'a'"),
    ],
)
def test_parquet_files_that_are_no_table_for_us(tmp_path, table, expected):
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(TableError, match=expected):
        read_table(tmp_path / "t.parquet")


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,  # what Arrow makes of all damage there can be is not ours to test
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damaged_parquet_is_an_error_or_a_table(tmp_path, data):
    pq.write_table(ARROW.drop_columns(["null"]), tmp_path / "whole.parquet")
    content = bytearray((tmp_path / "whole.parquet").read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(4, len(content) - 1))]
    else:
        at = data.draw(st.integers(4, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "damaged.parquet").write_bytes(content)
    with contextlib.suppress(TableError):
        assert read_table(tmp_path / "damaged.parquet").m > 0


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
    with pytest.raises(TableError, match="is a folder"):
        read_table(tmp_path)


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


def test_a_csv_file_is_not_closed_while_arrow_reads_ahead(tmp_path, monkeypatch):
    """A thread of Arrow's would go on in the next file that gets the number: rows of one came out in the other."""
    streams = []
    real = arrow_csv.open_csv

    def open_csv(stream, **options):
        assert not any(earlier.closed for earlier in streams)
        streams.append(stream)
        return real(stream, **options)

    monkeypatch.setattr(arrow_csv, "open_csv", open_csv)
    path = tmp_path / "late.csv"
    path.write_text("a,b\n" + "1,x\n" * 400_000 + "1.5,x\n")
    assert read_table(path).m == 400_001
    assert len(streams) == 3, "for the types, with whole numbers, and with what a late value makes of them"
    assert not any(stream.closed for stream in streams)
