"""CSV and CSV.gz: what comes out of them, whatever stands where."""

import contextlib
import gzip
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv

from fullbatch.errors import TableError
from fullbatch.tables import csv as ours
from fullbatch.tables import rows as rows_of
from fullbatch.tables.encoding import TableEncoding
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
    table = read_table(csv("i,f,t,b,none\n,,,,\n?,NA,NaN,null,NA\n3,1.5,x,true,\nNone,nan,None,,?\n"))
    assert plain(table, "i") == [None, None, 3, None]
    assert table.column("i").integer
    assert plain(table, "f") == [None, None, 1.5, None]
    assert plain(table, "t") == [None, None, "x", "None"]  # in a text column "None" may be a class
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
    rows = rows_of.CSV_BLOCK // 10
    late_table = read_table(csv("n,c\n" + f"12345678,{early}\n" * rows + f"2,{late}\n"))
    early_table = read_table(csv(f"n,c\n2,{late}\n" + f"1,{early}\n" * 3))
    assert plain(late_table, "c")[-1] == plain(early_table, "c")[0] == expected
    assert late_table.column("c").kind == early_table.column("c").kind
    assert plain(late_table, "c")[0] == plain(early_table, "c")[1]
    assert late_table.m == rows + 1


def test_several_late_columns(csv):
    rows = rows_of.CSV_BLOCK // 10
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
    if any(isinstance(value, str) and not ours.is_number(value) for value in column):
        assert all(got is None or isinstance(got, str) for got in read)


def test_a_csv_file_is_read_once_whatever_changes_its_type_late(tmp_path, monkeypatch):
    """And a second time, as far as needed, where numbers that are not whole turn out to be texts."""
    parsed = []
    real = arrow_csv.read_csv

    def read(stream, **options):
        parsed.append(stream.size())
        return real(stream, **options)

    monkeypatch.setattr(arrow_csv, "read_csv", read)
    path = tmp_path / "late.csv"
    rows = ["1,2,3,,2024-01-31"] * 300_000
    rows[200_000:200_005] = ["1.5,2,3,,", "1,x,3,,", "1,2,3,2024-01-31,", "1,2,007,,2024-01-31 10:00Z", "1,2,3,,"]
    path.write_text("a,b,c,d,e\n" + "\n".join(rows))
    table = read_table(path)
    assert table.m == 300_000
    assert [table.column(name).kind for name in "abcde"] == ["number", "text", "text", "number", "number"]
    assert [plain(table, name)[200_003] for name in "abcde"] == [1, "2", "007", None, 1706695200]
    assert plain(table, "c")[0] == "3"
    assert sum(parsed) < path.stat().st_size + 6 * rows_of.CSV_BLOCK
    path.write_text(path.read_text() + "\nx,2,3,,")
    parsed.clear()
    values = plain(read_table(path), "a")
    assert [values[i] for i in (0, 200_000, -1)] == ["1", "1.5", "x"]
    assert 1.5 * path.stat().st_size < sum(parsed) < 2 * path.stat().st_size + 7 * rows_of.CSV_BLOCK


@pytest.mark.parametrize("kind", ["dates", "zoned", "both"])
def test_dates_and_times_are_the_same_in_any_order_of_the_lines(csv, kind):
    values = {"dates": ["2024-01-31"], "zoned": ["2024-01-31T10:00:00Z", "2024-01-31 12:00:00+02:00"]}
    late = values.get(kind, ["2024-01-31", "2024-01-31 10:00", "2024-01-31 12:00:00+02:00", "2024-01-31T10:00:00.5Z"])
    seconds = {"dates": [1706659200], "zoned": [1706695200] * 2}
    expected = seconds.get(kind, [1706659200, 1706695200, 1706695200, 1706695200.5])
    gap = ["1,"] * 600_000
    for lines in ([*gap, *(f"1,{value}" for value in late)], [*(f"1,{value}" for value in late), *gap]):
        column = read_table(csv("x,d\n" + "\n".join(lines))).column("d")
        assert column.kind == "number"
        assert column.values[~column.missing].tolist() == expected
        assert np.count_nonzero(column.missing) == len(gap)
    lines = ["1,2024-01-31 09:00"] * 90_000 + [f"1,{value}" for value in late]
    column = read_table(csv("x,d\n" + "\n".join(lines))).column("d")
    assert column.values[[0, *range(-len(late), 0)]].tolist() == [1706691600, *expected]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["007", "7", "8"], "text"),
        (["7", "8", "007"], "text"),
        (["-07", "7", "8"], "text"),
        (["7", '"007"', "8"], "text"),
        (["7", " 007 ", "8"], "text"),
        (["0x10", "16", "8"], "text"),
        (["0", "10", "-0"], "number"),
        (["0.5", "0", "00.5"], "number"),
        (["007", "1.5", "8"], "number"),
        (["1.5", "007", "8"], "number"),
        (["2024-01-05", "2024-10-07", ""], "number"),
        (["05:30", "07:00", ""], "number"),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_whole_numbers_with_leading_zeros_are_texts(csv, values, kind, separator):
    """Wherever they stand: in one block, in any other, in any column, beside quoted separators and line ends."""
    for gap in (0, rows_of.CSV_BLOCK // 10):
        if gap == 0:
            lines = [f'5{separator}"a{separator} 01\n02"{separator}{value}{separator}4' for value in values]
        else:
            cells = [values[0], *["" if values[-1] == "" else "3"] * gap, *values[1:]]
            lines = [f"12345{separator}x{separator}{cell}{separator}4" for cell in cells]
        table = read_table(csv("\n".join([separator.join("abcd"), *lines])))
        assert [table.column(name).kind for name in "abcd"] == ["number", "text", kind, "number"]
        if kind == "text":
            got = plain(table, "c")
            assert [got[0], *got[-2:]] == [value.strip(' "') for value in values]
            assert set(got[1:-2]) <= {"3"}


def test_a_target_of_codes_comes_back_as_it_was(csv):
    table = read_table(csv("x,y\n1,01\n2,02\n3,01\n4,10\n"))
    assert TableEncoding.learn(table, "y").classes == ("01", "02", "10")


def test_rows_that_a_block_cuts(csv, monkeypatch):
    """Blocks end where rows do, whatever is quoted; a quote within a value is a character as any other."""
    cells = ["x", '"a,\nb"', '"say ""no"",\n"', '5" pipe', '""', '"""x"""', 'd"e,f'[:3], 'x"']
    rows = [f"{i},{cells[i % len(cells)]},{i * 7}" for i in range(400)]
    expected = read_table(csv("n,t,k\n" + "\n".join(rows) + "\n"))
    assert plain(expected, "n") == list(range(400))
    for size in (97, 256, 1000):
        monkeypatch.setattr(rows_of, "CSV_BLOCK", size)
        for end in ("\n", "\r\n"):
            table = read_table(csv("n,t,k" + end + end.join(rows) + end))
            assert plain(table, "n") == list(range(400))
            assert plain(table, "t") == plain(expected, "t")


def test_a_thread_that_reads_ahead_ends_with_the_reading(csv):
    before = set(threading.enumerate())  # a pool of dask's stays for as long as the process
    for content, error in (("a,b\n" + "1,x\n" * 900_000, None), ("a,b\n1\n" + "1,x\n" * 900_000, TableError)):
        with pytest.raises(error) if error else contextlib.nullcontext():
            read_table(csv(content))
        for thread in set(threading.enumerate()) - before:
            assert error  # Only a reading that was given up leaves one, which ends by itself.
            thread.join(timeout=60)
        assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("name", ["", '""', "Unnamed: 0", "__index_level_0__"])
def test_row_numbers_are_left_out(csv, name):
    """pandas 3.1.1 writes the first, R 4 the second, pandas what it read of its own the third."""
    path = csv(f"{name},x,y\n3,5,a\n0,5,b\n2,6,a\n")
    table = read_table(path)
    assert table.names == ("x", "y")
    assert list(table.left_out) == [name.strip('"')]
    assert read_table(path, columns=[name.strip('"')]).names == (name.strip('"'),)
    assert read_table(path, keep=[name.strip('"')]).names == (name.strip('"'), "x", "y")


@pytest.mark.parametrize("content", [",x\n3,5\n3,6\n", ",x\na,5\nb,6\n", "i,x\n0,5\n1,6\n", ",x\n0.5,5\n1,6\n"])
def test_what_does_not_count_rows_stays(csv, content):
    assert len(read_table(csv(content)).names) == 2


def test_the_index_that_pandas_writes_into_csv(tmp_path):
    pandas = pytest.importorskip("pandas")  # 3.1.1
    frame = pandas.DataFrame({"x": [5, 6, 7], "y": list("aba")})
    frame.sort_values("y").reset_index(drop=True).to_csv(tmp_path / "i.csv")
    assert read_table(tmp_path / "i.csv").names == ("x", "y")


def test_rows_that_nobody_reads_on_wait_for_no_thread(tmp_path, monkeypatch):
    """The garbage collector may end them in a thread that is starting: before Python 3.13 it holds a lock of join's."""
    (tmp_path / "t.csv").write_text("a\n" + "1\n" * 1000)
    monkeypatch.setattr(rows_of, "CSV_BLOCK", 100)
    before = threading.active_count()
    rows = rows_of.Rows(tmp_path / "t.csv", None)
    assert b"".join(rows.blocks()) == b"1\n" * 1000
    assert threading.active_count() == before
    blocks = rows.blocks()
    next(blocks)
    (reader,) = (thread for thread in threading.enumerate() if thread.name.startswith("fullbatch-read"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", lambda *_: pytest.fail("a thread is waited for"))
        blocks.close()
    reader.join(timeout=60)  # it ends by itself
    assert not reader.is_alive()


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("a   b  c\n1   2.5 x\n22  3   y\n", {"a": [1, 22], "b": [2.5, 3.0], "c": ["x", "y"]}),
        ("  a b\r\n  1 2  \r\n 22 3\r\n", {"a": [1, 22], "b": [2, 3]}),  # a column of fixed width, Windows' line ends
        ("a b who\n1 2 \"a  b\"\n3 NA \"c\"\n", {"a": [1, 3], "b": [2, None], "who": ["a  b", "c"]}),
        (' 18.0   8\t"a b"\n 15.0   9\t"c d"\n 16.0   7\t"e"\n', {"18.0": [15, 16], "8": [9, 7], "a b": ["c d", "e"]}),
        ("# x y\n1e0 2e0\n2e0 3e0\n", {"#x": [1.0, 2.0], "y": [2.0, 3.0]}),  # as numpy.savetxt writes it
        ('"x" "y"\n"1" 5 6.5\n"2" 7 8.5\n', {"": [1, 2], "x": [5, 7], "y": [6.5, 8.5]}),  # as R's write.table does
        ('"x" "y"\n"anna" 5 6.5\n"otto" 7 8.5\n', {"": ["anna", "otto"], "x": [5, 7], "y": [6.5, 8.5]}),
        # These are no such tables.
        ("name\tage\nJohn Smith\t5\nAnn Lee\t6\n", {"name": ["John Smith", "Ann Lee"], "age": [5, 6]}),
        ("a\t\tb\n1\t\t2\n3\t4\t5\n", {"a": [1, 3], "": [None, 4], "b": [2, 5]}),
        ("note\nred car 5\nblue van 7\n", {"note": ["red car 5", "blue van 7"]}),
        ("full name\nJohn Smith\nAnn Lee\n", {"full name": ["John Smith", "Ann Lee"]}),
        ("when\n2024-01-31 10:20:00\n2024-02-01 10:20:00\n", {"when": ["2024-01-31 10:20:00", "2024-02-01 10:20:00"]}),
        ("a b,c d\n1 2,3 4\n5 6,7 8\n", {"a b": ["1 2", "5 6"], "c d": ["3 4", "7 8"]}),
    ],
)  # fmt: skip
def test_values_that_runs_of_blanks_separate(csv, content, columns):
    texts = [name for name, values in columns.items() if any(isinstance(value, str) for value in values)]
    table = read_table(csv(content), keep=[""] if "" in columns else ())
    assert table.names == tuple(columns)
    for name, values in columns.items():
        if name == "when":
            assert table.column(name).time == "date"
        elif name in texts or None not in values:
            assert plain(table, name) == values
        else:
            assert [None if value != value else value for value in table.column(name).values.tolist()] == values


def test_blocks_of_rows_that_blanks_separate(csv, monkeypatch):
    """Where blocks end is where rows do, whatever is made of the blanks."""
    monkeypatch.setattr(rows_of, "CSV_BLOCK", 50)
    lines = [f"  {i}   {i / 2}  {'ab'[i % 2]} " for i in range(500)]
    table = read_table(csv("\n".join(["  i   half  who ", *lines])))
    assert table.column("i").values.tolist() == list(range(500))
    assert table.column("half").values.tolist() == [i / 2 for i in range(500)]
    assert plain(table, "who") == ["a", "b"] * 250
