"""What ``fit`` does once the estimators have said what they are: checks, the loop, the fitted attributes.

``BaseNetwork`` is their common base. Here examples are rows and the names are scikit-learn's: X (m, n), ``coefs_[l]``
(n[l], n[l+1]) is W[l+1]^T, ``intercepts_[l]`` (n[l+1],) is b[l+1]. The fitted attributes and the order in which random
numbers are drawn follow scikit-learn 1.9, so that the same ``random_state`` gives the same training.
"""

from __future__ import annotations

import copy
import logging
import math
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache, partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackContext, CallbackSupportMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from fullbatch.core.activations import ACTIVATIONS, SCIKIT_LEARNS
from fullbatch.core.dropout import Dropout, rates_of
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, flatten, unflatten
from fullbatch.errors import check_sizes_of_numbers
from fullbatch.estimators import lbfgs
from fullbatch.estimators.descent import descend, is_finite, said_of_order
from fullbatch.estimators.inputs import Inputs, read_inputs, read_plain, read_weight
from fullbatch.estimators.job import HeldOut, Job, Part, Target, beside, part, split
from fullbatch.estimators.needs import check_memory
from fullbatch.estimators.record import Record
from fullbatch.estimators.stored import read_store
from fullbatch.fold.few import FEW, predict_few
from fullbatch.fold.fold import Fold
from fullbatch.machine import arrays, places
from fullbatch.machine.threads import of_jobs
from fullbatch.sources import Dense
from fullbatch.sources.sharded import ShardedTable
from fullbatch.sources.spread import Spread
from fullbatch.sources.stored import Store
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import OPTIMIZERS
from fullbatch.training.retraining import most_epochs

logger = logging.getLogger("fullbatch")  # silent, unless its user says otherwise

HIDDEN_CONSTRAINTS: dict[str, list[Any]] = {  # of the estimators that have hidden layers
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions({"logistic", *map(str, ACTIVATIONS)}), tuple, list],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
}


def can_step(estimator: Any) -> bool:
    """Whether its solver learns from one batch at a time, so that partial_fit can; an AttributeError if not."""
    if estimator.solver not in OPTIMIZERS:
        raise AttributeError(
            f"partial_fit needs a solver that learns from one batch at a time ({', '.join(OPTIMIZERS)}); "
            f"solver={estimator.solver!r} does not."
        )
    return True


@lru_cache(maxsize=64)
def _named_network(sizes: tuple[int, ...], activation: str, output: str) -> Network:
    """A network is made once, not for each row that is asked for."""
    return Network(sizes, activation, output)


class BaseNetwork(CallbackSupportMixin, BaseEstimator):
    """What the three estimators share. A subclass reads y, and may say what L2, hidden layers and start are."""

    retrain = False  # a logistic regression has no such parameter
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "solver": [StrOptions({"lbfgs", *OPTIMIZERS})],
        "batch_size": [StrOptions({"auto", "full"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive", "linear"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "retrain": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "scoring": [StrOptions({"loss"}), None],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "device_memory": [Interval(Real, 0, None, closed="neither"), None],
        "precision": [StrOptions({"tf32"}), None],
        "n_jobs": [Integral, None],
    }

    def _validate_params(self) -> None:
        """What scikit-learn asks before each fit: its constraints let whole numbers of any size through."""
        super()._validate_params()
        check_sizes_of_numbers(self.get_params(deep=False))

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Set the constructor's arguments as attributes, as they are."""
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    # What a subclass may say

    def _l2(self) -> float:
        return float(self.alpha)

    def _dropout(self, layers: int, rng: np.random.RandomState) -> Dropout | None:
        """What the training leaves out of so many hidden layers; None for nothing. ValueError.

        Its seed is drawn from a copy of rng: weights and orders stay those of a training without it.
        """
        rates = rates_of(self.dropout, layers)
        if not rates:
            return None
        if self.solver == "lbfgs":
            raise ValueError(
                "dropout is not for solver='lbfgs', whose objective must not change from one evaluation to the next; "
                "use 'adam', 'sgd' or 'gd', or dropout=0."
            )
        return Dropout(rates, int(copy.deepcopy(rng).randint(2**63)))

    def _l1(self) -> float:
        """What the L1 norm of the weights is multiplied by, as L2 is; L-BFGS alone takes it."""
        return 0.0

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _activation(self) -> Any:
        """The hidden activation as ``Network`` takes it."""
        spec = self.activation
        if isinstance(spec, str):
            return SCIKIT_LEARNS.get(spec, spec)
        if all(callable(function) for function in spec):
            return tuple(spec)
        return [SCIKIT_LEARNS.get(one, one) if isinstance(one, str) else one for one in spec]

    def _has_intercept(self) -> bool:
        return True

    def _initial(self, network: Network, rng: np.random.RandomState) -> list[tuple[np.ndarray, np.ndarray]]:
        """W^T (n[l-1], n[l]) and b (n[l],) of each layer, as scikit-learn draws them: Glorot's bound, biases too."""
        names = [activation.name for activation in network.activations]
        names += names[-1:] or [None]  # the output layer is drawn like the last hidden one
        layers = []
        for fan_in, fan_out, name in zip(network.sizes[:-1], network.sizes[1:], names, strict=True):
            bound = math.sqrt((2 if name == "sigmoid" else 6) / (fan_in + fan_out))
            layers.append((rng.uniform(-bound, bound, (fan_in, fan_out)), rng.uniform(-bound, bound, fan_out)))
        return layers

    def _read_y(self, y: Any, m: int, incremental: bool) -> Target:
        raise NotImplementedError

    def _read_held_out_y(self, y: Any, m: int) -> np.ndarray:
        raise NotImplementedError

    def _weigh_classes(self, target: Target, weight: np.ndarray | None, incremental: bool) -> np.ndarray | None:
        return weight

    def _loss(self) -> dict[str, Any]:
        """Loss and quantile as ``Network`` takes them; nothing: the output unit's own."""
        return {}

    def _loss_offset(self, part: Part) -> float:
        return 0.0

    def _finish_score(self, yhat: Any) -> Any:
        """What of yhat (n[L], k) the early-stopping score needs."""
        return yhat

    def _score_of(self, target: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None) -> float:
        raise NotImplementedError

    def _check_together(self, incremental: bool) -> None:
        """ValueError for parameters of which each is one, but not beside the others."""
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if not self.retrain:
            return
        if not self.early_stopping or self.learning_rate != "linear" or self.solver not in OPTIMIZERS:
            raise ValueError(
                "retrain=True trains once more, for as long as early stopping found best, with a rate that falls to "
                "zero: it needs early_stopping=True, learning_rate='linear' and a solver that goes by epochs "
                f"({', '.join(OPTIMIZERS)})."
            )
        if self.warm_start:
            raise ValueError("retrain=True begins anew, and warm_start=True does not: choose one of them.")

    # Fit

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        held_out: tuple[Any, Any, Any] = (None, None, None),
        resume: Any = None,
        incremental: bool = False,
    ) -> Any:
        self._check_together(incremental)
        record = Record(self, resume, incremental)
        first = resume is not None or not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        hidden = self._hidden_sizes()
        dtype = record.dtype if first else arrays.dtype_name(self.coefs_[0])
        known: dict[str, Any] = {"first": first, "dtype": dtype, "record": record}
        if isinstance(X, (Store, ShardedTable)):
            inputs, target, train, test = read_store(self, X, (y, sample_weight, *held_out), **known)
        else:
            inputs, target, train, test = self._read(X, y, sample_weight, held_out, incremental, **known)
        with inputs.place.computing():
            record.check()
            rng = record.random_state(check_random_state(self.random_state))
            dropout = self._dropout(len(hidden), rng)
            network = Network(
                [inputs.X.n, *hidden, target.outputs],
                self._activation(),
                SCIKIT_LEARNS.get(target.activation, target.activation),
                **self._loss(),
            )
            self._said_of_memory = check_memory(self, network, inputs, (train, test), kept=bool(record.keepers))
            self._prepare(first, network, target, inputs, rng)
            record.restore(inputs)
            if test is None and self.early_stopping and self.solver in OPTIMIZERS:
                train, test = split(train, target, self.validation_fraction, rng)
            metadata = None if sample_weight is None else {"sample_weight": sample_weight}
            hooks = {"estimator": self, "X": X, "y": y, "metadata": metadata}
            context = self._init_callback_context(max_subtasks=1 if incremental else self._most_epochs())
            context.call_on_fit_task_begin(**hooks)
            with ExitStack() as folds:
                job = self._job(network, inputs, train, test, folds, context, hooks, dropout, record.generator)
                logger.info("%s: %s on %s rows begins", type(self).__name__, self.solver, job.m)
                ordered = said_of_order(self, job)
                theta = self._minimize(job, rng, incremental, record)
                self.note_ = "; ".join(filter(None, (ordered, job.note)))
                self._conclude(theta, inputs)
                logger.info("%s: the %s step on %s ended", type(self).__name__, self.step_, self.device_)
            context.call_on_fit_task_end(**hooks, reconstruction_attributes=dict)
            del self._said_of_memory
        return self

    def _read(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        held_out: tuple[Any, Any, Any],
        incremental: bool,
        *,
        first: bool,
        dtype: str | None,
        record: Record,
    ) -> tuple[Inputs, Target, Part, Part | None]:
        """The inputs, the target, and the examples to learn from and, where they are given, to score."""
        inputs = read_inputs(self, X, reset=first, dtype=dtype)
        with inputs.place.computing():
            budget = inputs.place.budget(self.device_memory)
            target = self._read_y(y, inputs.X.m, incremental)
            weight = read_weight(sample_weight, inputs.X.m, inputs.dtype)
            record.take_data("", inputs, target.values, weight)
            weight = self._weigh_classes(target, weight, incremental)
            inputs = beside(inputs, budget, target.values, target.classes, weight)
            test, inputs = self._read_held_out(held_out, inputs, target, record)
            return inputs, target, part(inputs, target.values, target.classes, weight), test

    def _read_held_out(
        self, held_out: tuple[Any, Any, Any], inputs: Inputs, target: Target, record: Record
    ) -> tuple[Part | None, Inputs]:
        """The held-out examples, if there are some, and the inputs with the budget that these leave."""
        X, y, sample_weight = held_out
        if X is None:
            if y is not None or sample_weight is not None:
                raise ValueError("y_val and sample_weight_val belong to X_val, which is missing.")
            return None, inputs
        own = read_inputs(self, X, reset=False, dtype=inputs.dtype)
        if own.place.name != inputs.place.name:
            raise ValueError(f"X is on {inputs.place.name} and X_val on {own.place.name}; put both in one place.")
        values = self._read_held_out_y(y, own.X.m)
        if values.shape[1:] != target.values.shape[1:]:
            raise ValueError(f"y has shape {target.values.shape} and y_val {values.shape}; each needs as many outputs.")
        weight = read_weight(sample_weight, own.X.m, own.dtype)
        record.take_data("_val", own, values, weight)
        own = beside(own, inputs.budget, values, target.classes, weight)
        return part(own, values, target.classes, weight), replace(inputs, budget=own.budget)

    def _prepare(
        self, first: bool, network: Network, target: Target, inputs: Inputs, rng: np.random.RandomState
    ) -> None:
        """The attributes that a training starts from: fresh ones, or those of the last call."""
        if first:
            self._draw(network, inputs, rng)
            self.t_ = 0
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self.best_loss_: float | None = None
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_: float | None = None
            self.validation_costs_: list[float] | None = None
        else:
            self._check_unchanged(network, target)
        self.n_iter_: Any = 0
        self.retraining_: list[int] | None = None
        self.n_layers_ = len(network.sizes)
        self.n_outputs_ = target.outputs
        self.out_activation_ = target.activation
        self.device_ = inputs.X.device if isinstance(inputs.X, Spread) else inputs.place.name

    def _draw(self, network: Network, inputs: Inputs, rng: np.random.RandomState) -> None:
        """Parameters to begin with, where the caller's table lies."""
        layers, put = self._initial(network, rng), inputs.home.put
        self.coefs_ = [put(W.astype(inputs.dtype)) for W, _ in layers]
        self.intercepts_ = [put(b.astype(inputs.dtype)) for _, b in layers]

    def _anew(self, network: Network, inputs: Inputs, generator: Any) -> Any:
        """The parameters that this fit began with, drawn again."""
        rng = np.random.RandomState()
        rng.set_state(generator)
        self._draw(network, inputs, rng)
        return self._theta(inputs)

    def _check_unchanged(self, network: Network, target: Target) -> None:
        """What a warm start and partial_fit cannot change; number of features and classes are checked before."""
        changed = ""
        if (sizes := self._sizes()) != network.sizes:
            changed = f"layers of {sizes} units, and data and hidden_layer_sizes ask for {network.sizes}"
        elif self.out_activation_ != target.activation:
            changed = f"the output unit {self.out_activation_!r}, and y and the loss ask for {target.activation!r}"
        if changed:
            raise ValueError(
                f"the model has {changed}: a warm start and partial_fit cannot change that. Fit with warm_start=False."
            )

    def _job(
        self,
        network: Network,
        inputs: Inputs,
        train: Part,
        test: Part | None,
        folds: ExitStack,
        context: CallbackContext,
        hooks: dict[str, Any],
        dropout: Dropout | None,
        generator: Any,
    ) -> Job:
        threads = self._threads()
        budget = math.inf if self.device_memory is None else inputs.budget
        limits: dict[str, Any] = {"precision": self.precision, "threads": threads}
        held_out = None
        if test is not None:  # both folds keep their arrays as long as the training lasts
            budget /= 2
            cost = folds.enter_context(Objective(network, test.examples, budget=budget, **limits))
            held_out = HeldOut(cost, test.target, test.weight, self._loss_offset(test))
        objective = folds.enter_context(
            Objective(
                network,
                train.examples,
                l2=self._l2(),
                intercept=self._has_intercept(),
                budget=budget,
                dropout=dropout,
                **limits,
            )
        )
        self.step_, self.precision_ = objective.fold.step_name, objective.fold.precision
        offset = self._loss_offset(train)

        def weights_of(theta: Any) -> dict[str, Any]:
            return self._weights(theta, inputs)

        def views_of(theta: Any) -> dict[str, Any]:
            params = unflatten(theta, network.sizes)
            return {"coefs_": [W.T for W, _ in params], "intercepts_": [b[:, 0] for _, b in params]}

        def start() -> Any:
            return self._theta(inputs)

        anew = partial(self._anew, network, inputs, generator)
        return Job(
            objective, offset, inputs, train.examples.m, start, anew, held_out, weights_of, views_of, context, hooks
        )  # fmt: skip

    def _minimize(self, job: Job, rng: np.random.RandomState, incremental: bool, record: Record) -> Any:
        """Train by the solver: theta."""
        record.begin(job)
        if self.solver in OPTIMIZERS:
            return descend(self, job, rng, incremental, record)
        return lbfgs.minimize(self, job, record)

    def _conclude(self, theta: Any, inputs: Inputs) -> None:
        if not is_finite(theta):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                f"preprocessed. It happened in iteration {max(self.n_iter_, 1)} of {self.solver}; where the data is "
                f"scaled, a smaller learning_rate_init than {self.learning_rate_init} helps."
            )
        self.__dict__.update(self._outcome(theta, inputs, self.n_iter_))

    def _outcome(self, theta: Any, inputs: Inputs, iterations: int) -> dict[str, Any]:
        """The fitted attributes that a training leaves after so many iterations."""
        return {**self._weights(theta, inputs), "n_iter_": iterations}

    def _most_epochs(self) -> int:
        return most_epochs(self.max_iter) if self.retrain else int(self.max_iter)

    def _limits(self) -> dict[str, Any]:
        """Where L-BFGS stops, as scikit-learn's MLP has it."""
        return {"max_iter": self.max_iter, "max_fun": self.max_fun, "tol": self.tol}

    # Parameters as attributes, and back

    def _sizes(self) -> tuple[int, ...]:
        return (int(self.coefs_[0].shape[0]), *(int(coef.shape[1]) for coef in self.coefs_))

    def _weights(self, theta: Any, inputs: Inputs) -> dict[str, Any]:
        """``coefs_`` and ``intercepts_``: copies, where the caller's table lies."""
        on_host = inputs.away or arrays.is_numpy(theta)
        params = unflatten(arrays.to_host(theta) if on_host else theta, self._sizes())

        def home(array: Any) -> Any:
            return np.array(array, order="C") if on_host else arrays.namespace(array).asarray(array, copy=True)

        return {"coefs_": [home(W.T) for W, _ in params], "intercepts_": [home(b[:, 0]) for _, b in params]}

    def _theta(self, inputs: Inputs) -> Any:
        """The fitted attributes as one vector, where the passes run and in their dtype."""
        there = not arrays.is_numpy(self.coefs_[0]) and not inputs.away
        layers = [
            Layer(*((W.T, b) if there else (arrays.to_host(W).T, arrays.to_host(b))))
            for W, b in zip(self.coefs_, self.intercepts_, strict=True)
        ]
        theta = flatten(tuple(layers))
        xp = arrays.namespace(theta)
        theta = xp.astype(theta, getattr(xp, inputs.dtype), copy=False)
        return theta if there else inputs.place.put(theta)

    # The forward pass

    def _forward(self, X: Any, method: str, finish: Any = None, *, scores: bool = False) -> tuple[Any, Inputs]:
        """What ``finish`` makes of yhat (n[L], m), or of Z[L] if ``scores``, where the caller's X lies."""
        if not hasattr(self, "coefs_"):
            check_is_fitted(self, "coefs_")  # which raises; to ask it takes longer than to predict a row
        inputs = read_plain(self, X) or read_inputs(self, X, reset=False, while_read=True)
        self._check_same_place(inputs, method)
        network = self._network(scores=scores)

        def made(block: Any) -> Any:
            block = block if finish is None else finish(block)
            return arrays.to_host(block) if inputs.away else block

        if isinstance(inputs.X, Dense) and inputs.X.m <= FEW and arrays.is_numpy(inputs.X.like):
            yhat = predict_few(network, lambda: self._theta(inputs), inputs.X.array)
            if yhat is not None:
                return made(yhat), inputs
        budget = math.inf if self.device_memory is None else inputs.place.budget(self.device_memory)
        with inputs.place.computing(), Fold(network, inputs.X, threads=self._threads(), budget=budget) as fold:
            return fold.predict(self._theta(inputs), made), inputs

    def _network(self, *, scores: bool = False) -> Network:
        """The fitted network; with ``scores`` the one whose yhat is Z[L] itself."""
        output = "identity" if scores else SCIKIT_LEARNS.get(self.out_activation_, self.out_activation_)
        activation = self._activation()
        return (_named_network if isinstance(activation, str) else Network)(self._sizes(), activation, output)

    def _check_same_place(self, inputs: Inputs, method: str) -> None:
        fitted = places.place_of(self.coefs_[0])
        if fitted.name != inputs.home.name:
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace and the same device as "
                f"those passed to fit(): the model was fitted on {fitted.name} and X is on {inputs.home.name}. Move X "
                "there, or fit again."
            )

    def _threads(self) -> int | None:
        return of_jobs(self.n_jobs)

    # Copies and pickles

    def __copy__(self) -> Any:
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        new = type(self).__new__(type(self))
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def __getstate__(self) -> dict[str, Any]:
        """Everything, device arrays brought to the host: a model fitted on a GPU loads on a machine without one."""
        return {name: arrays.moved(value, arrays.to_host) for name, value in super().__getstate__().items()}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags
