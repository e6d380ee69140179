"""Tables in memory as raw tables: the same columns, whatever library holds them."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from fullbatch.errors import TableError
from fullbatch.tables.frames import as_table
from fullbatch.tables.raw import RawTable

COLUMNS = {
    "x": [1.5, None, 3.0, 4.25],
    "k": ["a", "b", None, "a"],
    "b": [True, False, None, True],
    "i": [1, 2, 3, 4],
    "d": [date(2024, 1, 31), None, date(2023, 5, 1), date(1970, 1, 1)],
}


class Stream:
    """What can be read only once, as duckdb's or a reader's result can."""

    def __init__(self, table: pa.Table) -> None:
        self.table, self.reads = table, 0

    def __arrow_c_stream__(self, requested_schema=None):
        self.reads += 1
        assert self.reads == 1, "a stream that is read twice is empty"
        return self.table.__arrow_c_stream__(requested_schema)


ARROW = pa.table(COLUMNS)
MADE = {
    "dict of lists": lambda: COLUMNS,
    "dict of Arrow": lambda: {name: ARROW[name] for name in COLUMNS},
    "pandas": lambda: pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in COLUMNS.items()}),
    "pandas, its own types": lambda: pd.DataFrame(COLUMNS).convert_dtypes(),
    "polars": lambda: pl.DataFrame(COLUMNS),
    "Arrow": lambda: ARROW,
    "Arrow, chunks": lambda: pa.concat_tables([ARROW.slice(0, 1), ARROW.slice(1, 3)]),
    "a record batch": lambda: ARROW.to_batches()[0],
    "a stream": lambda: Stream(ARROW),
}


def contents(table: RawTable):
    return {name: (c.kind, c.levels, c.values.tolist(), c.missing.tolist()) for name, c in table.columns.items()}


@pytest.mark.parametrize("kind", MADE)
def test_each_holds_the_same_columns(kind):
    table = as_table(MADE[kind]())
    expected = contents(RawTable.of(COLUMNS))
    found = contents(table)
    assert list(found) == list(COLUMNS)
    assert repr(found) == repr(expected)  # NaN is not equal to itself
    assert (
        table.columns["d"].values[0] == 86_400 * date(2024, 1, 31).toordinal() - 86_400 * date(1970, 1, 1).toordinal()
    )


@pytest.mark.parametrize("kind", MADE)
def test_columns_go_by_name_and_others_are_left(kind):
    some = as_table(MADE[kind](), columns=["i", "k"])
    assert set(some.names) == {"i", "k"}
    with pytest.raises(TableError, match="no column 'nothing'"):
        as_table(MADE[kind](), columns=["i", "nothing"])


def test_arrays_have_columns_by_number():
    table = as_table(np.array([[1.0, 2.0], [3.0, np.nan]]))
    assert table.names == ("x0", "x1")
    assert table.columns["x1"].missing.tolist() == [False, True]
    texts = as_table(np.array([["u", 1], [None, 2]], dtype=object))
    assert (texts.columns["x0"].kind, texts.columns["x1"].kind) == ("text", "number")
    assert as_table(np.array([["u"], ["v"]])).columns["x0"].levels == ("u", "v")


def test_a_path_is_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,k\n1,a\n2,b\n")
    assert (
        contents(as_table(path))
        == contents(as_table(str(path)))
        == contents(RawTable.of({"x": [1, 2], "k": ["a", "b"]}))
    )


def test_a_raw_table_is_itself():
    table = RawTable.of(COLUMNS)
    assert as_table(table) is table
    assert as_table(table, columns=["k"]).columns["k"] is table.columns["k"]


@pytest.mark.parametrize(
    ("X", "says"),
    [
        (np.ones(3), "an array of shape .3,. is no table"),
        (3, "X is of type builtins.int; expected a pandas or polars"),
        ([1, 2], "a list is a table where it has rows"),
        (pd.Series([1, 2]), "a Series is one column"),
        ({"x": [1, 2], "y": [1]}, "have one length"),
        ({"x": [1, "a"]}, "column 'x' holds values of more than one kind"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "column names must differ"),
        (pd.DataFrame({"a": []}), "it has no rows"),
        ({"x": [3 + 1j]}, "column 'x'"),
    ],
)
def test_what_is_no_table_is_said(X, says):
    with pytest.raises(TableError, match=says):
        as_table(X)
