"""The README's tables and pictures, from results/*.json: text between two marks, never typed by hand.

    <!-- bench:peers -->
    ...
    <!-- /bench:peers -->

The marks' names are scaling, printed (what a scaling run leaves in the terminal), peers, epochs, training, profile and
gpu; a README may have any of them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from bench import gpu, report, roofline, training
from bench.machine import Machine
from bench.results import Result, load_all, of_gpu
from fullbatch.errors import InputError

TERMINAL = 100  # columns
SHOWN = 4  # lines at each end of a long paragraph


class Source(NamedTuple):
    """``folder`` has the results;  root : the README's folder, for links"""

    folder: Path
    results: Sequence[tuple[Path, Result]]
    root: Path


def rewritten(text: str, source: Source) -> str:
    """The README's text with all its marked sections made anew."""
    for name in re.findall(r"<!-- bench:([\w-]+) -->", text):
        if name not in SECTIONS:
            raise InputError(f"unknown mark bench:{name}; the known ones are {', '.join(SECTIONS)}.")
        start, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        if (text.count(start), text.count(end)) not in ((1, 0), (1, 1)):
            raise InputError(f"the marks of bench:{name} are there more than once; leave one {start} and one {end}.")
        before, _, rest = text.partition(start)
        old, found, after = rest.partition(end)
        if not found or "<!-- bench:" in old:  # what stands up to a wrong end would be lost
            raise InputError(f"the mark {start} has no end of its own after it; add {end}.")
        text = f"{before}{start}\n{SECTIONS[name](source)}\n{end}{after}"
    return text


def update(readme: Path, folder: Path, *, check: bool) -> bool:
    """Rewrite the file; with ``check``, only say whether it would change. True if it was up to date."""
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {readme}: {getattr(error, 'strerror', None) or error}.") from error
    if "<!-- bench:" not in text:
        raise InputError(f"{readme} has no marks such as <!-- bench:peers --> ... <!-- /bench:peers -->.")
    new = rewritten(text, Source(folder, load_all(folder), readme.resolve().parent))
    if new != text and not check:
        try:
            readme.write_text(new, encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {readme}: {error.strerror}.") from error
    return new == text


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 1) -> str:
    """A table whose first ``text`` columns are words and the others numbers."""
    rule = ["---"] * text + ["--:"] * (len(columns) - text)
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))


def _source(result: Result) -> str:
    when = result.machine.date[:10]
    revision = f", revision {result.machine.revision}" if result.machine.revision else ""
    resumed = f" Gone on with {len(result.resumed)} more times." if result.resumed else ""
    cut = "" if result.finished else " The run was interrupted."
    conditions = f", with {result.machine.conditions}" if result.machine.conditions else ""
    return f"`{result.command}` on {result.machine.short}{conditions}{revision}, {when}.{resumed}{cut}"


def _left_out(result: Result) -> str:
    return "".join(f"\n\nLeft out: {line.rstrip('.')}." for line in result.left_out)


def _picture(path: Path, root: Path, alt: str) -> str:
    picture = path.with_suffix(".png")
    if not picture.exists():
        return ""
    try:
        shown = picture.resolve().relative_to(root)
    except ValueError:
        shown = picture
    return f"\n\n![{alt}]({shown.as_posix()})"


def _each(source: Source, kind: str, section: Callable[[Result], str], alt: str) -> str:
    """A kind may have several results, each of another machine."""
    made = [
        f"{_source(result)}\n\n{body}" + (_left_out(result) + _picture(path, source.root, alt) if alt else "")
        for path, result in source.results
        if result.kind == kind and (body := section(result))
    ]
    return "\n\n".join(made) if made else f"Not measured yet: `python -m bench {kind} --out bench/results`."


def _scaling(source: Source) -> str:
    return _each(source, "scaling", _scaling_table, "examples per second against m, with the roofline")


def _scaling_table(result: Result) -> str:
    points = [p for p in result.points if p["seconds"] is not None]
    rows = []
    for shape, backend in dict.fromkeys((p["shape"], p["backend"]) for p in points):
        here = sorted((p for p in points if (p["shape"], p["backend"]) == (shape, backend)), key=lambda p: p["m"])
        wanted = [p for p in here if p["m"] in (10**4, 10**5, 10**6, 10**7)] or here[-1:]
        growth = {
            g["to"]: f"{100 * (g['time_over_proportional'] - 1):+.0f} %"
            for g in result.summary["growth"]
            if (g["shape"], g["backend"]) == (shape, backend)
        }
        rows += [
            [
                shape, backend, f"{p['m']:,}", report.ms(p["seconds"]), report.figures(p["examples_per_second"] / 1e6),
                report.figures(p["gflops"]), report.per_cent(p["fraction"]) + roofline.wrong(p["fraction"]),
                report.megabytes(p["extra_bytes"]), growth.get(p["m"], ""),
            ]
            for p in wanted
        ]  # fmt: skip
    columns = [
        "network", "backend", "m", "ms", "M examples/s", "GFLOP/s", "of the roofline", "extra MB",
        "time against proportion",
    ]  # fmt: skip
    words = [f"- {report.crossing(c)}" for c in result.summary.get("crossover", [])]
    steps = {p["backend"]: f"{p['backend']}: {_step(p)}" for p in points}
    words.append(f"\nWhat ran: {'; '.join(steps.values())}. {_limits(result)}")
    return markdown(columns, rows, text=2) + "\n\n" + "\n".join(words).strip() if rows else ""


def _printed(source: Source) -> str:
    """What the first scaling run on a CPU alone leaves in a terminal of 100 columns, with less of it in the middle."""
    for _, result in source.results:
        if result.kind == "scaling" and all(p["device"] == "cpu" for p in result.points):
            out = io.StringIO()
            report.show(result, report.console(file=out, width=TERMINAL, force_terminal=True, color_system=None))
            lines = [f"$ {result.command}", *_shortened(out.getvalue().splitlines())]
            return "\n".join(["```", *lines, "```"])
    return "Not measured yet: `python -m bench scaling --out bench/results`."


def _shortened(lines: Sequence[str]) -> Iterator[str]:
    """The lines, of each paragraph (and of each table's body) but the first and last few, and dots for the rest."""
    rule = re.compile(r"\s*─+\s*")
    for apart, group in groupby(lines, lambda line: not line.strip() or bool(rule.fullmatch(line))):
        rows = [line.rstrip() for line in group]
        if apart or len(rows) <= 2 * SHOWN + 1:
            yield from rows
        else:
            yield from (*rows[:SHOWN], f" ... ({len(rows) - 2 * SHOWN} more)", *rows[-SHOWN:])


def _step(point: dict[str, Any]) -> str:
    where = f"{point['threads']} threads" if point["device"] == "cpu" else point["device"]
    return f"the {point['step']} step on {where}"


def _limits(result: Result) -> str:
    limits = roofline.from_json(result.summary.get("limits", {}))
    return " ".join(f"The limits measured beside it, {device}: {limit}." for device, limit in limits.items())


def _peers(source: Source) -> str:
    return _each(source, "peers", lambda result: _times(result, "step"), "time of the peers over the time of fullbatch")


def _epochs(source: Source) -> str:
    return _each(source, "peers", lambda result: _times(result, "epoch"), "")


def _times(result: Result, part: str) -> str:
    """Milliseconds of all, then what our own ways reach of the machine's limit, and how much faster they are."""
    points = [p for p in result.points if p["part"] == part]
    if not points:
        return ""
    cases, allocators = report.cases(points), report.allocators(points)
    by = {(p["case"], p["allocator"]): p for p in points}

    def cell(case: str, name: str) -> str:
        found = [by[case, a]["times"].get(name) if (case, a) in by else None for a in allocators]
        return " / ".join(map(report.ms, found))

    own = {row["own"] for row in result.summary["rows"]}
    heads = [f"{case}, m = {next(p['m'] for p in points if p['case'] == case):,}" for case in cases]
    rows = [
        [f"**{name}**" if name in own else name, *(cell(case, name) for case in cases)]
        for name in report.contenders(points)
    ]
    words = [f"Milliseconds, medians; allocator: {' / '.join(allocators)}. {report.rounds(points)} {_limits(result)}"]
    words += report.few(points)
    missing = {f"{name}: {reason}" for p in points for name, reason in p["left_out"].items()}
    words += [f"Left out: {line}." for line in sorted(missing)]
    ratios = report.ratios(result, part)
    tables = [markdown(["", *heads], rows), markdown(ratios.columns, ratios.rows, text=ratios.text)]
    if part == "step" and (means := report.means(result)):
        tables += [f"{means.title}:", markdown(means.columns, means.rows, text=means.text)]
    return "\n\n".join([*tables, " ".join(words)])


def _training(source: Source) -> str:
    return _each(source, "training", _training_table, "held-out log-loss against seconds of training")


def _training_table(result: Result) -> str:
    rows = [
        [
            row["data"], f"{result.summary['targets'][row['data']]:.4f}", row["contender"],
            row["step"], report.figures(row["seconds"]), report.figures(row["epochs"]), report.ratio(row["ratio"]),
            f"{row['reached']} of {row['seeds']}",
        ]
        for row in result.summary.get("times", [])
    ]  # fmt: skip
    columns = ["data", "log-loss to reach", "", "step", "seconds", "epochs", "over fullbatch", "seeds that reach it"]
    mark = (
        "To reach: the best held-out loss of scikit-learn's worst seed, and "
        f"{report.per_cent(training.MARGIN - 1)} above it. Medians over the seeds. {report.rounds(result.points)}"
    ).strip()
    return f"{markdown(columns, rows, text=4)}\n\n{mark}" if rows else ""


def _profile(source: Source) -> str:
    return _each(source, "profile", _profile_table, "")


def _profile_table(result: Result) -> str:
    tables = [
        f"{grid.title}:\n\n{markdown(grid.columns, grid.rows, text=grid.text)}" for grid in report.profile(result)
    ]
    words = " ".join([*report.profile_words(result), _limits(result)])
    return "\n\n".join([*tables, words + _left_out(result)]) if tables else ""


def _gpu(source: Source) -> str:
    made = []
    for path in sorted(source.folder.glob("*.json")):
        if (raw := of_gpu(path)) is not None:
            with gpu.read_from(path):
                lines = "\n".join(f"- {line}" for line in gpu.lines(raw))
                command, where = raw["command"], f"{Machine(**raw['machine']).short}, {raw['machine']['date'][:10]}"
            picture = _picture(path, source.root, "milliseconds of a step, and examples per second as m grows")
            made.append(f"`{command}` on {where}.\n\n{lines}{picture}")
    unmeasured = "Not measured yet: `python -m bench gpu --out bench/results`, on a machine with an NVIDIA GPU."
    return "\n\n".join(made) or unmeasured


SECTIONS: dict[str, Callable[[Source], str]] = {
    "scaling": _scaling, "printed": _printed, "peers": _peers, "epochs": _epochs, "training": _training,
    "profile": _profile, "gpu": _gpu,
}  # fmt: skip
