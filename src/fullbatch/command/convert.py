"""``fullbatch convert``: a table in, a store out, from which one trains without the table in memory."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from fullbatch.command import options
from fullbatch.command.clicking import Command, argument, file_path, option
from fullbatch.command.options import (
    DATA,
    DEFAULT,
    DTYPES,
    OUTPUT,
    check_distinct,
    one_of,
    share_or_file,
)
from fullbatch.command.printing import amount, console, plural, print_json, say
from fullbatch.command.selection import Selection
from fullbatch.command.signals import ENDING, stopping_with
from fullbatch.command.standard_input import at_hand

EVERY = 5.0  # seconds between two lines of progress where no terminal is


@click.command(cls=Command, epilog="Example: fullbatch convert flights.parquet --target late --out late.store")
@argument(
    "data",
    metavar="DATA...",
    nargs=-1,
    type=file_path,
    required=True,
    check=list,
    help="One or more files of one table, a folder, 'PATTERN' or URL: .csv, .csv.gz, .parquet, .arrow; "
    "or -, standard input.",
)
@option("--target", metavar="COLUMN", required=True, help="The column to predict.", panel=DATA)
@option(
    "--out",
    metavar="STORE",
    type=file_path,
    required=True,
    help="Write the store to this file, as late.store.",
    panel=OUTPUT,
)
@options.task
@options.validation
@options.form
@option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    help="Of the order of the rows and of what is held out.",
    panel=OUTPUT,
)
@option(
    "--dtype", metavar="NAME", default=DEFAULT.dtype, check=one_of(DTYPES), help=f"{' or '.join(DTYPES)}.", panel=OUTPUT
)
@options.max_levels
@options.categorical
@options.numeric
@options.weight
@options.split_by
@options.group
@options.loss_of_numbers
@options.log_target
@options.drop
@options.only_columns
@options.missing
@options.keep_missing_words
@options.decimal
@options.date_format
@options.as_json
@options.quiet
def convert(
    data: list[Path],
    target: str,
    out: Path,
    task: str | None,
    validation: str,
    form: str | None,
    seed: int,
    dtype: str,
    max_levels: int,
    categorical: list[str] | None,
    numeric: list[str] | None,
    weight: str | None,
    split_by: str | None,
    group: str | None,
    loss: str | None,
    log_target: bool,
    drop: list[str] | None,
    only: list[str] | None,
    missing: list[str] | None,
    keep_missing_words: bool,
    decimal: str,
    date_format: list[str] | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a table as a store: encoded, its rows in random order, to train from without having it in memory."""
    held_out = share_or_file(validation)
    own = {"--validation": held_out} if isinstance(held_out, Path) else {}
    check_distinct({f"DATA {path}": path for path in data} | own, {"--out": out})
    selection = Selection(drop, only, missing, keep_missing_words, decimal, date_format, categorical, numeric)
    asked = {
        "task": task or ("regress" if loss or log_target else None),  # as for train
        "max_levels": max_levels, "dtype": dtype, "weight": weight, "split_by": split_by, "group": group, "seed": seed,
        "validation": str(held_out) if own else held_out, "loss": loss or DEFAULT.loss, "log_target": log_target,
    }  # fmt: skip
    started = time.perf_counter()
    with at_hand(data, form) as paths, stopping_with(KeyboardInterrupt, *ENDING) as signals:
        try:  # so that whatever ends it leaves nothing behind
            content = _write(paths, out, target, selection, asked, quiet=quiet)
        except KeyboardInterrupt:
            say("interrupted; nothing of the store is kept.")
            raise click.exceptions.Exit(128 + signals.received) from None
    seconds = time.perf_counter() - started
    if as_json:
        print_json({**summary(content), "store": str(out), "bytes": out.stat().st_size, "seconds": seconds})
    elif not quiet:
        _print(content, out, seconds)


def _write(
    paths: list[Path], out: Path, target: str, selection: Selection, asked: dict[str, Any], *, quiet: bool
) -> dict[str, Any]:
    """What the store says of itself, which is written."""
    from fullbatch.tables.reading import read_names
    from fullbatch.tables.store import Planned
    from fullbatch.tables.store import convert as write_store

    conventions, names = selection.conventions(), read_names([str(path) for path in paths])
    used = {f"--{name.replace('_', '-')}": asked[name] for name in ("weight", "group", "split_by")}
    dropped, chosen = selection.dropped_and_chosen(
        names, target, {option: column for option, column in used.items() if column is not None}
    )

    def planned(plan: Planned) -> None:
        say(
            f"{plan.rows:,} rows to learn from, {plan.held_out:,} held out; {amount(plan.bytes)} to write, "
            f"{amount(plan.free)} free."
        )

    return write_store(
        paths, out, target, **asked, columns=chosen or None,
        drop=(*dropped, *selection.decides_alone(asked["split_by"], names)), **selection.kinds(names), **conventions,
        planned=None if quiet else planned, tell=None if quiet else Progress(),
    )  # fmt: skip


class Progress:
    """How far a conversion is, with its rate and the time that is left, on stderr."""

    def __init__(self) -> None:
        self.phase, self.begun, self.said = "", 0.0, 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        now = time.perf_counter()
        if phase != self.phase:
            self.phase, self.begun, self.said = phase, now, now
        if now - self.said < EVERY:
            return
        self.said = now
        rate = done / (now - self.begun)
        left = f" of {total:,}, {(total - done) / rate:,.0f} s left" if total else ""
        say(f"{phase}: {done:,} rows{left}, {rate:,.0f} rows/s.")


def summary(content: dict[str, Any]) -> dict[str, Any]:
    """What there is to say about a store, as its JSON has it."""
    encoding = content["encoding"]
    return {
        "target": encoding["target"],
        "task": encoding["task"],
        "classes": encoding["classes"],
        "n": content["features"],
        "dtype": encoding["dtype"],
        **{name: content.get(name) for name in ("weight", "held_out_by", "loss", "log_target")},
        **{name: content[name] for name in ("rows", "leaf", "window", "seed", "validation", "left_out", "columns")},
        "fullbatch": content["fullbatch"],
    }


def facts_of(content: dict[str, Any]) -> list[tuple[str, str]]:
    """The same as lines."""
    found = summary(content)
    rows, window = found["rows"], found["window"]
    left_out = {name: count for name, count in found["left_out"].items() if count}
    return [
        ("rows", f"{rows['train']:,} to learn from, {rows['held_out']:,} held out"),
        *([("left out", ", ".join(f"{name}: {count:,}" for name, count in left_out.items()))] if left_out else []),
        ("features", f"{found['n']:,} of {found['dtype']}"),
        ("target", f"{found['target']}, to {found['task']}"),
        ("leaves", f"of {plural(found['leaf'], 'row')}; {window} of them are mixed with one another"),
        ("seed", str(found["seed"])),
    ]


def _print(content: dict[str, Any], out: Path, seconds: float) -> None:
    from fullbatch.command.report import facts
    from fullbatch.command.report import seconds as shown

    written = ("store", f"{out}, {amount(out.stat().st_size)} in {shown(seconds)}")
    console(sys.stdout).print(facts([*facts_of(content), written, ("next", f"fullbatch train {out}")]))
