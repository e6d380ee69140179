"""kill -9 while a file is written: there is the old one or the new one, and the next writing leaves nothing behind."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import kills_of_files
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")


@pytest.mark.parametrize("kind", kills_of_files.KINDS)
def test_a_killed_writing_leaves_a_whole_file(kind: str, tmp_path: Path) -> None:
    if kind == "convert":
        pytest.importorskip("pyarrow")
    draw = random.Random(f"test {kind}")
    whole = kills_of_files.whole_files(kind, tmp_path)
    path = tmp_path / "file"
    for _ in range(4 if kind == "save" else 3):  # ten with the three of test_kills.py
        kills_of_files.killed(kind, path, draw.uniform(0, 0.2))
        assert kills_of_files.fault(kind, path, whole) == ""
