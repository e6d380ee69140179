// One thread's worker: a block of examples, a tile of 64 at a time. A tile's hidden arrays stay in the cache from the forward
// product to the sums; nothing of the size of the block is ever made.
#pragma once

#include "dropout.h"
#include "kernels.h"
#include "layers.h"
#include "team.h"
#include "tile_layers.h"

namespace {

constexpr int64_t BLOCK =
    1024;  // examples: their sums are of T, beyond that they are float64. With 4096 float32's error would be twice BLAS's

// ---- a network, packed -----------------------------------------------------------------------------------------------------

template <class T>
struct Net {
    int64_t L;
    fb_output_loss output;
    Layer<T>* layers;  // layers[0] is layer 1
    T* memory;         // theirs, in one piece
    T* back;           // of the layers' W^T, in one piece; NULL until somebody goes back through the network
    int64_t size;      // of it
    bool finite;       // all of them

    int64_t inputs() const { return layers[0].inputs; }
    int64_t outputs() const { return layers[L - 1].units; }
};

template <class T>
void release(Net<T>& net) {
    free(net.memory);
    free(net.back);
    free(net.layers);
}

// All the arrays of a packed network in one piece of memory, without W^T; or false.
template <class T>
bool build(Net<T>& net, int64_t L, const int64_t* sizes, const int32_t* activations, const fb_output_loss* output) {
    constexpr int lanes = vec<T>::lanes;
    net.L = L;
    net.output = *output;
    net.memory = net.back = nullptr;
    net.layers = static_cast<Layer<T>*>(calloc(size_t(L), sizeof(Layer<T>)));
    if (net.layers == nullptr) return false;
    int64_t total = 0;
    for (int64_t l = 0; l < L; l++) {
        Layer<T>& layer = net.layers[l];
        layer.inputs = sizes[l];
        layer.units = sizes[l + 1];
        layer.activation = l + 1 < L ? activations[l] : -1;
        layer.narrow = l + 1 == L && layer.units <= (lanes > 4 ? lanes / 4 : 1);
        layer.vectors = vectors_for<T>(layer.narrow ? layer.inputs : layer.units);
        layer.tail = int(layer.units - int64_t(vectors_for<T>(layer.units) - 1) * lanes);
        total += layer.weights() + layer.biases() + 2 * 64;
    }
    net.size = total;
    net.memory = zeros<T>(total);
    if (net.memory == nullptr) return false;
    T* free_from = net.memory;
    const auto take = [&free_from](int64_t n) {
        T* p = free_from;
        free_from += (n + 63) / 64 * 64;
        return p;
    };
    for (int64_t l = 0; l < L; l++) {
        Layer<T>& layer = net.layers[l];
        layer.W = take(layer.weights());
        layer.b = take(layer.biases());
    }
    return true;
}

// W^T of the layers that have one, from W as it is; or false.
template <class T>
bool build_back(Net<T>& net) {
    constexpr int lanes = vec<T>::lanes;
    if (net.back != nullptr) return true;
    int64_t total = 0;
    for (int64_t l = 1; l < net.L; l++) {
        Layer<T>& layer = net.layers[l];
        layer.back_vectors = layer.narrow ? 0 : vectors_for<T>(layer.inputs);
        total += layer.units * layer.back_vectors * lanes + 64;
    }
    T* free_from = net.back = zeros<T>(total);
    if (free_from == nullptr) return false;
    for (int64_t l = 1; l < net.L; l++) {
        Layer<T>& layer = net.layers[l];
        if (layer.back_vectors == 0) continue;
        layer.back = free_from;
        free_from += (layer.units * layer.back_vectors * lanes + 63) / 64 * 64;
        refresh_back(layer, 0, layer.inputs);
    }
    return true;
}

template <class T>
void pack(Net<T>& net, const T* theta) {
    for (int64_t l = 0; l < net.L; l++) theta = pack(net.layers[l], theta);
    net.finite = all_finite(net.memory, net.size);
}

// W of so many units from ``first`` on, at most UNITS, and all their inputs, as theta has them: rows from ``theta`` on.
constexpr int64_t UNITS = 16;
template <class T>
void unpack_units(const Layer<T>& layer, int64_t first, int64_t units, T* theta) {
    if (layer.narrow) {
        for (int64_t j = first; j < first + units; j++, theta += layer.inputs)
            memcpy(theta, layer.W + layer.row(j).first, size_t(layer.inputs) * sizeof(T));
        return;
    }
    for (int64_t i = 0; i < layer.inputs; i += UNITS) {
        const int64_t inputs = smaller(UNITS, layer.inputs - i);
        alignas(64) T square[UNITS * UNITS];
        turn_square(layer, first, i, inputs, square);
        for (int64_t j = 0; j < units; j++) {
            T* row = theta + j * layer.inputs + i;
            if (inputs == UNITS) memcpy(row, square + j * UNITS, UNITS * sizeof(T));
            else memcpy(row, square + j * UNITS, size_t(inputs) * sizeof(T));
        }
    }
}

// What of theta is left to be unpacked: threads take UNITS units of a layer at a time, in the order that they come.
template <class T>
struct Unpacking {
    const Net<T>* nets[3];
    T* thetas[3];
    int count;
    int64_t next;
};

template <class T>
void unpack(void* argument, fb_team*, int) {
    Unpacking<T>& all = *static_cast<Unpacking<T>*>(argument);
    int64_t part = 0, mine = __atomic_fetch_add(&all.next, 1, __ATOMIC_RELAXED);
    for (int k = 0; k < all.count; k++) {
        T* theta = all.thetas[k];
        for (int64_t l = 0; l < all.nets[k]->L; l++) {
            const Layer<T>& layer = all.nets[k]->layers[l];
            const int64_t parts = (layer.units + UNITS - 1) / UNITS, weights = layer.units * layer.inputs;
            for (; mine < part + parts; mine = __atomic_fetch_add(&all.next, 1, __ATOMIC_RELAXED)) {
                const int64_t first = (mine - part) * UNITS, units = smaller(UNITS, layer.units - first);
                unpack_units(layer, first, units, theta + first * layer.inputs);
                memcpy(theta + weights + first, layer.b + first, size_t(units) * sizeof(T));
            }
            part += parts;
            theta += weights + layer.units;
        }
    }
}

// theta's number of parameters.
template <class T>
int64_t parameters(const Net<T>& net) {
    int64_t n = 0;
    for (int64_t l = 0; l < net.L; l++) n += net.layers[l].units * (net.layers[l].inputs + 1);
    return n;
}

// ---- reading a tile ----------------------------------------------------------------------------------------------------------

template <class T>
FB_INLINE void copy_row(const T* x, int64_t x_feature, int64_t n, T* to) {
    constexpr int lanes = vec<T>::lanes;
    int64_t i = 0;
    if (x_feature == 1) {
        for (; i + lanes <= n; i += lanes) store(to + i, loadu(x + i));
        if (i < n) store(to + i, load_first(x + i, int(n - i)));
    } else {
        for (; i < n; i++) to[i] = x[i * x_feature];
        for (; i % lanes != 0; i++) to[i] = 0;  // where a tile in the other order has been
    }
}

// X of the examples first ... first + rows. A wide layer reads it many times, so it is copied: rows of the caller's array
// may lie so far apart that they share a cache set, and their ends are not filled up with zeros. Of a table of columns the
// tile keeps that order. A narrow layer reads it twice for each of its few units: the copy would take a third of its time.
// A layer that takes tiles gets rows from both, and so does a narrow one there.
template <class T>
Rows<T> read_tile(const fb_examples* from, const Layer<T>& layer, int64_t first, int64_t rows, T* tile) {
    const int64_t n = layer.inputs;
    const bool narrow = layer.narrow;
    constexpr int lanes = vec<T>::lanes;
    const T* X = static_cast<const T*>(from->X) + first * from->x_example;
    const bool by_feature = from->x_example == 1 && (from->x_feature != 1 || n == 1);
    const int64_t next = smaller(TILE, from->m - first - rows);  // examples
    if (narrow && from->x_feature == 1 && !by_feature) {
        Rows<T> in_place = {X, from->x_example, IN_PLACE};
        in_place.ahead = from->x_example == n ? 0 : next;
        return in_place;
    }
    if (by_feature && (narrow || layer.pile != nullptr)) {
        turn_columns(X, from->x_feature, n, rows, tile, row_step<T>(n));
        for (int64_t i = 0; i < n; i++) fetch(X + i * from->x_feature + rows, next);
        return {tile, row_step<T>(n), BY_EXAMPLE};
    }
    if (by_feature) {
        const int64_t step = row_step<T>(TILE);
        for (int64_t i = 0; i < n; i++) {
            T* to = tile + i * step;
            const T* x = X + i * from->x_feature;
            for (int e = 0; e < TILE; e += lanes) {
                if (e + lanes <= rows) store(to + e, loadu(x + e));
                else store(to + e, load_first(x + e, e < rows ? int(rows - e) : 0));
            }
            fetch(x + rows, next);
        }
        return {tile, step, BY_FEATURE};
    }
    const int64_t step = row_step<T>(n);
    for (int64_t e = 0; e < rows; e++) {
        const T* x = X + e * from->x_example;
        copy_row(x, from->x_feature, n, tile + e * step);
        if (e < next && from->x_feature == 1) fetch(x + rows * from->x_example, n);
    }
    return {tile, step, BY_EXAMPLE};
}

// Y as [units][TILE] and the weights; examples past the last one weigh 0. Returns the sum of the weights.
template <class T>
double read_target(const fb_examples* from, int64_t units, int64_t first, int64_t rows, T* Y, T* weight) {
    const T* y = static_cast<const T*>(from->Y) + first * from->y_example;
    for (int64_t j = 0; j < units; j++) {
        copy_row(y + j * from->y_unit, from->y_example, rows, Y + j * TILE);
        for (int64_t e = rows; e < TILE; e++) Y[j * TILE + e] = 0;
    }
    const T* w = static_cast<const T*>(from->weight);
    for (int e = 0; e < TILE; e++) weight[e] = T(e < int(rows));
    if (w == nullptr) return double(rows);
    double total = 0;
    for (int64_t e = 0; e < rows; e++) total += double(weight[e] = w[(first + e) * from->weight_example]);
    return total;
}

// [units][TILE] from rows, and back.
template <class T>
void columns_from_rows(const T* rows_of, int64_t step, int64_t rows, int64_t units, T* columns) {
    for (int64_t e = 0; e < TILE; e++) {
        for (int64_t j = 0; j < units; j++) columns[j * TILE + e] = e < rows ? rows_of[e * step + j] : T(0);
    }
}
template <class T>
void rows_from_columns(const T* columns, int64_t units, int64_t rows, int64_t step, T* rows_of) {
    for (int64_t e = 0; e < rows; e++) {
        for (int64_t j = 0; j < units; j++) rows_of[e * step + j] = columns[j * TILE + e];
    }
}

// ---- the pass on a tile --------------------------------------------------------------------------------------------------------

// Of a tile of a hidden A whose zeros the layer above may leave out: which they are, and whether it does. by_example is NULL
// where they are not looked for.
struct HiddenZeros {
    NonZero bits;
    bool left_out;
};

// The arrays of up to some number of examples: A[l] of layer l with its row step, D[l] with g' where A does not tell it.
template <class T>
struct Pass {
    T** A;  // A[0] is a tile of X; A[L] Z[L] and then dZ[L], NULL where the last layer is narrow
    T** D;
    int64_t* step;
    T* Z;                 // of the output layer, [units][TILE]
    HiddenZeros* hidden;  // [L]; NULL where they are not looked for at all
};

// By tiles where the layer takes them: whether that was done.
template <class T>
FB_INLINE bool forward_by_tiles(
    const Net<T>& net, const Layer<T>& layer, Rows<T> in, T* A, T* D, int64_t step, int64_t rows, TileWork* tiles
) {
    if constexpr (has_tiles<T>) {
        if (tiles == nullptr || layer.pile == nullptr || in.nonzero != nullptr) return false;
        if (!tiles->piled && !tiles->passes) pile_layers(net.layers, net.L, *tiles, false);
        const int64_t size = sizeof(T);
        Soon next = {reinterpret_cast<const char*>(in.p), nullptr, in.step * size, rows, rows + in.ahead, layer.inputs * size};
        if (in.ahead > 0) tiles->soon = &next;
        const auto row = [&](int64_t r) __attribute__((always_inline)) { return in.row(r); };
        const bool done = forward_tiles(layer, row, A, D, step, rows, *tiles);
        tiles->soon = nullptr;
        return done;
    }
    return false;
}
template <class T>
FB_INLINE bool backward_by_tiles(
    const Net<T>& net, const Layer<T>& layer, const T* dZ, int64_t step, int64_t rows, int activation, const T* A, const T* D,
    T* dZ_below, int64_t step_below, TileWork* tiles
) {
    if constexpr (has_tiles<T>) {
        if (tiles == nullptr || layer.pile == nullptr) return false;
        if (!tiles->back_piled) pile_layers(net.layers, net.L, *tiles, true);
        return backward_tiles(layer, dZ, step, rows, activation, A, D, dZ_below, step_below, *tiles);
    }
    return false;
}
template <class T>
FB_INLINE bool weights_by_tiles(
    const Layer<T>& layer, Rows<T> in, const T* dZ, int64_t step, int64_t rows, T* dW, TileWork* tiles
) {
    if constexpr (has_tiles<T>) {
        if (tiles == nullptr || layer.pile == nullptr) return false;
        tiles->wide |= in.nonzero != nullptr;
        if (in.nonzero != nullptr) return false;
        weights_tiles(layer, in, dZ, step, rows, dW, *tiles);
        return true;
    }
    return false;
}

// A copy of rows that lie in an order.
template <class T>
Rows<T> gathered(const Net<T>& net, Pass<T>& pass, Rows<T> in, int64_t rows) {
    for (int64_t e = 0; e < rows; e++) copy_row(in.row(e), 1, net.inputs(), pass.A[0] + e * pass.step[0]);
    return {pass.A[0], pass.step[0], BY_EXAMPLE};
}

// Whether ``layer`` is to leave out the zeros of a hidden tile.
template <class T>
void look_for_zeros(const Layer<T>& layer, Rows<T>& in, int64_t rows, HiddenZeros& zeros) {
    if (zeros.bits.by_example == nullptr) return;
    const int64_t nonzero = find_nonzero(in.p, in.step, layer.inputs, rows, zeros.bits);
    zeros.left_out = are_many_zeros(int64_t(layer.vectors), rows * layer.inputs, nonzero);
    if (zeros.left_out) in.nonzero = &zeros.bits;
}

// Layers 1 ... L on one tile: hidden A in pass.A, the output layer's Z in pass.Z.
// drop: what of the hidden units is left out of update number ``update``; the tile's first example has ``place`` in its batch.
template <class T>
void forward(
    const Net<T>& net, Pass<T>& pass, Rows<T> in, const SparseRows<T>* sparse, int64_t rows, bool derivatives, TileWork* tiles,
    const Dropout* drop = nullptr, int64_t update = 0, int64_t place = 0
) {
    for (int64_t l = 1; l <= net.L; l++) {
        const Layer<T>& layer = net.layers[l - 1];
        T* D = derivatives ? pass.D[l] : nullptr;
        if (layer.narrow) {
            if (sparse != nullptr) forward_sparse_narrow(layer, *sparse, pass.Z, rows);
            else forward_narrow(layer, in, pass.Z, rows);
            for (int64_t j = 0; j < layer.units; j++) {
                for (int64_t e = rows; e < TILE; e++) pass.Z[j * TILE + e] = 0;
            }
            return;
        }
        if (sparse != nullptr) forward_sparse(layer, *sparse, pass.A[l], D, pass.step[l], rows);
        else if (!forward_by_tiles(net, layer, in, pass.A[l], D, pass.step[l], rows, tiles))
            forward_wide(layer, in.order == nullptr ? in : gathered(net, pass, in, rows), pass.A[l], D, pass.step[l], rows);
        if (drop != nullptr && l < net.L)
            drop_units<T>(layer.activation, *drop, l, update, place, pass.A[l], D, rows, pass.step[l], layer.vectors);
        in = {pass.A[l], pass.step[l], BY_EXAMPLE};
        if (pass.hidden != nullptr && l < net.L) look_for_zeros(net.layers[l], in, rows, pass.hidden[l]);
        sparse = nullptr;
    }
    columns_from_rows(pass.A[net.L], pass.step[net.L], rows, net.outputs(), pass.Z);
}

template <class T>
struct Step {
    fb_head head;
    Net<T> net;
    Net<T> sums;  // of a block; made, as W^T is, by the first gradient: costs and predictions need neither
    Pass<T> pass;
    T* Y;               // [units][TILE]
    T* weight;          // [TILE]
    T* arrays;          // what pass points into, but for the tile of X
    NonZero nonzero;    // of the tile of X; by_example is NULL where zeros are not looked for
    bool mostly_zeros;  // the last tile that was looked at
    Dropout drop;
    double* rates;  // what it points into
    T* kept;        // D of the hidden layers whose A tells g', once units are left out
    TileWork tiles;
};

template <class T>
void step_free(Step<T>* step) {
    release(step->net);
    release(step->sums);
    free(step->arrays);
    free(step->rates);
    free(step->kept);
    free(step->nonzero.by_example);
    free(step->nonzero.by_feature);
    free(step->tiles.memory);
    if (step->pass.A != nullptr) free(step->pass.A[0]);
    free(step->pass.A);
    free(step->pass.D);
    free(step->pass.step);
    free(step);
}

template <class T>
bool allocate(Step<T>* step, int64_t L, const int64_t* sizes, const int32_t* activations, const fb_output_loss* output) {
    if (!build(step->net, L, sizes, activations, output)) return false;
    Pass<T>& pass = step->pass;
    pass.A = static_cast<T**>(calloc(size_t(L + 1), sizeof(T*)));
    pass.D = static_cast<T**>(calloc(size_t(L + 1), sizeof(T*)));
    pass.step = static_cast<int64_t*>(calloc(size_t(L + 1), sizeof(int64_t)));
    if (pass.A == nullptr || pass.D == nullptr || pass.step == nullptr) return false;
    const bool narrow = step->net.layers[L - 1].narrow;
    int64_t total = 2 * sizes[L] * TILE + TILE;
    pass.step[0] = row_step<T>(sizes[0]);
    for (int64_t l = 1; l <= L; l++) {
        pass.step[l] = row_step<T>(sizes[l]);
        total += TILE * pass.step[l] * (l > 0 && l < L && keeps_derivative(activations[l - 1]) ? 2 : 1);
    }
    T* at = step->arrays = zeros<T>(total);
    if (at == nullptr) return false;
    const auto take = [&at](int64_t n) {
        T* p = at;
        at += n;
        return p;
    };
    for (int64_t l = 1; l <= L; l++) {
        if (l < L || !narrow) pass.A[l] = take(TILE * pass.step[l]);
        if (l < L && keeps_derivative(activations[l - 1])) pass.D[l] = take(TILE * pass.step[l]);
    }
    pass.Z = take(sizes[L] * TILE);
    step->Y = take(sizes[L] * TILE);
    step->weight = take(TILE);
    return true;
}

template <class T>
fb_step* step_new(
    const fb_kernels* kernels, int dtype, int64_t L, const int64_t* sizes, const int32_t* activations,
    const fb_output_loss* output
) {
    Step<T>* step = static_cast<Step<T>*>(calloc(1, sizeof(Step<T>)));
    if (step == nullptr) return nullptr;
    step->head = {kernels, dtype, sizes[0], 0, 0, 0, L - 1};
    for (int64_t l = 1; l <= L; l++) step->head.parameters += (sizes[l - 1] + 1) * sizes[l];
    if (!allocate(step, L, sizes, activations, output)) {
        step_free(step);
        return nullptr;
    }
    return reinterpret_cast<fb_step*>(step);
}

template <class T>
void step_load(Step<T>* step, const T* theta) {
    pack(step->net, theta);
    if constexpr (has_tiles<T>) {
        step->tiles.piled = step->tiles.back_piled = false;
        step->tiles.tame = are_tame(step->net.memory, step->net.size);
    }
}

// Numbers of a network, of which the piles are kept where one only goes forward. Those of a larger one would come from far
// away for each tile of rows, half as many bytes again as W itself: it takes as long to cut W anew.
#if !defined(FB_MOST_PILED)
#define FB_MOST_PILED (1 << 23)
#endif

// The tile registers, held while it lives; ``work`` is NULL where no layer takes tiles, or W cannot be cut.
template <class T>
struct ByTiles {
    TileWork* work = nullptr;

    ByTiles(Step<T>* step, bool back) {
        if constexpr (has_tiles<T>) {
            if (step->tiles.memory == nullptr || !step->tiles.tame) return;
            work = &step->tiles;
            work->passes = !back && !work->piled && step->net.size > FB_MOST_PILED;
            tiles_begin();
        }
    }
    ~ByTiles() {
        if constexpr (has_tiles<T>) {
            if (work != nullptr) tiles_end();
        }
    }
    ByTiles(const ByTiles&) = delete;
};

// Whether the output unit's weights come out of the first layer's sums: see below_one_unit.
template <class T>
bool single_output(const Net<T>& net) {
    return net.L == 2 && net.layers[1].narrow && net.layers[1].units == 1;
}

// dW and db of one tile, added to ``sums``. pass.Z holds dZ[L]; the hidden A become dZ on the way down.
template <class T>
void backward(
    const Net<T>& net, Pass<T>& pass, Rows<T> tile_of_X, const SparseRows<T>* sparse, int64_t rows, Net<T>& sums,
    bool pulled_out, TileWork* tiles
) {
    for (int64_t l = net.L; l >= 1; l--) {
        const Layer<T>& layer = net.layers[l - 1];
        Layer<T>& sum = sums.layers[l - 1];
        const bool first = l == 1;
        T* below = pass.A[l - 1];
        const Rows<T> in = first ? tile_of_X : Rows<T>{below, pass.step[l - 1], BY_EXAMPLE};
        const int activation = first ? -1 : net.layers[l - 2].activation;
        if (layer.narrow && pulled_out) {
            below_one_unit<T>(activation, below, pass.D[1], pass.Z, rows, in.step, layer.vectors, sum.W, sums.layers[0].b);
            bias_sums_narrow(layer, pass.Z, sum.b);
            continue;
        }
        if (layer.narrow) {
            if (first && sparse != nullptr) weights_sparse_narrow(layer, *sparse, pass.Z, rows, sum.W);
            else weights_narrow(layer, in, pass.Z, rows, 0, layer.vectors, sum.W);
            bias_sums_narrow(layer, pass.Z, sum.b);
            if (!first) backward_narrow(layer, pass.Z, rows, activation, below, pass.D[l - 1], below, in.step);
            continue;
        }
        T* dZ = pass.A[l];
        if (l == net.L) rows_from_columns(pass.Z, layer.units, rows, pass.step[l], dZ);
        if (first && sparse != nullptr) weights_sparse(layer, *sparse, dZ, pass.step[l], rows, 0, layer.vectors, sum.W);
        else {
            const Rows<T> there = but_for_infinity(in, dZ, pass.step[l], rows);
            if (!weights_by_tiles(layer, there, dZ, pass.step[l], rows, sum.W, tiles))
                weights_wide(layer, there, dZ, pass.step[l], rows, 0, layer.inputs, sum.W, layer.inputs);
        }
        if (!pulled_out) bias_sums(dZ, pass.step[l], rows, 0, layer.vectors, sum.b);
        if (first) continue;
        T* D = pass.D[l - 1];
        if (!backward_by_tiles(net, layer, dZ, pass.step[l], rows, activation, below, D, below, in.step, tiles))
            backward_wide(layer, dZ, pass.step[l], rows, activation, below, D, below, in.step);
    }
}

// ---- a call ----------------------------------------------------------------------------------------------------------------------

// Room for what a gradient needs beside the pass; or false.
template <class T>
bool make_sums(Step<T>* step) {
    const Net<T>& net = step->net;
    if (step->sums.memory != nullptr) return step->net.back != nullptr;
    int64_t* sizes = static_cast<int64_t*>(calloc(size_t(net.L + 1), sizeof(int64_t)));
    int32_t* activations = static_cast<int32_t*>(calloc(size_t(net.L), sizeof(int32_t)));
    bool made = sizes != nullptr && activations != nullptr && build_back(step->net);
    if (made) {
        sizes[0] = net.inputs();
        for (int64_t l = 0; l < net.L; l++) sizes[l + 1] = net.layers[l].units, activations[l] = net.layers[l].activation;
        release(step->sums);
        made = build(step->sums, net.L, sizes, activations, &net.output);
    }
    free(sizes);
    free(activations);
    return made;
}

// Room for a tile of X, in either order, once one is to be copied; or false.
template <class T>
bool make_room(Step<T>* step, const fb_examples* from) {
    const Net<T>& net = step->net;
    T*& tile = step->pass.A[0];
    if constexpr (has_tiles<T>) {
        if (!make_room(step->net.layers, step->net.L, step->tiles)) return false;
    }
    if (from->indptr != nullptr || tile != nullptr) return true;
    tile = zeros<T>(larger(TILE * step->pass.step[0], net.inputs() * row_step<T>(TILE)));
    return tile != nullptr && (!may_leave_out_zeros(net.layers[0]) || make_room(step->nonzero, net.inputs(), TILE, 1));
}

// Zeros are looked for in the first tile of a block, and then for as long as there are many.
template <class T>
bool looks_for_zeros(const Step<T>* step, int64_t first) {
    return step->nonzero.by_example != nullptr && step->net.finite && (first % BLOCK == 0 || step->mostly_zeros);
}

// The tile's zeros, where they are to be left out.
template <class T>
const NonZero* look_for_zeros(Step<T>* step, Rows<T> in, int64_t first, int64_t rows) {
    if (in.layout != BY_EXAMPLE || !looks_for_zeros(step, first)) return nullptr;
    const int64_t n = step->net.inputs();
    step->mostly_zeros = are_many_zeros(step->net.layers[0], rows * n, find_nonzero(in.p, in.step, n, rows, step->nonzero));
    if (!step->mostly_zeros) return nullptr;
    step->head.tiles_without_zeros++;
    return &step->nonzero;
}

// Whether a wide first layer reads the caller's rows where they are: they lie one after another, a tile of them in the nearest
// cache, and the copy would be 3 % of the time of 64 units.
template <class T>
bool reads_in_place(const fb_examples* from, const Layer<T>& layer) {
    constexpr int64_t MOST = 256;  // bytes of a row
    if (layer.narrow || layer.pile != nullptr || from->x_feature != 1) return false;
    return from->x_example == layer.inputs && layer.inputs * int64_t(sizeof(T)) <= MOST;
}

// The tile's Z[L] in pass.Z. ``in`` and ``sparse`` say where its X is, for the sums.
template <class T>
void forward_tile(
    Step<T>* step, const fb_examples* from, int64_t first, int64_t rows, bool derivatives, Rows<T>& in, SparseRows<T>& sparse,
    TileWork* tiles
) {
    const Dropout* drop = derivatives && step->drop.rates != nullptr ? &step->drop : nullptr;
    const int64_t update = step->drop.update, place = step->drop.first + first;
    if (from->indptr != nullptr) {
        sparse = {static_cast<const T*>(from->X), from->features, from->indptr + first, from->indptr + first + 1};
        forward(step->net, step->pass, in, &sparse, rows, derivatives, tiles, drop, update, place);
        return;
    }
    const Layer<T>& layer = step->net.layers[0];
    if (tiles != nullptr && layer.pile != nullptr && from->x_feature == 1 && !looks_for_zeros(step, first)) {
        const T* X = static_cast<const T*>(from->X) + first * from->x_example;  // piles are copies enough
        in = {X, from->x_example, IN_PLACE};
        in.ahead = smaller(TILE, from->m - first - rows);
    } else if (reads_in_place(from, layer) && !looks_for_zeros(step, first)) {
        const T* X = static_cast<const T*>(from->X) + first * from->x_example;
        const int64_t next = smaller(TILE, from->m - first - rows) * from->x_example;  // numbers
        in = {X, from->x_example, IN_PLACE};
        fetch(X + rows * from->x_example, next / 2);  // all at once is more than can be on its way
        forward<T>(step->net, step->pass, in, nullptr, rows, derivatives, tiles, drop, update, place);
        fetch(X + rows * from->x_example + next / 2, next - next / 2);
        return;
    } else {
        in = read_tile(from, layer, first, rows, step->pass.A[0]);
        in.nonzero = look_for_zeros(step, in, first, rows);
    }
    forward<T>(step->net, step->pass, in, nullptr, rows, derivatives, tiles, drop, update, place);
}

// step->sums, and the loss, of the examples start ... stop.
template <class T>
double sum_block(
    Step<T>* step, const fb_examples* from, int64_t start, int64_t stop, bool pulled_out, TileWork* tiles, double& weight
) {
    const Net<T>& net = step->net;
    double loss = 0;
    weight = 0;
    memset(step->sums.memory, 0, size_t(step->sums.size) * sizeof(T));
    clear_turned(net.layers, net.L);
    if (tiles != nullptr) tiles->wide = false;
    for (int64_t first = start; first < stop; first += TILE) {
        const int64_t rows = smaller(TILE, stop - first);
        Rows<T> in = {};
        SparseRows<T> sparse = {};
        weight += read_target(from, net.outputs(), first, rows, step->Y, step->weight);
        forward_tile(step, from, first, rows, true, in, sparse, tiles);
        loss += output_loss<T>(net.output, step->pass.Z, step->Y, step->weight, net.outputs(), true);
        backward(net, step->pass, in, from->indptr == nullptr ? nullptr : &sparse, rows, step->sums, pulled_out, tiles);
    }
    if (tiles == nullptr || tiles->wide) turn_sums(net.layers, step->sums.layers, net.L);
    if (pulled_out) scale_units(step->sums.layers[0], net.layers[1].W);
    if (pulled_out) scale_turned(net.layers[0], net.layers[1].W);
    return loss;
}

// Leave hidden units out of the gradients from now on, or no longer where rates is NULL.
template <class T>
int step_dropout(Step<T>* step, const double* rates, uint64_t seed, int64_t update, int64_t first) {
    const Net<T>& net = step->net;
    Pass<T>& pass = step->pass;
    if (rates != nullptr && step->kept == nullptr) {
        int64_t total = 0;
        for (int64_t l = 1; l < net.L; l++) total += keeps_derivative(net.layers[l - 1].activation) ? 0 : TILE * pass.step[l];
        step->kept = zeros<T>(total);
        if (step->rates == nullptr) step->rates = zeros<double>(net.L);
        if (step->kept == nullptr || step->rates == nullptr) return FB_NO_MEMORY;
    }
    T* at = step->kept;
    for (int64_t l = 1; l < net.L; l++) {
        if (keeps_derivative(net.layers[l - 1].activation)) continue;
        pass.D[l] = rates == nullptr ? nullptr : at;
        at += TILE * pass.step[l];
    }
    if (rates != nullptr) memcpy(step->rates, rates, size_t(net.L - 1) * sizeof(double));
    step->drop = {rates == nullptr ? nullptr : step->rates, seed, update, first};
    return FB_OK;
}

template <class T>
bool are_finite(const Step<T>* step) {
    bool finite = all_finite(step->sums.memory, step->sums.size);
    for (int64_t l = 0; l < step->net.L; l++) {
        const Layer<T>& layer = step->net.layers[l];
        finite = finite && (layer.turned == nullptr || all_finite(layer.turned, turned_size(layer)));
    }
    return finite;
}

// A block's sums added to the gradient, as theta is laid out.
template <class T>
void add_sums(const Step<T>* step, double* gradient) {
    for (int64_t l = 0; l < step->net.L; l++) {
        const Layer<T>&layer = step->net.layers[l], &sum = step->sums.layers[l];
        add_weights(layer, sum, gradient);
        gradient += layer.units * layer.inputs;
        add_wide(gradient, sum.b, layer.units);
        gradient += layer.units;
    }
}

template <class T>
int step_gradient(fb_step* opaque, const fb_examples* from, double* gradient, double* loss, double* weight) {
    Step<T>* step = reinterpret_cast<Step<T>*>(opaque);
    const Net<T>& net = step->net;
    if (!make_room(step, from) || !make_sums(step)) return FB_NO_MEMORY;
    const ByTiles<T> by_tiles(step, true);
    memset(gradient, 0, size_t(parameters(net)) * sizeof(double));
    *loss = *weight = 0;
    for (int64_t start = 0; start < from->m; start += BLOCK) {
        const int64_t stop = smaller(start + BLOCK, from->m);
        const bool pulled_out = single_output(net) && step->drop.rates == nullptr;
        double part = 0;
        double part_loss = sum_block(step, from, start, stop, pulled_out, by_tiles.work, part);
        // Without the factor w that was pulled out, sums may overflow that do not with it; and tiles take what is not finite
        // for NaN, and what is far too small for 0.
        if ((pulled_out || by_tiles.work != nullptr) && !are_finite(step)) {
            part_loss = sum_block<T>(step, from, start, stop, false, nullptr, part);
        } else if (by_tiles.work != nullptr && !are_large_enough(net.layers, step->sums.layers, net.L)) {
            part_loss = sum_block<T>(step, from, start, stop, pulled_out, nullptr, part);
        }
        *loss += part_loss;
        *weight += part;
        add_sums(step, gradient);
    }
    return 0;
}

template <class T>
int step_cost(fb_step* opaque, const fb_examples* from, double* loss, double* weight) {
    Step<T>* step = reinterpret_cast<Step<T>*>(opaque);
    if (!make_room(step, from)) return FB_NO_MEMORY;
    const ByTiles<T> by_tiles(step, false);
    *loss = *weight = 0;
    for (int64_t first = 0; first < from->m; first += TILE) {
        const int64_t rows = smaller(TILE, from->m - first);
        Rows<T> in = {};
        SparseRows<T> sparse = {};
        *weight += read_target(from, step->net.outputs(), first, rows, step->Y, step->weight);
        forward_tile(step, from, first, rows, false, in, sparse, by_tiles.work);
        *loss += output_loss<T>(step->net.output, step->pass.Z, step->Y, step->weight, step->net.outputs(), false);
    }
    return 0;
}

template <class T>
int step_predict(fb_step* opaque, const fb_examples* from, void* out) {
    Step<T>* step = reinterpret_cast<Step<T>*>(opaque);
    const int64_t units = step->net.outputs();
    if (!make_room(step, from)) return FB_NO_MEMORY;
    const ByTiles<T> by_tiles(step, false);
    for (int64_t first = 0; first < from->m; first += TILE) {
        const int64_t rows = smaller(TILE, from->m - first);
        Rows<T> in = {};
        SparseRows<T> sparse = {};
        forward_tile(step, from, first, rows, false, in, sparse, by_tiles.work);
        output_values<T>(step->net.output.unit, step->pass.Z, units);
        rows_from_columns(step->pass.Z, units, rows, units, static_cast<T*>(out) + first * units);
    }
    return 0;
}

}  // namespace
