"""Examples that lie in memory: dense, sparse, class codes, a selection of another source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fullbatch.sources.columns import Array, Columns, Layout, Reader, Where, entries, in_memory, sparse_reader


@dataclass(frozen=True)
class Dense:
    """An array (n, m) of any library. The transpose of a caller's (m, n) table is a view, so it costs no copy."""

    array: Array

    @property
    def n(self) -> int:
        return int(self.array.shape[0])

    @property
    def m(self) -> int:
        return int(self.array.shape[1])

    @property
    def like(self) -> Array:
        return self.array

    def in_memory(self) -> Layout:
        return Layout(numbers=self.array)

    def reader(self) -> Reader:
        array = self.array
        if isinstance(array, np.ndarray):
            rows = array.T  # Examples are gathered as rows of the table, because each of them is contiguous.

            def read(where: Where) -> Array:
                if isinstance(where, slice):
                    # All examples are the array itself, not a view of it: the native step keeps how it last described
                    # the arrays to C, and where the same object comes again it need not do so anew.
                    return array if (where.start, where.stop) == (0, len(rows)) else array[:, where]
                return rows.take(where, axis=0).T

            return read
        return lambda where: array[:, where] if isinstance(where, slice) else _take_columns(array, where)


def _take_columns(array: Array, where: Any) -> Array:
    from fullbatch.machine import arrays

    xp = arrays.namespace(array)
    # Examples are taken as rows of the table, because those lie together. A block that is streamed to the device lies
    # in memory as this one does, so that the products of both have the same bits.
    return xp.take(array.T, xp.asarray(where, device=arrays.device_of(array)), axis=0).T


@dataclass(frozen=True)
class Checked(Dense):
    """NumPy's numbers of a caller, looked at for NaN and infinity as they are read, block by block and on all threads.

    A look at all of them beforehand is a sixth of the time of a prediction, and one thread's.
    name, columns : for the error, which is ``check_finite``'s and names the first of all examples that is wrong
    """

    name: str = "X"
    columns: Any = None

    def reader(self) -> Reader:
        from fullbatch.machine.finite import check_finite

        read = super().reader()

        def checked(where: Where) -> Array:
            block = read(where)
            # One sum, by einsum because it adds in fewer steps than sum; an infinite one may be an overflow, as there.
            if not np.isfinite(np.einsum("ij->", block)):
                check_finite(self.array.T, self.name, self.columns)
            return block

        return checked


@dataclass(frozen=True)
class OneHot:
    """Class codes (m,) as columns of ``n`` zeros and one 1, made block by block where the codes lie.

    codes : integers in 0 ... n-1, shape (m,), of any library;  dtype : of the blocks, that library's own
    """

    codes: Any
    n: int
    dtype: Any

    @property
    def m(self) -> int:
        return int(self.codes.shape[0])

    @property
    def like(self) -> Array:
        return self._eye()[:, :0]

    def _eye(self) -> Array:
        from fullbatch.machine import arrays

        if arrays.is_numpy(self.codes):
            return np.eye(self.n, dtype=self.dtype)
        return arrays.namespace(self.codes).eye(self.n, dtype=self.dtype, device=arrays.device_of(self.codes))

    def reader(self) -> Reader:
        codes, eye = self.codes, self._eye()
        if not isinstance(codes, np.ndarray):
            return _one_hot_reader(codes, eye)
        if self.n == 1:  # There is one sigmoid unit, so the code is the target itself.
            return lambda where: codes[where].astype(self.dtype)[np.newaxis, :]
        return lambda where: eye.take(codes[where], axis=0).T


def _one_hot_reader(codes: Array, eye: Array) -> Reader:
    from fullbatch.machine import arrays

    xp, device = arrays.namespace(codes), arrays.device_of(codes)

    def read(where: Where) -> Array:
        chosen = codes[where] if isinstance(where, slice) else xp.take(codes, xp.asarray(where, device=device))
        return xp.take(eye, chosen, axis=0).T if eye.shape[0] > 1 else xp.astype(chosen, eye.dtype)[None, :]

    return read


@dataclass(frozen=True)
class Sparse:
    """A SciPy CSR matrix of examples by features (m, n), made dense block by block."""

    rows: Any

    @property
    def n(self) -> int:
        return int(self.rows.shape[1])

    @property
    def m(self) -> int:
        return int(self.rows.shape[0])

    @property
    def like(self) -> Array:
        return np.empty((0, 0), dtype=self.rows.dtype)

    def in_memory(self) -> Layout:
        return Layout(rows=self.rows)

    def reader(self) -> Reader:
        rows = self.rows
        return lambda where: rows[where].toarray().T

    def sparse_reader(self, share: float) -> Reader | None:
        rows = self.rows
        return (lambda where: rows[where].T) if rows.nnz <= share * self.m * self.n else None


@dataclass(frozen=True)
class Subset:
    """Some examples of another source, in a given order; nothing is copied but the indices."""

    whole: Columns
    indices: Any

    @property
    def n(self) -> int:
        return self.whole.n

    @property
    def m(self) -> int:
        return len(self.indices)

    @property
    def like(self) -> Array:
        return self.whole.like

    def in_memory(self) -> Layout | None:
        """As the whole's, but for a selection of a selection, which is read block by block."""
        whole = in_memory(self.whole)
        return None if whole is None or whole.through is not None else whole._replace(through=self.indices)

    def reader(self) -> Reader:
        return self._selected(self.whole.reader())

    def sparse_reader(self, share: float) -> Reader | None:
        read = sparse_reader(self.whole, share)
        return None if read is None else self._selected(read)

    @property
    def entries(self) -> int:
        return entries(self.whole)

    def coded_reader(self) -> Reader:
        whole: Any = self.whole
        return self._selected(whole.coded_reader())

    def _selected(self, read: Reader) -> Reader:
        indices = self.indices
        return lambda where: read(indices[where])
