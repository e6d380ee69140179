"""Errors that name a row of a part of a table name it in the whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fullbatch.errors import TableError


@contextmanager
def rows_from(first: int, rows: np.ndarray | None = None) -> Iterator[None]:
    """The part begins at row ``first`` of the table, counted from 0.

    rows : which rows of the part it was that are looked at; None: all of them
    """
    try:
        yield
    except TableError as error:

        def number(found: re.Match[str]) -> str:
            row = int(found[1]) - 1
            return f"row {first + 1 + (row if rows is None else int(rows[row]))}"

        raise TableError(re.sub(r"\brow (\d+)\b", number, str(error), count=1)) from None
