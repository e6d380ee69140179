"""Native training by mini-batches: one update of the parameters after each, without the interpreter in between.

For a batch of 200 the interpreter takes longer than the batch itself. The twin of minibatches.PythonBatches, to which
test_minibatches.py holds it.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from fullbatch.core.network import Network
from fullbatch.machine import arrays, native_library
from fullbatch.machine.native_library import Examples as Block
from fullbatch.sources import Columns, Dense, Examples, Sparse, Subset, Where, batches, length, sparse_reader
from fullbatch.sources.encoded import EncodedTable
from fullbatch.steps.native import NO_MEMORY, OUT_OF_RANGE, NativeStep, as_c, in_elements, put_targets, put_X
from fullbatch.training.optimizers import AdamState, Rule

LARGEST = 4096  # examples of a native batch: larger ones lose nothing in the fold, whose memory is not theirs
LONGEST_WORK = 2**32  # multiplications of a batch, a fifth of a second of one core: C comes back between batches only
SLICE = 0.2  # seconds after which a native run comes back, for Ctrl-C
CHUNK = 2**23  # bytes of X that are read at a time where a source makes its blocks
LONGEST = 2**20  # examples whose targets are read at a time
TILE = 64  # examples: C's, a batch's parts are no longer
SHARE = 2**19  # multiplications of a batch that are worth a thread of their own
KINDS = ("gd", "momentum", "nesterov", "adam")  # in the order of C's enumeration


class NativeBatches:
    """The trainer of src/native/epoch.h. A full batch stays in the fold: its costs have the bits of objective.cost.

    ``theta`` and ``state`` are as after the last batch that ``run`` gave.
    """

    @staticmethod
    def can_run(step_name: str, rule: Rule | None, theta: Any, batch_size: int, m: int) -> bool:
        if step_name != NativeStep.name or not arrays.is_numpy(theta) or rule is None:
            return False
        return batch_size <= LARGEST and batch_size < m and batch_size * theta.size <= LONGEST_WORK

    def __init__(
        self,
        network: Network,
        examples: Examples,
        rule: Rule,
        theta: Any,
        state: Any,
        *,
        batch_size: int,
        l2: float,
        intercept: bool,
        threads: int,
    ) -> None:
        sizes = network.sizes
        count = sum(n * (fan_in + 1) for fan_in, n in pairwise(sizes))
        first, second = _arrays(rule, state, theta.dtype)
        for name, array in (("theta", theta), ("the optimiser's state", first), ("the optimiser's state", second)):
            if array is not None and array.shape != (count,):
                raise ValueError(f"{name} has the shape {array.shape} for the {count} parameters of {sizes} units.")
        library, shape = as_c(network, theta.dtype)
        self.library, self.network, self.examples, self.rule = library, network, examples, rule
        self.batch_size, self.theta, self.state = batch_size, theta, state
        numbers = native_library.Rule(
            kind=KINDS.index(rule.name), a=rule.a, b=rule.b, epsilon=rule.epsilon, fixed_biases=not intercept, l2=l2
        )
        self.handle = library.fb_trainer_new(*shape, batch_size, numbers)
        if not self.handle:
            raise MemoryError(f"no memory for batches of {batch_size} examples of a network of {network.sizes} units.")
        weakref.finalize(self, library.fb_trainer_free, self.handle).atexit = False  # a daemon thread may be in it then
        library.fb_trainer_load(self.handle, *map(_address, (np.ascontiguousarray(theta), first, second)))
        X: Columns = examples.X
        self.through = None
        if isinstance(X, Subset) and np.min(X.indices, initial=0) >= 0 and _in_memory(X.whole, theta.dtype, sizes[0]):
            self.through, X = np.asarray(X.indices), X.whole
        found = _in_memory(X, theta.dtype, sizes[0])
        self.in_memory, self.per_chunk = None, min(LONGEST, CHUNK // (sizes[-1] * theta.itemsize))
        if found is not None:
            block, self.kept = found
            self.in_memory = block, X.m
        else:
            self.read = X.reader()
            self.per_chunk = min(self.per_chunk, CHUNK // (sizes[0] * theta.itemsize))
        self.threads = self._worth(threads, _entries(X) if found is not None else sizes[0])

    def _worth(self, threads: int, entries: float) -> int:
        """As many threads as the work of a batch is worth, and as it has parts; ``entries`` are an example's in X."""
        n, n_1 = self.network.sizes[:2]
        work = self.batch_size * (self.theta.size - (n - entries) * n_1)
        return max(1, min(threads, int(2 * work / SHARE), -(-self.batch_size // TILE)))

    def run(self, order: Where, rate: Callable[[int], float], updates: int) -> Iterator[tuple[float, int]]:
        """Go through the examples in their order; see minibatches.Batches."""
        assert self.examples.Y is not None
        read_Y, weight = self.examples.Y.reader(), self.examples.weight
        cost = ctypes.c_double()  # one sum for the whole epoch: where runs end depends on the time
        for where in batches(order, max(self.per_chunk // self.batch_size, 1) * self.batch_size):
            block, m_X, index, kept = self._source(where)
            Y = read_Y(where)
            rates = [rate(updates + i) for i in range(-(-len(index) // self.batch_size))]
            for count in self._run(block, m_X, index, Y, None if weight is None else weight[where], rates, cost):
                updates += count
                yield cost.value / length(order), updates
            del kept

    def _run(
        self, block: Block, m_X: int, index: np.ndarray, Y: Any, weight: Any, rates: list[float], cost: ctypes.c_double
    ) -> Iterator[int]:
        """C's runs through the examples ``index`` of the block, each no longer than SLICE: the updates of each."""
        corrected = self._corrected(np.array(rates))
        done, updates = 0, 0
        while done < len(index):
            rest = slice(done, None)
            block.m = len(index) - done
            left = None if weight is None else weight[rest]
            kept = put_targets(block, Y[:, rest], left, self.theta.dtype, (self.network.sizes[-1], block.m))
            n = self.library.fb_trainer_run(
                self.handle, self.threads, block, index[rest].ctypes.data, m_X, self.batch_size,
                corrected[updates:].ctypes.data, SLICE, cost,
            )  # fmt: skip
            del kept
            if n == OUT_OF_RANGE:
                raise ValueError("the native training refused X: one of its features is out of range.")
            if n == NO_MEMORY:
                raise MemoryError(f"no memory for {self.threads} threads of the native training.")
            if n <= 0:
                raise IndexError(f"the native training refused an order of examples beyond the {m_X} of X.")
            count = -(-n // self.batch_size)
            done, updates = done + n, updates + count
            self._store(count)
            yield count

    def _source(self, where: Where) -> tuple[Block, int, np.ndarray, Any]:
        """(X as C sees it, its number of examples, which of them in which order, what must live as long).

        What lies in memory is taken as it lies; blocks of another source are read in the order.
        """
        if self.in_memory is not None:
            index = np.arange(where.start, where.stop) if isinstance(where, slice) else where
            index = index if self.through is None else self.through[index]
            return *self.in_memory, np.ascontiguousarray(index, np.int64), None
        block = Block()
        arrays = put_X(block, self.read(where), self.theta.dtype, self.network.sizes[0])
        return block, length(where), np.arange(length(where), dtype=np.int64), arrays

    def _corrected(self, rates: np.ndarray) -> np.ndarray:
        """The rates with Adam's correction for having started from zero."""
        if self.rule.name != "adam":
            return rates
        t = self.state.t + 1 + np.arange(len(rates))
        return rates * np.sqrt(1 - self.rule.b**t) / (1 - self.rule.a**t)

    def _store(self, updates: int) -> None:
        theta, first, second = (np.empty_like(self.theta) for _ in range(3))
        self.library.fb_trainer_store(self.handle, *map(_address, (theta, first, second)))
        self.theta = theta
        if self.rule.name == "adam":
            self.state = AdamState(self.state.t + updates, first, second)
        elif self.rule.name != "gd":
            self.state = first


def _in_memory(X: Columns, dtype: np.dtype, n: int) -> tuple[Block, list[Any]] | None:
    """X (n, m) as C sees it and what must live as long, if it lies in memory: then any example can come at any time."""
    block = Block()
    if isinstance(X, EncodedTable) and X.ones.shape[1] == 0:
        X = Dense(X.numbers.T)
    sparse = sparse_reader(X, NativeStep.takes_sparse) is not None
    if isinstance(X, Dense) and in_elements(X.array, dtype):
        return block, put_X(block, X.array, dtype, n)
    if isinstance(X, Sparse) and sparse and X.rows.dtype == dtype and X.rows.nnz < 2**31:
        return block, put_X(block, X.rows.T, dtype, n)
    codes = isinstance(X, EncodedTable) and X.ones.dtype in (np.uint8, np.uint16, np.uint32)
    if isinstance(X, EncodedTable) and sparse and codes and X.numbers.dtype == dtype:
        if len(X.ones) != X.m:
            raise ValueError(f"a table with {X.m} rows of numbers and {len(X.ones)} of codes.")
        block.numbers, (_, block.n_codes), block.code_bytes = X.numbers.shape[1], X.ones.shape, X.ones.itemsize
        numbers, ones = np.ascontiguousarray(X.numbers), np.ascontiguousarray(X.ones)
        block.codes = ones.ctypes.data
        return block, [*put_X(block, numbers.T, dtype, block.numbers), ones]
    return None


def _entries(X: Columns) -> float:
    """The entries that C reads of an example of what lies in memory."""
    if isinstance(X, Sparse):
        return float(X.rows.nnz / max(X.m, 1))
    return float(X.numbers.shape[1] + X.ones.shape[1]) if isinstance(X, EncodedTable) else X.n


def _arrays(rule: Rule, state: Any, dtype: np.dtype) -> tuple[Any, Any]:
    """The optimiser's state as up to two arrays."""
    if rule.name == "gd":
        return None, None
    if rule.name == "adam":
        return np.ascontiguousarray(state.mean, dtype), np.ascontiguousarray(state.square, dtype)
    return np.ascontiguousarray(state, dtype), None


def _address(array: Any) -> int | None:
    return None if array is None else int(array.ctypes.data)
