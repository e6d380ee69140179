"""The JSON files: one per run, rewritten after each point, so that an interrupted run keeps what it has."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import Machine
from fullbatch.errors import InputError

SCHEMA = 1
KINDS = ("scaling", "peers", "training")


@dataclass
class Result:
    """One run.

    kind : "scaling", "peers" or "training";  command : what was typed;  settings : every option, also those left out
    points : what was measured, in order;  left_out : what was not, each with the reason, in words
    summary : what follows from the points alone;  finished : False while it runs, and after Ctrl-C
    """

    kind: str
    command: str
    machine: Machine
    settings: dict[str, Any]
    points: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    finished: bool = False
    schema: int = SCHEMA

    def save(self, path: Path) -> None:
        """Write it to a temporary name and rename: a crash leaves the old file or the new one."""
        text = json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(text)
        draft.replace(path)

    @classmethod
    def load(cls, path: Path) -> Result:
        """InputError where it is no file of this harness."""
        try:
            raw = json.loads(path.read_text())
            raw["machine"] = Machine(**raw["machine"])
            result = cls(**raw)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path} is not a result of this harness ({error}).") from error
        if result.kind not in KINDS or result.schema != SCHEMA:
            raise InputError(
                f"{path}: kind {result.kind!r}, schema {result.schema}; known: {', '.join(KINDS)}, schema {SCHEMA}."
            )
        return result


def load_all(folder: Path) -> list[tuple[Path, Result]]:
    """All results of a folder, by name. InputError where there is none."""
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise InputError(f"no results (*.json) in {folder}; make some: python -m bench scaling --out {folder}")
    return [(path, Result.load(path)) for path in paths]


def writable(folder: Path) -> Path:
    """The folder, made if need be; an InputError now rather than after the measuring if it cannot be written."""
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}; give another folder by --out.") from error
    return folder


def chosen(given: Iterable[str], known: Iterable[str], what: str) -> list[str]:
    """The given names, each once, or all known ones if none is given; an InputError lists the known ones."""
    known = list(known)
    names = list(dict.fromkeys(given)) or known
    for name in names:
        if name not in known:
            raise InputError(f"unknown {what} {name!r}; the known ones are {', '.join(known)}.")
    return names
