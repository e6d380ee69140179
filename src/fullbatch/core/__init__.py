"""What is computed: networks, activations, losses, parameters, the pass: by the array API alone."""

from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, Params

__all__ = ["GradientSum", "Layer", "Network", "Params"]
