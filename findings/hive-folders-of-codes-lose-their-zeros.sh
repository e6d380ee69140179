#!/usr/bin/env bash
# A Hive partition's value is text in a folder's name, and each reader guesses its type anew. Of zip=01234, zip=00501 and a
# missing one, written by pyarrow from a column of texts: pyarrow's and polars' own readers give the numbers 1234 and 501,
# so that a round trip through one library changes the column's type and its values; duckdb gives the texts back;
# pandas refuses the folder (dictionaries with nulls), and fastparquet cannot find the value that it has itself made a
# number of. Whoever joins such a table by its code, or trains on it by one reader and predicts by another, meets
# categories that the other side never had.
#
# fullbatch keeps texts with leading zeros texts, in folders' names too.
# Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1 pandas==3.1.1 fastparquet==2026.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
import warnings

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

warnings.simplefilter("ignore")
written = pa.table({"zip": ["01234", "00501", None], "x": [1.0, 2.0, 3.0]})
pq.write_to_dataset(written, "t", partition_cols=["zip"])
print("folders:", sorted(os.listdir("t")))
by_pyarrow = ds.dataset("t", partitioning="hive").to_table().sort_by("x")["zip"].to_pylist()
by_polars = pl.scan_parquet("t/", hive_partitioning=True).sort("x").collect()["zip"].to_list()
by_duckdb = duckdb.sql("from read_parquet('t/**/*.parquet', hive_partitioning = true) order by x").fetchall()
by_duckdb = [row[-1] for row in by_duckdb]
print("pyarrow", pa.__version__, by_pyarrow)
print("polars", pl.__version__, by_polars)
print("duckdb", duckdb.__version__, by_duckdb)
assert by_pyarrow == by_polars == [1234, 501, None]
assert by_duckdb == ["01234", "00501", None]
for engine, error in (("pyarrow", pa.ArrowInvalid), ("fastparquet", ValueError)):
    try:
        pd.read_parquet("t", engine=engine)
    except error as refused:
        print(f"pandas {pd.__version__} by {engine}:", refused)
    else:
        raise SystemExit(f"pandas reads it by {engine} now")
PYTHON
