"""What ``fit`` is given beside X: the target, the weights' name, and rows to hold out that are a table of their own."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from sklearn.utils import column_or_1d

from fullbatch.errors import TableError, TableWarning
from fullbatch.estimators.inputs import on_host
from fullbatch.tables import record
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.fit import Learnable
from fullbatch.tables.frames import as_table, paths_of
from fullbatch.tables.indexes import INDEX
from fullbatch.tables.network import read_as
from fullbatch.tables.raw import Conventions, MissingWords, RawTable
from fullbatch.tables.roles import said_of_classes, scorable

MOST_UNREAD = 3  # named in a warning

# --- Rows that are held out -----------------------------------------------------------------------------------------


def name_of_rows(X_val: Any) -> str:
    """How the record calls rows that are a table of their own."""
    return ", ".join(file["name"] for file in record.files(paths_of(X_val))) or "X_val"


def name_of_weight(sample_weight: Any) -> str | None:
    """How the record calls what weighs the rows; None: nothing does."""
    if sample_weight is None or isinstance(sample_weight, str):
        return sample_weight
    return "sample_weight"


def scorable_rows(encoding: TableEncoding, rows: Learnable | None) -> tuple[Learnable | None, dict[str, int]]:
    """The held-out rows that can be scored, and how many have another class; a TableWarning says it."""
    if rows is None:
        return None, {}
    found, others = scorable(encoding, rows)
    if others:
        warnings.warn(f"{said_of_classes(others, rows.table.m)}; they are not scored.", TableWarning, stacklevel=4)
    return found, others


# --- The target's column --------------------------------------------------------------------------------------------


def with_target(table: RawTable, y: Any, target: str | None) -> tuple[RawTable, str]:
    """The table that has the target as a column, under a name that no other column has, and that name."""
    if y is None and target is None:
        raise TableError("it requires y to be passed, but the target y is None; or target=, a column of X by its name.")
    if y is not None and target is not None:
        raise TableError("give the target either as y or, by the name of its column in X, as target=; not both.")
    if target is not None:
        return table, target
    name = "y"
    while name in table.names:
        name += "_"
    return beside(table, y, name), name


def table_of(X: Any, drop: Collection[str], missing: MissingWords) -> RawTable:
    """X as a raw table. A TableWarning names the columns left out for what they hold, but for those in ``drop``."""
    table = as_table(X, drop=drop, conventions=Conventions(missing))
    unread = {name: why for name, why in table.left_out.items() if name not in drop and why != INDEX}
    if unread:
        said = "; ".join(f"{name!r}: {why}" for name, why in list(unread.items())[:MOST_UNREAD])
        more = f"; and {len(unread) - MOST_UNREAD} more" if len(unread) > MOST_UNREAD else ""
        warnings.warn(f"{len(unread)} column(s) left out: {said}{more}. drop names those.", TableWarning, stacklevel=4)
    return table


def beside(table: RawTable, y: Any, name: str, text: Sequence[str] = ()) -> RawTable:
    y = on_host("y", y)
    if getattr(y, "ndim", 1) == 2 or (hasattr(y, "__array__") and not hasattr(y, "__arrow_c_stream__")):
        y = column_or_1d(y, warn=True)
    column = as_table({name: y}, text=text, conventions=Conventions(table.missing)).columns[name]
    if len(column.values) != table.m:
        raise TableError(f"X has {table.m} rows and y {len(column.values)}; each row has a target.")
    return replace(table, columns={**table.columns, name: column})


def read_validation(encoding: TableEncoding, X: Any, y: Any, more: Sequence[str], *, apart: bool) -> RawTable:
    """The user's own held-out rows, their target given as that of X: ``apart``, or as a column."""
    if (y is not None) != apart:
        raise TableError(
            "the target of X is given as y, so that of X_val is y_val, which is missing." if apart else
            "the target of X is a column of it, so that of X_val is one too; leave y_val away."
        )  # fmt: skip
    table = read_as(encoding, X, with_target=not apart, more=more)
    return beside(table, y, str(encoding.target), text=encoding.text_names) if apart else table
