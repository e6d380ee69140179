"""A GPU whose streams fake_streams.py pretends, for the tests of what goes there."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import numpy as np
import pytest

from fake_streams import Cuda
from fullbatch.machine import arrays
from fullbatch.sources import conveyor


class Place:
    """A GPU that the fake stands for."""

    name, is_cuda = "cuda:0", True

    def __init__(self, cupy):
        self.cupy = cupy

    def current(self):
        return nullcontext()

    def empty(self, dtype):
        return np.empty((0, 0), dtype=dtype)


@pytest.fixture(params=range(40))
def cuda(request, monkeypatch):
    """Small buffers, so that a block takes several; two threads fill those of each array."""
    fake = Cuda(request.param)
    monkeypatch.setattr(arrays, "cupy_if_loaded", lambda: fake)
    monkeypatch.setattr(conveyor, "STAGE", 200)
    monkeypatch.setattr(conveyor, "ALONE", 50)
    monkeypatch.setattr(conveyor, "thread_count", lambda threads: 5)
    return fake


def passes(cuda, reader, parts):
    """What the pass over each part sees; each is launched like a kernel, and runs when the streams come to it."""
    seen = [None] * len(parts)

    def launch(i, block):
        host = block.host  # a kernel has the address alone; it does not keep the memory

        def look():
            seen[i] = host.copy()

        cuda.current.launch(look)

    for i, part in enumerate(parts):
        launch(i, reader(part))
        cuda.some()
    cuda.until(lambda: not any(stream.queue for stream in cuda.streams))
    return seen


def our_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fullbatch")]
