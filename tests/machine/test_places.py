"""Which library an array is of, copies between host and device, and why a GPU cannot be used, told apart."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import array_api_strict
import numpy as np
import pytest

import fullbatch as fb
from fullbatch.errors import ArrayTypeError, DeviceError, InputError
from fullbatch.machine import arrays, places

# --- Arrays ---------------------------------------------------------------------------------------------------------


def test_from_host_and_to_host_are_each_others_inverse(xp):
    host = np.arange(6.0).reshape(2, 3).astype(xp.dtype)
    array = arrays.from_host(host, xp=xp.xp, device=xp.device)
    assert xp.has(array)
    back = arrays.to_host(array)
    assert type(back) is np.ndarray
    assert back.dtype == xp.dtype
    assert np.array_equal(back, host)


def test_to_host_of_what_is_there_already_is_no_copy():
    host = np.ones(3)
    assert arrays.to_host(host) is host


def test_what_an_array_is(xp):
    array = xp.array([[1.0, 2.0]])
    assert arrays.is_numpy(array) == xp.on_numpy
    assert arrays.is_cupy(array) == (xp.name == "cupy")
    assert arrays.dtype_name(array) == xp.dtype
    assert arrays.library_name(array) == {
        "numpy-readonly": "numpy",
        "strict-device1": "array_api_strict",
        "strict-no_float64": "array_api_strict",
    }.get(xp.name, xp.name)
    assert xp.has(arrays.namespace(array).zeros((1, 1), dtype=array.dtype, device=arrays.device_of(array)))
    wide = arrays.namespace(array).astype(array, arrays.widest_float(array))
    assert xp.has(wide, xp.dtype)
    place = places.place_of(array)
    assert (place.name == "cpu") == xp.on_numpy
    assert xp.has(place.put(np.ones((2, 2), dtype=xp.dtype)))
    assert tuple(place.empty(xp.dtype).shape) == (0, 0)


def test_int_and_bool_have_names_too(xp):
    assert arrays.dtype_name(xp.array([1], "int64")) == "int64"
    assert arrays.dtype_name(xp.array([True], "bool")) == "bool"


@pytest.mark.parametrize("other", [[1.0], "X", {1: 2}])
def test_a_namespace_of_what_is_no_array(other):
    with pytest.raises(ArrayTypeError, match=r"expected arrays of one array API library.*numpy\.asarray"):
        arrays.namespace(np.ones(2), other)


def test_a_namespace_of_two_libraries():
    with pytest.raises(ArrayTypeError, match=r"got array_api_strict\..*numpy\.ndarray"):
        arrays.namespace(np.ones(2), array_api_strict.asarray([1.0]))


@pytest.mark.parametrize("shape", [(7,), (2, 7), (2, 3, 7)])
def test_room_for_columns_lies_example_by_example(shape):
    room = arrays.host_columns(np.empty(shape, dtype="float32"), 50)
    assert room.shape == (*shape[:-1], 50)
    assert room.dtype == "float32"
    assert np.moveaxis(room, -1, 0).flags.c_contiguous


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_columns_are_put_where_they_belong(rows):
    made = np.arange(3.0 * rows).reshape(rows, 3)
    for block in (made, np.asfortranarray(made)):
        room = arrays.host_columns(block, 7)
        room[...] = -1
        arrays.put_columns(room, slice(2, 5), block)
        np.testing.assert_array_equal(room[:, 2:5], made)
        assert (np.delete(room, [2, 3, 4], axis=1) == -1).all()


def test_quiet_is_quiet():
    with arrays.quiet():
        assert np.isnan(np.float64("inf") * np.array([0.0]))[0]
        assert np.isinf(np.exp(np.array([1e4])))[0]


# --- Devices --------------------------------------------------------------------------------------------------------


def test_the_cpu_comes_first_and_is_always_usable():
    cpu = fb.devices()[0]
    assert (cpu.name, cpu.usable) == ("cpu", True)
    assert "NumPy" in cpu.detail
    place = places.place("cpu")
    assert (place.name, place.reason) == ("cpu", "")
    array = np.ones(3)
    assert place.put(array) is array


@pytest.mark.parametrize(
    "bad", ["gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "", "CUDA", "cuda:0 ", "cuda:٣", None, 0, True, ["cpu"]]
)
def test_an_unknown_device_lists_the_known_ones(bad):
    with pytest.raises(InputError, match=r"unknown device .*; the known ones are auto, cpu, cuda and cuda:N") as caught:
        places.place(bad)
    assert "\n" not in str(caught.value)


def pretend_no_cupy(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "cupy" else real(name, *rest))


def test_without_cupy_cuda_is_an_error_with_the_cure_and_auto_is_the_cpu(monkeypatch):
    pretend_no_cupy(monkeypatch)
    for device in ("cuda", "cuda:0", "cuda:3"):
        with pytest.raises(DeviceError, match=r"CuPy is not installed.*pip install 'fullbatch\[cuda13\]'"):
            places.place(device)
    place = places.place("auto")
    assert place.name == "cpu"
    assert "CuPy is not installed" in place.reason
    assert [(d.name, d.usable) for d in fb.devices()] == [("cpu", True), ("cuda", False)]
    assert "CuPy is not installed" in fb.devices()[1].detail


class CUDARuntimeError(RuntimeError):
    """As cupy_backends.cuda.api.runtime has it."""


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory has it."""


class CUBLASError(RuntimeError):
    pass


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy of our own with two GPUs that compute on the host; a test breaks it where it likes."""
    fake = ModuleType("cupy")
    fake.__spec__ = ModuleSpec("cupy", None)
    fake.__version__ = "14.2.0"
    fake.ndarray = type("ndarray", (), {})
    fake.current = 0
    fake.ones, fake.empty = np.ones, np.empty
    fake.cuda = SimpleNamespace(
        Device=lambda index: nullcontext(index),
        runtime=SimpleNamespace(
            getDeviceCount=lambda: 2,
            getDevice=lambda: fake.current,
            getDeviceProperties=lambda index: {"name": b"NVIDIA Pretend", "totalGlobalMem": 80 * 2**30},
        ),
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr("fullbatch.machine.cuda._proven", set())
    return fake


def raises(error):
    def function(*args, **options):
        raise error

    return function


def test_gpus_that_work(cupy):
    assert [(d.name, d.usable) for d in fb.devices()] == [("cpu", True), ("cuda:0", True), ("cuda:1", True)]
    assert fb.devices()[1].detail == "NVIDIA Pretend, 80 GiB, CuPy 14.2.0"
    assert [places.place(name).name for name in ("auto", "cuda", "cuda:0", "cuda:1")] == [
        "cuda:0",
        "cuda:0",
        "cuda:0",
        "cuda:1",
    ]
    cupy.current = 1  # the caller's own current device is respected
    assert [places.place(name).name for name in ("auto", "cuda", "cuda:0")] == ["cuda:1", "cuda:1", "cuda:0"]
    with pytest.raises(DeviceError, match=r"there is no device cuda:2; cuda:0 to cuda:1 are here"):
        places.place("cuda:2")
    cupy.cuda.runtime.getDeviceCount = lambda: 1
    with pytest.raises(DeviceError, match=r"there is no device cuda:5; cuda:0 is here"):
        places.place("cuda:5")


DRIVER = "the NVIDIA driver is missing or too old for this CuPy"
NO_GPU = "the NVIDIA driver finds no GPU"
CACHE = "CuPy cannot write the folder of the kernels"
LIBRARIES = "CUDA's libraries are missing"
MEMORY = "the GPU is out of memory"


@pytest.mark.parametrize(
    ("where", "error", "words"),
    [
        (
            "count",
            CUDARuntimeError(
                "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
            ),
            DRIVER,
        ),
        ("count", CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected"), NO_GPU),
        ("count", ImportError("libcuda.so.1: cannot open shared object file: No such file or directory"), DRIVER),
        ("count", ImportError("libcudart.so.13: cannot open shared object file: No such file or directory"), LIBRARIES),
        (
            "sum",
            CUDARuntimeError(
                "cudaErrorUnsupportedPtxVersion: the provided PTX was compiled with an unsupported toolchain."
            ),
            DRIVER,
        ),
        ("sum", ImportError("libnvrtc.so.13: cannot open shared object file: No such file or directory"), LIBRARIES),
        (
            "sum",
            RuntimeError("CuPy failed to load libnvrtc.so.13: OSError: libnvrtc.so.13: cannot open shared object file"),
            LIBRARIES,
        ),
        ("sum", ImportError('Failure finding "libcublasLt.so.13 or libcublasLt.so.12": No such file'), LIBRARIES),
        ("sum", RuntimeError('catastrophic error: cannot open source file "cuda_fp16.h"'), LIBRARIES),
        ("sum", OSError("libnvrtc.so.13: cannot open shared object file: No such file or directory"), LIBRARIES),
        ("sum", FileNotFoundError(2, "No such file or directory", "/usr/lib/libnvrtc.so.13"), LIBRARIES),
        ("sum", PermissionError(13, "Permission denied", "/home/a/.cupy/kernel_cache"), CACHE),
        ("sum", OSError(28, "No space left on device", "/home/a/.cupy/kernel_cache/tmp1"), CACHE),
        ("sum", OutOfMemoryError("Out of memory allocating 512 bytes (allocated so far: 0 bytes)."), MEMORY),
        ("sum", CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"), MEMORY),
        ("sum", CUBLASError("CUBLAS_STATUS_ALLOC_FAILED"), MEMORY),
        (
            "sum",
            CUDARuntimeError("cudaErrorDevicesUnavailable:\n CUDA-capable device(s) is/are busy"),
            "CUDA cannot be used",
        ),
        ("sum", CUBLASError("CUBLAS_STATUS_NOT_INITIALIZED"), "CUDA cannot be used"),
    ],
)
def test_each_fault_has_a_message_of_its_own_on_one_line(cupy, where, error, words):
    if where == "count":
        cupy.cuda.runtime.getDeviceCount = raises(error)
    else:
        cupy.ones = raises(error)
    with pytest.raises(DeviceError) as caught:
        places.place("cuda")
    message = str(caught.value)
    assert message.startswith(words)
    assert "\n" not in message
    assert type(error).__name__ in message
    assert str(error).split()[0].rstrip(":") in message  # what CUDA itself said is there too
    if words != "CUDA cannot be used":
        assert any(cure in message for cure in ("install", "nvidia-smi", "free it", "CUPY_CACHE_DIR"))
    place = places.place("auto")
    assert (place.name, place.reason) == ("cpu", message)
    gpu = fb.devices()[1]
    assert (gpu.usable, gpu.detail) == (False, message)


def test_no_gpu_at_all(cupy):
    cupy.cuda.runtime.getDeviceCount = lambda: 0
    with pytest.raises(DeviceError, match=f"{NO_GPU}.*nvidia-smi"):
        places.place("cuda")


def test_a_gpu_that_computes_wrong_results_is_not_taken(cupy):
    cupy.ones = lambda shape, dtype: np.full(shape, 2.0, dtype=dtype)
    with pytest.raises(DeviceError, match=r"cuda:0 computes wrong results \(8 x 8 ones gave 2048.0, not 512\)"):
        places.place("cuda:0")
    assert places.place("auto").name == "cpu"


def test_a_fault_that_is_over_is_forgotten(cupy):
    """Another process held the memory; once it is free the GPU is taken."""
    cupy.ones = raises(OutOfMemoryError("Out of memory allocating 512 bytes"))
    assert places.place("auto").name == "cpu"
    cupy.ones = np.ones
    assert places.place("auto").name == "cuda:0"


def test_a_gpu_that_worked_is_not_tried_again(cupy):
    assert places.place("cuda").name == "cuda:0"
    cupy.ones = raises(AssertionError("tried again"))
    assert places.place("cuda").name == "cuda:0"


def test_one_gpu_of_two_works(cupy):
    cupy.cuda.Device = lambda index: nullcontext() if index else raises(CUDARuntimeError("cudaErrorECCUncorrectable"))()
    assert [(d.name, d.usable) for d in fb.devices()] == [("cpu", True), ("cuda:0", False), ("cuda:1", True)]
    assert places.place("cuda:1").name == "cuda:1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ImportError('libcudart.so.13: cannot open\\nshared object file')", "libcudart.so.13"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_cupy_that_cannot_be_imported(tmp_path, monkeypatch, text, words):
    (tmp_path / "cupy.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with pytest.raises(
        DeviceError, match=f"CuPy is installed but cannot be imported .*{words}.*reinstall it"
    ) as caught:
        places.place("cuda")
    assert "\n" not in str(caught.value)
    assert places.place("auto").name == "cpu"
    assert fb.devices()[1].usable is False


def test_a_cupy_whose_folder_cannot_be_made(tmp_path, monkeypatch):
    """As in a container whose home is read-only: CuPy 14.2 fails when it is imported."""
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    (tmp_path / "cupy.py").write_text("import os\nos.makedirs('/proc/nowhere')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeviceError, match=f"{CACHE}.*CUPY_CACHE_DIR.*/proc/nowhere") as caught:
        places.place("cuda")
    assert "\n" not in str(caught.value)
    assert places.place("auto").name == "cpu"


def test_warnings_of_cupy_are_not_shown(tmp_path, monkeypatch):
    (tmp_path / "cupy.py").write_text(
        "import warnings\nwarnings.warn('CUDA path could not be detected')\nraise ImportError('no')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    assert places.place("auto").name == "cpu"  # pytest makes errors of warnings


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
@pytest.mark.skipif(any(d.name == "cuda:0" and d.usable for d in fb.devices()), reason="there is a GPU")
def test_the_real_cupy_without_a_driver():
    code = (
        "import fullbatch as fb\nfrom fullbatch.machine import places\nassert 'cupy' not in __import__('sys').modules\n"
        "print(places.place('auto').name, fb.devices()[1].usable)\n"
        "try: places.place('cuda')\nexcept fb.errors.DeviceError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, message = done.stdout.strip().split("\n")
    assert first == "cpu False"
    assert message.startswith((DRIVER, NO_GPU))


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_what_we_take_of_cupy_is_there():
    """Without a driver too: names of CuPy's inner rooms may change from version to version."""
    code = (
        "import cupy\nfrom cupy._core import _routines_linalg as linalg\n"
        "linalg.COMPUTE_TYPE_TF32, linalg.COMPUTE_TYPE_DEFAULT, linalg.set_compute_type, linalg.get_compute_type\n"
        "cuda = cupy.cuda\ncuda.alloc_pinned_memory, cuda.get_current_stream, cuda.Stream.wait_event\n"
        "cuda.Event.record, cuda.Device.attributes, cuda.Device.compute_capability\n"
        "cuda.runtime.memcpyAsync, cuda.runtime.memcpyHostToDevice, cuda.runtime.memGetInfo\n"
        "cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor\n"
        "cupy.get_default_memory_pool().get_limit, cupy.get_default_pinned_memory_pool().free_all_blocks\n"
        "cuda.Stream.begin_capture, cuda.Stream.end_capture, cuda.Graph.launch, cupy.ndarray.set\n"
        "cupy.RawModule(code=' ').get_function, cupy.RawKernel.kernel\n"
        "from fullbatch.machine import cuda as ours\n"
        "assert ours.is_out_of_memory(cuda.memory.OutOfMemoryError(512, 0))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.gpu
def test_the_real_gpu():
    gpu = next(d for d in fb.devices() if d.name == "cuda:0")
    assert gpu.usable
    assert places.place("auto").name.startswith("cuda:")
    array = places.place("cuda:0").put(np.arange(3.0))
    assert arrays.is_cupy(array)
    assert places.place_of(array).name == "cuda:0"
    assert np.array_equal(arrays.to_host(array), np.arange(3.0))
