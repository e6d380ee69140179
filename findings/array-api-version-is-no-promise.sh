#!/usr/bin/env bash
# ragged 0.3.0, blosc2 4.14.1, sparse 0.19.3: each has __array_namespace__ and says which version of the array API standard
# it follows; array_api_compat's is_array_api_obj says yes to each. Yet the standard's own expressions fail:
#     ragged, which says 2022.12    has no float32, which the standard has had since 2021.12
#     blosc2, which says 2024.12    b + 1 is of another class than b, without .T and without @ on its left
#     sparse, which says 2025.12    (s + 1) @ s: "This operation requires zero fill values"
# So what a library says of itself does not tell whether it can do a computation; to try a small one does.
#
# Seen on 2026-11-27, Python 3.11. It exits with 1 where one of them no longer fails.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'ragged==0.3.0' 'blosc2==4.14.1' 'sparse==0.19.3' 'array-api-compat==1.16.0' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import array_api_compat
import blosc2
import numpy as np
import ragged
import sparse

b, s = blosc2.asarray(np.eye(2)), sparse.asarray(np.eye(2))
expressions = [
    (ragged, ragged.array([[1.0, 2.0]]), "ragged.float32", lambda: ragged.float32),
    (blosc2, b, "(b + 1).T", lambda: (b + 1).T),
    (blosc2, b, "(b + 1) @ b", lambda: (b + 1) @ b),
    (sparse, s, "(s + 1) @ s", lambda: (s + 1) @ s),
]
changed = False
for library, array, text, compute in expressions:
    assert array_api_compat.is_array_api_obj(array)
    says = f"{library.__name__} says {array.__array_namespace__().__array_api_version__}; {text}"
    try:
        compute()
    except (AttributeError, TypeError, ValueError) as error:
        print(f"{says}: {type(error).__name__}: {error}")
    else:
        print(f"{says}: no error, this has changed", file=sys.stderr)
        changed = True
sys.exit(changed)
PYTHON
