"""The order of the sums: a fixed tree over leaves, the same bits however the examples come."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import fullbatch as fb
from fullbatch import steps
from fullbatch.core.parameters import flatten
from fullbatch.fold import tree
from fullbatch.fold.blocks import Block, OfLeaves, Plan
from fullbatch.fold.fold import Fold
from fullbatch.fold.tree import Node, Tree, leaf_size
from fullbatch.fold.worker import Leaves
from fullbatch.sources import Dense, Examples, length
from reference import problem


def recursive(values):
    """The definition: [0, K) is cut at the largest power of two below K."""
    if len(values) == 1:
        return values[0]
    power = 1
    while 2 * power < len(values):
        power *= 2
    return recursive(values[:power]) + recursive(values[power:])


@pytest.mark.parametrize("count", [*range(1, 66), 100, 127, 128, 129, 255, 256, 257, 300])
def test_the_tree_is_the_recursive_definition(count):
    values = np.random.default_rng(count).standard_normal(count) * 10.0 ** np.arange(count)[::-1].clip(0, 12)
    counter = Tree()
    most = 0
    for i, value in enumerate(values):
        counter.add(Node(i, 1, value))
        most = max(most, len(counter.nodes))
    assert counter.total() == recursive(values)
    assert most <= np.log2(count) + 1


def test_it_is_no_other_order():
    """So that the test above can fail: one after another gives other bits."""
    values = 1.0 / np.arange(1, 301)
    counter = Tree()
    for i, value in enumerate(values):
        counter.add(Node(i, 1, value))
    assert counter.total() != sum(values.tolist())


class Fragile:
    """A number whose addition fails once, as where a device has no memory left."""

    left = 0  # additions until the next one fails

    def __init__(self, value):
        self.value = value

    def __add__(self, other):
        Fragile.left -= 1
        if Fragile.left == 0:
            raise MemoryError
        return Fragile(self.value + other.value)


@pytest.mark.parametrize("fails", range(1, 20))
def test_an_addition_that_fails_loses_nothing_and_can_be_done_again(fails):
    """Two blocks in each of eight leaves; the engine of a device does the block again whose merge failed."""
    counter, blocks = Tree(), [(leaf, part) for leaf in range(8) for part in range(2)]
    leaves = Leaves(counter.add)
    Fragile.left = fails
    failures = 0
    for leaf, part in blocks:
        for _ in range(2):
            try:
                leaves(Block(slice(0, 1), leaf, part == 1), Fragile(10**leaf * (part + 1)))
                break
            except MemoryError:
                failures += 1
    assert failures == (fails <= 15), "eight additions in the leaves and seven in the tree"
    assert counter.total().value == 3 * 11_111_111
    assert [node.leaves for node in counter.nodes] == [8]


@pytest.mark.parametrize("count", [1, 5, 8, 11, 37])
def test_parts_of_any_lengths_give_the_nodes_of_the_whole(count):
    values = np.random.default_rng(count).standard_normal(count)
    expected = recursive(values)
    for first in range(count + 1):
        for second in range(first, count + 1):
            nodes = []
            for start, stop in ((0, first), (first, second), (second, count)):
                part = Tree()
                for i in range(start, stop):
                    part.add(Node(i, 1, values[i]))
                nodes += part.nodes
            assert tree.total(nodes) == expected


def test_a_leaf_follows_from_the_features_alone():
    assert [leaf_size(n) for n in (1, 28, 256, 257, 784, 100_000, 10**9)] == [2**16] * 3 + [2**15, 2**14, 256, 256]


@pytest.fixture
def small_leaves(monkeypatch):
    """Leaves of 256 examples, so that a small m has many of them."""
    monkeypatch.setattr(tree, "MOST_EXAMPLES", 256)


def whole(m, hidden, dtype="float32", rows=False):
    sizes = [5, *hidden, 2]
    params, X, Y = problem(sizes, m, "softmax", seed=m, dtype=dtype)
    params = tuple(fb.Layer(W, b) for W, b in params)
    weight = np.random.default_rng(m).random(m).astype(dtype) + np.dtype(dtype).type(0.1)
    X = np.asfortranarray(X) if rows else X
    return fb.Network(sizes, output="softmax"), params, Examples(Dense(X), Dense(Y), weight)


def bits(total):
    return [np.asarray(a).tobytes() for g in total.gradients for a in g] + [np.float64(total.loss).tobytes()]


@pytest.mark.parametrize("hidden", [(), (7,), (6, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_for_any_threads_and_for_parts_of_the_examples(small_leaves, twin, hidden, dtype):
    m = 11 * 256 + 77
    network, params, examples = whole(m, hidden, dtype)
    results = []
    for threads in (1, 2, 3, 7):
        with Fold(network, examples, threads=threads) as fold:
            results.append(bits(fold.gradient(flatten(params))))
            assert len(fold.plan.blocks()) > 11
    assert all(result == results[0] for result in results[1:])
    for cuts in ([3], [1, 2, 8], [4, 11]):
        nodes = []
        edges = [0, *cuts, -(-m // 256)]
        for start, stop in pairwise(edges):
            with Fold(network, examples, threads=2) as fold:
                nodes += fold.nodes("gradient", flatten(params), slice(start * 256, min(stop * 256, m)), first=start)
        assert bits(tree.total(nodes)) == results[0]


def test_an_array_cut_at_a_leaf_has_the_bits_of_the_whole(small_leaves, twin):
    """Each part is an array of its own, as a file or another process would have it."""
    m = 5 * 256 + 31
    network, params, examples = whole(m, (7,))
    with Fold(network, examples) as fold:
        expected = bits(fold.gradient(flatten(params)))
    nodes = []
    for first, stop in ((0, 2 * 256), (2 * 256, m)):
        part = slice(first, stop)
        own = Examples(
            Dense(examples.X.array[:, part].copy()),
            Dense(examples.Y.array[:, part].copy()),
            examples.weight[part].copy(),
        )
        with Fold(network, own) as fold:
            nodes += fold.nodes("gradient", flatten(params), None, first // 256)
    assert bits(tree.total(nodes)) == expected


@pytest.mark.parametrize("sizes", [[28, 64, 1], [28, 1], [784, 128, 1], [3, 2000, 1]])
def test_the_blocks_of_a_full_leaf_are_a_power_of_two_and_do_not_depend_on_m(twin, sizes):
    network, like = fb.Network(sizes), np.empty((0, 0), "float32")
    leaf = leaf_size(sizes[0])

    def lengths(m):
        plan = Plan(network, like, m, steps.choose(network, like), sparse=False, precision="float32", shared=True)
        return [(length(block.where), block.leaf, block.last) for block in plan.blocks()]

    one = lengths(leaf)
    assert len(one) & (len(one) - 1) == 0
    assert {size for size, _, _ in one} == {leaf // len(one)}
    three = lengths(3 * leaf)
    assert three == [(size, leaf, last) for leaf in range(3) for size, _, last in one]
    assert lengths(3 * leaf + 1000)[: len(three)] == three


@pytest.mark.parametrize("over", [0, 1, 255])
def test_the_blocks_of_many_leaves_are_those_of_a_list_but_take_no_room(small_leaves, over):
    network, like = fb.Network([5, 3, 1]), np.empty((0, 0), "float32")
    m = 9 * 256 + over
    plan = Plan(network, like, m, "inplace", sparse=False, precision="float32", shared=True)
    made, listed = plan.blocks(), plan._cut(slice(0, m), 0, True)
    assert isinstance(made, OfLeaves)
    assert list(made) == listed
    assert made[-2:] == listed[-2:]
    assert len(plan.blocks().rest) == len(listed) - 9 * (len(made.edges) - 1)
    with pytest.raises(IndexError):
        made[len(listed)]
    many = Plan(network, like, 10**12 + over, "inplace", sparse=False, precision="float32", shared=True)
    assert many.blocks()[-1].where.stop == 10**12 + over  # made in an instant, so not one by one


def test_the_sum_is_not_worse_than_blocks_in_order():
    """Of 4,000 float64 numbers of one sign, against their sum in a wider type."""
    values = np.random.default_rng(0).integers(1, 2**20, 4000) / 2**20 * 3.3
    exact = float(np.sum(values.astype(np.longdouble)))
    counter = Tree()
    for i, value in enumerate(values):
        counter.add(Node(i, 1, value))
    in_order = 0.0
    for value in values:
        in_order += value
    assert abs(counter.total() - exact) <= abs(in_order - exact)
