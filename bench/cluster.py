"""What a cluster costs for each iteration: run by hand, since processes and a quiet machine belong to it.

    python -m bench.cluster --rounds 100

Two workers of one thread each hold a few rows, so that a call of the engine is nearly all overhead. It takes turns
with an empty round: actors that get as many bytes and give as many back. One JSON line for each number of parameters,
times in milliseconds: the median of the rounds, the least, and the CPU time of driver and workers together.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from statistics import median
from typing import Any

import numpy as np

import fullbatch as fb
from fullbatch.core.parameters import count, flatten
from fullbatch.dask.connection import connected
from fullbatch.fold.fold import Fold
from fullbatch.sources import Examples
from fullbatch.sources.pieces import Block, BlockRows
from fullbatch.sources.sharded import Piece, Sharded

HIDDEN = {"2k": (64,), "100k": (316, 280), "1M": (1000, 960)}
INPUTS, ROWS = 28, 8


class Echo:
    """An actor that computes nothing."""

    def __init__(self, size: int) -> None:
        self.answer_ = np.ones(size)

    def answer(self, theta: np.ndarray) -> np.ndarray:
        return self.answer_


def block(seed: int) -> Block:
    rng = np.random.default_rng(seed)
    return Block(rng.normal(size=(ROWS, INPUTS)).astype(np.float32), rng.integers(0, 2, ROWS), None)


def sharded(client: Any, workers: Any) -> Sharded:
    addresses = sorted(client.nthreads())
    data = [client.submit(block, i, workers=[address], pure=False) for i, address in enumerate(addresses)]
    pieces = tuple(Piece(ROWS, address, one) for address, one in zip(addresses, data, strict=True))
    like = np.empty((INPUTS, 0), np.float32)
    return Sharded(INPUTS, ROWS * len(pieces), like, BlockRows(INPUTS, np.array([0, 1])), workers, pieces)


def cpu(client: Any) -> float:
    """Seconds of CPU of the driver, which has the scheduler too, and of the workers."""
    return time.process_time() + sum(client.run(time.process_time).values())


def measured(client: Any, workers: Any, name: str, rounds: int) -> dict[str, Any]:
    network = fb.Network([INPUTS, *HIDDEN[name], 1], "relu")
    theta = flatten(network.init(seed=0, dtype="float32"))
    size = count(network.sizes)
    addresses = sorted(client.nthreads())
    echoes = [client.submit(Echo, size, actor=True, workers=[one], pure=False).result() for one in addresses]
    found: dict[str, Any] = {"parameters": size, "workers": len(addresses)}
    with Fold(network, Examples(sharded(client, workers))) as fold:
        kinds = {
            "engine": lambda: fold.gradient(theta),
            "empty": lambda: [call.result() for call in [echo.answer(theta) for echo in echoes]],
        }
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for kind in kinds:
            kinds[kind]()
        for _ in range(rounds):
            for kind, call in kinds.items():
                start = time.perf_counter()
                call()
                times[kind].append(1e3 * (time.perf_counter() - start))
        for kind, call in kinds.items():
            start = cpu(client)
            for _ in range(rounds):
                call()
            found[kind] = round(median(times[kind]), 2)
            found[f"{kind}_least"] = round(min(times[kind]), 2)
            found[f"{kind}_cpu"] = round(1e3 * (cpu(client) - start) / rounds, 2)
    found["ratio"] = round(median(np.divide(times["engine"], times["empty"])), 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=args.workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
        connected(client) as workers,
    ):
        for name in HIDDEN:
            print(json.dumps(measured(client, workers, name, args.rounds)), flush=True)


if __name__ == "__main__":
    main()
