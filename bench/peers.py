"""The same step by what people would use instead.

Each peer is a function of a problem that prepares whatever may be prepared once (a model object, a compiled function,
its own copy of the data) and returns a call without arguments: the call gives (J, [(dW, db) of each layer]), with dW of
shape (n[l], n[l-1]), in the peer's own arrays, and returns when they are computed.

Before anything is timed, what each returns is compared with fullbatch's in float64. By how much a gradient is off is a
figure beside the time; a peer that does not compute the same at all is left out, by name and with the difference.
"""

from __future__ import annotations

import math
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from bench import children, minibatch, own, problem, roofline
from bench.contest import Entry, Field, Span, Trial, field_of, point
from bench.forms import Limits
from bench.losses import in_pairs, jax_loss, torch_leaves, torch_loss
from bench.machine import free_memory
from bench.problem import Problem, Shape
from bench.runs import Job, Run, no_room, one_by_one
from bench.timing import Contender, Rules, doubts, too_long, wall
from fullbatch import cost_and_gradients
from fullbatch.core.parameters import Params
from fullbatch.fold.blocks import block_size

Step = Callable[[], tuple[Any, Sequence[tuple[Any, Any]]]]
OURS = own.USUAL
# The error at up to so many examples, and in proportion to m beyond. It is to find a slip, which gives 1, and not who
# rounds: sums over 10 million examples in one go can be 8 % off in a column of nonzero mean, and that is told as it is.
TOLERANCE, UP_TO = 0.02, 500_000

CASES = {  # the first four are in the geometric mean
    "28-64-1": 500_000,
    "28-300-1": 200_000,
    "784-128-1": 50_000,
    "100-1000-1": 50_000,
    "784-256-128-10": 50_000,
    "28-1": 4_000_000,  # logistic regression: L = 1, and 464 MB, many times the caches
}
MEAN_OVER = 4

# The C library hands large blocks back to the system at once, and gets them again, page by page, at the next call. With
# these values (see mallopt(3)) it keeps them: no block comes from mmap, and the top of the heap is never trimmed.
ALLOCATORS: dict[str, str | None] = {
    "default": None,
    "keeping": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.top_pad=67108864",
}
ON_CPU: dict[str, str | None] = {"JAX_PLATFORMS": "cpu"}  # what is compared here; JAX would take a GPU unasked


# --- fullbatch, and NumPy as in the course --------------------------------------------------------------------


def ours(p: Problem, native: str | None = None) -> Step:
    """``native`` is what FULLBATCH_NATIVE is meanwhile; None for as it is."""

    def step() -> tuple[float, Params]:
        with own.forced(native):
            return cost_and_gradients(p.network, p.params, p.X, p.Y)

    return step


def whole_numpy(p: Problem) -> Step:
    """The notes' formulas on whole arrays, one line each."""
    X, Y, m = p.X, p.Y, p.m

    def step() -> tuple[float, list[tuple[Any, Any]]]:
        A = [X]
        for W, b in p.params[:-1]:
            A.append(np.tanh(W @ A[-1] + b))
        W, b = p.params[-1]
        Z = W @ A[-1] + b
        if p.shape.output == "sigmoid":
            yhat = 1 / (1 + np.exp(-Z))
            J = -np.sum(Y * np.log(yhat) + (1 - Y) * np.log(1 - yhat)) / m
        else:
            E = np.exp(Z - Z.max(axis=0))
            yhat = E / E.sum(axis=0)
            J = -np.sum(Y * np.log(yhat)) / m
        dZ = yhat - Y
        gradients = []
        for l in reversed(range(len(p.params))):
            gradients.append((dZ @ A[l].T / m, np.sum(dZ, axis=1, keepdims=True) / m))
            if l > 0:
                dZ = p.params[l].W.T @ dZ * (1 - A[l] ** 2)
        return J, gradients[::-1]

    return step


# --- scikit-learn ---------------------------------------------------------------------------------------------


def sklearn(p: Problem) -> Step:
    """What MLPClassifier computes for each batch, here of all examples; its solvers call this same method.

    Without a hidden layer it is what LogisticRegression gives to L-BFGS.
    """
    from sklearn.neural_network import MLPClassifier

    if len(p.params) == 1:
        return _sklearn_logistic(p)
    classes = np.arange(max(2, p.shape.sizes[-1]))
    start = slice(0, 2 * len(classes))
    model = MLPClassifier(p.shape.sizes[1:-1], activation="tanh", alpha=0.0, batch_size=len(classes))
    model.partial_fit(p.table[start], p.codes[start], classes=classes)  # makes the arrays that the next lines replace
    model.coefs_ = [np.ascontiguousarray(W.T) for W, _ in p.params]
    model.intercepts_ = [b[:, 0].copy() for _, b in p.params]
    targets = p.targets.astype(bool)
    layers = len(p.params)

    def step() -> tuple[float, list[tuple[Any, Any]]]:
        J, dW, db = model._backprop(
            p.table, targets, None, [p.table] + [None] * layers, [None] * layers, [None] * layers, [None] * layers
        )
        return J, [(W.T, b) for W, b in zip(dW, db, strict=True)]

    return step


def _sklearn_logistic(p: Problem) -> Step:
    from sklearn._loss import HalfBinomialLoss
    from sklearn.linear_model._linear_loss import LinearModelLoss

    loss = LinearModelLoss(base_loss=HalfBinomialLoss(), fit_intercept=True)
    theta = np.append(p.params[0].W[0], p.params[0].b[0])
    labels = p.targets[:, 0]

    def step() -> tuple[float, list[tuple[Any, Any]]]:
        J, gradient = loss.loss_gradient(theta, p.table, labels)
        return J, [(gradient[np.newaxis, :-1], gradient[-1:])]

    return step


# --- PyTorch --------------------------------------------------------------------------------------------------


def torch_eager(p: Problem, device: str = "cpu", repeats: int = 1, compiled: bool = False) -> Step:
    """PyTorch with automatic differentiation, on whole arrays: the rows so many times over; and by torch.compile."""
    import torch

    def placed(array: np.ndarray) -> Any:
        there = torch.from_numpy(array).to(device)
        return there if repeats == 1 else torch.cat([there] * repeats)

    X, targets = placed(p.table), placed(p.targets if p.shape.output == "sigmoid" else p.codes)
    leaves = torch_leaves(p, device)
    # Dynamic, as by default from the second shape on, it would be another program than the one to compare with.
    loss = torch.compile(torch_loss(p.shape.output), dynamic=False) if compiled else torch_loss(p.shape.output)

    def step() -> tuple[float, list[tuple[Any, Any]]]:
        J = loss(X, targets, leaves)
        gradients = torch.autograd.grad(J, leaves)
        if device == "cuda":
            torch.cuda.synchronize()
        return J.item(), in_pairs(gradients)

    return step


torch_compile = partial(torch_eager, compiled=True)


def hand_block(p: Problem) -> int:
    """The block for who makes hidden layers of it: NumPy's. The native step's is too long for that."""
    with own.forced("off"):
        return block_size(p.network, p.table)


def torch_blocks(p: Problem) -> Step:
    """PyTorch by hand: the pass over blocks that fit the cache, in place, without automatic differentiation."""
    import torch
    from torch.nn import functional as F

    table, targets = torch.from_numpy(p.table), torch.from_numpy(p.targets)
    params = [(torch.from_numpy(W), torch.from_numpy(b[:, 0])) for W, b in p.params]
    block = hand_block(p)
    rooms = [[torch.empty(block, n, dtype=table.dtype) for _ in range(2)] for n in p.shape.sizes[1:]]

    @torch.inference_mode()
    def step() -> tuple[float, list[tuple[Any, Any]]]:
        loss = 0.0
        sums = [(torch.zeros_like(W), torch.zeros_like(b)) for W, b in params]
        for start in range(0, p.m, block):
            A, Y = [table[start : start + block]], targets[start : start + block]
            k = len(Y)
            for (W, b), (room, _) in zip(params, rooms, strict=True):
                A.append(torch.addmm(b, A[-1], W.T, out=room[:k]))
                if W is not params[-1][0]:
                    A[-1].tanh_()
            Z = A[-1]
            if p.shape.output == "sigmoid":
                loss += float(F.binary_cross_entropy_with_logits(Z, Y, reduction="sum"))
                dZ = Z.sigmoid_().sub_(Y)
            else:
                loss += float(F.cross_entropy(Z, Y, reduction="sum"))
                dZ = Z.softmax(dim=1).sub_(Y)
            for l in reversed(range(len(params))):
                dW, db = sums[l]
                dW.addmm_(dZ.T, A[l])
                db.add_(dZ.sum(dim=0))
                if l > 0:
                    dA = torch.mm(dZ, params[l][0], out=rooms[l - 1][1][:k])
                    dZ = dA.mul_(A[l].square_().neg_().add_(1))
        return loss / p.m, [(dW / p.m, db / p.m) for dW, db in sums]

    return step


# --- JAX ------------------------------------------------------------------------------------------------------


def jax_jit(p: Problem, device: str = "cpu", repeats: int = 1) -> Step:
    """JAX: value_and_grad under jit, on whole arrays: the rows so many times over. It says itself where."""
    import jax
    import jax.numpy as jnp

    X, targets = (jnp.tile(jnp.asarray(array), (repeats, 1)) for array in (p.table, p.targets))
    params = [(jnp.asarray(W), jnp.asarray(b[:, 0])) for W, b in p.params]
    total = jax_loss(p.shape.output)
    function = jax.jit(jax.value_and_grad(lambda params, X, targets: total(params, X, targets) / len(X)))
    return lambda: jax.block_until_ready(function(params, X, targets))


def jax_blocks(p: Problem) -> Step:
    """JAX by hand: a scan over blocks that fit the cache, and the rest of the examples after it."""
    import jax
    import jax.numpy as jnp

    block = min(hand_block(p), p.m)
    count, whole = p.m // block, p.m // block * block
    X, targets = jnp.asarray(p.table), jnp.asarray(p.targets)
    blocks = tuple(array[:whole].reshape(count, block, -1) for array in (X, targets))
    rest = X[whole:], targets[whole:]
    params = [(jnp.asarray(W), jnp.asarray(b[:, 0])) for W, b in p.params]
    gradient = jax.value_and_grad(jax_loss(p.shape.output))

    @jax.jit
    def function(params: Any, blocks: Any, rest: Any) -> Any:
        def add(total: Any, block: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradient(params, *block)), None

        total, _ = jax.lax.scan(add, gradient(params, *rest), blocks)
        return jax.tree.map(lambda array: array / p.m, total)

    return lambda: jax.block_until_ready(function(params, blocks, rest))


# --- Which there are ------------------------------------------------------------------------------------------


PEERS = {
    **{name: Entry(partial(ours, native=value), "numpy", "own", value) for name, value in own.WAYS.items()},
    "NumPy, whole arrays": Entry(whole_numpy, "numpy", "as used"),
    "scikit-learn": Entry(sklearn, "sklearn", "as used"),
    "PyTorch eager": Entry(torch_eager, "torch", "as used"),
    "PyTorch compiled": Entry(torch_compile, "torch", "as used"),
    "JAX jit": Entry(jax_jit, "jax", "as used"),
    "PyTorch, blocks by hand": Entry(torch_blocks, "torch", "by hand"),
    "JAX, blocks by hand": Entry(jax_blocks, "jax", "by hand"),
}


# --- One case -------------------------------------------------------------------------------------------------


def prepared(p: Problem, names: Sequence[str], until: float = math.inf) -> Field:
    """The peers that compute the same, and why the others are left out; ``until`` is that of field_of."""
    J, exact = problem.exact(p)

    def attempt(entry: Entry) -> Trial:
        step = entry.make(p)
        with own.seen() as labels:
            cost, gradient = step()
        off = problem.error_of_gradient(gradient, exact)
        error = max(off, problem.error(np.asarray(float(cost)), np.asarray(J)))
        return Trial(step, error, " and ".join(labels), off)

    return field_of(PEERS, names, attempt, TOLERANCE * max(1.0, p.m / UP_TO), until)


def bytes_needed(shape: Shape, m: int) -> int:
    """What the whole-array peers may hold at once in float32: the data, JAX's copies of it, and hidden layers."""
    return 4 * m * (4 * (shape.sizes[0] + shape.sizes[-1]) + 6 * sum(shape.sizes[1:]))


def case(name: str, m: int, names: Sequence[str], rules: Rules, span: Span) -> dict[str, Any]:
    """Time one case: the point for the JSON, without the allocator."""
    found = prepared(problem.make(Shape.parse(name), m), names, until=span.end)
    contenders = {peer: Contender(step, wall) for peer, step in found.contenders.items()}
    return point(found, contenders, rules, span, part="step", case=name, shape=name, m=m)


# --- The run: a process for each case and allocator -----------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What to time. ``scale`` multiplies m and the rows of the mini-batch epoch: 1 is what the README quotes."""

    cases: tuple[str, ...] = tuple(CASES)
    peers: tuple[str, ...] = tuple(dict.fromkeys([*PEERS, *minibatch.CONTENDERS]))
    batches: tuple[int, ...] = (200, 1000)
    allocators: tuple[str, ...] = tuple(ALLOCATORS)
    budget: float = 480.0
    scale: float = 1.0
    rules: Rules = field(default_factory=Rules)


class Work(NamedTuple):
    """One case under one allocator. ``batch`` is None for a step."""

    shape: Shape
    m: int
    batch: int | None
    allocator: str

    @property
    def name(self) -> str:
        return minibatch.case_name(self.shape, self.batch)

    def __str__(self) -> str:
        return f"{self.name} at m = {self.m:,}, {self.allocator} allocator"


def work_of(settings: Settings) -> list[Work]:
    """All there is to do, in order: every case under one allocator first, so that a budget that is short costs the
    second ratio of some cases, and not the last cases altogether.
    """
    scale = settings.scale
    cases: list[tuple[Shape, int, int | None]] = [
        *((Shape.parse(name), max(100, int(CASES[name] * scale)), None) for name in settings.cases),
        *((minibatch.SHAPE, max(2 * batch, int(minibatch.ROWS * scale)), batch) for batch in settings.batches),
    ]
    return [Work(*case, allocator) for allocator in settings.allocators for case in cases]


def run(settings: Settings, here: Run) -> None:
    """Time all cases under each allocator."""
    here.summary = summary

    def measured(work: Work, share: float, left: float) -> dict[str, Any]:
        point = _measured(work, settings, share, left)
        here.longest[work.name] = point["least_seconds"]
        return point

    jobs = [
        Job(str(work), partial(_beyond, work, here), partial(measured, work))
        for work in work_of(settings)
        if not here.result.has(case=work.name, allocator=work.allocator)
    ]
    one_by_one(here, jobs, describe, quick=settings.scale < 1)


def _beyond(work: Work, here: Run, left: float) -> str | None:
    """Why the work is left out, or None."""
    if ALLOCATORS[work.allocator] is not None and platform.libc_ver()[0] != "glibc":
        return "only glibc can be told to keep memory"
    if (least := here.longest.get(work.name, 0.0)) > left:  # seconds of a case, once they are known
        return f"it takes about {least:,.0f} s, {too_long(here.budget)}"
    return no_room(bytes_needed(work.shape, work.m), free_memory(), "up to ")


def _measured(work: Work, settings: Settings, share: float, left: float) -> dict[str, Any]:
    environment = {"GLIBC_TUNABLES": ALLOCATORS[work.allocator], **ON_CPU}
    asked = work.shape.name, work.m, work.batch, settings.peers, settings.rules, share, left
    return {**children.call(answer, *asked, env=environment), "allocator": work.allocator}


def answer(
    shape: str, m: int, batch: int | None, names: Sequence[str], rules: dict[str, Any], share: float, left: float
) -> dict[str, Any]:
    """What the process of a case is asked for."""
    span = Span.from_now(share, left)
    if batch is None:
        return case(shape, m, names, Rules(**rules), span)
    return minibatch.case(m, batch, names, Rules(**rules), span)


def describe(measured: dict[str, Any]) -> str:
    times = [f"{name} {1000 * t['median']:,.0f}" for name, t in measured["times"].items() if t is not None]
    rounds = measured["rounds"]
    kept = f"{rounds['kept']} rounds kept, {rounds['dropped']} dropped{doubts(rounds)}"
    where = f"{measured['case']}, m = {measured['m']:,}, {measured['allocator']} allocator"
    return f"{where} (ms): {'; '.join(times) or 'no quiet round'} ({kept})"


# --- What follows ---------------------------------------------------------------------------------------------


def summary(points: Sequence[dict[str, Any]], limits: Mapping[str, Limits]) -> dict[str, Any]:
    """For each case, allocator and own way: what it reaches of the machine's limit, and how much longer others take."""
    rows = [row for one in points for row in _rows(one, limits["cpu"])]
    means = []
    first = list(CASES)[:MEAN_OVER]
    for allocator, name in dict.fromkeys((row["allocator"], row["own"]) for row in rows):
        here = [r for r in rows if (r["allocator"], r["own"]) == (allocator, name) and r["case"] in first]
        mean: dict[str, Any] = {"allocator": allocator, "own": name, "cases": MEAN_OVER}
        for kind in ("as_used", "by_hand"):
            ratios = [row[kind]["ratio"] for row in here if row[kind] is not None]
            whole = len(ratios) == MEAN_OVER
            mean[kind] = {"ratio": statistics.geometric_mean(ratios), "least": min(ratios)} if whole else None
        if mean["as_used"] or mean["by_hand"]:
            means.append(mean)
    return {"limits": roofline.to_json(limits), "rows": rows, "geometric_means": means}


def _rows(one: dict[str, Any], limits: Limits) -> Iterator[dict[str, Any]]:
    times = {name: t["median"] for name, t in one["times"].items() if t is not None}
    kinds = {name: KINDS[one["part"]].get(name) for name in times}
    shape, m = Shape.parse(one["shape"]), one["m"]
    _, bound = roofline.seconds_at_best(shape, m, 4, limits)
    for name in (name for name, kind in kinds.items() if kind == "own"):
        others = {other: t / times[name] for other, t in times.items() if kinds[other] != "own"}
        rate = roofline.flops(shape) * m / times[name]
        reads = shape.data_bytes(m, 4) / times[name]
        yield {
            "part": one["part"], "case": one["case"], "allocator": one["allocator"], "own": name,
            "step": one["steps"].get(name, ""), "gflops": rate / 1e9,
            "limit": "sgemm" if bound == "product" else "read",
            "of_limit": rate / limits.product if bound == "product" else reads / (limits.read or limits.copy),
            "as_used": _fastest(others, kinds, "as used"), "by_hand": _fastest(others, kinds, "by hand"),
            "over": others,
        }  # fmt: skip


def _fastest(ratios: dict[str, float], kinds: dict[str, Any], kind: str) -> dict[str, Any] | None:
    there = {name: ratio for name, ratio in ratios.items() if kinds[name] == kind}
    if not there:
        return None
    name = min(there, key=lambda other: there[other])
    return {"name": name, "ratio": there[name]}


KINDS = {
    "step": {name: peer.kind for name, peer in PEERS.items()},
    "epoch": {name: contender.kind for name, contender in minibatch.CONTENDERS.items()},
}
