"""A reader of a store's numbers as they lie in the file, where that can be done, and of copies where not."""

from __future__ import annotations

from fullbatch.machine.mappings import Mapping
from fullbatch.sources.columns import Array, Where
from fullbatch.sources.store_parts import Part


class LeavesInPlace:
    """Whole leaves of numbers as they lie in a file that is mapped as a whole, for a step that is told of many at once.

    As with ``InPlaceReader``, a leaf may turn to zeros while it is looked at, and ``is_whole`` is asked afterwards.
    """

    def __init__(self, part: Part, mapping: Mapping) -> None:
        self.part, self.mapping, self.leaf = part, mapping, part.leaf

    @classmethod
    def of(cls, part: Part) -> LeavesInPlace | None:
        """None for a file that is not mapped, or a piece at a time."""
        mapping, _ = part.file.whole_mapping()
        return None if mapping is None else cls(part, mapping)

    def look(self, first: int, count: int) -> list[Array] | None:
        """Of so many leaves the rows of each, (rows, k); None where they are to be read, block by block.

        So are those that were not compared with their checksums yet, or that the system would have to read first: to
        wait for all of them would take longer than to work on one while another comes.
        """
        file = self.part.file
        leaves = range(self.part.first + first, self.part.first + first + count)
        if not all(map(file.is_ready, leaves)):
            return None
        found = [file.look(self.mapping, "numbers", leaf) for leaf in leaves]
        return None if any(rows is None for rows in found) else found

    def is_whole(self) -> bool:
        """Whether all that was looked at was there until now."""
        return self.part.file.is_whole(self.mapping)


class InPlaceReader:
    """Blocks (k, m) of numbers for steps that look at a block and keep nothing of it.

    A block may turn to zeros while it is looked at, where the file is cut short or the disk fails. So ``is_whole`` is
    asked when the step is done; where it is not, the block is asked for again, and read, which says what is wrong.

    mapped : how many blocks were not copied
    """

    def __init__(self, part: Part) -> None:
        self.part, self.read = part, part.reader("numbers")
        self.mapping: Mapping | None = None
        self.leaf, self.rows = -1, None  # the last leaf that was looked at; None: it is read
        self.may_map, self.looked, self.mapped = True, False, 0

    def __call__(self, where: Where) -> Array:
        rows = self._look(where) if self.may_map and isinstance(where, slice) else None
        self.looked = rows is not None
        if rows is None:
            return self.read(where).T
        self.mapped += 1
        return rows.T

    def is_whole(self) -> bool:
        """Whether the last block was there until now. Where it was not, no other is looked at in its place."""
        if not self.looked:
            return True
        if self.mapping is not None and self.part.file.is_whole(self.mapping):
            return True
        self.close()
        self.may_map = self.looked = False
        return False

    def close(self) -> None:
        self.mapping, self.leaf, self.rows = None, -1, None

    def _look(self, where: slice) -> Array | None:
        leaf, start = divmod(where.start, self.part.leaf)
        stop = start + where.stop - where.start
        if leaf != self.leaf:
            self.leaf, self.rows = leaf, self._leaf(leaf)
        return None if self.rows is None or stop > len(self.rows) else self.rows[start:stop]

    def _leaf(self, leaf: int) -> Array | None:
        file, number = self.part.file, self.part.first + leaf
        self.part.expect_from(leaf)
        file.wait(number)
        if self.mapping is None:
            self.mapping, _ = file.mapping()
            self.may_map = self.mapping is not None
        return None if self.mapping is None else file.look(self.mapping, "numbers", number)
