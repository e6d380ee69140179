#!/usr/bin/env bash
# jax 0.10.2, the array API standard's way to make an array beside another, xp.zeros(shape, device=w.device):
#     w = jnp.asarray(2.0)                    w is on cpu:0; X * w works, X spread over cpu:0 and cpu:1
#     b = jnp.zeros((), device=w.device)      b is on cpu:0 too, and b.device == w.device; but X + b is a ValueError,
#                                             "Received incompatible devices for jitted computation"
# To name the device, even the one where the array would have been anyway, is to commit the array to it. zeros_like(w) is
# not committed. And X.device is not a device but a sharding, which fits arrays of X's shape: jnp.asarray([1.0, 2.0, 3.0],
# device=X.device) is a ValueError, since 3 cannot be cut in two.
#
# Seen on 2026-11-27, Python 3.11, two devices of one CPU. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'jax==0.10.2' 'jaxlib==0.10.2' 'numpy==2.4.6'
XLA_FLAGS=--xla_force_host_platform_device_count=2 JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

over = NamedSharding(Mesh(np.array(jax.devices()), ("m",)), PartitionSpec("m"))
X = jax.device_put(jnp.arange(4.0), over)
w = jnp.asarray(2.0)
b = jnp.zeros((), device=w.device)
assert w.device == b.device
(X * w).block_until_ready()
(X + jnp.zeros_like(w)).block_until_ready()
print(f"jax {jax.__version__}: w.device is {w.device}, b.device is {b.device}, X.device is {X.device}")
changed = False
for text, compute in [
    ("X + b", lambda: X + b),
    ("jnp.asarray([1.0, 2.0, 3.0], device=X.device)", lambda: jnp.asarray([1.0, 2.0, 3.0], device=X.device)),
]:
    try:
        compute()
    except ValueError as error:
        print(f"{text}: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
    else:
        print(f"{text}: no error, this has changed", file=sys.stderr)
        changed = True
sys.exit(changed)
PYTHON
