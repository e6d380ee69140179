"""The three standard files of a process: some are closed when it starts, some die with their terminal."""

from __future__ import annotations

import os
import stat
import sys


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


def leave_the_terminal() -> None:
    """Point what leads to a terminal to the null device: one that has hung up fails each write."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        try:
            if stat.S_ISCHR(os.fstat(number).st_mode):
                os.dup2(null, number)
        except OSError:  # It is closed.
            continue
    os.close(null)
