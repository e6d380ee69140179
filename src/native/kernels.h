// What one compilation of kernels.cpp, for one instruction set, offers to dispatch.cpp.
#pragma once

#include "fullbatch_native.h"

struct fb_kernels {
    const char* name;
    fb_step* (*step_new)(
        int dtype, int64_t layers, const int64_t* sizes, const int32_t* activations, const fb_output_loss* output
    );
    void (*step_free)(fb_step*);
    void (*step_load)(fb_step*, const void* theta);
    int (*step_dropout)(fb_step*, const double* rates, uint64_t seed, int64_t update, int64_t first);
    int (*step_gradient)(fb_step*, const fb_examples*, double* gradient, double* loss, double* weight);
    int (*step_cost)(fb_step*, const fb_examples*, double* loss, double* weight);
    int (*step_predict)(fb_step*, const fb_examples*, void* out);
    fb_trainer* (*trainer_new)(
        int dtype, int64_t layers, const int64_t* sizes, const int32_t* activations, const fb_output_loss* output,
        int64_t batch, const fb_rule* rule
    );
    void (*trainer_free)(fb_trainer*);
    void (*trainer_load)(fb_trainer*, const void* theta, const void* first, const void* second);
    void (*trainer_store)(const fb_trainer*, void* theta, void* first, void* second);
    int (*trainer_dropout)(fb_trainer*, const double* rates, uint64_t seed, int64_t update);
    int64_t (*trainer_run)(
        fb_trainer*, int threads, const fb_examples*, const int64_t* order, int64_t batch, const double* rates, double seconds,
        double* cost
    );
    int (*map)(int dtype, int function, const void* x, void* y, int64_t n);
};

// Every fb_step and fb_trainer starts with this.
struct fb_head {
    const fb_kernels* kernels;
    int dtype;
    int64_t inputs;               // n[0]
    int64_t parameters;           // how many numbers theta has
    int64_t capacity;             // of a trainer: the largest batch
    int64_t tiles_without_zeros;  // how many tiles of X, and of a trainer's hidden arrays, were multiplied without their zeros
    int64_t hidden;               // layers
};

// Whether a block from outside can be read; in dispatch.cpp.
extern "C" int fb_are_examples(const fb_examples* block, int64_t inputs, int with_targets);
