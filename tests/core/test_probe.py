"""A library that cannot do the pass is refused at the door, in words; one that can is asked once."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest

import fullbatch as fb
from fullbatch.core import probe
from fullbatch.errors import ArrayTypeError
from reference import problem

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
NETWORK = fb.Network([3, 4, 1])
WORDS = r"cannot do the pass \(.*\): it needs .* of version 2023.12 or later, whose arrays are dense and have a .device"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing was asked yet; the list counts how often the pass is tried."""
    tried, do = [], probe._do_the_pass
    monkeypatch.setattr(probe, "_ABLE", set())
    monkeypatch.setattr(probe, "_do_the_pass", lambda xp, *rest: (tried.append(xp), do(xp, *rest)))
    return tried


def calls(make):
    """The public functions and an estimator, on arrays that ``make`` makes."""
    params, X, Y = problem([3, 4, 1], 6, "sigmoid")
    there = [fb.Layer(make(W), make(b)) for W, b in params]
    X, table, Y, y = make(X), make(X.T.copy()), make(Y), Y[0] > 0.5
    yield lambda: NETWORK.forward(there, X)
    yield lambda: fb.cost(NETWORK, there, X, Y)
    yield lambda: fb.cost_and_gradients(NETWORK, there, X, Y)
    yield lambda: fb.gradient_descent(NETWORK, there, X, Y, learning_rate=0.1, iterations=1)
    yield lambda: fb.MLPClassifier(max_iter=1).fit(table, y)


def refused(make, words=WORDS):
    for call in calls(make):
        with pytest.raises(ArrayTypeError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert "numpy.asarray" in str(caught.value)


def test_a_library_is_asked_once(xp, fresh):
    for call in calls(xp.array):
        call()
    assert len(fresh) == (0 if xp.on_numpy or xp.name == "cupy" else 1)


@pytest.mark.filterwarnings("ignore:The 2021.12 version of the array API specification was requested")
@pytest.mark.parametrize("version", ["2021.12", "2022.12"])
def test_a_library_of_an_older_standard(version, fresh):
    """What it says of itself may change while it runs, so it is asked again then."""
    with array_api_strict.ArrayAPIStrictFlags(api_version=version):
        refused(array_api_strict.asarray, rf"array_api_strict, which follows version {version} of the .*{WORDS}")
    fresh.clear()
    for version in ("2023.12", "2024.12", "2023.12"):
        with array_api_strict.ArrayAPIStrictFlags(api_version=version):
            for call in calls(array_api_strict.asarray):
                call()
    assert len(fresh) == 2
    with array_api_strict.ArrayAPIStrictFlags(api_version="2022.12"):
        refused(array_api_strict.asarray)


class StandIn:
    """Stands in for an array of MLX: of the standard by its own account, NumPy's operators, and no device."""

    def __init__(self, values):
        self.values = np.asarray(values)
        self.dtype, self.shape, self.ndim = self.values.dtype, self.values.shape, self.values.ndim

    def __array_namespace__(self, api_version=None):
        return Namespace

    @property
    def T(self):
        return StandIn(self.values.T)

    def __getitem__(self, key):
        return StandIn(self.values[key])


class WithDevice(StandIn):
    device = "cpu"


class Namespace:
    """Its functions are NumPy's, as far as they go."""

    float32, asarray = np.float32, staticmethod(lambda values, dtype=None, device=None: WithDevice(values))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(StandIn, r"AttributeError: 'StandIn' object has no attribute 'device'"), (WithDevice, "TypeError: unsupported")],
)
def test_a_library_without_devices_or_operators(kind, reason):
    refused(kind, rf"the arrays of test_probe cannot do the pass \({reason}.*\): it needs")


@pytest.mark.parametrize("name", ["sparse", "blosc2", "ragged"])
def test_real_libraries_that_cannot(name):
    library = pytest.importorskip(name, reason=f"{name} is not installed")
    makers = {"sparse": lambda a: library.COO.from_numpy(a), "blosc2": lambda a: library.asarray(a)}
    refused(makers.get(name, lambda a: library.array(a)), rf"the arrays of {name}, .*{WORDS}")


def test_an_error_in_the_middle_of_memory_is_not_told_as_a_missing_function(monkeypatch):
    def full(xp, *rest):
        raise MemoryError

    monkeypatch.setattr(probe, "_do_the_pass", full)
    with pytest.raises(MemoryError):
        probe.check_able(array_api_strict.asarray([1.0]), fb.Network)


def test_what_comes_out_is_looked_at(monkeypatch):
    """A library whose gradients are of another dtype has not done the pass."""
    other = array_api_strict.ones((12,), dtype=array_api_strict.float64)
    monkeypatch.setattr(fb.Network, "backward_unchecked", lambda *_: fb.GradientSum(0, other, 1.0, (2, 2, 2)))
    with pytest.raises(
        ArrayTypeError, match=r"TypeError: a gradient came out as array_api_strict.float64 of shape \(2, 2\)"
    ):
        probe.check_able(array_api_strict.asarray([1.0]), fb.Network)


# --- Where it is asked while another library traces ------------------------------------------------------------------


def test_asked_for_the_first_time_in_a_trace_of_jax(fresh):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    params, X, _ = problem([3, 4, 1], 6, "sigmoid")
    there = [fb.Layer(jax.numpy.asarray(W), jax.numpy.asarray(b)) for W, b in params]
    with jax.checking_leaks():
        yhat = jax.jit(lambda X: NETWORK.forward(there, X).A[-1])(jax.numpy.asarray(X))
    np.testing.assert_allclose(yhat, NETWORK.forward(params, X).A[-1], rtol=1e-12)
    assert len(fresh) == 1


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")  # of array_api_compat
def test_asked_for_the_first_time_in_torch_compile(monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.undo()  # the counter cannot be traced
    probe._ABLE.clear()
    params, X, _ = problem([3, 4, 1], 6, "sigmoid")
    there = [fb.Layer(torch.tensor(W), torch.tensor(b)) for W, b in params]
    compiled = torch.compile(lambda X: NETWORK.forward(there, X).A[-1], backend="eager", fullgraph=True)
    np.testing.assert_allclose(compiled(torch.tensor(X)), NETWORK.forward(params, X).A[-1], rtol=1e-12)


def test_asked_for_the_first_time_in_a_graph_of_ndonnx(fresh):
    ndx = pytest.importorskip("ndonnx", reason="ndonnx is not installed")
    there = [fb.Layer(ndx.asarray(W), ndx.asarray(b)) for W, b in NETWORK.init(seed=0)]
    assert NETWORK.forward(there, ndx.argument(shape=(3, None), dtype=ndx.float64)).A[-1].ndim == 2
    assert len(fresh) == 1
