"""MLPClassifier and LogisticRegression: scikit-learn's classifiers over the fold.

Constructors, fitted attributes and messages are scikit-learn's where the meaning is the same. New are activations by
``Network``'s names, one for each hidden layer or a pair of functions (g, g'); ``solver="gd"``; ``batch_size="full"``;
``learning_rate="linear"``; ``class_weight``, ``scoring``, ``device``, ``device_memory``, ``precision``, ``n_jobs``;
held-out examples given to ``fit``.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from fullbatch.core.classes import log_probabilities, probabilities
from fullbatch.core.network import Network
from fullbatch.estimators.base import HIDDEN_CONSTRAINTS, BaseNetwork, can_step
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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        resume: Any = None,
    ) -> Any:
        """Learn from X (m, n) and labels y (m,), or indicators (m, k) of several labels at once.

        X : an array, a data frame, an Arrow table, a sparse matrix, or a ``fullbatch.sources.Columns``; integers, and
            whatever else is not float32, are made float64
        sample_weight : (m,), not negative; weight 2 is the same as the example twice
        X_val, y_val, sample_weight_val : held-out examples. Their cost after each epoch goes to ``validation_costs_``,
            and ``early_stopping`` scores them instead of rows that it splits off
        resume : a ``fullbatch.Checkpoint``, whose training goes on to the same bits: with the same data and parameters;
            ``max_iter`` may grow

        Raises ValueError for input that cannot be used (NaN and infinity with row and column) and for a training that
        diverges. Ctrl-C ends the training with a warning and keeps the model so far.
        """
        return self._fit(X, y, sample_weight, held_out=(X_val, y_val, sample_weight_val), resume=resume)

    @available_if(can_step)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """One epoch over these examples; the optimiser goes on where the last call left it.

        classes : all labels that any call will have; needed in the first call
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
        """The most probable class of each row, (m,); indicators (m, k) where y had several labels at once.

        They are of X's library where it has a dtype for the labels, else NumPy's: text, and integers beyond 32 bits in
        JAX without x64.
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
        """The probability of each class, (m, k), in the order of ``classes_``."""
        return self._forward(X, "predict_proba", self._probabilities)[0].T

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithm of ``predict_proba``, computed without a detour over it, so that it stays finite."""
        return self._forward(X, "predict_log_proba", self._log_probabilities, scores=True)[0].T

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of rows whose prediction is right: of all their labels, where there are several."""
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
        k, codes = len(self.classes_), target.values
        if self.class_weight == "balanced":
            if incremental:
                raise ValueError(
                    "class_weight 'balanced' is not supported for partial_fit, which sees no whole; give a dict."
                )
            counts = np.bincount(codes, weights=weight, minlength=k)
            by_class = counts.sum() / (k * np.where(counts > 0, counts, np.inf))
        else:
            by_class = given_weights(self.class_weight, self.classes_.tolist())
        dtype = np.float64 if weight is None else weight.dtype
        with arrays.quiet():
            by_example = by_class.astype(dtype)[codes] * (1 if weight is None else weight)
        if not np.isfinite(by_example).all():
            raise ValueError(f"class_weight is too large for {np.dtype(dtype)}: {self.class_weight}.")
        if not by_example.any():
            beside = "" if weight is None else " together with sample_weight"
            raise ValueError(f"class_weight{beside} gives every example a weight of 0; one class must have another.")
        return by_example

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


class MLPClassifier(_Classifier):
    """A network for classification: cross-entropy of one sigmoid unit, of softmax, or of a sigmoid unit per label.

    The parameters are those of scikit-learn's class of this name, and these:

    hidden_layer_sizes : units of each hidden layer; () for none
    activation : tanh, sigmoid (or logistic), relu, leaky_relu, identity, gelu, silu; a pair of functions (g, g') of Z;
        or a list of these, one per hidden layer
    solver : "adam", "sgd", "lbfgs" or "gd": gradient descent by all examples at once (N6)
    batch_size : examples of a mini-batch, "auto" (at most 200), or "full"
    learning_rate : "constant", "invscaling", "adaptive" (both for sgd and gd), or "linear" (adam too): falls to zero,
        update by update, over ``max_iter`` epochs
    scoring : what ``early_stopping`` watches: None for the accuracy, "loss" for the held-out cost
    class_weight : {label: weight} or "balanced"; it multiplies ``sample_weight``
    device : where host input is computed: "auto" (a GPU where one works, else the CPU), "cpu", "cuda", "cuda:N"
    device_memory : the most that we may take of a GPU's memory: bytes, or a share of it up to 1; X that does not fit is
        streamed, with the same outcome
    precision : of the products in training: None for that of X's dtype, or "tf32": faster on a GPU, off by about 1e-3
    n_jobs : CPU threads; None for all cores, of which a worker of joblib's has its share

    Fitted attributes are those of scikit-learn's class, ``loss_curve_`` for every solver, and these:

    validation_costs_ : the cost of the held-out examples after each epoch; None where none were held out
    device_ : where the passes ran;  step_ : by which step of the fold;  precision_ : of the products there
    note_ : why the bits may differ from those of another training: the device's memory was short; else ""

    ``coefs_`` and ``intercepts_`` lie where X came from, in its library, device and dtype (float32 or float64).
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
        scoring: str | None = None,
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


class LogisticRegression(_Classifier):
    """Logistic regression: the same network without a hidden layer (N8), one sigmoid unit or softmax, started at zero.

    C : 1 / L2, as in scikit-learn's class of this name; infinite for no penalty. Parameters that the latter does not
    have are those of ``MLPClassifier``. Fitted attributes: ``coef_``, ``intercept_``, ``classes_``, ``n_iter_`` (1,),
    and those of ``MLPClassifier``.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseNetwork._parameter_constraints,
        "C": [Interval(Real, 0, None, closed="right")],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        *,
        C: float = 1.0,
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
        """Z: (m,) for two classes, the log of the odds; else (m, k)."""
        Z = self._forward(X, "decision_function", scores=True)[0]
        return Z[0, :] if Z.shape[0] == 1 else Z.T

    def _l2(self) -> float:
        return 0.0 if math.isinf(self.C) else 1 / float(self.C)

    def _hidden_sizes(self) -> list[int]:
        return []

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
