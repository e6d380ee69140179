// The tile instructions of AMX for bf16 numbers: eight registers of 16 rows of 64 bytes; and their twin, which computes the
// same bits without them, for tests on any machine and of any machine.
//
// A register holds 16 by 16 float32, or 16 rows of 16 pairs of bf16, the upper half of a float32. The product adds
//
//     C[m][n] += (sum_k A[m][2k] B[k][2n]) + (sum_k A[m][2k + 1] B[k][2n + 1])        k = 0 ... 15
//
// to a register, each of the two sums from 0 by fused steps in the order of k; then they are added, and that to C. Every
// rounding is to nearest even, and what is nearer to 0 than a normal number is 0, of what comes in and of what comes out: so
// it was found on the hardware, bit for bit, where Intel's manual has one sum. check_tiles.cpp holds both to that.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AMX_BF16__) && !defined(FB_TILES)
#define FB_TILES 1
#include <immintrin.h>
#elif !defined(FB_TILES)
#define FB_TILES 0  // 1: by the twin
#endif

#if FB_TILES
namespace {

constexpr int TILE_SIDE = 16;                            // rows, and float32 of a row
constexpr int64_t TILE_NUMBERS = TILE_SIDE * TILE_SIDE;  // float32 in a register
constexpr int64_t TILE_BYTES = TILE_NUMBERS * 4;

#if defined(__AMX_BF16__)

struct alignas(64) TileConfiguration {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// The registers are the thread's between these two: it has 8 kB more to save when another takes its place.
inline void tiles_begin() {
    const TileConfiguration all;
    asm volatile("" : : "m"(all));  // GCC 12's intrinsic says of 8 bytes alone that they are read: the rest may be left out
    _tile_loadconfig(&all);
}
inline void tiles_end() { _tile_release(); }

// What was stored before is to be in memory before it is read as a tile: the compiler does not see that it is.
#define FB_TILES_FENCE() asm volatile("" ::: "memory")
#define FB_TILE_ZERO(c) _tile_zero(c)
#define FB_TILE_LOAD(c, from, step) _tile_loadd(c, from, step)  // the step from row to row in bytes
#define FB_TILE_STORE(c, to, step) _tile_stored(c, to, step)
#define FB_TILE_DOT(c, a, b) _tile_dpbf16ps(c, a, b)

#else

struct TileRegister {
    uint32_t rows[TILE_SIDE][TILE_SIDE];
};
inline TileRegister* tile_register(int number) {
    static thread_local TileRegister all[8];
    return all + number;
}

inline float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
inline float flushed(float x) { return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0, x) : x; }
inline float tile_fma(uint32_t a, uint32_t b, float c) {
    return flushed(__builtin_fmaf(flushed(from_bits(a)), flushed(from_bits(b)), c));
}

inline void tile_load(int number, const void* from, int64_t step) {
    for (int r = 0; r < TILE_SIDE; r++) memcpy(tile_register(number)->rows[r], static_cast<const char*>(from) + r * step, 64);
}
inline void tile_store(int number, void* to, int64_t step) {
    for (int r = 0; r < TILE_SIDE; r++) memcpy(static_cast<char*>(to) + r * step, tile_register(number)->rows[r], 64);
}
inline void tile_dot(int c, int a, int b) {
    const TileRegister *A = tile_register(a), *B = tile_register(b);
    for (int m = 0; m < TILE_SIDE; m++) {
        for (int n = 0; n < TILE_SIDE; n++) {
            float even = 0, odd = 0;
            for (int k = 0; k < TILE_SIDE; k++) {
                even = tile_fma(A->rows[m][k] << 16, B->rows[k][n] << 16, even);
                odd = tile_fma(A->rows[m][k] & 0xffff0000, B->rows[k][n] & 0xffff0000, odd);
            }
            uint32_t& sum = tile_register(c)->rows[m][n];
            const float total = flushed(flushed(from_bits(sum)) + flushed(even + odd));
            memcpy(&sum, &total, 4);
        }
    }
}

inline void tiles_begin() {}
inline void tiles_end() {}
#define FB_TILES_FENCE() ((void)0)
#define FB_TILE_ZERO(c) ((void)memset(tile_register(c), 0, sizeof(TileRegister)))
#define FB_TILE_LOAD(c, from, step) tile_load(c, from, step)
#define FB_TILE_STORE(c, to, step) tile_store(c, to, step)
#define FB_TILE_DOT(c, a, b) tile_dot(c, a, b)

#endif

}  // namespace
#else
namespace {
inline void tiles_begin() {}
inline void tiles_end() {}
}  // namespace
#endif
