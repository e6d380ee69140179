"""What the runs of the commands share: the result, the time that is left, and limits that are measured again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench import children, roofline
from bench.results import Result
from bench.roofline import Limits
from bench.timing import not_begun, too_long, used_up

Say = Callable[[str], None]
Summary = Callable[[list[dict[str, Any]]], dict[str, Any]]


@dataclass
class Run:
    """A run in progress: where its points go, and what it says. ``deadline`` is by time.perf_counter().

    summary : of all points, where it follows from them alone
    longest : seconds of one point with all that is around it, by whom it is of
    """

    result: Result
    budget: float
    deadline: float
    save: Callable[[], None]
    say: Say
    summary: Summary = field(default=lambda points: {}, kw_only=True)
    longest: dict[Any, float] = field(default_factory=dict, kw_only=True)

    @classmethod
    def from_now(cls, result: Result, budget: float, save: Callable[[], None], say: Say, summary: Summary) -> Run:
        return cls(result, budget, time.perf_counter() + budget, save, say, summary=summary)

    def leave_out(self, line: str) -> None:
        self.result.leave_out(line, self.say)

    @property
    def left(self) -> float:
        return self.deadline - time.perf_counter()

    def is_late(self, name: str, who: Any = None) -> bool:
        """Whether there is no time for a point any more, as far as is known; then a line says so."""
        left, seconds = self.left, self.longest.get(who, 0.0)
        if 0 < left >= seconds:
            return False
        takes = f"it takes about {seconds:,.0f} s, {too_long(self.budget)}"
        self.leave_out(f"{name}: left out: {takes if left > 0 else beyond(self.budget)}")
        return True

    def keep(self, point: dict[str, Any], line: str) -> None:
        """Write a point down, and say it."""
        self.result.points.append(point)
        self.result.summary = self.summary(self.result.points)
        self.save()
        self.say(line)


def beyond(budget: float) -> str:
    return f"beyond the budget of {budget:g} s"


def in_turn(names: Sequence[str], seed: int) -> list[str]:
    """The names, with each seed from another one on."""
    turn = seed % max(1, len(names))
    return [*names[turn:], *names[:turn]]


def deadline(began: float, budget: float) -> float:
    """Of a run that has measured its limits since ``began``: they are measured once more at the end."""
    return began + budget - (time.perf_counter() - began)


def no_room(need: int, free: int | None, about: str = "") -> str | None:
    """Why so many bytes are not to be had, or None."""
    return None if free is None or need <= free else f"{about}{need:,} bytes are needed, {free:,} are free"


class Job(NamedTuple):
    """One thing to measure.

    name : for the lines about it;  beyond(left) : why it is left out, or None
    measure(share, left) : the point, within the seconds of a contest.Span; ChildError where its process fails
    """

    name: str
    beyond: Callable[[float], str | None]
    measure: Callable[[float, float], dict[str, Any]]


def one_by_one(
    jobs: Sequence[Job],
    result: Result,
    budget: float,
    *,
    summary: Callable[[Sequence[dict[str, Any]], Limits], dict[str, Any]],
    describe: Callable[[dict[str, Any]], str],
    quick: bool,
    save: Callable[[], None],
    say: Say,
) -> None:
    """Measure all jobs on the CPU into ``result``; ``save`` is called after each."""
    began = time.perf_counter()
    known = roofline.from_json(result.summary.get("limits", {})).get("cpu", Limits(0, 0))
    limits = roofline.cpu_limits(quick=quick).best(known)
    here = Run(result, budget, deadline(began, budget), save, say)
    say(f"the machine's limits: {limits}")
    try:
        for index, job in enumerate(jobs):
            left = here.left
            if reason := job.beyond(left) if left > 0 else beyond(budget):
                here.leave_out(f"{job.name}: left out: {reason}")
                continue
            if index:  # beside the rounds, so that a disturbed beginning does not set the limit
                limits = limits.best(roofline.cpu_limits(quick=quick))
            point = _point(here, job, left / (len(jobs) - index), left)
            if point is not None:
                result.points.append(point)
                result.summary = summary(result.points, limits)
                say(describe(point))
                save()
    finally:
        if result.points:  # what was measured while the machine was disturbed is no limit
            result.summary = summary(result.points, limits.best(roofline.cpu_limits(quick=quick)))
            save()


def _point(here: Run, job: Job, share: float, left: float) -> dict[str, Any] | None:
    """What the job gives; None, and a line that says why, where it gives nothing."""
    try:
        point = job.measure(share, left)
    except children.ChildError as error:
        here.leave_out(f"{job.name}: left out: {error}")
        return None
    for name, why in point["left_out"].items():
        here.leave_out(f"{job.name}: {name}: left out: {why}")
    if not_begun(point["rounds"]):
        here.leave_out(f"{job.name}: left out: {used_up(here.budget)} before its first round")
        return None
    return point
