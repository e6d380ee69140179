"""The record of a model's making, which its file keeps: versions, the data's fingerprint, parameters, rows, scores.

It has nothing of the machine alone, nor of the clock: the same training gives the same file, whatever the number of
threads. So a data file is known by its name, size and content, and not by when it was written.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.machine.plain_values import json_ready
from fullbatch.version import __version__

if TYPE_CHECKING:
    from fullbatch.tables.raw import RawTable

OF_THE_MACHINE = ("device", "device_memory", "n_jobs")  # where a model was trained is not where it is used


def versions() -> dict[str, str]:
    """Of what computed it."""
    return {"fullbatch": __version__, "numpy": np.__version__}


def fingerprint(table: RawTable, paths: Sequence[str | Path] = ()) -> dict[str, Any]:
    """What tells a table from another: its rows, columns, a checksum of all values, and the files it was read from."""
    checksum = 0
    for name, column in table.columns.items():
        head = f"{name!r} {column.values.dtype.str} {column.levels!r}"
        checksum = zlib.crc32(head.encode("utf-8", "surrogatepass"), checksum)
        checksum = zlib.crc32(np.ascontiguousarray(column.values).data, checksum)
    return {"rows": table.m, "columns": len(table.columns), "crc32": f"{checksum:08x}", "files": files(paths)}


def files(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Name and size of each file that these paths, patterns and folders stand for."""
    if not paths:
        return []
    from fullbatch.tables.inputs import files_of

    found = [path for path in files_of(paths) if path.is_file()]
    return [{"name": path.name, "bytes": path.stat().st_size} for path in found]


def said_of_files(paths: Sequence[str | Path]) -> str:
    """How the record calls held-out rows that are a table of their own, in files."""
    return f"those of {', '.join(file['name'] for file in files([str(path) for path in paths]))}"


def parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """An estimator's parameters as JSON has them, without those of the machine."""
    return {name: _shown(value) for name, value in values.items() if name not in OF_THE_MACHINE}


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):  # the weights of classes, which need not be texts
        return {str(key): _shown(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return [_shown(item) for item in value]
    # Of a generator its kind: its state is no parameter, and its repr is an address.
    return json_ready(value) if value is None or isinstance(value, (bool, int, float, str)) else type(value).__name__
