#!/usr/bin/env bash
# A column of 1/2/2020, 3/4/2020 says nowhere whether the day or the month comes first. polars (try_parse_dates) and
# duckdb (by itself) read 1 February, pandas.to_datetime 2 January, each without a word, and pyarrow leaves it text. With
# 1/13/2020 for the second, the first is January to duckdb too, and a text to polars: the same day is one or the other by
# what else is in the file.
#
# fullbatch wants a day above 12 somewhere, or --date-format. Seen on 2026-11-28, Python 3.11. It exits with 1 where that
# is no longer so.
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
import pyarrow.csv

wanted = {
    "3/4/2020": ["2020-02-01", "2020-02-01", "2020-01-02", "1/2/2020"],
    "1/13/2020": ["2020-01-02", "1/2/2020", "2020-01-02", "1/2/2020"],
}
for last, days in wanted.items():
    Path("dates.csv").write_text(f"day,y\n1/2/2020,1\n{last},2\n")
    first = {
        f"duckdb {duckdb.__version__}": str(duckdb.sql("select day from 'dates.csv'").fetchall()[0][0]),
        f"polars {pl.__version__}": str(pl.read_csv("dates.csv", try_parse_dates=True)["day"][0]),
        f"pandas {pd.__version__}": str(pd.to_datetime(pd.read_csv("dates.csv")["day"])[0].date()),
        f"pyarrow {pyarrow.__version__}": str(pyarrow.csv.read_csv("dates.csv")["day"][0]),
    }
    print(f"1/2/2020, {last}: the first is", first)
    assert list(first.values()) == days, "they read it otherwise now"
PYTHON
