#!/usr/bin/env bash
# onnxruntime 1.32.0, CPU: Sigmoid in float32 is exactly 0 from about z = -18 down, where 1 / (1 + e^18) = 1.5e-8 is an
# ordinary number of float32; before that it comes in steps of 3e-8, so that z = -17 gives more than z = -16 does. In
# float64 the absolute error is 1e-16 as well, a thousandth of the value at z = -30. So a rare class has the probability 0,
# whose logarithm is minus infinity. exp(min(z, 0)) / (1 + exp(-|z|)) by the library's own Exp and Div is right to the last
# digits in both, which is why our graphs have it.
#
# Seen on 2026-11-27, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'onnxruntime==1.32.0' 'onnx==1.23.2' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper


def run(nodes, z):
    kind = helper.np_dtype_to_tensor_dtype(z.dtype)
    x, y = (helper.make_tensor_value_info(name, kind, ["N"]) for name in "xy")
    named = {"zero": 0, "one": 1} if len(nodes) > 1 else {}
    constants = [helper.make_tensor(name, kind, [], [value]) for name, value in named.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": z})[0]


z = np.array([-16, -17, -18, -20, -30], np.float32)
expected = 1 / (1 + np.exp(-z.astype(np.float64)))
node = helper.make_node
stable = [
    node("Min", ["x", "zero"], ["m"]), node("Exp", ["m"], ["e"]), node("Abs", ["x"], ["a"]), node("Neg", ["a"], ["n"]),
    node("Exp", ["n"], ["f"]), node("Add", ["one", "f"], ["d"]), node("Div", ["e", "d"], ["y"]),
]
own = run([node("Sigmoid", ["x"], ["y"])], z)
print("onnxruntime", onnxruntime.__version__, "z", z.tolist())
print("Sigmoid float32", own.tolist())
print("Exp and Div    ", run(stable, z).tolist())
print("expected       ", expected.tolist())
np.testing.assert_allclose(run(stable, z), expected, rtol=1e-5)
np.testing.assert_allclose(run(stable, z.astype(np.float64)), expected, rtol=1e-14)
wide = run([node("Sigmoid", ["x"], ["y"])], z.astype(np.float64))
print("Sigmoid float64", wide.tolist())
assert abs(wide[-1] / expected[-1] - 1) > 1e-4
sys.exit(0 if own[1] > own[0] and (own[2:] == 0).all() else "it is no longer 0: this has changed")
PYTHON
