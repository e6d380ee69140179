"""Output files: checked before the work starts, written under a temporary name, renamed when they are whole."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fullbatch.errors import InputError

PathLike = str | os.PathLike[str]


def check_output(path: PathLike, what: str) -> None:
    """Prove that ``path`` can be written, by making a file beside it and removing it; nothing else changes.

    ``what`` names the file in the message ("the model"). Raises InputError.
    """
    target = _target(path, what)
    beside, handle = _make_beside(target, what)
    os.close(handle)
    beside.unlink()


@contextmanager
def replacing(path: PathLike, what: str) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` when the block ends well, and is removed when it fails.

    A crash leaves the old file or the new one, never a part. Raises InputError where it cannot be written.
    """
    target = _target(path, what)
    beside, handle = _make_beside(target, what)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # the bytes are on the disk before the name points to them
        os.replace(beside, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise InputError(f"cannot write {what} {target}: {error.strerror or error}.") from error
    finally:
        beside.unlink(missing_ok=True)


def _target(path: PathLike, what: str) -> Path:
    """Where ``path`` leads: a link stays, and what it points to is replaced. InputError for no regular file."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        if str(path).endswith(("/", os.sep)):
            raise InputError(f"cannot write {what} to {path}: a file name is missing after the folder.") from None
        return target
    except OSError as error:
        raise InputError(f"cannot write {what} to {path}: {error.strerror or error}.") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"cannot write {what} to {path}: it is a folder; give a file name inside it.")
    if not stat.S_ISREG(mode):
        raise InputError(f"cannot write {what} to {path}: it is not a regular file; give the name of one.")
    return target


def _make_beside(target: Path, what: str) -> tuple[Path, int]:
    """A new, open file in the target's folder, with the permissions that any new file gets."""
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        return beside, os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        if not target.parent.exists():
            raise InputError(
                f"cannot write {what} to {target}: the folder {target.parent} does not exist; make it first (mkdir -p)."
            ) from None
        raise InputError(
            f"cannot write {what} to {target}: {error.strerror or error}; choose a folder that you may write to."
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last through a crash, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open a folder
        return
    try:
        os.fsync(handle)
    except OSError:  # some network file systems refuse
        pass
    finally:
        os.close(handle)
