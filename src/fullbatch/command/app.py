"""The command ``fullbatch``: parse arguments, call the rooms below, print.

What was asked for goes to stdout; progress, notes and errors go to stderr. An error is one line there and
exit 2; Ctrl-C is exit 130. Heavy imports are inside the commands, so that help and a wrong option are
answered at once.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fullbatch.errors import FullbatchError, InputError, ModelFileError, TableError
from fullbatch.tables.fit import Settings
from fullbatch.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from fullbatch.command.report import TrainingProgress
    from fullbatch.tables.fit import Trained
    from fullbatch.tables.model import TableModel
    from fullbatch.tables.raw import RawTable

BAD_INPUT, UNEXPECTED = 2, 1
SOLVERS = ("adam", "gd", "sgd", "lbfgs")
ACTIVATIONS = ("tanh", "relu", "gelu", "silu", "leaky_relu", "sigmoid", "identity")
TASKS = ("classify", "regress")
DTYPES = ("float32", "float64")
PRECISIONS = ("tf32",)
PACKAGES = (
    "numpy", "scipy", "scikit-learn", "pyarrow", "array-api-compat", "safetensors", "threadpoolctl", "typer",
    "rich", "matplotlib",
)  # fmt: skip
CUPY_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "cupy")

app = typer.Typer(
    name="fullbatch",
    help="Train neural networks on tall tables: CSV or Parquet in, a model file out.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# --- Running, and what goes wrong ---------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (``sys.argv`` if None) and return its exit status."""
    try:
        with warnings.catch_warnings(), _stopping_with(Interrupted, signal.SIGINT):
            warnings.simplefilter("ignore")  # what matters is said in the command's own words
            status = app(list(sys.argv[1:] if argv is None else argv), prog_name="fullbatch", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except Interrupted:
        return _fail("interrupted.", 128 + signal.SIGINT, label="")
    except BrokenPipeError:  # `fullbatch predict ... | head`: whoever read our output has what he wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1  # as typer does where it sees this first
    except FullbatchError as error:
        return _fail(str(error), BAD_INPUT)
    except MemoryError as error:
        return _fail(f"out of memory ({error}); use fewer columns, a smaller --hidden or --max-levels.", BAD_INPUT)
    except OSError as error:
        return _fail(f"{error.filename or 'the system'}: {error.strerror or error}.", BAD_INPUT)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's errors of usage, whichever click it brings
            command = getattr(getattr(error, "ctx", None), "command_path", "fullbatch")
            return _fail(f"{error.format_message().rstrip('.')}. Try '{command} --help'.", BAD_INPUT)
        if os.environ.get("FULLBATCH_DEBUG"):
            raise
        return _fail(
            f"{type(error).__name__}: {error} (this should not happen; FULLBATCH_DEBUG=1 shows where).",
            UNEXPECTED,
        )


def _fail(message: str, status: int, label: str = "error: ") -> int:
    print(f"fullbatch: {label}{' '.join(message.split())}", file=sys.stderr, flush=True)
    return status


class Interrupted(BaseException):
    """Ctrl-C. Not a KeyboardInterrupt, which typer would keep to itself."""


@dataclass
class Signals:
    """received : the signal that asked to stop, or 0;  raising : whether the next one raises, or is noted alone"""

    received: int = 0
    raising: bool = True


@contextmanager
def _stopping_with(exception: type[BaseException], *numbers: int) -> Iterator[Signals]:
    """The first of these signals raises ``exception``; what follows it, an impatient second Ctrl-C, does not."""
    signals = Signals()

    def stop(number: int, frame: Any) -> None:
        signals.received = number
        if signals.raising:
            signals.raising = False
            raise exception

    try:
        before = {number: signal.signal(number, stop) for number in numbers}
    except ValueError:  # not in the main thread, which alone gets signals
        yield signals
        return
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- Options ------------------------------------------------------------------------------------------------


def _one_of(known: Sequence[str]) -> Callable[[str | None], str | None]:
    def check(value: str | None) -> str | None:
        if value is not None and value not in known:
            raise typer.BadParameter(f"{value!r} is unknown; the known ones are {', '.join(known)}.")
        return value

    return check


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is out of range; give a number larger than 0.")
    return value


def _not_negative(value: float | None) -> float | None:
    if value is not None and not 0 <= value < math.inf:
        raise typer.BadParameter(f"{value:g} is out of range; give 0 or a larger number.")
    return value


def _share(value: float | None) -> float | None:
    if value is not None and not 0 <= value < 1:
        raise typer.BadParameter(f"{value:g} is out of range; give a share of at least 0 and less than 1.")
    return value


def _layer_sizes(value: str) -> tuple[int, ...]:
    """ "64,32" -> (64, 32); "none" -> ()."""
    if value.strip().lower() == "none":
        return ()
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isascii() and part.isdecimal() and 0 < int(part) <= 10**6 for part in parts):
        raise typer.BadParameter(
            f"{value!r} is not a list of layer sizes; give units per layer, as 64,32, or none.", param_hint="'--hidden'"
        )
    return tuple(int(part) for part in parts)


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def _bytes(value: str | None) -> float | None:
    """ "8GB", "7.5 GiB", "8e9" -> bytes; "0.5": a share."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?) ?(?:([kmg]i?)?b)?", value.strip().lower())
    try:
        number = float(found[1]) * UNITS[found[2] or ""] if found else math.nan
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise typer.BadParameter(
            f"{value!r} is no amount of memory; give bytes, such as 8GB, or a share above 0 and up to 1, such as 0.5.",
            param_hint="'--device-memory'",
        )
    return number


def _batch_size(value: str | None) -> str | None:
    if value is not None and value != "full" and not (value.isascii() and value.isdecimal() and int(value) > 0):
        raise typer.BadParameter(f"{value!r} is no batch size; give a whole number of at least 1, or full.")
    return value


@app.callback(invoke_without_command=True)
def fullbatch(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        print(f"fullbatch {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def _list(values: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Column names: an option given several times, or commas between; a name that has commas stays whole."""
    names: list[str] = []
    for value in values:
        names += [value] if value in known else [part.strip() for part in value.split(",") if part.strip()]
    return tuple(names)


DEFAULT = Settings()
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line instead of tables.")]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file that train wrote.")]
DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="A table: .csv, .csv.gz or .parquet.")]
BY_ROWS = "by the number of rows"


# --- fullbatch train ----------------------------------------------------------------------------------------


@app.command()
def train(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="A table: .csv, .csv.gz or .parquet. Without it: handwritten digits.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column to predict.", show_default=False)
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the model to this file.", show_default=False)
    ] = None,
    hidden: Annotated[
        str,
        typer.Option(metavar="N,N", help="Units of each hidden layer; none: logistic or linear regression."),
    ] = ",".join(map(str, DEFAULT.hidden)),
    activation: Annotated[
        str, typer.Option(metavar="NAME", help=f"{', '.join(ACTIVATIONS)}.", callback=_one_of(ACTIVATIONS))
    ] = DEFAULT.activation,
    solver: Annotated[
        str, typer.Option(metavar="NAME", help=f"{', '.join(SOLVERS)}.", callback=_one_of(SOLVERS))
    ] = DEFAULT.solver,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Passes over the rows.", show_default=BY_ROWS)
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(metavar="N|full", help="Rows per step.", callback=_batch_size, show_default=BY_ROWS),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(metavar="X", help="Size of the first steps.", callback=_positive, show_default="by the solver"),
    ] = None,
    l2: Annotated[
        float | None,
        typer.Option(metavar="X", help="L2 penalty.", callback=_not_negative, show_default=BY_ROWS),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.")] = DEFAULT.device,
    device_memory: Annotated[
        str | None,
        typer.Option(metavar="N", help="Most to take of a GPU: bytes, 8GB, or a share as 0.5.", show_default="all"),
    ] = None,
    dtype: Annotated[
        str, typer.Option(metavar="NAME", help="float32 or float64.", callback=_one_of(DTYPES))
    ] = DEFAULT.dtype,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="tf32: a GPU's fast products, off by about 1e-3.",
            callback=_one_of(PRECISIONS),
            show_default="the dtype's",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="Of all random choices.")] = DEFAULT.seed,
    validation: Annotated[
        float, typer.Option(metavar="X", help="Share of the rows to hold out.", callback=_share)
    ] = DEFAULT.validation,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="classify or regress.",
            callback=_one_of(TASKS),
            show_default="by the target column",
        ),
    ] = None,
    categorical: Annotated[
        list[str] | None, typer.Option(metavar="A,B", help="Columns that are categories.", show_default=False)
    ] = None,
    numeric: Annotated[
        list[str] | None, typer.Option(metavar="C,D", help="Columns that are numbers.", show_default=False)
    ] = None,
    max_levels: Annotated[
        int, typer.Option(metavar="N", min=1, help="Levels per category column; rarer ones share one.")
    ] = DEFAULT.max_levels,
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="CPU threads.", show_default="all cores")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the cost of each epoch.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no tables.")] = False,
) -> None:
    """Train a network on a table and score it on rows that it has not seen."""
    rows: Any = "full" if batch_size == "full" else int(batch_size) if batch_size else None
    settings = Settings(
        hidden=_layer_sizes(hidden), activation=activation, solver=solver, epochs=epochs, batch_size=rows,
        learning_rate=learning_rate, l2=l2, validation=validation, max_levels=max_levels, dtype=dtype,
        device=device, device_memory=_bytes(device_memory), precision=precision, seed=seed, threads=threads,
    )  # fmt: skip
    note = _check_before_training(data, model, plot, settings)
    started = time.perf_counter()
    table, target = _table_and_target(data, target)
    read_seconds = time.perf_counter() - started
    columns = {
        "categorical": _list(categorical or (), table.names),
        "numeric": _list(numeric or (), table.names),
    }
    progress, trained, stop = _fit(table, target, settings, task, columns, model, quiet, note)
    name = str(data) if data else "handwritten digits"
    if plot:
        _plot(plot, trained, name)
    summary = {**_summary(trained, progress), "data": name, "read_seconds": read_seconds, "model": model and str(model)}
    summary["interrupted"] = bool(stop)
    if as_json:
        _print_json(summary)
    elif not quiet:
        _print_training(summary, data, plot)
    if stop:
        raise typer.Exit(128 + stop)


def _check_before_training(data: Path | None, model: Path | None, plot: Path | None, settings: Settings) -> str:
    """Find out now what would otherwise be found out when the work is done. What is to be said of the device, or ""."""
    from fullbatch.machine import cuda, places
    from fullbatch.machine.safe_output import check_output

    _check_distinct({"DATA": data}, {"--model": model, "--plot": plot})
    place = places.place(settings.device)
    place.room(settings.device_memory)
    cuda.check_precision(settings.precision, place.empty(settings.dtype))
    if model:
        from fullbatch.saving.model_file import check_replaceable

        check_output(model, "the model")
        check_replaceable(model)
    if plot:
        from fullbatch.command.report import check_plot

        check_plot(str(plot))
        check_output(plot, "the plot")
    # Who installed CuPy expects the GPU; others need not hear of it.
    return f"computing on the CPU: {place.note}" if place.note and find_spec("cupy") else ""


def _check_distinct(inputs: dict[str, Path | None], outputs: dict[str, Path | None]) -> None:
    """No output may take the place of an input or of another output."""
    seen: dict[str, str] = {os.path.realpath(path): name for name, path in inputs.items() if path}
    for name, path in outputs.items():
        if path is None:
            continue
        other = seen.setdefault(os.path.realpath(path), name)
        if other != name:
            raise InputError(f"{name} and {other} are the same file, {path}; give the output another name.")


def _table_and_target(data: Path | None, target: str | None) -> tuple[RawTable, str]:
    from fullbatch.tables.raw import RawTable
    from fullbatch.tables.reading import read_table

    if data is None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        columns = dict(zip(digits.feature_names, digits.data.T.copy(), strict=True))
        return RawTable.of({**columns, "digit": digits.target}), target or "digit"
    with _status(f"reading {data}"):
        table = read_table(data)
    if target is None:
        raise TableError(f"--target is missing; the columns of {data} are {', '.join(table.names)}.")
    return table, target


class _BeforeTheFirstEpoch:
    """A callback that says a line when the first epoch begins: an error before that stays a line of its own."""

    def __init__(self, line: str) -> None:
        self.line = line

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        if self.line and context.max_subtasks == 0:  # an epoch, not the whole fit
            _say(self.line)
            self.line = ""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        pass

    def teardown(self, estimator: Any, context: Any) -> None:
        pass


def _fit(
    table: RawTable,
    target: str,
    settings: Settings,
    task: str | None,
    columns: dict[str, Any],
    model: Path | None,
    quiet: bool,
    note: str,
) -> tuple[TrainingProgress, Trained, int]:
    """Train, and write the model: the progress, the outcome, and the signal that stopped it (0: none did)."""
    from fullbatch.command.report import TrainingProgress
    from fullbatch.tables.fit import train_table

    progress = TrainingProgress(_console(sys.stderr), quiet=quiet)
    callbacks = [progress, _BeforeTheFirstEpoch(note)] if note and not quiet else [progress]
    with _stopping_with(KeyboardInterrupt, signal.SIGINT, signal.SIGTERM) as signals:  # which ``fit`` waits for
        try:
            trained = train_table(table, target, settings, task=task, callbacks=callbacks, **columns)
        except KeyboardInterrupt:
            _say("interrupted before the training began; there is no model to keep.")
            raise typer.Exit(128 + signals.received) from None
        except ValueError as error:  # in scikit-learn's words, where its contract fixes them
            raise error if isinstance(error, FullbatchError) else InputError(str(error)) from error
        signals.raising = False  # nothing may come between the model and its file
        if model:
            from fullbatch.saving.model_file import save

            save(trained.model, model)
    if signals.received:
        kept = f"the model so far is in {model}" if model else "without --model FILE the model so far is not kept"
        when = f"after {_plural(progress.epochs, 'epoch')}" if progress.epochs else "in the first epoch"
        _say(f"interrupted {when} of {progress.planned:,}: {kept}.")
    return progress, trained, signals.received


def _plot(path: Path, trained: Trained, name: str) -> None:
    from fullbatch.command.report import draw_costs
    from fullbatch.machine.safe_output import replacing

    estimator = trained.model.estimator
    with replacing(path, "the plot") as file:
        draw_costs(
            file, path.suffix[1:].lower(), f"{trained.model.encoding.target} of {name}",
            estimator.loss_curve_, getattr(estimator, "validation_costs_", None) or (),
        )  # fmt: skip


def _summary(trained: Trained, progress: TrainingProgress) -> dict[str, Any]:
    """What there is to say about a training, as its JSON has it."""
    from fullbatch.machine.threads import thread_count

    estimator, encoding = trained.model.estimator, trained.model.encoding
    held_out, guess = trained.scores() if trained.held_out else (None, None)
    return {
        "target": encoding.target,
        "task": encoding.task,
        "classes": list(encoding.classes),
        "m": trained.m,
        "columns": len(encoding.feature_names),
        "n": encoding.n,
        "hidden": list(trained.settings.hidden),
        "epochs": progress.epochs,
        "cost": float(estimator.loss_curve_[-1]) if estimator.loss_curve_ else None,
        "held_out": held_out,
        "guess": guess,
        "device": estimator.device_,
        "step": estimator.step_,
        "precision": estimator.precision_,
        "note": estimator.note_,
        "threads": thread_count(trained.settings.threads),
        "seconds": progress.seconds,
        "examples_per_second": progress.examples_per_second,
    }


def _print_training(summary: dict[str, Any], data: Path | None, plot: Path | None) -> None:
    from fullbatch.command.report import count, facts, print_scores, seconds

    out = _console(sys.stdout)
    if summary["held_out"]:
        title = f"{summary['target']}: scores on {summary['held_out']['m']:,} rows that the model has not seen"
        guess = "majority guess" if summary["task"] == "classify" else "the mean"
        print_scores(out, title, {"model": summary["held_out"], guess: summary["guess"]})
    else:
        out.print("No rows were held out, so there are no scores to show.")
    threads = f", {_plural(summary['threads'], 'thread')}" if summary["device"] == "cpu" else ""
    layers = "-".join(map(str, [summary["n"], *summary["hidden"], _outputs(summary)]))
    pairs = [
        ("data", f"{summary['m']:,} rows of {summary['data']}, read in {seconds(summary['read_seconds'])}"),
        ("network", f"{layers} from {_plural(summary['columns'], 'column')}"),
        (
            "training",
            f"{_plural(summary['epochs'], 'epoch')} in {seconds(summary['seconds'])}, "
            f"{count(summary['examples_per_second'])} examples/s",
        ),
        ("device", f"{summary['device']}, {summary['step']} step, {summary['precision']}{threads}"),
    ]
    if summary["note"]:
        pairs.append(("note", summary["note"]))
    if plot:
        pairs.append(("plot", str(plot)))
    if summary["model"]:
        pairs.append(("model", summary["model"]))
    pairs.append(("next", f"fullbatch {_next_command(summary, data)}"))
    out.print(facts(pairs))


def _next_command(summary: dict[str, Any], data: Path | None) -> str:
    """What to try next: to use the model, or to keep it."""
    if summary["model"]:
        return shlex.join(["predict", summary["model"], str(data or "DATA.csv"), "--out", "predictions.csv"])
    of = [str(data), "--target", summary["target"]] if data else []
    return shlex.join(["train", *of, "--model", f"{re.sub(r'[^0-9A-Za-z_-]+', '-', summary['target'])}.model"])


def _outputs(summary: dict[str, Any]) -> int:
    return len(summary["classes"]) if len(summary["classes"]) > 2 else 1


# --- fullbatch evaluate, fullbatch predict ------------------------------------------------------------------


@app.command()
def evaluate(model: ModelArgument, data: DataArgument, as_json: AsJson = False) -> None:
    """Score a model on a table that has the target column."""
    from fullbatch.command.report import print_scores

    loaded = _load(model)
    with _status(f"scoring {data}"):
        scores = loaded.evaluate(_read_for(loaded, data, with_target=True))
    if as_json:
        _print_json(scores)
        return
    title = f"{loaded.encoding.target}: scores on {scores['m']:,} rows of {data}"
    print_scores(_console(sys.stdout), title, {"model": scores})


@app.command()
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
        _check_distinct({"MODEL": model, "DATA": data}, {"--out": out})
        check_output(out, "the predictions")
    loaded = _load(model)
    with _status(f"predicting {data}"):
        table = _read_for(loaded, data, with_target=False)
        if out is None:
            write_predictions(loaded, table, sys.stdout.buffer)
            return
        with replacing(out, "the predictions") as file:
            write_predictions(loaded, table, file, ending_of(out.name) or ".csv")
    _say(f"{table.m:,} predictions are in {out}.")


def _load(path: Path) -> TableModel:
    from fullbatch.saving.model_file import load
    from fullbatch.tables.model import TableModel

    model = load(path)
    if not isinstance(model, TableModel):
        raise ModelFileError(
            f"{path} holds a bare {type(model).__name__}, which knows nothing of columns; use fullbatch.load in "
            "Python, or a model file that `fullbatch train` wrote."
        )
    return model


def _read_for(model: TableModel, data: Path, *, with_target: bool) -> RawTable:
    """The columns of a table that the model needs, and no others."""
    from fullbatch.tables.reading import read_table

    encoding = model.encoding
    columns = [*encoding.feature_names, *([encoding.target] if with_target and encoding.target else [])]
    return read_table(data, columns=columns, text=encoding.text_names)


# --- fullbatch info -----------------------------------------------------------------------------------------


@app.command()
def info(as_json: AsJson = False) -> None:
    """Versions, devices and why one is not usable, BLAS and threads, the steps that can run."""
    found = _environment()
    if as_json:
        _print_json(found)
        return
    from fullbatch.command.report import facts

    devices = [
        (device["name"], device["detail"] if device["usable"] else f"not usable: {device['detail']}")
        for device in found["devices"]
    ]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version)
    absent = ", ".join(name for name, version in found["versions"].items() if not version)
    blas = "; ".join(f"{one['name']} {one['version']}, {_plural(one['threads'], 'thread')}" for one in found["blas"])
    pairs = [
        ("fullbatch", f"{found['fullbatch']} on Python {found['python']}, {found['system']}"),
        *devices,
        ("auto", f"takes {found['auto']}"),
        ("threads", f"{found['threads']} (of the fold; BLAS is held to one in each)"),
        ("BLAS", blas or "not found"),
        *((f"step {name}", text) for name, text in found["steps"].items()),
        ("native code", _native_text(**found["native"])),
        ("with", versions),
    ]
    if absent:
        pairs.append(("without", f"{absent} (not installed)"))
    _console(sys.stdout).print(facts(pairs))


def _environment() -> dict[str, Any]:
    import platform
    from importlib.metadata import version

    import scipy.linalg  # noqa: F401  SciPy brings a BLAS of its own, which is found once it is loaded
    from threadpoolctl import threadpool_info

    from fullbatch import steps
    from fullbatch.machine import native_library, places
    from fullbatch.machine.threads import thread_count

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except ImportError:  # PackageNotFoundError is one
            return None

    auto = places.place("auto")
    libraries = threadpool_info()
    native = native_library.isa()
    return {
        "fullbatch": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "devices": [vars(device) for device in places.devices()],
        "auto": auto.name,
        "threads": thread_count(None),
        "blas": [
            {"name": one["internal_api"], "version": one.get("version"), "threads": one["num_threads"]}
            for one in libraries
            if one["user_api"] == "blas"
        ],
        "steps": {name: _first_line(sys.modules[step.__module__].__doc__) for name, step in steps.STEPS.items()},
        "native": {
            "isa": native and native[1],
            "usable": [name for _, name in native_library.isas()],
            "why_not": native_library.why_not(),
        },
        "versions": {package: installed(package) for package in PACKAGES}
        | {"cupy": next(filter(None, map(installed, CUPY_PACKAGES)), None)},
    }


def _native_text(isa: str | None, usable: Sequence[str], why_not: str) -> str:
    if isa is None:
        return f"none: {why_not}"
    others = ", ".join(name for name in usable if name != isa)
    return isa + (f" (FULLBATCH_NATIVE can be {others} or off)" if others else " (FULLBATCH_NATIVE can be off)")


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0].rstrip(".")


# --- Printing -----------------------------------------------------------------------------------------------


def _console(file: Any) -> Console:
    """A terminal's own width; elsewhere wide enough that no line is broken."""
    from rich.console import Console

    return Console(file=file, highlight=False, width=None if file.isatty() else 200)


@contextmanager
def _status(text: str) -> Iterator[None]:
    """A line on the terminal while something takes its time; nothing elsewhere."""
    console = _console(sys.stderr)
    if not console.is_terminal:
        yield
        return
    from rich.text import Text

    with console.status(Text(text)):
        yield


def _say(message: str) -> None:
    print(f"fullbatch: {' '.join(message.split())}", file=sys.stderr, flush=True)


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(_json_ready(value), allow_nan=False), flush=True)


def _json_ready(value: Any) -> Any:
    """With null for what JSON has no number for: NaN, where a score is not defined."""
    if isinstance(value, dict):
        return {key: _json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
