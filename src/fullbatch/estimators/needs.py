"""What a call of ``fit`` is going to take of memory for its parameters: refused here, before they are made."""

from __future__ import annotations

from typing import Any

import numpy as np

from fullbatch import steps
from fullbatch.core.network import Network
from fullbatch.core.parameters import count
from fullbatch.estimators.inputs import Inputs
from fullbatch.estimators.job import Part
from fullbatch.fold.blocks import THREAD_EXAMPLES
from fullbatch.machine import arrays
from fullbatch.machine.threads import of_jobs, thread_count
from fullbatch.training import memory
from fullbatch.training.native_batches import TILE, NativeBatches
from fullbatch.training.optimizers import OPTIMIZERS


def check_memory(
    estimator: Any, network: Network, inputs: Inputs, parts: tuple[Part, Part | None], *, kept: bool
) -> str:
    """What is to be said of it; InputError where the parameters need more than is free. A GPU says so itself.

    parts : to learn from, and to score;  kept : whether there are checkpoints
    """
    m, scored = (0 if part is None else part.examples.m for part in parts)
    if inputs.place.name != "cpu" or not arrays.is_numpy(inputs.X.like):
        return ""
    optimizer = OPTIMIZERS.get(estimator.solver)
    batch = estimator.batch_size
    batch = m if optimizer is None or optimizer.whole or batch == "full" else 200 if batch == "auto" else min(batch, m)
    parameters = np.broadcast_to(inputs.X.like.dtype.type(0), (count(network.sizes),))  # of no memory
    step = steps.choose(network, inputs.X.like, "")
    mini = optimizer is not None and NativeBatches.can_run(step, optimizer.make(), parameters, int(batch), m)
    best = bool(estimator.early_stopping) and optimizer is not None
    if best and parts[1] is None:
        scored = int(estimator.validation_fraction * m)
    worth = scored // THREAD_EXAMPLES if mini else -(-m // TILE)
    threads = max(1, min(thread_count(of_jobs(estimator.n_jobs)), worth))
    need = memory.Training(network.sizes, estimator.solver, inputs.X.like.dtype.itemsize, m, threads, mini, best, kept)
    memory.check(need)
    return memory.line(need)
