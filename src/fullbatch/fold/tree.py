"""The order in which leaves are added: a fixed binary tree, so that the same rows give the same bits however they come.

A leaf is a run of consecutive examples. [0, K) leaves are cut at the largest power of two below K, each half again,
and so on: what lies left of a cut is a full tree of 2^k leaves, and where it lies depends on its number alone. To add
leaves as they come is to count in binary: two sums of the same size become one of twice the size. What is left over
at the end is added from the smallest up. At most log2(K) + 1 sums are in memory.
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
    """The sum of so many ``leaves`` from number ``first`` on; a power of two, of which ``first`` is a multiple."""

    first: int
    leaves: int
    sum: Any


class Tree:
    """Adds nodes that come in the order of their leaves. Sums need no more than ``+``."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, node: Node) -> None:
        """The next node, which begins where the last one ended; the two halves of a larger node become that node.

        Where an addition raises, all is as it was before the call: a device without memory for it is asked again.
        """
        nodes, keep = self.nodes, len(self.nodes)
        while keep and nodes[keep - 1].leaves == node.leaves and node.first % (2 * node.leaves) == node.leaves:
            keep -= 1
            node = Node(nodes[keep].first, 2 * node.leaves, nodes[keep].sum + node.sum)
        nodes[keep:] = [node]

    def total(self) -> Any:
        """The sum of all that was added."""
        *rest, last = self.nodes
        total = last.sum
        for node in reversed(rest):
            total = node.sum + total
        return total


def total(nodes: Iterable[Node]) -> Any:
    """The sum of all leaves, of nodes that several calls made, each of its own run of leaves, in order."""
    tree = Tree()
    for node in nodes:
        tree.add(node)
    return tree.total()
