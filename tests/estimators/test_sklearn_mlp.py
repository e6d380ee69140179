"""The tests that scikit-learn ships for its own MLP, run with both classes replaced by ours.

In a process of its own, because the replacement is for the whole of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import fullbatch

# Tests that look at private attributes of scikit-learn's class, and so need not pass. Those that do pass: see below.
PRIVATE = {
    "test_fit", "test_gradient", "test_learning_rate_warmstart", "test_adaptive_learning_rate", "test_n_iter_no_change",
    "test_n_iter_no_change_inf",
}  # fmt: skip
# test_gradient calls _loss_grad_lbfgs with lists of buffers, of which there are none here; test_objective.py holds the
# gradients to central differences.
FAILING = {"test_gradient"}

RUNNER = """
    import sys
    import fullbatch
    import pytest
    import sklearn.neural_network as theirs
    theirs.MLPClassifier, theirs.MLPRegressor = fullbatch.MLPClassifier, fullbatch.MLPRegressor
    from sklearn.neural_network.tests import test_mlp
    assert test_mlp.MLPClassifier is fullbatch.MLPClassifier
    assert test_mlp.MLPRegressor is fullbatch.MLPRegressor
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--junitxml=report.xml", "--rootdir=.", test_mlp.__file__]))
"""


def test_scikit_learns_own_tests_pass(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(fullbatch.__file__).parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(RUNNER)]
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert run.returncode in (0, 1), run.stdout[-4000:] + run.stderr[-4000:]
    cases = list(ElementTree.parse(tmp_path / "report.xml").iter("testcase"))
    failed = [str(case.get("name")) for case in cases if any(child.tag in ("failure", "error") for child in case)]
    skipped = [case.get("name") for case in cases if any(child.tag == "skipped" for child in case)]
    assert [name for name in failed if name.split("[")[0] not in PRIVATE] == [], run.stdout[-4000:]
    assert set(failed) <= FAILING, run.stdout[-4000:]
    assert not skipped
    assert len(cases) - len(failed) >= 58
