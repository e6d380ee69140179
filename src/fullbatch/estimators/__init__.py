"""scikit-learn's estimators over the fold."""

from fullbatch.estimators.classification import LogisticRegression, MLPClassifier
from fullbatch.estimators.regression import MLPRegressor

__all__ = ["LogisticRegression", "MLPClassifier", "MLPRegressor"]
