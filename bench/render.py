"""How a result is shown: its figures, its tables and what they say in words, in a terminal, the README and pictures.

A table is described once, by its columns. What is in the README alone or in the terminal alone, a column says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from bench import forms
from bench.own import USUAL
from bench.profile import PARTS as PROFILE
from bench.results import Measured, Result
from bench.roofline import wrong
from bench.tables import BUSY, verdicts
from bench.training import MARGIN

Follows = dict[str, Any]  # a row of what follows from the points
WIDTH = 240
ENOUGH = 3  # rounds for a median


# --- A table --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """Of a table: what its cell of a row is of, a field's name or a function of the row, and how that is written.

    title : in the terminal; None where it is not there;  readme : in the README; None if it is the same
    words : whether the cells are words, and no numbers;  spare : it may go where the terminal is narrow, 1 goes first
    """

    title: str | None
    of: str | Callable[[Any], Any]
    write: Callable[[Any], str] = str
    words: bool = False
    spare: int = 0
    readme: str | None = None
    in_readme: bool = True

    def cell(self, row: Any) -> str:
        return self.write(field_of(row, self.of) if isinstance(self.of, str) else self.of(row))


def field_of(row: Any, name: str) -> Any:
    """Of a point, or of a row of what follows from the points."""
    return row[name] if isinstance(row, dict) else getattr(row, name)


@dataclass(frozen=True)
class Grid:
    """A table as it is shown. The first ``text`` columns are words, the others numbers.

    spare : columns that may go where the terminal is narrow, the first to go first
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: int
    spare: Sequence[str]

    @classmethod
    def of(cls, title: str, columns: Iterable[Column], rows: Iterable[Any], *, readme: bool = False) -> Grid:
        there = [c for c in columns if (c.in_readme if readme else c.title is not None)]
        heads = [(c.readme if readme and c.readme is not None else c.title) or "" for c in there]
        spare = sorted((c.spare, head) for c, head in zip(there, heads, strict=True) if c.spare)
        cells = [[c.cell(row) for c in there] for row in rows]
        return cls(title, heads, cells, sum(c.words for c in there), [head for _, head in spare])

    @property
    def markdown(self) -> str:
        rule = ["---"] * self.text + ["--:"] * (len(self.columns) - self.text)
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.columns, rule, *self.rows))


def console(**options: Any) -> Console:
    """One that prints what a result says as it is: a name with brackets is no markup."""
    return Console(markup=False, emoji=False, **options)


def show(result: Result, console: Console) -> None:
    """The tables of a result, and what they say in words."""
    if not console.is_terminal:
        console.width = WIDTH  # of a file or a pipe nothing is known, and half a number is worse than a long line
    console.print(result.machine.short, highlight=False)
    if not result.points:
        return
    tables, words = SHOWN[result.kind]
    for grid in tables(file := result.typed()):
        console.print(fitted(grid, console), highlight=False)
    for line in filter(None, words(file)):
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
    # Columns of words may be broken at spaces; whether that is enough, rich says by an ellipsis where it is not.
    cut = any("…" in segment.text for segment in console.render(made))
    return _lines(grid) if cut else made


def _table(grid: Grid, there: Sequence[int]) -> Table:
    made = Table(title=grid.title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index in there:
        words = index < grid.text
        made.add_column(grid.columns[index], justify="left" if words else "right", no_wrap=not words)
    for row in grid.rows:
        made.add_row(*(row[index] for index in there))
    return made


def _lines(grid: Grid) -> str:
    parts = [grid.title, ""]
    for row in grid.rows:
        heads = (" ".join(head.split()) for head in grid.columns)
        parts += [f"{head}: {cell}" if head else cell for head, cell in zip(heads, row, strict=True) if cell]
        parts.append("")
    return "\n".join(parts)


# --- A figure; a dash for None --------------------------------------------------------------------------------


def figures(value: float | None, unit: float = 1) -> str:
    """Three significant figures of so many units, without an exponent."""
    if value is None:
        return "-"
    value /= unit
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ms(timing: forms.Timing | None) -> str:
    """Milliseconds of a timing, to three figures: "12.3"; a dash where no round was begun, a word if none was quiet."""
    return "-" if timing is None else figures(timing.median, 1e-3) + " disturbed" * timing.disturbed


def spread(timing: forms.Timing | None) -> str:
    """The slowest sample over the fastest, in per cent."""
    return "-" if timing is None else per_cent(timing.max / timing.min - 1)


def ratio(value: float | None) -> str:
    """ "1.23", "12.3"."""
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def per_cent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def off_by(error: float | None) -> str:
    """The error of a gradient, to one figure: "6e-07"; nothing where there is none, as of an epoch."""
    return "" if error is None else f"{error:.0e}"


def errors_of_gradient(points: Iterable[Any]) -> dict[str, float]:
    """Of each backend or contender of the points that gives a gradient: the largest error, against float64."""
    told: dict[str, float] = {}
    for p in points:
        found = getattr(p, "error_of_gradient", None)
        for name, error in ({p.backend: found} if isinstance(found, float | int) else found or {}).items():
            told[name] = max(error, told.get(name, 0.0))
    return told


def accuracy(points: Iterable[Any]) -> str:
    """The errors of gradients, in words; empty where none of the points tells."""
    told = ", ".join(f"{name} {off_by(error)}" for name, error in errors_of_gradient(points).items())
    return f"Gradient off by at most, against float64: {told}." if told else ""


def thousands(count: int) -> str:
    return f"{count:,}"


def millions(rate: float | None) -> str:
    return figures(rate, 1e6)


def milliseconds(seconds: float | None) -> str:
    return figures(seconds, 1e-3)


def megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:,.1f}"


def short(value: float) -> str:
    """For a tick: "20 M"."""
    for size, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{name}"
    return f"{value:g} "


# --- The rounds -----------------------------------------------------------------------------------------------


def disturbed(points: Iterable[Any]) -> bool:
    """Whether for any of the points no round was quiet."""
    return any(p.rounds.disturbed for p in points if hasattr(p, "rounds"))


def rounds(points: Iterable[Any]) -> str:
    """How the rounds went, in words; empty where none of the points tells."""
    told = [p.rounds for p in points if p.rounds.kept or p.rounds.dropped]
    if not told:
        return ""
    words = f"Rounds: {sum(r.kept for r in told)} kept, {sum(r.dropped for r in told)} dropped."
    if cut := sum(r.cut for r in told):
        words += f" {cut} of {len(told)} points have fewer than they should: the budget was used up."
    if spoilt := sum(r.disturbed > 0 for r in told):
        words += (
            f" {spoilt} of {len(told)} points are disturbed: no round was quiet, and the least disturbed ones count."
        )
    return words


def few(points: Iterable[forms.PeersPoint]) -> list[str]:
    """Where dropped rounds have left no median worth the name, in words."""
    return [
        f"{p.case}, {p.allocator} allocator: {r.kept or 'none'} of {r.kept + r.dropped} rounds kept."
        for p, r in ((p, p.rounds) for p in points)
        if r.dropped and r.kept < ENOUGH
    ]


# --- Scaling --------------------------------------------------------------------------------------------------

STEP, EPOCH = "One full-batch cost and gradient", "One epoch of mini-batch Adam"


def scaling(file: Measured, points: Iterable[forms.ScalingPoint], *, readme: bool = False) -> Grid:
    """A row for each of the points."""
    points = list(points)
    growth = {(g["shape"], g["backend"], g["to"]): against(g) for g in file.summary["growth"]}
    off = [Column("gradient off by", "error_of_gradient", off_by, spare=4)]
    columns = [
        Column("network", "shape", words=True),
        Column("backend", "backend", words=True),
        Column("m", "m", thousands),
        Column("ms", "seconds", ms),
        Column("spread", "seconds", spread, spare=1, in_readme=False),
        Column("M examples/s", "examples_per_second", millions, spare=6),
        Column("GFLOP/s", "gflops", figures, spare=2),
        Column("of roof", lambda p: per_cent(p.fraction) + wrong(p.fraction), spare=5, readme="of the roofline"),
        Column("extra MB", "extra_bytes", megabytes, spare=3),
        *(off if errors_of_gradient(points) else []),
        Column(None, lambda p: growth.get((p.shape, p.backend, p.m), ""), readme="time against proportion"),
    ]
    return Grid.of(STEP, columns, points, readme=readme)


def against(g: Follows) -> str:
    """The time by proportion to m: "+3 %"."""
    return f"{100 * (g['time_over_proportional'] - 1):+.0f} %"


def _scaling(file: Measured) -> list[Grid]:
    return [scaling(file, sorted(file.points, key=lambda p: (p.shape, p.m, p.backend)))]


def _scaling_words(file: Measured) -> list[str]:
    lines = [
        f"{g['backend']}, {g['shape']}, m {g['from']:,} to {g['to']:,}: time {against(g)} against proportion"
        + ("." if g["extra_bytes_more"] is None else f", memory {g['extra_bytes_more'] / 1e6:+.1f} MB.")
        for g in file.summary["growth"]
    ]
    shared = {(p.shape, p.m): p for p in file.points}  # by all backends
    return [*lines, *map(crossing, file.summary["crossover"]), rounds(shared.values()), accuracy(file.points)]


def crossing(c: Follows) -> str:
    """Where the GPU overtakes the CPU, in words."""
    shape, cpu, top = c["shape"], c["cpu"], f"{c['top_m']:,}"
    if c["m"] is None:
        return f"{shape}: the GPU does not overtake the CPU ({cpu}) up to m = {top} (ratio {c['top_ratio']:.2f})."
    since = f"{shape}: the GPU overtakes the CPU ({cpu}) at m = {figures(c['m'])}"
    return f"{since}; at m = {top} it is {figures(c['top_ratio'])} times as fast."


# --- Peers ----------------------------------------------------------------------------------------------------

PARTS = {"step": STEP, "epoch": EPOCH}
FASTEST = {"as_used": "over the fastest as people use it", "by_hand": "over the fastest by hand"}


def allocators(points: Iterable[forms.PeersPoint]) -> list[str]:
    return list(dict.fromkeys(p.allocator for p in points))


def cases(points: Iterable[forms.PeersPoint]) -> dict[str, list[forms.PeersPoint]]:
    """The points of each, one for an allocator."""
    return grouped(points, lambda p: p.case)


def grouped(rows: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def contenders(points: Iterable[forms.PeersPoint]) -> list[str]:
    """Who was timed in any of the points, in order."""
    return list(dict.fromkeys(name for p in points for name in p.times))


def _joined(names: Sequence[str], write: Callable[[Any], str]) -> Callable[[list[Any]], str]:
    """Writes, of rows of one each, those of these allocators: "1.2 / 1.3"; a dash where there is none."""

    def written(rows: list[Any]) -> str:
        by = {field_of(row, "allocator"): write(row) for row in rows}
        return " / ".join(by.get(name, "-") for name in names)

    return written


def _peers(file: Measured) -> list[Grid]:
    grids = []
    for part, title in PARTS.items():
        points = [p for p in file.points if p.part == part]
        for case, here in cases(points).items():
            grids.append(_peer_grid(f"{title}: {case}, m = {here[0].m:,}", here, allocators(file.points)))
        if points:
            grids += ratios(file, part)
    return grids


def _peer_grid(title: str, points: list[forms.PeersPoint], names: Sequence[str]) -> Grid:
    """A row for each contender; for each allocator its ms, spread and ratio to fullbatch."""
    steps = {name: step for p in points for name, step in p.steps.items()}
    columns = [Column("", lambda name: f"{name} ({steps[name]})" if name in steps else name, words=True)]
    for index, allocator in enumerate(names):
        times = next((p.times for p in points if p.allocator == allocator), {})
        columns += [
            Column(f"ms\n{allocator}", times.get, ms, spare=len(names) + index if index else 0),
            Column(f"spread\n{allocator}", times.get, spread, spare=index + 1),
            Column(f"ratio\n{allocator}", times.get, _over(times.get(USUAL))),
        ]
    if off := errors_of_gradient(points):
        columns.append(Column("gradient\noff by", off.get, off_by))
    return Grid.of(title, columns, contenders(points))


def _over(own: forms.Timing | None) -> Callable[[forms.Timing | None], str]:
    return lambda timing: ratio(timing.median / own.median if timing and own else None)


def times(points: list[forms.PeersPoint], own: set[str]) -> Grid:
    """For the README: a row for each contender, a column for each case, milliseconds under each allocator."""
    names = allocators(points)

    def column(case: str, here: list[forms.PeersPoint]) -> Column:
        return Column(f"{case}, m = {here[0].m:,}", lambda name: _joined(names, lambda p: ms(p.times.get(name)))(here))

    first = Column("", lambda name: f"**{name}**" if name in own else name, words=True)
    return Grid.of("", [first, *(column(*item) for item in cases(points).items())], contenders(points))


def ratios(file: Measured, part: str) -> list[Grid]:
    """A row for each case and own way: its step, share of the machine's limit, how many times as fast as the others.

    And of the steps, if there are any, the geometric means over the first cases, and the least of them.
    """
    names = allocators(file.points)
    rows = [row for row in file.summary["rows"] if row["part"] == part]
    over = dict.fromkeys(name for row in rows for name in row["over"])
    columns = [
        Column("", lambda rows: rows[0]["case"], words=True),
        Column("", lambda rows: rows[0]["own"], words=True),
        Column("step", lambda rows: rows[0]["step"], words=True, spare=1),
        Column("of the limit", _joined(names, _of_limit)),
    ]
    if part == "step":
        columns += [Column(title, _joined(names, _fastest(kind))) for kind, title in FASTEST.items()]
    else:
        columns += [Column(f"over {name}", _joined(names, _times_as_fast(name))) for name in over]
    title = f"{PARTS[part]}: how many times as fast; {' / '.join(names)} allocator"
    grids = [Grid.of(title, columns, grouped(rows, lambda row: (row["case"], row["own"], row["step"])).values())]
    if part == "step" and (means := file.summary["geometric_means"]):
        title = f"Geometric mean of the first {means[0]['cases']} (and the least); {' / '.join(names)} allocator"
        columns = [
            Column("", lambda rows: rows[0]["own"], words=True),
            *(Column(title, _joined(names, _mean(kind))) for kind, title in FASTEST.items()),
        ]
        grids.append(Grid.of(title, columns, grouped(means, lambda mean: mean["own"]).values()))
    return grids


def _of_limit(row: Follows) -> str:
    """ "65 % of sgemm" or "61 % of read": of the limit that bounds the shape."""
    return f"{per_cent(row['of_limit'])} of {row['limit']}{wrong(row['of_limit'])}"


def _fastest(kind: str) -> Callable[[Follows], str]:
    return lambda row: f"{ratio(found['ratio'])} ({found['name']})" if (found := row[kind]) else "-"


def _times_as_fast(name: str) -> Callable[[Follows], str]:
    return lambda row: ratio(row["over"].get(name))


def _mean(kind: str) -> Callable[[Follows], str]:
    return lambda mean: f"{ratio(found['ratio'])} ({ratio(found['least'])})" if (found := mean[kind]) else "-"


def _peers_words(file: Measured) -> list[str]:
    return [*filter(None, [rounds(file.points), accuracy(file.points)]), *few(file.points)]


# --- Accuracy -------------------------------------------------------------------------------------------------


def errors(file: Measured, *, readme: bool = False) -> Grid:
    """A row for each contender."""
    columns = [
        Column("", lambda p: f"{p.contender} ({p.step})" if p.step else p.contender, words=True),
        Column("network", "shape", words=True),
        Column("m", "m", thousands),
        Column("gradient off by", "error_of_gradient", off_by),
    ]
    return Grid.of("One full-batch gradient in float32, against float64", columns, file.points, readme=readme)


# --- Serving --------------------------------------------------------------------------------------------------


def serving(file: Measured, *, readme: bool = False) -> Grid:
    """A row for each case and contender: its time, and that over the time of the case's first."""
    rows = []
    for p in file.points:
        times = {who: timing.median for who, timing in p.times.items() if timing}
        first = next(iter(times.values()), None)
        about = {"part": PARTS_OF_SERVING[p.part], "case": p.case, "m": p.m}
        rows += [{**about, "who": who, "seconds": time, "over": time / first} for who, time in times.items()]
    columns = [
        Column("", "part", words=True),
        Column("case", "case", words=True),
        Column("who", "who", words=True),
        Column("rows", "m", thousands),
        Column("us", "seconds", lambda seconds: figures(seconds, 1e-6), readme="microseconds"),
        Column("ratio", "over", ratio, readme="over the first of the case"),
    ]
    return Grid.of("Asking a model; medians", columns, rows, readme=readme)


PARTS_OF_SERVING = {"bulk": "many rows", "row": "one row", "graph": "ONNX graph"}


# --- Training -------------------------------------------------------------------------------------------------


def training(file: Measured, *, readme: bool = False) -> Grid:
    """A row for each data set and contender."""
    title = (
        f"Seconds to scikit-learn's held-out log-loss ({per_cent(MARGIN - 1)} above it at most); "
        "the ratio is to fullbatch; of the seeds, how many reach it"
    )
    columns = [
        Column("data", "data", words=True),
        Column(None, lambda row: f"{file.summary['targets'][row['data']]:.4f}", words=True, readme="log-loss to reach"),
        Column("", "contender", words=True),
        Column("step", "step", words=True, spare=1),
        Column("seconds", lambda row: figures(row["seconds"]) + " disturbed" * bool(row.get("disturbed"))),
        Column("epochs", "epochs", figures, spare=2),
        Column("ratio", "ratio", ratio, readme="over fullbatch"),
        Column("seeds", lambda row: f"{row['reached']} of {row['seeds']}", readme="seeds that reach it"),
    ]
    return Grid.of(title, columns, file.summary["times"], readme=readme)


def _training_words(file: Measured) -> list[str]:
    targets = file.summary["targets"].items()
    return [*(f"{name}: held-out log-loss to reach: {loss:.4f}" for name, loss in targets), rounds(file.points)]


# --- Tables ---------------------------------------------------------------------------------------------------


def tables(file: Measured, *, readme: bool = False) -> Grid:
    """A row for each table and contender."""
    columns = [
        Column("table", lambda row: row["table"] + " *" * row["judge"], words=True),
        Column("rows", "rows", thousands),
        Column("", lambda row: row["contender"] + " (limit)" * bool(row["limited"]), words=True),
        Column("loss", lambda row: f"{row['loss']:.5g}" + " RMSE" * (not row["classify"])),
        Column("seconds", lambda row: figures(row["seconds"]) + " disturbed" * (row["others"] > BUSY)),
        Column("CPU s", "cpu", figures, spare=1),
        Column("MB", "extra", megabytes, spare=1),
        Column("seeds", "seeds", spare=2),
    ]
    title = "Held-out log-loss or RMSE, seconds of the fit, memory beyond the data; *: looked at once, at the end"
    # Words stand first in a grid.
    columns.sort(key=lambda column: not column.words)
    return Grid.of(title, columns, file.summary["rows"], readme=readme)


# --- The profile ----------------------------------------------------------------------------------------------


def profile(file: Measured) -> list[Grid]:
    """A row for each step or epoch: its time, and of that the parts in per cent."""
    grids = []
    for title, epochs in ((STEP, False), (EPOCH, True)):
        splits = [s for s in file.summary["splits"] if (s["batch"] is not None) == epochs]
        columns = [
            Column("network", lambda s: s["shape"] + (f", batches of {s['batch']}" if s["batch"] else ""), words=True),
            Column("step", "step", words=True, spare=1),
            Column("m", "m", thousands),
            Column("ms", lambda s: figures(s["whole"], 1e-3) + " disturbed" * s.get("disturbed", False)),
            *(Column(name, _share(name)) for name in PROFILE if any(s["parts"].get(name) is not None for s in splits)),
            Column("X read alone, ms", "reading", milliseconds),
            Column("one thread over all", lambda s: ratio(s["one_thread"] / s["whole"])),
        ]
        if splits:
            grids.append(Grid.of(f"{title}: where the time goes", columns, splits))
    return grids


def _share(name: str) -> Callable[[Follows], str]:
    return lambda s: per_cent(None if (seconds := s["parts"].get(name)) is None else seconds / s["whole"])


def profile_words(file: Measured) -> list[str]:
    return [
        "Products: at the rate of the machine's own large one. Call, activation, optimiser and order: by difference "
        "of medians, the same without it. Rest: what is left.",
        rounds(file.points),
    ]


SHOWN: dict[str, tuple[Callable[[Any], list[Grid]], Callable[[Any], list[str]]]] = {  # the tables, and the words
    "scaling": (_scaling, _scaling_words),
    "peers": (_peers, _peers_words),
    "accuracy": (lambda file: [errors(file)], lambda file: []),
    "serving": (lambda file: [serving(file)], lambda file: [rounds(file.points)]),
    "training": (lambda file: [training(file)], _training_words),
    "profile": (profile, profile_words),
    "tables": (lambda file: [tables(file)], lambda file: verdicts(file.summary["rows"])),
}
