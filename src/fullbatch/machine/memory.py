"""How much memory this process may still take on the host: of the machine, of its cgroups, of its own limit.

And memory that is taken once, where to take it anew would have somebody wait.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path("/")  # where the system's files are
IN_MEMORY = 2e9  # bytes of a table that are taken into memory, where nobody says otherwise


def free() -> float:
    """Bytes that can still be taken without swapping; infinite where the system does not say."""
    return min(_of_the_machine(), *_of_cgroups(), _of_the_process())


def _of_the_machine() -> float:
    for line in _lines("proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return 1024.0 * int(value.split()[0])
    return math.inf


def _of_cgroups() -> Iterator[float]:
    """What the limits of this process's cgroups leave, from its own up to the root's, of version 2 and of version 1."""
    yield math.inf
    for line in _lines("proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield from _left(f"sys/fs/cgroup{path}", "memory.max", "memory.current", "inactive_file")
            yield from _left("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            yield from _left(f"sys/fs/cgroup/memory{path}", *names)
            yield from _left("sys/fs/cgroup/memory", *names)  # in a container the path may be the host's


def _left(folder: str, limit: str, usage: str, reclaimable: str) -> Iterator[float]:
    """What is left in a cgroup and in those above it; a file's pages that nobody uses are given back when asked."""
    at = Path(folder)
    while True:
        most, used = (_number(f"{at}/{name}") for name in (limit, usage))
        if most is not None and used is not None:
            pages = (line.split() for line in _lines(f"{at}/memory.stat"))
            yield max(0.0, most - used + sum(float(line[1]) for line in pages if line[:1] == [reclaimable]))
        if at.name in ("cgroup", "memory", ""):
            return
        at = at.parent


def _of_the_process() -> float:
    """What RLIMIT_AS leaves."""
    try:
        import resource
    except ImportError:  # Windows
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return math.inf
    pages = [line.split() for line in _lines("proc/self/statm")]
    taken = int(pages[0][0]) * os.sysconf("SC_PAGE_SIZE") if pages else 0
    return max(0.0, float(limit - taken))


def _number(path: str) -> float | None:
    lines = _lines(path)
    return float(lines[0]) if lines and lines[0].strip().isdigit() else None


def _lines(path: str) -> list[str]:
    """The lines of a file of the system; none where there is no such file."""
    try:
        return (ROOT / path).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


class Reused:
    """Arrays of one size and dtype in the same memory, one after another: the next when nobody holds the last.

    The system clears memory as it is first written, and looks for it page by page. On a machine that is short of free
    pages that was measured to take ten times as long as to copy what goes there, so it is done here and once.
    """

    def __init__(self, size: int, dtype: Any) -> None:
        self.memory = np.empty(size, dtype)
        self.memory.fill(0)
        self.last: weakref.ref[np.ndarray] | None = None

    def array(self) -> np.ndarray:
        """An array of any values: in this memory, or in new memory while the last one, or a view of it, is held."""
        if self.last is not None and self.last() is not None:
            return np.empty_like(self.memory)
        # By way of a memoryview: views of a view hold the array that owns the memory, not the view they were made of.
        array = np.frombuffer(self.memory.data, self.memory.dtype)
        self.last = weakref.ref(array)
        return array
