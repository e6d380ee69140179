"""A table that is larger than --memory: ``train`` makes a store of it, or reads its files in each iteration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fullbatch.command.convert import Progress
from fullbatch.command.printing import say
from fullbatch.command.selection import Selection
from fullbatch.errors import InputError, TableError

if TYPE_CHECKING:
    from fullbatch.sources.stored import Store

OF_THE_STORE = ("weight", "group", "split_by", "task", "loss", "log_target", "dtype", "max_levels", "validation")


class StoreTerms(NamedTuple):
    """How much memory a table may take, the folder that keeps a store, the model's file; whether nothing is said."""

    memory: float
    folder: Path | None
    model: Path | None
    quiet: bool


class Made(NamedTuple):
    """What a training learns from in the table's place, the target, and the figures that decided it."""

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
    terms: StoreTerms,
    validation: Path | None,
) -> Made | None:
    """A store of a table that is larger than the memory, or the files themselves; None for any other, and for a store.

    context : of the command, with whose end the store is closed, and removed unless a folder keeps it
    asked : the parameters of the training
    """
    from fullbatch.sources.store_file import is_store
    from fullbatch.tables.fit import Settings
    from fullbatch.tables.inputs import files_of
    from fullbatch.tables.large import figure_of, straight
    from fullbatch.tables.reading import read_names
    from fullbatch.tables.straight import reads_straight

    if data is None or is_store(data) or not all(path.is_file() for path in files_of(str(data))):
        _say_of_no_store(terms, "DATA is a store already" if data is not None and is_store(data) else "DATA is no file")
        return None
    names = read_names(data)
    dropped, chosen = selection.dropped_and_chosen(names, target, roles_of(asked))
    files, columns = files_of(str(data)), len([name for name in chosen or names if name not in dropped])
    figure = figure_of(files, columns, asked["dtype"], terms.memory)
    if not figure:
        _say_of_no_store(
            terms,
            f"the table is not larger than the {terms.memory:,.0f} bytes of --memory, so it is learned from in memory; "
            f"less --memory makes one, or `fullbatch convert {data}`",
        )
        return None
    target = _required(target, data)
    options = {
        "columns": chosen or None,
        "drop": (*dropped, *selection.decides_alone(asked["split_by"], names)),
        "seed": asked["random_state"],
        **{name: asked[name] for name in OF_THE_STORE},
        **({} if validation is None else {"validation": str(validation)}),
        **selection.kinds(names),
        **selection.conventions(),
    }
    settings = Settings(**{name: asked[name] for name in ("solver", "batch_size", "epochs")})
    if reads_straight(settings) and terms.folder is None:
        if not terms.quiet:
            _told(figure, terms, "its files are read in each iteration, and no store is made.")
        table = context.with_resource(straight([str(data)], target, options, None if terms.quiet else Progress()))
    else:
        table = context.with_resource(_store(data, target, figure, options, terms))
    return Made(table, target, {"bytes": figure, "memory": terms.memory})


def _store(data: Path, target: str, figure: int, options: dict[str, Any], terms: StoreTerms) -> Any:
    """The store, made as long as a training lasts, or kept in the folder that is asked for."""
    from fullbatch.tables.large import made_store, refuse_memory

    out, keeps = _path(data, terms.folder, terms.model), terms.folder is not None
    refuse_memory(out, "give a folder on a disk by --store, or more --memory to have the table there")
    if not terms.quiet:
        kept = "is kept" if keeps else "is removed at the end"
        _told(figure, terms, f"a store is made, {out}, which {kept}; its rows are in an order of its own.")
    return made_store([str(data)], target, out, options, keeps=keeps, tell=None if terms.quiet else Progress())


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


def _told(figure: int, terms: StoreTerms, what: str) -> None:
    """Say what is done with a large table, and why."""
    from fullbatch.tables.large import said_of_figure

    say(f"{said_of_figure(figure, f'the {terms.memory:,.0f} of --memory')}: {what}")


def _say_of_no_store(terms: StoreTerms, why: str) -> None:
    """Say that --store has nothing to keep, where it is given."""
    if terms.folder is not None:
        say(f"--store {terms.folder} keeps no store: {why}.")


def _required(target: str | None, data: Path) -> str:
    """The target. TableError where it is missing."""
    if target is None:
        from fullbatch.tables.reading import read_names

        raise TableError(f"--target is missing; the columns of {data} are {', '.join(read_names(data))}.")
    return target
