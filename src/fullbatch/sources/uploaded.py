"""Examples on the host, for passes on another device: a copy of all of them where there is room, else block by block.

To a GPU both go through pinned buffers, which several threads fill (one thread copies 12 GB/s, PCIe five times that),
and streams of their own: while one buffer is on its way another is filled, and the GPU computes. Blocks take turns in
two arrays there. Each array has a thread, buffers and a stream of its own, so that one is filled while the other comes
to its end; both are at work while the caller launches passes, and he waits for nothing but the filling of the block
that he asks for. The rest is said to the GPU by events:

    array 0    fill 0         | fill 2 ...
    copies        copy 0      |   (block 0 done) copy 2 ...
    array 1    fill 1              | fill 3 ...
    copies        copy 1           |   (block 1 done) copy 3 ...
    caller           launch 0 | launch 1 | ...
    passes           (copy 0) block 0 | (copy 1) block 1 | ...
"""

from __future__ import annotations

import weakref
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fullbatch.errors import DeviceError
from fullbatch.machine import arrays, cuda
from fullbatch.machine.threads import thread_count
from fullbatch.sources.columns import Array, Columns, Reader, Where, length
from fullbatch.sources.memory import Dense, Subset

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

RESERVED = 2**31  # bytes for the passes: a block's arrays, of any step
STAGE = 2**25  # bytes of a pinned buffer, at most: CuPy's pool rounds up to a power of two
ALONE = 2**20  # bytes that one thread copies as fast as several
MOST_THREADS = 8  # as many as fill PCIe 5


@dataclass(frozen=True)
class Uploaded:
    """A host source whose blocks are copied to another library and device, one at a time.

    place : has ``put``, ``empty``, ``current`` and ``is_cuda``, as places.Place
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
        if self.place.is_cuda:
            return Streaming(self.host, self.place, arrays.cupy_if_loaded())
        read, put = self.host.reader(), self.place.put
        return lambda where: put(np.ascontiguousarray(read(where).T)).T


def selected(whole: Columns, indices: Any) -> Columns:
    """Some examples of a source, in that order: chosen on the host, where they are uploaded."""
    if isinstance(whole, Uploaded):
        return Uploaded(Subset(whole.host, indices), whole.place)
    return Subset(whole, indices)


def fits(size: int, room: float) -> bool:
    """Whether so many bytes of data leave enough of ``room`` to the passes."""
    return size <= room - min(RESERVED, room / 2)


def resident(table: np.ndarray, place: Any) -> Any:
    """The table (m, n) as one array at ``place``; None where it does not fit."""
    try:
        if not place.is_cuda:
            return place.put(np.ascontiguousarray(table))
        cupy = arrays.cupy_if_loaded()
        with place.current():
            target = cupy.empty(table.shape, dtype=table.dtype)
            conveyor = Conveyor(cupy)
            try:
                conveyor.after(now_on(cupy))
                conveyor.send(table, target)
            finally:
                conveyor.close()
            return target
    except Exception as error:
        if not cuda.is_out_of_memory(error):
            raise
    cuda.release_memory(place.empty(table.dtype))
    return None


class Side:
    """One of the two arrays on the GPU, and what fills it: a reader, and a conveyor with half of the threads."""

    def __init__(self, host: Columns, cupy: Any) -> None:
        self.read = host.reader()
        self.conveyor = Conveyor(cupy, max(1, filling_threads() // 2))
        self.array: Any = None
        self.free: Any = None  # an event after all that was launched for the last block there


class Sent(NamedTuple):
    """A block that is on its way, or still to be filled.

    arrival : when all is sent, the event after which it is there
    """

    where: Where
    side: Side
    target: Any
    arrival: Future[Any]


class Streaming:
    """A reader: blocks (n, k) on the GPU, each ready when what is launched next begins; good until the next call."""

    def __init__(self, host: Columns, place: Any, cupy: Any) -> None:
        self.n, self.dtype = host.n, host.like.dtype
        self.place, self.cupy = place, cupy
        with place.current():
            self.sides = deque(Side(host, cupy) for _ in range(2))  # the first one is next
        self.given: Side | None = None  # where the caller's block lies
        self.expected: deque[Where] = deque()
        self.on_the_way: deque[Sent] = deque()
        self.ahead: ThreadPoolExecutor | None = None

    def expect(self, wheres: list[Where]) -> None:
        """The next calls are for these, one after another. A single one is sent in the caller's thread as quickly."""
        self._stop()
        if len(wheres) > 1:
            self.expected.extend(wheres)

    def close(self) -> None:
        """End all threads, and wait for what is on its way: then others may have the memory."""
        with ExitStack() as last:
            for side in self.sides:
                last.callback(side.conveyor.close)
            self._stop()

    def __call__(self, where: Where) -> Array:
        with self.place.current():
            now = now_on(self.cupy)  # after what was launched for the last block
            if self.given is not None:
                self.given.free = now
            self._send_ahead(now)
            if self.on_the_way and self.on_the_way[0].where is where:
                sent = self.on_the_way.popleft()
                self.given, target, arrival = sent.side, sent.target, sent.arrival.result()
            else:  # nobody said so
                self._stop()
                self.given, target = self._room(where, now)
                arrival = self._send(self.given, where, target)
            self.cupy.cuda.get_current_stream().wait_event(arrival)
        return target.T

    def _send_ahead(self, now: Any) -> None:
        """Have the next two blocks that are expected on their way."""
        while self.expected and len(self.on_the_way) < 2:
            if self.ahead is None:
                from concurrent.futures import ThreadPoolExecutor  # here, so that the import of fullbatch stays quick

                self.ahead = ThreadPoolExecutor(2, thread_name_prefix="fullbatch-ahead")
            where = self.expected[0]
            side, target = self._room(where, now)
            self.on_the_way.append(Sent(where, side, target, self.ahead.submit(self._send, side, where, target)))
            self.expected.popleft()

    def _room(self, where: Where, now: Any) -> tuple[Side, Any]:
        """The side whose turn it is, with room (k, n) for a block."""
        shape = (length(where), self.n)
        size = shape[0] * shape[1]
        side = self.sides[0]
        self.sides.rotate()
        if side.array is None or side.array.size < size:
            side.array = None  # before there is another
            side.array = self.cupy.empty(size, dtype=self.dtype)
            # It may lie where something launched just now still works: CuPy hands memory out again as soon as Python
            # has let go of it.
            side.free = now
        return side, side.array[:size].reshape(shape)

    def _send(self, side: Side, where: Where, target: Any) -> Any:
        """Send a block; the event after which it is there. It runs in a thread of its own where blocks are expected."""
        with self.place.current(), arrays.quiet():  # both are a thread's own
            side.conveyor.after(side.free)
            side.conveyor.send(side.read(where).T, target)
            return side.conveyor.arrival()

    def _stop(self) -> None:
        """Nothing is expected or on its way, and no thread fills a buffer any more."""
        self.expected.clear()
        if self.ahead is not None:
            self.ahead.shutdown(wait=True, cancel_futures=True)
            self.ahead = None
        self.on_the_way.clear()


def now_on(cupy: Any) -> Any:
    """An event after all that has been launched on the current stream."""
    event = cupy.cuda.Event(disable_timing=True)
    event.record()
    return event


def filling_threads() -> int:
    return min(MOST_THREADS, thread_count(None))


class Conveyor:
    """Two pinned buffers and a stream for copies to the current GPU. ``threads`` fill them; None: as many as help."""

    def __init__(self, cupy: Any, threads: int | None = None) -> None:
        self.cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.pinned: list[Any] = [None, None]
        self.sent: list[Any] = [None, None]  # an event after the copy out of each
        self.turn = 0
        self.threads = filling_threads() if threads is None else threads
        self.pool: ThreadPoolExecutor | None = None
        # A pinned buffer that goes back to CuPy's pool while it is still read would get somebody else's numbers.
        weakref.finalize(self, self.stream.synchronize).atexit = False

    def after(self, event: Any) -> None:
        """Whatever is sent from now on waits, on the GPU, for the event."""
        self.stream.wait_event(event)

    def arrival(self) -> Any:
        """An event after all that was sent."""
        event = self.cupy.cuda.Event(disable_timing=True)
        event.record(self.stream)
        return event

    def close(self) -> None:
        """End its threads, and wait until all that was sent is there."""
        if self.pool is not None:
            self.pool.shutdown(wait=True)
            self.pool = None
        self.stream.synchronize()

    def send(self, rows: np.ndarray, target: Any) -> None:
        """Copy rows (k, n), in any order of memory, to a contiguous array there, part by part."""
        runtime = self.cupy.cuda.runtime
        row = rows.shape[1] * rows.itemsize
        most = max(1, STAGE // row)
        step = -(-len(rows) // -(-len(rows) // most))  # of one length: a short one is no time to fill a long one
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
            if not cuda.is_out_of_memory(error):
                raise
            # In words of its own: smaller blocks, the cure where the GPU is short of memory, are none here.
            raise DeviceError(
                f"the host has no {size:,} bytes of pinned memory for copies to the GPU; free memory there, or raise "
                "its limit of locked memory (ulimit -l; docker run --ulimit memlock=-1)."
            ) from error

    def _fill(self, buffer: np.ndarray, rows: np.ndarray) -> None:
        """Copy rows to a buffer, shared among threads, of which the caller's is one."""
        if rows.nbytes <= ALONE or self.threads == 1:
            np.copyto(buffer, rows)
            return
        from concurrent.futures import ThreadPoolExecutor, wait  # here, so that the import of fullbatch stays quick

        if self.pool is None:
            self.pool = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="fullbatch-copy")
        own, *others = pairwise(len(rows) * i // self.threads for i in range(self.threads + 1))
        tasks: list[Future[None]] = []
        try:
            for i, j in others:
                tasks.append(self.pool.submit(np.copyto, buffer[i:j], rows[i:j]))  # the list is whole at any moment
            np.copyto(buffer[slice(*own)], rows[slice(*own)])
        finally:
            wait(tasks)  # also at Ctrl-C: nobody may write into a buffer that is used again
        for task in tasks:
            task.result()


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
