"""``train --checkpoint`` and ``--resume``: a training that is kept while it runs, with what was typed, and goes on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import click

from fullbatch.command.options import check_distinct
from fullbatch.command.printing import say
from fullbatch.command.standard_input import can_be_read_once
from fullbatch.errors import InputError

OF_THIS_RUN = ("as_json", "quiet", "plot", "resume", "checkpoint")  # options that a checkpoint does not keep
MAY_CHANGE = (
    *OF_THIS_RUN,
    "checkpoint_every",
    "epochs",
    "model",
    "threads",
    "device",
    "device_memory",
    "cluster",
    "workers",
    "wait",
    "store",
)
PATHS = ("data", "model", "store")
PIECES = 64  # of the data's files that are looked at before any is read; of each of many the first and the last


@dataclass
class Kept:
    """What keeps a training, and what it goes on from.

    callbacks : the checkpoint, or nothing;  resume : it too, where the training goes on
    written : files of the data that were written since
    """

    callbacks: tuple[Any, ...] = ()
    resume: Any = None
    written: Sequence[str] = ()

    @contextmanager
    def naming_files(self) -> Iterator[None]:
        """Have an error about other data name the files that were written since."""
        try:
            yield
        except InputError as error:
            if not self.written or "in the checkpoint" not in str(error):
                raise
            files = ", ".join(self.written)
            raise InputError(f"{files}, written since the training began: {error}") from None


def going_on(context: click.Context, path: Path, types: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the training that a checkpoint keeps, with those that may be others now.

    types : of the command's parameters, by name

    Raises InputError for an option that was given and cannot change, with both values, and for a checkpoint that
    ``fullbatch train`` did not make; ModelFileError for what is none.
    """
    from fullbatch.saving.checkpoint import Checkpoint

    checkpoint = Checkpoint(path, context.params["checkpoint_every"])
    kept = checkpoint.extra.get("options")
    if not isinstance(kept, dict) or not set(kept) <= set(context.params):
        raise InputError(f"--resume {path}: it holds no training that `fullbatch train --checkpoint` kept.")
    if wrong := [name for name, value in kept.items() if not _is_of(types[name], value)]:
        raise InputError(f"--resume {path}: its --{_dashed(wrong[0])} is damaged; take an earlier copy of the file.")
    kept = {"retrain": False, **kept}  # earlier trainings had no second one
    given = {name: value for name, value in context.params.items() if _is_typed(context, name)}
    for name, value in given.items():
        if name not in MAY_CHANGE and _plain(name, value) != kept.get(name):
            option = "DATA" if name == "data" else f"--{_dashed(name)}"
            then = "not given" if kept.get(name) is None else repr(kept[name])
            raise InputError(
                f"{option} is {_plain(name, value)!r}, and {then} in {path}: a training that goes on "
                "cannot change it; leave it away, or train anew."
            )
    asked = given.pop("checkpoint", path)
    _check_same_file(asked, path)
    options = {**context.params, **kept, **{name: value for name, value in given.items() if name in MAY_CHANGE}}
    options |= {name: Path(options[name]) for name in PATHS if options[name] is not None}
    written = _check_files(checkpoint.extra.get("files", []), options, path)
    context.obj = Kept((checkpoint,), checkpoint, written)
    return {**options, "resume": None, "checkpoint": path}


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _is_of(kind: Any, value: Any) -> bool:
    """Whether a value that JSON has is one of a parameter of this type: ``int | None``, ``list[str]``."""
    if isinstance(kind, UnionType):
        return any(_is_of(one, value) for one in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is_of(get_args(kind)[0], one) for one in value)
    as_json: Any = {Path: str, float: (int, float)}.get(kind, kind)
    return isinstance(value, as_json) and isinstance(value, bool) == (kind is bool)


def _check_same_file(checkpoint: Path, resumed: Path) -> None:
    """InputError for a --checkpoint beside --resume that is another file."""
    if os.path.realpath(checkpoint) != os.path.realpath(resumed):
        raise InputError(f"--resume {resumed} is kept in the same file; leave --checkpoint {checkpoint} away.")


def kept_by(context: click.Context, options: Mapping[str, Any]) -> Kept:
    """What keeps this training, as its options say, and is told them."""
    path = options["checkpoint"]
    if path is None:
        return Kept()
    check_distinct({"DATA": options["data"]}, {f"--{name}": options[name] for name in ("model", "plot", "checkpoint")})
    kept = context.obj if isinstance(context.obj, Kept) else None
    if kept is None:
        from fullbatch.saving.checkpoint import Checkpoint

        kept = Kept((Checkpoint(path, options["checkpoint_every"]),))
    known = {name: _plain(name, options[name]) for name in context.params if name not in OF_THIS_RUN}
    kept.callbacks[0].carry(extra={"options": known, "files": _files(options)})
    return kept


def _files(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Path, size, time and a checksum of some pieces of each file that the training reads.

    They are compared before any of the files is read. It is the checksum of all values that decides in the end.
    """
    from fullbatch.command.options import share_or_file
    from fullbatch.sources.fingerprints import fingerprint_of_file
    from fullbatch.tables.inputs import files_of

    held_out = share_or_file(options["validation"])
    given = [options["data"], held_out if isinstance(held_out, Path) else None]
    found = [file for one in given if one is not None for file in files_of(one) if file.is_file()]
    pieces, said = PIECES // max(1, len(found)), []
    for file in found:
        try:
            stat, checksum = file.stat(), fingerprint_of_file(file, pieces)
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}.") from None
        one = {"path": os.path.abspath(file), "bytes": stat.st_size, "modified": stat.st_mtime_ns}
        said.append({**one, "checksum": checksum})
    return said


def _check_files(kept: Any, options: Mapping[str, Any], checkpoint: Path) -> list[str]:
    """See that the files are those of the training that goes on. InputError for others, and for other bytes in them.

    Returns those that were written since, though not another size or piece was found: their values will be compared.
    """
    plain = isinstance(kept, list) and all(map(_is_a_file, kept))
    if not plain:
        raise InputError(f"--resume {checkpoint}: what it says of its files is damaged; take an earlier copy of it.")
    then, now = ({one["path"]: one for one in files} for files in (kept, _files(options)))
    own = "a training goes on with its own data; give it as it was, or train anew"
    for path in {**then, **now} if then else ():  # an earlier version kept nothing of its files
        if path not in now:
            raise InputError(f"No such file: {path}, which is of the training in {checkpoint}: {own}.")
        if path not in then:
            raise InputError(f"{path} is a file beside those of the training in {checkpoint}: {own}.")
        if now[path]["bytes"] != then[path]["bytes"]:
            sizes = f"{now[path]['bytes']:,} bytes, and {then[path]['bytes']:,} in {checkpoint}"
            raise InputError(f"{path} has {sizes}: {own}.")
        if now[path]["checksum"] != then[path].get("checksum", now[path]["checksum"]):  # an earlier version kept none
            raise InputError(f"{path} has other bytes than when the training in {checkpoint} began: {own}.")
    return [path for path in now if then and now[path]["modified"] != then[path]["modified"]]


def _is_a_file(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"path", "bytes", "modified"} <= set(value) <= {"path", "bytes", "modified", "checksum"}
        and all(isinstance(value.get(name, ""), str) for name in ("path", "checksum"))
        and all(isinstance(value[name], int) for name in ("bytes", "modified"))
    )


@contextmanager
def warnings_said() -> Iterator[None]:
    """Warnings of a checkpoint (not written, or of other bits) and of lost workers of a cluster are lines on stderr."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message="(?s)(.*checkpoint|cluster: )", category=UserWarning)
        # An estimator's name of an option is none of the command's.
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}".replace("max_iter=", "--epochs "))
        yield


def _is_typed(context: click.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return name != "resume" and source is not None and source.name == "COMMANDLINE"


def _plain(name: str, value: Any) -> Any:
    """An option's value as JSON has it; a path as it is found from any folder."""
    if name in PATHS or isinstance(value, Path):
        return value if value is None else str(value) if can_be_read_once(value) else os.path.abspath(value)
    return list(value) if isinstance(value, tuple) else value
