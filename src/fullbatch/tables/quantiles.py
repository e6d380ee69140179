"""Quantiles of values that come in parts, exactly and in little memory, by some passes over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Parts = Callable[[], Iterator[tuple[np.ndarray, np.ndarray | None]]]  # floats in parts, and what each of them counts


def quantile_of(parts: Parts, q: float) -> float:
    """The quantile that ``np.quantile`` gives of all values, weighted or not, exactly, from some passes over them.

    parts : gives the values anew, each time that it is called
    """
    total, weighted = 0.0, False
    for values, weight in parts():
        weighted |= weight is not None
        total += len(values) if weight is None else float(weight.sum(dtype=np.float64))
    if weighted:
        return at_rank(parts, q * total, inclusive=True)
    at = q * (total - 1)
    low, high = (at_rank(parts, float(rank)) for rank in (np.floor(at), np.ceil(at)))
    return low + (high - low) * (at - np.floor(at))


def at_rank(parts: Parts, rank: float, *, inclusive: bool = False) -> float:
    """The value at which the counts of it and of all lesser ones first exceed the rank, or reach it.

    The bits of a float order as the float does, so that 16 of them at a time are found by counting.
    """
    prefix, known, bits, below = 0, 0, 0, 0.0
    while not bits or known < bits:
        counts = np.zeros(2**16)
        for values, weight in parts():
            keys = _ordered_bits(values)
            bits = keys.dtype.itemsize * 8
            mine = keys >> np.uint8(bits - known) == prefix if known else np.ones(len(keys), bool)
            # Of 16 bits: NumPy 2.1 counts no unsigned integers of 64.
            digits = ((keys[mine] >> np.uint8(bits - known - 16)) & keys.dtype.type(0xFFFF)).astype(np.uint16)
            counts += np.bincount(digits, weights=None if weight is None else weight[mine], minlength=2**16)
        upto = below + np.cumsum(counts)
        digit = int(np.searchsorted(upto, rank, side="left" if inclusive else "right"))
        digit = min(digit, int(np.flatnonzero(counts)[-1]))
        below += float(counts[:digit].sum())
        prefix, known = prefix << 16 | digit, known + 16
    whole = np.array([prefix], np.uint64 if bits == 64 else np.uint32)
    return float(_of_ordered_bits(whole)[0])


def _ordered_bits(values: np.ndarray) -> np.ndarray:
    keys: Any = values.view(np.uint64 if values.dtype.itemsize == 8 else np.uint32)
    top = keys.dtype.type(1 << (keys.dtype.itemsize * 8 - 1))
    return np.where(keys & top, ~keys, keys | top)


def _of_ordered_bits(keys: np.ndarray) -> np.ndarray:
    top = keys.dtype.type(1 << (keys.dtype.itemsize * 8 - 1))
    plain = np.where(keys & top, keys ^ top, ~keys)
    return plain.view(np.float64 if keys.dtype.itemsize == 8 else np.float32)
