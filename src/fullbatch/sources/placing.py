"""Host data for passes on a device: they are copied there as a whole where they fit, else uploaded block by block."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fullbatch.machine import arrays, cuda
from fullbatch.sources.columns import Columns, Examples
from fullbatch.sources.conveyor import Conveyor, now_on
from fullbatch.sources.encoded import FEW, EncodedTable, EncodedThere
from fullbatch.sources.memory import Dense
from fullbatch.sources.uploaded import Uploaded

RESERVED = 2**31  # bytes that are left to the passes: they hold the arrays of a block, of any step
PIECE = 2**28  # bytes of ones and zeros that are made at a time


def fits(size: int, budget: float) -> bool:
    """Whether ``size`` bytes of data leave enough of a budget of bytes to the passes."""
    return size <= budget - min(RESERVED, budget / 2)


def resident(table: np.ndarray, place: Any) -> Any:
    """The table (m, n) as one array at ``place``; None where it does not fit."""
    try:
        if not place.is_cuda:
            return place.put(np.ascontiguousarray(table))
        cupy = arrays.cupy_if_loaded()
        with place.current():
            target = cupy.empty(table.shape, dtype=table.dtype)
            conveyor = Conveyor(cupy)
            try:
                conveyor.after(now_on(cupy))
                conveyor.send(table, target)
            finally:
                conveyor.close()
            return target
    except Exception as error:
        if not cuda.is_out_of_memory(error):
            raise
    cuda.release_memory(place.empty(table.dtype))
    return None


class Put(NamedTuple):
    """X and Y at a place, and the bytes that they take there while nothing is computed."""

    X: Columns
    Y: Columns
    taken: int


def put_examples(X: np.ndarray, Y: np.ndarray, place: Any, budget: float) -> Put:
    """Host arrays X (n[0], m) and Y (n[L], m) as sources at ``place``: as a whole in ``budget`` bytes, or in blocks."""
    streamed = Uploaded(Dense(X), place), Uploaded(Dense(Y), place)
    whole, _ = as_whole(streamed[0], budget, target=Y.nbytes)
    targets = resident(Y.T, place) if isinstance(whole, Dense) else None
    if targets is None:
        return Put(*streamed, 0)
    return Put(whole, Dense(targets.T), X.nbytes + Y.nbytes)


def as_whole(X: Columns, budget: float, target: int = 0, weight: int = 0) -> tuple[Columns, float]:
    """X with its table copied from the host to its place as a whole, where that fits; and what is left of the budget.

    It is for a training, which reads X many times. A dense table goes there, and an encoded one as numbers and codes.
    What does not fit, and any other source, is uploaded block by block as before; a source that is where the passes run
    stays as it is.

    budget : bytes that may be taken at the place
    target, weight : bytes of Y and of the weights, which go there too; but where X goes block by block, so does Y
    """
    if not isinstance(X, Uploaded):
        return X, max(0.0, budget - weight - target)
    tables = _tables_of(X)
    beside, size = target + weight, sum(table.nbytes for table in tables)
    there: list[Any] = []
    for table in tables if fits(size + beside, budget) else ():
        array = resident(table, X.place)
        if array is None:
            break
        there.append(array)
    if not tables or len(there) < len(tables):
        return X, max(0.0, budget - weight)
    if len(there) == 1:
        return Dense(there[0].T), budget - size - beside
    numbers, ones = there
    coded = EncodedThere(numbers, ones, X.n)
    dense = X.n * X.m * coded.numbers.dtype.itemsize
    if coded.entries > FEW * X.n and fits(size + dense + beside, budget):
        made = made_dense(coded, X.place)
        if made is not None:
            return Dense(made.T), budget - dense - beside
    return coded, budget - size - beside


def _tables_of(X: Uploaded) -> list[np.ndarray]:
    """What of a source on the host may go to its place as a whole, example by example: X, or numbers and codes."""
    if isinstance(X.host, Dense):
        return [X.host.array.T]
    if not isinstance(X.host, EncodedTable):
        return []
    if not X.host.ones.shape[1]:
        return [X.host.numbers]
    return [X.host.numbers, X.host.ones] if X.place.is_cuda else []


def made_dense(coded: EncodedThere, place: Any) -> Any:
    """The table (m, n) of ones and zeros, made where its codes lie; None where it does not fit."""
    try:
        cupy, read = arrays.cupy_if_loaded(), coded.reader()
        with place.current():
            made = cupy.empty((coded.m, coded.n), dtype=coded.numbers.dtype)
            step = max(1, PIECE // (coded.n * made.itemsize))
            for start in range(0, coded.m, step):
                part = slice(start, min(start + step, coded.m))
                made[part] = read(part).T
            return made
    except Exception as error:
        if not cuda.is_out_of_memory(error):
            raise
    cuda.release_memory(coded.numbers)
    return None


def put_whole_or_streamed(own: Examples, place: Any) -> tuple[Examples, float]:
    """Examples of the host at a place, as a whole where they fit; and the bytes that are left there."""
    Y, weight, itemsize = own.Y, own.weight, np.dtype(own.X.like.dtype).itemsize
    target = 0 if Y is None else Y.n * Y.m * itemsize
    X, left = as_whole(Uploaded(own.X, place), place.budget(None), target, 0 if weight is None else weight.nbytes)
    there: Any = None
    if Y is not None:
        whole = not isinstance(X, Uploaded)
        there = Dense(place.put(np.ascontiguousarray(Y.reader()(slice(0, Y.m)).T)).T) if whole else Uploaded(Y, place)
    return Examples(X, there, None if weight is None else place.put(np.ascontiguousarray(weight))), left
