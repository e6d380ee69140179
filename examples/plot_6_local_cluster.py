"""
A cluster on this machine
=========================

Two of Dask's workers hold the leaves of a store and answer with sums; the outcome has the bits of one process.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster
from sklearn.datasets import make_classification

import fullbatch as fb
import fullbatch.dask
from fullbatch.tables.store import convert

X, y = make_classification(20_000, 10, n_informative=5, random_state=0)
store = Path(tempfile.mkdtemp()) / "made.store"
written = convert({**{f"x{i}": column for i, column in enumerate(X.T)}, "y": y}, store, "y")

# %%
# On a real cluster the client is of its scheduler, ``Client("tcp://host:8786")``, and the store lies where all workers
# see it. Here both are threads of this process.

settings = {"hidden_layer_sizes": (16,), "batch_size": "full", "learning_rate": "linear", "max_iter": 30}
settings |= {"learning_rate_init": 0.02, "random_state": 0}
two = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
with LocalCluster(**two) as cluster, Client(cluster) as client:
    together = fullbatch.dask.MLPClassifier(client=client, **settings).fit(fb.open_store(store))
alone = fb.MLPClassifier(**settings).fit(fb.open_store(store))
print(all(np.array_equal(a, b) for a, b in zip(together.coefs_, alone.coefs_, strict=True)))

# %%
# One curve lies on the other:

figure, axes = plt.subplots()
axes.plot(alone.loss_curve_, linewidth=5, alpha=0.4, label="one process")
axes.plot(together.loss_curve_, label="two workers")
axes.set(xlabel="epoch of Adam, by all rows at once", ylabel="cost")
axes.legend()
plt.show()
