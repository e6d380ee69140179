"""The three standard files of a process: some are closed when it starts, some die with their terminal or disk."""

from __future__ import annotations

import io
import os
import stat
import sys
from typing import Any


def open_closed_ones() -> None:
    """Open what is closed of stdin, stdout and stderr on the null device, as daemons and ``>&-`` leave them.

    Python has None for a closed one, which has no ``write``; and the next file to be opened would get its number, so
    that what a library prints there would end in it.
    """
    while True:  # The lowest free number is given out first.
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            break
        os.set_inheritable(descriptor, True)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            file = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, file)


def outlive_stderr() -> None:
    """Let stderr lead to the null device from the first write on that fails, on a full disk or into a pipe that nobody
    reads any more: what is said beside the work is no reason to lose it.
    """
    given = sys.stderr
    if os.name != "posix" or not isinstance(given, io.TextIOWrapper) or given.fileno() != 2:
        return
    given.flush()
    file = io.BufferedWriter(_Lasting(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(file, given.encoding, given.errors, newline="\n", line_buffering=True)


class _Lasting(io.FileIO):
    """A file that is the null device once it cannot be written."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BlockingIOError:  # the file is another's as well, who may not be waited for
            raise
        except OSError:
            _point_to_null(self.fileno())
            return len(data)


def leave_the_terminal() -> None:
    """Point what leads to a terminal to the null device: one that has hung up fails each write."""
    for number in (0, 1, 2):
        try:
            if stat.S_ISCHR(os.fstat(number).st_mode):
                _point_to_null(number)
        except OSError:  # It is closed.
            continue


def _point_to_null(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, number)
    os.close(null)
