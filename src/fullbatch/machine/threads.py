"""How many threads to use, threads beside the caller's, and BLAS held to one thread each while they run.

Blocks are spread over Python threads, which NumPy lets run in parallel, so a BLAS that starts threads of its own would
only get in their way; and one BLAS thread gives the same bits however many blocks run at once.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullbatch.errors import InputError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor


def thread_count(threads: int | None) -> int:
    """The number of threads to use: as given, or all that this process may use.

    That respects the process's affinity, a cgroup's quota, OMP_NUM_THREADS (which joblib sets to a worker's share), and
    a joblib worker thread's being one of many.
    """
    if threads is not None:
        if not isinstance(threads, Integral) or isinstance(threads, bool) or threads < 1:
            raise InputError(f"threads must be an integer of at least 1, or None for all cores; got {threads!r}.")
        return int(threads)
    if "joblib.parallel" in sys.modules:  # Else nothing of this process runs by it, and to import it takes long.
        from joblib.parallel import get_active_backend

        backend, _ = get_active_backend()
        if getattr(backend, "nesting_level", 0) and getattr(backend, "supports_sharedmem", False):
            return 1  # a thread among joblib's threads: the cores are taken
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    affinity = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()
    available = _cpu_count(affinity, os.environ.get("LOKY_MAX_CPU_COUNT"))
    return min(available, int(limit)) if limit.isdigit() and int(limit) > 0 else available


def of_jobs(n_jobs: int | None) -> int | None:
    """scikit-learn's ``n_jobs`` as a number of threads; None: all. -1 stands for all cores, -2 for all but one."""
    if n_jobs is None or n_jobs > 0:
        return n_jobs
    if n_jobs == 0:
        raise ValueError("n_jobs == 0 has no meaning; -1 stands for all cores.")
    return max(1, thread_count(None) + 1 + n_jobs)


@cache
def _cpu_count(affinity: frozenset[int], limit: str | None) -> int:
    """joblib's count of cores. It reads a cgroup's files, which takes as long as the gradient of 500 examples, so it is
    asked again only when what a process can change of it has changed.

    Where joblib is not imported, and the system says what a process may use, the count is made here: the import takes a
    fifth of the time of a command that computes little.
    """
    if "joblib" not in sys.modules and affinity and (limit or "1").isdigit():
        few = [os.cpu_count() or 1, len(affinity), _quota(Path("/sys/fs/cgroup")), int(limit or 0)]
        return min(filter(None, few))
    import joblib

    return int(joblib.cpu_count())


def _quota(folder: Path) -> int:
    """The cores that a cgroup's quota allows, a part of one as one; 0: it has no quota. folder : where its files are"""
    both = folder / "cpu.max"  # of the second version; the first has two files
    files = [both] if both.exists() else [folder / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period")]
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return -(-int(quota) // int(period)) if quota != "max" and int(quota) > 0 and int(period) > 0 else 0
    except (OSError, ValueError):
        return 0


class Helpers:
    """Threads beside the caller's: a pool of at most ``threads``, made when there is something to do.

    Where Python is ending it starts no thread any more, and says so by an error. A function called at exit still fits
    then, and a daemon thread that fits must not die of that error: to write it to stderr while the process ends can end
    it by SIGABRT. So the caller's thread does itself what no other takes.
    """

    def __init__(self, threads: int, name: str) -> None:
        self.threads, self.name = threads, name
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        from concurrent.futures import Future  # here, so that the import of fullbatch stays quick

        future: Future[Any] = Future()
        claim = [function]  # pop is one call in C: one thread alone gets the function

        def work() -> None:
            try:
                claimed = claim.pop()
            except IndexError:
                return
            try:
                future.set_result(claimed(*args))
            except BaseException as error:
                future.set_exception(error)

        try:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor

                self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=self.name)
            self._pool.submit(work)
        except RuntimeError:
            work()  # The pool may hold it all the same, and its threads live: what is claimed is done once.
        return future

    def close(self, *, cancel: bool = False, wait: bool = True) -> None:
        """Wait for the threads; not ``wait``: they end by themselves once they have done what they were given.

        cancel : nothing that waits for a thread begins any more, and the futures of that stay open
        """
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=cancel)
            self._pool = None


_lock = threading.RLock()  # not a plain one: a signal's handler may fork in the thread that holds it
_holders = 0
_controller: Any = None
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread. Nested and concurrent holds are counted: the first sets the limit, the last lifts it.

    Without the count, two overlapping holds would restore each other's limit and leave the process at one thread for
    ever. The controller is kept, because to search the process for BLAS libraries takes 50 times as long as the limit.
    """
    global _holders, _controller, _limit
    with _lock:
        if _holders == 0:
            if _controller is None:
                from threadpoolctl import ThreadpoolController

                # BLAS alone: to lift the limit sets all that is controlled, and OpenMP's numbers are each thread's own.
                _controller = ThreadpoolController().select(user_api="blas")
            _let_this_thread_set_openblas()
            _limit = _controller.limit(limits=1, user_api="blas")
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _lift()


def _lift() -> None:
    _let_this_thread_set_openblas()  # the last to go is often not the one that came first
    _limit.restore_original_limits()
    _let_this_thread_set_openblas()  # and now any other may


def _let_this_thread_set_openblas() -> None:
    """From 3.8 on, threadpoolctl lets the first thread that sets OpenBLAS do so, and ignores all others in silence."""
    from threadpoolctl import OpenBLASController

    if hasattr(OpenBLASController, "clear_controlling_thread"):
        OpenBLASController.clear_controlling_thread(force=True)


def _forget_after_fork() -> None:
    global _holders, _lock, _limit
    _lock = threading.RLock()
    if _holders and _limit is not None:
        _lift()
    _holders, _limit = 0, None


def _hold_before_fork() -> None:
    """No other thread sets BLAS's number of threads while the process forks.

    The library has a lock of its own for that. Held at the moment of the fork, it would stay locked in the child, whose
    next fit would wait for ever.
    """
    _lock.acquire()


def _release_after_fork() -> None:
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_before_fork, after_in_parent=_release_after_fork, after_in_child=_forget_after_fork
    )
