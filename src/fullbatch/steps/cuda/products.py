"""Products by cuBLAS, segment by segment: one batched call, in which each segment's product has the same shape.

For another shape cuBLAS may choose another kernel, which adds in another order; so a block is no shape of a product.
The last segment may be shorter, and has a call of its own. CuPy's ``matmul`` would copy the transposed factors, and
take no notice of TF32: cuBLAS is called here, and finds each factor where it lies. A test on a card holds that the
number of segments in a call changes no bit; that cuBLAS promises it is nowhere said.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fullbatch.steps.cuda.launch import strides

REAL = {"float32": 0, "float64": 1}  # cudaDataType: CUDA_R_32F, CUDA_R_64F
FAST_TF32 = 77  # cublasComputeType: CUBLAS_COMPUTE_32F_FAST_TF32
DEFAULT = -1  # cublasGemmAlgo: CUBLAS_GEMM_DEFAULT


class Products:
    """Of arrays of one dtype. Both methods take ``segment``, the examples of one."""

    def __init__(self, xp: Any, dtype: Any) -> None:
        self.xp, self.dtype = xp, dtype
        self.one, self.zero = np.ones((), dtype=dtype), np.zeros((), dtype=dtype)
        self._ones = xp.ones(0, dtype=dtype)

    def by_example(self, A: Any, B: Any, out: Any, segment: int) -> None:
        """out (k, c) = A (k, r) B (r, c), where k counts the examples."""
        for start, stop in _runs(A.shape[0], segment):
            parts = min(segment, stop - start)
            left, made = (_in_parts(array[start:stop], parts) for array in (A, out))
            self._batched(left, B[np.newaxis], made)

    def over_examples(self, D: Any, A: Any, out: Any, segment: int) -> None:
        """out[i] (r, c) = D^T A of each segment's part of D (k, r) and A (k, c)."""
        for start, stop in _runs(A.shape[0], segment):
            parts = min(segment, stop - start)
            left, right = (_in_parts(array[start:stop], parts) for array in (D, A))
            first = start // segment
            self._batched(left.transpose(0, 2, 1), right, out[first : first + left.shape[0]])

    def sums(self, D: Any, out: Any, segment: int) -> None:
        """out[i] (1, r), the sum of each segment's part of D (k, r), as a product with ones."""
        if self._ones.shape[0] < segment:
            self._ones = self.xp.ones(segment, dtype=self.dtype)
        for start, stop in _runs(D.shape[0], segment):
            right, first = _in_parts(D[start:stop], min(segment, stop - start)), start // segment
            ones = self._ones[: right.shape[1]].reshape(1, 1, -1)
            self._batched(ones, right, out[first : first + right.shape[0]])

    def _batched(self, A: Any, B: Any, out: Any) -> None:
        """out[i] = A[i] B[i] for all i; cuBLAS counts column by column, to which they are transposes: B^T A^T.

        One matrix stands for all where it is alone.
        """
        batch, rows, columns = out.shape
        (of_B, ld_B), (of_A, ld_A) = _laid_out(B), _laid_out(A)
        cuda, kind = self.xp.cuda, REAL[self.dtype.name]
        cuda.cublas.gemmStridedBatchedEx(
            cuda.Device().cublas_handle, of_B, of_A, columns, rows, A.shape[2], self.one.ctypes.data,
            address(B), kind, ld_B, strides(B)[0] if B.shape[0] > 1 else 0,
            address(A), kind, ld_A, strides(A)[0] if A.shape[0] > 1 else 0, self.zero.ctypes.data,
            address(out), kind, strides(out)[1] if rows > 1 else columns, strides(out)[0],
            batch, self._compute(), DEFAULT,
        )  # fmt: skip

    def _compute(self) -> int:
        return FAST_TF32 if in_tf32(self.dtype) else REAL[self.dtype.name]


def in_tf32(dtype: Any) -> bool:
    """Whether products of this dtype are in TF32 now, as CuPy's own are: see machine/cuda.py."""
    linalg: Any = sys.modules.get("cupy._core._routines_linalg")
    narrow = dtype.name == "float32" and linalg is not None
    return bool(narrow and linalg.get_compute_type(dtype) == linalg.COMPUTE_TYPE_TF32)


def address(array: Any) -> int:
    """Where it lies on the device."""
    return int(array.data.ptr)


def _runs(k: int, segment: int) -> list[tuple[int, int]]:
    """The full segments of k examples, and what is left of them."""
    full = k // segment * segment
    return [run for run in ((0, full), (full, k)) if run[0] < run[1]]


def _in_parts(array: Any, rows: int) -> Any:
    """(k, n) as (k / rows, rows, n): a view."""
    return array.reshape(array.shape[0] // rows, rows, array.shape[1])


def _laid_out(matrices: Any) -> tuple[int, int]:
    """Whether cuBLAS is to transpose it once more, for it lies column by column; and the step from row to row."""
    (_, rows, columns), (_, down, across) = matrices.shape, strides(matrices)
    if across == 1 or columns == 1:
        return 0, max(down, columns) if rows > 1 else columns
    return 1, max(across, rows)
