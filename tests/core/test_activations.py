"""N9: each activation beside its derivative, against a scalar definition, central differences, and at the extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullbatch.core import activations
from fullbatch.core.activations import ACTIVATIONS, make_activation
from fullbatch.errors import InputError
from reference import g, g_prime

NAMES = ["tanh", "sigmoid", "relu", "leaky_relu", "identity", "gelu", "silu"]


def test_n9_the_seven_are_there():
    assert sorted(ACTIVATIONS) == sorted(NAMES)


def evaluate(xp, name, values):
    Z = xp.array([values])
    namespace = _namespace(xp, Z)
    A = ACTIVATIONS[name].g(Z, namespace)
    D = ACTIVATIONS[name].derivative(Z, A, namespace)
    assert xp.has(A)
    assert xp.has(D)
    return xp.host(A)[0], xp.host(D)[0]


def _namespace(xp, array):
    from fullbatch.machine import arrays

    return arrays.namespace(array)


@pytest.mark.parametrize("name", NAMES)
def test_n9_the_activation_and_its_derivative_are_the_definition(xp, name):
    values = [-6.5, -2.0, -1.0, -0.25, -1e-3, 1e-3, 0.3, 1.0, 2.5, 7.0]
    A, D = evaluate(xp, name, values)
    tolerance = 1e-13 if xp.dtype == "float64" else 3e-6
    assert list(A) == pytest.approx([g(name, z) for z in values], rel=tolerance, abs=tolerance)
    assert list(D) == pytest.approx([g_prime(name, z) for z in values], rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("name", NAMES)
@given(z=st.floats(-15, 15).filter(lambda z: abs(z) > 1e-3))  # ReLU has its kink at 0
def test_n9_the_derivative_agrees_with_central_differences(name, z):
    h = 1e-5
    Z = np.array([[z - h, z, z + h]])
    A = ACTIVATIONS[name].g(Z, np)
    D = ACTIVATIONS[name].derivative(Z, A, np)
    assert D[0, 1] == pytest.approx((A[0, 2] - A[0, 0]) / (2 * h), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore:overflow")  # z * z * z in gelu, which its tanh then saturates
def test_finite_z_gives_a_finite_activation_and_derivative(name, dtype):
    largest = float(np.finfo(dtype).max)
    smallest = float(np.finfo(dtype).smallest_subnormal)
    sizes = [
        smallest,
        1e-30,
        1.0,
        20.0,
        89.0,
        104.0,
        710.0,
        746.0,
        1e4,
        1e10,
        1e13,
        1e19,
        1e20,
        1e38,
        largest / 3,
        largest,
    ]
    values = np.array([[s * z for z in sizes for s in (-1, 1)] + [[0.0, -0.0]][0]], dtype=dtype)
    A = ACTIVATIONS[name].g(values, np)
    D = ACTIVATIONS[name].derivative(values, A, np)
    assert A.dtype == D.dtype == dtype
    assert np.all(np.isfinite(A)), values[~np.isfinite(A)]
    assert np.all(np.isfinite(D)), values[~np.isfinite(D)]
    assert np.all(np.abs(D) < 1.2)


def test_the_sigmoid_keeps_its_relative_accuracy_for_very_negative_z(xp):
    A, _ = evaluate(xp, "sigmoid", [-80.0, -40.0, -20.0])
    tolerance = 1e-13 if xp.dtype == "float64" else 1e-5
    assert list(A) == pytest.approx([math.exp(-80), math.exp(-40), math.exp(-20)], rel=max(tolerance, 3e-9))
    assert np.all(A > 0)


def test_relu_at_zero_has_the_derivative_0():
    Z = np.zeros((1, 1))
    assert ACTIVATIONS["relu"].derivative(Z, Z, np)[0, 0] == 0.0


def test_nan_stays_nan_so_that_the_cost_shows_it(xp):
    for name in NAMES:
        if name != "relu" and name != "leaky_relu":
            assert np.isnan(evaluate(xp, name, [math.nan])[0][0]), name


def test_n9_a_users_own_pair_is_called_with_z_alone():
    seen = []
    pair = (lambda Z: seen.append("g") or Z * 2, lambda Z: seen.append("g'") or Z * 0 + 2)
    activation = make_activation(pair)
    assert activation.name is None
    Z = np.ones((2, 2))
    assert activation.g(Z, np)[0, 0] == 2
    assert activation.derivative(Z, Z, np)[0, 0] == 2
    assert seen == ["g", "g'"]


@pytest.mark.parametrize("bad", [None, 3, (math.tanh,), (math.tanh, None), (math.tanh, math.tanh, math.tanh), [1, 2]])
def test_what_is_neither_a_name_nor_a_pair_is_refused(bad):
    with pytest.raises(InputError, match=r"a name or a pair of functions"):
        make_activation(bad)


def test_an_activation_is_taken_as_it_is():
    assert make_activation(ACTIVATIONS["gelu"]) is ACTIVATIONS["gelu"]
    assert activations.LEAK == 0.01
