"""Native training by full batches: update after update without the interpreter.

An update of a small network on few examples takes C a few microseconds, and the interpreter ten times as long. The twin
of the loop with minibatches.PythonBatches, to which test_native_descent.py holds it, to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from fullbatch.fold.blocks import multiply_adds
from fullbatch.machine import arrays
from fullbatch.machine.native_library import Rule
from fullbatch.training.native_batches import KINDS, RULES
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import Optimizer
from fullbatch.training.state import TrainingState

SLICE = 0.1  # seconds after which a run comes back, for Ctrl-C
LONGEST = 1e9  # seconds: no end
MOST = 2**17  # updates of a run: each has a cost
TRIAL = 32  # updates by which the pace of so many threads is known
AGAIN = 10  # runs after which the other pace is looked at again: about a second
LONGEST_WORK = (
    2**31
)  # multiplications of an update: the interpreter does not show in longer ones, Ctrl-C waits for them


class NativeDescent:
    """Gradient descent at a constant rate, with momentum or without, by all examples at once."""

    @staticmethod
    def make(objective: Objective, optimizer: Optimizer, state: TrainingState) -> NativeDescent | None:
        """None where it cannot run."""
        fold = objective.fold
        work = fold.examples.m * multiply_adds(fold.network)
        if optimizer.name not in ("gd", "sgd") or state.schedule.kind != "constant" or not objective.intercept:
            return None
        if state.epoch_examples or objective.dropout is not None or work > LONGEST_WORK:
            return None
        blocks = fold.in_one_call()
        if blocks is None:
            return None
        return NativeDescent(objective, optimizer, blocks, doubtful=len(blocks.steps) > fold.threads)

    def __init__(self, objective: Objective, optimizer: Optimizer, blocks: Any, *, doubtful: bool = False) -> None:
        """doubtful : whether work is so little that threads are worth it only while each of them has a core"""
        self.doubtful = doubtful
        self.paces: dict[int, float] = {}  # seconds of an update, by the threads
        self.runs = 0
        kind, a, _, _ = RULES[optimizer.name](optimizer.numbers)
        self.blocks, self.m = blocks, objective.fold.examples.m
        self.rule = Rule(kind=KINDS.index(kind), a=a, l2=objective.l2)

    def run(self, state: TrainingState, updates: int, tol: float, seconds: float) -> Iterator[TrainingState]:
        """Up to so many updates in ``seconds``: the state before the last of them, and the one after it.

        None where the next one is not made: J is not finite before it, or less than ``tol`` below the J before.
        """
        last = state.costs[-1] if state.epoch and len(state.costs) else math.inf
        moment, rate = (state.theta, *state.arrays), state.learning_rate
        costs, now, before = self._descend(
            moment, rate, min(updates, MOST), tol=tol, last=last, seconds=min(seconds, SLICE)
        )
        if len(costs) > 1:
            state = self._after(state, costs[:-1], before)
            yield state
        if costs:
            yield self._after(state, costs[-1:], now)

    def ahead(self, state: TrainingState, updates: int, watch: Any) -> TrainingState:
        """Up to so many updates, as long as a run may take, as ``loop.epochs`` makes them: the state after them.

        Not made is the update after which ``watch`` would end the training, nor one that leaves theta without being
        finite: the loop is to judge those. ``watch`` looks at nothing but J.
        """
        costs, moment = self._made(state, min(updates, MOST), SLICE)
        costs = [cost + watch.offset for cost in costs]
        xp, best, waited, sound = arrays.namespace(state.theta), state.best, state.waited, 0
        for cost in costs:
            waited = 0 if cost <= best - watch.tol else waited + 1
            if waited > watch.patience:
                break
            best, sound = min(best, cost), sound + 1
        while sound and not (sound == len(costs) and bool(xp.all(xp.isfinite(moment[0])))):
            sound -= sound == len(costs)
            costs, moment = costs[:sound], self._made(state, sound, math.inf)[1]
        if not sound:
            return state
        return self._after(state, costs, moment, watch.tol)

    def _made(self, state: TrainingState, updates: int, seconds: float) -> tuple[list[float], Any]:
        moment, rate = (state.theta, *state.arrays), state.learning_rate
        costs, now, _ = self._descend(moment, rate, updates, tol=0.0, last=math.inf, seconds=min(seconds, LONGEST))
        return costs, now

    def _descend(
        self, moment: Any, rate: float, updates: int, *, seconds: float, **until: float
    ) -> tuple[Any, Any, Any]:
        """A run by as many threads as are fastest now, if it need not make all updates: their bits are the same.

        Two threads of which one waits for its core, because something else runs there, take three times as long as one.
        """
        may_try = self.doubtful and seconds < LONGEST
        untried = [threads for threads in (len(self.blocks.steps), 1) if threads not in self.paces] if may_try else []
        threads = untried[0] if untried else min(self.paces, key=self.paces.__getitem__, default=len(self.blocks.steps))
        began = time.perf_counter()
        found = self.blocks.descend(
            self.rule, moment, rate, min(updates, TRIAL) if untried else updates,
            seconds=seconds, threads=threads, **until,
        )  # fmt: skip
        self.paces[threads] = (time.perf_counter() - began) / max(len(found[0]), 1)
        self.runs += 1
        if self.runs % AGAIN == 0:
            self.paces = {threads: self.paces[threads]}
        return found

    def _after(self, state: TrainingState, costs: list[float], moment: Any, tol: float = 0.0) -> TrainingState:
        """As ``loop._judged`` would have it, update after update."""
        best, waited = state.best, state.waited
        for cost in costs:
            waited = 0 if cost <= best - tol else waited + 1
            best = min(best, cost)
        theta, *kept = moment
        k = len(costs)
        return state._replace(
            theta=theta, arrays=tuple(kept), updates=state.updates + k, epoch=state.epoch + k,
            examples=state.examples + k * self.m, costs=state.costs.extended(costs), best=best, waited=waited,
        )  # fmt: skip
