"""What predicts one row, again and again: a step, and room for the row and what comes out, whose places C knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fullbatch import steps
from fullbatch.core.network import Network
from fullbatch.sources.encoded import SparseBlock


class Worker:
    """For one thread at a time.

    values : (n,), the row, to be written into; or, if sparse, (width,): what is at the features
    features : (width,) int32 of a sparse row; else None
    out : (n[L],), yhat of the row that ``run`` found in ``values``
    """

    def __init__(self, network: Network, theta: np.ndarray, sparse: int = 0) -> None:
        n, dtype = network.sizes[0], theta.dtype
        like = np.empty((0, 0), dtype)
        self.step = steps.make(network, like, 1)
        self.step.load(theta)
        self.values: Any = np.zeros(sparse or n, dtype)
        self.zeros = np.zeros_like(self.values)
        self.features: Any = np.arange(sparse, dtype=np.int32) if sparse else None
        X: Any = self.values.reshape(1, n).T if self.features is None else self._sparse(n)
        made = np.empty((1, network.sizes[-1]), dtype)
        self.out = made[0]
        self.run = _prepared(self.step, X, made)

    def _sparse(self, n: int) -> SparseBlock:
        return SparseBlock(self.values, self.features, np.array([0, len(self.values)], np.int32), (n, 1))

    def is_finite(self) -> bool:
        """Whether all values are: 0 times infinity is NaN, and NaN is not 0. This takes a tenth of ``isfinite``."""
        return bool(self.values.dot(self.zeros) == 0.0)


def takes_sparse(network: Network, dtype: str, width: int) -> bool:
    """Whether so few values of a row are not zero that they are given alone, as the fold decides it."""
    step = steps.choose(network, np.empty((0, 0), dtype))
    return step == steps.NativeStep.name and width <= steps.NativeStep.takes_sparse * network.sizes[0]


def _prepared(step: Any, X: Any, out: np.ndarray) -> Callable[[], None]:
    if isinstance(step, steps.NativeStep):
        made: Callable[[], None] = step.prepared(X, out)
        return made

    def run() -> None:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            out[...] = step.predict(X).T

    return run
