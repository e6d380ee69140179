// NumPy's RandomState.shuffle, to the bit, of an order of examples: what an epoch of mini-batches begins with.
//
// The generator is the Mersenne Twister MT19937 of Matsumoto and Nishimura (1998), whose state NumPy gives and takes. For
// i = n - 1 ... 1 a number is drawn until, with as many low bits as i has, it is one of 0 ... i; then that entry and entry i
// change places. NumPy waits for memory at each exchange, and guesses wrongly at every third draw. Here a draw too large is
// overwritten by the next one, without a branch, and entries are asked for a batch of draws ahead of their exchange.
#include "fullbatch_native.h"

namespace {

constexpr int WORDS = 624, MIDDLE = 397;
constexpr int64_t AHEAD = 64;  // exchanges of a batch: two batches' cache lines stay in the nearest cache

class Twister {
public:
    Twister(uint32_t* key, int position) : key(key), position(position) { temper(); }

    // The number that the state is at stands at numbers[position], and more up to WORDS - 1.
    void refill() {
        const auto next = [this](int k, int after, int from) {
            const uint32_t y = (key[k] & 0x80000000u) | (key[after] & 0x7fffffffu);
            key[k] = key[from] ^ (y >> 1) ^ (-(y & 1u) & 0x9908b0dfu);
        };
        for (int k = 0; k < WORDS - MIDDLE; k++) next(k, k + 1, k + MIDDLE);
        for (int k = WORDS - MIDDLE; k < WORDS - 1; k++) next(k, k + 1, k + MIDDLE - WORDS);
        next(WORDS - 1, 0, MIDDLE - 1);
        position = 0;
        temper();
    }

    uint32_t numbers[WORDS];
    uint32_t* key;
    int position;

private:
    void temper() {
        for (int k = 0; k < WORDS; k++) {
            uint32_t y = key[k];
            y ^= y >> 11;
            y ^= (y << 7) & 0x9d2c5680u;
            y ^= (y << 15) & 0xefc60000u;
            numbers[k] = y ^ (y >> 18);
        }
    }
};

// Partners of entries i, i - 1, ...: as many as are asked for, all of whose numbers have the same highest bit.
void draw(Twister& twister, uint32_t mask, uint32_t i, int64_t wanted, uint32_t* partners) {
    int64_t count = 0;
    while (count < wanted) {
        if (twister.position == WORDS) twister.refill();
        const int64_t left = WORDS - twister.position,
                      stop = twister.position + (left < wanted - count ? left : wanted - count);
        for (; twister.position < stop; twister.position++) {
            const uint32_t number = twister.numbers[twister.position] & mask;
            partners[count] = number;
            count += number <= i - uint32_t(count);
        }
    }
}

template <class Integer>
void shuffle(Twister& twister, Integer* order, int64_t n) {
    uint32_t partners[2][AHEAD];
    int64_t drawn = n - 1, done = n - 1, counts[2] = {0, 0};  // entries above these have partners, have changed places
    for (int64_t batch = 0; done > 0; batch++) {
        uint32_t* next = partners[batch % 2];
        int64_t& count = counts[batch % 2];
        count = 0;
        if (drawn > 0) {
            const uint32_t mask = 0xffffffffu >> __builtin_clz(uint32_t(drawn));
            count = drawn - int64_t(mask >> 1);
            if (count > AHEAD) count = AHEAD;
            draw(twister, mask, uint32_t(drawn), count, next);
            for (int64_t k = 0; k < count; k++) __builtin_prefetch(order + next[k], 1);
            drawn -= count;
        }
        const uint32_t* now = partners[(batch + 1) % 2];
        for (int64_t k = 0; k < counts[(batch + 1) % 2]; k++, done--) {
            const Integer there = order[now[k]];
            order[now[k]] = order[done];
            order[done] = there;
        }
    }
}

}  // namespace

extern "C" int fb_shuffle(uint32_t* key, int32_t* position, void* order, int64_t bytes, int64_t n) {
    if (!key || !position || *position < 0 || *position > WORDS) return FB_WRONG;
    if ((bytes != 4 && bytes != 8) || n < 0 || n > (INT64_C(1) << 32) || (n > 0 && !order)) return FB_WRONG;
    if (n < 2) return FB_OK;
    Twister twister(key, *position);
    if (bytes == 4) shuffle(twister, static_cast<int32_t*>(order), n);
    else shuffle(twister, static_cast<int64_t*>(order), n);
    *position = twister.position;
    return FB_OK;
}
