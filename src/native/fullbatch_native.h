// The native step's C ABI: what steps/native.py calls through ctypes. All of it is safe to call from several threads at
// once, each with a step of its own; none of it needs Python's lock.
#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define FB_EXPORT __declspec(dllexport)
#else
#define FB_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

// Raised with every change below, but for a function more: a stale library is refused, not called.
enum { FB_ABI = 6 };

enum fb_dtype { FB_FLOAT32 = 4, FB_FLOAT64 = 8 };
enum fb_activation { FB_TANH, FB_SIGMOID, FB_RELU, FB_LEAKY_RELU, FB_IDENTITY, FB_GELU, FB_SILU };
enum fb_output { FB_OUT_SIGMOID, FB_OUT_SOFTMAX, FB_OUT_IDENTITY, FB_OUT_EXP };
enum fb_optimizer { FB_GD, FB_MOMENTUM, FB_NESTEROV, FB_ADAM };
enum fb_status { FB_OK = 0, FB_WRONG = -1, FB_OUT_OF_RANGE = -2, FB_NO_MEMORY = -3 };  // wrong: the arguments
enum fb_function { FB_EXP, FB_F_TANH, FB_F_SIGMOID, FB_LOG1P, FB_LOG };

// Examples. Strides are in elements and may be negative or zero.
// Dense: X[i * x_feature + e * x_example].
// Sparse (indptr is not NULL): a CSR matrix of examples by features, of which example e is entries indptr[e] to
// indptr[e + 1] of X and features.
// Encoded (codes is not NULL; for a trainer): X as if dense for the first ``numbers`` features; then example e has a 1 at the
// features codes[e * n_codes + c], c < n_codes, each an unsigned integer of code_bytes, 0 for none.
typedef struct {
    const void* X;
    int64_t x_feature, x_example;
    const int32_t* indptr;
    const int32_t* features;
    const void* codes;
    int64_t code_bytes, n_codes, numbers;
    const void* Y;  // NULL to predict
    int64_t y_unit, y_example;
    const void* weight;  // NULL for ones
    int64_t weight_example;
    int64_t m;
} fb_examples;

// The output unit with its loss: its own, the canonical one, or with ``lines`` (of the identity alone) two straight lines that
// meet at a = y, L = above (a - y) where a > y, else below (y - a).
typedef struct {
    int32_t unit, lines;  // enum fb_output; whether
    double below, above;
} fb_output_loss;

typedef struct fb_step fb_step;

FB_EXPORT int fb_abi(void);
FB_EXPORT const char* fb_isa_name(int isa);  // 0, 1, ...: the best first; NULL past the last one compiled in
FB_EXPORT int fb_isa_usable(int isa);        // whether this machine has it

// A step for one thread; NULL where memory is short or an argument is out of range.
// sizes: n[0] ... n[L]; activations: L - 1 of enum fb_activation.
FB_EXPORT fb_step* fb_step_new(
    int isa, int dtype, int64_t layers, const int64_t* sizes, const int32_t* activations, const fb_output_loss* output
);
FB_EXPORT void fb_step_free(fb_step* step);
// theta: W[1], b[1], W[2], ... each row after row, in the step's dtype; it is copied.
FB_EXPORT void fb_step_load(fb_step* step, const void* theta);
// Dropout: from now on the gradients of this step multiply A of hidden unit j by 0, or by 1 / (1 - rate), as word k % 4 of
// Philox4x32-10 is below rate 2^32 or not: of the counter (j, k / 4, hidden layer 1, 2, ..., update) and the key (seed's low
// half, its high half), each modulo 2^32. k is the example's place in the batch, ``first`` for the block's first one.
// rates: of each hidden layer, in [0, 1); NULL: nothing is left out any more. Returns an enum fb_status.
FB_EXPORT int fb_step_dropout(fb_step* step, const double* rates, uint64_t seed, int64_t update, int64_t first);
// gradient: like theta, but float64. These return an enum fb_status.
FB_EXPORT int fb_step_gradient(fb_step* step, const fb_examples* block, double* gradient, double* loss, double* weight);
FB_EXPORT int fb_step_cost(fb_step* step, const fb_examples* block, double* loss, double* weight);
FB_EXPORT int fb_step_predict(fb_step* step, const fb_examples* block, void* out);  // out (m, n[L]), row after row

// One step of the optimiser (enum fb_optimizer) for each batch, or for all examples:
//     g      = (sum of the batch's gradients + l2 W) / (sum of its weights)
//     GD       theta -= rate g
//     momentum v = a v - rate g;  theta += v, or a v - rate g with Nesterov
//     Adam     mean = a mean + (1 - a) g;  square = b square + (1 - b) g^2;  theta -= rate mean / (sqrt(square) + epsilon)
// fixed_biases: the biases stay as they are.
typedef struct {
    int32_t kind, fixed_biases;
    double a, b, epsilon, l2;
} fb_rule;

// Some blocks of examples, whose sums are added in one order: those of a leaf one after another, the leaves by a tree.
typedef struct {
    const fb_examples* examples;  // of each block
    const int64_t* leaves;        // leaf k is blocks leaves[k] ... leaves[k + 1] - 1; leaves[0] is 0
    int64_t leaf_count;
    double* work;  // 2 + (parameters) numbers for each block, and as many as there are parameters more
} fb_blocks;

// The sum over all blocks, at theta, on up to ``threads`` threads, each with a step of its own: they may be loaded anew.
FB_EXPORT int fb_blocks_gradient(
    fb_step* const* steps, int threads, const fb_blocks* blocks, const void* theta, double* gradient, double* loss,
    double* weight
);

// Updates of all parameters, each by the gradient of J over all blocks (fb_rule: GD, momentum or Nesterov), until
// ``iterations`` or ``seconds`` are over; or before an update where J is not finite, or where it is less than ``tol`` below
// the J before it (``last``, to begin with; no such end where tol is 0).
typedef struct {
    int64_t layers;
    const int64_t* sizes;
    const fb_rule* rule;
    const double* rates;  // of each iteration
    int64_t iterations;
    double tol, last, seconds;
    // The start is in the first two. After an even number of updates what came of it is there, and what was before the last
    // update in the others; else the other way round. There is no velocity for GD.
    void* theta;
    void* velocity;
    void* theta_2;
    void* velocity_2;
    double* costs;  // J before each update
} fb_descent;

// Returns the number of updates, or a negative enum fb_status.
FB_EXPORT int64_t fb_descend(fb_step* const* steps, int threads, const fb_blocks* blocks, const fb_descent* how);

// Training by mini-batches, without Python from one batch to the next.
typedef struct fb_trainer fb_trainer;

// For batches of at most ``batch`` examples; NULL where memory is short or an argument is out of range.
FB_EXPORT fb_trainer* fb_trainer_new(
    int isa, int dtype, int64_t layers, const int64_t* sizes, const int32_t* activations, const fb_output_loss* output,
    int64_t batch, const fb_rule* rule
);
FB_EXPORT void fb_trainer_free(fb_trainer* trainer);
// theta and the optimiser's arrays of the same length (velocity; or mean and square; NULL for what it has not): in, and out.
FB_EXPORT void fb_trainer_load(fb_trainer* trainer, const void* theta, const void* first, const void* second);
FB_EXPORT void fb_trainer_store(const fb_trainer* trainer, void* theta, void* first, void* second);
// As fb_step_dropout, of the batches of the next run, the first of which is update number ``update``.
FB_EXPORT int fb_trainer_dropout(fb_trainer* trainer, const double* rates, uint64_t seed, int64_t update);
// Batches of ``batch`` examples each, the last one maybe smaller, until all of ``examples`` are through or ``seconds`` are
// over; on up to ``threads`` threads, whose number does not change a bit. Returns how many examples it did, or a negative
// enum fb_status: FB_OUT_OF_RANGE where a feature of X is.
// order: of X, the example that comes e-th is number order[e] of m_X (NULL: e); Y and weight are in that order already.
// rates[t]: of batch t. cost: to it is added (J of a batch) * (its examples) for each batch, J before its update.
FB_EXPORT int64_t fb_trainer_run(
    fb_trainer* trainer, int threads, const fb_examples* examples, const int64_t* order, int64_t m_X, int64_t batch,
    const double* rates, double seconds, double* cost
);

// How many tiles, of 64 examples at most, of X, and of a trainer's hidden arrays, have been multiplied without their zeros.
FB_EXPORT int64_t fb_tiles_without_zeros(const void* step_or_trainer);

// NumPy's RandomState.shuffle of n integers of 4 or 8 bytes: with its generator MT19937 at word ``position`` of the 624 of
// ``key``, both of which are brought forward. n: at most 2^32. Returns an enum fb_status.
FB_EXPORT int fb_shuffle(uint32_t* key, int32_t* position, void* order, int64_t bytes, int64_t n);

// Mappings of files (mappings.cpp): memory in which a file's bytes are read as they lie in the system's cache. A page that the
// file no longer has, or that the disk fails to read, is zeros there, and the mapping is not whole from then on.
typedef struct fb_mapping fb_mapping;
// Why there is none: SIGBUS cannot be guarded here; the file's system is not a local one; no memory, or too many mappings.
enum fb_refusal { FB_NOT_REFUSED, FB_UNGUARDED, FB_NOT_LOCAL, FB_NO_MAPPING };

// A mapping of so many bytes at a time, on the file as it is now; NULL with an enum fb_refusal. One that has the whole file is for
// any threads, any other is moved for one thread. It keeps no descriptor.
FB_EXPORT fb_mapping* fb_mapping_new(int descriptor, int64_t bytes, int32_t* refused);
FB_EXPORT const void* fb_mapping_base(const fb_mapping* mapping);
// Where in the mapping these bytes of the file are, until the next look. Negative where they are to be read in another way: the
// mapping is not whole, the file has changed, SIGBUS is blocked in this thread or has a later handler, or they are too many.
FB_EXPORT int64_t fb_mapping_look(fb_mapping* mapping, int descriptor, int64_t offset, int64_t bytes);
// Whether all that was looked at so far was there to the end: no page was missing, and the file has not changed since.
FB_EXPORT int fb_mapping_whole(const fb_mapping* mapping, int descriptor);
FB_EXPORT void fb_mapping_free(fb_mapping* mapping);

// y[i] = f(x[i]) for i < n: for the tests of accuracy.
FB_EXPORT int fb_map(int isa, int dtype, int function, const void* x, void* y, int64_t n);

#ifdef __cplusplus
}
#endif
