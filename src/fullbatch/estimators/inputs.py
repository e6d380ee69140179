"""What a caller hands to an estimator, checked and made into sources: the table X, the target y, the weights.

Here examples are rows, as everywhere in scikit-learn: X (m, n). Tables on the host go through scikit-learn's own
checks. Arrays on a device are checked by us, because scikit-learn refuses them unless SCIPY_ARRAY_API is set.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from numbers import Number
from typing import Any

import numpy as np
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data

from fullbatch.core import door
from fullbatch.core.network import Network
from fullbatch.core.probe import check_able
from fullbatch.errors import ArrayTypeError
from fullbatch.estimators import frames
from fullbatch.estimators.sparse import check_structure
from fullbatch.fold.few import FEW
from fullbatch.machine import arrays, places
from fullbatch.machine.finite import check_finite, not_finite, row_blocks
from fullbatch.machine.places import Place
from fullbatch.machine.threads import of_jobs, thread_count
from fullbatch.sources import Checked, Columns, Dense, OneHot, Sparse, Uploaded
from fullbatch.sources.placing import as_whole
from fullbatch.sources.sharded import Sharded
from fullbatch.sources.spread import Spread


@dataclass(frozen=True)
class Inputs:
    """A table that was checked.

    X : its examples, at ``place``;  home : where the caller's table lies: fitted attributes and predictions go there
    place : where the passes run;  budget : bytes that are left there for them and for more data
    """

    X: Columns
    home: Place
    place: Place
    budget: float = math.inf

    @property
    def away(self) -> bool:
        """Whether the passes run elsewhere than where the caller's table lies."""
        return self.home.name != self.place.name

    def resident(self, budget: float, target: int = 0, weight: int = 0) -> Inputs:
        """The same, with its table at ``place`` as a whole where it fits into so many bytes: see ``as_whole``."""
        X, left = as_whole(self.X, budget, target, weight)
        return replace(self, X=X, budget=left)

    @property
    def dtype(self) -> str:
        return arrays.dtype_name(self.X.like)


# --- X ---------------------------------------------------------------------------------------------------------------


def read_inputs(estimator: Any, X: Any, *, reset: bool, dtype: str | None = None, while_read: bool = False) -> Inputs:
    """The caller's X (m, n) as a source: a table of any kind, an array of any library, or a ``Columns`` already.

    reset : remember the number of features and their names, as ``fit`` does, instead of comparing with them
    dtype : convert to this one; None keeps float32 and float64, and makes everything else float64
    while_read : a dense table on the host that is computed there may be looked at for NaN and infinity as it is read

    Raises ValueError or TypeError in scikit-learn's words; NaN and infinity with row and column. ArrayTypeError for a
    mask, a unit or names that would be dropped, a lazy table, and a library that cannot do the pass.
    """
    if is_source(X):
        return _read_source(estimator, X, reset, dtype)
    X = native_order(door.admitted("X", X))
    if is_device_array(X):
        check_able(X, Network)
        door.check_known("X", X)
        place = places.home(X, estimator.device)
        with place.computing():
            table = _read_device_array(estimator, X, reset, dtype)
        return Inputs(Dense(table.T), place, place)
    table = _read_host_table(estimator, X, reset, dtype)
    names = getattr(estimator, "feature_names_in_", None)
    if hasattr(table, "indptr"):
        _check_finite_sparse(table, names)
        return placed(Sparse(table), estimator.device)
    if while_read and len(table) > FEW:
        inputs = placed(Checked(table.T, columns=names), estimator.device)
        if isinstance(inputs.X, Checked):
            return inputs
    check_finite(table, "X", names, threads=thread_count(of_jobs(getattr(estimator, "n_jobs", None))))
    return placed(Dense(table.T), estimator.device)


def read_plain(estimator: Any, X: Any) -> Inputs | None:
    """What ``read_inputs`` would give to predict by, of a few rows that there is nothing to say against; else None.

    scikit-learn's checks take longer than to predict such rows.
    """
    if type(X) is not np.ndarray or X.dtype not in arrays.NUMPY_FLOATS or X.ndim != 2 or not 0 < len(X) <= FEW:
        return None
    if X.shape[1] != estimator.n_features_in_ or hasattr(estimator, "feature_names_in_"):
        return None
    with arrays.quiet():
        return placed(Dense(X.T), estimator.device) if math.isfinite(X.sum()) else None


def placed(source: Columns, device: str) -> Inputs:
    """A host source as inputs for the device that ``device=`` names."""
    home = places.place("cpu")
    if len(several := places.several(device)) > 1:
        return Inputs(Spread.over(source, several), home, home)
    # What lies on a cluster is computed there; "auto" does not mean this machine's GPU then.
    place = home if isinstance(source, Sharded) and device == "auto" else places.place(device)
    return Inputs(source if place.name == "cpu" else Uploaded(source, place), home, place)


def is_source(X: Any) -> bool:
    """Whether X is a ``Columns`` source, which is used as it is."""
    return callable(getattr(X, "reader", None)) and hasattr(X, "like")


def on_host(name: str, given: Any) -> Any:
    """What a caller handed over beside X, through the same door, and brought to the host if it is an array.

    Numbers are in this machine's byte order from here on.
    """
    given = door.admitted(name, given)
    return native_order(arrays.to_host(given) if is_device_array(given) else given)


def native_order(given: Any) -> Any:
    """An array of NumPy or a matrix of SciPy in this machine's byte order; a copy only of one in the other order."""
    dtype = getattr(given, "dtype", None)
    if not isinstance(dtype, np.dtype) or dtype.isnative:
        return given
    return given.astype(dtype.newbyteorder("="))


def is_device_array(X: Any) -> bool:
    """Whether X is an array of a library other than NumPy, wherever it lies."""
    return not isinstance(X, (np.ndarray, np.generic)) and arrays.is_array(X)


def _read_source(estimator: Any, X: Columns, reset: bool, dtype: str | None) -> Inputs:
    found = arrays.dtype_name(X.like)
    if found not in arrays.FLOATS or dtype not in (None, found):
        raise ArrayTypeError(f"X is a source of {found} and it must be of {dtype or 'float32 or float64'}.")
    _check_rows(estimator, (X.m, X.n))
    check_features(estimator, X.n, reset)
    if arrays.is_numpy(X.like):
        return placed(X, estimator.device)
    check_able(X.like, Network)
    place = places.place_of(X.like)
    return Inputs(X, place, place)


def _read_host_table(estimator: Any, X: Any, reset: bool, dtype: str | None) -> Any:
    """A NumPy array or a CSR matrix, by scikit-learn's checks; what is not finite is left for us, to name the place.

    Arrow data and frames that exchange it come with their names and their dtype, which not all keep on the way to
    scikit-learn. Only pandas is left to it, because it reads that without a copy.
    """
    if isinstance(X, (list, tuple)):
        X = _read_list(X)
    check_structure(X)
    arrow = frames.arrow_table(X)
    frames.refuse_times(X, arrow)
    dtypes = (np.float64, np.float32) if dtype is None else np.dtype(dtype)
    checks: dict[str, Any] = {"accept_sparse": "csr", "dtype": dtypes, "ensure_all_finite": False}
    if arrow is None:
        return validate_data(estimator, X, reset=reset, **checks)
    # Without a row scikit-learn looks at the names alone, and their number.
    named = X.iloc[:0] if frames.is_pandas(X) else arrow.slice(0, 0)
    validate_data(estimator, named, skip_check_array=True, reset=reset)
    return check_array(frames.numbers(arrow, dtype), estimator=estimator, input_name="X", **checks)


def _read_list(rows: Any) -> Any:
    """What NumPy makes of a list, where it makes something of it; the rest is scikit-learn's to refuse."""
    try:
        return np.asarray(rows)
    except (TypeError, ValueError):
        return rows


def _read_device_array(estimator: Any, X: Any, reset: bool, dtype: str | None) -> Any:
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead: its shape is {tuple(X.shape)}. Reshape your data: "
            "X.reshape(-1, 1) if it has a single feature, X.reshape(1, -1) if it is a single sample."
        )
    _check_rows(estimator, X.shape)
    xp = arrays.namespace(X)
    if xp.isdtype(X.dtype, "complex floating"):
        raise ValueError(f"Complex data not supported: X has dtype {arrays.dtype_name(X)}.")
    wanted = dtype or (arrays.dtype_name(X) if arrays.dtype_name(X) in arrays.FLOATS else None)
    table = xp.astype(X, getattr(xp, wanted) if wanted else arrays.widest_float(X), copy=False)
    check_features(estimator, int(X.shape[1]), reset)
    check_finite(table, "X", getattr(estimator, "feature_names_in_", None))
    return table


def _check_rows(estimator: Any, shape: tuple[int, ...]) -> None:
    for size, what in zip(shape, ("sample(s)", "feature(s)"), strict=False):
        if size == 0:
            raise ValueError(
                f"Found array with 0 {what} (shape={tuple(shape)}) while a minimum of 1 is required by "
                f"{type(estimator).__name__}."
            )


def check_features(estimator: Any, n: int, reset: bool) -> None:
    if reset:
        estimator.n_features_in_ = n
        estimator.__dict__.pop("feature_names_in_", None)
    elif n != estimator.n_features_in_:
        raise ValueError(
            f"X has {n} features, but {type(estimator).__name__} is expecting {estimator.n_features_in_} features "
            "as input."
        )


def _check_finite_sparse(table: Any, columns: Any) -> None:
    for start, values in row_blocks(table.data[: table.nnz]):
        if np.isfinite(values).all():
            continue
        entry = start + int(np.flatnonzero(~np.isfinite(values))[0])
        row = int(np.searchsorted(table.indptr, entry, side="right")) - 1
        value = float(table.data[entry])
        raise ValueError(not_finite("X", value, values.dtype, row, [int(table.indices[entry])], columns))


# --- y and the weights -----------------------------------------------------------------------------------------------


def read_target(estimator: Any, y: Any, m: int, *, numeric: bool = False) -> np.ndarray:
    """The target on the host: (m,), or (m, k) for several outputs. Its values are finite and its length is X's.

    numeric : make numbers of it, as a regression needs them
    """
    if y is None:
        name = type(estimator).__name__
        raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None.")
    y = on_host("y", y)
    if hasattr(y, "toarray"):
        y = y.toarray()
    y = check_array(
        y, ensure_2d=False, dtype="numeric" if numeric else None, ensure_all_finite=False, input_name="y",
        estimator=estimator, ensure_min_samples=0,
    )  # fmt: skip
    if y.ndim == 0 or (y.ndim == 2 and y.shape[1] == 1):
        y = column_or_1d(y, warn=True)
    check_length(m, y)
    if numeric and y.dtype.kind in "mM":
        raise ValueError(frames.times_refused(f"y is of {y.dtype}"))
    if y.dtype.kind == "f":
        check_finite(y, "y")
    elif y.dtype.kind in "mM" and np.isnat(y).any():
        raise ValueError(f"Input y contains NaT. The first is in row {np.argwhere(np.isnat(y))[0][0]}, counted from 0.")
    elif y.dtype.kind == "O":
        missing = np.flatnonzero([_is_missing(value) for value in y.flat])
        if missing.size:
            raise ValueError(f"Input y contains NaN. The first is in row {missing[0] * m // y.size}, counted from 0.")
    return y


def _is_missing(label: Any) -> bool:
    """Whether a label is None, NaN or pandas.NA, of which the last is neither equal to itself nor not."""
    try:
        return label is None or bool(label != label)
    except TypeError:
        return True


def read_weight(weight: Any, m: int, dtype: str) -> np.ndarray | None:
    """Example weights on the host, (m,): finite, not negative and not all zero. A number stands for m of them."""
    if weight is None:
        return None
    if isinstance(weight, Number):
        weight = np.full(m, weight)
    weight = on_host("sample_weight", weight)
    read = None if hasattr(weight, "toarray") else _read_list(weight)
    if isinstance(read, np.ndarray) and read.dtype.kind in "mM":
        raise ValueError(frames.times_refused(f"sample_weight is of {read.dtype}"))
    weight = check_array(
        weight,
        ensure_2d=False, dtype=np.dtype(dtype), order="C", input_name="sample_weight", ensure_min_samples=0,
    )  # fmt: skip
    if weight.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got {weight.ndim}D array.")
    if weight.shape != (m,):
        raise ValueError(f"sample_weight.shape == {weight.shape}, expected {(m,)}!")
    if weight.min() < 0:
        row = int(np.argmax(weight < 0))
        raise ValueError(f"Negative values in sample_weight: row {row} has {weight[row]}; 0 leaves an example out.")
    if not weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weight


def check_length(m: int, other: np.ndarray) -> None:
    if len(other) != m:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: {[m, len(other)]}")


# --- Classes ---------------------------------------------------------------------------------------------------------


def is_multilabel(y: np.ndarray) -> bool:
    """Whether y is an indicator matrix (m, k) of zeros and ones; an error for targets that are no classes at all."""
    if y.ndim == 1 and (y.dtype.kind in "buiUS" or isinstance(y[0], str)):
        return False  # plain to see; to ask scikit-learn would sort the labels once more
    kind = type_of_target(y, input_name="y")
    if kind in ("binary", "multiclass", "multilabel-indicator"):
        return bool(kind == "multilabel-indicator")
    check_classification_targets(y)
    raise ValueError(f"Multioutput target data is not supported with label binarization: y is {kind}.")


def encode(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes of labels (m,), sorted, and the position of each label among them, in the smallest unsigned type."""
    if y.dtype.kind == "b":
        classes, codes = encode(y.view(np.uint8))
        return classes.astype(bool), codes
    if y.dtype.kind in "ui" and (int(y.max()) - int(y.min())) < 2**16:
        return _count(y)  # many times faster than sorting, and codes are the usual case
    try:
        classes, codes = np.unique(y, return_inverse=True)
    except TypeError:
        kinds = ", ".join(sorted({type(label).__name__ for label in y}))
        raise ValueError(f"Mix of label types: y has {kinds}; make them all text or all numbers.") from None
    return classes, codes.astype(_code_type(len(classes)))


def _count(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``encode`` of integers that lie close together."""
    low = y.min()
    shifted = (y.astype(np.int64) - int(low)) if y.dtype.kind == "i" else (y - low).astype(np.int64)
    counts = np.bincount(shifted)
    present = np.flatnonzero(counts)
    code_type = _code_type(len(present))
    positions = np.zeros(len(counts), code_type)
    positions[present] = np.arange(len(present))
    classes = np.array([int(low) + int(value) for value in present], dtype=y.dtype)
    return classes, positions[shifted]


def encode_as(y: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes that occur in y, and the position of each label in ``classes``; wrong where a class is not there."""
    found, codes = encode(y)
    same_kind = found.dtype.kind == classes.dtype.kind
    positions = np.searchsorted(classes, found) if same_kind else _positions(found, classes)
    return found, positions.astype(_code_type(len(classes) + 1))[codes]


def _positions(found: np.ndarray, classes: np.ndarray) -> np.ndarray:
    index = {value: position for position, value in enumerate(classes.tolist())}
    return np.array([index.get(value, len(classes)) for value in found.tolist()], dtype=np.intp)


def _code_type(classes: int) -> Any:
    return np.min_scalar_type(max(classes - 1, 0))


def labels_at(home: Place, classes: np.ndarray) -> Any:
    """The classes as an array where the caller's table lies; None where they lie on the host or would not come back.

    Text has no other place; JAX without x64 makes 1,410,065,408 of 10,000,000,000. Not every torch takes from its
    uint16 to uint64, so int64 stands in where it has room.
    """
    if home.name == "cpu" or classes.dtype.kind in "USOmM":
        return None
    for dtype in dict.fromkeys([classes.dtype, np.dtype(np.int64)]):
        try:
            with warnings.catch_warnings(), home.computing():
                warnings.simplefilter("ignore")  # what a library says of labels that it cannot hold
                there = home.put(classes.astype(dtype))
                back = arrays.namespace(there).take(there, home.put(np.arange(len(classes))))
                if np.array_equal(arrays.to_host(back), classes):
                    return there
        except (RuntimeError, TypeError, ValueError, OverflowError):
            continue
    return None


# --- The target as a source ------------------------------------------------------------------------------------------


def target_columns(values: np.ndarray, classes: int, inputs: Inputs) -> Columns:
    """Codes (m,) of so many ``classes`` (0: numbers, one or more for each example) as Y (n[L], m), beside X.

    Two classes are one row of zeros and ones. Of more, the codes are kept, and made columns block by block.
    """
    place = inputs.place
    if place.name == "cpu" or isinstance(inputs.X, Uploaded):
        like = np.dtype(inputs.dtype)
        host: Columns
        host = OneHot(values, classes if classes > 2 else 1, like) if classes else Dense(_rows(values, like).T)
        return host if place.name == "cpu" else Uploaded(host, place)
    if classes > 2:
        return OneHot(place.put(values.astype(np.int32)), classes, inputs.X.like.dtype)
    return Dense(place.put(_rows(values, np.dtype(inputs.dtype))).T)


def target_bytes(values: np.ndarray, classes: int, dtype: str) -> int:
    """What ``target_columns`` takes on a device, as a whole."""
    return values.size * (4 if classes > 2 else np.dtype(dtype).itemsize)


def _rows(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    with arrays.quiet():  # what is too large for the dtype of X is an error that names the row, not a warning
        rows = np.ascontiguousarray(values.reshape(len(values), -1), dtype=dtype)
    check_finite(rows, "y")
    return rows
