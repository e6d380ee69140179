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
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import msgspec

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
from fullbatch.command.clicking import Command, Option, listed
from fullbatch.command.options import positive
from fullbatch.command.signals import stopping_with
from fullbatch.errors import FullbatchError, InputError
from fullbatch.machine.threads import thread_count

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
DTYPES, PARTS = ("float32", "float64"), ("step", "epoch", "both")
typed: ContextVar[str] = ContextVar("typed")  # the command line, for the result


class InOrder(click.Group):
    """Its commands stand in the help as they stand here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands]


@click.group(
    cls=InOrder,
    help="Measure fullbatch: as m grows, beside its peers, and to accuracy on real data.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.pass_context
def app(context: click.Context) -> int:
    if context.invoked_subcommand is None:
        print(context.get_help())
    return BAD_INPUT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (``sys.argv`` if None) and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    typed.set("python -m bench " + shlex.join(arguments))
    try:
        with stopping_with(KeyboardInterrupt, signal.SIGTERM):  # docker stop: what was measured is kept
            status = app(arguments, prog_name="python -m bench", standalone_mode=False)
        return _fail("interrupted.", INTERRUPTED) if status == INTERRUPTED else int(status or 0)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted.", INTERRUPTED)
    except FullbatchError as error:
        return _fail(str(error), BAD_INPUT)
    except click.ClickException as error:
        return _fail(error.format_message(), BAD_INPUT)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except MemoryError as error:
        return _fail(f"out of memory ({error}); give a smaller range or other shapes.", BAD_INPUT)
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return _fail("matplotlib is not installed; for the pictures: pip install 'fullbatch[bench]'", BAD_INPUT)


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
        raise click.BadParameter(
            f"{given!r} is no count of examples; give a whole number of at least 1, for example 1e6."
        )
    return int(value)


def _quiet(value: float) -> float:
    """Not by a range of Click's, which lets NaN through."""
    if not 0 <= value <= 2:
        raise click.BadParameter(f"{value:g} is out of range; give a number from 0 to 2.")
    return value


def _folder(given: str) -> Path:
    if not given.strip():  # as a Path it would be this folder
        raise click.BadParameter("the name is empty; give a folder, '.' for this one.")
    return Path(given)


def _cores(value: int | None) -> int | None:
    if value is not None and value > thread_count(None):
        raise click.BadParameter(f"{value} threads are more than the {thread_count(None)} that can run at once here.")
    return value


def among(known: Iterable[str], what: str, help: str, **others: Any) -> Option:
    """The option of names, of which none stands for all that are known."""
    return Option([f"--{what}"], multiple=True, help=help, check=lambda given: chosen(given, known, what), **others)


def one_of(known: Sequence[str], what: str, **others: Any) -> Option:
    return Option([f"--{what}"], check=lambda given: chosen([given], known, what)[0], **others)


def option(*names: str, **others: Any) -> Option:
    return Option(names, **others)


flag = partial(option, is_flag=True)
several = partial(option, multiple=True, check=listed)
folder = partial(option, metavar="FOLDER", type=_folder)
count = partial(option, metavar="M", type=_count)
whole = partial(option, type=click.IntRange(min=1))
seconds = partial(option, metavar="SECONDS", type=float, check=positive)
budget = partial(seconds, "--budget", help="For all of it; what would take longer is left out.")

OUT = folder("--out", default="bench-results", help="Where the JSON and the plot go.")
QUICK = flag("--quick", help="A try in seconds: tiny sizes, no pauses. Figures not worth quoting.")
QUIET = option(
    "--quiet", type=float, default=1.6, check=_quiet,
    help="Drop a round in which two threads give less than this times one, up to 2; 0: none.",
)  # fmt: skip
OF_RUNS = (
    OUT,
    option("--name", metavar="NAME", help="Of the files, without an ending. (default: the command's)"),
    flag("--resume", help="Go on with the run that is there: same settings, revision, machine."),
)
OF_ROUNDS = (whole("--rounds", default=7, help="Rounds to keep, at most."), QUIET, QUICK)
BATCH = several("--batch", type=click.IntRange(min=2), help="A batch size of the epoch; may be repeated.")
PART = one_of(PARTS, "part", metavar="PART", default="both", help="step, epoch or both.")
PEER = "A peer of the step; may be repeated."
SHAPES = several("--shape", "shapes", help="A network, e.g. 28-64-1; may be repeated.")
SEEDS = whole("--seeds", default=3, help="How many.")
RESULTS = folder("--results", default="bench/results", help="With the JSON files.")


# --- A run ----------------------------------------------------------------------------------------------------


def _teller() -> Callable[[str], None]:
    """What says a line of progress, with the seconds since now."""
    start = time.perf_counter()
    return lambda line: print(f"[{time.perf_counter() - start:6.1f} s] {line}", file=sys.stderr, flush=True)


def _kind(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _measure(module: ModuleType, settings: Any, out: Path, name: str | None, resume: bool) -> int:
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


def _rules(untimed: int, rounds: int, quiet: float, quick: bool) -> Rules:
    return Rules.quick() if quick else Rules(rounds=rounds, least=min(3, rounds), quiet=quiet, untimed=untimed)


Does = Callable[..., Any]


def _command(name: str, *options: Option) -> Callable[[Does], Does]:
    """The command of that name: the function gets the options, and gives the exit status."""

    def made(does: Does) -> Does:
        def run(**given: Any) -> int:
            try:
                return int(does(**given))
            except KeyboardInterrupt:  # of which Click would make an empty line
                return INTERRUPTED

        app.add_command(Command(name, callback=run, params=[*options], help=does.__doc__))
        return does

    return made


def _runs(module: ModuleType, *options: Option, untimed: int | None = None) -> Callable[[Does], Does]:
    """The command of the module's name, of a function that gives the settings of its run, with the options of all runs.

    untimed : of a run of rounds, which has their options too, the calls before a timed one; its function gets the rules
    """

    def command(settings_of: Does) -> Does:
        def run(out: Path, name: str | None, resume: bool, **given: Any) -> int:
            if untimed is not None:
                given["rules"] = _rules(untimed, given.pop("rounds"), given.pop("quiet"), given["quick"])
            return _measure(module, settings_of(SimpleNamespace(**given)), out, name, resume)

        run.__doc__ = settings_of.__doc__
        return _command(_kind(module), *OF_RUNS, *options, *(() if untimed is None else OF_ROUNDS))(run)

    return command


def _batches(given: list[int] | None, quick: bool) -> tuple[int, ...]:
    for size in given or ():
        if size > minibatch.ROWS:
            raise InputError(f"a batch of {size:,} is more than the {minibatch.ROWS:,} examples of an epoch.")
    return tuple(dict.fromkeys(given or ([200] if quick else [200, 1000])))


def _shapes(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(Shape.parse(one).name for one in given))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


# --- The commands: what each is told, as the settings of its run -------------------------------------------------


@_runs(
    scaling,
    SHAPES,
    among(BACKENDS, "backend", f"{', '.join(BACKENDS)}; may be repeated. (default: all that work)"),
    count("--from", "first", default=scaling.FIRST, help="The smallest m."),
    count("--to", "last", help="The largest m. (default: 1e7, or as far as memory reaches)"),
    one_of(DTYPES, "dtype", default="float32", help="float32 or float64."),
    whole("--threads", check=_cores, help="On the CPU. (default: all cores)"),
    budget(default=480.0),
    option("--memory/--no-memory", default=True, help="Measure peak memory too."),
    untimed=1,
)
def of_scaling(given: Any) -> scaling.Settings:
    """One full-batch cost and gradient for m from 10^3 to 10^7, on each backend that works here."""
    few, last = (scaling.SHAPES[:2], max(30_000, given.first)) if given.quick else (scaling.SHAPES, None)
    told = {**vars(given), "shapes": _shapes(given.shapes or few), "last": given.last or last}
    settings = scaling.Settings(backends=told.pop("backend"), **told)
    settings.usable()  # else an error now, before anything is said
    return settings


@_runs(
    peers,
    several("--case", help="A network of the step, e.g. 28-64-1; may be repeated."),
    among(dict.fromkeys([*peers.PEERS, *minibatch.CONTENDERS]), "peer", PEER),
    BATCH,
    PART,
    among(peers.ALLOCATORS, "allocator", "default or keeping; may be repeated."),
    budget(default=1200.0),
    untimed=2,
)
def of_peers(given: Any) -> peers.Settings:
    """The same step, and the same epoch of Adam, by what people would use instead."""
    quick, part, case = given.quick, given.part, given.case
    cases = chosen(case, peers.CASES, "case")[: 1 if quick and not case else None]
    batches = _batches(given.batch, quick) if part != "step" else ()
    # A part in which none of the chosen has a place would time fullbatch beside nobody.
    cases = cases if part != "epoch" and set(given.peer) & set(peers.PEERS) else ()
    batches = batches if set(given.peer) & set(minibatch.CONTENDERS) else ()
    if not cases and not batches:
        there = minibatch.CONTENDERS if part == "epoch" else peers.PEERS
        raise InputError(f"none of the chosen peers takes part in the {part}; these do: {'; '.join(there)}.")
    names = tuple(dict.fromkeys([peers.OURS, *given.peer]))
    return peers.Settings(cases, names, batches, given.allocator, given.budget, 0.01 if quick else 1.0, given.rules)


@_runs(
    accuracy,
    option("--shape", default=accuracy.Settings.shape, help="A network, e.g. 28-64-1."),
    count("--rows", default=accuracy.Settings.m, help="Examples."),
    among(peers.PEERS, "peer", PEER),
    budget(default=accuracy.Settings.budget),
    QUICK,
)
def of_accuracy(given: Any) -> accuracy.Settings:
    """How far one gradient in float32 over 10^7 rows is off, by each, against float64."""
    m = 1000 if given.quick else given.rows
    return accuracy.Settings(_shapes([given.shape])[0], m, given.peer, given.budget)


@_runs(
    serving,
    among(serving.PARTS, "part", "bulk, row or graph; may be repeated. (default: all)", metavar="PART"),
    budget(default=serving.Settings.budget),
    untimed=2,
)
def of_serving(given: Any) -> serving.Settings:
    """Asking a model: many rows, one row, and its ONNX graph beside one that is written by hand."""
    return serving.Settings(given.part, given.budget, 0.001 if given.quick else 1.0, given.rules)


@_runs(profile, SHAPES, BATCH, PART, budget(default=300.0), untimed=2)
def of_profile(given: Any) -> profile.Settings:
    """Where the time of fullbatch's own step and epoch goes: parts, by measurement."""
    shapes = _shapes(given.shapes or peers.CASES) if given.part != "epoch" else ()
    batches = _batches(given.batch, given.quick) if given.part != "step" else ()
    return profile.Settings(shapes, batches, given.budget, 0.01 if given.quick else 1.0, given.rules)


@_runs(
    training,
    folder("--data", help="With the files of the data sets; without it: digits."),
    several("--dataset", help="A data set; may be repeated. (default: all of the folder)"),
    among(training.CONTENDERS, "contender", "Who trains; may be repeated."),
    SEEDS,
    budget(default=480.0),
    QUIET,
)
def of_training(given: Any) -> training.Settings:
    """Seconds until the held-out log-loss of scikit-learn's MLP is reached, on real data."""
    names = datasets.available(given.dataset, given.data)
    who = tuple(dict.fromkeys([training.SKLEARN, training.OURS, *given.contender]))
    rules = replace(training.RULES, quiet=given.quiet)
    return training.Settings(names, _text(given.data), who, given.seeds, given.budget, rules)


@_runs(
    tables,
    folder("--data", help="With the files of some tables; without it: the others."),
    several("--table", help="A table; may be repeated. (default: all)"),
    among(tables.CONTENDERS, "contender", "Who learns; may be repeated."),
    SEEDS,
    seconds("--limit", default=tables.LIMIT, help="Of a fit; what it has then counts, marked."),
    budget(default=tables.Settings.budget),
    QUICK,
)
def of_tables(given: Any) -> tables.Settings:
    """Held-out loss, seconds and memory on twelve real tables, beside boosted trees and scikit-learn's MLP."""
    known = [name for name, about in tables.TABLES.items() if given.data is not None or about.source != tables.FILES]
    names, who = chosen(given.table or known, tables.TABLES, "table"), dict.fromkeys([tables.OURS, *given.contender])
    least = (5.0, 1000) if given.quick else (given.limit,)
    return tables.Settings(names, _text(given.data), tuple(who), given.seeds, given.budget, *least)


@_command(
    "gpu",
    OUT,
    budget(default=gpu.SECONDS),
    several(
        "--part",
        metavar="NAME",
        help=f"A further part instead, into gpu-NAME.json; may be repeated. In the order of worth: {gpu.listed()}.",
    ),
)
def gpu_command(out: Path, budget: float, part: list[str] | None) -> int:
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


@_command("plot", RESULTS)
def plot_command(results: Path) -> int:
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


@_command("show", RESULTS)
def show_command(results: Path) -> int:
    """Print the tables of all results of a folder."""
    for path, result in load_all(results):
        print(f"\n{path}: {result.command}")
        render.show(result, render.console())
    return 0


@_command(
    "readme",
    RESULTS,
    several("--readme", "pages", metavar="FILE", type=Path, help="A page with marks; may be repeated."),
    flag("--check", help="Write nothing; exit 1 where the file is not up to date."),
)
def readme_command(results: Path, pages: list[Path] | None, check: bool) -> int:
    """Make the marked sections of README.md and of the pages in docs/ anew from the results."""
    if not check:
        plot_command(results)
    for page in pages or readme.PAGES:
        current = readme.update(page, results, check=check)
        if check and not current:
            return _fail(f"{page} is not what {results} gives; run: python -m bench readme", FAILED)
    stale = [str(path.with_suffix(".png")) for path in sorted(results.glob("*.json")) if not is_drawn_from(path)]
    if check and stale:
        return _fail(f"not drawn from the results beside them: {', '.join(stale)}; run: python -m bench readme", FAILED)
    return 0
