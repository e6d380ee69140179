"""How the learning rate falls: scikit-learn's three ways, and one that ends at zero."""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

SMALLEST_RATE = 1e-6  # "adaptive" divides the rate by 5 until it is below this
LARGEST_LOG = math.log(sys.float_info.max)


class Schedule(NamedTuple):
    """A function of what a training has come to, so that one that is gone on with does what it would have done.

    kind    : "constant"; "invscaling", initial / (examples seen + 1)^power after each epoch; "adaptive", a fifth of it
              at each plateau; "linear", to zero after so many ``epochs``, at each update
    start   : epochs that were over when it began, where it is that of a second training
    """

    kind: str
    initial: float
    power: float = 0.5
    epochs: int = 1
    start: int = 0

    @property
    def is_second(self) -> bool:
        """Whether it is that of a training once more."""
        return self.start > 0

    @property
    def end(self) -> int:
        """How many epochs are over at its end."""
        return self.start + self.epochs

    def at(self, rate: float, epoch: float) -> float:
        """The rate of an update.

        rate : since the last epoch's end;  epoch : how many are over, of this schedule's own, and a share of one
        """
        return self.initial * max(1 - epoch / self.epochs, 0.0) if self.kind == "linear" else rate

    def after_epoch(self, rate: float, examples: int) -> float:
        """The rate from here on. examples : that it has learned from, over all epochs."""
        if self.kind != "invscaling":
            return rate
        # Beyond a float's numbers Python's powers raise, or, of whole numbers, go on for ever.
        beyond = self.power * math.log(examples + 1) > LARGEST_LOG
        return 0.0 if beyond else self.initial / (examples + 1) ** self.power

    def at_plateau(self, rate: float) -> tuple[float, str]:
        """The rate from here on, and why the training stops, or ""."""
        if self.kind != "adaptive":
            return rate, "Stopping."
        if rate <= SMALLEST_RATE:
            return rate, "Learning rate too small. Stopping."
        return rate / 5, ""
