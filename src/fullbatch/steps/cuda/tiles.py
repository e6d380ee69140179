"""Products of small matrices in a warp's registers: by tensor cores at float32's accuracy, in TF32, or without them.

A tile is what one ``mma.sync.m16n8k8`` adds to: 16 rows and 8 columns, four numbers of each lane. With g = lane / 4 and
t = lane % 4 a lane has, of C += A B, as the PTX manual lays them out:

    A (16, 8)   rows g and g + 8, columns t and t + 4
    B (8, 8)    rows t and t + 4, column g
    C (16, 8)   rows g and g + 8, columns 2 t and 2 t + 1

A tensor core takes float32 rounded to TF32, whose significand has 11 bits, and adds up exact products, rounding to
zero. A number is the sum of two such: hi, itself rounded, and lo, what is left of it, rounded; so x y is hi hi + hi lo
+ lo hi within 2^-22 of it. The three are added from the smallest up, from zero for each eight terms, and the sum is
added to the accumulator outside, which rounds to nearest: rounding to zero would go astray the further the longer a sum
is. In double, and on a GPU before Ampere, each lane makes the same tile with multiply-adds of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

PLAIN, TF32, SPLIT = 0, 1, 3  # how products are made: how many a tensor core makes for one; 0: without it


def has_tensor_cores(like: Any) -> bool:
    """Whether its device has those that take TF32: all since Ampere. A NumPy array, in the tests, says nothing."""
    return int(getattr(like.device, "compute_capability", 80)) >= 80


def kind(dtype: Any, tensor_cores: bool, in_tf32: bool) -> int:
    if np.dtype(dtype).name != "float32" or not tensor_cores:
        return PLAIN
    return TF32 if in_tf32 else SPLIT


# What no C++ says. The tests on a CPU have their own in its place.
INSTRUCTIONS = r"""
__device__ __forceinline__ unsigned to_tf32(float x) {
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
}
__device__ __forceinline__ void mma(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
"""

SOURCE = r"""
#define LARGEST (sizeof(T) == 4 ? (T)3.402823466e38 : (T)1.7976931348623157e308)

#if PRODUCTS != 0
// A lane's numbers of a tile as tensor cores take them: hi, and what hi leaves of them. Of an infinity lo is NaN: see
// ``exact``.
struct Left { unsigned hi[4], lo[4]; };
struct Right { unsigned hi[2], lo[2]; };
__device__ __forceinline__ void split(unsigned& hi, unsigned& lo, float x) {
    hi = to_tf32(x) & 0xffffe000u;
    if (PRODUCTS == 3) lo = to_tf32(x - __uint_as_float(hi));
}
__device__ __forceinline__ void get(Left& part, const float* a, int row, int k0, int k1) {
    split(part.hi[0], part.lo[0], a[k0]);
    split(part.hi[1], part.lo[1], a[8 * row + k0]);
    split(part.hi[2], part.lo[2], a[k1]);
    split(part.hi[3], part.lo[3], a[8 * row + k1]);
}
__device__ __forceinline__ void get(Right& part, const float* b, int k0, int k1) {
    split(part.hi[0], part.lo[0], b[k0]);
    split(part.hi[1], part.lo[1], b[k1]);
}

// The tiles of ``sums`` from (first, second) on += A B; the three products of a tile take turns with those of others.
template <int ROWS_A, int COLUMNS_B, int M, int N> __device__ __forceinline__ void add_tiles(
        float (&sums)[M][N][4], int first, int second, const Left (&a)[ROWS_A], const Right (&b)[COLUMNS_B]) {
    float own[ROWS_A][COLUMNS_B][4];
    #pragma unroll
    for (int which = 0; which < 3; ++which) {
        #pragma unroll
        for (int i = 0; i < ROWS_A; ++i) {
            #pragma unroll
            for (int j = 0; j < COLUMNS_B; ++j) {
                if (PRODUCTS == 1) {
                    if (which == 2) mma(sums[first + i][second + j], a[i].hi, b[j].hi);
                    continue;
                }
                if (which == 0) own[i][j][0] = own[i][j][1] = own[i][j][2] = own[i][j][3] = 0;
                mma(own[i][j], which == 0 ? a[i].lo : a[i].hi, which == 1 ? b[j].lo : b[j].hi);
                #pragma unroll
                for (int r = 0; which == 2 && r < 4; ++r) sums[first + i][second + j][r] += own[i][j][r];
            }
        }
    }
}
#endif

// sums (M x 16, N x 8) += A B, over 8 terms for each of ``steps``. A and B are in shared memory: ``row``, ``column``
// and ``term`` are the steps from one to the next there. Tiles of B are ``b_apart`` columns apart, terms of a step to
// those of the next ``k_apart``. If PAIRED a lane takes the terms 2 t and 2 t + 1 in place of t and t + 4, of A and of
// B: the same products in another order, and other banks of the memory.
template <bool PAIRED, int M, int N> __device__ __forceinline__ void add_products(
        T (&sums)[M][N][4], const T* A, int a_row, int a_term, const T* B, int b_column, int b_term, int b_apart,
        int steps, int k_apart) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#if PRODUCTS != 0
    const int k0 = PAIRED ? 2 * t : t, k1 = PAIRED ? 2 * t + 1 : t + 4;
    #pragma unroll 1
    for (int s = 0; s < steps; ++s) {
        const T* const a = A + s * k_apart * a_term + g * a_row;
        const T* const b = B + s * k_apart * b_term + g * b_column;
        // The fewer are held, the others come one after another.
        if (M <= N) {
            Left left[M];
            #pragma unroll
            for (int m = 0; m < M; ++m) get(left[m], a + 16 * m * a_row, a_row, k0 * a_term, k1 * a_term);
            #pragma unroll
            for (int n = 0; n < N; ++n) {
                Right right[1];
                get(right[0], b + n * b_apart * b_column, k0 * b_term, k1 * b_term);
                add_tiles(sums, 0, n, left, right);
            }
        } else {
            Right right[N];
            #pragma unroll
            for (int n = 0; n < N; ++n) get(right[n], b + n * b_apart * b_column, k0 * b_term, k1 * b_term);
            #pragma unroll
            for (int m = 0; m < M; ++m) {
                Left left[1];
                get(left[0], a + 16 * m * a_row, a_row, k0 * a_term, k1 * a_term);
                add_tiles(sums, m, 0, left, right);
            }
        }
    }
#else
    #pragma unroll 1
    for (int s = 0; s < steps; ++s) {
        #pragma unroll 2
        for (int k = 0; k < 8; ++k) {
            const T* const a = A + (s * k_apart + k) * a_term + g * a_row;
            const T* const b = B + (s * k_apart + k) * b_term + 2 * t * b_column;
            T right[N][2];
            #pragma unroll
            for (int n = 0; n < N; ++n) {
                right[n][0] = b[n * b_apart * b_column];
                right[n][1] = b[(n * b_apart + 1) * b_column];
            }
            #pragma unroll
            for (int m = 0; m < M; ++m) {
                const T upper = a[16 * m * a_row], lower = a[(16 * m + 8) * a_row];
                #pragma unroll
                for (int n = 0; n < N; ++n) {
                    sums[m][n][0] += upper * right[n][0];
                    sums[m][n][1] += upper * right[n][1];
                    sums[m][n][2] += lower * right[n][0];
                    sums[m][n][3] += lower * right[n][1];
                }
            }
        }
    }
#endif
}

template <int M, int N> __device__ __forceinline__ void clear(T (&sums)[M][N][4]) {
    #pragma unroll
    for (int m = 0; m < M; ++m) {
        #pragma unroll
        for (int n = 0; n < N; ++n) {
            #pragma unroll
            for (int r = 0; r < 4; ++r) sums[m][n][r] = 0;
        }
    }
}

// z, or where the parts of an infinite factor made it NaN, the product once more as it is: then X decides.
__device__ __forceinline__ T exact(T z, const T* x, long long x_input, const T* w, int inputs) {
    if (PRODUCTS == 0 || m_abs(z) <= LARGEST) return z;
    z = 0;
    #pragma unroll 1
    for (int i = 0; i < inputs; ++i) z += x[i * x_input] * w[i];
    return z;
}
"""
