"""``import fullbatch`` is quick: what is heavy is imported when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fullbatch as fb

HEAVY = [
    "cupy",
    "sklearn",
    "scipy",
    "pyarrow",
    "click",
    "typer",
    "rich",
    "matplotlib",
    "joblib",
    "threadpoolctl",
    "safetensors",
    "pandas",
    "polars",
    "torch",
    "jax",
    "onnx",
    "ndonnx",
    "onnxruntime",
]


def run_python(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_import_brings_none_of_the_heavy_libraries():
    code = f"import sys, fullbatch\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    assert run_python(code) == []


def test_making_a_network_brings_none_of_them_either():
    code = (
        "import sys, numpy, fullbatch as fb\n"
        "n = fb.Network([2, 3, 1]); n.forward(n.init(seed=0), numpy.ones((2, 4)))\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    assert run_python(code) == []


def test_the_core_trains_without_scikit_learn_scipy_and_the_rest():
    """Were an import hidden somewhere in the loop, it would fail here."""
    blocked = [name for name in HEAVY if name not in ("joblib", "threadpoolctl")]
    code = (
        f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
        "import numpy, fullbatch as fb\n"
        "n = fb.Network([2, 3, 1])\n"
        "X, Y = numpy.ones((2, 9000)), numpy.ones((1, 9000))\n"
        "r = fb.gradient_descent(n, n.init(seed=0), X, Y, learning_rate=1, iterations=3)\n"
        "print(r.costs[-1] < r.costs[0], fb.devices()[0].name)"
    )
    assert run_python(code) == ["True", "cpu"]


def test_every_public_name_is_there():
    assert set(fb.__all__) <= set(dir(fb))
    names = "Network Layer cost cost_and_gradients gradient_descent MLPClassifier MLPRegressor LogisticRegression"
    assert set(names.split()) | {"save", "load", "devices"} <= set(fb.__all__)
    for name in fb.__all__:
        assert getattr(fb, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fullbatch' has no attribute 'MLPClasifier'"):
        _ = fb.MLPClasifier


def test_a_star_import_gives_the_public_names():
    assert run_python("from fullbatch import *\nprint(Network([2, 1]).sizes, callable(gradient_descent))")[-1] == "True"
