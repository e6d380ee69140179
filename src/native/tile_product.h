// float32 products by bf16 tiles. A number is cut into three of 8 bits, x = x1 + x2 + x3 with nothing left over, and of the
// nine products of two of them the six largest are added in float32: what is left out is below 2^-26 of the product.
//
//     C[m][n] = start[n] + sum_k A[m][k] B[k][n]
//
// A *pile* holds one operand as the tile instructions want it, tile after tile of 1 kB. The K numbers of a row of A are cut
// into chunks of 32, of which number k and number k + 16 are a pair: so two vectors become one by a shift and an or. A chunk
// has three tiles, of x1, x2 and x3. What is left of K after whole chunks is short, and its six products lie side by side in
// as few tiles as they fit into. Numbers past the last one are 0.
#pragma once

#include "tiles.h"
#include "vector.h"

namespace {

// Rows of X that will be read soon, of which some are asked for with each chunk of a product: all at once they would be waited
// for. Row e begins at X + (order == NULL ? e : order[e]) * step.
struct Soon {
    const char* X;
    const int64_t* order;
    int64_t step, row, stop, bytes;  // the step in bytes
    int64_t at = 0, each = 1024;     // bytes that are asked for with a chunk

    FB_INLINE void ask() {
        if (row >= stop) return;
        const char* from = X + (order == nullptr ? row : order[row]) * step + at;
        for (int64_t i = 0; i < each; i += 64) __builtin_prefetch(from + i, 0, 2);  // which may be past its end
        at += each;
        if (at < bytes) return;
        at = 0;
        row++;
    }
};

}  // namespace

#if FB_TILES
namespace {

constexpr int64_t TILE_K = 2 * TILE_SIDE;
constexpr int PARTS = 3, PRODUCTS = 6;
constexpr int PART_OF_A[PRODUCTS] = {0, 0, 1, 1, 2, 0}, PART_OF_B[PRODUCTS] = {2, 1, 1, 0, 0, 0};  // small ones first
constexpr uint32_t TAME = 0x58800000;  // 2^50: sums of products below it do not overflow

typedef float Line16 __attribute__((vector_size(64), may_alias));
typedef float Line16Anywhere __attribute__((vector_size(64), may_alias, aligned(4)));
typedef uint32_t Bits16 __attribute__((vector_size(64), may_alias));
typedef uint32_t Bits16Anywhere __attribute__((vector_size(64), may_alias, aligned(4)));

// How K is cut: whole chunks, and of what is left pairs (half), of whose products so many (side) fit into a tile.
struct Cut {
    int64_t K, chunks;
    int half, side, tail;  // tail: tiles

    explicit Cut(int64_t numbers)
        : K(numbers), chunks(numbers / TILE_K), half(int(numbers % TILE_K + 1) / 2), side(0), tail(0) {
        if (half == 0) return;
        side = TILE_SIDE / half < PRODUCTS ? TILE_SIDE / half : PRODUCTS;
        tail = (PRODUCTS + side - 1) / side;
    }
    int64_t tiles() const { return chunks * PARTS + tail; }
    int64_t bytes() const { return tiles() * TILE_BYTES; }  // of 16 rows of A or columns of B
    int rest() const { return int(K - chunks * TILE_K); }
};

// 16 numbers in three parts; each has the upper half of its bits alone.
struct Parts {
    Bits16 part[PARTS];
};
FB_INLINE Bits16 head_of(Line16 x) { return (Bits16(x) + 0x8000) & 0xffff0000; }
FB_INLINE Parts parts_of(Line16 x) {
    Parts cut;
    cut.part[0] = head_of(x);
    const Line16 rest = x - Line16(cut.part[0]);
    cut.part[1] = head_of(rest);
    cut.part[2] = Bits16(rest - Line16(cut.part[1]));  // which has no more bits
    return cut;
}

// Both in one, the first in the lower half of each pair.
FB_INLINE Bits16 paired(Bits16 a, Bits16 b) { return (a >> 16) | (b & 0xffff0000); }
FB_INLINE void put(char* to, Bits16 v) { *reinterpret_cast<Bits16*>(to) = v; }

FB_INLINE Line16 line(const float* p) { return *reinterpret_cast<const Line16Anywhere*>(p); }
FB_INLINE Line16 first_of_line(const float* p, int n) {  // up to all 16, and zeros
#if defined(__AVX512F__)
    return Line16(_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p));
#else
    Line16 v = {};
    for (int i = 0; i < n; i++) v[i] = p[i];
    return v;
#endif
}

// A chunk's row of a pile: of the numbers a and, as pairs, b.
FB_INLINE void put_chunk(char* to, Line16 a, Line16 b) {
    const Parts x = parts_of(a), y = parts_of(b);
    for (int s = 0; s < PARTS; s++) put(to + s * TILE_BYTES, paired(x.part[s], y.part[s]));
}

// ---- B: rows of 16 numbers -----------------------------------------------------------------------------------------------

// Of 16 columns, of which row k is ``row(k)``: the chunk that begins with row k, and the rows after the last whole chunk.
template <class Row>
FB_INLINE void pile_chunk(int64_t k, Row row, char* to) {
    for (int p = 0; p < TILE_SIDE; p++) put_chunk(to + p * 64, row(k + p), row(k + p + TILE_SIDE));
}
template <class Row>
FB_INLINE void pile_rest_of_columns(const Cut& cut, Row row, char* to) {
    const int64_t k = cut.chunks * TILE_K;
    for (int p = 0; p < cut.half; p++) {
        const Parts x = parts_of(row(k + p));
        const Parts y = parts_of(p + cut.half < cut.rest() ? row(k + p + cut.half) : Line16{});
        for (int q = 0; q < PRODUCTS; q++) {
            const int part = PART_OF_B[q];
            put(to + q / cut.side * TILE_BYTES + (q % cut.side * cut.half + p) * 64, paired(x.part[part], y.part[part]));
        }
    }
}

// All of them; ``there`` says how many rows are not zeros.
template <class Row>
FB_INLINE void pile_columns(const Cut& cut, int64_t there, Row row, char* to) {
    const auto row_or_zeros = [&](int64_t k) __attribute__((always_inline)) { return k < there ? row(k) : Line16{}; };
    for (int64_t chunk = 0; chunk < cut.chunks; chunk++, to += PARTS * TILE_BYTES) pile_chunk(chunk * TILE_K, row_or_zeros, to);
    pile_rest_of_columns(cut, row_or_zeros, to);
}

// ---- A: a row of K numbers -------------------------------------------------------------------------------------------------

FB_INLINE Bits16 larger_bits(Bits16 most, Line16 x) {
    const Bits16 bits = Bits16(x) & 0x7fffffff;
    return most > bits ? most : bits;
}
FB_INLINE uint32_t largest_of(Bits16 bits) {
    uint32_t top = 0;
    for (int i = 0; i < TILE_SIDE; i++) top = top > bits[i] ? top : bits[i];
    return top;
}

// What is left of a row after whole chunks, at x; ``most`` is the largest |x| so far, as bits.
FB_INLINE Bits16 pile_rest(const Cut& cut, const float* x, char* to, Bits16 most) {
    const Line16 a = first_of_line(x, cut.half), b = first_of_line(x + cut.half, cut.rest() - cut.half);
    most = larger_bits(larger_bits(most, a), b);
    const Parts u = parts_of(a), v = parts_of(b);
    for (int tile = 0, q = 0; tile < cut.tail; tile++, to += TILE_BYTES) {
        alignas(64) uint32_t row[2 * TILE_SIDE] = {};
        for (int at = 0; at < cut.side && q < PRODUCTS; at++, q++) {  // each writes zeros behind it, for the next one
            const Bits16 pairs = paired(u.part[PART_OF_A[q]], v.part[PART_OF_A[q]]);
            *reinterpret_cast<Bits16Anywhere*>(row + at * cut.half) = pairs;
        }
        put(to, *reinterpret_cast<const Bits16*>(row));
    }
    return most;
}

// ``rows`` rows from ``row(r)`` on, filled up to whole tiles with zeros: tiles of rows 0 ... 15, of 16 ... 31, and so on.
// False where a number is not tame.
template <class Row>
FB_INLINE bool pile_rows(const Cut& cut, int64_t rows, Row row, char* to) {
    Bits16 most = {};
    for (int64_t first = 0; first < rows; first += TILE_SIDE) {
        const int64_t count = rows - first < TILE_SIDE ? rows - first : TILE_SIDE;
        if (count < TILE_SIDE) memset(to, 0, size_t(cut.bytes()));
        const float* from[TILE_SIDE];
        for (int64_t r = 0; r < count; r++) from[r] = row(first + r);
        for (int64_t chunk = 0; chunk < cut.chunks; chunk++, to += PARTS * TILE_BYTES) {
            for (int64_t r = 0; r < count; r++) {
                const float* x = from[r] + chunk * TILE_K;
                const Line16 a = line(x), b = line(x + TILE_SIDE);
                put_chunk(to + r * 64, a, b);
                most = larger_bits(larger_bits(most, a), b);
            }
        }
        for (int64_t r = 0; cut.half > 0 && r < count; r++) {
            most = pile_rest(cut, from[r] + cut.chunks * TILE_K, to + r * 64, most);
        }
        to += cut.tail * TILE_BYTES;
    }
    return largest_of(most) < TAME;
}

FB_INLINE void transpose_lines(Line16* x) {
#if defined(__AVX512F__)
    transpose(reinterpret_cast<V<float>*>(x));
#else
    for (int i = 0; i < TILE_SIDE; i++) {
        for (int k = 0; k < i; k++) {
            const float swapped = x[i][k];
            x[i][k] = x[k][i];
            x[k][i] = swapped;
        }
    }
#endif
}

// The pile of A^T: rows are the n columns of A (there, n), and K is a whole number of chunks of its rows.
inline void pile_transposed(const Cut& cut, const float* A, int64_t step, int64_t there, int64_t n, char* to) {
    for (int64_t first = 0; first < n; first += TILE_SIDE, to += cut.bytes()) {
        const auto block = [&](int64_t k, Line16* x) __attribute__((always_inline)) {
            const int columns = n - first < TILE_SIDE ? int(n - first) : TILE_SIDE;
            for (int e = 0; e < TILE_SIDE; e++)
                x[e] = k + e < there ? first_of_line(A + (k + e) * step + first, columns) : Line16{};
            transpose_lines(x);
        };
        for (int64_t chunk = 0; chunk < cut.chunks; chunk++) {
            Line16 a[TILE_SIDE], b[TILE_SIDE];
            block(chunk * TILE_K, a);
            block(chunk * TILE_K + TILE_SIDE, b);
            for (int r = 0; r < TILE_SIDE; r++) put_chunk(to + chunk * PARTS * TILE_BYTES + r * 64, a[r], b[r]);
        }
    }
}

// ---- the product -----------------------------------------------------------------------------------------------------------

// Asks for tiles that will be read next, to be there by then: not into the nearest cache.
FB_INLINE void fetch_tiles(const char* from, int tiles) {
    for (int i = 0; i < tiles * TILE_BYTES; i += 64) __builtin_prefetch(from + i, 0, 2);
}

// 16 M rows by 16 N columns: the registers' 4 sums, 2 tiles of A and 2 of B. a2 and b2 are the second ones; start is a row
// of 16 N numbers, NULL for zeros, or C itself. ``ahead``: as many tiles as b has, which are asked for meanwhile, as
// what is read ``soon`` is.
template <int M, int N>
FB_INLINE void tile_block(
    const Cut& cut, const char* a, const char* b, const float* start, float* C, int64_t step, const char* ahead, Soon* soon
) {
    const int64_t start_step = start == C ? step : 0;
    const char *a2 = a + cut.bytes(), *b2 = b + cut.bytes();
    FB_TILES_FENCE();
    if (start == nullptr) {
        FB_TILE_ZERO(0);
        if constexpr (N == 2) FB_TILE_ZERO(1);
        if constexpr (M == 2) FB_TILE_ZERO(2);
        if constexpr (M == 2 && N == 2) FB_TILE_ZERO(3);
    } else {
        [[maybe_unused]] const float* below = start + TILE_SIDE * start_step;
        FB_TILE_LOAD(0, start, start_step * 4);
        if constexpr (N == 2) FB_TILE_LOAD(1, start + TILE_SIDE, start_step * 4);
        if constexpr (M == 2) FB_TILE_LOAD(2, below, start_step * 4);
        if constexpr (M == 2 && N == 2) FB_TILE_LOAD(3, below + TILE_SIDE, start_step * 4);
    }
#define FB_A(at)                                              \
    do {                                                      \
        FB_TILE_LOAD(4, a + (at), 64);                        \
        if constexpr (M == 2) FB_TILE_LOAD(5, a2 + (at), 64); \
    } while (0)
#define FB_B(at)                                              \
    do {                                                      \
        FB_TILE_LOAD(6, b + (at), 64);                        \
        if constexpr (N == 2) FB_TILE_LOAD(7, b2 + (at), 64); \
    } while (0)
#define FB_DOTS()                                             \
    do {                                                      \
        FB_TILE_DOT(0, 4, 6);                                 \
        if constexpr (N == 2) FB_TILE_DOT(1, 4, 7);           \
        if constexpr (M == 2) FB_TILE_DOT(2, 5, 6);           \
        if constexpr (M == 2 && N == 2) FB_TILE_DOT(3, 5, 7); \
    } while (0)
    int64_t at = 0;
    for (int64_t chunk = 0; chunk < cut.chunks; chunk++, at += PARTS * TILE_BYTES) {
        if (ahead != nullptr) fetch_tiles(ahead + at, PARTS);
        if (soon != nullptr) soon->ask();
        FB_A(at);  // the six products, small ones first, in an order that loads one operand at a time
        FB_B(at + 2 * TILE_BYTES);
        FB_DOTS();
        FB_B(at + TILE_BYTES);
        FB_DOTS();
        FB_A(at + TILE_BYTES);
        FB_DOTS();
        FB_B(at);
        FB_DOTS();
        FB_A(at + 2 * TILE_BYTES);
        FB_DOTS();
        FB_A(at);
        FB_DOTS();
    }
    for (int tile = 0; tile < cut.tail; tile++, at += TILE_BYTES) {
        if (ahead != nullptr) fetch_tiles(ahead + at, 1);
        FB_A(at);
        FB_B(at);
        FB_DOTS();
    }
#undef FB_A
#undef FB_B
#undef FB_DOTS
    FB_TILE_STORE(0, C, step * 4);
    if constexpr (N == 2) FB_TILE_STORE(1, C + TILE_SIDE, step * 4);
    if constexpr (M == 2) FB_TILE_STORE(2, C + TILE_SIDE * step, step * 4);
    if constexpr (M == 2 && N == 2) FB_TILE_STORE(3, C + TILE_SIDE * step + TILE_SIDE, step * 4);
    FB_TILES_FENCE();
}

// ``N`` tiles of columns, 1 or 2, and all ``M`` of rows; C has 16 M rows, to which is added where it is ``start`` too. more:
// whether tiles of columns follow.
inline void tile_panel(
    const Cut& cut, const char* a, int64_t M, const char* b, int N, const float* start, float* C, int64_t step, bool more,
    Soon* soon = nullptr
) {
    const bool adds = start == C;
    for (int64_t m = 0; m < M; m += 2, a += 2 * cut.bytes(), C += 2 * TILE_SIDE * step) {
        if (adds) start = C;
        const char* ahead = more && m < 4 ? b + (2 + m / 2) * cut.bytes() : nullptr;
        if (m + 1 < M && N == 2) tile_block<2, 2>(cut, a, b, start, C, step, ahead, soon);
        else if (m + 1 < M) tile_block<2, 1>(cut, a, b, start, C, step, ahead, soon);
        else if (N == 2) tile_block<1, 2>(cut, a, b, start, C, step, ahead, soon);
        else tile_block<1, 1>(cut, a, b, start, C, step, ahead, soon);
    }
}

}  // namespace
#endif
