"""The plan of a fold: which blocks there are, and to which leaf each belongs.

A block is as many examples as keep the hidden layers in the cache, or X short for the native step, which has no hidden
layers of a block. Blocks are cut inside leaves (tree.py) and their sums are added there in order, so a full leaf has a
power of two of them. Where they lie follows from shape, network, dtype and step alone: not from the threads, nor from
how many leaves there are.

On a GPU a block is as many segments of leaves as its memory takes, mostly of many leaves. Its kernels write a row of
sums for each segment and add the rows by the tree, so that bits do not depend on the blocks. Where no kernels of ours
run (the array step), blocks are cut inside leaves there too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, overload

from fullbatch import steps
from fullbatch.core.network import Network
from fullbatch.core.parameters import count
from fullbatch.errors import DeviceError
from fullbatch.fold import tree
from fullbatch.machine import arrays, places
from fullbatch.sources import Where, length

# Of a block of the steps in NumPy. Its hidden layers stay in the second-level cache and a share of the third.
CACHE = 4 * 2**20  # bytes
SHORTEST, LONGEST = 256, 4096  # examples: below the first, the interpreter's time for a block shows

# Of a block of the native step. It has no hidden layers of a whole block, so that only X decides.
NATIVE_WORK = 2**22  # multiply-adds forward: with fewer in a block, the interpreter's time for it shows
NATIVE_LIMIT = 2**33  # multiply-adds forward, half a second: Ctrl-C waits for the end of a block
NATIVE_BLOCK = 2**23  # bytes of X
# Examples. A block has as many also where its X is then up to 8 times NATIVE_BLOCK, because the gradient of each block
# has to be added to the others'.
NATIVE_LEAST = 2048

# Of the work that threads share.
THREAD_WORK = 2**21  # multiply-adds forward, a tenth of a millisecond: less is not worth the start of a thread
TEAM_WORK = 2**19  # of threads that live as long as a training
THREAD_EXAMPLES = 128  # Of the native step: to copy a wide network's parameters for a thread takes as long as so many.
WORTH_A_CALL = 4 * THREAD_WORK  # Two threads that come back after less wait for the interpreter: it costs 12 %.
LEAF_BLOCKS = 8  # blocks of a full leaf, where each is worth its call: 2, 4 and 8 threads share them evenly
SHARE = 512  # examples: a mini-batch of more is shared among threads
# Multiply-adds forward: the native step gives a thread no smaller share of a mini-batch. A small table is cut in two to
# four for threads that live as long as a training, and meet in a microsecond.
NATIVE_SHARE, NATIVE_SMALL_SHARE = 2**21, 2**19

# Of a block on a device.
GPU_BLOCK = 2**29  # bytes of a block's examples: enough to hide the launch of a kernel, small beside any card's memory
CODED_BLOCKS = 3  # blocks of codes that a step has at most: two on their way, and a mini-batch side by side
ALIGNED = 64  # examples: blocks begin at multiples, so that cuBLAS finds them as well aligned as a copy


def block_size(
    network: Network, like: Any, sparse: bool = False, precision: str = "", step: str = "", entries: int = 0
) -> int:
    """The examples of a block, from shape, dtype, kind of device, precision, and whether X is read sparsely, alone.

    step : the name of the one that runs; found out where it is not given
    entries : of an example, where X is read as Coded blocks
    """
    itemsize = 4 if arrays.dtype_name(like) == "float32" else 8
    step = step or steps.choose(network, like, precision, entries=entries)
    if not arrays.is_numpy(like):
        numbers = _numbers(step, network, entries)
        segment = steps.segment(step, network)
        if segment:  # each has a row of sums, which for a large network is no small thing beside its examples
            numbers += -(-count(network.sizes) // segment)
        return max(SHORTEST, GPU_BLOCK // (itemsize * numbers) // ALIGNED * ALIGNED)
    if step == "native":
        weights = multiply_adds(network)
        longest = min(max(NATIVE_WORK // weights, 2 * LONGEST), max(NATIVE_LIMIT // weights, SHORTEST)) // 64 * 64
        if sparse:
            return longest
        fit = NATIVE_BLOCK // (itemsize * network.sizes[0]) // 64 * 64
        return min(max(fit, min(8 * fit, NATIVE_LEAST), 2 * SHORTEST), longest)
    per_example = itemsize * 2 * sum(network.sizes[1:])  # A and dZ of every layer
    return min(max(CACHE // per_example // 64 * 64, SHORTEST), LONGEST)


def multiply_adds(network: Network) -> int:
    """Of one example, forward."""
    return _multiply_adds(network.sizes)


@lru_cache(maxsize=64)
def _multiply_adds(sizes: tuple[int, ...]) -> int:
    return sum(n * fan_in for fan_in, n in pairwise(sizes))


def _numbers(step: str, network: Network, entries: int) -> int:
    """Of an example of a block on a device."""
    made: Any = steps.STEPS[step]
    return int(made.numbers(network)) + (CODED_BLOCKS * entries if made.takes_codes else 0)


def workspace(
    network: Network, like: Any, block: int, precision: str = "", m: int = 0, *, entries: int = 0, whole: int = 0
) -> int:
    """Bytes on a device that a block of so many examples takes, at most: a step's arrays, and two blocks to stream.

    And what each parameter takes, whatever the block: itself, its gradient in a block and in the sum, an optimiser's
    state and the next value; and where there are several blocks of ``m`` examples, a sum for each level of the tree.

    whole : the examples of which these are a share, as ``Plan`` has it
    """
    itemsize = 4 if arrays.dtype_name(like) == "float32" else 8
    name = steps.choose(network, like, precision, entries=entries)
    examples = itemsize * block * _numbers(name, network, entries) + steps.STEPS[name].sums(network, block, whole or m)
    levels = max(1, -(-m // max(block, 1))).bit_length() - 1
    return examples + (8 * itemsize + 6 * 8 + levels * 8) * count(network.sizes)


def cut(where: Where, block: int, share: int = SHARE, align: int = 1) -> list[Where]:
    """``where`` in consecutive parts of nearly equal length, at most ``block`` each; a function of these alone.

    share : of more examples than this there are several parts, up to 4, even where one block would take them all
    align : all but the last part are multiples of it, as ``block`` must be
    """
    m = length(where)
    parts = max(-(-m // block), min(-(-m // share), 4))
    if share < block:  # threads wait for one another at the end, for less the more parts there are
        parts = max(parts, min(-(-m // (2 * LONGEST)), 16))
    if align > 1:
        size = -(-m // parts // align) * align
        return [_of(where, *edges) for edges in pairwise([*range(0, m, size), m])]
    if parts > 4:
        parts = -(-parts // 8) * 8  # so that two, four or eight threads have the same number
    return evenly(where, parts)


def evenly(where: Where, parts: int) -> list[Where]:
    """``where`` in so many consecutive parts, of nearly equal length."""
    m = length(where)
    return [_of(where, m * i // parts, m * (i + 1) // parts) for i in range(parts)]


def _of(where: Where, start: int, stop: int) -> Where:
    return slice(where.start + start, where.start + stop) if isinstance(where, slice) else where[start:stop]


class Block(NamedTuple):
    """Some examples of leaf number ``leaf``, ``last`` where they are the last of it; or so many ``leaves`` from it on.

    Where a step sums by segments, they take the place of leaves here: their number is that of a segment.
    first : how many examples of what the fold goes through are before it
    """

    where: Where
    leaf: int
    last: bool
    leaves: int = 1
    first: int = 0


class Made(Sequence[Block]):
    """Blocks in their order, each made when it is asked for: a list of them would grow with m."""

    def made(self, index: int) -> Block:
        """Block ``index``, from 0."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> list[Block]: ...
    def __getitem__(self, index: int | slice) -> Block | list[Block]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self.made(range(len(self))[index])


class Some(Made):
    """Blocks ``first`` to ``last`` - 1 of others."""

    def __init__(self, blocks: Sequence[Block], first: int, last: int) -> None:
        self.blocks, self.first, self.last = blocks, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def made(self, index: int) -> Block:
        return self.blocks[self.first + index]


class OfLeaves(Made):
    """The blocks of all examples.

    edges : where the blocks of a full leaf begin and end, counted from its first example
    leaves : how many full leaves there are
    rest : the blocks of the examples after those
    """

    def __init__(self, edges: Sequence[int], leaves: int, rest: Sequence[Block]) -> None:
        self.edges, self.leaves, self.rest = edges, leaves, rest

    def __len__(self) -> int:
        return self.leaves * (len(self.edges) - 1) + len(self.rest)

    def made(self, index: int) -> Block:
        leaf, part = divmod(index, len(self.edges) - 1)
        if leaf >= self.leaves:
            return self.rest[index - len(self)]
        start, stop = (leaf * self.edges[-1] + edge for edge in self.edges[part : part + 2])
        return Block(slice(start, stop), leaf, part == len(self.edges) - 2, 1, start)


class Plan:
    """The blocks of a fold. On a device whose memory is short they get smaller, and ``note`` says where that shows.

    leaf : the examples of a leaf
    unit : the examples of what the tree adds: of a leaf, or of a segment where the step sums ``by_segments``
    whole : the examples of which these ``m`` are a share; all shares have one unit
    """

    def __init__(
        self, network: Network, like: Any, m: int, step: str, *, sparse: bool, precision: str, shared: bool,
        entries: int = 0, whole: int = 0,
    ) -> None:  # fmt: skip
        self.network, self.like, self.m, self.precision = network, like, m, precision
        self.entries, self.whole = entries, whole or m
        self.on_cpu = arrays.is_numpy(like)
        self.block = block_size(network, like, sparse, precision, step, entries)
        self.leaf = self.unit = tree.leaf_size(network.sizes[0])
        segment = 0 if self.on_cpu else steps.segment(step, network, self.whole)
        self.by_segments = segment > 0
        if segment:
            self.unit = min(self.leaf, segment)
        self.share = SHARE if self.on_cpu and shared else self.block
        if step == "native":
            each = multiply_adds(network)
            fourth = max(self.whole * each // 4, NATIVE_SMALL_SHARE)
            self.share = max(self.share, min(NATIVE_SHARE, fourth) // each)
        self.note = ""  # why bits may differ from those of another run of the same
        self._all: tuple[int, Sequence[Block]] = (0, [])

    def edges(self) -> tuple[list[int], list[int]]:
        """Where the blocks of all examples begin, and with which of them the leaves do; both with the end as well."""
        blocks = self.blocks()
        of_leaf = blocks.edges if isinstance(blocks, OfLeaves) else []
        full = range(blocks.leaves if isinstance(blocks, OfLeaves) else 0)
        rest = blocks.rest if isinstance(blocks, OfLeaves) else blocks
        starts = [leaf * self.leaf + start for leaf in full for start in of_leaf[:-1]]
        leaves = [leaf * (len(of_leaf) - 1) for leaf in full]
        for index, block in enumerate(rest, len(starts)):
            if not leaves or block.leaf == len(leaves):
                leaves.append(index)
            starts.append(block.where.start)
        return [*starts, self.m], [*leaves, len(starts)]

    def are_all(self, where: Where) -> bool:
        """Whether these are all examples, in their order."""
        return where is None or (isinstance(where, slice) and (where.start, where.stop) == (0, self.m))

    def blocks(self, where: Where = None) -> Sequence[Block]:
        """The blocks of the examples that ``where`` selects, in order; its leaves are counted within it."""
        if not self.are_all(where):
            return self._cut(where, 0, True)
        if self._all[0] != self.block:  # what a full batch needs again and again
            self._all = self.block, self._of_all()
        return self._all[1]

    def _of_all(self) -> Sequence[Block]:
        leaves = self.m // self.leaf
        if not self.on_cpu or leaves < 2:
            return self._cut(slice(0, self.m), 0, True)
        done = leaves * self.leaf
        edges = [0, *(part.stop for part in self._of_leaf(slice(0, self.leaf)))]
        return OfLeaves(edges, leaves, self._cut(slice(done, self.m), leaves, True, done))

    def _cut(self, where: Where, first: int, last: bool, before: int = 0) -> list[Block]:
        """Blocks of some examples, from the unit ``first`` on; ``last`` where they are the last of theirs.

        before : how many examples are before them
        """
        m = length(where)
        together = 1  # units of a block: a power of two, so that each block is a node of the tree, but the last one
        while self.by_segments and together * self.unit < m and self.block >= min(2 * together * self.unit, m):
            together *= 2
        found: list[Block] = []
        for start in range(0, m, together * self.unit):
            part = _of(where, start, min(start + together * self.unit, m))
            leaf, at = first + start // self.unit, before + start
            if together > 1:
                found.append(Block(part, leaf, True, -(-length(part) // self.unit), at))
                continue
            parts, ends = self._of_leaf(part), last or start + self.unit < m
            for each in parts:
                found.append(Block(each, leaf, ends and each is parts[-1], 1, at))
                at += length(each)
        return found

    def _of_leaf(self, where: Where) -> list[Where]:
        if not self.on_cpu:
            return cut(where, self.block, self.block, ALIGNED if self.block % ALIGNED == 0 else 1)
        if length(where) < self.leaf:
            return cut(where, self.block, self.share)
        parts = 1
        while self.leaf // parts > self.block:
            parts *= 2
        # To read an example takes the time of some multiplications, where there are few of them.
        work = self.leaf * (multiply_adds(self.network) + 4 * self.network.sizes[0])
        while self.share < self.block and parts < LEAF_BLOCKS and work // (2 * parts) >= WORTH_A_CALL:
            parts *= 2
        return evenly(where, parts)

    def halved(self, left: list[Block]) -> list[Block]:
        """What is left to do, in blocks of half the size."""
        self.halve(min(self.block, max(length(block.where) for block in left)))
        return [part for block in left for part in self._cut(block.where, block.leaf, block.last, block.first)]

    def halve(self, block: int) -> None:
        """Blocks of half of ``block``. It shows in the bits where a block is shorter than what the tree adds."""
        self.block = max(SHORTEST, block // 2 // ALIGNED * ALIGNED)
        if self.block >= self.unit:
            return
        usual = block_size(self.network, self.like, precision=self.precision, entries=self.entries)
        self.note = (
            f"the device's memory was short, so blocks have {self.block:,} examples instead of {usual:,}: bits may "
            f"differ from those of a run with more memory, for blocks of {min(usual, self.unit):,} or more"
        )

    def fit_into(self, budget: float) -> None:
        """Choose blocks that take no more than ``budget`` bytes."""

        def taken() -> int:
            block = min(self.block, self.m)
            return workspace(
                self.network, self.like, block, self.precision, self.m, entries=self.entries, whole=self.whole
            )

        while self.block > SHORTEST and taken() > budget:
            self.halve(self.block)
        if taken() > budget:
            place, m = places.place_of(self.like), min(self.block, self.m)
            free = place.memory()[0]
            raise DeviceError(
                f"the limit of memory leaves {budget:,.0f} bytes on {place.name} for the passes ({free:,.0f} are "
                f"free), and a block of {m} examples takes up to {taken():,}; raise device_memory, free memory there, "
                "or choose device='cpu'."
            )

    def worth(self, native: bool, least: int) -> int:
        """How many threads the work is worth on the CPU, at most, with so many multiply-adds for each."""
        each = multiply_adds(self.network)
        if not native and self.block * each < THREAD_WORK:
            return 1  # threads whose NumPy calls are that short wait for the interpreter: 3 times as long at 28-1
        most = self.m // THREAD_EXAMPLES if native else self.m
        return max(1, min(len(self.blocks()), self.m * each // least, most))
