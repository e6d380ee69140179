"""Dropout's bits against the published vectors, NumPy's generator and a scalar loop; its gradient by differences."""

from __future__ import annotations

import numpy as np
import pytest

import fullbatch as fb
from fullbatch.core.dropout import Dropout, philox, rates_of
from fullbatch.core.parameters import flatten, unflatten
from fullbatch.errors import InputError
from fullbatch.steps.array import ArrayStep
from reference import PAIRS, left_out, problem
from reference import philox as by_hand

# Of Random123, the authors' own code: counter, key and words of philox 4x32 10 in its kat_vectors.
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_the_published_vectors(counter, key, expected):
    assert philox(words(counter), words(key)) == words(expected)
    assert by_hand(words(counter), words(key), 32) == words(expected)
    found = philox(tuple(np.array([[word]]) for word in words(counter)), words(key))
    assert tuple(int(word[0, 0]) for word in found) == words(expected)


def test_the_loop_by_hand_is_numpys_at_64_bits():
    """So that what the scalar loop says of the structure has another witness; NumPy counts up before it draws."""
    drawn = np.random.Philox(
        counter=np.array([5, 2**63, 7, 11], np.uint64), key=np.array([2**64 - 1, 3], np.uint64)
    ).random_raw(4)
    assert by_hand((6, 2**63, 7, 11), (2**64 - 1, 3), 64) == tuple(map(int, drawn))


def test_factors_are_those_of_a_scalar_loop_in_every_library(xp64):
    dropout, first, k = Dropout((0.3, 0.0), 2**63 + 2**31 + 5, update=2**32 + 9), 6, 7
    like = xp64.array(np.zeros((2, k)))
    found = dropout.factors((2, 5, 3, 1), first, k, like)
    assert [xp64.has(one, "float64") for one in found] == [True, True]
    by_loop = [
        [0.0 if left_out(0.3, dropout.seed, 9, 1, unit, first + e) else 1 / (1 - 0.3) for e in range(k)]
        for unit in range(5)
    ]
    np.testing.assert_array_equal(xp64.host(found[0]), by_loop)
    np.testing.assert_array_equal(xp64.host(found[1]), np.ones((3, k)))


def test_its_mean_is_one_and_its_parts_fit_together():
    dropout, like = Dropout((0.25,), 7), np.zeros((1, 1), np.float32)
    whole = dropout.factors((1, 40, 1), 0, 5000, like)[0]
    assert whole.dtype == np.float32
    assert abs(whole.mean() - 1) < 4 * (0.25 / 0.75 / whole.size) ** 0.5
    parts = [dropout.factors((1, 40, 1), first, 1000, like)[0] for first in range(0, 5000, 1000)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert abs(np.corrcoef(whole[0], dropout.at(1).factors((1, 40, 1), 0, 5000, like)[0][0])[0, 1]) < 0.06


@pytest.mark.parametrize("output", sorted(PAIRS))
@pytest.mark.parametrize("hidden", ["tanh", "gelu"])
def test_the_gradient_is_that_of_central_differences_with_the_mask_held(output, hidden):
    network = fb.Network([3, 6, 5, 2], hidden=hidden, **PAIRS[output])
    params, X, Y = problem([3, 6, 5, 2], 9, network.output.name, seed=2)
    step, theta = ArrayStep(network, X, 9), flatten(tuple(fb.Layer(*layer) for layer in params))
    step.leave_out(Dropout((0.4, 0.2), 3, update=8), 2)

    def J(theta):
        step.load(theta)
        return step.gradient(X, Y, None)

    found, eps = J(theta).vector, 1e-6
    for i in range(0, len(theta), 3):
        e = np.zeros_like(theta)
        e[i] = eps
        slope = (J(theta + e).loss - J(theta - e).loss) / (2 * eps)
        assert slope == pytest.approx(found[i], rel=1e-6, abs=1e-7)
    plain = network.backward(unflatten(theta, network.sizes), network.forward(unflatten(theta, network.sizes), X), Y)
    assert not np.allclose(plain.vector, found)
    step.load(theta)
    assert step.cost(X, Y, None)[0] == plain.loss  # nothing is left out of a cost


@pytest.mark.parametrize(
    "wrong", [1, 1.0, -0.1, np.nan, True, "a", None, [0.1], [0.1, 0.2, 0.3], [0.1, 1.0], ["a", "b"]]
)
def test_what_is_no_rate(wrong):
    with pytest.raises(InputError, match="dropout"):
        rates_of(wrong, 2)


def test_rates():
    assert rates_of(0.5, 2) == rates_of((0.5, np.float32(0.5)), 2) == (0.5, 0.5)
    assert rates_of(0, 2) == rates_of([0.0, 0.0], 2) == rates_of(0.5, 0) == ()
