"""Columns that have a part of their own in a training: the target, the weight, what decides which rows are held out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fullbatch.errors import InputError, TableError

if TYPE_CHECKING:
    from fullbatch.tables.encoding import TableEncoding
    from fullbatch.tables.fit import Learnable
    from fullbatch.tables.raw import RawTable

GROUPS = "its values are groups, none of which is on both sides"


@dataclass(frozen=True)
class Roles:
    """The columns of a table that are more than features, or less.

    group : no feature: what is learned of a group says nothing of others, and those that are held out are others
    split_by : a feature, unless it is dropped: a date has a season and a trend, which are there to be learned. It
        decides all the same
    drop : no features
    """

    target: str
    split_by: str | None = None
    group: str | None = None
    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = {"the target": self.target, "split_by": self.split_by, "group": self.group}
        named = {part: name for part, name in parts.items() if name is not None}
        twice = [name for name, count in Counter(named.values()).items() if count > 1]
        if twice:
            both = " and ".join(part for part, name in named.items() if name == twice[0])
            raise InputError(f"column {twice[0]!r} is given as {both}; choose one.")
        for part, name in named.items():
            if name in self.drop and part != "split_by":
                raise InputError(f"column {name!r} is given as {part} and to be dropped; choose one.")

    def features(self, table: RawTable) -> RawTable:
        """The table without the columns that are no features, which its ``left_out`` then has."""
        from fullbatch.tables.raw import DROPPED

        reasons = dict.fromkeys(self.drop, DROPPED)
        if self.group is not None:
            reasons[self.group] = GROUPS
        table.require(list(reasons))
        columns = {name: column for name, column in table.columns.items() if name not in reasons}
        return replace(table, columns=columns, left_out={**table.left_out, **reasons})


# --- Classes that only held-out rows have ----------------------------------------------------------------------------


def scorable(encoding: TableEncoding, rows: Learnable) -> tuple[Learnable, dict[str, int]]:
    """The held-out rows whose class training has, and of each other class how many rows have it.

    Raises TableError where no row is left.
    """
    known, others = encoding.known_classes(rows.table)
    if not others:
        return rows, {}
    if not known.any():
        raise TableError(f"{said_of_classes(others, rows.table.m)}; no row is left to score.")
    return rows.rows(np.flatnonzero(known)), others


def said_of_classes(others: dict[str, int], m: int) -> str:
    """What is said of held-out rows of which nothing was learned; "" for none."""
    from fullbatch.tables.raw import listed

    if not others:
        return ""
    count = sum(others.values())
    classes = "a class" if len(others) == 1 else "classes"
    return f"{count:,} of {m:,} held-out rows have {classes} that training had not, {listed(list(others))}"
