"""``predictor``: a fitted model as a frozen function of a row, or of many: what a server asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.core import door
from fullbatch.core.classes import probabilities
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, flatten
from fullbatch.errors import InputError
from fullbatch.fold.fold import Fold
from fullbatch.machine import arrays
from fullbatch.machine.finite import check_finite
from fullbatch.machine.threads import of_jobs
from fullbatch.serving.worker import Worker
from fullbatch.sources import Checked

if TYPE_CHECKING:
    from fullbatch.serving.tables import TablePredictor

TAKEN = "a fitted MLPClassifier, MLPRegressor, LogisticRegression, TableClassifier or TableRegressor"


def predictor(model: Any) -> Predictor | TablePredictor:
    """A fitted model as a frozen function of one row, or of many, for a server or a loop.

    Parameters
    ----------
    model : estimator
        A fitted MLPClassifier, MLPRegressor, LogisticRegression, TableClassifier or TableRegressor, or what
        ``fullbatch.load`` read. It is copied: to fit it again does not change the predictor.

    Returns
    -------
    Predictor or TablePredictor
        Called with a row it gives an array (k,), the probability of each class in the order of its ``classes``; of a
        regression a float, or (n[L],) of several outputs. Called with a batch it gives what ``predict_proba`` gives,
        or of a regression ``predict``. Its ``predict`` gives labels: of a row a plain Python value.

        A row is a dict {column: value}, a tuple or list of the values in the order of ``features``, or an array (n,). A
        batch is an array (m, n), a list of rows, or a data frame; for a table's model also whatever else a table is.

        With the native step a row has the very bits that it has in a batch: an array's as of its own dtype, other rows
        as of float64. It is computed on the CPU, by the caller's thread.

    Raises
    ------
    InputError
        Here for a model that is not fitted, or of another kind. By a call, for a row with a key that is missing or
        unknown, a text where a number is due, NaN or infinity where the model takes none, another number of values:
        the message names the column.

    See Also
    --------
    to_onnx : for places without Python.

    Notes
    -----
    It may be called from any number of threads at once; each has its own buffers. A pickle of it has the parameters and
    the encoding and no more, and to load it, and to call it, brings no scikit-learn. It runs nothing at import, so that
    a process may fork after it was made.

    A server, here FastAPI (``def``, not ``async def``: FastAPI then calls it on its threads), where a dict that does
    not fit is the client's error:

    .. code-block:: python

        import fullbatch as fb
        from fastapi import FastAPI, HTTPException
        from fullbatch.errors import InputError

        app, ask = FastAPI(), fb.predictor(fb.load("late.fbm"))

        @app.post("/predict")
        def predict(row: dict):
            try:
                return dict(zip(map(str, ask.classes), ask(row).tolist()))
            except InputError as error:
                raise HTTPException(422, str(error))

    A loop over what comes in, line by line:

    .. code-block:: python

        for line in sys.stdin:
            print(ask.predict(json.loads(line)), flush=True)

    Examples
    --------
    >>> import numpy as np
    >>> import fullbatch as fb
    >>> X = np.random.default_rng(0).random((200, 2))
    >>> model = fb.LogisticRegression().fit(X, X[:, 0] > X[:, 1])
    >>> ask = fb.predictor(model)
    >>> ask.predict((0.9, 0.1)), ask((0.9, 0.1)).shape, ask(X).shape
    (True, (2,), (200, 2))
    >>> bool(np.all(ask((0.9, 0.1)) == model.predict_proba([[0.9, 0.1]])[0]))
    True
    """
    from fullbatch.serving.tables import TablePredictor
    from fullbatch.tables.network import TableNetwork

    kind = type(model).__name__
    if isinstance(model, TableNetwork):
        return TablePredictor.of(model)
    ours = type(model).__module__.startswith("fullbatch.") and hasattr(model, "get_params")
    if not ours:
        raise InputError(f"a predictor cannot be made of a {kind}; expected {TAKEN}.")
    if hasattr(model, "network_"):
        return TablePredictor.of(model._network())
    if not hasattr(model, "coefs_"):
        raise InputError(f"this {kind} is not fitted, so there is nothing to predict by; call fit first.")
    return Predictor.of(model)


class Pool:
    """Workers that nobody uses. A list's ``pop`` and ``append`` are atomic, so that no lock is needed."""

    def __init__(self, network: Network, theta: np.ndarray, sparse: int = 0) -> None:
        self.network, self.theta, self.sparse = network, theta, sparse
        self.free: list[Worker] = []

    def take(self) -> Worker:
        try:
            return self.free.pop()
        except IndexError:
            return Worker(self.network, self.theta, self.sparse)


class Predictor:
    """Predicts rows of numbers; ``fullbatch.predictor`` makes one.

    classes : the labels, in the order of the probabilities; None of a regression
    features : the names of the values of a row; None where the model was fitted without names
    """

    classes: tuple[Any, ...] | None
    features: tuple[str, ...] | None
    _network: Network
    _theta: np.ndarray
    _multilabel: bool
    _names: frozenset[str] | None
    _values_of: Callable[[Any], tuple[Any, ...]]
    _pack: Callable[..., None]
    _pools: dict[np.dtype, Pool]

    def __init__(
        self,
        network: Network,
        theta: np.ndarray,
        classes: tuple[Any, ...] | None,
        features: tuple[str, ...] | None,
        multilabel: bool,
    ) -> None:
        theta.flags.writeable = False
        self.__dict__.update(
            classes=classes,
            features=features,
            _network=network,
            _theta=theta,
            _multilabel=multilabel,
            _names=None if features is None else frozenset(features),
            _values_of=getter(features or ()),
            _pack=Struct(f"={network.sizes[0]}d").pack_into,
            _pools={np.dtype(name): Pool(network, theta.astype(name)) for name in arrays.FLOATS},
        )

    @classmethod
    def of(cls, model: Any) -> Predictor:
        """Of a fitted estimator."""
        layers = [
            Layer(arrays.to_host(W).T, arrays.to_host(b)) for W, b in zip(model.coefs_, model.intercepts_, strict=True)
        ]
        found, names = getattr(model, "classes_", None), getattr(model, "feature_names_in_", None)
        classes = None if found is None else tuple(np.asarray(arrays.to_host(found)).tolist())
        multilabel = classes is not None and bool(model._multilabel)
        named = None if names is None else tuple(map(str, names))
        return cls(model._network(), flatten(tuple(layers)), classes, named, multilabel)

    def __reduce__(self) -> Any:
        return type(self), (self._network, self._theta, self.classes, self.features, self._multilabel)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a predictor is frozen; make another one of a fitted model.")

    def __repr__(self) -> str:
        return f"Predictor({self._network!r}, classes={self.classes!r})"

    def __call__(self, rows: Any) -> Any:
        """Probabilities (k,) of a row, (m, k) of a batch; of a regression a number, or (m,)."""
        yhat = self._row(rows)
        return self._batch(rows, self._finished) if yhat is None else self._finish(yhat)

    def predict(self, rows: Any) -> Any:
        """The label of a row, or of each row of a batch, (m,); of a regression the number."""
        yhat = self._row(rows)
        if self.classes is None:
            return self._batch(rows, self._finished) if yhat is None else self._finish(yhat)
        return self._batch(rows, self._labels) if yhat is None else self._label(yhat)

    # One row

    def _row(self, row: Any) -> Any:
        """yhat (n[L],) of a row, good only until it is returned; None: it is a batch."""
        kind = type(row)
        if kind is np.ndarray:
            pool = self._pools.get(row.dtype) if row.ndim == 1 else None
            if pool is None or len(row) != self._network.sizes[0]:
                return self._other(row)
            worker = pool.take()
            worker.values[:] = row
        else:
            if kind is dict:
                if self._names is None or len(row) != len(self._names):
                    return self._other(row)
                try:
                    values = self._values_of(row)
                except KeyError:
                    return self._other(row)
            elif kind is tuple or kind is list:
                values = row
            else:
                return self._other(row)
            pool = self._pools[_FLOAT64]
            worker = pool.take()
            try:
                self._pack(worker.values, 0, *values)
            except (StructError, OverflowError):
                pool.free.append(worker)
                return self._other(row)
        if not worker.is_finite():
            pool.free.append(worker)
            return self._other(row)
        worker.run()
        yhat = worker.out.copy()
        pool.free.append(worker)
        return yhat

    def _other(self, row: Any) -> Any:
        """yhat of a row that is no plain one, or InputError with what is wrong; None: it is a batch."""
        n = self._network.sizes[0]
        if isinstance(row, Mapping):
            if any(isinstance(value, (list, tuple, np.ndarray)) for value in row.values()):
                raise InputError("a dict of columns is no row; give a data frame, or an array (m, n).")
            return self._row(self._by_name(row))
        if isinstance(row, (tuple, list)) and not (row and _is_row(row[0])):
            return self._row(self._checked(row))
        if getattr(row, "ndim", 0) == 1 and arrays.is_array(row):
            values = arrays.to_host(door.admitted("the row", row))
            if values.dtype.kind not in "biuf":
                return self._row(self._checked(values.tolist()))
            if len(values) != n:
                raise InputError(f"a row has {len(values)} values, and the model takes {n}.")
            values = values.astype(values.dtype.name if values.dtype.name in arrays.FLOATS else "float64")
            check_finite(values[np.newaxis], "X", self.features)
            return self._row(values)
        return None

    def _by_name(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        if self._names is None or self.features is None:
            raise InputError(
                f"the model was fitted without names, so a row is a tuple or an array of {self._network.sizes[0]} "
                "values; fit it on a data frame to ask by name."
            )
        check_keys(row, self.features)
        return tuple(row[name] for name in self.features)

    def _checked(self, values: Sequence[Any]) -> tuple[float, ...]:
        """The values of a row as floats, or an InputError that names the one that is none."""
        if len(values) != self._network.sizes[0]:
            raise InputError(f"a row has {len(values)} values, and the model takes {self._network.sizes[0]}.")
        found = []
        for j, value in enumerate(values):
            name = f"value {j}" if self.features is None else f"value {j} ({self.features[j]!r})"
            number = None if isinstance(value, (str, bytes)) or value is None else _as_float(value)
            if number is None:
                raise InputError(f"{name} of a row must be a number; it is {value!r}.")
            if number != number or number in (np.inf, -np.inf):
                raise InputError(f"{name} of a row must be finite; it is {number}. Fill or mend it first.")
            found.append(number)
        return tuple(found)

    def _finish(self, yhat: np.ndarray) -> Any:
        if self.classes is None:
            return float(yhat[0]) if len(yhat) == 1 else yhat
        if self._multilabel:
            return yhat
        if len(self.classes) == 1:
            return np.ones_like(yhat)
        return row_probabilities(yhat)

    def _label(self, yhat: np.ndarray) -> Any:
        assert self.classes is not None
        if self._multilabel:
            return (yhat > 0.5).astype(np.int64)
        if len(yhat) > 1:
            return self.classes[int(yhat.argmax())]
        return self.classes[1 if len(self.classes) > 1 and yhat[0] > 0.5 else 0]

    # A batch

    def _batch(self, rows: Any, finish: Any) -> Any:
        X = self.table(rows)
        if X.ndim != 2 or X.shape[1] != self._network.sizes[0]:
            raise InputError(f"a batch has the shape {X.shape}, and the model takes (m, {self._network.sizes[0]}).")
        if not len(X):
            raise InputError("a batch has no rows; expected at least one.")
        with Fold(self._network, Checked(X.T, columns=self.features), threads=of_jobs(None)) as fold:
            return fold.predict(self._pools[X.dtype].theta, finish).T

    def table(self, rows: Any) -> np.ndarray:
        """A batch as an array (m, n) of float32 or float64."""
        if isinstance(rows, (list, tuple)):
            rows = [self._by_name(row) if isinstance(row, Mapping) else row for row in rows]
            if all(isinstance(row, (list, tuple)) for row in rows):
                return np.array([self._checked(row) for row in rows], np.float64)
            rows = np.array(rows) if all(isinstance(row, np.ndarray) for row in rows) else None
        columns = getattr(rows, "columns", None)
        if columns is not None and self.features is not None:
            names = [str(name) for name in columns]
            check_keys(dict.fromkeys(names), self.features)
            rows = np.array([np.asarray(rows[name]) for name in self.features]).T
        elif columns is not None:
            rows = np.asarray(rows)
        if rows is None or not arrays.is_array(rows):
            raise InputError(
                "expected a row (a dict, a tuple, an array) or a batch (an array, a frame, a list of rows)."
            )
        X = arrays.to_host(door.admitted("X", rows))
        if X.dtype.kind not in "biuf" and X.ndim == 2:
            return np.array([self._checked(row) for row in X.tolist()], np.float64)
        return X.astype(X.dtype.name if X.dtype.name in arrays.FLOATS else "float64", copy=False)

    # What is made of a block's yhat (n[L], k), while it lies in the caches: (..., k).

    def _finished(self, yhat: np.ndarray) -> np.ndarray:
        if self.classes is None:
            return yhat[0] if len(yhat) == 1 else yhat
        if self._multilabel:
            return yhat
        return np.ones_like(yhat) if len(self.classes) == 1 else probabilities(yhat)

    def _labels(self, yhat: np.ndarray) -> np.ndarray:
        if self._multilabel:
            return (yhat > 0.5).astype(np.int64)
        codes = yhat.argmax(axis=0) if len(yhat) > 1 else (yhat[0] > 0.5) & (len(self.classes or ()) > 1)
        return np.array(self.classes)[codes.astype(np.intp)]


_FLOAT64 = np.dtype("float64")


def getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What takes the values of these names from a dict, in their order."""
    return itemgetter(*names) if len(names) > 1 else lambda row: tuple(row[name] for name in names)


def row_probabilities(yhat: np.ndarray) -> np.ndarray:
    """``probabilities`` of one row, (k,) of (n[L],), without a look at the array's library, which takes longer."""
    if len(yhat) > 1:
        return yhat
    both = np.empty(2, yhat.dtype)
    both[1] = second = yhat[0]
    both[0] = 1 - second
    return both


def check_keys(row: Mapping[str, Any], names: Sequence[str], ignored: frozenset[str] = frozenset()) -> None:
    """InputError where a row has not the columns ``names``, or others than these and the ignored ones."""
    missing = [name for name in names if name not in row]
    unknown = [str(name) for name in row if name not in names and name not in ignored]
    if missing or unknown:
        import difflib

        parts = [f"has no {', '.join(map(repr, missing))}"] if missing else []
        parts += [f"has {', '.join(map(repr, unknown))}, which the model does not know"] if unknown else []
        near = [match for name in unknown for match in difflib.get_close_matches(name, missing or names, n=1)]
        cure = "Give each column that it was fitted on" if missing else "Leave that out"
        hint = f" Did you mean {', '.join(map(repr, near))}?" if near else f" {cure}."
        raise InputError(f"a row {' and '.join(parts)}.{hint}")


def _is_row(value: Any) -> bool:
    return isinstance(value, (list, tuple, Mapping)) or getattr(value, "ndim", 0) > 0


def _as_float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
