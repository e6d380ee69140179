"""Partitions of a collection that lie on the workers of a cluster, as examples: each has leaves of its own.

What runs on a worker is here, so that a worker imports no more than a shard does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fullbatch.errors import InputError
from fullbatch.sources.columns import Examples, Reader, Where, sparse_reader
from fullbatch.sources.memory import Dense
from fullbatch.sources.store_columns import target_of


class Block(NamedTuple):
    """A partition as the passes need it: X (rows, n), contiguous, labels or numbers y (rows,), and weights or None."""

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None


class Facts(NamedTuple):
    """What the driver knows of a partition. labels : those of a classification, sorted"""

    rows: int
    n: int
    dtype: str
    columns: tuple[str, ...]
    labels: np.ndarray | None


def as_block(number: int, X: Any, y: Any, weight: Any, classify: bool) -> Block:
    """A partition, checked; what is wrong with it is an error that names it."""
    try:
        table = np.asarray(X)
        if table.ndim != 2 or table.dtype.kind not in "fiub":
            raise InputError(f"it has {table.ndim} axes and dtype {table.dtype}; numbers (rows, features) are needed.")
        if table.dtype not in (np.float32, np.float64):
            table = table.astype(np.float64)
        target = np.asarray(y)
        if target.shape != (len(table),):
            raise InputError(f"it has {len(table):,} rows and y of shape {target.shape}; each row has one target.")
        _check_finite("X", table)
        if not classify:
            target = target.astype(table.dtype)
            _check_finite("y", target)
        if weight is not None:
            weight = np.asarray(weight, table.dtype)
            if weight.shape != target.shape or not np.isfinite(weight).all() or (weight < 0).any():
                raise InputError("its weights must be finite and not negative, one for each row.")
    except (ValueError, TypeError) as error:
        raise InputError(f"partition {number}: {error}") from None
    # What came through a network may begin at any byte: each iteration would copy it once more, block by block.
    return Block(np.require(table, requirements=["C_CONTIGUOUS", "ALIGNED"]), target, weight)


def _check_finite(name: str, table: np.ndarray) -> None:
    if np.isfinite(table).all():
        return
    row, *column = np.argwhere(~np.isfinite(table))[0].tolist()
    cell = f"row {row}" + (f", column {column[0]}" if column else "")
    raise InputError(f"{name} is {table[(row, *column)]} in {cell}, counted from 0; fill or drop such values first.")


def facts(block: Block, X: Any, classify: bool) -> Facts:
    names = tuple(map(str, X.columns)) if hasattr(X, "columns") else ()
    rows, n = block.X.shape
    return Facts(rows, n, block.X.dtype.name, names, np.unique(block.y) if classify else None)


@dataclass(frozen=True)
class BlockRows:
    """How a worker makes examples of the partitions that it holds. classes : sorted labels; None: y are numbers"""

    n: int
    classes: np.ndarray | None

    def examples(self, start: int, stop: int, *data: Any) -> Examples:
        blocks: Sequence[Block] = data
        X = Chained([Dense(block.X.T) for block in blocks])
        Y = Chained([self._target(block) for block in blocks])
        weights = [block.weight for block in blocks if block.weight is not None]
        return Examples(X, Y, np.concatenate(weights) if weights else None)

    def _target(self, block: Block) -> Any:
        if self.classes is None:
            return target_of(block.y, 0, block.X.dtype)
        return target_of(np.searchsorted(self.classes, block.y), max(len(self.classes), 2), block.X.dtype)

    def checksum(self) -> str:
        return repr((self.n, None if self.classes is None else self.classes.tolist()))


class Chained:
    """Sources that follow one another, as one source without a copy: a block lies within one of them."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *(part.m for part in parts)])

    @property
    def n(self) -> int:
        return int(self.parts[0].n)

    @property
    def m(self) -> int:
        return int(self.starts[-1])

    @property
    def like(self) -> Any:
        return self.parts[0].like

    def reader(self) -> Reader:
        return self._through([part.reader() for part in self.parts])

    def sparse_reader(self, share: float) -> Reader | None:
        readers = [sparse_reader(part, share) for part in self.parts]
        return None if any(one is None for one in readers) else self._through(readers)

    def _through(self, readers: Sequence[Any]) -> Reader:
        starts = self.starts

        def read(where: Where) -> Any:
            i = int(np.searchsorted(starts, where.start, side="right")) - 1
            return readers[i](slice(where.start - int(starts[i]), where.stop - int(starts[i])))

        return read
