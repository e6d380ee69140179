#!/usr/bin/env bash
# scikit-learn 1.9.1 with NumPy's masked arrays and astropy 8.0.2's quantities: both are subclasses of numpy.ndarray, and
# are read as if they were plain, without an error or a warning.
#     x = numpy.ma.masked_array([1, 2, -999], mask=[0, 0, 1])    x.mean() is 1.5; StandardScaler's mean_ is -332
#     d in km, and the same distances in m                       Ridge predicts 1.29 ... and 1.14 ... for the same rows
# NaN is refused there, but what a masked array has under its mask is any number.
#
# Seen on 2026-11-27, Python 3.11, with warnings as errors. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'scikit-learn==1.9.1' 'astropy==8.0.2' 'numpy==2.4.6'
"$folder/venv/bin/python" -W error - <<'PYTHON'
import sys

import numpy as np
import sklearn
from astropy import units
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

x = np.ma.masked_array([[1.0], [2.0], [-999.0]], mask=[[0], [0], [1]])
y = np.array([1.0, 2.0, 3.0])
d = np.array([[1.0], [2.0], [4.0]]) * units.km
try:
    mean = StandardScaler().fit(x).mean_[0]
    km, m = (Ridge().fit(distances, y).predict(distances) for distances in (d, d.to(units.m)))
except Exception as error:
    print(f"{type(error).__name__}: {error}: this has changed", file=sys.stderr)
    sys.exit(1)
print(f"scikit-learn {sklearn.__version__}: the mean of x is {x.mean()}, StandardScaler says {mean}")
print(f"Ridge predicts {km} for distances in km and {m} for the same in m")
sys.exit(not (mean == -332.0 and abs(km - m).max() > 0.1))
PYTHON
