"""``fullbatch columns``: how a table is understood, without training. And the report's print, which others show too."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fullbatch.command.options import (
    TASKS,
    AsJson,
    Categorical,
    DataArgument,
    DateFormat,
    Decimal,
    Drop,
    KeepMissingWords,
    Missing,
    Numeric,
    OnlyColumns,
    column_names,
    date_formats,
    one_of,
)
from fullbatch.command.printing import console, plural, print_json, say, status
from fullbatch.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from fullbatch.sources.stored import Store
    from fullbatch.tables.raw import RawTable

MOST_CLASSES_SHOWN = 8
KINDS = ("number", "category", "boolean", "date", "left out")
PLURALS = {
    "number": "numbers",
    "category": "categories",
    "boolean": "booleans",
    "date": "dates",
    "left out": "left out",
}


def columns(
    data: DataArgument,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column to predict.", show_default=False)
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="classify or regress.", callback=one_of(TASKS), show_default="by the target column"
        ),
    ] = None,
    categorical: Categorical = None,
    numeric: Numeric = None,
    drop: Drop = None,
    only: OnlyColumns = None,
    missing: Missing = None,
    keep_missing_words: KeepMissingWords = False,
    decimal: Decimal = ".",
    date_format: DateFormat = None,
    as_json: AsJson = False,
) -> None:
    """Show how the columns of a table are understood, and what is doubtful about them, without training."""
    from fullbatch.sources.stored import Store
    from fullbatch.tables.from_store import report_of
    from fullbatch.tables.report import report

    table = table_or_store(
        data, target, drop, only, missing, keep_missing_words, decimal, date_format, categorical, numeric
    )
    if isinstance(table, Store):
        refuse_options({"--task": task}, data)
        _show(report_of(table), as_json, f"{data}, of those to learn from")
        return
    found = report(
        table, target, task=task, categorical=column_names(categorical or (), table.names),
        numeric=column_names(numeric or (), table.names),
    ).to_dict()  # fmt: skip
    _show(found, as_json, str(data))
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


def table_or_store(
    data: Path,
    target: str | None,
    drop: Sequence[str] | None,
    only: Sequence[str] | None,
    missing: Sequence[str] | None,
    keep_missing_words: bool,
    decimal: str,
    date_format: Sequence[str] | None,
    categorical: Sequence[str] | None,
    numeric: Sequence[str] | None,
    used: Mapping[str, str] | None = None,
) -> RawTable | Store:
    """``read_selected``, or the store that DATA is, in which columns were selected when it was made."""
    from fullbatch.sources.stored import is_store, open_store

    if not is_store(data):
        return read_selected(
            data, target, drop, only, missing, keep_missing_words, decimal, date_format, categorical, numeric, used
        )
    asked = {
        "--drop": drop, "--columns": only, "--missing": missing, "--keep-missing-words": keep_missing_words,
        "--decimal": decimal != ".", "--date-format": date_format, "--categorical": categorical, "--numeric": numeric,
        **(used or {}),
    }  # fmt: skip
    refuse_options(asked, data)
    store = open_store(data)
    if target not in (None, store.target):
        raise InputError(
            f"the target of the store {data} is {store.target!r}, and not {target!r}; convert for that one."
        )
    return store


def refuse_options(asked: Mapping[str, Any], store: Path) -> None:
    """InputError for an option that is given, where a store has decided."""
    for name, value in asked.items():
        if value:
            raise InputError(f"{name} was decided when the store {store} was made; convert the table anew for another.")


def read_selected(
    data: Path,
    target: str | None,
    drop: Sequence[str] | None,
    only: Sequence[str] | None,
    missing: Sequence[str] | None,
    keep_missing_words: bool,
    decimal: str = ".",
    date_format: Sequence[str] | None = None,
    categorical: Sequence[str] | None = None,
    numeric: Sequence[str] | None = None,
    used: Mapping[str, str] | None = None,
) -> RawTable:
    """The table as options select its columns; its ``left_out`` says why the others are left out.

    used : columns that options name for a part of their own, by the option; they are read, and --drop may not have
        them, but for that of --split-by: it decides, and need not be learned from
    """
    from fullbatch.tables.dates import DateFormats
    from fullbatch.tables.raw import MissingWords
    from fullbatch.tables.reading import read_names, read_table

    words = MissingWords.of(column_names(missing or (), ()), keep=keep_missing_words)
    named, anywhere = date_formats(date_format or ())
    check_formats(named, {"--categorical": categorical, "--numeric": numeric, "--drop": drop})
    read = partial(read_table, missing=words, decimal=decimal, date_format=DateFormats(named, anywhere=anywhere))
    used = used or {}
    keep = [*([] if target is None else [target]), *used.values()]
    with status(f"reading {data}"):
        if not drop and not only:
            return read(data, keep=keep)
        names = read_names(data)
        dropped, chosen = column_names(drop or (), names), column_names(only or (), names)
        if target is not None and target in dropped:
            raise InputError(f"{target!r} is the target, and --drop leaves it out; choose one.")
        for option, name in used.items():
            if name in dropped and option != "--split-by":
                raise InputError(f"column {name!r} is in {option} and in --drop; choose one.")
        dropped = tuple(name for name in dropped if name not in keep)
        if both := sorted(set(dropped) & set(chosen)):
            raise InputError(f"column {both[0]!r} is in --columns and in --drop; choose one.")
        if not only:
            return read(data, keep=keep, drop=dropped)
        table = read(data, columns=[*chosen, *keep])
        return replace(table, left_out={name: "not in --columns" for name in names if name not in table.columns})


def check_formats(named: Mapping[str, str], others: Mapping[str, Sequence[str] | None]) -> None:
    """InputError where a column has a date format and another option that says what it is, or that it is left out."""
    for option, values in others.items():
        for name in column_names(values or (), tuple(named)):
            if name in named:
                raise InputError(f"column {name!r} is in --date-format and in {option}; choose one.")


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
    table.add_column("why, and examples", style="dim", no_wrap=True, overflow="ellipsis")
    for column in found["columns"]:
        share = column["missing"] / found["rows"] if found["rows"] else 0.0
        examples = ", ".join(column["examples"])
        table.add_row(
            Text(column["name"] or "''"), column["kind"], Text(column["values"]), _share(share) if share else "",
            Text(f"{column['why']}: {examples}" if examples else column["why"]),
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
