// The products of a wide layer that leave out zeros: those of X, of pixels, counts or 0/1 columns most are; and, in
// mini-batches, those of hidden units that are off, which of a trained relu's are six to eight in ten.
//
// A 0 adds exactly nothing to a sum, and the order of the others stays, so the bits are those of the dense products and
// which tile is worth it is a question of speed alone; but for a layer that takes tiles (tile_layers.h), whose bits are others.
// But 0 * infinity is NaN: W and dZ have to be finite. And -0 + 0 is 0: a z of -0, from a bias of -0 or an underflow, may stay
// -0 here; no sum, gradient or cost can tell, a linear output can.
#pragma once

#include <stdint.h>

#include "product.h"

namespace {

constexpr int64_t WORD = 64;  // bits; and a tile has no more examples
constexpr int CHUNK = 8;      // vectors of units that are summed at once, in registers

// Which numbers of a tile of X (rows, n) are not 0; NaN is not.
struct NonZero {
    uint64_t* by_example;  // [rows][words]: feature i is bit i % WORD of word i / WORD
    uint64_t* by_feature;  // [words * WORD]: example e is bit e
    int64_t words;
};

FB_INLINE int64_t words_for(int64_t n) { return (n + WORD - 1) / WORD; }

// Bit k of word e becomes bit e of word k: halves of blocks change places, of half the size each time.
template <int HALF>
FB_INLINE void swap_halves(uint64_t* words, uint64_t low) {
    for (int block = 0; block < WORD; block += 2 * HALF) {
        for (int k = block; k < block + HALF; k++) {
            const uint64_t swapped = ((words[k] >> HALF) ^ words[k + HALF]) & low;
            words[k] ^= swapped << HALF;
            words[k + HALF] ^= swapped;
        }
    }
}
FB_INLINE void transpose(uint64_t* words) {
    swap_halves<32>(words, 0x00000000ffffffff);
    swap_halves<16>(words, 0x0000ffff0000ffff);
    swap_halves<8>(words, 0x00ff00ff00ff00ff);
    swap_halves<4>(words, 0x0f0f0f0f0f0f0f0f);
    swap_halves<2>(words, 0x3333333333333333);
    swap_halves<1>(words, 0x5555555555555555);
}

// Fills ``to``, by_feature where there is room for it, from a tile whose rows are filled up to whole vectors with zeros.
// Returns how many there are.
template <class T>
int64_t find_nonzero(const T* X, int64_t step, int64_t n, int64_t rows, NonZero to) {
    constexpr int lanes = vec<T>::lanes;
    int64_t count = 0;
    for (int64_t word = 0; word < to.words; word++) {
        const int64_t width = n - word * WORD < WORD ? n - word * WORD : WORD;
        uint64_t unwanted[WORD], *columns = to.by_feature == nullptr ? unwanted : to.by_feature + word * WORD;
        for (int64_t e = 0; e < WORD; e++) {
            uint64_t bits = 0;
            const T* x = X + e * step + word * WORD;
            for (int64_t i = 0; e < rows && i < width; i += lanes) bits |= uint64_t(nonzero_lanes(load(x + i))) << i;
            if (e < rows) to.by_example[e * to.words + word] = bits;
            columns[e] = bits;
            count += __builtin_popcountll(bits);
        }
        if (to.by_feature != nullptr) transpose(columns);
    }
    return count;
}

// VN vectors of a layer's panels from vector ``first`` on, of row i of n: where vector v is. An odd last one has a panel of
// its own.
template <class T, int VN>
struct PanelRow {
    T *pairs, *last;
    int64_t panel;

    PanelRow(T* panels, int first, int64_t n, int64_t i)
        : pairs(panels + first * vec<T>::lanes * n + i * WIDTH * vec<T>::lanes),
          last(panels + (first + VN - 1) * vec<T>::lanes * n + i * vec<T>::lanes),
          panel(WIDTH * vec<T>::lanes * n) {}

    FB_INLINE T* at(int v, int64_t i) const {
        constexpr int lanes = vec<T>::lanes;
        if (VN % WIDTH == 1 && v == VN - 1) return last + i * lanes;
        return pairs + v / WIDTH * panel + i * WIDTH * lanes + v % WIDTH * lanes;
    }
};

// Z (rows, VN vectors of units), WORD inputs after another: their part of W stays in the nearest cache for all rows.
template <class T, int VN>
void forward_nonzero(
    T* W, const T* b, int64_t n, const T* X, int64_t x_step, const NonZero& nonzero, T* Z, int64_t z_step, int64_t rows,
    int first
) {
    constexpr int lanes = vec<T>::lanes;
    for (int64_t word = 0; word < nonzero.words; word++) {
        const PanelRow<T, VN> w(W, first, n, word * WORD);
        for (int64_t e = 0; e < rows; e++) {
            T* z = Z + e * z_step + first * lanes;
            const T* x = X + e * x_step + word * WORD;
            V<T> sums[VN];
            for (int v = 0; v < VN; v++) sums[v] = load((word == 0 ? b + first * lanes : z) + v * lanes);
            for (uint64_t bits = nonzero.by_example[e * nonzero.words + word]; bits != 0; bits &= bits - 1) {
                const int64_t i = __builtin_ctzll(bits);
                const V<T> a = broadcast(x[i]);
                for (int v = 0; v < VN; v++) sums[v] = fma(a, load(w.at(v, i)), sums[v]);
            }
            for (int v = 0; v < VN; v++) store(z + v * lanes, sums[v]);
        }
    }
}

// dW += inputs^T dZ of one tile, of ``count`` inputs from ``from`` on, in panels of ``dW_inputs`` rows.
template <class T, int VN>
void weights_nonzero(
    const T* X, int64_t x_step, const NonZero& nonzero, const T* dZ, int64_t step, int64_t from, int64_t count, T* dW,
    int64_t dW_inputs, int first
) {
    constexpr int lanes = vec<T>::lanes;
    const PanelRow<T, VN> sum(dW, first, dW_inputs, 0);
    for (int64_t i = 0; i < count; i++) {
        V<T> sums[VN] = {};
        for (uint64_t bits = nonzero.by_feature[from + i]; bits != 0; bits &= bits - 1) {
            const int64_t e = __builtin_ctzll(bits);
            const V<T> a = broadcast(X[e * x_step + from + i]);
            const T* d = dZ + e * step + first * lanes;
            for (int v = 0; v < VN; v++) sums[v] = fma(a, load(d + v * lanes), sums[v]);
        }
        for (int v = 0; v < VN; v++) store(sum.at(v, i), load(sum.at(v, i)) + sums[v]);
    }
}

// ``call`` with the number of vectors, 1 ... CHUNK, as a type: call(Count<3>()).
template <int N>
struct Count {
    static constexpr int value = N;
};
template <int N = CHUNK, class Call>
FB_INLINE void with_count(int n, Call call) {
    if constexpr (N > 0) {
        if (n == N) call(Count<N>());
        else with_count<N - 1>(n, call);
    }
}

}  // namespace
