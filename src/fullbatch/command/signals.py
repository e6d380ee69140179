"""Signals that ask to stop: the first one raises, those that follow it do not."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fullbatch.machine.descriptors import leave_the_terminal

# Ctrl-C, what ``kill`` and a machine's shutdown send, and the end of the terminal, which Windows has not.
HANGUP = getattr(signal, "SIGHUP", None)
ENDING = (signal.SIGINT, signal.SIGTERM, *([] if HANGUP is None else [HANGUP]))


@dataclass
class Signals:
    """What ``stopping_with`` knows of its signals.

    received : the signal that asked to stop, or 0;  raising : whether the next one raises, or is only received
    """

    received: int = 0
    raising: bool = True


@contextmanager
def stopping_with(exception: type[BaseException], *numbers: int) -> Iterator[Signals]:
    """The first of these signals raises ``exception``; what follows it, an impatient second Ctrl-C, does not.

    A hangup that is ignored, as nohup does it, stays ignored. Else its terminal is gone, and nothing is written there.
    """
    numbers = tuple(number for number in numbers if number != HANGUP or signal.getsignal(HANGUP) != signal.SIG_IGN)
    signals = Signals()

    def stop(number: int, frame: Any) -> None:
        signals.received = number
        if number == HANGUP:
            leave_the_terminal()
        if signals.raising:
            signals.raising = False
            raise exception

    try:
        before = {number: signal.signal(number, stop) for number in numbers}
    except ValueError:  # Only the main thread gets signals, and this is another.
        yield signals
        return
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
