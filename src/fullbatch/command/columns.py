"""``fullbatch columns``: how a table is understood, without training. And the report's print, which others show too."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fullbatch.command import options
from fullbatch.command.clicking import Command, option
from fullbatch.command.options import DATA
from fullbatch.command.printing import console, plural, print_json, say
from fullbatch.command.selection import Selection, refuse_options, table_or_store
from fullbatch.command.standard_input import at_hand, called

if TYPE_CHECKING:
    from rich.console import Console


MOST_CLASSES_SHOWN = 8
KINDS = ("number", "category", "boolean", "date", "left out")
PLURALS = {
    "number": "numbers",
    "category": "categories",
    "boolean": "booleans",
    "date": "dates",
    "left out": "left out",
}


@click.command(cls=Command, epilog="Example: fullbatch columns flights.parquet --target late")
@options.data_argument
@option("--target", metavar="COLUMN", help="The column to predict.", panel=DATA)
@options.task
@options.categorical
@options.numeric
@options.drop
@options.only_columns
@options.missing
@options.keep_missing_words
@options.decimal
@options.date_format
@options.form
@options.as_json
def columns(
    data: Path,
    target: str | None,
    task: str | None,
    categorical: list[str] | None,
    numeric: list[str] | None,
    drop: list[str] | None,
    only: list[str] | None,
    missing: list[str] | None,
    keep_missing_words: bool,
    decimal: str,
    date_format: list[str] | None,
    form: str | None,
    as_json: bool,
) -> None:
    """Show how the columns of a table are understood, and what is doubtful about them, without training."""
    from fullbatch.tables.raw import RawTable
    from fullbatch.tables.report import report

    selection = Selection(drop, only, missing, keep_missing_words, decimal, date_format, categorical, numeric)
    with at_hand([data], form) as (source,):
        table = table_or_store(source, target, selection)
    if not isinstance(table, RawTable):
        from fullbatch.tables.from_store import report_of

        refuse_options({"--task": task}, data)
        _show(report_of(table), as_json, f"{data}, of those to learn from")
        return
    found = report(table, target, task=task, **selection.kinds(table.names)).to_dict()
    _show(found, as_json, called(data))
    if as_json:
        return
    gaps = next((column["missing"] for column in found["columns"] if column["kind"] == "target"), 0)
    for line in [*filter(None, [rows_line({"without_target": gaps}, table.m)]), *doubt_lines(found)]:
        say(line)


def _show(found: dict[str, Any], as_json: bool, name: str) -> None:
    if as_json:
        print_json(found)
    else:
        print_columns(console(sys.stdout), found, name)


# --- How the report is printed ------------------------------------------------------------------------------


def print_columns(out: Console, found: Mapping[str, Any], name: str) -> None:
    """The whole report, as ``TableReport.to_dict`` has it, in a table that 80 columns are enough for."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))

    # A column is a line, also on a narrow terminal: what is cut there are the examples, and names of great length.
    longest = max(len(column["name"]) for column in found["columns"])
    widest = max(len(column["values"]) for column in found["columns"])
    table.add_column("column", style="bold", no_wrap=True, min_width=min(longest, 20), max_width=40)
    table.add_column("kind", no_wrap=True, min_width=8)
    table.add_column("levels or range", no_wrap=True, min_width=min(widest, 24))
    table.add_column("missing", justify="right", no_wrap=True, min_width=7)
    # Not the column but its texts are kept on one line: of columns that may not wrap, rich would narrow all alike.
    table.add_column("why, and examples", style="dim")
    for column in found["columns"]:
        share = column["missing"] / found["rows"] if found["rows"] else 0.0
        examples = ", ".join(column["examples"])
        table.add_row(
            Text(column["name"] or "''"), column["kind"], Text(column["values"]), _share(share) if share else "",
            Text(f"{column['why']}: {examples}" if examples else column["why"], no_wrap=True, overflow="ellipsis"),
        )  # fmt: skip
    out.print(Text(f"{plural(found['rows'], 'row')} of {name}", style="bold"))
    out.print(table)
    for line in target_lines(found):
        out.print(Text(line))


def doubt_lines(found: Mapping[str, Any]) -> list[str]:
    """A line for each doubt."""
    return [f"warning: column {doubt['column']!r}: {doubt['what']}; {doubt['cure']}." for doubt in found["doubts"]]


def rows_line(left_out: Mapping[str, int], m: int) -> str:
    """What is said of the rows that cannot be learned from; "" where there are none."""
    from fullbatch.tables.fit import said_of_rows

    text = said_of_rows(left_out, m)
    return f"{text}; they are left out." if text else ""


def short_lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How many columns of each kind there are, with their names where these are few; then the task."""
    kinds = Counter(column["kind"] for column in found["columns"])
    text = ", ".join(f"{kinds[kind]} {kind if kinds[kind] == 1 else PLURALS[kind]}" for kind in KINDS if kinds[kind])
    missing = sum(column["missing"] > 0 for column in found["columns"])
    if missing:
        text += f"; {missing} with missing values"
    lines = [("columns", text)]
    if found["target"]:
        first, *rest = target_lines(found)
        lines.append(("task", first.partition(": ")[2]))
        lines += [("", line) for line in rest]
    return lines


def target_lines(found: Mapping[str, Any]) -> list[str]:
    """What is predicted, the classes and their rows, and how to have another task."""
    target = found["target"]
    if not target:
        return []
    task = "classification" if target["task"] == "classify" else "regression"
    lines = [f"target {target['name']}: {task}, because {target['why']}".replace("because by", "by")]
    if classes := target["classes"]:
        rows = sum(count for _, count in classes)
        most = classes if len(classes) <= MOST_CLASSES_SHOWN else sorted(classes, key=lambda pair: -pair[1])
        shown = ", ".join(f"{_plain(label)} {_share(count / rows)}" for label, count in most[:MOST_CLASSES_SHOWN])
        more = len(classes) - MOST_CLASSES_SHOWN
        lines.append(f"{len(classes)} classes: {shown}" + (f" and {more} more" if more > 0 else ""))
    if target["overrule"]:
        lines.append(f"{target['overrule']}.")
    return lines


def _share(share: float) -> str:
    if share in (0.0, 1.0):
        return f"{100 * share:.0f} %"
    return f"{100 * share:.1f} %" if 0.001 <= share <= 0.999 else "< 0.1 %" if share < 0.5 else "> 99.9 %"


def _plain(label: Any) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)
