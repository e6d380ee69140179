"""The command ``fullbatch``: how it starts, and what goes wrong. Each of its commands is a file beside this one.

What was asked for goes to stdout; progress, remarks and errors go to stderr. An error is one line there and
exit 2; Ctrl-C is exit 130, and the other signals that end it are 143 (TERM) and 129 (HUP). Heavy imports are inside
the commands, so that help and a wrong option are answered at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

import click

from fullbatch.command.clicking import Commands
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


@click.group(
    cls=Commands,
    modules=COMMANDS,
    name="fullbatch",
    help="Train neural networks on tall tables: CSV or Parquet in, a model file out.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option("--version", is_flag=True, help="Print the version and leave.")
@click.pass_context
def application(context: click.Context, version: bool) -> None:
    if version:
        print(f"fullbatch {__version__}")
        context.exit()
    if context.invoked_subcommand is None:
        print(FIRST)


# --- Running, and what goes wrong ---------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (``sys.argv`` if None) and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings(), saying("fullbatch.remote"), stopping_with(Interrupted, *ENDING) as signals:
            warnings.simplefilter("ignore")  # The command says what matters in its own words.
            status = application(words, prog_name="fullbatch", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except Interrupted:
        return _fail("interrupted.", 128 + signals.received, label="")
    except BrokenPipeError:
        # Whoever read our output, as in `fullbatch predict ... | head`, has what he wanted, and is gone. So what Python
        # flushes at its end goes nowhere; the status is the one that Click gives where it sees this first.
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
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "fullbatch"
        told = error.format_message()
        return _fail(f"{told if told.endswith(('.', '?', ')')) else f'{told}.'} Try '{command} --help'.", BAD_INPUT)
    except Exception as error:
        if os.environ.get("FULLBATCH_DEBUG"):
            raise
        return _fail(
            f"{type(error).__name__}: {error} (this should not happen; FULLBATCH_DEBUG=1 shows where).",
            UNEXPECTED,
        )


def _fail(message: str, status: int, label: str = "error: ") -> int:
    """Say on one line of stderr what went wrong, and hand the exit status back."""
    print(f"fullbatch: {label}{' '.join(message.split())}", file=sys.stderr, flush=True)
    return status


class Interrupted(BaseException):
    """Ctrl-C, or another signal that ends the command. Not a KeyboardInterrupt, which Click would make an Abort of."""
