"""J and its gradient over a source of examples: fold, divide by m once, add L2 once.

J     = (1/m) sum_i s_i L_i + (l2 / 2m) sum_l ||W[l]||^2       m = sum_i s_i, the number of examples without weights
dW[l] = (1/m) sum_i s_i dW_i[l] + (l2/m) W[l]
db[l] = (1/m) sum_i s_i db_i[l]                                 biases are not penalised
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from fullbatch.core.dropout import Dropout
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
    dropout : what each update's gradient leaves out of the hidden layers, and the J that comes with it; costs leave
              nothing out
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
        dropout: Dropout | None = None,
    ) -> None:
        self.l2 = check_number("l2", l2, at_least=0)
        self.dropout = dropout
        self.fold = Fold(
            network, examples, threads=threads, precision=precision, budget=budget, dropout=dropout is not None
        )
        self.limits: dict[str, Any] = {
            "threads": threads,
            "intercept": intercept,
            "precision": precision,
            "budget": budget,
            "dropout": dropout,
        }
        self._others: list[Objective] = []
        self.network, self.examples = network, examples
        self.intercept = intercept
        self._is_weight: Any = None

    def __enter__(self) -> Objective:
        self.fold.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            while self._others:
                self._others.pop().__exit__(*error)
        finally:
            self.fold.__exit__(*error)

    def over(self, examples: Examples) -> Objective:
        """The same of other examples; it is closed with this one."""
        self._others.append(Objective(self.network, examples, l2=self.l2, **self.limits).__enter__())
        return self._others[-1]

    def cost(self, theta: Any, where: Where = None) -> float:
        """J on the examples that ``where`` selects (all if None); it may be infinite or NaN."""
        loss, weight, squares = arrays.floats(*self.fold.cost(theta, where), self._squares(self._penalised(theta)))
        return self._divide(loss, weight) + self._penalty(squares, weight)

    def cost_and_gradient(self, theta: Any, where: Where = None, update: int = 0) -> tuple[float, Any]:
        """J and its gradient, one vector like theta, in the widest float.

        update : its number, from 0, which dropout follows from
        """
        total = self.fold.gradient(theta, where, None if self.dropout is None else self.dropout.at(update))
        # A lazy library computes all of it in one pass: a loss that is asked for alone would take another.
        gradient, loss, weight = arrays.settled((total.vector, total.loss, total.weight))
        if not self.intercept:
            gradient = self._weights_only(gradient)
        penalised = self._penalised(theta)
        weight, loss, squares = arrays.floats(weight, loss, self._squares(penalised))
        J = self._divide(loss, weight) + self._penalty(squares, weight)
        if weight == 0.0:  # a mini-batch of examples that all weigh nothing: they are as good as left out
            return J, 0 * gradient
        if arrays.is_numpy(gradient) and gradient.flags.writeable:
            # Nobody else holds the sum of the gradients. Changed in place, it needs no second array of its size.
            gradient /= weight
            if penalised is not None:
                penalised *= self.l2 / weight
                gradient += penalised
            return J, gradient
        gradient = gradient / weight
        if penalised is not None:
            gradient = gradient + (self.l2 / weight) * penalised
        return J, gradient

    def weight(self, theta: Any) -> float:
        """The sum of the examples' weights, m where they have none."""
        return arrays.floats(self.fold.cost(theta)[1])[0]

    @staticmethod
    def _divide(loss: float, weight: float) -> float:
        return loss / weight if weight > 0 else 0.0

    def _penalised(self, theta: Any) -> Any:
        """What of theta L2 holds down; None without it."""
        return self._weights_only(theta) if self.l2 > 0 else None

    def _weights_only(self, vector: Any) -> Any:
        """A vector like theta, with zeros where the biases are."""
        xp = arrays.namespace(vector)
        zeros = xp.zeros_like(vector)
        if arrays.is_numpy(vector):
            for span in weight_spans(self.network.sizes):
                zeros[span] = vector[span]
            return zeros
        if self._is_weight is None:  # made of the vector, so that it lies as that does: on a device, or shared by some
            ones, edges = xp.ones_like(vector), [0]
            for span in weight_spans(self.network.sizes):
                edges += [span.start, span.stop]
            edges.append(vector.shape[0])
            parts = [(ones if i % 2 else zeros)[edge[0] : edge[1]] for i, edge in enumerate(pairwise(edges))]
            self._is_weight = xp.concat(parts) > 0
        return xp.where(self._is_weight, vector, zeros)

    @staticmethod
    def _squares(penalised: Any) -> Any:
        """The sum of all weights' squares, not yet read back from a device; 0 where it is not needed."""
        if penalised is None:
            return 0.0
        xp = arrays.namespace(penalised)
        with arrays.quiet():  # a sum, not a dot product: BLAS may share that among threads, as many as there are
            wide = xp.astype(penalised, arrays.widest_float(penalised), copy=False)
            if arrays.is_numpy(wide) and wide is not penalised:
                wide *= wide
                return xp.sum(wide)
            return xp.sum(wide * wide)

    def _penalty(self, squares: float, weight: float) -> float:
        return self.l2 / (2 * weight) * squares if weight > 0 else 0.0
