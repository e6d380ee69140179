"""CSV and CSV.gz: what comes out of them, whatever stands where."""

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv

from fullbatch.tables import csv as ours
from fullbatch.tables.reading import read_table
from tables.conftest import plain


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
    rows = ours.CSV_BLOCK // 10
    late_table = read_table(csv("n,c\n" + f"12345678,{early}\n" * rows + f"2,{late}\n"))
    early_table = read_table(csv(f"n,c\n2,{late}\n" + f"1,{early}\n" * 3))
    assert plain(late_table, "c")[-1] == plain(early_table, "c")[0] == expected
    assert late_table.column("c").kind == early_table.column("c").kind
    assert plain(late_table, "c")[0] == plain(early_table, "c")[1]
    assert late_table.m == rows + 1


def test_several_late_columns(csv):
    rows = ours.CSV_BLOCK // 10
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
    if any(isinstance(value, str) and not ours._is_number(value) for value in column):
        assert all(got is None or isinstance(got, str) for got in read)


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
