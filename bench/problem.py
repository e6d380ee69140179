"""Shapes, data made for them, and how far a gradient is off.

Speed does not depend on what the numbers are, but rounding does. So labels follow from the inputs as in real data, and
one column hardly varies, as a year or a temperature in kelvin: where one class is rare, what float32 adds up of it over
many examples has one sign, and a sum in one go loses of each what the sum has grown beyond. Classes of one size hide
most of it, since their errors cancel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fullbatch import Network, cost_and_gradients
from fullbatch.core.parameters import Layer, Params
from fullbatch.errors import InputError

SHAPES = ("28-64-1", "28-300-1", "100-1000-1", "784-128-1", "784-256-128-10")
DISTINCT = 2**16  # examples that are drawn; a longer table repeats them
MEAN, SPREAD = 1.0, 0.01  # of the last column


@dataclass(frozen=True)
class Shape:
    """The units of each layer, inputs first; tanh within, and one sigmoid output unit or softmax over several."""

    sizes: tuple[int, ...]

    @classmethod
    def parse(cls, name: str) -> Shape:
        """ "28-64-1": InputError for anything but two or more positive integers with hyphens between."""
        if not re.fullmatch(r"[1-9]\d{0,6}(-[1-9]\d{0,6})+", name):
            raise InputError(
                f"unknown shape {name!r}; the known ones are {', '.join(SHAPES)}, or give your own: the units of each "
                "layer, inputs first, with hyphens between."
            )
        return cls(tuple(map(int, name.split("-"))))

    @property
    def name(self) -> str:
        return "-".join(map(str, self.sizes))

    @property
    def output(self) -> str:
        return "sigmoid" if self.sizes[-1] == 1 else "softmax"

    @property
    def network(self) -> Network:
        return Network(self.sizes, hidden="tanh", output=self.output)

    @property
    def weights(self) -> int:
        """How many numbers W and b of all layers are."""
        return sum(n * (fan_in + 1) for fan_in, n in zip(self.sizes, self.sizes[1:], strict=False))

    def data_bytes(self, m: int, itemsize: int) -> int:
        """Of X and Y for m examples."""
        return m * (self.sizes[0] + self.sizes[-1]) * itemsize

    def bytes_needed(self, m: int, itemsize: int) -> int:
        """Of the data, and of the parameters with what is drawn, summed and returned in their shape in float64."""
        return self.data_bytes(m, itemsize) + 5 * 8 * self.weights


@dataclass(frozen=True)
class Problem:
    """A network, a start and m examples.

    table : (m, n[0]), row after row, as a user has it;  targets : (m, n[L]), 0 or 1;  X, Y : their transposes, views
    """

    shape: Shape
    network: Network
    params: Params
    table: np.ndarray
    targets: np.ndarray

    @property
    def X(self) -> np.ndarray:
        return self.table.T

    @property
    def Y(self) -> np.ndarray:
        return self.targets.T

    @property
    def m(self) -> int:
        return len(self.table)

    def head(self, m: int) -> Problem:
        """The first examples of the same, as views."""
        return Problem(self.shape, self.network, self.params, self.table[:m], self.targets[:m])

    @property
    def codes(self) -> np.ndarray:
        """The class of each example, (m,)."""
        return self.targets[:, 0].astype(np.int64) if self.shape.sizes[-1] == 1 else self.targets.argmax(axis=1)


def make(shape: Shape, m: int, dtype: str = "float32", *, seed: int = 0, rare: float | None = None) -> Problem:
    """A problem of that shape: normal inputs, and labels that a linear teacher gives them, with noise.

    The last input is brought to MEAN and SPREAD once the teacher has seen it, so that the classes stay of one size, or
    one of two is ``rare``, as so many of the rows.
    """
    rng = np.random.default_rng(seed)
    n_in, n_out = shape.sizes[0], shape.sizes[-1]
    distinct = min(m, DISTINCT)
    rows = rng.standard_normal((distinct, n_in), dtype=np.float32)
    scores = rows @ rng.standard_normal((n_in, n_out), dtype=np.float32) / n_in**0.5
    scores += 0.5 * rng.standard_normal(scores.shape, dtype=np.float32)
    least = 0.0 if rare is None else np.quantile(scores, 1 - rare)
    labels = scores > least if n_out == 1 else scores == scores.max(axis=1, keepdims=True)
    rows[:, -1] = MEAN + SPREAD * rows[:, -1]
    network = shape.network
    return Problem(
        shape, network, network.init(seed, dtype=dtype), _repeated(rows, m, dtype), _repeated(labels, m, dtype)
    )


def _repeated(rows: Any, m: int, dtype: str) -> np.ndarray:
    """m rows, without a second array of that length on the way."""
    out = np.empty((m, rows.shape[1]), dtype=dtype)
    for start in range(0, m, len(rows)):
        part = out[start : start + len(rows)]
        part[...] = rows[: len(part)]
    return out


# --- Accuracy -------------------------------------------------------------------------------------------------


def exact(p: Problem) -> tuple[float, Params]:
    """J and the gradient in float64, block by block, so that no float64 copy of all rows is needed.

    A table repeats its first rows; a block that is as the one before has the same outcome, and is only compared.
    """
    params = _wide(p.params)
    J, gradients = 0.0, [np.zeros_like(array) for layer in params for array in layer]
    before: tuple[np.ndarray, np.ndarray] | None = None
    for start in range(0, p.m, DISTINCT):
        block = p.table[start : start + DISTINCT], p.targets[start : start + DISTINCT]
        if before is None or not all(map(np.array_equal, block, before)):
            X, Y = (array.astype(np.float64).T for array in block)
            cost, found = cost_and_gradients(p.network, params, X, Y)
        before, share = block, len(block[0]) / p.m
        J += share * cost
        for total, array in zip(gradients, (array for layer in found for array in layer), strict=True):
            total += share * array
    return J, tuple(map(Layer, gradients[::2], gradients[1::2]))


def _wide(params: Params) -> Params:
    return tuple(Layer(W.astype(np.float64), b.astype(np.float64)) for W, b in params)


def error_of_gradient(found: Sequence[tuple[Any, Any]], wanted: Params) -> float:
    """max |g - g64| / max |g64| of each parameter array, and of these the worst: a large array hides no small one.

    found : (dW, db) of each layer, in the arrays of any library; a db may be flat. Infinite for other shapes and NaN.
    """
    return max(
        error(_host(got), true.reshape(-1) if got.ndim == 1 else true)
        for layer, exact in zip(found, wanted, strict=True)
        for got, true in zip(layer, exact, strict=True)
    )


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    """max |difference| / max |wanted|; infinite for other shapes and NaN."""
    if got.shape != wanted.shape:
        return math.inf
    off, size = float(abs(got - wanted).max()), float(abs(wanted).max())
    share = off / size if size else math.inf * off if off else 0.0
    return share if math.isfinite(share) else math.inf


def _host(array: Any) -> np.ndarray:
    """In float64, where NumPy can read it: CuPy and PyTorch copy from a card only if they are asked."""
    for name in ("get", "cpu"):
        array = getattr(array, name, lambda array=array: array)()
    return np.asarray(array, dtype=np.float64)
