"""How far one full-batch gradient in float32 is off, over more rows than a comparison of times has.

The layers of whole arrays over 10^7 rows are gigabytes, so each contender has a process of its own, one after another;
what would not fit into the memory that is free is left out. The data are those of problem.py, whose last column has a
mean that is not zero, with one class as rare as RARE, and so is the reference in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench import children, peers, problem
from bench.machine import free_memory
from bench.problem import Shape
from bench.runs import Run, no_room

RARE = 0.1
BY_HAND = ("PyTorch, blocks by hand", "JAX, blocks by hand")


@dataclass(frozen=True)
class Settings:
    """One network, and so many examples of it."""

    shape: str = "28-64-1"
    m: int = 10**7
    peers: tuple[str, ...] = tuple(peers.PEERS)
    budget: float = 900.0


def run(settings: Settings, here: Run) -> None:
    """One gradient of each."""
    shape, m = Shape.parse(settings.shape), settings.m
    for name in settings.peers:
        if here.result.has(contender=name) or here.is_late(name):
            continue
        try:
            answer = _one(name, shape, m)
        except children.ChildError as error:
            answer = {"left_out": str(error)}
        if reason := answer.get("left_out"):
            here.leave_out(f"{name}: left out: {reason}")
            continue
        point = {"contender": name, "shape": shape.name, "m": m, "dtype": "float32", **answer}
        here.keep(point, f"{name}: off by {answer['error_of_gradient']:.1e}")


def _one(name: str, shape: Shape, m: int) -> dict[str, Any]:
    """What its process answers; ``left_out`` says why there is no figure."""
    need = bytes_needed(shape, m, in_blocks=name in BY_HAND or peers.PEERS[name].kind == "own")
    if reason := no_room(need, free_memory()):
        return {"left_out": reason}
    answer: dict[str, Any] = children.call(measured, name, shape.name, m, env=peers.ON_CPU)
    return answer


def bytes_needed(shape: Shape, m: int, *, in_blocks: bool) -> int:
    """At once, in float32: the data and perhaps a copy; where layers are whole, four arrays of each besides."""
    return 4 * m * (2 * (shape.sizes[0] + shape.sizes[-1]) + (0 if in_blocks else 4 * sum(shape.sizes[1:])))


def measured(name: str, shape: str, m: int) -> dict[str, Any]:
    """What it answers itself, in its process."""
    found = peers.prepared(problem.make(Shape.parse(shape), m, rare=RARE), [name])
    if name in found.left_out:
        return {"left_out": found.left_out[name]}
    return {"step": found.ran.get(name, ""), "error_of_gradient": found.errors_of_gradient[name]}
