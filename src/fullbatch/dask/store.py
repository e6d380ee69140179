"""A store whose rows the workers of a cluster read: whatever learns from a store learns from this one."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fullbatch.sources.columns import Examples
from fullbatch.sources.sharded import Sharded, StoreRows, refuse_device
from fullbatch.sources.store_parts import AnyPart, Reweighted
from fullbatch.sources.stored import Store
from fullbatch.training.windows import usual_batch


class ClusterStore(Store):
    """The store at a path that all workers see as well.

    workers : of the cluster (``fold/cluster.py``)
    """

    def __init__(self, path: str | os.PathLike[str], workers: Any) -> None:
        super().__init__(path)
        self.workers = workers

    def examples(self, part: AnyPart, place: Any = None) -> Examples:
        """The rows of a part, as a fold on the cluster takes them."""
        refuse_device(place)
        by_class: tuple[float, ...] = ()
        if isinstance(part, Reweighted):
            by_class, part = tuple(part.by_class.tolist()), part.part
        name = "train" if part is self.train else "held_out"
        like, rows = np.empty((self.n, 0), self.dtype), StoreRows.of(self, name, by_class)
        return Examples(Sharded(self.n, part.m, like, rows, self.workers))

    @property
    def usual_batch(self) -> int | None:
        return usual_batch(self.examples(self.train))

    @property
    def drops_units(self) -> bool:
        return False
