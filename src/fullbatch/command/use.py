"""``fullbatch evaluate`` and ``fullbatch predict``: what a model says of a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullbatch.command.columns import rows_line
from fullbatch.command.options import AsJson, DataArgument, Metric, ModelArgument, Weight, check_distinct, column_names
from fullbatch.command.printing import console, print_json, say, status
from fullbatch.errors import InputError, TableError

if TYPE_CHECKING:
    import numpy as np

    from fullbatch.tables.kept import Kept
    from fullbatch.tables.network import TableNetwork
    from fullbatch.tables.raw import RawTable


Strict = Annotated[bool, typer.Option("--strict", help="A level that training had not is an error.")]


def evaluate(
    model: ModelArgument,
    data: DataArgument,
    weight: Weight = None,
    metric: Metric = None,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Score a model on a table that has the target column."""
    from fullbatch.command.report import one_class_line, print_scores
    from fullbatch.tables.roles import weights_of
    from fullbatch.tables.scores import check_metric

    loaded = load_table_model(model)
    metric = metric or loaded.record.get("parameters", {}).get("metric")
    if metric is not None:
        check_metric(metric, len(loaded.classes))
    with status(f"scoring {data}"):
        table = loaded.read(data, with_target=True, more=[weight] if weight else [])
        weights = weights_of(table, weight, loaded.encoding.dtype) if weight else None
        _tell_left_out(loaded, table, data, weights)
        _tell_unseen(loaded, table, strict)
        scores = loaded.evaluate(table, weights, metric)
    if loaded.classes and (
        line := one_class_line(loaded.classes, scores["confusion_matrix"], scores["m"], loaded.threshold)
    ):
        say(line)
    if as_json:
        print_json(scores)
        return
    title = f"{loaded.encoding.target}: scores on {scores['m']:,} rows of {data}"
    print_scores(console(sys.stdout), title, {"model": scores}, loaded.classes, weight)


def predict(
    model: ModelArgument,
    data: DataArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write .csv, .csv.gz or .parquet.", show_default="CSV on standard output"),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Columns of DATA that are written too, as they are.", show_default=False),
    ] = None,
    strict: Strict = False,
) -> None:
    """Predict each row of a table: a column `prediction`, and `probability_<class>` for each class."""
    from fullbatch.machine.safe_output import check_output, replacing
    from fullbatch.tables.predictions import ENDINGS, ending_of, write_predictions

    if out is not None:
        if ending_of(out.name) is None:
            raise InputError(f"--out {out}: unknown ending; the known ones are {', '.join(ENDINGS)}.")
        check_distinct({"MODEL": model, "DATA": data}, {"--out": out})
        check_output(out, "the predictions")
    loaded = load_table_model(model)
    kept = _kept(loaded, data, keep) if keep else None
    with status(f"predicting {data}"):
        table = loaded.read(data)
        _tell_left_out(loaded, table, data, kept=kept.names if kept else ())
        _tell_unseen(loaded, table, strict)
        if out is None:
            write_predictions(loaded, table, sys.stdout.buffer, kept=kept)
            return
        with replacing(out, "the predictions") as file:
            write_predictions(loaded, table, file, ending_of(out.name) or ".csv", kept)
    say(f"{table.m:,} predictions are in {out}.")


def _kept(model: TableNetwork, data: Path, keep: Sequence[str]) -> Kept:
    """The columns of --keep. InputError for a name that the predictions have themselves."""
    from fullbatch.tables.kept import Kept
    from fullbatch.tables.predictions import names_of
    from fullbatch.tables.raw import Conventions
    from fullbatch.tables.reading import read_names

    names = column_names(keep, read_names(data))
    if both := sorted({*names} & {*names_of(model)}):
        raise InputError(f"--keep {both[0]}: the predictions have a column of this name; rename that of {data}.")
    return Kept(data, names, Conventions.of(model.encoding).missing)


def load_table_model(path: Path) -> TableNetwork:
    """The network of a table in a file. ModelFileError where it holds another kind of model."""
    from fullbatch.saving.model_file import load_network

    return load_network(path)


def _tell_left_out(
    model: TableNetwork, table: RawTable, data: Path, weight: np.ndarray | None = None, kept: Sequence[str] = ()
) -> None:
    """Say which columns the model has no use for, and how many rows cannot be scored."""
    from fullbatch.tables.fit import said_of_columns

    if others := [name for name in model.unused(data) if name not in table.columns and name not in kept]:
        say(f"{said_of_columns(others)}.")
    target = model.encoding.target
    if target is not None and target in table.columns:
        gaps = table.column(target).missing
        nothing = 0 if weight is None else int(((weight == 0) & ~gaps).sum())
        if line := rows_line({"without_target": int(gaps.sum()), "weight_0": nothing}, table.m):
            say(line)


def _tell_unseen(model: TableNetwork, table: RawTable, strict: bool) -> None:
    """Say which columns have levels that training had not, or refuse them."""
    for name, (share, first) in model.encoding.unseen(table).items():
        percent = f"{100 * share:.3g} %"
        what = f"column {name!r}: {percent} of the rows have a level that training had not, the first of them {first!r}"
        if strict:
            raise TableError(f"{what}; correct it, or leave --strict away to predict as if it had none.")
        say(f"warning: {what}.")
