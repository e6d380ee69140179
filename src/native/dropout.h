// Dropout beside the array library's core/dropout.py, to the bit: which units of which examples are left out follows from a
// seed, the number of the update, the layer, the unit and the example's place in the batch, and from nothing else. So neither
// tiles nor threads change it, and nothing of it is kept.
#pragma once

#include "units.h"

namespace {

// What a step or a trainer leaves out of the next gradients.
struct Dropout {
    const double* rates;  // of each hidden layer; NULL: nothing is left out
    uint64_t seed;
    int64_t update;  // its number, or that of the first batch
    int64_t first;   // the place in the batch that the block's first example has
};

constexpr int GROUP = 4;     // examples that one counter gives a word each
constexpr int AT_ONCE = 32;  // units: so many counters go through the rounds side by side
constexpr int ROUNDS = 10;

// Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), of some counters.
FB_INLINE void philox(uint32_t (&c)[GROUP][AT_ONCE], uint32_t key0, uint32_t key1) {
    for (int round = 0; round < ROUNDS; round++, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
        for (int i = 0; i < AT_ONCE; i++) {
            const uint64_t p = uint64_t(0xD2511F53u) * c[0][i], q = uint64_t(0xCD9E8D57u) * c[2][i];
            c[0][i] = uint32_t(q >> 32) ^ c[1][i] ^ key0;
            c[2][i] = uint32_t(p >> 32) ^ c[3][i] ^ key1;
            c[1][i] = uint32_t(q);
            c[3][i] = uint32_t(p);
        }
    }
}

// The words of units ``unit`` ... in layer ``l`` (1 is the first hidden one), for examples 4 group ... 4 group + 3.
FB_INLINE void draw(
    const Dropout& drop, int64_t l, int64_t unit, int64_t group, int64_t update, uint32_t (&words)[GROUP][AT_ONCE]
) {
    for (int i = 0; i < AT_ONCE; i++) {
        words[0][i] = uint32_t(unit) + uint32_t(i);
        words[1][i] = uint32_t(group);
        words[2][i] = uint32_t(l);
        words[3][i] = uint32_t(update);
    }
    philox(words, uint32_t(drop.seed), uint32_t(drop.seed >> 32));
}

// A of some examples times 0 or 1 / (1 - rate), and in D g' times the same: ``D`` has g' already where A does not tell it.
template <class T, class Unit>
void drop_units(
    Unit, const Dropout& drop, int64_t l, int64_t update, int64_t place, T* A, T* D, int64_t rows, int64_t step, int vectors
) {
    constexpr int lanes = vec<T>::lanes;
    const double rate = drop.rates[l - 1];
    const uint64_t threshold = uint64_t(rate * 4294967296.0 + 0.5);  // of 2^32: words below it leave a unit out
    const T scale = T(1 / (1 - rate));
    alignas(64) uint32_t words[GROUP][AT_ONCE];
    alignas(64) T factors[AT_ONCE];
    for (int64_t unit = 0; unit < int64_t(vectors) * lanes; unit += AT_ONCE) {
        const int count = int(unit + AT_ONCE <= int64_t(vectors) * lanes ? AT_ONCE / lanes : vectors - unit / lanes);
        for (int64_t group = place / GROUP; group * GROUP < place + rows; group++) {
            draw(drop, l, unit, group, update, words);
            for (int k = 0; k < GROUP; k++) {
                const int64_t e = group * GROUP + k - place;
                if (e < 0 || e >= rows) continue;
                for (int i = 0; i < AT_ONCE; i++) factors[i] = words[k][i] >= threshold ? scale : T(0);
                T *a = A + e * step + unit, *d = D + e * step + unit;
                for (int v = 0; v < count; v++, a += lanes, d += lanes) {
                    const V<T> factor = load(factors + v * lanes);
                    if constexpr (Unit::from_A) store(d, Unit::derivative(load(a)) * factor);
                    else store(d, load(d) * factor);
                    store(a, load(a) * factor);
                }
            }
        }
    }
}

template <class T>
void drop_units(
    int activation, const Dropout& drop, int64_t l, int64_t update, int64_t place, T* A, T* D, int64_t rows, int64_t step,
    int vectors
) {
    with_unit<T>(activation, [&](auto unit) { drop_units<T>(unit, drop, l, update, place, A, D, rows, step, vectors); });
}

}  // namespace
