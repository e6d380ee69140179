"""For tables of category codes on a GPU: the codes go there as they are, and X of ones and zeros is never made.

This is the fused twin of the pass where rows have codes, and so much fewer entries than features.
A row of a table of k numbers and c categories has k + c entries, and X a feature for each level: a product with X is a
sum of the rows of W[1]^T that the codes name, and dW[1] gets each example's dZ[1] in the rows that they name.

    pick       Z[1] of each example: a lane has a hidden unit, and adds what it reads of the rows
    scatter    dW[1] of each segment: a thread block has 32 units, and as many features as its shared memory holds
               sums of. Feature f is of warp f % 8, which goes through the segment's entries in their order, 32 at a
               time, and takes those that are its own: each sum has one order, and no two threads add to one

All else is fused.py's, so any depth and any output unit will do. Bytes of one cost and gradient of an example at
(496, 64, 1) in float32, with a number and 5 codes of 16 bits, where X alone is 1,984: the row 3 x 14 (``scatter`` reads
it for each 32 units), Z[1] and dZ[1] 4 x 256, y 4, the rows of sums 126; rows of W[1] come through the caches, 1,536
bytes. To add takes some 9 instructions of a warp for each entry and 32 units, 108 in all, and to pick as many; both
products with X would be 1,984 multiply-adds of a warp. Nothing of this is measured on a card.

Z[1] and dZ[1] of a block are most of these bytes: 0.31 of 0.36 ns an example by an H100's data sheet, where its
instructions, with those of ``tail``, take some 0.3. One kernel that kept them to itself would need the sums of all
features and units in shared memory at once, 131 KB here for the 65 KB of ``scatter``, so that one thread block were on
a multiprocessor in place of three: at most a sixth of the time could be saved, and wider tables would not fit at all.
So it was not written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fullbatch.core.network import Network
from fullbatch.machine import arrays
from fullbatch.sources.columns import Coded
from fullbatch.sources.encoded import FEW
from fullbatch.steps.cuda.fused import FusedStep
from fullbatch.steps.cuda.kernels import THREADS, TYPES, knows
from fullbatch.steps.cuda.launch import Kernel, strides
from fullbatch.steps.cuda.onepass import ROW_OF
from fullbatch.steps.cuda.segments import Rows
from fullbatch.steps.cuda.updates import CHOSEN, NO_BATCH, Batch, Gather

CODES = {"uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned int"}
EXAMPLES = 4  # that a warp of ``pick`` does at once
TILE = 32  # examples of which ``scatter`` has dZ in shared memory
ROW = 33  # numbers from one feature's sums to the next: a column of them lies in all banks
RESIDENT, SHARED = 3, 72 * 2**10  # thread blocks of ``scatter`` that share a multiprocessor, and bytes of each
MOST_SEGMENTS = 65_535  # of a grid's second axis

KERNELS = {
    "turn": r"""
// W_T (n_in, n) = W^T.
extern "C" __global__ void turn(const T* W, T* W_T, long long n_in, long long n) {
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x; t < n_in * n; t += stride) {
        W_T[t] = W[t % n * n_in + t / n];
    }
}
""",
    "pick": r"""
// Z (k, n) from the numbers (k, n_numbers), the codes (k, columns) and W_T (n_in, n). Where ``order`` is, the codes are
// those of the next k examples of it: see CHOSEN.
extern "C" __global__ void __launch_bounds__(THREADS) pick(
        const T* numbers, const C* ones, const T* W_T, T* Z, long long k, long long n_numbers, long long columns,
        long long n, const int* order, double* state, long long batch) {
    if (GATHERS && order) order = next_of(order, state, batch);
    const int lane = threadIdx.x % 32, width = (int)n, groups = (width + 31) / 32;
    const long long warps = (long long)gridDim.x * (THREADS / 32);
    const long long items = (k + EXAMPLES - 1) / EXAMPLES * groups;
    for (long long item = (long long)blockIdx.x * (THREADS / 32) + threadIdx.x / 32; item < items; item += warps) {
        const long long first = item / groups * EXAMPLES;
        const int unit = (int)(item % groups) * 32 + lane;
        const T* const own = W_T + (unit < width ? unit : 0);
        long long row[EXAMPLES];
        T sum[EXAMPLES];
        #pragma unroll
        for (int e = 0; e < EXAMPLES; ++e) {
            row[e] = first + e < k ? first + e : first;  // beyond k stands the first one: it is not written
            sum[e] = 0;
        }
        for (int i = 0; i < (int)n_numbers; ++i) {
            const T w = own[(long long)i * width];
            #pragma unroll
            for (int e = 0; e < EXAMPLES; ++e) sum[e] += numbers[row[e] * n_numbers + i] * w;
        }
        const C* codes[EXAMPLES];
        #pragma unroll
        for (int e = 0; e < EXAMPLES; ++e) codes[e] = ones + row_of(order, row[e]) * columns;
        for (int c = 0; c < (int)columns; ++c) {
            #pragma unroll
            for (int e = 0; e < EXAMPLES; ++e) {
                const long long feature = codes[e][c];
                const T w = own[feature * width];
                sum[e] += feature >= n_numbers ? w : (T)0;
            }
        }
        #pragma unroll
        for (int e = 0; e < EXAMPLES; ++e) {
            if (unit < width && first + e < k) Z[(first + e) * n + unit] = sum[e];
        }
    }
}
""",
    "scatter": r"""
// To the row of ``sums`` of each segment dW (n, n_in), from dZ (k, n). A thread block has 32 units, and ``features`` of
// the features: which ones says blockIdx.x.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) scatter(
        const T* numbers, const C* ones, const T* dZ, T* sums, long long k, long long segment, long long parameters,
        long long n_numbers, long long columns, long long n_in, long long n, long long features, const int* order,
        double* state, long long batch) {
    if (GATHERS && order) order = next_of(order, state, batch);
    extern __shared__ __align__(16) T shared[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, numeric = (int)n_numbers;
    const int groups = ((int)n + 31) / 32, unit = (int)blockIdx.x % groups * 32;
    const int from = (int)blockIdx.x / groups * (int)features;
    const int here = n_in - from < features ? (int)(n_in - from) : (int)features;
    T* const own = shared;  // (features, 32)
    T* const tile = own + features * ROW;  // (TILE, 32), of dZ
    const long long segments = (k + segment - 1) / segment;
    for (long long part = blockIdx.y; part < segments; part += gridDim.y) {
        const long long end = part * segment + segment < k ? part * segment + segment : k;
        for (int at = threadIdx.x; at < here * ROW; at += THREADS) own[at] = 0;
        for (long long first = part * segment; first < end; first += TILE) {
            const int examples = end - first < TILE ? (int)(end - first) : TILE;
            __syncthreads();  // the sums are 0, and nobody is at the tile before any more
            for (int at = threadIdx.x; at < TILE * 32; at += THREADS) {
                const bool there = at / 32 < examples && unit + at % 32 < n;
                tile[at] = there ? dZ[(first + at / 32) * n + unit + at % 32] : (T)0;
            }
            __syncthreads();
            for (int i = warp; i < numeric; i += THREADS / 32) {
                if (i < from || i >= from + here) continue;
                T sum = own[(i - from) * ROW + lane];
                for (int e = 0; e < examples; ++e) sum += numbers[(first + e) * n_numbers + i] * tile[e * 32 + lane];
                own[(i - from) * ROW + lane] = sum;
            }
            const int entries = examples * (int)columns;
            for (int begin = 0; begin < entries; begin += 32) {
                const int at = begin + lane;  // this lane looks whose it is, for the others too
                const int e = at / (int)columns, c = at % (int)columns;
                const int feature = at < entries ? (int)ones[row_of(order, first + e) * columns + c] : 0;
                const bool taken = feature >= numeric && feature >= from && feature < from + here;
                const unsigned both = (unsigned)e << 16 | (unsigned)(feature - from);
                unsigned mine = __ballot_sync(EVERY_LANE, taken && feature % (THREADS / 32) == warp);
                while (mine) {
                    const unsigned next = __shfl_sync(EVERY_LANE, both, __ffs(mine) - 1);
                    own[(next & 0xffff) * ROW + lane] += tile[(next >> 16) * 32 + lane];
                    mine &= mine - 1;
                }
            }
        }
        __syncthreads();
        T* const row = sums + part * parameters + from;
        for (int at = threadIdx.x; at < 32 * here; at += THREADS) {
            const int u = at / here, f = at % here;
            if (unit + u < n) row[(unit + u) * n_in + f] = own[f * ROW + u];
        }
        __syncthreads();  // before the sums are 0 again
    }
}
""",
}


def source(kernel: str, dtype: str, codes: str = "uint8", gathers: bool = False) -> str:
    defined = {
        "T": TYPES[dtype], "C": CODES[codes], "THREADS": THREADS, "EXAMPLES": EXAMPLES, "TILE": TILE, "ROW": ROW,
        "RESIDENT": RESIDENT, "EVERY_LANE": "0xffffffffu", "GATHERS": int(gathers),
    }  # fmt: skip
    head = "".join(f"#define {name} {value}\n" for name, value in defined.items())
    return head + CHOSEN + ROW_OF + KERNELS[kernel]


class CodedStep(FusedStep):
    name = "coded"
    takes_codes = FEW

    @staticmethod
    def can_run(network: Network, like: Any) -> bool:
        return arrays.is_cupy(like) and knows(network)

    @staticmethod
    def numbers(network: Network) -> int:
        _, *hidden, last = network.sizes
        return 2 * sum(hidden) + 2 * max(hidden, default=0) + 8 * last + 3

    @classmethod
    def sums(cls, network: Network, block: int, m: int = 0) -> int:
        turned = 8 * network.sizes[0] * network.sizes[1]
        return super().sums(network, block, m) + turned

    def __init__(self, network: Network, like: Any, block: int, xp: Any = None) -> None:
        super().__init__(network, like, block, xp)
        self.uses_blas = not self.has_tail or len(network.sizes) > 3
        self.codes = _Kernels(self.xp, self.dtype.name, network.sizes[0])
        self._W_T = self.xp.empty(network.sizes[0] * network.sizes[1], dtype=self.dtype)
        self._batch = NO_BATCH  # whose codes are gathered as they are loaded

    def _by_example(self, X: Any) -> Any:
        return X.T

    def _multiply(self, A: Any, W: Any, Z: Any, segment: int) -> None:
        if isinstance(A, Coded):
            self.codes.pick(A, W, self._W_T, Z, self._batch)
        else:
            super()._multiply(A, W, Z, segment)

    def _multiply_back(self, dZ: Any, A: Any, dW: Any, segment: int) -> None:
        if isinstance(A, Coded):
            self.codes.scatter(A, dZ, dW, segment, self._batch)
        else:
            super()._multiply_back(dZ, A, dW, segment)

    def rows_of_batch(self, batch: Batch, rows: Rows, segment: int) -> None:
        """To ``rows`` the sums of each segment of a mini-batch; but for the codes its examples are copied first."""
        X, Y, weight = batch.data
        if self.gather is None:
            self.gather = Gather(self.xp, self.dtype)
        numbers, Y, weight = self.gather(batch._replace(data=(X.numbers.T, Y, weight)))
        self._batch = batch
        try:
            self.rows(Coded(numbers.T, X.ones, (X.shape[0], numbers.shape[1])), Y, weight, segment, rows)
        finally:
            self._batch = NO_BATCH

    def predict(self, X: Any) -> Any:
        if len(self.params) > 1:
            return super().predict(X)
        W, b = self.params[0]
        Z = self.xp.empty((X.shape[1], W.shape[0]), dtype=self.dtype)
        self._multiply(X.T, W, Z, 0)
        Z += b
        return self.network.output.activation(Z.T, self.xp)


class _Kernels:
    """The kernels for codes of any width, each with the launch that suits it."""

    def __init__(self, xp: Any, dtype: str, features: int) -> None:
        self.xp, self.dtype = xp, dtype
        itemsize = np.dtype(dtype).itemsize
        most = (SHARED // itemsize - 32 * TILE) // ROW
        self.parts = -(-features // most)  # thread blocks that share the features
        self.features = -(-features // self.parts)
        self.shared = (self.features * ROW + 32 * TILE) * itemsize
        self._made: dict[tuple[str, str, bool], Kernel] = {}

    def _of(self, name: str, codes: Any = None, gathers: bool = False) -> Kernel:
        which = name, "uint8" if codes is None else np.dtype(codes.dtype).name, gathers
        if which not in self._made:
            shared = self.shared if name == "scatter" else 0
            text = source(name, self.dtype, *which[1:])
            self._made[which] = Kernel(self.xp, text, name, THREADS, shared)
        return self._made[which]

    def pick(self, A: Coded, W: Any, W_T: Any, Z: Any, batch: Batch) -> None:
        n, n_in = W.shape
        turn, pick = self._of("turn"), self._of("pick", A.ones, batch.order is not None)
        turn((turn.blocks(-(-n * n_in // THREADS)),), W, W_T, n_in, n)
        k, groups = A.shape[0], -(-n // 32)
        blocks = pick.blocks(-(-(-(-k // EXAMPLES) * groups) // (THREADS // 32)))
        pick(
            (blocks,), *_rows(self.xp, A), W_T, Z, k, A.numbers.shape[1], A.ones.shape[1], n,
            batch.order, batch.state, batch.size,
        )  # fmt: skip

    def scatter(self, A: Coded, dZ: Any, dW: Any, segment: int, batch: Batch) -> None:
        """``dW`` (segments, n, n_in), each a part of a row of sums."""
        segments, n, n_in = dW.shape
        grid = self.parts * -(-n // 32), min(segments, MOST_SEGMENTS)
        self._of("scatter", A.ones, batch.order is not None)(
            grid, *_rows(self.xp, A), dZ, dW, A.shape[0], segment, strides(dW)[0], A.numbers.shape[1], A.ones.shape[1],
            n_in, n, self.features, batch.order, batch.state, batch.size,
        )  # fmt: skip


def _rows(xp: Any, A: Coded) -> tuple[Any, Any]:
    """Numbers and codes, each row by row without a gap."""
    return xp.ascontiguousarray(A.numbers), xp.ascontiguousarray(A.ones)
