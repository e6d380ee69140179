"""What goes out comes back, in as few pieces as it can."""

from __future__ import annotations

import numpy as np

from fullbatch.fold.shard import Answer, Request
from fullbatch.machine.packing import APART, packed, unpacked


def test_what_is_small_is_one_piece():
    value = ("answer", (7, "gradient", np.arange(5.0, dtype=np.float32), [Request(0, slice(0, 8), True)]))
    sent = packed(value)
    assert isinstance(sent, bytes)
    name, (number, operation, theta, requests) = unpacked(sent)
    assert (name, number, operation, requests) == ("answer", 7, "gradient", value[1][3])
    np.testing.assert_array_equal(theta, value[1][2])


def test_large_arrays_are_pieces_of_their_own_that_nobody_copies():
    large, small = np.arange(APART / 8).reshape(2, -1).T, np.ones(3)  # as predictions lie in memory
    sent = packed(Answer(3, [[(0, 1, (np.float64(2.0), large, 8.0))], small]))
    assert len(sent) == 2
    assert np.shares_memory(sent[1], large)
    answer = unpacked(sent)
    ((_, _, (loss, vector, weight)),), other = answer.parts
    assert np.shares_memory(vector, sent[1])
    np.testing.assert_array_equal(vector, large)
    np.testing.assert_array_equal(other, small)
    assert (answer.number, loss, weight) == (3, 2.0, 8.0)


def test_a_piece_that_came_to_an_odd_place_is_moved():
    head, large = packed(np.arange(APART / 8))
    room = np.empty(len(large) + 64, np.uint8)
    odd = room[1 + -room.ctypes.data % 16 :][: len(large)]
    odd[:] = large
    found = unpacked([head, odd])
    assert found.flags.aligned
    np.testing.assert_array_equal(found, np.arange(APART / 8))
