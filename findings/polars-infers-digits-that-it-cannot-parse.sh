#!/usr/bin/env bash
# polars takes a CSV column of digits of another script (full-width, Arabic-Indic, Devanagari) for integers, since its
# inference knows every script's digits, and then cannot parse what it has inferred, since its parser knows ASCII's alone:
# read_csv raises for the whole file, and advises a longer inference, which changes nothing. pyarrow, pandas and duckdb
# read texts. A schema of its own, or infer_schema=False, is the cure.
#
# fullbatch reads such numbers as texts and says that --numeric makes numbers of them.
# Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
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

for digits in ("\uff11\uff12", "\u0661\u0662", "\u0967\u0968"):  # 12
    Path("digits.csv").write_text(f"price,y\n{digits},1\n{digits},2\n", encoding="utf-8")
    for more in ({}, {"infer_schema_length": None}):
        try:
            pl.read_csv("digits.csv", **more)
        except pl.exceptions.ComputeError as error:
            print(f"polars {pl.__version__} {more or ''}:", str(error).splitlines()[0])
        else:
            raise SystemExit("polars reads it now")
    others = [
        pl.read_csv("digits.csv", infer_schema=False)["price"][0],
        pyarrow.csv.read_csv("digits.csv")["price"][0].as_py(),
        pd.read_csv("digits.csv")["price"][0],
        duckdb.sql("select price from 'digits.csv'").fetchall()[0][0],
    ]
    assert others == [digits] * 4, others
PYTHON
