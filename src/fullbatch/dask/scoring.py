"""What a model says of files, or of a store's held-out rows, by the workers of a cluster: to the bits of one process.

Each worker reads some row groups of a Parquet file, or a whole file of another kind, and predicts its rows; the driver
takes them in their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fullbatch.errors import TableError
from fullbatch.sources.sharded import StoreRows
from fullbatch.sources.stored import Store
from fullbatch.tables import from_store
from fullbatch.tables.in_pieces import LEAST, Predicted, TableInPieces
from fullbatch.tables.inputs import kind_of
from fullbatch.tables.joining import regrouped
from fullbatch.tables.network import TableNetwork


class Said(NamedTuple):
    """What a worker says of a part. predicted : in pieces;  rows : what it read, as ``TableInPieces`` counts it"""

    predicted: list[Predicted]
    rows: TableInPieces


def said_of(rows: TableInPieces, logarithms: bool, checks: bool) -> Said:
    """The predictions of a part, or with ``checks`` only what is wrong with it; run by a worker."""
    rows.network = rows.network.on("cpu", None, 1)  # A worker has a task for each of its threads.
    rows._begin()
    predicted: list[Predicted] = []
    try:
        if checks:
            rows.check()
        else:
            predicted = list(rows.predicted(LEAST, logarithms))
    except TableError as error:
        if "No such file" in str(error) or "cannot be read" in str(error):
            raise TableError(f"{error} Every worker reads the table by this path: put it where all see it.") from None
        raise
    rows.m -= rows.first  # It counts from the part's first row on, so that errors name rows of the whole table.
    del rows.network, rows.encoding  # They are known where it came from.
    return Said(predicted, rows)


class RowsOnCluster(TableInPieces):
    """``TableInPieces`` whose rows the workers read and predict. workers : of the cluster"""

    def __init__(self, network: TableNetwork, paths: Sequence[Path], workers: Any, **more: Any) -> None:
        super().__init__(network, paths, **more)
        self.workers = workers

    def check(self) -> None:
        self._begin()
        for _ in self._said(logarithms=False, checks=True):
            pass

    def predicted(self, rows: int, logarithms: bool = False) -> Iterator[Predicted]:
        self._begin()
        pieces = (one for said in self._said(logarithms, checks=False) for one in said.predicted)
        yield from regrouped(pieces, rows, lambda piece: len(piece.made), _joined, _cut)

    def _said(self, logarithms: bool, checks: bool) -> Iterator[Said]:
        """What is said of each part, in order. As many are asked at once as there are workers, and no more wait."""
        parts = list(self._parts(4 * (together := max(1, len(self.workers.survey())))))
        for first in range(0, len(parts), together):
            asked = [(part, logarithms, checks) for part in parts[first : first + together]]
            for said in self.workers.each(said_of, asked):
                self._take(said.rows)
                yield said
        if not self.m:
            raise TableError(f"{self.files[0][0]}: it has no rows; expected a header and at least one row.")

    def _take(self, other: TableInPieces) -> None:
        """Count what a part had."""
        for name, kind in other.kinds.items():
            if (before := self.kinds.setdefault(name, kind)) != kind:
                raise TableError(
                    f"column {name!r} holds {before} in some rows and {kind} from about row {self.m + 1} on; expected "
                    "one kind."
                )
        for name, (count, level) in other.unseen.items():
            own, first = self.unseen.get(name, (0, level))
            self.unseen[name] = own + count, first
        self.m, self.gaps, self.nothing = self.m + other.m, self.gaps + other.gaps, self.nothing + other.nothing

    def _parts(self, parts: int) -> Iterator[TableInPieces]:
        """Tables of a file each, or of some row groups of it."""
        from pyarrow import parquet

        first = 0
        for shown, path, values in self.files:
            edges: list[Any] = [0, None]
            if kind_of(path, shown, None)[0] == "parquet":
                with parquet.ParquetFile(path, pre_buffer=False) as file:
                    groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
                upto = [0, *accumulate(groups)]
                edges = [*upto[: -1 : max(1, len(groups) // parts)], upto[-1]]
            for low, high in pairwise(edges):
                part = TableInPieces(self.network, [shown], scored=self.scored, weight=self.weight)
                part.files = [(shown.absolute(), path.absolute(), values)]
                part.part, part.first = None if high is None else (low, high), first
                yield part
                first += 0 if high is None else high - low


def _joined(parts: Sequence[Predicted]) -> Predicted:
    if len(parts) == 1:
        return parts[0]
    return Predicted(*(None if one[0] is None else np.concatenate(one) for one in zip(*parts, strict=True)))  # type: ignore[arg-type]


def _cut(part: Predicted, rows: slice) -> Predicted:
    return Predicted(*(None if one is None else one[rows] for one in part))  # type: ignore[arg-type]


def evaluate_store(network: TableNetwork, store: Store, workers: Any, metric: str | None = None) -> dict[str, Any]:
    """``from_store.evaluate``, with the predictions of the workers, who see the store by the same path."""
    rows = StoreRows.of(store, "held_out")

    def predictions(network: TableNetwork, blocks: Sequence[slice]) -> Iterator[from_store.Block]:
        together = max(1, len(workers.survey()))
        for first in range(0, len(blocks), together):
            asked = [(network, rows, block) for block in blocks[first : first + together]]
            yield from workers.each(said_of_store, asked)

    return from_store.evaluate(network, store, metric, predictions)


def said_of_store(network: TableNetwork, rows: StoreRows, block: slice) -> from_store.Block:
    """What a network makes of a block of the held-out rows; run by a worker."""
    with rows.opened() as store:
        return next(from_store.predictions_of(network.on("cpu", None, 1), store, [block]))
