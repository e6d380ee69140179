// The register tile that all products are made of: R rows by VN vectors of
//
//     C[r][v] = start[v] + sum_k A(r, k) B[k][v]
//
// A is read one number at a time and broadcast, B is read in vectors. With A and B chosen as follows it is each of the
// three products of the pass (examples e, inputs i, units j):
//
//     forward   Z[e][j]   = b[j] + sum_i A_prev[e][i] W[i][j]      rows e, vectors of j
//     backward  dA[e][i]  =        sum_j dZ[e][j] W[j][i]          rows e, vectors of i
//     weights   dW[i][j] +=        sum_e A_prev[e][i] dZ[e][j]     rows i, vectors of j
//
// 14 x 2 accumulators, two vectors of B and one broadcast number fill the 32 registers of AVX-512 and NEON; 6 x 2 the 16
// of AVX2 and SSE.
#pragma once

#include <stdint.h>

#include "vector.h"

namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int ROWS = 14;
#else
constexpr int ROWS = 6;
#endif
constexpr int WIDTH = 2;      // vectors of a panel
constexpr int64_t FAR = 256;  // rows of C whose sums have left the nearest cache by the time that more is added to them

enum Store { SET, ADD };

// Half a vector: for a panel whose last vector is at most half full. Zen 4 does two halves of AVX-512 in the time of one
// vector; narrower registers gain nothing by it. Four rows in the quarters of one vector, for the last four of 100 units, took
// as long: to spread four numbers over the quarters costs what fewer products save.
#if FB_VECTOR_BYTES == 64
constexpr bool HALVES = true;
#else
constexpr bool HALVES = false;
#endif
template <class T>
struct half_vector {
    typedef T type __attribute__((vector_size(FB_VECTOR_BYTES / (HALVES ? 2 : 1))));
};

template <class Vec, class T>
FB_INLINE Vec load_as(const T* p) {
    Vec v;
    __builtin_memcpy(&v, __builtin_assume_aligned(p, sizeof v), sizeof v);
    return v;
}
template <class Vec, class T>
FB_INLINE void store_as(T* p, Vec v) {
    __builtin_memcpy(__builtin_assume_aligned(p, sizeof v), &v, sizeof v);
}

// What becomes of a sum before it is stored: nothing, or a hidden unit's g (units.h).
struct AsItIs {
    template <class Vec>
    static FB_INLINE Vec g(Vec sum) {
        return sum;
    }
};

template <class Unit>
constexpr bool is_unit = true;
template <>
constexpr bool is_unit<AsItIs> = false;

// A(r, k) is A[r + k * A_step] if UNIT_ROWS, else A[r * A_step + k]. Aligned to vectors: B, whose next k is B_step on, and
// C, whose next row is C_step on. STORE says whether the sums start from ``start`` and replace C, or from 0 and are added
// to C: a tile of examples at a time, which keeps float32 sums short. Vec may be half a vector; the other is set to 0 then.
template <class Vec, class T, int R, int VN, Store STORE, bool UNIT_ROWS, class Unit>
void tile(const T* A, int64_t A_step, const T* B, int64_t B_step, int64_t K, const T* start, T* C, int64_t C_step) {
    constexpr int lanes = sizeof(Vec) / sizeof(T);
    Vec sums[R][VN];
    for (int v = 0; v < VN; v++) {
        Vec first = STORE == SET ? load_as<Vec>(start + v * lanes) : Vec{};
        for (int r = 0; r < R; r++) sums[r][v] = first;
    }
    // One of A's two steps is 1, which is a constant for the compiler.
    if (K < 1) __builtin_unreachable();  // or the compiler keeps the sums in memory too, for a loop that is not entered
    const int64_t row_step = UNIT_ROWS ? 1 : A_step, k_step = UNIT_ROWS ? A_step : 1;
    for (int64_t k = 0; k < K; k++, A += k_step, B += B_step) {
        Vec b[VN];
        for (int v = 0; v < VN; v++) b[v] = load_as<Vec>(B + v * lanes);
        for (int r = 0; r < R; r++) {
            const Vec a = A[r * row_step] - Vec{};  // broadcast
            for (int v = 0; v < VN; v++) sums[r][v] = fma(a, b[v], sums[r][v]);
        }
    }
    for (int r = 0; r < R; r++) {
        for (int v = 0; v < VN; v++) {
            T* c = C + r * C_step + v * lanes;
            store_as(c, STORE == ADD ? load_as<Vec>(c) + sums[r][v] : Unit::g(sums[r][v]));
            if (STORE == SET && lanes < vec<T>::lanes) store_as(c + lanes, Vec{});
        }
    }
}

// The tile of R rows for each R = 1 ... ROWS.
template <class Vec, class T, int VN, Store STORE, bool UNIT_ROWS, class Unit, int R = ROWS>
struct Tiles {
    static FB_INLINE void run(
        int64_t rows, const T* A, int64_t A_step, const T* B, int64_t B_step, int64_t K, const T* start, T* C, int64_t C_step
    ) {
        if (rows == R) tile<Vec, T, R, VN, STORE, UNIT_ROWS, Unit>(A, A_step, B, B_step, K, start, C, C_step);
        else Tiles<Vec, T, VN, STORE, UNIT_ROWS, Unit, R - 1>::run(rows, A, A_step, B, B_step, K, start, C, C_step);
    }
};
template <class Vec, class T, int VN, Store STORE, bool UNIT_ROWS, class Unit>
struct Tiles<Vec, T, VN, STORE, UNIT_ROWS, Unit, 0> {
    static FB_INLINE void run(int64_t, const T*, int64_t, const T*, int64_t, int64_t, const T*, T*, int64_t) {}
};

// A panel: any number of rows by one or two vectors, of which ``columns`` numbers are wanted; two where a unit's g is made of
// them. Tiles of nearly equal height.
template <class T, Store STORE, bool UNIT_ROWS, class Unit = AsItIs>
void panel(
    int64_t rows, int columns, const T* A, int64_t A_step, const T* B, int64_t B_step, int64_t K, const T* start, T* C,
    int64_t C_step
) {
    using Half = typename half_vector<T>::type;
    constexpr int lanes = vec<T>::lanes;
    const int64_t parts = (rows + ROWS - 1) / ROWS;
    for (int64_t part = 0; part < parts; part++) {
        const int64_t first = rows * part / parts, count = rows * (part + 1) / parts - first;
        const T* a = A + first * (UNIT_ROWS ? 1 : A_step);
        T* c = C + first * C_step;
        for (int64_t r = 0; STORE == ADD && rows >= FAR && r < count; r++) {
            for (int v = 0; v * lanes < columns; v++) __builtin_prefetch(c + r * C_step + v * lanes);
        }
        if (columns > lanes) Tiles<V<T>, T, 2, STORE, UNIT_ROWS, Unit>::run(count, a, A_step, B, B_step, K, start, c, C_step);
        if constexpr (!is_unit<Unit>) {
            if (columns > lanes) continue;
            if (HALVES && columns <= lanes / 2)
                Tiles<Half, T, 1, STORE, UNIT_ROWS, Unit>::run(count, a, A_step, B, B_step, K, start, c, C_step);
            else Tiles<V<T>, T, 1, STORE, UNIT_ROWS, Unit>::run(count, a, A_step, B, B_step, K, start, c, C_step);
        }
    }
}

}  // namespace
