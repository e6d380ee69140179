"""Output units and losses: each loss beside its gradient by the output unit's pre-activation, and the unit it needs.

Four pairs are *canonical links*, and for each the gradient of the loss is the same short expression,

    dZ[L] = A[L] - Y.

Proof. Each loss is, up to terms without z, L(z, y) = c(z) - y . z with a convex c (the log-partition function of an
exponential family), and each output unit is the gradient of that c, a = grad c(z). So dL/dz = grad c(z) - y = a - y.

    output      loss                                              c(z)                  a = grad c(z)
    sigmoid     binary_cross_entropy, per output unit             sum_k log(1 + e^z_k)  1 / (1 + e^-z)
    softmax     cross_entropy, one-hot y                          log sum_k e^z_k       e^z_k / sum_j e^z_j
    identity    squared_error, half of it                         |z|^2 / 2             z
    exp         poisson, counts y >= 0                            sum_k e^z_k           e^z

For softmax the columns of Y must sum to 1, which one-hot columns do. For one sigmoid unit the notes write the same by
the chain rule: da = -y/a + (1-y)/(1-a), g'(z) = a (1-a), and da * g'(z) = a - y. Mixed pairs (sigmoid with squared
error, say) do not have this property, which is why an output unit and its loss are chosen together.

Two more go with the identity, a = z. They are two straight lines that meet at a = y, with the slopes -below and above:

    loss             L(a, y), summed over the units                   dZ[L], by unit
    absolute_error   |a - y|                                          sign(a - y)
    quantile         (1-q) (a - y) where a > y, else q (y - a)        1-q where a > y, -q where a < y

Their expectation is the least at the median and at the q-quantile of y: the mean slope is P(y < a) above - P(y > a)
below, which is 0 there. At a = y, where the derivative does not exist, dZ is 0, one of the slopes between the two.

``Output.activation(Z, xp)`` -> A[L] (n[L], m);  ``Loss.value(Z, Y, xp)`` -> L per example (m,), from Z so that it is
stable;  ``Loss.dZ(A, Y, xp)`` -> dZ[L] (n[L], m), in a new array.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

from fullbatch.core.activations import sigmoid
from fullbatch.errors import InputError


@dataclass(frozen=True)
class Output:
    """An output unit: what makes A[L] of Z[L]."""

    name: str
    activation: Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Loss:
    """A loss and its gradient.

    name : what the estimators, the command and model files call it;  output : the unit that it goes with
    slopes : (below, above) of one that is two straight lines, for the twins of the pass; else None
    least : (Y, xp) -> the least L of any z, per example (m,), which no parameter changes: with it taken away half the
        Poisson deviance is what is reported; None: it is 0, or is reported as it is
    """

    name: str
    output: str
    value: Callable[[Any, Any, Any], Any]
    dZ: Callable[[Any, Any, Any], Any]
    slopes: tuple[float, float] | None = None
    least: Callable[[Any, Any], Any] | None = None

    @property
    def canonical(self) -> bool:
        """Whether its gradient is A[L] - Y."""
        return self.dZ is _residual

    @property
    def quantile(self) -> float | None:
        """Of the targets, which one is the constant of the least loss: 0.5, the median; None: it is their mean."""
        return None if self.slopes is None else self.slopes[0] / sum(self.slopes)


def _residual(A: Any, Y: Any, xp: Any) -> Any:
    return A - Y


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


def _least_poisson(Y: Any, xp: Any) -> Any:
    return xp.sum(Y - Y * xp.log(xp.where(Y > 0, Y, xp.ones_like(Y))), axis=0)  # at e^z = y


def _two_lines(below: float, above: float, Z: Any, Y: Any, xp: Any) -> Any:
    D = Z - Y
    return xp.sum(xp.maximum(above * D, -below * D), axis=0)


def _d_two_lines(below: float, above: float, A: Any, Y: Any, xp: Any) -> Any:
    D = A - Y  # where neither is so, D itself: 0, or a NaN, which must stay one
    return xp.where(D > 0, xp.full_like(D, above), xp.where(D < 0, xp.full_like(D, -below), D))


def two_lines(name: str, below: float, above: float) -> Loss:
    """The loss whose slopes are -below where a < y, and above where a > y."""
    return Loss(
        name, "identity", partial(_two_lines, below, above), partial(_d_two_lines, below, above), (below, above)
    )


QUANTILE = "quantile"  # the loss that has a number of its own; its row in the table is the one for the median
OUTPUTS = {
    output.name: output
    for output in (
        Output("sigmoid", sigmoid),
        Output("softmax", _softmax),
        Output("identity", _identity),
        Output("exp", _exp),
    )
}
LOSSES = {
    loss.name: loss
    for loss in (
        Loss("binary_cross_entropy", "sigmoid", _binary_cross_entropy, _residual),
        Loss("cross_entropy", "softmax", _categorical_cross_entropy, _residual),
        Loss("squared_error", "identity", _half_squared_error, _residual),
        Loss("poisson", "exp", _poisson, _residual, least=_least_poisson),
        two_lines("absolute_error", 1.0, 1.0),
        two_lines(QUANTILE, 0.5, 0.5),
    )
}
CANONICAL = {loss.output: loss for loss in LOSSES.values() if loss.canonical}
# Those of a number, not of classes; what the estimators and the command offer.
OF_NUMBERS = tuple(name for name, loss in LOSSES.items() if loss.output in ("identity", "exp"))


def make_output(name: Any) -> Output:
    """The output unit of that name."""
    if not isinstance(name, str) or name not in OUTPUTS:
        raise InputError(f"unknown output {name!r}; the known ones are {', '.join(OUTPUTS)}.")
    return OUTPUTS[name]


def make_loss(name: Any, quantile: Any = None) -> Loss:
    """The loss of that name; ``quantile``, within (0, 1), is the q of the loss "quantile", and None for the others."""
    if not isinstance(name, str) or name not in LOSSES:
        raise InputError(f"unknown loss {name!r}; the known ones are {', '.join(LOSSES)}.")
    check_quantile(name, quantile)
    return LOSSES[name] if quantile is None else two_lines(name, float(quantile), 1 - float(quantile))


def check_quantile(loss: str, quantile: Any) -> None:
    """InputError unless the loss has the number that it needs: q within (0, 1) for "quantile", None for the others."""
    if loss != QUANTILE:
        if quantile is not None:
            raise InputError(f"quantile={quantile!r} belongs to loss={QUANTILE!r}; the loss is {loss!r}.")
    elif quantile is None:
        raise InputError(f"loss={QUANTILE!r} needs a quantile: a number between 0 and 1, 0.9 for example.")
    elif not isinstance(quantile, Real) or isinstance(quantile, bool) or not 0 < float(quantile) < 1:
        raise InputError(f"quantile must be a number between 0 and 1, and neither of them; got {quantile!r}.")
