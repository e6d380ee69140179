"""Examples on the host, for passes on several devices of this machine: each has some leaves of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fullbatch.sources.columns import Columns, Examples, Reader, Where, entries
from fullbatch.sources.encoded import EncodedTable
from fullbatch.sources.memory import Dense, Subset
from fullbatch.sources.sharded import Sharded


@dataclass(frozen=True)
class Spread(Sharded):
    """A host source whose leaves are shared among devices.

    host : the source;  places : where its shares go, in order, each as ``places.Place``
    """

    host: Any = None
    places: Sequence[Any] = ()

    @classmethod
    def over(cls, host: Columns, places: Sequence[Any]) -> Spread:
        like: Any = np.empty((host.n, 0), host.like.dtype)
        return cls(host.n, host.m, like, None, None, permuted=False, host=host, places=tuple(places))  # type: ignore[arg-type]

    @property
    def device(self) -> str:
        """What ``device=`` names."""
        return ",".join(place.name for place in self.places)

    def selected(self, indices: Any) -> Spread:
        """Some of the examples, in that order."""
        return Spread.over(Subset(self.host, indices), self.places)

    def reader(self) -> Reader:
        reader: Reader = self.host.reader()
        return reader

    def checksum(self) -> str:
        from fullbatch.sources.fingerprints import fingerprint

        return str(fingerprint(self.host)["checksum"])


def spread(examples: Examples, like: Columns) -> Examples:
    """Examples on the same devices as ``like``, where that is on several; else as they are."""
    if not isinstance(like, Spread):
        return examples
    return Examples(Spread.over(examples.X, like.places), examples.Y, examples.weight)


@dataclass(frozen=True)
class HostRows:
    """How a device comes by the examples of its share, which are still on the host."""

    whole: Examples

    def examples(self, start: int, stop: int, *data: Any) -> Examples:
        X, Y, weight = self.whole.X, self.whole.Y, self.whole.weight
        part = slice(start, stop)
        own = None if Y is None else within(Y, part)
        return Examples(within(X, part), own, None if weight is None else weight[part])

    def checksum(self) -> str:
        raise NotImplementedError  # Nobody asks a share for it: ``Spread`` has that of the whole source.


def within(source: Columns, part: slice) -> Columns:
    """Some examples of a source that follow one another; a table stays one, which a device may hold as a whole."""
    if isinstance(source, Dense):
        return Dense(source.array[:, part])
    if isinstance(source, EncodedTable):
        return EncodedTable(source.numbers[part], source.ones[part], source.n)
    return Within(source, part.start, part.stop)


@dataclass(frozen=True)
class Within:
    """Some examples of any other source that follow one another."""

    whole: Columns
    start: int
    stop: int

    @property
    def n(self) -> int:
        return self.whole.n

    @property
    def m(self) -> int:
        return self.stop - self.start

    @property
    def like(self) -> Any:
        return self.whole.like

    @property
    def entries(self) -> int:
        return entries(self.whole)

    def reader(self) -> Reader:
        return self._within(self.whole.reader())

    def coded_reader(self) -> Reader:
        whole: Any = self.whole
        return self._within(whole.coded_reader())

    def _within(self, read: Reader) -> Reader:
        start = self.start

        def some(where: Where) -> Any:
            return read(slice(where.start + start, where.stop + start) if isinstance(where, slice) else where + start)

        return some
