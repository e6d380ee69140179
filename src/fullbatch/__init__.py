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

from fullbatch.backend import devices
from fullbatch.gradient_sum import GradientSum
from fullbatch.network import Network
from fullbatch.objective import cost, cost_and_gradients
from fullbatch.parameters import Layer
from fullbatch.training import Run, gradient_descent

if TYPE_CHECKING:
    from fullbatch.estimators import LogisticRegression, MLPClassifier, MLPRegressor
    from fullbatch.model_file import load, save
    from fullbatch.table_model import TableModel

__version__ = "0.1.0"

__all__ = [
    "GradientSum",
    "Layer",
    "LogisticRegression",
    "MLPClassifier",
    "MLPRegressor",
    "Network",
    "Run",
    "TableModel",
    "__version__",
    "cost",
    "cost_and_gradients",
    "devices",
    "gradient_descent",
    "load",
    "save",
]

# Found only when used (PEP 562): these need scikit-learn, SciPy or safetensors, and the import should be quick.
_LAZY = {
    "LogisticRegression": "fullbatch.estimators",
    "MLPClassifier": "fullbatch.estimators",
    "MLPRegressor": "fullbatch.estimators",
    "TableModel": "fullbatch.table_model",
    "load": "fullbatch.model_file",
    "save": "fullbatch.model_file",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
