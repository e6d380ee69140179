"""The exceptions. Each message says what was expected, what came, and the cure.

The classes also derive from the built-in exception that a caller of a numerical library would expect, so that
``except ValueError`` catches bad input.
"""

from __future__ import annotations


class FullbatchError(Exception):
    """Base class of every error that fullbatch raises on purpose."""


class InputError(FullbatchError, ValueError):
    """A value that cannot be used: a wrong shape, an unknown name, a number out of range."""


class ArrayTypeError(FullbatchError, TypeError):
    """An array of the wrong library, device or dtype."""


class DeviceError(FullbatchError, RuntimeError):
    """A device that cannot be used; the message says why and what to do."""


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


class ModelFileError(FullbatchError, ValueError):
    """A file that is not a usable model of this version."""
