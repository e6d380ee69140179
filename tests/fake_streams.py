"""CUDA's streams and events on the host: what is launched runs later, in any order that streams and events allow.

``Cuda`` stands in for the module cupy in sources/conveyor.py. Each stream is a queue; when the host waits for an event,
queues are worked off in a random order until it has come. So a wait that is missing gives wrong numbers for some seeds.
Several threads may launch and wait: one at a time has the device, and all are held up now and then for a random time.
"""

from __future__ import annotations

import ctypes
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


class Event:
    def __init__(self, world: Cuda) -> None:
        self.world, self.pending = world, 0

    def record(self, stream: Stream | None = None) -> None:
        with self.world.one:
            self.pending += 1
            (stream or self.world.current).queue.append(("record", self))

    def synchronize(self) -> None:
        self.world.hold_up()
        self.world.until(lambda: self.pending == 0)


class Stream:
    def __init__(self, world: Cuda) -> None:
        self.world, self.queue = world, deque[tuple[str, Any]]()
        self.ptr = len(world.streams)
        world.streams.append(self)

    def wait_event(self, event: Event) -> None:
        self.queue.append(("wait", event))

    def launch(self, work: Callable[[], None]) -> None:
        self.queue.append(("run", work))

    def synchronize(self) -> None:
        self.world.until(lambda: not self.queue)

    def advance(self) -> bool:
        """Do what is next, if anything can be done."""
        with self.world.one:
            if not self.queue or (self.queue[0][0] == "wait" and self.queue[0][1].pending):
                return False
            kind, what = self.queue.popleft()
            if kind == "run":
                what()
            elif kind == "record":
                what.pending -= 1
            return True


class DeviceMemory:
    """Goes back to the pool as soon as nobody holds it, whatever is still to run: as in CuPy."""

    def __init__(self, world: Cuda, size: int) -> None:
        self.world = world
        same = [i for i, room in enumerate(world.freed) if room.size == size]
        self.room = world.freed.pop(same[0]) if same else np.full(size, 0xAA, np.uint8)

    def __del__(self) -> None:
        self.world.freed.append(self.room)


class DeviceArray:
    def __init__(self, memory: DeviceMemory, host: np.ndarray) -> None:
        self.memory, self.host = memory, host
        self.size, self.shape, self.dtype = host.size, host.shape, host.dtype
        self.data = SimpleNamespace(ptr=host.ctypes.data)

    def __getitem__(self, where: Any) -> DeviceArray:
        return DeviceArray(self.memory, self.host[where])

    def reshape(self, shape: Any) -> DeviceArray:
        return DeviceArray(self.memory, self.host.reshape(shape))

    @property
    def T(self) -> DeviceArray:
        return DeviceArray(self.memory, self.host.T)


class Cuda:
    """The module cupy, as far as streams go. ``seed`` picks the order in which things happen."""

    __name__ = "cupy"

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.one = threading.RLock()
        self.streams: list[Stream] = []
        self.freed: list[np.ndarray] = []
        self.current = Stream(self)
        self.copied: list[int] = []  # bytes of each copy
        self.waits = 0  # of the host
        self.cuda = SimpleNamespace(
            Stream=lambda non_blocking: Stream(self),
            Event=lambda disable_timing: Event(self),
            get_current_stream=lambda: self.current,
            alloc_pinned_memory=lambda size: np.full(size, 0x55, np.uint8),
            runtime=SimpleNamespace(memcpyHostToDevice=1, memcpyAsync=self._copy),
        )

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        dtype = np.dtype(dtype)
        memory = DeviceMemory(self, int(np.prod(shape)) * dtype.itemsize)
        return DeviceArray(memory, memory.room.view(dtype).reshape(shape))

    def _copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        self.hold_up()
        self.copied.append(size)
        self.streams[stream].launch(lambda: ctypes.memmove(target, source, size))

    def until(self, holds: Callable[[], bool]) -> None:
        self.waits += not holds()
        tries = 0
        while not holds():
            if self._advance_one():
                tries = 0
            else:  # another thread may still launch what is waited for
                tries += 1
                assert tries < 2000, "a wait that never ends"
                time.sleep(0.001)

    def _advance_one(self) -> bool:
        with self.one:
            return any(stream.advance() for stream in self.random.sample(self.streams, len(self.streams)))

    def hold_up(self) -> None:
        """Sometimes a thread is late."""
        if self.random.random() < 0.1:
            time.sleep(self.random.random() / 1000)

    def some(self) -> None:
        """A little time goes by."""
        self.hold_up()
        for _ in range(self.random.randrange(6)):
            self.random.choice(self.streams).advance()
