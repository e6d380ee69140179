// The tile instructions' twin against the hardware, bit for bit where there is one; and the products by tiles against float64.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <random>
#include <vector>

#include "../../src/native/fullbatch_native.h"
#include "tile_case.h"

extern "C" const TileCase fb_tile_twin;
#if defined(FB_HAVE_AMX)
extern "C" const TileCase fb_tile_amx;
#endif

namespace {

std::mt19937 random_numbers(1);
int checks = 0, failures = 0;

void check(bool good, const char* what, double a = 0, double b = 0) {
    checks++;
    if (good) return;
    failures++;
    printf("%s: %g, %g\n", what, a, b);
}

template <class T>
struct Aligned {  // to a line, as tiles and vectors are
    T* p;
    explicit Aligned(int64_t n) : p(static_cast<T*>(aligned_alloc(64, size_t((n * int64_t(sizeof(T)) + 127) / 64 * 64)))) {
        memset(static_cast<void*>(p), 0, size_t((n * int64_t(sizeof(T)) + 127) / 64 * 64));
    }
    ~Aligned() { free(p); }
    Aligned(const Aligned&) = delete;
};

float number(double size) { return float(std::normal_distribution<double>()(random_numbers) * size); }
uint16_t upper_half(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return uint16_t(bits >> 16);
}

// Pairs of bf16 of all sizes: sums that cancel, denormals, what is flushed, overflows, infinities and NaN.
void fill(uint16_t* to, double size, bool wild) {
    for (int i = 0; i < 512; i++) {
        to[i] = upper_half(number(size * exp2(double(random_numbers() % 12))));
        if (wild && random_numbers() % 100 == 0) to[i] = uint16_t(random_numbers());
    }
}

[[maybe_unused]] bool same(const float* a, const float* b, int64_t n) {  // a NaN has many bits
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(a + i, b + i, 4) != 0 && !(isnan(a[i]) && isnan(b[i]))) return false;
    }
    return true;
}

void check_dots(const TileCase& here) {
    static const double SIZES[] = {1, 1e-19, 1e-20, 1e-36, 1e18, 1e19};
    Aligned<uint16_t> a(512), b(512);
    Aligned<float> c(256), expected(256);
    for (int turn = 0; turn < 300; turn++) {
        const double size = SIZES[turn % 6];
        fill(a.p, size, turn % 4 == 0), fill(b.p, turn % 6 == 3 ? 1 : size, turn % 4 == 1);
        for (int i = 0; i < 256; i++) c.p[i] = turn % 5 == 0 ? 0 : number(turn % 6 == 3 ? 1e-37 : size * size * 10);
        memcpy(expected.p, c.p, 1024);
        here.dot(a.p, b.p, c.p);
        fb_tile_twin.dot(a.p, b.p, expected.p);
        check(same(c.p, expected.p, 256), "a product of tiles is not the twin's, of size", size);
    }
}

void check_product(const TileCase* here, int64_t M, int64_t N, int64_t K, bool started) {
    Aligned<float> A(M * K), B(K * N), start(N), C(M * N), other(M * N);
    for (int64_t i = 0; i < M * K; i++) A.p[i] = number(1);
    for (int64_t i = 0; i < K * N; i++) B.p[i] = number(1) + 1;
    for (int64_t i = 0; i < N; i++) start.p[i] = number(1);
    Aligned<char> a(fb_tile_twin.bytes(K, M)), b(fb_tile_twin.bytes(K, N));
    const float* from = started ? start.p : nullptr;
    check(fb_tile_twin.product(A.p, B.p, from, C.p, M, N, K, a.p, b.p), "what is tame is not");
    double worst = 0, worst_plain = 0;
    for (int64_t m = 0; m < M; m++) {
        for (int64_t n = 0; n < N; n++) {
            double sum = started ? start.p[n] : 0, size = 1;
            float plain = float(sum);
            for (int64_t k = 0; k < K; k++) {
                sum += double(A.p[m * K + k]) * B.p[k * N + n], size += fabs(double(A.p[m * K + k]) * B.p[k * N + n]);
                plain = fmaf(A.p[m * K + k], B.p[k * N + n], plain);
            }
            worst = fmax(worst, fabs(C.p[m * N + n] - sum) / size), worst_plain = fmax(worst_plain, fabs(plain - sum) / size);
        }
    }
    check(worst <= 2e-7 && worst <= 2 * worst_plain + 6e-8, "a product is off, where fused steps are", worst, worst_plain);
    if (here == nullptr) return;
    check(here->product(A.p, B.p, from, other.p, M, N, K, a.p, b.p), "what is tame is not");
    check(same(C.p, other.p, M * N), "a product is not the twin's, K", double(K));
}

void check_piles(const TileCase& here) {
    const int64_t rows = 50, n = 37, K = 64;  // A^T's pile is that of a copy of it
    Aligned<float> A(rows * n), turned(48 * K);
    for (int64_t e = 0; e < rows; e++) {
        for (int64_t i = 0; i < n; i++) turned.p[i * K + e] = A.p[e * n + i] = number(1);
    }
    const int64_t bytes = here.bytes(K, n);
    Aligned<char> a(bytes), b(bytes);
    here.transposed(A.p, rows, n, K, a.p);
    here.by_rows(turned.p, 48, K, b.p);
    check(memcmp(a.p, b.p, size_t(bytes)) == 0, "the pile of a transposed array is another");
    Aligned<char> pile(here.bytes(40, 16)), other(here.bytes(40, 16));
    Aligned<float> wild(16 * 40), C(16 * 16);
    for (float x : {0x1p50f, float(INFINITY), float(NAN), -0x1p127f}) {
        wild.p[37] = x;
        check(!here.product(wild.p, A.p, nullptr, C.p, 16, 16, 40, pile.p, other.p), "what is not tame is", x);
    }
}

}  // namespace

int main() {
    const TileCase* here = nullptr;
#if defined(FB_HAVE_AMX)
    for (int isa = 0; fb_isa_name(isa); isa++) {
        if (strcmp(fb_isa_name(isa), "amx") == 0 && fb_isa_usable(isa)) here = &fb_tile_amx;
    }
#endif
    printf(here ? "the twin beside the hardware\n" : "no tiles on this machine: the twin alone\n");
    if (here) check_dots(*here);
    for (const TileCase* one : {&fb_tile_twin, here}) {
        if (one) check_piles(*one);
    }
    for (int64_t K : {1, 2, 5, 9, 10, 16, 17, 31, 32, 33, 64, 100, 130}) check_product(here, 32, 48, K, K % 2);
    check_product(here, 64, 16, 784, true);
    printf("%d passed, %d failed\n", checks - failures, failures);
    return failures != 0;
}
