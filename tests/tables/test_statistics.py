"""ColumnStatistics: against counting by hand, and a sum over parts against the whole."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullbatch.errors import TableError
from fullbatch.tables import statistics
from fullbatch.tables.raw import RawColumn, RawTable
from fullbatch.tables.statistics import ColumnStatistics, Shape


def of(values, rows=None) -> ColumnStatistics:
    return ColumnStatistics.of(RawTable.of({"c": values}).column("c"), rows)


def test_numbers():
    found = of([3, None, 0, -2, 3])
    assert (found.rows, found.missing, found.present, found.kind, found.whole) == (5, 1, 4, "number", True)
    assert (found.least, found.greatest, found.sum, found.squares, found.zeros) == (-2, 3, 4, 22, 1)
    assert found.levels == {-2: 1, 0: 1, 3: 2}
    fractions = of([0.5, 1.0, 2.0])
    assert (fractions.whole, fractions.levels, fractions.beyond) == (False, {}, 3)


def test_whole_numbers_of_any_size():
    pairs = [([-128, 127], np.int8), ([-(2**63), 2**63 - 1], np.int64), ([0, 2**64 - 1], np.uint64)]
    pairs += [([2**64 - 2, 2**64 - 1], np.uint64), ([-(2**63), 2 - 2**63], np.int64), ([1, 2**53], float)]
    for values, dtype in pairs:
        found = ColumnStatistics.of(RawColumn(np.array(values, dtype)))
        assert found.levels == dict.fromkeys(values, 1)
        assert (found.least, found.greatest) == tuple(values)
    assert of([1.0, 2.0**54]).whole is False


def test_texts_and_their_shapes():
    found = of(["1.5", None, "x", "2024-01-31", "1e3", "12,5", "31.01.2024", "10:20 AM", "$1,234.50", "12.5%"])
    assert found.kind == "text"
    assert found.shapes["number"] == Shape(2, (2, "x"))
    assert found.shapes["date"] == Shape(3, (0, "1.5"))
    assert found.shapes["marked"].count == 5  # 1.5 and 1e3 too
    assert of(["1", None, "2"]).shapes["number"] == Shape(2, None)


def test_booleans_and_nothing():
    assert of([True, None, True]).levels == {True: 2}
    empty = of([None, None])
    assert (empty.rows, empty.missing, empty.kind, empty.counting) == (2, 2, None, False)


@pytest.mark.parametrize(
    ("values", "counting"),
    [
        (range(5), True),
        (range(1, 6), True),
        ([7.0, 8.0], True),
        ([0, 1, 3], False),
        ([0, 2, 1, 3], False),
        ([0, None, 2], False),
        ([0.5, 1.5], False),
        (["0", "1"], False),
        (range(200, 700), True),
    ],
)
def test_a_column_that_counts(values, counting):
    found = of(list(values))
    assert found.counting == counting
    assert found.start == (next(iter(values)) if counting else None)


def test_some_rows_alone():
    assert of([1, 2, 3, 4], np.array([1, 3])).levels == {2: 1, 4: 1}


def test_parts_of_two_kinds_do_not_add():
    with pytest.raises(TableError, match="number values in one part and text"):
        of([1]) + of(["x"])
    assert (of([None, None]) + of(["x"])).kind == "text"


TEXTS = st.sampled_from(["a", "1", "2.5", "2024-01-01", "1,5", "", "x y", "None", "b"])
COLUMNS = st.one_of(
    st.lists(st.integers(-5, 300), min_size=1),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.lists(st.one_of(st.none(), st.integers(-3, 3).map(float)), min_size=1),
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6, width=32)), min_size=1),
    st.lists(st.one_of(st.none(), TEXTS), min_size=1),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=1),
    st.integers(0, 60).map(lambda m: list(range(3, 4 + m))),
)


@settings(max_examples=300, deadline=None)
@given(values=COLUMNS, cuts=st.lists(st.integers(0, 60), max_size=4), most=st.sampled_from([3, 65_000]))
def test_the_sum_over_parts_is_the_whole(values, cuts, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "MOST_COUNTED", most)
        column = RawTable.of({"c": values}).column("c")
        edges = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
        parts = [ColumnStatistics.of(replace(column, values=column.values[a:b])) for a, b in pairwise(edges)]
        whole, total = ColumnStatistics.of(column), sum(parts[1:], parts[0])
        assert len(whole.levels) <= most
    rounding = {"mean": 0.0, "deviations": 0.0}
    assert replace(total, **rounding) == replace(whole, **rounding)
    assert total.mean == pytest.approx(
        whole.mean, rel=1e-9, abs=1e-9 * max(map(abs, (whole.least or 0, whole.greatest or 0)))
    )
    assert total.deviations == pytest.approx(whole.deviations, rel=1e-6, abs=1e-6)


def test_more_levels_than_are_counted_are_a_sample_of_exact_counts(monkeypatch):
    monkeypatch.setattr(statistics, "MOST_COUNTED", 100)
    numbers = np.repeat(np.arange(1000) * 10**9, 3)
    found = of(numbers)
    assert len(found.levels) == 100
    assert set(found.levels.values()) == {3}
    assert found.beyond == 2700
    assert not found.all_differ
    assert of(np.arange(1000) * 10**9).all_differ
