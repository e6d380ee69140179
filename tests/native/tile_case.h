#pragma once

#include <stdint.h>

struct TileCase {
    void (*dot)(const void* a, const void* b, float* c);  // of tiles of 16 rows of 64 bytes
    int64_t (*bytes)(int64_t K, int64_t n);
    // C (M, N) = start + A (M, K) B (K, N), row after row; M and N multiples of 16. Whether A is tame.
    bool (*product)(
        const float* A, const float* B, const float* start, float* C, int64_t M, int64_t N, int64_t K, char* a, char* b
    );
    void (*transposed)(const float* A, int64_t rows, int64_t n, int64_t K, char* to);  // of A^T, filled up to K
    void (*by_rows)(const float* A, int64_t rows, int64_t K, char* to);
};
