"""Raw tables in pieces: each pass over them gives the same rows, in columns that are of one kind from the first piece.

``Stream`` reads files. What a column of texts is, truths, dates or levels, is known only when all of it was seen, so
such columns are read once before (``settle``); and CSV files once more before that, since their values say the types.
``InMemory`` cuts a table that is there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from fullbatch.errors import TableError
from fullbatch.tables import parquet
from fullbatch.tables.csv import csv_batches, csv_look, csv_names
from fullbatch.tables.indexes import index_names
from fullbatch.tables.inputs import kind_of
from fullbatch.tables.joining import is_plain_integer
from fullbatch.tables.raw import (
    DROPPED,
    NUMBER,
    USUAL_CONVENTIONS,
    Builder,
    Conventions,
    MissingWords,
    RawColumn,
    RawTable,
    check_names,
    is_category,
    is_text,
    listed,
    require,
)

ROWS = 65_536  # of a piece, at most
TEXT = pa.dictionary(pa.int32(), pa.string())
BUFFER = 2**18  # bytes of a Parquet column that are read at a time: without it, a whole row group's are


class Pieces(Protocol):
    """A table that is read in pieces, as often as it is asked for.

    columns : of each column what it is, by few of its rows or none; of numbers all is known after a whole pass
    """

    names: tuple[str, ...]
    left_out: dict[str, str]
    missing: MissingWords
    decimal: str

    @property
    def columns(self) -> dict[str, RawColumn]: ...

    def settle(self, also: Sequence[str]) -> None:
        """Find out what the columns are, by a pass over those that do not say it and over ``also``."""
        ...

    def pieces(self, names: Sequence[str]) -> Iterator[RawTable]:
        """These columns of all rows, in order."""
        ...


class InMemory:
    """``Pieces`` of a table in memory."""

    def __init__(self, table: RawTable) -> None:
        self.table, self.names = table, table.names
        self.missing, self.decimal = table.missing, table.decimal
        self.left_out = dict(table.left_out)

    @property
    def columns(self) -> dict[str, RawColumn]:
        return dict(self.table.columns)

    def settle(self, also: Sequence[str]) -> None:
        pass

    def pieces(self, names: Sequence[str]) -> Iterator[RawTable]:
        table = replace(self.table, columns={name: self.table.column(name) for name in names})
        for start in range(0, table.m, ROWS):
            yield table.select(np.arange(start, min(start + ROWS, table.m)))


class Opened(NamedTuple):
    """A file of a stream, and what it was when it was looked at first.

    kind : "parquet" or "arrow";  types : of its columns, by their names
    declared : columns of numbers that are categories;  texts : columns that can be read as dictionaries
    compression, conventions : of a CSV file, and how it is written
    values : what the folders of the file give columns
    rows : from which row on and up to which one it is read; None: all of them
    """

    path: Path
    kind: str
    stamp: tuple[int, int]
    types: dict[str, pa.DataType]
    declared: set[str]
    texts: list[str]
    compression: str | None = None
    conventions: Conventions = USUAL_CONVENTIONS
    values: Mapping[str, str | None] = {}
    rows: tuple[int, int] | None = None


class Stream:
    """``Pieces`` of files of tables with the same columns, one after another: CSV, Parquet, Arrow IPC.

    files : each with the values that its folders give columns
    """

    def __init__(
        self,
        files: Mapping[Path, Mapping[str, str | None]],
        *,
        columns: Sequence[str] | None = None,
        drop: Collection[str] = (),
        keep: Collection[str] = (),
        conventions: Conventions = USUAL_CONVENTIONS,
    ) -> None:
        self.files: list[Opened] = []
        self.missing, self.decimal = conventions.missing, conventions.decimal
        self.left_out: dict[str, str] = {}
        wanted = Look(columns, frozenset(keep), frozenset(drop), conventions)
        for opened, left_out in self._looked_at(files, wanted):
            self.files.append(opened)
            self.left_out |= left_out
        self._widen_to_texts(wanted)
        first = self.files[0]
        require(columns or (), list(first.types), "column")
        require(list(drop), list(first.types), "column to drop")
        if columns is not None:
            self.left_out = {name: "not in --columns" for name in first.types if name not in columns}
        self.left_out |= dict.fromkeys(drop, DROPPED)
        self.names = tuple(name for name in first.types if name not in self.left_out)
        self._check_columns()
        self.builders = {name: Builder(name, False, conventions) for name in self.names}
        self.tables: dict[str, tuple[np.ndarray, RawColumn]] = {}  # of each column of codes, what the codes stand for
        self.present: set[str] = set()  # columns of numbers in which a value was seen
        self.rows: list[int | None] = [None for _ in self.files]

    def _looked_at(
        self, files: Mapping[Path, Mapping[str, str | None]], wanted: Look
    ) -> Iterator[tuple[Opened, dict[str, str]]]:
        for path, values in files.items():
            yield look(path, wanted, values)

    def _widen_to_texts(self, wanted: Look) -> None:
        """Look again at CSV files in which a column is one of numbers, and of texts in another file."""
        for _ in range(2):
            texts = {
                name for file in self.files for name, type_ in file.types.items()
                if _kind(type_, name in file.declared) == "text"
            }  # fmt: skip
            for i, file in enumerate(self.files):
                of_numbers = {n for n in texts & set(file.types) if _kind(file.types[n], False) == "number"}
                if file.kind == "csv" and of_numbers - set(file.values):
                    self.files[i], _ = look(file.path, wanted, file.values, text=of_numbers)
                if of_numbers & set(file.values):
                    own = dict.fromkeys(of_numbers & set(file.values), TEXT)
                    self.files[i] = self.files[i]._replace(types={**self.files[i].types, **own})

    def _check_columns(self) -> None:
        names, first = set(self.names), self.files[0]
        for other in self.files[1:]:
            found = set(other.types) - set(self.left_out)
            if found != names:
                lacking, more = sorted(names - found), sorted(found - names)
                said = [f"lacks {listed(lacking)}"] if lacking else []
                said += [f"has {listed(more)} besides"] if more else []
                but = " and ".join(said)
                raise TableError(f"{other.path} has other columns than {first.path}: it {but}; expected the same ones.")
        for name in self.names:
            kinds = {_kind(file.types[name], name in file.declared) for file in self.files} - {"nothing"}
            if len(kinds) > 1:
                raise TableError(
                    f"column {name!r} differs among the files: {' and '.join(sorted(kinds))}; expected one kind."
                )

    @property
    def columns(self) -> dict[str, RawColumn]:
        return {name: self._column(name) for name in self.names}

    def _column(self, name: str) -> RawColumn:
        if name in self.tables:
            return replace(self.tables[name][1], values=self.tables[name][1].values[:0])
        builder = self.builders[name]
        integer = builder.integer and name in self.present
        return RawColumn(np.empty(0), None, integer, time=builder.time, format=builder.format)

    def settle(self, also: Sequence[str]) -> None:
        open_ones = self.open_names()
        names = [name for name in self.names if name in open_ones or name in also]
        for batch in self._batches(names):
            self.see({name: array for name, array in batch.items() if name in open_ones})
        self.conclude()

    def open_names(self) -> list[str]:
        """The columns of which all values have to be seen before it is known what they are."""
        return [name for name in self.names if self._kinds(name) & {"text", "category"}]

    def _kinds(self, name: str) -> set[str]:
        return {_kind(file.types[name], name in file.declared) for file in self.files}

    def see(self, batch: Mapping[str, pa.Array]) -> None:
        """Values of columns that have to be seen, in their order."""
        for name, array in batch.items():
            if not pa.types.is_null(array.type):
                self.builders[name].add(array)
                self.builders[name].forget()
                self.builders[name].beyond.pop(NUMBER, None)  # They are levels, whatever number each is.

    def conclude(self) -> None:
        """All values were seen."""
        for name in self.names:
            builder = self.builders[name]
            if self._kinds(name) == {"boolean"}:
                builder.codes = {False: 0, True: 1}
            if builder.codes is not None:
                self.tables[name] = _finished(builder)

    def pieces(self, names: Sequence[str]) -> Iterator[RawTable]:
        for batch in self._batches([name for name in self.names if name in names]):
            columns = {name: self._piece(name, array) for name, array in batch.items()}
            m = len(next(iter(columns.values())).values)
            yield RawTable(columns, m, self.left_out, self.missing, self.decimal)

    def _piece(self, name: str, array: pa.Array) -> RawColumn:
        builder = self.builders[name]
        if name in self.tables and pa.types.is_null(array.type):
            array = pa.nulls(len(array), pa.dictionary(pa.int32(), pa.string()))
        builder.add(array)
        values = builder.chunks.pop()
        builder.forget()
        if name not in self.tables:
            if name not in self.present and (values.dtype.kind != "f" or not np.isnan(values).all()):
                self.present.add(name)
            return RawColumn(values, None, builder.integer, time=builder.time, format=builder.format)
        table, column = self.tables[name]
        return replace(column, values=table[values])

    def _batches(self, names: Sequence[str]) -> Iterator[dict[str, pa.Array]]:
        """All rows in batches, of files that are still what they were."""
        for i, file in enumerate(self.files):
            check_unchanged(file.path, file.stamp)
            rows = 0
            try:
                for batch in columns_of(file, names):
                    rows += len(next(iter(batch.values())))
                    yield batch
            except TableError:  # A row without its end is the end of a file that somebody writes to.
                check_unchanged(file.path, file.stamp)
                raise
            check_unchanged(file.path, file.stamp)
            if self.rows[i] not in (None, rows):
                raise TableError(
                    f"{file.path} has changed while it was read: it had {self.rows[i]:,} rows, now {rows:,}."
                )
            self.rows[i] = rows


def _finished(builder: Builder) -> tuple[np.ndarray, RawColumn]:
    """The values that the builder's codes stand for, by code, and the column that they make, without rows."""
    assert builder.codes is not None
    count = len(builder.codes)
    if set(builder.readings or ()) - {NUMBER}:
        raise TableError(
            f"column {builder.name!r} has more than {count:,} different texts that are dates; write it as dates to "
            "convert it."
        )
    builder.chunks = [np.append(np.arange(count), 65_535).astype(np.uint16)]
    builder.readings = builder.readings and []  # Texts beyond those that are kept are of no kind of their own.
    column = replace(builder.finish(), stray=None, beyond=None)
    builder.readings = []
    beyond = np.nan if column.levels is None else len(column.levels) + 1
    values = column.values if column.levels is None else column.values.astype(np.min_scalar_type(beyond))
    table = np.full(65_536, beyond, values.dtype)
    table[:count], table[65_535] = values[:count], values[count]
    return table, replace(column, values=values)


def _kind(type_: pa.DataType, declared: bool) -> str:
    """What a column of this type may be in several files: of one word, or of nothing in some."""
    if pa.types.is_null(type_):
        return "nothing"
    if declared or (pa.types.is_dictionary(type_) and is_category(type_) and not is_text(type_.value_type)):
        return "category"
    type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
    return "text" if is_text(type_) else "boolean" if pa.types.is_boolean(type_) else "number"


# --- Files ----------------------------------------------------------------------------------------------------------


class Look(NamedTuple):
    """Which columns of a file are wanted, and how they are written: see ``read_table``."""

    columns: Sequence[str] | None = None
    keep: frozenset[str] = frozenset()
    drop: frozenset[str] = frozenset()
    conventions: Conventions = USUAL_CONVENTIONS


def look(
    path: Path, wanted: Look, values: Mapping[str, str | None] | None = None, text: Collection[str] = ()
) -> tuple[Opened, dict[str, str]]:
    """A file as it is now, and why which of its columns are left out.

    values : what its folders give columns;  text : columns of a CSV file that stay text
    """
    from pyarrow import parquet as arrow_parquet

    kind, compression = kind_of(path, path, None)
    stamp, values = stamp_of(path), dict(values or {})
    if kind == "csv":
        return _look_at_csv(
            Opened(path, kind, stamp, {}, set(), [], compression, wanted.conventions), wanted, values, text
        )
    keep = {*wanted.keep, *(wanted.columns or ())}
    declared, texts = set(), []
    with parquet._parquet_errors(path):
        if kind == "parquet":
            with arrow_parquet.ParquetFile(path, pre_buffer=False) as file:
                metadata, schema = file.metadata, file.schema_arrow
            declared = parquet._declared_categories(metadata)
            texts = [name for name, type_ in zip(schema.names, schema.types, strict=True) if is_text(type_)]
            texts = parquet._dictionary_readable(metadata, texts)
        else:
            with pa.memory_map(str(path)) as mapped:
                schema = parquet._opened(mapped)[0].schema
        check_names(schema.names)
    types = dict(zip(schema.names, schema.types, strict=True))
    types |= _types_of(values)
    return Opened(path, kind, stamp, types, declared, texts, values=values), parquet._left_out(schema, keep)


def _look_at_csv(
    file: Opened, wanted: Look, values: dict[str, str | None], text: Collection[str]
) -> tuple[Opened, dict[str, str]]:
    names = csv_names(file.path, file.compression)
    columns = names if wanted.columns is None else [name for name in wanted.columns if name not in values]
    require(columns, names, "column")
    columns = [name for name in names if name in columns and name not in wanted.drop]
    found = csv_look(file.path, file.compression, columns, text, wanted.conventions)
    types = {name: found.types.get(name, pa.null()) for name in names} | _types_of(values)
    left_out = {} if wanted.columns is not None else index_names(columns, found.row_numbers)
    left_out = {name: why for name, why in left_out.items() if name not in wanted.keep}
    return file._replace(types=types, values=values), left_out


def _types_of(values: Mapping[str, str | None]) -> dict[str, pa.DataType]:
    """Of columns that folders give: whole numbers where they look so."""
    return {
        name: pa.null() if value is None else pa.int64() if is_plain_integer(value) else TEXT
        for name, value in values.items()
    }


def columns_of(file: Opened, names: Sequence[str]) -> Iterator[dict[str, pa.Array]]:
    """These columns of a file, batch by batch."""
    inner = [name for name in names if name not in file.values]
    given = {name: file.values[name] for name in names if name in file.values}
    for batch in _batches_of(file, inner):
        m = len(next(iter(batch.values())))
        yield batch | {name: _constant(value, file.types[name], m) for name, value in given.items()}


def _constant(value: str | None, type_: pa.DataType, m: int) -> pa.Array:
    if value is None:
        return pa.nulls(m)
    if pa.types.is_int64(type_):
        return pa.array(np.full(m, int(value)))
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(m, np.int32)), pa.array([value]))


def _batches_of(file: Opened, names: Sequence[str]) -> Iterator[dict[str, pa.Array]]:
    from pyarrow import parquet as arrow_parquet

    if file.kind == "csv":
        names = names or list(file.types)[:1]  # so that the rows are counted
        yield from csv_batches(
            file.path, file.compression, {name: file.types[name] for name in names}, file.conventions
        )
        return
    names = names or list(file.types)[:1]

    with parquet._parquet_errors(file.path):
        if file.kind == "parquet":
            with arrow_parquet.ParquetFile(
                file.path, read_dictionary=[name for name in file.texts if name in names], pre_buffer=False,
                buffer_size=BUFFER, coerce_int96_timestamp_unit="us",
            ) as reader:  # fmt: skip
                for batch in _of_groups(reader, names, file.rows):
                    yield {
                        name: array.dictionary_encode() if name in file.declared else array
                        for name, array in zip(batch.schema.names, batch.columns, strict=True)
                    }
            return
        with pa.memory_map(str(file.path)) as mapped:
            opened, whole = parquet._opened(mapped)
            batches: Any = map(opened.get_batch, range(opened.num_record_batches)) if whole else opened
            for batch in batches if file.rows is None else _within(batches, 0, file.rows):
                for start in range(0, batch.num_rows, ROWS):
                    part = batch.slice(start, ROWS)
                    yield {name: part.column(name) for name in names}


def _of_groups(reader: Any, names: Sequence[str], rows: tuple[int, int] | None) -> Iterator[Any]:
    """Batches of a Parquet file; of some of its rows, by the row groups that have any of them."""
    how = {"columns": list(names), "use_threads": False}
    if rows is None:
        return reader.iter_batches(ROWS, **how)
    counts = [reader.metadata.row_group(i).num_rows for i in range(reader.metadata.num_row_groups)]
    starts = [0, *accumulate(counts)]
    groups = [i for i, start in enumerate(starts[:-1]) if start < rows[1] and start + counts[i] > rows[0]]
    if not groups:
        return iter(())
    return _within(reader.iter_batches(ROWS, row_groups=groups, **how), starts[groups[0]], rows)


def _within(batches: Iterable[Any], first: int, rows: tuple[int, int]) -> Iterator[Any]:
    """What of these batches, the first of which begins at row ``first``, is from the one row on and up to the other."""
    for batch in batches:
        low, high = max(rows[0] - first, 0), min(rows[1] - first, batch.num_rows)
        if low < high:
            yield batch.slice(low, high - low)
        first += batch.num_rows
        if first >= rows[1]:
            return


def stamp_of(path: Path) -> tuple[int, int]:
    """The size of a file and when it was modified."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}.") from None
    return found.st_size, found.st_mtime_ns


def check_unchanged(path: Path, stamp: tuple[int, int]) -> None:
    """TableError for a file whose size or time of modification is another than it was."""
    if stamp_of(path) != stamp:
        raise TableError(f"{path} has changed while it was read; do this again when nobody writes to it.")
