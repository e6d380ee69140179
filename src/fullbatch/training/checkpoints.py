"""What a training tells a checkpoint, what it is told by one, and whether it may go on from there.

The estimators and functions know a checkpoint by two methods alone; ``fullbatch.saving`` has one that writes a file.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fullbatch.errors import InputError
from fullbatch.machine.provenance import provenance
from fullbatch.training.optimizers import Evaluation
from fullbatch.training.state import TrainingState

if TYPE_CHECKING:
    from fullbatch.training.objective import Objective


class Moment(NamedTuple):
    """A training between two updates, and all that its going on depends on.

    state       : as it is
    model       : gives the model as of this state: it is asked where the moment is kept, and not before
    facts       : as JSON has them: "data", the fingerprints by name; "settings"; "made_by", what bits depend on
    generator   : NumPy's RandomState as it was before anything was drawn; None where nothing is
    evaluation  : what L-BFGS has just been told;  number : which one it is of its search, from 1 on
    evaluations : those of its search so far, for a training that goes on; None where they are not kept
    search      : a name for that search, and for no other;  before : iterations that were over when it began
    last        : no other moment follows: it is to be kept at once
    anywhere    : whether the model can be asked for in any thread, as where no device is concerned
    """

    state: TrainingState
    model: Callable[[], Any]
    facts: Mapping[str, Any]
    generator: Any = None
    evaluation: Evaluation | None = None
    number: int = 0
    evaluations: Iterable[Evaluation] | None = None
    search: str = ""
    before: int = 0
    last: bool = False
    anywhere: bool = False


class Checkpoint(Protocol):
    """Where a training is kept. If it has ``due()`` too, that says whether it would do anything with a moment now."""

    def tell(self, moment: Moment) -> None:
        """Told after updates, thousands of times a second: it does nothing until it is time."""
        ...

    def state(self) -> Moment:
        """The moment that was kept last."""
        ...


def is_checkpoint(value: Any) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("tell", "state"))


def is_due(keeper: Any) -> bool:
    """Whether it would do anything with a moment now: else none is made, which may copy all parameters."""
    due = getattr(keeper, "due", None)
    return due is None or bool(due())


def moment_of(resume: Any) -> Moment | None:
    """What to go on from: None for None."""
    if resume is None:
        return None
    if not is_checkpoint(resume):
        raise InputError(f"resume must be a fullbatch.Checkpoint; got {type(resume).__name__}.")
    moment = resume.state()
    assert isinstance(moment, Moment)
    return moment


def made_by(objective: Objective, device: str) -> dict[str, str]:
    """What the bits depend on beside data and settings."""
    fold = objective.fold
    return {**provenance(), "step": fold.step_name, "device": device, "precision": fold.precision}


def check_same(moment: Moment, facts: Mapping[str, Any]) -> None:
    """Refuse to go on with other data or other settings. InputError, which names what differs and both values."""
    _check_data(moment.facts["data"], facts["data"])
    kept, now = moment.facts["settings"], facts["settings"]
    for name in now:
        if kept.get(name) != now[name]:
            raise InputError(unlike(name, kept.get(name), now[name]))


def unlike(name: str, kept: Any, now: Any) -> str:
    """The words for a setting that a training cannot change."""
    return (
        f"{name} is {now!r}, and {kept!r} in the checkpoint: a training that goes on cannot change it. "
        "Give it as it was, or train anew."
    )


def _check_data(kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in dict.fromkeys([*kept, *now]):
        if name not in now or name not in kept:
            having, lacking = ("the checkpoint's", "this one") if name in kept else ("this", "the checkpoint's")
            raise InputError(f"{having} training has {name} and {lacking} has not: a training goes on with its own.")
        for fact, word in (("shape", "shape"), ("dtype", "dtype"), ("checksum", "values")):
            if kept[name][fact] != now[name][fact]:
                told = "" if word == "values" else f" ({now[name][fact]} and {kept[name][fact]})"
                raise InputError(
                    f"{name} has other {word} than in the checkpoint{told}: a training goes on with its own data. "
                    "Give the same examples in the same order, or train anew."
                )


def warn_of_other_bits(moment: Moment, now: Mapping[str, str], stacklevel: int) -> None:
    """Say what has changed of that which decides about the last digits."""
    kept = moment.facts["made_by"]
    others = [name for name in now if now[name] != kept.get(name)]
    changed = [f"{name} {kept.get(name, 'unknown')} then and {now[name]} now" for name in others]
    if changed:
        warnings.warn(
            f"the training goes on, but its last digits will differ from those that it would have had: "
            f"{'; '.join(changed)}.",
            stacklevel=stacklevel,
        )


def check_between_batches(state: TrainingState, m: int, batch_size: int) -> None:
    """An epoch is left between two batches; anywhere else is a file that was tampered with."""
    between = state.epoch_examples <= m and (state.epoch_examples % batch_size == 0 or state.epoch_examples == m)
    if not between or state.updates < -(-state.epoch_examples // batch_size):
        raise InputError(
            f"the checkpoint is damaged: example {state.epoch_examples} of {m} is not between "
            f"two batches of {batch_size}."
        )
