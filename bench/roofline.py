"""The machine's own limits, and what a step needs of them.

The roofline of a shape is the time that its matrix products would take at the speed of one large product, or that its
data would take to come from memory once, at the speed of a large copy or of a large read, whichever is higher; the
longer of both times. Nothing else is counted: not the activations, not the traffic of the hidden layers, which a good
step keeps in the cache. So no step can reach it, and a step at half of it leaves less than a factor of 2 to be had.

A BLAS may have been told to use older kernels, or not know the processor, and then its product is no limit of the
machine: a step can pass it. So the limit of the product is the best of the BLAS as it is, of the same in a process
without the variables that force kernels on it, and of the native step's own products. Where a step passes it all the
same, it is said to be wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np

from bench import children, problem
from bench.forced import FORCING
from bench.forms import Limits
from bench.machine import free_memory
from bench.problem import Shape
from bench.timing import wall
from fullbatch import cost_and_gradients
from fullbatch.machine import native_library
from fullbatch.machine.threads import thread_count


def to_json(limits: Mapping[str, Limits]) -> dict[str, dict[str, float]]:
    """Of each device, for a result's summary."""
    return {device: msgspec.to_builtins(limit) for device, limit in limits.items()}


def from_json(raw: Mapping[str, Mapping[str, float]]) -> dict[str, Limits]:
    return msgspec.convert(raw, dict[str, Limits])


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
    """Measured on all the threads that a step would use, in each of the ways that there are: the best of them."""
    limits = as_it_is(dtype, threads, quick)
    if any(name in os.environ for name in FORCING):  # else another process would have the same kernels
        limits = limits.best(not_forced(dtype, threads, quick))
    return limits.best(Limits(native_product(dtype, threads, quick), 0.0))


def not_forced(dtype: str, threads: int | None, quick: bool) -> Limits:
    """In a process without the variables that force kernels, for a BLAS reads them once; all 0 where it fails."""
    try:
        return Limits(**children.call(as_it_is, dtype, threads, quick, env=dict.fromkeys(FORCING)))
    except children.ChildError:
        return Limits(0, 0)


def native_product(dtype: str, threads: int | None, quick: bool) -> float:
    """FLOP/s of the products of a native step that does little else; 0 where there is none."""
    if native_library.isa() is None:
        return 0.0
    size, each, tries = (256, 1024, 2) if quick else (1024, 4096, 3)  # ``each``: two blocks for each thread
    shape, rows = Shape((size, size, 1)), each * thread_count(threads)
    p = problem.make(shape, rows, dtype)
    seconds = _best(lambda: cost_and_gradients(p.network, p.params, p.X, p.Y, threads=threads), tries)
    return flops(shape) * rows / seconds


def wrong(share: float | None) -> str:
    """What to say after a share of a limit that no step can pass, where one has passed it."""
    return " (wrong limit)" if share is not None and share > 1 else ""


def as_it_is(dtype: str, threads: int | None, quick: bool) -> Limits:
    """Of this process's BLAS and memory: the best of several tries."""
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


def _best(call: Callable[[], Any], tries: int, most: float = 1.5) -> float:
    """The least seconds of the call, after an untimed one; no further try where all have taken ``most`` seconds."""
    call()
    seconds = [wall(call)]
    while len(seconds) < tries and sum(seconds) < most:
        seconds.append(wall(call))
    return min(seconds)
