"""Models as ONNX graphs: what onnxruntime makes of them is what ``predict`` says."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

import fullbatch as fb
from fullbatch.core.network import Network
from fullbatch.errors import InputError, TableError
from fullbatch.saving.onnx import register_converters

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
QUICK = {"hidden": (4,), "epochs": 3, "batch_size": 32, "random_state": 0}


@pytest.fixture(scope="module")
def onnx():
    pytest.importorskip("ndonnx", reason="ndonnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return pytest.importorskip("onnx", reason="onnx is not installed")


def asked(exported, **feeds):
    """The outputs by name, of what a caller gives onnxruntime."""
    from fullbatch.saving.onnx.running import session_of

    session = session_of(exported)
    values = session.run(None, {name: np.asarray(one) for name, one in feeds.items()})
    return dict(zip([one.name for one in session.get_outputs()], values, strict=True))


def texts(*values):
    return np.array(values, dtype=object)


@pytest.mark.parametrize(
    "name",
    [
        "binary", "text classes", "26 classes", "regression", "poisson", "multi-label", "logistic",
        "gelu, silu, leaky_relu", "float64", "every kind of column",
    ],
)  # fmt: skip
def test_the_graph_says_what_the_model_says(onnx, name):
    """300 rows here; ``python tests/saving/onnx_models.py`` takes 10,000."""
    from onnx_models import MODELS, TOLERANCE, compared

    assert len(MODELS) == 10
    found = compared(MODELS[name], 600, 300)
    assert (found.unequal, found.near) == (0, 0)
    assert found.relative <= TOLERANCE[found.dtype]


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "leaky_relu", "identity", "gelu", "silu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_activation_runs_in_both_dtypes_far_out_too(onnx, activation, dtype):
    """The pass is traced as it stands: its own yhat, also where exp would overflow and onnxruntime's Sigmoid is 0."""
    from fullbatch.saving.onnx.tracing import NUMBERS, trace

    network = Network([1, 3, 1], activation, "sigmoid")
    params = network.init(seed=1, dtype=dtype)
    X = np.array([[-1e4, -90, -20, -1, 0, 1e-3, 2, 25, 1e4]], dtype)
    made = trace(network, params, 1, (), lambda yhat, xp: {"yhat": yhat})
    found = asked(made, **{NUMBERS: X.T})["yhat"]
    expected = network.forward(params, X).A[-1][0]
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=2e-5 if dtype == "float32" else 1e-13, atol=0)
    assert (found[expected > 0] > 0).all()


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "leaky_relu", "gelu", "silu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_shorter_activation_has_the_numbers_of_the_pass(onnx, activation, dtype):
    """Near 0, far out, NaN and infinity; and it is what the graph has: fewer nodes than the pass is traced to."""
    from fullbatch.core.activations import ACTIVATIONS
    from fullbatch.saving.onnx import tracing

    network, one = Network([1, 1, 1], activation, "identity"), np.ones((1, 1), dtype)
    far = [1e4, 87.5, 20, 10, 1, 1e-3, 1e-30]
    X = np.concatenate([np.linspace(-13, 13, 4001), far, np.negative(far), [0, np.nan, np.inf]]).astype(dtype)
    layers = [(one, one[0] * 0)] * 2

    def traced():
        made = tracing.trace(network, layers, 1, (), lambda yhat, xp: {"yhat": yhat})
        return made, asked(made, **{tracing.NUMBERS: X[:, np.newaxis]})["yhat"]

    made, found = traced()
    expected = ACTIVATIONS[activation].g(X[np.newaxis], np)[0]
    # Of gelu the tanh decides, whose error onnxruntime's and NumPy's share: 7e-7 in float32 for z about 6.
    tolerance = {"rtol": 3e-7, "atol": 8e-7} if dtype == "float32" else {"rtol": 1e-14, "atol": 1e-12}
    np.testing.assert_allclose(found, expected, **tolerance)
    if activation == "sigmoid":  # below onnxruntime's own Sigmoid, which is 0 there
        np.testing.assert_allclose(found, expected, rtol=3e-7 if dtype == "float32" else 1e-14)
    nodes = len(made.graph.node)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "SHORTER", {})
        (plain, again) = traced()
    np.testing.assert_allclose(again, expected, **tolerance)
    is_shorter = (activation, dtype) in tracing.SHORTER
    assert nodes < len(plain.graph.node) if is_shorter else nodes == len(plain.graph.node)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("output", "units", "nodes"), [("sigmoid", 1, 7), ("sigmoid", 3, 7), ("softmax", 3, 1)])
def test_a_shorter_output_has_the_numbers_of_the_pass(onnx, output, units, nodes, dtype):
    """A sigmoid to the bit, a softmax to its last digits, in the tails too; and it is what the graph has."""
    from fullbatch.saving.onnx import tracing

    network, one = Network([1, units], (), output), np.eye(units, 1, dtype=dtype)
    far = [700, 87.5, 20, 10, 1, 1e-3, 1e-30]
    X = np.concatenate([np.linspace(-20, 20, 4001), far, np.negative(far), [0, np.nan]]).astype(dtype)

    def traced():
        made = tracing.trace(network, [(one, one[:, 0] * 0)], 1, (), lambda yhat, xp: {"yhat": yhat})
        kinds = [node.op_type for node in made.graph.node if node.op_type not in ("Constant", "Identity")]
        return kinds, asked(made, **{tracing.NUMBERS: X[:, np.newaxis]})["yhat"]

    kinds, found = traced()
    assert len(kinds) == nodes + 2 + (units == 1), kinds  # and a product, a bias, the Squeeze of one unit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "OUTPUTS", {})
        more, plain = traced()
    assert more.count("Exp") == kinds.count("Exp") + 1
    expected = network.forward([(one, one * 0)], X[np.newaxis]).A[-1].T
    tolerance = {"rtol": 5e-7, "atol": 5e-39} if dtype == "float32" else {"rtol": 1e-14, "atol": 1e-307}
    np.testing.assert_allclose(found, expected[:, 0] if units == 1 else expected, **tolerance)
    if output == "sigmoid":
        np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize(
    ("classes", "looked_up"), [([0, 1, 2], False), ([1, 2, 3], True), ([0, 2, 4], True), (["a", "b", "c"], True)]
)
def test_labels_that_are_numbers_from_0_are_not_looked_up(onnx, classes, looked_up):
    X = np.random.default_rng(0).normal(size=(60, 2))
    y = np.array(classes)[np.digitize(X[:, 0], [-0.4, 0.4])]
    model = fb.LogisticRegression().fit(X, y)
    made = fb.to_onnx(model)
    assert ("Gather" in [node.op_type for node in made.graph.node]) == looked_up
    found = asked(made, X=X)["label"]
    assert found.dtype == (object if isinstance(classes[0], str) else np.int64)
    assert found.tolist() == model.predict(X).tolist()
    assert len(set(found.tolist())) == 3


@pytest.mark.parametrize("hidden", [(), (6,)])
def test_before_an_exp_the_last_layer_is_double(onnx, hidden):
    """An error of z is a relative error of e^z: at z = 60 a rounding in float32 alone is 2e-6 of it."""
    X = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    model = fb.MLPRegressor("poisson", hidden_layer_sizes=hidden, max_iter=2, random_state=0).fit(X, np.exp(X[:, 0]))
    model.coefs_[-1] *= np.float32(40 / np.abs(model.coefs_[-1]).sum())
    A = X
    for W, b in list(zip(model.coefs_, model.intercepts_, strict=True))[:-1]:
        A = np.maximum(A @ W + b, 0)
    z = A.astype(np.float64) @ model.coefs_[-1].astype(np.float64) + model.intercepts_[-1].astype(np.float64)
    assert np.abs(z).max() > 16
    found = asked(fb.to_onnx(model), X=X)["prediction"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.exp(z[:, 0]), rtol=1e-5 if hidden else 1e-7, atol=1e-37)  # of normal numbers
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-5, atol=1e-37)


def test_the_versions_the_metadata_and_no_zipmap(onnx):
    model = fb.LogisticRegression().fit([[0.0], [1.0]], ["no", "yes"])
    made = fb.to_onnx(model)
    assert made.ir_version == 9
    assert {one.domain: one.version for one in made.opset_import} == {"": 20, "ai.onnx.ml": 4}
    kinds = {node.op_type for node in made.graph.node}
    assert "Gemm" in kinds  # the product and the bias, which onnxruntime makes one node of in float32 alone
    assert not kinds & {"MatMul", "ZipMap", "OneHot", "Sigmoid", "Gelu", "LeakyRelu", "If"}
    metadata = {one.key: one.value for one in made.metadata_props}
    assert json.loads(metadata["classes"]) == ["no", "yes"]
    assert metadata["fullbatch"] == fb.__version__
    assert fb.to_onnx(model).SerializeToString(deterministic=True) == made.SerializeToString(deterministic=True)


def test_the_checksum_is_that_of_the_model_file(onnx, tmp_path):
    from fullbatch.saving.model_file import checksum_in

    model = fb.TableClassifier(**QUICK).fit({"x": np.arange(60.0), "y": np.arange(60) % 2}, target="y")
    fb.save(model, tmp_path / "m.model")
    (sha,) = [one.value for one in fb.to_onnx(model).metadata_props if one.key == "sha256"]
    assert sha == checksum_in(tmp_path / "m.model")


@pytest.mark.parametrize("labels", [[3, 7], [True, False], [0.0, 2.0], ["a", "b"], [1], ["x", "y", "z"]])
def test_labels_are_of_their_own_kind_and_no_row_is_a_table_too(onnx, labels):
    X = np.linspace(-1, 1, 30)[:, np.newaxis]
    y = np.array(labels)[np.arange(30) % len(labels)]
    model = fb.MLPClassifier((3,), max_iter=2, random_state=0).fit(X, y)
    for rows in (X, X[:1], X[:0]):
        found = asked(fb.to_onnx(model), X=rows)
        assert found["label"].shape == (len(rows),)
        assert found["probabilities"].shape == (len(rows), max(len(labels), 1))
        if len(rows):
            assert found["label"].tolist() == model.predict(rows).tolist()
            np.testing.assert_allclose(found["probabilities"], model.predict_proba(rows), atol=1e-12)


@pytest.mark.parametrize(
    "more",
    [{"log_target": True}, {"loss": "absolute_error"}, {"loss": "quantile", "quantile": 0.9}, {"loss": "poisson"}],
)
def test_a_target_is_scaled_back_and_never_below_0_where_it_never_was(onnx, more):
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    table = {"x": x, "y": np.where(x > 0, 40 * x, 0.0)}
    model = fb.TableRegressor(**QUICK, **more).fit(table, target="y")
    far = np.array([-50.0, -3, 0, 1, 50, np.nan])
    found = asked(fb.to_onnx(model), x=far)["prediction"]
    expected = model.predict({"x": far})
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)
    assert (found >= 0).all()


def test_several_outputs(onnx):
    X = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    model = fb.MLPRegressor(hidden_layer_sizes=(4,), max_iter=3).fit(X, X @ np.ones((2, 3), np.float32))
    np.testing.assert_allclose(asked(fb.to_onnx(model), X=X)["prediction"], model.predict(X), atol=1e-6)


def test_a_model_of_a_cluster_is_that_of_its_plain_kind(onnx):
    pytest.importorskip("distributed", reason="distributed is not installed")
    from fullbatch.dask import LogisticRegression

    plain = fb.LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    there = LogisticRegression()
    there.__dict__.update({name: value for name, value in vars(plain).items() if name not in plain.get_params()})
    assert fb.to_onnx(there).SerializeToString() == fb.to_onnx(plain).SerializeToString()


# --- Raw columns ---------------------------------------------------------------------------------------------


def test_the_parts_of_all_days_from_1600_to_2400(onnx):
    """In the graph by integer division; NumPy's calendar is the oracle."""
    from onnx import TensorProto, helper

    from fullbatch.saving.onnx.encoding import _position
    from fullbatch.saving.onnx.graph import Graph
    from fullbatch.tables.parts import DAY, LEVELS, part_of

    first, last = (int(np.datetime64(day, "D").astype(np.int64)) for day in ("1600-01-01", "2401-01-01"))
    seconds = np.arange(first, last) * DAY
    seconds = seconds + np.random.default_rng(0).integers(0, DAY, len(seconds))
    graph = Graph({"seconds", *LEVELS})
    for part in LEVELS:
        graph.op("Identity", _position(graph, "seconds", part), output=part)
    made = graph.model(
        "parts",
        [helper.make_tensor_value_info("seconds", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info(part, TensorProto.INT64, ["N"]) for part in LEVELS],
        {},
    )
    onnx.checker.check_model(made, full_check=True)
    found = asked(made, seconds=seconds)
    for part in LEVELS:
        np.testing.assert_array_equal(found[part], part_of(seconds.astype(np.float64), part), part)


@pytest.fixture(scope="module")
def towns():
    """A model of a text with gaps and levels beyond the most frequent, one without either, and numbers."""
    rng = np.random.default_rng(0)
    m = 400
    town = rng.choice(["Bonn", "Kiel", "Ulm", "Jena"], m, p=[0.4, 0.3, 0.2, 0.1]).astype(object)
    town[rng.random(m) < 0.1] = None
    table = {
        "town": town,
        "tie": rng.choice(["None", "red"], m),
        "level": rng.integers(0, 5, m).tolist(),
        "paid": rng.random(m) < 0.5,
        "x": np.where(rng.random(m) < 0.1, np.nan, rng.normal(size=m)),
        "day": np.datetime64("2024-01-01", "s") + rng.integers(0, 100 * 86_400, m).astype("timedelta64[s]"),
    }
    table["y"] = np.where((town == "Ulm") | (table["tie"] == "red") & (np.nan_to_num(table["x"]) > 0), "yes", "no")
    return fb.TableClassifier(**QUICK, max_levels=3).fit(table, target="y")


ROW = {
    "town": "Bonn",
    "tie": "red",
    "level": 1.0,
    "paid": True,
    "x": 0.5,
    "day": np.datetime64("2024-02-03T10:20", "s"),
}
GIVEN = {  # what the graph is given, where that is not what ``predict`` is
    "town": texts("Kiel", None, np.nan, "", "NA", "None", "<NA>", "nan", "Elsewhere", "Jena"),
    "tie": texts("red", "None", "nan", "", "blue"),
    "level": np.array([0.0, 4, 9, 1.5, np.nan]),
    "paid": np.array([True, False]),
    "x": np.array([0.0, np.nan, 1e30, -1e-30, 7]),
    "day": np.array(["2024-03-09", "1601-01-01", "2399-12-31T23:59:59", "NaT"], "datetime64[s]"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_odd_values_give_what_predict_gives(onnx, towns, name):
    values = GIVEN[name]
    table = {other: np.repeat(np.array([value]), len(values)) for other, value in ROW.items()} | {name: values}
    graph = {**table, "town": table["town"].astype(object), "tie": table["tie"].astype(object)}
    graph["day"] = table["day"].astype("datetime64[s]").astype(np.int64)  # NaT is the least integer
    found = asked(fb.to_onnx(towns), **graph)
    if (
        name == "town"
    ):  # onnxruntime makes "None" of None, so that this word is a gap; nobody has said so to ``predict``
        table["town"] = [None if value in ("None", np.nan) else value for value in values]
    else:
        table = {column: one.tolist() if one.dtype == object else one for column, one in table.items()}
    np.testing.assert_allclose(found["probabilities"], towns.predict_proba(table), atol=5e-7)
    assert found["label"].tolist() == towns.predict(table).tolist()
    assert len(np.unique(found["probabilities"][:, 0])) > 1


def test_where_the_graph_is_not_predict(onnx, towns):
    """As the docstring has it: spaces are not taken away, infinity is very large, and half a second is none."""
    exported = fb.to_onnx(towns)
    row = {name: np.array([value]) for name, value in ROW.items()}
    row |= {"town": texts("Bonn"), "tie": texts("red"), "day": row["day"].astype(np.int64)}
    plain = asked(exported, **row)["probabilities"]
    spaced = asked(exported, **{**row, "town": texts(" Bonn ")})["probabilities"]
    unseen = asked(exported, **{**row, "town": texts("elsewhere")})["probabilities"]
    np.testing.assert_array_equal(spaced, unseen)
    assert (spaced != plain).any()
    infinite, large = (asked(exported, **{**row, "x": np.array([x])})["probabilities"] for x in (np.inf, 1e305))
    np.testing.assert_allclose(infinite, large, atol=5e-7)
    with pytest.raises(TableError, match="infinite in row 1"):
        towns.predict({**{name: [value] for name, value in ROW.items()}, "x": [np.inf]})


def test_one_input_for_each_raw_column(onnx, towns):
    kinds = {"town": 8, "tie": 8, "level": 11, "paid": 9, "x": 11, "day": 7}  # string, double, bool, int64
    made = fb.to_onnx(towns)
    assert {one.name: one.type.tensor_type.elem_type for one in made.graph.input} == kinds
    assert all(len(one.type.tensor_type.shape.dim) == 1 for one in made.graph.input)
    empty = {"town": texts(), "tie": texts(), "level": np.zeros(0), "paid": np.zeros(0, bool), "x": np.zeros(0)}
    found = asked(made, **empty, day=np.zeros(0, np.int64))
    assert (found["label"].shape, found["probabilities"].shape) == ((0,), (0, 2))


@pytest.mark.parametrize("columns", [["kind"], ["kind", "size"], ["x"]])
def test_tables_of_categories_alone_and_of_numbers_alone(onnx, columns):
    rng = np.random.default_rng(0)
    table = {"kind": rng.choice(["a", "b", "c"], 90), "size": rng.integers(0, 4, 90).tolist(), "x": rng.normal(size=90)}
    table = {name: table[name] for name in columns} | {"y": rng.integers(0, 2, 90)}
    model = fb.TableClassifier(**QUICK, categorical=["size"] if "size" in columns else []).fit(table, target="y")
    feeds = {name: np.array(table[name], object if name == "kind" else np.float64) for name in columns}
    found = asked(fb.to_onnx(model), **feeds)
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(table), atol=5e-7)


def test_the_bins_of_a_number_are_those_of_the_model(onnx):
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 200, 1200) / 4
    table = {"steps": np.where(rng.random(1200) < 0.1, np.nan, steps), "y": np.where(steps % 7 < 3, "yes", "no")}
    model = fb.TableClassifier(**QUICK).fit(table, target="y")
    edges = model.network_.encoding.categories[0].edges
    values = np.array([*edges, *np.nextafter(edges, -np.inf), -1e300, 1e300, np.nan])
    found = asked(fb.to_onnx(model), steps=values)
    np.testing.assert_allclose(found["probabilities"], model.predict_proba({"steps": values}), atol=5e-7)


# --- Pipelines of scikit-learn -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_pipeline_converts(onnx):
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    register_converters()
    X = np.random.default_rng(0).normal(3, 5, size=(60, 4)).astype(np.float32)
    for estimator, y in [
        (fb.MLPClassifier((4,), max_iter=2), np.array(["a", "b", "c"])[np.arange(60) % 3]),
        (fb.LogisticRegression(), X[:, 0] > 3),
        (fb.MLPRegressor(hidden_layer_sizes=(4,), max_iter=2), X[:, 1]),
    ]:
        pipeline = make_pipeline(StandardScaler(), estimator).fit(X, y)
        options = {"options": {"zipmap": False}} if hasattr(estimator, "predict_proba") else {}
        made = skl2onnx.to_onnx(pipeline, X[:1], target_opset={"": 20, "ai.onnx.ml": 3}, **options)
        first, *proba = asked(made, X=X).values()
        if proba:
            assert first.tolist() == pipeline.predict(X).tolist()
            np.testing.assert_allclose(proba[0], pipeline.predict_proba(X), atol=1e-6)
        else:
            np.testing.assert_allclose(first.ravel(), pipeline.predict(X), atol=1e-5)
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder

    frame = pd.DataFrame({"town": np.array(["Bonn", "Ulm"])[np.arange(60) % 2], "x": X[:, 0].astype(np.float64)})
    columns = [("texts", OneHotEncoder(), ["town"]), ("numbers", StandardScaler(), ["x"])]
    mixed = make_pipeline(ColumnTransformer(columns, sparse_threshold=0), fb.MLPClassifier((4,), max_iter=2))
    mixed.fit(frame, X[:, 1] > 3)
    made = skl2onnx.to_onnx(mixed, frame[:1], target_opset=20, options={"zipmap": False})
    label, proba = asked(made, **{name: frame[[name]].to_numpy() for name in frame}).values()
    assert label.tolist() == mixed.predict(frame).tolist()
    np.testing.assert_allclose(proba, mixed.predict_proba(frame), atol=1e-12)
    with pytest.raises(InputError, match="expected 20 or more"):
        skl2onnx.to_onnx(pipeline, X[:1], target_opset={"": 15, "ai.onnx.ml": 3})


# --- Bad input -----------------------------------------------------------------------------------------------


def test_what_cannot_be_exported(onnx):
    with pytest.raises(InputError, match="MLPClassifier is not fitted, so there is nothing to export"):
        fb.to_onnx(fb.MLPClassifier())
    with pytest.raises(InputError, match="TableRegressor is not fitted"):
        fb.to_onnx(fb.TableRegressor())
    with pytest.raises(InputError, match="an object of type dict cannot be exported"):
        fb.to_onnx({})
    X, y = np.eye(4), [0, 1, 0, 1]
    half = fb.MLPClassifier((2,), max_iter=1).fit(X, y)
    half.coefs_ = [W.astype(np.float16) for W in half.coefs_]
    half.intercepts_ = [b.astype(np.float16) for b in half.intercepts_]
    with pytest.raises(InputError, match="the model is of float16; expected float32 or float64"):
        fb.to_onnx(half)
    own = fb.MLPClassifier((2,), activation=(np.tanh, lambda Z: 1 - np.tanh(Z) ** 2), max_iter=1).fit(X, y)
    with pytest.raises(InputError, match="an activation of your own"):
        fb.to_onnx(own)
    table = {"label": np.arange(60.0), "y": np.arange(60) % 2}
    with pytest.raises(InputError, match="the name of an output, 'label'"):
        fb.to_onnx(fb.TableClassifier(**QUICK).fit(table, target="y"))
    table = {"id": np.repeat([2**53 + 3, 5, 6], 20), "y": np.arange(60) % 2}
    with pytest.raises(InputError, match=r"'id' has levels beyond 2\^53"):
        fb.to_onnx(fb.TableClassifier(**QUICK, categorical=["id"]).fit(table, target="y"))


@pytest.mark.parametrize("name", ["onnx", "ndonnx"])
def test_without_the_extra_the_error_has_the_line_that_installs_it(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"pip install 'fullbatch\[onnx\]'"):
        fb.to_onnx(fb.MLPClassifier())


def test_an_export_needs_no_onnxruntime(onnx, monkeypatch):
    from fullbatch.saving.onnx.running import session_of, try_it

    made = fb.to_onnx(fb.LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    try_it(made)
    with pytest.raises(InputError, match="pip install onnxruntime"):
        session_of(made)


def test_the_one_row_finds_what_the_checker_does_not(onnx):
    """float64 LeakyRelu is valid ONNX, and has no kernel: an export with it would end in an error."""
    from onnx import TensorProto, helper

    from fullbatch.saving.onnx.running import try_it

    x, y = (helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["N"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("LeakyRelu", ["x"], ["y"])], "g", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    with pytest.raises(Exception, match="LeakyRelu"):
        try_it(made)


def test_marks_for_missing_values_are_gaps_in_the_graph(onnx):
    rng = np.random.default_rng(0)
    gaps = rng.random((3, 300)) < 0.2
    far = np.datetime64("9999-12-31", "s")
    table = {
        "x": np.where(gaps[0], -999, rng.normal(size=300)),
        "level": np.where(gaps[1], -999, rng.integers(0, 5, 300)),
        "day": np.where(gaps[2], far, np.datetime64("2020-01-01", "s") + rng.integers(0, 10**8, 300)),
        "paid": rng.random(300) < 0.5,
        "late": np.where(gaps[0] | (rng.random(300) < 0.3), "yes", "no"),
    }
    model = fb.TableClassifier(**QUICK, missing=["-999", "9999-12-31", "1"]).fit(table, target="late")
    given = {name: values for name, values in table.items() if name != "late"}
    feeds = {
        **given, "level": given["level"].astype(float), "day": given["day"].astype("datetime64[s]").astype(np.int64)
    }  # fmt: skip
    found = asked(fb.to_onnx(model), **feeds)["probabilities"]
    np.testing.assert_allclose(found, model.predict_proba(given), atol=5e-7)
    gone = asked(fb.to_onnx(model), **{**feeds, "x": np.where(gaps[0], np.nan, feeds["x"])})["probabilities"]
    np.testing.assert_array_equal(gone, found)
    assert {column["name"]: column["missing"] for column in model.columns_}["paid"] == 0
