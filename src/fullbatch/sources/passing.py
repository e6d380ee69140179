"""Rows that are made anew in each pass, leaf by leaf in their order, and kept nowhere: a table as its files lie.

A pass is an iterator over pieces of rows. Readers of several threads share it: whoever asks for a leaf that is not
there yet makes those up to it, and a few of the last leaves stay, since threads are never many blocks apart. Asked for
a leaf from before these, a new pass begins; so the rows are right in any order, and cheap in sequence alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fullbatch.errors import InputError, StoreError
from fullbatch.sources.columns import Where, length
from fullbatch.sources.store_file import FIELDS
from fullbatch.sources.store_parts import StoredArrays

Pieces = Callable[[], Iterator[Mapping[str, np.ndarray]]]  # begins a pass: of the next rows, these fields
KEPT = 2**26  # bytes of leaves that stay for threads that are behind; never fewer than LEAST leaves
LEAST = 4


class Leaves:
    """Some fields of rows, in leaves that passes make.

    begin : begins a pass;  m : the rows of each;  kinds : dtype and width of each field
    lock : held while rows are made; fields that come from the same files share one
    """

    def __init__(
        self, begin: Pieces, m: int, leaf: int, kinds: Mapping[str, tuple[np.dtype, int]], lock: threading.RLock
    ) -> None:
        self.begin, self.m, self.leaf, self.kinds, self.lock = begin, m, leaf, dict(kinds), lock
        size = leaf * sum(dtype.itemsize * max(width, 1) for dtype, width in self.kinds.values())
        self.most = max(LEAST, KEPT // max(size, 1))
        self.made: dict[int, dict[str, np.ndarray]] = {}
        self.pass_: Generator[dict[str, np.ndarray], None, None] | None = None
        self.next = 0

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        with self.lock:
            while number not in self.made:
                if self.pass_ is None or number < self.next:
                    self.close()
                    self.pass_ = self._leaves()
                try:
                    self._make(self.pass_)
                except BaseException:
                    self.close()
                    raise
            return self.made[number]

    def _make(self, pass_: Generator[dict[str, np.ndarray], None, None]) -> None:
        self.made[self.next] = next(pass_)
        self.next += 1
        while len(self.made) > self.most:
            del self.made[min(self.made)]
        if self.next * self.leaf >= self.m:
            next(pass_, None)  # It looks whether the files are what they were.

    def close(self) -> None:
        """End the pass, and let its leaves go."""
        with self.lock:
            pass_, self.pass_, self.next = self.pass_, None, 0
            self.made.clear()
            if pass_ is not None:
                pass_.close()

    def _leaves(self) -> Generator[dict[str, np.ndarray], None, None]:
        """One pass, in leaves. StoreError where it has other rows than it should have."""
        made, filled, done = self._empty(0), 0, 0
        for piece in self.begin():
            k, start = len(next(iter(piece.values()))), 0
            if done + k > self.m:
                done += k
                break
            while start < k:
                count = min(len(made[next(iter(made))]) - filled, k - start)
                for name, array in made.items():
                    array[filled : filled + count] = piece[name][start : start + count]
                filled, start, done = filled + count, start + count, done + count
                if filled == self.leaf or done == self.m:
                    yield made
                    made, filled = self._empty(done), 0
        if done != self.m:
            raise StoreError(f"a pass over the table gave {done:,} of {self.m:,} rows: it has changed meanwhile.")

    def _empty(self, done: int) -> dict[str, np.ndarray]:
        m = min(self.leaf, self.m - done)
        return {name: np.empty((m, *([width] if width else [])), dtype) for name, (dtype, width) in self.kinds.items()}


@dataclass(frozen=True)
class PassedPart:
    """Rows that passes make, as a part of a store is one: for full batches, which read in sequence.

    of_field : the leaves in which each field is;  known_by : what stands for a checksum of the rows
    """

    m: int
    leaf: int
    of_field: Mapping[str, Leaves]
    known_by: str
    window: int = 1

    @property
    def leaves(self) -> int:
        return -(-self.m // self.leaf)

    @property
    def kinds(self) -> dict[str, tuple[np.dtype, int]]:
        return {name: self.of_field[name].kinds[name] for name in FIELDS if name in self.of_field}

    def checksum(self) -> str:
        """No row is read for it."""
        return self.known_by

    def expect(self, leaf: int) -> None:
        pass

    def reader(self, name: str) -> Callable[[Where], np.ndarray]:
        """Gives a field of some rows: a part of a leaf, or a copy where they lie in several."""
        leaves = self.of_field[name]

        def read(where: Where) -> np.ndarray:
            if isinstance(where, slice) and where.stop > where.start:
                number, start = divmod(where.start, self.leaf)
                if where.stop <= (number + 1) * self.leaf:
                    return leaves[number][name][start : start + length(where)]
            dtype, width = leaves.kinds[name]
            out = np.empty((length(where), *([width] if width else [])), dtype)
            self.fill(name, where, out)
            return out

        return read

    def fill(self, name: str, where: Where, out: np.ndarray) -> None:
        if not isinstance(where, slice):
            raise InputError(
                "the rows of this table are read from its files in sequence, and mini-batches take them in another "
                "order; write it as a store (`fullbatch convert`), or train by full batches."
            )
        done, row = 0, where.start
        while row < where.stop:
            number, start = divmod(row, self.leaf)
            count = min(self.leaf - start, where.stop - row)
            out[done : done + count] = self.of_field[name][number][name][start : start + count]
            done, row = done + count, row + count

    def arrays(self, where: Where = None) -> StoredArrays:
        """Rows in memory; all of them if None."""
        where = slice(0, self.m) if where is None else where
        found: dict[str, Any] = dict.fromkeys(FIELDS)
        for name, (dtype, width) in self.kinds.items():
            found[name] = np.empty((length(where), *([width] if width else [])), dtype)
        for name, array in found.items():
            if array is not None:
                self.fill(name, where, array)
        return StoredArrays(**found)

    def close(self) -> None:
        for leaves in set(self.of_field.values()):
            leaves.close()
