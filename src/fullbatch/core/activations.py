"""Activations: each g beside its derivative g'.

``g(Z, xp)`` and ``derivative(Z, A, xp)`` with A = g(Z), all of shape (n[l], m). The derivative takes A too, because for
most of them it is a short expression in A.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

from fullbatch.errors import InputError


@dataclass(frozen=True)
class Activation:
    """A hidden activation g and its derivative g'. ``name`` is None for a user's own pair."""

    name: str | None
    g: Callable[[Any, Any], Any]
    derivative: Callable[[Any, Any, Any], Any]


def _tanh(Z: Any, xp: Any) -> Any:
    return xp.tanh(Z)


def _d_tanh(Z: Any, A: Any, xp: Any) -> Any:
    return 1 - A * A


def sigmoid(Z: Any, xp: Any) -> Any:
    """1 / (1 + exp(-z)) without overflow, and with full relative accuracy for very negative z too."""
    return xp.exp(xp.minimum(Z, xp.zeros_like(Z))) / (1 + xp.exp(-xp.abs(Z)))


def _d_sigmoid(Z: Any, A: Any, xp: Any) -> Any:
    return A * (1 - A)


def _relu(Z: Any, xp: Any) -> Any:
    return xp.maximum(Z, xp.zeros_like(Z))  # not where(): a NaN must stay one


def _d_relu(Z: Any, A: Any, xp: Any) -> Any:
    return xp.astype(Z > 0, Z.dtype)  # at 0, where the derivative does not exist: 0


LEAK = 0.01


def _leaky_relu(Z: Any, xp: Any) -> Any:
    return xp.maximum(Z, LEAK * Z)  # the same bits as a choice by the sign, which ONNX's Where takes long for


def _d_leaky_relu(Z: Any, A: Any, xp: Any) -> Any:
    return xp.where(Z > 0, xp.ones_like(Z), xp.full_like(Z, LEAK))


def _identity(Z: Any, xp: Any) -> Any:
    return Z


def _d_identity(Z: Any, A: Any, xp: Any) -> Any:
    return xp.ones_like(Z)


# GELU in its tanh form (Hendrycks and Gimpel, arXiv:1606.08415): z/2 (1 + tanh u), u = c (z + k z^3). Beyond +-FLAT
# tanh u is 1 to the last bit, so there z may be held in u: z^3 would overflow, and infinity times (1 - 1) is NaN.
GELU_C = sqrt(2 / pi)
GELU_K = 0.044715
GELU_FLAT = 10.0


def _gelu_held(Z: Any, xp: Any) -> Any:
    """z within +-FLAT. Not clip(): array_api_compat's for CuPy assigns by a mask, and so waits for the GPU."""
    bound = xp.full_like(Z[:1, :1], GELU_FLAT)  # an array: not every library's minimum takes a number
    return xp.minimum(xp.maximum(Z, -bound), bound)


def _gelu_tanh(z: Any, xp: Any) -> Any:
    return xp.tanh(GELU_C * (z + GELU_K * z * z * z))


def _gelu(Z: Any, xp: Any) -> Any:
    return 0.5 * Z * (1 + _gelu_tanh(_gelu_held(Z, xp), xp))


def _d_gelu(Z: Any, A: Any, xp: Any) -> Any:
    z = _gelu_held(Z, xp)
    t = _gelu_tanh(z, xp)
    return 0.5 * (1 + t + z * (1 - t * t) * GELU_C * (1 + 3 * GELU_K * z * z))


def _silu(Z: Any, xp: Any) -> Any:
    return Z * sigmoid(Z, xp)


def _d_silu(Z: Any, A: Any, xp: Any) -> Any:
    s = sigmoid(Z, xp)
    return s * (1 + Z * (1 - s))


@dataclass(frozen=True)
class _OfZ:
    """A user's function of Z alone, called as ours are. Not a lambda: a network can be pickled if the function can."""

    function: Callable[[Any], Any]

    def __call__(self, Z: Any, *rest: Any) -> Any:
        return self.function(Z)


SCIKIT_LEARNS = {"logistic": "sigmoid"}  # our names by scikit-learn's, where they differ
ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("tanh", _tanh, _d_tanh),
        Activation("sigmoid", sigmoid, _d_sigmoid),
        Activation("relu", _relu, _d_relu),
        Activation("leaky_relu", _leaky_relu, _d_leaky_relu),
        Activation("identity", _identity, _d_identity),
        Activation("gelu", _gelu, _d_gelu),
        Activation("silu", _silu, _d_silu),
    )
}


def make_activation(spec: Any) -> Activation:
    """A name, or a user's own pair (g, g') of functions of Z."""
    if isinstance(spec, Activation):
        return spec
    if isinstance(spec, str):
        if spec not in ACTIVATIONS:
            raise InputError(
                f"unknown activation {spec!r}; the known ones are {', '.join(map(str, ACTIVATIONS))}, "
                "or give your own pair of functions (g, g')."
            )
        return ACTIVATIONS[spec]
    if isinstance(spec, Sequence) and len(spec) == 2 and all(callable(f) for f in spec):
        g, derivative = spec
        return Activation(None, _OfZ(g), _OfZ(derivative))
    raise InputError(f"an activation is a name or a pair of functions (g, g'); got {spec!r}.")
