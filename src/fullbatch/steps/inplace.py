"""The in-place twin of the pass, for NumPy and CuPy: the same formulas, no new array of the size of a block.

The array API has no ``out=``, and fresh arrays at each operation cost 1.4 to 2 times the time. Hidden layers live
example by example, the transposes Z^T, A^T (k, n[l]) of the notes' arrays, because that is how the caller's table lies
in memory; the output layer, where n[L] is small, lives as in the notes, (n[L], k). test_steps.py holds this file to the
array step over random networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fullbatch import backend
from fullbatch.activations import GELU_C, GELU_K, LEAK
from fullbatch.gradient_sum import GradientSum
from fullbatch.network import Network
from fullbatch.parameters import Layer, Params


class Buffers(NamedTuple):
    """One hidden layer's arrays, each (k, n[l]). A is Z itself where g' needs A alone."""

    Z: Any  # pre-activation
    A: Any  # activation
    T: Any  # what the activation keeps from forward to backward, or Z again
    D: Any  # dA, then dZ


# --- Activations: forward fills A from Z; chain turns D from dA into dZ = dA * g'(Z), and may destroy Z, A and T --------


def _tanh(xp: Any, f: Buffers) -> None:
    xp.tanh(f.Z, out=f.A)


def _tanh_chain(xp: Any, f: Buffers) -> None:
    xp.multiply(f.A, f.A, out=f.A)
    xp.subtract(1, f.A, out=f.A)
    xp.multiply(f.D, f.A, out=f.D)


def _sigmoid_into(xp: Any, Z: Any, out: Any) -> None:
    xp.multiply(Z, 0.5, out=out)  # sigma(z) = (1 + tanh(z/2)) / 2: one transcendental and no overflow
    xp.tanh(out, out=out)
    xp.add(out, 1, out=out)
    xp.multiply(out, 0.5, out=out)


def _sigmoid(xp: Any, f: Buffers) -> None:
    _sigmoid_into(xp, f.Z, f.A)


def _sigmoid_chain(xp: Any, f: Buffers) -> None:
    xp.multiply(f.D, f.A, out=f.D)
    xp.subtract(1, f.A, out=f.A)
    xp.multiply(f.D, f.A, out=f.D)


def _relu(xp: Any, f: Buffers) -> None:
    xp.maximum(f.Z, 0, out=f.A)


def _relu_chain(xp: Any, f: Buffers) -> None:
    xp.multiply(f.D, f.A > 0, out=f.D)


def _leaky_relu(xp: Any, f: Buffers) -> None:
    xp.multiply(f.Z, LEAK, out=f.T)
    xp.maximum(f.Z, f.T, out=f.A)


def _leaky_relu_chain(xp: Any, f: Buffers) -> None:
    xp.multiply(f.A > 0, 1 - LEAK, out=f.T, casting="unsafe")
    xp.add(f.T, LEAK, out=f.T)
    xp.multiply(f.D, f.T, out=f.D)


def _nothing(xp: Any, f: Buffers) -> None:
    pass


def _gelu(xp: Any, f: Buffers) -> None:
    xp.multiply(f.Z, f.Z, out=f.T)
    xp.multiply(f.T, GELU_C * GELU_K, out=f.T)
    xp.add(f.T, GELU_C, out=f.T)
    xp.multiply(f.T, f.Z, out=f.T)
    xp.tanh(f.T, out=f.T)  # t = tanh(c (z + k z^3))
    xp.add(f.T, 1, out=f.A)
    xp.multiply(f.A, f.Z, out=f.A)
    xp.multiply(f.A, 0.5, out=f.A)


def _gelu_chain(xp: Any, f: Buffers) -> None:
    # g' = (1 + t + (1 - t^2) c z (1 + 3 k z^2)) / 2
    xp.multiply(f.Z, f.Z, out=f.A)
    xp.multiply(f.A, 3 * GELU_K * GELU_C, out=f.A)
    xp.add(f.A, GELU_C, out=f.A)
    xp.multiply(f.A, f.Z, out=f.A)
    xp.multiply(f.T, f.T, out=f.Z)
    xp.subtract(1, f.Z, out=f.Z)
    xp.multiply(f.A, f.Z, out=f.A)
    xp.add(f.A, f.T, out=f.A)
    xp.add(f.A, 1, out=f.A)
    xp.multiply(f.A, 0.5, out=f.A)
    xp.multiply(f.D, f.A, out=f.D)


def _silu(xp: Any, f: Buffers) -> None:
    _sigmoid_into(xp, f.Z, f.T)
    xp.multiply(f.Z, f.T, out=f.A)


def _silu_chain(xp: Any, f: Buffers) -> None:
    # g' = s (1 + z (1 - s)) = s + a - a s
    xp.multiply(f.A, f.T, out=f.Z)
    xp.add(f.T, f.A, out=f.T)
    xp.subtract(f.T, f.Z, out=f.T)
    xp.multiply(f.D, f.T, out=f.D)


class Inplace(NamedTuple):
    forward: Callable[[Any, Buffers], None]
    chain: Callable[[Any, Buffers], None]
    keeps_Z: bool = False  # A needs an array of its own
    keeps_T: bool = False  # so does T


INPLACE = {
    "tanh": Inplace(_tanh, _tanh_chain),
    "sigmoid": Inplace(_sigmoid, _sigmoid_chain),
    "relu": Inplace(_relu, _relu_chain),
    "leaky_relu": Inplace(_leaky_relu, _leaky_relu_chain, keeps_T=True),
    "identity": Inplace(_nothing, _nothing),
    "gelu": Inplace(_gelu, _gelu_chain, keeps_Z=True, keeps_T=True),
    "silu": Inplace(_silu, _silu_chain, keeps_Z=True, keeps_T=True),
}


class InplaceStep:
    name = "inplace"

    @staticmethod
    def can_run(network: Network, like: Any) -> bool:
        known = all(activation.name in INPLACE for activation in network.activations)
        return known and (backend.is_numpy(like) or backend.is_cupy(like))

    def __init__(self, network: Network, like: Any, block: int) -> None:
        self.network = network
        self.xp = np if backend.is_numpy(like) else backend.cupy_if_loaded()
        self.dtype = like.dtype
        self.activations = [INPLACE[str(activation.name)] for activation in network.activations]
        self.capacity = 0
        self._allocate(block)

    def _allocate(self, block: int) -> None:
        """Room for blocks of up to ``block`` examples; the arrays of a smaller one are views of their start."""

        def room(n: int) -> Any:
            return self.xp.empty(block * n, dtype=self.dtype)

        self.capacity = block
        self._flat = []
        for activation, n in zip(self.activations, self.network.sizes[1:-1], strict=True):
            Z = room(n)
            self._flat.append(
                Buffers(Z, room(n) if activation.keeps_Z else Z, room(n) if activation.keeps_T else Z, room(n))
            )
        self._ones = self.xp.ones((1, block), dtype=self.dtype)
        self._views: dict[int, list[Buffers]] = {}

    def _buffers(self, k: int) -> list[Buffers]:
        if k > self.capacity:
            self._allocate(k)
        if k not in self._views:
            if len(self._views) > 8:  # callers use a few sizes of blocks; whoever uses many gets no leak
                self._views.clear()
            sizes = self.network.sizes[1:-1]
            self._views[k] = [
                Buffers(*(flat[: k * n].reshape(k, n) for flat in layer))
                for layer, n in zip(self._flat, sizes, strict=True)
            ]
        return self._views[k]

    def load(self, params: Params) -> None:
        self.params = params
        self._rows = [(layer.W.T, layer.b.T) for layer in params]  # W^T (n[l-1], n[l]), b^T (1, n[l])

    def _forward(self, X: Any) -> tuple[list[Buffers], list[Any], Any]:
        """The hidden layers' buffers, the inputs A[l]^T of every layer, and Z[L] (n[L], k)."""
        xp = self.xp
        buffers = self._buffers(X.shape[1])
        inputs = [X.T]
        for activation, f, (WT, bT) in zip(self.activations, buffers, self._rows, strict=False):
            xp.matmul(inputs[-1], WT, out=f.Z)
            xp.add(f.Z, bT, out=f.Z)
            activation.forward(xp, f)
            inputs.append(f.A)
        W, b = self.params[-1]
        Z = xp.matmul(W, inputs[-1].T)
        Z += b
        return buffers, inputs, Z

    def gradient(self, X: Any, Y: Any, weight: Any) -> GradientSum:
        xp, params = self.xp, self.params
        buffers, inputs, Z = self._forward(X)
        loss, total = self._loss(Z, Y, weight)
        dZ = self.network.output.activation(Z, xp)  # (n[L], k)
        dZ -= Y
        if weight is not None:
            dZ *= weight
        gradients = [Layer(dZ @ inputs[-1], dZ.sum(axis=1, keepdims=True))]
        dZT = dZ.T  # (k, n[L]); below (k, n[l])
        ones = self._ones[:, : X.shape[1]]
        for l in range(len(buffers), 0, -1):
            f, W = buffers[l - 1], params[l].W
            if W.shape[0] == 1:  # a product with an inner length of 1 is slow as a matmul
                xp.multiply(dZT, W, out=f.D)
            else:
                xp.matmul(dZT, W, out=f.D)
            self.activations[l - 1].chain(xp, f)
            dZT = f.D
            db = (ones @ dZT).T  # as a product with ones: a quarter of the time of a sum over examples
            gradients.append(Layer(dZT.T @ inputs[l - 1], db))
        return GradientSum(loss, tuple(reversed(gradients)), total)

    def _loss(self, Z: Any, Y: Any, weight: Any) -> tuple[Any, Any]:
        loss = self.network.output.loss(Z, Y, self.xp)  # (k,)
        if weight is None:
            return loss.sum(dtype=np.float64), float(Z.shape[1])
        return (loss * weight).sum(dtype=np.float64), weight.sum(dtype=np.float64)

    def cost(self, X: Any, Y: Any, weight: Any) -> tuple[Any, Any]:
        return self._loss(self._forward(X)[2], Y, weight)

    def predict(self, X: Any) -> Any:
        return self.network.output.activation(self._forward(X)[2], self.xp)
