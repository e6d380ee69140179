"""All that a card can tell, in nine minutes: figures first, tests last.

Each part runs in a process of its own (bench.gpu_parts, the command line, or pytest), so that one that fails, or takes
all of the card's memory, costs nothing but itself. The JSON is written anew after each line that a part says. A part
that has used up its seconds is ended, and what it said until then is kept; what it leaves goes to the parts after it.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import children, machine, plots
from bench.machine import ROOT
from bench.results import make_room, write
from fullbatch.errors import InputError
from fullbatch.machine import places

SECONDS = 530.0  # for all parts, of the nine minutes
SCHEMA = 1


@dataclass(frozen=True)
class Part:
    """A part: ``command`` after ``python -m`` (FOLDER stands for that of the results), and the seconds it may take.

    what : of a further part, in words;  read : makes points of what it printed; None: each line is a JSON object
    file : that it writes itself;  needs : a folder beside bench/ that it cannot do without; the Docker image has not
        all that a checkout has
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    what: str = ""
    read: Callable[[str, Path], list[dict[str, Any]]] | None = None
    file: str = ""
    needs: str = ""


def _scaling(name: str, seconds: float, what: str, shapes: Sequence[str], budget: int, rounds: int) -> Part:
    """A run of bench scaling; its points are those of the file that it writes."""
    backends = [word for backend in ("native", "numpy", "cupy") for word in ("--backend", backend)]
    chosen = [*backends, *(word for shape in shapes for word in ("--shape", shape)), "--to", "2e7"]
    limits = ["--budget", str(budget), "--rounds", str(rounds), "--quiet", "0", "--no-memory"]
    command = ("bench", "scaling", "--out", "FOLDER", "--name", f"gpu-{name}", *chosen, *limits)
    file = f"gpu-{name}.json"
    return Part(name, command, seconds, what, partial(_of_file, file), file)


def _of_file(name: str, printed: str, folder: Path) -> list[dict[str, Any]]:
    result = json.loads((folder / name).read_text())
    return [*result["points"], {"summary": result["summary"]}]


OUTCOMES = {
    "PASSED": "passed", "FAILED": "failed", "ERROR": "errors", "SKIPPED": "skipped", "XFAIL": "xfailed",
    "XPASS": "xpassed",
}  # fmt: skip


def _tests(printed: str, folder: Path) -> list[dict[str, Any]]:
    """The counts of pytest's last line, and the names of what failed; without that line, those of the tests so far."""
    lines = printed.splitlines()
    ended = [line for line in lines if re.search(r"\d+ \w+.* in [\d.]+", line)]
    if ended:
        found = re.findall(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)", ended[-1])
        counts = {OUTCOMES.get(word.upper(), word): int(number) for number, word in found}
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", printed, re.MULTILINE)
        return [{**counts, "failures": failed[:50], "last_line": ended[-1]}]
    outcome = re.compile(rf"(\S+::.*?) ({'|'.join(OUTCOMES)})(?: \(.*)?(?: +\[ *\d+%\])?$")
    said = [match for line in lines if (match := outcome.match(line))]
    counts = dict(Counter(OUTCOMES[match[2]] for match in said))
    failed = [match[1] for match in said if match[2] in ("FAILED", "ERROR")]
    return [{**counts, "failures": failed[:50], "last_line": lines[-1].strip() if lines else "", "cut_off": True}]


# A line for each test, as it ends: a part that is cut off has said how far it came. A warning of a library that is
# newer on the card's machine than here is no failure there.
PYTEST = ("pytest", "-v", "-rfE", "-p", "no:cacheprovider", "--continue-on-collection-errors", "-W", "default")
PARTS = (
    Part("card", ("bench.gpu_parts", "card"), 35),
    Part("steps", ("bench.gpu_parts", "steps"), 70),
    Part("pieces", ("bench.gpu_parts", "pieces"), 25),
    Part("PyTorch eager", ("bench.gpu_parts", "torch-eager"), 50),
    Part("PyTorch compiled", ("bench.gpu_parts", "torch-compiled"), 70),
    Part("JAX", ("bench.gpu_parts", "jax"), 50),
    Part("streaming", ("bench.gpu_parts", "streaming"), 60),
    Part("precision", ("bench.gpu_parts", "precision"), 30),
    _scaling("scaling", 110, "", ["28-64-1"], budget=85, rounds=3),
    Part("tests on the card", (*PYTEST, "-m", "gpu"), 150, read=_tests, needs="tests"),
    Part("other tests", (*PYTEST, "-m", "not gpu"), 540, read=_tests, needs="tests"),
)
# What is asked after that, ten minutes at a time, in the order of its worth; each writes gpu-NAME.json.
FURTHER = (
    Part("memcheck", ("bench.gpu_more", "memcheck"), 180, "compute-sanitizer's memcheck on every kernel"),
    Part("racecheck", ("bench.gpu_more", "racecheck"), 300, "its racecheck"),
    Part("hashes", ("bench.gpu_more", "hashes"), 120, "ten runs of every step and of epochs, one hash each"),
    Part(
        "epochs", ("bench.gpu_more", "epochs"), 420,
        "an epoch of Adam beside PyTorch, eager and compiled with CUDA graphs",
    ),
    Part(
        "codes", ("bench.gpu_more", "codes"), 300,
        "a table of codes beside its ones and zeros, full batches and epochs",
    ),
    Part("forms", ("bench.gpu_more", "forms"), 180, "more shapes, by every step"),
    _scaling(
        "crossover", 500, "m from 1,000 to 20 million beside NumPy and the native step, in more rounds",
        ["28-64-1", "784-128-1"], budget=440, rounds=7,
    ),
    Part("streaming", ("bench.gpu_parts", "streaming"), 120, "the share of the copy's rate, again"),
)  # fmt: skip


def further(name: str) -> Part:
    """The further part of that name; InputError for another."""
    known = {part.name: part for part in FURTHER}
    if name not in known:
        raise InputError(f"unknown part {name!r}; the known ones are {', '.join(known)}.")
    return known[name]


def listed() -> str:
    """The further parts, what each is and how long it may take."""
    return "; ".join(f"{part.name} ({part.what}, {part.seconds / 60:.0f} min)" for part in FURTHER)


# --- The run --------------------------------------------------------------------------------------------------


def measure(
    folder: Path, say: Callable[[str], None], *, parts: Sequence[Part] = PARTS, seconds: float = SECONDS,
    name: str = "gpu",
) -> dict[str, Any]:  # fmt: skip
    """Run all parts; the content of FOLDER/NAME.json. DeviceError without a card that works."""
    card, path = places.place("cuda"), folder / f"{name}.json"
    result: dict[str, Any] = {
        "kind": "gpu", "schema": SCHEMA, "command": "python -m bench gpu", "machine": machine.describe(),
        "device": card.name, "seconds": seconds, "parts": {}, "summary": {}, "finished": False,
    }  # fmt: skip
    for old in (path, *(folder / part.file for part in parts if part.file)):
        make_room(old)
        old.unlink(missing_ok=True)  # else a part that fails would be told by an earlier run's points
    deadline = time.perf_counter() + seconds
    save = partial(write, path, result)
    for part in parts:
        left = deadline - time.perf_counter()
        own = result["parts"][part.name] = {"status": "running", "seconds": 0.0, "points": [], "error": ""}
        save()
        if why_not := _why_not(part, left, seconds):
            own["status"], own["error"] = "left out", why_not
        else:
            _run(part, folder, min(part.seconds, left), own, save)
        result["summary"] = summary(result["parts"])
        save()
        say(f"{part.name}: {own['status']} in {own['seconds']:.0f} s{': ' * bool(own['error'])}{own['error']}")
    result["finished"] = True
    save()
    return result


def _why_not(part: Part, left: float, seconds: float) -> str:
    """Why a part is left out, or ""."""
    if part.needs and not (ROOT / part.needs).is_dir():
        return f"there is no folder {part.needs} here; run it from a checkout of the repository"
    return "" if left >= 5 else f"the {seconds:,.0f} s were used up"


def _run(part: Part, folder: Path, seconds: float, own: dict[str, Any], save: Callable[[], None]) -> None:
    """Run one part into ``own``; nothing that it does ends the run."""
    began = time.perf_counter()
    printed: list[str] = []
    try:
        for line in _lines(part, folder, seconds, own):
            printed.append(line)
            if part.read is None and line.startswith("{"):
                own["points"].append(json.loads(line))
                own["seconds"] = time.perf_counter() - began
                save()
        if part.read is not None:
            own["points"] = part.read("\n".join(printed), folder)
    except Exception as fault:  # of a part's own making: its output cannot be read, say
        own["status"], own["error"] = "failed", f"{own['error']} {children.one_line(fault)}".strip()
    own["seconds"] = time.perf_counter() - began


def _lines(part: Part, folder: Path, seconds: float, own: dict[str, Any]) -> Iterator[str]:
    """What the part prints, as it does; how it ended is in ``own`` after the last one."""
    command = [str(folder) if word == "FOLDER" else word for word in part.command]
    began, last = time.perf_counter(), ""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        children.process(command, {}, stdin=subprocess.DEVNULL, stderr=errors, cwd=ROOT) as child,
    ):
        assert child.stdout is not None
        timer = threading.Timer(seconds, children.end, [child])
        timer.start()
        try:
            for line in child.stdout:
                last = line.rstrip("\n")
                yield last
            child.wait()
        finally:
            timer.cancel()
        own["status"] = "done"
        if child.returncode == -signal.SIGKILL and time.perf_counter() - began >= seconds:
            own["status"], own["error"] = "out of time", f"after {seconds:.0f} s"
        elif child.returncode != 0:
            errors.seek(0)
            tail = " ".join(" ".join([*errors][-5:] or [last]).split())[-300:]
            own["status"], own["error"] = "failed", f"status {child.returncode}: {tail}"


# --- What follows ---------------------------------------------------------------------------------------------


@contextmanager
def read_from(path: Path) -> Iterator[None]:
    """What is made of a file within: InputError where it has not what it should have, for its parts have many forms."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as fault:
        raise InputError(f"{path} is not what bench gpu writes ({fault!r}); move it elsewhere.") from fault


PEERS = ("PyTorch eager", "PyTorch compiled", "JAX")


def summary(parts: dict[str, Any]) -> dict[str, Any]:
    """What issue and README ask for, as far as it is known: times, pieces, crossover, streaming, precision, tests."""
    ours = {p["case"]: p for p in _points(parts, "steps") if p.get("chosen") and "seconds" in p}
    cases = []
    for name, point in ours.items():
        row = {"case": name, "m": point["m"], "step": point["step"], "ms": 1000 * point["seconds"]}
        for peer in PEERS:
            theirs = next((p for p in _points(parts, peer) if p.get("case") == name and "seconds" in p), None)
            row[f"{peer} over ours"] = None if theirs is None else theirs["seconds"] / point["seconds"]
        cases.append(row)
    scaling: dict[str, Any] = next((p["summary"] for p in _points(parts, "scaling") if "summary" in p), {})
    tests = [{"part": name, **p} for name in ("tests on the card", "other tests") for p in _points(parts, name)]
    return {
        "cases": cases,
        "pieces": [p for p in _points(parts, "pieces") if "seconds" in p],
        "crossover": scaling.get("crossover"),
        "streaming": next((p for p in reversed(_points(parts, "streaming")) if "share" in p), None),
        "precision": [p for p in _points(parts, "precision") if "tf32" in p],
        "tests": tests,
    }


def _points(parts: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return parts.get(name, {}).get("points", [])


def lines(result: dict[str, Any]) -> list[str]:
    """The summary as text."""
    found = []
    for row in result["summary"].get("cases", []):
        ratios = [f"{peer} {row[f'{peer} over ours']:.2f} times" for peer in PEERS if row[f"{peer} over ours"]]
        head = f"{row['case']}, m = {row['m']:,}, {row['step']}: {row['ms']:.2f} ms"
        found.append(f"{head}; {', '.join(ratios) or 'no peer'}")
    found += [
        f"{row['case']}, {row['piece']}: {1000 * row['seconds']:.3f} ms, {row['rate'] / 1e9:,.0f} GB/s"
        + (f"; error {row['error_of_dW1']:.0e}" if "error_of_dW1" in row else "")
        for row in result["summary"].get("pieces", [])
    ]
    for row in result["summary"].get("crossover") or []:
        top = f"{row['top_ratio']:.1f} times at m = {row['top_m']:,}"
        since = "not faster than the CPU" if row["m"] is None else f"faster than the CPU from m = {row['m']:,}"
        found.append(f"{row['shape']}: {since}; {top}")
    if streaming := result["summary"].get("streaming"):
        found.append(
            f"streaming: {streaming['rate'] / 1e9:.1f} GB/s, {100 * streaming['share']:.0f} % of the smaller of a "
            f"pinned copy's {streaming['pinned'] / 1e9:.1f} and the host's {streaming['host'] / 1e9:.1f}; "
            f"same bits as resident: {streaming['same_bits']}"
        )
    found += [
        f"{row['case']}: error of float32 {row['float32']:.1e}, of TF32 {row['tf32']:.1e}"
        for row in result["summary"].get("precision", [])
    ]
    for row in result["summary"].get("tests", []):
        counts = ", ".join(f"{row[word]} {word}" for word in OUTCOMES.values() if word in row)
        until = f"; cut off at {row['last_line']}" if row.get("cut_off") and counts else ""
        found.append(f"{row['part']}: {counts or row['last_line'] or 'no outcome'}{until}")
    parts = result["parts"].items()
    return found + [f"{name}: {part['status']}: {part['error']}" for name, part in parts if part["status"] != "done"]


def draw(result: dict[str, Any], path: Path) -> Path:
    """One picture: the cases with their peers, and examples per second as m grows. Needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    bars, curves = figure.subplots(1, 2)
    parts = result["parts"]
    who = [("fullbatch", [p for p in _points(parts, "steps") if p.get("chosen")])]
    who += [(peer, _points(parts, peer)) for peer in PEERS]
    cases = list(dict.fromkeys(p["case"] for _, points in who for p in points if "seconds" in p))
    for i, (name, points) in enumerate(who):
        times = {p["case"]: 1000 * p["seconds"] for p in points if "seconds" in p}
        places = [cases.index(case) + (i - 1.5) * 0.2 for case in times]
        bars.bar(places, list(times.values()), width=0.19, label=name)
    bars.set_xticks(range(len(cases)), cases)
    bars.set_yscale("log")
    bars.set_ylabel("ms of one cost and gradient")
    if cases:
        bars.legend()
    points = [p for p in _points(parts, "scaling") if p.get("seconds")]
    for name in dict.fromkeys(p["backend"] for p in points):
        line = [(p["m"], p["m"] / p["seconds"]["median"]) for p in points if p["backend"] == name]
        curves.plot(*zip(*sorted(line), strict=True), marker="o", label=name)
    curves.set_xscale("log")
    curves.set_yscale("log")
    curves.set_xlabel("m")
    curves.set_ylabel("examples per second, 28-64-1")
    if points:
        curves.legend()
    plots.save(figure, path, result)
    return path
