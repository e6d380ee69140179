"""A table that is larger than the memory it may take: ``train`` makes a store of it by itself, and learns from that.

A store's order of rows gives other bits than the file's, so whether one is made follows from a figure of the table
alone: rows x columns x the bytes of a number. The memory that is free at the moment decides nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fullbatch.command.convert import Progress
from fullbatch.command.printing import say
from fullbatch.command.selection import Selection
from fullbatch.errors import InputError, TableError

if TYPE_CHECKING:
    from fullbatch.sources.stored import Store

OF_THE_STORE = ("weight", "group", "split_by", "task", "loss", "log_target", "dtype", "max_levels", "validation")
USUAL = 2e9  # bytes of a table that are taken into memory
IN_MEMORY = ("tmpfs", "ramfs")  # file systems that lie there


def is_large(data: Path, names: Collection[str], dtype: str, memory: float) -> int:
    """The table's figure in bytes, where that is more than the memory; else 0.

    names : the columns that are read
    """
    from fullbatch.tables.inputs import files_of
    from fullbatch.tables.sizes import rows_of

    per_row = len(names) * (8 if dtype == "float64" else 4)
    rows = rows_of(files_of(str(data)), int(memory // per_row))
    return rows * per_row if rows * per_row > memory else 0


class Place(NamedTuple):
    """How much memory a table may take, the folder that keeps a store, the model's file; whether nothing is said."""

    memory: float
    folder: Path | None
    model: Path | None
    quiet: bool


class Made(NamedTuple):
    """A store that was made for a training, its target, and the figures that decided it."""

    store: Store
    target: str
    figures: dict[str, float]


def roles_of(asked: Mapping[str, Any]) -> dict[str, str]:
    """The columns with a part of their own, by their options."""
    names = ("weight", "group", "split_by")
    return {f"--{name.replace('_', '-')}": asked[name] for name in names if asked[name] is not None}


def made(
    context: Any,
    data: Path | None,
    target: str | None,
    selection: Selection,
    asked: Mapping[str, Any],
    place: Place,
    validation: Path | None,
) -> Made | None:
    """The store of a table that is larger than the memory; None for one that is not, and for what is a store.

    context : of the command, with whose end the store is closed, and removed unless a folder keeps it
    asked : the parameters of the training
    """
    from fullbatch.sources.store_file import is_store
    from fullbatch.tables.inputs import files_of
    from fullbatch.tables.reading import read_names

    if data is None or is_store(data) or not all(path.is_file() for path in files_of(str(data))):
        return None
    names = read_names(data)
    dropped, chosen = selection.dropped_and_chosen(names, target, roles_of(asked))
    figure = is_large(data, [name for name in chosen or names if name not in dropped], asked["dtype"], place.memory)
    if not figure:
        return None
    target = check_goes_with(validation, target, data)
    out = _path(data, place.folder, place.model)
    refuse_memory(out)
    if not place.quiet:
        told(figure, place.memory, out, keeps=place.folder is not None)
    options = {
        "columns": chosen or None,
        "drop": (*dropped, *selection.decides_alone(asked["split_by"], names)),
        "seed": asked["random_state"],
        **{name: asked[name] for name in OF_THE_STORE},
        **selection.kinds(names),
        **selection.conventions(),
    }
    store = context.with_resource(_store(data, target, out, options, place))
    return Made(store, target, {"bytes": figure, "memory": place.memory})


@contextmanager
def _store(data: Path, target: str, out: Path, options: dict[str, Any], place: Place) -> Iterator[Store]:
    """The store, made now, as long as a training lasts."""
    from fullbatch.machine.safe_output import check_output, only_writer
    from fullbatch.sources.stored import open_store
    from fullbatch.tables.store import convert

    check_output(out, "the store")
    # Nobody else makes or reads it meanwhile, so what is there was left by a run that was killed.
    with only_writer(out.with_name(f"{out.name}.training"), "the store"):
        if place.folder is None:
            out.unlink(missing_ok=True)
        try:
            convert([data], out, target, **options, tell=None if place.quiet else Progress())
            with open_store(out) as store:
                yield store
        finally:
            if place.folder is None:
                out.unlink(missing_ok=True)


def _path(data: Path, folder: Path | None, model: Path | None) -> Path:
    if folder is not None:
        if not folder.is_dir():
            raise InputError(f"--store {folder} is no folder; make it first (mkdir -p).")
        return folder / f"{_stem(data)}.store"
    beside = Path(os.path.realpath(model)) if model is not None else Path.cwd() / "fullbatch"
    return beside.with_name(f".{beside.name[:100]}.store")


def _stem(data: Path) -> str:
    name = data.name.replace("*", "").replace("?", "")
    return name.partition(".")[0] or data.parent.name or "table"


def refuse_memory(path: Path) -> None:
    """InputError where the path lies in memory, which the store is made to save."""
    kind = _file_system(Path(os.path.realpath(path)).parent)
    if kind in IN_MEMORY:
        raise InputError(
            f"the table is to be read from a store on the disk, and {path.parent} is in memory ({kind}); give a folder "
            "on a disk by --store, or more --memory to have the table there."
        )


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is in; "" where the system does not tell."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    mounts = {line.split()[1].encode().decode("unicode_escape"): line.split()[2] for line in lines}
    for one in (folder, *folder.parents):
        if str(one) in mounts:
            return mounts[str(one)]
    return ""


def told(figure: int, memory: float, out: Path, *, keeps: bool) -> None:
    """Say that a store is made, and why."""
    kept = "is kept" if keeps else "is removed at the end"
    say(
        f"the table has {figure:,} bytes as rows x columns x bytes of a number, more than the {memory:,.0f} of "
        f"--memory: a store is made, {out}, which {kept}; its rows are in an order of its own."
    )


def check_goes_with(validation: Path | None, target: str | None, data: Path) -> str:
    """The target. TableError where it is missing, InputError for held-out rows in another file."""
    if target is None:
        from fullbatch.tables.reading import read_names

        raise TableError(f"--target is missing; the columns of {data} are {', '.join(read_names(data))}.")
    if validation is not None:
        raise InputError(
            f"--validation {validation}: {data} is larger than --memory, and a store holds out rows of its own; give a "
            "share, or more --memory."
        )
    return target
