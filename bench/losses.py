"""The cost of the network in PyTorch and in JAX, for whoever differentiates it there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench.problem import Problem


def torch_loss(output: str) -> Callable[[Any, Any, Sequence[Any]], Any]:
    """The mean loss, of a table (k, n[0]), targets, and W, b, W, b, ...; the targets of a softmax are classes."""
    from torch.nn import functional as F

    criterion = F.binary_cross_entropy_with_logits if output == "sigmoid" else F.cross_entropy

    def loss(X: Any, targets: Any, leaves: Sequence[Any]) -> Any:
        for W, b in zip(leaves[:-2:2], leaves[1:-2:2], strict=True):
            X = F.linear(X, W, b).tanh()
        return criterion(F.linear(X, *leaves[-2:]), targets)

    return loss


def torch_leaves(p: Problem, device: str = "cpu") -> list[Any]:
    """W, b, W, b, ..., each with a gradient."""
    import torch

    return [torch.tensor(a, device=device, requires_grad=True) for W, b in p.params for a in (W, b[:, 0])]


def in_pairs(arrays: Sequence[Any]) -> list[tuple[Any, Any]]:
    """[(W, b)] of W, b, W, b, ..."""
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def jax_loss(output: str) -> Callable[[Any, Any, Any], Any]:
    """The loss summed over examples, of parameters [(W, b)], a table (k, n[0]) and targets (k, n[L])."""
    import jax
    import jax.numpy as jnp

    def loss(params: Any, X: Any, targets: Any) -> Any:
        Z = jax_logits(params, X)
        if output == "sigmoid":
            return jnp.sum(jax.nn.softplus(Z) - Z * targets)
        return -jnp.sum(jax.nn.log_softmax(Z, axis=1) * targets)

    return loss


def jax_logits(params: Any, X: Any) -> Any:
    """What the output's activation gets."""
    import jax.numpy as jnp

    for W, b in params[:-1]:
        X = jnp.tanh(X @ W.T + b)
    W, b = params[-1]
    return X @ W.T + b
