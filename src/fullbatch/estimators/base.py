"""What ``fit`` does once the estimators have said what they are: checks, the loop, the fitted attributes.

``BaseNetwork`` is their common base. Here examples are rows and the names are scikit-learn's: X (m, n), ``coefs_[l]``
(n[l], n[l+1]) is W[l+1]^T, ``intercepts_[l]`` (n[l+1],) is b[l+1]. The fitted attributes and the order in which random
numbers are drawn follow scikit-learn 1.9, so that the same ``random_state`` gives the same training.
"""

from __future__ import annotations

import copy
import math
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackContext, CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from fullbatch.core.activations import ACTIVATIONS
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, Params, flatten, refuse_equal_units, restore
from fullbatch.estimators.inputs import Inputs, read_inputs, read_weight, target_bytes, target_columns
from fullbatch.estimators.solvers import HeldOut, Stepper, minimize, orders
from fullbatch.fold.fold import Fold
from fullbatch.machine import arrays, places
from fullbatch.machine.threads import thread_count
from fullbatch.sources import Examples, selected
from fullbatch.training import optimizers
from fullbatch.training.loop import NoImprovement, epochs
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import Optimizer

STEPPING = ("sgd", "adam", "gd")  # the solvers that learn from one batch at a time, so that partial_fit can
OUR_NAMES = {"logistic": "sigmoid"}  # by scikit-learn's, where they differ

HIDDEN_CONSTRAINTS: dict[str, list[Any]] = {  # of the estimators that have hidden layers
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions({"logistic", *map(str, ACTIVATIONS)}), tuple, list],
    "alpha": [Interval(Real, 0, None, closed="left")],
}


@dataclass(frozen=True)
class Target:
    """y as the training sees it.

    values : codes (m,), indicators (m, k) or numbers (m,) or (m, k), on the host
    classes : how many classes the codes have; 0 for what is not a code
    outputs : n[L];  activation : of the output unit, in scikit-learn's words
    """

    values: np.ndarray
    classes: int
    outputs: int
    activation: str


class Part(NamedTuple):
    """Examples to learn from or to score: as the passes see them, and target and weights once more on the host."""

    examples: Examples
    target: np.ndarray
    weight: np.ndarray | None


@dataclass(frozen=True)
class Job:
    """One call of fit: what is minimised, from where, and who is told of it.

    offset : what scikit-learn's loss has beyond J, and no parameter changes
    """

    objective: Objective
    offset: float
    inputs: Inputs
    m: int
    start: Params
    held_out: HeldOut | None
    context: CallbackContext
    hooks: dict[str, Any]


class BaseNetwork(CallbackSupportMixin, BaseEstimator):
    """What the three estimators share. A subclass reads y, and may say what L2, hidden layers and start are."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "solver": [StrOptions({"lbfgs", "sgd", "adam", "gd"})],
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

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Set the constructor's arguments as attributes, as they are."""
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    # What a subclass may say

    def _l2(self) -> float:
        return float(self.alpha)

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
            return OUR_NAMES.get(spec, spec)
        if all(callable(function) for function in spec):
            return tuple(spec)
        return [OUR_NAMES.get(one, one) if isinstance(one, str) else one for one in spec]

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

    def _loss_offset(self, target: np.ndarray, weight: np.ndarray | None) -> float:
        return 0.0

    def _finish_score(self, yhat: Any) -> Any:
        """What of yhat (n[L], k) the early-stopping score needs."""
        return yhat

    def _score_of(self, target: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None) -> float:
        raise NotImplementedError

    # Fit

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        held_out: tuple[Any, Any, Any] = (None, None, None),
        incremental: bool = False,
    ) -> Any:
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        hidden = self._hidden_sizes()
        dtype = None if first else arrays.dtype_name(self.coefs_[0])
        inputs = read_inputs(self, X, reset=first, dtype=dtype)
        with inputs.place.computing():
            room = inputs.place.room(self.device_memory)
            target = self._read_y(y, inputs.X.m, incremental)
            weight = read_weight(sample_weight, inputs.X.m, inputs.dtype)
            weight = self._weigh_classes(target, weight, incremental)
            inputs = _beside(inputs, room, target.values, target.classes, weight)
            test, room = self._read_held_out(held_out, inputs, target)
            inputs = replace(inputs, room=room)
            rng = check_random_state(self.random_state)
            network = Network(
                [inputs.X.n, *hidden, target.outputs],
                self._activation(),
                OUR_NAMES.get(target.activation, target.activation),
            )
            self._prepare(first, network, target, inputs, rng)
            train = _part(inputs, target.values, target.classes, weight)
            if test is None and self.early_stopping and self.solver in STEPPING:
                train, test = self._split(train, target, rng)
            metadata = None if sample_weight is None else {"sample_weight": sample_weight}
            hooks = {"estimator": self, "X": X, "y": y, "metadata": metadata}
            context = self._init_callback_context(max_subtasks=1 if incremental else self.max_iter)
            context.call_on_fit_task_begin(**hooks)
            with ExitStack() as folds:
                job = self._job(network, inputs, train, test, folds, context, hooks)
                params = self._descend(job, rng, incremental) if self.solver in STEPPING else self._lbfgs(job)
                scored = "" if job.held_out is None else job.held_out.objective.fold.note
                self.note_ = job.objective.fold.note or scored
                self._conclude(params, inputs)
            context.call_on_fit_task_end(**hooks, reconstruction_attributes=dict)
        return self

    def _read_held_out(
        self, held_out: tuple[Any, Any, Any], inputs: Inputs, target: Target
    ) -> tuple[Part | None, float]:
        """The held-out examples, if there are some, and the room that they leave."""
        X, y, sample_weight = held_out
        if X is None:
            if y is not None or sample_weight is not None:
                raise ValueError("y_val and sample_weight_val belong to X_val, which is missing.")
            return None, inputs.room
        own = read_inputs(self, X, reset=False, dtype=inputs.dtype)
        if own.place.name != inputs.place.name:
            raise ValueError(f"X is on {inputs.place.name} and X_val on {own.place.name}; put both in one place.")
        values = self._read_held_out_y(y, own.X.m)
        if values.shape[1:] != target.values.shape[1:]:
            raise ValueError(f"y has shape {target.values.shape} and y_val {values.shape}; each needs as many outputs.")
        weight = read_weight(sample_weight, own.X.m, own.dtype)
        own = _beside(own, inputs.room, values, target.classes, weight)
        return _part(own, values, target.classes, weight), own.room

    def _prepare(
        self, first: bool, network: Network, target: Target, inputs: Inputs, rng: np.random.RandomState
    ) -> None:
        """The attributes that a training starts from: fresh ones, or those of the last call."""
        if first:
            layers = self._initial(network, rng)
            put = inputs.home.put
            self.coefs_ = [put(W.astype(inputs.dtype)) for W, _ in layers]
            self.intercepts_ = [put(b.astype(inputs.dtype)) for _, b in layers]
            self.t_ = 0
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self.best_loss_: float | None = None
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_: float | None = None
            self.validation_costs_: list[float] | None = None
        elif (sizes := self._sizes()) != network.sizes:
            raise ValueError(
                f"the model has layers of {sizes} units, and data and hidden_layer_sizes ask for {network.sizes}: "
                "a warm start and partial_fit cannot change them. Fit with warm_start=False."
            )
        self.n_iter_: Any = 0
        self.n_layers_ = len(network.sizes)
        self.n_outputs_ = target.outputs
        self.out_activation_ = target.activation
        self.device_ = inputs.place.name

    def _split(self, whole: Part, target: Target, rng: np.random.RandomState) -> tuple[Part, Part]:
        """Rows to learn from and rows to score, drawn as scikit-learn does: by class where there is one output."""
        by_class = None
        if target.classes and target.outputs == 1:
            by_class = target.values.astype(bool)
            if np.bincount(target.values).min() < 2:
                by_class = by_class.reshape(-1, 1)  # an error, and so one in the words of scikit-learn's own MLP
        train, test = train_test_split(
            np.arange(whole.examples.m), random_state=rng, test_size=self.validation_fraction, stratify=by_class
        )
        if len(test) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        parts = _rows(whole, train), _rows(whole, test)
        if any(part.weight is not None and not part.weight.any() for part in parts):
            raise ValueError(
                "early_stopping split the rows so that all of one side have a sample_weight of 0. Leave rows of weight "
                "0 out of X, or give X_val and y_val."
            )
        return parts

    def _job(
        self,
        network: Network,
        inputs: Inputs,
        train: Part,
        test: Part | None,
        folds: ExitStack,
        context: CallbackContext,
        hooks: dict[str, Any],
    ) -> Job:
        threads = self._threads()
        room = math.inf if self.device_memory is None else inputs.room
        limits: dict[str, Any] = {"precision": self.precision, "threads": threads}
        held_out = None
        if test is not None:  # both folds keep their arrays as long as the training lasts
            room /= 2
            cost = folds.enter_context(Objective(network, test.examples, room=room, **limits))
            held_out = HeldOut(cost, test.target, test.weight, self._loss_offset(test.target, test.weight))
        objective = folds.enter_context(
            Objective(network, train.examples, l2=self._l2(), intercept=self._has_intercept(), room=room, **limits)
        )
        self.step_, self.precision_ = objective.fold.step_name, objective.fold.precision
        offset = self._loss_offset(train.target, train.weight)
        return Job(objective, offset, inputs, train.examples.m, self._params(inputs), held_out, context, hooks)

    def _conclude(self, params: Params, inputs: Inputs) -> None:
        if not _finite(params):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                f"preprocessed. It happened in iteration {max(self.n_iter_, 1)} of {self.solver}; where the data is "
                f"scaled, a smaller learning_rate_init than {self.learning_rate_init} helps."
            )
        self.__dict__.update(self._weights(params, inputs))

    # Gradient descent and its kin

    def _descend(self, job: Job, rng: np.random.RandomState, incremental: bool) -> Params:
        batch_size = self._batch_size(job.m)
        stepper = self._stepper(job, incremental)
        progress = self._progress()
        rate = stepper.rate(-(-job.m // batch_size), len(self.loss_curve_) if incremental else 0, self.max_iter)
        loop = epochs(
            job.objective, job.start, self._make_optimizer(), batch_size=batch_size, note=stepper.note,
            orders=orders(job.m, batch_size, self.shuffle, rng), learning_rate=rate, state=stepper.state,
        )  # fmt: skip
        params = best = good = job.start
        planned = 1 if incremental else self.max_iter
        try:
            for number in range(planned):
                task = job.context.subcontext(task_name=f"epoch {number}")
                task.call_on_fit_task_begin(**job.hooks)
                epoch = next(loop)
                before, params = params, epoch.params
                better = self._note_epoch(epoch.cost + job.offset, params, job, progress)
                best = params if better else best
                stepper.end_epoch(self.t_, self.power_t)
                stop = self._end_task(task, params, job)
                stop = stop or (progress.count > self.n_iter_no_change and self._at_plateau(stepper, progress))
                sound = math.isfinite(epoch.cost)
                # To look at the parameters is to wait for a device once more; while costs are finite the end will do.
                if (stop or number + 1 == planned or not sound) and not _finite(params):
                    self._note_divergence(before if _finite(before) else good, job.inputs)
                    break
                good = before if sound else good
                if stop:
                    break
            else:
                self._warn_not_converged(incremental)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
            if stepper.theta is not None:
                params = restore(stepper.theta, job.objective.network.sizes)
        stepper.theta = None
        self._optimizer = stepper
        return best if self.early_stopping and self.n_iter_ else params  # in the first epoch nothing is scored yet

    def _note_epoch(self, cost: float, params: Params, job: Job, progress: NoImprovement) -> bool:
        """Write down an epoch; True if it is the best so far."""
        self.t_ += job.m
        self._note_cost(cost)
        held_out_cost = self._note_held_out(params, job.held_out)
        if self.validation_scores_ is None or job.held_out is None:
            better = progress.update(cost)
            self.best_loss_ = progress.best
        else:
            score = -held_out_cost if self.scoring == "loss" else self._held_out_score(params, job.held_out)
            self.validation_scores_.append(score)
            if self.verbose:
                print(f"Validation score: {score:f}")
            better = progress.update(-score)
            self.best_validation_score_ = -progress.best
        self._no_improvement_count = progress.count
        return better

    def _note_cost(self, cost: float) -> None:
        self.n_iter_ += 1
        self.loss_ = cost
        self.loss_curve_.append(cost)
        if self.verbose:
            print(f"Iteration {self.n_iter_}, loss = {cost:.8f}")

    def _note_held_out(self, params: Params, held_out: HeldOut | None) -> float:
        if held_out is None:
            return math.nan
        if self.validation_costs_ is None:
            self.validation_costs_ = []
        self.validation_costs_.append(held_out.cost(params))
        return self.validation_costs_[-1]

    def _held_out_score(self, params: Params, held_out: HeldOut) -> float:
        predicted = held_out.predict(params, self._finish_score)
        if predicted.dtype.kind == "f" and not np.isfinite(predicted).all():
            return math.nan
        return self._score_of(held_out.target, predicted, held_out.weight)

    def _end_task(self, task: CallbackContext, params: Params, job: Job) -> bool:
        """Tell the callbacks; True if one of them wants to stop."""
        return bool(
            task.call_on_fit_task_end(**job.hooks, reconstruction_attributes=lambda: self._weights(params, job.inputs))
        )

    def _progress(self) -> NoImprovement:
        """The count of epochs without improvement, going on from the last call of a warm start or partial_fit."""
        if self.early_stopping:
            self.validation_scores_ = self.validation_scores_ or []
            self.best_loss_ = None
            best = math.inf if self.best_validation_score_ is None else -self.best_validation_score_
        else:
            self.validation_scores_ = self.best_validation_score_ = None
            best = math.inf if self.best_loss_ is None else self.best_loss_
        return NoImprovement(self.tol, best, self._no_improvement_count)

    def _at_plateau(self, stepper: Stepper, progress: NoImprovement) -> bool:
        """True to stop; "adaptive" lowers the rate and goes on, as long as it can."""
        reason = stepper.lower()
        if self.verbose:
            what = "Validation score" if self.early_stopping else "Training loss"
            then = reason or f"Setting learning rate to {stepper.learning_rate:f}"
            plateau = f"tol={self.tol:f} for {self.n_iter_no_change} consecutive epochs"
            print(f"{what} did not improve more than {plateau}. {then}")
        if reason is None:
            progress.count = self._no_improvement_count = 0
        return reason is not None

    def _note_divergence(self, good: Params, inputs: Inputs) -> None:
        """Keep the last parameters that are of use. An error follows, unless ``early_stopping`` has a best to go to."""
        self.__dict__.update(self._weights(good, inputs))
        if self.early_stopping:
            warnings.warn(
                f"The parameters had stopped being finite in epoch {self.n_iter_} of {self.solver}; the training ends "
                f"with the best so far. A smaller learning_rate_init than {self.learning_rate_init} helps.",
                ConvergenceWarning,
                stacklevel=6,
            )

    def _warn_not_converged(self, incremental: bool) -> None:
        if incremental or self.learning_rate == "linear":  # "linear" is at its end after max_iter epochs, as planned
            return
        name = "Gradient descent" if self.solver == "gd" else "Stochastic Optimizer"
        warnings.warn(
            f"{name}: Maximum iterations ({self.max_iter}) reached and the optimization hasn't converged yet.",
            ConvergenceWarning,
            stacklevel=6,
        )

    def _batch_size(self, m: int) -> int:
        if self.batch_size == "full" or self.solver == "gd":
            return m
        if self.batch_size == "auto":
            return min(200, m)
        if self.batch_size > m:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=6
            )
        return min(int(self.batch_size), m)

    def _make_optimizer(self) -> Optimizer:
        if self.solver == "adam":
            return optimizers.adam(self.beta_1, self.beta_2, self.epsilon)
        if self.solver == "sgd":
            return optimizers.momentum(self.momentum, nesterov=self.nesterovs_momentum)
        return optimizers.gd()

    def _stepper(self, job: Job, incremental: bool) -> Stepper:
        """A fresh optimiser; ``partial_fit`` goes on with that of the last call, moved to where the passes run."""
        kept = getattr(self, "_optimizer", None)
        if incremental and kept is not None and kept.solver == self.solver:
            put = job.inputs.place.put
            return replace(kept, state=arrays.moved(kept.state, lambda array: put(arrays.to_host(array))))
        rate = float(self.learning_rate_init)
        schedule = self.learning_rate if self.solver != "adam" or self.learning_rate == "linear" else "constant"
        return Stepper(self.solver, rate, schedule, rate)

    # L-BFGS

    def _lbfgs(self, job: Job) -> Params:
        refuse_equal_units(job.start)
        sizes = job.objective.network.sizes
        params = job.start
        task: CallbackContext | None = None

        def before() -> None:
            nonlocal task
            self.t_ += job.m
            if task is None:
                task = job.context.subcontext(task_name=f"iteration {self.n_iter_}")
                task.call_on_fit_task_begin(**job.hooks)

        def after(cost: float, now: Params) -> bool:
            nonlocal task, params
            params = now
            self._note_cost(cost + job.offset)
            self.best_loss_ = self.loss_
            self._note_held_out(params, job.held_out)
            ended, task = task, None
            return ended is not None and self._end_task(ended, params, job)

        try:
            result = minimize(job.objective, job.start, job.inputs, before=before, after=after, **self._limits())
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
            return params
        self.loss_ = self.best_loss_ = float(result.fun) + job.offset
        if result.status not in (0, 99):  # 99: a callback stopped it
            warnings.warn(
                f"lbfgs failed to converge after {self.n_iter_} iteration(s) (status={result.status}): "
                f"{result.message}. Raise max_iter ({self.max_iter}) or max_fun ({self.max_fun}), or scale the data.",
                ConvergenceWarning,
                stacklevel=5,
            )
        return restore(job.inputs.place.put(result.x.astype(job.inputs.dtype)), sizes)

    def _limits(self) -> dict[str, float]:
        """Where L-BFGS stops, as scikit-learn's MLP has it."""
        return {"max_iter": self.max_iter, "max_fun": self.max_fun, "tol": self.tol}

    # Parameters as attributes, and back

    def _sizes(self) -> tuple[int, ...]:
        return (int(self.coefs_[0].shape[0]), *(int(coef.shape[1]) for coef in self.coefs_))

    def _weights(self, params: Params, inputs: Inputs) -> dict[str, Any]:
        """``coefs_`` and ``intercepts_``: copies, where the caller's table lies."""

        def home(array: Any) -> Any:
            if inputs.away or arrays.is_numpy(array):
                return np.array(arrays.to_host(array), order="C")
            return arrays.namespace(array).asarray(array, copy=True)

        return {"coefs_": [home(W.T) for W, _ in params], "intercepts_": [home(b[:, 0]) for _, b in params]}

    def _params(self, inputs: Inputs) -> Params:
        """The fitted attributes as parameters W (n[l], n[l-1]) and b (n[l], 1), where the passes run."""

        def there(array: Any) -> Any:
            if not arrays.is_numpy(array) and not inputs.away:
                xp = arrays.namespace(array)
                array = xp.astype(array, getattr(xp, inputs.dtype), copy=False)
                return array.T if array.ndim == 2 else xp.reshape(array, (-1, 1))
            array = arrays.to_host(array)
            columns = array.T if array.ndim == 2 else array.reshape(-1, 1)
            return inputs.place.put(np.ascontiguousarray(columns, dtype=inputs.dtype))

        return tuple(Layer(there(W), there(b)) for W, b in zip(self.coefs_, self.intercepts_, strict=True))

    # The forward pass

    def _forward(self, X: Any, method: str, finish: Any = None, *, scores: bool = False) -> tuple[Any, Inputs]:
        """What ``finish`` makes of yhat (n[L], m), or of Z[L] if ``scores``, where the caller's X lies."""
        check_is_fitted(self, "coefs_")
        inputs = read_inputs(self, X, reset=False)
        self._check_same_place(inputs, method)
        output = "identity" if scores else OUR_NAMES.get(self.out_activation_, self.out_activation_)
        network = Network(self._sizes(), self._activation(), output)

        def made(block: Any) -> Any:
            block = block if finish is None else finish(block)
            return arrays.to_host(block) if inputs.away else block

        room = math.inf if self.device_memory is None else inputs.place.room(self.device_memory)
        with inputs.place.computing(), Fold(network, inputs.X, threads=self._threads(), room=room) as fold:
            return fold.predict(self._params(inputs), made), inputs

    def _check_same_place(self, inputs: Inputs, method: str) -> None:
        fitted = places.place_of(self.coefs_[0])
        if fitted.name != inputs.home.name:
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace and the same device as "
                f"those passed to fit(): the model was fitted on {fitted.name} and X is on {inputs.home.name}. Move X "
                "there, or fit again."
            )

    def _threads(self) -> int | None:
        if self.n_jobs is None or self.n_jobs > 0:
            return self.n_jobs
        if self.n_jobs == 0:
            raise ValueError("n_jobs == 0 has no meaning; -1 stands for all cores.")
        return max(1, thread_count(None) + 1 + self.n_jobs)

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
        state = {name: arrays.moved(value, arrays.to_host) for name, value in super().__getstate__().items()}
        if "_optimizer" in state:
            kept = state["_optimizer"]
            state["_optimizer"] = replace(kept, state=arrays.moved(kept.state, arrays.to_host))
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags


def _beside(inputs: Inputs, room: float, values: np.ndarray, classes: int, weight: np.ndarray | None) -> Inputs:
    """The inputs where the passes run, and the room that they, their target and their weights leave there."""
    taken = target_bytes(values, classes, inputs.dtype)
    return inputs.resident(room, taken, 0 if weight is None else weight.nbytes)


def _part(inputs: Inputs, values: np.ndarray, classes: int, weight: np.ndarray | None) -> Part:
    there = None if weight is None else inputs.place.put(weight)
    return Part(Examples(inputs.X, target_columns(values, classes, inputs), there), values, weight)


def _rows(part: Part, rows: np.ndarray) -> Part:
    """Some examples of a part; nothing is copied but their indices, target and weights."""
    X, Y, there = part.examples.X, part.examples.Y, part.examples.weight
    assert Y is not None
    if there is not None:
        xp = arrays.namespace(there)
        there = xp.take(there, places.place_of(there).put(rows))
    weight = None if part.weight is None else part.weight[rows]
    return Part(Examples(selected(X, rows), selected(Y, rows), there), part.target[rows], weight)


def _finite(params: Params) -> bool:
    theta = flatten(params)
    xp = arrays.namespace(theta)
    return bool(xp.all(xp.isfinite(theta)))  # as one vector: a device is waited for once
