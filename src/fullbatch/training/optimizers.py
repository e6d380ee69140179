"""Optimisers as pure (init, update) pairs on the flat vector of all parameters; L-BFGS by SciPy.

    state = optimizer.init(theta)
    theta, state = optimizer.update(gradient, state, theta, learning_rate)

No argument is changed, so a state can be kept and a step repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, NamedTuple

from fullbatch.machine import arrays


class Rule(NamedTuple):
    """What an optimiser does, in numbers: for a twin that does it elsewhere.

    name : "gd", "momentum", "nesterov" or "adam";  a : beta of the momentum, beta_1 of Adam;  b : beta_2
    """

    name: str
    a: float = 0.0
    b: float = 0.0
    epsilon: float = 0.0


class Optimizer(NamedTuple):
    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any, float], tuple[Any, Any]]
    rule: Rule | None = None


def gd() -> Optimizer:
    """Gradient descent: theta <- theta - learning_rate * gradient (N6)."""

    def update(gradient: Any, state: tuple[()], theta: Any, learning_rate: float) -> tuple[Any, Any]:
        return theta - learning_rate * gradient, state

    return Optimizer(lambda theta: (), update, Rule("gd"))


def momentum(beta: float, *, nesterov: bool = False) -> Optimizer:
    """Gradient descent with a velocity v <- beta v - learning_rate * gradient; Nesterov's form looks one step ahead.

    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.
    """

    def init(theta: Any) -> Any:
        return arrays.namespace(theta).zeros_like(theta)

    def update(gradient: Any, v: Any, theta: Any, learning_rate: float) -> tuple[Any, Any]:
        step = learning_rate * gradient
        v = beta * v - step
        return theta + (beta * v - step if nesterov else v), v

    return Optimizer(init, update, Rule("nesterov" if nesterov else "momentum", beta))


class AdamState(NamedTuple):
    t: int
    mean: Any  # of the gradient
    square: Any  # mean of the gradient's square


def adam(beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """Adam: Kingma and Ba, arXiv:1412.6980, in the efficient form at the end of its section 2."""

    def init(theta: Any) -> AdamState:
        zeros = arrays.namespace(theta).zeros_like(theta)
        return AdamState(0, zeros, zeros)

    def update(gradient: Any, state: AdamState, theta: Any, learning_rate: float) -> tuple[Any, AdamState]:
        xp = arrays.namespace(theta)
        t = state.t + 1
        mean = beta_1 * state.mean  # what is changed in place below was made here: 2 % of a mini-batch's time
        mean += (1 - beta_1) * gradient
        square = gradient * gradient
        square *= 1 - beta_2
        square += beta_2 * state.square
        step = xp.sqrt(square)
        step += epsilon
        step = mean / step
        step *= learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t)
        return theta - step, AdamState(t, mean, square)

    return Optimizer(init, update, Rule("adam", beta_1, beta_2, epsilon))


def lbfgs(
    value_and_gradient: Callable[[Any], tuple[float, Any]],
    theta: Any,
    *,
    max_iter: int,
    max_fun: int,
    tol: float,
    flat: float = 1e7 * 2.0**-52,
    callback: Callable[[Any], None] | None = None,
) -> Any:
    """SciPy's L-BFGS-B on a host vector in float64; returns SciPy's OptimizeResult.

    tol : stop when the largest component of the gradient is below it;  flat : or when an iteration lowers the value by
    less than this share of it (SciPy's own default, if left out).  callback : called with theta after an iteration;
    it ends the search by raising StopIteration.
    """
    from scipy.optimize import minimize

    options = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol, "ftol": flat}
    return minimize(value_and_gradient, theta, method="L-BFGS-B", jac=True, options=options, callback=callback)
