"""The rules of a timing.

Contenders take turns: one call of each is one round, and each round starts with the next one of them, so that a slow
minute of the machine falls on all. Before a timed call come a pause, because the threads of OpenBLAS and of OpenMP spin
for a while after a product and would take the cores of whoever runs next, and untimed calls, which warm caches, threads
and the allocator.

Before and after each round a matrix product is timed on one and on two threads. On a machine with two free cores the
second thread nearly halves the time; a round around which it does not was disturbed, and is dropped and counted. Where
no round is left, the least disturbed ones give the figures all the same, and are marked: a figure with a doubt is worth
more than none.

A call that is short is timed many times in a row, because a core that is woken, or a page that is not there yet, costs
as much as the call itself; how many calls make one sample stands beside the samples.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fullbatch.machine.threads import thread_count

Clock = Callable[[Callable[[], Any]], float]  # call -> its seconds


@dataclass(frozen=True)
class Rules:
    """How contenders are timed. Seconds."""

    pause: float = 0.2
    untimed: int = 2  # calls at least, for
    warm: float = 0.1  # seconds at least: after a pause a core takes that long to be as fast as it can
    rounds: int = 7  # that are kept, at most; fewer where the time is up
    least: int = 3  # rounds that are run beyond a contender's share of the time; twice as many while none is kept
    quiet: float = 1.6  # a round is kept if two threads give this many times one before and after it; 0 keeps all
    odd: float = 2.4  # and not more than this: then the one was disturbed
    shortest: float = 0.02  # a sample lasts so long at the least: a shorter call is timed several times in a row

    @classmethod
    def quick(cls) -> Rules:
        """For a try in seconds; its figures are not worth quoting."""
        return cls(pause=0.0, untimed=1, warm=0.0, rounds=2, least=1, quiet=0.0, shortest=0.0)


class Contender(NamedTuple):
    """``call`` does the work once and returns when it is done; ``warm`` is the untimed call, if not the same."""

    call: Callable[[], Any]
    clock: Clock
    warm: Callable[[], Any] | None = None


class Gauge(NamedTuple):
    """Seconds of one matrix product, on one thread and on two."""

    one: float
    two: float

    @property
    def ratio(self) -> float:
        return self.one / self.two


@dataclass
class Rounds:
    """What the turns gave: seconds by contender, of the rounds that were kept."""

    samples: dict[str, list[float]]
    gauges: list[Gauge] = field(default_factory=list)
    kept: int = 0
    dropped: int = 0
    longest: float = 0.0  # seconds of a round
    calls: dict[str, int] = field(default_factory=dict)  # of each contender, in a row for one sample
    cut: bool = False  # whether the time ended before there were as many as there should be at the least
    used: list[int] = field(default_factory=list)  # which of the rounds begun gave the samples
    disturbed: bool = False  # whether no round was kept, so that the samples are of the least disturbed

    @property
    def begun(self) -> int:
        return self.kept + self.dropped

    def take(self, index: int, measured: Mapping[str, float]) -> None:
        """Let a round that was begun give samples."""
        self.used.append(index)
        for name, value in measured.items():
            self.samples[name].append(value)

    def summary(self) -> dict[str, Any]:
        """For the JSON: how the rounds went."""
        ratios = [round(gauge.ratio, 3) for gauge in self.gauges]
        summary = {"kept": self.kept, "dropped": self.dropped, "cut": self.cut, "two_threads_over_one": ratios}
        return {**summary, "disturbed": len(self.used)} if self.disturbed else summary

    def timing(self, name: str) -> dict[str, Any] | None:
        """Median, extremes and all samples of a contender; None if no round was begun."""
        made = timing(self.samples[name], self.calls.get(name, 1))
        return {**made, "disturbed": True} if made and self.disturbed else made


def not_begun(rounds: dict[str, Any]) -> bool:
    """Of a Rounds.summary: whether there was no time for a single round."""
    return bool(rounds["kept"] + rounds["dropped"] == 0)


def doubts(rounds: dict[str, Any]) -> str:
    """Of a Rounds.summary: what to say where the time ended before there were as many as there should be, and where no
    round was quiet and the least disturbed ones count.
    """
    return ", cut short by the budget" * rounds["cut"] + ", disturbed" * bool(rounds.get("disturbed"))


def too_long(budget: float) -> str:
    """After the seconds that something takes."""
    return f"more than is left of the budget of {budget:,g} s"


def used_up(budget: float) -> str:
    return f"the budget of {budget:g} s was used up"


def timing(samples: list[float], calls: int = 1) -> dict[str, Any] | None:
    """Median, extremes, and the samples themselves: seconds of a call, each a mean over so many. None if empty."""
    if not samples:
        return None
    return {
        "median": statistics.median(samples),
        "min": min(samples),
        "max": max(samples),
        "calls": calls,
        "samples": [float(f"{sample:.6g}") for sample in samples],
    }


def wall(call: Callable[[], Any]) -> float:
    """Seconds of a call that returns when its work is done."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def card_seconds(cupy: Any, call: Callable[[], Any]) -> float:
    """By the device's own clock, between two events on the stream that the call works on."""
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    call()
    stop.record()
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop)) / 1000


def take_turns(
    contenders: Mapping[str, Contender],
    rules: Rules,
    *,
    seconds: float,
    left: float = math.inf,
    gauge: Callable[[], Gauge] | None = None,
) -> Rounds:
    """Time the contenders in turn until enough rounds are kept, or until the next round would not end in time.

    seconds : for all of it, but for the rounds that there must be at the least;  left : for these too
    gauge : what tells whether a round was quiet; None keeps all rounds
    """
    rounds = Rounds({name: [] for name in contenders})
    names = list(contenders)
    spoilt: list[tuple[float, int, dict[str, float]]] = []  # by how much, which round, and what it gave
    start = time.perf_counter()
    for index in range(2 * rules.rounds):
        if rounds.kept == rules.rounds:
            break
        began = time.perf_counter()
        enough = rounds.kept >= rules.least or index >= 2 * rules.least
        if began - start + rounds.longest > (min(seconds, left) if enough else left):
            rounds.cut = not enough
            break
        turn = index % len(names)
        seen = _gauged(gauge, rules)
        measured = {name: _one(name, contenders[name], rules, rounds.calls) for name in names[turn:] + names[:turn]}
        seen += _gauged(gauge, rules)
        rounds.gauges += seen
        if any(not rules.quiet <= one.ratio <= rules.odd for one in seen):
            rounds.dropped += 1
            spoilt.append((sum(_beyond(one, rules) for one in seen), index, measured))
        else:
            rounds.kept += 1
            rounds.take(index, measured)
        rounds.longest = max(rounds.longest, time.perf_counter() - began)
    if spoilt and not rounds.kept:
        rounds.disturbed = True
        for _, index, measured in sorted(spoilt, key=lambda one: one[:2])[: min(rules.least, rules.rounds)]:
            rounds.take(index, measured)
    return rounds


def _beyond(gauge: Gauge, rules: Rules) -> float:
    """How far a ratio lies outside of what is quiet."""
    return max(rules.quiet - gauge.ratio, gauge.ratio - rules.odd, 0.0)


def _gauged(gauge: Callable[[], Gauge] | None, rules: Rules) -> list[Gauge]:
    if gauge is None:
        return []
    time.sleep(rules.pause)  # whoever came last may spin still, and would be taken for a disturbance
    return [gauge()]


def _one(name: str, contender: Contender, rules: Rules, calls: dict[str, int]) -> float:
    """A sample: seconds of a call. ``calls`` holds how many in a row make one, found out at the first."""
    warm = contender.warm or contender.call
    time.sleep(rules.pause)
    untimed: list[float] = []
    began = time.perf_counter()
    while len(untimed) < rules.untimed or time.perf_counter() - began < rules.warm:
        untimed.append(wall(warm))
    if name not in calls:
        calls[name] = 1 if min(untimed, default=0.0) >= rules.shortest else _calls(contender, rules)
    if calls[name] == 1:
        return contender.clock(contender.call)

    def several() -> None:
        for _ in range(calls[name]):
            contender.call()

    return contender.clock(several) / calls[name]


def _calls(contender: Contender, rules: Rules) -> int:
    """How many calls in a row make one sample: one, unless a call is short."""
    seconds = contender.clock(contender.call)
    return max(1, min(1000, math.ceil(rules.shortest / max(seconds, 1e-7))))


def two_threads(size: int = 1024) -> Callable[[], Gauge] | None:
    """A gauge that multiplies two square float32 matrices; None where one thread is all that may run."""
    from threadpoolctl import ThreadpoolController

    if thread_count(None) < 2:
        return None
    blas = ThreadpoolController()
    A = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    out = np.empty_like(A)

    def product() -> None:
        np.matmul(A, A, out=out)

    def measure() -> Gauge:
        seconds = []
        for threads in (1, 2):
            with blas.limit(limits=threads, user_api="blas"):
                product()
                seconds.append(min(wall(product) for _ in range(3)))
        return Gauge(*seconds)

    return measure
