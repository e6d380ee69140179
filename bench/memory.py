"""Peak memory of one step beyond the data, in a process of its own.

Writing 5 to /proc/self/clear_refs sets the kernel's high-water mark (VmHWM) back to what is resident now; after the
step the mark says how far it rose. That sees every allocation, whoever made it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench import children, own
from bench.machine import kilobytes
from bench.problem import Problem, Shape, make
from fullbatch import cost_and_gradients

WARM_UP = 4096  # examples of the step before: what it imports is not the step's own


def peak_beyond(call: Callable[[], Any]) -> int:
    """Bytes by which resident memory rose, at most, during the call."""
    _give_back()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    call()
    return max(0, _status("VmHWM") - before)


def _give_back() -> None:
    """Let the C library return what it keeps: else the step would live in what an earlier one has left, unseen."""
    with suppress(AttributeError, OSError):  # where it is not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _status(field: str) -> int:
    if (found := kilobytes("/proc/self/status", field)) is None:
        raise OSError(f"/proc/self/status has no {field}")
    return found


def of_step(shape: Shape, m: int, dtype: str, threads: int | None, native: str | None = None) -> int | None:
    """Bytes beyond the data at the peak of one cost and gradient on NumPy; None where the system does not tell.

    native : the value of FULLBATCH_NATIVE, None for as it is
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    with suppress(children.ChildError):
        extra: int | None = children.call(_of_step, shape.name, m, dtype, threads, native)
        return extra
    return None


def _of_step(shape: str, m: int, dtype: str, threads: int | None, native: str | None) -> int | None:
    p = make(Shape.parse(shape), m, dtype)

    def step(p: Problem) -> None:
        cost_and_gradients(p.network, p.params, p.X, p.Y, threads=threads)

    with own.forced(native), suppress(OSError):  # some containers forbid it
        step(p.head(WARM_UP))
        return peak_beyond(lambda: step(p))
    return None
