"""kill -9 at a drawn moment: what is left goes on to the bits of the uninterrupted training, and files are whole."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import kills
import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
    pytest.mark.filterwarnings("ignore"),  # of trainings that end before they have converged
]


@pytest.fixture(scope="module")
def forks() -> Iterator[kills.Server]:
    pytest.importorskip("pyarrow")
    with kills.server() as forks:
        yield forks


def killed(kind: str, forks: kills.Server, folder: Path, times: int) -> None:
    draw, gone_on = random.Random(f"test {kind}"), 0
    for number in range(20):
        inner = folder / str(number)
        inner.mkdir()
        what = kills.one(kind, forks, inner, draw)
        assert what in ("", "early", "over")
        gone_on += what != "early"  # on a slow machine the first kill may come before the first writing
        if gone_on == times:
            return
    pytest.fail("every kill came before the first writing")


@pytest.mark.parametrize("solver", kills.SOLVERS)
def test_a_killed_training_goes_on(solver: str, forks: kills.Server, tmp_path: Path) -> None:
    killed(solver, forks, tmp_path, 1)


def test_a_killed_command_goes_on_to_the_same_model_file(forks: kills.Server, tmp_path: Path) -> None:
    killed("command", forks, tmp_path, 2)


@pytest.mark.parametrize("kind", kills.FILES)
def test_a_killed_writing_leaves_a_whole_file(kind: str, forks: kills.Server, tmp_path: Path) -> None:
    killed(kind, forks, tmp_path, 2)
