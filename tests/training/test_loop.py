"""N6, the history, the rules that stop a training, and the notes' worked network on a flower."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

import fullbatch as fb
from fullbatch.core.parameters import flatten, unflatten
from fullbatch.errors import ArrayTypeError, InputError, NonFiniteError
from fullbatch.fold import blocks
from fullbatch.sources import Dense, Examples, batches
from fullbatch.training import optimizers
from fullbatch.training.loop import Watch, epochs
from fullbatch.training.objective import Objective
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import TrainingState
from reference import cost_and_gradients, lists, problem, relative

SIZES = [3, 4, 2]


def flat(layers):
    return [np.asarray(array) for layer in layers for array in layer]


def descend(
    params, activations, output, X, Y, learning_rate, iterations, l2=0.0, weights=None, momentum=0.0, nesterov=False
):
    """N6 in scalars: all parameters from the gradients at the old point. The parameters and the costs."""
    theta, costs = lists(params), []
    velocity = [([[0.0] * len(row) for row in W], [0.0] * len(b)) for W, b in theta]
    for t in range(iterations + 1):
        J, gradients = cost_and_gradients(theta, activations, output, X.tolist(), Y.tolist(), l2, weights)
        costs.append(J)
        if t == iterations:
            return [a for W, b in theta for a in (np.array(W), np.array(b)[:, None])], costs
        for l, (dW, db) in enumerate(gradients):
            for rows, d, v in ((theta[l][0], dW, velocity[l][0]), ([theta[l][1]], [db], [velocity[l][1]])):
                for i, row in enumerate(rows):
                    for j in range(len(row)):
                        step = learning_rate * d[i][j]
                        v[i][j] = momentum * v[i][j] - step
                        row[j] += momentum * v[i][j] - step if nesterov else v[i][j]
    raise AssertionError


# --- N6 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"l2": 0.7}, {"momentum": 0.8}, {"momentum": 0.8, "nesterov": True}])
@pytest.mark.parametrize("weighted", [False, True])
def test_n6_gradient_descent_is_the_scalar_loop(xp, options, weighted):
    """N6: all parameters at once, from the gradients at the old point."""
    params, X, Y = problem(SIZES, 6, "softmax")
    weight = np.array([1.0, 2.0, 0.0, 0.5, 1.0, 3.0]) if weighted else None
    network = fb.Network(SIZES, output="softmax")
    run = fb.gradient_descent(
        network,
        xp.params(params),
        xp.array(X),
        xp.array(Y),
        learning_rate=0.5,
        iterations=12,
        sample_weight=None if weight is None else xp.array(weight),
        **options,
    )
    expected, costs = descend(params, ["tanh"], "softmax", X, Y, 0.5, 12, weights=weight, **options)
    assert run.costs == pytest.approx(costs, rel=max(xp.tolerance, 1e-11))
    assert relative(xp.hosts(run.params), expected) < max(xp.tolerance, 1e-11)


def test_n6_the_update_is_simultaneous():
    """One step by hand; a step that used the new W[2] for dW[1] would come out differently, which is shown too."""
    params, X, Y = problem(SIZES, 6, "softmax", seed=2)
    network = fb.Network(SIZES, output="softmax")
    _, g = fb.cost_and_gradients(network, params, X, Y)
    run = fb.gradient_descent(network, params, X, Y, learning_rate=0.9, iterations=1)
    (W1, b1), (W2, b2) = params
    expected = [W1 - 0.9 * g[0].W, b1 - 0.9 * g[0].b, W2 - 0.9 * g[1].W, b2 - 0.9 * g[1].b]
    assert relative(flat(run.params), expected) < 1e-15
    _, later = fb.cost_and_gradients(network, [params[0], (expected[2], expected[3])], X, Y)
    assert relative([W1 - 0.9 * later[0].W], [expected[0]]) > 1e-3


def test_costs_are_those_of_the_parameters_on_the_way_to_the_bit(xp):
    """run.costs has iterations + 1 entries; costs[t] is J after t updates."""
    params, X, Y = problem(SIZES, 51, "softmax", seed=4)
    network = fb.Network(SIZES, output="softmax")
    call = (network, xp.params(params), xp.array(X), xp.array(Y))
    run = fb.gradient_descent(*call, learning_rate=0.4, iterations=9, l2=0.1)
    assert len(run.costs) == 10
    assert (run.iterations, run.stopped) == (9, "iterations")
    assert all(type(cost) is float for cost in run.costs)
    for t in range(10):
        shorter = fb.gradient_descent(*call, learning_rate=0.4, iterations=t, l2=0.1)
        assert shorter.costs == run.costs[: t + 1]
        assert fb.cost(network, shorter.params, *call[2:], l2=0.1) == run.costs[t]


@pytest.mark.parametrize("m", [3, 7, 49, 51, 1000])
def test_the_first_cost_is_fb_cost_to_the_bit(m):
    params, X, Y = problem([2, 1], m, "sigmoid", seed=m)
    run = fb.gradient_descent(fb.Network([2, 1]), params, X, Y, learning_rate=0.1, iterations=1)
    assert run.costs[0] == fb.cost(fb.Network([2, 1]), params, X, Y)


def test_no_iterations_give_the_start_and_its_cost(xp):
    params, X, Y = problem(SIZES, 5, "softmax")
    network = fb.Network(SIZES, output="softmax")
    run = fb.gradient_descent(network, xp.params(params), xp.array(X), xp.array(Y), learning_rate=1.0, iterations=0)
    assert run.costs == [fb.cost(network, xp.params(params), xp.array(X), xp.array(Y))]
    assert relative(xp.hosts(run.params), [a for layer in params for a in layer]) < 1e-6


def test_callers_may_change_their_weights_in_place_between_calls():
    """Nothing is kept by the identity of an array."""
    params, X, Y = problem(SIZES, 5, "softmax")
    network = fb.Network(SIZES, output="softmax")
    params = tuple(fb.Layer(*layer) for layer in params)
    first = fb.cost(network, params, X, Y)
    params[0].W[...] *= 2
    second = fb.cost(network, params, X, Y)
    assert second != first
    assert second == fb.cost(network, [fb.Layer(W.copy(), b.copy()) for W, b in params], X, Y)


# --- The notes' network ---------------------------------------------------------------------------------------------


def flower(m=400):
    """Two classes of a planar flower: a petal to each side of the other class's, as the notes' worked example has it.

    r = 4 sin(4 t) with noise, the angle t over one half turn for each class: no line tells them apart.
    """
    rng = np.random.default_rng(1)
    half = m // 2
    points, classes = np.zeros((m, 2)), np.zeros((m, 1))
    for k in range(2):
        rows = slice(half * k, half * (k + 1))
        t = np.linspace(3.12 * k, 3.12 * (k + 1), half) + 0.2 * rng.standard_normal(half)
        r = 4 * np.sin(4 * t) + 0.2 * rng.standard_normal(half)
        points[rows] = np.stack([r * np.sin(t), r * np.cos(t)], axis=1)
        classes[rows] = k
    return points.T, classes.T


def accuracy(network, params, X, Y):
    return float(np.mean((network.forward(params, X).A[-1] > 0.5) == Y))


def test_the_flower_is_learnt_by_four_tanh_units_and_not_by_logistic_regression(host_step):
    """Two inputs, 4 tanh units, learning rate 1.2, 10,000 iterations: over 88 %; a line gets under 55 %."""
    X, Y = flower()
    network, line = fb.Network([2, 4, 1], hidden="tanh", output="sigmoid"), fb.Network([2, 1])
    run = fb.gradient_descent(network, network.init(seed=3), X, Y, learning_rate=1.2, iterations=10_000)
    straight = fb.gradient_descent(line, line.init(seed=3), X, Y, learning_rate=0.1, iterations=2_000)
    assert len(run.costs) == 10_001
    assert run.step == host_step
    assert accuracy(network, run.params, X, Y) > 0.88
    assert accuracy(line, straight.params, X, Y) < 0.55
    assert run.costs[-1] < 0.5 * run.costs[0]
    assert straight.costs[-1] > 0.6


# --- When it stops --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("named", [True, False])
def test_a_cost_that_is_no_longer_finite_names_the_iteration_and_keeps_the_last_finite_parameters(dtype, named):
    params, X, Y = problem([3, 5, 1], 400, "identity", dtype=dtype)
    hidden = "relu" if named else (lambda Z: np.maximum(Z, 0), lambda Z: (Z > 0).astype(dtype))
    network = fb.Network([3, 5, 1], hidden=hidden, output="identity")
    with pytest.raises(NonFiniteError) as caught:
        fb.gradient_descent(network, params, X, Y, learning_rate=50.0, iterations=1000)
    error, message = caught.value, str(caught.value)
    assert f"at iteration {error.iteration}:" in message
    assert "smaller learning rate" in message
    assert "\n" not in message
    assert 1 <= error.iteration < 1000
    last = fb.gradient_descent(network, params, X, Y, learning_rate=50.0, iterations=error.iteration - 1)
    assert all(math.isfinite(cost) for cost in last.costs)
    assert all(np.array_equal(a, b) for a, b in zip(flat(error.params), flat(last.params), strict=True))
    assert all(a.dtype == dtype for a in flat(error.params))
    assert fb.cost(network, error.params, X, Y) == last.costs[-1]


def test_the_last_update_is_looked_at_too():
    """With no iteration after it, its cost is computed by itself."""
    params, X, Y = problem([3, 1], 20, "exp")
    with pytest.raises(NonFiniteError, match="at iteration 1:") as caught:
        fb.gradient_descent(fb.Network([3, 1], output="exp"), params, X, Y, learning_rate=1e6, iterations=1)
    assert all(np.array_equal(a, b) for a, b in zip(flat(caught.value.params), flat(params), strict=True))


def test_a_start_that_is_not_finite_is_not_blamed_on_the_learning_rate(xp):
    params, X, Y = problem(SIZES, 6, "softmax")
    X[1, 2] = math.nan
    with pytest.raises(NonFiniteError) as caught:
        fb.gradient_descent(
            fb.Network(SIZES, output="softmax"),
            xp.params(params),
            xp.array(X),
            xp.array(Y),
            learning_rate=1e-3,
            iterations=5,
        )
    assert "at the start: X, Y or the parameters contain NaN" in str(caught.value)
    assert "learning rate" not in str(caught.value)
    assert caught.value.iteration == 0


def test_tol_stops_when_the_cost_falls_by_less():
    params, X, Y = problem([2, 1], 100, "sigmoid", seed=1)
    network = fb.Network([2, 1])
    run = fb.gradient_descent(network, params, X, Y, learning_rate=0.5, iterations=10_000, tol=1e-5)
    assert run.stopped == "tolerance"
    assert 2 < run.iterations < 10_000
    falls = -np.diff(run.costs)
    assert falls[-1] < 1e-5
    assert np.all(falls[:-1] >= 1e-5)
    assert fb.cost(network, run.params, X, Y) == run.costs[-1]


def test_no_improvement_counts_consecutive_values_that_are_not_better_by_tol():
    values = [1.0, 0.95, 0.96, 0.5, 0.45, math.nan, 0.39]
    given = iter(values)
    watch = Watch(tol=0.1, patience=2, held_out=lambda theta: 7.0, score=lambda theta, cost: -next(given))
    params, X, Y = problem([2, 1], 10, "sigmoid")
    gd = optimizers.gd()
    start = TrainingState.start(flatten(tuple(fb.Layer(*layer) for layer in params)), gd, Schedule("constant", 0.01))
    with Objective(fb.Network([2, 1]), Examples(Dense(X), Dense(Y))) as objective:
        done = list(epochs(objective, gd, start, orders=[slice(0, 10)] * 7, batch_size=10, watch=watch))
    assert [after.waited for after in done] == [0, 1, 2, 0, 1, 2, 3]
    assert [after.stopped for after in done] == [""] * 6 + ["Stopping."]
    assert [after.best for after in done] == [1.0, 0.95, 0.95, 0.5, 0.45, 0.45, 0.39]
    best = [0, 1, 1, 3, 4, 4, 6]
    assert all(after.best_theta is done[i].theta for after, i in zip(done, best, strict=True))
    assert list(done[-1].held_out) == [7.0] * 7
    assert list(done[-1].scores)[:5] == [-value for value in values[:5]]


# --- Mini-batches ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4, 10, 11, 100])
def test_batches_are_consecutive_and_the_last_may_be_smaller(size):
    for order in (slice(3, 14), np.random.default_rng(0).permutation(11)):
        parts = list(batches(order, size))
        flatly = np.concatenate([np.arange(p.start, p.stop) if isinstance(p, slice) else p for p in parts])
        assert np.array_equal(flatly, np.arange(3, 14) if isinstance(order, slice) else order)
        lengths = [p.stop - p.start if isinstance(p, slice) else len(p) for p in parts]
        assert all(n == min(size, 11) for n in lengths[:-1])
        assert 1 <= lengths[-1] <= size


def test_an_epoch_of_mini_batches_is_gradient_descent_on_each_in_turn(xp):
    params, X, Y = problem(SIZES, 23, "softmax")
    network = fb.Network(SIZES, output="softmax")
    rng = np.random.default_rng(0)
    orders = [rng.permutation(23), rng.permutation(23)]

    class EachUpdate(Schedule):
        def at(self, rate, epoch):
            return rate / (1 + round(3 * epoch))

    state = TrainingState.start(flatten(xp.params(params)), optimizers.gd(), EachUpdate("own", 0.3))
    with Objective(network, xp.examples(X, Y), l2=0.5) as objective:
        done = list(epochs(objective, optimizers.gd(), state, orders=orders, batch_size=10))
    assert [(after.epoch, after.updates, after.examples) for after in done] == [(1, 3, 23), (2, 6, 46)]
    theta, t = lists(params), 0
    for after, order in zip(done, orders, strict=True):
        costs = []
        for batch in (order[:10], order[10:20], order[20:]):
            J, gradients = cost_and_gradients(
                theta, ["tanh"], "softmax", X[:, batch].tolist(), Y[:, batch].tolist(), 0.5
            )
            costs.append(J * len(batch))
            rate = 0.3 / (1 + t)
            theta = [
                ((np.array(W) - rate * np.array(dW)).tolist(), (np.array(b) - rate * np.array(db)).tolist())
                for (W, b), (dW, db) in zip(theta, gradients, strict=True)
            ]
            t += 1
        assert after.costs[-1] == pytest.approx(sum(costs) / 23, rel=max(xp.tolerance, 1e-11))
    expected = [a for W, b in theta for a in (np.array(W), np.array(b)[:, None])]
    assert relative(xp.hosts(unflatten(done[-1].theta, SIZES)), expected) < max(xp.tolerance, 1e-11)


def test_a_training_can_be_interrupted_and_gone_on_with():
    """The state of the optimiser goes with the parameters, and nothing that was yielded changes later."""
    params, X, Y = problem(SIZES, 40, "softmax")
    network = fb.Network(SIZES, output="softmax")
    adam = optimizers.adam()
    start = TrainingState.start(flatten(tuple(fb.Layer(*layer) for layer in params)), adam, Schedule("constant", 0.01))
    orders = [np.random.default_rng(k).permutation(40) for k in range(4)]
    with Objective(network, Examples(Dense(X), Dense(Y))) as objective:
        whole, kept = [], []
        for after in epochs(objective, adam, start, orders=orders, batch_size=16):
            whole.append(after)
            kept.append((after.theta.copy(), list(after.costs)))
        half = list(epochs(objective, adam, start, orders=orders[:2], batch_size=16))[-1]
        rest = list(epochs(objective, adam, half, orders=orders[2:], batch_size=16))[-1]
    assert np.array_equal(rest.theta, kept[3][0])
    assert list(rest.costs) == kept[3][1]
    for after, (theta, costs) in zip(whole, kept, strict=True):
        assert np.array_equal(after.theta, theta)
        assert list(after.costs) == costs


# --- Another library ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["binary", "classes", "regression", "counts"])
@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_trajectory_is_that_of_scikit_learns_mlp(kind, activation, momentum):
    """Full batch, constant rate, through its public interface: loss_curve_[t] is J before update t + 1."""
    from scipy.special import xlogy
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    rng = np.random.default_rng(7)
    table = rng.standard_normal((60, 4))
    if kind == "regression":
        y = table[:, 0] * table[:, 1] + 0.1 * rng.standard_normal(60)
        make, output, Y, more = MLPRegressor, "identity", y[None, :], {}
    elif kind == "counts":
        y = rng.poisson(np.exp(0.5 * table[:, 0])).astype(float)
        make, output, Y, more = MLPRegressor, "exp", y[None, :], {"loss": "poisson"}
    elif kind == "binary":
        y = (table[:, 0] * table[:, 1] > 0).astype(int)
        make, output, Y, more = MLPClassifier, "sigmoid", y[None, :].astype(float), {}
    else:
        y = rng.integers(0, 3, size=60)
        make, output, Y, more = MLPClassifier, "softmax", np.eye(3)[y].T, {}

    def theirs(**options):
        model = make(
            hidden_layer_sizes=(5, 3),
            activation=activation,
            solver="sgd",
            alpha=0.3,
            batch_size=60,
            momentum=momentum,
            nesterovs_momentum=True,
            shuffle=False,
            random_state=0,
            tol=0.0,
            n_iter_no_change=1000,
            **options,
            **more,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(table, y)

    def layers(model):
        return [fb.Layer(W.T, b[:, None]) for W, b in zip(model.coefs_, model.intercepts_, strict=True)]

    start = layers(theirs(learning_rate_init=1e-30, max_iter=1))  # a step of nothing: the initial weights
    end = theirs(learning_rate_init=0.05, max_iter=15)
    hidden = {"logistic": "sigmoid"}.get(activation, activation)
    network = fb.Network([4, 5, 3, Y.shape[0]], hidden=hidden, output=output)
    run = fb.gradient_descent(
        network, start, table.T, Y, learning_rate=0.05, iterations=15, l2=0.3, momentum=momentum, nesterov=momentum > 0
    )
    costs = np.array(run.costs[:15])
    if kind == "counts":  # scikit-learn keeps the terms of y alone, which the notes' loss leaves out
        costs += np.mean(xlogy(y, y) - y)
    assert costs == pytest.approx(np.array(end.loss_curve_), rel=1e-10)
    assert relative(flat(run.params), flat(layers(end))) < 1e-10


# --- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learning_rate": 0}, "learning_rate must be a finite number above 0; got 0"),
        ({"learning_rate": -0.1}, "learning_rate must be a finite number above 0"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number above 0; got nan"),
        ({"learning_rate": math.inf}, "learning_rate must be a finite number above 0"),
        ({"learning_rate": "fast"}, "learning_rate must be a finite number above 0; got 'fast'"),
        ({"iterations": -1}, "iterations must be an integer of at least 0; got -1"),
        ({"iterations": 1.5}, "iterations must be an integer"),
        ({"iterations": True}, "iterations must be an integer"),
        ({"iterations": None}, "iterations must be an integer"),
        ({"momentum": 1.0}, "momentum must be below 1"),
        ({"momentum": -0.5}, "momentum must be a finite number of at least 0"),
        ({"tol": -1e-3}, "tol must be a finite number of at least 0"),
        ({"l2": -1}, "l2 must be a finite number of at least 0"),
        ({"threads": 0}, "threads must be an integer of at least 1"),
    ],
)
def test_bad_options(options, words):
    params, X, Y = problem([2, 1], 5, "sigmoid")
    with pytest.raises(InputError, match=words) as caught:
        fb.gradient_descent(fb.Network([2, 1]), params, X, Y, **{"learning_rate": 0.1, "iterations": 1, **options})
    assert "\n" not in str(caught.value)


def test_bad_arrays_are_refused_before_anything_runs():
    params, X, Y = problem([2, 1], 5, "sigmoid")
    options = {"learning_rate": 0.1, "iterations": 1}
    with pytest.raises(InputError, match=r"X has shape \(5, 2\)"):
        fb.gradient_descent(fb.Network([2, 1]), params, X.T, Y, **options)
    with pytest.raises(ArrayTypeError, match="X is float32 and W"):
        fb.gradient_descent(fb.Network([2, 1]), params, X.astype("float32"), Y.astype("float32"), **options)
    with pytest.raises(ArrayTypeError, match="int64"):
        fb.gradient_descent(fb.Network([2, 1]), params, X.astype("int64"), Y, **options)


def test_many_blocks_train_as_one(monkeypatch):
    params, X, Y = problem(SIZES, 500, "softmax")
    network = fb.Network(SIZES, output="softmax")
    one = fb.gradient_descent(network, params, X, Y, learning_rate=0.5, iterations=10)
    monkeypatch.setattr(blocks, "block_size", lambda *_, **__: 64)
    many = fb.gradient_descent(network, params, X, Y, learning_rate=0.5, iterations=10, threads=2)
    assert (one.threads, many.threads) == (1, 2)
    assert many.costs == pytest.approx(one.costs, rel=1e-12)
    assert fb.Run(params, [1.0, 2.0]).iterations == 1


# --- Lazy libraries -------------------------------------------------------------------------------------------------


def dask_tasks(call):
    """What the call returns, and how many tasks dask ran for it."""
    from dask.callbacks import Callback

    ran = []
    with Callback(pretask=lambda key, *_: ran.append(key)):
        return call(), len(ran)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_update_of_dask_arrays_costs_the_same_however_many_went_before(momentum):
    """Unsettled parameters are made again from the start in each iteration."""
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    params, X, Y = problem([3, 4, 1], 40, "sigmoid")
    network = fb.Network([3, 4, 1])
    there = [fb.Layer(da.from_array(W), da.from_array(b)) for W, b in params]
    data = da.from_array(X, chunks=(3, 20)), da.from_array(Y, chunks=(1, 20))

    def run(iterations):
        return fb.gradient_descent(network, there, *data, learning_rate=0.5, momentum=momentum, iterations=iterations)

    (once, few), (twice, many), (_, more) = (dask_tasks(lambda n=n: run(n)) for n in (3, 6, 9))
    assert more - many == many - few > 0
    graphs = [len(result.params[0].W.__dask_graph__()) for result in (once, twice)]
    assert graphs[0] == graphs[1]
    expected = fb.gradient_descent(network, params, X, Y, learning_rate=0.5, momentum=momentum, iterations=6)
    assert twice.costs == pytest.approx(expected.costs, rel=1e-12)
    assert all(type(array) is da.Array for layer in twice.params for array in layer)
