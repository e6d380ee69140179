"""Raw tables in memory: from arrays, some rows of them, the names of their columns, and how many texts are kept."""

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fullbatch.errors import TableError
from fullbatch.tables import encoding, raw
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.raw import RawTable
from fullbatch.tables.reading import read_table
from tables.conftest import plain


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


def test_a_table_is_printed_by_its_columns():
    table = RawTable.of({"late": [1, 0], "carrier": ["AA", None]})
    assert repr(table) == "RawTable, 2 rows, 2 columns: late (number), carrier (text)"
    assert repr(RawTable.of({f"x{i}": [1] for i in range(23)})).endswith("x19 (number) and 3 more")


def test_unknown_columns_are_named_with_the_near_ones():
    table = RawTable.of({"late": [1], "hour": [2]})
    with pytest.raises(TableError, match=r"no column 'lat'. Did you mean 'late'\?"):
        table.column("lat")
    with pytest.raises(TableError, match=r"no column 'income'. Did you mean 'Income-per-year'\?"):
        RawTable.of({"Income-per-year": [1], "in": [2]}).column("income")
    with pytest.raises(TableError, match=r"no input column 'zz' and 'yy'. It has 'late' and 'hour'."):
        table.require(["hour", "zz", "yy"], "input column")


def test_a_column_of_names_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "MOST_LEVELS", 300)
    texts = [f"name {i}" for i in range(1000)] + [None, "name 1"]
    pq.write_table(pa.table({"t": texts}), tmp_path / "t.parquet")
    column = read_table(tmp_path / "t.parquet").column("t")
    assert column.levels == tuple(texts[:300])
    assert column.values[:300].tolist() == list(range(300))
    assert (column.values[300:1000] == 301).all()
    assert column.values[1000:].tolist() == [300, 1]
    assert np.flatnonzero(column.missing).tolist() == [1000]
    assert (column.beyond, column.stray) == (None, (300, "name 300"))


def test_number_like_texts_beyond_the_levels_are_numbers(tmp_path):
    """100,000 different ones, in two batches; polars 2.1.0 writes them."""
    polars = pytest.importorskip("polars")
    texts = [str(i / 1000) for i in range(100_000)]
    polars.DataFrame({"x": [*texts, None, "0.5"], "y": ["a", "b"] * 50_001}).write_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    numbers = encoding.numbers_of("x", table.column("x"))
    np.testing.assert_array_equal(numbers, [*np.arange(100_000) / 1000, np.nan, 0.5])
    assert TableEncoding.learn(table, "y", numeric=["x"]).numbers == ("x",)
    rows = np.array([99_999, 7, 100_000, 70_000, 99_999])
    np.testing.assert_array_equal(
        encoding.numbers_of("x", table.select(rows).column("x")), [99.999, 0.007, np.nan, 70, 99.999]
    )


@pytest.mark.parametrize("bad", [69_001, 12, 65_000, 99_999])
def test_a_text_that_is_no_number_is_blamed_at_its_row(bad):
    texts = [str(i / 1000) for i in range(100_000)]
    texts[bad - 1] = " twelve"
    table = RawTable.of({"x": texts, "y": ["a", "b"] * 50_000})
    with pytest.raises(TableError, match=f"column 'x' must hold numbers, but row {bad} has 'twelve'"):
        TableEncoding.learn(table, "y", numeric=["x"])
    picked = table.select(np.array([3, bad - 1, 99_998]))
    with pytest.raises(TableError, match="row 2 has 'twelve'"):
        TableEncoding.learn(picked, "y", numeric=["x"])


def test_whole_numbers_are_integers_whatever_their_type():
    columns = {
        "float": pa.array([1.0, None, 3.0]),
        "whole float": np.array([1.0, 2.0, -3.0], np.float32),
        "decimal": pa.array([1, 2, None], pa.decimal128(38, 0)),
        "scaled decimal": pa.array([1, 2, 3], pa.decimal128(5, 2)),
        "half": [1.0, 2.5, 3.0],
        "infinite": [1.0, np.inf, 3.0],
        "large": [1.0, 1e300, 3.0],
        "date": pa.array([1, 2, 3], pa.date32()),
        "gaps": pa.nulls(3, pa.float64()),
    }
    table = RawTable.of(columns)
    integers = [name for name in table.names if table.column(name).integer]
    assert integers == ["float", "whole float", "decimal", "scaled decimal"]
    assert plain(table, "whole float") == [1, 2, -3]
    assert table.column("whole float").values.dtype == np.int16
    assert plain(table, "float") == [1, None, 3]


@pytest.mark.parametrize("target", [[0.0, 1.0, 1.0, 0.0], pa.array([0, 1, 1, 0], pa.decimal128(38, 0))])
def test_a_target_of_whole_numbers_is_classified(target):
    encoding = TableEncoding.learn(RawTable.of({"x": [1, 2, 3, 4], "y": target}), "y")
    assert (encoding.task, encoding.classes) == ("classify", (0, 1))


@pytest.mark.parametrize("write", ["pandas 3.1.1", "pyarrow 26.0.1"])
def test_numbers_declared_a_category_are_one(write, tmp_path):
    values = {"i": [7, None, 100_000, 7], "f": [0.5, 1.0, None, 0.5], "d": [date(2024, 1, 31), None]}
    values["d"] += [date(2024, 2, 1), date(2024, 1, 31)]
    path = tmp_path / "t.parquet"
    if write.startswith("pandas"):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"i": pandas.array(values["i"], "Int64"), "f": values["f"], "d": values["d"]})
        frame.astype("category").to_parquet(path)
    else:
        pq.write_table(pa.table({name: pa.array(v).dictionary_encode() for name, v in values.items()}), path)
    table = read_table(path)
    assert [table.column(name).kind for name in "ifd"] == ["category"] * 3
    assert plain(table, "i") == [7, None, 100_000, 7]
    assert plain(table, "f") == [0.5, 1, None, 0.5]
    assert plain(table, "d") == [1706659200, None, 1706745600, 1706659200]
    categories = TableEncoding.learn(table, None).categories
    assert categories[0].levels == (7, 100_000)
    assert not categories[0].is_text


@pytest.mark.parametrize(
    "type_", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str
)
def test_a_text_column_that_is_missing_everywhere_stays_text(type_, tmp_path):
    for values in ([None, None], ["", "NA"]):
        dictionary = pa.types.is_dictionary(type_)
        array = pa.array(values, pa.string()).dictionary_encode() if dictionary else pa.array(values, type_)
        column = RawTable.of({"a": array}).column("a")
        assert (column.kind, column.levels, column.missing.tolist()) == ("text", (), [True, True])
    pq.write_table(pa.table({"a": pa.nulls(2, type_)}), tmp_path / "t.parquet")
    column = read_table(tmp_path / "t.parquet").column("a")
    assert (column.kind, column.levels, column.missing.tolist()) == ("text", (), [True, True])


@pytest.mark.parametrize(
    "write", ["pandas 3.1.1 str", "pandas 3.1.1 category", "polars 2.1.0 String", "polars 2.1.0 Categorical"]
)
def test_texts_missing_everywhere_as_real_libraries_write_them(write, tmp_path):
    library, _, type_ = write.split()
    lib = pytest.importorskip(library)
    path = tmp_path / "t.parquet"
    if library == "pandas":
        texts = lib.Series([None, None], dtype="str")
        lib.DataFrame({"a": texts.astype(type_)}).to_parquet(path)
    else:
        lib.DataFrame({"a": lib.Series([None, None], dtype=getattr(lib, type_))}).write_parquet(path)
    column = read_table(path).column("a")
    assert (column.kind, column.levels, column.missing.tolist()) == ("text", (), [True, True])


def test_one_row_with_an_empty_text_is_encoded_from_parquet_as_from_csv(tmp_path):
    training = RawTable.of({"town": ["Bonn", "Kiel", None, "Bonn"], "y": [0, 1, 1, 0]})
    encoding = TableEncoding.learn(training, "y")
    (tmp_path / "row.csv").write_text("town,y\n,1\n")
    pq.write_table(pa.table({"town": pa.nulls(1, pa.string()), "y": [1]}), tmp_path / "row.parquet")
    for name in ("row.csv", "row.parquet"):
        encoded = encoding.encode(read_table(tmp_path / name, text=encoding.text_names))
        assert encoded.reader()(slice(0, 1))[:, 0].tolist() == [0, 0, 0, 1]  # nothing, Bonn, Kiel, missing
