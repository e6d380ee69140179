"""What estimators make of what they are handed: its numbers, their type, and the names of its columns."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from typing import Any

import array_api_strict
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from fullbatch import LogisticRegression, MLPRegressor
from fullbatch.estimators.inputs import labels_at, read_inputs, read_target, read_weight
from fullbatch.machine import arrays, places

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).normal(size=(30, 3))
Y = np.arange(30) % 3


# --- Labels in X's library -------------------------------------------------------------------------------------------


def of_torch(values: Any) -> Any:
    return pytest.importorskip("torch").as_tensor(values)


def of_jax(values: Any) -> Any:
    return pytest.importorskip("jax.numpy").asarray(values)


def of_strict(values: Any) -> Any:
    return array_api_strict.asarray(values, device=array_api_strict.Device("device1"))


@pytest.mark.parametrize("library", [of_torch, of_jax, of_strict])
@pytest.mark.parametrize(
    "labels",
    [
        np.array([1, 2, 10_000_000_000]),
        np.array([1, 2, 2**63 + 5], dtype=np.uint64),
        np.array([1, 2, 60_000], dtype=np.uint16),
        np.array([1, 2, 2**31 + 5], dtype=np.uint32),
        np.array([-1, 0, 7], dtype=np.int8),
        np.array([1.0, 2.0, 16_777_217.0]),
        np.array([1, 2, 3], dtype=np.float16),
        np.array([1, 2, 70_000], dtype=">i4"),
        np.array(["a", "b", "c"]),
        np.array(["a", "b", "c"], dtype=object),
    ],
    ids=lambda labels: f"{labels.dtype.str}-{labels[-1]}",
)
def test_labels_come_back_from_any_library(library: Any, labels: np.ndarray) -> None:
    table, y = library(X.astype("float32")), labels[Y]
    model = LogisticRegression().fit(table, y)
    predicted = arrays.to_host(model.predict(table))
    np.testing.assert_array_equal(np.unique(predicted), labels)
    assert predicted.tolist() == LogisticRegression().fit(X.astype("float32"), y).predict(X).tolist()
    assert model.score(table, y) == np.mean(predicted == y)


def test_labels_that_fit_stay_in_the_library_of_x() -> None:
    torch = pytest.importorskip("torch")
    home = places.place_of(torch.ones(1))
    for dtype, there in (("int64", torch.int64), ("uint8", torch.uint8), ("bool", torch.bool)):
        assert labels_at(home, np.array([0, 1], dtype=dtype)).dtype is there
    # Later versions of torch take from uint16 to uint64 too.
    assert labels_at(home, np.array([0, 1], dtype="uint16")).dtype in (torch.int64, torch.uint16)
    large = labels_at(home, np.array([0, 2**63 + 5], dtype="uint64"))
    assert large is None or large.tolist() == [0, 2**63 + 5]
    assert labels_at(home, np.array(["a"])) is None


# --- Byte order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["f4", "f8"])
def test_numbers_in_the_other_byte_order_keep_their_type(code: str) -> None:
    table = X.astype("=" + code)
    swapped = table.astype(table.dtype.newbyteorder("S"))
    assert not swapped.dtype.isnative
    plain = LogisticRegression().fit(table, Y)
    model = LogisticRegression().fit(swapped, Y.astype(">i2"))
    assert model.coef_.dtype == np.dtype(code)
    np.testing.assert_array_equal(model.coef_, plain.coef_)
    np.testing.assert_array_equal(model.predict(swapped), plain.predict(table))
    assert read_inputs(LogisticRegression(), swapped, reset=True).X.like.dtype == np.dtype(code)


def test_targets_and_weights_are_in_this_machines_byte_order() -> None:
    for dtype in (">f4", "<f4", ">i8", "<i8", ">u2", "<U1", ">U1"):
        values = np.arange(5).astype(dtype)
        target = read_target(MLPRegressor(), values, 5)
        assert target.dtype.isnative
        assert target.tolist() == values.tolist()
    assert read_weight(np.ones(5, ">f8"), 5, "float32").dtype == np.float32


# --- Dates and times -------------------------------------------------------------------------------------------------

DATES = [dt.datetime(2024, 1, 1), None] * 15
STAMPS, SPANS = pd.to_datetime(DATES), pd.to_timedelta(range(30), unit="s")
TIMES: dict[str, Any] = {
    "pandas": STAMPS,
    "pandas with a zone": pd.to_datetime(DATES, utc=True),
    "pandas durations": SPANS,
    "pandas periods": pd.period_range("2024", periods=30, freq="D"),
    "pandas intervals of dates": pd.interval_range(pd.Timestamp("2024"), periods=30),
    "pandas categories of dates": pd.Categorical(STAMPS),
    "pandas objects": pd.Series(DATES, dtype=object),
    "pandas objects, dates": pd.Series([dt.date(2024, 1, 1)] * 30, dtype=object),
    "pandas objects, NumPy's": pd.Series([np.datetime64("2024")] * 30, dtype=object),
    "pandas on Arrow": pd.Series(DATES, dtype="timestamp[us][pyarrow]"),
    "pandas dates on Arrow": pd.Series([dt.date(2024, 1, 1)] * 30, dtype=pd.ArrowDtype(pa.date32())),
    "polars": pl.Series(DATES),
    "polars dates": pl.Series([dt.date(2024, 1, 1)] * 30),
    "polars times": pl.Series([dt.time(3)] * 30),
    "polars durations": pl.Series([dt.timedelta(1)] * 30),
    "arrow": pa.array(DATES),
    "arrow dates": pa.array([dt.date(2024, 1, 1)] * 30),
    "arrow times": pa.array([dt.time(3)] * 30),
    "arrow durations": pa.array([dt.timedelta(1)] * 30),
    "arrow dictionary of dates": pa.array(DATES).dictionary_encode(),
}


def frame_of(kind: str, column: Any, **others: Any) -> Any:
    library = kind.split()[0].rstrip(",")
    return {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.table}[library]({**others, "when": column})


@pytest.mark.parametrize("others", [{}, {"x": np.arange(30.0)}], ids=["alone", "beside numbers"])
@pytest.mark.parametrize("kind", TIMES)
def test_dates_and_times_are_no_numbers(kind: str, others: dict[str, Any]) -> None:
    """scikit-learn 1.9.1 takes what NumPy casts as integers in silence (NaT: -9.2e18), all that Arrow has among it."""
    table = frame_of(kind, TIMES[kind], **others)
    with pytest.raises(ValueError, match=r"^X has column 'when' of .*: an estimator takes numbers.*Encode them first"):
        LogisticRegression().fit(table, Y)
    model = LogisticRegression().fit(X[:, : 1 + len(others)], Y)
    with pytest.raises(ValueError, match=r"^X has column 'when' of "):
        model.predict(table)


@pytest.mark.parametrize(
    "table",
    [
        np.array(DATES, dtype="M8[us]")[:, np.newaxis],
        np.arange(30).astype("m8[s]")[:, np.newaxis],
        np.array([[date] for date in DATES], dtype=object),
        np.array([[dt.timedelta(1)]] * 30, dtype=object),
        [[date] for date in DATES],
        [[np.datetime64(date, "us")] for date in DATES],
    ],
    ids=lambda table: f"{type(table).__name__} {getattr(table, 'dtype', '')}",
)
def test_arrays_and_lists_of_times_are_refused(table: Any) -> None:
    with pytest.raises(ValueError, match=r"^X has column 0 of "):
        LogisticRegression().fit(table, Y)


@pytest.mark.parametrize("y", [SPANS, pl.Series([dt.timedelta(1)] * 30), pa.array([dt.date(2024, 1, 1)] * 30)])
def test_a_target_and_weights_of_times_are_refused(y: Any) -> None:
    with pytest.raises(ValueError, match=r"^y is of .*: an estimator takes numbers"):
        MLPRegressor(max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match=r"^sample_weight is of "):
        MLPRegressor(max_iter=1).fit(X, X[:, 0], sample_weight=y)


def test_a_class_may_be_a_date_and_may_not_be_missing() -> None:
    with pytest.raises(ValueError, match=r"^Input y contains NaT. The first is in row 1"):
        LogisticRegression().fit(X, STAMPS)
    days = np.array(["2024-01-01", "2024-02-01", "2024-03-01"], dtype="M8[D]")
    assert LogisticRegression().fit(X, days[Y]).predict(X).dtype == days.dtype


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("pandas", pd.Categorical([10, 20, 70] * 10)),
        ("pandas", [10, 20, 70] * 10),
        ("pandas", ["10", "20", "70"] * 10),
        ("polars", pl.Series(["10", "20", "70"] * 10)),
        ("polars", pl.Series(["10", "20", "70"] * 10, dtype=pl.Categorical)),
        ("polars", pl.Series(["10", "20", "70"] * 10).cast(pl.Decimal(10, 2))),
        ("arrow", pa.array([10, 20, 70] * 10).dictionary_encode()),
        ("arrow", pa.chunked_array([[10, 20, 70] * 4, [10, 20, 70] * 6])),
    ],
)
def test_categories_and_texts_of_numbers_are_these_numbers_and_no_codes(kind: str, column: Any) -> None:
    table = frame_of(kind, column)
    read = read_inputs(LogisticRegression(), table, reset=True).X
    np.testing.assert_array_equal(read.reader()(slice(0, 30)), [[10, 20, 70] * 10])


@pytest.mark.parametrize(
    "column",
    [
        pl.Series(["a", "b", "c"] * 10),
        pl.Series(["a", "b", "c"] * 10, dtype=pl.Enum(["a", "b", "c"])),
        pl.Series([[1.0], [2.0, 3.0], None] * 10),
        pl.Series([b"a"] * 30),
    ],
)
def test_a_column_of_arrow_that_is_no_number_is_named(column: pl.Series) -> None:
    for table in (pl.DataFrame({"kind": column}), pa.table(pl.DataFrame({"kind": column}))):
        with pytest.raises(ValueError, match=r"^X has column 'kind' of .*takes numbers.*encode it first"):
            LogisticRegression().fit(table, Y)


def test_missing_values_of_arrow_are_named() -> None:
    for values in ([1, None, 3] * 10, [True, None, False] * 10, [1.5, None, 2.5] * 10, [None] * 30):
        for table in (pl.DataFrame({"x": values}), pa.table({"x": values}), pa.record_batch({"x": values})):
            with pytest.raises(ValueError, match=r"contains NaN\. The first is in row [01], column 0 \('x'\)"):
                LogisticRegression().fit(table, Y)


# --- Names -----------------------------------------------------------------------------------------------------------


class Stream:
    """A table of a library that nobody knows, behind Arrow's protocol."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


class Batch:
    def __init__(self, table: pa.Table) -> None:
        self.batch = table.combine_chunks().to_batches()[0]

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self.batch.__arrow_c_array__(requested_schema)


class Exchange:
    """A frame of a library that has the older protocol alone."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> Any:
        return self.table.__dataframe__(nan_as_null, allow_copy)


NAMED: dict[str, Any] = {
    "table": lambda table: table,
    "record batch": lambda table: table.to_batches()[0],
    "reader": lambda table: table.to_reader(),
    "stream": Stream,
    "array": Batch,
    "exchange": Exchange,
    "polars": pl.from_arrow,
    "pandas": lambda table: table.to_pandas(),
    "pandas on Arrow": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    "pandas with gaps": lambda table: table.to_pandas().convert_dtypes(),
}


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_names_and_types_of_columns_stay(kind: str, dtype: str) -> None:
    table, of = pa.table(dict(zip("abc", X.T.astype(dtype), strict=True))), NAMED[kind]
    model = LogisticRegression().fit(of(table), Y)
    assert model.coef_.dtype == dtype
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    plain = LogisticRegression().fit(X.astype(dtype), Y)
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-4)
    assert model.score(of(table), Y) == plain.score(X.astype(dtype), Y)
    for wrong in (table.select(["c", "b", "a"]), table.rename_columns(["a", "b", "d"])):
        with pytest.raises(ValueError, match="The feature names should match those that were passed during fit"):
            model.predict(of(wrong))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(of(table.select(["a", "b"])))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X.astype(dtype))
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        model.predict(pl.from_arrow(table.slice(0, 0)))


def test_columns_of_several_types_become_what_numpy_makes_of_them() -> None:
    table = {"a": np.ones(30, "float32"), "b": np.ones(30, "int8")}
    for column, dtype in (("int8", "float32"), ("bool", "float32"), ("float16", "float32"), ("int64", "float64")):
        table["b"] = np.ones(30, column)
        for made in (pa.table(table), pd.DataFrame(table)):
            assert read_inputs(LogisticRegression(), made, reset=True).dtype == dtype, (column, type(made))


MEMORY = """
import resource, sys
import numpy as np, pandas, polars, pyarrow
from fullbatch import LogisticRegression
from fullbatch.estimators.inputs import read_inputs

def table(m):
    columns = {str(j): np.ones(m, "float32") for j in range(20)}
    return polars.DataFrame(columns) if sys.argv[1] == "polars" else pyarrow.table(columns)

read_inputs(LogisticRegression(), table(10), reset=True)
X = table(400_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kept = read_inputs(LogisticRegression(), X, reset=True)
print(kept.dtype, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (400_000 * 20 * 4))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize("library", ["polars", "arrow"])
def test_float32_of_polars_and_arrow_takes_its_own_size_once(library: str) -> None:
    """As float64 it took three times its size, since scikit-learn looks at the types of pandas's columns alone."""
    done = subprocess.run([sys.executable, "-c", MEMORY, library], capture_output=True, text=True, check=True)
    dtype, times = done.stdout.split()
    assert dtype == "float32"
    assert float(times) < 1.4
