"""Which library and device an array belongs to, which devices can be used here, and copies between them.

The only file of the core that asks. CuPy is imported here alone, and only when a GPU is asked for or a CuPy array came.
"""

from __future__ import annotations

import importlib.util
import math
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from numbers import Real
from typing import Any

import array_api_compat
import numpy as np

from fullbatch.errors import ArrayTypeError, DeviceError, FullbatchError, InputError

FLOATS = ("float32", "float64")


# --- Arrays ---------------------------------------------------------------------------------------------------------


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


# --- Devices --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where arrays are put: the library, its device, and how to get a host array there.

    name : "cpu", "cuda:0", ...;  note : why "auto" did not take the GPU, or ""
    """

    name: str
    xp: Any
    device: Any = None
    note: str = ""

    def put(self, array: np.ndarray) -> Any:
        """A host array, copied to this place; on the CPU it is the array itself."""
        return array if self.name == "cpu" else self.xp.asarray(array, device=self.device)

    @property
    def is_cuda(self) -> bool:
        """Whether it is a GPU's memory, and CuPy's arrays lie there."""
        return "cupy" in getattr(self.xp, "__name__", "")

    def current(self) -> AbstractContextManager[Any]:
        """Makes it CUDA's current device, where CuPy computes; elsewhere nothing need be done."""
        return self.device if self.is_cuda else nullcontext()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """``current``, around a whole call of a user's: memory that runs out there is a DeviceError.

        In a pass the fold goes on with smaller blocks instead. What comes here has no block: weights, targets, an
        optimiser's state, results.
        """
        try:
            with self.current():
                yield
        except Exception as error:
            if not self.is_cuda or isinstance(error, FullbatchError) or not is_out_of_memory(error):
                raise
            text, free = _one_line(error).rstrip("."), self.memory()[0]
            raise DeviceError(
                f"{self.name} is out of memory: {text}; {free:,.0f} bytes are free. Free memory there, give a "
                "smaller device_memory, so that less of X lies there, or choose device='cpu'."
            ) from error

    def memory(self) -> tuple[float, float]:
        """Bytes that arrays can still take there, and all that there are; infinite where there is no telling.

        A limit that the user set for CuPy's memory pool is respected.
        """
        if not self.is_cuda:
            return math.inf, math.inf
        cupy = cupy_if_loaded()
        with self.current():
            free, total = cupy.cuda.runtime.memGetInfo()
            pool = cupy.get_default_memory_pool()
            free += pool.free_bytes()
            if pool.get_limit():
                free = min(free, pool.get_limit() - pool.used_bytes())
        return float(max(free, 0)), float(total)

    def room(self, device_memory: float | None) -> float:
        """Bytes that we may take there: what is free, and no more than ``device_memory`` (see ``check_memory``)."""
        check_memory(device_memory)
        free, total = self.memory()
        if device_memory is None or not self.is_cuda:
            return free
        limit = device_memory * total if device_memory <= 1 else float(device_memory)
        if limit > total:
            raise InputError(
                f"device_memory is {limit:,.0f} bytes and {self.name} has {total:,.0f}; give at most that, or a share "
                "of it, such as 0.8."
            )
        return min(free, limit)

    def empty(self, dtype: Any) -> Any:
        """An array of no elements that stands for this place and dtype."""
        return self.put(np.empty((0, 0), dtype=dtype))


@dataclass(frozen=True)
class DeviceInfo:
    """One device: its name for ``device=``, whether it can be used, and what it is or why it cannot be used."""

    name: str
    usable: bool
    detail: str


def devices() -> list[DeviceInfo]:
    """What can be used here, and why not the rest. The CPU comes first and is always usable."""
    import platform

    cpu = DeviceInfo("cpu", True, f"NumPy {np.__version__} on {platform.processor() or platform.machine()}")
    try:
        count = _cuda_count()
    except DeviceError as error:
        return [cpu, DeviceInfo("cuda", False, str(error))]
    found = [cpu]
    for index in range(count):
        reason = _cuda_fault(index)
        found.append(DeviceInfo(f"cuda:{index}", reason is None, reason or _cuda_description(index)))
    return found


def place(device: str) -> Place:
    """The place that ``device`` names: "cpu", "cuda", "cuda:N", or "auto" (CUDA where it works, else the CPU).

    Raises InputError for another name, and DeviceError, with the reason and the cure, for a GPU that cannot be used.
    """
    check_device(device)
    if device == "cpu":
        return Place("cpu", np)
    if device == "auto":
        try:
            return _cuda_place(None)
        except DeviceError as error:
            return Place("cpu", np, note=str(error))
    index = device.partition(":")[2]
    return _cuda_place(int(index) if index else None)


def check_device(device: Any) -> None:
    """An InputError for what is not the name of a device; whether it can be used is ``place``'s to say."""
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
        raise InputError(f"unknown device {device!r}; the known ones are auto, cpu, cuda and cuda:N (N = 0, 1, ...).")


def check_memory(device_memory: Any) -> None:
    """An InputError for what is no limit: None, a share of a device's memory up to 1, or a number of bytes above 1."""
    if device_memory is None:
        return
    number = isinstance(device_memory, Real) and not isinstance(device_memory, bool)
    if not number or not 0 < device_memory < math.inf:
        raise InputError(
            "device_memory must be a number of bytes, such as 8e9, or a share of the device's memory above 0 and up "
            f"to 1, such as 0.5; got {device_memory!r}."
        )


def place_of(array: Any) -> Place:
    """The place where an array lies already."""
    if is_numpy(array):
        return Place("cpu", np)
    device = device_of(array)
    name = f"cuda:{device.id}" if is_cupy(array) else f"{library_name(array)} {device}"
    return Place(name, namespace(array), device)


def _cuda_place(index: int | None) -> Place:
    count = _cuda_count()
    cupy = _import_cupy()
    index = int(cupy.cuda.runtime.getDevice()) if index is None else index
    if index >= count:
        there = "cuda:0 is" if count == 1 else f"cuda:0 to cuda:{count - 1} are"
        raise DeviceError(f"there is no device cuda:{index}; {there} here.")
    reason = _cuda_fault(index)
    if reason is not None:
        raise DeviceError(reason)
    return Place(f"cuda:{index}", array_api_compat.array_namespace(cupy.empty(0)), cupy.cuda.Device(index))


def _import_cupy() -> Any:
    if importlib.util.find_spec("cupy") is None:
        raise DeviceError(
            "CuPy is not installed; for an NVIDIA GPU: pip install 'fullbatch[cuda13]' (or cuda12, by your driver)."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy warns about paths and duplicates; what matters is tried below
            import cupy
    except Exception as error:  # a broken installation can fail in any way
        raise DeviceError(f"CuPy is installed but cannot be imported ({_one_line(error)}); reinstall it.") from error
    return cupy


def _cuda_count() -> int:
    """The number of CUDA devices, at least 1; a DeviceError tells apart the reasons for there being none."""
    cupy = _import_cupy()
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:
        raise DeviceError(_explain(error)) from error
    if count == 0:
        raise DeviceError("the NVIDIA driver finds no GPU; check nvidia-smi, and in a container --gpus all.")
    return count


_proven: set[int] = set()  # the GPUs that worked; a fault is not kept, for memory may be free by the next time


def _cuda_fault(index: int) -> str | None:
    """None if that GPU works, else why not: a product and a sum try cuBLAS and NVRTC too, which may be missing."""
    if index in _proven:
        return None
    cupy = _import_cupy()
    try:
        with cupy.cuda.Device(index):
            ones = cupy.ones((8, 8), dtype="float32")
            total = float((ones @ ones).sum())
    except Exception as error:
        return _explain(error)
    if total != 512.0:
        return f"cuda:{index} computes wrong results (8 x 8 ones gave {total}, not 512)."
    _proven.add(index)
    return None


def _explain(error: Exception) -> str:
    text = _one_line(error)
    low = text.lower()
    causes: list[tuple[Callable[[], bool], str]] = [
        (
            lambda: any(word in low for word in ("insufficient", "libcuda.so", "no driver", "unsupported toolchain")),
            "the NVIDIA driver is missing or too old for this CuPy; install or update it (nvidia-smi shows it), "
            "or install the extra for an older CUDA: fullbatch[cuda12]",
        ),
        (
            lambda: "nodevice" in low or "no cuda-capable device" in low,
            "the NVIDIA driver finds no GPU; check nvidia-smi, and in a container --gpus all",
        ),
        (
            lambda: is_out_of_memory(error),
            "the GPU is out of memory: another process holds it; free it or choose device='cpu'",
        ),
        (
            # CuPy reports a missing library as an ImportError, or as another error that names the file or the header.
            lambda: isinstance(error, (ImportError, OSError)) or ".so" in low or "cannot open source file" in low,
            "CUDA's libraries are missing; install them as wheels: pip install 'fullbatch[cuda13]' (or cuda12)",
        ),
    ]
    for holds, cause in causes:
        if holds():
            return f"{cause} [{text}]."
    return f"CUDA cannot be used [{text}]."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no memory left: CuPy's own error, the runtime's, the driver's or cuBLAS's."""
    if isinstance(error, MemoryError):
        return type(error).__name__ == "OutOfMemoryError"  # CuPy's; any other is of the host
    low = str(error).lower()
    words = ("out of memory", "out_of_memory", "memoryallocation", "alloc_failed")
    # cuBLAS says NOT_INITIALIZED where there is no room for its handle; that it works at all was proved by ``place``.
    made = type(error).__name__ == "CUBLASError" and "not_initialized" in low and bool(_proven)
    return made or any(word in low for word in words)


def release_memory(array: Any) -> None:
    """Wait for the array's device, then give back the memory that CuPy's pools keep there and on the host."""
    if not is_cupy(array):
        return
    cupy = cupy_if_loaded()
    with array.device:
        array.device.synchronize()
        cupy.get_default_memory_pool().free_all_blocks()
        cupy.get_default_pinned_memory_pool().free_all_blocks()


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")


def _cuda_description(index: int) -> str:
    cupy = _import_cupy()
    properties = cupy.cuda.runtime.getDeviceProperties(index)
    name = properties["name"].decode()
    return f"{name}, {properties['totalGlobalMem'] / 2**30:.0f} GiB, CuPy {cupy.__version__}"


def cupy_if_loaded() -> Any:
    """The CuPy module where something has imported it already, else None."""
    return sys.modules.get("cupy")


# --- Precision ------------------------------------------------------------------------------------------------------

_products = threading.RLock()  # CuPy's setting is the process's, so one thread at a time has it


def check_precision(precision: Any, like: Any) -> str:
    """The precision of products, as results name it: the dtype's own, or "tf32" where it is asked for and can be had.

    Raises InputError for another name, or for arrays that are not CuPy's of float32; DeviceError for too old a GPU.
    """
    if precision not in (None, "tf32"):
        raise InputError(f"unknown precision {precision!r}; it is None, for that of X's dtype, or 'tf32'.")
    name = dtype_name(like)
    if precision is None:
        return name
    if not is_cupy(like) or name != "float32":
        where = "on a GPU" if is_cupy(like) else "on the CPU" if is_numpy(like) else f"of {library_name(like)}"
        raise InputError(f"precision='tf32' is for float32 on an NVIDIA GPU; here the arrays are {name} {where}.")
    capability = like.device.compute_capability
    if int(capability) < 80:
        raise DeviceError(f"precision='tf32' needs a GPU of compute capability 8.0; this one has {capability}.")
    return "tf32"


@contextmanager
def products(precision: str | None, like: Any) -> Iterator[None]:
    """Float32 products on a GPU in TF32, or in float32 whatever CUPY_TF32 says; then as they were before."""
    if not is_cupy(like) or dtype_name(like) != "float32":
        yield
        return
    from cupy._core import _routines_linalg as linalg

    with _products:
        before = linalg.get_compute_type(like.dtype)
        linalg.set_compute_type(
            like.dtype, linalg.COMPUTE_TYPE_TF32 if precision == "tf32" else linalg.COMPUTE_TYPE_DEFAULT
        )
        try:
            yield
        finally:
            linalg.set_compute_type(like.dtype, before)
