"""fullbatch's own ways of a step on the CPU: as installed, held to AVX2, and NumPy in blocks alone.

The environment variable FULLBATCH_NATIVE, which the package reads at each call, says which; what really ran is noted as
the steps are made, and a way that did not run as its name says is not timed.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fullbatch import steps
from fullbatch.machine import native_library
from fullbatch.training import minibatches
from fullbatch.training.native_batches import NativeBatches

USUAL = "fullbatch"
WAYS: dict[str, str | None] = {  # the values of FULLBATCH_NATIVE; None: as it is
    USUAL: None,
    "fullbatch, AVX2": "avx2",
    "fullbatch, NumPy alone": "off",
}


@contextmanager
def forced(value: str | None) -> Iterator[None]:
    """FULLBATCH_NATIVE is ``value`` within; None leaves it as it is."""
    before = os.environ.get(native_library.VARIABLE)
    try:
        if value is not None:
            os.environ[native_library.VARIABLE] = value
        yield
    finally:
        if before is not None:
            os.environ[native_library.VARIABLE] = before
        else:
            os.environ.pop(native_library.VARIABLE, None)


def not_installed(package: str) -> str | None:
    """Why a contender cannot take part, or None."""
    return None if importlib.util.find_spec(package) else f"{package} is not installed"


def missing(value: str | None) -> str | None:
    """Why a way cannot take part, by its value of FULLBATCH_NATIVE; None if it can."""
    if value is None:
        return None
    usual = native_library.isa()
    if usual is None:
        return f"the native step is {native_library.why_not()}" + (f"; {USUAL} is NumPy alone" * (value == "off"))
    if value == usual[1]:
        return f"it is what {USUAL} runs here"
    if value != "off" and value not in (names := [name for _, name in native_library.isas()]):
        return f"this machine can use {', '.join(names)}"
    return None


def label(step: str) -> str:
    """A step's name, with the instruction set that FULLBATCH_NATIVE gives now: "native, avx512"."""
    isa = native_library.isa() if step == "native" else None
    return step if isa is None else f"{step}, {isa[1]}"


@contextmanager
def seen() -> Iterator[dict[str, None]]:
    """Notes what is made within to do the work, in order: "inplace", "native, avx512", or "native, avx512, whole
    epochs" where the batches of an epoch run without Python between them.
    """
    labels: dict[str, None] = {}
    make_step, make_batches = steps.make, minibatches.make

    def noted_step(*arguments: Any, **options: Any) -> Any:
        step = make_step(*arguments, **options)
        labels[label(step.name)] = None
        return step

    def noted_batches(*arguments: Any, **options: Any) -> Any:
        batches = make_batches(*arguments, **options)
        if isinstance(batches, NativeBatches):
            labels[f"{label('native')}, whole epochs"] = None
        return batches

    steps.make, minibatches.make = noted_step, noted_batches
    try:
        yield labels
    finally:
        steps.make, minibatches.make = make_step, make_batches


class EachEpoch:
    """A callback of scikit-learn's protocol: ``note()`` is called at the end of each epoch."""

    def __init__(self, note: Callable[..., None]) -> None:
        self.note = note

    def setup(self, estimator: Any, context: Any) -> None: ...

    def teardown(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        if context.max_subtasks == 0:  # the whole fit has its epochs as subtasks
            self.note()


class EachModel(EachEpoch):
    """The same, and ``note`` gets the model as it is then, which costs a copy of it."""

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> None:
        if context.max_subtasks == 0:
            self.note(fitted_estimator)


def other_than(value: str | None, ran: str) -> str | None:
    """What to say where a way did not run as its value of FULLBATCH_NATIVE asks; None if it did."""
    if value is None:
        return None
    as_asked = not ran.startswith("native") if value == "off" else ran.startswith(f"native, {value}")
    return None if as_asked else f"it ran the step {ran!r}"
