"""The sum that everything else is folded into."""

from __future__ import annotations

from typing import Any, NamedTuple

from fullbatch.core.parameters import Layer


class GradientSum(NamedTuple):
    """Loss and gradients summed over a block of examples, before any division by their number.

    Two of them add, so the blocks of a full batch may be computed anywhere and in any grouping.

    loss      : array of shape (), the weighted sum of L(a, y) over the block
    gradients : one Layer(W=dW, b=db) per layer, of the shapes of the parameters
    weight    : the sum of the example weights; the number of examples where there are none
    """

    loss: Any
    gradients: tuple[Layer, ...]
    weight: Any

    def __add__(self, other: GradientSum) -> GradientSum:  # type: ignore[override]  # a monoid, not a concatenation
        return GradientSum(
            self.loss + other.loss,
            tuple(Layer(a.W + b.W, a.b + b.b) for a, b in zip(self.gradients, other.gradients, strict=True)),
            self.weight + other.weight,
        )

    def astype(self, dtype: Any, xp: Any) -> GradientSum:
        """The same sum in another dtype: the widest one, before blocks are added."""
        if self.loss.dtype == dtype and all(g.W.dtype == dtype and g.b.dtype == dtype for g in self.gradients):
            return self
        return GradientSum(
            xp.astype(self.loss, dtype, copy=False),
            tuple(Layer(xp.astype(g.W, dtype, copy=False), xp.astype(g.b, dtype, copy=False)) for g in self.gradients),
            self.weight,
        )
