"""The engine of a device other than the CPU: the caller's thread launches block after block, and waits for none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fullbatch.core.dropout import Dropout
from fullbatch.errors import DeviceError
from fullbatch.fold import blocks as sizes
from fullbatch.fold.blocks import Block, Plan
from fullbatch.fold.worker import Operation, Worker, merging
from fullbatch.machine import arrays, cuda, places
from fullbatch.sources import length


class OnDevice:
    """As ``OnThreads``. Where the device's memory runs out it goes on with halves of the blocks, cut by ``plan``."""

    threads = 1

    def __init__(self, make_worker: Callable[[], Worker], plan: Plan) -> None:
        self.make_worker, self.plan = make_worker, plan
        self._worker: Worker | None = None

    def __enter__(self) -> OnDevice:
        return self

    def __exit__(self, *error: object) -> None:
        self._drop_worker()

    def _drop_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def run(
        self,
        operation: Operation,
        theta: Any,
        blocks: Sequence[Block],
        merge: Callable[..., None],
        dropout: Dropout | None = None,
    ) -> None:
        """``merge`` the Nodes, of leaves or segments, or (where, A[L]) of every block to predict, in order.

        Nothing here waits for the device; a reader that streams fills its buffers in threads of its own.
        """
        with arrays.quiet(), cuda.products(self.plan.precision, self.plan.like):
            self._run(operation, (theta, dropout), list(blocks), merging(operation, merge))

    def _run(
        self, operation: Operation, loaded: tuple[Any, ...], left: list[Block], merge_part: Callable[[Block, Any], None]
    ) -> None:
        worker: Worker | None = None
        done = 0
        while done < len(left):
            out_of_memory = ""
            try:
                if worker is None:
                    if self._worker is None:
                        self._worker = self.make_worker()
                    worker = self._worker
                    worker.load(*loaded)
                    worker.expect([block.where for block in left])
                merge_part(left[done], worker.work(operation, left[done].where, left[done].first))
                done += 1
            except Exception as error:
                if not cuda.is_out_of_memory(error):
                    raise
                out_of_memory = str(error)
            if out_of_memory:  # out here, where the error no longer holds the arrays of the frames that it came through
                worker = None
                left, done = self._in_halves(left[done:], out_of_memory), 0

    def _in_halves(self, left: list[Block], reason: str) -> list[Block]:
        """What is left to do, in blocks of half the size, after the device gave back what it can."""
        plan = self.plan
        self._drop_worker()
        cuda.release_memory(plan.like)
        longest = max(length(block.where) for block in left)
        if longest <= sizes.SHORTEST:
            place = places.place_of(plan.like)
            needed = sizes.workspace(
                plan.network, plan.like, longest, plan.precision, plan.m, entries=plan.entries, whole=plan.whole
            )
            free = place.memory()[0]
            raise DeviceError(
                f"{place.name} is out of memory: a block of {longest} examples takes up to {needed:,} bytes and "
                f"{free:,.0f} are free; free memory there, or choose device='cpu' [{' '.join(reason.split())[:200]}]."
            )
        return plan.halved(left)
