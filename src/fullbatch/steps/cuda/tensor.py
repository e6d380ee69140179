"""For a narrow table on a GPU: the one kernel of the step onepass, with its two products on the tensor cores.

The docstring of onepass.py says what the kernel does; the products are those of tiles.py. A warp has 16 examples and 64
hidden units, and both products are tiles of 16 x 8:

    Z1     (16 examples, 64 units)    8 tiles, over the inputs by eights
    dW1    (64 units, inputs)         4 tiles for each eight inputs, over the 16 examples

At (28, 64, 1) a tile takes 64 instructions ``mma`` in plain TF32, for 1,952 multiply-adds of a lane in onepass.py; at
float32's accuracy 3 x 64, and beside them 128 numbers to split and 256 sums to add. In the machine code for sm_90 that
comes to some 4,200 instructions of a warp for a tile, and 3,160 in TF32, where onepass.py has 3,400: on paper it is
slower, and no card has said yet. So at float32's accuracy it runs where it is asked for by name, and else in TF32,
which that has not. A thread block does one segment: a loop would keep the addresses of its row in registers all the
time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fullbatch.core.network import Network
from fullbatch.steps.cuda import tiles
from fullbatch.steps.cuda.kernels import HELPERS, constants
from fullbatch.steps.cuda.launch import Kernel
from fullbatch.steps.cuda.onepass import EXAMPLES, OVER_THE_WARP, ROW_OF, SEGMENT, OnePassStep
from fullbatch.steps.cuda.products import in_tf32
from fullbatch.steps.cuda.segments import Rows
from fullbatch.steps.cuda.updates import CHOSEN

MOST_WARPS = 4  # of 64 units each
MOST_INPUTS = 31  # a lane has 64 numbers of their dW1
RESIDENT = 8  # warps of a multiprocessor that the registers suffice for


class Variant(NamedTuple):
    """What the kernel is compiled for. inputs : those and the bias, by eights."""

    activation: str
    output: str
    products: int
    warps: int
    inputs: int

    @classmethod
    def of(cls, network: Network, products: int) -> Variant:
        inputs, hidden, _ = network.sizes
        name = str(network.activations[0].name)
        return cls(name, network.output.name, products, -(-hidden // 64), -(-(inputs + 1) // 8))

    @property
    def shared(self) -> int:
        """Bytes of shared memory: W1, b1 and w2, the tile's X, sums of the warps, dZ1."""
        row = 8 * self.inputs + 4
        return 4 * (64 * self.warps * (row + 2) + EXAMPLES * (row + self.warps + 68 * self.warps))

    def source(self, gathers: bool) -> str:
        own = {
            "PRODUCTS": self.products, "WARPS": self.warps, "INPUTS": self.inputs, "EXAMPLES": EXAMPLES,
            "RESIDENT": max(1, RESIDENT // self.warps), "GATHERS": int(gathers),
        }  # fmt: skip
        defined = constants("float32", self.activation, self.output, own)
        return defined + HELPERS + CHOSEN + ROW_OF + OVER_THE_WARP + tiles.INSTRUCTIONS + tiles.SOURCE + SOURCE


SOURCE = r"""
#define UNITS 64  // of a warp
#define ALL_UNITS (UNITS * WARPS)
#define IN_ROW (8 * INPUTS + 4)
#define D_ROW (UNITS + 4)
#define THREADS (32 * WARPS)
#define SHARE_E ((8 * EXAMPLES + THREADS - 1) / THREADS)  // of a tile's X: a thread's examples, every eighth input

__device__ __forceinline__ void fetch(
        T (&to)[SHARE_E][INPUTS], const T* X, long long x_input, long long x_example, const int* order, int inputs,
        long long first, long long k) {
    #pragma unroll
    for (int r = 0; r < SHARE_E; ++r) {
        const long long e = threadIdx.x / 8 + THREADS / 8 * r;
        const bool there = e < EXAMPLES && first + e < k;
        const T* const from = X + row_of(order, there ? first + e : 0) * x_example;
        #pragma unroll
        for (int c = 0; c < INPUTS; ++c) {
            const int i = threadIdx.x % 8 + 8 * c;
            to[r][c] = from[(i < inputs ? i : 0) * x_input];
        }
    }
}

// As onepass, argument by argument.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) tensor(
        const T* X, long long x_input, long long x_example, const T* W, const T* b, const T* w_out, const T* b_out,
        const T* Y, long long y_example, const T* weight, T* yhat, double* head, T* sums, long long k,
        long long segment, long long n_in, long long n, long long backward, const int* order, double* state,
        long long batch) {
    if (GATHERS && order) order = next_of(order, state, batch);
    extern __shared__ __align__(16) T shared[];
    const int inputs = (int)n_in, hidden = (int)n;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g_row = lane / 4, pair = 2 * (lane % 4);
    T* const W_all = shared;  // (ALL_UNITS, inputs)
    T* const bias = W_all + ALL_UNITS * IN_ROW;  // (ALL_UNITS)
    T* const w = bias + ALL_UNITS;  // (ALL_UNITS), of the output unit
    T* const X_tile = w + ALL_UNITS;  // (EXAMPLES, inputs and a 1)
    T* const z_parts = X_tile + EXAMPLES * IN_ROW;  // (WARPS, EXAMPLES)
    T* const dZ = z_parts + WARPS * EXAMPLES + warp * EXAMPLES * D_ROW;  // (EXAMPLES, UNITS), the warp's own

    for (int at = threadIdx.x; at < ALL_UNITS * 8 * INPUTS; at += THREADS) {  // units beyond n weigh nothing
        const int u = at / (8 * INPUTS), i = at % (8 * INPUTS);
        W_all[u * IN_ROW + i] = u < hidden && i < inputs ? W[u * inputs + i] : (T)0;
    }
    for (int u = threadIdx.x; u < ALL_UNITS; u += THREADS) {
        bias[u] = u < hidden ? b[u] : (T)0;
        w[u] = u < hidden ? w_out[u] : (T)0;
    }
    for (int at = threadIdx.x; at < EXAMPLES * 8 * INPUTS; at += THREADS) {
        X_tile[at / (8 * INPUTS) * IN_ROW + at % (8 * INPUTS)] = at % (8 * INPUTS) == inputs ? 1 : 0;
    }
    T dw[8][2], dW[4][INPUTS][4], loss = 0, total = 0, db_out = 0;
    #pragma unroll
    for (int j = 0; j < 8; ++j) dw[j][0] = dw[j][1] = 0;
    clear(dW);
    const int half = lane % 2, own = g_row + 8 * half;  // the example of the tile whose output unit this lane does
    const bool counts_it = warp == 0 && lane % 4 < 2;  // other lanes do the same example
    const long long parameters = (long long)(inputs + 2) * hidden + 1;

    T x_next[SHARE_E][INPUTS];
    fetch(x_next, X, x_input, x_example, order, inputs, blockIdx.x * segment, k);
    const long long part = blockIdx.x;
    const long long end = part * segment + segment < k ? part * segment + segment : k;
    for (long long first = part * segment; first < end; first += EXAMPLES) {
        const int here = end - first < EXAMPLES ? (int)(end - first) : EXAMPLES;
        __syncthreads();  // nobody is at the tile before any more
        #pragma unroll
        for (int r = 0; r < SHARE_E; ++r) {
            const int e = threadIdx.x / 8 + THREADS / 8 * r;
            #pragma unroll
            for (int c = 0; c < INPUTS; ++c) {
                const int i = threadIdx.x % 8 + 8 * c;
                if (e < EXAMPLES && i < inputs) X_tile[e * IN_ROW + i] = x_next[r][c];
            }
        }
        fetch(x_next, X, x_input, x_example, order, inputs, first + EXAMPLES, k);
        const bool there = own < here;
        const long long example = row_of(order, first + (there ? own : 0));
        const T y = yhat ? (T)0 : Y[example * y_example];
        const T s = weight ? weight[example] : (T)1;
        __syncthreads();  // the tile is there

        T z[1][8][4], sum[2] = {0, 0};  // z: then a, but where g' is of z
        clear(z);
        add_products<false>(z, X_tile, IN_ROW, 1, W_all + warp * UNITS * IN_ROW, IN_ROW, 1, 8, INPUTS, 8);
        #pragma unroll
        for (int j = 0; j < 8; ++j) {
            #pragma unroll
            for (int r = 0; r < 4; ++r) {
                const int u = warp * UNITS + 8 * j + pair + r % 2;
                T one = 0;  // a unit beyond n may be 0 times an infinite X
                if (u < hidden) {
                    one = exact(z[0][j][r], X_tile + (g_row + 8 * (r / 2)) * IN_ROW, 1, W + u * inputs, inputs);
                    one += bias[u];
                }
                const T a = g(one);
                sum[r / 2] += u < hidden ? w[u] * a : (T)0;
                z[0][j][r] = KEEPS_Z ? one : a;
            }
        }
        #pragma unroll
        for (int h = 0; h < 2; ++h) {
            sum[h] += __shfl_xor_sync(EVERY_LANE, sum[h], 1);
            sum[h] += __shfl_xor_sync(EVERY_LANE, sum[h], 2);
        }
        T z_out = half ? sum[1] : sum[0];
        if (WARPS > 1) {
            z_parts[warp * EXAMPLES + own] = z_out;
            __syncthreads();  // all warps' parts are there
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
            const T d[2] = {__shfl_sync(EVERY_LANE, dz, lane & ~3), __shfl_sync(EVERY_LANE, dz, lane & ~3 | 1)};
            #pragma unroll
            for (int j = 0; j < 8; ++j) {
                #pragma unroll
                for (int r = 0; r < 4; ++r) {
                    const T x = z[0][j][r];
                    const int u = 8 * j + pair + r % 2;
                    dw[j][r % 2] += d[r / 2] * (KEEPS_Z ? g(x) : x);
                    dZ[(g_row + 8 * (r / 2)) * D_ROW + u] = d[r / 2] * w[warp * UNITS + u] * slope(x);
                }
            }
            __syncwarp();  // the warp's dZ is there
            add_products<true>(dW, dZ, 1, D_ROW, X_tile, 1, IN_ROW, 8, EXAMPLES / 8, 8);
        }
    }
    if (yhat) return;
    if (warp == 0) {
        const double of_loss = over_the_warp(loss), of_weight = over_the_warp(total);
        const double of_db = over_the_warp(db_out);
        if (lane == 0) {
            head[2 * part] = of_loss;
            head[2 * part + 1] = of_weight;
            if (backward) sums[part * parameters + parameters - 1] = (T)of_db;
        }
    }
    if (!backward) return;
    T* const row = sums + part * parameters;
    #pragma unroll
    for (int j = 0; j < 8; ++j) {
        #pragma unroll
        for (int i = 0; i < 2; ++i) {
            #pragma unroll
            for (int other = 4; other < 32; other *= 2) dw[j][i] += __shfl_xor_sync(EVERY_LANE, dw[j][i], other);
            const int u = warp * UNITS + 8 * j + pair + i;
            if (g_row == 0 && u < hidden) row[(inputs + 1) * hidden + u] = dw[j][i];
        }
    }
    #pragma unroll
    for (int m = 0; m < 4; ++m) {
        #pragma unroll
        for (int j = 0; j < INPUTS; ++j) {
            #pragma unroll
            for (int r = 0; r < 4; ++r) {
                const int u = warp * UNITS + 16 * m + g_row + 8 * (r / 2), i = 8 * j + pair + r % 2;
                const int at = i < inputs ? u * inputs + i : inputs * hidden + u;
                if (u < hidden && i <= inputs) row[at] = dW[m][j][r];
            }
        }
    }
}
"""


class TensorStep(OnePassStep):
    name = "tensor"
    takes_tf32 = True

    @staticmethod
    def can_run(network: Network, like: Any) -> bool:
        if not OnePassStep.can_run(network, like) or like.dtype.name != "float32":
            return False
        fits = network.sizes[0] <= MOST_INPUTS and network.sizes[1] <= 64 * MOST_WARPS
        return fits and tiles.has_tensor_cores(like)

    def __init__(self, network: Network, like: Any, block: int, xp: Any = None) -> None:
        super().__init__(network, like, block, xp)
        self._made: dict[tuple[int, bool], Kernel] = {}

    def kernel_of(self, gathers: bool) -> Kernel:
        """The one for the precision that is set now: see machine/cuda.py."""
        which = tiles.kind(self.dtype, True, in_tf32(self.dtype)), gathers
        if which not in self._made:
            variant = Variant.of(self.network, which[0])
            self._made[which] = Kernel(self.xp, variant.source(gathers), "tensor", 32 * variant.warps, variant.shared)
        return self._made[which]

    def thread_blocks(self, kernel: Kernel, segments: int) -> int:
        return segments

    def predict(self, X: Any) -> Any:
        yhat = self.xp.empty((1, X.shape[1]), dtype=self.dtype)
        self._launch(self.kernel_of(False), X, None, 0, None, yhat, Rows(None, None), SEGMENT)
        return yhat
