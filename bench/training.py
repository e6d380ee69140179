"""Time to accuracy: seconds of training until the held-out log-loss of scikit-learn's MLP is reached.

All contenders train the same network on the same encoded numbers, with Adam, batch size and learning rate alike, from
the weights that scikit-learn draws for the seed, and through the rows in the order that it draws for each epoch. They
write down the time and a copy of the weights after each epoch; the weights are evaluated when all is trained, by one
function, so that evaluation is in nobody's time. Nor is a first short training of a few batches: what a library imports
or starts on first use is not its speed.

A training is a round in the sense of timing.py: where two threads are not faster than one as they should be before or
after it, it is dropped, counted, and done once more.

The first seed goes through all data sets before the second begins, so that a budget that is short costs each of them
its last seeds.

The mark of a data set is the loss that scikit-learn reaches with every seed in its epochs: the worst seed's best loss,
and 1 % above it. From the same weights, in the same order, rounding alone moves a loss by up to 0.8 % (MNIST, where the
curve has a sharp minimum; 0.05 % on the others), and whether that minimum is met by a hair would be a matter of luck.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import children, datasets, minibatch, own
from bench.datasets import Encoded
from bench.problem import Problem, Shape
from bench.runs import Run, in_turn
from bench.timing import Contender as Timed
from bench.timing import Gauge, Rounds, Rules, doubts, take_turns, two_threads, used_up, wall
from fullbatch import Network
from fullbatch.core.parameters import Layer, Params, flatten
from fullbatch.machine.threads import thread_count
from fullbatch.sources import Examples, OneHot
from fullbatch.training.objective import Objective

LEARNING_RATE = 1e-3
ACTIVATION = "relu"
MARGIN = 1.01
LONGER = 4 / 3  # the others may train so much longer than scikit-learn does
FIRST = 4  # batches of the short training before


@dataclass
class Trace:
    """After each epoch: seconds since the training began, and the weights. ``ran``: which step, where it is ours."""

    seconds: list[float] = field(default_factory=list)
    weights: list[Params] = field(default_factory=list)
    ran: str = ""
    start: float = field(default_factory=time.perf_counter)

    def note(self, weights: Sequence[tuple[Any, Any]]) -> None:
        self.seconds.append(time.perf_counter() - self.start)
        self.weights.append(tuple(Layer(np.array(W, order="C"), np.array(b).reshape(-1, 1)) for W, b in weights))

    def note_estimator(self, model: Any) -> None:
        self.note(minibatch.estimator_weights(model))


# --- The contenders -------------------------------------------------------------------------------------------


def _options(data: Encoded, seed: int, epochs: int) -> dict[str, Any]:
    return {
        "hidden_layer_sizes": data.settings.hidden, "activation": ACTIVATION, "solver": "adam", "alpha": 0.0,
        "batch_size": data.settings.batch, "learning_rate_init": LEARNING_RATE, "max_iter": epochs, "tol": 0.0,
        "n_iter_no_change": epochs + 1, "random_state": seed,
    }  # fmt: skip


def ours(data: Encoded, seed: int, epochs: int, native: str | None = None, on_matrix: bool = False) -> Trace:
    """fullbatch, on what its command makes of the table: codes that become one-hot block by block.

    native : what FULLBATCH_NATIVE is meanwhile;  on_matrix : on the very object that scikit-learn gets
    """
    from fullbatch import MLPClassifier

    model = MLPClassifier(**_options(data, seed, epochs), device="cpu")
    with own.forced(native), own.seen() as labels:
        trace = Trace()
        model.set_callbacks(own.EachModel(trace.note_estimator))
        model.fit(data.matrix if on_matrix else data.X, data.y)
    trace.ran = " and ".join(labels)
    return trace


def sklearn(data: Encoded, seed: int, epochs: int) -> Trace:
    """scikit-learn on a CSR matrix where there are categories, as its OneHotEncoder gives it, else on an array."""
    from sklearn.neural_network import MLPClassifier

    trace = Trace()

    class Watched(MLPClassifier):
        # Called after each epoch of fit: scikit-learn's MLP takes no callbacks.
        def _update_no_improvement_count(self, *arguments: Any) -> None:
            super()._update_no_improvement_count(*arguments)
            trace.note_estimator(self)

    model = Watched(**_options(data, seed, epochs))
    trace.start = time.perf_counter()
    model.fit(data.matrix, data.y)
    return trace


def torch(data: Encoded, seed: int, epochs: int) -> Trace:
    """A plain PyTorch loop on a dense tensor; batch by batch from the CSR matrix where a tensor would not fit."""
    import torch
    from torch.nn import functional as F

    shape = Shape(data.sizes)
    start = Problem(  # only for the initial weights: they follow from the seed and the shape
        shape, Network(data.sizes, hidden=ACTIVATION, output=shape.output), (),
        np.zeros((2, data.X.n), np.float32), np.eye(2, data.sizes[-1], dtype=np.float32),
    )  # fmt: skip
    rng = np.random.RandomState(seed)
    model = minibatch.torch_network(start, rng)
    orders = [torch.from_numpy(order) for order in _orders(rng, data.X.m, epochs)]
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    X = None if data.dense is None else torch.from_numpy(data.dense)
    y = torch.from_numpy(data.y.astype(np.float32)[:, None] if data.classes == 2 else data.y)
    criterion = F.binary_cross_entropy_with_logits if data.classes == 2 else F.cross_entropy
    trace = Trace()
    for order in orders:
        for batch in order.split(data.settings.batch):
            inputs = X[batch] if X is not None else torch.from_numpy(data.matrix[batch.numpy()].toarray())
            optimizer.zero_grad()
            criterion(model(inputs), y[batch]).backward()
            optimizer.step()
        trace.note(minibatch.torch_weights(model))
    return trace


def _orders(rng: np.random.RandomState, m: int, epochs: int) -> list[np.ndarray]:
    """The rows' order in each epoch, as scikit-learn's MLP shuffles them once it has drawn its weights from ``rng``."""
    from sklearn.utils import shuffle

    orders = [np.arange(m)]
    for _ in range(epochs):
        orders.append(shuffle(orders[-1], random_state=rng))
    return orders[1:]


class Unusable(Exception):
    """A training that is not what it should be; the message is the reason."""


class Contender(NamedTuple):
    """``train(data, seed, epochs)``;  native : for one of our own ways, its value of FULLBATCH_NATIVE."""

    train: Callable[..., Trace]
    package: str
    native: str | None = None
    on_matrix: bool = False


OURS = own.USUAL
SKLEARN = "scikit-learn"
CONTENDERS = {
    SKLEARN: Contender(sklearn, "sklearn"),
    **{name: Contender(partial(ours, native=value), "numpy", value) for name, value in own.WAYS.items()},
    f"{OURS}, on scikit-learn's matrix": Contender(partial(ours, on_matrix=True), "numpy", on_matrix=True),
    "PyTorch": Contender(torch, "torch"),
}


def contenders(data: Encoded, chosen: Sequence[str]) -> tuple[list[str], list[str]]:
    """Who takes part, and a line for each that does not. One and the same array needs no second contender."""
    names, left_out = [], []
    for name, contender in CONTENDERS.items():
        if name not in chosen:
            continue
        if reason := own.not_installed(contender.package) or own.missing(contender.native):
            left_out.append(f"{data.name}: {name}: left out: {reason}")
        elif not contender.on_matrix or data.X.ones.shape[1]:
            names.append(name)
    return names, left_out


# --- The run --------------------------------------------------------------------------------------------------


RULES = Rules(rounds=1, least=1, untimed=1, warm=0.0, shortest=0.0)  # a round is one training


@dataclass(frozen=True)
class Settings:
    """``datasets`` are names; ``folder`` has their files, None for those that scikit-learn ships."""

    datasets: tuple[str, ...]
    folder: str | None = None
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    seeds: int = 3
    budget: float = 480.0
    rules: Rules = RULES


def run(settings: Settings, here: Run) -> None:
    """Train on all data sets, seed by seed."""
    gauge = two_threads() if settings.rules.quiet > 0 else None
    say, here.summary = here.say, summary
    takes_part: dict[str, tuple[Encoded, list[str]]] = {}
    for name in settings.datasets:
        if here.left <= 0:
            here.leave_out(f"{name}: left out: {used_up(settings.budget)} before it was read")
            continue
        say(f"{name}: reading")
        data = datasets.load(name, None if settings.folder is None else Path(settings.folder))
        say(f"{name}: {data.X.m:,} rows of {data.X.n} features; {data.X_test.m:,} held out")
        names, left_out = contenders(data, settings.contenders)
        for line in left_out:
            here.leave_out(line)
        takes_part[name] = data, names
    for seed in range(settings.seeds):
        for data, names in takes_part.values():
            for contender in in_turn(names, seed):
                if not _one_training(here, data, contender, seed, settings.rules, gauge):
                    names.remove(contender)


def _one_training(
    here: Run, data: Encoded, contender: str, seed: int, rules: Rules, gauge: Callable[[], Gauge] | None
) -> bool:
    """False where it failed: it is left out from here on."""
    where, who = f"{data.name}, seed {seed}: {contender}", (data.name, contender)
    if here.result.has(data=data.name, contender=contender, seed=seed) or here.is_late(where, who):
        return True
    try:
        point, rounds = one(data, contender, seed, rules, here.left, gauge)
    except Exception as fault:  # another project's code: what fails is said, and the rest goes on
        reason = str(fault) if isinstance(fault, Unusable) else children.one_line(fault)
        here.leave_out(f"{data.name}: {contender}: left out: {reason}")
        return False
    here.longest[who] = max(here.longest.get(who, 0.0), rounds.longest)
    if point is None:
        here.leave_out(f"{where}: left out: {used_up(here.budget)} before its first round")
    else:
        here.keep(point, describe(point))
    return True


def describe(point: dict[str, Any]) -> str:
    losses = point["losses"]
    return (
        f"{point['data']}, seed {point['seed']}: {point['contender']}: log-loss {min(losses):.4f}, "
        f"{point['seconds'][-1]:.1f} s for {len(losses)} epochs"
        f"{doubts(point['rounds'])}"
    )


def one(
    data: Encoded, contender: str, seed: int, rules: Rules, left: float, gauge: Callable[[], Gauge] | None
) -> tuple[dict[str, Any] | None, Rounds]:
    """One training: the point for the JSON, None where none was quiet. Unusable where it is not what it should be."""
    epochs = data.settings.epochs if contender == SKLEARN else round(LONGER * data.settings.epochs)
    traces: list[Trace] = []
    head = data.head(FIRST * data.settings.batch)
    training = Timed(
        lambda: traces.append(_trained(contender, data, seed, epochs)), wall,
        warm=lambda: _trained(contender, head, seed, 1),
    )  # fmt: skip
    rounds = take_turns({contender: training}, rules, seconds=left, left=left, gauge=gauge)
    if not rounds.used:
        return None, rounds
    trace = traces[rounds.used[-1] - rounds.begun]  # counted from the end: a first call may tell how long one is
    if reason := own.other_than(CONTENDERS[contender].native, trace.ran):
        raise Unusable(reason)
    losses = held_out_losses(data, trace.weights)
    if not all(map(math.isfinite, losses)):
        raise Unusable(f"its held-out loss becomes {next(x for x in losses if not math.isfinite(x))}")
    return {
        "data": data.name, "contender": contender, "seed": seed, "step": trace.ran, "threads": thread_count(None),
        "rows": data.X.m, "sizes": list(data.sizes), "batch": data.settings.batch, "dtype": str(data.X.numbers.dtype),
        "learning_rate": LEARNING_RATE, "seconds": trace.seconds, "losses": losses, "rounds": rounds.summary(),
    }, rounds  # fmt: skip


def _trained(contender: str, data: Encoded, seed: int, epochs: int) -> Trace:
    with warnings.catch_warnings(record=True) as seen:  # that it has not converged after so few epochs
        warnings.simplefilter("always")
        trace = CONTENDERS[contender].train(data, seed, epochs)
    if any("interrupted by user" in str(warning.message) for warning in seen):
        raise KeyboardInterrupt  # the estimators make a warning of it, and keep the model so far
    if len(trace.seconds) != epochs:
        raise Unusable(f"it told of {len(trace.seconds)} epochs and not of {epochs}: has its fit changed?")
    return trace


def held_out_losses(data: Encoded, weights: Sequence[Params]) -> list[float]:
    """The mean log-loss on the held-out rows for each of the weights: the cost J of the notes."""
    output = "sigmoid" if data.classes == 2 else "softmax"
    network = Network(data.sizes, hidden=ACTIVATION, output=output)
    examples = Examples(data.X_test, OneHot(data.y_test, data.sizes[-1], data.X.numbers.dtype))
    with Objective(network, examples) as objective:
        return [objective.cost(flatten(params)) for params in weights]


def summary(points: Sequence[dict[str, Any]], _: Any = None) -> dict[str, Any]:
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
    spoilt = sum(bool(p.get("rounds", {}).get("disturbed")) for p in points)
    return {
        "contender": points[0]["contender"], "step": points[0]["step"], "seeds": len(points),
        "reached": sum(i is not None for i in hits),
        "seconds": middle if reached else None, "epochs": middle_epochs if reached else None,
        **({"disturbed": spoilt} if spoilt else {}),
    }  # fmt: skip
