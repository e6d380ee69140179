"""pytest loads this file before bench/tests/conftest.py settles the environment of the tests, and a BLAS reads its
variables when NumPy is loaded: so it imports nothing that imports NumPy.
"""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """To compare runs of one machine whose clock differs by a hertz is fine: no error of the project's own."""
    config.addinivalue_line("filterwarnings", "default::pytest_benchmark.logger.PytestBenchmarkWarning")
