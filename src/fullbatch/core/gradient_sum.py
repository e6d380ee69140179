"""The sum that everything else is folded into."""

from __future__ import annotations

from typing import Any, NamedTuple

from fullbatch.core.parameters import Params, unflatten
from fullbatch.machine import arrays, places


class GradientSum(NamedTuple):
    """Loss and gradients summed over a block of examples, before any division by their number.

    Two of them add, so the blocks of a full batch may be computed anywhere and in any grouping.

    Parameters
    ----------
    loss : array ()
        The weighted sum of L(a, y) over the block.
    vector : array (p,)
        The gradient, one vector: dW[1], db[1], dW[2], db[2], ... each row after row.
    weight : float or array ()
        The sum of the example weights; the number of examples where there are none.
    sizes : tuple of int
        n[0], n[1], ..., n[L] of the network.

    Examples
    --------
    >>> import numpy as np
    >>> import fullbatch as fb
    >>> net = fb.Network([2, 3, 1])
    >>> params = net.init(seed=0)
    >>> X, Y = np.random.default_rng(0).random((2, 6)), np.ones((1, 6))
    >>> def of(some):
    ...     return net.backward(params, net.forward(params, X[:, some]), Y[:, some])
    >>> whole, parts = of(slice(0, 6)), of(slice(0, 2)) + of(slice(2, 6))
    >>> bool(np.allclose(whole.vector, parts.vector)), parts.weight
    (True, 6.0)
    """

    loss: Any
    vector: Any
    weight: Any
    sizes: tuple[int, ...]

    @property
    def gradients(self) -> Params:
        """One Layer(W=dW, b=db) for each layer, of the shapes of the parameters: views of ``vector``."""
        with places.place_of(self.vector).current():
            return unflatten(self.vector, self.sizes)

    def __add__(self, other: GradientSum) -> GradientSum:  # type: ignore[override]  # a monoid, not a concatenation
        return GradientSum(self.loss + other.loss, self.vector + other.vector, self.weight + other.weight, self.sizes)

    def __iadd__(self, other: GradientSum) -> GradientSum:  # type: ignore[override]
        """The same sum, for whoever has no further use for ``self``: of NumPy its vector takes it, and no memory."""
        if not arrays.is_numpy(self.vector) or not self.vector.flags.writeable:  # one from another process is not
            return self + other
        vector = self.vector
        vector += other.vector
        return GradientSum(self.loss + other.loss, vector, self.weight + other.weight, self.sizes)

    def astype(self, dtype: Any, xp: Any) -> GradientSum:
        """The same sum in another dtype: the widest one, before blocks are added.

        Parameters
        ----------
        dtype : dtype of xp
            Of loss and vector.
        xp : array library
            That of both.

        Returns
        -------
        GradientSum
        """
        if self.loss.dtype == dtype and self.vector.dtype == dtype:
            return self
        loss, vector = (xp.astype(array, dtype, copy=False) for array in (self.loss, self.vector))
        return GradientSum(loss, vector, self.weight, self.sizes)
