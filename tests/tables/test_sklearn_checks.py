"""scikit-learn's own checks of estimators, for those of tables: all but these, each for its reason."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fullbatch import TableClassifier, TableRegressor

FEW = {"hidden": (16,), "epochs": 200, "learning_rate": 0.02}
WEIGHTS = (
    "check_sample_weight_equivalence_on_dense_data",
    "other rows are held out, and columns are scaled by rows, not by weights, where rows are repeated",
)
QUANTITY = (
    "check_classifiers_regression_target",
    "TableClassifier is also `fullbatch train --task classify`, which makes a class of each number",
)
EXPECTED = {TableClassifier: dict([WEIGHTS, QUANTITY]), TableRegressor: dict([WEIGHTS])}


@parametrize_with_checks(
    [TableClassifier(**FEW), TableRegressor(**FEW)],
    expected_failed_checks=lambda estimator: EXPECTED[type(estimator)],
    xfail_strict=True,
)
@pytest.mark.filterwarnings("default")  # the checks try input that is to be warned of
def test_check(estimator: Any, check: Any) -> None:
    check(estimator)
