"""Training by mini-batches on a GPU: all launches of an epoch, one after another, and nobody waits between them.

The twin of minibatches.PythonBatches where the pass has kernels of its own on a GPU; steps/cuda/updates.py has those of
the batches. The host waits twice an epoch: while it sends the order of the examples with the rates, and when it reads
the sum of J. Where X is on the GPU each batch is gathered there; where it is on the host, batch after batch is sent, as
a pass streams its blocks, to the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fullbatch import steps
from fullbatch.core.parameters import count
from fullbatch.fold import blocks
from fullbatch.fold.worker import Worker
from fullbatch.machine import arrays, cuda
from fullbatch.sources import (
    Coded,
    Columns,
    Dense,
    Examples,
    OneHot,
    Subset,
    Where,
    entries,
    in_memory,
    length,
    remaining,
)
from fullbatch.steps.cuda.segments import Rows
from fullbatch.steps.cuda.updates import Batch, Repeated, Updates, segment_of
from fullbatch.training.native_batches import RULES, corrected
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import Optimizer
from fullbatch.training.state import TrainingState

SLICE = 0.2  # seconds after which a run comes back, for Ctrl-C and a checkpoint
REPEATS = 32  # batches of a CUDA graph: one launch for all of them


class CardBatches:
    """What it has learned is on the GPU, and is copied there when it is asked for; states hold copies."""

    @staticmethod
    def can_run(objective: Objective, optimizer: Optimizer, batch_size: int) -> bool:
        fold, m = objective.fold, objective.examples.m
        if optimizer.name not in RULES or not _step_of(objective):
            return False
        if not arrays.is_cupy(fold.examples.X.like) or not batch_size < m < 2**31:
            return False
        return _piece(objective, batch_size) > 0

    @classmethod
    def make(
        cls, objective: Objective, optimizer: Optimizer, state: TrainingState, batch_size: int
    ) -> CardBatches | None:
        """None where they cannot run, or the GPU has no memory for them."""
        if not cls.can_run(objective, optimizer, batch_size):
            return None
        try:
            return cls(objective, optimizer, state, batch_size)
        except Exception as error:
            if not cuda.is_out_of_memory(error):
                raise
        cuda.release_memory(state.theta)
        return None

    def __init__(self, objective: Objective, optimizer: Optimizer, state: TrainingState, batch_size: int) -> None:
        fold, self.examples = objective.fold, objective.examples
        self.xp, self.optimizer, self.batch_size = arrays.cupy_if_loaded(), optimizer, batch_size
        self.network, self.like, self.precision = fold.network, self.examples.X.like, fold.precision
        sizes = self.network.sizes
        self.update = Updates(
            self.xp, sizes, state.theta, state.arrays, RULES[optimizer.name](optimizer.numbers),
            l2=objective.l2, fixed_biases=not objective.intercept,
        )  # fmt: skip
        self.step_name = step = _step_of(objective)
        self.piece = _piece(
            objective, batch_size
        )  # examples that are done at once: a batch, or less where memory is short
        self.worker: Any = self._make_worker()
        self.segment = segment_of_batch(step, self.update.size, self.update.dtype.itemsize, batch_size)
        self.rows = self.worker.step.segments.rows(-(-batch_size // self.segment), backward=True)
        resident = _resident(self.examples, self.xp, self.worker.step.takes_codes > 0)
        self.data: Any = None if resident is None else resident[0]
        self.through: Any = None if resident is None else resident[1]
        updates = -(-self.examples.m // batch_size)
        self.plan = self.xp.empty(8 * updates + (0 if self.data is None else 4 * self.examples.m), dtype=np.uint8)
        self.rates, self.order = self.plan[: 8 * updates].view(np.float64), self.plan[8 * updates :].view(np.int32)
        self.graph: Repeated | None = None
        self.may_repeat, self.of_graph = self.data is not None and not self.worker.step.uses_blas, 0
        self.copied: tuple[Any, ...] | None = state.theta, *state.arrays  # None: as they are now, nobody has asked for
        self.before = state.updates, state.epoch_examples  # this run's start
        self.done: int | None = 0  # its examples so far; None: the GPU knows
        self.sum: float | None = state.total  # None: it knows that too
        self.update.begin(state.total)

    def _make_worker(self) -> Worker:
        worker = Worker(self.network, self.examples, self.piece, self.step_name)
        worker.load(self.update.theta)  # which is changed in place
        return worker

    @property
    def theta(self) -> Any:
        return self._copies()[0]

    @property
    def arrays(self) -> tuple[Any, ...]:
        return self._copies()[1:]

    def _copies(self) -> tuple[Any, ...]:
        if self.copied is None:
            self.copied = tuple(self.xp.array(array, copy=True) for array in (self.update.theta, *self.update.kept))
        return self.copied

    def _read(self) -> None:
        """The one wait for what the GPU knows."""
        self.sum, self.done = self.update.read()

    @property
    def updates(self) -> int:
        return self.before[0] + -(-self._done() // self.batch_size)

    @property
    def epoch_examples(self) -> int:
        return self.before[1] + self._done()

    def _done(self) -> int:
        if self.done is None:
            self._read()
        assert self.done is not None
        return self.done

    @property
    def total(self) -> float:
        if self.sum is None:
            self._read()
        assert self.sum is not None
        return self.sum

    @property
    def cost(self) -> float:
        return self.total

    def begin(self, done: int, total: float) -> None:
        self.before, self.done, self.sum = (self.updates, done), 0, total
        self.update.begin(total)

    def run(
        self, order: Where, rate: Callable[[int], float], first: int = 0, m: int | None = None
    ) -> Iterator[float | None]:
        """Yields nothing that is known: to say J the host would wait."""
        m, left = m or length(order), remaining(order, self.epoch_examples - first)
        self.before, self.done = (self.updates, self.epoch_examples), 0
        self._send(left, rate)
        launch = self._launcher(left, m)
        try:
            while (done := self._done()) < length(left):
                self.done, self.sum, self.copied = None, None, None
                until, out_of_memory = time.monotonic() + SLICE, None
                with self._settings():
                    try:
                        done += launch(done)
                        while done < length(left) and time.monotonic() < until:
                            done += launch(done)
                    except Exception as error:
                        if not cuda.is_out_of_memory(error):
                            raise
                        out_of_memory = error.with_traceback(
                            None
                        )  # which held the arrays of the frames it came through
                if out_of_memory is None:
                    self.done = done
                else:
                    self._halve(out_of_memory)
                    launch = self._launcher(left, m)
                yield None
        finally:
            if self.worker is not None:
                self.worker.close()

    def _launcher(self, left: Where, m: int) -> Callable[[int], int]:
        return self._gathering(length(left), m) if self.data is not None else self._sending(left, m)

    def _halve(self, reason: Exception) -> None:
        """Do half as many examples at once, after the GPU gave back what it can: the segments, and the bits, stay.

        What it was at when its memory ran out is done again: the last update that is done says where.
        """
        self.worker.close()
        self.worker, self.graph, self.of_graph = None, None, 0
        cuda.release_memory(self.update.theta)
        self._read()
        while self.worker is None:
            if self.piece <= self.segment:
                raise reason
            self.piece = _half(self.piece, self.segment)
            try:
                self.worker = self._make_worker()
            except Exception as error:
                if not cuda.is_out_of_memory(error):
                    raise

    @contextmanager
    def _settings(self) -> Iterator[None]:
        with arrays.quiet(), cuda.products(self.precision, self.like):
            yield

    def _send(self, left: Where, rate: Callable[[int], float]) -> None:
        """The rates of the updates, and the rows of X in their order, in one piece, for which the host waits."""
        updates = -(-length(left) // self.batch_size)
        planned = [rate(self.before[0] + i) for i in range(updates)]
        piece = np.zeros(len(self.plan), np.uint8)
        of_rates = piece[: self.rates.nbytes].view(np.float64)
        of_rates[:updates] = corrected(self.optimizer, np.array(planned), self.before[0])
        if self.data is not None:
            index = np.arange(left.start, left.stop, dtype=np.int32) if isinstance(left, slice) else left
            rows = piece[self.rates.nbytes :].view(np.int32)
            rows[: len(index)] = index if self.through is None else self.through[index]
        self.plan.set(piece)
        self.update.at_start()

    def _gathering(self, n: int, m: int) -> Callable[[int], int]:
        """What launches the next batches of ``n`` examples on the GPU, and says of how many examples they are."""

        def one(k: int) -> None:
            for start, stop in self._pieces(k):
                self._sum(self.data, self.order[start:], start, stop)
            self.update(self._rows(0, k), self.rates, k, k / m)

        def launch(done: int) -> int:
            many = REPEATS * self.batch_size
            if self.graph is not None and self.of_graph == m and n - done >= many:
                self.graph.launch()
                return many
            k = min(self.batch_size, n - done)
            one(k)
            if self.may_repeat and self.of_graph != m and n - done - k >= many:  # all kernels are compiled by now
                self._repeat(lambda: one(self.batch_size), m)
            return k

        return launch

    def _repeat(self, one: Callable[[], None], m: int) -> None:
        """Make a graph of some batches, for runs of so many examples; without one they are launched one by one."""
        self.of_graph = m
        try:
            self.graph = Repeated(self.xp, one, REPEATS)
        except Exception:  # of a CUDA that cannot: the launches are the same
            self.graph, self.may_repeat = None, False

    def _sending(self, left: Where, m: int) -> Callable[[int], int]:
        """The same of examples on the host, which are sent batch after batch."""
        n = length(left)
        ends = [
            (done + start, done + stop)
            for done in range(self._done(), n, self.batch_size)
            for start, stop in self._pieces(min(self.batch_size, n - done))
        ]
        wheres = {start: remaining(left, start, stop) for start, stop in ends}
        self.worker.expect(list(wheres.values()))

        def launch(done: int) -> int:
            k = min(self.batch_size, n - done)
            for start, stop in self._pieces(k):
                self._sum(self.worker.read(wheres[done + start]), None, start, stop)
            self.update(self._rows(0, k), self.rates, k, k / m, done // self.batch_size)
            return k

        return launch

    def _pieces(self, k: int) -> list[tuple[int, int]]:
        """The first ``k`` examples of a batch as they are done."""
        return [(start, min(start + self.piece, k)) for start in range(0, k, self.piece)]

    def _sum(self, data: Any, order: Any, start: int, stop: int) -> None:
        """Write the rows of sums of some examples of a batch; ``data`` as Batch has it, from the first of them on."""
        outputs = self.network.sizes[-1]
        batch = Batch(data, order, self.update.state, self.batch_size, stop - start, outputs)
        self.worker.step.rows_of_batch(batch, self._rows(start, stop), self.segment)

    def _rows(self, start: int, stop: int) -> Rows:
        """Those of some examples of a batch."""
        used = slice(start // self.segment, -(-stop // self.segment))
        return Rows(self.rows.gradient[used], self.rows.head[used])


def _step_of(objective: Objective) -> str:
    """The step that does the batches: the fold's, or the fastest other that can; "" where there is none."""
    fold = objective.fold
    if objective.dropout is not None:
        return ""
    for name in (fold.step_name, *steps.STEPS):
        step: Any = steps.STEPS.get(name)
        able = hasattr(step, "rows_of_batch") and (step.takes_tf32 or fold.precision != "tf32")
        able = able and (not step.takes_codes or name == fold.step_name)  # which looked at how many codes there are
        if able and step.can_run(fold.network, fold.examples.X.like):
            return name
    return ""


def segment_of_batch(step: str, parameters: int, itemsize: int, batch_size: int) -> int:
    """The examples of a segment of a mini-batch."""
    least, most = steps.STEPS[step].of_batch
    return segment_of(least, most, parameters, itemsize, batch_size)


def _piece(objective: Objective, batch_size: int) -> int:
    """How many examples of a batch are done at once: all of them, or as many segments as there is memory for.

    It changes no bit. 0 where there is none for a single one.
    """
    fold, budget = objective.fold, objective.limits["budget"]
    network, like = fold.network, fold.examples.X.like
    p, itemsize = count(network.sizes), np.dtype(like.dtype).itemsize
    segment = segment_of_batch(_step_of(objective), p, itemsize, batch_size)
    beside = -(-batch_size // segment) * (p * itemsize + 16) + 8 * p + 12 * fold.examples.m  # rows, and the order
    piece = batch_size if batch_size <= fold.block else max(segment, fold.block // segment * segment)

    def taken() -> float:
        return blocks.workspace(network, like, piece, fold.precision, entries=entries(fold.examples.X)) + beside

    while piece > segment and taken() > budget:
        piece = _half(piece, segment)
    return piece if taken() <= budget else 0


def _half(piece: int, segment: int) -> int:
    """Half of it, in whole segments."""
    return max(segment, piece // 2 // segment * segment)


def _resident(examples: Examples, xp: Any, coded: bool = False) -> tuple[tuple[Any, Any, Any], Any] | None:
    """X, Y or codes, and weights where they lie on the GPU, as Batch has them; and which rows the examples are.

    None where one of them is elsewhere, or is made block by block; ``coded``: of numbers and codes X is not.
    """
    layout, Y, weight = in_memory(examples.X), examples.Y, examples.weight
    if layout is None or not arrays.is_cupy(layout.numbers) or Y is None:
        return None
    X = layout.numbers
    if layout.codes is not None:
        if not coded:
            return None
        X = Coded(X.T, layout.codes, (examples.X.n, layout.m))
    through = layout.through
    if through is not None:
        if not isinstance(Y, Subset) or Y.indices is not through or not arrays.is_numpy(through):
            return None
        Y = Y.whole
    target = _target(Y)
    if target is None:
        return None
    if weight is not None:
        if not arrays.is_cupy(weight):
            return None
        if through is not None:
            whole = xp.zeros(layout.m, dtype=weight.dtype)
            whole[xp.asarray(through)] = weight
            weight = whole
        weight = xp.ascontiguousarray(weight)
    return (X, target, weight), through


def _target(Y: Columns) -> Any:
    """Numbers (n[L], m), or codes (m,) as kernels take them; None of another kind."""
    if isinstance(Y, Dense) and arrays.is_cupy(Y.array):
        return Y.array
    if isinstance(Y, OneHot) and Y.n > 1 and arrays.is_cupy(Y.codes) and arrays.dtype_name(Y.codes) == "int32":
        return Y.codes
    return None
