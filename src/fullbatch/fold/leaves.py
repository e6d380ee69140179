"""Full batches over a file in the system's cache: leaves looked at where they lie, many in one call of the native step.

Leaves that nobody compared with their checksums yet, or that are to be read from the disk first, go block by block, as
all did before them: so does what a file that was cut short meanwhile leaves, whose reading says what is wrong. The
bits are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fullbatch.fold.blocks import Plan, Some
from fullbatch.fold.threads import OnThreads
from fullbatch.fold.tree import Node, Tree
from fullbatch.sources import Columns, Examples, filler
from fullbatch.steps.native_leaves import NativeLeaves

MOST = 2**22  # numbers of the targets of a call, or weights: they are made for it, in memory that is used again


def most(Y: Columns, leaf: int) -> int:
    """The leaves of a call, at most."""
    return max(1, MOST // (leaf * Y.n))


class Calls:
    """The leaves of all examples in calls of ``together`` leaves.

    X : ``LeavesInPlace``;  starts, leaves : the plan's, as ``NativeLeaves`` takes them
    """

    def __init__(
        self, engine: OnThreads, plan: Plan, examples: Examples, X: Any, threads: int, together: int,
        starts: Sequence[int], leaves: Sequence[int],
    ) -> None:  # fmt: skip
        fill = filler(examples.Y) if examples.Y is not None else None
        assert fill is not None
        self.engine, self.plan, self.X, self.together, self.threads = engine, plan, X, together, threads
        self.starts, self.leaves, self.weight, self.fill = starts, leaves, examples.weight, fill
        steps = [worker.step for worker in engine.workers(min(threads, len(starts) - 1))]
        self.native = NativeLeaves(steps, starts, leaves, together, examples.weight is not None)

    def total(self, theta: Any) -> Any:
        """The sum over all examples."""
        tree, last = Tree(), len(self.leaves) - 1
        first, waiting = 0, 0  # leaves from ``waiting`` on are to go block by block
        while first < last:
            count = min(self.together, last - first)
            part = self._sum(theta, first, count)
            if part is not None:
                self._run(theta, waiting, first, tree)
                # The last call's leaves may be no power of two: they are what is left over.
                tree.add(Node(first, count, part))
                waiting = first + count
            first += count
        self._run(theta, waiting, last, tree)
        return tree.total()

    def _sum(self, theta: Any, first: int, count: int) -> Any:
        """None where these leaves are to go block by block."""
        X = self.X.look(first, count)
        if X is None:
            return None
        native, leaf = self.native, self.plan.leaf
        start, stop = self.starts[self.leaves[first]], self.starts[self.leaves[first + count]]
        for at in range(start, stop, leaf):
            where = slice(at, min(at + leaf, stop))
            own = slice(at - start, where.stop - start)
            self.fill(where, native.Y[:, own])
            if native.weight is not None and self.weight is not None:
                native.weight[own] = self.weight[where]
        part = native.gradient(theta, self.threads, first, X)
        return part if self.X.is_whole() else None

    def _run(self, theta: Any, first: int, last: int, tree: Tree) -> None:
        """These leaves block by block."""
        if first < last:
            blocks = self.plan.blocks()
            own = Some(blocks, self.leaves[first], self.leaves[last])
            self.engine.run("gradient", theta, blocks if len(own) == len(blocks) else own, tree.add)
