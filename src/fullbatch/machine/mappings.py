"""A file's bytes as they lie in the system's cache, mapped so that a file that is cut short ends no process.

The native library guards them (src/native/mappings.cpp): a page that is missing is read as zeros, and whoever asks
afterwards is told. FULLBATCH_MAP=off has all files read in its place; it is looked at when a mapping is made.
"""

from __future__ import annotations

import ctypes
import math
import os
import weakref
from typing import Any

import numpy as np

from fullbatch.errors import InputError
from fullbatch.machine import native_library

VARIABLE = "FULLBATCH_MAP"
REFUSED = {  # by C's enum fb_refusal
    1: "SIGBUS has a handler here that would come first, or the system is none that can be guarded",
    2: "the file is on a network, or on a file system of a kind that is not mapped",
    3: "there is no memory for a mapping, or too many are open",
}


class Mapping:
    """So many bytes of a file at a time. It keeps no descriptor: each call is given the file's.

    One that has the whole file is for any threads, any other for one.
    """

    def __init__(self, memory: Memory) -> None:
        self.library, self.handle = memory.library, memory.handle
        self.bytes = np.asarray(memory)

    def look(self, descriptor: int, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
        """An array as it lies in the file, read-only and good until the next call; None: it is to be read."""
        at = self.library.fb_mapping_look(self.handle, descriptor, offset, math.prod(shape) * dtype.itemsize)
        return None if at < 0 else np.ndarray(shape, dtype, self.bytes, at)

    def is_whole(self, descriptor: int) -> bool:
        """Whether all that was looked at so far was in the file to the end; if not, what was made of it is void."""
        return bool(self.library.fb_mapping_whole(self.handle, descriptor))


class Memory:
    """The addresses of a mapping as NumPy takes them: arrays hold it, and the last to go gives them back."""

    def __init__(self, library: ctypes.CDLL, handle: int, size: int) -> None:
        self.library, self.handle = library, handle
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "typestr": "|u1",
            "shape": (size,),
            "data": (library.fb_mapping_base(handle), True),
        }
        freed = weakref.finalize(self, library.fb_mapping_free, handle)
        freed.atexit = False  # a daemon thread may look at it then


def why_not() -> str:
    """Why no file is mapped; empty where one may be."""
    if _is_off(os.environ.get(VARIABLE, "")):
        return f"switched off by {VARIABLE}=off"
    why = native_library.why_not()
    return why and f"the native library, which guards mappings, is {why}"


def mapping(descriptor: int, size: int) -> tuple[Mapping | None, str]:
    """A mapping of so many bytes at a time of an open file, or None and why there is none."""
    library = native_library.load()
    if (why := why_not()) or library is None:
        return None, why
    refused = ctypes.c_int32()
    handle = library.fb_mapping_new(descriptor, size, refused)
    return (Mapping(Memory(library, handle, size)), "") if handle else (None, REFUSED[refused.value])


def _is_off(text: str) -> bool:
    value = text.strip().lower()
    if value not in ("", "off"):
        raise InputError(f"{VARIABLE}={text} is unknown; it can be off.")
    return value == "off"
