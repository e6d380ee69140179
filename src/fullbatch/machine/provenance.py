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
        "BLAS": ", ".join(sorted({_name(library) for library in _blas()})) or "unknown",
        "fullbatch": __version__,
    }


def _blas() -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_info

    return [library for library in threadpool_info() if library.get("user_api") == "blas"]


def _name(library: dict[str, Any]) -> str:
    """A BLAS with its version and the kernels that it chose: both decide about the last digits."""
    facts = (library.get("internal_api"), library.get("version"), library.get("architecture"))
    return " ".join(str(fact) for fact in facts if fact)
