"""Leaves of a store read past the system's cache, for a file that memory cannot hold.

What is read through the cache takes its pages from other parts of the file, which are read again in the next full batch
all the same, and each page costs more to take, fill and map than a direct read of it. So a leaf is read by the disk's
own access into one of a few buffers, which are used again, while others are worked on.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
import zlib
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fullbatch.machine.threads import Helpers

if TYPE_CHECKING:
    from fullbatch.sources.store_file import StoreFile

PAGE = 4096  # Direct reads begin and end at a multiple of the disk's block, and lie in memory at one.
AHEAD = 4  # leaves that are read before they are asked for
BESIDE = 3  # buffers beyond these: of leaves that threads are at work on
AT_ONCE = 2  # leaves that are read at a time, so that the disk always has something to do


@dataclass
class Held:
    """A leaf that is in a buffer, or on its way there.

    start : the byte of the file with which the buffer begins, once it is there;  users : who looks at it
    """

    buffer: np.ndarray
    start: Future[int]
    users: int = 0


class DirectLeaves:
    """The buffers of a file, for any threads: ``take`` a leaf, look at it, and ``give`` it back.

    descriptor : of the file, opened for direct reads; it is closed with this
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.helpers = Helpers(AT_ONCE, "fullbatch-direct")
        self.lock = threading.Lock()
        self.held: dict[int, Held] = {}
        self._close = weakref.finalize(self, os.close, descriptor)

    @classmethod
    def of(cls, descriptor: int) -> DirectLeaves | None:
        """That of an open file; None where its file system, or the system, reads nothing directly."""
        if not hasattr(os, "O_DIRECT"):
            return None
        try:
            again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_DIRECT)
        except OSError:
            return None
        try:
            os.preadv(again, [_aligned(PAGE).data], 0)
        except OSError:
            os.close(again)
            return None
        return cls(again)

    def close(self) -> None:
        """Nothing is read any more when it returns."""
        self.helpers.close(cancel=True)
        self.held.clear()
        self._close()

    def take(self, file: StoreFile, leaf: int) -> tuple[np.ndarray, int]:
        """The bytes of a leaf, and that of the file with which they begin; good until ``give``.

        StoreError where the leaf cannot be read, ends too early, or has another checksum.
        """
        with self.lock:
            for coming in range(leaf, min(leaf + AHEAD + 1, len(file.leaves))):
                if coming not in self.held and (buffer := self._buffer(file, leaf, coming == leaf)) is not None:
                    self.held[coming] = Held(buffer, self.helpers.submit(self._read, file, coming, buffer))
            held = self.held[leaf]
            held.users += 1
        try:
            return held.buffer, held.start.result()
        except BaseException:
            with self.lock:
                if self.held.get(leaf) is held:
                    del self.held[leaf]  # Who asks again has it read again.
            raise

    def give(self, leaf: int) -> None:
        with self.lock:
            if leaf in self.held:
                self.held[leaf].users -= 1

    def _buffer(self, file: StoreFile, leaf: int, needed: bool) -> np.ndarray | None:
        """One for another leaf, new or of a leaf that nobody looks at and that is not expected; None: there is none."""
        expected = range(leaf, leaf + AHEAD + 1)
        done = (one for one, held in self.held.items() if not held.users and one not in expected and held.start.done())
        if (one := next(done, None)) is not None:
            return self.held.pop(one).buffer
        if not needed and len(self.held) >= AHEAD + BESIDE:
            return None
        return _aligned(2 * PAGE + max(end - first for first, end in map(file.extent, range(len(file.leaves)))))

    def _read(self, file: StoreFile, leaf: int, buffer: np.ndarray) -> int:
        first, end = file.extent(leaf)
        start = first - first % PAGE
        done = 0
        while start + done < end:
            size = -(-(end - start - done) // PAGE) * PAGE
            count = file.read_into(self.descriptor, buffer[done : done + size].data, start + done)
            done += count
            if count % PAGE and start + done < end:
                raise file.cut_short(start + done)
        if not file.checked[leaf]:
            found = 0
            for at, size in file.spans(leaf):
                found = zlib.crc32(buffer[at - start : at - start + size].data, found)
            file.compare(leaf, found)
        return start


def _aligned(size: int) -> np.ndarray:
    """Bytes that begin with a page of memory."""
    return np.frombuffer(mmap.mmap(-1, size), np.uint8)
