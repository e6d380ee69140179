"""Examples on the host, for passes on another device: each block is copied there when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fullbatch.machine import arrays
from fullbatch.sources.columns import Array, Columns, Reader, entries
from fullbatch.sources.conveyor import Streaming
from fullbatch.sources.memory import Subset


@dataclass(frozen=True)
class Uploaded:
    """A host source whose blocks are copied to another library and device, one at a time.

    place : has ``put``, ``empty``, ``current`` and ``is_cuda``, as places.Place
    """

    host: Columns
    place: Any

    @property
    def n(self) -> int:
        return self.host.n

    @property
    def m(self) -> int:
        return self.host.m

    @property
    def like(self) -> Array:
        return self.place.empty(self.host.like.dtype)

    def reader(self) -> Reader:
        if self.place.is_cuda:
            return Streaming(self.host, self.place, arrays.cupy_if_loaded())
        read, put = self.host.reader(), self.place.put
        return lambda where: put(np.ascontiguousarray(read(where).T)).T

    @property
    def entries(self) -> int:
        return entries(self.host) if self.place.is_cuda else 0

    def coded_reader(self) -> Reader:
        return Streaming(self.host, self.place, arrays.cupy_if_loaded(), coded=True)


def selected(whole: Columns, indices: Any) -> Columns:
    """Some examples of a source, in that order: chosen on the host, where they are uploaded."""
    if isinstance(whole, Uploaded):
        return Uploaded(Subset(whole.host, indices), whole.place)
    own = getattr(whole, "selected", None)  # of what is shared among devices, and stays so
    if own is not None:
        found: Columns = own(indices)
        return found
    return Subset(whole, indices)
