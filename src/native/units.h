// Hidden and output units on a tile of examples, beside the array library's activations.py and losses.py, whose formulas
// these are.
#pragma once

#include "vector_math.h"

namespace {

// ---- hidden units: A = g(Z), and g' from A where it can be had from A, else from Z on the way forward ------------------
//
// down(d, d a, a) is d g', for who has d a at hand already.

template <class T>
struct Tanh {
    static constexpr bool from_A = true;
    static FB_INLINE V<T> g(V<T> z) { return v_tanh(z); }
    static FB_INLINE V<T> derivative(V<T> a) { return 1 - a * a; }
    static FB_INLINE V<T> down(V<T> d, V<T> da, V<T> a) { return d - da * a; }
};

template <class T>
struct Sigmoid {
    static constexpr bool from_A = true;
    static FB_INLINE V<T> g(V<T> z) { return v_sigmoid(z); }
    static FB_INLINE V<T> derivative(V<T> a) { return a * (1 - a); }
    static FB_INLINE V<T> down(V<T>, V<T> da, V<T> a) { return da - da * a; }
};

template <class T>
struct Relu {
    static constexpr bool from_A = true;
    static FB_INLINE V<T> g(V<T> z) { return max(V<T>{}, z); }  // in this order a NaN stays one
    static FB_INLINE V<T> derivative(V<T> a) { return select(a > 0, broadcast(T(1)), V<T>{}); }
    static FB_INLINE V<T> down(V<T> d, V<T>, V<T> a) { return d * derivative(a); }
};

template <class T>
struct LeakyRelu {
    static constexpr bool from_A = true;
    static constexpr T leak = T(0.01);
    static FB_INLINE V<T> g(V<T> z) { return select(z > 0, z, leak * z); }
    static FB_INLINE V<T> derivative(V<T> a) { return select(a > 0, broadcast(T(1)), broadcast(leak)); }
    static FB_INLINE V<T> down(V<T> d, V<T>, V<T> a) { return d * derivative(a); }
};

template <class T>
struct Identity {
    static constexpr bool from_A = true;
    static FB_INLINE V<T> g(V<T> z) { return z; }
    static FB_INLINE V<T> derivative(V<T>) { return broadcast(T(1)); }
    static FB_INLINE V<T> down(V<T> d, V<T>, V<T>) { return d * derivative(d); }
};

template <class T>
struct Gelu {
    static constexpr bool from_A = false;
    static constexpr T c = T(0.79788456080286535588), k = T(0.044715), flat = 10;  // sqrt(2 / pi)
    static FB_INLINE V<T> g(V<T> z, V<T>& derivative) {
        // Beyond +-flat tanh u is 1 to the last bit; z^3 would overflow, and infinity times (1 - 1) is NaN.
        V<T> held = min(broadcast(flat), max(broadcast(-flat), z));
        V<T> t = v_tanh(c * (held + k * held * held * held));
        derivative = T(0.5) * (1 + t) + T(0.5) * held * (1 - t * t) * c * (1 + 3 * k * held * held);
        return T(0.5) * z * (1 + t);
    }
};

template <class T>
struct Silu {
    static constexpr bool from_A = false;
    static FB_INLINE V<T> g(V<T> z, V<T>& derivative) {
        V<T> s = v_sigmoid(z);
        derivative = s * (1 + z * (1 - s));
        return z * s;
    }
};

// ``call`` with the unit of an enum fb_activation.
template <class T, class Call>
FB_INLINE void with_unit(int activation, Call call) {
    switch (activation) {
        case FB_TANH: return call(Tanh<T>());
        case FB_SIGMOID: return call(Sigmoid<T>());
        case FB_RELU: return call(Relu<T>());
        case FB_LEAKY_RELU: return call(LeakyRelu<T>());
        case FB_IDENTITY: return call(Identity<T>());
        case FB_GELU: return call(Gelu<T>());
        case FB_SILU: return call(Silu<T>());
    }
}

// ``rows`` by ``vectors`` of Z become A in place; ``D`` takes g' where A does not tell it, and may be NULL if nobody asks.
// In the last vector only ``tail`` lanes are units: the others are made 0, so that no 0 * infinity gets out of them.
template <class T, class Unit>
void activate(Unit, T* Z, T* D, int64_t rows, int64_t step, int vectors, int tail) {
    constexpr int lanes = vec<T>::lanes;
    for (int64_t e = 0; e < rows; e++) {
        for (int v = 0; v < vectors; v++) {
            T* z = Z + e * step + v * lanes;
            V<T> a;
            if constexpr (Unit::from_A) {
                a = Unit::g(load(z));
            } else {
                V<T> derivative;
                a = Unit::g(load(z), derivative);
                if (D != nullptr) store(D + e * step + v * lanes, derivative);
            }
            store(z, a);
        }
        if (tail < lanes) {
            T* z = Z + e * step + (vectors - 1) * lanes;
            store(z, load_first(z, tail));
        }
    }
}

template <class T>
void activate(int activation, T* Z, T* D, int64_t rows, int64_t step, int vectors, int tail) {
    with_unit<T>(activation, [&](auto unit) { activate<T>(unit, Z, D, rows, step, vectors, tail); });
}

FB_INLINE bool keeps_derivative(int activation) { return activation == FB_GELU || activation == FB_SILU; }

// dZ = dA g', with dA made vector by vector by ``back(e, v)``; dZ may be the array that A is.
template <class T, class Unit, class Back>
FB_INLINE void differentiate(Unit, const T* A, const T* D, T* dZ, int64_t rows, int64_t step, int vectors, Back back) {
    constexpr int lanes = vec<T>::lanes;
    for (int64_t e = 0; e < rows; e++) {
        for (int v = 0; v < vectors; v++) {
            const int64_t at = e * step + v * lanes;
            V<T> derivative;
            if constexpr (Unit::from_A) derivative = Unit::derivative(load(A + at));
            else derivative = load(D + at);
            store(dZ + at, back(e, v) * derivative);
        }
    }
}

// A unit whose g' lies in D.
struct Kept {
    static constexpr bool from_A = false;
};

template <class T, class Back>
void differentiate(int activation, const T* A, const T* D, T* dZ, int64_t rows, int64_t step, int vectors, Back back) {
    if (D != nullptr) return differentiate<T>(Kept(), A, D, dZ, rows, step, vectors, back);
    with_unit<T>(activation, [&](auto unit) { differentiate<T>(unit, A, D, dZ, rows, step, vectors, back); });
}

// What the layer below a single output unit needs, in one reading of its A: with d = dz of the unit,
//
//     d g'(A) in place of A,   its sums over the tile added to db,   and dW of the unit, the sums of d A, to dW.
//
// It is dZ but for a factor: dZ = w d g', with w the unit's weights, which comes out of all sums over examples.
template <class T, class Unit>
void below_one_unit(Unit, T* A, const T* D, const T* dz, int64_t rows, int64_t step, int vectors, T* dW, T* db) {
    constexpr int lanes = vec<T>::lanes;
    for (int v = 0; v < vectors; v += 2) {
        const int odd = v + 1 < vectors ? lanes : 0;  // of a last single vector everything is done twice, and kept once
        V<T> w0 = {}, w1 = {}, b0 = {}, b1 = {};
        for (int64_t e = 0; e < rows; e++) {
            T* a = A + e * step + v * lanes;
            const V<T> d = broadcast(dz[e]), a0 = load(a), a1 = load(a + odd), da0 = d * a0, da1 = d * a1;
            V<T> d0, d1;
            if constexpr (Unit::from_A) {
                d0 = Unit::down(d, da0, a0);
                d1 = Unit::down(d, da1, a1);
            } else {
                d0 = d * load(D + e * step + v * lanes);
                d1 = d * load(D + e * step + v * lanes + odd);
            }
            store(a + odd, d1);
            store(a, d0);
            w0 += da0;
            w1 += da1;
            b0 += d0;
            b1 += d1;
        }
        store(dW + v * lanes, load(dW + v * lanes) + w0);
        store(db + v * lanes, load(db + v * lanes) + b0);
        if (odd == 0) continue;
        store(dW + (v + 1) * lanes, load(dW + (v + 1) * lanes) + w1);
        store(db + (v + 1) * lanes, load(db + (v + 1) * lanes) + b1);
    }
}

template <class T>
void below_one_unit(int activation, T* A, const T* D, const T* dz, int64_t rows, int64_t step, int vectors, T* dW, T* db) {
    with_unit<T>(activation, [&](auto unit) { below_one_unit<T>(unit, A, D, dz, rows, step, vectors, dW, db); });
}

// ---- output units: unit by unit, a tile's examples side by side in the vectors -------------------------------------------
//
// Z and Y are [units][TILE]. Z becomes dZ = (A - Y) weight, or A; the loss is the weighted sum over the tile. Examples past
// the last one weigh 0.

constexpr int TILE = 64;  // examples: the hidden layers of a narrow network stay in the first-level cache

template <class T>
FB_INLINE V<T> weighted(V<T> value, V<T> weight) {
    return select(weight > 0, value * weight, V<T>{});  // a weight of 0 leaves out: 0 * infinity would be NaN
}

template <class T>
FB_INLINE double sum_as_double(V<T> v) {
    double totals[2] = {};  // two, for each addition waits for the one before
    for (int lane = 0; lane < vec<T>::lanes; lane++) totals[lane % 2] += double(v[lane]);
    return totals[0] + totals[1];
}

template <class T>
struct LossAndSlope {
    V<T> loss, dz;
};

// Where neither z > y nor z < y, dz is z - y: 0, or a NaN, which must stay one.
template <class T>
FB_INLINE LossAndSlope<T> two_lines(T below, T above, V<T> z, V<T> y) {
    const V<T> d = z - y, up = broadcast(above) * d, down = broadcast(-below) * d;
    return {max(up, down), select(d > 0, broadcast(above), select(d < 0, broadcast(-below), d))};
}

// Both from one exponential.
template <class T>
FB_INLINE LossAndSlope<T> loss_and_slope(int output, V<T> z, V<T> y) {
    if (output == FB_OUT_IDENTITY) return {T(0.5) * (z - y) * (z - y), z - y};
    if (output == FB_OUT_EXP) {  // Poisson
        const V<T> value = v_exp(z);
        return {value - y * z, value - y};
    }
    const V<T> e = v_exp(-abs(z));  // sigma(|z|) = 1 / (1 + e), sigma(-|z|) = e / (1 + e)
    return {max(V<T>{}, z) - z * y + v_log1p_near_0(e), select(z < 0, e, broadcast(T(1))) / (1 + e) - y};
}

template <class T>
FB_INLINE V<T> value_of_one(int output, V<T> z) {
    switch (output) {
        case FB_OUT_SIGMOID: return v_sigmoid(z);
        case FB_OUT_IDENTITY: return z;
        default: return v_exp(z);
    }
}

// Softmax of TILE examples, one vector of them at a time: E = e^(z - top) in place of z, and their sum.
template <class T>
FB_INLINE V<T> exponentials(T* Z, int64_t units, V<T> top) {
    V<T> total = {};
    for (int64_t j = 0; j < units; j++) {
        V<T> e = v_exp(load(Z + j * TILE) - top);
        store(Z + j * TILE, e);
        total += e;
    }
    return total;
}

template <class T>
FB_INLINE V<T> largest(const T* Z, int64_t units) {
    V<T> top = load(Z);
    for (int64_t j = 1; j < units; j++) top = max(top, load(Z + j * TILE));
    return top;
}

// The loss, and in Z what comes next: dZ if ``gradient``.
template <class T>
double output_loss(const fb_output_loss& output, T* Z, const T* Y, const T* weight, int64_t units, bool gradient) {
    constexpr int lanes = vec<T>::lanes;
    V<T> total = {};
    for (int e = 0; e < TILE; e += lanes, Z += lanes, Y += lanes, weight += lanes) {
        const V<T> w = load(weight);
        V<T> loss = {};
        if (output.unit == FB_OUT_SOFTMAX) {
            const V<T> top = largest(Z, units);
            for (int64_t j = 0; j < units; j++) loss -= load(Y + j * TILE) * load(Z + j * TILE);
            const V<T> sum = exponentials(Z, units, top);
            loss = loss + top + v_log(sum);  // the Y of an example sum to 1. Top first: what it cancels may be large
            for (int64_t j = 0; j < units && gradient; j++) {
                store(Z + j * TILE, weighted<T>(load(Z + j * TILE) / sum - load(Y + j * TILE), w));
            }
        } else {
            for (int64_t j = 0; j < units; j++) {
                const V<T> y = load(Y + j * TILE);
                const V<T> z = load(Z + j * TILE);
                const LossAndSlope<T> one =
                    output.lines ? two_lines<T>(T(output.below), T(output.above), z, y) : loss_and_slope<T>(output.unit, z, y);
                loss += one.loss;
                if (gradient) store(Z + j * TILE, weighted<T>(one.dz, w));
            }
        }
        total += weighted<T>(loss, w);
    }
    return sum_as_double<T>(total);
}

// Z becomes A.
template <class T>
void output_values(int output, T* Z, int64_t units) {
    constexpr int lanes = vec<T>::lanes;
    for (int e = 0; e < TILE; e += lanes, Z += lanes) {
        if (output == FB_OUT_SOFTMAX) {
            const V<T> sum = exponentials(Z, units, largest(Z, units));
            for (int64_t j = 0; j < units; j++) store(Z + j * TILE, load(Z + j * TILE) / sum);
        } else {
            for (int64_t j = 0; j < units; j++) store(Z + j * TILE, value_of_one<T>(output, load(Z + j * TILE)));
        }
    }
}

}  // namespace
