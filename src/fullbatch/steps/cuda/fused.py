"""The fused twin of the pass, for CuPy: the products by cuBLAS, all between them by kernels of our own.

kernels.py has the kernels, and counts the bytes. Hidden layers live example by example, (k, n[l]), as in inplace.py,
and so does the output layer here. test_fused.py holds this file to the array step over random networks, with the
kernels run on the CPU; a test marked ``gpu`` does so on a card.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, flatten, unflatten
from fullbatch.machine import arrays
from fullbatch.steps.cuda.kernels import KEEP_Z, THREADS, WIDEST_TAIL, Variant, knows
from fullbatch.steps.cuda.launch import MOST_BLOCKS, Kernel, added, contiguous, strides, wide_ones

WARPS = THREADS // 32


class FusedStep:
    name = "fused"
    takes_sparse = 0.0
    takes_tf32 = True
    uses_blas = True

    @staticmethod
    def can_run(network: Network, like: Any) -> bool:
        return arrays.is_cupy(like) and knows(network)

    @staticmethod
    def numbers(network: Network) -> int:
        first, *hidden, last = network.sizes
        return 3 * first + 2 * sum(hidden) + 2 * max(hidden, default=0) + 8 * last + 3

    @staticmethod
    def sums(network: Network, block: int) -> int:
        widest = max(*network.sizes[1:], network.sizes[-2])  # without a hidden layer the tail's sums are of the inputs
        return 8 * min(MOST_BLOCKS, -(-block // WARPS)) * (2 * widest + 3)

    def __init__(self, network: Network, like: Any, block: int, xp: Any = None) -> None:
        self.network = network
        self.xp = arrays.cupy_if_loaded() if xp is None else xp
        self.dtype = np.dtype(like.dtype)
        names = [str(activation.name) for activation in network.activations]
        self.keeps_Z = [name in KEEP_Z for name in names]
        hidden = network.sizes[1:-1]
        below = network.sizes[-2]
        self.has_tail = network.sizes[-1] == 1 and below <= WIDEST_TAIL[self.dtype.name]
        self.linear = self.has_tail and not hidden
        per_lane = -(-below // 32) if self.has_tail else 1
        self.tail_rows = Variant(self.dtype.name, per_lane=per_lane).rows
        self.kernels = _Kernels(self.xp, self.dtype.name, names, network.output.name, per_lane)
        self._allocate(block)

    def _allocate(self, block: int) -> None:
        """Room for blocks of up to ``block`` examples; the arrays of a smaller one are views of their start."""
        self.capacity = block
        hidden = self.network.sizes[1:-1]

        def array_of(n: int) -> Any:
            return self.xp.empty(block * n, dtype=self.dtype)

        self._Z = [array_of(n) for n in hidden]
        self._A = [array_of(n) if keeps else Z for n, keeps, Z in zip(hidden, self.keeps_Z, self._Z, strict=True)]
        if self.has_tail and hidden:
            self._A[-1] = self._Z[-1]  # where the tail leaves dZ; it needs no room for A
        # dZ of a layer is made from that of the layer above: two arrays take turns.
        below = hidden[:-1] if self.has_tail else hidden
        self._D = [array_of(max(below)) for _ in range(min(len(below), 2))]
        self._out = array_of(self.network.sizes[-1])
        self._ones = self.xp.ones(block, dtype=self.dtype)
        self._wide_ones = wide_ones(self.xp)

    def load(self, theta: Any) -> None:
        theta = self.xp.ascontiguousarray(theta)  # so that W is too, row by row, as the kernels and cuBLAS take it
        self.params = tuple(Layer(W, b.reshape(-1)) for W, b in unflatten(theta, self.network.sizes))

    def _examples(self, X: Any) -> Any:
        """X^T (k, n[0]), such that products with it need no copy; it is used twice."""
        rows = X.T
        return rows if rows.flags.c_contiguous or X.flags.c_contiguous else self.xp.ascontiguousarray(rows)

    def _forward(self, X: Any, through_last: bool) -> list[Any]:
        """The inputs A[l-1] (k, n[l-1]) of every layer.

        If not ``through_last``, the last hidden layer is Z, without its bias.
        """
        k = X.shape[1]
        if k > self.capacity:
            self._allocate(k)
        inputs = [X.T if self.linear else self._examples(X)]
        for l, (W, b) in enumerate(self.params[:-1]):
            n = b.shape[0]
            Z = self._Z[l][: k * n].reshape(k, n)
            self.xp.matmul(inputs[-1], W.T, out=Z)
            A = Z
            if through_last or l + 2 < len(self.params):
                A = self._A[l][: k * n].reshape(k, n)
                self.kernels.activate(l, Z, b, A)
            inputs.append(A)
        return inputs

    def gradient(self, X: Any, Y: Any, weight: Any) -> GradientSum:
        params, k = self.params, X.shape[1]
        inputs = self._forward(X, through_last=not self.has_tail)
        if self.has_tail:
            loss, total, top, db = self._tail(inputs[-1], Y, weight)
            dZ, gradients = inputs[-1], [top]
            done = len(params) - 1  # the layer that dZ is of; its db is there
        else:
            dZ, loss, total = self._output(inputs[-1], Y, weight, backward=True)
            db = (self._ones[:k].reshape(1, k) @ dZ).T
            gradients, done = [], len(params)
        for l in range(done, 0, -1):
            if l < done:
                dZ, db = self._descend(l, dZ)
            gradients.append(Layer(dZ.T @ inputs[l - 1], db))
        return GradientSum(loss, flatten(tuple(reversed(gradients))), total, self.network.sizes)

    def _tail(self, Z: Any, Y: Any, weight: Any, backward: bool = True) -> tuple[Any, Any, Layer, Any]:
        """Loss, weight, the output layer's (dW, db), and db of the layer below, whose dZ takes the place of Z.

        Without a hidden layer Z is X^T, and stays as it is.
        """
        n, (W, b_out) = Z.shape[1], self.params[-1]
        b = None if self.linear else self.params[-2].b
        parts = self.kernels.tail(Z, b, W, b_out, Y, weight, self.tail_rows, backward)
        sums = added(self._wide_ones, parts)
        loss, total = sums[0, 2 * n + 1], sums[0, 2 * n + 2]
        cast = sums[:, : 2 * n + 1].astype(self.dtype)
        top = Layer(cast[:, :n], cast[:, 2 * n :])
        return loss, float(Z.shape[0]) if weight is None else total, top, cast[:, n : 2 * n].T

    def _output(self, A: Any, Y: Any, weight: Any, backward: bool) -> tuple[Any, Any, Any]:
        """dZ[L] (k, n[L]), or Z[L] without its bias if not ``backward``; loss and weight."""
        W, b = self.params[-1]
        k, n = A.shape[0], W.shape[0]
        Z = self._out[: k * n].reshape(k, n)
        self.xp.matmul(A, W.T, out=Z)
        sums = added(self._wide_ones, self.kernels.output(Z, b, Y, weight, backward))
        return Z, sums[0, 0], float(k) if weight is None else sums[0, 1]

    def _descend(self, l: int, dZ: Any) -> tuple[Any, Any]:
        """dZ and db of hidden layer ``l`` (from 1), from dZ of the layer above."""
        W, b = self.params[l][0], self.params[l - 1][1]
        k, n = dZ.shape[0], b.shape[0]
        D = self._D[l % len(self._D)][: k * n].reshape(k, n)
        self.xp.matmul(dZ, W, out=D)
        kept = (self._Z if self.keeps_Z[l - 1] else self._A)[l - 1][: k * n]
        parts = self.kernels.descend(l - 1, D, kept, b)
        return D, added(self._wide_ones, parts).T.astype(self.dtype)

    def cost(self, X: Any, Y: Any, weight: Any) -> tuple[Any, Any]:
        inputs = self._forward(X, through_last=not self.has_tail)
        if self.has_tail:
            return self._tail(inputs[-1], Y, weight, backward=False)[:2]
        return self._output(inputs[-1], Y, weight, backward=False)[1:]

    def predict(self, X: Any) -> Any:
        W, b = self.params[-1]
        last = len(self.params) - 2
        inputs = self._forward(X, through_last=not self.has_tail)
        if self.has_tail and not self.linear:
            A = self.xp.empty_like(inputs[-1]) if self.keeps_Z[last] else inputs[-1]
            self.kernels.activate(last, inputs[-1], self.params[last][1], A)
            inputs[-1] = A
        Z = W @ inputs[-1].T
        Z += b[:, np.newaxis]
        return self.network.output.activation(Z, self.xp)


class _Kernels:
    """The kernels of a network, each with the launch that suits it."""

    def __init__(self, xp: Any, dtype: str, activations: list[str], output: str, per_lane: int) -> None:
        self.xp = xp

        def kernel(name: str, variant: Variant) -> Kernel:
            return Kernel(xp, variant.source(name), name, THREADS)

        each = [Variant(dtype, name) for name in activations]
        last = activations[-1] if activations else "identity"
        self._activate = [kernel("activate", variant) for variant in each]
        self._descend = [kernel("descend", variant) for variant in each]
        self._output = kernel("output", Variant(dtype, output=output))
        self._tail = kernel("tail", Variant(dtype, last, output, per_lane, linear=not activations))

    def activate(self, layer: int, Z: Any, b: Any, A: Any) -> None:
        kernel = self._activate[layer]
        kernel((kernel.blocks(-(-Z.size // THREADS)),), Z, b, A, Z.size, b.shape[0])

    def descend(self, layer: int, D: Any, kept: Any, b: Any) -> Any:
        kernel = self._descend[layer]
        k, n = D.shape
        tiles = -(-n // 32)
        rows = min(max(1, kernel.blocks(MOST_BLOCKS) // tiles), -(-k // (4 * WARPS)))
        parts = self.xp.empty((rows, n), dtype=np.float64)
        kernel((tiles, rows), D, kept, b, parts, k, n)
        return parts

    def output(self, Z: Any, b: Any, Y: Any, weight: Any, backward: bool) -> Any:
        k, n = Z.shape
        blocks = self._output.blocks(-(-k // THREADS))
        parts = self.xp.empty((blocks, 2), dtype=np.float64)
        unit, example = strides(Y)
        self._output((blocks,), Z, b, Y, example, unit, contiguous(self.xp, weight), parts, k, n, int(backward))
        return parts

    def tail(self, Z: Any, b: Any, w: Any, b_out: Any, Y: Any, weight: Any, rows: int, backward: bool) -> Any:
        k, n = Z.shape
        blocks = self._tail.blocks(-(-k // (WARPS * rows)))
        parts = self.xp.empty((blocks, 2 * n + 3), dtype=np.float64)
        example, weight = strides(Y)[1], contiguous(self.xp, weight)
        self._tail((blocks,), Z, *strides(Z.T), b, w, b_out, Y, example, weight, parts, k, n, int(backward))
        return parts
