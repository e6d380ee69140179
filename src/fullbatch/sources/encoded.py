"""A table of numbers and category codes as columns of numbers: the codes become one-hot block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fullbatch.machine import arrays
from fullbatch.sources.columns import Array, Coded, Layout, Reader, Where, length

FEW = 1 / 4  # the share of a table's features that its entries may be for steps on a GPU that read codes


@dataclass(frozen=True)
class EncodedTable:
    """A ``Columns`` source of ``n`` features: ``k`` numbers, then ones and zeros for ``c`` category columns.

    numbers : (m, k), C-contiguous, of the dtype of the blocks
    ones : (m, c) unsigned integers: which features of each example are 1. A 0 stands for none: feature 0 is a
        number, and the numbers are written last. So where there are ones, k is at least 1.
    n : features in all
    """

    numbers: np.ndarray
    ones: np.ndarray
    n: int

    @property
    def m(self) -> int:
        return len(self.numbers)

    @property
    def like(self) -> Array:
        return self.numbers[:0]

    def in_memory(self) -> Layout:
        return Layout(numbers=self.numbers.T, codes=self.ones if self.ones.shape[1] else None)

    def reader(self) -> Reader:
        """Blocks (n, k) as transposes: of a buffer that the reader owns or, without ones, of a slice."""
        return OneHotReader(self._rows, self.n) if self.ones.shape[1] else _NumbersReader(self.numbers)

    def sparse_reader(self, share: float) -> Reader | None:
        few = self.numbers.shape[1] + self.ones.shape[1] <= share * self.n
        return SparseReader(self._rows, self.n) if few else None

    @property
    def entries(self) -> int:
        return entries_of(self.numbers, self.ones)

    def coded_reader(self) -> Reader:
        return coded(self._rows, self.n)

    def _rows(self, where: Where) -> tuple[np.ndarray, np.ndarray]:
        return _rows(self.numbers, where), _rows(self.ones, where)


@dataclass(frozen=True)
class EncodedThere:
    """An EncodedTable whose arrays lie on a GPU. Steps that know no codes get blocks that are made there."""

    numbers: Array
    ones: Array
    n: int

    @property
    def m(self) -> int:
        return int(self.numbers.shape[0])

    @property
    def like(self) -> Array:
        return self.numbers[:0]

    def in_memory(self) -> Layout:
        return Layout(numbers=self.numbers.T, codes=self.ones)

    @property
    def entries(self) -> int:
        return entries_of(self.numbers, self.ones)

    def coded_reader(self) -> Reader:
        return coded(self._rows, self.n)

    def reader(self) -> Reader:
        xp = arrays.namespace(self.numbers)

        def read(where: Where) -> Array:
            numbers, ones = self._rows(where)
            k, j = numbers.shape
            block = xp.zeros((k, self.n), dtype=numbers.dtype)
            block[xp.arange(k)[:, None], xp.astype(ones, xp.int64)] = 1
            block[:, :j] = numbers
            return block.T

        return read

    def _rows(self, where: Where) -> tuple[Array, Array]:
        if isinstance(where, slice):
            return self.numbers[where], self.ones[where]
        xp = arrays.namespace(self.numbers)
        there = xp.asarray(where)
        return xp.take(self.numbers, there, axis=0), xp.take(self.ones, there, axis=0)


def entries_of(numbers: Array, ones: Array) -> int:
    return int(numbers.shape[1] + ones.shape[1]) if ones.shape[1] else 0


def coded(rows: Rows, n: int) -> Reader:
    """A reader of Coded blocks of ``n`` features."""

    def read(where: Where) -> Coded:
        numbers, ones = rows(where)
        return Coded(numbers, ones, (n, int(numbers.shape[0])))

    return read


Rows = Callable[[Where], tuple[Array, Array]]  # numbers and ones of some examples, as EncodedTable has them


class _NumbersReader:
    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers
        self.buffer = numbers[:0]

    def __call__(self, where: Where) -> Array:
        if isinstance(where, slice):
            return self.numbers[where].T
        if len(self.buffer) < len(where):
            self.buffer = np.empty((len(where), self.numbers.shape[1]), self.numbers.dtype)
        # The mode is "clip", because with "raise" NumPy takes into a copy of ``out``.
        return self.numbers.take(where, axis=0, out=self.buffer[: len(where)], mode="clip").T


class OneHotReader:
    """Owns a row-major buffer of zeros; the ones of a block are taken back before the next is written."""

    def __init__(self, rows: Rows, n: int) -> None:
        self.rows, self.n = rows, n
        self.buffer = np.zeros((0, n))
        self.positions = np.empty((0, 0), np.intp)  # where each row's ones are in the flat buffer
        self.first = np.empty((0, 1), np.intp)  # where each row's feature 0 is in it
        self.used = 0  # so many rows, the first ones, hold ones of the last block

    def __call__(self, where: Where) -> Array:
        numbers, ones = self.rows(where)
        k = length(where)
        if len(self.buffer) < k or self.positions.shape[1] != ones.shape[1]:  # The first time, neither is known.
            self.buffer = np.zeros((k, self.n), numbers.dtype)
            self.positions = np.empty((k, ones.shape[1]), np.intp)
            self.first = (np.arange(k, dtype=np.intp) * self.n)[:, np.newaxis]
            self.used = 0
        flat = self.buffer.reshape(-1)
        flat[self.positions[: self.used]] = 0
        self.used = k
        positions = np.add(self.first[:k], ones, out=self.positions[:k])
        flat[positions] = 1
        block = self.buffer[:k]
        block[:, : numbers.shape[1]] = numbers
        return block.T


class SparseBlock(NamedTuple):
    """A block (n, k) as SciPy's CSC array has it. SciPy, slow to import, comes in where its transpose is asked for.

    To the native step, which predicts a single row in the time of a start, the three arrays are enough.
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]

    @property
    def T(self) -> Any:
        """SciPy's CSR array (k, n)."""
        from scipy.sparse import csr_array

        return csr_array((self.data, self.indices, self.indptr), shape=self.shape[::-1])


class SparseReader:
    """Makes blocks from the codes, which are nearly a CSR matrix already; a row's numbers are its features 0, 1, ..."""

    def __init__(self, rows: Rows, n: int) -> None:
        self.rows, self.n = rows, n

    def __call__(self, where: Where) -> Array:
        numbers, ones = self.rows(where)
        k, width = len(numbers), numbers.shape[1] + ones.shape[1]
        # A code of 0 stands for no feature, so the value there is 0, and not 1.
        values = np.concatenate([numbers, ones != 0], axis=1, dtype=numbers.dtype)
        features = np.empty((k, width), np.int32)
        features[:, : numbers.shape[1]] = np.arange(numbers.shape[1])
        features[:, numbers.shape[1] :] = ones
        starts = np.arange(0, k * width + 1, width, dtype=np.int32)
        return SparseBlock(values.reshape(-1), features.reshape(-1), starts, (self.n, k))


def _rows(table: np.ndarray, where: Where) -> np.ndarray:
    return table[where] if isinstance(where, slice) else table.take(where, axis=0)
