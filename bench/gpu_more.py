"""What is asked of a card after ``bench gpu``: python -m bench.gpu_more PART prints a JSON object a line.

gpu.FURTHER has the parts in the order of their worth, with how long each may take.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench import gpu_parts, problem
from bench.gpu_parts import ROWS, Points, able, attempt, passes, seconds_of
from bench.losses import torch_leaves, torch_loss
from bench.problem import Problem, Shape
from fullbatch.core.network import Network
from fullbatch.core.parameters import flatten
from fullbatch.machine import places
from fullbatch.sources import Dense, Examples, OneHot, Uploaded
from fullbatch.sources.encoded import EncodedTable, EncodedThere
from fullbatch.sources.placing import made_dense
from fullbatch.training.loop import epochs
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import adam
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import TrainingState

EPOCHS = {"784-100-10": 2**18, "28-64-1": 2**21}  # m
BATCHES = 1000, 10_000
RATE = 1e-3
RUNS = 10
DTYPES = "float32", "float64"
OF_HASHES = "28-64-1", "784-100-10", "28-1"
OF_KERNELS = "28-64-1", "3-5-4-3", "40-9-1", "28-1"
LEVELS = 12, 31, 16, 105, 331  # of the categories of a table like flights


# --- A table of codes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Codes:
    """A table like flights: a number and five categories, 14 bytes a row in float32, for 496 features."""

    network: Network
    table: EncodedTable
    targets: np.ndarray

    @classmethod
    def of(cls, m: int, dtype: str = "float32") -> Codes:
        rng = np.random.default_rng(0)
        starts = 1 + np.cumsum([0, *LEVELS[:-1]])
        ones = np.stack([s + rng.integers(0, n, m) for s, n in zip(starts, LEVELS, strict=True)], 1).astype(np.uint16)
        table = EncodedTable(rng.standard_normal((m, 1)).astype(dtype), ones, 1 + sum(LEVELS))
        targets = (table.numbers[:, 0] + (ones[:, -1] % 3) > 1).astype(dtype)[np.newaxis]
        return cls(Network([table.n, 64, 1]), table, targets)

    @property
    def m(self) -> int:
        return self.table.m

    @property
    def theta(self) -> Any:
        import cupy

        return cupy.asarray(flatten(self.network.init(seed=0, dtype=self.table.numbers.dtype.name)))

    def there(self, ones: bool = False) -> Examples:
        """On the card, as codes, or as ``ones`` and zeros."""
        import cupy

        codes = EncodedThere(cupy.asarray(self.table.numbers), cupy.asarray(self.table.ones), self.table.n)
        Y = Dense(cupy.asarray(self.targets))
        if not ones:
            return Examples(codes, Y)
        made = made_dense(codes, places.place("cuda"))
        if made is None:
            raise MemoryError("the card has no room for X of ones and zeros")
        return Examples(Dense(made.T), Y)

    def streamed(self, ones: bool = False) -> Examples:
        place = places.place("cuda")
        X: Any = Ones(self.table) if ones else self.table
        return Examples(Uploaded(X, place), Uploaded(Dense(self.targets), place))


@dataclass(frozen=True)
class Ones:
    """A table of codes that has no codes for whoever asks."""

    table: EncodedTable

    def __getattr__(self, name: str) -> Any:
        if name in ("entries", "coded_reader", "in_memory"):
            raise AttributeError(name)
        return getattr(self.table, name)


def codes(scale: float = 1.0) -> Points:
    """A gradient, and an epoch of Adam, over a table of codes: there and streamed, as codes and as ones and zeros."""
    table = Codes.of(max(1, int(84 * scale)) * ROWS)  # X of ones and zeros: 10.9 GB
    gradients: list[Any] = []
    for name in ("there", "streamed"):
        for ones in (False, True):
            what = {"case": "codes", "m": table.m, "X": f"{'ones' if ones else 'codes'}, {name}"}
            yield attempt(what, partial(_of_codes, table, name, ones, gradients))
    for batch in BATCHES:
        for ones in (False, True):
            what = {"case": "codes", "m": table.m, "batch": batch, "X": "ones" if ones else "codes"}
            yield attempt(what, partial(_epoch_of_codes, table, ones, batch))


def _of_codes(table: Codes, where: str, ones: bool, gradients: list[Any]) -> dict[str, Any]:
    """Also how far the gradient is from the first one."""
    examples = getattr(table, where)(ones)
    with Objective(table.network, examples) as objective:
        found = objective.cost_and_gradient(table.theta)[1].get()
        step = objective.fold.step_name
    gradients.append(found)
    apart = float(np.max(np.abs(found - gradients[0])) / np.max(np.abs(gradients[0])))
    return {"step": step, "apart": apart, **passes(table.network, table.theta, examples, np.inf, [])}


def _epoch_of_codes(table: Codes, ones: bool, batch: int) -> dict[str, Any]:
    with trained(table, table.theta, table.there(ones), batch) as loop:
        return seconds_of(lambda: next(loop), untimed=1, rounds=3, most=15)


# --- An epoch of Adam -----------------------------------------------------------------------------------------


def on_card(p: Problem) -> tuple[Any, Examples]:
    """The parameters as one vector, and the examples, on the card; of several classes in float32 the codes."""
    import cupy

    X, theta = Dense(cupy.asarray(p.table).T), cupy.asarray(flatten(p.params))
    if p.shape.sizes[-1] == 1 or p.table.dtype != np.float32:
        return theta, Examples(X, Dense(cupy.asarray(p.targets).T))
    return theta, Examples(X, OneHot(cupy.asarray(p.codes.astype(np.int32)), p.shape.sizes[-1], np.dtype("float32")))


def orders(m: int) -> Iterator[np.ndarray]:
    """Drawn on the host, as the estimators do."""
    rng, order = np.random.RandomState(0), np.arange(m, dtype=np.int32)
    while True:
        rng.shuffle(order)
        yield order


@contextmanager
def trained(
    p: Problem | Codes, theta: Any, examples: Examples, batch: int, *, light: bool = True
) -> Iterator[Iterator[TrainingState]]:
    """By Adam: the state after each epoch."""
    optimizer = adam()
    state = TrainingState.start(theta, optimizer, Schedule("constant", RATE))
    with Objective(p.network, examples) as objective:
        yield epochs(objective, optimizer, state, orders=orders(p.m), batch_size=batch, light=light)


def our_epochs(p: Problem, batch: int, held: ExitStack) -> Callable[[], float]:
    """A call that trains for an epoch, and gives its cost."""
    loop = held.enter_context(trained(p, *on_card(p), batch))
    return lambda: next(loop).costs[-1]


def torch_epochs(
    p: Problem, batch: int, held: ExitStack, *, compiled: bool, device: str = "cuda"
) -> Callable[[], float]:
    """The same by PyTorch: fused Adam, the order drawn on the card; ``compiled`` is with CUDA graphs."""
    import torch

    X = torch.tensor(p.table, device=device)
    targets = torch.tensor(p.targets if p.shape.sizes[-1] == 1 else p.codes, device=device)
    leaves = torch_leaves(p, device)
    optimizer = torch.optim.Adam(leaves, lr=RATE, fused=device == "cuda")
    loss = torch_loss(p.shape.output)
    function = torch.compile(loss, mode="reduce-overhead", dynamic=False) if compiled else loss

    def epoch() -> float:
        order, total = torch.randperm(p.m, device=device), torch.zeros((), device=device)
        for start in range(0, p.m, batch):
            index = order[start : start + batch]
            J = function(X[index], targets[index], leaves)
            optimizer.zero_grad(set_to_none=True)
            J.backward()
            optimizer.step()
            total += J.detach() * (len(index) / p.m)
        return float(total)

    return epoch


def epochs_of_adam(scale: float = 1.0) -> Points:
    """Seconds of an epoch, ours and PyTorch's. All batches are of one length, so that nothing is compiled twice."""
    makers: dict[str, Callable[..., Callable[[], float]]] = {
        "fullbatch": our_epochs,
        "PyTorch eager": partial(torch_epochs, compiled=False),
        "PyTorch compiled, CUDA graphs": partial(torch_epochs, compiled=True),
    }
    for name, m in EPOCHS.items():
        for batch in BATCHES:
            rows = max(2, round(m * scale) // batch) * batch
            p = problem.make(Shape.parse(name), rows)
            for who, make in makers.items():
                what = {"case": name, "m": rows, "batch": batch, "who": who}
                yield attempt(what, partial(_timed_epochs, make, p, batch))


def _timed_epochs(make: Callable[..., Callable[[], float]], p: Problem, batch: int) -> dict[str, Any]:
    costs: list[float] = []
    with ExitStack() as held:
        call = make(p, batch, held)
        times = seconds_of(lambda: costs.append(call()), untimed=2, rounds=5, most=15)
    return {**times, "updates": p.m // batch, "first_cost": costs[0], "last_cost": costs[-1]}


# --- Ten runs, one hash -----------------------------------------------------------------------------------------


def hashes(runs: int = RUNS, m: int = 300_001) -> Points:
    """Of a gradient by each step, and of two epochs of Adam: how many different results so many runs have."""
    for name in OF_HASHES:
        p = problem.make(Shape.parse(name), m if Shape.parse(name).sizes[0] < 100 else m // 8)
        theta, examples = on_card(p)
        for step in able(p.network, examples.X.like):
            call = partial(_bits_of, step, p, theta, examples)
            yield attempt({"case": name, "step": step}, partial(_different, runs, call))
        what = {"case": name, "step": "two epochs of Adam"}
        yield attempt(what, partial(_different, runs, partial(_bits_of_epochs, p, theta, examples)))
    table = Codes.of(m)
    for step, bits in (("coded", partial(_bits_of, "coded")), ("two epochs of Adam", _bits_of_epochs)):
        call = partial(bits, table, table.theta, table.there())
        yield attempt({"case": "codes", "step": step}, partial(_different, runs, call))


def _different(runs: int, call: Callable[[], bytes]) -> dict[str, Any]:
    found = {hashlib.sha1(call()).hexdigest() for _ in range(runs)}
    return {"runs": runs, "different": len(found), "hash": min(found)}


def _bits_of(step: str, p: Problem | Codes, theta: Any, examples: Examples) -> bytes:
    with gpu_parts.only(step), Objective(p.network, examples) as objective:
        J, gradient = objective.cost_and_gradient(theta)
    return np.float64(J).tobytes() + gradient.get().tobytes()


def _bits_of_epochs(p: Problem | Codes, theta: Any, examples: Examples, batch: int = 1000) -> bytes:
    with trained(p, theta, examples, min(batch, p.m // 2), light=False) as loop:
        last = [next(loop) for _ in range(2)][-1]
    return np.array(last.costs[1]).tobytes() + last.theta.get().tobytes()


# --- compute-sanitizer --------------------------------------------------------------------------------------------


def kernels(m: int = 1300) -> Points:
    """Each kernel of ours once or twice, on few examples: what a sanitizer looks at."""
    for name in OF_KERNELS:
        for dtype in DTYPES:
            p = problem.make(Shape.parse(name), m, dtype)
            theta, examples = on_card(p)
            for step in able(p.network, examples.X.like):
                _bits_of(step, p, theta, examples)
                yield {"case": name, "dtype": dtype, "step": step}
            _bits_of_epochs(p, theta, examples, 200)
            yield {"case": name, "dtype": dtype, "step": "two epochs of Adam"}
    for dtype in DTYPES:
        table = Codes.of(m, dtype)
        _bits_of("coded", table, table.theta, table.there())
        _bits_of_epochs(table, table.theta, table.there(), 200)
        yield {"case": "codes", "dtype": dtype, "step": "coded"}


def sanitized(tool: str) -> Points:
    """What NVIDIA's compute-sanitizer finds in ``kernels``. It comes with the CUDA toolkit, and with no wheel."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        yield {"tool": tool, "error": "compute-sanitizer is not on PATH; it comes with NVIDIA's CUDA toolkit"}
        return
    command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "bench.gpu_more", "kernels"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("=========")]
    yield {
        "tool": tool, "exit": done.returncode, "seconds": time.perf_counter() - began,
        "ran": done.stdout.count('"case"'), "said": lines[-1].lstrip("= ") if lines else "", "first": lines[:20],
    }  # fmt: skip


# --- More forms ------------------------------------------------------------------------------------------------


FORMS = {"28-1": 160, "784-100-10": 8, "28-64-64-1": 64, "10-16-1": 160}  # m in units of gpu_parts.ROWS


def forms(scale: float = 1.0) -> Points:
    """One cost and gradient by each step that can run, of shapes that the nine minutes have no time for."""
    for name, repeats in FORMS.items():
        yield from gpu_parts._steps_of(name, max(1, int(repeats * scale)))


PARTS: dict[str, Callable[[], Points]] = {
    "kernels": kernels,
    "memcheck": partial(sanitized, "memcheck"),
    "racecheck": partial(sanitized, "racecheck"),
    "epochs": epochs_of_adam,
    "hashes": hashes,
    "forms": forms,
    "codes": codes,
}

if __name__ == "__main__":
    sys.exit(gpu_parts.main(sys.argv[1], PARTS))
