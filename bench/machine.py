"""What a run ran on: hardware, libraries, threads, revision."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import fullbatch as fb

PACKAGES = (
    "fullbatch", "numpy", "scipy", "scikit-learn", "threadpoolctl", "torch", "jax", "jaxlib",
    "cupy-cuda13x", "cupy-cuda12x", "cupy",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Machine:
    """The part of a result that says where it is from. Memory in bytes; None is "not known here"."""

    cpu: str
    cores: int  # that this process may use
    simd: str
    memory: int | None
    load: float | None  # of the last minute, when the run began: what else the machine was doing
    system: str
    libc: str
    python: str
    versions: dict[str, str]
    blas: list[dict[str, Any]]
    gpus: list[dict[str, Any]]
    revision: str | None
    date: str

    @property
    def short(self) -> str:
        """One line for a caption."""
        blas = next((f"{b['library']} {b['version']}" for b in self.blas if b["version"]), "an unknown BLAS")
        gpus = "".join(f", {gpu['name']}" for gpu in self.gpus)
        return (
            f"{self.cpu}, {self.cores} core{'s' * (self.cores != 1)}{f' ({self.simd})' if self.simd else ''}{gpus}, "
            f"NumPy {self.versions.get('numpy', '?')} with {blas}"
        )


def describe() -> Machine:
    """This machine, now."""
    import joblib

    return Machine(
        cpu=_cpu_name(),
        cores=int(joblib.cpu_count()),
        simd=_simd(),
        memory=total_memory(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        system=platform.platform(),
        libc=" ".join(platform.libc_ver()).strip(),
        python=sys.version.split()[0],
        versions=_versions(),
        blas=_blas(),
        gpus=_gpus(),
        revision=_revision(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def total_memory() -> int | None:
    """Bytes that this machine has, or that its container may use."""
    return _least(_meminfo("MemTotal"), _cgroup("memory.max"))


def free_memory() -> int | None:
    """Bytes that can be allocated now without swapping."""
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    return _least(_meminfo("MemAvailable"), None if limit is None or used is None else limit - used)


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _meminfo(field: str) -> int | None:
    for line in _lines("/proc/meminfo"):
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None


def _cgroup(name: str) -> int | None:
    value = next(iter(_lines(f"/sys/fs/cgroup/{name}")), "").strip()
    return int(value) if value.isdigit() else None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
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


def _blas() -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_info

    return [
        {
            "library": {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS"}.get(
                pool["internal_api"], pool["internal_api"]
            ),
            "version": pool["version"],
            "kernels": pool.get("architecture"),
            "threads": pool["num_threads"],
            "file": Path(pool["filepath"]).name,
        }
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]


def _gpus() -> list[dict[str, Any]]:
    if not any(device.name != "cpu" and device.usable for device in fb.devices()):
        return []
    import cupy

    runtime = cupy.cuda.runtime
    gpus = []
    for index in range(runtime.getDeviceCount()):
        properties = runtime.getDeviceProperties(index)
        gpus.append(
            {
                "name": properties["name"].decode(),
                "memory": int(properties["totalGlobalMem"]),
                "compute_capability": f"{properties['major']}.{properties['minor']}",
                "driver_cuda": runtime.driverGetVersion(),
                "runtime_cuda": runtime.runtimeGetVersion(),
                "driver": _nvidia_driver(),
            }
        )
    return gpus


def _nvidia_driver() -> str | None:
    version = next(iter(_lines("/proc/driver/nvidia/version")), "")
    return version.removeprefix("NVRM version:").strip() or None


@cache
def _revision() -> str | None:
    """The git revision, with "+" where files differ from it; an image is told its own by FULLBATCH_REVISION."""
    if given := os.environ.get("FULLBATCH_REVISION"):
        return given
    try:
        git = ["git", "-C", str(ROOT)]
        revision = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        # Results themselves do not make a difference to what was measured.
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "src", "bench", ":!bench/results"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision.stdout.strip() + "+" * bool(changed.stdout.strip())
