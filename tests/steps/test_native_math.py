"""The native step's own exp, tanh, sigmoid, log1p and log (src/native/vector_math.h), under every instruction set.

Errors are in ulp: units of the last place that the exact result has in the dtype; for a denormal, the smallest number.
FULLBATCH_SLOW=1 adds all 2^32 arguments of float32, which takes a quarter of an hour.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from conftest import ISAS
from fullbatch.machine import native_library

pytestmark = pytest.mark.skipif(not ISAS, reason=f"the native step is {native_library.why_not() or 'here'}")

FUNCTIONS = ("exp", "tanh", "sigmoid", "log1p", "log")  # the order of enum fb_function
ULP, ULP_OF_DENORMALS = 5, 2
NUMBERS = {name: number for number, name in native_library.isas()}
each_function = pytest.mark.parametrize("function", FUNCTIONS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
each_isa = pytest.mark.parametrize("isa", ISAS)


def native(isa, function, x, out=None):
    """function(x), by the library."""
    library = native_library.load()
    assert library is not None
    y = np.empty_like(x) if out is None else out
    what = NUMBERS[isa], x.itemsize, FUNCTIONS.index(function)
    assert library.fb_map(*what, x.ctypes.data, y.ctypes.data, x.size) == 0
    return y


def exact(function, x):
    """function(x), computed in a wider dtype than x has."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
        if function == "sigmoid":
            e = np.exp(-np.abs(wide))
            return np.where(wide < 0, e, 1) / (1 + e)
        return getattr(np, function)(wide)


def needs_wider_than(dtype):
    if np.finfo(np.longdouble).nmant <= np.finfo(dtype).nmant:
        pytest.skip("long double is no wider than float64 here")


def worst(got, want):
    """The largest errors of finite results: in ulp, normal and denormal. What must be exact is asserted."""
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
    special = ~np.isfinite(rounded) | (want == 0)
    np.testing.assert_array_equal(got[special], rounded[special])  # NaN equals NaN here
    zero = want == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(rounded[zero]))
    got, want = got[~special], want[~special]
    exponent = np.frexp(want)[1]
    last_place = np.ldexp(want.dtype.type(1), np.maximum(exponent - 1, info.minexp) - info.nmant)
    error = np.abs(got.astype(want.dtype) - want) / last_place
    denormal = np.abs(want) < info.smallest_normal
    return float(error[~denormal].max(initial=0)), float(error[denormal].max(initial=0))


def check(isa, function, x):
    got = native(isa, function, x)
    normal, denormal = worst(got, exact(function, x))
    assert normal <= ULP
    assert denormal <= ULP_OF_DENORMALS
    if function == "tanh":
        assert not (np.abs(got) > 1).any()
        np.testing.assert_array_equal(native(isa, function, -x), -got)
    if function == "sigmoid":
        assert not (got < 0).any()
        assert not (got > 1).any()


def edges(dtype):
    """Numbers around which a formula may change, with their neighbours, and both signs of all."""
    info = np.finfo(dtype)
    points = [0, 0.25, 0.5, 1, 2, np.sqrt(0.5), np.sqrt(2), np.log(2) / 2, np.inf, np.nan]
    points += [9.1, 20, 40, 89, 104, 710, 746]
    points += [info.smallest_subnormal, info.smallest_normal, info.eps, info.max]
    points += [np.log(np.longdouble(limit)) for limit in (info.max, info.smallest_normal, info.smallest_subnormal)]
    points = np.array(points, dtype)
    near = [points]
    for towards in (np.inf, -np.inf):
        step = points
        for _ in range(3):
            with np.errstate(all="ignore"):
                step = np.nextafter(step, np.array(towards, dtype))
            near.append(step)
    return np.concatenate([*near, *(-part for part in near)])


@each_isa
@each_function
def test_float32_all_over(isa, function):
    """Every 4,099th of the 2^32 bit patterns: each exponent, with many fractions."""
    check(isa, function, np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32))


@each_isa
@each_function
def test_float64_all_over(isa, function):
    needs_wider_than(np.float64)
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**64, 200_000, dtype=np.uint64).view(np.float64)
    size = 10.0 ** rng.uniform(-9, 3, 100_000) * rng.choice([-1, 1], 100_000)
    check(isa, function, np.concatenate([anything, size, rng.normal(size=100_000), rng.uniform(0.4, 2.5, 50_000)]))


@each_isa
@each_function
@each_dtype
def test_edges(isa, function, dtype):
    needs_wider_than(dtype)
    check(isa, function, edges(dtype))


SPECIAL = {
    "exp": [(-np.inf, 0.0), (np.inf, np.inf), (0.0, 1.0), (-0.0, 1.0)],
    "tanh": [(-np.inf, -1.0), (np.inf, 1.0), (0.0, 0.0), (-0.0, -0.0)],
    "sigmoid": [(-np.inf, 0.0), (np.inf, 1.0), (0.0, 0.5), (-0.0, 0.5)],
    "log1p": [(-np.inf, np.nan), (np.inf, np.inf), (0.0, 0.0), (-0.0, -0.0), (-1.0, -np.inf), (-2.0, np.nan)],
    "log": [(-np.inf, np.nan), (np.inf, np.inf), (0.0, -np.inf), (-0.0, -np.inf), (1.0, 0.0), (-1.0, np.nan)],
}


@each_isa
@each_function
@each_dtype
def test_special_values_are_exact(isa, function, dtype):
    x, want = np.array([*SPECIAL[function], (np.nan, np.nan)], dtype).T
    got = native(isa, function, np.ascontiguousarray(x))
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))


@each_isa
@each_function
@each_dtype
def test_any_number_of_them_anywhere(isa, function, dtype):
    """No result depends on its place in a vector or in memory, and nothing past the end is written."""
    x = np.linspace(0.01, 3, 50, dtype=dtype)
    whole = native(isa, function, x)
    for start in range(3):
        for n in range(47):
            out = np.full(50, -7, dtype)
            native(isa, function, x[start : start + n], out[1 : 1 + n])
            np.testing.assert_array_equal(out[1 : 1 + n], whole[start : start + n])
            assert out[0] == -7
            assert (out[1 + n :] == -7).all()


@pytest.mark.skipif(os.environ.get("FULLBATCH_SLOW") != "1", reason="takes minutes: FULLBATCH_SLOW=1 runs it")
@pytest.mark.parametrize("function", ["exp", "tanh", "sigmoid"])
def test_float32_all(function):
    """All 2^32 arguments; all instruction sets at once, for the oracle is what takes long."""
    n = 2**22
    for start in range(0, 2**32, n):
        x = np.arange(start, start + n, dtype=np.uint64).astype(np.uint32).view(np.float32)
        want = exact(function, x)
        for isa in ISAS:
            got = native(isa, function, x)
            normal, denormal = worst(got, want)
            assert normal <= ULP, (isa, hex(start))
            assert denormal <= ULP_OF_DENORMALS, (isa, hex(start))
            assert function == "exp" or not (np.abs(got) > 1).any(), (isa, hex(start))
