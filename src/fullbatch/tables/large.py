"""A table in files that is larger than the memory it may take: it is learned from a store, or from the files in passes.

A store's order of rows gives other bits than the file's, so whether one is made follows from a figure of the table
alone: rows x columns x the bytes of a number. The memory that is free at the moment decides nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fullbatch.errors import InputError
from fullbatch.machine.safe_output import check_output, only_writer
from fullbatch.sources.stored import Store, open_store
from fullbatch.tables.fit import Settings
from fullbatch.tables.frames import paths_of
from fullbatch.tables.inputs import files_of
from fullbatch.tables.reading import read_names
from fullbatch.tables.sizes import rows_of
from fullbatch.tables.store import Tell, convert
from fullbatch.tables.straight import FileTable, reads_straight

IN_MEMORY = ("tmpfs", "ramfs")  # file systems that lie there


def figure_of(files: Collection[Path], columns: int, dtype: str, memory: float) -> int:
    """The figure of a table in files in bytes, where that is more than the memory; else 0.

    columns : how many are read
    """
    per_row = columns * (8 if dtype == "float64" else 4)
    rows = rows_of(files, int(memory // per_row)) if per_row else 0
    return rows * per_row if rows * per_row > memory else 0


def said_of_figure(figure: int, limit: str) -> str:
    """What decided, in words; ``limit`` is the memory and where it was given."""
    return f"the table has {figure:,} bytes as rows x columns x bytes of a number, more than {limit}"


@contextmanager
def straight(data: Any, target: str, options: dict[str, Any], tell: Tell | None) -> Iterator[Store]:
    """The table as its files lie, as long as a training lasts."""
    table = FileTable(data, target, **options, tell=tell)
    try:
        yield table
    finally:
        table.close()


@contextmanager
def made_store(
    data: Any, target: str, out: Path, options: dict[str, Any], *, keeps: bool, tell: Tell | None
) -> Iterator[Store]:
    """A store of the table, made now, as long as a training lasts, and removed unless it ``keeps`` it."""
    check_output(out, "the store")
    # Nobody else makes or reads it meanwhile, so what is there was left by a run that was killed.
    with only_writer(out.with_name(f"{out.name}.training"), "the store"):
        if not keeps:
            out.unlink(missing_ok=True)
        try:
            convert(data, out, target, **options, tell=tell)
            with open_store(out) as store:
                yield store
        finally:
            if not keeps:
                out.unlink(missing_ok=True)


def refuse_memory(path: Path, cure: str) -> None:
    """InputError where the path lies in memory, which the store is made to save."""
    kind = _file_system(Path(os.path.realpath(path)).parent)
    if kind in IN_MEMORY:
        raise InputError(
            f"the table is to be read from a store on the disk, and {path.parent} is in memory ({kind}); {cure}."
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


# --- What ``fit`` of the estimators does with paths -------------------------------------------------------------------


class Given(NamedTuple):
    """What ``fit`` was given beside the table."""

    y: Any = None
    target: str | None = None
    sample_weight: Any = None
    X_val: Any = None
    y_val: Any = None
    sample_weight_val: Any = None


class OfFiles(NamedTuple):
    """Paths of a table that is larger than the memory that it may take.

    figure : its bytes, as they are counted
    """

    paths: Sequence[str]
    figure: int
    settings: Settings

    @classmethod
    def of(cls, X: Any, drop: Collection[str], settings: Settings) -> OfFiles | None:
        """What X is, where it is that; None for a table that is in memory, or is to be."""
        paths = paths_of(X)
        if not paths:
            return None
        files = files_of(paths)
        if not all(path.is_file() for path in files):
            return None
        names = [name for name in read_names(paths) if name not in drop]
        figure = figure_of(files, len(names), settings.dtype, settings.memory)
        return cls(paths, figure, settings) if figure else None

    @property
    def decided_by(self) -> dict[str, float]:
        """The figures, as a model's record keeps them."""
        return {"bytes": self.figure, "memory": self.settings.memory}

    @property
    def reads_straight(self) -> bool:
        return reads_straight(self.settings)

    def said(self) -> str:
        """What is done with the table, and why."""
        why = said_of_figure(self.figure, f"memory={self.settings.memory:,.0f}")
        if self.reads_straight:
            return f"{why}: its files are read in each iteration, and no store is made."
        folder = tempfile.gettempdir()
        return f"{why}: a store is made in {folder} and removed at the end; its rows are in an order of its own."

    @contextmanager
    def store(self, given: Given, **options: Any) -> Iterator[Store]:
        """What is learned from, as long as a training lasts.

        options : of ``convert``, what the settings have not
        """
        target = self._target(given)
        of = self.settings
        options |= {
            "max_levels": of.max_levels, "dtype": of.dtype, "split_by": of.split_by, "group": of.group,
            "seed": of.random_state, "loss": of.loss, "log_target": of.log_target, "weight": given.sample_weight,
            "validation": of.validation if given.X_val is None else paths_of(given.X_val),
        }  # fmt: skip
        if self.reads_straight:
            with straight(list(self.paths), target, options, None) as table:
                yield table
            return
        with tempfile.TemporaryDirectory(prefix="fullbatch-") as folder:
            out = Path(folder) / "table.store"
            refuse_memory(out, "let TMPDIR be a folder on a disk, or give more memory= to have the table there")
            with made_store(list(self.paths), target, out, options, keeps=False, tell=None) as store:
                yield store

    def _target(self, given: Given) -> str:
        """The name of the target's column. InputError for what does not go with files that are read in pieces."""
        needs = {
            "y": (given.y is None, "target=, a column of the files by its name"),
            "sample_weight": (isinstance(given.sample_weight, str | None), "the name of a column of the files"),
            "X_val": (given.X_val is None or bool(paths_of(given.X_val)), "paths of files"),
            "y_val": (given.y_val is None, "the target as a column of X_val's files"),
            "sample_weight_val": (given.sample_weight_val is None, "the weights as a column of X_val's files"),
        }
        for name, (fits, instead) in needs.items():
            if not fits:
                limit = f"memory={self.settings.memory:,.0f}, so it is read in pieces"
                raise InputError(
                    f"{said_of_figure(self.figure, limit)}: instead of {name} give {instead}, or more memory=."
                )
        if given.target is None:
            raise InputError(f"the target is missing; give target=, a column of {self.paths[0]} by its name.")
        return given.target
