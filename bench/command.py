"""``python -m bench``: parse arguments, measure, write, show.

The result goes to FOLDER/NAME.json, with NAME.png; the tables go to stdout, progress and errors to stderr.
An error is one line and exit 2; Ctrl-C keeps the points measured so far and is exit 130.
"""

from __future__ import annotations

import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import (
    accuracy,
    datasets,
    gpu,
    machine,
    minibatch,
    peers,
    plots,
    profile,
    readme,
    render,
    scaling,
    serving,
    tables,
    training,
)
from bench.backends import BACKENDS
from bench.problem import Shape
from bench.results import Result, chosen, file_name, is_drawn_from, load_all, make_room, of_gpu, writable
from bench.timing import Rules
from fullbatch.command.signals import stopping_with
from fullbatch.errors import FullbatchError, InputError
from fullbatch.machine.threads import thread_count

app = typer.Typer(
    name="python -m bench",
    help="Measure fullbatch: as m grows, beside its peers, and to accuracy on real data.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
DTYPES, PARTS = ("float32", "float64"), ("step", "epoch", "both")
typed: ContextVar[str] = ContextVar("typed")  # the command line, for the result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (``sys.argv`` if None) and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    typed.set("python -m bench " + shlex.join(arguments))
    try:
        with stopping_with(KeyboardInterrupt, signal.SIGTERM):  # docker stop: what was measured is kept
            status = app(arguments, prog_name="python -m bench", standalone_mode=False)
        if status == INTERRUPTED:  # ours, or typer's, which makes an exit of Ctrl-C and says nothing
            return _fail("interrupted.", INTERRUPTED)
        return status if isinstance(status, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted.", INTERRUPTED)
    except FullbatchError as error:
        return _fail(str(error), BAD_INPUT)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except MemoryError as error:
        return _fail(f"out of memory ({error}); give a smaller range or other shapes.", BAD_INPUT)
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return _fail("matplotlib is not installed; for the pictures: pip install 'fullbatch[bench]'", BAD_INPUT)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # whichever click it is from; the help has been printed
            return BAD_INPUT
        if hasattr(error, "format_message"):  # typer's errors of usage
            return _fail(error.format_message(), BAD_INPUT)
        raise


def _fail(message: str, status: int) -> int:
    print(f"bench: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return status


# --- A run ----------------------------------------------------------------------------------------------------


def _teller() -> Callable[[str], None]:
    """What says a line of progress, with the seconds since now."""
    start = time.perf_counter()
    return lambda line: print(f"[{time.perf_counter() - start:6.1f} s] {line}", file=sys.stderr, flush=True)


def _measure(kind: str, settings: Any, work: Callable[..., None], out: Path, name: str | None, *, resume: bool) -> int:
    """Run ``work`` into a result that is written after each point, draw it, and show it."""
    path = writable(out) / f"{file_name(kind if name is None else name)}.json"
    result = Result(kind, typed.get(), machine.describe(), _plain(asdict(settings)))
    if resume:
        result.go_on(path)
    say = _teller()
    new = not resume

    def save() -> None:
        nonlocal new
        if new and (line := make_room(path)):
            say(line)
        new = False
        result.save(path)

    say(result.machine.short)
    for line in result.machine.doubts:
        say(line)
    status = 0
    try:
        work(settings, result, save=save, say=say)
        result.finished = True
    except KeyboardInterrupt:
        status = INTERRUPTED
    if not result.points and status:
        say("nothing was measured yet")
        return status
    if not result.points:
        raise InputError("nothing was measured; the lines above say why.")
    save()
    render.show(result, render.console())
    files = [path, *_drawn(partial(plots.draw, result, path), say)]
    done = f"{len(result.points)} points{' kept' * bool(status)}"
    say(f"{done}: {', '.join(map(str, files))}")
    return status


def _drawn(draw: Callable[[], list[Path]], say: Callable[[str], None]) -> list[Path]:
    """The pictures; without them a run has its figures all the same."""
    try:
        return draw()
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        say("no plot: matplotlib is not installed (pip install 'fullbatch[bench]'); later: python -m bench plot")
    except OSError as error:
        say(f"no plot: cannot write {error.filename}: {error.strerror}")
    return []


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


# --- Options --------------------------------------------------------------------------------------------------


def _count(text: str, option: str) -> int:
    """ "1e7", "10_000_000" or "10000000", as the option gives it."""
    try:
        value = float(text.replace("_", "").replace(",", ""))
    except ValueError:
        value = math.nan
    if not (value.is_integer() and 1 <= value <= 1e12):
        raise typer.BadParameter(
            f"{text!r} is no count of examples; give a whole number of at least 1, for example 1e6.", param_hint=option
        )
    return int(value)


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is out of range; give a number larger than 0.")
    return value


def _folder(given: str | Path) -> Path:
    if not str(given).strip():  # as a Path it would be this folder
        raise typer.BadParameter("the name is empty; give a folder, '.' for this one.")
    return Path(given)


def _cores(value: int | None) -> int | None:
    if value is not None and value > thread_count(None):
        raise typer.BadParameter(f"{value} threads are more than the {thread_count(None)} that can run at once here.")
    return value


Out = Annotated[Path, typer.Option(metavar="FOLDER", parser=_folder, help="Where the JSON and the plot go.")]
Name = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of the files, without an ending. (default: the command's)")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run that is there: same settings, revision and machine.")
]
Budget = Annotated[
    float,
    typer.Option(metavar="SECONDS", callback=_positive, help="For all of it; what would take longer is left out."),
]
Quick = Annotated[
    bool, typer.Option("--quick", help="A try in seconds: tiny sizes, no pauses. Figures not worth quoting.")
]
Batch = Annotated[list[int] | None, typer.Option(min=2, help="A batch size of the epoch; may be repeated.")]
Part = Annotated[str, typer.Option(metavar="PART", help="step, epoch or both.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds to keep, at most.")]


def _quiet(value: float) -> float:
    """Not by typer's own range, which some of its versions let NaN through."""
    if not 0 <= value <= 2:
        raise typer.BadParameter(f"{value:g} is out of range; give a number from 0 to 2.")
    return value


Quiet = Annotated[
    float,
    typer.Option(
        callback=_quiet, help="Drop a round in which two threads give less than this times one, up to 2; 0: keep all."
    ),
]
Shapes = Annotated[list[str] | None, typer.Option(help="A network, e.g. 28-64-1; may be repeated.")]
Results = Annotated[Path, typer.Option(metavar="FOLDER", parser=_folder, help="With the JSON files.")]


def _rules(quick: bool, rounds: int, quiet: float, untimed: int) -> Rules:
    return Rules.quick() if quick else Rules(rounds=rounds, least=min(3, rounds), quiet=quiet, untimed=untimed)


def _batches(given: list[int] | None, quick: bool) -> tuple[int, ...]:
    for size in given or ():
        if size > minibatch.ROWS:
            raise InputError(f"a batch of {size:,} is more than the {minibatch.ROWS:,} examples of an epoch.")
    return tuple(dict.fromkeys(given or ([200] if quick else [200, 1000])))


def _shapes(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(Shape.parse(one).name for one in given))


@app.command("scaling")
def scaling_command(
    out: Out = Path("bench-results"),
    name: Name = None,
    resume: Resume = False,
    shape: Shapes = None,
    backend: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(BACKENDS)}; may be repeated. (default: all that work)")
    ] = None,
    first: Annotated[str, typer.Option("--from", metavar="M", help="The smallest m.")] = "1e3",
    last: Annotated[
        str | None, typer.Option("--to", metavar="M", help="The largest m. (default: 1e7, or as far as memory reaches)")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    threads: Annotated[
        int | None, typer.Option(min=1, callback=_cores, help="On the CPU. (default: all cores)")
    ] = None,
    budget: Budget = 480.0,
    rounds: Rounds = 7,
    quiet: Quiet = 1.6,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure peak memory too.")] = True,
    quick: Quick = False,
) -> int:
    """One full-batch cost and gradient for m from 10^3 to 10^7, on each backend that works here."""
    settings = scaling.Settings(
        shapes=_shapes(shape or (scaling.SHAPES[:2] if quick else scaling.SHAPES)),
        backends=tuple(chosen(backend or [], BACKENDS, "backend")),
        first=_count(first, "--from"),
        last=_count(last, "--to") if last is not None else (max(30_000, _count(first, "--from")) if quick else None),
        dtype=chosen([dtype], DTYPES, "dtype")[0],
        threads=threads, budget=budget, memory=memory, quick=quick, rules=_rules(quick, rounds, quiet, untimed=1),
    )  # fmt: skip
    settings.check()
    return _measure("scaling", settings, scaling.run, out, name, resume=resume)


@app.command("peers")
def peers_command(
    out: Out = Path("bench-results"),
    name: Name = None,
    resume: Resume = False,
    case: Annotated[
        list[str] | None, typer.Option(help="A network of the step, e.g. 28-64-1; may be repeated.")
    ] = None,
    peer: Annotated[list[str] | None, typer.Option(help="A peer of the step; may be repeated.")] = None,
    batch: Batch = None,
    part: Part = "both",
    allocator: Annotated[list[str] | None, typer.Option(help="default or keeping; may be repeated.")] = None,
    budget: Budget = 1200.0,
    rounds: Rounds = 7,
    quiet: Quiet = 1.6,
    quick: Quick = False,
) -> int:
    """The same step, and the same epoch of Adam, by what people would use instead."""
    chosen([part], PARTS, "part")
    names = chosen(peer or [], dict.fromkeys([*peers.PEERS, *minibatch.CONTENDERS]), "peer")
    cases = chosen(case or [], peers.CASES, "case")
    batches = _batches(batch, quick) if part != "step" else ()
    if quick and not case:
        cases = cases[:1]
    # A part in which none of the chosen has a place would time fullbatch beside nobody.
    cases = cases if part != "epoch" and set(names) & set(peers.PEERS) else []
    batches = batches if set(names) & set(minibatch.CONTENDERS) else ()
    if not cases and not batches:
        there = minibatch.CONTENDERS if part == "epoch" else peers.PEERS
        raise InputError(f"none of the chosen peers takes part in the {part}; these do: {'; '.join(there)}.")
    settings = peers.Settings(
        cases=tuple(cases), batches=batches, peers=tuple(dict.fromkeys([peers.OURS, *names])),
        allocators=tuple(chosen(allocator or [], peers.ALLOCATORS, "allocator")),
        budget=budget, scale=0.01 if quick else 1.0, rules=_rules(quick, rounds, quiet, untimed=2),
    )  # fmt: skip
    return _measure("peers", settings, peers.run, out, name, resume=resume)


@app.command("accuracy")
def accuracy_command(
    out: Out = Path("bench-results"),
    name: Name = None,
    resume: Resume = False,
    shape: Annotated[str, typer.Option(help="A network, e.g. 28-64-1.")] = accuracy.Settings.shape,
    rows: Annotated[str, typer.Option(metavar="M", help="Examples.")] = "1e7",
    peer: Annotated[list[str] | None, typer.Option(help="A peer of the step; may be repeated.")] = None,
    budget: Budget = accuracy.Settings.budget,
    quick: Quick = False,
) -> int:
    """How far one gradient in float32 over 10^7 rows is off, by each, against float64."""
    m = 1000 if quick else _count(rows, "--rows")
    settings = accuracy.Settings(_shapes([shape])[0], m, tuple(chosen(peer or [], peers.PEERS, "peer")), budget)
    return _measure("accuracy", settings, accuracy.run, out, name, resume=resume)


@app.command("serving")
def serving_command(
    out: Out = Path("bench-results"),
    name: Name = None,
    resume: Resume = False,
    part: Annotated[
        list[str] | None, typer.Option(metavar="PART", help="bulk, row or graph; may be repeated. (default: all)")
    ] = None,
    budget: Budget = serving.Settings.budget,
    rounds: Rounds = 7,
    quiet: Quiet = 1.6,
    quick: Quick = False,
) -> int:
    """Asking a model: many rows, one row, and its ONNX graph beside one that is written by hand."""
    parts = tuple(chosen(part or [], dict.fromkeys(serving.PARTS), "part"))
    rules = _rules(quick, rounds, quiet, untimed=2)
    settings = serving.Settings(parts, budget, 0.001 if quick else 1.0, rules)
    return _measure("serving", settings, serving.run, out, name, resume=resume)


@app.command("profile")
def profile_command(
    out: Out = Path("bench-results"),
    name: Name = None,
    resume: Resume = False,
    shape: Shapes = None,
    batch: Batch = None,
    part: Part = "both",
    budget: Budget = 300.0,
    rounds: Rounds = 7,
    quiet: Quiet = 1.6,
    quick: Quick = False,
) -> int:
    """Where the time of fullbatch's own step and epoch goes: parts, by measurement."""
    chosen([part], PARTS, "part")
    settings = profile.Settings(
        shapes=_shapes(shape or peers.CASES) if part != "epoch" else (),
        batches=_batches(batch, quick) if part != "step" else (),
        budget=budget, scale=0.01 if quick else 1.0, rules=_rules(quick, rounds, quiet, untimed=2),
    )  # fmt: skip
    return _measure("profile", settings, profile.run, out, name, resume=resume)


@app.command("training")
def training_command(
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", parser=_folder, help="With the files of the data sets; without it: digits."),
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="A data set; may be repeated. (default: all of the folder)")
    ] = None,
    out: Out = Path("bench-results"),
    name: Name = None,
    resume: Resume = False,
    contender: Annotated[list[str] | None, typer.Option(help="Who trains; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    budget: Budget = 480.0,
    quiet: Quiet = 1.6,
) -> int:
    """Seconds until the held-out log-loss of scikit-learn's MLP is reached, on real data."""
    names = datasets.available(dataset or [], data)
    who = dict.fromkeys([training.SKLEARN, training.OURS, *chosen(contender or [], training.CONTENDERS, "contender")])
    rules = replace(training.RULES, quiet=quiet)
    settings = training.Settings(tuple(names), None if data is None else str(data), tuple(who), seeds, budget, rules)
    return _measure("training", settings, training.run, out, name, resume=resume)


@app.command("tables")
def tables_command(
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", parser=_folder, help="With the files of some tables; without it: the others."),
    ] = None,
    table: Annotated[list[str] | None, typer.Option(help="A table; may be repeated. (default: all)")] = None,
    out: Out = Path("bench-results"),
    name: Name = None,
    resume: Resume = False,
    contender: Annotated[list[str] | None, typer.Option(help="Who learns; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    limit: Annotated[
        float, typer.Option(metavar="SECONDS", callback=_positive, help="Of a fit; what it has then counts, marked.")
    ] = tables.LIMIT,
    budget: Budget = tables.Settings.budget,
    quick: Quick = False,
) -> int:
    """Held-out loss, seconds and memory on twelve real tables, beside boosted trees and scikit-learn's MLP."""
    known = [one for one, about in tables.TABLES.items() if data is not None or about.source != tables.FILES]
    settings = tables.Settings(
        tuple(chosen(table or known, tables.TABLES, "table")), None if data is None else str(data),
        tuple(dict.fromkeys([tables.OURS, *chosen(contender or [], tables.CONTENDERS, "contender")])),
        seeds, budget, *((5.0, 1000) if quick else (limit,)),
    )  # fmt: skip
    return _measure("tables", settings, tables.run, out, name, resume=resume)


@app.command("gpu")
def gpu_command(
    out: Out = Path("bench-results"),
    budget: Budget = gpu.SECONDS,
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"A further part instead, into gpu-NAME.json; may be repeated. In the order of worth: {gpu.listed()}.",
        ),
    ] = None,
) -> int:
    """All that a card can tell, in nine minutes: times, peers, streaming, precision, as m grows, and the tests."""
    if part:
        for one in [gpu.further(name) for name in dict.fromkeys(part)]:
            result = gpu.measure(writable(out), _teller(), parts=[one], seconds=budget, name=f"gpu-{one.name}")
            print("\n".join(gpu.lines(result)))
        return 0
    say, path = _teller(), writable(out) / "gpu.json"
    result = gpu.measure(out, say, seconds=budget)
    print("\n".join(gpu.lines(result)))
    say(", ".join(map(str, [path, *_drawn(lambda: [gpu.draw(result, path.with_suffix(".png"))], say)])))
    return 0


@app.command("plot")
def plot_command(results: Results = Path("bench/results")) -> int:
    """Draw the pictures of all results of a folder anew."""
    loaded = load_all(results)
    writable(results)
    try:
        for path, result in loaded:
            for file in plots.draw(result, path):
                print(file)
        for path in sorted(results.glob("*.json")):
            if (raw := of_gpu(path)) is not None:
                with gpu.read_from(path):
                    print(gpu.draw(raw, path.with_suffix(".png")))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"cannot write {error.filename}: {error.strerror}; move it elsewhere.") from error
    return 0


@app.command("show")
def show_command(results: Results = Path("bench/results")) -> int:
    """Print the tables of all results of a folder."""
    for path, result in load_all(results):
        print(f"\n{path}: {result.command}")
        render.show(result, render.console())
    return 0


@app.command("readme")
def readme_command(
    results: Results = Path("bench/results"),
    file: Annotated[
        list[Path] | None,
        typer.Option("--readme", metavar="FILE", help="A page with marks; may be repeated.", show_default=False),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where the file is not up to date.")
    ] = False,
) -> int:
    """Make the marked sections of README.md and of the pages in docs/ anew from the results."""
    if not check:
        plot_command(results)
    for page in file or readme.PAGES:
        current = readme.update(page, results, check=check)
        if check and not current:
            return _fail(f"{page} is not what {results} gives; run: python -m bench readme", FAILED)
    stale = [str(path.with_suffix(".png")) for path in sorted(results.glob("*.json")) if not is_drawn_from(path)]
    if check and stale:
        return _fail(f"not drawn from the results beside them: {', '.join(stale)}; run: python -m bench readme", FAILED)
    return 0
