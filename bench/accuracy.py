"""How far one full-batch gradient in float32 is off, over more rows than a comparison of times has.

The layers of whole arrays over 10^7 rows are gigabytes, so each contender has a process of its own, one after another;
what would not fit into the memory that is free is left out. The data are those of problem.py, whose last column has a
mean that is not zero, with one class as rare as RARE, and so is the reference in float64.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench import children, peers, problem
from bench.machine import free_memory
from bench.problem import Shape
from bench.results import Result
from bench.runs import Run, Say, no_room

RARE = 0.1
BY_HAND = ("PyTorch, blocks by hand", "JAX, blocks by hand")


@dataclass(frozen=True)
class Settings:
    """One network, and so many examples of it."""

    shape: str = "28-64-1"
    m: int = 10**7
    peers: tuple[str, ...] = tuple(peers.PEERS)
    budget: float = 900.0


def run(settings: Settings, result: Result, *, save: Callable[[], None], say: Say) -> None:
    """One gradient of each into ``result``; ``save`` is called after each."""
    here = Run(result, settings.budget, time.perf_counter() + settings.budget, save, say)
    shape, m = Shape.parse(settings.shape), settings.m
    for name in (name for name in settings.peers if not result.has(contender=name)):
        need = bytes_needed(shape, m, in_blocks=name in BY_HAND or peers.PEERS[name].kind == "own")
        reason = f"beyond the budget of {here.budget:g} s" if here.left <= 0 else no_room(need, free_memory())
        if reason is None:
            try:
                (answer,) = children.lines(
                    "bench.accuracy", {"name": name, "shape": shape.name, "m": m}, env=peers.ON_CPU
                )
                reason = answer.pop("left_out", None)
            except children.ChildError as error:
                reason = str(error)
        if reason is not None:
            here.leave_out(f"{name}: left out: {reason}")
            continue
        result.points.append({"contender": name, "shape": shape.name, "m": m, "dtype": "float32", **answer})
        save()
        say(f"{name}: off by {answer['error_of_gradient']:.1e}")


def bytes_needed(shape: Shape, m: int, *, in_blocks: bool) -> int:
    """At once, in float32: the data and perhaps a copy; where layers are whole, four arrays of each besides."""
    return 4 * m * (2 * (shape.sizes[0] + shape.sizes[-1]) + (0 if in_blocks else 4 * sum(shape.sizes[1:])))


def _answer(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    name = request["name"]
    found = peers.prepared(problem.make(Shape.parse(request["shape"]), request["m"], rare=RARE), [name])
    if name in found.left_out:
        yield {"left_out": found.left_out[name]}
    else:
        yield {"step": found.ran.get(name, ""), "error_of_gradient": found.errors_of_gradient[name]}


if __name__ == "__main__":
    sys.exit(children.serve(_answer))
