#!/usr/bin/env bash
# safetensors.numpy.save takes an array's shape, and its bytes as they lie in memory: of a transposed array, one in column
# order or every second column it writes, without a word, a file whose numbers stand at other places, or are others.
# `coef_.T` is such an array. Its saver for PyTorch refuses tensors that are not contiguous. And what it saves as bfloat16,
# its own loader for NumPy ends on with a KeyError.
#
# fullbatch makes arrays contiguous before it saves them.
# Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6 ml_dtypes==0.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import load, save

W = np.arange(6, dtype=np.float32).reshape(2, 3)
print("safetensors", safetensors.__version__)
for name, given, same in (
    ("in row order", W, True),
    ("transposed", W.T, False),
    ("in column order", np.asfortranarray(W), False),
    ("every second column", W[:, ::2], False),
    ("transposed, made contiguous", np.ascontiguousarray(W.T), True),
):
    back = load(save({"W": given}))["W"]
    print(f"{name}: saved {given.tolist()}, loaded {back.tolist()}")
    assert back.shape == given.shape and np.array_equal(back, given) is same, "it keeps the numbers now"
try:
    load(save({"W": W.astype(ml_dtypes.bfloat16)}))
except KeyError as missing:
    print("bfloat16 is written, and not read:", repr(missing))
else:
    raise SystemExit("bfloat16 is read now")
PYTHON
