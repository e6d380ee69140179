"""The ways of a step: on the CPU natively or by NumPy alone, on a GPU by CuPy.

Each says where arrays live, how a call is timed, how much memory it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench import memory, own, roofline
from bench.forms import Limits
from bench.machine import free_memory
from bench.problem import Problem, Shape
from bench.timing import card_seconds, wall
from fullbatch import cost_and_gradients
from fullbatch.core.parameters import Layer
from fullbatch.errors import DeviceError
from fullbatch.machine import native_library, places
from fullbatch.machine.threads import thread_count

SHARE = 0.8  # of what is free: the rest is for the step, and for whoever else is there


class OnCPU:
    """A way of a step on the CPU: as installed, held to AVX2, or NumPy in blocks alone.

    device : "cpu" or for example "cuda:0";  dtype : of all arrays;  threads : that the step may use on the CPU
    native : what FULLBATCH_NATIVE is while it runs, None for as it is
    """

    device = "cpu"

    def __init__(self, name: str, native: str | None, dtype: str, threads: int | None) -> None:
        reason = None if native == "off" else own.missing(native)  # NumPy can run also where it is what runs anyway
        if native is None and not native_library.isa():
            reason = f"the native step is {native_library.why_not()}"
        if reason:
            raise DeviceError(reason)
        self.name, self.native, self.dtype = name, native, dtype
        self._threads, self.threads = threads, thread_count(threads)

    def room(self) -> int | None:
        """Bytes that data may take now, None if not known."""
        free = free_memory()
        return None if free is None else int(SHARE * free)

    def limits(self, quick: bool) -> Limits:
        return roofline.cpu_limits(self.dtype, threads=self._threads, quick=quick)

    def step(self, problem: Problem) -> Callable[[], Any]:
        """One cost and gradient of the problem, moved to this device first. It may return before it is done."""

        def call() -> Any:
            with own.forced(self.native):
                return cost_and_gradients(problem.network, problem.params, problem.X, problem.Y, threads=self._threads)

        return call

    def clock(self, call: Callable[[], Any]) -> float:
        """Seconds of the call, until its work is done."""
        return wall(call)

    def extra_memory(self, shape: Shape, m: int, step: Callable[[], Any] | None) -> int | None:
        """Bytes beyond the data at the step's peak. ``step`` is None before there is one: ask again, or None."""
        # In a process of its own, and before this one has allocated the same data.
        return memory.of_step(shape, m, self.dtype, self._threads, self.native) if step is None else None

    def free(self) -> None:
        """Give back what the library keeps, which on the CPU is nothing."""


class CuPy:
    """The same on a GPU, by CuPy."""

    name, native, threads = "cupy", None, 1

    def __init__(self, dtype: str, threads: int | None) -> None:
        self.place = places.place("cuda")
        import cupy

        self.cupy, self.dtype, self.device = cupy, dtype, self.place.name

    def room(self) -> int | None:
        self.free()
        return int(SHARE * self.cupy.cuda.Device(self.place.device).mem_info[0])

    def limits(self, quick: bool) -> Limits:
        cupy, size, tries = self.cupy, 1024 if quick else 8192, 3 if quick else 10
        A = cupy.ones((size, size), dtype=self.dtype)
        out = cupy.empty_like(A)
        n = (2**24 if quick else 2**30) // A.itemsize
        source, target = cupy.ones(n, dtype=self.dtype), cupy.empty(n, dtype=self.dtype)

        def best(call: Callable[[], Any]) -> float:
            self.clock(call)
            return min(self.clock(call) for _ in range(tries))

        product = best(lambda: cupy.matmul(A, A, out=out))
        copy = best(lambda: cupy.copyto(target, source))
        read = best(lambda: source.sum())
        return Limits(2 * size**3 / product, 2 * source.nbytes / copy, source.nbytes / read)

    def step(self, problem: Problem) -> Callable[[], Any]:
        put = self.place.put
        X, Y = put(problem.table).T, put(problem.targets).T
        params = tuple(Layer(put(W), put(b)) for W, b in problem.params)
        return lambda: cost_and_gradients(problem.network, params, X, Y)

    def clock(self, call: Callable[[], Any]) -> float:
        return card_seconds(self.cupy, call)

    def extra_memory(self, shape: Shape, m: int, step: Callable[[], Any] | None) -> int | None:
        if step is None:
            return None
        pool = self.cupy.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.used_bytes()
        step()
        return int(pool.total_bytes() - before)  # the pool keeps what it once had: its size is the peak

    def free(self) -> None:
        self.cupy.get_default_memory_pool().free_all_blocks()


Backend = OnCPU | CuPy
WAYS = {"native": None, "native-avx2": "avx2", "numpy": "off"}  # on the CPU, by their values of FULLBATCH_NATIVE
BACKENDS: dict[str, Callable[[str, int | None], Backend]] = {
    **{name: partial(OnCPU, name, native) for name, native in WAYS.items()}, "cupy": CuPy,
}  # fmt: skip
ON_CPU = ("native", "numpy")  # the first that was measured stands for the CPU


def usable(names: list[str], dtype: str, threads: int | None) -> tuple[list[Backend], list[str]]:
    """The backends of these names that work here, and a line for each that does not, with the reason."""
    found: list[Backend] = []
    left_out = []
    for name in names:
        try:
            found.append(BACKENDS[name](dtype, threads))
        except DeviceError as error:
            left_out.append(f"{name}: left out: {error}")
    return found, left_out


def itemsize(dtype: str) -> int:
    return int(np.dtype(dtype).itemsize)
