"""The command ``fullbatch``: how it starts, and what goes wrong. Each of its commands is a file beside this one.

What was asked for goes to stdout; progress, remarks and errors go to stderr. An error is one line there and
exit 2; Ctrl-C is exit 130, and the other signals that end it are 143 (TERM) and 129 (HUP). Heavy imports are inside
the commands, so that help and a wrong option are answered at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Annotated

import typer

from fullbatch.command.printing import saying
from fullbatch.command.signals import ENDING, stopping_with
from fullbatch.errors import FullbatchError
from fullbatch.version import __version__

BAD_INPUT, UNEXPECTED = 2, 1

# What stands there when nothing was typed: the three lines that matter, and where the rest is.
FIRST = """\
fullbatch train DATA --target COLUMN --model MODEL   learn from a table
fullbatch evaluate MODEL DATA                        score the model on another
fullbatch predict MODEL DATA --out FILE.csv          predict the rows of a table

fullbatch train          a first try, on handwritten digits that are there
fullbatch --help         all commands; with one before it, its options"""

# Where each command is, in the order of the help.
COMMANDS = {
    "train": "fullbatch.command.train",
    "columns": "fullbatch.command.columns",
    "convert": "fullbatch.command.convert",
    "evaluate": "fullbatch.command.use",
    "predict": "fullbatch.command.use",
    "explain": "fullbatch.command.explain",
    "export": "fullbatch.command.export",
    "info": "fullbatch.command.info",
}
EPILOGS = {
    "train": "Example: fullbatch train flights.parquet --target late --model late.fullbatch",
    "columns": "Example: fullbatch columns flights.parquet --target late",
    "convert": "Example: fullbatch convert flights.parquet --target late --out late.store",
    "evaluate": "Example: fullbatch evaluate late.fullbatch test.parquet",
    "predict": "Example: fullbatch predict late.fullbatch new.csv --out predictions.csv",
    "explain": "Example: fullbatch explain late.fullbatch test.parquet --out explained",
    "export": "Example: fullbatch export late.fullbatch --out late.onnx --check test.parquet",
    "info": "Example: fullbatch info late.fullbatch",
}


def application(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command with these commands of its own; each brings what it imports and the time of reading its options."""
    app = typer.Typer(
        name="fullbatch",
        help="Train neural networks on tall tables: CSV or Parquet in, a model file out.",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(fullbatch)
    for name in commands:
        app.command(name, epilog=EPILOGS.get(name))(getattr(import_module(COMMANDS[name]), name))
    return app


def fullbatch(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        print(f"fullbatch {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(FIRST)


# --- Running, and what goes wrong ---------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (``sys.argv`` if None) and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings(), saying("fullbatch.remote"), stopping_with(Interrupted, *ENDING) as signals:
            warnings.simplefilter("ignore")  # The command says what matters in its own words.
            # A command that is named first is all that is needed: a row is predicted in half the time so.
            app = application(words[:1] if words and words[0] in COMMANDS else COMMANDS)
            status = app(words, prog_name="fullbatch", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except Interrupted:
        return _fail("interrupted.", 128 + signals.received, label="")
    except BrokenPipeError:
        # Whoever read our output, as in `fullbatch predict ... | head`, has what he wanted, and is gone. So what Python
        # flushes at its end goes nowhere; the status is the one that typer gives where it sees this first.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except FullbatchError as error:
        return _fail(str(error), BAD_INPUT)
    except MemoryError as error:
        return _fail(
            f"out of memory ({error}); use fewer columns, a smaller --hidden, --max-levels or --memory.", BAD_INPUT
        )
    except OSError as error:
        return _fail(f"{error.filename or 'the system'}: {error.strerror or error}.", BAD_INPUT)
    except Exception as error:
        if hasattr(error, "format_message"):  # Errors of usage have it, of whichever click typer brings.
            command = getattr(getattr(error, "ctx", None), "command_path", "fullbatch")
            told = error.format_message() + _came(error, words)
            return _fail(f"{told if told.endswith(('.', '?')) else f'{told}.'} Try '{command} --help'.", BAD_INPUT)
        if os.environ.get("FULLBATCH_DEBUG"):
            raise
        return _fail(
            f"{type(error).__name__}: {error} (this should not happen; FULLBATCH_DEBUG=1 shows where).",
            UNEXPECTED,
        )


def _came(error: Exception, words: Sequence[str]) -> str:
    """What was typed, where typer's own words for an option do not have it: pydantic's say what was expected alone."""
    if "Input should" not in str(getattr(error, "message", "")):
        return ""
    names = getattr(getattr(error, "param", None), "opts", ())
    after = [value for name, value in pairwise(words) if name in names]
    joined = [value for name, found, value in (word.partition("=") for word in words) if found and name in names]
    return f"; got {(after + joined)[0]!r}" if after or joined else ""


def _fail(message: str, status: int, label: str = "error: ") -> int:
    """Say on one line of stderr what went wrong, and hand the exit status back."""
    print(f"fullbatch: {label}{' '.join(message.split())}", file=sys.stderr, flush=True)
    return status


class Interrupted(BaseException):
    """Ctrl-C, or another signal that ends the command. Not a KeyboardInterrupt, which typer would keep to itself."""
