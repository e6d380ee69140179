"""Where examples come from.

A ``Columns`` has ``m`` columns of ``n`` numbers, one column per example, and hands them out in blocks: the whole is
never needed at once. ``Examples`` is a pair of them, X and Y, with optional weights: all that a fold needs.
"""

from fullbatch.sources.columns import (
    Coded,
    Columns,
    Examples,
    Layout,
    Reader,
    Where,
    batches,
    close,
    entries,
    expect,
    filler,
    in_memory,
    in_place_reader,
    is_whole,
    leaves_in_place,
    length,
    remaining,
    sparse_reader,
)
from fullbatch.sources.memory import Checked, Dense, OneHot, Sparse, Subset
from fullbatch.sources.placing import put_examples
from fullbatch.sources.uploaded import Uploaded, selected

__all__ = [
    "Checked",
    "Coded",
    "Columns",
    "Dense",
    "Examples",
    "Layout",
    "OneHot",
    "Reader",
    "Sparse",
    "Subset",
    "Uploaded",
    "Where",
    "batches",
    "close",
    "entries",
    "expect",
    "filler",
    "in_memory",
    "in_place_reader",
    "is_whole",
    "leaves_in_place",
    "length",
    "put_examples",
    "remaining",
    "selected",
    "sparse_reader",
]
