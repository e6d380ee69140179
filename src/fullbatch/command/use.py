"""``fullbatch evaluate`` and ``fullbatch predict``: what a model says of a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullbatch.command.options import AsJson, DataArgument, ModelArgument, check_distinct
from fullbatch.command.printing import console, print_json, say, status
from fullbatch.errors import InputError

if TYPE_CHECKING:
    from fullbatch.tables.model import TablePredictor


def evaluate(model: ModelArgument, data: DataArgument, as_json: AsJson = False) -> None:
    """Score a model on a table that has the target column."""
    from fullbatch.command.report import print_scores

    loaded = load_table_model(model)
    with status(f"scoring {data}"):
        scores = loaded.evaluate(data)
    if as_json:
        print_json(scores)
        return
    title = f"{loaded.encoding.target}: scores on {scores['m']:,} rows of {data}"
    print_scores(console(sys.stdout), title, {"model": scores})


def predict(
    model: ModelArgument,
    data: DataArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write .csv, .csv.gz or .parquet.", show_default="CSV on standard output"),
    ] = None,
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
    with status(f"predicting {data}"):
        table = loaded.read(data)
        if out is None:
            write_predictions(loaded, table, sys.stdout.buffer)
            return
        with replacing(out, "the predictions") as file:
            write_predictions(loaded, table, file, ending_of(out.name) or ".csv")
    say(f"{table.m:,} predictions are in {out}.")


def load_table_model(path: Path) -> TablePredictor:
    """The network of a table in a file. ModelFileError where it holds another kind of model."""
    from fullbatch.saving.model_file import load_network

    return load_network(path)
