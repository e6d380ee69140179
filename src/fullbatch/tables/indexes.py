"""Row numbers that a library wrote beside a table, which are no column of it.

They are left out: where the rows are sorted by the target, the numbers alone tell it, and other files have others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from fullbatch.tables.distinct import distinct
from fullbatch.tables.raw import RawTable

INDEX = "it is the index of a pandas table, not one of its columns"
_ROW_NUMBERS = "it has no name and counts the rows, as pandas and R write their row numbers"
NAMELESS = ("", "Unnamed: 0")
MOST = 2**31  # Row numbers below this are looked up in bits, 256 MB of them at most.
_INDEX_NAME = re.compile(r"__index_level_\d+__")


def pandas_indexes(schema: pa.Schema) -> set[str]:
    """The columns of a schema that were the index of a pandas table, named or not."""
    indexes = {name for name in schema.names if _INDEX_NAME.fullmatch(name)}
    try:
        described = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        indexes.update(name for name in described.get("index_columns", ()) if isinstance(name, str))
    except (ValueError, AttributeError, TypeError):
        pass  # Whoever wrote this, it is not the table.
    return indexes


class RowNumbers:
    """Whether the values of a column, which comes in parts, are different whole numbers of at least 0."""

    def __init__(self) -> None:
        self.seen = np.zeros(2**12, np.uint8)
        self.last, self.rising, self.sound = -1, True, True

    def add(self, array: pa.Array) -> None:
        if not self.sound or not pa.types.is_int64(array.type) or array.null_count:
            self.sound = False
            return
        values = array.to_numpy()
        if not len(values):
            return
        self.rising &= bool((np.diff(values, prepend=self.last) > 0).all())
        self.last = int(values[-1])
        if values.min() < 0 or (values.max() >= MOST and not self.rising):
            self.sound = False
        elif values.max() < MOST:
            self._mark(values)

    def _mark(self, values: np.ndarray) -> None:
        if (most := int(values.max())) >= 8 * len(self.seen):
            grown = np.zeros(max(2 * len(self.seen), most // 8 + 1), np.uint8)
            grown[: len(self.seen)] = self.seen
            self.seen = grown
        bits = np.left_shift(1, values & 7).astype(np.uint8)
        if len(distinct(values)) < len(values) or (self.seen[values >> 3] & bits).any():
            self.sound = False
        np.bitwise_or.at(self.seen, values >> 3, bits)

    def count_rows(self) -> bool:
        """Of all values that were added."""
        return self.sound


def index_names(names: Sequence[str], row_numbers: str | None) -> dict[str, str]:
    """Those of the columns of a CSV file that a library wrote beside its own, and why they are none."""
    left_out = {name: INDEX for name in names if _INDEX_NAME.fullmatch(name)}
    return left_out if row_numbers is None else {**left_out, row_numbers: _ROW_NUMBERS}


def without_row_numbers(table: RawTable, keep: Collection[str]) -> RawTable:
    """The table without a first column that has no name and different whole numbers, or an index of pandas's.

    "Unnamed: 0" is what pandas calls a column without a name when it reads a file and writes it again. The numbers need
    not be in order: a part of a table, or a shuffled one, keeps those of the whole.
    """
    first, counted = table.names[0], None
    if first in NAMELESS and len(table.names) > 1:
        column = table.columns[first]
        counts = column.integer and column.values.dtype.kind in "iu"
        if counts and column.values.min() >= 0 and len(distinct(column.values)) == table.m:
            counted = first
    left_out = index_names(table.names, counted)
    left_out = {name: reason for name, reason in left_out.items() if name not in keep}
    if not left_out:
        return table
    columns = {name: column for name, column in table.columns.items() if name not in left_out}
    return replace(table, columns=columns, left_out={**table.left_out, **left_out})
