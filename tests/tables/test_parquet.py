"""Parquet: its types, its batches, and files that are damaged or no table for us."""

import contextlib
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fullbatch.errors import TableError
from fullbatch.tables import parquet
from fullbatch.tables.raw import RawTable
from fullbatch.tables.reading import read_table
from tables.conftest import ARROW, plain

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
    monkeypatch.setattr(parquet, "BATCH_ROWS", 700)
    monkeypatch.setattr(parquet, "PARQUET_GROUP", 2)
    random = np.random.default_rng(0)
    texts = [None if i % 7 == 0 else f"level {i}" for i in random.integers(0, 90, 5000)]
    whole = {"a": random.integers(-5, 300, 5000), "t": texts, "b": random.normal(size=5000), "u": texts[::-1]}
    whole["flag"] = [None if i % 5 == 0 else i % 3 == 0 for i in range(5000)]
    pq.write_table(pa.table(whole), tmp_path / "t.parquet", row_group_size=1500)
    table = read_table(tmp_path / "t.parquet")
    assert table.names == tuple(whole)
    for name, values in whole.items():
        assert plain(table, name) == list(values)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (pa.table({"x": pa.array([], pa.int32())}), "no rows"),
        (pa.table({"x": [[1], [2]]}), "no column of it can be read; 'x' was left out: it holds list"),
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


# ---- how real writers write ------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
def test_texts_of_any_encoding(tmp_path, encoding):
    """DuckDB 2.0.1 writes DELTA_LENGTH_BYTE_ARRAY with ``parquet_version v2``; so does pyarrow 26.0.1 when asked."""
    texts = [f"id{i}" for i in range(1000)]
    whole = pa.table({"list": [[1, 2]] * 1000, "s": texts, "few": ["x", "y"] * 500})
    pq.write_table(whole, tmp_path / "t.parquet", use_dictionary=["few"], column_encoding={"s": encoding})
    assert plain(read_table(tmp_path / "t.parquet", columns=["s"]), "s") == texts
    assert plain(read_table(tmp_path / "t.parquet", columns=["few"]), "few") == ["x", "y"] * 500


def test_a_file_of_duckdb(tmp_path):
    duckdb = pytest.importorskip("duckdb")  # 2.0.1
    path = tmp_path / "v2.parquet"
    query = f"(select 'id'||i as s, i as y from range(1000) t(i)) to '{path}' (format parquet, parquet_version v2)"
    duckdb.sql(f"copy {query}")
    table = read_table(path)
    assert plain(table, "s") == [f"id{i}" for i in range(1000)]
    assert plain(table, "y") == list(range(1000))


def test_what_arrow_cannot_read_is_not_called_damaged(tmp_path, monkeypatch):
    """Each error as pyarrow 26.0.1 raises it."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"s": ["x"]}), path, use_dictionary=False, column_encoding={"s": "DELTA_BYTE_ARRAY"})
    monkeypatch.setattr(parquet, "_DICTIONARY_ENCODINGS", frozenset(["DELTA_BYTE_ARRAY", "RLE"]))
    with pytest.raises(TableError, match=r"pyarrow .* cannot read this kind of file \(Not yet implemented"):
        read_table(path)
    for error, expected in [
        (pa.ArrowNotImplementedError("Codec 'lzo' not built"), "cannot read this kind"),
        (pa.ArrowMemoryError("malloc of size 64 failed"), "not enough memory"),
        (OSError("Column is encrypted, and there are no keys"), "is encrypted"),
        (OSError(5, "Input/output error"), "cannot be read: Input/output error"),
        (pa.ArrowInvalid("Parquet magic bytes not found in footer"), "damaged or cut short"),
    ]:
        assert expected in parquet._said(error)


def test_texts_that_are_not_utf8_are_called_so(tmp_path):
    latin = pa.array([b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"s": latin}), tmp_path / "t.parquet")
    with pytest.raises(TableError, match="text that is not UTF-8"):
        read_table(tmp_path / "t.parquet")


def test_int96_timestamps_of_any_year(tmp_path):
    """As Spark, Impala and Hive write them; pyarrow 26.0.1 reads 9999-12-31 as a day in 1816 if it is not told."""
    when = [datetime(9999, 12, 31), None, datetime(2020, 1, 1, 0, 0, 0, 5), datetime(1, 1, 1), datetime(1815, 6, 18)]
    written = pa.table({"t": pa.array(when, pa.timestamp("us"))})
    pq.write_table(written, tmp_path / "t.parquet", use_deprecated_int96_timestamps=True)
    expected = [t and (t - datetime(1970, 1, 1)).total_seconds() for t in when]
    assert plain(read_table(tmp_path / "t.parquet"), "t") == pytest.approx(expected, abs=1e-6)


# ---- columns that are left out -----------------------------------------------------------------------


UNREADABLE = {
    "list": [[1], [2]],
    "struct": [{"y": 1}, None],
    "bytes": [b"y", b"z"],
    "uuid": pa.array([b"0" * 16, b"1" * 16], pa.uuid()),
    "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int8())),
    "nested": [[{"y": [1]}], []],
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_column_that_is_none_for_us_is_left_out(tmp_path, name):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1, 2], name: UNREADABLE[name], "t": ["x", "y"]}), path)
    table = read_table(path)
    assert table.names == ("a", "t")
    assert (plain(table, "a"), plain(table, "t")) == ([1, 2], ["x", "y"])
    assert "expected numbers, texts" in table.left_out[name]
    with pytest.raises(TableError, match=f"target column '{name}' was left out: it holds"):
        table.require([name], "target column")
    for asked in ({"columns": [name]}, {"keep": [name]}):
        with pytest.raises(TableError, match=f"column '{name}' holds"):
            read_table(path, **asked)
    assert RawTable.of({"a": [1, 2], name: UNREADABLE[name]}).left_out.keys() == {name}


def test_the_index_that_pandas_writes_is_left_out(tmp_path):
    pandas = pytest.importorskip("pandas")  # 3.1.1
    frame = pandas.DataFrame({"x": [5, 9, 7, 8], "y": list("abab")})
    path = tmp_path / "i.parquet"
    frame.sample(frac=0.75, random_state=0).to_parquet(path)
    table = read_table(path)
    assert table.names == ("x", "y")
    assert table.left_out == {"__index_level_0__": "it is the index of a pandas table, not one of its columns"}
    assert plain(read_table(path, columns=["__index_level_0__"]), "__index_level_0__") == [2, 3, 1]
    assert read_table(path, keep=["__index_level_0__"]).names == ("x", "y", "__index_level_0__")
    frame.set_index("x").to_parquet(path)
    assert read_table(path).names == ("y",)
    assert read_table(path).left_out.keys() == {"x"}
    frame.to_parquet(path)
    assert read_table(path).left_out == {}
    pq.write_table(pa.table({"x": [1], "__index_level_0__": [7]}), path)  # as another library writes it again
    assert read_table(path).names == ("x",)
