"""Gradient descent and its kin for an estimator: the loop's states become scikit-learn's fitted attributes."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fullbatch.errors import InputError
from fullbatch.estimators.job import HeldOut, Job
from fullbatch.estimators.record import Record, kept_theta
from fullbatch.machine import arrays
from fullbatch.machine.finite import row_blocks
from fullbatch.machine.shuffling import shuffle
from fullbatch.sources import Where
from fullbatch.sources.mapped import said_of
from fullbatch.sources.sharded import Sharded
from fullbatch.training.checkpoints import Moment, check_between_batches
from fullbatch.training.loop import Epochs, Watch, ahead, epochs
from fullbatch.training.optimizers import OPTIMIZERS, Optimizer
from fullbatch.training.retraining import epochs_of_second
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import DrawnOrder, OrderState, TrainingState
from fullbatch.training.windows import LeafOrders, WindowOrders, in_windows, leaf_of, usual_batch

logger = logging.getLogger("fullbatch")
REDRAWN = 2**25  # examples whose orders are drawn again where a training goes on: at most about a second
WORTH_A_LOOK = 2**16  # parameters that are looked at after each epoch, rather than that others are kept beside them


class Orders:
    """The order of the examples of each epoch, for ever. Where one batch takes them all the order does not matter.

    state : None, or what all orders follow from. Each is drawn from the one before, so that going on draws them once
    more, from the first or from the one that was kept
    keeps : whether the training may have to go on: one order is kept then, of every REDRAWN examples' orders
    """

    def __init__(
        self,
        m: int,
        batch_size: int,
        shuffled: bool,
        rng: np.random.RandomState,
        state: OrderState | None = None,
        *,
        keeps: bool = False,
    ) -> None:
        self.m, self.rng, self.drawn, self.shared, self.keeps = m, rng, 0, False, keeps
        self.order: np.ndarray | None = None
        self.kept: DrawnOrder | None = None
        if not shuffled or batch_size >= m:
            return
        self.order = np.arange(m, dtype=np.int32 if m < 2**31 else np.int64)
        if state is not None:
            rng.set_state(state.start)
        self.start = self.now = rng.get_state()
        if state is not None:
            self._go_on(state)

    def _go_on(self, state: OrderState) -> None:
        assert self.order is not None
        if state.kept is not None:
            if len(state.kept.indices) != self.m:
                raise InputError(f"the checkpoint is damaged: its order is not one of {self.m} examples.")
            self.kept, self.drawn = state.kept, state.kept.drawn
            self.order[:] = state.kept.indices
            self.rng.set_state(state.kept.now)
        for _ in range(state.drawn - self.drawn):
            shuffle(self.order, self.rng)
        self.drawn = state.drawn
        self.rng.set_state(state.now)
        self.now, self.shared = state.now, state.shared
        if state.shared:
            warnings.warn(
                "random numbers were drawn from the training's generator by others too, so that the order of examples "
                "will not be the one that it would have been.",
                stacklevel=10,
            )

    def __iter__(self) -> Iterator[Where]:
        return self

    def __next__(self) -> Where:
        if self.order is None:
            return slice(0, self.m)
        self.shared = self.shared or not _same_generator(self.rng.get_state(), self.now)
        shuffle(self.order, self.rng)  # of the last epoch's order, as scikit-learn does, which copies it twice
        self.drawn, self.now = self.drawn + 1, self.rng.get_state()
        if self.keeps and (self.drawn - (self.kept.drawn if self.kept else 0)) * self.m >= REDRAWN:
            self.kept = DrawnOrder(self.drawn, self.now, self.order.copy())
        return self.order

    @property
    def state(self) -> OrderState | None:
        return None if self.order is None else OrderState(self.start, self.drawn, self.now, self.shared, self.kept)


def _same_generator(a: Any, b: Any) -> bool:
    return (a[0], *a[2:]) == (b[0], *b[2:]) and bool(np.array_equal(a[1], b[1]))


def make_optimizer(estimator: Any) -> Optimizer:
    """The optimiser that ``solver`` names, made with the estimator's parameters of the names that it asks for."""
    row = OPTIMIZERS[estimator.solver]
    return row.make(**{name: getattr(estimator, name) for name in row.parameters})


def descend(estimator: Any, job: Job, rng: np.random.RandomState, incremental: bool, record: Record) -> Any:
    """Train by epochs, write down each of them, and give theta: the last, or the best if ``early_stopping`` asks."""
    batch_size = _batch_size(estimator, job)
    if record.is_over():
        state = _start(estimator, job, incremental, record.resumed, batch_size)
    else:
        state = _train(estimator, job, rng, incremental, record, batch_size)
    # What partial_fit goes on from; the fitted attributes have the rest, which the user may change in between.
    estimator._optimizer = state.of_the_optimizer()
    return kept_theta(estimator, state)


def _train(
    estimator: Any, job: Job, rng: np.random.RandomState, incremental: bool, record: Record, batch_size: int
) -> TrainingState:
    """To the end, to an interruption or to a divergence: the state then.

    While an epoch runs no other state is held than the one before it without its arrays: they are as large as theta.
    """
    state = _start(estimator, job, incremental, record.resumed, batch_size)
    record.forget()
    good = _LastGood(estimator, job, state.theta)
    orders = _orders(estimator, job, rng, state, batch_size, keeps=bool(record.keepers))
    loop = _loop(estimator, job, orders, record, state, batch_size, good)
    _begin(estimator)
    before = None
    try:
        if batch_size == job.m and not incremental and _needs_no_states(estimator, job, record):
            state = _hurry(estimator, job, state)
            loop = _loop(estimator, job, orders, record, state, batch_size, good)
            good.theta = state.theta
        number, planned = (0, 1) if incremental else (state.epoch, _last_epoch(estimator, state))
        while number < planned:
            task = job.begin_task(f"epoch {number}")
            good.show(state)
            before = _without_arrays(state, good.theta)
            del state
            state = next(loop)
            _write_down(estimator, state)
            number, asked = number + 1, job.end_task(task, state.theta)
            stop = _at_plateau(estimator, before, state) or asked
            ends = stop or number == planned
            # To look at the parameters is to wait for a device once more; while costs are finite the end will do.
            if (ends or not math.isfinite(state.costs[-1])) and not is_finite(state.theta):
                _note_divergence(estimator, good.instead_of(state, before), job)
                return loop.whole(state)
            good.follow(state, before)
            if ends and (not asked or _out_of_patience(estimator)) and _is_worth_a_second(estimator, state):
                before, state = None, _second(estimator, job, state)
                loop = _loop(estimator, job, orders, record, state, batch_size, good)
                planned, stop = state.schedule.end, False
            record.between(partial(loop.whole, state))
            if stop:
                break
        else:
            _warn_not_converged(estimator, incremental)
    except KeyboardInterrupt as interrupt:
        warnings.warn("Training interrupted by user.", stacklevel=7)
        state = getattr(interrupt, "state", None) or loop.last()
    good.show(state)  # so that earlier parameters are not held while the optimiser's arrays are copied
    before = good.theta = None
    if job.held_out is not None:
        job.held_out.objective.fold.rest()
    state = loop.whole(state)
    record.tell(state, last=True)
    return state


def _needs_no_states(estimator: Any, job: Job, record: Record) -> bool:
    """Whether nobody looks at the states between the first epoch and the last ones."""
    told = estimator.verbose or record.keepers or vars(estimator).get("_skl_callbacks")
    return not told and job.held_out is None and not logger.isEnabledFor(logging.DEBUG)


def _hurry(estimator: Any, job: Job, state: TrainingState) -> TrainingState:
    """All epochs but the last ones, written down many at once: what ends the training is for the loop to see."""
    optimizer, watch = make_optimizer(estimator), _watch(estimator, job)
    for after in ahead(job.objective, optimizer, state, estimator.max_iter - 1 - state.epoch, watch):
        new = after.epoch - state.epoch
        estimator.n_iter_ += new - 1
        estimator.loss_curve_ += [after.costs[-k] for k in range(new, 1, -1)]
        state = after
        _write_down(estimator, state)
    return state


def _orders(
    estimator: Any, job: Job, rng: np.random.RandomState, state: TrainingState, batch_size: int, keeps: bool
) -> Orders | WindowOrders:
    examples = job.objective.examples
    if batch_size < job.m:
        if leaf := leaf_of(examples, batch_size):
            return LeafOrders(leaf, job.m, estimator.shuffle, rng, state.order)
        if in_windows(examples):
            return WindowOrders(job.m, estimator.shuffle, rng, state.order)
    return Orders(job.m, batch_size, estimator.shuffle, rng, state.order, keeps=keeps)


def _loop(
    estimator: Any,
    job: Job,
    orders: Orders | LeafOrders | WindowOrders,
    record: Record,
    state: TrainingState,
    batch_size: int,
    good: _LastGood,
) -> Epochs:
    """The epochs from this state on, of which the checkpoints are told it."""
    record.tell(state)
    watch = _watch(estimator, job, good)
    if state.schedule.is_second:  # all its epochs are wanted, since the rate is 0 at the end of the last one
        watch = watch._replace(patience=math.inf)
    return epochs(
        job.objective, make_optimizer(estimator), state,
        orders=orders, batch_size=batch_size, watch=watch,
        between=record.between if record.keepers else None, light=True,
    )  # fmt: skip


def _last_epoch(estimator: Any, state: TrainingState) -> int:
    """The epochs that are over at the end of the training, as it is planned now."""
    return state.schedule.end if state.schedule.is_second else int(estimator.max_iter)


def _out_of_patience(estimator: Any) -> bool:
    """Whether a callback ends the training because it has become no better: others want no second one."""
    return any(getattr(callback, "out_of_patience", False) for callback in vars(estimator).get("_skl_callbacks", ()))


def _best_epoch(state: TrainingState) -> int:
    """Of those that were scored, from 1."""
    return list(state.scores).index(-state.best) + 1


def _is_worth_a_second(estimator: Any, state: TrainingState) -> bool:
    """Whether a training that is at its end is to be followed by a second one."""
    if not estimator.retrain or state.schedule.is_second or not math.isfinite(state.best):
        return False
    return epochs_of_second(_best_epoch(state), state.schedule.epochs) > 0


def _second(estimator: Any, job: Job, state: TrainingState) -> TrainingState:
    """The start of a second training. What is the best so far goes on to be that."""
    best = _best_epoch(state)
    more = epochs_of_second(best, state.schedule.epochs)
    schedule = state.schedule._replace(epochs=more, start=state.epoch)
    if estimator.verbose:
        print(f"Epoch {best} of {state.epoch} was the best: training once more, for {more} epochs.")
    logger.info("%s: the best epoch was %d; once more for %d epochs", type(estimator).__name__, best, more)
    estimator.retraining_ = [schedule.start, more]
    optimizer, theta = make_optimizer(estimator), job.anew()
    return state._replace(
        theta=theta, arrays=optimizer.init(theta), updates=0, learning_rate=schedule.initial, schedule=schedule,
        waited=0, stopped="",
    )  # fmt: skip


class _LastGood:
    """The parameters to go back to where the next ones are not finite.

    Those of a large network on the host are looked at after each epoch, which costs little there, and are then the only
    ones that are held: the fitted attributes are views of them meanwhile.
    """

    def __init__(self, estimator: Any, job: Job, theta: Any) -> None:
        self.estimator, self.job, self.theta = estimator, job, theta

    def take(self, theta: Any) -> bool:
        """Take the latest parameters if it costs little to see that they are finite, and they are."""
        found = theta is self.theta or (_is_large(theta) and is_finite(theta))
        if found:
            self.theta = theta
        return found

    def follow(self, state: TrainingState, before: TrainingState) -> None:
        """Take what is known to be good after another epoch."""
        if not self.take(state.theta) and math.isfinite(state.costs[-1]) and before.theta is not None:
            self.theta = before.theta

    def instead_of(self, state: TrainingState, before: TrainingState) -> Any:
        """What is gone back to from a state that is not finite."""
        if before.theta is not None and is_finite(before.theta):
            self.theta = before.theta
        return self.theta if state.best_theta is None else state.best_theta

    def show(self, state: TrainingState) -> None:
        """Let the fitted attributes of a large network be views of parameters that are held anyway."""
        theta = state.theta if state.best_theta is None else state.best_theta
        if state.best_theta is not None:  # it is what is gone back to
            self.theta = None
        if not self.job.inputs.away and _is_large(theta):
            self.estimator.__dict__.update(self.job.views_of(theta))

    def before_scoring(self, theta: Any) -> None:
        """What scores these has a copy for each thread: let go of earlier ones, but for the best."""
        if not self.estimator.early_stopping and _is_large(theta) and self.take(theta) and not self.job.inputs.away:
            self.estimator.__dict__.update(self.job.views_of(theta))


def _is_large(theta: Any) -> bool:
    return arrays.is_numpy(theta) and theta.size > WORTH_A_LOOK


def _without_arrays(state: TrainingState, good: Any) -> TrainingState:
    """What is held of a state while the next epoch runs: of theta and the best so far one is enough to go back to."""
    held = state.best_theta is not None or (state.theta is good and _is_large(good))
    return state._replace(arrays=(), theta=None if held else state.theta)


def _start(estimator: Any, job: Job, incremental: bool, resumed: Moment | None, batch_size: int) -> TrainingState:
    """A fresh state from the fitted attributes; ``partial_fit`` goes on with that of the last call.

    A fit begins to count anew, a warm start too: a best cost or score belongs to the data and the scoring that it was
    taken on, and those may be others now.
    """
    if resumed is not None:
        return _placed(resumed.state, estimator, job, batch_size)
    optimizer = make_optimizer(estimator)
    if not incremental:
        estimator.__dict__.pop("_optimizer", None)  # an earlier fit's, which takes its memory
    kept = getattr(estimator, "_optimizer", None)
    if incremental and kept is not None and kept.optimizer == optimizer.name:
        there = tuple(job.inputs.place.put(arrays.to_host(array)) for array in kept.arrays)
        schedule = kept.schedule._replace(power=estimator.power_t, epochs=estimator.max_iter, start=0)
        state = kept._replace(theta=job.start(), arrays=there, schedule=schedule, stopped="")
    else:
        kind = estimator.learning_rate
        if estimator.solver == "adam" and kind != "linear":  # Adam scales its steps itself
            kind = "constant"
        rate = float(estimator.learning_rate_init)
        state = TrainingState.start(job.start(), optimizer, Schedule(kind, rate, estimator.power_t, estimator.max_iter))
        state = state._replace(epoch=len(estimator.loss_curve_) if incremental else 0)
    state = state._replace(examples=estimator.t_)
    if not incremental:  # where no score is a number, the best parameters are those of the start
        return state._replace(best_theta=state.theta if estimator.early_stopping else None)
    best = math.inf if estimator.best_loss_ is None else estimator.best_loss_
    return state._replace(best=best, waited=estimator._no_improvement_count)


def _placed(state: TrainingState, estimator: Any, job: Job, batch_size: int) -> TrainingState:
    """A state that was kept, where the passes run. It may have more epochs before it now."""
    put = job.inputs.place.put
    check_between_batches(state, job.m, batch_size)
    schedule = state.schedule
    return state._replace(
        theta=put(state.theta),
        arrays=tuple(put(array) for array in state.arrays),
        best_theta=None if state.best_theta is None else put(state.best_theta),
        schedule=schedule if schedule.is_second else schedule._replace(epochs=estimator.max_iter),
    )


def _watch(estimator: Any, job: Job, good: _LastGood | None = None) -> Watch:
    """What is looked at after an epoch. good : to be told of the parameters before held-out examples are scored"""
    held_out = job.held_out
    if held_out is None:
        return Watch(estimator.tol, estimator.n_iter_no_change, job.offset)

    def cost(theta: Any) -> float:
        if good is not None:
            good.before_scoring(theta)
        return held_out.cost(theta)

    def score(theta: Any, cost: float) -> float:
        return -cost if estimator.scoring == "loss" else _score(estimator, theta, held_out)

    asked = score if estimator.early_stopping else None
    return Watch(estimator.tol, estimator.n_iter_no_change, job.offset, cost, asked)


def _score(estimator: Any, theta: Any, held_out: HeldOut) -> float:
    predicted = held_out.predict(theta, estimator._finish_score)
    if predicted.dtype.kind == "f" and not np.isfinite(predicted).all():
        return math.nan
    return float(estimator._score_of(held_out.target, predicted, held_out.weight))


def _begin(estimator: Any) -> None:
    """The attributes of what is counted: the loss, or the score of held-out examples."""
    if estimator.early_stopping:
        estimator.validation_scores_ = estimator.validation_scores_ or []
        estimator.best_loss_ = None
    else:
        estimator.validation_scores_ = estimator.best_validation_score_ = None


def _write_down(estimator: Any, state: TrainingState) -> None:
    """An epoch's state as fitted attributes, and as lines if ``verbose``."""
    estimator.t_ = state.examples
    append_cost(estimator, state.costs[-1])
    if len(state.held_out):
        append_held_out(estimator, state.held_out[-1])
    if len(state.scores):
        estimator.validation_scores_.append(state.scores[-1])
        estimator.best_validation_score_ = -state.best
        if estimator.verbose:
            print(f"Validation score: {state.scores[-1]:f}")
    else:
        estimator.best_loss_ = state.best
    estimator._no_improvement_count = state.waited


def append_cost(estimator: Any, cost: float) -> None:
    estimator.n_iter_ += 1
    estimator.loss_ = cost
    estimator.loss_curve_.append(cost)
    logger.debug("%s: iteration %d, cost %.8g", type(estimator).__name__, estimator.n_iter_, cost)
    if estimator.verbose:
        print(f"Iteration {estimator.n_iter_}, loss = {cost:.8f}")


def append_held_out(estimator: Any, cost: float) -> None:
    estimator.validation_costs_ = estimator.validation_costs_ or []
    estimator.validation_costs_.append(cost)


def _at_plateau(estimator: Any, before: TrainingState, state: TrainingState) -> bool:
    """True where the training is at its end; "adaptive" has lowered the rate instead, as long as it can."""
    lowered = state.schedule.kind == "adaptive" and state.learning_rate < before.learning_rate
    if estimator.verbose and (state.stopped or lowered):
        what = "Validation score" if estimator.early_stopping else "Training loss"
        then = state.stopped or f"Setting learning rate to {state.learning_rate:f}"
        plateau = f"tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive epochs"
        print(f"{what} did not improve more than {plateau}. {then}")
    return bool(state.stopped)


def _note_divergence(estimator: Any, good: Any, job: Job) -> None:
    """Keep the last parameters that are of use. An error follows, unless ``early_stopping`` has a best to go to."""
    estimator.__dict__.update(job.weights_of(good))
    if estimator.early_stopping:
        warnings.warn(
            f"The parameters had stopped being finite in epoch {estimator.n_iter_} of {estimator.solver}; the training "
            f"ends with the best so far. A smaller learning_rate_init than {estimator.learning_rate_init} helps.",
            ConvergenceWarning,
            stacklevel=8,
        )


def _warn_not_converged(estimator: Any, incremental: bool) -> None:
    if incremental or estimator.learning_rate == "linear":  # "linear" is at its end after max_iter epochs, as planned
        return
    name = "Gradient descent" if OPTIMIZERS[estimator.solver].whole else "Stochastic Optimizer"
    warnings.warn(
        f"{name}: Maximum iterations ({estimator.max_iter}) reached and the optimization hasn't converged yet.",
        ConvergenceWarning,
        stacklevel=8,
    )


def said_of_order(estimator: Any, job: Job) -> str:
    """What is said of the order of the examples, where mini-batches of a large map are not shuffled as a whole."""
    said = said_of(job.objective.examples.X) if estimator.solver in OPTIMIZERS and estimator.shuffle else ""
    if not said or _rows_of_a_batch(estimator, job) >= job.m:
        return ""
    logger.info("%s: %s", type(estimator).__name__, said)
    if estimator.verbose:
        print(f"{said}.")
    return said


def _batch_size(estimator: Any, job: Job) -> int:
    found = _rows_of_a_batch(estimator, job)
    if found > job.m:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=7
        )
    return min(found, job.m)


def _rows_of_a_batch(estimator: Any, job: Job) -> int:
    m = job.m
    if estimator.batch_size == "full" or OPTIMIZERS[estimator.solver].whole:
        return m
    if estimator.batch_size == "auto" and isinstance(job.inputs.X, Sharded):
        return usual_batch(job.objective.examples)
    if estimator.batch_size == "auto":
        return min(200, m)
    return int(estimator.batch_size)


def is_finite(theta: Any) -> bool:
    """Whether all parameters are: by blocks on the host, where memory is short; a device is waited for once."""
    xp = arrays.namespace(theta)
    blocks = (block for _, block in row_blocks(theta)) if arrays.is_numpy(theta) else (theta,)
    return all(bool(xp.all(xp.isfinite(block))) for block in blocks)
