#!/usr/bin/env bash
# A Parquet column of 1, NaN, null, 7. Rows "above 5" are two to polars and duckdb, which put NaN above every number, and
# one to pyarrow and pandas. Yet the largest is 7 to polars, and NaN to duckdb. The median is 7 to both of them (of 1, 7 and
# NaN), 4 to pandas and to pyarrow's quantile, 1 to pyarrow's approximate_median; the mean is NaN to three of four. So
# what a query left in a table, and how a gap was filled with a median, depends on who did it, and nobody says a word.
#
# fullbatch takes NaN for missing, as null. Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

pq.write_table(pa.table({"x": [1.0, float("nan"), None, 7.0]}), "x.parquet")
lazy, arrow, frame = pl.scan_parquet("x.parquet"), ds.dataset("x.parquet"), pd.read_parquet("x.parquet")
column, x = arrow.to_table()["x"], pl.col("x")
asked = "select (select count(*) from 'x.parquet' where x > 5), max(x), median(x), avg(x) from 'x.parquet'"
asked_of_polars = [x.max().alias("largest"), x.median().alias("median"), x.mean().alias("mean")]
above = arrow.to_table(filter=pc.field("x") > 5).num_rows
answers = {
    f"duckdb {duckdb.__version__}": duckdb.sql(asked).fetchall()[0],
    f"polars {pl.__version__}": (lazy.filter(x > 5).collect().height, *lazy.select(asked_of_polars).collect().row(0)),
    f"pyarrow {pa.__version__}": (above, pc.max(column).as_py(), pc.quantile(column)[0].as_py(), pc.mean(column).as_py()),
    f"pandas {pd.__version__}": (len(frame.query("x > 5")), frame.x.max(), frame.x.median(), frame.x.mean()),
}
for name, answer in answers.items():
    print(f"{name:14} rows above 5: {answer[0]}, largest {answer[1]}, median {answer[2]}, mean {answer[3]}")
print("pyarrow's approximate_median:", pc.approximate_median(column))
wanted = ["(2, nan, 7.0, nan)", "(2, 7.0, 7.0, nan)", "(1, 7.0, 4.0, nan)", "(1, 7.0, 4.0, 4.0)"]
assert [f"({', '.join(str(part) for part in answer)})" for answer in answers.values()] == wanted, "they differ otherwise now"
assert pc.approximate_median(column).as_py() == 1.0
PYTHON
