"""``fullbatch evaluate`` and ``fullbatch predict``: what a model says of a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fullbatch.command import options
from fullbatch.command.clicking import Command, file_path, flag, option, several
from fullbatch.command.cluster import check_workers, cluster_options, workers_at
from fullbatch.command.columns import rows_line
from fullbatch.command.keeping import warnings_said
from fullbatch.command.options import check_distinct, column_names
from fullbatch.command.printing import console, print_json, say, status
from fullbatch.command.standard_input import at_hand, called
from fullbatch.errors import InputError, TableError

if TYPE_CHECKING:
    from fullbatch.tables.in_pieces import TableInPieces
    from fullbatch.tables.kept import Kept
    from fullbatch.tables.network import TableNetwork


strict = flag("--strict", help="A level that training had not is an error.")


@click.command(cls=Command, epilog="Example: fullbatch evaluate late.fullbatch test.parquet")
@options.model_argument
@options.data_arguments
@options.weight
@options.metric
@options.as_json
@strict
@options.form
@cluster_options
def evaluate(
    model: Path,
    data: list[Path],
    weight: str | None,
    metric: str | None,
    as_json: bool,
    strict: bool,
    form: str | None,
    cluster: str | None,
    workers: int | None,
    wait: float,
) -> None:
    """Score a model on a table that has the target column; or on the held-out rows of a store."""
    from fullbatch.command.report import one_class_line, print_scores
    from fullbatch.tables.scores import check_metric

    loaded = load_table_model(model)
    metric = metric or loaded.record.get("parameters", {}).get("metric")
    if metric is not None:
        check_metric(metric, len(loaded.classes))
    shown = named(data)
    with status(f"scoring {shown}"), at_hand(data, form) as files, _who_reads(cluster, workers, wait) as who:
        scores = _scores(loaded, files, weight, metric, strict, who)
    if loaded.classes and (
        line := one_class_line(loaded.classes, scores["confusion_matrix"], scores["m"], loaded.threshold)
    ):
        say(line)
    if as_json:
        print_json(scores)
        return
    title = f"{loaded.encoding.target}: scores on {scores['m']:,} rows of {shown}"
    print_scores(console(sys.stdout), title, {"model": scores}, loaded.classes, weight)


@contextmanager
def _who_reads(cluster: str | None, workers: int | None, wait: float) -> Iterator[_Here]:
    """This process, or the workers of a cluster."""
    check_workers(cluster, workers)
    if cluster is None:
        yield _Here()
        return
    with warnings_said(), workers_at(cluster, workers, wait) as there:
        yield _There(there)


class _Here:
    """Rows that this process reads."""

    def rows(self, model: TableNetwork, data: Sequence[Path], **more: Any) -> TableInPieces:
        from fullbatch.tables.in_pieces import TableInPieces

        return TableInPieces(model, data, **more)

    def of_store(self, model: TableNetwork, store: Any, metric: str | None) -> dict[str, Any]:
        from fullbatch.tables import from_store

        return from_store.evaluate(model, store, metric)


class _There(_Here):
    """Rows that the workers of a cluster read."""

    def __init__(self, workers: Any) -> None:
        self.workers = workers

    def rows(self, model: TableNetwork, data: Sequence[Path], **more: Any) -> TableInPieces:
        from fullbatch.dask.scoring import RowsOnCluster

        return RowsOnCluster(model, data, self.workers, **more)

    def of_store(self, model: TableNetwork, store: Any, metric: str | None) -> dict[str, Any]:
        from fullbatch.dask.scoring import evaluate_store

        return evaluate_store(model, store, self.workers, metric)


def _scores(
    model: TableNetwork, data: Sequence[Path], weight: str | None, metric: str | None, strict: bool, who: _Here
) -> dict[str, Any]:
    from fullbatch.sources.store_file import is_store
    from fullbatch.sources.stored import open_store

    if len(data) == 1 and is_store(data[0]):
        if weight is not None:
            raise InputError(f"--weight was decided when the store {data[0]} was made.")
        with open_store(data[0]) as store:
            scores = who.of_store(model, store, metric)
            say(f"{store.held_out.m:,} held-out rows of the store are scored, and not the {store.train.m:,} others.")
            return scores
    with who.rows(model, data, scored=True, weight=weight) as rows:
        scores = rows.evaluate(metric)
        _tell_unknown(model, data, rows.names)
        _tell_of_rows(rows, strict)
    return scores


@click.command(cls=Command, epilog="Example: fullbatch predict late.fullbatch new.csv --out predictions.csv")
@options.model_argument
@options.data_arguments
@option(
    "--out",
    metavar="FILE",
    type=file_path,
    help="Write .csv, .csv.gz or .parquet.",
    show_default="CSV on standard output",
)
@several("--keep", metavar="A,B", help="Columns of DATA that are written too, as they are.")
@strict
@options.form
@cluster_options
def predict(
    model: Path,
    data: list[Path],
    out: Path | None,
    keep: list[str] | None,
    strict: bool,
    form: str | None,
    cluster: str | None,
    workers: int | None,
    wait: float,
) -> None:
    """Predict each row of a table: a column `prediction`, and `probability_<class>` for each class."""
    from fullbatch.machine.safe_output import check_output, replacing
    from fullbatch.tables.predictions import ENDINGS, ending_of, write_predictions

    if out is not None:
        if ending_of(out.name) is None:
            raise InputError(f"--out {out}: unknown ending; the known ones are {', '.join(ENDINGS)}.")
        check_distinct({"MODEL": model, **{f"DATA {path}": path for path in data}}, {"--out": out})
        check_output(out, "the predictions")
    loaded = load_table_model(model)
    with (
        status(f"predicting {named(data)}"),
        at_hand(data, form) as files,
        _who_reads(cluster, workers, wait) as who,
        who.rows(loaded, files) as rows,
    ):
        kept = _kept(loaded, files, keep) if keep else None
        used = [*rows.names, *(kept.names if kept else ())]
        if out is None:
            rows.check()  # so that an error leaves no half of a table on standard output
            _tell_of_rows(rows, strict)
            _tell_unknown(loaded, files, used)
            write_predictions(loaded, rows, sys.stdout.buffer, kept=kept)
            return
        with replacing(out, "the predictions") as file:
            write_predictions(loaded, rows, file, ending_of(out.name) or ".csv", kept)
            _tell_of_rows(rows, strict)
        _tell_unknown(loaded, files, used)
    say(f"{rows.m:,} predictions are in {out}.")


def _kept(model: TableNetwork, data: Sequence[Path], keep: Sequence[str]) -> Kept:
    """The columns of --keep. InputError for a name that the predictions have themselves."""
    from fullbatch.tables.kept import Kept
    from fullbatch.tables.predictions import names_of
    from fullbatch.tables.raw import Conventions
    from fullbatch.tables.reading import read_names

    names = column_names(keep, read_names(data))
    if both := sorted({*names} & {*names_of(model)}):
        raise InputError(f"--keep {both[0]}: the predictions have a column of this name; rename that of {named(data)}.")
    return Kept(data, names, Conventions.of(model.encoding).missing)


def load_table_model(path: Path) -> TableNetwork:
    """The network of a table in a file. ModelFileError where it holds another kind of model."""
    from fullbatch.saving.model_file import load_network

    return load_network(path)


def named(data: Sequence[Path]) -> str:
    """The files as a line has them."""
    return called(data[0]) if len(data) == 1 else f"{data[0]} and {len(data) - 1} more"


def _tell_unknown(model: TableNetwork, data: Sequence[Path], used: Sequence[str]) -> None:
    """Say which columns the model has no use for."""
    from fullbatch.tables.fit import said_of_columns

    if others := [name for name in model.unused(list(data)) if name not in used]:
        say(f"{said_of_columns(others)}.")


def _tell_of_rows(rows: TableInPieces, strict: bool) -> None:
    """Say how many rows cannot be scored, and which columns have levels that training had not, or refuse these."""
    if rows.scored and (line := rows_line({"without_target": rows.gaps, "weight_0": rows.nothing}, rows.m)):
        say(line)
    for name, (count, first) in rows.unseen.items():
        percent = f"{100 * count / rows.m:.3g} %"
        what = f"column {name!r}: {percent} of the rows have a level that training had not, the first of them {first!r}"
        if strict:
            raise TableError(f"{what}; correct it, or leave --strict away to predict as if it had none.")
        say(f"warning: {what}.")
