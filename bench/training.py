"""Time to accuracy: seconds of training until the held-out log-loss of scikit-learn's MLP is reached.

All contenders train the same network on the same encoded numbers, with Adam, batch size and learning rate alike, from
the weights that scikit-learn draws for the seed. They write down the time and a copy of the weights after each epoch;
the weights are evaluated when all is trained, by one function, so that evaluation is in nobody's time.

The mark of a data set is the loss that scikit-learn reaches with every seed in its epochs: the worst seed's best loss,
and 0.1 % above it, because rounding alone moves a loss by half of that within a few thousand steps.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import datasets, minibatch
from bench.datasets import Encoded
from bench.peers import missing
from bench.problem import Problem, Shape
from bench.results import Result
from fullbatch import Network
from fullbatch.objective import Objective
from fullbatch.parameters import Layer, Params
from fullbatch.sources import Examples, OneHot

LEARNING_RATE = 1e-3
ACTIVATION = "relu"
MARGIN = 1.001
LONGER = 4 / 3  # the others may train so much longer than scikit-learn does
PAUSE = 0.2


class Trace(NamedTuple):
    """After each epoch: seconds since the training began, and the weights."""

    seconds: list[float]
    weights: list[Params]


class _Watch:
    """Writes down a trace, and stops when it has as many epochs as it should."""

    def __init__(self) -> None:
        self.trace = Trace([], [])
        self.start = time.perf_counter()

    def note(self, weights: Sequence[tuple[Any, Any]]) -> None:
        self.trace.seconds.append(time.perf_counter() - self.start)
        self.trace.weights.append(tuple(Layer(np.array(W, order="C"), np.array(b).reshape(-1, 1)) for W, b in weights))

    def note_estimator(self, model: Any) -> None:
        self.note([(W.T, b) for W, b in zip(model.coefs_, model.intercepts_, strict=True)])


# --- The contenders -------------------------------------------------------------------------------------------


def _options(data: Encoded, seed: int, epochs: int) -> dict[str, Any]:
    return {
        "hidden_layer_sizes": data.settings.hidden, "activation": ACTIVATION, "solver": "adam", "alpha": 0.0,
        "batch_size": data.settings.batch, "learning_rate_init": LEARNING_RATE, "max_iter": epochs, "tol": 0.0,
        "n_iter_no_change": epochs + 1, "random_state": seed,
    }  # fmt: skip


class _EachEpoch:
    """A callback of scikit-learn's protocol."""

    def __init__(self, watch: _Watch) -> None:
        self.watch = watch

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    def teardown(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> None:
        if context.parent is not None:  # an epoch, not the whole fit
            self.watch.note_estimator(fitted_estimator)


def _ours(data: Encoded, X: Any, seed: int, epochs: int) -> Trace:
    from fullbatch import MLPClassifier

    model = MLPClassifier(**_options(data, seed, epochs), device="cpu")
    watch = _Watch()
    model.set_callbacks(_EachEpoch(watch))
    model.fit(X, data.y)
    return watch.trace


def ours(data: Encoded, seed: int, epochs: int) -> Trace:
    """fullbatch, on what its command makes of the table: codes that become one-hot block by block."""
    return _ours(data, data.X, seed, epochs)


def ours_on_matrix(data: Encoded, seed: int, epochs: int) -> Trace:
    """fullbatch, on the very object that scikit-learn gets."""
    return _ours(data, data.matrix, seed, epochs)


def sklearn(data: Encoded, seed: int, epochs: int) -> Trace:
    """scikit-learn on a CSR matrix where there are categories, as its OneHotEncoder gives it, else on an array."""
    from sklearn.neural_network import MLPClassifier

    watch = _Watch()

    class Watched(MLPClassifier):
        # Called after each epoch of fit: scikit-learn's MLP takes no callbacks.
        def _update_no_improvement_count(self, *arguments: Any) -> None:
            super()._update_no_improvement_count(*arguments)
            watch.note_estimator(self)

    model = Watched(**_options(data, seed, epochs))
    watch.start = time.perf_counter()
    model.fit(data.matrix, data.y)
    return watch.trace


def torch(data: Encoded, seed: int, epochs: int) -> Trace:
    """A plain PyTorch loop on a dense tensor; batch by batch from the CSR matrix where a tensor would not fit."""
    import torch
    from torch.nn import functional as F

    shape = Shape(data.sizes)
    start = Problem(  # only for the initial weights: they follow from the seed and the shape
        shape, Network(data.sizes, hidden=ACTIVATION, output=shape.output), (),
        np.zeros((2, data.X.n), np.float32), np.eye(2, data.sizes[-1], dtype=np.float32),
    )  # fmt: skip
    watch = _Watch()
    model = minibatch.torch_network(start, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    X = None if data.dense is None else torch.from_numpy(data.dense)
    y = torch.from_numpy(data.y.astype(np.float32)[:, None] if data.classes == 2 else data.y)
    criterion = F.binary_cross_entropy_with_logits if data.classes == 2 else F.cross_entropy
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(y), generator=order).split(data.settings.batch):
            inputs = X[batch] if X is not None else torch.from_numpy(data.matrix[batch.numpy()].toarray())
            optimizer.zero_grad()
            criterion(model(inputs), y[batch]).backward()
            optimizer.step()
        arrays = [array.detach().numpy() for array in model.parameters()]
        watch.note(list(zip(arrays[::2], arrays[1::2], strict=True)))
    return watch.trace


OURS = "fullbatch"
SKLEARN = "scikit-learn"
CONTENDERS: dict[str, tuple[Callable[[Encoded, int, int], Trace], str]] = {
    SKLEARN: (sklearn, "sklearn"),
    OURS: (ours, "numpy"),
    "fullbatch, on scikit-learn's matrix": (ours_on_matrix, "numpy"),
    "PyTorch": (torch, "torch"),
}


def contenders(data: Encoded, chosen: Sequence[str]) -> tuple[list[str], list[str]]:
    """Who takes part, and a line for each that does not. One and the same array needs no second contender."""
    names, left_out = [], []
    for name, (train, package) in CONTENDERS.items():
        if name not in chosen:
            continue
        if reason := missing(package):
            left_out.append(f"{data.name}: {name}: left out: {reason}")
        elif train is not ours_on_matrix or data.X.ones.shape[1]:
            names.append(name)
    return names, left_out


# --- The run --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """``datasets`` are names; ``folder`` has their files, None for those that scikit-learn ships."""

    datasets: tuple[str, ...]
    folder: str | None = None
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    seeds: int = 3
    budget: float = 480.0


def run(settings: Settings, result: Result, *, save: Callable[[], None], say: Callable[[str], None]) -> None:
    """Train on all data sets into ``result``; ``save`` is called after each training."""
    deadline = time.perf_counter() + settings.budget
    for index, name in enumerate(settings.datasets):
        left = deadline - time.perf_counter()
        if left <= 0:
            left_out = [f"{name}: left out: beyond the budget of {settings.budget:,.0f} s"]
        else:
            share = left / (len(settings.datasets) - index)
            left_out = _all_seeds(name, settings, share, result, save=save, say=say)
        for line in left_out:
            say(line)
        result.left_out += left_out
        save()


def _all_seeds(
    name: str,
    settings: Settings,
    seconds: float,
    result: Result,
    *,
    save: Callable[[], None],
    say: Callable[[str], None],
) -> list[str]:
    """One data set, seed by seed, the contenders in turns; a line for each thing that is left out."""
    deadline = time.perf_counter() + seconds
    say(f"{name}: reading")
    data = datasets.load(name, None if settings.folder is None else Path(settings.folder))
    say(f"{name}: {data.X.m:,} rows of {data.X.n} features; {data.X_test.m:,} held out")
    names, left_out = contenders(data, settings.contenders)
    longest = 0.0
    for seed in range(settings.seeds):
        began = time.perf_counter()
        if seed > 0 and began + longest > deadline:
            rest = f"{name}: seed {seed} and what follows: left out"
            return [*left_out, f"{rest}: beyond the data set's share of the budget, {seconds:,.0f} s"]
        turn = seed % len(names)
        for contender in names[turn:] + names[:turn]:
            point = one(data, contender, seed)
            result.points.append(point)
            result.summary = summary(result.points)
            save()
            say(describe(point))
        longest = max(longest, time.perf_counter() - began)
    return left_out


def describe(point: dict[str, Any]) -> str:
    losses = point["losses"]
    return (
        f"{point['data']}, seed {point['seed']}: {point['contender']}: log-loss {min(losses):.4f}, "
        f"{point['seconds'][-1]:.1f} s for {len(losses)} epochs"
    )


def one(data: Encoded, contender: str, seed: int) -> dict[str, Any]:
    """One training: the point for the JSON."""
    epochs = data.settings.epochs if contender == SKLEARN else round(LONGER * data.settings.epochs)
    time.sleep(PAUSE)
    with warnings.catch_warnings(record=True) as seen:  # that it has not converged after so few epochs
        warnings.simplefilter("always")
        trace = CONTENDERS[contender][0](data, seed, epochs)
    if any("interrupted by user" in str(warning.message) for warning in seen):
        raise KeyboardInterrupt  # the estimators make a warning of it, and keep the model so far
    if len(trace.seconds) != epochs:
        raise RuntimeError(f"{contender} told of {len(trace.seconds)} epochs and not of {epochs}: has its fit changed?")
    return {
        "data": data.name, "contender": contender, "seed": seed, "rows": data.X.m, "sizes": list(data.sizes),
        "batch": data.settings.batch, "learning_rate": LEARNING_RATE, "seconds": trace.seconds,
        "losses": held_out_losses(data, trace.weights),
    }  # fmt: skip


def held_out_losses(data: Encoded, weights: Sequence[Params]) -> list[float]:
    """The mean log-loss on the held-out rows for each of the weights: the cost J of the notes."""
    output = "sigmoid" if data.classes == 2 else "softmax"
    network = Network(data.sizes, hidden=ACTIVATION, output=output)
    examples = Examples(data.X_test, OneHot(data.y_test, data.sizes[-1], data.X.numbers.dtype))
    with Objective(network, examples) as objective:
        return [objective.cost(params) for params in weights]


def summary(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mark of each data set, and for each contender the median seconds to it, over seeds, and the ratio to ours."""
    targets: dict[str, float] = {}
    times = []
    for data in dict.fromkeys(p["data"] for p in points):
        here = [p for p in points if p["data"] == data]
        marks = [min(p["losses"]) for p in here if p["contender"] == SKLEARN]
        if not marks:
            continue
        targets[data] = target = MARGIN * max(marks)
        rows = [
            _time_to(target, [p for p in here if p["contender"] == c])
            for c in dict.fromkeys(p["contender"] for p in here)
        ]
        own = next((row["seconds"] for row in rows if row["contender"] == OURS), None)
        for row in rows:
            known = own is not None and row["seconds"] is not None
            times.append({"data": data, **row, "ratio": row["seconds"] / own if known else None})
    return {"targets": targets, "times": times}


def _time_to(target: float, points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over the seeds of one contender; None where half of them or more do not reach the target."""
    hits = [next((i for i, loss in enumerate(p["losses"]) if loss <= target), None) for p in points]
    seconds = [p["seconds"][i] if i is not None else float("inf") for p, i in zip(points, hits, strict=True)]
    epochs = [i + 1 if i is not None else float("inf") for i in hits]
    middle, middle_epochs = statistics.median(seconds), statistics.median(epochs)
    reached = middle != float("inf")
    return {
        "contender": points[0]["contender"], "seeds": len(points), "reached": sum(i is not None for i in hits),
        "seconds": middle if reached else None, "epochs": middle_epochs if reached else None,
    }  # fmt: skip
