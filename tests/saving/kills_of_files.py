"""Kill ``save`` and ``convert`` at a random moment, and look at what is there: nothing, the old file or the new one.

A child writes one after another, so that a moment within a writing is as likely as it takes of the time. The tests do
it a few times; ``python tests/saving/kills_of_files.py --kills 100`` so many times each, and ends with status 1 where a
file was another than one of those that were written, or where something was left behind.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fullbatch as fb

KINDS = ("save", "convert")


@functools.cache
def writers(kind: str) -> list[Callable[[Path], None]]:
    """Two functions that write two different files of a kind."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 30))
    y = (X[:, 0] > 0).astype(int)
    if kind == "save":
        sizes = ((200, 50), (200, 51))
        options: dict[str, Any] = {"solver": "lbfgs", "max_iter": 5, "random_state": 0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It has not converged, and need not.
            models = [fb.MLPClassifier(hidden_layer_sizes=two, **options).fit(X, y) for two in sizes]
        return [lambda path, model=model: fb.save(model, path) for model in models]  # type: ignore[misc]
    from fullbatch.tables import store

    columns: dict[str, Any] = {f"x{j}": column for j, column in enumerate(X.T)}
    tables = [{**columns, "town": rng.integers(0, 9, 400).astype(str), "y": y} for _ in range(2)]
    return [lambda path, table=table: store.convert(table, path, "y") and None for table in tables]  # type: ignore[misc]


def write_for_ever(kind: str, path: str) -> None:
    """What the child does."""
    warnings.simplefilter("ignore")
    both = writers(kind)
    both[0](Path(path))
    print("begins", flush=True)
    while True:
        for write in reversed(both):
            write(Path(path))


def begun(kind: str, path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--write", kind, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == b"begins\n"
    return child


def killed(kind: str, path: Path, after: float) -> None:
    with begun(kind, path) as child:
        time.sleep(after)
        child.send_signal(signal.SIGKILL)


def fault(kind: str, path: Path, whole: list[bytes]) -> str:
    """What is not as it should be after a kill; "" for nothing. ``whole`` are the two files that were written."""
    if path.read_bytes() not in whole:
        return "the file is none of those that were written"
    if kind == "save":
        fb.load(path).predict(np.zeros((2, 30)))
    else:
        with fb.open_store(path) as store:
            store.to_arrays()
    writers(kind)[0](path)
    if path.read_bytes() != whole[0]:
        return "the next writing made another file"
    left = sorted(one.name for one in path.parent.iterdir() if one != path)
    return f"the next writing left {', '.join(left)}" if left else ""


def whole_files(kind: str, folder: Path) -> list[bytes]:
    """What the two writers write where nobody kills them."""
    found = []
    for write in writers(kind):
        write(folder / "whole")
        found.append((folder / "whole").read_bytes())
    (folder / "whole").unlink()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--write", nargs=2, metavar=("KIND", "PATH"))
    given = parser.parse_args()
    if given.write:
        write_for_ever(*given.write)
    warnings.simplefilter("ignore")
    wrong = 0
    for kind in given.kinds:
        draw, within, faults = random.Random(f"{given.seed} {kind}"), 0, 0
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            whole = whole_files(kind, folder)
            for number in range(given.kills):
                killed(kind, folder / "file", draw.uniform(0, 0.3))
                within += len(list(folder.glob(".*.part"))) > 0
                if what := fault(kind, folder / "file", whole):
                    faults += 1
                    print(f"{kind}, kill {number}: {what}")
        wrong += faults
        print(f"{kind}: {given.kills} kills, {within} within a writing, {faults} faults", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
