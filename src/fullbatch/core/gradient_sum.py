"""The sum that everything else is folded into."""

from __future__ import annotations

from typing import Any, NamedTuple

from fullbatch.core.parameters import Params, unflatten
from fullbatch.machine import places


class GradientSum(NamedTuple):
    """Loss and gradients summed over a block of examples, before any division by their number.

    Two of them add, so the blocks of a full batch may be computed anywhere and in any grouping.

    loss   : array of shape (), the weighted sum of L(a, y) over the block
    vector : the gradient, one vector in the order of ``flatten``: dW[1], db[1], dW[2], db[2], ... each row after row
    weight : the sum of the example weights; the number of examples where there are none
    sizes  : n[0], n[1], ..., n[L] of the network
    """

    loss: Any
    vector: Any
    weight: Any
    sizes: tuple[int, ...]

    @property
    def gradients(self) -> Params:
        """One Layer(W=dW, b=db) per layer, of the shapes of the parameters: views of ``vector``."""
        with places.place_of(self.vector).current():
            return unflatten(self.vector, self.sizes)

    def __add__(self, other: GradientSum) -> GradientSum:  # type: ignore[override]  # a monoid, not a concatenation
        return GradientSum(self.loss + other.loss, self.vector + other.vector, self.weight + other.weight, self.sizes)

    def astype(self, dtype: Any, xp: Any) -> GradientSum:
        """The same sum in another dtype: the widest one, before blocks are added."""
        if self.loss.dtype == dtype and self.vector.dtype == dtype:
            return self
        loss, vector = (xp.astype(array, dtype, copy=False) for array in (self.loss, self.vector))
        return GradientSum(loss, vector, self.weight, self.sizes)
