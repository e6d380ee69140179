"""What a call of ``fit`` tells its checkpoints, and what it takes from the one that it goes on from."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fullbatch.errors import InputError
from fullbatch.estimators.inputs import Inputs
from fullbatch.estimators.job import Job
from fullbatch.sources.fingerprints import fingerprint, fingerprint_of_array
from fullbatch.training.checkpoints import (
    Checkpoint,
    Moment,
    check_same,
    is_checkpoint,
    is_due,
    made_by,
    moment_of,
    unlike,
    warn_of_other_bits,
)
from fullbatch.training.state import TrainingState

# Parameters that a training may change when it goes on: how long, where and how it is watched.
MAY_CHANGE = ("max_iter", "max_fun", "n_jobs", "device", "device_memory", "verbose", "warm_start")
HISTORIES = {"loss_curve_": "costs", "validation_costs_": "held_out", "validation_scores_": "scores"}
OF_THIS_CALL = ("coefs_", "intercepts_", "device_", "step_", "precision_", "note_")  # not those of the checkpoint


class Record:
    """One call of fit, as its checkpoints are told of it.

    resumed : the moment that it goes on from, or None;  active : whether anybody is told, or anything is gone on with
    """

    def __init__(self, estimator: Any, resume: Any, incremental: bool) -> None:
        callbacks = vars(estimator).get("_skl_callbacks", [])
        self.estimator = estimator
        self.keepers: list[Checkpoint] = [callback for callback in callbacks if is_checkpoint(callback)]
        if self.keepers and incremental:
            raise InputError("partial_fit keeps no checkpoints; save the model between its calls with fullbatch.save.")
        self.resumed = moment_of(resume)
        if self.resumed is not None:
            _check_parameters(estimator, self.resumed.model())
        self.active = bool(self.keepers) or self.resumed is not None
        self.facts: dict[str, Any] = {"data": {}, "settings": {}, "made_by": {}}
        self.generator: Any = None
        self.on_host = False
        self.job: Job | None = None
        self.earlier: dict[str, list[float]] = {}

    @property
    def dtype(self) -> str | None:
        """That of the training that goes on."""
        return None if self.resumed is None else np.asarray(self.resumed.model().coefs_[0]).dtype.name

    def random_state(self, rng: np.random.RandomState) -> np.random.RandomState:
        """The generator of this fit: as it was at the start of the one that goes on."""
        if self.resumed is not None and self.resumed.generator is not None:
            if self.estimator.random_state is None:  # else everybody's generator would be set back
                rng = np.random.RandomState()
            rng.set_state(self.resumed.generator)
        self.generator = rng.get_state()
        return rng

    def take_data(self, name: str, inputs: Inputs, y: np.ndarray, weight: np.ndarray | None) -> None:
        """Take the fingerprints of the examples, and see that they are those of the training that goes on.

        name : what follows "X", "y" and "sample_weight" in the names of fit's arguments
        """
        if not self.active:
            return
        threads, data = self.estimator._threads(), self.facts["data"]
        data[f"X{name}"] = fingerprint(inputs.X, threads)
        data[f"y{name}"] = fingerprint_of_array(y, threads)
        if weight is not None:
            data[f"sample_weight{name}"] = fingerprint_of_array(weight, threads)

    def check(self) -> None:
        """See that data, columns and classes are those of the training that goes on. InputError."""
        if self.resumed is None:
            return
        model = self.resumed.model()
        for name, words in (("feature_names_in_", "columns"), ("classes_", "classes")):
            now, kept = (vars(one).get(name) for one in (self.estimator, model))
            if not np.array_equal(_listed(now), _listed(kept)):
                raise InputError(
                    f"the data has other {words} than in the checkpoint: {_short(now)} now, {_short(kept)} then. Give "
                    "the same data, or train anew."
                )
        check_same(self.resumed, self.facts)

    def restore(self, inputs: Inputs) -> None:
        """The fitted attributes as they were, where the caller's table lies."""
        if self.resumed is None:
            return
        model, own = self.resumed.model(), self.estimator
        if [W.shape for W in model.coefs_] != [tuple(W.shape) for W in own.coefs_]:
            raise InputError(f"the checkpoint has layers of {model._sizes()} units, and this training {own._sizes()}.")
        kept = {name: value for name, value in vars(model).items() if name.endswith("_") and name not in OF_THIS_CALL}
        own.__dict__.update(kept, _no_improvement_count=model._no_improvement_count)
        own.n_iter_ = self.resumed.state.epoch
        own.coefs_ = [inputs.home.put(W) for W in model.coefs_]
        own.intercepts_ = [inputs.home.put(b) for b in model.intercepts_]

    def is_over(self) -> bool:
        """Whether the training that is to go on was at its end, of which the user is told."""
        if self.resumed is None:
            return False
        state, own = self.resumed.state, self.estimator
        reason = state.stopped
        if not reason and state.schedule.is_second and state.epoch >= state.schedule.end:
            reason = f"after epoch {state.schedule.start} it was trained once more, for {state.schedule.epochs} epochs"
        if not reason and not state.schedule.is_second and state.epoch >= own.max_iter:
            reason = f"max_iter={own.max_iter} is reached"
        if not reason and own.solver == "lbfgs" and state.updates >= own.max_fun:
            reason = f"max_fun={own.max_fun} is reached"
        if not reason:
            return False
        warnings.warn(
            f"the training in the checkpoint is at its end ({reason.rstrip('.')}); the model is as the checkpoint has "
            "it.",
            stacklevel=7,
        )
        return True

    def begin(self, job: Job) -> None:
        """Before the first update. Whoever cannot keep this training says so now."""
        self.job = job
        if not self.active:
            return
        self.on_host = job.inputs.place.name == job.inputs.home.name == "cpu"
        self.facts["made_by"] = made_by(job.objective, job.inputs.place.name)
        if self.resumed is not None:
            warn_of_other_bits(self.resumed, self.facts["made_by"], stacklevel=7)
        for name, of_state in HISTORIES.items():
            values = getattr(self.estimator, name, None) or []
            own = 0 if self.resumed is None else len(getattr(self.resumed.state, of_state))
            self.earlier[name] = values[: len(values) - own]

    def forget(self) -> None:
        """What is gone on with is the training's own from now on: not to be kept in memory twice."""
        self.resumed = None

    def between(self, state: Callable[[], TrainingState]) -> None:
        """Tell those of the state who would do anything with it now."""
        if due := [keeper for keeper in self.keepers if is_due(keeper)]:
            self._tell(due, state())

    def tell(self, state: TrainingState, **of_the_moment: Any) -> None:
        self._tell(self.keepers, state, **of_the_moment)

    def _tell(self, keepers: list[Checkpoint], state: TrainingState, **of_the_moment: Any) -> None:
        for keeper in keepers:
            keeper.tell(
                Moment(
                    state, lambda: self.model(state), self.facts, self.generator, anywhere=self.on_host, **of_the_moment
                )
            )

    def model(self, state: TrainingState) -> Any:
        """The estimator that Ctrl-C would leave at this state."""
        assert self.job is not None
        model = copy.copy(self.estimator)
        model.__dict__.pop("_optimizer", None)  # of an earlier call
        theta, inputs = kept_theta(model, state), self.job.inputs
        if state.optimizer == "lbfgs":  # SciPy's vector
            theta = inputs.place.put(theta.astype(inputs.dtype))
        model.__dict__.update(model._outcome(theta, inputs, state.epoch))
        model.t_, model._no_improvement_count = state.examples, state.waited
        schedule = state.schedule
        model.retraining_ = [schedule.start, schedule.epochs] if schedule.is_second else None
        for name, of_state in HISTORIES.items():
            values = [*self.earlier[name], *getattr(state, of_state)]
            setattr(model, name, values or (None if name != "loss_curve_" else []))
        if len(state.costs):
            model.loss_ = state.best if state.optimizer == "lbfgs" else state.costs[-1]
        if len(state.scores):
            model.best_validation_score_ = -state.best
        elif len(state.costs):
            model.best_loss_ = state.best
        return model


def kept_theta(estimator: Any, state: TrainingState) -> Any:
    """The parameters that a training leaves: the last, or the best if ``early_stopping`` asks and one was scored."""
    best = estimator.early_stopping and state.epoch and state.best_theta is not None
    return state.best_theta if best else state.theta


def _check_parameters(estimator: Any, model: Any) -> None:
    """Refuse to go on with another estimator, or with parameters that it cannot change."""
    if type(model) is not type(estimator):
        kept = "a function's training" if isinstance(model, tuple) else type(model).__name__
        raise InputError(
            f"the checkpoint is of {kept}, and this is {type(estimator).__name__}: a training goes on "
            "with the same estimator."
        )
    kept = model.get_params(deep=False)
    for name, now in estimator.get_params(deep=False).items():
        if name in MAY_CHANGE or _same(kept[name], now):
            continue
        raise InputError(unlike(name, kept[name], now))


def _same(kept: Any, now: Any) -> bool:
    """Whether two values of a parameter are the same: a list, a tuple and an array of the same numbers are."""
    if isinstance(kept, np.random.RandomState) and isinstance(now, np.random.RandomState):
        return True  # the generator's state comes from the checkpoint
    if isinstance(kept, (list, tuple, np.ndarray)) or isinstance(now, (list, tuple, np.ndarray)):
        return list(np.ravel(kept)) == list(np.ravel(now))
    return bool(kept == now)


def _listed(values: Any) -> list[Any]:
    return [] if values is None else np.asarray(values).tolist()


def _short(values: Any) -> str:
    text = ", ".join(map(str, _listed(values))) or "none"
    return text if len(text) <= 60 else f"{text[:57]}..."
