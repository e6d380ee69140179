"""A worker's side of a cluster: some leaves of the whole, and their sums for whatever parameters come.

A shard is a pure function of its recipe, the parameters and the number of the call. It holds recipe, data and step and
nothing else, so it may be made again elsewhere, and asked twice. Nothing here writes into an argument: an engine may
hand out its own stored array.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from fullbatch.core.network import Network
from fullbatch.core.parameters import flatten
from fullbatch.fold.fold import Fold
from fullbatch.fold.tree import Node
from fullbatch.fold.worker import Operation
from fullbatch.machine import arrays, native_library
from fullbatch.machine.provenance import provenance
from fullbatch.sources import Dense, Examples
from fullbatch.sources.sharded import Rows

PROBED = 64  # examples of the problem by which workers are compared


@dataclass(frozen=True)
class Recipe:
    """What a shard is made of: rows from ``start`` to ``stop`` of the whole, and all that its bits depend on.

    threads : of the worker;  isa : the instruction set that all workers are held to, or "off"
    """

    network: Network
    rows: Rows
    start: int
    stop: int
    threads: int
    isa: str


class Request(NamedTuple):
    """Leaves that follow one another, the first of which has number ``first`` in the whole.

    where : their rows, counted within the shard;  ends : whether they are the last ones of the whole
    """

    first: int
    where: slice
    ends: bool


class Answer(NamedTuple):
    """What a shard says to a call.

    number : of the call, as it came;  parts : for each request its nodes, as (first, leaves, sum), or A[L] (n[L], k)
    warnings : what was warned of;  error : what went wrong with the data or the arguments, for the user
    """

    number: int
    parts: Sequence[Any] = ()
    warnings: tuple[str, ...] = ()
    error: Exception | None = None


class Shard:
    """What a worker holds. It pickles as its recipe."""

    def __init__(self, recipe: Recipe, *data: Any) -> None:
        self.recipe, self.data = recipe, data
        with native_library.held_to(recipe.isa):
            examples = recipe.rows.examples(recipe.start, recipe.stop, *data)
            self.fold = Fold(recipe.network, examples, threads=recipe.threads)
            self.fold.__enter__()

    def __reduce__(self) -> Any:
        return type(self), (self.recipe, *self.data)

    async def pong(self) -> bool:
        """Answered between others, so that who is slow is told from who is silent."""
        return True

    def traits(self, number: int) -> Answer:
        """What all shards must have alike: the step, the dtype, and the bits of a small problem's gradient."""
        network, like = self.recipe.network, self.fold.examples.X.like
        return self._told(
            number,
            lambda: [
                {"step": self.fold.step_name, "dtype": arrays.dtype_name(like), "bits": _probe(network, like)},
            ],
        )

    def answer(self, number: int, operation: Operation, theta: Any, requests: Sequence[Request]) -> Answer:
        """The nodes of each request, or its predictions."""
        make = self._predicted if operation == "predict" else self._nodes
        return self._told(number, lambda: [make(operation, theta, request) for request in requests])

    def _told(self, number: int, work: Callable[[], list[Any]]) -> Answer:
        try:
            with warnings.catch_warnings(record=True) as caught, native_library.held_to(self.recipe.isa):
                warnings.simplefilter("always")
                parts = work()
        except Exception as error:
            return Answer(number, error=error)
        return Answer(number, parts, tuple(str(one.message) for one in caught))

    def _nodes(self, operation: Operation, theta: Any, request: Request) -> list[tuple[int, int, tuple[Any, ...]]]:
        nodes = self.fold.nodes(operation, theta, request.where, request.first)
        if request.ends:
            nodes = at_the_end(nodes)
        # Plain tuples of arrays and numbers: the network's sizes need not travel with each sum.
        return [(first, leaves, tuple(part)[:3]) for first, leaves, part in nodes]

    def _predicted(self, operation: Operation, theta: Any, request: Request) -> Any:
        found: list[Any] = []
        fold = self.fold
        fold.engine.run(operation, theta, fold.plan.blocks(request.where), lambda part: found.append(part[1]))
        return found[0] if len(found) == 1 else arrays.namespace(*found).concat(found, axis=-1)


def at_the_end(nodes: Sequence[Node]) -> list[Node]:
    """Nodes of the last leaves of all, with those added that the tree would add before it comes to any other.

    What lies right of a cut and ends with the whole is a node of the tree, even where it is not full.
    """
    found = list(nodes)
    while len(found) > 1 and found[-2].first % (2 * found[-2].leaves) == 0:
        right, left = found.pop(), found.pop()
        found.append(Node(left.first, 2 * left.leaves, left.sum + right.sum))
    return found


def here() -> dict[str, Any]:
    """What a worker's machine has: versions, and its instruction sets, the best first."""
    best = native_library.isa()
    able = [name for _, name in native_library.isas()]
    # FULLBATCH_NATIVE may have named one that is not the best: its user wants no other.
    able = able[able.index(best[1]) :] if best is not None and best[1] in able else []
    versions = {name: text for name, text in provenance().items() if name != "instruction set"}
    return {"versions": versions, "isas": able}


def _probe(network: Network, like: Any) -> str:
    """A checksum of the gradient of a fixed problem: where two machines differ, this mostly does."""
    dtype = arrays.dtype_name(like)
    X = arrays.from_host(arrays.random_generator(0).standard_normal((network.sizes[0], PROBED)), dtype=dtype)
    xp, outputs = arrays.namespace(X), network.sizes[-1]
    Y = xp.take(xp.eye(outputs, dtype=X.dtype), xp.arange(PROBED) % outputs, axis=1)  # one of each class in turn
    with Fold(network, Examples(Dense(X), Dense(Y)), threads=1) as fold:
        total = fold.gradient(flatten(network.init(seed=0, dtype=dtype)))
    return sha256(arrays.to_host(total.vector).tobytes() + repr(float(total.loss)).encode()).hexdigest()[:16]
