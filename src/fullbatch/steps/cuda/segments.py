"""The order of the sums on a GPU: a row for each segment of a block, and the fold's tree over the rows.

A segment is a run of 2^k consecutive examples, counted from the block's first; a leaf of the fold is a power of two of
them, and a block begins at one. One launch covers them all: a thread block takes a segment, sums over it in an order of
its own, and writes one row; then it takes another. A product with cuBLAS is made segment by segment, of the same shape
each, by one batched call. So neither the grid nor the length of a block changes a bit of a row.

The rows are in X's dtype, in the order of theta, beside loss and weight in float64, and are added in float64 by one
kernel, as fold/tree.py adds leaves: m rows become one node for each 1 among the binary digits of m. Rows are written
and read once, n numbers for each segment, so a segment must be long beside n; and short, so that a table of few leaves
keeps all multiprocessors busy: of fewer than some million examples it is shortened (``shortened``), by the number of
all examples of the fold. That is one more thing, beside the network and the step, that the bits follow from; which card
computes is none, nor are blocks, streaming and the number of cards.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fullbatch.core.gradient_sum import GradientSum
from fullbatch.steps.cuda.kernels import TYPES
from fullbatch.steps.cuda.launch import Kernel

HEAD = 2  # numbers of a row's head: loss, weight
COLUMNS = 32  # of a thread block of ``tree``: a warp reads so many numbers side by side
MOST_LANES = 32  # runs of rows that its warps take
ROWS_A_LANE = 8  # with fewer for each warp there is no use for another


def of_features(features: int, segment: int) -> int:
    """At most ``segment``, and no more than there are in the fold's leaf: 2^24 numbers of X, but 256 examples."""
    while segment > 256 and segment * features > 2**24:
        segment //= 2
    return segment


PROCESSORS = 132  # multiprocessors of the card that segments are cut for: an H100. The bits are to be those of any.


class Rounds(NamedTuple):
    """What of a step ``shortened`` needs to know. Times are in those of an example of a thread block among others.

    slots : thread blocks that the card runs at once, over those that share a segment
    own : to begin and to end a segment;  row : a card's share of it, to write and to read its row of sums
    least : the fewest examples of a segment
    """

    slots: int
    own: int
    row: int
    least: int

    def time(self, m: int, segment: int) -> float:
        """Of ``m`` examples: thread blocks take segments in rounds, of which the last one may be half empty."""
        segments = -(-m // segment)
        return -(-segments // self.slots) * (min(segment, m) + self.own) + segments * self.row / self.slots

    def busy(self, m: int, segment: int) -> float:
        """The share of the card's time in which a slot has an example: 1 if each round were full and all else free."""
        return m / self.slots / self.time(m, segment)


def shortened(longest: int, m: int, rounds: Rounds) -> int:
    """The segment of ``m`` examples: ``longest``, or such a half of it as they take the shortest time with.

    m : 0 where there are as many as one likes
    """
    sizes = [longest]
    while m and sizes[-1] > rounds.least:
        sizes.append(sizes[-1] // 2)
    return min(sizes, key=lambda size: rounds.time(m, size)) if m else longest  # of two alike the longer


class Rows(NamedTuple):
    """The sums of a block, a row for each segment.

    gradient : (segments, p) in the order of theta, or None for a cost;  head : (segments, HEAD), of float64
    """

    gradient: Any
    head: Any


SUMS = r"""
// The sum of ``count`` rows by the fixed tree; ``count`` is a power of two. Eight loads are on their way together.
template <class N> __device__ __forceinline__ double sum_of(const N* from, long long apart, long long count) {
    double level[48], sum = 0;  // the counter's: level[l] is the sum of 2^l times eight rows
    const int width = count < 8 ? (int)count : 8;
    for (long long i = 0; i < count / width; ++i) {
        double row[8];
        #pragma unroll
        for (int r = 0; r < 8; ++r) row[r] = from[(i * width + (r < width ? r : 0)) * apart];
        #pragma unroll
        for (int half = 1; half < 8; half *= 2) {
            if (half < width) {
                #pragma unroll
                for (int r = 0; r + half < 8; r += 2 * half) row[r] += row[r + half];
            }
        }
        sum = row[0];
        int l = 0;
        for (long long ones = i; ones & 1; ones /= 2) sum = level[l++] + sum;
        level[l] = sum;
    }
    return sum;
}

// The rows by the tree, a node for each 1 among their number's binary digits, the largest first: a lane adds a run,
// ``run(first, count)``, and ``keep(node, sum)`` is called by the first lane. All threads of a block come here.
template <class Run, class Keep> __device__ __forceinline__ void by_the_tree(
        long long rows, double* slots, Run run, Keep keep) {
    const int lanes = blockDim.x / 32, lane = threadIdx.x / 32;
    long long begin = 0, size = 1;
    while (2 * size <= rows) size *= 2;
    for (int node = 0; size > 0; size /= 2) {
        if (!(rows & size)) continue;
        const int active = size < lanes ? (int)size : lanes;
        const long long each = size / active;
        slots[threadIdx.x] = lane < active ? run(begin + lane * each, each) : 0;
        for (int half = 1; half < active; half *= 2) {
            __syncthreads();
            if (lane % (2 * half) == 0 && lane + half < active) slots[threadIdx.x] += slots[threadIdx.x + 32 * half];
        }
        if (lane == 0) keep(node, slots[threadIdx.x]);
        __syncthreads();  // before anybody writes there again
        begin += size;
        ++node;
    }
}
"""

TREE = r"""
// out (nodes, n_head + n): from ``rows`` rows of both.
extern "C" __global__ void __launch_bounds__(1024) tree(
        const double* head, const T* gradient, double* out, long long rows, long long n_head, long long n) {
    __shared__ double slots[1024];
    const long long column = (long long)blockIdx.x * 32 + threadIdx.x % 32;
    const bool there = column < n_head + n;
    by_the_tree(
        rows, slots,
        [&](long long first, long long count) -> double {
            if (!there) return 0;
            return column < n_head ? sum_of(head + first * n_head + column, n_head, count)
                                   : sum_of(gradient + first * n + column - n_head, n, count);
        },
        [&](int node, double sum) {
            if (there) out[node * (n_head + n) + column] = sum;
        });
}
"""


class Segments:
    """The rows of sums of a network with so many ``parameters``: where they are written, and what adds them."""

    def __init__(self, xp: Any, dtype: Any, sizes: tuple[int, ...], parameters: int) -> None:
        self.xp, self.dtype, self.sizes, self.parameters = xp, dtype, sizes, parameters
        self.tree = Kernel(xp, f"#define T {TYPES[dtype.name]}\n" + SUMS + TREE, "tree", COLUMNS)

    def rows(self, count: int, backward: bool) -> Rows:
        """So many, for a kernel to write; without gradients if not ``backward``."""
        gradient = self.xp.empty((count, self.parameters), dtype=self.dtype) if backward else None
        return Rows(gradient, self.xp.empty((count, HEAD), dtype=np.float64))

    def gradients(self, rows: Rows, weights: list[Any]) -> list[GradientSum]:
        """The nodes; ``weights`` as ``weights_of`` has them."""
        nodes = self._added(rows)
        return [
            GradientSum(node[0], node[HEAD:], node[1] if weight is None else weight, self.sizes)
            for node, weight in zip(nodes, weights, strict=True)
        ]

    def costs(self, rows: Rows, weights: list[Any]) -> list[tuple[Any, Any]]:
        nodes = self._added(rows)
        return [(node[0], node[1] if weight is None else weight) for node, weight in zip(nodes, weights, strict=True)]

    def _added(self, rows: Rows) -> list[Any]:
        count = rows.head.shape[0]
        columns = HEAD + (0 if rows.gradient is None else self.parameters)
        out = self.xp.empty((count.bit_count(), columns), dtype=np.float64)
        self.tree(
            (-(-columns // COLUMNS),), rows.head, rows.gradient, out, count, HEAD, columns - HEAD,
            threads=COLUMNS * lanes(count),
        )  # fmt: skip
        return [out[i] for i in range(out.shape[0])]


def lanes(rows: int) -> int:
    """The runs that a thread block of ``by_the_tree`` cuts so many rows into, each a warp's."""
    found = 1
    while found < MOST_LANES and found * ROWS_A_LANE < rows:
        found *= 2
    return found


def sums(parameters: int, block: int, segment: int) -> int:
    """Bytes of the rows of a block, and of the nodes that they become, at most."""
    count = -(-block // segment)
    return 8 * (parameters + HEAD) * (count + count.bit_length())


def weights_of(k: int, weight: Any, segment: int) -> list[Any]:
    """The nodes' sums of weights of ``k`` examples, where each counts 1; else None, for they are summed there."""
    found, begin, count = [], 0, -(-k // segment)
    for bit in reversed(range(count.bit_length())):
        if count >> bit & 1:
            end = min(begin + (segment << bit), k)
            found.append(float(end - begin) if weight is None else None)
            begin = end
    return found


class BySegments:
    """What the steps that sum by segments share: the sum over a block as a whole, which other steps make at once."""

    network: Any

    def gradient(self, X: Any, Y: Any, weight: Any) -> GradientSum:
        *rest, total = self.gradients(X, Y, weight, self.segment(self.network))
        for node in reversed(rest):
            total = node + total
        return total

    def cost(self, X: Any, Y: Any, weight: Any) -> tuple[Any, Any]:
        *rest, (loss, total) = self.costs(X, Y, weight, self.segment(self.network))
        for node in reversed(rest):
            loss, total = node[0] + loss, node[1] + total
        return loss, total

    @staticmethod
    def segment(network: Any, m: int = 0) -> int:
        raise NotImplementedError

    def gradients(self, X: Any, Y: Any, weight: Any, segment: int) -> list[GradientSum]:
        raise NotImplementedError

    def costs(self, X: Any, Y: Any, weight: Any, segment: int) -> list[tuple[Any, Any]]:
        raise NotImplementedError
