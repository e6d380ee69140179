"""The first passes over a table that is read in pieces: its target, which rows are held out, what the others hold."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from fullbatch.errors import TableError
from fullbatch.tables.bins import Sample
from fullbatch.tables.distinct import distinct
from fullbatch.tables.encoding import numbers_of
from fullbatch.tables.parts import LEVELS, part_of, parts_for
from fullbatch.tables.quantiles import at_rank
from fullbatch.tables.raw import RawColumn, RawTable
from fullbatch.tables.roles import said_of_classes, weights_of
from fullbatch.tables.row_numbers import rows_from
from fullbatch.tables.splits import (
    GROUP_BINS,
    Draw,
    HoldOut,
    group_bins,
    last_group_bin,
    ordered,
    said_of_groups,
    said_of_last,
)
from fullbatch.tables.statistics import ColumnStatistics, Folding
from fullbatch.tables.stream import Pieces
from fullbatch.tables.target import refuse_negative

MOST_NUMBERS = 2**20  # So many different numbers may be levels of a category, or classes.
SHOWN = 200  # So many of the first rows are kept, of which a report shows some values.


class Target(NamedTuple):
    """The columns that are no inputs, and of which type weights are."""

    name: str
    weight: str | None
    dtype: str = "float32"

    @property
    def names(self) -> list[str]:
        return [self.name, *([self.weight] if self.weight else [])]


def usable(piece: RawTable, of: Target, first: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The rows that have a target and a weight above 0, None for all of them; and the weights of all rows.

    first : the number of the piece's first row
    """
    keep = ~piece.column(of.name).missing
    weight = None
    if of.weight is not None:
        with rows_from(first):
            weight = weights_of(piece, of.weight, of.dtype)
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
            self.values = distinct(values)
        elif len(self.values) <= MOST_NUMBERS:
            self.values = distinct(np.concatenate([self.values, distinct(values)]))

    def representative(self, column: RawColumn) -> RawColumn:
        """The column, with each of its different values once."""
        assert self.values is not None
        values = self.values
        if column.levels is None and column.integer and values.dtype.kind == "f":
            values = values.astype(np.int64)
        return replace(column, values=values)


def parts_of(
    pieces: Pieces, names: Sequence[str], target: TargetCounts, first: int = 0
) -> Iterator[tuple[RawTable, RawTable, np.ndarray, np.ndarray | None]]:
    """Pieces with these columns; of each the rows that count, their numbers in the whole table, and their weights.

    first : the number of the first row
    """
    for piece in pieces.pieces([*dict.fromkeys([*names, *target.of.names])]):
        keep, weight = usable(piece, target.of, first)
        if keep is None:
            yield piece, piece, np.arange(first, first + piece.m), weight
        else:
            yield piece, piece.select(keep), keep + first, None if weight is None else weight[keep]
        first += piece.m


class Holding:
    """Which rows of a table that is read in pieces are held out: those that ``HoldOut.split`` takes of it in memory.

    names : the columns that it needs besides the target;  how : the rule in words
    """

    def __init__(self, rule: HoldOut, pieces: Pieces, target: TargetCounts) -> None:
        self.rule, self.target = rule, target
        self.names = [name for name in (rule.by, rule.group) if name is not None]
        self.how = "drawn at random"
        if rule.by is not None:
            self.least = self._least(pieces, rule.by)
            self.how = said_of_last(rule.by, self.least, pieces.columns[rule.by])
        elif rule.group is not None:
            counts = np.zeros(GROUP_BINS, np.int64)
            for _, table, rows, _ in parts_of(pieces, self.names, target):
                counts += np.bincount(group_bins(table, rule.group, rule.seed, rows), minlength=GROUP_BINS)
            self.last = last_group_bin(counts, rule.group, rule.share)
            self.how = said_of_groups(rule.group)

    def draw(self) -> Draw:
        """What ``begin`` draws by, as it is before the first row."""
        return Draw(self.rule.share, self.rule.seed)

    def begin(self, draw: Draw | None = None) -> Callable[[RawTable, np.ndarray], np.ndarray]:
        """For one pass: says of the next rows that count, and of their numbers, which are held out, bool (k,).

        draw : as it is before the first of them
        """
        rule, draw = self.rule, draw or self.draw()

        def holds(table: RawTable, rows: np.ndarray) -> np.ndarray:
            if rule.by is not None:
                return np.asarray(ordered(table, rule.by, rows).values >= self.least)
            if rule.group is not None:
                return np.asarray(group_bins(table, rule.group, rule.seed, rows) <= self.last)
            return draw.add(self._strata(table))

        return holds

    def _strata(self, table: RawTable) -> np.ndarray:
        """The stratum of each row: its class, or one for all where the target is a quantity."""
        if self.target.task == "regress":
            return np.zeros(table.m, np.uint8)
        return table.column(self.target.of.name).values

    def _least(self, pieces: Pieces, name: str) -> float:
        """The value from which on rows are held out, as near to the share as there are different values."""
        m, share = self.target.kept, self.rule.share

        def values() -> Iterator[tuple[np.ndarray, None]]:
            for _, table, rows, _ in parts_of(pieces, [name], self.target):
                yield ordered(table, name, rows).values.astype(np.float64), None

        # All rows from the value of this rank on are more than the share, and those beyond it are not.
        value = at_rank(values, float(max(0, m - 1 - int(share * m))))
        at_least = beyond = 0
        following = np.inf
        for found, _ in values():
            above = found[found > value]
            at_least += int((found >= value).sum())
            beyond += len(above)
            following = min(following, float(above.min(initial=np.inf)))
        if at_least == m and not beyond:
            raise TableError(f"column {name!r} has one value in all rows, so no rows are the last ones by it.")
        if not beyond or (at_least < m and abs(at_least - share * m) <= abs(beyond - share * m)):
            return value
        return following


class Start(NamedTuple):
    """Where in a table a part of it begins.

    row, train, held_out : how many rows, rows to learn from and held-out rows come before it
    file, offset : the number of its file, and that of its row there
    leaf : of those of the statistics, its first one's number;  draw : as it is before its first row
    """

    row: int = 0
    train: int = 0
    held_out: int = 0
    file: int = 0
    offset: int = 0
    leaf: int = 0
    draw: Draw | None = None


BEGIN = Start()


class Counts:
    """What an encoding is learned from (``encoding.Tallies``), of the rows to learn from; and how many are held out."""

    def __init__(
        self,
        pieces: Pieces,
        target: TargetCounts,
        holding: Holding,
        categorical: Sequence[str],
        numeric: Sequence[str],
        *,
        loss: str = "squared_error",
        log: bool = False,
        start: Start = BEGIN,
    ) -> None:
        self.pieces, self.target, self.holding = pieces, target, holding
        self.start = start
        self.loss, self.log = loss, log
        self.held_of_class: Counter[Any] = Counter()
        self.others: dict[str, int] = {}
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
        first = self.read_part(names, tell)
        if first != self.target.m:
            raise TableError(f"the table has changed while it was read: {self.target.m:,} rows, then {first:,}.")
        self.folded = {name: one.total() for name, one in self.folded.items() if isinstance(one, Folding)}

    def read_part(self, names: Sequence[str], tell: Callable[[str, int, int], None] | None = None) -> int:
        """Count what the pieces hold, from ``start`` on; the number of the row behind them."""
        first = self.start.row
        for piece, table, numbers, held_out, _ in self.parts_of(names):
            rows = np.flatnonzero(~held_out) if held_out.any() else None
            with rows_from(0, numbers):
                self._count_held_out(table, held_out)
            for name in names:
                if first < SHOWN:
                    self.shown.setdefault(name, []).append(piece.column(name).values[: SHOWN - first])
                with rows_from(0, numbers):
                    self._add(name, table.column(name), rows)
            self.held_out += int(held_out.sum())
            self.train += table.m - int(held_out.sum())
            first += piece.m
            if tell is not None:
                tell("count", first, self.target.m)
        return first

    def parts_of(
        self, names: Sequence[str]
    ) -> Iterator[tuple[RawTable, RawTable, np.ndarray, np.ndarray, np.ndarray | None]]:
        """Pieces with these columns; of each the rows that count, their numbers in the whole table, which of them are
        held out, and their weights.
        """
        start = self.start
        holds = self.holding.begin(copy.deepcopy(start.draw))
        for piece, table, rows, weight in parts_of(self.pieces, [*names, *self.holding.names], self.target, start.row):
            yield piece, table, rows, holds(table, rows), weight

    def _count_held_out(self, table: RawTable, held_out: np.ndarray) -> None:
        column = table.column(self.target.of.name)
        if self.target.task == "regress":
            refuse_negative(self.target.of.name, column, self.loss, log=self.log)
        elif held_out.any():
            values, counts = np.unique(column.values[held_out], return_counts=True)
            self.held_of_class.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def leave_out(self, classes: Sequence[Any]) -> None:
        """Leave out the held-out rows of classes that the others have not, which nobody can score."""
        levels = self.pieces.columns[self.target.of.name].levels
        found = {value if levels is None else levels[value]: count for value, count in self.held_of_class.items()}
        self.others = {str(label): count for label, count in found.items() if label not in classes}
        if self.others and sum(self.others.values()) == self.held_out:
            raise TableError(f"{said_of_classes(self.others, self.held_out)}; no row is left to score.")
        self.held_out -= sum(self.others.values())

    def made(self, name: str, make: Callable[[np.ndarray], np.ndarray]) -> ColumnStatistics:
        """By another pass."""
        folding = Folding()
        for _, table, _, held_out, _ in self.parts_of([name]):
            folding.add(make(numbers_of(name, table.column(name)))[~held_out])
        return folding.total()

    def _add(self, name: str, column: RawColumn, rows: np.ndarray | None) -> None:
        is_target = name == self.target.of.name
        as_levels = name in self.categorical or (name not in self.numeric and column.levels is not None)
        if self.target.task == "classify" if is_target else as_levels:
            self._count(name, column, rows)
        else:
            values = numbers_of(name, column)
            folding = self.folded.setdefault(name, Folding(bool(column.time), self.start.leaf))
            assert isinstance(folding, Folding)
            values = values if rows is None else values.take(rows)
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
