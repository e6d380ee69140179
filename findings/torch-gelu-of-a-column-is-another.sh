#!/usr/bin/env bash
# torch's gelu, sigmoid, silu, softplus, elu and mish give a number one value among its neighbours and another alone or in
# a column of a wider tensor: what lies contiguous goes through vectors of the processor, what does not through the C
# library. Mostly that is 1 to 4 of the last place. gelu(-5.3492) is 3.19e-07 below 0 contiguous and 1.59e-07 as a column,
# where 2.36e-07 is right. So one row's prediction is not that of the same row in a batch, nor are two layouts of one
# table. exp, tanh, erf and logsigmoid have the same bits either way.
#
# fullbatch's pass on tensors is made of exp and tanh alone. Seen on 2026-11-28, Python 3.11, a processor with AVX-512. It
# exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())
x = torch.linspace(-8, 8, 4099)
table = torch.stack([x, x, x], 1)
others, same = ["gelu", "sigmoid", "silu", "softplus", "elu", "mish"], ["exp", "tanh", "erf", "logsigmoid"]
for name in others + same:
    f = getattr(F, name, None) or getattr(torch, name)
    batch, column = f(x), f(table[:, 1])
    alone = torch.cat([f(one) for one in x.split(1)])
    print(f"{name:10} {int((batch != column).sum()):4} of {len(x)} are others in a column, and alone the column's")
    assert torch.equal(column, alone), name
    assert torch.equal(batch, column) == (name in same), name

one = torch.full((64, 3), -5.3492)
among, column = F.gelu(one[:, 1].clone())[0], F.gelu(one[:, 1])[0]
print(f"gelu(-5.3492) {among:.3g} among its like, {column:.3g} in a column, {F.gelu(one.double())[0, 0]:.3g} in float64")
assert among < 1.5 * column
PYTHON
