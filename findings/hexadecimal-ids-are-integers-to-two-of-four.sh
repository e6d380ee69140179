#!/usr/bin/env bash
# An id such as 0x1F in a CSV file is the integer 31 to pyarrow and to duckdb, and a text to polars and pandas. The guess
# turns on the whole column: one number with a point beside the ids, and pyarrow has texts again, since a float is never
# written so, while duckdb infers a column of doubles and then raises on the ids that it cannot make doubles of. A table
# read by two of them joins on nothing, and hash ids become magnitudes.
#
# fullbatch reads them as texts. Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv

def first_by_each():
    return {
        f"pyarrow {pa.__version__}": pyarrow.csv.read_csv("ids.csv")["id"][0].as_py(),
        f"polars {pl.__version__}": pl.read_csv("ids.csv")["id"][0],
        f"pandas {pd.__version__}": pd.read_csv("ids.csv")["id"][0],
    }


def by_duckdb():
    return duckdb.sql("from read_csv('ids.csv', header = true)").fetchall()[0][0]


Path("ids.csv").write_text("id\n0x1F\n0x2A\n")
first, last = first_by_each(), by_duckdb()
print("0x1F, 0x2A: the first is", first, f"duckdb {duckdb.__version__}:", last)
assert [*first.values(), last] == [31, "0x1F", "0x1F", 31], "they read it otherwise now"
Path("ids.csv").write_text("id\n0x1F\n0x2A\n1.5\n")
first = first_by_each()
print("0x1F, 0x2A, 1.5: the first is", first)
assert list(first.values()) == ["0x1F"] * 3, "they read it otherwise now"
try:
    by_duckdb()
except duckdb.ConversionException as error:
    print("duckdb:", str(error).splitlines()[2])
else:
    raise SystemExit("duckdb reads it now")
PYTHON
