"""Looking for what is not finite in a large array: by several threads, to the words that one finds."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fullbatch.errors import InputError
from fullbatch.machine import finite
from fullbatch.machine.finite import check_finite


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_several_threads_look_at_each_block_once_and_name_the_first_wrong_value(dtype, monkeypatch):
    monkeypatch.setattr(finite, "AT_ONCE", 60)  # blocks of 20 rows
    looked, plain = [], finite._is_finite

    def noted(rows):
        looked.append((threading.get_ident(), rows.ctypes.data))
        return plain(rows)

    monkeypatch.setattr(finite, "_is_finite", noted)
    table = np.full((330, 3), np.finfo(dtype).max, dtype)  # whose sums overflow
    check_finite(table, "X", threads=4)
    assert len(looked) == len({at for _, at in looked}) == 17
    assert threading.get_ident() not in {thread for thread, _ in looked}
    table[300, 1], table[310, 0] = np.inf, np.nan
    messages = []
    for threads in (1, 2, 4):
        with pytest.raises(InputError) as caught:
            check_finite(table, "X", threads=threads)
        messages.append(str(caught.value))
    assert len(set(messages)) == 1
    assert "infinity" in messages[0]
    assert "row 300, column 1" in messages[0]


def test_a_small_array_starts_no_thread(monkeypatch):
    monkeypatch.setattr(finite, "ThreadPoolExecutor", None)
    check_finite(np.zeros((1000, 3)), "X", threads=8)
