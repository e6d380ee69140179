"""Values <-> JSON and plain arrays: what a model file is made of. No pickle, so that reading runs no code.

A value that JSON lacks is an object whose key "$" says what it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fullbatch.errors import InputError
from fullbatch.machine.arrays import to_host

Arrays = dict[str, np.ndarray]


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
    if array.dtype.kind in "biuf":
        arrays[name] = plain(array)
        return {"$": "array", "name": name}
    values = array.ravel().tolist()
    if not all(isinstance(value, (str, bool, int, float)) for value in values):
        raise InputError(f"{name} holds objects that are neither text nor numbers; a model file cannot hold them.")
    packed = pack(values, name, arrays)
    return {"$": "objects", "shape": list(array.shape), "text": array.dtype.kind == "U", "values": packed}


def plain(array: np.ndarray) -> np.ndarray:
    """The array in C order and native byte order, as the file stores it."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def unpack(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of ``pack``; ValueError, TypeError or LookupError for what ``pack`` does not write."""
    if isinstance(value, list):
        return [unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    match value["$"]:
        case "float":
            return float(str(value["value"]))
        case "tuple":
            return tuple(unpack(item, arrays) for item in value["items"])
        case "dict":
            return {unpack(key, arrays): unpack(item, arrays) for key, item in value["items"]}
        case "array":
            return arrays[value["name"]]
        case "objects":
            values = np.array([*unpack(value["values"], arrays), None], dtype=object)[:-1]
            return (values.astype(str) if value["text"] else values).reshape(value["shape"])
        case "RandomState":
            state = np.random.RandomState()
            state.set_state(unpack(value["state"], arrays))
            return state
        case kind:
            raise ValueError(f"a value of the unknown kind {str(kind)[:40]!r}")


def json_ready(value: Any) -> Any:
    """The value with None, JSON's null, for what JSON has no number for: NaN, where a score is not defined."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
