"""A comparison: who takes part, and their times in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench import children, own
from bench.timing import Contender, Rules, take_turns, two_threads
from fullbatch.machine.threads import thread_count


class Entry(NamedTuple):
    """``kind``: "own"; "as used", the way people use it; or "by hand", what one could write.

    package : what it needs;  native : for one of our own ways, its value of FULLBATCH_NATIVE
    """

    make: Callable[..., Any]
    package: str
    kind: str
    native: str | None = None


class Trial(NamedTuple):
    """What came of a try: what is to be timed, by how much it is off, and, if it is our own, the step that it ran.

    error_of_gradient : where it gives one (problem.py)
    """

    contender: Any
    error: float
    ran: str = ""
    error_of_gradient: float | None = None


@dataclass
class Field:
    """Who takes part, their errors, the steps that our own ways run, and why the others are left out."""

    contenders: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    errors_of_gradient: dict[str, float] = field(default_factory=dict)
    ran: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class Span(NamedTuple):
    """The seconds that preparations and rounds may take, counted from ``began``, by time.perf_counter().

    share : for all but the rounds that there must be at the least;  left : for these too
    """

    began: float
    share: float
    left: float

    @classmethod
    def from_now(cls, share: float, left: float) -> Span:
        return cls(time.perf_counter(), share, left)

    @property
    def end(self) -> float:
        return self.began + self.left


def field_of(
    entries: Mapping[str, Entry],
    names: Sequence[str],
    attempt: Callable[[Entry], Trial],
    tolerance: float,
    until: float = math.inf,
) -> Field:
    """Of the named entries those that are installed, run as their name says and are off by ``tolerance`` at most.

    until : by time.perf_counter(); who comes after it is not tried any more
    """
    found = Field()
    for name, entry in entries.items():
        if name not in names:
            continue
        reason = own.not_installed(entry.package) or own.missing(entry.native)
        if reason is None and time.perf_counter() > until:
            reason = "the time was up before it was tried"
        if reason is None:
            try:
                trial = attempt(entry)
                reason = own.other_than(entry.native, trial.ran)
                if not trial.error <= tolerance:  # NaN too
                    reason = f"it does not compute the same: the difference is {trial.error:.1e} of the largest value"
            except Exception as fault:  # another project's code: what fails is said, and the rest goes on
                reason = children.one_line(fault)
        if reason is not None:
            found.left_out[name] = reason
            continue
        found.contenders[name], found.errors[name] = trial.contender, trial.error
        if trial.error_of_gradient is not None:
            found.errors_of_gradient[name] = trial.error_of_gradient
        if entry.kind == "own":
            found.ran[name] = trial.ran
    return found


def point(found: Field, contenders: Mapping[str, Contender], rules: Rules, span: Span, **what: Any) -> dict[str, Any]:
    """Time the contenders within the span: the point for the JSON, with ``what`` in it."""
    gauge = two_threads() if rules.quiet > 0 else None
    ready = time.perf_counter() - span.began
    rounds = take_turns(contenders, rules, seconds=span.share - ready, left=span.left - ready, gauge=gauge)
    return {
        **what, "dtype": "float32", "threads": thread_count(None),
        "times": {name: rounds.timing(name) for name in contenders}, "steps": found.ran,
        "errors": found.errors, "error_of_gradient": found.errors_of_gradient,
        "left_out": found.left_out, "rounds": rounds.summary(),
        "least_seconds": ready + rounds.longest * rules.least,
    }  # fmt: skip
