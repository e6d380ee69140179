"""The rows of files as a network takes them, in pieces: what is predicted and scored need not fit into memory.

A model says what its columns are, so nothing has to be concluded from all of their values first: each piece becomes
the same features that it has in the whole table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from fullbatch.errors import TableError
from fullbatch.sources.encoded import EncodedTable
from fullbatch.tables.csv import csv_pieces
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.inputs import files_of, kind_of, seekable
from fullbatch.tables.joining import as_numbers, regrouped, with_values
from fullbatch.tables.network import TableNetwork
from fullbatch.tables.raw import Builder, Conventions, RawTable, finish, require
from fullbatch.tables.roles import weights_of
from fullbatch.tables.row_numbers import rows_from
from fullbatch.tables.running_scores import ClassScores, NumberScores
from fullbatch.tables.stream import Look, check_unchanged, columns_of, look, stamp_of

LEAST = 2**16  # rows that are scored at a time: more take more memory, and no less time


class Encoded(NamedTuple):
    """Some rows: their features, and where it was asked for the target and the weight of each."""

    features: EncodedTable
    target: np.ndarray | None
    weight: np.ndarray | None


class Predicted(NamedTuple):
    """What a network makes of some rows, and where it was asked for the target and the weight of each."""

    made: np.ndarray
    target: np.ndarray | None
    weight: np.ndarray | None


class RowsInPieces:
    """The rows of files by an encoding; a context manager, within which they can be read more than once.

    scored : rows without a target, or of weight 0, are left out;  weight : the column of weights

    m, gaps, nothing : how many rows were read, how many of them have no target, and how many a weight of 0
    unseen : of each category how many rows have a level that training had not, and the first of these
    """

    def __init__(
        self, encoding: TableEncoding, paths: Sequence[Path], *, scored: bool = False, weight: str | None = None
    ) -> None:
        self.encoding = encoding
        self.scored, self.weight = scored, weight
        self.paths = list(paths)
        names = [*self.encoding.feature_names]
        names += [self.encoding.target] if scored and self.encoding.target else []
        self.names = list(dict.fromkeys([*names, *([weight] if weight else [])]))
        self.conventions = Conventions.of(self.encoding)
        self.part: tuple[int, int] | None = None  # the rows of the only file that are read, where others read the rest
        self.first = 0  # the number of the first row
        self._begin()

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        files = files_of([str(path) for path in self.paths])
        try:
            self.files = [(path, self._stack.enter_context(seekable(path, None)), own) for path, own in files.items()]
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _begin(self) -> None:
        self.m, self.gaps, self.nothing = self.first, 0, 0
        self.unseen: dict[str, tuple[int, Any]] = {}
        self.kinds: dict[str, str] = {}

    def check(self) -> None:
        """Raise whatever would be raised while the rows are read, and count them."""
        for table in self._tables():
            with rows_from(self.m):
                self.encoding.check(table)
            self._count(table)

    def encoded(self, rows: int) -> Iterator[Encoded]:
        """All rows, so many at a time."""
        pieces = filter(None, map(self._encode, self._tables()))
        return regrouped(pieces, rows, lambda piece: piece.features.m, _joined, _cut)

    def _encode(self, table: RawTable) -> Encoded | None:
        """The rows of a piece that count; None: there are none."""
        m = self.m
        table, weight, keep = self._counting(table)
        if not len(keep):
            return None
        with rows_from(m, keep):
            target = self.encoding.encode_target(table) if self.scored else None
        return Encoded(self.encoding.encode(table), target, weight)

    def _counting(self, table: RawTable) -> tuple[RawTable, np.ndarray | None, np.ndarray]:
        """The rows of a piece that count, their weights, and their numbers in it; all are counted."""
        weight, keep, m = None, np.arange(table.m), self.m
        with rows_from(m):
            if self.weight is not None:
                weight = weights_of(table, self.weight, self.encoding.dtype)
        if self.scored:
            missing = table.column(str(self.encoding.target)).missing
            left = missing if weight is None else missing | (weight == 0)
            self.gaps += int(missing.sum())
            self.nothing += int(left.sum() - missing.sum())
            keep = np.flatnonzero(~left)
        with rows_from(m):
            self.encoding.check(table)
        self._count(table)
        if len(keep) < table.m:
            table, weight = table.select(keep), None if weight is None else weight[keep]
        return table, weight, keep

    def _count(self, table: RawTable) -> None:
        for name, (share, level) in self.encoding.unseen(table).items():
            count, first = self.unseen.get(name, (0, level))
            self.unseen[name] = count + round(share * table.m), first
        self.m += table.m

    # The files

    def _tables(self) -> Iterator[RawTable]:
        """The columns that are needed, piece by piece."""
        self._begin()
        text = self.encoding.text_names
        for shown, path, values in self.files:
            stamp = stamp_of(path)
            inner = [name for name in self.names if name not in values]
            for builders in _builders(path, shown, inner, text, self.conventions, self.part):
                table = with_values(finish(str(shown), builders), {n: v for n, v in values.items() if n in self.names})
                table = as_numbers(table, [name for name in values if name in table.names and name not in text])
                self._check_kinds(table)
                yield table
            check_unchanged(path, stamp)
        if not self.m and not self.gaps and self.part is None:
            raise TableError(f"{self.files[0][0]}: it has no rows; expected a header and at least one row.")

    def _check_kinds(self, table: RawTable) -> None:
        """TableError for a column of dates, or of true and false, in one piece and of other values in another."""
        for name, column in table.columns.items():
            if column.kind in ("text", "category") or column.missing.all():
                continue
            kind = "true and false" if column.kind == "boolean" else f"{column.time}s" if column.time else "numbers"
            before = self.kinds.setdefault(name, kind)
            if before != kind:
                raise TableError(
                    f"column {name!r} holds {before} in some rows and {kind} from about row {self.m + 1} on; expected "
                    "one kind."
                )


class TableInPieces(RowsInPieces):
    """The same for a network, and its scores."""

    def __init__(
        self, network: TableNetwork, paths: Sequence[Path], *, scored: bool = False, weight: str | None = None
    ) -> None:
        super().__init__(network.encoding, paths, scored=scored, weight=weight)
        self.network = network

    def predicted(self, rows: int, logarithms: bool = False) -> Iterator[Predicted]:
        """What the network makes of all rows, so many at a time: probabilities (k, classes), or scaled numbers (k,).

        logarithms : of the probabilities
        """
        network = self.network
        classes = network.log_probabilities if logarithms else network.probabilities
        make = classes if network.classes else network.numbers
        for part in self.encoded(rows):
            yield Predicted(make(part.features), part.target, part.weight)

    def evaluate(self, metric: str | None = None) -> dict[str, Any]:
        """The scores that ``TableNetwork.evaluate`` gives of the table in memory; see ``running_scores``."""
        network = self.network
        classes = len(network.classes)
        found: Any = ClassScores(classes, network.threshold, metric) if classes else NumberScores(network, metric)
        for part in self.predicted(LEAST, logarithms=True):
            found.add(*part)
        target = self.encoding.target
        if self.gaps == self.m:
            raise TableError(f"target {target!r} is missing in every row; expected at least one row that has it.")
        if not found.m:
            raise TableError(f"all rows that have the target {target!r} have a weight of 0, so there is none to score.")
        return dict(found.scores())


def _builders(
    path: Path,
    shown: Path,
    names: Sequence[str],
    text: Sequence[str],
    conventions: Conventions,
    rows: tuple[int, int] | None = None,
) -> Iterator[dict[str, Builder]]:
    """The columns of a file in pieces, each in builders of its own. rows : from which one on and up to which one"""
    kind, compression = kind_of(path, shown, None)
    if kind == "csv":
        yield from csv_pieces(path, compression, names, text, conventions)
        return
    file, _ = look(path, Look(names))
    require(names, list(file.types), "column")
    file, first = file._replace(rows=rows), 0
    for batch in columns_of(file, [name for name in file.types if name in names]):
        builders = {name: Builder(name, name in text, conventions) for name in batch}
        with rows_from(first):
            for name, array in batch.items():
                builders[name].add(array)
        first += len(next(iter(batch.values()), ()))
        yield builders


def _joined(parts: Sequence[Encoded]) -> Encoded:
    if len(parts) == 1:
        return parts[0]
    features = [part.features for part in parts]
    numbers, ones = (np.concatenate([getattr(one, name) for one in features]) for name in ("numbers", "ones"))
    target, weight = (
        None if parts[0][i] is None else np.concatenate([np.asarray(part[i]) for part in parts]) for i in (1, 2)
    )
    return Encoded(EncodedTable(numbers, ones, features[0].n), target, weight)


def _cut(part: Encoded, rows: slice) -> Encoded:
    features = EncodedTable(part.features.numbers[rows], part.features.ones[rows], part.features.n)
    target, weight = (None if array is None else array[rows] for array in (part.target, part.weight))
    return Encoded(features, target, weight)
