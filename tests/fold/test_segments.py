"""The order of the sums on a GPU: the same bits for any grid, any blocks, any parts, wherever X comes from.

The kernels run on the CPU (cuda_on_cpu.py), and NumPy's products stand in for cuBLAS's: their bits depend on their
shapes as well.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
import pytest

import cuda_on_cpu
import fake_cupy
import fullbatch as fb
from cuda_on_cpu import FakeCuPy
from fullbatch import steps
from fullbatch.core.parameters import flatten
from fullbatch.fold import blocks, tree
from fullbatch.fold.blocks import Plan
from fullbatch.fold.fold import Fold
from fullbatch.fold.tree import Node, in_leaves, powers
from fullbatch.machine import places
from fullbatch.sources import Dense, Examples, Uploaded, length
from fullbatch.steps.cuda import fused, onepass, twopass
from fullbatch.steps.cuda.segments import HEAD, Rows, Segments, of_features, weights_of
from reference import problem

on_cpu = pytest.mark.skipif(cuda_on_cpu.COMPILER is None, reason="no g++ to compile the kernels for the CPU")


def recursive(rows):
    """The definition: [0, K) is cut at the largest power of two below K."""
    if len(rows) == 1:
        return rows[0]
    power = 1
    while 2 * power < len(rows):
        power *= 2
    return recursive(rows[:power]) + recursive(rows[power:])


# --- The kernel that adds the rows ----------------------------------------------------------------------------------


@on_cpu
@pytest.mark.parametrize("count", [*range(1, 36), 63, 64, 65, 127, 128, 129, 255, 257, 300, 511, 600])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_rows_are_added_by_the_fold_s_tree(count, dtype):
    """From one warp a thread block to all 32."""
    rng = np.random.default_rng(count)
    gradient = (rng.standard_normal((count, 37)) * 10.0 ** rng.integers(-6, 6, (count, 1))).astype(dtype)
    head = rng.standard_normal((count, HEAD))
    rows = np.concatenate([head, gradient.astype("float64")], axis=1)
    for found, wanted in ((Rows(gradient, head), rows), (Rows(None, head), head)):
        nodes = Segments(FakeCuPy(), np.dtype(dtype), (36, 1), 37)._added(found)
        sizes = powers(count)
        assert len(nodes) == len(sizes)
        for node, (start, stop) in zip(nodes, pairwise(accumulate(sizes, initial=0)), strict=True):
            assert np.array_equal(node, recursive(wanted[start:stop]))
        assert np.array_equal(tree.added(nodes), recursive(wanted))


@pytest.mark.parametrize("count", range(1, 70))
@pytest.mark.parametrize("segments", [1, 2, 4, 8, 16])
def test_nodes_of_segments_are_those_of_leaves(count, segments):
    """In blocks of any power of two segments; the last leaf may have fewer of them than the others."""
    values = np.random.default_rng(count).standard_normal(count)
    leaves = [recursive(values[i : i + segments]) for i in range(0, count, segments)]
    wanted = tree.Tree()
    for i, value in enumerate(leaves):
        wanted.add(Node(i, 1, value))
    for block in (1, 2, 4, 32):
        made = tree.Tree()
        for begin in range(0, count, block):
            sizes = powers(min(block, count - begin))
            firsts = accumulate(sizes, initial=begin)
            made.add(*(Node(f, n, recursive(values[f : f + n])) for f, n in zip(firsts, sizes, strict=False)))
        assert in_leaves(made.nodes, segments) == wanted.nodes
        assert made.total() == wanted.total() == recursive(values)


def test_several_nodes_are_added_or_none():
    class Bad:
        def __add__(self, other):
            raise MemoryError

        __radd__ = __add__

    counter = tree.Tree()
    counter.add(Node(0, 2, 1.0), Node(2, 1, 2.0))
    before = counter.nodes
    with pytest.raises(MemoryError):
        counter.add(Node(3, 1, Bad()))
    with pytest.raises(MemoryError):
        counter.add(Node(3, 1, 1.0), Node(4, 1, 2.0), Node(5, 1, Bad()))
    assert counter.nodes == before


def test_the_weights_of_nodes_without_weights():
    assert weights_of(1300, None, 256) == [1024.0, 276.0]
    assert weights_of(1024, None, 256) == [1024.0]
    assert weights_of(1792, None, 256) == [1024.0, 512.0, 256.0]
    assert weights_of(1793, None, 256) == [1793.0]
    assert weights_of(1300, np.ones(1300), 256) == [None, None]


# --- Segments and blocks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes", [[28, 1], [28, 64, 64, 1], [784, 128, 1], [4096, 4096, 1], [100_000, 1000, 1], [1, 1]]
)
def test_a_segment_is_a_power_of_two_in_a_leaf_and_long_beside_the_parameters(sizes):
    network = fb.Network(sizes)
    parameters = sum(n * (k + 1) for k, n in pairwise(sizes))
    size, leaf = steps.FusedStep.segment(network), tree.leaf_size(sizes[0])
    assert size & (size - 1) == 0
    assert leaf % size == 0
    assert size == leaf or size * steps.FusedStep.numbers(network) >= fused.NUMBERS_A_ROW * parameters
    assert tree.leaf_size(onepass.MOST_INPUTS["float32"]) % steps.OnePassStep.segment(network) == 0
    assert of_features(10**9, 2**20) == tree.LEAST_EXAMPLES


@pytest.mark.parametrize(
    ("step", "sizes", "least"),
    [
        # m, and the share of the time in which a slot of the card has an example, at least
        ("onepass", [28, 64, 1], {10**4: 0.12, 10**5: 0.60, 10**6: 0.75, 2 * 10**6: 0.85, 11_010_048: 0.90}),
        ("onepass", [28, 300, 1], {10**5: 0.70, 10**6: 0.80}),
        ("twopass", [784, 128, 1], {10**4: 0.60, 10**5: 0.93, 10**6: 0.95}),
        ("fused", [28, 1], {10**5: 0.55, 10**6: 0.85}),
        ("coded", [496, 64, 1], {10**5: 0.35, 10**6: 0.80}),
    ],
)
def test_few_examples_are_cut_short_enough_to_fill_the_card(step, sizes, least):
    """By the rounds that thread blocks take and by what each segment costs beside its examples."""
    kind, network = steps.STEPS[step], fb.Network(sizes)
    longest, rounds = kind.segment(network), kind.rounds(network)
    assert kind.segment(network, 10**9) == longest
    for m, wanted in least.items():
        found = kind.segment(network, m)
        assert found & (found - 1) == 0
        assert rounds.least <= found <= longest
        assert rounds.busy(m, found) >= max(wanted, rounds.busy(m, longest))
    shares = [rounds.busy(m, kind.segment(network, m)) for m in (10**3, *least)]
    assert shares == sorted(shares)


@pytest.fixture
def small(monkeypatch):
    """Leaves of 256 examples, of four segments each."""
    monkeypatch.setattr(tree, "MOST_EXAMPLES", 256)
    monkeypatch.setattr(blocks, "SHORTEST", 64)
    monkeypatch.setattr(onepass, "SEGMENT", 64)
    monkeypatch.setattr(onepass, "LEAST", 64)
    monkeypatch.setattr(fused, "LEAST", 64)
    monkeypatch.setattr(fused, "NUMBERS_A_ROW", 1)
    monkeypatch.setattr(twopass, "LEAST", 64)
    monkeypatch.setattr(twopass, "NUMBERS_A_ROW", 0)
    return fake_cupy.install(monkeypatch)


def shapes(plan):
    return [(block.where.start, length(block.where), block.leaf, block.last, block.leaves) for block in plan.blocks()]


@fake_cupy.pretended
def test_the_blocks_on_a_device(small, monkeypatch):
    network, like = fb.Network([5, 7, 1]), small.empty((5, 0), "float32")

    def plan(m, block):
        monkeypatch.setattr(blocks, "block_size", lambda *_, **__: block)
        return Plan(network, like, m, steps.choose(network, like), sparse=False, precision="float32", shared=True)

    assert shapes(plan(1250, 2000)) == [(0, 1250, 0, True, 20)]
    assert shapes(plan(1250, 700)) == [(0, 512, 0, True, 8), (512, 512, 8, True, 8), (1024, 226, 16, True, 4)]
    halved = plan(1250, 700)
    left = halved.halved(halved.blocks()[1:])
    assert [(block.where.start, block.leaf, block.leaves) for block in left] == [
        (512, 8, 4),
        (768, 12, 4),
        (1024, 16, 4),
    ]
    assert halved.note == ""
    short = plan(150, 64)
    assert shapes(short) == [(0, 64, 0, True, 1), (64, 64, 1, True, 1), (128, 22, 2, True, 1)]
    monkeypatch.setattr(onepass, "SEGMENT", 256)
    monkeypatch.setattr(onepass, "LEAST", 256)
    inside = plan(400, 256)
    left = inside.halved(inside.blocks())
    assert [(block.where.start, block.leaf, block.last) for block in left] == [
        (0, 0, False), (128, 0, True), (256, 1, False), (384, 1, True),
    ]  # fmt: skip
    assert "for blocks of 256 or more" in inside.note


# --- The bits -------------------------------------------------------------------------------------------------------

SHAPES = {
    "onepass": ([5, 40, 1], "tanh"),
    "twopass": ([4, 64, 3], "gelu"),
    "fused with a tail": ([5, 7, 6, 1], "tanh"),
    "fused without": ([5, 33, 7, 3], "gelu"),
    "fused without a hidden layer": ([5, 1], "tanh"),
}


def bits(total):
    gradient = [np.asarray(a.host).tobytes() for layer in total.gradients for a in layer]
    return [*gradient, float(total.loss), float(total.weight)]


class Case:
    def __init__(self, shape, m, dtype="float32", weighted=True):
        sizes, hidden = SHAPES[shape]
        output = "softmax" if sizes[-1] > 1 else "sigmoid"
        params, self.X, self.Y = problem(sizes, m, output, seed=m, dtype=dtype)
        self.theta = np.concatenate([np.ravel(a) for layer in params for a in layer])
        self.weight = (np.random.default_rng(m).random(m) + 0.1).astype(dtype) if weighted else None
        self.network = fb.Network(sizes, hidden=hidden, output=output)

    def examples(self, cupy, part=slice(None), order="F", streamed=False):
        there = None if self.weight is None else cupy.asarray(self.weight[part])
        tables = [np.array(table[:, part], order=order) for table in (self.X, self.Y)]
        if streamed:
            place = places.place("cuda")
            return Examples(*(Uploaded(Dense(table), place) for table in tables), there)
        return Examples(*(Dense(cupy.asarray(table)) for table in tables), there)

    def sums(self, cupy, where=None, **options):
        """Gradient and cost, as bits."""
        theta = cupy.asarray(self.theta)
        with Fold(self.network, self.examples(cupy, **options)) as fold:
            total = fold.gradient(theta, where)
            cost = [float(a) for a in fold.cost(theta, where)]
            assert fold.note == ""
            return [*bits(total), *cost]

    def nodes(self, cupy, start, stop):
        part = slice(start * 256, min(stop * 256, self.X.shape[1]))
        with Fold(self.network, self.examples(cupy, part)) as fold:
            return fold.nodes("gradient", cupy.asarray(self.theta), None, first=start)


@fake_cupy.pretended
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_block_or_grid_or_source_changes_a_bit(small, shape, dtype, monkeypatch):
    m = 3 * 256 + 175
    case = Case(shape, m, dtype)
    attributes = dict(fake_cupy.Device.attributes)
    monkeypatch.setattr(fake_cupy.Device, "attributes", attributes)
    wanted = case.sums(small)
    for processors in (1, 3, 108):
        attributes["MultiProcessorCount"] = processors
        assert case.sums(small) == wanted
    for block in (256, 512, 128, 64):  # of one leaf, of several, and halved to below one
        monkeypatch.setattr(blocks, "block_size", lambda *_, block=block, **__: block)
        assert case.sums(small) == wanted
        assert case.sums(small, streamed=True) == wanted
    assert case.sums(small, order="C") == wanted, "X's memory layout"
    assert case.sums(small, where=slice(0, m)) == wanted


@fake_cupy.pretended
@pytest.mark.parametrize("shape", SHAPES)
def test_parts_cut_at_leaves_give_the_bits_of_the_whole(small, shape, monkeypatch):
    m = 5 * 256 + 175
    case = Case(shape, m, weighted=False)
    whole = case.nodes(small, 0, 6)
    assert [(node.first, node.leaves) for node in whole] == [(0, 4), (4, 2)]
    wanted = bits(tree.total(whole))
    # Each cut and each block; that blocks change no bit of a part is the test above.
    for cuts, block in (([3], 10**6), ([1, 2], 64), ([5], 256), ([3], 64)):
        monkeypatch.setattr(blocks, "block_size", lambda *_, block=block, **__: block)
        nodes = [node for part in pairwise([0, *cuts, 6]) for node in case.nodes(small, *part)]
        assert bits(tree.total(nodes)) == wanted


@fake_cupy.pretended
@pytest.mark.parametrize("shape", ["onepass", "fused without a hidden layer"])
def test_a_short_table_has_short_segments_and_its_shares_have_them_too(small, shape, monkeypatch):
    for where, name in ((onepass, "LEAST"), (fused, "FEWEST")):
        monkeypatch.setattr(where, name, 16)
        monkeypatch.setattr(where, "PROCESSORS", 32)
    m = 256 + 175
    case = Case(shape, m)
    with Fold(case.network, case.examples(small)) as fold:
        assert fold.plan.unit < 64
        wanted = bits(fold.gradient(small.asarray(case.theta)))
        theta, unit = small.asarray(case.theta), fold.plan.unit
    assert case.sums(small, streamed=True)[: len(wanted)] == wanted
    nodes = []
    for start, stop in ((0, 1), (1, 2)):
        part = slice(start * 256, min(stop * 256, m))
        with Fold(case.network, case.examples(small, part), whole=m) as fold:
            assert fold.plan.unit == unit
            nodes += fold.nodes("gradient", theta, None, first=start)
    assert bits(tree.total(nodes)) == wanted


@fake_cupy.pretended
@pytest.mark.parametrize("shape", SHAPES)
def test_memory_that_runs_out_changes_no_bit(small, shape, monkeypatch):
    """In the middle of a fold, and twice: what is left is done in halves, and then in quarters."""
    m = 5 * 256 + 175
    case = Case(shape, m)
    wanted = case.sums(small)
    monkeypatch.setattr(blocks, "block_size", lambda *_, **__: 256)
    seen = []
    for name in ("gradients", "costs"):
        for step in (steps.OnePassStep, steps.TwoPassStep, steps.FusedStep):
            real = getattr(step, name)

            def work(self, X, Y, weight, segment, real=real):
                seen.append(X.shape[1])
                if X.shape[1] > (256 if len(seen) < 3 else 128 if len(seen) < 5 else 64):
                    raise fake_cupy.OutOfMemoryError("Out of memory allocating 1 byte (allocated so far: 0 bytes).")
                return real(self, X, Y, weight, segment)

            monkeypatch.setattr(step, name, work)
    assert case.sums(small) == wanted
    assert seen[:7] == [256, 256, 256, 128, 128, 64, 64]


@fake_cupy.pretended
@pytest.mark.parametrize("shape", SHAPES)
def test_a_mini_batch_of_any_rows_counts_its_own_leaves(small, shape):
    m = 750
    case = Case(shape, m)
    where = np.random.default_rng(0).permutation(m)[:375]
    chosen = Case(shape, m)
    chosen.X, chosen.Y, chosen.weight = case.X[:, where], case.Y[:, where], case.weight[where]
    assert case.sums(small, where=where) == chosen.sums(small)
    assert case.sums(small, where=slice(70, 690)) != case.sums(small, where=slice(71, 691))


@fake_cupy.pretended
@pytest.mark.parametrize("hidden", ["array", "inplace"])
def test_a_step_without_kernels_of_ours_adds_leaf_by_leaf(small, hidden, monkeypatch):
    """Only a block that is shorter than a leaf changes bits, and says so."""
    m = 3 * 256 + 175
    case = Case("fused without", m)
    monkeypatch.setattr(steps, "STEPS", {hidden: steps.STEPS[hidden]})
    wanted = case.sums(small)
    for block in (256, 512):
        monkeypatch.setattr(blocks, "block_size", lambda *_, block=block, **__: block)
        assert case.sums(small) == case.sums(small, streamed=True) == wanted
    nodes = [node for part in ((0, 1), (1, 4)) for node in case.nodes(small, *part)]
    assert bits(tree.total(nodes)) == wanted[: len(bits(tree.total(nodes)))]
    with Fold(case.network, case.examples(small)) as fold:
        fold.plan.halve(512)
        assert fold.note == ""
        fold.plan.halve(256)
        assert "blocks have 128 examples instead of 512" in fold.note


# --- What it costs --------------------------------------------------------------------------------------------------


@fake_cupy.pretended
@pytest.mark.parametrize(
    ("shape", "kernels", "products"),
    [
        ("onepass", ["onepass", "tree"], 0),
        ("twopass", ["outward", "head", "inward", "tree"], 0),
        ("fused without a hidden layer", ["tail", "tree"], 0),
        ("fused with a tail", ["activate", "tail", "descend", "tree"], 5),
        ("fused without", ["activate", "activate", "output", "descend", "descend", "tree"], 9),
    ],
)
@pytest.mark.parametrize("leaves", [1, 8])
def test_a_block_of_eight_leaves_takes_as_many_launches_as_one_of_one(small, shape, kernels, products, leaves):
    case = Case(shape, leaves * 256)
    theta = small.asarray(case.theta)
    with Fold(case.network, case.examples(small)) as fold:
        fold.gradient(theta)
        for made in (cuda_on_cpu.launched, cuda_on_cpu.multiplied):
            made.clear()
        small.ndarray.reads = 0
        fold.gradient(theta)
        assert [name for name, _ in cuda_on_cpu.launched] == kernels
        assert len(cuda_on_cpu.multiplied) == products
        assert small.ndarray.reads == 0


@fake_cupy.pretended
def test_products_are_in_tf32_where_it_is_asked_for(small):
    case = Case("fused without", 700)
    there = [small.asarray(a) for a in (case.X, case.Y)]
    params = tuple(fb.Layer(W, b) for W, b in fb.Network([5, 33, 7, 3]).init(seed=0, dtype="float32", xp=small))
    for precision, kind in ((None, 0), ("tf32", 77)):
        cuda_on_cpu.multiplied.clear()
        fb.gradient_descent(case.network, params, *there, learning_rate=0.1, iterations=1, precision=precision)
        assert {made[-1] for made in cuda_on_cpu.multiplied} == {kind}


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", [[28, 64, 1], [28, 64, 64, 1], [100, 300, 5], [784, 128, 1], [28, 1]])
@pytest.mark.parametrize("precision", [None, "tf32"])
def test_on_a_card_no_block_changes_a_bit(sizes, precision, monkeypatch):
    """The number of segments in a batched product among them, which cuBLAS takes no note of as far as this has seen."""
    import cupy

    m, output = 300_000, "softmax" if sizes[-1] > 1 else "sigmoid"
    params, X, Y = problem(sizes, 1000, output, dtype="float32")
    X, Y = (cupy.asarray(np.tile(a, m // 1000)) for a in (X, Y))
    network = fb.Network(sizes, output=output)
    theta = cupy.asarray(flatten(tuple(fb.Layer(W, b) for W, b in params)))
    found = set()
    for block in (10**6, 2**17, 2**16, 2**15, 2**14, 2**13):
        monkeypatch.setattr(blocks, "block_size", lambda *_, block=block, **__: block)
        with Fold(network, Examples(Dense(X), Dense(Y)), precision=precision) as fold:
            total = fold.gradient(theta)
            found.add(total.vector.get().tobytes() + total.loss.get().tobytes())
    assert len(found) == 1
