"""For skl2onnx: with it a scikit-learn Pipeline converts whose last step is one of our estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fullbatch.errors import InputError
from fullbatch.saving.onnx.graph import OPSET, packages

if TYPE_CHECKING:
    import onnx


def register_converters() -> None:
    """Tell skl2onnx how MLPClassifier, MLPRegressor and LogisticRegression convert.

    ``skl2onnx.convert_sklearn`` and ``to_onnx`` then take a Pipeline, or whatever else skl2onnx knows, that holds
    fitted ones. The nodes are those of ``fullbatch.to_onnx``, of opset 20: the ``target_opset`` must be that or higher.
    Leave skl2onnx's ZipMap away as with any classifier, by ``options={"zipmap": False}``.

    Raises
    ------
    InputError
        Where skl2onnx is missing, with the line that installs it.

    Examples
    --------
    >>> from fullbatch.saving.onnx import register_converters
    >>> register_converters()  # doctest: +SKIP
    >>> made = skl2onnx.to_onnx(pipeline, X[:1], options={"zipmap": False})  # doctest: +SKIP
    """
    packages()
    try:
        from skl2onnx import update_registered_converter
    except ImportError:
        raise InputError("skl2onnx is missing, which converts pipelines: pip install skl2onnx.") from None
    from fullbatch.estimators import LogisticRegression, MLPClassifier, MLPRegressor

    for kind in (LogisticRegression, MLPClassifier, MLPRegressor):
        # Its options are those that skl2onnx sets for any classifier; zipmap is one, and there is none to leave out.
        options = (
            None
            if kind is MLPRegressor
            else {"zipmap": [False, True, "columns"], "nocl": [True, False], "output_class_labels": [False, True]}
        )
        update_registered_converter(kind, f"Fullbatch{kind.__name__}", _shapes, _convert, options=options)


def _exported(operator: Any) -> onnx.ModelProto:
    from fullbatch.saving.onnx.export import to_onnx

    return to_onnx(operator.raw_operator)


def _shapes(operator: Any) -> None:
    """Say of each output its type and shape, which are those of the exported model."""
    from onnx import TensorProto
    from skl2onnx.common import data_types as types

    kinds = {
        TensorProto.FLOAT: types.FloatTensorType, TensorProto.DOUBLE: types.DoubleTensorType,
        TensorProto.INT64: types.Int64TensorType, TensorProto.STRING: types.StringTensorType,
        TensorProto.BOOL: types.BooleanTensorType,
    }  # fmt: skip
    for variable, value in zip(operator.outputs, _exported(operator).graph.output, strict=True):
        tensor = value.type.tensor_type
        shape = [axis.dim_value or None for axis in tensor.shape.dim]
        variable.type = kinds[tensor.elem_type](shape)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of the exported model, with names that the whole has room for."""
    from onnx import helper, numpy_helper

    made = _exported(operator)
    if container.target_opset < OPSET:
        raise InputError(
            f"the target opset is {container.target_opset}; expected {OPSET} or more, which our nodes are of."
        )
    tensor = made.graph.input[0].type.tensor_type
    own = {"X": scope.get_unique_variable_name("X")}
    container.add_node(
        "Cast",
        [operator.inputs[0].full_name],
        [own["X"]],
        to=tensor.elem_type,
        name=scope.get_unique_operator_name("Cast"),
    )
    for constant in made.graph.initializer:
        own[constant.name] = scope.get_unique_variable_name(constant.name)
        value = numpy_helper.to_array(constant)
        items = value.ravel().tolist() if value.dtype.kind == "O" else value.ravel()
        container.add_initializer(own[constant.name], constant.data_type, list(value.shape), items)
    for variable, value in zip(operator.outputs, made.graph.output, strict=True):
        own[value.name] = variable.full_name
    for node in made.graph.node:
        for name in node.output:
            own.setdefault(name, scope.get_unique_variable_name(name))
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        container.add_node(
            node.op_type, [own[name] for name in node.input], [own[name] for name in node.output],
            op_domain=node.domain, name=scope.get_unique_operator_name(node.op_type), **attributes,
        )  # fmt: skip
