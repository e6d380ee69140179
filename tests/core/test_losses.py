"""N4 and N12: each output unit with its loss, stable, and dZ[L] = A[L] - Y for each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullbatch.core.losses import CANONICAL, LOSSES, OUTPUTS, make_loss, make_output
from fullbatch.errors import InputError
from fullbatch.machine import arrays
from reference import loss as scalar_loss
from reference import output_unit, targets

NAMES = ["sigmoid", "softmax", "identity", "exp"]


def test_n12_the_four_are_there():
    assert sorted(OUTPUTS) == sorted(NAMES)
    assert all(make_output(name) is OUTPUTS[name] for name in NAMES)
    with pytest.raises(InputError, match="unknown output 'probit'; the known ones are sigmoid, softmax, identity, exp"):
        make_output("probit")


@pytest.mark.parametrize("name", NAMES)
def test_n12_activation_and_loss_are_the_definition(xp, name):
    rng = np.random.default_rng(0)
    Z, Y = 2 * rng.standard_normal((3, 8)), targets(rng, name, 3, 8)
    ours_Z, ours_Y = xp.array(Z), xp.array(Y)
    namespace = arrays.namespace(ours_Z)
    A, L = OUTPUTS[name].activation(ours_Z, namespace), CANONICAL[name].value(ours_Z, ours_Y, namespace)
    assert xp.has(A)
    assert xp.has(L)
    assert tuple(L.shape) == (8,)
    tolerance = 1e-12 if xp.dtype == "float64" else 2e-5
    for i in range(8):
        yhat = output_unit(name, Z[:, i].tolist())
        assert xp.host(A)[:, i] == pytest.approx(yhat, rel=tolerance)
        assert float(xp.host(L)[i]) == pytest.approx(
            scalar_loss(name, yhat, Y[:, i].tolist()), rel=tolerance, abs=tolerance
        )


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10_000))
def test_n12_dz_is_a_minus_y_by_central_differences(name, seed):
    rng = np.random.default_rng(seed)
    Z, Y, h = 2 * rng.standard_normal((3, 1)), targets(rng, name, 3, 1), 1e-5
    dZ = OUTPUTS[name].activation(Z, np) - Y
    for k in range(3):
        step = h * np.eye(3)[:, k : k + 1]
        above, below = CANONICAL[name].value(Z + step, Y, np)[0], CANONICAL[name].value(Z - step, Y, np)[0]
        assert dZ[k, 0] == pytest.approx((above - below) / (2 * h), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("z", [0.0, 1.0, 30.0, 37.0, 88.0, 710.0, 745.0, 1e4, 1e20, 1e38])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("y", [0.0, 1.0, 0.25])
def test_n4_the_stable_form_is_exact_at_any_z(xp, z, sign, y):
    """max(z, 0) - z y + log(1 + exp(-|z|)), where the notes' logarithm of a would be infinite."""
    z = sign * z
    exact = max(z, 0.0) - z * y + math.log1p(math.exp(-min(abs(z), 745.0)))
    Z, Y = xp.array([[z]]), xp.array([[y]])
    loss = float(CANONICAL["sigmoid"].value(Z, Y, arrays.namespace(Z))[0])
    assert loss == pytest.approx(exact, rel=1e-12 if xp.dtype == "float64" else 1e-6, abs=1e-300)


@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(data=st.data())
def test_n4_finite_for_every_finite_z(name, dtype, data):
    width = 32 if dtype == "float32" else 64
    # A loss is at most twice the largest |z|; beyond half the largest number it could not be written down.
    largest = float(np.finfo(dtype).max) / 4
    numbers = st.floats(-largest, largest, width=width)
    z = data.draw(st.lists(numbers, min_size=3, max_size=3))
    k = data.draw(st.integers(0, 2))
    Z, Y = np.array(z, dtype=dtype)[:, None], np.eye(3, dtype=dtype)[:, k : k + 1]
    with arrays.quiet():
        assert np.all(np.isfinite(CANONICAL[name].value(Z, Y, np)))
        A = OUTPUTS[name].activation(Z, np)
    assert np.all((A >= 0) & (A <= 1))


@pytest.mark.parametrize("y", [0.0, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_n4_finite_at_the_largest_number_there_is(dtype, y):
    for z in (np.finfo(dtype).max, np.finfo(dtype).min):
        L = CANONICAL["sigmoid"].value(np.array([[z]], dtype=dtype), np.array([[y]], dtype=dtype), np)
        assert np.all(np.isfinite(L))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore:overflow")
def test_the_softmax_of_a_right_answer_costs_nothing_at_the_largest_numbers(dtype):
    """The distance of the two is not a finite number, but the example is right and its loss is 0."""
    top = np.finfo(dtype).max
    Z, Y = np.array([[top], [-top]], dtype=dtype), np.array([[1], [0]], dtype=dtype)
    assert CANONICAL["softmax"].value(Z, Y, np)[0] == 0.0
    assert np.array_equal(OUTPUTS["softmax"].activation(Z, np), Y)


def test_the_softmax_does_not_see_a_shift(xp):
    Z = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]])
    Y = np.eye(3)[:, [2, 1]]
    near, far = xp.array(Z), xp.array(Z + 1024.0)
    namespace = arrays.namespace(near)
    assert xp.host(CANONICAL["softmax"].value(far, xp.array(Y), namespace)) == pytest.approx(
        xp.host(CANONICAL["softmax"].value(near, xp.array(Y), namespace)), rel=1e-5
    )
    assert xp.host(namespace.sum(OUTPUTS["softmax"].activation(far, namespace), axis=0)) == pytest.approx([1.0, 1.0])


def test_softmax_of_two_classes_is_the_sigmoid_of_the_difference():
    rng = np.random.default_rng(1)
    Z, y = rng.standard_normal((2, 9)), rng.integers(0, 2, size=9)
    two = CANONICAL["softmax"].value(Z, np.eye(2)[:, y], np)
    one = CANONICAL["sigmoid"].value(Z[1:] - Z[:1], y[None, :].astype(float), np)
    assert two == pytest.approx(one, rel=1e-13)
