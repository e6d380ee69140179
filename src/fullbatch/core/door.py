"""The door: what a caller hands over is checked here, for functions and estimators alike, before anything uses it.

An array is taken if it is dense, carries nothing beside its numbers that would be dropped in silence (a unit, a mask,
names), is of a library that can do the pass (``probe.py``) and, in the core, alike the others: of one library, device
and dtype. A size may be unknown (dask says NaN, ndonnx None) where nobody needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from fullbatch.errors import ArrayTypeError, InputError
from fullbatch.machine import arrays
from fullbatch.machine.given import carried, conversion, is_plain, plain, storage, to_be_computed

CURES = {
    "has a mask": "which would be dropped. Fill in or leave out what is masked first, and give the plain array",
    "has a unit": "which would be dropped. Give its numbers in the unit that is meant, as numpy.asarray({name}) does",
    "has names": "which would be dropped. Give {name}.values, or to an estimator {name}.to_pandas(), with its names",
    "may have operators of its own": "whatever they mean. Give the plain array, numpy.asarray({name})",
}


def check_array(name: str, array: Any) -> None:
    """An ArrayTypeError, with the cure, for what is no array, is not dense, or carries more than numbers."""
    if is_plain(array):
        return
    check_bare(name, array)
    if not arrays.is_array(array):
        raise ArrayTypeError(
            f"{name} is a {type(array).__name__}; it must be an array of an array API library (NumPy, CuPy, ...): "
            "convert it, for example with numpy.asarray(x, dtype='float32')."
        )
    stored = storage(array)
    if stored:
        raise ArrayTypeError(
            f"{name} is an array of {arrays.library_name(array)}, stored as {stored}; it must be dense. Convert it: "
            + (f"{name}.to_dense()." if hasattr(array, "to_dense") else "each block, by its own library's means.")
        )


def check_bare(name: str, given: Any) -> None:
    """An ArrayTypeError for what has a mask, a unit or names beside its numbers, an array or what is read as one."""
    beside = carried(given)
    if beside:
        raise ArrayTypeError(
            f"{name} is of type {arrays.library_name(given)}.{type(given).__name__}: it {beside}, "
            f"{CURES[beside].format(name=name)}."
        )


def admitted(name: str, given: Any) -> Any:
    """What a caller handed over, as it is used: an array is checked, plain, and without its record for autograd.

    Lists, frames, sparse matrices and whatever else is no array come back as they are, for whoever takes such; but not
    what carries a mask, a unit or names of its own, nor a table that is yet to be computed.
    """
    if arrays.is_array(given):
        check_array(name, given)
        return plain(given)
    check_bare(name, given)
    method = to_be_computed(given)
    if method:
        raise ArrayTypeError(
            f"{name} is of type {arrays.library_name(given)}.{type(given).__name__}, which is yet to be computed: that "
            f"is not done in silence. {name}.{method}() brings it into memory"
            + (
                f"; {name}.to_dask_array(lengths=True) is read block by block, and the estimators of fullbatch.dask "
                "learn from its partitions where they are."
                if method == "compute"
                else "."
            )
        )
    return given


def check_alike(X: Any, others: Mapping[str, Any]) -> None:
    """X is of float32 or float64, and every other array is of its library, device and dtype."""
    found = arrays.dtype_name(X)
    if found not in arrays.FLOATS:
        raise ArrayTypeError(
            f"X has dtype {found}; it must be float32 or float64. Convert it: {conversion('X', X, 'float32')}."
        )
    xp, on_host = arrays.namespace(X), arrays.is_numpy(X)
    for name, array in others.items():
        if array is None:
            continue
        if type(array) is not type(X) and arrays.namespace(array) is not xp:
            raise ArrayTypeError(
                f"X is an array of {arrays.library_name(X)} and {name} of {arrays.library_name(array)}; "
                "put both into one library."
            )
        if not on_host and arrays.apart(X, array):
            raise ArrayTypeError(
                f"X is on device {arrays.device_name(X)} and {name} on {arrays.device_name(array)}; "
                "put both on one device."
            )
        if array.dtype != X.dtype:
            variable = name.split("[")[0]
            raise ArrayTypeError(
                f"X is {found} and {name} is {arrays.dtype_name(array)}; nothing is cast in silence: convert one of "
                f"them, for example {conversion(variable, array, found)}."
            )


def known(size: Any) -> bool:
    """Whether an axis's size is a number. It is not where a library has yet to compute it, or traces for any size."""
    return type(size) is int or isinstance(size, Integral)


def check_known(name: str, array: Any) -> None:
    """An InputError, with the cure, for an array whose shape is not known, where it is cut into blocks."""
    shape = tuple(array.shape)
    if all(map(known, shape)):
        return
    cure = f"{name}.compute_chunk_sizes() finds it out" if hasattr(array, "compute_chunk_sizes") else "give its numbers"
    raise InputError(
        f"{name} has shape {shape}: its size is not known yet, and here it must be, since the examples are taken in "
        f"blocks: {cure}. Network.forward and Network.backward do without."
    )
