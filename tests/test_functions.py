"""J and its gradient: L2, example weights, what comes back, where it is computed, and what is refused."""

from __future__ import annotations

import math

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fullbatch as fb
from fullbatch import errors
from fullbatch.core.parameters import flatten
from fullbatch.errors import ArrayTypeError, DeviceError, InputError, NonFiniteError
from fullbatch.fold import blocks
from fullbatch.machine import places
from fullbatch.sources import Dense, Examples
from fullbatch.training.objective import Objective
from reference import oracle, problem, relative
from through_layers import cost_and_layers

SIZES = [3, 4, 2]


def flat(layers):
    return [array for layer in layers for array in layer]


# --- The formulas ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l2", [0.0, 0.8])
@pytest.mark.parametrize("weighted", [False, True])
def test_l2_and_weights_are_the_scalar_loop(xp, l2, weighted):
    """J += (lambda / 2m) sum ||W||^2 and dW += (lambda / m) W, where m is the sum of the weights; not the biases."""
    params, X, Y = problem(SIZES, 7, "softmax", seed=3)
    weight = np.array([0.5, 2.0, 0.0, 1.0, 3.0, 0.25, 1.0]) if weighted else None
    J, expected = oracle(params, ["tanh"], "softmax", X, Y, l2=l2, weights=weight)
    call = (fb.Network(SIZES, output="softmax"), xp.params(params), xp.array(X), xp.array(Y))
    options = {"l2": l2, "sample_weight": None if weight is None else xp.array(weight)}
    cost, gradients = fb.cost_and_gradients(*call, **options)
    assert type(cost) is float
    assert cost == pytest.approx(J, rel=xp.tolerance)
    assert fb.cost(*call, **options) == cost
    assert relative(xp.hosts(gradients), expected) < xp.tolerance


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_comes_back_is_of_the_callers_library_dtype_and_device(xp, dtype, monkeypatch):
    if dtype not in xp.dtypes:
        return
    params, X, Y = problem(SIZES, 300, "softmax", dtype=dtype)
    call = (fb.Network(SIZES, output="softmax"), xp.params(params, dtype), xp.array(X, dtype), xp.array(Y, dtype))
    for block in (64, 8192):  # several blocks, whose sums are of the widest dtype, and one
        monkeypatch.setattr(blocks, "block_size", lambda *_, block=block, **__: block)
        J, gradients = fb.cost_and_gradients(*call, l2=0.1)
        assert type(J) is float
        assert type(fb.cost(*call)) is float
        assert [type(layer) for layer in gradients] == [fb.Layer, fb.Layer]
        assert all(xp.has(array, dtype) for array in flat(gradients))
        run = fb.gradient_descent(*call, learning_rate=0.1, iterations=2)
        assert all(xp.has(array, dtype) for array in flat(run.params))
        assert all(type(cost) is float for cost in run.costs)


@given(weights=st.lists(st.integers(0, 4), min_size=2, max_size=8).filter(any), l2=st.sampled_from([0.0, 0.9]))
def test_weight_2_is_the_example_twice_and_weight_0_is_leaving_it_out(weights, l2):
    """Also for L2: m is the sum of the weights."""
    params, X, Y = problem(SIZES, len(weights), "softmax", seed=1)
    network = fb.Network(SIZES, output="softmax")
    params = tuple(fb.Layer(*layer) for layer in params)
    J, gradients = fb.cost_and_gradients(network, params, X, Y, l2=l2, sample_weight=np.array(weights, dtype=float))
    often = np.repeat(np.arange(len(weights)), weights)
    K, repeated = fb.cost_and_gradients(network, params, X[:, often], Y[:, often], l2=l2)
    assert pytest.approx(K, rel=1e-12) == J
    assert relative(flat(gradients), flat(repeated)) < 1e-12


def test_a_common_factor_of_the_weights_changes_nothing_but_l2():
    params, X, Y = problem(SIZES, 9, "softmax")
    network = fb.Network(SIZES, output="softmax")
    weight = np.random.default_rng(0).random(9)
    once, often = (fb.cost(network, params, X, Y, sample_weight=w) for w in (weight, 1e3 * weight))
    assert once == pytest.approx(often, rel=1e-12)
    once, often = (fb.cost(network, params, X, Y, sample_weight=w, l2=1.0) for w in (weight, 1e3 * weight))
    plain = fb.cost(network, params, X, Y, sample_weight=weight)
    assert once - plain == pytest.approx(1e3 * (often - plain), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e300])
def test_very_small_and_very_large_weights(scale):
    params, X, Y = problem(SIZES, 9, "softmax")
    network = fb.Network(SIZES, output="softmax")
    J, gradients = fb.cost_and_gradients(network, params, X, Y)
    K, scaled = fb.cost_and_gradients(network, params, X, Y, sample_weight=np.full(9, scale))
    assert pytest.approx(J, rel=1e-9) == K
    assert relative(flat(scaled), flat(gradients)) < 1e-9


def test_weights_of_zero_in_a_whole_mini_batch_leave_the_gradient_at_zero(xp):
    params, X, Y = problem(SIZES, 8, "softmax")
    weight = np.array([0.0] * 4 + [1.0] * 4)
    with Objective(fb.Network(SIZES, output="softmax"), xp.examples(X, Y, weight), l2=1.0) as it:
        J, gradients = cost_and_layers(it, xp.params(params), slice(0, 4))
        assert J == 0.0
        assert all(not np.any(array) for array in xp.hosts(gradients))
        assert it.cost(flatten(xp.params(params)), slice(0, 4)) == 0.0


def test_in_a_mini_batch_m_is_the_weight_of_the_batch():
    params, X, Y = problem(SIZES, 8, "softmax")
    weight = np.arange(1.0, 9.0)
    J, expected = oracle(params, ["tanh"], "softmax", X[:, 2:5], Y[:, 2:5], l2=0.6, weights=weight[2:5])
    examples = Examples(Dense(X), Dense(Y), weight)
    with Objective(fb.Network(SIZES, output="softmax"), examples, l2=0.6) as it:
        cost, gradients = cost_and_layers(it, tuple(fb.Layer(*layer) for layer in params), slice(2, 5))
    assert cost == pytest.approx(J, rel=1e-12)
    assert relative(flat(gradients), expected) < 1e-12


# --- Finite, or a clear error ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [1e3, 1e4, 1e8, 1e30])
@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_n4_the_cost_is_finite_at_any_finite_pre_activation(z, output, dtype):
    network = fb.Network([1, 2], output=output)
    params = (fb.Layer(np.array([[z], [-z]], dtype=dtype), np.zeros((2, 1), dtype=dtype)),)
    X = np.array([[1.0, -1.0]], dtype=dtype)
    wrong = np.array([[0.0, 1.0], [1.0, 0.0]], dtype=dtype)
    J, gradients = fb.cost_and_gradients(network, params, X, wrong)
    assert pytest.approx(2 * z, rel=1e-6) == J
    assert all(np.all(np.isfinite(array)) for array in flat(gradients))
    J, gradients = fb.cost_and_gradients(network, params, X, 1 - wrong)
    assert pytest.approx(0.0, abs=1e-12) == J


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["X", "Y", "W", "b"])
def test_a_cost_that_is_not_finite_is_one_clear_error_and_no_warning(xp, value, where):
    params, X, Y = problem(SIZES, 6, "identity")
    {"X": X, "Y": Y, "W": params[1][0], "b": params[0][1]}[where][0, 0] = value
    network = fb.Network(SIZES, hidden="relu", output="identity")
    ours = (network, xp.params(params), xp.array(X), xp.array(Y))
    if where == "b" and value == -math.inf:
        return  # ReLU makes 0 of it: a finite cost
    for call in (fb.cost, fb.cost_and_gradients):
        with pytest.raises(
            NonFiniteError, match=r"the cost is (nan|inf): X, Y or the parameters contain NaN or infinity"
        ):
            call(*ours)


def test_an_overflow_of_the_poisson_loss_is_a_clear_error_and_no_warning(xp):
    network = fb.Network([1, 1], output="exp")
    params = xp.params([([[1e4]], [[0.0]])])
    with pytest.raises(NonFiniteError, match="so large that the pass overflows"):
        fb.cost_and_gradients(network, params, xp.array([[1.0]]), xp.array([[1.0]]))


@pytest.mark.parametrize("l2", [0.0, 1.0])
def test_large_float32_weights_do_not_overflow_in_the_penalty(l2):
    """W * W is beyond float32 at 1e20, but J is a Python float."""
    network = fb.Network([1, 1])
    params = (fb.Layer(np.full((1, 1), 1e20, dtype="float32"), np.zeros((1, 1), dtype="float32")),)
    X, Y = np.zeros((1, 2), dtype="float32"), np.zeros((1, 2), dtype="float32")
    J, _ = fb.cost_and_gradients(network, params, X, Y, l2=l2)
    assert pytest.approx(math.log(2) + l2 / 4 * 1e40, rel=1e-6) == J


def test_gradients_too_large_for_the_dtype_warn_of_nothing(monkeypatch):
    """Blocks that float32 can hold add up in float64 to more than it can: the cost is still right, the step is not."""
    monkeypatch.setattr(blocks, "block_size", lambda *_, **__: 64)
    network = fb.Network([1, 1], output="identity")
    params = (fb.Layer(np.zeros((1, 1), dtype="float32"), np.zeros((1, 1), dtype="float32")),)
    X, Y = np.full((1, 2048), 1e18, dtype="float32"), np.full((1, 2048), 1e18, dtype="float32")
    X, Y = X * 4, Y / 2
    with Objective(network, Examples(Dense(X), Dense(Y))) as it:
        J, gradients = cost_and_layers(it, params)
    assert pytest.approx(0.5 * 2.5e35, rel=1e-6) == J
    assert float(gradients[0].W[0, 0]) == pytest.approx(-2e36, rel=1e-6)
    with pytest.raises(NonFiniteError, match=r"the cost became (inf|nan) at iteration 1: the steps are too large"):
        fb.gradient_descent(network, params, X, Y, learning_rate=1e6, iterations=5)


# --- What is refused ------------------------------------------------------------------------------------------------


def call(**options):
    params, X, Y = problem(SIZES, 6, "softmax")
    return fb.cost_and_gradients(fb.Network(SIZES, output="softmax"), params, X, Y, **options)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, "much", None, 1j, [1.0], "0.5", True])
def test_a_bad_l2(bad):
    with pytest.raises(InputError, match=r"l2 must be a finite number of at least 0"):
        call(l2=bad)


@pytest.mark.parametrize("good", [0, 1, np.float32(0.5), np.int64(2)])
def test_a_good_l2(good):
    assert math.isfinite(call(l2=good)[0])


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ([1, 1, -1, 1, 1, 1], "negative weights"),
        ([0, 0, 0, 0, 0, 0], "zero for all examples"),
        ([1, math.nan, 1, 1, 1, 1], "contains NaN or infinity"),
        ([1, math.inf, 1, 1, 1, 1], "contains NaN or infinity"),
    ],
)
def test_bad_weights(xp, weight, words):
    params, X, Y = problem(SIZES, 6, "softmax")
    with pytest.raises(InputError, match=f"sample_weight .*{words}"):
        fb.cost(
            fb.Network(SIZES, output="softmax"),
            xp.params(params),
            xp.array(X),
            xp.array(Y),
            sample_weight=xp.array(weight),
        )


def test_weights_whose_sum_overflows():
    with pytest.raises(InputError, match="sample_weight"):
        call(sample_weight=np.full(6, 1e308))


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "2", math.nan])
def test_bad_threads(bad):
    with pytest.raises(InputError, match="threads must be an integer of at least 1"):
        call(threads=bad)


@given(
    name=st.sampled_from(["l2", "learning_rate", "momentum", "tol", "iterations"]),
    value=st.one_of(st.floats(max_value=-1e-300), st.just(math.nan), st.just(math.inf), st.text(max_size=3), st.none()),
)
def test_no_bad_number_gets_through(name, value):
    params, X, Y = problem([2, 1], 5, "sigmoid")
    options = {"learning_rate": 0.1, "iterations": 1, name: value}
    with pytest.raises(InputError, match=f"{name} must be"):
        fb.gradient_descent(fb.Network([2, 1]), params, X, Y, **options)


@pytest.mark.parametrize(("at_least", "above", "good"), [(0, None, [0, 1]), (None, 0, [1e-9, 1])])
def test_check_number(at_least, above, good):
    for value in good:
        assert errors.check_number("x", value, at_least=at_least, above=above) == value
    for value in (10**400, -(10**400)):  # ``float`` raises of them
        with pytest.raises(InputError, match="x must be a finite number"):
            errors.check_number("x", value, at_least=at_least, above=above)


# --- Where it is computed -------------------------------------------------------------------------------------------


def test_an_unknown_device_lists_the_known_ones(xp):
    params, X, Y = problem(SIZES, 6, "softmax")
    ours = (fb.Network(SIZES, output="softmax"), xp.params(params), xp.array(X), xp.array(Y))
    for bad in ("gpu", "cuda:x", "", "CPU", 0):
        with pytest.raises(InputError, match=r"unknown device .*the known ones are auto, cpu, cuda and cuda:N"):
            fb.cost(*ours, device=bad)


@pytest.mark.parametrize("device", [None, "cpu", "auto"])
def test_cpu_and_auto_compute_host_arrays(device):
    J, gradients = call(device=device)
    assert pytest.approx(call()[0], rel=1e-12) == J
    assert all(type(array) is np.ndarray for array in flat(gradients))


@pytest.mark.skipif(any(d.name == "cuda:0" and d.usable for d in fb.devices()), reason="there is a GPU")
def test_cuda_without_a_gpu_is_an_error_with_the_cure():
    for run in (lambda: call(device="cuda"), lambda: call(device="cuda:1")):
        with pytest.raises(DeviceError) as caught:
            run()
        assert "\n" not in str(caught.value)
        assert any(word in str(caught.value) for word in ("install", "nvidia-smi"))


@pytest.fixture
def pretended_gpu(monkeypatch):
    """device="cuda" is array_api_strict's device1: it cannot be mixed with host arrays either."""
    place = places.Place("cuda:0", array_api_strict, array_api_strict.Device("device1"))
    real = places.place
    monkeypatch.setattr(places, "place", lambda device: place if device == "cuda" else real(device))
    return place


@pytest.mark.parametrize("weighted", [False, True])
def test_a_device_is_given_blocks_and_gives_back_host_arrays(pretended_gpu, weighted, monkeypatch, host_step):
    monkeypatch.setattr(blocks, "block_size", lambda *_, **__: 64)
    params, X, Y = problem(SIZES, 333, "softmax")
    X.flags.writeable = False
    weight = np.random.default_rng(0).random(333) if weighted else None
    network = fb.Network(SIZES, output="softmax")
    options = {"l2": 0.5, "sample_weight": weight}
    J, gradients = fb.cost_and_gradients(network, params, X, Y, **options)
    K, there = fb.cost_and_gradients(network, params, X, Y, device="cuda", **options)
    assert type(K) is float
    assert pytest.approx(J, rel=1e-12) == K
    assert all(type(array) is np.ndarray for array in flat(there))
    assert relative(flat(there), flat(gradients)) < 1e-12
    assert fb.cost(network, params, X, Y, device="cuda", **options) == pytest.approx(J, rel=1e-12)
    settings = {"learning_rate": 0.3, "iterations": 4, "momentum": 0.5, **options}
    here, run = (fb.gradient_descent(network, params, X, Y, device=d, **settings) for d in ("cpu", "cuda"))
    assert (here.step, run.step, run.threads) == (host_step, "array", 1)
    assert run.costs == pytest.approx(here.costs, rel=1e-12)
    assert all(type(array) is np.ndarray for array in flat(run.params))
    assert relative(flat(run.params), flat(here.params)) < 1e-12


def test_what_an_error_keeps_comes_back_to_the_host_too(pretended_gpu):
    params, X, Y = problem([2, 3, 1], 50, "identity")
    network = fb.Network([2, 3, 1], hidden="relu", output="identity")
    with pytest.raises(NonFiniteError) as caught:
        fb.gradient_descent(network, params, X, Y, learning_rate=1e6, iterations=400, device="cuda")
    assert all(type(array) is np.ndarray for array in flat(caught.value.params))
    assert math.isfinite(fb.cost(network, caught.value.params, X, Y))


def test_arrays_on_a_device_stay_there(pretended_gpu):
    """device= places host input only; and to bring a device's arrays to the CPU is not done in silence."""
    params, X, Y = problem(SIZES, 6, "softmax")
    two = array_api_strict.Device("device2")
    X, Y = (array_api_strict.asarray(a, device=two) for a in (X, Y))
    ours = [fb.Layer(*(array_api_strict.asarray(a, device=two) for a in layer)) for layer in params]
    network = fb.Network(SIZES, output="softmax")
    for device in ("cuda", "auto", None):
        _, gradients = fb.cost_and_gradients(network, ours, X, Y, device=device)
        assert all(array.device == two for array in flat(gradients))
    with pytest.raises(
        ArrayTypeError, match=r"device='cpu' and X is an array of array_api_strict.*not copied in silence"
    ):
        fb.cost(network, ours, X, Y, device="cpu")


def test_what_lies_on_a_cpu_is_there_already(xp):
    params, X, Y = problem(SIZES, 6, "softmax")
    ours = fb.Network(SIZES, output="softmax"), xp.params(params), xp.array(X), xp.array(Y)
    if xp.name in ("strict-device1", "strict-no_float64", "cupy"):
        with pytest.raises(ArrayTypeError, match="it is not copied in silence"):
            fb.cost(*ours, device="cpu")
    else:
        assert fb.cost(*ours, device="cpu") == fb.cost(*ours)


@pytest.mark.gpu
def test_on_the_gpu_the_same_numbers():
    params, X, Y = problem([20, 30, 3], 5_000, "softmax")
    network = fb.Network([20, 30, 3], output="softmax")
    J, gradients = fb.cost_and_gradients(network, params, X, Y, l2=0.5, device="cpu")
    K, there = fb.cost_and_gradients(network, params, X, Y, l2=0.5, device="cuda")
    assert pytest.approx(J, rel=1e-12) == K
    assert all(type(array) is np.ndarray for array in flat(there))
    assert relative(flat(there), flat(gradients)) < 1e-12


def test_a_weight_of_zero_leaves_out_an_example_whose_loss_overflows(xp):
    """0 * infinity is NaN, but weight 0 is the same as leaving the example out."""
    network = fb.Network([1, 1], output="identity")
    params = tuple(fb.Layer(xp.array(W), xp.array(b)) for W, b in [([[2.0]], [[0.5]])])
    large = 1e200 if str(xp.array([1.0]).dtype).endswith("float64") else 1e30
    X, Y = [[1.0, large, -2.0]], [[3.0, 0.0, 1.0]]
    J, g = fb.cost_and_gradients(network, params, xp.array(X), xp.array(Y), sample_weight=xp.array([1.0, 0.0, 2.0]))
    kept = [xp.array([[row[0][0], row[0][2]]]) for row in (X, Y)]
    expected, dW = fb.cost_and_gradients(network, params, *kept, sample_weight=xp.array([1.0, 2.0]))
    assert expected == J
    assert float(g[0].W[0, 0]) == float(dW[0].W[0, 0])


@pytest.mark.parametrize("output", ["exp", "identity"])
def test_a_weight_of_zero_leaves_out_an_example_whose_gradient_overflows(xp, output):
    """exp(2000) is infinite; and a target that is not there may be NaN."""
    network = fb.Network([1, 1], output=output)
    params = tuple(fb.Layer(xp.array(W), xp.array(b)) for W, b in [([[2.0]], [[0.5]])])
    X, Y = [[0.25, 1000.0, -2.0]], [[3.0, float("nan"), 1.0]]
    J, g = fb.cost_and_gradients(network, params, xp.array(X), xp.array(Y), sample_weight=xp.array([1.0, 0.0, 2.0]))
    kept = [xp.array([[row[0][0], row[0][2]]]) for row in (X, Y)]
    expected, without = fb.cost_and_gradients(network, params, *kept, sample_weight=xp.array([1.0, 2.0]))
    assert pytest.approx(expected, rel=1e-6) == J
    assert float(g[0].W[0, 0]) == pytest.approx(float(without[0].W[0, 0]), rel=1e-5)
    assert float(g[0].b[0, 0]) == pytest.approx(float(without[0].b[0, 0]), rel=1e-5)
