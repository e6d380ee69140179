"""What runs on the card, each part in a process of its own: python -m bench.gpu_parts PART prints a JSON object a line.

Tables are 2^16 rows repeated, so that the gradient is that of these rows whatever m is, and is compared with the one in
float64. Times are of calls that return when the card is done, by the host's clock: medians after some untimed calls.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench import peers, problem
from bench.children import one_line
from bench.problem import Problem, Shape, error, error_of_gradient, exact
from bench.timing import card_seconds
from fullbatch import cost_and_gradients, gradient_descent, steps
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, Params, count, flatten, unflatten
from fullbatch.fold.tree import added
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


def rows_of(name: str) -> Problem:
    return problem.make(Shape.parse(name), ROWS)


# --- The card -------------------------------------------------------------------------------------------------


def card(scale: float = 1.0) -> Points:
    """What it is, and how fast it copies and multiplies."""
    import cupy

    from fullbatch.sources.conveyor import Conveyor

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
    _, copy = pinned_copy(size)
    yield attempt({"what": "plain pinned copy"}, lambda: rate(size, copy))
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


def pinned_copy(size: int) -> tuple[np.ndarray, Callable[[], None]]:
    """Pinned memory of the host, and a call that copies it to the card and waits."""
    import cupy

    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(size), np.uint8, size)
    target, kind = cupy.empty(size, dtype="uint8"), cupy.cuda.runtime.memcpyHostToDevice

    def copy() -> None:
        cupy.cuda.runtime.memcpyAsync(target.data.ptr, pinned.ctypes.data, size, kind, 0)
        cupy.cuda.Device().synchronize()

    return pinned, copy


# --- The step -------------------------------------------------------------------------------------------------


def bytes_moved(shape: Shape, step: str) -> int | None:
    """What an example moves in a step of one hidden layer and one unit, as steps/cuda counts it; None of others.

    With its share of the row of sums of its segment, which is written and read once.
    """
    if len(shape.sizes) != 3 or shape.sizes[-1] != 1:
        return None
    n_in, n_hidden, _ = shape.sizes
    once = n_in + 1
    numbers = {"onepass": once, "tensor": once, "fused": 2 * n_in + 4 * n_hidden + 1}.get(step)
    if numbers is None:
        return None
    return round(4 * (numbers + 2 * count(shape.sizes) / steps.segment(step, shape.network)))


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


def able(network: Network, like: Any) -> list[str]:
    """The steps that can run of numbers, the fastest first."""
    return [name for name, step in steps.STEPS.items() if not step.takes_codes and step.can_run(network, like)]


@dataclass(frozen=True)
class Case:
    """A problem on the card: its 2^16 rows ``repeats`` times."""

    p: Problem
    repeats: int
    X: Any
    Y: Any
    params: Any
    wanted: Params

    @classmethod
    def of(cls, name: str, repeats: int) -> Case:
        import cupy

        p = rows_of(name)
        X, Y = (cupy.tile(cupy.asarray(a), (repeats, 1)).T for a in (p.table, p.targets))
        return cls(p, repeats, X, Y, tuple(Layer(cupy.asarray(W), cupy.asarray(b)) for W, b in p.params), exact(p)[1])

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
            each = bytes_moved(self.p.shape, step)
            moved = each and ROWS * self.repeats * each
            return {
                **times, "error_of_gradient": error_of_gradient(found[1], self.wanted),
                "peak": pool.total_bytes() - held, "bytes_moved": moved, "rate": moved and moved / times["seconds"],
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
    for step in able(case.p.network, case.X):
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

    def sums(X: Any) -> Any:
        return step.segments.rows(-(-X.shape[1] // segment), backward=True)

    def hidden(X: Any) -> Any:
        return step._Z[0][: X.shape[1] * n_hidden].reshape(-1, n_hidden)

    def over(work: Callable[[Any, Any, Any], Any]) -> Callable[[], Any]:
        """The piece over all blocks: ``work`` gets X, Y and what takes turns as Z and dZ."""
        return lambda: [work(case.X[:, part], case.Y[:, part], hidden(case.X[:, part])) for part in parts]

    found: dict[str, tuple[Callable[[Any, Any, Any], Any], int]] = {
        "Z1 = X W1^T": (lambda X, Y, Z: step._forward(X, False, segment), n_in + n_hidden),
        "tail": (lambda X, Y, Z: step._tail(Z, Y, None, sums(X), segment), 2 * n_hidden + 1),
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
                wrong = {"error_of_dW1": error(FORMS[piece](dZ, rows).get(), wanted)} if piece in FORMS else {}
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
    sums = step.segments.rows(-(-k // segment), backward=True)
    step.multiply.over_examples(dZ, rows, sums.gradient[:, : n * n_in].reshape(-1, n, n_in), segment)
    nodes = step.segments.gradients(sums, weights_of(k, None, segment))
    return added(node.vector[: n * n_in] for node in nodes).reshape(n, n_in)


FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "dW1 = dZ1^T X": lambda dZ, rows: dZ.T @ rows,
    "dW1 = (X^T dZ1)^T": lambda dZ, rows: (rows.T @ dZ).T,
    "dW1 by segments": _by_segments,
}


def seconds_on_card(call: Callable[[], Any], *, untimed: int = 3, rounds: int = 10) -> dict[str, float]:
    """As ``seconds_of``, between two events on the stream."""
    import cupy

    seconds = [card_seconds(cupy, call) for _ in range(untimed + rounds)]
    times = seconds[untimed:]
    return {"seconds": statistics.median(times), "least": min(times), "rounds": len(times)}


# --- Peers ----------------------------------------------------------------------------------------------------


def torch_peer(compiled: bool, device: str = "cuda", scale: float = 1.0) -> Points:
    """PyTorch with automatic differentiation, in float32 (not TF32, which is off by default there too)."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    yield {"package": f"torch {torch.__version__}"}
    on_card = device == "cuda"
    make = partial(peers.torch_eager, device=device, compiled=compiled)
    for point in _peer(make, scale, lambda: {"peak": torch.cuda.max_memory_allocated() if on_card else None}):
        yield point
        if on_card:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def jax_peer(device: str = "cuda", scale: float = 1.0) -> Points:
    """JAX, value_and_grad under jit, in float32: its default on a card is TF32. RuntimeError where it sees no card."""
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")
    here = jax.devices()[0]
    yield {"package": f"jax {jax.__version__}", "device": str(here)}
    if device == "cuda" and here.platform == "cpu":  # pip install jax has no CUDA: it would time the CPU, in silence
        raise RuntimeError("JAX sees no GPU and would compute on the CPU; install jax[cuda13].")
    yield from _peer(peers.jax_jit, scale, dict)


def _peer(make: Callable[..., peers.Step], scale: float, more: Callable[[], dict[str, Any]]) -> Points:
    """A point for each case: ``make(p, repeats=)`` gives a step of peers.py; ``more`` comes after it."""

    def timed(name: str, repeats: int) -> dict[str, Any]:
        p = rows_of(name)
        step, found = make(p, repeats=repeats), list[Any]()

        def call() -> None:
            found[:] = step()

        times = seconds_of(call)
        return {**times, **more(), "error_of_gradient": error_of_gradient(found[1], exact(p)[1])}

    for name, times in CASES.items():
        repeats = max(1, int(times * scale))
        yield attempt({"case": name, "m": ROWS * repeats}, partial(timed, name, repeats))


# --- Streaming ------------------------------------------------------------------------------------------------


def copy_rates(table: np.ndarray, size: int) -> dict[str, Any]:
    """Bytes per second of a plain pinned copy, and of the host's own copy by several threads and by one."""
    import cupy

    from fullbatch.sources.conveyor import Conveyor

    pinned, copy = pinned_copy(size)
    conveyor, part = Conveyor(cupy), table[: size // table.strides[0]]
    buffer = pinned[: part.nbytes].view(table.dtype).reshape(part.shape)

    return {
        "pinned": size / seconds_of(copy)["seconds"],
        "host": part.nbytes / seconds_of(lambda: conveyor._fill(buffer, part))["seconds"],
        "host, one thread": part.nbytes / seconds_of(lambda: np.copyto(buffer, part), rounds=3)["seconds"],
        "threads": conveyor.threads,
    }


def passes(network: Network, theta: Any, examples: Examples, budget: float, found: list[Any]) -> dict[str, Any]:
    """Whole costs and gradients over the examples, timed; the outcomes go to ``found``."""
    import cupy

    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    held = pool.used_bytes()
    with Objective(network, examples, budget=budget) as objective:
        times = seconds_of(lambda: found.append(objective.cost_and_gradient(theta)), untimed=1, rounds=5, most=10)
        peak = pool.total_bytes() - held
        return {**times, "peak": peak, "note": objective.fold.note, "block": objective.fold.block}


def streaming(scale: float = 1.0, limit: int = 10**9) -> Points:
    """Data of more than the limit that is set: the rate of whole passes, beside a plain pinned copy and the host's."""
    from fullbatch.sources import Uploaded
    from fullbatch.sources.placing import resident

    p = problem.make(Shape.parse("28-64-1"), int(3 * 2**24 * scale))
    data = p.table.nbytes + p.targets.nbytes
    yield {"data": data, "limit": limit}
    copies = copy_rates(p.table, int(2**30 * scale))
    yield {"what": "copies", **copies}
    place, outcomes = places.place("cuda"), list[Any]()
    theta = place.put(flatten(p.params))
    budget = place.budget(limit)
    there = Examples(Uploaded(Dense(p.X), place), Uploaded(Dense(p.Y), place))
    streamed = passes(p.network, theta, there, budget, outcomes)
    rate = data / streamed["seconds"]
    told = {**streamed, "rate": rate, "share": rate / min(copies["pinned"], copies["host"]), **copies}
    yield {**told, "same_bits": None}
    there = Examples(*(Dense(resident(table, place).T) for table in (p.table, p.targets)))
    whole = passes(p.network, theta, there, budget, outcomes)
    bits = {np.float64(J).tobytes() + gradient.get().tobytes() for J, gradient in outcomes}
    yield {**told, "same_bits": len(bits) == 1, "resident_seconds": whole["seconds"]}
    run = gradient_descent(
        p.network, p.params, p.X, p.Y, learning_rate=0.1, iterations=2, device="cuda", device_memory=limit
    )
    yield {"what": "a training of 2 iterations under the limit", "costs": run.costs, "note": run.note, "step": run.step}


# --- Precision ------------------------------------------------------------------------------------------------


def precision() -> Points:
    """The error of the gradient in float32 and in TF32, against float64 on the CPU."""
    for name in CASES:
        p = rows_of(name)

        def work(p: Problem = p) -> dict[str, Any]:
            wanted, found = exact(p)[1], dict[str, Any]()
            ready = prepare(p.network, p.params, p.X, p.Y, None, "cuda")
            for which in (None, "tf32"):
                with ready.place.current(), ready.objective(p.network, 0.0, None, which) as objective:
                    _, gradient = objective.cost_and_gradient(ready.theta)
                    found[f"block of {which or 'float32'}"] = objective.fold.block
                found[which or "float32"] = error_of_gradient(unflatten(gradient, p.shape.sizes), wanted)
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


def main(part: str, parts: dict[str, Callable[[], Points]] = PARTS) -> int:
    """Print the points of a part. A part that another project is missing for says so, and is no failure of ours."""
    try:
        for point in parts[part]():
            print(json.dumps(point), flush=True)
    except ModuleNotFoundError as fault:
        print(json.dumps({"error": f"{fault.name} is not installed"}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
