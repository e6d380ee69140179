"""The engine of the CPU: threads take blocks as they come, and what they made is merged in the order of the blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from fullbatch.core.dropout import Dropout
from fullbatch.fold.blocks import Block
from fullbatch.fold.worker import Operation, Worker, merging
from fullbatch.machine import arrays
from fullbatch.machine.threads import Helpers, one_blas_thread

if TYPE_CHECKING:
    from concurrent.futures import Future


class OnThreads:
    """``run`` is the whole of an engine: it may be answered by another process as well.

    make_worker : called for each thread, the first time that it is needed
    holds_blas : hold BLAS to one thread, for steps that use it; to do so takes as long as a small gradient
    """

    def __init__(self, make_worker: Callable[[], Worker], threads: int, *, holds_blas: bool = True) -> None:
        self.make_worker, self.threads, self.holds_blas = make_worker, threads, holds_blas
        self._workers: list[Worker] = []
        self._helpers = Helpers(threads - 1, "fullbatch")
        self._hold: AbstractContextManager[None] = nullcontext()

    def __enter__(self) -> OnThreads:
        if self.holds_blas:
            self._hold = one_blas_thread()
        self._hold.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._helpers.close()
        try:
            self.rest()
        finally:
            hold, self._hold = self._hold, nullcontext()  # it may be left twice
            hold.__exit__(None, None, None)

    def rest(self) -> None:
        """Give back the memory of the workers."""
        while self._workers:
            self._workers.pop().close()

    def run(
        self,
        operation: Operation,
        theta: Any,
        blocks: Sequence[Block],
        merge: Callable[[Any], None],
        dropout: Dropout | None = None,
    ) -> None:
        """``merge`` every leaf's Node, or (where, A[L]) of every block to predict: one at a time and in order."""
        merge_part = merging(operation, merge)
        workers = self.workers(min(self.threads, len(blocks)))
        for worker in workers:
            worker.load(theta, dropout)
        if len(workers) == 1:  # no thread and no lock: the caller's thread does it all
            with arrays.quiet():
                for block in blocks:
                    merge_part(block, workers[0].work(operation, block.where, block.first))
            return
        self._share(operation, workers, blocks, merge_part)

    def _share(
        self,
        operation: Operation,
        workers: list[Worker],
        blocks: Sequence[Block],
        merge_part: Callable[[Block, Any], None],
    ) -> None:
        turn = InOrder(lambda index, part: merge_part(blocks[index], part), ahead=2 * len(workers))
        todo = iter(range(len(blocks)))

        def loop(worker: Worker) -> None:
            try:
                with arrays.quiet():
                    # To take the next number of a range is one call in C, so that no two threads take the same.
                    while not turn.stopped and (index := next(todo, None)) is not None:
                        block = blocks[index]
                        turn.put(index, worker.work(operation, block.where, block.first))
            except BaseException:
                turn.stop()  # also for Ctrl-C in the caller's thread: the others end after their block
                raise

        others: list[Future[None]] = []
        try:
            # Not a list comprehension: were Ctrl-C to end it half-way, nobody would wait for the threads begun so far.
            for worker in workers[1:]:
                others.append(self._helpers.submit(loop, worker))  # noqa: PERF401
            loop(workers[0])
        except BaseException:
            turn.stop()  # Ctrl-C may come between the lines above too
            raise
        finally:
            errors = [error for other in others if (error := other.exception()) is not None]
        if errors:
            raise errors[0]

    def workers(self, count: int) -> list[Worker]:
        return [self._worker(i) for i in range(count)]

    def _worker(self, index: int) -> Worker:
        if index == len(self._workers):
            self._workers.append(self.make_worker())
        return self._workers[index]


class InOrder:
    """Passes what the threads put to ``merge`` in the order of the indices: 0, 1, 2, ...

    ahead : how many results may wait for an earlier one; a thread that is further ahead waits itself, so that one late
    block does not let the others fill the memory.
    """

    def __init__(self, merge: Callable[[int, Any], None], ahead: int) -> None:
        self.merge, self.ahead = merge, ahead
        self.turn = threading.Condition()
        self.waiting: dict[int, Any] = {}
        self.next = 0
        self.stopped = False

    def put(self, index: int, part: Any) -> None:
        with self.turn:
            while index > self.next + self.ahead and not self.stopped:
                self.turn.wait()
            self.waiting[index] = part
            if index == self.next:
                while self.next in self.waiting:
                    self.merge(self.next, self.waiting.pop(self.next))
                    self.next += 1
                self.turn.notify_all()

    def stop(self) -> None:
        with self.turn:
            self.stopped = True
            self.turn.notify_all()
