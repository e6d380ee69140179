"""How the command prints: to the terminal that it finds, on stdout what was asked for, on stderr all else."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from fullbatch.machine.plain_values import json_ready

if TYPE_CHECKING:
    from rich.console import Console


def console(file: Any) -> Console:
    """Rich's console for a file: as wide as the terminal is; elsewhere wide enough that no line is broken."""
    from rich.console import Console

    if file.isatty():
        return Console(file=file, highlight=False, emoji=False)
    return Console(file=cast("IO[str]", _Trimmed(file)), highlight=False, emoji=False, width=200)


class _Trimmed:
    """A file that gets no spaces before the end of a line, with which rich fills up what it prints."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(re.sub(r" +$", "", text, flags=re.MULTILINE) if text.strip(" ") else text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def status(text: str) -> Iterator[None]:
    """Show a line on the terminal while something takes its time, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.text import Text

    with console(sys.stderr).status(Text(text)):
        yield


def say(message: str) -> None:
    """One line on stderr."""
    print(f"fullbatch: {' '.join(message.split())}", file=sys.stderr, flush=True)


@contextmanager
def saying(name: str) -> Iterator[None]:
    """Let what a logger of the library tells, such as that a table elsewhere is copied, be lines on stderr."""
    handler = logging.Handler()
    handler.emit = lambda record: say(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on one line of stdout."""
    print(json.dumps(json_ready(value), allow_nan=False), flush=True)


def amount(size: float) -> str:
    """So many bytes, as a person says it: "950 bytes", "1.66 MB"."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= 0.9995 * unit:
            return f"{size / unit:.3g} {letter}B" if size < 999.5 * unit else f"{size / unit:,.0f} {letter}B"
    return plural(int(size), "byte")


def plural(number: int, noun: str) -> str:
    """So many of something: "1 row", "2,000 rows"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
