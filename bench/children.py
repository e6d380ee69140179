"""A part of a run in a process of its own: for its peak of memory, or for an allocator that is chosen at the start.

The child reads one JSON request from stdin, writes one JSON object a line to stdout, and says how it goes on stderr. It
ends when its stdin does, so that it does not outlive its parent, however that ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from bench.machine import ROOT


class ChildError(RuntimeError):
    """The child ended without success; the message says how."""


def lines(module: str, request: Any, *, env: Mapping[str, str | None] | None = None) -> Iterator[dict[str, Any]]:
    """Run ``python -m module`` and yield the objects that it writes, as they come.

    env : variables to set, or to unset where None. Raises ChildError. Ctrl-C ends the child too.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    for name, value in (env or {}).items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    child = subprocess.Popen(
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        env=environment, start_new_session=True,  # Ctrl-C is this process's to hear, and the child's end its to bring
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
        for line in child.stdout:
            yield json.loads(line)
        if child.wait() != 0:
            raise ChildError(f"its process ended with {_status(child.returncode)}")
    except BrokenPipeError:
        raise ChildError(f"its process ended with {_status(child.wait())} before it was told what to do") from None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)  # with the processes that it may have started
            child.wait()
        child.stdout.close()
        _close(child.stdin)


def one_line(fault: BaseException) -> str:
    """What failed, for a line that says why something is left out."""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:160]}"


def _close(pipe: Any) -> None:
    with suppress(BrokenPipeError):  # what was left in its buffer has no reader
        pipe.close()


def _status(code: int) -> str:
    if code >= 0:
        return f"status {code}"
    return signal.Signals(-code).name + (" (was it out of memory?)" if code == -signal.SIGKILL else "")


def serve(work: Callable[[Any], Iterator[dict[str, Any]]]) -> int:
    """A child's main: answer the request on stdin with ``work``. What else is printed goes to stderr."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for answer in work(request):
            print(json.dumps(answer), file=answers, flush=True)
    return 0


def _end_with_stdin() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
