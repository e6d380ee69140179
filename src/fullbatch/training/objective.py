"""J and its gradient over a source of examples: fold, divide by m once, add L2 once.

J     = (1/m) sum_i s_i L_i + (l2 / 2m) sum_l ||W[l]||^2       m = sum_i s_i, the number of examples without weights
dW[l] = (1/m) sum_i s_i dW_i[l] + (l2/m) W[l]
db[l] = (1/m) sum_i s_i db_i[l]                                 biases are not penalised
"""

from __future__ import annotations

import math
from typing import Any

from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, Params
from fullbatch.errors import check_number
from fullbatch.fold.fold import Fold
from fullbatch.machine import arrays
from fullbatch.sources import Examples, Where


class Objective:
    """The cost J of a network on examples, with its gradient. A context manager, as the fold that it holds.

    intercept : False holds the biases where they are, by a gradient of zero
    precision : of products, None or "tf32";  room : bytes that blocks may take on a device
    """

    def __init__(
        self,
        network: Network,
        examples: Examples,
        *,
        l2: float = 0.0,
        threads: int | None = None,
        intercept: bool = True,
        precision: str | None = None,
        room: float = math.inf,
    ) -> None:
        self.l2 = check_number("l2", l2, at_least=0)
        self.fold = Fold(network, examples, threads=threads, precision=precision, room=room)
        self.network, self.examples = network, examples
        self.intercept = intercept

    def __enter__(self) -> Objective:
        self.fold.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.fold.__exit__(*error)

    def cost(self, params: Params, where: Where = None) -> float:
        """J on the examples that ``where`` selects (all if None); it may be infinite or NaN."""
        loss, weight, squares = arrays.floats(*self.fold.cost(params, where), self._squares(params))
        return self._divide(loss, weight) + self._penalty(squares, weight)

    def cost_and_gradients(self, params: Params, where: Where = None) -> tuple[float, Params]:
        """J and one Layer(W=dW, b=db) per layer, in the widest float where several blocks were added."""
        total: GradientSum = self.fold.gradient(params, where)
        if not self.intercept:
            total = total._replace(gradients=tuple(Layer(W, 0 * b) for W, b in total.gradients))
        weight, loss, squares = arrays.floats(total.weight, total.loss, self._squares(params))
        J = self._divide(loss, weight) + self._penalty(squares, weight)
        if weight == 0.0:  # a mini-batch of examples that all weigh nothing: they are as good as left out
            return J, tuple(Layer(0 * W, 0 * b) for W, b in total.gradients)
        gradients = tuple(Layer(g.W / weight, g.b / weight) for g in total.gradients)
        if self.l2 > 0:
            factor = self.l2 / weight
            gradients = tuple(Layer(g.W + factor * layer.W, g.b) for g, layer in zip(gradients, params, strict=True))
        return J, gradients

    @staticmethod
    def _divide(loss: float, weight: float) -> float:
        return loss / weight if weight > 0 else 0.0

    def _squares(self, params: Params) -> Any:
        """The sum of all weights' squares, not yet read back from a device; 0 where it is not needed."""
        if self.l2 == 0:
            return 0.0
        xp, wide = arrays.namespace(params[0].W), arrays.widest_float(params[0].W)
        with arrays.quiet():
            vectors = [xp.reshape(xp.astype(layer.W, wide, copy=False), (-1,)) for layer in params]
            return sum(w @ w for w in vectors)

    def _penalty(self, squares: float, weight: float) -> float:
        return self.l2 / (2 * weight) * squares if weight > 0 else 0.0
