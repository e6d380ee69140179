"""A step does one block of examples. ``make`` picks the fastest one that can run; ``array`` always can.

A step belongs to one thread and may own buffers:

    load(theta)                 all parameters as one vector, to use from now on
    gradient(X, Y, weight)      -> GradientSum of the block;  X (n[0], k), Y (n[L], k), weight (k,) or None
    cost(X, Y, weight)          -> (loss, weight), both summed over the block
    predict(X)                  -> A[L] (n[L], k)
    leave_out(dropout, first)   of the gradients from now on, where it ``takes_dropout``; first: the block's first
                                example's place in its batch

What a call returns is not changed by later ones: the fold may hold it while the step does the next block.

What runs on a device also says, before one is made, how much memory there it takes at most:

    numbers(network)            numbers for each example of a block; two blocks on their way to the device included,
                                but those of a step that ``takes_codes``, whose X has as many as it has entries
    sums(network, block, m)     bytes for sums over examples, beside those that it returns; m: of the fold in all

A step with kernels of its own on a GPU (steps/cuda/segments.py) sums over each segment of a block, and adds the sums by
the fold's tree. Lists of what its nodes are, largest first:

    segment(network, m)                the most examples of a segment, a power of two; m: of the fold in all
    gradients(X, Y, weight, segment)   -> [GradientSum, ...] in the widest float
    costs(X, Y, weight, segment)       -> [(loss, weight), ...]
"""

from __future__ import annotations

from typing import Any, Protocol

from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.steps.array import ArrayStep
from fullbatch.steps.cuda.coded import CodedStep
from fullbatch.steps.cuda.fused import FusedStep
from fullbatch.steps.cuda.onepass import OnePassStep
from fullbatch.steps.cuda.tensor import TensorStep
from fullbatch.steps.cuda.twopass import TwoPassStep
from fullbatch.steps.inplace import InplaceStep
from fullbatch.steps.native import NativeStep


class Step(Protocol):
    """One thread's worker for blocks of at most the size that it was made for."""

    name: str
    takes_sparse: float  # a block of X comes as SciPy's CSC array where at most this share of it is not zero; 0: never
    takes_codes: float  # X is read as Coded blocks, of no more entries than this share of its features; 0: it never is
    takes_tf32: bool  # whether ``cuda.products`` has a say in how it multiplies
    uses_blas: bool  # whether it calls a BLAS, which must then be held to one thread
    takes_dropout: bool

    def load(self, theta: Any) -> None: ...

    def gradient(self, X: Any, Y: Any, weight: Any) -> GradientSum: ...

    def cost(self, X: Any, Y: Any, weight: Any) -> tuple[Any, Any]: ...

    def predict(self, X: Any) -> Any: ...


FASTEST_FIRST = (NativeStep, CodedStep, OnePassStep, TensorStep, TwoPassStep, FusedStep, InplaceStep, ArrayStep)
STEPS: dict[str, type[Any]] = {step.name: step for step in FASTEST_FIRST}


def choose(network: Network, like: Any, precision: str = "", *, dropout: bool = False, entries: int = 0) -> str:
    """The name of the step that runs for this network on arrays of the library, device and dtype of ``like``.

    precision : "tf32" where it is asked for, which not every step can do;  dropout : whether it is to leave units out
    entries : of an example, where X can be read as Coded blocks
    """
    few = 0 < entries <= CodedStep.takes_codes * network.sizes[0]
    for name, step in STEPS.items():
        allowed = (step.takes_tf32 or precision != "tf32") and (step.takes_dropout or not dropout)
        if allowed and (few or not step.takes_codes) and step.can_run(network, like):
            return name
    raise AssertionError("the array step can always run")


def segment(name: str, network: Network, m: int = 0) -> int:
    """The most examples of a segment of the step with that name; 0 where it sums over a block as a whole.

    m : of all examples; 0 for as many as one likes
    """
    size = getattr(STEPS[name], "segment", None)
    return 0 if size is None else int(size(network, m))


def make(network: Network, like: Any, block: int, name: str = "") -> Step:
    """A step for blocks of at most ``block`` examples: the one of this name, or the fastest."""
    made: Step = STEPS[name or choose(network, like)](network, like, block)
    return made


__all__ = [
    "STEPS", "ArrayStep", "CodedStep", "FusedStep", "InplaceStep", "NativeStep", "OnePassStep", "Step", "TensorStep",
    "TwoPassStep", "choose", "make", "segment",
]  # fmt: skip
