"""A store's rows in the order of mini-batches: leaves in an order drawn for each epoch, rows mixed within windows.

A window is so many leaves as the store says, whatever the memory of a machine: the order decides bits. Its rows are
read into one buffer, as the leaves lie on the disk, and taken from there in any order. What is left of a window when no
whole batch can be made of it comes first in the next one, so that all batches but an epoch's last have one size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fullbatch.errors import InputError
from fullbatch.machine.shuffling import permutation
from fullbatch.sources.columns import Examples
from fullbatch.sources.store_columns import StoredTable, StoredTarget, examples_of
from fullbatch.sources.store_parts import AnyPart, StoredArrays
from fullbatch.sources.uploaded import Uploaded


@dataclass(frozen=True)
class WindowOrder:
    """The order of all ``m`` rows in one epoch, of which nothing is drawn before it is needed.

    seed : what orders are drawn from; None: the rows stay as they lie
    """

    m: int
    seed: int | None
    epoch: int

    def __len__(self) -> int:
        return self.m

    def leaves(self, count: int) -> np.ndarray:
        return self._drawn(count)

    def rows(self, window: int, count: int) -> np.ndarray:
        """The order of the rows of a window."""
        return self._drawn(count, window + 1)

    def _drawn(self, count: int, *of: int) -> np.ndarray:
        if self.seed is None:
            return np.arange(count)
        return permutation(count, np.random.RandomState([self.seed, self.epoch, *of]))


@dataclass(frozen=True)
class LeafOrder:
    """Rows in whole leaves, in the order of ``numbers``. A part of it that lies in one leaf is a slice.

    leaf : the rows of each but the last one of all, which comes last in every order too;  m : the rows of all
    """

    leaf: int
    m: int
    numbers: np.ndarray

    @classmethod
    def of_epoch(cls, leaf: int, m: int, order: WindowOrder) -> LeafOrder:
        """That of the order's epoch: the leaves are drawn as those of windows are."""
        whole = m // leaf
        numbers = order.leaves(whole)
        return cls(leaf, m, numbers if whole * leaf == m else np.append(numbers, whole))

    def __len__(self) -> int:
        if not len(self.numbers):
            return 0
        return (len(self.numbers) - 1) * self.leaf + self._rows(int(self.numbers[-1]))

    def _rows(self, number: int) -> int:
        return min(self.leaf, self.m - number * self.leaf)

    def __getitem__(self, where: slice) -> LeafOrder | slice:
        start, stop, _ = where.indices(len(self))
        first, odd = divmod(start, self.leaf)
        last = -(-stop // self.leaf)
        if last - first == 1:
            at = int(self.numbers[first]) * self.leaf
            return slice(at + odd, at + stop - first * self.leaf)
        if odd or (stop % self.leaf and stop != len(self)):
            raise InputError("an order of whole leaves is cut between two of them.")
        return LeafOrder(self.leaf, self.m, self.numbers[first:last])


def part_of(examples: Examples) -> AnyPart | None:
    """The part of a store that examples are; None: they are no store's."""
    X = examples.X.host if isinstance(examples.X, Uploaded) else examples.X
    return X.part if isinstance(X, StoredTable) else None


class Window:
    """A buffer for a window of a store's rows and what was left of the last one. ``examples`` are whatever is in it."""

    def __init__(self, whole: Examples, batch_size: int) -> None:
        part = part_of(whole)
        assert part is not None
        self.part, self.batch_size = part, batch_size
        capacity = min(part.window * part.leaf, part.m) + batch_size
        empty = {
            name: np.empty((capacity, *([width] if width else [])), dtype)
            for name, (dtype, width) in part.kinds.items()
        }
        self.fields = empty
        Y = whole.Y.host if isinstance(whole.Y, Uploaded) else whole.Y
        assert isinstance(Y, StoredTarget)
        self.examples = examples_of(
            StoredArrays(empty["numbers"], empty.get("codes"), empty["y"], empty.get("weight")), whole.X.n, Y.classes
        )
        if isinstance(whole.X, Uploaded):
            if whole.weight is not None:
                raise InputError("mini-batches of a store with weights run on the CPU alone; give device='cpu'.")
            place = whole.X.place
            assert self.examples.Y is not None
            self.examples = Examples(Uploaded(self.examples.X, place), Uploaded(self.examples.Y, place))

    def chunks(self, order: Any, done: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """The order's examples, as indices into the buffer: a multiple of the batch at a time, but for the last ones.

        Yields (how many examples come before, indices), from the chunk on that holds example number ``done``: windows
        before it are not read, but for what was left of them. The examples of one chunk are there until the next is
        asked for.
        """
        if isinstance(order, slice):
            order = WindowOrder(order.stop - order.start, None, 0)
        part, size = self.part, self.batch_size
        leaves = order.leaves(part.leaves)
        starts = range(0, len(leaves), part.window)
        first, before, count_left = self._first(leaves, done)
        left = np.zeros(count_left, np.int64)  # any row stands for these: the batches that have them are done
        for number in range(first, len(starts)):
            start = starts[number]
            for field in self.fields.values():
                field[: len(left)] = field[left]
            this, following = (leaves[at : at + part.window] for at in (start, start + part.window))
            self._expect(this)
            count = self._load(len(left), this)
            self._expect(following)
            indices = np.concatenate([np.arange(len(left)), len(left) + order.rows(number, count)])
            whole = len(indices) if number == len(starts) - 1 else len(indices) // size * size
            if whole and before + whole > done:
                yield before, indices[:whole]
            before, left = before + whole, indices[whole:]

    def _first(self, leaves: np.ndarray, done: int) -> tuple[int, int, int]:
        """The window to begin with, the examples of the chunks before it, and how many were left of earlier windows.

        It is the window whose chunk holds example number ``done``; or an earlier one, where that chunk begins with rows
        that an earlier window left over: they have to be read again.
        """
        rows = np.minimum(self.part.leaf, self.part.m - leaves * self.part.leaf)
        counts = [
            int(rows[start : start + self.part.window].sum()) for start in range(0, len(leaves), self.part.window)
        ]
        ends = np.cumsum(counts)
        chunks = [0, *(ends[:-1] // self.batch_size * self.batch_size).tolist()]  # where that of each window begins
        number = max((i for i, first in enumerate(chunks) if first <= done), default=0)
        needed = int(ends[number - 1]) - chunks[number] if number else 0
        while needed > 0:
            number -= 1
            needed -= counts[number]
        return number, chunks[number], (int(ends[number - 1]) if number else 0) - chunks[number]

    def _expect(self, leaves: np.ndarray) -> None:
        for leaf in leaves.tolist():
            self.part.expect(leaf)

    def _load(self, at: int, leaves: np.ndarray) -> int:
        """Read leaves into the buffer, from row ``at`` on; how many rows they have."""
        part, count = self.part, 0
        for leaf in leaves.tolist():
            first = leaf * part.leaf
            rows = min(part.leaf, part.m - first)
            for name, field in self.fields.items():
                part.fill(name, slice(first, first + rows), field[at + count : at + count + rows])
            count += rows
        return count
