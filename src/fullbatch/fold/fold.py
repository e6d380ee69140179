"""The sum over the examples: a plan says which blocks there are, an engine runs it, a tree adds what comes.

Leaves are the same for any number of threads, and so is the order in which their sums are added, in the widest float:
the bits do not depend on the threads, nor on a GPU on its grid or on the blocks that its memory takes. Memory is that
of a block for each thread, and a sum for each level of the tree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fullbatch import steps
from fullbatch.core.dropout import Dropout
from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.errors import InputError
from fullbatch.fold import blocks, leaves
from fullbatch.fold.blocks import NATIVE_LIMIT, Plan, multiply_adds
from fullbatch.fold.device import OnDevice
from fullbatch.fold.threads import OnThreads
from fullbatch.fold.tree import Node, Tree, in_leaves
from fullbatch.fold.worker import Operation, Worker
from fullbatch.machine import arrays, cuda
from fullbatch.machine.threads import thread_count
from fullbatch.sources import Columns, Examples, Where, entries, filler, in_memory, leaves_in_place, sparse_reader
from fullbatch.sources.sharded import Sharded
from fullbatch.sources.spread import Spread
from fullbatch.steps.native import NativeBlocks, NativeStep

if TYPE_CHECKING:
    from fullbatch.fold.cluster import OnCluster, ShardPlan

# Leaves in a call of the native step for blocks that lie in memory. Where it would have fewer, and is not the only one,
# blocks are so long that the interpreter between them does not show, and threads would wait for one another at its end.
FEWEST = 8
MADE = 2**24  # numbers of a Y that does not lie in memory, and is made as a whole for them


class Fold:
    """Sums over ``examples`` for one network, at all its parameters ``theta``, one vector.

    A context manager: threads and BLAS's limit last as long as it is open.

    threads : the number of threads on the CPU; None for all that this process may use. Elsewhere it is 1.
    dropout : whether gradients are to leave hidden units out, which not every step can do
    whole : the examples of which these are a share, for nodes of the whole's tree; 0 where they are all
    """

    engine: OnThreads | OnDevice | OnCluster
    plan: Plan | ShardPlan
    _blocks: NativeBlocks | leaves.Calls | None = None
    _gradients = 0  # how many were asked for, up to the second
    _most = 1  # threads of a training in one call of C

    def __init__(
        self,
        network: Network,
        examples: Examples | Columns,
        *,
        threads: int | None = None,
        precision: str | None = None,
        budget: float = math.inf,
        dropout: bool = False,
        whole: int = 0,
    ) -> None:
        self.network = network
        self.examples = examples = examples if isinstance(examples, Examples) else Examples(examples)
        if isinstance(examples.X, Spread):
            from fullbatch.fold.devices import shared_among

            self.examples = examples = shared_among(examples, precision)
        like = examples.X.like
        on_cpu = arrays.is_numpy(like)
        self.precision = cuda.check_precision(precision, like)
        self._given = threads
        if isinstance(examples.X, Sharded):
            self._ask_workers(examples.X, threads, dropout)
            return
        coded = 0 if on_cpu else entries(examples.X)
        self.step_name = step = steps.choose(network, like, self.precision, dropout=dropout, entries=coded)
        sparse = on_cpu and sparse_reader(examples.X, steps.STEPS[step].takes_sparse) is not None
        # SciPy's sparse products hold the interpreter's lock, so that to share a mini-batch of them takes longer.
        locked = sparse and self.step_name == steps.InplaceStep.name
        self.plan = plan = Plan(
            network, like, examples.m, step,
            sparse=sparse, precision=self.precision, shared=not locked, entries=coded, whole=whole,
        )  # fmt: skip

        def make_worker() -> Worker:  # It must not hold the fold, whose engine holds it: to collect cycles takes time.
            segment = plan.unit if plan.by_segments else 0
            return Worker(network, examples, min(plan.block, examples.m), step, segment)

        if on_cpu:
            worth = plan.worth(step == NativeStep.name, blocks.THREAD_WORK)
            self.threads = min(worth, thread_count(threads)) if worth > 1 or threads is not None else 1
            self.engine = OnThreads(make_worker, self.threads, holds_blas=steps.STEPS[self.step_name].uses_blas)
        else:
            plan.fit_into(budget)
            thread_count(threads)  # which refuses what is no number of threads
            self.threads = 1
            self.engine = OnDevice(make_worker, plan)

    def _ask_workers(self, X: Sharded, threads: int | None, dropout: bool) -> None:
        """Have the workers of a cluster, or several devices, do it."""
        if dropout:
            raise InputError(
                "dropout is not done on a cluster, nor on several devices; train there with dropout=0, or on one."
            )
        from fullbatch.fold.cluster import OnCluster

        thread_count(threads)  # which refuses what is no number of threads; a worker knows its own
        self.threads, self.engine = 1, OnCluster(self.network, X)
        self.plan, self.step_name = self.engine.plan, self.engine.step_name

    @property
    def used(self) -> int:
        """The most threads that any of it ran on, or may have."""
        return max(self.threads, self._most)

    def in_one_call(self) -> NativeBlocks | None:
        """All blocks for a training in one call of C, which starts its threads once, so that less work is worth one."""
        if self.step_name != NativeStep.name or not isinstance(self.plan, Plan):
            return None
        worth = self.plan.worth(True, blocks.TEAM_WORK)
        team = max(self.threads, min(worth, thread_count(self._given)) if worth > 1 else 1)
        found = self.in_calls(team)
        if found is None or len(found.calls) > 1:
            return None
        self._most = max(self._most, team)
        return found

    @property
    def block(self) -> int:
        """The examples of a block, at most."""
        return self.plan.block

    @property
    def note(self) -> str:
        """Why bits may differ from those of another run of the same; empty where they do not."""
        return self.plan.note

    def __enter__(self) -> Fold:
        self.engine.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._blocks, self._gradients = None, 0
        self.engine.__exit__(*error)

    def rest(self) -> None:
        """Give back the memory of the threads' steps; the next call makes them anew."""
        self._blocks, self._gradients = None, 0
        if isinstance(self.engine, OnThreads):
            self.engine.rest()

    def gradient(self, theta: Any, where: Where = None, dropout: Dropout | None = None) -> GradientSum:
        """The sum over the examples that ``where`` selects (all of them if None), in the widest float.

        dropout : of these examples as one batch; for a fold that was made for it
        """
        if dropout is None and (ready := self._in_few(where)) is not None:
            if isinstance(ready, leaves.Calls):
                of_leaves: GradientSum = ready.total(theta)
                return of_leaves
            tree = Tree()
            # The last call's leaves may be no power of two: they are what is left over, added from the smallest up.
            for first, together, part in ready.gradients(theta, self.threads):
                tree.add(Node(first, together, part))
            of_calls: GradientSum = tree.total()
            return of_calls
        total: GradientSum = self._tree("gradient", theta, where, dropout=dropout).total()
        return total

    def _in_few(self, where: Where) -> NativeBlocks | leaves.Calls | None:
        """All blocks for calls of the native step: the interpreter's time for each of them would show."""
        if self.step_name != NativeStep.name or not isinstance(self.plan, Plan) or not self.plan.are_all(where):
            return None
        if self._blocks is None and self._gradients < 2:
            self._gradients += 1  # to make ready for a single block takes longer than one gradient saves by it
            if self._gradients > 1 or len(self.plan.blocks()) > 1:
                self._blocks, self._gradients = self.in_calls(self.threads) or self._leaf_calls(), 2
        return self._blocks

    def nodes(self, operation: Operation, theta: Any, where: Where, first: int = 0) -> list[Node]:
        """The nodes of the tree over these examples, of which the first begin leaf number ``first`` of a larger whole.

        With the other parts' nodes ``tree.total`` makes the very sum that one call over the whole makes. Of a cost they
        hold a Cost.
        """
        segments = self.plan.leaf // self.plan.unit
        return in_leaves(self._tree(operation, theta, where, first * segments).nodes, segments)

    def cost(self, theta: Any, where: Where = None) -> tuple[Any, Any]:
        """The summed loss and the summed weight of the examples that ``where`` selects (all of them if None).

        Where they are summed: ``arrays.floats`` reads them back from a device.
        """
        loss, weight = self._tree("cost", theta, where).total()
        return loss, weight

    def in_calls(self, threads: int) -> NativeBlocks | None:
        """All blocks as the native step sums them in a few calls, or in one, where they lie in memory; else None."""
        engine, plan = self.engine, self.plan
        if self.step_name != NativeStep.name or not isinstance(engine, OnThreads) or not isinstance(plan, Plan):
            return None
        Y = self.examples.Y
        if Y is None or not _lie(self.examples.X) or (not _lie(Y) and Y.n * Y.m > MADE):
            return None
        starts, bounds = plan.edges()
        together = self._together(bounds)
        if not together:
            return None
        workers = engine.workers(min(threads, len(starts) - 1))
        X, Y, weight = workers[0].read(slice(0, plan.m))
        if not NativeBlocks.in_place(X, Y, weight, workers[0].step.dtype):
            return None
        return NativeBlocks([worker.step for worker in workers], X, Y, weight, starts, bounds, together)

    def _leaf_calls(self) -> leaves.Calls | None:
        """The same of a file whose leaves can be looked at where they lie, of a step that does."""
        engine, plan, Y = self.engine, self.plan, self.examples.Y
        if not isinstance(engine, OnThreads) or not isinstance(plan, Plan) or Y is None or filler(Y) is None:
            return None
        X = leaves_in_place(self.examples.X)
        if X is None or X.leaf != plan.leaf:
            return None
        starts, bounds = plan.edges()
        together = self._together(bounds, leaves.most(Y, plan.leaf))
        if not together:
            return None
        return leaves.Calls(engine, plan, self.examples, X, self.threads, together, starts, bounds)

    def _together(self, bounds: Sequence[int], most: float = math.inf) -> int:
        """The leaves of a call of the native step, a power of two; 0 where blocks are better worked on one by one.

        bounds : the block with which each leaf begins;  most : the leaves of a call, at most
        """
        together, work = 1, min(self.plan.leaf, self.plan.m) * multiply_adds(self.network)
        while together < len(bounds) - 1 and 2 * together <= most and 2 * together * work <= NATIVE_LIMIT:
            if not NativeBlocks.fit(self.network, 2 * together * bounds[1]):
                break
            together *= 2
        too_long = work > NATIVE_LIMIT or not NativeBlocks.fit(self.network, bounds[1])
        return 0 if too_long or together < min(len(bounds) - 1, FEWEST) else together

    def _tree(
        self, operation: Operation, theta: Any, where: Where, first: int = 0, dropout: Dropout | None = None
    ) -> Tree:
        """Of leaves, or on a GPU of segments, of which the first has number ``first``."""
        tree = Tree()

        def add(*nodes: Node) -> None:
            tree.add(*(Node(first + node.first, node.leaves, node.sum) for node in nodes))

        more = {} if dropout is None else {"dropout": dropout}
        self.engine.run(operation, theta, self.plan.blocks(where), add if first else tree.add, **more)
        return tree

    def predict(self, theta: Any, finish: Callable[[Any], Any] | None = None) -> Any:
        """yhat = A[L] (n[L], m) of all examples, or what ``finish`` makes of each block of it: (..., k) to (..., m).

        The result is made example by example in memory, so its transpose is an ordinary (m, n[L]) table.
        """
        out: list[Any] = []
        m, on_cpu = self.examples.m, self.plan.on_cpu

        def keep(part: tuple[Where, Any]) -> None:
            where, yhat = part
            made = yhat if finish is None else finish(yhat)
            if not on_cpu:
                out.append(made)
                return
            if not out:
                out.append(arrays.host_columns(made, m))
            arrays.put_columns(out[0], where, made)

        self.engine.run("predict", theta, self.plan.blocks(), keep)
        return out[0] if len(out) == 1 else arrays.namespace(*out).concat(out, axis=-1)


def _lie(source: Columns) -> bool:
    """Whether a source's numbers lie in memory, all of them and no others."""
    layout = in_memory(source)
    return layout is not None and layout.numbers is not None and layout.codes is None and layout.through is None
