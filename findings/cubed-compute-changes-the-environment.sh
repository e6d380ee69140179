#!/usr/bin/env bash
# cubed 0.27.0: the first compute() of a process sets OMP_NUM_THREADS, MKL_NUM_THREADS, NUMEXPR_NUM_THREADS and
# VECLIB_MAXIMUM_THREADS to 1 in os.environ, and leaves them there. Libraries that are already loaded go on as they were; what
# is loaded later, and every process that is started later, is held to one thread: a benchmark, or a training, after an
# unrelated array was computed runs on one core, and nothing says why.
#
# Seen on 2026-11-27, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'cubed==0.27.0'
env -u OMP_NUM_THREADS -u MKL_NUM_THREADS "$folder/venv/bin/python" - <<'PYTHON'
import os
import subprocess
import sys

import cubed
import numpy as np


def variables(environment):
    return {name: value for name, value in environment.items() if name.endswith(("NUM_THREADS", "MAXIMUM_THREADS"))}


before = variables(os.environ)
array = cubed.from_array(np.ones(4), chunks=(2,))
imported = variables(os.environ)
total = float(cubed.compute(cubed.array_api.sum(array))[0])
code = "import os; print(os.environ.get('OMP_NUM_THREADS'))"
child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
print(f"cubed {cubed.__version__}: before {before}, after the import {imported}, after compute() {variables(os.environ)}")
print(f"the sum is {total}; a process that is started now has OMP_NUM_THREADS={child}")
sys.exit(0 if not before and not imported and child == "1" and total == 4.0 else 1)
PYTHON
