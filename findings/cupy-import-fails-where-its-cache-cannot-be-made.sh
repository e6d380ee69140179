#!/usr/bin/env bash
# CuPy 14.2.0: where the folder of compiled kernels cannot be made, which is ~/.cupy/kernel_cache or CUPY_CACHE_DIR, as in a
# container whose home is read-only, `import cupy` itself fails, before any kernel is compiled. CuPy 14.0.1 is imported there,
# and makes the folder with the first kernel. So a program that only looks whether there is a GPU can end with the newer one.
#
# Seen on 2026-11-27, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
touch "$folder/a-file" # a folder cannot be made below a file
for version in 14.0.1 14.2.0; do
    "$folder/venv/bin/pip" install -q "cupy-cuda13x==$version"
    said=$(CUPY_CACHE_DIR="$folder/a-file/kernels" "$folder/venv/bin/python" -W ignore -c 'import cupy; print("is imported")' 2>&1 | tail -n 1 || true)
    echo "CuPy $version: ${said//$folder/FOLDER}"
    case "$version $said" in
    "14.0.1 is imported" | "14.2.0 NotADirectoryError: "*) ;;
    *) echo "this has changed" >&2; exit 1 ;;
    esac
done
