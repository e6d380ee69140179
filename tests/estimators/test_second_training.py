"""``retrain``: a second training, for as many epochs as early stopping found best, within one fit."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.callback import ProgressBar

import fullbatch as fb

rng = np.random.default_rng(8)
X = rng.standard_normal((300, 12))
Y = (X[:, 0] + 1.5 * rng.standard_normal(300) > 0).astype(int)
# Mostly noise, and large steps: the held-out cost is at its best soon, and then rises.
SOON: dict[str, Any] = {
    "hidden_layer_sizes": (32,), "learning_rate": "linear", "learning_rate_init": 0.02, "max_iter": 30,
    "batch_size": 20, "early_stopping": True, "n_iter_no_change": np.inf, "scoring": "loss", "validation_fraction": 0.3,
    "random_state": 0,
}  # fmt: skip


def best_of(costs: list[float]) -> int:
    return int(np.argmin(costs)) + 1


@pytest.fixture(scope="module")
def once() -> fb.MLPClassifier:
    return fb.MLPClassifier(**SOON).fit(X, Y)


@pytest.fixture(scope="module")
def twice() -> fb.MLPClassifier:
    return fb.MLPClassifier(**SOON, retrain=True).fit(X, Y)


def test_the_second_follows_the_first_and_the_best_epoch_of_both_is_kept(once, twice):
    best = best_of(once.validation_costs_)
    assert twice.retraining_ == [30, max(best, 3)]
    assert twice.loss_curve_[:30] == once.loss_curve_
    assert twice.validation_costs_[:30] == once.validation_costs_
    assert len(twice.loss_curve_) == len(twice.validation_costs_) == twice.n_iter_ == 30 + max(best, 3)
    assert twice.best_validation_score_ == -min(twice.validation_costs_)
    assert twice.t_ == twice.n_iter_ * 210


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_has_the_bits_of_a_training_of_so_many_epochs(solver, dtype):
    """Without shuffled orders, which go on where those of the first ended."""
    settings = {**SOON, "shuffle": False, "solver": solver, "learning_rate_init": 0.02 if solver == "adam" else 0.3}
    given = X[:200].astype(dtype), Y[:200], None
    held_out = {"X_val": X[200:].astype(dtype), "y_val": Y[200:]}
    model = fb.MLPClassifier(**settings, retrain=True).fit(*given, **held_out)
    after, epochs = model.retraining_
    alone = fb.MLPClassifier(**{**settings, "max_iter": epochs}).fit(*given, **held_out)
    assert model.loss_curve_[after:] == alone.loss_curve_
    assert model.validation_costs_[after:] == alone.validation_costs_
    first = fb.MLPClassifier(**settings).fit(*given, **held_out)
    better = alone if min(alone.validation_costs_) < min(first.validation_costs_) else first
    assert all(np.array_equal(a, b) for a, b in zip(model.coefs_, better.coefs_, strict=True))


def test_one_that_is_no_better_leaves_the_first_ones_best():
    """With a validation set by whose cost the first epochs, of large steps, were best."""
    found = set()
    for seed in range(12):
        settings = {**SOON, "random_state": seed, "max_iter": 12}
        one, two = (fb.MLPClassifier(**settings, retrain=retrain).fit(X, Y) for retrain in (False, True))
        if two.retraining_ is None:
            continue
        costs = two.validation_costs_
        better = min(costs[12:]) < min(costs[:12])
        found.add(better)
        assert min(costs[:12]) == min(one.validation_costs_)
        assert better != all(np.array_equal(a, b) for a, b in zip(two.coefs_, one.coefs_, strict=True))
    assert found == {True, False}


def test_a_best_epoch_that_comes_late_is_the_end(once):
    settings = {**SOON, "learning_rate_init": 1e-4}
    one, two = (fb.MLPClassifier(**settings, retrain=retrain).fit(X, Y) for retrain in (False, True))
    assert best_of(two.validation_costs_) > 20
    assert two.retraining_ is None
    assert one.loss_curve_ == two.loss_curve_
    assert all(np.array_equal(a, b) for a, b in zip(one.coefs_, two.coefs_, strict=True))
    assert once.retraining_ is None


def test_a_score_chooses_as_well_as_a_cost():
    settings = {**SOON, "scoring": None, "learning_rate_init": 0.05}
    model = fb.MLPClassifier(**settings, retrain=True).fit(X, Y)
    after, epochs = model.retraining_
    assert epochs == max(int(np.argmax(model.validation_scores_[:after])) + 1, 3)
    assert len(model.validation_scores_) == after + epochs
    assert model.best_validation_score_ == max(model.validation_scores_)


def test_a_plateau_ends_the_first_alone(capsys):
    model = fb.MLPClassifier(**{**SOON, "n_iter_no_change": 5, "tol": 0.0}, retrain=True, verbose=True).fit(X, Y)
    after, epochs = model.retraining_
    best = best_of(model.validation_costs_[:after])
    assert after == best + 6 < 30  # scikit-learn waits for one more than it says
    assert model.n_iter_ == after + epochs
    assert (
        f"Epoch {best} of {after} was the best: training once more, for {epochs} epochs.\n" in capsys.readouterr().out
    )


class Ends:
    """A callback that ends the training, or interrupts it, after so many epochs."""

    def __init__(self, after: int, error: type[BaseException] | None = None) -> None:
        self.after, self.error, self.epochs = after, error, 0

    def setup(self, estimator: Any, context: Any) -> None:
        self.most = context.max_subtasks

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        if context.max_subtasks == 0:
            self.epochs += 1
            if self.epochs == self.after and self.error is not None:
                raise self.error
        return self.epochs == self.after

    def teardown(self, estimator: Any, context: Any) -> None:
        pass


@pytest.mark.parametrize("after", [10, 30])
def test_a_callback_that_ends_the_training_ends_all_of_it(once, after):
    ends = Ends(after)
    model = fb.MLPClassifier(**SOON, retrain=True).set_callbacks(ends).fit(X, Y)
    assert (model.n_iter_, model.retraining_, ends.most) == (after, None, 49)
    assert model.validation_costs_ == once.validation_costs_[:after]


def test_callbacks_hear_of_every_epoch(twice):
    ends = Ends(10**9)
    model = fb.MLPClassifier(**SOON, retrain=True).set_callbacks(ends, ProgressBar()).fit(X, Y)
    assert ends.epochs == model.n_iter_ == twice.n_iter_
    assert model.validation_costs_ == twice.validation_costs_


def test_ctrl_c_in_the_second_keeps_the_best_so_far(once, twice):
    with pytest.warns(UserWarning, match="interrupted by user"):
        model = fb.MLPClassifier(**SOON, retrain=True).set_callbacks(Ends(31, KeyboardInterrupt)).fit(X, Y)
    assert model.n_iter_ == 31
    assert model.validation_costs_ == twice.validation_costs_[:31]
    assert min(model.validation_costs_) == min(once.validation_costs_)
    assert all(np.array_equal(a, b) for a, b in zip(model.coefs_, once.coefs_, strict=True))


def test_a_model_keeps_it_in_files_and_copies(tmp_path, twice):
    fb.save(twice, tmp_path / "m.fullbatch")
    for other in (fb.load(tmp_path / "m.fullbatch"), pickle.loads(pickle.dumps(twice)), copy.deepcopy(twice)):
        assert other.retraining_ == twice.retraining_
        assert other.retrain


def test_what_follows_it_goes_on_without(twice):
    """partial_fit counts on, with a rate that is at its end as after any such fit."""
    model = copy.deepcopy(twice).set_params(early_stopping=False, retrain=False)
    model.partial_fit(X, Y)
    assert model.n_iter_ == 1
    assert model.retraining_ is None


@pytest.mark.parametrize(
    "other",
    [{"early_stopping": False}, {"learning_rate": "constant"}, {"solver": "lbfgs"}, {"warm_start": True}],
)
def test_what_it_needs_is_said(other):
    with pytest.raises(ValueError, match="retrain=True"):
        fb.MLPClassifier(**{**SOON, **other}, retrain=True).fit(X, Y)
