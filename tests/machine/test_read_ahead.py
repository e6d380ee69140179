"""Parts of a file that come soon are in the system's cache when they come."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from fullbatch.machine.read_ahead import ReadAhead

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system is advised")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3_000_000))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        yield file.fileno()


def forget(file):
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    ahead = ReadAhead(file)
    if ahead._are_there(0, 3_000_000):
        pytest.skip("this file system forgets nothing")
    return ahead


def until(condition):
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    assert condition()


def test_what_is_expected_comes(file):
    ahead = forget(file)
    ahead.expect(1_000_000, 1_500_000)
    until(lambda: not ahead.coming)
    assert ahead._are_there(1_000_000, 1_500_000)
    ahead.close()
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fullbatch")]


def test_what_is_there_starts_no_thread(file):
    os.pread(file, 3_000_000, 0)
    ahead = ReadAhead(file)
    ahead.expect(0, 3_000_000)
    assert ahead.helpers._pool is None
    ahead.close()


def test_an_error_is_left_to_whoever_reads(file, monkeypatch):
    def fails(*given):
        raise OSError(5, "Input/output error")

    ahead = forget(file)
    monkeypatch.setattr(os, "sendfile", fails)
    ahead.expect(0, 1000)
    until(lambda: not ahead.coming)
    ahead.close()


def test_descriptors_are_given_back(file):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        ahead = ReadAhead(file)
        ahead._read(0, 1000)
        ahead.close()
        ReadAhead(file)._read(0, 1000)
    assert len(os.listdir("/proc/self/fd")) == before
