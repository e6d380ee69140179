#!/usr/bin/env bash
# A column of ones is a bias by another name: its weight has the bias's gradient. In float32 on a CPU, over 10^7 rows, JAX
# gives the bias's to 8 digits and the weight's 0.26 per cent off, in the same call: the one is a sum, which XLA adds
# in parts, the other a product of a matrix and a vector, which adds row after row. Random data with a mean of 0 hides it;
# any column whose mean is not 0 has it, and it grows with the rows. PyTorch's product does the same, OpenBLAS's does not.
#
# fullbatch adds leaves of rows by a tree, in float64, and `python -m bench accuracy` shows each contender's error.
# Seen on 2026-11-28, Python 3.11, by one thread and by two. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import numpy as np

m = 10_000_000
rng = np.random.default_rng(0)
x = rng.standard_normal((m, 4), dtype=np.float32)
x[:, 0] = 1
y = 3 + rng.standard_normal(m, dtype=np.float32)


def loss(w, b, x, y):
    return ((x @ w + b - y) ** 2).mean() / 2


weight, bias = jax.jit(jax.grad(loss, argnums=(0, 1)))(np.zeros(4, np.float32), np.float32(0), x, y)
exact = -y.mean(dtype=np.float64)
off = {"bias": abs(float(bias) / exact - 1), "weight of a column of ones": abs(float(weight[0]) / exact - 1)}
off["the same product by NumPy"] = abs(float((x.T @ -y)[0]) / m / exact - 1)
for name, error in off.items():
    print(f"JAX {jax.__version__}, {m:,} rows: {name}: {error:.1e} off")
assert off["bias"] < 1e-6
assert off["weight of a column of ones"] > 1e-4, "it adds otherwise now"
PYTHON
