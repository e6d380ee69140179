"""What is free: of the machine, and of the limits of cgroups of either version and of the process."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fullbatch.machine import memory


@pytest.fixture
def system(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    monkeypatch.setattr(memory, "_of_the_process", lambda: math.inf)

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    return write


def test_a_system_without_such_files_has_no_limit(system):
    assert memory.free() == math.inf


def test_the_machine(system):
    system("proc/meminfo", "MemTotal:  100 kB\nMemAvailable:   40 kB\n")
    assert memory.free() == 40 * 1024


def test_a_cgroup_of_version_2_and_those_above_it(system):
    system("proc/self/cgroup", "0::/a/b\n")
    system("sys/fs/cgroup/a/b/memory.max", "max\n")
    system("sys/fs/cgroup/a/b/memory.current", "10\n")
    system("sys/fs/cgroup/a/memory.max", "1000\n")
    system("sys/fs/cgroup/a/memory.current", "600\n")
    system("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 100\n")  # pages that are given back when asked for
    assert memory.free() == 500


def test_a_cgroup_of_version_1_as_a_container_sees_it(system):
    system("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/1234\n")
    system("sys/fs/cgroup/memory/memory.limit_in_bytes", "900\n")
    system("sys/fs/cgroup/memory/memory.usage_in_bytes", "800\n")
    assert memory.free() == 100


def test_a_limit_of_the_process():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    if before[0] != resource.RLIM_INFINITY:
        pytest.skip("there is a limit already")
    resource.setrlimit(resource.RLIMIT_AS, (2**50, before[1]))
    try:
        assert 2**49 < memory._of_the_process() < 2**50
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_memory_is_used_again_when_nobody_holds_it():
    reused = memory.Reused(6, np.float32)
    first = reused.array()
    place, shape = first.ctypes.data, (first.dtype, first.shape, first.flags.writeable)
    assert shape == (np.float32, (6,), True)
    view = first.reshape(2, 3).T[1:]
    first[:] = 1
    del first
    second = reused.array()  # beside a view of the first
    second[:] = 2
    assert second.ctypes.data != place
    assert (view == 1).all()
    del view, second
    assert reused.array().ctypes.data == place
