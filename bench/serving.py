"""Asking a model: many rows at once, one row, and the exported graph beside one that is written by hand.

Each contender answers the same rows with the same parameters, and what it says is compared before anything is timed.
scikit-learn's models are made of ours, so that nobody has to be trained for long; the graph by hand is what a user of
ONNX would write: Gemm, the activation's own node, Gemm, and the label by ArgMax where one is asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fullbatch as fb
from bench.own import not_installed
from bench.problem import Shape
from bench.runs import Run
from bench.timing import Contender, Rules, take_turns, two_threads, wall

OURS, ESTIMATOR, ONNX, SKLEARN = "fullbatch", "fullbatch, estimator", "onnxruntime", "scikit-learn"
EXPORTED, BY_HAND = "exported", "by hand"
LABEL, PROBABILITIES = "label", "probabilities"  # the outputs of a graph
THREADS = 2  # of onnxruntime
TOLERANCE = 2e-6  # between probabilities in float32
PARTS = ("bulk", "row", "graph")
BULK = {"28-64-1": 1_000_000, "100-128-64-1": 300_000}
ROW, ROWS_OF_GRAPHS = "28-64-1", 10_000


class Model(NamedTuple):
    """Of a graph: inputs, classes (0: a label for each of three, 2: one sigmoid), hidden units, their activations."""

    inputs: int
    classes: int
    hidden: tuple[int, ...] = (16, 8)
    activations: tuple[str, ...] = ("relu", "relu")
    dtype: str = "float32"


GRAPHS = {  # those of tests/saving/onnx_models.py that have no table
    "binary": Model(8, 2, dtype="float64"),
    "text classes": Model(6, 4, activations=("sigmoid", "sigmoid")),
    "26 classes": Model(16, 26),
    "multi-label": Model(8, 0, dtype="float64"),
    "logistic": Model(6, 4, hidden=(), activations=()),
    "gelu, silu, leaky_relu": Model(6, 4, (8, 8, 8), ("gelu", "silu", "leaky_relu")),
}


@dataclass(frozen=True)
class Settings:
    """``scale`` is for a try: of so many rows, a share."""

    parts: tuple[str, ...] = PARTS
    budget: float = 420.0
    scale: float = 1.0
    rules: Rules = field(default_factory=Rules)


def run(settings: Settings, here: Run) -> None:
    """All parts."""
    gauge = two_threads() if settings.rules.quiet else None
    jobs: list[tuple[str, str, int, Callable[[int], dict[str, Callable[[], Any]]]]] = [
        *(("bulk", case, m, lambda m, case=case: bulk(case, m)) for case, m in BULK.items()),
        ("row", ROW, 1, lambda m: one_row()),
        *(("graph", case, ROWS_OF_GRAPHS, lambda m, case=case: graphs(case, m)) for case in GRAPHS),
    ]  # fmt: skip
    for index, (part, case, rows, make) in enumerate(jobs):
        name = f"{part}, {case}"
        if part not in settings.parts or here.result.has(part=part, case=case) or here.is_late(name):
            continue
        if reason := without_onnx():
            here.leave_out(f"{name}: onnxruntime: left out: {reason}")
        m = max(1, round(rows * settings.scale))
        calls = make(m)
        if not calls:
            continue
        contenders = {who: Contender(call, wall) for who, call in calls.items()}
        share = here.left / (len(jobs) - index)
        rounds = take_turns(contenders, settings.rules, seconds=share, left=here.left, gauge=gauge)
        times = {who: rounds.timing(who) for who in contenders}
        if rounds.begun:
            point = {"part": part, "case": case, "m": m, "times": times, "rounds": rounds.summary()}
            told = (f"{who} {timing['median'] * 1e6:,.1f} us" for who, timing in times.items() if timing)
            here.keep(point, f"{name}: {', '.join(told)}")


# --- Models with the same parameters --------------------------------------------------------------------------


def fitted(model: Model, *, rows: int = 400) -> Any:
    """An estimator of ours, trained for two epochs: what it has learned is not asked."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, model.inputs)).astype(model.dtype)
    y = (X[:, :3] > 0).astype(int) if model.classes == 0 else np.arange(rows) % model.classes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that two epochs are few
        if not model.hidden:
            return fb.LogisticRegression(max_iter=2).fit(X, y)
        return fb.MLPClassifier(model.hidden, list(model.activations), max_iter=2, random_state=0).fit(X, y)


def in_sklearn(ours: Any, model: Model) -> Any:
    """scikit-learn's MLPClassifier with our parameters."""
    from sklearn.neural_network import MLPClassifier

    X = np.random.default_rng(0).normal(size=(400, model.inputs)).astype(model.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = MLPClassifier(model.hidden, activation=model.activations[0], max_iter=1).fit(X, np.arange(400) % 2)
    made.coefs_ = [np.ascontiguousarray(W) for W in ours.coefs_]
    made.intercepts_ = [b.copy() for b in ours.intercepts_]
    return made


def graph_by_hand(ours: Any, model: Model, *, label: bool) -> Any:
    """The ModelProto: probabilities (N, k) of X (N, n), and label (N,) or (N, k)."""
    from onnx import TensorProto, helper, numpy_helper

    kind = TensorProto.FLOAT if model.dtype == "float32" else TensorProto.DOUBLE
    nodes: list[Any] = []
    values: list[Any] = []
    A = "X"

    def node(op: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [out or f"{op}_{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    def constant(value: Any) -> str:
        values.append(numpy_helper.from_array(np.ascontiguousarray(value), f"constant_{len(values)}"))
        return str(values[-1].name)

    parameters = [
        (W.astype(model.dtype), b.astype(model.dtype)) for W, b in zip(ours.coefs_, ours.intercepts_, strict=True)
    ]
    for (W, b), activation in zip(parameters, [*model.activations, None], strict=True):
        A = node("Gemm", A, constant(W), constant(b))
        if activation in ("relu", "sigmoid"):
            A = node(activation.capitalize(), A)
        elif activation == "gelu":
            A = node("Gelu", A, approximate="tanh")
        elif activation == "leaky_relu":
            A = node("LeakyRelu", A, alpha=0.01)
        elif activation == "silu":
            A = node("Mul", A, node("Sigmoid", A))
    if model.classes > 2:
        A = node("Softmax", A, axis=1, out=PROBABILITIES)
    elif model.classes == 2:
        A = node("Sigmoid", A)
        A = node("Concat", node("Sub", constant(np.ones(1, model.dtype)), A), A, axis=1, out=PROBABILITIES)
    else:
        A = node("Sigmoid", A, out=PROBABILITIES)
    outputs = [helper.make_tensor_value_info(PROBABILITIES, kind, ["N", None])]
    if label:
        if model.classes:  # which are numbered from 0
            node("ArgMax", A, axis=1, keepdims=0, out=LABEL)
        else:
            half = constant(np.full(1, 0.5, model.dtype))
            node("Cast", node("Greater", A, half), to=TensorProto.INT64, out=LABEL)
        outputs.append(helper.make_tensor_value_info(LABEL, TensorProto.INT64, None))
    given = [helper.make_tensor_value_info("X", kind, ["N", model.inputs])]
    made = helper.make_graph(nodes, "by hand", given, outputs, values)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def session(proto: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def agreed(calls: Mapping[str, Callable[[], Any]]) -> None:
    """AssertionError where the contenders do not say the same."""
    first, *others = [np.asarray(call(), np.float64).ravel()[-1000:] for call in calls.values()]
    for other in others:
        np.testing.assert_allclose(other, first, atol=TOLERANCE)


# --- The cases: what each does, by name; without the packages of ONNX, less --------------------------------------


def without_onnx() -> str | None:
    """Why there is no graph, or None."""
    return not_installed("onnxruntime") or not_installed("ndonnx")


def bulk(case: str, m: int) -> dict[str, Callable[[], Any]]:
    sizes = Shape.parse(case).sizes
    model = Model(sizes[0], 2, tuple(sizes[1:-1]), ("relu",) * (len(sizes) - 2))
    X = np.random.default_rng(1).normal(size=(m, sizes[0])).astype(np.float32)
    ours = fitted(model)
    theirs, frozen = in_sklearn(ours, model), fb.predictor(ours)
    calls = {
        OURS: lambda: frozen(X),
        ESTIMATOR: lambda: ours.predict_proba(X),
        SKLEARN: lambda: theirs.predict_proba(X),
    }
    if not without_onnx():
        graph = session(graph_by_hand(ours, model, label=False))
        calls[ONNX] = lambda: graph.run(None, {"X": X})[0]
    agreed(calls)
    return calls


def one_row() -> dict[str, Callable[[], Any]]:
    """A row as an array, a tuple and a dict; the estimators and the graph take a table of one row."""
    import pandas as pd

    model = Model(28, 2, (64,), ("relu",))
    row = np.random.default_rng(1).normal(size=28).astype(np.float32)
    ours = fitted(model)
    theirs, frozen, table = in_sklearn(ours, model), fb.predictor(ours), row[np.newaxis]
    names = [f"column {index}" for index in range(28)]
    X = np.random.default_rng(0).normal(size=(400, 28)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named = fb.MLPClassifier((64,), max_iter=2, random_state=0).fit(
            pd.DataFrame(X, columns=names), np.arange(400) % 2
        )
    by_name, as_tuple = fb.predictor(named), tuple(map(float, row))
    as_dict = dict(zip(names, as_tuple, strict=True))
    calls = {
        f"{OURS}, array": lambda: frozen(row),
        f"{OURS}, tuple": lambda: frozen(as_tuple),
        f"{OURS}, dict": lambda: by_name(as_dict),
        ESTIMATOR: lambda: ours.predict_proba(table),
        SKLEARN: lambda: theirs.predict_proba(table),
    }
    if not without_onnx():
        graph = session(graph_by_hand(ours, model, label=False))
        calls[ONNX] = lambda: graph.run(None, {"X": table})[0]
    agreed(calls)
    of_flights, flight = a_flight()
    calls[f"{OURS}, dict of flights"] = lambda: of_flights(flight)
    return calls


def a_flight() -> tuple[Any, dict[str, Any]]:
    """The predictor of a table with columns as those of nyc-late, and a row: texts, numbers with a gap, a date."""
    import pyarrow as pa

    m, rng = 2000, np.random.default_rng(0)
    numbers = ("sched_dep_time", "sched_arr_time", "distance", "temp", "dewp", "humid", "wind_dir", "wind_speed")
    levels = {"carrier": 16, "origin": 3, "dest": 105, "manufacturer": 30}
    table: dict[str, Any] = {name: rng.normal(size=m).round(3) for name in numbers}
    table |= {name: [f"{name} {k}" for k in rng.integers(0, count, m)] for name, count in levels.items()}
    table["time_hour"] = pa.array(1_357_000_000 + 3600 * rng.integers(0, 8760, m), pa.timestamp("s"))
    model = fb.TableClassifier((64,), epochs=2, random_state=0).fit(
        {**table, "late": rng.integers(0, 2, m)}, target="late"
    )
    row = {name: (pa.array(values)[0].as_py()) for name, values in table.items()}
    return fb.predictor(model), {**row, "wind_dir": None}


def graphs(case: str, m: int) -> dict[str, Callable[[], Any]]:
    """Our graph and that by hand, both with label and probabilities."""
    if without_onnx():
        return {}
    model = GRAPHS[case]
    ours = fitted(model)
    X = np.random.default_rng(1).normal(size=(m, model.inputs)).astype(model.dtype)
    protos = {EXPORTED: fb.to_onnx(ours), BY_HAND: graph_by_hand(ours, model, label=True)}
    sessions = {name: session(proto) for name, proto in protos.items()}
    for output in (PROBABILITIES, LABEL):
        agreed({name: partial(one.run, [output], {"X": X}) for name, one in sessions.items()})
    return {name: partial(one.run, None, {"X": X}) for name, one in sessions.items()}
