"""Rows that are held out: by class, by the order of a column, by groups."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullbatch.errors import InputError, TableError
from fullbatch.tables.raw import RawTable
from fullbatch.tables.splits import HoldOut


def table_of(**columns) -> RawTable:
    m = max(len(values) for values in columns.values())
    return RawTable.of({"y": np.arange(m) / 7, **columns})


def held_out(table: RawTable, rule: HoldOut, task: str | None = None) -> list[int]:
    found = rule.split(table, "y", task)
    together = np.concatenate([found.train, found.held_out])
    assert np.array_equal(np.sort(together), np.arange(table.m))
    assert np.all(np.diff(found.train) > 0)
    assert np.all(np.diff(found.held_out) > 0)
    return found.held_out.tolist()


# --- A share of each class


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    share=st.floats(0, 0.995),
    seed=st.integers(0, 2**32 - 1),
    mix=st.randoms(use_true_random=False),
)
def test_each_class_keeps_its_share_and_its_first_row(counts, share, seed, mix):
    labels = [f"c{i}" for i, count in enumerate(counts) for _ in range(count)]
    mix.shuffle(labels)
    labels = np.array(labels)
    found = held_out(table_of(y=labels), HoldOut(share, seed=seed))
    for i, count in enumerate(counts):
        rows = np.flatnonzero(labels == f"c{i}")
        assert rows[0] not in found
        assert abs(np.isin(rows, found).sum() - share * count) <= 1 + 1e-9


@given(st.integers(2, 400), st.floats(0.001, 0.99), st.integers(0, 50), st.data())
def test_a_table_read_in_parts_loses_the_same_rows(m, share, seed, data):
    """Row j of a class is decided by the rows up to the end of its window: a longer table decides the same."""
    labels = np.random.default_rng(seed).choice(["a", "b", "c"], m)
    whole = set(held_out(table_of(y=labels), HoldOut(share, seed=seed)))
    part = data.draw(st.integers(1, m))
    first = set(held_out(table_of(y=labels[:part]), HoldOut(share, seed=seed)))
    assert first == {row for row in whole if row < part}


def test_each_row_but_the_first_is_drawn_as_often_as_the_share():
    table = table_of(y=np.zeros(41))
    times = np.zeros(41)
    for seed in range(2000):
        times[held_out(table, HoldOut(0.1, seed=seed), "classify")] += 1
    assert times[0] == 0
    # 200 draws of 2,000 have a standard deviation of 13.4; the first window has nine rows to draw from.
    assert np.all(np.abs(times[1:10] - 2000 / 9) < 5 * 14)
    assert np.all(np.abs(times[10:40] - 200) < 5 * 13.4)


def test_the_split_follows_the_seed():
    table = table_of(y=np.arange(500) % 2)
    assert held_out(table, HoldOut(seed=1)) == held_out(table, HoldOut(seed=1))
    assert held_out(table, HoldOut(seed=1)) != held_out(table, HoldOut(seed=2))


def test_a_quantity_is_not_split_by_its_values():
    assert len(held_out(table_of(y=np.arange(200) / 7), HoldOut(0.5))) in (99, 100, 101)
    whole = table_of(y=np.arange(200))
    assert len(held_out(whole, HoldOut(0.5), "regress")) in (99, 100, 101)
    assert held_out(whole, HoldOut(0.5), "classify") == []  # each class has one row


def test_the_same_rows_are_held_out_however_the_classes_are_stored():
    late = np.random.default_rng(0).random(300) < 0.3
    stored = [
        np.where(late, "yes", "no"),  # the first row's class is the reader's first level
        late,
        ~late,
        late.astype(int),
        late.astype(float),
        np.where(late, "10", "9"),
        np.where(late, 10, 9),
        pa.array(np.where(late, "yes", "no")).cast(pa.dictionary(pa.int32(), pa.string())),
        pa.DictionaryArray.from_arrays(late.astype(np.int32), pa.array(["no", "yes"])),
        pa.DictionaryArray.from_arrays(1 - late.astype(np.int32), pa.array(["yes", "no"])),
    ]
    found = [held_out(table_of(y=y), HoldOut()) for y in stored]
    assert len(found[0]) in (29, 30, 31)
    assert all(rows == found[0] for rows in found)


# --- The last ones by a column


def test_the_last_share_in_the_order_of_a_column_is_held_out():
    days = np.random.default_rng(0).permutation(1000)
    found = HoldOut(0.1, by="day").split(table_of(day=days), "y")
    assert sorted(days[found.held_out]) == list(range(900, 1000))
    assert found.how == "day >= 900"


def test_dates_are_an_order_and_said_as_dates():
    days = pa.array(np.arange(100).astype("datetime64[D]"))
    found = HoldOut(0.25, by="day").split(table_of(day=days), "y")
    assert found.held_out.tolist() == list(range(75, 100))
    assert found.how == "day >= 1970-03-17"


@given(st.lists(st.integers(0, 8), min_size=2, max_size=60), st.floats(0.01, 0.99))
def test_equal_values_stay_together_and_the_cut_is_the_nearest(values, share):
    values = np.array(values)
    if len(set(values.tolist())) == 1:
        with pytest.raises(TableError, match="one value in all rows"):
            HoldOut(share, by="t").split(table_of(t=values), "y")
        return
    found = held_out(table_of(t=values), HoldOut(share, by="t"))
    cuts = [np.count_nonzero(values >= cut) for cut in np.unique(values)[1:]]
    assert abs(len(found) - share * len(values)) == min(abs(cut - share * len(values)) for cut in cuts)
    assert values[found].min() > np.delete(values, found).max()


def test_what_has_no_order_is_refused():
    with pytest.raises(TableError, match="'t' holds texts, which have no order in time"):
        HoldOut(by="t").split(table_of(t=["a", "b"]), "y")
    with pytest.raises(TableError, match="'t' has no value in row 2 and decides the order of the rows"):
        HoldOut(by="t").split(table_of(t=[1.0, None]), "y")
    with pytest.raises(TableError, match="'when'"):
        HoldOut(by="when").split(table_of(t=[1.0, 2.0]), "y")


# --- Whole groups


@given(st.lists(st.integers(0, 30), min_size=2, max_size=200), st.floats(0.01, 0.99), st.integers(0, 9))
def test_no_group_is_on_both_sides(groups, share, seed):
    groups = np.array(groups)
    if len(set(groups.tolist())) == 1:
        with pytest.raises(TableError, match="one group"):
            HoldOut(share, group="g", seed=seed).split(table_of(g=groups), "y")
        return
    found = held_out(table_of(g=groups), HoldOut(share, group="g", seed=seed))
    assert 0 < len(found) < len(groups)
    assert not set(groups[found]) & set(np.delete(groups, found))
    largest = np.bincount(groups).max()
    assert abs(len(found) - share * len(groups)) <= largest


def test_groups_are_the_same_however_they_are_stored():
    groups = np.random.default_rng(0).integers(0, 50, 1000)
    texts = groups.astype(str)
    stored = [groups, groups.astype(float), groups.astype(np.uint8), texts, pa.array(texts).dictionary_encode()]
    found = [held_out(table_of(g=g), HoldOut(group="g", seed=3)) for g in stored]
    assert 50 < len(found[0]) < 150
    assert all(rows == found[0] for rows in found)


def test_groups_do_not_follow_the_order_of_rows():
    groups = np.random.default_rng(0).integers(0, 50, 1000)
    forwards = set(groups[held_out(table_of(g=groups), HoldOut(group="g"))])
    assert forwards == set(groups[::-1][held_out(table_of(g=groups[::-1]), HoldOut(group="g"))])
    assert forwards != set(groups[held_out(table_of(g=groups), HoldOut(group="g", seed=1))])


def test_many_texts_are_no_groups():
    texts = [f"user {i}" for i in range(66_000)]
    with pytest.raises(TableError, match="too many for groups"):
        HoldOut(group="g").split(table_of(g=texts), "y")
    with pytest.raises(TableError, match="'g' has no value in row 1 and decides groups"):
        HoldOut(group="g").split(table_of(g=[None, "a"]), "y")


# --- The rule itself


@pytest.mark.parametrize("share", [-0.1, 1.0, 7, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(InputError, match="validation must be"):
        HoldOut(share)


def test_rules_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match="not by both"):
        HoldOut(by="t", group="g")
    with pytest.raises(InputError, match="'t' has nothing to decide"):
        HoldOut(0, by="t")
