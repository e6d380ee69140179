#!/usr/bin/env bash
# 0.0 and -0.0 are one number, and pyarrow makes two levels of them: unique, dictionary_encode and a group by keep both,
# and is_in does not find -0.0 among [0.0]. NaN, which is no number's equal, is one level there. polars, duckdb and pandas
# have one zero. A column of categories read as floats has a -0.0 wherever a small negative number was rounded.
#
# fullbatch's levels have one zero. Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1 pandas==3.1.1
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

held = pa.table({"x": [0.0, -0.0, float("nan"), float("nan")]})
levels = {
    f"pyarrow {pa.__version__}, unique": len(pc.unique(held["x"])),
    "pyarrow, dictionary_encode": len(pc.dictionary_encode(held["x"]).chunk(0).dictionary),
    "pyarrow, group_by": held.group_by("x").aggregate([]).num_rows,
    f"polars {pl.__version__}": pl.from_arrow(held)["x"].n_unique(),
    f"duckdb {duckdb.__version__}": len(duckdb.sql("select distinct x from held").fetchall()),
    f"pandas {pd.__version__}": len(pd.unique(held["x"].to_pandas())),
}
for name, count in levels.items():
    print(f"{name}: {count} levels of 0.0, -0.0 and NaN")
among = pc.is_in(pa.array([-0.0]), value_set=pa.array([0.0]))[0].as_py()
print("pyarrow, is_in: -0.0 among [0.0]:", among, "and -0.0 == 0.0:", pc.equal(-0.0, 0.0).as_py())
assert list(levels.values()) == [3, 3, 3, 2, 2, 2], "they count otherwise now"
assert among is False and pc.equal(-0.0, 0.0).as_py()
PYTHON
