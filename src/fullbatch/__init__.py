"""fullbatch: train small neural networks on tall tables, on NumPy or on an NVIDIA GPU through CuPy.

import fullbatch as fb

net = fb.Network([2, 4, 1], hidden="tanh", output="sigmoid")
params = net.init(seed=3)                                  # one fb.Layer(W, b) per layer
J, g = fb.cost_and_gradients(net, params, X, Y)            # X (n[0], m), Y (n[L], m): one example per column
run = fb.gradient_descent(net, params, X, Y, learning_rate=1.2, iterations=10_000)

model = fb.MLPClassifier().fit(table, y)                   # scikit-learn's estimators: one example per row
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fullbatch.version import __version__

if TYPE_CHECKING:
    from fullbatch.core.gradient_sum import GradientSum
    from fullbatch.core.network import Network
    from fullbatch.core.parameters import Layer
    from fullbatch.estimators import LogisticRegression, MLPClassifier, MLPRegressor
    from fullbatch.explaining.explanation import explain
    from fullbatch.functions import Run, cost, cost_and_gradients, gradient_descent
    from fullbatch.machine.places import devices
    from fullbatch.saving.checkpoint import Checkpoint
    from fullbatch.saving.model_file import load, save
    from fullbatch.saving.onnx.export import to_onnx
    from fullbatch.serving.predictor import predictor
    from fullbatch.sources.stored import open_store
    from fullbatch.tables.estimators import TableClassifier, TableRegressor
    from fullbatch.tables.reading import read_table

__all__ = [
    "Checkpoint",
    "GradientSum",
    "Layer",
    "LogisticRegression",
    "MLPClassifier",
    "MLPRegressor",
    "Network",
    "Run",
    "TableClassifier",
    "TableRegressor",
    "__version__",
    "cost",
    "cost_and_gradients",
    "devices",
    "explain",
    "gradient_descent",
    "load",
    "open_store",
    "predictor",
    "read_table",
    "save",
    "to_onnx",
]

# Where each name is. All are found only when used (PEP 562): some need scikit-learn, SciPy or safetensors, and who
# predicts one row by the command should not wait for what trains.
_HOMES = {
    "Checkpoint": "fullbatch.saving.checkpoint",
    "GradientSum": "fullbatch.core.gradient_sum",
    "Layer": "fullbatch.core.parameters",
    "LogisticRegression": "fullbatch.estimators",
    "MLPClassifier": "fullbatch.estimators",
    "MLPRegressor": "fullbatch.estimators",
    "Network": "fullbatch.core.network",
    "Run": "fullbatch.functions",
    "TableClassifier": "fullbatch.tables.estimators",
    "TableRegressor": "fullbatch.tables.estimators",
    "cost": "fullbatch.functions",
    "cost_and_gradients": "fullbatch.functions",
    "devices": "fullbatch.machine.places",
    "explain": "fullbatch.explaining.explanation",
    "gradient_descent": "fullbatch.functions",
    "load": "fullbatch.saving.model_file",
    "open_store": "fullbatch.sources.stored",
    "predictor": "fullbatch.serving.predictor",
    "read_table": "fullbatch.tables.reading",
    "save": "fullbatch.saving.model_file",
    "to_onnx": "fullbatch.saving.onnx.export",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)  # the next time it is found without this
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
