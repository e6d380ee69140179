#!/usr/bin/env bash
# pyarrow 23.0.0 (21.0.0 and 22.0.0 too, 24.0.0 no longer): pyarrow.compute.if_else(condition, null, texts) returns a broken
# array where `texts` is a slice that does not begin at the first element. Nothing is raised: validate(full=True) says that
# offsets are out of bounds, and what works on the result afterwards fails, or reads other bytes. Without a slice it is right.
#
# Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'pyarrow==23.0.0'
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import pyarrow as pa
import pyarrow.compute as pc

texts = pa.array([f"v{i}" for i in range(400)])
found = {}
for name, column in (("whole", texts), ("slice", texts.slice(150, 150))):
    made = pc.if_else(pc.equal(column, "v160"), pa.scalar(None, pa.string()), column)
    try:
        made.validate(full=True)
        found[name] = "valid"
    except pa.ArrowInvalid as error:
        found[name] = str(error)
    print(f"pyarrow {pa.__version__}: if_else of the {name}: {found[name]}")
sys.exit(found["whole"] != "valid" or found["slice"] == "valid")
PYTHON
