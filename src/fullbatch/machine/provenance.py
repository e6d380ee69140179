"""What the bits of a training depend on beside its data and settings: libraries, BLAS and instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np

from fullbatch.machine import native_library
from fullbatch.version import __version__


def provenance() -> dict[str, str]:
    """Names and versions, as JSON has them and as a person reads them."""
    import scipy

    isa = native_library.isa()
    return {
        "instruction set": "none" if isa is None else isa[1],
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
        "BLAS": _blas(),
        "fullbatch": __version__,
    }


def _blas() -> str:
    """NumPy's own BLAS, with the kernels that it chose on this machine: both decide about the last digits.

    Others are loaded or not, by what else the process has imported.
    """
    from threadpoolctl import threadpool_info

    built: Any = np.show_config(mode="dicts") or {}
    blas = built.get("Build Dependencies", {}).get("blas", {})
    found = [library for library in threadpool_info() if library.get("user_api") == "blas"]
    found = [library for library in found if "numpy" in str(library.get("filepath"))] or found
    kernels = sorted({str(library["architecture"]) for library in found if library.get("architecture")})
    return " ".join([str(blas.get("name", "unknown")), str(blas.get("version", "")), *kernels]).strip()
