"""For a narrow table on a GPU: the whole step is one kernel, which reads each example once and stores no hidden layer.

It is a twin of the pass for one hidden layer and one output unit. What kernels.py counts as 1,252 bytes for each
example at (28, 64, 1) is 116 here: X and Y are read once, all else stays in registers and shared memory; the rows of
sums, one for 512 examples, which are written and read once, are 30 bytes more. What is left is work: 7.2 thousand
operations of the two products, for which an H100 takes, by its data sheet, the time of 360 bytes; they are three fifths
of the kernel's instructions (counted in the machine code for sm_90).

A thread block takes 16 examples at a time, its warps share out the hidden units. A warp's lanes stand 8 across the
units and 4 down the examples, and for dW1 the inputs:

    Z1     (16 examples, 64 units)    each lane has 4 x 8 of it     64 units are 32 in float64,
    dW1    (64 units, inputs)         each lane has 8 x 4 to 16     and a lane's 8 are 4

so that a number that comes from shared memory is used several times. dZ1 goes from the one product to the other through
shared memory. An input of ones stands for the biases. The last layer's Z is summed over lanes by shuffles, and over the
warps in their order. Sums over examples stay in a lane's registers for a segment of the examples; then they are
written, each number by one lane, to the segment's row, and segments.py adds the rows. There are no atomics: the bits
are the same from run to run, and for any grid.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.core.parameters import count, unflatten
from fullbatch.machine import arrays
from fullbatch.steps.cuda.kernels import HELPERS, KEEP_Z, constants, knows
from fullbatch.steps.cuda.launch import Kernel, contiguous, strides
from fullbatch.steps.cuda.segments import PROCESSORS, BySegments, Rounds, Rows, Segments, shortened, sums, weights_of
from fullbatch.steps.cuda.updates import CHOSEN, NO_BATCH, Batch

MOST_INPUTS = {"float32": 63, "float64": 31}  # what a lane's registers hold of dW1
UNITS = {"float32": 64, "float64": 32}  # hidden units of a warp: 8 or 4 of each lane
RESIDENT, RESIDENT_WIDE = 12, 8  # warps of a multiprocessor that registers suffice for; the latter if each takes many
EXAMPLES = 16  # of a tile
# Examples of a segment, at most: the rows are an eighth of X's bytes at (28, 64, 1). Of fewer than 3 million examples
# it is shorter, so that each multiprocessor has its share. All of it is reckoned, not measured on a card: to begin and
# to end a segment takes the instructions of a tile, and its row the time in which a card does 22 examples.
SEGMENT = 512
LEAST, OF_A_ROW = 32, 22


class Variant(NamedTuple):
    """What the kernel is compiled for; the numbers of inputs and of hidden units are its arguments.

    warps : of a thread block;  lane_inputs : a lane's inputs of dW1
    """

    dtype: str
    activation: str
    output: str
    warps: int
    lane_inputs: int

    @classmethod
    def of(cls, network: Network, dtype: str) -> Variant:
        inputs, hidden, _ = network.sizes
        warps, lane_inputs = -(-hidden // UNITS[dtype]), 4 * -(-(inputs + 1) // 16)
        return cls(dtype, str(network.activations[0].name), network.output.name, warps, lane_inputs)

    @property
    def resident(self) -> int:
        """Thread blocks of a multiprocessor that the registers must suffice for."""
        few = self.dtype == "float32" and self.lane_inputs <= 8 and self.activation not in KEEP_Z
        return (RESIDENT if few else RESIDENT_WIDE) // self.warps

    @property
    def shared(self) -> int:
        """Bytes of shared memory: W1 and w2, the tile's X in both orders, sums of the warps, dZ1."""
        units, inputs = UNITS[self.dtype] * self.warps, 4 * self.lane_inputs
        numbers = (inputs + 1) * units
        numbers += inputs * (EXAMPLES + 4) + EXAMPLES * (inputs + 8)
        numbers += EXAMPLES * self.warps + EXAMPLES * (UNITS[self.dtype] + 4) * self.warps
        return numbers * np.dtype(self.dtype).itemsize

    @property
    def source(self) -> str:
        return self.gathering(False)

    def gathering(self, gathers: bool) -> str:
        """The source; where it ``gathers``, of a mini-batch whose examples an order says.

        Its thread blocks are few, so that a multiprocessor need not hold as many as there is room for.
        """
        own = {
            "WARPS": self.warps, "LU": UNITS[self.dtype] // 8, "LI": self.lane_inputs, "EXAMPLES": EXAMPLES,
            "RESIDENT": RESIDENT_WIDE // self.warps if gathers else self.resident, "GATHERS": int(gathers),
        }  # fmt: skip
        defined = constants(self.dtype, self.activation, self.output, own)
        return defined + HELPERS + CHOSEN + ROW_OF + OVER_THE_WARP + SOURCE


ROW_OF = r"""
// The row of example i: the order's, where there is one.
__device__ __forceinline__ long long row_of(const int* order, long long i) {
    return GATHERS && order ? order[i] : i;
}
"""

OVER_THE_WARP = r"""
__device__ __forceinline__ double over_the_warp(T value) {
    double sum = value;
    #pragma unroll
    for (int other = 16; other > 0; other /= 2) sum += __shfl_xor_sync(EVERY_LANE, sum, other);
    return sum;
}
"""

SOURCE = r"""
#define UNITS (8 * LU)  // of a warp
#define ALL_UNITS (UNITS * WARPS)
#define ROOM (4 * LI)  // for inputs, and one more, of ones: its weights are the biases
#define LE (EXAMPLES / 4)  // a lane's examples; LU and LI are its units and inputs
#define XT_ROW (EXAMPLES + 4)  // rows are longer than need be, so that a column lies in several banks
#define X_ROW (ROOM + 8)
#define D_ROW (UNITS + 4)
#define THREADS (32 * WARPS)
#define SHARE_E ((8 * EXAMPLES + THREADS - 1) / THREADS)  // of a tile's X: a thread's examples, and their inputs
#define SHARE_I (ROOM / 8)
#define AHEAD (LI <= 8)  // the next tile's X is on its way while this one is computed, if the registers suffice

struct alignas(4 * sizeof(T)) Four { T at[4]; };  // loaded and stored at once

// A lane's numbers of a row in shared memory: those at ``from``, four of them every ``apart``.
template <int COUNT> __device__ __forceinline__ void load(T (&to)[COUNT], const T* from, int apart) {
    #pragma unroll
    for (int q = 0; q < COUNT / 4; ++q) {
        const Four four = *(const Four*)(from + q * apart);
        #pragma unroll
        for (int j = 0; j < 4; ++j) to[4 * q + j] = four.at[j];
    }
}

// A thread's share of a tile of X: every eighth input of some examples, which eight lanes read side by side. The loads
// are on their way together, for each has an address of its own. Beyond k stands the first example; its dZ is 0 there.
__device__ __forceinline__ void fetch(
        T (&to)[SHARE_E][SHARE_I], const T* X, long long x_input, long long x_example, const int* order, int inputs,
        long long first, long long k) {
    const int lane = threadIdx.x % 8;
    #pragma unroll
    for (int r = 0; r < SHARE_E; ++r) {
        const long long e = threadIdx.x / 8 + THREADS / 8 * r;
        const bool there = e < EXAMPLES && first + e < k;
        const T* const from = X + row_of(order, there ? first + e : 0) * x_example;
        #pragma unroll
        for (int c = 0; c < SHARE_I; ++c) {
            const int i = lane + 8 * c;
            to[r][c] = from[(i < inputs ? i : 0) * x_input];
        }
    }
}

// A lane's sums to the segment's row, where each number is one lane's, and back to 0.
__device__ __forceinline__ void flush(
        T* row, T (&dw)[LU], T (&dW)[LU][LI], int first_unit, int down, int hidden, int inputs) {
    #pragma unroll
    for (int j = 0; j < LU; ++j) {
        const int u = first_unit + 32 * (j / 4) + j % 4;
        dw[j] += __shfl_xor_sync(EVERY_LANE, dw[j], 1);
        dw[j] += __shfl_xor_sync(EVERY_LANE, dw[j], 16);
        if (down == 0 && u < hidden) row[(inputs + 1) * hidden + u] = dw[j];
        dw[j] = 0;
        #pragma unroll
        for (int i = 0; i < LI; ++i) {
            const int input = 16 * (i / 4) + 4 * down + i % 4;
            const int at = input < inputs ? u * inputs + input : inputs * hidden + u;
            if (u < hidden && input <= inputs) row[at] = dW[j][i];
            dW[j][i] = 0;
        }
    }
}

// X (k, n_in), W (n, n_in) row by row. For each segment of the examples a row of ``head``: loss, weight; and if
// backward one of ``sums``: dW[1], db[1], dW[2], db[2]. Where ``yhat`` is there, it is all that is wanted.
// Where ``order`` is, the examples are the next k of it: see CHOSEN.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) onepass(
        const T* X, long long x_input, long long x_example, const T* W, const T* b, const T* w_out, const T* b_out,
        const T* Y, long long y_example, const T* weight, T* yhat, double* head, T* sums, long long k,
        long long segment, long long n_in, long long n, long long backward, const int* order, double* state,
        long long batch) {
    if (GATHERS && order) order = next_of(order, state, batch);
    extern __shared__ __align__(16) T shared[];
    const int inputs = (int)n_in, hidden = (int)n, rows = inputs + 1;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    // Across the units, down the examples or the inputs. Lanes side by side have the same units: a load of four numbers
    // is said to take half of the time where lane and neighbour want the same (of cards of 2018; not measured here).
    const int across = lane / 2 % 8, down = lane % 2 + lane / 16 * 2;
    const int first_unit = warp * UNITS + 4 * across;
    T* const W_T = shared;  // (rows, ALL_UNITS)
    T* const w = W_T + ROOM * ALL_UNITS;  // (ALL_UNITS), of the output unit
    T* const X_T = w + ALL_UNITS;  // (rows, EXAMPLES), for Z
    T* const X_tile = X_T + ROOM * XT_ROW;  // (EXAMPLES, rows), for dW
    T* const z_parts = X_tile + EXAMPLES * X_ROW;  // (WARPS, EXAMPLES)
    T* const dZ = z_parts + WARPS * EXAMPLES + warp * EXAMPLES * D_ROW;  // (EXAMPLES, UNITS), the warp's own

    for (int t = threadIdx.x; t < rows * ALL_UNITS; t += THREADS) {  // units beyond n weigh nothing
        const int i = t / ALL_UNITS, u = t % ALL_UNITS;
        W_T[t] = u >= hidden ? (T)0 : i < inputs ? W[u * inputs + i] : b[u];
    }
    for (int u = threadIdx.x; u < ALL_UNITS; u += THREADS) w[u] = u < hidden ? w_out[u] : (T)0;
    for (int t = threadIdx.x; t < EXAMPLES * X_ROW; t += THREADS) X_tile[t] = t % X_ROW == inputs ? 1 : 0;
    for (int e = threadIdx.x; e < EXAMPLES; e += THREADS) X_T[inputs * XT_ROW + e] = 1;
    T dw[LU], dW[LU][LI];
    #pragma unroll
    for (int j = 0; j < LU; ++j) {
        dw[j] = 0;
        #pragma unroll
        for (int i = 0; i < LI; ++i) dW[j][i] = 0;
    }
    T loss = 0, total = 0, db_out = 0;
    const int own = LE * down + across % LE;  // the example of the tile whose output unit this lane does
    const bool counts_it = warp == 0 && across < LE;  // other lanes do the same example
    const long long segments = (k + segment - 1) / segment, parameters = (long long)(inputs + 2) * hidden + 1;

    T x_next[SHARE_E][SHARE_I];
    if (AHEAD) fetch(x_next, X, x_input, x_example, order, inputs, blockIdx.x * segment, k);
    for (long long part = blockIdx.x; part < segments; part += gridDim.x) {
        const long long end = part * segment + segment < k ? part * segment + segment : k;
        for (long long first = part * segment; first < end; first += EXAMPLES) {
            const int here = end - first < EXAMPLES ? (int)(end - first) : EXAMPLES;
            __syncthreads();  // nobody is at the tile before any more
            if (!AHEAD) fetch(x_next, X, x_input, x_example, order, inputs, first, k);
            #pragma unroll
            for (int r = 0; r < SHARE_E; ++r) {
                const int e = threadIdx.x / 8 + THREADS / 8 * r;
                #pragma unroll
                for (int c = 0; c < SHARE_I; ++c) {
                    const int i = threadIdx.x % 8 + 8 * c;
                    if (e < EXAMPLES && i < inputs) {
                        X_T[i * XT_ROW + e] = x_next[r][c];
                        X_tile[e * X_ROW + i] = x_next[r][c];
                    }
                }
            }
            if (AHEAD) {
                const long long next = first + EXAMPLES < end ? first + EXAMPLES : (part + gridDim.x) * segment;
                fetch(x_next, X, x_input, x_example, order, inputs, next, k);
            }
            const bool there = own < here;
            const long long example = row_of(order, first + (there ? own : 0));
            const T y = yhat ? (T)0 : Y[example * y_example];
            const T s = weight ? weight[example] : (T)1;
            __syncthreads();

            T z[LE][LU];  // then a, but where g' is of z
            #pragma unroll
            for (int e = 0; e < LE; ++e) {
                #pragma unroll
                for (int j = 0; j < LU; ++j) z[e][j] = 0;
            }
            #pragma unroll 4
            for (int i = 0; i < rows; ++i) {
                T x[LE], v[LU];
                load(x, X_T + i * XT_ROW + LE * down, 4);
                load(v, W_T + i * ALL_UNITS + first_unit, 32);
                #pragma unroll
                for (int e = 0; e < LE; ++e) {
                    #pragma unroll
                    for (int j = 0; j < LU; ++j) z[e][j] += x[e] * v[j];
                }
            }

            T sum[LE], own_w[LU];
            load(own_w, w + first_unit, 32);
            #pragma unroll
            for (int e = 0; e < LE; ++e) {
                sum[e] = 0;
                #pragma unroll
                for (int j = 0; j < LU; ++j) {
                    const T a = g(z[e][j]);
                    // A unit beyond n is 0 times X, which may be infinite, before it weighs nothing.
                    sum[e] += first_unit + 32 * (j / 4) + j % 4 < hidden ? own_w[j] * a : (T)0;
                    if (!KEEPS_Z) z[e][j] = a;
                }
                sum[e] += __shfl_xor_sync(EVERY_LANE, sum[e], 8);
            }
            // Of its examples each lane keeps one half, then a half of that, and gets the other lanes' share of it.
            #pragma unroll
            for (int half = LE / 2; half > 0; half /= 2) {
                const bool upper = across & half;
                #pragma unroll
                for (int e = 0; e < half; ++e) {
                    const T given = upper ? sum[e] : sum[e + half];
                    sum[e] = (upper ? sum[e + half] : sum[e]) + __shfl_xor_sync(EVERY_LANE, given, 2 * half);
                }
            }
            T z_out = sum[0];
            if (WARPS > 1) {
                z_parts[warp * EXAMPLES + own] = z_out;
                __syncthreads();
                z_out = 0;
                for (int other = 0; other < WARPS; ++other) z_out += z_parts[other * EXAMPLES + own];
            }
            z_out += b_out[0];
            if (yhat) {
                if (there && counts_it) yhat[example] = unit(z_out);
                continue;
            }
            const bool counts = there && s > 0;  // a weight of 0 leaves out: 0 * infinity would be NaN
            const T dz = counts ? (unit(z_out) - y) * s : (T)0;
            if (there && counts_it) {
                if (counts) loss += unit_loss(z_out, y) * s;
                total += s;
                db_out += dz;
            }
            if (backward) {
                #pragma unroll
                for (int e = 0; e < LE; ++e) {
                    const T d = __shfl_sync(EVERY_LANE, dz, down % 2 + 2 * e + down / 2 * 16);
                    #pragma unroll
                    for (int q = 0; q < LU / 4; ++q) {
                        Four back;
                        #pragma unroll
                        for (int j = 0; j < 4; ++j) {
                            const T x = z[e][4 * q + j];
                            dw[4 * q + j] += d * (KEEPS_Z ? g(x) : x);
                            back.at[j] = d * own_w[4 * q + j] * slope(x);
                        }
                        *(Four*)(dZ + (LE * down + e) * D_ROW + 32 * q + 4 * across) = back;
                    }
                }
                __syncwarp();
                #pragma unroll 2
                for (int e = 0; e < EXAMPLES; ++e) {
                    T d[LU], x[LI];
                    load(d, dZ + e * D_ROW + 4 * across, 32);
                    load(x, X_tile + e * X_ROW + 4 * down, 16);
                    #pragma unroll
                    for (int j = 0; j < LU; ++j) {
                        #pragma unroll
                        for (int i = 0; i < LI; ++i) dW[j][i] += d[j] * x[i];
                    }
                }
            }
        }
        if (yhat) continue;
        if (warp == 0) {
            const double of_loss = over_the_warp(loss), of_weight = over_the_warp(total);
            const double of_db = over_the_warp(db_out);
            if (lane == 0) {
                head[2 * part] = of_loss;
                head[2 * part + 1] = of_weight;
                if (backward) sums[part * parameters + parameters - 1] = (T)of_db;
            }
        }
        loss = total = db_out = 0;
        if (backward) flush(sums + part * parameters, dw, dW, first_unit, down, hidden, inputs);
    }
}
"""


class OnePassStep(BySegments):
    name = "onepass"
    of_batch = (EXAMPLES, 128)  # the least examples of a segment of a mini-batch, and the most segments
    takes_sparse = 0.0
    takes_tf32 = False
    uses_blas = False
    takes_codes = 0.0
    takes_dropout = False

    @staticmethod
    def can_run(network: Network, like: Any) -> bool:
        if not arrays.is_cupy(like) or not knows(network) or len(network.sizes) != 3 or network.sizes[-1] != 1:
            return False
        variant = Variant.of(network, like.dtype.name)
        narrow = network.sizes[0] <= MOST_INPUTS[variant.dtype]
        # One that runs alone on its multiprocessor waits for itself.
        return (
            narrow
            and variant.resident >= 2
            and variant.shared <= like.device.attributes["MaxSharedMemoryPerBlockOptin"]
        )

    @staticmethod
    def numbers(network: Network) -> int:
        return 2 * (network.sizes[0] + 1) + 3

    @staticmethod
    def segment(network: Network, m: int = 0) -> int:
        return shortened(SEGMENT, m, OnePassStep.rounds(network)) if m else SEGMENT

    @staticmethod
    def rounds(network: Network) -> Rounds:
        slots = PROCESSORS * max(1, Variant.of(network, "float32").resident)
        return Rounds(slots, EXAMPLES, OF_A_ROW, min(LEAST, SEGMENT))

    @staticmethod
    def sums(network: Network, block: int, m: int = 0) -> int:
        return sums(count(network.sizes), block, OnePassStep.segment(network, m))

    def __init__(self, network: Network, like: Any, block: int, xp: Any = None) -> None:
        self.xp = arrays.cupy_if_loaded() if xp is None else xp
        self.dtype = np.dtype(like.dtype)
        self.network = network
        self.inputs, self.hidden, _ = network.sizes
        self.variant = variant = Variant.of(network, self.dtype.name)
        threads, shared = 32 * variant.warps, variant.shared
        self.kernel, self.gathering = (
            Kernel(self.xp, variant.gathering(gathers), "onepass", threads, shared) for gathers in (False, True)
        )
        self.segments = Segments(self.xp, self.dtype, network.sizes, count(network.sizes))

    def kernel_of(self, gathers: bool) -> Kernel:
        return self.gathering if gathers else self.kernel

    def thread_blocks(self, kernel: Kernel, segments: int) -> int:
        return kernel.blocks(segments)

    def load(self, theta: Any) -> None:
        self.params = unflatten(self.xp.ascontiguousarray(theta), self.network.sizes)

    def gradients(self, X: Any, Y: Any, weight: Any, segment: int) -> list[GradientSum]:
        rows = self.rows(X, Y, weight, segment)
        return self.segments.gradients(rows, weights_of(X.shape[1], weight, segment))

    def costs(self, X: Any, Y: Any, weight: Any, segment: int) -> list[tuple[Any, Any]]:
        rows = self.rows(X, Y, weight, segment, backward=False)
        return self.segments.costs(rows, weights_of(X.shape[1], weight, segment))

    def predict(self, X: Any) -> Any:
        yhat = self.xp.empty((1, X.shape[1]), dtype=self.dtype)
        nothing = Rows(None, None)  # is summed: a tile is a segment
        self._launch(self.kernel_of(False), X, None, 0, None, yhat, nothing, EXAMPLES)
        return yhat

    def rows(self, X: Any, Y: Any, weight: Any, segment: int, backward: bool = True) -> Rows:
        """The sums of each segment."""
        rows = self.segments.rows(-(-X.shape[1] // segment), backward)
        kernel = self.kernel_of(False)
        self._launch(kernel, X, Y, strides(Y)[1], contiguous(self.xp, weight), None, rows, segment)
        return rows

    def rows_of_batch(self, batch: Batch, rows: Rows, segment: int) -> None:
        """To ``rows`` the sums of each segment of a mini-batch, whose examples are gathered as they are loaded."""
        X, Y, weight = batch.data
        self._launch(self.kernel_of(True), X, Y, strides(Y)[1], weight, None, rows, segment, batch)

    def _launch(
        self, kernel: Kernel, X: Any, Y: Any, y_example: int, weight: Any, yhat: Any, rows: Rows, segment: int,
        batch: Batch = NO_BATCH,
    ) -> None:  # fmt: skip
        (W, b), (w_out, b_out) = self.params
        k = X.shape[1] if batch.order is None else batch.k
        blocks = self.thread_blocks(kernel, -(-k // segment))
        kernel(
            (blocks,), X, *strides(X), W, b, w_out, b_out, Y, y_example, weight, yhat,
            rows.head, rows.gradient, k, segment, self.inputs, self.hidden, int(rows.gradient is not None),
            batch.order, batch.state, batch.size,
        )  # fmt: skip
