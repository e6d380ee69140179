"""What a classifier's output units say of its classes."""

from __future__ import annotations

from typing import Any

from fullbatch.core.activations import sigmoid
from fullbatch.machine import arrays


def probabilities(yhat: Any, axis: int = 0) -> Any:
    """The probability of each class, (k, m), of yhat (n[L], m): one sigmoid unit stands for two classes.

    axis : 1 where yhat is (m, n[L]), and so what comes is (m, k)
    """
    return yhat if yhat.shape[axis] > 1 else arrays.namespace(yhat).concat([1 - yhat, yhat], axis=axis)


def log_probabilities(Z: Any, *, softmax: bool) -> Any:
    """The logarithm of ``probabilities`` from Z[L], without a detour over them, so that it stays finite.

    softmax : whether the units are its; else each is a sigmoid unit, of two classes or of a label of its own
    """
    xp = arrays.namespace(Z)
    if softmax:
        S = Z - xp.max(Z, axis=0, keepdims=True)
        return S - xp.log(xp.sum(xp.exp(S), axis=0, keepdims=True))
    tail = xp.log1p(xp.exp(-xp.abs(Z)))  # log sigma(z) = min(z, 0) - log(1 + e^-|z|)
    log_p = 0.5 * (Z - xp.abs(Z)) - tail
    if Z.shape[0] > 1:  # where p rounds to 1 for several labels they tie, as they do in predict_proba
        p = sigmoid(Z, xp)
        return xp.where(p > 0.5, xp.log(p), log_p)
    return xp.concat([-0.5 * (Z + xp.abs(Z)) - tail, log_p], axis=0)
