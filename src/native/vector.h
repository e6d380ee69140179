// One vector register of float or double, and what the kernels do with it.
//
// Each instruction set is a translation unit of its own, compiled from the same source with its own flags. Whatever had
// external linkage here would be merged by the linker into one copy for all of them, perhaps the AVX-512 one (SIGILL on
// an older machine). So everything is in an anonymous namespace, and no header with templates of its own is included.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define FB_INLINE inline __attribute__((always_inline))

namespace {

#if defined(__AVX512F__)
#define FB_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define FB_VECTOR_BYTES 32
#else
#define FB_VECTOR_BYTES 16  // SSE2, NEON. Wider than a register would go through memory, 10 times slower.
#endif

template <class T>
struct vec {
    static constexpr int lanes = FB_VECTOR_BYTES / sizeof(T);
    typedef T type __attribute__((vector_size(FB_VECTOR_BYTES)));
    typedef decltype(type{} < type{}) mask;  // signed integers as wide as T: 0 or -1 in each lane
    typedef T aligned_in_memory __attribute__((vector_size(FB_VECTOR_BYTES), may_alias));
    typedef T in_memory __attribute__((vector_size(FB_VECTOR_BYTES), may_alias, aligned(sizeof(T))));
};

template <class T>
using V = typename vec<T>::type;  // V<float> v; the arithmetic operators, < and v[i] are the compiler's own
template <class T>
using M = typename vec<T>::mask;

// Aligned to a whole vector.
template <class T>
FB_INLINE V<T> load(const T* p) {
    return *reinterpret_cast<const typename vec<T>::aligned_in_memory*>(p);
}
template <class T>
FB_INLINE void store(T* p, V<T> v) {
    *reinterpret_cast<typename vec<T>::aligned_in_memory*>(p) = v;
}

// Aligned to T.
template <class T>
FB_INLINE V<T> loadu(const T* p) {
    return *reinterpret_cast<const typename vec<T>::in_memory*>(p);
}
template <class T>
FB_INLINE void storeu(T* p, V<T> v) {
    *reinterpret_cast<typename vec<T>::in_memory*>(p) = v;
}

template <class T>
FB_INLINE V<T> broadcast(T x) {
    return x - V<T>{};  // minus: -0 + 0 would be +0
}

// a * b + c, rounded once where the machine can (FB_FMA), else twice. The instruction is named: what a compiler makes of
// a * b + c by itself depends on what stands around it, so that two forms of one sum differed in their last bits.
#if defined(__FMA__) || defined(__AVX512F__) || defined(__aarch64__)
#define FB_FMA 1
#else
#define FB_FMA 0
#endif
template <class Vec>
FB_INLINE Vec fma(Vec a, Vec b, Vec c) {
    [[maybe_unused]] constexpr bool floats = sizeof(a[0]) == sizeof(float);
#if defined(__AVX512F__)
    if constexpr (sizeof(Vec) == 64 && floats) return Vec(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c)));
    if constexpr (sizeof(Vec) == 64 && !floats) return Vec(_mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c)));
#endif
#if defined(__FMA__)
    if constexpr (sizeof(Vec) == 32 && floats) return Vec(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c)));
    if constexpr (sizeof(Vec) == 32 && !floats) return Vec(_mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c)));
    if constexpr (sizeof(Vec) == 16 && floats) return Vec(_mm_fmadd_ps(__m128(a), __m128(b), __m128(c)));
    if constexpr (sizeof(Vec) == 16 && !floats) return Vec(_mm_fmadd_pd(__m128d(a), __m128d(b), __m128d(c)));
#elif defined(__aarch64__)
    if constexpr (sizeof(Vec) == 16 && floats) return Vec(vfmaq_f32(float32x4_t(c), float32x4_t(a), float32x4_t(b)));
    if constexpr (sizeof(Vec) == 16 && !floats) return Vec(vfmaq_f64(float64x2_t(c), float64x2_t(a), float64x2_t(b)));
    if constexpr (sizeof(Vec) == 8 && floats) return Vec(vfma_f32(float32x2_t(c), float32x2_t(a), float32x2_t(b)));
    if constexpr (sizeof(Vec) == 8 && !floats) return Vec(vfma_f64(float64x1_t(c), float64x1_t(a), float64x1_t(b)));
#else
    return a * b + c;
#endif
}

// Where a or b is NaN, both return b: min(limit, x) and max(limit, x) keep a NaN in x. That is x86's own instruction,
// but GCC does not see it in a < b ? a : b where one of the two is a constant.
#if defined(__AVX512F__)
FB_INLINE V<float> min(V<float> a, V<float> b) { return _mm512_maskz_min_ps(0xffff, a, b); }
FB_INLINE V<float> max(V<float> a, V<float> b) { return _mm512_maskz_max_ps(0xffff, a, b); }
FB_INLINE V<double> min(V<double> a, V<double> b) { return _mm512_maskz_min_pd(0xff, a, b); }
FB_INLINE V<double> max(V<double> a, V<double> b) { return _mm512_maskz_max_pd(0xff, a, b); }
#elif defined(__AVX2__)
FB_INLINE V<float> min(V<float> a, V<float> b) { return _mm256_min_ps(a, b); }
FB_INLINE V<float> max(V<float> a, V<float> b) { return _mm256_max_ps(a, b); }
FB_INLINE V<double> min(V<double> a, V<double> b) { return _mm256_min_pd(a, b); }
FB_INLINE V<double> max(V<double> a, V<double> b) { return _mm256_max_pd(a, b); }
#elif defined(__SSE2__)
FB_INLINE V<float> min(V<float> a, V<float> b) { return _mm_min_ps(a, b); }
FB_INLINE V<float> max(V<float> a, V<float> b) { return _mm_max_ps(a, b); }
FB_INLINE V<double> min(V<double> a, V<double> b) { return _mm_min_pd(a, b); }
FB_INLINE V<double> max(V<double> a, V<double> b) { return _mm_max_pd(a, b); }
#else
template <class Vec>
FB_INLINE Vec min(Vec a, Vec b) {
    return a < b ? a : b;
}
template <class Vec>
FB_INLINE Vec max(Vec a, Vec b) {
    return a > b ? a : b;
}
#endif

// a in the lanes where the comparison holds, b in the others.
template <class Mask, class Vec>
FB_INLINE Vec select(Mask where, Vec a, Vec b) {
    return where ? a : b;
}

// Of 32 numbers the ones that the last five bits of each lane name.
#if FB_VECTOR_BYTES == 64
template <class Names>
FB_INLINE V<float> look_up(const float* numbers, Names names) {
    return _mm512_maskz_permutex2var_ps(0xffff, load(numbers), __m512i(names), load(numbers + 16));
}
#endif

// Correctly rounded; NaN of what is negative.
#if defined(__AVX512F__)
FB_INLINE V<float> square_root(V<float> v) { return _mm512_maskz_sqrt_ps(0xffff, v); }
FB_INLINE V<double> square_root(V<double> v) { return _mm512_maskz_sqrt_pd(0xff, v); }
#elif defined(__AVX2__)
FB_INLINE V<float> square_root(V<float> v) { return _mm256_sqrt_ps(v); }
FB_INLINE V<double> square_root(V<double> v) { return _mm256_sqrt_pd(v); }
#elif defined(__SSE2__)
FB_INLINE V<float> square_root(V<float> v) { return _mm_sqrt_ps(v); }
FB_INLINE V<double> square_root(V<double> v) { return _mm_sqrt_pd(v); }
#else
FB_INLINE V<float> square_root(V<float> v) {
    for (int i = 0; i < vec<float>::lanes; i++) v[i] = __builtin_sqrtf(v[i]);
    return v;
}
FB_INLINE V<double> square_root(V<double> v) {
    for (int i = 0; i < vec<double>::lanes; i++) v[i] = __builtin_sqrt(v[i]);
    return v;
}
#endif

FB_INLINE V<float> abs(V<float> v) { return (V<float>)((M<float>)v & 0x7fffffff); }
FB_INLINE V<double> abs(V<double> v) { return (V<double>)((M<double>)v & 0x7fffffffffffffff); }

// A bit for each lane that is not 0; for NaN too.
#if defined(__AVX512F__)
FB_INLINE unsigned nonzero_lanes(V<float> v) { return _mm512_cmp_ps_mask(v, V<float>{}, _CMP_NEQ_UQ); }
FB_INLINE unsigned nonzero_lanes(V<double> v) { return _mm512_cmp_pd_mask(v, V<double>{}, _CMP_NEQ_UQ); }
#elif defined(__AVX2__)
FB_INLINE unsigned nonzero_lanes(V<float> v) { return unsigned(_mm256_movemask_ps(_mm256_cmp_ps(v, V<float>{}, _CMP_NEQ_UQ))); }
FB_INLINE unsigned nonzero_lanes(V<double> v) {
    return unsigned(_mm256_movemask_pd(_mm256_cmp_pd(v, V<double>{}, _CMP_NEQ_UQ)));
}
#elif defined(__SSE2__)
FB_INLINE unsigned nonzero_lanes(V<float> v) { return unsigned(_mm_movemask_ps(_mm_cmpneq_ps(v, V<float>{}))); }
FB_INLINE unsigned nonzero_lanes(V<double> v) { return unsigned(_mm_movemask_pd(_mm_cmpneq_pd(v, V<double>{}))); }
#else
template <class Vec>
FB_INLINE unsigned nonzero_lanes(Vec v) {
    unsigned bits = 0;
    for (unsigned i = 0; i < sizeof(v) / sizeof(v[0]); i++) bits |= unsigned(v[i] != 0) << i;
    return bits;
}
#endif

// The first n lanes, 0 <= n <= lanes; the others are 0 and their memory is not touched.
#if defined(__AVX512F__)
FB_INLINE V<float> load_first(const float* p, int n) { return _mm512_maskz_loadu_ps((1u << n) - 1, p); }
FB_INLINE V<double> load_first(const double* p, int n) { return _mm512_maskz_loadu_pd((1u << n) - 1, p); }
FB_INLINE void store_first(float* p, V<float> v, int n) { _mm512_mask_storeu_ps(p, (1u << n) - 1, v); }
FB_INLINE void store_first(double* p, V<double> v, int n) { _mm512_mask_storeu_pd(p, (1u << n) - 1, v); }
#elif defined(__AVX2__)
FB_INLINE __m256i first_floats(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FB_INLINE __m256i first_doubles(int n) { return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3)); }
FB_INLINE V<float> load_first(const float* p, int n) { return _mm256_maskload_ps(p, first_floats(n)); }
FB_INLINE V<double> load_first(const double* p, int n) { return _mm256_maskload_pd(p, first_doubles(n)); }
FB_INLINE void store_first(float* p, V<float> v, int n) { _mm256_maskstore_ps(p, first_floats(n), v); }
FB_INLINE void store_first(double* p, V<double> v, int n) { _mm256_maskstore_pd(p, first_doubles(n), v); }
#else
template <class T>
FB_INLINE V<T> load_first(const T* p, int n) {
    V<T> v = {};
    for (int i = 0; i < n; i++) v[i] = p[i];
    return v;
}
template <class T>
FB_INLINE void store_first(T* p, V<T> v, int n) {
    for (int i = 0; i < n; i++) p[i] = v[i];
}
#endif

// The sum of all lanes, halves first: always in the same order.
template <class T, int bytes>
FB_INLINE T sum_of(const void* v) {
    if constexpr (bytes == sizeof(T)) {
        return *static_cast<const T*>(v);
    } else {
        typedef T half __attribute__((vector_size(bytes / 2), may_alias));
        half h = static_cast<const half*>(v)[0] + static_cast<const half*>(v)[1];
        return sum_of<T, bytes / 2>(&h);
    }
}
FB_INLINE float sum(V<float> v) { return sum_of<float, sizeof v>(&v); }
FB_INLINE double sum(V<double> v) { return sum_of<double, sizeof v>(&v); }

// As many vectors as one has lanes: the rows for the columns. Number 2 i and 2 i + 1 become what two rows have, half a square
// apart, one from each in turn; once for each bit of a place.
#if defined(__clang__)
#define FB_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else  // GCC has the other one from 12 on
#define FB_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, decltype(a < b){__VA_ARGS__})
#endif
template <class Vec>
FB_INLINE void interleave(Vec a, Vec b, Vec* to) {
    constexpr int lanes = sizeof(Vec) / sizeof(a[0]);
    if constexpr (lanes == 2) {
        to[0] = FB_SHUFFLE(a, b, 0, 2);
        to[1] = FB_SHUFFLE(a, b, 1, 3);
    } else if constexpr (lanes == 4) {
        to[0] = FB_SHUFFLE(a, b, 0, 4, 1, 5);
        to[1] = FB_SHUFFLE(a, b, 2, 6, 3, 7);
    } else {
        static_assert(lanes == 8);
        to[0] = FB_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
        to[1] = FB_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    }
}
#undef FB_SHUFFLE
template <class Vec>
FB_INLINE void transpose(Vec* x) {
    constexpr int lanes = sizeof(Vec) / sizeof(x[0][0]);
#pragma GCC unroll 4
    for (int bit = 1; bit < lanes; bit *= 2) {
        Vec y[lanes];
#pragma GCC unroll 8
        for (int i = 0; i < lanes / 2; i++) interleave(x[i], x[i + lanes / 2], y + 2 * i);
#pragma GCC unroll 8
        for (int i = 0; i < lanes; i++) x[i] = y[i];
    }
}

// The same of 16 by 16 numbers.
#if defined(__AVX512F__)
FB_INLINE void transpose(V<float>* x) {
    V<float> y[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {  // 2 by 2
        y[2 * i] = _mm512_maskz_unpacklo_ps(0xffff, x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm512_maskz_unpackhi_ps(0xffff, x[2 * i], x[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {  // 4 by 4
#pragma GCC unroll 2
        for (int k = 0; k < 2; k++) {
            const __m512d a = __m512d(y[4 * i + k]), b = __m512d(y[4 * i + 2 + k]);
            x[4 * i + 2 * k] = V<float>(_mm512_maskz_unpacklo_pd(0xff, a, b));
            x[4 * i + 2 * k + 1] = V<float>(_mm512_maskz_unpackhi_pd(0xff, a, b));
        }
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {  // x[4 i + k] has columns k, k + 4, ... of rows 4 i ... 4 i + 3
        const __m512 a = x[k], b = x[4 + k], c = x[8 + k], d = x[12 + k];
        const __m512 ab = _mm512_maskz_shuffle_f32x4(0xffff, a, b, 0x88), AB = _mm512_maskz_shuffle_f32x4(0xffff, a, b, 0xdd);
        const __m512 cd = _mm512_maskz_shuffle_f32x4(0xffff, c, d, 0x88), CD = _mm512_maskz_shuffle_f32x4(0xffff, c, d, 0xdd);
        y[k] = _mm512_maskz_shuffle_f32x4(0xffff, ab, cd, 0x88);
        y[8 + k] = _mm512_maskz_shuffle_f32x4(0xffff, ab, cd, 0xdd);
        y[4 + k] = _mm512_maskz_shuffle_f32x4(0xffff, AB, CD, 0x88);
        y[12 + k] = _mm512_maskz_shuffle_f32x4(0xffff, AB, CD, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) x[i] = y[i];
}
#endif

}  // namespace
