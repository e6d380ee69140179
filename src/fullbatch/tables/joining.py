"""Tables of several files as one, rows below rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from fullbatch.errors import TableError
from fullbatch.tables.raw import MOST_LEVELS, RawColumn, RawTable, listed

Piece = TypeVar("Piece")


def regrouped(
    pieces: Iterable[Piece],
    size: int,
    length: Callable[[Piece], int],
    joined: Callable[[list[Piece]], Piece],
    cut: Callable[[Piece, slice], Piece],
) -> Iterator[Piece]:
    """The rows of some pieces, in order, ``size`` of them at a time; the last piece has what is left."""
    waiting: list[Piece] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += length(piece)
        while count >= size:
            whole = joined(waiting)
            yield cut(whole, slice(0, size))
            count -= size
            waiting = [cut(whole, slice(size, None))] if count else []
    if count:
        yield joined(waiting)


def check_same_columns(tables: Mapping[str, RawTable]) -> None:
    """TableError that names a file whose columns are others than the first one's, and these columns."""
    first, *others = tables
    names = set(tables[first].names)
    for other in others:
        lacking, more = names - set(tables[other].names), set(tables[other].names) - names
        if lacking or more:
            said = [f"lacks {listed(sorted(lacking))}"] if lacking else []
            said += [f"has {listed(sorted(more))} besides"] if more else []
            but = " and ".join(said)
            raise TableError(f"{other} has other columns than {first}: it {but}; expected the same ones.")


def differing(tables: Sequence[RawTable]) -> list[str]:
    """The columns that are of one kind in one table and of another in the next; one without values is of any.

    Dates that were read by different formats differ too.
    """
    names = tables[0].names
    kinds = {name: {(t.columns[name].kind, t.columns[name].format) for t in _with(tables, name)} for name in names}
    return [name for name in names if len(kinds[name]) > 1]


def one_format(tables: Sequence[RawTable]) -> dict[str, str]:
    """The columns that are dates of one format in some tables and texts in others, and the format."""
    found = {}
    for name in tables[0].names:
        columns = [table.columns[name] for table in _with(tables, name)]
        formats = {column.format for column in columns if column.kind != "text"}
        if len(formats) == 1 and any(column.kind == "text" for column in columns) and (one := formats.pop()):
            found[name] = one
    return found


def _with(tables: Sequence[RawTable], name: str) -> list[RawTable]:
    """The tables in which the column has a value."""
    return [table for table in tables if not table.columns[name].missing.all()]


def joined(tables: Sequence[RawTable]) -> RawTable:
    """All rows of tables with the same columns of the same kinds."""
    first = tables[0]
    columns = {name: _joined([table.columns[name] for table in tables]) for name in first.names}
    left_out = {name: reason for table in tables for name, reason in table.left_out.items()}
    return replace(first, columns=columns, m=sum(table.m for table in tables), left_out=left_out)


def _joined(parts: Sequence[RawColumn]) -> RawColumn:
    known = [part for part in parts if not part.missing.all()] or list(parts)
    if known[0].levels is None:
        # A part without values may be one of texts; among numbers its values are NaN.
        values = np.concatenate([np.full(len(p.values), np.nan) if p.levels is not None else p.values for p in parts])
        return replace(known[0], values=values, integer=all(part.integer for part in known))
    position: dict[Any, int] = {False: 0, True: 1} if known[0].kind == "boolean" else {}
    codes = []
    for part in parts:
        if part.levels is None:
            codes.append(np.full(len(part.values), -1))
            continue
        table = [position.setdefault(v, len(position)) if v in position or len(position) < MOST_LEVELS else -2
                 for v in part.levels]  # fmt: skip
        codes.append(np.array([*table, -1, -2], np.int64)[part.values])
    all_codes, count = np.concatenate(codes), len(position)
    final = np.where(all_codes == -1, count, np.where(all_codes == -2, count + 1, all_codes))
    return RawColumn(final.astype(np.min_scalar_type(count + 1)), tuple(position), decimal=known[0].decimal)


def with_values(table: RawTable, values: Mapping[str, str | None]) -> RawTable:
    """The table and a column of text for each of these values, the same in all rows."""
    more = {}
    for name, value in values.items():
        levels = () if value is None else (value,)
        more[name] = RawColumn(np.zeros(table.m, np.uint8), levels)
    return replace(table, columns={**table.columns, **more})


def is_plain_integer(text: str) -> bool:
    """Whether a text is a whole number as Python writes it: without leading zeros."""
    return text.lstrip("-").isdecimal() and text == str(int(text))


def as_numbers(table: RawTable, names: Sequence[str]) -> RawTable:
    """The table with those of these columns of text as integers that are whole numbers without leading zeros."""
    columns = dict(table.columns)
    for name in names:
        levels = columns[name].levels or ()
        if levels and all(map(is_plain_integer, levels)):
            missing = columns[name].missing
            values = np.array([*map(int, levels), 0, 0])[columns[name].values]
            columns[name] = RawColumn(np.where(missing, np.nan, values) if missing.any() else values, None, True)
    return replace(table, columns=columns)
