"""The tests pass whatever is in the caller's environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOSTILE = {
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "LOKY_MAX_CPU_COUNT": "1",
    "FULLBATCH_NATIVE": "off",
    "FULLBATCH_DEBUG": "1",
    "LC_ALL": "C",
    "LANG": "tr_TR.ISO-8859-9",
    "COLUMNS": "20",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "HOME": "/nonexistent",
    "PYTHONWARNINGS": "error",
}
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
SAMPLE = [
    "bench/tests/test_bench.py::test_what_a_reader_should_doubt_is_said",
    "tests/machine/test_safe_output.py",
    "tests/command/test_report.py",
    "tests/fold/test_fold.py::test_the_block_is_fixed_by_shape_and_dtype",
    "tests/machine/test_threads.py::test_affinity_is_respected",
    "tests/command/test_app.py::test_a_training_outlives_its_terminal_long_enough_to_keep_the_model",
]


def test_a_sample_passes_in_a_hostile_environment():
    before = os.umask(0o077)
    try:
        done = subprocess.run(
            ["sh", "-c", 'trap "" HUP INT TERM; exec "$@"', "sh", sys.executable, *PYTEST, *SAMPLE],
            cwd=ROOT, env={**os.environ, **HOSTILE}, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
