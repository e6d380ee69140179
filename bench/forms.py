"""The form of the JSON files: what has to be there, so that a damaged or foreign file is one line and not a traceback.

A form is a type (float: any finite number); None; a tuple of forms, one of which fits; [form], a list of such;
{str: form}, a table with any keys; {"key": form, "key?": form}, a table with these keys at the least, the second one
only if it is there; or Such(form, holds, words), of which more is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

LARGEST = 1e300  # of a number: with a larger one the arithmetic ends


class Such(NamedTuple):
    form: Any
    holds: Callable[[Any], bool]
    words: str


def misfit(value: Any, form: Any, where: str = "it") -> str | None:
    """Where the value does not fit the form, and what should be there; None if it fits."""
    return next(_misfits(value, form, where), None)


def _misfits(value: Any, form: Any, where: str) -> Iterator[str]:
    if isinstance(form, Such):
        yield from _misfits(value, form.form, where)
        if not form.holds(value):
            yield f"{where} is not {form.words}"
    elif isinstance(form, tuple):
        found = [misfit(value, one, where) for one in form]
        if None not in found:
            yield str(found[0])
    elif isinstance(form, list):
        yield from _of_type(value, list, where)
        for index, one in enumerate(value):
            yield from _misfits(one, form[0], f"{where}[{index}]")
    elif isinstance(form, dict):
        yield from _of_type(value, dict, where)
        yield from _in_table(value, form, where)
    else:
        yield from _of_type(value, form, where)


def _in_table(value: dict[str, Any], form: dict[Any, Any], where: str) -> Iterator[str]:
    if str in form:
        form = dict.fromkeys(value, form[str])
    for key, wanted in form.items():
        name = key.removesuffix("?")
        if name in value:
            yield from _misfits(value[name], wanted, f"{where}.{name}")
        elif name == key:
            yield f"{where} has no {name}"


def _of_type(value: Any, kind: Any, where: str) -> Iterator[str]:
    if kind is None:
        fits = value is None
    elif kind in (int, float):
        fits = isinstance(value, (int, kind)) and not isinstance(value, bool) and abs(value) < LARGEST
    else:
        fits = isinstance(value, kind)
    if not fits:
        names = {None: "null", int: "a whole number", float: "a number", str: "text", dict: "a table", list: "a list"}
        yield f"{where} is not {names.get(kind, kind)}"


# --- What there is --------------------------------------------------------------------------------------------

POSITIVE = Such(float, lambda value: value > 0, "a number above 0")
COUNT = Such(int, lambda value: value >= 0, "a count")
SOME = Such(int, lambda value: value >= 1, "a count of at least 1")
MACHINE = {
    "cpu": str, "cores": int, "threads": int, "simd": str, "memory": (int, None), "load": (float, None), "system": str,
    "libc": str, "python": str, "versions": {str: str}, "gpus": [{"name": str}], "revision": (str, None), "date": str,
    "blas": [{"library": str, "version": (str, None), "of": str}], "native": {"library?": (dict, None)},
    "environment?": {str: str},
}  # fmt: skip
RESULT = {
    "kind": str, "command": str, "machine": MACHINE, "settings": dict, "points": [dict], "left_out": [str],
    "summary": dict, "finished": bool, "resumed": [str], "schema": int,
}  # fmt: skip
TIMING = {
    "median": POSITIVE,
    "min": POSITIVE,
    "max": POSITIVE,
    "calls?": SOME,
    "samples": [POSITIVE],
    "disturbed?": bool,
}
ROUNDS = {"kept": COUNT, "dropped": COUNT, "cut?": bool, "disturbed?": COUNT, "two_threads_over_one?": [float]}
LIMITS = {str: {"product": POSITIVE, "copy": POSITIVE, "read": float}}
_SCALING = {
    "backend": str, "device": str, "step": str, "threads": int, "shape": str, "m": SOME, "rounds": ROUNDS,
    "dtype": Such(str, {"float32", "float64"}.__contains__, "float32 or float64"), "data_bytes": POSITIVE,
    "extra_bytes": (COUNT, None), "error_of_gradient?": float,
    "roofline": {"seconds": POSITIVE, "bound": str, "examples_per_second": POSITIVE},
}  # fmt: skip
_RATES = ("examples_per_second", "gflops", "fraction")
_FASTEST = ({"name": str, "ratio": POSITIVE}, None)
POINTS: dict[str, Any] = {
    "scaling": (
        {**_SCALING, "seconds": TIMING, **dict.fromkeys(_RATES, POSITIVE)},
        {**_SCALING, "seconds": None, **dict.fromkeys(_RATES)},  # no quiet round
    ),
    "peers": {
        "part": Such(str, {"step", "epoch"}.__contains__, "step or epoch"), "case": str, "allocator": str,
        "shape": str, "m": SOME, "times": {str: (TIMING, None)}, "steps": {str: str}, "rounds": ROUNDS,
        "left_out": {str: str}, "error_of_gradient?": {str: float},
    },
    "training": Such(
        {
            "data": str, "contender": str, "seed": int, "step": str, "seconds": [POSITIVE], "losses": [float],
            "rounds?": ROUNDS,
        },
        lambda point: len(point["seconds"]) == len(point["losses"]) > 0,
        "with one loss for each of its seconds",
    ),
}  # fmt: skip
POINTS["profile"] = Such(
    {
        "shape": str, "m": SOME, "batch": (SOME, None), "threads": SOME, "times": {str: (TIMING, None)},
        "steps": {str: str}, "rounds": ROUNDS,
    },
    lambda point: {"all", "one thread", "call"} <= point["times"].keys() and "all" in point["steps"],
    "with times of all, one thread and call",
)  # fmt: skip
SUMMARIES: dict[str, Any] = {  # of a result that has points
    "scaling": {
        "limits": LIMITS,
        "growth": [
            {
                "backend": str, "shape": str, "from": SOME, "to": SOME, "time_over_proportional": POSITIVE,
                "extra_bytes_more": (int, None),
            }
        ],
        "crossover": [{"shape": str, "cpu": str, "m": (POSITIVE, None), "top_m": SOME, "top_ratio": POSITIVE}],
    },
    "peers": {
        "limits": LIMITS,
        "rows": [
            {
                "part": str, "case": str, "allocator": str, "own": str, "step": str, "limit": str, "of_limit": float,
                "as_used": _FASTEST, "by_hand": _FASTEST, "over": {str: POSITIVE},
            }
        ],
        "geometric_means": [
            {
                "allocator": str, "own": str, "cases": SOME,
                **dict.fromkeys(("as_used", "by_hand"), ({"ratio": POSITIVE, "least": POSITIVE}, None)),
            }
        ],
    },
    "training": Such(
        {
            "targets": {str: POSITIVE},
            "times": [
                {
                    "data": str, "contender": str, "step": str, "seeds": SOME, "reached": COUNT,
                    "disturbed?": COUNT, **dict.fromkeys(("seconds", "epochs", "ratio"), (POSITIVE, None)),
                }
            ],
        },
        lambda summary: all(row["data"] in summary["targets"] for row in summary["times"]),
        "with a target for each of its times",
    ),
    "profile": {
        "limits": LIMITS,
        "splits": [
            {
                "shape": str, "m": SOME, "batch": (SOME, None), "step": str, "whole": POSITIVE,
                "parts": {str: (float, None)}, "reading": (POSITIVE, None), "one_thread": POSITIVE, "disturbed?": bool,
            }
        ],
    },
}  # fmt: skip
