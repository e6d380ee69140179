"""Dask as the cluster of ``cluster.py``: an actor for each shard. Another engine is another file like this one."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any, NamedTuple
from uuid import uuid4

from fullbatch.errors import ClusterError
from fullbatch.fold.cluster import Lost, check_versions
from fullbatch.fold.shard import Answer, Recipe, Shard, here
from fullbatch.machine.packing import packed, unpacked

FIRST = 60.0  # seconds for a worker's first answer, at least: it may have to import what it needs
REACH = 5.0  # seconds for a worker to answer this process itself, which not every network lets through
SLICE = 0.5  # seconds after which it is looked whether the one who is waited for is there still


class Handle(NamedTuple):
    """A shard at a worker. future : keeps it alive, and has its name"""

    address: str
    future: Any


class Actor(Shard):
    """A shard whose calls and answers travel as ``packing`` makes them: each object more would cost time."""

    def called(self, *sent: Any) -> Any:
        name, arguments = unpacked(sent[0] if len(sent) == 1 else sent)
        return packed(getattr(self, name)(*arguments))


def asked_here() -> Callable[[], dict[str, Any]]:
    """``shard.here`` as a function that travels whole.

    A worker that is sent the name of a module which it lacks ends its connection, and nobody would hear what it lacks.
    """

    def what_is_here() -> dict[str, Any]:
        from fullbatch.fold.shard import here

        return here()

    return what_is_here


class OnDask:
    """The six functions of ``cluster.Workers``.

    client  : distributed's, which knows the scheduler, and whatever authenticates and encrypts
    timeout : seconds after which a worker that says nothing is asked whether it is there, and as many to answer that
    wait    : seconds to wait for a worker where there is none
    """

    def __init__(self, client: Any, timeout: float = 30.0, wait: float = 60.0) -> None:
        self.client, self.timeout, self.wait = client, timeout, wait
        self.unreached: set[str] = set()  # workers whom the scheduler alone can ask
        self.known: set[str] = set()  # workers that have this version

    def survey(self) -> dict[str, Any]:
        threads = self._threads_of_some()
        seconds = max(self.timeout, FIRST)
        found = self._each(asked_here(), threads, seconds)
        if not found:
            raise ClusterError(
                f"none of the {len(threads)} workers answered within {seconds:g} s, as {next(iter(threads))}: it is "
                "stopped, busy, or paused by Dask for want of memory; look at its log, or give it more memory."
            )
        return {
            address: told if isinstance(told, BaseException) else {**told, "threads": threads[address]}
            for address, told in found.items()
        }

    def start(self, shards: Sequence[tuple[Recipe, Any, str]]) -> list[Any]:
        futures = [self._submit(Actor, address, recipe, *data, actor=True) for recipe, data, address in shards]
        made = [self._handle(future, address) for future, (_, _, address) in zip(futures, shards, strict=True)]
        return self._reached(made)

    def ask(self, calls: Mapping[int, tuple[Any, str, tuple[Any, ...]]]) -> dict[int, Answer | Lost]:
        self._check_scheduler()
        left = self.client.sync(self._begun, calls)
        answers: dict[int, Answer | Lost] = {}
        ends = dict.fromkeys(calls, time.monotonic() + self.timeout)
        while True:
            for i in [i for i, task in left.items() if task.done()]:
                answers[i] = self._answer(left.pop(i))
            if left:
                answers.update(self._lost({i: calls[i][0] for i in left}, ends))
                left = {i: task for i, task in left.items() if i not in answers}
            if not left:
                return answers
            self.client.sync(_waited, left.values())

    def anew(self, recipe: Recipe, data: Any) -> Any:
        end = time.monotonic() + self.wait
        while True:
            self._check_scheduler()
            found = self._each(asked_here(), self._threads(), self.timeout, first=True)
            if found:
                address = next(iter(found))
                return self._reached([self._handle(self._submit(Actor, address, recipe, *data, actor=True), address)])[
                    0
                ]
            if time.monotonic() > end:
                raise ClusterError(f"a shard was lost, and no worker answered within {self.wait:g} s to take it over.")
            time.sleep(SLICE)

    def retire(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            handle.future.release()

    def each(
        self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], needs: Sequence[str] = ()
    ) -> list[Any]:
        self._check_versions()
        name = getattr(function, "__name__", "task")
        futures = [
            self.client.submit(function, *own, key=f"fullbatch-{name}-{uuid4().hex}", pure=False) for own in arguments
        ]
        try:
            return [self.result(*one) for one in zip_longest(futures, needs, fillvalue="")]
        finally:
            for future in futures:
                future.release()

    def result(self, future: Any, need: str = "") -> Any:
        """What a task says, wherever it is done in the end. ``need`` : said where memory was short"""
        while not future.done():
            time.sleep(0.005)
            self._check_scheduler()
        if future.status == "finished":
            return future.result()
        error = future.exception()
        why = f": {need}" if need else ""
        if isinstance(error, MemoryError):
            raise ClusterError(f"a worker is out of memory ({error}){why}; give each more, or take more workers.")
        if type(error).__module__.startswith("distributed"):
            raise ClusterError(
                f"a worker was lost again and again while it read or counted a part of the table ({_short(error)})"
                f"{why}; give each worker more memory, or take more workers."
            )
        raise error

    # What they are made of

    def _check_versions(self) -> None:
        """Before a worker is sent what names a module of ours: without it, it would end its connection, and be gone."""
        if not self._threads_of_some().keys() <= self.known:
            found = self.survey()
            check_versions(found, here())
            self.known |= found.keys()

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
                if address in found or not future.done():
                    continue
                # A worker that is killed between its answer and our fetching it would be waited for without end.
                with suppress(TimeoutError):
                    fetch = future.result if future.status == "finished" else future.exception
                    found[address] = fetch(timeout=SLICE)
                    if first and isinstance(found[address], BaseException):
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
        """The handle of a shard that is made just now; Lost where its worker is, or its MemoryError."""
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
                return Handle(address, future)
            error = future.exception(timeout=self.timeout)
        except Exception as lost:  # between the shard's being made and its being known here
            future.release()
            return Lost(_short(lost))
        future.release()
        if type(error).__module__.startswith("distributed") or not isinstance(error, Exception):
            return Lost(_short(error))
        if isinstance(error, MemoryError):
            return error
        raise error

    # Calls, which run on the client's loop

    async def _begun(self, calls: Mapping[int, tuple[Any, str, tuple[Any, ...]]]) -> dict[int, Any]:
        """All calls on their way, as tasks, and a while later: most have answered by then, in one turn of the loop."""
        tasks = {i: asyncio.ensure_future(self._called(*call)) for i, call in calls.items()}
        for task in tasks.values():
            task.add_done_callback(_seen)
        if tasks:
            await _waited(tasks.values())
        return tasks

    async def _called(self, handle: Handle, name: str, arguments: tuple[Any, ...]) -> Any:
        sent = packed((name, arguments))
        return unpacked(await self._execute(handle, "called", *(sent if isinstance(sent, list) else [sent])))

    async def _execute(self, handle: Handle, function: str, *arguments: Any) -> Any:
        """What an actor's own proxy does, but straight to the worker: that sends all by way of the scheduler."""
        from distributed.protocol import to_serialize

        told = {"actor": handle.future.key, "function": function, "args": [to_serialize(one) for one in arguments]}
        if handle.address in self.unreached:
            message = {"op": "actor_execute", **told}
            answer = await self.client.scheduler.proxy(worker=handle.address, msg=message)
        else:
            answer = await self.client.rpc(handle.address).actor_execute(**told)
        if answer["status"] != "OK":
            raise answer["exception"]
        return answer["result"]

    async def _pongs(self, handles: Sequence[Handle], seconds: float) -> list[bool]:
        """Which of them answer in time, also while they compute."""
        asked = [asyncio.ensure_future(self._execute(handle, "pong")) for handle in handles]
        # Not wait_for, which would wait for the end of what it gives up, on however broken a connection.
        done, silent = await asyncio.wait(asked, timeout=seconds) if asked else (set(), set())
        for task in silent:
            task.add_done_callback(_seen)
            task.cancel()
        return [task in done and task.exception() is None and task.result() is True for task in asked]

    def _reached(self, made: list[Any]) -> list[Any]:
        """The same; workers that cannot be reached from here are asked by way of the scheduler from now on."""
        new = [one for one in made if isinstance(one, Handle) and one.address not in self.unreached]
        for handle, there in zip(new, self.client.sync(self._pongs, new, REACH), strict=True):
            if not there:
                self.unreached.add(handle.address)
        return made

    def _answer(self, task: Any) -> Answer | Lost:
        error = task.exception()
        if error is None:
            told: Answer = task.result()
            return told
        self._check_scheduler()
        return Lost("its connection ended" if isinstance(error, OSError) else _short(error))

    def _lost(self, silent: Mapping[int, Handle], ends: dict[int, float]) -> dict[int, Lost]:
        """Who of them is gone, or has had its time and gives no sign of life, which one that computes can give."""
        self._check_scheduler()
        threads, now = self._threads(), time.monotonic()
        found = {i: Lost("it is gone") for i, handle in silent.items() if handle.address not in threads}
        late = [i for i in silent if i not in found and ends[i] < now]
        if late:
            alive = self.client.sync(self._pongs, [silent[i] for i in late], self.timeout)
            ends.update(dict.fromkeys(late, time.monotonic() + self.timeout))
            silence = Lost(f"it has not answered for {self.timeout:g} s")
            found.update({i: silence for i, lives in zip(late, alive, strict=True) if not lives})
        return found


async def _waited(tasks: Collection[Any]) -> None:
    await asyncio.wait(tasks, timeout=SLICE)


def _seen(task: Any) -> None:
    """Its error is known, so that none is logged of a call that was given up."""
    if not task.cancelled():
        task.exception()


def _short(reason: Any) -> str:
    text = " ".join(str(reason).split()) or type(reason).__name__
    return text[:150].rstrip(".")
