"""TableEncoding: the rules for columns and target, against small tables worked out by hand."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullbatch.errors import InputError, ModelFileError, TableError
from fullbatch.tables.encoding import TAIL, TableEncoding
from fullbatch.tables.parts import FARTHEST, LEVELS, part_of, part_of_one
from fullbatch.tables.raw import RawTable
from fullbatch.tables.reading import read_table
from fullbatch.tables.report import report
from fullbatch.tables.store import convert, encoding_of

YES_NO = ["yes", "no", "no", "yes"]


def learn(columns, target="y", **options) -> TableEncoding:
    return TableEncoding.learn(RawTable.of(columns), target, **options)


def features(encoding: TableEncoding, columns) -> np.ndarray:
    """(m, n): examples as rows, as one reads a table."""
    source = encoding.encode(RawTable.of(columns))
    assert (source.n, source.m) == (encoding.n, len(next(iter(columns.values()))))
    return np.array(source.reader()(slice(0, source.m)).T)


# ---- numbers -------------------------------------------------------------------------------------


def test_numbers_have_mean_0_and_sd_1():
    random = np.random.default_rng(0)
    columns = {
        "a": random.uniform(5, 30, 500),
        "b": random.integers(0, 1000, 500),
        "c": np.arange(500) >= 250,
        "y": random.integers(0, 2, 500),
    }
    encoding = learn(columns, numeric=["c"])
    assert encoding.numbers == ("a", "b", "c")
    X = features(encoding, columns)
    assert X.dtype == np.float32
    np.testing.assert_allclose(X.mean(axis=0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(X.std(axis=0, dtype=np.float64), 1, rtol=1e-6)
    double = learn(columns, numeric=["c"], dtype="float64")
    X = features(double, columns)
    assert X.dtype == np.float64
    np.testing.assert_allclose(X[:, 0], (columns["a"] - columns["a"].mean()) / columns["a"].std(), rtol=1e-12)


@pytest.mark.parametrize("missing", [0, 100])
def test_a_column_that_is_mostly_0_keeps_its_zeros(missing):
    rare = np.where(np.arange(500) < 249, 3.0, 0.0)
    rare[400 : 400 + missing] = np.nan
    columns = {"rare": rare, "half": np.arange(500) % 2, "y": np.arange(500) // 2 % 2}
    encoding = learn(columns, numeric=["half"])
    mostly = np.nanmean(rare == 0) > 0.5 and not missing
    assert encoding.center.tolist() == [0.0 if mostly else np.nanmean(rare), 0.5]
    X = features(encoding, columns)
    assert np.array_equal(X[rare == 0, 0], np.zeros(np.sum(rare == 0))) == mostly
    assert not X[np.isnan(rare), 0].any()


def test_negative_numbers_are_no_zeros_and_minus_0_is_one():
    signs = np.array([-1.0, -2.0, -3.0, 1.0, 0.0])
    zeros = np.array([-0.0, -0.0, 0.0, 4.0, 5.0])
    encoding = learn({"signs": signs, "zeros": zeros, "y": [0, 1, 0, 1, 1]}, numeric=["signs", "zeros"])
    assert encoding.center.tolist() == [-1.0, 0.0]


def test_the_scale_is_that_of_the_distance_from_the_center():
    """Twice the standard deviation, but no more than brings the farthest value to 5 scales from the center."""
    rare = np.where(np.arange(100) < 4, [4.0] * 100, 0.0)
    encoding = learn({"rare": rare, "y": np.arange(100) % 2})
    assert 5 * rare.std() < 4 < 10 * rare.std()
    assert encoding.center.tolist() == [0.0]
    assert encoding.scale.tolist() == [4 / 5]


def test_what_is_far_out_does_not_get_huge():
    """A pixel that nearly always is 0, and values beyond all of training; their order stays."""
    pixel = np.zeros(10_000, int)
    pixel[:3] = 255
    columns = {"pixel": pixel, "y": np.arange(10_000) % 2}
    encoding = learn(columns)
    assert 3 < np.abs(features(encoding, columns)).max() < 10
    far = features(encoding, {"pixel": [-1.7e308, -(10.0**9), 0, 255, 256, 10**9, 1.7e308]})[:, 0]
    assert np.isfinite(far).all()
    assert (np.diff(far) > 0).all()


def test_every_finite_number_is_encoded_as_a_finite_one():
    encoding = learn({"a": [0.0, 1e-10, 0.0, 1e-10], "y": YES_NO})
    assert np.isfinite(features(encoding, {"a": [1.7e308, -1.7e308]})).all()


def test_the_tail_is_continuous_and_logarithmic():
    columns = {"a": np.array([-1.0, 1.0] * 50), "y": YES_NO * 25}
    z = np.array([0.5, TAIL - 1e-4, TAIL, TAIL + 1e-4, TAIL + 1, TAIL + 99])
    X = features(learn(columns, dtype="float64"), {"a": z})[:, 0]
    expected = [0.5, TAIL - 1e-4, TAIL, TAIL + 1e-4, TAIL + np.log(2), TAIL + np.log(100)]
    np.testing.assert_allclose(X, expected, atol=1e-8)
    assert (features(learn(columns, dtype="float64"), {"a": -z})[:, 0] == -X).all()


def test_outliers_double_the_scale():
    values = np.array([-1.0, 1.0] * 5000)
    assert learn({"a": values, "y": YES_NO * 2500}).scale == [1.0]
    values[0] = 6.0
    scale = learn({"a": values, "y": YES_NO * 2500}).scale[0] / values.std()
    assert 1.19 < scale < 1.2  # the farthest is 6 standard deviations away: now 5 scales
    values[0] = 1e6
    assert learn({"a": values, "y": YES_NO * 2500}).scale[0] == 2 * values.std()


def test_a_constant_column_is_zero():
    nearly = [1e6, 1e6 + 2e-10, 1e6, 1e6]
    columns = {"a": [7.1] * 4, "but for rounding": nearly, "b": [1, 2, 30, 40], "y": YES_NO}
    encoding = learn(columns)
    assert len(set(nearly)) == 2
    assert (features(encoding, columns)[:, :2] == 0).all()
    assert features(encoding, {"a": [9.0], "but for rounding": [0.0], "b": [5]})[0, :2].tolist() == [0, 0]


def test_missing_numbers_become_the_mean_and_get_an_indicator_where_they_are_many():
    many = [1.0, None, 3.0, None] * 100
    few = [5.5 + i if i else None for i in range(400)]
    columns = {"many": many, "few": few, "all": [None] * 400, "y": YES_NO * 100}
    columns["all"] = np.full(400, np.nan)
    encoding = learn(columns)
    assert encoding.indicators == ("many",)
    X = features(encoding, columns)
    assert X.shape == (400, 4)
    np.testing.assert_allclose(X[:4, 0], [-1, 0, 1, 0])
    assert X[0, 1] == 0
    assert X[1, 1] < 0
    assert (X[:, 2] == 0).all()
    assert X[:4, 3].tolist() == [0, 1, 0, 1]


def test_only_the_training_rows_count():
    columns = {"a": [1.0, 3.0, 100.0], "t": ["x", "y", "z"], "y": ["n", "p", "q"]}
    encoding = learn(columns, rows=np.array([0, 1]))
    assert encoding.center.tolist() == [2.0]
    assert encoding.scale.tolist() == [1.0]
    assert encoding.categories[0].levels == ("x", "y")
    assert encoding.classes == ("n", "p")


# ---- categories ----------------------------------------------------------------------------------


def test_one_hot():
    columns = {
        "hour": [3, 1, 2, 1],
        "text": ["b", None, "a", "b"],
        "flag": [True, False, None, True],
        "y": YES_NO,
    }
    encoding = learn(columns, categorical=["hour"])
    assert [(c.name, c.levels, c.other, c.missing) for c in encoding.categories] == [
        ("hour", (1, 2, 3), False, False),
        ("text", ("a", "b"), False, True),
        ("flag", (False, True), False, True),
    ]
    assert encoding.numbers == ()
    assert features(encoding, columns).tolist() == [
        # none | hour 1 2 3 | a b missing | False True missing
        [0, 0, 0, 1, 0, 1, 0, 0, 1, 0],
        [0, 1, 0, 0, 0, 0, 1, 1, 0, 0],
        [0, 0, 1, 0, 1, 0, 0, 0, 0, 1],
        [0, 1, 0, 0, 0, 1, 0, 0, 1, 0],
    ]


@pytest.mark.parametrize(
    ("values", "category"),
    [
        ([0, 1, 2], True),
        ([0, 1], False),  # a range of 2: a number serves as well
        (list(range(5, 24)), True),
        ([0, *range(5, 24)], True),  # hours with some that never occur
        (list(range(32)), True),
        (list(range(33)), False),
        ([0, 5, 10, 15, 20], False),  # few values, far apart
        ([-2, -1, 0, 1], True),
        ([-128, -127, -126], True),
        ([1.0, 2.0, 3.0], True),  # whole floats are integers
        ([1, 2, 3, None], True),  # integers of which some are missing
        ([10**15, 10**15 + 1, 10**15 + 2], True),
        ([0, 255], False),
    ],
)
def test_which_integers_are_categories(values, category):
    values = values * 2
    encoding = learn({"c": values, "y": (["a", "b"] * len(values))[: len(values)]})
    assert bool(encoding.categories) == category
    assert encoding.numbers == ("c",)


def test_small_integers_keep_their_order_and_their_levels():
    """D9: a number, and beside it a feature for each level."""
    columns = {"hour": [1, 3, None, 2, 3, 1], "flag": [True, False] * 3, "y": [0, 1] * 3}
    encoding = learn(columns, dtype="float64")
    assert (encoding.numbers, encoding.indicators) == (("hour",), ())
    assert [category.name for category in encoding.categories] == ["hour", "flag"]
    X = features(encoding, columns)
    np.testing.assert_allclose(X[:, 0], (np.array([1, 3, 2, 2, 3, 1]) - 2) / np.std([1, 3, 2, 3, 1]))
    assert X[:, 1:5].tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    assert features(encoding, {"hour": [9], "flag": [True]})[0, 0] > X[1, 0]
    again = TableEncoding.from_dict(*encoding.to_dict())
    np.testing.assert_array_equal(features(again, columns), X)


@pytest.mark.parametrize("stored", [False, True])
def test_many_columns_of_small_integers_are_numbers_alone(stored, monkeypatch, tmp_path):
    monkeypatch.setattr("fullbatch.tables.encoding.MOST_LEVELED", 2)
    rows = np.arange(300)
    columns = {"a": rows % 5, "b": rows % 7, "c": np.where(rows < 30, np.nan, rows % 9), "y": np.resize(YES_NO, 300)}
    both = learn({name: columns[name] for name in ("a", "b", "y")})
    assert both.leveled == {"a", "b"}
    kinds = {"a": "number", "b": "number", "c": "number", "y": "target"}
    if stored:
        content = convert(columns, tmp_path / "store", "y")
        encoding = encoding_of(content)
        assert {one["name"]: one["kind"] for one in content["columns"]} == kinds
    else:
        encoding = learn(columns)
        assert {one.name: one.kind for one in report(RawTable.of(columns), "y").columns} == kinds
    assert (encoding.numbers, encoding.indicators, encoding.categories) == (("a", "b", "c"), ("c",), ())
    assert learn(columns, numeric=["a"]).leveled == {"b", "c"}


def test_categorical_and_numeric_overrule():
    columns = {
        "zip": [70_000, 80_000, 70_000, None],
        "hour": [1, 2, 3, 3],
        "n": ["1", "2.5", None, "4"],
        "y": YES_NO,
    }
    encoding = learn(columns, categorical=["zip"], numeric=["hour", "n"])
    assert encoding.numbers == ("hour", "n")
    assert encoding.indicators == ("n",)
    assert encoding.categories[0].levels == (70_000, 80_000)
    np.testing.assert_allclose(encoding.center, [2.25, 2.5])
    assert features(encoding, columns)[:, 3:].tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_rare_and_unseen_levels_share_one_feature():
    columns = {"t": ["a"] * 3 + ["b"] * 2 + ["c", "d"], "y": [0, 1, 0, 1, 0, 1, 0]}
    encoding = learn(columns, max_levels=2)
    new = {"t": ["a", "b", "c", "d", "never seen", None]}
    assert features(encoding, new)[:, 1:].tolist() == [
        [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1],
    ]  # fmt: skip


def test_an_unseen_level_without_an_other_is_no_feature_at_all():
    columns = {"n": [1.5, 2.5, 3.5, 4.5], "t": ["a", "b", "a", "b"], "hour": [1, 2, 3, 3], "y": YES_NO}
    encoding = learn(columns, categorical=["hour"])
    X = features(encoding, {"n": [2.5, 3.5], "t": ["c", None], "hour": [9, -1]})
    np.testing.assert_allclose(X[:, 0], (np.array([2.5, 3.5]) - 3) / np.std([1.5, 2.5, 3.5, 4.5]))
    assert (X[:, 1:] == 0).all()


def test_a_column_of_names_keeps_the_most_frequent(monkeypatch):
    from fullbatch.tables import raw

    monkeypatch.setattr(raw, "MOST_LEVELS", 50)
    columns = {"t": [f"n{i}" for i in range(100)] + ["n3"] * 5, "y": [0, 1, 0] * 35}
    encoding = learn(columns, max_levels=10)
    assert "n3" in encoding.categories[0].levels
    assert (encoding.categories[0].width, encoding.categories[0].other) == (11, True)
    X = features(encoding, columns)
    assert (X[:, 1:].sum(axis=1) == 1).all()
    assert X[99, 11] == 1


@pytest.mark.parametrize(
    ("trained", "came", "expected"),
    [
        (["1", "x", "2"], [2, 1, 3], [2, 1, 0]),  # text at training, numbers now
        (["1", "x", "2.5"], [2.5, 1.0, 3.0], [2, 1, 0]),
        ([1, 2, 3], ["3", "1.0", None], [3, 1, 0]),  # integers at training, text now
        ([1, 2, 3], [3.0, 1.0, 2.5], [3, 1, 0]),
        ([True, False, True], [1, 0, 7], [2, 1, 0]),
        (["True", "x", "y"], [True, True, False], [1, 1, 0]),
    ],
)
def test_a_category_is_found_again_whatever_the_type_in_another_file(trained, came, expected):
    """``expected`` numbers the features of the sorted levels from 1; 0 is none."""
    encoding = learn({"c": trained, "y": ["a", "b", "a"]}, categorical=["c"])
    X = features(encoding, {"c": came})
    assert [int(np.flatnonzero(row)[0]) if row.any() else 0 for row in X] == expected


LEVEL = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "d", "e"]))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_row_has_the_ones_of_its_own_values(data):
    """Against a loop over rows and columns."""
    m = data.draw(st.integers(2, 25))
    texts, integers = (st.lists(value, min_size=m, max_size=m) for value in (LEVEL, st.integers(0, 9)))
    columns = {f"c{i}": data.draw(texts | integers) for i in range(data.draw(st.integers(1, 4)))}
    most = data.draw(st.integers(1, 6))
    table = {**columns, "y": np.arange(m) % 2}
    encoding = learn(table, categorical=list(columns), max_levels=most)
    X = features(encoding, table)
    start = 1
    for category in encoding.categories:
        values = columns[category.name]
        different = {value for value in values if value is not None}
        assert len(category.levels) == min(len(different), most)
        assert category.other == (len(different) > most)
        for i, value in enumerate(values):
            names = [*category.levels, *(["other"] * category.other), *(["missing"] * category.missing)]
            wanted = "missing" if value is None else value if value in category.levels else "other"
            assert [name == wanted for name in names] == X[i, start : start + category.width].tolist()
        start += category.width
    assert start == encoding.n


# ---- target --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "classes", "codes"),
    [
        (["yes", "no", "no", "maybe"], ("maybe", "no", "yes"), [2, 1, 1, 0]),
        ([7, -3, 7, 0], (-3, 0, 7), [2, 0, 2, 1]),
        ([True, False, True, True], (False, True), [1, 0, 1, 1]),
        ([10**18, 5, 5, 5], (5, 10**18), [1, 0, 0, 0]),
    ],
)
def test_classes(target, classes, codes):
    columns = {"a": [1.5, 2, 3, 4], "y": target}
    encoding = learn(columns)
    assert (encoding.task, encoding.classes) == ("classify", classes)
    assert [type(label) for label in encoding.classes] == [type(label) for label in classes]
    found = encoding.encode_target(RawTable.of(columns))
    assert found.dtype == np.int64
    assert found.tolist() == codes
    assert encoding.decode_target(found).tolist() == target


def test_which_targets_are_classes():
    numbers = np.arange(101)
    columns = {"a": numbers * 1.5, "y": numbers}
    assert learn(columns).task == "regress"
    assert learn({**columns, "y": numbers % 100}).task == "classify"
    assert learn({**columns, "y": numbers % 2 + 0.5}).task == "regress"
    assert learn({**columns, "y": numbers % 2 + 0.5}, task="classify").classes == (0.5, 1.5)
    assert learn({**columns, "y": numbers % 5}, task="regress").task == "regress"
    names = [f"n{i}" for i in range(101)]
    with pytest.raises(TableError, match="101 or more different values, too many for classes"):
        learn({**columns, "y": names})
    assert len(learn({**columns, "y": names}, task="classify").classes) == 101


def test_a_regression_is_scaled_and_scaled_back():
    price = np.array([100_000.0, 300_000.0, 250_000.0, 120_000.5])
    columns = {"a": [1.5, 2, 3, 4], "y": price}
    encoding = learn(columns, rows=np.array([0, 1]))
    y = encoding.encode_target(RawTable.of(columns))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y[:2], [-1, 1])
    np.testing.assert_allclose(encoding.decode_target(y), price, rtol=1e-6)
    assert encoding.classes == ()


SKEWED = np.array([0.5, 1.0, 2.0, 4.0, 100.0])


def target_of(y, **options):
    """The encoding of a table with this target, and the table."""
    columns = {"a": np.arange(len(y)) * 1.5, "y": y}
    return learn(columns, task="regress", dtype="float64", **options), RawTable.of(columns)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "quantile"])
def test_a_loss_of_the_identity_takes_the_target_scaled(loss):
    encoding, table = target_of(SKEWED, loss=loss)
    expected = (SKEWED - SKEWED.mean()) / SKEWED.std()
    np.testing.assert_allclose(encoding.encode_target(table), expected, rtol=1e-12)


def test_poisson_takes_the_target_by_its_mean():
    counts = np.array([0.0, 0.0, 3.0, 7.0, 10.0])
    encoding, table = target_of(counts, loss="poisson")
    assert encoding.encode_target(table).tolist() == (counts / 4).tolist()
    assert encoding.decode_target(np.array([0.0, 0.5, 2.5])).tolist() == [0.0, 2.0, 10.0]
    with pytest.raises(TableError, match="the loss 'poisson' needs numbers of at least 0, but row 2 has -3"):
        target_of([1, -3, 5], loss="poisson")


@pytest.mark.parametrize("factor", [1.0, 1e-6, 1e9])
@pytest.mark.parametrize("y", [SKEWED, np.array([0.0, 0.0, 1.0, 5.0])])
def test_the_logarithm_of_the_target(y, factor):
    """Scaled to mean 0 and sd 1, whatever its unit; zeros have one too; and back."""
    encoding, table = target_of(y * factor, log_target=True)
    z = encoding.encode_target(table)
    logs = np.log1p(y / (y.mean() / 100))
    np.testing.assert_allclose(z, (logs - logs.mean()) / logs.std(), rtol=1e-9)
    np.testing.assert_allclose(encoding.decode_target(z), y * factor, rtol=1e-9, atol=1e-12 * factor)
    assert encoding.target_scale.describe().startswith("learned as log(1 + y / ")


def test_the_logarithm_is_learned_from_the_training_rows_and_holds_for_all():
    """A held-out target below 0, which training had not, is a number; predictions never overflow."""
    columns = {"a": np.arange(6.0), "y": [1.0, 2.0, 4.5, 0.0, 1e6, 3.0]}
    encoding = learn(columns, task="regress", log_target=True, rows=np.array([0, 1, 2]))
    assert encoding.target_scale.unit == 0.025
    later = np.array([-5.0, -1e-9, 0.0, 1e300])
    z = encoding.encode_target(RawTable.of({"y": later}))
    assert np.isfinite(z).all()
    assert (np.diff(z) >= 0).all()
    np.testing.assert_allclose(encoding.decode_target(z, predicted=False)[:3], later[:3], rtol=1e-5, atol=1e-7)
    far = encoding.decode_target(np.array([-1e9, 1e9, np.inf, np.nan]))
    assert far[0] == 0.0
    assert np.isfinite(far[1:3] ** 2).all()
    assert np.isnan(far[3])


def test_a_logarithm_is_refused_where_it_has_no_meaning():
    with pytest.raises(TableError, match="target 'y': its logarithm needs numbers of at least 0, but row 3 has -1"):
        target_of([2.5, 3.0, -1.0], log_target=True)
    with pytest.raises(InputError, match="loss='poisson' has a logarithm of its own"):
        target_of(SKEWED, loss="poisson", log_target=True)
    for options, asked in (({"loss": "poisson"}, "loss='poisson'"), ({"log_target": True}, "log_target")):
        with pytest.raises(InputError, match=f"{asked} belongs to a regression, and the target 'y' is classified"):
            learn({"a": [1.5, 2, 3, 4], "y": YES_NO}, **options)


def test_what_was_never_negative_is_not_predicted_to_be():
    wild = np.array([-9.0, -1.0, 0.0, 9.0])
    never, table = target_of(SKEWED)
    assert never.decode_target(wild)[:2].tolist() == [0.0, 0.0]
    assert never.decode_target(wild, predicted=False)[0] < 0
    assert never.target_scale.describe() == "never negative, nor are predictions"
    np.testing.assert_allclose(never.decode_target(never.encode_target(table)), SKEWED)
    seldom, _ = target_of(SKEWED - 1)
    assert seldom.decode_target(wild)[0] < 0
    assert seldom.target_scale.describe() == ""


@pytest.mark.parametrize("options", [{}, {"loss": "poisson"}, {"log_target": True}], ids=str)
def test_the_target_scale_goes_through_json(options):
    encoding, table = target_of(SKEWED, **options)
    meta, arrays = encoding.to_dict()
    again = TableEncoding.from_dict(json.loads(json.dumps(meta)), arrays)
    assert again.target_scale == encoding.target_scale
    assert again.encode_target(table).tolist() == encoding.encode_target(table).tolist()


def test_an_encoding_of_before_the_least_target_was_kept():
    """Its predictions are as they were then: negative ones too, for nobody knows whether the target was."""
    encoding, _ = target_of(SKEWED)
    meta, arrays = encoding.to_dict()
    del meta["target_least"]
    old = TableEncoding.from_dict(meta, arrays)
    assert (old.target_scale.center, old.target_scale.scale) == (SKEWED.mean(), SKEWED.std())
    assert old.decode_target(np.array([-9.0]))[0] == -9 * SKEWED.std() + SKEWED.mean()


@pytest.mark.parametrize(
    "change",
    [
        {"target_scale": [1.0]},
        {"target_scale": [1.0, "x"]},
        {"target_unit": 0.0},
        {"target_unit": -1},
        {"target_least": True},
    ],
    ids=str,
)
def test_a_damaged_target_scale_is_told(change):
    meta, arrays = target_of(SKEWED, log_target=True)[0].to_dict()
    with pytest.raises(ModelFileError, match="the model's table encoding is damaged"):
        TableEncoding.from_dict({**meta, **change}, arrays)


def test_no_target():
    encoding = learn({"a": [1.5, 2.5], "b": ["x", "y"]}, None)
    assert (encoding.target, encoding.task, encoding.n) == (None, None, 3)
    with pytest.raises(InputError, match="without a target"):
        encoding.encode_target(RawTable.of({"a": [1.5]}))


def test_classes_are_found_again_whatever_their_type():
    digits = learn({"a": [1.5, 2.5, 3.5], "y": [0, 1, 2]})
    for came in ([2.0, 1.0, 0.0], ["2", "1", "0"]):
        assert digits.encode_target(RawTable.of({"y": came})).tolist() == [2, 1, 0]
    texts = learn({"a": [1.5, 2.5, 3.5], "y": ["1", "x", "2"]})
    assert texts.encode_target(RawTable.of({"y": [2, 1]})).tolist() == [1, 0]


# ---- prediction on another table -----------------------------------------------------------------


def test_order_of_columns_does_not_matter_and_others_are_ignored(tmp_path):
    train = {"n": [1.5, 2.5, 3.5, 4.5], "t": ["a", "b", "a", "b"], "y": YES_NO}
    encoding = learn(train)
    assert encoding.feature_names == ("n", "t")
    usual = features(encoding, {"n": [2.5], "t": ["b"]})
    assert (features(encoding, {"extra": ["?"], "t": ["b"], "n": [2.5]}) == usual).all()


def test_text_names_keep_a_column_text(tmp_path):
    """In the next file all values may look like numbers or truths."""
    encoding = learn({"flight": ["007", "A1", "12"], "n": [1.5, 2.5, 0.5], "y": ["true", "false", "maybe"]})
    assert encoding.text_names == ("flight", "y")
    path = tmp_path / "next.csv"
    path.write_text("n,y,flight\n1,false,007\n2,true,12\n")
    table = read_table(path, text=encoding.text_names)
    assert encoding.encode_target(table).tolist() == [0, 2]
    assert encoding.encode(table).ones[:, 0].tolist() == [1, 2]


def test_a_saved_encoding_does_the_same():
    columns = {
        "n": [1.5, None, 3.5, 4.5],
        "hour": [1, 2, 3, 3],
        "t": ["b", None, "c", "b"],
        "flag": [True, False, True, True],
        "y": YES_NO,
    }
    encoding = learn(columns, max_levels=1)
    meta, arrays = encoding.to_dict()
    again = TableEncoding.from_dict(json.loads(json.dumps(meta)), {k: v.copy() for k, v in arrays.items()})
    assert (features(again, columns) == features(encoding, columns)).all()
    table = RawTable.of(columns)
    assert again.encode_target(table).tolist() == encoding.encode_target(table).tolist() == [1, 0, 0, 1]
    for name in ("target", "task", "classes", "feature_names", "text_names", "categories", "n", "dtype"):
        assert getattr(again, name) == getattr(encoding, name)


def test_the_arrays_have_the_names_of_format_1():
    """So a file is read that was written when every center was a mean, and that version reads what is written now."""
    encoding = learn({"n": [0.0, 0.0, 3.0], "y": ["a", "b", "a"]})
    meta, arrays = encoding.to_dict()
    assert set(arrays) == {"mean", "scale"}
    assert arrays["mean"].tolist() == [0.0]
    again = TableEncoding.from_dict(meta, {"mean": np.array([1.0]), "scale": arrays["scale"]})
    assert again.center.tolist() == [1.0]


def test_a_damaged_encoding_is_refused():
    meta, arrays = learn({"n": [1.5, 2.5], "t": ["a", "b"], "y": ["a", "b"]}).to_dict()
    for key in meta:
        with pytest.raises(ModelFileError, match="damaged"):
            TableEncoding.from_dict({name: value for name, value in meta.items() if name != key}, arrays)
    long, square = {**arrays, "scale": np.ones(5)}, {**arrays, "mean": np.ones((1, 1))}
    for wrong in ({"mean": arrays["mean"]}, long, square):
        with pytest.raises(ModelFileError, match="damaged"):
            TableEncoding.from_dict(meta, wrong)
    for wrong in ({"categories": [{"name": "t"}]}, {"categories": 3}, {"dtype": "float33"}):
        with pytest.raises(ModelFileError, match="damaged"):
            TableEncoding.from_dict({**meta, **wrong}, arrays)


# ---- bad input -----------------------------------------------------------------------------------

GOOD = {"hour": [1, 2, 3, 3], "n": [1.5, 2, 3, 4], "y": YES_NO}


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        ({}, {"target": "yy"}, r"no target column 'yy'. Did you mean 'y'\?"),
        ({}, {"categorical": ["hours"]}, r"no categorical column 'hours'. Did you mean 'hour'\?"),
        ({}, {"numeric": ["hours"]}, r"no numeric column 'hours'. Did you mean 'hour'\?"),
        ({}, {"numeric": ["n"], "categorical": ["n"]}, "'n' is given as categorical and as numeric"),
        ({}, {"numeric": ["y"]}, "'y' is the target"),
        ({"y": ["a", "a", "a", "a"]}, {}, "'y' is 'a' in every row that has one; expected at least two classes"),
        ({"y": [1, 1, 1, 1]}, {}, "'y' is 1 in every row that has one; expected at least two classes"),
        ({"y": [2.5] * 4}, {}, "'y' is 2.5 in every row"),
        ({"y": ["a", None, "b", None]}, {}, "'y' is missing in 2 of 4 rows, the first of them row 2"),
        ({"y": [1.5, 2, 3, None]}, {}, "'y' is missing in 1 of 4 rows, the first of them row 4"),
        ({"y": [1.5, 2, np.inf, 3]}, {}, "'y' is infinite in row 3"),
        ({}, {"task": "regress"}, "'y' must hold numbers, but row 1 has 'yes'"),
        ({"n": ["1", "2", "x", "4"]}, {"numeric": ["n"]}, "'n' must hold numbers, but row 3 has 'x'"),
        ({"n": [1.5, np.inf, 3, 4]}, {}, "'n' is infinite in row 2"),
        ({"n": [1e200, -1e200, 1e300, 4]}, {}, r"'n' has values up to 1e\+300, too large to scale"),
    ],
)
def test_bad_training_tables(change, options, expected):
    with pytest.raises(TableError, match=expected) as caught:
        learn({**GOOD, **change}, **options)
    assert "\n" not in str(caught.value)


def test_bad_options():
    with pytest.raises(InputError, match="max_levels must be at least 1"):
        learn(GOOD, max_levels=0)
    with pytest.raises(InputError, match="task must be 'classify' or 'regress'; it is 'rank'"):
        learn(GOOD, task="rank")
    with pytest.raises(TableError, match="'y' is the only column"):
        learn({"y": YES_NO})


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"hour": [1]}, "no input column 'n'"),
        ({"x": [1]}, "no input column 'hour' and 'n'"),
        ({"Hour": [1], "n": [1.5]}, r"no input column 'hour'. Did you mean 'Hour'\?"),
        ({"hour": [1, 2], "n": ["1", "far"]}, "'n' must hold numbers, but row 2 has 'far'"),
        ({"hour": ["1", "noon"], "n": [1, 2]}, "'hour' must hold numbers, but row 2 has 'noon'"),
        ({"hour": [1, 2], "n": [1, -np.inf]}, "'n' is infinite in row 2"),
    ],
)
def test_bad_tables_at_prediction(columns, expected):
    encoding = learn(GOOD)
    with pytest.raises(TableError, match=expected) as caught:
        encoding.encode(RawTable.of(columns))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (["no", "maybe"], "row 2 has 'maybe', a class that training had not; the classes are 'no', 'yes'"),
        ([1, 2], "row 1 has 1, a class that training had not"),
        (["no", None], "'y' is missing in 1 of 2 rows"),
    ],
)
def test_bad_targets_at_evaluation(target, expected):
    encoding = learn(GOOD)
    with pytest.raises(TableError, match=expected):
        encoding.encode_target(RawTable.of({"y": target}))
    with pytest.raises(TableError, match="no target column 'y'"):
        encoding.encode_target(RawTable.of({"hour": [1]}))
    numbers = learn({**GOOD, "y": [1, 2, 1, 2]})
    with pytest.raises(TableError, match=r"row 1 has 'no', a class that .* the classes are 1, 2\."):
        numbers.encode_target(RawTable.of({"y": ["no", "2"]}))


# ---- dates ---------------------------------------------------------------------------------------


def test_dates_are_numbers_and_what_repeats_in_them():
    """Every 31 hours for 500 days, but not at night: each part against datetime's own."""
    times = [datetime(2023, 1, 1) + timedelta(hours=31 * i) for i in range(400)]
    times = [time for time in times if time.hour > 5]
    columns = {"when": [*times, None], "y": [0, 1] * (len(times) // 2) + [0] * (1 + len(times) % 2)}
    encoding = learn(columns, dtype="float64")
    assert (encoding.numbers, encoding.indicators) == (("when",), ())
    assert [(c.name, c.part, c.levels, c.missing) for c in encoding.categories] == [
        ("when", "weekday", tuple(range(7)), False), ("when", "month", tuple(range(1, 13)), False),
        ("when", "hour", tuple(range(6, 24)), False),
    ]  # fmt: skip
    X = features(encoding, columns)
    assert not X[-1].any()
    for i, time in enumerate(times):
        assert np.flatnonzero(X[i, 1:]).tolist() == [time.weekday(), 7 + time.month - 1, 19 + time.hour - 6]
    later = {"when": [datetime(1969, 12, 31, 23, 59), datetime(2024, 2, 29, 3)]}  # At 3 training had nothing.
    found = [np.flatnonzero(row).tolist() for row in features(encoding, later)[:, 1:]]
    assert found == [[2, 7 + 11, 19 + 17], [3, 7 + 1]]
    assert encoding.unseen(RawTable.of(later)) == {}
    again = TableEncoding.from_dict(*encoding.to_dict())
    np.testing.assert_array_equal(features(again, columns), X)


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ([datetime(2024, 1, 1) + timedelta(days=i) for i in range(7)], []),
        ([datetime(2024, 1, 1) + timedelta(days=i) for i in range(9)], ["weekday"]),
        ([datetime(2024, 1, 1) + timedelta(days=7 * i) for i in range(13)], []),
        ([datetime(2024, 1, 1) + timedelta(days=7 * i) for i in range(15)], ["month"]),
        ([datetime(2024 + i, 1, 1) for i in range(9)], ["weekday"]),
        ([datetime(2024, 1, 1) + timedelta(hours=i) for i in range(24)], []),
        ([datetime(2024, 1, 1) + timedelta(hours=i) for i in range(30)], ["hour"]),
        ([datetime(2024, 1, 1, 12) + timedelta(days=i) for i in range(9)], ["weekday"]),
        ([datetime(2024, 1, 1, i).time() for i in range(9)], ["hour"]),
        ([datetime(2024, 1, 1, i).time() for i in range(2)], []),
        ([timedelta(days=99 * i) for i in range(9)], []),
    ],
)
def test_which_parts_a_date_has(values, parts):
    columns = {"d": values, "y": (["a", "b"] * len(values))[: len(values)]}
    assert [category.part for category in learn(columns).categories] == parts
    assert learn(columns, numeric=["d"]).categories == ()
    assert [category.part for category in learn(columns, categorical=["d"]).categories] == [None]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.datetimes(datetime(1, 1, 1), datetime(9800, 1, 1))), min_size=1))
def test_the_parts_of_any_date(moments):
    seconds = np.array(
        [np.nan if one is None else (one - datetime(1970, 1, 1)) // timedelta(seconds=1) for one in moments]
    )
    expected = {
        "weekday": [7 if one is None else one.weekday() for one in moments],
        "month": [12 if one is None else one.month - 1 for one in moments],
        "hour": [24 if one is None else one.hour for one in moments],
    }
    assert {part: part_of(seconds, part).tolist() for part in LEVELS} == expected


def test_what_is_no_date_has_no_parts():
    assert part_of(np.array([1e300, -1e300, np.inf, np.nan]), "month").tolist() == [12] * 4


@pytest.mark.parametrize("part", LEVELS)
def test_one_date_has_the_part_that_it_has_among_others(part):
    days = np.arange(-150_000, 150_000, 1.0)  # more than the Gregorian calendar's 400 years, before and after 1970
    edges = [FARTHEST, -FARTHEST, np.nextafter(FARTHEST, 0), np.nextafter(-FARTHEST, 0), np.inf, np.nan, -0.5, 1e300]
    seconds = np.concatenate([days * 86_400, days[::100] * 86_399.25, edges, np.linspace(-FARTHEST, FARTHEST, 9999)])
    assert [part_of_one(one, part) for one in seconds.tolist()] == part_of(seconds, part).tolist()


def test_missing_dates_get_an_indicator_where_they_are_many():
    days = [None if i % 3 else datetime(2024, 1, 1) + timedelta(days=i) for i in range(90)]
    assert learn({"d": days, "y": [0, 1] * 45}).indicators == ("d",)


def test_decimals_and_formats_are_kept():
    table = replace(RawTable.of({"d": ["31/12/2024", "1/2/2024"], "x": [1.5, 2.5], "y": [0, 1]}), decimal=",")
    encoding = TableEncoding.learn(table, "y")
    assert (encoding.decimal, encoding.date_formats) == (",", (("d", "%d/%m/%Y"),))
    meta, arrays = encoding.to_dict()
    again = TableEncoding.from_dict(json.loads(json.dumps(meta)), arrays)
    assert (again.decimal, again.date_formats) == (",", (("d", "%d/%m/%Y"),))
    (category,) = [c for c in meta["categories"] if c.get("part") == "weekday"]
    for wrong in (
        {"decimal": ";"}, {"date_formats": [["d"]]}, {"date_formats": [["d", 3]]},
        {"categories": [{**category, "part": "year"}]}, {"categories": [{**category, "levels": [9]}]},
    ):  # fmt: skip
        with pytest.raises(ModelFileError, match="damaged"):
            TableEncoding.from_dict({**meta, **wrong}, arrays)
