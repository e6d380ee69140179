// One layer's weights as the kernels want them, and the three products of the pass on some rows of examples.
//
// A hidden array lives example by example, each row filled up to whole vectors with zeros. A *wide* layer is made of
// register tiles, its weights in panels of two vectors of units. A *narrow* one, the last layer where it has only a few
// units, would leave most lanes of a vector empty: it is made of dot products along its inputs instead.
#pragma once

#include <stdlib.h>
#include <string.h>

#include "tile_product.h"
#include "units.h"
#include "zeros.h"

namespace {

FB_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
FB_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

template <class T>
FB_INLINE int vectors_for(int64_t n) {
    return int((n + vec<T>::lanes - 1) / vec<T>::lanes);
}

// From one row to the next: whole cache lines, but no multiple of 8 of them, or a tile's rows would share a few of the
// cache's sets.
template <class T>
FB_INLINE int64_t row_step(int64_t n) {
    constexpr int64_t line = 64 / sizeof(T);
    const int64_t lines = (n + line - 1) / line;
    return (lines % 8 == 0 ? lines + 1 : lines) * line;
}

// Of n numbers, whole vectors.
template <class T>
bool all_finite(const T* numbers, int64_t n) {
    V<T> zero = {};  // or NaN
    for (int64_t i = 0; i < n; i += vec<T>::lanes) zero += load(numbers + i) - load(numbers + i);
    return sum(zero) == 0;
}

// Zeros on a cache line of their own, or NULL. malloc's rules for a size of 0 are avoided.
template <class T>
T* zeros(int64_t n) {
    const size_t bytes = (size_t(n) * sizeof(T) + 127) / 64 * 64;
    void* p = aligned_alloc(64, bytes);
    if (p != nullptr) memset(p, 0, bytes);
    return static_cast<T*>(p);
}

// Numbers at ``first``, first + step, ...
struct Line {
    int64_t first, step;
};

template <class T>
struct Layer {
    int64_t inputs, units;
    bool narrow;
    int activation;  // -1 in the output layer
    int vectors;     // of units in a wide layer, of inputs in a narrow one
    int tail;        // units in the last vector
    // Wide: panels of vectors 0-1, 2-3, ... of units, each panel [inputs][its lanes]. Narrow: [units][vectors * lanes].
    T* W;
    T* b;     // to whole vectors
    T* back;  // W^T, in panels of vectors of inputs, each [units][its lanes]: for dA. NULL in the first layer
    int back_vectors;
    // For products by tiles, see tile_layers.h, and NULL where there are none: W, W^T, and dW with a row for each unit.
    char *pile, *back_pile;
    T* turned;

    // Vectors of the panel that starts at vector v, and how many of its numbers belong to units.
    int panel_width(int v) const { return v + WIDTH <= vectors ? WIDTH : 1; }
    int panel_columns(int v) const {
        const int count = panel_width(v);
        return v + count < vectors ? count * vec<T>::lanes : (count - 1) * vec<T>::lanes + tail;
    }

    // Where the weights of input i begin in the panel of a wide layer that starts at vector v.
    int64_t at(int v, int64_t i) const { return (v * inputs + i * panel_width(v)) * vec<T>::lanes; }

    int64_t weights() const { return (narrow ? units : inputs) * vectors * vec<T>::lanes; }
    int64_t biases() const { return int64_t(vectors_for<T>(units)) * vec<T>::lanes; }

    Line row(int64_t j) const {  // W[j][0], W[j][1], ...
        if (narrow) return {j * vectors * vec<T>::lanes, 1};
        return column(j, inputs, vectors);
    }
    Line back_column(int64_t i) const { return column(i, units, back_vectors); }  // W[0][i], W[1][i], ... in ``back``

    // Column n of panels over n, each panel [K][its lanes].
    static Line column(int64_t n, int64_t K, int vectors) {
        constexpr int64_t lanes = vec<T>::lanes;
        const int64_t first = n / (WIDTH * lanes) * WIDTH;  // vector
        const int64_t width = first + WIDTH <= vectors ? WIDTH : 1;
        return {first * lanes * K + n - first * lanes, width * lanes};
    }
};

// ``call`` with (j, first, last) for a few inputs at a time of every unit j: what lies by inputs on one side and by units on
// the other passes through the nearest cache once.
template <class T, class Call>
FB_INLINE void in_squares(const Layer<T>& layer, Call call) {
    constexpr int64_t SIDE = 64;
    for (int64_t first = 0; first < layer.inputs; first += SIDE) {
        for (int64_t j = 0; j < layer.units; j++) call(j, first, smaller(first + SIDE, layer.inputs));
    }
}

// From theta's W (units, inputs) and b, row after row; returns what follows.
template <class T>
const T* pack(Layer<T>& layer, const T* theta) {
    in_squares(layer, [&](int64_t j, int64_t first, int64_t last) __attribute__((always_inline)) {
        const Line row = layer.row(j);
        for (int64_t i = first; i < last; i++) {
            const T w = theta[j * layer.inputs + i];
            layer.W[row.first + i * row.step] = w;
            if (layer.back == nullptr) continue;
            const Line column = layer.back_column(i);
            layer.back[column.first + j * column.step] = w;
        }
    });
    theta += layer.units * layer.inputs;
    memcpy(layer.b, theta, size_t(layer.units) * sizeof(T));
    return theta + layer.units;
}

// W^T once more for inputs first ... first + count, after W has changed.
template <class T>
void refresh_back(const Layer<T>& layer, int64_t first, int64_t count) {
    for (int64_t j = 0; j < layer.units; j++) {
        const Line row = layer.row(j);
        for (int64_t i = first; i < first + count; i++) {
            const Line column = layer.back_column(i);
            layer.back[column.first + j * column.step] = layer.W[row.first + i * row.step];
        }
    }
}

// How a layer's inputs for some examples lie. Number (e, i) is p[e * step + i], or p[i * step + e] if BY_FEATURE. Both fill
// up each row to whole vectors with zeros; IN_PLACE are examples of the caller's own X, of which nothing more may be read.
enum Layout { BY_EXAMPLE, BY_FEATURE, IN_PLACE };

template <class T>
struct Rows {
    const T* p;
    int64_t step;
    Layout layout;
    const NonZero* nonzero = nullptr;  // of a tile BY_EXAMPLE whose zeros are to be left out
    int64_t ahead = 0;                 // IN_PLACE: the examples of the next tile, which are asked for while these are read
    const int64_t* order = nullptr;    // IN_PLACE, of all of p the ones that are meant: by tiles alone

    FB_INLINE const T* row(int64_t r) const { return p + (order == nullptr ? r : order[r]) * step; }
};

// Zeros are looked for where a layer has at least a word of inputs, and left out of a tile where that is faster. A number
// costs a product for each vector of units; one that is picked out costs three more, and the search about one for each.
template <class T>
bool may_leave_out_zeros(const Layer<T>& layer) {
    return !layer.narrow && layer.vectors > 1 && layer.inputs >= WORD;
}
template <class T>
bool are_many_zeros(const Layer<T>& layer, int64_t numbers, int64_t nonzero) {
    const int64_t products = smaller(layer.vectors, CHUNK);
    return nonzero * (products + 3) <= numbers * (products - 1);
}

// The same of a hidden array, which is in the nearest cache, for a product with so many vectors for each number.
FB_INLINE bool are_many_zeros(int64_t vectors, int64_t numbers, int64_t nonzero) {
    const int64_t products = smaller(vectors, CHUNK);
    return 2 * nonzero * (products + 2) <= numbers * (2 * products - 1);
}

// For ``tiles`` tiles of X (examples in all), or false.
FB_INLINE bool make_room(NonZero& nonzero, int64_t n, int64_t examples, int64_t tiles) {
    nonzero.words = words_for(n);
    nonzero.by_example = zeros<uint64_t>(examples * nonzero.words);
    nonzero.by_feature = zeros<uint64_t>(tiles * nonzero.words * WORD);
    if (nonzero.by_example != nullptr && nonzero.by_feature != nullptr) return true;
    free(nonzero.by_example);
    free(nonzero.by_feature);
    nonzero.by_example = nonzero.by_feature = nullptr;  // or a later call would take the one that there is for both
    return false;
}

// The same rows, of which no zero is left out where dZ is not finite.
template <class T>
Rows<T> but_for_infinity(Rows<T> in, const T* dZ, int64_t step, int64_t rows) {
    if (in.nonzero != nullptr && !all_finite(dZ, rows * step)) in.nonzero = nullptr;
    return in;
}

// ---- wide layers ---------------------------------------------------------------------------------------------------------

// Z (rows, units) of vectors first ... first + count of the units; or the Unit's g of it.
template <class T, class Unit = AsItIs>
void forward_panel(const Layer<T>& layer, Rows<T> in, T* Z, int64_t step, int64_t rows, int first, int count) {
    constexpr int lanes = vec<T>::lanes;
    const T* W = layer.W + layer.at(first, 0);
    const T* b = layer.b + first * lanes;
    T* out = Z + first * lanes;
    const int columns = layer.panel_columns(first);
    if (in.layout == BY_FEATURE)
        panel<T, SET, true, Unit>(rows, columns, in.p, in.step, W, count * lanes, layer.inputs, b, out, step);
    else panel<T, SET, false, Unit>(rows, columns, in.p, in.step, W, count * lanes, layer.inputs, b, out, step);
}

// A of a panel in one go, where that was worth its code: g of the sums while they are in registers. A twentieth less time than a
// pass over the panel, which loads and stores it once more.
template <class T>
FB_INLINE bool forward_active(const Layer<T>& layer, Rows<T> in, T* A, int64_t step, int64_t rows, int v, int count) {
    if constexpr (FB_VECTOR_BYTES == 64 && sizeof(T) == 4) {
        if (layer.panel_columns(v) < WIDTH * vec<T>::lanes) return false;
        if (layer.activation == FB_TANH) return forward_panel<T, Tanh<T>>(layer, in, A, step, rows, v, count), true;
        if (layer.activation == FB_RELU) return forward_panel<T, Relu<T>>(layer, in, A, step, rows, v, count), true;
    }
    return false;
}

// A (rows, units), and g' in D if it is not NULL. The activation follows each panel while that is in the nearest cache.
template <class T>
void forward_wide(const Layer<T>& layer, Rows<T> in, T* A, T* D, int64_t step, int64_t rows) {
    constexpr int lanes = vec<T>::lanes;
    for (int v = 0; v < layer.vectors && in.nonzero != nullptr; v += CHUNK) {
        with_count(smaller(CHUNK, layer.vectors - v), [&](auto count) __attribute__((always_inline)) {
            forward_nonzero<T, count.value>(layer.W, layer.b, layer.inputs, in.p, in.step, *in.nonzero, A, step, rows, v);
        });
    }
    for (int v = 0; v < layer.vectors; v += WIDTH) {
        const int count = layer.panel_width(v);
        if (in.nonzero == nullptr && forward_active(layer, in, A, step, rows, v, count)) continue;
        if (in.nonzero == nullptr) forward_panel(layer, in, A, step, rows, v, count);
        if (layer.activation < 0) continue;
        const int tail = v + count == layer.vectors ? layer.tail : lanes;
        T* D_panel = D == nullptr ? nullptr : D + v * lanes;
        activate<T>(layer.activation, A + v * lanes, D_panel, rows, step, count, tail);
    }
}

// dW += inputs^T dZ for one tile of examples, of ``count`` inputs from ``first`` on. dW has panels of ``dW_inputs`` rows, and
// these inputs' come first in them.
template <class T>
void weights_wide(
    const Layer<T>& layer, Rows<T> in, const T* dZ, int64_t step, int64_t rows, int64_t first, int64_t count, T* dW,
    int64_t dW_inputs
) {
    constexpr int lanes = vec<T>::lanes;
    if (in.nonzero != nullptr) {
        for (int v = 0; v < layer.vectors; v += CHUNK) {
            with_count(smaller(CHUNK, layer.vectors - v), [&](auto vectors) __attribute__((always_inline)) {
                weights_nonzero<T, vectors.value>(in.p, in.step, *in.nonzero, dZ, step, first, count, dW, dW_inputs, v);
            });
        }
        return;
    }
    for (int v = 0; v < layer.vectors; v += WIDTH) {
        const int width = layer.panel_width(v), columns = layer.panel_columns(v);
        T* sums = dW + v * lanes * dW_inputs;
        const T* B = dZ + v * lanes;
        const T* none = nullptr;
        if (in.layout == BY_FEATURE) {
            panel<T, ADD, false>(count, columns, in.p + first * in.step, in.step, B, step, rows, none, sums, width * lanes);
        } else {
            panel<T, ADD, true>(count, columns, in.p + first, in.step, B, step, rows, none, sums, width * lanes);
        }
    }
}

// db += the sums over a tile of examples, of vectors first ... last.
template <class T>
void bias_sums(const T* dZ, int64_t step, int64_t rows, int first, int last, T* db) {
    constexpr int lanes = vec<T>::lanes;
    for (int v = first; v < last; v++) {
        V<T> even = {}, odd = {};
        int64_t e = 0;
        for (; e + 2 <= rows; e += 2) {
            even += load(dZ + e * step + v * lanes);
            odd += load(dZ + (e + 1) * step + v * lanes);
        }
        if (e < rows) even += load(dZ + e * step + v * lanes);
        store(db + v * lanes, load(db + v * lanes) + (even + odd));
    }
}

// dZ of the layer below, whose activation was A: (dZ W) g'(A). dZ_below may be A itself.
template <class T>
void backward_wide(
    const Layer<T>& layer, const T* dZ, int64_t step, int64_t rows, int activation, const T* A, const T* D, T* dZ_below,
    int64_t step_below
) {
    constexpr int lanes = vec<T>::lanes;
    alignas(64) T start[WIDTH * vec<T>::lanes] = {};
    alignas(64) T dA[TILE * WIDTH * vec<T>::lanes];
    for (int v = 0; v < layer.back_vectors; v += WIDTH) {
        const int count = v + WIDTH <= layer.back_vectors ? WIDTH : 1;
        const T* W = layer.back + int64_t(v) * lanes * layer.units;
        const int columns = int(layer.inputs) - v * lanes < count * lanes ? int(layer.inputs) - v * lanes : count * lanes;
        panel<T, SET, false>(rows, columns, dZ, step, W, count * lanes, layer.units, start, dA, WIDTH * lanes);
        differentiate<T>(
            activation, A + v * lanes, D == nullptr ? nullptr : D + v * lanes, dZ_below + v * lanes, rows, step_below, count,
            [&](int64_t e, int u) __attribute__((always_inline)) { return load(dA + (e * WIDTH + u) * lanes); }
        );
    }
}

// Fills ``bits`` from a tile of dZ, and says whether its zeros are worth leaving out on the way back.
template <class T>
bool are_many_zeros(const Layer<T>& layer, const T* dZ, int64_t step, int64_t rows, NonZero& bits) {
    bits.words = words_for(layer.units);
    return are_many_zeros(layer.back_vectors, rows * layer.units, find_nonzero(dZ, step, layer.units, rows, bits));
}

// As backward_wide, to the bit, without the zeros of dZ. dA: [TILE][CHUNK vectors].
template <class T>
void backward_nonzero(
    const Layer<T>& layer, const T* dZ, int64_t step, int64_t rows, const NonZero& bits, int activation, const T* A, const T* D,
    T* dZ_below, int64_t step_below, T* dA
) {
    constexpr int lanes = vec<T>::lanes;
    alignas(64) T start[CHUNK * vec<T>::lanes] = {};
    for (int v = 0; v < layer.back_vectors; v += CHUNK) {
        const int vectors = smaller(CHUNK, layer.back_vectors - v);
        with_count(vectors, [&](auto count) __attribute__((always_inline)) {
            const int64_t before = v * lanes;  // the product writes where vector v is
            forward_nonzero<T, count.value>(
                layer.back, start - before, layer.units, dZ, step, bits, dA - before, CHUNK * lanes, rows, v
            );
        });
        differentiate<T>(
            activation, A + v * lanes, D == nullptr ? nullptr : D + v * lanes, dZ_below + v * lanes, rows, step_below, vectors,
            [&](int64_t e, int u) __attribute__((always_inline)) { return load(dA + (e * CHUNK + u) * lanes); }
        );
    }
}

// ---- narrow layers: Z and dZ are [units][TILE] -----------------------------------------------------------------------------

// Asks for n numbers to be brought nearer. Memory is read in bursts, a tile of X and then long computing; so each tile is
// asked for while the one before is read, and comes during its computing. A narrow layer computes so little that it reads
// nearly without a pause, and rows that follow one another are asked for by the processor itself: to ask for them once more
// takes a logistic regression a twentieth longer, and into the nearest cache a quarter. Where the hidden layer of a tile is larger
// than the nearest cache, neither its next panel nor W's was worth asking for, nor the next tile panel by panel: up to 2 % longer.
template <class T>
FB_INLINE void fetch(const T* x, int64_t n) {
    for (int64_t i = 0; i < n; i += 64 / int64_t(sizeof(T))) __builtin_prefetch(x + i, 0, 2);  // not into the nearest cache
}

// z = A w + b for one tile of examples, of VN vectors of inputs; 0 for as many as there are.
template <class T, bool CUT, int VN>
void dot_products(const Layer<T>& layer, const T* w, T b, Rows<T> in, int64_t rows, T* z) {
    constexpr int lanes = vec<T>::lanes;
    const int64_t n = layer.inputs;
    const int vectors = VN > 0 ? VN : layer.vectors;
    const int tail = int(n - int64_t(vectors - 1) * lanes);
    const auto row = [&](const T* a, int v) __attribute__((always_inline)) {
        if constexpr (!CUT) return load(a + v * lanes);
        const bool whole = v < vectors - 1 || (FB_VECTOR_BYTES < 64 && tail == lanes);  // AVX-512 reads both alike
        return whole ? loadu(a + v * lanes) : load_first(a + v * lanes, tail);
    };
    constexpr int TOGETHER = 4;
    int64_t e = 0;
    for (; e + TOGETHER <= rows; e += TOGETHER) {
        const T* a = in.p + e * in.step;
        if (CUT && e < in.ahead) {
            const int64_t next = smaller(TOGETHER, in.ahead - e);
#pragma GCC unroll 1
            for (int64_t r = 0; r < next; r++) fetch(a + (rows + r) * in.step, n);
        }
        V<T> s[TOGETHER] = {};
        for (int v = 0; v < vectors; v++) {
            const V<T> weights = load(w + v * lanes);
#pragma GCC unroll 4
            for (int r = 0; r < TOGETHER; r++) s[r] = fma(weights, row(a + r * in.step, v), s[r]);
        }
#pragma GCC unroll 4
        for (int r = 0; r < TOGETHER; r++) z[e + r] = sum(s[r]) + b;
    }
    for (; e < rows; e++) {
        V<T> s = {};
        for (int v = 0; v < vectors; v++) s = fma(load(w + v * lanes), row(in.p + e * in.step, v), s);
        z[e] = sum(s) + b;
    }
}

template <class T, bool CUT>
void dot_products(const Layer<T>& layer, const T* w, T b, Rows<T> in, int64_t rows, T* z) {
    if (layer.vectors == 1) dot_products<T, CUT, 1>(layer, w, b, in, rows, z);
    else if (layer.vectors == 2) dot_products<T, CUT, 2>(layer, w, b, in, rows, z);
    else if (layer.vectors == 4) dot_products<T, CUT, 4>(layer, w, b, in, rows, z);
    else dot_products<T, CUT, 0>(layer, w, b, in, rows, z);
}

template <class T>
void forward_narrow(const Layer<T>& layer, Rows<T> in, T* Z, int64_t rows) {
    for (int64_t j = 0; j < layer.units; j++) {
        const T* w = layer.W + j * layer.vectors * vec<T>::lanes;
        T* z = Z + j * TILE;
        if (in.layout == IN_PLACE) dot_products<T, true>(layer, w, layer.b[j], in, rows, z);
        else dot_products<T, false>(layer, w, layer.b[j], in, rows, z);
    }
}

// sums += dz A for one tile of examples, of vectors first ... last of the inputs. Each has two sums, of the even and of the odd
// examples, for the adds of one wait for one another. With eight the loads of a tile were made by so many instructions that the
// processor no longer saw by itself what is read next: a sixth longer.
template <class T, bool CUT, int VN>
FB_INLINE void add_outer(const Layer<T>& layer, Rows<T> in, const T* dz, int64_t rows, int first, T* sums) {
    constexpr int lanes = vec<T>::lanes;
    const int64_t left = layer.inputs - int64_t(first + VN - 1) * lanes;
    const int tail = int(left < lanes ? left : lanes);
    const auto vector = [&](const T* a, int v) __attribute__((always_inline)) {
        if constexpr (!CUT) return load(a + (first + v) * lanes);
        const bool whole = v < VN - 1 || (FB_VECTOR_BYTES < 64 && tail == lanes);  // AVX-512 reads both alike
        return whole ? loadu(a + (first + v) * lanes) : load_first(a + (first + v) * lanes, tail);
    };
    V<T> even[VN] = {}, odd[VN] = {};
    const T* a = in.p;
    int64_t e = 0;
    for (; e + 2 <= rows; e += 2, a += 2 * in.step) {
        for (int v = 0; v < VN; v++) even[v] = fma(broadcast(dz[e]), vector(a, v), even[v]);
        for (int v = 0; v < VN; v++) odd[v] = fma(broadcast(dz[e + 1]), vector(a + in.step, v), odd[v]);
    }
    for (int v = 0; v < VN; v++) {
        if (e < rows) even[v] = fma(broadcast(dz[e]), vector(a, v), even[v]);
        T* to = sums + (first + v) * lanes;
        store(to, load(to) + (even[v] + odd[v]));
    }
}

// dW += dZ inputs^T for one tile of examples, of vectors first ... last of the inputs.
template <class T>
void weights_narrow(const Layer<T>& layer, Rows<T> in, const T* dZ, int64_t rows, int first, int last, T* dW) {
    constexpr int lanes = vec<T>::lanes;
    for (int64_t j = 0; j < layer.units; j++) {
        const T* dz = dZ + j * TILE;
        T* sums = dW + j * layer.vectors * lanes;
        int v = first;
        for (; v + 2 <= last; v += 2) {
            if (in.layout == IN_PLACE) add_outer<T, true, 2>(layer, in, dz, rows, v, sums);
            else add_outer<T, false, 2>(layer, in, dz, rows, v, sums);
        }
        if (v == last) continue;
        if (in.layout == IN_PLACE) add_outer<T, true, 1>(layer, in, dz, rows, v, sums);
        else add_outer<T, false, 1>(layer, in, dz, rows, v, sums);
    }
}

template <class T>
void bias_sums_narrow(const Layer<T>& layer, const T* dZ, T* db) {
    for (int64_t j = 0; j < layer.units; j++) {
        V<T> s = {};
        for (int e = 0; e < TILE; e += vec<T>::lanes) s += load(dZ + j * TILE + e);
        db[j] += sum(s);
    }
}

template <class T>
void backward_narrow(
    const Layer<T>& layer, const T* dZ, int64_t rows, int activation, const T* A, const T* D, T* dZ_below, int64_t step_below
) {
    constexpr int lanes = vec<T>::lanes;
    const T* W = layer.W;
    const int64_t width = int64_t(layer.vectors) * lanes;
    differentiate<T>(
        activation, A, D, dZ_below, rows, step_below, layer.vectors, [&](int64_t e, int v) __attribute__((always_inline)) {
            V<T> dA = broadcast(dZ[e]) * load(W + v * lanes);
            for (int64_t j = 1; j < layer.units; j++) {
                dA = fma(broadcast(dZ[j * TILE + e]), load(W + j * width + v * lanes), dA);
            }
            return dA;
        }
    );
}

// W's columns, and b, each times its unit's factor: [vectors][lanes].
template <class T>
void scale_units(Layer<T>& layer, const T* factors) {
    constexpr int lanes = vec<T>::lanes;
    for (int v = 0; v < layer.vectors; v += WIDTH) {
        const int count = layer.panel_width(v);
        T* W = layer.W + layer.at(v, 0);
        for (int64_t i = 0; i < layer.inputs; i++) {
            for (int u = 0; u < count; u++, W += lanes) store(W, load(W) * load(factors + (v + u) * lanes));
        }
    }
    for (int v = 0; v < layer.vectors; v++) store(layer.b + v * lanes, load(layer.b + v * lanes) * load(factors + v * lanes));
}

// ---- a sparse first layer: example e's entries are starts[e] ... stops[e] of values and features -----------------------------

template <class T>
struct SparseRows {
    const T* values;
    const int32_t* features;
    const int32_t *starts, *stops;
    // Of an encoded table: each row has room for so many entries, of which the first are the numbers that every row has,
    // features 0, 1, ..., and the others ones. Of these a wide layer reads no values, and of the numbers no features. 0: a
    // CSR matrix.
    int64_t room = 0, numbers = 0;

    SparseRows from(int64_t e) const { return {values, features, starts + e, stops + e, room, numbers}; }
};

// Z of ``count`` vectors of units, those of a panel of W: what starts in Z, or b, and the rows of W that the entries name.
// ENCODED: all of them ones, behind the numbers.
template <class T, int count, bool ENCODED>
void add_entries(const T* W, const T* b, SparseRows<T> in, T* Z, int64_t step, int64_t rows) {
    constexpr int lanes = vec<T>::lanes;
    for (int64_t e = 0; e < rows; e++, Z += step) {
        V<T> z[count];
        for (int u = 0; u < count; u++) z[u] = load((b == nullptr ? Z : b) + u * lanes);
        for (int32_t n = in.starts[e] + int32_t(in.numbers); n < in.stops[e]; n++) {
            const T* w = W + int64_t(in.features[n]) * count * lanes;
            const V<T> x = ENCODED ? V<T>{} : broadcast(in.values[n]);
            for (int u = 0; u < count; u++) z[u] = ENCODED ? z[u] + load(w + u * lanes) : fma(x, load(w + u * lanes), z[u]);
        }
        for (int u = 0; u < count; u++) store(Z + u * lanes, z[u]);
    }
}

// A panel at a time: its part of W stays in the nearest cache. All of them at once, each entry read once, took as long.
// Numbers that every row has go through registers, in the order that they would have as entries.
template <class T>
void forward_sparse(const Layer<T>& layer, SparseRows<T> in, T* A, T* D, int64_t step, int64_t rows) {
    constexpr int lanes = vec<T>::lanes;
    for (int v = 0; v < layer.vectors; v += WIDTH) {
        const int count = layer.panel_width(v);
        const T *W = layer.W + layer.at(v, 0), *b = layer.b + v * lanes;
        T* Z = A + v * lanes;
        if (in.numbers > 0) {
            const T* x = in.values + in.starts[0];
            panel<T, SET, false>(rows, layer.panel_columns(v), x, in.room, W, count * lanes, in.numbers, b, Z, step);
            b = nullptr;
        }
        if (count == 2 && in.room > 0) add_entries<T, 2, true>(W, b, in, Z, step, rows);
        else if (count == 2) add_entries<T, 2, false>(W, b, in, Z, step, rows);
        else if (in.room > 0) add_entries<T, 1, true>(W, b, in, Z, step, rows);
        else add_entries<T, 1, false>(W, b, in, Z, step, rows);
        if (layer.activation < 0) continue;
        const int tail = v + count == layer.vectors ? layer.tail : lanes;
        activate<T>(layer.activation, Z, D == nullptr ? nullptr : D + v * lanes, rows, step, count, tail);
    }
}

// dW += inputs^T dZ, of ``count`` vectors of units, those of a panel of dW. Of an encoded table's numbers the sums are made
// elsewhere.
template <class T, int count, bool ENCODED>
void sum_entries(SparseRows<T> in, const T* dZ, int64_t step, int64_t rows, T* dW) {
    constexpr int lanes = vec<T>::lanes;
    constexpr int64_t AHEAD = 16;  // examples: dZ of a large batch has left the nearer caches
    for (int64_t e = 0; e < rows; e++, dZ += step) {
        for (int u = 0; u < count; u++) __builtin_prefetch(dZ + AHEAD * step + u * lanes);
        V<T> d[count];
        for (int u = 0; u < count; u++) d[u] = load(dZ + u * lanes);
        for (int32_t n = in.starts[e] + int32_t(in.numbers); n < in.stops[e]; n++) {
            T* s = dW + int64_t(in.features[n]) * count * lanes;
            const V<T> x = ENCODED ? V<T>{} : broadcast(in.values[n]);
            for (int u = 0; u < count; u++, s += lanes) store(s, ENCODED ? load(s) + d[u] : fma(x, d[u], load(s)));
        }
    }
}

// The same of vectors first ... last; first is the start of a panel.
template <class T>
void weights_sparse(
    const Layer<T>& layer, SparseRows<T> in, const T* dZ, int64_t step, int64_t rows, int first, int last, T* dW
) {
    for (int v = first; v < last; v += WIDTH) {
        T* sums = dW + layer.at(v, 0);
        const T* d = dZ + v * vec<T>::lanes;
        const bool pair = layer.panel_width(v) == 2;
        if (pair && in.room > 0) sum_entries<T, 2, true>(in, d, step, rows, sums);
        else if (pair) sum_entries<T, 2, false>(in, d, step, rows, sums);
        else if (in.room > 0) sum_entries<T, 1, true>(in, d, step, rows, sums);
        else sum_entries<T, 1, false>(in, d, step, rows, sums);
    }
}

template <class T>
void forward_sparse_narrow(const Layer<T>& layer, SparseRows<T> in, T* Z, int64_t rows) {
    for (int64_t j = 0; j < layer.units; j++) {
        const T* w = layer.W + j * layer.vectors * vec<T>::lanes;
        for (int64_t e = 0; e < rows; e++) {
            T z = layer.b[j];
            for (int32_t n = in.starts[e]; n < in.stops[e]; n++) z += in.values[n] * w[in.features[n]];
            Z[j * TILE + e] = z;
        }
    }
}

template <class T>
void weights_sparse_narrow(const Layer<T>& layer, SparseRows<T> in, const T* dZ, int64_t rows, T* dW) {
    for (int64_t j = 0; j < layer.units; j++) {
        T* sums = dW + j * layer.vectors * vec<T>::lanes;
        for (int64_t e = 0; e < rows; e++) {
            for (int32_t n = in.starts[e]; n < in.stops[e]; n++) sums[in.features[n]] += in.values[n] * dZ[j * TILE + e];
        }
    }
}

}  // namespace
