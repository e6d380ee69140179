"""CUDA through CuPy: whether a GPU works, what a fault of it means, its memory, and the precision of its products.

CuPy is imported here alone, and only when a GPU is asked for.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from fullbatch.errors import DeviceError, InputError
from fullbatch.machine import arrays

CACHE = (
    "CuPy cannot write the folder of the kernels that it has compiled; set CUPY_CACHE_DIR to a folder that can be "
    "written"
)


def import_cupy() -> Any:
    if _is_absent():
        raise DeviceError(
            "CuPy is not installed; for an NVIDIA GPU: pip install 'fullbatch[cuda13]' (or cuda12, by your driver)."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy warns about paths and duplicates; what matters is tried below
            import cupy
    except Exception as error:  # a broken installation can fail in any way
        if _is_of_the_cache(error):  # CuPy from 14.2 on makes the folder when it is imported
            raise DeviceError(f"{CACHE} [{one_line(error)}].") from error
        raise DeviceError(f"CuPy is installed but cannot be imported ({one_line(error)}); reinstall it.") from error
    return cupy


def _is_absent() -> bool:
    """Whether there is no CuPy to import. Folders are read once for all: it would take longer than to predict a row."""
    find = importlib.util.find_spec
    return find("cupy") is None if "cupy" in sys.modules else _finds_none(find, tuple(sys.path))


@cache
def _finds_none(find: Callable[[str], Any], path: tuple[str, ...]) -> bool:
    return find("cupy") is None


def count() -> int:
    """The number of CUDA devices, at least 1; a DeviceError tells apart the reasons for there being none."""
    cupy = import_cupy()
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:
        raise DeviceError(explain(error)) from error
    if count == 0:
        raise DeviceError("the NVIDIA driver finds no GPU; check nvidia-smi, and in a container --gpus all.")
    return count


_proven: set[int] = set()  # the GPUs that worked; a fault is not kept, for memory may be free by the next time


def fault(index: int) -> str | None:
    """None if that GPU works, else why not: a product and a sum try cuBLAS and NVRTC too, which may be missing."""
    if index in _proven:
        return None
    cupy = import_cupy()
    try:
        with cupy.cuda.Device(index):
            ones = cupy.ones((8, 8), dtype="float32")
            total = float((ones @ ones).sum())
    except Exception as error:
        return explain(error)
    if total != 512.0:
        return f"cuda:{index} computes wrong results (8 x 8 ones gave {total}, not 512)."
    _proven.add(index)
    return None


def explain(error: Exception) -> str:
    text = one_line(error)
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
        (lambda: _is_of_the_cache(error), CACHE),
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


def _is_of_the_cache(error: Exception) -> bool:
    """Whether a file could not be made or written; a library that is not found has no number of an error."""
    return isinstance(error, OSError) and bool(error.errno) and ".so" not in str(error.filename)


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
    if not arrays.is_cupy(array):
        return
    cupy = arrays.cupy_if_loaded()
    with array.device:
        array.device.synchronize()
        cupy.get_default_memory_pool().free_all_blocks()
        cupy.get_default_pinned_memory_pool().free_all_blocks()


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")


def description(index: int) -> str:
    cupy = import_cupy()
    properties = cupy.cuda.runtime.getDeviceProperties(index)
    name = properties["name"].decode()
    return f"{name}, {properties['totalGlobalMem'] / 2**30:.0f} GiB, CuPy {cupy.__version__}"


_setting = threading.RLock()  # CuPy's setting is the process's, so one thread at a time has it


def check_precision(precision: Any, like: Any) -> str:
    """The precision of products, as results name it: the dtype's own, or "tf32" where it is asked for and can be had.

    Raises InputError for another name, or for arrays that are not CuPy's of float32; DeviceError for too old a GPU.
    """
    if precision not in (None, "tf32"):
        raise InputError(f"unknown precision {precision!r}; it is None, for that of X's dtype, or 'tf32'.")
    name = arrays.dtype_name(like)
    if precision is None:
        return name
    if not arrays.is_cupy(like) or name != "float32":
        where = "on the CPU" if arrays.is_numpy(like) else f"of {arrays.library_name(like)}"
        where = "on a GPU" if arrays.is_cupy(like) else where
        raise InputError(f"precision='tf32' is for float32 on an NVIDIA GPU; here the arrays are {name} {where}.")
    capability = like.device.compute_capability
    if int(capability) < 80:
        raise DeviceError(f"precision='tf32' needs a GPU of compute capability 8.0; this one has {capability}.")
    return "tf32"


@contextmanager
def products(precision: str | None, like: Any) -> Iterator[None]:
    """Float32 products on a GPU in TF32, or in float32 whatever CUPY_TF32 says; then as they were before."""
    if not arrays.is_cupy(like) or arrays.dtype_name(like) != "float32":
        yield
        return
    from cupy._core import _routines_linalg as linalg

    with _setting:
        before = linalg.get_compute_type(like.dtype)
        linalg.set_compute_type(
            like.dtype, linalg.COMPUTE_TYPE_TF32 if precision == "tf32" else linalg.COMPUTE_TYPE_DEFAULT
        )
        try:
            yield
        finally:
            linalg.set_compute_type(like.dtype, before)
