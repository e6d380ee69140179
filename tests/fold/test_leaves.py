"""Leaves of a file summed in calls of C: the bits of block by block; and that it is these calls that ran."""

from __future__ import annotations

import numpy as np
import pytest

import fullbatch as fb
from conftest import ISAS
from fullbatch.core.parameters import flatten
from fullbatch.errors import StoreError
from fullbatch.fold import fold as fold_module
from fullbatch.fold import leaves as leaves_module
from fullbatch.fold.fold import Fold
from fullbatch.machine import mappings
from fullbatch.sources.store_file import StoreFile
from fullbatch.sources.store_parts import Reweighted
from fullbatch.sources.stored import open_store
from fullbatch.steps.native import NativeStep
from fullbatch.steps.native_leaves import NativeLeaves
from fullbatch.tables import store as stores

pytestmark = pytest.mark.skipif(not ISAS, reason="the native step is not here")

LEAF, K, ROWS = 256, 5, 10 * 256 + 77
KINDS = {
    "binary": ({}, "float32"),
    "softmax": ({}, "float32"),
    "regression": ({"task": "regress"}, "float32"),
    "weighted": ({"weight": "w"}, "float32"),
    "weighted softmax of doubles": ({"weight": "w"}, "float64"),
    "regression of doubles": ({"task": "regress"}, "float64"),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A store of each kind: eleven leaves to learn from, the last of which is short, and others held out."""
    folder, rng, found = tmp_path_factory.mktemp("leaves"), np.random.default_rng(1), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "leaf_size", lambda n: LEAF)
        for kind, (settings, dtype) in KINDS.items():
            table = {f"x{j}": rng.normal(size=ROWS + 400).astype(dtype) for j in range(K)}
            classes = 3 if "softmax" in kind else 2
            y = (
                rng.normal(size=ROWS + 400).astype(dtype)
                if "task" in settings
                else rng.integers(0, classes, ROWS + 400)
            )
            more = {"w": rng.random(ROWS + 400).astype(dtype)} if "weight" in settings else {}
            found[kind] = folder / kind.replace(" ", "-")
            stores.convert(
                {**table, **more, "y": y}, found[kind], "y", validation=400 / (ROWS + 400), dtype=dtype, **settings
            )
    return found


@pytest.fixture(autouse=True)
def small_leaves(paths, monkeypatch):
    monkeypatch.setattr("fullbatch.fold.tree.leaf_size", lambda n: LEAF)
    monkeypatch.delenv(mappings.VARIABLE, raising=False)
    with open_store(paths["binary"]) as store:
        found, why = store.file.whole_mapping()
    if found is None:
        pytest.skip(f"no file is mapped here: {why}")


@pytest.fixture
def calls(monkeypatch):
    """Of each call of C its first leaf, and how many it has; and how many blocks there were beside these."""
    made, plain, plain_step = [], NativeLeaves.gradient, NativeStep.gradient

    def call(self, theta, threads, first, X):
        made.append((first, len(X)))
        return plain(self, theta, threads, first, X)

    def block(self, *given):
        made.append("block")
        return plain_step(self, *given)

    monkeypatch.setattr(NativeLeaves, "gradient", call)
    monkeypatch.setattr(NativeStep, "gradient", block)
    return made


def network_of(store):
    k = len(store.classes)
    output = "identity" if not k else "softmax" if k > 2 else "sigmoid"
    return fb.Network([store.n, 7, max(k, 1) if k != 2 else 1], "tanh", output)


def theta_of(network, store):
    return flatten(network.init(seed=2)).astype(store.dtype)


def bits(total):
    return total.loss.tobytes(), total.weight, total.vector.tobytes()


def few_in_a_call(monkeypatch, store, leaves):
    """So many leaves, at most."""
    monkeypatch.setattr(fold_module, "FEWEST", 1)
    monkeypatch.setattr(leaves_module, "MOST", leaves * LEAF * network_of(store).sizes[-1])


@pytest.mark.parametrize("together", [1, 2, 8, 16])
@pytest.mark.parametrize("kind", list(KINDS))
def test_calls_of_leaves_have_the_bits_of_blocks_for_any_threads(kind, together, paths, calls, monkeypatch):
    with open_store(paths[kind]) as store:
        assert (store.train.m % LEAF, store.train.leaves) != (0, 1)
        network, leaves = network_of(store), store.train.leaves
        theta = theta_of(network, store)
        few_in_a_call(monkeypatch, store, together)
        examples = store.examples(store.train)
        with Fold(network, examples, threads=2) as fold:
            expected = bits(fold._tree("gradient", theta, None).total())
        expected_calls = [(first, min(together, leaves - first)) for first in range(0, leaves, together)]
        for threads in (1, 2, 3, 7):
            with Fold(network, examples, threads=threads) as fold:
                for _ in range(2):
                    calls.clear()
                    assert bits(fold.gradient(theta)) == expected
                    assert calls == expected_calls
        monkeypatch.setenv(mappings.VARIABLE, "off")
        with open_store(paths[kind]) as read, Fold(network, read.examples(read.train), threads=1) as fold:
            calls.clear()
            assert bits(fold.gradient(theta)) == bits(fold.gradient(theta)) == expected
            assert set(calls) == {"block"}


@pytest.mark.parametrize("kind", ["binary", "weighted", "weighted softmax of doubles"])
def test_weights_of_classes_and_of_the_caller(kind, paths, calls):
    with open_store(paths[kind]) as store:
        network, rng = network_of(store), np.random.default_rng(3)
        theta, given = theta_of(network, store), rng.random(store.train.m)
        by_class = store.examples(Reweighted(store.train, rng.random(len(store.classes))))
        of_caller = fb.sources.Examples(by_class.X, by_class.Y, given)
        for examples in (by_class, of_caller):
            with Fold(network, examples, threads=2) as fold:
                expected = bits(fold._tree("gradient", theta, None).total())
                calls.clear()
                assert bits(fold.gradient(theta)) == expected
                assert calls == [(0, store.train.leaves)]


def test_leaves_that_are_not_ready_go_block_by_block(paths, calls, monkeypatch):
    """Those that nobody compared yet, or that are not in the cache."""
    plain, missing = StoreFile.is_ready, set()
    monkeypatch.setattr(StoreFile, "is_ready", lambda self, leaf: leaf not in missing and plain(self, leaf))
    with open_store(paths["softmax"]) as store:
        few_in_a_call(monkeypatch, store, 2)
        network = network_of(store)
        theta = theta_of(network, store)
        with Fold(network, store.examples(store.train), threads=2) as fold:
            expected = bits(fold.gradient(theta))
            assert set(calls) == {"block"}
            assert all(store.file.checked[leaf] for leaf in range(store.train.leaves))
            for leaves, called in [
                ((0,), [2, 4, 6, 8, 10]), ((10,), [0, 2, 4, 6, 8]), ((3, 5), [0, 6, 8, 10]),
                (range(11), []), ((), range(0, 11, 2)),
            ]:  # fmt: skip
                missing.clear()
                missing.update(leaves)
                calls.clear()
                assert bits(fold.gradient(theta)) == expected
                assert [call[0] for call in calls if call != "block"] == list(called)
                missing.clear()


def test_what_the_cache_lost_is_not_ready(paths, tmp_path):
    import os

    copy = tmp_path / "store"
    copy.write_bytes(paths["binary"].read_bytes())
    with open_store(copy) as store:
        for leaf in range(len(store.file.leaves)):
            assert not store.file.is_ready(leaf)
            store.file._check(leaf)
            assert store.file.is_ready(leaf)
        with copy.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(store.file.handle, [bytearray(1)], store.file._extent(3)[0], os.RWF_NOWAIT)
        except BlockingIOError:
            assert not store.file.is_ready(3)
        except OSError:
            assert store.file.is_ready(3)  # the file system cannot say
    assert not store.file.is_ready(3)


def test_a_file_that_does_not_stay_mapped_goes_block_by_block(paths, calls, monkeypatch):
    monkeypatch.setattr("fullbatch.machine.memory.free", lambda: 0.0)
    with open_store(paths["binary"]) as store:
        network = network_of(store)
        theta = theta_of(network, store)
        with Fold(network, store.examples(store.train), threads=2) as fold:
            assert bits(fold.gradient(theta)) == bits(fold.gradient(theta))
    assert set(calls) == {"block"}


def test_a_leaf_whose_checksum_is_wrong_is_named(paths, calls, tmp_path):
    with open_store(paths["binary"]) as store:
        at = store.file.leaves[6].offsets["numbers"] + 9
    copy = tmp_path / "store"
    content = bytearray(paths["binary"].read_bytes())
    content[at] ^= 1
    copy.write_bytes(content)
    with open_store(copy) as store:
        network = network_of(store)
        theta = theta_of(network, store)
        for leaf in (0, 1, 2, 3, 4, 5, 7):
            store.file._check(leaf)
        with Fold(network, store.examples(store.train), threads=2) as fold:
            for _ in range(2):
                with pytest.raises(StoreError, match=r"leaf 6 of \d+ is damaged: its checksum is"):
                    fold.gradient(theta)
    assert set(calls) == {"block"}


def test_a_file_that_changed_meanwhile_gives_nothing_of_the_call(paths, calls, monkeypatch, tmp_path):
    """What C made of it is dropped, and the leaves are read: they may still be right."""
    import os

    copy = tmp_path / "store"
    copy.write_bytes(paths["binary"].read_bytes())
    with open_store(copy) as store:
        network = network_of(store)
        theta = theta_of(network, store)
        with Fold(network, store.examples(store.train), threads=2) as fold:
            expected = bits(fold.gradient(theta))
            counted = NativeLeaves.gradient

            def touching(self, *given):
                os.utime(copy, (1, 1))
                found = counted(self, *given)
                found.vector[:] = np.nan
                return found

            monkeypatch.setattr(NativeLeaves, "gradient", touching)
            for called in (True, False):
                calls.clear()
                assert bits(fold.gradient(theta)) == expected
                assert ((0, store.train.leaves) in calls) == called
                assert "block" in calls


def test_steps_that_look_at_no_leaves_and_targets_that_fill_none(paths, calls, monkeypatch):
    with open_store(paths["binary"]) as store:
        network = network_of(store)
        theta = theta_of(network, store)
        monkeypatch.setenv("FULLBATCH_NATIVE", "off")
        with Fold(network, store.examples(store.train), threads=2) as fold:
            fold.gradient(theta)
            assert fold._blocks is None
    assert calls == []


def test_rows_of_another_leaf_are_refused(paths):
    with open_store(paths["binary"]) as store:
        network = network_of(store)
        theta = theta_of(network, store)
        with Fold(network, store.examples(store.train), threads=1) as fold:
            native = fold._leaf_calls().native
        X = np.zeros((LEAF - 1, store.n), store.dtype)
        with pytest.raises(ValueError, match=r"leaves of \[255\] examples, of \[256\]"):
            native.gradient(theta, 1, 0, [X])


@pytest.mark.filterwarnings("ignore:.*converged:sklearn.exceptions.ConvergenceWarning")
def test_an_estimators_full_batches_are_calls_of_leaves(paths, calls, monkeypatch):
    fits = []
    for value in ("", "off"):
        monkeypatch.setenv(mappings.VARIABLE, value)
        calls.clear()
        with open_store(paths["softmax"]) as store:
            model = fb.MLPClassifier(
                (4,), solver="gd", max_iter=5, random_state=0, early_stopping=True, class_weight="balanced"
            ).fit(store)
            fits.append([model.loss_curve_, *(array.tobytes() for array in model.coefs_)])
            assert ((0, store.train.leaves) in calls) == (value == "")
    assert fits[0] == fits[1]
