"""What estimators make of what they are handed: its numbers, their type, and the names of its columns."""

from __future__ import annotations

from typing import Any

import array_api_strict
import numpy as np
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
