"""The log of L-BFGS's evaluations: a file beside the checkpoint that is only ever appended to.

SciPy keeps the memory of a search to itself, so what brings it back is to tell it once more all that it was told. An
entry is, in little-endian order:

    length     uint64, of what follows but for the last four bytes
    checksum   32 bytes, SHA-256 of the point
    J          float64
    gradient   float64, one for each parameter
    crc        uint32, CRC-32 of what follows the length

A process that dies leaves a last entry that is cut short; it is dropped, as is whatever follows a damaged one.
"""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from fullbatch.training.optimizers import Evaluation

LARGEST = 4 * 2**30  # bytes of a log
FIXED = 40  # bytes of an entry's checksum and J
LENGTH, CRC = struct.Struct("<Q"), struct.Struct("<I")


class EvaluationLog:
    """Such a file, open to be appended to after its first ``count`` entries; what follows them is dropped.

    size : of the vectors;  count : entries that are in it
    """

    def __init__(self, path: Path, size: int, count: int = 0) -> None:
        self.path, self.size = path, size
        self.entry = LENGTH.size + FIXED + 8 * size + CRC.size
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self.file: IO[bytes] = os.fdopen(os.open(path, flags, 0o666), "r+b")
        self.count = min(count, os.fstat(self.file.fileno()).st_size // self.entry)
        self.file.truncate(self.count * self.entry)
        self.file.seek(0, os.SEEK_END)

    def append(self, evaluation: Evaluation) -> None:
        """Write an entry. OSError where the disk is full."""
        gradient = np.ascontiguousarray(evaluation.gradient, "<f8")
        head = bytes.fromhex(evaluation.checksum) + struct.pack("<d", evaluation.J)
        crc = zlib.crc32(gradient.data, zlib.crc32(head))
        self.file.writelines((LENGTH.pack(FIXED + gradient.nbytes), head, gradient.data, CRC.pack(crc)))
        self.count += 1

    def has_room(self) -> bool:
        """Whether another entry keeps the log within its largest size, and within half of what the disk has left."""
        taken = self.count * self.entry
        return taken + self.entry <= min(LARGEST, (taken + shutil.disk_usage(self.path.parent).free) // 2)

    def sync(self) -> None:
        """See that all entries are on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()


def read(path: Path, size: int, count: int | None = None) -> Iterator[Evaluation]:
    """The whole entries of a log from its start on, so many at most, one after another; none where there is no file."""
    try:
        file = open(path, "rb")  # noqa: SIM115  # it is closed where the last entry is given
    except FileNotFoundError:
        return
    with file:
        told = 0
        while count is None or told < count:
            head = file.read(LENGTH.size)
            if head != LENGTH.pack(FIXED + 8 * size):
                return
            content = file.read(FIXED + 8 * size)
            if file.read(CRC.size) != CRC.pack(zlib.crc32(content)):
                return
            (J,) = struct.unpack_from("<d", content, 32)
            gradient = np.frombuffer(content, "<f8", offset=FIXED)
            yield Evaluation(content[:32].hex(), J, gradient.astype(np.float64))
            told += 1
