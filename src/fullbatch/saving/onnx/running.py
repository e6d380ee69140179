"""onnxruntime's word on an exported model: one row where it is installed, or a whole table beside the model itself."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.errors import InputError, TableError
from fullbatch.saving.onnx.inputs import feeds_of, gaps_of

if TYPE_CHECKING:
    import onnx

    from fullbatch.saving.onnx.export import Parts

ROWS = 65_536  # So many rows are compared at a time, so that memory does not grow with the table.
_ONE_ROW: dict[int, Any] = {1: np.float32, 11: np.float64, 8: np.object_, 9: np.bool_, 7: np.int64}  # by ONNX's numbers


def session_of(model: onnx.ModelProto) -> Any:
    """A session of onnxruntime on the CPU. InputError, with the line that installs it, where it is missing."""
    try:
        import onnxruntime
    except ImportError:
        raise InputError("onnxruntime is missing, which runs an ONNX model: pip install onnxruntime.") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # Errors alone.
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def try_it(model: onnx.ModelProto) -> None:
    """Run one row of zeros and empty texts, if onnxruntime is installed: the checker takes what has no kernel."""
    if importlib.util.find_spec("onnxruntime") is None:
        return
    feeds = {}
    for one in model.graph.input:
        shape = [1, *(axis.dim_value for axis in one.type.tensor_type.shape.dim[1:])]
        dtype = _ONE_ROW[one.type.tensor_type.elem_type]
        feeds[one.name] = np.full(shape, "", dtype) if dtype is np.object_ else np.zeros(shape, dtype)
    session_of(model).run(None, feeds)


@dataclass
class Comparison:
    """An exported model beside its own, on the rows of a table.

    rows : compared;  left_out : rows with a gap that the graph's inputs cannot say
    equal : rows whose labels are equal, of a classifier
    largest : the largest difference of a probability, or of a prediction;  size : the largest prediction
    """

    rows: int = 0
    left_out: int = 0
    equal: int = 0
    largest: float = 0.0
    size: float = 0.0


def compare(parts: Parts, exported: onnx.ModelProto, table: Any) -> Comparison:
    """Ask both of them for the rows of a table, block by block.

    table : whatever ``as_table`` takes. TableError where its columns are not the model's.
    """
    session, found = session_of(exported), Comparison()
    for feeds, X, left_out in _blocks(parts, table):
        found.left_out += left_out
        rows = len(next(iter(feeds.values())))
        if not rows:
            continue
        found.rows += rows
        outputs = dict(zip([one.name for one in session.get_outputs()], session.run(None, feeds), strict=True))
        if parts.classes is None:
            expected, other = np.asarray(parts.model.predict(X)), outputs["prediction"]
            found.size = max(found.size, float(np.abs(expected).max()))
        else:
            same = np.asarray(parts.model.predict(X)) == outputs["label"]
            found.equal += int(np.count_nonzero(same.reshape(rows, -1).all(axis=1)))
            expected, other = np.asarray(parts.model.predict_proba(X)), outputs["probabilities"]
        found.largest = max(found.largest, float(np.abs(expected.astype(np.float64) - other).max()))
    return found


def _blocks(parts: Parts, table: Any) -> Iterator[tuple[dict[str, np.ndarray], Any, int]]:
    """What the graph is fed, what the model itself is given, and how many rows were left out."""
    if parts.encoding is None:
        X = _matrix(parts, table)
        for start in range(0, len(X), ROWS):
            yield {"X": X[start : start + ROWS]}, X[start : start + ROWS], 0
        return
    raw = parts.model.network_.read(table)
    parts.encoding.check(raw)
    for start in range(0, raw.m, ROWS):
        block = raw.select(np.arange(start, min(start + ROWS, raw.m)))
        gaps = gaps_of(parts.inputs, block)
        if gaps.any():
            block = block.select(np.flatnonzero(~gaps))
        yield feeds_of(parts.inputs, block), block, int(gaps.sum())


def _matrix(parts: Parts, table: Any) -> np.ndarray:
    """The columns that a bare estimator learned from: by their names, if it knows these, else all of them."""
    from fullbatch.tables.encoding import numbers_of
    from fullbatch.tables.frames import as_table

    n = parts.network.sizes[0]
    names = getattr(parts.model, "feature_names_in_", None)
    raw = as_table(table, columns=None if names is None else [str(name) for name in names])
    if len(raw.names) != n:
        raise TableError(f"the table has {len(raw.names)} columns and the model learned from {n}; give these alone.")
    columns = [numbers_of(name, raw.column(name)) for name in raw.names]
    return np.stack(columns, axis=1).astype(parts.layers[0][0].dtype)
