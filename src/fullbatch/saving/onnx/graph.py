"""An ONNX graph in the making: nodes, constants, and the nodes of another graph that is taken in."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.errors import InputError

if TYPE_CHECKING:
    import onnx

# Written into every model: what onnxruntime 1.17 (January 2024) and later run.
OPSET, ML_OPSET, IR_VERSION = 20, 4, 9
ML = "ai.onnx.ml"


def packages() -> tuple[Any, Any]:
    """onnx and ndonnx. InputError, with the line that installs them, where one is missing."""
    try:
        import ndonnx
        import onnx
    except ImportError as error:
        raise InputError(
            f"{error.name or error} is missing, which an export needs: pip install 'fullbatch[onnx]'."
        ) from None
    return onnx, ndonnx


class Graph:
    """What nodes are added to. A value of the graph is known by its name.

    taken : the names of inputs and outputs; no other value gets one of them
    """

    def __init__(self, taken: set[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._taken, self._outputs = set(taken), set[str]()
        self._count = 0

    def name(self, kind: str) -> str:
        """A name that no value has yet."""
        while True:
            self._count += 1
            name = f"{kind}_{self._count}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    def constant(self, value: Any) -> str:
        """An array, or a number of NumPy's; texts as an array of objects."""
        from onnx import numpy_helper

        name = self.name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output, whose name is the result."""
        from onnx import helper

        output = self.name(kind) if output is None else output
        self.nodes.append(helper.make_node(kind, list(inputs), [output], domain=domain, **attributes))
        return output

    def fuse_biases(self) -> None:
        """Make one Gemm of each product and the bias that is added to it alone.

        onnxruntime does so itself, but not in double.
        """
        from onnx import helper

        biases = {one.name for one in self.constants if len(one.dims) == 1}
        users = Counter(name for node in self.nodes for name in node.input)
        products = {
            node.output[0]: node for node in self.nodes if node.op_type == "MatMul" and users[node.output[0]] == 1
        }
        nodes, gone = list[Any](), set[str]()
        for node in self.nodes:
            if node.op_type == "Add" and node.input[0] in products and node.input[1] in biases:
                product = products[node.input[0]]
                gone.add(product.output[0])
                node = helper.make_node("Gemm", [*product.input, node.input[1]], list(node.output))
            nodes.append(node)
        self.nodes = [node for node in nodes if not gone.intersection(node.output)]

    def take_in(self, model: onnx.ModelProto, inputs: dict[str, str], outputs: dict[str, str]) -> None:
        """Add the nodes of another model, whose inputs and outputs get these names.

        Its constants become constants of this graph, and what merely hands a value on is left out.
        """
        own = dict(inputs)
        for tensor in model.graph.initializer:
            own[tensor.name] = self._take_constant(tensor)
        result = {one.name for one in model.graph.output}
        for node in model.graph.node:
            if node.op_type == "Constant":
                own[node.output[0]] = self._take_constant(node.attribute[0].t)
            elif node.op_type == "Identity" and node.output[0] not in result:
                own[node.output[0]] = own[node.input[0]]
            elif node.op_type != "Identity" or not self._renamed(own[node.input[0]], outputs.get(node.output[0])):
                self._take_node(node, own, outputs)

    def _renamed(self, value: str, output: str | None) -> bool:
        """Give a value the name of an output, for which a node would merely hand it on; False where it has one."""
        if output is None or value in self._outputs:
            return False
        for node in self.nodes:
            if value in node.output:
                self._outputs.add(output)
                for each in self.nodes:
                    for names in (each.input, each.output):
                        names[:] = [output if name == value else name for name in names]
                return True
        return False  # of an input, or a constant

    def _take_constant(self, tensor: onnx.TensorProto) -> str:
        import onnx

        copied = onnx.TensorProto()
        copied.CopyFrom(tensor)
        copied.name = self.name("constant")
        self.constants.append(copied)
        return str(copied.name)

    def _take_node(self, node: onnx.NodeProto, own: dict[str, str], outputs: dict[str, str]) -> None:
        import onnx

        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        copied.ClearField("name")
        for name in node.output:
            own[name] = outputs.get(name) or self.name(node.op_type)
        del copied.input[:], copied.output[:]
        copied.input.extend(own[name] if name else "" for name in node.input)
        copied.output.extend(own[name] for name in node.output)
        self.nodes.append(copied)

    def model(self, name: str, inputs: list[Any], outputs: list[Any], metadata: dict[str, str]) -> onnx.ModelProto:
        """The whole as a model of the versions above, without what no output needs."""
        from onnx import helper

        self._drop_unused({one.name for one in outputs})
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="fullbatch")
        helper.set_model_props(made, metadata)
        return made

    def _drop_unused(self, needed: set[str]) -> None:
        kept = []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                needed |= set(node.input)
                kept.append(node)
        self.nodes = kept[::-1]
        self.constants = [tensor for tensor in self.constants if tensor.name in needed]
