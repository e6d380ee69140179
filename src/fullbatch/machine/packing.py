"""Values as few pieces of bytes, for Dask, whose messages take longer the more objects they have.

They are pickled, as Dask does with whatever it sends: between processes of one cluster alone, and never into a file.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

APART = 2**16  # bytes of an array from which on it is a piece of its own, which nobody copies


def packed(value: Any) -> Any:
    """Bytes that ``unpacked`` takes; where there are large arrays, a list of these bytes and of the arrays' own.

    These first bytes are an array in that list too, so that Dask lets each array have a buffer of its own, aligned.
    """
    large: list[np.ndarray] = []

    def within(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < APART:
            return True
        large.append(np.frombuffer(raw, np.uint8))
        return False

    head = pickle.dumps(value, 5, buffer_callback=within)
    return [np.frombuffer(head, np.uint8), *large] if large else head


def unpacked(sent: Any) -> Any:
    """What ``packed`` was given. A large array is the very memory that came."""
    if not isinstance(sent, (list, tuple)):
        return pickle.loads(sent)
    head, *large = sent
    return pickle.loads(head, buffers=[one if one.ctypes.data % 16 == 0 else one.copy() for one in large])
