"""Signals that ask to stop: the first one raises, those that follow it do not."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Signals:
    """What ``stopping_with`` knows of its signals.

    received : the signal that asked to stop, or 0;  raising : whether the next one raises, or is only received
    """

    received: int = 0
    raising: bool = True


@contextmanager
def stopping_with(exception: type[BaseException], *numbers: int) -> Iterator[Signals]:
    """The first of these signals raises ``exception``; what follows it, an impatient second Ctrl-C, does not."""
    signals = Signals()

    def stop(number: int, frame: Any) -> None:
        signals.received = number
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
