"""What a run ran on: hardware, libraries, threads, revision."""

from __future__ import annotations

import datetime
import hashlib
import math
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TypedDict

import fullbatch as fb
from bench.forced import TAKEN_AWAY
from fullbatch.machine import memory, native_library
from fullbatch.machine.threads import thread_count

PACKAGES = (
    "fullbatch", "numpy", "scipy", "scikit-learn", "threadpoolctl", "torch", "jax", "jaxlib",
    "cupy-cuda13x", "cupy-cuda12x", "cupy",
)  # fmt: skip
# What changes threads, kernels or memory from outside; of these, those that are set are written down.
VARIABLES = (
    "OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_DYNAMIC", "KMP_AFFINITY", "GOMP_CPU_AFFINITY", "OPENBLAS_NUM_THREADS",
    "OPENBLAS_CORETYPE", "MKL_NUM_THREADS", "MKL_ENABLE_INSTRUCTIONS", "BLIS_NUM_THREADS", "NPY_DISABLE_CPU_FEATURES",
    native_library.VARIABLE, "GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "CUPY_TF32",
    "NVIDIA_TF32_OVERRIDE", "XLA_FLAGS",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent


class Blas(TypedDict):
    library: str
    version: str | None
    kernels: str | None
    threads: int
    file: str
    of: str  # the package whose wheel brought it; empty for the system's own


class Gpu(TypedDict):
    name: str
    memory: int
    compute_capability: str
    driver_cuda: int
    runtime_cuda: int
    driver: str | None


class Library(TypedDict):
    """By the start of its SHA-256, and whether src/native has changed since it was compiled."""

    sha256: str
    older_than_its_sources: bool


class Native(TypedDict):
    """What the native step would use; which step ran, each point says."""

    isa: str | None
    usable: list[str]
    why_not: str
    forced: str | None
    library: Library | None


@dataclass(frozen=True)
class Machine:
    """The part of a result that says where it is from. Memory in bytes; None is "not known here"."""

    cpu: str
    cores: int  # that this process may use
    threads: int  # that a step runs on if it is not told otherwise
    simd: str
    memory: int | None
    load: float | None  # of the last minute, when the run began: what else the machine was doing
    system: str
    libc: str
    python: str
    versions: dict[str, str]
    blas: list[Blas]
    gpus: list[Gpu]
    revision: str | None
    date: str
    native: Native
    environment: dict[str, str] = field(default_factory=dict)  # VARIABLES that are set, and "affinity" if not to all

    @property
    def short(self) -> str:
        """One line for a caption."""
        known = sorted((b for b in self.blas if b["version"]), key=lambda b: b["of"] != "numpy")
        blas = next((f"{b['library']} {b['version']}" for b in known), "an unknown BLAS")
        gpus = "".join(f", {gpu['name']}" for gpu in self.gpus)
        return (
            f"{self.cpu}, {self.cores} core{'s' * (self.cores != 1)}{f' ({self.simd})' if self.simd else ''}{gpus}, "
            f"NumPy {self.versions.get('numpy', '?')} with {blas}"
            + (f", {away} taken away" if (away := self.environment.get("taken away")) else "")
        )

    @property
    def conditions(self) -> str:
        """What was set from outside: "OMP_NUM_THREADS=1, affinity=0"."""
        return ", ".join(f"{name}={value}" for name, value in self.environment.items() if name != "taken away")

    @property
    def doubts(self) -> list[str]:
        """What a reader of the figures should know, a line each."""
        library, away = self.native["library"], self.environment.get("taken away", "")
        old = library and library["older_than_its_sources"]
        lines = {
            f"files differ from revision {self.revision}: nobody can get them again": (self.revision or "")[-1:] == "+",
            "the native library is older than src/native: install it again": old,
            f"{self.conditions} is set": self.conditions,
            f"{away} forced kernels on the BLAS, and was taken away for this run": away,
            f"the load of the last minute was {self.load}: something else is running": (self.load or 0) > 0.5,
            "one thread: no round can be checked by a second one": self.threads < 2,
        }
        return [f"note: {line}" for line, holds in lines.items() if holds]


def describe() -> Machine:
    """This machine, now."""
    import joblib

    return Machine(
        cpu=_cpu_name(),
        cores=int(joblib.cpu_count()),
        threads=thread_count(None),
        simd=_simd(),
        memory=total_memory(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        system=platform.platform(),
        libc=" ".join(platform.libc_ver()).strip(),
        python=sys.version.split()[0],
        versions=_versions(),
        blas=_blas(),
        gpus=_gpus(),
        revision=revision(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        native=_native(),
        environment=_environment(),
    )


def _environment() -> dict[str, str]:
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    if os.environ.get(TAKEN_AWAY):
        found["taken away"] = os.environ[TAKEN_AWAY]
    if hasattr(os, "sched_getaffinity") and len(cores := os.sched_getaffinity(0)) < (os.cpu_count() or 1):
        found["affinity"] = ",".join(map(str, sorted(cores)))
    return found


def total_memory() -> int | None:
    """Bytes that this machine has, or that its container may use."""
    limit = next(iter(_lines("/sys/fs/cgroup/memory.max")), "").strip()
    found = [kilobytes("/proc/meminfo", "MemTotal"), int(limit) if limit.isdigit() else None]
    return min(filter(None, found), default=None)


def free_memory() -> int | None:
    """Bytes that can be allocated now without swapping."""
    free = memory.free()
    return int(free) if math.isfinite(free) else None


def busy() -> float:
    """Seconds that the cores have worked since the machine began, all together, those of other guests of it too."""
    line = next(iter(_lines("/proc/stat")), "").split()[1:9]
    user, nice, system, _, _, *more = map(int, line) if len(line) == 8 else (0,) * 8
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK")


def kilobytes(path: str, name: str) -> int | None:
    """Bytes, of a line "NAME: 123 kB" of a file in /proc."""
    return next((int(line.split()[1]) * 1024 for line in _lines(path) if line.startswith(name + ":")), None)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _cpuinfo(field: str) -> str:
    return next((line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith(field)), "")


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _simd() -> str:
    flags = set(_cpuinfo("flags").split())
    known = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}
    return next((name for flag, name in known.items() if flag in flags), "")


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "fullbatch": fb.__version__}


def _blas() -> list[Blas]:
    from threadpoolctl import threadpool_info

    # In an order of their own: threadpoolctl's is another in each process, and --resume compares them.
    names = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS"}
    return [
        Blas(
            library=names.get(pool["internal_api"], pool["internal_api"]),
            version=pool["version"],
            kernels=pool.get("architecture"),
            threads=pool["num_threads"],
            file=Path(pool["filepath"]).name,
            of=_owner(Path(pool["filepath"])),  # SciPy's wheel brings one too
        )
        for pool in sorted(threadpool_info(), key=lambda pool: str(pool["filepath"]))
        if pool["user_api"] == "blas"
    ]


def _owner(library: Path) -> str:
    """The package whose wheel brought the library ("numpy": numpy.libs/...); empty for the system's own."""
    return next((part.removesuffix(".libs") for part in library.parts if part.endswith(".libs")), "")


def _native() -> Native:
    isa = native_library.isa()
    return {
        "isa": isa and isa[1],
        "usable": [name for _, name in native_library.isas()],
        "why_not": native_library.why_not(),
        "forced": os.environ.get(native_library.VARIABLE),
        "library": _library(),
    }


def _library() -> Library | None:
    library = native_library.load()
    if library is None:
        return None
    file = Path(library._name)
    sources = [path.stat().st_mtime for path in (ROOT / "src/native").glob("*") if path.is_file()]
    return {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest()[:16],
        "older_than_its_sources": max(sources, default=0.0) > file.stat().st_mtime,
    }


def _gpus() -> list[Gpu]:
    if not any(device.name != "cpu" and device.usable for device in fb.devices()):
        return []
    import cupy

    runtime = cupy.cuda.runtime
    driver = next(iter(_lines("/proc/driver/nvidia/version")), "").removeprefix("NVRM version:").strip() or None
    return [
        Gpu(
            name=card["name"].decode(),
            memory=int(card["totalGlobalMem"]),
            compute_capability=f"{card['major']}.{card['minor']}",
            driver_cuda=runtime.driverGetVersion(),
            runtime_cuda=runtime.runtimeGetVersion(),
            driver=driver,
        )
        for card in map(runtime.getDeviceProperties, range(runtime.getDeviceCount()))
    ]


@cache
def revision() -> str | None:
    """The git revision, with "+" where files differ from it; an image is told its own by FULLBATCH_REVISION."""
    if given := os.environ.get("FULLBATCH_REVISION"):
        return given
    try:
        # In a folder that is no checkout of its own, git would tell of one that happens to lie around it.
        if Path(_git("rev-parse", "--show-toplevel")) != ROOT:
            return None
        head = _git("rev-parse", "--short=12", "HEAD")
        # Results themselves do not make a difference to what was measured.
        changed = _git("status", "--porcelain", "--", "src", "bench", ":!bench/results")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+" * bool(changed)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
