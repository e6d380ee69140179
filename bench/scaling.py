"""One full-batch cost and gradient as m grows, on each backend, beside the machine's own limits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from bench import backends, own, problem, roofline
from bench.backends import Backend
from bench.forms import Limits
from bench.machine import free_memory
from bench.problem import Shape
from bench.runs import Run, beyond
from bench.timing import Contender, Gauge, Rules, doubts, take_turns, too_long, two_threads, used_up
from fullbatch.errors import InputError

SHAPES = problem.SHAPES[:4]
FIRST, LAST = 1_000, 10_000_000
HEAD = 100_000  # examples of an untimed call
LONG = 0.25  # seconds: the untimed call before a longer one is of the first HEAD examples
CALLS = 4  # of every backend besides: to see what runs, to tell a long call from a short one, and for peak memory


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

    def usable(self) -> tuple[list[Backend], list[str]]:
        """The backends that work, and a line for each that does not.

        None that works, or an explicit range beyond memory, is an error before anything starts.
        """
        found, left_out = backends.usable(list(self.backends), self.dtype, self.threads)
        if not found:
            raise InputError(f"no backend can be used: {' '.join(left_out)}")
        rooms = {"": _room(free_memory()), **{f" on {b.device}": b.room() for b in found if b.device != "cpu"}}
        for shape, (where, room) in product(map(Shape.parse, self.shapes), rooms.items()):
            m = self.counts()[-1]
            need = shape.bytes_needed(m, backends.itemsize(self.dtype))
            if self.last is not None and room is not None and need > room:
                raise InputError(
                    f"{m:,} examples of {shape.name} take {need:,} bytes and {room:,} can be used{where}; lower --to, "
                    "choose other shapes with --shape, or leave --to out to go as far as memory reaches."
                )
        return found, left_out


def _room(free: int | None) -> int | None:
    """Of the bytes that are free, those that may be used."""
    return None if free is None else int(backends.SHARE * free)


@dataclass
class Cost:
    """What a point of one shape takes: seconds that do not depend on m, and seconds for each example.

    call : of one call of every backend;  make : of the data, once for the point and once for each peak of memory
    m : at which it was measured: of a small one, a call's beginning and end are the most
    """

    m: int
    fixed: float
    call: float
    make: float

    def of(self, m: int, rules: Rules) -> float:
        """The least seconds of a point of m examples."""
        untimed = 0 if self.call * m >= LONG else rules.untimed
        return self.fixed + m * (self.make + self.call * (CALLS + rules.least * (1 + untimed)))


@dataclass
class Measuring:
    """A run of this kind, with what a point takes by its shape, each once it is known."""

    settings: Settings
    here: Run
    gauge: Callable[[], Gauge] | None
    costs: dict[str, Cost] = field(default_factory=dict)


def run(settings: Settings, here: Run) -> None:
    """Measure all points, the most telling ones first."""
    shapes = [Shape.parse(name) for name in settings.shapes]
    found, left_out = settings.usable()
    for line in left_out:
        here.leave_out(line)
    gauge = two_threads() if settings.rules.quiet > 0 else None

    def concluded(points: list[dict[str, Any]], limits: dict[str, Limits]) -> dict[str, Any]:
        for point in points:
            derive(point, limits[point["device"]])  # the limits may have grown
        return {**summary(points, limits), "rounds_are_checked": gauge is not None}

    here.summary = concluded
    devices = {b.device: b for b in found}
    with here.beside(lambda: {device: b.limits(settings.quick) for device, b in devices.items()}) as look:
        _measure(Measuring(settings, here, gauge), shapes, found, look)


def _measure(this: Measuring, shapes: Sequence[Shape], found: Sequence[Backend], look: Callable[[], None]) -> None:
    settings, here = this.settings, this.here
    todo = [
        (shape, m, missing)
        for m in in_order(settings.counts())
        for shape in shapes
        if (missing := [b for b in found if not here.result.has(backend=b.name, shape=shape.name, m=m)])
    ]
    for index, (shape, m, missing) in enumerate(todo):
        if index and m != todo[index - 1][1] and here.left > 0:
            look()  # beside the rounds, so that a disturbed beginning does not set the limit
        where = f"{shape.name} at m = {m:,}: left out"
        if here.left <= 0:
            here.leave_out(f"{where}: {beyond(settings.budget)}")
            continue
        needed = (this.costs.get(shape.name) or _at_best(this, shape, m, missing)).of(m, settings.rules)
        if needed > here.left:
            here.leave_out(f"{where}: it would take about {needed:,.0f} s, {too_long(settings.budget)}")
            continue
        present = list(_with_room(this, missing, shape, m))
        if not present:
            continue
        try:
            _point(this, shape, m, present, share=here.left / (len(todo) - index))
        except MemoryError as error:
            here.leave_out(f"{where}: out of memory ({error})")
        for b in present:
            b.free()


def _at_best(this: Measuring, shape: Shape, m: int, present: Sequence[Backend]) -> Cost:
    """What a point takes where none of its shape was measured: not less than the machine's own limits allow."""
    size = backends.itemsize(this.settings.dtype)
    best = [roofline.seconds_at_best(shape, m, size, this.here.limits[b.device])[0] for b in present]
    return Cost(m, 0.0, sum(best) / m, 0.0)


def in_order(counts: Sequence[int]) -> list[int]:
    """The counts, the most telling first, so that a budget that is short costs the others.

    First how time grows once there is enough to do, by factors of ten from 10^5 to the end; then how it begins; last
    what lies between.
    """

    def rank(m: int) -> int:
        telling = m in (counts[0], counts[-1]) or m == 10 ** round(math.log10(m))
        return 2 if not telling else 0 if m >= 10**5 else 1

    return sorted(counts, key=lambda m: (rank(m), m))


def _point(this: Measuring, shape: Shape, m: int, present: Sequence[Backend], share: float) -> None:
    """One m of one shape, on all backends in turns. ``share``: seconds for all but the least of its rounds."""
    settings, here, began = this.settings, this.here, time.perf_counter()
    extra = {b.name: b.extra_memory(shape, m, None) if settings.memory else None for b in present}
    made = time.perf_counter()
    data = problem.make(shape, m, settings.dtype)
    made = time.perf_counter() - made
    steps = {b.name: b.step(data) for b in present}
    exact = problem.exact(data)[1]
    ran, off = {}, {}
    for b in present:
        ran[b.name], gradient = _first_call(b, steps[b.name])
        off[b.name] = problem.error_of_gradient(gradient, exact)
    contenders = {b.name: _contender(b, data, steps[b.name]) for b in present}
    prepared = time.perf_counter() - began
    rounds = take_turns(contenders, settings.rules, seconds=share - prepared, left=here.left, gauge=this.gauge)
    if rounds.begun == 0:
        here.leave_out(f"{shape.name} at m = {m:,}: left out: {used_up(settings.budget)} before its first round")
        return
    for b in present:
        if extra[b.name] is None and settings.memory:
            extra[b.name] = b.extra_memory(shape, m, steps[b.name])
        point = {
            "backend": b.name, "device": b.device, "step": ran[b.name], "threads": b.threads, "shape": shape.name,
            "m": m, "dtype": settings.dtype, "seconds": rounds.timing(b.name), "rounds": rounds.summary(),
            "data_bytes": shape.data_bytes(m, backends.itemsize(settings.dtype)), "extra_bytes": extra[b.name],
            "error_of_gradient": off[b.name],
        }  # fmt: skip
        here.keep(point, describe(derive(point, here.limits[b.device])))
    before = this.costs.get(shape.name)
    if all(rounds.samples.values()) and (before is None or m > before.m):
        call = sum(min(samples) for samples in rounds.samples.values()) / m
        make = made / m * (1 + sum(value is not None for value in extra.values()))
        least = prepared + rounds.longest * settings.rules.least
        known = Cost(m, 0.0, call, make).of(m, settings.rules)
        this.costs[shape.name] = Cost(m, max(0.0, least - known), call, make)


def _contender(b: Backend, data: problem.Problem, step: Callable[[], Any]) -> Contender:
    """The step, timed; where a call is long, the untimed one is of the first rows alone: it is to wake the cores."""
    if data.m <= HEAD or b.clock(step) < LONG:
        return Contender(step, b.clock)
    return Contender(step, b.clock, warm=b.step(data.head(HEAD)))


def _first_call(b: Backend, step: Callable[[], Any]) -> tuple[str, Any]:
    """Which step the backend runs, and its gradient; InputError where it is not the one that its name says."""
    with own.seen() as labels, own.forced(b.native):
        _, gradient = step()
    ran = " and ".join(labels)
    if reason := own.other_than(b.native, ran):
        raise InputError(f"{b.name}: {reason}; the FULLBATCH_NATIVE that was asked for is {b.native}.")
    if not all(np.isfinite(array).all() for layer in gradient for array in layer):
        raise InputError(f"{b.name}: its gradient is not finite.")
    return ran, gradient


def _with_room(this: Measuring, found: Sequence[Backend], shape: Shape, m: int) -> Iterator[Backend]:
    need = shape.bytes_needed(m, backends.itemsize(this.settings.dtype))
    for backend in found:
        rooms = [room for room in (backend.room(), _room(free_memory())) if room is not None]
        if rooms and need > min(rooms):
            this.here.leave_out(
                f"{backend.name}, {shape.name} at m = {m:,}: left out: {need:,} bytes are needed, "
                f"{min(rooms):,} can be used"
            )
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
        return f"{where}: no round ended"
    extra = "" if point["extra_bytes"] is None else f", {point['extra_bytes'] / 2**20:.1f} MiB beyond the data"
    return (
        f"{where}: {1000 * point['seconds']['median']:>10,.2f} ms, "
        f"{point['examples_per_second'] / 1e6:7.2f} M examples/s, "
        f"{100 * point['fraction']:3.0f} % of the roofline"
        f"{roofline.wrong(point['fraction'])}{extra}{doubts(point['rounds'])}"
    )


def summary(points: Sequence[dict[str, Any]], limits: Mapping[str, Limits]) -> dict[str, Any]:
    return {"limits": roofline.to_json(limits), "growth": growth(points), "crossover": crossover(points)}


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
