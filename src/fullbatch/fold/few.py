"""A few rows at a time, without plan and engine: to make these takes longer than to predict a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fullbatch import steps
from fullbatch.core.network import Network
from fullbatch.machine import arrays

FEW = 64  # so many rows are one tile of the native step


def predict_few(network: Network, theta: Callable[[], Any], X: Any) -> Any:
    """yhat (n[L], m) of at most FEW examples X (n, m), the bits of ``Fold.predict`` without its plan and threads.

    None where only ``Fold.predict`` can do it: for more examples, or another step than the native one.

    theta : gives the parameters, of X's dtype; called only where they are needed
    X : finite, of NumPy
    """
    if X.shape[1] > FEW or steps.choose(network, X) != steps.NativeStep.name:
        return None  # Other steps may use a BLAS, which has to be held to one thread: the fold does that.
    with arrays.quiet():
        step = steps.make(network, X, X.shape[1], steps.NativeStep.name)
        step.load(theta())
        return step.predict(X)
