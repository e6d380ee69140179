"""What is taken and what is refused, by functions and estimators alike: plain dense arrays, alike, on one device."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest

import fullbatch as fb
from fullbatch.core import door
from fullbatch.errors import ArrayTypeError, InputError
from reference import problem

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NETWORK = fb.Network([3, 4, 1])
TABLE = np.random.default_rng(0).normal(size=(12, 3))
TARGET = TABLE[:, 0]
LABELS = np.arange(12) % 2

# Everywhere that a caller's array comes in: each takes a function that makes something else of it.
DOORS = {
    "X of a function": lambda change: descend(X=change(TABLE.T.copy())),
    "Y of a function": lambda change: descend(Y=change(TARGET[np.newaxis, :])),
    "sample_weight of a function": lambda change: descend(weight=change(np.ones(12))),
    "W[1] of a function": lambda change: descend(change=change),
    "X of forward": lambda change: NETWORK.forward(NETWORK.init(seed=0), change(TABLE.T.copy())),
    "Y of backward": lambda change: backward(change(TARGET[np.newaxis, :])),
    "X of an estimator": lambda change: estimator().fit(change(TABLE.copy()), TARGET),
    "X of a prediction": lambda change: estimator().fit(TABLE, TARGET).predict(change(TABLE.copy())),
    "X of held-out rows": lambda change: estimator().fit(TABLE, TARGET, X_val=change(TABLE.copy()), y_val=TARGET),
    "y of an estimator": lambda change: estimator().fit(TABLE, change(TARGET.copy())),
    "sample_weight of an estimator": lambda change: estimator().fit(TABLE, TARGET, sample_weight=change(np.ones(12))),
}
# What comes in beside X in other calls than fit.
DOORS |= {
    "y of a score": lambda change: estimator().fit(TABLE, TARGET).score(TABLE, change(TARGET.copy())),
    "sample_weight of a score": lambda change: estimator().fit(TABLE, TARGET).score(TABLE, TARGET, change(np.ones(12))),
    "y of a classifier's score": lambda change: classifier().score(TABLE, change(LABELS.copy())),
    "sample_weight of a classifier's score": lambda change: classifier().score(TABLE, LABELS, change(np.ones(12))),
    "classes of partial_fit": lambda change: classifier().partial_fit(TABLE, LABELS, classes=change(np.arange(2))),
}
each_door = pytest.mark.parametrize("where", DOORS)
SOME_DOORS = ("X of a function", "X of an estimator", "y of an estimator")


def estimator():
    return fb.MLPRegressor(hidden_layer_sizes=(4,), max_iter=1, random_state=0)


def classifier():
    return fb.MLPClassifier(hidden_layer_sizes=(4,), max_iter=1, random_state=0).fit(TABLE, LABELS)


def descend(X=None, Y=None, weight=None, change=None):
    (W, b), *rest = NETWORK.init(seed=0)
    params = [(W if change is None else change(W), b), *rest]
    X, Y = TABLE.T if X is None else X, TARGET[np.newaxis, :] if Y is None else Y
    return fb.gradient_descent(NETWORK, params, X, Y, sample_weight=weight, learning_rate=0.1, iterations=1)


def backward(Y):
    params = NETWORK.init(seed=0)
    return NETWORK.backward(params, NETWORK.forward(params, TABLE.T), Y)


def module(name):
    return pytest.importorskip(name, reason=f"{name} is not installed")


# --- Units, masks, names --------------------------------------------------------------------------------------------


class Kilometres(np.ndarray):
    """Stands in for a library of units: NumPy's arrays, with a unit that they keep in some operations."""

    units = "km"


class InLittle(np.ndarray):
    """A subclass whose operators nobody knows."""


class Labelled:
    """Stands in for an array of xarray: no array of the standard, but NumPy can read it."""

    dims = coords = property(lambda self: ("row", "column"))

    def __init__(self, values):
        self.values, self.shape, self.ndim = values, values.shape, values.ndim

    def __array__(self, dtype=None, copy=None):
        return self.values

    def __len__(self):
        return len(self.values)


@each_door
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.view(Kilometres), "is of type test_door.Kilometres: it has a unit, which would be dropped"),
        (np.ma.masked_array, r"is of type numpy.MaskedArray: it has a mask, which would be dropped"),
        (np.matrix, r"is of type numpy.matrix: it may have operators of its own"),
        (lambda a: a.view(InLittle), r"is of type test_door.InLittle: .*Give the plain array, numpy.asarray\("),
        (Labelled, r"is of type test_door.Labelled: it has names, which would be dropped"),
    ],
    ids=["unit", "mask", "matrix", "subclass", "names"],
)
def test_what_would_be_dropped_in_silence_is_refused_with_the_cure(where, change, words):
    with pytest.raises(
        ArrayTypeError, match=rf"(?s)^{where.split(' of ')[0].replace('[', '.').replace(']', '.')} {words}"
    ):
        DOORS[where](change)


def of_marray(a):
    return module("marray").masked_namespace(np).asarray(a, mask=np.zeros(a.shape, dtype=bool))


def of_torch_masked(a):
    torch, masked = module("torch"), module("torch.masked")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a prototype
        return masked.masked_tensor(torch.tensor(a), torch.ones(a.shape, dtype=torch.bool))


REAL = {
    "unyt": ("a unit", lambda a: module("unyt").unyt_array(a, "km")),
    "astropy": ("a unit", lambda a: a * module("astropy.units").km),
    "quantities": ("a unit", lambda a: a * module("quantities").km),
    "pint": ("a unit", lambda a: module("pint").UnitRegistry().Quantity(a, "km")),
    "marray": ("a mask", of_marray),
    "dask of masked arrays": (
        "a mask",
        lambda a: module("dask.array").ma.masked_array(module("dask.array").from_array(a)),
    ),
    "torch.masked": ("a mask", of_torch_masked),
    "xarray": ("names", lambda a: module("xarray").DataArray(a)),
}


@pytest.mark.parametrize("where", SOME_DOORS)
@pytest.mark.parametrize("library", REAL)
def test_of_real_libraries(library, where):
    what, change = REAL[library]
    with pytest.raises(ArrayTypeError, match=f"it has {what}, which would be dropped"):
        DOORS[where](change)


@each_door
def test_a_memory_map_is_taken_and_leaves_no_trace(where, tmp_path):
    def mapped(array):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, array)
        return np.load(path, mmap_mode="r")

    result = DOORS[where](mapped)
    if isinstance(result, fb.Run):
        assert all(type(array) is np.ndarray for layer in result.params for array in layer)
        expected = descend(weight=np.ones(12) if "weight" in where else None)
        assert result.costs == expected.costs


def test_columns_called_mask_or_unit_are_columns():
    pandas = module("pandas")
    names = ["mask", "unit", "units", "dims", "coords", "compute", "collect"]
    table = pandas.DataFrame(np.ones((12, 7)), columns=names)
    assert list(estimator().fit(table, table["mask"]).feature_names_in_) == names
    labels = pandas.DatetimeIndex(["2020-01-01", "2021-01-01"] * 6)  # whose class has a unit
    assert len(fb.MLPClassifier(max_iter=1).fit(table, labels).classes_) == 2


# --- Tables that are yet to be computed ------------------------------------------------------------------------------


class Postponed:
    """Stands in for dask's data frame."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("it was pulled into memory")

    def __len__(self):
        return len(self.values)

    def mask(self):  # as a frame has
        raise NotImplementedError

    def compute(self):
        return self.values


def of_dask(a):
    table = module("pandas").DataFrame(a)
    lazy = module("dask.dataframe").from_pandas(table, npartitions=2)
    return lazy if a.ndim == 2 else lazy[0]


@pytest.mark.parametrize(
    ("change", "method"),
    [(Postponed, "compute"), (of_dask, "compute"), (lambda a: module("polars").LazyFrame(a), "collect")],
    ids=["stand-in", "dask", "polars"],
)
@pytest.mark.parametrize("where", ["X of an estimator", "X of a prediction", "y of an estimator", "y of a score"])
def test_a_lazy_table_is_not_pulled_into_memory_in_silence(where, change, method):
    with pytest.raises(ArrayTypeError, match=rf"which is yet to be computed: .*\.{method}\(\) brings it into memory"):
        DOORS[where](change)


def test_what_the_errors_on_lazy_tables_propose_works():
    frame = of_dask(TABLE)
    expected = estimator().fit(TABLE, TARGET).coefs_[0]
    for X, y in [(frame.compute(), of_dask(TARGET).compute()), (frame.to_dask_array(lengths=True), TARGET)]:
        np.testing.assert_allclose(np.asarray(estimator().fit(X, y).coefs_[0]), expected, rtol=1e-12)


# --- Dense ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", SOME_DOORS)
def test_sparse_tensors_are_refused(where):
    torch = module("torch")
    with pytest.raises(ArrayTypeError, match=r"stored as torch.sparse_coo; it must be dense. Convert it: .\.to_dense"):
        DOORS[where](lambda a: torch.tensor(a).to_sparse())


@pytest.mark.parametrize("where", SOME_DOORS)
def test_dask_arrays_of_sparse_blocks_are_refused(where):
    da, coo = module("dask.array"), module("scipy.sparse").coo_array

    def change(a):
        return da.from_array(a).map_blocks(coo, meta=coo(np.zeros((1,) * a.ndim)))

    if isinstance(change(TABLE)._meta, np.ndarray):
        pytest.skip("dask makes dense arrays of this SciPy's empty sparse ones, and so cannot say what its blocks are")

    with pytest.raises(ArrayTypeError, match=r"stored as blocks of scipy; it must be dense"):
        DOORS[where](change)


# --- Alike ----------------------------------------------------------------------------------------------------------


def test_the_cure_for_a_dtype_is_in_the_words_of_the_library(xp):
    """X.astype is no method of torch."""
    words = {"numpy": r"X.astype('float32')", "cupy": r"X.astype('float32')", "torch": r"X.to(torch.float32)"}
    cure = words.get(xp.name.split("-")[0], f"{xp.xp.__name__}.astype(X, {xp.xp.__name__}.float32)")
    params, X, _ = problem([3, 4, 1], 6, "sigmoid")
    integers = xp.array(10 * X, "int32")
    with pytest.raises(ArrayTypeError) as caught:
        NETWORK.forward(xp.params(params), integers)
    assert str(caught.value) == f"X has dtype int32; it must be float32 or float64. Convert it: {cure}."
    names = {"X": integers, "torch": xp.xp, xp.xp.__name__.split(".")[0]: sys.modules[xp.xp.__name__.split(".")[0]]}
    assert xp.has(eval(cure, names), "float32")
    if "float64" in xp.dtypes:
        with pytest.raises(ArrayTypeError, match=r"for example .*\bb\b.*float64"):
            NETWORK.forward([(W, xp.array(b, "float32")) for W, b in params_of(xp, params)], xp.array(X))


def params_of(xp, params):
    return [(xp.array(W), b) for W, b in params]


def test_a_trace_has_no_device_and_takes_parameters_that_have():
    """jax.jit with parameters closed over, vmap, export for any m, and the other way round: data closed over."""
    jax = module("jax")
    params, X, Y = problem([3, 4, 1], 6, "sigmoid")
    expected = NETWORK.forward(params, X).A[-1]
    there = [fb.Layer(jax.numpy.asarray(W), jax.numpy.asarray(b)) for W, b in params]
    X, Y = jax.numpy.asarray(X), jax.numpy.asarray(Y)

    def yhat(X):
        return NETWORK.forward(there, X).A[-1]

    def loss(params, X, Y):
        sums = NETWORK.backward(params, NETWORK.forward(params, X), Y)
        return sums.loss / sums.weight

    np.testing.assert_allclose(jax.jit(yhat)(X), expected, rtol=1e-12)
    by_column = jax.vmap(lambda x: yhat(x[:, None])[:, 0], in_axes=1, out_axes=1)
    np.testing.assert_allclose(by_column(X), expected, rtol=1e-12)
    J = fb.cost(NETWORK, there, X, Y)
    assert float(jax.jit(lambda params: loss(params, X, Y))(there)) == pytest.approx(J, rel=1e-12)
    sizes = jax.export.symbolic_shape("m")
    shapes = [jax.ShapeDtypeStruct((rows, *sizes), X.dtype) for rows in (3, 1)]
    exported = jax.export.export(jax.jit(lambda X, Y: loss(there, X, Y)))(*shapes)
    assert float(exported.call(X, Y)) == pytest.approx(J, rel=1e-12)


def run(script, **variables):
    """A script in a process of its own; what it prints."""
    env = {**os.environ, "PYTHONPATH": str(Path(fb.__file__).parents[1]), "JAX_PLATFORMS": "cpu", **variables}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_sharding_is_no_other_device_and_two_devices_are():
    module("jax")
    said = run(
        """
        import warnings
        import jax, numpy as np, fullbatch as fb
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        from sklearn.exceptions import ConvergenceWarning
        warnings.simplefilter("ignore", ConvergenceWarning)
        jax.config.update("jax_enable_x64", True)
        one, two = jax.devices()
        rng = np.random.default_rng(0)
        X, Y = rng.normal(size=(3, 8)), rng.normal(size=(1, 8))
        net = fb.Network([3, 4, 1], output="identity")
        params = net.init(seed=0, xp=jax.numpy)
        over = NamedSharding(Mesh(np.array([one, two]), ("m",)), PartitionSpec(None, "m"))
        there = [jax.device_put(a, over) for a in (X, Y)]
        here = [jax.device_put(a, one) for a in (X, Y)]
        settings = dict(learning_rate=0.1, iterations=1)
        costs = [fb.gradient_descent(net, params, *data, **settings).costs for data in (there, here)]
        np.testing.assert_allclose(*costs, rtol=1e-12)
        model = fb.MLPRegressor(hidden_layer_sizes=(4,), max_iter=1, random_state=0)
        expected = model.fit(X.T, Y[0]).predict(X.T)
        np.testing.assert_allclose(model.fit(there[0].T, Y[0]).predict(there[0].T), expected, rtol=1e-9)
        print(model.device_)
        for where in (two, over):
            try:
                net.forward([fb.Layer(*(jax.device_put(a, one) for a in layer)) for layer in params],
                            jax.device_put(X, where))
            except fb.errors.ArrayTypeError as error:
                print(error)
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    assert said.splitlines() == [
        "jax cpu:0, cpu:1",
        "X is on device cpu:1 and W[1] on cpu:0; put both on one device.",
        "X is on device cpu:0, cpu:1 and W[1] on cpu:0; put both on one device.",
    ]


def test_jax_without_x64_warns_of_nothing():
    module("jax")
    run(
        """
        import warnings
        import jax.numpy as jnp, numpy as np, fullbatch as fb
        from sklearn.exceptions import ConvergenceWarning
        warnings.simplefilter("ignore", ConvergenceWarning)
        X = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)))
        labels = np.arange(40) % 2
        for y in (labels, np.stack([labels, labels], axis=1)):
            model = fb.MLPClassifier(max_iter=1).fit(X, y)
            assert model.predict(X).dtype == "int32" and model.predict(X).shape == y.shape
            assert model.coefs_[0].dtype == "float32"
        """
    )


# --- Unknown sizes --------------------------------------------------------------------------------------------------


@pytest.fixture
def unknown():
    """X and Y of dask, whose number of columns is not known: those of a mask are chosen."""
    da = module("dask.array")
    _, X, Y = problem([3, 4, 1], 9, "sigmoid")
    chosen = np.arange(9) % 3 > 0
    lazy = [da.from_array(a, chunks=(-1, 4))[:, da.from_array(chosen, chunks=4)] for a in (X, Y)]
    return lazy, [a[:, chosen] for a in (X, Y)]


def test_forward_and_backward_need_no_number_of_examples(unknown):
    (X, Y), known = unknown
    params = NETWORK.init(seed=0)
    there = [fb.Layer(*map(module("dask.array").from_array, layer)) for layer in params]
    sums = NETWORK.backward(there, NETWORK.forward(there, X), Y)
    expected = NETWORK.backward(params, NETWORK.forward(params, known[0]), known[1])
    assert float(sums.weight) == expected.weight == 6.0
    assert float(sums.loss) == pytest.approx(expected.loss, rel=1e-12)
    np.testing.assert_allclose(sums.gradients[0].W.compute(), expected.gradients[0].W, rtol=1e-10)
    ones = NETWORK.backward(there, NETWORK.forward(there, X), Y, module("dask.array").ones_like(Y[0, :]))
    assert float(ones.weight) == 6.0


def test_where_examples_are_taken_in_blocks_their_number_must_be_known(unknown):
    (X, Y), known = unknown
    there = [fb.Layer(*map(module("dask.array").from_array, layer)) for layer in NETWORK.init(seed=0)]
    for call in (fb.cost, fb.cost_and_gradients):
        with pytest.raises(
            InputError, match=r"X has shape \(3, nan\): its size is not known.*X.compute_chunk_sizes\(\)"
        ):
            call(NETWORK, there, X, Y)
    with pytest.raises(InputError, match=r"X has shape \(nan, 3\): its size is not known"):
        estimator().fit(X.T, known[1][0])
    for array in (X, Y):
        array.compute_chunk_sizes()  # the cure
    assert fb.cost(NETWORK, there, X, Y) == pytest.approx(fb.cost(NETWORK, NETWORK.init(seed=0), *known), rel=1e-12)


@pytest.mark.parametrize(("size", "known"), [(5, True), (np.int64(5), True), (None, False), (float("nan"), False)])
def test_known(size, known):
    assert door.known(size) == known


@pytest.mark.parametrize("m", [None, "m"])
def test_a_graph_for_any_number_of_examples(m):
    """ndonnx traces forward and backward of the public network; onnxruntime runs what it made."""
    ndx, onnxruntime = module("ndonnx"), module("onnxruntime")
    network = fb.Network([3, 4, 2], hidden="gelu", output="softmax")
    params = network.init(seed=0)
    there = [fb.Layer(ndx.asarray(W), ndx.asarray(b)) for W, b in params]
    X, Y = (ndx.argument(shape=(rows, m), dtype=ndx.float64) for rows in (3, 2))
    pass_ = network.forward(there, X)
    sums = network.backward(there, pass_, Y)
    outputs = {"yhat": pass_.A[-1], "loss": sums.loss, "weight": sums.weight, "dW": sums.gradients[0].W}
    session = onnxruntime.InferenceSession(ndx.build({"X": X, "Y": Y}, outputs).SerializeToString())
    for examples in (1, 7):
        _, x, y = problem([3, 4, 2], examples, "softmax", seed=examples)
        found = dict(zip(outputs, session.run(list(outputs), {"X": x, "Y": y}), strict=True))
        own = network.forward(params, x)
        expected = network.backward(params, own, y)
        np.testing.assert_allclose(found["yhat"], own.A[-1], rtol=1e-12)
        assert float(found["weight"]) == examples
        assert float(found["loss"]) == pytest.approx(float(expected.loss), rel=1e-12)
        np.testing.assert_allclose(found["dW"], expected.gradients[0].W, rtol=1e-9, atol=1e-14)
    with pytest.raises(InputError, match=r"X has shape \(3, None\): its size is not known"):
        fb.cost(network, there, X, Y)
