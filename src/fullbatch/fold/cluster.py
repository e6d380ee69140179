"""The engine of a cluster: workers hold shards, whole leaves of the examples, and answer with nodes of the tree.

The driver adds the nodes in the tree's own order, so the bits are those of one process, for any number of workers. A
worker that is lost costs time and nothing else: its shard is made again elsewhere, and asked again. Which cluster it is
only the six functions of ``Workers`` know (``fold/dask.py``).
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.errors import ClusterError, FullbatchError, InputError
from fullbatch.fold.blocks import Block
from fullbatch.fold.tree import Node, leaf_size, powers
from fullbatch.fold.worker import Cost, Operation
from fullbatch.sources import Where, length
from fullbatch.sources.sharded import Sharded

if TYPE_CHECKING:
    from fullbatch.fold.shard import Answer, Recipe

TRIES = 4  # so often a shard may be lost in one call, before it is held to be the shard's own fault
MOST_NODES = 4  # of a shard
OF_PIECES = "the leaves follow the partitions of the Dask collection: other partitions give other last digits"
NO_LIBRARY = "off"  # what native_library.held_to takes for "no instruction set at all"


class Lost(NamedTuple):
    """What stands for an answer that does not come any more."""

    reason: str


class Workers(Protocol):
    """The cluster as an engine needs it. A handle stands for a shard at a worker, and has its ``address``."""

    def survey(self) -> dict[str, Any]:
        """For each worker that answers, by address: what ``shard.here`` says there with its ``threads``, or an error.

        Waits for the first worker; ClusterError where none comes.
        """
        ...

    def start(self, shards: Sequence[tuple[Recipe, Any, str]]) -> list[Any]:
        """Make each shard of recipe and data at its address: a handle, Lost, or the MemoryError of a worker that has no
        room for it. A recipe's other errors are raised."""
        ...

    def ask(self, calls: Mapping[int, tuple[Any, str, tuple[Any, ...]]]) -> dict[int, Answer | Lost]:
        """Call a method of each shard, by (handle, its name, arguments), all at once, and wait for all."""
        ...

    def anew(self, recipe: Recipe, data: Any) -> Any:
        """Make a shard at the worker that first answers: as ``start``. ClusterError where none answers."""
        ...

    def retire(self, handles: Sequence[Any]) -> None:
        """Nobody asks these any more: a worker that wakes lets go of them."""
        ...

    def each(self, function: Any, arguments: Sequence[tuple[Any, ...]], needs: Sequence[str] = ()) -> list[Any]:
        """What a function says of each of these arguments, on whatever workers, in their order; elsewhere again where
        a worker is lost. Its own errors are raised; of one for want of memory ``needs`` says what each call takes."""
        ...


class Run(NamedTuple):
    """So many leaves that follow one another, from number ``first`` on, and where their rows lie in the whole."""

    first: int
    leaves: int
    where: slice


@dataclass
class Held:
    """A shard as the driver knows it: what it is made of, where it is, and its runs of leaves, each with its place."""

    recipe: Recipe
    data: Any
    address: str
    runs: list[tuple[Run, int]]
    handle: Any = None
    wanted: list[tuple[int, Any]] = field(default_factory=list)  # (the number of a block, its request)


# --- The plan -------------------------------------------------------------------------------------------------------


class ShardPlan:
    """Which leaves there are, as runs, and which of them a call asks for: see ``blocks.Plan``."""

    on_cpu, by_segments = True, False

    def __init__(self, runs: Sequence[Run], leaf: int, m: int) -> None:
        self.runs, self.m, self.note = list(runs), m, ""
        self.leaf = self.unit = self.block = leaf
        self.leaves = sum(run.leaves for run in runs)

    def blocks(self, where: Where = None) -> list[Block]:
        """One for each run, or one for each leaf of an order of whole leaves, which are counted as they come there."""
        if where is None or (isinstance(where, slice) and (where.start, where.stop) == (0, self.m)):
            return [Block(run.where, run.first, True, run.leaves) for run in self.runs]
        found: list[Block] = []
        at = 0
        while at < length(where):
            start = where.start + at if isinstance(where, slice) else where[at : at + 1].start
            part = slice(start, self._end_of_leaf(start))
            found.append(Block(part, len(found), True))
            at += length(part)
        if at != length(where):
            raise InputError("a cluster sums whole leaves, and these examples end within one.")
        return found

    def _end_of_leaf(self, row: int) -> int:
        run = self.runs[bisect_right(self.runs, row, key=lambda run: run.where.start) - 1]
        if (row - run.where.start) % self.leaf:
            raise InputError("a cluster sums whole leaves, and these examples begin within one.")
        return int(min(row + self.leaf, run.where.stop))


def cuts(leaves: int, shards: int) -> list[int]:
    """Where so many leaves are cut into shards: [0, ..., leaves].

    At multiples of the largest power of two of leaves with which each shard is within an eighth of its share (a leaf,
    where that is more) and comes back as at most MOST_NODES nodes.
    """
    for unit in (1 << bit for bit in reversed(range(leaves.bit_length()))):
        if (found := _cuts_at(unit, leaves, shards)) is not None:
            return found
    raise AssertionError("a unit of one leaf always fits")


def _cuts_at(unit: int, leaves: int, shards: int) -> list[int] | None:
    """The cuts at multiples of ``unit`` with the fewest nodes, found from left to right; None: there are none."""
    share = leaves / shards
    least, most = share * 7 / 8, share * 9 / 8
    if unit == 1:
        least, most = min(least, leaves // shards), max(most, -(-leaves // shards))
    paths: dict[int, tuple[int, int, list[int]]] = {0: (0, 0, [0])}  # by the last cut: most and all nodes, the cuts
    for i in range(1, shards + 1):
        ahead: dict[int, tuple[int, int, list[int]]] = {}
        for cut in _candidates(unit, leaves, shards, i):
            ways = [
                (max(worst, nodes), total + nodes, [*path, cut])
                for start, (worst, total, path) in paths.items()
                if least <= cut - start <= most
                and ((nodes := len(nodes_of(start, cut, leaves))) <= MOST_NODES or unit == 1)
            ]
            if ways:
                ahead[cut] = min(ways)
        paths = ahead
    return paths[leaves][2] if leaves in paths else None


def _candidates(unit: int, leaves: int, shards: int, i: int) -> list[int]:
    """Where the i-th cut may be: near its share, at multiples of the unit."""
    if i == shards:
        return [leaves]
    share = leaves / shards
    low, high = -(-(share * i - share / 8) // unit), (share * i + share / 8) // unit
    found = {int(number) * unit for number in range(int(low), int(high) + 1)}
    return sorted(found | ({leaves * i // shards} if unit == 1 else set()))


def nodes_of(start: int, stop: int, leaves: int) -> list[tuple[int, int]]:
    """The nodes (first, size) that leaves from ``start`` to ``stop`` become, of so many in all: as ``at_the_end`` has
    them, the last one of all may have fewer leaves than its size."""
    found: list[tuple[int, int]] = []
    while start < stop:
        left = stop - start
        size = start & -start or 1 << (leaves - 1).bit_length()
        size = min(size, 1 << (left - 1).bit_length() if stop == leaves else powers(left)[0])
        found.append((start, size))
        start += size
    return found


# --- What workers have in common ------------------------------------------------------------------------------------


def check_versions(found: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """ClusterError where a worker lacks fullbatch, or has another version of it.

    found : what each worker said of itself;  own : what the driver says
    """
    version = own["versions"]["fullbatch"]
    for address, told in found.items():
        if isinstance(told, BaseException):
            raise ClusterError(
                f"the worker {address} cannot import fullbatch {version}, which this program runs: install it there "
                f"[{' '.join(str(told).split())[:200]}]."
            )
        if told["versions"]["fullbatch"] != version:
            raise ClusterError(
                f"the worker {address} has fullbatch {told['versions']['fullbatch']}, and this program runs {version}: "
                "install the same version on all of them."
            )


def agreed(found: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[str, str]:
    """The instruction set that all workers are held to, and what is to be said of it. ClusterError if none will do."""
    check_versions(found, own)
    having = {address: told["isas"] for address, told in found.items()}
    lacking = [address for address, isas in having.items() if not isas]
    if lacking and len(lacking) < len(having):
        raise ClusterError(
            f"the worker {lacking[0]} has no native step and others have: their last digits would differ. Install "
            "fullbatch with a C++ compiler there, or start all workers with FULLBATCH_NATIVE=off."
        )
    if lacking:
        return NO_LIBRARY, ""
    common = [isa for isa in next(iter(having.values())) if all(isa in isas for isas in having.values())]
    if not common:
        kinds = ", ".join(sorted({isas[0] for isas in having.values()}))
        raise ClusterError(f"the workers have no instruction set in common ({kinds}); use machines of one kind.")
    others = sorted({isas[0] for isas in having.values()} - {common[0]})
    note = f"the workers differ, so all of them compute by {common[0]}, and none by {', '.join(others)}"
    return common[0], note if others else ""


def _check_alike(traits: Mapping[str, Mapping[str, Any]], found: Mapping[str, Any], dtype: str) -> Mapping[str, Any]:
    """What all shards have in common. ClusterError where one differs from the first."""
    first, common = next(iter(traits.items()))
    for address, told in traits.items():
        if told["dtype"] != dtype:
            raise ClusterError(f"the worker {address} has examples of {told['dtype']}, and {dtype} was expected.")
        if told != common:
            versions = found.get(address, {}).get("versions", {})
            others = found.get(first, {}).get("versions", {})
            unlike = [
                f"{name} {versions[name]} and {others.get(name)}"
                for name in versions
                if versions[name] != others.get(name)
            ]
            raise ClusterError(
                f"the workers {address} and {first} compute other last digits (step {told['step']} and "
                f"{common['step']}; {'; '.join(unlike) or 'the same versions'}): install the same there."
            )
    return common


# --- The engine -----------------------------------------------------------------------------------------------------


class OnCluster:
    """As ``OnThreads``: ``run`` merges a Node for some leaves, in order, or (where, A[L]) of them to predict."""

    threads = 1

    def __init__(self, network: Network, examples: Sharded) -> None:
        from fullbatch.fold.shard import here

        self.network, self.examples, self.workers = network, examples, examples.workers
        self.number = 0  # of the call: an answer to another is dropped
        self.told: set[str] = set()
        self.found = self.workers.survey()
        self.isa, note = agreed(self.found, here())
        leaf = leaf_size(network.sizes[0])
        self.shards = self._cut(leaf)
        runs = sorted((run for shard in self.shards for run, _ in shard.runs), key=lambda run: run.first)
        self._places = sorted((run.where.start, i, at) for i, one in enumerate(self.shards) for run, at in one.runs)
        self.plan = ShardPlan(runs, leaf, examples.m)
        self.plan.note = "; ".join(filter(None, [note, OF_PIECES if examples.pieces else ""]))
        try:
            self.common = self._start()
        except BaseException:
            self.__exit__()
            raise
        self.step_name = str(self.common["step"])

    def __enter__(self) -> OnCluster:
        return self

    def __exit__(self, *error: object) -> None:
        self.workers.retire([shard.handle for shard in self.shards if shard.handle is not None])
        for shard in self.shards:
            shard.handle = None

    def _cut(self, leaf: int) -> list[Held]:
        """The shards, each with the worker that it is for."""
        examples, addresses = self.examples, sorted(self.found)
        if examples.pieces:
            return self._cut_by_pieces(leaf)
        leaves = -(-examples.m // leaf)
        addresses = addresses[:leaves]  # of a table with fewer leaves some workers have none
        found = []
        for address, (first, stop) in zip(addresses, pairwise(cuts(leaves, len(addresses))), strict=True):
            run = Run(first, stop - first, slice(first * leaf, min(stop * leaf, examples.m)))
            found.append(Held(self._recipe(run.where.start, run.where.stop, address), (), address, [(run, 0)]))
        return found

    def _cut_by_pieces(self, leaf: int) -> list[Held]:
        """A shard for each worker that has pieces. Leaves follow the pieces, whose last ones may be short."""
        at: dict[str, tuple[list[tuple[Run, int]], list[Any]]] = {}
        leaves = row = 0
        for piece in self.examples.pieces:
            if not piece.rows:
                continue
            runs, data = at.setdefault(piece.address, ([], []))
            run = Run(leaves, -(-piece.rows // leaf), slice(row, row + piece.rows))
            runs.append((run, sum(length(one.where) for one, _ in runs)))
            data.append(piece.data)
            leaves, row = leaves + run.leaves, row + piece.rows
        found = []
        for address, (runs, data) in at.items():
            m = sum(length(run.where) for run, _ in runs)
            found.append(Held(self._recipe(0, m, address), tuple(data), address, runs))
        return found

    def _recipe(self, start: int, stop: int, address: str) -> Recipe:
        from fullbatch.fold.shard import Recipe

        threads = self.found[address]["threads"] if address in self.found else 1
        rows = self.examples.rows
        own = getattr(
            rows, "within", None
        )  # Rows of a table know where each part of it begins, and a shard needs its own.
        return Recipe(self.network, rows if own is None else own(start, stop), start, stop, threads, self.isa)

    def _start(self) -> Mapping[str, Any]:
        """Make all shards, and see that they are alike."""
        from fullbatch.machine.arrays import dtype_name

        started = self.workers.start([(shard.recipe, shard.data, shard.address) for shard in self.shards])
        for shard, handle in zip(self.shards, started, strict=True):
            if isinstance(handle, Lost):
                self._make_anew(shard, handle.reason)
            elif isinstance(handle, MemoryError):
                raise _of(shard.address, handle, self._need(shard))
            else:
                shard.handle = handle
        traits: dict[str, Any] = {}
        self._ask_until_all(
            dict.fromkeys(range(len(self.shards)), ("traits", ())),
            lambda i, parts: traits.update({self.shards[i].address: parts[0]}),
        )
        return _check_alike(traits, self.found, dtype_name(self.examples.like))

    # A call

    def run(self, operation: Operation, theta: Any, blocks: Sequence[Block], merge: Any) -> None:
        """Ask for all blocks at once, and merge what comes in their order. Nothing is merged before all are there."""
        from fullbatch.fold.shard import Request

        for shard in self.shards:
            shard.wanted = []
        leaves = blocks[-1].leaf + blocks[-1].leaves
        for number, block in enumerate(blocks):
            shard, at = self._place_of(block.where.start)
            request = Request(block.leaf, slice(at, at + length(block.where)), number == len(blocks) - 1)
            shard.wanted.append((number, request))
        parts: list[Any] = [None] * len(blocks)

        def keep(i: int, answered: Sequence[Any]) -> None:
            wanted = self.shards[i].wanted
            if len(answered) != len(wanted):
                raise ClusterError(f"the worker {self.shards[i].address} gave {len(answered)} sums of {len(wanted)}.")
            for (number, _), part in zip(wanted, answered, strict=True):
                parts[number] = part

        self._ask_until_all(
            {
                i: ("answer", (operation, theta, [request for _, request in shard.wanted]))
                for i, shard in enumerate(self.shards)
                if shard.wanted
            },
            keep,
        )
        if operation == "predict":
            for block, part in zip(blocks, parts, strict=True):
                merge((block.where, part))
            return
        self._merge(operation, parts, leaves, merge)

    def _merge(self, operation: Operation, parts: Sequence[Any], leaves: int, merge: Any) -> None:
        """The nodes in their order, each leaf of them exactly once; ClusterError where one is missing."""
        sizes = self.network.sizes
        made: Any = Cost if operation == "cost" else lambda *part: GradientSum(part[0], part[1], part[2], sizes)
        found = [Node(first, count, made(*part)) for of_block in parts for first, count, part in of_block or ()]
        after = 0
        for node in found:
            if node.first != after:
                break
            after = node.first + node.leaves
        if after < leaves or not found:
            raise ClusterError(
                f"the sum of leaf {after} of {leaves} is missing among the workers' answers: nothing was added."
            )
        merge(*found)

    def _place_of(self, row: int) -> tuple[Held, int]:
        """The shard that has a row of the whole, and its place there."""
        start, i, at = self._places[bisect_right(self._places, row, key=lambda place: place[0]) - 1]
        return self.shards[i], at + row - start

    def _ask_until_all(self, calls: Mapping[int, tuple[str, tuple[Any, ...]]], keep: Any) -> None:
        """Ask these shards, all at once, and again those that were lost, until each has answered this very call."""
        self.number += 1
        left, losses = dict(calls), dict.fromkeys(calls, 0)
        while left:
            asked = {i: (self.shards[i].handle, name, (self.number, *args)) for i, (name, args) in left.items()}
            for i, answer in self.workers.ask(asked).items():
                if isinstance(answer, Lost):
                    losses[i] += 1
                    self._make_anew(self.shards[i], answer.reason, losses[i])
                    continue
                self._tell(self.shards[i].address, answer.warnings)
                if answer.error is not None:
                    raise _of(self.shards[i].address, answer.error, self._need(self.shards[i]))
                if answer.number != self.number:  # to a call of before, which somebody gave up
                    losses[i] += 1
                    self._check_tries(self.shards[i], "its answers are to other calls", losses[i])
                    continue
                keep(i, answer.parts)
                del left[i]

    def _tell(self, address: str, lines: Sequence[str]) -> None:
        """Hand on what a worker warned of, each line once."""
        for line in lines:
            if line not in self.told:
                self.told.add(line)
                warnings.warn(f"cluster: the worker {address} says: {line}", stacklevel=2)

    # What was lost

    def _make_anew(self, shard: Held, reason: str, losses: int = 1) -> None:
        """Let another worker make the shard; see that it is like the others."""
        before = shard.address
        if shard.handle is not None:
            self.workers.retire([shard.handle])
            shard.handle = None
        for loss in range(losses, TRIES + 1):
            self._check_tries(shard, reason, loss)
            handle = self.workers.anew(shard.recipe, shard.data)
            if isinstance(handle, MemoryError):
                raise _of("that took it over", handle, self._need(shard))
            if not isinstance(handle, Lost):
                break
            reason = handle.reason
        shard.handle, shard.address = handle, handle.address
        if hasattr(self, "common"):
            answer = self.workers.ask({0: (handle, "traits", (self.number,))})[0]
            if not isinstance(answer, Lost) and answer.error is None and answer.parts[0] != self.common:
                raise ClusterError(
                    f"the worker {shard.address}, which came later, computes other last digits: replace it."
                )
        rows = shard.runs[0][0].where.start, shard.runs[-1][0].where.stop
        warnings.warn(
            f"cluster: the worker {before} was lost ({reason}); {shard.address} has read its rows {rows[0]:,} to "
            f"{rows[1]:,} again, and the training goes on to the same bits.",
            stacklevel=2,
        )

    def _check_tries(self, shard: Held, reason: str, losses: int) -> None:
        if losses < TRIES:
            return
        raise ClusterError(
            f"a shard was lost {losses} times, last at {shard.address} ({reason}): {self._need(shard)}; give each "
            "worker more memory, or take more workers."
        )

    def _need(self, shard: Held) -> str:
        """What a shard needs, for whom memory is short. Leaves of a store are read one by one, all else is held."""
        m, itemsize = shard.recipe.stop - shard.recipe.start, int(self.examples.like.dtype.itemsize)
        held = bool(shard.data) or not self.examples.permuted
        dense = itemsize * self.examples.n * (m if held else min(m, self.plan.leaf * shard.recipe.threads))
        return f"its {m:,} rows need up to {dense:,} bytes for examples"


def _of(address: str, error: Exception, need: str) -> Exception:
    """A worker's error, which says where it was."""
    if isinstance(error, MemoryError):
        return ClusterError(
            f"the worker {address} is out of memory ({error}): {need}; give it more, or take more workers."
        )
    if isinstance(error, FullbatchError):
        return error
    return ClusterError(f"the worker {address} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
