"""The same step by what people would use instead.

Each peer is a function of a problem that prepares whatever may be prepared once (a model object, a compiled function,
its own copy of the data) and returns a call without arguments: the call gives (J, [(dW, db) of each layer]), with dW of
shape (n[l], n[l-1]), in the peer's own arrays, and returns when they are computed.

Before anything is timed, what each returns is compared with fullbatch's in float64; a peer that does not compute the
same is left out, by name and with the difference.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from bench import children, minibatch, problem
from bench.machine import free_memory
from bench.problem import Problem, Shape
from bench.timing import Contender, Rules, take_turns, two_threads, wall
from fullbatch import cost_and_gradients
from fullbatch.fold import block_size
from fullbatch.parameters import Layer, Params

Step = Callable[[], tuple[Any, Sequence[tuple[Any, Any]]]]
OURS = "fullbatch"
# max |difference| / max |reference|. Float32 sums over 500,000 examples in one go are off by 3e-5; a slip gives 1.
TOLERANCE = 2e-4

CASES = {  # the first four are in the geometric mean
    "28-64-1": 500_000,
    "28-300-1": 200_000,
    "784-128-1": 50_000,
    "100-1000-1": 50_000,
    "784-256-128-10": 50_000,
}
MEAN_OVER = 4

# The C library hands large blocks back to the system at once, and gets them again, page by page, at the next call. With
# these values (see mallopt(3)) it keeps them: no block comes from mmap, and the top of the heap is never trimmed.
ALLOCATORS: dict[str, str | None] = {
    "default": None,
    "keeping": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.top_pad=67108864",
}


# --- fullbatch, and NumPy as in the course --------------------------------------------------------------------


def ours(p: Problem) -> Step:
    return lambda: cost_and_gradients(p.network, p.params, p.X, p.Y)


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
    """What MLPClassifier computes for each batch, here of all examples; its solvers call this same method."""
    from sklearn.neural_network import MLPClassifier

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


# --- PyTorch --------------------------------------------------------------------------------------------------


def _torch_data(p: Problem) -> tuple[Any, Any, list[Any]]:
    import torch

    leaves = [torch.tensor(array, requires_grad=True) for layer in p.params for array in (layer.W, layer.b[:, 0])]
    targets = torch.from_numpy(p.targets) if p.shape.output == "sigmoid" else torch.from_numpy(p.codes)
    return torch.from_numpy(p.table), targets, leaves


def _torch_loss(output: str) -> Callable[[Any, Any, Sequence[Any]], Any]:
    from torch.nn import functional as F

    criterion = F.binary_cross_entropy_with_logits if output == "sigmoid" else F.cross_entropy

    def loss(X: Any, targets: Any, leaves: Sequence[Any]) -> Any:
        for W, b in zip(leaves[:-2:2], leaves[1:-2:2], strict=True):
            X = F.linear(X, W, b).tanh()
        return criterion(F.linear(X, *leaves[-2:]), targets)

    return loss


def torch_eager(p: Problem, compiled: bool = False) -> Step:
    """PyTorch with automatic differentiation, on whole arrays."""
    import torch

    X, targets, leaves = _torch_data(p)
    loss = _torch_loss(p.shape.output)
    if compiled:
        loss = torch.compile(loss)

    def step() -> tuple[float, list[tuple[Any, Any]]]:
        J = loss(X, targets, leaves)
        gradients = torch.autograd.grad(J, leaves)
        return J.item(), list(zip(gradients[::2], gradients[1::2], strict=True))

    return step


def torch_compile(p: Problem) -> Step:
    """The same, through torch.compile."""
    return torch_eager(p, compiled=True)


def torch_blocks(p: Problem) -> Step:
    """PyTorch by hand: the pass over fullbatch's blocks, in place, without automatic differentiation."""
    import torch
    from torch.nn import functional as F

    table, targets = torch.from_numpy(p.table), torch.from_numpy(p.targets)
    params = [(torch.from_numpy(W), torch.from_numpy(b[:, 0])) for W, b in p.params]
    block = block_size(p.network, p.table)
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


def _jax_loss(output: str) -> Callable[[Any, Any, Any], Any]:
    """The loss summed over examples, of parameters [(W, b)], a table (k, n[0]) and targets (k, n[L])."""
    import jax
    import jax.numpy as jnp

    def loss(params: Any, X: Any, targets: Any) -> Any:
        for W, b in params[:-1]:
            X = jnp.tanh(X @ W.T + b)
        W, b = params[-1]
        Z = X @ W.T + b
        if output == "sigmoid":
            return jnp.sum(jax.nn.softplus(Z) - Z * targets)
        return -jnp.sum(jax.nn.log_softmax(Z, axis=1) * targets)

    return loss


def jax_jit(p: Problem) -> Step:
    """JAX: value_and_grad under jit, on whole arrays."""
    import jax
    import jax.numpy as jnp

    X, targets = jnp.asarray(p.table), jnp.asarray(p.targets)
    params = [(jnp.asarray(W), jnp.asarray(b[:, 0])) for W, b in p.params]
    total = _jax_loss(p.shape.output)
    function = jax.jit(jax.value_and_grad(lambda params, X, targets: total(params, X, targets) / p.m))
    return lambda: jax.block_until_ready(function(params, X, targets))


def jax_blocks(p: Problem) -> Step:
    """JAX by hand: a scan over blocks of fullbatch's size, and the rest of the examples after it."""
    import jax
    import jax.numpy as jnp

    block = min(block_size(p.network, p.table), p.m)
    count, whole = p.m // block, p.m // block * block
    X, targets = jnp.asarray(p.table), jnp.asarray(p.targets)
    blocks = tuple(array[:whole].reshape(count, block, -1) for array in (X, targets))
    rest = X[whole:], targets[whole:]
    params = [(jnp.asarray(W), jnp.asarray(b[:, 0])) for W, b in p.params]
    gradient = jax.value_and_grad(_jax_loss(p.shape.output))

    @jax.jit
    def function(params: Any, blocks: Any, rest: Any) -> Any:
        def add(total: Any, block: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradient(params, *block)), None

        total, _ = jax.lax.scan(add, gradient(params, *rest), blocks)
        return jax.tree.map(lambda array: array / p.m, total)

    return lambda: jax.block_until_ready(function(params, blocks, rest))


# --- Which there are ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peer:
    """``as_used``: the way people use it, on whole arrays; the others are what one could write by hand."""

    make: Callable[[Problem], Step]
    package: str
    as_used: bool


PEERS = {
    OURS: Peer(ours, "numpy", False),
    "NumPy, whole arrays": Peer(whole_numpy, "numpy", True),
    "scikit-learn": Peer(sklearn, "sklearn", True),
    "PyTorch eager": Peer(torch_eager, "torch", True),
    "PyTorch compiled": Peer(torch_compile, "torch", True),
    "JAX jit": Peer(jax_jit, "jax", True),
    "PyTorch, blocks by hand": Peer(torch_blocks, "torch", False),
    "JAX, blocks by hand": Peer(jax_blocks, "jax", False),
}


def missing(package: str) -> str | None:
    """Why a peer cannot take part, or None."""
    return None if importlib.util.find_spec(package) else f"{package} is not installed"


# --- One case -------------------------------------------------------------------------------------------------


def reference(p: Problem) -> tuple[float, Params]:
    """J and the gradient in float64."""
    params = tuple(Layer(W.astype(np.float64), b.astype(np.float64)) for W, b in p.params)
    return cost_and_gradients(p.network, params, p.X.astype(np.float64), p.Y.astype(np.float64))


def error(result: tuple[Any, Sequence[tuple[Any, Any]]], exact: tuple[float, Params]) -> float:
    """The larger of the errors of cost and gradient: max |difference| / max |reference|; infinite for other shapes."""
    J, gradients = result
    pairs = [
        (np.asarray(got, dtype=np.float64), want)
        for layer, own in zip(gradients, exact[1], strict=True)
        for got, want in ((layer[0], own.W), (np.asarray(layer[1]).reshape(-1), own.b[:, 0]))
    ]
    if any(got.shape != want.shape for got, want in pairs):
        return math.inf
    largest = max(float(np.max(np.abs(want))) for _, want in pairs)
    worst = max(float(np.max(np.abs(got - want))) for got, want in pairs)
    found = max(abs(float(J) - exact[0]) / abs(exact[0]), worst / largest)
    return found if math.isfinite(found) else math.inf


def prepared(p: Problem, names: Sequence[str]) -> tuple[dict[str, Step], dict[str, float], dict[str, str]]:
    """The calls of the peers that compute the same, their errors, and why the others are left out."""
    exact = reference(p)
    steps, errors, left_out = {}, {}, {}
    for name, peer in PEERS.items():
        if name not in names:
            continue
        if reason := missing(peer.package):
            left_out[name] = reason
            continue
        try:
            step = peer.make(p)
            found = error(step(), exact)
        except Exception as fault:  # another project's code: what fails is said, and the rest goes on
            left_out[name] = f"{type(fault).__name__}: {' '.join(str(fault).split())[:160]}"
            continue
        if found > TOLERANCE:
            left_out[name] = f"it does not compute the same: the difference is {found:.1e} of the largest value"
            continue
        steps[name], errors[name] = step, found
    return steps, errors, left_out


def bytes_needed(shape: Shape, m: int) -> int:
    """What the whole-array peers may hold at once in float32, and the float64 copy for the reference."""
    return 4 * m * (4 * (shape.sizes[0] + shape.sizes[-1]) + 6 * sum(shape.sizes[1:]))


def case(name: str, m: int, names: Sequence[str], rules: Rules, seconds: float) -> dict[str, Any]:
    """Time one case: the point for the JSON, without the allocator."""
    began = time.perf_counter()
    p = problem.make(Shape.parse(name), m)
    steps, errors, left_out = prepared(p, names)
    contenders = {peer: Contender(step, wall) for peer, step in steps.items()}
    gauge = two_threads() if rules.quiet > 0 else None
    rounds = take_turns(contenders, rules, seconds=seconds - (time.perf_counter() - began), gauge=gauge)
    return {
        "part": "step", "case": name, "m": m, "dtype": "float32",
        "times": {peer: rounds.timing(peer) for peer in steps},
        "errors": errors, "left_out": left_out, "rounds": rounds.summary(),
    }  # fmt: skip


# --- The run: a process for each allocator --------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What to time. ``scale`` multiplies m and the rows of the mini-batch epoch: 1 is what the README quotes."""

    cases: tuple[str, ...] = tuple(CASES)
    peers: tuple[str, ...] = (*PEERS, *minibatch.CONTENDERS)
    batches: tuple[int, ...] = (200, 1000)
    allocators: tuple[str, ...] = tuple(ALLOCATORS)
    budget: float = 480.0
    scale: float = 1.0
    rules: Rules = field(default_factory=Rules)


def run(settings: Settings, result: Any, *, save: Callable[[], None], say: Callable[[str], None]) -> None:
    """Time all cases under each allocator into ``result``; ``save`` is called after each."""
    budget = settings.budget / max(1, len(settings.allocators))
    for allocator in settings.allocators:
        say(f"allocator: {allocator}")
        request = {**asdict(settings), "budget": budget, "rules": asdict(settings.rules)}
        environment = {"GLIBC_TUNABLES": ALLOCATORS[allocator]}
        for answer in children.lines("bench.peers", request, env=environment):
            if line := answer.get("left_out_line"):
                result.left_out.append(f"{line} ({allocator} allocator)")
                say(line)
                continue
            point = {**answer, "allocator": allocator}
            result.points.append(point)
            for name, reason in point["left_out"].items():
                line = f"{point['case']}, {allocator} allocator: {name}: left out: {reason}"
                result.left_out.append(line)
                say(line)
            say(describe(point))
            result.summary = summary(result.points)
            save()


def describe(point: dict[str, Any]) -> str:
    times = [f"{name} {1000 * t['median']:,.0f}" for name, t in point["times"].items() if t is not None]
    rounds = point["rounds"]
    kept = f"{rounds['kept']} rounds kept, {rounds['dropped']} dropped"
    return f"{point['case']}, m = {point['m']:,} (ms): {', '.join(times) or 'no quiet round'} ({kept})"


def _answer(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    deadline = time.perf_counter() + request["budget"]
    rules, names, scale = Rules(**request["rules"]), request["peers"], request["scale"]
    todo: list[tuple[str, Callable[[float], dict[str, Any]]]] = []
    for name in request["cases"]:
        m = max(100, int(CASES[name] * scale))
        need, free = bytes_needed(Shape.parse(name), m), free_memory()
        if free is not None and need > free:
            yield {"left_out_line": f"{name} at m = {m:,}: left out: up to {need:,} bytes, {free:,} are free"}
        else:
            todo.append((name, partial(case, name, m, names, rules)))
    for batch in request["batches"]:
        rows = max(2 * batch, int(minibatch.ROWS * scale))
        todo.append((f"batches of {batch}", partial(minibatch.case, rows, batch, names, rules)))
    for index, (name, work) in enumerate(todo):
        share = (deadline - time.perf_counter()) / (len(todo) - index)
        yield work(share) if share > 0 else {"left_out_line": f"{name}: left out: the budget is used up"}


def summary(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The fastest peer as people use it over fullbatch, for each case and allocator, and the geometric means."""
    ratios = []
    for point in points:
        times = {name: t["median"] for name, t in point["times"].items() if t is not None}
        as_used = _as_used() if point["part"] == "step" else minibatch.AS_USED
        used = {name: t for name, t in times.items() if name in as_used}
        if OURS in times and used:
            fastest = min(used, key=lambda name: used[name])
            ratios.append({
                "part": point["part"], "case": point["case"], "allocator": point["allocator"],
                "fastest": fastest, "ratio": used[fastest] / times[OURS],
            })  # fmt: skip
    means = []
    for allocator in dict.fromkeys(row["allocator"] for row in ratios):
        first = list(CASES)[:MEAN_OVER]
        own = [row["ratio"] for row in ratios if row["allocator"] == allocator and row["case"] in first]
        if len(own) == MEAN_OVER:
            mean = math.exp(sum(map(math.log, own)) / len(own))
            means.append({"allocator": allocator, "cases": len(own), "ratio": mean, "least": min(own)})
    return {"ratios": ratios, "geometric_means": means}


def _as_used() -> set[str]:
    return {name for name, peer in PEERS.items() if peer.as_used}


if __name__ == "__main__":
    sys.exit(children.serve(_answer))
