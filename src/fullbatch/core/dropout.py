"""Dropout: which hidden units an update leaves out, as a function of a seed and of where they are, and of nothing else.

A unit's A becomes 0 with its layer's rate p, else A / (1 - p), so that its mean stays what it is without dropout
(Srivastava et al., "Dropout", JMLR 15, 2014; in the inverted form nothing is scaled when a model predicts). The bits
come from Philox4x32-10, a generator that is a function of a counter and a key (Salmon, Moraes, Dror and Shaw, "Parallel
random numbers: as easy as 1, 2, 3", SC 2011). So blocks, threads and steps draw the same ones in any order, a training
that goes on draws those that it would have drawn, and no mask is ever kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any, NamedTuple

from fullbatch.errors import InputError, as_float
from fullbatch.machine import arrays

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
STEPS = (0x9E3779B9, 0xBB67AE85)  # of the key: the golden ratio, sqrt(3) - 1
WORDS = 4  # of a counter, and of what it gives
LOW, HALF = 2**32 - 1, 2**16 - 1


class Dropout(NamedTuple):
    """What each hidden layer leaves out of a gradient.

    rates : of each hidden layer, in [0, 1);  seed : of 64 bits;  update : the number of the gradient's update, from 0
    """

    rates: tuple[float, ...]
    seed: int
    update: int = 0

    def at(self, update: int) -> Dropout:
        """The same at another update."""
        return self._replace(update=update)

    def factors(self, sizes: tuple[int, ...], first: int, k: int, like: Any) -> tuple[Any, ...]:
        """What the hidden activations of k examples are multiplied by: (n[l], k) of 0 and 1 / (1 - p), for each layer.

        first : the place of the first of them in its batch
        """
        return tuple(self._of_layer(l, sizes[l], first, k, like) for l in range(1, len(sizes) - 1))

    def _of_layer(self, l: int, units: int, first: int, k: int, like: Any) -> Any:
        """Word i % 4 of the counter (unit, i / 4, layer, update) decides for example i of the batch."""
        xp, device = arrays.namespace(like), arrays.device_of(like)
        rate, seed = self.rates[l - 1], self.seed
        groups = (first // WORDS, (first + k - 1) // WORDS + 1)
        unit = xp.reshape(xp.arange(units, dtype=xp.int64, device=device), (units, 1))
        group = xp.reshape(xp.arange(*groups, dtype=xp.int64, device=device), (1, groups[1] - groups[0])) & LOW
        nothing = unit * 0 + group * 0
        if nothing.dtype != xp.int64:
            raise InputError("dropout needs integers of 64 bits; in JAX they are there with jax_enable_x64.")
        counter = (unit + nothing, group + nothing, nothing + l, nothing + (self.update & LOW))
        words = xp.stack(philox(counter, (seed & LOW, seed >> 32 & LOW)), axis=-1)
        start = first - WORDS * groups[0]
        words = xp.reshape(words, (units, WORDS * (groups[1] - groups[0])))[:, start : start + k]
        kept = xp.astype(words >= threshold(rate), like.dtype)
        return kept * (1 / (1 - rate))


def threshold(rate: float) -> int:
    """A unit is left out where its word, one of 2^32, is below."""
    return int(rate * 2.0**32 + 0.5)


def philox(counter: tuple[Any, ...], key: tuple[int, int]) -> tuple[Any, ...]:
    """Philox4x32-10: four words for each counter of four words, of 32 bits each in arrays of int64; or of Python's int.

    The product of two words is made of halves, since int64 does not hold it.
    """
    a, b, c, d = counter
    (m, n), (key_0, key_1) = MULTIPLIERS, key
    for _ in range(ROUNDS):
        (p, low_p), (q, low_q) = _product(a, m), _product(c, n)
        a, b, c, d = q ^ b ^ key_0, low_q, p ^ d ^ key_1, low_p
        key_0, key_1 = (key_0 + STEPS[0]) & LOW, (key_1 + STEPS[1]) & LOW
    return a, b, c, d


def _product(word: Any, multiplier: int) -> tuple[Any, Any]:
    """The high and the low 32 bits."""
    low = (word & HALF) * multiplier
    high = (word >> 16) * multiplier + (low >> 16)
    return high >> 16, (high & HALF) << 16 | low & HALF


def rates_of(dropout: Any, layers: int) -> tuple[float, ...]:
    """The rate of each of so many hidden layers, from one rate or one of each. InputError; () where all are 0."""
    given = [dropout] * max(layers, 1) if isinstance(dropout, Real) or not isinstance(dropout, Iterable) else [*dropout]
    if not all(isinstance(p, Real) and not isinstance(p, bool) and 0 <= as_float(p) < 1 for p in given):
        raise InputError(f"dropout must be a rate from 0 to below 1, or one for each hidden layer; got {dropout!r}.")
    if isinstance(dropout, Iterable) and len(given) != layers:
        raise InputError(f"{layers} hidden layers need one rate of dropout or {layers}; got {len(given)}.")
    return tuple(map(float, given[:layers])) if any(given[:layers]) else ()
