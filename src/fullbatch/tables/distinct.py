"""The different values of an array, by sorting.

NumPy's ``unique`` tells integers apart by a hash, which takes twenty times as long where most differ, and imports its
masked arrays when it is first called.
"""

from __future__ import annotations

import numpy as np


def distinct(values: np.ndarray) -> np.ndarray:
    """The different ones of values (m,), sorted, of which none is NaN."""
    ordered = np.sort(values)
    return ordered[_firsts(ordered)]


def tallied(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different ones of values (m,), sorted, of which none is NaN; and how often each occurs."""
    ordered = np.sort(values)
    at = np.flatnonzero(_firsts(ordered))
    return ordered[at], np.diff(at, append=len(ordered))


def _firsts(ordered: np.ndarray) -> np.ndarray:
    """Which of sorted values are not as the one before them."""
    found = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=found[1:])
    return found
