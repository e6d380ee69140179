"""Orders of examples, shuffled as NumPy's RandomState does it, to the bit: natively where that is to be had.

NumPy takes 17 to 54 ns an entry, much of what a native step takes for an example of a small network; the native
twin 5 to 9. RandomState's numbers are frozen for ever (NEP 19), so that a second way to the same ones can be kept.
"""

from __future__ import annotations

from ctypes import c_int32

import numpy as np

from fullbatch.machine import native_library

WORTH_A_CALL = 2**13  # entries: to take the generator's state and to give it back takes as long as NumPy does for 4,000
MOST = 2**32  # entries that one of the generator's numbers tells apart, as NumPy draws one where it can


def shuffle(order: np.ndarray, rng: np.random.RandomState) -> None:
    """``rng.shuffle(order)``, after which both are the same to the bit whichever way was taken.

    order : (m,), changed in place
    """
    if not (WORTH_A_CALL <= len(order) <= MOST and _shuffled_natively(order, rng)):
        rng.shuffle(order)


def permutation(count: int, rng: np.random.RandomState) -> np.ndarray:
    """``rng.permutation(count)``: (count,), what it shuffles being 0, 1, ..."""
    order = np.arange(count)
    shuffle(order, rng)
    return order


def _shuffled_natively(order: np.ndarray, rng: np.random.RandomState) -> bool:
    """Whether that was done: for a plain RandomState with the generator that it is made with, and nothing else."""
    bits = getattr(rng, "_bit_generator", None) if type(rng) is np.random.RandomState else None
    plain = type(order) is np.ndarray and order.dtype in (np.int32, np.int64) and order.flags.carray
    library = native_library.load() if plain and type(bits) is np.random.MT19937 else None
    if library is None or bits is None:
        return False
    with bits.lock:  # as NumPy holds it, so that nobody else draws the same numbers
        state = rng.get_state(legacy=False)
        key, position = np.ascontiguousarray(state["state"]["key"], np.uint32), c_int32(state["state"]["pos"])
        if library.fb_shuffle(key.ctypes.data, position, order.ctypes.data, order.itemsize, len(order)):
            return False  # a state that NumPy took and that is none; nothing was drawn
        state["state"] = {"key": key, "pos": position.value}
        rng.set_state(state)
    return True
