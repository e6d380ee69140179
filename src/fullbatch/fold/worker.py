"""A thread's own step and readers: one block of examples, for each of the three operations."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Literal, NamedTuple

from fullbatch import steps
from fullbatch.core.dropout import Dropout
from fullbatch.core.network import Network
from fullbatch.fold.blocks import Block
from fullbatch.fold.tree import Node, powers
from fullbatch.machine import arrays
from fullbatch.sources import Examples, Where, close, expect, in_place_reader, is_whole, sparse_reader

Operation = Literal["gradient", "cost", "predict"]


class Worker:
    """A step for blocks of at most ``block`` examples, and what reads them.

    segment : the examples of a segment, for a step that sums them one by one; 0 for any other
    """

    def __init__(self, network: Network, examples: Examples, block: int, step: str, segment: int = 0) -> None:
        self.segment = segment
        self.dropout: Dropout | None = None
        self.step: Any = steps.make(network, examples.X.like, block, step)
        X: Any = examples.X
        coded = X.coded_reader() if self.step.takes_codes else None
        in_place = in_place_reader(X) if step == steps.NativeStep.name else None
        self.read_X = coded or sparse_reader(X, self.step.takes_sparse) or in_place or X.reader()
        self.read_Y = examples.Y.reader() if examples.Y is not None else None
        self.weight = examples.weight
        self.wide, self.xp = arrays.widest_float(examples.X.like), arrays.namespace(examples.X.like)

    def load(self, theta: Any, dropout: Dropout | None = None) -> None:
        """All parameters as one vector, and what gradients leave out, to use from now on."""
        self.step.load(theta)
        self.dropout = dropout

    def work(self, operation: Operation, where: Where, first: int = 0) -> Any:
        """What the operation makes of a block: a GradientSum in the widest float, (loss, weight), or A[L] (n[L], k).

        Of the first two there is a list where a block has segments: one for each node that they become.

        first : how many of the fold's examples are before the block's
        """
        part = self._work(operation, where, first)
        while not is_whole(self.read_X):  # What was made of it is dropped; the next reading says why, or is right.
            part = self._work(operation, where, first)
        return part

    def _work(self, operation: Operation, where: Where, first: int) -> Any:
        if operation == "predict":
            return self.step.predict(self.read_X(where))
        X, Y, weight = self.read(where)
        if self.segment and operation == "cost":
            return [Cost(*cost) for cost in self.step.costs(X, Y, weight, self.segment)]
        if self.segment:
            return self.step.gradients(X, Y, weight, self.segment)
        if operation == "cost":
            return Cost(*self.step.cost(X, Y, weight))
        if self.dropout is not None:
            self.step.leave_out(self.dropout, first)
        return self.step.gradient(X, Y, weight).astype(self.wide, self.xp)

    def read(self, where: Where) -> tuple[Any, Any, Any]:
        """X, Y and the weights of a block; the last two may be None."""
        weight = self.weight
        if weight is not None:
            if isinstance(where, slice) or arrays.is_numpy(weight):
                weight = weight[where]
            else:
                xp = arrays.namespace(weight)
                weight = xp.take(weight, xp.asarray(where, device=arrays.device_of(weight)))
        return self.read_X(where), None if self.read_Y is None else self.read_Y(where), weight

    def expect(self, wheres: list[Where]) -> None:
        """These are read next, one after another."""
        expect(self.read_X, wheres)
        expect(self.read_Y, wheres)

    def close(self) -> None:
        close(self.read_X)
        close(self.read_Y)


class Cost(NamedTuple):
    """Loss and weight of some examples, both summed; two of them add."""

    loss: Any
    weight: Any

    def __add__(self, other: Cost) -> Cost:  # type: ignore[override]  # a monoid, not a concatenation
        return Cost(self.loss + other.loss, self.weight + other.weight)


class Leaves:
    """Adds the blocks of a leaf in their order, and hands the leaf on when it is whole.

    Where a step sums by segments, they take the place of leaves, as in ``Block``; a block of several of them comes as
    the list of the nodes that they became.

    Where a call raises, all is as it was before it: a device without memory for it does the block again.
    """

    def __init__(self, merge: Any) -> None:
        self.merge, self.sum = merge, None

    def __call__(self, block: Block, part: Any) -> None:
        if block.leaves > 1:
            sizes = powers(block.leaves)
            firsts = accumulate(sizes, initial=block.leaf)
            self.merge(*(Node(*node) for node in zip(firsts, sizes, part, strict=False)))
            return
        part = part[0] if isinstance(part, list) else part
        total = part
        if self.sum is not None:
            total = self.sum
            total += part
        if block.last:
            self.merge(Node(block.leaf, 1, total))
            total = None
        self.sum = total


def merging(operation: Operation, merge: Any) -> Any:
    """What takes (block, its part) in order: for a prediction ``merge`` itself, else the sum of the block's leaf."""
    return (lambda block, part: merge((block.where, part))) if operation == "predict" else Leaves(merge)
