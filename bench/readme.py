"""The tables and pictures of README.md and docs/, from results/*.json: text between two marks, never typed by hand.

    <!-- bench:peers -->
    ...
    <!-- /bench:peers -->

The marks' names are front (the figures that matter), scaling, printed (what a scaling run leaves in the terminal),
peers, epochs, accuracy, serving, training, profile, tables and gpu; a page may have any of them.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from bench import forms, gpu, render
from bench.machine import Machine
from bench.own import USUAL
from bench.results import Measured, Result, load_all, of_gpu
from bench.training import MARGIN
from fullbatch.errors import InputError

TERMINAL = 100  # columns
SHOWN = 4  # lines at each end of a long paragraph


class Source(NamedTuple):
    """``folder`` has the results;  root : the page's folder, for links"""

    folder: Path
    results: Sequence[tuple[Path, Result]]
    root: Path


def rewritten(text: str, source: Source) -> str:
    """A page's text with all its marked sections made anew."""
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
    return f"\n\n![{alt}]({Path(os.path.relpath(picture.resolve(), root)).as_posix()})"


@dataclass(frozen=True)
class Section:
    """Of a kind of results: ``text`` is made of what one has measured, "" for none.

    alt : of the picture, if one is drawn; None where another section tells of picture and of what is left out
    """

    kind: str
    text: Callable[[Any], str]
    alt: str | None

    def __call__(self, source: Source) -> str:
        """A kind may have several results, each of another machine."""
        made = [
            f"{_source(result)}\n\n{body}"
            + ("" if self.alt is None else _left_out(result) + _picture(path, source.root, self.alt))
            for path, result in source.results
            if result.kind == self.kind and result.points and (body := self.text(result.typed()))
        ]
        return "\n\n".join(made) or f"Not measured yet: `python -m bench {self.kind} --out bench/results`."


def _scaling_table(file: Measured) -> str:
    points = [p for p in file.points if p.seconds is not None]
    shown = []
    for here in render.grouped(points, lambda p: (p.shape, p.backend)).values():
        here.sort(key=lambda p: p.m)
        shown += [p for p in here if p.m in (10**4, 10**5, 10**6, 10**7)] or here[-1:]
    words = [f"- {render.crossing(c)}" for c in file.summary["crossover"]]
    steps = {p.backend: f"{p.backend}: {_step(p)}" for p in points}
    words.append(f"\nWhat ran: {'; '.join(steps.values())}. {_limits(file)}")
    table = render.scaling(file, shown, readme=True).markdown
    return table + "\n\n" + "\n".join(words).strip() if shown else ""


def _printed(source: Source) -> str:
    """What the first scaling run on a CPU alone leaves in a terminal of 100 columns, with less of it in the middle."""
    for _, result in source.results:
        if result.kind == "scaling" and all(p["device"] == "cpu" for p in result.points):
            out = io.StringIO()
            render.show(result, render.console(file=out, width=TERMINAL, force_terminal=True, color_system=None))
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


def _step(point: forms.ScalingPoint) -> str:
    where = f"{point.threads} threads" if point.device == "cpu" else point.device
    return f"the {point.step} step on {where}"


def _limits(file: Measured) -> str:
    told = file.limits.items()
    return " ".join(f"The limits measured beside it, {device}: {limits}." for device, limits in told)


def _times(file: Measured, part: str) -> str:
    """Milliseconds of all, then what our own ways reach of the machine's limit, and how much faster they are."""
    points = [p for p in file.points if p.part == part]
    if not points:
        return ""
    names = " / ".join(render.allocators(points))
    words = [f"Milliseconds, medians; allocator: {names}. {render.rounds(points)} {_limits(file)}"]
    words += render.few(points)
    missing = {f"{name}: {reason}" for p in points for name, reason in p.left_out.items()}
    words += [f"Left out: {line}." for line in sorted(missing)]
    tables = [render.times(points, {row["own"] for row in file.summary["rows"]}).markdown]
    ratios, *means = render.ratios(file, part)
    tables.append(ratios.markdown)
    tables += [text for mean in means for text in (f"{mean.title}:", mean.markdown)]
    return "\n\n".join([*tables, " ".join(words)])


def _serving(file: Measured) -> str:
    return f"{render.serving(file, readme=True).markdown}\n\n{render.rounds(file.points)}".strip()


def _training_table(file: Measured) -> str:
    mark = (
        "To reach: the best held-out loss of scikit-learn's worst seed, and "
        f"{render.per_cent(MARGIN - 1)} above it. Medians over the seeds. {render.rounds(file.points)}"
    ).strip()
    return f"{render.training(file, readme=True).markdown}\n\n{mark}" if file.summary["times"] else ""


def _profile_table(file: Measured) -> str:
    tables = [f"{grid.title}:\n\n{grid.markdown}" for grid in render.profile(file)]
    words = " ".join(filter(None, [*render.profile_words(file), _limits(file)]))
    return "\n\n".join([*tables, words]) if tables else ""


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


def _tables(file: Measured) -> str:
    words = "\n".join(f"- {line}" for line in render.verdicts(file.summary["rows"]))
    return f"{render.tables(file, readme=True).markdown}\n\n{words}".strip()


PAGES = tuple(map(Path, ("README.md", "docs/benchmarks.md", "docs/twelve.md")))  # that have marks
OTHERS = {  # of the front's table: a column's title, and whose best figure it shows
    "fullbatch": ("fullbatch",),
    "scikit-learn": ("scikit-learn",),
    "PyTorch": ("PyTorch eager", "PyTorch compiled", "PyTorch, Adam", "PyTorch, fused Adam", "PyTorch"),
    "JAX": ("JAX jit", "JAX, one scan"),
}
ON_FRONT = ("28-64-1", "100-1000-1", "28-1")  # networks of a step
MOST_ON_FRONT = 8


def _front(source: Source) -> str:
    """The figures that matter, of the first CPU results of each kind, in one table of eight rows at most."""
    kinds: dict[str, Measured] = {}
    for _, result in source.results:
        if result.points:
            kinds.setdefault(result.kind, result.typed())
    rows = []
    for what, values, shown in islice(_front_rows(kinds), MOST_ON_FRONT):
        found = [[v for name in names if (v := values.get(name)) is not None] for names in OTHERS.values()]
        rows.append([what, *(shown(min(some)) if some else "" for some in found)])
    if not rows:
        return "Not measured yet: `python -m bench peers --out bench/results`."
    lines = [["", *OTHERS], ["---", *["--:"] * len(OTHERS)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _front_rows(kinds: dict[str, Measured]) -> Iterator[tuple[str, dict[str, Any], Callable[[float], str]]]:
    """What each row is of, each contender's figure or None, and how a figure is written."""
    nothing = Measured([], {}, {"times": []})
    peers, accurate, trained, scaled = (kinds.get(k, nothing) for k in ("peers", "accuracy", "training", "scaling"))
    default = [p for p in peers.points if p.allocator == "default"]
    for p in default:
        if p.part == "epoch" or p.case in ON_FRONT:
            what = "one epoch of Adam" if p.part == "epoch" else "one exact gradient"
            times = {name: timing.median if timing else None for name, timing in p.times.items()}
            yield f"{what}, {p.case}, {p.m:,} rows, ms", times, render.milliseconds
    # How far the gradient over the most examples is off; without a run of its own, by that of the peers.
    if points := accurate.points:
        about, errors = points[0], {p.contender: p.error_of_gradient for p in points}
        yield f"float32 gradient over {about.m:,} rows, {about.shape}, off by", errors, render.off_by
    elif told := [p for p in default if p.errors]:
        most = max(told, key=lambda p: p.m)
        yield f"float32 gradient over {most.m:,} rows, {most.case}, off by", most.errors, render.off_by
    # Of the data set with the most epochs' worth of rows: the last one.
    if rows := trained.summary["times"]:
        data = rows[-1]["data"]
        times = {row["contender"]: row["seconds"] for row in rows if row["data"] == data}
        yield f"{data}: to scikit-learn's held-out loss, s", times, render.figures
    # What the largest number of rows takes beyond the data.
    if points := [p for p in scaled.points if p.backend == "native" and p.extra_bytes and p.seconds]:
        p = max(points, key=lambda p: p.m)
        yield f"{p.shape}, {p.m:,} rows: MB beside the data", {USUAL: p.extra_bytes / 1e6}, render.figures


SECTIONS: dict[str, Callable[[Source], str]] = {
    "front": _front,
    "scaling": Section("scaling", _scaling_table, "examples per second against m, with the roofline"),
    "printed": _printed,
    "peers": Section("peers", lambda file: _times(file, "step"), "time of the peers over the time of fullbatch"),
    "epochs": Section("peers", lambda file: _times(file, "epoch"), None),
    "accuracy": Section("accuracy", lambda file: render.errors(file, readme=True).markdown, ""),
    "serving": Section("serving", _serving, ""),
    "training": Section("training", _training_table, "held-out log-loss against seconds of training"),
    "profile": Section("profile", _profile_table, "where the time goes"),
    "tables": Section("tables", _tables, "loss and time on real tables, over those of boosted trees"),
    "gpu": _gpu,
}
