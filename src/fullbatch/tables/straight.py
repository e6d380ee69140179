"""A table that is learned from as its files lie, without a store: each full batch decodes and encodes them anew.

That costs about three times the step, where a store is written once at twice that and read for nothing. So it pays for
one or two iterations, which is when ``reads_straight`` says so. The rows are in the order of the files, and what is
trained has the bits of the same table in memory.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fullbatch.sources.passing import Leaves, PassedPart, Pieces
from fullbatch.sources.stored import Store
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.fit import Settings
from fullbatch.tables.frames import paths_of
from fullbatch.tables.raw import RawTable
from fullbatch.tables.store import Learned, Tell, held_parts, kept_parts, learn
from fullbatch.training.optimizers import OPTIMIZERS

ITERATIONS = 2  # of full batches, up to which the files are read in each


def reads_straight(settings: Settings) -> bool:
    """Whether a training takes its rows from the files: by what it is asked for, and by nothing of the machine."""
    optimizer = OPTIMIZERS.get(settings.solver)  # None for L-BFGS
    whole = optimizer is None or optimizer.whole or settings.batch_size == "full"
    return whole and settings.epochs is not None and settings.epochs <= ITERATIONS


class FileTable(Store):
    """A table in files as what a store is to a training.

    data : a path, or several;  options : as ``convert`` takes them
    """

    def __init__(self, data: Any, target: str, *, tell: Tell | None = None, **options: Any) -> None:
        self.learned = found = learn(data, target, **options, tell=tell)
        fields: Any = found.layout.record.fields or {}
        kinds = {name: (kind.base, kind.shape[0] if kind.shape else 0) for name, (kind, *_) in fields.items()}
        self.file: Any = SimpleNamespace(path=Path(paths_of(data)[0]), content=found.content, kinds=kinds)
        lock = threading.RLock()
        rows = found.content["rows"]
        self.train = self._part(rows["train"], False, lock)
        self.held_out = self._part(rows["held_out"], True, lock)

    def _part(self, m: int, held_out: bool, lock: threading.RLock) -> PassedPart:
        """Features and targets are read each by themselves: who asks for targets alone has few columns decoded."""
        found, kinds = self.learned, self.file.kinds
        target = str(found.encoding.target)
        names = {"numbers": [name for name in found.names if name != target], "y": [target]}
        of_field = {}
        for first, fields in (("numbers", ("numbers", "codes")), ("y", ("y", "weight"))):
            own = {name: kinds[name] for name in fields if name in kinds}
            leaves = Leaves(passes(found, names[first], tuple(own), held_out), m, found.layout.leaf, own, lock)
            of_field.update(dict.fromkeys(own, leaves))
        return PassedPart(m, found.layout.leaf, of_field, _known_by(found, held_out))

    def close(self) -> None:
        """End the passes."""
        for part in (self.train, self.held_out):
            if isinstance(part, PassedPart):
                part.close()


def passes(found: Learned, names: Sequence[str], fields: tuple[str, ...], held_out: bool) -> Pieces:
    """Begins a pass over the rows to learn from, or the held-out ones: of a store's fields, these."""

    def begin() -> Iterator[dict[str, np.ndarray]]:
        if held_out and found.own is not None:
            for table, weight in held_parts(found):
                yield _fields(found.encoding, table, weight, fields)
            return
        for table, held, _, weight in kept_parts(names, found.encoding, found.counts):
            mine = held if held_out else ~held
            if mine.all():
                yield _fields(found.encoding, table, weight, fields)
            elif mine.any():
                rows = np.flatnonzero(mine)
                yield _fields(found.encoding, table.select(rows), None if weight is None else weight[rows], fields)

    return begin


def _fields(
    encoding: TableEncoding, table: RawTable, weight: np.ndarray | None, fields: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """The fields of these rows, as a store has them."""
    found: dict[str, np.ndarray] = {}
    if "numbers" in fields:
        encoded = encoding.encode(table)
        found = {"numbers": encoded.numbers, "codes": encoded.ones}
    if "y" in fields:
        found["y"] = encoding.encode_target(table)
    if weight is not None:
        found["weight"] = weight
    return {name: found[name] for name in fields}


def _known_by(found: Learned, held_out: bool) -> str:
    """What stands for a checksum: all that was learned of the table, counts and sums of its columns."""
    content = json.dumps([found.content, held_out], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
