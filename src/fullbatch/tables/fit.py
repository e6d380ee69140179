"""Training on a raw table: ``train_table`` holds rows out, learns the encoding from the others and fits an estimator.

It is what the command's ``train`` does between the file that it reads and the one that it writes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fullbatch.errors import InputError, NonFiniteError
from fullbatch.tables.encoding import MOST_CLASSES, TableEncoding, is_whole
from fullbatch.tables.model import TableModel
from fullbatch.training.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from fullbatch.tables.raw import RawTable


@dataclass(frozen=True)
class Settings:
    """How ``train_table`` trains. The defaults of the whole command stand here, and nowhere else.

    None leaves the choice to ``for_rows``, which makes it by the number of training rows and the solver.
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
    device: str = "auto"
    device_memory: float | None = None  # bytes of a GPU, or a share of its memory
    precision: str | None = None  # None: the dtype's; "tf32"
    seed: int = 0
    threads: int | None = None  # None: all cores

    def for_rows(self, m: int) -> Settings:
        """These settings with each None replaced by the default for ``m`` training rows."""
        row = OPTIMIZERS.get(self.solver)  # None for L-BFGS
        whole = row is None or row.whole
        usual = min(max(2e7 / m, 50), 200) if whole else min(max(3000 / m**0.5, 2), 100)
        epochs = self.epochs or round(usual)
        batch: int | Literal["full"] = self.batch_size or ("full" if whole else min(max(m // 100, 32), 1000))
        # Larger batches have less noise and can take larger steps, in proportion to its standard deviation.
        noise = 1.0 if whole or batch == "full" else (min(batch, m) / 250) ** 0.5
        rate = self.learning_rate or (1e-3 if row is None else row.rate * noise)
        # The more rows there are, the less there is to hold back; lambda is divided by the rows of a batch.
        l2 = min(3e-4, 30 / m) * (m if batch == "full" else min(batch, m)) if self.l2 is None else self.l2
        return replace(self, epochs=epochs, batch_size=batch, learning_rate=rate, l2=l2)


@dataclass(frozen=True)
class Trained:
    """What ``train_table`` hands back: the model, and its scores on the rows that it has not seen.

    settings : as they were used
    m : rows that it learned from
    held_out : the other rows, or None where there are none
    targets : the training rows' targets, encoded, (m,)
    """

    model: TableModel
    settings: Settings
    m: int
    held_out: RawTable | None
    targets: np.ndarray

    def scores(self) -> tuple[dict[str, float], dict[str, float]]:
        """The scores of the model on the held-out rows, and of the guess that knows the targets alone."""
        if self.held_out is None:
            raise InputError("no rows were held out (validation=0, or too few rows), so there are no scores on them.")
        return self.model.evaluate(self.held_out), self.model.evaluate_guess(self.targets, self.held_out)


def train_table(
    table: RawTable,
    target: str,
    settings: Settings | None = None,
    *,
    task: str | None = None,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    callbacks: Iterable[Any] = (),
) -> Trained:
    """Hold out rows, learn the encoding from the others, and fit an estimator on them.

    The rows are held out first, before anything is learned from the table: by class for a classification, so
    that each class has its share in both parts. Ctrl-C ends the training and keeps the model so far, as in
    the estimators.

    task : "classify", "regress" or None: decided from the target column
    categorical, numeric : columns whose kind is decided here instead of by the rules for columns
    callbacks : by scikit-learn's protocol (``sklearn.callback``), one ``on_fit_task_end`` per epoch

    Raises TableError for columns that do not fit, InputError for settings out of range, DeviceError, and
    NonFiniteError for a cost that stopped being finite.
    """
    settings = settings or Settings()
    train_rows, held_out_rows = split_rows(table, target, settings, task)
    encoding = TableEncoding.learn(
        table, target, task=task, categorical=categorical, numeric=numeric,
        max_levels=settings.max_levels, dtype=settings.dtype, rows=train_rows,
    )  # fmt: skip
    held_out = table.select(held_out_rows) if len(held_out_rows) else None
    rows = table.select(train_rows)
    X, y = encoding.encode(rows), encoding.encode_target(rows)
    del rows  # The training needs the encoded rows alone, so the raw ones give their memory back.
    settings = settings.for_rows(X.m)
    estimator = make_estimator(encoding, settings, keep_best=held_out is not None)
    if callbacks := list(callbacks):
        estimator.set_callbacks(*callbacks)
    validation = {}
    if held_out is not None:
        validation = {"X_val": encoding.encode(held_out), "y_val": encoding.encode_target(held_out)}
    estimator.fit(X, y, **validation)
    _refuse_divergence(estimator)
    if callbacks:
        estimator.set_callbacks()  # A model that is saved or pickled has no use for them.
    return Trained(TableModel(encoding, estimator), settings, X.m, held_out, y)


def _refuse_divergence(estimator: Any) -> None:
    """NonFiniteError where the cost stopped being finite, even if an earlier epoch's parameters were kept."""
    costs = estimator.loss_curve_
    if costs and not math.isfinite(costs[-1]):
        raise NonFiniteError(
            f"the cost became {costs[-1]} in epoch {len(costs)}: the steps are too large; choose a learning rate "
            f"smaller than {estimator.learning_rate_init:g} (a tenth, to begin with).",
            iteration=len(costs),
        )


def make_estimator(encoding: TableEncoding, settings: Settings, *, keep_best: bool) -> Any:
    """The estimator, not fitted, that complete ``settings`` describe (see ``Settings.for_rows``).

    keep_best : keep the parameters of the epoch whose cost on the held-out rows is the lowest, not the last ones
    """
    from fullbatch.estimators import MLPClassifier, MLPRegressor

    make: Any = MLPClassifier if encoding.task == "classify" else MLPRegressor
    # L-BFGS stops by itself. The other solvers run all of their epochs, because their rate falls to 0 in the last one.
    # What ``keep_best`` asks for is early stopping that never stops: only the parameters of the best epoch are kept.
    runs_all_epochs = settings.solver != "lbfgs"
    return make(
        hidden_layer_sizes=settings.hidden,
        activation=settings.activation,
        solver=settings.solver,
        alpha=settings.l2,
        batch_size=settings.batch_size,
        learning_rate="linear",
        learning_rate_init=settings.learning_rate,
        max_iter=settings.epochs,
        tol=0.0 if runs_all_epochs else 1e-6,
        n_iter_no_change=settings.epochs,
        early_stopping=runs_all_epochs and keep_best,
        scoring="loss",
        random_state=settings.seed,
        device=settings.device,
        device_memory=settings.device_memory,
        precision=settings.precision,
        n_jobs=settings.threads,
    )


# --- Rows that are held out ---------------------------------------------------------------------------------


def split_rows(
    table: RawTable, target: str, settings: Settings, task: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rows to learn from, and of those to hold out: both sorted, drawn with ``settings.seed``.

    A class keeps its share in both parts, to within one row, and at least one of its rows to learn from.
    """
    fraction = settings.validation
    if not 0 <= fraction < 1:
        raise InputError(f"validation must be at least 0 and less than 1 (the share of rows held out); got {fraction}.")
    strata = _strata(table, target, task)
    rng = np.random.default_rng(settings.seed)
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
