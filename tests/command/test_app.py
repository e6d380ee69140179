"""The command as a whole: in this process and as one of its own, interrupted, and where things go wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fullbatch as fb
from command.conftest import QUICK, write
from fullbatch.command import app, info, options, train


def test_train_then_evaluate_and_predict(run, folder, tmp_path):
    for kind in ("csv", "csv.gz", "parquet"):
        data, model = folder / f"people.{kind}", tmp_path / f"{kind}.model"
        status, out, err = run("train", data, "--target", "pays", "--model", model, *QUICK)
        assert status == 0
        assert "epoch 12/12" in err
        assert re.search(r"accuracy +\d+\.\d+ % +\d+\.\d+ %", out)
        assert "majority guess" in out
        assert f"fullbatch predict {model} {data}" in out
        status, out, _ = run("evaluate", model, data)
        assert status == 0
        assert "log-loss" in out
        status, out, _ = run("predict", model, data)
        assert out.splitlines()[0] == "prediction,probability_no,probability_yes"
        assert len(out.splitlines()) == 401
    models = set()
    for kind in ("csv", "parquet"):
        model = fb.load(tmp_path / f"{kind}.model")
        assert [file["name"] for file in model.record_["data"].pop("files")] == [f"people.{kind}"]
        fb.save(model, tmp_path / "nameless.model")
        models.add((tmp_path / "nameless.model").read_bytes())
    assert len(models) == 1  # the same table and seed: the same bits, but for the name of the data


def test_help_and_version(run):
    assert run("--version") == (0, f"fullbatch {app.__version__}\n", "")
    for args in (("--help",), ("train", "-h")):
        status, out, err = run(*args)
        assert (status, err) == (0, "")
        assert "Usage: fullbatch" in out


def test_alone_it_shows_the_lines_that_matter(run):
    status, out, err = run()
    assert (status, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [
        ["fullbatch", command] for command in ("train", "evaluate", "predict")
    ]
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize("name", app.COMMANDS)
def test_the_help_of_a_command_has_a_plain_usage_and_an_example(run, name):
    lines = run(name, "--help")[1].splitlines()
    out = " ".join(lines)
    assert "[[" not in out.partition("Options")[0]  # nor another mark of the metavar twice
    (example,) = (line for line in lines if line.startswith(f"Example: fullbatch {name} "))
    assert len(example) <= 80, "a terminal breaks it, and it cannot be copied"


def test_each_option_of_train_is_in_a_panel_and_says_what_it_is(run):
    by_panel = {}
    for option in train.train.params:
        if option.param_type_name == "option":
            assert option.help, option.name
            by_panel.setdefault(option.panel, []).append(option.name)
    assert set(by_panel) == {
        options.DATA, options.NETWORK, options.TRAINING, options.SCORED, options.MACHINE, options.OUTPUT,
    }  # fmt: skip
    shown = run("train", "--help")[1]
    assert all(
        shown.index(f"\n{panel}:\n") < shown.index(f" --{names[0].replace('_', '-')} ")
        for panel, names in by_panel.items()
        if panel != options.DATA
    )


def test_what_should_not_happen_is_one_line_too(run, monkeypatch):
    def broken():
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(info, "_environment", broken)
    monkeypatch.delenv("FULLBATCH_DEBUG", raising=False)
    status, out, err = run("info")
    assert (status, out) == (1, "")
    assert re.fullmatch(r"fullbatch: error: ZeroDivisionError: two lines [^\n]+\n", err)


# --- As a process


def start(*args: object, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "fullbatch", *map(str, args)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_training_keeps_the_model_so_far(run, folder, tmp_path, number, status):
    model = tmp_path / "pays.model"
    args = (folder / "people.csv", "--target", "pays", "--drop", "spends", "--model", model)
    args += ("--hidden", "64", "--epochs", "1000000")
    with start("train", *args, "--json", "--device", "cpu") as process:  # without a word about a GPU
        line = process.stderr.readline()
        while line.startswith("fullbatch: warning: column"):
            line = process.stderr.readline()
        assert line.startswith("epoch 1/1000000")
        process.send_signal(number)
        process.send_signal(number)  # an impatient second one changes nothing
        out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    assert re.search(r"interrupted after [\d,]+ epochs? of 1,000,000: the model so far is in .*pays\.model", err)
    assert json.loads(out)["interrupted"]
    assert run("evaluate", model, folder / "people.csv")[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["pays.model"]


def test_a_training_outlives_its_terminal_long_enough_to_keep_the_model(run, folder, tmp_path):
    """The terminal hangs up: each write to it fails from then on, and the process gets SIGHUP."""
    parent, child = pty.openpty()
    args = (folder / "people.csv", "--target", "pays", "--drop", "spends", "--model", tmp_path / "pays.model")
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2]), "TERM": "xterm"}
    begin = (  # The terminal becomes the process's own, so that its end is a signal to it.
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "os.execv(sys.executable, [sys.executable, '-m', 'fullbatch', *sys.argv[1:]])"
    )
    command = [sys.executable, "-c", begin, "train", *map(str, args), "--epochs", "1000000"]
    process = subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, env=environment, start_new_session=True
    )
    os.close(child)
    shown = b""
    while b"cost" not in shown:
        shown += os.read(parent, 4096)
    os.close(parent)
    assert process.wait(timeout=60) == 129
    assert os.listdir(tmp_path) == ["pays.model"]
    assert run("evaluate", tmp_path / "pays.model", folder / "people.csv")[0] == 0


def test_a_hangup_that_nohup_has_ignored_ends_nothing(folder, tmp_path):
    args = (folder / "people.csv", "--target", "pays", "--drop", "spends", "--model", tmp_path / "pays.model")
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    command = ["sh", "-c", 'trap "" HUP; exec "$0" -m fullbatch train "$@"', sys.executable, *map(str, args)]
    with subprocess.Popen(
        [*command, "--epochs", "30", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        while not process.stderr.readline().startswith("epoch 1/"):
            pass
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert not json.loads(out)["interrupted"]


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_with_closed_files_it_trains_and_predicts(folder, tmp_path, closed):
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2])}

    def fullbatch(*arguments: object) -> int:
        command = ["sh", "-c", f'exec "$0" -m fullbatch "$@" {closed}', sys.executable, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, env=environment, check=False).returncode

    data, model = folder / "people.csv", tmp_path / "pays.model"
    assert fullbatch("train", data, "--target", "pays", "--epochs", "2", "--hidden", "4", "--model", model) == 0
    assert fullbatch("predict", model, data, "--out", tmp_path / "p.csv") == 0
    assert (tmp_path / "p.csv").read_text().startswith("prediction,probability_no,probability_yes\n")
    assert fullbatch("predict", model, tmp_path / "missing.csv") == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&1 >/dev/null | head -n 1 >/dev/null"])
def test_a_stderr_that_takes_no_more_ends_no_training(folder, tmp_path, stderr):
    """A log on a full disk, and a reader that has gone: the model is what the training is for."""
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2])}
    model, status = tmp_path / "pays.model", tmp_path / "status"
    options = "--target pays --drop spends --epochs 20 --hidden 4"
    command = f'{{ "$0" -m fullbatch train "$1" {options} --model "$2"; echo $? >"$3"; }} {stderr}'
    given = map(str, (sys.executable, folder / "people.csv", model, status))
    subprocess.run(["sh", "-c", command, *given], capture_output=True, env=environment, check=False)
    assert status.read_text() == "0\n"
    assert fb.load(model).estimator_.n_iter_ == 20


def test_a_second_training_into_the_same_file_is_told(run, folder, tmp_path):
    args = ("train", folder / "people.csv", "--target", "pays", "--drop", "spends", "--model", tmp_path / "pays.model")
    with start(*args, "--epochs", "1000000", "--json") as process:
        while not process.stderr.readline().startswith("epoch 1/"):
            pass
        status, out, err = run(*args)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"fullbatch: error: another process is making the model [^\n]+pays\.model; wait [^\n]+\n", err)
    assert os.listdir(tmp_path) == ["pays.model"]


def test_an_error_in_a_process_is_one_line_and_exit_2():
    with start("train", "no-such.csv", "--target", "y") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert re.fullmatch(r"fullbatch: error: No such file: no-such\.csv[^\n]*\n", err)


def test_a_reader_that_has_had_enough_is_no_error(folder, tmp_path):
    lines = (folder / "people.csv").read_text().splitlines(keepends=True)
    data = write(tmp_path / "long.csv", "".join([lines[0], *lines[1:] * 500]))
    with start("predict", folder / "pays.model", data) as process:
        first = process.stdout.readline()
        assert first == "prediction,probability_no,probability_yes\n", process.stderr.read()  # what it said instead
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=60)
    assert process.returncode == 1
    assert err == ""


@pytest.mark.parametrize(
    ("command", "others"),
    [
        ("predict", {"rich.console", "numpy.random", "pyarrow.parquet", "pyarrow.dataset", "pyarrow.compute"}),
        ("info", {"rich.progress", "pyarrow", "numpy.random", "numpy.ma", "safetensors.numpy"}),
        ("columns", {"rich.progress", "pyarrow.parquet", "pyarrow.dataset", "pyarrow.compute", "safetensors"}),
    ],
)
def test_what_a_quick_command_does_not_load(folder, tmp_path, command, others):
    lines = (folder / "people.csv").read_text().splitlines(keepends=True)
    row = write(tmp_path / "one.csv", "".join(lines[:2]))
    asked = {"predict": [folder / "pays.model", row], "info": [folder / "pays.model"], "columns": [row]}[command]
    heavy = {
        "typer",
        "pydantic",
        "sklearn",
        "scipy",
        "pandas",
        "joblib",
        "dask",
        "multiprocessing.pool",
        "matplotlib",
        *others,
    }
    code = (
        f"import sys; from fullbatch.command import app; status = app.main({[command, *map(str, asked)]!r}); "
        f"print(status, sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stderr.splitlines()[-1] == "0 []"


def test_help_loads_nothing_heavy_and_a_command_none_of_the_others():
    code = (
        "import sys; from fullbatch.command import app; app.main(['train', '--solver', 'x']); "
        "others = {'fullbatch.command.' + other for other in ('explain', 'export', 'info')}; "
        "heavy = {'sklearn', 'scipy', 'pyarrow', 'matplotlib', 'cupy', 'rich', 'typer'}; "
        "sys.exit(len({*heavy, *others} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[1:]) == (0, [])
