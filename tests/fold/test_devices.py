"""Several GPUs of this machine, on the pretended ones: the bits of one, whatever shares the leaves."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import fake_cupy
import fullbatch as fb
from fullbatch.core.parameters import flatten
from fullbatch.errors import DeviceError, InputError
from fullbatch.fold import blocks, devices
from fullbatch.fold import cluster as engine
from fullbatch.fold.fold import Fold
from fullbatch.machine import places
from fullbatch.sources import Dense, Examples, placing
from fullbatch.sources.spread import Spread
from fullbatch.tables.store import convert

pytestmark = [fake_cupy.pretended, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]
LEAF = 256
SEVERAL = ["cuda:0,cuda:1", "cuda:0,cuda:0", "cuda:1,cuda:0,cuda:1"]


@pytest.fixture(autouse=True)
def two_cards(monkeypatch):
    fake_cupy.install(monkeypatch)
    monkeypatch.setattr(fake_cupy.Device, "count", 2)
    monkeypatch.setattr(blocks, "GPU_BLOCK", 2**14)
    for where in ("fullbatch.fold.tree", engine.__name__, "fullbatch.training.windows", "fullbatch.tables.store"):
        monkeypatch.setattr(f"{where}.leaf_size", lambda n: LEAF)


def problem(m=7 * LEAF - 30, n=4):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((m, n)).astype("float32")
    return X, np.argmax(X[:, :3], axis=1), rng.uniform(0.5, 2, m).astype("float32")


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("device", SEVERAL)
def test_sums_have_the_bits_of_one_device(monkeypatch, device, fits):
    monkeypatch.setattr(placing, "fits", lambda size, room: fits)
    X, y, weight = problem()
    Y = np.eye(3, dtype="float32")[:, y]
    net = fb.Network([4, 5, 3], output="softmax")
    theta = flatten(net.init(seed=0, dtype="float32"))
    one = places.place("cuda:0")
    whole = Examples(Dense(one.put(X).T), Dense(one.put(np.ascontiguousarray(Y.T)).T), one.put(weight))
    with Fold(net, whole) as fold:
        expected, cost = fold.gradient(one.put(theta)), fold.cost(one.put(theta))
        yhat, step = fold.predict(one.put(theta)), fold.step_name
    threads = set()
    work = devices.DeviceShard.answer
    monkeypatch.setattr(
        devices.DeviceShard, "answer", lambda self, *own: (threads.add(threading.get_ident()), work(self, *own))[1]
    )
    names = device.split(",")
    spread = Examples(Spread.over(Dense(X.T), places.several(device)), Dense(Y), weight)
    with Fold(net, spread) as fold:
        assert [shard.handle.shard.place.name for shard in fold.engine.shards] == sorted(names)
        assert len({shard.address for shard in fold.engine.shards}) == len(names)
        assert fold.step_name == step
        found = fold.gradient(theta)
        np.testing.assert_array_equal(found.vector, expected.vector.get())
        assert (float(found.loss), float(found.weight)) == (float(expected.loss), float(expected.weight))
        assert tuple(map(float, fold.cost(theta))) == tuple(map(float, cost))
        np.testing.assert_array_equal(fold.predict(theta), yhat.get())
    assert len(threads) == len(names)


@pytest.mark.parametrize("how", [{"solver": "lbfgs"}, {"solver": "adam", "batch_size": "full", "early_stopping": True}])
def test_a_training_has_the_bits_of_one_device(how):
    X, y, weight = problem()
    one, several = (
        fb.MLPClassifier((5,), max_iter=3, random_state=0, device=device, **how).fit(X, y, weight)
        for device in ("cuda:1", "cuda:0,cuda:1")
    )
    assert several.device_ == "cuda:0,cuda:1"
    assert several.loss_curve_ == one.loss_curve_
    for a, b in zip(several.coefs_, one.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(several.predict_proba(X), one.predict_proba(X))


def test_a_store_and_a_table(tmp_path):
    X, y, _ = problem()
    table = {"a": X[:, 0], "b": X[:, 1], "c": np.array(["x", "y", "z"])[y]}
    convert(table, tmp_path / "store", "c")
    models = []
    for device in ("cuda:0", "cuda:0,cuda:1"):
        how = {"hidden": (3,), "solver": "lbfgs", "epochs": 3, "device": device}
        with fb.open_store(tmp_path / "store") as store:
            models.append([fb.TableClassifier(**how).fit(store), fb.TableClassifier(**how).fit(table, target="c")])
    for one, several in zip(*models, strict=True):
        assert several.device_ == "cuda:0,cuda:1"
        np.testing.assert_array_equal(one.network_.theta, several.network_.theta)
        np.testing.assert_array_equal(one.predict_proba(table), several.predict_proba(table))


@pytest.fixture
def of_codes():
    """A table with so many levels that its codes are read, and a store of it."""
    rng = np.random.default_rng(1)
    m = 3 * LEAF - 30
    town = rng.integers(0, 60, m)
    x = rng.standard_normal(m)
    late = (x + (town % 3) > 1).astype(int)
    return {"x": x, "town": np.array([f"t{i}" for i in town]), "late": late}


@pytest.mark.parametrize("fits", [True, False])
def test_codes_on_several_devices_give_the_bits_of_one(monkeypatch, fits, of_codes, tmp_path):
    """There as a whole, where each device holds its own rows' codes, and streamed; of a table and of its store."""
    monkeypatch.setattr(placing, "fits", lambda size, room: fits)
    monkeypatch.setattr("fullbatch.steps.cuda.fused.LEAST", 64)
    convert(of_codes, tmp_path / "store", "late")
    put, held = devices.put_whole_or_streamed, []

    def seen(own, place):
        found = put(own, place)
        held.append((place.name, type(found[0].X).__name__))
        return found

    monkeypatch.setattr(devices, "put_whole_or_streamed", seen)
    steps = []
    work = devices.DeviceShard.answer
    monkeypatch.setattr(
        devices.DeviceShard, "answer", lambda self, *own: (steps.append(self.fold.step_name), work(self, *own))[1]
    )
    models = []
    for device in ("cuda:1", "cuda:0,cuda:1"):
        how = {"hidden": (3,), "solver": "lbfgs", "epochs": 2, "device": device}
        held.clear()
        with fb.open_store(tmp_path / "store") as store:
            models.append([fb.TableClassifier(**how).fit(store)])
        of_table = len(held)
        models[-1].append(fb.TableClassifier(**how).fit(of_codes, target="late"))
    assert set(steps) == {"coded"}
    kind = "EncodedThere" if fits else "Uploaded"
    assert set(held[of_table:]) == {("cuda:0", kind), ("cuda:1", kind)}
    for one, several in zip(*models, strict=True):
        np.testing.assert_array_equal(one.network_.theta, several.network_.theta)
        assert one.step_ == several.step_ == "coded"


def test_what_cannot_be_used():
    X, y, _ = problem()
    with pytest.raises(ValueError, match=r"mini-batches are refused on several devices \(cuda:0,cuda:1\)"):
        fb.MLPClassifier(device="cuda:0,cuda:1").fit(X, y)
    with pytest.raises(DeviceError, match="there is no device cuda:2"):
        fb.MLPClassifier(device="cuda:0,cuda:2", solver="lbfgs").fit(X, y)
    with pytest.raises(InputError, match="unknown device 'cuda:0,cpu'"):
        fb.MLPClassifier(device="cuda:0,cpu", solver="lbfgs").fit(X, y)
    with pytest.raises(InputError, match="precision='tf32' is for one device"):
        fb.MLPClassifier(device="cuda:0,cuda:1", solver="lbfgs", precision="tf32").fit(X, y)
    net = fb.Network([4, 1])
    with pytest.raises(InputError, match="the fit of an estimator takes several, with X on the host; name one"):
        fb.cost(net, net.init(seed=0, dtype="float32"), X.T, np.ones((1, len(X)), "float32"), device="cuda:0,cuda:1")


def test_a_device_that_fails_is_told_and_the_others_are_closed(monkeypatch):
    X, y, _ = problem()
    made, put = [], devices.put_whole_or_streamed

    def some(own, place):
        if place.name == "cuda:1":
            raise DeviceError("cuda:1 is gone.")
        made.append(place.name)
        return put(own, place)

    monkeypatch.setattr(devices, "put_whole_or_streamed", some)
    with pytest.raises(DeviceError, match="cuda:1 is gone"):
        fb.MLPClassifier(device="cuda:0,cuda:1", solver="lbfgs").fit(X, y)
    assert made == ["cuda:0"]
