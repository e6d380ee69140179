"""Kill a training at a random moment, the writing of its checkpoint included, go on from the file, and compare bits.

The tests do it a few times; ``python tests/saving/kills.py --kills 100`` does it so many times for each solver, and
ends with status 1 where one of them came out otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import fullbatch as fb
from fullbatch.training import native_batches

SOLVERS = ("adam", "sgd", "gd", "lbfgs")
# How often the child writes, and within how long the kill comes: at each update, which takes ten times as long in all.
PACES = ((0.0, 2.0), (0.0, 2.0), (0.003, 0.2))


def make(solver: str, threads: int = 1) -> Any:
    sizes = {"adam": 30, "sgd": 30, "gd": 400, "lbfgs": 150}
    return fb.MLPRegressor(
        hidden_layer_sizes=(12,), solver=solver, batch_size=64, max_iter=sizes[solver], tol=0.0, random_state=1,
        learning_rate="linear" if solver == "adam" else "constant", early_stopping=solver == "sgd",
        n_iter_no_change=10_000, learning_rate_init=0.01, alpha=0.1, n_jobs=threads,
    )  # fmt: skip


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 6))
    return X, np.sin(X[:, 0] * X[:, 1]) + 0.1 * rng.standard_normal(2000)


def train(solver: str, path: str, seconds: float) -> None:
    """What the child does: a batch a run, so that there are moments within an epoch."""
    native_batches.SLICE = 0.0
    warnings.simplefilter("ignore")
    X, y = data()
    model = make(solver).set_callbacks(fb.Checkpoint(path, seconds=seconds))
    print("begins", flush=True)
    model.fit(X, y)


def whole(solver: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(solver).fit(*data())


def killed(solver: str, path: Path, draw: random.Random) -> bool:
    """Begin a training and kill it; whether there is something to go on from."""
    seconds, within = draw.choice(PACES)
    command = [sys.executable, __file__, "--train", solver, str(path), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begins\n"
        # Nine of ten kills wait for the first writing: on a busy machine nearly all came before it.
        waits, until = draw.random() < 0.9, time.monotonic() + 60
        while waits and not path.exists() and child.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, within))
        child.send_signal(signal.SIGKILL)
    return path.exists()


def difference(solver: str, path: Path, truth: Any) -> str:
    """Go on from what is there: what is not as in the training that was never interrupted, or ""."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fb.load(path)  # it is a model at every moment
        model = make(solver, threads=2).fit(*data(), resume=fb.Checkpoint(path))
    for name in ("coefs_", "intercepts_"):
        for ours, theirs in zip(getattr(model, name), getattr(truth, name), strict=True):
            if ours.tobytes() != theirs.tobytes():
                return name
    names = ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_", "n_iter_", "t_")
    return next((name for name in names if getattr(model, name) != getattr(truth, name)), "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=SOLVERS)
    parser.add_argument("--train", nargs=3, metavar=("SOLVER", "PATH", "SECONDS"))
    given = parser.parse_args()
    if given.train:
        train(given.train[0], given.train[1], float(given.train[2]))
        return 0
    wrong = 0
    for solver in given.solvers:
        truth, draw, early, over = whole(solver), random.Random(f"{given.seed} {solver}"), 0, 0
        for number in range(given.kills):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "late.ckpt")
                if not killed(solver, path, draw):
                    early += 1
                    continue
                over += fb.Checkpoint(path).state().state.epoch == truth.n_iter_
                if what := difference(solver, path, truth):
                    wrong += 1
                    print(f"{solver}, kill {number}: {what} is not that of the uninterrupted training")
        print(f"{solver}: {given.kills} kills, {early} before the first writing, {over} after the last", flush=True)
    print("all others went on to the same bits" if not wrong else f"{wrong} went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
