"""Mini-batches on a GPU: the next examples of an order, and the update of the parameters; the host waits for neither.

The order of an epoch's examples, and the rate of each update, lie on the GPU, and so does the place in that order: who
does a batch reads where it begins, and the update, which comes last, moves the place on. So the launches of all batches
are the same, and nobody on the host need know how far they are; a CUDA graph repeats them (``Repeated``). Between two
launches, whenever that is, place, parameters and the sum of J are of one moment: of the last update that is done.

A batch is summed by segments, as a block is (segments.py), but by short ones: all multiprocessors are to have some.
How long they are follows from the network and the size of the batch alone, and so do the bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from fullbatch.core.parameters import count, weight_spans
from fullbatch.steps.cuda.kernels import THREADS, TYPES
from fullbatch.steps.cuda.launch import Kernel, strides
from fullbatch.steps.cuda.segments import COLUMNS, SUMS, TREE, Rows, lanes

SUM, PLACE, INDEX, NODES = 0, 1, 2, 3  # of ``Updates.state``; the last is where the nodes of the penalties begin
MOST_ROWS = 2**26  # bytes of a batch's rows of sums: a segment is the longer for it
KINDS = ("gd", "momentum", "nesterov", "adam")  # in the order of the enumeration below, and of C's


class Batch(NamedTuple):
    """A mini-batch of examples that lie on the GPU.

    data : X (n[0], m) or Coded, Y (n[L], m) or codes (m,) of its only 1s, weights (m,) or None, of all examples
    order : rows of these, of 32 bits, one batch after another;  state : of ``Updates``, which has the place in it
    size : examples of a full batch;  k : of this one
    outputs : n[L]
    """

    data: tuple[Any, Any, Any]
    order: Any
    state: Any
    size: int
    k: int
    outputs: int = 1


NO_BATCH = Batch((None, None, None), None, None, 0, 0)

CHOSEN = (
    f"enum {{ SUM = {SUM}, PLACE = {PLACE}, INDEX = {INDEX} }};\n"
    + r"""
// Where the next examples of an order begin; the update is told its number by the way. Nobody moves the place before.
__device__ __forceinline__ const int* next_of(const int* order, double* state, long long batch) {
    const long long place = (long long)state[PLACE];
    if (blockIdx.x == 0 && threadIdx.x == 0) state[INDEX] = (double)(place / batch);
    return order + place;
}
"""
)

GATHER = r"""
// The next k examples of the order side by side: X (k, n), Y (k, n_out) and the weights.
extern "C" __global__ void gather(
        const T* X, long long x_input, long long x_example, const T* Y, long long y_unit, long long y_example,
        const int* codes, const T* weight, const int* order, double* state, long long batch, T* X_to, T* Y_to,
        T* weight_to, long long k, long long n, long long n_out) {
    order = next_of(order, state, batch);
    const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long t = first; t < k * n; t += stride) X_to[t] = X[order[t / n] * x_example + t % n * x_input];
    for (long long t = first; t < k * n_out; t += stride) {
        const long long row = order[t / n_out], unit = t % n_out;
        Y_to[t] = codes ? (T)(codes[row] == unit) : Y[row * y_example + unit * y_unit];
    }
    if (weight) {
        for (long long t = first; t < k; t += stride) weight_to[t] = weight[order[t]];
    }
}
"""

UPDATE = r"""
enum { GD, MOMENTUM, NESTEROV, ADAM };
__device__ __forceinline__ float m_root(float x) { return sqrtf(x); }
__device__ __forceinline__ double m_root(double x) { return sqrt(x); }

// The whole sum by the tree; for the first lane alone.
template <class Run> __device__ __forceinline__ double total_of(long long rows, double* slots, Run run) {
    double nodes[48];
    int last = 0;
    by_the_tree(rows, slots, run, [&](int node, double sum) { nodes[last = node] = sum; });
    double total = threadIdx.x < 32 ? nodes[last] : 0;
    for (int node = last - 1; node >= 0; --node) total = nodes[node] + total;  // from the smallest up
    return total;
}

// theta after a batch, from the rows of its sums; ``first`` and ``second`` are what the optimiser keeps. A thread block
// does 32 parameters. ``penalties`` is of each of them what L2 has added to the sum of J.
extern "C" __global__ void __launch_bounds__(1024) update(
        const double* head, const T* gradient, long long rows, long long n, double* state, const double* rates,
        long long index, T* theta, T* first, T* second, double* penalties, const long long* spans, long long layers,
        double a, double b, double epsilon, double l2, double share, long long k, long long fixed_biases) {
    __shared__ double slots[1024];
    __shared__ double of_head[2];
    const int column = threadIdx.x % 32;
    const long long p = (long long)blockIdx.x * 32 + column;
    const double of_batch = total_of(rows, slots, [&](long long from, long long count) -> double {
        return column < 2 ? sum_of(head + 2 * from + column, 2, count) : 0;
    });
    if (threadIdx.x < 2) of_head[threadIdx.x] = of_batch;
    __syncthreads();
    const double loss = of_head[0], weight = of_head[1];
    const double sum = total_of(rows, slots, [&](long long from, long long count) -> double {
        return p < n ? sum_of(gradient + from * n + p, n, count) : 0;
    });
    if (threadIdx.x >= 32) return;
    const double rate = rates[index >= 0 ? index : (long long)state[INDEX]];
    if (p == 0) {
        state[SUM] += (weight > 0 ? loss / weight : 0) * share;
        state[PLACE] += (double)k;
    }
    if (p >= n) return;
    bool weighs = false;  // a bias is held down by nothing
    for (long long l = 0; l < layers; ++l) weighs = weighs || (p >= spans[2 * l] && p < spans[2 * l + 1]);
    const T old = theta[p];
    double slope = weight > 0 ? sum / weight : 0;  // examples that all weigh nothing are as good as left out
    if (fixed_biases && !weighs) slope = 0;
    if (l2 > 0 && weighs && weight > 0) {
        slope += l2 / weight * old;
        penalties[p] += share * (l2 / (2 * weight)) * ((double)old * old);
    }
    const T g = (T)slope;
    if (KIND == ADAM) {
        const T mean = (T)a * first[p] + (T)(1 - a) * g, square = g * g * (T)(1 - b) + (T)b * second[p];
        first[p] = mean;
        second[p] = square;
        theta[p] = old - mean / (m_root(square) + (T)epsilon) * (T)rate;
    } else if (KIND == GD) {
        theta[p] = old - (T)rate * g;
    } else {
        const T change = (T)rate * g, v = (T)a * first[p] - change;
        first[p] = v;
        theta[p] = old + (KIND == NESTEROV ? (T)a * v - change : v);
    }
}
"""


def segment_of(least: int, most: int, parameters: int, itemsize: int, batch: int) -> int:
    """The examples of a segment of such batches: ``least``, doubled until there are at most ``most`` segments."""
    size = least
    while size < batch and (-(-batch // size) > most or -(-batch // size) * parameters * itemsize > MOST_ROWS):
        size *= 2
    return size


class Gather:
    """Examples of a mini-batch side by side, in arrays that the next one writes over."""

    def __init__(self, xp: Any, dtype: Any) -> None:
        self.xp, self.dtype = xp, dtype
        self.kernel = Kernel(xp, f"#define T {TYPES[dtype.name]}\n{CHOSEN}{GATHER}", "gather", THREADS)
        self.arrays: tuple[Any, Any, Any] | None = None

    def __call__(self, batch: Batch) -> tuple[Any, Any, Any]:
        """X (n[0], k), Y (n[L], k) and the weights (k,) or None; what has no order is what it is."""
        X, Y, weight = batch.data
        if batch.order is None:
            return X, Y, weight
        n, k = X.shape[0], batch.k
        if self.arrays is None or self.arrays[1].shape[0] < k * batch.outputs:
            sizes = k * n, k * batch.outputs, k
            of_X, of_Y, of_weight = (self.xp.empty(size, dtype=self.dtype) for size in sizes)
            self.arrays = of_X, of_Y, None if weight is None else of_weight
        of_X, of_Y, of_weight = self.arrays
        codes, numbers = (Y, None) if Y.ndim == 1 else (None, Y)
        steps = strides(Y) if codes is None else (0, 0)
        self.kernel(
            (self.kernel.blocks(-(-k * n // THREADS)),), X, *strides(X), numbers, *steps, codes, weight, batch.order,
            batch.state, batch.size, of_X, of_Y, of_weight, k, n, batch.outputs,
        )  # fmt: skip
        found = of_X[: k * n].reshape(k, n).T, of_Y[: k * batch.outputs].reshape(k, batch.outputs).T
        return *found, None if weight is None else of_weight[:k]


class Updates:
    """Parameters on the GPU, and what updates them after each batch. All arrays are changed in place.

    theta, kept : copies of what a training begins with;  state : (NODES + ...,) of float64, see the head of this file
    kind, a, b, epsilon : of the optimiser, as the native step has them
    """

    def __init__(
        self, xp: Any, sizes: tuple[int, ...], theta: Any, kept: Sequence[Any],
        rule: tuple[str, float, float, float], *, l2: float, fixed_biases: bool,
    ) -> None:  # fmt: skip
        self.xp, self.dtype, self.size = xp, np.dtype(theta.dtype), count(sizes)
        self.theta, *self.kept = (xp.array(array, dtype=theta.dtype, copy=True) for array in (theta, *kept))
        kind, *self.numbers = rule
        defined = f"#define T {TYPES[self.dtype.name]}\n"
        source = f"{defined}#define KIND {KINDS.index(kind)}\n{CHOSEN}{SUMS}{UPDATE}"
        self.update = Kernel(xp, source, "update", COLUMNS)
        self.tree = Kernel(xp, defined + SUMS + TREE, "tree", COLUMNS)
        self.l2, self.fixed_biases = float(l2), int(fixed_biases)
        spans = [edge for span in weight_spans(sizes) for edge in (span.start, span.stop)]
        self.spans, self.layers = xp.asarray(np.array(spans, np.int64)), len(sizes) - 1
        self.penalties = xp.zeros(self.size, dtype=np.float64) if l2 > 0 else None
        self.state = xp.zeros(NODES + (self.size.bit_count() if l2 > 0 else 0), dtype=np.float64)

    def begin(self, total: float) -> None:
        """The sum of J is this."""
        self.state[SUM] = total
        if self.penalties is not None:
            self.penalties[:] = 0

    def at_start(self) -> None:
        """The place is the first of an order."""
        self.state[PLACE] = 0

    def __call__(self, rows: Rows, rates: Any, k: int, share: float, index: int = -1) -> None:
        """Update the parameters by the sums of ``k`` examples, of which J counts ``share``.

        rates : of the order's updates, corrected as Adam has it;  index : which it is; -1 where the kernels before said
        """
        segments = rows.head.shape[0]
        self.update(
            (-(-self.size // COLUMNS),), rows.head, rows.gradient, segments, self.size, self.state, rates, index,
            self.theta, *(*self.kept, None, None)[:2], self.penalties, self.spans, self.layers, *self.numbers, self.l2,
            share, k, self.fixed_biases, threads=COLUMNS * lanes(segments),
        )  # fmt: skip

    def read(self) -> tuple[float, int]:
        """The sum of J, and the place in the order: here the host waits, once."""
        if self.penalties is not None:
            rows = self.size
            self.tree((1,), self.penalties, None, self.state[NODES:], rows, 1, 0, threads=COLUMNS * lanes(rows))
        read = self.state.get()
        *rest, total = read[NODES:] if self.penalties is not None else (0.0,)
        for node in reversed(rest):
            total = node + total
        return float(read[SUM] + total), int(read[PLACE])


class Repeated:
    """Launches as a CUDA graph, to be made again and again; None of them is made here.

    What is launched must be compiled by now, and take no memory. CuPy refuses cuBLAS in a graph.
    """

    def __init__(self, xp: Any, launches: Callable[[], None], times: int) -> None:
        stream = xp.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            try:
                for _ in range(times):
                    launches()
            except BaseException:
                with suppress(Exception):  # it is what came first that tells why
                    stream.end_capture()
                raise
            self.graph = stream.end_capture()

    def launch(self) -> None:
        self.graph.launch()
