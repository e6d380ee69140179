"""What the program concludes about a table: each column's kind and why, the task, and what it doubts.

The report is plain: dataclasses whose ``to_dict`` JSON can hold, and which a model file keeps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.errors import TableError
from fullbatch.tables import bins
from fullbatch.tables.dates import said_moment
from fullbatch.tables.doubts import (
    Doubt,
    Goal,
    doubts_of_column,
    doubts_of_names,
    doubts_of_target,
    doubts_of_the_last_row,
)
from fullbatch.tables.encoding import (
    MOST_CLASSES,
    date_parts,
    decide_task,
    input_names,
    is_category,
    leveled_of,
    numbers_of,
)
from fullbatch.tables.fit import learnable
from fullbatch.tables.statistics import ColumnStatistics

if TYPE_CHECKING:
    from fullbatch.tables.raw import RawColumn, RawTable

EXAMPLES = 3  # So many values of a column are shown,
LONGEST = 24  # each of so many characters at most,
LOOKED_AT = 200  # and looked for in so many of the first rows, or of those that have one.


@dataclass(frozen=True)
class ColumnReport:
    """How one column was understood.

    kind : "number", "category", "date", "boolean", "left out" or "target"
    values : "3 levels", or the range of numbers and dates
    """

    name: str
    kind: str
    why: str
    values: str
    missing: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class TargetReport:
    """The task that the target column makes, and how to have another one.

    classes : of a classification, each class and how many rows have it
    """

    name: str
    task: str
    why: str
    overrule: str
    classes: tuple[tuple[Any, int], ...]


@dataclass(frozen=True)
class TableReport:
    """How a table was understood: its columns in their order, the task, and the doubts."""

    rows: int
    columns: tuple[ColumnReport, ...]
    target: TargetReport | None
    doubts: tuple[Doubt, ...]

    def of_rows(self, rows: np.ndarray, gaps: int) -> TableReport:
        """This report, made of some rows of a table, with their numbers there, and the ``gaps`` of the target there."""
        columns = tuple(replace(column, missing=gaps) if column.kind == "target" else column for column in self.columns)
        return replace(self, columns=columns, doubts=tuple(doubt.of_rows(rows) for doubt in self.doubts))

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold: the report in a model file, and that of ``--json``."""
        return asdict(self)


def report(
    table: RawTable,
    target: str | None = None,
    *,
    task: str | None = None,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    rows: np.ndarray | None = None,
    binned: Collection[str] | None = None,
) -> TableReport:
    """The report of a table. The arguments are those of ``TableEncoding.learn``, and the same is refused.

    rows : indices of those that it is of; None: of all, but for those without a target
    binned : the columns that have bins (``TableEncoding.binned``); None: those that have if all rows are learned from
    """
    if target is not None and rows is None:
        rows = learnable(table, target, numeric=numeric).kept
    if rows is not None:
        gaps = 0 if target is None else int(table.column(target).missing.sum())
        found = report(table.select(rows), target, task=task, categorical=categorical, numeric=numeric, binned=binned)
        return found.of_rows(rows, gaps)
    names = input_names(table, target, categorical, numeric)
    table = replace(table, columns={name: _declared(name, one, numeric) for name, one in table.columns.items()})
    counted = {name: ColumnStatistics.of(column) for name, column in table.columns.items()}
    for name, one in counted.items():
        if one.least == -np.inf or one.greatest == np.inf:
            numbers_of(name, table.column(name))  # It names the row.
    doubts: list[Doubt] = [*doubts_of_names(table, counted), *doubts_of_the_last_row(table, counted)]
    told, goal = None, None
    if target is not None:
        told = _target(target, table.column(target), counted[target], task)
        goal = Goal.of(table.column(target), told.task, len(names))
        doubts += doubts_of_target(target, table.column(target), told.classes)
    free = [name for name in names if name not in numeric and table.column(name).levels is None]
    leveled = leveled_of(table, {name: counted[name] for name in free})
    columns, inputs = [], set(names)
    for name, column in table.columns.items():
        forced = "--categorical" if name in categorical else "--numeric" if name in numeric else None
        classes = len(told.classes) if told is not None and name == target else None
        columns.append(column_report(name, column, counted[name], forced, classes, leveled=name in leveled))
        if name in inputs:
            doubts += doubts_of_column(name, column, counted[name], forced, goal, table.delimiter)
    if binned is None:
        binned = _binned(table, counted, [name for name in names if name not in numeric])
    columns = [with_bins(one) if one.name in binned else one for one in columns]
    gone = [ColumnReport(name, "left out", why, "", 0, ()) for name, why in table.left_out.items()]
    return TableReport(table.m, (*columns, *gone), told, tuple(doubts))


def _declared(name: str, column: RawColumn, numeric: Collection[str]) -> RawColumn:
    """The column, numbers where it is declared to be some. TableError for the first text that is none."""
    if column.levels is None or name not in numeric:
        return column
    return replace(column, values=numbers_of(name, column), levels=None, beyond=None, stray=None)


def _binned(table: RawTable, counted: Mapping[str, ColumnStatistics], names: Sequence[str]) -> list[str]:
    """The columns that have bins if all rows are learned from."""
    numbers = [name for name in names if not is_category(table.column(name), counted[name])]
    may = [name for name in numbers if bins.may_have(table.column(name).time, table.m)]
    found = [name for name in may if bins.edges_of(bins.Sample.of(numbers_of(name, table.column(name))))]
    return found if len(found) <= bins.MOST_COLUMNS else []


def with_bins(column: ColumnReport) -> ColumnReport:
    """A column of numbers that has bins beside it."""
    return replace(column, why=f"{column.why}, and their bins")


# ---- one column ----------------------------------------------------------------------------------


def column_report(
    name: str,
    column: RawColumn,
    counted: ColumnStatistics,
    forced: str | None,
    classes: int | None,
    *,
    leveled: bool,
) -> ColumnReport:
    """How a column was understood.

    classes : of the target, how many; None: an input column;  leveled : whether it is a number and a category too
    """
    kind, why = _kind(name, column, counted, forced, leveled)
    if column.time and kind == "category" and not counted.levels:  # Dates are counted where it is asked for.
        different = np.unique(column.values[~column.missing]).tolist()
        counted = replace(counted, levels=dict.fromkeys(different, 1), beyond=0)
    shown = _levels(counted) if kind in ("category", "boolean") or classes else _range(column, counted)
    return ColumnReport(name, kind if classes is None else "target", why, shown, counted.missing, _examples(column))


def _kind(
    name: str, column: RawColumn, counted: ColumnStatistics, forced: str | None, leveled: bool
) -> tuple[str, str]:
    if counted.kind is None:
        return "left out", "missing in every row"
    if forced == "--categorical":
        return "category", "by --categorical"
    if forced == "--numeric":
        return "number", "by --numeric"
    if column.kind == "boolean":
        return "boolean", "true and false"
    if column.kind == "text":
        return "category", "text"
    if column.levels is not None:
        return "category", "declared by the file"
    if column.time:
        return "date", _why_date(name, column, counted)
    if counted.least == counted.greatest:
        return "number", "always the same, so it teaches nothing"
    if leveled:
        return "category", "small whole numbers"
    return "number", "whole numbers" if counted.whole else "numbers"


def _why_date(name: str, column: RawColumn, counted: ColumnStatistics) -> str:
    """What the seconds are of, and what the network sees: "date by %d/%m/%Y: number, weekday, month"."""
    called = {"date": "date", "clock": "time of day", "duration": "duration"}[column.time]
    by = f" by {column.format}" if column.format else ""
    return f"{called}{by}: {', '.join(['number', *date_parts(name, column, counted)])}"


def _levels(counted: ColumnStatistics) -> str:
    more = "more than " if counted.beyond else ""
    return f"{more}{len(counted.levels):,} level{'' if len(counted.levels) == 1 else 's'}"


def _range(column: RawColumn, counted: ColumnStatistics) -> str:
    if counted.least is None or counted.greatest is None:
        return _levels(counted) if counted.kind else ""
    if counted.least == counted.greatest:
        return _shown(column, counted.least)
    return f"{_shown(column, counted.least)} to {_shown(column, counted.greatest)}"


def _examples(column: RawColumn) -> tuple[str, ...]:
    """The first different values that are not missing."""
    found: dict[str, None] = {}
    first = column.select(np.arange(min(LOOKED_AT, len(column.values))))
    if first.missing.all():
        first = column.select(np.flatnonzero(~column.missing)[:LOOKED_AT])
    for value in first.values.tolist():
        if column.levels is None:
            level = None if value != value else value
        else:
            level = column.levels[value] if value < len(column.levels) else None
        if level is not None:
            found[_shown(column, level)] = None
        if len(found) == EXAMPLES:
            break
    return tuple(found)


def _shown(column: RawColumn, value: Any) -> str:
    if isinstance(value, (str, bool)):
        text = str(value).lower() if isinstance(value, bool) else value
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    if column.time and (moment := said_moment(value, column.time)):
        return moment
    if abs(value) < 1e15 and value == int(value):
        return f"{int(value):,}"
    return f"{value:,.6g}"


# ---- the target ----------------------------------------------------------------------------------


def _target(name: str, column: RawColumn, counted: ColumnStatistics, asked: str | None) -> TargetReport:
    task, classes = decide_task(name, column, asked)
    own = asked is None or _own_task(name, column) == asked
    if task == "regress":
        why = _why_regression(column, counted) if own else "by --task"
        overrule = "" if column.time else "--task classify makes each value a class"
        return TargetReport(name, task, why, overrule, ())
    why = _why_classes(column, classes) if own else "by --task"
    levels = counted.levels
    if set(levels) != set(classes) and column.levels is None:  # A target of fractions, which are not counted.
        different, counts = np.unique(column.values, return_counts=True)
        levels = dict(zip(different.tolist(), counts.tolist(), strict=True))
    overrule = "--task regress takes them as quantities" if column.levels is None else ""
    return TargetReport(name, task, why, overrule, tuple((label, int(levels.get(label, 0))) for label in classes))


def _own_task(name: str, column: RawColumn) -> str | None:
    """The task that the column makes where none is asked for; None: it makes none."""
    try:
        return decide_task(name, column, None)[0]
    except TableError:
        return None


def _why_regression(column: RawColumn, counted: ColumnStatistics) -> str:
    if column.time:
        return "it holds dates or times"
    if counted.whole:
        return f"it has more than {MOST_CLASSES} different whole numbers"
    return "its numbers are not whole"


def _why_classes(column: RawColumn, classes: Sequence[Any]) -> str:
    different = f"{len(classes)} different"
    if column.kind == "boolean":
        return "it holds true and false"
    return f"it has {different} texts" if column.kind == "text" else f"it has {different} whole numbers"
