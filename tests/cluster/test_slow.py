"""What takes minutes, for .ci/slow: kills at random moments, a scheduler that is gone, and a network that is."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import ExitStack

import numpy as np
import pytest

import fullbatch as fb
import fullbatch.dask
from callbacks import At
from fullbatch.dask.connection import ended
from fullbatch.errors import ClusterError

distributed = pytest.importorskip("distributed", reason="distributed is not installed")
dask = pytest.importorskip("dask")
pytestmark = [
    pytest.mark.skipif("FULLBATCH_SLOW" not in os.environ, reason="it takes minutes: set FULLBATCH_SLOW"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
HOW = {"hidden_layer_sizes": (8,), "solver": "lbfgs", "max_iter": 20, "random_state": 0}


@pytest.fixture
def two_workers():
    """Makes a client of two new workers: a nanny whose process is killed while it starts makes no other."""
    with ExitStack() as stack:

        def make():
            stack.pop_all().close()
            cluster = distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
            )
            return stack.enter_context(distributed.Client(stack.enter_context(ended(cluster))))

        own = {"distributed.nanny.pre-spawn-environ": {}}
        with dask.config.set(own):
            yield make


def test_twenty_kills_at_random_moments_cost_no_bit(two_workers, path):
    with fb.open_store(path) as store:
        expected = fb.MLPClassifier(**HOW).fit(store)
    chance, lost = random.Random(0), 0
    for _ in range(int(os.environ.get("KILLS", "20"))):
        client = two_workers()
        process = chance.choice(sorted(client.run(os.getpid).values()))
        timer = threading.Timer(chance.uniform(0.0, 1.0), os.kill, (process, signal.SIGKILL))
        timer.start()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = fullbatch.dask.MLPClassifier(**HOW, client=client).fit(path)
        timer.join()
        lost += any("was lost" in str(one.message) for one in caught)
        for one, other in zip(model.coefs_ + model.intercepts_, expected.coefs_ + expected.intercepts_, strict=True):
            np.testing.assert_array_equal(one, other)
    assert lost  # else no kill came while it trained


def test_a_scheduler_that_is_gone_is_said(path, tmp_path):
    """Its address is read from the file that it writes; what is kept goes on without a cluster."""
    file, kept = tmp_path / "scheduler.json", tmp_path / "kept"
    options = ["--scheduler-file", str(file), "--no-dashboard"]
    modules = {"dask_scheduler": ["--port", "0"], "dask_worker": ["--nthreads", "1"]}
    started = [
        subprocess.Popen([sys.executable, "-m", f"distributed.cli.{name}", *options, *own], stderr=subprocess.DEVNULL)
        for name, own in modules.items()
    ]
    try:
        with distributed.Client(scheduler_file=str(file), timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
            model = fullbatch.dask.MLPClassifier(**HOW, client=client)
            model.set_callbacks(At(2, started[0].kill), fb.Checkpoint(kept, 0))
            with pytest.raises(ClusterError, match=r"does not answer any more.*goes on from there with resume="):
                model.fit(path)
    finally:
        for process in started:
            process.kill()
            process.wait()
    with fb.open_store(path) as store:
        found = fb.MLPClassifier(**HOW).fit(store, resume=fb.Checkpoint(kept))
        expected = fb.MLPClassifier(**HOW).fit(store)
    np.testing.assert_array_equal(found.coefs_[0], expected.coefs_[0])


# --- Two machines, as far as the network goes ------------------------------------------------------------------------

ALONE, OTHER, CARD = "fullbatch-a", "fullbatch-b", "fullbatch-v"
TRAINS = """
import subprocess, sys, warnings
import distributed
import fullbatch as fb
from callbacks import At
from fullbatch.dask.connection import connected
from fullbatch.dask.store import ClusterStore

file, path, model = sys.argv[1:]
how = {"hidden_layer_sizes": (8,), "solver": "lbfgs", "max_iter": 20, "random_state": 0}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with distributed.Client(scheduler_file=file, timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
        with connected(client, timeout=2.0) as workers, ClusterStore(path, workers) as store:
            found = fb.MLPClassifier(**how)
            found.set_callbacks(At(3, lambda: subprocess.run(["ip", "link", "set", "NAMEa", "down"], check=True)))
            found.fit(store)
    found.set_callbacks()
print(sum("was lost" in str(one.message) for one in caught))
fb.save(found, model)
"""


@pytest.fixture
def two_networks():
    """Two network namespaces with a cable between them."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces are root's, by ip")

    def ip(*words, check=True):
        subprocess.run(["ip", *words], check=check, stderr=None if check else subprocess.DEVNULL)

    try:
        for name in (ALONE, OTHER):
            ip("netns", "add", name)
        ip("link", "add", f"{CARD}a", "netns", ALONE, "type", "veth", "peer", f"{CARD}b", "netns", OTHER)
        for name, end, address in ((ALONE, "a", "10.77.0.1/24"), (OTHER, "b", "10.77.0.2/24")):
            ip("-n", name, "addr", "add", address, "dev", f"{CARD}{end}")
            ip("-n", name, "link", "set", f"{CARD}{end}", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in (ALONE, OTHER):
            ip("netns", "del", name, check=False)


def test_a_machine_whose_network_is_gone_is_lost_and_costs_no_bit(two_networks, path, tmp_path):
    """The scheduler, a worker and the training are in one network, the other worker in the other."""
    file, model = tmp_path / "scheduler.json", tmp_path / "model"

    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def within(name, *words, **options):
        return subprocess.Popen(["ip", "netns", "exec", name, sys.executable, *words], env=here, **options)

    quiet = {"stderr": subprocess.DEVNULL}
    cli, told = "distributed.cli.dask_", ["--scheduler-file", str(file), "--no-dashboard"]
    started = [within(ALONE, "-m", f"{cli}scheduler", *told, "--host", "10.77.0.1", "--port", "0", **quiet)]
    for name, host in ((ALONE, "10.77.0.1"), (OTHER, "10.77.0.2")):
        started.append(within(name, "-m", f"{cli}worker", *told, "--nthreads", "1", "--host", host, **quiet))
    try:
        script = TRAINS.replace("NAME", CARD)
        training = within(ALONE, "-c", script, str(file), str(path), str(model), stdout=subprocess.PIPE, text=True)
        told, _ = training.communicate(timeout=300)
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert (training.returncode, told) == (0, "1\n")
    with fb.open_store(path) as store:
        expected = fb.MLPClassifier(**HOW).fit(store)
    for one, other in zip(fb.load(model).coefs_, expected.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)
