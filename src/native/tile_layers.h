// The three products of a wide layer by tiles (tile_product.h), beside those of layers.h, which they stand in for where a
// layer is large enough: by its shape alone, so that neither threads nor blocks change a bit.
#pragma once

#include "layers.h"

namespace {

// What one thread needs to work by tiles; nothing where the machine has none.
struct TileWork {
    char* memory;                  // of the piles below and the layers' own
    char* rows;                    // A of a forward or backward product
    char* transposed;              // A of the weights' sums
    char* columns;                 // B of them, of 32 columns
    char* passing;                 // B of a forward product, of 32 columns
    Soon* soon;                    // what is asked for during the next forward product; NULL for nothing
    bool wide;                     // whether some of a block's sums were made without tiles
    bool piled, back_piled, tame;  // whether the layers' piles are of the W that there is; whether that can be cut
    bool passes;                   // whether W is cut as it is read, and never kept so: for who only goes forward
};

// What mini-batches (epoch.h) have beside it: the piles of W and W^T, and of each layer that takes tiles dZ^T of a batch.
struct BatchTiles {
    char* memory;       // NULL: nothing is done by tiles
    char** dZ;          // of layer l + 1
    int64_t row_bytes;  // of a thread's own TileWork
    int64_t sum_bytes;
};

#if FB_TILES
template <class T>
constexpr bool has_tiles = sizeof(T) == 4;
#else
template <class T>
constexpr bool has_tiles = false;
#endif

// All numbers of ``turned``.
template <class T>
int64_t turned_size(const Layer<T>& layer) {
    return layer.turned == nullptr ? 0 : layer.units * row_step<T>(layer.inputs);
}

template <class T>
void clear_turned(const Layer<T>* layers, int64_t L) {
    for (int64_t l = 0; l < L; l++) {
        if (layers[l].turned != nullptr) memset(layers[l].turned, 0, size_t(turned_size(layers[l])) * sizeof(T));
    }
}

// What was summed without tiles, to the sums that have a row for each unit.
template <class T>
void turn_sums(const Layer<T>* layers, const Layer<T>* sums, int64_t L) {
    for (int64_t l = 0; l < L; l++) {
        const Layer<T>& layer = layers[l];
        if (layer.turned == nullptr) continue;
        const int64_t step = row_step<T>(layer.inputs);
        in_squares(layer, [&](int64_t j, int64_t first, int64_t last) __attribute__((always_inline)) {
            const Line row = layer.row(j);
            for (int64_t i = first; i < last; i++) layer.turned[j * step + i] += sums[l].W[row.first + i * row.step];
        });
    }
}

// 16 units' weights of up to 16 inputs from input i on, as rows of units.
template <class T>
FB_INLINE void turn_square(const Layer<T>& layer, int64_t first, int64_t i, int64_t inputs, T* square) {
    constexpr int64_t SIDE = 16;
    if constexpr (vec<T>::lanes == SIDE) {
        const Line at = Layer<T>::column(first, layer.inputs, layer.vectors);
        V<T> rows[SIDE];
        for (int64_t k = 0; k < SIDE; k++) rows[k] = k < inputs ? load(layer.W + at.first + (i + k) * at.step) : V<T>{};
        transpose(rows);
        for (int64_t k = 0; k < SIDE; k++) store(square + k * SIDE, rows[k]);
    } else {
        for (int64_t j = 0; j < SIDE && first + j < layer.units; j++) {
            const Line row = layer.row(first + j);
            for (int64_t k = 0; k < inputs; k++) square[j * SIDE + k] = layer.W[row.first + (i + k) * row.step];
        }
    }
}

template <class T>
FB_INLINE void add_wide(double* to, const T* from, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] += double(from[i]);
}

// A layer's dW added to theta's, in float64.
template <class T>
void add_weights(const Layer<T>& layer, const Layer<T>& sum, double* to) {
    if (layer.turned != nullptr) {
        const int64_t step = row_step<T>(layer.inputs);
        for (int64_t j = 0; j < layer.units; j++) add_wide(to + j * layer.inputs, layer.turned + j * step, layer.inputs);
        return;
    }
    if (layer.narrow) {
        for (int64_t j = 0; j < layer.units; j++) add_wide(to + j * layer.inputs, sum.W + layer.row(j).first, layer.inputs);
        return;
    }
    constexpr int64_t SIDE = 16;  // of the squares that are turned
    for (int64_t first = 0; first < layer.units; first += SIDE) {
        const int64_t units = smaller(SIDE, layer.units - first);
        for (int64_t i = 0; i < layer.inputs; i += SIDE) {
            const int64_t inputs = smaller(SIDE, layer.inputs - i);
            alignas(64) T square[SIDE * SIDE];
            turn_square(sum, first, i, inputs, square);
            for (int64_t j = 0; j < units; j++) {
                double* row = to + (first + j) * layer.inputs + i;
                if (inputs == SIDE) add_wide(row, square + j * SIDE, SIDE);
                else add_wide(row, square + j * SIDE, inputs);
            }
        }
    }
}

// The bits of the largest |x| of n numbers, whole vectors; of a NaN they are more than an infinity's.
template <class T>
typename format<T>::uint largest_bits(const T* numbers, int64_t n) {
    using uint = typename format<T>::uint;
    Bits<T> most = {};
    for (int64_t i = 0; i < n; i += vec<T>::lanes) {
        const Bits<T> bits = (Bits<T>)abs(load(numbers + i));
        most = most > bits ? most : bits;
    }
    uint top = 0;
    for (int i = 0; i < vec<T>::lanes; i++) top = top > most[i] ? top : uint(most[i]);
    return top;
}

// Whether sums by tiles are far from where they would have lost digits, or all 0.
template <class T>
bool is_large_enough(const T* sums, int64_t n) {
    T largest;
    const auto bits = largest_bits(sums, n);
    memcpy(&largest, &bits, sizeof largest);
    return !(largest <= T(0x1p-60)) || largest == 0;
}

// The same of each layer that takes tiles.
template <class T>
bool are_large_enough(const Layer<T>* layers, const Layer<T>* sums, int64_t L) {
    for (int64_t l = 0; l < L; l++) {
        const Layer<T>& layer = layers[l];
        if (layer.pile == nullptr) continue;
        if (layer.turned != nullptr && !is_large_enough(layer.turned, turned_size(layer))) return false;
        if (layer.turned == nullptr && !is_large_enough(sums[l].W, layer.weights())) return false;
    }
    return true;
}

// As ``scale_units``.
template <class T>
void scale_turned(const Layer<T>& layer, const T* factors) {
    if (layer.turned == nullptr) return;
    const int64_t step = row_step<T>(layer.inputs);
    for (int64_t j = 0; j < layer.units; j++) {
        for (int64_t i = 0; i < layer.inputs; i++) layer.turned[j * step + i] *= factors[j];
    }
}

// Rows of a tile from the columns of a table, filled up to whole vectors with zeros.
template <class T>
void turn_columns(const T* X, int64_t x_feature, int64_t n, int64_t rows, T* to, int64_t step) {
    constexpr int lanes = vec<T>::lanes;
    for (int64_t i = 0; i < n; i += lanes) {
        for (int64_t e = 0; e < rows; e += lanes) {
            const int width = int(smaller(lanes, n - i)), height = int(smaller(lanes, rows - e));
            V<T> square[lanes];
            for (int k = 0; k < lanes; k++) {
                const T* x = X + (i + k) * x_feature + e;
                square[k] = k >= width ? V<T>{} : height == lanes ? loadu(x) : load_first(x, height);
            }
            transpose(square);
            for (int k = 0; k < height; k++) store(to + (e + k) * step + i, square[k]);
        }
    }
}

#if FB_TILES

constexpr int64_t FAR_PILE = 1 << 20;  // bytes of a pile of W that does not stay near beside what else there is
constexpr int64_t LEAST_SIDE = 48, LEAST_WEIGHTS = 64 * 64;

inline bool takes_tiles(const Layer<float>& layer) {
    return !layer.narrow && layer.inputs >= LEAST_SIDE && layer.units >= LEAST_SIDE &&
           layer.inputs * layer.units >= LEAST_WEIGHTS;
}

// Of dW's two sides the longer one is B, so that the shorter one is transposed.
inline bool by_units(const Layer<float>& layer) { return layer.inputs > layer.units; }

inline int64_t tiles_for(int64_t n) { return (n + TILE_SIDE - 1) / TILE_SIDE; }

// Where the 16 columns from ``first`` on of panels over n, each [K][its lanes], have row k.
struct PanelRows {
    const float* panels;
    int64_t K, first;
    int vectors;

    FB_INLINE Line16 operator()(int64_t k) const {
        constexpr int64_t lanes = vec<float>::lanes;
        if constexpr (lanes == TILE_SIDE) {
            const Line at = Layer<float>::column(first, K, vectors);
            return line(panels + at.first + k * at.step);
        }
        Line16 row = {};
        for (int64_t c = 0; c < TILE_SIDE && first + c < vectors * lanes; c++) {
            const Line at = Layer<float>::column(first + c, K, vectors);
            row[c] = panels[at.first + k * at.step];
        }
        return row;
    }
};

// Panels of columns over K, from the first of some tile's to ``last``.
inline void pile_panels(const float* panels, int64_t K, int64_t first, int64_t last, int vectors, char* to) {
    const Cut cut(K);
    for (; first < last; first += TILE_SIDE, to += cut.bytes()) {
        const PanelRows rows = {panels, K, first, vectors};
        pile_columns(cut, K, rows, to);
    }
}

// A (rows, units), and g' in D, as ``forward_wide``, of the examples ``row(0)`` ...; false where X cannot be cut: then all of
// them are to be done otherwise. Of 32 at a time: the pile of more would push out what else is near; of all where W is cut
// as it is read, once for all.
template <class Row>
FB_INLINE bool forward_tiles(
    const Layer<float>& layer, Row row, float* A, float* D, int64_t step, int64_t rows, const TileWork& work
) {
    constexpr int lanes = vec<float>::lanes;
    const int64_t together = work.passes ? TILE : 2 * TILE_SIDE;
    const Cut cut(layer.inputs);
    if (!work.tame) return false;
    const int64_t tiles = tiles_for(layer.units);
    const bool far = tiles * cut.bytes() > FAR_PILE;
    // 32 rows have 64 lines for each chunk of a pile.
    if (work.soon != nullptr) work.soon->each = (2 * together + tiles / 2) / ((tiles + 1) / 2) * 64;
    alignas(64) float b[2 * TILE_SIDE];
    for (int64_t e = 0; e < rows; e += together, A += together * step) {
        const int64_t count = smaller(together, rows - e);
        if (!pile_rows(cut, count, [&](int64_t r) __attribute__((always_inline)) { return row(e + r); }, work.rows))
            return false;
        for (int64_t n = 0; n < tiles; n += 2) {
            const int side = int(smaller(2, tiles - n));
            const int64_t first = n * TILE_SIDE, columns = smaller(side * TILE_SIDE, layer.units - first);
            memset(b, 0, sizeof b);
            memcpy(b, layer.b + first, size_t(columns) * sizeof(float));
            const char* W = work.passes ? work.passing : layer.pile + n * cut.bytes();
            if (work.passes) pile_panels(layer.W, layer.inputs, first, first + columns, layer.vectors, work.passing);
            const bool more = far && n + 2 < tiles && !work.passes;
            tile_panel(cut, work.rows, tiles_for(count), W, side, b, A + first, step, more, work.soon);
            if (layer.activation < 0) continue;
            const int vectors = vectors_for<float>(columns), tail = int(columns) - (vectors - 1) * lanes;
            float* D_there = D == nullptr ? nullptr : D + e * step + first;
            activate<float>(layer.activation, A + first, D_there, count, step, vectors, tail);
        }
    }
    return true;
}

// dZ of the layer below, as ``backward_wide``.
inline bool backward_tiles(
    const Layer<float>& layer, const float* dZ, int64_t step, int64_t rows, int activation, const float* A, const float* D,
    float* dZ_below, int64_t step_below, const TileWork& work
) {
    constexpr int64_t side = 2 * TILE_SIDE;
    constexpr int lanes = vec<float>::lanes;
    const Cut cut(layer.units);
    if (!work.tame || !pile_rows(cut, rows, [&](int64_t r) { return dZ + r * step; }, work.rows)) return false;
    alignas(64) float dA[TILE * side];
    const int64_t tiles = tiles_for(layer.inputs);
    for (int64_t n = 0; n < tiles; n += 2) {
        const int count = int(smaller(2, tiles - n));
        const int64_t first = n * TILE_SIDE, columns = smaller(count * TILE_SIDE, layer.inputs - first);
        tile_panel(cut, work.rows, tiles_for(rows), layer.back_pile + n * cut.bytes(), count, nullptr, dA, side, n + 2 < tiles);
        differentiate<float>(
            activation, A + first, D == nullptr ? nullptr : D + first, dZ_below + first, rows, step_below,
            vectors_for<float>(columns),
            [&](int64_t e, int u) __attribute__((always_inline)) { return load(dA + e * side + u * lanes); }
        );
    }
    return true;
}

// C (32, 32) added to dW: of so many rows from ``row`` on, of inputs or, if by_units, of units; and columns from ``column``.
inline void add_block(const Layer<float>& layer, const float* C, int64_t row, int64_t column, int tiles, float* dW) {
    constexpr int64_t side = 2 * TILE_SIDE;
    if (by_units(layer)) {
        const int64_t step = row_step<float>(layer.inputs), count = smaller(side, layer.units - row);
        for (int64_t r = 0; r < count; r++) {
            float* to = layer.turned + (row + r) * step + column;
            for (int u = 0; u < tiles * TILE_SIDE; u += TILE_SIDE)
                *reinterpret_cast<Line16*>(to + u) += *reinterpret_cast<const Line16*>(C + r * side + u);
        }
        return;
    }
    const int64_t count = smaller(side, layer.inputs - row);
    if constexpr (vec<float>::lanes == TILE_SIDE) {
        const Line at = Layer<float>::column(column, layer.inputs, layer.vectors);
        for (int64_t r = 0; r < count; r++) {
            float* to = dW + at.first + (row + r) * at.step;
            for (int u = 0; u < tiles * TILE_SIDE; u += TILE_SIDE)
                *reinterpret_cast<Line16*>(to + u) += *reinterpret_cast<const Line16*>(C + r * side + u);
        }
        return;
    }
    for (int64_t u = 0; u < tiles * TILE_SIDE && column + u < layer.units; u++) {
        const Line at = layer.row(column + u);
        for (int64_t r = 0; r < count; r++) dW[at.first + (row + r) * at.step] += C[r * side + u];
    }
}

// dW += inputs^T dZ for one tile of examples, as ``weights_wide``; of a layer ``by_units`` to its ``turned``.
inline void weights_tiles(
    const Layer<float>& layer, Rows<float> in, const float* dZ, int64_t step, int64_t rows, float* dW, const TileWork& work
) {
    constexpr int64_t side = 2 * TILE_SIDE;
    const Cut cut(TILE);
    const bool turned = by_units(layer);
    const float *A = turned ? dZ : in.p, *B = turned ? in.p : dZ;
    const int64_t A_step = turned ? step : in.step, B_step = turned ? in.step : step;
    const int64_t M = turned ? layer.units : layer.inputs, N = turned ? layer.inputs : layer.units;
    pile_transposed(cut, A, A_step, rows, M, work.transposed);
    alignas(64) float C[side * side];
    const int64_t tiles = tiles_for(N);
    for (int64_t n = 0; n < tiles; n += 2) {
        const int count = int(smaller(2, tiles - n));
        for (int u = 0; u < count; u++) {
            const float* columns = B + (n + u) * TILE_SIDE;
            const int there = int(smaller(TILE_SIDE, N - (n + u) * TILE_SIDE));
            pile_columns(
                cut, rows, [&](int64_t e) __attribute__((always_inline)) { return first_of_line(columns + e * B_step, there); },
                work.columns + u * cut.bytes()
            );
        }
        for (int64_t m = 0; m < tiles_for(M); m += 2) {
            const int64_t there = smaller(2, tiles_for(M) - m);
            tile_panel(cut, work.transposed + m * cut.bytes(), there, work.columns, count, nullptr, C, side, false);
            add_block(layer, C, m * TILE_SIDE, n * TILE_SIDE, count, dW);
        }
    }
}

// ---- the room for it -------------------------------------------------------------------------------------------------------

// Sizes in bytes.
inline int64_t pile_bytes(int64_t K, int64_t n) { return tiles_for(n) * Cut(K).bytes(); }
inline int64_t sums_bytes(const Layer<float>& layer) { return layer.units * row_step<float>(layer.inputs) * 4; }

// Piles of all layers that take tiles, in one piece, or false.
inline bool make_room(Layer<float>* layers, int64_t L, TileWork& work) {
    int64_t rows = 0, transposed = 0, passing = 0, sums = 0, own = 0;
    for (int64_t l = 0; l < L; l++) {
        const Layer<float>& layer = layers[l];
        if (!takes_tiles(layer)) continue;
        rows = larger(rows, larger(Cut(layer.inputs).bytes(), Cut(layer.units).bytes()));
        transposed = larger(transposed, pile_bytes(TILE, smaller(layer.inputs, layer.units)));
        passing = larger(passing, 2 * Cut(layer.inputs).bytes());
        if (by_units(layer)) sums += sums_bytes(layer);
        own += pile_bytes(layer.inputs, layer.units) + (l > 0 ? pile_bytes(layer.units, layer.inputs) : 0);
    }
    if (own == 0 || work.memory != nullptr) return true;
    rows *= TILE / TILE_SIDE;
    const int64_t columns = 2 * Cut(TILE).bytes();
    // calloc's pages are no memory before they are written: what predicts has no use for most of the piles.
    char* at = work.memory = static_cast<char*>(calloc(size_t(rows + transposed + columns + passing + sums + own + 64), 1));
    if (at == nullptr) return false;
    at += 63 - (reinterpret_cast<uintptr_t>(at) + 63) % 64;
    const auto take = [&at](int64_t bytes) {
        char* p = at;
        at += bytes;
        return p;
    };
    work.rows = take(rows), work.transposed = take(transposed), work.columns = take(columns);
    work.passing = take(passing);
    for (int64_t l = 0; l < L; l++) {
        Layer<float>& layer = layers[l];
        if (!takes_tiles(layer)) continue;
        layer.pile = take(pile_bytes(layer.inputs, layer.units));
        if (l > 0) layer.back_pile = take(pile_bytes(layer.units, layer.inputs));
        if (by_units(layer)) layer.turned = reinterpret_cast<float*>(take(sums_bytes(layer)));
    }
    return true;
}

// The layers' piles, after theta has changed.
inline void pile_layers(const Layer<float>* layers, int64_t L, TileWork& work, bool back) {
    for (int64_t l = 0; l < L && !work.piled; l++) {
        const Layer<float>& layer = layers[l];
        if (layer.pile != nullptr) pile_panels(layer.W, layer.inputs, 0, layer.units, layer.vectors, layer.pile);
    }
    work.piled = true;
    for (int64_t l = 1; l < L && back && !work.back_piled; l++) {
        const Layer<float>& layer = layers[l];
        if (layer.pile != nullptr) pile_panels(layer.back, layer.units, 0, layer.inputs, layer.back_vectors, layer.back_pile);
    }
    work.back_piled = work.back_piled || back;
}

// Numbers below 2^50.
inline bool are_tame(const float* numbers, int64_t n) {
    Bits16 most = {};
    for (int64_t i = 0; i < n; i += TILE_SIDE) most = larger_bits(most, line(numbers + i));
    return largest_of(most) < TAME;
}

// ---- mini-batches ------------------------------------------------------------------------------------------------------------
//
// A share of a layer that takes tiles is the weights of 32 inputs: a chunk of the pile that goes forward. Its sums over the
// batch are made as rows of units, for then what is turned is dZ, once for all shares, and not X; of SPAN examples at a time,
// whose columns of X stay in the nearest cache.

constexpr int64_t LEAST_BATCH = 64;  // examples: W is cut anew for each batch
constexpr int64_t SPAN = 8 * TILE_K;
constexpr uint32_t INFINITE = 0x7f800000, SMALL = 0x21800000;  // the bits of infinity and of 2^-60

// Examples ``first`` ... of a batch of so many rows, in whole chunks.
inline Cut span_at(int64_t first, int64_t rows) { return Cut((smaller(SPAN, rows - first) + TILE_K - 1) / TILE_K * TILE_K); }
inline int64_t turned_bytes(const Layer<float>& layer, int64_t batch) {
    return (batch + SPAN - 1) / SPAN * tiles_for(layer.units) * Cut(SPAN).bytes();
}

// For batches of up to so many examples; or false. Nothing is done where no layer takes tiles.
inline bool make_room(Layer<float>* layers, int64_t L, int64_t batch, BatchTiles& tiles) {
    int64_t total = 0;
    for (int64_t l = 0; l < L && batch >= LEAST_BATCH; l++) {
        const Layer<float>& layer = layers[l];
        if (!takes_tiles(layer)) continue;
        const int64_t rows = larger(Cut(layer.inputs).bytes(), Cut(layer.units).bytes()) * (TILE / TILE_SIDE);
        tiles.row_bytes = larger(tiles.row_bytes, rows);
        tiles.sum_bytes = larger(tiles.sum_bytes, tiles_for(layer.units) * TILE_NUMBERS * 2 * int64_t(sizeof(float)));
        total += pile_bytes(layer.inputs, layer.units) + (l > 0 ? pile_bytes(layer.units, layer.inputs) : 0);
        total += turned_bytes(layer, batch);
    }
    if (total == 0) return true;
    tiles.dZ = static_cast<char**>(calloc(size_t(L), sizeof(char*)));
    char* at = tiles.memory = zeros<char>(total);
    if (at == nullptr || tiles.dZ == nullptr) return false;
    const auto take = [&at](int64_t bytes) {
        char* p = at;
        at += bytes;
        return p;
    };
    for (int64_t l = 0; l < L; l++) {
        Layer<float>& layer = layers[l];
        if (!takes_tiles(layer)) continue;
        layer.pile = take(pile_bytes(layer.inputs, layer.units));
        if (l > 0) layer.back_pile = take(pile_bytes(layer.units, layer.inputs));
        tiles.dZ[l] = take(turned_bytes(layer, batch));
    }
    return true;
}

// One thread's part of them; or false.
inline bool make_room(TileWork& work, const BatchTiles& tiles) {
    if (tiles.memory == nullptr) return true;
    work.memory = zeros<char>(tiles.row_bytes + 2 * Cut(SPAN).bytes() + tiles.sum_bytes);
    if (work.memory == nullptr) return false;
    work.rows = work.memory;
    work.columns = work.rows + tiles.row_bytes;
    work.transposed = work.columns + 2 * Cut(SPAN).bytes();
    work.piled = work.back_piled = true;  // they are at any time
    return true;
}

// A layer's dZ^T of a batch, for every ``size``-th tile of its units from ``rank`` on.
inline void turn_batch(
    const Layer<float>& layer, const float* dZ, int64_t step, int64_t rows, int64_t rank, int64_t size, char* to
) {
    for (int64_t first = 0; first < rows; first += SPAN, to += tiles_for(layer.units) * Cut(SPAN).bytes()) {
        const Cut cut = span_at(first, rows);
        for (int64_t n = rank; n < tiles_for(layer.units); n += size) {
            const int64_t unit = n * TILE_SIDE, units = smaller(TILE_SIDE, layer.units - unit);
            const float* from = dZ + first * step + unit;
            pile_transposed(cut, from, step, smaller(SPAN, rows - first), units, to + n * cut.bytes());
        }
    }
}

// C (units, 32) for the weights of ``count`` inputs, in panels of as many rows.
inline void turn_share(const Layer<float>& layer, const float* C, int64_t count, float* sums) {
    constexpr int64_t lanes = vec<float>::lanes;
    for (int64_t n = 0; n < tiles_for(layer.units); n++) {
        for (int64_t i = 0; i < count; i += TILE_SIDE) {
            Line16 square[TILE_SIDE];
            for (int64_t r = 0; r < TILE_SIDE; r++) square[r] = line(C + (n * TILE_SIDE + r) * 2 * TILE_SIDE + i);
            transpose_lines(square);
            for (int64_t k = 0; k < smaller(TILE_SIDE, count - i); k++) {
                for (int64_t c = 0; c < TILE_SIDE && n * TILE_SIDE + c < layer.vectors * lanes; c += lanes) {
                    const Line at = Layer<float>::column(n * TILE_SIDE + c, count, layer.vectors);
                    memcpy(
                        sums + at.first + (i + k) * at.step, reinterpret_cast<float*>(square + k) + c, lanes * sizeof(float)
                    );
                }
            }
        }
    }
}

// The batch's dW of ``count`` inputs, at most 32, from input ``first`` of the examples ``row(0)`` ... on; false where it is to be made
// without tiles, as ``step_gradient`` has it.
template <class Row>
FB_INLINE bool sum_share(
    const Layer<float>& layer, Row row, int64_t rows, int64_t first, int64_t count, const char* dZ, const TileWork& work,
    float* sums
) {
    constexpr int64_t side = 2 * TILE_SIDE;
    const int64_t units = tiles_for(layer.units), n = count * layer.vectors * vec<float>::lanes;
    const int tiles = int(tiles_for(count));
    float* C = reinterpret_cast<float*>(work.transposed);
    for (int64_t e = 0; e < rows; e += SPAN, dZ += units * Cut(SPAN).bytes()) {
        const Cut cut = span_at(e, rows);
        for (int u = 0; u < tiles; u++) {
            const int64_t column = first + u * TILE_SIDE;
            const int there = int(smaller(TILE_SIDE, count - u * TILE_SIDE));
            pile_columns(
                cut, smaller(SPAN, rows - e),
                [&](int64_t k) __attribute__((always_inline)) {
                    const float* later = row(smaller(e + k + TILE_K, rows - 1)) + first;  // each lies elsewhere
                    __builtin_prefetch(later), __builtin_prefetch(later + count - 1);
                    return first_of_line(row(e + k) + column, there);
                },
                work.columns + u * cut.bytes()
            );
        }
        tile_panel(cut, dZ, units, work.columns, tiles, e == 0 ? nullptr : C, C, side, false);
    }
    turn_share(layer, C, count, sums);
    const uint32_t largest = largest_bits(sums, n);  // finite, and as ``is_large_enough`` has it
    return largest < INFINITE && (largest > SMALL || largest == 0);
}

// Numbers that can be cut, whole vectors.
inline bool can_be_cut(const float* numbers, int64_t n) { return largest_bits(numbers, n) < TAME; }

// The piles of the weights of those inputs, after they have changed.
inline void refresh_piles(const Layer<float>& layer, int64_t first, int64_t count) {
    const Cut cut(layer.inputs), back(layer.units);
    char* to = layer.pile + first / TILE_K * PARTS * TILE_BYTES;
    for (int64_t unit = 0; unit < layer.units; unit += TILE_SIDE, to += cut.bytes()) {
        const PanelRows rows = {layer.W, layer.inputs, unit, layer.vectors};
        if (first / TILE_K < cut.chunks) pile_chunk(first, rows, to);
        else pile_rest_of_columns(cut, rows, to);
    }
    for (int64_t i = first; i < first + count && layer.back_pile != nullptr; i += TILE_SIDE) {
        const PanelRows rows = {layer.back, layer.units, i, layer.back_vectors};
        pile_columns(back, back.K, rows, layer.back_pile + i / TILE_SIDE * back.bytes());
    }
}

#endif

}  // namespace
