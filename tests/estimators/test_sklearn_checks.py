"""scikit-learn's own checks of estimators, all of them, with no expected failure.

SCIPY_ARRAY_API must be set before SciPy is imported, else the checks with array API input are skipped in silence. So
where it is not set, the checks run in a process of their own, and this file looks at what they report.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import fullbatch
from fullbatch import LogisticRegression, MLPClassifier, MLPRegressor, devices

# What may be skipped, and why: libraries that are not here, devices that are not here, a method that no MLP has.
SKIPPED = (
    "is not installed", "PyTorch test requires cuda", "on device cuda", "XPU device", "MPS device",
    "decision_function", "dpnp", "cupy",
)  # fmt: skip


def _cuda_of_torch() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


if os.environ.get("SCIPY_ARRAY_API") == "1":
    # With as many iterations as scikit-learn takes where it checks its own of these names (INIT_PARAMS).
    @parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100), LogisticRegression(max_iter=5)])
    @pytest.mark.filterwarnings("default")  # the checks try input that is to be warned of
    def test_check(estimator: Any, check: Any) -> None:
        # scikit-learn skips these where CuPy counts no GPU; without a driver CuPy cannot even count.
        if getattr(check, "keywords", {}).get("array_namespace") == "cupy":
            gpu = devices()[1]
            if not gpu.usable:
                pytest.skip(f"cupy: {gpu.detail}")
        # Torch that was made for CUDA cannot make an array without a GPU; scikit-learn skips only some such checks.
        given = str(getattr(check, "keywords", {}))
        if "torch" in given and "cuda" in given and not _cuda_of_torch():
            pytest.skip("PyTorch test requires cuda")
        check(estimator)

else:

    def test_all_checks_pass_with_the_array_api(tmp_path: Path) -> None:
        report = tmp_path / "report.xml"
        source = str(Path(fullbatch.__file__).parents[1])
        command = [sys.executable, "-m", "pytest", __file__, "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        env = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": source}
        run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout[-4000:]
        cases = list(ElementTree.parse(report).iter("testcase"))
        skipped = {case.get("name", ""): child.get("message", "") for case in cases for child in case.iter("skipped")}
        passed = {case.get("name", "") for case in cases} - set(skipped)
        unexpected = {name: why for name, why in skipped.items() if not any(word in why for word in SKIPPED)}
        assert not unexpected
        assert len(passed) >= 200
        for estimator in ("MLPClassifier", "MLPRegressor", "LogisticRegression"):
            mine = {name for name in passed if estimator in name}
            for device in ("CPU_DEVICE", "device1"):
                assert any("array_api_input" in name and device in name for name in mine)
            assert any("array_api_same_namespace" in name for name in mine)
            assert any("sample_weight_equivalence_on_sparse_data" in name for name in mine)
