#!/usr/bin/env bash
# ziglang 0.17.1 (`zig c++`, Clang 22): __builtin_cpu_supports("avx2") compiles, links and says 0 on a machine that has AVX2,
# before and after __builtin_cpu_init(). So a library that chooses its kernels when it runs, as compilers' manuals
# have it, takes the slowest ones without a word. GCC's says yes. (ziglang/zig issue 18074 asks for what is missing.)
#
# Seen on 2026-11-28 on x86-64. It exits with 1 where zig says yes, or where the machine has no AVX2.
set -euo pipefail
grep -qw avx2 /proc/cpuinfo || { echo "this machine has no AVX2" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'ziglang==0.17.1'
cat >"$folder/main.cpp" <<'CPP'
#include <cstdio>
int main() {
    __builtin_cpu_init();
    std::printf("%d", __builtin_cpu_supports("avx2") != 0);
}
CPP
"$folder/venv/bin/python" -m ziglang c++ "$folder/main.cpp" -o "$folder/main"
said=$("$folder/main")
echo "zig $("$folder/venv/bin/python" -m ziglang version): __builtin_cpu_supports(\"avx2\") is $said; /proc/cpuinfo has avx2"
[ "$said" = 0 ]
