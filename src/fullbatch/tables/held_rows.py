"""Held-out rows that are a table of their own, in files, beside the table that a store is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fullbatch.errors import TableError
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.fit import said_of_rows
from fullbatch.tables.in_pieces import RowsInPieces
from fullbatch.tables.raw import RawTable
from fullbatch.tables.roles import said_of_classes
from fullbatch.tables.row_numbers import rows_from
from fullbatch.tables.target import POISSON, refuse_negative


class HeldRows(RowsInPieces):
    """The rows of files that can be scored: those with a target, a weight above 0, and a class that training has.

    loss : what a regression will be trained with
    known : how many these are;  others : of each other class how many rows have it
    """

    def __init__(
        self, encoding: TableEncoding, paths: Sequence[str | Path], weight: str | None = None, loss: str = ""
    ) -> None:
        super().__init__(encoding, [Path(path) for path in paths], scored=True, weight=weight)
        self.loss = loss
        self.known = 0
        self.others: dict[str, int] = {}

    @property
    def left_out(self) -> dict[str, int]:
        """How many rows cannot be scored, by the reason."""
        return {"without_target": self.gaps, "weight_0": self.nothing}

    def count(self) -> None:
        """Read all of them once. TableError where they cannot be scored."""
        others: Counter[str] = Counter()
        self.known = 0
        first = self.paths[0]
        try:
            for table, _ in self._kept(others):
                self.known += table.m
        except TableError as error:  # Its rows have numbers of their own, so that it has to be named.
            raise error if str(first) in str(error) else TableError(f"{first}: {error}") from None
        self.others = dict(others)
        if not self.known and self.others:
            m = sum(self.others.values())
            raise TableError(f"{first}: {said_of_classes(self.others, m)}; no row is left to score.")
        if not self.known:
            raise TableError(f"{first}: no row is left to score: {said_of_rows(self.left_out, self.m)}.")

    def tables(self) -> Iterator[tuple[RawTable, np.ndarray | None]]:
        """The rows in their order, piece by piece, and their weights. TableError where they are others now."""
        done = 0
        for table, weight in self._kept(Counter()):
            done += table.m
            yield table, weight
        if done != self.known:
            raise TableError(f"{self.paths[0]} has changed while it was read: {self.known:,} rows, then {done:,}.")

    def _kept(self, others: Counter[str]) -> Iterator[tuple[RawTable, np.ndarray | None]]:
        for piece in self._tables():
            m = self.m
            table, weight, rows = self._counting(piece)
            if self.loss == POISSON:  # whose cost has no place for them; others can tell how far they are
                target = str(self.encoding.target)
                with rows_from(m, rows):
                    refuse_negative(target, table.column(target), POISSON, log=False)
            known, found = self.encoding.known_classes(table)
            others.update(found)
            if found:
                rows = np.flatnonzero(known)
                table, weight = table.select(rows), None if weight is None else weight[rows]
            if table.m:
                yield table, weight
