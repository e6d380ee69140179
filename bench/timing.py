"""The rules of a timing.

Contenders take turns: one call of each is one round, and each round starts with the next one of them, so that a slow
minute of the machine falls on all. Before a timed call come a pause, because the threads of OpenBLAS and of OpenMP spin
for a while after a product and would take the cores of whoever runs next, and untimed calls, which warm caches, threads
and the allocator.

Before and after each round a matrix product is timed on one and on two threads. On a machine with two free cores the
second thread nearly halves the time; a round around which it does not was disturbed, and is dropped and counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fullbatch.threads import thread_count

Clock = Callable[[Callable[[], Any]], float]  # call -> its seconds


@dataclass(frozen=True)
class Rules:
    """How contenders are timed. Seconds."""

    pause: float = 0.2
    untimed: int = 2  # calls at least, for
    warm: float = 0.1  # seconds at least: after a pause a core takes that long to be as fast as it can
    rounds: int = 7  # that are kept, at most; fewer where the time is up
    least: int = 3  # rounds that are run even if the time is up; twice as many while none is kept
    quiet: float = 1.6  # a round is kept if two threads give this many times one before and after it; 0 keeps all
    odd: float = 2.4  # and not more than this: then the one was disturbed
    shortest: float = 0.005  # a shorter call is timed several times in a row

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

    def summary(self) -> dict[str, Any]:
        """For the JSON: how the rounds went."""
        ratios = [round(gauge.ratio, 3) for gauge in self.gauges]
        return {"kept": self.kept, "dropped": self.dropped, "two_threads_over_one": ratios}

    def timing(self, name: str) -> dict[str, Any] | None:
        """Median, extremes and all samples of a contender; None if no round was kept."""
        return timing(self.samples[name])


def timing(samples: list[float]) -> dict[str, Any] | None:
    """Median, extremes, and the samples themselves: seconds. None for no samples."""
    if not samples:
        return None
    return {
        "median": statistics.median(samples),
        "min": min(samples),
        "max": max(samples),
        "samples": [float(f"{sample:.6g}") for sample in samples],
    }


def wall(call: Callable[[], Any]) -> float:
    """Seconds of a call that returns when its work is done."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def take_turns(
    contenders: Mapping[str, Contender],
    rules: Rules,
    *,
    seconds: float,
    gauge: Callable[[], Gauge] | None = None,
) -> Rounds:
    """Time the contenders in turn until enough rounds are kept, or until the next round would not end in time.

    seconds : for all of it;  gauge : what tells whether a round was quiet; None keeps all rounds
    """
    rounds = Rounds({name: [] for name in contenders})
    repeats = {name: _repeats(contender, rules) for name, contender in contenders.items()}
    names = list(contenders)
    start = time.perf_counter()
    for index in range(2 * rules.rounds):
        if rounds.kept == rules.rounds:
            break
        began = time.perf_counter()
        enough = rounds.kept >= rules.least or index >= 2 * rules.least
        if enough and began - start + rounds.longest > seconds:
            break
        turn = index % len(names)
        seen = _gauged(gauge, rules)
        measured = {name: _one(contenders[name], repeats[name], rules) for name in names[turn:] + names[:turn]}
        seen += _gauged(gauge, rules)
        rounds.gauges += seen
        if any(not rules.quiet <= one.ratio <= rules.odd for one in seen):
            rounds.dropped += 1
        else:
            rounds.kept += 1
            for name, value in measured.items():
                rounds.samples[name].append(value)
        rounds.longest = max(rounds.longest, time.perf_counter() - began)
    return rounds


def _gauged(gauge: Callable[[], Gauge] | None, rules: Rules) -> list[Gauge]:
    if gauge is None:
        return []
    time.sleep(rules.pause)  # whoever came last may spin still, and would be taken for a disturbance
    return [gauge()]


def _repeats(contender: Contender, rules: Rules) -> int:
    """How many calls in a row make one timing: one, unless a call is too short for the clock."""
    if rules.shortest <= 0:
        return 1
    (contender.warm or contender.call)()
    seconds = contender.clock(contender.warm or contender.call)
    return 1 if seconds >= rules.shortest else max(1, min(1000, round(rules.shortest / max(seconds, 1e-7))))


def _one(contender: Contender, repeats: int, rules: Rules) -> float:
    time.sleep(rules.pause)
    calls, began = 0, time.perf_counter()
    while calls < rules.untimed or time.perf_counter() - began < rules.warm:
        (contender.warm or contender.call)()
        calls += 1
    if repeats == 1:
        return contender.clock(contender.call)

    def several() -> None:
        for _ in range(repeats):
            contender.call()

    return contender.clock(several) / repeats


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
