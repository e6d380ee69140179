"""The compiled library of the native step: where it lies, whether it can be loaded, and which instruction set is used.

``_native.so`` (``_native.dll``) lies beside this file, or where an editable install keeps what was compiled. It is a
plain C library: ctypes loads it on first use and lets go of the interpreter's lock in every call. The environment
variable FULLBATCH_NATIVE forces an instruction set, or switches the library ``off``; it is read at each call.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from fullbatch.errors import InputError

ABI = 6  # of src/native/fullbatch_native.h, which the rest of this file mirrors
VARIABLE = "FULLBATCH_NATIVE"
NAMES = ("amx", "avx512", "avx2", "neon", "portable")
FILE = "_native.dll" if sys.platform == "win32" else "_native.so"


class Block(ctypes.Structure):
    """A block of m examples as it lies in memory: ``fb_examples``. Strides are in elements."""

    _fields_ = (
        ("X", c_void_p),
        ("x_feature", c_int64),
        ("x_example", c_int64),
        ("indptr", c_void_p),
        ("features", c_void_p),
        ("codes", c_void_p),
        ("code_bytes", c_int64),
        ("n_codes", c_int64),
        ("numbers", c_int64),
        ("Y", c_void_p),
        ("y_unit", c_int64),
        ("y_example", c_int64),
        ("weight", c_void_p),
        ("weight_example", c_int64),
        ("m", c_int64),
    )


class Rule(ctypes.Structure):
    """How an optimiser steps: ``fb_rule``."""

    _fields_ = (
        ("kind", c_int32),
        ("fixed_biases", c_int32),
        ("a", c_double),
        ("b", c_double),
        ("epsilon", c_double),
        ("l2", c_double),
    )


class OutputLoss(ctypes.Structure):
    """The output unit with its loss: ``fb_output_loss``."""

    _fields_ = (("unit", c_int32), ("lines", c_int32), ("below", c_double), ("above", c_double))


class Blocks(ctypes.Structure):
    """Blocks of examples and the leaves that they belong to: ``fb_blocks``."""

    _fields_ = (("examples", c_void_p), ("leaves", c_void_p), ("leaf_count", c_int64), ("work", c_void_p))


class Descent(ctypes.Structure):
    """Updates by all examples: ``fb_descent``."""

    _fields_ = (
        ("layers", c_int64),
        ("sizes", c_void_p),
        ("rule", c_void_p),
        ("rates", c_void_p),
        ("iterations", c_int64),
        ("tol", c_double),
        ("last", c_double),
        ("seconds", c_double),
        ("theta", c_void_p),
        ("velocity", c_void_p),
        ("theta_2", c_void_p),
        ("velocity_2", c_void_p),
        ("costs", c_void_p),
    )


# isa, dtype, layers, sizes, activations, output
NETWORK = (c_int, c_int, c_int64, POINTER(c_int64), POINTER(c_int32), POINTER(OutputLoss))
# Arrays are given as plain addresses (array.ctypes.data): a typed pointer would be made anew at each call.
SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "fb_abi": (c_int, ()),
    "fb_isa_name": (c_char_p, (c_int,)),
    "fb_isa_usable": (c_int, (c_int,)),
    "fb_step_new": (c_void_p, NETWORK),
    "fb_step_free": (None, (c_void_p,)),
    "fb_step_load": (None, (c_void_p, c_void_p)),
    "fb_step_dropout": (c_int, (c_void_p, c_void_p, c_uint64, c_int64, c_int64)),
    "fb_step_gradient": (c_int, (c_void_p, POINTER(Block), c_void_p, POINTER(c_double), POINTER(c_double))),
    "fb_step_cost": (c_int, (c_void_p, POINTER(Block), POINTER(c_double), POINTER(c_double))),
    "fb_step_predict": (c_int, (c_void_p, POINTER(Block), c_void_p)),
    "fb_trainer_new": (c_void_p, (*NETWORK, c_int64, POINTER(Rule))),
    "fb_trainer_free": (None, (c_void_p,)),
    "fb_trainer_load": (None, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "fb_trainer_store": (None, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "fb_trainer_dropout": (c_int, (c_void_p, c_void_p, c_uint64, c_int64)),
    "fb_trainer_run": (
        c_int64,
        (c_void_p, c_int, POINTER(Block), c_void_p, c_int64, c_int64, c_void_p, c_double, POINTER(c_double)),
    ),
    "fb_tiles_without_zeros": (c_int64, (c_void_p,)),
    "fb_blocks_gradient": (
        c_int,
        (c_void_p, c_int, POINTER(Blocks), c_void_p, c_void_p, POINTER(c_double), POINTER(c_double)),
    ),
    "fb_descend": (c_int64, (c_void_p, c_int, POINTER(Blocks), POINTER(Descent))),
    "fb_shuffle": (c_int, (c_void_p, POINTER(c_int32), c_void_p, c_int64, c_int64)),
    "fb_mapping_new": (c_void_p, (c_int, c_int64, POINTER(c_int32))),
    "fb_mapping_base": (c_void_p, (c_void_p,)),
    "fb_mapping_look": (c_int64, (c_void_p, c_int, c_int64, c_int64)),
    "fb_mapping_whole": (c_int, (c_void_p, c_int)),
    "fb_mapping_free": (None, (c_void_p,)),
    "fb_map": (c_int, (c_int, c_int, c_int, c_void_p, c_void_p, c_int64)),
}


def load() -> ctypes.CDLL | None:
    """The library, or None where it is not there, cannot be loaded or is switched off; ``why_not`` tells which."""
    return None if _forced() == "off" else _open()[0]


def why_not() -> str:
    """One line: why ``load`` gives None; empty where it gives the library."""
    return f"switched off by {VARIABLE}=off" if _forced() == "off" else _open()[1]


def isas() -> list[tuple[int, str]]:
    """What the library was compiled for and this machine has, the best first: (number, name). None without it."""
    return list(_usable()) if load() else []


def isa() -> tuple[int, str] | None:
    """The instruction set to use: the best one, or the one that FULLBATCH_NATIVE names; None without a library.

    Raises InputError where FULLBATCH_NATIVE names what is unknown, or what cannot be used here.
    """
    forced = _forced()  # asked once: this is called for each array of a short call, and the environment is slow
    usable = _usable() if forced != "off" and _open()[0] else ()
    if forced in (None, "off"):
        return usable[0] if usable else None
    for number, name in usable:
        if name == forced:
            return number, name
    if not usable:
        raise InputError(f"{VARIABLE}={forced} cannot be used: the native step is {why_not()}; unset it.")
    known = ", ".join(name for _, name in usable)
    raise InputError(f"{VARIABLE}={forced} cannot be used on this machine, which has {known}; set one of them or off.")


def in_use() -> tuple[ctypes.CDLL, int] | None:
    """The library and the number of ``isa``, or None. The environment, which is slow, is read once."""
    library, chosen = _open()[0], isa()
    return None if library is None or chosen is None else (library, chosen[0])


_held: ContextVar[str | None] = ContextVar("held instruction set", default=None)


@contextmanager
def held_to(name: str) -> Iterator[None]:
    """Let what is made within use this instruction set, one of NAMES, or "off": machines that work together agree.

    It holds for the calling thread alone, and comes before FULLBATCH_NATIVE.
    """
    token = _held.set(_parse(name))
    try:
        yield
    finally:
        _held.reset(token)


def _forced() -> str | None:
    """What ``held_to`` or FULLBATCH_NATIVE names: one of NAMES or "off"; None where neither does."""
    held = _held.get()
    return _parse(os.environ.get(VARIABLE, "")) if held is None else held


@cache
def _parse(text: str) -> str | None:
    value = text.strip().lower()
    if value and value not in (*NAMES, "off"):
        raise InputError(f"{VARIABLE}={text} is unknown; the known ones are {', '.join(NAMES)} and off.")
    return value or None


@cache
def _open() -> tuple[ctypes.CDLL | None, str]:
    """Find and load the library: (it, "") or (None, why not)."""
    # An editable install has two folders: the sources, and before it the one with what was compiled.
    paths = [Path(folder, FILE) for folder in sys.modules["fullbatch"].__path__]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return None, (
            "not compiled: no C++ compiler was found when fullbatch was installed, or the build failed "
            "(FULLBATCH_REQUIRE_NATIVE=1 at a new install shows why)"
        )
    try:
        library = ctypes.CDLL(os.fspath(path))
        library.fb_abi.restype, library.fb_abi.argtypes = SIGNATURES["fb_abi"]
        if library.fb_abi() != ABI:
            return None, f"out of date: {path} has interface {library.fb_abi()}, this fullbatch {ABI}; install it again"
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:  # what is missing or not for this machine; a function that is not there
        return None, f"there but cannot be loaded: {' '.join(str(error).split())}"
    return library, ""


@cache
def _usable() -> tuple[tuple[int, str], ...]:
    library = _open()[0]
    found = []
    number = 0
    while library and (name := library.fb_isa_name(number)):
        if library.fb_isa_usable(number):
            found.append((number, name.decode()))
        number += 1
    return tuple(found)
