"""Bins beside a number: a network learns a step of its own in each, as a tree would, where values repeat.

A number is one feature, and a network has to build each bend of what it tells from its units. Beside its bin, one of
BINS that have about as many rows each, the first layer has a weight for each step at once; a value that many rows
share, such as a capital gain of 0, counts for no more than a bin's share, so that the others get bins too.

Held-out log-loss, or RMSE, of one seed, a number alone / with 16 / 32 / 64 / 128 bins, of the other defaults of then:
adult 0.3142 / - / 0.2944 / 0.2943 / 0.2930, diamonds 585 / - / 561 / 555 / 577. Of letter and digits, whose columns are
small integers and have their levels beside them, nothing changes.

Not where values hardly repeat (fewer than REPEATS rows a value): a bin of these tells nothing that the number does
not, and hats of 8 to 64 knots had made tables of measurements worse. Not beside dates, which go on beyond the
training's. Not in tables of more than MOST_ROWS rows, in which the network finds the steps itself and the bins were
learned by heart (nyc-late 0.4389, with 64 bins 0.4399), nor of fewer than LEAST_ROWS; nor where more than MOST_COLUMNS
columns would have them, as of pixels. ``numeric`` leaves a column without.
"""

from __future__ import annotations

import numpy as np

from fullbatch.tables.distinct import distinct, tallied

NAME = "bin"  # what the category is called, beside "weekday" and the other parts of dates
BINS = 64
REPEATS = 4
LEAST_ROWS, MOST_ROWS = 1000, 100_000
MOST_COLUMNS = 50
SAMPLED = 8192  # values of which the edges are found: at least half as many as these, where there are so many


def edges_of(values: np.ndarray) -> tuple[float, ...]:
    """What lies between the bins of these values (some rows of a column, NaN where missing), in order; (): no bins.

    Bin j has the values from edge j - 1 on, below edge j. Where no more values differ than BINS, each has a bin.
    """
    different, counts = tallied(values[np.isfinite(values)].astype(np.float64))
    present = int(counts.sum())
    if len(different) < 3 or REPEATS * len(different) > present:
        return ()
    last = np.arange(len(different) - 1)
    if len(different) > BINS:
        upto = np.cumsum(np.minimum(counts, -(-present // BINS)))
        last = distinct(np.searchsorted(upto, np.linspace(0, upto[-1], BINS + 1)[1:-1]))
        last = last[last < len(different) - 1]
    low, high = different[last], different[last + 1]
    edges = low + (high - low) / 2
    return tuple(distinct(np.where(edges > low, edges, high)).tolist())


def may_have(time: str | None, rows: int) -> bool:
    """Whether numbers of a table of so many rows to learn from may have bins. time : of their ``RawColumn``"""
    return not time and LEAST_ROWS <= rows <= MOST_ROWS


def bin_of(values: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """The bin of each value (m,); their number where it is missing."""
    found = np.searchsorted(np.array(edges), values, side="right")
    found[np.isnan(values)] = len(edges) + 1
    return found.astype(np.min_scalar_type(len(edges) + 1))


class Sample:
    """Every s-th of the values that come in parts, s the least power of two by which they are no more than SAMPLED.

    It is the same one however they are cut into parts.
    """

    def __init__(self) -> None:
        self.every, self.seen, self.size = 1, 0, 0
        self.kept: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        """The next values; they may be changed afterwards."""
        taken = values[-self.seen % self.every :: self.every].copy()
        self.kept.append(taken)
        self.seen, self.size = self.seen + len(values), self.size + len(taken)
        while self.size > SAMPLED:
            half = self.total()[::2].copy()
            self.kept, self.size, self.every = [half], len(half), 2 * self.every

    @classmethod
    def of(cls, values: np.ndarray) -> np.ndarray:
        """What is kept of a whole column."""
        sample = cls()
        sample.add(values)
        return sample.total()

    def total(self) -> np.ndarray:
        """The values that were kept."""
        return np.concatenate(self.kept) if self.kept else np.empty(0)
