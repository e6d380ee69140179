"""What is asked of arrays of any library."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

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
