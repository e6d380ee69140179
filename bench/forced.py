"""Variables that force other kernels on a BLAS than it would choose: taken away before NumPy is loaded, and told of."""

import os

# Without them peers and limits are what a user would have: else a step passes a limit that older kernels set.
FORCING = (
    "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "MKL_CBWR",
    "BLIS_ARCH_TYPE", "NVPL_BLAS_DEBUG_CPU_TYPE", "NPY_DISABLE_CPU_FEATURES",
)  # fmt: skip
TAKEN_AWAY = "FULLBATCH_BENCH_TAKEN_AWAY"  # NAME=VALUE of each, for the results and for the processes that a run starts


def take_away() -> None:
    """Unset what forces kernels, and note it. A BLAS reads it once, when NumPy is loaded: this comes before."""
    found = [f"{name}={os.environ.pop(name)}" for name in FORCING if name in os.environ]
    if found:
        os.environ[TAKEN_AWAY] = ", ".join(found)
