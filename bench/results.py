"""The JSON files: one per run, rewritten after each point, so that an interrupted run keeps what it has."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from bench import forms
from bench.machine import Machine
from fullbatch.errors import InputError

SCHEMA = 2
# What a run that goes on must find as it was; the rest of the machine's description (load, date) may differ.
SAME = (
    "cpu", "cores", "threads", "system", "libc", "python", "versions", "blas", "gpus", "revision", "native",
    "environment",
)  # fmt: skip


# And of a kind whose points stand each for itself, what may be another all the same: more of the same is measured.
MAY_GROW = {"tables": ("tables", "contenders", "seeds", "revision", "native")}


@dataclass(frozen=True)
class Measured:
    """Points in the forms of their kind, the limits of each device, and what follows from both, as the file has it."""

    points: list[Any]
    limits: dict[str, forms.Limits]
    summary: dict[str, Any]


@dataclass
class Result:
    """One run.

    kind : one of forms.FORMS;  command : what was typed;  settings : every option, also those left out
    points : what was measured, in order;  left_out : what was not, each with the reason, in words
    summary : what follows from the points and the limits;  finished : False while it runs, and after Ctrl-C
    resumed : when it went on (--resume), each time
    """

    kind: str
    command: str
    machine: Machine
    settings: dict[str, Any]
    points: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    finished: bool = False
    resumed: list[str] = field(default_factory=list)
    schema: int = SCHEMA

    def has(self, **values: Any) -> bool:
        """Whether there is a point with these values already."""
        return any(all(point.get(name) == value for name, value in values.items()) for point in self.points)

    def save(self, path: Path) -> None:
        """Write it; InputError if that fails."""
        write(path, self)

    def typed(self) -> Measured:
        """What was measured, for all that shows it. Raises msgspec.ValidationError; see forms.misfit."""
        raw = {"points": self.points, "summary": self.summary}
        given = msgspec.convert(raw, forms.FORMS[self.kind])
        summary = getattr(import_module(f"bench.{self.kind}"), "summary", None)  # a kind is a module of its name
        follows = summary(self.points, given.summary.limits) if summary and self.points else {}
        return Measured(given.points, given.summary.limits, follows)

    @classmethod
    def load(cls, path: Path) -> Result:
        """InputError where it is no file of this harness."""
        raw = _read(path)
        try:
            head = msgspec.convert(raw, forms.Head)
            if head.kind not in forms.FORMS or head.schema != SCHEMA:
                raise InputError(
                    f"{path}: kind {head.kind!r}, schema {head.schema}; known: {', '.join(forms.FORMS)}, "
                    f"schema {SCHEMA}; measure again, or move it elsewhere."
                )
            result = msgspec.convert(raw, cls)
            result.typed()
            return result
        except msgspec.ValidationError as error:
            raise InputError(
                f"{path} is not a result of this harness ({forms.misfit(error)}); move it elsewhere."
            ) from error

    def go_on(self, path: Path) -> None:
        """Take the points of an earlier run at this path; InputError where it is not the same run on the same machine.

        Its limits count on: rates are derived anew from the highest of all.
        """
        if not path.exists():
            raise InputError(f"there is no {path} to go on with; leave --resume out.")
        old = Result.load(path)
        mine, theirs = (_identity(result) for result in (self, old))
        for name, value in mine.items():
            if theirs.get(name) != value:
                raise InputError(
                    f"{path} cannot be gone on with: its {name} is {theirs.get(name)!r} and now it is {value!r}; "
                    "leave --resume out, or give another --name."
                )
        self.points, self.summary = [point for point in old.points if _has_time(point)], old.summary
        self.resumed = [*old.resumed, self.machine.date]
        if self.kind not in MAY_GROW:
            self.command, self.machine = old.command, old.machine


def write(path: Path, raw: Any) -> None:
    """Write to a temporary name and rename: a crash leaves the old file or the new. InputError if it fails.

    What JSON has no number for, as NaN, becomes null.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(msgspec.json.format(forms.encoded(raw), indent=1).decode() + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; what was measured after the last save is lost."
        ) from error


def _read(path: Path) -> Any:
    """What the JSON file holds; InputError where it is none."""
    try:
        return msgspec.json.decode(path.read_bytes())
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InputError(f"{path} is not a result of this harness ({error}); move it elsewhere.") from error


def _identity(result: Result) -> dict[str, Any]:
    """What must be equal for two runs to be parts of one. The budget need not be: it says only when to stop."""
    settings, machine = result.settings, asdict(result.machine)
    other = ("budget", *MAY_GROW.get(result.kind, ()))
    if "revision" in other:  # and with it the version of this package
        machine["versions"] = {name: text for name, text in machine["versions"].items() if name != "fullbatch"}
    return {
        "kind": result.kind,
        **{name: settings[name] for name in settings if name not in other},
        **{name: machine[name] for name in SAME if name not in other},
    }


def _has_time(point: dict[str, Any]) -> bool:
    """False where no round was quiet: that is worth another try."""
    if point.get("rounds", {}).get("disturbed"):
        return False
    return any(point["times"].values()) if "times" in point else bool(point.get("seconds", True))


def fingerprint(raw: Any) -> str:
    """Of what a JSON file holds, however it is laid out: each picture carries that of the file it was drawn from."""
    text = json.dumps(msgspec.json.decode(forms.encoded(raw)), sort_keys=True)
    return f"fullbatch-result-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def is_drawn_from(path: Path) -> bool:
    """Whether the picture beside the JSON file, if there is one, carries its fingerprint."""
    picture = path.with_suffix(".png")
    return not picture.exists() or fingerprint(_read(path)).encode() in picture.read_bytes()


def of_gpu(path: Path) -> dict[str, Any] | None:
    """What ``bench gpu`` wrote to the file, which has a form of its own (gpu.py); None if it is another's."""
    try:
        raw = _read(path)
    except InputError:
        return None
    return raw if isinstance(raw, dict) and raw.get("kind") == "gpu" else None


def load_all(folder: Path) -> list[tuple[Path, Result]]:
    """All results of a folder but those of ``bench gpu``, by name. InputError where there is none."""
    paths = [path for path in sorted(folder.glob("*.json")) if of_gpu(path) is None]
    if not paths:
        raise InputError(f"no results (*.json) in {folder}; make some: python -m bench scaling --out {folder}")
    return [(path, Result.load(path)) for path in paths]


def make_room(path: Path) -> str | None:
    """Keep the result that is there as NAME.json~, for a new one is about to replace it; the line that says so.

    A run can simply be done again, as by the image's default command, and yet no slip loses a run that was finished: it
    is moved only once the new one has a first point, and an interrupted one does not push out what is kept already.
    """
    if not path.exists():
        return None
    kept = path.with_name(f"{path.name}~")
    try:
        old = of_gpu(path) or asdict(Result.load(path))
        what = f"this run replaces {path} of {old['machine']['date']}"
        if not old["finished"]:
            what += ", which was interrupted"
            if kept.exists():
                return what
    except (InputError, KeyError, TypeError):
        what = f"this run replaces {path}, which is no result of this harness"
    try:
        path.replace(kept)
    except OSError as error:
        raise InputError(f"cannot rename {path}: {error.strerror}; give another --name.") from error
    return f"{what}; the old one is {kept.name} now"


def writable(folder: Path) -> Path:
    """The folder, made if need be; an InputError now rather than after the measuring if it cannot be written."""
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}; give another folder.") from error
    return folder


def file_name(name: str) -> str:
    """The name as it is; InputError for one that would leave the folder or that no file can have."""
    if not re.fullmatch(r"[\w][\w.+-]*", name) or len(name.encode()) > 100:  # with what is added, 255 bytes at most
        raise InputError(
            f"{name!r} is no name for the files; give letters, digits, '_', '-', '+' and '.', at most 100 bytes."
        )
    return name


def chosen(given: Iterable[str] | None, known: Iterable[str], what: str) -> tuple[str, ...]:
    """The given names, each once, or all known ones if none is given; an InputError lists the known ones."""
    known = tuple(known)
    names = tuple(dict.fromkeys(given or ())) or known
    for name in names:
        if name not in known:
            raise InputError(f"unknown {what} {name!r}; the known ones are {'; '.join(known)}.")
    return names
