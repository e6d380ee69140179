"""One full-batch cost and gradient as m grows, on each backend, beside the machine's own limits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import backends, own, problem, roofline
from bench.backends import Backend
from bench.machine import free_memory
from bench.problem import Shape
from bench.results import Result
from bench.roofline import Limits
from bench.timing import Contender, Rules, take_turns, two_threads
from fullbatch.errors import InputError

SHAPES = problem.SHAPES[:4]
FIRST, LAST = 1_000, 10_000_000
SHARE = 0.15  # of the time that is left, for one point: what comes last is the largest

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What to measure. ``last`` None: as far as memory and budget reach; a number: an error where it does not fit."""

    shapes: tuple[str, ...] = SHAPES
    backends: tuple[str, ...] = tuple(backends.BACKENDS)
    first: int = FIRST
    last: int | None = None
    dtype: str = "float32"
    threads: int | None = None
    budget: float = 480.0
    memory: bool = True
    rules: Rules = field(default_factory=lambda: Rules(untimed=1))
    quick: bool = False

    def counts(self) -> list[int]:
        """m = 1, 3, 10, 30, ... times a power of ten, from first to last, with both."""
        last = self.last or LAST
        if not 1 <= self.first <= last:
            raise InputError(f"m runs from {self.first:,} to {last:,}; give a --from and a --to that do not fall.")
        steps = [lead * 10**power for power in range(13) for lead in (1, 3)]
        return sorted({self.first, *(m for m in steps if self.first < m < last), last})

    def check(self) -> None:
        """No backend that works, or an explicit range beyond memory, is an error before anything starts."""
        found, left_out = backends.usable(list(self.backends), self.dtype, self.threads)
        if not found:
            raise InputError(f"no backend can be used: {' '.join(left_out)}")
        room = _room(free_memory())
        for name in self.shapes:
            m, shape = self.counts()[-1], Shape.parse(name)
            if self.last is not None and room is not None:
                _refuse(shape, m, self.dtype, room, "")


def _room(free: int | None) -> int | None:
    """Of the bytes that are free, those that may be used."""
    return None if free is None else int(backends.SHARE * free)


def _refuse(shape: Shape, m: int, dtype: str, room: int, where: str) -> None:
    need = shape.bytes_needed(m, backends.itemsize(dtype))
    if need > room:
        raise InputError(
            f"{m:,} examples of {shape.name} take {need:,} bytes and {room:,} can be used{where}; lower --to, choose "
            "other shapes with --shape, or leave --to out to go as far as memory reaches."
        )


def run(settings: Settings, result: Result, *, save: Callable[[], None], say: Say) -> None:
    """Measure all points, from the smallest m up, into ``result``; ``save`` is called after each."""
    deadline = time.perf_counter() + settings.budget
    shapes = [Shape.parse(name) for name in settings.shapes]
    settings.check()
    found, left_out = backends.usable(list(settings.backends), settings.dtype, settings.threads)
    for line in left_out:
        result.leave_out(line, say)
    for b in found:
        if settings.last is not None and b.device != "cpu" and (room := b.room()) is not None:
            for shape in shapes:
                _refuse(shape, settings.counts()[-1], settings.dtype, room, f" on {b.device}")
    limits = _limits(found, settings, roofline.from_json(result.summary.get("limits", {})))
    result.summary["limits"] = roofline.to_json(limits)
    for device, limit in limits.items():
        say(f"{device}: the machine's limits: {limit}")
    try:
        _measure(settings, shapes, found, limits, deadline, result, save, say)
    finally:
        # The limits once more: what was measured while the machine was disturbed is no limit.
        if result.points:
            limits = _limits(found, settings, limits)
            result.summary["limits"] = roofline.to_json(limits)
            _conclude(result, limits)
            save()


def _limits(found: Sequence[Backend], settings: Settings, before: dict[str, Limits]) -> dict[str, Limits]:
    """Of each device, not lower than ``before``."""
    limits = dict(before)
    for backend in {b.device: b for b in found}.values():
        measured = backend.limits(settings.quick)
        limits[backend.device] = measured.best(before.get(backend.device, measured))
    return limits


def _measure(
    settings: Settings,
    shapes: Sequence[Shape],
    found: Sequence[Backend],
    limits: dict[str, Limits],
    deadline: float,
    result: Result,
    save: Callable[[], None],
    say: Say,
) -> None:
    gauge = two_threads() if settings.rules.quiet > 0 else None
    result.summary["rounds_are_checked"] = gauge is not None
    spent: dict[str, tuple[int, float]] = {}  # by shape: the last m, and the least that such a point takes
    for m in settings.counts():
        for shape in shapes:
            todo = [b for b in found if not result.has(backend=b.name, shape=shape.name, m=m)]
            if not todo:
                continue
            began = time.perf_counter()
            last_m, least = spent.get(shape.name, (m, 0.0))
            needed = least * m / last_m
            if began + needed > deadline:
                took = f"it would take about {needed:,.0f} s, " if needed else ""
                result.leave_out(f"{shape.name} at m = {m:,}: left out: {took}beyond the budget of "
                                 f"{settings.budget:,.0f} s", say)  # fmt: skip
                continue
            present = list(_with_room(todo, shape, m, settings.dtype, result, say))
            if not present:
                continue
            try:
                spent[shape.name] = (m, _point(settings, shape, m, present, limits, deadline, gauge, result, say))
            except MemoryError as error:
                result.leave_out(f"{shape.name} at m = {m:,}: left out: out of memory ({error})", say)
            for b in present:
                b.free()
            _conclude(result, limits)
            save()


def _point(
    settings: Settings,
    shape: Shape,
    m: int,
    present: Sequence[Backend],
    limits: dict[str, Limits],
    deadline: float,
    gauge: Any,
    result: Result,
    say: Say,
) -> float:
    """One m of one shape, on all backends in turns; returns the least seconds that such a point takes."""
    began = time.perf_counter()
    extra = {b.name: b.extra_memory(shape, m, None) if settings.memory else None for b in present}
    data = problem.make(shape, m, settings.dtype)
    steps = {b.name: b.step(data) for b in present}
    ran = {b.name: _first_call(b, steps[b.name]) for b in present}
    contenders = {b.name: Contender(steps[b.name], b.clock) for b in present}
    prepared = time.perf_counter() - began
    rounds = take_turns(
        contenders, settings.rules, seconds=SHARE * max(0.0, deadline - time.perf_counter()), gauge=gauge
    )
    for b in present:
        if extra[b.name] is None and settings.memory:
            extra[b.name] = b.extra_memory(shape, m, steps[b.name])
        point = {
            "backend": b.name, "device": b.device, "step": ran[b.name], "threads": b.threads, "shape": shape.name,
            "m": m, "dtype": settings.dtype, "seconds": rounds.timing(b.name), "rounds": rounds.summary(),
            "data_bytes": shape.data_bytes(m, backends.itemsize(settings.dtype)), "extra_bytes": extra[b.name],
        }  # fmt: skip
        result.points.append(derive(point, limits[b.device]))
        say(describe(point))
    turns = max(1, rounds.kept + rounds.dropped)
    wall = time.perf_counter() - began - prepared
    return prepared + wall / turns * min(turns, settings.rules.least)


def _first_call(b: Backend, step: Callable[[], Any]) -> str:
    """Which step the backend runs; InputError where it is not the one that its name says."""
    with own.seen() as labels, own.forced(b.native):
        step()
    ran = " and ".join(labels)
    if reason := own.other_than(b.native, ran):
        raise InputError(f"{b.name}: {reason}; the FULLBATCH_NATIVE that was asked for is {b.native}.")
    return ran


def _with_room(
    found: Sequence[Backend], shape: Shape, m: int, dtype: str, result: Result, say: Say
) -> Iterator[Backend]:
    need = shape.bytes_needed(m, backends.itemsize(dtype))
    for backend in found:
        rooms = [room for room in (backend.room(), _room(free_memory())) if room is not None]
        if rooms and need > min(rooms):
            result.leave_out(f"{backend.name}, {shape.name} at m = {m:,}: left out: {need:,} bytes are needed, "
                             f"{min(rooms):,} can be used", say)  # fmt: skip
        else:
            yield backend


# --- What follows from a point, and from all ------------------------------------------------------------------


def derive(point: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The point with rates, and the fraction of the roofline that it reaches; in place."""
    shape, m = Shape.parse(point["shape"]), point["m"]
    best, bound = roofline.seconds_at_best(shape, m, backends.itemsize(point["dtype"]), limits)
    point["roofline"] = {"seconds": best, "bound": bound, "examples_per_second": m / best}
    seconds = point["seconds"]
    point["examples_per_second"] = m / seconds["median"] if seconds else None
    point["gflops"] = roofline.flops(shape) * m / seconds["median"] / 1e9 if seconds else None
    point["fraction"] = best / seconds["median"] if seconds else None
    return point


def describe(point: dict[str, Any]) -> str:
    where = f"{point['backend']:11} {point['shape']:>14} m = {point['m']:>10,}"
    if point["seconds"] is None:
        return f"{where}: no quiet round ({point['rounds']['dropped']} dropped)"
    extra = "" if point["extra_bytes"] is None else f", {point['extra_bytes'] / 2**20:.1f} MiB beyond the data"
    return (
        f"{where}: {1000 * point['seconds']['median']:>10,.2f} ms, "
        f"{point['examples_per_second'] / 1e6:7.2f} M examples/s, "
        f"{100 * point['fraction']:3.0f} % of the roofline{extra}"
    )


def _conclude(result: Result, limits: dict[str, Limits]) -> None:
    for point in result.points:
        derive(point, limits[point["device"]])
    result.summary["growth"] = growth(result.points)
    result.summary["crossover"] = crossover(result.points)


def curve(points: Sequence[dict[str, Any]], backend: str, shape: str) -> dict[int, dict[str, Any]]:
    """The points of one backend and shape that have a time, by m."""
    return {p["m"]: p for p in points if p["backend"] == backend and p["shape"] == shape and p["seconds"] is not None}


def growth(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How time and extra memory grow over each factor of ten in m from 10^5 on: 1.0 is time in proportion to m."""
    rows = []
    for backend, shape in dict.fromkeys((p["backend"], p["shape"]) for p in points):
        line = curve(points, backend, shape)
        for m in (10**5, 10**6):
            if m not in line or 10 * m not in line:
                continue
            a, b = line[m], line[10 * m]
            memory = None if None in (a["extra_bytes"], b["extra_bytes"]) else b["extra_bytes"] - a["extra_bytes"]
            rows.append({
                "backend": backend, "shape": shape, "from": m, "to": 10 * m,
                "time_over_proportional": b["seconds"]["median"] / a["seconds"]["median"] / 10,
                "extra_bytes_more": memory,
            })  # fmt: skip
    return rows


def crossover(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each shape with both: from which m on the GPU is faster at every point, and the ratio at the top.

    The CPU is there with its native step, or with NumPy alone where that was not measured. Between two points the ratio
    is taken as a straight line on log-log paper. None: it is not faster at the top.
    """
    rows = []
    for shape in dict.fromkeys(p["shape"] for p in points):
        name = next((name for name in backends.ON_CPU if curve(points, name, shape)), "")
        cpu, gpu = curve(points, name, shape), curve(points, "cupy", shape)
        ratios = [
            (m, cpu[m]["seconds"]["median"] / gpu[m]["seconds"]["median"]) for m in sorted(cpu.keys() & gpu.keys())
        ]
        if ratios:
            top_m, top_ratio = ratios[-1]
            rows.append({"shape": shape, "cpu": name, "m": _overtakes(ratios), "top_m": top_m, "top_ratio": top_ratio})
    return rows


def _overtakes(ratios: Sequence[tuple[int, float]]) -> int | None:
    slower = [i for i, (_, ratio) in enumerate(ratios) if ratio <= 1]
    if not slower:
        return ratios[0][0]
    i = slower[-1]
    if i + 1 == len(ratios):
        return None
    (m0, r0), (m1, r1) = ratios[i], ratios[i + 1]
    share = -math.log(r0) / (math.log(r1) - math.log(r0))
    return round(math.exp(math.log(m0) + share * (math.log(m1) - math.log(m0))))
