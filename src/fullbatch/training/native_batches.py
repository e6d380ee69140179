"""Native training by mini-batches: one update of the parameters after each, without the interpreter in between.

For a batch of 200 the interpreter takes longer than the batch itself. The twin of minibatches.PythonBatches, to which
test_minibatches.py holds it.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fullbatch.core.dropout import Dropout
from fullbatch.core.network import Network
from fullbatch.core.parameters import count
from fullbatch.machine import arrays, native_library
from fullbatch.machine.memory import Reused
from fullbatch.machine.native_library import Block
from fullbatch.sources import Examples, Layout, Where, batches, in_memory, length, remaining
from fullbatch.steps.cuda.updates import KINDS
from fullbatch.steps.native import NO_MEMORY, OUT_OF_RANGE, NativeStep, as_c, in_elements, put_targets, put_X
from fullbatch.training.optimizers import Optimizer
from fullbatch.training.state import TrainingState

LARGEST = 4096  # examples of a native batch: larger ones lose nothing in the fold, whose memory is not theirs
LONGEST_WORK = 2**32  # multiplications of a batch, a fifth of a second of one core: C comes back between batches only
SLICE = 0.2  # seconds after which a native run comes back, for Ctrl-C
CHUNK = 2**23  # bytes of X that are read at a time where a source makes its blocks
LONGEST = 2**20  # examples whose targets are read at a time
TILE = 64  # examples: C's, a batch's parts are no longer
SHARE = 2**19  # multiplications of a batch that are worth a thread of their own
# The optimisers that C knows: what each is to it, (kind, a, b, epsilon), by the numbers that it was made with.
RULES: dict[str, Callable[[Any], tuple[str, float, float, float]]] = {
    "gd": lambda of: ("gd", 0.0, 0.0, 0.0),
    "sgd": lambda of: ("nesterov" if of["nesterovs_momentum"] else "momentum", of["momentum"], 0.0, 0.0),
    "adam": lambda of: ("adam", of["beta_1"], of["beta_2"], of["epsilon"]),
}


class NativeBatches:
    """The trainer of src/native/epoch.h. A full batch stays in the fold: its costs have the bits of objective.cost.

    What it has learned lies in C, and is copied from there when it is asked for: after each run it would be as many
    numbers again.

    kept : whether a checkpoint asks for it now and then, so that memory for the copies is held ready
    """

    @staticmethod
    def can_run(step_name: str, optimizer: Optimizer, theta: Any, batch_size: int, m: int) -> bool:
        if step_name != NativeStep.name or not arrays.is_numpy(theta) or optimizer.name not in RULES:
            return False
        return batch_size <= LARGEST and batch_size < m and batch_size * theta.size <= LONGEST_WORK

    def __init__(
        self,
        network: Network,
        examples: Examples,
        optimizer: Optimizer,
        state: TrainingState,
        *,
        batch_size: int,
        l2: float,
        intercept: bool,
        threads: int,
        dropout: Dropout | None = None,
        kept: bool = False,
    ) -> None:
        sizes, theta, size = network.sizes, state.theta, count(network.sizes)
        for name, array in zip(("theta", *optimizer.keeps), (theta, *state.arrays), strict=True):
            if array.shape != (size,):
                raise ValueError(f"{name} has the shape {array.shape} for the {size} parameters of {sizes} units.")
        library, shape = as_c(network, theta.dtype)
        self.library, self.network, self.examples, self.optimizer = library, network, examples, optimizer
        self.batch_size, self.size, self.dtype, self.length = batch_size, size, theta.dtype, examples.m
        self.copied_theta: Any = theta  # what C has, until the next run; None: it is still to be copied
        self.copied_arrays: tuple[Any, ...] | None = state.arrays
        self.copies = [Reused(self.size, self.dtype) for _ in ("theta", *optimizer.keeps)] if kept else []
        self.runs: list[int] = []  # the examples that each of C's runs did since ``begin``
        self.before, self.dropout = (state.updates, state.epoch_examples), dropout
        self.sum = ctypes.c_double(state.total)
        kind, a, b, epsilon = RULES[optimizer.name](optimizer.numbers)
        numbers = native_library.Rule(
            kind=KINDS.index(kind), a=a, b=b, epsilon=epsilon, fixed_biases=not intercept, l2=l2
        )
        self.handle = library.fb_trainer_new(*shape, batch_size, numbers)
        if not self.handle:
            raise MemoryError(f"no memory for batches of {batch_size} examples of a network of {network.sizes} units.")
        weakref.finalize(self, library.fb_trainer_free, self.handle).atexit = False  # a daemon thread may be in it then
        loaded = [np.ascontiguousarray(array, theta.dtype) for array in (theta, *state.arrays)]
        library.fb_trainer_load(self.handle, *_addresses(loaded))
        self.in_memory, self.per_chunk = None, min(LONGEST, CHUNK // (sizes[-1] * theta.itemsize))
        layout, entries = in_memory(examples.X), float(sizes[0])
        self.through = None if layout is None or layout.through is None else np.asarray(layout.through)
        found = None
        if layout is not None and (self.through is None or np.min(self.through, initial=0) >= 0):
            found = _as_c(layout, theta.dtype, sizes[0])
        if layout is not None and found is not None:
            block, self.kept = found
            self.in_memory, entries = (block, layout.m), layout.entries
        else:
            self.read = examples.X.reader()
            self.per_chunk = min(self.per_chunk, CHUNK // (sizes[0] * theta.itemsize))
        self.threads = self._worth(threads, entries)

    def _worth(self, threads: int, entries: float) -> int:
        """As many threads as the work of a batch is worth, and as it has parts; ``entries`` are an example's in X."""
        n, n_1 = self.network.sizes[:2]
        work = self.batch_size * (self.size - (n - entries) * n_1)
        return max(1, min(threads, int(2 * work / SHARE), -(-self.batch_size // TILE)))

    @property
    def theta(self) -> Any:
        """Copied from C once for each run, and the arrays only if they are asked for."""
        if self.copied_theta is None:
            theta = np.empty(self.size, self.dtype)
            self.library.fb_trainer_store(self.handle, *_addresses([theta]))
            self.copied_theta = theta
        return self.copied_theta

    @property
    def arrays(self) -> tuple[Any, ...]:
        if self.copied_arrays is None:
            theta = self._for_a_copy(0) if self.copied_theta is None else self.copied_theta
            kept = [self._for_a_copy(number) for number, _ in enumerate(self.optimizer.keeps, start=1)]
            self.library.fb_trainer_store(self.handle, *_addresses([theta, *kept]))  # theta's bits once more
            self.copied_theta, self.copied_arrays = theta, tuple(kept)
        return self.copied_arrays

    def _for_a_copy(self, number: int) -> np.ndarray:
        """An array for theta (0), or for one of the optimiser's, as a checkpoint is given them."""
        return self.copies[number].array() if self.copies else np.empty(self.size, self.dtype)

    @property
    def updates(self) -> int:
        return self.before[0] + sum(-(-n // self.batch_size) for n in self.runs if n > 0)

    @property
    def epoch_examples(self) -> int:
        return self.before[1] + sum(n for n in self.runs if n > 0)

    @property
    def total(self) -> float:
        return self.sum.value

    @property
    def cost(self) -> float:
        return self.total / self.length

    def begin(self, done: int, total: float) -> None:
        self.before, self.runs, self.sum = (self.updates, done), [], ctypes.c_double(total)

    def run(self, order: Where, rate: Callable[[int], float], first: int = 0, m: int | None = None) -> Iterator[float]:
        """Go through the examples in their order; see minibatches.Batches."""
        assert self.examples.Y is not None
        read_Y, weight = self.examples.Y.reader(), self.examples.weight
        self.length = m or length(order)
        left = remaining(order, self.epoch_examples - first)
        for where in batches(left, max(self.per_chunk // self.batch_size, 1) * self.batch_size):
            block, m_X, index, kept = self._source(where)
            Y = read_Y(where)
            rates = [rate(self.updates + i) for i in range(-(-len(index) // self.batch_size))]
            for _ in self._run(block, m_X, index, Y, None if weight is None else weight[where], rates):
                yield self.cost
            del kept

    def _run(
        self, block: Block, m_X: int, index: np.ndarray, Y: Any, weight: Any, rates: list[float]
    ) -> Iterator[None]:
        """C's runs through the examples ``index`` of the block, each no longer than SLICE.

        ``sum`` is one for the whole epoch, since where runs end depends on the time.
        """
        of_updates = corrected(self.optimizer, np.array(rates), self.updates)
        done, updates = 0, 0
        while done < len(index):
            rest = slice(done, None)
            block.m = len(index) - done
            left = None if weight is None else weight[rest]
            self._leave_out()
            kept = put_targets(block, Y[:, rest], left, self.dtype, (self.network.sizes[-1], block.m))
            of_C = (
                self.handle, self.threads, block, index[rest].ctypes.data, m_X, self.batch_size,
                of_updates[updates:].ctypes.data, SLICE, self.sum,
            )  # fmt: skip
            self.copied_theta = self.copied_arrays = None
            # One call for the interpreter: Ctrl-C cannot come between a run and the count of what it did.
            self.runs.extend(map(self.library.fb_trainer_run, *zip(of_C, strict=True)))
            n = self.runs[-1]
            del kept
            if n == OUT_OF_RANGE:
                raise ValueError("the native training refused X: one of its features is out of range.")
            if n == NO_MEMORY:
                raise MemoryError(f"no memory for {self.threads} threads of the native training.")
            if n <= 0:
                raise IndexError(f"the native training refused an order of examples beyond the {m_X} of X.")
            done, updates = done + n, updates + -(-n // self.batch_size)
            yield

    def _leave_out(self) -> None:
        """Tell C what the next run's batches leave out, which follows from the number of the first update."""
        if self.dropout is None:
            return
        rates = np.array(self.dropout.rates)
        if self.library.fb_trainer_dropout(self.handle, rates.ctypes.data, self.dropout.seed, self.updates):
            raise MemoryError("no memory for the rates of dropout.")

    def _source(self, where: Where) -> tuple[Block, int, np.ndarray, Any]:
        """(X as C sees it, its number of examples, which of them in which order, what must live as long).

        What lies in memory is taken as it lies; blocks of another source are read in the order.
        """
        if self.in_memory is not None:
            index = np.arange(where.start, where.stop) if isinstance(where, slice) else where
            index = index if self.through is None else self.through[index]
            return *self.in_memory, np.ascontiguousarray(index, np.int64), None
        block = Block()
        arrays = put_X(block, self.read(where), self.dtype, self.network.sizes[0])
        return block, length(where), np.arange(length(where), dtype=np.int64), arrays


def corrected(optimizer: Optimizer, rates: np.ndarray, updates: int) -> np.ndarray:
    """The rates of the updates after so many, with Adam's correction for having started from zero."""
    if optimizer.name != "adam":
        return rates
    t, of = updates + 1 + np.arange(len(rates)), optimizer.numbers
    return np.asarray(rates * np.sqrt(1 - of["beta_2"] ** t) / (1 - of["beta_1"] ** t))


def _as_c(layout: Layout, dtype: np.dtype, n: int) -> tuple[Block, list[Any]] | None:
    """X (n, m) as C sees it and what must live as long, where C can take it as it lies in memory."""
    block = Block()
    if layout.rows is not None:
        few = layout.entries <= NativeStep.takes_sparse * n
        fits = few and layout.rows.dtype == dtype and layout.rows.nnz < 2**31
        return (block, put_X(block, layout.rows.T, dtype, n)) if fits else None
    if layout.codes is None:
        return (block, put_X(block, layout.numbers, dtype, n)) if in_elements(layout.numbers, dtype) else None
    numbers, codes = layout.numbers, layout.codes
    few = layout.entries <= NativeStep.takes_sparse * n
    if not few or codes.dtype not in (np.uint8, np.uint16, np.uint32) or numbers.dtype != dtype:
        return None
    if len(codes) != layout.m:
        raise ValueError(f"a table with {layout.m} rows of numbers and {len(codes)} of codes.")
    block.numbers, (_, block.n_codes), block.code_bytes = len(numbers), codes.shape, codes.itemsize
    codes = np.ascontiguousarray(codes)
    block.codes = codes.ctypes.data
    return block, [*put_X(block, numbers, dtype, block.numbers), codes]


def _addresses(arrays: list[Any]) -> list[int | None]:
    """Of theta and of up to two arrays of the optimiser, None for what it has not."""
    return [array.ctypes.data for array in arrays] + [None] * (3 - len(arrays))
