"""Spark ML's MultilayerPerceptronClassifier and ours, in CPU seconds an iteration of L-BFGS: run by hand.

    pip install pyspark==4.3.0; python -m bench.spark --rows 500000

It needs a Java 17 or later. Both begin with the same weights of 28-64-3 (sigmoid, softmax) on the same rows, Spark in
local[2] on two cached partitions, whose rows its blockSize divides: its short blocks would weigh as full ones. The CPU
time of an iteration is what a longer training took more than a shorter one; of both what weights are worth is computed
by the same pass, so that the losses compare. One JSON line for each.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fullbatch as fb

FEATURES, HIDDEN, CLASSES, PARTITIONS, BLOCK = 28, 64, 3, 2, 125
NETWORK = fb.Network([FEATURES, HIDDEN, CLASSES], "sigmoid", "softmax")


def rows(m: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((m, FEATURES))
    score = np.tanh(X @ rng.standard_normal((FEATURES, 8))) @ rng.standard_normal((8, CLASSES))
    return X, np.argmax(score + 0.5 * rng.standard_normal(score.shape), axis=1)


def start() -> Any:
    return NETWORK.init(seed=0)


def loss(params: Any, X: np.ndarray, y: np.ndarray) -> float:
    return float(fb.cost(NETWORK, params, np.ascontiguousarray(X.T), np.eye(CLASSES)[y].T.copy()))


def measured(fit: Callable[[int], Any], cpu: Callable[[], float], iterations: Sequence[int]) -> dict[str, Any]:
    """CPU seconds of an iteration, and what ``fit`` gives of the longest training."""
    fit(iterations[0])
    took = []
    for count in iterations:
        begin = cpu()
        found = fit(count)
        took.append(cpu() - begin)
    each = (took[-1] - took[0]) / (iterations[-1] - iterations[0])
    return {"cpu_s_an_iteration": round(each, 4), "cpu_s": [round(one, 2) for one in took], "params": found}


# --- Ours -----------------------------------------------------------------------------------------------------------


def ours(model: Any, X: Any, y: Any, cpu: Callable[[], float], iterations: Sequence[int]) -> dict[str, Any]:
    def fit(count: int) -> Any:
        model.max_iter = 1
        model.fit(X, y)  # so that there are weights to begin with
        dtype = model.coefs_[0].dtype
        model.coefs_ = [layer.W.T.astype(dtype) for layer in start()]
        model.intercepts_ = [np.ravel(layer.b).astype(dtype) for layer in start()]
        model.set_params(warm_start=True, max_iter=count).fit(X, y)
        model.set_params(warm_start=False)
        pairs = zip(model.coefs_, model.intercepts_, strict=True)
        return tuple(fb.Layer(W.T.astype(float), b.astype(float)[:, np.newaxis]) for W, b in pairs)

    return measured(fit, cpu, iterations)


def how(n_jobs: int | None = None) -> dict[str, Any]:
    return {"activation": "logistic", "solver": "lbfgs", "alpha": 0.0, "tol": 0.0, "random_state": 0, "n_jobs": n_jobs}


def one_process(X: np.ndarray, y: np.ndarray, iterations: Sequence[int]) -> dict[str, Any]:
    return ours(fb.MLPClassifier((HIDDEN,), **how(1)), X, y, time.process_time, iterations)


def two_workers(X: np.ndarray, y: np.ndarray, iterations: Sequence[int]) -> dict[str, Any]:
    """Workers as ``client="local"`` starts them: by default Dask samples the stack of each a hundred times a second."""
    import dask.array as da
    import distributed

    import fullbatch.dask
    from fullbatch.dask.connection import connected

    with connected("local", workers=2) as workers:
        client, half = workers.client, len(X) // 2
        X, y = (client.persist(da.from_array(one, (half, *one.shape[1:]))) for one in (X, y))
        distributed.wait([X, y])

        def cpu() -> float:
            return time.process_time() + sum(client.run(time.process_time).values())

        return ours(fullbatch.dask.MLPClassifier((HIDDEN,), **how(), client=client), X, y, cpu, iterations)


# --- Spark ----------------------------------------------------------------------------------------------------------


def spark(X: np.ndarray, y: np.ndarray, iterations: Sequence[int]) -> dict[str, Any]:
    import pyarrow as pa
    from pyarrow import parquet
    from pyspark.ml.classification import MultilayerPerceptronClassifier
    from pyspark.ml.functions import array_to_vector
    from pyspark.ml.linalg import Vectors
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import spark_partition_id

    session = (
        SparkSession.builder.master("local[2]").config("spark.driver.memory", "6g").config("spark.ui.enabled", "false")
        .config("spark.sql.files.maxPartitionBytes", str(2**31 - 1)).config("spark.log.level", "ERROR").getOrCreate()
    )  # fmt: skip
    try:
        with tempfile.TemporaryDirectory() as folder:
            half = len(X) // PARTITIONS
            for i in range(PARTITIONS):
                part = slice(i * half, (i + 1) * half)
                flat = pa.array(X[part].ravel())
                columns = {
                    "x": pa.FixedSizeListArray.from_arrays(flat, FEATURES),
                    "label": pa.array(y[part].astype(float)),
                }
                parquet.write_table(pa.table(columns), Path(folder) / f"{i}.parquet")
            table = session.read.parquet(folder).select(array_to_vector("x").alias("features"), "label").cache()
            table.count()
            sizes = [one["count"] for one in table.groupBy(spark_partition_id()).count().collect()]
            assert sizes == [half] * PARTITIONS, sizes
            flat = np.concatenate([part for W, b in start() for part in (W.ravel(order="F"), b.ravel())])
            pid = int(session._jvm.java.lang.ProcessHandle.current().pid())

            def fit(count: int) -> Any:
                model = MultilayerPerceptronClassifier(
                    layers=[FEATURES, HIDDEN, CLASSES], maxIter=count, tol=1e-30, blockSize=BLOCK, solver="l-bfgs",
                    initialWeights=Vectors.dense(flat),
                ).fit(table)  # fmt: skip
                return layers_of(model.weights.toArray())

            found = measured(fit, lambda: cpu_of(pid), iterations)
            blas = session._jvm.dev.ludovic.netlib.blas.BLAS.getInstance().getClass().getSimpleName()
            return {**found, "spark": session.version, "java": session._jvm.System.getProperty("java.version"),
                    "blas": blas}  # fmt: skip
    finally:
        session.stop()


def layers_of(flat: np.ndarray) -> Any:
    """Spark's weights: of each layer W, column after column, then b."""
    found, at = [], 0
    for n_in, n_out in ((FEATURES, HIDDEN), (HIDDEN, CLASSES)):
        W = flat[at : at + n_in * n_out].reshape((n_out, n_in), order="F")
        at += n_in * n_out
        found.append(fb.Layer(np.ascontiguousarray(W), flat[at : at + n_out, np.newaxis].copy()))
        at += n_out
    return tuple(found)


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process, by Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--iterations", default="5,15", help="of the shorter and of the longer training")
    parser.add_argument("--only", default="", help="what the names of the runs have, as Spark or float32")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    iterations = [int(one) for one in args.iterations.split(",")]
    X, y = rows(args.rows)
    assert args.rows // PARTITIONS % BLOCK == 0
    start_loss = loss(start(), X, y)
    runs: dict[str, Callable[[], dict[str, Any]]] = {}
    for dtype in ("float64", "float32"):
        own = X.astype(dtype)
        runs[f"one process, {dtype}"] = lambda own=own: one_process(own, y, iterations)  # type: ignore[misc]
        runs[f"two workers, {dtype}"] = lambda own=own: two_workers(own, y, iterations)  # type: ignore[misc]
    runs["Spark ML, local[2]"] = lambda: spark(X, y, iterations)
    for name, run in ((name, run) for name, run in runs.items() if args.only in name):
        found = run()
        reached = loss(found.pop("params"), X, y)
        told = {"what": name, "rows": args.rows, "iterations": iterations, **found}
        print(json.dumps({**told, "loss_at_the_start": round(start_loss, 6), "loss": round(reached, 6)}), flush=True)


if __name__ == "__main__":
    main()
