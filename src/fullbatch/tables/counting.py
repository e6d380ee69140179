"""The first passes over a table that is read in pieces: its target, which rows are held out, what the others hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from fullbatch.errors import TableError
from fullbatch.tables.bins import Sample
from fullbatch.tables.encoding import numbers_of
from fullbatch.tables.parts import LEVELS, part_of, parts_for
from fullbatch.tables.raw import RawColumn, RawTable
from fullbatch.tables.row_numbers import rows_from
from fullbatch.tables.splits import Draw, HoldOut
from fullbatch.tables.statistics import ColumnStatistics, Folding
from fullbatch.tables.stream import Pieces

MOST_NUMBERS = 2**20  # So many different numbers may be levels of a category, or classes.
SHOWN = 200  # So many of the first rows are kept, of which a report shows some values.


class Target(NamedTuple):
    """The columns that are no inputs."""

    name: str
    weight: str | None


def usable(piece: RawTable, of: Target, first: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The rows that have a target and a weight above 0, None for all of them; and the weights of all rows.

    first : the number of the piece's first row
    """
    keep = ~piece.column(of.name).missing
    weight = None
    if of.weight is not None:
        with rows_from(first):
            weight = numbers_of(of.weight, piece.column(of.weight)).astype(np.float64)
        bad = np.flatnonzero(keep & ~(weight >= 0))
        if bad.size:
            raise TableError(
                f"column {of.weight!r} holds the weights, and row {first + int(bad[0]) + 1} has {weight[bad[0]]:g}; "
                "expected numbers of at least 0."
            )
        keep &= weight > 0
    return (None if keep.all() else np.flatnonzero(keep)), weight


@dataclass
class TargetCounts:
    """What is known of the target, of all rows.

    m : rows;  kept : those that can be learned from;  left_out : the others, by the reason
    column : few rows with all different values;  task : "classify" or "regress"
    """

    of: Target
    m: int = 0
    kept: int = 0
    left_out: dict[str, int] = field(default_factory=lambda: {"without_target": 0, "weight_0": 0})
    values: np.ndarray | None = None
    column: RawColumn | None = None
    task: str = ""

    def add(self, piece: RawTable) -> None:
        column = piece.column(self.of.name)
        keep, _ = usable(piece, self.of, self.m)
        gaps = int(column.missing.sum())
        kept = piece.m if keep is None else len(keep)
        self.left_out["without_target"] += gaps
        self.left_out["weight_0"] += piece.m - gaps - kept
        self.m, self.kept = self.m + piece.m, self.kept + kept
        values = column.values if keep is None else column.values[keep]
        if self.values is None:
            self.values = np.unique(values)
        elif len(self.values) <= MOST_NUMBERS:
            self.values = np.union1d(self.values, np.unique(values))

    def representative(self, column: RawColumn) -> RawColumn:
        """The column, with each of its different values once."""
        assert self.values is not None
        values = self.values
        if column.levels is None and column.integer and values.dtype.kind == "f":
            values = values.astype(np.int64)
        return replace(column, values=values)


class Counts:
    """What an encoding is learned from (``encoding.Tallies``), of the rows to learn from; and how many are held out."""

    def __init__(
        self, pieces: Pieces, target: TargetCounts, rule: HoldOut, categorical: Sequence[str], numeric: Sequence[str]
    ) -> None:
        self.pieces, self.target, self.rule = pieces, target, rule
        self.categorical, self.numeric = categorical, numeric
        self.weighted = target.of.weight is not None
        self.train = self.held_out = 0
        self.folded: dict[str, Folding | ColumnStatistics] = {}
        self.counted: dict[str, np.ndarray] = {}
        self.sampled: dict[str, Sample] = {}
        self.parts_counted: dict[tuple[str, str], Any] = {}
        self.numbers_counted: dict[str, Counter[Any]] = {}
        self.shown: dict[str, list[np.ndarray]] = {}

    def read(self, names: Sequence[str], tell: Callable[[str, int, int], None] | None) -> None:
        """The first pass."""
        draw, first = self.draw(), 0
        for piece in self.pieces.pieces([*names, *([self.target.of.weight] if self.target.of.weight else [])]):
            keep, _ = usable(piece, self.target.of, first)
            table = piece if keep is None else piece.select(keep)
            held_out = draw.add(self.strata(table))
            rows = np.flatnonzero(~held_out) if held_out.any() else None
            for name in names:
                if first < SHOWN:
                    self.shown.setdefault(name, []).append(piece.column(name).values[: SHOWN - first])
                with rows_from(first):
                    self._add(name, table.column(name), rows)
            self.held_out += int(held_out.sum())
            self.train += table.m - int(held_out.sum())
            first += piece.m
            if tell is not None:
                tell("count", first, self.target.m)
        if first != self.target.m:
            raise TableError(f"the table has changed while it was read: {self.target.m:,} rows, then {first:,}.")
        self.folded = {name: one.total() for name, one in self.folded.items() if isinstance(one, Folding)}

    def draw(self) -> Draw:
        return Draw(self.rule.share, self.rule.seed)

    def strata(self, table: RawTable) -> np.ndarray:
        """The stratum of each row: its class, or one for all where the target is a quantity."""
        if self.target.task == "regress":
            return np.zeros(table.m, np.uint8)
        return table.column(self.target.of.name).values

    def _add(self, name: str, column: RawColumn, rows: np.ndarray | None) -> None:
        is_target = name == self.target.of.name
        as_levels = name in self.categorical or (name not in self.numeric and column.levels is not None)
        if self.target.task == "classify" if is_target else as_levels:
            self._count(name, column, rows)
        else:
            values = numbers_of(name, column)
            folding = self.folded.setdefault(name, Folding(bool(column.time)))
            assert isinstance(folding, Folding)
            values = values if rows is None else values[rows]
            folding.add(values)
            self.sampled.setdefault(name, Sample()).add(values)
            if column.time:
                self._count_parts(name, column.time, values)

    def _count(self, name: str, column: RawColumn, rows: np.ndarray | None) -> None:
        values = column.values if rows is None else column.values[rows]
        if column.levels is not None:
            counts = np.bincount(values, minlength=len(column.levels) + 2)
            self.counted[name] = self.counted.get(name, 0) + counts
            return
        different, counts = np.unique(values, return_counts=True)
        found = self.numbers_counted.setdefault(name, Counter())
        gaps = np.isnan(different) if different.dtype.kind == "f" else np.zeros(len(different), bool)
        found[None] += int(counts[gaps].sum())
        found.update(dict(zip(different[~gaps].tolist(), counts[~gaps].tolist(), strict=True)))
        if len(found) > MOST_NUMBERS:
            raise TableError(f"column {name!r} has more than {MOST_NUMBERS:,} different numbers, too many for levels.")

    def _count_parts(self, name: str, kind: str, seconds: np.ndarray) -> None:
        for part in parts_for(kind, -np.inf, np.inf):
            counts = np.bincount(part_of(seconds, part), minlength=len(LEVELS[part]) + 1)
            self.parts_counted[name, part] = self.parts_counted.get((name, part), 0) + counts

    # What the encoding asks

    def numbers(self, name: str) -> ColumnStatistics:
        found = self.folded[name]
        assert isinstance(found, ColumnStatistics)
        return found

    def levels(self, name: str) -> tuple[Sequence[Any], list[int]]:
        if name in self.counted:
            return self.pieces.columns[name].levels or (), self.counted[name].tolist()
        if name in self.numbers_counted:
            own = dict(self.numbers_counted[name])
            missing = own.pop(None, 0)
            whole = self.pieces.columns[name].integer
            levels = {int(level) if whole else level: count for level, count in own.items()}
            return list(levels), [*levels.values(), missing, 0]
        found = self.numbers(name)
        return list(found.levels), [*found.levels.values(), found.missing, 0]

    def parts(self, name: str, counted: ColumnStatistics) -> dict[str, tuple[int, ...]]:
        kind = self.pieces.columns[name].time
        if not kind or counted.least is None or counted.greatest is None:
            return {}
        found = {}
        for part in parts_for(kind, counted.least, counted.greatest):
            counts = self.parts_counted[name, part]
            levels = tuple(level for level, count in zip(LEVELS[part], counts, strict=False) if count)
            if len(levels) > 1:
                found[part] = levels
        return found

    def sample(self, name: str) -> np.ndarray:
        return self.sampled[name].total()

    def of_class(self, label: Any) -> int:
        """How many rows to learn from are of a class."""
        levels, counts = self.levels(self.target.of.name)
        return dict(zip(levels, counts, strict=False)).get(label, 0)

    def table(self) -> RawTable:
        """What the columns are, by few rows; of the target, all different values."""
        columns = self.pieces.columns
        known = {name: replace(columns[name], values=np.concatenate(shown)) for name, shown in self.shown.items()}
        assert self.target.column is not None
        known[self.target.of.name] = self.target.column
        return RawTable(known, SHOWN, self.pieces.left_out, self.pieces.missing, self.pieces.decimal)

    def statistics(self, name: str) -> ColumnStatistics:
        """What a report is made of."""
        if name in self.folded:
            return self.numbers(name)
        levels, (*counts, missing, beyond) = self.levels(name)
        seen = {level: count for level, count in zip(levels, counts, strict=True) if count}
        kind = self.pieces.columns[name].kind if seen or beyond else None
        rows = sum(seen.values()) + missing + beyond
        return ColumnStatistics(rows, missing, kind, levels=seen, beyond=beyond, unread=beyond)
