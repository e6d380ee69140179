"""The README's tables and pictures, from results/*.json: text between two marks, never typed by hand.

    <!-- bench:peers -->
    ...
    <!-- /bench:peers -->

The marks' names are scaling, peers, epochs, training; a README may have any of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import report
from bench.results import Result, load_all
from fullbatch.errors import InputError

Loaded = Sequence[tuple[Path, Result]]


def rewritten(text: str, results: Loaded, root: Path) -> str:
    """The README's text with all its marked sections made anew. ``root`` is the README's folder, for links."""
    for name in re.findall(r"<!-- bench:([\w-]+) -->", text):
        if name not in SECTIONS:
            raise InputError(f"unknown mark bench:{name}; the known ones are {', '.join(SECTIONS)}.")
        if f"<!-- /bench:{name} -->" not in text:
            raise InputError(f"the mark <!-- bench:{name} --> has no end; add <!-- /bench:{name} -->.")
        body = SECTIONS[name](results, root)
        start, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{body}\n{end}{rest.partition(end)[2]}"
    return text


def update(readme: Path, folder: Path, *, check: bool) -> bool:
    """Rewrite the file; with ``check``, only say whether it would change. True if it was up to date."""
    try:
        text = readme.read_text()
    except OSError as error:
        raise InputError(f"cannot read {readme}: {error.strerror}.") from error
    if "<!-- bench:" not in text:
        raise InputError(f"{readme} has no marks such as <!-- bench:peers --> ... <!-- /bench:peers -->.")
    new = rewritten(text, load_all(folder), readme.resolve().parent)
    if new != text and not check:
        readme.write_text(new)
    return new == text


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 1) -> str:
    """A table whose first ``text`` columns are words and the others numbers."""
    rule = ["---"] * text + ["--:"] * (len(columns) - text)
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))


def _of(results: Loaded, kind: str) -> list[tuple[Path, Result]]:
    return [(path, result) for path, result in results if result.kind == kind]


def _source(result: Result) -> str:
    when = result.machine.date[:10]
    revision = f", revision {result.machine.revision}" if result.machine.revision else ""
    cut = "" if result.finished else " The run was interrupted."
    return f"`{result.command}` on {result.machine.short}{revision}, {when}.{cut}"


def _picture(path: Path, root: Path, alt: str) -> str:
    picture = path.with_suffix(".png")
    if not picture.exists():
        return ""
    try:
        shown = picture.resolve().relative_to(root)
    except ValueError:
        shown = picture
    return f"\n\n![{alt}]({shown.as_posix()})"


def _each(results: Loaded, kind: str, section: Callable[[Result], str], root: Path, alt: str) -> str:
    """A kind may have several results, each of another machine."""
    made = [
        f"{_source(result)}\n\n{body}{_picture(path, root, alt) if alt else ''}"
        for path, result in _of(results, kind)
        if (body := section(result))
    ]
    return "\n\n".join(made) if made else f"Not measured yet: `python -m bench {kind} --out bench/results`."


def _scaling(results: Loaded, root: Path) -> str:
    return _each(results, "scaling", _scaling_table, root, "examples per second against m, with the roofline")


def _scaling_table(result: Result) -> str:
    points = [p for p in result.points if p["seconds"] is not None]
    rows = []
    for shape, backend in dict.fromkeys((p["shape"], p["backend"]) for p in points):
        here = [p for p in points if (p["shape"], p["backend"]) == (shape, backend)]
        wanted = [p for p in here if p["m"] in (10**4, 10**5, 10**6, 10**7)] or here[-1:]
        growth = {
            g["to"]: f"{100 * (g['time_over_proportional'] - 1):+.0f} %"
            for g in result.summary["growth"]
            if (g["shape"], g["backend"]) == (shape, backend)
        }
        rows += [
            [
                shape, backend, f"{p['m']:,}", report.ms(p["seconds"]), report.figures(p["examples_per_second"] / 1e6),
                report.figures(p["gflops"]), f"{100 * p['fraction']:.0f} %", report.megabytes(p["extra_bytes"]),
                growth.get(p["m"], ""),
            ]
            for p in wanted
        ]  # fmt: skip
    columns = [
        "network", "backend", "m", "ms", "M examples/s", "GFLOP/s", "of the roofline", "extra MB",
        "time against proportion",
    ]  # fmt: skip
    words = "\n".join(f"- {report.crossing(c)}" for c in result.summary.get("crossover", []))
    return markdown(columns, rows, text=2) + (f"\n\n{words}" if words else "") if rows else ""


def _peers(results: Loaded, root: Path) -> str:
    return _each(
        results, "peers", lambda result: _times(result, "step"), root, "time of the peers over the time of fullbatch"
    )


def _epochs(results: Loaded, root: Path) -> str:
    return _each(results, "peers", lambda result: _times(result, "epoch"), root, "")


def _times(result: Result, part: str) -> str:
    points = [p for p in result.points if p["part"] == part]
    if not points:
        return ""
    cases = list(dict.fromkeys(p["case"] for p in points))
    allocators = list(dict.fromkeys(p["allocator"] for p in points))
    names = list(dict.fromkeys(name for p in points for name in p["times"]))
    by = {(p["case"], p["allocator"]): p for p in points}

    def cell(case: str, name: str) -> str:
        found = [by[case, a]["times"].get(name) if (case, a) in by else None for a in allocators]
        return " / ".join(map(report.ms, found))

    heads = [f"{case}, m = {next(p['m'] for p in points if p['case'] == case):,}" for case in cases]
    rows = [[f"**{name}**" if name == "fullbatch" else name, *(cell(case, name) for case in cases)] for name in names]
    ratios = {(r["case"], r["allocator"]): r for r in result.summary["ratios"]}

    def ratio(case: str) -> str:
        found = [ratios.get((case, allocator)) for allocator in allocators]
        return " / ".join(f"{row['ratio']:.2f}" if row else "-" for row in found)

    rows.append(["fastest as people use it, over fullbatch", *map(ratio, cases)])
    kept, dropped = (sum(p["rounds"][key] for p in points) for key in ("kept", "dropped"))
    words = [f"Milliseconds, medians; allocator: {' / '.join(allocators)}. Rounds: {kept} kept, {dropped} dropped."]
    if part == "step":
        words += [report.mean(row) for row in result.summary["geometric_means"]]
    missing = {f"{name}: {reason}" for p in points for name, reason in p["left_out"].items()}
    words += [f"Left out: {line}." for line in sorted(missing)]
    return markdown(["", *heads], rows) + "\n\n" + " ".join(words)


def _training(results: Loaded, root: Path) -> str:
    return _each(results, "training", _training_table, root, "held-out log-loss against seconds of training")


def _training_table(result: Result) -> str:
    rows = [
        [
            row["data"], f"{result.summary['targets'][row['data']]:.4f}", row["contender"],
            report.figures(row["seconds"]), report.figures(row["epochs"]), report.figures(row["ratio"]),
            f"{row['reached']} of {row['seeds']}",
        ]
        for row in result.summary.get("times", [])
    ]  # fmt: skip
    columns = ["data", "log-loss to reach", "", "seconds", "epochs", "over fullbatch", "seeds that reach it"]
    return markdown(columns, rows, text=3) if rows else ""


SECTIONS: dict[str, Callable[[Loaded, Path], str]] = {
    "scaling": _scaling, "peers": _peers, "epochs": _epochs, "training": _training,
}  # fmt: skip
