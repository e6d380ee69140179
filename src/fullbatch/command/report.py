"""What a person sees: tables of scores, facts, the drawing of the costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import IO, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fullbatch.errors import InputError

MOST_PRINTED_CLASSES = 8  # A confusion matrix of more classes is wider than a terminal; --json has it.
RARE = 0.05  # A class of a smaller share is rare: who never predicts it has a high accuracy.
PLOT_ENDINGS = (".png", ".pdf", ".svg")


# --- Numbers ------------------------------------------------------------------------------------------------


def count(value: float) -> str:
    """A short form of a large number: 950, 12.3k, 1.25M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}" if value < 999.5 * size else f"{value / size:.0f}{letter}"
    return f"{value:.0f}"


def seconds(value: float) -> str:
    """A duration as a person says it: 0.31 s, 12 s, 3 min 20 s."""
    if value < 60:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def score(name: str, value: float) -> str:
    """A score as a person reads it: shares in per cent, the rest to four digits."""
    if value is None or math.isnan(value):
        return "not defined"
    if name == "accuracy":
        return f"{100 * value:.2f} %"
    return f"{value:,.4f}" if abs(value) < 1e4 else f"{value:,.0f}"


# --- Tables -------------------------------------------------------------------------------------------------

# Each score by its key: how a table calls it, and whether more of it is better.
SCORES = {
    "accuracy": ("accuracy", "more is better"),
    "auc": ("AUC", "more is better"),
    "average_precision": ("average precision", "more is better"),
    "log_loss": ("log-loss", "less is better"),
    "r2": ("R²", "more is better"),
    "rmse": ("root mean squared error", "less is better"),
    "mae": ("mean absolute error", "less is better"),
}


def print_scores(
    out: Console,
    title: str,
    columns: Mapping[str, Mapping[str, Any]],
    classes: Sequence[Any] = (),
    weight: str | None = None,
) -> None:
    """The scores of one or more predictors, one column each; the first is the one that matters.

    classes : of a classification; where they are few, the first predictor's confusion matrix is printed
    weight : what the rows are weighed by, if they are
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for index, name in enumerate(columns):
        table.add_column(Text(name), justify="right", style="bold green" if index == 0 else "")
    table.add_column("", style="dim")
    for key, (label, better) in SCORES.items():
        values = [scores[key] for scores in columns.values() if key in scores]
        if values:
            table.add_row(label, *(score(key, value) for value in values), better)
    if asked := [scores["metric"] for scores in columns.values() if scores.get("metric")]:
        table.add_row(Text(asked[0]["name"]), *(score("metric", one["value"]) for one in asked), "more is better")
    out.print()
    out.print(Text(title, style="bold"))
    out.print(table)
    if 2 <= len(classes) <= MOST_PRINTED_CLASSES:
        out.print(confusion(classes, next(iter(columns.values()))["confusion_matrix"], weight))
    if classes and (line := rare_line(classes, next(iter(columns.values()))["confusion_matrix"], weight)):
        out.print(Text(line))


def scores_title(target: str, m: int, chose: Sequence[str]) -> str:
    """What stands above scores on held-out rows. chose : what these have chosen: they are not unseen then"""
    if chose:
        return f"{target}: scores on {m:,} held-out rows, which chose the {' and the '.join(chose)}"
    return f"{target}: scores on {m:,} rows that the model has not seen"


def rare_line(classes: Sequence[Any], matrix: Sequence[Sequence[float]], weight: str | None = None) -> str:
    """What is said of the rarest class, where accuracy says little because it is rare: else ""."""
    own = [sum(row) for row in matrix]
    there = [j for j, rows in enumerate(own) if rows]
    rarest = min(there, key=own.__getitem__)
    share = own[rarest] / sum(own)
    if len(there) < 2 or share >= RARE:
        return ""
    better = "average precision" if len(classes) == 2 and rarest == 1 else "the matrix"
    right = matrix[rarest][rarest]
    many, found = f", {own[rarest]:,.0f}", f"{right:,.0f}"
    if weight is not None:
        many, found = " by weight", f"{100 * right / own[rarest]:.2g} %"
    return (
        f"{plain(classes[rarest])!r} is in {100 * share:.2g} % of these rows{many}, of which {found} are found: "
        f"accuracy says little here, {better} more."
    )


def one_class_line(classes: Sequence[Any], matrix: Sequence[Sequence[float]], m: int, threshold: float | None) -> str:
    """What is said where all predictions are of one class, though the rows are not: else ""."""
    predicted = [j for j, column in enumerate(zip(*matrix, strict=True)) if sum(column)]
    if len(predicted) != 1 or sum(1 for row in matrix if sum(row)) < 2:
        return ""
    cure = "; --threshold auto chooses one that tells the classes apart" if len(classes) == 2 and not threshold else ""
    return f"all {m:,} predictions are {plain(classes[predicted[0]])!r}{cure}."


def plain(label: Any) -> str:
    """A class as tables of predictions have it: true and false are no words of Python's."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def held_out_text(m: int, rows: int, how: str) -> str:
    """How many rows are held out beside those that are learned from, and by which rule."""
    return f"{m:,} rows, {100 * m / (m + rows):.3g} %: {how}"


def confusion(classes: Sequence[Any], matrix: Sequence[Sequence[float]], weight: str | None = None) -> Table:
    """Rows of each true class (a line) that are predicted as each class (a column)."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"{'rows' if weight is None else 'weights'} that are | predicted as", style="bold")
    for label in classes:
        table.add_column(Text(plain(label)), justify="right")
    for i, (label, counts) in enumerate(zip(classes, matrix, strict=True)):
        texts = [f"{value:,.6g}" if value < 1e6 else f"{value:,.0f}" for value in counts]
        cells = [Text(text, style="bold green" if i == j else "") for j, text in enumerate(texts)]
        table.add_row(Text(plain(label)), *cells)
    return table


def facts(pairs: Sequence[tuple[str, str]]) -> Table:
    """Names and what is to be said of each, in two columns; long text is folded, not cut."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in pairs:
        table.add_row(name, Text(text))
    return table


# --- The drawing --------------------------------------------------------------------------------------------


def check_plot(path: str) -> None:
    """Find out before the training whether it can be drawn: InputError for an unknown ending or no matplotlib."""
    from importlib.util import find_spec

    if not path.lower().endswith(PLOT_ENDINGS):
        raise InputError(f"--plot {path}: its ending must be one of {', '.join(PLOT_ENDINGS)}.")
    if find_spec("matplotlib") is None:
        raise InputError("--plot needs matplotlib, which is not installed: pip install 'fullbatch[plot]'.")


def draw_costs(
    file: IO[bytes], form: str, title: str, training: Sequence[float], validation: Sequence[float] = ()
) -> None:
    """Draw the cost of each epoch into an open file. form : "png", "pdf" or "svg"."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)  # pyplot would keep the figure and look for a display, so the canvas is made without it.
    axes = figure.add_subplot()
    few: dict[str, Any] = {"marker": "o", "markersize": 4} if len(training) <= 40 else {}
    axes.plot(range(1, len(training) + 1), training, color="#1f77b4", label="training (mean over the epoch)", **few)
    if len(validation):
        axes.plot(range(1, len(validation) + 1), validation, color="#d95f02", label="held-out rows", **few)
        best = min(range(len(validation)), key=validation.__getitem__)
        axes.annotate(
            f"{validation[best]:.4f}", (best + 1, validation[best]), xytext=(0, 9), textcoords="offset points",
            ha="right" if best > len(validation) / 2 else "left", color="#d95f02",
        )  # fmt: skip
    axes.set_xlabel("epoch")
    axes.set_ylabel("cost J")
    axes.set_title(title, loc="left", fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file, format=form)
