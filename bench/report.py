"""What the terminal shows at the end of a run."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.results import Result

WIDTH = 160


def show(result: Result, console: Console) -> None:
    """The tables of a result, and what they say in words."""
    if not console.is_terminal:
        console.width = WIDTH  # of a file or a pipe nothing is known, and half a number is worse than a long line
    console.print(result.machine.short, highlight=False)
    for part in TABLES[result.kind](result):
        console.print(part)
    for line in WORDS[result.kind](result):
        console.print(line, highlight=False, soft_wrap=True)


def table(title: str, columns: list[str], rows: list[list[str]], *, text: int = 1) -> Table:
    """A table whose first ``text`` columns are words and the others numbers."""
    made = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index < text else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def ms(timing: dict[str, Any] | None) -> str:
    """Milliseconds of a timing, to three figures: "12.3"; a dash where no round was kept."""
    return "-" if timing is None else figures(1000 * timing["median"])


def spread(timing: dict[str, Any] | None) -> str:
    """The slowest sample over the fastest, in per cent."""
    return "-" if timing is None else f"{100 * (timing['max'] / timing['min'] - 1):.0f} %"


def figures(value: float | None) -> str:
    """Three significant figures without an exponent; a dash for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:,.1f}"


# --- Scaling --------------------------------------------------------------------------------------------------


def _scaling(result: Result) -> list[Table]:
    columns = ["network", "backend", "m", "ms", "spread", "M examples/s", "GFLOP/s", "of roofline", "extra MB"]
    ordered = sorted(result.points, key=lambda p: (p["shape"], p["m"], p["backend"]))
    rows = [
        [
            p["shape"], p["backend"], f"{p['m']:,}", ms(p["seconds"]), spread(p["seconds"]),
            figures(p["examples_per_second"] and p["examples_per_second"] / 1e6), figures(p["gflops"]),
            "-" if p["fraction"] is None else f"{100 * p['fraction']:.0f} %", megabytes(p["extra_bytes"]),
        ]
        for p in ordered
    ]  # fmt: skip
    return [table("One full-batch cost and gradient", columns, rows, text=2)]


def _scaling_words(result: Result) -> list[str]:
    lines = [
        f"{g['backend']}, {g['shape']}, m from {g['from']:,} to {g['to']:,}: time grows "
        f"{100 * (g['time_over_proportional'] - 1):+.0f} % against proportion"
        + ("." if g["extra_bytes_more"] is None else f", extra memory by {g['extra_bytes_more'] / 1e6:+.1f} MB.")
        for g in result.summary.get("growth", [])
    ]
    return lines + [crossing(c) for c in result.summary.get("crossover", [])]


def crossing(c: dict[str, Any]) -> str:
    """Where the GPU overtakes the CPU, in words."""
    if c["m"] is None:
        return f"{c['shape']}: the GPU does not overtake the CPU up to m = {c['top_m']:,} (ratio {c['top_ratio']:.2f})."
    return (
        f"{c['shape']}: the GPU overtakes the CPU at m = {figures(c['m'])}; "
        f"at m = {c['top_m']:,} it is {figures(c['top_ratio'])} times as fast."
    )


# --- Peers ----------------------------------------------------------------------------------------------------


def _peers(result: Result) -> list[Table]:
    titles = {"step": "One full-batch cost and gradient", "epoch": "One epoch of mini-batch Adam"}
    return [
        table(title, _peer_columns(result), rows, text=2)
        for part, title in titles.items()
        if (rows := _peer_rows([p for p in result.points if p["part"] == part]))
    ]


def _allocators(points: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(p["allocator"] for p in points))


def _peer_columns(result: Result) -> list[str]:
    return ["network", "", *(f"{a}: {what}" for a in _allocators(result.points) for what in ("ms", "spread", "ratio"))]


def _peer_rows(points: list[dict[str, Any]]) -> list[list[str]]:
    """For each case a row for each contender, and for each allocator its ms, spread and ratio to fullbatch."""
    by = {(p["case"], p["allocator"]): p for p in points}
    rows = []
    for case in dict.fromkeys(p["case"] for p in points):
        here = [by.get((case, allocator)) for allocator in _allocators(points)]
        for name in dict.fromkeys(name for p in here if p for name in p["times"]):
            cells = [cell for p in here for cell in _cells(p, name)]
            rows.append([case, name, *cells])
    return rows


def _cells(point: dict[str, Any] | None, name: str) -> tuple[str, str, str]:
    timing = point["times"].get(name) if point else None
    own = point["times"].get("fullbatch") if point else None
    ratio = f"{timing['median'] / own['median']:.2f}" if timing and own else "-"
    return ms(timing), spread(timing), ratio


def _peers_words(result: Result) -> list[str]:
    kept, dropped = (sum(p["rounds"][key] for p in result.points) for key in ("kept", "dropped"))
    lines = [f"Rounds: {kept} kept, {dropped} dropped."]
    lines += [
        f"{row['case']} ({row['allocator']} allocator): the fastest as people use it is {row['fastest']}, "
        f"{row['ratio']:.2f} times the time of fullbatch."
        for row in result.summary.get("ratios", [])
    ]
    return lines + [mean(row) for row in result.summary.get("geometric_means", [])]


def mean(row: dict[str, Any]) -> str:
    """The geometric mean over the first cases, in words."""
    return (
        f"Geometric mean of the ratios of the first {row['cases']} ({row['allocator']} allocator): {row['ratio']:.2f}, "
        f"the least {row['least']:.2f}."
    )


# --- Training -------------------------------------------------------------------------------------------------


def _training(result: Result) -> list[Table]:
    columns = ["data", "", "seconds to the loss", "epochs", "ratio"]
    rows = [
        [
            row["data"], row["contender"], figures(row["seconds"]) + ("" if row["reached"] == row["seeds"] else
            f" ({row['reached']} of {row['seeds']} seeds)"), figures(row["epochs"]), figures(row["ratio"]),
        ]
        for row in result.summary.get("times", [])
    ]  # fmt: skip
    return [
        table(
            "Time to scikit-learn's held-out log-loss (0.1 % above it at most); the ratio is to fullbatch",
            columns,
            rows,
            text=2,
        )
    ]


def _training_words(result: Result) -> list[str]:
    return [
        f"{name}: held-out log-loss to reach: {loss:.4f}" for name, loss in result.summary.get("targets", {}).items()
    ]


TABLES = {"scaling": _scaling, "peers": _peers, "training": _training}
WORDS = {"scaling": _scaling_words, "peers": _peers_words, "training": _training_words}
