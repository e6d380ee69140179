"""A store of many rows, made and trained from in little memory: run by hand, since it takes minutes and much disk.

    python -m bench.store_at_scale --rows 10000000 --folder /tmp/scale

It makes a Parquet file of so many rows of 28 float32 in pieces, converts it, and trains 28-64-1 from the store; each
step is a process of its own, whose peak of anonymous memory is looked at every 10 ms. ``--limit BYTES`` runs the
conversion and the training inside a memory cgroup of that size, version 1 or 2, in which the page cache counts: only
root can make one, and where none can be made it says so. All files are removed at the end; the figures are one JSON
line each.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import children
from bench.machine import kilobytes
from bench.own import EachEpoch

Given = dict[str, Any]  # what a step is told
COLUMNS, PIECE = 28, 2**20
AT_ONCE = 2**18  # bytes that are read at a time where nothing is done with them


def make(folder: Path, rows: int, name: str = "table", seed: int = 0) -> None:
    """Numbers of whose first the target follows, with noise; written in row groups of PIECE rows."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([*((f"x{j}", pa.float32()) for j in range(COLUMNS)), ("late", pa.int8())])
    rng = np.random.default_rng(seed)
    with parquet.ParquetWriter(folder / f"{name}.parquet", schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, rows, PIECE):
            m = min(PIECE, rows - start)
            X = rng.standard_normal((COLUMNS, m), np.float32)
            late = (X[0] + X[1] * X[2] + rng.standard_normal(m, np.float32) > 0).astype(np.int8)
            writer.write_table(pa.table([*X, late], schema=schema))


def plain(folder: Path, _: Given) -> None:
    """What a conversion is compared with: pyarrow reads the rows, and NumPy saves them."""
    from pyarrow import parquet

    with parquet.ParquetFile(folder / "table.parquet", pre_buffer=False) as file, (folder / "x.raw").open("wb") as out:
        for batch in file.iter_batches(2**16, use_threads=False):
            columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
            np.save(out, np.stack(columns[:-1], axis=1))
            np.save(out, columns[-1])
    (folder / "x.raw").unlink()


def convert(folder: Path, _: Given) -> None:
    from fullbatch.tables.store import convert as write_store

    write_store(folder / "table.parquet", folder / "table.store", "late")


def read(folder: Path, _: Given) -> None:
    """All leaves once: their checksums are compared."""
    import fullbatch as fb

    with fb.open_store(folder / "table.store") as store:
        for leaf in range(len(store.file.leaves)):
            store.file._check(leaf)


def _train(folder: Path, *, in_memory: bool, **params: Any) -> dict[str, Any]:
    """Seconds of the iterations, or epochs, after the first, which compares checksums."""
    import fullbatch as fb
    from fullbatch.sources.store_columns import examples_of
    from fullbatch.sources.store_parts import Part

    with fb.open_store(folder / "table.store") as store:
        store.held_out = Part(store.file, store.train.leaves, 0)  # An iteration is measured, not scores.
        given: tuple[Any, ...] = (store,)
        if in_memory:
            arrays = store.to_arrays()
            given = (examples_of(arrays, store.n, 2).X, arrays.y)
        params = {"max_iter": 4, "tol": 0, "random_state": 0, **params}
        ends = [time.perf_counter()]
        model = fb.MLPClassifier((64,), **params).set_callbacks(EachEpoch(lambda: ends.append(time.perf_counter())))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It has not converged after four iterations.
            model.fit(*given)
        seconds = min(np.diff(ends[min(1, len(ends) - 2) :]))
        return {"seconds": seconds, "loss": model.loss_curve_[-1], "step": model.step_}


def _read_plainly(path: Path) -> None:
    """The whole file in sequence into one buffer, as ``cat`` would."""
    buffer = bytearray(AT_ONCE)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _forget(path: Path) -> None:
    """Have the system drop what its page cache holds of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


COLD = {
    "cold": "cold from the store",
    "large": "cold, of a file that memory cannot hold",
    "first": "cold, with checksums",
}


def rounds(folder: Path, given: Given, count: int = 5) -> dict[str, Any]:
    """A full batch in memory, from the store in the page cache, from the disk, and reading alone, in turn.

    Seconds and CPU seconds of each, medians; each is looked at within the same round. The page cache of a store is
    dropped before each cold reading, of which the machine may have a cache of its own. What is mapped is not dropped:
    for those the store is opened anew.
    """
    import fullbatch as fb
    from fullbatch.machine import memory
    from fullbatch.sources.store_columns import examples_of

    path, free = folder / "table.store", memory.free
    found: dict[str, list[tuple[float, float]]] = {}

    def timed(name: str, part: Callable[[], Any]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        part()
        found.setdefault(name, []).append((time.perf_counter() - wall, time.process_time() - cpu))

    with fb.open_store(path) as store:
        net = fb.Network([store.n, 64, 1])
        theta = np.concatenate([np.ravel(array) for layer in net.init(seed=0, dtype="float32") for array in layer])
        in_memory = examples_of(store.to_arrays(), store.n, 2)
        with _full_batch(net, in_memory, theta) as full:
            for _ in range(count):
                timed("in memory", full)
                with fb.open_store(path) as warm, _full_batch(net, _checked(warm), theta) as from_store:
                    from_store()  # which maps the pages
                    timed("from the store", from_store)
                timed("reading", partial(_read_plainly, path))
                with fb.open_store(path) as cold, _full_batch(net, _checked(cold), theta) as from_store:
                    _forget(path)
                    timed("cold from the store", from_store)
                memory.free = lambda: 0.0
                with fb.open_store(path) as large, _full_batch(net, _checked(large), theta) as from_store:
                    _forget(path)
                    timed("cold, of a file that memory cannot hold", from_store)
                memory.free = free
                with fb.open_store(path) as new, _full_batch(net, new.examples(new.train), theta) as from_store:
                    _forget(path)
                    timed("cold, with checksums", from_store)
                _forget(path)
                timed("cold reading", partial(_read_plainly, path))
                _read_plainly(path)  # so that the next round finds it in the page cache
    medians = {name: np.median(times, axis=0).tolist() for name, times in found.items()}
    warm = np.array(medians["in memory"]) / medians["from the store"]
    slower = max(medians["from the store"][0], medians["cold reading"][0])
    ratios = {kind: slower / medians[name][0] for kind, name in COLD.items()}
    return {"wall_and_cpu": medians, "warm": warm.tolist(), **ratios}


@contextmanager
def _full_batch(net: Any, examples: Any, theta: np.ndarray) -> Iterator[Callable[[], Any]]:
    """A call that goes through all examples once."""
    from fullbatch.training.objective import Objective

    with Objective(net, examples) as objective:
        yield partial(objective.cost_and_gradient, theta)


def _checked(store: Any) -> Any:
    """The rows of a store to learn from, whose checksums were compared before."""
    store.file.checked[:] = b"\1" * len(store.file.checked)
    return store.examples(store.train)


def _made(rows: int) -> dict[str, Any]:
    """One full batch over so many rows, which are one leaf's bytes again and again."""
    import fullbatch as fb
    from fullbatch.sources.columns import Examples
    from fullbatch.sources.passing import Leaves, PassedPart
    from fullbatch.sources.store_columns import StoredTable, StoredTarget
    from fullbatch.training.objective import Objective

    m, leaf, rng = rows, 2**16, np.random.default_rng(0)
    one: dict[str, Any] = {
        "numbers": rng.standard_normal((leaf, COLUMNS), np.float32),
        "y": rng.integers(0, 2, leaf).astype(np.uint8),
    }
    kinds: dict[str, tuple[np.dtype, int]] = {"numbers": (np.dtype(np.float32), COLUMNS), "y": (np.dtype(np.uint8), 0)}

    def leaf_by_leaf() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, m, leaf):
            yield {name: array[: m - start] for name, array in one.items()}

    leaves = Leaves(leaf_by_leaf, m, leaf, kinds, threading.RLock())
    part = PassedPart(m, leaf, {"numbers": leaves, "y": leaves}, "made")
    net = fb.Network([COLUMNS, 64, 1])
    theta = np.concatenate([np.ravel(array) for layer in net.init(seed=0, dtype="float32") for array in layer])
    cpu, wall = time.process_time(), time.perf_counter()
    with Objective(net, Examples(StoredTable(part, COLUMNS), StoredTarget(part, 2))) as objective:
        J, _ = objective.cost_and_gradient(theta)
        found = {"loss": float(J), "step": objective.fold.step_name}
    return {**found, "seconds": time.perf_counter() - wall, "iteration_cpu": time.process_time() - cpu}


def model_of(folder: Path, _: Given) -> None:
    """A model of the store, which the next two steps use."""
    import fullbatch as fb

    with fb.open_store(folder / "table.store") as store:
        fb.save(fb.TableClassifier((64,), epochs=1).fit(store), folder / "model")


def command(*arguments: object) -> None:
    """``fullbatch`` in this process; what it prints is of no interest."""
    from contextlib import redirect_stdout

    from fullbatch.command.app import main

    with redirect_stdout(sys.stderr):
        status = main([str(argument) for argument in arguments])
    if status:
        raise SystemExit(status)


def evaluate(folder: Path, _: Given) -> None:
    command("evaluate", folder / "model", folder / "table.parquet", "--json")


def predict(folder: Path, _: Given) -> None:
    command("predict", folder / "model", folder / "table.parquet", "--out", folder / "predictions.parquet")


FULL: dict[str, Any] = {"solver": "gd", "learning_rate_init": 0.1}
MINI: dict[str, Any] = {"solver": "adam", "batch_size": 1000}
STEPS: dict[str, Callable[[Path, Given], Any]] = {
    "plain": plain,
    "convert": convert,
    "read": read,
    "model": model_of,
    "evaluate": evaluate,
    "predict": predict,
    "full batch from the store": lambda folder, _: _train(folder, in_memory=False, **FULL),
    "full batch in memory": lambda folder, _: _train(folder, in_memory=True, **FULL),
    "two full batches from the store": lambda folder, _: _train(folder, in_memory=False, **FULL, max_iter=2),
    "an epoch of mini-batches from the store": lambda folder, _: _train(folder, in_memory=False, **MINI, max_iter=1),
    "a full batch of made rows": lambda _, given: _made(given["rows"]),
    "mini-batches from the store": lambda folder, _: _train(folder, in_memory=False, **MINI),
    "rounds": rounds,
    "mini-batches in memory": lambda folder, _: _train(folder, in_memory=True, **MINI),
}


# --- One step in a process of its own --------------------------------------------------------------------------------


def measured(step: Callable[..., Any], folder: Path, given: Given, group: Path | None = None) -> dict[str, Any]:
    """``step(name, folder, given)`` of the name that ``given`` has, inside a memory cgroup if there is one."""

    def enter() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        found = children.call(step, given["step"], str(folder), given, preexec_fn=enter)
    except children.ChildError as error:
        return {"step of": given["step"], "failed": str(error)}
    return {"of": given["step"], **found, **_of_group(group)}


def step(name: str, folder: str, given: Given) -> dict[str, Any]:
    """What the process of a step does."""
    return watched(partial(STEPS[name], Path(folder), given))


def watched(work: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    """Seconds, CPU seconds, and the peak of this process's anonymous memory, with what the work itself gives."""
    stop, peak, started = threading.Event(), [0], time.perf_counter()

    def look() -> None:
        while not stop.wait(0.01):
            peak.append(max(peak.pop(), kilobytes("/proc/self/status", "RssAnon") or 0))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        more = work()
    finally:
        stop.set()
        thread.join()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = {"wall": time.perf_counter() - started, "cpu": usage.ru_utime + usage.ru_stime, "system": usage.ru_stime}
    return {"anonymous": peak[0], **seconds, **(more or {})}


def _of_group(group: Path | None) -> dict[str, Any]:
    """The limit of a cgroup and the most that it held so far, the page cache too."""
    for names in (("memory.limit_in_bytes", "memory.max_usage_in_bytes"), ("memory.max", "memory.peak")):
        if group is not None and all((group / name).exists() for name in names):
            return dict(zip(("limit", "held"), (int((group / name).read_text()) for name in names), strict=True))
    return {}


@contextmanager
def memory_group(limit: int | None) -> Iterator[Path | None]:
    """A cgroup of so many bytes; None where none is asked for, or can be made."""
    if limit is None:
        yield None
        return
    for root, file in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root) / f"fullbatch-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / "cgroup.procs").exists():  # else it is a folder of a file system as any other
                (group / file).write_text(str(limit))
                yield group
                return
        finally:
            group.rmdir()
    print("no memory cgroup can be made here: figures are of anonymous memory alone", file=sys.stderr)
    yield None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "store-at-scale")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--only", nargs="*", choices=STEPS)
    parser.add_argument("--table", type=Path, help="take this Parquet file, which stays, and make none")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True)
    try:
        if asked.table is not None:
            (asked.folder / "table.parquet").symlink_to(asked.table.resolve())
        elif not asked.only or set(asked.only) != {"a full batch of made rows"}:
            make(asked.folder, asked.rows)
        with memory_group(asked.limit) as group:
            for name in asked.only or STEPS:
                inside = None if name.endswith("in memory") or name == "rounds" else group
                given = {"step": name, "rows": asked.rows}
                print(json.dumps({"rows": asked.rows, **measured(step, asked.folder, given, inside)}), flush=True)
    finally:
        shutil.rmtree(asked.folder)


if __name__ == "__main__":
    main()
