"""Which cluster it is: a client that there is, a scheduler's address, or workers that are started here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from fullbatch.errors import ClusterError, InputError

LOCAL = "local"
CONNECT = 10.0  # seconds for a scheduler to answer


@contextmanager
def connected(
    client: Any = None, *, workers: int | None = None, timeout: float = 30.0, wait: float = 60.0
) -> Iterator[Any]:
    """A cluster's ``Workers`` while it is needed.

    client  : a client of distributed; its scheduler's address; "local": workers are started here, and ended; None: the
        current client
    workers : how many of these, of one thread each; None: one a core
    timeout : seconds until a worker that says nothing is looked after;  wait : for a worker where there is none
    """
    try:
        import distributed
    except ImportError as error:
        raise ClusterError("a cluster needs distributed: pip install 'fullbatch[dask]'.") from error
    from fullbatch.fold.dask import OnDask

    if workers is not None and client != LOCAL:
        raise InputError("the number of workers is that of a cluster which is started here, with client='local'.")
    with ExitStack() as stack:
        if client is None:
            client = _current(distributed)
        elif client == LOCAL:
            client = stack.enter_context(distributed.Client(stack.enter_context(ended(_local(distributed, workers)))))
        elif isinstance(client, str):
            client = stack.enter_context(_at(distributed, client, CONNECT))
        elif not isinstance(client, distributed.Client):
            raise InputError(
                f"client must be a distributed.Client or a scheduler's address; got {type(client).__name__}."
            )
        stack.enter_context(client.as_current())  # An actor finds its client by that, and not by the one it came from.
        yield OnDask(client, timeout, wait)


@contextmanager
def ended(cluster: Any) -> Iterator[Any]:
    """A cluster that was started here, closed in the end, also where workers of it were killed."""
    try:
        yield cluster
    finally:
        # distributed 2026.8.0 closes all and may then look up a killed worker among those that it knows.
        with suppress(KeyError):
            cluster.close()


def _current(distributed: Any) -> Any:
    try:
        return distributed.get_client()
    except ValueError:
        raise ClusterError(
            "there is no Dask client: make one first, distributed.Client('tcp://host:8786'), or give its address as "
            "client=; client='local' starts workers here."
        ) from None


def _local(distributed: Any, workers: int | None) -> Any:
    import dask

    from fullbatch.machine.threads import thread_count

    # What Dask would set for the workers, it sets in this process and leaves there: OMP_NUM_THREADS=1 and its kin, by
    # which whatever is fitted here afterwards would take one thread.
    # Nobody reads the profile that Dask takes of each process a hundred times a second. The rest is done by the clock
    # too, by workers, nannies and scheduler, on cores that the workers compute on: 34 ms of CPU in each second for two.
    quiet = {
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "500ms",
        "distributed.admin.system-monitor.interval": "2s",
        "distributed.worker.memory.monitor-interval": "250ms",
        "distributed.scheduler.active-memory-manager.start": False,
    }
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {}, **quiet}):
        return distributed.LocalCluster(
            n_workers=workers or thread_count(None),
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )


def _at(distributed: Any, address: str, timeout: float) -> Any:
    try:
        # Asked before a client is made of it: that of distributed 2026.8.0 waits without end for whatever else listens
        # there, and one that could not be made is closed with a traceback.
        with ThreadPoolExecutor(1) as thread:  # This one may have a loop that runs, as in a notebook.
            kind = thread.submit(asyncio.run, _kind(address, timeout)).result()
        if kind != "Scheduler":
            raise ClusterError(f"at {address} is a {kind.lower()} of Dask; give the address of its scheduler.")
        return distributed.Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise ClusterError(
            f"no scheduler answers at {address!r} ({reason}); `dask scheduler` starts one, and `dask worker ADDRESS` "
            "gives it a worker. The address is as tcp://host:8786."
        ) from None


async def _kind(address: str, timeout: float) -> str:
    """What answers at an address. OSError, ValueError or TypeError with the reason where nothing of Dask does."""
    from distributed.core import rpc
    from distributed.security import Security

    there = rpc(address, timeout=timeout, connection_args=Security().get_connection_args("client"))
    asked = asyncio.ensure_future(there.identity())
    # Not wait_for, which would wait for the end of what it gives up.
    await asyncio.wait([asked], timeout=timeout)
    if not asked.done():
        asked.add_done_callback(lambda task: task.cancelled() or task.exception())
        raise TimeoutError(f"no answer within {timeout:g} s")
    try:
        return str(asked.result()["type"])
    finally:
        await there.close_rpc()
