"""A cluster without a cluster: shards in this process, which pickle on their way, and are lost when a test says so."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import dataclass

from fullbatch.fold.cluster import Lost
from fullbatch.fold.shard import Shard, here


@dataclass
class Handle:
    address: str
    shard: Shard
    retired: bool = False


class InProcess:
    """The six functions of ``cluster.Workers``.

    lose   : told (the number of the call, the shard's worker) before each: True where the worker is lost now
    change : told an answer, gives what comes instead
    said   : of each worker in a survey, by its number, what is other than here
    """

    def __init__(self, count, lose=lambda call, address: False, change=lambda answer: answer, said=None):
        self.count, self.lose, self.change, self.said = count, lose, change, said or {}
        self.calls, self.made, self.retired = 0, 0, []

    def survey(self):
        return {f"w{i}": {**here(), "threads": 1 + i % 2, **self.said.get(i, {})} for i in range(self.count)}

    def start(self, shards):
        return [self._make(recipe, data, address) for recipe, data, address in shards]

    def _make(self, recipe, data, address):
        self.made += 1
        return Handle(address, pickle.loads(pickle.dumps(Shard(recipe, *data))))

    def ask(self, calls):
        self.calls += 1
        answers = {}
        for i, (handle, name, arguments) in calls.items():
            assert not handle.retired
            assert asyncio.run(handle.shard.pong())
            if self.lose(self.calls, handle.address):
                answers[i] = Lost("a test lost it")
                continue
            arguments, answer = pickle.loads(pickle.dumps(arguments)), None
            answer = getattr(handle.shard, name)(*arguments)
            answers[i] = self.change(pickle.loads(pickle.dumps(answer)))
        return answers

    def anew(self, recipe, data):
        return self._make(recipe, data, f"later{self.made}")

    def retire(self, handles):
        for handle in handles:
            handle.retired = True
            self.retired.append(handle.address)

    def each(self, function, arguments, needs=()):
        made = [pickle.loads(pickle.dumps((function, own))) for own in arguments]
        return [pickle.loads(pickle.dumps(call(*own))) for call, own in made]
