"""The four schedules, by their formulas; test_estimators.py holds three of them to scikit-learn's trajectories."""

from __future__ import annotations

import pytest

from fullbatch.training.schedules import Schedule


def test_constant_stays():
    schedule = Schedule("constant", 0.3)
    assert schedule.at(0.2, 1.5) == schedule.after_epoch(0.2, 1000) == 0.2
    assert schedule.at_plateau(0.2) == (0.2, "Stopping.")


def test_invscaling_falls_after_each_epoch_with_the_examples_seen():
    schedule = Schedule("invscaling", 0.3, power=0.5)
    assert schedule.at(0.1, 1.5) == 0.1
    assert schedule.after_epoch(0.1, 99) == pytest.approx(0.3 / 100**0.5)


@pytest.mark.parametrize("power", [200.0, 1e308, 2**31, 2**62])
def test_a_rate_too_small_for_a_float_is_zero(power):
    """Python's powers of floats raise, and those of whole numbers go on for ever."""
    assert Schedule("invscaling", 0.3, power=power).after_epoch(0.1, 99) == 0
    assert Schedule("invscaling", 0.3, power=power).after_epoch(0.1, 0) == 0.3


def test_adaptive_takes_a_fifth_at_each_plateau_until_the_rate_is_tiny():
    schedule, rate, reason, fallen = Schedule("adaptive", 0.1), 0.1, "", 0
    while not reason:
        rate, reason = schedule.at_plateau(rate)
        fallen += not reason
    assert reason == "Learning rate too small. Stopping."
    assert fallen == 8  # 0.1 / 5^7 is still above 1e-6
    assert rate == pytest.approx(0.1 / 5**8)


def test_linear_is_zero_after_so_many_epochs_and_stays_there():
    schedule = Schedule("linear", 0.4, epochs=4)
    assert [schedule.at(99.0, epoch) for epoch in (0, 1, 2.5, 4, 5)] == pytest.approx([0.4, 0.3, 0.15, 0.0, 0.0])
