// exp, tanh, the logistic function, log1p and log of a vector of float or double, for every argument: results within
// 5 ulp (within 2 of the smallest denormal where they are denormal: none is flushed to 0), infinities and NaN as in
// C, |tanh| <= 1. tests/test_native_math.py measures it.
//
// No branches, and no table but one that a permutation reads, so that the compiler can put them into any loop.
// Multiplications and divisions are the price: Zen 4 starts one 512-bit multiplication or fused multiply-add a cycle, a
// division takes the place of two, and additions, min and max have a pipe of their own. So a division beats an estimate
// with a Newton step, and a polynomial whose highest coefficient is 1 saves a multiplication. Horner's scheme is enough:
// other vectors fill its latency.
//
// The coefficients are our own: minimax fits of the relative error by Lawson's iteration (least squares on Chebyshev
// points, each point's weight multiplied by its error until the extremes are equal) with a 64-bit significand,
// rounded one after another, lowest power first, the rest fitted again each time. "Error" below is that of the
// formula before rounding.
#pragma once

#include "fullbatch_native.h"
#include "vector.h"

namespace {

template <class Vec>
using lane = decltype(Vec{}[0] + 0);  // float of V<float>

// The format of T. ln2 = ln2_high + ln2_low, where n * ln2_high is exact for every exponent n.
template <class T>
struct format;
template <>
struct format<float> {
    typedef uint32_t uint;
    static constexpr int fraction_bits = 23, bias = 127;
    static constexpr float log2_e = 0x1.715476p+0f, ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
    static constexpr float smallest_normal = 0x1p-126f, infinity = __builtin_inff(), nan = __builtin_nanf("");
    static constexpr uint sqrt_half = 0x3f3504f3;
    static constexpr float exp_lowest = -104, exp_highest = 89;  // beyond: 0, infinity
    static constexpr int exponent_of_k = -60;                    // for v_sigmoid
    static constexpr float k = 0x1p-60f;
};
template <>
struct format<double> {
    typedef uint64_t uint;
    static constexpr int fraction_bits = 52, bias = 1023;
    static constexpr double log2_e = 0x1.71547652b82fep+0, ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
    static constexpr double smallest_normal = 0x1p-1022, infinity = __builtin_inf(), nan = __builtin_nan("");
    static constexpr uint sqrt_half = 0x3fe6a09e667f3bcd;
    static constexpr double exp_lowest = -746, exp_highest = 710;
    static constexpr int exponent_of_k = -500;
    static constexpr double k = 0x1p-500;
};

template <class T>
struct bits_of {
    typedef typename format<T>::uint type __attribute__((vector_size(FB_VECTOR_BYTES)));
};
template <class T>
using Bits = typename bits_of<T>::type;  // the same lanes as unsigned integers

// c0 + x (c1 + x (c2 + ...))
FB_INLINE V<float> polynomial(V<float>, float c) { return broadcast(c); }
FB_INLINE V<double> polynomial(V<double>, double c) { return broadcast(c); }
template <class Vec>
FB_INLINE Vec polynomial(Vec, Vec c) {
    return c;
}
template <class Vec, class T, class... Rest>
FB_INLINE Vec polynomial(Vec x, T c, Rest... rest) {
    return fma(polynomial(x, rest...), x, broadcast(c));
}

// x = n ln 2 + r with an integer n and |r| <= ln(2) / 2.
template <class T>
struct Reduced {
    V<T> r;
    Bits<T> n;  // n + offset in the bits of the fraction, with other bits above
};
template <class T>
FB_INLINE Reduced<T> reduce(V<T> x, int offset) {
    using F = format<T>;
    // Added to 1.5 * 2^fraction_bits a number is rounded to an integer, and the sum's last bits are that integer.
    const V<T> one_and_a_half = broadcast(T(3) * (typename F::uint(1) << (F::fraction_bits - 1)) + offset);
    const V<T> sum = fma(x, broadcast(F::log2_e), one_and_a_half);
    const V<T> n = sum - one_and_a_half;
    const V<T> r = fma(n, broadcast(-F::ln2_low), fma(n, broadcast(-F::ln2_high), x));
    return {r, (Bits<T>)sum};
}

// 2^(exponent - bias), of an exponent within the normal numbers, whatever bits are above.
template <class T>
FB_INLINE V<T> power_of_2(Bits<T> exponent) {
    return (V<T>)(exponent << format<T>::fraction_bits);
}

// e^r for |r| <= ln(2) / 2. Error 2^-28.2, 2^-57.9.
FB_INLINE V<float> exp_near_0(V<float> r) {
    return polynomial(r, 1.0f, 1.0f, 0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558bcp-5f, 0x1.1239c6p-7f, 0x1.6a4154p-10f);
}
FB_INLINE V<double> exp_near_0(V<double> r) {
    return polynomial(
        r, 1.0, 1.0, 0x1.000000000000ap-1, 0x1.5555555555502p-3, 0x1.55555555506d0p-5, 0x1.1111111126501p-7,
        0x1.6c16c18479868p-10, 0x1.a01a013046e6bp-13, 0x1.a0199941646d8p-16, 0x1.71df1a4b8d84ap-19, 0x1.28ae2c3b0b9a7p-22,
        0x1.ad8f03903dbb2p-26
    );
}

template <class Vec>
FB_INLINE Vec v_exp(Vec x) {
    using T = lane<Vec>;
    using F = format<T>;
    const Reduced<T> reduced = reduce<T>(max(broadcast(F::exp_lowest), min(broadcast(F::exp_highest), x)), 2 * F::bias);
    // 2^n in two factors, for neither 2^128 nor a denormal can be made from an exponent's bits alone.
    const Bits<T> exponent = reduced.n & (4 * F::bias + 3);
    const Bits<T> half = exponent >> 1;
    return exp_near_0(reduced.r) * power_of_2<T>(half) * power_of_2<T>(exponent - half);
}

// 1 / (1 + e^-x) as k / (k + k e^-x), with a power k of 2 such that k e^-x is a normal number for every x that matters,
// where e^-x alone would overflow before the result vanishes. The division then rounds denormal results as it should.
template <class Vec>
FB_INLINE Vec v_sigmoid(Vec x) {
    using T = lane<Vec>;
    using F = format<T>;
    const Vec held = max(broadcast(F::exp_lowest), min(broadcast(T(40)), x));  // sigmoid(40) is 1
    const Reduced<T> reduced = reduce<T>(-held, F::bias + F::exponent_of_k);
    const Vec k = broadcast(F::k);
    return k / fma(power_of_2<T>(reduced.n), exp_near_0(reduced.r), k);
}

template <class Vec>
FB_INLINE Vec with_sign_of(Vec x, Vec size) {
    return (Vec)((M<lane<Vec>>)size | ((M<lane<Vec>>)x & (M<lane<Vec>>)broadcast(lane<Vec>(-0.0))));
}

#if FB_VECTOR_BYTES == 64
// float, where a register has 16 lanes: with the multiple c of 1/2 that is nearest to |x|, and y = |x| - c, tanh|x| is
// (tanh c + tanh y) / (1 + tanh c tanh y). tanh c comes from a table of two registers, and tanh y = y / p with a p that is
// short in y^2; so it is (tanh c p + y) / (p + tanh c y), at most 1 whatever the rounding, for y < p. On Zen 4 it takes 8
// of the cycles of multiplications, where the formula below takes 10, and 3 ulp at most where that takes 4. A polynomial of
// degree 5 in each of 16 intervals, its coefficients by permutation, is within 1.3 ulp, but each permutation takes half a
// cycle from the multiplications around it: 12 alone, and 10 between the products of the next tile. Error 2^-25.6.
alignas(64) constexpr float TANH_OF_HALVES[32] = {
    0,
    0x1.d9353ep-2f,
    0x1.85efacp-1f,
    0x1.cf6f98p-1f,
    0x1.ed9506p-1f,
    0x1.f92582p-1f,
    0x1.fd77d2p-1f,
    0x1.ff112cp-1f,
    0x1.ffa818p-1f,
    0x1.ffdfa8p-1f,
    0x1.fff41ap-1f,
    0x1.fffbap-1f,
    0x1.fffe64p-1f,
    0x1.ffff68p-1f,
    0x1.ffffc8p-1f,
    0x1.ffffecp-1f,
    0x1.fffff8p-1f,
    0x1.fffffep-1f,
    1,
};

FB_INLINE V<float> v_tanh(V<float> x) {
    const V<float> size = min(broadcast(9.1f), abs(x));     // tanh(9.1) is 1
    const V<float> shifted = size + broadcast(0x1.8p+22f);  // rounded to halves, which are its last bits
    const V<float> y = size - (shifted - broadcast(0x1.8p+22f)), y2 = y * y;
    const V<float> t = look_up(TANH_OF_HALVES, (Bits<float>)shifted);
    const V<float> p = polynomial(y2, 1.0f, 0x1.55546ap-2f, -0x1.691966p-6f);
    return with_sign_of(x, fma(t, p, y) / fma(t, y, p));
}
#else
// float: tanh|x| = 2T / (1 + T^2) with T = tanh|x / 2| = N / D, which is 2ND / (2ND + (D - N)^2). That is at most 1
// whatever the rounding, and forgives errors of T the more the nearer it is to 1, so few coefficients do. N / D was
// fitted with that weight and with a D(0) whose significand is large (then roundings matter less), and its last bits
// were searched for the smallest largest error, with and without fused multiply-add. Error 2^-25.
FB_INLINE V<float> v_tanh(V<float> x) {
    const V<float> size = min(broadcast(9.1f), abs(x)), t = size * size;  // tanh(9.1) is 1
    const V<float> N = size * polynomial(t, 0x1.cafbf6p+18f, 0x1.aff792p+13f, 0x1.900cccp+5f);
    const V<float> D = polynomial(t, 0x1.cafbf6p+19f, 0x1.9dfb16p+16f, t + broadcast(0x1.129882p+10f));
    const V<float> product = N * (D + D), difference = D - N;
    return with_sign_of(x, product / fma(difference, difference, product));
}
#endif

// double: e^-2|x| = s e^r with s = 2^n, and e^r = (1 + T) / (1 - T) with T = tanh(r / 2), a short odd polynomial. So
// tanh|x| = (1 - e^-2|x|) / (1 + e^-2|x|) = ((1 - s) - T (1 + s)) / ((1 + s) - T (1 - s)), with no cancellation near
// 0, where s = 1. Error of T 2^-57.7.
FB_INLINE V<double> v_tanh(V<double> x) {
    const V<double> size = min(broadcast(20.0), abs(x));  // tanh(20) is 1
    const Reduced<double> reduced = reduce<double>(-(size + size), format<double>::bias);
    const V<double> u = 0.5 * reduced.r, t = u * u;
    const V<double> T =
        fma(u * t,
            polynomial(
                t, -0x1.55555555554b9p-2, 0x1.11111110dfcaep-3, -0x1.ba1ba1148f2d1p-5, 0x1.664ec88a2c8b5p-6,
                -0x1.223c1bfa1832ep-7, 0x1.c372b906a972ap-9
            ),
            u);
    const V<double> s = power_of_2<double>(reduced.n), plus = 1.0 + s, minus = 1.0 - s;
    return with_sign_of(x, fma(-T, plus, minus) / fma(-T, minus, plus));
}

// (log(1 + f) - w) / w^3 as a polynomial in w^2, where w = 2f / (2 + f): log(1 + f) is 2 artanh(w / 2), an odd
// series. For -1/2 <= f <= 1. Error of the logarithm 2^-27.7, 2^-59.4.
FB_INLINE V<float> log_series(V<float> w2) {
    return polynomial(w2, 0x1.5555p-4f, 0x1.99d2bp-7f, 0x1.1eb1ap-9f, 0x1.1f12b4p-11f);
}
FB_INLINE V<double> log_series(V<double> w2) {
    return polynomial(
        w2, 0x1.5555555555535p-4, 0x1.99999999a077bp-7, 0x1.249249208a35p-9, 0x1.c71c741dc7445p-12, 0x1.745cb3c96618dp-14,
        0x1.3b1de0897606cp-16, 0x1.10677c2ab5a8ap-18, 0x1.efdd22c43d006p-21, 0x1.559a949d8e857p-23, 0x1.5c8ede7f17b06p-24
    );
}

// log(1 + f) for -1/2 <= f <= 1: all that a cross-entropy needs, in half the time.
template <class Vec>
FB_INLINE Vec v_log1p_near_0(Vec f) {
    using T = lane<Vec>;
    const Vec w = (f + f) / (f + T(2)), w2 = w * w;
    return fma(w * w2, log_series(w2), w);
}

// x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2); x is a positive normal number.
template <class T>
struct Split {
    V<T> f, k;
};
template <class T>
FB_INLINE Split<T> split(V<T> x) {
    using F = format<T>;
    using uint = typename F::uint;
    constexpr uint one = uint(F::bias) << F::fraction_bits, fraction = (uint(1) << F::fraction_bits) - 1;
    const Bits<T> shifted = (Bits<T>)x + (one - F::sqrt_half);
    const V<T> m = (V<T>)((shifted & fraction) + F::sqrt_half);
    // The exponent becomes a number: these are the bits of power + k + bias.
    constexpr T power = T(uint(1) << F::fraction_bits);
    const V<T> k = (V<T>)((shifted >> F::fraction_bits) | (Bits<T>)broadcast(power)) - (power + F::bias);
    return {m - T(1), k};
}

// log of x = 2^k (1 + f), whatever x is.
template <class T>
FB_INLINE V<T> log_of(V<T> x, V<T> f, V<T> k) {
    using F = format<T>;
    const V<T> y = fma(k, broadcast(F::ln2_high), fma(k, broadcast(F::ln2_low), v_log1p_near_0(f)));
    const V<T> of_0_or_less = select(x == T(0), broadcast(-F::infinity), broadcast(F::nan));
    return select(x > T(0), select(x < F::infinity, y, x), of_0_or_less);
}

template <class Vec>
FB_INLINE Vec v_log(Vec x) {
    using T = lane<Vec>;
    using F = format<T>;
    constexpr int lift = F::fraction_bits + 1;
    const auto denormal = x < F::smallest_normal;
    const Split<T> parts = split<T>(select(denormal, x * T(typename F::uint(1) << lift), x));
    return log_of<T>(x, parts.f, parts.k - select(denormal, broadcast(T(lift)), Vec{}));
}

// Where 1 + x is rounded, x is so large that what is lost does not matter, or x is f itself.
template <class Vec>
FB_INLINE Vec v_log1p(Vec x) {
    using T = lane<Vec>;
    const Vec u = x + T(1);
    const Split<T> parts = split<T>(u);
    const auto is_f = abs(x - T(0.25)) <= T(0.75);
    return with_sign_of(x, log_of<T>(u, select(is_f, x, parts.f), select(is_f, Vec{}, parts.k)));  // the sign: of -0
}

template <class T, class Function>
FB_INLINE void map_each(Function f, const T* x, T* y, int64_t n) {
    constexpr int lanes = vec<T>::lanes;
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) storeu(y + i, f(loadu(x + i)));
    if (i < n) store_first(y + i, f(load_first(x + i, int(n - i))), int(n - i));
}

// y[i] = f(x[i]) for i < n, with f of enum fb_function; y may be x.
template <class T>
void map(int function, const T* x, T* y, int64_t n) {
    switch (function) {
        case FB_EXP: return map_each([](V<T> v) { return v_exp(v); }, x, y, n);
        case FB_F_TANH: return map_each([](V<T> v) { return v_tanh(v); }, x, y, n);
        case FB_F_SIGMOID: return map_each([](V<T> v) { return v_sigmoid(v); }, x, y, n);
        case FB_LOG1P: return map_each([](V<T> v) { return v_log1p(v); }, x, y, n);
        case FB_LOG: return map_each([](V<T> v) { return v_log(v); }, x, y, n);
    }
}

}  // namespace
