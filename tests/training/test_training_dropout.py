"""Trainings with dropout: the same bits of any twin's masks, numbers of threads and blocks; what it is refused for."""

from __future__ import annotations

import numpy as np
import pytest

import fullbatch as fb
from conftest import ISAS, use
from fullbatch import steps
from fullbatch.core.dropout import Dropout
from fullbatch.core.parameters import flatten
from fullbatch.errors import InputError
from fullbatch.sources import Dense, Examples, OneHot, Sparse
from fullbatch.training import minibatches
from fullbatch.training.minibatches import PythonBatches
from fullbatch.training.native_batches import NativeBatches
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import gd, sgd
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import TrainingState
from reference import PAIRS, problem, relative

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
needs_native = pytest.mark.skipif(not ISAS, reason="the native step is not here")
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
UNITS = 37  # of no vector's length
ONE = fb.Network([1, UNITS, 1], "identity", "identity")


def one_unit_each(dtype):
    """Parameters with which A of the hidden layer is 1, and dW[2] the sum of what it is multiplied by."""
    return np.concatenate([np.zeros(UNITS), np.ones(UNITS), np.zeros(UNITS + 1)]).astype(dtype)


@needs_native
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masks_of_the_native_step_are_the_array_steps_to_the_bit(isa, dtype, monkeypatch):
    use(f"native-{isa}", monkeypatch)
    dropout, X = Dropout((0.35,), 2**60 + 11, update=4), np.zeros((1, 1), dtype)
    step = steps.make(ONE, X, 1, "native")
    step.load(one_unit_each(dtype))
    for place in (0, 1, 2, 3, 4, 70, 2**33):
        step.leave_out(dropout, place)
        found = step.gradient(X, X - 1, None).vector[2 * UNITS : 3 * UNITS]  # dZ[2] = A[2] - Y = 1
        np.testing.assert_array_equal(found, dropout.factors(ONE.sizes, place, 1, X)[0][:, 0])


@needs_native
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 3])
def test_masks_of_native_batches_are_the_array_steps_to_the_bit(isa, dtype, threads, monkeypatch):
    """Batches of which one example alone has a weight: an update by gradient descent at rate 1 shows its mask."""
    use(f"native-{isa}", monkeypatch)
    monkeypatch.setattr(NativeBatches, "_worth", lambda self, threads, entries: threads)
    m, batch, place, dropout = 450, 150, 91, Dropout((0.35,), 99)
    X, weight = np.zeros((1, m), dtype), np.zeros(m, dtype)
    weight[place::batch] = 1
    state = TrainingState.start(one_unit_each(dtype), gd(), Schedule("constant", 1.0))._replace(updates=2**32 + 5)
    options = {"batch_size": batch, "l2": 0.0, "intercept": False, "threads": threads, "dropout": dropout}
    examples = Examples(Dense(X), Dense(X - 1), weight)
    seen = []
    for update in range(3):  # each from the same parameters, whose dZ[2] is 1
        batches = NativeBatches(ONE, examples, gd(), state._replace(updates=state.updates + update), **options)
        where = np.arange(update * batch, (update + 1) * batch)
        assert list(batches.run(where, lambda updates: 1.0))
        seen.append(batches.theta[2 * UNITS : 3 * UNITS])
        factors = dropout.at(5 + update).factors(ONE.sizes, place, 1, X)[0][:, 0]
        np.testing.assert_array_equal(seen[-1], -factors)
    assert len(np.unique(seen, axis=0)) == 3


def trained(kind, network, examples, params, batch_size, dropout, threads=None):
    with (
        pytest.MonkeyPatch.context() as patch,
        Objective(network, examples, l2=0.01, dropout=dropout, threads=threads) as objective,
    ):
        if kind is PythonBatches:
            patch.setattr(NativeBatches, "can_run", staticmethod(lambda *rest: False))
        optimizer = sgd()
        state = TrainingState.start(flatten(params), optimizer, Schedule("constant", 0.05))
        batches = minibatches.make(objective, optimizer, state, batch_size)
        assert type(batches) is kind
        order = np.random.default_rng(0).permutation(examples.m)
        list(batches.run(order if batch_size < examples.m else slice(0, examples.m), lambda updates: 0.05))
        return objective.fold.step_name, batches.theta, batches.cost


@needs_native
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", sorted(PAIRS))
@pytest.mark.parametrize(
    "hidden", [["tanh", "gelu"], ["relu", "silu"], ["leaky_relu", "sigmoid"], ["identity", "tanh"]]
)
def test_native_batches_and_steps_are_held_to_the_array_step(isa, dtype, output, hidden, monkeypatch):
    sizes, dropout = [4, 17, 35, 2], Dropout((0.2, 0.5), 5)
    network = fb.Network(sizes, hidden, **PAIRS[output])
    params, X, Y = problem(sizes, 150, network.output.name, dtype=dtype)
    params = tuple(fb.Layer(*layer) for layer in params)
    examples = Examples(Dense(X), Dense(Y))
    for kind, batch in ((NativeBatches, 70), (PythonBatches, 70), (PythonBatches, 150)):
        use(f"native-{isa}", monkeypatch)
        step, theta, cost = trained(kind, network, examples, params, batch, dropout)
        assert step == "native"
        use("inplace", monkeypatch)
        step, truth, true_cost = trained(PythonBatches, network, examples, params, batch, dropout)
        assert step == "array"
        assert relative([theta], [truth]) < TOLERANCE[dtype]
        assert cost == pytest.approx(true_cost, rel=TOLERANCE[dtype])


@needs_native
def test_sparse_inputs_one_hot_targets_and_a_plain_step_after(monkeypatch):
    """A step whose dropout ended gives the bits of one that had none; one output unit has a way of its own."""
    import scipy.sparse

    for sizes, output in (([30, 20, 3], "softmax"), ([30, 20, 1], "sigmoid")):
        network = fb.Network(sizes, "relu", output)
        params, X, Y = problem(sizes, 90, output)
        X *= np.random.default_rng(1).random(X.shape) < 0.1
        params = tuple(fb.Layer(*layer) for layer in params)
        targets = OneHot(np.argmax(Y, axis=0), 3, X.dtype) if output == "softmax" else Dense(Y)
        examples = Examples(Sparse(scipy.sparse.csr_array(X.T)), targets)
        found = trained(NativeBatches, network, examples, params, 40, Dropout((0.5,), 1))
        use("inplace", monkeypatch)
        truth = trained(PythonBatches, network, Examples(Dense(X), Dense(Y)), params, 40, Dropout((0.5,), 1))
        monkeypatch.undo()
        assert relative([found[1]], [truth[1]]) < 1e-12
        step = steps.make(network, X, 90, "native")
        step.load(flatten(params))
        plain = step.gradient(X, Y, None)
        step.leave_out(Dropout((0.5,), 1), 0)
        assert not np.array_equal(step.gradient(X, Y, None).vector, plain.vector)
        assert step.cost(X, Y, None)[0] == pytest.approx(plain.loss, rel=1e-12)
        assert step.library.fb_step_dropout(step.handle, None, 0, 0, 0) == 0
        assert np.array_equal(step.gradient(X, Y, None).vector, plain.vector)


@needs_native
def test_wrong_rates_are_refused_by_c():
    step = steps.make(ONE, np.zeros((1, 1)), 1, "native")
    for rate, update, first in ((1.0, 0, 0), (-0.1, 0, 0), (np.nan, 0, 0), (0.5, -1, 0), (0.5, 0, -1)):
        rates = np.array([rate])
        assert step.library.fb_step_dropout(step.handle, rates.ctypes.data, 0, update, first) == -1
    assert step.library.fb_step_dropout(None, None, 0, 0, 0) == -1
    assert step.library.fb_trainer_dropout(None, None, 0, 0) == -1


@pytest.mark.parametrize("batch_size", [100, "full"])
def test_no_number_of_threads_changes_a_bit_and_predictions_leave_nothing_out(twin, batch_size, monkeypatch):
    """Blocks of some rows, each with its own place in the batch."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2100, 6))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    options = {"dropout": 0.3, "max_iter": 2, "random_state": 1, "batch_size": batch_size}
    one, three = (fb.MLPClassifier((80, 70), n_jobs=n, **options).fit(X, y) for n in (1, 3))
    assert one.step_ == ("native" if twin == "native" else "array")
    assert all(np.array_equal(a, b) for a, b in zip(one.coefs_, three.coefs_, strict=True))
    assert one.loss_curve_ == three.loss_curve_
    without = fb.MLPClassifier((80, 70), **{**options, "dropout": 0.0}).fit(X, y)
    assert not np.array_equal(without.coefs_[0], one.coefs_[0])
    without.coefs_, without.intercepts_ = one.coefs_, one.intercepts_
    assert np.array_equal(one.predict_proba(X), without.predict_proba(X))


def test_held_out_costs_leave_nothing_out():
    X = np.random.default_rng(0).standard_normal((60, 3))
    y = (X[:, 0] > 0).astype(int)
    model = fb.MLPClassifier((9,), dropout=0.5, max_iter=1, random_state=0).fit(X, y, X_val=X, y_val=y)
    proba = model.predict_proba(X)[np.arange(60), y]
    assert model.validation_costs_[-1] == pytest.approx(-np.log(proba).mean())


def test_gd_takes_it_and_lbfgs_refuses_it():
    X = np.random.default_rng(0).standard_normal((60, 3))
    y = X[:, 0]
    model = fb.MLPRegressor("squared_error", (9,), dropout=[0.5], solver="gd", max_iter=3, random_state=0).fit(X, y)
    assert model.n_iter_ == 3
    with pytest.raises(ValueError, match=r"dropout is not for solver='lbfgs', whose objective must not change"):
        fb.MLPRegressor("squared_error", (9,), dropout=0.5, solver="lbfgs").fit(X, y)
    with pytest.raises(InputError, match="2 hidden layers need one rate of dropout or 2; got 3"):
        fb.MLPRegressor("squared_error", (9, 9), dropout=[0.5] * 3).fit(X, y)
    with pytest.raises(InputError, match="dropout must be a rate from 0 to below 1"):
        fb.TableClassifier(hidden=(3,), dropout=(1.5,)).fit({"a": [1.0, 2.0] * 9, "b": ["x", "y"] * 9}, target="b")
    with pytest.raises(InputError, match="dropout is not of lbfgs"):
        fb.TableClassifier(dropout=0.1, solver="lbfgs").fit({"a": [1.0, 2.0] * 9, "b": ["x", "y"] * 9}, target="b")


def test_partial_fit_goes_on_with_other_masks():
    X = np.random.default_rng(0).standard_normal((60, 3))
    y = (X[:, 0] > 0).astype(int)
    options = {"hidden_layer_sizes": (9,), "dropout": 0.5, "random_state": 0, "shuffle": False, "batch_size": 20}
    whole = fb.MLPClassifier(max_iter=2, **options).fit(X, y)
    parts = fb.MLPClassifier(**options)
    for _ in range(2):
        parts.partial_fit(X, y, classes=[0, 1])
    assert np.array_equal(whole.coefs_[0], parts.coefs_[0])


def test_a_tables_model_keeps_its_rate(tmp_path):
    table = {"a": np.arange(60.0) % 7, "b": ["x", "y", "z"] * 20, "c": np.arange(60) % 2}
    model = fb.TableClassifier(hidden=(8, 4), dropout=(0.2, 0.1), epochs=3).fit(table, target="c")
    assert model.estimator_.dropout == (0.2, 0.1)
    assert model.record_["parameters"]["dropout"] == [0.2, 0.1]
    fb.save(model, tmp_path / "model")
    again = fb.load(tmp_path / "model")
    assert tuple(again.dropout) == tuple(again.estimator_.dropout) == (0.2, 0.1)
    assert np.array_equal(again.predict_proba(table), model.predict_proba(table))
