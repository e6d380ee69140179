"""The fused twin of the pass, for CuPy: the products by cuBLAS, all between them by kernels of our own.

kernels.py has the kernels, and counts the bytes. Hidden layers live example by example, (k, n[l]), as in inplace.py,
and so does the output layer here. test_fused.py holds this file to the array step over random networks, with the
kernels run on the CPU; a test marked ``gpu`` does so on a card.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fullbatch import backend
from fullbatch.gradient_sum import GradientSum
from fullbatch.network import Network
from fullbatch.parameters import Layer, Params
from fullbatch.steps.kernels import ACTIVATIONS, KEEP_Z, MOST_BLOCKS, OUTPUTS, THREADS, WIDEST_TAIL, Variant

WARPS = THREADS // 32


class FusedStep:
    name = "fused"
    takes_sparse = 0.0

    @staticmethod
    def can_run(network: Network, like: Any) -> bool:
        return backend.is_cupy(like) and knows(network)

    def __init__(self, network: Network, like: Any, block: int, xp: Any = None) -> None:
        self.network = network
        self.xp = backend.cupy_if_loaded() if xp is None else xp
        self.dtype = np.dtype(like.dtype)
        names = [str(activation.name) for activation in network.activations]
        self.keeps_Z = [name in KEEP_Z for name in names]
        hidden = network.sizes[1:-1]
        self.has_tail = bool(hidden) and network.sizes[-1] == 1 and hidden[-1] <= WIDEST_TAIL[self.dtype.name]
        per_lane = -(-hidden[-1] // 32) if self.has_tail else 1
        self.tail_rows = Variant(self.dtype.name, per_lane=per_lane).rows
        self.kernels = _Kernels(self.xp, self.dtype.name, names, network.output.name, per_lane)
        self._allocate(block)

    def _allocate(self, block: int) -> None:
        """Room for blocks of up to ``block`` examples; the arrays of a smaller one are views of their start."""
        self.capacity = block
        hidden = self.network.sizes[1:-1]

        def room(n: int) -> Any:
            return self.xp.empty(block * n, dtype=self.dtype)

        self._Z = [room(n) for n in hidden]
        self._A = [room(n) if keeps else Z for n, keeps, Z in zip(hidden, self.keeps_Z, self._Z, strict=True)]
        if self.has_tail:
            self._A[-1] = self._Z[-1]  # where the tail leaves dZ; it needs no room for A
        # dZ of a layer is made from that of the layer above: two arrays take turns.
        below = hidden[:-1] if self.has_tail else hidden
        self._D = [room(max(below)) for _ in range(min(len(below), 2))]
        self._out = room(self.network.sizes[-1])
        self._ones = self.xp.ones(block, dtype=self.dtype)
        self._wide_ones = self.xp.ones(MOST_BLOCKS, dtype=np.float64)

    def load(self, params: Params) -> None:
        rows = self.xp.ascontiguousarray  # the kernels and cuBLAS take them row by row
        self.params = tuple(Layer(rows(W), rows(b).reshape(-1)) for W, b in params)

    def _examples(self, X: Any) -> Any:
        """X^T (k, n[0]), such that products with it need no copy; it is used twice."""
        rows = X.T
        return rows if rows.flags.c_contiguous or X.flags.c_contiguous else self.xp.ascontiguousarray(rows)

    def _forward(self, X: Any, through_last: bool) -> list[Any]:
        """The inputs A[l-1] (k, n[l-1]) of every layer. The last one's is Z without bias, if not ``through_last``."""
        k = X.shape[1]
        if k > self.capacity:
            self._allocate(k)
        inputs = [self._examples(X)]
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
        return GradientSum(loss, tuple(reversed(gradients)), total)

    def _tail(self, Z: Any, Y: Any, weight: Any, backward: bool = True) -> tuple[Any, Any, Layer, Any]:
        """Loss, weight, the output layer's (dW, db), and db of the layer below, whose dZ takes the place of Z."""
        n = Z.shape[1]
        (_, b), (W, b_out) = self.params[-2:]
        parts = self.kernels.tail(Z, b, W, b_out, Y, weight, self.tail_rows, backward)
        sums = self._added(parts)
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
        sums = self._added(self.kernels.output(Z, b, Y, weight, backward))
        return Z, sums[0, 0], float(k) if weight is None else sums[0, 1]

    def _descend(self, l: int, dZ: Any) -> tuple[Any, Any]:
        """dZ and db of hidden layer ``l`` (from 1), from dZ of the layer above."""
        W, b = self.params[l][0], self.params[l - 1][1]
        k, n = dZ.shape[0], b.shape[0]
        D = self._D[l % len(self._D)][: k * n].reshape(k, n)
        self.xp.matmul(dZ, W, out=D)
        kept = (self._Z if self.keeps_Z[l - 1] else self._A)[l - 1][: k * n]
        parts = self.kernels.descend(l - 1, D, kept, b)
        return D, self._added(parts).T.astype(self.dtype)

    def _added(self, parts: Any) -> Any:
        """The sum of the rows, (1, columns): a product with ones, in float64."""
        rows = parts.shape[0]
        return self._wide_ones[:rows].reshape(1, rows) @ parts

    def cost(self, X: Any, Y: Any, weight: Any) -> tuple[Any, Any]:
        inputs = self._forward(X, through_last=not self.has_tail)
        if self.has_tail:
            return self._tail(inputs[-1], Y, weight, backward=False)[:2]
        return self._output(inputs[-1], Y, weight, backward=False)[1:]

    def predict(self, X: Any) -> Any:
        W, b = self.params[-1]
        last = len(self.params) - 2
        inputs = self._forward(X, through_last=not self.has_tail)
        if self.has_tail:
            A = self.xp.empty_like(inputs[-1]) if self.keeps_Z[last] else inputs[-1]
            self.kernels.activate(last, inputs[-1], self.params[last][1], A)
            inputs[-1] = A
        Z = W @ inputs[-1].T
        Z += b[:, np.newaxis]
        return self.network.output.activation(Z, self.xp)


def knows(network: Network) -> bool:
    """Whether there are kernels for its activations and its output unit."""
    return network.output.name in OUTPUTS and all(a.name in ACTIVATIONS for a in network.activations)


class _Kernels:
    """The kernels of a network, each with the launch that suits it. CuPy keeps on disk what it has compiled."""

    def __init__(self, xp: Any, dtype: str, activations: list[str], output: str, per_lane: int) -> None:
        self.xp = xp

        last = activations[-1] if activations else "identity"
        self._each = [Variant(dtype, name) for name in activations]
        self._top, self._last = Variant(dtype, output=output), Variant(dtype, last, output, per_lane)
        self._compiled: dict[tuple[Variant, str], Any] = {}
        self._resident: dict[int, int] = {}

    def _kernel(self, variant: Variant, name: str) -> Any:
        """Compiled when it is first launched: most of them never are."""
        if (variant, name) not in self._compiled:
            module = self.xp.RawModule(code=variant.source(name))
            self._compiled[variant, name] = module.get_function(name)
        return self._compiled[variant, name]

    def _blocks(self, kernel: Any, useful: int) -> int:
        """Thread blocks that the device runs at once, or fewer where there is no use for them.

        More would come in waves, of which the last one leaves the device half idle.
        """
        if id(kernel) not in self._resident:  # the kernels live as long as this object, so an id is one kernel's
            cuda = self.xp.cuda
            at_once = cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(kernel.kernel.ptr, THREADS, 0)
            processors = cuda.Device().attributes["MultiProcessorCount"]
            self._resident[id(kernel)] = max(1, min(MOST_BLOCKS, at_once * processors))
        return max(1, min(self._resident[id(kernel)], useful))

    def activate(self, layer: int, Z: Any, b: Any, A: Any) -> None:
        kernel = self._kernel(self._each[layer], "activate")
        blocks = self._blocks(kernel, -(-Z.size // THREADS))
        kernel((blocks,), (THREADS,), (Z, b, A, np.int64(Z.size), np.int64(b.shape[0])))

    def descend(self, layer: int, D: Any, kept: Any, b: Any) -> Any:
        kernel = self._kernel(self._each[layer], "descend")
        k, n = D.shape
        tiles = -(-n // 32)
        rows = min(max(1, self._blocks(kernel, MOST_BLOCKS) // tiles), -(-k // (4 * WARPS)))
        parts = self.xp.empty((rows, n), dtype=np.float64)
        kernel((tiles, rows), (THREADS,), (D, kept, b, parts, np.int64(k), np.int64(n)))
        return parts

    def output(self, Z: Any, b: Any, Y: Any, weight: Any, backward: bool) -> Any:
        k, n = Z.shape
        kernel = self._kernel(self._top, "output")
        blocks = self._blocks(kernel, -(-k // THREADS))
        parts = self.xp.empty((blocks, 2), dtype=np.float64)
        unit, example = _strides(Y)
        arguments = (Z, b, Y, example, unit, _row(self.xp, weight), parts, np.int64(k), np.int64(n), np.int64(backward))
        kernel((blocks,), (THREADS,), arguments)
        return parts

    def tail(self, Z: Any, b: Any, w: Any, b_out: Any, Y: Any, weight: Any, rows: int, backward: bool) -> Any:
        k, n = Z.shape
        kernel = self._kernel(self._last, "tail")
        blocks = self._blocks(kernel, -(-k // (WARPS * rows)))
        parts = self.xp.empty((blocks, 2 * n + 3), dtype=np.float64)
        example = _strides(Y)[1]
        arguments = (
            Z, b, w, b_out, Y, example, _row(self.xp, weight), parts, np.int64(k), np.int64(n), np.int64(backward)
        )  # fmt: skip
        kernel((blocks,), (THREADS,), arguments)
        return parts


def _strides(Y: Any) -> tuple[np.int64, np.int64]:
    """Of Y (n[L], k): from unit to unit and from example to example, counted in numbers."""
    return np.int64(Y.strides[0] // Y.itemsize), np.int64(Y.strides[1] // Y.itemsize)


def _row(xp: Any, weight: Any) -> Any:
    return np.intp(0) if weight is None else xp.ascontiguousarray(weight)  # CuPy before 14 knows no None
