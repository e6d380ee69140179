"""Different values by sorting are those of NumPy's ``unique``."""

from __future__ import annotations

import numpy as np
import pytest

from fullbatch.tables.distinct import distinct, tallied


@pytest.mark.parametrize("dtype", ["u1", "i4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("m", [0, 1, 2, 1000])
def test_as_unique_has_them(dtype, m):
    for top in (2, 100, 10**18):
        values = (np.random.default_rng(m).integers(0, top, m) % np.iinfo("u1").max).astype(dtype)
        before, (different, counts) = values.copy(), tallied(values)
        expected = np.unique(values, return_counts=True)
        np.testing.assert_array_equal(distinct(values), expected[0])
        np.testing.assert_array_equal(different, expected[0])
        np.testing.assert_array_equal(counts, expected[1])
        np.testing.assert_array_equal(values, before)
        assert different.dtype == values.dtype


def test_the_two_zeros_are_one_number():
    assert tallied(np.array([0.0, -0.0, np.inf, -np.inf]))[1].tolist() == [1, 2, 1]
