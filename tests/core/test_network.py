"""The pass (N3, N5, N7, N8, N10, N11, N12) against the scalar loop, central differences and other libraries."""

from __future__ import annotations

import importlib.util
import math
import pickle

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fullbatch as fb
from fullbatch.core.activations import ACTIVATIONS
from fullbatch.errors import ArrayTypeError, InputError
from reference import PAIRS, Q, g, g_prime, lists, one_example, oracle, problem, relative

NAMES = sorted(ACTIVATIONS)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")


def summed(network, params, X, Y, weight=None):
    """Forward and backward of the pass itself, no fold: the loss and dW[1], db[1], ... summed over the examples."""
    total = network.backward(params, network.forward(params, X), Y, weight)
    return total, [array for layer in total.gradients for array in layer]


# --- Shapes (N10) and what comes back -------------------------------------------------------------------------------


def test_n10_shapes_at_every_layer(xp):
    sizes, m = [3, 5, 4, 2], 7
    network = fb.Network(sizes, output="identity")
    params, X, Y = problem(sizes, m, "identity")
    params, X, Y = xp.params(params), xp.array(X), xp.array(Y)
    pass_ = network.forward(params, X)
    assert [tuple(Z.shape) for Z in pass_.Z] == [(5, m), (4, m), (2, m)]
    assert [tuple(A.shape) for A in pass_.A] == [(3, m), (5, m), (4, m), (2, m)]
    assert pass_.A[0] is X
    total = network.backward(params, pass_, Y)
    for layer, gradient in zip(params, total.gradients, strict=True):
        assert gradient.W.shape == layer.W.shape
        assert gradient.b.shape == layer.b.shape
    assert all(xp.has(array) for array in [*pass_.Z, *pass_.A, *(a for g in total.gradients for a in g)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_pass_stays_in_the_dtype_of_the_caller(xp64, dtype):
    params, X, Y = problem([3, 4, 2], 6, "softmax")
    network = fb.Network([3, 4, 2], output="softmax")
    _, gradients = summed(network, xp64.params(params, dtype), xp64.array(X, dtype), xp64.array(Y, dtype))
    assert all(xp64.has(array, dtype) for array in gradients)


# --- The scalar loop (N3, N4, N5, N7) -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output", sorted(PAIRS))
def test_n5_the_vectorised_pass_is_the_mean_of_n7_one_example_at_a_time(xp, name, output):
    """N3, N4, N5 and N12: every activation with every output unit, two hidden layers, several outputs."""
    sizes, m = [3, 4, 3, 2], 5
    params, X, Y = problem(sizes, m, output, seed=NAMES.index(name))
    network = fb.Network(sizes, hidden=name, **PAIRS[output])
    total, gradients = summed(network, xp.params(params), xp.array(X), xp.array(Y))
    J, expected = oracle(params, [name, name], output, X, Y)
    assert float(total.weight) == m
    assert float(total.loss) / m == pytest.approx(J, rel=xp.tolerance)
    assert relative([xp.host(array) / m for array in gradients], expected) < xp.tolerance


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_n11_any_depth_with_an_activation_of_its_own_per_layer(xp, depth):
    """N9 and N11: depth 1 to 4, each hidden layer with another activation."""
    sizes = [*[3, 5, 2, 4, 3][:depth], 2]
    hidden = ["tanh", "gelu", "leaky_relu"][: depth - 1]
    params, X, Y = problem(sizes, 6, "sigmoid", seed=depth)
    network = fb.Network(sizes, hidden=hidden, output="sigmoid")
    assert len(network.activations) == depth - 1
    _, gradients = summed(network, xp.params(params), xp.array(X), xp.array(Y))
    _, expected = oracle(params, hidden, "sigmoid", X, Y)
    assert relative([xp.host(array) / 6 for array in gradients], expected) < xp.tolerance


def test_n7_a_single_column_is_the_pass_of_one_example():
    params, X, Y = problem([2, 4, 1], 1, "sigmoid")
    network = fb.Network([2, 4, 1])
    total, gradients = summed(network, params, X, Y)
    L, each = one_example(lists(params), ["tanh"], "sigmoid", X[:, 0].tolist(), Y[:, 0].tolist())
    expected = [array for dW, db in each for array in (np.array(dW), np.array(db)[:, None])]
    assert float(total.loss) == pytest.approx(L, rel=1e-13)
    assert relative(gradients, expected) < 1e-13


def test_n8_logistic_regression_by_the_chain_rule_da_then_dz(xp):
    """N8: no hidden layer; da = -y/a + (1-y)/(1-a), dz = da g'(z) = a - y, dw = x dz, db = dz."""
    params, X, Y = problem([4, 1], 9, "sigmoid", seed=8)
    (w, b), m = params[0], X.shape[1]
    J, dw, db = 0.0, np.zeros(4), 0.0
    for i in range(m):
        x, y = X[:, i], float(Y[0, i])
        z = sum(float(w[0, k]) * float(x[k]) for k in range(4)) + float(b[0, 0])
        a = 1 / (1 + math.exp(-z))
        da = -y / a + (1 - y) / (1 - a)
        dz = da * a * (1 - a)
        assert dz == pytest.approx(a - y, rel=1e-12)
        J += -y * math.log(a) - (1 - y) * math.log(1 - a)
        dw += dz * x
        db += dz
    cost, (layer,) = fb.cost_and_gradients(fb.Network([4, 1]), xp.params(params), xp.array(X), xp.array(Y))
    assert cost == pytest.approx(J / m, rel=xp.tolerance)
    assert relative([xp.host(layer.W)[0], xp.host(layer.b)[0]], [dw / m, np.array([db / m])]) < xp.tolerance


def test_weights_multiply_each_example(xp):
    params, X, Y = problem([3, 4, 2], 5, "softmax", seed=2)
    weight = np.array([0.0, 1.0, 2.5, 0.5, 3.0])
    network = fb.Network([3, 4, 2], output="softmax")
    total, gradients = summed(network, xp.params(params), xp.array(X), xp.array(Y), xp.array(weight))
    J, expected = oracle(params, ["tanh"], "softmax", X, Y, weights=weight)
    assert float(total.weight) == 7.0
    assert float(total.loss) / 7.0 == pytest.approx(J, rel=xp.tolerance)
    assert relative([xp.host(array) / 7.0 for array in gradients], expected) < xp.tolerance


@pytest.mark.parametrize("output", ["absolute_error", "quantile"])
def test_a_loss_of_two_lines_leaves_out_an_example_of_weight_0(xp, output):
    """Weight 0 is the same as leaving the example out, also where it is no number; weight 2 the same as it twice."""
    params, X, Y = problem([3, 4, 2], 4, output, seed=2)
    network = fb.Network([3, 4, 2], **PAIRS[output])
    weight = np.array([1.0, 0.0, 2.0, 1.0])
    twice = [0, 2, 2, 3]
    Y[0, 1] = np.inf
    found = fb.cost_and_gradients(
        network, xp.params(params), xp.array(X), xp.array(Y), l2=0.1, sample_weight=xp.array(weight)
    )
    expected = fb.cost_and_gradients(network, xp.params(params), xp.array(X[:, twice]), xp.array(Y[:, twice]), l2=0.1)
    assert found[0] == pytest.approx(expected[0], rel=xp.tolerance)
    assert relative(xp.hosts(found[1]), xp.hosts(expected[1])) < xp.tolerance


def test_a_loss_goes_with_its_output_unit():
    network = fb.Network([3, 2], output="identity", loss="quantile", quantile=0.9)
    assert repr(network) == "Network([3, 2], hidden=[], output='identity', loss='quantile', quantile=0.9)"
    assert repr(fb.Network([3, 2], output="identity", loss="squared_error")) == repr(
        fb.Network([3, 2], output="identity")
    )
    with pytest.raises(InputError, match="loss='poisson' goes with output='exp'; the output is 'sigmoid'"):
        fb.Network([3, 2], loss="poisson")
    with pytest.raises(InputError, match="loss='quantile' needs a quantile"):
        fb.Network([3, 2], output="identity", loss="quantile")
    again = pickle.loads(pickle.dumps(network))
    Z, Y = np.zeros((2, 1)), np.ones((2, 1))
    assert again.loss.value(Z, Y, np) == network.loss.value(Z, Y, np) == 1.8


# --- Central differences --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", sorted(PAIRS))
@pytest.mark.parametrize("name", [name for name in NAMES if "relu" not in name])  # those have a kink
def test_gradients_agree_with_central_differences(name, output):
    """N5, N9 and N12 without any formula for a derivative: J(theta + h) - J(theta - h) over 2 h."""
    sizes, h = [3, 4, 3, 2], 1e-5
    params, X, Y = problem(sizes, 6, output, seed=3)
    weight = np.array([1.0, 2.0, 0.5, 1.0, 0.0, 3.0])
    network = fb.Network(sizes, hidden=name, **PAIRS[output])
    _, gradients = fb.cost_and_gradients(network, params, X, Y, l2=0.7, sample_weight=weight)
    for l, layer in enumerate(params):
        for part, array in enumerate(layer):
            for index in np.ndindex(array.shape):
                old = array[index]
                array[index] = old + h
                above = fb.cost(network, params, X, Y, l2=0.7, sample_weight=weight)
                array[index] = old - h
                below = fb.cost(network, params, X, Y, l2=0.7, sample_weight=weight)
                array[index] = old
                assert gradients[l][part][index] == pytest.approx((above - below) / (2 * h), rel=1e-6, abs=1e-9)


# --- Other libraries' automatic differentiation ---------------------------------------------------------------------


def _torch_loss(F, torch, output, Z, Y):
    if output == "sigmoid":
        return F.binary_cross_entropy_with_logits(Z, Y, reduction="sum")
    if output == "softmax":
        return F.cross_entropy(Z.T, Y.argmax(dim=0), reduction="sum")
    if output == "identity":
        return F.mse_loss(Z, Y, reduction="sum") / 2
    if output == "absolute_error":
        return F.l1_loss(Z, Y, reduction="sum")
    if output == "quantile":
        return torch.sum(torch.maximum(Q * (Y - Z), (Q - 1) * (Y - Z)))
    return F.poisson_nll_loss(Z, Y, log_input=True, reduction="sum")


@needs_torch
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("output", sorted(PAIRS))
@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_torch_autograd(name, output, dtype, tolerance):
    import torch

    F = torch.nn.functional
    functions = {
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "relu": torch.relu,
        "leaky_relu": F.leaky_relu,
        "identity": lambda Z: Z,
        "gelu": lambda Z: F.gelu(Z, approximate="tanh"),
        "silu": F.silu,
    }
    sizes, m = [6, 8, 5, 3], 40
    params, X, Y = problem(sizes, m, output, seed=5, dtype=dtype)
    leaves = [torch.tensor(array, requires_grad=True) for layer in params for array in layer]
    A, Yt = torch.tensor(X), torch.tensor(Y)
    for l in range(3):
        Z = leaves[2 * l] @ A + leaves[2 * l + 1]
        A = functions[name](Z)
    J = _torch_loss(F, torch, output, Z, Yt) / m
    J.backward()
    network = fb.Network(sizes, hidden=name, **PAIRS[output])
    cost, gradients = fb.cost_and_gradients(network, params, X, Y)
    assert cost == pytest.approx(float(J.detach()), rel=tolerance)
    ours = [array for layer in gradients for array in layer]
    assert relative(ours, [leaf.grad.numpy() for leaf in leaves]) < tolerance


@needs_torch
def test_autograd_records_nothing_of_a_training():
    import torch

    network = fb.Network([3, 4, 1])
    params = [fb.Layer(W.requires_grad_(), b.requires_grad_()) for W, b in network.init(seed=0, xp=torch)]
    X, Y = torch.ones((3, 5), dtype=torch.float64, requires_grad=True), torch.ones((1, 5), dtype=torch.float64)
    _, gradients = fb.cost_and_gradients(network, params, X, Y)
    run = fb.gradient_descent(network, params, X, Y, learning_rate=0.1, iterations=2)
    assert not any(array.requires_grad for layer in (*gradients, *run.params) for array in layer)
    model = fb.MLPRegressor(max_iter=1, learning_rate="linear").fit(X.T, Y[0, :])
    assert not model.coefs_[0].requires_grad
    assert params[0].W.requires_grad  # the caller's own stay as they were


@needs_jax
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("output", sorted(PAIRS))
def test_gradients_agree_with_jax_grad(output, dtype, tolerance):
    import jax

    jnp = jax.numpy
    losses = {
        "sigmoid": lambda Z, Y: jnp.sum(jnp.logaddexp(0, Z) - Z * Y),
        "softmax": lambda Z, Y: -jnp.sum(Y * jax.nn.log_softmax(Z, axis=0)),
        "identity": lambda Z, Y: jnp.sum((Z - Y) ** 2) / 2,
        "exp": lambda Z, Y: jnp.sum(jnp.exp(Z) - Z * Y),
        "absolute_error": lambda Z, Y: jnp.sum(jnp.abs(Z - Y)),
        "quantile": lambda Z, Y: jnp.sum(jnp.where(Z > Y, (1 - Q) * (Z - Y), Q * (Y - Z))),
    }
    sizes, m = [6, 8, 5, 3], 40
    params, X, Y = problem(sizes, m, output, seed=6, dtype=dtype)

    def J(layers):
        (W1, b1), (W2, b2), (W3, b3) = layers
        A = jnp.tanh(W1 @ X + b1)
        A = jax.nn.silu(W2 @ A + b2)
        return losses[output](W3 @ A + b3, Y) / m

    value, expected = jax.value_and_grad(J)([(jnp.asarray(W), jnp.asarray(b)) for W, b in params])
    network = fb.Network(sizes, hidden=["tanh", "silu"], **PAIRS[output])
    cost, gradients = fb.cost_and_gradients(network, params, X, Y)
    assert cost == pytest.approx(float(value), rel=tolerance)
    ours = [array for layer in gradients for array in layer]
    assert relative(ours, [np.asarray(a) for layer in expected for a in layer]) < tolerance


# --- A user's own activation (N9) -----------------------------------------------------------------------------------


def softplus(Z):
    return np.logaddexp(0, Z)


def softplus_prime(Z):
    return 1 / (1 + np.exp(-Z))


@pytest.mark.parametrize("name", NAMES)
def test_n9_a_users_own_pair_gives_what_the_name_gives(name):
    ours = ACTIVATIONS[name]
    pair = (lambda Z: np.vectorize(lambda z: g(name, z))(Z), lambda Z: np.vectorize(lambda z: g_prime(name, z))(Z))
    params, X, Y = problem([3, 4, 2], 6, "identity")
    _, expected = summed(fb.Network([3, 4, 2], hidden=ours, output="identity"), params, X, Y)
    _, gradients = summed(fb.Network([3, 4, 2], hidden=pair, output="identity"), params, X, Y)
    assert relative(gradients, expected) < 1e-12


def test_n9_a_pair_in_one_layer_and_names_in_the_others():
    network = fb.Network([3, 4, 5, 1], hidden=[(softplus, softplus_prime), "relu"])
    assert [a.name for a in network.activations] == [None, "relu"]
    both = fb.Network([3, 4, 5, 1], hidden=(softplus, softplus_prime))  # a pair by itself is for all hidden layers
    assert [a.name for a in both.activations] == [None, None]
    assert "custom" in repr(both)


@pytest.mark.parametrize("hidden", ["tanh", (softplus, softplus_prime)])
def test_a_network_can_be_pickled(hidden):
    network = fb.Network([3, 4, 1], hidden=hidden)
    again = pickle.loads(pickle.dumps(network))
    params, X, _ = problem([3, 4, 1], 5, "sigmoid")
    assert np.array_equal(again.forward(params, X).A[-1], network.forward(params, X).A[-1])


# --- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes", [[], [3], [3, 0], [3, -1, 1], [3, 2.0], [3, True], [True, 1], "31", None, 5, [None, 1], [3, "1"], [[3, 1]]]
)
def test_sizes_that_cannot_be(sizes):
    with pytest.raises(InputError, match="sizes must be two or more integers of at least 1"):
        fb.Network(sizes)


def test_sizes_of_numpy_integers_and_any_sequence():
    assert fb.Network(np.array([3, 4, 1])).sizes == (3, 4, 1)
    assert fb.Network((np.int64(3), 1)).sizes == (3, 1)
    assert all(type(n) is int for n in fb.Network(np.array([3, 4, 1])).sizes)


@pytest.mark.parametrize("hidden", ["tanhh", ["tanh", "nothing"], ("tanh", 3), [None, "tanh"]])
def test_unknown_activations_are_refused(hidden):
    with pytest.raises(InputError, match=r"activation"):
        fb.Network([3, 4, 4, 1], hidden=hidden)


def test_an_unknown_activation_lists_the_known_ones():
    with pytest.raises(InputError) as caught:
        fb.Network([3, 4, 1], hidden="tahn")
    assert all(name in str(caught.value) for name in ["'tahn'", *NAMES])
    with pytest.raises(InputError, match="unknown activation"):  # with no hidden layer too
        fb.Network([3, 1], hidden="tahn")


@pytest.mark.parametrize("output", ["sigmoidal", None, 3, ["sigmoid"]])
def test_an_unknown_output_lists_the_known_ones(output):
    with pytest.raises(InputError) as caught:
        fb.Network([3, 1], output=output)
    assert all(name in str(caught.value) for name in ["sigmoid", "softmax", "identity", "exp"])


@pytest.mark.parametrize("hidden", [["tanh"], ["tanh"] * 3, []])
def test_the_number_of_activations_must_be_that_of_the_hidden_layers(hidden):
    with pytest.raises(InputError, match=f"2 hidden layers need 2 activations; got {len(hidden)}"):
        fb.Network([3, 4, 4, 1], hidden=hidden)


@pytest.mark.parametrize("hidden", [None, 5, 1.5])
def test_hidden_of_a_wrong_type(hidden):
    with pytest.raises(InputError, match="activation"):
        fb.Network([3, 4, 1], hidden=hidden)


def test_softmax_needs_two_units():
    with pytest.raises(InputError, match="softmax needs at least 2 output units"):
        fb.Network([3, 1], output="softmax")


def bad_call(X=None, Y=None, params=None, weight=None, network=None):
    good_params, good_X, good_Y = problem([3, 4, 1], 6, "sigmoid")
    network = network or fb.Network([3, 4, 1])
    return fb.cost_and_gradients(
        network,
        good_params if params is None else params,
        good_X if X is None else X,
        good_Y if Y is None else Y,
        sample_weight=weight,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"X": np.ones((2, 6))}, ["X has shape (2, 6)", "must have shape (3, m)"]),
        ({"X": np.ones((6, 3))}, ["X has shape (6, 3)", "must have shape (3, m)", "table.T"]),
        ({"X": np.ones(3)}, ["X has shape (3,)", "(3, m)"]),
        ({"X": np.ones((3, 6, 1))}, ["X has shape (3, 6, 1)", "(3, m)"]),
        ({"X": np.ones((3, 0)), "Y": np.ones((1, 0))}, ["X has no examples", "(3, 0)"]),
        ({"Y": np.ones((2, 6))}, ["Y has shape (2, 6)", "must have shape (1, m)"]),
        ({"Y": np.ones((6, 1))}, ["Y has shape (6, 1)", "must have shape (1, m)", ".T"]),
        ({"Y": np.ones(6)}, ["Y has shape (6,)", "must have shape (1, m)"]),
        ({"Y": np.ones((1, 5))}, ["X has 6 columns and Y has 5"]),
        ({"weight": np.ones(5)}, ["sample_weight has shape (5,)", "(6,)"]),
        ({"weight": np.ones((1, 6))}, ["sample_weight has shape (1, 6)", "(6,)"]),
    ],
)
def test_n1_a_wrong_shape_names_the_array_what_it_has_and_what_it_must_have(change, words):
    with pytest.raises(InputError) as caught:
        bad_call(**change)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@given(rows=st.integers(0, 6), columns=st.integers(0, 6), y_rows=st.integers(0, 3), y_columns=st.integers(0, 6))
def test_whatever_the_shapes_there_is_a_result_or_an_input_error(rows, columns, y_rows, y_columns):
    call = {"X": np.ones((rows, columns)), "Y": np.ones((y_rows, y_columns))}
    if rows == 3 and y_rows == 1 and columns == y_columns > 0:
        J, gradients = bad_call(**call)
        assert math.isfinite(J)
        assert gradients[0].W.shape == (4, 3)
    else:
        with pytest.raises(InputError, match=r"X has|Y has"):
            bad_call(**call)


@pytest.mark.parametrize(
    "dtype", ["int64", "int8", "bool", "float16", "complex64", "complex128", "object", "longdouble"]
)
@pytest.mark.parametrize("everything", [True, False])
def test_only_float32_and_float64_are_taken(dtype, everything):
    params, X, Y = problem([3, 4, 1], 6, "sigmoid")
    X = X.astype(dtype)
    if everything:
        params = [(W.astype(dtype), b.astype(dtype)) for W, b in params]
        Y = Y.astype(dtype)
    with pytest.raises(ArrayTypeError, match=r"X has dtype .* it must be float32 or float64"):
        bad_call(X=X, Y=Y, params=params)


def test_another_byte_order_is_refused_with_the_cure():
    _, X, _ = problem([3, 4, 1], 6, "sigmoid")
    with pytest.raises(ArrayTypeError, match=r"X has dtype >f8.*astype"):
        bad_call(X=X.astype(">f8"))


@pytest.mark.parametrize("wrong", ["W", "b", "Y", "weight"])
def test_nothing_is_cast_in_silence(wrong):
    params, X, Y = problem([3, 4, 1], 6, "sigmoid", dtype="float32")
    (W, b), last = params
    weight = np.ones(6, dtype="float32")
    if wrong == "W":
        W = W.astype("float64")
    if wrong == "b":
        b = b.astype("float64")
    Y = Y.astype("float64") if wrong == "Y" else Y
    weight = weight.astype("float64") if wrong == "weight" else weight
    name = {"W": "W[1]", "b": "b[1]", "Y": "Y", "weight": "sample_weight"}[wrong]
    with pytest.raises(ArrayTypeError) as caught:
        bad_call(X=X, Y=Y, params=[(W, b), last], weight=weight)
    assert f"X is float32 and {name} is float64" in str(caught.value)


@pytest.mark.parametrize("wrong", ["X", "Y", "W", "weight"])
def test_arrays_of_two_libraries_are_refused(wrong):
    params, X, Y = problem([3, 4, 1], 6, "sigmoid")
    weight = np.ones(6)
    other = {
        "X": {"X": array_api_strict.asarray(X)},
        "Y": {"Y": array_api_strict.asarray(Y)},
        "weight": {"weight": array_api_strict.asarray(weight)},
        "W": {"params": [(array_api_strict.asarray(params[0][0]), params[0][1]), params[1]]},
    }[wrong]
    with pytest.raises(ArrayTypeError, match=r"array_api_strict.*one library|one library"):
        bad_call(**{"X": X, "Y": Y, "params": params, "weight": weight, **other})


def test_arrays_on_two_devices_are_refused():
    params, X, Y = problem([3, 4, 1], 6, "sigmoid")
    one, two = (array_api_strict.Device(name) for name in ("device1", "device2"))
    ours = [fb.Layer(*(array_api_strict.asarray(a, device=one) for a in layer)) for layer in params]
    with pytest.raises(ArrayTypeError, match=r"X is on device .*device1.* and Y on .*device2.*one device"):
        bad_call(array_api_strict.asarray(X, device=one), array_api_strict.asarray(Y, device=two), ours)


@pytest.mark.parametrize(
    "bad", [[[1.0] * 6] * 3, "X", 5, object(), {"a": 1}], ids=["list", "str", "int", "object", "dict"]
)
@pytest.mark.parametrize("where", ["X", "Y", "weight", "W"])
def test_what_is_no_array_is_an_array_type_error(bad, where):
    params, _, _ = problem([3, 4, 1], 6, "sigmoid")
    change = {"params": [(bad, params[0][1]), params[1]]} if where == "W" else {where: bad}
    with pytest.raises(ArrayTypeError) as caught:
        bad_call(**change)
    message = str(caught.value)
    assert {"W": "W[1]", "weight": "sample_weight"}.get(where, where) in message
    assert type(bad).__name__ in message
    assert "\n" not in message


def test_y_is_needed_for_a_cost():
    params, X, _ = problem([3, 4, 1], 6, "sigmoid")
    for call in (fb.cost, fb.cost_and_gradients):
        with pytest.raises(ArrayTypeError, match="Y is a NoneType"):
            call(fb.Network([3, 4, 1]), params, X, None)


def test_a_pandas_frame_is_refused_with_the_cure():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ArrayTypeError, match=r"X.*DataFrame"):
        bad_call(X=pandas.DataFrame(np.ones((3, 6))))


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_masked_arrays_and_matrices_are_refused():
    """Their operators mean something else: a mask would be dropped, * would be a product of matrices."""
    for bad in (np.ma.masked_less(np.ones((3, 6)), 0), np.matrix(np.ones((3, 6)))):
        with pytest.raises(ArrayTypeError, match=r"X.*(MaskedArray|matrix)"):
            bad_call(X=bad)


def test_a_memory_map_is_an_array(tmp_path):
    params, X, Y = problem([3, 4, 1], 6, "sigmoid")
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    J, gradients = bad_call(X=mapped, Y=Y, params=params)
    expected, reference = bad_call(X=X, Y=Y, params=params)
    assert expected == J
    assert all(
        np.array_equal(a, b) for x, y in zip(gradients, reference, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_forward_and_backward_check_too():
    network = fb.Network([3, 4, 1])
    params, X, Y = problem([3, 4, 1], 6, "sigmoid")
    with pytest.raises(InputError, match=r"X has shape \(6, 3\)"):
        network.forward(params, X.T)
    with pytest.raises(ArrayTypeError, match="X is float32"):
        network.forward(params, X.astype("float32"))
    pass_ = network.forward(params, X)
    with pytest.raises(InputError, match="Y has 5"):
        network.backward(params, pass_, Y[:, :5])


def test_nothing_that_was_given_is_changed(xp):
    params, X, Y = problem([3, 4, 3, 2], 8, "softmax")
    network = fb.Network([3, 4, 3, 2], hidden=["identity", "relu"], output="softmax")
    weight = np.linspace(0, 2, 8)
    given = [xp.array(X), xp.array(Y), xp.array(weight)]
    ours = xp.params(params)
    fb.cost_and_gradients(network, ours, given[0], given[1], sample_weight=given[2], l2=0.1)
    fb.gradient_descent(network, ours, given[0], given[1], sample_weight=given[2], learning_rate=0.5, iterations=3)
    dtype = xp.dtype
    assert all(np.array_equal(xp.host(a), b.astype(dtype)) for a, b in zip(given, [X, Y, weight], strict=True))
    before = [array.astype(dtype) for layer in params for array in layer]
    assert all(np.array_equal(a, b) for a, b in zip(xp.hosts(ours), before, strict=True))
