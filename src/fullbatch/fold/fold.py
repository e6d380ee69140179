"""The sum over blocks: which block runs where, and in which order the sums are added.

A block is as many examples as keep the hidden layers in the cache, or X short for the native step, which has no hidden
layers of a block: a number that follows from the shape, the dtype and the step alone. Threads take blocks as they come,
but the blocks' sums are added in the order of the blocks, in the widest float: the bits do not depend on the number of
threads. Memory is that of one block for each thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fullbatch import steps
from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.core.parameters import Params
from fullbatch.errors import DeviceError
from fullbatch.machine import arrays, cuda, places
from fullbatch.machine.threads import one_blas_thread, thread_count
from fullbatch.sources import Columns, Examples, Where, close, expect, length, sparse_reader

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

CACHE = 4 * 2**20  # bytes for the hidden layers of a block: the second-level cache and a share of the third
NATIVE_WORK = 2**22  # multiply-adds forward: with fewer in a block, the interpreter's time for it shows
NATIVE_LIMIT = 2**33  # multiply-adds forward, half a second: Ctrl-C waits for the end of a block
NATIVE_BLOCK = 2**23  # bytes of X: the native step has no hidden layers of a block, so that only its X is kept short
NATIVE_LEAST = 2048  # examples, in up to 8 times as much: with fewer, the sum of the blocks' gradients shows
SHORTEST = 256  # examples; below that the interpreter's time for a block shows
LONGEST = 4096  # examples
THREAD_WORK = 2**21  # multiply-adds forward, a tenth of a millisecond: less is not worth the start of a thread
SHARE = 512  # examples: a mini-batch of more is shared among threads
GPU_BLOCK = 2**29  # bytes of a block's examples: enough to hide the launch of a kernel, small beside any card's memory
ALIGNED = 64  # examples: a device's blocks begin at multiples, so that cuBLAS finds them as well aligned as a copy


def block_size(network: Network, like: Any, sparse: bool = False, precision: str = "") -> int:
    """The examples of a block, from shape, dtype, kind of device, precision, and whether X is read sparsely, alone."""
    itemsize = 4 if arrays.dtype_name(like) == "float32" else 8
    step = steps.choose(network, like, precision)
    if not arrays.is_numpy(like):
        return max(SHORTEST, GPU_BLOCK // (itemsize * steps.STEPS[step].numbers(network)) // ALIGNED * ALIGNED)
    if step == "native":
        weights = _multiply_adds(network)
        longest = min(max(NATIVE_WORK // weights, 2 * LONGEST), max(NATIVE_LIMIT // weights, SHORTEST)) // 64 * 64
        if sparse:
            return longest
        fit = NATIVE_BLOCK // (itemsize * network.sizes[0]) // 64 * 64
        return min(max(fit, min(8 * fit, NATIVE_LEAST), 2 * SHORTEST), longest)
    per_example = itemsize * 2 * sum(network.sizes[1:])  # A and dZ of every layer
    return min(max(CACHE // per_example // 64 * 64, SHORTEST), LONGEST)


def _multiply_adds(network: Network) -> int:
    """Of one example, forward."""
    return sum(n * fan_in for fan_in, n in pairwise(network.sizes))


def workspace(network: Network, like: Any, block: int, precision: str = "") -> int:
    """Bytes on a device that a block of so many examples takes, at most: a step's arrays, and two blocks to stream.

    And what each parameter takes, whatever the block: itself, its gradient in a block and in the sum, an optimiser's
    state and the next value.
    """
    itemsize = 4 if arrays.dtype_name(like) == "float32" else 8
    step = steps.STEPS[steps.choose(network, like, precision)]
    parameters = sum(n * (fan_in + 1) for fan_in, n in pairwise(network.sizes))
    examples = itemsize * block * step.numbers(network) + step.sums(network, block)
    return examples + (8 * itemsize + 6 * 8) * parameters


def cut(where: Where, block: int, share: int = SHARE, align: int = 1) -> list[Where]:
    """``where`` in consecutive parts of nearly equal length, at most ``block`` each; a function of these alone.

    share : of more examples than this there are several parts, up to 4, even where one block would take them all
    align : all but the last part are multiples of it, as ``block`` must be
    """
    m = length(where)
    parts = max(-(-m // block), min(-(-m // share), 4))
    if share < block:  # threads wait for one another at the end, for less the more parts there are
        parts = max(parts, min(-(-m // (2 * LONGEST)), 16))
    if align > 1:
        size = -(-m // parts // align) * align
        edges = list(pairwise([*range(0, m, size), m]))
    else:
        if parts > 4:
            parts = -(-parts // 8) * 8  # so that two, four or eight threads have the same number
        edges = list(pairwise(m * i // parts for i in range(parts + 1)))
    if isinstance(where, slice):
        return [slice(where.start + i, where.start + j) for i, j in edges]
    return [where[i:j] for i, j in edges]


class _Worker:
    """A thread's own step and readers."""

    def __init__(self, network: Network, examples: Examples, block: int, precision: str) -> None:
        self.step = steps.make(network, examples.X.like, block, precision)
        self.read_X = sparse_reader(examples.X, self.step.takes_sparse) or examples.X.reader()
        self.read_Y = examples.Y.reader() if examples.Y is not None else None
        self.weight = examples.weight

    def read(self, where: Where) -> tuple[Any, Any, Any]:
        weight = self.weight
        if weight is not None:
            if isinstance(where, slice) or arrays.is_numpy(weight):
                weight = weight[where]
            else:
                xp = arrays.namespace(weight)
                weight = xp.take(weight, xp.asarray(where, device=arrays.device_of(weight)))
        return self.read_X(where), None if self.read_Y is None else self.read_Y(where), weight

    def expect(self, parts: list[Where]) -> None:
        """These are read next, one after another."""
        expect(self.read_X, parts)
        expect(self.read_Y, parts)

    def close(self) -> None:
        close(self.read_X)
        close(self.read_Y)


class Fold:
    """Sums over ``examples`` for one network. A context manager: threads and BLAS's limit last as long as it is open.

    threads : the number of threads on the CPU; None for all that this process may use. Elsewhere it is 1.
    """

    def __init__(
        self,
        network: Network,
        examples: Examples | Columns,
        *,
        threads: int | None = None,
        precision: str | None = None,
        room: float = math.inf,
    ) -> None:
        self.network = network
        self.examples = examples if isinstance(examples, Examples) else Examples(examples)
        like = self.examples.X.like
        self.on_cpu = arrays.is_numpy(like)
        self.precision = cuda.check_precision(precision, like)
        self.step_name = steps.choose(network, like, self.precision)
        takes_sparse = steps.STEPS[self.step_name].takes_sparse if self.on_cpu else 0
        sparse = sparse_reader(self.examples.X, takes_sparse) is not None
        self.block = block_size(network, like, sparse, self.precision)
        self.note = ""  # why bits may differ from those of another run of the same
        if not self.on_cpu:
            self._fit_into(room)
        # SciPy's sparse products hold the interpreter's lock, so that to share a mini-batch of them takes longer.
        locked = sparse and self.step_name == steps.InplaceStep.name
        self.share = SHARE if self.on_cpu and not locked else self.block
        blocks = len(self._parts(None)) if self.on_cpu else 1
        each = _multiply_adds(network)
        worth = max(1, min(blocks, self.examples.m * each // THREAD_WORK))
        if self.step_name != steps.NativeStep.name and self.block * each < THREAD_WORK:
            worth = 1  # threads whose NumPy calls are that short wait for the interpreter: 3 times as long at 28-1
        self.threads = min(worth, thread_count(threads)) if worth > 1 or threads is not None else 1
        self._workers: list[_Worker] = []
        self._pool: ThreadPoolExecutor | None = None
        self._open = ExitStack()

    def _fit_into(self, room: float) -> None:
        """Choose blocks that take no more than ``room`` bytes."""

        def taken() -> int:
            return workspace(self.network, self.examples.X.like, min(self.block, self.examples.m), self.precision)

        while self.block > SHORTEST and taken() > room:
            self._halve(self.block)
        if taken() > room:
            place, m = places.place_of(self.examples.X.like), min(self.block, self.examples.m)
            free = place.memory()[0]
            raise DeviceError(
                f"the limit of memory leaves {room:,.0f} bytes on {place.name} for the passes ({free:,.0f} are free), "
                f"and a block of {m} examples takes up to {taken():,}; raise device_memory, free memory there, or "
                "choose device='cpu'."
            )

    def __enter__(self) -> Fold:
        if self.on_cpu:
            self._open.enter_context(one_blas_thread())
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        try:
            self._drop_workers()
        finally:
            self._open.close()

    def gradient(self, params: Params, where: Where = None) -> GradientSum:
        """The sum over the examples that ``where`` selects (all of them if None)."""
        total: list[GradientSum] = []

        def add(part: GradientSum) -> None:
            total[:] = [total[0] + part] if total else [part]

        parts = self._parts(where)
        wide, xp = self._wide()

        def work(worker: _Worker, piece: Where) -> GradientSum:
            part = worker.step.gradient(*worker.read(piece))
            # One block needs no wider sum; but one on a device may have to be halved.
            return part.astype(wide, xp) if len(parts) > 1 or not self.on_cpu else part

        self._run(params, parts, work, add)
        return total[0]

    def cost(self, params: Params, where: Where = None) -> tuple[Any, Any]:
        """The summed loss and the summed weight of the examples that ``where`` selects (all of them if None).

        Where they are summed: ``arrays.floats`` reads them back from a device.
        """
        sums: list[tuple[Any, Any]] = []
        self._run(params, self._parts(where), lambda worker, piece: worker.step.cost(*worker.read(piece)), sums.append)
        return sum(loss for loss, _ in sums), sum(weight for _, weight in sums)

    def predict(self, params: Params, finish: Callable[[Any], Any] | None = None) -> Any:
        """yhat = A[L] (n[L], m) of all examples, or what ``finish`` makes of each block of it: (..., k) to (..., m).

        The result is made example by example in memory, so its transpose is an ordinary (m, n[L]) table.
        """
        out: list[Any] = []
        m = self.examples.m

        def work(worker: _Worker, piece: Where) -> Any:
            X = worker.read_X(piece)
            block = worker.step.predict(X)
            return piece, block if finish is None else finish(block)

        def keep(part: Any) -> None:
            piece, block = part
            if not self.on_cpu:
                out.append(block)
                return
            if not out:
                out.append(arrays.host_columns(block, m))
            out[0][..., piece] = block

        self._run(params, self._parts(None), work, keep)
        return out[0] if len(out) == 1 else arrays.namespace(*out).concat(out, axis=-1)

    def _parts(self, where: Where) -> list[Where]:
        align = ALIGNED if not self.on_cpu and self.block % ALIGNED == 0 else 1
        share = self.share if self.on_cpu else self.block
        return cut(slice(0, self.examples.m) if where is None else where, self.block, share, align)

    def _wide(self) -> tuple[Any, Any]:
        like = self.examples.X.like
        return arrays.widest_float(like), arrays.namespace(like)

    def _worker(self, index: int) -> _Worker:
        if index == len(self._workers):
            block = min(self.block, self.examples.m)
            self._workers.append(_Worker(self.network, self.examples, block, self.precision))
        return self._workers[index]

    def _drop_workers(self) -> None:
        while self._workers:
            self._workers.pop().close()

    def _run(
        self,
        params: Params,
        parts: list[Where],
        work: Callable[[_Worker, Where], Any],
        merge: Callable[[Any], None],
    ) -> None:
        """``merge(work(worker, part))`` for every part, the merges one at a time and in the order of the parts."""
        if not self.on_cpu:
            with arrays.quiet(), cuda.products(self.precision, self.examples.X.like):
                self._run_on_device(params, parts, work, merge)
            return
        workers = [self._worker(i) for i in range(min(self.threads, len(parts)))]
        for worker in workers:
            worker.step.load(params)
        if len(workers) == 1:  # no thread and no lock: the caller's thread does it all
            with arrays.quiet():
                for part in parts:
                    merge(work(workers[0], part))
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # here, so that the import of fullbatch stays quick

            self._pool = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="fullbatch")
        turn = _InOrder(merge, room=2 * len(workers))
        todo = iter(enumerate(parts))

        def loop(worker: _Worker) -> None:
            try:
                with arrays.quiet():
                    while not turn.stopped and (item := next(todo, None)) is not None:  # next is atomic: one call in C
                        index, part = item
                        turn.put(index, work(worker, part))
            except BaseException:
                turn.stop()  # also for Ctrl-C in the caller's thread: the others end after their block
                raise

        others: list[Future[None]] = []
        try:
            for worker in workers[1:]:
                others.append(self._pool.submit(loop, worker))  # noqa: PERF401  # a list that is whole at any moment
            loop(workers[0])
        except BaseException:
            turn.stop()  # Ctrl-C may come between the lines above too
            raise
        finally:
            errors = [error for other in others if (error := other.exception()) is not None]
        if errors:
            raise errors[0]

    def _run_on_device(
        self,
        params: Params,
        parts: list[Where],
        work: Callable[[_Worker, Where], Any],
        merge: Callable[[Any], None],
    ) -> None:
        """The same, in the caller's thread. Where the device's memory runs out, on with halves of the blocks.

        Nothing here waits for the device; a reader that streams fills its buffers in threads of its own.
        """
        worker: _Worker | None = None
        while parts:
            out_of_memory = ""
            try:
                if worker is None:
                    worker = self._worker(0)
                    worker.step.load(params)
                    worker.expect(parts)
                merge(work(worker, parts[0]))
                parts = parts[1:]
            except Exception as error:
                if not cuda.is_out_of_memory(error):
                    raise
                out_of_memory = str(error)
            if out_of_memory:  # out here, where the error no longer holds the arrays of the frames that it came through
                worker = None
                parts = self._in_halves(parts, out_of_memory)

    def _in_halves(self, parts: list[Where], reason: str) -> list[Where]:
        """What is left to do, in blocks of half the size, after the device gave back what it can."""
        like = self.examples.X.like
        self._drop_workers()
        cuda.release_memory(like)
        longest = max(map(length, parts))
        if longest <= SHORTEST:
            place = places.place_of(like)
            needed, free = workspace(self.network, like, longest, self.precision), place.memory()[0]
            raise DeviceError(
                f"{place.name} is out of memory: a block of {longest} examples takes up to {needed:,} bytes and "
                f"{free:,.0f} are free; free memory there, or choose device='cpu' [{' '.join(reason.split())[:200]}]."
            )
        self._halve(min(self.block, longest))
        if isinstance(parts[0], slice):
            return self._parts(slice(parts[0].start, parts[-1].stop))
        return self._parts(arrays.joined(parts))

    def _halve(self, block: int) -> None:
        self.block = max(SHORTEST, block // 2 // ALIGNED * ALIGNED)
        usual = block_size(self.network, self.examples.X.like, precision=self.precision)
        self.note = (
            f"the device's memory was short, so blocks have {self.block:,} examples instead of {usual:,}: bits may "
            "differ from those of a run with more memory"
        )


class _InOrder:
    """Passes what the threads put to ``merge`` in the order of the indices: 0, 1, 2, ...

    room : how many results may wait for an earlier one; a thread that is further ahead waits itself, so that one late
    block does not let the others fill the memory.
    """

    def __init__(self, merge: Callable[[Any], None], room: int) -> None:
        self.merge = merge
        self.room = room
        self.turn = threading.Condition()
        self.waiting: dict[int, Any] = {}
        self.next = 0
        self.stopped = False

    def put(self, index: int, part: Any) -> None:
        with self.turn:
            while index > self.next + self.room and not self.stopped:
                self.turn.wait()
            self.waiting[index] = part
            if index == self.next:
                while self.next in self.waiting:
                    self.merge(self.waiting.pop(self.next))
                    self.next += 1
                self.turn.notify_all()

    def stop(self) -> None:
        with self.turn:
            self.stopped = True
            self.turn.notify_all()
