"""What the terminal shows at the end of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from bench.own import USUAL
from bench.profile import PARTS as PROFILE
from bench.results import Result
from bench.roofline import wrong
from bench.training import MARGIN

WIDTH = 240
ENOUGH = 3  # rounds for a median


@dataclass(frozen=True)
class Grid:
    """A table. The first ``text`` columns are words, the others numbers.

    spare : columns that may go where the terminal is narrow, the first to go first
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: int = 1
    spare: Sequence[str] = ()


def console(**options: Any) -> Console:
    """One that prints what a result says as it is: a name with brackets is no markup."""
    return Console(markup=False, emoji=False, **options)


def show(result: Result, console: Console) -> None:
    """The tables of a result, and what they say in words."""
    if not console.is_terminal:
        console.width = WIDTH  # of a file or a pipe nothing is known, and half a number is worse than a long line
    console.print(result.machine.short, highlight=False)
    for grid in TABLES[result.kind](result):
        console.print(fitted(grid, console), highlight=False)
    for line in WORDS[result.kind](result):
        console.print(line, highlight=False, soft_wrap=not console.is_terminal)


def fitted(grid: Grid, console: Console) -> Table | str:
    """The table without as many of its spare columns as it takes to fit; where nothing helps, a line for each cell."""
    there = list(range(len(grid.columns)))
    for column in ("", *grid.spare):
        if column:
            there.remove(list(grid.columns).index(column))
        made = _table(grid, there)
        width = Measurement.get(console, console.options.update(max_width=10_000), made).maximum
        if width <= console.width:
            return made
    return made if width - _to_spare(grid) <= console.width else _lines(grid)


def _table(grid: Grid, there: Sequence[int]) -> Table:
    made = Table(title=grid.title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index in there:
        words = index < grid.text
        made.add_column(grid.columns[index], justify="left" if words else "right", no_wrap=not words)
    for row in grid.rows:
        made.add_row(*(row[index] for index in there))
    return made


def _to_spare(grid: Grid) -> int:
    """By how much the columns of words become narrower where they are broken at every space."""
    spare = 0
    for index in range(grid.text):
        cells = [grid.columns[index], *(row[index] for row in grid.rows)]
        spare += max(map(len, cells)) - max(len(word) for cell in cells for word in (cell.split() or [""]))
    return spare


def _lines(grid: Grid) -> str:
    parts = [grid.title, ""]
    for row in grid.rows:
        heads = (" ".join(head.split()) for head in grid.columns)
        parts += [f"{head}: {cell}" if head else cell for head, cell in zip(heads, row, strict=True) if cell]
        parts.append("")
    return "\n".join(parts)


def ms(timing: dict[str, Any] | None) -> str:
    """Milliseconds of a timing, to three figures: "12.3"; a dash where no round was begun, a word if none was quiet."""
    return "-" if timing is None else figures(1000 * timing["median"]) + " disturbed" * timing.get("disturbed", False)


def spread(timing: dict[str, Any] | None) -> str:
    """The slowest sample over the fastest, in per cent."""
    return "-" if timing is None else f"{100 * (timing['max'] / timing['min'] - 1):.0f} %"


def figures(value: float | None) -> str:
    """Three significant figures without an exponent; a dash for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratio(value: float | None) -> str:
    """ "1.23", "12.3"; a dash for None."""
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def per_cent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def off_by(error: float | None) -> str:
    """The error of a gradient, to one figure: "6e-07"; nothing where there is none, as of an epoch."""
    return "" if error is None else f"{error:.0e}"


def errors_of_gradient(points: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of each backend or contender of the points that gives a gradient: the largest error, against float64."""
    told: dict[str, float] = {}
    for p in points:
        found = p.get("error_of_gradient")
        for name, error in ({p["backend"]: found} if isinstance(found, float | int) else found or {}).items():
            told[name] = max(error, told.get(name, 0.0))
    return told


def accuracy(points: Sequence[dict[str, Any]]) -> str:
    """The errors of gradients, in words; empty where none of the points tells."""
    told = ", ".join(f"{name} {off_by(error)}" for name, error in errors_of_gradient(points).items())
    return f"Gradient off by at most, against float64: {told}." if told else ""


def megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:,.1f}"


# --- Scaling --------------------------------------------------------------------------------------------------


def _scaling(result: Result) -> list[Grid]:
    columns = ["network", "backend", "m", "ms", "spread", "M examples/s", "GFLOP/s", "of roof", "extra MB"]
    ordered = sorted(result.points, key=lambda p: (p["shape"], p["m"], p["backend"]))
    rows = [
        [
            p["shape"], p["backend"], f"{p['m']:,}", ms(p["seconds"]), spread(p["seconds"]),
            figures(p["examples_per_second"] and p["examples_per_second"] / 1e6), figures(p["gflops"]),
            per_cent(p["fraction"]) + wrong(p["fraction"]), megabytes(p["extra_bytes"]),
        ]
        for p in ordered
    ]  # fmt: skip
    spare = ["spread", "GFLOP/s", "extra MB", "of roof", "M examples/s"]
    if errors_of_gradient(ordered):
        columns.append("gradient off by")
        rows = [[*row, off_by(p.get("error_of_gradient"))] for row, p in zip(rows, ordered, strict=True)]
        spare.insert(3, columns[-1])
    return [Grid("One full-batch cost and gradient", columns, rows, text=2, spare=spare)]


def _scaling_words(result: Result) -> list[str]:
    lines = [
        f"{g['backend']}, {g['shape']}, m {g['from']:,} to {g['to']:,}: time "
        f"{100 * (g['time_over_proportional'] - 1):+.0f} % against proportion"
        + ("." if g["extra_bytes_more"] is None else f", memory {g['extra_bytes_more'] / 1e6:+.1f} MB.")
        for g in result.summary.get("growth", [])
    ]
    lines += [crossing(c) for c in result.summary.get("crossover", [])]
    shared = {(p["shape"], p["m"]): p for p in result.points}  # by all backends
    return [*lines, *filter(None, [rounds(list(shared.values())), accuracy(result.points)])]


def crossing(c: dict[str, Any]) -> str:
    """Where the GPU overtakes the CPU, in words."""
    if c["m"] is None:
        return (
            f"{c['shape']}: the GPU does not overtake the CPU ({c['cpu']}) up to m = {c['top_m']:,} "
            f"(ratio {c['top_ratio']:.2f})."
        )
    return (
        f"{c['shape']}: the GPU overtakes the CPU ({c['cpu']}) at m = {figures(c['m'])}; "
        f"at m = {c['top_m']:,} it is {figures(c['top_ratio'])} times as fast."
    )


# --- Peers ----------------------------------------------------------------------------------------------------

PARTS = {"step": "One full-batch cost and gradient", "epoch": "One epoch of mini-batch Adam"}


def allocators(points: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(p["allocator"] for p in points))


def cases(points: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(p["case"] for p in points))


def contenders(points: Sequence[dict[str, Any]]) -> list[str]:
    """Who was timed in any of the points, in order."""
    return list(dict.fromkeys(name for p in points for name in p["times"]))


def _peers(result: Result) -> list[Grid]:
    grids = []
    for part, title in PARTS.items():
        points = [p for p in result.points if p["part"] == part]
        for case in cases(points):
            here = {p["allocator"]: p for p in points if p["case"] == case}
            m = next(iter(here.values()))["m"]
            grids.append(_peer_grid(f"{title}: {case}, m = {m:,}", here, allocators(result.points)))
        if points:
            grids.append(ratios(result, part))
        if part == "step" and (overall := means(result)):
            grids.append(overall)
    return grids


def _peer_grid(title: str, points: dict[str, dict[str, Any]], columns: Sequence[str]) -> Grid:
    """A row for each contender; for each allocator its ms, spread and ratio to fullbatch."""
    names = contenders(list(points.values()))
    steps = {name: step for p in points.values() for name, step in p["steps"].items()}
    rows = [
        [
            f"{name} ({steps[name]})" if name in steps else name,
            *(cell for a in columns for cell in _cells(points.get(a), name)),
        ]
        for name in names
    ]
    heads = [f"{what}\n{a}" for a in columns for what in ("ms", "spread", "ratio")]
    if off := errors_of_gradient(list(points.values())):
        heads.append("gradient\noff by")
        rows = [[*row, off_by(off.get(name))] for row, name in zip(rows, names, strict=True)]
    spare = [f"spread\n{a}" for a in columns] + [f"ms\n{a}" for a in columns[1:]]
    return Grid(title, ["", *heads], rows, spare=spare)


def _cells(point: dict[str, Any] | None, name: str) -> tuple[str, str, str]:
    timing = point["times"].get(name) if point else None
    own = point["times"].get(USUAL) if point else None
    return ms(timing), spread(timing), ratio(timing["median"] / own["median"] if timing and own else None)


def ratios(result: Result, part: str) -> Grid:
    """A row for each case and own way: its step, share of the machine's limit, how many times as fast as the others."""
    rows = [row for row in result.summary["rows"] if row["part"] == part]
    by = {(row["case"], row["own"], row["allocator"]): row for row in rows}
    columns: dict[str, Callable[[dict[str, Any]], str]] = {"of the limit": _of_limit}
    if part == "step":
        columns["over the fastest as people use it"] = _fastest("as_used")
        columns["over the fastest by hand"] = _fastest("by_hand")
    else:
        columns |= {f"over {name}": _over(name) for name in dict.fromkeys(name for row in rows for name in row["over"])}
    names = allocators(result.points)

    def cell(case: str, own: str, value: Callable[[dict[str, Any]], str]) -> str:
        return " / ".join(value(by[case, own, a]) if (case, own, a) in by else "-" for a in names)

    cells = [
        [case, own, step, *(cell(case, own, value) for value in columns.values())]
        for case, own, step in dict.fromkeys((row["case"], row["own"], row["step"]) for row in rows)
    ]
    title = f"{PARTS[part]}: how many times as fast; {' / '.join(names)} allocator"
    return Grid(title, ["", "", "step", *columns], cells, text=3, spare=["step"])


def _of_limit(row: dict[str, Any]) -> str:
    """ "65 % of sgemm" or "61 % of read": of the limit that bounds the shape."""
    return f"{per_cent(row['of_limit'])} of {row['limit']}{wrong(row['of_limit'])}"


def _fastest(kind: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: f"{ratio(row[kind]['ratio'])} ({row[kind]['name']})" if row[kind] else "-"


def _over(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: ratio(row["over"].get(name))


def _peers_words(result: Result) -> list[str]:
    return [rounds(result.points), *filter(None, [accuracy(result.points)]), *few(result.points)]


def few(points: Sequence[dict[str, Any]]) -> list[str]:
    """Where dropped rounds have left no median worth the name, in words."""
    told = [(f"{p['case']}, {p['allocator']} allocator", p["rounds"]) for p in points]
    return [
        f"{where}: {r['kept'] or 'none'} of {r['kept'] + r['dropped']} rounds kept."
        for where, r in told
        if r["dropped"] and r["kept"] < ENOUGH
    ]


def rounds(points: Sequence[dict[str, Any]]) -> str:
    """How the rounds went, in words; empty where none of the points tells."""
    told = [p["rounds"] for p in points if "rounds" in p]
    kept, dropped = (sum(r[key] for r in told) for key in ("kept", "dropped"))
    short = sum(r.get("cut", False) for r in told)
    words = f" {short} of {len(told)} points have fewer than they should: the budget was used up." if short else ""
    spoilt = sum(bool(r.get("disturbed")) for r in told)
    if spoilt:
        words += (
            f" {spoilt} of {len(told)} points are disturbed: no round was quiet, and the least disturbed ones count."
        )
    return f"Rounds: {kept} kept, {dropped} dropped.{words}" if told else ""


def means(result: Result) -> Grid | None:
    """A row for each own way: the geometric means over the first cases, and the least of them."""
    rows = result.summary.get("geometric_means", [])
    if not rows:
        return None
    by = {(row["own"], row["allocator"]): row for row in rows}
    names = allocators(result.points)

    def cell(own: str, kind: str) -> str:
        found = [by[own, a][kind] if (own, a) in by else None for a in names]
        return " / ".join(f"{ratio(f['ratio'])} ({ratio(f['least'])})" if f else "-" for f in found)

    cells = [[own, cell(own, "as_used"), cell(own, "by_hand")] for own in dict.fromkeys(row["own"] for row in rows)]
    title = f"Geometric mean of the first {rows[0]['cases']} (and the least); {' / '.join(names)} allocator"
    return Grid(title, ["", "over the fastest as people use it", "over the fastest by hand"], cells)


# --- Training -------------------------------------------------------------------------------------------------


def _training(result: Result) -> list[Grid]:
    columns = ["data", "", "step", "seconds", "epochs", "ratio", "seeds"]
    rows = [
        [
            row["data"], row["contender"], row["step"],
            figures(row["seconds"]) + " disturbed" * bool(row.get("disturbed")), figures(row["epochs"]),
            ratio(row["ratio"]), f"{row['reached']} of {row['seeds']}",
        ]
        for row in result.summary.get("times", [])
    ]  # fmt: skip
    title = (
        f"Seconds to scikit-learn's held-out log-loss ({per_cent(MARGIN - 1)} above it at most); "
        "the ratio is to fullbatch; of the seeds, how many reach it"
    )
    return [Grid(title, columns, rows, text=3, spare=["step", "epochs"])]


def _training_words(result: Result) -> list[str]:
    targets = result.summary.get("targets", {}).items()
    words = [f"{name}: held-out log-loss to reach: {loss:.4f}" for name, loss in targets]
    return [*words, *filter(None, [rounds(result.points)])]


# --- The profile ----------------------------------------------------------------------------------------------


def profile(result: Result) -> list[Grid]:
    """A row for each step or epoch: its time, and of that the parts in per cent."""
    grids = []
    for title, epochs in (("One full-batch cost and gradient", False), ("One epoch of mini-batch Adam", True)):
        splits = [s for s in result.summary.get("splits", []) if (s["batch"] is not None) == epochs]
        names = [name for name in PROFILE if any(s["parts"].get(name) is not None for s in splits)]
        rows = [
            [
                s["shape"] if s["batch"] is None else f"{s['shape']}, batches of {s['batch']}",
                s["step"], f"{s['m']:,}",
                figures(1000 * s["whole"]) + " disturbed" * s.get("disturbed", False),
                *(_share(s, name) for name in names),
                figures(s["reading"] and 1000 * s["reading"]), ratio(s["one_thread"] / s["whole"]),
            ]
            for s in splits
        ]  # fmt: skip
        columns = ["network", "step", "m", "ms", *names, "X read alone, ms", "one thread over all"]
        if rows:
            grids.append(Grid(f"{title}: where the time goes", columns, rows, text=2, spare=["step"]))
    return grids


def _share(split: dict[str, Any], name: str) -> str:
    seconds = split["parts"].get(name)
    return per_cent(None if seconds is None else seconds / split["whole"])


def profile_words(result: Result) -> list[str]:
    return [
        "Products: at the rate of the machine's own large one. Call, activation, optimiser and order: by difference "
        "of medians, the same without it. Rest: what is left.",
        *filter(None, [rounds(result.points)]),
    ]


TABLES = {"scaling": _scaling, "peers": _peers, "training": _training, "profile": profile}
WORDS = {"scaling": _scaling_words, "peers": _peers_words, "training": _training_words, "profile": profile_words}
