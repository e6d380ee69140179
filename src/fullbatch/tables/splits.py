"""Which rows of a table are held out: a share of each class, the last ones by a column, or whole groups.

Each rule needs little of the rows that were read before (a count for each class, a histogram), so that a table which is
read in parts loses the same rows as one in memory.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.errors import InputError, TableError
from fullbatch.tables.encoding import MOST_CLASSES, is_whole

if TYPE_CHECKING:
    from fullbatch.tables.raw import RawColumn, RawTable

USUAL_SHARE = 0.1
GROUP_BINS = 2**16  # Groups go by bins of their hash, so that their rows are counted in little memory.


@dataclass(frozen=True)
class HoldOut:
    """The rule by which rows are held out. At most one of ``by`` and ``group`` is given.

    share : of the rows, at least 0 and less than 1
    by : a column of numbers or dates, whose largest values are held out; equal values stay together
    group : a column whose values are groups; none of them is on both sides
    seed : of what is drawn
    """

    share: float = USUAL_SHARE
    by: str | None = None
    group: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise InputError(
                f"validation must be at least 0 and less than 1 (the share of rows held out); got {self.share}."
            )
        if self.by is not None and self.group is not None:
            raise InputError(
                f"rows are held out either by {self.by!r} or by the groups of {self.group!r}, not by both."
            )
        if not self.share and (column := self.by or self.group):
            raise InputError(f"with a validation share of 0 no rows are held out, so {column!r} has nothing to decide.")

    def split(self, table: RawTable, target: str, task: str | None = None, rows: np.ndarray | None = None) -> Split:
        """Which rows of the table to learn from, and which to hold out.

        rows : their numbers in the table that the user knows, where it had others; errors name them
        """
        table.require([target], "target column")
        if self.by is not None:
            held_out, how = _last(table, self.by, self.share, rows)
        elif self.group is not None:
            held_out, how = _groups(table, self.group, self.share, self.seed, rows)
        else:
            held_out, how = _drawn(_strata(table, target, task), self.share, self.seed), "drawn at random"
        return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out), how)

    def check_sides(self, train: int, held_out: int) -> None:
        """InputError where a share that was asked for leaves one of the two sides without rows.

        The usual share may hold out none of a handful of rows, which the scores tell then.
        """
        if self.share in (0.0, USUAL_SHARE):
            return
        share = f"a validation share of {self.share:g} of {train + held_out:,} rows"
        if not held_out:
            raise InputError(f"{share} holds out none; give a larger one, or 0 to learn from all.")
        if train < 2:
            raise InputError(f"{share} leaves {train} to learn from, and two at least are needed; give a smaller one.")


@dataclass(frozen=True)
class Split:
    """Indices of the rows to learn from and of those to hold out, both sorted, and in words how they were found."""

    train: np.ndarray
    held_out: np.ndarray
    how: str

    @classmethod
    def nothing(cls, m: int, how: str) -> Split:
        """No row of m is held out, because those that are come from elsewhere."""
        return cls(np.arange(m), np.empty(0, np.intp), how)


# --- A share of each class -------------------------------------------------------------------------------------------


def _drawn(strata: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows ``Draw`` takes of a table in memory, bool (m,)."""
    return Draw(share, seed).add(strata)


class Draw:
    """Of each stratum's rows, in their order, one of every 1 / share is drawn, while a table is read in parts.

    So the share is kept to within one row, by two numbers for each stratum alone. A stratum's first row is never drawn:
    a class that is not learned from would never be predicted.
    """

    def __init__(self, share: float, seed: int) -> None:
        self.share, self.seed = share, seed
        self.m = 0  # rows so far
        self.seen: dict[Any, tuple[int, int]] = {}  # of each stratum: its rows so far, and which one its window draws

    def add(self, strata: np.ndarray) -> np.ndarray:
        """Which of the next rows are drawn, bool (k,), by the stratum of each."""
        held_out = np.zeros(len(strata), dtype=bool)
        if self.share and len(strata):
            order = np.argsort(strata, kind="stable")
            starts = np.flatnonzero(strata[order][1:] != strata[order][:-1]) + 1
            for rows in np.split(order, starts):
                held_out[rows[self._places(strata[rows[0]].item(), rows)]] = True
        self.m += len(strata)
        return held_out

    def _places(self, stratum: Any, rows: np.ndarray) -> np.ndarray:
        """Which of these rows of a stratum are drawn."""
        count, last = self.seen.get(stratum, (0, -1))
        # Row j is in window floor(j * share). Each window has about 1 / share rows, and one of them is drawn; that of
        # the last one may lie past the end.
        window = np.floor((count + np.arange(len(rows))) * self.share)
        before = np.floor((count - 1) * self.share) if count else -1.0
        first = np.flatnonzero(np.diff(window, prepend=before))
        ends = count + np.append(first[1:], _end(window[-1], self.share) - count)[: len(first)]
        # What is drawn follows from the number of the window's first row in the table, so that nothing else is kept.
        drawn = _uniform(self.m + rows[first], self.seed)
        first = first + count
        if not count:
            first[0] = 1  # the row that is never drawn
        places = np.append(last, first + np.floor(drawn * (ends - first)).astype(np.int64))
        self.seen[stratum] = count + len(rows), int(places[-1])
        places = places[places >= count] - count
        return places[places < len(rows)]


def _end(window: float, share: float) -> int:
    """The first row after this window: the least j with floor(j * share) > window, in the same arithmetic."""
    if share < 2.0**-50:  # so few rows that none of any table is drawn
        return 2**50
    j = math.ceil((window + 1) / share)
    while np.floor((j - 1) * share) > window:
        j -= 1
    while np.floor(j * share) <= window:
        j += 1
    return j


def _uniform(keys: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for each key, by the key and the seed alone."""
    return (hashed(keys, seed) >> np.uint64(11)) * 2.0**-53


def hashed(keys: np.ndarray, seed: int) -> np.ndarray:
    """64 mixed bits of each integer key and the seed, by the function of SplitMix64.

    References
    ----------
    Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    with np.errstate(over="ignore"):  # The arithmetic is modulo 2^64.
        z = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + _mixed(np.uint64(seed + 1))
        return _mixed(z)


def _mixed(z: Any) -> Any:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _strata(table: RawTable, target: str, task: str | None) -> np.ndarray:
    """A small integer for each row, the same for rows of one class; all 0 where the target is a quantity."""
    column = table.column(target)
    if task == "regress":
        return np.zeros(table.m, dtype=np.uint8)
    if column.levels is not None:
        return column.values
    values, strata = np.unique(column.values, return_inverse=True)
    if task == "classify" or (len(values) <= MOST_CLASSES and is_whole(column)):
        return strata.astype(np.min_scalar_type(len(values)))
    return np.zeros(table.m, dtype=np.uint8)


# --- The last ones by a column ---------------------------------------------------------------------------------------


def _last(table: RawTable, name: str, share: float, rows: np.ndarray | None) -> tuple[np.ndarray, str]:
    """The rows from that value on which holds out the nearest to the share, but some and not all."""
    column = ordered(table, name, rows)
    values, counts = np.unique(column.values, return_counts=True)
    if len(values) < 2:
        raise TableError(f"column {name!r} has one value in all rows, so no rows are the last ones by it.")
    after = table.m - np.cumsum(counts)[:-1]  # rows beyond the first, the second, ... value
    first = int(np.argmin(np.abs(after - share * table.m))) + 1
    return column.values >= values[first], said_of_last(name, values[first], column)


def ordered(table: RawTable, name: str, rows: np.ndarray | None) -> RawColumn:
    """The column by whose numbers, or dates, the last rows are held out."""
    table.require([name])
    if table.column(name).levels is not None:
        kind = table.column(name).kind
        raise TableError(f"column {name!r} holds {kind}s, which have no order in time; give numbers or dates.")
    return _complete(table, name, "the order of the rows", rows)


def said_of_last(name: str, least: Any, column: RawColumn) -> str:
    """How rows are held out from that value on, in words."""
    return f"{name} >= {_shown(least, time=bool(column.time))}"


def _shown(value: Any, *, time: bool) -> str:
    if not time:
        return f"{value:.15g}"
    return str(np.datetime64(round(float(value)), "s")).removesuffix("T00:00:00").replace("T", " ")


# --- Whole groups ----------------------------------------------------------------------------------------------------


def _groups(table: RawTable, name: str, share: float, seed: int, rows: np.ndarray | None) -> tuple[np.ndarray, str]:
    """The rows of the groups that come first in the order of their hash, as near to the share as there are groups."""
    bins = group_bins(table, name, seed, rows)
    return bins <= last_group_bin(np.bincount(bins, minlength=GROUP_BINS), name, share), said_of_groups(name)


def said_of_groups(name: str) -> str:
    """How rows are held out by groups, in words."""
    return f"whole groups of {name}"


def group_bins(table: RawTable, name: str, seed: int, rows: np.ndarray | None) -> np.ndarray:
    """The bin of each row, below GROUP_BINS, which follows from its group and the seed."""
    column = _complete(table, name, "groups", rows)
    return (_group_hashes(column, name, seed) >> np.uint64(64 - 16)).astype(np.int64)


def last_group_bin(counts: np.ndarray, name: str, share: float) -> int:
    """The last of the bins whose groups are held out. counts : the rows of each bin"""
    used = np.flatnonzero(counts)
    if len(used) < 2:
        raise TableError(f"column {name!r} has one group, and two at least are needed to hold one out.")
    upto = np.cumsum(counts[used])[:-1]  # rows in the first bin, in the first two, ...
    return int(used[int(np.argmin(np.abs(upto - share * counts.sum())))])


def _group_hashes(column: RawColumn, name: str, seed: int) -> np.ndarray:
    """64 bits for each row that follow from its group and the seed; numbers go by value, also where they are texts."""
    if column.levels is None:
        return hashed(_bits(column.values), seed)
    if (column.values == len(column.levels) + 1).any():
        raise TableError(
            f"column {name!r} has more than {len(column.levels):,} different texts, too many for groups; give them "
            "as numbers."
        )
    keys = np.array([_level_key(level) for level in column.levels], dtype=np.uint64)
    return hashed(keys, seed)[column.values]


def _bits(values: np.ndarray) -> np.ndarray:
    """The bits of each number as a float64, with one zero."""
    return (np.asarray(values, dtype=np.float64) + 0.0).view(np.uint64)


def _level_key(level: Any) -> int:
    try:
        return int(_bits(np.array([float(level)]))[0])
    except ValueError:
        return int.from_bytes(hashlib.blake2b(str(level).encode(), digest_size=8).digest(), "little")


def _complete(table: RawTable, name: str, what: str, rows: np.ndarray | None) -> RawColumn:
    """The column, of which no value may be missing."""
    table.require([name])
    column = table.column(name)
    gaps = np.flatnonzero(column.missing)
    if gaps.size:
        row = gaps[0] if rows is None else rows[gaps[0]]
        raise TableError(
            f"column {name!r} has no value in row {row + 1} and decides {what}; fill it in, or leave such rows out."
        )
    return column
