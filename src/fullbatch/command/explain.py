"""``fullbatch explain``: what a model makes of its columns, as a page, plots and tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fullbatch.command import options
from fullbatch.command.clicking import Command, file_path, option
from fullbatch.command.printing import console, say, status

if TYPE_CHECKING:
    from fullbatch.explaining.explanation import Importance


@click.command(cls=Command, epilog="Example: fullbatch explain late.fullbatch test.parquet --out explained")
@options.model_argument
@options.data_arguments
@option(
    "--out", metavar="FOLDER", type=file_path, required=True, help="Write a page, plots (PNG) and tables (CSV) here."
)
@options.metric
@options.weight
@option(
    "--rows",
    metavar="N",
    type=click.IntRange(min=2),
    help="Permute so many rows, drawn at random.",
    show_default="at most 10,000",
)
@option("--repeats", metavar="N", type=click.IntRange(min=1), default=5, help="Permute each column so often.")
@option(
    "--columns",
    metavar="N",
    type=click.IntRange(min=1),
    default=6,
    help="Show the dependence on so many leading columns.",
)
@option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    help="Of the rows that are drawn and of the permutations.",
)
def explain(
    model: Path,
    data: list[Path],
    out: Path,
    metric: str | None,
    weight: str | None,
    rows: int | None,
    repeats: int,
    columns: int,
    seed: int,
) -> None:
    """Show what a model makes of its columns, on rows that it did not learn from, and where it is wrong."""
    from fullbatch.command.use import load_table_model, named
    from fullbatch.explaining import explanation

    explanation.packages()
    explanation.check_folder(out)
    loaded = load_table_model(model)
    with status(f"explaining {model} on {named(data)}"):
        found = explanation.explain(
            loaded, [str(path) for path in data], sample_weight=weight, metric=metric, rows=rows, repeats=repeats,
            columns=columns, random_state=seed,
        )  # fmt: skip
        page = found.save(out)
    for note in found.notes:
        say(note)
    if found.importance is not None:
        _print(found.importance, found.worsening)
    say(f"the page is {page}.")


def _print(importance: Sequence[Importance], worsening: str) -> None:
    """A line for each column, the leading one first."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("column", style="bold")
    table.add_column(Text(f"{worsening} by"), justify="right")
    table.add_column("spread", justify="right", style="dim")
    for one in importance:
        table.add_row(Text(one.column), f"{one.mean:.5f}", f"{one.spread:.5f}")
    console(sys.stdout).print(table)
