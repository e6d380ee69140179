"""A step does one block of examples. ``make`` picks the fastest one that can run; ``array`` always can.

A step belongs to one thread and may own buffers:

    load(params)                the parameters to use from now on
    gradient(X, Y, weight)      -> GradientSum of the block;  X (n[0], k), Y (n[L], k), weight (k,) or None
    cost(X, Y, weight)          -> (loss, weight), both summed over the block
    predict(X)                  -> A[L] (n[L], k)

What a call returns is not changed by later ones: the fold may hold it while the step does the next block.
"""

from __future__ import annotations

from typing import Any, Protocol

from fullbatch.gradient_sum import GradientSum
from fullbatch.network import Network
from fullbatch.parameters import Params
from fullbatch.steps.array import ArrayStep
from fullbatch.steps.fused import FusedStep
from fullbatch.steps.inplace import InplaceStep
from fullbatch.steps.native import NativeStep
from fullbatch.steps.native_batches import NativeBatches


class Step(Protocol):
    """One thread's worker for blocks of at most the size that it was made for."""

    name: str
    takes_sparse: float  # up to which share of numbers that are not zero X is better a SciPy CSC array; 0: never

    def load(self, params: Params) -> None: ...

    def gradient(self, X: Any, Y: Any, weight: Any) -> GradientSum: ...

    def cost(self, X: Any, Y: Any, weight: Any) -> tuple[Any, Any]: ...

    def predict(self, X: Any) -> Any: ...


FASTEST_FIRST = (NativeStep, FusedStep, InplaceStep, ArrayStep)
STEPS: dict[str, type[Any]] = {step.name: step for step in FASTEST_FIRST}


def choose(network: Network, like: Any) -> str:
    """The name of the step that runs for this network on arrays of the library, device and dtype of ``like``."""
    return next(name for name, step in STEPS.items() if step.can_run(network, like))


def make(network: Network, like: Any, block: int) -> Step:
    """A step for blocks of at most ``block`` examples."""
    return STEPS[choose(network, like)](network, like, block)


__all__ = ["STEPS", "ArrayStep", "FusedStep", "InplaceStep", "NativeBatches", "NativeStep", "Step", "choose", "make"]
