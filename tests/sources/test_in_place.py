"""Numbers of a store looked at where they lie: the bits of reading, and what comes of a file that is cut short."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from fullbatch.errors import StoreError
from fullbatch.machine import mappings
from fullbatch.sources.in_place import InPlaceReader
from fullbatch.sources.stored import open_store
from fullbatch.tables import store as stores
from fullbatch.training.objective import Objective

LEAF, K = 256, 28


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A store of numbers alone, of several leaves; made once, so whoever changes it takes a copy."""
    path = tmp_path_factory.mktemp("in-place") / "store"
    rng = np.random.default_rng(1)
    table = {f"x{j}": rng.normal(size=3000).astype("f4") for j in range(K)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "leaf_size", lambda n: LEAF)
        stores.convert({**table, "y": rng.random(3000) > 0.3}, path, "y", validation=0.2)
    return path


@pytest.fixture(autouse=True)
def small_leaves(monkeypatch):
    monkeypatch.setattr("fullbatch.fold.tree.leaf_size", lambda n: LEAF)


@pytest.fixture
def mapped(path, monkeypatch):
    monkeypatch.delenv(mappings.VARIABLE, raising=False)
    with open_store(path) as store:
        found, why = store.file.mapping()
    if found is None:
        pytest.skip(f"no file is mapped here: {why}")


def gradient_of(path, threads=2, network=None):
    """Cost, gradient, another cost, predictions; and how many blocks were not copied."""
    from fullbatch.core.network import Network
    from fullbatch.core.parameters import flatten

    net = network or Network([K, 7, 1], "tanh", "sigmoid")
    theta = flatten(net.init(seed=2)).astype("f4")
    with open_store(path) as store, Objective(net, store.examples(store.train), threads=threads) as objective:
        J, gradient = objective.cost_and_gradient(theta)
        again = objective.cost_and_gradient(theta)
        assert (again[0], again[1].tobytes()) == (J, gradient.tobytes())
        predicted = objective.fold.predict(theta)
        bits = J, gradient.tobytes(), objective.cost(theta), predicted.tobytes()
        return bits, sum(getattr(worker.read_X, "mapped", 0) for worker in objective.fold.engine._workers)


@pytest.mark.parametrize("kept", [True, False])
def test_it_has_the_bits_of_reading_for_any_threads(path, mapped, kept, monkeypatch):
    """Kept: the whole file stays mapped; else each thread moves a mapping of its own over it."""
    monkeypatch.setattr("fullbatch.machine.memory.free", lambda: 1e12 if kept else 0.0)
    found = [gradient_of(path, threads) for threads in (1, 2, 3)]
    monkeypatch.setenv(mappings.VARIABLE, "off")
    read = [gradient_of(path, threads) for threads in (1, 2)]
    assert len({bits for bits, _ in (*found, *read)}) == 1
    assert all(count > 0 for _, count in found)
    assert [count for _, count in read] == [0, 0]


def test_a_mapping_moves_over_a_file_of_any_size(mapped, tmp_path):
    data = np.random.default_rng(0).integers(0, 256, 2**23 + 12_345, np.uint8)
    data.tofile(tmp_path / "file")
    with (tmp_path / "file").open("rb") as file:
        mapping, why = mappings.mapping(file.fileno(), 2**22)
        assert why == ""
        for offset, size in [(0, 9), (2**21 - 3, 7), (5_000_001, 2**21 + 5), (len(data) - 4, 4), (8, 2**22 - 8)]:
            found = mapping.look(file.fileno(), offset, (size,), data.dtype)
            assert np.array_equal(found, data[offset : offset + size])
            assert not found.flags.writeable
        for offset, size in [(-1, 4), (len(data) - 4, 5), (0, 0), (0, 2**22 + 1), (2**21 - 1, 2**22)]:
            assert mapping.look(file.fileno(), offset, (size,), data.dtype) is None
        assert mapping.is_whole(file.fileno())


def test_mappings_are_counted_and_given_back(mapped, path):
    with path.open("rb") as file:
        found = [mappings.mapping(file.fileno(), 2**12) for _ in range(1100)]
        refused = [why for mapping, why in found if mapping is None]
        assert 0 < len(refused) < 1100
        assert set(refused) == {mappings.REFUSED[3]}
        found.clear()
        assert mappings.mapping(file.fileno(), 2**12)[0] is not None


def test_what_is_read_in_its_place_and_why(path, monkeypatch):
    with open_store(path) as store:
        monkeypatch.setenv(mappings.VARIABLE, "off")
        assert store.file.mapping() == (None, "switched off by FULLBATCH_MAP=off")
        monkeypatch.setenv(mappings.VARIABLE, "yes")
        with pytest.raises(ValueError, match="FULLBATCH_MAP=yes is unknown; it can be off"):
            store.file.mapping()
        monkeypatch.delenv(mappings.VARIABLE)
        monkeypatch.setenv("FULLBATCH_NATIVE", "off")
        assert "switched off by FULLBATCH_NATIVE=off" in store.file.mapping()[1]
    with pytest.raises(StoreError, match="is closed"):
        store.file.mapping()
    stores.convert({"x": np.arange(40.0), "town": ["a", "b"] * 20, "y": [0, 1] * 20}, path.with_name("codes"), "y")
    with open_store(path.with_name("codes")) as store:
        assert store.examples(store.train).X.in_place_reader() is None


def test_a_file_of_no_local_system_is_refused(mapped):
    with open("/proc/self/status", "rb") as file:
        assert mappings.mapping(file.fileno(), 2**12) == (None, mappings.REFUSED[2])


def test_a_thread_that_blocks_the_signal_reads(path, mapped):
    with open_store(path) as store:
        reader, counts = InPlaceReader(store.train), []

        def read():
            reader(slice(0, 10))
            counts.append(reader.mapped)

        read()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS])
        try:
            reader.leaf = -1
            read()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGBUS])
    assert counts == [1, 1]


def test_another_file_at_the_path_changes_nothing(path, mapped, tmp_path):
    copy = tmp_path / "store"
    copy.write_bytes(path.read_bytes())
    with open_store(copy) as store:
        reader = InPlaceReader(store.train)
        expected = reader(slice(0, 100)).copy()
        (tmp_path / "new").write_bytes(b"another")
        os.replace(tmp_path / "new", copy)
        assert np.array_equal(reader(slice(0, 100)), expected)
        assert reader.is_whole()


def test_a_file_that_was_touched_is_read(path, mapped, tmp_path):
    copy = tmp_path / "store"
    copy.write_bytes(path.read_bytes())
    with open_store(copy) as store:
        reader = InPlaceReader(store.train)
        expected = reader(slice(0, 100)).copy()
        os.utime(copy, (1, 1))
        assert not reader.is_whole()
        assert np.array_equal(reader(slice(0, 100)), expected)
        assert reader.is_whole()
        assert reader.mapped == 1


# --- A file that is cut short while a step looks at it: each in a process of its own ----------------------------------

CUT = """
import os, sys, threading
import numpy as np
from fullbatch.core.network import Network
from fullbatch.core.parameters import flatten
from fullbatch.errors import StoreError
from fullbatch.fold import tree
from fullbatch.sources.stored import open_store
from fullbatch.steps.native import NativeStep
from fullbatch.steps.native_leaves import NativeLeaves
from fullbatch.training.objective import Objective
import fullbatch.machine.memory as memory

path, size, kept = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "kept"
memory.free = lambda: 1e12 if kept else 0.0
tree.leaf_size = lambda n: 256
calls = []

def cutting(name, owner=NativeStep, at=20):
    plain = getattr(owner, name)
    def call(self, *given):
        calls.append(name)
        if len(calls) == at:
            assert reader_of(objective) > 0
            os.truncate(path, size)
        return plain(self, *given)
    setattr(owner, name, call)

def reader_of(objective):
    return sum(worker.read_X.mapped for worker in objective.fold.engine._workers)

def run(call, *given):
    try:
        print("done", call(*given))
    except StoreError as error:
        print(error)

net = Network([28, 7, 1], "tanh", "sigmoid")
theta = flatten(net.init(seed=2)).astype("f4")
"""

RUNS = {
    "gradient": "run(objective.cost_and_gradient, theta)",
    "cost": "run(objective.cost, theta)",
    "predict": "run(objective.fold.predict, theta)",
}


def child(script, *arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120,
        env={name: value for name, value in os.environ.items() if name != mappings.VARIABLE},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def copy(path, tmp_path):
    copy = tmp_path / "late.store"
    copy.write_bytes(path.read_bytes())
    return copy


def cut(copy, size, kept, operation):
    # Of a file that stays mapped only the first round's gradients, which compares checksums, go block by block.
    how = '"gradient", NativeLeaves, 1' if kept and operation == "gradient" else repr(operation)
    script = f"""{CUT}
with open_store(path) as store:
    with Objective(net, store.examples(store.train), threads=2) as objective:
        cutting({how})
        {RUNS[operation]}
        {RUNS[operation]}
print(len(calls))
"""
    return child(script, copy, size, "kept" if kept else "moved").stdout.splitlines()


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("operation", list(RUNS))
def test_a_file_that_is_cut_short_under_a_step_is_an_error(copy, mapped, kept, operation):
    lines = cut(copy, 4096, kept, operation)
    # Block 20 is in the second round: the first one's result is right, and nothing comes of the other.
    assert "done" in lines[0]
    assert lines[-2] == f"{copy} was cut short while it was read: it ends at byte {lines[-2].split()[-1]}"
    assert int(lines[-1]) == 1 if kept and operation == "gradient" else int(lines[-1]) >= 20


@pytest.mark.parametrize("less", [1, 100, 4000])
def test_a_file_that_ends_within_a_page_is_an_error_too(copy, mapped, less):
    """The rest of that page is zeros, without a signal."""
    with open_store(copy) as store:
        leaf = store.file.leaves[store.train.leaves - 1]
        end = leaf.offsets["numbers"] + leaf.rows * K * 4
    lines = cut(copy, end - less, True, "gradient")
    assert "was cut short while it was read" in lines[-2]


ELSEWHERE = f"""{CUT}
import mmap, signal
before = sys.argv[4]
if before == "faulthandler":
    import faulthandler
    faulthandler.enable()
if before == "ignored":
    signal.signal(signal.SIGBUS, signal.SIG_IGN)
if before == "python":
    signal.signal(signal.SIGBUS, lambda *_: print("heard", flush=True))
with open_store(path) as store, Objective(net, store.examples(store.train), threads=2) as objective:
    objective.cost(theta)
    assert reader_of(objective) > 0
    if sys.argv[5] == "sent":
        os.kill(os.getpid(), signal.SIGBUS)
        print("alive", flush=True)
    else:
        with open(path + ".other", "w+b") as other:
            other.truncate(8192)
            mine = mmap.mmap(other.fileno(), 8192)
            other.truncate(0)
            mine[5000]
"""


@pytest.mark.parametrize(
    ("before", "how", "code", "said"),
    [
        ("default", "sent", -signal.SIGBUS, ("", "")),
        ("default", "loaded", -signal.SIGBUS, ("", "")),
        ("ignored", "sent", 0, ("alive", "")),
        ("ignored", "loaded", -signal.SIGBUS, ("", "")),
        ("python", "sent", 0, ("heard\nalive", "")),
        ("faulthandler", "sent", -signal.SIGBUS, ("", "Fatal Python error: Bus error")),
        ("faulthandler", "loaded", -signal.SIGBUS, ("", "Fatal Python error: Bus error")),
    ],
)
def test_a_signal_that_is_not_ours_goes_on(copy, mapped, before, how, code, said):
    done = child(ELSEWHERE, copy, 0, "kept", before, how, code=code)
    assert done.stdout.strip() == said[0]
    assert said[1] in done.stderr
    assert bool(done.stderr) == bool(said[1])


def test_with_faulthandler_before_a_cut_file_is_an_error_all_the_same(copy, mapped):
    script = (
        f"import faulthandler\nfaulthandler.enable()\n{CUT}"
        + """
with open_store(path) as store, Objective(net, store.examples(store.train), threads=2) as objective:
    cutting("gradient", NativeLeaves, 1)
    run(objective.cost_and_gradient, theta)
    run(objective.cost_and_gradient, theta)
"""
    )
    done = child(script, copy, 4096, "kept")
    assert "was cut short while it was read" in done.stdout
    assert done.stderr == ""


def test_a_later_handler_has_files_read(copy, mapped):
    """It would be called first, and it may end the process."""
    script = (
        f"{CUT}import faulthandler"
        + """
with open_store(path) as store, Objective(net, store.examples(store.train), threads=2) as objective:
    J, _ = objective.cost_and_gradient(theta)
    count = reader_of(objective)
    faulthandler.enable()
    assert objective.cost_and_gradient(theta)[0] == J
    assert objective.cost_and_gradient(theta)[0] == J
    print(count > 0, reader_of(objective) - count)
    with open_store(path) as other:
        print(other.file.mapping()[0])
    faulthandler.disable()
    with open_store(path) as other:
        print(other.file.mapping()[0] is not None)
"""
    )
    assert child(script, copy, 0, "kept").stdout.splitlines() == ["True 0", "None", "True"]


def test_a_child_of_a_fork_is_told_too(copy, mapped):
    script = (
        f"{CUT}import warnings"
        + """
warnings.simplefilter("ignore", DeprecationWarning)
with open_store(path) as store, Objective(net, store.examples(store.train), threads=1) as objective:
    expected = objective.cost(theta)
    pid = os.fork()
    if pid == 0:
        cutting("cost")
        run(objective.cost, theta)
        run(objective.cost, theta)
        sys.stdout.flush()
        os._exit(0)
    print(os.waitpid(pid, 0)[1])
    run(objective.cost, theta)
"""
    )
    lines = child(script, copy, 4096, "kept").stdout.splitlines()
    assert lines[-2] == "0"
    assert sum("was cut short while it was read" in line for line in lines) >= 2


def test_a_training_beside_one_whose_file_is_cut_goes_on(path, copy, mapped):
    script = (
        f"{CUT}other = sys.argv[4]"
        + """
found = []
def beside(started):
    with open_store(other) as store, Objective(net, store.examples(store.train), threads=1) as one:
        started.set()
        for _ in range(20):
            found.append(one.cost_and_gradient(theta)[0])
with open_store(path) as store, Objective(net, store.examples(store.train), threads=1) as objective:
    started = threading.Event()
    thread = threading.Thread(target=beside, args=[started])
    thread.start()
    started.wait()
    for _ in range(3):
        try:
            objective.cost_and_gradient(theta)
        except StoreError as error:
            print(error)
        if not calls:
            os.truncate(path, 4096)
            calls.append(1)
    thread.join()
print(len(found), len(set(found)))
"""
    )
    lines = child(script, copy, 4096, "kept", path).stdout.splitlines()
    assert lines[-1] == "20 1"
    assert "was cut short" in lines[0]


COMMAND = """
import os, sys
from fullbatch.steps.native import NativeStep
from fullbatch.steps.native_leaves import NativeLeaves
from fullbatch.sources.store_file import StoreFile
from fullbatch.sources.windows import Window
from fullbatch.command.app import main

path, what, words = sys.argv[1], sys.argv[2], sys.argv[3:]
calls = []

def cutting(owner, name, at):
    plain = getattr(owner, name)
    def call(self, *given):
        calls.append(name)
        if len(calls) == at:
            os.truncate(path, 8192)
        return plain(self, *given)
    setattr(owner, name, call)

if what == "batches":
    cutting(Window, "_load", 2)
elif what == "evaluate":  # whose rows are copied: nothing else comes between two readings
    cutting(StoreFile, "read", 2)
elif what == "leaves":
    from fullbatch.fold import tree
    tree.leaf_size = lambda n: 256
    cutting(NativeLeaves, "gradient", 2)
else:
    cutting(NativeStep, what, 3)
status = main(words)
print(len(calls))
raise SystemExit(status)
"""


@pytest.mark.parametrize("what", ["gradient", "leaves", "cost", "evaluate", "batches"])
def test_the_command_says_so_on_one_line(copy, mapped, what, tmp_path):
    model = tmp_path / "model"
    train = ["train", copy, "--hidden", "3", "--model", model, "-q", "--epochs", "5"]
    words = train if what == "batches" else [*train, "--solver", "gd"]
    if what == "evaluate":
        child("import sys; from fullbatch.command.app import main; sys.exit(main(sys.argv[1:]))", *words)
        words = ["evaluate", model, copy]
    elif what == "cost":
        words = [*words, "--patience", "3"]
    done = child(COMMAND, copy, what, *words, code=2)
    assert done.stderr.count("\n") == 1
    assert "was cut short while it was read" in done.stderr
    assert int(done.stdout.split()[-1]) > 1


def test_info_says_how_full_batches_read(path, mapped, monkeypatch, capsys):
    import json

    from fullbatch.command import app

    for value, used in (("", True), ("off", False)):
        monkeypatch.setenv(mappings.VARIABLE, value)
        assert app.main(["info", str(path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["in_place"]
        assert found == {"used": used, "why_not": "" if used else "switched off by FULLBATCH_MAP=off"}
        assert app.main(["info", str(path)]) == 0
        text = capsys.readouterr().out
        assert ("where they lie" in text, "copy its numbers" in text) == (used, not used)


def test_threads_share_a_file_that_stays_mapped(path, mapped):
    with open_store(path) as store:
        readers = [InPlaceReader(store.train) for _ in range(3)]
        for reader in readers:
            reader(slice(0, 5))
        assert len({id(reader.mapping) for reader in readers}) == 1
    for reader in readers:
        assert not reader.is_whole()
        with pytest.raises(StoreError, match="is closed"):
            reader(slice(0, 5))


def test_readers_end_their_threads(path):
    with open_store(path) as store:
        store.file.ahead.coming.clear()
        for leaf in range(len(store)):
            store.train.expect(leaf)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fullbatch-ahead")]
