"""What can be typed: the values that options know, and the checks of what was given to them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from fullbatch.command.clicking import argument, file_path, flag, option, several
from fullbatch.core import activations
from fullbatch.core.losses import OF_NUMBERS
from fullbatch.errors import InputError
from fullbatch.tables.fit import Settings
from fullbatch.training.optimizers import OPTIMIZERS

SOLVERS = (*OPTIMIZERS, "lbfgs")
ACTIVATIONS = tuple(map(str, activations.ACTIVATIONS))
TASKS = ("classify", "regress")
FORMATS = ("csv", "tsv", "parquet", "arrow")
DTYPES = ("float32", "float64")
PRECISIONS = ("tf32",)


# Checks of what was typed, or of None where nothing was. They hand it on, or raise BadParameter.


def one_of(known: Sequence[str]) -> Callable[[str | None], str | None]:
    def check(value: str | None) -> str | None:
        if value is not None and value not in known:
            raise click.BadParameter(f"{value!r} is unknown; the known ones are {', '.join(known)}.")
        return value

    return check


def positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter(f"{value:g} is out of range; give a number larger than 0.")
    return value


def not_negative(value: float | None) -> float | None:
    if value is not None and not 0 <= value < math.inf:
        raise click.BadParameter(f"{value:g} is out of range; give 0 or a larger number.")
    return value


def share(value: float | None) -> float | None:
    if value is not None and not 0 <= value < 1:
        raise click.BadParameter(f"{value:g} is out of range; give a share of at least 0 and less than 1.")
    return value


def share_or_file(value: str) -> float | Path:
    """The share of the rows to hold out; or a file, where it is no number."""
    try:
        number = float(value)
    except ValueError:
        return file_path(value)
    if not 0 <= number < 1:
        raise click.BadParameter(
            f"{value} is out of range; give a share of at least 0 and less than 1, or a file.",
            param_hint="'--validation'",
        )
    return number


def probability(value: str | None) -> float | Literal["auto"] | None:
    """A threshold: above 0 and below 1, or "auto"."""
    if value is None or value == "auto":
        return None if value is None else "auto"
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < 1:
        raise click.BadParameter(
            f"{value!r} is no threshold; give a probability above 0 and below 1, or auto.", param_hint="'--threshold'"
        )
    return number


def class_weights(value: str | None, classes: Sequence[Any] | None) -> Any:
    """The weight of each class: "balanced", or 'no=1,yes=5', where a name may have "=" and "," itself.

    classes : None: they are not known yet, so that the form alone is checked
    """
    if value is None or value == "balanced":
        return value
    found: dict[str, float] = {}
    name = ""
    for part in value.split(","):
        name, _, number = (name + part).rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            name = f"{name}={number}," if name else f"{number},"
            continue
        if name.strip() in found:
            raise click.BadParameter(
                f"it gives class {name.strip()!r} two weights; expected one.", param_hint="'--class-weight'"
            )
        found[name.strip()], name = weight, ""
    if name or not found:
        raise click.BadParameter(
            f"{value!r} gives no weights; give balanced, or a number for each class: 'no=1,yes=5'.",
            param_hint="'--class-weight'",
        )
    if classes is None:
        return found
    texts = {str(label).lower() if isinstance(label, bool) else str(label): label for label in classes}
    if unknown := [name for name in found if name not in texts]:
        known = ", ".join(map(repr, texts))
        raise InputError(f"--class-weight: the target has no class {unknown[0]!r}; its classes are {known}.")
    return {texts[name]: weight for name, weight in found.items()}


def layer_sizes(value: str | None) -> tuple[int, ...] | None:
    """The units of each hidden layer: "64,32" -> (64, 32); "none" -> ()."""
    if value is None:
        return None
    if value.strip().lower() == "none":
        return ()
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isascii() and part.isdecimal() and 0 < int(part) <= 10**6 for part in parts):
        raise click.BadParameter(
            f"{value!r} is not a list of layer sizes; give units per layer, as 64,32, or none.", param_hint="'--hidden'"
        )
    return tuple(int(part) for part in parts)


def dropout_rates(value: str | None) -> float | tuple[float, ...] | None:
    """One rate, or one for each hidden layer: "0.2" -> 0.2; "0.2,0.5" -> (0.2, 0.5)."""
    if value is None:
        return None
    try:
        rates = tuple(map(float, value.split(",")))
    except ValueError:
        rates = (math.nan,)
    if not all(0 <= rate < 1 for rate in rates):
        raise click.BadParameter(
            f"{value!r} is no rate of dropout; give one of at least 0 and below 1, as 0.2, or one for each hidden "
            "layer, as 0.2,0.5.",
            param_hint="'--dropout'",
        )
    return rates if len(rates) > 1 else rates[0]


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}  # bytes in each


def table_size(value: str | None) -> str | None:
    """Memory of a table, in bytes: "2GB"."""
    if value is not None and (memory_size(value, "--memory") or 0) <= 1:
        raise click.BadParameter(f"{value!r} is no amount of bytes; give one, such as 2GB.", param_hint="'--memory'")
    return value


def memory_size(value: str | None, option: str = "--device-memory") -> float | None:
    """Memory of a GPU: "8GB", "7.5 GiB" and "8e9" are bytes; "0.5" is a share of it."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?) ?(?:([kmg]i?)?b)?", value.strip().lower())
    try:
        number = float(found[1]) * UNITS[found[2] or ""] if found else math.nan
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise click.BadParameter(
            f"{value!r} is no amount of memory; give bytes, such as 8GB, or a share above 0 and up to 1, such as 0.5.",
            param_hint=f"'{option}'",
        )
    return number


def batch_size_text(value: str | None) -> str | None:
    if value is not None and value != "full" and not (value.isascii() and value.isdecimal() and int(value) > 0):
        raise click.BadParameter(f"{value!r} is no batch size; give a whole number of at least 1, or full.")
    return value


def column_names(values: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The columns that an option names, several times or with commas between; a name that has commas stays whole."""
    names: list[str] = []
    for value in values:
        names += [value] if value in known else [part.strip() for part in value.split(",") if part.strip()]
    return tuple(names)


def date_formats(values: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The formats of columns, "born=%d/%m/%Y", and those of any column, "%d/%m/%Y".

    The name is what stands before the last "=" that no "%" comes before; a format has none there.
    """
    named: dict[str, str] = {}
    anywhere: list[str] = []
    for value in values:
        before, percent, behind = value.partition("%")
        name, equals, start = before.rpartition("=")
        if not equals:
            anywhere.append(value)
        elif named.setdefault(name, start + percent + behind) != start + percent + behind:
            raise InputError(f"--date-format gives column {name!r} two formats; expected one.")
    return named, tuple(anywhere)


DEFAULT = Settings()
# The panels of the help, whose columns have a width of their own each; an option without one says how the command runs.
DATA = "Data (which columns, and how they are read)"
NETWORK = "Network"
TRAINING = "Training"
SCORED = "Weights, held-out rows and scores"
MACHINE = "Machine"
OUTPUT = "Output"
categorical = several("--categorical", metavar="A,B", help="Columns that are categories.", panel=DATA)
numeric = several("--numeric", metavar="C,D", help="Columns that are numbers.", panel=DATA)
drop = several("--drop", metavar="E,F", help="Columns to leave out.", panel=DATA)
only_columns = several("--columns", "only", metavar="G,H", help="Learn from these columns alone.", panel=DATA)
missing = several(
    "--missing", metavar="WORDS", help="More words or numbers for a missing value, as unknown,-999.", panel=DATA
)
keep_missing_words = flag(
    "--keep-missing-words", help="NA and its like are texts; only empty cells are missing.", panel=DATA
)
decimal = option(
    "--decimal",
    metavar="MARK",
    default=".",
    check=one_of((".", ",")),
    help="Before the decimals of numbers: . or a comma.",
    panel=DATA,
)
date_format = several("--date-format", metavar="[COLUMN=]F", help="A format of dates, as born=%d/%m/%Y.", panel=DATA)
weight = option("--weight", metavar="COLUMN", help="What each row counts; no feature.", panel=SCORED)
metric = option(
    "--metric", metavar="NAME", help="Score by a name of scikit-learn's scoring too, such as f1.", panel=SCORED
)
split_by = option("--split-by", metavar="COLUMN", help="Hold out the last rows by this number or date.", panel=SCORED)
group = option("--group", metavar="COLUMN", help="Hold out whole groups, its values; no feature.", panel=SCORED)
loss_of_numbers = option(
    "--loss",
    metavar="NAME",
    check=one_of(OF_NUMBERS),
    help=f"Of a number: {', '.join(OF_NUMBERS)}.",
    show_default=DEFAULT.loss,
    panel=NETWORK,
)
log_target = flag("--log-target", help="Learn the logarithm of a target that is a number.", panel=NETWORK)
task = option(
    "--task",
    metavar="NAME",
    check=one_of(TASKS),
    help="classify or regress.",
    show_default="by the target column",
    panel=DATA,
)
max_levels = option(
    "--max-levels",
    metavar="N",
    type=click.IntRange(min=1),
    default=DEFAULT.max_levels,
    help="Levels per category column; rarer ones share one.",
    panel=DATA,
)
validation = option(
    "--validation",
    metavar="X|FILE",
    default=str(DEFAULT.validation),
    help="Share of the rows to hold out, or a table of them.",
    panel=SCORED,
)
quiet = flag("--quiet", "-q", help="No progress and no tables.", panel=OUTPUT)
as_json = flag("--json", "as_json", help="Print one JSON object on one line instead of tables.", panel=OUTPUT)
model_argument = argument(
    "model", metavar="MODEL", type=file_path, required=True, help="A model file that train wrote."
)
data_arguments = argument(
    "data",
    metavar="DATA...",
    nargs=-1,
    type=file_path,
    required=True,
    check=list,
    help="One or more files of one table, a folder, 'PATTERN' or URL: .csv, .csv.gz, .parquet, .arrow.",
)
data_argument = argument(
    "data",
    metavar="DATA",
    type=file_path,
    required=True,
    help="A file (.csv, .csv.gz, .parquet, .arrow), a folder, 'PATTERN' or URL of some; or a store.",
)
form = option(
    "--format",
    "form",
    metavar="NAME",
    check=one_of(FORMATS),
    help=f"Of standard input, as DATA -: {', '.join(FORMATS)}.",
    panel=DATA,
)
BY_ROWS = "by the number of rows"


def check_distinct(inputs: Mapping[str, Path | None], outputs: dict[str, Path | None]) -> None:
    """No output may take the place of an input or of another output."""
    seen: dict[str, str] = {os.path.realpath(path): name for name, path in inputs.items() if path}
    for name, path in outputs.items():
        if path is None:
            continue
        other = seen.setdefault(os.path.realpath(path), name)
        if other != name:
            raise InputError(f"{name} and {other} are the same file, {path}; give the output another name.")
