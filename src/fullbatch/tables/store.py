"""A raw table -> a store: an encoded table on the disk, its rows uniformly permuted (``sources/store_file.py``).

The table is read twice, in pieces; columns of texts, and the target, once before, since what they are is known only at
their end. The first pass counts: which rows are held out, and what the others hold. The second encodes, and scatters
the rows to buckets, files that are small enough to be permuted in memory one after another. Bucket and place follow
from the seed and the number of the row alone, so the same rows give the same file however they are stored.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa

from fullbatch.errors import InputError, StoreError, TableError
from fullbatch.fold.tree import leaf_size
from fullbatch.machine.safe_output import check_output, only_writer, replacing
from fullbatch.sources.store_file import CHECKSUM, FIELDS, FORMAT_VERSION, KEY, sealed
from fullbatch.tables.counting import Counts, Holding, Target, TargetCounts
from fullbatch.tables.dates import DateFormats
from fullbatch.tables.encoding import TableEncoding, decide_task, input_names
from fullbatch.tables.fit import said_of_rows
from fullbatch.tables.frames import as_table, paths_of
from fullbatch.tables.held_rows import HeldRows
from fullbatch.tables.inputs import files_of
from fullbatch.tables.raw import USUAL, Conventions, MissingWords, RawTable
from fullbatch.tables.reading import check_formats
from fullbatch.tables.record import said_of_files
from fullbatch.tables.report import column_report, with_bins
from fullbatch.tables.roles import Roles
from fullbatch.tables.splits import HoldOut, hashed
from fullbatch.tables.stream import InMemory, Pieces, Stream
from fullbatch.version import __version__

BUCKET = 2**26  # bytes of a bucket, at most
USUAL_BUCKET = 3 * 2**24  # and what it has on average, so that hardly one is larger
MOST_BUCKETS = 256  # that are open at a time
AT_ONCE = 2**17  # bytes of rows that are taken from a bucket at a time
WINDOW = 2**27  # bytes of a window of leaves, which mini-batches mix

Tell = Callable[[str, int, int], None]  # of what is done, how many rows of how many


@dataclass(frozen=True)
class Planned:
    """What a conversion is going to write: rows to learn from, held-out rows, bytes; and the bytes free on the disk."""

    rows: int
    held_out: int
    bytes: int
    free: int


def convert(
    data: Any,
    out: str | os.PathLike[str],
    target: str,
    *,
    task: str | None = None,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    max_levels: int = 1024,
    dtype: str = "float32",
    weight: str | None = None,
    validation: Any = 0.1,
    split_by: str | None = None,
    group: str | None = None,
    seed: int = 0,
    loss: str = "squared_error",
    log_target: bool = False,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    missing: MissingWords | Collection[str] = USUAL,
    decimal: str = ".",
    date_format: Any = (),
    planned: Callable[[Planned], None] | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Write a raw table as a store, with its rows in an order drawn by ``seed``.

    Parameters
    ----------
    data : a path, several, or a table as ``TableClassifier.fit`` takes it
        Files are read in pieces and need not fit into memory: Parquet and Arrow IPC three times, CSV once more, and
        columns that decide what is held out some times before.
    out : str or path
        The store's file. One that is there is replaced when the new one is whole.
    target : str
        The column to predict. Rows that lack it are left out.
    task, categorical, numeric, max_levels, dtype
        As ``TableClassifier`` has them.
    weight : str, optional
        A column of weights, which is no input; rows of weight 0 are left out.
    validation : float, or path or paths
        The share of the rows that is held out: of each class one of every 1 / share rows. Or files of rows to hold out
        instead, which have the same columns.
    split_by, group : str, optional
        Hold out the last rows by this column, or whole groups of it, as ``TableClassifier`` does; ``split_by`` may be
        in ``drop``.
    seed : int
        Of the order and of what is held out.
    loss, log_target
        What a regression will be trained with, as ``TableRegressor`` has them: the target is scaled for that. All
        losses but "poisson" take the same.
    columns, drop, missing, decimal, date_format
        As ``read_table`` has them.
    planned : callable, optional
        Called with what is going to be written, before it is.
    tell : callable, optional
        Called with ("count", "encode" or "write", rows done, rows in all; 0 if that is not known yet).

    Returns
    -------
    dict
        What the file says of itself.

    Raises
    ------
    TableError
        As ``read_table`` and ``TableClassifier.fit``, and for a file that changes while it is read.
    InputError
        For a path that cannot be written, and where the store will not fit on the disk; nothing is left behind.

    Examples
    --------
    See ``fullbatch.open_store``.
    """
    check_output(out, "the store")
    found = learn(
        data, target, task=task, categorical=categorical, numeric=numeric, max_levels=max_levels, dtype=dtype,
        weight=weight, validation=validation, split_by=split_by, group=group, seed=seed, loss=loss,
        log_target=log_target, columns=columns, drop=drop, missing=missing, decimal=decimal, date_format=date_format,
        tell=tell,
    )  # fmt: skip
    _check_space(Path(out), found, planned)
    _build(out, found, tell)
    return found.content


class Learned(NamedTuple):
    """What the first passes over a table found: all that the second one needs.

    names : the columns that are read, the target too;  content : what a store of it says of itself
    own : the held-out rows, where they are a table of their own
    """

    names: list[str]
    encoding: TableEncoding
    counts: Counts
    layout: Layout
    content: dict[str, Any]
    own: HeldRows | None = None


def learn(
    data: Any,
    target: str,
    *,
    task: str | None = None,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    max_levels: int = 1024,
    dtype: str = "float32",
    weight: str | None = None,
    validation: Any = 0.1,
    split_by: str | None = None,
    group: str | None = None,
    seed: int = 0,
    loss: str = "squared_error",
    log_target: bool = False,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    missing: MissingWords | Collection[str] = USUAL,
    decimal: str = ".",
    date_format: Any = (),
    tell: Tell | None = None,
) -> Learned:
    """The first passes, with the parameters of ``convert``; nothing is written."""
    own_files = paths_of(validation)
    if own_files and (column := split_by or group):
        raise InputError(f"the rows that are held out are given, so column {column!r} has nothing to decide.")
    rule = HoldOut(0.0 if own_files else validation, split_by, group, seed)
    if dtype not in ("float32", "float64"):
        raise InputError(f"dtype must be 'float32' or 'float64'; got {dtype!r}.")
    conventions = Conventions(MissingWords.given(missing), decimal, DateFormats.of(date_format))
    alone = split_by is not None and (split_by in drop or (columns is not None and split_by not in columns))
    roles = Roles(target, weight, split_by, group, (str(split_by),) if alone else ())
    pieces = _pieces_of(data, named_in(roles), columns, [name for name in drop if name != split_by], conventions)
    kinds: dict[str, Any] = {"categorical": categorical, "numeric": numeric}
    names = names_of(pieces, roles, **kinds)
    wanted = Target(target, weight, dtype)
    pieces.settle(wanted.names)
    found = counted_target(pieces, wanted, task, conventions, tell)
    counts = Counts(pieces, found, Holding(rule, pieces, found), **kinds, loss=loss, log=log_target)
    counts.read(names, tell)
    rule.check_sides(counts.train, counts.held_out)
    encoding = TableEncoding.learn(
        counts.table(), target, task=found.task, **kinds, max_levels=max_levels, dtype=dtype, loss=loss,
        log_target=log_target, tallies=counts,
    )  # fmt: skip
    counts.leave_out(encoding.classes)
    own = _own(own_files, encoding, counts) if own_files else None
    layout = Layout.of(encoding, counts.weighted)
    content = {**content_of(encoding, counts, rule, layout, own), "max_levels": max_levels}
    return Learned(names, encoding, counts, layout, content, own)


def _own(paths: Sequence[str], encoding: TableEncoding, counts: Counts) -> HeldRows:
    """The rows of these files as the held-out ones of the counts."""
    own = HeldRows(encoding, paths, counts.target.of.weight, counts.loss)
    with own:
        own.count()
    counts.held_out, counts.others = own.known, own.others
    return own


def _build(out: str | os.PathLike[str], found: Learned, tell: Tell | None) -> None:
    """The second pass, and the file."""
    with only_writer(out, "the store"), replacing(out, "the store") as file, ExitStack() as stack:
        folder = _folder(out) / f".{Path(os.path.realpath(out)).name[:100]}.buckets"
        shutil.rmtree(folder, ignore_errors=True)  # what a killed conversion left
        folder.mkdir()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        buckets = Buckets(folder, found.layout, found.counts, found.content["seed"])
        stack.callback(buckets.close)
        _scatter(found, buckets, tell)
        _write(file, found, buckets, tell)


def named_in(roles: Roles) -> list[str]:
    """The columns with a part of their own."""
    return [name for name in (roles.target, roles.weight, roles.group, roles.split_by) if name is not None]


def _folder(out: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(out)).parent


def _pieces_of(
    data: Any, keep: Sequence[str], columns: Sequence[str] | None, drop: Sequence[str], conventions: Conventions
) -> Pieces:
    """What there is to read in pieces."""
    paths = paths_of(data)
    chosen = None if columns is None else [*dict.fromkeys([*columns, *keep])]
    if not paths:
        return InMemory(as_table(data, columns=chosen, conventions=conventions))
    return Stream(files_of(paths), columns=chosen, drop=drop, keep=keep, conventions=conventions)


def names_of(pieces: Pieces, roles: Roles, categorical: Sequence[str], numeric: Sequence[str]) -> list[str]:
    """The inputs and the target; the errors that need no rows are raised before any is read."""
    whole = RawTable(pieces.columns, 0, pieces.left_out)
    whole.require(named_in(roles))
    table = roles.features(whole)
    input_names(table, roles.target, categorical, numeric)
    pieces.left_out |= {name: why for name, why in table.left_out.items() if name in pieces.names}
    return list(table.names)


def counted_target(
    pieces: Pieces, wanted: Target, task: str | None, conventions: Conventions, tell: Tell | None
) -> TargetCounts:
    """The task, and how many rows can be learned from, of a table of which is settled what its columns are."""
    names = wanted.names
    check_formats(RawTable(pieces.columns, 0, pieces.left_out), conventions.dates)
    found = TargetCounts(wanted)
    for piece in pieces.pieces(names):
        found.add(piece)
        if tell is not None:
            tell("count", found.m, 0)
    if found.kept < 2:
        reason = said_of_rows(found.left_out, found.m)
        raise TableError(
            f"{'one row' if found.kept else 'no row'} is left to learn from, and two at least are needed"
            f"{f': {reason}' if reason else ''}; target {wanted.name!r}."
        )
    found.column = found.representative(pieces.columns[wanted.name])
    found.task = decide_task(wanted.name, found.column, task)[0]
    return found


# --- What is written ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How a row lies in a bucket, and how many make a leaf and a window.

    record : NumPy's type of a row, packed
    """

    record: np.dtype
    leaf: int
    window: int

    @classmethod
    def of(cls, encoding: TableEncoding, weighted: bool) -> Layout:
        number = np.dtype(encoding.dtype)
        k = encoding.n - sum(category.width for category in encoding.categories)
        fields: list[Any] = [("numbers", number, (k,))]
        if encoding.categories:
            fields.append(("codes", np.min_scalar_type(encoding.n), (len(encoding.categories),)))
        fields.append(("y", np.min_scalar_type(len(encoding.classes) - 1) if encoding.classes else number))
        if weighted:
            fields.append(("weight", number))
        record, leaf = np.dtype(fields), leaf_size(encoding.n)
        return cls(record, leaf, max(1, WINDOW // (leaf * record.itemsize)))

    def schema(self, content: dict[str, Any]) -> pa.Schema:
        fields = []
        for name in FIELDS:
            if name in (self.record.names or ()):
                type_ = self.record[name]
                base = pa.from_numpy_dtype(type_.base)
                fields.append(pa.field(name, pa.list_(base, type_.shape[0]) if type_.shape else base, nullable=False))
        return pa.schema(fields, metadata={KEY: sealed(content)})


def content_of(
    encoding: TableEncoding, counts: Counts, rule: HoldOut, layout: Layout, own: HeldRows | None = None
) -> dict[str, Any]:
    """What the store says of itself: nothing of the files, so that the same rows in other files give the same store."""
    described, arrays = encoding.to_dict()
    classes = {label: counts.of_class(label) for label in encoding.classes}
    more = {
        "weight": counts.target.of.weight, "split_by": rule.by, "group": rule.group, "not_scored": counts.others,
        "held_out_by": said_of_files(own.paths) if own else counts.holding.how if counts.holding.names else None,
        "held_out_of": None if own is None else {"rows": own.m, "left_out": own.left_out},
        "loss": "poisson" if counts.loss == "poisson" else None, "log_target": counts.log,
    }  # fmt: skip
    return {
        **{name: value for name, value in more.items() if value},
        "format_version": FORMAT_VERSION,
        "fullbatch": __version__,
        "encoding": described,
        "encoding_arrays": {name: array.tolist() for name, array in arrays.items()},
        "features": encoding.n,
        "seed": rule.seed,
        "validation": rule.share,
        "rows": {"train": counts.train, "held_out": counts.held_out},
        "leaf": layout.leaf,
        "window": layout.window,
        "left_out": counts.target.left_out,
        "classes": [[label, count] for label, count in classes.items()],
        "columns": _described(counts, encoding),
    }


def _described(counts: Counts, encoding: TableEncoding) -> list[dict[str, Any]]:
    """How each column was understood, as ``TableReport`` has it, of the rows to learn from."""
    told = []
    for name, column in counts.table().columns.items():
        if name == encoding.target:
            values = f"{len(encoding.classes)} classes" if encoding.classes else "numbers"
            why = "classification" if encoding.classes else "regression"
            told.append({"name": name, "kind": "target", "why": why, "values": values, "missing": 0, "examples": []})
            continue
        forced = "--categorical" if name in counts.categorical else "--numeric" if name in counts.numeric else None
        report = column_report(name, column, counts.statistics(name), forced, None, leveled=name in encoding.leveled)
        report = with_bins(report) if name in encoding.binned else report
        told.append({**vars(report), "examples": list(report.examples)})
    for name, why in counts.pieces.left_out.items():
        told.append({"name": name, "kind": "left out", "why": why, "values": "", "missing": 0, "examples": []})
    return told


def encoding_of(content: dict[str, Any]) -> TableEncoding:
    """The encoding that a store's content holds. StoreError where it does not fit."""
    arrays = {name: np.array(values, np.float64) for name, values in content["encoding_arrays"].items()}
    try:
        return TableEncoding.from_dict(content["encoding"], arrays)
    except ValueError as error:
        raise StoreError(f"the store's encoding is damaged: {error}") from None


def _check_space(out: Path, found: Learned, planned: Callable[[Planned], None] | None) -> None:
    counts, layout = found.counts, found.layout
    size = (counts.train + counts.held_out) * layout.record.itemsize
    plan = Planned(counts.train, counts.held_out, size, shutil.disk_usage(_folder(out)).free)
    if planned is not None:
        planned(plan)
    needed = size + min(size, BUCKET)  # A bucket is deleted when the leaves of its rows are written.
    if needed > plan.free:
        raise InputError(
            f"the store {out} needs {needed:,} bytes of disk while it is written, and {plan.free:,} are free "
            f"in {_folder(out)}; free some, or write it elsewhere."
        )


# --- The second pass ------------------------------------------------------------------------------------------------


def _scatter(found: Learned, buckets: Buckets, tell: Tell | None) -> None:
    """Encode all rows, those to learn from into buckets by their number, the held-out ones in their order."""
    done, counts, buffer = 0, found.counts, Buffer(found.layout.record)
    for table, held_out, rows, weight in kept_parts(found.names, found.encoding, counts):
        buckets.add(_records(found.encoding, table, weight, buffer), rows, held_out)
        done = int(rows[-1]) + 1
        if tell is not None:
            tell("encode", done, counts.target.kept)
    for table, weight in held_parts(found):
        buckets.hold(_records(found.encoding, table, weight, buffer))


def held_parts(found: Learned) -> Iterator[tuple[RawTable, np.ndarray | None]]:
    """The held-out rows that are a table of their own, piece by piece, and their weights."""
    if found.own is not None:
        with found.own as own:
            yield from own.tables()


def kept_parts(
    names: Sequence[str], encoding: TableEncoding, counts: Counts
) -> Iterator[tuple[RawTable, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Pieces with these columns, without rows of classes that are not known: of each row whether it is held out, its
    number among all that count, and its weight.

    TableError where there are more rows than there were, or fewer.
    """
    done = 0
    for _, table, _, held_out, weight in counts.parts_of(names):
        rows = np.arange(done, done + table.m)
        done += table.m
        if counts.others and held_out.any():
            known = np.flatnonzero(encoding.known_classes(table)[0])
            table, held_out, rows = table.select(known), held_out[known], rows[known]
            weight = None if weight is None else weight[known]
        if table.m:
            yield table, held_out, rows, weight
    if done != counts.target.kept:
        raise TableError(f"the table has changed while it was read: {counts.target.kept:,} rows, then {done:,}.")


class Buffer:
    """Memory for rows that is used again and again: new one is zeroed by the system, which took a fifth of all time."""

    def __init__(self, record: np.dtype) -> None:
        self.records = np.zeros(0, record)

    def of(self, m: int) -> np.ndarray:
        """So many records, good until the next are asked for. What is in them is old, or zero."""
        if len(self.records) < m:
            self.records = np.zeros(m + m // 8, self.records.dtype)  # Most that follow have about as many.
        return self.records[:m]


def _records(encoding: TableEncoding, table: RawTable, weight: np.ndarray | None, buffer: Buffer) -> np.ndarray:
    """The rows as they lie in a bucket. A number of no column, 0 beside categories alone, is left as it is."""
    records = buffer.of(table.m)
    encoded = encoding.encode(table, records["numbers"])
    if encoding.categories:
        records["codes"] = encoded.ones
    records["y"] = encoding.encode_target(table)
    if weight is not None:
        records["weight"] = weight
    return records


class Buckets:
    """Files of rows, each small enough to be permuted in memory; and those of held-out rows, in order.

    They are deleted as they are read, so that on the disk there is no more than the store's size and one bucket.
    """

    def __init__(self, folder: Path, layout: Layout, counts: Counts, seed: int) -> None:
        self.folder, self.layout, self.seed = folder, layout, seed
        total = counts.train * layout.record.itemsize
        self.files = [_file(folder, f"b{i}") for i in range(min(-(-total // USUAL_BUCKET), MOST_BUCKETS))]
        self.held: list[Path] = []
        self.held_file: IO[bytes] | None = None
        self.held_bytes = 0
        self.taken, self.whole = Buffer(layout.record), Buffer(layout.record)

    def close(self) -> None:
        for file in [*self.files, *([self.held_file] if self.held_file else [])]:
            file.close()

    def add(self, records: np.ndarray, rows: np.ndarray, held_out: np.ndarray) -> None:
        """Rows with their numbers, and which of them are held out."""
        if not held_out.any():
            self._scatter(self.files, records, rows, self.seed + 2**32)
            return
        self._scatter(self.files, records, rows, self.seed + 2**32, np.flatnonzero(~held_out))
        self.hold(self._take(records, np.flatnonzero(held_out)))

    def hold(self, records: np.ndarray) -> None:
        """Held-out rows, in their order."""
        if self.held_file is None or self.held_bytes > USUAL_BUCKET:
            if self.held_file is not None:
                self.held_file.close()
            self.held_file, self.held_bytes = _file(self.folder, f"h{len(self.held)}"), 0
            self.held.append(Path(self.held_file.name))
        _put(self.held_file, records)
        self.held_bytes += records.nbytes

    def train(self) -> Iterator[Ordered]:
        """The rows to learn from, permuted."""
        for file in self.files:
            file.close()
        for i, file in enumerate(self.files):
            yield from self._permuted(Path(file.name), self.seed + (2 + i) * 2**32)

    def _permuted(self, path: Path, seed: int) -> Iterator[Ordered]:
        """The rows of a bucket in the order of the hashes of their places; of a larger one, bucket by bucket again."""
        size = path.stat().st_size
        if size <= BUCKET:
            records = self._read(path)
            yield Ordered(records, np.argsort(hashed(np.arange(len(records)), seed)))
            return
        parts = [_file(self.folder, f"{path.name}-{i}") for i in range(min(-(-size // USUAL_BUCKET), MOST_BUCKETS))]
        try:
            at_once, done = max(1, USUAL_BUCKET // self.layout.record.itemsize), 0
            with path.open("rb") as file:
                while len(records := np.fromfile(file, self.layout.record, at_once)):
                    self._scatter(parts, records, np.arange(done, done + len(records)), seed + 2**31)
                    done += len(records)
        finally:
            for part in parts:
                part.close()
        path.unlink()
        for i, part in enumerate(parts):
            yield from self._permuted(Path(part.name), seed + 1 + i)

    def held_out(self) -> Iterator[Ordered]:
        """The held-out rows, in the order of the table."""
        if self.held_file is not None:
            self.held_file.close()
        for path in self.held:
            yield Ordered(self._read(path), None)

    def _read(self, path: Path) -> np.ndarray:
        """All records of a file, which is removed."""
        records, done = self.whole.of(path.stat().st_size // self.layout.record.itemsize), 0
        view = records.view(np.uint8).data
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(view[done:]):
                done += count
        path.unlink()
        return records[: done // records.itemsize]

    def _take(self, records: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """These of them, each copied as a whole."""
        return taken(records, rows, self.taken.of(len(rows)))

    def _scatter(
        self, files: Sequence[IO[bytes]], records: np.ndarray, rows: np.ndarray, seed: int,
        mine: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Write each record, or those at ``mine``, to one of the files, by its row's hash."""
        if len(files) < 2:
            for file in files:
                _put(file, records if mine is None else self._take(records, mine))
            return
        rows = rows if mine is None else rows[mine]
        chosen = ((hashed(rows, seed) >> np.uint64(32)) * np.uint64(len(files)) >> np.uint64(32)).astype(np.uint8)
        order = np.argsort(chosen, kind="stable")
        found = self._take(records, order if mine is None else mine[order])
        ends = np.cumsum(np.bincount(chosen, minlength=len(files)))
        for file, start, end in zip(files, [0, *ends], ends, strict=False):
            if end > start:
                _put(file, found[start:end])


class Ordered(NamedTuple):
    """Records, good until the next ones are asked for, and the order to take them in; None: as they lie."""

    records: np.ndarray
    order: np.ndarray | None

    def take(self, start: int, stop: int, out: np.ndarray) -> np.ndarray:
        """Some of them in their order, perhaps in ``out``, which has as many."""
        return self.records[start:stop] if self.order is None else taken(self.records, self.order[start:stop], out)


def taken(records: np.ndarray, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The records at these rows, all of which there are, in ``out``."""
    whole = (np.void, records.itemsize)
    records.view(whole).take(rows, out=out.view(whole), mode="clip")  # With "raise" NumPy fills another array first.
    return out


def _file(folder: Path, name: str) -> IO[bytes]:
    return (folder / name).open("wb", buffering=0)


def _put(file: IO[bytes], records: np.ndarray) -> None:
    """Write all of them: a file without a buffer may take a part, on a disk that gets full."""
    left = records.view(np.uint8).data
    while left:
        left = left[file.write(left) :]


# --- The file -------------------------------------------------------------------------------------------------------


def _write(file: IO[bytes], found: Learned, buckets: Buckets, tell: Tell | None) -> None:
    layout, done, total = found.layout, 0, found.counts.train + found.counts.held_out
    schema = layout.schema(found.content)
    with pa.ipc.new_file(pa.PythonFile(file, "w"), schema) as writer:
        for records in (buckets.train(), buckets.held_out()):
            for leaf in _leaves(records, layout):
                batch, checksum = _batch(leaf, schema)
                writer.write_batch(batch, custom_metadata={CHECKSUM: f"{checksum:08x}"})
                done += batch.num_rows
                if tell is not None:
                    tell("write", done, total)
    if done != total:
        raise StoreError(f"{done:,} of {total:,} rows came back from the buckets; is somebody else in their folder?")


def _leaves(parts: Iterator[Ordered], layout: Layout) -> Iterator[dict[str, np.ndarray]]:
    """The fields of the rows in leaves, good until the next one is asked for.

    Rows are taken some at a time, so that they are still in the cache when their fields are copied out of them.
    """
    names = [name for name in FIELDS if name in (layout.record.names or ())]
    types = [layout.record[name] for name in names]
    leaf = {name: np.empty((layout.leaf, *one.shape), one.base) for name, one in zip(names, types, strict=True)}
    filled, some = 0, np.empty(max(1, AT_ONCE // layout.record.itemsize), layout.record)
    for part in parts:
        start = 0
        while start < len(part.records):
            count = min(len(some), layout.leaf - filled, len(part.records) - start)
            rows = part.take(start, start + count, some[:count])
            for name, values in leaf.items():
                values[filled : filled + count] = rows[name]
            filled, start = filled + count, start + count
            if filled == layout.leaf:
                yield leaf
                filled = 0
    if filled:
        yield {name: values[:filled] for name, values in leaf.items()}


def _batch(leaf: dict[str, np.ndarray], schema: pa.Schema) -> tuple[pa.RecordBatch, int]:
    """A leaf as a record batch, and its checksum."""
    columns, checksum = [], 0
    for values, type_ in zip(leaf.values(), schema.types, strict=True):
        checksum = zlib.crc32(values.data.cast("B") if values.size else b"", checksum)
        base = pa.from_numpy_dtype(values.dtype)
        flat = pa.Array.from_buffers(base, values.size, [None, pa.py_buffer(values)])
        columns.append(flat if type_ == base else pa.FixedSizeListArray.from_arrays(flat, type_.list_size))
    return pa.RecordBatch.from_arrays(columns, schema=schema), checksum
