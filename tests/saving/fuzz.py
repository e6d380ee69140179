"""Hostile files: model files, checkpoints and stores, changed by chance in their bytes or in what they say.

Each file must load and predict, or be one error of ours, on one line, within an address space that has 50 MB and 20
times the file beside what the process had. The tests try 3,000; ``python tests/saving/fuzz.py --files 30000`` so many,
and ends with status 1 where one of them came out otherwise. ``--first N --files 1`` tries number N again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fullbatch as fb
from fullbatch.errors import FullbatchError
from fullbatch.estimators import descent

ROOM = 50_000_000  # bytes beside 20 times the file
SECONDS = 30  # of one file, after which it hangs
HOSTILE = [
    None, True, False, -1, 0, 1, 2, 7, 2**31, 2**63, -(2**63), 10**30, 0.5, -1.5, 1e308, "", "x", "é" * 500, "nan",
    "model", "cuda", [], {}, [[]], [0], ["a", "a"], [None] * 50, {"$": "float", "value": "inf"},
    {"$": "tuple", "items": []},
    {"$": "dict", "items": [[1, 2]]}, {"$": "array", "name": "coefs_.0"}, {"$": "float", "value": "nan"}, [[[[[[]]]]]],
    {"$": "RandomState", "state": []}, {"$": "objects", "shape": [10**9], "text": True, "values": []},
]  # fmt: skip


class Seed(NamedTuple):
    """A file that is whole. use : loads it, or one like it, and does with it what a file of its kind is for."""

    name: str
    data: bytes
    use: Callable[[Path], None]


# --- Whole files and what they are for ------------------------------------------------------------------------------


def seeds(folder: Path) -> list[Seed]:
    """One file of each kind."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3))
    y = np.array(["no", "yes", "maybe"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    days = np.datetime64("2024-01-01") + np.arange(40)
    table = {"a": X[:, 0], "town": y, "day": days.astype(object), "y": y}
    settings: dict[str, Any] = {"hidden_layer_sizes": (4,), "max_iter": 2}
    made: list[Seed] = []

    def keep(name: str, use: Callable[[Path], None]) -> None:
        made.append(Seed(name, (folder / name).read_bytes(), use))

    classifier = fb.MLPClassifier(random_state=np.random.RandomState(0), **settings).fit(X, y)
    fb.save(classifier.partial_fit(X, y), folder / "classifier")
    keep("classifier", _load_and_predict)
    fb.save(fb.MLPRegressor(solver="lbfgs", random_state=1, **settings).fit(X, X[:, :2]), folder / "regressor")
    keep("regressor", _load_and_predict)
    model = fb.TableClassifier(hidden=(4,), epochs=2, random_state=0).fit(table, target="y")
    fb.save(model, folder / "table")
    rows = {name: values[:3] for name, values in table.items()}
    keep("table", lambda path: _load_and_predict(path, rows))
    descent.REDRAWN = 1  # so that a checkpoint keeps an order
    for solver in ("adam", "lbfgs"):
        checkpoint = fb.Checkpoint(folder / solver, seconds=0)
        fb.MLPClassifier(solver=solver, random_state=0, batch_size=16, **settings).set_callbacks(checkpoint).fit(X, y)
        keep(solver, _load_the_checkpoint)
    from fullbatch.tables import store

    store.convert(table, folder / "store", "y")
    keep("store", _read_the_store)
    return made


def _load_and_predict(path: Path, rows: Any = None) -> None:
    model = fb.load(path)
    if isinstance(model, tuple):
        return
    model.predict(np.zeros((2, model.n_features_in_)) if rows is None else rows)
    if rows is not None:
        from fullbatch.saving.model_file import load_network

        load_network(path).predict(rows)


def _load_the_checkpoint(path: Path) -> None:
    _load_and_predict(path)
    moment = fb.Checkpoint(path).state()
    assert moment.state.theta is not None


def _read_the_store(path: Path) -> None:
    with fb.open_store(path) as store:
        examples = store.examples(store.train)
        assert examples.Y is not None
        for source in (examples.X, examples.Y):
            source.reader()(slice(0, store.train.m))
        if examples.weight is not None:
            examples.weight[slice(0, store.train.m)]


# --- Changes --------------------------------------------------------------------------------------------------------


def changed(seed: Seed, draw: random.Random) -> bytes:
    """A file like the seed's, but for some bytes or for something that it says."""
    if draw.random() < 0.35:
        return _in_bytes(seed.data, draw)
    return (_store_that_says if seed.name == "store" else _file_that_says)(seed.data, draw)


def _in_bytes(data: bytes, draw: random.Random) -> bytes:
    found = bytearray(data)
    at = draw.randrange(min(len(found), 2000) if draw.random() < 0.5 else len(found))
    match draw.randrange(6):
        case 0:
            for _ in range(draw.choice([1, 1, 3, 20])):
                found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
        case 1:
            del found[at:]
        case 2:
            found[at:at] = draw.randbytes(draw.choice([1, 8, 100]))
        case 3:
            del found[at : at + draw.choice([1, 8, 100])]
        case 4:
            found[at : at + 8] = draw.choice([b"\xff" * 8, bytes(8), b"\xff" * 7 + b"\x7f", draw.randbytes(8)])
        case _:
            other = draw.randrange(len(found))
            found[at : at + 64] = found[other : other + 64]
    return bytes(found)


def _file_that_says(data: bytes, draw: random.Random) -> bytes:
    """A model file or a checkpoint with other content or other arrays, its checksum mended or not."""
    from safetensors.numpy import load, save

    from fullbatch.saving.model_file import FORMAT, sealed

    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    content = json.loads(header["__metadata__"][FORMAT])
    arrays = dict(load(data))
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        if arrays and draw.random() < 0.3:
            _change_an_array(arrays, draw)
        else:
            _change_json(content, draw)
    if draw.random() < 0.9:
        content.pop("sha256", None)
        text = sealed(content, arrays)
    else:
        text = json.dumps(content)
    return bytes(save(arrays, metadata={FORMAT: text}))


def _store_that_says(data: bytes, draw: random.Random) -> bytes:
    import pyarrow as pa

    from fullbatch.sources.store_file import KEY, sealed

    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        schema = reader.schema
    content = json.loads(schema.metadata[KEY])
    for _ in range(draw.choice([1, 1, 2, 4])):
        _change_json(content, draw)
    if draw.random() < 0.2:
        draw.shuffle(batches)
        del batches[draw.randrange(len(batches) + 1) :]
    if draw.random() < 0.9:
        content.pop("sha256", None)
        text = sealed(content)
    else:
        text = json.dumps(content).encode()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema.with_metadata({KEY: text})) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata({KEY: text}))
    return sink.getvalue().to_pybytes()


def _change_an_array(arrays: dict[str, np.ndarray], draw: random.Random) -> None:
    name = draw.choice(sorted(arrays))
    array = arrays[name].copy()
    match draw.randrange(7):
        case 0:
            del arrays[name]
            return
        case 1:
            arrays[draw.choice(["x", name + "0", "coefs_.9"])] = array
            return
        case 2:
            array = array.astype(draw.choice(["float32", "float64", "int8", "uint64", "bool"]))
        case 3:
            array = array.reshape(-1)[: draw.randrange(array.size + 1)]
        case 4 if array.size:
            array.reshape(-1)[draw.randrange(array.size)] = draw.choice(
                [0, 1] if array.dtype.kind == "b" else [0, 1, 99]
            )
        case 5 if array.dtype.kind == "f" and array.size:
            array.reshape(-1)[draw.randrange(array.size)] = draw.choice([np.nan, np.inf, -np.inf, 1e30, -1e30])
        case _:
            array = draw.choice([array[None], array.T.copy(), np.concatenate([array.reshape(-1)] * 2)])
    arrays[name] = array


def _change_json(content: Any, draw: random.Random) -> None:
    """Change one place of a nest of dicts and lists."""
    places = [content]
    while draw.random() < 0.9:
        at = places[-1]
        inner = [
            value
            for value in (at.values() if isinstance(at, dict) else at)
            if isinstance(value, (dict, list)) and value
        ]
        if not inner:
            break
        places.append(draw.choice(inner))
    at = places[-1]
    keys = list(at) if isinstance(at, dict) else list(range(len(at)))
    key = draw.choice(keys)
    match draw.randrange(6):
        case 0:
            del at[key]
        case 1:
            at[key] = at[draw.choice(keys)]
        case 2 if isinstance(at, dict):
            at[draw.choice(["x", "$", str(key) + "_"])] = at[key]
        case 2:
            at.insert(key, at[draw.choice(keys)])
        case 3 if isinstance(at[key], (int, float)) and not isinstance(at[key], bool):
            thousand = at[key] * 1000 if abs(at[key]) < 1e300 else at[key]  # infinity is none of JSON's numbers
            at[key] = draw.choice([-at[key], at[key] + 1, thousand, at[key] / 2])
        case _:
            at[key] = json.loads(json.dumps(draw.choice(HOSTILE)))


# --- The process that reads them ------------------------------------------------------------------------------------


def read_all(folder: Path, seed: int, first: int, files: int, limited: int) -> int:
    """Try so many files, and print what was wrong with each that was not as it should be.

    limited : whether the address space is, 0 or 1
    """
    warnings.simplefilter("ignore")
    whole = seeds(folder)
    for one in whole:  # what is imported or made once belongs to no file
        path = folder / one.name
        one.use(path)
        path.write_bytes(one.data[: len(one.data) // 2])
        _trial(one, path)
    counts: Counter[str] = Counter()
    path, wrong, progress = folder / "hostile", 0, folder / "number"
    for number in range(first, first + files):
        draw = random.Random(f"{seed} {number}")
        one = draw.choice(whole)
        path.write_bytes(changed(one, draw))
        progress.write_text(str(number))
        with _limited(ROOM + 20 * path.stat().st_size) if limited else nullcontext():
            what = _trial(one, path)
        counts[what.partition(":")[0]] += 1
        if what not in ("used", "refused"):
            wrong += 1
            print(f"file {number} ({one.name}): {what}", flush=True)
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items(), reverse=True)), flush=True)
    return wrong


def _trial(one: Seed, path: Path) -> str:
    """ "used", "refused" by an error of ours, or what else came of it."""
    import signal

    begun = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        one.use(path)
    except FullbatchError as error:
        if "\n" in str(error) or "enough memory" in str(error):
            return f"error that is not one clear line: {str(error)[:300]!r}"
        return "refused"
    except BaseException as error:
        text = " ".join(str(error).split())[:300]
        return f"raw exception: {type(error).__name__}: {text}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "used" if time.monotonic() - begun < SECONDS else "hang"


class _limited:
    """Within it the process can take so many bytes more of its address space."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __enter__(self) -> None:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + self.room
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))

    def __exit__(self, *error: object) -> None:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def run(files: int, seed: int = 0, first: int = 0, *, limited: bool = True) -> tuple[int, str]:
    """Read them in a process of its own: (how many were not as they should be, what is to be said)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--read", folder, *map(str, (seed, first, files, int(limited)))]
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system",
        }  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        said = done.stdout.strip()
        if done.returncode not in (0, 1) or "used" not in said:
            number = Path(folder, "number")
            at = number.read_text() if number.exists() else "none"
            return 1, f"{said}\nthe process ended with {done.returncode} at file {at}: {done.stderr[-2000:]}".strip()
        return done.returncode, said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=30_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unlimited", action="store_true", help="without an address-space limit, as under ASan")
    parser.add_argument("--read", nargs=5, metavar=("FOLDER", "SEED", "FIRST", "FILES", "LIMITED"))
    given = parser.parse_args()
    if given.read:
        folder, *numbers = given.read
        return min(1, read_all(Path(folder), *map(int, numbers)))
    wrong, said = run(given.files, given.seed, given.first, limited=not given.unlimited)
    print(f"hostile files: {said}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
