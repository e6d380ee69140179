// Mini-batch training, a whole run of batches in one call.
//
// A batch has two parts, with all threads meeting after each. First the examples are shared out: every tile of them goes
// forward and back and leaves A and dZ of its rows. Then the weights are shared out: whoever has some rows of W makes their
// sums over all of the batch's examples, and takes the optimiser's step with them at once. No sum is ever split between
// threads, so neither their number nor who does what changes a bit.
#pragma once

#include "denormals.h"
#include "step.h"
#include "team.h"

namespace {

// A share of the second part: some inputs of a wide layer, some panels of a sparse first one, a narrow layer, or biases.
struct Share {
    enum Kind { WEIGHTS, PANEL, NARROW, BIASES } kind;
    int64_t l, first, count;
    int64_t work;  // in vectors per example
};

// A thread's own part of the tiles or of the shares: the same ones in each batch, for they are in its cache. Who is done
// first takes from the others', since two cores are seldom equally fast.
struct alignas(64) Queue {
    int64_t next, stop;
};

// What the thread is to do next, or -1.
FB_INLINE int64_t take_next(Queue* queues, int size, int rank) {
    for (int k = 0; k < size; k++) {
        Queue& queue = queues[(rank + k) % size];
        if (__atomic_load_n(&queue.next, __ATOMIC_RELAXED) >= queue.stop) continue;
        const int64_t next = __atomic_fetch_add(&queue.next, 1, __ATOMIC_RELAXED);
        if (next < queue.stop) return next;
    }
    return -1;
}

// What one thread has for itself.
template <class T>
struct Scratch {
    Pass<T> pass;
    T* memory;
    T *Y, *weight;  // of a tile
    T* sums;        // of a share
    T* dA;          // of a tile, of as many vectors of units as are summed at once
    NonZero bits;   // of a tile of dZ
    TileWork tiles;
    bool direct;  // of this batch
};

// The sparse rows of a batch, brought together; those of a tile lie side by side.
template <class T>
struct Gathered {
    T* values;
    int32_t *features, *starts, *stops;
    int64_t capacity;

    // Of the table that ``examples`` are: of codes, or a CSR matrix.
    SparseRows<T> of(const fb_examples* examples, int64_t first) const {
        if (examples->codes == nullptr) return {values, features, starts + first, stops + first};
        const int64_t room = examples->numbers + examples->n_codes;
        return {values, features, starts + first, stops + first, room, examples->numbers};
    }
};

template <class T>
struct Trainer {
    fb_head head;
    fb_rule rule;
    Net<T> net, first, second;  // parameters, and the optimiser's arrays: those that it has
    T* memory;                  // of the arrays below, of all examples of a batch
    T **A, **D, **dZ;           // of layer l; dZ may lie in A or D. A[0], the batch's X, is made once it is wanted
    int64_t* step;
    T* narrow;              // dZ[L] of a narrow last layer, [tiles][units][TILE]
    double *loss, *weight;  // of each tile
    double* squares;        // sum of W^2 of each share
    bool* tame;             // of each share, whether its parameters can be cut for tiles
    BatchTiles tiles;
    NonZero* nonzero;     // of the tiles of A[l], l < L; by_example is NULL where zeros are not looked for
    bool* without_zeros;  // [L][most_tiles]: of each tile of A[l], whether they are left out
    int64_t most_tiles;   // of a batch
    Share* shares;
    int64_t share_count;
    Gathered<T> gathered;
    Dropout drop;
    double* rates;  // what it points into
    int threads;    // of the last run
};

// Whether A and dZ of hidden layer l have zeros: a relu's, whose g' is 0 with it, or those of units that are left out.
template <class T>
bool gives_zeros(const Trainer<T>* trainer, int64_t l) {
    return trainer->net.layers[l - 1].activation == FB_RELU || trainer->drop.rates != nullptr;
}

// Whether they may be left out of the products of the layer above with A, and of the one with dZ that goes back through the
// layer itself. Not where those take tiles, whose bits are others.
template <class T>
bool above_leaves_out(const Trainer<T>* trainer, int64_t l) {
    const Layer<T>& above = trainer->net.layers[l];
    return above.pile == nullptr && may_leave_out_zeros(above) && gives_zeros(trainer, l);
}
template <class T>
bool back_leaves_out(const Trainer<T>* trainer, int64_t l) {
    const Layer<T>& layer = trainer->net.layers[l - 1];
    return layer.pile == nullptr && layer.back_vectors > 1 && layer.units >= WORD && gives_zeros(trainer, l);
}

// ---- the optimisers ----------------------------------------------------------------------------------------------------------

// One batch's step for some parameters.
template <class T>
struct Update {
    int kind;
    T a, b, rest_a, rest_b, epsilon, rate;  // rest: 1 - a, 1 - b, which float would round to 0
    T scale;                                // 1 / the sum of the batch's weights
    T decay;                                // l2 / that sum
};

// n numbers, whole vectors, of sums already complete. It waits for memory more than for the root and the division: estimates
// of 14 bits with a step of Newton's in their place, which AVX-512 has, gained nothing, nor did asking for 16 vectors ahead,
// or for all of a share's while its sums are made.
template <class T>
void apply(const Update<T>& rule, T* theta, const T* sums, T* first, T* second, int64_t n) {
    constexpr int lanes = vec<T>::lanes;
    for (int64_t i = 0; i < n; i += lanes) {
        V<T> w = load(theta + i);
        const V<T> g = fma(broadcast(rule.decay), w, load(sums + i) * rule.scale);
        if (rule.kind == FB_GD) {
            w -= rule.rate * g;
        } else if (rule.kind == FB_ADAM) {
            const V<T> mean = rule.a * load(first + i) + rule.rest_a * g;
            const V<T> square = rule.b * load(second + i) + rule.rest_b * (g * g);
            store(first + i, mean);
            store(second + i, square);
            const V<T> step = rule.rate * (mean / (square_root(square) + rule.epsilon));
            w -= select(mean == 0, V<T>{}, step);  // lanes that are no parameter stay 0 with an epsilon of 0 too
        } else {
            const V<T> v = rule.a * load(first + i) - rule.rate * g;
            store(first + i, v);
            w += rule.kind == FB_NESTEROV ? rule.a * v - rule.rate * g : v;
        }
        store(theta + i, w);
    }
}

template <class T>
double sum_of_squares(const T* theta, int64_t n) {
    V<T> squares = {};
    for (int64_t i = 0; i < n; i += vec<T>::lanes) squares = fma(load(theta + i), load(theta + i), squares);
    return sum_as_double<T>(squares);
}

// ---- making a trainer ----------------------------------------------------------------------------------------------------------

// The tiles of a batch: nearly equal, in fours where there is more than one, so that two or four threads share them evenly.
FB_INLINE int64_t tile_count(int64_t rows) {
    const int64_t tiles = (rows + TILE - 1) / TILE;
    return tiles == 1 ? 1 : (tiles + 3) / 4 * 4;
}

// The first example of a tile. The tile instructions take 32 at once: fewer would cost as much.
template <class T>
FB_INLINE int64_t start_of_tile(const Trainer<T>* trainer, int64_t rows, int64_t tile) {
    const int64_t tiles = tile_count(rows), together = trainer->tiles.memory == nullptr ? 1 : 32;
    return smaller(rows, (rows + together - 1) / together * tile / tiles * together);
}

template <class T>
void trainer_free(Trainer<T>* trainer) {
    release(trainer->net);
    release(trainer->first);
    release(trainer->second);
    free(trainer->memory);
    if (trainer->A != nullptr) free(trainer->A[0]);
    free(trainer->A);
    free(trainer->D);
    free(trainer->dZ);
    free(trainer->step);
    free(trainer->loss);
    free(trainer->weight);
    free(trainer->squares);
    free(trainer->tame);
    free(trainer->tiles.memory);
    free(trainer->tiles.dZ);
    for (int64_t l = 0; trainer->nonzero != nullptr && l < trainer->net.L; l++) {
        free(trainer->nonzero[l].by_example);
        free(trainer->nonzero[l].by_feature);
    }
    free(trainer->nonzero);
    free(trainer->without_zeros);
    free(trainer->shares);
    free(trainer->rates);
    free(trainer->gathered.values);
    free(trainer->gathered.features);
    free(trainer->gathered.starts);
    free(trainer->gathered.stops);
    free(trainer);
}

template <class T>
bool allocate(
    Trainer<T>* trainer, int64_t L, const int64_t* sizes, const int32_t* activations, const fb_output_loss* output,
    int64_t batch
) {
    const int kind = trainer->rule.kind;
    if (!build(trainer->net, L, sizes, activations, output) || !build_back(trainer->net)) return false;
    if (kind != FB_GD && !build(trainer->first, L, sizes, activations, output)) return false;
    if (kind == FB_ADAM && !build(trainer->second, L, sizes, activations, output)) return false;
    const int64_t tiles = tile_count(batch) + 4;
    int64_t shares = 0;
    for (int64_t l = 1; l <= L; l++) shares += sizes[l - 1] / ROWS + 2 + vectors_for<T>(sizes[l]);
    trainer->A = static_cast<T**>(calloc(size_t(L + 1), sizeof(T*)));
    trainer->D = static_cast<T**>(calloc(size_t(L + 1), sizeof(T*)));
    trainer->dZ = static_cast<T**>(calloc(size_t(L + 1), sizeof(T*)));
    trainer->step = static_cast<int64_t*>(calloc(size_t(L + 1), sizeof(int64_t)));
    trainer->loss = zeros<double>(tiles);
    trainer->weight = zeros<double>(tiles);
    trainer->squares = zeros<double>(shares);
    trainer->tame = zeros<bool>(shares);
    trainer->most_tiles = tiles;
    trainer->nonzero = static_cast<NonZero*>(calloc(size_t(L), sizeof(NonZero)));
    trainer->without_zeros = zeros<bool>(L * tiles);
    trainer->shares = static_cast<Share*>(calloc(size_t(shares), sizeof(Share)));
    if (!trainer->A || !trainer->D || !trainer->dZ || !trainer->step || !trainer->loss || !trainer->weight ||
        !trainer->squares || !trainer->tame || !trainer->nonzero || !trainer->without_zeros || !trainer->shares) {
        return false;
    }
    if constexpr (has_tiles<T>) {
        if (!make_room(trainer->net.layers, L, batch, trainer->tiles)) return false;
    }
    const bool narrow = trainer->net.layers[L - 1].narrow;
    int64_t total = narrow ? tiles * sizes[L] * TILE : 0;
    const int64_t room = trainer->tiles.memory == nullptr ? batch : (batch + 31) / 32 * 32;  // tiles write 16 rows at once
    for (int64_t l = 1; l <= L; l++) total += 2 * room * row_step<T>(sizes[l]);
    T* at = trainer->memory = zeros<T>(total);
    if (at == nullptr) return false;
    const auto take = [&at](int64_t n) {
        T* p = at;
        at += n;
        return p;
    };
    if (narrow) trainer->narrow = take(tiles * sizes[L] * TILE);
    trainer->step[0] = row_step<T>(sizes[0]);
    for (int64_t l = 1; l <= L; l++) {
        const int64_t n = room * (trainer->step[l] = row_step<T>(sizes[l]));
        trainer->A[l] = take(n);
        trainer->dZ[l] = l == L ? trainer->A[l] : take(n);
        if (l < L && keeps_derivative(activations[l - 1])) trainer->D[l] = trainer->dZ[l];
    }
    return true;
}

template <class T>
fb_trainer* trainer_new(
    const fb_kernels* kernels, int dtype, int64_t L, const int64_t* sizes, const int32_t* activations,
    const fb_output_loss* output, int64_t batch, const fb_rule* rule
) {
    Trainer<T>* trainer = static_cast<Trainer<T>*>(calloc(1, sizeof(Trainer<T>)));
    if (trainer == nullptr) return nullptr;
    trainer->head = {kernels, dtype, sizes[0], 0, batch, 0, L - 1};
    trainer->rule = *rule;
    trainer->threads = 1;
    if (!allocate(trainer, L, sizes, activations, output, batch)) {
        trainer_free(trainer);
        return nullptr;
    }
    return reinterpret_cast<fb_trainer*>(trainer);
}

// Leave hidden units out of the batches from now on, the first of which is update number ``update``; or no longer.
template <class T>
int trainer_dropout(Trainer<T>* trainer, const double* rates, uint64_t seed, int64_t update) {
    const Net<T>& net = trainer->net;
    if (rates != nullptr && trainer->rates == nullptr) trainer->rates = zeros<double>(net.L);
    if (rates != nullptr && trainer->rates == nullptr) return FB_NO_MEMORY;
    if (rates != nullptr) memcpy(trainer->rates, rates, size_t(net.L - 1) * sizeof(double));
    trainer->drop = {rates == nullptr ? nullptr : trainer->rates, seed, update, 0};
    for (int64_t l = 1; l < net.L; l++)
        trainer->D[l] = rates != nullptr || keeps_derivative(net.layers[l - 1].activation) ? trainer->dZ[l] : nullptr;
    return FB_OK;
}

template <class T>
void trainer_load(Trainer<T>* trainer, const T* theta, const T* first, const T* second) {
    pack(trainer->net, theta);
    if (first != nullptr && trainer->first.memory != nullptr) pack(trainer->first, first);
    if (second != nullptr && trainer->second.memory != nullptr) pack(trainer->second, second);
}

constexpr int64_t UNPACKED_BY_ONE = 1 << 19;  // numbers: fewer are there before another thread has started

template <class T>
void trainer_store(const Trainer<T>* trainer, T* theta, T* first, T* second) {
    Unpacking<T> all = {{&trainer->net}, {theta}, 1, 0};
    const auto add = [&](const Net<T>& net, T* to) {
        if (to == nullptr || net.memory == nullptr) return;
        all.nets[all.count] = &net;
        all.thetas[all.count++] = to;
    };
    add(trainer->first, first);
    add(trainer->second, second);
    const bool worth = all.count * trainer->net.size >= UNPACKED_BY_ONE;
    fb_team_run(worth ? trainer->threads : 1, unpack<T>, &all);
}

// The most inputs of a share of a wide layer's weights: of its panels' tiles, or a chunk of its pile.
template <class T>
int64_t share_height(const Layer<T>& layer) {
    return layer.pile == nullptr ? ROWS : 32;
}

// How the second part is cut: the same for any number of threads. Returns the work of all.
template <class T>
int64_t cut_shares(Trainer<T>* trainer, bool sparse) {
    int64_t work = 0;
    trainer->share_count = 0;
    const auto add = [&](Share share) {
        trainer->shares[trainer->share_count++] = share;
        work += share.work;
    };
    for (int64_t l = 1; l <= trainer->net.L; l++) {
        const Layer<T>& layer = trainer->net.layers[l - 1];
        if (layer.narrow) {
            add({Share::NARROW, l, 0, 0, 2 * layer.units * layer.vectors});
            continue;
        }
        if (l == 1 && sparse) {
            for (int v = 0; v < layer.vectors; v += WIDTH)
                add({Share::PANEL, l, v, layer.panel_width(v), 100 * layer.panel_width(v)});
        } else {
            const int64_t most = share_height(layer), parts = (layer.inputs + most - 1) / most;
            const auto start = [&](int64_t part) {
                return layer.pile == nullptr ? layer.inputs * part / parts : smaller(layer.inputs, part * most);
            };
            for (int64_t part = 0; part < parts; part++) {
                const int64_t first = start(part), count = start(part + 1) - first;
                add({Share::WEIGHTS, l, first, count, count * layer.vectors});
            }
        }
        add({Share::BIASES, l, 0, 0, 2 * layer.vectors});
    }
    return work;
}

// ---- a run -----------------------------------------------------------------------------------------------------------------------

template <class T>
struct Run {
    Trainer<T>* trainer;
    const fb_examples* from;
    const int64_t* order;
    int64_t batch;
    int threads;
    const double* rates;
    double until;           // on fb_seconds's clock
    int64_t work;           // of all shares
    Queue *tiles, *shares;  // one of each for each thread
    double cost;
    int64_t done;
    bool stop;
    int failed;   // enum fb_status
    bool zeros;   // of a dense X, whether they are to be looked for
    bool hidden;  // of hidden arrays
    // Zeros are looked for batch by batch, for where the first layer takes tiles they change bits: where a run begins must not.
    bool by_batch;
    bool direct;  // the first layer takes tiles, for which X is cut as it lies where no zeros are left out

    bool sparse() const { return from->indptr != nullptr || from->codes != nullptr; }
    // For the cost; or to see whether W is finite.
    bool wants_squares() const { return trainer->rule.l2 > 0 || zeros || hidden; }
    const T* row(int64_t e) const { return static_cast<const T*>(from->X) + example(e) * from->x_example; }
    int64_t example(int64_t e) const { return order == nullptr ? e : order[e]; }
    int64_t entries(int64_t e) const {  // at most, of the example that comes e-th
        if (from->codes != nullptr) return from->numbers + from->n_codes;
        return from->indptr[example(e) + 1] - from->indptr[example(e)];
    }
    int why() const { return __atomic_load_n(&failed, __ATOMIC_RELAXED); }
    void fail(fb_status why) { __atomic_store_n(&failed, why, __ATOMIC_RELAXED); }
};

template <class T>
bool make(Scratch<T>& scratch, const Trainer<T>* trainer, bool sparse) {
    const Net<T>& net = trainer->net;
    const int64_t units = net.outputs();
    int64_t sums = 0;
    for (int64_t l = 1; l <= net.L; l++) {
        const Layer<T>& layer = net.layers[l - 1];
        const int64_t rows = layer.narrow ? layer.units : share_height(layer);
        const int64_t dense = rows * layer.vectors * vec<T>::lanes;
        const int64_t whole = l == 1 && sparse ? layer.inputs * WIDTH * vec<T>::lanes : 0;
        sums = larger(larger(sums, layer.biases()), larger(dense, whole));
    }
    scratch.pass.A = static_cast<T**>(calloc(size_t(net.L + 1), sizeof(T*)));
    scratch.pass.D = static_cast<T**>(calloc(size_t(net.L + 1), sizeof(T*)));
    scratch.pass.step = trainer->step;
    scratch.pass.hidden = static_cast<HiddenZeros*>(calloc(size_t(net.L), sizeof(HiddenZeros)));
    int64_t most = 0;  // units of a layer that is gone back through without zeros
    for (int64_t l = 2; l < net.L; l++) most = back_leaves_out(trainer, l) ? larger(most, net.layers[l - 1].units) : most;
    const int64_t dA = most == 0 ? 0 : TILE * CHUNK * vec<T>::lanes;
    scratch.bits = {most == 0 ? nullptr : zeros<uint64_t>(TILE * words_for(most)), nullptr, 0};
    scratch.memory = zeros<T>(2 * units * TILE + TILE + sums + dA);
    if (!scratch.pass.A || !scratch.pass.D || !scratch.pass.hidden || !scratch.memory) return false;
    if (most > 0 && scratch.bits.by_example == nullptr) return false;
    scratch.pass.Z = scratch.memory;
    scratch.Y = scratch.memory + units * TILE;
    scratch.weight = scratch.Y + units * TILE;
    scratch.sums = scratch.weight + TILE;
    scratch.dA = scratch.sums + sums;
    if constexpr (has_tiles<T>) return make_room(scratch.tiles, trainer->tiles);
    return true;
}

template <class T>
void release(Scratch<T>& scratch) {
    free(scratch.pass.A);
    free(scratch.pass.D);
    free(scratch.pass.hidden);
    free(scratch.bits.by_example);
    free(scratch.memory);
    free(scratch.tiles.memory);
}

// Asks for what lies in ``bytes`` from ``p`` on.
FB_INLINE void fetch_bytes(const void* p, int64_t bytes) {
    const char* at = static_cast<const char*>(p);
    if (bytes < 1) return;
    for (int64_t k = 0; k < bytes; k += 64) __builtin_prefetch(at + k, 0, 2);
    __builtin_prefetch(at + bytes - 1, 0, 2);
}

// Asks for the row that comes e-th, while an earlier one is gathered: in a random order no machine sees by itself what comes,
// and to wait for memory took a sixth of an epoch. Of a CSR matrix it would have to wait for indptr.
template <class T>
FB_INLINE void fetch_row(const Run<T>& run, int64_t n, int64_t e) {
    const fb_examples* from = run.from;
    if (run.order == nullptr || from->x_feature != 1) return;
    const int64_t example = run.order[e];
    if (from->codes != nullptr)
        fetch_bytes(
            static_cast<const char*>(from->codes) + example * from->n_codes * from->code_bytes, from->n_codes * from->code_bytes
        );
    fetch_bytes(static_cast<const T*>(from->X) + example * from->x_example, n * int64_t(sizeof(T)));
}

// A few numbers. Zen 4 takes many times as long to store some lanes of a vector.
template <class T>
FB_INLINE void copy_numbers(const T* x, int64_t n, T* to) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) __builtin_memcpy(to + i, x + i, 4 * sizeof(T));
#pragma GCC unroll 1
    for (; i < n; i++) __builtin_memcpy(to + i, x + i, sizeof(T));
}

// X of some examples in their order, row by row. Those behind them, up to ``ahead``, are asked for: here, though it is a tenth of
// the time, for to ask for a few of them before each tile of the products took up to 3 % longer.
template <class T>
void gather(const Run<T>& run, int64_t n, int64_t first, int64_t rows, int64_t ahead, T* to, int64_t step) {
    for (int64_t e = 0; e < rows; e++) {
        if (first + rows + e < ahead) fetch_row(run, n, first + rows + e);
        const T* x = static_cast<const T*>(run.from->X) + run.example(first + e) * run.from->x_example;
        copy_row(x, run.from->x_feature, n, to + e * step);
    }
}

// Whether zeros are to be looked for: where the first of the examples from ``start`` on have many.
template <class T>
bool begins_with_zeros(const Run<T>& run, int64_t start, int64_t most) {
    if (!may_leave_out_zeros(run.trainer->net.layers[0])) return false;
    const int64_t n = run.trainer->net.inputs(), rows = smaller(most, run.from->m - start);
    int64_t nonzero = 0;
    for (int64_t e = 0; e < rows; e++) {
        const T* x = run.row(start + e);
        for (int64_t i = 0; i < n; i++) nonzero += x[i * run.from->x_feature] != 0;
    }
    return are_many_zeros(run.trainer->net.layers[0], rows * n, nonzero);
}

// Room for the bits of hidden arrays, once they are wanted; or false.
template <class T>
bool make_room_for_hidden(Run<T>& run) {
    Trainer<T>* trainer = run.trainer;
    const int64_t batch = trainer->head.capacity;
    for (int64_t l = 1; l < trainer->net.L; l++) {
        run.hidden = run.hidden || (l > 1 && back_leaves_out(trainer, l)) || above_leaves_out(trainer, l);
        if (!above_leaves_out(trainer, l)) continue;
        NonZero& nonzero = trainer->nonzero[l];
        if (nonzero.by_example == nullptr && !make_room(nonzero, trainer->net.layers[l].inputs, batch, tile_count(batch)))
            return false;
    }
    return true;
}

// Room for X of the largest batch, or for its sparse rows; or false.
template <class T>
bool make_room(Run<T>& run) {
    if (!make_room_for_hidden(run)) return false;
    if (!run.sparse()) {
        T*& X = run.trainer->A[0];
        if (X == nullptr) X = zeros<T>(run.trainer->head.capacity * run.trainer->step[0]);
        if (X == nullptr) return false;
        const int64_t n = run.trainer->net.inputs(), batch = run.trainer->head.capacity;
        NonZero& nonzero = run.trainer->nonzero[0];
        const Layer<T>& layer = run.trainer->net.layers[0];
        run.by_batch = layer.pile != nullptr && may_leave_out_zeros(layer);
        run.zeros = !run.by_batch && begins_with_zeros(run, 0, TILE);
        run.direct = layer.pile != nullptr && run.from->x_feature == 1;
        const bool looks = run.by_batch || run.zeros;
        return !looks || nonzero.by_example != nullptr || make_room(nonzero, n, batch, tile_count(batch));
    }
    Gathered<T>& room = run.trainer->gathered;
    int64_t most = 0;
    for (int64_t start = 0; start < run.from->m; start += run.batch) {
        int64_t entries = 0;
        for (int64_t e = start; e < smaller(start + run.batch, run.from->m); e++) entries += run.entries(e);
        most = larger(most, entries);
    }
    if (most > INT32_MAX) return false;
    const int64_t batch = run.trainer->head.capacity;
    if (room.starts == nullptr) room.starts = zeros<int32_t>(batch);
    if (room.stops == nullptr) room.stops = zeros<int32_t>(batch);
    if (most > room.capacity || room.values == nullptr) {
        free(room.values);
        free(room.features);
        room.values = zeros<T>(most);
        room.features = zeros<int32_t>(most);
        room.capacity = most;
    }
    return room.starts != nullptr && room.stops != nullptr && room.values != nullptr && room.features != nullptr;
}

// The sparse rows first ... first + rows of the batch at ``start``, each checked: of a CSR matrix.
template <class T>
void gather_entries(Run<T>& run, int64_t start, int64_t first, int64_t rows) {
    const fb_examples* from = run.from;
    const Gathered<T>& to = run.trainer->gathered;
    const int64_t n = run.trainer->net.inputs();
    const T* X = static_cast<const T*>(from->X);
    int64_t at = 0;  // where the tile's entries begin
    for (int64_t e = 0; e < first; e++) at += run.entries(start + e);
    for (int64_t e = 0; e < rows; e++) {
        const int64_t example = run.example(start + first + e);
        to.starts[first + e] = int32_t(at);
        for (int64_t k = from->indptr[example]; k < from->indptr[example + 1]; k++, at++) {
            const int32_t feature = from->features[k];
            const bool right = feature >= 0 && feature < n;
            to.values[at] = X[k];
            to.features[at] = right ? feature : 0;
            if (!right) run.fail(FB_OUT_OF_RANGE);
        }
        to.stops[first + e] = int32_t(at);
    }
}

// The same of an encoded table, whose rows have as much room each, so that their numbers are a matrix.
template <class T, class Code>
void gather_codes(Run<T>& run, int64_t start, int64_t first, int64_t rows, int64_t ahead) {
    const fb_examples* from = run.from;
    const Gathered<T>& to = run.trainer->gathered;
    const int64_t n = run.trainer->net.inputs(), numbers = from->numbers, n_codes = from->n_codes;
    const bool all = run.trainer->net.layers[0].narrow;  // a narrow layer reads values and features of all entries
    for (int64_t e = 0; e < rows; e++) {
        if (start + first + rows + e < ahead) fetch_row(run, numbers, start + first + rows + e);
        const int64_t example = run.example(start + first + e), begin = (first + e) * (numbers + n_codes);
        const T* x = static_cast<const T*>(from->X) + example * from->x_example;
        const Code* codes = static_cast<const Code*>(from->codes) + example * n_codes;
        T* values = to.values + begin;
        int32_t* features = to.features + begin;
        if (from->x_feature == 1) copy_numbers(x, numbers, values);
        for (int64_t i = 0; from->x_feature != 1 && i < numbers; i++) values[i] = x[i * from->x_feature];
        int64_t at = numbers;
        bool right = true;
        for (int64_t c = 0; c < n_codes; c++) {
            const uint32_t feature = codes[c];
            right &= feature < n;
            features[at] = int32_t(feature);
            at += feature != 0;
        }
        to.starts[first + e] = int32_t(begin);
        to.stops[first + e] = int32_t(begin + at);
        for (int64_t i = 0; all && i < at; i++) {
            if (i < numbers) features[i] = int32_t(i);
            else values[i] = 1;
        }
        if (right) continue;
        to.stops[first + e] = int32_t(begin);
        run.fail(FB_OUT_OF_RANGE);
    }
}

template <class T>
void gather_sparse(Run<T>& run, int64_t start, int64_t first, int64_t rows, int64_t ahead) {
    if (run.from->codes == nullptr) gather_entries(run, start, first, rows);
    else if (run.from->code_bytes == 1) gather_codes<T, uint8_t>(run, start, first, rows, ahead);
    else if (run.from->code_bytes == 2) gather_codes<T, uint16_t>(run, start, first, rows, ahead);
    else gather_codes<T, uint32_t>(run, start, first, rows, ahead);
}

// The bits of a tile of A[l] whose examples begin at ``first`` of the batch.
template <class T>
NonZero nonzero_of(const Trainer<T>* trainer, int64_t l, int64_t tile, int64_t first) {
    const NonZero& all = trainer->nonzero[l];
    if (all.by_example == nullptr) return all;
    return {all.by_example + first * all.words, all.by_feature + tile * all.words * WORD, all.words};
}

// One tile of the batch that starts at example ``start``, forward and back: examples first ... first + rows of the batch.
// ahead: as gather has it. zeros_left_out: of X, where there are many; finite: whether all of W is.
template <class T>
void train_tile(
    Run<T>& run, Scratch<T>& scratch, int64_t start, int64_t tile, int64_t first, int64_t rows, int64_t ahead,
    bool zeros_left_out, bool finite
) {
    TileWork* tiles = scratch.tiles.memory == nullptr ? nullptr : &scratch.tiles;
    const Dropout* drop = run.trainer->drop.rates == nullptr ? nullptr : &run.trainer->drop;
    const int64_t update = run.trainer->drop.update + start / run.batch;
    Trainer<T>* trainer = run.trainer;
    const Net<T>& net = trainer->net;
    const fb_examples* from = run.from;
    Pass<T>& pass = scratch.pass;
    const int64_t L = net.L, units = net.outputs();
    for (int64_t l = 0; l <= L; l++) {
        if (l > 0 && l < L) pass.hidden[l] = {nonzero_of(trainer, l, tile, first), false};
        if (l > 0 && l < L && (!finite || !above_leaves_out(trainer, l))) pass.hidden[l].bits.by_example = nullptr;
        const int64_t at = first * trainer->step[l];
        pass.A[l] = trainer->A[l] == nullptr ? nullptr : trainer->A[l] + at;
        pass.D[l] = trainer->D[l] == nullptr ? nullptr : trainer->D[l] + at;
    }
    if (trainer->narrow != nullptr) pass.Z = trainer->narrow + tile * units * TILE;
    Rows<T> X = {pass.A[0], trainer->step[0], BY_EXAMPLE};
    const SparseRows<T> sparse = trainer->gathered.of(from, first);
    Soon soon = {static_cast<const char*>(from->X),          run.order,
                 from->x_example * int64_t(sizeof(T)),       start + first + rows,
                 smaller(start + first + 2 * rows, from->m), net.inputs() * int64_t(sizeof(T))};
    scratch.tiles.soon = nullptr;
    if (run.sparse()) gather_sparse(run, start, first, rows, ahead);
    else if (scratch.direct && tiles->tame) {
        const T* all = static_cast<const T*>(from->X);
        X = {run.order == nullptr ? run.row(start + first) : all, from->x_example, IN_PLACE};
        if (run.order != nullptr) X.order = run.order + start + first;
        scratch.tiles.soon = &soon;
    } else gather(run, net.inputs(), start + first, rows, ahead, pass.A[0], X.step);
    const NonZero nonzero = nonzero_of(trainer, 0, tile, first);
    if (zeros_left_out) {
        const int64_t numbers = rows * net.inputs();
        if (are_many_zeros(net.layers[0], numbers, find_nonzero(X.p, X.step, net.inputs(), rows, nonzero)))
            X.nonzero = &nonzero;
    }
    trainer->weight[tile] = read_target(run.from, units, start + first, rows, scratch.Y, scratch.weight);
    forward(net, pass, X, run.sparse() ? &sparse : nullptr, rows, true, tiles, drop, update, first);
    trainer->loss[tile] = output_loss<T>(net.output, pass.Z, scratch.Y, scratch.weight, units, true);
    for (int64_t l = L; l >= 1; l--) {
        const Layer<T>& layer = net.layers[l - 1];
        const int below = l == 1 ? -1 : net.layers[l - 2].activation;
        T* dZ_below = l == 1 ? nullptr : trainer->dZ[l - 1] + first * trainer->step[l - 1];
        if (layer.narrow) {
            if (l > 1)
                backward_narrow(layer, pass.Z, rows, below, pass.A[l - 1], pass.D[l - 1], dZ_below, trainer->step[l - 1]);
            continue;
        }
        T* dZ = trainer->dZ[l] + first * trainer->step[l];
        if (l == L) rows_from_columns(pass.Z, units, rows, trainer->step[l], dZ);
        const T *A = pass.A[l - 1], *D = pass.D[l - 1];
        const int64_t step = trainer->step[l], step_below = trainer->step[l - 1];
        if (l == 1) X = but_for_infinity(X, dZ, step, rows);
        if (l == 1 || backward_by_tiles(net, layer, dZ, step, rows, below, A, D, dZ_below, step_below, tiles)) continue;
        const bool many = l < L && finite && back_leaves_out(trainer, l) && are_many_zeros(layer, dZ, step, rows, scratch.bits);
        if (many) backward_nonzero(layer, dZ, step, rows, scratch.bits, below, A, D, dZ_below, step_below, scratch.dA);
        else backward_wide(layer, dZ, step, rows, below, A, D, dZ_below, step_below);
        if (pass.hidden[l - 1].left_out) pass.hidden[l - 1].left_out = all_finite(dZ, rows * step);
    }
    trainer->without_zeros[tile] = X.nonzero != nullptr;
    for (int64_t l = 1; l < L; l++) trainer->without_zeros[l * trainer->most_tiles + tile] = pass.hidden[l].left_out;
}

template <class T>
void update_biases(Update<T> rule, const Layer<T>& layer, const T* sums, const Layer<T>& first, const Layer<T>& second) {
    rule.decay = 0;  // biases are not penalised
    apply(rule, layer.b, sums, first.b, second.b, layer.biases());
}

// Part ``part`` of ``parts`` of a share's weights is written as it is. Every core has read the weights for its tiles, and a
// store waits until all the others have dropped the line; so this begins while the share's sums are made. A prefetch for
// writing, the instruction made for it, gains nothing on Zen 4.
template <class T>
void claim(const Layer<T>& layer, const Share& share, int64_t part, int64_t parts) {
    constexpr int64_t line = 64 / sizeof(T);
    for (int v = 0; v < layer.vectors; v += WIDTH) {
        T* W = layer.W + layer.at(v, share.first);
        const int64_t lines = (share.count * layer.panel_width(v) * vec<T>::lanes + line - 1) / line;
        for (int64_t k = lines * part / parts; k < lines * (part + 1) / parts; k++) {
            volatile T* first = W + k * line;
            *first = *first;
        }
    }
}

// Asks for the inputs of a share of the next tile's rows, of which each row's lie elsewhere: of a large batch they have left
// the cache since they were gathered.
template <class T>
FB_INLINE void fetch_columns(Rows<T> in, int64_t rows, const Share& share) {
    for (int64_t e = 0; e < rows; e++) fetch_bytes(in.p + e * in.step + share.first, share.count * int64_t(sizeof(T)));
}

// The sums of a share of a wide layer's weights by tiles, where they can be; or false.
template <class T>
FB_INLINE bool sum_by_tiles(const Run<T>& run, Scratch<T>& scratch, const Share& share, int64_t start, int64_t rows) {
    if constexpr (has_tiles<T>) {
        const Trainer<T>* trainer = run.trainer;
        const Layer<T>& layer = trainer->net.layers[share.l - 1];
        if (layer.pile == nullptr) return false;
        for (int64_t tile = 0; share.l == 1 && tile < tile_count(rows); tile++) {
            if (trainer->without_zeros[tile]) return false;
        }
        if (run.threads > 1) claim(layer, share, 0, 1);
        const char* dZ = trainer->tiles.dZ[share.l - 1];
        if (share.l == 1 && scratch.direct) {
            const auto row = [&](int64_t e) __attribute__((always_inline)) { return run.row(start + e); };
            return sum_share(layer, row, rows, share.first, share.count, dZ, scratch.tiles, scratch.sums);
        }
        const T* A = trainer->A[share.l - 1];
        const int64_t step = trainer->step[share.l - 1];
        const auto row = [&](int64_t e) __attribute__((always_inline)) { return A + e * step; };
        return sum_share(layer, row, rows, share.first, share.count, dZ, scratch.tiles, scratch.sums);
    }
    return false;
}

// Sums over the batch's ``rows`` examples and the step of the optimiser, for one share of the parameters.
template <class T>
void train_share(
    const Run<T>& run, Scratch<T>& scratch, const Share& share, const Update<T>& rule, int64_t batch_start, int64_t rows
) {
    constexpr int lanes = vec<T>::lanes;
    Trainer<T>* trainer = run.trainer;
    const Layer<T>& layer = trainer->net.layers[share.l - 1];
    const auto kept = [&](const Net<T>& net) -> const Layer<T>& {  // where the optimiser has none, nobody looks at it
        return (net.memory == nullptr ? trainer->net : net).layers[share.l - 1];
    };
    const Layer<T>&first = kept(trainer->first), &second = kept(trainer->second);
    const T* dZ = trainer->dZ[share.l];
    const int64_t step = trainer->step[share.l], tiles = tile_count(rows);
    const int64_t step_below = trainer->step[share.l - 1];
    const auto start = [&](int64_t tile) { return start_of_tile(trainer, rows, tile); };
    const auto in = [&](int64_t e) { return Rows<T>{trainer->A[share.l - 1] + e * step_below, step_below, BY_EXAMPLE}; };
    const SparseRows<T> sparse = trainer->gathered.of(run.from, 0);
    T* sums = scratch.sums;

    if (share.kind == Share::WEIGHTS) {
        const bool summed = sum_by_tiles(run, scratch, share, batch_start, rows);
        if (!summed) memset(sums, 0, size_t(share.count * layer.vectors * lanes) * sizeof(T));
        for (int64_t tile = 0; tile < tiles && !summed; tile++) {
            const int64_t e = start(tile), count = start(tile + 1) - e;
            if (count == 0) continue;
            Rows<T> below = in(e);
            const NonZero nonzero = nonzero_of(trainer, share.l - 1, tile, e);
            if (trainer->without_zeros[(share.l - 1) * trainer->most_tiles + tile]) below.nonzero = &nonzero;
            if (run.threads > 1) claim(layer, share, tile, tiles);
            if (share.l == 1 && scratch.direct) {  // numbers that cannot be cut, as they lie
                alignas(64) T columns[TILE * 32];
                for (int64_t r = 0; r < count; r++)
                    copy_row(run.row(batch_start + e + r) + share.first, 1, share.count, columns + r * 32);
                const Rows<T> some = {columns, 32, BY_EXAMPLE};
                weights_wide(layer, some, dZ + e * step, step, count, 0, share.count, sums, share.count);
                continue;
            }
            if (tile + 1 < tiles) fetch_columns(in(e + count), start(tile + 2) - e - count, share);
            weights_wide(layer, below, dZ + e * step, step, count, share.first, share.count, sums, share.count);
        }
        for (int v = 0; v < layer.vectors; v += WIDTH) {
            const int64_t at = layer.at(v, share.first), n = share.count * layer.panel_width(v) * lanes;
            apply(rule, layer.W + at, sums + v * lanes * share.count, first.W + at, second.W + at, n);
        }
        if (layer.back != nullptr) refresh_back(layer, share.first, share.count);
        if constexpr (has_tiles<T>) {
            if (layer.pile != nullptr) refresh_piles(layer, share.first, share.count);
        }
    } else if (share.kind == Share::PANEL) {
        const int64_t at = layer.at(int(share.first), 0), n = share.count * lanes * layer.inputs;
        memset(sums, 0, size_t(n) * sizeof(T));
        // Numbers that every row has are summed in registers, in the order that they would be summed in as entries.
        panel<T, ADD, true>(
            sparse.numbers, layer.panel_columns(int(share.first)), sparse.values, sparse.room, dZ + share.first * lanes, step,
            rows, static_cast<const T*>(nullptr), sums, share.count * lanes
        );
        weights_sparse(layer, sparse, dZ, step, rows, int(share.first), int(share.first + share.count), sums - at);
        apply(rule, layer.W + at, sums, first.W + at, second.W + at, n);
    } else if (share.kind == Share::NARROW) {
        memset(sums, 0, size_t(layer.weights()) * sizeof(T));
        alignas(64) T b[vec<T>::lanes] = {};  // a narrow layer has at most a quarter of that
        for (int64_t tile = 0; tile < tiles; tile++) {
            const int64_t e = start(tile), count = start(tile + 1) - e;
            const T* dz = trainer->narrow + tile * layer.units * TILE;
            if (share.l == 1 && run.sparse()) {
                weights_sparse_narrow(layer, sparse.from(e), dz, count, sums);
            } else {
                weights_narrow(layer, in(e), dz, count, 0, layer.vectors, sums);
            }
            bias_sums_narrow(layer, dz, b);
        }
        apply(rule, layer.W, sums, first.W, second.W, layer.weights());
        if (!trainer->rule.fixed_biases) update_biases(rule, layer, b, first, second);
    } else if (!trainer->rule.fixed_biases) {
        memset(sums, 0, size_t(layer.biases()) * sizeof(T));
        for (int64_t e = 0; e < rows; e += TILE)
            bias_sums(dZ + e * step, step, smaller(TILE, rows - e), 0, layer.vectors, sums);
        update_biases(rule, layer, sums, first, second);
    }
}

// The sum of W^2 of a share.
template <class T>
double squares_of(const Net<T>& net, const Share& share) {
    constexpr int lanes = vec<T>::lanes;
    const Layer<T>& layer = net.layers[share.l - 1];
    if (share.kind == Share::BIASES) return 0;
    if (share.kind == Share::NARROW) return sum_of_squares(layer.W, layer.weights());
    if (share.kind == Share::PANEL) {
        return sum_of_squares(layer.W + layer.at(int(share.first), 0), share.count * lanes * layer.inputs);
    }
    double squares = 0;
    for (int v = 0; v < layer.vectors; v += WIDTH) {
        squares += sum_of_squares(layer.W + layer.at(v, share.first), share.count * layer.panel_width(v) * lanes);
    }
    return squares;
}

// Whether a share's parameters can be cut for tiles.
template <class T>
bool is_tame(const Trainer<T>* trainer, const Share& share) {
    if constexpr (has_tiles<T>) {
        const Layer<T>& layer = trainer->net.layers[share.l - 1];
        if (layer.pile == nullptr || share.kind == Share::PANEL) return true;
        if (share.kind == Share::BIASES) return can_be_cut(layer.b, layer.biases());
        bool tame = true;
        for (int v = 0; v < layer.vectors; v += WIDTH)
            tame = tame && can_be_cut(layer.W + layer.at(v, share.first), share.count * layer.panel_width(v) * vec<T>::lanes);
        return tame;
    }
    return true;
}

template <class T>
Update<T> update_of(const fb_rule& rule, double rate, double weight) {
    // A batch of examples that all weigh nothing has no gradient, and no penalty either.
    const double scale = weight > 0 ? 1 / weight : 0;
    return {rule.kind,       T(rule.a), T(rule.b), T(1 - rule.a),     T(1 - rule.b),
            T(rule.epsilon), T(rate),   T(scale),  T(rule.l2 * scale)};
}

// The shares of a thread: what begins in its span of their work.
template <class T>
Queue own_shares(const Trainer<T>* trainer, int64_t work, int size, int rank) {
    Queue own = {0, 0};
    int64_t before = 0;
    for (int64_t s = 0; s < trainer->share_count; s++) {
        const int64_t owner = before * size / work;
        if (owner < rank) own.next = s + 1;
        if (owner <= rank) own.stop = s + 1;
        before += trainer->shares[s].work;
    }
    return own;
}

// dZ^T of the batch, this thread's part of it, for the sums by tiles.
template <class T>
void turn_batch(const Run<T>& run, int64_t rows, int rank, int size) {
    if constexpr (has_tiles<T>) {
        const Trainer<T>* trainer = run.trainer;
        for (int64_t l = run.sparse() ? 2 : 1; l <= trainer->net.L; l++) {
            const Layer<T>& layer = trainer->net.layers[l - 1];
            if (layer.pile == nullptr) continue;
            turn_batch(layer, trainer->dZ[l], trainer->step[l], rows, rank, size, trainer->tiles.dZ[l - 1]);
        }
    }
}

// The rows of the tile that a thread begins its next batch with, asked for between the last of its shares: the tile before it
// is another's.
template <class T>
struct FirstRows {
    int64_t next, stop, each;

    FirstRows(const Run<T>& run, int64_t start, const Queue& shares, int size, int rank) : next(0), stop(0), each(0) {
        if (start >= run.from->m) return;
        const int64_t rows = smaller(run.batch, run.from->m - start), tile = tile_count(rows) * rank / size;
        next = start + start_of_tile(run.trainer, rows, tile);
        stop = start + start_of_tile(run.trainer, rows, tile + 1);
        each = (stop - next) / larger(1, (shares.stop - shares.next) / 4) + 1;
    }

    void ask(const Run<T>& run, int64_t rows) {
        const int64_t n = run.from->codes == nullptr ? run.trainer->net.inputs() : run.from->numbers;
        for (; rows > 0 && next < stop; rows--, next++) fetch_row(run, n, next);
    }
};

template <class T>
void train(void* argument, fb_team* team, int rank) {
    const DenormalsAreZero for_this_thread;
    Run<T>& run = *static_cast<Run<T>*>(argument);
    Trainer<T>* trainer = run.trainer;
    const int size = fb_team_size(team);
    const Queue shares = own_shares(trainer, run.work, size, rank);
    // A queue is filled by its owner, a part before it is wanted: nobody is in it then.
    const auto fill_tiles = [&](int64_t start) {
        const int64_t tiles = tile_count(smaller(run.batch, run.from->m - start));
        run.tiles[rank] = {tiles * rank / size, tiles * (rank + 1) / size};
    };
    Scratch<T> scratch = {};
    if (!make(scratch, trainer, run.sparse())) run.fail(FB_NO_MEMORY);
    fill_tiles(0);
    fb_team_wait(team);
    // Only this failure was settled before the barrier; a thread that is ahead may find the other at any time.
    const bool failed = run.why() == FB_NO_MEMORY, by_tiles = trainer->tiles.memory != nullptr;
    if (by_tiles) tiles_begin();
    int64_t t = 0;
    for (int64_t start = 0; start < run.from->m && !failed; start += run.batch, t++) {
        const int64_t rows = smaller(run.batch, run.from->m - start), tiles = tile_count(rows);
        run.shares[rank] = shares;
        double squares = 0;
        for (int64_t s = 0; s < trainer->share_count; s++) squares += trainer->squares[s];
        const bool finite = squares - squares == 0;
        scratch.tiles.tame = by_tiles;
        for (int64_t s = 0; s < trainer->share_count && scratch.tiles.tame; s++) scratch.tiles.tame = trainer->tame[s];
        const bool many = run.by_batch && begins_with_zeros(run, start, 8);
        const bool zeros = run.by_batch ? many && scratch.tiles.tame : run.zeros && finite;
        scratch.direct = run.direct && !zeros;
        for (int64_t tile; (tile = take_next(run.tiles, size, rank)) >= 0;) {
            const int64_t first = start_of_tile(trainer, rows, tile), stop = start_of_tile(trainer, rows, tile + 1);
            const bool follows = tile >= tiles * rank / size && tile + 1 < tiles * (rank + 1) / size;  // of this thread's own
            const int64_t ahead = follows ? start + start_of_tile(trainer, rows, tile + 2) : 0;
            train_tile(run, scratch, start, tile, first, stop - first, ahead, zeros, run.hidden && finite);
        }
        if (rank == 0) run.stop = fb_seconds() > run.until || run.why() != FB_OK;
        fb_team_wait(team);
        if (by_tiles) turn_batch(run, rows, rank, size);
        if (by_tiles) fb_team_wait(team);
        if (start + run.batch < run.from->m) fill_tiles(start + run.batch);
        double loss = 0, weight = 0;
        for (int64_t tile = 0; tile < tiles; tile++) {
            loss += trainer->loss[tile];
            weight += trainer->weight[tile];
            for (int64_t l = 0; rank == 0 && l < trainer->net.L; l++)
                trainer->head.tiles_without_zeros += trainer->without_zeros[l * trainer->most_tiles + tile];
        }
        const Update<T> rule = update_of<T>(trainer->rule, run.rates[t], weight);
        FirstRows<T> next(run, start + run.batch, shares, size, rank);
        for (int64_t s; (s = take_next(run.shares, size, rank)) >= 0;) {
            if (shares.stop - s <= (shares.stop - shares.next) / 4) next.ask(run, next.each);
            train_share(run, scratch, trainer->shares[s], rule, start, rows);
            if (run.wants_squares()) trainer->squares[s] = squares_of(trainer->net, trainer->shares[s]);
            if (by_tiles) trainer->tame[s] = is_tame(trainer, trainer->shares[s]);
        }
        next.ask(run, run.batch);
        const bool stop = run.stop;
        fb_team_wait(team);
        if (rank == 0) {
            if (trainer->rule.l2 > 0) loss += trainer->rule.l2 / 2 * squares;
            if (weight > 0) run.cost += loss / weight * double(rows);
            run.done = start + rows;
        }
        if (stop) break;
    }
    if (by_tiles) tiles_end();
    release(scratch);
}

template <class T>
int64_t trainer_run(
    Trainer<T>* trainer, int threads, const fb_examples* from, const int64_t* order, int64_t batch, const double* rates,
    double seconds, double* cost
) {
    Queue* queues = static_cast<Queue*>(aligned_alloc(alignof(Queue), 2 * size_t(threads) * sizeof(Queue)));
    if (queues == nullptr) return FB_NO_MEMORY;
    trainer->threads = threads;
    Run<T> run = {trainer, from,  order, batch, threads, rates, fb_seconds() + seconds, 0, queues, queues + threads, *cost, 0,
                  false,   FB_OK, false, false, false,   false};
    run.work = cut_shares(trainer, run.sparse());
    for (int64_t s = 0; s < trainer->share_count; s++) {
        trainer->squares[s] = squares_of(trainer->net, trainer->shares[s]);
        trainer->tame[s] = is_tame(trainer, trainer->shares[s]);
    }
    if constexpr (has_tiles<T>) {
        const DenormalsAreZero denormals;  // as where a batch cuts them anew
        TileWork unpiled = {};
        if (trainer->tiles.memory != nullptr) pile_layers(trainer->net.layers, trainer->net.L, unpiled, true);
    }
    const bool room = make_room(run);
    if (room) fb_team_run(threads, train<T>, &run);
    free(queues);
    if (!room) return FB_NO_MEMORY;
    *cost = run.cost;
    return run.failed != FB_OK ? run.failed : run.done;
}

}  // namespace
