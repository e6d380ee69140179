"""Which library an array belongs to, its dtype and device, and copies to and from the host.

The only file, beside the steps, that names more than one array library. CuPy is never imported here: an array of it is
recognised where somebody else has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import array_api_compat
import numpy as np

from fullbatch.errors import ArrayTypeError, InputError

FLOATS = ("float32", "float64")


def namespace(*arrays: Any) -> Any:
    """The array API namespace of the arrays, or an ArrayTypeError that says what else came."""
    if all(isinstance(array, np.ndarray) for array in arrays):
        return np  # since 2.1 NumPy is itself a library of the standard; array_api_compat.numpy takes as long to import
    try:
        return array_api_compat.array_namespace(*arrays)
    except TypeError as error:
        kinds = ", ".join(sorted({f"{type(array).__module__}.{type(array).__qualname__}" for array in arrays}))
        raise ArrayTypeError(
            f"expected arrays of one array API library (NumPy, CuPy, ...), got {kinds}; "
            "convert them first, for example with numpy.asarray(x, dtype='float32')."
        ) from error


def check_array(name: str, array: Any) -> None:
    """An ArrayTypeError if it is no array. Masked arrays and matrices count as none: their operators differ."""
    if type(array) is np.ndarray:
        return
    if isinstance(array, (np.ma.MaskedArray, np.matrix)) or not is_array(array):
        raise ArrayTypeError(
            f"{name} is a {type(array).__qualname__}; it must be an array of an array API library (NumPy, CuPy, ...): "
            "convert it, for example with numpy.asarray(x, dtype='float32')."
        )


def is_array(array: Any) -> bool:
    """Whether it is an array of NumPy or of another array API library."""
    return bool(array_api_compat.is_array_api_obj(array))


def is_numpy(array: Any) -> bool:
    return isinstance(array, np.ndarray)


def is_cupy(array: Any) -> bool:
    return cupy_if_loaded() is not None and array_api_compat.is_cupy_array(array)


def device_of(array: Any) -> Any:
    return array_api_compat.device(array)


def dtype_name(array: Any) -> str:
    """ "float32", "int64", ...: the dtype's name, the same for all libraries; ">f8" for another byte order."""
    dtype = array.dtype
    if not getattr(dtype, "isnative", True):
        return str(dtype.str)
    return str(getattr(dtype, "name", dtype)).rsplit(".", 1)[-1]


def widest_float(array: Any) -> Any:
    """The widest real dtype of the array's library and device: float64, but for JAX without x64 and some devices."""
    if is_numpy(array):
        return np.float64
    xp = namespace(array)
    floats = xp.__array_namespace_info__().dtypes(device=device_of(array), kind="real floating")
    return floats.get("float64", floats["float32"])


def check_alike(X: Any, others: Mapping[str, Any]) -> None:
    """X is of float32 or float64, and every other array is of its library, device and dtype."""
    if dtype_name(X) not in FLOATS:
        raise ArrayTypeError(
            f"X has dtype {dtype_name(X)}; it must be float32 or float64. Convert it: X.astype('float32')."
        )
    xp, device = namespace(X), device_of(X)
    for name, array in others.items():
        if array is None:
            continue
        if namespace(array) is not xp:
            raise ArrayTypeError(
                f"X is an array of {library_name(X)} and {name} of {library_name(array)}; put both into one library."
            )
        if device_of(array) != device:
            raise ArrayTypeError(f"X is on device {device} and {name} on {device_of(array)}; put both on one device.")
        if array.dtype != X.dtype:
            raise ArrayTypeError(
                f"X is {dtype_name(X)} and {name} is {dtype_name(array)}; nothing is cast in silence: "
                f"convert one of them, for example {name.split('[')[0]} with .astype('{dtype_name(X)}')."
            )


def library_name(array: Any) -> str:
    """ "numpy", "cupy", "torch", ...: the top package of the array's type."""
    name = type(array).__module__.split(".", 1)[0]
    return "jax" if name == "jaxlib" else name


def random_generator(seed: Any) -> np.random.Generator:
    known = seed is None or isinstance(seed, (int, np.integer, np.random.Generator))
    if not known or isinstance(seed, bool):
        raise InputError(f"seed must be an integer, a numpy.random.Generator or None; got {seed!r}.")
    if isinstance(seed, (int, np.integer)) and seed < 0:
        raise InputError(f"seed must not be negative; got {seed}.")
    return np.random.default_rng(seed)


def from_host(array: np.ndarray, *, xp: Any = None, dtype: Any = None, device: Any = None) -> Any:
    """A host array as an array of ``xp`` (NumPy if None) on ``device``, in the dtype: a name, or a library's own."""
    name = str(getattr(dtype, "__name__", dtype) if dtype is not None else array.dtype).rsplit(".", 1)[-1]
    if name not in FLOATS:
        raise ArrayTypeError(f"dtype {name!r} cannot be used; choose float32 or float64.")
    array = np.asarray(array, dtype=name)
    if xp is None or xp is np or getattr(xp, "__name__", "") == "array_api_compat.numpy":
        if device not in (None, "cpu"):
            raise InputError(f"device {device!r} is none of NumPy's; give its library too, for example xp=cupy.")
        return array
    if not hasattr(xp, "asarray"):
        raise InputError(f"xp must be an array library, such as the module numpy or cupy; got {xp!r}.")
    xp = namespace(xp.asarray(array[:0]))  # a library's own asarray may not know of devices
    return xp.asarray(array, device=device) if device is not None else xp.asarray(array)


def to_host(array: Any) -> np.ndarray:
    """Any library's array as a NumPy array; a view where that costs nothing."""
    if is_numpy(array):
        return array
    if is_cupy(array):
        return array.get()
    if array_api_compat.is_torch_array(array):
        return array.detach().cpu().numpy()
    try:
        return np.from_dlpack(array, device="cpu")
    except (TypeError, ValueError, RuntimeError, BufferError, AttributeError):
        return np.asarray(getattr(array, "_array", array))  # array_api_strict keeps its NumPy array there


def detached(array: Any) -> Any:
    """A torch tensor without its record for autograd, which would grow with every step; other arrays as they are."""
    return array.detach() if hasattr(array, "requires_grad") else array


def host_columns(block: np.ndarray, m: int) -> np.ndarray:
    """Room on the host for ``m`` columns such as those of ``block``: (..., k) gives (..., m), example by example."""
    return np.moveaxis(np.empty((m, *block.shape[:-1]), dtype=block.dtype), 0, -1)


def floats(*values: Any) -> list[float]:
    """Numbers and arrays of shape () as Python floats; of CuPy they are read back together, in one wait for the GPU."""
    there = [i for i, value in enumerate(values) if is_cupy(value)]
    if len(there) < 2:
        return [float(value) for value in values]
    cupy = cupy_if_loaded()
    read = dict(zip(there, cupy.stack([values[i].astype("float64") for i in there]).get().tolist(), strict=True))
    return [read[i] if i in read else float(value) for i, value in enumerate(values)]


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Index arrays on the host, one after another."""
    return np.concatenate(parts)


def quiet() -> Any:
    """No NumPy warnings about overflow inside: whoever sums a cost looks at the result and says what is wrong."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def cupy_if_loaded() -> Any:
    """The CuPy module where something has imported it already, else None."""
    return sys.modules.get("cupy")


def settled(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arrays of a lazy library, computed: of the same library still, but no longer the tasks that they were made by.

    Where each update is made of the one before, what is not settled in between is computed again from the start each
    time it is asked for: time grows with the square of the updates. All of ``values`` are computed in one go, since
    they share work. Arrays of other libraries come back as they are; of NumPy that costs one look.

    values : an array, and more arrays or nests of lists and tuples with arrays, as an optimiser's state
    """
    if isinstance(values[0], np.ndarray):
        return values
    settle = LAZY.get(library_name(values[0]), _persist if hasattr(values[0], "persist") else None)
    if settle is None:
        return values
    found: list[Any] = []
    moved(values, found.append)
    done = iter(settle(found))
    return tuple(moved(values, lambda array: next(done)))


def _persist(found: list[Any]) -> Any:
    return [array.persist() for array in found]


def _settle_dask(found: list[Any]) -> Any:
    return sys.modules["dask"].persist(*found)


def _settle_cubed(found: list[Any]) -> Any:
    """cubed has no ``persist``: what was computed is put where its plan begins anew."""
    cubed = sys.modules["cubed"]
    computed = cubed.compute(*found)
    return [cubed.from_array(np.asarray(a), chunks=b.chunks, spec=b.spec) for a, b in zip(computed, found, strict=True)]


LAZY: dict[str, Callable[[list[Any]], Any]] = {"dask": _settle_dask, "cubed": _settle_cubed}


def moved(state: Any, move: Callable[[Any], Any]) -> Any:
    """An optimiser's state, or any nest of lists and tuples, with ``move`` applied to its arrays."""
    if isinstance(state, (list, tuple)):
        items = [moved(item, move) for item in state]
        return type(state)(*items) if hasattr(state, "_fields") else type(state)(items)
    return move(state) if hasattr(state, "dtype") and hasattr(state, "shape") else state
