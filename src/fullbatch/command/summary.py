"""What ``fullbatch train`` says of a training that is done: scores, facts, the drawing, and what to try next."""

from __future__ import annotations

import math
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullbatch.command.columns import rows_line, short_lines
from fullbatch.command.printing import console, plural, say

if TYPE_CHECKING:
    from fullbatch.command.progress import TrainingProgress

OF_THE_RECORD = (
    "held_out", "guess", "weight", "held_out_by", "held_out_rows", "held_out_chose", "ended", "left_out", "not_scored",
    "unseen", "report",
)  # fmt: skip
MOST_UNSEEN = 5  # So many columns with levels that only held-out rows have are named.


def draw(path: Path, estimator: Any, name: str) -> None:
    from fullbatch.command.report import draw_costs
    from fullbatch.machine.safe_output import replacing

    title = f"{estimator.network_.encoding.target} of {name}"
    with replacing(path, "the plot") as file:
        draw_costs(file, path.suffix[1:].lower(), title, estimator.loss_curve_, estimator.validation_costs_ or ())


def summary_of(estimator: Any, progress: TrainingProgress) -> dict[str, Any]:
    """What there is to say about a training, as its JSON has it."""
    from fullbatch.machine.threads import thread_count

    encoding, record = estimator.network_.encoding, estimator.record_
    return {
        "target": encoding.target,
        "task": encoding.task,
        "classes": list(encoding.classes),
        "m": record["rows"],
        "columns": len(encoding.feature_names),
        "n": encoding.n,
        "hidden": list(estimator.network_.network.sizes[1:-1]),
        "dropout": record["chosen"]["dropout"],
        "epochs": len(estimator.loss_curve_),
        "epochs_before": progress.before if progress.epochs else len(estimator.loss_curve_),
        "planned": record["chosen"]["epochs"],
        "patient": estimator.patience is not None,
        "cost": float(estimator.loss_curve_[-1]) if estimator.loss_curve_ else None,
        **{name: record.get(name) for name in OF_THE_RECORD},
        "threshold": estimator.network_.threshold,
        "loss": estimator.network_.network.loss.name,
        "quantile": estimator.network_.network.loss.quantile,
        "target_scale": encoding.target_scale.describe(),
        "device": estimator.device_,
        "step": estimator.step_,
        "precision": estimator.precision_,
        "note": estimator.note_,
        "threads": thread_count(estimator.n_jobs),
        "seconds": progress.seconds,
        "examples_per_second": progress.examples_per_second,
    }


def _guess(summary: dict[str, Any]) -> str:
    """What the guess for every row of a regression is."""
    quantile = summary["quantile"]
    return "the mean" if quantile is None else "the median" if quantile == 0.5 else f"the {quantile:g}-quantile"


def _epochs(summary: dict[str, Any]) -> str:
    """How many there were, and how many of them now, where a checkpoint was gone on with."""
    now = summary["epochs"] - summary["epochs_before"]
    return plural(summary["epochs"], "epoch") + (f", {now:,} of them now," if summary["epochs_before"] else "")


def print_training(summary: dict[str, Any], data: Path | None, plot: Path | None) -> None:
    from rich.text import Text

    from fullbatch.command.report import count, facts, print_scores, scores_title, seconds

    out = console(sys.stdout)
    if summary["held_out"]:
        title = scores_title(summary["target"], summary["held_out"]["m"], summary["held_out_chose"])
        guess = "majority guess" if summary["task"] == "classify" else _guess(summary)
        columns = {"model": summary["held_out"], guess: summary["guess"]}
        print_scores(out, title, columns, summary["classes"], summary["weight"])
    else:
        out.print("No rows were held out, so there are no scores to show.")
    threads = f", {plural(summary['threads'], 'thread')}" if summary["device"] == "cpu" else ""
    layers = "-".join(map(str, [summary["n"], *summary["hidden"], _outputs(summary)]))
    rates = summary["dropout"]
    rates = rates if isinstance(rates, list | tuple) else [rates]
    dropout = f", dropout {', '.join(map('{:g}'.format, rates))}" if any(rates) else ""
    pairs = [
        ("data", f"{summary['m']:,} rows of {summary['data']}, read in {seconds(summary['read_seconds'])}"),
        *_rows_facts(summary),
        *short_lines(summary["report"]),
        *([("target", summary["target_scale"])] if summary["target_scale"] else []),
        ("network", f"{layers} from {plural(summary['columns'], 'column')}{dropout}"),
        (
            "training",
            f"{_epochs(summary)} in {seconds(summary['seconds'])}, {count(summary['examples_per_second'])} examples/s",
        ),
        *_choices(summary),
        ("device", f"{summary['device']}, {summary['step']} step, {summary['precision']}{threads}"),
    ]
    if summary["note"]:
        pairs.append(("note", summary["note"]))
    if plot:
        pairs.append(("plot", str(plot)))
    if summary["model"]:
        pairs.append(("model", summary["model"]))
    out.print(facts(pairs))
    # A line of its own, however long: it is to be copied to the prompt as it stands.
    width = max(len(name) for name, _ in pairs)
    out.print(
        Text.assemble((f"{'next':<{width}}  ", "cyan"), f"fullbatch {_next_command(summary, data)}"), soft_wrap=True
    )


def _choices(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Which epoch was kept, why the training ended before its time, and the threshold."""
    from fullbatch.command.report import plain

    lines = []
    if (best := summary["ended"]["best"]) is not None:
        lines += [("", text) for text in _ended(best, summary)]
    if summary["threshold"] is not None:
        positive = plain(summary["classes"][1])
        lines.append(("threshold", f"{summary['threshold']:.6g}: from this probability on, {positive!r} is predicted"))
    return lines


def _ended(best: int, summary: dict[str, Any]) -> list[str]:
    """Of a training whose epoch held-out rows chose: why it ended, what a second one changed, which epoch is kept."""
    last, planned, second = summary["ended"]["epoch"], summary["planned"], summary["ended"]["retraining"]
    first = last if second is None else second["after"]
    early = summary["patient"] and first < planned
    ended = f"ended in epoch {first:,} of {planned:,} by --patience; " if early else ""
    kept = f"the parameters are those of epoch {best:,}, the best on the held-out rows"
    if second is None:
        return [ended + kept]
    before, after = (math.inf if cost is None else cost for cost in second["costs"])
    outcome = f"held-out cost {before:.4f} -> {after:.4f}" if after < before else "which made it no better"
    return [f"{ended}once more from the start for {plural(second['epochs'], 'epoch')}, {outcome}", kept]


def _rows_facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Which rows were held out, which were left out, and which levels only held-out rows have."""
    from fullbatch.command.report import held_out_text

    lines = []
    if text := rows_line(summary["left_out"], summary["report"]["rows"] + sum(summary["left_out"].values())):
        lines.append(("rows", text))
    if summary["held_out"]:
        lines.append(("held out", held_out_text(summary["held_out_rows"], summary["m"], summary["held_out_by"])))
    if text := not_scored(summary):
        lines.append(("", text))
    if unseen := summary["unseen"]:
        columns = ", ".join(f"{name} {100 * share:.3g} %" for name, (share, _) in list(unseen.items())[:MOST_UNSEEN])
        more = ", ..." if len(unseen) > MOST_UNSEEN else ""
        lines.append(("levels", f"held-out rows have some that the others have not: {columns}{more}"))
    return lines


def _next_command(summary: dict[str, Any], data: Path | None) -> str:
    """What to try next: to use the model, or to keep it."""
    from fullbatch.sources.store_file import is_store

    if summary["model"]:
        table = str(data) if data and not is_store(data) else "DATA.csv"
        return shlex.join(["predict", summary["model"], table, "--out", "predictions.csv"])
    of = [str(data), "--target", summary["target"]] if data else []
    return shlex.join(["train", *of, "--model", f"{re.sub(r'[^0-9A-Za-z_-]+', '-', summary['target'])}.fullbatch"])


def _outputs(summary: dict[str, Any]) -> int:
    """The units of the output layer: one for each of several classes, else a single one."""
    return len(summary["classes"]) if len(summary["classes"]) > 2 else 1


def hint(summary: dict[str, Any]) -> None:
    """Say what a person may miss in the scores."""
    from fullbatch.command.report import one_class_line

    scores = summary["held_out"]
    if scores and summary["task"] == "classify":
        line = one_class_line(summary["classes"], scores["confusion_matrix"], scores["m"], summary["threshold"])
        if line:
            say(line)


def not_scored(found: dict[str, Any]) -> str:
    """What is said of held-out rows that have a class of their own. found : a record, or a summary"""
    from fullbatch.tables.roles import said_of_classes

    classes = found["not_scored"]
    if not classes:
        return ""
    return f"{said_of_classes(classes, found['held_out_rows'])}; they are not scored."
