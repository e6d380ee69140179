"""``to_onnx``: a fitted estimator as an ONNX model, the checker's and onnxruntime's word on it included."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.core.activations import SCIKIT_LEARNS
from fullbatch.core.network import Network
from fullbatch.core.parameters import unflatten
from fullbatch.errors import InputError
from fullbatch.machine import arrays
from fullbatch.machine.plain_values import json_ready
from fullbatch.saving.model_file import checksum_of
from fullbatch.saving.onnx.encoding import encode
from fullbatch.saving.onnx.graph import Graph, packages
from fullbatch.saving.onnx.inputs import DTYPES, Input, inputs_of
from fullbatch.saving.onnx.running import try_it
from fullbatch.saving.onnx.tracing import NUMBERS, ROW, Finish, trace
from fullbatch.version import __version__

if TYPE_CHECKING:
    import onnx

GRAPH_OUTPUTS = ("label", "probabilities", "prediction")


def to_onnx(model: Any) -> onnx.ModelProto:
    """A fitted estimator as an ONNX model, which runs without fullbatch, and without Python.

    Parameters
    ----------
    model : estimator
        A fitted MLPClassifier, MLPRegressor, LogisticRegression, TableClassifier or TableRegressor, of float32 or
        float64, with activations that have a name; or one of ``fullbatch.dask``.

    Returns
    -------
    onnx.ModelProto
        Of opset 20, ai.onnx.ml 4 and IR 9; ``onnx.save`` writes it. The size N, the number of rows, is open; 0 works.

        The input of an estimator is ``X`` (N, n), of the dtype that it was trained in. A model of a table has one input
        (N,) for each raw column, under the column's name:

        - numbers: double, NaN for a missing one;
        - texts: string. A missing one is an empty text or another of the words for missing, None and NaN of Python too;
        - booleans: bool; double (1, 0 and NaN) where training had missing ones;
        - dates and times: int64, whole seconds since 1970-01-01 in UTC, of a time of the day since midnight; the least
          int64 for a missing one, which is what NumPy makes of NaT.

        The outputs of a classifier are ``label`` (N,), as ``predict`` has them, by the model's threshold if it has one,
        and ``probabilities`` (N, k), in the order of the classes; of several labels at once both are (N, k). That of a
        regressor is ``prediction``, (N,) or (N, k). There is no ZipMap.

        The metadata have the classes (``classes``, JSON), the version (``fullbatch``) and the checksum of the model's
        file (``sha256``).

    Raises
    ------
    InputError
        For what cannot be exported: another type, an estimator that is not fitted or of another dtype, activations of
        your own, a column that has the name of an output; and where the packages are missing.

    Notes
    -----
    The network is the pass itself, traced by ndonnx. A category is looked up, and its row of W[1] added: there is no
    one-hot matrix. Where onnxruntime is installed one row is run, since the checker takes what has no kernel.

    What differs from ``predict``: spaces around texts are not taken away; the text "None" is a missing one, unless
    training had it as a level, since onnxruntime makes it of Python's None; an infinite number, which ``predict``
    refuses, is taken for the largest there is; of a row of an estimator with NaN, which ``predict`` refuses, all
    probabilities are NaN and the label has no meaning; fractions of the seconds of dates are left out; a boolean cannot
    be missing where none was in training. A level that training had not gives what ``predict`` gives.

    Examples
    --------
    >>> import fullbatch as fb
    >>> model = fb.LogisticRegression().fit([[0.0], [1.0]], ["no", "yes"])
    >>> graph = fb.to_onnx(model).graph  # doctest: +SKIP
    >>> [one.name for one in graph.input], [one.name for one in graph.output]  # doctest: +SKIP
    (['X'], ['label', 'probabilities'])
    """
    packages()
    local = model.to_local() if hasattr(model, "to_local") else model  # of a cluster's
    return Parts(local).export(checksum_of(local))


class Parts:
    """What of a fitted estimator is exported.

    network, layers : the network, and (W, b) of each layer, NumPy's
    encoding : of a table; else None
    inputs : of a table, the raw columns
    classes : of a classifier; else None
    """

    def __init__(self, model: Any) -> None:
        of_a_table = type(model).__name__ in ("TableClassifier", "TableRegressor")
        self._require(model, "network_" if of_a_table else "coefs_")
        self.model = model
        self.encoding = model.network_.encoding if of_a_table else None
        self.threshold = model.network_.threshold if of_a_table else None
        self.network, self.layers = _of_table(model.network_) if of_a_table else _of_estimator(model)
        self._require_known()
        self.inputs = inputs_of(model.network_.encoding, model.network_.record) if of_a_table else []
        classes = self.encoding.classes if self.encoding is not None else getattr(model, "classes_", None)
        self.classes = None if classes is None or not len(classes) else _plain(classes)
        self.multilabel = not of_a_table and self.classes is not None and bool(model._multilabel)

    @staticmethod
    def _require(model: Any, attribute: str) -> None:
        name = type(model).__name__
        if not type(model).__module__.startswith("fullbatch.") or not hasattr(model, "get_params"):
            raise InputError(
                f"an object of type {name} cannot be exported; expected a fitted MLPClassifier, MLPRegressor, "
                "LogisticRegression, TableClassifier or TableRegressor."
            )
        if not hasattr(model, attribute):
            raise InputError(f"this {name} is not fitted, so there is nothing to export; call fit first.")

    def _require_known(self) -> None:
        if any(activation.name is None for activation in self.network.activations):
            raise InputError(
                "the model has an activation of your own, which no ONNX model can hold; train with one that has a name."
            )
        dtypes = {array.dtype.name for layer in self.layers for array in layer}
        if len(dtypes) > 1 or not dtypes <= set(arrays.FLOATS):
            raise InputError(
                f"the model is of {' and '.join(sorted(dtypes))}; expected float32 or float64: train in one."
            )

    def export(self, checksum: str) -> onnx.ModelProto:
        """The model, checked, and tried where onnxruntime is installed. ``checksum`` : goes to the metadata."""
        onnx, _ = packages()
        for one in self.inputs:
            _check_name(one)
        inputs, outputs = self._inputs(), self._outputs()
        graph = Graph({one.name for one in (*inputs, *outputs)})
        self._fill(graph, {one.name: one.name for one in outputs})
        graph.fuse_biases()
        made = graph.model("fullbatch", inputs, outputs, self._metadata(checksum))
        onnx.checker.check_model(made, full_check=True)
        try_it(made)
        return made

    def _fill(self, graph: Graph, outputs: dict[str, str]) -> None:
        n = self.network.sizes[0]
        if self.encoding is None:
            traced = trace(self.network, self.layers, n, (), self._finish())
            graph.take_in(traced, {NUMBERS: "X"}, outputs)
            return
        encoded = encode(graph, self.encoding, self.inputs)
        widths = [category.width for category in self.encoding.categories]
        k = 0 if encoded.numbers is None else n - sum(widths)
        traced = trace(self.network, self.layers, k, widths, self._finish())
        values = {f"{ROW}{j}": row for j, row in enumerate(encoded.rows)}
        graph.take_in(traced, values if encoded.numbers is None else {NUMBERS: encoded.numbers, **values}, outputs)

    def _finish(self) -> Finish:
        if self.classes is None:
            return self._numbers
        return self._labels if self.multilabel else self._classes

    def _numbers(self, yhat: Any, xp: Any) -> dict[str, Any]:
        if self.encoding is not None:
            return {"prediction": self.encoding.target_scale.decoded(xp.astype(yhat, xp.float64), xp)}
        return {"prediction": xp.astype(yhat, getattr(xp, self.layers[0][0].dtype.name))}

    def _labels(self, yhat: Any, xp: Any) -> dict[str, Any]:
        return {"label": xp.astype(yhat > 0.5, xp.int64), "probabilities": yhat}

    def _classes(self, yhat: Any, xp: Any) -> dict[str, Any]:
        assert self.classes is not None
        if self.network.output.name == "softmax":
            codes = xp.argmax(yhat, axis=0)
            numbered = self.classes.dtype == np.int64 and (self.classes == np.arange(len(self.classes))).all()
            return {"label": codes if numbered else xp.take(xp.asarray(self.classes), codes), "probabilities": yhat}
        yes = yhat > 0.5 if self.threshold is None else yhat >= self.threshold
        no_label, yes_label = (xp.asarray(self.classes[[i]]) for i in (0, -1))  # the same of one class
        columns = [1 - yhat, yhat] if len(self.classes) == 2 else [xp.ones_like(yhat)]
        proba = xp.concat([xp.expand_dims(column, axis=1) for column in columns], axis=1)
        return {"label": xp.where(yes, yes_label, no_label), "probabilities": proba}

    def _inputs(self) -> list[Any]:
        if self.encoding is None:
            return [_value("X", self.layers[0][0].dtype, "N", self.network.sizes[0])]
        return [_value(one.name, np.dtype(DTYPES[one.kind]), "N") for one in self.inputs]

    def _outputs(self) -> list[Any]:
        dtype, units = self.layers[0][0].dtype, self.network.sizes[-1]
        if self.classes is None:
            dtype = np.dtype(np.float64) if self.encoding is not None else dtype
            return [_value("prediction", dtype, "N", *([units] if units > 1 else []))]
        k = len(self.classes)
        label = (np.dtype(np.int64), "N", k) if self.multilabel else (self.classes.dtype, "N")
        return [_value("label", *label), _value("probabilities", dtype, "N", k)]

    def _metadata(self, checksum: str) -> dict[str, str]:
        metadata = {"fullbatch": __version__, "sha256": checksum, "model": type(self.model).__name__}
        if self.classes is not None:
            metadata["classes"] = json.dumps(json_ready(self.classes.tolist()))
        if self.encoding is not None:
            metadata["target"] = str(self.encoding.target)
            metadata["columns"] = json.dumps({one.name: one.kind for one in self.inputs})
        return metadata


def _of_table(model: Any) -> tuple[Network, list[Any]]:
    return model.network, [tuple(layer) for layer in unflatten(np.asarray(model.theta), model.network.sizes)]


def _of_estimator(model: Any) -> tuple[Network, list[Any]]:
    output = SCIKIT_LEARNS.get(model.out_activation_, model.out_activation_)
    network = Network([int(n) for n in model._sizes()], model._activation(), output)
    pairs = zip(model.coefs_, model.intercepts_, strict=True)
    return network, [(arrays.to_host(W).T, arrays.to_host(b)[:, np.newaxis]) for W, b in pairs]


def _check_name(one: Input) -> None:
    if not one.name or one.name in GRAPH_OUTPUTS:
        taken = "no name" if not one.name else f"the name of an output, {one.name!r}"
        raise InputError(
            f"an input column has {taken}, so that a graph cannot have it as an input: rename it and train again."
        )


def _plain(classes: Sequence[Any]) -> np.ndarray:
    """Classes of a dtype that ONNX has: texts as objects, integers of 64 bits, truths or doubles."""
    found = np.array(classes)
    if found.dtype.kind in "OUT" and all(isinstance(one, str) for one in found.tolist()):
        return found.astype(object)
    kinds = {"i": np.int64, "u": np.int64, "b": np.bool_, "f": np.float64}
    if found.dtype.kind not in kinds:
        raise InputError(f"the classes are of {found.dtype}; expected texts, integers, booleans or numbers.")
    return found.astype(kinds[found.dtype.kind])


def _value(name: str, dtype: np.dtype[Any], *shape: Any) -> Any:
    from onnx import TensorProto, helper

    is_text = dtype.kind == "O"
    return helper.make_tensor_value_info(
        name, TensorProto.STRING if is_text else helper.np_dtype_to_tensor_dtype(dtype), shape
    )
