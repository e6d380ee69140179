// Numbers below the smallest normal one, taken for 0 in a part of a thread's work.
#pragma once

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif
#include <stdint.h>

namespace {

// While it lives, this thread takes denormal numbers for 0 and makes none; before and after, it is as its owner had it.
//
// L2 and an input that is always 0, or a unit that is never on, let weights, and what an optimiser keeps of them, shrink
// for ever. Where they are denormal an instruction takes 150 cycles: small tables took four times as long as without.
struct DenormalsAreZero {
    DenormalsAreZero() : before(control()) { set(before | BITS); }
    ~DenormalsAreZero() { set(before); }
    DenormalsAreZero(const DenormalsAreZero&) = delete;
    void operator=(const DenormalsAreZero&) = delete;

private:
#if defined(__SSE2__)
    typedef unsigned Register;
    static constexpr Register BITS = 0x8040;  // of MXCSR: results are flushed, operands are zeros
    static Register control() { return _mm_getcsr(); }
    static void set(Register value) { _mm_setcsr(value); }
#elif defined(__aarch64__)
    typedef uint64_t Register;
    static constexpr Register BITS = UINT64_C(1) << 24;  // of FPCR, FZ: both
    static Register control() {
        Register value;
        __asm__ volatile("mrs %0, fpcr" : "=r"(value));
        return value;
    }
    static void set(Register value) { __asm__ volatile("msr fpcr, %0" : : "r"(value) : "memory"); }
#else
    typedef unsigned Register;
    static constexpr Register BITS = 0;
    static Register control() { return 0; }
    static void set(Register) {}
#endif
    const Register before;
};

}  // namespace
