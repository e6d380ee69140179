"""Rows that passes make: right in any order and for any threads, and a pass that changed is an error."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fullbatch as fb
from fullbatch.errors import InputError, StoreError
from fullbatch.sources import passing
from fullbatch.sources.columns import Examples
from fullbatch.sources.passing import Leaves, PassedPart
from fullbatch.sources.store_columns import StoredTable, StoredTarget

M, LEAF = 2000, 256
rng = np.random.default_rng(0)
X, y = rng.normal(size=(M, 3)).astype(np.float32), rng.integers(0, 2, M).astype(np.uint8)
KINDS = {"numbers": (np.dtype(np.float32), 3), "y": (np.dtype(np.uint8), 0)}


class Source:
    """Gives the rows in pieces of odd sizes, and counts its passes."""

    def __init__(self, rows: int = M) -> None:
        self.rows, self.begun = rows, 0

    def __call__(self):
        self.begun += 1
        for start in range(0, self.rows, 333):
            rows = slice(start, min(start + 333, self.rows))
            yield {"numbers": np.resize(X, (self.rows, 3))[rows], "y": np.resize(y, self.rows)[rows]}


def part_of(source):
    leaves = Leaves(source, M, LEAF, KINDS, threading.RLock())
    return PassedPart(M, LEAF, {"numbers": leaves, "y": leaves}, "known")


def test_rows_are_right_in_any_order_and_cheap_in_sequence(monkeypatch):
    monkeypatch.setattr(passing, "KEPT", 1)
    source = Source()
    part = part_of(source)
    read = part.reader("numbers")
    for start in range(0, M, 100):
        assert np.array_equal(read(slice(start, start + 100)), X[start : start + 100])
    assert source.begun == 1
    assert np.array_equal(part.reader("y")(slice(0, 700)), y[:700])
    assert source.begun == 2
    assert np.array_equal(part.arrays().numbers, X)
    assert np.array_equal(part.arrays(slice(1900, M)).y, y[1900:])
    with pytest.raises(InputError, match="read from its files in sequence"):
        read(np.array([1, 0]))
    with ThreadPoolExecutor(4) as threads:
        starts = [int(start) for start in rng.integers(0, M - 50, 40)]
        for start, rows in zip(starts, threads.map(lambda i: read(slice(i, i + 50)), starts), strict=True):
            assert np.array_equal(rows, X[start : start + 50])


def test_cost_and_gradient_have_the_bits_of_memory_for_any_threads():
    net = fb.Network([3, 4, 1])
    params = net.init(seed=0, dtype="float32")
    expected = fb.cost_and_gradients(net, params, X.T, y[np.newaxis].astype(np.float32))
    from fullbatch.training.objective import Objective

    part = part_of(Source())
    examples = Examples(StoredTable(part, 3), StoredTarget(part, 2))
    theta = np.concatenate([np.ravel(array) for layer in params for array in layer]).astype(np.float32)
    found = set()
    for threads in (1, 3):
        with Objective(net, examples, threads=threads) as objective:
            J, gradient = objective.cost_and_gradient(theta)
            found.add((float(J), np.asarray(gradient).tobytes()))
    assert len(found) == 1
    assert found.pop()[0] == expected[0]


@pytest.mark.parametrize("rows", [M - 1, M + 1])
def test_a_pass_with_other_rows_is_an_error_for_all_who_read(rows):
    part = part_of(Source(rows))
    for _ in range(2):
        with pytest.raises(StoreError, match=f"of {M:,} rows: it has changed meanwhile"):
            part.arrays()
    part.close()
