"""Examples on the host, for passes on another device: a copy of all of them where there is room, else block by block.

To a GPU both go through two pinned buffers, which several threads fill (one thread copies 12 GB/s, PCIe five times
that), and a stream of its own: while one buffer is on its way the other is filled, and the GPU computes. Blocks take
turns in two arrays there. Whoever copies waits for nothing but the buffer that he needs; the rest is said to the GPU by
events:

    host      fill 0 | fill 1 | (0 is free again) fill 2 | ...
    copies             copy 0 | copy 1 | (block 0 done) copy 2 | ...
    passes                      (copy 0) block 0 | (copy 1) block 1 | ...
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fullbatch import backend
from fullbatch.errors import DeviceError
from fullbatch.sources.columns import Array, Columns, Reader, Where
from fullbatch.sources.memory import Dense
from fullbatch.threads import thread_count

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

RESERVED = 2**31  # bytes for the passes: a block's arrays, of any step
STAGE = 2**26  # bytes of a pinned buffer: CuPy's pool rounds up to a power of two
ALONE = 2**20  # bytes that one thread copies as fast as several
MOST_THREADS = 8  # as many as fill PCIe 5


@dataclass(frozen=True)
class Uploaded:
    """A host source whose blocks are copied to another library and device, one at a time.

    place : has ``put``, ``empty``, ``current`` and ``is_cuda``, as backend.Place
    """

    host: Columns
    place: Any

    @property
    def n(self) -> int:
        return self.host.n

    @property
    def m(self) -> int:
        return self.host.m

    @property
    def like(self) -> Array:
        return self.place.empty(self.host.like.dtype)

    def reader(self) -> Reader:
        read = self.host.reader()
        if self.place.is_cuda:
            return Streaming(read, self.place, backend.cupy_if_loaded())
        put = self.place.put
        return lambda where: put(np.ascontiguousarray(read(where).T)).T


def fits(size: int, room: float) -> bool:
    """Whether so many bytes of data leave enough of ``room`` to the passes."""
    return size <= room - min(RESERVED, room / 2)


def resident(table: np.ndarray, place: Any) -> Any:
    """The table (m, n) as one array at ``place``; None where it does not fit."""
    try:
        if not place.is_cuda:
            return place.put(np.ascontiguousarray(table))
        cupy = backend.cupy_if_loaded()
        with place.current():
            target = cupy.empty(table.shape, dtype=table.dtype)
            conveyor = Conveyor(cupy)
            conveyor.after(conveyor.now())
            conveyor.send(table, target)
            conveyor.finish()
            return target
    except Exception as error:
        if not backend.is_out_of_memory(error):
            raise
    backend.release_memory(place.empty(table.dtype))
    return None


class Streaming:
    """A reader: blocks (n, k) on the GPU, each ready when what is launched next begins; good until the next but one."""

    def __init__(self, read: Reader, place: Any, cupy: Any) -> None:
        self.read, self.place, self.cupy = read, place, cupy
        with place.current():
            self.conveyor = Conveyor(cupy)
        self.blocks: list[Any] = [None, None]
        self.launched: Any = None  # an event after all that was launched before the last call
        self.turn = 0

    def __call__(self, where: Where) -> Array:
        rows = self.read(where).T  # (k, n)
        with self.place.current():
            now = self.conveyor.now()  # after what was launched for the last block
            target, fresh = self._room(rows)
            # The array's last use was launched before the last call. A fresh one may lie where something launched just
            # now still works: CuPy hands memory out again as soon as Python has let go of it.
            self.conveyor.after(now if fresh or self.launched is None else self.launched)
            self.conveyor.send(rows, target)
            self.conveyor.arrived()
            self.launched = now
        return target.T

    def _room(self, rows: np.ndarray) -> tuple[Any, bool]:
        self.turn = 1 - self.turn
        fresh = self.blocks[self.turn] is None or self.blocks[self.turn].size < rows.size
        if fresh:
            self.blocks[self.turn] = None  # before there is another
            self.blocks[self.turn] = self.cupy.empty(rows.size, dtype=rows.dtype)
        return self.blocks[self.turn][: rows.size].reshape(rows.shape), fresh


class Conveyor:
    """Two pinned buffers and a stream for copies to the current GPU."""

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.pinned: list[Any] = [None, None]
        self.sent: list[Any] = [None, None]  # an event after the copy out of each
        self.turn = 0
        self.threads = min(MOST_THREADS, thread_count(None))
        self.pool: ThreadPoolExecutor | None = None
        # A pinned buffer that goes back to CuPy's pool while it is still read would get somebody else's numbers.
        weakref.finalize(self, self.stream.synchronize).atexit = False

    def now(self) -> Any:
        """An event after all that has been launched on the current stream."""
        event = self.cupy.cuda.Event(disable_timing=True)
        event.record()
        return event

    def after(self, event: Any) -> None:
        """Whatever is sent from now on waits, on the GPU, for the event."""
        self.stream.wait_event(event)

    def arrived(self) -> None:
        """Whatever is launched on the current stream from now on waits, on the GPU, for all that was sent."""
        event = self.cupy.cuda.Event(disable_timing=True)
        event.record(self.stream)
        self.cupy.cuda.get_current_stream().wait_event(event)

    def finish(self) -> None:
        """Wait here until all that was sent is there."""
        self.stream.synchronize()

    def send(self, rows: np.ndarray, target: Any) -> None:
        """Copy rows (k, n), in any order of memory, to a contiguous array there, part by part."""
        runtime = self.cupy.cuda.runtime
        row = rows.shape[1] * rows.itemsize
        step = max(1, STAGE // row)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            self.turn = 1 - self.turn
            if self.sent[self.turn] is not None:
                self.sent[self.turn].synchronize()  # this wait is on the host: the buffer is still being read
            buffer = self._buffer(part.nbytes)
            self._fill(buffer[: part.nbytes].view(rows.dtype).reshape(part.shape), part)
            where = target.data.ptr + start * row
            kind = runtime.memcpyHostToDevice
            runtime.memcpyAsync(where, buffer.ctypes.data, part.nbytes, kind, self.stream.ptr)
            self.sent[self.turn] = self.cupy.cuda.Event(disable_timing=True)
            self.sent[self.turn].record(self.stream)

    def _buffer(self, size: int) -> np.ndarray:
        if self.pinned[self.turn] is None or len(self.pinned[self.turn]) < size:
            self.pinned[self.turn] = None
            self.pinned[self.turn] = np.frombuffer(self._pinned(size), np.uint8, size)
        return self.pinned[self.turn]

    def _pinned(self, size: int) -> Any:
        try:
            return self.cupy.cuda.alloc_pinned_memory(size)
        except Exception as error:
            if not backend.is_out_of_memory(error):
                raise
            # In words of its own: smaller blocks, the cure where the GPU is short of memory, are none here.
            raise DeviceError(
                f"the host has no {size:,} bytes of pinned memory for copies to the GPU; free memory there, or raise "
                "its limit of locked memory (ulimit -l; docker run --ulimit memlock=-1)."
            ) from error

    def _fill(self, buffer: np.ndarray, rows: np.ndarray) -> None:
        if rows.nbytes <= ALONE or self.threads == 1:
            np.copyto(buffer, rows)
            return
        from concurrent.futures import ThreadPoolExecutor, wait  # here, so that the import of fullbatch stays quick

        if self.pool is None:
            self.pool = ThreadPoolExecutor(self.threads, thread_name_prefix="fullbatch-copy")
        tasks = []
        try:
            for i, j in pairwise(len(rows) * i // self.threads for i in range(self.threads + 1)):
                tasks.append(self.pool.submit(np.copyto, buffer[i:j], rows[i:j]))  # the list is whole at any moment
        finally:
            wait(tasks)  # also at Ctrl-C: nobody may write into a buffer that is used again


class Put(NamedTuple):
    """X and Y at a place, and the bytes that they take there while nothing is computed."""

    X: Columns
    Y: Columns
    taken: int


def put_examples(X: np.ndarray, Y: np.ndarray, place: Any, room: float) -> Put:
    """Host arrays X (n[0], m) and Y (n[L], m) as sources at ``place``: as a whole in ``room`` bytes, or in blocks."""
    size = X.nbytes + Y.nbytes
    if fits(size, room):
        there = [resident(X.T, place), resident(Y.T, place)]
        if there[0] is not None and there[1] is not None:
            return Put(Dense(there[0].T), Dense(there[1].T), size)
    return Put(Uploaded(Dense(X), place), Uploaded(Dense(Y), place), 0)
