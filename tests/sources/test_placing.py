"""Data go to a device as a whole, or block by block: which of the two, and what is left of the memory there."""

from __future__ import annotations

import numpy as np
import pytest

from fake_streams import Cuda
from fullbatch.machine import arrays
from fullbatch.sources import Dense, OneHot, placing
from fullbatch.sources.placing import Put, as_whole, fits, put_examples, resident
from fullbatch.sources.uploaded import Uploaded
from sources.conftest import Place

rng = np.random.default_rng(0)


def test_a_table_is_copied_as_a_whole(cuda):
    table = rng.standard_normal((50, 3))
    there = resident(table, Place(cuda))
    assert np.array_equal(there.host, table)
    assert len(cuda.copied) > 3
    assert not any(stream.queue for stream in cuda.streams[1:]), "it is there when the call returns"


@pytest.mark.parametrize("budget", [0, 1, 1000, 2**30, 2**32, 80e9])
def test_data_leave_room_for_the_passes(budget):
    most = budget - min(placing.RESERVED, budget / 2)
    assert fits(int(most), budget)
    assert not fits(int(most) + 1, budget)


def test_both_or_neither_are_copied_as_a_whole():
    cuda = Cuda(0)
    X, Y = np.asfortranarray(rng.standard_normal((3, 50))), rng.standard_normal((1, 50))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "cupy_if_loaded", lambda: cuda)
        there = put_examples(X, Y, Place(cuda), 2 * (X.nbytes + Y.nbytes))
        assert type(there.X) is type(there.Y) is Dense
        assert there.taken == X.nbytes + Y.nbytes
        assert np.array_equal(there.X.array.host, X)
        assert np.array_equal(there.Y.array.host, Y)
        there = put_examples(X, Y, Place(cuda), 2 * (X.nbytes + Y.nbytes) - 1)
        assert isinstance(there, Put)
        assert type(there.X) is type(there.Y) is Uploaded
        assert there.taken == 0


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory has it."""


def test_x_as_a_whole_leaves_what_it_and_its_neighbours_take(monkeypatch):
    """X that is streamed takes nothing, and neither does its Y; of X that is there already, Y and weights count."""
    cuda = Cuda(0)
    monkeypatch.setattr(arrays, "cupy_if_loaded", lambda: cuda)
    array = np.asfortranarray(rng.standard_normal((3, 50)))
    host, size = Uploaded(Dense(array), Place(cuda)), array.nbytes + 70
    X, left = as_whole(host, 2 * size, target=50, weight=20)
    assert np.array_equal(X.array.host, array)
    assert left == size
    assert as_whole(host, 2 * size - 1, target=50, weight=20) == (host, 2 * size - 21)
    codes = Uploaded(OneHot(np.zeros(50, int), 3, "float64"), Place(cuda))
    for X, left in ((codes, 980), (Dense(array), 930)):
        assert as_whole(X, 1000, target=50, weight=20) == (X, left)
    assert as_whole(host, 10, target=50, weight=20) == (host, 0)


def test_what_does_not_fit_after_all_is_streamed(monkeypatch):
    cuda = Cuda(0)
    calls = []

    def empty(shape, dtype):
        calls.append(shape)
        raise OutOfMemoryError("Out of memory allocating 1,200 bytes")

    cuda.empty = empty
    monkeypatch.setattr(arrays, "cupy_if_loaded", lambda: cuda)
    X = rng.standard_normal((3, 50))
    there = put_examples(X, X[:1], Place(cuda), 1e9)
    assert calls[0] == (50, 3)
    assert type(there.X) is Uploaded


def test_another_error_comes_through(monkeypatch):
    cuda = Cuda(0)
    monkeypatch.setattr(arrays, "cupy_if_loaded", lambda: cuda)
    monkeypatch.setattr(cuda, "empty", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        resident(np.ones((3, 3)), Place(cuda))
