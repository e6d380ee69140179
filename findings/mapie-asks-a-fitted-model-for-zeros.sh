#!/usr/bin/env bash
# MAPIE 1.6.0: whether a model given with prefit=True is fitted is tried by predict(np.zeros((1, n_features_in_))). One that
# was fitted on a data frame and knows its columns by name, such as a GridSearchCV over a ColumnTransformer, is then said
# not to be fitted; and that is raised as an exception of class UserWarning, which no "except ValueError" catches. The same
# pipeline without the search is taken, since of a Pipeline the last step alone is asked.
#
# Seen on 2026-11-27, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'mapie==1.6.0' 'scikit-learn==1.9.1' 'numpy==2.4.6' 'pandas==3.1.1'
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata
import sys

import numpy as np
import pandas as pd
from mapie.classification import SplitConformalClassifier
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

rng = np.random.default_rng(0)
frame = pd.DataFrame({"town": rng.choice(["Bonn", "Ulm"], 200), "x": rng.normal(size=200)})
y = np.where(frame["x"] > 0, "yes", "no")
columns = make_column_transformer((OneHotEncoder(), ["town"]), ("passthrough", ["x"]))
pipeline = make_pipeline(columns, LogisticRegression())
for name, model in {"pipeline": pipeline, "search": GridSearchCV(pipeline, {"logisticregression__C": [1, 10]}, cv=3)}.items():
    model.fit(frame[:100], y[:100])
    try:
        SplitConformalClassifier(model, confidence_level=0.9, prefit=True).conformalize(frame[100:], y[100:])
    except UserWarning as error:
        print(f"MAPIE {importlib.metadata.version('mapie')}, {name}: {type(error).__name__}: {str(error)[:300]}")
        assert name == "search"
    else:
        print(f"{name}: taken")
        if name == "search":
            print("no error: this has changed", file=sys.stderr)
            sys.exit(1)
PYTHON
