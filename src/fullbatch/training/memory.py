"""How much memory the parameters of a training take: counted, said, and refused before anything is allocated.

Of p parameters in a dtype of s bytes, beside the data and what an interpreter takes:

    mini-batches                     p * 10 s, and p * s where the best parameters are kept (40 and 44 bytes in float32)
        by tiles (amx, float32)      p * 12 more, where a layer is wide enough: it is cut into three parts, W and W^T
        beyond two threads that score held-out rows: p * s for each, and by tiles p * 6, up to 2^23 parameters
    full batches, and mini-batches that the native step does not take
                                     p * (10 s + 8 (1 + log2 K) + 3 s T + 8 (T - 1)), K leaves, T threads
    L-BFGS, SciPy's memory of it     p * (200 + 2 s + 8 (1 + log2 K) + 3 s T + 8 (T - 1))
        by tiles                     p * 16 T more
    a checkpoint, while it is written  p * 9 s more, of which p * 3 s for the whole training

tests/training/test_memory.py measures them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from fullbatch.core.parameters import count
from fullbatch.errors import InputError
from fullbatch.fold.tree import leaf_size
from fullbatch.machine import memory, native_library

WORTH_ASKING, WORTH_SAYING = 2**26, 2**28  # bytes
MOST_PILED = 2**23  # parameters, of step.h: W of more is cut as it is read where rows are only scored, and not kept so


class Training(NamedTuple):
    """What decides about the memory of a training.

    threads : that learn; of native mini-batches, which share the parameters, those that score held-out rows
    mini : whether it learns from native mini-batches;  best : whether the best parameters are kept beside the last ones
    checkpoints : whether it is kept while it runs
    """

    sizes: Sequence[int]
    solver: str
    itemsize: int
    m: int = 1
    threads: int = 1
    mini: bool = True
    best: bool = False
    checkpoints: bool = False


def per_parameter(of: Training) -> float:
    """Bytes for each parameter, at most."""
    s, threads = of.itemsize, of.threads
    bytes_ = 10.0 * s if of.solver != "lbfgs" else 200.0 + 2 * s
    if not of.mini or of.solver == "lbfgs":
        leaves = max(1, math.ceil(of.m / leaf_size(of.sizes[0])))
        tiles = 16 if s == 4 and by_tiles(of.sizes) else 0
        bytes_ += 8 * (1 + math.ceil(math.log2(leaves))) + (3 * s + tiles) * threads + 8 * (threads - 1)
        scoring = s if of.best else 0
    else:
        tiles = 6 if s == 4 and by_tiles(of.sizes) else 0
        bytes_ += 2 * tiles
        scoring = s + (tiles if count(of.sizes) <= MOST_PILED else 0)
    bytes_ += scoring * max(0, threads - 2) + s * of.best
    return bytes_ + 9 * s * of.checkpoints


def by_tiles(sizes: Sequence[int]) -> bool:
    """Whether the native step here takes a layer of such sizes by tiles; tile_layers.h has the bounds."""
    isa = native_library.isa()
    wide = any(min(n, units) >= 48 and n * units >= 4096 for n, units in pairwise(sizes))
    return wide and isa is not None and isa[1] == "amx"


def needed(of: Training) -> float:
    """Bytes that the parameters take, at most."""
    return per_parameter(of) * count(of.sizes)


def check(of: Training) -> None:
    """InputError where more is needed than is free. Nothing is allocated."""
    bytes_ = needed(of)
    if bytes_ < WORTH_ASKING:  # what the system has to say takes as long as the update of a small network
        return
    free = memory.free()
    if bytes_ > free:
        raise InputError(
            f"not enough memory: a network of {' - '.join(f'{n:,}' for n in of.sizes)} units has {count(of.sizes):,} "
            f"parameters, whose training takes up to {_said(bytes_)} ({per_parameter(of):.0f} bytes each), and "
            f"{_said(free)} are free; give fewer or smaller hidden layers."
        )


def line(of: Training) -> str:
    """What is said of it before the first epoch; "" where it is little."""
    bytes_ = needed(of)
    if bytes_ < WORTH_SAYING:
        return ""
    each = f"{count(of.sizes):,} parameters, {per_parameter(of):.0f} bytes each"
    return f"the training takes up to {_said(bytes_)} of memory beside the data ({each})."


def _said(bytes_: float) -> str:
    return f"{bytes_ / 1e9:,.1f} GB" if bytes_ >= 1e8 else f"{bytes_ / 1e6:,.1f} MB"
