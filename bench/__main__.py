"""``python -m bench``: parse arguments, measure, write, show.

The result goes to FOLDER/NAME.json, with NAME.png and NAME.svg; the tables go to stdout, progress and errors to stderr.
An error is one line and exit 2; Ctrl-C keeps the points measured so far and is exit 130.
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench import datasets, machine, minibatch, peers, plots, readme, report, scaling, training
from bench.backends import BACKENDS
from bench.problem import Shape
from bench.results import Result, chosen, load_all, writable
from bench.timing import Rules
from fullbatch.errors import FullbatchError, InputError

app = typer.Typer(
    name="python -m bench",
    help="Measure fullbatch: as m grows, beside its peers, and to accuracy on real data.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
DTYPES = ("float32", "float64")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (``sys.argv`` if None) and return its exit status."""
    try:
        status = app(list(sys.argv[1:] if argv is None else argv), prog_name="python -m bench", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted.", INTERRUPTED)
    except FullbatchError as error:
        return _fail(str(error), BAD_INPUT)
    except MemoryError as error:
        return _fail(f"out of memory ({error}); give a smaller range or other shapes.", BAD_INPUT)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's errors of usage
            return _fail(error.format_message(), BAD_INPUT)
        raise


def _fail(message: str, status: int) -> int:
    print(f"bench: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return status


# --- A run ----------------------------------------------------------------------------------------------------


def _measure(
    kind: str,
    settings: Any,
    work: Callable[..., None],
    out: Path,
    name: str | None,
) -> int:
    """Run ``work`` into a result that is written after each point, draw it, and show it."""
    folder = writable(out)
    path = folder / f"{name or kind}.json"
    command = "python -m bench " + shlex.join(sys.argv[1:])
    result = Result(kind, command, machine.describe(), _plain(asdict(settings)))
    start = time.perf_counter()

    def say(line: str) -> None:
        print(f"[{time.perf_counter() - start:6.1f} s] {line}", file=sys.stderr, flush=True)

    def save() -> None:
        result.save(path)

    say(result.machine.short)
    status = 0
    try:
        work(settings, result, save=save, say=say)
        result.finished = True
    except KeyboardInterrupt:
        status = INTERRUPTED
    if not result.points and status:
        return _fail("interrupted; nothing was measured yet.", status)
    if not result.points:
        raise InputError("nothing was measured; the lines above say why.")
    save()
    files = [path, *_draw(result, path, say)]
    report.show(result, Console())
    done = f"interrupted; {len(result.points)} points kept" if status else f"{len(result.points)} points"
    say(f"{done}: {', '.join(map(str, files))}")
    return status


def _draw(result: Result, path: Path, say: Callable[[str], None]) -> list[Path]:
    try:
        return plots.draw(result, path.with_suffix(""))
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        say("no plot: matplotlib is not installed (pip install 'fullbatch[bench]'); later: python -m bench plot")
        return []


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


# --- Options --------------------------------------------------------------------------------------------------


def _count(text: str) -> int:
    """ "1e7", "10_000_000" or "10000000"."""
    try:
        value = float(text.replace("_", "").replace(",", ""))
    except ValueError:
        value = math.nan
    if not (value.is_integer() and 1 <= value <= 1e12):
        raise typer.BadParameter(
            f"{text!r} is no count of examples; give a whole number of at least 1, for example 1e6."
        )
    return int(value)


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is out of range; give a number larger than 0.")
    return value


Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Where the JSON and the plot go.")]
Name = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of the files, without an ending. (default: the command's)")
]
Budget = Annotated[
    float,
    typer.Option(metavar="SECONDS", callback=_positive, help="For all of it; what would take longer is left out."),
]
Quick = Annotated[
    bool, typer.Option("--quick", help="A try in seconds: tiny sizes, no pauses. Figures not worth quoting.")
]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds to keep, at most.")]
Quiet = Annotated[float, typer.Option(min=0.0, help="Drop a round in which two threads give less than this times one.")]


def _rules(quick: bool, rounds: int, quiet: float, untimed: int) -> Rules:
    return Rules.quick() if quick else Rules(rounds=rounds, least=min(3, rounds), quiet=quiet, untimed=untimed)


@app.command("scaling")
def scaling_command(
    out: Out = Path("bench-results"),
    name: Name = None,
    shape: Annotated[list[str] | None, typer.Option(help="A network, e.g. 28-64-1; may be repeated.")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="numpy or cupy; may be repeated.")] = None,
    first: Annotated[str, typer.Option("--from", metavar="M", help="The smallest m.")] = "1e3",
    last: Annotated[
        str | None, typer.Option("--to", metavar="M", help="The largest m. (default: 1e7, or as far as memory reaches)")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    threads: Annotated[int | None, typer.Option(min=1, help="On the CPU. (default: all cores)")] = None,
    budget: Budget = 480.0,
    rounds: Rounds = 7,
    quiet: Quiet = 1.6,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure peak memory too.")] = True,
    quick: Quick = False,
) -> int:
    """One full-batch cost and gradient for m from 10^3 to 10^7, on NumPy and on CuPy."""
    settings = scaling.Settings(
        shapes=tuple(Shape.parse(s).name for s in shape or (scaling.SHAPES[:2] if quick else scaling.SHAPES)),
        backends=tuple(chosen(backend or [], BACKENDS, "backend")),
        first=_count(first),
        last=_count(last) if last is not None else (30_000 if quick else None),
        dtype=chosen([dtype], DTYPES, "dtype")[0],
        threads=threads, budget=budget, memory=memory, quick=quick, rules=_rules(quick, rounds, quiet, untimed=1),
    )  # fmt: skip
    settings.counts()
    return _measure("scaling", settings, scaling.run, out, name)


@app.command("peers")
def peers_command(
    out: Out = Path("bench-results"),
    name: Name = None,
    case: Annotated[
        list[str] | None, typer.Option(help="A network of the step, e.g. 28-64-1; may be repeated.")
    ] = None,
    peer: Annotated[list[str] | None, typer.Option(help="A peer of the step; may be repeated.")] = None,
    batch: Annotated[list[int] | None, typer.Option(min=2, help="A batch size of the epoch; may be repeated.")] = None,
    part: Annotated[str, typer.Option(help="step, epoch or both.")] = "both",
    allocator: Annotated[list[str] | None, typer.Option(help="default or keeping; may be repeated.")] = None,
    budget: Budget = 480.0,
    rounds: Rounds = 7,
    quiet: Quiet = 1.6,
    quick: Quick = False,
) -> int:
    """The same step, and the same epoch of Adam, by what people would use instead."""
    chosen([part], ["step", "epoch", "both"], "part")
    names = chosen(peer or [], [*peers.PEERS, *minibatch.CONTENDERS], "peer")
    cases = chosen(case or [], peers.CASES, "case")
    settings = peers.Settings(
        cases=() if part == "epoch" else tuple(cases[:1] if quick else cases),
        peers=tuple(dict.fromkeys([peers.OURS, *names])),
        batches=() if part == "step" else tuple(batch or ((200,) if quick else (200, 1000))),
        allocators=tuple(chosen(allocator or [], peers.ALLOCATORS, "allocator")),
        budget=budget, scale=0.01 if quick else 1.0, rules=_rules(quick, rounds, quiet, untimed=2),
    )  # fmt: skip
    return _measure("peers", settings, peers.run, out, name)


@app.command("training")
def training_command(
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With the files of the data sets; without it: digits.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="A data set; may be repeated. (default: all of the folder)")
    ] = None,
    out: Out = Path("bench-results"),
    name: Name = None,
    contender: Annotated[list[str] | None, typer.Option(help="Who trains; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    budget: Budget = 480.0,
) -> int:
    """Seconds until the held-out log-loss of scikit-learn's MLP is reached, on real data."""
    names = datasets.available(dataset or [], data)
    who = dict.fromkeys([training.SKLEARN, training.OURS, *chosen(contender or [], training.CONTENDERS, "contender")])
    settings = training.Settings(tuple(names), None if data is None else str(data), tuple(who), seeds, budget)
    return _measure("training", settings, training.run, out, name)


@app.command("plot")
def plot_command(
    results: Annotated[Path, typer.Option(metavar="FOLDER", help="With the JSON files.")] = Path("bench/results"),
) -> int:
    """Draw the pictures of all results of a folder anew."""
    for path, result in load_all(writable(results)):
        for file in plots.draw(result, path.with_suffix("")):
            print(file)
    return 0


@app.command("show")
def show_command(
    results: Annotated[Path, typer.Option(metavar="FOLDER", help="With the JSON files.")] = Path("bench/results"),
) -> int:
    """Print the tables of all results of a folder."""
    for path, result in load_all(results):
        print(f"\n{path}: {result.command}")
        report.show(result, Console())
    return 0


@app.command("readme")
def readme_command(
    results: Annotated[Path, typer.Option(metavar="FOLDER", help="With the JSON files.")] = Path("bench/results"),
    file: Annotated[Path, typer.Option("--readme", metavar="FILE")] = Path("README.md"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where the file is not up to date.")
    ] = False,
) -> int:
    """Make the README's marked sections anew from the results."""
    if not check:
        plot_command(results)
    current = readme.update(file, results, check=check)
    if check and not current:
        return _fail(f"{file} is not what {results} gives; run: python -m bench readme", FAILED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
