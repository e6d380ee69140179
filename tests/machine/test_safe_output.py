"""Output files: found out before the work, whole or not there at all."""

from __future__ import annotations

import os
import re
import stat

import pytest

from fullbatch.errors import InputError
from fullbatch.machine.safe_output import check_output, replacing


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


def test_a_device_is_never_replaced():
    with pytest.raises(InputError, match="not a regular file"):
        check_output("/dev/null", "the model")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        check_output(tmp_path / "a.bin", "the model")
    tmp_path.chmod(0o700)
