// Calls of the C ABI with shapes and numbers drawn by a seed, right ones and wrong ones, by four threads at once: none may
// crash, read or write where it should not, or race. Under the sanitizers that is what they look at; anywhere the results of
// right calls must be finite and wrong ones refused. Usage: drive_abi [ROUNDS] [SEED]. Ends with 0, or 1 and what was wrong.
//
// With FB_LIBFUZZER it is a target of libFuzzer instead, whose bytes take the place of the seed.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "../../src/native/fullbatch_native.h"

namespace {

std::atomic<int> failures{0}, right{0}, refused{0};

void check(bool fits, const char* what) {
    if (fits) return;
    failures++;
    printf("%s\n", what);
#ifdef FB_LIBFUZZER
    abort();  // so that it keeps the bytes
#endif
}

// Numbers that follow from bytes, 8 of them for each; after their end from a count, so that nobody waits for another one.
struct Bytes {
    using result_type = uint64_t;
    const uint8_t* data;
    size_t left;
    uint64_t count = 0;

    static constexpr uint64_t min() { return 0; }
    static constexpr uint64_t max() { return UINT64_MAX; }
    uint64_t operator()() {
        uint64_t value = ++count * 0x9E3779B97F4A7C15u;
        const size_t taken = left < sizeof value ? left : sizeof value;
        if (taken > 0) memcpy(&value, data, taken);
        data += taken, left -= taken;
        return value;
    }
};

#ifdef FB_LIBFUZZER
using Source = Bytes;
#else
using Source = std::mt19937_64;
#endif

struct Draw {
    Source numbers;
    std::mt19937_64 values{1};  // of arrays, which would eat the bytes

    int64_t between(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(numbers); }
    bool chance(double share) { return std::uniform_real_distribution<double>()(numbers) < share; }
    double normal() { return std::normal_distribution<double>()(values); }
    // One that no caller means.
    int64_t wrong() {
        const int64_t all[] = {-1, -7, 1 << 20, INT32_MAX, INT64_MAX, INT64_MIN, 99};
        return all[between(0, 6)];
    }
};

// A network, and whether it is one: a wrong number somewhere makes it none.
struct Shape {
    std::vector<int64_t> sizes;
    std::vector<int32_t> activations;
    fb_output_loss output;
    int isa, dtype;
    bool fits = true;

    explicit Shape(Draw& draw) {
        const int64_t layers = draw.between(1, 4);
        for (int64_t l = 0; l <= layers; l++) sizes.push_back(draw.between(1, 70));
        for (int64_t l = 1; l < layers; l++) activations.push_back(int32_t(draw.between(FB_TANH, FB_SILU)));
        output = {int32_t(draw.between(FB_OUT_SIGMOID, FB_OUT_EXP)), 0, 0, 0};
        if (output.unit == FB_OUT_SOFTMAX && sizes.back() < 2) sizes.back() = 2;
        do isa = int(draw.between(0, 3));
        while (!fb_isa_usable(isa));
        dtype = draw.chance(0.5) ? FB_FLOAT32 : FB_FLOAT64;
        if (!draw.chance(0.3)) return;
        fits = false;
        switch (draw.between(0, 4)) {
            case 0: isa = draw.chance(0.5) ? -1 : 99; break;
            case 1: dtype = draw.chance(0.5) ? 0 : 5; break;
            case 2: sizes[size_t(draw.between(0, layers))] = draw.chance(0.5) ? 0 : -draw.between(1, 99); break;
            case 3: output.unit = draw.chance(0.5) ? -1 : 9; break;
            default:
                if (activations.empty()) output.unit = 17;
                else activations[0] = draw.chance(0.5) ? -1 : 70;
        }
    }

    int64_t layers() const { return int64_t(sizes.size()) - 1; }
    size_t parameters() const {
        size_t n = 0;
        for (size_t l = 1; l < sizes.size(); l++) n += size_t(sizes[l] * (sizes[l - 1] + 1));
        return n;
    }
};

// Numbers in either dtype, in memory of exactly their size.
struct Numbers {
    std::vector<float> narrow;
    std::vector<double> wide;

    Numbers(Draw& draw, int dtype, size_t n, double scale) {
        for (size_t i = 0; i < n; i++)
            dtype == FB_FLOAT32 ? narrow.push_back(float(scale * draw.normal())) : wide.push_back(scale * draw.normal());
        narrow.shrink_to_fit();
        wide.shrink_to_fit();
    }
    void* data() { return narrow.empty() ? static_cast<void*>(wide.data()) : static_cast<void*>(narrow.data()); }
};

struct Examples {
    Numbers X, Y;
    std::vector<int32_t> indptr, features;
    fb_examples as_c = {};
    bool fits = true;

    Examples(Draw& draw, const Shape& shape, int64_t m)
        : X(draw, shape.dtype, size_t(m * shape.sizes.front()), 1), Y(draw, shape.dtype, size_t(m * shape.sizes.back()), 0) {
        const int64_t n = shape.sizes.front();
        as_c.X = X.data(), as_c.x_feature = 1, as_c.x_example = n;
        as_c.Y = Y.data(), as_c.y_unit = 1, as_c.y_example = shape.sizes.back(), as_c.m = m;
        if (draw.chance(0.5)) return;
        for (int64_t e = 0; e <= m; e++) indptr.push_back(int32_t(e * n));
        for (int64_t k = 0; k < m * n; k++) features.push_back(int32_t(k % n));
        if (m > 0 && draw.chance(0.5)) {  // what scikit-learn's and SciPy's checks would have found
            fits = false;
            if (draw.chance(0.5))
                features[size_t(draw.between(0, m * n - 1))] = int32_t(draw.chance(0.5) ? n : -draw.between(1, 9));
            else indptr[size_t(draw.between(0, m - 1))] = int32_t(draw.chance(0.5) ? m * n + 1 : -1);
        }
        as_c.indptr = indptr.data(), as_c.features = features.data();
    }
};

void count(bool was_right, bool fits, const char* what) {
    check(was_right == fits, what);
    (was_right ? right : refused)++;
}

// Of the hidden layers.
std::vector<double> some_rates(Draw& draw, const Shape& shape) {
    std::vector<double> rates;
    for (int64_t l = 1; l < shape.layers(); l++) rates.push_back(draw.chance(0.3) ? 0 : 0.1 * double(draw.between(1, 9)));
    return rates;
}

void drive_step(Draw& draw, const Shape& shape) {
    fb_step* step =
        fb_step_new(shape.isa, shape.dtype, shape.layers(), shape.sizes.data(), shape.activations.data(), &shape.output);
    count(step != nullptr, shape.fits, "a step was made of a wrong network, or refused for a right one");
    if (step == nullptr || !shape.fits) return fb_step_free(step);
    Numbers theta(draw, shape.dtype, shape.parameters(), 0.1);
    fb_step_load(step, theta.data());
    const std::vector<double> rates = some_rates(draw, shape), wrong(rates.size(), 1.0);
    if (!wrong.empty()) check(fb_step_dropout(step, wrong.data(), 1, 0, 0) == FB_WRONG, "a rate of 1 was taken");
    for (int64_t calls = draw.between(1, 3); calls > 0; calls--) {
        const bool drops = draw.chance(0.4);
        const int64_t place = draw.between(0, 99);
        check(fb_step_dropout(step, drops ? rates.data() : nullptr, 7, place, place) == FB_OK, "rates were refused");
        const int64_t m = draw.between(0, 150);
        Examples examples(draw, shape, m);
        std::vector<double> gradient(shape.parameters());
        Numbers out(draw, shape.dtype, size_t(m * shape.sizes.back()), 0);
        double loss = 0, weight = 0;
        const int status = draw.chance(0.6)   ? fb_step_gradient(step, &examples.as_c, gradient.data(), &loss, &weight)
                           : draw.chance(0.5) ? fb_step_cost(step, &examples.as_c, &loss, &weight)
                                              : fb_step_predict(step, &examples.as_c, out.data());
        count(status == FB_OK, examples.fits, "a step took wrong examples, or refused right ones");
        check(status != FB_OK || isfinite(loss), "a loss that is not finite");
        check(fb_step_gradient(step, nullptr, gradient.data(), &loss, &weight) == FB_WRONG, "no examples were taken");
    }
    fb_step_free(step);
}

void drive_trainer(Draw& draw, const Shape& shape) {
    const fb_rule rule = {int32_t(draw.between(FB_GD, FB_ADAM)), int32_t(draw.between(0, 1)), 0.9, 0.99, 1e-3, 0.01};
    int64_t capacity = draw.between(1, 90);
    const bool sound = !draw.chance(0.2);
    const int64_t asked = sound ? capacity : draw.chance(0.5) ? 0 : -draw.between(1, 9);
    fb_trainer* trainer = fb_trainer_new(
        shape.isa, shape.dtype, shape.layers(), shape.sizes.data(), shape.activations.data(), &shape.output, asked, &rule
    );
    count(trainer != nullptr, shape.fits && sound, "a trainer was made of wrong numbers, or refused for right ones");
    if (trainer == nullptr) return;
    Numbers theta(draw, shape.dtype, shape.parameters(), 0.1), first(draw, shape.dtype, shape.parameters(), 0),
        second(draw, shape.dtype, shape.parameters(), 0);
    fb_trainer_load(trainer, theta.data(), first.data(), second.data());
    const int64_t m = draw.between(1, 200);
    Examples examples(draw, shape, m);
    std::vector<int64_t> order;
    for (int64_t e = 0; e < m; e++) order.push_back(draw.between(0, m - 1));
    bool fits = true;
    if (draw.chance(0.3)) fits = false, order[size_t(draw.between(0, m - 1))] = draw.chance(0.5) ? m : -1;
    int64_t batch = draw.between(1, capacity);
    if (draw.chance(0.2)) fits = false, batch = draw.chance(0.5) ? capacity + 1 : 0;
    const std::vector<double> rates(size_t(m), 1e-3);
    double cost = 0;
    const std::vector<double> dropped = some_rates(draw, shape);
    const bool drops = draw.chance(0.4);
    check(fb_trainer_dropout(trainer, drops ? dropped.data() : nullptr, 7, 3) == FB_OK, "rates were refused");
    check(fb_trainer_dropout(trainer, nullptr, 7, -1) == FB_WRONG, "a negative update was taken");
    const int64_t done =
        fb_trainer_run(trainer, int(draw.between(1, 4)), &examples.as_c, order.data(), m, batch, rates.data(), 60, &cost);
    if (!fits) count(done > 0, false, "a trainer took a wrong order or a wrong batch");
    else if (examples.fits) count(done == m, true, "a trainer did not do all examples");
    // Of a CSR that is none it may have read only what is right.
    check(done != m || isfinite(cost), "a cost that is not finite");
    fb_trainer_store(trainer, theta.data(), first.data(), second.data());
    fb_trainer_free(trainer);
}

// That what comes is the same numbers in another order, from any state.
void drive_shuffle(Draw& draw) {
    std::vector<uint32_t> key(624);
    for (uint32_t& word : key) word = uint32_t(draw.values());
    int32_t position = int32_t(draw.between(0, 624));
    std::vector<int32_t> order(size_t(draw.between(0, 900)));
    for (size_t k = 0; k < order.size(); k++) order[k] = int32_t(k);
    const bool fits = draw.chance(0.8);
    if (!fits) position = draw.chance(0.5) ? 625 : -1;
    count(fb_shuffle(key.data(), &position, order.data(), 4, int64_t(order.size())) == FB_OK, fits, "an order was not shuffled");
    std::sort(order.begin(), order.end());
    for (size_t k = 0; k < order.size(); k++) check(order[k] == int32_t(k), "an order lost an example");
}

void drive(Draw& draw) {
    if (draw.chance(0.1)) return drive_shuffle(draw);
    const Shape shape(draw);
    draw.chance(0.5) ? drive_step(draw, shape) : drive_trainer(draw, shape);
}

}  // namespace

#ifdef FB_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Draw draw{Bytes{data, size}};
    drive(draw);
    return 0;
}
#else
int main(int arguments, char** values) {
    const int rounds = arguments > 1 ? atoi(values[1]) : 100, seed = arguments > 2 ? atoi(values[2]) : 1;
    std::vector<std::thread> threads;
    for (int number = 0; number < 4; number++) {
        threads.emplace_back([=] {
            Draw draw{std::mt19937_64(uint64_t(seed) * 4 + uint64_t(number))};
            for (int round = 0; round < rounds; round++) drive(draw);
        });
    }
    for (std::thread& one : threads) one.join();
    printf("%d right calls, %d refused, %d failures\n", right.load(), refused.load(), failures.load());
    return failures > 0 || right == 0 || refused == 0;
}
#endif
