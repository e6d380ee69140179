"""A table of which each worker of a cluster reads a part: what runs there, and what the driver makes of the answers.

The parts are cut where as many rows to learn from come before as whole leaves have, so that the statistics of a column
are nodes of the very tree that one process adds, and the driver, which adds them in order, has its bits. What decides
which rows are held out is handed on from part to part as ``Start.draw``, a few numbers for each class.
"""

from __future__ import annotations

import copy
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fullbatch.errors import TableError
from fullbatch.fold.tree import MOST_EXAMPLES, Tree
from fullbatch.sources.columns import Examples
from fullbatch.sources.store_columns import examples_of
from fullbatch.sources.stored import StoredArrays
from fullbatch.tables.bins import MOST_ROWS
from fullbatch.tables.counting import Counts, Holding, Start, TargetCounts, parts_of
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.frames import arrow_table
from fullbatch.tables.parquet import _left_out, _parquet_errors
from fullbatch.tables.raw import MOST_LEVELS, is_text
from fullbatch.tables.row_numbers import rows_from
from fullbatch.tables.statistics import LEAF, Folding
from fullbatch.tables.stream import ROWS, Opened, Stream, stamp_of

UNIT = max(LEAF, MOST_EXAMPLES)  # Rows to learn from of a part are a multiple: whole leaves of any kind.
MOST_STARTS = 4096
ALL = 2**62  # rows of a file, as many as it has
NEED_OF_LEVELS = f"it reads {ROWS:,} rows at a time, and holds up to {MOST_LEVELS:,} different texts of each column"


# --- What a part is read from ---------------------------------------------------------------------------------------


def between(stream: Stream, start: Start, stop: Start) -> Stream:
    """The same of the rows from ``start`` on and up to ``stop``, which two workers may read side by side."""
    found = copy.copy(stream)
    found.files = []
    for i, file in enumerate(stream.files[start.file : stop.file + 1], start.file):
        low, high = start.offset if i == start.file else 0, stop.offset if i == stop.file else ALL
        if low < high:
            found.files.append(file._replace(rows=(low, high)))
    found.rows = [None for _ in found.files]
    found.builders = {name: copy.copy(builder) for name, builder in stream.builders.items()}
    for builder in found.builders.values():
        builder.m = start.row
    found.present = set()
    return found


def here(stream: Stream, data: Sequence[Any] = ()) -> Stream:
    """The files as this worker sees them; or the partitions, which it holds. TableError where they are others."""
    if isinstance(stream, HeldStream):
        stream.held = [arrow_table(one) for one in data]
        return stream
    for i, file in enumerate(stream.files):
        try:
            stamp = stamp_of(file.path)
        except TableError as error:
            raise TableError(
                f"{error} Every worker reads the table by this path: put it where all of them see it, as on a shared "
                "file system, or copy it to the same path on each."
            ) from None
        if stamp[0] != file.stamp[0]:
            raise TableError(
                f"{file.path} has {stamp[0]:,} bytes on a worker and {file.stamp[0]:,} here; copy the same one there."
            )
        stream.files[i] = file._replace(stamp=stamp)
    return stream


class HeldStream(Stream):
    """``Stream`` of partitions that lie on workers, in place of files.

    facts : what ``facts_of`` said of each
    fetch : on the driver, gives columns of a partition, by its number and their names; on a worker it has them
    """

    def __init__(self, facts: Sequence[tuple[pa.Schema, int]], fetch: Any = None, **more: Any) -> None:
        self.facts, self.fetch = facts, fetch
        self.held: list[pa.Table] = []
        super().__init__({}, **more)
        self.rows = [rows for _, rows in facts]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "fetch": None, "held": [], "facts": ()}

    def _looked_at(self, files: Any, wanted: Any) -> Iterator[tuple[Opened, dict[str, str]]]:
        first = self.facts[0][0]
        for i, (schema, _) in enumerate(self.facts):
            _check_like(i, schema, first)
            types = dict(zip(schema.names, schema.types, strict=True))
            opened = Opened(Path(f"partition {i}"), "held", (i, 0), types, set(), [])
            yield opened, _left_out(schema, {*wanted.keep, *(wanted.columns or ())})

    def _batches(self, names: Sequence[str]) -> Iterator[dict[str, pa.Array]]:
        names = list(names or self.names[:1])
        for at, file in enumerate(self.files):
            table = self.held[at].select(names) if self.held else self.fetch(file.stamp[0], names)
            for batch in table.combine_chunks().to_batches(ROWS):
                if batch.num_rows:
                    yield dict(zip(batch.schema.names, batch.columns, strict=True))


def facts_of(frame: Any) -> tuple[pa.Schema, int]:
    """The columns of a partition, and its rows."""
    table = arrow_table(frame)
    return table.schema.remove_metadata(), table.num_rows


def columns_of_frame(frame: Any, names: Sequence[str]) -> pa.Table:
    """Some columns of a partition."""
    return arrow_table(frame).select(list(names))


def _check_like(number: int, schema: pa.Schema, first: pa.Schema) -> None:
    """TableError for a partition of other columns, or of other types, than the first one's."""
    if schema.names != first.names:
        raise TableError(
            f"partition {number} has the columns {schema.names} and partition 0 {first.names}; all need the same."
        )
    for name, type_, other in zip(schema.names, schema.types, first.types, strict=True):
        if _plain(type_) != _plain(other) and not pa.types.is_null(type_) and not pa.types.is_null(other):
            raise TableError(f"partition {number} has {type_} in column {name!r} and partition 0 {other}; see dtypes.")


def _plain(type_: pa.DataType) -> Any:
    type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
    return "text" if is_text(type_) else type_


# --- What the columns are -------------------------------------------------------------------------------------------


def looks_of(stream: Stream, parts: int) -> list[Start]:
    """Where files, or partitions, begin, and so many parts of large Parquet files; and the end."""
    from pyarrow import parquet

    found = []
    for i, file in enumerate(stream.files):
        found.append(Start(file=i))
        if file.kind == "parquet":
            with _parquet_errors(file.path), parquet.ParquetFile(file.path, pre_buffer=False) as reader:
                groups = [reader.metadata.row_group(j).num_rows for j in range(reader.metadata.num_row_groups)]
            upto = [0, *accumulate(groups)]
            every = max(1, len(groups) // parts)
            found += [Start(file=i, offset=row) for row in upto[every:-1:every]]
    return [*found, Start(file=len(stream.files) - 1, offset=ALL)]


def levels_in(stream: Stream, *data: Any) -> dict[str, list[Any]]:
    """The different values of the columns that have to be seen before it is known what they are; run by a worker."""
    stream, names = here(stream, data), stream.open_names()
    for batch in stream._batches(names) if names else ():
        stream.see({name: array for name, array in batch.items() if name in names})
    return {name: list(stream.builders[name].codes or ()) for name in names}


def settle_by(stream: Stream, found: Sequence[Mapping[str, list[Any]]]) -> None:
    """Conclude what the columns are, from what ``levels_in`` said of each part."""
    for levels in found:
        for name, own in levels.items():
            values = pa.array(own, pa.string() if not own or isinstance(own[0], str) else None)
            stream.see({name: pa.DictionaryArray.from_arrays(pa.array(np.arange(len(own), dtype=np.int32)), values)})
            if len(stream.builders[name].codes or ()) >= MOST_LEVELS:
                raise TableError(
                    f"column {name!r} has {MOST_LEVELS:,} different texts or more, which a cluster does not count: "
                    "leave it out (drop), or convert the table to a store first."
                )
    stream.conclude()


# --- Where the parts begin ------------------------------------------------------------------------------------------


def starts_of(counts: Counts, stream: Stream, known: TableEncoding | None = None) -> list[Start]:
    """Where parts may begin, and the end: at each so many rows to learn from; of partitions, where these do.

    known : an encoding whose classes alone are scored
    """
    holding, target, files = counts.holding, counts.target, [0, *accumulate(map(int, stream.rows))]  # type: ignore[arg-type]
    held = isinstance(stream, HeldStream)
    step = UNIT
    while target.kept > step * MOST_STARTS:
        step *= 2
    draw, found = holding.draw(), [Start(draw=holding.draw())]
    at, own = found[0], 0  # where the piece begins; and of a partition, the rows to learn from that it has so far
    for piece, table, rows, _ in parts_of(stream, holding.names, target):
        if held and at.row in files and at.row:
            at, own = at._replace(leaf=at.leaf + -(-own // LEAF), file=bisect_right(files, at.row) - 1, offset=0), 0
            found.append(at._replace(draw=copy.deepcopy(draw)))
        before = copy.deepcopy(draw)
        out = holding.begin(draw)(table, rows)
        scored = out if known is None else out & known.known_classes(table)[0]
        train = np.flatnonzero(~out)
        for number in () if held else range(-(-max(at.train, 1) // step) * step, at.train + len(train), step):
            j = int(train[number - at.train])
            mid = copy.deepcopy(before)
            holding.begin(mid)(table.select(np.arange(j)), rows[:j])
            row, file = int(rows[j]), bisect_right(files, int(rows[j])) - 1
            lost = at.held_out + int(scored[:j].sum())
            found.append(Start(row, number, lost, file, row - files[file], number // LEAF, mid))
        at = at._replace(row=at.row + piece.m, train=at.train + len(train), held_out=at.held_out + int(scored.sum()))
        own += len(train)
    last = len(stream.files) - 1
    return [*found, at._replace(file=last, offset=files[-1] - files[last], draw=None)]


# --- What the columns hold ------------------------------------------------------------------------------------------


def count(counts: Counts, names: Sequence[str], *data: Any) -> Counts:
    """Counts of a part, whose columns of numbers are nodes of the tree; run by a worker."""
    assert isinstance(counts.pieces, Stream)
    here(counts.pieces, data)
    # Bins are made beside the numbers of small tables alone, whose values the driver then samples itself.
    few = counts.target.kept <= MOST_ROWS
    counts.sampled = _Values() if few else _Nothing()
    counts.read_part(names)
    counts.folded = {name: one.nodes() for name, one in counts.folded.items() if isinstance(one, Folding)}  # type: ignore[misc]
    counts.pieces.files = []
    return counts


def need_to_count(counts: Counts, rows: int, columns: int) -> str:
    """What ``count`` takes of a worker's memory, for whom it is short."""
    held = rows if counts.target.kept <= MOST_ROWS else min(rows, ROWS)
    return (
        f"to count {rows:,} rows it holds {held:,} of them at a time, about {8 * held * columns:,} bytes without their "
        "texts, and the different values of each column"
    )


class _Values(dict[str, Any]):
    """In place of samples: all values, in their order."""

    def setdefault(self, name: str, default: Any = None) -> Any:
        return super().setdefault(name, _Kept())


class _Nothing(dict[str, Any]):
    """In place of samples: none."""

    def setdefault(self, name: str, default: Any = None) -> Any:
        return self

    def add(self, values: np.ndarray) -> None:
        pass


class _Kept(list[np.ndarray]):
    def add(self, values: np.ndarray) -> None:
        self.append(values.copy())


def add_counts(whole: Counts, parts: Sequence[Counts]) -> None:
    """Add what ``count`` said of each part, in their order."""
    from fullbatch.tables.bins import Sample

    stream = whole.pieces
    assert isinstance(stream, Stream)
    trees: dict[str, Tree] = {}
    for part in parts:
        whole.train, whole.held_out = whole.train + part.train, whole.held_out + part.held_out
        whole.held_of_class.update(part.held_of_class)
        for name, nodes in part.folded.items():
            trees.setdefault(name, Tree()).add(*nodes)  # type: ignore[misc]
        for name, counted in part.counted.items():
            whole.counted[name] = whole.counted.get(name, 0) + counted
        for name, numbers in part.numbers_counted.items():
            whole.numbers_counted.setdefault(name, type(numbers)()).update(numbers)
        for key, counted in part.parts_counted.items():
            whole.parts_counted[key] = whole.parts_counted.get(key, 0) + counted
        for name, shown in part.shown.items():
            whole.shown.setdefault(name, []).extend(shown)
        for name, kept in part.sampled.items():
            for values in kept:  # type: ignore[attr-defined]
                whole.sampled.setdefault(name, Sample()).add(values)
        assert isinstance(part.pieces, Stream)
        stream.present |= part.pieces.present
        for name, builder in part.pieces.builders.items():
            own = stream.builders[name]
            own.integer, own.time = own.integer and builder.integer, builder.time or own.time
    whole.folded = {name: tree.total() for name, tree in trees.items()}


# --- Rows that are encoded ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """How the rows of a table are read and encoded, whichever of them."""

    stream: Stream
    target: TargetCounts
    holding: Holding
    encoding: TableEncoding

    def arrays(self, start: Start, stop: Start, held_out: bool, data: Sequence[Any] = ()) -> StoredArrays:
        """The rows to learn from, or the held-out ones, between two starts."""
        encoding = self.encoding
        m = stop.held_out - start.held_out if held_out else stop.train - start.train
        k = encoding.n - sum(category.width for category in encoding.categories)
        found = StoredArrays(
            np.zeros((m, k), encoding.dtype),
            np.empty((m, len(encoding.categories)), np.min_scalar_type(encoding.n)),
            np.empty(m, np.min_scalar_type(len(encoding.classes)) if encoding.classes else encoding.dtype),
            np.empty(m, encoding.dtype) if self.target.of.weight else None,
        )
        done = 0
        stream = here(between(self.stream, start, stop), data)
        names = [*encoding.feature_names, *self.holding.names]
        holds = self.holding.begin(copy.deepcopy(start.draw))
        for _, table, rows, weight in parts_of(stream, names, self.target, start.row):
            mine = holds(table, rows) == held_out
            if held_out:
                mine &= encoding.known_classes(table)[0]
            chosen = np.flatnonzero(mine)
            stop_at = done + len(chosen)
            if stop_at > m:
                break
            with rows_from(0, rows[chosen]):
                if len(chosen):
                    table = table.select(chosen)
                    encoded = encoding.encode(table, found.numbers[done:stop_at])
                    found.codes[done:stop_at] = encoded.ones  # type: ignore[index]
                    found.y[done:stop_at] = encoding.encode_target(table)
                    if weight is not None and found.weight is not None:
                        found.weight[done:stop_at] = weight[chosen]
            done = stop_at
        if done != m:
            raise TableError(f"the table has changed while it was read: {m:,} rows were counted, then {done:,}.")
        return found

    def need(self, m: int) -> str:
        """What so many rows take of a worker's memory, for whom it is short."""
        encoding, wide = self.encoding, np.dtype(self.encoding.dtype).itemsize
        numbers = encoding.n - sum(category.width for category in encoding.categories)
        codes = len(encoding.categories) * np.min_scalar_type(encoding.n).itemsize
        each = wide * (numbers + 1 + bool(self.target.of.weight)) + codes
        return f"its {m:,} rows take up to {m * each:,} bytes encoded, beside {ROWS:,} as they are read"

    def targets(self, held_out: bool, stop: int) -> Iterator[StoredArrays]:
        """What the rows to learn from, or the held-out ones, have as target and weight; on the driver."""
        holds = self.holding.begin()
        for _, table, rows, weight in parts_of(self.stream, self.holding.names, self.target):
            mine = holds(table, rows) == held_out
            if held_out:
                mine &= self.encoding.known_classes(table)[0]
            chosen = np.flatnonzero(mine)
            if len(chosen):
                y = self.encoding.encode_target(table.select(chosen))
                yield StoredArrays(np.empty((len(y), 0)), None, y, None if weight is None else weight[chosen])


def weighed(found: StoredArrays, by_class: tuple[float, ...], held_out: bool) -> StoredArrays:
    """Rows that weigh by their class too, of the types that such weights have in one process: see ``Reweighted``."""
    if not by_class:
        return found
    own, dtype = found.weight, found.numbers.dtype
    weight = np.array(by_class, dtype if held_out or own is not None else np.float64)[found.y]
    return found._replace(weight=weight if own is None else weight * own)


@dataclass(frozen=True)
class FileRows:
    """How a worker comes by the examples of a shard: it reads the part of the files that has them, and encodes it."""

    reading: Reading
    starts: tuple[Start, ...]
    held_out: bool
    digest: str
    by_class: tuple[float, ...] = ()

    def _around(self, start: int, stop: int) -> tuple[int, int]:
        numbers = [one.held_out if self.held_out else one.train for one in self.starts]
        return bisect_right(numbers, start) - 1, bisect_left(numbers, stop)

    def within(self, start: int, stop: int) -> FileRows:
        """The same with no more than these rows take."""
        low, high = self._around(start, stop)
        return replace(self, starts=(self.starts[low], self.starts[high]))

    def arrays(self, start: int, stop: int) -> StoredArrays:
        low, high = self._around(start, stop)
        first, last = self.starts[low], self.starts[high]
        found = self.reading.arrays(first, last, self.held_out)
        skipped = start - (first.held_out if self.held_out else first.train)
        rows = slice(skipped, skipped + stop - start)
        return weighed(
            StoredArrays(*(None if one is None else one[rows] for one in found)),  # type: ignore[arg-type]
            self.by_class,
            self.held_out,
        )

    def examples(self, start: int, stop: int, *data: Any) -> Examples:
        encoding = self.reading.encoding
        return examples_of(self.arrays(start, stop), encoding.n, len(encoding.classes))

    def checksum(self) -> str:
        return self.digest


def encoded(reading: Reading, start: Start, stop: Start, held_out: bool, *data: Any) -> StoredArrays:
    """A partition's rows to learn from, or its held-out ones; run by a worker, which keeps them."""
    return reading.arrays(start, stop, held_out, data)


@dataclass(frozen=True)
class HeldRows:
    """How a worker makes examples of the partitions that it holds, encoded."""

    n: int
    classes: int
    held_out: bool
    digest: str
    by_class: tuple[float, ...] = ()

    def examples(self, start: int, stop: int, *data: Any) -> Examples:
        from fullbatch.sources.pieces import Chained

        parts = [examples_of(weighed(one, self.by_class, self.held_out), self.n, self.classes) for one in data]
        weights = [part.weight for part in parts if part.weight is not None]
        X, Y = Chained([part.X for part in parts]), Chained([part.Y for part in parts])
        return Examples(X, Y, np.concatenate(weights) if weights else None)

    def checksum(self) -> str:
        return self.digest
