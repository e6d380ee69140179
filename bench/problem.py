"""Shapes, and data made for them.

Speed does not depend on what the numbers are, but rounding does, so labels follow from the inputs as in real data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from fullbatch import Network
from fullbatch.core.parameters import Params
from fullbatch.errors import InputError

SHAPES = ("28-64-1", "28-300-1", "100-1000-1", "784-128-1", "784-256-128-10")
DISTINCT = 2**16  # examples that are drawn; a longer table repeats them


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


def make(shape: Shape, m: int, dtype: str = "float32", *, seed: int = 0) -> Problem:
    """A problem of that shape: normal inputs, and labels that a linear teacher gives them, with noise."""
    rng = np.random.default_rng(seed)
    n_in, n_out = shape.sizes[0], shape.sizes[-1]
    distinct = min(m, DISTINCT)
    rows = rng.standard_normal((distinct, n_in), dtype=np.float32)
    scores = rows @ rng.standard_normal((n_in, n_out), dtype=np.float32) / n_in**0.5
    scores += 0.5 * rng.standard_normal(scores.shape, dtype=np.float32)
    labels = scores > 0 if n_out == 1 else scores == scores.max(axis=1, keepdims=True)
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
