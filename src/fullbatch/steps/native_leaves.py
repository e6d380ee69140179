"""Leaves of examples that lie apart, as in a file's mapping, summed in one call of C.

``NativeBlocks`` does the same of examples that lie together, of which C is told once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fullbatch.core.gradient_sum import GradientSum
from fullbatch.machine.native_library import Block, Blocks
from fullbatch.steps.native import NativeStep, sum_of


class NativeLeaves:
    """Some leaves at a time, of which each call is told where they lie.

    steps : one for each thread
    starts : where block k begins: with example starts[k]; the last number is how many examples there are
    leaves : where leaf k begins: with block leaves[k]; the last number is how many blocks there are
    together : the leaves of a call, at most
    Y, weight : memory for the targets (n[L], k) and the weights (k,) of a call's examples, used again by the next one
    """

    def __init__(
        self, steps: Sequence[NativeStep], starts: Sequence[int], leaves: Sequence[int], together: int, weighted: bool
    ) -> None:
        self.steps, self.dtype, sizes = tuple(steps), steps[0].dtype, steps[0].network.sizes
        self.starts, self.leaves, self.n = np.array(starts, np.int64), np.array(leaves, np.int64), sizes[0]
        firsts = self.leaves[::together]
        ends = np.append(firsts[1:], self.leaves[-1])
        longest = int((ends - firsts).max())
        self.records = np.zeros(longest, np.dtype(Block))
        self.work = np.empty((2 + steps[0].size) * longest + steps[0].size)
        examples = int((self.starts[ends] - self.starts[firsts]).max())
        self.Y = np.empty((sizes[-1], examples), self.dtype)
        self.weight = np.empty(examples, self.dtype) if weighted else None

    def gradient(self, theta: Any, threads: int, first: int, X: Sequence[np.ndarray]) -> GradientSum:
        """The sum over the leaves from ``first`` on, as the fold adds it; ``Y`` and ``weight`` begin with theirs.

        X : of each leaf its rows (k, n[0])
        """
        bounds = self.leaves[first : first + len(X) + 1]
        edges, blocks = self.starts[bounds[0] : bounds[-1] + 1], np.diff(bounds)
        begins, size = self.starts[bounds], self.dtype.itemsize
        rows = list(map(len, X))
        if rows != np.diff(begins).tolist():
            raise ValueError(f"leaves of {rows} examples, of {np.diff(begins).tolist()}.")
        assert all(array.flags.c_contiguous and array.dtype == self.dtype for array in X)
        records = self.records[: len(edges) - 1]
        within = edges[:-1] - np.repeat(begins[:-1], blocks)
        records["X"] = np.repeat(np.array([array.ctypes.data for array in X], np.uintp), blocks)
        records["X"] += (within * (size * self.n)).astype(np.uintp)
        records["x_feature"], records["x_example"] = 1, self.n
        before = (edges[:-1] - edges[0]) * size
        records["Y"] = (self.Y.ctypes.data + before).astype(np.uintp)
        records["y_unit"], records["y_example"] = self.Y.shape[1], 1
        if self.weight is not None:
            records["weight"], records["weight_example"] = (self.weight.ctypes.data + before).astype(np.uintp), 1
        records["m"] = np.diff(edges)
        own = bounds - bounds[0]
        told = Blocks(records.ctypes.data, own.ctypes.data, len(X), self.work.ctypes.data)
        return sum_of(self.steps, threads, told, np.ascontiguousarray(theta, self.dtype))
