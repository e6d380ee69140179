#!/usr/bin/env bash
# onnxruntime 1.32.0: a string input given as an array of Python's objects takes whatever is in it by its str(), in silence:
# None becomes the text "None", NaN "nan", pandas.NA "<NA>", and 7 "7". A LabelEncoder then does not know a missing value for
# one, unless these words are among its keys, as in our graphs.
#
# Seen on 2026-11-27, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'onnxruntime==1.32.0' 'onnx==1.23.2' 'numpy==2.4.6' 'pandas==3.1.1'
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnxruntime
import pandas as pd
from onnx import TensorProto, helper

x, y = (helper.make_tensor_value_info(name, TensorProto.STRING, ["N"]) for name in "xy")
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
found = session.run(None, {"x": np.array(["red", None, np.nan, pd.NA, 7], dtype=object)})[0].tolist()
print("onnxruntime", onnxruntime.__version__, found)
sys.exit(0 if found == ["red", "None", "nan", "<NA>", "7"] else "this has changed")
PYTHON
