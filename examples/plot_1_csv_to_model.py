"""
A CSV file to a model, and back
===============================

A table is written as a file, a model learns from it, is saved, loaded, and predicts another file.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine

import fullbatch as fb

folder = Path(tempfile.mkdtemp())
wine = load_wine(as_frame=True).frame
wine["target"] = [load_wine().target_names[i] for i in wine["target"]]
wine.sample(frac=0.8, random_state=0).to_csv(folder / "train.csv", index=False)
wine.drop(wine.sample(frac=0.8, random_state=0).index).to_csv(folder / "test.csv", index=False)

# %%
# What ``fullbatch train train.csv --target target --model wine.fullbatch`` does:

model = fb.TableClassifier(hidden=(32,), random_state=0).fit(folder / "train.csv", target="target")
for column in model.columns_[:3]:
    print(column["name"], "is a", column["kind"], "because", column["why"])
fb.save(model, folder / "wine.fullbatch")

# %%
# In another process, later:

model = fb.load(folder / "wine.fullbatch")
scores = model.evaluate(folder / "test.csv")
print({name: round(scores[name], 3) for name in ("accuracy", "auc", "log_loss")})
print(model.predict(folder / "test.csv")[:5])

# %%
# The cost of each epoch, on the rows that it learned from and on those held out:

figure, axes = plt.subplots()
axes.plot(model.loss_curve_, label="learned from")
axes.plot(model.validation_costs_, label="held out")
axes.set(xlabel="epoch", ylabel="cost", yscale="log")
axes.legend()
plt.show()
