"""Standard input as DATA: "-", ``/dev/stdin``, and what a shell gives for ``<(...)``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fullbatch.errors import InputError, TableError


@contextmanager
def at_hand(data: Sequence[Path], form: str | None) -> Iterator[list[Path]]:
    """The files; of standard input a copy, since a table is read more than once, which errors do not name.

    form : what --format says that standard input is
    """
    from fullbatch.tables.inputs import seekable

    standard = [path for path in data if can_be_read_once(path)]
    if form is not None and not standard:
        raise InputError("--format is of standard input, -; a file's name and its first bytes say what it is.")
    if not standard:
        yield list(data)
        return
    if len(data) > 1:
        raise InputError("standard input, -, is a table by itself; give it alone, or files.")
    shown = called(standard[0])
    try:
        source = Path("-") if form and str(standard[0]) == "/dev/stdin" else standard[0]
        with seekable(source, form) as copy:
            try:
                yield [copy]
            except (InputError, TableError) as error:
                raise type(error)(str(error).replace(str(copy), shown)) from None
    except TableError as error:
        untold = form is None and any(words in str(error) for words in ("expected its format", "unknown kind of file"))
        raise TableError(f"{error} --format says it, as --format csv.") if untold else error from None


def called(path: Path) -> str:
    """The file as a line has it."""
    return "standard input" if str(path) == "-" else str(path)


def can_be_read_once(path: str | Path) -> bool:
    """Whether it is standard input, or something of the system's that may be like it."""
    path = Path(path)
    return str(path) == "-" or (str(path).startswith(("/dev/", "/proc/")) and path.exists() and not path.is_dir())
