"""What takes and gives one vector, asked with layers: tests write parameters down as the notes do."""

from __future__ import annotations

from fullbatch.core.parameters import flatten, unflatten


def cost_and_layers(objective, params, where=None):
    """J and its gradient as one Layer(W=dW, b=db) per layer, of an Objective at ``params``."""
    J, vector = objective.cost_and_gradient(flatten(params), where)
    return J, unflatten(vector, objective.network.sizes)
