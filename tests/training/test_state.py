"""The state of a training is a value: a history that shares what two have in common, and a log for L-BFGS."""

from __future__ import annotations

import pickle
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fullbatch as fb
from fullbatch.core.parameters import flatten
from fullbatch.estimators.descent import Orders
from fullbatch.sources import Dense, Examples
from fullbatch.training import optimizers
from fullbatch.training.loop import Interrupted, epochs
from fullbatch.training.objective import Objective
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import History, TrainingState
from reference import problem


@given(
    steps=st.lists(st.tuples(st.integers(0, 30), st.floats(allow_nan=False)), max_size=40),
    start=st.lists(st.floats(allow_nan=False), max_size=3),
)
def test_a_history_is_a_value(steps, start):
    """Appended to at any of those made before, each stays what it was: against plain lists that are copied."""
    made, lists = [History(start)], [list(start)]
    for which, value in steps:
        which %= len(made)
        made.append(made[which].appended(value))
        lists.append([*lists[which], value])
    for history, values in zip(made, lists, strict=True):
        assert (list(history), len(history)) == (values, len(values))
        assert history == History(values)
        assert not values or history[-1] == values[-1]
        with pytest.raises(IndexError):
            history[len(values)]


def test_a_history_is_pickled_without_what_others_went_on_to():
    """By every protocol: skops asks for the form of the first ones, which know nothing of slots."""
    first = History([1.0])
    longer = first.appended(2.0)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copied = pickle.loads(pickle.dumps(first, protocol))
        assert (copied, copied._values) == (first, [1.0])
    assert list(pickle.loads(pickle.dumps(longer))) == [1.0, 2.0]


def test_ten_thousand_epochs_have_one_list():
    """To append copies nothing: else so many would take 10^8 steps."""
    history = History()
    for value in range(10_000):
        before, history = history, history.appended(float(value))
    assert history._values is before._values
    assert (len(before), len(history)) == (9_999, 10_000)


@pytest.fixture
def objective():
    params, X, Y = problem([3, 4, 1], 50, "sigmoid")
    start = flatten(tuple(fb.Layer(*layer) for layer in params))
    with Objective(fb.Network([3, 4, 1]), Examples(Dense(X), Dense(Y)), l2=0.5) as made:
        yield made, start


@pytest.mark.parametrize("solver", sorted(optimizers.OPTIMIZERS))
@pytest.mark.parametrize("batch_size", [50, 8])
def test_ctrl_c_in_an_update_leaves_a_state_that_can_be_gone_on_with(objective, solver, batch_size, monkeypatch):
    """By the array of updates: what is done after the one that was cut short is what would have been done."""
    objective, theta = objective
    optimizer = optimizers.OPTIMIZERS[solver].make()._replace(name="slow")  # which no twin knows
    start = TrainingState.start(theta, optimizer, Schedule("constant", 0.01))
    updates, cut = 0, None

    def update(*arguments):
        nonlocal updates
        updates += 1
        if updates == cut:
            raise KeyboardInterrupt
        return optimizer.update(*arguments)

    watched = optimizer._replace(update=update)
    orders = [slice(0, 50)] * 3
    whole = list(epochs(objective, watched, start, orders=orders, batch_size=batch_size))[-1]
    updates, cut = 0, 5 if batch_size == 8 else 2
    with pytest.raises(Interrupted) as caught:
        list(epochs(objective, watched, start, orders=orders, batch_size=batch_size))
    state = caught.value.state
    assert (state.updates, state.epoch, len(state.costs)) == (cut - 1, (cut - 1) * batch_size // 50, state.epoch)
    assert state.epoch_examples == (8 * (cut - 1) if batch_size == 8 else 0)
    end = list(epochs(objective, optimizer, state, orders=orders[state.epoch :], batch_size=batch_size))[-1]
    assert np.array_equal(end.theta, whole.theta)
    assert (end.updates, end.costs, end.epoch_examples) == (whole.updates, whole.costs, 0)


def test_shuffled_epochs_go_on_from_the_state_alone(objective):
    """Of a new generator: that of the first two epochs is not needed any more."""
    objective, theta = objective
    adam = optimizers.adam()
    start = TrainingState.start(theta, adam, Schedule("linear", 0.05, epochs=4))

    def train(state, seed, count):
        orders = Orders(50, 8, True, np.random.RandomState(seed), state.order)
        return list(islice(epochs(objective, adam, state, orders=orders, batch_size=8), count))[-1]

    whole = train(start, 1, 4)
    rest = train(train(start, 1, 2), 99, 2)
    assert rest.costs == whole.costs
    assert rest.theta.tobytes() == whole.theta.tobytes()
    assert all(map(np.array_equal, rest.arrays, whole.arrays))
    for field in ("updates", "epoch", "examples", "learning_rate", "best", "waited"):
        assert getattr(rest, field) == getattr(whole, field)


def test_lbfgs_goes_on_from_its_start_and_the_log_of_its_evaluations(objective):
    objective, theta = objective
    limits = {"max_iter": 40, "max_fun": 100, "tol": 1e-9}
    asked = []

    def evaluate(theta):
        asked.append(1)
        return objective.cost_and_gradient(theta)

    whole = optimizers.lbfgs(evaluate, theta, **limits)
    count = len(asked)
    assert count > 12
    log = []

    def cut_short(theta):
        if len(log) == 9:
            raise KeyboardInterrupt
        return objective.cost_and_gradient(theta)

    with pytest.raises(KeyboardInterrupt):
        optimizers.lbfgs(cut_short, theta, tell=log.append, **limits)
    assert len(log) == 9
    asked.clear()
    known = list(log)
    log.clear()
    rest = optimizers.lbfgs(evaluate, theta, known=known, tell=log.append, **limits)
    assert len(asked) == count - 9
    assert len(log) == count
    assert rest.x.tobytes() == whole.x.tobytes()
    assert (rest.fun, rest.nit, rest.nfev) == (whole.fun, whole.nit, whole.nfev)
    with pytest.raises(ValueError, match="belongs to another start"):
        optimizers.lbfgs(evaluate, theta + 1, known=log, **limits)
