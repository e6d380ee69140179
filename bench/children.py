"""A part of a run in a process of its own: for its peak of memory, or for an allocator that is chosen at the start.

The child reads one JSON request from stdin and writes its answer, one line of JSON, to stdout; it says how it goes on
stderr. It ends when its stdin does, so that it does not outlive its parent, however that ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import msgspec

from bench import forms
from bench.machine import ROOT


class ChildError(RuntimeError):
    """The child ended without an answer; the message says how."""


@contextmanager
def process(command: Sequence[str], env: Mapping[str, str | None], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """``python -m command``, with this checkout on its path; with all that it may have started it ends with the block.

    env : variables to set, or to unset where None;  options : of subprocess.Popen
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]), **env}
    child = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, encoding="utf-8", errors="replace",
        env={name: value for name, value in environment.items() if value is not None},
        start_new_session=True,  # Ctrl-C is this process's to hear, and the child's end its to bring
        **options,
    )  # fmt: skip
    try:
        yield child
    finally:
        end(child)
        child.wait()
        for pipe in filter(None, (child.stdin, child.stdout)):
            with suppress(BrokenPipeError):  # what was left in its buffer has no reader
                pipe.close()


def end(child: subprocess.Popen[str]) -> None:
    """Kill the child and its group, if it still runs."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def call(work: Callable[..., Any], *arguments: Any, env: Mapping[str, str | None] | None = None, **options: Any) -> Any:
    """What ``work(*arguments)`` gives in a new process: a function of a module; what goes in and comes out is JSON.

    env : variables to set, or to unset where None;  options : of subprocess.Popen. Raises ChildError. Ctrl-C ends the
        child too
    """
    module = work.__globals__["__spec__"].name  # of a script, too, whose __module__ is __main__
    request = forms.encoded([module, work.__name__, arguments]).decode()
    with process(["bench.children"], env or {}, stdin=subprocess.PIPE, **options) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        with suppress(BrokenPipeError):  # it ended before it was told what to do; how, its status says
            child.stdin.write(request + "\n")
            child.stdin.flush()
        answer = child.stdout.readline()
        if child.wait() != 0:
            raise ChildError(f"its process ended with {_status(child.returncode)}")
        return msgspec.json.decode(answer)


def one_line(fault: BaseException) -> str:
    """What failed, for a line that says why something is left out."""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"


def _status(code: int) -> str:
    if code >= 0:
        return f"status {code}"
    return signal.Signals(-code).name + (" (was it out of memory?)" if code == -signal.SIGKILL else "")


def main() -> None:
    """The child: answer the request on stdin. What else is printed goes to stderr."""
    module, name, arguments = msgspec.json.decode(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        answer = getattr(import_module(module), name)(*arguments)
        print(forms.encoded(answer).decode(), file=answers, flush=True)


def _end_with_stdin() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
