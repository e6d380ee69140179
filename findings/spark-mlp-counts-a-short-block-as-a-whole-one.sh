#!/usr/bin/env bash
# Spark ML's MultilayerPerceptronClassifier stacks rows into blocks of `blockSize`, divides the loss and the gradient of
# each block by the rows of that block, and then takes the mean over blocks. A short last block of a partition therefore
# counts as a whole one: of 1,000 rows with a blockSize of 999 the last row alone weighs as much as the other 999
# together. The loss of the very same weights on the very same rows is another, and so is the model; nothing is said.
# With sizes that divide each partition's rows the figures agree to rounding, for any number of partitions.
#
# It needs a Java 17 or later. Seen on 2026-11-28, Python 3.11, OpenJDK 17. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyspark==4.3.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { cat "$folder/log" >&2; exit 1; }
import numpy as np
import pyspark
from pyspark.ml.classification import MultilayerPerceptronClassifier
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession

session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
rng = np.random.default_rng(0)
X = rng.standard_normal((1000, 4))
y = (X[:, 0] + 0.5 * rng.standard_normal(1000) > 0).astype(float)
rows = [(float(label), Vectors.dense(row)) for row, label in zip(X, y, strict=True)]
weights = Vectors.dense(np.random.default_rng(1).standard_normal(4 * 3 + 3 + 3 * 2 + 2) / 2)


def first_loss(block, partitions):
    """The loss of the initial weights, before any step."""
    table = session.createDataFrame(session.sparkContext.parallelize(rows, partitions), ["label", "features"])
    learner = MultilayerPerceptronClassifier(
        layers=[4, 3, 2], blockSize=block, maxIter=1, solver="l-bfgs", initialWeights=weights
    )
    return learner.fit(table).summary().objectiveHistory[0]


print("Spark", pyspark.__version__)
found = {(block, parts): first_loss(block, parts) for block, parts in [(1000, 1), (500, 2), (100, 1), (998, 1), (999, 1)]}
for (block, parts), loss in found.items():
    print(f"blockSize {block}, {parts} partition(s) of the same 1,000 rows: loss of the same weights {loss:.6f}")
session.stop()
right = found[1000, 1]
assert abs(found[500, 2] - right) < 1e-12 and abs(found[100, 1] - right) < 1e-12, "blocks that divide differ"
assert abs(found[999, 1] - right) > 0.1, "a short block weighs by its rows now"
PYTHON
