"""A part of a run in a process of its own: for its peak of memory, or for an allocator that is chosen at the start.

The child reads one JSON request from stdin, writes one JSON object a line to stdout, and says how it goes on stderr.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bench.machine import ROOT


class ChildError(RuntimeError):
    """The child ended without success; the message is the end of what it said."""


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
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(request))
        child.stdin.close()
        for line in child.stdout:
            yield json.loads(line)
        if child.wait() != 0:
            raise ChildError(f"{module} ended with {_status(child.returncode)}")
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        child.stdout.close()


def _status(code: int) -> str:
    if code >= 0:
        return f"status {code}"
    return signal.Signals(-code).name + (" (was it out of memory?)" if code == -signal.SIGKILL else "")


def serve(work: Callable[[Any], Iterator[dict[str, Any]]]) -> int:
    """A child's main: answer the request on stdin with ``work``. Quiet on Ctrl-C, which the parent speaks about."""
    try:
        for answer in work(json.load(sys.stdin)):
            print(json.dumps(answer), flush=True)
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    return 0
