"""The order in which leaves are added: a fixed binary tree, so that the same rows give the same bits however they come.

A leaf is a run of consecutive examples. [0, K) leaves are cut at the largest power of two below K, each half again,
and so on: what lies left of a cut is a full tree of 2^k leaves, and where it lies depends on its number alone. To add
leaves as they come is to count in binary: two sums of the same size become one of twice the size. What is left over
at the end is added from the smallest up. At most log2(K) + 1 sums are in memory.

On a GPU a leaf is a tree itself, of 2^j segments. The tree over all segments is then the one over the leaves, whose own
trees stand where they stood, also for a last leaf that has fewer: so the segments are counted as leaves are, and
``in_leaves`` counts again what they became.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

MOST_EXAMPLES, LEAST_EXAMPLES = 2**16, 2**8  # of a leaf
MOST_NUMBERS = 2**24  # of a leaf's X


def leaf_size(features: int) -> int:
    """The examples of a leaf, a power of two: a function of the number of features that the network sees, alone."""
    size = MOST_EXAMPLES
    while size > LEAST_EXAMPLES and size * features > MOST_NUMBERS:
        size //= 2
    return size


class Node(NamedTuple):
    """The sum of so many ``leaves`` from number ``first`` on; a power of two, of which ``first`` is a multiple.

    The last one of all may have fewer examples than a leaf.
    """

    first: int
    leaves: int
    sum: Any


class Tree:
    """Adds nodes that come in the order of their leaves. Sums need no more than ``+``, and may change the left one."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, *nodes: Node) -> None:
        """The next nodes, which begin where the last one ended; the two halves of a larger node become that node.

        Where an addition raises, all is as it was before the call: a device without memory for it is asked again.
        """
        found = self.nodes[:]
        for node in nodes:
            whole = node
            while found and found[-1].leaves == whole.leaves and whole.first % (2 * whole.leaves) == whole.leaves:
                left = found.pop()
                total = left.sum
                total += whole.sum
                whole = Node(left.first, 2 * whole.leaves, total)
            found.append(whole)
        self.nodes = found

    def total(self) -> Any:
        """The sum of all that was added."""
        return added(node.sum for node in self.nodes)


def added(sums: Iterable[Any]) -> Any:
    """The sum of what is left over at the end, from the smallest up."""
    *rest, total = sums
    for each in reversed(rest):
        total = each + total
    return total


def total(nodes: Iterable[Node]) -> Any:
    """The sum of all leaves, of nodes that several calls made, each of its own run of leaves, in order."""
    tree = Tree()
    tree.add(*nodes)
    return tree.total()


def powers(count: int) -> list[int]:
    """How many leaves the nodes have that ``count`` leaves become, from a multiple of the largest of them on."""
    return [1 << bit for bit in reversed(range(count.bit_length())) if count >> bit & 1]


def in_leaves(nodes: list[Node], segments: int) -> list[Node]:
    """Nodes of segments as nodes of leaves, of which each but the last has so many; smaller nodes are of that one."""
    tree = Tree()
    whole = [Node(first // segments, n // segments, part) for first, n, part in nodes if n >= segments]
    tree.add(*whole)
    of_last = nodes[len(whole) :]
    if of_last:
        tree.add(Node(of_last[0].first // segments, 1, added(node.sum for node in of_last)))
    return tree.nodes
