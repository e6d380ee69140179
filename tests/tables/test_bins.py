"""Bins beside a number: where their edges lie, which columns have them, and that a part-wise reading finds the same."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fullbatch.errors import ModelFileError
from fullbatch.tables import bins
from fullbatch.tables.bins import Sample, bin_of, edges_of
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.raw import RawTable
from fullbatch.tables.report import report

RNG = np.random.default_rng(0)


def table(m: int = 2000, columns: int = 1) -> dict:
    steps = {f"steps{j or ''}": RNG.integers(0, 200, m) / 4 for j in range(columns)}
    return {**steps, "measured": RNG.normal(size=m), "y": RNG.integers(0, 2, m)}


def test_few_values_have_a_bin_each():
    values = np.repeat([1.0, 2.0, 4.0, 8.0], 5)
    edges = edges_of(values)
    assert edges == (1.5, 3.0, 6.0)
    assert bin_of(np.array([-9, 1, 1.5, 2.9, 3, 8, 99, np.nan]), edges).tolist() == [0, 0, 1, 1, 2, 3, 3, 4]


def test_many_values_share_bins_evenly_and_a_frequent_one_takes_one():
    values = np.concatenate([np.zeros(9000), np.tile(np.arange(1.0, 251.0), 4)])
    edges = edges_of(values)
    assert len(edges) < bins.BINS
    found = bin_of(values, edges)
    assert (found[values == 0] == 0).all()
    others = np.bincount(found[values > 0])[1:]
    assert len(others) > 4
    assert others.max() <= -(-len(values) // bins.BINS) + 4


@pytest.mark.parametrize("values", [RNG.normal(size=500), np.repeat([1.0, 2.0], 300), np.full(9, np.nan), np.empty(0)])
def test_values_that_hardly_repeat_or_are_two_have_none(values):
    assert edges_of(values) == ()


def test_neighbouring_floats_are_told_apart():
    one = np.float64(1.0)
    values = np.repeat([one, np.nextafter(one, 2), 3.0], 9)
    assert bin_of(values, edges_of(values)).tolist() == [0] * 9 + [1] * 9 + [2] * 9


def test_a_sample_is_the_same_however_it_is_cut():
    values = RNG.normal(size=3 * bins.SAMPLED + 17)
    whole = Sample.of(values)
    assert bins.SAMPLED / 2 <= len(whole) <= bins.SAMPLED
    parts = Sample()
    for start, stop in [(0, 1), (1, 5), (5, 9000), (9000, 9000), (9000, len(values))]:
        parts.add(values[start:stop])
    np.testing.assert_array_equal(parts.total(), whole)
    np.testing.assert_array_equal(whole, values[::4])


def test_a_number_whose_values_repeat_has_its_bin_beside_it():
    columns = table()
    columns["steps"][:300] = np.nan
    encoding = TableEncoding.learn(RawTable.of(columns), "y")
    assert encoding.numbers == ("steps", "measured")
    assert list(encoding.binned) == ["steps"]
    assert encoding.indicators == ("steps",)
    (category,) = encoding.categories
    X = encoding.encode(RawTable.of(columns))
    ones = X.ones[:, 0].astype(int)
    assert (ones[:300] == 0).all()  # of a missing number, none
    np.testing.assert_array_equal(ones[300:] - 3, bin_of(columns["steps"], category.edges)[300:])
    said = {one.name: one.why for one in report(RawTable.of(columns), "y").columns}
    assert said["steps"] == "numbers, and their bins"
    assert said["measured"] == "numbers"


@pytest.mark.parametrize("case", ["few rows", "many rows", "numeric", "many columns", "few training rows"])
def test_who_has_no_bins(case, monkeypatch):
    options = {}
    if case == "many rows":
        monkeypatch.setattr(bins, "MOST_ROWS", 1999)
    if case == "many columns":
        monkeypatch.setattr(bins, "MOST_COLUMNS", 2)
    if case == "numeric":
        options["numeric"] = ["steps"]
    raw = RawTable.of(table(999 if case == "few rows" else 2000, 3 if case == "many columns" else 1))
    rows = np.arange(999) if case == "few training rows" else None
    encoding = TableEncoding.learn(raw, "y", rows=rows, **options)
    assert not encoding.categories
    found = report(raw, "y", **options, **({"binned": ()} if rows is not None else {}))
    assert not any("bins" in one.why for one in found.columns)


def test_bins_go_through_json_and_damaged_ones_are_refused():
    encoding = TableEncoding.learn(RawTable.of(table()), "y")
    meta, arrays = encoding.to_dict()
    meta = json.loads(json.dumps(meta))
    assert TableEncoding.from_dict(meta, arrays).categories == encoding.categories
    (own,) = meta["categories"]
    for damage in (
        {"edges": own["edges"][:-1]},
        {"edges": own["edges"][::-1]},
        {"edges": [*own["edges"][:-1], float("nan")]},
        {"edges": [*own["edges"][:-1], "a"]},
        {"levels": own["levels"][1:]},
        {"missing": True},
        {"part": "hour"},
        {"part": None},
    ):
        with pytest.raises(ModelFileError, match="damaged"):
            TableEncoding.from_dict({**meta, "categories": [{**own, **damage}]}, arrays)


def test_the_encoding_of_rows_that_follow_is_of_the_same_bins():
    encoding = TableEncoding.learn(RawTable.of(table()), "y")
    far = {"steps": np.array([-1e9, 1e9]), "measured": np.zeros(2)}
    ones = encoding.encode(RawTable.of(far)).ones[:, 0].astype(int)
    assert ones.tolist() == [2, 1 + encoding.binned["steps"]]
    assert replace(encoding).binned == encoding.binned
