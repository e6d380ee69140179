"""The network, and THE pass: forward and backward, written once, for every array library.

Conventions. m examples are columns; layer l has n[l] units; n[0] is the number of input features.

    X = A[0]            (n[0], m)        Y      (n[L], m)
    W[l]                (n[l], n[l-1])   b[l]   (n[l], 1)
    Z[l], A[l], dZ[l]   (n[l], m)        dW[l], db[l]   as W[l], b[l]

Python counts from 0, so ``params[l]`` is layer l+1, ``Z[l]`` its pre-activation, and ``A[l]`` its *input* (A[0] is X).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

from fullbatch.core.activations import Activation, make_activation
from fullbatch.core.door import check_alike, check_array, known
from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.losses import CANONICAL, QUANTILE, make_loss, make_output
from fullbatch.core.parameters import Layer, Params, check_shapes, flatten, initial
from fullbatch.core.probe import check_able
from fullbatch.docstrings import described
from fullbatch.errors import InputError
from fullbatch.machine import arrays, places

OF_INIT = {
    "seed": """int, numpy.random.Generator or None
        Of the weights; None: fresh ones each time.""",
    "scheme": """{"glorot", "he", "lecun", "normal"}
        "glorot": uniform in +-sqrt(6 / (n[l-1] + n[l])); "he": normal of variance 2 / n[l-1], for ReLU and its kin;
        "lecun": normal of variance 1 / n[l-1]; "normal": of standard deviation 0.01, as in the notes.""",
    "dtype": """{"float64", "float32"}
        Of all parameters.""",
    "xp": """array library or None
        Whose arrays they are: torch, jax.numpy, cupy, ...; None: NumPy's.""",
    "device": """device or None
        Where the library puts them.""",
}


class Pass(NamedTuple):
    """What a forward pass computed.

    Parameters
    ----------
    Z : tuple of array
        The pre-activations of the layers: L of them, ``Z[l]`` (n[l+1], m).
    A : tuple of array
        X, then the activations of the layers: L + 1 of them, ``A[l]`` (n[l], m); ``A[-1]`` is yhat.
    factors : tuple of array
        With dropout what the hidden activations go on multiplied by, each (n[l], m); else ().
    """

    Z: tuple[Any, ...]
    A: tuple[Any, ...]
    factors: tuple[Any, ...] = ()

    def input_of(self, l: int) -> Any:
        """What layer l + 1 was given: A[l], of which dropout may have left some out."""
        return self.A[l] * self.factors[l - 1] if l > 0 and self.factors else self.A[l]


@described({})
class Network:
    """A fully connected network of any depth; with one size in and one out, logistic regression and its kin (N8).

    Parameters
    ----------
    sizes : sequence of int
        n[0], n[1], ..., n[L]: the units of each layer, inputs first.
    hidden : str, pair of functions, or list of these
        The activation of the hidden layers: "tanh", "sigmoid", "relu", "leaky_relu", "identity", "gelu" or "silu"; a
        pair (g, g') of functions of Z, for one of your own; or a list, one for each hidden layer (N9).
    output : {"sigmoid", "softmax", "identity", "exp"}
        The output unit, with the loss that goes with it (N12): cross-entropy of each unit; cross-entropy of one-hot Y;
        half squared error; Poisson, for counts. Y has n[L] rows.
    loss : str or None
        None, the output unit's own; with "identity" also "absolute_error" (L = abs(a - y)) or "quantile"
        (L = (1-q) (a - y) where a > y, else q (y - a)).
    quantile : float or None
        q of the loss "quantile", within (0, 1); None for the others.

    Raises
    ------
    InputError
        For sizes below 1, an unknown name, the wrong number of activations, or a loss that does not go with the output
        unit.

    Examples
    --------
    >>> import fullbatch as fb
    >>> net = fb.Network([2, 4, 1], hidden="tanh", output="sigmoid")
    >>> [(W.shape, b.shape) for W, b in net.init(seed=3)]
    [((4, 2), (4, 1)), ((1, 4), (1, 1))]

    At q = 3/4 a guess that is too low costs three times as much as one that is too high:

    >>> import numpy as np
    >>> net = fb.Network([1, 1], output="identity", loss="quantile", quantile=0.75)
    >>> X, Y = np.zeros((1, 2)), np.array([[0.0, 10.0]])
    >>> [fb.cost(net, [(np.zeros((1, 1)), np.array([[b]]))], X, Y) for b in (0.0, 5.0, 10.0)]
    [3.75, 2.5, 1.25]
    """

    def __init__(
        self,
        sizes: Sequence[int],
        hidden: Any = "tanh",
        output: str = "sigmoid",
        loss: str | None = None,
        quantile: float | None = None,
    ) -> None:
        given = list(sizes) if isinstance(sizes, Iterable) else [sizes]
        if len(given) < 2 or not all(isinstance(n, Integral) and not isinstance(n, bool) and n >= 1 for n in given):
            raise InputError(f"sizes must be two or more integers of at least 1, inputs first; got {given}.")
        self.sizes = tuple(int(n) for n in given)
        self.activations = _one_per_hidden_layer(hidden, len(given) - 2)
        self.output = make_output(output)
        self.loss = make_loss(CANONICAL[output].name if loss is None else loss, quantile)
        if self.loss.output != output:
            raise InputError(f"loss={loss!r} goes with output={self.loss.output!r}; the output is {output!r}.")
        if output == "softmax" and self.sizes[-1] < 2:
            raise InputError("softmax needs at least 2 output units; for two classes in one unit use sigmoid.")

    def __repr__(self) -> str:
        names = [activation.name or "custom" for activation in self.activations]
        loss = "" if self.loss.canonical else f", loss={self.loss.name!r}"
        if self.loss.name == QUANTILE:
            loss += f", quantile={self.loss.quantile}"
        return f"Network({list(self.sizes)}, hidden={names}, output={self.output.name!r}{loss})"

    @described(OF_INIT)
    def init(
        self,
        seed: Any = None,
        *,
        scheme: str = "glorot",
        dtype: str = "float64",
        xp: Any = None,
        device: Any = None,
    ) -> Params:
        """Random weights and zero biases (N2), drawn by NumPy in float64 and then cast: one start on all libraries.

        Returns
        -------
        tuple of Layer
            W[l] (n[l], n[l-1]) and b[l] (n[l], 1) of each layer.

        Raises
        ------
        InputError
            For an unknown scheme.

        Notes
        -----
        Weights are random because units that start equal stay equal: with W[l] = 0 every hidden unit computes the same
        activation, gets the same gradient and takes the same step, for ever.
        """
        return initial(self.sizes, seed=seed, scheme=scheme, dtype=dtype, xp=xp, device=device)

    def forward(self, params: Sequence[Any], X: Any) -> Pass:
        """Z and A of every layer (N3).

        Parameters
        ----------
        params : sequence of (W, b)
            As of ``init``.
        X : array (n[0], m)
            One example per column; of any library of the array API standard.

        Returns
        -------
        Pass
            Z and A of each layer; ``.A[-1]`` is yhat (n[L], m).

        Raises
        ------
        InputError, ArrayTypeError
            Where a shape, library, device or dtype does not fit; the message names the array (N1).

        Notes
        -----
        Another library can trace this, and ``backward``: neither needs values, a device, or to know m.
        """
        params = self.check(params, X)
        with places.place_of(X).computing():
            return self.forward_unchecked(params, X, arrays.namespace(X))

    def backward(self, params: Sequence[Any], pass_: Pass, Y: Any, sample_weight: Any = None) -> GradientSum:
        """Loss and gradients, summed over the examples of a forward pass (N5, N11).

        Parameters
        ----------
        params : sequence of (W, b)
            Those of the forward pass.
        pass_ : Pass
            What ``forward`` returned.
        Y : array (n[L], m)
            The targets.
        sample_weight : array (m,) or None, default=None
            What each example counts.

        Returns
        -------
        GradientSum
            Sums, not means: divide by its ``weight``, or use ``cost_and_gradients``.

        Raises
        ------
        InputError, ArrayTypeError
            As ``forward``.
        """
        params = self.check(params, pass_.A[0], Y, sample_weight)
        with places.place_of(Y).computing():
            return self.backward_unchecked(params, pass_, Y, sample_weight, arrays.namespace(Y))

    def forward_unchecked(self, params: Params, X: Any, xp: Any, factors: tuple[Any, ...] = ()) -> Pass:
        """``forward`` of arrays that were checked before, in the library xp; ``factors`` as ``Dropout`` has them."""
        g = [*(activation.g for activation in self.activations), self.output.activation]
        pass_ = Pass((), (X,), factors)
        for l, (W, b) in enumerate(params):
            Z = W @ pass_.input_of(l) + b
            pass_ = pass_._replace(Z=(*pass_.Z, Z), A=(*pass_.A, g[l](Z, xp)))
        return pass_

    def backward_unchecked(self, params: Params, pass_: Pass, Y: Any, sample_weight: Any, xp: Any) -> GradientSum:
        """``backward`` of arrays that were checked before, in the library xp."""
        Z, A, factors = pass_
        loss, weight = self.summed_loss(pass_, Y, sample_weight, xp)
        dZ = self.loss.dZ(A[-1], Y, xp)  # A[L] - Y for most: losses.py has the proof
        if sample_weight is not None:
            dZ = xp.where(sample_weight > 0, dZ * sample_weight, xp.zeros_like(dZ))  # not 0 * inf, a NaN
        gradients = []
        for l in reversed(range(len(params))):
            dW = dZ @ pass_.input_of(l).T
            db = xp.sum(dZ, axis=1, keepdims=True)
            gradients.append(Layer(dW, db))
            if l > 0:
                dA = params[l].W.T @ dZ
                if factors:
                    dA = dA * factors[l - 1]
                dZ = dA * self.activations[l - 1].derivative(Z[l - 1], A[l], xp)
        return GradientSum(loss, flatten(tuple(reversed(gradients))), weight, self.sizes)

    def summed_loss(self, pass_: Pass, Y: Any, sample_weight: Any, xp: Any) -> tuple[Any, Any]:
        """The weighted sum of L over the examples, and the sum of the weights."""
        wide = arrays.widest_float(Y)
        loss = self.loss.value(pass_.Z[-1], Y, xp)  # (m,)
        if sample_weight is None:
            m = float(Y.shape[1]) if known(Y.shape[1]) else xp.sum(xp.ones_like(loss), dtype=wide)
            return xp.sum(loss, dtype=wide), m
        weighted = xp.where(sample_weight > 0, loss * sample_weight, xp.zeros_like(loss))  # not 0 * inf, a NaN
        return xp.sum(weighted, dtype=wide), xp.sum(sample_weight, dtype=wide)

    def check(self, params: Sequence[Any], X: Any, Y: Any = None, sample_weight: Any = None) -> Params:
        """The parameters as Layers, or an error that says which array does not fit and what would."""
        for name, array in {"X": X, "Y": Y, "sample_weight": sample_weight}.items():
            if array is not None:
                check_array(name, array)
        layers = check_shapes(params, self.sizes)
        check_able(X, Network)
        m = _columns("X", X, self.sizes[0])
        if Y is not None and _differ(_columns("Y", Y, self.sizes[-1]), m):
            raise InputError(f"X has {m} columns and Y has {Y.shape[1]}; each example is one column of both.")
        if sample_weight is not None and (sample_weight.ndim != 1 or _differ(sample_weight.shape[0], m)):
            raise InputError(f"sample_weight has shape {tuple(sample_weight.shape)}; it must have shape ({m},).")
        named = {f"{name}[{l}]": a for l, layer in enumerate(layers, 1) for name, a in zip("Wb", layer, strict=True)}
        check_alike(X, {**named, "Y": Y, "sample_weight": sample_weight})
        return layers


def _one_per_hidden_layer(hidden: Any, count: int) -> tuple[Activation, ...]:
    is_pair = isinstance(hidden, tuple) and len(hidden) == 2 and all(callable(f) for f in hidden)
    if isinstance(hidden, (str, Activation)) or is_pair or not isinstance(hidden, Iterable):
        return (make_activation(hidden),) * count
    activations = tuple(make_activation(spec) for spec in hidden)
    if len(activations) != count:
        raise InputError(f"{count} hidden layers need {count} activations; got {len(activations)}.")
    return activations


def _columns(name: str, array: Any, rows: int) -> Any:
    """The number of examples; not always a number (see ``door.known``), and forward and backward need none."""
    shape = tuple(array.shape)
    if len(shape) != 2 or shape[0] != rows:
        hint = " A table with one row per example goes in transposed: table.T." if shape[-1:] == (rows,) else ""
        raise InputError(f"{name} has shape {shape}; it must have shape ({rows}, m), one example per column.{hint}")
    if shape[1] == 0:
        raise InputError(f"{name} has no examples: its shape is {shape}.")
    return shape[1]


def _differ(some: Any, others: Any) -> bool:
    return known(some) and known(others) and bool(some != others)
