"""The writer is held to safetensors' own: the same bytes."""

from __future__ import annotations

import io

import numpy as np
from safetensors.numpy import save

from fullbatch.saving import safetensors_file


def test_the_bytes_are_those_of_the_library():
    rng = np.random.default_rng(0)
    arrays = {
        f"{name}.{shape}": np.asarray(rng.integers(0, 2, shape), name)
        for name in reversed(safetensors_file.NAMES)
        for shape in [(), (3,), (0, 2), (5, 7)]
    }
    metadata = {"text": 'quotes " and \\ lines\n\t\x01 and ü, \u2028'}
    file = io.BytesIO()
    safetensors_file.write(file, arrays, metadata)
    assert file.getvalue() == save(arrays, metadata)
