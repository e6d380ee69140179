"""``python -m bench``: parse arguments, measure, write, show.

The result goes to FOLDER/NAME.json, with NAME.png; the tables go to stdout, progress and errors to stderr.
An error is one line and exit 2; Ctrl-C keeps the points measured so far and is exit 130.
"""

from __future__ import annotations

import inspect
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import msgspec
import typer

from bench import (
    accuracy,
    datasets,
    forms,
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
from bench.runs import Run
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


# --- Options --------------------------------------------------------------------------------------------------


def _count(given: str | int) -> int:
    """ "1e7", "10_000_000" or "10000000", or the default."""
    try:
        value = float(str(given).replace("_", "").replace(",", ""))
    except ValueError:
        value = math.nan
    if not (value.is_integer() and 1 <= value <= 1e12):
        raise typer.BadParameter(
            f"{given!r} is no count of examples; give a whole number of at least 1, for example 1e6."
        )
    return int(value)


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is out of range; give a number larger than 0.")
    return value


def _quiet(value: float) -> float:
    """Not by typer's own range, which some of its versions let NaN through."""
    if not 0 <= value <= 2:
        raise typer.BadParameter(f"{value:g} is out of range; give a number from 0 to 2.")
    return value


def _folder(given: str | Path) -> Path:
    if not str(given).strip():  # as a Path it would be this folder
        raise typer.BadParameter("the name is empty; give a folder, '.' for this one.")
    return Path(given)


def _cores(value: int | None) -> int | None:
    if value is not None and value > thread_count(None):
        raise typer.BadParameter(f"{value} threads are more than the {thread_count(None)} that can run at once here.")
    return value


option = typer.Option
in_folder = partial(option, metavar="FOLDER", parser=_folder)
counted = partial(option, metavar="M", parser=_count)
Several = list[str] | None

Out = Annotated[Path, in_folder(help="Where the JSON and the plot go.")]
Name = Annotated[str | None, option(metavar="NAME", help="Of the files, without an ending. (default: the command's)")]
Resume = Annotated[bool, option("--resume", help="Go on with the run that is there: same settings, revision, machine.")]
Rounds = Annotated[int, option(min=1, help="Rounds to keep, at most.")]
Quiet = Annotated[
    float,
    option(callback=_quiet, help="Drop a round in which two threads give less than this times one, up to 2; 0: none."),
]
Quick = Annotated[bool, option("--quick", help="A try in seconds: tiny sizes, no pauses. Figures not worth quoting.")]
Budget = Annotated[
    float, option(metavar="SECONDS", callback=_positive, help="For all of it; what would take longer is left out.")
]
Batch = Annotated[list[int] | None, option(min=2, help="A batch size of the epoch; may be repeated.")]
Part = Annotated[str, option(metavar="PART", help="step, epoch or both.")]
Peer = Annotated[Several, option(help="A peer of the step; may be repeated.")]
Shapes = Annotated[Several, option(help="A network, e.g. 28-64-1; may be repeated.")]
Seeds = Annotated[int, option(min=1, help="How many.")]
Results = Annotated[Path, in_folder(help="With the JSON files.")]


# --- A run ----------------------------------------------------------------------------------------------------


def _teller() -> Callable[[str], None]:
    """What says a line of progress, with the seconds since now."""
    start = time.perf_counter()
    return lambda line: print(f"[{time.perf_counter() - start:6.1f} s] {line}", file=sys.stderr, flush=True)


def _kind(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _measure(
    module: ModuleType, settings: Any, out: Out = Path("bench-results"), name: Name = None, resume: Resume = False
) -> int:
    """Run the module into a result that is written after each point, draw it, and show it."""
    kind = _kind(module)
    path = writable(out) / f"{file_name(kind if name is None else name)}.json"
    result = Result(kind, typed.get(), machine.describe(), msgspec.json.decode(forms.encoded(settings)))
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
        module.run(settings, Run(result, settings.budget, save, say))
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


def _rules(untimed: int, rounds: Rounds = 7, quiet: Quiet = 1.6, quick: Quick = False) -> Rules:
    return Rules.quick() if quick else Rules(rounds=rounds, least=min(3, rounds), quiet=quiet, untimed=untimed)


def _options(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Of a function's arguments those with a default."""
    return [one for one in inspect.signature(function, eval_str=True).parameters.values() if one.default != one.empty]


def _runs(module: ModuleType, untimed: int | None = None) -> Callable[..., Any]:
    """The command of the module's name, of a function that gives the settings of its run, with the options of all runs.

    untimed : of a run of rounds, which has their options too, the calls before a timed one; its function gets the rules
    """

    def command(settings_of: Callable[..., Any]) -> Callable[..., Any]:
        def run(out: Path, name: str | None, resume: bool, **given: Any) -> int:
            if untimed is not None:
                given["rules"] = _rules(untimed, given.pop("rounds"), given.pop("quiet"), given["quick"])
            return _measure(module, settings_of(**given), out, name, resume)

        options = [*_options(_measure), *_options(settings_of), *([] if untimed is None else _options(_rules))]
        run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in options}
        run.__doc__ = settings_of.__doc__
        return app.command(_kind(module))(run)

    return command


def _batches(given: list[int] | None, quick: bool) -> tuple[int, ...]:
    for size in given or ():
        if size > minibatch.ROWS:
            raise InputError(f"a batch of {size:,} is more than the {minibatch.ROWS:,} examples of an epoch.")
    return tuple(dict.fromkeys(given or ([200] if quick else [200, 1000])))


def _shapes(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(Shape.parse(one).name for one in given))


# --- The commands: what each is told, as the settings of its run -------------------------------------------------


@_runs(scaling, untimed=1)
def of_scaling(
    rules: Rules,
    quick: bool,
    shape: Shapes = None,
    backend: Annotated[
        Several, option(help=f"{', '.join(BACKENDS)}; may be repeated. (default: all that work)")
    ] = None,
    first: Annotated[int, counted("--from", help="The smallest m.")] = scaling.FIRST,
    last: Annotated[
        int | None, counted("--to", help="The largest m. (default: 1e7, or as far as memory reaches)")
    ] = None,
    dtype: Annotated[str, option(help="float32 or float64.")] = "float32",
    threads: Annotated[int | None, option(min=1, callback=_cores, help="On the CPU. (default: all cores)")] = None,
    budget: Budget = 480.0,
    memory: Annotated[bool, option("--memory/--no-memory", help="Measure peak memory too.")] = True,
) -> scaling.Settings:
    """One full-batch cost and gradient for m from 10^3 to 10^7, on each backend that works here."""
    settings = scaling.Settings(
        shapes=_shapes(shape or (scaling.SHAPES[:2] if quick else scaling.SHAPES)),
        backends=chosen(backend, BACKENDS, "backend"),
        first=first,
        last=max(30_000, first) if last is None and quick else last,
        dtype=chosen([dtype], DTYPES, "dtype")[0],
        threads=threads, budget=budget, memory=memory, quick=quick, rules=rules,
    )  # fmt: skip
    settings.usable()  # else an error now, before anything is said
    return settings


@_runs(peers, untimed=2)
def of_peers(
    rules: Rules,
    quick: bool,
    case: Annotated[Several, option(help="A network of the step, e.g. 28-64-1; may be repeated.")] = None,
    peer: Peer = None,
    batch: Batch = None,
    part: Part = "both",
    allocator: Annotated[Several, option(help="default or keeping; may be repeated.")] = None,
    budget: Budget = 1200.0,
) -> peers.Settings:
    """The same step, and the same epoch of Adam, by what people would use instead."""
    chosen([part], PARTS, "part")
    names = chosen(peer, dict.fromkeys([*peers.PEERS, *minibatch.CONTENDERS]), "peer")
    cases = chosen(case, peers.CASES, "case")[: 1 if quick and not case else None]
    batches = _batches(batch, quick) if part != "step" else ()
    # A part in which none of the chosen has a place would time fullbatch beside nobody.
    cases = cases if part != "epoch" and set(names) & set(peers.PEERS) else ()
    batches = batches if set(names) & set(minibatch.CONTENDERS) else ()
    if not cases and not batches:
        there = minibatch.CONTENDERS if part == "epoch" else peers.PEERS
        raise InputError(f"none of the chosen peers takes part in the {part}; these do: {'; '.join(there)}.")
    return peers.Settings(
        cases=cases, batches=batches, peers=tuple(dict.fromkeys([peers.OURS, *names])),
        allocators=chosen(allocator, peers.ALLOCATORS, "allocator"),
        budget=budget, scale=0.01 if quick else 1.0, rules=rules,
    )  # fmt: skip


@_runs(accuracy)
def of_accuracy(
    shape: Annotated[str, option(help="A network, e.g. 28-64-1.")] = accuracy.Settings.shape,
    rows: Annotated[int, counted(help="Examples.")] = accuracy.Settings.m,
    peer: Peer = None,
    budget: Budget = accuracy.Settings.budget,
    quick: Quick = False,
) -> accuracy.Settings:
    """How far one gradient in float32 over 10^7 rows is off, by each, against float64."""
    return accuracy.Settings(_shapes([shape])[0], 1000 if quick else rows, chosen(peer, peers.PEERS, "peer"), budget)


@_runs(serving, untimed=2)
def of_serving(
    rules: Rules,
    quick: bool,
    part: Annotated[Several, option(metavar="PART", help="bulk, row or graph; may be repeated. (default: all)")] = None,
    budget: Budget = serving.Settings.budget,
) -> serving.Settings:
    """Asking a model: many rows, one row, and its ONNX graph beside one that is written by hand."""
    return serving.Settings(chosen(part, serving.PARTS, "part"), budget, 0.001 if quick else 1.0, rules)


@_runs(profile, untimed=2)
def of_profile(
    rules: Rules, quick: bool, shape: Shapes = None, batch: Batch = None, part: Part = "both", budget: Budget = 300.0
) -> profile.Settings:
    """Where the time of fullbatch's own step and epoch goes: parts, by measurement."""
    chosen([part], PARTS, "part")
    shapes = _shapes(shape or peers.CASES) if part != "epoch" else ()
    batches = _batches(batch, quick) if part != "step" else ()
    return profile.Settings(shapes, batches, budget, 0.01 if quick else 1.0, rules)


@_runs(training)
def of_training(
    data: Annotated[Path | None, in_folder(help="With the files of the data sets; without it: digits.")] = None,
    dataset: Annotated[Several, option(help="A data set; may be repeated. (default: all of the folder)")] = None,
    contender: Annotated[Several, option(help="Who trains; may be repeated.")] = None,
    seeds: Seeds = 3,
    budget: Budget = 480.0,
    quiet: Quiet = 1.6,
) -> training.Settings:
    """Seconds until the held-out log-loss of scikit-learn's MLP is reached, on real data."""
    names = datasets.available(dataset, data)
    who = dict.fromkeys([training.SKLEARN, training.OURS, *chosen(contender, training.CONTENDERS, "contender")])
    rules = replace(training.RULES, quiet=quiet)
    return training.Settings(names, None if data is None else str(data), tuple(who), seeds, budget, rules)


@_runs(tables)
def of_tables(
    data: Annotated[Path | None, in_folder(help="With the files of some tables; without it: the others.")] = None,
    table: Annotated[Several, option(help="A table; may be repeated. (default: all)")] = None,
    contender: Annotated[Several, option(help="Who learns; may be repeated.")] = None,
    seeds: Seeds = 3,
    limit: Annotated[
        float, option(metavar="SECONDS", callback=_positive, help="Of a fit; what it has then counts, marked.")
    ] = tables.LIMIT,
    budget: Budget = tables.Settings.budget,
    quick: Quick = False,
) -> tables.Settings:
    """Held-out loss, seconds and memory on twelve real tables, beside boosted trees and scikit-learn's MLP."""
    known = [name for name, about in tables.TABLES.items() if data is not None or about.source != tables.FILES]
    return tables.Settings(
        chosen(table or known, tables.TABLES, "table"), None if data is None else str(data),
        tuple(dict.fromkeys([tables.OURS, *chosen(contender, tables.CONTENDERS, "contender")])),
        seeds, budget, *((5.0, 1000) if quick else (limit,)),
    )  # fmt: skip


@app.command("gpu")
def gpu_command(
    out: Out = Path("bench-results"),
    budget: Budget = gpu.SECONDS,
    part: Annotated[
        Several,
        option(
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
        list[Path] | None, option("--readme", metavar="FILE", help="A page with marks; may be repeated.")
    ] = None,
    check: Annotated[bool, option("--check", help="Write nothing; exit 1 where the file is not up to date.")] = False,
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
