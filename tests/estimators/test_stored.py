"""Estimators that learn from a store: the bits of the same rows in memory, checkpoints, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fullbatch as fb
from fullbatch.errors import InputError
from fullbatch.sources.store_columns import examples_of
from fullbatch.tables import store as stores

M = 2500


def rows(task, m=M):
    rng = np.random.default_rng(2)
    X = {f"x{j}": rng.normal(size=m) for j in range(4)}
    score = X["x0"] - X["x1"] + 0.3 * rng.normal(size=m)
    if task == "regress":
        return {**X, "y": 50 + 10 * score}
    return {**X, "town": rng.choice(["a", "b", "c"], m), "y": np.where(score > 0, "yes", "no")}


@pytest.fixture(params=["classify", "regress"])
def store(request, tmp_path, monkeypatch):
    """One of several windows, of which each has several leaves."""
    monkeypatch.setattr(stores, "leaf_size", lambda n: 256)
    monkeypatch.setattr(stores, "WINDOW", 12_000)
    stores.convert(rows(request.param), tmp_path / "store", "y", validation=0.2)
    with fb.open_store(tmp_path / "store") as store:
        assert 1 < store.train.window < len(store)
        yield store


def estimator(store, **params):
    kind = fb.MLPClassifier if store.classes else fb.MLPRegressor
    return kind(
        **{"hidden_layer_sizes": (6,), "max_iter": 3, "random_state": 1, "tol": 0, "learning_rate": "linear", **params}
    )


def fitted(store, **params):
    model = estimator(store, **params).fit(store)
    return model, [*model.coefs_, *model.intercepts_, np.array(model.loss_curve_), np.array(model.validation_costs_)]


SOLVERS = [
    {"solver": "adam"},
    {"solver": "adam", "batch_size": 33, "shuffle": False},
    {"solver": "adam", "batch_size": 1100},
    {"solver": "sgd", "batch_size": 64, "early_stopping": True, "scoring": "loss"},
    {"solver": "sgd", "batch_size": 64, "early_stopping": True},
    {"solver": "adam", "batch_size": "full"},
    {"solver": "gd"},
    {"solver": "lbfgs"},
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("params", SOLVERS)
def test_every_solver_has_the_bits_of_memory_for_any_threads(store, params):
    model, found = fitted(store, **params)
    assert model.n_iter_ == 3
    for other in (fitted(store.load(), **params), fitted(store, n_jobs=1, **params), fitted(store, n_jobs=3, **params)):
        assert all(map(np.array_equal, found, other[1]))
    if params["solver"] in ("gd", "lbfgs"):
        train, held_out = store.to_arrays(), store.to_arrays(held_out=True)
        X, X_val = (examples_of(one, store.n, len(store.classes)).X for one in (train, held_out))
        y, y_val = (np.array(store.classes)[one.y] if store.classes else one.y for one in (train, held_out))
        model = estimator(store, **params).fit(X, y, X_val=X_val, y_val=y_val)
        assert all(map(np.array_equal, found, [*model.coefs_, *model.intercepts_, np.array(model.loss_curve_)]))


def test_a_second_training_has_the_bits_of_memory_for_any_threads(store, monkeypatch):
    monkeypatch.setattr("fullbatch.estimators.descent.epochs_of_second", lambda best, planned: 3)
    again = {"early_stopping": True, "scoring": "loss", "learning_rate": "linear", "retrain": True}
    params = {"solver": "adam", "batch_size": 50, "max_iter": 4, **again}
    model, found = fitted(store, **params)
    assert model.retraining_ == [4, 3]
    assert model.n_iter_ == len(model.loss_curve_) == 7
    for other in (fitted(store.load(), **params), fitted(store, n_jobs=1, **params), fitted(store, n_jobs=3, **params)):
        assert all(map(np.array_equal, found, other[1]))


def test_native_and_python_batches_see_the_same_rows(store, monkeypatch):
    from fullbatch.training.native_batches import NativeBatches

    _, native = fitted(store, batch_size=50)
    monkeypatch.setattr(NativeBatches, "can_run", staticmethod(lambda *args: False))
    _, python = fitted(store, batch_size=50)
    for a, b in zip(native, python, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_what_it_learned_predicts(store):
    if not store.classes:
        pytest.skip("of classes")
    model, _ = fitted(store, max_iter=40, batch_size=50, learning_rate_init=0.01)
    assert model.classes_.tolist() == ["no", "yes"]
    held_out = store.to_arrays(held_out=True)
    X = store.examples(store.held_out).X
    assert np.mean(model.predict(X) == model.classes_[held_out.y]) > 0.85


@pytest.mark.parametrize("batch_size", [50, 300])
def test_a_checkpoint_within_an_epoch_goes_on_to_the_same_bits(store, monkeypatch, batch_size):
    whole, found = fitted(store, batch_size=batch_size)

    class Stop:
        """A keeper whose last moment is one in the middle of the second epoch."""

        def __init__(self):
            self.kept = None

        def tell(self, moment):
            if self.kept is None and moment.state.epoch == 1 and moment.state.epoch_examples > 2 * batch_size:
                model = moment.model()
                self.kept = moment._replace(model=lambda: model)

        def state(self):
            return self.kept

        def setup(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

    stop = Stop()
    monkeypatch.setattr("fullbatch.training.native_batches.SLICE", 0.0)
    estimator(store, batch_size=batch_size).set_callbacks(stop).fit(store)
    assert stop.kept is not None
    again = estimator(store, batch_size=batch_size).fit(store, resume=stop)
    parts = [*again.coefs_, *again.intercepts_, np.array(again.loss_curve_), np.array(again.validation_costs_)]
    assert all(map(np.array_equal, found, parts))
    assert whole.t_ == again.t_


def test_what_a_store_does_not_go_with(store, tmp_path):
    for given in ({"y": [1]}, {"sample_weight": [1.0]}, {"X_val": store}):
        with pytest.raises(ValueError, match="fit\\(store\\) takes no y"):
            estimator(store).fit(store, **given)
    other = fb.MLPRegressor() if store.classes else fb.MLPClassifier()
    with pytest.raises(ValueError, match="which was made to"):
        other.fit(store)
    stores.convert(rows(store.task), tmp_path / "all", "y", validation=0.0)
    with fb.open_store(tmp_path / "all") as whole, pytest.raises(ValueError, match="needs held-out rows"):
        estimator(store, early_stopping=True).fit(whole)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"validation": 0.3}, "validation=0.3 was decided"),
        ({"categorical": ["x0"]}, "categorical="),
        ({"max_levels": 3}, "max_levels=3"),
        ({"dtype": "float64"}, "dtype='float64'"),
    ],
)
def test_tables_refuse_what_was_decided(store, params, words):
    kind = fb.TableClassifier if store.classes else fb.TableRegressor
    with pytest.raises(InputError, match=words):
        kind(**params).fit(store)
    with pytest.raises(InputError, match="target is the store's own"):
        kind().fit(store, target="x0")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_tables_learn_from_a_store_and_predict_tables(store, tmp_path):
    kind = fb.TableClassifier if store.classes else fb.TableRegressor
    model = kind(hidden=(6,), epochs=30, batch_size=50, learning_rate=0.01, validation=0.2).fit(store, target="y")
    table = rows(store.task, 400)
    assert model.score(table) > 0.8
    assert model.record_["held_out"]["m"] == store.held_out.m
    assert model.record_["rows"] == store.shape[0]
    fb.save(model, tmp_path / "model")
    assert np.array_equal(fb.load(tmp_path / "model").predict(table), model.predict(table))
    for solver in ("gd", "lbfgs"):
        kind(hidden=(3,), epochs=2, solver=solver).fit(store)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_weights_of_a_store_are_those_of_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "leaf_size", lambda n: 256)
    monkeypatch.setattr(stores, "WINDOW", 12_000)
    weight = np.random.default_rng(3).integers(1, 4, M)
    stores.convert({**rows("classify"), "w": weight}, tmp_path / "store", "y", weight="w", validation=0.0)
    with fb.open_store(tmp_path / "store") as store:
        found = store.to_arrays()
        X, y = examples_of(found, store.n, 2).X, np.array(store.classes)[found.y]
        for solver in ("gd", "lbfgs"):
            model, plain = (estimator(store, solver=solver) for _ in range(2))
            model.fit(store)
            plain.fit(X, y, sample_weight=found.weight)
            assert all(map(np.array_equal, model.coefs_, plain.coefs_))
        _, ours = fitted(store, batch_size=70)
        _, loaded = fitted(store.load(), batch_size=70)
        assert all(map(np.array_equal, ours, loaded))
        assert not np.array_equal(ours[0], estimator(store, batch_size=70, alpha=1.0).fit(store).coefs_[0])


def test_patience_ends_a_training_from_a_store(store):
    kind = fb.TableClassifier if store.classes else fb.TableRegressor
    params = {"hidden": (4,), "epochs": 200, "learning_rate": 0.05, "batch_size": 50}
    model = kind(**params, patience=3, validation=0.2).fit(store)
    assert model.record_["ended"]["epoch"] < 200
    with pytest.raises(InputError, match="goes with a table, and not with a store"):
        kind(group="x0").fit(store)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("task", ["classify", "regress"])
def test_a_model_of_a_store_goes_on_from_its_checkpoint(task, tmp_path):
    table = rows(task)
    stores.convert(table, tmp_path / "store", "y", validation=0.2)
    kind = fb.TableClassifier if task == "classify" else fb.TableRegressor
    with fb.open_store(tmp_path / "store") as store:
        for epochs in (2, 4):
            resume = fb.Checkpoint(tmp_path / "kept") if epochs == 4 else None
            model = kind(hidden=(3,), solver="lbfgs", epochs=epochs)
            model.set_callbacks(resume or fb.Checkpoint(tmp_path / "kept")).fit(store, resume=resume)
        expected = kind(hidden=(3,), solver="lbfgs", epochs=4).fit(store)
    assert set(resume.state().facts["data"]) == {"X", "X_val"}
    np.testing.assert_array_equal(model.network_.theta, expected.network_.theta)
    changed = {**table, "y": np.concatenate([table["y"][1:], table["y"][:1]])}  # another target alone
    stores.convert(changed, tmp_path / "other", "y", validation=0.2)
    with fb.open_store(tmp_path / "other") as other, pytest.raises(InputError, match="X has other"):
        kind(hidden=(3,), solver="lbfgs", epochs=9).fit(other, resume=fb.Checkpoint(tmp_path / "kept"))
