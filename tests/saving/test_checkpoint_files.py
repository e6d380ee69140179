"""A checkpoint is data: what is in it is looked at before any library gets it, and what does not fit is one error."""

from __future__ import annotations

import copy
import json
import random
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as to_bytes

import fullbatch as fb
from fullbatch.errors import FullbatchError, ModelFileError
from fullbatch.saving.model_file import FORMAT, read, sealed

rng = np.random.default_rng(1)
X = rng.standard_normal((60, 3))
Y = (X[:, 0] > 0).astype(int)
PARAMS: dict[str, Any] = {"hidden_layer_sizes": (4,), "batch_size": 16, "max_iter": 3, "random_state": 0}


class Stop(Exception):
    pass


class Cut(fb.Checkpoint):
    """Dies after the eighth note, which is within the second epoch of mini-batches."""

    def __init__(self, path: Any) -> None:
        super().__init__(path, seconds=0)
        self.left = 8

    def tell(self, moment: Any) -> None:
        super().tell(moment)
        self.left -= 1
        if not self.left:
            raise Stop


KINDS = {
    "adam": {},
    "early stopping": {"early_stopping": True, "solver": "sgd"},
    "lbfgs": {"solver": "lbfgs", "max_iter": 40},
}


@pytest.fixture(scope="module", params=list(KINDS))
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A checkpoint of each kind, and the parameters of its estimator."""
    path = tmp_path_factory.mktemp("kept") / "late.ckpt"
    params = {**PARAMS, **KINDS[request.param]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fullbatch.training.native_batches.SLICE", 0.0)
        with pytest.raises(Stop):
            fb.MLPClassifier(**params).set_callbacks(Cut(path)).fit(X, Y)
    return path, params


def written(path: Path, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    path.write_bytes(to_bytes(arrays, {FORMAT: sealed(content, arrays)}))
    return path


def refused(path: Path) -> str:
    for read_it in (fb.load, lambda path: fb.Checkpoint(path).state()):
        with pytest.raises(ModelFileError) as caught:
            read_it(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def put(content: Any, keys: tuple[Any, ...], to: Any) -> dict[str, Any]:
    content = place = copy.deepcopy(content)
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    return content


STATE = ("training", "state")
WRONG: list[tuple[tuple[Any, ...], Any]] = [
    (("training",), []),
    (("training", "version"), 0),
    (("training", "version"), "1"),
    (("training", "theta"), None),
    (("training", "theta"), "best"),
    (("training", "theta"), {"$": "array", "name": "coefs_.0"}),
    (("training", "before"), 99),
    (("training", "search"), 3),
    (("training", "log"), {"token": "../../etc", "entries": 1}),
    (("training", "log"), {"token": "0123abcd", "entries": 10**9}),
    (("training", "log"), {"token": "0123abcd", "entries": 1, "more": 1}),
    (("training", "facts"), {}),
    (("training", "facts", "data"), {"X": "abc"}),
    (("training", "facts", "made_by"), {"NumPy": 2}),
    ((*STATE, "epoch"), 10**15),
    ((*STATE, "epoch"), True),
    ((*STATE, "updates"), -1),
    ((*STATE, "updates"), 10**400),
    ((*STATE, "place"), 1.5),
    ((*STATE, "optimizer"), "newton"),
    ((*STATE, "optimizer"), "gd"),
    ((*STATE, "stopped"), None),
    ((*STATE, "learning_rate"), "fast"),
    ((*STATE, "schedule"), ["constant"]),
    ((*STATE, "schedule"), ["wild", 0.1, 0.5, 3]),
    ((*STATE, "schedule"), ["linear", {"$": "float", "value": "nan"}, 0.5, 3]),
    ((*STATE, "costs"), ["x"]),
    ((*STATE, "costs"), [0.1] * 50),
    ((*STATE, "held_out"), [0.1] * 50),
    ((*STATE, "arrays"), []),
    ((*STATE, "arrays"), [{"$": "array", "name": "training.generator.1"}]),
    ((*STATE, "order"), [None, 1, None, False]),
    (("training", "generator"), ["PCG64", 1, 2]),
]


@pytest.mark.parametrize(("keys", "to"), WRONG)
def test_fields_that_cannot_be(kept: Any, keys: tuple[Any, ...], to: Any, tmp_path: Path) -> None:
    content, arrays = read(kept[0])
    fb.load(written(tmp_path / "fine", content, arrays))
    assert "damaged" in refused(written(tmp_path / "wrong", put(content, keys, to), arrays))


@pytest.fixture(scope="module")
def with_an_order(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that keeps the order of its last epoch."""
    path = tmp_path_factory.mktemp("order") / "late.ckpt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fullbatch.estimators.descent.REDRAWN", 1)
        fb.MLPClassifier(**PARAMS, learning_rate="linear").set_callbacks(fb.Checkpoint(path)).fit(X, Y)
    return path


@pytest.mark.parametrize("wrong", ["twice", "beyond", "negative", "floats", "a table", "too late", "never", "no state"])
def test_an_order_has_each_example_once(wrong: str, with_an_order: Path, tmp_path: Path) -> None:
    content, arrays = read(with_an_order)
    drawn = content["training"]["state"]["order"][4]
    name = drawn[2]["name"]
    match wrong:
        case "twice" | "beyond" | "negative":
            arrays[name][3] = {"twice": arrays[name][4], "beyond": len(X), "negative": -1}[wrong]
        case "floats":
            arrays[name] = arrays[name].astype(float)
        case "a table":
            arrays[name] = arrays[name].reshape(2, -1)
        case "too late" | "never":
            drawn[0] = 9 if wrong == "too late" else 0
        case "no state":
            drawn[1] = None
            del arrays[name.replace(".2", ".1.1")]
    assert "damaged" in refused(written(tmp_path / "wrong", content, arrays))


def test_an_order_of_other_examples_is_refused(with_an_order: Path, tmp_path: Path) -> None:
    content, arrays = read(with_an_order)
    name = content["training"]["state"]["order"][4][2]["name"]
    arrays[name] = np.arange(len(X) - 1, dtype=np.int32)
    path = written(tmp_path / "wrong", content, arrays)
    model = fb.MLPClassifier(**{**PARAMS, "max_iter": 5, "learning_rate": "linear"})
    with pytest.raises(FullbatchError, match="its order is not one of 60 examples"):
        model.fit(X, Y, resume=fb.Checkpoint(path))


@pytest.mark.parametrize("field", ["generator", "order"])
@pytest.mark.parametrize(
    ("at", "to"), [(0, "PCG64"), (2, 625), (2, -1), (2, 3.0), (3, 2), (3, True), (4, {"$": "float", "value": "inf"})]
)
def test_a_generator_is_looked_at_before_numpy_gets_it(field: str, at: int, to: Any, kept: Any, tmp_path: Path) -> None:
    content, arrays = read(kept[0])
    keys: tuple[Any, ...] = ("training", "generator", at)
    if field == "order":
        if content["training"]["state"]["order"] is None:
            return
        keys = (*STATE, "order", 2, at)
    assert "damaged" in refused(written(tmp_path / "wrong", put(content, keys, to), arrays))
    name = "training.generator.1"
    for key in (
        np.zeros(624, np.uint32),
        np.ones(623, np.uint32),
        np.ones(624, np.int32),
        np.ones((624, 1), np.uint32),
    ):
        assert "damaged" in refused(written(tmp_path / "wrong", content, {**arrays, name: key}))


def test_each_array_is_named_once(kept: Any, tmp_path: Path) -> None:
    content, arrays = read(kept[0])
    more = {**arrays, "training.more": np.zeros(3)}
    assert "nothing names" in refused(written(tmp_path / "more", content, more))
    name = next(name for name in arrays if name.startswith("training.arrays") or name == "training.theta")
    twice = put(content, ("training", "best_theta"), {"$": "array", "name": name})
    assert "named twice" in refused(written(tmp_path / "twice", twice, arrays))


def test_vectors_are_like_the_parameters(kept: Any, tmp_path: Path) -> None:
    content, arrays = read(kept[0])
    for name in [name for name in arrays if name.startswith(("training.arrays", "training.theta", "training.best"))]:
        array = arrays[name]
        for other in (array[:-1], array.astype(np.int64), array[None, :], np.zeros(10**6)):
            assert "damaged" in refused(written(tmp_path / "wrong", content, {**arrays, name: other}))


def test_a_place_that_is_not_between_two_batches_is_refused(kept: Any, tmp_path: Path) -> None:
    path, params = kept
    if params.get("solver") == "lbfgs":
        return
    content, arrays = read(path)
    for place in (1, 33, 10**9):
        wrong = written(tmp_path / "wrong", put(content, (*STATE, "place"), place), arrays)
        with pytest.raises(FullbatchError, match="is not between two batches of 16"):
            fb.MLPClassifier(**params).fit(X, Y, resume=fb.Checkpoint(wrong))


def use(path: Path, params: dict[str, Any]) -> str:
    """Read it and go on from it: only our errors may come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = fb.load(path)
        except ModelFileError:
            with pytest.raises(ModelFileError):
                fb.Checkpoint(path).state()
            return "refused"
        model.predict(X)
        try:
            fb.MLPClassifier(**params).fit(X, Y, resume=fb.Checkpoint(path))
        except FullbatchError:
            return "not gone on with"
        return "used"


def places(content: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a JSON value has values within."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


STRANGE = [
    None, True, -1, 0, 1, 2**31, 2**63, 10**30, 0.5, -1e308, "", "model", "x" * 5000, [], [0], [[]], {}, {"$": "array"},
    {"$": "array", "name": "coefs_.0"}, {"$": "float", "value": "nan"}, {"$": "tuple", "items": []},
    {"$": "objects", "shape": [10**12], "text": True, "values": ["a"]},
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_changed_fields_are_refused_or_harmless(kept: Any, tmp_path: Path) -> None:
    """One to three fields of any kind, with the checksum mended: no other error, and memory in proportion."""
    path, params = kept
    content, arrays = read(path)
    draw = random.Random(3)
    where = [place for place in places(content) if len(place) > 1]
    outcomes = []
    for _ in range(250):
        changed, given = content, dict(arrays)
        for _ in range(draw.randint(1, 3)):
            try:
                changed = put(changed, draw.choice(where), draw.choice(STRANGE))
            except (LookupError, TypeError):  # what was there is not there any more
                continue
        changed = json.loads(json.dumps(changed))  # an index may have become a key
        if draw.random() < 0.3:
            name = draw.choice(list(given))
            given[name] = draw.choice(
                [given[name][:0], np.zeros(5), np.full_like(given[name], 7), given[name].T.copy()]
            )
        tracemalloc.start()
        outcomes.append(use(written(tmp_path / "changed", changed, given), params))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 50e6
    assert outcomes.count("refused") > 100
    assert outcomes.count("used") < 100


@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_are_refused(kept: Any, tmp_path: Path) -> None:
    """And a file that is cut short, or has more at its end."""
    path, params = kept
    whole = path.read_bytes()
    draw = random.Random(4)
    for _ in range(120):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 1, 2, 8])):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        if draw.random() < 0.2:
            damaged = damaged[: draw.randrange(len(damaged))]
        changed = tmp_path / "changed"
        changed.write_bytes(damaged)
        assert use(changed, params) == "refused"
