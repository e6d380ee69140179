#!/usr/bin/env bash
# A sum of float16 or bfloat16 numbers in NumPy stands still once one more is below half a unit in its last place. Whether
# it does depends on the axis: 5,000 ones of float16 give 5000 as a vector (added in pairs), and 2048 each as two columns
# of a row-major table (added row after row); a mean of the same columns is right, since it adds in float32. ml_dtypes'
# bfloat16, which JAX, TensorFlow and safetensors hand to NumPy, stops at 256 in a vector too, and its mean of 5,000 ones
# is what is left of that.
#
# Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 ml_dtypes==0.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import ml_dtypes
import numpy as np

rows = 5000
half = np.ones((rows, 2), np.float16)
print("NumPy", np.__version__, "with ml_dtypes", ml_dtypes.__version__)
print("float16: a vector's sum", half[:, 0].copy().sum(), " columns' sums", half.sum(axis=0), " columns' means", half.mean(axis=0))
assert float(half[:, 0].copy().sum()) == rows
assert half.sum(axis=0).tolist() == [2048, 2048], "it adds otherwise now"
assert half.mean(axis=0).tolist() == [1, 1]
brain = np.ones(rows, ml_dtypes.bfloat16)
print("bfloat16: a vector's sum", brain.sum(), " its mean", brain.mean())
assert float(brain.sum()) == 256, "it adds otherwise now"
assert float(brain.mean()) < 0.06
PYTHON
