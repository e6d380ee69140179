"""How long a second training is, and whether there is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullbatch.training.retraining import epochs_of_second, most_epochs
from fullbatch.training.schedules import Schedule


@pytest.mark.parametrize(
    ("best", "planned", "epochs"),
    [(1, 44, 3), (3, 44, 3), (7, 44, 7), (29, 44, 29), (30, 44, 0), (44, 44, 0), (1, 4, 3), (1, 3, 0), (1, 1, 0)],
)
def test_it_is_as_long_as_the_best_of_the_first_if_that_came_early(best, planned, epochs):
    assert epochs_of_second(best, planned) == epochs


@given(st.integers(1, 500).flatmap(lambda planned: st.tuples(st.integers(1, planned), st.just(planned))))
def test_both_have_no_more_epochs_than_is_said(case):
    best, planned = case
    assert planned + epochs_of_second(best, planned) <= most_epochs(planned) < 2 * planned


def test_its_end_is_counted_from_the_firsts():
    first = Schedule("linear", 0.4, epochs=10)
    second = first._replace(epochs=4, start=12)
    assert (first.is_second, first.end, second.is_second, second.end) == (False, 10, True, 16)
