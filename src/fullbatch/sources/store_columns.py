"""Features, target and weights of a store's rows as sources, as those in memory are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fullbatch.sources.columns import Array, Columns, Examples, Reader, Where, length
from fullbatch.sources.encoded import EncodedTable, OneHotReader, SparseReader, coded
from fullbatch.sources.in_place import InPlaceReader, LeavesInPlace
from fullbatch.sources.memory import Dense, OneHot
from fullbatch.sources.store_parts import AnyPart, Part, Reweighted, StoredArrays


@dataclass(frozen=True)
class StoredTable:
    """The features of a store's rows as a ``Columns`` source: those that EncodedTable would have of them in memory."""

    part: AnyPart
    n: int

    @property
    def m(self) -> int:
        return self.part.m

    @property
    def like(self) -> Array:
        dtype, k = self.part.kinds["numbers"]
        return np.empty((0, k), dtype)

    def checksum(self) -> str:
        """Of all rows, their targets and weights."""
        return self.part.checksum()

    def reader(self) -> Reader:
        if "codes" in self.part.kinds:
            return OneHotReader(self._rows(), self.n)
        read = self.part.reader("numbers")
        return lambda where: read(where).T

    def in_place_reader(self) -> Reader | None:
        part = self.part.part if isinstance(self.part, Reweighted) else self.part
        return InPlaceReader(part) if isinstance(part, Part) and "codes" not in part.kinds else None

    def leaves_in_place(self) -> LeavesInPlace | None:
        part = self.part.part if isinstance(self.part, Reweighted) else self.part
        return LeavesInPlace.of(part) if isinstance(part, Part) and "codes" not in part.kinds else None

    def sparse_reader(self, share: float) -> Reader | None:
        entries = self.entries or self.part.kinds["numbers"][1]
        return SparseReader(self._rows(), self.n) if entries <= share * self.n else None

    @property
    def entries(self) -> int:
        kinds = self.part.kinds
        return int(kinds["numbers"][1] + kinds["codes"][1]) if "codes" in kinds else 0

    def coded_reader(self) -> Reader:
        return coded(self._rows(), self.n)

    def _rows(self) -> Callable[[Where], tuple[np.ndarray, np.ndarray]]:
        numbers = self.part.reader("numbers")
        if "codes" not in self.part.kinds:
            return lambda where: (numbers(where), np.empty((length(where), 0), np.uint8))
        codes = self.part.reader("codes")
        return lambda where: (numbers(where), codes(where))


@dataclass(frozen=True)
class StoredTarget:
    """The target of a store's rows as a ``Columns`` source, as the sources in memory have it.

    classes : how many there are; 0 for numbers
    """

    part: AnyPart
    classes: int

    @property
    def n(self) -> int:
        return self.classes if self.classes > 2 else 1

    @property
    def m(self) -> int:
        return self.part.m

    @property
    def like(self) -> Array:
        return np.empty((self.n, 0), self.part.kinds["numbers"][0])

    def reader(self) -> Reader:
        read, dtype = self.part.reader("y"), self.part.kinds["numbers"][0]
        if not self.classes:
            return lambda where: read(where)[np.newaxis, :]
        if self.n == 1:
            return lambda where: read(where).astype(dtype)[np.newaxis, :]
        eye = np.eye(self.n, dtype=dtype)
        return lambda where: eye.take(read(where), axis=0).T

    def filler(self) -> Callable[[Where, Array], None]:
        """Puts the numbers that a reader gives of some rows into an array (n, k)."""
        read = self.part.reader("y")

        def fill(where: Where, out: Array) -> None:
            y = read(where)
            if self.n == 1:
                out[0] = y
                return
            for label, row in enumerate(out):
                np.equal(y, y.dtype.type(label), out=row)

        return fill


def target_of(y: np.ndarray, classes: int, dtype: Any) -> Columns:
    """A target in memory, codes of so many classes or numbers (0), as a source of this dtype."""
    return OneHot(y, classes if classes > 2 else 1, dtype) if classes else Dense(y[np.newaxis, :])


@dataclass(frozen=True)
class StoredWeight:
    """The weights of a store's rows, as far as a fold asks an array for them."""

    part: AnyPart
    dtype: np.dtype = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", self.part.kinds["weight"][0])

    @property
    def shape(self) -> tuple[int]:
        return (self.part.m,)

    def __getitem__(self, where: Where) -> np.ndarray:
        out = np.empty(length(where), self.dtype)
        self.part.fill("weight", where, out)
        return out


def examples_of(arrays: StoredArrays, n: int, classes: int) -> Examples:
    """Rows of a store that lie in memory, as examples that are read there as any others are."""
    codes = np.empty((len(arrays.numbers), 0), np.uint8) if arrays.codes is None else arrays.codes
    X = EncodedTable(arrays.numbers, codes, n)
    return Examples(X, target_of(arrays.y, classes, arrays.numbers.dtype), arrays.weight)
