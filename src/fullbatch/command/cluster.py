"""``train --cluster``: a store whose rows the workers of a cluster read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fullbatch.command.options import MACHINE
from fullbatch.errors import InputError

WAIT = 60.0
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Train on the workers of a Dask scheduler, as tcp://host:8786; local starts some here.",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Workers of --cluster local, as 4.", show_default="one a core", rich_help_panel=MACHINE
    ),
]
Wait = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=0.0, help="For a worker of a cluster that has none.", rich_help_panel=MACHINE),
]


@contextmanager
def rows_on(address: str | None, table: Any, data: Path | None, workers: int | None, wait: float) -> Iterator[Any]:
    """The table as it is, or, where a cluster has an address, the store that its workers read.

    Raises InputError for a table that is no store, and for --workers without --cluster local.
    """
    if workers is not None and address != "local":
        raise InputError("--workers is of --cluster local; another cluster has the workers that it has.")
    if address is None:
        yield table
        return
    from fullbatch.sources.stored import Store

    if not isinstance(table, Store):
        made = f"`fullbatch convert {data or 'DATA'} --target COLUMN --out STORE` makes one"
        raise InputError(f"--cluster learns from a store; {made}.")
    from fullbatch.dask.connection import connected
    from fullbatch.dask.store import ClusterStore

    with connected(address, workers=workers, wait=wait) as there, ClusterStore(table.path, there) as store:
        yield store
