"""Examples that lie on the workers of a cluster: what the driver knows of them, and how a worker comes by its own.

The driver has no row of them. It cuts the whole into shards, and a worker makes the examples of one from a recipe.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from fullbatch.errors import InputError, StoreError
from fullbatch.sources.columns import Array, Examples, Reader

if TYPE_CHECKING:
    from fullbatch.sources.stored import Store


class Rows(Protocol):
    """How a worker comes by the examples of a shard: it pickles as little as that takes."""

    def examples(self, start: int, stop: int, *data: Any) -> Examples:
        """Those from ``start`` to ``stop`` of the whole; ``data`` is what the cluster's engine holds of them."""
        ...

    def checksum(self) -> str:
        """Of the whole, as a checkpoint keeps it; where there are pieces, of what they have in common."""
        ...


class Piece(NamedTuple):
    """So many rows that lie at the worker ``address``, as the cluster's engine knows them: ``data``."""

    rows: int
    address: str
    data: Any


@dataclass(frozen=True)
class Sharded:
    """A ``Columns`` source without a reader. The target and the weights of its examples go with it.

    rows    : the recipe;  workers : an engine's four calls (``fold/cluster.py``)
    pieces  : where they lie, in their order, if they are not to be moved; (): any worker reads any leaves
    permuted : whether their order is a random one, so that leaves are good mini-batches
    """

    n: int
    m: int
    like: Array
    rows: Rows
    workers: Any
    pieces: Sequence[Piece] = ()
    permuted: bool = True

    def reader(self) -> Reader:
        raise InputError("examples on a cluster are not read one by one; to_local() gives a model that predicts here.")

    def checksum(self) -> str:
        """Of the whole. What lies at the workers is read there, piece by piece: the bits follow the pieces too."""
        own = self.rows.checksum()
        if not self.pieces:
            return own
        told = self.workers.each(digest_of, [(piece.data,) for piece in self.pieces])
        return hashlib.sha256("\n".join([own, *told]).encode()).hexdigest()


def digest_of(piece: Sequence[Any]) -> str:
    """A checksum of the arrays of a piece, some of which may be None; run by a worker that holds it."""
    digest = hashlib.sha256()
    for array in piece:
        if array is None:
            digest.update(b"none")
            continue
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        if array.dtype.hasobject:  # whose bytes say where they lie in memory
            digest.update(repr(array.tolist()).encode())
        else:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class StoreRows:
    """Some rows of a store, which is opened by its path on whatever worker.

    part : "train" or "held_out";  identity : the store's own checksum: another file of that name is refused
    by_class : what rows weigh by their class, as ``Reweighted`` has it; (): nothing
    """

    path: str
    part: str
    identity: str
    by_class: tuple[float, ...] = ()

    @classmethod
    def of(cls, store: Store, part: str, by_class: tuple[float, ...] = ()) -> StoreRows:
        return cls(os.path.abspath(store.path), part, store.content["sha256"], by_class)

    def opened(self) -> Store:
        """The store, as a worker sees it. StoreError where it does not, or where it is another one."""
        from fullbatch.sources.stored import Store

        try:
            store = Store(self.path)
        except StoreError as error:
            raise StoreError(
                f"{error} Every worker reads the store by this path: put it where all of them see it, as on a shared "
                "file system, or copy it to the same path on each."
            ) from None
        if store.content["sha256"] != self.identity:
            raise StoreError(f"the store {self.path} is another one on this worker; copy the same file to each.")
        return store

    def examples(self, start: int, stop: int, *data: Any) -> Examples:
        from fullbatch.sources.store_parts import Part, Reweighted

        store = self.opened()
        part = getattr(store, self.part)
        assert isinstance(part, Part)
        first, odd = divmod(start, part.leaf)
        assert not odd, "a shard begins with a leaf"
        own = Part(part.file, part.first + first, stop - start)
        # Of the types that weights of classes have in one process.
        by_class = np.array(self.by_class, np.float64 if self.part == "train" else store.dtype)
        return store.examples(Reweighted(own, by_class) if self.by_class else own)

    def checksum(self) -> str:
        from fullbatch.sources.store_parts import Part
        from fullbatch.sources.stored import Store

        with Store(self.path) as store:
            part = getattr(store, self.part)
            assert isinstance(part, Part)
            return part.checksum()


class Count(NamedTuple):
    """How many rows a part has."""

    m: int


NONE = Count(0)


@dataclass(frozen=True)
class ShardedTable:
    """Examples of a cluster with their target, as an estimator of numbers learns from a store.

    classes : sorted; () for a regression;  task : "classify" or "regress";  path : how errors call it
    content : what a store says of itself
    """

    n: int
    classes: tuple[Any, ...]
    dtype: Any
    train: Count
    source: Sharded
    task: str
    path: str = "the Dask collection"
    held_out: Count = NONE
    content: Mapping[str, Any] = field(default_factory=dict)

    def examples(self, part: Count, place: Any = None) -> Examples:
        """The rows of a part, as a fold on the cluster takes them."""
        refuse_device(place)
        return Examples(self.source)


def refuse_device(place: Any) -> None:
    """InputError for a place other than the CPU, where the workers compute."""
    if place is not None and place.name != "cpu":
        raise InputError(f"device={place.name!r} is refused on a cluster: its workers compute on their CPUs.")
