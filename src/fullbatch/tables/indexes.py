"""Row numbers that a library wrote beside a table, which are no column of it.

They are left out: where the rows are sorted by the target, the numbers alone tell it, and other files have others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pyarrow as pa

from fullbatch.tables.raw import RawTable

INDEX = "it is the index of a pandas table, not one of its columns"
_ROW_NUMBERS = "it has no name and counts the rows, as pandas and R write their row numbers"
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


def without_row_numbers(table: RawTable, keep: Collection[str]) -> RawTable:
    """The table without a first column that has no name and different whole numbers, or an index of pandas's.

    "Unnamed: 0" is what pandas calls a column without a name when it reads a file and writes it again. The numbers need
    not be in order: a part of a table, or a shuffled one, keeps those of the whole.
    """
    left_out = {name: INDEX for name in table.names if _INDEX_NAME.fullmatch(name)}
    first = table.names[0]
    if first in ("", "Unnamed: 0") and len(table.names) > 1:
        column = table.columns[first]
        counts = column.integer and column.values.dtype.kind in "iu"
        if counts and column.values.min() >= 0 and len(np.unique(column.values)) == table.m:
            left_out[first] = _ROW_NUMBERS
    left_out = {name: reason for name, reason in left_out.items() if name not in keep}
    if not left_out:
        return table
    columns = {name: column for name, column in table.columns.items() if name not in left_out}
    return replace(table, columns=columns, left_out={**table.left_out, **left_out})
