"""Array libraries, and what is asked of each: that the same comes out as of NumPy, or that it is refused with a cure.

    python tests/core/libraries.py        the table of docs/arrays.md, of the libraries that are installed here

dpnp from PyPI finds its device on the CPU by two variables, where $V is the environment that it was installed in:
OCL_ICD_FILENAMES=$V/lib/libintelocl.so LD_LIBRARY_PATH=$V/lib.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import tempfile
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fullbatch as fb
from fullbatch.errors import ArrayTypeError
from fullbatch.machine import arrays

NETWORK = fb.Network([3, 4, 2], hidden=["gelu"], output="softmax")


class Library(NamedTuple):
    """module : what is imported;  make : (module, array of NumPy) -> its array;  remark : for the table."""

    module: str
    make: Callable[[Any, np.ndarray], Any]
    remark: str = ""


def _mapped(numpy: Any, array: np.ndarray) -> np.ndarray:
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file.name, array)
        return np.load(file.name, mmap_mode="r")  # the map outlives the name


def _jax(jax: Any, array: np.ndarray) -> Any:
    jax.config.update("jax_enable_x64", True)
    return jax.numpy.asarray(array)


def _strict(strict: Any, array: np.ndarray) -> Any:
    return strict.asarray(array, device=strict.Device("device1"))


TAKEN = {
    "numpy": Library("numpy", lambda numpy, a: a, "views, read-only arrays and any strides too"),
    "numpy.memmap": Library("numpy", _mapped, "read block by block; the result leaves no map behind"),
    "torch": Library(
        "torch", lambda torch, a: torch.asarray(a), "autograd's record is left out; torch.compile traces it"
    ),
    "jax": Library("jax", _jax, "jit, vmap, grad and jax.export trace the pass; X may be spread over devices"),
    "array_api_strict": Library("array_api_strict", _strict, "its devices that no host array can be mixed with too"),
    "dask.array": Library(
        "dask.array", lambda da, a: da.from_array(a, chunks=(-1, 5)[-a.ndim :]), "settled after each update"
    ),
    "cubed": Library("cubed.array_api", lambda cubed, a: cubed.asarray(a), "settled after each update"),
    "ndonnx": Library("ndonnx", lambda ndx, a: ndx.asarray(a), "forward and backward trace, for any number of columns"),
    "dpnp": Library("dpnp", lambda dpnp, a: dpnp.asarray(a), "its device on the CPU; see below"),
}


def _masked(marray: Any, array: np.ndarray) -> Any:
    return marray.masked_namespace(np).asarray(array, mask=np.zeros(array.shape, dtype=bool))


UNITS, MASK = "it has a unit, which would be dropped", "it has a mask, which would be dropped"
CANNOT = "cannot do the pass"
# What is refused, and the words that say why.
REFUSED = {
    "mlx": (Library("mlx.core", lambda mlx, a: mlx.array(a.astype(np.float32))), CANNOT),
    "sparse": (Library("sparse", lambda sparse, a: sparse.COO.from_numpy(a)), CANNOT),
    "blosc2": (Library("blosc2", lambda blosc2, a: blosc2.asarray(a)), CANNOT),
    "ragged": (Library("ragged", lambda ragged, a: ragged.array(a)), CANNOT),
    "numpy.ma": (Library("numpy", lambda numpy, a: np.ma.masked_array(a)), MASK),
    "marray": (Library("marray", _masked), MASK),
    "unyt": (Library("unyt", lambda unyt, a: unyt.unyt_array(a, "km")), UNITS),
    "astropy.units": (Library("astropy.units", lambda units, a: a * units.km), UNITS),
    "quantities": (Library("quantities", lambda quantities, a: a * quantities.km), UNITS),
    "pint": (Library("pint", lambda pint, a: pint.UnitRegistry().Quantity(a, "km")), UNITS),
    "xarray": (Library("xarray", lambda xarray, a: xarray.DataArray(a)), "it has names, which would be dropped"),
}


def _data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 10))
    return X, np.eye(2)[:, rng.integers(0, 2, 10)], rng.normal(size=10)


def check_pass(make: Callable[[np.ndarray], Any]) -> None:
    """Forward and backward: the same as of NumPy to 1e-9, in arrays of the library."""
    X, Y, _ = _data()
    params = NETWORK.init(seed=0)
    there, A, B = _there(make, params), make(X), make(Y)
    mine, other = NETWORK.forward(params, X), NETWORK.forward(there, A)
    _same(other.A[-1], mine.A[-1], A)
    sums, expected = NETWORK.backward(there, other, B), NETWORK.backward(params, mine, Y)
    for found, own in zip(sums.gradients, expected.gradients, strict=True):
        _same(found.W, own.W, A)
        _same(found.b, own.b, A)


def check_training(make: Callable[[np.ndarray], Any]) -> None:
    """A cost with its gradient, a training and an estimator."""
    X, Y, y = _data()
    params = NETWORK.init(seed=0)
    there, A, B = _there(make, params), make(X), make(Y)
    (J, g), (expected, own) = fb.cost_and_gradients(NETWORK, there, A, B), fb.cost_and_gradients(NETWORK, params, X, Y)
    np.testing.assert_allclose(float(J), expected, rtol=1e-9)
    _same(g[0].W, own[0].W, A)
    settings: dict[str, Any] = {"learning_rate": 0.5, "iterations": 3}
    learned = fb.gradient_descent(NETWORK, params, X, Y, **settings).params
    _same(fb.gradient_descent(NETWORK, there, A, B, **settings).params[0].W, learned[0].W, A)
    model = fb.MLPRegressor(hidden_layer_sizes=(4,), solver="gd", max_iter=3, random_state=0)
    fitted = model.fit(X.T, y).predict(X.T)
    rows = make(np.ascontiguousarray(X.T))
    np.testing.assert_allclose(arrays.to_host(model.fit(rows, y).predict(rows)), fitted, rtol=1e-9)


def _there(make: Callable[[np.ndarray], Any], params: Any) -> list[fb.Layer]:
    return [fb.Layer(make(W), make(b)) for W, b in params]


def _same(found: Any, expected: np.ndarray, like: Any) -> None:
    assert type(found) is (np.ndarray if isinstance(like, np.memmap) else type(like))
    np.testing.assert_allclose(arrays.to_host(found), expected, rtol=1e-9, atol=1e-12)


def said(make: Callable[[np.ndarray], Any]) -> str:
    """The words with which an estimator and a function refuse an array."""
    X, Y, y = _data()
    words = []
    for call in (
        lambda: fb.cost(NETWORK, NETWORK.init(seed=0), make(X), Y),
        lambda: fb.MLPRegressor(max_iter=1).fit(make(np.ascontiguousarray(X.T)), y),
    ):
        try:
            call()
        except ArrayTypeError as error:
            words.append(str(error))
    assert len(words) == 2, "it was taken"
    return words[0]


def made_by(library: Library) -> Callable[[np.ndarray], Any]:
    """What makes its arrays. ImportError where it is not installed."""
    module = importlib.import_module(library.module)
    return lambda array: library.make(module, array)


def _version(library: Library) -> str:
    return importlib.metadata.version(library.module.split(".")[0])


def main() -> None:
    print("| library | version | |\n| --- | --- | --- |")
    for name, library in TAKEN.items():
        try:
            check_pass(made_by(library))
            check_training(made_by(library))
            print(f"| {name} | {_version(library)} | {library.remark} |")
        except ImportError as error:
            print(f"| {name} | not here: {error} | |")
    print("\n| refused | version | why |\n| --- | --- | --- |")
    for name, (library, words) in REFUSED.items():
        try:
            why = said(made_by(library))
            assert words in why, why
            print(f"| {name} | {_version(library)} | {words} |")
        except ImportError as error:
            print(f"| {name} | not here: {error} | |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
