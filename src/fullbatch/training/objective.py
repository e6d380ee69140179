"""J and its gradient over a source of examples: fold, divide by m once, add L2 once.

J     = (1/m) sum_i s_i L_i + (l2 / 2m) sum_l ||W[l]||^2       m = sum_i s_i, the number of examples without weights
dW[l] = (1/m) sum_i s_i dW_i[l] + (l2/m) W[l]
db[l] = (1/m) sum_i s_i db_i[l]                                 biases are not penalised
"""

from __future__ import annotations

import math
from typing import Any

from fullbatch.core.network import Network
from fullbatch.core.parameters import weight_spans
from fullbatch.errors import check_number
from fullbatch.fold.fold import Fold
from fullbatch.machine import arrays
from fullbatch.sources import Examples, Where


class Objective:
    """The cost J of a network on examples, with its gradient. A context manager, as the fold that it holds.

    intercept : False holds the biases where they are, by a gradient of zero
    precision : of products, None or "tf32";  budget : bytes that blocks may take on a device
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
        budget: float = math.inf,
    ) -> None:
        self.l2 = check_number("l2", l2, at_least=0)
        self.fold = Fold(network, examples, threads=threads, precision=precision, budget=budget)
        self.network, self.examples = network, examples
        self.intercept = intercept
        self._spans = weight_spans(network.sizes)
        self._mask: Any = None

    def __enter__(self) -> Objective:
        self.fold.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.fold.__exit__(*error)

    def cost(self, theta: Any, where: Where = None) -> float:
        """J on the examples that ``where`` selects (all if None); it may be infinite or NaN."""
        loss, weight, squares = arrays.floats(*self.fold.cost(theta, where), self._squares(theta))
        return self._divide(loss, weight) + self._penalty(squares, weight)

    def cost_and_gradient(self, theta: Any, where: Where = None) -> tuple[float, Any]:
        """J and its gradient, one vector like theta, in the widest float."""
        total = self.fold.gradient(theta, where)
        gradient = total.vector if self.intercept else total.vector * self._weights_only(theta)
        weight, loss, squares = arrays.floats(total.weight, total.loss, self._squares(theta))
        J = self._divide(loss, weight) + self._penalty(squares, weight)
        if weight == 0.0:  # a mini-batch of examples that all weigh nothing: they are as good as left out
            return J, 0 * gradient
        gradient = gradient / weight
        if self.l2 > 0:
            gradient = gradient + (self.l2 / weight) * theta * self._weights_only(theta)
        return J, gradient

    @staticmethod
    def _divide(loss: float, weight: float) -> float:
        return loss / weight if weight > 0 else 0.0

    def _weights_only(self, theta: Any) -> Any:
        """A vector like theta of ones where the weights are and zeros where the biases are."""
        if self._mask is None:
            xp = arrays.namespace(theta)
            one = xp.ones_like(theta)
            edges = [edge for span in self._spans for edge in (span.start, span.stop)] + [theta.shape[0]]
            parts = [one[edges[i] : edges[i + 1]] * (1 - i % 2) for i in range(len(edges) - 1)]
            self._mask = xp.concat(parts)
        return self._mask

    def _squares(self, theta: Any) -> Any:
        """The sum of all weights' squares, not yet read back from a device; 0 where it is not needed."""
        if self.l2 == 0:
            return 0.0
        wide = arrays.namespace(theta).astype(theta, arrays.widest_float(theta), copy=False)
        with arrays.quiet():
            return sum(wide[span] @ wide[span] for span in self._spans)

    def _penalty(self, squares: float, weight: float) -> float:
        return self.l2 / (2 * weight) * squares if weight > 0 else 0.0
