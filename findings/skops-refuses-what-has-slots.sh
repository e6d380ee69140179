#!/usr/bin/env bash
# skops 0.16.0: an estimator that holds an object with __slots__ and no __getstate__ of its own, such as any
# @dataclass(slots=True), is not dumped: "TypeError: a class that defines __slots__ without defining __getstate__ cannot
# be pickled". But it can: since protocol 2 pickle knows of slots, copy.copy does too. skops asks obj.__reduce__(), which
# is that of protocol 0. mlflow 3's mlflow.sklearn.save_model writes in the format of skops unless told otherwise, so that
# it refuses such an estimator as well. A __reduce__ that gives (class, arguments) is the cure.
#
# Seen on 2026-11-27, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'skops==0.16.0' 'scikit-learn==1.9.1' 'numpy==2.4.6'
cat >"$folder/rate.py" <<'PYTHON'
from dataclasses import dataclass


@dataclass(slots=True)
class Rate:
    value: float


@dataclass(slots=True)
class Reduced:
    value: float

    def __reduce__(self):
        return Reduced, (self.value,)
PYTHON
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import pickle
import sys

import skops
from sklearn.linear_model import LinearRegression
from skops import io

from rate import Rate, Reduced

model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
model.rate_ = Reduced(0.5)
data = io.dumps(model)
assert io.loads(data, trusted=["rate.Reduced"]).rate_ == Reduced(0.5)
model.rate_ = Rate(0.5)
assert pickle.loads(pickle.dumps(model)).rate_ == Rate(0.5)
try:
    io.dumps(model)
except TypeError as error:
    print(f"skops {skops.__version__}: {error}")
else:
    print("no error: this has changed", file=sys.stderr)
    sys.exit(1)
PYTHON
