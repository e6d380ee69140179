"""Values <-> JSON and plain arrays: what a model file is made of. No pickle, so that reading runs no code.

A value that JSON lacks is an object whose key "$" says what it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from fullbatch.errors import InputError
from fullbatch.machine.arrays import to_host

Arrays = dict[str, np.ndarray]
MOST_PADDED = 16_000_000  # bytes of an array of texts that may be out of proportion to them


def pack(value: Any, name: str, arrays: Arrays) -> Any:
    """``value`` as JSON can hold it; arrays go to ``arrays`` under ``name``, and leave their name behind.

    InputError for what cannot be packed: functions, and objects of other classes.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$": "float", "value": repr(float(value))}
    if isinstance(value, (list, tuple)):
        items = [pack(item, f"{name}.{index}", arrays) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"$": "tuple", "items": items}
    if isinstance(value, Mapping):
        items = [pack(list(pair), f"{name}.{index}", arrays) for index, pair in enumerate(value.items())]
        return {"$": "dict", "items": items}
    if isinstance(value, np.random.RandomState):
        if value.get_state(legacy=False)["bit_generator"] != "MT19937":
            raise InputError(
                f"{name} is a RandomState of another generator than MT19937, which a model file cannot hold."
            )
        return {"$": "RandomState", "state": pack(value.get_state(legacy=False), name, arrays)}
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _pack_array(to_host(value), name, arrays)
    if callable(value):
        raise InputError(
            f"{name.split('.')[0]} holds a function of your own, and a model file holds data alone; "
            "use the named activations, or keep the model with pickle."
        )
    raise InputError(f"{name} holds a {type(value).__name__}, which a model file cannot hold.")


def _pack_array(array: np.ndarray, name: str, arrays: Arrays) -> Any:
    if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
        arrays[name] = plain(array)
        return {"$": "array", "name": name}
    if array.dtype.kind not in "OU":  # Some would come back as other values: times of nanoseconds as integers.
        raise InputError(f"{name} is of {array.dtype}, which a model file cannot hold; numbers and texts can be kept.")
    values = array.ravel().tolist()
    if not all(isinstance(value, (str, bool, int, float)) for value in values):
        raise InputError(f"{name} holds objects that are neither text nor numbers; a model file cannot hold them.")
    packed = pack(values, name, arrays)
    return {"$": "objects", "shape": list(array.shape), "text": array.dtype.kind == "U", "values": packed}


def plain(array: np.ndarray) -> np.ndarray:
    """The array in C order and native byte order, as the file stores it."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def from_json(text: str | bytes) -> Any:
    """What JSON says, if it says it in one way: ValueError for an object with a name twice, for the words NaN and
    Infinity, which JSON has not, and for a number beyond a float's.
    """
    return json.loads(text, object_pairs_hook=_named_once, parse_constant=_no_number, parse_int=_whole)


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    require(len(found) == len(pairs), "an object has a name twice")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _whole(digits: str) -> int:
    require(math.isfinite(float(digits)), f"a number of {len(digits)} digits is beyond a float's")
    return int(digits)


def unpack(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of ``pack``; ValueError, TypeError or LookupError for what ``pack`` does not write."""
    if isinstance(value, list):
        return [unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    match value["$"]:
        case "float":
            require(value["value"] in ("inf", "-inf", "nan"), "a float that is none of inf, -inf and nan")
            return float(value["value"])
        case "tuple":
            return tuple(unpack(item, arrays) for item in listed(value["items"]))
        case "dict":
            return {unpack(key, arrays): unpack(item, arrays) for key, item in listed(value["items"])}
        case "array":
            return arrays[value["name"]]
        case "objects":
            values = unpack(listed(value["values"]), arrays)
            require(all(isinstance(one, (str, bool, int, float)) for one in values), "an array has other objects")
            as_text = value["text"] and not _is_out_of_proportion(values)
            objects = np.array([*values, None], dtype=object)[:-1]
            shape = listed(value["shape"])
            require(all(map(is_count, shape)) and isinstance(value["text"], bool), "an array is damaged")
            made = objects.astype(str) if as_text else objects
            require(made.tolist() == values, "a text ends with NUL, which an array of texts cannot hold")
            return made.reshape(shape)
        case "RandomState":
            kept = unpack(value["state"], arrays)
            key, position = kept["state"]["key"], kept["state"]["pos"]
            state = np.random.RandomState(0)
            state.set_state(mt19937_state(kept["bit_generator"], key, position, kept["has_gauss"], kept["gauss"]))
            return state
        case kind:
            raise ValueError(f"a value of the unknown kind {str(kind)[:40]!r}")


def listed(values: Any) -> list[Any]:
    """The list; ValueError for a text or an object of JSON, over which a loop would go as well."""
    require(isinstance(values, list), "what should be a list is none")
    return list(values)


def _is_out_of_proportion(texts: list[str]) -> bool:
    """Whether an array of these texts, each of which takes as much as the longest, is far larger than they are."""
    padded = 4 * len(texts) * max(map(len, texts), default=0)
    return padded > MOST_PADDED and padded > 20 * sum(map(len, texts))


def mt19937_state(name: Any, key: Any, position: Any, has_gauss: Any, gauss: Any) -> tuple[Any, ...]:
    """The state of NumPy's RandomState, as its ``set_state`` takes it; ValueError for one that it never has.

    NumPy takes whatever it is given, and a wrong position reads beyond its own memory.
    """
    fits = isinstance(key, np.ndarray) and key.dtype == np.uint32 and key.shape == (624,) and bool(key.any())
    fits = fits and isinstance(position, int) and not isinstance(position, bool) and 0 <= position <= 624
    fits = fits and isinstance(has_gauss, int) and not isinstance(has_gauss, bool) and has_gauss in (0, 1)
    number = isinstance(gauss, (int, float)) and not isinstance(gauss, bool) and math.isfinite(gauss)
    if name != "MT19937" or not fits or not number:
        raise ValueError("a generator's state is damaged")
    return name, key, position, has_gauss, float(gauss)


def require(holds: bool, what: str) -> None:
    """ValueError, which says what is wrong, for a value that was read and is not what it should be."""
    if not holds:
        raise ValueError(what)


def is_count(value: Any) -> bool:
    """Whether it is a whole number of at least 0 that 64 bits hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def json_ready(value: Any) -> Any:
    """The value with None, JSON's null, for what JSON has no number for: NaN, where a score is not defined."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
