// What check_tiles.cpp compares: compiled once with the tile instructions and once with their twin, FB_CASE naming it.
#include "tile_case.h"

#include "../../src/native/tile_product.h"

namespace {

void dot(const void* a, const void* b, float* c) {
    tiles_begin();
    FB_TILES_FENCE();
    FB_TILE_LOAD(0, c, 64);
    FB_TILE_LOAD(4, a, 64);
    FB_TILE_LOAD(6, b, 64);
    FB_TILE_DOT(0, 4, 6);
    FB_TILE_STORE(0, c, 64);
    FB_TILES_FENCE();
    tiles_end();
}

int64_t bytes(int64_t K, int64_t n) { return (n + TILE_SIDE - 1) / TILE_SIDE * Cut(K).bytes(); }

bool product(const float* A, const float* B, const float* start, float* C, int64_t M, int64_t N, int64_t K, char* a, char* b) {
    const Cut cut(K);
    const bool tame = pile_rows(cut, M, [&](int64_t r) { return A + r * K; }, a);
    for (int64_t n = 0; n < N; n += TILE_SIDE) {
        pile_columns(cut, K, [&](int64_t k) { return line(B + k * N + n); }, b + n / TILE_SIDE * cut.bytes());
    }
    tiles_begin();
    for (int64_t n = 0; n < N; n += 2 * TILE_SIDE) {
        const int count = N - n > TILE_SIDE ? 2 : 1;
        tile_panel(cut, a, M / TILE_SIDE, b + n / TILE_SIDE * cut.bytes(), count, start ? start + n : nullptr, C + n, N, false);
    }
    tiles_end();
    return tame;
}

void transposed(const float* A, int64_t rows, int64_t n, int64_t K, char* to) { pile_transposed(Cut(K), A, n, rows, n, to); }
void by_rows(const float* A, int64_t rows, int64_t K, char* to) {
    pile_rows(Cut(K), rows, [&](int64_t r) { return A + r * K; }, to);
}

}  // namespace

extern "C" {
extern const TileCase FB_CASE;
const TileCase FB_CASE = {dot, bytes, product, transposed, by_rows};
}
