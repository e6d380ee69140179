"""A CuPy on the CPU, for whole calls with device="cuda" where there is no card: NumPy, and kernels by cuda_on_cpu.

Its arrays are a class of their own, which NumPy's refuse to be mixed with, as on a card; streams do their work at once
(fake_streams.py is for their order). There is one card, or as many as ``Device.count`` says, each of which works with
its own arrays alone, and only while it is current: between some cards CuPy would copy, and warn. ``install`` puts it
all in place of the module for as long as a test runs.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import math
import sys
import threading
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import cuda_on_cpu
from fullbatch.machine import places


class Device:
    count = 1
    compute_capability = "90"
    attributes = {"MultiProcessorCount": 2, "MaxSharedMemoryPerBlockOptin": 227 * 2**10}  # noqa: RUF012
    mem_info = (60 * 2**30, 80 * 2**30)
    cublas_handle = 0
    thread = threading.local()  # whose ``entered`` has the devices of the open ``with`` blocks

    def __init__(self, which: Any = None) -> None:
        self.id = Device.current() if which is None else int(which)
        assert self.id < Device.count

    @staticmethod
    def current() -> int:
        return [0, *getattr(Device.thread, "entered", [])][-1]

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def __enter__(self) -> Device:
        Device.thread.entered = [*getattr(Device.thread, "entered", []), self.id]
        return self

    def __exit__(self, *error: object) -> None:
        Device.thread.entered = Device.thread.entered[:-1]

    def synchronize(self) -> None:
        pass


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """As cupy.ndarray: of shape () where NumPy has scalars, and nothing for whoever has a host array."""

    __module__ = "cupy"
    reads = 0  # how often somebody waited for a number
    sends = 0  # how often for a host array to get there
    most = math.inf  # bytes; for an array of more there is no memory

    def __init__(self, host: np.ndarray, device: Device | None = None) -> None:
        self.host = host
        self.device = Device() if device is None else device

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return _called(getattr(ufunc, method), inputs, options)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.host, name)
        if not callable(value):
            return there(value, self.device)
        if name in ("reshape", "transpose"):  # views, mostly
            return lambda *args, **options: there(value(*args, **options), self.device)
        return lambda *args, **options: _called(value, args, options, of=self)

    def __getitem__(self, where: Any) -> Any:
        _check_current(where)
        ndarray.reads += _is_mask(where)
        return there(self.host[_plain(where)], self.device)

    def __setitem__(self, where: Any, value: Any) -> None:
        _check_current((self, where, value))
        ndarray.reads += _is_mask(where)
        self.host[_plain(where)] = _plain(value)

    def __len__(self) -> int:
        return len(self.host)

    def __float__(self) -> float:
        ndarray.reads += 1
        return float(self.host)

    def __int__(self) -> int:
        ndarray.reads += 1
        return int(self.host)

    def __bool__(self) -> bool:
        ndarray.reads += 1
        return bool(self.host)

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def get(self) -> np.ndarray:
        ndarray.reads += 1
        return self.host.copy()

    def set(self, host: np.ndarray) -> None:
        ndarray.sends += 1
        self.host[...] = host

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.host.ctypes.data)


class OutOfMemoryError(MemoryError):
    __module__ = "cupy.cuda.memory"


def _is_mask(where: Any) -> bool:
    """Whether CuPy first counts on the GPU how many elements are meant, and waits for the number."""
    return isinstance(where, ndarray) and where.host.dtype == bool and where.host.ndim > 0


def _plain(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value))
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, dict) else value


def there(value: Any, device: Device | None = None) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(np.asarray(value), device)
    return tuple(map(there, value)) if isinstance(value, tuple) and any(map(_is_array, value)) else value


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _check_current(value: Any) -> None:
    """All arrays in it lie on the current device."""
    if isinstance(value, (tuple, list)):
        for item in value:
            _check_current(item)
    elif isinstance(value, ndarray) and value.device.id != Device.current():
        raise ValueError(
            f"The device where the array resides ({value.device.id}) is different from the current device "
            f"({Device.current()}). Peer access is unavailable between these devices."
        )


def _called(function: Any, args: Any, options: Any, creates: bool = False, of: Any = None) -> Any:
    _check_current([of, *args, *options.values()])
    for value in (*args, *options.values()):
        if not creates and isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    out = options.get("out")
    ndarray.sends += creates and any(isinstance(value, np.ndarray) and value.size for value in args)
    result = function(*_plain(args), **_plain(options))
    if out is None and _is_array(result) and (creates or result.base is None) and result.nbytes > ndarray.most:
        raise OutOfMemoryError(f"Out of memory allocating {result.nbytes:,} bytes (allocated so far: 0 bytes).")
    return there(result) if out is None else out[0] if isinstance(out, tuple) else out


def _wrapped(function: Any, creates: bool) -> Any:
    return lambda *args, **options: _called(function, args, options, creates)


class _Kernel(cuda_on_cpu.Kernel):
    """One that is launched on the current device."""

    def __call__(self, grid: Any, block: Any, args: Any, **options: Any) -> None:
        _check_current(args)
        if Stream.captured is None:
            super().__call__(grid, block, args, **options)
        else:
            Stream.captured.append(partial(super().__call__, grid, block, args, **options))


def _module_of(*, code: str) -> Any:
    return SimpleNamespace(get_function=lambda name: _Kernel(code, name))


CREATE = ("asarray", "array", "ascontiguousarray", "empty", "zeros", "ones", "full", "eye", "arange")


class Graph:
    """What was launched while a stream was captured, to be launched again."""

    launched = 0  # of all graphs

    def __init__(self, launches: list[Any]) -> None:
        self.launches = launches

    def launch(self) -> None:
        Graph.launched += 1
        for launch in self.launches:
            launch()


class Stream:
    ptr = 0
    captured: list[Any] | None = None  # launches that are not to run now

    def __init__(self, non_blocking: bool = False) -> None:
        self.device_id = Device.current()

    def __enter__(self) -> Stream:
        if self.device_id != Device.current():
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id}) does not match with the current device "
                f"({Device.current()})"
            )
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def begin_capture(self) -> None:
        assert Stream.captured is None
        Stream.captured = []

    def end_capture(self) -> Graph:
        launches, Stream.captured = Stream.captured, None
        assert launches is not None
        return Graph(launches)


class Event:
    done = True

    def __init__(self, disable_timing: bool = False) -> None:
        pass

    def record(self, stream: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        pass


def _copy(target: int, source: int, size: int, kind: int, stream: int) -> None:
    ctypes.memmove(target, source, size)


def make() -> ModuleType:
    fake = ModuleType("cupy")
    fake.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    for name in np.__all__:
        value = getattr(np, name)
        is_function = callable(value) and not isinstance(value, type)
        setattr(fake, name, _wrapped(value, name in CREATE) if is_function else value)
    fake.ndarray, fake.__all__, fake.__version__ = ndarray, [*np.__all__], "14.2.0"
    fake.RawModule = _module_of
    pool = SimpleNamespace(
        free_bytes=lambda: 0, used_bytes=lambda: 0, total_bytes=lambda: 0, get_limit=lambda: 0,
        free_all_blocks=lambda: None,
    )  # fmt: skip
    fake.get_default_memory_pool = fake.get_default_pinned_memory_pool = lambda: pool
    fake.cuda, fake.__path__ = ModuleType("cupy.cuda"), []
    fake.cuda.__path__, fake.cuda.device = [], ModuleType("cupy.cuda.device")
    fake.cuda.device.Device = Device
    vars(fake.cuda).update(
        Device=Device, Stream=Stream, Event=Event, get_current_stream=Stream, get_elapsed_time=lambda start, stop: 1.0,
        alloc_pinned_memory=lambda size: np.empty(size, np.uint8),
        cublas=SimpleNamespace(getVersion=lambda handle: 130000, gemmStridedBatchedEx=cuda_on_cpu.gemm),
        driver=SimpleNamespace(occupancyMaxActiveBlocksPerMultiprocessor=lambda pointer, threads, shared: 2),
        runtime=SimpleNamespace(
            getDeviceCount=lambda: Device.count, getDevice=Device.current, memGetInfo=lambda: Device.mem_info,
            memcpyAsync=_copy, memcpyHostToDevice=1, driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000,
            getDeviceProperties=lambda index: {
                "name": b"none at all", "totalGlobalMem": 80 * 2**30, "multiProcessorCount": 2, "major": 9, "minor": 0
            },
        ),
    )  # fmt: skip
    return fake


def _linalg() -> ModuleType:
    """CuPy's setting for products; what was set last stands in ``kind``, and all of it in ``log``."""
    linalg = ModuleType("cupy._core._routines_linalg")
    linalg.COMPUTE_TYPE_DEFAULT, linalg.COMPUTE_TYPE_TF32, linalg.kind, linalg.log = 1, 7, 1, []

    def set_compute_type(dtype: Any, kind: int) -> None:
        linalg.kind = kind
        linalg.log.append(kind)

    linalg.get_compute_type, linalg.set_compute_type = lambda dtype: linalg.kind, set_compute_type
    return linalg


def _why_not() -> str:
    if cuda_on_cpu.COMPILER is None:
        return "no g++ to compile the kernels for the CPU"
    return "there is a real card" if any(d.usable for d in places.devices()[1:]) else ""


# Both in one process would share what array_api_compat keeps of the first.
pretended = pytest.mark.skipif(_why_not() != "", reason=_why_not())
_module: list[ModuleType] = []  # one for all tests: array_api_compat keeps what it has imported


def install(patch: pytest.MonkeyPatch) -> ModuleType:
    """CuPy is this one, and there is a card."""
    if not _module:
        _module.append(make())
    core = ModuleType("cupy._core")
    core._routines_linalg = _linalg()
    cuda = _module[0].cuda
    modules = {"cupy": _module[0], "cupy.linalg": np.linalg, "cupy.fft": np.fft, "cupy._core": core}
    modules |= {"cupy.cuda": cuda, "cupy.cuda.device": cuda.device}
    modules["cupy._core._routines_linalg"] = core._routines_linalg
    for name, module in modules.items():
        patch.setitem(sys.modules, name, module)
    patch.setattr("fullbatch.machine.cuda._proven", set())
    return _module[0]
