// The C ABI: checks what comes from outside and hands it to the kernels of one instruction set. Compiled for any machine of
// the architecture, so that the question "has this machine AVX-512?" can be asked on one that has not.
#include "kernels.h"

#if defined(FB_HAVE_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

extern "C" {
#if defined(FB_HAVE_AMX)
extern const fb_kernels fb_kernels_amx;
#endif
#if defined(FB_HAVE_AVX512)
extern const fb_kernels fb_kernels_avx512;
#endif
#if defined(FB_HAVE_AVX2)
extern const fb_kernels fb_kernels_avx2;
#endif
#if defined(FB_HAVE_NEON)
extern const fb_kernels fb_kernels_neon;
#endif
#if defined(FB_HAVE_PORTABLE)
extern const fb_kernels fb_kernels_portable;
#endif
#if defined(FB_HAVE_TWIN)
extern const fb_kernels fb_kernels_twin;  // of the tests
#endif
}

namespace {

// What each asks for is what CMakeLists.txt compiles it with. __builtin_cpu_supports also asks whether the operating system
// saves the registers.
#if defined(FB_HAVE_AVX2)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif
#if defined(FB_HAVE_AVX512)
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif
#if defined(FB_HAVE_AMX)
// Whether the processor has bf16 tiles, the system saves them, and lets this process use them: that is asked once. It refuses
// where a thread's stack for signals is too small for so many registers. Threads and forks of the process inherit it.
bool may_use_tiles() {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    const unsigned bf16 = 1u << 22, tile = 1u << 24;
    if ((d & bf16) == 0 || (d & tile) == 0) return false;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (1u << 27)) == 0) return false;  // no XGETBV
    asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    const unsigned saved = 3u << 17;  // the tiles and their configuration
    constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    return (a & saved) == saved && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
bool has_amx() {
    static const bool has = has_avx512() && may_use_tiles();
    return has;
}
#endif
[[maybe_unused]] bool always() { return true; }

struct Isa {
    const fb_kernels* kernels;
    bool (*usable)();
};

// The best first.
const Isa ISAS[] = {
#if defined(FB_HAVE_AMX)
    {&fb_kernels_amx, has_amx},
#endif
#if defined(FB_HAVE_AVX512)
    {&fb_kernels_avx512, has_avx512},
#endif
#if defined(FB_HAVE_AVX2)
    {&fb_kernels_avx2, has_avx2},
#endif
#if defined(FB_HAVE_NEON)
    {&fb_kernels_neon, always},
#endif
#if defined(FB_HAVE_PORTABLE)
    {&fb_kernels_portable, always},
#endif
#if defined(FB_HAVE_TWIN)
    {&fb_kernels_twin, always},
#endif
};
constexpr int COUNT = sizeof ISAS / sizeof *ISAS;

constexpr int64_t MOST_LAYERS = 1 << 16;  // far above any network, far below where sums overflow
constexpr int64_t MOST_PARAMETERS = INT64_C(1) << 40;
constexpr int64_t MOST_UNITS = INT64_C(1) << 30;  // the kernels count a layer's vectors in an int
constexpr int64_t MOST_BATCH = INT64_C(1) << 24;

const fb_kernels* kernels(int isa) { return isa >= 0 && isa < COUNT && ISAS[isa].usable() ? ISAS[isa].kernels : nullptr; }

template <class Any>
const fb_head* head(const Any* opaque) {
    return reinterpret_cast<const fb_head*>(opaque);
}

bool is_dtype(int dtype) { return dtype == FB_FLOAT32 || dtype == FB_FLOAT64; }

bool is_output(const fb_output_loss* output) {
    if (!output || output->unit < FB_OUT_SIGMOID || output->unit > FB_OUT_EXP) return false;
    if (!output->lines) return true;
    // Not "< 0 || ...": a NaN is none of these.
    return output->unit == FB_OUT_IDENTITY && output->below >= 0 && output->above >= 0;
}

bool is_network(int64_t layers, const int64_t* sizes, const int32_t* activations, const fb_output_loss* output) {
    if (layers < 1 || layers > MOST_LAYERS || !sizes || (layers > 1 && !activations)) return false;
    if (!is_output(output)) return false;
    int64_t parameters = 0;
    for (int64_t l = 0; l <= layers; l++) {
        if (sizes[l] < 1 || sizes[l] > MOST_UNITS) return false;
        if (l == 0) continue;
        if (sizes[l - 1] + 1 > MOST_PARAMETERS / sizes[l]) return false;
        parameters += (sizes[l - 1] + 1) * sizes[l];
        if (parameters > MOST_PARAMETERS) return false;
        if (l < layers && (activations[l - 1] < FB_TANH || activations[l - 1] > FB_SILU)) return false;
    }
    return true;
}

// Whether these are rates of the hidden layers; NULL is.
bool are_rates(const double* rates, const fb_head* head) {
    for (int64_t l = 0; rates && l < head->hidden; l++) {
        if (!(rates[l] >= 0 && rates[l] < 1)) return false;  // in these words a NaN is none
    }
    return true;
}

// Whether all numbers are in [0, size). Without a way out of the loop, so that it is one of vectors.
template <class Integer>
bool are_below(const Integer* numbers, int64_t count, int64_t size) {
    bool wrong = size < 0;
    for (int64_t k = 0; k < count; k++) wrong |= uint64_t(numbers[k]) >= uint64_t(size);
    return !wrong;
}

bool is_sparse(const fb_examples* block, int64_t inputs) {
    const int32_t* starts = block->indptr;
    bool wrong = starts[0] < 0;
    for (int64_t e = 0; e < block->m; e++) wrong |= starts[e + 1] < starts[e];
    if (wrong) return false;
    const int64_t count = starts[block->m] - starts[0];
    return count == 0 || (block->X && block->features && are_below(block->features + starts[0], count, inputs));
}

bool are_examples(const fb_examples* block, int64_t inputs, bool with_targets) {
    if (!block || block->m < 0) return false;
    if (block->m == 0) return true;
    if ((with_targets && !block->Y) || block->codes) return false;
    return block->indptr ? is_sparse(block, inputs) : block->X != nullptr;
}

// The X of a trainer, of which any example may come at any time. Features and codes are looked at when they are read.
bool is_source(const fb_examples* from, int64_t m_X, int64_t inputs) {
    if (!from->X || (from->codes && from->indptr)) return false;
    if (from->codes) {
        const bool bytes = from->code_bytes == 1 || from->code_bytes == 2 || from->code_bytes == 4;
        return bytes && from->n_codes >= 0 && from->n_codes <= inputs && from->numbers >= 0 && from->numbers <= inputs;
    }
    if (!from->indptr) return true;
    bool wrong = from->indptr[0] < 0 || !from->features;
    for (int64_t e = 0; e < m_X; e++) wrong |= from->indptr[e + 1] < from->indptr[e];
    return !wrong;
}

}  // namespace

extern "C" {

int fb_are_examples(const fb_examples* block, int64_t inputs, int with_targets) {
    return are_examples(block, inputs, with_targets != 0);
}

int fb_abi(void) { return FB_ABI; }

const char* fb_isa_name(int isa) { return isa >= 0 && isa < COUNT ? ISAS[isa].kernels->name : nullptr; }

int fb_isa_usable(int isa) { return kernels(isa) != nullptr; }

fb_step* fb_step_new(
    int isa, int dtype, int64_t layers, const int64_t* sizes, const int32_t* activations, const fb_output_loss* output
) {
    const fb_kernels* table = kernels(isa);
    if (!table || !is_dtype(dtype) || !is_network(layers, sizes, activations, output)) return nullptr;
    return table->step_new(dtype, layers, sizes, activations, output);
}

void fb_step_free(fb_step* step) {
    if (step) head(step)->kernels->step_free(step);
}

void fb_step_load(fb_step* step, const void* theta) {
    if (step && theta) head(step)->kernels->step_load(step, theta);
}

int fb_step_dropout(fb_step* step, const double* rates, uint64_t seed, int64_t update, int64_t first) {
    if (!step || !are_rates(rates, head(step)) || update < 0 || first < 0) return FB_WRONG;
    return head(step)->kernels->step_dropout(step, rates, seed, update, first);
}

int fb_step_gradient(fb_step* step, const fb_examples* block, double* gradient, double* loss, double* weight) {
    if (!step || !are_examples(block, head(step)->inputs, true) || !gradient || !loss || !weight) return FB_WRONG;
    return head(step)->kernels->step_gradient(step, block, gradient, loss, weight);
}

int fb_step_cost(fb_step* step, const fb_examples* block, double* loss, double* weight) {
    if (!step || !are_examples(block, head(step)->inputs, true) || !loss || !weight) return FB_WRONG;
    return head(step)->kernels->step_cost(step, block, loss, weight);
}

int fb_step_predict(fb_step* step, const fb_examples* block, void* out) {
    if (!step || !are_examples(block, head(step)->inputs, false) || (block->m > 0 && !out)) return FB_WRONG;
    return head(step)->kernels->step_predict(step, block, out);
}

fb_trainer* fb_trainer_new(
    int isa, int dtype, int64_t layers, const int64_t* sizes, const int32_t* activations, const fb_output_loss* output,
    int64_t batch, const fb_rule* rule
) {
    const fb_kernels* table = kernels(isa);
    if (!table || !is_dtype(dtype) || !is_network(layers, sizes, activations, output)) return nullptr;
    if (batch < 1 || batch > MOST_BATCH || !rule || rule->kind < FB_GD || rule->kind > FB_ADAM) return nullptr;
    return table->trainer_new(dtype, layers, sizes, activations, output, batch, rule);
}

void fb_trainer_free(fb_trainer* trainer) {
    if (trainer) head(trainer)->kernels->trainer_free(trainer);
}

void fb_trainer_load(fb_trainer* trainer, const void* theta, const void* first, const void* second) {
    if (trainer && theta) head(trainer)->kernels->trainer_load(trainer, theta, first, second);
}

void fb_trainer_store(const fb_trainer* trainer, void* theta, void* first, void* second) {
    if (trainer && theta) head(trainer)->kernels->trainer_store(trainer, theta, first, second);
}

int fb_trainer_dropout(fb_trainer* trainer, const double* rates, uint64_t seed, int64_t update) {
    if (!trainer || !are_rates(rates, head(trainer)) || update < 0) return FB_WRONG;
    return head(trainer)->kernels->trainer_dropout(trainer, rates, seed, update);
}

int64_t fb_trainer_run(
    fb_trainer* trainer, int threads, const fb_examples* examples, const int64_t* order, int64_t m_X, int64_t batch,
    const double* rates, double seconds, double* cost
) {
    if (!trainer || threads < 1 || batch < 1 || batch > head(trainer)->capacity) return FB_WRONG;
    if (!examples || examples->m < 0 || !cost) return FB_WRONG;
    if (examples->m == 0) return 0;
    if (!rates || !examples->Y || !is_source(examples, m_X, head(trainer)->inputs)) return FB_WRONG;
    if (order ? !are_below(order, examples->m, m_X) : examples->m > m_X) return FB_WRONG;
    return head(trainer)->kernels->trainer_run(trainer, threads, examples, order, batch, rates, seconds, cost);
}

int64_t fb_tiles_without_zeros(const void* step_or_trainer) {
    return step_or_trainer ? static_cast<const fb_head*>(step_or_trainer)->tiles_without_zeros : int64_t(FB_WRONG);
}

int fb_map(int isa, int dtype, int function, const void* x, void* y, int64_t n) {
    const fb_kernels* table = kernels(isa);
    if (!table || !is_dtype(dtype) || function < FB_EXP || function > FB_LOG || n < 0) return FB_WRONG;
    if (n > 0 && (!x || !y)) return FB_WRONG;
    return table->map(dtype, function, x, y, n);
}
}
