"""A training's state as JSON and plain arrays, and back: what a checkpoint has beside the model.

What is read is data: every field is looked at before any library gets it, and each array is named exactly once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from fullbatch.machine.plain_values import Arrays, is_count, mt19937_state, pack, require, unpack
from fullbatch.training.checkpoints import Moment
from fullbatch.training.optimizers import OPTIMIZERS
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import DrawnOrder, History, OrderState, TrainingState

VERSION = 2  # in 1 no order was ever kept
TOKEN = re.compile("[0-9a-f]{8}")
KINDS_OF_RATE = ("constant", "invscaling", "adaptive", "linear")
HISTORIES = ("costs", "held_out", "scores")
COUNTS = ("updates", "epoch", "examples", "waited", "epoch_examples")
NUMBERS = ("learning_rate", "best", "total")
IN_FILES = {"epoch_examples": "place"}  # what another name stands for in checkpoints of all versions


class LogName(NamedTuple):
    """Which log of L-BFGS's evaluations belongs to a checkpoint. token : of its name;  entries : how many count"""

    token: str
    entries: int


class Once(Mapping[str, np.ndarray]):
    """Arrays by name, each of which can be had once."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.left = dict(arrays)

    def __getitem__(self, name: str) -> np.ndarray:
        if not isinstance(name, str) or name not in self.left:
            raise ValueError(f"an array is named twice, or is not there: {str(name)[:40]!r}")
        return self.left.pop(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.left)

    def __len__(self) -> int:
        return len(self.left)


# --- Write ---------------------------------------------------------------------------------------------------


def pack_moment(moment: Moment, model_theta: np.ndarray, arrays: Arrays, log: LogName | None) -> Any:
    """The moment as JSON; its arrays go to ``arrays``, but for those that are the model's own parameters.

    model_theta : the model's parameters as one vector;  log : of L-BFGS's evaluations, if they are kept
    """
    state = moment.state

    def vector(name: str, value: Any) -> Any:
        if value is not None and value.dtype == model_theta.dtype and _same_bits(value, model_theta):
            return "model"
        return pack(value, f"training.{name}", arrays)

    kept = {name: getattr(state, name) for name in (*COUNTS, *NUMBERS, "optimizer", "stopped")}
    values = {
        **kept,
        "schedule": list(state.schedule),
        "arrays": list(state.arrays),
        "order": None if state.order is None else _pack_order(state.order),
        **{name: list(getattr(state, name)) for name in HISTORIES},
    }
    return {
        "version": VERSION,
        "state": {IN_FILES.get(name, name): pack(value, f"training.{name}", arrays) for name, value in values.items()},
        "theta": vector("theta", state.theta),
        "best_theta": vector("best_theta", state.best_theta),
        "generator": pack(_pack_generator(moment.generator), "training.generator", arrays),
        "facts": dict(moment.facts),
        "log": None if log is None else log._asdict(),
        "search": moment.search,
        "before": moment.before,
    }


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same numbers, signs of zeros included."""
    bits = f"u{a.dtype.itemsize}"
    return bool(np.array_equal(a.view(bits), b.view(bits)))


def _pack_generator(state: Any) -> Any:
    return None if state is None else list(state)


def _pack_order(order: Any) -> list[Any]:
    kept = order.kept
    drawn = None if kept is None else [kept.drawn, list(kept.now), kept.indices]
    return [list(order.start), order.drawn, list(order.now), order.shared, drawn]


# --- Read ----------------------------------------------------------------------------------------------------


def unpack_moment(
    content: Any, arrays: Mapping[str, np.ndarray], model_theta: np.ndarray, model: Callable[[], Any]
) -> tuple[Moment, LogName | None]:
    """``pack_moment``, undone: ValueError and its like for what it does not write.

    The evaluations of L-BFGS are the caller's to read, from the log that is named.
    """
    unpacked = {name: unpack(value, arrays) for name, value in content["state"].items()}
    state = _state({**unpacked, **{name: unpacked[there] for name, there in IN_FILES.items()}})
    theta = _vector(content["theta"], arrays, model_theta)
    best = _vector(content["best_theta"], arrays, model_theta)
    require(theta is not None, "it has no parameters")
    state = state._replace(theta=theta, best_theta=best)
    _check_vectors(state, model_theta)
    generator = unpack(content["generator"], arrays)
    facts, search, before = content["facts"], content["search"], content["before"]
    _check_facts(facts)
    require(is_count(before) and before <= state.epoch, "before is no count of iterations")
    require(isinstance(search, str) and len(search) <= 8, "search is no name")
    log = None if content["log"] is None else LogName(**content["log"])
    if log is not None:
        require(isinstance(log.token, str) and TOKEN.fullmatch(log.token) is not None, "log is damaged")
        require(is_count(log.entries) and log.entries <= state.updates, "log is damaged")
    return Moment(state, model, facts, _generator(generator), search=search, before=before), log


def _state(values: Mapping[str, Any]) -> TrainingState:
    for name in COUNTS:
        require(is_count(values[name]), f"{name} is no count")
    for name in NUMBERS:
        require(_is_float(values[name]), f"{name} is no number")
    require(is_rate(values["learning_rate"]), "learning_rate is no rate")
    for name in ("optimizer", "stopped"):
        require(isinstance(values[name], str), f"{name} is no text")
    histories: dict[str, Any] = {}
    for name in HISTORIES:
        require(isinstance(values[name], list) and all(map(_is_float, values[name])), f"{name} are no numbers")
        histories[name] = History(values[name])
    epoch = values["epoch"]
    require(len(histories["costs"]) == epoch, "epoch is not the number of costs")
    require(all(len(histories[name]) in (0, epoch) for name in HISTORIES), "held_out and scores are not as many")
    optimizer, kept = values["optimizer"], values["arrays"]
    keeps = 1 if optimizer == "lbfgs" else OPTIMIZERS[optimizer].keeps
    require(isinstance(kept, list) and len(kept) == keeps, "arrays are not the optimizer's")
    return TrainingState(
        None, optimizer, schedule_of(values["schedule"]), tuple(kept), order=_order(values["order"], epoch),
        **histories, **{name: values[name] for name in (*COUNTS, *NUMBERS, "stopped")},
    )  # fmt: skip


def schedule_of(values: Any) -> Schedule:
    """The schedule of the values that a file has of it. ValueError or TypeError for what is none."""
    kind, initial, power, epochs, start = values if len(values) == 5 else (*values, 0)  # earlier ones have four
    fits = kind in KINDS_OF_RATE and is_rate(initial) and is_rate(power) and is_count(epochs) and epochs > 0
    require(fits and is_count(start), "schedule is damaged")
    return Schedule(kind, initial, power, epochs, start)


def is_rate(value: Any) -> bool:
    """Whether it is a finite number of at least 0."""
    return _is_float(value) and 0 <= value < math.inf


def _order(values: Any, epoch: int) -> Any:
    if values is None:
        return None
    start, drawn, now, shared, kept = values if len(values) == 5 else (*values, None)  # version 1 has four
    require(is_count(drawn) and drawn == epoch and isinstance(shared, bool), "order is not that of the epoch")
    start, now = _generator(start), _generator(now)
    require(start is not None and now is not None, "order has no generator")
    return OrderState(start, drawn, now, shared, None if kept is None else _drawn_order(kept, drawn))


def _drawn_order(values: Any, at_most: int) -> DrawnOrder:
    drawn, now, indices = values
    require(is_count(drawn) and 0 < drawn <= at_most, "the order that is kept is none of those that were drawn")
    generator = _generator(now)
    fits = isinstance(indices, np.ndarray) and indices.ndim == 1 and indices.dtype in (np.int32, np.int64)
    require(generator is not None and fits, "the order that is kept is damaged")
    each = np.zeros(len(indices), bool)
    inside = bool(((indices >= 0) & (indices < len(indices))).all())
    if inside:
        each[indices] = True
    require(inside and bool(each.all()), "the order that is kept has not each example once")
    return DrawnOrder(drawn, generator, indices)


def _generator(values: Any) -> Any:
    """The state of a generator, or None."""
    if values is None:
        return None
    return mt19937_state(*values)


def _vector(value: Any, arrays: Mapping[str, np.ndarray], model_theta: np.ndarray) -> Any:
    return model_theta if value == "model" else unpack(value, arrays)


def _check_vectors(state: TrainingState, model_theta: np.ndarray) -> None:
    """All vectors are as long as the model's parameters, and of their dtype; L-BFGS's are SciPy's float64."""
    dtype = np.dtype(np.float64) if state.optimizer == "lbfgs" else model_theta.dtype
    of_the_network = [state.theta, *([] if state.best_theta is None else [state.best_theta])]
    for vector in (*of_the_network, *state.arrays):
        fits = isinstance(vector, np.ndarray) and vector.shape == model_theta.shape and vector.dtype == dtype
        require(fits, "a vector is not like the parameters")
    require(all(bool(np.isfinite(vector).all()) for vector in of_the_network), "parameters are not finite")


def _check_facts(facts: Any) -> None:
    require(isinstance(facts, dict) and set(facts) == {"data", "settings", "made_by"}, "facts are damaged")
    require(all(isinstance(value, dict) for value in facts.values()), "facts are damaged")
    for one in facts["data"].values():
        require(isinstance(one, dict) and set(one) == {"shape", "dtype", "checksum"}, "a fingerprint is damaged")
        require(isinstance(one["shape"], list) and all(map(is_count, one["shape"])), "a fingerprint is damaged")
        require(all(isinstance(one[name], str) for name in ("dtype", "checksum")), "a fingerprint is damaged")
    require(all(isinstance(value, str) for value in facts["made_by"].values()), "made_by is damaged")


def _is_float(value: Any) -> bool:
    return isinstance(value, float) or is_count(value)
