#!/usr/bin/env bash
# onnxruntime 1.32.0: two inputs are declared of the size "N", the same symbol, and one is given 4 values, the other 1. That
# is no error: the one value is stretched over all rows, and the result looks like any other. Only sizes that cannot be
# stretched fail, in the node that meets both. A graph with one input for each column of a table has many such inputs, so a
# server that forgets to repeat a value answers for all rows with the first one's. docs/onnx.md tells our users.
#
# Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'onnxruntime==1.32.0' 'onnx==1.23.2' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

values = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["N"]) for name in ("price", "discount", "y")]
graph = helper.make_graph([helper.make_node("Sub", ["price", "discount"], ["y"])], "g", values[:2], values[2:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
onnx.checker.check_model(model, full_check=True)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
print("onnxruntime", onnxruntime.__version__, "inputs", [(one.name, one.shape) for one in session.get_inputs()])
(found,) = session.run(None, {"price": np.array([10.0, 20.0, 30.0, 40.0]), "discount": np.array([1.0])})
print("4 prices and 1 discount give", found.tolist())
sys.exit(0 if found.tolist() == [9, 19, 29, 39] else "this has changed")
PYTHON
