"""Where the time of a full-batch step and of a mini-batch epoch goes, by measurement.

What cannot be timed alone is a difference: the same call is timed without the part, in the same rounds, and the part is
the difference of both medians. So it is no better than these, may come out below zero, and what two parts hide behind
each other is in neither. What is left after all parts is the rest.

    call         FEW examples for each thread, without their share of the whole: the interpreter, the threads' start;
                 of an epoch: one batch alone, likewise
    products     what the matrix products would take at the rate of a large one, measured in the same run
    reading X    a pass over X on the same threads that only reads (a dot product). Where that takes longer than the
                 products it is in the sum instead of them; else a good step hides it behind them
    activation   less the same network with identity units
    optimiser    of an epoch: Adam less plain gradient descent
    order        of an epoch: batches in a new random order less batches as the rows lie
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from bench import minibatch, own, peers, problem, roofline
from bench.contest import Field, Span, point
from bench.forms import Limits
from bench.machine import free_memory
from bench.problem import Problem, Shape
from bench.runs import Job, Run, no_room, one_by_one
from bench.timing import Contender, Rules, doubts, wall
from fullbatch import MLPClassifier, Network, cost_and_gradients
from fullbatch.machine.threads import one_blas_thread, thread_count

FEW = 4096  # examples for each thread: of a narrow network fewer are not worth a second thread
WHOLE, ONE = "all", "one thread"  # of the contenders
PARTS = ("call", "products", "reading X", "activation", "optimiser", "order", "rest")


@dataclass(frozen=True)
class Settings:
    """What to take apart. ``scale`` multiplies m and the rows of the epoch."""

    shapes: tuple[str, ...] = tuple(peers.CASES)
    batches: tuple[int, ...] = (200, 1000)
    budget: float = 480.0
    scale: float = 1.0
    rules: Rules = field(default_factory=Rules)


def examples(shape: Shape, scale: float) -> int:
    """As many as bench peers takes, or such that a step takes a tenth of a second or so."""
    usual = peers.CASES.get(shape.name, min(500_000, int(2e10 / roofline.flops(shape))))
    return max(4 * FEW, int(usual * scale))


# --- The contenders: the whole, and the same without a part -----------------------------------------------------


def step_without(p: Problem) -> dict[str, Callable[[], Any]]:
    """A step of all, and of less."""
    few = p.head(FEW * min(thread_count(None), 4))

    def step(p: Problem, network: Network, threads: int | None = None) -> Any:
        return cost_and_gradients(network, p.params, p.X, p.Y, threads=threads)

    calls: dict[str, Callable[[], Any]] = {
        WHOLE: partial(step, p, p.network), ONE: partial(step, p, p.network, 1), "call": partial(step, few, p.network),
        "reading X": partial(_read, p.table),
    }  # fmt: skip
    if len(p.params) > 1:
        calls["activation"] = partial(step, p, Network(p.shape.sizes, hidden="identity", output=p.shape.output))
    return calls


def _read(table: np.ndarray) -> None:
    flat, count = table.reshape(-1), thread_count(None)
    parts = [flat[len(flat) * i // count : len(flat) * (i + 1) // count] for i in range(count)]
    with one_blas_thread(), ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda part: np.dot(part, part), parts))


def epoch_without(p: Problem, batch: int) -> dict[str, Callable[[], Any]]:
    """An epoch of Adam in random order, and of less."""

    def epoch(shuffle: bool = True, rows: int = p.m, **options: Any) -> Callable[[], Any]:
        made = minibatch.Estimator(p, batch, shuffle, MLPClassifier, {"device": "cpu"})
        made.model.set_params(**options)
        return partial(made.run, rows)

    return {
        WHOLE: epoch(), ONE: epoch(n_jobs=1), "call": epoch(rows=batch), "activation": epoch(activation="identity"),
        "optimiser": epoch(solver="sgd", momentum=0.0), "order": epoch(shuffle=False),
    }  # fmt: skip


# --- The run --------------------------------------------------------------------------------------------------


def run(settings: Settings, here: Run) -> None:
    """Take everything apart."""
    here.summary = summary

    def measured(shape: Shape, m: int, batch: int | None, share: float, left: float) -> dict[str, Any]:
        return _one(shape, m, batch, settings.rules, Span.from_now(share, left))

    def beyond(shape: Shape, m: int, left: float) -> str | None:
        return no_room(shape.bytes_needed(m, 4), free_memory())

    jobs = [
        Job(minibatch.case_name(shape, batch), partial(beyond, shape, m), partial(measured, shape, m, batch))
        for shape, m, batch in work_of(settings)
        if not here.result.has(shape=shape.name, batch=batch)
    ]
    one_by_one(here, jobs, describe, quick=settings.scale < 1)


def describe(point: dict[str, Any]) -> str:
    rounds = point["rounds"]
    where = f"{minibatch.case_name(Shape.parse(point['shape']), point['batch'])}, m = {point['m']:,}"
    return f"{where}: {rounds['kept']} rounds kept{doubts(rounds)}"


def work_of(settings: Settings) -> list[tuple[Shape, int, int | None]]:
    """(shape, m, batch); batch is None for a step."""
    shapes = [Shape.parse(name) for name in settings.shapes]
    rows = int(minibatch.ROWS * settings.scale)
    return [
        *((shape, examples(shape, settings.scale), None) for shape in shapes),
        *((minibatch.SHAPE, max(2 * batch, rows), batch) for batch in settings.batches),
    ]


def _one(shape: Shape, m: int, batch: int | None, rules: Rules, span: Span) -> dict[str, Any]:
    p = problem.make(shape, m)
    calls = step_without(p) if batch is None else epoch_without(p, batch)
    with own.seen() as labels:
        calls[WHOLE]()
    found = Field(ran={WHOLE: " and ".join(labels)})
    contenders = {name: Contender(call, wall) for name, call in calls.items()}
    return point(found, contenders, rules, span, shape=shape.name, m=m, batch=batch)


# --- What follows ---------------------------------------------------------------------------------------------


def summary(points: Sequence[dict[str, Any]], limits: Mapping[str, Limits]) -> dict[str, Any]:
    return {
        "limits": roofline.to_json(limits),
        "splits": [split(one, limits["cpu"]) for one in points if all(one["times"].values())],
    }


def split(one: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Seconds of the whole, of its parts (their sum is the whole), of X's reading alone, and on one thread."""
    times = {name: timing["median"] for name, timing in one["times"].items()}
    shape, m, batch, whole = Shape.parse(one["shape"]), one["m"], one["batch"], times[WHOLE]
    few = batch or min(m, FEW * min(one["threads"], 4))
    parts: dict[str, float | None] = dict.fromkeys(PARTS)
    parts["call"] = times["call"] - whole * few / m
    products = roofline.flops(shape) * m / limits.product
    bound = "reading X" if times.get("reading X", 0.0) > products else "products"
    parts[bound] = max(products, times.get("reading X", 0.0))
    for name in ("activation", "optimiser", "order"):
        if name in times:
            parts[name] = whole - times[name]
    parts["rest"] = whole - sum(seconds for seconds in parts.values() if seconds is not None)
    return {
        "shape": one["shape"], "m": m, "batch": batch, "step": one["steps"][WHOLE], "whole": whole, "parts": parts,
        "reading": times.get("reading X"), "one_thread": times[ONE],
        **({"disturbed": True} if one["rounds"].get("disturbed") else {}),
    }  # fmt: skip
