// Everything that runs on vectors. Compiled once for each instruction set, with FB_ISA naming it; all but the table at the
// end is in anonymous namespaces, so that no compilation's code can stand in for another's.
#include "kernels.h"

#include "epoch.h"

#define FB_JOIN_(a, b) a##b
#define FB_JOIN(a, b) FB_JOIN_(a, b)
#define FB_TEXT_(a) #a
#define FB_TEXT(a) FB_TEXT_(a)
#define FB_TABLE FB_JOIN(fb_kernels_, FB_ISA)

extern "C" {
extern const fb_kernels FB_TABLE;
}

namespace {

template <class Any>
bool is_float(const Any* opaque) {
    return reinterpret_cast<const fb_head*>(opaque)->dtype == FB_FLOAT32;
}

fb_step* new_step(int dtype, int64_t layers, const int64_t* sizes, const int32_t* activations, const fb_output_loss* output) {
    if (dtype == FB_FLOAT32) return step_new<float>(&FB_TABLE, dtype, layers, sizes, activations, output);
    return step_new<double>(&FB_TABLE, dtype, layers, sizes, activations, output);
}

void free_step(fb_step* step) {
    if (is_float(step)) step_free(reinterpret_cast<Step<float>*>(step));
    else step_free(reinterpret_cast<Step<double>*>(step));
}

void load_step(fb_step* step, const void* theta) {
    if (is_float(step)) step_load(reinterpret_cast<Step<float>*>(step), static_cast<const float*>(theta));
    else step_load(reinterpret_cast<Step<double>*>(step), static_cast<const double*>(theta));
}

int drop_of_step(fb_step* step, const double* rates, uint64_t seed, int64_t update, int64_t first) {
    if (is_float(step)) return step_dropout(reinterpret_cast<Step<float>*>(step), rates, seed, update, first);
    return step_dropout(reinterpret_cast<Step<double>*>(step), rates, seed, update, first);
}

int gradient(fb_step* step, const fb_examples* block, double* gradient, double* loss, double* weight) {
    if (is_float(step)) return step_gradient<float>(step, block, gradient, loss, weight);
    return step_gradient<double>(step, block, gradient, loss, weight);
}

int cost(fb_step* step, const fb_examples* block, double* loss, double* weight) {
    if (is_float(step)) return step_cost<float>(step, block, loss, weight);
    return step_cost<double>(step, block, loss, weight);
}

int predict(fb_step* step, const fb_examples* block, void* out) {
    if (is_float(step)) return step_predict<float>(step, block, out);
    return step_predict<double>(step, block, out);
}

fb_trainer* new_trainer(
    int dtype, int64_t layers, const int64_t* sizes, const int32_t* activations, const fb_output_loss* output, int64_t batch,
    const fb_rule* rule
) {
    if (dtype == FB_FLOAT32) return trainer_new<float>(&FB_TABLE, dtype, layers, sizes, activations, output, batch, rule);
    return trainer_new<double>(&FB_TABLE, dtype, layers, sizes, activations, output, batch, rule);
}

void free_trainer(fb_trainer* trainer) {
    if (is_float(trainer)) trainer_free(reinterpret_cast<Trainer<float>*>(trainer));
    else trainer_free(reinterpret_cast<Trainer<double>*>(trainer));
}

template <class T>
void load_as(fb_trainer* trainer, const void* theta, const void* first, const void* second) {
    trainer_load(
        reinterpret_cast<Trainer<T>*>(trainer), static_cast<const T*>(theta), static_cast<const T*>(first),
        static_cast<const T*>(second)
    );
}

void load_trainer(fb_trainer* trainer, const void* theta, const void* first, const void* second) {
    if (is_float(trainer)) load_as<float>(trainer, theta, first, second);
    else load_as<double>(trainer, theta, first, second);
}

template <class T>
void store_as(const fb_trainer* trainer, void* theta, void* first, void* second) {
    trainer_store(
        reinterpret_cast<const Trainer<T>*>(trainer), static_cast<T*>(theta), static_cast<T*>(first), static_cast<T*>(second)
    );
}

void store_trainer(const fb_trainer* trainer, void* theta, void* first, void* second) {
    if (is_float(trainer)) store_as<float>(trainer, theta, first, second);
    else store_as<double>(trainer, theta, first, second);
}

int drop_of_trainer(fb_trainer* trainer, const double* rates, uint64_t seed, int64_t update) {
    if (is_float(trainer)) return trainer_dropout(reinterpret_cast<Trainer<float>*>(trainer), rates, seed, update);
    return trainer_dropout(reinterpret_cast<Trainer<double>*>(trainer), rates, seed, update);
}

int64_t run_trainer(
    fb_trainer* trainer, int threads, const fb_examples* examples, const int64_t* order, int64_t batch, const double* rates,
    double seconds, double* cost
) {
    if (is_float(trainer)) {
        return trainer_run(reinterpret_cast<Trainer<float>*>(trainer), threads, examples, order, batch, rates, seconds, cost);
    }
    return trainer_run(reinterpret_cast<Trainer<double>*>(trainer), threads, examples, order, batch, rates, seconds, cost);
}

int map_all(int dtype, int function, const void* x, void* y, int64_t n) {
    if (dtype == FB_FLOAT32) map<float>(function, static_cast<const float*>(x), static_cast<float*>(y), n);
    else map<double>(function, static_cast<const double*>(x), static_cast<double*>(y), n);
    return 0;
}

}  // namespace

extern "C" {
const fb_kernels FB_TABLE = {
    FB_TEXT(FB_ISA), new_step,     free_step,    load_step,     drop_of_step,    gradient,    cost,    predict,
    new_trainer,     free_trainer, load_trainer, store_trainer, drop_of_trainer, run_trainer, map_all,
};
}
