"""Training on processes that talk over TCP: the bits of this process, also where workers are killed or stopped."""

from __future__ import annotations

import os
import pickle
import signal
import socket
from types import SimpleNamespace

import numpy as np
import pytest

import fullbatch as fb
import fullbatch.dask
from callbacks import At
from fullbatch.core.parameters import flatten
from fullbatch.dask import connection
from fullbatch.dask.connection import connected
from fullbatch.dask.store import ClusterStore
from fullbatch.errors import ClusterError, InputError, StoreError, TableError
from fullbatch.fold import dask as on_dask
from fullbatch.fold.fold import Fold
from fullbatch.fold.shard import here

pytest.importorskip("distributed", reason="distributed is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of sockets to workers that are killed
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LEAF = 65_536
TRAININGS = {
    "gd": {"solver": "gd", "max_iter": 3},
    "lbfgs": {"solver": "lbfgs", "max_iter": 4},
    "leaves": {"solver": "adam", "max_iter": 2, "batch_size": 2 * LEAF},
}


@pytest.fixture(scope="module")
def alone(path):
    """By training, what this process learns."""
    with fb.open_store(path) as store:
        return {name: fb.MLPClassifier((8,), random_state=0, **how).fit(store) for name, how in TRAININGS.items()}


def assert_same(found, expected):
    for one, other in zip(found.coefs_ + found.intercepts_, expected.coefs_ + expected.intercepts_, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.loss_curve_ == expected.loss_curve_


@pytest.mark.parametrize("training", TRAININGS)
def test_three_processes_have_the_bits_of_one(client, path, alone, training):
    model = fullbatch.dask.MLPClassifier((8,), random_state=0, client=client, **TRAININGS[training]).fit(path)
    assert_same(model, alone[training])
    assert_same(model.to_local(), alone[training])
    assert type(model.to_local()) is fb.MLPClassifier


class SomeOf:
    """A client of which a training sees so many workers."""

    def __init__(self, workers, count):
        self.workers, self.count = workers, count

    def __getattr__(self, name):
        return getattr(self.workers, name)

    def survey(self):
        return dict(sorted(self.workers.survey().items())[: self.count])


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_processes_have_them_too(client, path, alone, count):
    with connected(client) as workers, ClusterStore(path, SomeOf(workers, count)) as store:
        found = fb.MLPClassifier((8,), random_state=0, **TRAININGS["lbfgs"]).fit(store)
    assert_same(found, alone["lbfgs"])


def test_workers_are_asked_without_the_scheduler_or_where_they_are_out_of_reach_by_way_of_it(client, path):
    net = fb.Network([2, 300, 100, 1])  # of which a gradient travels as a piece of its own
    theta = flatten(net.init(seed=0, dtype="float32"))
    found = []
    for out_of_reach in (False, True):
        with connected(client) as workers:
            if out_of_reach:
                workers.unreached.update(client.nthreads())
            with ClusterStore(path, workers) as store, Fold(net, store.examples(store.held_out)) as fold:
                found.append(fold.gradient(theta).vector)
            assert bool(workers.unreached) == out_of_reach
    np.testing.assert_array_equal(*found)


def test_a_killed_worker_costs_no_bit(client, path, alone):
    process = next(iter(client.run(os.getpid).values()))
    model = fullbatch.dask.MLPClassifier((8,), random_state=0, client=client, **TRAININGS["lbfgs"])
    model.set_callbacks(At(2, lambda: os.kill(process, signal.SIGKILL)))
    with pytest.warns(UserWarning, match="was lost.*has read its rows"):
        model.fit(path)
    assert_same(model, alone["lbfgs"])


def test_a_stopped_worker_is_lost_and_of_no_matter_when_it_wakes(client, path):
    net = fb.Network([2, 8, 1])
    theta = flatten(net.init(seed=0, dtype="float32"))
    with fb.open_store(path) as store, Fold(net, store.examples(store.train), threads=1) as fold:
        expected = fold.gradient(theta).vector
    processes = client.run(os.getpid)
    with (
        connected(client, timeout=2.0) as workers,
        ClusterStore(path, workers) as store,
        Fold(net, store.examples(store.train)) as fold,
    ):
        address = fold.engine.shards[1].address
        os.kill(processes[address], signal.SIGSTOP)
        try:
            with pytest.warns(UserWarning, match=f"{address} was lost"):
                np.testing.assert_array_equal(fold.gradient(theta).vector, expected)
            assert address not in [shard.address for shard in fold.engine.shards]
        finally:
            os.kill(processes[address], signal.SIGCONT)
        np.testing.assert_array_equal(fold.gradient(theta).vector, expected)


def test_a_table_estimator_and_its_file(client, path, tmp_path):
    how = {"hidden": (4,), "epochs": 2, "batch_size": LEAF, "random_state": 1}
    with fb.open_store(path) as store:
        expected = fb.TableClassifier(**how).fit(store)
    model = fullbatch.dask.TableClassifier(**how, client=client).fit(path)
    assert_same(model.estimator_, expected.estimator_)
    assert model.record_["held_out"] == expected.record_["held_out"]
    fb.save(model.to_local(), tmp_path / "here")
    fb.save(expected, tmp_path / "there")
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
    assert pickle.loads(pickle.dumps(model)).client is None


# --- What cannot be used --------------------------------------------------------------------------------------------


def test_no_scheduler_at_the_address(path, monkeypatch):
    monkeypatch.setattr(connection, "CONNECT", 0.3)
    with pytest.raises(ClusterError, match=r"no scheduler answers at 'tcp://127.0.0.1:1' .*dask scheduler"):
        fullbatch.dask.MLPClassifier(client="tcp://127.0.0.1:1").fit(path)


def test_what_is_no_scheduler(client, monkeypatch):
    """Whatever else listens there, and what is no address: no client is made of it, which could not be closed."""
    import distributed

    monkeypatch.setattr(connection, "CONNECT", 1.0)
    monkeypatch.setattr(distributed, "Client", lambda *args, **options: pytest.fail("a client was made"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        says = {
            f"tcp://127.0.0.1:{silent.getsockname()[1]}": r"\(no answer within 1 s\); `dask scheduler` starts one",
            next(iter(client.nthreads())): "is a worker of Dask; give the address of its scheduler",
            "foo://127.0.0.1:1": "unknown address scheme 'foo'.*The address is as tcp://host:8786",
            "nonsense": "no scheduler answers at 'nonsense'",
            "": "no scheduler answers at ''",
            "tls://127.0.0.1:1": "no scheduler answers at 'tls://127.0.0.1:1'",
        }
        for address, match in says.items():
            with pytest.raises(ClusterError, match=match), connected(address):
                pass


def test_what_a_worker_is_asked_first_needs_no_package_there():
    """Else a worker without it ends its connection, and is not named: the question names no module of it."""
    import io

    from distributed.protocol.pickle import dumps

    from fullbatch.fold.dask import asked_here

    named = []

    class Looking(pickle.Unpickler):
        def find_class(self, module, name):
            named.append(module)
            return super().find_class(module, name)

    question = Looking(io.BytesIO(dumps(asked_here()))).load()
    assert question() == here()
    assert [module for module in named if module.startswith("fullbatch")] == []


def test_nothing_of_ours_is_sent_before_the_versions_are_known(client, tmp_path, monkeypatch):
    """A worker without fullbatch that is sent the name of a module of it is gone, and its task waits for another."""
    told = {**here(), "versions": {"fullbatch": "0.0.1"}}
    with connected(client) as workers, monkeypatch.context() as patch:
        patch.setattr(on_dask, "here", lambda: told)
        with pytest.raises(ClusterError, match=r"has fullbatch .*, and this program runs 0\.0\.1: install the same"):
            workers.each(os.mkdir, [(str(tmp_path / "done"),)])
        assert not (tmp_path / "done").exists()
        patch.undo()
        workers.each(os.mkdir, [(str(tmp_path / "done"),)])
        assert (tmp_path / "done").exists()
        patch.setattr(workers, "survey", lambda: pytest.fail("all workers are known"))
        workers.each(os.rmdir, [(str(tmp_path / "done"),)])


def test_no_client(path):
    with pytest.raises(ClusterError, match=r"there is no Dask client: make one first"):
        fullbatch.dask.MLPClassifier().fit(path)
    with pytest.raises(InputError, match=r"client must be a distributed.Client or a scheduler's address; got int"):
        fullbatch.dask.MLPClassifier(client=3).fit(path)


def test_a_path_that_workers_do_not_see(client, path, monkeypatch):
    other = path.with_name("moved")
    with connected(client) as workers, ClusterStore(path, workers) as store:
        os.rename(path, other)
        try:
            with pytest.raises(StoreError, match="Every worker reads the store by this path"):
                fb.MLPClassifier().fit(store)
        finally:
            os.rename(other, path)


def test_what_is_no_store(client, tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"is no store.*fullbatch convert"):
        fullbatch.dask.MLPClassifier(client=client).fit(tmp_path / "table.csv")
    with pytest.raises(TableError, match="the target is a column of the table: give target="):
        fullbatch.dask.TableClassifier(client=client).fit(tmp_path / "table.csv")
    with pytest.raises(StoreError, match="there is no store"):
        fullbatch.dask.TableClassifier(client=client).fit(tmp_path / "nothing")
    with pytest.raises(InputError, match="a cluster learns from a store, its path, or a Dask collection; got ndarray"):
        fullbatch.dask.MLPClassifier(client=client).fit(np.ones((3, 2)), np.ones(3))
    with pytest.raises(InputError, match="partial_fit is refused on a cluster"):
        fullbatch.dask.MLPClassifier(client=client).partial_fit(np.ones((3, 2)), np.ones(3))


def test_a_worker_killed_between_its_answer_and_the_fetching_of_it_is_left_out(monkeypatch):
    class Future:
        status = "finished"

        def __init__(self, address):
            self.address = address

        def done(self):
            return True

        def result(self, timeout):
            if self.address == "killed":
                there.pop("killed", None)
                raise TimeoutError
            return {"isas": []}

        def release(self):
            pass

    there = {"killed": 1, "other": 2}

    class Client:
        @staticmethod
        def nthreads():
            return dict(there)

        @staticmethod
        def submit(*args, workers, **how):
            return Future(*workers)

    monkeypatch.setattr(on_dask, "SLICE", 0.0)
    assert on_dask.OnDask(Client()).survey() == {"other": {"isas": [], "threads": 2}}


def test_workers_that_are_paused_are_told_of_with_the_cure(monkeypatch):
    class Paused:
        @staticmethod
        def nthreads():
            return {"tcp://one:1": 1}

        @staticmethod
        def submit(*args, **how):
            return SimpleNamespace(done=lambda: False, release=lambda: None)

    monkeypatch.setattr(on_dask, "FIRST", 0.05)
    match = r"none of the 1 workers answered within 0\.05 s, as tcp://one:1: .*give it more memory"
    with pytest.raises(ClusterError, match=match):
        on_dask.OnDask(Paused(), timeout=0.01).survey()


def test_an_empty_cluster_is_waited_for_with_a_line(path):
    import distributed

    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", processes=True) as cluster,
        connected(cluster.scheduler_address, wait=0.3) as workers,
        ClusterStore(path, workers) as store,
        pytest.warns(UserWarning, match="has no worker; waiting up to 0.3 s"),
        pytest.raises(ClusterError, match=r"no worker came to .* within 0.3 s"),
    ):
        fb.MLPClassifier().fit(store)


def test_a_killed_worker_that_distributed_does_not_know_when_it_closes_is_no_error():
    class Cluster:
        def close(self):
            closed.append(self)
            raise KeyError("tcp://127.0.0.1:40723")

    closed = []
    with connection.ended(Cluster()) as cluster:
        pass
    assert closed == [cluster]
