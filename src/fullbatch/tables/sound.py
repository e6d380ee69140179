"""Whether an encoding that was read from a file is one that ``TableEncoding.learn`` could have made.

Each field is checked against its own rule and against the others, so that a file that was tampered with, or written
wrongly, is an error when it is loaded and no wrong prediction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.machine.arrays import FLOATS
from fullbatch.machine.plain_values import require

if TYPE_CHECKING:
    from fullbatch.tables.encoding import Category, TableEncoding


def require_sound(encoding: TableEncoding) -> None:
    """ValueError that names the field which is not what it should be, or does not fit another."""
    _check_names(encoding)
    _check_numbers(encoding)
    for category in encoding.categories:
        _check_category(category)
    _check_target(encoding)
    require(encoding.dtype in FLOATS, f"dtype is none of {', '.join(FLOATS)}")


def _check_names(encoding: TableEncoding) -> None:
    names, numbers = encoding.feature_names, encoding.numbers
    target = encoding.target
    require(target is None or isinstance(target, str), "target is no text")
    for field in ("feature_names", "numbers", "indicators"):
        values = getattr(encoding, field)
        require(all(isinstance(name, str) for name in values), f"{field} has what is no text")
        require(len(set(values)) == len(values), f"{field} has a name twice")
    categories = [(category.name, category.part) for category in encoding.categories]
    require(all(isinstance(name, str) for name, _ in categories), "a category's name is no text")
    require(len(set(categories)) == len(categories), "categories has a column twice")
    require({*numbers, *(name for name, _ in categories)} == set(names), "feature_names are not the encoded columns")
    require(set(encoding.indicators) <= set(numbers), "indicators has what is not among numbers")
    require(encoding.target not in names, "the target is among feature_names")
    formats = dict(encoding.date_formats)
    require(len(formats) == len(encoding.date_formats), "date_formats has a column twice")
    require(set(formats) <= {*names, target}, "date_formats has what is no column")


def _check_numbers(encoding: TableEncoding) -> None:
    shape = (len(encoding.numbers),)
    for field, array in (("center", encoding.center), ("scale", encoding.scale)):
        require(array.shape == shape, f"{field} has the shape {array.shape} for {shape[0]} number columns")
        require(bool(np.isfinite(array).all()), f"{field} is not finite")
    require(bool((encoding.scale >= 0).all()), "scale is negative")


def _check_category(category: Category) -> None:
    for field in ("other", "missing"):
        require(isinstance(getattr(category, field), bool), f"{field} of a category is neither true nor false")
    require(category.width > 0, "a category has no feature")
    _check_values(category.levels, "levels")


def _check_target(encoding: TableEncoding) -> None:
    task, classes = encoding.task, encoding.classes
    require(task in ("classify", "regress", None), "task is unknown")
    require((task is None) == (encoding.target is None), "task and target do not fit")
    require(bool(classes) == (task == "classify"), "task and classes do not fit")
    _check_values(classes, "classes")
    scale = encoding.target_scale
    require(scale.scale > 0 and math.isfinite(scale.scale), "target_scale is not above 0")


def _check_values(values: Sequence[Any], field: str) -> None:
    """Texts, truths or finite numbers, of one kind, each once, the smallest first."""
    kinds = {_kind(value) for value in values}
    require(None not in kinds, f"{field} has what is neither text, nor number, nor truth")
    require(len(kinds) <= 1, f"{field} are of several kinds")
    require(len(set(values)) == len(values), f"{field} has a value twice")
    require(list(values) == sorted(values), f"{field} are not in their order")


def _kind(value: Any) -> str | None:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, (int, float)):
        return "number" if math.isfinite(value) else None
    return "text" if isinstance(value, str) else None
