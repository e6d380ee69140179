"""Columns of a table's files as they are there, beside predictions: ids, dates, texts, whatever they hold.

A raw table has what a model learns from: dates are seconds there, and of a column of ids the rarer ones are gone. So
these columns are read once more, block by block, while predictions are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fullbatch.errors import TableError
from fullbatch.tables.inputs import files_of, kind_of
from fullbatch.tables.joining import regrouped
from fullbatch.tables.raw import USUAL, MissingWords, require
from fullbatch.tables.reading import read_names
from fullbatch.tables.rows import Rows

# What is a number in a CSV file; with a leading zero it is a text, as everywhere here.
WHOLE = r"^\s*-?(0|[1-9]\d{0,17})\s*$"
NUMBER = r"^\s*[-+]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][-+]?\d+)?\s*$"


class Kept:
    """These columns of the files that a path stands for, or several, in the order of the rows.

    missing : words that stand for a missing value among numbers

    Raises TableError for a column that is not there, and for a file that can be read but once.
    """

    def __init__(
        self, path: str | Path | Sequence[str | Path], names: Sequence[str], missing: MissingWords = USUAL
    ) -> None:
        self.names = list(dict.fromkeys(names))
        self.missing = missing
        self.files = files_of(path)
        for file, values in self.files.items():
            if file.exists() and not file.is_file():
                raise TableError(f"{file} can be read but once, and columns that are kept are read again; give a file.")
            require(self.names, [*read_names(file), *values], "column")
        self.of_csv = any(_kind(file)[0] == "csv" for file in self.files)

    def blocks(self, rows: int) -> Iterator[pa.Table]:
        """The columns, so many rows at a time; those of a CSV file are texts."""
        return regrouped(self._tables(), rows, len, _joined, lambda table, part: table[part])

    def typed_blocks(self, rows: int) -> Iterator[pa.Table]:
        """The same in the types of their values, for a file that has types: the numbers of a CSV file are numbers.

        Its empty cells are missing, and among numbers the words that stand for missing are.
        """
        schema = self._schema()
        words = pa.array(self.missing.nulls())
        for block in self.blocks(rows):
            arrays = []
            for field in schema:
                column = block.column(field.name)
                if _is_text(column.type) and self.of_csv:
                    gaps = pc.equal(column, "") if _is_text(field.type) else pc.is_in(column, value_set=words)
                    column = pc.if_else(gaps, pa.scalar(None, pa.string()), column)
                    column = column if _is_text(field.type) else pc.utf8_trim_whitespace(column)
                arrays.append(column.cast(field.type))
            yield pa.table(arrays, schema=schema)

    def _tables(self) -> Iterator[pa.Table]:
        for file, values in self.files.items():
            inner = [name for name in self.names if name not in values]
            for table in _tables_of(file, inner):
                for name in (name for name in self.names if name in values):
                    table = table.append_column(name, pa.array([values[name]] * table.num_rows, pa.string()))
                yield table.select(self.names)

    def _schema(self) -> pa.Schema:
        """The type of each column, which for texts in a CSV file all of them decide."""
        found: dict[str, list[pa.DataType]] = {name: [] for name in self.names}
        words = pa.array(self.missing.nulls())
        for table in self._tables():
            for name in self.names:
                column = table.column(name)
                found[name].append(_number_type(column, words) if self.of_csv else column.type)
        return pa.schema([(name, _common(types)) for name, types in found.items()])


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="permissive")


def _common(types: Sequence[pa.DataType]) -> pa.DataType:
    """A type that holds values of all of these; nulls are texts where there is nothing else."""
    different = [type_ for type_ in dict.fromkeys(types) if not pa.types.is_null(type_)]
    if not different:
        return pa.string()
    if any(map(_is_text, different)):
        return pa.string() if len(different) > 1 else different[0]
    schemas = [pa.schema([("x", type_)]) for type_ in different]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def _number_type(column: pa.ChunkedArray, words: pa.Array) -> pa.DataType:
    """What texts of a CSV file hold: whole numbers, numbers or texts; null where all are missing."""
    there = column.filter(pc.invert(pc.is_in(column, value_set=words)))
    if not len(there):
        return pa.null()
    for pattern, type_ in ((WHOLE, pa.int64()), (NUMBER, pa.float64())):
        if pc.all(pc.match_substring_regex(there, pattern)).as_py():
            return type_
    return pa.string()


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _kind(file: Path) -> tuple[str, str | None]:
    return kind_of(file, file, None)


def _tables_of(file: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    """The columns of one file, part by part. Where there are none, the rows are counted all the same."""
    kind, compression = _kind(file)
    if kind == "csv":
        yield from _of_csv(file, compression, names)
    elif kind == "parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(file, pre_buffer=False, coerce_int96_timestamp_unit="us") as source:
            for batch in source.iter_batches(65_536, columns=list(names), use_threads=False):
                yield _plain(pa.Table.from_batches([batch]))
    else:
        with pa.memory_map(str(file)) as source:
            whole = source.read(6) == b"ARROW1"
            source.seek(0)
            reader = pa.ipc.open_file(source) if whole else pa.ipc.open_stream(source)
            for batch in (reader.get_batch(i) for i in range(reader.num_record_batches)) if whole else reader:
                yield _plain(pa.Table.from_batches([batch]).select(list(names)))


def _of_csv(file: Path, compression: str | None, names: Sequence[str]) -> Iterator[pa.Table]:
    from pyarrow import csv

    rows = Rows(file, compression)
    header = read_names(file)
    for block in rows.blocks():
        yield csv.read_csv(
            pa.BufferReader(block),
            read_options=csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=header),
            parse_options=csv.ParseOptions(delimiter=rows.delimiter, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), include_columns=list(names), strings_can_be_null=False
            ),
        )


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries, whose levels differ from part to part."""
    for j, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(j, field.name, table.column(j).cast(field.type.value_type))
    return table


# --- As the text of a CSV file ----------------------------------------------------------------------------------------


def csv_lines(columns: Sequence[tuple[str, pa.ChunkedArray]]) -> bytes:
    """The rows as a CSV file has them: gaps are empty, and a value is quoted where it has to be."""
    texts = [_quoted(name, column) for name, column in columns]
    lines = pc.binary_join_element_wise(*texts, ",")
    return ("\n".join(lines.to_pylist()) + "\n").encode()


def _quoted(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        texts = pc.fill_null(column.cast(pa.string()), "")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise TableError(f"column {name!r} holds {column.type}, which a CSV file cannot; write .parquet.") from error
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return texts
    needed = pc.match_substring_regex(texts, '[",\r\n]')
    if not pc.any(needed).as_py():
        return texts
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")
    return pc.if_else(needed, quoted, texts)
