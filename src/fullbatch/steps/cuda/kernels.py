"""The CUDA kernels of the fused step: what is left of the pass when the large products are taken out.

Bytes that one cost and gradient moves for each example at (28, 64, 1) in float32, where a pass over the hidden layer
is 64 x 4 = 256 and one over X is 112:

                                            array by array                 one kernel an operation   here
    Z1 = X W1^T                             112 + 256                      112 + 256                 112 + 256
    Z1 + b1                                 256 + 256                      \\ 256 + 256               \\
    tanh                                    256 + 256                      /                          |
    Z2 = A1 w2 + b2                         256                            256                        | 256 + 256
    J, dZ2 (arrays of 4 bytes)              about 60                       12                         | + 4 (y)
    dW2, db2                                256                            256                        |
    dA1 = dZ2 w2                            256                            \\                          |
    1 - A1 A1                               2 x 512                         | 256 + 256               |
    dZ1 = dA1 * (1 - A1 A1)                 3 x 256                        /                         /
    db1                                     256                            256                       /
    dW1 = dZ1^T X                           256 + 112                      256 + 112                 256 + 112
    together                                4,636                          2,552                     1,252
    for 11 million examples                 51 GB                          28 GB                     13.8 GB

The rows of sums, one for 1,024 examples, which are written and read once, are 15 bytes more. (In onepass.py it is 116,
and 30 for the rows: 1.6 GB; but that is for narrow tables, and for one hidden layer.)

With one output unit, all between the two products with X is one kernel, ``tail``: dZ2 of an example needs nothing but
that example's own activations, so they are read once, stay in a warp's registers through the output unit, the loss and
dZ2, and are overwritten by dZ1; dW2, db1, db2 and J are summed on the way. Other networks take ``activate``, ``output``
and ``descend``, one kernel an operation, where db is summed while dZ is written (256 less than the middle column).
Without a hidden layer ``tail`` reads X in Z's place: that is the whole step, and X is read once.

Each sum has a fixed order: a thread's, then a thread block's, into one row for each segment of the examples; the rows
are then added by a tree (segments.py). So the bits are the same from run to run, for any grid and however many segments
there are. There are no atomics.

The source is plain CUDA C++ without headers, so that NVRTC compiles it anywhere. Layers lie example by example, (k, n).
test_cuda.py runs the very same text on the CPU.
"""

from __future__ import annotations

from typing import NamedTuple

from fullbatch.core.activations import GELU_C, GELU_FLAT, GELU_K, LEAK
from fullbatch.core.network import Network

# The numbers by which the source knows them.
ACTIVATIONS = {"tanh": 0, "sigmoid": 1, "relu": 2, "leaky_relu": 3, "identity": 4, "gelu": 5, "silu": 6}
KEEP_Z = ("gelu", "silu")  # g' is an expression in Z; for the others in A, which then takes the place of Z
C_OUTPUTS = {"sigmoid": 0, "softmax": 1, "identity": 2, "exp": 3}
TYPES = {"float32": "float", "float64": "double"}

THREADS = 256  # of a thread block
WIDEST_TAIL = {"float32": 1024, "float64": 512}  # units: what a warp's registers hold of one example


class Variant(NamedTuple):
    """What the source is compiled for.

    per_lane : units of the last hidden layer that a lane of a warp holds
    linear : there is no hidden layer, and ``tail`` reads X in its place
    """

    dtype: str
    activation: str = "identity"
    output: str = "identity"
    per_lane: int = 1
    linear: bool = False

    @property
    def rows(self) -> int:
        """The examples that a warp of ``tail`` does at once: enough loads on their way, and slots in the registers."""
        return next(rows for rows, most in ((8, 1), (4, 4), (2, 8), (1, 32)) if self.per_lane <= most)

    def source(self, kernel: str) -> str:
        """CUDA C++ with that kernel alone: NVRTC takes its time for each one."""
        return self.constants + HELPERS + OF_THE_BLOCK + KERNELS[kernel]

    @property
    def constants(self) -> str:
        own = {"PER": self.per_lane, "ROWS": self.rows, "LINEAR": int(self.linear), "THREADS": THREADS}
        return constants(self.dtype, self.activation, self.output, own)


def constants(dtype: str, activation: str, output: str, own: dict[str, int]) -> str:
    """What HELPERS needs to have defined, and a kernel's own numbers."""
    defined = {
        "T": TYPES[dtype],
        "ACTIVATION": ACTIVATIONS[activation],
        "OUTPUT": C_OUTPUTS[output],
        **own,
        "LEAK": f"((T){LEAK!r})",
        "GELU_C": f"((T){GELU_C!r})",
        "GELU_K": f"((T){GELU_K!r})",
        "GELU_FLAT": f"((T){GELU_FLAT!r})",
    }
    return "".join(f"#define {name} {value}\n" for name, value in defined.items())


def knows(network: Network) -> bool:
    """Whether there are kernels for its activations and its output unit, with that unit's own loss."""
    known = network.output.name in C_OUTPUTS and network.loss.canonical
    return known and all(a.name in ACTIVATIONS for a in network.activations)


HELPERS = r"""
enum { TANH, SIGMOID, RELU, LEAKY_RELU, IDENTITY, GELU, SILU };
enum { OUT_SIGMOID, OUT_SOFTMAX, OUT_IDENTITY, OUT_EXP };
#define KEEPS_Z (ACTIVATION == GELU || ACTIVATION == SILU)
#define EVERY_LANE 0xffffffffu

// The math functions by their own names for each type: no overload is left to the compiler's headers.
__device__ __forceinline__ float m_tanh(float x) { return tanhf(x); }
__device__ __forceinline__ double m_tanh(double x) { return tanh(x); }
__device__ __forceinline__ float m_exp(float x) { return expf(x); }
__device__ __forceinline__ double m_exp(double x) { return exp(x); }
__device__ __forceinline__ float m_log(float x) { return logf(x); }
__device__ __forceinline__ double m_log(double x) { return log(x); }
__device__ __forceinline__ float m_log1p(float x) { return log1pf(x); }
__device__ __forceinline__ double m_log1p(double x) { return log1p(x); }
__device__ __forceinline__ float m_abs(float x) { return fabsf(x); }
__device__ __forceinline__ double m_abs(double x) { return fabs(x); }
// a / b for b in [1, 2], within 2 ulp: the exact one of floats is a call, for which a kernel's registers are put aside.
__device__ __forceinline__ float m_ratio(float a, float b) { return __fdividef(a, b); }
__device__ __forceinline__ double m_ratio(double a, double b) { return a / b; }

__device__ __forceinline__ T sigma(T z) {  // no overflow, and full relative accuracy for very negative z
    T e = m_exp(-m_abs(z));
    return m_ratio(z >= 0 ? (T)1 : e, 1 + e);
}

__device__ __forceinline__ T flat(T z) {  // beyond, tanh is 1 to the last bit, and z^3 would overflow; a NaN stays one
    return z < -GELU_FLAT ? -GELU_FLAT : z > GELU_FLAT ? GELU_FLAT : z;
}

__device__ __forceinline__ T gelu_tanh(T z) { return m_tanh(GELU_C * (z + GELU_K * z * z * z)); }

__device__ __forceinline__ T g(T z) {
    switch (ACTIVATION) {
        case TANH: return m_tanh(z);
        case SIGMOID: return sigma(z);
        case RELU: return z < 0 ? (T)0 : z;  // a NaN stays one
        case LEAKY_RELU: return z > 0 ? z : LEAK * z;
        case GELU: return (T)0.5 * z * (1 + gelu_tanh(flat(z)));
        case SILU: return z * sigma(z);
        default: return z;
    }
}

__device__ __forceinline__ T slope(T x) {  // g', of z where KEEPS_Z, else of a = g(z)
    switch (ACTIVATION) {
        case TANH: return 1 - x * x;
        case SIGMOID: return x * (1 - x);
        case RELU: return x > 0 ? (T)1 : (T)0;
        case LEAKY_RELU: return x > 0 ? (T)1 : LEAK;
        case GELU: {
            T z = flat(x), t = gelu_tanh(z);
            return (T)0.5 * (1 + t) + (T)0.5 * z * (1 - t * t) * GELU_C * (1 + 3 * GELU_K * z * z);
        }
        case SILU: {
            T s = sigma(x);
            return s * (1 + x * (1 - s));
        }
        default: return (T)1;
    }
}

__device__ __forceinline__ T unit(T z) {  // an output unit that looks at its own z alone: all but softmax
    return OUTPUT == OUT_SIGMOID ? sigma(z) : OUTPUT == OUT_EXP ? m_exp(z) : z;
}

__device__ __forceinline__ T unit_loss(T z, T y) {
    if (OUTPUT == OUT_SIGMOID) {
        T size = m_abs(z);
        return (T)0.5 * z + (T)0.5 * size - z * y + m_log1p(m_exp(-size));
    }
    if (OUTPUT == OUT_EXP) return m_exp(z) - y * z;
    return (T)0.5 * (z - y) * (z - y);
}
"""

OF_THE_BLOCK = r"""
// The sum of every thread's value in a fixed order; for thread 0 alone.
__device__ double of_the_block(double value, double* slots) {
    slots[threadIdx.x] = value;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) slots[threadIdx.x] += slots[threadIdx.x + half];
    }
    __syncthreads();
    double sum = slots[0];
    __syncthreads();  // before anybody writes there again
    return sum;
}
"""

KERNELS = {
    "activate": r"""
// A = g(Z + b) of k x n numbers; A may be Z.
extern "C" __global__ void activate(const T* Z, const T* b, T* A, long long total, long long n) {
    const bool narrow = total <= 0xffffffffll;  // a remainder of 32 bits takes a fifth of the time
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += stride) {
        const long long c = narrow ? (long long)((unsigned)i % (unsigned)n) : i % n;
        A[i] = g(Z[i] + b[c]);
    }
}
""",
    "descend": r"""
// D = D * g' in place, and of each segment the sums of its columns, sums[segment * parameters + c].
// X is A, or Z without its bias where KEEPS_Z. A warp goes down 32 columns.
extern "C" __global__ void descend(T* D, const T* X, const T* b, T* sums, long long k, long long segment,
                                   long long parameters, long long n) {
    __shared__ double slots[THREADS];
    const long long c = (long long)blockIdx.x * 32 + threadIdx.x % 32;
    const int high = THREADS / 32, y = threadIdx.x / 32;
    const T bias = KEEPS_Z && c < n ? b[c] : (T)0;
    const long long segments = (k + segment - 1) / segment;
    for (long long part = blockIdx.y; part < segments; part += gridDim.y) {
        const long long end = part * segment + segment < k ? part * segment + segment : k;
        T sum = 0;
        if (c < n) {
            for (long long first = part * segment + y; first < end; first += 4 * high) {
                T d[4], x[4];
                for (int r = 0; r < 4; ++r) {  // all loads before the first store, so that they are under way together
                    const long long i = first + r * high;
                    d[r] = i < end ? D[i * n + c] : (T)0;
                    x[r] = i < end ? X[i * n + c] : (T)0;
                }
                for (int r = 0; r < 4; ++r) {
                    const long long i = first + r * high;
                    if (i < end) {
                        d[r] *= slope(x[r] + bias);
                        D[i * n + c] = d[r];
                        sum += d[r];
                    }
                }
            }
        }
        slots[threadIdx.x] = sum;
        __syncthreads();
        if (y == 0 && c < n) {
            double all = 0;
            for (int row = 0; row < high; ++row) all += slots[row * 32 + threadIdx.x];
            sums[part * parameters + c] = (T)all;
        }
        __syncthreads();  // before anybody writes there again
    }
}
""",
    "output": r"""
// dZ[L] in place of Z[L] (k, n) if backward, and of each segment head = loss, weight. A thread does an example.
extern "C" __global__ void output(T* Z, const T* b, const T* Y, long long y_example, long long y_unit, const T* weight,
                                  double* head, long long k, long long segment, long long n, long long backward) {
    __shared__ double slots[THREADS];
    const long long segments = (k + segment - 1) / segment;
    for (long long part = blockIdx.x; part < segments; part += gridDim.x) {
        const long long end = part * segment + segment < k ? part * segment + segment : k;
        double loss = 0, total = 0;
        for (long long i = part * segment + threadIdx.x; i < end; i += blockDim.x) {
            T* z = Z + i * n;
            const T* y = Y + i * y_example;
            const T s = weight ? weight[i] : (T)1;
            T own = 0, top = 0, sum = 0;
            if (OUTPUT == OUT_SOFTMAX) {
                top = z[0] + b[0];
                for (long long u = 1; u < n; ++u) top = z[u] + b[u] > top ? z[u] + b[u] : top;
                for (long long u = 0; u < n; ++u) {
                    sum += m_exp(z[u] + b[u] - top);
                    own -= y[u * y_unit] * (z[u] + b[u]);
                }
                own = m_log(sum) + (top + own);
            } else {
                for (long long u = 0; u < n; ++u) own += unit_loss(z[u] + b[u], y[u * y_unit]);
            }
            if (s > 0) loss += own * s;  // a weight of 0 leaves out, here and below: 0 * infinity would be NaN
            total += s;
            if (backward) {
                for (long long u = 0; u < n; ++u) {
                    const T own_z = z[u] + b[u];
                    const T yhat = OUTPUT == OUT_SOFTMAX ? m_exp(own_z - top) / sum : unit(own_z);
                    z[u] = s > 0 ? (yhat - y[u * y_unit]) * s : (T)0;
                }
            }
        }
        loss = of_the_block(loss, slots);
        total = of_the_block(total, slots);
        if (threadIdx.x == 0) {
            head[2 * part] = loss;
            head[2 * part + 1] = total;
        }
    }
}
""",
    "tail": r"""
// One output unit: from Z (k, n) of the last hidden layer, without its bias, to that layer's dZ in its place, and of
// each segment head = loss, weight and the end of the row of sums: db[L-1] (n), dW[L] (n), db[L]. w (n) is W[L]. A warp
// does ROWS examples at a time: a lane holds PER units of each, lane + 32 j. If LINEAR Z is X, of any strides; it stays
// as it is, and there is no db[L-1].
extern "C" __global__ void __launch_bounds__(THREADS) tail(
        T* Z, long long z_unit, long long z_example, const T* b, const T* w, const T* b_out, const T* Y,
        long long y_example, const T* weight, double* head, T* sums, long long k, long long segment,
        long long parameters, long long n, long long backward) {
    __shared__ double slots[THREADS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = THREADS / 32;
    const int width = (int)n;
    const int mine = lane % ROWS;  // the example whose output unit this lane does; ROWS is a power of 2
    const T bias_out = b_out[0];
    int column[PER];
    T bias[PER], own_w[PER], dw[PER], db[PER];
    #pragma unroll
    for (int j = 0; j < PER; ++j) {
        const int c = lane + 32 * j;
        column[j] = c < width ? c : 0;
        bias[j] = !LINEAR && c < width ? b[c] : (T)0;
        own_w[j] = c < width ? w[c] : (T)0;
    }
    const long long segments = (k + segment - 1) / segment;
    for (long long part = blockIdx.x; part < segments; part += gridDim.x) {
        const long long end = part * segment + segment < k ? part * segment + segment : k;
        double loss = 0, total = 0, db_out = 0;
        #pragma unroll
        for (int j = 0; j < PER; ++j) dw[j] = db[j] = 0;
        for (long long first = part * segment + warp * ROWS; first < end; first += warps * ROWS) {
            const int here = end - first < ROWS ? (int)(end - first) : ROWS;
            const bool there = mine < here;
            const long long example = first + (there ? mine : 0);
            T* rows = Z + first * (LINEAR ? z_example : n);
            // Each load has an address of its own, whatever n and k, and nothing is computed before the last: under a
            // condition they would go one after another. Beyond n and k stand numbers of the first row: they are not
            // used.
            T x[ROWS][PER], sum[ROWS];  // x: z where KEEPS_Z, else a
            #pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                #pragma unroll
                for (int j = 0; j < PER; ++j) {
                    const int row = r < here ? r : 0;
                    x[r][j] = rows[LINEAR ? row * z_example + column[j] * z_unit : row * width + column[j]];
                }
            }
            const T y = Y[example * y_example];
            const T s = weight ? weight[example] : (T)1;
            #pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                sum[r] = 0;
                #pragma unroll
                for (int j = 0; j < PER; ++j) {
                    x[r][j] += bias[j];
                    const T a = g(x[r][j]);
                    sum[r] += lane + 32 * j < width ? own_w[j] * a : (T)0;
                    if (!KEEPS_Z) x[r][j] = a;
                }
                #pragma unroll
                for (int other = 16; other > 0; other /= 2) sum[r] += __shfl_xor_sync(EVERY_LANE, sum[r], other);
            }
            T z = sum[0];
            #pragma unroll
            for (int r = 1; r < ROWS; ++r) z = mine == r ? sum[r] : z;
            z += bias_out;
            const bool counts = there && s > 0;  // a weight of 0 leaves out: 0 * infinity would be NaN
            const T dz = counts ? (unit(z) - y) * s : (T)0;
            if (lane < ROWS && there) {
                if (counts) loss += unit_loss(z, y) * s;
                total += s;
                db_out += dz;
            }
            if (!backward) continue;
            #pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                const T d = __shfl_sync(EVERY_LANE, dz, r);
                #pragma unroll
                for (int j = 0; j < PER; ++j) {
                    dw[j] += d * (KEEPS_Z ? g(x[r][j]) : x[r][j]);
                    if (LINEAR) continue;
                    const T back = d * own_w[j] * slope(x[r][j]);
                    db[j] += back;
                    if (r < here && lane + 32 * j < width) rows[r * width + column[j]] = back;
                }
            }
        }
        T* const own = sums + part * parameters + parameters - 1 - 2 * n;
        for (int which = 0; which < 2 && backward; ++which) {
            if (LINEAR && which == 0) continue;
            #pragma unroll
            for (int j = 0; j < PER; ++j) {
                slots[threadIdx.x] = which == 0 ? db[j] : dw[j];
                __syncthreads();
                if (warp == 0 && lane + 32 * j < n) {
                    double all = 0;
                    for (int other = 0; other < warps; ++other) all += slots[32 * other + lane];
                    own[which * n + lane + 32 * j] = (T)all;
                }
                __syncthreads();
            }
        }
        db_out = of_the_block(db_out, slots);
        loss = of_the_block(loss, slots);
        total = of_the_block(total, slots);
        if (threadIdx.x == 0) {
            if (backward) own[2 * n] = (T)db_out;
            head[2 * part] = loss;
            head[2 * part + 1] = total;
        }
    }
}
""",
}
