"""Ten models of all kinds, and how far their ONNX graphs are from them; by hand, of 10,000 rows each:

python tests/saving/onnx_models.py --rows 10000
"""

from __future__ import annotations

import argparse
import json
import string
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

import fullbatch as fb
from fullbatch.saving.onnx.export import Parts
from fullbatch.saving.onnx.inputs import feeds_of
from fullbatch.saving.onnx.running import session_of

NEAR = 1e-6  # Where the two best probabilities are no farther apart, another rounding decides.
TOLERANCE = {"float32": 5e-7, "float64": 1e-12}
DAY = 86_400


def numbers(m: int, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(m, n))


def every_kind(m: int, seed: int = 0) -> dict[str, Any]:
    """A table with every kind of column, with gaps and without, and two targets, ``late`` and ``delay``."""
    rng = np.random.default_rng(seed)

    def gaps(values: Any, type_: pa.DataType | None = None) -> pa.Array:
        return pa.array(values, type_, mask=rng.random(m) < 0.1)

    seconds = rng.integers(-60 * 365 * DAY, 60 * 365 * DAY, m)
    town = rng.choice(["Bonn", "Kiel", "Ulm", "Ærø", "None"], m)
    stops, income = rng.integers(0, 9, m), rng.normal(size=m) ** 3 * 7 + 3
    hours = rng.integers(0, 90 * 24, m)
    delay = income + stops + 3 * (town == "Ulm") + (hours % 24) / 4 + rng.normal(size=m)
    return {
        "town": town,
        "letter": gaps(rng.choice(list(string.ascii_lowercase), m)),
        "many": [f"w{i}" for i in rng.integers(0, 3000, m)],
        "stops": stops,
        "code": gaps(rng.integers(1, 9, m)),
        "member": rng.random(m) < 0.4,
        "paid": gaps(rng.random(m) < 0.4),
        "income": income,
        "rate": gaps(rng.normal(size=m).astype(np.float32)),
        "constant": np.ones(m),
        "mostly_zero": np.where(rng.random(m) < 0.7, 0, rng.exponential(size=m)),
        "born": pa.array(seconds // DAY, pa.int32()).cast(pa.date32()),
        "left": gaps(1_600_000_000 + 3600 * hours, pa.timestamp("s")),
        "clock": pa.array(rng.integers(0, DAY, m).astype(np.int32), pa.time32("s")),
        "took": pa.array(rng.integers(0, 10**5, m), pa.duration("s")),
        "late": np.where(delay > np.median(delay), "yes", "no"),
        "delay": delay,
    }


def _classes(m: int) -> tuple[Any, Any]:
    X = numbers(m, 6)
    return X, np.array(["apple", "pear", "quince", "ärpel"])[np.digitize(X[:, 0] + X[:, 1] ** 2, [-0.5, 0.5, 1.5])]


def _letters(m: int) -> tuple[Any, Any]:
    X = numbers(m, 16)
    return X.astype(np.float32), np.argmax(X @ numbers(16, 26, 1), axis=1)


def _table(m: int, target: str) -> tuple[Any, str]:
    table = every_kind(m)
    del table["delay" if target == "late" else "late"]
    return table, target


class Model(NamedTuple):
    """estimator : not fitted;  data : of so many rows X, and y or the target's name"""

    estimator: Any
    data: Callable[[int], tuple[Any, Any]]


def _mlp(kind: Any, activation: Any = "relu", **more: Any) -> Any:
    return kind(hidden_layer_sizes=(16, 8), activation=activation, max_iter=8, random_state=0, **more)


def _of_float32(data: Callable[[int], tuple[Any, Any]]) -> Callable[[int], tuple[Any, Any]]:
    def given(m: int) -> tuple[Any, Any]:
        X, y = data(m)
        return X.astype(np.float32), y

    return given


TABLE = {"hidden": (16,), "epochs": 8, "max_levels": 100, "random_state": 0}
MODELS = {
    "binary": Model(_mlp(fb.MLPClassifier), lambda m: (numbers(m, 8), numbers(m, 8)[:, 0] > 0.2)),
    "text classes": Model(_mlp(fb.MLPClassifier, "sigmoid"), _of_float32(_classes)),
    "26 classes": Model(_mlp(fb.MLPClassifier), _letters),
    "regression": Model(fb.TableRegressor(**TABLE), lambda m: _table(m, "delay")),
    "poisson": Model(
        fb.TableRegressor(**TABLE, loss="poisson"),
        lambda m: ({"x": numbers(m, 1)[:, 0], "n": np.floor(np.exp(numbers(m, 1)[:, 0]))}, "n"),
    ),
    "multi-label": Model(_mlp(fb.MLPClassifier), lambda m: (numbers(m, 8), (numbers(m, 8)[:, :3] > 0).astype(int))),
    "logistic": Model(fb.LogisticRegression(), _of_float32(_classes)),
    "gelu, silu, leaky_relu": Model(
        fb.MLPClassifier((8, 8, 8), ["gelu", "silu", "leaky_relu"], max_iter=8, random_state=0), _of_float32(_classes)
    ),
    "float64": Model(
        fb.TableClassifier(**{**TABLE, "activation": "silu"}, dtype="float64"), lambda m: _table(m, "late")
    ),
    "every kind of column": Model(fb.TableClassifier(**TABLE, threshold=0.4), lambda m: _table(m, "late")),
}


class Outcome(NamedTuple):
    """dtype;  rows;  unequal : rows with another label;  near : rows that the rule leaves out;  largest, relative."""

    dtype: str
    rows: int
    unequal: int
    near: int
    largest: float
    relative: float


def compared(model: Model, learn: int, rows: int) -> Outcome:
    """Train on ``learn`` rows and compare on ``rows`` others, of which the table's have levels that are new."""
    X, y = model.data(learn + rows)
    estimator, exported, feeds, asked = _fitted(model.estimator, X, y, learn)
    session = session_of(exported)
    outputs = dict(zip([one.name for one in session.get_outputs()], session.run(None, feeds), strict=True))
    dtype = Parts(estimator).layers[0][0].dtype.name
    predicted = np.asarray(estimator.predict(asked))
    if "prediction" in outputs:
        assert outputs["prediction"].dtype == predicted.dtype
        largest = float(np.abs(outputs["prediction"] - predicted).max())
        return Outcome(dtype, rows, 0, 0, largest, largest / float(np.abs(predicted).max()))
    proba = np.asarray(estimator.predict_proba(asked))
    assert outputs["probabilities"].dtype == proba.dtype
    assert (
        json.loads({one.key: one.value for one in exported.metadata_props}["classes"])
        == Parts(estimator).classes.tolist()
    )
    threshold = getattr(getattr(estimator, "network_", None), "threshold", None)
    if proba.shape == predicted.shape:
        margin = np.abs(proba - 0.5).min(axis=1)
    elif threshold is not None:
        margin = np.abs(proba[:, 1] - threshold)
    else:
        best = np.sort(proba, axis=1)
        margin = best[:, -1] - best[:, -2]
    unequal = (outputs["label"] != predicted).reshape(rows, -1).any(axis=1)
    largest = float(np.abs(outputs["probabilities"] - proba).max())
    near = margin <= NEAR
    return Outcome(dtype, rows, int((unequal & ~near).sum()), int(near.sum()), largest, largest)


def _fitted(estimator: Any, X: Any, y: Any, learn: int) -> tuple[Any, Any, dict[str, np.ndarray], Any]:
    from sklearn.base import clone

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(X, dict):
            fitted = clone(estimator).fit({name: values[:learn] for name, values in X.items()}, target=y)
            asked = {name: values[learn:] for name, values in X.items() if name != y}
            parts = Parts(fitted)
            return fitted, fb.to_onnx(fitted), feeds_of(parts.inputs, fitted.network_.read(asked)), asked
        fitted = clone(estimator).fit(X[:learn], y[:learn])
    return fitted, fb.to_onnx(fitted), {"X": X[learn:]}, X[learn:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    for name, model in MODELS.items():
        found = compared(model, 4000, rows)
        print(
            f"{name:24} {found.dtype}: {found.rows:,} rows, {found.unequal} labels differ, {found.near} rows are too "
            f"near, largest difference {found.largest:.2g}, relative {found.relative:.2g}"
        )
        assert found.unequal == 0
        assert found.near <= 1
        assert found.relative <= TOLERANCE[found.dtype]


if __name__ == "__main__":
    main()
