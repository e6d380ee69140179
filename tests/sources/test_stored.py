"""A store's rows as sources: the blocks and the bits of the same rows in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import fullbatch as fb
from fullbatch.core.network import Network
from fullbatch.core.parameters import flatten
from fullbatch.errors import StoreError
from fullbatch.machine import native_library
from fullbatch.sources import Uploaded
from fullbatch.sources.store_columns import StoredWeight, examples_of
from fullbatch.sources.stored import open_store
from fullbatch.sources.windows import Window, WindowOrder
from fullbatch.tables import store as stores
from fullbatch.training.objective import Objective
from sources.conftest import Place, our_threads, passes

LEAF = 256


def table(m, kind):
    rng = np.random.default_rng(1)
    numbers = {f"x{j}": rng.normal(size=m).astype("f4") for j in range(3)}
    if kind == "numbers":
        return {**numbers, "y": rng.random(m) > 0.3}
    if kind == "categories":
        return {"town": rng.integers(0, 300, m).astype(str), "road": rng.integers(0, 9, m).astype(str),
                "y": rng.integers(0, 3, m).astype(str)}  # fmt: skip
    levels = {"town": rng.integers(0, 300, m).astype(str)}
    return {**numbers, **levels, "w": rng.integers(1, 4, m), "y": rng.normal(size=m)}


@pytest.fixture(params=["numbers", "categories", "weighted numbers and categories"])
def store(request, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "leaf_size", lambda n: LEAF)
    monkeypatch.setattr(stores, "WINDOW", 8_000)
    weight = "w" if request.param.startswith("weighted") else None
    stores.convert(table(1500, request.param), tmp_path / "store", "y", weight=weight)
    with open_store(tmp_path / "store") as store:
        yield store


WHERES = [
    slice(0, 10), slice(LEAF - 3, LEAF + 5), slice(0, 1000), slice(7, 7), np.array([900, 0, 255, 256]),
    slice(1000, 1200),
]  # fmt: skip


def test_blocks_are_those_of_the_rows_in_memory(store):
    on_disk, memory = store.examples(store.train), examples_of(store.to_arrays(), store.n, len(store.classes))
    assert (on_disk.X.n, on_disk.X.m, on_disk.Y.n) == (memory.X.n, memory.X.m, memory.Y.n)
    assert on_disk.X.like.dtype == memory.X.like.dtype
    for sparse in (False, True):
        read = [e.X.sparse_reader(1.0) if sparse else e.X.reader() for e in (on_disk, memory)]
        targets = [e.Y.reader() for e in (on_disk, memory)]
        for where in WHERES:
            ours, theirs = (one(where) for one in read)
            dense = [np.asarray(one.T.toarray() if sparse else one.T) for one in (ours, theirs)]
            assert np.array_equal(*dense)
            if not sparse:
                assert ours.strides == theirs.strides or ours.size == 0
            assert np.array_equal(*(one(where) for one in targets))
            if on_disk.weight is not None:
                assert np.array_equal(on_disk.weight[where], memory.weight[where])


@pytest.mark.parametrize("step", ["native", "array"])
def test_cost_and_gradient_have_the_bits_of_memory_for_any_threads(store, step, monkeypatch):
    monkeypatch.setattr("fullbatch.fold.tree.leaf_size", lambda n: LEAF)
    if step == "array":
        monkeypatch.setattr("fullbatch.steps.choose", lambda *args, **more: "array")
    if step == "native" and native_library.isa() is None:
        pytest.skip(f"the native step is {native_library.why_not()}")
    k = len(store.classes)
    output = ("softmax", k) if k > 2 else ("sigmoid", 1) if k else ("identity", 1)
    net = Network([store.n, 7, output[1]], "tanh", output[0])
    theta = flatten(net.init(seed=2)).astype("f4")
    found = set()
    for threads in (1, 2, 3):
        for one in (store, store.load()):
            with Objective(net, one.examples(one.train), threads=threads) as objective:
                J, gradient = objective.cost_and_gradient(theta)
                found.add((J, gradient.tobytes(), objective.cost(theta), objective.fold.step_name))
        memory = examples_of(store.to_arrays(), store.n, k)
        with Objective(net, memory, threads=threads) as objective:
            J, gradient = objective.cost_and_gradient(theta)
            found.add((J, gradient.tobytes(), objective.cost(theta), objective.fold.step_name))
    assert len(found) == 1
    assert found.pop()[3] == step


def test_the_functions_take_a_store(store):
    if len(store.classes) != 2:
        pytest.skip("its arrays are no plain numbers")
    net = fb.Network([store.n, 5, 1], hidden="tanh", output="sigmoid")
    params = tuple(fb.Layer(W.astype("f4"), b.astype("f4")) for W, b in net.init(seed=1))
    found = store.to_arrays()
    X, Y = found.numbers.T, found.y[np.newaxis].astype("f4")
    assert fb.cost(net, params, store) == fb.cost(net, params, X, Y)
    (J, ours), (_, theirs) = fb.cost_and_gradients(net, params, store), fb.cost_and_gradients(net, params, X, Y)
    assert all(np.array_equal(a.W, b.W) and np.array_equal(a.b, b.b) for a, b in zip(ours, theirs, strict=True))
    run = fb.gradient_descent(net, params, store, learning_rate=0.1, iterations=3)
    assert run.costs == fb.gradient_descent(net, params, X, Y, learning_rate=0.1, iterations=3).costs
    assert run.costs[0] == J
    with pytest.raises(fb.errors.InputError, match="Y and sample_weight"):
        fb.cost(net, params, store, Y)
    wrong = fb.Network([4, 1], output="sigmoid")
    params = tuple(fb.Layer(W.astype("f4"), b.astype("f4")) for W, b in wrong.init(seed=1))
    with pytest.raises(fb.errors.InputError, match=r"X has shape \(3, 1\)"):
        fb.cost(wrong, params, store)


def test_threads_that_check_a_damaged_leaf_all_say_so(store):
    store.file.leaves[0] = store.file.leaves[0]._replace(checksum=1)
    errors = []

    def read():
        try:
            store.examples(store.train).X.reader()(slice(0, 10))
        except StoreError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 4
    assert all("leaf 0 of" in error for error in errors)


def test_two_open_stores_and_a_closed_one(store):
    with open_store(store.path) as other:
        assert np.array_equal(other.to_arrays().y, store.to_arrays().y)
    assert np.array_equal(store.to_arrays().y, store.load().to_arrays().y)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        open_store(store.path).close()
    assert len(os.listdir("/proc/self/fd")) == descriptors


# --- Windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, 300, 999, 5000])
@pytest.mark.parametrize("seed", [None, 3])
def test_an_epoch_has_each_row_once_in_batches_of_one_size(store, size, seed):
    found = store.to_arrays()
    window = Window(store.examples(store.train), size)
    assert store.train.window < len(store)
    order, seen, sizes = WindowOrder(store.train.m, seed, 2), [], []
    for before, chunk in window.chunks(order):
        assert before == sum(sizes)
        sizes.append(len(chunk))
        seen.append(np.column_stack([window.fields["numbers"], window.fields["y"]])[chunk])
    assert all(count % size == 0 for count in sizes[:-1])
    seen = np.concatenate(seen)
    rows = np.column_stack([found.numbers, found.y])
    assert sum(sizes) == len(rows)
    assert np.array_equal(seen[np.lexsort(seen.T)], rows[np.lexsort(rows.T)])
    assert np.array_equal(seen, rows) == (seed is None)


@pytest.mark.parametrize("size", [7, 100, 300, 999, 5000])
def test_an_epoch_that_goes_on_reads_no_window_that_is_done(store, size, monkeypatch):
    """From any batch on, the same rows follow; of the windows before only what was left of them is read."""
    order = WindowOrder(store.train.m, 3, 2)

    def rows(done):
        window, loaded = Window(store.examples(store.train), size), []
        load = Window._load
        monkeypatch.setattr(Window, "_load", lambda self, at, leaves: (loaded.append(at), load(self, at, leaves))[1])
        chunks = [
            np.column_stack([window.fields["numbers"], window.fields["y"]])[chunk[max(0, done - before) :]]
            for before, chunk in window.chunks(order, done)
        ]
        monkeypatch.setattr(Window, "_load", load)
        return chunks, len(loaded)

    whole, windows = rows(0)
    whole = np.concatenate(whole)
    for done in sorted({size, len(whole) // 2 // size * size, (len(whole) - 1) // size * size} - {0}):
        if done >= len(whole):
            continue
        rest, loaded = rows(done)
        assert np.array_equal(np.concatenate(rest), whole[done:])
        per_window = store.train.window * store.train.leaf
        assert loaded <= windows - done // per_window + -(-size // per_window)


def test_rows_of_an_epoch_mix_with_others_each_time(store):
    orders = [WindowOrder(store.train.m, 3, epoch) for epoch in (0, 1)]
    first, second = (order.leaves(50).tolist() for order in orders)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(50))
    assert orders[0].rows(0, 50).tolist() != orders[0].rows(1, 50).tolist()
    assert WindowOrder(store.train.m, 3, 1).rows(4, 9).tolist() == orders[1].rows(4, 9).tolist()


# --- To a GPU, which is a fake ----------------------------------------------------------------------------------------


def test_blocks_of_a_store_on_their_way_to_a_gpu(cuda, tmp_path_factory, request):
    path = tmp_path_factory.getbasetemp() / "store-for-a-gpu"
    if not path.exists():
        stores.convert(table(300, "numbers"), path, "y")
    with open_store(path) as store:
        reader = Uploaded(store.examples(store.train).X, Place(cuda)).reader()
        parts = [slice(0, 100), slice(100, 130), slice(130, 260)]
        reader.expect(parts)
        seen = passes(cuda, reader, parts)
        reader.close()
        numbers = store.to_arrays().numbers
        for part, block in zip(parts, seen, strict=True):
            assert np.array_equal(block.T if block.shape[0] == store.n else block, numbers[part])
    assert our_threads() == []


# --- Memory -----------------------------------------------------------------------------------------------------------

MEASURED = """
import sys, numpy as np
import fullbatch as fb
from fullbatch.core.network import Network
from fullbatch.core.parameters import flatten
from fullbatch.training.objective import Objective

def anonymous():
    return int(open("/proc/self/status").read().partition("RssAnon:")[2].split()[0]) / 1024

with fb.open_store(sys.argv[1]) as store:
    net = Network([store.n, 8, 1], "tanh", "sigmoid")
    theta = flatten(net.init(seed=2)).astype("f4")
    before = anonymous()
    with Objective(net, store.examples(store.train), threads=2) as objective:
        for _ in range(2):
            objective.cost_and_gradient(theta)
        print(anonymous() - before)
"""


def test_an_iteration_takes_no_memory_that_grows_with_the_rows(tmp_path):
    rng = np.random.default_rng(0)
    m = 700_000  # 80 MB
    X = {f"x{j}": rng.standard_normal(m, np.float32) for j in range(28)}
    stores.convert({**X, "y": rng.random(m) > 0.5}, tmp_path / "store", "y", validation=0.0)
    assert (tmp_path / "store").stat().st_size > 75e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path / "store"], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 32  # MB: 16 a thread


def test_weights_have_the_shape_of_the_rows(store):
    if "weight" in store.file.kinds:
        weight = store.examples(store.train).weight
        assert isinstance(weight, StoredWeight)
        assert weight.shape == (store.shape[0],)
