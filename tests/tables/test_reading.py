"""Reading tables: the same from CSV and Parquet, one clear line for each way to be bad, and what reading costs."""

import gzip
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fullbatch.errors import InputError, TableError
from fullbatch.tables.raw import MissingWords
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


# ---- dates and decimals --------------------------------------------------------------------------

NATIONAL = ["31/12/2024", "", "1/2/2024", " 03/04/2024 "]
DAYS = [20_088, None, 19_754, 19_816]  # since 1970


def days(table, name="d"):
    return [None if value is None else value / 86_400 for value in plain(table, name)]


def test_national_dates_are_dates_where_a_day_is_above_12(csv):
    path = csv("d,n\n" + "".join(f"{text},1\n" for text in NATIONAL))
    column = read_table(path).column("d")
    assert (column.kind, column.time, column.format) == ("number", "date", "%d/%m/%Y")
    assert days(read_table(path)) == DAYS
    ambiguous = csv("d,n\n01/02/2024,1\n03/04/2024,2\n", "both.csv")
    assert read_table(ambiguous).column("d").kind == "text"
    assert days(read_table(ambiguous, date_format="%d/%m/%Y")) == [19_754, 19_816]
    assert days(read_table(ambiguous, date_format={"d": "%m/%d/%Y"})) == [19_724, 19_786]
    assert read_table(path, text=["d"]).column("d").kind == "text"


@pytest.mark.parametrize("write", ["parquet", "arrow"])
def test_texts_of_dates_in_other_files_are_dates_too(tmp_path, write):
    import pyarrow.feather
    from pyarrow import parquet

    iso = ["2024-12-31", None, "2024-02-01T00:00:00Z", "2024-04-03 02:00:00+02:00"]
    table = pa.table({"d": NATIONAL, "iso": iso, "i": [20241231, 20240201, 20240201, 20240403]})
    path = tmp_path / f"t.{write}"
    {"parquet": parquet.write_table, "arrow": pyarrow.feather.write_feather}[write](table, path)
    found = read_table(path)
    assert days(found) == days(found, "iso") == DAYS
    assert found.column("iso").format is None
    assert days(read_table(path, date_format={"i": "%Y%m%d"}), "i") == [DAYS[0], *DAYS[2:3], *DAYS[2:]]


def test_a_date_of_no_known_format_is_read_by_the_one_that_is_given(csv):
    path = csv("d,e,n\n20241231,31.12.24,5\n20240201,1.2.24,6\n")
    assert read_table(path).column("d").time == ""
    table = read_table(path, date_format={"d": "%Y%m%d", "e": "%d.%m.%y"})
    assert days(table) == days(table, "e") == [20_088, 19_754]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"d": "%d.%m.%Y"}, r"column 'd' must hold dates as '%d.%m.%Y', but row 1 has '31/12/2024'"),
        ({"d": "%m/%d/%Y"}, r"row 1 has '31/12/2024'"),
        ({"e": "%m/%d/%Y"}, r"no column of dates 'e'. Did you mean"),
        ("%Y", "'%Y' fits no column of text"),
        ("%Q", "%Q"),
    ],
)
def test_a_format_that_fits_nothing(csv, given, said):
    path = csv("d,de\n" + "".join(f"{text},1\n" for text in NATIONAL))
    with pytest.raises((TableError, InputError), match=said) as caught:
        read_table(path, date_format=given)
    assert "\n" not in str(caught.value)


def test_the_row_of_a_date_of_another_form(csv, monkeypatch):
    from fullbatch.tables import rows

    monkeypatch.setattr(rows, "CSV_BLOCK", 1 << 12)
    lines = [f"{i % 28 + 1}/{i % 12 + 1}/2024,{i}\n" for i in range(2000)]
    lines[1234] = "soon,1234\n"
    path = csv("d,n\n" + "".join(lines))
    assert read_table(path).column("d").kind == "text"
    with pytest.raises(TableError, match="row 1235 has 'soon'"):
        read_table(path, date_format={"d": "%d/%m/%Y"})
    found = read_table(path, missing=MissingWords.of(["soon"]))
    assert found.column("d").format == "%d/%m/%Y"
    assert np.flatnonzero(found.column("d").missing).tolist() == [1234]


def test_more_different_dates_than_levels_are_kept(csv, monkeypatch):
    from fullbatch.tables import raw

    monkeypatch.setattr(raw, "MOST_LEVELS", 50)
    texts = [f"{i % 28 + 1}/{i // 28 % 12 + 1}/{2000 + i // 336}" for i in range(3000)]
    path = csv("d,n\n" + "".join(f"{text},{i}\n" for i, text in enumerate(texts)))
    expected = [datetime.strptime(text, "%d/%m/%Y").replace(tzinfo=UTC).timestamp() / 86_400 for text in texts]
    assert days(read_table(path)) == expected
    both = csv(
        "d,n\n" + "".join(f"{i % 12 + 1}/{i // 12 % 12 + 1}/{2000 + i // 144},{i}\n" for i in range(3000)), "b.csv"
    )
    assert read_table(both).column("d").kind == "text"
    assert read_table(both, date_format="%m/%d/%Y").column("d").time == "date"
    late = csv("d,n\n" + "".join(f"{text},{i}\n" for i, text in enumerate([*texts, "soon"])), "late.csv")
    assert read_table(late).column("d").stray == (3000, "soon")


def test_what_is_seen_in_one_file_holds_for_the_others(tmp_path):
    (tmp_path / "1.csv").write_text("d,e,n\n01/02/2024,01/02/2024,1\n")
    (tmp_path / "2.csv").write_text("d,e,n\n31/12/2024,03/04/2024,1\n")
    table = read_table(tmp_path)
    assert days(table) == [19_754, 20_088]
    assert (table.column("d").format, table.column("d").time) == ("%d/%m/%Y", "date")
    assert table.column("e").kind == "text"
    (tmp_path / "3.csv").write_text("d,e,n\n12/31/2024,05/06/2024,1\n")
    assert plain(read_table(tmp_path), "d") == ["01/02/2024", "31/12/2024", "12/31/2024"]


def test_dates_of_several_files_are_still_dates(tmp_path):
    for i in (1, 2):
        (tmp_path / f"{i}.csv").write_text(f"d,n\n2024-01-0{i},1\n")
    assert read_table(tmp_path).column("d").time == "date"


def test_decimal_commas(csv):
    path = csv("x;y;t\n1,5;2;a\n-2,25;3;1.5\n;1,0;1.234,5\n")
    table = read_table(path, decimal=",")
    assert plain(table, "x") == [1.5, -2.25, None]
    assert plain(table, "y") == [2, 3, 1]
    assert plain(table, "t") == ["a", "1.5", "1.234,5"]
    assert (table.decimal, table.delimiter) == (",", ";")
    assert plain(read_table(path), "x") == ["1,5", "-2,25", None]


def test_a_decimal_mark_that_cannot_be_one(csv):
    with pytest.raises(InputError, match="which separates the values"):
        read_table(csv("x,y\n1,2\n"), decimal=",")
    with pytest.raises(InputError, match=r"the decimal mark is ';'"):
        read_table(csv("x,y\n1,2\n"), decimal=";")


def test_late_decimals_and_codes_with_decimal_commas(csv):
    late = csv("x;n\n" + "".join(f"{i};1\n" for i in range(300_000)) + "1,5;1\n", "late.csv")
    values = read_table(late, decimal=",").column("x").values
    assert (values[-2], values[-1]) == (299_999, 1.5)
    codes = csv("a;b\n007;007\n008;1,5\n")
    table = read_table(codes, decimal=",")
    assert plain(table, "a") == ["007", "008"]
    assert plain(table, "b") == [7.0, 1.5]
