// The kernels against plain loops in double, with nothing but the C ABI: for machines where Python is slow or not to be had,
// as under qemu and the sanitizers. tests/test_native.py looks closer. Ends as ctest wants it: 0, or 1 and what was wrong.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <vector>

#include "../../src/native/fullbatch_native.h"

namespace {

using Numbers = std::vector<double>;
std::mt19937 random_numbers(1);
int checks = 0, failures = 0;

int64_t draw(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_numbers); }
double normal() { return std::normal_distribution<double>()(random_numbers); }

double sigmoid(double z) { return 1 / (1 + exp(-z)); }

double activation(int kind, double z) {
    switch (kind) {
        case FB_TANH: return tanh(z);
        case FB_SIGMOID: return sigmoid(z);
        case FB_RELU: return z > 0 ? z : 0;
        case FB_LEAKY_RELU: return z > 0 ? z : 0.01 * z;
        case FB_GELU: return 0.5 * z * (1 + tanh(sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
        case FB_SILU: return z * sigmoid(z);
        default: return z;
    }
}

double derivative(int kind, double z) {
    const double c = sqrt(2 / M_PI), t = tanh(c * (z + 0.044715 * z * z * z)), s = sigmoid(z);
    switch (kind) {
        case FB_TANH: return 1 - tanh(z) * tanh(z);
        case FB_SIGMOID: return s * (1 - s);
        case FB_RELU: return z > 0;
        case FB_LEAKY_RELU: return z > 0 ? 1 : 0.01;
        case FB_GELU: return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * c * (1 + 3 * 0.044715 * z * z);
        case FB_SILU: return s * (1 + z * (1 - s));
        default: return 1;
    }
}

struct Network {
    std::vector<int64_t> sizes;
    std::vector<int32_t> activations;
    fb_output_loss output = {};

    int64_t layers() const { return int64_t(sizes.size()) - 1; }
    int64_t numbers() const {
        int64_t sum = 0;
        for (int64_t l = 1; l <= layers(); l++) sum += sizes[l] * (sizes[l - 1] + 1);
        return sum;
    }
};

// Examples in rows: X (m, n0), Y (m, nL), weight (m).
struct Data {
    int64_t m;
    Numbers X, Y, weight;
};

struct Result {
    Numbers gradient, predicted;
    double loss = 0, weight = 0;
};

// The pass, one example and one number at a time.
Result plain(const Network& net, const Numbers& theta, const Data& data) {
    const int64_t L = net.layers(), n0 = net.sizes[0], nL = net.sizes[L];
    Result result;
    result.gradient.assign(theta.size(), 0);
    for (int64_t e = 0; e < data.m; e++) {
        std::vector<Numbers> Z(L + 1), A(L + 1);
        std::vector<const double*> W(L + 1);
        A[0].assign(&data.X[e * n0], &data.X[e * n0] + n0);
        const double* next = theta.data();
        for (int64_t l = 1; l <= L; l++) {
            const int64_t fan_in = net.sizes[l - 1], units = net.sizes[l];
            W[l] = next;
            next += units * (fan_in + 1);
            for (int64_t j = 0; j < units; j++) {
                double z = W[l][units * fan_in + j];
                for (int64_t i = 0; i < fan_in; i++) z += W[l][j * fan_in + i] * A[l - 1][i];
                Z[l].push_back(z);
                A[l].push_back(l < L ? activation(net.activations[l - 1], z) : z);
            }
        }
        const double w = data.weight[e], *y = &data.Y[e * nL];
        const double top = *std::max_element(Z[L].begin(), Z[L].end());
        double all = 0, loss = 0;
        for (double z : Z[L]) all += exp(z - top);
        Numbers dZ;
        for (int64_t k = 0; k < nL; k++) {
            const double z = Z[L][k];
            double a = z;
            const fb_output_loss& output = net.output;
            if (output.unit == FB_OUT_SIGMOID) a = sigmoid(z), loss += fmax(z, 0) - z * y[k] + log1p(exp(-fabs(z)));
            if (output.unit == FB_OUT_SOFTMAX) a = exp(z - top) / all, loss += y[k] * (log(all) + top - z);
            if (output.unit == FB_OUT_EXP) a = exp(z), loss += a - y[k] * z;
            double dz = a - y[k];
            if (output.lines) {
                loss += dz > 0 ? output.above * dz : -output.below * dz;
                dz = dz > 0 ? output.above : dz < 0 ? -output.below : 0;
            } else if (output.unit == FB_OUT_IDENTITY) {
                loss += 0.5 * dz * dz;
            }
            result.predicted.push_back(a);
            dZ.push_back(w * dz);
        }
        result.loss += w * loss;
        result.weight += w;
        for (int64_t l = L; l >= 1; l--) {
            const int64_t fan_in = net.sizes[l - 1], units = net.sizes[l];
            double* dW = &result.gradient[W[l] - theta.data()];
            Numbers below(fan_in, 0);
            for (int64_t j = 0; j < units; j++) {
                for (int64_t i = 0; i < fan_in; i++) dW[j * fan_in + i] += dZ[j] * A[l - 1][i], below[i] += W[l][j * fan_in + i] * dZ[j];
                dW[units * fan_in + j] += dZ[j];
            }
            for (int64_t i = 0; l > 1 && i < fan_in; i++) below[i] *= derivative(net.activations[l - 2], Z[l - 1][i]);
            dZ = below;
        }
    }
    return result;
}

Network random_network() {
    static const int64_t WIDTHS[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40, 65};
    Network net;
    const int64_t L = draw(1, 4);
    for (int64_t l = 0; l <= L; l++) net.sizes.push_back(WIDTHS[draw(0, 13)]);
    for (int64_t l = 1; l < L; l++) net.activations.push_back(int32_t(draw(FB_TANH, FB_SILU)));
    net.output.unit = int32_t(draw(FB_OUT_SIGMOID, FB_OUT_EXP));
    if (net.output.unit == FB_OUT_IDENTITY && draw(0, 2) > 0) net.output = {FB_OUT_IDENTITY, 1, 0.25 * double(draw(1, 4)), 0.75};
    return net;
}

Numbers random_parameters(const Network& net) {
    Numbers theta;
    for (int64_t l = 1; l <= net.layers(); l++) {
        const int64_t fan_in = net.sizes[l - 1], units = net.sizes[l];
        for (int64_t n = 0; n < units * (fan_in + 1); n++) theta.push_back(0.7 * normal() / (n < units * fan_in ? sqrt(double(fan_in)) : 1));
    }
    return theta;
}

Data random_data(const Network& net, int64_t m, bool weighted, bool sparse) {
    const int64_t n0 = net.sizes.front(), nL = net.sizes.back();
    const double share_of_zeros = sparse ? 0.8 : n0 >= 64 ? 0.9 : 0.1;  // where it has many inputs they are left out of dense X too
    Data data = {m, Numbers(m * n0), Numbers(m * nL), Numbers(m, 1)};
    for (double& x : data.X) x = std::uniform_real_distribution<>()(random_numbers) < share_of_zeros ? 0 : normal();
    for (int64_t e = 0; e < m; e++) {
        const int64_t k = draw(0, nL - 1);
        for (int64_t j = 0; j < nL; j++) {
            if (net.output.unit == FB_OUT_SOFTMAX) data.Y[e * nL + j] = j == k;
            else if (net.output.lines) data.Y[e * nL + j] = normal() + (draw(0, 1) ? 50 : -50);  // far from where the lines meet
            else data.Y[e * nL + j] = net.output.unit == FB_OUT_IDENTITY ? normal() : double(draw(0, 1));
        }
        if (weighted) data.weight[e] = double(draw(0, 3));
    }
    return data;
}

// Memory that ends, or begins, where no one may read or write. The address sanitizer does not see what the masked loads and
// stores of AVX-512 and AVX2 do; the machine does.
template <class T>
struct Guard {
    typedef T value_type;
    bool at_end = draw(0, 3) > 0;

    Guard() = default;
    template <class U>
    Guard(const Guard<U>& other) : at_end(other.at_end) {}

    static size_t page() { return size_t(sysconf(_SC_PAGESIZE)); }
    static size_t pages(size_t n) { return (n * sizeof(T) + page() - 1) / page() * page(); }

    T* allocate(size_t n) {
        char* memory = static_cast<char*>(mmap(nullptr, pages(n) + 2 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (memory == MAP_FAILED || mprotect(memory + page(), pages(n), PROT_READ | PROT_WRITE)) abort();
        return reinterpret_cast<T*>(memory + page() + (at_end ? pages(n) - n * sizeof(T) : 0));
    }
    void deallocate(T* p, size_t n) {
        munmap(reinterpret_cast<char*>(p) - (at_end ? pages(n) - n * sizeof(T) : 0) - page(), pages(n) + 2 * page());
    }
    bool operator==(const Guard& other) const { return at_end == other.at_end; }
    bool operator!=(const Guard& other) const { return at_end != other.at_end; }
};

template <class T>
using Guarded = std::vector<T, Guard<T>>;

template <class T>
Guarded<T> guarded(const Numbers& from) {
    return Guarded<T>(from.begin(), from.end());
}

template <class T>
Numbers wide(const Guarded<T>& from) {
    return Numbers(from.begin(), from.end());
}

// The examples as the kernels may find them: rows or columns, strides, backwards, or sparse.
template <class T>
struct Block {
    enum Layout { ROWS, COLUMNS, BACKWARDS, EVERY_OTHER, SPARSE, LAYOUTS };
    Guarded<T> X, Y, weight;
    Guarded<int32_t> indptr, features;
    fb_examples examples = {};

    Block(const Network& net, const Data& data, int layout, bool weighted) {
        const int64_t n0 = net.sizes.front(), nL = net.sizes.back(), m = data.m;
        examples.m = m;
        Y.assign(data.Y.begin(), data.Y.end());
        examples.Y = Y.data(), examples.y_unit = 1, examples.y_example = nL;
        if (weighted) {
            weight.assign(data.weight.begin(), data.weight.end());
            examples.weight = weight.data(), examples.weight_example = 1;
        }
        const int64_t gap = layout == EVERY_OTHER ? 2 : 1;
        examples.x_feature = layout == COLUMNS ? m : gap;
        examples.x_example = layout == COLUMNS ? 1 : n0 * gap;
        if (layout == SPARSE) {
            indptr.push_back(0);
            for (int64_t e = 0; e < m; e++) {
                for (int64_t i = 0; i < n0; i++) {
                    if (data.X[e * n0 + i] != 0) X.push_back(T(data.X[e * n0 + i])), features.push_back(int32_t(i));
                }
                indptr.push_back(int32_t(X.size()));
            }
            X.shrink_to_fit(), features.shrink_to_fit(), indptr.shrink_to_fit();
            examples.indptr = indptr.data(), examples.features = features.data(), examples.X = X.data();
            return;
        }
        X.assign(size_t(m > 0 ? (m - 1) * examples.x_example + (n0 - 1) * examples.x_feature + 1 : 0), T(NAN));
        if (layout == COLUMNS) X.assign(size_t(m * n0), T(NAN));
        T* first = X.data();
        if (layout == BACKWARDS && m > 0) first += (m - 1) * n0, examples.x_example = -n0;
        for (int64_t e = 0; e < m; e++) {
            for (int64_t i = 0; i < n0; i++) first[e * examples.x_example + i * examples.x_feature] = T(data.X[e * n0 + i]);
        }
        examples.X = first;
    }
};

double distance(const Numbers& a, const Numbers& b) {
    double far = 0, size = 1e-30;
    for (size_t i = 0; i < b.size(); i++) {
        size = fmax(size, fabs(b[i]));
        far = a[i] == a[i] ? fmax(far, fabs(a[i] - b[i])) : INFINITY;
    }
    return far / size;
}

void check(bool good, const char* what, const char* isa, size_t width, const Network& net, int64_t m, int layout, double far) {
    checks++;
    if (good) return;
    failures++;
    printf("%s of %s, %d bytes, off by %g: m = %lld, layout %d, output %d, sizes", what, isa, int(width), far, (long long)m, layout, net.output.unit);
    for (int64_t n : net.sizes) printf(" %lld", (long long)n);
    printf(", activations");
    for (int a : net.activations) printf(" %d", a);
    printf("\n");
}

template <class T>
Numbers rounded(const Numbers& from) {
    return wide(guarded<T>(from));
}

template <class T>
void check_step(int isa, const Network& net, int64_t m, int layout, bool weighted) {
    const double limit = sizeof(T) == 4 ? 3e-5 : 1e-12;
    const char* name = fb_isa_name(isa);
    const Numbers theta = rounded<T>(random_parameters(net));
    Data data = random_data(net, m, weighted, layout == Block<T>::SPARSE);
    data.X = rounded<T>(data.X), data.Y = rounded<T>(data.Y);
    const Result expected = plain(net, theta, data);
    Block<T> block(net, data, layout, weighted);
    const auto report = [&](const char* what, double far) { check(far <= limit, what, name, sizeof(T), net, m, layout, far); };

    fb_step* step = fb_step_new(isa, sizeof(T), net.layers(), net.sizes.data(), net.activations.data(), &net.output);
    if (!step) return check(false, "no step", name, sizeof(T), net, m, layout, 0);
    fb_step_load(step, guarded<T>(theta).data());
    double before = NAN, of_it = NAN;  // the cost by a step that has only gone forward, which cuts a large W as it is read
    report("status", fb_step_cost(step, &block.examples, &before, &of_it));
    for (int turn = 0; turn < 2; turn++) {  // what a call leaves behind must not reach the next one
        Guarded<double> gradient(theta.size(), NAN);
        double loss = NAN, weight = NAN;
        report("status", fb_step_gradient(step, &block.examples, gradient.data(), &loss, &weight));
        report("gradient", distance(wide(gradient), expected.gradient));
        report("loss", distance({loss, weight}, {expected.loss, expected.weight}));
        report("status", fb_step_cost(step, &block.examples, &loss, &weight));
        report("cost", distance({loss, weight}, {expected.loss, expected.weight}));
        report("bits of the cost before a gradient", double(memcmp(&loss, &before, sizeof loss) != 0));
        Guarded<T> predicted(size_t(m * net.sizes.back()), T(NAN));
        block.examples.Y = nullptr;
        report("status", fb_step_predict(step, &block.examples, predicted.data()));
        block.examples.Y = block.Y.data();
        report("prediction", distance(wide(predicted), expected.predicted));
    }
    const bool searched = layout == Block<T>::ROWS && net.sizes[0] >= 64 && net.sizes[1] >= 64 && m > 0;
    check((fb_tiles_without_zeros(step) > 0) >= searched, "zeros not left out", name, sizeof(T), net, m, layout, 0);
    fb_step_free(step);
}

// One batch's step of each optimiser, as fullbatch_native.h has it.
void plain_update(const Network& net, const fb_rule& rule, double rate, const Result& sum, Numbers& theta, Numbers& first, Numbers& second) {
    size_t n = 0;
    for (int64_t l = 1; l <= net.layers(); l++) {
        const size_t weights = size_t(net.sizes[l] * net.sizes[l - 1]), all = weights + size_t(net.sizes[l]);
        for (size_t k = 0; k < all; k++, n++) {
            if (k >= weights && rule.fixed_biases) continue;
            const double g = (sum.gradient[n] + (k < weights ? rule.l2 * theta[n] : 0)) / sum.weight;
            if (rule.kind == FB_GD) theta[n] -= rate * g;
            if (rule.kind == FB_MOMENTUM || rule.kind == FB_NESTEROV) {
                first[n] = rule.a * first[n] - rate * g;
                theta[n] += rule.kind == FB_MOMENTUM ? first[n] : rule.a * first[n] - rate * g;
            }
            if (rule.kind == FB_ADAM) {
                first[n] = rule.a * first[n] + (1 - rule.a) * g;
                second[n] = rule.b * second[n] + (1 - rule.b) * g * g;
                theta[n] -= rate * first[n] / (sqrt(second[n]) + rule.epsilon);
            }
        }
    }
}

template <class T>
void check_trainer(int isa, const Network& net, int64_t m, int64_t batch, int layout, bool weighted, int kind) {
    const double limit = sizeof(T) == 4 ? 1e-3 : 1e-10;  // of several steps, one upon the other
    const char* name = fb_isa_name(isa);
    const fb_rule rule = {kind, int32_t(draw(0, 1)), 0.9, 0.99, 0.1, 0.01};
    const Numbers start = rounded<T>(random_parameters(net));
    Data data = random_data(net, m, weighted, layout == Block<T>::SPARSE);
    for (double& w : data.weight) w += weighted;  // no batch of weight 0
    data.X = rounded<T>(data.X), data.Y = rounded<T>(data.Y);
    const Block<T> block(net, data, layout, weighted);
    Guarded<int64_t> order;
    if (layout != Block<T>::SPARSE) {
        for (int64_t e = 0; e < m; e++) order.push_back(draw(0, m - 1));
        order.shrink_to_fit();
    }
    const int64_t n0 = net.sizes.front(), nL = net.sizes.back(), steps = (m + batch - 1) / batch;
    Numbers rates, theta = start, first(start.size(), 0), second(start.size(), 0);
    double cost = 0;
    for (int64_t t = 0; t < steps; t++) {
        rates.push_back((net.output.unit == FB_OUT_EXP ? 0.002 : 0.02) / double(t + 1));  // e^z runs away soon
        const int64_t from = t * batch, count = std::min(batch, m - from);
        Data part = {count, {}, {&data.Y[from * nL], &data.Y[from * nL] + count * nL}, {&data.weight[from], &data.weight[from] + count}};
        for (int64_t e = from; e < from + count; e++) {
            const double* x = &data.X[(order.empty() ? e : order[e]) * n0];
            part.X.insert(part.X.end(), x, x + n0);
        }
        const Result sum = plain(net, theta, part);
        double squares = 0;
        const double* W = theta.data();
        for (int64_t l = 1; l <= net.layers(); W += net.sizes[l] * (net.sizes[l - 1] + 1), l++) {
            for (int64_t n = 0; n < net.sizes[l] * net.sizes[l - 1]; n++) squares += W[n] * W[n];
        }
        cost += (sum.loss + rule.l2 / 2 * squares) / sum.weight * double(count);
        plain_update(net, rule, rates.back(), sum, theta, first, second);
    }
    Guarded<T> bits;
    for (int threads : {1, 3}) {
        fb_trainer* trainer =
            fb_trainer_new(isa, sizeof(T), net.layers(), net.sizes.data(), net.activations.data(), &net.output, batch, &rule);
        if (!trainer) return check(false, "no trainer", name, sizeof(T), net, m, layout, 0);
        const T nothing = T(NAN);
        Guarded<T> zeros(start.size(), 0), got(start.size(), nothing), got_first = got, got_second = got;
        T* mine = kind == FB_GD ? nullptr : zeros.data();
        fb_trainer_load(trainer, guarded<T>(start).data(), mine, kind == FB_ADAM ? mine : nullptr);
        double got_cost = 0;
        const int64_t done = fb_trainer_run(
            trainer, threads, &block.examples, order.empty() ? nullptr : order.data(), m, batch, rates.data(), 60, &got_cost
        );
        fb_trainer_store(trainer, got.data(), kind == FB_GD ? nullptr : got_first.data(), kind == FB_ADAM ? got_second.data() : nullptr);
        fb_trainer_free(trainer);
        const auto report = [&](const char* what, double far) { check(far <= limit, what, name, sizeof(T), net, m, layout, far); };
        report("examples trained on", double(done != m));
        report("training", distance(wide(got), theta));
        report("cost of training", distance({got_cost}, {cost}));
        if (kind != FB_GD) report("first array of the optimiser", distance(wide(got_first), first));
        if (kind == FB_ADAM) report("second array of the optimiser", distance(wide(got_second), second));
        if (threads == 1) bits = got;
        else report("bits on three threads", double(memcmp(bits.data(), got.data(), bits.size() * sizeof(T)) != 0));
    }
}

// Updates by all examples, which are three blocks of two leaves.
template <class T>
void check_descent(int isa, const Network& net, int64_t m, int kind) {
    const double limit = sizeof(T) == 4 ? 1e-3 : 1e-10;
    const char* name = fb_isa_name(isa);
    const fb_rule rule = {kind, 0, 0.9, 0, 0, 0.01};
    const Numbers start = rounded<T>(random_parameters(net)), rates(3, 0.02);
    std::vector<Block<T>> parts;
    Data data = {0, {}, {}, {}};
    for (int part = 0; part < 3; part++) {
        Data more = random_data(net, m + part, true, false);
        more.weight[0] = 1;
        more.X = rounded<T>(more.X), more.Y = rounded<T>(more.Y);
        parts.emplace_back(net, more, Block<T>::ROWS, true);
        data.m += more.m;
        data.X.insert(data.X.end(), more.X.begin(), more.X.end());
        data.Y.insert(data.Y.end(), more.Y.begin(), more.Y.end());
        data.weight.insert(data.weight.end(), more.weight.begin(), more.weight.end());
    }
    Numbers theta = start, first(theta.size(), 0), second(theta.size(), 0), costs;
    for (double rate : rates) {
        const Result sum = plain(net, theta, data);
        double squares = 0;
        const double* W = theta.data();
        for (int64_t l = 1; l <= net.layers(); W += net.sizes[l] * (net.sizes[l - 1] + 1), l++) {
            for (int64_t n = 0; n < net.sizes[l] * net.sizes[l - 1]; n++) squares += W[n] * W[n];
        }
        costs.push_back((sum.loss + rule.l2 / 2 * squares) / sum.weight);
        plain_update(net, rule, rate, sum, theta, first, second);
    }
    const auto report = [&](const char* what, double far) { check(far <= limit, what, name, sizeof(T), net, m, 0, far); };
    Guarded<T> bits;
    for (int threads : {1, 2}) {
        std::vector<fb_step*> steps;
        for (int k = 0; k < threads; k++)
            steps.push_back(fb_step_new(isa, sizeof(T), net.layers(), net.sizes.data(), net.activations.data(), &net.output));
        const fb_examples examples[] = {parts[0].examples, parts[1].examples, parts[2].examples};
        const int64_t leaves[] = {0, 2, 3};
        Guarded<double> work(3 * (2 + theta.size()) + theta.size(), NAN), got_costs(rates.size(), NAN);
        const fb_blocks blocks = {examples, leaves, 2, work.data()};
        Guarded<T> moment = guarded<T>(start), velocity(theta.size(), 0), other(theta.size(), T(NAN)), other_velocity = other;
        const fb_descent how = {net.layers(), net.sizes.data(), &rule, rates.data(), int64_t(rates.size()), 0, INFINITY, 60,
                                moment.data(), velocity.data(), other.data(), other_velocity.data(), got_costs.data()};
        report("updates", double(fb_descend(steps.data(), threads, &blocks, &how) != int64_t(rates.size())));
        report("descent", distance(wide(other), theta));
        report("costs of a descent", distance(wide(got_costs), costs));
        if (threads == 1) bits = other;
        else report("bits of a descent on two threads", double(memcmp(bits.data(), other.data(), bits.size() * sizeof(T)) != 0));
        for (fb_step* step : steps) fb_step_free(step);
    }
}

template <class T>
void check_isa(int isa, int networks) {
    static const int64_t SIZES[] = {0, 1, 2, 5, 63, 64, 65, 130, 300};
    random_numbers.seed(1);
    for (int n = 0; n < networks; n++) {
        const Network net = random_network();
        check_step<T>(isa, net, SIZES[n % 9], n % Block<T>::LAYOUTS, n % 2);
        const int64_t m = draw(1, 200);
        check_trainer<T>(isa, net, m, draw(1, m), n % Block<T>::LAYOUTS, n % 2, n % 4);
    }
    const Network wide = {{40, 150, 33, 1}, {FB_TANH, FB_RELU}, {FB_OUT_SIGMOID, 0, 0, 0}};
    check_step<T>(isa, wide, 4200, Block<T>::ROWS, true);  // more than one block of float64 sums
    const Network pixels = {{130, 70, 3}, {FB_TANH}, {FB_OUT_SOFTMAX, 0, 0, 0}};
    check_step<T>(isa, pixels, 200, Block<T>::ROWS, false);
    check_trainer<T>(isa, pixels, 150, 64, Block<T>::ROWS, false, FB_ADAM);
    const Network by_tiles = {{49, 97, 80, 2}, {FB_TANH, FB_GELU}, {FB_OUT_SOFTMAX, 0, 0, 0}};
    for (int layout = 0; layout < Block<T>::SPARSE; layout++) check_step<T>(isa, by_tiles, 70, layout, layout % 2);
    for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{90, 64, 1}, {64, 90, 1}})  // the output's weights pulled out
        check_step<T>(isa, {sizes, {FB_TANH}, {FB_OUT_SIGMOID, 0, 0, 0}}, 150, Block<T>::ROWS, true);
    for (int layout = 0; layout < Block<T>::SPARSE; layout++) check_trainer<T>(isa, by_tiles, 150, 70, layout, layout % 2, layout % 4);
    check_trainer<T>(isa, {{64, 70, 3}, {FB_SILU}, {FB_OUT_IDENTITY, 0, 0, 0}}, 330, 300, Block<T>::ROWS, true, FB_ADAM);
    for (int kind : {FB_GD, FB_MOMENTUM, FB_NESTEROV}) check_descent<T>(isa, pixels, 70, kind);
}

#if defined(FB_HAVE_TWIN)
// The parameters after two batches.
std::vector<float> trained(int isa, const Network& net, const Data& data, int64_t batch) {
    const fb_rule rule = {FB_GD, 0, 0, 0, 0, 0};
    const Block<float> block(net, data, Block<float>::ROWS, false);
    random_numbers.seed(2);
    const Guarded<float> start = guarded<float>(random_parameters(net));
    std::vector<float> got(start.size());
    const double rates[] = {0.1, 0.1};
    double cost = 0;
    fb_trainer* trainer =
        fb_trainer_new(isa, sizeof(float), net.layers(), net.sizes.data(), net.activations.data(), &net.output, batch, &rule);
    fb_trainer_load(trainer, start.data(), nullptr, nullptr);
    fb_trainer_run(trainer, 1, &block.examples, nullptr, data.m, batch, rates, 60, &cost);
    fb_trainer_store(trainer, got.data(), nullptr, nullptr);
    fb_trainer_free(trainer);
    return got;
}

// But for the tiles the twin is the portable kernels: so its bits are others where a batch takes them, and only there.
void check_tiles_of_batches() {
    int portable = 0, twin = 0;
    for (int isa = 0; fb_isa_name(isa); isa++) {
        if (!strcmp(fb_isa_name(isa), "portable")) portable = isa;
        if (!strcmp(fb_isa_name(isa), "twin")) twin = isa;
    }
    const Network wide = {{49, 97, 80, 2}, {FB_TANH, FB_GELU}, {FB_OUT_SOFTMAX, 0, 0, 0}}, small = {{40, 97, 2}, {FB_TANH}, wide.output};
    const auto same = [&](const Network& net, int64_t batch) {
        random_numbers.seed(3);
        const Data data = random_data(net, 2 * batch, false, false);
        return trained(portable, net, data, batch) == trained(twin, net, data, batch);
    };
    check(!same(wide, 64), "batches by tiles", "twin", 4, wide, 128, 0, 0);
    check(same(wide, 63), "small batches without tiles", "twin", 4, wide, 126, 0, 0);
    check(same(small, 64), "small layers without tiles", "twin", 4, small, 128, 0, 0);
}
#endif

}  // namespace

int main(int count, char** arguments) {
    const int networks = count > 1 ? atoi(arguments[1]) : 100;
    if (fb_abi() != FB_ABI) return printf("interface %d, not %d\n", fb_abi(), FB_ABI), 1;
    for (int isa = 0; fb_isa_name(isa); isa++) {
        if (!fb_isa_usable(isa)) {
            printf("%s: not on this machine\n", fb_isa_name(isa));
            continue;
        }
        const int before = checks;
        check_isa<float>(isa, networks);
        check_isa<double>(isa, networks);
        printf("%s: %d checks\n", fb_isa_name(isa), checks - before);
    }
#if defined(FB_HAVE_TWIN)
    check_tiles_of_batches();
#endif
    printf("%d passed, %d failed\n", checks - failures, failures);
    return failures != 0 || checks == 0;
}
