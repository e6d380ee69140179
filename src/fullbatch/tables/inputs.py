"""Which files a table is read from: a path, several, globs, a folder, or standard input."""

from __future__ import annotations

import difflib
import glob
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fullbatch.errors import TableError
from fullbatch.machine.safe_output import path_of
from fullbatch.tables.raw import listed
from fullbatch.tables.remote import local_copies, url_of

FORMATS = {"csv": "CSV", "tsv": "CSV", "parquet": "Parquet", "arrow": "Arrow IPC"}
COMPRESSIONS = {"gzip": ".gz", "zstd": ".zst", "bz2": ".bz2"}

_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".arrow", ".feather", ".ipc")
_MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_HIVE = re.compile(r"([^=/]+)=([^/]*)")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def files_of(paths: str | Path | Sequence[str | Path]) -> dict[Path, dict[str, str | None]]:
    """The files, in order, and for each of them the values that its folders give columns: ``year=2024/part.parquet``.

    A pattern with ``*``, ``?`` or ``[`` stands for the files that match, sorted, unless there is a file of that name. A
    folder stands for all files of tables in it and the folders below; those that begin with "." or "_" are none. Of
    what lies elsewhere, ``s3://bucket/late.parquet``, these are copies (``tables/remote.py``).
    """
    several: Any = [paths] if isinstance(paths, (str, os.PathLike)) or not isinstance(paths, Iterable) else paths
    given = [path_of(one, "a table") for one in several]
    if not given:
        raise TableError("no file is given; expected at least one.")
    found: dict[Path, dict[str, str | None]] = {}
    for one in _here(given):
        if one.is_dir():
            found.update(_in_folder(one))
        elif any(mark in str(one) for mark in "*?[") and not one.exists():
            matches = sorted(map(Path, glob.glob(str(one), recursive=True)))
            if not matches:
                raise TableError(f"no file matches {one}.")
            for match in matches:
                found.update(_in_folder(match) if match.is_dir() else {match: {}})
        else:
            found[one] = {}
    return found


def _here(given: Sequence[str | Path]) -> Iterator[Path]:
    """The paths; for each that is a URL, those of its copies."""
    for one in given:
        url = url_of(one)
        yield from [Path(one)] if url is None else local_copies(url)


def _in_folder(folder: Path) -> dict[Path, dict[str, str | None]]:
    found: dict[Path, dict[str, str | None]] = {}
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder).parts
        if path.is_dir() or any(part.startswith((".", "_")) for part in inner):
            continue
        parts = [_HIVE.fullmatch(part) for part in inner[:-1]]
        values = {unquote(part[1]): unquote(part[2]) for part in parts if part}
        found[path] = {name: None if value == _NO_VALUE else value for name, value in values.items()}
    if not found:
        raise TableError(f"{folder} is a folder without files; expected files of tables in it.")
    kinds = {_ending(path) for path in found}
    if len(kinds) > 1:
        mixed = listed(sorted(kinds))
        raise TableError(f"the folder {folder} mixes kinds of files: {mixed}; name those of one kind by a pattern.")
    return found


def _ending(path: Path) -> str:
    name = path.name.lower()
    for packed in COMPRESSIONS.values():
        name = name.removesuffix(packed)
    return Path(name).suffix


@contextmanager
def seekable(path: Path, form: str | None) -> Iterator[Path]:
    """The file; or a copy of it in a temporary folder where it can be read but once: "-" (standard input), a pipe."""
    standard = str(path) == "-"
    if standard and form is None:
        raise TableError(f"standard input has no name; expected its format, one of {listed(list(FORMATS), 'or')}.")
    try:
        mode = 0 if standard else path.stat().st_mode
    except OSError:
        mode = stat.S_IFREG  # What is wrong with it is told when it is opened.
    if not standard and stat.S_ISFIFO(mode) and not str(path.resolve()).startswith(("/dev/", "/proc/")):
        raise TableError(f"{path} is a named pipe; expected a file. Give the pipe as standard input: '- < {path}'.")
    if not standard and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        yield path
        return
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / (f"input.{form}" if form else "input")
        with copy.open("wb") as target:
            if standard:
                shutil.copyfileobj(sys.stdin.buffer, target, 1 << 20)
            else:
                with path.open("rb") as source:
                    shutil.copyfileobj(source, target, 1 << 20)
        yield copy


def kind_of(path: Path, shown: Path, form: str | None) -> tuple[str, str | None]:
    """What the first bytes say, "csv", "parquet" or "arrow", and the compression of a CSV file, or None.

    Plain text is CSV only if it is called so: by its name's ending, or by ``form``.
    """
    start = _start(path, shown)
    if not start:
        raise TableError(f"{shown} is empty; expected a table with a header and rows.")
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind, None
    for magic, compression in _PACKED.items():
        if start.startswith(magic):
            return "csv", compression
    name = shown.name.lower()
    if name.endswith(".parquet") or form == "parquet":
        raise TableError(f"{shown} is not a Parquet file: it does not start with PAR1.")
    if name.endswith((".arrow", ".feather", ".ipc")) or form == "arrow":
        raise TableError(f"{shown} is not an Arrow IPC file: it does not start with ARROW1.")
    for compression, ending in COMPRESSIONS.items():
        if name.endswith(ending):
            raise TableError(f"{shown} is not a {compression} file.")
    if form is None and not name.endswith(_TABLES):
        raise TableError(
            f"{shown}: unknown kind of file; the known endings are .csv, .csv.gz and .parquet, also .tsv, .txt, "
            ".arrow, .feather, .zst and .bz2."
        )
    return "csv", None


def _start(path: Path, shown: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except FileNotFoundError:
        raise TableError(_no_such_file(shown)) from None
    except PermissionError:
        raise TableError(f"{shown} cannot be read: permission denied.") from None
    except OSError as error:
        raise TableError(f"{shown} cannot be read: {error.strerror}.") from None


def _no_such_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"No such file: {path} (there is no folder {folder})."
    try:
        others = [entry.name for entry in os.scandir(folder)]
    except OSError:
        others = []
    near = difflib.get_close_matches(path.name, others, cutoff=0.75)
    return f"No such file: {path}." + (f" Did you mean {listed(near, 'or')}?" if near else "")
