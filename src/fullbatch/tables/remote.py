"""Tables that lie elsewhere, ``s3://bucket/late.parquet``, by pyarrow's file systems: they are read from a copy.

A table is looked at, learned from and checked again, each a pass over its files, so one that must come over a network
comes once, into a temporary folder that is removed when Python ends. What pyarrow knows is read: ``s3``, ``gs``,
``abfs``, ``hdfs``, ``hf``, ``file``; credentials are found where these find them: the environment, their configuration,
the URL itself, of which no message shows them.
"""

from __future__ import annotations

import atexit
import fnmatch
import logging
import os
import re
import shutil
import tempfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from fullbatch.errors import TableError

logger = logging.getLogger("fullbatch.remote")

# ``Path`` makes one slash of two. Two letters at least, since C:/ is a drive.
_URL = re.compile(r"([a-z][a-z0-9+-]+):/+(.*)", re.DOTALL)
_PIECE = 1 << 20


def url_of(path: str | Path) -> str | None:
    """The URL that a path is, ``s3://bucket/key``, also where ``Path`` has made ``s3:/bucket/key`` of it; else None."""
    match = _URL.fullmatch(str(path))
    if match is None or os.path.exists(path):
        return None
    scheme, rest = match.groups()
    return f"{scheme}://{'/' if scheme == 'file' else ''}{rest}"


def local_copies(url: str) -> list[Path]:
    """A copy of the file or of the folder, on this machine; or of each file that matches a ``*`` or ``[``.

    What was copied before by this process, and is as it was, is not copied again. Raises TableError for a URL that
    pyarrow does not know, or where nothing is.
    """
    bare, _, query = url.partition("?")
    parts = bare.split("/")
    fixed = next((i for i, part in enumerate(parts) if "*" in part or "[" in part), len(parts))
    system, base = _system_of("/".join(parts[:fixed]) + (f"?{query}" if query else ""))
    found = [one for one in _files(system, base, url) if _matches(one.path, base, parts[fixed:])]
    if not found:
        raise TableError(f"no file matches {_shown(url)}.")
    # The copy ends as the original does, since its ending and folders such as year=2024 say something.
    target = _folder() / f"{zlib.crc32(url.encode()):08x}" / os.path.basename(base)
    copies = [Path(os.path.normpath(target / os.path.relpath(one.path, base))) for one in found]
    if new := [pair for pair in zip(found, copies, strict=True) if not _is_same(*pair)]:
        for one, copy in new:
            _copy(system, one, copy, url)
        size = sum(copy.stat().st_size for _, copy in new)
        told = "%s is read from a copy in %s, %s bytes, which is removed at the end"
        logger.info(told, _shown(url), target.parent, f"{size:,}")
    for other in {path for path in target.rglob("*") if path.is_file()} - {*copies}:
        other.unlink()  # It was there when the folder was copied before.
    return copies if parts[fixed:] else [target]


def _system_of(url: str) -> tuple[Any, str]:
    from pyarrow import fs

    try:
        return fs.FileSystem.from_uri(url)
    except (OSError, ValueError, ImportError) as error:
        raise TableError(f"{_shown(url)} cannot be opened: {_first_line(error)}.".replace(url, _shown(url))) from None


def _files(system: Any, path: str, url: str) -> list[Any]:
    """The file that is there, or all files of the folder."""
    from pyarrow import fs

    try:
        found = system.get_file_info(path)
        if found.type == fs.FileType.Directory:
            inside = system.get_file_info(fs.FileSelector(path, recursive=True))
            return sorted((one for one in inside if one.type == fs.FileType.File), key=lambda one: one.path)
    except OSError as error:
        raise TableError(f"{_shown(url)} cannot be read: {_first_line(error)}.") from None
    if found.type != fs.FileType.File:
        raise TableError(f"No such file: {_shown(url)}.")
    return [found]


def _matches(file: str, base: str, patterns: list[str]) -> bool:
    """Whether the patterns ask for a file: one for each folder below the base, and one for its name."""
    if not patterns:
        return True
    inner = os.path.relpath(file, base).split("/")
    return len(inner) == len(patterns) and all(map(fnmatch.fnmatchcase, inner, patterns))


def _is_same(file: Any, copy: Path) -> bool:
    return copy.is_file() and (copy.stat().st_size, copy.stat().st_mtime_ns) == (file.size, file.mtime_ns)


def _copy(system: Any, file: Any, copy: Path, url: str) -> None:
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with system.open_input_stream(file.path, compression=None) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, _PIECE)
    except OSError as error:
        copy.unlink(missing_ok=True)
        raise TableError(f"{_shown(url)} cannot be copied to {copy.parent}: {_first_line(error)}.") from None
    if file.mtime_ns:  # By which one who goes on with a training sees that the file is the same.
        os.utime(copy, ns=(file.mtime_ns, file.mtime_ns))


@cache
def _folder() -> Path:
    """Where the copies are, until this process ends; one that was forked from it leaves them where they are."""
    folder, owner = tempfile.mkdtemp(prefix="fullbatch-"), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)


def _shown(url: str) -> str:
    """The URL without what may be secret: a key before "@", and the query."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(".")
