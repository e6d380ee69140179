"""Arrays into an open file in safetensors' format: what its own ``save`` writes, without all of it in memory thrice.

The library has ``save``, which makes two copies of every array, and ``save_file``, which replaces the file by one that
has other permissions and no lock. Reading is the library's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO

import numpy as np

# The library's order: the largest numbers first, so that all are aligned; these are its names.
NAMES = {
    "uint64": "U64", "int64": "I64", "float64": "F64", "float32": "F32", "uint32": "U32", "int32": "I32",
    "float16": "F16", "uint16": "U16", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
RANK = {name: rank for rank, name in enumerate(NAMES)}


def write(file: IO[bytes], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays by name, and texts by name, to a file.

    arrays : of the dtypes in ``NAMES``, in C order
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    ordered = sorted(arrays, key=lambda name: (RANK[arrays[name].dtype.name], name))
    end = 0
    for name in ordered:
        array, start = arrays[name], end
        end += array.nbytes
        kind = NAMES[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in ordered:
        array = np.ascontiguousarray(arrays[name], arrays[name].dtype.newbyteorder("<"))
        file.write(array.reshape(-1).view(np.uint8).data)
