"""A table of numbers in a memory map that is larger than memory: an epoch's order goes by windows, as of a store.

Single rows in any order would be read from the disk one by one, 2,000 times slower than in sequence. So blocks of rows
that lie together are drawn, those of a window are read one after another as they lie, and the rows of a window are
mixed, while the system has them in its cache. A file whose rows lie sorted is mixed less than by a store, which is
permuted once.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np

from fullbatch.machine import memory
from fullbatch.sources.columns import Columns, Examples
from fullbatch.sources.memory import Dense, Subset
from fullbatch.sources.uploaded import Uploaded

BLOCK = 2**18  # bytes of rows that are read at a time
WINDOW = 2**28  # bytes of blocks that are mixed; both are the same whatever the memory, since the order decides bits


class Read(Dense):
    """The same, of which windows are read already."""


def is_large_map(X: Columns) -> bool:
    """Whether a source's rows lie in a memory map of more bytes than a table takes of memory, by its shape alone."""
    X = X.host if isinstance(X, Uploaded) else X
    whole = X.whole if isinstance(X, Subset) else X
    if type(whole) is not Dense or not isinstance(whole.array, np.ndarray):
        return False
    return whole.array.nbytes > memory.IN_MEMORY and _is_mapped(whole.array)


def _is_mapped(array: Any) -> bool:
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return isinstance(array, (np.memmap, mmap.mmap))


def said_of(X: Columns) -> str:
    """What is said of a large map; "" for any other source."""
    if not is_large_map(X):
        return ""
    return (
        f"X is a memory map larger than {memory.IN_MEMORY:,.0f} bytes, so its rows are shuffled within windows of "
        f"{WINDOW // 2**20} MB of blocks that lie together, and not over the whole; where they lie sorted, a store, "
        "which is permuted, is better (fullbatch convert)"
    )


class MappedWindow:
    """The rows of a map by windows. ``examples`` are all of them, of which those of the last chunk were just read."""

    def __init__(self, whole: Examples, batch_size: int) -> None:
        self.batch_size, self.m = batch_size, whole.m
        X = whole.X.host if isinstance(whole.X, Uploaded) else whole.X
        self.rows = X.indices if isinstance(X, Subset) else None
        dense = X.whole if isinstance(X, Subset) else X
        assert isinstance(dense, Dense)
        self.table = dense.array.T
        read: Columns = Read(dense.array)
        read = read if self.rows is None else Subset(read, self.rows)
        read = Uploaded(read, whole.X.place) if isinstance(whole.X, Uploaded) else read
        self.examples = Examples(read, whole.Y, whole.weight)
        bytes_a_row = self.table.shape[1] * self.table.itemsize
        self.block = max(1, BLOCK // bytes_a_row)
        self.window = max(1, WINDOW // (self.block * bytes_a_row))
        self.buffer = np.empty((self.block, self.table.shape[1]), self.table.dtype)

    def chunks(self, order: Any, done: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """The order, as indices: a multiple of the batch at a time, but for the last ones.

        Yields (how many examples come before, indices), from the chunk on that holds example number ``done``; windows
        before it are not read.

        order : a ``WindowOrder``; or a slice of all: as they lie
        """
        count, size = -(-self.m // self.block), self.batch_size
        blocks = np.arange(count) if isinstance(order, slice) else order.leaves(count)
        starts = range(0, count, self.window)
        before, left = 0, np.empty(0, np.int64)
        for number, start in enumerate(starts):
            own = blocks[start : start + self.window]
            rows = np.concatenate([np.arange(b * self.block, min((b + 1) * self.block, self.m)) for b in own.tolist()])
            mixed = rows if isinstance(order, slice) else rows[order.rows(number, len(rows))]
            indices = np.concatenate([left, mixed])
            whole = len(indices) if number == len(starts) - 1 else len(indices) // size * size
            if before + whole > done:
                self._read(np.sort(own))
                if whole:
                    yield before, indices[:whole]
            before, left = before + whole, indices[whole:]

    def _read(self, blocks: np.ndarray) -> None:
        """Have the blocks in the system's cache, read as they lie."""
        for block in blocks.tolist():
            first, last = block * self.block, min((block + 1) * self.block, self.m) - 1
            if self.rows is not None:  # They are sorted, and between them are those that are held out.
                first, last = int(self.rows[first]), int(self.rows[last])
            for start in range(first, last + 1, self.block):
                part = self.table[start : min(start + self.block, last + 1)]
                np.copyto(self.buffer[: len(part)], part)
