"""A model and the rows that it is asked for, as scikit-learn's inspection takes them.

scikit-learn permutes the columns of an array, and puts single values into them. Raw columns are of many kinds and lie
in no array; so it is given an array (m, c) of row numbers: entry (i, j) says from which row the value of column j is
taken for row i. However its entries are permuted or replaced, it still says that, and pandas is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from fullbatch.errors import InputError, TableError
from fullbatch.estimators.inputs import read_weight
from fullbatch.serving.predictor import Predictor
from fullbatch.serving.tables import TablePredictor
from fullbatch.tables.frames import as_table, column_names
from fullbatch.tables.raw import Conventions, RawColumn, RawTable
from fullbatch.tables.roles import weights_of


class Column(NamedTuple):
    """A raw column to draw: numbers (m,), NaN where missing; or codes of ``levels``, beyond them where missing."""

    name: str
    values: np.ndarray
    levels: tuple[str, ...] | None
    time: str = ""

    def grid(self, most: int) -> tuple[np.ndarray, list[str], list[float] | None]:
        """Rows with different values of it, at most so many; how they are called; as numbers, if they are any.

        Of numbers, quantiles of what is there (``_spread``); of levels the most frequent ones, and a missing value.
        """
        if self.levels is not None:
            codes, first, counts = np.unique(self.values, return_index=True, return_counts=True)
            chosen = np.sort(np.argsort(-counts, kind="stable")[:most])
            known = [*self.levels, "(missing)"]
            return first[chosen], [known[min(int(code), len(self.levels))] for code in codes[chosen]], None
        there = np.flatnonzero(~np.isnan(self.values))
        different, first = np.unique(self.values[there], return_index=True)
        if len(different) > most:
            wanted = _spread(np.sort(self.values[there]), most)
            first = first[np.searchsorted(different, wanted)]
            different = wanted
        return there[first], [self.shown(value) for value in different.tolist()], different.tolist()

    def text(self, row: int) -> str:
        """A row's value; "" for a missing one."""
        value = self.values[row]
        if self.levels is not None:
            return self.levels[int(value)] if value < len(self.levels) else ""
        return "" if np.isnan(value) else self.shown(float(value))

    def shown(self, value: float) -> str:
        """A number as a reader expects it."""
        if self.time == "date":
            return str(np.datetime64(int(value), "s")).removesuffix("T00:00:00")
        return f"{value:.6g}"


def _spread(ordered: np.ndarray, most: int) -> np.ndarray:
    """At most so many values, at equal shares of the rows; one of many rows is taken once, others fill its places."""
    chosen = np.empty(0)
    while len(chosen) < most and len(rest := ordered[~np.isin(ordered, chosen)]):
        places = np.linspace(0.02, 0.98, most - len(chosen)) * (len(rest) - 1)
        chosen = np.union1d(chosen, rest[np.rint(places).astype(np.intp)])
    return chosen


class Rows:
    """What a model is asked for: its raw columns, and of each row the target where it is known.

    target : codes of ``classes``, or numbers, (m,); None: it is not known
    weight : what each row counts, (m,), above 0; None: all count the same
    left_out : how many rows were given whose target is missing;  of_weight_0 : how many that count for nothing
    """

    names: tuple[str, ...]
    classes: tuple[Any, ...]
    target_name: str
    threshold: float | None = None
    target: np.ndarray | None = None
    weight: np.ndarray | None = None
    left_out = of_weight_0 = 0
    m: int

    def predict(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Probabilities (k, classes), or numbers (k,), of the rows as they are.

        rows : (k, c), from which row each value is taken instead
        """
        raise NotImplementedError

    def take(self, rows: np.ndarray) -> Rows:
        """These rows alone."""
        raise NotImplementedError

    def column(self, j: int) -> Column:
        raise NotImplementedError

    def cells(self, row: int) -> list[str]:
        """A row's values as text."""
        raise NotImplementedError


class RawRows(Rows):
    """Of a table."""

    def __init__(
        self, ask: TablePredictor, table: RawTable, target: np.ndarray | None, weight: np.ndarray | None
    ) -> None:
        encoding = ask._network.encoding
        self.ask, self.table, self.target, self.m, self.weight = ask, table, target, table.m, weight
        self.names, self.classes = encoding.feature_names, tuple(encoding.classes)
        self.target_name = str(encoding.target)
        self.threshold = ask._network.threshold

    def predict(self, rows: np.ndarray | None = None) -> np.ndarray:
        table = self.table if rows is None else self._put_together(rows)
        return np.asarray(self.ask(table))

    def _put_together(self, rows: np.ndarray) -> RawTable:
        as_they_are = np.arange(self.m)
        columns: dict[str, RawColumn] = {}
        for j, name in enumerate(self.names):
            where = rows[:, j].astype(np.intp)
            column = self.table.columns[name]
            columns[name] = column if np.array_equal(where, as_they_are) else column.select(where)
        return replace(self.table, columns=columns, m=len(rows))

    def take(self, rows: np.ndarray) -> RawRows:
        return RawRows(self.ask, self.table.select(rows), _of(self.target, rows), _of(self.weight, rows))

    def column(self, j: int) -> Column:
        raw = self.table.columns[self.names[j]]
        if raw.levels is None:
            return Column(self.names[j], raw.values.astype(np.float64), None, raw.time)
        return Column(self.names[j], raw.values.astype(np.intp), tuple(map(str, raw.levels)))

    def cells(self, row: int) -> list[str]:
        return [self.column(j).text(row) for j in range(len(self.names))]


class NumberRows(Rows):
    """Of an array (m, n)."""

    def __init__(self, ask: Predictor, X: np.ndarray, target: np.ndarray | None, weight: np.ndarray | None) -> None:
        self.ask, self.X, self.target, self.m, self.weight = ask, X, target, len(X), weight
        self.names = ask.features or tuple(f"x{j}" for j in range(X.shape[1]))
        self.classes, self.target_name = ask.classes or (), "y"

    def predict(self, rows: np.ndarray | None = None) -> np.ndarray:
        X = self.X if rows is None else np.take_along_axis(self.X, rows.astype(np.intp), axis=0)
        return np.asarray(self.ask(X))

    def take(self, rows: np.ndarray) -> NumberRows:
        return NumberRows(self.ask, self.X[rows], _of(self.target, rows), _of(self.weight, rows))

    def column(self, j: int) -> Column:
        return Column(self.names[j], self.X[:, j].astype(np.float64), None)

    def cells(self, row: int) -> list[str]:
        return [f"{value:.6g}" for value in self.X[row].tolist()]


def _of(values: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[rows]


# ---- from what a caller has ------------------------------------------------------------------------


def rows_of(ask: Predictor | TablePredictor, X: Any, y: Any, sample_weight: Any = None) -> Rows:
    """The rows of X to ask a model for, with the target, y or the column of X, where there is one.

    sample_weight : what each row counts, or the name of the column of X that has it; rows of weight 0 are left out
    """
    rows = _numbers(ask, X, y, sample_weight) if isinstance(ask, Predictor) else _raw(ask, X, y, sample_weight)
    if rows.weight is None or (rows.weight > 0).all():
        return rows
    kept = rows.take(np.flatnonzero(rows.weight > 0))
    kept.left_out, kept.of_weight_0 = rows.left_out, rows.m - kept.m
    return kept


def _raw(ask: TablePredictor, X: Any, y: Any, sample_weight: Any) -> RawRows:
    network, target = ask._network, ask._network.encoding.target
    inside = y is None and target is not None and target in column_names(X)
    column = sample_weight if isinstance(sample_weight, str) else None
    table = network.read(X, with_target=inside, more=[] if column is None else [column])
    own = column is None
    weight = read_weight(sample_weight, table.m, "float64") if own else weights_of(table, str(column), "float64")
    if y is not None:
        given = {str(target): y if hasattr(y, "__arrow_c_stream__") else np.asarray(y)}
        conventions = Conventions.of(network.encoding)
        beside = as_table(given, text=network.encoding.text_names, conventions=conventions)
        if beside.m != table.m:
            raise InputError(f"X has {table.m} rows and y has {beside.m}; each row has one target.")
        table = replace(table, columns={**table.columns, **beside.columns})
    if target is None or target not in table.columns:
        return RawRows(ask, table, None, weight)
    gaps = table.column(target).missing
    if gaps.all():
        raise TableError(f"target {target!r} is missing in every row; expected at least one row that has it.")
    if gaps.any():
        there = np.flatnonzero(~gaps)
        table, weight = table.select(there), _of(weight, there)
    codes = network.encoding.encode_target(table)
    known = codes if network.classes else network.encoding.decode_target(codes, predicted=False)
    rows = RawRows(ask, table, known, weight)
    rows.left_out = int(gaps.sum())
    return rows


def _numbers(ask: Predictor, X: Any, y: Any, sample_weight: Any) -> NumberRows:
    if ask._multilabel or (ask.classes is None and ask._network.sizes[-1] > 1):
        raise InputError("a model of several targets is not explained; make one of each target.")
    if hasattr(X, "nnz") and hasattr(X, "toarray"):
        raise InputError("X is a sparse matrix, whose columns are not permuted here; give X.toarray().")
    table = ask.table(X)
    if table.ndim != 2 or table.shape[1] != ask._network.sizes[0]:
        raise InputError(f"X has the shape {table.shape}, and the model takes (m, {ask._network.sizes[0]}).")
    if isinstance(sample_weight, str):
        raise InputError("sample_weight names a column, and an array of numbers has none; give the weights themselves.")
    weight = read_weight(sample_weight, len(table), "float64")
    if y is None:
        return NumberRows(ask, table, None, weight)
    target = np.asarray(y)
    if target.shape != (len(table),):
        raise InputError(f"X has {len(table)} rows and y the shape {target.shape}; expected ({len(table)},).")
    if ask.classes is None:
        return NumberRows(ask, table, target.astype(np.float64), weight)
    position = {label: code for code, label in enumerate(ask.classes)}
    codes = [position.get(label, -1) for label in target.tolist()]
    if -1 in codes:
        row = codes.index(-1)
        label = target.tolist()[row]
        raise InputError(f"y has {label!r} in row {row}, a class that training had not; it had {ask.classes}.")
    return NumberRows(ask, table, np.array(codes), weight)


# ---- for scikit-learn -------------------------------------------------------------------------------


class _Asked(BaseEstimator):
    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def fit(self, X: Any, y: Any) -> Any:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


class _AskedForClasses(ClassifierMixin, _Asked):
    @property
    def classes_(self) -> np.ndarray:
        return np.arange(len(self.rows.classes))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.rows.predict(X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        from fullbatch.tables.scores import decide

        return decide(self.rows.predict(X), self.rows.threshold)


class _AskedForNumbers(RegressorMixin, _Asked):
    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.rows.predict(X)


def as_estimator(rows: Rows) -> Any:
    """A fitted estimator of scikit-learn's whose X are numbers of rows, (k, c)."""
    return _AskedForClasses(rows) if rows.classes else _AskedForNumbers(rows)


def numbered(rows: Rows) -> np.ndarray:
    """The X that stands for the rows as they are, (m, c)."""
    return np.repeat(np.arange(rows.m, dtype=np.float64)[:, np.newaxis], len(rows.names), axis=1)


def names_of(classes: Sequence[Any]) -> list[str]:
    """The classes as they are written."""
    return [str(label).lower() if isinstance(label, bool) else str(label) for label in classes]
