"""For NumPy arrays on the CPU: compiled code, which reads each example once and stores no hidden layer.

It is the native twin of the pass. It keeps the hidden layers of 64 examples in the nearest cache, from the forward
product to the sums, so that no array of m times the hidden width is ever made. src/native holds the code,
native_library finds it; test_native.py holds it to the array step. It lets go of the interpreter's lock, so blocks run
side by side.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from fullbatch.core.dropout import Dropout
from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.core.parameters import count
from fullbatch.machine import arrays, native_library
from fullbatch.machine.native_library import Block, Blocks, Descent, OutputLoss, Rule

C_ACTIVATIONS = ("tanh", "sigmoid", "relu", "leaky_relu", "identity", "gelu", "silu")  # in C's order, as the rest
C_OUTPUTS = ("sigmoid", "softmax", "identity", "exp")
OUT_OF_RANGE, NO_MEMORY = -2, -3  # of C's enum fb_status


class NativeStep:
    name = "native"
    takes_sparse = 1 / 4
    takes_tf32 = False
    uses_blas = False
    takes_codes = 0.0
    takes_dropout = True

    @staticmethod
    def can_run(network: Network, like: Any) -> bool:
        known = all(activation.name in C_ACTIVATIONS for activation in network.activations)
        known = known and (network.loss.canonical or network.loss.slopes is not None)
        return known and arrays.is_numpy(like) and native_library.isa() is not None

    def __init__(self, network: Network, like: Any, block: int) -> None:
        self.library, shape = as_c(network, like.dtype)
        self.network = network
        self.dtype = np.dtype(like.dtype)
        self.handle = self.library.fb_step_new(*shape)
        if not self.handle:
            raise MemoryError(f"no memory for a network of {network.sizes} units.")
        self.loss, self.weight = ctypes.c_double(), ctypes.c_double()
        self.seen: tuple[Any, ...] = ()  # the last block as C sees it, after the arrays that it is of
        self.size = count(network.sizes)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # Not weakref.finalize, which takes as long as the gradient of 50 examples. At the interpreter's end a daemon
        # thread may be in it.
        if getattr(self, "handle", None) and not is_finalizing():
            self.library.fb_step_free(self.handle)

    def load(self, theta: Any) -> None:
        theta = np.ascontiguousarray(theta, self.dtype)
        if theta.shape != (self.size,):
            raise ValueError(f"{theta.size} parameters for the {self.size} of {self.network.sizes} units.")
        self.library.fb_step_load(self.handle, theta.ctypes.data)

    def leave_out(self, dropout: Dropout, first: int) -> None:
        rates = np.array(dropout.rates)
        if self.library.fb_step_dropout(self.handle, rates.ctypes.data, dropout.seed, dropout.update, first):
            raise MemoryError(f"no memory for a network of {self.network.sizes} units.")

    def gradient(self, X: Any, Y: Any, weight: Any) -> GradientSum:
        block, arrays = self._examples(X, Y, weight)
        gradient = np.empty(self.size)  # in float64: sums of more than 4096 examples are
        failed = self.library.fb_step_gradient(self.handle, block, gradient.ctypes.data, self.loss, self.weight)
        self.check(failed, arrays)
        return GradientSum(np.float64(self.loss.value), gradient, self.weight.value, self.network.sizes)

    def cost(self, X: Any, Y: Any, weight: Any) -> tuple[Any, Any]:
        block, arrays = self._examples(X, Y, weight)
        self.check(self.library.fb_step_cost(self.handle, block, self.loss, self.weight), arrays)
        return self.loss.value, self.weight.value

    def predict(self, X: Any) -> Any:
        block, arrays = self._examples(X, None, None)
        out = np.empty((X.shape[1], self.network.sizes[-1]), self.dtype)
        self.check(self.library.fb_step_predict(self.handle, block, out.ctypes.data), arrays)
        return out.T

    def prepared(self, X: Any, out: np.ndarray) -> Callable[[], None]:
        """A call that predicts X (n, k), with what is in it by then, into ``out`` (k, n[L]).

        C is told once where both are: to look takes longer than to predict a row. So they are to be as C takes them, of
        the step's dtype.
        """
        block, out_as_C_sees_it = Block(m=X.shape[1]), ctypes.c_void_p(out.ctypes.data)
        held = put_X(block, X, self.dtype, self.network.sizes[0])
        assert out.flags.c_contiguous
        assert (out.dtype, out.shape) == (self.dtype, (X.shape[1], self.network.sizes[-1]))
        predict, handle, pointer = self.library.fb_step_predict, self.handle, ctypes.pointer(block)

        def again() -> None:
            if failed := predict(handle, pointer, out_as_C_sees_it):
                self.check(failed, held)

        return again

    def _examples(self, X: Any, Y: Any, weight: Any) -> tuple[Block, list[Any]]:
        """The block as C sees it, and the arrays that must live as long as C looks at them."""
        given = X, Y, weight
        if self.seen and all(one is other for one, other in zip(given, self.seen, strict=False)):
            return self.seen[3:]
        sizes, m = self.network.sizes, X.shape[1]
        block = Block(m=m)
        arrays = put_X(block, X, self.dtype, sizes[0])
        if Y is not None:
            arrays += put_targets(block, Y, weight, self.dtype, (sizes[-1], m))
        # A full batch that is one block comes again and again. What was copied for C is looked at anew each time: the
        # caller may have changed it.
        as_it_lies = all(any(array is one for one in given) for array in arrays)
        self.seen = (*given, block, arrays) if as_it_lies else ()
        return block, arrays

    @staticmethod
    def check(failed: int, arrays: list[Any]) -> None:
        if failed == NO_MEMORY:
            raise MemoryError("no memory for 64 examples of X.")
        if failed:
            raise ValueError("the native step refused its arguments: a sparse block's features are out of range.")


class NativeBlocks:
    """Blocks of examples as they lie in memory, summed in one call of C or in a few.

    steps : one for each thread;  X, Y, weight : of all examples, as C can take them (``in_place``)
    starts : where block k begins: with example starts[k]; the last number is how many examples there are
    leaves : where leaf k begins: with block leaves[k]; the last number is how many blocks there are
    together : the leaves of a call, a power of two
    """

    BYTES = 2**23  # of the gradients of a call: each of its blocks has one

    def __init__(
        self, steps: Sequence[NativeStep], X: Any, Y: Any, weight: Any,
        starts: Sequence[int], leaves: Sequence[int], together: int,
    ) -> None:  # fmt: skip
        step = steps[0]
        self.steps, self.network, self.dtype, self.size = tuple(steps), step.network, step.dtype, step.size
        whole = Block(m=X.shape[1])
        self.kept: list[Any] = put_X(whole, X, self.dtype, self.network.sizes[0])  # what C looks at
        self.kept += put_targets(whole, Y, weight, self.dtype, (self.network.sizes[-1], whole.m))
        examples = (Block * (len(starts) - 1))(*(part_of(whole, *edges, self.dtype) for edges in pairwise(starts)))
        last = len(leaves) - 1
        firsts = range(0, last, together)
        longest = max(leaves[min(first + together, last)] - leaves[first] for first in firsts)
        work = np.empty((2 + self.size) * longest + self.size)
        # Of each call the first leaf, how many it has, and its blocks as C sees them.
        self.calls: list[tuple[int, int, Blocks]] = []
        for first in firsts:
            begin, *ends = leaves[first : first + together + 1]
            bounds, at = (ctypes.c_int64 * (len(ends) + 1))(0, *(end - begin for end in ends)), ctypes.addressof
            of_call = Blocks(at(examples[begin]), at(bounds), len(ends), work.ctypes.data)
            self.calls.append((first, len(ends), of_call))
            self.kept.append(bounds)
        self.kept += [examples, work]

    @classmethod
    def fit(cls, network: Network, blocks: int) -> bool:
        """Whether so many blocks are few enough for a call."""
        return 8 * blocks * count(network.sizes) <= cls.BYTES

    @staticmethod
    def in_place(X: Any, Y: Any, weight: Any, dtype: np.dtype) -> bool:
        """Whether C can take a block's arrays as they lie."""
        given = [array for array in (X, Y, weight) if array is not None]
        return all(isinstance(array, np.ndarray) and in_elements(array, dtype) for array in given)

    def gradients(self, theta: Any, threads: int) -> Iterator[tuple[int, int, GradientSum]]:
        """Of each call its first leaf, how many it has, and the sum over them as the fold adds it."""
        theta = np.ascontiguousarray(theta, self.dtype)
        for first, leaves, blocks in self.calls:
            yield first, leaves, sum_of(self.steps, threads, blocks, theta)

    def descend(
        self, rule: Rule, moment: Sequence[Any], rate: float, updates: int, *,
        tol: float, last: float, seconds: float, threads: int | None = None,
    ) -> tuple[list[float], Sequence[Any], Sequence[Any]]:  # fmt: skip
        """Updates of theta by all blocks, see ``fb_descend``: J before each, what came of them, what was before.

        All blocks are to be one call's.

        moment : theta, and the velocity where the rule has one;  rate : of each of so many updates, at most
        threads : at most so many; None for one for each step
        """
        size = self.size
        now = [np.array(array, self.dtype) for array in moment]
        other = [np.empty(size, self.dtype) for _ in moment]
        rates, costs = np.full(updates, rate), np.empty(updates)
        sizes = (ctypes.c_int64 * len(self.network.sizes))(*self.network.sizes)
        addresses = [array.ctypes.data for array in (*now, *other)]
        theta, velocity, theta_2, velocity_2 = (
            addresses if len(moment) == 2 else (addresses[0], None, addresses[1], None)
        )
        how = Descent(
            len(sizes) - 1, ctypes.addressof(sizes), ctypes.addressof(rule), rates.ctypes.data, updates,
            tol, last, seconds, theta, velocity, theta_2, velocity_2, costs.ctypes.data,
        )  # fmt: skip
        step = self.steps[0]
        team = self.steps[:threads]
        done = step.library.fb_descend(handles_of(team), len(team), self.calls[0][2], how)
        NativeStep.check(min(done, 0), [])
        return costs[:done].tolist(), *((other, now) if done % 2 else (now, other))


def sum_of(steps: Sequence[NativeStep], threads: int, blocks: Blocks, theta: np.ndarray) -> GradientSum:
    """The sum over blocks of leaves at theta, contiguous and of the steps' dtype, in one call of C."""
    step, loss, weight = steps[0], ctypes.c_double(), ctypes.c_double()
    vector = np.empty(step.size)
    failed = step.library.fb_blocks_gradient(
        handles_of(steps), min(threads, len(steps)), blocks, theta.ctypes.data, vector.ctypes.data, loss, weight
    )
    NativeStep.check(failed, [])
    return GradientSum(np.float64(loss.value), vector, weight.value, step.network.sizes)


def handles_of(steps: Sequence[NativeStep]) -> Any:
    """The steps as C takes several."""
    return (ctypes.c_void_p * len(steps))(*(step.handle for step in steps))


def as_c(network: Network, dtype: Any) -> tuple[ctypes.CDLL, tuple[Any, ...]]:
    """The library, and a network as fb_step_new and fb_trainer_new take it; C counts a dtype by its bytes."""
    in_use = native_library.in_use()
    if in_use is None:
        raise RuntimeError(f"the native step cannot run: {native_library.why_not()}")
    library, isa = in_use
    names = tuple(str(activation.name) for activation in network.activations)
    shape = _shape(network.sizes, names, network.output.name, network.loss.slopes)
    return library, (isa, np.dtype(dtype).itemsize, *shape)


@lru_cache(maxsize=64)
def _shape(
    sizes: tuple[int, ...], names: tuple[str, ...], output: str, slopes: tuple[float, float] | None
) -> tuple[Any, ...]:
    """Layers, sizes, activations and output with its loss; C reads them while it makes a step, and keeps none."""
    codes = [C_ACTIVATIONS.index(name) for name in names]
    return (
        len(sizes) - 1,
        (ctypes.c_int64 * len(sizes))(*sizes),
        (ctypes.c_int32 * max(len(codes), 1))(*codes),
        OutputLoss(C_OUTPUTS.index(output), slopes is not None, *(slopes or (0.0, 0.0))),
    )


def part_of(whole: Block, start: int, stop: int, dtype: np.dtype) -> Block:
    """Examples ``start`` to ``stop`` - 1 of dense ones."""
    first, part = start * dtype.itemsize, Block.from_buffer_copy(whole)
    part.m = stop - start
    part.X += first * whole.x_example
    part.Y += first * whole.y_example
    if whole.weight:
        part.weight += first * whole.weight_example
    return part


def put_X(block: Block, X: Any, dtype: np.dtype, n: int) -> list[Any]:
    """Tell C where X (n, k) is, an array or SciPy's CSC array. What must live as long as C looks at it.

    C cannot see how long an array is, so that is looked at here, and what is wrong is a ValueError.
    """
    if X.shape[0] != n:
        raise ValueError(f"X has the shape {X.shape} for a network of {n} inputs.")
    if isinstance(X, np.ndarray):
        X = X if in_elements(X, dtype) else np.array(X, dtype)
        feature, example = X.strides
        block.X, block.x_feature, block.x_example = X.ctypes.data, feature // X.itemsize, example // X.itemsize
        return [X]
    # CSC of features by examples is CSR of examples by features.
    ends, stored = int(X.indptr[-1]), min(len(X.data), len(X.indices))
    if len(X.indptr) != X.shape[1] + 1 or not 0 <= ends <= min(stored, 2**31 - 1):
        raise ValueError(f"a sparse X {X.shape} with {len(X.indptr)} pointers up to {ends} and {stored} entries.")
    arrays = [np.ascontiguousarray(X.data, dtype)]
    arrays += [np.ascontiguousarray(array, np.int32) for array in (X.indices, X.indptr)]
    block.X, block.features, block.indptr = (array.ctypes.data for array in arrays)
    return arrays


def put_targets(block: Block, Y: Any, weight: Any, dtype: np.dtype, shape: tuple[int, int]) -> list[Any]:
    """Tell C where Y, (n[L], k) as ``shape`` says, and the weights (k,) or None are."""
    if Y.shape != shape or (weight is not None and weight.shape != shape[1:]):
        raise ValueError(f"Y {Y.shape}, weights {None if weight is None else weight.shape} where Y is to be {shape}.")
    Y = Y if in_elements(Y, dtype) else np.array(Y, dtype)
    unit, example = Y.strides
    block.Y, block.y_unit, block.y_example = Y.ctypes.data, unit // Y.itemsize, example // Y.itemsize
    if weight is None:
        return [Y]
    weight = weight if in_elements(weight, dtype) else np.array(weight, dtype)
    block.weight, block.weight_example = weight.ctypes.data, weight.strides[0] // weight.itemsize
    return [Y, weight]


def in_elements(array: np.ndarray, dtype: np.dtype) -> bool:
    """Whether C can take the array as it lies: of this dtype, and its strides are whole elements."""
    flags = array.flags
    if array.dtype != dtype or not flags.aligned:
        return False
    return flags.forc or all(stride % dtype.itemsize == 0 for stride in array.strides)
