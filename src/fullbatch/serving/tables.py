"""A predictor of raw rows: texts, categories, dates, numbers and gaps, as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fullbatch.errors import InputError
from fullbatch.machine import arrays
from fullbatch.serving.predictor import Pool, check_keys, getter, row_probabilities
from fullbatch.serving.rows import RowEncoding
from fullbatch.serving.worker import takes_sparse
from fullbatch.tables.network import TableNetwork


class TablePredictor:
    """Predicts raw rows; ``fullbatch.predictor`` makes one.

    classes : the labels, in the order of the probabilities; None of a regression
    features : the columns of a row, in the training table's order
    """

    classes: tuple[Any, ...] | None
    features: tuple[str, ...]
    _network: TableNetwork
    _ignored: frozenset[str]
    _rows: RowEncoding
    _values_of: Callable[[Any], tuple[Any, ...]]
    _pool: Pool

    def __init__(self, network: TableNetwork, ignored: frozenset[str]) -> None:
        encoding, theta = network.encoding, np.array(network.theta)
        width = RowEncoding(encoding, False).width
        sparse = takes_sparse(network.network, encoding.dtype, width)
        theta.flags.writeable = False
        self.__dict__.update(
            classes=encoding.classes if network.task == "classify" else None,
            features=encoding.feature_names,
            _network=network,
            _ignored=ignored,
            _rows=RowEncoding(encoding, sparse),
            _values_of=getter(encoding.feature_names),
            _pool=Pool(network.network, theta, width if sparse else 0),
        )

    @classmethod
    def of(cls, network: TableNetwork) -> TablePredictor:
        """Of a table's network, without the record of how it was made, on the CPU."""
        known = {column["name"] for column in network.record.get("report", {}).get("columns", ())}
        own = copy.copy(network)
        own.record, own.device, own.device_memory, own.theta = {}, "cpu", None, np.array(network.theta)
        return cls(own, frozenset({*known, network.encoding.target} - {None, *network.encoding.feature_names}))

    def __reduce__(self) -> Any:
        return type(self), (self._network, self._ignored)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a predictor is frozen; make another one of a fitted model.")

    def __repr__(self) -> str:
        return f"TablePredictor({self._network!r})"

    def __call__(self, rows: Any) -> Any:
        """Probabilities (k,) of a row, (m, k) of a batch; of a regression a number, or (m,)."""
        yhat = self._row(rows)
        if self.classes is None:
            return self._network.predict(self._batch(rows)) if yhat is None else self._number(yhat)
        return self._network.predict_proba(self._batch(rows)) if yhat is None else row_probabilities(yhat)

    def predict(self, rows: Any) -> Any:
        """The label of a row, by the model's threshold, or of each row of a batch, (m,); of a regression the number."""
        yhat = self._row(rows)
        if yhat is None:
            return self._network.predict(self._batch(rows))
        if self.classes is None:
            return self._number(yhat)
        proba, threshold = row_probabilities(yhat), self._network.threshold
        code = int(proba.argmax()) if threshold is None else int(proba[1] >= threshold)
        return self.classes[code]

    def _row(self, row: Any) -> Any:
        """yhat (n[L],) of a row; None: it is a batch."""
        kind = type(row)
        values: Any
        if kind is dict and len(row) == len(self.features):
            try:
                values = self._values_of(row)
            except KeyError:
                values = self._values(row)
        else:
            values = row if kind is tuple and len(row) == len(self.features) else self._values(row)
        if values is None:
            return None
        worker = self._pool.take()
        self._rows.write(values, worker)
        worker.run()
        yhat = worker.out.copy()
        self._pool.free.append(worker)
        return yhat

    def _values(self, row: Any) -> Any:
        """The values of a row that is no plain one, in order; InputError with what is wrong; None: it is a batch."""
        if isinstance(row, Mapping):
            if any(hasattr(value, "__len__") and not isinstance(value, (str, bytes)) for value in row.values()):
                return None  # a dict of columns is a table
            check_keys(row, self.features, self._ignored)
            return tuple(row[name] for name in self.features)
        if isinstance(row, (tuple, list)):
            if row and isinstance(row[0], (list, tuple, Mapping, np.ndarray)):
                return None
            values = tuple(row)
        elif getattr(row, "ndim", 0) == 1 and arrays.is_array(row):
            values = tuple(arrays.to_host(row).tolist())
        else:
            return None
        if len(values) != len(self.features):
            raise InputError(f"a row has {len(values)} values, and the model takes {len(self.features)}.")
        return values

    def _batch(self, rows: Any) -> Any:
        """What ``TableNetwork`` reads as a table. Rows without names have the columns in the training table's order."""
        if isinstance(rows, (list, tuple)) and rows and isinstance(rows[0], (list, tuple, Mapping, np.ndarray)):
            listed = [self._values(row) for row in rows]
            return dict(zip(self.features, map(list, zip(*listed, strict=True)), strict=True))
        if arrays.is_array(rows) and getattr(rows, "ndim", 0) == 2:
            X = arrays.to_host(rows)
            if X.shape[1] != len(self.features):
                raise InputError(f"a batch has the shape {X.shape}, and the model takes (m, {len(self.features)}).")
            return {name: X[:, j] for j, name in enumerate(self.features)}
        return rows

    def _number(self, yhat: np.ndarray) -> float:
        return float(self._network.encoding.decode_target(yhat)[0])
