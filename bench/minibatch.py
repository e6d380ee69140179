"""One epoch of mini-batch Adam, by this project and by what people would use instead.

Each contender is a class with ``run(rows)``: one epoch over the first ``rows`` examples, in a new random order unless
it was made without shuffling; and ``weights()``: [(W, b)], W of shape (n[l], n[l-1]). All start from the same weights,
and before anything is timed they run one epoch without shuffling, after which their weights must agree.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bench import own, problem
from bench.contest import Entry, Field, Span, Trial, field_of, point
from bench.losses import in_pairs, jax_logits
from bench.problem import Problem, Shape
from bench.timing import Contender, Rules, wall
from fullbatch.core.parameters import Layer, Params

SHAPE = Shape((784, 100, 10))
ROWS = 60_000
LEARNING_RATE = 1e-3
# max |difference| / max |value| of the weights after an epoch. Rounding grows from step to step, and PyTorch's Adam has
# its epsilon elsewhere than the paper's efficient form (0.002 to 0.003). A beta_2 of 0.99 gives 0.013, a learning rate
# that is 10 % too high 0.03, another order of the examples 0.16.
TOLERANCE = 1e-2


class Estimator:
    """``partial_fit`` of an MLPClassifier: one epoch, and the optimiser goes on where the last call left it."""

    def __init__(self, p: Problem, batch: int, shuffle: bool, kind: Any, options: dict[str, Any]) -> None:
        self.p = p
        self.model = kind(
            p.shape.sizes[1:-1], activation="tanh", alpha=0.0, batch_size=batch, shuffle=shuffle,
            learning_rate_init=LEARNING_RATE, random_state=np.random.RandomState(0), **options,
        )  # fmt: skip

    def run(self, rows: int) -> None:
        self.model.partial_fit(self.p.table[:rows], self.p.codes[:rows], classes=np.arange(self.p.shape.sizes[-1]))

    def weights(self) -> list[tuple[Any, Any]]:
        return estimator_weights(self.model)


def estimator_weights(model: Any) -> list[tuple[Any, Any]]:
    """[(W, b)] of an estimator of scikit-learn's kind, with W as in the notes."""
    return [(W.T, b) for W, b in zip(model.coefs_, model.intercepts_, strict=True)]


class Ours(Estimator):
    """``native`` is what FULLBATCH_NATIVE is meanwhile; None for as it is."""

    def __init__(self, p: Problem, batch: int, shuffle: bool, native: str | None = None) -> None:
        from fullbatch import MLPClassifier

        super().__init__(p, batch, shuffle, MLPClassifier, {"device": "cpu"})
        self.native, self.ran = native, ""

    def run(self, rows: int) -> None:
        with own.forced(self.native), own.seen() as labels:
            super().run(rows)
        self.ran = " and ".join(labels)  # which step it took


class Sklearn(Estimator):
    def __init__(self, p: Problem, batch: int, shuffle: bool) -> None:
        from sklearn.neural_network import MLPClassifier

        super().__init__(p, batch, shuffle, MLPClassifier, {})


def initial_weights(p: Problem, rng: np.random.RandomState) -> Params:
    """The weights that scikit-learn's MLPClassifier draws from ``rng``: a step of size nothing leaves them."""
    from sklearn.neural_network import MLPClassifier

    classes = np.arange(max(2, p.shape.sizes[-1]))
    model = MLPClassifier(
        p.shape.sizes[1:-1], activation=p.network.activations[0].name, solver="sgd", learning_rate_init=1e-300,
        momentum=0.0, alpha=0.0, random_state=rng, batch_size=2, shuffle=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.partial_fit(p.table[:2], p.codes[:2], classes=classes)
    return tuple(Layer(W, b[:, np.newaxis]) for W, b in estimator_weights(model))


class Torch:
    """A plain loop: shuffled indices, a batch by index slices, automatic differentiation, torch.optim.Adam."""

    def __init__(self, p: Problem, batch: int, shuffle: bool, fused: bool = False) -> None:
        import torch

        self.p, self.batch, self.shuffle = p, batch, shuffle
        self.X, self.codes = torch.from_numpy(p.table), torch.from_numpy(p.codes)
        self.model = torch_network(p, np.random.RandomState(0))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, fused=fused)
        self.order = torch.Generator().manual_seed(0)

    def run(self, rows: int) -> None:
        import torch
        from torch.nn import functional as F

        order = torch.randperm(rows, generator=self.order) if self.shuffle else torch.arange(rows)
        for start in range(0, rows, self.batch):
            batch = order[start : start + self.batch]
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(self.X[batch]), self.codes[batch]).backward()
            self.optimizer.step()

    def weights(self) -> list[tuple[Any, Any]]:
        return torch_weights(self.model)


def torch_network(p: Problem, rng: np.random.RandomState) -> Any:
    """nn.Sequential of the problem's shape and activation, with the weights that scikit-learn draws from ``rng``."""
    import torch

    activation = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[str(p.network.activations[0].name)]
    layers: list[Any] = []
    for fan_in, n in zip(p.shape.sizes[:-1], p.shape.sizes[1:], strict=True):
        layers += [torch.nn.Linear(fan_in, n), activation()]
    model = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for layer, (W, b) in zip(layers[::2], initial_weights(p, rng), strict=True):
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(W)))
            layer.bias.copy_(torch.from_numpy(np.ascontiguousarray(b[:, 0])))
    return model


def torch_weights(model: Any) -> list[tuple[Any, Any]]:
    """[(W, b)] of an nn.Sequential, as they are now: views."""
    return in_pairs([array.detach().numpy() for array in model.parameters()])


class Jax:
    """An epoch as one scan over the batches, under jit; Adam written out. Rows that fill no batch are left out."""

    def __init__(self, p: Problem, batch: int, shuffle: bool) -> None:
        import jax.numpy as jnp

        self.shuffle, self.batch = shuffle, batch
        self.rng = np.random.default_rng(0)
        params = [(jnp.asarray(W), jnp.asarray(b[:, 0])) for W, b in initial_weights(p, np.random.RandomState(0))]
        mean, square = ([(jnp.zeros_like(W), jnp.zeros_like(b)) for W, b in params] for _ in range(2))
        self.state = (params, mean, square, jnp.zeros((), dtype=params[0][0].dtype))
        self.data = jnp.asarray(p.table), jnp.asarray(p.codes)
        self.epoch = _jax_epoch()

    def run(self, rows: int) -> None:
        import jax

        order = self.rng.permutation(rows) if self.shuffle else np.arange(rows)
        whole = rows // self.batch * self.batch
        self.state = jax.block_until_ready(self.epoch(self.state, *self.data, order[:whole].reshape(-1, self.batch)))

    def weights(self) -> Sequence[tuple[Any, Any]]:
        return [(np.asarray(W), np.asarray(b)) for W, b in self.state[0]]


def _jax_epoch() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def loss(params: Any, X: Any, codes: Any) -> Any:
        logits = jax.nn.log_softmax(jax_logits(params, X), axis=1)
        return -jnp.mean(jnp.take_along_axis(logits, codes[:, None], axis=1))

    def epoch(state: Any, X: Any, codes: Any, batches: Any) -> Any:
        def update(state: Any, batch: Any) -> tuple[Any, None]:
            params, mean, square, t = state
            gradient = jax.grad(loss)(params, X[batch], codes[batch])
            mean = jax.tree.map(lambda v, g: 0.9 * v + 0.1 * g, mean, gradient)
            square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, gradient)
            t = t + 1
            rate = LEARNING_RATE * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            params = jax.tree.map(lambda w, v, s: w - rate * v / (jnp.sqrt(s) + 1e-8), params, mean, square)
            return (params, mean, square, t), None

        return jax.lax.scan(update, state, batches)[0]

    return jax.jit(epoch, donate_argnums=0)


CONTENDERS = {
    **{name: Entry(partial(Ours, native=value), "numpy", "own", value) for name, value in own.WAYS.items()},
    "scikit-learn": Entry(Sklearn, "sklearn", "as used"),
    "PyTorch, Adam": Entry(Torch, "torch", "as used"),
    "PyTorch, fused Adam": Entry(partial(Torch, fused=True), "torch", "by hand"),
    "JAX, one scan": Entry(Jax, "jax", "by hand"),
}


def case_name(shape: Shape, batch: int | None) -> str:
    """Of an epoch in such batches; None for a step."""
    return shape.name if batch is None else f"{shape.name}, batches of {batch}"


def case(rows: int, batch: int, names: Sequence[str], rules: Rules, span: Span) -> dict[str, Any]:
    """Time one epoch: the point for the JSON, without the allocator. Before each comes a tenth of an epoch, untimed."""
    found = prepared(problem.make(SHAPE, rows), batch, names, until=span.end)
    part = max(batch, rows // 10 // batch * batch)
    contenders = {
        name: Contender(partial(epoch.run, rows), wall, partial(epoch.run, part))
        for name, epoch in found.contenders.items()
    }
    what = {"part": "epoch", "case": case_name(SHAPE, batch), "shape": SHAPE.name, "m": rows, "batch": batch}
    return point(found, contenders, rules, span, **what)


def prepared(p: Problem, batch: int, names: Sequence[str], until: float = math.inf) -> Field:
    """The contenders whose weights after an epoch are scikit-learn's own, and why the others are left out."""
    exact = _after_an_epoch(Sklearn, p, batch).weights()

    def attempt(entry: Entry) -> Trial:
        trial = _after_an_epoch(entry.make, p, batch)
        epoch = entry.make(p, batch, shuffle=True)
        epoch.run(p.m)  # compiles for this length
        return Trial(epoch, difference(trial.weights(), exact), trial.ran if isinstance(trial, Ours) else "")

    return field_of(CONTENDERS, names, attempt, TOLERANCE, until)


def _after_an_epoch(make: Callable[..., Any], p: Problem, batch: int) -> Any:
    epoch = make(p, batch, shuffle=False)
    epoch.run(p.m // batch * batch)
    return epoch


def difference(weights: Sequence[tuple[Any, Any]], wanted: Sequence[tuple[Any, Any]]) -> float:
    """max |difference| / max |value|, over all weights."""
    return problem.error(*(np.concatenate([np.ravel(a) for x in both for a in x]) for both in (weights, wanted)))
