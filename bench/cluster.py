"""What a cluster costs for each iteration: run by hand, since processes and a quiet machine belong to it.

    python -m bench.cluster --rounds 100 --speedup 10

Two workers of one thread each hold a few rows, so that a call of the engine is nearly all overhead. It takes turns
with two empty rounds: actors that get as many bytes and give as many back, by a client as Dask makes it, whose calls
go by way of the scheduler, and by one that talks to the workers itself. One JSON line for each number of parameters,
times in milliseconds: the median of the rounds, the least, and the CPU time of driver, scheduler and workers together.
``computing`` is what these few rows take in one process, each worker's for itself, which is no overhead.

--speedup gives each worker as many rows as it computes for TIMES empty rounds, and compares with one process that has
all of them. ``efficiency`` is the share of the ideal speed-up by the clock, which needs a machine with nothing else to
do; ``efficiency_cpu`` is the same by CPU time as if the driver worked only while no worker does, on any machine.
Workers are started as ``client="local"`` does it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np

import fullbatch as fb
from fullbatch.core.parameters import count, flatten
from fullbatch.dask.connection import connected
from fullbatch.fold.fold import Fold
from fullbatch.fold.shard import Recipe, Request, Shard, here
from fullbatch.sources import Examples
from fullbatch.sources.pieces import Block, BlockRows
from fullbatch.sources.sharded import Piece, Sharded

HIDDEN = {"2k": (64,), "100k": (316, 280), "1M": (1000, 960)}
INPUTS, ROWS = 28, 8
CLASSES = np.array([0, 1])
TIMES = 20  # so many empty rounds a worker computes for, where the speed-up is measured


class Echo:
    """An actor that computes nothing."""

    def __init__(self, size: int) -> None:
        self.answer_ = np.ones(size)

    def answer(self, theta: np.ndarray) -> np.ndarray:
        return self.answer_


def block(seed: int, rows: int) -> Block:
    rng = np.random.default_rng(seed)
    return Block(rng.standard_normal((rows, INPUTS), np.float32), rng.integers(0, 2, rows), None)


def sharded(client: Any, workers: Any, rows: int) -> Sharded:
    addresses = sorted(client.nthreads())
    data = [client.submit(block, i, rows, workers=[address], pure=False) for i, address in enumerate(addresses)]
    pieces = tuple(Piece(rows, address, one) for address, one in zip(addresses, data, strict=True))
    like = np.empty((INPUTS, 0), np.float32)
    return Sharded(INPUTS, rows * len(pieces), like, BlockRows(INPUTS, CLASSES), workers, pieces)


def shard(network: fb.Network, blocks: Sequence[Block]) -> Shard:
    """What a worker has of these blocks, in this process."""
    m = sum(len(one.y) for one in blocks)
    return Shard(Recipe(network, BlockRows(INPUTS, CLASSES), 0, m, 1, here()["isas"][0]), *blocks)


def cpu(client: Any) -> list[float]:
    """Seconds of CPU of the driver, which has the scheduler too, and of each worker."""
    return [time.process_time(), *client.run(time.process_time).values()]


def in_turns(kinds: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each, in turns."""
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for call in kinds.values():
        call()
    for _ in range(rounds):
        for kind, call in kinds.items():
            start = time.perf_counter()
            call()
            times[kind].append(1e3 * (time.perf_counter() - start))
    return times


def spent(client: Any, call: Callable[[], Any], rounds: int) -> np.ndarray:
    """Milliseconds of CPU of a call: of the driver, and of each worker."""
    start = cpu(client)
    for _ in range(rounds):
        call()
    return 1e3 * np.subtract(cpu(client), start) / rounds


def echoes(client: Any, size: int) -> list[Any]:
    with client.as_current():
        return [
            client.submit(Echo, size, actor=True, workers=[one], pure=False).result()
            for one in sorted(client.nthreads())
        ]


def measured(clients: Sequence[Any], workers: Any, name: str, rounds: int) -> dict[str, Any]:
    network, client = fb.Network([INPUTS, *HIDDEN[name], 1], "relu"), clients[0]
    theta = flatten(network.init(seed=0, dtype="float32"))
    size = count(network.sizes)
    by_scheduler, direct = (echoes(one, size) for one in clients)
    found: dict[str, Any] = {"parameters": size, "workers": len(direct)}
    alone, request = shard(network, [block(0, ROWS)]), [Request(0, slice(0, ROWS), True)]
    with Fold(network, Examples(sharded(client, workers, ROWS))) as fold:
        kinds: dict[str, Callable[[], Any]] = {
            "engine": lambda: fold.gradient(theta),
            "empty": lambda: [call.result() for call in [echo.answer(theta) for echo in by_scheduler]],
            "direct": lambda: [call.result() for call in [echo.answer(theta) for echo in direct]],
            "computing": lambda: alone.answer(1, "gradient", theta, request),
        }
        times = in_turns(kinds, rounds)
        for kind, call in kinds.items():
            found |= told(kind, times[kind]) | {f"{kind}_cpu": round(float(spent(client, call, rounds).sum()), 2)}
    overhead = np.subtract(times["engine"], median(times["computing"]))
    return found | {
        "ratio": round(median(np.divide(times["engine"], times["empty"])), 2),
        "ratio_direct": round(median(np.divide(times["engine"], times["direct"])), 2),
        "overhead_direct": round(median(overhead / times["direct"]), 2),
    }


def told(kind: str, times: Sequence[float], digits: int = 2) -> dict[str, float]:
    """The median and the least, by the kind's name."""
    return {kind: round(median(times), digits), f"{kind}_least": round(min(times), digits)}


def speedup(clients: Sequence[Any], workers: Any, name: str, rounds: int) -> dict[str, Any]:
    """Of a worker that computes for TIMES empty rounds: what several have of the ideal."""
    network, client = fb.Network([INPUTS, *HIDDEN[name], 1], "relu"), clients[0]
    theta = flatten(network.init(seed=0, dtype="float32"))
    by_scheduler = echoes(client, count(network.sizes))
    empty = in_turns({"": lambda: [one.result() for one in [echo.answer(theta) for echo in by_scheduler]]}, 20)
    some = 4096
    few, request = shard(network, [block(0, some)]), [Request(0, slice(0, some), True)]
    each = min(in_turns({"": lambda: few.answer(1, "gradient", theta, request)}, 5)[""]) / some
    rows = int(TIMES * median(empty[""]) / each)
    count_ = len(by_scheduler)
    whole = shard(network, [block(i, rows) for i in range(count_)])
    parts = [Request(i, slice(i * rows, (i + 1) * rows), i == count_ - 1) for i in range(count_)]
    with Fold(network, Examples(sharded(client, workers, rows))) as fold:
        kinds: dict[str, Callable[[], Any]] = {
            "engine": lambda: fold.gradient(theta),
            "one_process": lambda: whole.answer(1, "gradient", theta, parts),
        }
        times = in_turns(kinds, rounds)
        driver, *of_workers = spent(client, kinds["engine"], rounds)
        computing = spent(client, kinds["one_process"], rounds)[0]
    return {
        "parameters": count(network.sizes), "workers": count_, "rows_a_worker": rows, **told("empty", empty[""]),
        **told("engine", times["engine"], 1), **told("one_process", times["one_process"], 1),
        "driver_cpu": round(driver, 1), "worker_cpu": [round(one, 1) for one in of_workers],
        "one_process_cpu": round(computing, 1),
        "efficiency": round(median(np.divide(times["one_process"], times["engine"])) / count_, 3),
        "efficiency_cpu": round(computing / (max(of_workers) + driver) / count_, 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--speedup", type=int, default=0, help="rounds of the speed-up; 0: not measured")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=HIDDEN, action="append", help="this number of parameters")
    args = parser.parse_args()
    import distributed

    with (
        connected("local", workers=args.workers) as workers,
        distributed.Client(workers.client.cluster, set_as_default=False, direct_to_workers=True) as direct,
    ):
        client = workers.client
        for name in args.only or HIDDEN:
            load = {"load": round(os.getloadavg()[0], 1)}
            if args.rounds:
                print(json.dumps(load | measured([client, direct], workers, name, args.rounds)), flush=True)
            if args.speedup:
                load = {"load": round(os.getloadavg()[0], 1), "times": TIMES}
                print(json.dumps(load | speedup([client, direct], workers, name, args.speedup)), flush=True)


if __name__ == "__main__":
    main()
