"""The one monoid: the sums of two blocks add to the sum of both, before any division by m."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import fullbatch as fb
from fullbatch.machine import arrays
from reference import problem, relative

SIZES = [3, 4, 2]


def block_sum(network, params, X, Y, weight=None):
    return network.backward(params, network.forward(params, X), Y, weight)


def host_arrays(total):
    return [array for layer in total.gradients for array in layer]


@given(cuts=st.lists(st.integers(1, 19), max_size=4), seed=st.integers(0, 99), weighted=st.booleans())
def test_blocks_add_to_the_whole_however_it_is_cut(cuts, seed, weighted):
    params, X, Y = problem(SIZES, 20, "softmax", seed=seed)
    weight = np.random.default_rng(seed).random(20) if weighted else None
    network = fb.Network(SIZES, output="softmax")
    whole = block_sum(network, params, X, Y, weight)
    edges = [0, *sorted(set(cuts)), 20]
    total = None
    for i, j in pairwise(edges):
        part = block_sum(network, params, X[:, i:j], Y[:, i:j], None if weight is None else weight[i:j])
        total = part if total is None else total + part
    assert relative(host_arrays(total), host_arrays(whole)) < 1e-13
    assert abs(total.loss - whole.loss) < 1e-12 * abs(whole.loss)
    assert abs(total.weight - whole.weight) < 1e-12


def test_addition_is_elementwise_and_leaves_its_terms_alone(xp):
    params, X, Y = problem(SIZES, 6, "softmax")
    network = fb.Network(SIZES, output="softmax")
    one = block_sum(network, xp.params(params), xp.array(X), xp.array(Y))
    before = [xp.host(a).copy() for a in host_arrays(one)]
    two = one + one
    assert isinstance(two, fb.GradientSum)
    assert two.weight == 12.0
    assert float(two.loss) == 2 * float(one.loss)
    assert all(xp.has(array) for array in host_arrays(two))
    assert all(np.array_equal(xp.host(b), 2 * a) for a, b in zip(before, host_arrays(two), strict=True))
    assert all(np.array_equal(xp.host(a), b) for a, b in zip(host_arrays(one), before, strict=True))


def test_the_loss_is_summed_in_the_widest_float_of_the_device(xp):
    params, X, Y = problem(SIZES, 6, "softmax")
    network = fb.Network(SIZES, output="softmax")
    total = block_sum(network, xp.params(params, "float32"), xp.array(X, "float32"), xp.array(Y, "float32"))
    assert xp.has(total.loss, xp.dtype)
    assert all(xp.has(array, "float32") for array in host_arrays(total))


def test_astype_widens_loss_and_gradients(xp64):
    params, X, Y = problem(SIZES, 6, "softmax")
    network = fb.Network(SIZES, output="softmax")
    ours = xp64.array(X, "float32")
    total = block_sum(network, xp64.params(params, "float32"), ours, xp64.array(Y, "float32"))
    wide = total.astype(arrays.widest_float(ours), arrays.namespace(ours))
    assert all(xp64.has(array, "float64") for array in [wide.loss, *host_arrays(wide)])
    assert relative([xp64.host(a) for a in host_arrays(wide)], [xp64.host(a) for a in host_arrays(total)]) == 0.0
