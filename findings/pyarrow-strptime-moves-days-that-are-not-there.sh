#!/usr/bin/env bash
# pyarrow 26.0.0: pyarrow.compute.strptime takes a day that its month has not, and hands back one of the next month: with
# "%d/%m/%Y", 31/02/2024 is 2 March 2024 and 31/04/2023 is 1 May 2023, with error_is_null=True too. Python's own strptime,
# with the same format, refuses both. On Linux it is the C library's strptime, which checks each field by itself.
# So a column of dates, of which one was mistyped, is read without a word.
#
# Seen on 2026-11-27, Linux, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'pyarrow==26.0.0'
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

form = "%d/%m/%Y"
expected = {"31/02/2024": "2024-03-02", "31/04/2023": "2023-05-01"}
changed = False
for text, wrong in expected.items():
    try:
        datetime.strptime(text, form)
        sys.exit(f"Python takes {text}")
    except ValueError as error:
        print(f"Python: {error}")
    found = pc.strptime(pa.array([text]), form, "s", error_is_null=True)[0].as_py()
    print(f"pyarrow {pa.__version__}: {text} is {found}")
    changed |= found is None or f"{found:%Y-%m-%d}" != wrong
sys.exit(changed)
PYTHON
