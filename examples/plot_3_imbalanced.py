"""
A rare class
============

One row in thirty is positive. Weights of classes, and the threshold from which on the rare class is predicted.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_classification
from sklearn.metrics import f1_score, precision_recall_curve

import fullbatch as fb

X, y = make_classification(8_000, 12, n_informative=6, weights=[0.97], class_sep=0.8, random_state=0)
train, test = slice(0, 6_000), slice(6_000, None)
usual = {"hidden": (32,), "epochs": 15, "random_state": 0}

# %%
# Without weights, with them, and with the threshold that is best by F1 on the held-out rows:

models = {
    "as it is": fb.TableClassifier(**usual),
    "balanced weights": fb.TableClassifier(class_weight="balanced", **usual),
    "threshold by F1": fb.TableClassifier(threshold="auto", metric="f1", **usual),
}
figure, axes = plt.subplots()
for name, model in models.items():
    model.fit(X[train], y[train])
    predicted, proba = model.predict(X[test]), model.predict_proba(X[test])[:, 1]
    found = np.sum(predicted[y[test] == 1] == 1)
    print(
        f"{name}: F1 {f1_score(y[test], predicted):.3f}, {found} of {np.sum(y[test])} found, {predicted.sum()} alarms"
    )
    precision, recall, _ = precision_recall_curve(y[test], proba)
    axes.plot(recall, precision, label=name)

# %%
# A curve is one model at all thresholds. Weights change the model, and its probabilities with it; a threshold chooses a
# point of the curve, and leaves the probabilities as they are.

axes.set(xlabel="recall: share of the rare class that is found", ylabel="precision: share of the alarms that are right")
axes.legend()
plt.show()
