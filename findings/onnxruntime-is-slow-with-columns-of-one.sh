#!/usr/bin/env bash
# onnxruntime takes 40 to 100 times as long to divide, add, subtract or multiply a column of shape (N, 1) and a scalar as
# the same numbers of shape (N,) or (N / 2, 2): 10 ms where 0.1 to 0.2 are enough for a million float32, on one thread of
# one CPU. What a graph makes of a network's single output, which is (N, 1), is worth a Squeeze before, an Unsqueeze after.
#
# fullbatch's graphs compute a single output unit of shape (N,).
# Seen on 2026-11-28, Python 3.11. It exits with 1 where it is less than 5 times.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper


def milliseconds(operator, shape, values):
    """The least CPU time of 15 calls, by one thread."""
    about = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    scalar = helper.make_tensor("c", TensorProto.FLOAT, [], [3.0])
    graph = helper.make_graph([helper.make_node(operator, ["x", "c"], ["y"])], "g", about[:1], about[1:], [scalar])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    took = []
    for _ in range(15):
        begin = time.process_time()
        session.run(None, {"x": values})
        took.append(time.process_time() - begin)
    return min(took) * 1e3


values = np.random.default_rng(0).random(1_000_000, np.float32)
print("onnxruntime", onnxruntime.__version__, "- ms of CPU for 1,000,000 float32 and a scalar")
for operator in ("Div", "Add", "Sub", "Mul"):
    flat = milliseconds(operator, ["N"], values)
    column = milliseconds(operator, ["N", 1], values[:, None])
    two = milliseconds(operator, ["N", 2], values.reshape(-1, 2))
    print(f"{operator}: (N,) {flat:.2f}; (N / 2, 2) {two:.2f}; (N, 1) {column:.2f}")
    assert operator != "Div" or column > 5 * max(flat, two), "a column is no slower now"
PYTHON
