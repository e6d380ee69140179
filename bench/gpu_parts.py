"""What runs on the card, each part in a process of its own: python -m bench.gpu_parts PART prints a JSON object a line.

Tables are 2^16 rows repeated, so that the gradient is that of these rows whatever m is, and is compared with the one in
float64. Times are of calls that return when the card is done, by the host's clock: medians after some untimed calls.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench import problem
from bench.problem import Problem, Shape
from fullbatch import cost_and_gradients, gradient_descent, steps
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, flatten
from fullbatch.functions import prepare
from fullbatch.machine import cuda, places
from fullbatch.sources import Dense, Examples
from fullbatch.steps.cuda import onepass
from fullbatch.steps.cuda.segments import weights_of
from fullbatch.training.objective import Objective

ROWS = 2**16
CASES = {"28-64-1": 168, "28-300-1": 48, "784-128-1": 16, "100-1000-1": 16}  # m in units of ROWS: 11 million, ...
Points = Iterator[dict[str, Any]]


def seconds_of(call: Callable[[], Any], *, untimed: int = 3, rounds: int = 10, most: float = 5.0) -> dict[str, float]:
    """The median and the least of the call's seconds; fewer rounds where they take longer than ``most``."""
    for _ in range(untimed):
        call()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < rounds and (len(times) < 2 or time.perf_counter() - began < most):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return {"seconds": statistics.median(times), "least": min(times), "rounds": len(times)}


def attempt(what: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The point, or why there is none."""
    try:
        return {**what, **work()}
    except Exception as fault:
        return {**what, "error": one_line(fault)}


def one_line(fault: Exception) -> str:
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"


def rows_of(name: str) -> Problem:
    return problem.make(Shape.parse(name), ROWS)


def exact(p: Problem) -> list[np.ndarray]:
    """The gradient in float64."""
    wide = tuple(Layer(W.astype("float64"), b.astype("float64")) for W, b in p.params)
    _, gradients = cost_and_gradients(p.network, wide, p.X.astype("float64"), p.Y.astype("float64"))
    return [array for layer in gradients for array in layer]


def error(found: Sequence[Any], wanted: Sequence[np.ndarray]) -> float:
    """max |difference| / max |reference|."""
    pairs = [(np.asarray(a, dtype="float64").reshape(-1), b.reshape(-1)) for a, b in zip(found, wanted, strict=True)]
    return max(float(np.max(np.abs(a - b))) for a, b in pairs) / max(float(np.max(np.abs(b))) for _, b in pairs)


# --- The card -------------------------------------------------------------------------------------------------


def card(scale: float = 1.0) -> Points:
    """What it is, and how fast it copies and multiplies."""
    import cupy

    from fullbatch.sources.uploaded import Conveyor

    runtime, here = cupy.cuda.runtime, cupy.cuda.Device()
    properties = runtime.getDeviceProperties(here.id)
    yield {
        "name": properties["name"].decode(), "memory": properties["totalGlobalMem"],
        "processors": properties["multiProcessorCount"], "capability": here.compute_capability,
        "driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion(), "cupy": cupy.__version__,
    }  # fmt: skip
    yield attempt({"what": "cuBLAS"}, lambda: {"version": cupy.cuda.cublas.getVersion(here.cublas_handle)})
    size = int(2**30 * scale)

    def rate(count: int, call: Callable[[], Any]) -> dict[str, Any]:
        def done() -> None:
            call()
            here.synchronize()

        return {"rate": count / seconds_of(done)["seconds"]}

    A, B = cupy.zeros(size // 4, dtype="float32"), cupy.empty(size // 4, dtype="float32")
    yield attempt({"what": "copy on the card, both ways"}, lambda: rate(2 * size, lambda: cupy.copyto(B, A)))
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(size), np.uint8, size)
    kind = runtime.memcpyHostToDevice
    yield attempt(
        {"what": "plain pinned copy"},
        lambda: rate(size, lambda: runtime.memcpyAsync(A.data.ptr, pinned.ctypes.data, size, kind, 0)),
    )
    host = np.ones((size // 4 // 32, 32), dtype="float32")
    conveyor = Conveyor(cupy)
    target = A[: host.size].reshape(host.shape)

    def send() -> None:
        conveyor.send(host, target)
        conveyor.stream.synchronize()

    yield attempt({"what": "copy of host memory by the conveyor"}, lambda: rate(host.nbytes, send))
    n = int(8192 * scale**0.5)
    X = cupy.ones((n, n), dtype="float32")
    out = cupy.empty_like(X)
    for precision in (None, "tf32"):

        def product(precision: str | None = precision) -> None:
            with cuda.products(precision, X):
                cupy.matmul(X, X, out=out)

        yield attempt({"what": f"product, {precision or 'float32'}, operations"}, lambda: rate(2 * n**3, product))


# --- The step -------------------------------------------------------------------------------------------------


def bytes_moved(shape: Shape, step: str) -> int | None:
    """What an example moves in a step of one hidden layer and one unit, as steps/kernels.py and onepass.py count it."""
    n_in, n_hidden, _ = shape.sizes
    return {"onepass": 4 * (n_in + 1), "fused": 4 * (2 * n_in + 4 * n_hidden + 1)}.get(step)


@contextmanager
def only(step: str) -> Iterator[None]:
    """The step of that name runs, whichever would be chosen."""
    before = dict(steps.STEPS)
    steps.STEPS.clear()
    steps.STEPS[step] = before[step]
    try:
        yield
    finally:
        steps.STEPS.clear()
        steps.STEPS.update(before)


@dataclass(frozen=True)
class Case:
    """A problem on the card: its 2^16 rows ``repeats`` times."""

    p: Problem
    repeats: int
    X: Any
    Y: Any
    params: Any
    wanted: list[np.ndarray]

    @classmethod
    def of(cls, name: str, repeats: int) -> Case:
        import cupy

        p = rows_of(name)
        X, Y = (cupy.tile(cupy.asarray(a), (repeats, 1)).T for a in (p.table, p.targets))
        return cls(p, repeats, X, Y, tuple(Layer(cupy.asarray(W), cupy.asarray(b)) for W, b in p.params), exact(p))

    def timed(self, step: str) -> dict[str, Any]:
        import cupy

        pool = cupy.get_default_memory_pool()
        with only(step):
            pool.free_all_blocks()
            held, found = pool.used_bytes(), list[Any]()

            def call() -> None:
                found[:] = cost_and_gradients(self.p.network, self.params, self.X, self.Y)
                cupy.cuda.get_current_stream().synchronize()

            times = seconds_of(call)
            got = [a.get() for layer in found[1] for a in layer]
            each = bytes_moved(self.p.shape, step)
            moved = each and ROWS * self.repeats * each
            return {
                **times, "error_of_gradient": error(got, self.wanted), "peak": pool.total_bytes() - held,
                "bytes_moved": moved, "rate": moved and moved / times["seconds"],
            }  # fmt: skip

    def blocks(self, step: str) -> tuple[int, list[Any]]:
        """The size of that step's blocks, and all of them."""
        with only(step), Objective(self.p.network, Examples(Dense(self.X), Dense(self.Y))) as objective:
            return min(objective.fold.block, self.X.shape[1]), [block.where for block in objective.fold.plan.blocks()]

    def in_one_pass(self, warps: int) -> dict[str, Any]:
        """By the card's clock, compiled for so many warps of a multiprocessor."""
        block, parts = self.blocks("onepass")
        before, onepass.RESIDENT = onepass.RESIDENT, warps
        try:
            step = steps.OnePassStep(self.p.network, self.X, block)
        finally:
            onepass.RESIDENT = before
        step.load(flatten(self.params))
        times = seconds_on_card(lambda: [step.gradient(self.X[:, p], self.Y[:, p], None) for p in parts])
        moved = self.X.shape[1] * (bytes_moved(self.p.shape, "onepass") or 0)
        return {**times, "block": block, "rate": moved / times["seconds"]}


def ours(scale: float = 1.0) -> Points:
    """One cost and gradient by each step that can run, with the memory that it takes at its peak."""
    for name, times in CASES.items():
        yield from _steps_of(name, max(1, int(times * scale)))


def _steps_of(name: str, repeats: int) -> Points:
    try:
        case = Case.of(name, repeats)
    except Exception as fault:
        yield {"case": name, "m": ROWS * repeats, "error": one_line(fault)}
        return
    chosen = steps.choose(case.p.network, case.X)
    for step in [name for name in steps.STEPS if steps.STEPS[name].can_run(case.p.network, case.X)]:
        what = {"case": name, "m": ROWS * repeats, "step": step, "chosen": step == chosen}
        yield attempt({**what, "data": case.X.nbytes + case.Y.nbytes}, partial(case.timed, step))


# --- The pieces of the step -----------------------------------------------------------------------------------


def pieces(scale: float = 1.0) -> Points:
    """Seconds of each piece of the fused step over all blocks, by the card's clock; dW1 in three forms; and one pass.

    ``rate`` is of the bytes that the steps' files count; the error of a form's dW1 is over 2^16 examples, to float64.
    """
    import cupy

    name, repeats = next(iter(CASES.items()))
    case = Case.of(name, max(1, int(repeats * scale)))
    network, m = case.p.network, case.X.shape[1]
    n_in, n_hidden, _ = network.sizes
    block, parts = case.blocks("fused")
    step = steps.FusedStep(network, case.X, block)
    step.load(flatten(case.params))

    segment = step.segment(network)

    def budget(X: Any) -> Any:
        return step.segments.budget(-(-X.shape[1] // segment), backward=True)

    def hidden(X: Any) -> Any:
        return step._Z[0][: X.shape[1] * n_hidden].reshape(-1, n_hidden)

    def over(work: Callable[[Any, Any, Any], Any]) -> Callable[[], Any]:
        """The piece over all blocks: ``work`` gets X, Y and what takes turns as Z and dZ."""
        return lambda: [work(case.X[:, part], case.Y[:, part], hidden(case.X[:, part])) for part in parts]

    found: dict[str, tuple[Callable[[Any, Any, Any], Any], int]] = {
        "Z1 = X W1^T": (lambda X, Y, Z: step._forward(X, False, segment), n_in + n_hidden),
        "tail": (lambda X, Y, Z: step._tail(Z, Y, None, budget(X), segment), 2 * n_hidden + 1),
        **{form: (partial(_form, product), n_in + n_hidden) for form, product in FORMS.items()},
        "all of the step": (lambda X, Y, Z: step.gradient(X, Y, None), 2 * n_in + 4 * n_hidden + 1),
    }
    rng = np.random.default_rng(0)
    dZ = cupy.asarray(rng.standard_normal((min(m, ROWS), n_hidden)).astype("float32"))
    rows = cupy.ascontiguousarray(case.X[:, : len(dZ)].T)
    wanted = dZ.get().T.astype("float64") @ rows.get().astype("float64")
    for piece, (work, numbers) in found.items():
        call = over(work)

        def timed(piece: str = piece, call: Callable[[], Any] = call, numbers: int = numbers) -> dict[str, Any]:
            with cuda.products(None, case.X):
                wrong = {"error_of_dW1": error([FORMS[piece](dZ, rows).get()], [wanted])} if piece in FORMS else {}
                times = seconds_on_card(call)
            return {**times, "rate": m * numbers * 4 / times["seconds"], **wrong}

        yield attempt({"case": name, "m": m, "block": block, "piece": piece}, timed)
    for warps in (onepass.RESIDENT, 8, 10, 16):
        what = {"case": name, "m": m, "piece": f"one pass, registers for {warps} warps"}
        yield attempt(what, partial(case.in_one_pass, warps))


def _form(product: Callable[[Any, Any], Any], X: Any, Y: Any, dZ: Any) -> Any:
    return product(dZ, X.T)


def _by_segments(dZ: Any, rows: Any) -> Any:
    """As the fused step has it: a product for each segment, and the sum of them by the tree."""
    (k, n), n_in = dZ.shape, rows.shape[1]
    step = steps.FusedStep(Network([n_in, n, 1]), rows, 0)
    segment = step.segment(step.network)
    sums = step.segments.budget(-(-k // segment), backward=True)
    step.multiply.over_examples(dZ, rows, sums.gradient[:, : n * n_in].reshape(-1, n, n_in), segment)
    *rest, total = [node.vector[: n * n_in] for node in step.segments.gradients(sums, weights_of(k, None, segment))]
    return (sum(rest) + total).reshape(n, n_in)


FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "dW1 = dZ1^T X": lambda dZ, rows: dZ.T @ rows,
    "dW1 = (X^T dZ1)^T": lambda dZ, rows: (rows.T @ dZ).T,
    "dW1 by segments": _by_segments,
}


def seconds_on_card(call: Callable[[], Any], *, untimed: int = 3, rounds: int = 10) -> dict[str, float]:
    """As ``seconds_of``, between two events on the stream."""
    import cupy

    times = []
    for i in range(untimed + rounds):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        call()
        stop.record()
        stop.synchronize()
        times += [cupy.cuda.get_elapsed_time(start, stop) / 1000] if i >= untimed else []
    return {"seconds": statistics.median(times), "least": min(times), "rounds": len(times)}


# --- Peers ----------------------------------------------------------------------------------------------------


def torch_peer(compiled: bool, device: str = "cuda", scale: float = 1.0) -> Points:
    """PyTorch with automatic differentiation, in float32 (not TF32, which is off by default there too)."""
    import torch
    from torch.nn import functional as F

    torch.backends.cuda.matmul.allow_tf32 = False
    yield {"package": f"torch {torch.__version__}"}

    def loss(X: Any, targets: Any, leaves: Sequence[Any]) -> Any:
        for W, b in zip(leaves[:-2:2], leaves[1:-2:2], strict=True):
            X = F.linear(X, W, b).tanh()
        return F.binary_cross_entropy_with_logits(F.linear(X, *leaves[-2:]), targets)

    # Dynamic, as by default from the second shape on, it would be another program than the one to compare with.
    function = torch.compile(loss, dynamic=False) if compiled else loss

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for name, times in CASES.items():
        p, repeats = rows_of(name), max(1, int(times * scale))

        def work(p: Problem = p, repeats: int = repeats) -> dict[str, Any]:
            X, targets = (torch.tensor(a, device=device).repeat(repeats, 1) for a in (p.table, p.targets))
            leaves = [
                torch.tensor(a, device=device, requires_grad=True) for W, b in p.params for a in (W, b[:, 0])
            ]  # fmt: skip
            found: list[Any] = []

            def call() -> None:
                J = function(X, targets, leaves)
                found[:] = torch.autograd.grad(J, leaves)
                J.item()
                wait()

            timed = seconds_of(call)
            peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
            return {**timed, "error_of_gradient": error([a.cpu().numpy() for a in found], exact(p)), "peak": peak}

        yield attempt({"case": name, "m": ROWS * repeats}, work)
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def jax_peer(device: str = "cuda", scale: float = 1.0) -> Points:
    """JAX, value_and_grad under jit, in float32: its default on a card is TF32. RuntimeError where it sees no card."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "highest")
    here = jax.devices()[0]
    yield {"package": f"jax {jax.__version__}", "device": str(here)}
    if device == "cuda" and here.platform == "cpu":  # pip install jax has no CUDA: it would time the CPU, in silence
        raise RuntimeError("JAX sees no GPU and would compute on the CPU; install jax[cuda13].")

    def loss(params: Any, X: Any, targets: Any) -> Any:
        for W, b in params[:-1]:
            X = jnp.tanh(X @ W.T + b)
        W, b = params[-1]
        Z = X @ W.T + b
        return jnp.mean(jax.nn.softplus(Z) - Z * targets)

    function = jax.jit(jax.value_and_grad(loss))
    for name, times in CASES.items():
        p, repeats = rows_of(name), max(1, int(times * scale))

        def work(p: Problem = p, repeats: int = repeats) -> dict[str, Any]:
            X, targets = (jnp.tile(jnp.asarray(a), (repeats, 1)) for a in (p.table, p.targets))
            params = [(jnp.asarray(W), jnp.asarray(b[:, 0])) for W, b in p.params]
            found: list[Any] = []

            def call() -> None:
                found[:] = jax.block_until_ready(function(params, X, targets))

            timed = seconds_of(call)
            return {**timed, "error_of_gradient": error([a for layer in found[1] for a in layer], exact(p))}

        yield attempt({"case": name, "m": ROWS * repeats}, work)


# --- Streaming ------------------------------------------------------------------------------------------------


def copy_rates(table: np.ndarray, size: int) -> dict[str, Any]:
    """Bytes per second of a plain pinned copy, and of the host's own copy by several threads and by one."""
    import cupy

    from fullbatch.sources.uploaded import Conveyor

    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(size), np.uint8, size)
    target, kind = cupy.empty(size, dtype="uint8"), cupy.cuda.runtime.memcpyHostToDevice
    conveyor, part = Conveyor(cupy), table[: size // table.strides[0]]
    buffer = pinned[: part.nbytes].view(table.dtype).reshape(part.shape)

    def copy() -> None:
        cupy.cuda.runtime.memcpyAsync(target.data.ptr, pinned.ctypes.data, size, kind, 0)
        cupy.cuda.Device().synchronize()

    return {
        "pinned": size / seconds_of(copy)["seconds"],
        "host": part.nbytes / seconds_of(lambda: conveyor._fill(buffer, part))["seconds"],
        "host, one thread": part.nbytes / seconds_of(lambda: np.copyto(buffer, part), rounds=3)["seconds"],
        "threads": conveyor.threads,
    }


def passes(p: Problem, examples: Examples, budget: float, found: list[Any]) -> dict[str, Any]:
    """Whole costs and gradients over the examples, timed; the outcomes go to ``found``."""
    import cupy

    theta = cupy.asarray(flatten(p.params))
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    held = pool.used_bytes()
    with Objective(p.network, examples, budget=budget) as objective:
        times = seconds_of(lambda: found.append(objective.cost_and_gradient(theta)), untimed=1, rounds=5, most=10)
        peak = pool.total_bytes() - held
        return {**times, "peak": peak, "note": objective.fold.note, "block": objective.fold.block}


def streaming(scale: float = 1.0, limit: int = 10**9) -> Points:
    """Data of more than the limit that is set: the rate of whole passes, beside a plain pinned copy and the host's."""
    from fullbatch.sources.uploaded import Uploaded, resident

    p = problem.make(Shape.parse("28-64-1"), int(3 * 2**24 * scale))
    data = p.table.nbytes + p.targets.nbytes
    yield {"data": data, "limit": limit}
    copies = copy_rates(p.table, int(2**30 * scale))
    yield {"what": "copies", **copies}
    place, outcomes = places.place("cuda"), list[Any]()
    budget = place.budget(limit)
    there = Examples(Uploaded(Dense(p.X), place), Uploaded(Dense(p.Y), place))
    streamed = passes(p, there, budget, outcomes)
    rate = data / streamed["seconds"]
    yield {
        **streamed, "rate": rate, "share": rate / min(copies["pinned"], copies["host"]), "same_bits": None, **copies,
    }  # fmt: skip
    there = Examples(*(Dense(resident(table, place).T) for table in (p.table, p.targets)))
    whole = passes(p, there, budget, outcomes)
    same = len({tuple(_bits(outcome)) for outcome in outcomes}) == 1
    yield {
        **streamed, "rate": rate, "share": rate / min(copies["pinned"], copies["host"]), "same_bits": same, **copies,
        "resident_seconds": whole["seconds"],
    }  # fmt: skip
    run = gradient_descent(
        p.network, p.params, p.X, p.Y, learning_rate=0.1, iterations=2, device="cuda", device_memory=limit
    )
    yield {"what": "a training of 2 iterations under the limit", "costs": run.costs, "note": run.note, "step": run.step}


def _bits(outcome: Any) -> list[bytes]:
    J, gradient = outcome
    return [np.float64(J).tobytes(), gradient.get().tobytes()]


# --- Precision ------------------------------------------------------------------------------------------------


def precision() -> Points:
    """The error of the gradient in float32 and in TF32, against float64 on the CPU."""
    for name in CASES:
        p = rows_of(name)

        def work(p: Problem = p) -> dict[str, Any]:
            wanted, found = np.concatenate([array.reshape(-1) for array in exact(p)]), dict[str, Any]()
            ready = prepare(p.network, p.params, p.X, p.Y, None, "cuda")
            for which in (None, "tf32"):
                with ready.place.current(), ready.objective(p.network, 0.0, None, which) as objective:
                    _, gradient = objective.cost_and_gradient(ready.theta)
                    found[f"block of {which or 'float32'}"] = objective.fold.block
                found[which or "float32"] = error([gradient.get()], [wanted])
            return found

        yield attempt({"case": name, "m": ROWS}, work)


PARTS: dict[str, Callable[[], Points]] = {
    "card": card,
    "steps": ours,
    "pieces": pieces,
    "torch-eager": lambda: torch_peer(compiled=False),
    "torch-compiled": lambda: torch_peer(compiled=True),
    "jax": jax_peer,
    "streaming": streaming,
    "precision": precision,
}


def main(part: str) -> int:
    """Print the points of a part. A part that another project is missing for says so, and is no failure of ours."""
    try:
        for point in PARTS[part]():
            print(json.dumps(point), flush=True)
    except ModuleNotFoundError as fault:
        print(json.dumps({"error": f"{fault.name} is not installed"}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
