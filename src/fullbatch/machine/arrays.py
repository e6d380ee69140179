"""Which library an array belongs to, its dtype and device, and copies to and from the host.

The only file, beside the steps, that names more than one array library. CuPy is never imported here: an array of it is
recognised where somebody else has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from numbers import Integral
from typing import Any

import array_api_compat
import numpy as np

from fullbatch.errors import ArrayTypeError, InputError

FLOATS = ("float32", "float64")
NUMPY_FLOATS = {np.dtype(name): name for name in FLOATS}  # NumPy takes its time to find a dtype's name


def namespace(*arrays: Any) -> Any:
    """The array API namespace of the arrays, or an ArrayTypeError that says what else came."""
    for array in arrays:  # a loop, and not all(...): a short call asks this often
        if not isinstance(array, np.ndarray):
            break
    else:
        return np  # since 2.1 NumPy is itself a library of the standard; array_api_compat.numpy takes as long to import
    try:
        return array_api_compat.array_namespace(*arrays)
    except TypeError as error:
        kinds = ", ".join(sorted({f"{type(array).__module__}.{type(array).__qualname__}" for array in arrays}))
        raise ArrayTypeError(
            f"expected arrays of one array API library (NumPy, CuPy, ...), got {kinds}; "
            "convert them first, for example with numpy.asarray(x, dtype='float32')."
        ) from error


def is_array(array: Any) -> bool:
    """Whether it is an array of NumPy or of another array API library."""
    return bool(array_api_compat.is_array_api_obj(array))


def is_numpy(array: Any) -> bool:
    return isinstance(array, np.ndarray)


def is_cupy(array: Any) -> bool:
    return cupy_if_loaded() is not None and array_api_compat.is_cupy_array(array)


def device_of(array: Any) -> Any:
    """Its device; None where there is no single one: in a trace of JAX, or where its parts lie on several."""
    device = array_api_compat.device(array)
    return None if hasattr(device, "device_set") else device


def device_name(array: Any) -> str:
    """The same text in each process: "cpu", "cuda:0", "cpu:0, cpu:1"; "" where the library says nothing of use."""
    device = array_api_compat.device(array)
    several = getattr(device, "device_set", None)
    text = "" if device is None else ", ".join(sorted(map(str, several))) if several else str(device)
    return "" if " at 0x" in text else text  # an object's address, which says nothing


def apart(X: Any, Y: Any) -> bool:
    """Whether two arrays of one library lie on different devices. One that is on no device yet can go anywhere.

    So can one beside an array that is spread over several devices, if JAX was never told where it is to be.
    """
    if is_numpy(X):
        return False
    here, there = array_api_compat.device(X), array_api_compat.device(Y)
    if here is None or there is None:
        return False
    some, others = (getattr(device, "device_set", None) for device in (here, there))
    if some is None and others is None:
        return bool(here != there)
    told = all(getattr(array, "committed", True) for array in (X, Y))
    return told and set(some or {here}) != set(others or {there})


def dtype_name(array: Any) -> str:
    """ "float32", "int64", ...: the dtype's name, the same for all libraries; ">f8" for another byte order."""
    dtype = array.dtype
    if isinstance(array, np.ndarray) and dtype in NUMPY_FLOATS:
        return NUMPY_FLOATS[dtype]
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
        return _read(array)


def _read(array: Any) -> np.ndarray:
    """An array without DLPack, by its own method or by NumPy, which makes an object of what it does not know."""
    own = getattr(array, "unwrap_numpy", None)  # of ndonnx
    try:
        host = own() if own else np.asarray(getattr(array, "_array", array))  # array_api_strict keeps NumPy's there
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
    else:
        same = all(a == b or not isinstance(b, Integral) for a, b in zip(host.shape, array.shape, strict=False))
        if host.ndim == len(array.shape) and same and host.dtype.kind != "O":
            return host
        reason = f"NumPy reads it as an array of {host.dtype} of shape {host.shape}"
    raise ArrayTypeError(
        f"an array of {library_name(array)}, of shape {tuple(array.shape)}, cannot be brought to the host: {reason}. "
        "Convert it to NumPy first, by its library's own means."
    )


def default_integer(array: Any) -> Any:
    """The integer dtype that the array's library and device take by themselves: int32 for JAX without x64."""
    if is_numpy(array):
        return np.int64
    return namespace(array).__array_namespace_info__().default_dtypes(device=device_of(array))["integral"]


def detached(array: Any) -> Any:
    """A torch tensor without its record for autograd, which would grow with every step; other arrays as they are."""
    return array.detach() if hasattr(array, "requires_grad") else array


def host_columns(block: np.ndarray, m: int) -> np.ndarray:
    """Room on the host for ``m`` columns such as those of ``block``: (..., k) gives (..., m), example by example."""
    return np.moveaxis(np.empty((m, *block.shape[:-1]), dtype=block.dtype), 0, -1)


def put_columns(out: np.ndarray, where: Any, made: np.ndarray) -> None:
    """out[..., where] = made. Few rows go one by one: NumPy would go example by example, in four times the time."""
    if made.ndim == 2 and 1 < len(made) <= 4 and made.flags.c_contiguous:
        for row, values in zip(out, made, strict=True):
            row[where] = values
        return
    out[..., where] = made


def floats(*values: Any) -> list[float]:
    """Numbers and arrays of shape () as Python floats; of CuPy they are read back together, in one wait for the GPU."""
    cupy = cupy_if_loaded()
    there = [] if cupy is None else [i for i, value in enumerate(values) if is_cupy(value)]
    if cupy is None or len(there) < 2:
        return [float(value) for value in values]
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


def reshaped(array: Any, shape: tuple[int, ...]) -> Any:
    """The same numbers in another shape; NumPy's method takes a fourth of the time of its function."""
    return array.reshape(shape) if is_numpy(array) else namespace(array).reshape(array, shape)


def zeros_like(array: Any) -> Any:
    """Zeros; NumPy's take no memory before they are written."""
    if is_numpy(array):
        return np.zeros(array.shape, array.dtype)
    return namespace(array).zeros_like(array)


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
