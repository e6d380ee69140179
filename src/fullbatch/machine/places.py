"""The devices that can be used here, and where on them arrays are put."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from numbers import Real
from typing import Any

import array_api_compat
import numpy as np

from fullbatch.errors import ArrayTypeError, DeviceError, FullbatchError, InputError
from fullbatch.machine import arrays, cuda


@dataclass(frozen=True)
class Place:
    """Where arrays are put: the library, its device, and how to get a host array there.

    name : "cpu", "cuda:0", ...;  reason : why "auto" did not take the GPU, or ""
    """

    name: str
    xp: Any
    device: Any = None
    reason: str = ""

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

    def computing(self) -> AbstractContextManager[Any]:
        """``current``, around a whole call of a user's: memory that runs out there is a DeviceError.

        In a pass the fold goes on with smaller blocks instead. What comes here has no block: weights, targets, an
        optimiser's state, results.
        """
        return nullcontext() if self.name == "cpu" else self._computing_there()

    @contextmanager
    def _computing_there(self) -> Iterator[None]:
        try:
            with self.current():
                yield
        except Exception as error:
            if not self.is_cuda or isinstance(error, FullbatchError) or not cuda.is_out_of_memory(error):
                raise
            text, free = cuda.one_line(error).rstrip("."), self.memory()[0]
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
        cupy = arrays.cupy_if_loaded()
        with self.current():
            free, total = cupy.cuda.runtime.memGetInfo()
            pool = cupy.get_default_memory_pool()
            free += pool.free_bytes()
            if pool.get_limit():
                free = min(free, pool.get_limit() - pool.used_bytes())
        return float(max(free, 0)), float(total)

    def budget(self, device_memory: float | None) -> float:
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


CPU = Place("cpu", np)


@dataclass(frozen=True)
class DeviceInfo:
    """One device.

    Parameters
    ----------
    name : str
        For ``device=``: "cpu", "cuda:0", ...
    usable : bool
        Whether it can be used.
    detail : str
        What it is, or why it cannot be used.
    """

    name: str
    usable: bool
    detail: str


def devices() -> list[DeviceInfo]:
    """What can be used here, and why not the rest.

    Returns
    -------
    list of DeviceInfo
        The CPU comes first and is always usable.

    Examples
    --------
    >>> import fullbatch as fb
    >>> fb.devices()[0].name, fb.devices()[0].usable
    ('cpu', True)
    """
    import platform

    cpu = DeviceInfo("cpu", True, f"NumPy {np.__version__} on {platform.processor() or platform.machine()}")
    try:
        count = cuda.count()
    except DeviceError as error:
        return [cpu, DeviceInfo("cuda", False, str(error))]
    found = [cpu]
    for index in range(count):
        reason = cuda.fault(index)
        found.append(DeviceInfo(f"cuda:{index}", reason is None, reason or cuda.description(index)))
    return found


def place(device: str) -> Place:
    """The place that ``device`` names: "cpu", "cuda", "cuda:N", or "auto" (CUDA where it works, else the CPU); of
    several devices, "cuda:0,cuda:1", the first one.

    Raises InputError for another name, and DeviceError, with the reason and the cure, for a GPU that cannot be used.
    """
    if device == "cpu":
        return CPU
    check_device(device)
    device = device.partition(",")[0]
    if device == "auto":
        try:
            return _cuda_place(None)
        except DeviceError as error:
            return Place("cpu", np, reason=str(error))
    index = device.partition(":")[2]
    return _cuda_place(int(index) if index else None)


def several(device: str) -> list[Place]:
    """The places that ``device`` names: of "cuda:0,cuda:1" two, of any other name none."""
    check_device(device)
    return [place(name) for name in device.split(",")] if "," in device else []


def check_device(device: Any) -> None:
    """An InputError for what is not the name of a device; whether it can be used is ``place``'s to say."""
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?|cuda:[0-9]+(,cuda:[0-9]+)+", device):
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


def home(X: Any, device: str | None) -> Place:
    """Where the passes over a caller's array run: host arrays where ``device`` says, and others where they lie.

    Raises ArrayTypeError for device="cpu" and an array that lies elsewhere: it is not copied in silence.
    """
    if device not in (None, "cpu"):
        check_device(device)
        if "," in device:
            raise InputError(f"device={device!r}: the fit of an estimator takes several, with X on the host; name one.")
    if arrays.is_numpy(X):
        return place(device or "cpu")
    there = place_of(X)
    where = there.name if arrays.is_cupy(X) else arrays.device_name(X)
    if device == "cpu" and where and "cpu" not in where.lower():
        raise ArrayTypeError(
            f"device='cpu' and X is an array of {arrays.library_name(X)} on {where}: it is not copied in silence. "
            "Leave device out to compute where X is, or bring the arrays to the host"
            + (": X.get()." if arrays.is_cupy(X) else ".")
        )
    return there


def place_of(array: Any) -> Place:
    """The place where an array lies already."""
    if arrays.is_numpy(array):
        return CPU
    device = arrays.device_of(array)
    named = f"{arrays.library_name(array)} {arrays.device_name(array)}".rstrip()
    return Place(f"cuda:{device.id}" if arrays.is_cupy(array) else named, arrays.namespace(array), device)


def _cuda_place(index: int | None) -> Place:
    count = cuda.count()
    cupy = cuda.import_cupy()
    index = int(cupy.cuda.runtime.getDevice()) if index is None else index
    if index >= count:
        there = "cuda:0 is" if count == 1 else f"cuda:0 to cuda:{count - 1} are"
        raise DeviceError(f"there is no device cuda:{index}; {there} here.")
    reason = cuda.fault(index)
    if reason is not None:
        raise DeviceError(reason)
    return Place(f"cuda:{index}", array_api_compat.array_namespace(cupy.empty(0)), cupy.cuda.Device(index))
