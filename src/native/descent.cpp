// Whole full batches: the sum over some blocks in one call, and training by it, one update of all parameters after each,
// without Python from one to the next. The arithmetic beside the step is NumPy's, operation for operation, so that the bits
// are those of fold, objective and optimiser in Python; so no product and sum are fused here (CMakeLists.txt).
#include <atomic>
#include <cmath>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "team.h"

namespace {

constexpr int64_t CHUNK = 128;  // parameters that are added at a time

const fb_head* head(const fb_step* step) { return reinterpret_cast<const fb_head*>(step); }

// What the blocks' sums are added from: those of a leaf in their order, the leaves by the tree of fold/tree.py.
struct Sums {
    const fb_blocks* of;
    int64_t size;                                 // of a gradient
    int64_t count;                                // of blocks
    double *losses, *weights, *gradients, *rest;  // the first three of each block; then ``size`` numbers more

    Sums(const fb_blocks* blocks, int64_t parameters)
        : of(blocks),
          size(parameters),
          count(blocks->leaves[blocks->leaf_count]),
          losses(blocks->work),
          weights(losses + count),
          gradients(weights + count),
          rest(gradients + count * size) {}
};

// ``numbers`` has one row of ``step`` for each block; n <= CHUNK of each row are added.
void add_leaves(const Sums& sums, const double* numbers, int64_t step, int64_t n, int64_t first, int64_t count, double* to) {
    if (count == 1) {
        const int64_t begin = sums.of->leaves[first];
        memcpy(to, numbers + begin * step, size_t(n) * sizeof(double));
        for (int64_t block = begin + 1; block < sums.of->leaves[first + 1]; block++) {
            for (int64_t i = 0; i < n; i++) to[i] += numbers[block * step + i];
        }
        return;
    }
    int64_t half = 1;
    while (2 * half < count) half *= 2;
    double right[CHUNK];
    add_leaves(sums, numbers, step, n, first, half, to);
    add_leaves(sums, numbers, step, n, first + half, count - half, right);
    for (int64_t i = 0; i < n; i++) to[i] += right[i];
}

double added(const Sums& sums, const double* of_each_block) {
    double total;
    add_leaves(sums, of_each_block, 1, 1, 0, sums.of->leaf_count, &total);
    return total;
}

// NumPy's own order of a sum.
double pairwise_sum(const double* a, int64_t n) {
    if (n < 8) {
        double total = 0;
        for (int64_t i = 0; i < n; i++) total += a[i];
        return total;
    }
    if (n <= 128) {
        double r[8];
        for (int k = 0; k < 8; k++) r[k] = a[k];
        int64_t i = 8;
        for (; i < n - n % 8; i += 8) {
            for (int k = 0; k < 8; k++) r[k] += a[i + k];
        }
        double total = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
        for (; i < n; i++) total += a[i];
        return total;
    }
    int64_t half = n / 2;
    half -= half % 8;
    return pairwise_sum(a, half) + pairwise_sum(a + half, n - half);
}

// Each thread takes blocks as they come; every block's sums have a place of their own.
struct Pass {
    fb_step* const* steps;
    Sums sums;
    std::atomic<int64_t> next{0};
    std::atomic<int> failed{FB_OK};

    Pass(fb_step* const* of_threads, const fb_blocks* blocks)
        : steps(of_threads), sums(blocks, head(of_threads[0])->parameters) {}

    void run(int rank, const void* theta) {
        fb_step* step = steps[rank];
        bool loaded = false;
        for (int64_t k; (k = next.fetch_add(1)) < sums.count;) {
            if (!loaded) head(step)->kernels->step_load(step, theta);
            loaded = true;
            const int status = head(step)->kernels->step_gradient(
                step, sums.of->examples + k, sums.gradients + k * sums.size, sums.losses + k, sums.weights + k
            );
            if (status != FB_OK) failed.store(status);
        }
    }
};

struct Once {
    Pass pass;
    const void* theta;
};

void run_once(void* argument, fb_team*, int rank) {
    Once& once = *static_cast<Once*>(argument);
    once.pass.run(rank, once.theta);
}

// The parameters and what the optimiser keeps of them, at one moment.
template <class T>
struct Moment {
    T *theta, *velocity;
};

template <class T>
struct Descent {
    Pass pass;
    const fb_descent* how;
    const fb_rule* rule;
    double until;
    Moment<T> moments[2];
    bool late = false;
    double squares = 0;  // of the weights
    int64_t done = 0;

    Descent(fb_step* const* steps, const fb_blocks* blocks, const fb_descent* how_to)
        : pass(steps, blocks), how(how_to), rule(how_to->rule), until(fb_seconds() + how_to->seconds) {
        moments[0] = {static_cast<T*>(how->theta), static_cast<T*>(how->velocity)};
        moments[1] = {static_cast<T*>(how->theta_2), static_cast<T*>(how->velocity_2)};
    }

    double squares_of(const T* theta) const {
        double* to = pass.sums.rest;
        for (int64_t l = 1; l <= how->layers; l++) {
            const int64_t weights = how->sizes[l] * how->sizes[l - 1];
            for (int64_t i = 0; i < weights; i++, theta++) *to++ = double(*theta) * double(*theta);
            for (int64_t i = 0; i < how->sizes[l]; i++, theta++) *to++ = 0;
        }
        return pairwise_sum(pass.sums.rest, pass.sums.size);
    }

    // Parameters first ... last of the next moment.
    void update(int64_t first, int64_t last, double weight, T rate, const Moment<T>& from, const Moment<T>& to) const {
        double g[CHUNK];
        T decay[CHUNK];
        const T a = T(rule->a), l2 = T(rule->l2 / weight);
        for (int64_t i = first; i < last; i += CHUNK) {
            const int64_t n = last - i < CHUNK ? last - i : CHUNK;
            add_leaves(pass.sums, pass.sums.gradients + i, pass.sums.size, n, 0, pass.sums.of->leaf_count, g);
            for (int64_t k = 0; k < n; k++) g[k] /= weight;
            if (rule->l2 > 0) {
                penalised(i, n, from.theta, decay);
                for (int64_t k = 0; k < n; k++) g[k] += double(l2 * decay[k]);
            }
            const T* theta = from.theta + i;
            T* theta_to = to.theta + i;
            if (rule->kind == FB_GD) {
                for (int64_t k = 0; k < n; k++) theta_to[k] = theta[k] - rate * T(g[k]);
                continue;
            }
            const T* velocity = from.velocity + i;
            T* velocity_to = to.velocity + i;
            for (int64_t k = 0; k < n; k++) {
                const T change = rate * T(g[k]), v = a * velocity[k] - change;
                velocity_to[k] = v;
                theta_to[k] = theta[k] + (rule->kind == FB_NESTEROV ? a * v - change : v);
            }
        }
    }

    // Of n parameters from ``first`` on the weights, and 0 for the biases.
    void penalised(int64_t first, int64_t n, const T* theta, T* to) const {
        int64_t at = 0;
        for (int64_t l = 1; l <= how->layers; l++) {
            const int64_t biases = at + how->sizes[l] * how->sizes[l - 1], end = biases + how->sizes[l];
            for (int64_t i = first > at ? first : at; i < end && i < first + n; i++) to[i - first] = i < biases ? theta[i] : 0;
            at = end;
        }
    }

    // Every thread comes to the same end by itself, from the same numbers.
    void run(fb_team* team, int rank) {
        const int64_t size = pass.sums.size, threads = fb_team_size(team);
        double before = how->last;
        for (int64_t t = 0; t < how->iterations; t++) {
            const Moment<T>&from = moments[t % 2], &to = moments[(t + 1) % 2];
            if (rank == 0 && rule->l2 > 0) squares = squares_of(from.theta);
            pass.run(rank, from.theta);
            if (rank == 0) late = fb_seconds() > until;
            fb_team_wait(team);
            const double weight = added(pass.sums, pass.sums.weights), loss = added(pass.sums, pass.sums.losses);
            if (pass.failed.load() != FB_OK || !(weight > 0)) break;
            const double J = loss / weight + (rule->l2 > 0 ? rule->l2 / (2 * weight) * squares : 0.0);
            if (rank == 0) how->costs[t] = J;
            if (!std::isfinite(J) || (how->tol > 0 && before - J < how->tol)) break;
            before = J;
            const bool stop = late;
            if (rank == 0) pass.next.store(0);
            update(size * rank / threads, size * (rank + 1) / threads, weight, T(how->rates[t]), from, to);
            if (rank == 0) done = t + 1;
            if (stop) break;
            fb_team_wait(team);
        }
    }
};

template <class T>
void descend(void* argument, fb_team* team, int rank) {
    static_cast<Descent<T>*>(argument)->run(team, rank);
}

template <class T>
int64_t run(fb_step* const* steps, int threads, const fb_blocks* blocks, const fb_descent* how) {
    Descent<T> descent(steps, blocks, how);
    fb_team_run(threads, descend<T>, &descent);
    return descent.pass.failed != FB_OK ? int64_t(descent.pass.failed) : descent.done;
}

bool are_alike(fb_step* const* steps, int threads) {
    if (!steps || threads < 1) return false;
    for (int k = 0; k < threads; k++) {
        if (!steps[k] || head(steps[k])->kernels != head(steps[0])->kernels) return false;
        if (head(steps[k])->dtype != head(steps[0])->dtype || head(steps[k])->parameters != head(steps[0])->parameters)
            return false;
    }
    return true;
}

bool are_blocks(const fb_blocks* blocks, int64_t inputs) {
    if (!blocks || !blocks->examples || !blocks->leaves || blocks->leaf_count < 1 || !blocks->work) return false;
    if (blocks->leaves[0] != 0) return false;
    for (int64_t k = 0; k < blocks->leaf_count; k++) {
        if (blocks->leaves[k] >= blocks->leaves[k + 1]) return false;
    }
    for (int64_t k = 0; k < blocks->leaves[blocks->leaf_count]; k++) {
        if (!fb_are_examples(blocks->examples + k, inputs, 1)) return false;
    }
    return true;
}

bool is_descent(const fb_descent* how, int64_t parameters) {
    if (!how || !how->rule || how->rule->kind < FB_GD || how->rule->kind > FB_NESTEROV || how->rule->fixed_biases) return false;
    if (how->layers < 1 || !how->sizes || how->iterations < 0 || !how->rates || !how->costs) return false;
    if (!how->theta || !how->theta_2 || (how->rule->kind != FB_GD && (!how->velocity || !how->velocity_2))) return false;
    int64_t numbers = 0;
    for (int64_t l = 1; l <= how->layers && numbers <= parameters; l++) {
        if (how->sizes[l - 1] < 1 || how->sizes[l] < 1 || how->sizes[l - 1] >= parameters || how->sizes[l] > parameters)
            return false;
        numbers += (how->sizes[l - 1] + 1) * how->sizes[l];
    }
    return numbers == parameters;
}

}  // namespace

extern "C" {

int fb_blocks_gradient(
    fb_step* const* steps, int threads, const fb_blocks* blocks, const void* theta, double* gradient, double* loss,
    double* weight
) {
    if (!are_alike(steps, threads) || !are_blocks(blocks, head(steps[0])->inputs)) return FB_WRONG;
    if (!theta || !gradient || !loss || !weight) return FB_WRONG;
    Once once = {{steps, blocks}, theta};
    fb_team_run(threads, run_once, &once);
    if (once.pass.failed != FB_OK) return once.pass.failed;
    const Sums& sums = once.pass.sums;
    *loss = added(sums, sums.losses);
    *weight = added(sums, sums.weights);
    for (int64_t i = 0; i < sums.size; i += CHUNK) {
        const int64_t n = sums.size - i < CHUNK ? sums.size - i : CHUNK;
        add_leaves(sums, sums.gradients + i, sums.size, n, 0, blocks->leaf_count, gradient + i);
    }
    return FB_OK;
}

int64_t fb_descend(fb_step* const* steps, int threads, const fb_blocks* blocks, const fb_descent* how) {
    if (!are_alike(steps, threads) || !are_blocks(blocks, head(steps[0])->inputs)) return FB_WRONG;
    if (!is_descent(how, head(steps[0])->parameters)) return FB_WRONG;
    return head(steps[0])->dtype == FB_FLOAT32 ? run<float>(steps, threads, blocks, how)
                                               : run<double>(steps, threads, blocks, how);
}
}
