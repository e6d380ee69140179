"""Blocks on their way to a GPU: whatever the order in which copies and passes run, each pass sees its own block."""

from __future__ import annotations

import _thread
import gc
import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest

from fake_streams import Cuda, Event
from fullbatch.errors import DeviceError
from fullbatch.machine import arrays
from fullbatch.machine import cuda as machine_cuda
from fullbatch.sources import Dense, conveyor
from fullbatch.sources.conveyor import Conveyor, Streaming, now_on
from fullbatch.sources.placing import resident
from sources.conftest import Place, our_threads, passes

rng = np.random.default_rng(0)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("order", ["rows", "columns"])
def test_each_pass_sees_its_own_block(cuda, order, ahead, no_hang):
    array = np.asarray(rng.standard_normal((7, 230)), order="C" if order == "columns" else "F").astype("float32")
    parts = [slice(i, min(i + 30, 230)) for i in range(0, 230, 30)]
    reader = Streaming(Dense(array), Place(cuda), cuda)
    for _ in range(2):  # a second iteration with the same reader
        if ahead:
            reader.expect(parts)
        for part, seen in zip(parts, passes(cuda, reader, parts), strict=True):
            assert np.array_equal(seen, array[:, part])
    assert max(cuda.copied) <= 200
    assert sum(cuda.copied) == 2 * array.nbytes
    reader.close()
    assert not our_threads()


class Owning:
    """Its reader owns the buffer that each block lies in, and fills it slowly."""

    def __init__(self, array):
        self.array, self.n, self.like = array, array.shape[0], array

    def reader(self):
        buffer = np.empty_like(self.array)

        def read(where):
            block = buffer[:, : where.stop - where.start]
            for row, values in zip(block, self.array[:, where], strict=True):
                time.sleep(0.0005)
                row[:] = values
            return block

        return read


def test_a_reader_s_own_buffer_is_not_filled_while_it_is_copied(cuda, no_hang):
    array = rng.standard_normal((3, 60))
    parts = [slice(i, i + 10) for i in range(0, 60, 10)]
    reader = Streaming(Owning(array), Place(cuda), cuda)
    reader.expect(parts)
    assert np.array_equal(np.concatenate(passes(cuda, reader, parts), axis=1), array)
    reader.close()


# --- A block ahead ----------------------------------------------------------------------------------------------


class Told:
    """A source that says what is read, and by whom; a block may have to wait, or fail."""

    def __init__(self, array):
        self.array, self.n, self.like = array, array.shape[0], array
        self.read, self.gates, self.errors = [], {}, {}

    def reader(self):
        def read(where):
            self.read.append((where.start, threading.current_thread().name))
            if where.start in self.gates:
                assert self.gates[where.start].wait(30)
            if where.start in self.errors:
                self.errors[where.start]()
            return self.array[:, where]

        return read


@pytest.fixture
def told(monkeypatch):
    """Six blocks of ten examples, a reader that was told so, and its device."""
    monkeypatch.setattr(conveyor, "ALONE", 50)
    monkeypatch.setattr(conveyor, "thread_count", lambda threads: 5)
    cuda = Cuda(0)
    source = Told(np.asarray(rng.standard_normal((2, 60)), order="F"))
    source.parts = [slice(i, i + 10) for i in range(0, 60, 10)]
    source.stream = Streaming(source, Place(cuda), cuda)
    source.stream.expect(source.parts)
    yield source, cuda
    source.stream.close()
    assert not our_threads()


def until(holds):
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_the_next_block_is_filled_while_the_caller_launches(told, no_hang):
    source, cuda = told
    source.gates[10] = threading.Event()
    block = source.stream(source.parts[0])
    until(lambda: len(source.read) == 2)
    scratch_of_a_pass(cuda, 8)  # the caller has the first block, and launches, while the second is still read
    source.gates[10].set()
    until(lambda: source.stream.on_the_way[0].arrival.done())
    assert sorted(start for start, _ in source.read) == [0, 10], "no further ahead than the two arrays hold"
    cuda.until(lambda: not cuda.current.queue)
    assert np.array_equal(block.host, source.array[:, :10])
    for part in source.parts[1:]:
        block = source.stream(part)
        cuda.until(lambda: not cuda.current.queue)
        assert np.array_equal(block.host, source.array[:, part])
    assert sorted(start for start, _ in source.read) == list(range(0, 60, 10))
    assert {name.rpartition("_")[0] for _, name in source.read} == {"fullbatch-ahead"}


def test_a_pass_does_not_wait_for_the_copy_of_the_next_block(told, no_hang):
    source, cuda = told
    source.stream._send_ahead(now_on(cuda))
    until(lambda: all(sent.arrival.done() for sent in source.stream.on_the_way))
    source.stream(source.parts[0])
    first, second = cuda.streams[1:]
    seen = []
    cuda.current.launch(lambda: seen.append(len(second.queue)))
    while not seen:
        assert cuda.current.advance() or first.advance()
    assert seen[0] > 0, "the copy of the second block was still to come"


def test_an_error_comes_when_its_block_is_asked_for(told, no_hang):
    source, _ = told
    source.errors[20] = lambda: 1 / 0
    for part in source.parts[:2]:
        source.stream(part)
    with pytest.raises(ZeroDivisionError):
        source.stream(source.parts[2])
    del source.errors[20]
    source.stream.expect(source.parts[2:])  # as after blocks were halved
    assert np.array_equal(_now(told, source.parts[2]), source.array[:, source.parts[2]])


def _now(told, part):
    source, cuda = told
    block = source.stream(part)
    cuda.until(lambda: not any(stream.queue for stream in cuda.streams))
    return block.host


def test_whoever_asks_for_another_block_gets_it(told, no_hang):
    source, _ = told
    _now(told, source.parts[0])
    for part in (source.parts[3], source.parts[1]):
        assert np.array_equal(_now(told, part), source.array[:, part])
        assert not [thread for thread in our_threads() if "ahead" in thread.name]


def test_ctrl_c_while_a_block_is_filled(told, ctrl_c, no_hang):
    source, _ = told

    def interrupt():
        assert source.gates["asked"].wait(30)
        time.sleep(0.01)
        _thread.interrupt_main()
        time.sleep(0.05)

    source.gates["asked"], source.errors[10] = threading.Event(), interrupt
    source.stream(source.parts[0])
    source.gates["asked"].set()
    with pytest.raises(KeyboardInterrupt):
        source.stream(source.parts[1])
    del source.errors[10]
    for part in (source.parts[1], source.parts[2], source.parts[0]):
        assert np.array_equal(_now(told, part), source.array[:, part])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_blocks_are_on_their_way(told, no_hang):
    source, _ = told
    source.gates[10] = threading.Event()
    source.stream(source.parts[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that threads do not survive it
        child = os.fork()
    if child == 0:  # the parent's readers are of no use there, its own are
        code = 1
        try:
            signal.alarm(60)
            cuda = Cuda(1)
            other = Streaming(Dense(source.array), Place(cuda), cuda)
            other.expect(source.parts)
            seen = passes(cuda, other, source.parts)
            other.close()
            code = 0 if np.array_equal(np.concatenate(seen, axis=1), source.array) else 2
        finally:
            os._exit(code)
    source.gates[10].set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(_now(told, source.parts[1]), source.array[:, source.parts[1]])


def test_a_closed_reader_starts_again(told, no_hang):
    source, _ = told
    source.stream(source.parts[0])
    source.stream.close()
    assert not our_threads()
    source.stream.expect(source.parts)
    assert np.array_equal(_now(told, source.parts[0]), source.array[:, source.parts[0]])


def test_both_sides_are_filled_at_once(told, no_hang):
    """So that a thread that waits, or is woken, leaves the memory to the other."""
    source, _ = told
    source.gates[0], source.gates[10] = threading.Event(), threading.Event()

    def open_both():
        until(lambda: len(source.read) == 2)
        for gate in source.gates.values():
            gate.set()

    other = threading.Thread(target=open_both)
    other.start()
    assert np.array_equal(_now(told, source.parts[0]), source.array[:, source.parts[0]])
    other.join()


@pytest.mark.parametrize("rows", [1, 7, 11, 12, 13, 24, 25, 101])
def test_buffers_are_filled_to_nearly_the_same_length(rows, monkeypatch):
    """While a short copy runs there is no time to fill a long buffer."""
    monkeypatch.setattr(conveyor, "STAGE", 100)
    cuda = Cuda(0)
    copies, table = Conveyor(cuda), np.ones((rows, 1))
    copies.send(table, cuda.empty(table.shape, table.dtype))
    copies.close()
    assert sum(cuda.copied) == table.nbytes
    assert max(cuda.copied) <= 100
    assert len(cuda.copied) == -(-rows // 12)
    assert len(set(cuda.copied[:-1])) <= 1
    assert cuda.copied[-1] > cuda.copied[0] - 8 * len(cuda.copied)


def test_an_error_of_a_thread_that_fills_is_not_lost(monkeypatch):
    monkeypatch.setattr(conveyor, "ALONE", 0)
    monkeypatch.setattr(conveyor, "thread_count", lambda threads: 3)
    cuda, real = Cuda(0), np.copyto

    def copyto(*args):
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError("none left")
        real(*args)

    monkeypatch.setattr(np, "copyto", copyto)
    monkeypatch.setattr(arrays, "cupy_if_loaded", lambda: cuda)
    with pytest.raises(MemoryError, match="none left"):
        resident(np.ones((50, 3)), Place(cuda))
    assert not our_threads()


def test_a_reader_that_follows_another_gets_its_memory_while_passes_still_look_at_it(cuda):
    """As after blocks were halved: CuPy hands out memory again as soon as Python has let go of it."""
    array = np.asarray(rng.standard_normal((3, 90)), order="F").astype("float32")
    seen = []

    def launch(block):
        host = block.host
        cuda.current.launch(lambda: seen.append(host.copy()))

    for start in (0, 45):
        reader = Streaming(Dense(array), Place(cuda), cuda)
        for i in range(start, start + 45, 15):
            launch(reader(slice(i, i + 15)))
        del reader
        gc.collect()
    cuda.until(lambda: not any(stream.queue for stream in cuda.streams))
    assert np.array_equal(np.concatenate(seen, axis=1), array)


def scratch_of_a_pass(cuda, size):
    """What a pass of another kind sees in an array that Python has let go of by the time that it runs."""
    scratch, seen = cuda.empty(size, np.uint8), []
    host = scratch.host
    cuda.current.launch(lambda: seen.append(host.copy()))
    return seen


def test_memory_that_a_pass_still_uses_is_not_written_to(cuda):
    array = np.asarray(rng.standard_normal((2, 60)), order="F")
    reader = Streaming(Dense(array), Place(cuda), cuda)
    reader(slice(0, 30))
    first = scratch_of_a_pass(cuda, 2 * 30 * 8)
    second = reader(slice(30, 60))
    other = scratch_of_a_pass(cuda, 50 * 3 * 8)
    there = resident(np.ones((50, 3)), Place(cuda))
    cuda.until(lambda: not any(stream.queue for stream in cuda.streams))
    assert (first[0] == 0xAA).all()
    assert (other[0] == 0xAA).all()
    assert np.array_equal(second.host, array[:, 30:])
    assert np.array_equal(there.host, np.ones((50, 3)))


def test_blocks_that_grow_get_more_room(cuda):
    array = np.asarray(rng.standard_normal((2, 100)), order="F")
    parts = [slice(0, 10), slice(10, 20), slice(20, 60), slice(60, 100)]
    reader = Streaming(Dense(array), Place(cuda), cuda)
    for part, seen in zip(parts, passes(cuda, reader, parts), strict=True):
        assert np.array_equal(seen, array[:, part])


def stalled(cuda):
    """A pass that does not end before its event is set free."""
    event = Event(cuda)
    event.pending = 1
    cuda.current.wait_event(event)
    return event


def test_the_host_waits_for_its_own_buffers_alone(monkeypatch):
    """Nothing is waited for before both are on their way, and passes never."""
    monkeypatch.setattr(conveyor, "STAGE", 800)
    cuda = Cuda(0)
    stalled(cuda)
    copies = Conveyor(cuda)
    rows = np.ones((10, 10))
    target = cuda.empty(rows.shape, rows.dtype)
    for i in range(2):
        copies.send(rows, target)
        assert cuda.waits == 0, i
    copies.send(rows, target)
    assert cuda.waits == 1


def test_a_block_is_copied_while_the_pass_over_the_last_one_runs(monkeypatch):
    monkeypatch.setattr(conveyor, "STAGE", 2**10)
    cuda = Cuda(0)
    array = np.asarray(rng.standard_normal((2, 100)), order="F")
    reader = Streaming(Dense(array), Place(cuda), cuda)
    copies = cuda.streams[1:]

    def advance():
        while any(stream.advance() for stream in (cuda.current, *copies)):
            pass

    for i in range(3):
        reader(slice(10 * i, 10 * i + 10))
    cuda.until(lambda: not any(stream.queue for stream in copies))
    third = stalled(cuda)
    fourth = reader(slice(30, 40))
    advance()
    assert np.array_equal(fourth.host, array[:, 30:40]), "it is there, and the pass over the third still runs"
    fifth = reader(slice(40, 50))
    advance()
    assert any(stream.queue for stream in copies), "the fifth takes the place of the third, and has to wait"
    third.pending = 0
    cuda.until(lambda: not any(stream.queue for stream in copies))
    assert np.array_equal(fifth.host, array[:, 40:50])


def test_copies_are_shared_among_threads(monkeypatch):
    cuda, seen = Cuda(0), set()
    monkeypatch.setattr(conveyor, "thread_count", lambda threads: 3)
    real = np.copyto
    monkeypatch.setattr(np, "copyto", lambda *args: (seen.add(threading.current_thread().name), real(*args)))
    copies = Conveyor(cuda)
    rows = rng.standard_normal((3 * conveyor.ALONE // 80, 20))
    target = cuda.empty(rows.shape, rows.dtype)
    copies.send(rows, target)
    copies.close()
    assert np.array_equal(target.host, rows)
    assert threading.current_thread().name in seen
    assert any(name.startswith("fullbatch-copy") for name in seen)


def test_the_host_s_pinned_memory_is_not_the_device_s(monkeypatch):
    """Neither is the table streamed instead, nor are blocks halved: both need pinned memory too."""
    cuda = Cuda(0)

    def alloc_pinned_memory(size):
        raise RuntimeError("cudaErrorMemoryAllocation: out of memory")  # what CUDA says of both

    cuda.cuda.alloc_pinned_memory = alloc_pinned_memory
    monkeypatch.setattr(arrays, "cupy_if_loaded", lambda: cuda)
    table = np.ones((50, 3))
    reader = Streaming(Dense(table.T), Place(cuda), cuda)
    for call in (lambda: resident(table, Place(cuda)), lambda: reader(slice(0, 50))):
        with pytest.raises(DeviceError, match="the host has no 1,200 bytes of pinned memory") as caught:
            call()
        assert not machine_cuda.is_out_of_memory(caught.value)
