"""What the pytest-benchmark cases share: how a call is timed, and what is written down beside its time.

pytest loads this file before bench/tests/conftest.py settles the environment of the tests, and a BLAS reads its
variables when NumPy is loaded: so what imports NumPy is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Timed = Callable[..., None]


@pytest.fixture
def timed(benchmark: Any) -> Timed:
    """``timed(call, shape=, dtype=, ...)``: time the call, with these and the step that it ran in ``extra_info``.

    device : where it works, "cpu" if left out; elsewhere the timed call ends with a synchronise
    threads : on the CPU, None for all;  native : what FULLBATCH_NATIVE is meanwhile, None for as it is
    """

    def run(
        call: Callable[[], Any],
        *,
        shape: str,
        dtype: Any,
        device: str = "cpu",
        threads: int | None = None,
        native: str | None = None,
        **more: Any,
    ) -> None:
        import numpy as np

        from bench import own
        from fullbatch.machine.threads import thread_count

        with own.forced(native):
            whole = call if device == "cpu" else _finished(call)
            with own.seen() as labels:
                whole()
            benchmark.extra_info.update(
                shape=shape, dtype=np.dtype(dtype).name, device=device,
                threads=thread_count(threads) if device == "cpu" else 1,
                step=" and ".join(labels), **more,
            )  # fmt: skip
            benchmark(whole)

    return run


def _finished(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call, and the wait for its end on the GPU."""
    import cupy

    def both() -> Any:
        result = call()
        cupy.cuda.get_current_stream().synchronize()
        return result

    return both


def pytest_configure(config: pytest.Config) -> None:
    """To compare runs of one machine whose clock differs by a hertz is fine: no error of the project's own."""
    config.addinivalue_line("filterwarnings", "default::pytest_benchmark.logger.PytestBenchmarkWarning")
