"""Kill a process at a random moment, go on from what it left, and compare bits: ``python tests/saving/kills.py``.

    adam, sgd, gd, lbfgs    a training that writes a checkpoint, the writing included: it goes on from the file
    command                 ``fullbatch train --checkpoint``, with ``--resume``, which may be killed too
    save, convert           the writing of a file again and again: the old one is there or the new one

The moment is drawn from the whole of the training's time; of a writing, which says when it begins, from a little more
than it takes. A server that has imported everything forks for each kill, so that one takes a part of a second. The
tests do a few; ``--kills 100`` does so many of each kind after which there is something to go on from, and ends with
status 1 where one of them came out otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import fullbatch as fb
from fullbatch.training import native_batches

SOLVERS = ("adam", "sgd", "gd", "lbfgs")
FILES = ("save", "convert")
KINDS = (*SOLVERS, "command", *FILES)
EVERY = (0.0, 0.0, 0.003)  # seconds from one writing to the next; 0: each update is written before the next one
COMMAND = ("--target=y", "--hidden=6", "--batch-size=64", "--epochs=12", "--threads=1", "--seed=3", "--quiet")


# --- What is killed -------------------------------------------------------------------------------------------------


def make(solver: str, threads: int = 1) -> Any:
    epochs = {"adam": 12, "sgd": 12, "gd": 60, "lbfgs": 60}
    return fb.MLPRegressor(
        hidden_layer_sizes=(12,), solver=solver, batch_size=64, max_iter=epochs[solver], tol=0.0, random_state=1,
        learning_rate="linear" if solver == "adam" else "constant", early_stopping=solver == "sgd",
        n_iter_no_change=10_000, learning_rate_init=0.01, alpha=0.1, n_jobs=threads,
    )  # fmt: skip


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 6))
    return X, np.sin(X[:, 0] * X[:, 1]) + 0.1 * rng.standard_normal(400)


@cache
def tables() -> list[dict[str, Any]]:
    """Two tables with the same columns."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 30))
    columns = {f"x{j}": column for j, column in enumerate(X.T)}
    return [{**columns, "town": rng.integers(0, 9, 400).astype(str), "y": X[:, 0] > 0} for _ in range(2)]


@cache
def writers(kind: str) -> list[Callable[[Path], Any]]:
    """Two functions that write two different files of a kind."""
    if kind == "save":
        X, y = data()
        models = [
            fb.MLPRegressor(hidden_layer_sizes=two, solver="adam", random_state=0, max_iter=1).fit(X, y)
            for two in ((400, 300), (400, 301))
        ]
        return [lambda path, model=model: fb.save(model, path) for model in models]  # type: ignore[misc]
    from fullbatch.tables import store

    return [lambda path, table=table: store.convert(table, path, "y") for table in tables()]  # type: ignore[misc]


def write_csv(path: Path) -> None:
    columns = {**{f"x{j}": column for j, column in enumerate(data()[0].T)}, "y": data()[1]}
    rows = zip(*(map(repr, column.tolist()) for column in columns.values()), strict=True)
    path.write_text("\n".join([",".join(columns), *map(",".join, rows)]) + "\n")


def child(kind: str, given: list[Any], says: int) -> None:
    """What is killed, in a process of its own.

    says : a descriptor, to which one that writes files writes where a writing begins and where it ends
    """
    native_batches.SLICE = 0.0  # a batch a run, so that there are moments within an epoch
    if kind == "command":
        from fullbatch.__main__ import main

        sys.argv = ["fullbatch", *given]
        main()
    elif kind in FILES:
        _say_writings(says)
        while True:
            for write in writers(kind):
                write(Path(given[0]))
    else:
        path, seconds = given
        make(kind).set_callbacks(fb.Checkpoint(path, seconds=seconds)).fit(*data())


def _say_writings(says: int) -> None:
    from fullbatch.saving import model_file
    from fullbatch.tables import store

    replacing = model_file.replacing

    @contextmanager
    def saying(path: Any, what: str) -> Iterator[Any]:
        with replacing(path, what) as file:
            os.write(says, b"b")
            yield file
        os.write(says, b"e")

    model_file.replacing = store.replacing = saying


# --- The server -----------------------------------------------------------------------------------------------------


def serve() -> None:
    """For each line on stdin fork a child, kill it after so many seconds, or never, and say how it ended."""
    import fullbatch.__main__
    import fullbatch.command.train
    import fullbatch.saving.checkpoint
    import fullbatch.tables.estimators
    import fullbatch.tables.store  # noqa: F401

    warnings.simplefilter("ignore")
    writers("save")
    print("ready", flush=True)
    for line in sys.stdin:
        kind, given, kill_after = json.loads(line)
        hears, says = os.pipe()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                null = os.open(os.devnull, os.O_RDWR)
                for descriptor in (0, 1):
                    os.dup2(null, descriptor)
                child(kind, given, says)
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
            finally:
                os._exit(status)
        os.close(says)
        if kill_after is not None:
            time.sleep(_until(hears, kill_after) if kind in FILES else kill_after)
            os.kill(pid, signal.SIGKILL)  # it is our child until it is waited for, also where it has ended
        os.close(hears)
        _, how = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(how), flush=True)


def _until(hears: int, share: float) -> float:
    """Wait until a writing begins: after how many seconds so large a share of it is over, as others took."""
    took = []
    for _ in range(3 + int(1000 * share) % 2):  # of the one file or of the other
        os.read(hears, 1)
        begun = time.monotonic()
        os.read(hears, 1)
        took.append(time.monotonic() - begun)
    os.read(hears, 1)
    return share * min(took)


class Server:
    """Children at the price of a fork."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert self._line() == "ready"
        self.durations: dict[tuple[str, float], float] = {}

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def run(self, kind: str, *given: Any, kill_after: float | None = None) -> int:
        """Run a child, which is killed after so many seconds, or shares of a writing; how it ended."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([kind, list(map(_plain, given)), kill_after]) + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def duration(self, kind: str, every: float, run: Callable[[], Any]) -> float:
        """How long a child takes that nobody kills."""
        if (kind, every) not in self.durations:
            begun = time.monotonic()
            run()
            self.durations[kind, every] = time.monotonic() - begun
        return self.durations[kind, every]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


@contextmanager
def server() -> Iterator[Server]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as process:
        try:
            yield Server(process)
        finally:
            process.stdin.close()  # type: ignore[union-attr]


# --- One kill of each kind ------------------------------------------------------------------------------------------


def one(kind: str, forks: Server, folder: Path, draw: random.Random) -> str:
    """ "" or "over" where all is well, "early" where there is nothing to go on from, or what was wrong.

    "over" says that the training had ended, or that no file was being written.
    """
    if kind in FILES:
        return _of_a_file(kind, forks, folder, draw)
    return _of_the_command(forks, folder, draw) if kind == "command" else _of_a_training(kind, forks, folder, draw)


@cache
def whole(solver: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(solver).fit(*data())


def _of_a_training(solver: str, forks: Server, folder: Path, draw: random.Random) -> str:
    path, every = folder / "late.ckpt", draw.choice(EVERY)
    duration = forks.duration(solver, every, lambda: forks.run(solver, folder / "all.ckpt", every))
    forks.run(solver, path, every, kill_after=draw.uniform(0, duration))
    if not path.exists():
        return "early"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fb.load(path)  # it is a model at every moment
        over = fb.Checkpoint(path).state().state.epoch == whole(solver).n_iter_
        model = make(solver, threads=2).fit(*data(), resume=fb.Checkpoint(path))
    truth = whole(solver)
    for name in ("coefs_", "intercepts_"):
        for ours, theirs in zip(getattr(model, name), getattr(truth, name), strict=True):
            if ours.tobytes() != theirs.tobytes():
                return f"{name} are not those of the uninterrupted training"
    names = ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_", "n_iter_", "t_")
    unlike = [name for name in names if getattr(model, name) != getattr(truth, name)]
    return f"{unlike[0]} is not that of the uninterrupted training" if unlike else "over" if over else ""


def _of_the_command(forks: Server, folder: Path, draw: random.Random) -> str:
    table, model, kept = folder.parent / "table.csv", folder / "late.model", folder / "late.ckpt"
    truth, every = folder.parent / "whole.model", draw.choice(EVERY)
    if not truth.exists():
        write_csv(table)
        forks.run("command", "train", table, *COMMAND, "--model", truth)
    args = ("train", table, *COMMAND, "--model", model, "--checkpoint", kept, "--checkpoint-every", str(every))
    duration = forks.duration("command", every, lambda: forks.run("command", *args))
    for left in (model, kept):
        left.unlink(missing_ok=True)
    forks.run("command", *args, kill_after=draw.uniform(0, duration))
    if not kept.exists():
        return "early"
    over = model.exists()
    resume = ("train", "--resume", kept, "--quiet")
    if draw.random() < 0.3:
        forks.run("command", *resume, "--checkpoint-every", str(every), kill_after=draw.uniform(0, duration))
    if status := forks.run("command", *resume):
        return f"--resume ended with {status}"
    if model.read_bytes() != truth.read_bytes():
        return "the model file is not that of the uninterrupted training"
    left = sorted({file.name for file in folder.iterdir()} - {"late.model", "late.ckpt"})
    return f"{', '.join(left)} is left" if left else "over" if over else ""


def _of_a_file(kind: str, forks: Server, folder: Path, draw: random.Random) -> str:
    path = folder.parent / kind
    both = whole_files(kind, folder)
    path.write_bytes(both[0])
    forks.run(kind, path, kill_after=draw.uniform(0, 1.1))
    within = bool(list(folder.parent.glob(f".{kind}.*.part")))
    if path.read_bytes() not in both:
        return "the file is none of those that were written"
    if kind == "save":
        fb.load(path).predict(np.zeros((2, 6)))
    else:
        with fb.open_store(path) as store:
            store.to_arrays()
    writers(kind)[0](path)
    if path.read_bytes() != both[0]:
        return "the next writing made another file"
    left = [file.name for file in folder.parent.glob(f".{kind}.*")]
    return f"the next writing left {', '.join(left)}" if left else "" if within else "over"


FOUND: dict[str, list[bytes]] = {}


def whole_files(kind: str, folder: Path) -> list[bytes]:
    """What the two writers write where nobody kills them."""
    if kind not in FOUND:
        FOUND[kind] = []
        for write in writers(kind):
            write(folder / "whole")
            FOUND[kind].append((folder / "whole").read_bytes())
        (folder / "whole").unlink()
    return FOUND[kind]


# --- Many -----------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--serve", action="store_true")
    given = parser.parse_args()
    if given.serve:
        serve()
        return 0
    wrong = 0
    warnings.simplefilter("ignore")
    with server() as forks, tempfile.TemporaryDirectory() as above:
        for kind in given.kinds:
            draw, early, over, gone_on, begun = random.Random(f"{given.seed} {kind}"), 0, 0, 0, time.monotonic()
            while gone_on < given.kills and early < 10 * given.kills:
                if (early + gone_on) % 20 == 0:  # how long a training takes depends on what else the machine does
                    forks.durations.clear()
                with tempfile.TemporaryDirectory(dir=above) as folder:
                    what = one(kind, forks, Path(folder), draw)
                early, over = early + (what == "early"), over + (what == "over")
                gone_on += what != "early"
                if what not in ("", "early", "over"):
                    wrong += 1
                    print(f"{kind}, kill {early + gone_on}: {what}", flush=True)
            each = (time.monotonic() - begun) / max(1, early + gone_on)
            told = "between two writings" if kind in FILES else f"after its end, {early} more before the first writing"
            print(f"{kind}: {gone_on} kills, {over} of them {told}, {each:.2f} s each", flush=True)
    print("all have the bits of what nobody killed" if not wrong else f"{wrong} went wrong", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
