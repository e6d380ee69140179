"""A model as an ONNX graph: raw columns in, labels and probabilities or numbers out.

graph.py has what a graph is made with, inputs.py the raw columns, encoding.py the table's encoding, tracing.py the
pass, traced by ndonnx; export.py puts them together, running.py asks onnxruntime, pipelines.py is for skl2onnx.
"""

from fullbatch.saving.onnx.export import to_onnx
from fullbatch.saving.onnx.pipelines import register_converters

__all__ = ["register_converters", "to_onnx"]
