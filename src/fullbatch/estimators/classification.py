"""MLPClassifier and LogisticRegression: scikit-learn's classifiers over the fold.

Constructors, fitted attributes and messages are scikit-learn's where the meaning is the same. New are activations by
``Network``'s names, one for each hidden layer or a pair of functions (g, g'); ``solver="gd"``; ``batch_size="full"``;
``learning_rate="linear"``; ``dropout``, ``class_weight``, ``scoring``, ``retrain``, ``device``, ``device_memory``,
``precision``, ``n_jobs``; held-out examples given to ``fit``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from fullbatch.core.classes import log_probabilities, probabilities
from fullbatch.core.network import Network
from fullbatch.docstrings import described
from fullbatch.estimators.base import HIDDEN_CONSTRAINTS, BaseNetwork, can_step
from fullbatch.estimators.descriptions import ATTRIBUTES, FIT, PARAMETERS
from fullbatch.estimators.inputs import (
    Inputs,
    encode,
    encode_as,
    is_multilabel,
    labels_at,
    on_host,
    read_target,
)
from fullbatch.estimators.job import Target
from fullbatch.machine import arrays


class _Classifier(ClassifierMixin, BaseNetwork):
    """Labels, codes and probabilities."""

    @described(FIT)
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        resume: Any = None,
    ) -> Any:
        """Learn from rows X and their labels y.

        Parameters
        ----------
        y : array-like (m,), or indicators (m, k)
            One label for each row, numbers, texts or booleans; or 0 and 1 for each of k labels, of which a row may have
            several.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For input that cannot be used (NaN and infinity with row and column), and for a training that diverges.

        Notes
        -----
        Ctrl-C ends the training with a warning and keeps the model so far.
        """
        return self._fit(X, y, sample_weight, held_out=(X_val, y_val, sample_weight_val), resume=resume)

    @available_if(can_step)
    @described(FIT)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """Learn from some rows, for one epoch; the optimiser goes on where the last call left it.

        Parameters
        ----------
        y : array-like (m,), or indicators (m, k)
            Their labels, as in ``fit``.

        Returns
        -------
        self

        Raises
        ------
        AttributeError
            Where ``solver`` does not learn from one batch at a time: L-BFGS.
        ValueError
            As ``fit``; and where ``classes`` are missing in the first call, or others in a later one.
        """
        given = None
        if classes is not None:
            given = np.unique(np.asarray(on_host("classes", classes)))
        if not hasattr(self, "classes_"):
            if given is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self.classes_ = given
        elif given is not None and not np.array_equal(self.classes_, given):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes_!r}"
            )
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Any:
        """The most probable class of each row.

        Parameters
        ----------
        X : as in fit (m, n)

        Returns
        -------
        array (m,), or (m, k)
            Labels; indicators where y had several labels at once. They are of X's library where it has a dtype for
            them, else NumPy's: text, and integers beyond 32 bits in JAX without x64.
        """
        codes, inputs = self._forward(X, "predict", self._decide)
        if self._multilabel:
            return codes.T
        labels = None if inputs.away else labels_at(inputs.home, self.classes_)
        if labels is None:
            return self.classes_.take(arrays.to_host(codes))
        with inputs.home.computing():
            return arrays.namespace(codes).take(labels, codes)

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class.

        Parameters
        ----------
        X : as in fit (m, n)

        Returns
        -------
        array (m, k)
            In the order of ``classes_``; of indicators, that of each label.
        """
        return self._forward(X, "predict_proba", self._probabilities)[0].T

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithm of ``predict_proba``, computed without a detour over it, so that it stays finite.

        Parameters
        ----------
        X : as in fit (m, n)

        Returns
        -------
        array (m, k)
        """
        return self._forward(X, "predict_log_proba", self._log_probabilities, scores=True)[0].T

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of rows whose prediction is right: of all their labels, where there are several.

        Parameters
        ----------
        X : as in fit (m, n)
        y : as in fit
            The true labels.
        sample_weight : array-like (m,) or None, default=None
            What each row counts.

        Returns
        -------
        float
            Between 0 and 1.
        """
        y, sample_weight = on_host("y", y), on_host("sample_weight", sample_weight)
        return float(accuracy_score(y, arrays.to_host(self.predict(X)), sample_weight=sample_weight))

    @property
    def _multilabel(self) -> bool:
        return self.out_activation_ == "logistic" and self.n_outputs_ > 1

    def _decide(self, yhat: Any) -> Any:
        """Codes (k,), or indicators (n[L], k), of yhat (n[L], k)."""
        xp = arrays.namespace(yhat)
        if self.out_activation_ == "softmax":
            return xp.argmax(yhat, axis=0)
        ones = xp.astype(yhat > 0.5, arrays.default_integer(yhat))
        if self._multilabel:
            return ones
        return ones[0, :] if len(self.classes_) > 1 else 0 * ones[0, :]

    def _probabilities(self, yhat: Any) -> Any:
        one_class = len(self.classes_) == 1 and not self._multilabel
        return arrays.namespace(yhat).ones_like(yhat) if one_class else probabilities(yhat)

    def _log_probabilities(self, Z: Any) -> Any:
        one_class = len(self.classes_) == 1 and not self._multilabel
        if one_class:
            return arrays.namespace(Z).zeros_like(Z)
        return log_probabilities(Z, softmax=self.out_activation_ == "softmax")

    def _read_y(self, y: Any, m: int, incremental: bool) -> Target:
        y = read_target(self, y, m)
        multilabel = is_multilabel(y)
        if multilabel:
            found, values = np.arange(y.shape[1]), y
        elif hasattr(self, "classes_") and (self.warm_start or incremental):
            found, values = encode_as(y, self.classes_)
        else:
            found, values = encode(y)
        self._set_classes(found, incremental)
        k = len(self.classes_)
        if multilabel:
            return Target(values, 0, k, "logistic")
        return Target(values, max(k, 2), 1 if k <= 2 else k, "logistic" if k <= 2 else "softmax")

    def _set_classes(self, found: np.ndarray, incremental: bool) -> None:
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self.classes_ = found
        elif self.warm_start and set(found.tolist()) != set(self.classes_.tolist()):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {found}"
            )
        elif not set(found.tolist()) <= set(self.classes_.tolist()):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {found}."
            )

    def _read_held_out_y(self, y: Any, m: int) -> np.ndarray:
        y = read_target(self, y, m)
        if is_multilabel(y):
            return y
        found, values = encode_as(y, self.classes_)
        unknown = set(found.tolist()) - set(self.classes_.tolist())
        if unknown:
            raise ValueError(f"y_val has classes that y has not: {sorted(unknown, key=str)}.")
        return values

    def _weigh_classes(self, target: Target, weight: np.ndarray | None, incremental: bool) -> np.ndarray | None:
        """The example weights times the weights of their classes."""
        if self.class_weight is None:
            return weight
        if not target.classes:
            raise ValueError("class_weight needs one label for each example; here y has several.")
        if self.class_weight == "balanced" and incremental:
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which sees no whole; give a dict."
            )
        k, codes = len(self.classes_), target.values
        by_class = self._weight_of_classes(lambda: np.bincount(codes, weights=weight, minlength=k))
        dtype = np.float64 if weight is None else weight.dtype
        with arrays.quiet():
            by_example = by_class.astype(dtype)[codes] * (1 if weight is None else weight)
        if not np.isfinite(by_example).all():
            raise ValueError(f"class_weight is too large for {np.dtype(dtype)}: {self.class_weight}.")
        if not by_example.any():
            beside = "" if weight is None else " together with sample_weight"
            raise ValueError(f"class_weight{beside} gives every example a weight of 0; one class must have another.")
        return by_example

    def _weight_of_classes(self, totals: Callable[[], np.ndarray]) -> np.ndarray:
        """What multiplies the weight of a row of each class; ``totals`` gives what all rows of each weigh."""
        if self.class_weight != "balanced":
            return given_weights(self.class_weight, self.classes_.tolist())
        counts = totals()
        return counts.sum() / (len(counts) * np.where(counts > 0, counts, np.inf))

    def _finish_score(self, yhat: Any) -> Any:
        return self._decide(yhat)

    def _score_of(self, target: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None) -> float:
        return float(accuracy_score(target, predicted, sample_weight=weight))


def given_weights(class_weight: dict[Any, Any], labels: list[Any]) -> np.ndarray:
    """The weight of each label; 1 for one that has none.

    A label that y lacks is ignored, since a fold of a cross-validation may lack a class. Where a label of y has no
    weight besides, the two are taken for a slip of the pen, as scikit-learn does.
    """
    unknown = [label for label in class_weight if label not in labels]
    missing = [label for label in labels if label not in class_weight]
    if unknown and missing:
        raise ValueError(f"class_weight has {unknown}, which y has not, and no weight for {missing}, which y has.")
    for label, value in class_weight.items():
        if not isinstance(value, Real) or not 0 <= float(value) < math.inf:
            raise ValueError(f"class_weight must be finite numbers of at least 0; that of {label!r} is {value!r}.")
    return np.array([float(class_weight.get(label, 1.0)) for label in labels])


@described(PARAMETERS, ATTRIBUTES)
class MLPClassifier(_Classifier):
    """A network for classification: cross-entropy of one sigmoid unit, of softmax, or of a sigmoid unit per label.

    Names, defaults and attributes are those of scikit-learn's class of this name, and so is the path of a training with
    the same ``random_state``. New are ``class_weight``, ``scoring``, ``device``, ``device_memory``, ``precision``,
    ``n_jobs``, more activations, the solver "gd", ``batch_size="full"`` and ``learning_rate="linear"``.

    Attributes
    ----------
    classes_ : array (k,)
        The labels, sorted.

    See Also
    --------
    TableClassifier : The same of raw tables, with texts, categories, dates and gaps.
    LogisticRegression : The same without hidden layers.

    Notes
    -----
    What is minimised is J = (1/m) sum_i s_i L_i + (alpha / 2m) sum ||W||^2, where m is the sum of the weights s_i: N4
    and N12 of the documentation's page "Arrays and the pass".

    Examples
    --------
    >>> import fullbatch as fb
    >>> X = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    >>> y = ["same", "other", "other", "same"]
    >>> model = fb.MLPClassifier((4,), "tanh", solver="lbfgs", alpha=0.0, random_state=0).fit(X, y)
    >>> model.predict(X).tolist()
    ['same', 'other', 'other', 'same']
    >>> model.predict_proba(X).shape, model.classes_.tolist()
    ((4, 2), ['other', 'same'])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseNetwork._parameter_constraints,
        **HIDDEN_CONSTRAINTS,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        class_weight: Any = None,
        dropout: Any = 0.0,
        scoring: str | None = None,
        retrain: bool = False,
        device: str = "auto",
        device_memory: float | None = None,
        precision: str | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self._keep(locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@described(PARAMETERS, ATTRIBUTES)
class LogisticRegression(_Classifier):
    """Logistic regression: the same network without a hidden layer (N8), one sigmoid unit or softmax, started at zero.

    Names, defaults and attributes are those of scikit-learn's class of this name. What the latter has not is as in
    ``MLPClassifier``: solvers by mini-batches, ``device`` and their kin. With ``l1_ratio`` the cost is that of the
    elastic net, and L-BFGS minimises it exactly, as W = U - V with U and V of at least 0: weights become 0, not nearly.

    Attributes
    ----------
    classes_ : array (k,)
        The labels, sorted.
    coef_ : array (1, n), or (k, n)
        W: one row for two classes.
    intercept_ : array (1,), or (k,)
        b.
    n_iter_ : array of int (1,)
        Iterations, or epochs, that were run.

    See Also
    --------
    MLPClassifier : The same with hidden layers.

    Examples
    --------
    >>> import fullbatch as fb
    >>> model = fb.LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"])
    >>> model.predict([[-1.0], [4.0]]).tolist()
    ['no', 'yes']
    >>> X = [[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]]
    >>> fb.LogisticRegression(l1_ratio=1).fit(X, [0, 0, 1, 1]).coef_[0, 1].item()  # the L1 norm: of no use, so 0
    0.0
    >>> model.coef_.shape, bool(model.decision_function([[4.0]])[0] > 0)
    ((1, 1), True)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseNetwork._parameter_constraints,
        "C": [Interval(Real, 0, None, closed="right")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: Any = None,
        random_state: Any = None,
        solver: str = "lbfgs",
        max_iter: int = 100,
        verbose: Any = 0,
        warm_start: bool = False,
        n_jobs: int | None = None,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        shuffle: bool = True,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        scoring: str | None = None,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        device: str = "auto",
        device_memory: float | None = None,
        precision: str | None = None,
    ) -> None:
        self._keep(locals())

    @property
    def coef_(self) -> Any:
        """(1, n) for two classes, else (k, n)."""
        return self.coefs_[0].T

    @property
    def intercept_(self) -> Any:
        """(1,) for two classes, else (k,)."""
        return self.intercepts_[0]

    def decision_function(self, X: Any) -> Any:
        """Z, the pre-activation of the output units.

        Parameters
        ----------
        X : as in fit (m, n)

        Returns
        -------
        array (m,), or (m, k)
            For two classes the logarithm of the odds of the second one, above 0 where it is predicted.
        """
        Z = self._forward(X, "decision_function", scores=True)[0]
        return Z[0, :] if Z.shape[0] == 1 else Z.T

    def _l2(self) -> float:
        return (1 - float(self.l1_ratio)) / float(self.C)

    def _l1(self) -> float:
        return float(self.l1_ratio) / float(self.C)

    def _check_together(self, incremental: bool) -> None:
        super()._check_together(incremental)
        if self.l1_ratio > 0 and self.solver != "lbfgs":
            raise ValueError(
                f"l1_ratio={self.l1_ratio} needs solver='lbfgs'; solver={self.solver!r} knows L2 alone, l1_ratio=0."
            )

    def _hidden_sizes(self) -> list[int]:
        return []

    def _dropout(self, layers: int, rng: np.random.RandomState) -> None:
        return None

    def _activation(self) -> Any:
        return "identity"  # there is no hidden layer that would use it

    def _has_intercept(self) -> bool:
        return bool(self.fit_intercept)

    def _initial(self, network: Network, rng: np.random.RandomState) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(np.zeros((network.sizes[0], network.sizes[1])), np.zeros(network.sizes[1]))]

    def _limits(self) -> dict[str, Any]:
        """As scikit-learn's logistic regression has them: float32 needs more tries along a line than SciPy gives it."""
        return {**super()._limits(), "flat": 64 * 2.0**-52, "max_tries": 50}

    def _outcome(self, theta: Any, inputs: Inputs, iterations: int) -> dict[str, Any]:
        as_array = inputs.home.put(np.array([iterations], dtype=np.int32))  # as scikit-learn has it
        return {**super()._outcome(theta, inputs, iterations), "n_iter_": as_array}
