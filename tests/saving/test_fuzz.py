"""3,000 hostile files, in a process of its own: each loads and predicts, or is one clear error."""

from __future__ import annotations

import sys

import fuzz
import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the address space is read from /proc")
def test_hostile_files_are_used_or_refused():
    pytest.importorskip("pyarrow")
    wrong, said = fuzz.run(3000)
    assert not wrong, said


def test_a_length_that_is_made_up_takes_no_memory(tmp_path):
    """The header's length was read as it stood: 100 MB for a file of a few bytes."""
    import tracemalloc

    import fullbatch as fb

    path = tmp_path / "model"
    path.write_bytes((2**40).to_bytes(8, "little") + b"{" + bytes(100))
    tracemalloc.start()
    with pytest.raises(fb.errors.ModelFileError):
        fb.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
