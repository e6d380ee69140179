"""A training that was cut short and goes on from its checkpoint has the bits of one that was never interrupted."""

from __future__ import annotations

import copy
import json
import warnings
import weakref
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from safetensors.numpy import save as to_bytes

import fullbatch as fb
from fullbatch.errors import InputError, ModelFileError
from fullbatch.estimators import descent
from fullbatch.saving import checkpoint as checkpoints
from fullbatch.saving import evaluation_log
from fullbatch.saving.model_file import FORMAT, read, sealed
from fullbatch.training import native_batches
from fullbatch.training.objective import Objective

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

M = 70
rng = np.random.default_rng(5)
X = rng.standard_normal((M, 4))
LABELS = np.array(["no", "yes"])[(X[:, 0] + X[:, 1] ** 2 > 0.7).astype(int)]
THREE = np.digitize(X[:, 0], [-0.5, 0.5])
NUMBERS = X[:, 0] - 2 * X[:, 1] ** 2
COUNTS = rng.poisson(np.exp(X[:, 0] / 2))
SEVERAL = (X[:, :3] > 0).astype(int)
WEIGHT = rng.uniform(0.1, 2, M)


class Stop(Exception):
    """The process dies here, as far as the training can tell."""


class Cut(fb.Checkpoint):
    """Writes each update, and dies after so many notes."""

    def __init__(self, path: Any, after: float = np.inf, error: type[BaseException] = Stop) -> None:
        super().__init__(path, seconds=0)
        self.after, self.error, self.notes = after, error, 0
        self.places: set[int] = set()

    def due(self) -> bool:
        return True  # at every moment: it is to die at one between two writings too

    def tell(self, moment: Any) -> None:
        super().tell(moment)
        self.notes += 1
        self.places.add(moment.state.epoch_examples)
        if self.notes == self.after:
            raise self.error


@pytest.fixture(autouse=True)
def one_batch_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The native training comes back after each batch, and not after a fifth of a second."""
    monkeypatch.setattr(native_batches, "SLICE", 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "late.ckpt"


def same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and (a.tobytes() == b.tobytes() if a.dtype != object else all(a == b))
        )
    return type(a) is type(b) and (a == b or (a != a and b != b))


def check_same(whole: Any, other: Any, leave_out: tuple[str, ...] = ()) -> None:
    """All that a fit leaves, bit for bit, what partial_fit goes on from too."""
    names = {name for name in vars(whole) if name.endswith("_") or name == "_no_improvement_count"} - set(leave_out)
    assert names <= set(vars(other))
    assert [name for name in sorted(names) if not same(getattr(whole, name), getattr(other, name))] == []
    if (state := vars(whole).get("_optimizer")) is not None and "_optimizer" in vars(other):
        assert same(tuple(state.arrays), tuple(other._optimizer.arrays))
        assert (state.updates, state.learning_rate) == (other._optimizer.updates, other._optimizer.learning_rate)


def drawn(notes: int, seed: int, k: int = 3) -> list[int]:
    """Moments to die at: the first, and some within."""
    return sorted({1, *np.random.default_rng(seed).integers(2, notes - 1, k).tolist()})


MLP: dict[str, Any] = {"hidden_layer_sizes": (5,), "random_state": 3, "batch_size": 16, "max_iter": 6, "tol": 0.0}
FITS: dict[str, Any] = {
    "adam": (fb.MLPClassifier, MLP, (X, LABELS), {}),
    "adam, float32, not shuffled": (fb.MLPClassifier, {**MLP, "shuffle": False}, (X.astype("f4"), THREE), {}),
    "adam, linear": (fb.MLPRegressor, {**MLP, "learning_rate": "linear"}, (X, NUMBERS), {}),
    "adam, early stopping": (
        fb.MLPClassifier,
        {**MLP, "early_stopping": True, "n_iter_no_change": 3, "max_iter": 12},
        (X, LABELS), {},
    ),
    "adam, retrain": (
        fb.MLPClassifier,
        {**MLP, "early_stopping": True, "learning_rate": "linear", "learning_rate_init": 0.1, "retrain": True},
        (X, LABELS), {},
    ),
    "adam, early stopping by loss, held out": (
        fb.MLPClassifier,
        {**MLP, "early_stopping": True, "scoring": "loss", "learning_rate": "linear"},
        (X[:50], LABELS[:50]), {"X_val": X[50:], "y_val": LABELS[50:]},
    ),
    "sgd, Nesterov, adaptive": (
        fb.MLPClassifier,
        {**MLP, "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.5, "tol": 0.05,
         "n_iter_no_change": 1, "max_iter": 9},
        (X, LABELS), {},
    ),
    "sgd, momentum, invscaling": (
        fb.MLPRegressor,
        {**MLP, "solver": "sgd", "nesterovs_momentum": False, "learning_rate": "invscaling", "learning_rate_init": 0.1},
        (X, NUMBERS), {"sample_weight": WEIGHT},
    ),
    "sgd, class weights and example weights": (
        fb.MLPClassifier,
        {**MLP, "solver": "sgd", "class_weight": "balanced"}, (X, THREE), {"sample_weight": WEIGHT},
    ),
    "sgd, Poisson": (fb.MLPRegressor, {**MLP, "solver": "sgd", "loss": "poisson"}, (X, COUNTS), {}),
    "adam, several labels, sparse": (fb.MLPClassifier, MLP, (scipy.sparse.csr_array(X * (X > 0)), SEVERAL), {}),
    "gd": (fb.MLPClassifier, {**MLP, "solver": "gd", "learning_rate": "adaptive", "max_iter": 14}, (X, LABELS), {}),
    "full batches of adam": (fb.MLPClassifier, {**MLP, "batch_size": "full", "max_iter": 14}, (X, LABELS), {}),
    "adam, dropout": (fb.MLPClassifier, {**MLP, "dropout": 0.4}, (X, LABELS), {}),
    "lbfgs": (fb.MLPClassifier, {**MLP, "solver": "lbfgs", "max_iter": 25}, (X, LABELS), {}),
    "lbfgs, float32, held out": (
        fb.MLPRegressor,
        {**MLP, "solver": "lbfgs", "max_iter": 14},
        (X[:50].astype("f4"), NUMBERS[:50]), {"X_val": X[50:], "y_val": NUMBERS[50:]},
    ),
    "logistic": (fb.LogisticRegression, {}, (X, LABELS), {"sample_weight": WEIGHT}),
    "logistic, adam": (fb.LogisticRegression, {"solver": "adam", "random_state": 1, "max_iter": 5}, (X, THREE), {}),
}  # fmt: skip


@pytest.mark.parametrize("twin", ["native", "python"])
@pytest.mark.parametrize("name", FITS)
def test_resumed_is_uninterrupted(name: str, twin: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut at drawn moments, within epochs too, and gone on with on another number of threads."""
    if twin == "python":
        monkeypatch.setenv("FULLBATCH_NATIVE", "off")
    kind, params, data, more = FITS[name]
    whole = kind(**params).fit(*data, **more)
    kept = Cut(path)
    check_same(whole, kind(**params).set_callbacks(kept).fit(*data, **more))
    check_same(whole, fb.load(path), leave_out=("note_",))
    if params.get("batch_size") == 16 and params.get("solver", "adam") in ("adam", "sgd"):
        assert len(kept.places) > 2  # moments within an epoch were among them
    for after in drawn(kept.notes, seed=len(name)):
        cut = Cut(path, after)
        with pytest.raises(Stop):
            kind(**params).set_callbacks(cut).fit(*data, **more)
        so_far = fb.load(path)
        assert so_far.predict(data[0]).shape[0] == data[0].shape[0]
        goes_on = Cut(path)
        resumed = kind(**params, n_jobs=2).set_callbacks(goes_on).fit(*data, **more, resume=goes_on)
        check_same(whole, resumed)
        assert goes_on.notes <= kept.notes + 1


def test_a_cut_anywhere_about_the_start_of_a_second_training_changes_nothing(path: Path) -> None:
    """From the last batches of the first one on, by a generator of no seed, whose start is drawn again."""
    kind, params, data, more = FITS["adam, retrain"]

    def made() -> Any:
        return kind(**{**params, "random_state": np.random.RandomState(3)})

    whole = made().fit(*data, **more)
    assert whole.retraining_ == [6, 3]
    kept = Cut(path)
    made().set_callbacks(kept).fit(*data, **more)
    each = kept.notes // 9
    for after in range(6 * each - 2, 6 * each + 5):
        with pytest.raises(Stop):
            made().set_callbacks(Cut(path, after)).fit(*data, **more)
        check_same(whole, made().fit(*data, **more, resume=fb.Checkpoint(path)))


@pytest.mark.parametrize("name", ["adam", "adam, early stopping", "adam, retrain", "gd", "lbfgs"])
def test_ctrl_c_keeps_the_training(name: str, path: Path) -> None:
    """Of an hour between two writings there is a last one; it goes on in another file, cut again and again."""
    kind, params, data, more = FITS[name]
    whole = kind(**params).fit(*data, **more)
    resume = None
    for attempt, after in enumerate((5, 3, 4)):
        kept = Cut(path.with_name(f"{attempt}.ckpt"), after, KeyboardInterrupt)
        kept.seconds = 3600.0
        with pytest.warns(UserWarning, match="interrupted by user"):
            model = kind(**params).set_callbacks(kept).fit(*data, **more, resume=resume)
        resume = fb.Checkpoint(kept.path)
        check_same(model, fb.load(kept.path), leave_out=("note_",))
    check_same(whole, kind(**params).fit(*data, **more, resume=resume))


@pytest.mark.parametrize("random_state", [None, "instance"])
def test_a_generator_of_no_seed_goes_on(random_state: Any, path: Path) -> None:
    """Start, split and order follow from what the generator was; everybody's generator is left alone."""

    def made() -> Any:
        state = np.random.RandomState(8) if random_state else None
        return fb.MLPClassifier(**{**MLP, "random_state": state, "early_stopping": True})

    np.random.seed(8)  # noqa: NPY002
    whole = made().fit(X, LABELS)
    np.random.seed(8)  # noqa: NPY002
    with pytest.raises(Stop):
        made().set_callbacks(Cut(path, 8)).fit(X, LABELS)
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    check_same(whole, made().fit(X, LABELS, resume=fb.Checkpoint(path)))
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_warm_start_is_kept_and_goes_on(path: Path) -> None:
    def warm() -> Any:
        return fb.MLPClassifier(**MLP, warm_start=True).fit(X, LABELS)

    whole = warm().fit(X, LABELS)
    with pytest.raises(Stop):
        warm().set_callbacks(Cut(path, 9)).fit(X, LABELS)
    resumed = fb.MLPClassifier(**MLP).fit(X, LABELS, resume=fb.Checkpoint(path))
    check_same(whole, resumed)
    assert len(resumed.loss_curve_) == 12


@pytest.mark.parametrize("name", ["adam", "gd", "lbfgs"])
def test_more_epochs_go_on_where_fewer_were_over(name: str, path: Path) -> None:
    kind, params, data, more = FITS[name]
    whole = kind(**params).fit(*data, **more)
    kept = fb.Checkpoint(path)
    kind(**{**params, "max_iter": 4}).set_callbacks(kept).fit(*data, **more)
    check_same(whole, kind(**params).set_callbacks(kept).fit(*data, **more, resume=kept))


@pytest.mark.parametrize(
    "name", ["adam", "sgd, Nesterov, adaptive", "adam, early stopping", "adam, retrain", "lbfgs", "logistic"]
)
def test_a_training_at_its_end_says_so_and_stays(name: str, path: Path) -> None:
    kind, params, data, more = FITS[name]
    kept = fb.Checkpoint(path)
    whole = kind(**params).set_callbacks(kept).fit(*data, **more)
    content = path.read_bytes()
    with pytest.warns(UserWarning, match=r"is at its end \(.+\); the model is as the checkpoint has it"):
        again = kind(**params).set_callbacks(kept).fit(*data, **more, resume=kept)
    check_same(whole, again)
    assert path.read_bytes() == content


def test_partial_fit_goes_on_from_the_model_of_a_checkpoint(path: Path) -> None:
    kept = fb.MLPClassifier(**MLP).set_callbacks(fb.Checkpoint(path)).fit(X, LABELS)
    with pytest.raises(InputError, match="partial_fit keeps no checkpoints"):
        kept.partial_fit(X, LABELS)
    check_same(kept.set_callbacks().partial_fit(X, LABELS), fb.load(path).partial_fit(X, LABELS))


@pytest.mark.parametrize("every", [1, 3 * M])
def test_an_order_is_kept_rather_than_all_are_drawn_again(
    every: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the sixth epoch, of each epoch or of the third one: the same bits follow from the kept one."""
    monkeypatch.setattr(descent, "REDRAWN", every)
    whole = fb.MLPClassifier(**MLP).fit(X, LABELS)
    with pytest.raises(Stop):
        fb.MLPClassifier(**MLP).set_callbacks(Cut(path, 5 * 5 + 3)).fit(X, LABELS)
    order = fb.Checkpoint(path).state().state.order
    assert (order.drawn, order.kept.drawn) == (5, 5 if every == 1 else 3)
    assert sorted(order.kept.indices) == list(range(M))
    drawn, shuffle = [], np.random.RandomState.shuffle

    class Counts(np.random.RandomState):
        def shuffle(self, x: Any) -> None:
            drawn.append(len(x))
            shuffle(self, x)

    monkeypatch.setattr("fullbatch.estimators.base.check_random_state", Counts)
    check_same(whole, fb.MLPClassifier(**MLP).fit(X, LABELS, resume=fb.Checkpoint(path)))
    assert drawn == [M] * (1 if every == 1 else 3)  # those since the kept one, and the running epoch's


def test_no_order_is_kept_where_they_are_soon_drawn(path: Path) -> None:
    fb.MLPClassifier(**MLP).set_callbacks(fb.Checkpoint(path)).fit(X, LABELS)
    order = fb.Checkpoint(path).state().state.order
    assert (order.drawn, order.kept) == (6, None)
    assert path.stat().st_size < 40_000


# --- Functions -------------------------------------------------------------------------------------------------------

NETWORK = fb.Network([4, 3, 1])
PARAMS = NETWORK.init(seed=2)
COLUMNS = (np.ascontiguousarray(X.T), (LABELS == "yes").astype(float)[None, :])


@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": 0.6}, {"momentum": 0.6, "nesterov": True, "l2": 0.1}, {"tol": 2e-3}, {"sample_weight": WEIGHT}],
)
def test_gradient_descent_goes_on_to_the_same_bits(settings: dict[str, Any], path: Path) -> None:
    def descend(**more: Any) -> fb.Run:
        return fb.gradient_descent(NETWORK, PARAMS, *COLUMNS, learning_rate=0.8, iterations=25, **settings, **more)

    whole, kept = descend(), Cut(path)
    noted = descend(checkpoint=kept)
    assert (noted.costs, noted.stopped) == (whole.costs, whole.stopped)
    for after in drawn(kept.notes, seed=4):
        with pytest.raises(Stop):
            descend(checkpoint=Cut(path, after))
        assert isinstance(fb.load(path)[0], fb.Layer)
        resumed = descend(resume=fb.Checkpoint(path), threads=2)
        assert (resumed.costs, resumed.stopped) == (whole.costs, whole.stopped)
        assert same([list(layer) for layer in resumed.params], [list(layer) for layer in whole.params])
    with pytest.raises(KeyboardInterrupt):
        descend(checkpoint=Cut(path, 5, KeyboardInterrupt))
    ended = descend(resume=fb.Checkpoint(path), checkpoint=fb.Checkpoint(path))
    assert ended.costs == whole.costs
    with pytest.warns(UserWarning, match="is at its end"):
        assert descend(resume=fb.Checkpoint(path)).costs == whole.costs


def test_a_diverged_training_keeps_the_parameters_that_were_numbers(path: Path) -> None:
    def diverge(**more: Any) -> None:
        fb.gradient_descent(
            fb.Network([4, 1], output="identity"), [fb.Layer(np.ones((1, 4)), np.zeros((1, 1)))],
            COLUMNS[0] * 1e3, COLUMNS[1], learning_rate=1e6, iterations=50, **more,
        )  # fmt: skip

    with pytest.raises(fb.errors.NonFiniteError) as whole:
        diverge(checkpoint=Cut(path))
    assert np.isfinite(fb.load(path)[0].W).all()
    with pytest.raises(fb.errors.NonFiniteError) as resumed:
        diverge(resume=fb.Checkpoint(path))
    assert resumed.value.iteration == whole.value.iteration


# --- The log of L-BFGS -----------------------------------------------------------------------------------------------


def cut_lbfgs(path: Path, after: int = 20) -> Any:
    kind, params, data, _ = FITS["lbfgs"]
    with pytest.raises(Stop):
        kind(**params).set_callbacks(Cut(path, after)).fit(*data)
    return kind(**params)


def log_of(path: Path) -> Path:
    (log,) = path.parent.glob(f"{path.name}.*.log")
    return log


class Tasks:
    """A callback that notes which iterations it is told of."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def setup(self, estimator: Any, context: Any) -> None: ...
    def teardown(self, estimator: Any, context: Any) -> None: ...
    def on_fit_task_begin(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        self.names.append(context.task_name)


def test_what_the_log_has_is_neither_computed_nor_told_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = count()
    compute = Objective.cost_and_gradient
    monkeypatch.setattr(Objective, "cost_and_gradient", lambda *given: (next(computed), compute(*given))[1])
    whole = FITS["lbfgs"][0](**FITS["lbfgs"][1]).fit(X, LABELS)
    evaluations = next(computed)
    model = cut_lbfgs(path)
    entries = fb.Checkpoint(path).state()
    assert entries.evaluations is not None
    done, epochs = len(list(entries.evaluations)), entries.state.epoch
    assert 5 < done == entries.state.updates
    before, tasks = next(computed), Tasks()
    model.set_callbacks(tasks).fit(X, LABELS, resume=fb.Checkpoint(path))
    assert next(computed) - before - 1 == evaluations - done
    assert tasks.names == [*(f"iteration {i}" for i in range(epochs, whole.n_iter_)), "fit"]


@pytest.mark.parametrize("bytes_off", [1, 200, 3000])
def test_entries_that_are_cut_short_are_computed_again(bytes_off: int, path: Path) -> None:
    model, log = cut_lbfgs(path), log_of(path)
    log.write_bytes(log.read_bytes()[:-bytes_off])
    check_same(FITS["lbfgs"][0](**FITS["lbfgs"][1]).fit(X, LABELS), model.fit(X, LABELS, resume=fb.Checkpoint(path)))


def test_a_damaged_entry_ends_what_is_told_again(path: Path) -> None:
    """And the log that is gone on with is of use to the next who goes on."""
    model, log = cut_lbfgs(path), log_of(path)
    content = bytearray(log.read_bytes())
    content[len(content) // 3] ^= 1
    log.write_bytes(content)
    with pytest.raises(Stop):
        model.set_callbacks(Cut(path, 33)).fit(X, LABELS, resume=fb.Checkpoint(path))
    check_same(FITS["lbfgs"][0](**FITS["lbfgs"][1]).fit(X, LABELS), model.fit(X, LABELS, resume=fb.Checkpoint(path)))


def test_without_its_log_it_goes_on_from_the_parameters(path: Path) -> None:
    model = cut_lbfgs(path)
    log_of(path).unlink()
    kept = fb.Checkpoint(path)
    with pytest.warns(UserWarning, match="is not there: the training goes on from the parameters"):
        model.set_callbacks(kept).fit(X, LABELS, resume=kept)
    whole = FITS["lbfgs"][0](**FITS["lbfgs"][1]).fit(X, LABELS)
    assert model.n_iter_ == len(model.loss_curve_) == whole.n_iter_
    assert model.loss_ < 1.5 * whole.loss_
    with pytest.warns(UserWarning, match="is at its end"):  # the second search has a log of its own
        check_same(model, FITS["lbfgs"][0](**FITS["lbfgs"][1]).fit(X, LABELS, resume=kept))


def test_another_point_is_said_and_the_search_begins_anew(path: Path) -> None:
    """As with another SciPy: what it asks for is not what the log has."""
    model, log = cut_lbfgs(path), log_of(path)
    size = len(fb.Checkpoint(path).state().state.theta)
    entries = list(evaluation_log.read(log, size))
    log.unlink()
    other = evaluation_log.EvaluationLog(log, size)
    for number, entry in enumerate(entries):
        other.append(entry._replace(J=entry.J + 1) if number == 4 else entry)
    other.close()
    with pytest.warns(UserWarning, match="does not ask for the points that it asked for then"):
        model.fit(X, LABELS, resume=fb.Checkpoint(path))
    assert model.n_iter_ == len(model.loss_curve_)


def test_a_log_that_is_full_is_given_up_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_log, "LARGEST", 2000)
    whole = FITS["lbfgs"][0](**FITS["lbfgs"][1]).fit(X, LABELS)
    kept = FITS["lbfgs"][0](**FITS["lbfgs"][1]).set_callbacks(Cut(path))
    with pytest.warns(UserWarning, match="is given up") as told:
        kept.fit(X, LABELS)
    check_same(whole, kept)
    assert len([one for one in told if "given up" in str(one.message)]) == 1
    assert list(path.parent.iterdir()) == [path]
    assert fb.Checkpoint(path).state().evaluations is None


def test_logs_of_earlier_trainings_are_removed(path: Path) -> None:
    beside = path.with_name("late.ckpt.notes.log")
    beside.write_text("a user's own")
    cut_lbfgs(path)
    cut_lbfgs(path)
    logs = [name for name in path.parent.iterdir() if name not in (path, beside)]
    assert len(logs) == 1
    fb.MLPClassifier(**MLP).set_callbacks(fb.Checkpoint(path)).fit(X, LABELS)
    assert sorted(path.parent.iterdir()) == [path, beside]


# --- When it is written, and what goes wrong -------------------------------------------------------------------------


def test_copies_for_a_checkpoint_lie_in_memory_that_was_touched_before(path: Path) -> None:
    """Else the system clears it while the training stands still. A moment that somebody holds keeps its own."""

    class Held(Cut):
        def __init__(self, holds: bool) -> None:
            super().__init__(path)
            self.holds, self.held, self.at = holds, [], set()

        def tell(self, moment: Any) -> None:
            super().tell(moment)
            vectors = (moment.state.theta, *moment.state.arrays)
            if 0 < moment.state.epoch_examples < M:
                self.at.add(tuple(vector.ctypes.data for vector in vectors))
            if self.holds:
                self.held.append((vectors, [vector.copy() for vector in vectors]))

    def trained(holds: bool) -> Held:
        keeper = Held(holds)
        fb.MLPClassifier(**MLP).set_callbacks(keeper).fit(X.astype("f4"), THREE)
        return keeper

    assert len(trained(holds=False).at) == 1
    keeper = trained(holds=True)
    assert len(keeper.at) > 6
    assert all(same(list(vectors), copies) for vectors, copies in keeper.held)


@pytest.mark.parametrize("write", [np.sum, np.linalg.inv])
def test_a_writing_that_is_over_holds_nothing(write: Any) -> None:
    """The copies that it wrote are free for the next checkpoint, though nobody has asked yet how it ended."""
    vector = np.ones(3)
    held = weakref.ref(vector)
    writing = checkpoints._Writing(partial(write, vector))
    del vector
    writing.start()
    writing.join()
    assert (writing.error is not None) == (write is np.linalg.inv)
    assert held() is None


def test_it_is_written_when_it_is_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = count()
    write = checkpoints.write
    monkeypatch.setattr(checkpoints, "write", lambda *given: (next(written), write(*given))[1])
    fb.MLPClassifier(**MLP).set_callbacks(fb.Checkpoint(path, seconds=3600)).fit(X, LABELS)
    assert next(written) == 1  # the last one


def test_where_no_thread_starts_the_training_writes_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: Any) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(checkpoints._Writing, "start", start)
    kept = Cut(path, 9)
    with pytest.raises(Stop):
        fb.MLPClassifier(**MLP).set_callbacks(kept).fit(X, LABELS)
    monkeypatch.undo()
    check_same(fb.MLPClassifier(**MLP).fit(X, LABELS), fb.MLPClassifier(**MLP).fit(X, LABELS, resume=kept))


def test_a_write_that_fails_is_said_and_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts, write = count(), checkpoints.write

    def fails_twice(*given: Any) -> None:
        if next(attempts) < 2:
            raise InputError("cannot write the checkpoint: no space left on device.")
        write(*given)

    monkeypatch.setattr(checkpoints, "write", fails_twice)
    with pytest.warns(UserWarning, match=r"was not written: .*no space left on device\. The next one is tried") as told:
        model = fb.MLPClassifier(**MLP).set_callbacks(fb.Checkpoint(path, seconds=0)).fit(X, LABELS)
    assert len([one for one in told if "no space left" in str(one.message)]) == 2
    check_same(model, fb.load(path), leave_out=("note_",))


def test_what_cannot_be_kept_is_an_error_before_the_training(path: Path, tmp_path: Path) -> None:
    fit = fb.MLPClassifier(**MLP)
    with pytest.raises(InputError, match=r"folder .* does not exist"):
        fit.set_callbacks(fb.Checkpoint(tmp_path / "no" / "late.ckpt")).fit(X, LABELS)
    path.write_text("a,b\n")
    with pytest.raises(InputError, match="exists and is not a model file"):
        fit.set_callbacks(fb.Checkpoint(path)).fit(X, LABELS)
    own = fb.MLPClassifier(activation=(lambda Z: Z, lambda Z: 1 + 0 * Z), max_iter=2)
    with pytest.raises(InputError, match="function of your own"):
        own.set_callbacks(fb.Checkpoint(tmp_path / "own.ckpt")).fit(X, LABELS)
    with pytest.raises(InputError, match="seconds must be a finite number of at least 0"):
        fb.Checkpoint(path, seconds=-1)
    with pytest.raises(InputError, match=r"resume must be a fullbatch\.Checkpoint; got str"):
        fit.set_callbacks().fit(X, LABELS, resume=str(path))
    with pytest.raises(InputError, match=r"checkpoint must be a fullbatch\.Checkpoint; got str"):
        fb.gradient_descent(NETWORK, PARAMS, *COLUMNS, learning_rate=1, iterations=1, checkpoint=str(path))


def test_a_checkpoint_carries_what_it_is_given(path: Path) -> None:
    """The command's: a model of a table, and what is needed to find the data again."""
    from fullbatch.tables.raw import RawTable

    table = {"size": X[:, 0], "town": LABELS, "late": THREE}
    whole = fb.TableClassifier().fit(RawTable.of(table), target="late")
    estimator, encoding = whole.estimator_, whole.network_.encoding

    def model_of(trainer):
        model = copy.copy(whole)
        model._take(encoding, trainer)
        return model

    kept = fb.Checkpoint(path)
    kept.carry(model_of=model_of, extra={"data": ["flights.csv"]})
    rows = RawTable.of(table)
    fewer = {"max_iter": 3, "early_stopping": False, "retrain": False}
    again = type(estimator)(**{**estimator.get_params(), **fewer}).set_callbacks(kept)
    again.fit(encoding.encode(rows), encoding.encode_target(rows))
    loaded = fb.load(path)
    assert isinstance(loaded, fb.TableClassifier)
    assert loaded.predict(table).shape == (M,)
    assert fb.Checkpoint(path).extra == {"data": ["flights.csv"]}
    longer = type(estimator)(**{**again.get_params(), "max_iter": 5})
    longer.fit(encoding.encode(rows), encoding.encode_target(rows), resume=fb.Checkpoint(path))
    assert len(longer.loss_curve_) == 5


# --- Wrong use -------------------------------------------------------------------------------------------------------


@pytest.fixture
def halfway(path: Path) -> fb.Checkpoint:
    with pytest.raises(Stop):
        fb.MLPClassifier(**MLP).set_callbacks(Cut(path, 8)).fit(X, LABELS, sample_weight=WEIGHT)
    return fb.Checkpoint(path)


def changed(array: Any, row: int = 66) -> Any:
    array = array.copy()
    array[row] = array[row - 1] if array.dtype.kind == "U" and array[row] != array[row - 1] else array[row - 2]
    return array


OTHER = X.copy()
OTHER[66, 3] += 1e-9
WRONG = {
    "alpha": ({"alpha": 0.5}, {}, r"alpha is 0\.5, and 0\.0001 in the checkpoint"),
    "solver": ({"solver": "sgd"}, {}, "solver is 'sgd', and 'adam' in the checkpoint"),
    "layers": ({"hidden_layer_sizes": (6,)}, {}, r"hidden_layer_sizes is \(6,\), and \(5,\) in the checkpoint"),
    "seed": ({"random_state": None}, {}, "random_state is None, and 3 in the checkpoint"),
    "values": ({}, {"X": OTHER}, "X has other values than in the checkpoint"),
    "rows": ({}, {"X": X[:60], "y": LABELS[:60], "sample_weight": WEIGHT[:60]}, r"shape.*\[60, 4\] and \[70, 4\]"),
    "columns": ({}, {"X": X[:, :3]}, r"other shape"),
    "weights": ({}, {"sample_weight": WEIGHT[::-1]}, "sample_weight has other values"),
    "no weights": ({}, {"sample_weight": None}, "the checkpoint's training has sample_weight and this one has not"),
    "held out": ({}, {"X_val": X, "y_val": LABELS}, "this training has X_val and the checkpoint's has not"),
    "classes": ({}, {"y": np.where(LABELS == "no", "non", "yes")}, "other classes .*: non, yes now, no, yes then"),
    "labels": ({}, {"y": LABELS[::-1]}, "y has other values"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_another_training_is_refused(name: str, halfway: fb.Checkpoint) -> None:
    params, data, message = WRONG[name]
    given = {"X": X, "y": LABELS, "sample_weight": WEIGHT, **data}
    with pytest.raises(InputError, match=message):
        fb.MLPClassifier(**{**MLP, **params}).fit(**given, resume=halfway)


def test_other_columns_are_named(path: Path) -> None:
    import pandas

    frame = pandas.DataFrame(X, columns=list("abcd"))
    with pytest.raises(Stop):
        fb.MLPClassifier(**MLP).set_callbacks(Cut(path, 8)).fit(frame, LABELS)
    with pytest.raises(InputError, match="other columns than in the checkpoint: a, b, c, e now, a, b, c, d then"):
        fb.MLPClassifier(**MLP).fit(frame.rename(columns={"d": "e"}), LABELS, resume=fb.Checkpoint(path))


def test_another_kind_of_training_is_refused(halfway: fb.Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is of MLPClassifier, and this is LogisticRegression"):
        fb.LogisticRegression().fit(X, LABELS, resume=halfway)
    with pytest.raises(InputError):
        fb.gradient_descent(NETWORK, PARAMS, *COLUMNS, learning_rate=1, iterations=3, resume=halfway)
    function = Cut(tmp_path / "function.ckpt")
    fb.gradient_descent(NETWORK, PARAMS, *COLUMNS, learning_rate=1, iterations=3, checkpoint=function)
    with pytest.raises(InputError, match="is of a function's training, and this is MLPClassifier"):
        fb.MLPClassifier(**MLP).fit(X, LABELS, resume=function)
    with pytest.raises(InputError, match="hidden is"):
        fb.gradient_descent(
            fb.Network([4, 3, 1], hidden="relu"), PARAMS, *COLUMNS, learning_rate=1, iterations=5, resume=function
        )


def test_files_that_are_no_checkpoints(path: Path, halfway: fb.Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such checkpoint"):
        fb.Checkpoint(tmp_path / "none").state()
    plain = tmp_path / "plain"
    fb.save(fb.load(path), plain)
    with pytest.raises(ModelFileError, match="holds a model and no checkpoint"):
        fb.MLPClassifier(**MLP).fit(X, LABELS, resume=fb.Checkpoint(plain))
    content, arrays = read(path)
    content["training"]["version"] = 3
    plain.write_bytes(to_bytes(arrays, {FORMAT: sealed(content, arrays)}))
    with pytest.raises(ModelFileError, match=r"a newer fullbatch wrote .*version 3.*pip install --upgrade fullbatch"):
        fb.Checkpoint(plain).state()
    plain.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelFileError, match="truncated or damaged"):
        fb.Checkpoint(plain).state()


def test_another_instruction_set_or_version_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stop):
        fb.MLPClassifier(**MLP).set_callbacks(Cut(path, 8)).fit(X, LABELS)
    content, arrays = read(path)
    content["training"]["facts"]["made_by"]["NumPy"] = "1.0"
    content["training"]["facts"]["made_by"]["instruction set"] = "abacus"
    path.write_bytes(to_bytes(arrays, {FORMAT: sealed(content, arrays)}))
    with pytest.warns(
        UserWarning, match=r"last digits will differ .*instruction set abacus then and .* now; NumPy 1\.0"
    ):
        fb.MLPClassifier(**MLP).fit(X, LABELS, resume=fb.Checkpoint(path))


def test_numbers_that_others_drew_are_said(path: Path) -> None:
    """Where the generator is everybody's, a callback may have drawn from it between two epochs."""

    class Draws(Tasks):
        def on_fit_task_end(self, estimator: Any, context: Any) -> None:
            np.random.rand()  # noqa: NPY002

    params = {**MLP, "random_state": None}
    with pytest.raises(Stop):
        fb.MLPClassifier(**params).set_callbacks(Draws(), Cut(path, 14)).fit(X, LABELS)
    with pytest.warns(UserWarning, match="drawn from the training's generator by others"):
        fb.MLPClassifier(**params).fit(X, LABELS, resume=fb.Checkpoint(path))


def test_the_metadata_is_json_without_nan(path: Path, halfway: fb.Checkpoint) -> None:
    content, _ = read(path)
    json.dumps(content, allow_nan=False)


# --- Ctrl-C while a writing is being started -------------------------------------------------------------------------


@pytest.mark.parametrize("launches", [False, True])
def test_ctrl_c_while_the_thread_is_being_started(path: Path, monkeypatch: pytest.MonkeyPatch, launches: bool) -> None:
    """Python starts a thread in several steps, and Ctrl-C may come between any two of them."""
    start, calls = checkpoints._Writing.start, []

    def interrupted(self):
        calls.append(self)
        if len(calls) == 3:
            if launches:
                start(self)
            raise KeyboardInterrupt
        start(self)

    monkeypatch.setattr(checkpoints._Writing, "start", interrupted)
    kept = fb.Checkpoint(path, seconds=0)
    model = fb.MLPClassifier((3,), max_iter=5, random_state=0).set_callbacks(kept)
    with pytest.warns(Warning, match="interrupted"):
        model.fit(X, LABELS)
    monkeypatch.undo()
    whole = fb.MLPClassifier((3,), max_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole.fit(X, LABELS)
        again = fb.MLPClassifier((3,), max_iter=5, random_state=0).fit(X, LABELS, resume=fb.Checkpoint(path))
    assert all(map(np.array_equal, again.coefs_, whole.coefs_))
