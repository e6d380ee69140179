"""The machine's own limits, and what a step needs of them.

The roofline of a shape is the time that its matrix products would take at the speed of one large product, or that its
data would take to come from memory once at the speed of a copy, whichever is longer. Nothing else is counted: not the
activations, not the traffic of the hidden layers, which a good step keeps in the cache. So no step can reach it, and a
step at half of it leaves less than a factor of 2 to be had.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.machine import free_memory
from bench.problem import Shape
from bench.timing import wall
from fullbatch.threads import thread_count


@dataclass(frozen=True)
class Limits:
    """product : FLOP/s of a large square matrix product;  copy : bytes/s of a large copy, read and written counted."""

    product: float
    copy: float

    def best(self, other: Limits) -> Limits:
        """The higher of both: a limit that was measured while the machine was disturbed is no limit."""
        return Limits(max(self.product, other.product), max(self.copy, other.copy))


def flops(shape: Shape) -> int:
    """Of the matrix products of one gradient step, per example: Z and dW of every layer, dA of all but the first."""
    pairs = list(zip(shape.sizes[:-1], shape.sizes[1:], strict=True))
    forward = sum(2 * fan_in * n for fan_in, n in pairs)
    return 2 * forward + sum(2 * fan_in * n for fan_in, n in pairs[1:])


def seconds_at_best(shape: Shape, m: int, itemsize: int, limits: Limits) -> tuple[float, str]:
    """The shortest time that the limits allow, and which of them it is: "product" or "copy"."""
    by_product = flops(shape) * m / limits.product
    by_copy = shape.data_bytes(m, itemsize) / limits.copy
    return max((by_product, "product"), (by_copy, "copy"))


def cpu_limits(dtype: str = "float32", *, threads: int | None = None, quick: bool = False) -> Limits:
    """Measured on all the threads that a step would use: the best of several tries."""
    from threadpoolctl import threadpool_limits

    count = thread_count(threads)
    size, tries = (256, 2) if quick else (2048, 5)
    A = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32).astype(dtype)
    out = np.empty_like(A)
    with threadpool_limits(count, user_api="blas"):
        product = _best(lambda: np.matmul(A, A, out=out), tries)
    itemsize = np.dtype(dtype).itemsize
    room = (free_memory() or 2**32) // 8
    n = min(2**20 if quick else 2**28, room) // itemsize  # bytes: many times the caches
    source, target = np.ones(n, dtype=dtype), np.zeros(n, dtype=dtype)
    parts = [slice(n * i // count, n * (i + 1) // count) for i in range(count)]
    with ThreadPoolExecutor(count) as pool:
        copy = _best(lambda: list(pool.map(lambda part: np.copyto(target[part], source[part]), parts)), tries)
    return Limits(2 * size**3 / product, 2 * source.nbytes / copy)


def _best(call: Callable[[], Any], tries: int) -> float:
    call()
    return min(wall(call) for _ in range(tries))
