"""The environment that the tests run in, whatever the caller's is: importing this module settles it.

The conftest files of tests/ and bench/tests import it before anything else, because a BLAS reads its variables when
NumPy is loaded. Processes that a test starts inherit what is settled here.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import site
import tempfile
from collections.abc import Iterator

import pytest

# Switches of the tests themselves, which whoever sets them means.
KEPT = {"FULLBATCH_REQUIRE_NATIVE", "FULLBATCH_SLOW"}
# Where Python finds modules and leaves their bytecode does not change what is tested. That it leaves none is taken
# away: each process that a test starts would compile the package, which takes three times as long as what it is for.
KEPT |= {"PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONSAFEPATH", "PYTHONPYCACHEPREFIX"}
PREFIXES = (
    "OPENBLAS_", "OMP_", "MKL_", "BLIS_", "GOTO_", "NVPL_", "VECLIB_", "NUMEXPR_", "NPY_", "FULLBATCH_", "LC_", "XDG_",
    "PYTHON", "CLICOLOR", "SKLEARN_", "JOBLIB_",
)  # fmt: skip
NAMES = (
    "LOKY_MAX_CPU_COUNT", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "LANGUAGE", "COLUMNS", "LINES", "TERMINAL_WIDTH",
    "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE",
    "CUPY_TF32", "NVIDIA_TF32_OVERRIDE", "XLA_FLAGS", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MPLBACKEND",
    "PYTEST_ADDOPTS",
)  # fmt: skip


def settle() -> None:
    """Take away variables that change what is tested, say where home, language and umask are, and hear all signals."""
    user_base = site.getuserbase()  # as it follows from HOME, and packages may lie there
    for name in list(os.environ):
        if name not in KEPT and (name in NAMES or name.startswith(PREFIXES)):
            del os.environ[name]
    home = tempfile.mkdtemp(prefix="fullbatch-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ.update(HOME=home, LANG="C.UTF-8", TERM="xterm")
    os.environ.setdefault("PYTHONUSERBASE", user_base)
    os.umask(0o022)
    for name in ("SIGHUP", "SIGTERM"):  # nohup has a process ignore the first; SIGINT is of the tests that need it
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


settle()


@pytest.fixture(autouse=True)
def environment_stays() -> Iterator[None]:
    """What a test sets in the environment, or a library that it calls, is gone after it: cubed sets OMP_NUM_THREADS."""
    before = dict(os.environ)
    yield
    for name in {*before, *os.environ} - {"PYTEST_CURRENT_TEST"}:
        if name not in before:
            del os.environ[name]
        elif os.environ.get(name) != before[name]:
            os.environ[name] = before[name]
