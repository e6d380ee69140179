"""A raw table whose rows the workers of a cluster read, or hold: what learns from a store learns from this one.

The encoding is learned on the workers, by the statistics that one process adds, and each worker encodes its own rows.
The driver reads the columns alone that decide which rows are held out: the target, weights, ``split_by`` or ``group``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fullbatch.errors import InputError, TableError
from fullbatch.fold.cluster import cuts
from fullbatch.sources.columns import Examples, Where, length
from fullbatch.sources.sharded import Piece, Sharded, refuse_device
from fullbatch.sources.store_parts import Reweighted
from fullbatch.sources.stored import Store, StoredArrays
from fullbatch.tables import spans
from fullbatch.tables.counting import Counts, Holding, Start, Target
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.inputs import files_of
from fullbatch.tables.raw import USUAL_CONVENTIONS, Conventions
from fullbatch.tables.roles import Roles
from fullbatch.tables.splits import HoldOut
from fullbatch.tables.store import Layout, content_of, counted_target, named_in, names_of
from fullbatch.tables.stream import Stream

AT_ONCE = 2**16  # held-out rows that a worker encodes at a time, for the driver to score


@dataclass(frozen=True)
class Wanted:
    """What ``convert`` is told of a table: see there."""

    target: str
    task: str | None
    weight: str | None = None
    columns: Sequence[str] | None = None
    conventions: Conventions = USUAL_CONVENTIONS
    categorical: Sequence[str] = ()
    numeric: Sequence[str] = ()
    drop: Sequence[str] = ()
    max_levels: int = 1024
    dtype: str = "float32"
    validation: float = 0.1
    split_by: str | None = None
    group: str | None = None
    seed: int = 0
    loss: str = "squared_error"
    log_target: bool = False

    @classmethod
    def of(cls, estimator: Any, target: str, weight: str | None = None, **more: Any) -> Wanted:
        """By the parameters of an estimator of tables."""
        settings = estimator._settings()
        own = ("max_levels", "dtype", "validation", "split_by", "group", "loss", "log_target")
        named = {name: getattr(settings, name) for name in own}
        kinds: dict[str, Any] = {name: tuple(getattr(estimator, name)) for name in ("categorical", "numeric", "drop")}
        more = {"conventions": Conventions(estimator._missing_words()), **more}
        return cls(target, estimator._task, weight, seed=settings.random_state, **named, **kinds, **more)

    @property
    def roles(self) -> Roles:
        alone = self.split_by is not None and self.split_by in self.drop
        return Roles(self.target, self.weight, self.split_by, self.group, (str(self.split_by),) if alone else ())

    def stream(self, make: Callable[..., Stream]) -> Stream:
        named = named_in(self.roles)
        chosen = None if self.columns is None else [*dict.fromkeys([*self.columns, *named])]
        drop = [name for name in self.drop if name != self.split_by]
        return make(columns=chosen, drop=drop, keep=named, conventions=self.conventions)


class ClusterTable(Store):
    """A table as a store has it, with its rows in their own order, and no file of them.

    Made by ``of_files`` or ``of_partitions``.
    """

    made_for_it = True  # by the very parameters that are fitted: there is nothing to compare

    def __init__(self, wanted: Wanted, stream: Stream, workers: Any, partitions: Sequence[Any], name: str) -> None:
        self.workers, self.partitions, self.stream = workers, partitions, stream
        names = names_of(stream, wanted.roles, wanted.categorical, wanted.numeric)
        self._settle()
        target = Target(wanted.target, wanted.weight, wanted.dtype)
        found = counted_target(stream, target, wanted.task, wanted.conventions, None)
        rule = HoldOut(wanted.validation, wanted.split_by, wanted.group, wanted.seed)
        kinds: dict[str, Any] = {"categorical": wanted.categorical, "numeric": wanted.numeric}
        loss: dict[str, Any] = {"loss": wanted.loss}
        counts = Counts(stream, found, Holding(rule, stream, found), **kinds, **loss, log=wanted.log_target)
        self.starts = spans.starts_of(counts, stream)
        self._count(counts, names, {**kinds, **loss, "log": wanted.log_target})
        rule.check_sides(counts.train, counts.held_out)
        self.encoding = TableEncoding.learn(
            counts.table(), wanted.target, task=found.task, **kinds, max_levels=wanted.max_levels, dtype=wanted.dtype,
            **loss, log_target=wanted.log_target, tallies=counts,
        )  # fmt: skip
        counts.leave_out(self.encoding.classes)
        if counts.others:
            self.starts = spans.starts_of(counts, stream, self.encoding)
        layout = Layout.of(self.encoding, counts.weighted)
        content = {**content_of(self.encoding, counts, rule, layout), "max_levels": wanted.max_levels}
        self.reading = spans.Reading(stream, found, counts.holding, self.encoding)
        content["sha256"] = self._digest(content)
        kinds_of_fields = dict.fromkeys(["numbers", "codes", "y", *(["weight"] if counts.weighted else [])])
        self.file: Any = SimpleNamespace(
            path=Path(name), content=content, kinds=kinds_of_fields, leaf=layout.leaf, close=lambda: None
        )
        self.encoded: list[Any] | None = None
        self.train: Any = RemotePart(self, counts.train, held_out=False)
        self.held_out: Any = RemotePart(self, counts.held_out, held_out=True)

    @classmethod
    def of_files(cls, paths: Any, wanted: Wanted, workers: Any) -> ClusterTable:
        """Of Parquet or Arrow IPC files, which all workers see by these paths."""
        found = {path.absolute(): values for path, values in files_of(paths).items()}
        stream = wanted.stream(lambda **more: Stream(found, **more))
        for file in stream.files:
            if file.kind == "csv":
                raise InputError(
                    f"{file.path} is CSV, whose rows have to be read from the first on: `fullbatch convert` makes a "
                    "store of it, from which a cluster learns; or write it as Parquet."
                )
        return cls(wanted, stream, workers, (), ", ".join(map(str, found)))

    @classmethod
    def of_partitions(cls, frame: Any, wanted: Wanted, workers: Any) -> ClusterTable:
        """Of a Dask DataFrame, whose partitions stay where they are."""
        futures = workers.client.compute(list(frame.to_delayed()))
        facts = workers.each(spans.facts_of, [(one,) for one in futures])
        held = [(one, fact) for one, fact in zip(futures, facts, strict=True) if fact[1]]
        if not held:
            raise TableError("the collection has no row.")
        futures, facts = [list(one) for one in zip(*held, strict=True)]

        def fetch(number: int, names: list[str]) -> Any:
            return workers.each(spans.columns_of_frame, [(futures[number], names)])[0]

        stream = wanted.stream(lambda **more: spans.HeldStream(facts, fetch, **more))
        return cls(wanted, stream, workers, futures, "the Dask DataFrame")

    # How it is learned

    def _data(self, part: Start) -> tuple[Any, ...]:
        return (self.partitions[part.file],) if self.partitions else ()

    def _parts(self, starts: Sequence[Start]) -> list[tuple[Start, Start]]:
        return list(pairwise(starts))

    def _of_workers(self) -> list[Start]:
        """Where the part of each worker begins, and the end; of partitions all of them."""
        if self.partitions:
            return self.starts
        cells = len(self.starts) - 1
        workers = min(cells, max(1, len(self.workers.survey())))
        return [self.starts[i] for i in cuts(cells, workers)]

    def _settle(self) -> None:
        """Have the workers look at the columns that have to be seen."""
        found: list[Any] = []
        if self.stream.open_names():
            workers = 1 if self.partitions else len(self.workers.survey())
            calls = [
                (spans.between(self.stream, *pair), *self._data(pair[0]))
                for pair in self._parts(spans.looks_of(self.stream, 4 * workers))
            ]
            found = self.workers.each(spans.levels_in, calls, [spans.NEED_OF_LEVELS] * len(calls))
        spans.settle_by(self.stream, found)

    def _count(self, whole: Counts, names: Sequence[str], how: dict[str, Any]) -> None:
        """Have the workers count what the columns hold, and add it."""
        calls, needs = [], []
        for start, stop in self._parts(self._of_workers()):
            part = spans.between(self.stream, start, stop)
            counts = Counts(part, whole.target, whole.holding, **how, start=start)
            calls.append((counts, names, *self._data(start)))
            needs.append(spans.need_to_count(whole, stop.row - start.row, len(names)))
        spans.add_counts(whole, self.workers.each(spans.count, calls, needs))

    def _digest(self, content: dict[str, Any]) -> str:
        """What tells this table from another one: what its columns hold, and the sizes of its files."""
        sizes = [file.stamp[0] for file in self.stream.files]
        text = json.dumps([content, sizes], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    # What an estimator asks of a store

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.encoding.dtype)

    @property
    def usual_batch(self) -> int | None:
        return None

    @property
    def drops_units(self) -> bool:
        return False

    def examples(self, part: Any, place: Any = None) -> Examples:
        """The rows of a part, as a fold on the cluster takes them."""
        refuse_device(place)
        by_class: tuple[float, ...] = ()
        if isinstance(part, Reweighted):
            by_class, part = tuple(part.by_class.tolist()), part.part
        like = np.empty((self.n, 0), self.dtype)
        if self.partitions:
            digest = self.content["sha256"]
            rows: Any = spans.HeldRows(self.n, len(self.classes), part.held_out, digest, by_class)
            return Examples(Sharded(self.n, part.m, like, rows, self.workers, self._pieces(part), permuted=False))
        rows = spans.FileRows(self.reading, tuple(self.starts), part.held_out, self.content["sha256"], by_class)
        return Examples(Sharded(self.n, part.m, like, rows, self.workers, permuted=False))

    def _pieces(self, part: RemotePart) -> tuple[Piece, ...]:
        """Where the encoded rows of each partition lie, which are made now if they were not before."""
        import distributed

        client, found = self.workers.client, part.futures
        if not found:
            where = client.who_has(list(self.partitions))
            for start, stop in self._parts(self.starts):
                future = self.partitions[start.file]
                arguments = (self.reading, start, stop, part.held_out, future)
                workers = list(where.get(future.key) or ()) or None
                found.append(
                    client.submit(spans.encoded, *arguments, pure=False, workers=workers, allow_other_workers=True)
                )
            distributed.wait(found)
        pieces, where = [], client.who_has(found)
        for future, (start, stop) in zip(found, self._parts(self.starts), strict=True):
            rows = stop.held_out - start.held_out if part.held_out else stop.train - start.train
            if not where.get(future.key):
                self.workers.result(future, self.reading.need(rows))  # its error, where there is one
            pieces.append(Piece(rows, where[future.key][0], future))
        return tuple(pieces)

    def blocks(self, part: RemotePart) -> Iterator[StoredArrays]:
        """The encoded rows of a part, in their order, as the workers make them."""
        if self.partitions:
            self._pieces(part)
            for future in part.futures:
                yield future.result()
            return
        rows = spans.FileRows(self.reading, tuple(self.starts), part.held_out, "")
        edges = [*range(0, part.m, AT_ONCE), part.m]
        pairs = list(pairwise(edges))
        together = max(1, len(self.workers.survey()))
        for first in range(0, len(pairs), together):
            now = pairs[first : first + together]
            calls, needs = [(rows.within(*pair), *pair) for pair in now], [self.reading.need(AT_ONCE)] * len(now)
            yield from self.workers.each(spans.FileRows.arrays, calls, needs)


class RemotePart:
    """The rows to learn from, or the held-out ones: as ``stored.Part``, for what goes through them once."""

    def __init__(self, table: ClusterTable, m: int, held_out: bool) -> None:
        self.table, self.m, self.held_out = table, m, held_out
        self.futures: list[Any] = []
        self.ahead: dict[str, Forward] = {}

    @property
    def leaf(self) -> int:
        return int(self.table.file.leaf)

    @property
    def kinds(self) -> dict[str, Any]:
        kinds: dict[str, Any] = self.table.file.kinds
        return kinds

    def checksum(self) -> str:
        return str(self.table.content["sha256"])

    def reader(self, name: str) -> Callable[[Where], np.ndarray]:
        """Of "y" or "weight"."""
        forward = Forward(lambda: self.table.reading.targets(self.held_out, self.m))
        return lambda where: getattr(forward(where), name)

    def arrays(self, where: Where = None) -> StoredArrays:
        where = slice(0, self.m) if where is None else where
        return self.ahead.setdefault("blocks", Forward(lambda: self.table.blocks(self)))(where)


class Forward:
    """Rows that come in blocks, by slices that follow one another; for one that goes back they are made anew."""

    def __init__(self, blocks: Callable[[], Iterator[StoredArrays]]) -> None:
        self.blocks = blocks
        self.at = 0
        self.left: list[StoredArrays] = []
        self.coming: Iterator[StoredArrays] = iter(())

    def __call__(self, where: slice) -> StoredArrays:
        if where.start < self.at or not self.at:
            self.at, self.left, self.coming = 0, [], self.blocks()
        self._take(where.start - self.at)
        found = self._take(length(where))
        joined = [None if parts[0] is None else np.concatenate(parts) for parts in zip(*found, strict=True)]
        return StoredArrays(*joined)  # type: ignore[arg-type]

    def _take(self, m: int) -> list[StoredArrays]:
        """The next so many rows."""
        taken: list[StoredArrays] = []
        self.at += m
        while m:
            block = self.left.pop() if self.left else next(self.coming)
            own, rest = ([None if one is None else one[part] for one in block] for part in (slice(m), slice(m, None)))
            taken.append(StoredArrays(*own))  # type: ignore[arg-type]
            m -= len(taken[-1].numbers)
            if len(rest[0]):  # type: ignore[arg-type]
                self.left.append(StoredArrays(*rest))  # type: ignore[arg-type]
        return taken
