"""The exceptions, a warning, and the check of a number. A message says what was expected, what came, the cure.

The classes also derive from the built-in exception that a caller of a numerical library would expect, so that
``except ValueError`` catches bad input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any


class FullbatchError(Exception):
    """Base class of every error that fullbatch raises on purpose."""


class InputError(FullbatchError, ValueError):
    """A value that cannot be used: a wrong shape, an unknown name, a number out of range."""


class ArrayTypeError(FullbatchError, TypeError):
    """An array of the wrong library, device or dtype."""


class DeviceError(FullbatchError, RuntimeError):
    """A device that cannot be used; the message says why and what to do."""


class ClusterError(FullbatchError, RuntimeError):
    """A cluster that cannot be used: no scheduler, no worker, or workers that do not go together."""


class NonFiniteError(FullbatchError, ArithmeticError):
    """A cost that is no longer finite.

    In a training, ``iteration`` is the number of updates so far (0: the start) and ``params`` holds the last parameters
    whose cost was finite.
    """

    def __init__(self, message: str, *, iteration: int | None = None, params: object = None) -> None:
        super().__init__(message)
        self.iteration = iteration
        self.params = params


class TableError(InputError):
    """A table that cannot be read or does not fit: the file, the columns or the values."""


class TableWarning(UserWarning):
    """Rows or columns of a table that were left out, and how many."""


class StoreError(InputError):
    """A file that is not a usable store of this version: another file, cut short, damaged, or closed already."""


class ModelFileError(FullbatchError, ValueError):
    """A file that is not a usable model of this version."""


def as_float(value: Any) -> float:
    """The number as a float: infinite where it is a whole number beyond a float's, of which ``float`` raises."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check_sizes_of_numbers(params: Mapping[str, Any]) -> None:
    """InputError, which names the parameter, for a whole number that is beyond a float's."""
    for name, value in params.items():
        if isinstance(value, int) and math.isinf(as_float(value)):
            raise InputError(f"{name} must be a number that a float can hold, below 1.8e308; got one beyond it.")


def check_number(name: str, value: Any, *, at_least: float | None = None, above: float | None = None) -> float:
    """A finite number in its range, or an InputError that says which range."""
    number = as_float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if (
        not math.isfinite(number)
        or (above is not None and number <= above)
        or (at_least is not None and number < at_least)
    ):
        bound = f"above {above}" if above is not None else f"of at least {at_least}"
        raise InputError(f"{name} must be a finite number {bound}; got {value!r}.")
    return number
