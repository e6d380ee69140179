#!/usr/bin/env bash
# A Parquet column of float16, which pyarrow, pandas and polars write and read, and duckdb reads as float32, comes out of
# fastparquet as a column of two-byte strings, without a word: features of half a precision become texts, of which each
# different number is a category.
#
# Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1 pandas==3.1.1 fastparquet==2026.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb
import fastparquet
import numpy as np
import pandas as pd
import polars as pl

pd.DataFrame({"x": np.array([1.5, 2.5, -3], np.float16)}).to_parquet("half.parquet", engine="pyarrow")
print("pandas by pyarrow:", pd.read_parquet("half.parquet", engine="pyarrow").x.dtype)
print("polars", pl.__version__, pl.read_parquet("half.parquet").schema)
print("duckdb", duckdb.__version__, duckdb.sql("select x, typeof(x) from 'half.parquet'").fetchall())
found = fastparquet.ParquetFile("half.parquet").to_pandas().x
print("fastparquet", fastparquet.__version__, found.dtype, found.tolist())
assert duckdb.sql("select x from 'half.parquet'").fetchall() == [(1.5,), (2.5,), (-3.0,)]
assert found.tolist() == [np.float16(x).tobytes() for x in (1.5, 2.5, -3)], "it reads numbers now"
PYTHON
