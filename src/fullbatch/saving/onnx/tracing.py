"""The pass, traced by ndonnx: ``Network.forward_unchecked`` itself, on arrays that stand for values to come.

Every array is held transposed, (N, n) and not (n, N), as the graph's inputs and outputs are: nothing is turned there,
and onnxruntime makes one node of a product and the bias. So axis 0 of the pass, the units, is axis 1 here. Three things
are put in its place besides. The products, because ndonnx guards each by a branch for empty arrays, which onnxruntime
needs not, and because the first one takes rows of W[1] for categories in place of a one-hot matrix; zeros_like and
full_like, whose number need not have the size of the array; and max, which looks for NaN first. And activations and
output units, for which the graph has something shorter that is as near to the pass (``SHORTER``, ``OUTPUTS``).

One thing is more exact than the pass: before an exp the last layer is in double. An error of z is a relative error of
e^z, and one rounding of a z above 4 is 2.4e-7 of it, in the model and once more in a graph of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.core.activations import GELU_C, GELU_K, LEAK
from fullbatch.core.parameters import Layer
from fullbatch.machine.arrays import FLOATS
from fullbatch.saving.onnx.graph import packages

if TYPE_CHECKING:
    import onnx

    from fullbatch.core.network import Network

NUMBERS, ROW = "numbers", "row"  # the inputs of a traced pass: numbers (N, k), and row0, row1, ... (N,) int64
Finish = Callable[[Any, Any], dict[str, Any]]


def trace(
    network: Network, layers: Sequence[Any], k: int, categories: Sequence[int], finish: Finish
) -> onnx.ModelProto:
    """The pass of a network as a model.

    layers : (W, b) of each layer, NumPy's
    k : how many of the features are numbers, the first ones
    categories : of each category how many features it has; they are the last ones
    finish : (yhat (N, n[L]), or (N,) of one unit, xp) -> the outputs by name; of an exp, yhat is double
    """
    _, ndx = packages()
    xp = _Namespace(ndx)
    dtype = getattr(ndx, layers[0][0].dtype.name)
    numbers = {NUMBERS: ndx.argument(shape=("N", k), dtype=dtype)} if k else {}
    rows = {f"{ROW}{j}": ndx.argument(shape=("N",), dtype=ndx.int64) for j in range(len(categories))}
    (W, b), *others = _exact_before_exp(network, layers)
    shorter = copy(network)
    shorter.activations = tuple(
        replace(one, g=SHORTER.get((one.name, layers[0][0].dtype.name), one.g)) for one in network.activations
    )
    unit = OUTPUTS.get(network.output.name, network.output.activation)
    shorter.output = replace(network.output, activation=_of_one(unit) if network.sizes[-1] == 1 else unit)
    params = (
        Layer(_FirstWeights(W, k, sum(categories)), ndx.asarray(np.reshape(b, -1))),
        *(Layer(_Weights(W), ndx.asarray(np.reshape(b, -1))) for W, b in others),
    )
    X = _Columns(numbers.get(NUMBERS), list(rows.values()))
    yhat = shorter.forward_unchecked(params, X, xp).A[-1]
    return ndx.build({**numbers, **rows}, finish(yhat, xp))


def _exact_before_exp(network: Network, layers: Sequence[Any]) -> list[Any]:
    """The layers, the last one in float64 where the output is an exp."""
    *before, (W, b) = layers
    double = np.float64 if network.output.name == "exp" else W.dtype
    return [*before, (W.astype(double), b.astype(double))]


def _sigmoid(Z: Any, xp: Any) -> Any:
    """One exp in place of two: in a graph exp of what is too large is infinity, without a warning, and 1 over that 0.

    So in float32 it is 0 from z = -88.8, where the pass has less than 3e-39.
    """
    return 1 / (1 + xp.exp(-Z))


def _of_one(unit: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An output unit of (N,), for which onnxruntime takes a tenth of the time of (N, 1)."""
    return lambda Z, xp: unit(xp.only_unit(Z), xp)


def _output_sigmoid(Z: Any, xp: Any) -> Any:
    """The pass's own bits with one exp in place of two: of exp(min(z, 0)) and exp(-|z|) one is 1, or both are equal."""
    E = xp.exp(-xp.abs(Z))
    return xp.where(Z < 0, E, xp.asarray(1, dtype=Z.dtype)) / (1 + E)


def _softmax(Z: Any, xp: Any) -> Any:
    """One node. In float32 onnxruntime has 4e-39 in place of what is less."""
    import spox.opset.ai.onnx.v20 as op

    return xp.asarray(op.softmax(Z.unwrap_spox(), axis=1))


def _silu(Z: Any, xp: Any) -> Any:
    return Z / (1 + xp.exp(-Z))


def _gelu(Z: Any, xp: Any) -> Any:
    """z/2 (1 + tanh u) = z / (1 + e^-2u). onnxruntime's own Gelu is 8e-7 off in float32, and in double it has constants
    of float32."""
    return Z / (1 + xp.exp(Z * (-2 * GELU_C - 2 * GELU_C * GELU_K * (Z * Z))))


def _relu(Z: Any, xp: Any) -> Any:
    import spox.opset.ai.onnx.v20 as op

    return xp.asarray(op.relu(Z.unwrap_spox()))


def _leaky_relu(Z: Any, xp: Any) -> Any:
    import spox.opset.ai.onnx.v20 as op

    return xp.asarray(op.leaky_relu(Z.unwrap_spox(), alpha=LEAK))


# By name and dtype. Of float64 onnxruntime has no LeakyRelu.
SHORTER: dict[tuple[str | None, str], Callable[[Any, Any], Any]] = {
    **{("sigmoid", dtype): _sigmoid for dtype in FLOATS},
    **{("silu", dtype): _silu for dtype in FLOATS},
    **{("relu", dtype): _relu for dtype in FLOATS},
    **{("gelu", dtype): _gelu for dtype in FLOATS},
    ("leaky_relu", "float32"): _leaky_relu,
}
OUTPUTS: dict[str, Callable[[Any, Any], Any]] = {"sigmoid": _output_sigmoid, "softmax": _softmax}


class _Namespace:
    """ndonnx, but for what the module's docstring says."""

    def __init__(self, ndx: Any) -> None:
        self._ndx = ndx

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ndx, name)

    def zeros_like(self, Z: Any) -> Any:
        """One zero, which is compared with all of Z."""
        return self._ndx.asarray(0, dtype=Z.dtype)

    def full_like(self, Z: Any, number: float) -> Any:
        return self._ndx.asarray(number, dtype=Z.dtype)

    def argmax(self, proba: Any, axis: int) -> Any:
        """The first of the largest."""
        import spox.opset.ai.onnx.v20 as op

        return self._ndx.asarray(op.arg_max(proba.unwrap_spox(), axis=1 - axis, keepdims=0))

    def max(self, Z: Any, axis: int, keepdims: bool) -> Any:
        """The softmax's largest exponent: a NaN reaches its sum besides."""
        import spox.opset.ai.onnx.v20 as op

        axes = op.const(np.array([1 - axis], np.int64))
        return self._ndx.asarray(op.reduce_max(Z.unwrap_spox(), axes, keepdims=int(keepdims)))

    def sum(self, Z: Any, axis: int, keepdims: bool) -> Any:
        return self._ndx.sum(Z, axis=1 - axis, keepdims=keepdims)

    def only_unit(self, Z: Any) -> Any:
        """(N,) of (N, 1)."""
        import spox.opset.ai.onnx.v20 as op

        return self._ndx.asarray(op.squeeze(Z.unwrap_spox(), op.const(np.array([1], np.int64))))


class _Weights:
    """W[l] of a later layer: its product with A[l-1], in the dtype of W."""

    def __init__(self, W: np.ndarray) -> None:
        self.W = np.ascontiguousarray(W.T)

    def __matmul__(self, A: Any) -> Any:
        import ndonnx as ndx
        import spox.opset.ai.onnx.v20 as op

        A = ndx.astype(A, getattr(ndx, self.W.dtype.name), copy=False)
        return ndx.asarray(op.matmul(A.unwrap_spox(), op.const(self.W)))


@dataclass(frozen=True)
class _Columns:
    """X: numbers (N, k) or None, and for each category the row of W[1]^T of each example, (N,)."""

    numbers: Any
    rows: list[Any]


class _FirstWeights:
    """W[1]: its product with X is that with the numbers, and rows of its transpose added up."""

    def __init__(self, W: np.ndarray, k: int, c: int) -> None:
        self.of_numbers = W[:, :k]
        # The row of zeros at the end is for "no feature".
        self.of_categories = np.concatenate([W[:, W.shape[1] - c :].T, np.zeros((1, len(W)), W.dtype)])

    def __matmul__(self, X: _Columns) -> Any:
        import ndonnx as ndx
        import spox.opset.ai.onnx.v20 as op

        parts = []
        if X.numbers is not None:
            parts.append(_Weights(self.of_numbers) @ X.numbers)
        if X.rows:
            table = ndx.asarray(self.of_categories)
            found = [ndx.take(table, row, axis=0).unwrap_spox() for row in X.rows]
            parts.append(ndx.asarray(op.sum(found)))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]
