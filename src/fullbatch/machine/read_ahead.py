"""Parts of a file that come soon, read into the system's cache meanwhile."""

from __future__ import annotations

import errno
import os
import sys
import threading
import weakref
from collections.abc import Callable

from fullbatch.machine.threads import Helpers

PIECE = 2**22  # bytes that are asked for at a time: to close the file waits for them


class ReadAhead:
    """Has the system read parts of an open file, one after another, in a thread that lives as long as this is open.

    It sends them to the null device: the kernel reads as it does for ``cat``, in large pieces, and copies nothing. To
    advise it (``POSIX_FADV_WILLNEED``) fills the cache with single pages, in ten times the processor's time, and to
    read or to map those takes longer ever after.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.helpers = Helpers(1, "fullbatch-ahead")
        self.coming: dict[int, threading.Event] = {}  # where parts begin that are asked for, and whether they are there
        self.process = os.getpid()
        self.files: list[int] = []  # the file once more, whose reading nobody else disturbs, and the null device
        self.closed = False
        self._close = weakref.finalize(self, _close_all, self.files)

    def expect(self, start: int, size: int, then: Callable[[], None] | None = None) -> None:
        """These bytes come soon; it returns at once.

        then : called in the thread when they are there; it raises nothing
        """
        if self.process != os.getpid():  # a child of a fork has no such thread
            return
        there = start not in self.coming and self._are_there(start, size)
        if there and then is None:
            return
        if sys.platform != "linux":
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self.descriptor, start, size, os.POSIX_FADV_WILLNEED)
            return
        coming = threading.Event()
        if self.coming.setdefault(start, coming) is not coming:
            return
        if there:
            coming.set()
        self.helpers.submit(self._read, start, 0 if there else size, then)

    def wait(self, start: int) -> None:
        """Come back when what begins here is there, if it is expected.

        Whoever looks at it in a mapping before would have the system read it once more beside the thread, in single
        pages, whose mapping takes longer ever after.
        """
        coming = self.coming.get(start)
        if coming is not None and self.process == os.getpid():
            coming.wait()

    def is_there(self, start: int, size: int) -> bool:
        """Whether the first and the last of these bytes are in the cache; true where the file system cannot say."""
        return self._are_there(start, size, if_unknown=True)

    def close(self) -> None:
        """Nothing is read any more when it returns."""
        self.closed = True
        self.helpers.close(cancel=True)
        for coming in list(self.coming.values()):  # of parts whose turn never came
            coming.set()
        self._close()

    def _are_there(self, start: int, size: int, *, if_unknown: bool = False) -> bool:
        """Whether the first and the last of these bytes are in the cache."""
        if not hasattr(os, "RWF_NOWAIT"):
            return if_unknown
        try:
            for at in (start, start + size - 1):
                os.preadv(self.descriptor, [bytearray(1)], at, os.RWF_NOWAIT)
        except OSError as error:  # they are not, or the file system cannot say: one in memory
            return if_unknown and error.errno == errno.EOPNOTSUPP
        return True

    def _read(self, start: int, size: int, then: Callable[[], None] | None = None) -> None:
        try:
            if not self.files:
                self.files.append(_once_more(self.descriptor))
                self.files.append(os.open(os.devnull, os.O_WRONLY))
            file, null = self.files
            at, end = start, start + size
            while at < end and not self.closed and (sent := os.sendfile(null, file, at, min(PIECE, end - at))):
                at += sent
        except (OSError, ValueError):  # Whoever reads these bytes is told what is wrong with them.
            pass
        finally:
            coming = self.coming.get(start)
            if coming is not None:
                coming.set()
            if then is not None:
                then()
            self.coming.pop(start, None)


def _once_more(descriptor: int) -> int:
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    except OSError:
        return os.dup(descriptor)


def _close_all(files: list[int]) -> None:
    while files:
        os.close(files.pop())
