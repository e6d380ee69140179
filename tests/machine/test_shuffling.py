"""Orders shuffled natively have the bits of NumPy's, and leave its generator as NumPy does."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullbatch.machine import native_library, shuffling

DTYPES = [np.int32, np.int64]


@pytest.fixture
def native(monkeypatch):
    """The library, with which any length is shuffled natively."""
    library = native_library.load()
    if library is None:
        pytest.skip(native_library.why_not())
    monkeypatch.setattr(shuffling, "WORTH_A_CALL", 2)
    return library


def check_same(order, rng, ours_too):
    """Shuffled by NumPy with one generator and as ``shuffling`` does it with another in the same state."""
    ours, other = order.copy(), np.random.RandomState()
    other.set_state(rng.get_state())
    rng.shuffle(order)
    assert ours_too(ours, other)
    assert np.array_equal(ours, order)
    assert all(map(np.array_equal, other.get_state(), rng.get_state()))
    assert other.standard_normal() == rng.standard_normal()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_length_and_place_of_the_generator(native, dtype):
    """One after another with one generator, so that shuffles begin and end at many of its 624 places."""
    rng = np.random.RandomState(5)
    for n in [*range(2, 140), *(2**k + d for k in range(8, 17) for d in (-1, 0, 1)), 200_003]:
        check_same(np.arange(n, dtype=dtype), rng, shuffling._shuffled_natively)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), drawn=st.integers(0, 700), n=st.integers(2, 3000), normal=st.booleans())
def test_any_seed_and_state(seed, drawn, n, normal):
    if native_library.load() is None:
        pytest.skip(native_library.why_not())
    rng = np.random.RandomState(seed)
    rng.tomaxint(drawn)
    if normal:
        rng.standard_normal()  # whose second number waits in the state
    order = rng.randint(0, 5, n).astype(np.int32)  # what is shuffled need not be an order
    check_same(order, rng, shuffling._shuffled_natively)


def test_the_choice_between_both(monkeypatch):
    called = []
    monkeypatch.setattr(shuffling, "_shuffled_natively", lambda order, rng: called.append(len(order)) or False)
    for n in (0, 1, 5, shuffling.WORTH_A_CALL):
        ours, numpys = (np.random.RandomState(n) for _ in range(2))
        assert np.array_equal(shuffling.permutation(n, ours), numpys.permutation(n))
        assert ours.randint(2**31) == numpys.randint(2**31)
    assert called == [shuffling.WORTH_A_CALL]


class Own(np.random.RandomState):
    pass


def test_numpy_shuffles_what_is_not_plain(native):
    """Subclasses may draw otherwise, other generators do, and other arrays lie otherwise."""
    plain, rng = np.arange(50), np.random.RandomState(0)
    others = [(plain, Own(0)), (plain, np.random.RandomState(np.random.PCG64(0))), (np.arange(100)[::2], rng)]
    others += [(plain.astype(np.int16), rng), (np.ma.array(plain), rng), (np.arange(50.0), rng)]
    for order, generator in others:
        assert not shuffling._shuffled_natively(order, generator)
        before = sorted(order)
        shuffling.shuffle(order, generator)
        assert list(order) != before == sorted(order)


def test_without_the_library(monkeypatch):
    monkeypatch.setenv(native_library.VARIABLE, "off")
    assert not shuffling._shuffled_natively(np.arange(9), np.random.RandomState(0))


def test_the_generators_lock_is_held(native):
    rng, order = np.random.RandomState(0), np.arange(99)
    with rng._bit_generator.lock:
        other = threading.Thread(target=shuffling.shuffle, args=(order, rng))
        other.start()
        other.join(0.05)
        assert np.array_equal(order, np.arange(99))
    other.join()
    assert np.array_equal(order, np.random.RandomState(0).permutation(99))


@pytest.mark.parametrize("wrong", [{"position": 625}, {"position": -1}, {"bytes": 2}, {"n": -1}, {"n": 2**32 + 1}])
def test_wrong_calls_are_refused(native, wrong):
    key, order = np.zeros(624, np.uint32), np.arange(9)
    of = {"position": 0, "bytes": 8, "n": 9, **wrong}
    position = ctypes.c_int32(of["position"])
    assert native.fb_shuffle(key.ctypes.data, position, order.ctypes.data, of["bytes"], of["n"]) < 0
    assert np.array_equal(order, np.arange(9))
