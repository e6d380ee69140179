"""For one wide hidden layer, or several output units, on a GPU: kernels that read X twice and store no hidden layer.

This twin of the pass takes what is too wide for onepass.py. Its kernels:

    outward    reads X; Z[1] and A[1] group by group of hidden units, which add to Z[2]; of each example loss and dZ[2]
    head       of each segment the loss, the weight and db[2]
    inward     reads X again; a thread block has one group of hidden units: its Z[1] and A[1] once more, then dW[2],
               dZ[1], dW[1] and db[1] of the group, which stay in registers for a segment of the examples

Bytes that cross the card's memory for each example and gradient in float32, and multiply-adds, counted:

                        fused.py: X, hidden     here: X twice, dZ[2] and losses, rows     multiply-adds of both
    (784, 128, 1)       6,276 + 2,048           6,276 + 32 + 393                          201 and 301 thousand
    (100, 1000, 1)      804 + 16,000            804 + 80 + 100                            203 and 303 thousand
    (100, 1000, 32)     928 + 40,768            928 + 2,312 + 130                         296 and 396 thousand

so it trades one more product with X for all passes over hidden layers. ``inward`` asks for X once for each group of 32
to 128 units; thread blocks of one segment run side by side, so that the memory is read once where the card's cache
holds what they are at. By its data sheet an H100 takes 9.0 ns for the multiply-adds of an example at (784, 128, 1) in
float32, and 3.7 for three TF32 products each, at a peak that mma.sync does not reach; for those of fused.py 6.0, and
2.5 for its bytes. Nothing of this is measured on a card.

The products are tiles.py's. In ``outward`` a thread block has 128 examples and a group of 64 or 128 units, and each of
its eight warps 32 examples and half of the units; X and W[1] come through shared memory 16 inputs at a time. In
``inward`` it has 16 examples at a time, whose X lies in shared memory beside the group's W[1]; warps share out the
units of Z[1] by 32, and its inputs; then the inputs of dW[1]. The order of each sum follows from the shape alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.core.parameters import count, unflatten
from fullbatch.machine import arrays
from fullbatch.steps.cuda import tiles
from fullbatch.steps.cuda.kernels import HELPERS, OF_THE_BLOCK, THREADS, constants, knows
from fullbatch.steps.cuda.launch import Kernel, contiguous, strides
from fullbatch.steps.cuda.products import in_tf32
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

LEAST_UNITS = 64  # of the hidden layer: of fewer the tiles would be half empty
MOST_CLASSES = 32
TILE, CHUNK = 128, 16  # examples and inputs that ``outward`` has in shared memory
LITTLE_TILE = 16  # examples of ``inward``
MOST_SUMS = {"float32": 128, "float64": 64}  # numbers of dW[1] that a lane of ``inward`` holds
FEW_SUMS = 48  # with which two thread blocks share a multiprocessor, without spills
HALF_SHARED = 113 * 2**10  # bytes of shared memory that each of two may take on an H100
LEAST = 1024  # examples of a segment
NUMBERS_A_ROW = 8  # times as many numbers has a segment as its row of sums
# Of a segment of few examples: the fewest; the time to load a group's W[1] and to write its sums, and that of its row,
# both in examples. Reckoned from bytes and multiply-adds, not measured.
FEWEST, OWN, OF_A_ROW = 64, 16, 22


class Variant(NamedTuple):
    """What the two large kernels are compiled for.

    classes : of the output layer, by eights;  units : of a group of ``outward``
    unit_warps : thirty-twos of units of a group of ``inward``;  inputs : those and the bias, by eights
    """

    dtype: str
    activation: str
    output: str
    products: int
    classes: int
    units: int
    unit_warps: int
    inputs: int

    @classmethod
    def of(cls, network: Network, dtype: str, products: int) -> Variant:
        first, hidden, last = network.sizes
        name, units = str(network.activations[0].name), 64 if hidden <= 64 else 128
        shape = -(-last // 8), units
        narrow = cls(dtype, name, network.output.name, products, *shape, 1, -(-(first + 1) // 8))
        for unit_warps in (4, 2):
            wider = narrow._replace(unit_warps=unit_warps)
            if 32 * (unit_warps - 1) < hidden and wider.fits_twice:
                return wider
        return narrow

    @property
    def input_tiles(self) -> int:
        """Of a warp: eight inputs each."""
        return -(-self.inputs // 8)

    @property
    def lane_sums(self) -> int:
        return 8 * self.unit_warps * self.input_tiles

    @property
    def fits_twice(self) -> bool:
        return self.lane_sums <= FEW_SUMS and self.dtype == "float32" and self.shared_inward <= HALF_SHARED

    @property
    def shared_outward(self) -> int:
        """Bytes of shared memory: parts of X and W1, A1 and W2 of half of the units."""
        row = self.units // 2 + 4
        numbers = (TILE + self.units) * (CHUNK + 4) + (TILE + 8 * self.classes) * row
        return numbers * np.dtype(self.dtype).itemsize

    @property
    def shared_inward(self) -> int:
        """Bytes of shared memory: the group's W1, X, parts of Z1, dZ1 and A1, the group's W2, dZ2."""
        units = 32 * self.unit_warps
        numbers = units * (8 * self.inputs + 4) + LITTLE_TILE * (64 * self.input_tiles + 4)
        numbers += 8 * LITTLE_TILE * 32 + (2 * LITTLE_TILE + 8 * self.classes) * (units + 4)
        numbers += LITTLE_TILE * (8 * self.classes + 4)
        return numbers * np.dtype(self.dtype).itemsize

    def source(self, kernel: str) -> str:
        resident = 2 if kernel == "inward" and self.fits_twice else 1
        own = {
            "PRODUCTS": self.products, "CLASSES": self.classes, "RESIDENT": resident, "THREADS": THREADS,
            "UNIT_TILES": self.units // 8, "UNIT_WARPS": self.unit_warps, "INPUTS": self.inputs,
            "INPUT_TILES": self.input_tiles, "TILE": TILE, "CHUNK": CHUNK, "LITTLE_TILE": LITTLE_TILE,
        }  # fmt: skip
        instructions = tiles.INSTRUCTIONS if self.products else ""
        shared = HELPERS + OF_THE_BLOCK if kernel == "head" else HELPERS + instructions + tiles.SOURCE
        return constants(self.dtype, self.activation, self.output, own) + shared + KERNELS[kernel]


KERNELS = {
    "outward": r"""
#define UNITS (8 * UNIT_TILES)  // of a group
#define HALF (UNITS / 2)
#define PART_ROW (CHUNK + 4)  // rows are longer than need be, so that a warp's numbers lie in all banks
#define A_ROW (HALF + 4)
#define X_SHARE (TILE * CHUNK / THREADS)  // a thread's numbers of a part
#define W_SHARE (UNITS * CHUNK / THREADS)

// The sum over the four lanes that have an example's output units, for each of them.
__device__ __forceinline__ T over_four(T value) {
    value += __shfl_xor_sync(EVERY_LANE, value, 1);
    return value + __shfl_xor_sync(EVERY_LANE, value, 2);
}

// X (k, n_in), W (n, n_in) and W_out (n_out, n) row by row. Of each example its loss, weighted, and dZ_out (k, n_out);
// where ``dZ_out`` is null the loss alone; where ``yhat`` (n_out, k) is there, it is all that is wanted.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) outward(
        const T* X, long long x_input, long long x_example, const T* W, const T* b, const T* W_out, const T* b_out,
        const T* Y, long long y_unit, long long y_example, const T* weight, T* yhat, T* losses, T* dZ_out, long long k,
        long long n_in, long long n, long long n_out) {
    extern __shared__ __align__(16) T shared[];
    const int inputs = (int)n_in, hidden = (int)n, outputs = (int)n_out;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g_row = lane / 4, pair = 2 * (lane % 4);
    const int half_of = warp % 2, first_row = warp / 2 * 32;  // the warp's units and examples of Z
    T* const X_part = shared;  // (TILE, CHUNK)
    T* const W_part = X_part + TILE * PART_ROW;  // (UNITS, CHUNK)
    T* const A = W_part + UNITS * PART_ROW;  // (TILE, HALF)
    T* const V = A + TILE * A_ROW;  // (8 CLASSES, HALF), of W_out
    const bool along = x_input != 1 && x_example == 1;  // lanes side by side read what lies side by side
    for (long long first = (long long)blockIdx.x * TILE; first < k; first += (long long)gridDim.x * TILE) {
        T out[1][CLASSES][4];  // of 16 examples of the warp
        clear(out);
        for (int group = 0; group < hidden; group += UNITS) {
            T z[2][UNIT_TILES / 2][4], x_next[X_SHARE], w_next[W_SHARE];
            clear(z);
            for (int from = 0; from < inputs + CHUNK; from += CHUNK) {
                if (from > 0) {  // what was fetched goes to shared memory
                    __syncthreads();  // nobody is at the parts before any more
                    #pragma unroll
                    for (int r = 0; r < X_SHARE; ++r) {
                        const int at = threadIdx.x + THREADS * r;
                        const int to = along ? at % TILE * PART_ROW + at / TILE : at / CHUNK * PART_ROW + at % CHUNK;
                        X_part[to] = x_next[r];
                    }
                    #pragma unroll
                    for (int r = 0; r < W_SHARE; ++r) {
                        const int at = threadIdx.x + THREADS * r;
                        W_part[at / CHUNK * PART_ROW + at % CHUNK] = w_next[r];
                    }
                }
                if (from < inputs) {  // the next part is on its way while this one is multiplied
                    #pragma unroll
                    for (int r = 0; r < X_SHARE; ++r) {
                        const int at = threadIdx.x + THREADS * r;
                        const int i = from + (along ? at / TILE : at % CHUNK);
                        const long long e = first + (along ? at % TILE : at / CHUNK);
                        const bool there = i < inputs && e < k;
                        const T x = X[there ? e * x_example + i * x_input : 0];
                        x_next[r] = there ? x : (T)0;
                    }
                    #pragma unroll
                    for (int r = 0; r < W_SHARE; ++r) {
                        const int at = threadIdx.x + THREADS * r, i = from + at % CHUNK, u = group + at / CHUNK;
                        const bool there = i < inputs && u < hidden;
                        const T w = W[there ? (long long)u * inputs + i : 0];
                        w_next[r] = there ? w : (T)0;
                    }
                }
                if (from > 0) {
                    __syncthreads();  // the part is there
                    add_products<false>(z, X_part + first_row * PART_ROW, PART_ROW, 1,
                                        W_part + half_of * HALF * PART_ROW, PART_ROW, 1, 8, CHUNK / 8, 8);
                }
            }
            for (int half = 0; half < 2; ++half) {
                const int units_from = group + half * HALF;
                if (half > 0) __syncthreads();  // nobody is at the first half any more
                for (int at = threadIdx.x; at < 8 * CLASSES * HALF; at += THREADS) {
                    const int c = at / HALF, u = units_from + at % HALF;
                    V[c * A_ROW + at % HALF] = c < outputs && u < hidden ? W_out[(long long)c * hidden + u] : (T)0;
                }
                if (half_of == half) {
                    #pragma unroll
                    for (int m = 0; m < 2; ++m) {
                        #pragma unroll
                        for (int j = 0; j < UNIT_TILES / 2; ++j) {
                            #pragma unroll
                            for (int r = 0; r < 4; ++r) {
                                const int row = first_row + 16 * m + g_row + 8 * (r / 2), c = 8 * j + pair + r % 2;
                                const int u = units_from + c;
                                const long long e = first + row < k ? first + row : 0;
                                T a = 0;  // a unit beyond n may be 0 times an infinite X
                                if (u < hidden) {
                                    const T sum = exact(z[m][j][r], X + e * x_example, x_input,
                                                        W + (long long)u * inputs, inputs);
                                    a = g(sum + b[u]);
                                }
                                A[row * A_ROW + c] = a;
                            }
                        }
                    }
                }
                __syncthreads();  // A and V are there
                add_products<false>(out, A + 16 * warp * A_ROW, A_ROW, 1, V, A_ROW, 1, 8, HALF / 8, 8);
            }
        }
        #pragma unroll
        for (int h = 0; h < 2; ++h) {
            const long long row = first + 16 * warp + g_row + 8 * h, e = row < k ? row : 0;
            T z[CLASSES][2], top = -LARGEST, sum = 0, own = 0;
            #pragma unroll
            for (int c = 0; c < CLASSES; ++c) {
                #pragma unroll
                for (int j = 0; j < 2; ++j) {
                    const int at = 8 * c + pair + j;
                    z[c][j] = out[0][c][2 * h + j] + (at < outputs ? b_out[at] : (T)0);
                    if (at < outputs && !(z[c][j] <= top)) top = z[c][j];
                }
            }
            if (OUTPUT == OUT_SOFTMAX) {
                #pragma unroll
                for (int other = 1; other < 4; other *= 2) {
                    const T its = __shfl_xor_sync(EVERY_LANE, top, other);
                    top = its > top ? its : top;
                }
                #pragma unroll
                for (int c = 0; c < CLASSES; ++c) {
                    #pragma unroll
                    for (int j = 0; j < 2; ++j) sum += 8 * c + pair + j < outputs ? m_exp(z[c][j] - top) : (T)0;
                }
                sum = over_four(sum);
            }
            const T s = weight && !yhat ? weight[e] : (T)1;
            #pragma unroll
            for (int c = 0; c < CLASSES; ++c) {
                #pragma unroll
                for (int j = 0; j < 2; ++j) {
                    const int at = 8 * c + pair + j;
                    if (at >= outputs) continue;
                    const T a = OUTPUT == OUT_SOFTMAX ? m_exp(z[c][j] - top) / sum : unit(z[c][j]);
                    if (yhat) {
                        if (row < k) yhat[at * k + row] = a;
                        continue;
                    }
                    const T y = Y[e * y_example + at * y_unit];
                    own += OUTPUT == OUT_SOFTMAX ? -y * z[c][j] : unit_loss(z[c][j], y);
                    // A weight of 0 leaves out: 0 * infinity would be NaN.
                    if (dZ_out && row < k) dZ_out[row * outputs + at] = s > 0 ? (a - y) * s : (T)0;
                }
            }
            own = over_four(own);
            if (OUTPUT == OUT_SOFTMAX) own = m_log(sum) + (top + own);
            if (!yhat && pair == 0 && row < k) losses[row] = s > 0 ? own * s : (T)0;
        }
    }
}
""",
    "head": r"""
// Of each segment its loss and weight, and if there are ``sums`` db_out, at the end of its row.
extern "C" __global__ void __launch_bounds__(THREADS) head(
        const T* losses, const T* weight, const T* dZ_out, double* out, T* sums, long long k, long long segment,
        long long parameters, long long n_out) {
    __shared__ double slots[THREADS];
    const long long segments = (k + segment - 1) / segment;
    for (long long part = blockIdx.x; part < segments; part += gridDim.x) {
        const long long first = part * segment, end = first + segment < k ? first + segment : k;
        for (long long c = -2; c < (sums ? n_out : 0); ++c) {
            double own = 0;
            for (long long e = first + threadIdx.x; e < end; e += THREADS) {
                own += c == -2 ? losses[e] : c >= 0 ? dZ_out[e * n_out + c] : weight ? weight[e] : (T)1;
            }
            own = of_the_block(own, slots);
            if (threadIdx.x > 0) continue;
            if (c < 0) out[2 * part + 2 + c] = own;
            else sums[(part + 1) * parameters - n_out + c] = (T)own;
        }
    }
}
""",
    "inward": r"""
#define UNITS (32 * UNIT_WARPS)
#define INPUT_WARPS (THREADS / 32 / UNIT_WARPS)  // these share out the inputs of Z
#define W_ROW (8 * INPUTS + 4)
#define X_ROW (64 * INPUT_TILES + 4)
#define U_ROW (UNITS + 4)
#define C_ROW (8 * CLASSES + 4)
#define TILES (UNITS / 8)  // of Z, for the warps to finish
#define OUT_TILES (UNITS / 16 * CLASSES)  // of dW_out
#define OUT_SHARE ((OUT_TILES + 7) / 8)
#define X_AT_ONCE 8  // loads of a thread that are on their way together

// dZ_out (k, n_out) row by row. To the row of ``sums`` of segment blockIdx.y: dW[1], db[1], dW[2] of the
// group blockIdx.x of units. A loop over segments would keep the addresses of that row in registers all the time.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) inward(
        const T* X, long long x_input, long long x_example, const T* W, const T* b, const T* W_out, const T* dZ_out,
        T* sums, long long k, long long segment, long long parameters, long long n_in, long long n, long long n_out) {
    extern __shared__ __align__(16) T shared[];
    const int inputs = (int)n_in, hidden = (int)n, outputs = (int)n_out, group = blockIdx.x * UNITS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g_row = lane / 4, pair = 2 * (lane % 4);
    T* const W_own = shared;  // (UNITS, inputs)
    T* const X_tile = W_own + UNITS * W_ROW;  // (LITTLE_TILE, inputs and a 1)
    T* const parts = X_tile + LITTLE_TILE * X_ROW;  // (INPUT_WARPS, TILES, 4, 32), of Z as the lanes have it
    T* const dZ = parts + 8 * LITTLE_TILE * 32;  // (LITTLE_TILE, UNITS)
    T* const A = dZ + LITTLE_TILE * U_ROW;  // (LITTLE_TILE, UNITS)
    T* const V = A + LITTLE_TILE * U_ROW;  // (8 CLASSES, UNITS), of W_out
    T* const D_out = V + 8 * CLASSES * U_ROW;  // (LITTLE_TILE, 8 CLASSES)

    for (int at = threadIdx.x; at < UNITS * 8 * INPUTS; at += THREADS) {  // units beyond n weigh nothing
        const int u = at / (8 * INPUTS), i = at % (8 * INPUTS);
        const bool there = group + u < hidden && i < inputs;
        W_own[u * W_ROW + i] = there ? W[(long long)(group + u) * inputs + i] : (T)0;
    }
    for (int at = threadIdx.x; at < 8 * CLASSES * UNITS; at += THREADS) {
        const int c = at / UNITS, u = at % UNITS;
        V[c * U_ROW + u] = c < outputs && group + u < hidden ? W_out[(long long)c * hidden + group + u] : (T)0;
    }
    for (int at = threadIdx.x; at < LITTLE_TILE * 64 * INPUT_TILES; at += THREADS) {  // the bias has the input 1
        X_tile[at / (64 * INPUT_TILES) * X_ROW + at % (64 * INPUT_TILES)] = at % (64 * INPUT_TILES) == inputs ? 1 : 0;
    }
    const bool along = x_input != 1 && x_example == 1;  // lanes side by side read what lies side by side
    const int numbers = LITTLE_TILE * inputs;
    T dW[UNITS / 16][INPUT_TILES][4], dW_out[OUT_SHARE][1][1][4];
    const long long part = blockIdx.y, end = part * segment + segment < k ? part * segment + segment : k;
    clear(dW);
    #pragma unroll
    for (int q = 0; q < OUT_SHARE; ++q) clear(dW_out[q]);
    for (long long first = part * segment; first < end; first += LITTLE_TILE) {
        const int here = end - first < LITTLE_TILE ? (int)(end - first) : LITTLE_TILE;
        __syncthreads();  // nobody is at the tile before any more
        for (int from = threadIdx.x; from < numbers; from += X_AT_ONCE * THREADS) {
            T x[X_AT_ONCE];
            #pragma unroll
            for (int r = 0; r < X_AT_ONCE; ++r) {  // all loads before the first store
                const int at = from + r * THREADS;
                const int e = along ? at % LITTLE_TILE : at / inputs, i = along ? at / LITTLE_TILE : at % inputs;
                const bool there = at < numbers && e < here;
                const T read = X[there ? (first + e) * x_example + i * x_input : 0];
                x[r] = there ? read : (T)0;
            }
            #pragma unroll
            for (int r = 0; r < X_AT_ONCE; ++r) {
                const int at = from + r * THREADS;
                const int e = along ? at % LITTLE_TILE : at / inputs, i = along ? at / LITTLE_TILE : at % inputs;
                if (at < numbers) X_tile[e * X_ROW + i] = x[r];
            }
        }
        for (int at = threadIdx.x; at < LITTLE_TILE * 8 * CLASSES; at += THREADS) {
            const int e = at / (8 * CLASSES), c = at % (8 * CLASSES);
            D_out[e * C_ROW + c] = e < here && c < outputs ? dZ_out[(first + e) * outputs + c] : (T)0;
        }
        __syncthreads();  // the tile is there
        {
            T z[1][4][4];  // of 32 units, over the warp's share of the inputs
            clear(z);
            const int turn = warp / UNIT_WARPS, unit_from = warp % UNIT_WARPS * 32;
            add_products<false>(z, X_tile + 8 * turn, X_ROW, 1, W_own + unit_from * W_ROW + 8 * turn, W_ROW, 1, 8,
                                (INPUTS - turn + INPUT_WARPS - 1) / INPUT_WARPS, 8 * INPUT_WARPS);
            #pragma unroll
            for (int j = 0; j < 4; ++j) {
                #pragma unroll
                for (int r = 0; r < 4; ++r) {
                    parts[((turn * TILES + unit_from / 8 + j) * 4 + r) * 32 + lane] = z[0][j][r];
                }
            }
        }
        __syncthreads();  // the parts are there
        for (int tile = warp; tile < TILES; tile += THREADS / 32) {
            T back[1][1][4];  // dA
            clear(back);
            add_products<true>(back, D_out, C_ROW, 1, V + 8 * tile, 1, U_ROW, 8, CLASSES, 8);
            #pragma unroll
            for (int r = 0; r < 4; ++r) {
                const int row = g_row + 8 * (r / 2), c = 8 * tile + pair + r % 2, u = group + c;
                T z = 0, a = 0, d = 0;
                #pragma unroll
                for (int turn = 0; turn < INPUT_WARPS; ++turn) {
                    z += parts[((turn * TILES + tile) * 4 + r) * 32 + lane];
                }
                if (u < hidden && row < here) {  // a unit beyond n may be 0 times an infinite X
                    z = exact(z, X + (first + row) * x_example, x_input, W + (long long)u * inputs, inputs) + b[u];
                    a = g(z);
                    d = back[0][0][r] * slope(KEEPS_Z ? z : a);
                }
                A[row * U_ROW + c] = a;
                dZ[row * U_ROW + c] = d;
            }
        }
        __syncthreads();  // dZ and A are there
        add_products<true>(dW, dZ, 1, U_ROW, X_tile + 8 * warp, 1, X_ROW, 64, LITTLE_TILE / 8, 8);
        #pragma unroll
        for (int q = 0; q < OUT_SHARE; ++q) {
            const int tile = warp + 8 * q;
            if (tile < OUT_TILES) {
                add_products<true>(dW_out[q], A + 16 * (tile % (UNITS / 16)), 1, U_ROW,
                                   D_out + 8 * (tile / (UNITS / 16)), 1, C_ROW, 8, LITTLE_TILE / 8, 8);
            }
        }
    }
    T* const row = sums + part * parameters;
    #pragma unroll
    for (int m = 0; m < UNITS / 16; ++m) {
        #pragma unroll
        for (int j = 0; j < INPUT_TILES; ++j) {
            #pragma unroll
            for (int r = 0; r < 4; ++r) {
                const int u = group + 16 * m + g_row + 8 * (r / 2), i = 8 * (warp + 8 * j) + pair + r % 2;
                const long long at = i < inputs ? (long long)u * inputs + i : (long long)inputs * hidden + u;
                if (u < hidden && i <= inputs) row[at] = dW[m][j][r];
            }
        }
    }
    #pragma unroll
    for (int q = 0; q < OUT_SHARE; ++q) {
        const int tile = warp + 8 * q;
        #pragma unroll
        for (int r = 0; r < 4; ++r) {
            const int u = group + 16 * (tile % (UNITS / 16)) + g_row + 8 * (r / 2);
            const int c = 8 * (tile / (UNITS / 16)) + pair + r % 2;
            if (tile < OUT_TILES && u < hidden && c < outputs) {
                row[(long long)(inputs + 1) * hidden + (long long)c * hidden + u] = dW_out[q][0][0][r];
            }
        }
    }
}
""",
}


class TwoPassStep(BySegments):
    name = "twopass"
    of_batch = (64, 16)  # the least examples of a segment of a mini-batch, and the most segments
    takes_sparse = 0.0
    takes_codes = 0.0
    takes_dropout = False
    takes_tf32 = True
    uses_blas = False

    @staticmethod
    def can_run(network: Network, like: Any) -> bool:
        if not arrays.is_cupy(like) or not knows(network) or len(network.sizes) != 3:
            return False
        dtype = like.dtype.name
        variant = Variant.of(network, dtype, tiles.kind(dtype, tiles.has_tensor_cores(like), False))
        return (
            network.sizes[1] >= LEAST_UNITS
            and network.sizes[2] <= MOST_CLASSES
            and variant.lane_sums <= MOST_SUMS[dtype]
            and max(variant.shared_inward, variant.shared_outward)
            <= like.device.attributes["MaxSharedMemoryPerBlockOptin"]
        )

    @staticmethod
    def numbers(network: Network) -> int:
        first, _, last = network.sizes
        return 2 * (first + last) + 2 * last + 4

    @staticmethod
    def segment(network: Network, m: int = 0) -> int:
        first, _, last = network.sizes
        size, least = LEAST, NUMBERS_A_ROW * count(network.sizes) // (first + last)
        while size < least:
            size *= 2
        return shortened(of_features(first, size), m, TwoPassStep.rounds(network))

    @staticmethod
    def rounds(network: Network) -> Rounds:
        """Of ``inward``, whose thread blocks each have a group of a segment's hidden units."""
        variant = Variant.of(network, "float32", tiles.SPLIT)
        groups = -(-network.sizes[1] // (32 * variant.unit_warps))
        slots = PROCESSORS * (2 if variant.fits_twice else 1) // groups
        return Rounds(max(1, slots), OWN, OF_A_ROW, min(FEWEST, LEAST))

    @staticmethod
    def sums(network: Network, block: int, m: int = 0) -> int:
        return sums(count(network.sizes), block, TwoPassStep.segment(network, m))

    def __init__(self, network: Network, like: Any, block: int, xp: Any = None) -> None:
        self.xp = arrays.cupy_if_loaded() if xp is None else xp
        self.network, self.dtype = network, np.dtype(like.dtype)
        self.tensor_cores = tiles.has_tensor_cores(like)
        self.segments = Segments(self.xp, self.dtype, network.sizes, count(network.sizes))
        self.gather: Gather | None = None  # for mini-batches
        self._kernels: dict[int, _Kernels] = {}
        self._losses = self.xp.empty(block, dtype=self.dtype)
        self._dZ = self.xp.empty(block * network.sizes[-1], dtype=self.dtype)

    def load(self, theta: Any) -> None:
        self.params = unflatten(self.xp.ascontiguousarray(theta), self.network.sizes)

    @property
    def kernels(self) -> _Kernels:
        """Those for the precision that is set now: see machine/cuda.py."""
        products = tiles.kind(self.dtype, self.tensor_cores, in_tf32(self.dtype))
        if products not in self._kernels:
            self._kernels[products] = _Kernels(self.xp, Variant.of(self.network, self.dtype.name, products))
        return self._kernels[products]

    def gradients(self, X: Any, Y: Any, weight: Any, segment: int) -> list[GradientSum]:
        rows = self.segments.rows(-(-X.shape[1] // segment), backward=True)
        self._sum(X, Y, weight, segment, rows)
        return self.segments.gradients(rows, weights_of(X.shape[1], weight, segment))

    def rows_of_batch(self, batch: Batch, rows: Rows, segment: int) -> None:
        """To ``rows`` the sums of each segment of a mini-batch, whose examples are copied side by side first."""
        if self.gather is None:
            self.gather = Gather(self.xp, self.dtype)
        self._sum(*self.gather(batch), segment, rows)

    def _sum(self, X: Any, Y: Any, weight: Any, segment: int, rows: Rows) -> None:
        dZ = self._outward(X, Y, contiguous(self.xp, weight), rows, segment)
        self.kernels.inward(X, self.params, dZ, rows.gradient, segment)

    def costs(self, X: Any, Y: Any, weight: Any, segment: int) -> list[tuple[Any, Any]]:
        rows = self.segments.rows(-(-X.shape[1] // segment), backward=False)
        weight = contiguous(self.xp, weight)
        self._outward(X, Y, weight, rows, segment)
        return self.segments.costs(rows, weights_of(X.shape[1], weight, segment))

    def predict(self, X: Any) -> Any:
        yhat = self.xp.empty((self.network.sizes[-1], X.shape[1]), dtype=self.dtype)
        self.kernels.outward(X, self.params, None, None, yhat, None, None)
        return yhat

    def _outward(self, X: Any, Y: Any, weight: Any, rows: Rows, segment: int) -> Any:
        """dZ[2] (k, n[2]), or None where ``rows`` has no gradients; loss, weight and db[2] go to ``rows``."""
        k, n = X.shape[1], self.network.sizes[-1]
        if k > self._losses.shape[0]:
            self._losses = self.xp.empty(k, dtype=self.dtype)
            self._dZ = self.xp.empty(k * n, dtype=self.dtype)
        losses = self._losses[:k]
        dZ = None if rows.gradient is None else self._dZ[: k * n].reshape(k, n)
        self.kernels.outward(X, self.params, Y, weight, None, losses, dZ)
        self.kernels.head(losses, weight, dZ, rows, segment, n)
        return dZ


class _Kernels:
    """The kernels of a variant, each with the launch that suits it."""

    def __init__(self, xp: Any, variant: Variant) -> None:
        def kernel(name: str, shared: int = 0) -> Kernel:
            return Kernel(xp, variant.source(name), name, THREADS, shared)

        self.group = 32 * variant.unit_warps
        self._outward = kernel("outward", variant.shared_outward)
        self._head = kernel("head")
        self._inward = kernel("inward", variant.shared_inward)

    def outward(self, X: Any, params: Any, Y: Any, weight: Any, yhat: Any, losses: Any, dZ: Any) -> None:
        (W, b), (W_out, b_out) = params
        k = X.shape[1]
        of_Y = (0, 0) if Y is None else strides(Y)
        self._outward(
            (self._outward.blocks(-(-k // TILE)),), X, *strides(X), W, b, W_out, b_out, Y, *of_Y, weight, yhat, losses,
            dZ, k, W.shape[1], W.shape[0], W_out.shape[0],
        )  # fmt: skip

    def head(self, losses: Any, weight: Any, dZ: Any, rows: Rows, segment: int, n: int) -> None:
        k = losses.shape[0]
        parameters = 0 if rows.gradient is None else rows.gradient.shape[1]
        blocks = self._head.blocks(-(-k // segment))
        self._head((blocks,), losses, weight, dZ, rows.head, rows.gradient, k, segment, parameters, n)

    def inward(self, X: Any, params: Any, dZ: Any, sums: Any, segment: int) -> None:
        (W, b), (W_out, _) = params
        k = X.shape[1]
        self._inward(
            (-(-W.shape[0] // self.group), -(-k // segment)), X, *strides(X), W, b, W_out, dZ, sums, k, segment,
            sums.shape[1], W.shape[1], W.shape[0], W_out.shape[0],
        )  # fmt: skip
