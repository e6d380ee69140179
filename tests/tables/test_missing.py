"""Words that stand for a missing value are one rule: in files of any kind, frames, arrays, rows, stores, pieces."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

import fullbatch as fb
from fullbatch.errors import InputError, TableWarning
from fullbatch.tables.frames import as_table
from fullbatch.tables.in_pieces import TableInPieces
from fullbatch.tables.raw import Conventions, MissingWords, RawTable
from fullbatch.tables.reading import read_table
from fullbatch.tables.store import convert

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
M = 600
WORDS = ["-999", "9999-12-31", "7.5"]
FAR = np.datetime64("9999-12-31", "s")


def columns(marked: bool):
    """Numbers, whole numbers, short floats, levels, dates: with marks for missing values, or with the gaps."""
    rng = np.random.default_rng(0)
    gaps = rng.random((4, M)) < 0.2
    x, f = rng.normal(size=M), (rng.integers(-400, 400, M) / 64).astype(np.float32)
    few, day = rng.integers(0, 6, M), np.datetime64("2020-01-01", "s") + rng.integers(0, 9 * 10**7, M)
    late = np.where(np.where(gaps[0], 0.5, x) + few > 3, "yes", "no")
    one = {"x": x, "f": f, "few": few, "day": day}
    marks = {"x": -999.0, "f": 7.5, "few": -999, "day": FAR}
    found = {}
    for (name, values), gap in zip(one.items(), gaps, strict=True):
        if marked:
            found[name] = np.where(gap, marks[name], values).astype(values.dtype)
        else:
            found[name] = pd.Series(values).mask(pd.Series(gap))
    return {**found, "late": late}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("marked")
    frame = pd.DataFrame(columns(marked=True))
    frame.to_csv(folder / "table.csv", index=False)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    parquet.write_table(table, folder / "table.parquet", row_group_size=100)
    feather.write_feather(table, str(folder / "table.feather"))
    return folder


ROADS = {
    "csv": lambda folder: folder / "table.csv",
    "parquet": lambda folder: folder / "table.parquet",
    "feather": lambda folder: folder / "table.feather",
    "pandas": lambda folder: pd.DataFrame(columns(marked=True)),
    "polars": lambda folder: polars.from_arrow(pa.table(columns(marked=True))),
    "arrow": lambda folder: pa.table(columns(marked=True)),
    "dict": lambda folder: columns(marked=True),
    "records": lambda folder: pd.DataFrame(columns(marked=True)).pipe(
        lambda frame: np.asarray(frame.to_records(index=False))
    ),
    "read before": lambda folder: read_table(folder / "table.parquet"),
    "read with words": lambda folder: read_table(folder / "table.csv", missing=WORDS),
}


def trained(X, **more):
    return fb.TableClassifier((4,), epochs=2, random_state=0, **more).fit(X, target="late")


@pytest.fixture(scope="module")
def expected():
    return trained(pd.DataFrame(columns(marked=False)))


@pytest.fixture(scope="module")
def model(folder):
    return trained(ROADS["parquet"](folder), missing=WORDS)


def same_bits(found, expected):
    return all(map(np.array_equal, found.estimator_.coefs_, expected.estimator_.coefs_))


@pytest.mark.parametrize("road", ROADS)
def test_a_mark_is_a_gap_on_every_road(folder, expected, model, road):
    X = ROADS[road](folder)
    found = trained(X, missing=WORDS)
    assert same_bits(found, expected)
    assert [column["missing"] for column in found.columns_] == [column["missing"] for column in expected.columns_]
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(pd.DataFrame(columns(marked=False))))


def test_without_the_words_they_are_numbers(folder, expected):
    assert not same_bits(trained(ROADS["parquet"](folder)), expected)


@pytest.mark.parametrize("road", ["csv", "parquet", "feather", "dict"])
def test_a_store_has_the_gaps(folder, tmp_path, road):
    def made(data, name, **more):
        convert(data, tmp_path / name, "late", seed=3, **more)
        return fb.open_store(tmp_path / name)

    parquet.write_table(pa.table(columns(marked=False)), tmp_path / "gaps.parquet")
    with made(ROADS[road](folder), "a", missing=WORDS) as found, made(tmp_path / "gaps.parquet", "b") as expected:
        for one, other in zip(found.train.arrays(), expected.train.arrays(), strict=True):
            np.testing.assert_array_equal(one, other)
        assert [column["missing"] for column in found.content["columns"]] == [
            column["missing"] for column in expected.content["columns"]
        ]
        with pytest.raises(InputError, match=r"missing=\['7'\] goes with a table, and not with a store"):
            fb.TableClassifier(missing=["7"]).fit(found)


@pytest.mark.parametrize("road", ["csv", "parquet", "feather"])
def test_files_in_pieces_have_the_gaps(folder, model, expected, road):
    with TableInPieces(model.network_, [ROADS[road](folder)]) as rows:
        found = np.concatenate([part.made for part in rows.predicted(100)])
    np.testing.assert_allclose(found, expected.predict_proba(pd.DataFrame(columns(marked=False))), atol=1e-6)


def test_a_file_larger_than_its_memory_has_the_gaps(folder):
    with pytest.warns(TableWarning, match="a store is made"):
        found = trained(folder / "table.parquet", missing=WORDS, memory=1000)
    missing = {column["name"]: column["missing"] for column in found.columns_}
    assert min(missing[name] for name in ("x", "f", "few", "day")) > 60


def test_a_row_of_a_predictor_has_the_gaps(model):
    predictor, batch = fb.predictor(model), model.predict_proba
    nothing = predictor(dict.fromkeys(["x", "f", "few", "day"]))
    plain = {"x": -999.0, "f": 7.5, "few": -999, "day": datetime.datetime(9999, 12, 31)}
    of_numpy = {
        name: values[columns(marked=True)[name] == plain[name]][0]
        for name, values in columns(True).items()
        if name in plain
    }
    for row in (plain, {**plain, "x": -999, "few": -999.0}, of_numpy):
        np.testing.assert_array_equal(predictor(row), nothing)
        np.testing.assert_array_equal(batch({name: [value] for name, value in row.items()})[0], nothing)
    other = {**plain, "x": 7.25, "few": 4, "day": datetime.datetime(2021, 1, 1)}
    assert (predictor(other) != nothing).any()


def test_a_model_file_and_a_copy_know_the_words(model, folder, tmp_path):
    fb.save(model, tmp_path / "a.model")
    loaded = fb.load(tmp_path / "a.model")
    assert loaded.missing == WORDS
    X = ROADS["parquet"](folder)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert same_bits(loaded.fit(X, target="late"), model)


def test_texts_are_compared_as_they_are_written_and_truths_are_none():
    conventions = Conventions(MissingWords.of(["7", "1"]))
    table = as_table(
        {"text": ["7", "7.0", "07", " 7 "], "truth": [True, False, True, None], "number": [7, 7.5, 1, 2]},
        conventions=conventions,
    )
    assert table.column("text").missing.tolist() == [True, False, False, True]
    assert table.column("truth").missing.tolist() == [False, False, False, True]
    assert table.column("number").missing.tolist() == [True, False, True, False]
    again = RawTable.of({"text": ["7", "x"], "truth": [True, False], "n": [1, 5]}).with_missing(conventions.missing)
    assert [one.missing.tolist() for one in again.columns.values()] == [[True, False], [False, False], [True, False]]


def test_declared_levels_and_kinds_of_numbers():
    conventions = Conventions(MissingWords.of(["-999", "0.1", "1970-01-01"]))
    table = as_table(
        {
            "declared": pd.Series([1, -999, 2, 1]).astype("category"),
            "short": np.array([0.1, -999, 1, 2], np.float32),
            "half": np.array([0.1, -999, 1, 2], np.float16),
            "unsigned": np.array([999, 1, 2, 3], np.uint16),
            "decimal": pa.array([-999, 1, 2, 3], pa.int64()).cast(pa.decimal128(21, 2)),
            "day": np.array(["1970-01-01", "1970-01-02", "2024-01-01", "NaT"], "M8[D]"),
            "days": pd.Series(pd.to_datetime(["1970-01-01", "1970-01-02", "2024-01-01", None])).astype("category"),
            "clock": [datetime.time(0), datetime.time(1), datetime.time(2), None],
        },
        conventions=conventions,
    )  # fmt: skip
    missing = {name: np.flatnonzero(column.missing).tolist() for name, column in table.columns.items()}
    assert missing == {
        "declared": [1], "short": [0, 1], "half": [0, 1], "unsigned": [], "decimal": [0], "day": [0, 3],
        "days": [0, 3], "clock": [3],
    }  # fmt: skip


def test_a_csv_column_that_turns_to_text_keeps_its_texts(tmp_path):
    """Among whole numbers 999 is the number of the word; the column is one of texts in the end, and 999 is no word."""
    path = tmp_path / "late.csv"
    path.write_text("a,b\n" + "999,1\n" * 300_000 + "x,2\n")
    column = read_table(path, missing=["999.0"]).column("a")
    assert column.levels == ("999", "x")
    assert not column.missing.any()


def test_only_what_is_given_is_missing():
    table = {"a": ["NA", "x", ""] * 40, "late": ["yes", "no", "no"] * 40}
    kept = fb.TableClassifier((2,), epochs=1, keep_missing_words=True).fit(table, target="late")
    usual = fb.TableClassifier((2,), epochs=1).fit(table, target="late")
    assert [model.columns_[0]["missing"] for model in (kept, usual)] == [40, 80]
