"""``fullbatch train --cluster``: the model file of one machine, and a checkpoint that goes on without the cluster."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fullbatch.command import app

pytest.importorskip("distributed", reason="distributed is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
HOW = ("--hidden", "4", "--solver", "lbfgs", "--epochs")


def test_train_on_a_cluster(cluster, client, path, tmp_path, capsys):
    """``client`` is here for its three workers."""
    there, here = tmp_path / "there.model", tmp_path / "here.model"
    address, kept = cluster.scheduler_address, tmp_path / "kept"
    told = ["--checkpoint", str(kept), "--model", str(there), "--cluster", address]
    assert app.main(["train", str(path), *told, *HOW, "3"]) == 0
    assert "late" in capsys.readouterr().out
    assert app.main(["train", str(path), "--model", str(here), "--quiet", *HOW, "3"]) == 0
    assert there.read_bytes() == here.read_bytes()
    assert (
        app.main(["train", "--resume", str(kept), "--epochs", "5", "--cluster", "local", "--workers", "1", "-q"]) == 0
    )
    assert "OMP_NUM_THREADS" not in os.environ, "what Dask sets for workers stays here, and later fits take one thread"
    assert app.main(["train", str(path), "--model", str(here), "--quiet", *HOW, "5"]) == 0
    assert there.read_bytes() == here.read_bytes()


def test_no_client_need_be_there_before(cluster, client, path, tmp_path):
    """In a process of its own, as it is typed: an actor asks for the current client, which the tests always had."""
    model = tmp_path / "there.model"
    command = ["train", str(path), "--model", str(model), "--cluster", cluster.scheduler_address, "--quiet", *HOW, "1"]
    done = subprocess.run(
        [sys.executable, "-m", "fullbatch", *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert model.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--cluster", "tcp://127.0.0.1:1", "--validation", __file__], "on a cluster a share of the table is"),
        (["--workers", "2"], "--workers is of --cluster local"),
    ],
)
def test_what_cannot_be_used(tmp_path, capsys, options, says):
    (tmp_path / "table.csv").write_text("a,late\n" + "1,yes\n2,no\n" * 20)
    assert app.main(["train", str(tmp_path / "table.csv"), "--target", "late", *options]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
