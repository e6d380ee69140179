"""Dask as the cluster of ``cluster.py``: an actor for each shard. Another engine is another file like this one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from fullbatch.errors import ClusterError
from fullbatch.fold.cluster import Lost
from fullbatch.fold.shard import Answer, Recipe, Shard, here

FIRST = 60.0  # seconds for a worker's first answer, at least: it may have to import what it needs
SLICE = 0.5  # seconds after which it is looked whether the one who is waited for is there still


class Handle(NamedTuple):
    """A shard at a worker. future : keeps it alive;  actor : what is called"""

    address: str
    future: Any
    actor: Any


class Slot(NamedTuple):
    """Where an array was."""

    number: int


class Actor(Shard):
    """A shard whose answers travel as a list of arrays and the rest: arrays within others take twice the time."""

    def answer(self, *arguments: Any) -> Any:
        return apart(super().answer(*arguments))


def apart(answer: Answer) -> list[Any]:
    """The arrays of an answer, and the answer without them."""
    arrays: list[Any] = []

    def without(value: Any) -> Any:
        if type(value) in (list, tuple):
            return type(value)(map(without, value))
        if not getattr(value, "shape", ()):
            return value
        arrays.append(value)
        return Slot(len(arrays) - 1)

    rest = answer._replace(parts=without(answer.parts))
    return [*arrays, rest]


def together(sent: Any) -> Answer:
    """What ``apart`` made a list of; whatever else was sent is an answer already."""
    if not isinstance(sent, list):
        told: Answer = sent
        return told

    def with_arrays(value: Any) -> Any:
        if isinstance(value, Slot):
            return sent[value.number]
        return type(value)(map(with_arrays, value)) if type(value) in (list, tuple) else value

    rest: Answer = sent[-1]
    return rest._replace(parts=with_arrays(rest.parts))


class OnDask:
    """The six functions of ``cluster.Workers``.

    client  : distributed's, which knows the scheduler, and whatever authenticates and encrypts
    timeout : seconds after which a worker that says nothing is asked whether it is there, and as many to answer that
    wait    : seconds to wait for a worker where there is none
    """

    def __init__(self, client: Any, timeout: float = 30.0, wait: float = 60.0) -> None:
        self.client, self.timeout, self.wait = client, timeout, wait

    def survey(self) -> dict[str, Any]:
        threads = self._threads_of_some()
        seconds = max(self.timeout, FIRST)
        found = self._each(here, threads, seconds)
        if not found:
            raise ClusterError(f"none of the {len(threads)} workers answered within {seconds:g} s.")
        return {
            address: told if isinstance(told, BaseException) else {**told, "threads": threads[address]}
            for address, told in found.items()
        }

    def start(self, shards: Sequence[tuple[Recipe, Any, str]]) -> list[Any]:
        futures = [self._submit(Actor, address, recipe, *data, actor=True) for recipe, data, address in shards]
        return [self._handle(future, address) for future, (_, _, address) in zip(futures, shards, strict=True)]

    def ask(self, calls: Mapping[int, tuple[Any, str, tuple[Any, ...]]]) -> dict[int, Answer | Lost]:
        asked: dict[int, Any] = {}
        for i, (handle, name, arguments) in calls.items():
            try:
                asked[i] = getattr(handle.actor, name)(*arguments)
            except Exception as error:  # the client knows that the worker is gone
                asked[i] = Lost(_short(error))
        end = time.monotonic() + self.timeout  # one for all: each has had it when the first has
        silent: set[str] = set()  # workers of several shards, of which the first was waited for
        for i, one in asked.items():
            if not isinstance(one, Lost):
                address = calls[i][0].address
                asked[i] = self._answer(calls[i][0], one, end, address in silent)
                if isinstance(asked[i], Lost):
                    silent.add(address)
        return asked

    def anew(self, recipe: Recipe, data: Any) -> Any:
        end = time.monotonic() + self.wait
        while True:
            self._check_scheduler()
            found = self._each(here, self._threads(), self.timeout, first=True)
            if found:
                address = next(iter(found))
                return self._handle(self._submit(Actor, address, recipe, *data, actor=True), address)
            if time.monotonic() > end:
                raise ClusterError(f"a shard was lost, and no worker answered within {self.wait:g} s to take it over.")
            time.sleep(SLICE)

    def retire(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            handle.future.release()

    def each(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        self._threads_of_some()
        name = getattr(function, "__name__", "task")
        futures = [
            self.client.submit(function, *own, key=f"fullbatch-{name}-{uuid4().hex}", pure=False) for own in arguments
        ]
        try:
            return [self._result(future) for future in futures]
        finally:
            for future in futures:
                future.release()

    def _result(self, future: Any) -> Any:
        """What a task says, wherever it is done in the end."""
        while not future.done():
            time.sleep(0.005)
            self._check_scheduler()
        if future.status == "finished":
            return future.result()
        error = future.exception()
        if isinstance(error, MemoryError):
            raise ClusterError(f"a worker is out of memory ({error}); give each more, or take more workers.")
        if type(error).__module__.startswith("distributed"):
            raise ClusterError(
                f"a worker was lost again and again while it read or counted a part of the table ({_short(error)}): "
                "give each worker more memory, or take more workers."
            )
        raise error

    # What they are made of

    def _submit(self, function: Callable[..., Any], address: str, *arguments: Any, **how: Any) -> Any:
        """A task for this worker and no other. Each has a key of its own: the same one twice would be one task."""
        key = f"fullbatch-{getattr(function, '__name__', 'task')}-{uuid4().hex}"
        return self.client.submit(
            function, *arguments, key=key, workers=[address], allow_other_workers=False, pure=False, **how
        )

    def _threads(self) -> dict[str, int]:
        """The workers that the scheduler knows, with their threads."""
        try:
            return dict(self.client.nthreads())
        except Exception as error:
            raise self._gone(error) from None

    def _threads_of_some(self) -> dict[str, int]:
        """The same, of one worker at least, which is waited for."""
        threads = self._threads()
        if not threads:
            where = self.client.scheduler.address if self.client.scheduler else "the scheduler"
            warnings.warn(f"cluster: {where} has no worker; waiting up to {self.wait:g} s for one.", stacklevel=3)
            end = time.monotonic() + self.wait
            while not (threads := self._threads()):
                if time.monotonic() > end:
                    raise ClusterError(f"no worker came to {where} within {self.wait:g} s; start some, or wait longer.")
                time.sleep(min(SLICE, self.wait))
        return threads

    def _check_scheduler(self) -> None:
        if self.client.status != "running":
            raise self._gone(self.client.status)

    def _gone(self, reason: Any) -> ClusterError:
        address = getattr(self.client.scheduler, "address", "its address")
        return ClusterError(
            f"the scheduler at {address} does not answer any more ({_short(reason)}): start the cluster anew. A "
            "training that a Checkpoint keeps goes on from there with resume=, on any cluster or without one."
        )

    def _each(
        self, function: Callable[[], Any], addresses: Mapping[str, int], seconds: float, first: bool = False
    ) -> dict[str, Any]:
        """What a function says on each worker that answers in time, or how it fails; or of the ``first`` alone."""
        futures = {address: self._submit(function, address) for address in addresses}
        found: dict[str, Any] = {}
        end = time.monotonic() + seconds
        looked = time.monotonic()
        while len(found) < len(futures) and time.monotonic() < end and not (first and found):
            for address, future in futures.items():
                if address not in found and future.done():
                    failed = future.exception() if future.status != "finished" else None
                    found[address] = failed if failed is not None else future.result()
                    if first and failed is not None:
                        del found[address]
                    elif first:
                        break
            time.sleep(0.005)
            if time.monotonic() - looked > SLICE:  # a task for a worker that is gone would wait for ever
                there, looked = self._threads(), time.monotonic()
                for address in [one for one in futures if one not in there and one not in found]:
                    futures.pop(address).release()
        for future in futures.values():
            future.release()
        return found

    def _handle(self, future: Any, address: str) -> Any:
        """The handle of a shard that is made just now; Lost where its worker is. The recipe's own errors are raised."""
        last = time.monotonic()
        while not future.done():
            time.sleep(0.005)
            if time.monotonic() - last < SLICE:
                continue
            last = time.monotonic()
            self._check_scheduler()
            if address not in self._threads():
                future.release()
                return Lost("it is gone")
        try:
            if future.status == "finished":
                return Handle(address, future, future.result(timeout=self.timeout))
            error = future.exception(timeout=self.timeout)
        except Exception as lost:  # between the shard's being made and its being known here
            future.release()
            return Lost(_short(lost))
        future.release()
        if type(error).__module__.startswith("distributed") or not isinstance(error, Exception):
            return Lost(_short(error))
        raise error

    def _answer(self, handle: Handle, asked: Any, end: float, silent: bool) -> Answer | Lost:
        """What an actor says. Who is silent too long is asked for a sign of life, which one that computes can give.

        silent : it was asked already, and gave none
        """
        while True:
            try:
                left = 0.01 if silent else min(max(end - time.monotonic(), 0.01), SLICE)
                told: Answer = together(asked.result(timeout=left))
                return told
            except TimeoutError:
                self._check_scheduler()
                if handle.address not in self._threads():
                    return Lost("it is gone")
                if time.monotonic() < end and not silent:
                    continue
                if silent or not self._lives(handle):
                    return Lost(f"it has not answered for {self.timeout:g} s")
                end = time.monotonic() + self.timeout
            except Exception as error:
                self._check_scheduler()
                return Lost(_short(error))

    def _lives(self, handle: Handle) -> bool:
        try:
            return bool(handle.actor.pong().result(timeout=self.timeout))
        except Exception:
            return False


def _short(reason: Any) -> str:
    text = " ".join(str(reason).split()) or type(reason).__name__
    return text[:150].rstrip(".")
