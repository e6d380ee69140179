"""How the steps' CUDA kernels are compiled and launched: by CuPy, each for the device that is current then."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

MOST_BLOCKS = 2048  # thread blocks; an H100 has room for 132 x 12 of the one-pass step's


class Kernel:
    """A kernel, compiled when it is first launched: most of them never are. CuPy keeps on disk what it has compiled.

    threads : of a thread block;  shared : bytes of shared memory that it takes beside what the source declares
    """

    def __init__(self, xp: Any, source: str, name: str, threads: int, shared: int = 0) -> None:
        self.xp, self.source, self.name = xp, source, name
        self.threads, self.shared = threads, shared

    @cached_property
    def _compiled(self) -> Any:
        compiled = self.xp.RawModule(code=self.source).get_function(self.name)
        if self.shared:
            compiled.max_dynamic_shared_size_bytes = self.shared  # more than 48 KB must be asked for
            compiled.preferred_shared_memory_carveout = 100  # percent: else fewer thread blocks may run at once
        return compiled

    @cached_property
    def _at_once(self) -> int:
        """Thread blocks that the device runs at once."""
        cuda = self.xp.cuda
        each = cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
            self._compiled.kernel.ptr, self.threads, self.shared
        )
        return max(1, min(MOST_BLOCKS, each * cuda.Device().attributes["MultiProcessorCount"]))

    def blocks(self, useful: int) -> int:
        """Thread blocks to launch: as many as run at once, or fewer where there is no use for them.

        More would come in waves, of which the last one leaves the device half idle.
        """
        return max(1, min(self._at_once, useful))

    def __call__(self, grid: tuple[int, ...], *arguments: Any, threads: int = 0) -> None:
        """Launch it. Integers and floats are 64 bits wide for all kernels, and None is a null pointer."""
        self._compiled(grid, (threads or self.threads,), tuple(map(_as_c, arguments)), shared_mem=self.shared)


def _as_c(argument: Any) -> Any:
    if argument is None:
        return np.intp(0)  # CuPy before 14 knows no None
    if isinstance(argument, float):
        return np.float64(argument)
    return np.int64(argument) if isinstance(argument, int) else argument


def strides(array: Any) -> tuple[int, ...]:
    """Along each axis, counted in numbers."""
    return tuple(stride // array.itemsize for stride in array.strides)


def contiguous(xp: Any, weight: Any) -> Any:
    """The examples' weights as kernels take them; None stays None."""
    return None if weight is None else xp.ascontiguousarray(weight)
