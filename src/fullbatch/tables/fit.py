"""What the estimators of tables and the command share of a training, without scikit-learn: defaults and rows.

The defaults of the command and of the estimators are those of ``Settings``. Which rows are learned from, and which are
held out, is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from fullbatch.errors import InputError, TableError
from fullbatch.tables.encoding import MOST_CLASSES, decide_task, is_whole, numbers_of
from fullbatch.training.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from fullbatch.tables.raw import RawTable


@dataclass(frozen=True)
class Settings:
    """The parameters of ``TableClassifier`` and ``TableRegressor`` that a training needs, by their names.

    The defaults of the whole command stand here, and nowhere else. None leaves the choice to ``for_rows``, which makes
    it by the number of training rows and the solver.
    """

    hidden: tuple[int, ...] = (128, 64)  # units of each hidden layer; () is logistic (or linear) regression
    activation: str = "relu"
    solver: str = "adam"
    epochs: int | None = None  # passes over the training rows; iterations of lbfgs and gd
    batch_size: int | Literal["full"] | None = None
    learning_rate: float | None = None
    l2: float | None = None  # lambda of (lambda / 2m) sum ||W||^2, m the rows of a batch
    validation: float = 0.1  # the share of the rows that are held out
    max_levels: int = 1024  # levels of a category column; rarer ones share one
    dtype: str = "float32"
    random_state: int = 0
    device: str = "auto"
    device_memory: float | None = None  # bytes of a GPU, or a share of its memory
    precision: str | None = None  # None: the dtype's; "tf32"
    n_jobs: int | None = None  # CPU threads; None: all cores

    def for_rows(self, m: int) -> Settings:
        """These settings with each None replaced by the default for ``m`` training rows."""
        row = OPTIMIZERS.get(self.solver)  # None for L-BFGS
        whole = row is None or row.whole
        usual = min(max(2e7 / m, 50), 200) if whole else min(max(3000 / m**0.5, 2), 100)
        epochs = self.epochs or round(usual)
        batch: int | Literal["full"] = self.batch_size or ("full" if whole else min(max(m // 100, 32), 1000, m))
        # Larger batches have less noise and can take larger steps, in proportion to its standard deviation.
        noise = 1.0 if whole or batch == "full" else (min(batch, m) / 250) ** 0.5
        rate = self.learning_rate or (1e-3 if row is None else row.rate * noise)
        # The more rows there are, the less there is to hold back; lambda is divided by the rows of a batch.
        l2 = min(3e-4, 30 / m) * (m if batch == "full" else min(batch, m)) if self.l2 is None else self.l2
        return replace(self, epochs=epochs, batch_size=batch, learning_rate=rate, l2=l2)


# --- Rows that can be learned from --------------------------------------------------------------------------


class Learnable(NamedTuple):
    """Rows that have a target and a weight above 0, their weights, and how many others were left out, by the reason.

    kept : their numbers in the whole table; None: it has no others
    """

    table: RawTable
    weight: np.ndarray | None
    left_out: dict[str, int]
    kept: np.ndarray | None = None

    def rows(self, rows: np.ndarray) -> Learnable:
        """Some of them."""
        return Learnable(self.table.select(rows), None if self.weight is None else self.weight[rows], self.left_out)


def learnable(
    table: RawTable, target: str, weight: np.ndarray | None = None, *, numeric: Collection[str] = ()
) -> Learnable:
    """Leave out what cannot be learned from: rows without a target, and rows of weight 0, which count for nothing.

    weight : of each row, (m,), or None: all have the same
    numeric : columns that are to be numbers

    Raises TableError where no row is left, and, with the row's number in the whole table, for an infinite value.
    """
    table.require([target], "target column")
    gaps = table.column(target).missing
    nothing = np.zeros(table.m, bool) if weight is None else (weight == 0) & ~gaps
    left_out = {"without_target": int(gaps.sum()), "weight_0": int(nothing.sum())}
    keep = np.flatnonzero(~(gaps | nothing))
    if len(keep) == 1:
        raise TableError(f"one row cannot be learned from (n_samples = 1); expected at least two. Target {target!r}.")
    if len(keep) == table.m:
        return Learnable(table, weight, left_out)
    if not len(keep):
        raise TableError(f"no row is left to learn from: {said_of_rows(left_out, table.m)}; target {target!r}.")
    for name, column in table.columns.items():
        if column.levels is None or name in numeric:
            numbers_of(name, column)  # It names the row, which has another number when some are left out.
    return Learnable(table, weight, left_out).rows(keep)._replace(kept=keep)


def said_of_rows(left_out: Mapping[str, int], m: int) -> str:
    """What was left out of m rows, in words; "" for nothing."""
    reasons = {"without_target": "have no target", "weight_0": "have a weight of 0"}
    found = [f"{count:,} of {m:,} rows {reasons[name]}" for name, count in left_out.items() if count]
    return " and ".join(found)


def said_of_columns(others: Sequence[str]) -> str:
    """What is said of columns that a model has no use for."""
    from fullbatch.tables.raw import listed

    noun, verb = ("column", "is") if len(others) == 1 else ("columns", "are")
    return f"the model does not know {noun} {listed(others)}, which {verb} ignored"


def task_of(table: RawTable, target: str) -> str:
    """The task that the target column makes, "classify" or "regress", whatever rows have no target."""
    table.require([target], "target column")
    column = table.column(target)
    present = np.flatnonzero(~column.missing)
    if not len(present):
        learnable(table, target)  # the same error as later
    return decide_task(target, column if len(present) == table.m else column.select(present), None)[0]


# --- Rows that are held out ---------------------------------------------------------------------------------


def split_rows(
    table: RawTable, target: str, settings: Settings, task: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rows to learn from, and of those to hold out: both sorted, drawn with ``settings.random_state``.

    A class keeps its share in both parts, to within one row, and at least one of its rows to learn from.
    """
    fraction = settings.validation
    if not 0 <= fraction < 1:
        raise InputError(f"validation must be at least 0 and less than 1 (the share of rows held out); got {fraction}.")
    strata = _strata(table, target, task)
    rng = np.random.default_rng(settings.random_state)
    # ``order`` has the rows stratum by stratum, in random order within each. Every 1/fraction-th row of it is held out:
    # so many of each stratum as its share, to within one row.
    order = rng.permutation(table.m)
    order = order[np.argsort(strata[order], kind="stable")]
    counted = np.floor(np.arange(table.m + 1) * fraction + rng.random())
    chosen = np.diff(counted) > 0
    # A stratum that would be held out as a whole keeps its first row, because a class that is not learned from would
    # never be predicted. ``first`` has the index in ``order`` at which each stratum begins.
    first = np.flatnonzero(np.diff(strata[order], prepend=-1))
    chosen[first[np.logical_and.reduceat(chosen, first)]] = False
    held_out = np.zeros(table.m, dtype=bool)
    held_out[order[chosen]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _strata(table: RawTable, target: str, task: str | None) -> np.ndarray:
    """A small integer for each row, the same for rows of one class; all 0 where the target is a quantity.

    Classes are numbered as they are sorted, numbers by their value also where they are texts, so that the same rows are
    held out however a file stores the classes.
    """
    table.require([target], "target column")
    column = table.column(target)
    if task == "regress":
        return np.zeros(table.m, dtype=np.int64)
    if (levels := column.levels) is not None:
        order = sorted(range(len(levels)), key=lambda code: _rank(levels[code]))
        ranks = np.empty(len(order) + 2, np.int64)
        ranks[[*order, len(order), len(order) + 1]] = np.arange(len(ranks))
        return ranks[column.values]
    values, strata = np.unique(column.values, return_inverse=True)
    if task == "classify" or (len(values) <= MOST_CLASSES and is_whole(column)):
        return strata
    return np.zeros(table.m, dtype=np.int64)


def _rank(level: Any) -> tuple[bool, float, str]:
    """What levels are sorted by: numbers by their value, then texts."""
    try:
        return False, float(level), ""
    except ValueError:
        return True, 0.0, str(level)
