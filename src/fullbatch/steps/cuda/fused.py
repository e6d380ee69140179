"""For networks of any depth and width on a GPU: products by cuBLAS, all between them by kernels of our own.

It is the fused twin of the pass. kernels.py has the kernels, and counts the bytes; segments.py has the order of the
sums. Hidden layers live example by example, (k, n[l]), as in inplace.py, and so does the output layer here.
test_cuda.py holds this file to the array step over random networks, with the kernels run on the CPU; a test marked
``gpu`` does so on a card.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, count, unflatten, weight_spans
from fullbatch.machine import arrays
from fullbatch.steps.cuda.kernels import KEEP_Z, THREADS, WIDEST_TAIL, Variant, knows
from fullbatch.steps.cuda.launch import MOST_BLOCKS, Kernel, contiguous, strides
from fullbatch.steps.cuda.products import Products
from fullbatch.steps.cuda.segments import (
    PROCESSORS,
    BySegments,
    Rounds,
    Rows,
    Segments,
    of_features,
    shortened,
    sums,
    weights_of,
)
from fullbatch.steps.cuda.updates import Batch, Gather

LEAST = 1024  # examples of a segment: what a product of cuBLAS needs to be worth its start
NUMBERS_A_ROW = 16  # times as many numbers has a segment as its row of sums: the rows are to be small beside the rest
# Of a segment of few examples: the fewest, which is what all warps of ``tail`` do at once, twice; and to begin and to
# end it, in examples. At 4 thread blocks a multiprocessor its memory is asked for as much as it gives. Reckoned.
FEWEST, OWN, RESIDENT = 128, 64, 4


class FusedStep(BySegments):
    name = "fused"
    of_batch = (64, 16)  # the least examples of a segment of a mini-batch, and the most segments
    takes_sparse = 0.0
    takes_tf32 = True
    uses_blas = True
    takes_codes = 0.0
    takes_dropout = False

    @staticmethod
    def can_run(network: Network, like: Any) -> bool:
        return arrays.is_cupy(like) and knows(network)

    @staticmethod
    def numbers(network: Network) -> int:
        first, *hidden, last = network.sizes
        return 3 * first + 2 * sum(hidden) + 2 * max(hidden, default=0) + 8 * last + 3

    @classmethod
    def segment(cls, network: Network, m: int = 0) -> int:
        size, least = LEAST, NUMBERS_A_ROW * count(network.sizes) // cls.numbers(network)
        while size < least:
            size *= 2
        return shortened(of_features(network.sizes[0], size), m, cls.rounds(network))

    @classmethod
    def rounds(cls, network: Network) -> Rounds:
        """Both ways its row is as many bytes as so many examples have in all passes."""
        row = 2 * count(network.sizes) // cls.numbers(network)
        return Rounds(PROCESSORS * RESIDENT, OWN, row, min(FEWEST, LEAST))

    @classmethod
    def sums(cls, network: Network, block: int, m: int = 0) -> int:
        return sums(count(network.sizes), block, cls.segment(network, m))

    def __init__(self, network: Network, like: Any, block: int, xp: Any = None) -> None:
        self.network = network
        self.xp = arrays.cupy_if_loaded() if xp is None else xp
        self.dtype = np.dtype(like.dtype)
        names = [str(activation.name) for activation in network.activations]
        self.keeps_Z = [name in KEEP_Z for name in names]
        hidden = network.sizes[1:-1]
        below = network.sizes[-2]
        self.has_tail = network.sizes[-1] == 1 and below <= WIDEST_TAIL[self.dtype.name]
        self.has_tail = self.has_tail and (bool(hidden) or not self.takes_codes)  # which reads X itself without them
        self.linear = self.has_tail and not hidden
        per_lane = -(-below // 32) if self.has_tail else 1
        self.kernels = _Kernels(self.xp, self.dtype.name, names, network.output.name, per_lane)
        self.segments = Segments(self.xp, self.dtype, network.sizes, count(network.sizes))
        self.multiply = Products(self.xp, self.dtype)
        self.spans = weight_spans(network.sizes)
        self.gather: Gather | None = None  # for mini-batches
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

    def load(self, theta: Any) -> None:
        theta = self.xp.ascontiguousarray(theta)  # so that W is too, row by row, as the kernels and cuBLAS take it
        self.params = tuple(Layer(W, b.reshape(-1)) for W, b in unflatten(theta, self.network.sizes))

    def _forward(self, X: Any, through_last: bool, segment: int) -> list[Any]:
        """The inputs A[l-1] (k, n[l-1]) of every layer.

        If not ``through_last``, the last hidden layer is Z, without its bias. X is copied where it does not lie
        example by example: for another layout cuBLAS may choose another order of summation.
        """
        k = X.shape[1]
        if k > self.capacity:
            self._allocate(k)
        inputs = [X.T if self.linear else self._by_example(X)]
        for l, (W, b) in enumerate(self.params[:-1]):
            n = b.shape[0]
            Z = self._Z[l][: k * n].reshape(k, n)
            self._multiply(inputs[-1], W, Z, segment)
            A = Z
            if through_last or l + 2 < len(self.params):
                A = self._A[l][: k * n].reshape(k, n)
                self.kernels.activate(l, Z, b, A)
            inputs.append(A)
        return inputs

    def _by_example(self, X: Any) -> Any:
        return self.xp.ascontiguousarray(X.T)

    def _multiply(self, A: Any, W: Any, Z: Any, segment: int) -> None:
        """Z (k, r) = A W^T of the layer's inputs A (k, c)."""
        self.multiply.by_example(A, W.T, Z, segment)

    def _multiply_back(self, dZ: Any, A: Any, dW: Any, segment: int) -> None:
        """dW[i] (r, c) = dZ^T A of each segment's part."""
        self.multiply.over_examples(dZ, A, dW, segment)

    def gradients(self, X: Any, Y: Any, weight: Any, segment: int) -> list[GradientSum]:
        rows = self.rows(X, Y, weight, segment)
        return self.segments.gradients(rows, weights_of(X.shape[1], weight, segment))

    def rows(self, X: Any, Y: Any, weight: Any, segment: int, into: Rows | None = None) -> Rows:
        """The sums of each segment, for a gradient; ``into``: where they are written."""
        k, done = X.shape[1], len(self.params)
        inputs = self._forward(X, not self.has_tail, segment)
        rows = self.segments.rows(-(-k // segment), backward=True) if into is None else into
        if self.has_tail:
            self._tail(inputs[-1], Y, weight, rows, segment)
            dZ, done = inputs[-1], done - 1  # the layer that dZ is of; its db is there
        else:
            dZ = self._output(inputs[-1], Y, weight, rows, segment, backward=True)
            self.multiply.sums(dZ, rows.gradient[:, -dZ.shape[1] :][:, np.newaxis], segment)  # db[L]
        for l in range(done, 0, -1):
            if l < done:
                dZ = self._descend(l, dZ, rows, segment)
            dW = rows.gradient[:, self.spans[l - 1]].reshape(-1, *self.params[l - 1].W.shape)
            self._multiply_back(dZ, inputs[l - 1], dW, segment)
        return rows

    def rows_of_batch(self, batch: Batch, rows: Rows, segment: int) -> None:
        """To ``rows`` the sums of each segment of a mini-batch, whose examples are copied side by side first."""
        if self.gather is None:
            self.gather = Gather(self.xp, self.dtype)
        self.rows(*self.gather(batch), segment, rows)

    def _tail(self, Z: Any, Y: Any, weight: Any, rows: Rows, segment: int) -> None:
        """To ``rows``: loss, weight, the output layer's dW and db, and db of the layer below, whose dZ replaces Z.

        Without a hidden layer Z is X^T, and stays as it is.
        """
        W, b_out = self.params[-1]
        b = None if self.linear else self.params[-2].b
        self.kernels.tail(Z, b, W, b_out, Y, weight, rows, segment)

    def _output(self, A: Any, Y: Any, weight: Any, rows: Rows, segment: int, backward: bool) -> Any:
        """dZ[L] (k, n[L]), or Z[L] without its bias if not ``backward``; loss and weight go to ``rows``."""
        W, b = self.params[-1]
        k, n = A.shape[0], W.shape[0]
        Z = self._out[: k * n].reshape(k, n)
        self._multiply(A, W, Z, segment)
        self.kernels.output(Z, b, Y, weight, rows, segment, backward)
        return Z

    def _descend(self, l: int, dZ: Any, rows: Rows, segment: int) -> Any:
        """dZ of hidden layer ``l`` (from 1), from dZ of the layer above; db goes to ``rows``."""
        W, b = self.params[l][0], self.params[l - 1][1]
        k, n = dZ.shape[0], b.shape[0]
        D = self._D[l % len(self._D)][: k * n].reshape(k, n)
        self.multiply.by_example(dZ, W, D, segment)
        kept = (self._Z if self.keeps_Z[l - 1] else self._A)[l - 1][: k * n]
        self.kernels.descend(l - 1, D, kept, b, rows.gradient, self.spans[l - 1].stop, segment)
        return D

    def costs(self, X: Any, Y: Any, weight: Any, segment: int) -> list[tuple[Any, Any]]:
        k = X.shape[1]
        inputs = self._forward(X, not self.has_tail, segment)
        rows = self.segments.rows(-(-k // segment), backward=False)
        if self.has_tail:
            self._tail(inputs[-1], Y, weight, rows, segment)
        else:
            self._output(inputs[-1], Y, weight, rows, segment, backward=False)
        return self.segments.costs(rows, weights_of(k, weight, segment))

    def predict(self, X: Any) -> Any:
        W, b = self.params[-1]
        last = len(self.params) - 2
        inputs = self._forward(X, not self.has_tail, self.segment(self.network))
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

    def descend(self, layer: int, D: Any, kept: Any, b: Any, sums: Any, column: int, segment: int) -> None:
        """``column`` of ``sums``: where db begins."""
        kernel = self._descend[layer]
        k, n = D.shape
        tiles = -(-n // 32)
        rows = min(max(1, kernel.blocks(MOST_BLOCKS) // tiles), -(-k // segment))
        kernel((tiles, rows), D, kept, b, sums[:, column:], k, segment, sums.shape[1], n)

    def output(self, Z: Any, b: Any, Y: Any, weight: Any, rows: Rows, segment: int, backward: bool) -> None:
        k, n = Z.shape
        blocks = self._output.blocks(-(-k // segment))
        unit, example = strides(Y)
        weight = contiguous(self.xp, weight)
        self._output((blocks,), Z, b, Y, example, unit, weight, rows.head, k, segment, n, int(backward))

    def tail(self, Z: Any, b: Any, w: Any, b_out: Any, Y: Any, weight: Any, rows: Rows, segment: int) -> None:
        k, n = Z.shape
        blocks = self._tail.blocks(-(-k // segment))
        example, weight = strides(Y)[1], contiguous(self.xp, weight)
        parameters = 0 if rows.gradient is None else rows.gradient.shape[1]
        self._tail(
            (blocks,), Z, *strides(Z.T), b, w, b_out, Y, example, weight, rows.head, rows.gradient, k, segment,
            parameters, n, int(parameters > 0),
        )  # fmt: skip
