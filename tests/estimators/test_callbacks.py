"""scikit-learn's own callback protocol (sklearn.callback): one task for each epoch, for every solver."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from fullbatch import LogisticRegression, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = scale(X)
ESTIMATORS = [
    (MLPClassifier, "adam"), (MLPClassifier, "gd"), (MLPClassifier, "lbfgs"),
    (MLPRegressor, "sgd"), (MLPRegressor, "lbfgs"),
    (LogisticRegression, "lbfgs"), (LogisticRegression, "adam"),
]  # fmt: skip
each_estimator = pytest.mark.parametrize(("make", "solver"), ESTIMATORS)


class Recorder:
    """Notes what it is told, and what the estimator's attributes were then."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.epochs: list[dict[str, Any]] = []
        self.given: dict[str, Any] = {}

    def setup(self, estimator: Any, context: Any) -> None:
        self.calls.append(("setup", context.task_name))
        self.max_subtasks = context.max_subtasks

    def teardown(self, estimator: Any, context: Any) -> None:
        self.calls.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator: Any, context: Any, *, X: Any = None, y: Any = None) -> None:
        self.calls.append(("begin", context.task_name))

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, X: Any = None, y: Any = None, metadata: Any = None,
        fitted_estimator: Any = None,
    ) -> None:  # fmt: skip
        self.calls.append(("end", context.task_name))
        self.given = {"X": X, "y": y, "metadata": metadata}
        if context.max_subtasks == 0:  # a leaf: not the whole fit
            self.epochs.append({
                "costs": len(estimator.loss_curve_),
                "n_iter": estimator.n_iter_,
                "t": estimator.t_,
                "held_out": None if estimator.validation_costs_ is None else len(estimator.validation_costs_),
                "score": fitted_estimator.score(X, y),
                "fitted": fitted_estimator,
            })  # fmt: skip


class StopAfter:
    """Early stopping of one's own: True from the n-th epoch on."""

    def __init__(self, epochs: int, error: type[BaseException] | None = None) -> None:
        self.epochs, self.error = epochs, error

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    def teardown(self, estimator: Any, context: Any) -> None:
        self.torn_down = True

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        if context.max_subtasks == 0 and estimator.n_iter_ >= self.epochs:
            if self.error:
                raise self.error
            return True
        return False


@each_estimator
def test_one_task_for_each_epoch_with_everything_up_to_date(make: Any, solver: str) -> None:
    recorder = Recorder()
    model = make(solver=solver, max_iter=5, random_state=0).set_callbacks(recorder)
    model.fit(X, Y, X_val=X[:30], y_val=Y[:30])
    n_iter = int(np.ravel(model.n_iter_)[0])
    kinds = [kind for kind, _ in recorder.calls]
    assert kinds == ["setup", "begin", *["begin", "end"] * n_iter, "end", "teardown"]
    assert recorder.max_subtasks == 5
    assert [epoch["n_iter"] for epoch in recorder.epochs] == list(range(1, n_iter + 1))
    assert [epoch["costs"] for epoch in recorder.epochs] == list(range(1, n_iter + 1))
    assert [epoch["held_out"] for epoch in recorder.epochs] == list(range(1, n_iter + 1))
    assert recorder.epochs[-1]["t"] == model.t_
    if solver != "lbfgs":
        assert [epoch["t"] for epoch in recorder.epochs] == [150 * i for i in range(1, n_iter + 1)]
    assert recorder.epochs[-1]["score"] == model.score(X, Y)
    first, last = recorder.epochs[0]["fitted"], recorder.epochs[-1]["fitted"]
    np.testing.assert_array_equal(last.coefs_[0], model.coefs_[0])
    assert not np.array_equal(first.coefs_[0], last.coefs_[0])
    assert recorder.given["X"] is X
    assert recorder.given["metadata"] is None


def test_metadata_are_the_weights() -> None:
    recorder = Recorder()
    weight = np.ones(150)
    MLPClassifier(max_iter=1).set_callbacks(recorder).fit(X, Y, sample_weight=weight)
    assert recorder.given["metadata"] == {"sample_weight": weight}


@each_estimator
def test_a_callback_stops_the_training(make: Any, solver: str) -> None:
    stop = StopAfter(3)
    model = make(solver=solver, max_iter=50, random_state=0, tol=0).set_callbacks(stop).fit(X, Y)
    assert np.ravel(model.n_iter_)[0] == 3
    assert len(model.loss_curve_) == 3
    assert stop.torn_down
    shorter = make(solver=solver, max_iter=3, random_state=0, tol=0).fit(X, Y)
    np.testing.assert_allclose(model.coefs_[0], shorter.coefs_[0], rtol=1e-12)


@each_estimator
def test_ctrl_c_in_a_callback_keeps_the_model(make: Any, solver: str) -> None:
    model = make(solver=solver, max_iter=50, random_state=0, tol=0).set_callbacks(StopAfter(3, KeyboardInterrupt))
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        model.fit(X, Y)
    shorter = make(solver=solver, max_iter=3, random_state=0, tol=0).fit(X, Y)
    np.testing.assert_allclose(model.coefs_[0], shorter.coefs_[0], rtol=1e-12)
    assert model.predict(X).shape == (150,)


def test_an_error_in_a_callback_is_not_swallowed() -> None:
    stop = StopAfter(2, RuntimeError)
    with pytest.raises(RuntimeError):
        MLPClassifier(max_iter=9).set_callbacks(stop).fit(X, Y)
    assert stop.torn_down


def test_partial_fit_is_one_epoch() -> None:
    recorder = Recorder()
    model = MLPClassifier(random_state=0).set_callbacks(recorder)
    model.partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y)
    assert [kind for kind, _ in recorder.calls] == ["setup", "begin", "begin", "end", "end", "teardown"] * 2
    assert [epoch["costs"] for epoch in recorder.epochs] == [1, 2]


@each_estimator
def test_scoring_monitor(make: Any, solver: str) -> None:
    monitor = ScoringMonitor(scoring="accuracy" if make is not MLPRegressor else "r2")
    model = make(solver=solver, max_iter=4, random_state=0, tol=0).set_callbacks(monitor).fit(X, Y)
    rows = [row for row in monitor.get_logs().data if row["parent_task_id_path"] != ()]
    assert len(rows) == np.ravel(model.n_iter_)[0] == 4
    name = "accuracy" if make is not MLPRegressor else "r2"
    assert rows[-1][name] == pytest.approx(model.score(X, Y))
    assert len({row[name] for row in rows}) > 1


def test_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    MLPClassifier(max_iter=4).set_callbacks(ProgressBar()).fit(X, Y)
    assert "MLPClassifier - fit" in capsys.readouterr().out


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_callbacks_reach_the_estimators_of_a_search_in_a_pipeline(n_jobs: int) -> None:
    """Also from worker processes: two values, two folds and the final fit, three epochs each."""
    monitor = ScoringMonitor(scoring="accuracy")
    model = MLPClassifier(max_iter=3, random_state=0).set_callbacks(monitor)
    pipeline = make_pipeline(StandardScaler(), model)
    GridSearchCV(pipeline, {"mlpclassifier__alpha": [0.0, 1.0]}, cv=2, n_jobs=n_jobs).fit(X, Y)
    rows = [row for log in monitor.get_logs(select="all") for row in log.data]
    epochs = [row for row in rows if row["task_name"].startswith("epoch ")]
    assert len(epochs) == 5 * 3
    assert all(0 <= row["accuracy"] <= 1 for row in epochs)


def test_progress_bar_of_a_pipeline_reaches_the_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(max_iter=3, random_state=0))
    pipeline.set_callbacks(ProgressBar()).fit(X, Y)
    out = capsys.readouterr().out
    assert "Pipeline - fit" in out
    assert "MLPClassifier - fit" in out


def test_callbacks_change_nothing() -> None:
    plain = MLPClassifier(max_iter=5, random_state=0).fit(X, Y)
    watched = MLPClassifier(max_iter=5, random_state=0).set_callbacks(Recorder()).fit(X, Y)
    assert watched.loss_curve_ == plain.loss_curve_
