"""The rows of a store to learn from, or those held out: leaves in the file, in memory, or weighed by class too."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from fullbatch.sources.columns import Where, length
from fullbatch.sources.store_file import FIELDS, StoreFile

AHEAD = 2**25  # bytes that are read ahead of a reader in sequence, and one leaf more


class StoredArrays(NamedTuple):
    """Rows of a store in memory.

    numbers : (m, k), the numbers of each row;  codes : (m, c), the features that are 1 beside these, or None
    y : (m,), positions in the classes, or the scaled target;  weight : (m,) or None
    """

    numbers: np.ndarray
    codes: np.ndarray | None
    y: np.ndarray
    weight: np.ndarray | None


class AnyPart(Protocol):
    """Rows in leaves: of a store's file, of it in memory, or made anew in each pass (``passing.py``)."""

    @property
    def m(self) -> int: ...

    @property
    def leaf(self) -> int: ...

    @property
    def window(self) -> int: ...

    @property
    def leaves(self) -> int: ...

    @property
    def kinds(self) -> dict[str, tuple[np.dtype, int]]: ...

    def checksum(self) -> str: ...

    def expect(self, leaf: int) -> None: ...

    def reader(self, name: str) -> Callable[[Where], np.ndarray]: ...

    def fill(self, name: str, where: Where, out: np.ndarray) -> None: ...

    def arrays(self, where: Where = None) -> StoredArrays: ...


@dataclass(frozen=True)
class Part:
    """Some leaves of a store, one after another, and their rows: those to learn from, or the held-out ones."""

    file: StoreFile
    first: int
    m: int

    @property
    def leaf(self) -> int:
        """The rows of a leaf."""
        return int(self.file.content["leaf"])

    @property
    def window(self) -> int:
        """So many leaves are mixed with one another in mini-batches."""
        return int(self.file.content["window"])

    @property
    def kinds(self) -> dict[str, tuple[np.dtype, int]]:
        """Dtype and width of each field."""
        return self.file.kinds

    @property
    def leaves(self) -> int:
        return -(-self.m // self.leaf)

    def checksum(self) -> str:
        """Of all leaves."""
        leaves = self.file.leaves[self.first : self.first + self.leaves]
        return _joined(f"{leaf.checksum:08x}" for leaf in leaves)

    def expect(self, leaf: int) -> None:
        """Have the system read this leaf, which comes soon."""
        if leaf < self.leaves:
            self.file.expect(self.first + leaf)

    def expect_from(self, leaf: int) -> None:
        """Have the system read this leaf and those after it: whoever reads goes on in sequence."""
        for following in range(leaf, leaf + 2 + AHEAD // self.file.bytes_of(self.first)):
            self.expect(following)

    def reader(self, name: str) -> Callable[[Where], np.ndarray]:
        """Gives a field of some rows, in a buffer of its own that is good until the next call."""
        dtype, width = self.file.kinds[name]
        buffer = np.empty((0, *([width] if width else [])), dtype)
        held = -1  # the leaf that is in the buffer as a whole, of a field of one value a row

        def read(where: Where) -> np.ndarray:
            nonlocal buffer, held
            m = length(where)
            if not width and isinstance(where, slice):
                leaf, start = divmod(where.start, self.leaf)
                if start + m <= self.leaf:
                    if leaf != held:
                        held, first = -1, leaf * self.leaf
                        buffer = np.empty(min(self.leaf, self.m - first), dtype)
                        self.fill(name, slice(first, first + len(buffer)), buffer)
                        held = leaf
                    return buffer[start : start + m]
            held = -1
            if len(buffer) < m:
                buffer = np.empty((m, *buffer.shape[1:]), dtype)
            if name == FIELDS[0] and isinstance(where, slice) and where.start % self.leaf == 0:
                self.expect_from(where.start // self.leaf)
            self.fill(name, where, buffer[:m])
            return buffer[:m]

        return read

    def fill(self, name: str, where: Where, out: np.ndarray) -> None:
        """A field of some rows into ``out``. Rows by number are for few of them: each is read by itself."""
        if not isinstance(where, slice):
            for i, row in enumerate(np.asarray(where).tolist()):
                self.file.read(name, self.first + row // self.leaf, row % self.leaf, out[i : i + 1])
            return
        done, row = 0, where.start
        while row < where.stop:
            leaf, start = divmod(row, self.leaf)
            count = min(self.leaf - start, where.stop - row)
            self.file.read(name, self.first + leaf, start, out[done : done + count])
            done, row = done + count, row + count

    def arrays(self, where: Where = None) -> StoredArrays:
        """Rows in memory; all of them if None."""
        where = slice(0, self.m) if where is None else where
        found: dict[str, Any] = dict.fromkeys(FIELDS)
        for name, (dtype, width) in self.file.kinds.items():
            found[name] = np.empty((length(where), *([width] if width else [])), dtype)
            self.fill(name, where, found[name])
        return StoredArrays(**found)


def _joined(checksums: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(checksums).encode()).hexdigest()


@dataclass(frozen=True)
class LoadedPart:
    """The same of rows in memory, in leaves and windows as they were in the file."""

    loaded: StoredArrays
    leaf: int
    window: int

    @property
    def m(self) -> int:
        return len(self.loaded.y)

    @property
    def leaves(self) -> int:
        return -(-self.m // self.leaf)

    @property
    def kinds(self) -> dict[str, tuple[np.dtype, int]]:
        there = {name: array for name, array in self.loaded._asdict().items() if array is not None}
        return {name: (array.dtype, array.shape[1] if array.ndim == 2 else 0) for name, array in there.items()}

    def checksum(self) -> str:
        """Of all leaves, as the file has it."""
        found = []
        for start in range(0, self.m, self.leaf):
            checksum = 0
            for array in self.arrays(slice(start, start + self.leaf)):
                checksum = checksum if array is None else zlib.crc32(np.ascontiguousarray(array).data, checksum)
            found.append(f"{checksum:08x}")
        return _joined(found)

    def expect(self, leaf: int) -> None:
        pass

    def reader(self, name: str) -> Callable[[Where], np.ndarray]:
        array = getattr(self.loaded, name)
        return lambda where: array[where]

    def fill(self, name: str, where: Where, out: np.ndarray) -> None:
        out[...] = getattr(self.loaded, name)[where]

    def arrays(self, where: Where = None) -> StoredArrays:
        where = slice(0, self.m) if where is None else where
        numbers, codes, y, weight = (None if array is None else array[where] for array in self.loaded)
        assert numbers is not None
        assert y is not None
        return StoredArrays(numbers, codes, y, weight)


@dataclass(frozen=True)
class Reweighted:
    """A part of a store whose rows weigh by their class too.

    by_class : (classes,), what multiplies each row's own weight, or is it, as numbers of its own type
    """

    part: AnyPart
    by_class: np.ndarray

    @property
    def m(self) -> int:
        return self.part.m

    @property
    def leaf(self) -> int:
        return self.part.leaf

    @property
    def window(self) -> int:
        return self.part.window

    @property
    def leaves(self) -> int:
        return self.part.leaves

    @property
    def kinds(self) -> dict[str, tuple[np.dtype, int]]:
        kinds = self.part.kinds
        return {**kinds, "weight": kinds.get("weight", (self.by_class.dtype, 0))}

    def checksum(self) -> str:
        return self.part.checksum()

    def expect(self, leaf: int) -> None:
        self.part.expect(leaf)

    def reader(self, name: str) -> Callable[[Where], np.ndarray]:
        return self._weights if name == "weight" else self.part.reader(name)

    def fill(self, name: str, where: Where, out: np.ndarray) -> None:
        if name != "weight":
            self.part.fill(name, where, out)
            return
        y = np.empty(len(out), self.part.kinds["y"][0])
        self.part.fill("y", where, y)
        by_class = self.by_class.astype(out.dtype)[y]
        if "weight" in self.part.kinds:
            self.part.fill("weight", where, out)
            by_class *= out
        out[...] = by_class

    def _weights(self, where: Where) -> np.ndarray:
        out = np.empty(length(where), self.kinds["weight"][0])
        self.fill("weight", where, out)
        return out

    def arrays(self, where: Where = None) -> StoredArrays:
        where = slice(0, self.m) if where is None else where
        return self.part.arrays(where)._replace(weight=self._weights(where))


def class_totals(part: AnyPart, classes: int) -> np.ndarray:
    """What the rows of each class weigh together, (classes,), added row after row as ``np.bincount`` does."""
    totals: np.ndarray = np.zeros(classes)
    read_y = part.reader("y")
    read_weight = part.reader("weight") if "weight" in part.kinds else None
    for start in range(0, part.m, part.leaf):
        rows = slice(start, min(start + part.leaf, part.m))
        y = np.concatenate([np.arange(classes), read_y(rows)])
        own = np.ones(len(y) - classes) if read_weight is None else read_weight(rows)
        totals = np.bincount(y, weights=np.concatenate([totals, own]), minlength=classes)
    return totals
