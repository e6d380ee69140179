"""Parameters: shapes, initial values, and the flat vector that optimisers work on.

Conventions, with n[0] input features and n[l] units in layer l:

    W[l]  (n[l], n[l-1])    weights
    b[l]  (n[l], 1)         biases
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import prod, sqrt
from typing import Any, NamedTuple

from fullbatch.core.door import check_array
from fullbatch.errors import InputError
from fullbatch.machine import arrays, places


class Layer(NamedTuple):
    """One layer's parameters, or their gradient: a pair, so that ``W, b = layer``.

    Parameters
    ----------
    W : array (n[l], n[l-1])
        Weights; of gradients dW.
    b : array (n[l], 1)
        Biases; of gradients db.

    Examples
    --------
    >>> import numpy as np
    >>> import fullbatch as fb
    >>> layer = fb.Layer(W=np.zeros((4, 2)), b=np.zeros((4, 1)))
    >>> W, b = layer
    >>> W.shape, b.shape
    ((4, 2), (4, 1))
    """

    W: Any
    b: Any


Params = tuple[Layer, ...]

SCHEMES = ("glorot", "he", "lecun", "normal")


Shapes = tuple[tuple[tuple[int, int], tuple[int, int]], ...]


def shapes(sizes: Sequence[int]) -> Shapes:
    """The shapes of (W[l], b[l]) for l = 1 ... L."""
    return _shapes(tuple(sizes))


@lru_cache(maxsize=64)  # a short call asks for them three times
def _shapes(sizes: tuple[int, ...]) -> Shapes:
    return tuple(((n, fan_in), (n, 1)) for fan_in, n in pairwise(sizes))


def initial(
    sizes: Sequence[int],
    *,
    seed: int | Any = None,
    scheme: str = "glorot",
    dtype: str = "float64",
    xp: Any = None,
    device: Any = None,
) -> Params:
    """Random weights and zero biases (N2), drawn by NumPy in float64 and then cast: one start on all libraries.

    seed   : an int, a numpy.random.Generator, or None for a fresh one
    scheme : "glorot" uniform in +-sqrt(6 / (n[l-1] + n[l])); "he" normal of variance 2 / n[l-1], for ReLU and its
             kin; "lecun" normal of variance 1 / n[l-1]; "normal" of standard deviation 0.01, as in the notes
    xp     : the array library, NumPy if left out

    Weights are random because units that start equal stay equal: with W[l] = 0 every hidden unit computes the same
    activation, gets the same gradient and takes the same step, for ever.
    """
    if scheme not in SCHEMES:
        raise InputError(f"unknown scheme {scheme!r}; the known ones are {', '.join(SCHEMES)}.")
    rng = arrays.random_generator(seed)
    layers = []
    for (n, fan_in), _ in shapes(sizes):
        if scheme == "glorot":
            bound = sqrt(6 / (fan_in + n))
            W = rng.uniform(-bound, bound, size=(n, fan_in))
        else:
            spread = {"he": sqrt(2 / fan_in), "lecun": sqrt(1 / fan_in), "normal": 0.01}[scheme]
            W = spread * rng.standard_normal((n, fan_in))
        W = arrays.from_host(W, xp=xp, dtype=dtype, device=device)
        with places.place_of(W).current():  # where CuPy makes it
            b = arrays.namespace(W).zeros_like(W[:, :1])  # not for a device by name: JAX would hold it there
        layers.append(Layer(W, b))
    return tuple(layers)


def count(sizes: Sequence[int]) -> int:
    """The number of parameters."""
    return _count(tuple(sizes))


@lru_cache(maxsize=64)
def _count(sizes: tuple[int, ...]) -> int:
    return sum(n * (fan_in + 1) for fan_in, n in pairwise(sizes))


def weight_spans(sizes: Sequence[int]) -> list[slice]:
    """Where the weights W[1], W[2], ... lie in the vector of all parameters; the rest of it are biases."""
    spans, start = [], 0
    for n, fan_in in ((n, fan_in) for fan_in, n in pairwise(sizes)):
        spans.append(slice(start, start + n * fan_in))
        start += n * (fan_in + 1)
    return spans


def check_shapes(params: Sequence[Any], sizes: Sequence[int]) -> Params:
    """The parameters as Layers, or an error that names the array, its shape and the shape it must have (N1)."""
    try:
        layers = tuple(Layer(*layer) for layer in params)
    except TypeError as error:
        raise InputError("params must be a sequence of (W, b) pairs, one per layer, as of network.init.") from error
    if len(layers) != len(sizes) - 1:
        raise InputError(f"the network has {len(sizes) - 1} layers and params has {len(layers)}.")
    for l, (layer, (W_shape, b_shape)) in enumerate(zip(layers, shapes(sizes), strict=True), start=1):
        for name, array, shape in (("W", layer.W, W_shape), ("b", layer.b, b_shape)):
            check_array(f"{name}[{l}]", array)
            if tuple(array.shape) != shape:
                raise InputError(f"{name}[{l}] has shape {tuple(array.shape)}; it must have shape {shape}.")
    return layers


def refuse_equal_units(theta: Any, sizes: Sequence[int]) -> None:
    """Refuse all-zero weights in a network with a hidden layer, whose units would stay equal (N2)."""
    xp = arrays.namespace(theta)
    if len(sizes) > 2 and not any(bool(xp.any(theta[span] != 0)) for span in weight_spans(sizes)):
        raise InputError(
            "all weights are zero: with a hidden layer its units would stay equal for ever, since equal units get "
            "equal gradients. Start from random weights, for example network.init(seed=0)."
        )


def flatten(params: Params) -> Any:
    """All parameters as one vector: W[1], b[1], W[2], b[2], ... each row after row."""
    xp = arrays.namespace(params[0].W)
    return xp.concat([arrays.reshaped(array, (-1,)) for layer in params for array in layer])


def unflatten(theta: Any, sizes: Sequence[int]) -> Params:
    """The layers of a vector that ``flatten`` made: views of it where the library has views."""
    layers, start = [], 0
    for layer_shapes in shapes(sizes):
        pair = []
        for shape in layer_shapes:
            stop = start + prod(shape)
            pair.append(arrays.reshaped(theta[start:stop], shape))
            start = stop
        layers.append(Layer(*pair))
    return tuple(layers)
