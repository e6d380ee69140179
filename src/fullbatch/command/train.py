"""``fullbatch train``: a table in, a model and its scores out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import click

from fullbatch.command import large, options
from fullbatch.command.clicking import Command, argument, file_path, flag, option
from fullbatch.command.cluster import AtCluster, at_cluster, cluster_options, table_on
from fullbatch.command.columns import doubt_lines, rows_line
from fullbatch.command.keeping import going_on, kept_by, warnings_said
from fullbatch.command.options import (
    ACTIVATIONS,
    BY_ROWS,
    DATA,
    DEFAULT,
    DTYPES,
    MACHINE,
    NETWORK,
    OUTPUT,
    PRECISIONS,
    SCORED,
    SOLVERS,
    TRAINING,
    batch_size_text,
    check_distinct,
    class_weights,
    dropout_rates,
    layer_sizes,
    memory_size,
    not_negative,
    one_of,
    positive,
    probability,
    share_or_file,
    table_size,
)
from fullbatch.command.printing import console, plural, print_json, say
from fullbatch.command.selection import Selection, table_or_store
from fullbatch.command.signals import ENDING, stopping_with
from fullbatch.command.standard_input import at_hand, called
from fullbatch.command.summary import draw, hint, not_scored, print_training, summary_of
from fullbatch.core.losses import check_quantile
from fullbatch.errors import FullbatchError, InputError, TableError
from fullbatch.tables.fit import USUAL, Settings

if TYPE_CHECKING:
    from fullbatch.command.progress import TrainingProgress
    from fullbatch.sources.stored import Store
    from fullbatch.tables.raw import RawTable

OF_NUMBERS_ALONE = ("loss", "quantile", "log_target")  # parameters of a regression


@click.command(cls=Command, epilog="Example: fullbatch train flights.parquet --target late --model late.fullbatch")
@argument(
    "data",
    metavar="[DATA]",
    type=file_path,
    required=False,
    help="A file (.csv, .csv.gz, .parquet, .arrow), a folder, 'PATTERN' or URL of some; or a store. "
    "Without it: handwritten digits.",
)
@option("--target", metavar="COLUMN", help="The column to predict, as late.", panel=DATA)
@option(
    "--hidden",
    metavar="N,N",
    help="Units of each hidden layer, as 64,32; none: logistic or linear regression.",
    show_default="128,64; 256,128 for few rows of several classes",
    panel=NETWORK,
)
@option(
    "--activation",
    metavar="NAME",
    default=DEFAULT.activation,
    check=one_of(ACTIVATIONS),
    help=f"{', '.join(ACTIVATIONS)}.",
    panel=NETWORK,
)
@option(
    "--dropout",
    metavar="X|X,X",
    help="Share of the hidden units that each step leaves out, as 0.2; or one for each layer.",
    show_default="0.1 for classes of few rows, else 0",
    panel=NETWORK,
)
@option(
    "--solver",
    metavar="NAME",
    default=DEFAULT.solver,
    check=one_of(SOLVERS),
    help=f"{', '.join(SOLVERS)}.",
    panel=TRAINING,
)
@option(
    "--epochs",
    metavar="N",
    type=click.IntRange(min=1),
    help="Passes over the rows, as 20.",
    show_default=BY_ROWS,
    panel=TRAINING,
)
@option(
    "--batch-size",
    metavar="N|full",
    check=batch_size_text,
    help="Rows per step, as 1000.",
    show_default=BY_ROWS,
    panel=TRAINING,
)
@option(
    "--learning-rate",
    metavar="X",
    type=float,
    check=positive,
    help="Size of the first steps, as 0.001.",
    show_default="by the solver",
    panel=TRAINING,
)
@option(
    "--l2",
    metavar="X",
    type=float,
    check=not_negative,
    help="L2 penalty, as 0.01.",
    show_default=BY_ROWS,
    panel=TRAINING,
)
@option("--device", metavar="NAME", default=DEFAULT.device, help="auto, cpu, cuda or cuda:N.", panel=MACHINE)
@option(
    "--device-memory",
    metavar="N",
    help="Most to take of a GPU: bytes, 8GB, or a share as 0.5.",
    show_default="all",
    panel=MACHINE,
)
@option(
    "--dtype", metavar="NAME", default=DEFAULT.dtype, check=one_of(DTYPES), help="float32 or float64.", panel=MACHINE
)
@option(
    "--precision",
    metavar="NAME",
    check=one_of(PRECISIONS),
    help="tf32: a GPU's fast products, off by about 1e-3.",
    show_default="the dtype's",
    panel=MACHINE,
)
@option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0, max=2**32 - 1),
    default=DEFAULT.random_state,
    help="Of all random choices.",
    panel=TRAINING,
)
@options.validation
@options.split_by
@options.group
@options.weight
@option(
    "--class-weight",
    metavar="TEXT",
    help="balanced, or weights as in 'no=1,yes=5'.",
    show_default="1 each",
    panel=SCORED,
)
@flag(
    "--retrain/--no-retrain",
    default=DEFAULT.retrain,
    help="Where the best epoch comes early, train once more for as long.",
    panel=SCORED,
)
@option(
    "--patience",
    metavar="N",
    type=click.IntRange(min=1),
    help="End after N epochs that are no better on held-out rows.",
    show_default="all epochs",
    panel=SCORED,
)
@options.metric
@option(
    "--threshold",
    metavar="X|auto",
    help="Predict the second of two classes from this probability on.",
    show_default="the likelier class",
    panel=SCORED,
)
@options.task
@options.loss_of_numbers
@option("--quantile", metavar="X", type=float, help="That the loss quantile predicts, as 0.9.", panel=NETWORK)
@options.log_target
@options.categorical
@options.numeric
@options.drop
@options.only_columns
@options.missing
@options.keep_missing_words
@options.decimal
@options.date_format
@options.form
@options.max_levels
@option(
    "--threads",
    metavar="N",
    type=click.IntRange(min=1),
    help="CPU threads, as 2.",
    show_default="all cores",
    panel=MACHINE,
)
@option(
    "--memory",
    metavar="SIZE",
    check=table_size,
    help="A larger table is learned from by a store, which is made first; by its files, for 1 or 2 iterations.",
    show_default="2GB",
    panel=MACHINE,
)
@option("--store", metavar="FOLDER", type=file_path, help="Keep that store in this folder.", panel=MACHINE)
@cluster_options
@option(
    "--checkpoint",
    metavar="FILE",
    type=file_path,
    help="Keep the training there while it runs, as late.ckpt.",
    panel=TRAINING,
)
@option(
    "--checkpoint-every",
    metavar="SECONDS",
    type=float,
    default=60.0,
    check=not_negative,
    help="Between two writings.",
    panel=TRAINING,
)
@option(
    "--resume", metavar="FILE", type=file_path, help="Go on with the training that a checkpoint keeps.", panel=TRAINING
)
@option(
    "--model", metavar="FILE", type=file_path, help="Write the model to this file, as late.fullbatch.", panel=OUTPUT
)
@option("--plot", metavar="FILE.png", type=file_path, help="Draw the cost of each epoch, as costs.png.", panel=OUTPUT)
@options.as_json
@options.quiet
@click.pass_context
def train(
    context: click.Context,
    data: Path | None,
    target: str | None,
    hidden: str | None,
    activation: str,
    dropout: str | None,
    solver: str,
    epochs: int | None,
    batch_size: str | None,
    learning_rate: float | None,
    l2: float | None,
    device: str,
    device_memory: str | None,
    dtype: str,
    precision: str | None,
    seed: int,
    validation: str,
    split_by: str | None,
    group: str | None,
    weight: str | None,
    class_weight: str | None,
    retrain: bool,
    patience: int | None,
    metric: str | None,
    threshold: str | None,
    task: str | None,
    loss: str | None,
    quantile: float | None,
    log_target: bool,
    categorical: list[str] | None,
    numeric: list[str] | None,
    drop: list[str] | None,
    only: list[str] | None,
    missing: list[str] | None,
    keep_missing_words: bool,
    decimal: str,
    date_format: list[str] | None,
    form: str | None,
    max_levels: int,
    threads: int | None,
    memory: str | None,
    store: Path | None,
    cluster: str | None,
    workers: int | None,
    wait: float,
    checkpoint: Path | None,
    checkpoint_every: float,
    resume: Path | None,
    model: Path | None,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a network on a table, and score it on rows that were held out."""
    options = dict(locals())
    if resume is not None:
        again: Any = train.callback
        return again(**going_on(context, resume, get_type_hints(again)))
    from fullbatch.command.progress import TrainingProgress

    kept = kept_by(context, options)
    rows: Any = "full" if batch_size == "full" else int(batch_size) if batch_size else None
    held_out = share_or_file(validation)
    file = held_out if isinstance(held_out, Path) else None
    params: dict[str, Any] = {
        "hidden": layer_sizes(hidden), "activation": activation, "dropout": dropout_rates(dropout),
        "solver": solver, "epochs": epochs, "batch_size": rows,
        "learning_rate": learning_rate, "l2": l2, "validation": DEFAULT.validation if file else held_out,
        "split_by": split_by, "group": group, "retrain": retrain, "patience": patience, "metric": metric,
        "threshold": probability(threshold), "max_levels": max_levels, "dtype": dtype, "device": device,
        "device_memory": memory_size(device_memory), "precision": precision, "random_state": seed, "n_jobs": threads,
        "memory": memory_size(memory, "--memory") or DEFAULT.memory,
    }  # fmt: skip
    class_weights(class_weight, None)
    params |= _of_numbers(loss, quantile, log_target)
    message = _check_before_training({"DATA": data, "--validation": file}, model, plot, params)
    started = time.perf_counter()
    selection = Selection(drop, only, missing, keep_missing_words, decimal, date_format, categorical, numeric)
    terms = large.StoreTerms(params["memory"], store, model, quiet)
    # Small counts are classes, if nobody says otherwise.
    asked = {**params, "weight": weight, "task": task or ("regress" if loss or log_target else None)}
    at = at_cluster(cluster, workers, wait, file)
    source, *_ = [*context.with_resource(at_hand([data] if data else [], form)), None]
    table, target, made = _source(context, at, terms, file, (source, target, selection, asked))
    read_seconds = time.perf_counter() - started
    said = [message, "" if made else _check_validation_file(file, table, data)]
    kinds = {**selection.kinds(table.names), "drop": selection.decides_alone(split_by, table.names)}
    params |= dict.fromkeys(kinds, ()) if made else kinds
    estimator = _estimator(table, target, asked["task"], {**params, "class_weight": class_weight})
    progress = TrainingProgress(console(sys.stderr), quiet=quiet)
    first = _BeforeTheFirstEpoch(None if quiet else partial(_lines, said))
    beside = {} if made or at else {"sample_weight": weight, "X_val": file}
    rows_of = {"target": target, "resume": kept.resume, **beside}
    estimator.set_callbacks(progress, first, *kept.callbacks)
    with kept.naming_files():
        stop = _fit(estimator, table, rows_of, data, model, progress, made.figures if made else {})
    name = called(data) if data else "handwritten digits"
    if plot:
        draw(plot, estimator, name)
    found = {**summary_of(estimator, progress), "data": name, "read_seconds": read_seconds, "interrupted": bool(stop)}
    _say({**found, "model": model and str(model)}, data, plot, as_json=as_json, quiet=quiet)
    if stop:
        raise click.exceptions.Exit(128 + stop)
    return None


def _say(found: dict[str, Any], data: Path | None, plot: Path | None, *, as_json: bool, quiet: bool) -> None:
    """What came of the training, as JSON or for a person."""
    if as_json:
        print_json(found)
    elif not quiet:
        print_training(found, data, plot)
    if not quiet:
        hint(found)


def _check_before_training(
    inputs: dict[str, Path | None], model: Path | None, plot: Path | None, params: dict[str, Any]
) -> str:
    """Find out now what would otherwise be found out when the work is done; return what is to be said of the device."""
    from fullbatch.machine import cuda, places
    from fullbatch.machine.safe_output import check_output
    from fullbatch.training import memory

    check_distinct(inputs, {"--model": model, "--plot": plot})
    file = inputs["--validation"]
    if file is not None:
        if not (file.exists() or any(mark in str(file) for mark in "*?[")):
            raise InputError(f"--validation {file} is neither a share of the rows, such as 0.1, nor a file.")
        if inputs["DATA"] is not None and file.resolve() == inputs["DATA"].resolve():
            raise InputError(f"--validation and DATA are the same file, {file}; rows that are held out are other rows.")
    Settings(**params).check(own_rows=file is not None)
    place = places.place(params["device"])
    place.budget(params["device_memory"])
    if place.name == "cpu":  # As if of one input and one output: what the data asks for is refused once it is known.
        hidden = USUAL if params["hidden"] is None else params["hidden"]
        sizes, itemsize = [1, *hidden, 1], 8 if params["dtype"] == "float64" else 4
        memory.check(memory.Training(sizes, params["solver"], itemsize))
    cuda.check_precision(params["precision"], place.empty(params["dtype"]))
    if model:
        from fullbatch.saving.model_file import check_replaceable

        check_output(model, "the model")
        check_replaceable(model)
    if plot:
        from fullbatch.command.report import check_plot

        check_plot(str(plot))
        check_output(plot, "the plot")
    # Who installed CuPy expects the GPU, and hears why it is not used; to others there is nothing to say.
    return f"computing on the CPU: {place.reason}" if place.reason and find_spec("cupy") else ""


def _source(
    context: Any, at: AtCluster | None, terms: large.StoreTerms, file: Path | None, of: tuple[Any, ...]
) -> tuple[Any, str, large.Made | None]:
    """What is learned from, its target, and the store that was made for it, if one was.

    of : DATA, the target's name or None, the selection of columns, the parameters
    """
    if at is not None:
        return *table_on(context, at, *of), None
    data, target, selection, asked = of
    made = large.made(context, data, target, selection, asked, terms, file)
    return (made.store, made.target, made) if made else (*_table_and_target(*of), None)


def _table_and_target(
    data: Path | None, target: str | None, selection: Selection, asked: dict[str, Any]
) -> tuple[RawTable | Store, str]:
    """The table, or the store, that is learned from, handwritten digits without a file, and its target's name."""
    from fullbatch.sources.stored import Store
    from fullbatch.tables.raw import RawTable

    if data is None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        columns = dict(zip(digits.feature_names, digits.data.T.copy(), strict=True))
        own = RawTable.of({**columns, "digit": digits.target})
        try:
            own.require([target or "digit"], "target column")
        except TableError as error:
            raise TableError(f"{error} It is that of handwritten digits, because DATA is missing.") from None
        return own, target or "digit"
    table = table_or_store(data, target, selection, large.roles_of(asked))
    if isinstance(table, Store):
        return table, table.target
    if target is None:
        raise TableError(f"--target is missing; the columns of {data} are {', '.join(table.names)}.")
    return table, target


def _check_validation_file(file: Path | None, table: RawTable | Store, data: Path | None) -> str:
    """InputError where the file lacks columns of DATA; what is to be said of those that it has besides."""
    from fullbatch.sources.stored import Store

    if file is None:
        return ""
    if isinstance(table, Store):
        raise InputError(f"--validation {file}: the store {data} has held-out rows of its own.")
    from fullbatch.tables.fit import said_of_columns
    from fullbatch.tables.raw import listed
    from fullbatch.tables.reading import read_names

    names = read_names(file)
    if absent := [name for name in table.names if name not in names]:
        raise InputError(
            f"--validation {file} has other columns than {data or 'the table'}: it lacks {listed(absent)}."
        )
    others = [name for name in names if name not in table.names and name not in table.left_out]
    return f"{file}: {said_of_columns(others)}." if others else ""


def _estimator(table: RawTable | Store, target: str, task: str | None, params: dict[str, Any]) -> Any:
    """What is trained: a classifier or a regressor, as was asked for, or as the target column has it."""
    from fullbatch.sources.stored import Store
    from fullbatch.tables.estimators import TableClassifier, TableRegressor
    from fullbatch.tables.fit import task_of

    if isinstance(table, Store):
        found, classes = task or table.task, table.classes
    else:
        found, classes = task_of(table, target, task)
    if found == "classify":
        if params["loss"] != DEFAULT.loss or params["log_target"]:
            raise InputError(f"--loss and --log-target are of numbers, and {target!r} is classified.")
        params = {name: value for name, value in params.items() if name not in OF_NUMBERS_ALONE}
        return TableClassifier(**{**params, "class_weight": class_weights(params["class_weight"], classes)})
    of_classes = ("class_weight", "threshold")
    for name in of_classes:
        if params[name] is not None:
            raise InputError(f"--{name.replace('_', '-')} is of classes, and {target!r} makes a regression.")
    return TableRegressor(**{name: value for name, value in params.items() if name not in of_classes})


def _of_numbers(loss: str | None, quantile: float | None, log_target: bool) -> dict[str, Any]:
    """The parameters of a regression; InputError where they contradict each other, before anything is read."""
    name = loss or DEFAULT.loss
    check_quantile(name, quantile)
    return {"loss": name, "quantile": quantile, "log_target": log_target}


class _BeforeTheFirstEpoch:
    """A callback that says lines when the first epoch begins: an error before that stays a line of its own.

    lines : gives them, of the estimator; None: nothing is said
    """

    def __init__(self, lines: Callable[[Any], Sequence[str]] | None) -> None:
        self.lines = lines

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        if context.max_subtasks == 0:  # An epoch has no subtasks; the whole fit has its epochs.
            lines, self.lines = self.lines, None
            for line in lines(estimator) if lines else ():
                say(line)

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        pass

    def teardown(self, estimator: Any, context: Any) -> None:
        pass


def _lines(said: Sequence[str], estimator: Any) -> list[str]:
    """What is said before the first epoch: of the device, of rows that are left out, of doubtful columns.

    said : what is known before the training is put together
    """
    record = estimator.record_
    lines = [*said, rows_line(record["left_out"], record["data"]["rows"]), not_scored(record)]
    lines.append(estimator._in_training._said_of_memory)
    if own := record["data"].get("held_out"):
        line = rows_line(own["left_out"], own["rows"])
        lines.append(f"of the held-out rows {line}" if line else "")
    return [*filter(None, lines), *doubt_lines(record["report"])]


def _fit(
    estimator: Any,
    table: RawTable | Store,
    rows_of: dict[str, Any],
    data: Path | None,
    model: Path | None,
    progress: TrainingProgress,
    made: dict[str, Any],
) -> int:
    """Train, and write the model; the signal that stopped the training (0: none did).

    rows_of : the columns and rows with a part of their own, as ``fit`` takes them
    made : of a store that was made for this training, the figures that decided it
    """
    from fullbatch.machine.safe_output import only_writer
    from fullbatch.tables.record import files

    # ``fit`` ends the training at a KeyboardInterrupt and keeps the model so far, so all the signals raise one.
    alone = only_writer(model, "the model") if model else nullcontext()
    with alone, stopping_with(KeyboardInterrupt, *ENDING) as signals:
        try:
            with warnings_said():
                estimator.fit(table, **rows_of)
        except KeyboardInterrupt:
            if not hasattr(estimator, "network_"):  # Else it came when the network was trained, and only scores lack.
                say("interrupted before the training began; there is no model to keep.")
                raise click.exceptions.Exit(128 + signals.received) from None
        except ValueError as error:  # Where scikit-learn's contract fixes the words, the estimators raise it plain.
            raise error if isinstance(error, FullbatchError) else InputError(str(error)) from error
        signals.raising = False  # Nothing may come between the model and its file.
        if model:
            from fullbatch.saving.model_file import save

            estimator.record_["data"] |= {"files": files([data] if data else []), **({"store": made} if made else {})}
            save(estimator, model)
    if signals.received:
        kept = f"the model so far is in {model}" if model else "without --model FILE the model so far is not kept"
        when = f"after {plural(progress.epochs, 'epoch')}" if progress.epochs else "in the first epoch"
        say(f"interrupted {when} of {progress.planned:,}: {kept}.")
    return signals.received
