"""CUDA kernels on the CPU: the very text that NVRTC gets, compiled by g++ and run thread by thread.

Each CUDA thread is a fiber of its own. ``__syncthreads`` and the shuffles of a warp wait for the other fibers, so that
a kernel behaves as on a card: who forgets to wait gets a wrong sum, and a wait that not all reach ends the process.
Thread blocks run one after another, their threads by turns from the first to the last and from the last to the first;
shared memory is full of NaN when one begins. With ``stalls``, a seed, threads sit out a turn of four and warps 64 in a
row, so that some are far ahead of others; ``fault`` leaves one barrier of a kernel's text out, which a test has to
notice. A tensor core's ``mma`` has its lanes' numbers where the PTX manual says, takes the 19 bits of TF32 and rounds
sums of four products towards zero. ``FakeCuPy`` is NumPy with just enough of CuPy on top for the steps.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fullbatch.steps.cuda.tiles import INSTRUCTIONS

COMPILER = shutil.which("g++")
folder: Path | None = None  # where all processes of a test run have what one of them has compiled
BARRIER = re.compile(r"__sync(threads|warp)\(\);")
NAME = re.compile(r"^#define (\w+) (.*)\n", re.MULTILINE)
# For g++ these are variables, so that one compilation does for many variants.
CHOSEN = ("ACTIVATION", "OUTPUT", "PER", "ROWS", "LINEAR", "GATHERS", "KIND")

BEFORE = r"""
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <utility>
// By hand: to read <cmath>, <vector> and <algorithm> takes a third of a compilation.
extern "C" {
float tanhf(float); float expf(float); float logf(float); float log1pf(float); float fabsf(float); float sqrtf(float);
double tanh(double); double exp(double); double log(double); double log1p(double); double fabs(double);
double sqrt(double); float nextafterf(float, float);
}
struct Three { unsigned x, y, z; };
struct Fiber { ucontext_t context; jmp_buf place; char* stack; Three thread; bool begun, done; };
static Fiber fibers[1024];  // They stay where they are: contexts point into themselves.
static jmp_buf scheduler;
static unsigned now;  // the fiber that runs
static Three blockIdx, blockDim, gridDim;
#define threadIdx (fibers[now].thread)
#define __global__
#define __device__ static
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
// A context begins a fiber. Later turns are jumps: to swap contexts asks the kernel for the signal mask each time.
static void let_others() {
    if (!_setjmp(fibers[now].place)) _longjmp(scheduler, 1);
}
static void take_turn(Fiber& fiber) {
    if (_setjmp(scheduler)) return;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
}
struct Barrier { unsigned waiting = 0, turn = 0; };
static Barrier of_block, of_warp[32];
static char slots[1024][8];
static long waits;  // since a fiber last got past a barrier, or ended
static void meet(Barrier& barrier, unsigned members) {
    unsigned turn = barrier.turn;
    if (++barrier.waiting == members) { barrier.waiting = 0; ++barrier.turn; waits = 0; return; }
    while (barrier.turn == turn) {
        if (++waits > 3000000) { std::fprintf(stderr, "a barrier that not all threads reach\n"); std::abort(); }
        let_others();
    }
}
static void __syncthreads() { meet(of_block, blockDim.x); }
static void __syncwarp() { meet(of_warp[threadIdx.x / 32], 32); }
static float __fdividef(float a, float b) { return a / b; }
template <class V> static V exchanged(V value, unsigned from) {
    unsigned warp = threadIdx.x / 32;
    std::memcpy(slots[threadIdx.x], &value, sizeof value);
    meet(of_warp[warp], 32);
    std::memcpy(&value, slots[32 * warp + from], sizeof value);
    meet(of_warp[warp], 32);
    return value;
}
template <class V> static V __shfl_xor_sync(unsigned, V value, int other) {
    return exchanged(value, (threadIdx.x % 32) ^ other);
}
template <class V> static V __shfl_sync(unsigned, V value, int from) { return exchanged(value, from); }
static int __ffs(unsigned x) { return __builtin_ffs(int(x)); }
static unsigned __ballot_sync(unsigned, bool holds) {
    unsigned warp = threadIdx.x / 32, all = 0;
    slots[threadIdx.x][0] = holds;
    meet(of_warp[warp], 32);
    for (unsigned t = 0; t < 32; ++t) all |= unsigned(slots[32 * warp + t][0]) << t;
    meet(of_warp[warp], 32);
    return all;
}
alignas(16) static T shared[1 << 16];  // what a launch asks for, and its end
static long asked;
extern "C" { int fault; unsigned stalls; }
static unsigned __float_as_uint(float x) { unsigned bits; std::memcpy(&bits, &x, 4); return bits; }
static float __uint_as_float(unsigned bits) { float x; std::memcpy(&x, &bits, 4); return x; }
static unsigned to_tf32(float x) {  // the nearest, of two the larger
    unsigned bits = __float_as_uint(x);
    return __builtin_isfinite(x) ? (bits + 0x1000u) & 0xffffe000u : bits;
}
static float tf32(unsigned bits) { return __uint_as_float(bits & 0xffffe000u); }  // it looks at no more
static struct { unsigned a[4], b[2]; } operands[1024];
static void mma(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    const unsigned warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    std::memcpy(operands[threadIdx.x].a, a, sizeof a);
    std::memcpy(operands[threadIdx.x].b, b, sizeof b);
    meet(of_warp[warp], 32);
    for (int r = 0; r < 4; ++r) {
        const int row = g + 8 * (r / 2), column = 2 * t + r % 2;
        for (int k = 0; k < 8;) {
            double sum = c[r];
            do {
                const float left = tf32(operands[32 * warp + 4 * (row % 8) + k % 4].a[row / 8 + 2 * (k / 4)]);
                sum += double(left) * tf32(operands[32 * warp + 4 * column + k % 4].b[k / 4]);
            } while (++k % 4);
            c[r] = float(sum);
            if (__builtin_isfinite(c[r]) && fabs(c[r]) > fabs(sum)) c[r] = nextafterf(c[r], 0.0f);
        }
    }
    meet(of_warp[warp], 32);
}
"""

AFTER = r"""
template <class... A, size_t... I> static void invoke(void (*kernel)(A...), void** p, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(p[I])...);
}
template <class... A> static void apply(void (*kernel)(A...), void** p) {
    invoke(kernel, p, std::index_sequence_for<A...>{});
}
// Whether a warp sits out these 64 turns, or its thread this one.
static bool out_of_turn(unsigned warp, unsigned round) {
    static unsigned long long drawn;
    unsigned long long x = (stalls * 1000003ull + round / 64) * 64 + warp;
    x = (x ^ x >> 31) * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull;
    drawn = drawn * 6364136223846793005ull + 1442695040888963407ull;
    return x >> 62 == 0 || drawn >> 62 == 0;
}
static void** arguments;
static void start() {
    for (;;) {  // A fiber that is done waits for the next thread block or launch: to make one asks the kernel twice.
        apply(KERNEL, arguments);
        fibers[now].done = true;
        waits = 0;
        let_others();
    }
}
extern "C" int launch(int gx, int gy, int threads, long bytes, void** args) {
    arguments = args;
    asked = bytes / sizeof(T);
    if (asked + 64 > long(sizeof shared / sizeof(T))) return 1;
    blockDim = {unsigned(threads), 1, 1}; gridDim = {unsigned(gx), unsigned(gy), 1};
    const long room = sizeof shared / sizeof(T), filled = asked + 4096 < room ? asked + 4096 : room;
    for (int y = 0; y < gy; ++y) for (int x = 0; x < gx; ++x) {
        blockIdx = {unsigned(x), unsigned(y), 0};
        waits = 0;
        std::memset(shared, 0xff, filled * sizeof(T));
        for (int t = 0; t < threads; ++t) {
            Fiber& fiber = fibers[t];
            fiber.done = false;
            if (fiber.begun) continue;
            fiber.stack = static_cast<char*>(std::malloc(1 << 16));
            fiber.thread = {unsigned(t), 0, 0};
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack;
            fiber.context.uc_stack.ss_size = 1 << 16;
            makecontext(&fiber.context, start, 0);
        }
        unsigned round = 0;
        for (bool left = true; left; ++round) {
            left = false;
            for (int t = 0; t < threads; ++t) {
                now = (x + y) % 2 ? threads - 1 - t : t;
                if (fibers[now].done) continue;
                left = true;
                if (stalls && out_of_turn(now / 32, round)) continue;
                take_turn(fibers[now]);
            }
        }
        for (int i = 0; i < 64; ++i) if (shared[asked + i] == shared[asked + i]) return 2;  // no NaN any more
    }
    return 0;
}
"""


@functools.cache
def compiled(source: str, name: str) -> ctypes.CDLL:
    """The kernel of that name, without the lines that define what is chosen at each launch."""
    assert COMPILER is not None
    number = dict(NAME.findall(source))["T"]
    variables = 'extern "C" { int ' + ", ".join(CHOSEN) + "; }\n"
    body = source.replace("    extern __shared__ __align__(16) T shared[];\n", "").replace(INSTRUCTIONS, "")
    number_of = itertools.count(1)
    body = BARRIER.sub(lambda call: f"if (fault != {next(number_of)}) {call[0]}", body)
    text = f"#define T {number}\n#define KERNEL {name}\n{BEFORE}{variables}{body}{AFTER}"
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="cuda-on-cpu-") as own:
            return _library(text, Path(own) / "kernels.so")
    import fcntl

    folder.mkdir(exist_ok=True)
    library = folder / f"{hashlib.sha256(text.encode()).hexdigest()}.so"
    with open(library.with_suffix(".lock"), "w", encoding="ascii") as lock:  # another process may want the same now
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _library(text, library)


def _library(text: str, library: Path) -> ctypes.CDLL:
    if not library.exists():
        made = library.with_suffix(".part")
        command = [COMPILER, "-O1", "-std=c++17", "-shared", "-fPIC", "-w", "-x", "c++", "-", "-o", str(made)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        made.rename(library)
    return ctypes.CDLL(str(library))


class Kernel:
    """As cupy.RawKernel: called with grid, block and arguments."""

    def __init__(self, code: str, name: str) -> None:
        defined = dict(NAME.findall(code))
        self.chosen = {key: int(defined[key]) for key in CHOSEN if defined.get(key, "").isdigit()}
        fixed = NAME.sub(lambda line: "" if line[1] in self.chosen else line[0], code)
        self.library, self.name = compiled(fixed, name), name
        self.kernel = SimpleNamespace(ptr=0)
        self.dtype = {"float": np.float32, "double": np.float64}[defined["T"]]
        self.max_dynamic_shared_size_bytes = 48 * 2**10

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared_mem: int) -> None:
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        launched.append((self.name, list(self.chosen.values())))
        for key, value in self.chosen.items():
            ctypes.c_int.in_dll(self.library, key).value = value
        ctypes.c_int.in_dll(self.library, "fault").value = fault.get(self.name, 0)
        ctypes.c_uint.in_dll(self.library, "stalls").value = stalls
        values = [self._value(argument) for argument in args]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        gx, gy = (*grid, 1)[:2]
        failed = self.library.launch(gx, gy, block[0], ctypes.c_long(shared_mem), pointers)
        assert failed == 0, {1: "more shared memory than there is", 2: "written beyond the shared memory"}[failed]

    def _value(self, argument: Any) -> Any:
        argument = getattr(argument, "host", argument)
        if isinstance(argument, np.ndarray):
            assert argument.dtype in (self.dtype, np.float64, np.int32, np.int64) or argument.dtype.kind == "u"
            return ctypes.c_void_p(argument.ctypes.data)
        if type(argument) is np.intp and argument == 0:
            return ctypes.c_void_p(None)
        if type(argument) is np.float64:
            return ctypes.c_double(float(argument))
        assert type(argument) is np.int64, "CuPy chooses a Python number's type, and takes None from 14 on"
        return ctypes.c_longlong(int(argument))


def matrices(pointer: int, kind: int, shape: tuple[int, int], ld: int, batch: int, stride: int) -> np.ndarray:
    """What lies there, column by column as cuBLAS has it: (batch, *shape)."""
    dtype = np.dtype((np.float32, np.float64)[kind])
    rows, columns = shape
    assert ld >= max(1, rows), "cuBLAS refuses it"
    numbers = (batch - 1) * stride + (columns - 1) * ld + rows
    flat = np.frombuffer((ctypes.c_char * (numbers * dtype.itemsize)).from_address(pointer), dtype)
    steps = tuple(step * dtype.itemsize for step in (stride, 1, ld))
    return np.lib.stride_tricks.as_strided(flat, (batch, rows, columns), steps)


def gemm(
    handle: int, of_a: int, of_b: int, m: int, n: int, k: int, alpha: int, a: int, a_kind: int, lda: int, a_stride: int,
    b: int, b_kind: int, ldb: int, b_stride: int, beta: int, c: int, c_kind: int, ldc: int, c_stride: int, batch: int,
    compute: int, algorithm: int,
) -> None:  # fmt: skip
    """As cupy.cuda.cublas.gemmStridedBatchedEx; NumPy makes each product, whose bits depend on its shape too."""
    multiplied.append((m, n, k, batch, compute))
    A = matrices(a, a_kind, (k, m) if of_a else (m, k), lda, batch, a_stride)
    B = matrices(b, b_kind, (n, k) if of_b else (k, n), ldb, batch, b_stride)
    C = matrices(c, c_kind, (m, n), ldc, batch, c_stride)
    for i in range(batch):
        left, right = (B[i] if of_b else B[i].T), (A[i] if of_a else A[i].T)
        C[i].T[...] = left @ right


multiplied: list[tuple[int, ...]] = []  # the products since the list was last cleared: m, n, k, how many, in which type
fault: dict[str, int] = {}  # of a kernel by its name, the barrier that is left out, counted from 1
stalls = 0  # the seed of the turns that threads sit out; 0: none does
launched: list[tuple[str, list[int]]] = []  # what ran since the list was last cleared


class FakeCuPy:
    """NumPy's functions; RawModule as CuPy has it; a device of ``processors`` that each run two thread blocks."""

    def __init__(self, processors: int = 2) -> None:
        self.cuda = SimpleNamespace(
            driver=SimpleNamespace(occupancyMaxActiveBlocksPerMultiprocessor=lambda pointer, threads, shared: 2),
            Device=lambda: SimpleNamespace(attributes={"MultiProcessorCount": processors}, cublas_handle=0),
            cublas=SimpleNamespace(gemmStridedBatchedEx=gemm),
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any) -> np.ndarray:
        return np.full(shape, np.nan, dtype=dtype)  # whoever reads what nobody wrote finds out

    def RawModule(self, *, code: str) -> Any:
        return SimpleNamespace(get_function=lambda name: Kernel(code, name))
