"""One full-batch cost and gradient as m grows, on each backend, beside the machine's own limits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import backends, problem, roofline
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
    backends: tuple[str, ...] = ("numpy", "cupy")
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
            raise InputError(f"m runs from {self.first:,} to {last:,}; give a range of at least 1 that does not fall.")
        steps = [lead * 10**power for power in range(13) for lead in (1, 3)]
        return sorted({self.first, *(m for m in steps if self.first < m < last), last})


def run(settings: Settings, result: Result, *, save: Callable[[], None], say: Say) -> None:
    """Measure all points, from the smallest m up, into ``result``; ``save`` is called after each."""
    shapes = [Shape.parse(name) for name in settings.shapes]
    refuse_what_does_not_fit(shapes, settings)
    found, left_out = backends.usable(list(settings.backends), settings.dtype, settings.threads)
    for line in left_out:
        say(line)
    result.left_out += left_out
    if not found:
        raise InputError(f"no backend can be used: {' '.join(left_out)}")
    limits = {backend.name: backend.limits(settings.quick) for backend in found}
    result.summary["limits"] = {name: asdict(limit) for name, limit in limits.items()}
    for name, limit in limits.items():
        say(f"{name}: the machine's limits: {limit.product / 1e9:,.0f} GFLOP/s, copy {limit.copy / 1e9:,.0f} GB/s")
    try:
        _measure(settings, shapes, found, limits, result, save, say)
    finally:
        # The limits once more: what was measured while the machine was disturbed is no limit.
        if result.points:
            limits = {b.name: limits[b.name].best(b.limits(settings.quick)) for b in found}
            result.summary["limits"] = {name: asdict(limit) for name, limit in limits.items()}
            _conclude(result, limits)
            save()


def refuse_what_does_not_fit(shapes: Sequence[Shape], settings: Settings) -> None:
    """An explicit range beyond memory is an error before anything starts."""
    free = free_memory()
    if settings.last is None or free is None:
        settings.counts()
        return
    m = settings.counts()[-1]
    for shape in shapes:
        need = shape.data_bytes(m, backends.itemsize(settings.dtype))
        if need > backends.SHARE * free:
            raise InputError(
                f"{m:,} examples of {shape.name} take {need:,} bytes and {int(backends.SHARE * free):,} can be used; "
                "lower --to, choose other shapes with --shape, or leave --to out to go as far as memory reaches."
            )


def _measure(
    settings: Settings,
    shapes: Sequence[Shape],
    found: Sequence[Backend],
    limits: dict[str, Limits],
    result: Result,
    save: Callable[[], None],
    say: Say,
) -> None:
    gauge = two_threads() if settings.rules.quiet > 0 else None
    deadline = time.perf_counter() + settings.budget
    spent: dict[str, tuple[int, float]] = {}  # by shape: the last m, and the least that such a point takes
    for m in settings.counts():
        for shape in shapes:
            began = time.perf_counter()
            last_m, least = spent.get(shape.name, (m, 0.0))
            needed = least * m / last_m
            if began + needed > deadline:
                _leave_out(result, say, f"{shape.name} at m = {m:,}: left out: it would take about {needed:,.0f} s, "
                           f"beyond the budget of {settings.budget:,.0f} s")  # fmt: skip
                continue
            present = list(_with_room(found, shape, m, settings.dtype, result, say))
            if not present:
                continue
            extra = {b.name: b.extra_memory(shape, m, None) if settings.memory else None for b in present}
            data = problem.make(shape, m, settings.dtype)
            steps = {b.name: b.step(data) for b in present}
            contenders = {b.name: Contender(steps[b.name], b.clock) for b in present}
            prepared = time.perf_counter() - began
            rounds = take_turns(
                contenders, settings.rules, seconds=SHARE * max(0.0, deadline - time.perf_counter()), gauge=gauge
            )
            for b in present:
                if extra[b.name] is None and settings.memory:
                    extra[b.name] = b.extra_memory(shape, m, steps[b.name])
                point = {
                    "backend": b.name, "device": b.device, "shape": shape.name, "m": m, "dtype": settings.dtype,
                    "seconds": rounds.timing(b.name), "rounds": rounds.summary(),
                    "data_bytes": shape.data_bytes(m, backends.itemsize(settings.dtype)), "extra_bytes": extra[b.name],
                }  # fmt: skip
                result.points.append(derive(point, limits[b.name]))
                say(describe(point))
            del data, steps, contenders
            for b in present:
                b.free()
            turns = max(1, rounds.kept + rounds.dropped)
            wall = time.perf_counter() - began - prepared
            spent[shape.name] = (m, prepared + wall / turns * min(turns, settings.rules.least))
            _conclude(result, limits)
            save()


def _with_room(
    found: Sequence[Backend], shape: Shape, m: int, dtype: str, result: Result, say: Say
) -> Iterator[Backend]:
    need = shape.data_bytes(m, backends.itemsize(dtype))
    host = free_memory()
    for backend in found:
        rooms = [
            room for room in (backend.room(), None if host is None else int(backends.SHARE * host)) if room is not None
        ]
        if rooms and need > min(rooms):
            _leave_out(result, say, f"{backend.name}, {shape.name} at m = {m:,}: left out: {need:,} bytes of data, "
                       f"{min(rooms):,} can be used")  # fmt: skip
        else:
            yield backend


def _leave_out(result: Result, say: Say, line: str) -> None:
    result.left_out.append(line)
    say(line)


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
    where = f"{point['backend']:6} {point['shape']:>12} m = {point['m']:>12,}"
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
        derive(point, limits[point["backend"]])
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

    Between two points the ratio is taken as a straight line on log-log paper. None: it is not faster at the top.
    """
    rows = []
    for shape in dict.fromkeys(p["shape"] for p in points):
        cpu, gpu = curve(points, "numpy", shape), curve(points, "cupy", shape)
        ratios = [
            (m, cpu[m]["seconds"]["median"] / gpu[m]["seconds"]["median"]) for m in sorted(cpu.keys() & gpu.keys())
        ]
        if ratios:
            rows.append({"shape": shape, "m": _overtakes(ratios), "top_m": ratios[-1][0], "top_ratio": ratios[-1][1]})
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
