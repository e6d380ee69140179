"""
A model as ONNX, served with FastAPI
====================================

The graph takes raw columns and runs in onnxruntime alone: neither fullbatch nor scikit-learn is in the server.
"""

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sklearn.datasets import load_wine

import fullbatch as fb

wine = load_wine(as_frame=True).frame[["alcohol", "color_intensity", "target"]]
wine["strength"] = np.where(wine["alcohol"] > 13, "strong", "light")
model = fb.TableClassifier(hidden=(16,), epochs=60, random_state=0).fit(wine, target="target")
graph = fb.to_onnx(model).SerializeToString()

# %%
# The server. ``fullbatch export wine.fullbatch --out wine.onnx`` writes the same graph.

session, app = onnxruntime.InferenceSession(graph), FastAPI()
types = {"tensor(string)": object, "tensor(double)": np.float64}
inputs = {one.name: types[one.type] for one in session.get_inputs()}


@app.post("/predict")
def predict(row: dict) -> dict:
    """One row, a value for each column."""
    label, proba = session.run(None, {name: np.array([row[name]], dtype) for name, dtype in inputs.items()})
    return {"label": int(label[0]), "probabilities": proba[0].tolist()}


# %%
# Asked for each wine, it says what the model says:

rows = wine.drop(columns="target").to_dict("records")
with TestClient(app) as client:
    answers = [client.post("/predict", json=row).json() for row in rows]
ours, theirs = model.predict_proba(wine), np.array([answer["probabilities"] for answer in answers])
print(f"{len(rows)} rows, largest difference of a probability {np.abs(ours - theirs).max():.0e}")

figure, axes = plt.subplots()
for k, name in enumerate(load_wine().target_names):
    axes.scatter(ours[:, k], theirs[:, k], s=12, label=name)
axes.set(xlabel="probability, of the model", ylabel="probability, of the server")
axes.legend()
plt.show()
