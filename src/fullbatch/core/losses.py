"""Output units, each with the loss that belongs to it.

Every pair here is a *canonical link*, and for each the gradient of the loss by the output unit's pre-activation is the
same short expression,

    dZ[L] = A[L] - Y.

Proof. Each loss is, up to terms without z, L(z, y) = c(z) - y . z with a convex c (the log-partition function of an
exponential family), and each output unit is the gradient of that c, a = grad c(z). So dL/dz = grad c(z) - y = a - y.

    output      loss                              c(z)                  a = grad c(z)
    sigmoid     cross-entropy, per output unit    sum_k log(1 + e^z_k)  1 / (1 + e^-z)
    softmax     cross-entropy, one-hot y          log sum_k e^z_k       e^z_k / sum_j e^z_j
    identity    half squared error                |z|^2 / 2             z
    exp         Poisson, counts y >= 0            sum_k e^z_k           e^z

For softmax the columns of Y must sum to 1, which one-hot columns do. For one sigmoid unit the notes write the same by
the chain rule: da = -y/a + (1-y)/(1-a), g'(z) = a (1-a), and da * g'(z) = a - y. Mixed pairs (sigmoid with squared
error, say) do not have this property, which is why an output unit and its loss are chosen together.

``activation(Z, xp)`` -> A[L] (n[L], m);  ``loss(Z, Y, xp)`` -> L per example (m,), from Z so that it is stable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fullbatch.core.activations import sigmoid
from fullbatch.errors import InputError


@dataclass(frozen=True)
class Output:
    """An output unit with its loss. ``dZ[L] = A[L] - Y`` holds for each (see the top of this file)."""

    name: str
    activation: Callable[[Any, Any], Any]
    loss: Callable[[Any, Any, Any], Any]


def _binary_cross_entropy(Z: Any, Y: Any, xp: Any) -> Any:
    # -y log a - (1-y) log(1-a) with a = sigmoid(z), rewritten so that nothing overflows (N4).
    size = xp.abs(Z)
    terms = 0.5 * Z + 0.5 * size - Z * Y + xp.log1p(xp.exp(-size))  # max(z, 0) = (z + |z|) / 2
    return xp.sum(terms, axis=0)


def _softmax(Z: Any, xp: Any) -> Any:
    E = xp.exp(Z - xp.max(Z, axis=0, keepdims=True))  # the largest exponent is 0: no overflow
    return E / xp.sum(E, axis=0, keepdims=True)


def _categorical_cross_entropy(Z: Any, Y: Any, xp: Any) -> Any:
    top = xp.max(Z, axis=0, keepdims=True)
    # The columns of Y sum to 1, so top may leave sum(Y * (Z - top)), where 0 * -infinity would be NaN.
    return xp.log(xp.sum(xp.exp(Z - top), axis=0)) + (top[0, :] - xp.sum(Y * Z, axis=0))


def _identity(Z: Any, xp: Any) -> Any:
    return Z


def _half_squared_error(Z: Any, Y: Any, xp: Any) -> Any:
    D = Z - Y
    return 0.5 * xp.sum(D * D, axis=0)


def _exp(Z: Any, xp: Any) -> Any:
    return xp.exp(Z)


def _poisson(Z: Any, Y: Any, xp: Any) -> Any:
    return xp.sum(xp.exp(Z) - Y * Z, axis=0)  # the term log(y!) does not depend on z and is left out


OUTPUTS = {
    output.name: output
    for output in (
        Output("sigmoid", sigmoid, _binary_cross_entropy),
        Output("softmax", _softmax, _categorical_cross_entropy),
        Output("identity", _identity, _half_squared_error),
        Output("exp", _exp, _poisson),
    )
}


def make_output(name: Any) -> Output:
    """The output unit of that name."""
    if not isinstance(name, str) or name not in OUTPUTS:
        raise InputError(f"unknown output {name!r}; the known ones are {', '.join(OUTPUTS)}.")
    return OUTPUTS[name]
