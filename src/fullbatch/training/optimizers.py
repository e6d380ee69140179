"""Optimisers on the flat vector of all parameters, one row each; L-BFGS by SciPy.

    optimizer = OPTIMIZERS["adam"].make(beta_1=0.9)
    arrays = optimizer.init(theta)                                                  # a tuple, each like theta
    theta, arrays = optimizer.update(gradient, arrays, theta, learning_rate, t)     # t = 1, 2, ...: its number

No argument is changed, so a state can be kept and a step repeated. A new optimiser is a function here and a row of
``OPTIMIZERS``: estimators, the command, model files and checkpoints read the rows. Where a fast twin does not know it
(``training/native_batches.py``), what is here runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from math import sqrt
from typing import Any, NamedTuple

from fullbatch.machine import arrays
from fullbatch.machine.threads import one_blas_thread


class Optimizer(NamedTuple):
    """An optimiser whose numbers are chosen.

    name    : of its row;  update : see the head of this file
    keeps   : the names of the arrays that it keeps from one update to the next; all are zeros at the start
    numbers : what it was made with, by parameter: for a twin that does the same elsewhere
    """

    name: str
    update: Callable[[Any, tuple[Any, ...], Any, float, int], tuple[Any, tuple[Any, ...]]]
    keeps: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = {}

    def init(self, theta: Any) -> tuple[Any, ...]:
        """The arrays before the first update."""
        return tuple(arrays.zeros_like(theta) for _ in self.keeps)


def gd() -> Optimizer:
    """Gradient descent: theta <- theta - learning_rate * gradient (N6)."""

    def update(gradient: Any, kept: tuple[()], theta: Any, learning_rate: float, t: int) -> tuple[Any, tuple[()]]:
        return theta - learning_rate * gradient, kept

    return Optimizer("gd", update)


def sgd(momentum: float = 0.9, nesterovs_momentum: bool = True) -> Optimizer:
    """Gradient descent with a velocity v <- beta v - learning_rate * gradient; Nesterov's form looks one step ahead.

    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.
    """

    def update(gradient: Any, kept: tuple[Any], theta: Any, learning_rate: float, t: int) -> tuple[Any, tuple[Any]]:
        change = learning_rate * gradient
        v = momentum * kept[0] - change
        return theta + (momentum * v - change if nesterovs_momentum else v), (v,)

    return Optimizer("sgd", update, ("velocity",), {"momentum": momentum, "nesterovs_momentum": nesterovs_momentum})


def adam(beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """Adam: Kingma and Ba, arXiv:1412.6980, in the efficient form at the end of its section 2."""

    def update(
        gradient: Any, kept: tuple[Any, Any], theta: Any, learning_rate: float, t: int
    ) -> tuple[Any, tuple[Any, Any]]:
        xp = arrays.namespace(theta)
        # The arrays that are changed in place below were made in this function, so no caller sees the change; new ones
        # for each operation would take 2 % of a mini-batch's time.
        mean = beta_1 * kept[0]
        mean += (1 - beta_1) * gradient
        square = gradient * gradient
        square *= 1 - beta_2
        square += beta_2 * kept[1]
        change = xp.sqrt(square)
        change += epsilon
        change = mean / change
        change *= learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t)
        return theta - change, (mean, square)

    return Optimizer("adam", update, ("mean", "square"), {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon})


class Row(NamedTuple):
    """A kind of optimiser, as all who offer it need to know it.

    make  : its function;  rate : the learning rate that the command starts with, on columns scaled to variance 1
    whole : whether each update is by all examples at once
    """

    make: Callable[..., Optimizer]
    rate: float
    whole: bool = False

    @property
    def keeps(self) -> int:
        """How many arrays it keeps."""
        return len(self.make().keeps)

    @property
    def parameters(self) -> tuple[str, ...]:
        """What it is made with: an estimator has parameters of these names."""
        return tuple(inspect.signature(self.make).parameters)


OPTIMIZERS = {
    "adam": Row(adam, rate=3e-3),
    "gd": Row(gd, rate=0.5, whole=True),
    "sgd": Row(sgd, rate=0.1),
}


class Evaluation(NamedTuple):
    """What L-BFGS was told at a point. checksum : of the point, theta's bytes."""

    checksum: str
    J: float
    gradient: Any


def lbfgs(
    value_and_gradient: Callable[[Any], tuple[float, Any]],
    theta: Any,
    *,
    max_iter: int,
    max_fun: int,
    tol: float,
    flat: float = 1e7 * 2.0**-52,
    max_tries: int = 20,
    l1: float = 0.0,
    penalised: Any = None,
    callback: Callable[[Any], None] | None = None,
    known: Iterable[Evaluation] = (),
    tell: Callable[[Evaluation], None] | None = None,
) -> Any:
    """SciPy's L-BFGS-B on a host vector in float64; returns SciPy's OptimizeResult.

    tol : stop when the largest component of the gradient is below it;  flat : or when an iteration lowers the value by
    less than this share of it (SciPy's own default, if left out).  max_tries : evaluations along one line, after which
    SciPy gives the line up (its own default).  l1 : added is l1 times the sum of |theta| where ``penalised``, a mask of
    theta's shape, says so.  callback : called with theta after an iteration; it ends the search by
    raising StopIteration.
    known : the evaluations so far of a search that is gone on with. SciPy keeps its memory to itself, so the start and
    these are the state of such a training: they are not computed again. They are right for the same start alone: where
    another point is asked for, ReplayError.  tell : called with each evaluation, known ones too.

    SciPy's own products are held to one thread: to wake several takes longer than the evaluation of a small table.
    """
    from scipy.optimize import minimize

    options = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol, "ftol": flat, "maxls": max_tries}
    asked = value_and_gradient if tell is None and not known else _replayed(value_and_gradient, known, tell)
    if l1 == 0.0:
        with one_blas_thread():
            return minimize(asked, theta, method="L-BFGS-B", jac=True, options=options, callback=callback)
    split = _Split(l1, penalised)

    def after_iteration(intermediate_result: Any) -> None:  # SciPy looks at this name
        intermediate_result.x = split.together(intermediate_result.x)
        if callback is not None:
            callback(intermediate_result)

    with one_blas_thread():
        result = minimize(
            split.asking(asked), split.apart(theta), method="L-BFGS-B", jac=True, options=options,
            bounds=split.bounds(), callback=after_iteration,
        )  # fmt: skip
    result.x = split.together(result.x)
    return result


class _Split:
    """theta = U - V where it is penalised, with U and V of at least 0: there |theta| is U + V, which is smooth.

    At a minimum one of U and V is 0, since both less by the same would cost less; so the penalty is the L1 norm itself,
    and a weight that it drives to zero is 0, not nearly.
    """

    def __init__(self, l1: float, penalised: Any) -> None:
        self.l1, self.penalised = l1, penalised

    def apart(self, theta: Any) -> Any:
        """U, or theta where it is not penalised, of theta's length; after it V."""
        xp = arrays.namespace(theta)
        positive = xp.where(self.penalised, xp.maximum(theta, xp.zeros_like(theta)), theta)
        return xp.concat([positive, xp.maximum(-theta, xp.zeros_like(theta))[self.penalised]])

    def together(self, vector: Any) -> Any:
        n = self.penalised.shape[0]
        theta = arrays.namespace(vector).asarray(vector[:n], copy=True)
        theta[self.penalised] -= vector[n:]
        return theta

    def bounds(self) -> list[tuple[float | None, None]]:
        """What SciPy holds each component within."""
        flags = self.penalised.tolist()
        return [(0.0 if flag else None, None) for flag in (*flags, *filter(None, flags))]

    def asking(self, value_and_gradient: Callable[[Any], tuple[float, Any]]) -> Callable[[Any], tuple[float, Any]]:
        """The whole cost of such a vector, and its gradient."""
        n = self.penalised.shape[0]

        def asked(vector: Any) -> tuple[float, Any]:
            xp = arrays.namespace(vector)
            J, gradient = value_and_gradient(self.together(vector))
            sizes = float(xp.sum(vector[:n][self.penalised]) + xp.sum(vector[n:]))
            of_U = xp.where(self.penalised, gradient + self.l1, gradient)
            return J + self.l1 * sizes, xp.concat([of_U, (self.l1 - gradient)[self.penalised]])

        return asked


class ReplayError(ValueError):
    """L-BFGS asked for a point that is not the one of the evaluation that was to be told again."""


def _replayed(
    value_and_gradient: Callable[[Any], tuple[float, Any]],
    known: Iterable[Evaluation],
    tell: Callable[[Evaluation], None] | None,
) -> Callable[[Any], tuple[float, Any]]:
    left = iter(known)

    def asked(theta: Any) -> tuple[float, Any]:
        checksum = sha256(theta.tobytes()).hexdigest()
        told = next(left, None)
        if told is None:
            J, gradient = value_and_gradient(theta)
            told = Evaluation(checksum, J, gradient)
        elif told.checksum != checksum:
            raise ReplayError("the log of L-BFGS's evaluations belongs to another start, or to other limits.")
        if tell is not None:
            tell(told)
        return told.J, told.gradient.copy()  # SciPy may write into what it is given

    return asked
