"""How long a training stands still for a checkpoint, which a thread of its own writes: ``python -m bench.checkpoints``.

From the moment at which a checkpoint is due to that at which the training goes on: what has been learned is copied from
where the native step has it, and the thread is started. The writing itself is timed by the last one, which is waited
for. Of several checkpoints of each size; the result goes to ``bench/results/checkpoints-cpu.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import fullbatch as fb
from bench import machine
from fullbatch.core.parameters import count

OUT = Path(__file__).parent / "results" / "checkpoints-cpu.jsonl"
SIZES = {"1M": (100, 950, 950, 1), "25M": (100, 4950, 4950, 1)}
ALLOWED = {"1M": 0.02, "25M": 0.5}  # seconds


class Timed(fb.Checkpoint):
    """Takes the times of what it does between two updates."""

    def __init__(self, path: str, seconds: float, most: int) -> None:
        super().__init__(path, seconds)
        self.begun, self.cpu, self.most = 0.0, 0.0, most
        self.stalls: list[tuple[float, float]] = []
        self.write = 0.0

    def due(self) -> bool:
        self.begun, self.cpu = time.perf_counter(), time.thread_time()
        return super().due()

    def tell(self, moment: Any) -> None:
        started = time.perf_counter()
        super().tell(moment)
        if moment.last:
            self.write = time.perf_counter() - started
        elif moment.state.updates:
            self.stalls.append((time.perf_counter() - self.begun, time.thread_time() - self.cpu))
            if len(self.stalls) == self.most:
                raise KeyboardInterrupt


def measured(name: str, checkpoints: int, seconds: float) -> dict[str, Any]:
    sizes = SIZES[name]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4000, sizes[0]), np.float32)
    y = X[:, 0].copy()
    with tempfile.TemporaryDirectory() as folder:
        kept = Timed(os.path.join(folder, "late.ckpt"), seconds, checkpoints)
        model = fb.MLPRegressor(
            hidden_layer_sizes=sizes[1:-1], batch_size=50, max_iter=10_000, n_iter_no_change=10_000, random_state=0,
            learning_rate="linear",
        )  # fmt: skip
        model.set_callbacks(kept).fit(X, y)
        size = os.path.getsize(kept.path)
    wall, cpu = zip(*kept.stalls, strict=True)
    return {
        "parameters": count(sizes), "bytes": size, "checkpoints": len(wall), "stall": median(wall),
        "stall_least": min(wall), "stall_most": max(wall), "stall_cpu": median(cpu), "allowed": ALLOWED[name],
        "last_write": kept.write, "step": model.step_,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="from one checkpoint to the next, at least")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    found = {name: measured(name, given.checkpoints, given.seconds) for name in SIZES}
    for name, one in found.items():
        print(
            f"{name}: stands still for {1e3 * one['stall']:.1f} ms ({1e3 * one['stall_least']:.1f} to "
            f"{1e3 * one['stall_most']:.1f}; {1e3 * one['stall_cpu']:.1f} of CPU; {1e3 * one['allowed']:.0f} allowed), "
            f"{one['bytes'] / 1e6:.0f} MB are written in {one['last_write']:.2f} s"
        )
    given.out.write_text(json.dumps({"machine": asdict(machine.describe()), **found}) + "\n")


if __name__ == "__main__":
    main()
