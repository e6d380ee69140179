"""For every network, library, device and dtype: the pass as it is written, which all other steps are held to."""

from __future__ import annotations

from typing import Any

from fullbatch.core.dropout import Dropout
from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.core.parameters import unflatten
from fullbatch.machine import arrays


class ArrayStep:
    name = "array"
    takes_sparse = 0.0
    takes_tf32 = True
    uses_blas = True
    takes_codes = 0.0
    takes_dropout = True

    @staticmethod
    def can_run(network: Network, like: Any) -> bool:
        return True

    @staticmethod
    def numbers(network: Network) -> int:
        first, *hidden, last = network.sizes
        widest = max(hidden, default=0)  # own activations, and what is at work in one layer on the way back
        return 3 * first + 2 * sum(hidden) + 8 * widest + 9 * last + 3

    @staticmethod
    def sums(network: Network, block: int, m: int = 0) -> int:
        return 0

    def __init__(self, network: Network, like: Any, block: int) -> None:
        self.network = network
        self.xp = arrays.namespace(like)
        self.dropout: Dropout | None = None

    def load(self, theta: Any) -> None:
        self.params = unflatten(theta, self.network.sizes)

    def leave_out(self, dropout: Dropout, first: int) -> None:
        self.dropout, self.first = dropout, first

    def gradient(self, X: Any, Y: Any, weight: Any) -> GradientSum:
        factors = () if self.dropout is None else self._factors(X)
        pass_ = self.network.forward_unchecked(self.params, X, self.xp, factors)
        return self.network.backward_unchecked(self.params, pass_, Y, weight, self.xp)

    def _factors(self, X: Any) -> tuple[Any, ...]:
        assert self.dropout is not None
        return self.dropout.factors(self.network.sizes, self.first, X.shape[1], X)

    def cost(self, X: Any, Y: Any, weight: Any) -> tuple[Any, Any]:
        pass_ = self.network.forward_unchecked(self.params, X, self.xp)
        return self.network.summed_loss(pass_, Y, weight, self.xp)

    def predict(self, X: Any) -> Any:
        return self.network.forward_unchecked(self.params, X, self.xp).A[-1]
