"""Output files: found out before the work, whole or not there at all."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest

import fullbatch as fb
from fullbatch.errors import InputError, ModelFileError
from fullbatch.machine import safe_output
from fullbatch.machine.safe_output import check_output, only_writer, replacing


def test_a_new_file_is_written_with_ordinary_permissions(tmp_path):
    path = tmp_path / "a.bin"
    with replacing(path, "it") as file:
        file.write(b"abc")
    (tmp_path / "plain").write_bytes(b"")
    assert path.read_bytes() == b"abc"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["a.bin", "plain"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_was_there_stays_when_the_writing_fails(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail():
        with replacing(path, "it") as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with replacing(tmp_path / "link", "it") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_check_changes_nothing(tmp_path):
    check_output(tmp_path / "a.bin", "it")
    (tmp_path / "b.bin").write_bytes(b"old")
    check_output(tmp_path / "b.bin", "it")
    assert os.listdir(tmp_path) == ["b.bin"]
    assert (tmp_path / "b.bin").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none/a.bin", "the folder .*none does not exist; make it first"),
        ("folder", "it is a folder"),
        ("new/", "does not exist|a file name is missing"),
        ("file/a.bin", "[Nn]ot a directory"),
        ("fifo", "not a regular file"),
        ("x" * 300, "too long"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(tmp_path, name, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InputError) as caught:
        check_output(f"{tmp_path}/{name}", "the model")
    assert re.search(says, str(caught.value))
    assert "the model" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")
def test_a_file_system_that_takes_no_files_is_said():
    with pytest.raises(InputError, match="choose a folder that you may write to"):
        check_output("/proc/it", "the model")


@pytest.mark.skipif(not hasattr(os, "fchmod"), reason="the system has no permissions")
def test_what_was_private_stays_private(tmp_path):
    target = tmp_path / "m.model"
    target.write_bytes(b"old")
    target.chmod(0o600)
    with replacing(target, "the model") as file:
        file.write(b"new")
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"new", 0o600)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system has no owners")
@pytest.mark.parametrize("protection", ["mode", "sticky folder"])
def test_a_protected_file_is_said_before_the_work(tmp_path, monkeypatch, protection):
    """In a sticky folder, as /tmp is, a file can be made beside another's, and not take its place."""
    target = tmp_path / "m.model"
    target.write_bytes(b"old")
    tmp_path.chmod(0o1777 if protection == "sticky folder" else 0o777)
    check_output(target, "the model")
    if protection == "mode":
        monkeypatch.setattr(os, "access", lambda path, mode: not (path == target and mode == os.W_OK))
    else:
        monkeypatch.setattr(os, "geteuid", lambda: target.stat().st_uid + 1)
    with pytest.raises(InputError, match="the file that is there is protected"):
        check_output(target, "the model")
    assert os.listdir(tmp_path) == ["m.model"]


@pytest.mark.parametrize("path", [5, None, True, b"m.model", "a\0b", "\ud800"])
def test_what_is_no_path_is_said(path):
    for use in (
        lambda: check_output(path, "the model"),
        lambda: fb.Checkpoint(path),
        lambda: fb.load(path),
        lambda: fb.open_store(path),
        lambda: fb.read_table(path),
    ):
        with pytest.raises(InputError, match="is given by"):
            use()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path, no_hang):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ModelFileError, match="not a regular file"):
        fb.load(path)
    with pytest.raises(InputError, match="not a regular file"):
        fb.open_store(path)
    model = fb.LogisticRegression(solver="adam", max_iter=1)
    with pytest.raises(InputError, match="not a regular file"):
        model.set_callbacks(fb.Checkpoint(path)).fit([[0.0], [1.0]], [0, 1])


@pytest.mark.parametrize("name", ["", "x" * 300])
def test_a_checkpoint_that_cannot_be_is_said(tmp_path, name):
    model = fb.LogisticRegression(solver="adam", max_iter=1)
    with pytest.raises(InputError, match="cannot write the checkpoint"):
        model.set_callbacks(fb.Checkpoint(tmp_path / name)).fit([[0.0], [1.0]], [0, 1])


def test_a_device_is_never_replaced():
    with pytest.raises(InputError, match="not a regular file"):
        check_output("/dev/null", "the model")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        check_output(tmp_path / "a.bin", "the model")
    tmp_path.chmod(0o700)


# --- Processes that were killed, and others that write ---------------------------------------------------------------

WRITE = """
import os, sys
from fullbatch.machine.safe_output import replacing
with replacing(sys.argv[1], "it") as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


@contextmanager
def writing(path):
    """A process that is in the middle of a write."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout.readline() == b"writing\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


needs_locks = pytest.mark.skipif(safe_output.fcntl is None, reason="no locks here")


@needs_locks
def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path):
    with writing(tmp_path / "a.bin") as process:
        process.kill()
        process.wait()
        assert len(os.listdir(tmp_path)) == 1
        other = tmp_path / ".b.bin.01234567.part"  # of another name
        other.write_bytes(b"")
        check_output(tmp_path / "a.bin", "it")
        assert os.listdir(tmp_path) == [other.name]
        with replacing(tmp_path / "a.bin", "it") as file:
            file.write(b"new")
    assert sorted(os.listdir(tmp_path)) == [other.name, "a.bin"]


@needs_locks
def test_what_another_process_is_writing_stays(tmp_path):
    with writing(tmp_path / "a.bin") as process:
        with replacing(tmp_path / "a.bin", "it") as file:
            file.write(b"mine")
        assert (tmp_path / "a.bin").read_bytes() == b"mine"
        process.communicate(b"", timeout=60)
    assert (tmp_path / "a.bin").read_bytes() == b"half"
    assert os.listdir(tmp_path) == ["a.bin"]


@needs_locks
def test_links_and_folders_of_such_names_stay(tmp_path):
    (tmp_path / "far").write_bytes(b"far")
    (tmp_path / ".a.bin.01234567.part").symlink_to(tmp_path / "far")
    (tmp_path / ".a.bin.89abcdef.part").mkdir()
    os.mkfifo(tmp_path / ".a.bin.00000000.part")
    check_output(tmp_path / "a.bin", "it")
    assert len(os.listdir(tmp_path)) == 4


def test_without_locks_all_is_written_and_nothing_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_output, "fcntl", None)
    left = tmp_path / ".a.bin.01234567.part"
    left.write_bytes(b"")
    path = tmp_path / "a.bin"
    with only_writer(path, "it"), only_writer(path, "it"), replacing(path, "it") as file:
        file.write(b"new")
    assert sorted(os.listdir(tmp_path)) == [left.name, "a.bin"]


def test_a_file_system_without_locks_is_as_a_system_without(tmp_path, monkeypatch):
    if safe_output.fcntl is None:
        pytest.skip("no locks here")

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(safe_output.fcntl, "flock", refuse)
    with only_writer(tmp_path / "a.bin", "it"), replacing(tmp_path / "a.bin", "it") as file:
        file.write(b"new")
    assert os.listdir(tmp_path) == ["a.bin"]


@needs_locks
def test_two_cannot_make_the_same_file(tmp_path):
    with only_writer(tmp_path / "a.bin", "the model"):
        with (
            pytest.raises(InputError, match=r"another process is making the model .*a\.bin; wait until it has ended"),
            only_writer(tmp_path / "a.bin", "the model"),
        ):
            pass
        with only_writer(tmp_path / "b.bin", "the model"), replacing(tmp_path / "a.bin", "the model") as file:
            file.write(b"new")
    with only_writer(tmp_path / "a.bin", "the model"):  # The first has ended.
        pass
    assert os.listdir(tmp_path) == ["a.bin"]
