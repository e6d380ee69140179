"""Tables in memory as raw tables: the same columns, whatever library holds them."""

from __future__ import annotations

from datetime import date
from importlib.util import find_spec

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from fullbatch import TableClassifier
from fullbatch.errors import TableError, TableWarning
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


N = 40
ODD = {"lists": [[1, 2]] * N, "sets": [{1, 2}] * N, "bytes": [b"ab"] * N, "dicts": [{"a": 1}] * N}


def beside_x(values):
    rng = np.random.default_rng(3)
    return {"x": rng.random(N), "c": values, "y": ["a", "b"] * (N // 2)}


@pytest.mark.parametrize("make", [pd.DataFrame, pa.table, dict], ids=["pandas", "arrow", "dict"])
@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
def test_a_column_of_a_type_without_meaning_is_left_out_as_of_a_file_and_said(values, make):
    if make is pa.table and isinstance(values[0], set):
        values = pa.array(values, pa.list_(pa.int64()))
    X = make(beside_x(values))
    assert set(as_table(X).names) == {"x", "y"}
    assert as_table(X).left_out["c"].startswith("it holds ")
    with pytest.warns(TableWarning, match="1 column.s. left out: 'c': it holds .*drop names those"):
        model = TableClassifier(epochs=1, random_state=0).fit(X, target="y")
    assert [one["kind"] for one in model.columns_ if one["name"] == "c"] == ["left out"]
    quiet = TableClassifier(epochs=1, random_state=0, drop=["c"]).fit(X, target="y")  # a warning is an error
    assert quiet.predict(pd.DataFrame(beside_x(values))).shape == (N,)


def test_a_column_of_many_kinds_is_no_error_where_it_is_dropped_or_of_no_use():
    mixed = [{"a": 1}, 3] * (N // 2)
    for X in (beside_x(mixed), pd.DataFrame(beside_x(mixed))):
        with pytest.raises(TableError, match=r"column 'c' holds values of more than one kind.*without it"):
            TableClassifier(epochs=1).fit(X, target="y")
        model = TableClassifier(epochs=1, random_state=0, drop=["c"]).fit(X, target="y")
        assert model.feature_names_in_.tolist() == ["x"]
        assert model.predict(X).shape == (N,)


def test_runs_of_rows_are_rows():
    from pyarrow import compute

    runs = pa.array(np.repeat([5, 7, 5, 9], N // 4))
    found = as_table({"n": compute.run_end_encode(runs), "t": compute.run_end_encode(runs.cast(pa.string()))})
    assert contents(found) == contents(RawTable.of({"n": runs, "t": runs.cast(pa.string())}))
    assert contents(as_table(pa.table({"n": compute.run_end_encode(runs)})))["n"] == contents(found)["n"]


NUMBERS = np.array([3, 1, 0, 2])
SAME = {  # what is given, and what it is the same as
    "a sparse column": (pd.arrays.SparseArray(NUMBERS), NUMBERS),
    "sparse numbers with gaps": (pd.arrays.SparseArray([1.5, np.nan, np.nan, 2.0]), [1.5, None, None, 2.0]),
    "intervals": (pd.arrays.IntervalArray.from_breaks([0, 1, 2, 3, 4]), ["(0, 1]", "(1, 2]", "(2, 3]", "(3, 4]"]),
    "bins of pandas.cut": (pd.cut(NUMBERS, [-1, 1, 2]), [None, "(-1, 1]", "(-1, 1]", "(1, 2]"]),
    "long floats": (NUMBERS.astype(np.longdouble), NUMBERS.astype(float)),
    "big-endian integers": (NUMBERS.astype(">i4"), NUMBERS),
    "big-endian floats": (NUMBERS.astype(">f8") / 2, NUMBERS / 2),
    "big-endian dates": (NUMBERS.astype(">M8[D]"), NUMBERS.astype("M8[D]")),
    "months": (NUMBERS.astype("M8[M]"), NUMBERS.astype("M8[M]").astype("M8[D]")),
    "hours": (NUMBERS.astype("m8[h]"), NUMBERS.astype("m8[h]").astype("m8[s]")),
    "every 25 seconds": (NUMBERS.astype("M8[25s]"), NUMBERS.astype("M8[25s]").astype("M8[s]")),
}


@pytest.mark.parametrize(("given", "same"), SAME.values(), ids=SAME)
def test_types_that_arrow_does_not_take_are_what_they_say(given, same):
    expected = repr(contents(RawTable.of({"c": pa.array(same, from_pandas=True)})))
    assert repr(contents(as_table({"c": given}))) == expected
    if getattr(given.dtype, "kind", "") not in "Mm":  # pandas has units of its own.
        assert repr(contents(as_table(pd.DataFrame({"c": given})))) == expected


def test_arrays_with_names_are_tables_and_columns_may_be_of_any_library():
    rows = np.array([(1.5, 2, "a"), (2.5, 3, "b")], dtype=[("x", ">f8"), ("i", "<i2"), ("k", "U1")])
    expected = contents(RawTable.of({"x": [1.5, 2.5], "i": [2, 3], "k": ["a", "b"]}))
    assert contents(as_table(rows)) == expected
    strict = pytest.importorskip("array_api_strict")
    columns = {"x": strict.asarray([1.5, 2.5]), "i": [2, 3], "k": ["a", "b"]}
    assert contents(as_table(columns)) == expected


@pytest.mark.parametrize(
    ("X", "says"),
    [
        (pl.DataFrame({"x": [1, 2]}).lazy(), r"LazyFrame; .*Read it first: X.collect\(\)"),
        (pl.DataFrame({"x": pl.Series([1, 2]).cast(pl.Int128)}), "cannot read this DataFrame .*cast its columns"),
    ],
    ids=["lazy", "Int128"],
)
def test_frames_of_polars_that_arrow_has_no_way_to_read_are_said(X, says):
    with pytest.raises(TableError, match=says):
        as_table(X)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn"])
def test_short_floats_that_numpy_has_not_are_read_as_they_are(name):
    """From the package that adds them to NumPy, from JAX's arrays, which have its types, and from torch."""
    values = [1.5, -2.0, 0.25, 448.0]
    made = {}
    if find_spec("ml_dtypes"):
        import ml_dtypes

        made["numpy"] = np.array(values).astype(getattr(ml_dtypes, name))
    if find_spec("torch"):
        import torch

        made["torch"] = torch.tensor(values).to(getattr(torch, name))
    if not made:
        pytest.skip("neither ml_dtypes nor torch is installed")
    for array in made.values():
        column = as_table({"a": array}).column("a")
        assert column.values.tolist() == values
        assert column.values.dtype == np.float32
        assert as_table(array[:, None]).column("x0").values.tolist() == values
