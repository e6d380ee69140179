#!/usr/bin/env bash
# A polars column of 128-bit integers is handed over by the Arrow C stream in a format of polars' own, "_pli128", which is
# none of Arrow's: pyarrow refuses the whole frame, its other columns too, with "Invalid or unsupported format string", and
# so does everything that takes frames through `__arrow_c_stream__`. A Python integer that is too large for 64 bits is
# enough for polars to make such a column by itself, so that one id does it. A cast to Decimal, Int64 or String helps; the
# frame's other types are handed over as Arrow has them.
#
# Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q polars==2.1.0 pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import polars as pl
import pyarrow as pa

frame = pl.DataFrame({"id": [2**70, 1], "x": [0.5, 1.5]})
print(f"polars {pl.__version__} with pyarrow {pa.__version__}: {frame.schema}")
assert frame.schema["id"] == pl.Int128, "polars makes another type of large integers"
try:
    pa.table(frame)
except pa.ArrowInvalid as error:
    print("pyarrow:", error)
    assert "_pli128" in str(error)
else:
    raise SystemExit("pyarrow reads it now")
cast = pa.table(frame.with_columns(pl.col("id").cast(pl.Decimal(38, 0))))
print("cast to Decimal:", cast.schema.types)
assert cast["id"].to_pylist()[0] == 2**70
PYTHON
