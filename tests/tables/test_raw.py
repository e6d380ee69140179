"""Raw tables in memory: from arrays, some rows of them, the names of their columns, and how many texts are kept."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fullbatch.errors import TableError
from fullbatch.tables import raw
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


def test_unknown_columns_are_named_with_the_near_ones():
    table = RawTable.of({"late": [1], "hour": [2]})
    with pytest.raises(TableError, match=r"no column 'lat'. Did you mean 'late'\?"):
        table.column("lat")
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
