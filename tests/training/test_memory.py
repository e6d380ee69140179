"""The memory of a training's parameters is what the formula says, at three sizes, and too much is refused at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fullbatch as fb
from fullbatch.core.parameters import count
from fullbatch.errors import InputError
from fullbatch.machine import memory as machine_memory
from fullbatch.machine import native_library
from fullbatch.training import memory
from fullbatch.training.memory import Training

ROWS, UNITS = 128, (400, 800, 1200)
CASES = {
    "adam": ({"solver": "adam"}, {"threads": 2}),
    "sgd": ({"solver": "sgd"}, {"threads": 2}),
    "early stopping": ({"early_stopping": True, "validation_fraction": 0.5}, {"threads": 2, "best": True}),
    "full batches": ({"batch_size": "full"}, {"threads": 2, "mini": False}),
    "lbfgs": ({"solver": "lbfgs"}, {"threads": 2, "solver": "lbfgs"}),
    "a checkpoint": ({"kept": True}, {"threads": 2, "checkpoints": True}),
}
PEAKS = f"""
import tempfile, warnings
import numpy as np
import fullbatch as fb
warnings.simplefilter("ignore")
X = np.random.default_rng(0).standard_normal(({ROWS}, 4)).astype("float32")

def value(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

def fit(units, options):
    settings = dict(tol=0, n_iter_no_change=100, max_iter=3, batch_size=32, n_jobs=2, random_state=0)
    kept = options.get("kept", False)
    settings.update((name, value) for name, value in options.items() if name != "kept")
    model = fb.MLPRegressor(hidden_layer_sizes=(units, units), **settings)
    with tempfile.TemporaryDirectory() as folder:
        model = model.set_callbacks(fb.Checkpoint(folder + "/late.ckpt", seconds=0)) if kept else model
        return model.fit(X, X[:, 0])

for options in {[options for options, _ in CASES.values()]}:
    fit(5, options)
    for units in {UNITS}:
        before = value("VmRSS")
        open("/proc/self/clear_refs", "w").write("5")
        fit(units, options)
        print(value("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_the_peaks_are_what_the_formula_says():
    run = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=False)
    if "PermissionError" in run.stderr or "FileNotFoundError" in run.stderr:
        pytest.skip("the kernel does not let the peak be set back")
    assert run.returncode == 0, run.stderr
    peaks = map(int, run.stdout.split())
    for case, (_, of) in CASES.items():
        for units in UNITS:
            sizes = [4, units, units, 1]
            allowed = memory.needed(Training(**{"sizes": sizes, "solver": "adam", "itemsize": 4, "m": ROWS, **of}))
            assert next(peaks) < allowed + 4e6, (case, units)  # 4e6: of what does not grow with the parameters


def test_the_bytes_of_a_parameter():
    sizes = [10, 5, 1]
    assert memory.per_parameter(Training(sizes, "adam", 4)) == 40
    assert memory.per_parameter(Training(sizes, "adam", 4, best=True)) == 44
    assert memory.per_parameter(Training(sizes, "adam", 4, threads=4)) == 40 + 2 * 4
    assert memory.per_parameter(Training(sizes, "adam", 8)) == 80
    assert memory.per_parameter(Training(sizes, "gd", 4, mini=False)) == 40 + 8 + 12
    many = Training(sizes, "adam", 4, m=2**18, threads=3, mini=False)
    assert memory.per_parameter(many) == 40 + 8 * (1 + 2) + 12 * 3 + 8 * 2


@pytest.mark.parametrize(("isa", "more"), [(None, 0), ((3, "avx512"), 0), ((4, "amx"), 16)])
def test_layers_that_tiles_take_need_more(monkeypatch, isa, more):
    monkeypatch.setattr(native_library, "isa", lambda: isa)
    wide, narrow = [100, 100, 1], [100, 40, 1]
    assert memory.per_parameter(Training(wide, "gd", 4, mini=False)) == 40 + 8 + 12 + more
    assert memory.per_parameter(Training(wide, "gd", 4, mini=False, threads=2)) == 40 + 8 + 24 + 8 + 2 * more
    assert memory.per_parameter(Training(narrow, "gd", 4, mini=False)) == 40 + 8 + 12
    assert memory.per_parameter(Training(wide, "gd", 8, mini=False)) == 80 + 8 + 24
    assert memory.per_parameter(Training(wide, "adam", 4, threads=2)) == 40 + (12 if more else 0)
    assert memory.per_parameter(Training(wide, "adam", 4, threads=3)) == 40 + 4 + (18 if more else 0)
    assert memory.per_parameter(Training([3000, 3000, 1], "adam", 4, threads=3)) == 40 + 4 + (12 if more else 0)
    assert memory.per_parameter(Training(narrow, "adam", 4, threads=2)) == 40


def test_more_than_is_free_is_refused_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr(memory, "WORTH_ASKING", 0)
    monkeypatch.setattr(machine_memory, "free", lambda: 1e6)
    with pytest.raises(InputError, match="not enough memory: a network of 1 - 300 - 300 - 1 units has 91,201 param"):
        fb.MLPRegressor(hidden_layer_sizes=(300, 300)).fit([[1.0], [2.0]], [1.0, 2.0])
    fb.MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs").fit([[1.0], [2.0]], [1.0, 2.0])


def test_what_is_little_is_not_said(monkeypatch):
    monkeypatch.setattr(native_library, "isa", lambda: None)
    assert memory.line(Training([10, 10, 1], "adam", 4)) == ""
    assert memory.line(Training([3000, 3000, 1], "adam", 4)).startswith("the training takes up to 0.4 GB of memory")
    assert count([3000, 3000, 1]) == 9006001
