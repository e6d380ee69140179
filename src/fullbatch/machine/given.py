"""What a caller's object is: plain or of a class of its own, dense or not, lazy or not; what it has beside numbers."""

from __future__ import annotations

import sys
from typing import Any

import array_api_compat
import numpy as np

from fullbatch.machine import arrays

TABLES = ("builtins", "pandas", "polars", "pyarrow", "scipy")  # whose names an estimator keeps, or that have none


def is_plain(array: Any) -> bool:
    """Whether it is one of NumPy's own arrays, in memory or mapped. A subclass may have other operators."""
    return type(array) is np.ndarray or type(array) is np.memmap


def plain(array: Any) -> Any:
    """The array as the passes have it: NumPy's own type, or torch's without its record for autograd."""
    if type(array) is np.ndarray:
        return array
    return array.view(np.ndarray) if type(array) is np.memmap else arrays.detached(array)


def carried(given: Any) -> str:
    """What an array, or what is read as one, has beside its numbers: "has a mask", ...; "" for nothing.

    Where it is no array its class is asked alone, so that no column's name is taken for an answer.
    """
    kind = type(given)
    if is_plain(given) or kind.__module__.split(".", 1)[0] in TABLES:
        return ""
    meta = getattr(given, "_meta", None)  # an empty array as dask's blocks are
    if isinstance(meta, np.ndarray):
        return carried(meta)
    looked_at = given if isinstance(given, np.ndarray) else kind
    # A frame's ``mask`` is a function.
    if hasattr(looked_at, "get_mask") or not callable(getattr(looked_at, "mask", len)):
        return "has a mask"
    if hasattr(looked_at, "unit") or hasattr(looked_at, "units"):
        return "has a unit"
    if hasattr(looked_at, "dims") and hasattr(looked_at, "coords"):
        return "has names"
    return "may have operators of its own" if isinstance(given, np.ndarray) else ""


def storage(array: Any) -> str:
    """How an array's numbers are stored if it is not dense: "torch.sparse_coo", "blocks of scipy.sparse", ..."""
    if array_api_compat.is_torch_array(array):
        return "" if array.layout is sys.modules["torch"].strided else str(array.layout)
    meta = getattr(array, "_meta", None)
    dense = meta is None or isinstance(meta, np.ndarray) or arrays.is_cupy(meta)
    return "" if dense else f"blocks of {arrays.library_name(meta)}"


def to_be_computed(table: Any) -> str:
    """The method that brings a lazy table into memory, ``compute`` or ``collect``; "" for what is there already."""
    return next((name for name in ("compute", "collect") if callable(getattr(type(table), name, None))), "")


def conversion(name: str, array: Any, dtype: str) -> str:
    """How the array called ``name`` is converted to ``dtype``, in its library's own words."""
    if arrays.is_numpy(array) or arrays.is_cupy(array):
        return f"{name}.astype('{dtype}')"
    if array_api_compat.is_torch_array(array):
        return f"{name}.to(torch.{dtype})"
    xp = arrays.namespace(array).__name__.removeprefix("array_api_compat.")
    return f"{xp}.astype({name}, {xp}.{dtype})"
