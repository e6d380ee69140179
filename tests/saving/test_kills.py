"""kill -9 at a drawn moment: what is in the file goes on to the bits of the uninterrupted training."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import kills
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_killed_training_goes_on(solver: str, tmp_path: Path) -> None:
    draw = random.Random(f"test {solver}")
    path = tmp_path / "late.ckpt"
    for _ in range(5):  # on a slow machine the first kill may come before the first writing
        if kills.killed(solver, path, draw):
            break
    assert kills.difference(solver, path, kills.whole(solver)) == ""
