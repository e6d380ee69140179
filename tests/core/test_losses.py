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
from reference import Q, loss_prime, output_unit, targets
from reference import loss as scalar_loss

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


# --- Losses that are two straight lines -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["absolute_error", "quantile"])
def test_two_lines_are_the_definition(xp, name):
    rng = np.random.default_rng(0)
    Z, Y = rng.standard_normal((3, 8)), rng.standard_normal((3, 8))
    Y[0, 0] = Z[0, 0]
    ours = make_loss(name, Q if name == "quantile" else None)
    Z, Y = (np.asarray(array, xp.dtype) for array in (Z, Y))
    namespace = arrays.namespace(xp.array(Z))
    L, dZ = (of(xp.array(Z), xp.array(Y), namespace) for of in (ours.value, ours.dZ))
    assert xp.has(L)
    assert xp.has(dZ)
    assert tuple(L.shape) == (8,)
    tolerance = 1e-12 if xp.dtype == "float64" else 2e-5
    for i in range(8):
        pairs = list(zip(Z[:, i].tolist(), Y[:, i].tolist(), strict=True))
        assert float(xp.host(L)[i]) == pytest.approx(scalar_loss(name, *zip(*pairs, strict=True)), rel=tolerance)
        assert xp.host(dZ)[:, i].tolist() == [loss_prime(name, a, t) for a, t in pairs]


@pytest.mark.parametrize("name", ["absolute_error", "quantile"])
def test_two_lines_where_there_is_no_difference_and_no_number(xp, name):
    """0 where a = y, also for -0, and NaN where there is no number: it must not pass for a finished example."""
    ours = make_loss(name, Q if name == "quantile" else None)
    Z, Y = xp.array([[0.0, 1.0, math.nan, 0.0, math.inf, -math.inf]]), xp.array([[-0.0, 1.0, 0.0, math.nan, 0.0, 0.0]])
    namespace = arrays.namespace(Z)
    dZ, L = xp.host(ours.dZ(Z, Y, namespace)), xp.host(ours.value(Z, Y, namespace))
    assert dZ[0, :2].tolist() == [0.0, 0.0]
    assert np.isnan(dZ[0, 2:4]).all()
    assert np.isnan(L[2:4]).all()
    assert dZ[0, 4:].tolist() == ([1.0, -1.0] if name == "absolute_error" else [1 - Q, -Q])
    assert L[4:].tolist() == [math.inf, math.inf]


@given(seed=st.integers(0, 10_000), q=st.floats(0.01, 0.99))
def test_two_lines_by_central_differences(seed, q):
    rng = np.random.default_rng(seed)
    Z, h = rng.standard_normal((3, 1)), 1e-6
    Y = Z + rng.choice([-1, 1], (3, 1)) * rng.uniform(0.01, 2, (3, 1))  # away from the kink
    for loss in (make_loss("absolute_error"), make_loss("quantile", q)):
        dZ = loss.dZ(Z, Y, np)
        for k in range(3):
            step = h * np.eye(3)[:, k : k + 1]
            slope = (loss.value(Z + step, Y, np)[0] - loss.value(Z - step, Y, np)[0]) / (2 * h)
            assert dZ[k, 0] == pytest.approx(slope, rel=1e-6, abs=1e-8)


@given(seed=st.integers(0, 10_000), q=st.floats(0.01, 0.99))
def test_the_least_quantile_loss_is_at_the_quantile(seed, q):
    y = np.sort(np.random.default_rng(seed).standard_normal(101))[None, :]
    each = [float(make_loss("quantile", q).value(np.full_like(y, at), y, np).sum()) for at in y[0]]
    below = int(np.argmin(each))
    assert below / 101 - 1e-9 <= q <= (below + 1) / 101 + 1e-9


def test_the_least_poisson_loss_is_at_y(xp):
    Y = np.array([[0.0, 1.0, 2.5], [4.0, 0.0, 1.0]])
    loss, namespace = LOSSES["poisson"], arrays.namespace(xp.array(Y))
    least = loss.least(xp.array(Y), namespace)
    at_y = CANONICAL["exp"].value(np.log(np.maximum(Y, 1e-300)), Y, np)
    assert xp.has(least)
    assert xp.host(least) == pytest.approx(at_y, rel=1e-6, abs=1e-6)


def test_a_loss_by_name():
    assert [loss.name for loss in CANONICAL.values()] == [
        "binary_cross_entropy", "cross_entropy", "squared_error", "poisson"
    ]  # fmt: skip
    assert all(make_loss(name) is LOSSES[name] for name in LOSSES if name != "quantile")
    assert make_loss("quantile", 0.9).slopes == (0.9, 1 - 0.9)
    with pytest.raises(InputError, match=r"unknown loss 'huber'; the known ones are .*, absolute_error, quantile"):
        make_loss("huber")
    with pytest.raises(InputError, match="loss='quantile' needs a quantile: a number between 0 and 1"):
        make_loss("quantile")
    with pytest.raises(InputError, match=r"quantile=0\.5 belongs to loss='quantile'; the loss is 'poisson'"):
        make_loss("poisson", 0.5)
    for bad in (0, 1, -0.1, 1.5, math.nan, True, "0.5"):
        with pytest.raises(InputError, match="quantile must be a number between 0 and 1, and neither of them; got"):
            make_loss("quantile", bad)
