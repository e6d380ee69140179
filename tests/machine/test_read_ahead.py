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


def test_whoever_waits_comes_back_when_it_is_there_and_not_before(file, monkeypatch):
    ahead, go, seen = forget(file), threading.Event(), []
    sendfile = os.sendfile

    def late(*given):
        go.wait(60)
        return sendfile(*given)

    monkeypatch.setattr(os, "sendfile", late)
    ahead.expect(0, 3_000_000, lambda: seen.append("then"))
    waiting = threading.Thread(target=lambda: (ahead.wait(0), seen.append(ahead._are_there(0, 3_000_000))))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    ahead.wait(17)  # nobody expects it
    go.set()
    waiting.join(60)
    until(lambda: not ahead.coming)
    assert sorted(seen, key=str) == [True, "then"]
    ahead.close()


def test_whoever_waits_comes_back_when_it_is_closed(file, monkeypatch):
    ahead, go = forget(file), threading.Event()
    monkeypatch.setattr(os, "sendfile", lambda *given: go.wait(60) and 0)
    ahead.expect(0, 1000)
    ahead.expect(2_000_000, 1000)  # whose turn does not come
    waiting = threading.Thread(target=ahead.wait, args=[2_000_000])
    waiting.start()
    closing = threading.Thread(target=ahead.close)
    closing.start()
    until(lambda: ahead.closed)
    go.set()
    for thread in (waiting, closing):
        thread.join(60)
        assert not thread.is_alive()


def test_what_is_there_is_told_too(file):
    os.pread(file, 3_000_000, 0)
    ahead, seen = ReadAhead(file), []
    ahead.expect(0, 3_000_000, lambda: seen.append("then"))
    until(lambda: seen)
    ahead.close()


def test_a_child_of_a_fork_waits_for_no_thread_of_its_parent(file):
    ahead = ReadAhead(file)
    ahead.coming[0] = threading.Event()
    ahead.process = 0  # as if it were another's
    waiting = threading.Thread(target=ahead.wait, args=[0], daemon=True)
    waiting.start()
    waiting.join(60)
    assert not waiting.is_alive()
    ahead.expect(5, 1000)
    assert list(ahead.coming) == [0]
    ahead.close()
