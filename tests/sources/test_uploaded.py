"""Sources whose blocks go to a device: selections are made on the host, and readers may own their buffers."""

from __future__ import annotations

import numpy as np
import pytest

from fullbatch.sources import Dense, OneHot, Subset
from fullbatch.sources.uploaded import Uploaded, selected
from sources.conftest import Place, passes

rng = np.random.default_rng(0)


@pytest.mark.parametrize("ahead", [False, True])
def test_sources_whose_reader_owns_its_buffer_and_selections(cuda, ahead, no_hang):
    codes = rng.integers(0, 4, 120)
    order = rng.permutation(120)
    source = selected(Uploaded(OneHot(codes, 4, "float64"), Place(cuda)), order)
    assert type(source) is Uploaded, "chosen on the host: the reader is one that can be ahead"
    parts = [np.arange(i, i + 24) for i in range(0, 120, 24)]
    reader = source.reader()
    if ahead:
        reader.expect(parts)
    for part, seen in zip(parts, passes(cuda, reader, parts), strict=True):
        assert np.array_equal(seen, np.eye(4)[:, codes[order[part]]])
    reader.close()


def test_a_selection_of_what_lies_in_memory():
    found = selected(Dense(np.arange(6.0).reshape(2, 3)), np.array([2, 0]))
    assert type(found) is Subset
    assert np.array_equal(found.reader()(slice(0, 2)), [[2, 0], [5, 3]])
