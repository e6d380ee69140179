"""The ``xp`` fixture: the core's tests run on every array library that is here.

NumPy, read-only NumPy arrays and array_api_strict always; torch and JAX where they are installed; CuPy where there is a
GPU that works. array_api_strict's device1 cannot be mixed with host arrays, so whatever makes an array on the host by
mistake raises; its device no_float64 has float32 alone.
"""

from __future__ import annotations

from environment import environment_stays  # noqa: F401  # first: it settles what is read when NumPy is loaded

# isort: split
import faulthandler
import gc
import importlib
import importlib.util
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import array_api_compat
import array_api_strict
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import cuda_on_cpu
import fullbatch as fb
from fullbatch.fold import blocks
from fullbatch.machine import native_library, places
from fullbatch.sources import Dense, Examples

settings.register_profile(
    "fullbatch",
    deadline=None,  # no timed assertions
    derandomize=True,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("fullbatch")


@pytest.fixture(autouse=True)
def small_problems_take_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests compute is not worth a second thread; but it is the threads that they look at."""
    monkeypatch.setattr(blocks, "THREAD_WORK", 1)
    monkeypatch.setattr(blocks, "THREAD_EXAMPLES", 1)


@pytest.fixture(scope="session", autouse=True)
def kernels_are_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Those that run on the CPU, for all workers of a test run together."""
    base = tmp_path_factory.getbasetemp()
    cuda_on_cpu.folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kernels"


@pytest.fixture(scope="module", autouse=True)
def what_stays_is_not_walked_through() -> None:
    """What other modules' tests have left, as compiled functions and caches of libraries, the collector need not see.

    A test that collects would otherwise walk through all of it: half a second each time, once JAX has compiled much.
    """
    gc.collect()  # Garbage of before would stay for ever, with what it holds.
    gc.freeze()


# The native step under every instruction set of this machine; without the library there is none.
ISAS = [name for _, name in native_library.isas()]
assert ISAS or os.environ.get("FULLBATCH_REQUIRE_NATIVE") != "1", native_library.why_not()
HOST_TWINS = ["inplace", *(f"native-{name}" for name in ISAS)]


def use(twin: str, patch: pytest.MonkeyPatch) -> str:
    """Make one of HOST_TWINS what runs on NumPy arrays; the name of its step."""
    step, _, isa = twin.partition("-")
    patch.setenv(native_library.VARIABLE, isa or "off")
    return step


@pytest.fixture(params=HOST_TWINS)
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the array step's twins on NumPy in turn, by its step's name."""
    return use(request.param, monkeypatch)


@pytest.fixture(scope="session")
def host_step() -> str:
    """The step that runs on NumPy arrays here unless told otherwise."""
    return "native" if ISAS else "inplace"


@dataclass(frozen=True)
class Library:
    """An array library on one of its devices."""

    name: str
    module: str
    device: Any = None
    read_only: bool = False
    dtypes: tuple[str, ...] = ("float64", "float32")

    @property
    def xp(self) -> Any:
        return importlib.import_module(self.module)

    @property
    def dtype(self) -> str:
        """The widest dtype there."""
        return self.dtypes[0]

    @property
    def on_numpy(self) -> bool:
        return self.name.startswith("numpy")

    @property
    def tolerance(self) -> float:
        return 1e-12 if self.dtype == "float64" else 1e-5

    def array(self, values: Any, dtype: str | None = None) -> Any:
        """The values as an array of this library and device, in the widest dtype unless told."""
        host = np.array(values, dtype=dtype or self.dtype)
        if self.on_numpy:
            host.flags.writeable = not self.read_only
            return host
        array = self.xp.asarray(host)
        return array if self.device is None else array_api_compat.to_device(array, self.device)

    def params(self, layers: Any, dtype: str | None = None) -> tuple[fb.Layer, ...]:
        return tuple(fb.Layer(self.array(W, dtype), self.array(b, dtype)) for W, b in layers)

    def host(self, array: Any) -> np.ndarray:
        if self.name.startswith("strict"):
            return np.asarray(array._array)
        return array.get() if self.name == "cupy" else np.asarray(array)

    def hosts(self, layers: Any) -> list[np.ndarray]:
        """W[1], b[1], W[2], ... on the host."""
        return [self.host(array) for layer in layers for array in layer]

    def has(self, array: Any, dtype: str | None = None) -> bool:
        """Whether the array is of this library, device and dtype."""
        like = self.array([0.0], dtype)
        return (
            (type(array) is type(like) or (self.on_numpy and isinstance(array, np.generic)))
            and array.dtype == like.dtype
            and array_api_compat.device(array) == array_api_compat.device(like)
        )

    def examples(self, X: Any, Y: Any, weight: Any = None) -> Examples:
        return Examples(Dense(self.array(X)), Dense(self.array(Y)), None if weight is None else self.array(weight))


def _libraries() -> list[Any]:
    strict, Device = "array_api_strict", array_api_strict.Device
    found: list[Any] = [
        Library("numpy", "numpy"),
        Library("numpy-readonly", "numpy", read_only=True),
        Library("strict-device1", strict, Device("device1")),
        Library("strict-no_float64", strict, Device("no_float64"), dtypes=("float32",)),
    ]
    if importlib.util.find_spec("torch"):
        found.append(Library("torch", "torch"))
    if importlib.util.find_spec("jax"):
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # on a GPU it takes 75 % of the memory, and rounds to TF32
        found.append(Library("jax", "jax.numpy"))
    if any(device.name == "cuda:0" and device.usable for device in fb.devices()):
        found.append(pytest.param(Library("cupy", "cupy"), marks=pytest.mark.gpu))
    return found


def _load_torch_and_jax() -> None:
    """Import them as all tests take them, those that ask for no ``xp`` too."""
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)  # its threads and ours would fight for the cores of a test machine
    if importlib.util.find_spec("jax"):
        import jax

        jax.config.update("jax_enable_x64", True)


LIBRARIES = _libraries()


def _library(param: Any) -> Library:
    return param if isinstance(param, Library) else param.values[0]


def pytest_report_header() -> str:
    return "array libraries: " + ", ".join(_library(param).name for param in LIBRARIES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not any(_library(param).name == "cupy" for param in LIBRARIES):
        reason = next((d.detail for d in fb.devices() if not d.usable), "no GPU")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Torch and JAX are imported here, where there are tests to run: the process that hands them out waits for neither.

    What is there before the first test stays, so the collector need not walk through it again and again.
    """
    _load_torch_and_jax()
    gc.collect()
    gc.freeze()


HAS_GPU = any(_library(param).name == "cupy" for param in LIBRARIES)
ABOUT_DEVICES = ("test_backend", "test_device")
# Its process of its own sees the GPU, for scikit-learn's checks ask CuPy for an array; "auto" is the CPU there too.
SEE_THE_GPU = (*ABOUT_DEVICES, "test_sklearn_checks")


if HAS_GPU:
    real_place, visible = places.place, os.environ.get("CUDA_VISIBLE_DEVICES")
    about_a_device = False

    def place(device: str) -> Any:
        """As it is, but "auto" is the CPU for tests that are not about a GPU: they compare with NumPy's bits and steps.

        Not a fixture's patch: what a module's fixtures train is compared too.
        """
        return real_place("cpu" if device == "auto" and not about_a_device else device)

    places.place = place


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Neighbours stay in one process, where what they share is made once: a model, a table, compiled kernels."""
    if config.getvalue("dist") != "load":  # what -n alone means
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    global about_a_device
    if HAS_GPU:
        name = getattr(item, "module", None).__name__
        about_a_device = item.get_closest_marker("gpu") is not None or name in ABOUT_DEVICES
        # For processes of their own. CUDA is up in this one already, so here the variable comes too late.
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        sees = about_a_device or name in SEE_THE_GPU
        if not sees or visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = str(visible) if sees else ""


@pytest.fixture
def no_hang() -> Iterator[None]:
    """A test that would wait for ever ends the run, with every thread's traceback, after two minutes."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt here, and ends a child that does not say otherwise.

    In a background job of a shell that is not interactive it would be ignored, as children inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.name)
def xp(request: pytest.FixtureRequest) -> Library:
    """Every library."""
    return request.param


@pytest.fixture(params=[p for p in LIBRARIES if "float64" in _library(p).dtypes], ids=lambda library: library.name)
def xp64(request: pytest.FixtureRequest) -> Library:
    """Every library and device that has float64."""
    return request.param
