"""For any network on NumPy or CuPy: the formulas of the pass, without a new array of the size of a block.

It is the in-place twin of the pass. The array API has no ``out=``, and fresh arrays at each operation cost 1.4 to 2
times the time. Hidden layers live example by example, the transposes Z^T, A^T (k, n[l]) of the notes' arrays, because
that is how the caller's table lies in memory; the output layer, where n[L] is small, lives as in the notes, (n[L], k).
test_steps.py holds this file to the array step over random networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fullbatch.core.activations import GELU_C, GELU_FLAT, GELU_K, LEAK
from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, count, unflatten
from fullbatch.machine import arrays


class Buffers(NamedTuple):
    """One hidden layer's arrays, each (k, n[l]). A is Z itself where g' needs A alone."""

    Z: Any  # pre-activation
    A: Any  # activation
    T: Any  # what the activation keeps from forward to backward, or Z again
    D: Any  # dA, then dZ; A again where dA is not needed by itself
    wide: Any  # Z once more, several examples to a row: see InplaceStep._forward


# --- Activations: forward fills A from Z; derivative puts g'(Z) into Z, A or T and returns it, destroying all three --


def _tanh(xp: Any, f: Buffers) -> None:
    xp.tanh(f.Z, out=f.A)


def _d_tanh(xp: Any, f: Buffers) -> Any:
    xp.multiply(f.A, f.A, out=f.A)
    return xp.subtract(1, f.A, out=f.A)


def _sigmoid_into(xp: Any, Z: Any, out: Any) -> None:
    xp.multiply(Z, 0.5, out=out)  # sigma(z) = (1 + tanh(z/2)) / 2: one transcendental and no overflow
    xp.tanh(out, out=out)
    xp.add(out, 1, out=out)
    xp.multiply(out, 0.5, out=out)


def _sigmoid(xp: Any, f: Buffers) -> None:
    _sigmoid_into(xp, f.Z, f.A)


def _d_sigmoid(xp: Any, f: Buffers) -> Any:
    xp.subtract(1, f.A, out=f.T)
    return xp.multiply(f.A, f.T, out=f.T)


def _relu(xp: Any, f: Buffers) -> None:
    xp.maximum(f.Z, 0, out=f.A)


def _d_relu(xp: Any, f: Buffers) -> Any:
    return f.A > 0  # of bool: a quarter of the memory, and multiply takes it as it is


def _leaky_relu(xp: Any, f: Buffers) -> None:
    xp.multiply(f.Z, LEAK, out=f.T)
    xp.maximum(f.Z, f.T, out=f.A)


def _d_leaky_relu(xp: Any, f: Buffers) -> Any:
    xp.multiply(f.A > 0, 1 - LEAK, out=f.T, casting="unsafe")
    return xp.add(f.T, LEAK, out=f.T)


def _identity(xp: Any, f: Buffers) -> None:
    pass


def _d_identity(xp: Any, f: Buffers) -> Any:
    return 1


def _gelu(xp: Any, f: Buffers) -> None:
    z, u = f.A, f.T
    xp.clip(f.Z, -GELU_FLAT, GELU_FLAT, out=z)
    xp.multiply(z, z, out=u)
    xp.multiply(u, GELU_C * GELU_K, out=u)
    xp.add(u, GELU_C, out=u)
    xp.multiply(u, z, out=u)
    xp.tanh(u, out=f.T)  # t = tanh(c (z + k z^3))
    xp.add(f.T, 1, out=f.A)
    xp.multiply(f.A, f.Z, out=f.A)
    xp.multiply(f.A, 0.5, out=f.A)


def _d_gelu(xp: Any, f: Buffers) -> Any:
    # g' = (1 + t + (1 - t^2) c z (1 + 3 k z^2)) / 2
    z, t, d = f.Z, f.T, f.A
    xp.clip(z, -GELU_FLAT, GELU_FLAT, out=z)
    xp.multiply(z, z, out=d)
    xp.multiply(d, 3 * GELU_K * GELU_C, out=d)
    xp.add(d, GELU_C, out=d)
    xp.multiply(d, z, out=d)
    xp.multiply(t, t, out=z)
    xp.subtract(1, z, out=z)
    xp.multiply(d, z, out=d)
    xp.add(d, t, out=d)
    xp.add(d, 1, out=d)
    return xp.multiply(d, 0.5, out=d)


def _silu(xp: Any, f: Buffers) -> None:
    _sigmoid_into(xp, f.Z, f.T)
    xp.multiply(f.Z, f.T, out=f.A)


def _d_silu(xp: Any, f: Buffers) -> Any:
    # g' = s (1 + z (1 - s)) = s + a - a s
    xp.multiply(f.A, f.T, out=f.Z)
    xp.add(f.T, f.A, out=f.T)
    return xp.subtract(f.T, f.Z, out=f.T)


class Inplace(NamedTuple):
    forward: Callable[[Any, Buffers], None]
    derivative: Callable[[Any, Buffers], Any]
    keeps_Z: bool = False  # A needs an array of its own
    keeps_T: bool = False  # so does T


INPLACE = {
    "tanh": Inplace(_tanh, _d_tanh),
    "sigmoid": Inplace(_sigmoid, _d_sigmoid, keeps_T=True),
    "relu": Inplace(_relu, _d_relu),
    "leaky_relu": Inplace(_leaky_relu, _d_leaky_relu, keeps_T=True),
    "identity": Inplace(_identity, _d_identity),
    "gelu": Inplace(_gelu, _d_gelu, keeps_Z=True, keeps_T=True),
    "silu": Inplace(_silu, _d_silu, keeps_Z=True, keeps_T=True),
}

WIDE = 1024  # numbers: rows shorter than this make a broadcast slow (2.2 times at 64)
SMALL = 2**14  # numbers: weights up to this size are worth a transposed copy at each load


class InplaceStep:
    name = "inplace"
    takes_sparse = 1 / 32  # on NumPy; a source on a device has no sparse blocks
    takes_tf32 = True
    uses_blas = True
    takes_codes = 0.0
    takes_dropout = False

    @staticmethod
    def can_run(network: Network, like: Any) -> bool:
        known = all(activation.name in INPLACE for activation in network.activations)
        return known and (arrays.is_numpy(like) or arrays.is_cupy(like))

    @staticmethod
    def numbers(network: Network) -> int:
        first, *hidden, last = network.sizes
        return 3 * first + 5 * sum(hidden) + 9 * last + 3

    @staticmethod
    def sums(network: Network, block: int, m: int = 0) -> int:
        return 8 * 4 * WIDE * len(network.sizes[1:-1])  # what _allocate adds to the four arrays of a layer

    def __init__(self, network: Network, like: Any, block: int) -> None:
        self.network = network
        self.xp = np if arrays.is_numpy(like) else arrays.cupy_if_loaded()
        self.dtype = like.dtype
        self.activations = [INPLACE[str(activation.name)] for activation in network.activations]
        self.one_output = network.sizes[-1] == 1
        self._allocate(block)

    def _allocate(self, block: int) -> None:
        """Room for blocks of up to ``block`` examples; the arrays of a smaller one are views of their start."""
        self.capacity = block
        self._flat = []
        last = len(self.activations) - 1
        for l, (activation, n) in enumerate(zip(self.activations, self.network.sizes[1:-1], strict=True)):
            rows = block + WIDE // n  # the wide view may reach over the end by part of its last row

            def array_of(n: int = n, rows: int = rows) -> Any:
                return self.xp.zeros(rows * n, dtype=self.dtype)

            Z = array_of()
            A = array_of() if activation.keeps_Z else Z
            T = array_of() if activation.keeps_T else Z
            D = A if self.one_output and l == last else array_of()
            self._flat.append((Z, A, T, D))
        self._ones = self.xp.ones((1, block), dtype=self.dtype)
        self._views: dict[int, list[Buffers]] = {}

    def _buffers(self, k: int) -> list[Buffers]:
        if k > self.capacity:
            self._allocate(k)
        if k not in self._views:
            if len(self._views) > 8:  # callers use a few sizes of blocks; whoever uses many gets no leak
                self._views.clear()
            self._views[k] = []
            for flat, n in zip(self._flat, self.network.sizes[1:-1], strict=True):
                row = n * max(1, WIDE // n)
                wide = flat[0][: -(-k * n // row) * row].reshape(-1, row)
                Z, A, T, D = (array[: k * n].reshape(k, n) for array in flat)
                self._views[k].append(Buffers(Z, A, T, D, wide))
        return self._views[k]

    def load(self, theta: Any) -> None:
        self.params = unflatten(theta, self.network.sizes)
        self._forward_rows = []
        for W, b in self.params[:-1]:
            WT = self.xp.ascontiguousarray(W.T) if W.size <= SMALL else W.T  # (n[l-1], n[l])
            self._forward_rows.append((WT, self.xp.tile(b[:, 0], max(1, WIDE // b.shape[0]))))

    def _forward(self, X: Any) -> tuple[list[Buffers], list[Any], Any]:
        """The hidden layers' buffers, the inputs A[l]^T of every layer, and Z[L] (n[L], k)."""
        xp = self.xp
        buffers = self._buffers(X.shape[1])
        inputs = [X.T]
        for activation, f, (WT, wide_b) in zip(self.activations, buffers, self._forward_rows, strict=True):
            if isinstance(inputs[-1], self.xp.ndarray):
                xp.matmul(inputs[-1], WT, out=f.Z)
            else:
                f.Z[...] = inputs[-1] @ WT  # of a sparse X
            xp.add(f.wide, wide_b, out=f.wide)  # Z += b, in long rows
            activation.forward(xp, f)
            inputs.append(f.A)
        W, b = self.params[-1]
        Z = W @ inputs[-1].T
        Z += b
        return buffers, inputs, Z

    def gradient(self, X: Any, Y: Any, weight: Any) -> GradientSum:
        xp, params = self.xp, self.params
        buffers, inputs, Z = self._forward(X)
        loss, total = self._loss(Z, Y, weight)
        dZ = self.network.loss.dZ(self.network.output.activation(Z, xp), Y, xp)  # (n[L], k)
        if weight is not None:
            dZ = xp.where(weight > 0, dZ * weight, 0)
        vector = xp.empty(count(self.network.sizes), dtype=self.dtype)
        gradients = unflatten(vector, self.network.sizes)
        gradients[-1].W[...] = dZ @ inputs[-1]
        gradients[-1].b[...] = dZ.sum(axis=1, keepdims=True)
        dZT, W = dZ.T, params[-1].W  # from here on example by example: (k, n[l])
        ones = self._ones[:, : X.shape[1]]
        scale = None
        for l in range(len(buffers), 0, -1):
            f = buffers[l - 1]
            if W.shape[0] == 1:
                # One output unit: dZ[l] = (dz g') w is a column's product with the row w, which comes out of the
                # sums over examples. So w is multiplied to the sums: one pass less over (k, n[l]), and no array dA.
                xp.multiply(dZT, self.activations[l - 1].derivative(xp, f), out=f.D)
                scale = W.T  # (n[l], 1)
            else:
                xp.matmul(dZT, W, out=f.D)
                xp.multiply(f.D, self.activations[l - 1].derivative(xp, f), out=f.D)
                scale = None
            dZT = f.D
            self._sums(gradients[l - 1], dZT, inputs[l - 1], ones, scale)
            W = params[l - 1].W if scale is None else params[l - 1].W * scale
        return GradientSum(loss, vector, total, self.network.sizes)

    @staticmethod
    def _sums(gradient: Layer, dZT: Any, AT: Any, ones: Any, scale: Any) -> None:
        """Fill dW = dZ A^T and db, the sums over examples; each row times ``scale`` (n[l], 1) if given."""
        dW, db = gradient
        dW[...] = (AT.T @ dZT).T if AT.shape[1] < dZT.shape[1] else dZT.T @ AT  # BLAS is up to 1.3 times as fast so
        db[...] = (ones @ dZT).T  # as a product with ones: a quarter of the time of a sum over examples
        if scale is not None:
            dW *= scale
            db *= scale

    def _loss(self, Z: Any, Y: Any, weight: Any) -> tuple[Any, Any]:
        loss = self.network.loss.value(Z, Y, self.xp)  # (k,)
        if weight is None:
            return loss.sum(dtype=np.float64), float(Z.shape[1])
        weighted = self.xp.where(weight > 0, loss * weight, 0)  # a weight of 0 leaves out: 0 * infinity would be NaN
        return weighted.sum(dtype=np.float64), weight.sum(dtype=np.float64)

    def cost(self, X: Any, Y: Any, weight: Any) -> tuple[Any, Any]:
        return self._loss(self._forward(X)[2], Y, weight)

    def predict(self, X: Any) -> Any:
        return self.network.output.activation(self._forward(X)[2], self.xp)
