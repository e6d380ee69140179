"""What is asked of arrays of any library: settled where they are lazy, and brought to the host whole or not at all."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from fullbatch.errors import ArrayTypeError
from fullbatch.machine import arrays

# --- Lazy libraries --------------------------------------------------------------------------------------------------


class Lazy:
    """Stands in for an array of a library that is lazy: ``persist`` gives the same, computed."""

    dtype, shape = "float64", (2,)

    def __init__(self, done: bool = False) -> None:
        self.done = done

    def persist(self) -> Lazy:
        return Lazy(done=True)


class State(NamedTuple):
    t: int
    mean: Any


def test_what_is_lazy_is_settled_with_the_state_that_belongs_to_it() -> None:
    theta, (nothing, velocity, state) = arrays.settled((Lazy(), ((), Lazy(), State(3, [Lazy()]))))
    assert theta.done
    assert velocity.done
    assert (nothing, type(state), state.t, state.mean[0].done) == ((), State, 3, True)


def test_what_is_not_lazy_comes_back_as_it_is(xp: Any) -> None:
    values = xp.array([1.0, 2.0]), State(3, xp.array([0.0, 0.0]))
    assert arrays.settled(values) is values


@pytest.fixture
def da() -> Any:
    return pytest.importorskip("dask.array", reason="dask is not installed")


def test_dask_computes_what_several_arrays_share_once(da: Any) -> None:
    from dask.callbacks import Callback

    seen: list[int] = []

    def look(block: np.ndarray) -> np.ndarray:
        seen.append(block.size)
        return block + 1

    shared = da.from_array(np.arange(6.0), chunks=3).map_blocks(look, meta=np.zeros(0))
    seen.clear()
    theta, (velocity,) = arrays.settled((2 * shared, (shared - 1,)))
    assert seen == [3, 3]
    assert type(theta) is type(velocity) is da.Array
    with Callback(pretask=lambda *_: seen.append(0)):
        assert (theta.compute().tolist(), velocity.compute().tolist()) == ([2, 4, 6, 8, 10, 12], [0, 1, 2, 3, 4, 5])
    assert len(theta.__dask_graph__()) == len(velocity.__dask_graph__()) == 2  # a block each, and no task beside them


def test_cubed_begins_anew_from_what_was_computed() -> None:
    cubed = pytest.importorskip("cubed.array_api", reason="cubed is not installed")
    array = cubed.asarray(np.arange(6.0))
    for _ in range(5):
        array = array + 1.0
    (settled,) = arrays.settled((array,))
    assert type(settled) is type(array)
    assert np.asarray(settled).tolist() == [5, 6, 7, 8, 9, 10]
    assert len(settled.plan().dag) < len(array.plan().dag)


# --- To the host -----------------------------------------------------------------------------------------------------


class Unknown:
    """Stands in for an array of a library that NumPy does not know: without DLPack, NumPy makes an object of it."""

    shape, ndim, dtype = (2,), 1, "float64"


class Scalars(Unknown):
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.ones(())


class Refusing(Unknown):
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise RuntimeError("not automatically,\nuse todense()")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (Unknown(), r"NumPy reads it as an array of object of shape \(\)"),
        (Scalars(), r"NumPy reads it as an array of float64 of shape \(\)"),
        (Refusing(), r"not automatically, use todense\(\)"),
    ],
)
def test_what_numpy_makes_of_an_unknown_array_is_looked_at(array: Any, reason: str) -> None:
    with pytest.raises(ArrayTypeError, match=rf"an array of test_arrays, of shape \(2,\), cannot be .* host: {reason}"):
        arrays.to_host(array)


def test_a_size_that_is_not_known_may_be_any(da: Any) -> None:
    array = da.from_array(np.arange(6.0))
    assert arrays.to_host(array[da.from_array(np.arange(6) > 3)]).tolist() == [4.0, 5.0]


def test_to_host(xp: Any) -> None:
    host = arrays.to_host(xp.array([[1.0, 2.0]]))
    assert type(host) is np.ndarray
    assert host.tolist() == [[1.0, 2.0]]


def test_ndonnx_hands_over_what_it_has_computed() -> None:
    ndx = pytest.importorskip("ndonnx", reason="ndonnx is not installed")
    assert arrays.to_host(ndx.asarray(np.eye(2))).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    with pytest.raises(
        ArrayTypeError, match=r"an array of ndonnx, of shape \(3, None\), cannot be brought to the host"
    ):
        arrays.to_host(ndx.argument(shape=(3, None), dtype=ndx.float64))


# --- Dtypes and devices ----------------------------------------------------------------------------------------------


def test_the_default_integer_is_the_librarys_own(xp: Any) -> None:
    assert arrays.default_integer(xp.array([1.0])) == xp.array([1], "int64").dtype


class Nameless:
    """A device that says nothing of itself, as ndonnx's."""


class On:
    def __init__(self, device: Any, committed: bool = True) -> None:
        self.device, self.committed = device, committed


def test_the_name_of_a_device_holds_no_address(xp: Any) -> None:
    assert "0x" not in arrays.device_name(xp.array([1.0]))
    assert arrays.device_name(On(Nameless())) == arrays.device_name(On(None)) == ""
    assert arrays.device_name(On("cuda:1")) == "cuda:1"


class Sharding:
    def __init__(self, *devices: str) -> None:
        self.device_set = set(devices)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("a", "a", False),
        ("a", "b", True),
        (None, "a", False),
        ("a", None, False),
        (Sharding("a", "b"), "a", True),
        ("b", Sharding("a", "b"), True),
        (Sharding("a", "b"), "c", True),
        (Sharding("a", "b"), Sharding("a", "b"), False),
        (Sharding("a", "b"), Sharding("c", "d"), True),
        (Sharding("a", "b"), None, False),
    ],
)
def test_a_sharding_lies_on_each_of_its_devices(one: Any, other: Any, apart: bool) -> None:
    assert arrays.apart(On(one), On(other)) is apart
    if isinstance(one, Sharding) or isinstance(other, Sharding):
        assert not arrays.apart(On(one), On(other, committed=False))
    assert arrays.device_of(On(Sharding("a", "b"))) is None
    assert arrays.device_name(On(Sharding("b", "a"))) == "a, b"
