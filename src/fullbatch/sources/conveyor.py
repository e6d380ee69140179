"""Copies from the host to a GPU, while it computes: ``Streaming`` reads block by block, ``Conveyor`` copies.

Copies go through pinned buffers, which several threads fill (one thread copies 12 GB/s, PCIe five times that), and
streams of their own: while one buffer is on its way another is filled, and the GPU computes. Blocks take turns in
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
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fullbatch.errors import DeviceError
from fullbatch.machine import arrays, cuda
from fullbatch.machine.threads import Helpers, thread_count
from fullbatch.sources.columns import Array, Coded, Reader, Where, length

if TYPE_CHECKING:
    from concurrent.futures import Future

STAGE = 2**25  # bytes of a pinned buffer at most: a power of two, to which CuPy's pool rounds up
ALONE = 2**20  # bytes up to which one thread copies as fast as several
MOST_THREADS = 8  # So many threads fill PCIe 5.


class Side:
    """One of the two places on the GPU, and what fills it: a reader, and a conveyor with half of the threads.

    It is an array; or two, of the numbers and the codes of Coded blocks.
    """

    def __init__(self, read: Reader, cupy: Any) -> None:
        self.read = read
        self.conveyor = Conveyor(cupy, max(1, filling_threads() // 2))
        self.arrays: list[Any] = []
        self.free: Any = None  # the event after which it may be written to: all passes over its last block are done


class Sent(NamedTuple):
    """A block that is on its way, or still to be filled.

    target : the arrays (k, ...) where it will lie;  arrival : once all of it is sent, the event after which it is there
    """

    where: Where
    side: Side
    target: list[Any]
    arrival: Future[Any]


class Streaming:
    """A reader: blocks (n, k) on the GPU, each ready when what is launched next begins; good until the next call.

    coded : blocks go there, and are, as numbers and codes
    """

    def __init__(self, host: Any, place: Any, cupy: Any, coded: bool = False) -> None:
        self.n, self.coded = host.n, coded
        self.place, self.cupy = place, cupy
        make = host.coded_reader if coded else host.reader
        with place.current():
            self.sides = deque(Side(make(), cupy) for _ in range(2))  # The first one is the one whose turn it is.
        self.kinds = [(self.n, host.like.dtype)]  # numbers of an example in each array, and their dtype
        if coded:
            nobody = self.sides[0].read(slice(0, 0))
            self.kinds = [(int(part.shape[1]), part.dtype) for part in (nobody.numbers, nobody.ones)]
        self.given: Side | None = None  # the side where the block of the last call lies
        self.expected: deque[Where] = deque()  # the next calls, without those of ``on_the_way``, which come before them
        self.on_the_way: deque[Sent] = deque()
        self.ahead = Helpers(2, "fullbatch-ahead")  # the threads that fill and send what is expected

    def expect(self, wheres: list[Where]) -> None:
        """The next calls are for these, one after another; a single one is sent by the caller's thread as quickly."""
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
            # All that reads the last call's block has been launched by now, so this event comes after it.
            now = now_on(self.cupy)
            if self.given is not None:
                self.given.free = now
            self._send_ahead(now)
            if self.on_the_way and self.on_the_way[0].where is where:
                sent = self.on_the_way.popleft()
                self.given, target, arrival = sent.side, sent.target, sent.arrival.result()
            else:  # This block was not expected, so what was is of no use.
                self._stop()
                self.given, target = self._next_array(where, now)
                arrival = self._send(self.given, where, target)
            self.cupy.cuda.get_current_stream().wait_event(arrival)
        if self.coded:
            numbers, ones = target
            return Coded(numbers, ones, (self.n, length(where)))
        return target[0].T

    def _send_ahead(self, now: Any) -> None:
        """Have the next two blocks that are expected on their way."""
        while self.expected and len(self.on_the_way) < 2:
            where = self.expected[0]
            side, target = self._next_array(where, now)
            self.on_the_way.append(Sent(where, side, target, self.ahead.submit(self._send, side, where, target)))
            self.expected.popleft()

    def _next_array(self, where: Where, now: Any) -> tuple[Side, list[Any]]:
        """The side whose turn it is, and arrays (k, ...) there for a block."""
        k = length(where)
        side = self.sides[0]
        self.sides.rotate()
        if not side.arrays or any(a.size < k * n for a, (n, _) in zip(side.arrays, self.kinds, strict=True)):
            side.arrays = []  # The old ones go before there are new ones, so that the GPU never holds both.
            side.arrays = [self.cupy.empty(k * n, dtype=dtype) for n, dtype in self.kinds]
            # They may lie where something launched just now still works: CuPy hands memory out again as soon as Python
            # has let go of it.
            side.free = now
        return side, [a[: k * n].reshape((k, n)) for a, (n, _) in zip(side.arrays, self.kinds, strict=True)]

    def _send(self, side: Side, where: Where, target: list[Any]) -> Any:
        """Send a block; the event after which it is there. It runs in a thread of its own where blocks are expected."""
        with self.place.current(), arrays.quiet():  # The current GPU and NumPy's warnings are settings of each thread.
            side.conveyor.after(side.free)
            block = side.read(where)
            for rows, array in zip(block[:2] if self.coded else (block.T,), target, strict=True):
                side.conveyor.send(rows, array)
            return side.conveyor.arrival()

    def _stop(self) -> None:
        """Nothing is expected or on its way, and no thread fills a buffer any more."""
        self.expected.clear()
        self.ahead.close(cancel=True)
        self.on_the_way.clear()


def now_on(cupy: Any) -> Any:
    """An event after all that has been launched on the current stream."""
    event = cupy.cuda.Event(disable_timing=True)
    event.record()
    return event


def filling_threads() -> int:
    """How many threads fill pinned buffers, all conveyors of a reader together."""
    return min(MOST_THREADS, thread_count(None))


class Conveyor:
    """Two pinned buffers and a stream for copies to the current GPU. ``threads`` fill them; None: as many as help."""

    def __init__(self, cupy: Any, threads: int | None = None) -> None:
        self.cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.pinned: list[Any] = [None, None]
        self.sent: list[Any] = [None, None]  # for each buffer, the event after the last copy out of it
        self.turn = 0
        self.threads = filling_threads() if threads is None else threads
        self.helpers = Helpers(self.threads - 1, "fullbatch-copy")
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
        self.helpers.close()
        self.stream.synchronize()

    def send(self, rows: np.ndarray, target: Any) -> None:
        """Copy rows (k, n), in any order of memory, to a contiguous array there, part by part."""
        runtime = self.cupy.cuda.runtime
        row = rows.shape[1] * rows.itemsize
        most = max(1, STAGE // row)
        # The parts have nearly one length, because while a short one is copied there is no time to fill a long one.
        size = -(-len(rows) // -(-len(rows) // most))
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            self.turn = 1 - self.turn
            if self.sent[self.turn] is not None:
                self.sent[self.turn].synchronize()  # The host waits here: until then the buffer is still being read.
            buffer = self._buffer(part.nbytes)
            self._fill(buffer[: part.nbytes].view(rows.dtype).reshape(part.shape), part)
            address = target.data.ptr + start * row
            kind = runtime.memcpyHostToDevice
            runtime.memcpyAsync(address, buffer.ctypes.data, part.nbytes, kind, self.stream.ptr)
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
            # This error has words of its own: smaller blocks, which help where the GPU is short of memory, do not here.
            raise DeviceError(
                f"the host has no {size:,} bytes of pinned memory for copies to the GPU; free memory there, or raise "
                "its limit of locked memory (ulimit -l; docker run --ulimit memlock=-1)."
            ) from error

    def _fill(self, buffer: np.ndarray, rows: np.ndarray) -> None:
        """Copy rows to a buffer, shared among threads, of which the caller's is one."""
        if rows.nbytes <= ALONE or self.threads == 1:
            np.copyto(buffer, rows)
            return
        from concurrent.futures import wait  # The import of fullbatch stays quick without it.

        own, *others = pairwise(len(rows) * i // self.threads for i in range(self.threads + 1))
        tasks: list[Future[None]] = []
        try:
            for i, j in others:
                # Ctrl-C may come at any moment, so each task is in the list as soon as it is one.
                tasks.append(self.helpers.submit(np.copyto, buffer[i:j], rows[i:j]))
            np.copyto(buffer[slice(*own)], rows[slice(*own)])
        finally:
            wait(tasks)  # Nobody may still write into a buffer that is used again, after Ctrl-C neither.
        for task in tasks:
            task.result()
