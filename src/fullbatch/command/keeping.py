"""``train --checkpoint`` and ``--resume``: a training that is kept while it runs, with what was typed, and goes on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from fullbatch.command.options import check_distinct
from fullbatch.command.printing import say
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


@dataclass
class Kept:
    """What keeps a training, and what it goes on from.

    callbacks : the checkpoint, or nothing;  resume : it too, where the training goes on
    """

    callbacks: tuple[Any, ...] = ()
    resume: Any = None


def going_on(context: typer.Context, path: Path) -> dict[str, Any]:
    """The arguments of the training that a checkpoint keeps, with those that may be others now.

    Raises InputError for an option that was given and cannot change, with both values, and for a checkpoint that
    ``fullbatch train`` did not make; ModelFileError for what is none.
    """
    from fullbatch.saving.checkpoint import Checkpoint

    checkpoint = Checkpoint(path, context.params["checkpoint_every"])
    kept = checkpoint.extra.get("options")
    if not isinstance(kept, dict) or not set(kept) <= set(context.params):
        raise InputError(f"--resume {path}: it holds no training that `fullbatch train --checkpoint` kept.")
    given = {name: value for name, value in context.params.items() if _is_typed(context, name)}
    for name, value in given.items():
        if name not in MAY_CHANGE and _plain(name, value) != kept.get(name):
            option = "DATA" if name == "data" else f"--{name.replace('_', '-')}"
            raise InputError(
                f"{option} is {_plain(name, value)!r}, and {kept.get(name)!r} in {path}: a training that goes on "
                "cannot change it; leave it away, or train anew."
            )
    asked = given.pop("checkpoint", path)
    _check_same_file(asked, path)
    options = {**context.params, **kept, **{name: value for name, value in given.items() if name in MAY_CHANGE}}
    options |= {name: Path(options[name]) for name in PATHS if options[name] is not None}
    context.obj = Kept((checkpoint,), checkpoint)
    return {**options, "resume": None, "checkpoint": path}


def _check_same_file(checkpoint: Path, resumed: Path) -> None:
    """InputError for a --checkpoint beside --resume that is another file."""
    if os.path.realpath(checkpoint) != os.path.realpath(resumed):
        raise InputError(f"--resume {resumed} is kept in the same file; leave --checkpoint {checkpoint} away.")


def kept_by(context: typer.Context, options: Mapping[str, Any]) -> Kept:
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
    kept.callbacks[0].carry(extra={"options": known})
    return kept


@contextmanager
def warnings_said() -> Iterator[None]:
    """Warnings of a checkpoint (not written, or of other bits) and of lost workers of a cluster are lines on stderr."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message="(?s)(.*checkpoint|cluster: )", category=UserWarning)
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
        yield


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return name != "resume" and source is not None and source.name == "COMMANDLINE"


def _plain(name: str, value: Any) -> Any:
    """An option's value as JSON has it; a path as it is found from any folder."""
    if name in PATHS or isinstance(value, Path):
        return None if value is None else os.path.abspath(value)
    return list(value) if isinstance(value, tuple) else value
