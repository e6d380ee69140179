"""The sum over blocks, and where it runs."""

from fullbatch.fold.fold import Fold

__all__ = ["Fold"]
