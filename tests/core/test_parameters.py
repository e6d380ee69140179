"""N1 and N2: shapes, initial values, the refusal of a start where units stay equal; the flat vector."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fullbatch as fb
from fullbatch.core.parameters import check_shapes, flatten, refuse_equal_units, shapes, unflatten
from fullbatch.errors import ArrayTypeError, InputError
from reference import problem


def zeros(sizes):
    return tuple(fb.Layer(np.zeros(W), np.zeros(b)) for W, b in shapes(sizes))


# --- N2: the initial values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["glorot", "he", "lecun", "normal"])
def test_n2_weights_are_random_and_biases_zero(scheme):
    params = fb.Network([50, 40, 30]).init(seed=0, scheme=scheme)
    spread = {
        "glorot": [math.sqrt(2 / 90), math.sqrt(2 / 70)],
        "he": [math.sqrt(2 / 50), math.sqrt(2 / 40)],
        "lecun": [math.sqrt(1 / 50), math.sqrt(1 / 40)],
        "normal": [0.01, 0.01],
    }[scheme]
    for (W, b), sd in zip(params, spread, strict=True):
        assert len(np.unique(W)) == W.size
        assert np.std(W) == pytest.approx(sd, rel=0.1)
        assert abs(np.mean(W)) < 0.1 * sd
        assert not np.any(b)
    if scheme == "glorot":
        assert np.max(np.abs(params[0].W)) <= math.sqrt(6 / 90)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_n2_one_start_on_all_libraries(xp, dtype):
    if dtype not in xp.dtypes:
        with pytest.raises(Exception, match="float64"):  # that device's own words
            fb.Network([3, 4, 1]).init(seed=5, dtype=dtype, xp=xp.xp, device=xp.device)
        return
    expected = fb.Network([3, 4, 1]).init(seed=5)
    params = fb.Network([3, 4, 1]).init(seed=5, dtype=dtype, xp=xp.xp, device=xp.device)
    assert all(xp.has(array, dtype) for layer in params for array in layer)
    for ours, there in zip(xp.hosts(params), [a for layer in expected for a in layer], strict=True):
        assert np.array_equal(ours, there.astype(dtype))
    assert [type(layer) for layer in params] == [fb.Layer, fb.Layer]


def test_the_seed_decides_and_a_generator_goes_on():
    network = fb.Network([3, 4, 1])
    first, again, other = (network.init(seed=seed)[0].W for seed in (1, 1, np.int64(2)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    generator = np.random.default_rng(1)
    assert np.array_equal(network.init(seed=generator)[0].W, first)
    assert not np.array_equal(network.init(seed=generator)[0].W, first)
    assert not np.array_equal(network.init()[0].W, network.init()[0].W)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"scheme": "xavier"}, InputError, "unknown scheme 'xavier'; the known ones are glorot, he, lecun, normal"),
        ({"dtype": "int32"}, ArrayTypeError, "dtype 'int32' cannot be used; choose float32 or float64"),
        ({"dtype": "float16"}, ArrayTypeError, "float16"),
        ({"dtype": "nonsense"}, ArrayTypeError, "nonsense"),
        ({"seed": -1}, InputError, "seed must not be negative"),
        ({"seed": "one"}, InputError, "seed must be an integer"),
        ({"seed": 1.5}, InputError, "seed must be an integer"),
        ({"seed": True}, InputError, "seed must be an integer"),
        ({"device": "cuda"}, InputError, "device 'cuda' is none of NumPy's; give its library too"),
        ({"xp": "numpy"}, InputError, "xp must be an array library, such as the module numpy or cupy; got 'numpy'"),
    ],
)
def test_bad_options_of_init(options, error, words):
    with pytest.raises(error, match=words):
        fb.Network([3, 4, 1]).init(**options)


def test_the_dtype_may_be_the_librarys_own(xp):
    own = xp.array([1.0], "float32").dtype
    params = fb.Network([3, 1]).init(seed=0, dtype=own, xp=xp.xp, device=xp.device)
    assert all(xp.has(array, "float32") for array in params[0])


def test_the_dtype_may_be_numpys_own():
    assert fb.Network([3, 1]).init(seed=0, dtype=np.float32)[0].W.dtype == "float32"
    assert fb.Network([3, 1]).init(seed=0, dtype=np.dtype("float32"))[0].b.dtype == "float32"


# --- N2: all-zero weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", ["tanh", "sigmoid", "gelu"])
def test_n2_why_zero_weights_are_refused_the_hidden_units_stay_equal_for_ever(hidden):
    """A hundred steps from zero weights: every hidden unit is still the same as every other, so one would have done."""
    network = fb.Network([2, 4, 1], hidden=hidden)
    _, X, Y = problem([2, 4, 1], 30, "sigmoid")
    params = zeros([2, 4, 1])
    for _ in range(100):
        _, gradients = fb.cost_and_gradients(network, params, X, Y)
        params = tuple(fb.Layer(p.W - g.W, p.b - g.b) for p, g in zip(params, gradients, strict=True))
    (W1, b1), (W2, _) = params
    assert all(np.array_equal(W1[0], row) for row in W1)
    assert all(b == b1[0] for b in b1)
    assert len(np.unique(W2)) == 1
    started = network.init(seed=0)
    run = fb.gradient_descent(network, started, X, Y, learning_rate=1.0, iterations=100)
    assert len(np.unique(run.params[0].W[:, 0])) == 4


def test_n2_zero_weights_with_a_hidden_layer_are_refused_with_the_reason(xp):
    sizes = [2, 4, 1]
    _, X, Y = problem(sizes, 6, "sigmoid")
    with pytest.raises(InputError, match=r"all weights are zero.*stay equal for ever.*network\.init"):
        fb.gradient_descent(
            fb.Network(sizes), xp.params(zeros(sizes)), xp.array(X), xp.array(Y), learning_rate=1.0, iterations=1
        )
    with pytest.raises(InputError, match="all weights are zero"):
        refuse_equal_units(flatten(xp.params(zeros([2, 3, 4, 1]))), [2, 3, 4, 1])


def test_n2_for_logistic_regression_zero_is_a_fine_start(xp):
    _, X, Y = problem([2, 1], 30, "sigmoid")
    run = fb.gradient_descent(
        fb.Network([2, 1]), xp.params(zeros([2, 1])), xp.array(X), xp.array(Y), learning_rate=1.0, iterations=5
    )
    assert run.costs[0] == pytest.approx(math.log(2), rel=1e-6)
    assert run.costs[-1] < run.costs[0]


def test_n2_one_layer_of_zeros_is_not_refused():
    params = list(fb.Network([2, 4, 1]).init(seed=0))
    refuse_equal_units(flatten((fb.Layer(0 * params[0].W, params[0].b), params[1])), [2, 4, 1])
    refuse_equal_units(flatten((params[0], fb.Layer(0 * params[1].W, params[1].b))), [2, 4, 1])


# --- N1: shapes -----------------------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    layer=st.integers(0, 3),
    part=st.sampled_from("Wb"),
    change=st.sampled_from(["transpose", "longer", "flat", "deeper", "scalar"]),
)
def test_n1_a_wrong_shape_names_the_array_its_shape_and_the_shape_it_must_have(sizes, layer, part, change):
    layer %= len(sizes) - 1
    params = [list(pair) for pair in zeros(sizes)]
    index = "Wb".index(part)
    good = params[layer][index]
    bad = {
        "transpose": good.T,
        "longer": np.zeros((good.shape[0] + 1, good.shape[1])),
        "flat": good.reshape(-1),
        "deeper": good[None],
        "scalar": np.zeros(()),
    }[change]
    params[layer][index] = bad
    if bad.shape == good.shape:
        check_shapes(params, sizes)
        return
    with pytest.raises(InputError) as caught:
        check_shapes(params, sizes)
    assert str(caught.value) == f"{part}[{layer + 1}] has shape {bad.shape}; it must have shape {good.shape}."


@pytest.mark.parametrize("count", [0, 1, 3])
def test_n1_the_number_of_layers_is_checked(count):
    params = [(np.zeros((3, 3)), np.zeros((3, 1)))] * count
    with pytest.raises(InputError, match=f"the network has 2 layers and params has {count}"):
        check_shapes(params, [3, 3, 3])


@pytest.mark.parametrize("params", [None, 5, [5, 6], [(np.zeros((3, 3)),)], [(1, 2, 3)] * 2, [None, None]])
def test_n1_params_that_are_no_pairs(params):
    with pytest.raises((InputError, ArrayTypeError), match=r"params must be a sequence of \(W, b\) pairs"):
        check_shapes(params, [3, 3, 3])


def test_n1_pairs_become_layers():
    layers = check_shapes([[np.zeros((2, 3)), np.zeros((2, 1))]], [3, 2])
    assert type(layers[0]) is fb.Layer


# --- The flat vector ------------------------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(1, 5), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_restore_undoes_flatten(sizes, seed):
    params, _, _ = problem(sizes, 1, "identity", seed=seed)
    layers = tuple(fb.Layer(W, b) for W, b in params)
    theta = flatten(layers)
    assert theta.shape == (sum(W.size + b.size for W, b in params),)
    again = unflatten(theta, sizes)
    assert all(np.array_equal(a, b) for x, y in zip(layers, again, strict=True) for a, b in zip(x, y, strict=True))


def test_flatten_goes_layer_by_layer_and_row_by_row(xp):
    layers = xp.params([(np.array([[1, 2], [3, 4]]), np.array([[5], [6]])), (np.array([[7, 8]]), np.array([[9]]))])
    theta = flatten(layers)
    assert xp.has(theta)
    assert xp.host(theta).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert all(xp.has(array) for layer in unflatten(theta, [2, 2, 1]) for array in layer)
