"""Passes on a device: when its memory runs out, how much of it may be taken, how products are rounded, who waits.

Arrays of array_api_strict stand in for a GPU's, and a module of our own for CuPy; tests marked ``gpu`` are the real
ones.
"""

from __future__ import annotations

import _thread
import json
import sys
import threading
import time
import warnings
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from types import ModuleType, SimpleNamespace

import array_api_strict
import numpy as np
import pytest

import fake_cupy
import fullbatch as fb
from fullbatch import functions, steps
from fullbatch.command import app
from fullbatch.core.activations import ACTIVATIONS
from fullbatch.core.parameters import flatten
from fullbatch.errors import DeviceError, InputError
from fullbatch.fold import blocks
from fullbatch.fold.fold import Fold
from fullbatch.machine import arrays, cuda, places
from fullbatch.machine.places import Place
from fullbatch.sources import Dense, Examples, conveyor, placing
from fullbatch.training.objective import Objective
from reference import problem, relative
from through_layers import cost_and_layers

DEVICE = array_api_strict.Device("device1")
SIZES = [3, 5, 2]


def there(array):
    return array_api_strict.asarray(array, device=DEVICE)


def hosts(layers):
    return [np.asarray(array._array) for layer in layers for array in layer]


def make(m, seed=0):
    params, X, Y = problem(SIZES, m, "softmax", seed=seed)
    layers = tuple(fb.Layer(there(W), there(b)) for W, b in params)
    return fb.Network(SIZES, output="softmax"), layers, there(X), there(Y)


# --- The device's memory runs out -----------------------------------------------------------------------------------


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory has it."""


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class CUBLASError(RuntimeError):
    pass


NO_MEMORY = [
    OutOfMemoryError("Out of memory allocating 512 bytes (allocated so far: 0 bytes)."),
    CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"),
    CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    CUBLASError("CUBLAS_STATUS_ALLOC_FAILED"),
]


@pytest.fixture
def small(monkeypatch):
    """Blocks of 1024 examples, of which a step takes at most ``most`` without running out of memory."""
    monkeypatch.setattr(blocks, "block_size", lambda *_, **__: 1024)
    limits = SimpleNamespace(most=300, error=NO_MEMORY[0], seen=[], made=0)

    class Step(steps.ArrayStep):
        name = "small"

        def __init__(self, network, like, block):
            super().__init__(network, like, block)
            limits.made += 1

        def _take(self, X):
            limits.seen.append(int(X.shape[1]))
            if X.shape[1] > limits.most:
                raise limits.error

        def gradient(self, X, Y, weight):
            self._take(X)
            return super().gradient(X, Y, weight)

        def cost(self, X, Y, weight):
            self._take(X)
            return super().cost(X, Y, weight)

        def predict(self, X):
            self._take(X)
            return super().predict(X)

    monkeypatch.setattr(steps, "STEPS", {"small": Step})
    return limits


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("m", [200, 301, 1024, 5000])
@pytest.mark.parametrize("kind", ["all", "indices"])
def test_blocks_are_halved_until_they_fit(small, error, m, kind):
    small.error = error
    network, params, X, Y = make(m)
    where = np.random.default_rng(0).permutation(m) if kind == "indices" else None
    with Objective(network, Examples(Dense(X), Dense(Y))) as objective:
        J, gradients = cost_and_layers(objective, params, where)
        again = cost_and_layers(objective, params, where)
        again_seen = small.seen[-len(objective.fold.plan.blocks()) :]
        K = objective.cost(flatten(params), where)
        yhat = objective.fold.predict(flatten(params))
        note = objective.fold.note
    total = network.backward(params, network.forward(params, X), Y)
    assert pytest.approx(float(total.loss) / m, rel=1e-12) == J
    assert abs(K - J) <= 1e-12 * abs(J)
    assert relative(hosts(gradients), [a / m for a in hosts(total.gradients)]) < 1e-12
    assert relative(hosts(again[1]), hosts(gradients)) < 1e-12
    assert max(again_seen) <= 300, "once they are smaller, blocks stay so"
    assert sum(again_seen) == m
    assert relative([np.asarray(yhat._array)], [np.asarray(network.forward(params, X).A[-1]._array)]) < 1e-12
    if m <= 300:
        assert note == ""
        assert small.made == 1
    else:
        assert "instead of 1,024: bits may differ" in note


def test_what_was_added_before_is_not_added_again(small):
    """The first two blocks fit, the third does not."""
    network, params, X, Y = make(4096)
    with Fold(network, Examples(Dense(X), Dense(Y))) as it:
        small.most = 2000
        real, calls = steps.STEPS["small"]._take, []

        def take(self, block):
            calls.append(1)
            if len(calls) == 3:
                small.most = 300
            real(self, block)

        steps.STEPS["small"]._take = take
        total = it.gradient(flatten(params))
        assert small.seen[:4] == [1024, 1024, 1024, 512]
    expected = network.backward(params, network.forward(params, X), Y)
    assert float(total.weight) == 4096
    assert relative(hosts(total.gradients), hosts(expected.gradients)) < 1e-12


def test_a_training_says_that_its_bits_may_differ(small):
    network, params, X, Y = make(2000)
    run = fb.gradient_descent(network, params, X, Y, learning_rate=0.1, iterations=2)
    assert "the device's memory was short, so blocks have 256 examples instead of 1,024" in run.note
    small.most = 2000
    run = fb.gradient_descent(network, params, X, Y, learning_rate=0.1, iterations=2)
    assert run.note == ""


def test_only_a_minimal_block_that_does_not_fit_ends_it(small):
    small.most = 255
    network, params, X, Y = make(2000)
    expected = r"is out of memory: a block of 256 examples .* bytes and .* are free"
    with pytest.raises(DeviceError, match=expected) as caught:
        fb.cost(network, params, X, Y)
    assert "\n" not in str(caught.value)
    assert "device='cpu'" in str(caught.value)
    assert small.seen == [1024, 512, 256]


@pytest.mark.parametrize("error", [MemoryError("of the host"), ValueError("bad"), CUBLASError("CUBLAS_STATUS_BAD")])
def test_other_errors_come_through(small, error):
    small.error = error
    network, params, X, Y = make(2000)
    with pytest.raises(type(error), match=str(error)):
        fb.cost(network, params, X, Y)
    assert len(small.seen) == 1


def test_on_the_cpu_nothing_is_halved(small):
    network, params, X, Y = make(2000)
    on_host = [np.asarray(a._array) for a in (X, Y)]
    layers = tuple(fb.Layer(*(np.asarray(a._array) for a in layer)) for layer in params)
    with pytest.raises(OutOfMemoryError):
        fb.cost(network, layers, *on_host, threads=1)


# --- How much may be taken ------------------------------------------------------------------------------------------


def test_a_device_s_blocks_begin_at_multiples_of_64():
    for m in (1, 63, 64, 65, 1000, 5000, 12_345):
        for block in (256, 1024, 4096):
            parts = blocks.cut(slice(10, 10 + m), block, share=block, align=64)
            assert parts[0].start == 10
            assert parts[-1].stop == 10 + m
            assert all(a.stop == b.start for a, b in pairwise(parts))
            assert all((part.stop - part.start) % 64 == 0 for part in parts[:-1])
            assert max(part.stop - part.start for part in parts) <= block
            assert len(parts) <= -(-m // block)


def test_blocks_are_chosen_from_shape_and_dtype_and_fit_the_room():
    network = fb.Network([28, 64, 1])
    like = there(np.empty((28, 0), dtype="float32"))
    tall = SimpleNamespace(n=28, m=10**8, like=like)
    plain = Fold(network, tall).block
    assert plain % 64 == 0
    assert plain * steps.ArrayStep.numbers(network) * 4 <= blocks.GPU_BLOCK
    room = blocks.workspace(network, like, plain, m=tall.m)
    assert Fold(network, tall, budget=room).block == plain
    assert Fold(network, tall, budget=room).note == ""
    tight = Fold(network, tall, budget=room / 3)
    taken, larger = (blocks.workspace(network, like, block, m=tall.m) for block in (tight.block, 2 * tight.block + 64))
    assert taken <= room / 3 < larger
    assert "bits may differ" in tight.note


@pytest.mark.parametrize("m", [100, 256, 10**8])
def test_a_limit_that_a_minimal_block_does_not_fit(m):
    """A short table needs less, and its one block is as large whatever the limit is."""
    network = fb.Network([28, 64, 1])
    like = there(np.empty((28, 0), dtype="float32"))
    source = SimpleNamespace(n=28, m=m, like=like)
    least = blocks.workspace(network, like, min(m, blocks.SHORTEST), m=m)
    it = Fold(network, source, budget=least)
    assert it.block == (blocks.SHORTEST if m > blocks.SHORTEST else Fold(network, source).block)
    assert (it.note == "") == (m <= blocks.SHORTEST)
    expected = rf"leaves {least - 1:,} bytes on .* of {min(m, 256)} examples takes up to {least:,}; raise device_memory"
    with pytest.raises(DeviceError, match=expected) as caught:
        Fold(network, source, budget=least - 1)
    assert "\n" not in str(caught.value)


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy with one GPU of 1,000 bytes, of which 400 are free and 100 more in the pool, where 50 are in use."""
    fake = ModuleType("cupy")
    fake.limit = 0
    pool = SimpleNamespace(
        free_bytes=lambda: 100, used_bytes=lambda: 50, get_limit=lambda: fake.limit, free_all_blocks=lambda: None
    )
    fake.cuda = SimpleNamespace(runtime=SimpleNamespace(memGetInfo=lambda: (400, 1000)))
    fake.get_default_memory_pool = lambda: pool
    monkeypatch.setitem(sys.modules, "cupy", fake)
    return fake


class Current:
    """A device as a context manager that notes when it is current."""

    entered = left = 0

    def __enter__(self):
        self.entered += 1

    def __exit__(self, *error):
        self.left += 1


def gpu():
    return Place("cuda:0", SimpleNamespace(__name__="array_api_compat.cupy"), Current())


def test_the_room_on_a_gpu(cupy):
    place = gpu()
    assert place.memory() == (500, 1000)
    assert place.device.entered == place.device.left == 1
    assert place.budget(None) == 500
    assert place.budget(0.3) == 300
    assert place.budget(0.9) == 500
    assert place.budget(1) == 500
    assert place.budget(250) == 250
    cupy.limit = 90  # what the user set for CuPy's pool is respected
    assert place.budget(None) == 40
    assert place.budget(0.3) == 40
    cupy.limit = 20
    assert place.budget(None) == 0


@pytest.mark.parametrize("bad", [0, -1, 0.0, -0.5, float("nan"), float("inf"), True, "8GB", [1]])
def test_a_limit_that_is_none(bad, cupy):
    for call in (lambda: places.check_memory(bad), lambda: gpu().budget(bad), lambda: places.place("cpu").budget(bad)):
        with pytest.raises(InputError, match=r"device_memory must be a number of bytes.*or a share") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_limit_above_the_card_s(cupy):
    with pytest.raises(InputError, match=r"device_memory is 1,001 bytes and cuda:0 has 1,000; give at most that"):
        gpu().budget(1001)
    assert gpu().budget(1000) == 500


@pytest.mark.parametrize("call", [fb.cost, fb.cost_and_gradients, fb.gradient_descent])
@pytest.mark.parametrize("bad", [0, -1, float("nan"), "much"])
def test_each_function_checks_the_limit(call, bad):
    params, X, Y = problem(SIZES, 9, "softmax")
    more = {"learning_rate": 0.1, "iterations": 1} if call is fb.gradient_descent else {}
    with pytest.raises(InputError, match="device_memory must be"):
        call(fb.Network(SIZES, output="softmax"), params, X, Y, device_memory=bad, **more)


# --- Precision ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [fb.cost, fb.cost_and_gradients, fb.gradient_descent])
def test_tf32_on_the_cpu_is_an_error(call):
    more = {"learning_rate": 0.1, "iterations": 1} if call is fb.gradient_descent else {}
    for dtype in ("float32", "float64"):
        params, X, Y = problem(SIZES, 9, "softmax", dtype=dtype)
        expected = f"precision='tf32' is for float32 on an NVIDIA GPU; here the arrays are {dtype} on the CPU"
        with pytest.raises(InputError, match=expected):
            call(fb.Network(SIZES, output="softmax"), params, X, Y, precision="tf32", **more)
        with pytest.raises(InputError, match="unknown precision 'float16'"):
            call(fb.Network(SIZES, output="softmax"), params, X, Y, precision="float16", **more)


def test_tf32_for_another_library_is_an_error():
    network, params, X, Y = make(9)
    with pytest.raises(InputError, match="here the arrays are float64 of array_api_strict"):
        fb.cost(network, params, X, Y, precision="tf32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_outcome_names_the_precision(dtype):
    params, X, Y = problem(SIZES, 9, "softmax", dtype=dtype)
    run = fb.gradient_descent(fb.Network(SIZES, output="softmax"), params, X, Y, learning_rate=0.1, iterations=1)
    assert (run.precision, run.device, run.note) == (dtype, "cpu", "")


@pytest.fixture
def linalg(monkeypatch):
    """CuPy's setting for products, as its _core._routines_linalg has it; 7 stands there after CUPY_TF32=1."""
    fake = ModuleType("cupy._core._routines_linalg")
    fake.COMPUTE_TYPE_DEFAULT, fake.COMPUTE_TYPE_TF32 = 1, 7
    fake.types, fake.log = {"float32": 7, "float64": 1}, []

    def set_compute_type(dtype, kind):
        fake.types[np.dtype(dtype).name] = kind
        fake.log.append(kind)

    fake.get_compute_type, fake.set_compute_type = lambda dtype: fake.types[np.dtype(dtype).name], set_compute_type
    for name in ("cupy", "cupy._core"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["cupy._core"]._routines_linalg = fake
    monkeypatch.setitem(sys.modules, "cupy._core._routines_linalg", fake)
    monkeypatch.setattr(arrays, "is_cupy", lambda array: True)
    return fake


def test_products_are_set_and_restored(linalg):
    like = np.empty(0, dtype="float32")
    for before in (7, 1):
        linalg.types["float32"] = before
        with cuda.products(None, like):
            assert linalg.types["float32"] == 1, "in float32 whatever CUPY_TF32 says"
        assert linalg.types["float32"] == before
        with pytest.raises(ZeroDivisionError), cuda.products("tf32", like):
            raise ZeroDivisionError
        assert linalg.log[-2:] == [7, before], "set, and restored after an error too"
        assert linalg.types["float32"] == before


def test_float64_has_no_such_setting(linalg):
    with cuda.products(None, np.empty(0, dtype="float64")):
        pass
    assert linalg.log == []


def test_two_threads_do_not_restore_each_other_s_setting(linalg, no_hang):
    like, wrong = np.empty(0, dtype="float32"), []

    def work(precision, kind):
        for _ in range(200):
            with cuda.products(precision, like):
                wrong.extend([1] * (linalg.types["float32"] != kind))

    others = [threading.Thread(target=work, args=one) for one in ((None, 1), ("tf32", 7), (None, 1))]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    assert not wrong
    assert linalg.types["float32"] == 7


def test_old_gpus_have_no_tf32(linalg, monkeypatch):
    like = SimpleNamespace(dtype=np.dtype("float32"), device=SimpleNamespace(compute_capability="75"))
    with pytest.raises(DeviceError, match=r"needs a GPU of compute capability 8\.0; this one has 75"):
        cuda.check_precision("tf32", like)
    like.device.compute_capability = "90"
    assert cuda.check_precision("tf32", like) == "tf32"
    assert cuda.check_precision(None, like) == "float32"
    with pytest.raises(InputError, match="here the arrays are float64 on a GPU"):
        cuda.check_precision("tf32", SimpleNamespace(dtype=np.dtype("float64"), device=like.device))


def test_the_setting_lasts_for_each_pass_of_a_fold(monkeypatch):
    network, params, X, Y = make(100)
    seen = []
    real = cuda.products
    monkeypatch.setattr(cuda, "products", lambda precision, like: seen.append(precision) or real(precision, like))
    monkeypatch.setattr(cuda, "check_precision", lambda precision, like: precision or "float64")
    with Objective(network, Examples(Dense(X), Dense(Y)), precision="tf32") as objective:
        cost_and_layers(objective, params)
        objective.cost(flatten(params))
        objective.fold.predict(flatten(params))
    assert seen == ["tf32"] * 3


# --- Who waits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_the_cost_is_read_back_once_and_not_for_each_block(l2, monkeypatch):
    """float(), bool() and int() of a device's array wait for the device."""
    monkeypatch.setattr(blocks, "block_size", lambda *_, **__: 64)
    reads = []
    for name in ("__float__", "__bool__", "__int__", "__index__"):
        real = getattr(array_api_strict._array_object.Array, name)
        monkeypatch.setattr(
            array_api_strict._array_object.Array, name, lambda self, real=real: reads.append(1) or real(self)
        )
    counts = []
    for m in (64, 6400):
        network, params, X, Y = make(m)
        with Objective(network, Examples(Dense(X), Dense(Y)), l2=l2) as objective:
            reads.clear()
            cost_and_layers(objective, params)
            objective.cost(flatten(params))
            counts.append(len(reads))
    assert counts[0] == counts[1] <= 4, "loss and penalty, of two calls"


def test_arrays_of_a_gpu_are_read_back_together(monkeypatch):
    class OnGPU:
        def __init__(self, value):
            self.value = value

        def astype(self, dtype):
            return self

        def __float__(self):
            raise AssertionError("read back on its own")

    reads = []

    def stack(values):
        return SimpleNamespace(get=lambda: reads.append(1) or np.array([one.value for one in values]))

    monkeypatch.setattr(arrays, "is_cupy", lambda array: isinstance(array, OnGPU))
    monkeypatch.setattr(arrays, "cupy_if_loaded", lambda: SimpleNamespace(stack=stack))
    assert arrays.floats(3, OnGPU(1.5), 2.0, OnGPU(0.25)) == [3.0, 1.5, 2.0, 0.25]
    assert len(reads) == 1


def test_computing_happens_on_the_device_that_was_named(monkeypatch):
    """cuda:1 while CUDA's current device is another: it is made current for as long as we compute."""
    device = Current()
    place = Place("cuda:1", array_api_strict, DEVICE)
    monkeypatch.setattr(Place, "current", lambda self: device)
    monkeypatch.setattr(places, "place", lambda name: place)
    params, X, Y = problem(SIZES, 40, "softmax")
    network = fb.Network(SIZES, output="softmax")
    ours = fb.gradient_descent(network, params, X, Y, learning_rate=0.1, iterations=2, device="cuda:1")
    fb.cost(network, params, X, Y, device="cuda:1")
    assert device.entered == device.left >= 2
    assert ours.device == "cuda:1"
    plain = fb.gradient_descent(network, params, X, Y, learning_rate=0.1, iterations=2)
    assert ours.costs == pytest.approx(plain.costs, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_data_on_the_device_are_taken_off_its_room_once(weighted, monkeypatch):
    """Its free memory shrinks while X, Y and weights are uploaded; the room for blocks is less by them once."""
    params, X, Y = problem(SIZES, 400, "softmax")
    size, taken = 3 * (X.nbytes + Y.nbytes), []

    class Small(Place):
        is_cuda = True

        def put(self, array):
            taken.append(array.nbytes)
            return super().put(array)

        def memory(self):
            return float(size - sum(taken)), float(size)

        def current(self):
            return nullcontext()

    place = Small("cuda:0", array_api_strict, DEVICE)
    monkeypatch.setattr(places, "place", lambda name: place)
    monkeypatch.setattr(placing, "resident", lambda table, there: there.put(np.ascontiguousarray(table)))
    weight = np.ones(400) if weighted else None
    network = fb.Network(SIZES, output="softmax")
    ready = functions.prepare(network, params, X, Y, weight, "cuda", 1.0)
    assert type(ready.examples.X) is Dense
    assert ready.budget == size - X.nbytes - Y.nbytes - (weight.nbytes if weighted else 0)
    assert functions.prepare(network, params, X, Y, weight, "cuda", None).budget == np.inf


# --- On a card, or on one that fake_cupy.py pretends to be ----------------------------------------------------------


@pytest.fixture(
    params=[
        pytest.param("pretended", marks=fake_cupy.pretended),
        pytest.param("real", marks=pytest.mark.gpu),
    ]
)
def card(request, monkeypatch):
    """Whether it is a real one: data for the other are few."""
    if request.param == "pretended":
        fake_cupy.install(monkeypatch)
    return request.param == "real"


def on_gpu(layers, dtype=None):
    import cupy

    return tuple(fb.Layer(*(cupy.asarray(a, dtype=dtype) for a in layer)) for layer in layers)


def bits(J, gradients):
    return [np.float64(J).tobytes(), *(np.asarray(a).tobytes() for layer in gradients for a in layer)]


def test_a_card_has_its_compute_capability_in_two_places(card):
    """The fake one too: code that asks for either, for whole calls or in bench, is tested with it."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    assert f"{properties['major']}{properties['minor']}" == cupy.cuda.Device(0).compute_capability
    assert properties["multiProcessorCount"] == cupy.cuda.Device(0).attributes["MultiProcessorCount"]
    assert isinstance(properties["name"], bytes)
    assert properties["totalGlobalMem"] >= cupy.cuda.runtime.memGetInfo()[0]


@pytest.fixture
def blocks_of_a_few_thousand(monkeypatch):
    monkeypatch.setattr(blocks, "GPU_BLOCK", 2**20)


@pytest.mark.parametrize("sizes", [[28, 64, 1], [5, 33, 17, 3], [9, 1]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_streamed_has_the_bits_of_resident_and_of_every_run(card, sizes, dtype, monkeypatch):
    monkeypatch.setattr(blocks, "GPU_BLOCK", 2**20 if card else 2**15)
    output = "softmax" if sizes[-1] > 1 else "sigmoid"
    params, X, Y = problem(sizes, 100_003 if card else 403, output, dtype=dtype)
    network = fb.Network(sizes, output=output)
    results = []
    for order in "CF":
        host = np.asarray(X, order=order), np.asarray(Y, order=order)
        results += [bits(*fb.cost_and_gradients(network, params, *host, device="cuda")) for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr("fullbatch.sources.placing.fits", lambda size, room: False)
            results.append(bits(*fb.cost_and_gradients(network, params, *host, device="cuda")))
    assert all(result == results[0] for result in results[1:])
    J, gradients = fb.cost_and_gradients(network, params, X, Y)
    ours = fb.cost_and_gradients(network, params, X, Y, device="cuda")
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    assert ours[0] == pytest.approx(J, rel=tolerance)
    assert relative([a for g in ours[1] for a in g], [a for g in gradients for a in g]) < tolerance


def test_a_memory_map_is_streamed(card, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "GPU_BLOCK", 2**20 if card else 2**14)
    params, X, Y = problem([6, 8, 1], 50_000 if card else 3000, "sigmoid", dtype="float32")
    np.save(tmp_path / "X.npy", X.T)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r").T
    network = fb.Network([6, 8, 1])
    expected = fb.cost_and_gradients(network, params, X, Y, device="cuda")
    limit = 1.4 * (X.nbytes + Y.nbytes)  # not twice as much: the passes need room too
    ours = fb.cost_and_gradients(network, params, mapped, Y, device="cuda", device_memory=limit)
    assert ours[0] == pytest.approx(expected[0], rel=1e-6)


@pytest.mark.gpu
def test_no_more_than_the_limit_is_taken():
    import cupy

    pool = cupy.get_default_memory_pool()
    m, limit = 2_000_000, 150 * 2**20
    params, X, Y = problem([28, 64, 1], 1000, "sigmoid", dtype="float32")
    X, Y = np.tile(X.T, (m // 1000, 1)).T, np.tile(Y.T, (m // 1000, 1)).T
    pool.free_all_blocks()
    before = pool.total_bytes()
    run = fb.gradient_descent(
        fb.Network([28, 64, 1]), params, X, Y, learning_rate=0.1, iterations=2, device="cuda", device_memory=limit
    )
    assert pool.total_bytes() - before <= limit < X.nbytes
    assert run.note == "", "the blocks are smaller, but not than a segment"
    pool.free_all_blocks()


@pytest.mark.gpu
def test_a_limit_of_the_pool_leads_to_smaller_blocks_or_an_error():
    import cupy

    pool = cupy.get_default_memory_pool()
    params, X, Y = problem([28, 64, 64, 1], 400_000, "sigmoid", dtype="float32")
    network = fb.Network([28, 64, 64, 1])
    expected = fb.cost_and_gradients(network, params, X, Y, device="cuda")
    pool.free_all_blocks()
    before = pool.get_limit()
    try:
        pool.set_limit(size=pool.used_bytes() + 100 * 2**20)
        run = fb.gradient_descent(network, params, X, Y, learning_rate=0.1, iterations=0, device="cuda")
        assert run.costs[0] == expected[0], "smaller blocks of whole segments change no bit"
        assert run.note == ""
        pool.free_all_blocks()
        pool.set_limit(size=pool.used_bytes() + 2**16)
        with pytest.raises(DeviceError):
            fb.cost(network, params, X, Y, device="cuda")
    finally:
        pool.set_limit(size=before)
        pool.free_all_blocks()


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", [[28, 64, 1], [28, 64, 16, 1]])  # of the one-pass step, and of the fused one
def test_tf32_is_less_exact_than_float32_and_not_by_much(sizes):
    from cupy._core import _routines_linalg as linalg

    params, X, Y = problem(sizes, 100_000, "sigmoid")
    network = fb.Network(sizes)
    exact = [a for g in fb.cost_and_gradients(network, params, X, Y)[1] for a in g]
    narrow = tuple(fb.Layer(*(a.astype("float32") for a in layer)) for layer in params)
    X, Y = X.astype("float32"), Y.astype("float32")
    before = linalg.get_compute_type(np.float32)
    errors = {}
    for setting in (linalg.COMPUTE_TYPE_DEFAULT, linalg.COMPUTE_TYPE_TF32):  # as CUPY_TF32=0 and 1 leave it
        linalg.set_compute_type(np.float32, setting)
        for precision in (None, "tf32"):
            _, g = fb.cost_and_gradients(network, narrow, X, Y, device="cuda", precision=precision)
            errors[setting, precision] = relative([a for layer in g for a in layer], exact)
            assert linalg.get_compute_type(np.float32) == setting
    linalg.set_compute_type(np.float32, before)
    plain = errors[linalg.COMPUTE_TYPE_DEFAULT, None]
    assert plain < 1e-5
    assert errors[linalg.COMPUTE_TYPE_TF32, None] == plain
    for setting in (linalg.COMPUTE_TYPE_DEFAULT, linalg.COMPUTE_TYPE_TF32):
        assert plain < errors[setting, "tf32"] < 1e-2


@pytest.mark.gpu
def test_on_a_card_nothing_waits_for_each_block(blocks_of_a_few_thousand, monkeypatch):
    import cupy

    params, X, Y = problem([28, 64, 1], 20_000, "sigmoid", dtype="float32")
    network, there = fb.Network([28, 64, 1]), [cupy.asarray(a) for a in (X, Y)]
    with Objective(network, Examples(Dense(there[0]), Dense(there[1])), l2=0.1) as objective:
        layers = on_gpu(params)
        cost_and_layers(objective, layers)
        reads = []
        monkeypatch.setattr(arrays, "floats", lambda *values: reads.append(values) or [1.0] * len(values))
        # A long time of work comes first; whoever waits for the GPU in between comes back after it.
        A = cupy.ones((8192, 8192), dtype="float32")
        for _ in range(100):
            A = A @ A * 0
        busy = cupy.cuda.Event()
        busy.record()
        cost_and_layers(objective, layers)
        assert not busy.done, "the call came back while the work before it still ran"
    assert len(reads) == 1


def test_device_arrays_with_the_cpu_or_the_host_are_said(card):
    import cupy

    params, X, Y = problem([3, 4, 1], 20, "sigmoid")
    network, layers = fb.Network([3, 4, 1]), on_gpu(params)
    there = [cupy.asarray(a) for a in (X, Y)]
    with pytest.raises(fb.errors.ArrayTypeError, match="device='cpu' and X is an array of cupy"):
        fb.cost(network, layers, *there, device="cpu")
    with pytest.raises(fb.errors.ArrayTypeError, match="X is an array of numpy and W"):
        fb.cost(network, layers, X, Y)
    with pytest.raises(fb.errors.ArrayTypeError, match="X is an array of cupy and Y of numpy"):
        fb.cost(network, layers, there[0], Y)
    with pytest.raises(DeviceError, match="there is no device cuda:7"):
        fb.cost(network, params, X, Y, device="cuda:7")
    with pytest.raises(InputError, match=r"device_memory is .* bytes and cuda:0 has"):
        fb.cost(network, params, X, Y, device="cuda", device_memory=1e15)
    for bad in ("complex128", "int64", "object", "str", "float16", "bool"):
        with pytest.raises(fb.errors.ArrayTypeError, match=f"X has dtype {bad}.*Convert it"):
            fb.cost(network, params, X.astype(bad), Y, device="cuda")
        with pytest.raises(fb.errors.ArrayTypeError, match=f"Y is {bad}.*nothing is cast in silence"):
            fb.cost(network, params, X, Y.astype(bad), device="cuda")
    with pytest.raises(fb.errors.ArrayTypeError, match="X has dtype int64"):
        fb.cost(network, layers, there[0].astype("int64"), there[1])
    weight = np.ones(20)
    for given, weights, words in (
        ((X, there[1]), None, "X is an array of numpy and Y of cupy"),
        ((X, Y), cupy.asarray(weight), "X is an array of numpy and sample_weight of cupy"),
    ):
        for device in (None, "cuda"):
            with pytest.raises(fb.errors.ArrayTypeError, match=words):
                fb.cost(network, params, *given, sample_weight=weights, device=device)
    with pytest.raises(fb.errors.ArrayTypeError, match="X is an array of cupy and sample_weight of numpy"):
        fb.cost(network, layers, *there, sample_weight=weight)
    for device in (None, "cuda"):
        with pytest.raises(fb.errors.ArrayTypeError, match=r"X is an array of numpy and W\[1\] of cupy"):
            fb.cost(network, layers, X, Y, device=device)


def test_what_estimators_take_on_a_card_and_what_not(card):
    import cupy

    table, y = np.random.default_rng(0).integers(0, 9, (40, 3)), np.arange(40) % 2
    options = {"hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0}

    def fit(X, y=y, **more):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fb.MLPClassifier(**options, **more).fit(X, y)

    host = fit(table.astype("float64"), device="cuda")
    for X in (table, table.astype("float16"), table.astype("object"), table.astype("str")):
        model = fit(X, device="cuda")
        assert model.device_ == "cuda:0"
        assert model.coefs_[0].dtype == "float64"
        assert np.array_equal(model.coefs_[0], host.coefs_[0])
    for X, labels in ((cupy.asarray(table), y), (cupy.asarray(table), cupy.asarray(y))):
        model = fit(X, labels)
        assert isinstance(model.coefs_[0], cupy.ndarray)
        assert model.coefs_[0].dtype == "float64"
    assert type(fit(table, cupy.asarray(y), device="cuda").coefs_[0]) is np.ndarray, "y follows X"
    for X in (table.astype("complex128"), cupy.asarray(table.astype("complex128"))):
        with pytest.raises(ValueError, match="Complex data not supported"):
            fit(X, device="cuda")
    with pytest.raises(ValueError, match="could not convert string to float: 'a'"):
        fit(np.array([["a", "b", "c"]] * 40, dtype=object), device="cuda")
    with pytest.raises(fb.errors.ArrayTypeError, match=r"device='cpu' and X is an array of cupy on cuda:0.*X\.get\(\)"):
        fit(cupy.asarray(table), device="cpu")
    with pytest.raises(DeviceError, match="there is no device cuda:7; cuda:0 "):
        fit(table, device="cuda:7")
    for bad, words in ((0, "device_memory"), (-1, "device_memory"), (1e15, "give at most that"), (True, "above 0")):
        for X in (table, cupy.asarray(table)):
            with pytest.raises(ValueError, match=words):
                fit(X, device="cuda", device_memory=bad)


@fake_cupy.pretended
@pytest.mark.parametrize("error", ["memory", "other", "ctrl-c", ""])
def test_no_thread_outlives_a_pass_that_streams(error, monkeypatch, ctrl_c, no_hang):
    """And memory that runs out while a block is sent, in another thread, leads to halves as it does in a pass."""
    cupy = fake_cupy.install(monkeypatch)
    monkeypatch.setattr(blocks, "GPU_BLOCK", 2**16)
    monkeypatch.setattr(placing, "fits", lambda size, room: False)
    monkeypatch.setattr(conveyor, "ALONE", 100)
    monkeypatch.setattr(conveyor, "thread_count", lambda threads: 5)
    monkeypatch.setattr("fullbatch.steps.cuda.onepass.LEAST", 512)  # so that a block of 256 shows in the bits
    params, X, Y = problem([3, 4, 1], 5000, "sigmoid")
    network = fb.Network([3, 4, 1])
    expected = bits(*fb.cost_and_gradients(network, params, X, Y, device="cuda"))
    runtime, sent, real = cupy.cuda.runtime, [], cupy.cuda.runtime.memcpyAsync

    def copy(target, source, size, *rest):
        sent.append(threading.current_thread().name)
        if error == "memory" and size > 300 * 3 * 8:
            raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
        if error == "other" and len(sent) == 5:
            raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")
        if error == "ctrl-c" and len(sent) == 5:
            _thread.interrupt_main()
            time.sleep(0.05)
        real(target, source, size, *rest)

    monkeypatch.setattr(runtime, "memcpyAsync", copy)
    call = partial(fb.gradient_descent, network, params, X, Y, learning_rate=0.1, iterations=0, device="cuda")
    if error in ("other", "ctrl-c"):
        with pytest.raises(CUDARuntimeError if error == "other" else KeyboardInterrupt):
            call()
    else:
        run = call()
        assert run.costs[0] == pytest.approx(np.frombuffer(expected[0])[0], rel=1e-12)
        assert ("blocks have 256 examples" in run.note) == (error == "memory")
    assert any(name.startswith("fullbatch-ahead") for name in sent)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fullbatch")]


NONE_LEFT = (
    r"cuda:0 is out of memory: OutOfMemoryError: Out of memory allocating [\d,]+ bytes.*; [\d,]+ bytes are free\. "
    r"Free memory there, give a smaller device_memory, .* or choose device='cpu'"
)


@fake_cupy.pretended
@pytest.mark.parametrize("call", [fb.cost, fb.cost_and_gradients, fb.gradient_descent])
def test_memory_that_runs_out_before_the_first_block(call, monkeypatch):
    """Weights that are too large: no smaller block helps."""
    cupy = fake_cupy.install(monkeypatch)
    params, X, Y = problem([3000, 40, 1], 8, "sigmoid")
    monkeypatch.setattr(cupy.ndarray, "most", 500_000)
    more = {"learning_rate": 0.1, "iterations": 1} if call is fb.gradient_descent else {}
    with pytest.raises(DeviceError, match=NONE_LEFT) as caught:
        call(fb.Network([3000, 40, 1]), params, X, Y, device="cuda", **more)
    assert "allocating 960,648 bytes" in str(caught.value)
    assert "\n" not in str(caught.value)


@fake_cupy.pretended
def test_memory_that_runs_out_beside_the_blocks(monkeypatch):
    """All parameters as one vector; the results' sums; and what is not the GPU's lack of memory."""
    cupy = fake_cupy.install(monkeypatch)
    params, X, Y = problem([100, 100, 100, 1], 30, "sigmoid")
    network, layers, there = fb.Network([100, 100, 100, 1]), on_gpu(params), [cupy.asarray(a) for a in (X, Y)]
    monkeypatch.setattr(cupy.ndarray, "most", 120_000)
    with pytest.raises(DeviceError, match=NONE_LEFT):
        fb.cost_and_gradients(network, layers, *there)
    with pytest.raises(DeviceError, match=NONE_LEFT):
        fb.gradient_descent(network, layers, *there, learning_rate=0.1, iterations=1, momentum=0.5)
    pass_ = network.forward(layers, there[0])
    monkeypatch.setattr(cupy.ndarray, "most", 10_000)
    for work in (lambda: network.forward(layers, there[0]), lambda: network.backward(layers, pass_, there[1])):
        with pytest.raises(DeviceError, match=NONE_LEFT):
            work()
    for error in (MemoryError("of the host"), ValueError("bad"), InputError("out of memory, says a caller's word")):
        with pytest.raises(type(error), match=str(error)), places.place("cuda").computing():
            raise error
    with pytest.raises(fake_cupy.OutOfMemoryError), places.place("cpu").computing():
        raise fake_cupy.OutOfMemoryError("of a caller's own array")


@fake_cupy.pretended
@pytest.mark.parametrize("kind", ["fit", "predict", "X on the GPU", "predictions", "the command"])
def test_memory_that_runs_out_in_an_estimator(kind, monkeypatch, tmp_path, capsys):
    cupy = fake_cupy.install(monkeypatch)
    monkeypatch.setattr(blocks, "GPU_BLOCK", 2**14)
    X = np.random.default_rng(0).standard_normal((3000, 4)).astype("float32")
    y = np.arange(3000) % 10
    hidden = (30,) if kind == "predictions" else (300,)
    model = fb.MLPClassifier(hidden, solver="gd", max_iter=1, random_state=0)
    if kind == "the command":
        monkeypatch.setattr(cupy.ndarray, "most", 100_000)
        options = ["--target", "late", "--hidden", "300,300", "--device", "cuda", "--epochs", "1"]
        assert app.main(["train", table(tmp_path), *options]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("fullbatch: error: cuda:0 is out of memory: OutOfMemoryError")
        assert printed.err.count("\n") == 1
        return
    data, limit = {
        "fit": (X[:20], 10_000), "predict": (X[:20], 10_000), "X on the GPU": (cupy.asarray(X[:20].astype(int)), 600),
        "predictions": (cupy.asarray(X), 100_000),
    }[kind]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind.startswith("predict"):
            model.fit(data, y[: len(data)])
        monkeypatch.setattr(cupy.ndarray, "most", limit)
        with pytest.raises(DeviceError, match=NONE_LEFT):
            model.predict_proba(data) if kind.startswith("predict") else model.fit(data, y[: len(data)])


@pytest.fixture
def second(monkeypatch):
    """The second of two GPUs that are pretended; the first one is current, and computes with none of its arrays."""
    cupy = fake_cupy.install(monkeypatch)
    monkeypatch.setattr(fake_cupy.Device, "count", 2)
    monkeypatch.setattr(blocks, "GPU_BLOCK", 2**14)
    yield cupy.cuda.Device(1)
    assert cupy.cuda.runtime.getDevice() == 0


def on(device, array):
    import cupy

    with device:
        return cupy.asarray(array)


@fake_cupy.pretended
@pytest.mark.parametrize("hidden", ["gelu", (lambda Z: Z * Z, lambda Z: 2 * Z)], ids=["fused", "array"])
def test_arrays_on_a_gpu_that_is_not_the_current_one(second, hidden):
    params, X, Y = problem(SIZES, 700, "softmax")
    network, weight = fb.Network(SIZES, hidden=hidden, output="softmax"), np.linspace(0, 2, 700)
    there = tuple(fb.Layer(on(second, W), on(second, b)) for W, b in params)
    arrays = {"X": on(second, X), "Y": on(second, Y)}
    steps = {"learning_rate": 0.1, "iterations": 2, "momentum": 0.5, "l2": 0.1}
    for own in (weight, None):
        ours = {**arrays, "sample_weight": None if own is None else on(second, own)}
        J, gradients = fb.cost_and_gradients(network, there, **ours)
        K, expected = fb.cost_and_gradients(network, params, X, Y, sample_weight=own)
        assert pytest.approx(K, rel=1e-12) == J == fb.cost(network, there, **ours)
        assert all(a.device == second for layer in gradients for a in layer)
        assert relative([a.get() for g in gradients for a in g], [a for g in expected for a in g]) < 1e-12
        run = fb.gradient_descent(network, there, **ours, **steps)
        assert run.costs == pytest.approx(
            fb.gradient_descent(network, params, X, Y, sample_weight=own, **steps).costs, rel=1e-12
        )
        assert (run.device, run.params[0].W.device) == ("cuda:1", second)
        total = network.backward(there, network.forward(there, arrays["X"]), arrays["Y"], ours["sample_weight"])
        assert total.gradients[0].W.device == total.loss.device == second
    with pytest.raises(InputError, match="sample_weight contains negative"):
        fb.cost(network, there, **arrays, sample_weight=on(second, weight - 1))


@fake_cupy.pretended
def test_host_arrays_for_a_gpu_that_is_not_the_current_one(second, monkeypatch):
    import cupy

    params, X, Y = problem(SIZES, 700, "softmax")
    network, weight = fb.Network(SIZES, output="softmax"), np.linspace(0, 2, 700)
    expected = fb.cost(network, params, X, Y, sample_weight=weight)
    started = network.init(seed=0, xp=cupy, device=second)
    assert {a.device.id for layer in started for a in layer} == {1}
    for fits in (True, False):
        monkeypatch.setattr(placing, "fits", lambda size, room, fits=fits: fits)
        for call in (fb.cost, fb.cost_and_gradients):
            found = call(network, params, X, Y, sample_weight=weight, device="cuda:1")
            assert (found if call is fb.cost else found[0]) == pytest.approx(expected, rel=1e-12)


@fake_cupy.pretended
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("kind", ["two classes", "three classes", "numbers", "logistic"])
def test_estimators_on_a_gpu_that_is_not_the_current_one(second, solver, kind):
    rng = np.random.default_rng(0)
    X, weight = rng.standard_normal((300, 4)).astype("float32"), np.linspace(1, 2, 300)
    y = np.argmax(X[:, : 2 if kind == "two classes" else 3], axis=1)
    classes = {"numbers": fb.MLPRegressor, "logistic": fb.LogisticRegression}
    options = {"solver": solver, "max_iter": 3, "random_state": 0, "batch_size": 100, "tol": 0}
    options |= {} if kind == "logistic" else {"hidden_layer_sizes": (5,)}
    for early in (False, True):
        model, host = (classes.get(kind, fb.MLPClassifier)(early_stopping=early, **options) for _ in range(2))
        ours, labels = on(second, X), on(second, y)
        held_out = {} if early else {"X_val": on(second, X[:50]), "y_val": labels[:50]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(ours, labels, on(second, weight), **held_out)
            host.set_params(device="cpu").fit(X, y, weight, **({"X_val": X[:50], "y_val": y[:50]} if held_out else {}))
            assert model.loss_curve_ == pytest.approx(host.loss_curve_, rel=1e-4)
            if solver == "adam" and not early:
                model.partial_fit(ours, labels)
                host.partial_fit(X, y)
            model.set_params(warm_start=True).fit(ours, labels)
            host.set_params(warm_start=True).fit(X, y)
        assert model.device_ == "cuda:1"
        assert model.coefs_[0].device == second
        for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
            if hasattr(model, method):
                found = getattr(model, method)(ours)
                assert found.device == second
                assert found.get() == pytest.approx(getattr(host, method)(X), abs=1e-3)
        assert model.score(ours, labels) == pytest.approx(host.score(X, y), abs=1e-2)


@fake_cupy.pretended
def test_a_pass_over_many_blocks_waits_once(monkeypatch):
    cupy = fake_cupy.install(monkeypatch)
    monkeypatch.setattr(blocks, "GPU_BLOCK", 2**13)
    params, X, Y = problem([3, 4, 1], 900, "sigmoid")
    network = fb.Network([3, 4, 1])
    with Objective(network, Examples(*(Dense(cupy.asarray(a)) for a in (X, Y))), l2=0.1) as objective:
        layers = on_gpu(params)
        cupy.ndarray.reads = 0
        J, _ = cost_and_layers(objective, layers)
        assert cupy.ndarray.reads == 1
        assert len(objective.fold.plan.blocks()) == 4
        assert pytest.approx(fb.cost(network, params, X, Y, l2=0.1), rel=1e-12) == J
        cupy.ndarray.reads = 0
        objective.cost(flatten(layers))
        assert cupy.ndarray.reads == 1


@fake_cupy.pretended
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exp"])
def test_a_pass_with_own_activations_waits_once_too(output, weighted, monkeypatch):
    """That is the array step, over the functions of array_api_compat: some of them look at numbers on the host."""
    cupy = fake_cupy.install(monkeypatch)
    monkeypatch.setattr(blocks, "GPU_BLOCK", 2**14)
    own = (lambda Z: Z * Z, lambda Z: 2 * Z)
    hidden = [own, *ACTIVATIONS]
    sizes = [3, *(4 for _ in hidden), 2]
    params, X, Y = problem(sizes, 900, output)
    network = fb.Network(sizes, hidden=hidden, output=output)
    weight = np.linspace(0, 2, 900) if weighted else None
    there = None if weight is None else cupy.asarray(weight)
    with Objective(network, Examples(*(Dense(cupy.asarray(a)) for a in (X, Y)), there)) as objective:
        assert objective.fold.step_name == "array"
        assert len(objective.fold.plan.blocks()) > 3
        layers = on_gpu(params)
        for call in (objective.cost_and_gradient, objective.cost):
            cupy.ndarray.reads = 0
            call(flatten(layers))
            assert cupy.ndarray.reads == 1
        cupy.ndarray.reads = 0
        objective.fold.predict(flatten(layers))
        assert cupy.ndarray.reads == 0
        J, gradients = cost_and_layers(objective, layers)
    K, expected = fb.cost_and_gradients(network, params, X, Y, sample_weight=weight)
    assert pytest.approx(K, rel=1e-12) == J
    assert relative([a.get() for g in gradients for a in g], [a for g in expected for a in g]) < 1e-12


@fake_cupy.pretended
@pytest.mark.parametrize("scoring", [None, "loss"])
@pytest.mark.parametrize("solver", ["gd", "adam"])
def test_a_training_waits_once_for_the_cost_of_an_epoch(solver, scoring, monkeypatch):
    """Mini-batches too; and where rows are held out, for their cost once, and for what is predicted of them once."""
    cupy = fake_cupy.install(monkeypatch)
    X = np.random.default_rng(0).standard_normal((60, 4)).astype("float32")
    y = np.arange(60) % 2
    places.place("cuda")  # which tries it once
    options = {"solver": solver, "batch_size": 20, "tol": 0, "n_iter_no_change": 99, "random_state": 0}
    for held_out, more in ((0, {}), (1 if scoring else 2, {"X_val": X, "y_val": y})):
        reads = []
        for epochs in (2, 6):
            cupy.ndarray.reads = 0
            model = fb.MLPClassifier((5,), early_stopping=bool(more), scoring=scoring, max_iter=epochs, **options)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.set_params(device="cuda").fit(X, y, **more)
            assert model.n_iter_ == epochs
            reads.append(cupy.ndarray.reads)
        assert reads[1] - reads[0] == 4 * (1 + held_out)


@pytest.mark.parametrize("solver", ["adam", "gd", "lbfgs"])
def test_estimators_on_a_card(card, solver, monkeypatch):
    import cupy

    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000 if card else 200, 6)).astype("float32")
    y = np.argmax(X[:, :3], axis=1)
    options = {"solver": solver, "max_iter": 20 if card else 2, "random_state": 0, "batch_size": len(X) // 2, "tol": 0}
    options["n_iter_no_change"] = 99
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        host = fb.MLPClassifier((16,), device="cpu", **options).fit(X, y)
        there = fb.MLPClassifier((16,), device="cuda", **options).fit(X, y)
        with monkeypatch.context() as patch:
            patch.setattr("fullbatch.sources.placing.fits", lambda size, room: False)
            streamed = fb.MLPClassifier((16,), device="cuda", **options).fit(X, y)
        inside = fb.MLPClassifier((16,), **options).fit(cupy.asarray(X), cupy.asarray(y))
        tf32 = fb.MLPClassifier((16,), device="cuda", precision="tf32", **{**options, "max_iter": 1}).fit(X, y)
    assert (host.device_, there.device_, there.step_, there.precision_) == ("cpu", "cuda:0", "fused", "float32")
    assert type(there.coefs_[0]) is np.ndarray
    assert isinstance(inside.coefs_[0], cupy.ndarray)
    assert isinstance(inside.predict_proba(cupy.asarray(X)), cupy.ndarray)
    for model in (there, streamed):
        assert np.mean(model.predict(X) == host.predict(X)) > 0.99
        assert model.loss_curve_ == pytest.approx(host.loss_curve_, rel=1e-2)
    assert [a.tobytes() for a in streamed.coefs_] == [a.tobytes() for a in there.coefs_]
    assert streamed.note_ == there.note_ == ""
    with pytest.raises(DeviceError, match=r"the limit of memory leaves .* bytes on cuda:0 for the passes"):
        fb.MLPClassifier((16,), device="cuda", device_memory=1.5 * X.nbytes, **options).fit(X, y)
    for data in (X, cupy.asarray(X)):
        with pytest.raises(DeviceError, match="the limit of memory leaves 2,000 bytes on cuda:0 for the passes"):
            (there if data is X else inside).set_params(device_memory=2000).predict(data)
    assert tf32.precision_ == "tf32"


@fake_cupy.pretended
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["two classes", "three classes", "numbers"])
def test_what_lies_beside_x_is_counted(kind, weighted, monkeypatch):
    """Y, the weights, and all of the held-out examples; half of the room is the passes'."""
    cupy = fake_cupy.install(monkeypatch)
    monkeypatch.setattr(blocks, "workspace", lambda *_, **__: 0)
    X = np.random.default_rng(0).standard_normal((400, 3)).astype("float32")
    y = np.arange(400) % (2 if kind == "two classes" else 3)
    make = fb.MLPRegressor if kind == "numbers" else fb.MLPClassifier
    weight = np.ones(400) if weighted else None
    size = X.nbytes + 4 * 400 * (2 if weighted else 1)
    made = []
    monkeypatch.setattr(
        "fullbatch.estimators.base.Objective",
        lambda *args, budget, **options: made.append((type(args[1].X).__name__, budget)) or Objective(*args, **options),
    )

    def fit(limit, **held_out):
        made.clear()
        model = make(hidden_layer_sizes=(2,), device="cuda", device_memory=limit, max_iter=1, batch_size="full")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y, sample_weight=weight, **held_out)
        return made[:]

    assert fit(2 * size) == [("Dense", size)]
    streamed_room = 2 * size - 1 - (4 * 400 if weighted else 0)
    assert fit(2 * size - 1) == [("Uploaded", streamed_room)]
    held_out = {"X_val": X, "y_val": y, "sample_weight_val": weight}
    assert fit(6 * size, **held_out) == [("Dense", 2 * size)] * 2, "each fold has half of what is left"
    held_out = {"X_val": cupy.asarray(X), "y_val": y, "sample_weight_val": weight}
    assert fit(6 * size, **held_out)[1] == ("Dense", (5 * size - (size - X.nbytes)) / 2), "X is there already"


def test_the_parameters_are_counted():
    like = there(np.empty((2, 0), dtype="float32"))
    narrow, wide = (blocks.workspace(fb.Network([2, n, 1]), like, 0) for n in (1, 100))
    assert wide == 401 / 5 * narrow == 401 * 80
    many = [blocks.workspace(fb.Network([2, 100, 1]), like, 256, m=256 * count) for count in (1, 2, 5, 1000)]
    assert [each - many[0] for each in many] == [401 * 8 * levels for levels in (0, 1, 2, 9)], "the tree's sums"


def test_an_estimator_with_tf32_on_the_cpu_is_an_error():
    X, y = np.ones((9, 2), dtype="float32"), np.arange(9) % 2
    with pytest.raises(ValueError, match="precision='tf32' is for float32 on an NVIDIA GPU"):
        fb.MLPClassifier(device="cpu", precision="tf32").fit(X, y)
    with pytest.raises(ValueError, match="device_memory"):
        fb.MLPClassifier(device="cpu", device_memory=0).fit(X, y)
    model = fb.LogisticRegression(device="cpu", device_memory=0.5).fit(X + np.eye(9, 2, dtype="float32"), y)
    assert (model.precision_, model.note_) == ("float32", "")


# --- The command ----------------------------------------------------------------------------------------------------


def table(folder, rows=60):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((rows, 3))
    lines = [f"{a},{b},{c},{'yes' if a > b else 'no'}" for a, b, c in values]
    path = folder / "table.csv"
    path.write_text("\n".join(["a,b,c,late", *lines]) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--precision", "tf32", "--device", "cpu"], "precision='tf32' is for float32 on an NVIDIA GPU"),
        (["--precision", "fp8"], "'fp8' is unknown; the known ones are tf32"),
        (["--device-memory", "0"], "'0' is no amount of memory; give bytes, such as 8GB, or a share"),
        (["--device-memory", "-1"], "no amount of memory"),
        (["--device-memory", "8 apples"], "'8 apples' is no amount of memory"),
        (["--device-memory", "1e"], "no amount of memory"),
        (["--device-memory", "1.2.3"], "no amount of memory"),
    ],
)
def test_bad_options_of_the_command_are_one_line_and_2(tmp_path, capsys, options, words):
    assert app.main(["train", table(tmp_path), "--target", "late", *options]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_the_command_on_a_card(card, tmp_path, capsys):
    model = tmp_path / "late.model"
    options = ["--target", "late", "--hidden", "4", "--epochs", "2", "--model", str(model), "--device", "cuda"]
    options.append("--json")
    assert app.main(["train", table(tmp_path), *options, "--precision", "tf32", "--device-memory", "0.5"]) == 0
    summary = json.loads(capsys.readouterr().out)
    found = [summary[name] for name in ("device", "step", "precision", "note")]
    assert found == ["cuda:0", "tensor", "tf32", ""]
    loaded = fb.load(model)
    assert (loaded.estimator_.precision, loaded.estimator_.precision_) == ("tf32", "tf32")
    assert loaded.estimator_.device_memory is None, "that was of the machine"
    assert type(loaded.estimator_.coefs_[0]) is np.ndarray
    loaded.estimator_.device = "cpu"
    assert app.main(["predict", str(model), table(tmp_path), "--out", str(tmp_path / "out.csv")]) == 0
    assert app.main(["train", table(tmp_path), *options, "--device-memory", "1e15"]) == 2
    assert "device_memory is 1,000,000,000,000,000 bytes and cuda:0 has" in capsys.readouterr().err
