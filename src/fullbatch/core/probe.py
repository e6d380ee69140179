"""Whether an array library can do the pass: tried once, on two examples, so that what fails does not fail midway.

That a library has arrays of the array API standard says little: some lack its functions of 2023, some are sparse, some
have no devices. What the pass needs is what the pass does, so that is what is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fullbatch.core.parameters import Layer
from fullbatch.errors import ArrayTypeError, FullbatchError
from fullbatch.machine import arrays, cuda

_ABLE: set[tuple[Any, str]] = set()  # namespaces, and the version of the standard that each was then


def check_able(array: Any, network: Callable[[list[int]], Any]) -> None:
    """An ArrayTypeError if the library of ``array`` cannot do the pass. It is asked once; NumPy and CuPy never.

    network : makes one of these sizes: ``Network``, which itself asks here
    """
    if arrays.is_numpy(array) or arrays.is_cupy(array):
        return
    version = ""
    try:
        xp = arrays.namespace(array)
        version = str(getattr(xp, "__array_api_version__", ""))
        if (xp, version) in _ABLE:
            return
        _do_the_pass(xp, arrays.device_of(array), network([2, 2, 2]))
    except (FullbatchError, MemoryError):
        raise
    except Exception as error:
        says = f", which follows version {version} of the standard," if version else ""
        raise ArrayTypeError(
            f"the arrays of {arrays.library_name(array)}{says} cannot do the pass ({cuda.one_line(error)}): it needs a "
            "library of the array API standard of version 2023.12 or later, whose arrays are dense and have a .device. "
            "Convert them, for example with numpy.asarray(x, dtype='float32')."
        ) from error
    _ABLE.add((xp, version))


def _do_the_pass(xp: Any, device: Any, network: Any) -> None:
    """Forward and backward on arrays made here: the caller's may stand for values that are not there yet."""
    there = {} if device is None else {"device": device}
    A = xp.asarray([[0.5, -1.0], [1.5, 0.25]], dtype=xp.float32, **there)
    b = xp.asarray([[0.5], [-0.5]], dtype=xp.float32, **there)
    params = (Layer(A, b), Layer(A, b))
    sums = network.backward_unchecked(params, network.forward_unchecked(params, A, xp), A, None, xp)
    for gradient in (array for layer in sums.gradients for array in layer):
        if gradient.shape[0] != 2 or gradient.dtype != A.dtype:
            raise TypeError(f"a gradient came out as {gradient.dtype} of shape {tuple(gradient.shape)}")
