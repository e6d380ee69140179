"""scikit-learn's estimators over the fold."""

from fullbatch.estimators.classification import LogisticRegression, MLPClassifier, MLPRegressor

__all__ = ["LogisticRegression", "MLPClassifier", "MLPRegressor"]
