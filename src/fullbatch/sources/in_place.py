"""A reader of a store's numbers as they lie in the file, where that can be done, and of copies where not."""

from __future__ import annotations

from fullbatch.machine.mappings import Mapping
from fullbatch.sources.columns import Array, Where
from fullbatch.sources.direct import DirectLeaves
from fullbatch.sources.store_parts import Part


class InPlaceReader:
    """Blocks (k, m) of numbers for steps that look at a block and keep nothing of it.

    In a mapping a block may turn to zeros while it is looked at, where the file is cut short or the disk fails. So
    ``is_whole`` is asked when the step is done; where it is not, the block is asked for again, and read, which says
    what is wrong. A file that memory cannot hold is read leaf by leaf, and a leaf is whole once it is there.

    in_place : how many blocks were not copied
    """

    def __init__(self, part: Part) -> None:
        self.part, self.read = part, part.reader("numbers")
        self.mapping: Mapping | None = None
        self.direct: DirectLeaves | None = None
        self.leaf, self.rows = -1, None  # the last leaf that was looked at; None: it is read
        self.may_look, self.looked, self.in_place = True, False, 0

    def __call__(self, where: Where) -> Array:
        rows = self._look(where) if self.may_look and isinstance(where, slice) else None
        self.looked = rows is not None
        if rows is None:
            return self.read(where).T
        self.in_place += 1
        return rows.T

    def is_whole(self) -> bool:
        """Whether the last block was there until now. Where it was not, no other is looked at in its place."""
        if not self.looked or self.direct is not None:
            return True
        if self.mapping is not None and self.part.file.is_whole(self.mapping):
            return True
        self.close()
        self.may_look = self.looked = False
        return False

    def close(self) -> None:
        self._leave()
        self.mapping = self.direct = None

    def _leave(self) -> None:
        """Look at no leaf any more."""
        if self.direct is not None and self.leaf >= 0:
            self.direct.give(self.part.first + self.leaf)
        self.leaf, self.rows = -1, None

    def _look(self, where: slice) -> Array | None:
        leaf, start = divmod(where.start, self.part.leaf)
        stop = start + where.stop - where.start
        if leaf != self.leaf:
            self._leave()
            self.rows, self.leaf = self._leaf(leaf), leaf
        return None if self.rows is None or stop > len(self.rows) else self.rows[start:stop]

    def _leaf(self, leaf: int) -> Array | None:
        file, number = self.part.file, self.part.first + leaf
        if self.direct is None and self.mapping is None:
            self.direct = file.direct()
        if self.direct is not None:
            return file.rows_in(number, "numbers", *self.direct.take(file, number))
        self.part.expect_from(leaf)
        file.wait(number)
        if self.mapping is None:
            self.mapping, _ = file.mapping()
            self.may_look = self.mapping is not None
        return None if self.mapping is None else file.look(self.mapping, "numbers", number)
