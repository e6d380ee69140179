"""The estimators on a Dask cluster: the same training, to the same bits for any number of workers.

    import fullbatch.dask

    client = distributed.Client("tcp://host:8786")
    model = fullbatch.dask.TableClassifier(solver="lbfgs").fit("flights.store")
    model = fullbatch.dask.TableClassifier(solver="lbfgs").fit("flights.parquet", target="late")   # or a Dask DataFrame
    model.predict(frame)          # of a Dask DataFrame: lazily, partition by partition
    fb.save(model.to_local(), "flights.model")

Workers hold the rows and compute sums over them; the optimiser runs here. What authenticates and encrypts is the
client's: give one that was made with ``security=``.
"""

from fullbatch.dask.estimators import (
    LogisticRegression,
    MLPClassifier,
    MLPRegressor,
    TableClassifier,
    TableRegressor,
)

__all__ = ["LogisticRegression", "MLPClassifier", "MLPRegressor", "TableClassifier", "TableRegressor"]
