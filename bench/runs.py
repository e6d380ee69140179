"""What the runs of the commands share: the result, the time that is left, and limits that are measured again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench import children, roofline
from bench.forms import Limits
from bench.results import Result
from bench.timing import not_begun, too_long, used_up

Point = dict[str, Any]
Limited = dict[str, Limits]  # by the device


@dataclass
class Run:
    """A run in progress, since it was made: where its points go, what it says, the seconds of ``budget`` that are left.

    save : writes the result;  summary : of all points and of the machine's limits, where those are measured
    longest : seconds of one point with all that is around it, by whom it is of
    """

    result: Result
    budget: float
    save: Callable[[], None]
    say: Callable[[str], None]
    summary: Callable[[list[Point], Limited], dict[str, Any]] = lambda points, limits: {}
    limits: Limited = field(default_factory=dict)
    longest: dict[Any, float] = field(default_factory=dict)
    deadline: float = field(init=False)  # by time.perf_counter()

    def __post_init__(self) -> None:
        self.deadline = time.perf_counter() + self.budget

    @property
    def left(self) -> float:
        return self.deadline - time.perf_counter()

    def leave_out(self, line: str) -> None:
        """Note what is left out, and say it, once."""
        if line not in self.result.left_out:
            self.result.left_out.append(line)
            self.say(line)

    def is_late(self, name: str, who: Any = None) -> bool:
        """Whether there is no time for a point any more, as far as is known; then a line says so."""
        left, seconds = self.left, self.longest.get(who, 0.0)
        if 0 < left >= seconds:
            return False
        takes = f"it takes about {seconds:,.0f} s, {too_long(self.budget)}"
        self.leave_out(f"{name}: left out: {takes if left > 0 else beyond(self.budget)}")
        return True

    def keep(self, point: Point, line: str) -> None:
        """Write a point down, and say it."""
        self.result.points.append(point)
        self.say(line)
        self.conclude()

    def conclude(self) -> None:
        """Write down what follows from all points so far."""
        self.result.summary = self.summary(self.result.points, self.limits)
        self.save()

    @contextmanager
    def beside(self, measure: Callable[[], Limited]) -> Iterator[Callable[[], None]]:
        """Measure the machine's limits before and after what is within, which gets a call to measure them between.

        What was measured while the machine was disturbed is no limit: the highest of all count, also of a run that this
        one goes on with.
        """

        def look() -> None:
            for device, limits in measure().items():
                self.limits[device] = limits.best(self.limits.get(device, limits))

        began = time.perf_counter()
        self.limits = roofline.from_json(self.result.summary.get("limits", {}))
        look()
        self.deadline -= time.perf_counter() - began  # it takes as long at the end
        for device, limits in self.limits.items():
            self.say(f"{device}: the machine's limits: {limits}")
        try:
            yield look
        finally:
            if self.result.points:
                look()
                self.conclude()


def beyond(budget: float) -> str:
    return f"beyond the budget of {budget:g} s"


def in_turn(names: Sequence[str], seed: int) -> list[str]:
    """The names, with each seed from another one on."""
    turn = seed % max(1, len(names))
    return [*names[turn:], *names[:turn]]


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
    measure: Callable[[float, float], Point]


def one_by_one(here: Run, jobs: Sequence[Job], describe: Callable[[Point], str], *, quick: bool) -> None:
    """Measure all jobs on the CPU."""
    with here.beside(lambda: {"cpu": roofline.cpu_limits(quick=quick)}) as look:
        for index, job in enumerate(jobs):
            left = here.left
            if reason := job.beyond(left) if left > 0 else beyond(here.budget):
                here.leave_out(f"{job.name}: left out: {reason}")
                continue
            if index:  # beside the rounds, so that a disturbed beginning does not set the limit
                look()
            point = _point(here, job, left / (len(jobs) - index), left)
            if point is not None:
                here.keep(point, describe(point))


def _point(here: Run, job: Job, share: float, left: float) -> Point | None:
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
