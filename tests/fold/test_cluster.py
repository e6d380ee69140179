"""The engine of a cluster, with workers in this process: the bits of one process, whatever is lost on the way."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest

import fullbatch as fb
from fullbatch.core.parameters import flatten
from fullbatch.dask.store import ClusterStore
from fullbatch.errors import ClusterError, InputError
from fullbatch.fold import cluster as engine
from fullbatch.fold.fold import Fold
from fullbatch.fold.shard import Answer, at_the_end, here
from fullbatch.fold.tree import Node, Tree
from fullbatch.machine import native_library
from fullbatch.sources.windows import LeafOrder, WindowOrder
from fullbatch.tables import store as stores
from in_process import InProcess

LEAF = 256
NETWORK = fb.Network([5, 6, 1], "tanh")
THETA = flatten(NETWORK.init(seed=4, dtype="float32"))


@pytest.fixture(autouse=True)
def small_leaves(monkeypatch):
    for where in (stores, "fullbatch.fold.tree", engine, "fullbatch.training.windows"):
        name = where if isinstance(where, str) else where.__name__
        monkeypatch.setattr(f"{name}.leaf_size", lambda n: LEAF)


@pytest.fixture
def path(tmp_path):
    """Of 12 leaves, the last one short, with weights, a category, and held-out rows."""
    rng = np.random.default_rng(3)
    m = 3333
    table = {f"x{j}": rng.normal(size=m) for j in range(2)}
    table |= {"town": rng.choice(["a", "b", "c"], m), "w": rng.uniform(0.5, 2, m)}
    table["y"] = np.where(table["x0"] * table["x1"] + 0.2 * rng.normal(size=m) > 0, "yes", "no")
    stores.convert(table, tmp_path / "table.store", "y", weight="w", validation=0.1)
    return tmp_path / "table.store"


@pytest.fixture
def alone(path):
    """The sums of one process."""
    with fb.open_store(path) as store, Fold(NETWORK, store.examples(store.train), threads=1) as fold:
        return fold.gradient(THETA), fold.cost(THETA), fold.predict(THETA)


def sums(path, workers):
    with ClusterStore(path, workers) as store, Fold(NETWORK, store.examples(store.train)) as fold:
        assert isinstance(fold.engine, engine.OnCluster)
        assert {shard.handle.shard.fold.step_name for shard in fold.engine.shards} == {fold.step_name}
        return fold.gradient(THETA), fold.cost(THETA), fold.predict(THETA)


def assert_same(found, expected):
    (gradient, cost, yhat), (g, c, y) = found, expected
    np.testing.assert_array_equal(gradient.vector, g.vector)
    assert (float(gradient.loss), float(gradient.weight)) == (float(g.loss), float(g.weight))
    assert tuple(map(float, cost)) == tuple(map(float, c))
    np.testing.assert_array_equal(yhat, y)


# --- Where it is cut ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 5, 7, 13, 64])
def test_shards_are_near_their_share_and_come_back_as_few_nodes(shards):
    for leaves in [*range(shards, 300, 7), 1000, 4097, 152_588]:
        found = engine.cuts(leaves, shards)
        assert found[0] == 0
        assert found[-1] == leaves
        sizes = [stop - start for start, stop in pairwise(found)]
        assert max(sizes) <= max(leaves / shards * 9 / 8, -(-leaves // shards))
        assert min(sizes) >= min(leaves / shards * 7 / 8, leaves // shards)
        assert max(len(engine.nodes_of(*edges, leaves)) for edges in pairwise(found)) <= engine.MOST_NODES


@pytest.mark.parametrize("leaves", [1, 2, 5, 12, 31, 64, 100])
def test_the_nodes_of_shards_add_to_the_tree_s_own_sum(leaves):
    values = np.random.default_rng(leaves).standard_normal(leaves) * 10.0 ** np.arange(leaves)[::-1].clip(0, 12)
    whole = Tree()
    whole.add(*(Node(i, 1, value) for i, value in enumerate(values)))
    for shards in range(1, min(leaves, 9) + 1):
        driver = Tree()
        for start, stop in pairwise(engine.cuts(leaves, shards)):
            own = Tree()
            own.add(*(Node(i, 1, values[i]) for i in range(start, stop)))
            nodes = at_the_end(own.nodes) if stop == leaves else own.nodes
            assert [(node.first, node.leaves) for node in nodes] == engine.nodes_of(start, stop, leaves)
            driver.add(*nodes)
        assert driver.total() == whole.total()


# --- The sums -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7])
def test_any_number_of_workers_has_the_bits_of_one_process(path, alone, workers):
    assert_same(sums(path, InProcess(workers)), alone)


def test_more_workers_than_leaves(path, alone):
    assert_same(sums(path, workers := InProcess(20)), alone)
    assert workers.made == 12


def test_whatever_is_lost_is_made_again(path, alone):
    """Each worker at its first call, another one while its shard is made anew, and one again and again."""
    workers = InProcess(3, lose=lambda call, address: call in (2, 3, 5) or (call == 6 and address == "w1"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_same(sums(path, workers), alone)
    assert workers.made > 3
    assert "the worker w0 was lost (a test lost it)" in str(caught[0].message)
    assert "has read its rows 0 to" in str(caught[0].message)


def test_a_shard_that_is_always_lost_is_named_with_what_it_needs(path):
    workers = InProcess(2, lose=lambda call, address: call > 1 and address != "w1")
    with pytest.warns(UserWarning, match="was lost"), pytest.raises(ClusterError, match=r"was lost 4 times.*bytes"):
        sums(path, workers)


def test_an_answer_to_another_call_is_dropped(path, alone):
    late = []

    def change(answer):
        if answer.parts and isinstance(answer.parts[0], list) and len(late) < 2:
            late.append(answer)
            return answer._replace(number=answer.number - 1)
        return answer

    workers = InProcess(2, change=change)
    assert_same(sums(path, workers), alone)
    assert len(late) == 2


def test_a_missing_node_is_an_error_and_not_a_smaller_sum(path):
    def change(answer):
        if answer.parts and isinstance(answer.parts[0], list):
            return answer._replace(parts=[answer.parts[0][1:]])
        return answer

    with pytest.raises(ClusterError, match="is missing among the workers' answers"):
        sums(path, InProcess(3, change=change))


def test_a_worker_s_warnings_and_errors_reach_the_user(path):
    def warns(answer):
        return answer._replace(warnings=("mind the gap",))

    with pytest.warns(UserWarning, match="w0 says: mind the gap"):
        sums(path, InProcess(1, change=warns))
    for error, match in (
        (MemoryError("1 GB"), r"w0 is out of memory \(1 GB\): its [0-9,]+ rows need up to"),
        (KeyError("x"), "w0 failed: KeyError"),
    ):
        with pytest.raises(ClusterError, match=match):
            sums(path, InProcess(1, change=lambda answer, error=error: Answer(answer.number, error=error)))


def test_a_worker_without_room_for_its_shard_is_named_with_what_it_needs(path):
    class Small(InProcess):
        def _make(self, recipe, data, address):
            return MemoryError("1 GB") if address != "w0" else super()._make(recipe, data, address)

    need = r"out of memory \(1 GB\): its [0-9,]+ rows need up to [0-9,]+ bytes for examples; give it more"
    with pytest.raises(ClusterError, match=f"the worker w1 is {need}"):
        sums(path, Small(2))
    with pytest.raises(ClusterError, match=f"the worker that took it over is {need}"):
        sums(path, Small(1, lose=lambda call, address: call == 2))


def test_another_store_of_the_same_name_is_refused(path):
    with ClusterStore(path, InProcess(1)) as store:
        stores.convert({"x": [1.0, 2.0], "y": ["a", "b"]}, path, "y", validation=0)
        with pytest.raises(fb.errors.StoreError, match="is another one on this worker"):
            Fold(NETWORK, store.examples(store.train))


# --- Workers that do not go together --------------------------------------------------------------------------------


def test_workers_are_held_to_the_least_common_instruction_set():
    told = {**here(), "isas": ["avx512", "avx2", "portable"]}
    isa, note = engine.agreed({"a": told, "b": {**told, "isas": ["avx2", "portable"]}}, here())
    assert isa == "avx2"
    assert "all of them compute by avx2, and none by avx512" in note
    assert engine.agreed({"a": told, "b": told}, here()) == ("avx512", "")
    assert engine.agreed({"a": {**told, "isas": []}}, here()) == ("off", "")


@pytest.mark.skipif(len(native_library.isas()) < 2, reason="one instruction set alone")
def test_the_instruction_set_is_held_by_its_function(path, monkeypatch):
    least = native_library.isas()[-1][1]
    monkeypatch.setenv(native_library.VARIABLE, least)
    with fb.open_store(path) as store, Fold(NETWORK, store.examples(store.train), threads=1) as fold:
        expected = fold.gradient(THETA), fold.cost(THETA), fold.predict(THETA)
    monkeypatch.delenv(native_library.VARIABLE)
    all_of_them = [name for _, name in native_library.isas()]
    workers = InProcess(2, said={0: {"isas": [least]}, 1: {"isas": all_of_them}})
    assert_same(sums(path, workers), expected)
    assert native_library.isa()[1] == all_of_them[0]


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"versions": {"fullbatch": "0.0.1"}}, "w1 has fullbatch 0.0.1, and this program runs"),
        ({"isas": []}, "w1 has no native step and others have"),
        ({"isas": ["neon"]}, "no instruction set in common"),
    ],
)
def test_workers_that_do_not_go_together_are_refused(path, said, match):
    with pytest.raises(ClusterError, match=match):
        sums(path, InProcess(2, said={0: {"isas": ["avx2"]}, 1: said}))


def test_a_worker_without_fullbatch_is_named():
    with pytest.raises(ClusterError, match="the worker b cannot import fullbatch"):
        engine.agreed({"a": here(), "b": ModuleNotFoundError("No module named 'fullbatch'")}, here())


def test_workers_of_other_bits_are_refused(path):
    seen = []

    def change(answer):
        if answer.parts and isinstance(answer.parts[0], dict) and (seen.append(1) or len(seen) == 2):
            return answer._replace(parts=[{**answer.parts[0], "bits": "others"}])
        return answer

    with pytest.raises(ClusterError, match="compute other last digits"):
        sums(path, InProcess(2, change=change))


# --- Estimators and mini-batches ------------------------------------------------------------------------------------

SOLVERS = {
    "gd": {"solver": "gd", "max_iter": 4},
    "lbfgs": {"solver": "lbfgs", "max_iter": 4},
    "adam": {"solver": "adam", "max_iter": 2, "batch_size": "full"},
    "leaves": {"solver": "adam", "max_iter": 3, "batch_size": 3 * LEAF, "early_stopping": True},
    "by class": {"solver": "gd", "max_iter": 2, "class_weight": {"yes": 3.0, "no": 0.5}},
    "a leaf": {"solver": "sgd", "max_iter": 2, "batch_size": LEAF, "shuffle": False},
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_training_has_the_bits_of_one_process_whatever_is_lost(path, solver):
    def fit(store):
        return fb.MLPClassifier((6,), random_state=0, **SOLVERS[solver]).fit(store)

    with fb.open_store(path) as store:
        expected = fit(store)
    for workers in (InProcess(1), InProcess(3, lose=lambda call, address: call % 5 == 3)):
        with ClusterStore(path, workers) as store, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="cluster: the worker")
            found = fit(store)
        assert workers.calls > 3
        for one, other in zip(found.coefs_ + found.intercepts_, expected.coefs_ + expected.intercepts_, strict=True):
            np.testing.assert_array_equal(one, other)
        assert found.loss_curve_ == expected.loss_curve_
        assert found.validation_costs_ == expected.validation_costs_


def test_mini_batches_of_less_than_a_leaf_are_refused(path):
    with (
        ClusterStore(path, InProcess(1)) as store,
        pytest.raises(ValueError, match=r"batch_size=200 is refused on a cluster.*a multiple of 256"),
    ):
        fb.MLPClassifier(batch_size=200).fit(store)


def test_a_mini_batch_is_whole_leaves_where_nobody_says_how_many(path):
    with ClusterStore(path, InProcess(2)) as store:
        assert store.usual_batch == LEAF
        model = fb.MLPClassifier((3,), max_iter=1, learning_rate="linear").fit(store)
    assert model._optimizer.updates == 12


def test_the_order_of_whole_leaves_has_each_row_once():
    order = LeafOrder.of_epoch(4, 22, WindowOrder(22, 7, 1))
    assert len(order) == 22
    assert sorted(order.numbers.tolist()) == list(range(6))
    assert order.numbers[-1] == 5
    again = LeafOrder.of_epoch(4, 22, WindowOrder(22, 7, 1))
    np.testing.assert_array_equal(order.numbers, again.numbers)
    rows = [range(22)[order[start : start + 4]] for start in range(0, 22, 4)]
    assert sorted(row for part in rows for row in part) == list(range(22))
    batch = order[8:22]
    assert len(batch) == 14
    assert batch[12:14] == slice(20, 22)
    assert batch[1:3].start == order[9:11].start
    with pytest.raises(InputError, match="between two of them"):
        order[2:12]
