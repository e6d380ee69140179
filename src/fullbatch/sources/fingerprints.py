"""What tells two sets of examples apart: shape, dtype, and a checksum of every value.

It guards against a slip, not against a forger: CRC-32 of each piece, then SHA-256 over those, at about 1.2 GB/s a
core. The pieces follow from the shape and the dtype alone, and are taken row by row of the table, so that neither the
layout in memory nor the number of threads changes it. Of a file, which may be larger than anybody wants to read for it,
some pieces are looked at, the first and the last among them: enough to see that it was written anew.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from typing import Any

import numpy as np

from fullbatch.machine import arrays
from fullbatch.machine.threads import Helpers, thread_count
from fullbatch.sources.columns import Columns, Layout, in_memory

PIECE = 2**22  # bytes of a piece: it stays in a cache while its rows are brought together
PIECE_OF_A_FILE = 2**16


def fingerprint(X: Columns, threads: int | None = None) -> dict[str, Any]:
    """Of a source (n, m): ``shape`` [m, n], ``dtype`` and ``checksum``, as JSON has them."""
    layout, own = in_memory(X), getattr(X, "checksum", None)
    if own is not None:  # A store has the checksums of its leaves.
        checksum = own()
    elif layout is None or layout.through is not None:
        checksum = _of_blocks(X)
    else:
        checksum = _joined([_of_array(array, threads) for array in _parts(layout)])
    return {"shape": [X.m, X.n], "dtype": arrays.dtype_name(X.like), "checksum": checksum}


def fingerprint_of_array(array: Any, threads: int | None = None) -> dict[str, Any]:
    """Of an array whose first axis counts the examples."""
    return {
        "shape": [int(size) for size in array.shape],
        "dtype": arrays.dtype_name(array),
        "checksum": _of_array(array, threads),
    }


def fingerprint_of_file(path: str | os.PathLike[str], pieces: int = 64) -> str:
    """The checksum of so many pieces of a file, two at least: its first, its last, and drawn ones in equal distances.

    Which ones follows from the file's size. One that has no more bytes than they is read whole.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        starts = _starts_in_file(size, max(2, pieces))
        checksums = []
        for start in starts:
            file.seek(start)
            checksums.append(f"{zlib.crc32(file.read(PIECE_OF_A_FILE)):08x}")
    return _joined([str(size), *checksums])


def _starts_in_file(size: int, pieces: int) -> list[int]:
    if size <= pieces * PIECE_OF_A_FILE:
        return list(range(0, size, PIECE_OF_A_FILE))
    last, drawn = size - PIECE_OF_A_FILE, random.Random(size)
    between = [int(last * (i + drawn.random()) / (pieces - 2)) for i in range(pieces - 2)]
    return [0, *between, last]


def _parts(layout: Layout) -> list[Any]:
    if layout.rows is not None:
        return [layout.rows.indptr, layout.rows.indices, layout.rows.data]
    rows = layout.numbers.T
    return [rows] if layout.codes is None else [rows, layout.codes]


def _of_array(array: Any, threads: int | None) -> str:
    m = int(array.shape[0])
    width = int(array.shape[1]) if array.ndim == 2 else 1
    bytes_a_row = max(1, width * _itemsize(array))
    step = max(1, PIECE // bytes_a_row)

    def crc(start: int) -> int:
        rows = slice(start, min(start + step, m))
        return _crc(array[rows, :] if array.ndim == 2 else array[rows])

    starts = range(0, m, step)
    if len(starts) < 2 or not arrays.is_numpy(array):
        return _joined([f"{crc(start):08x}" for start in starts])
    with closing(Helpers(min(thread_count(threads), len(starts)), "fullbatch-checksum")) as helpers:
        checksums = [helpers.submit(crc, start) for start in starts]
        return _joined([f"{one.result():08x}" for one in checksums])


def _of_blocks(X: Columns) -> str:
    """Of a source that makes its blocks: as many examples at a time as make a piece."""
    read: Callable[[Any], Any] = X.reader()
    step = max(1, PIECE // max(1, X.n * _itemsize(X.like)))
    starts = range(0, X.m, step)
    return _joined([f"{_crc(read(slice(start, min(start + step, X.m))).T):08x}" for start in starts])


def _crc(rows: Any) -> int:
    host = np.ascontiguousarray(arrays.to_host(rows))
    return zlib.crc32(host.reshape(-1).view(np.uint8).data)


def _joined(checksums: list[str]) -> str:
    return sha256(" ".join(checksums).encode()).hexdigest()


def _itemsize(array: Any) -> int:
    return np.dtype(arrays.dtype_name(array)).itemsize
