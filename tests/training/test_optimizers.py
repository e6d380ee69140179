"""The optimisers: pure (init, update) pairs, against scalar loops, and SciPy's L-BFGS on the flat parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import fullbatch as fb
from fullbatch.core.parameters import flatten, unflatten
from fullbatch.sources import Dense, Examples
from fullbatch.training import optimizers
from fullbatch.training.objective import Objective
from reference import problem

RATES = [0.1, 0.05, 0.2, 0.1, 0.01]


def gradients(k=5, n=3):
    return np.random.default_rng(0).standard_normal((k, n))


def run(xp, optimizer, start):
    theta = xp.array(start)
    state = optimizer.init(theta)
    for t, (gradient, rate) in enumerate(zip(gradients(), RATES, strict=True), start=1):
        theta, state = optimizer.update(xp.array(gradient), state, theta, rate, t)
        assert xp.has(theta)
    return xp.host(theta), state


def test_gd(xp):
    theta, state = run(xp, optimizers.gd(), [1.0, -2.0, 0.5])
    expected = np.array([1.0, -2.0, 0.5]) - (np.array(RATES)[:, None] * gradients()).sum(axis=0)
    assert theta == pytest.approx(expected, rel=max(xp.tolerance, 1e-6 if xp.dtype == "float32" else 0))
    assert state == ()


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(xp, nesterov):
    theta, _ = run(xp, optimizers.sgd(0.7, nesterov), [1.0, -2.0, 0.5])
    expected = [1.0, -2.0, 0.5]
    for i in range(3):
        v = 0.0
        for gradient, rate in zip(gradients(), RATES, strict=True):
            v = 0.7 * v - rate * gradient[i]
            expected[i] += 0.7 * v - rate * gradient[i] if nesterov else v
    assert theta == pytest.approx(expected, rel=xp.tolerance)


def test_adam_is_the_paper(xp):
    """Algorithm 1 of arXiv:1412.6980 with its bias corrections; the package has the form at the end of section 2,
    whose epsilon stands beside the uncorrected root. With epsilon = 0 the two are the same."""
    theta, _ = run(xp, optimizers.adam(0.8, 0.95, 0.0), [1.0, -2.0, 0.5])
    expected = [1.0, -2.0, 0.5]
    for i in range(3):
        mean = square = 0.0
        for t, (gradient, rate) in enumerate(zip(gradients(), RATES, strict=True), start=1):
            mean = 0.8 * mean + 0.2 * gradient[i]
            square = 0.95 * square + 0.05 * gradient[i] ** 2
            expected[i] -= rate * (mean / (1 - 0.8**t)) / math.sqrt(square / (1 - 0.95**t))
    assert theta == pytest.approx(expected, rel=xp.tolerance)


def test_adams_epsilon_stands_beside_the_root(xp):
    theta = xp.array([1.0, 1.0, 1.0])
    optimizer = optimizers.adam(0.9, 0.99, 0.5)
    after, _ = optimizer.update(xp.array([3.0, 0.0, -0.1]), optimizer.init(theta), theta, 0.1, 1)
    rate = 0.1 * math.sqrt(1 - 0.99) / (1 - 0.9)
    expected = [1 - rate * 0.1 * g / (math.sqrt(0.01 * g * g) + 0.5) for g in (3.0, 0.0, -0.1)]
    assert xp.host(after) == pytest.approx(expected, rel=xp.tolerance)


def test_adams_epsilon_keeps_a_zero_gradient_from_dividing_by_zero(xp):
    optimizer = optimizers.adam()
    theta = xp.array([1.0, 2.0])
    after, _ = optimizer.update(xp.array([0.0, 1.0]), optimizer.init(theta), theta, 0.1, 1)
    assert xp.host(after) == pytest.approx([1.0, 1.9], rel=1e-5)


@pytest.mark.parametrize(
    "optimizer", [optimizers.gd(), optimizers.sgd(0.9, False), optimizers.sgd(0.9), optimizers.adam()]
)
def test_no_argument_is_changed_so_that_a_step_can_be_repeated(xp, optimizer):
    theta, gradient = xp.array([1.0, -2.0, 0.5]), xp.array([0.3, 0.1, -0.7])
    state = optimizer.init(theta)
    theta_1, state_1 = optimizer.update(gradient, state, theta, 0.1, 1)
    kept = xp.host(theta_1).copy()
    theta_2, _ = optimizer.update(gradient, state_1, theta_1, 0.1, 2)
    again, _ = optimizer.update(gradient, state_1, theta_1, 0.1, 2)
    assert np.array_equal(xp.host(theta_2), xp.host(again))
    assert np.array_equal(xp.host(theta_1), kept)
    assert xp.host(theta).tolist() == np.array([1.0, -2.0, 0.5]).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_of_the_parameters_stays(dtype):
    for optimizer in (optimizers.gd(), optimizers.sgd(0.9, False), optimizers.adam()):
        theta = np.ones(3, dtype=dtype)
        after, state = optimizer.update(np.ones(3, dtype=dtype), optimizer.init(theta), theta, 0.1, 1)
        after, _ = optimizer.update(np.ones(3, dtype=dtype), state, after, np.float64(0.1).item(), 2)
        assert after.dtype == dtype


def test_lbfgs_finds_the_minimum_that_gradient_descent_creeps_to():
    """A convex problem: logistic regression with L2, whose gradient at the end is zero."""
    params, X, Y = problem([3, 1], 200, "sigmoid", seed=1)
    network = fb.Network([3, 1])
    seen = []
    with Objective(network, Examples(Dense(X), Dense(Y)), l2=1.0) as objective:

        def value_and_gradient(theta):
            return objective.cost_and_gradient(theta)

        start = flatten(tuple(fb.Layer(*layer) for layer in params))
        result = optimizers.lbfgs(
            value_and_gradient,
            start,
            max_iter=200,
            max_fun=1000,
            tol=1e-8,
            callback=lambda theta: seen.append(theta.copy()),
        )
    assert result.success
    assert len(seen) == result.nit
    J, gradients = fb.cost_and_gradients(network, unflatten(result.x, network.sizes), X, Y, l2=1.0)
    assert max(float(np.max(np.abs(a))) for layer in gradients for a in layer) < 1e-6
    slow = fb.gradient_descent(network, params, X, Y, learning_rate=1.0, iterations=3000, l2=1.0)
    assert pytest.approx(slow.costs[-1], rel=1e-9) == J


@pytest.mark.parametrize("l1", [0.0, 0.1])
def test_lbfgs_holds_scipys_products_to_one_thread(l1):
    """To wake others takes longer than all else of a small fit."""
    seen = set()

    def threads():
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    def cost(theta):
        seen.update(threads())
        return float(theta @ theta), 2 * theta

    with threadpool_limits(2, user_api="blas"):
        options = {"l1": l1, "penalised": np.ones(3, dtype=bool)}
        optimizers.lbfgs(cost, np.ones(3), max_iter=3, max_fun=9, tol=1e-9, **options)
        assert threads() == {2}
    assert seen == {1}


def test_a_callback_ends_lbfgs_by_stop_iteration():
    calls = []

    def stop(theta):
        calls.append(1)
        raise StopIteration

    optimizers.lbfgs(
        lambda x: (float(x @ x), 2 * x), np.array([3.0, 4.0]), max_iter=50, max_fun=50, tol=0.0, callback=stop
    )
    assert len(calls) == 1
