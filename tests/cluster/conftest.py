"""A cluster of processes, which talk over TCP: one for all tests of the room, of whose workers some are killed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fullbatch.dask import connection
from fullbatch.tables import store as stores

LEAF = 65_536


@pytest.fixture(scope="package")  # its processes and threads are never quite idle, so they end with the room's tests
def cluster():
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    import dask

    # Else each start of a worker sets OMP_NUM_THREADS=1 in this process, for all tests that follow.
    own = dask.config.set({"distributed.nanny.pre-spawn-environ": {}})
    with own, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ports and of a machine that is busy
        with connection.ended(connection._local(distributed, 3)) as cluster:  # which do less by the clock than Dask's
            yield cluster


@pytest.fixture
def client(cluster):
    """With three workers, however many the last test has killed."""
    import distributed

    with distributed.Client(cluster) as client:
        client.wait_for_workers(3, timeout=60)
        yield client


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    """A store of 5 leaves, the last one short, and held-out rows."""
    rng = np.random.default_rng(0)
    m = 5 * LEAF
    a, b = rng.normal(size=(2, m)).astype(np.float32)
    table = {"a": a, "b": b, "late": np.where(a * b + rng.normal(size=m) > 0, "yes", "no")}
    path = tmp_path_factory.mktemp("cluster") / "table.store"
    stores.convert(table, path, "late", validation=0.1)
    return path
