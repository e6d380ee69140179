"""The pictures, drawn from a result: a PNG beside its JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import forms
from bench.own import USUAL, WAYS
from bench.render import STEP, accuracy, cases, contenders, disturbed, figures, grouped, per_cent, short
from bench.results import Result, fingerprint
from bench.roofline import wrong
from bench.tables import BOOSTED

INK, QUIET, GRID = "#1f2430", "#6b7280", "#e5e7eb"
COLOURS = {"native": "#2563eb", "native-avx2": "#0891b2", "numpy": "#d97706", "cupy": "#16a34a"}
NAMES = {"native": "native, CPU", "native-avx2": "native, AVX2, CPU", "numpy": "NumPy, CPU", "cupy": "CuPy, GPU"}
ROOFS = {"CPU": "#6b7280", "GPU": "#15803d"}  # of a device, whatever runs there
SPOILT = "#dc2626"  # the mark of what no quiet round was had for
PAGE = 4096  # bytes; the kernel counts no less
LINES = ("#2563eb", "#d97706", "#0891b2", "#dc2626", "#7c3aed", "#4d7c0f", "#be185d")
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.markersize": 3.5,
    "lines.linewidth": 1.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
}


def draw(result: Result, path: Path) -> list[Path]:
    """Draw beside the JSON at ``path``; the list is empty where there is nothing to draw."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context(STYLE):
        # The profile is a table.
        figure = FIGURES[result.kind](result) if result.points and result.kind in FIGURES else None
        if figure is None:
            return []
        FigureCanvasAgg(figure)
        file = path.with_suffix(".png")
        save(figure, file, result)
    return [file]


def save(figure: Any, file: Path, raw: Any) -> None:
    """Write the picture without the version, so that it is the same again, and with the mark of what it shows."""
    figure.savefig(file, dpi=160, metadata={"Software": None, "Description": fingerprint(raw)})


def _figure(width: float, height: float, result: Result, title: str, words: str, legend: Sequence[str] = ()) -> Any:
    """A figure with a title, room for a legend of these labels below it, and at its foot words and the machine."""
    from matplotlib.figure import Figure

    revision = f", revision {result.machine.revision}" if result.machine.revision else ""
    points = result.typed().points
    told = words, result.machine.short + revision, accuracy(points)
    foot = [line for text in told for line in textwrap.wrap(text, round(17 * width))]
    if disturbed(points):
        foot.append("Disturbed: no round was quiet, so the least disturbed ones count.")
    height += 0.12 * max(0, len(foot) - 2)  # a narrow figure has more lines of it
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    lines = textwrap.wrap(title, round(8.5 * width)) + [""] * -(-len(legend) // _columns(width))
    figure.suptitle("\n".join(lines), x=0.012, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel("\n".join(foot), x=0.012, ha="left", fontsize=7.5, color=QUIET)
    return figure


def _columns(width: float) -> int:
    """Of a legend in a figure so wide."""
    return max(1, int(width / 1.9))


def _legend(figure: Any, all_axes: Any) -> None:
    """One legend below the title, each label once."""
    found = {label: line for axes in all_axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    width, height = figure.get_size_inches()
    title = sum(map(bool, figure.get_suptitle().split("\n")))
    legend = figure.legend(
        found.values(), found.keys(), loc="upper left", ncols=_columns(width),
        bbox_to_anchor=(0.002, 1 - (0.1 + 0.22 * title) / height), borderaxespad=0,
    )  # fmt: skip
    for handle in legend.legend_handles:
        handle.set_alpha(1)


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold")


def _mark(axes: Any, points: Iterable[Any]) -> None:
    if disturbed(points):
        axes.set_title("disturbed", loc="right", fontsize=7.5, color=SPOILT)


def _ticks(axes: Any, wanted: Sequence[float]) -> None:
    """Of these numbers those within the limits, as they are."""
    low, high = axes.get_xlim()
    ticks = [tick for tick in wanted if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


# --- Scaling --------------------------------------------------------------------------------------------------


def _scaling(result: Result) -> Any:
    file = result.typed()
    points = [p for p in file.points if p.seconds is not None]
    shapes = list(dict.fromkeys(p.shape for p in points))
    if not shapes:
        return None
    figure = _figure(
        max(6.0, 3.1 * len(shapes) + 0.6), 6.8, result,
        f"{STEP}: a flat line is time in proportion to m",
        "Dots: medians, with the fastest and slowest run. Dashed: the roofline, from this machine's own matrix product "
        "and memory. Per cent: of the roofline, at the largest m. Networks: inputs - hidden - outputs, tanh.",
        legend=[*dict.fromkeys(p.backend for p in points), *dict.fromkeys(p.device for p in points), "data"]
        + ["disturbed"] * disturbed(points),
    )  # fmt: skip
    grid = figure.subplots(2, len(shapes), sharex=True, sharey="row", squeeze=False, height_ratios=(2, 1))
    crossings = {c["shape"]: c["m"] for c in file.summary["crossover"]}
    for (above, below), shape in zip(grid.T, shapes, strict=True):
        _title(above, shape.replace("-", " - "))
        here = [p for p in points if p.shape == shape]
        for device in dict.fromkeys(p.device for p in here):
            _roofline(above, [p for p in here if p.device == device])
        for backend in COLOURS:
            if line := sorted((p for p in here if p.backend == backend), key=lambda p: p.m):
                _throughput(above, backend, line)
                _extra_memory(below, backend, line)
        _data_size(below, here)
        _crossing(above, crossings.get(shape), min(p.m for p in here))
        below.set_xlabel("m, examples")
        above.margins(x=0.14)
    for axes, unit in ((above, ""), (below, "B")):  # the others share it
        _log_axes(axes, unit)
    for axes in grid.flat:
        axes.grid(True)
        axes.set_xscale("log")
        axes.minorticks_off()
    grid[0][0].set_ylabel("examples per second")
    grid[1][0].set_ylabel("extra memory")
    _legend(figure, grid.flat)
    return figure


def _log_axes(axes: Any, unit: str) -> None:
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    decades = math.log10(high / low)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.2 else (1, 3) if decades < 3.5 else (1,)))
    axes.yaxis.set_major_formatter(lambda value, _: short(value) + unit)


def _roofline(axes: Any, points: list[forms.ScalingPoint]) -> None:
    """Of one device: the same for all that runs on it."""
    kind = "CPU" if points[0].device == "cpu" else "GPU"
    roof = dict(sorted((p.m, p.roofline.examples_per_second) for p in points))
    axes.plot(
        [*roof], [*roof.values()], color=ROOFS[kind], linewidth=1.1, linestyle=(0, (5, 3)), label=f"roofline, {kind}"
    )


def _throughput(axes: Any, backend: str, line: list[Any]) -> None:
    m, colour = [p.m for p in line], COLOURS[backend]
    middle = [p.examples_per_second for p in line]
    low = [p.examples_per_second - p.m / p.seconds.max for p in line]
    high = [p.m / p.seconds.min - p.examples_per_second for p in line]
    axes.errorbar(m, middle, yerr=(low, high), color=colour, marker="o", elinewidth=0.9, label=NAMES[backend])
    spoilt = [(p.m, p.examples_per_second) for p in line if disturbed([p])]
    if spoilt:
        axes.plot(*zip(*spoilt, strict=True), color=SPOILT, marker="x", markersize=7, linestyle="", label="disturbed")
    axes.annotate(
        per_cent(line[-1].fraction) + wrong(line[-1].fraction), (m[-1], middle[-1]), xytext=(5, 0),
        textcoords="offset points", va="center", fontsize=7.5, color=colour,
    )  # fmt: skip


def _extra_memory(axes: Any, backend: str, line: list[Any]) -> None:
    extra = {p.m: max(p.extra_bytes, PAGE) for p in line if p.extra_bytes is not None}
    if extra:
        axes.plot([*extra], [*extra.values()], color=COLOURS[backend], marker="o")


def _data_size(axes: Any, points: list[forms.ScalingPoint]) -> None:
    sizes = dict(sorted((p.m, p.data_bytes) for p in points))
    axes.plot([*sizes], [*sizes.values()], color=QUIET, linewidth=1, linestyle=(0, (1, 1.5)), label="the data itself")


def _crossing(axes: Any, m: float | None, first: int) -> None:
    if m is None:
        return
    where = "at every m" if m <= first else f"from m = {figures(float(f'{m:.2g}'))}"
    axes.set_title(f"GPU ahead {where}", loc="right", fontsize=7.5, color=QUIET)
    if m > first:
        axes.axvline(m, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))


# --- Peers ----------------------------------------------------------------------------------------------------

DOTS = (  # what the legend says, the dot's colour, and whether it is full
    ("others", LINES[0], True),
    ("fullbatch itself, held back", LINES[1], True),
    ("either, with an allocator that keeps memory", QUIET, False),
)


def _peers(result: Result) -> Any:
    points = [p for p in result.typed().points if p.times.get(USUAL) is not None]
    parts = [[p for p in points if p.part == part] for part in ("step", "epoch")]
    parts = [part for part in parts if part]
    if not parts:
        return None
    rows = [_timed(part) for part in parts]
    columns = max(len(cases(part)) for part in parts)
    figure = _figure(
        2.3 + 2.2 * columns, 1.5 + 0.3 * sum(len(names) + 2 for names in rows), result,
        "The same computation by what people would use instead",
        "Time as a multiple of fullbatch's, with the figure of the default allocator: right of the line is slower than "
        "fullbatch. The other allocator is told by GLIBC_TUNABLES. Medians of interleaved rounds. Networks: inputs - "
        "hidden - outputs, tanh.",
        legend=[label for label, _, _ in DOTS],
    )  # fmt: skip
    ratios = [t.median / p.times[USUAL].median for p in points for t in p.times.values() if t]
    limits = min(0.7, min(ratios) / 1.3), 1.5 * max(ratios)
    grid = figure.add_gridspec(len(parts), columns, height_ratios=[len(names) + 1.2 for names in rows])
    for row, (part, names) in enumerate(zip(parts, rows, strict=True)):
        for column, here in enumerate(cases(part).values()):
            axes = figure.add_subplot(grid[row, column])
            _case(axes, here, names, limits, labels=column == 0)
    for label, colour, full in DOTS:
        axes.plot(
            [], [], linestyle="", marker="o", markersize=6, color=colour, label=label,
            markerfacecolor=colour if full else "none",
        )  # fmt: skip
    _legend(figure, [axes])
    return figure


def _timed(points: list[forms.PeersPoint]) -> list[str]:
    """Who is held against fullbatch in any of the points."""
    return [name for name in contenders(points) if name != USUAL and any(p.times.get(name) for p in points)]


def _case(
    axes: Any, points: list[forms.PeersPoint], names: list[str], limits: tuple[float, float], *, labels: bool
) -> None:
    axes.set_title(f"{points[0].case.replace(', ', chr(10))}\nm = {points[0].m:,}", loc="left", fontsize=8.5)
    _mark(axes, points)
    axes.axvline(1, color=INK, linewidth=1, zorder=1)
    for y, name in enumerate(names):
        for point in points:
            _ratio(axes, point, name, y)
    axes.set_yticks(range(len(names)), names if labels else [""] * len(names))
    axes.set_ylim(len(names) - 0.4, -0.7)
    axes.set_xscale("log")
    axes.set_xlim(limits)
    _ticks(axes, (0.5, 1, 2, 4, 8, 16, 32))
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def _ratio(axes: Any, point: Any, name: str, y: int) -> None:
    timing = point.times.get(name)
    if timing is None:
        return
    ratio = timing.median / point.times[USUAL].median
    full, colour = point.allocator == "default", LINES[1 if name in WAYS else 0]
    axes.plot([ratio], [y], marker="o", markersize=6, color=colour, markerfacecolor=colour if full else "none")
    if full:
        text = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
        axes.annotate(
            text, (ratio, y), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=7,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6}, zorder=1.5,  # over the line, below the dots
        )  # fmt: skip


# --- Training -------------------------------------------------------------------------------------------------


def _training(result: Result) -> Any:
    file = result.typed()
    data = grouped(file.points, lambda p: p.data)
    trained = grouped(file.points, lambda p: p.contender)
    colours = dict(zip(trained, LINES, strict=False))
    figure = _figure(
        max(5.5, 3.9 * len(data)), 4.4, result, "Time to accuracy",
        "A line for each seed; dots: the median time to the loss to reach. Same network, batches, order, learning rate "
        "and initial weights; evaluation is in nobody's time.", legend=list(trained),
    )  # fmt: skip
    grid = figure.subplots(1, len(data), squeeze=False)[0]
    for axes, (name, points) in zip(grid, data.items(), strict=True):
        _title(axes, name)
        _mark(axes, points)
        for p in sorted(points, key=lambda p: [*trained].index(p.contender)):
            axes.plot(
                p.seconds, p.losses, color=colours.get(p.contender, INK), linewidth=0.9, alpha=0.45, label=p.contender
            )
        _reached(axes, file.summary, name, colours)
        axes.set_xscale("log")
        _ticks(axes, SECONDS)
        axes.set_xlabel("seconds of training")
        axes.grid(True)
    grid[0].set_ylabel("held-out log-loss")
    _legend(figure, grid)
    return figure


def _reached(axes: Any, summary: dict[str, Any], name: str, colours: dict[str, str]) -> None:
    """The loss to reach, and when each did: a dot at its median."""
    target = summary["targets"].get(name)
    if target is None:
        return
    axes.axhline(target, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.annotate(
        f"to reach:\n{target:.4f}", (1, target), xycoords=("axes fraction", "data"), xytext=(3, 0),
        textcoords="offset points", va="center", fontsize=7,
    )  # fmt: skip
    for row in sorted(summary["times"], key=lambda row: row["contender"] == USUAL):  # fullbatch on top
        if row["data"] == name and row["seconds"] is not None:
            axes.plot(
                [row["seconds"]], [target], marker="o", markersize=7, color=colours.get(row["contender"], INK),
                markeredgecolor="white", markeredgewidth=0.8, linestyle="", zorder=3,
            )  # fmt: skip


# --- Tables ---------------------------------------------------------------------------------------------------


def _tables(result: Result) -> Any:
    """A row for each table: losses and seconds of all, over those of the better of the trees."""
    file = result.typed()
    by_table = grouped(file.summary["rows"], lambda row: row["table"])
    names = list(grouped(file.summary["rows"], lambda row: row["contender"]))
    figure = _figure(
        9, 1.6 + 0.34 * len(by_table), result, "Real tables: loss and time over those of the better of the trees",
        "Means of the seeds of held-out log-loss, or of the root of the mean square error (of which the square is the "
        "loss); medians of seconds. Below the line: looked at once, at the end. Hollow: at the limit of time.",
        legend=names,
    )  # fmt: skip
    losses, seconds = figure.subplots(1, 2, sharey=True)
    order = sorted(by_table, key=lambda name: (by_table[name][0]["judge"], by_table[name][0]["rows"]))
    for y, name in enumerate(order):
        best = min(
            (row for row in by_table[name] if row["contender"] in BOOSTED), key=lambda row: row["loss"], default=None
        )
        if best is None:
            continue
        for row in by_table[name]:
            colour = LINES[names.index(row["contender"])]
            style: Any = {
                "marker": "o", "linestyle": "", "markersize": 6, "color": colour, "label": row["contender"],
                "markerfacecolor": "white" if row["limited"] else colour,
            }  # fmt: skip
            losses.plot([row["loss"] / best["loss"]], [y], **style)
            seconds.plot([row["seconds"] / best["seconds"]], [y], **style)
    judged = sum(not by_table[name][0]["judge"] for name in order)
    for axes, title in ((losses, "loss"), (seconds, "seconds")):
        axes.axvline(1, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.axhline(judged - 0.5, color=QUIET, linewidth=0.7)
        axes.set_xlabel(f"{title}, 1: the better of the trees")
        axes.grid(True, axis="x")
    seconds.set_xscale("log")
    losses.set_yticks(range(len(order)), [f"{name} ({short(by_table[name][0]['rows'])})" for name in order])
    losses.set_ylim(len(order) - 0.5, -0.5)
    _legend(figure, (losses,))
    return figure


SECONDS = [lead * 10.0**power for power in range(-3, 5) for lead in (1, 2, 5)]  # where a tick may be
FIGURES: dict[str, Callable[[Result], Any]] = {
    "scaling": _scaling,
    "peers": _peers,
    "training": _training,
    "tables": _tables,
}
