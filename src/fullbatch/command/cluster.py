"""``--cluster``: a table or a store whose rows the workers of a cluster read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from fullbatch.command.clicking import option
from fullbatch.command.options import MACHINE, not_negative
from fullbatch.command.selection import Selection
from fullbatch.errors import InputError, TableError

OPTIONS = (
    option(
        "--cluster",
        metavar="ADDRESS",
        help="Have the workers of a Dask scheduler do it, as tcp://host:8786; local starts some here.",
        panel=MACHINE,
    ),
    option(
        "--workers",
        metavar="N",
        type=click.IntRange(min=1),
        help="Workers of --cluster local, as 4.",
        show_default="one a core",
        panel=MACHINE,
    ),
    option(
        "--wait",
        metavar="SECONDS",
        type=float,
        default=60.0,
        check=not_negative,
        help="For a worker of a cluster that has none.",
        panel=MACHINE,
    ),
)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--cluster`` and its kin, in their order."""
    for one in reversed(OPTIONS):
        command = one(command)
    return command


@contextmanager
def workers_at(address: str, workers: int | None, wait: float) -> Iterator[Any]:
    """The workers of the scheduler at an address, or some that are started here and ended."""
    from fullbatch.dask.connection import connected

    with connected(address, workers=workers, wait=wait) as there:
        yield there


def check_workers(address: str | None, workers: int | None) -> None:
    """InputError for --workers without --cluster local."""
    if workers is not None and address != "local":
        raise InputError("--workers is of --cluster local; another cluster has the workers that it has.")


class AtCluster(NamedTuple):
    """The cluster that was typed: where it is, how many workers are started here, how long one is waited for."""

    address: str
    workers: int | None
    wait: float


def at_cluster(address: str | None, workers: int | None, wait: float, validation: Path | None) -> AtCluster | None:
    """The cluster that was typed; None: there is none. InputError for held-out rows in a file of their own."""
    check_workers(address, workers)
    if address is None:
        return None
    if validation is not None:
        raise InputError(f"--validation {validation}: on a cluster a share of the table is held out; give a share.")
    return AtCluster(address, workers, wait)


def table_on(
    context: Any, at: AtCluster, data: Path | None, target: str | None, selection: Selection, asked: Mapping[str, Any]
) -> tuple[Any, str]:
    """DATA, a store or files, as the workers of a cluster read it, until the command ends; and its target.

    context : of the command;  asked : the parameters of the training
    """
    from fullbatch.command.large import roles_of
    from fullbatch.command.selection import table_or_store
    from fullbatch.dask.store import ClusterStore
    from fullbatch.sources.store_file import is_store

    if data is None:
        raise InputError("--cluster needs DATA, a store or Parquet files that all workers see.")
    wanted = None
    if is_store(data):
        table_or_store(data, target, selection, roles_of(asked)).close()  # type: ignore[union-attr]  # what is refused
    else:
        wanted = _wanted(data, target, selection, asked)
    there = context.with_resource(workers_at(*at))
    if wanted is None:
        store = context.with_resource(ClusterStore(data, there))
        return store, store.target
    from fullbatch.command.keeping import warnings_said
    from fullbatch.dask.tables import ClusterTable

    with warnings_said():
        table = ClusterTable.of_files(str(data), wanted, there)
    return table, table.target


def _wanted(data: Path, target: str | None, selection: Selection, asked: Mapping[str, Any]) -> Any:
    """What is asked of files: as ``large.made`` has it."""
    from fullbatch.command.large import roles_of
    from fullbatch.dask.tables import Wanted
    from fullbatch.tables.dates import DateFormats
    from fullbatch.tables.raw import Conventions
    from fullbatch.tables.reading import read_names

    names = read_names(data)
    if target is None:
        raise TableError(f"--target is missing; the columns of {data} are {', '.join(names)}.")
    dropped, chosen = selection.dropped_and_chosen(names, target, roles_of(asked))
    texts = selection.conventions()
    conventions = Conventions(texts["missing"], texts["decimal"], DateFormats.of(texts["date_format"]))
    own = ("weight", "group", "split_by", "task", "loss", "log_target", "dtype", "max_levels", "validation")
    return Wanted(
        target, seed=asked["random_state"], columns=chosen or None, conventions=conventions,
        drop=(*dropped, *selection.decides_alone(asked["split_by"], names)), **selection.kinds(names),
        **{name: asked[name] for name in own},
    )  # fmt: skip
