"""Several GPUs of this machine, by the protocol of a cluster: each holds a shard, and answers with nodes of the tree.

A device has a thread and a stream of its own, so that all compute at once. Parameters go to each with every call; the
nodes come to the host and are added there, in the order of the one tree: the bits are those of one device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NamedTuple

from fullbatch.errors import InputError
from fullbatch.fold.fold import Fold
from fullbatch.fold.shard import Answer, Recipe, Request, Shard, here
from fullbatch.fold.worker import Operation
from fullbatch.machine import arrays, native_library
from fullbatch.machine.places import Place
from fullbatch.machine.threads import Helpers
from fullbatch.sources import Examples
from fullbatch.sources.placing import put_whole_or_streamed
from fullbatch.sources.sharded import Sharded
from fullbatch.sources.spread import HostRows, Spread


def shared_among(examples: Examples, precision: str | None) -> Examples:
    """Examples whose X is ``Spread`` as those of a cluster, whose workers are the devices.

    InputError for a precision, which is a single device's.
    """
    X = examples.X
    assert isinstance(X, Spread)
    if precision is not None:
        raise InputError(f"precision={precision!r} is for one device; leave it out, or name one.")
    rows = HostRows(replace(examples, X=X.host))
    return Examples(Sharded(X.n, X.m, X.like, rows, Devices(X.places), permuted=False))


class DeviceShard(Shard):
    """A shard whose examples lie on a device, or are uploaded to it block by block where they do not fit."""

    def __init__(self, recipe: Recipe, place: Place) -> None:
        self.recipe, self.data, self.place = recipe, (), place
        rows: Any = recipe.rows  # HostRows
        with place.current():  # CuPy makes a stream on the current device, and refuses it on any other
            self.stream = arrays.cupy_if_loaded().cuda.Stream(non_blocking=True) if place.is_cuda else place.current()
        with place.current(), self.stream, native_library.held_to(recipe.isa):
            examples, left = put_whole_or_streamed(rows.examples(recipe.start, recipe.stop), place)
            self.fold = Fold(recipe.network, examples, budget=left, whole=rows.whole.m)
            self.fold.__enter__()

    def close(self) -> None:
        with self.place.current(), self.stream:
            self.fold.__exit__()

    def answer(self, number: int, operation: Operation, theta: Any, requests: Sequence[Request]) -> Answer:
        with self.place.current(), self.stream:
            return super().answer(number, operation, self.place.put(theta), requests)

    def _nodes(self, operation: Operation, theta: Any, request: Request) -> list[tuple[int, int, tuple[Any, ...]]]:
        nodes = super()._nodes(operation, theta, request)
        return [(first, leaves, tuple(map(_on_host, part))) for first, leaves, part in nodes]

    def _predicted(self, operation: Operation, theta: Any, request: Request) -> Any:
        return _on_host(super()._predicted(operation, theta, request))


def _on_host(part: Any) -> Any:
    """An array, or a number, of a node; what lies on a device is waited for."""
    if not arrays.is_array(part):
        return part
    host = arrays.to_host(part)
    return host if host.ndim else host[()]


class Handle(NamedTuple):
    """A shard at a device, and the thread that works with it."""

    address: str
    shard: DeviceShard
    thread: Helpers


class Devices:
    """The functions of ``cluster.Workers`` that devices need: none of them is ever lost."""

    def __init__(self, places: Sequence[Place]) -> None:
        names = [place.name for place in places]
        self.places = {
            name if names.count(name) == 1 else f"{name} ({names[:i].count(name) + 1})": place
            for i, (name, place) in enumerate(zip(names, places, strict=True))
        }

    def survey(self) -> dict[str, Any]:
        return {address: {**here(), "threads": 1} for address in self.places}

    def start(self, shards: Sequence[tuple[Recipe, Any, str]]) -> list[Any]:
        threads = [Helpers(1, f"fullbatch-{address}") for _, _, address in shards]
        making = [
            thread.submit(DeviceShard, recipe, self.places[address])
            for thread, (recipe, _, address) in zip(threads, shards, strict=True)
        ]
        made = [_result_or_error(one) for one in making]
        handles = [
            Handle(address, shard, thread)
            for thread, shard, (_, _, address) in zip(threads, made, shards, strict=True)
            if isinstance(shard, DeviceShard)
        ]
        if errors := [one for one in made if isinstance(one, BaseException)]:
            self.retire(handles)
            for thread in threads:
                thread.close()
            raise errors[0]
        return handles

    def ask(self, calls: Mapping[int, tuple[Any, str, tuple[Any, ...]]]) -> dict[int, Any]:
        asked = {i: handle.thread.submit(getattr(handle.shard, name), *own) for i, (handle, name, own) in calls.items()}
        return {i: one.result() for i, one in asked.items()}

    def anew(self, recipe: Recipe, data: Any) -> Any:
        raise AssertionError("a device is not lost")

    def retire(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            handle.thread.submit(handle.shard.close).result()
            handle.thread.close()

    def each(self, function: Any, arguments: Sequence[tuple[Any, ...]], needs: Sequence[str] = ()) -> list[Any]:
        return [function(*own) for own in arguments]


def _result_or_error(one: Future[Any]) -> Any:
    error = one.exception()
    return one.result() if error is None else error
