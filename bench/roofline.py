"""The machine's own limits, and what a step needs of them.

The roofline of a shape is the time that its matrix products would take at the speed of one large product, or that its
data would take to come from memory once, at the speed of a large copy or of a large read, whichever is higher; the
longer of both times. Nothing else is counted: not the activations, not the traffic of the hidden layers, which a good
step keeps in the cache. So no step can reach it, and a step at half of it leaves less than a factor of 2 to be had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np

from bench.machine import free_memory
from bench.problem import Shape
from bench.timing import wall
from fullbatch.machine.threads import thread_count


@dataclass(frozen=True)
class Limits:
    """product : FLOP/s of a large square matrix product;  copy : bytes/s of a large copy, read and written counted;
    read : bytes/s of a large dot product, which only reads; 0 where it was not measured
    """

    product: float
    copy: float
    read: float = 0.0

    @property
    def memory(self) -> float:
        """bytes/s that come from memory at best."""
        return max(self.copy, self.read)

    def best(self, other: Limits) -> Limits:
        """The highest of both: a limit that was measured while the machine was disturbed is no limit."""
        return Limits(*map(max, astuple(self), astuple(other)))

    def __str__(self) -> str:
        return (
            f"matrix product {self.product / 1e9:,.0f} GFLOP/s, copy {self.copy / 1e9:,.0f} GB/s, "
            f"read {self.read / 1e9:,.0f} GB/s"
        )


def to_json(limits: Mapping[str, Limits]) -> dict[str, dict[str, float]]:
    """Of each device, for a result's summary."""
    return {device: asdict(limit) for device, limit in limits.items()}


def from_json(raw: Mapping[str, Mapping[str, float]]) -> dict[str, Limits]:
    return {device: Limits(**limit) for device, limit in raw.items()}


def flops(shape: Shape) -> int:
    """Of the matrix products of one gradient step, per example: Z and dW of every layer, dA of all but the first."""
    pairs = list(zip(shape.sizes[:-1], shape.sizes[1:], strict=True))
    forward = sum(2 * fan_in * n for fan_in, n in pairs)
    return 2 * forward + sum(2 * fan_in * n for fan_in, n in pairs[1:])


def seconds_at_best(shape: Shape, m: int, itemsize: int, limits: Limits) -> tuple[float, str]:
    """The shortest time that the limits allow, and which of them it is: "product" or "memory"."""
    by_product = flops(shape) * m / limits.product
    by_memory = shape.data_bytes(m, itemsize) / limits.memory
    return max((by_product, "product"), (by_memory, "memory"))


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
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(count) as pool:
        copy = _best(lambda: list(pool.map(lambda part: np.copyto(target[part], source[part]), parts)), tries)
        read = _best(lambda: list(pool.map(lambda part: np.dot(source[part], source[part]), parts)), tries)
    return Limits(2 * size**3 / product, 2 * source.nbytes / copy, source.nbytes / read)


def _best(call: Callable[[], Any], tries: int) -> float:
    call()
    return min(wall(call) for _ in range(tries))
