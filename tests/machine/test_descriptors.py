"""A process whose standard files are closed, or whose terminal is gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the shell's redirections are POSIX's")

SHOW = """
import os, sys
from fullbatch.machine.descriptors import open_closed_ones
open_closed_ones()
print("out"); print("err", file=sys.stderr)
new = os.open(os.devnull, os.O_RDONLY)
assert new > 2, new
assert sys.stdin.read() == "" if sys.argv[1] == "empty" else True
os.write(int(os.environ["TELL"]), b"well")
"""


@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_files_count_as_the_null_device(closed):
    read, write = os.pipe()
    os.set_inheritable(write, True)
    stdin = "empty" if "<&-" in closed else "given"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TELL": str(write)}
    command = f'exec "$0" -c "$1" {stdin} {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, SHOW], capture_output=True, text=True, env=environment, pass_fds=[write],
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read) as told:
        assert told.read() == "well", done.stderr
    assert done.returncode == 0
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "out\n")
    assert done.stderr == ("" if "2>&-" in closed else "err\n")


TERMINAL = """
import os, sys
from fullbatch.machine.descriptors import leave_the_terminal
leave_the_terminal()
print("to a terminal that is gone", flush=True)
print("kept: no terminal", file=sys.stderr, flush=True)
"""


def test_after_a_hangup_nothing_is_written_to_the_terminal():
    pty = pytest.importorskip("pty")
    parent, child = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINAL], stdin=child, stdout=child, stderr=subprocess.PIPE, env=environment
    )
    os.close(child)
    os.close(parent)  # The terminal hangs up: each write to it is an error now.
    assert process.communicate(timeout=60)[1] == b"kept: no terminal\n"
    assert process.returncode == 0
