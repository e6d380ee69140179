#!/usr/bin/env bash
# pyarrow's mean of decimals has the column's own scale: of prices of 0.01 and 0.02 it is 0.02, not 0.015, alone and by
# group. With one place after the point, or none (sums of integers come out of SQL engines as such), it is off by up to
# half of the last place, and what is centred or imputed with it too. polars and duckdb give 0.015 for the same column;
# pyarrow's own variance and quantile are doubles.
#
# fullbatch makes numbers of decimals before it takes a mean.
# Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1
"$folder/venv/bin/python" - <<'PYTHON'
from decimal import Decimal

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

held = pa.table({"price": pa.array([Decimal("0.01"), Decimal("0.02")], pa.decimal128(5, 2)), "of": ["a", "a"]})
whole, grouped = pc.mean(held["price"]), held.group_by("of").aggregate([("price", "mean")])["price_mean"][0]
middle = pc.quantile(held["price"])[0]
print(f"pyarrow {pa.__version__}: mean {whole}, by group {grouped}, {whole.type}; median {middle}, {middle.type}")
by_polars = pl.from_arrow(held)["price"].mean()
by_duckdb = duckdb.sql("select avg(price) from held").fetchall()[0][0]
print(f"polars {pl.__version__}: mean {by_polars}; duckdb {duckdb.__version__}: mean {by_duckdb}")
assert whole.as_py() == grouped.as_py() == Decimal("0.02"), "pyarrow's mean is another now"
assert middle.as_py() == 0.015
assert float(by_polars) == by_duckdb == 0.015
PYTHON
