"""Output files: checked before the work starts, written under a temporary name, renamed when they are whole.

The file under a temporary name is locked as long as it is written, so that the next write of the name can tell what a
killed process has left behind, and remove it, from what another process is writing now.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fullbatch.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and what a killed process leaves stays.
    fcntl = None  # type: ignore[assignment]

PathLike = str | os.PathLike[str]


def path_of(path: PathLike, what: str) -> str:
    """The path as text. InputError for what is none: a number, which would be a descriptor, or no name of a file."""
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"{what} is given by its path; got {type(path).__name__}.")
    text = os.fsdecode(path)
    try:
        named = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        named = False
    if not text.strip():
        raise InputError(f"{what} is given by its path, and this one is empty.")
    if not named:
        raise InputError(f"{what} is given by a path with a character that no name of a file can have: {text!a}.")
    return text


def open_regular(path: PathLike) -> int:
    """A descriptor of a regular file, to be read. OSError for anything else: a pipe is not waited for."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


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
            _keep_mode(target, file.fileno())
            os.fsync(file.fileno())  # the bytes are on the disk before the name points to them
        os.replace(beside, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise InputError(f"cannot write {what} {target}: {error.strerror or error}.") from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def only_writer(path: PathLike, what: str) -> Iterator[None]:
    """Meanwhile no other process may enter this with the same path: InputError there, at once.

    It is for work of hours, at whose end the file would take the place of another's.
    """
    target = _target(path, what)
    lock = target.with_name(f".{target.name[:100]}.lock")
    while True:
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError:  # check_output has the words for a folder that cannot be written
            yield
            return
        if _lock(handle) is False:
            os.close(handle)
            raise InputError(
                f"another process is making {what} {target}; wait until it has ended, or give another name."
            )
        if _is_named(lock, handle):
            break
        os.close(handle)  # The one that held it has removed it meanwhile.
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def _target(path: PathLike, what: str) -> Path:
    """Where ``path`` leads: a link stays, and what it points to is replaced. InputError for no regular file."""
    path = path_of(path, what)
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
    if not os.access(target, os.W_OK) or _is_held_by_a_sticky_folder(target):
        raise InputError(f"cannot write {what} to {path}: the file that is there is protected; give another name.")
    return target


def _is_held_by_a_sticky_folder(target: Path) -> bool:
    """Whether only others may rename it: as in /tmp, where anybody makes files beside it."""
    folder = target.parent.stat()
    if not folder.st_mode & stat.S_ISVTX or not hasattr(os, "geteuid"):
        return False
    return os.geteuid() not in (0, folder.st_uid, target.stat().st_uid)


def _keep_mode(target: Path, handle: int) -> None:
    """Give the new file the permissions of the one whose place it takes: what was private stays so."""
    if not hasattr(os, "fchmod"):  # Windows has none before Python 3.13.
        return
    try:
        os.fchmod(handle, stat.S_IMODE(target.stat().st_mode))
    except OSError:  # It is not there yet, or the file system has no permissions.
        return


def _make_beside(target: Path, what: str) -> tuple[Path, int]:
    """A new, open, locked file in the target's folder, with the permissions that any new file gets."""
    _remove_abandoned(target)
    try:
        while True:
            beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            if _lock(handle) is not False and _is_named(beside, handle):
                return beside, handle
            os.close(handle)  # Another process took it for abandoned before it was locked.
    except OSError as error:
        if not target.parent.exists():
            raise InputError(
                f"cannot write {what} to {target}: the folder {target.parent} does not exist; make it first (mkdir -p)."
            ) from None
        raise InputError(
            f"cannot write {what} to {target}: {error.strerror or error}; choose a folder that you may write to."
        ) from error


def _remove_abandoned(target: Path) -> None:
    """Remove what processes that were killed have left of earlier writes of the same name: nobody holds its lock."""
    if fcntl is None:
        return
    name = glob.escape(target.name[:100])
    for path in target.parent.glob(f".{name}.{'[0-9a-f]' * 8}.part"):
        try:
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # It is gone already, or another user's.
            continue
        try:
            if stat.S_ISREG(os.fstat(handle).st_mode) and _lock(handle):
                path.unlink(missing_ok=True)
        except OSError:  # A file that cannot be removed is no reason not to write another.
            pass
        finally:
            os.close(handle)


def _lock(handle: int) -> bool | None:
    """Lock an open file until it is closed, also by the process's end. False: another has it; None: no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems have none
        return None
    return True


def _is_named(path: Path, handle: int) -> bool:
    """Whether the open file is still the one of this name."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False


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
