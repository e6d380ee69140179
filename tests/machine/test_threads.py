"""How many threads, and BLAS held to one in each: nested, concurrent, after a fork, in joblib's workers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed
from threadpoolctl import threadpool_info, threadpool_limits

import fullbatch as fb
from fullbatch.errors import InputError
from fullbatch.machine import threads
from fullbatch.machine.threads import one_blas_thread, thread_count
from reference import problem


def blas_threads():
    """Of the BLAS that NumPy uses; SciPy's wheel brings another, which other tests may have loaded."""
    every = [info for info in threadpool_info() if info["user_api"] == "blas"]
    return [info["num_threads"] for info in every if "numpy" in info["filepath"]] or [every[0]["num_threads"]]


def run_python(code, **environment):
    """The code in an interpreter of its own; its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def counted_anew():
    threads._cpu_count.cache_clear()
    yield
    threads._cpu_count.cache_clear()


# --- How many -------------------------------------------------------------------------------------------------------


def test_as_many_as_asked_for():
    assert [thread_count(n) for n in (1, 3, np.int64(2))] == [1, 3, 2]
    assert type(thread_count(np.int64(2))) is int


@pytest.mark.parametrize("bad", [0, -1, 2.0, "2", True, np.bool_(True)])
def test_not_a_number_of_threads(bad):
    with pytest.raises(InputError, match="threads must be an integer of at least 1, or None for all cores"):
        thread_count(bad)


def test_by_default_all_that_this_process_may_use(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert thread_count(None) == joblib.cpu_count()
    threads._cpu_count.cache_clear()
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)  # which knows of affinity and a cgroup's quota
    assert thread_count(None) == 8


@pytest.mark.parametrize("before", ["", "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"])
@pytest.mark.parametrize("limit", ["", "1", "3", "1000"])
def test_the_count_of_joblib_is_made_without_importing_it(before, limit):
    """An import of joblib takes a fifth of the time of a command."""
    if before and not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    code = f"import os, sys\n{before}\nfrom fullbatch.machine.threads import thread_count\n"
    code += "own = thread_count(None)\nassert 'joblib' not in sys.modules\nimport joblib\n"
    code += "print(own, thread_count(None), joblib.cpu_count())"
    limits = {"LOKY_MAX_CPU_COUNT": limit} if limit else {}
    counts = run_python(code, OMP_NUM_THREADS="", **limits).split()
    assert len(set(counts)) == 1
    if before or limit == "1":
        assert counts[0] == "1"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 0),
        ({"cpu.max": "max 100000\n"}, 0),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.max": "nonsense"}, 0),
    ],
)
def test_the_quota_of_a_cgroup(tmp_path, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads._quota(tmp_path) == cores


@pytest.mark.parametrize(
    ("value", "count"),
    [("1", 1), ("3", 3), ("3,2", 3), (" 2 ", 2), ("100", 8), ("", 8), ("0", 8), ("-1", 8), ("many", 8)],
)
def test_omp_num_threads_is_respected(monkeypatch, value, count):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert thread_count(None) == count
    assert thread_count(5) == 5  # what was asked for explicitly counts


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity_is_respected():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    code += "from fullbatch.machine.threads import thread_count\nprint(thread_count(None))"
    assert run_python(code, OMP_NUM_THREADS="").strip() == "1"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_what_a_process_changes_itself_is_counted_again(monkeypatch):
    """Its affinity, and the limit that joblib reads from the environment."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    asked = []
    monkeypatch.setattr(joblib, "cpu_count", lambda: asked.append(1) or 8)
    for _ in range(3):
        thread_count(None)
    assert len(asked) == 1
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "3")
    thread_count(None)
    assert len(asked) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    thread_count(None)
    assert len(asked) == 3


def test_a_worker_of_joblib_takes_its_share(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    share = max(joblib.cpu_count() // 2, 1)
    assert Parallel(n_jobs=2)(delayed(thread_count)(None) for _ in range(4)) == [share] * 4
    assert Parallel(n_jobs=2, backend="threading")(delayed(thread_count)(None) for _ in range(4)) == [1] * 4
    assert Parallel(n_jobs=1)(delayed(thread_count)(None) for _ in range(2)) == [thread_count(None)] * 2
    assert thread_count(None) == joblib.cpu_count()


# --- BLAS -----------------------------------------------------------------------------------------------------------


def test_blas_has_one_thread_inside_and_what_it_had_before_outside():
    with threadpool_limits(3, user_api="blas"):
        before = threadpool_info()
        with one_blas_thread():
            assert set(blas_threads()) == {1}
            with one_blas_thread():
                assert set(blas_threads()) == {1}
            assert set(blas_threads()) == {1}
        assert threadpool_info() == before
        with pytest.raises(ZeroDivisionError), one_blas_thread():
            raise ZeroDivisionError
        assert threadpool_info() == before


@pytest.mark.parametrize("main_is", ["first", "second", "neither"])
def test_overlapping_holds_of_several_threads_leave_no_limit_behind(main_is):
    """The first begins, the second begins, the first ends, the second ends: a limit that each restores would stay.

    The outer limit makes the main thread the only one that threadpoolctl 3.8 lets set OpenBLAS.
    """
    with threadpool_limits(3, user_api="blas"):
        before = threadpool_info()
        steps = [threading.Event() for _ in range(3)]
        inside = []

        def first():
            with one_blas_thread():
                inside.append(blas_threads())
                steps[0].set()
                steps[1].wait(30)
            steps[2].set()

        def second():
            steps[0].wait(30)
            with one_blas_thread():
                steps[1].set()
                steps[2].wait(30)
                inside.append(blas_threads())

        here = {"first": first, "second": second}.get(main_is)
        others = [threading.Thread(target=f) for f in (first, second) if f is not here]
        for thread in others:
            thread.start()
        if here:
            here()
        for thread in others:
            thread.join(60)
        assert [set(numbers) for numbers in inside] == [{1}, {1}]
        assert threads._holders == 0
        assert threadpool_info() == before
    with threadpool_limits(2, user_api="blas"):
        assert set(blas_threads()) == {2}  # and whoever sets a limit next is heard


def test_trainings_in_several_python_threads_give_the_same_bits_and_leave_blas_alone():
    params, X, Y = problem([6, 20, 1], 9_000, "sigmoid", dtype="float32")
    network = fb.Network([6, 20, 1])
    results, failures = {}, []

    def train(k):
        try:
            run = fb.gradient_descent(network, params, X, Y, learning_rate=0.3, iterations=5, threads=1 + k % 3)
            results[k] = run.costs
        except BaseException as error:
            failures.append(error)

    with threadpool_limits(3, user_api="blas"):
        before = threadpool_info()
        crowd = [threading.Thread(target=train, args=(k,)) for k in range(6)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join(120)
        assert failures == []
        assert len(results) == 6
        assert all(costs == results[0] for costs in results.values())
        assert threadpool_info() == before


@pytest.mark.parametrize("count", [1, 2])
def test_blas_has_one_thread_while_a_fold_is_open_and_only_then(count):
    """Also with one thread of ours: BLAS with several could round its sums in another way."""
    seen = []
    params, X, Y = problem([3, 4, 1], 20_000, "sigmoid")

    def g(Z):
        seen.extend(blas_threads())
        return np.tanh(Z)

    with threadpool_limits(3, user_api="blas"):
        fb.cost(fb.Network([3, 4, 1], hidden=(g, np.cos)), params, X, Y, threads=count)
        assert set(seen) == {1}
        assert set(blas_threads()) == {3}


def test_a_fold_inside_a_fold():
    """A user's activation that itself computes a cost."""
    params, X, Y = problem([3, 4, 1], 2_000, "sigmoid")
    inner = fb.Network([3, 4, 1])

    def g(Z):
        fb.cost(inner, params, X[:, :50], Y[:, :50], threads=2)
        return np.tanh(Z)

    outer = fb.Network([3, 4, 1], hidden=(g, lambda Z: 1 - np.tanh(Z) ** 2))
    with threadpool_limits(3, user_api="blas"):
        before = threadpool_info()
        J = fb.cost(outer, params, X, Y, threads=2)
        assert threadpool_info() == before
    assert pytest.approx(fb.cost(inner, params, X, Y), rel=1e-12) == J


# --- After a fork ---------------------------------------------------------------------------------------------------

FORK = """
import os, sys, threading, warnings
import numpy as np
import fullbatch as fb
from fullbatch.machine.threads import one_blas_thread
from threadpoolctl import threadpool_info, threadpool_limits

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads, which is the point
network = fb.Network([28, 64, 1])
params = network.init(seed=0)
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((28, 20_000)), (rng.random((1, 20_000)) < 0.5).astype(float)

def blas():
    return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]

def child_is_well(expected, before):
    pid = os.fork()
    if pid == 0:
        try:
            ok = blas() == before and fb.cost_and_gradients(network, params, X, Y, threads=2)[0] == expected
            with one_blas_thread():
                ok = ok and blas() == [1] * len(before)
            ok = ok and blas() == before
        except BaseException as error:
            print(error, flush=True)
            ok = False
        os._exit(0 if ok else 1)
    return os.waitpid(pid, 0)[1] == 0

threadpool_limits(2, user_api="blas")
before = blas()
J, _ = fb.cost_and_gradients(network, params, X, Y, threads=2)
print(child_is_well(J, before))                      # after a fold

inside, done = threading.Event(), threading.Event()
def hold():
    with one_blas_thread():
        inside.set()
        done.wait(60)
holder = threading.Thread(target=hold)
holder.start()
inside.wait(60)
print(child_is_well(J, before))                      # while another thread of the parent holds BLAS to one thread
done.set()
holder.join()
print(blas() == before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_of_a_fork_folds_with_threads_too():
    assert run_python(FORK).split() == ["True", "True", "True"]


FORKS = """
import os, signal, threading, time, warnings
import numpy as np
import fullbatch as fb

warnings.simplefilter("ignore", DeprecationWarning)
network = fb.Network([5, 3, 1])
params = network.init(seed=0)
X, Y = np.ones((5, 50)), np.ones((1, 50))
expected = fb.cost(network, params, X, Y, threads=1)
ended = threading.Event()

def fit():
    while not ended.is_set():
        fb.cost(network, params, X, Y, threads=1)

beside = [threading.Thread(target=fit) for _ in range(2)]
for thread in beside:
    thread.start()
well = 0
for _ in range(60):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)                             # a child that hangs ends with a signal
        os._exit(0 if fb.cost(network, params, X, Y, threads=1) == expected else 1)
    well += os.waitpid(pid, 0)[1] == 0
ended.set()
for thread in beside:
    thread.join()
print(well)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks_beside_fits_leave_no_lock_locked():
    assert run_python(FORKS).split() == ["60"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_no_thread_sets_blas_while_the_process_forks():
    """What a fork must not meet is made longer: the moment at which a thread sets BLAS's number of threads."""
    slow = """from fullbatch.machine import threads
inside, let = [0], threads._let_this_thread_set_openblas
def slowly():
    inside[0] += 1
    time.sleep(0.002)
    let()
    inside[0] -= 1
threads._let_this_thread_set_openblas = slowly
"""
    # The child sees the count as it was at the moment of the fork.
    script = FORKS.replace("expected = ", f"{slow}expected = ", 1)
    script = re.sub(r"os\._exit\(.*\)", "os._exit(inside[0])", script)
    assert run_python(script).split() == ["60"]


def test_workers_of_joblib_train_to_the_same_bits():
    params, X, Y = problem([6, 20, 1], 9_000, "sigmoid", dtype="float32")
    network = fb.Network([6, 20, 1])
    expected = fb.cost(network, params, X, Y)
    for backend in ("loky", "threading"):
        costs = Parallel(n_jobs=2, backend=backend)(delayed(fb.cost)(network, params, X, Y) for _ in range(3))
        assert costs == [expected] * 3
