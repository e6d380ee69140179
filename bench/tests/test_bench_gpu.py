"""``python -m bench gpu``: one line without a card; with parts that stand in for real ones, what becomes of each."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

import fake_cupy
import fullbatch as fb
from bench import command, gpu, gpu_more, gpu_parts
from bench.gpu import Part
from bench.problem import Shape
from fullbatch.fold import blocks
from fullbatch.machine import places
from fullbatch.machine.places import Place

NO_GPU = not any(device.name == "cuda:0" and device.usable for device in fb.devices())


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_without_a_card_it_is_one_line_and_2(tmp_path, capsys):
    assert command.main(["gpu", "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert next(d.detail for d in fb.devices() if not d.usable)[:20] in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs parts that are scripts: {name: (code, seconds)}."""
    monkeypatch.setattr(places, "place", lambda device: Place("cuda:0", np))
    modules = tmp_path / "parts"
    modules.mkdir()
    monkeypatch.syspath_prepend(modules)

    def go(parts, seconds=60.0, **options):
        made = []
        for i, (name, (code, most)) in enumerate(parts.items()):
            (modules / f"part_{os.getpid()}_{i}.py").write_text(code)
            made.append(Part(name, (f"part_{os.getpid()}_{i}",), most, **options.get(name, {})))
        said = []
        result = gpu.measure(tmp_path, said.append, parts=made, seconds=seconds)
        assert (tmp_path / "gpu.json").read_bytes() == msgspec.json.format(
            msgspec.json.encode(result), indent=1
        ) + b"\n"
        return result, said

    return go


GOOD = "import json\nfor i in range(3): print(json.dumps({'i': i}), flush=True)\nprint('and this is no point')\n"


def test_each_part_s_points_are_kept_and_a_failure_costs_nothing_but_itself(run):
    bad = "import sys\nprint('{\"i\": 7}', flush=True)\nprint('no\\nluck', file=sys.stderr)\nsys.exit(3)\n"
    crash = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    codes = {"a": GOOD, "b": bad, "c": crash, "d": "print('{broken')", "e": GOOD}
    result, said = run({name: (code, 20) for name, code in codes.items()})
    parts = result["parts"]
    assert [parts[name]["status"] for name in "abcde"] == ["done", "failed", "failed", "failed", "done"]
    assert parts["a"]["points"] == parts["e"]["points"] == [{"i": 0}, {"i": 1}, {"i": 2}]
    assert parts["b"]["points"] == [{"i": 7}]
    assert parts["b"]["error"] == "status 3: no luck"
    assert "-11" in parts["c"]["error"]
    assert "JSONDecodeError" in parts["d"]["error"]
    assert result["finished"] is True
    assert len(said) == 5
    assert len(gpu.lines(result)) == 3


def test_a_part_that_takes_too_long_is_ended_with_its_children_and_keeps_what_it_said(run, tmp_path):
    child = f"import time; time.sleep(3); open({str(tmp_path / 'late')!r}, 'w')"
    slow = (
        "import subprocess, sys, time\nprint('{\"i\": 1}', flush=True)\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)\n"
    )
    began = time.perf_counter()
    result, _ = run({"slow": (slow, 1.5), "next": (GOOD, 20)})
    assert time.perf_counter() - began < 30
    assert result["parts"]["slow"]["status"] == "out of time"
    assert result["parts"]["slow"]["points"] == [{"i": 1}]
    assert result["parts"]["next"]["status"] == "done"
    time.sleep(2.5)
    assert not (tmp_path / "late").exists()


def test_parts_beyond_the_whole_time_are_left_out(run):
    result, _ = run({"a": (GOOD, 20), "b": (GOOD, 20)}, seconds=2.0)
    assert [part["status"] for part in result["parts"].values()] == ["left out", "left out"]
    assert result["finished"]


def test_where_there_are_no_tests_their_parts_say_so(run, tmp_path, monkeypatch):
    """As in the Docker image, which has bench/ alone."""
    parts = {part.name: part for part in gpu.PARTS[-2:]}
    assert all(part.command[0] == "pytest" and (gpu.ROOT / part.needs).is_dir() for part in parts.values())
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    scripts = {"figures": (GOOD, 20), **dict.fromkeys(parts, ("raise SystemExit(4)", 20))}
    result, said = run(scripts, **{name: {"needs": part.needs, "read": part.read} for name, part in parts.items()})
    assert result["parts"]["figures"]["status"] == "done"
    words = "left out: there is no folder tests here; run it from a checkout of the repository"
    assert gpu.lines(result) == [f"{name}: {words}" for name in parts]
    assert all(line.endswith(words.partition(": ")[2]) and "\n" not in line for line in said[1:])
    (tmp_path / "tests").mkdir()
    result, _ = run({"other tests": (GOOD, 20)}, **{"other tests": {"needs": "tests"}})
    assert result["parts"]["other tests"]["status"] == "done"


def test_an_earlier_run_is_kept_and_none_of_its_points_is_told_again(run, tmp_path):
    file, scaled = tmp_path / "gpu.json", tmp_path / "gpu-scaling.json"
    scaled.write_text('{"points": [{"old": 1}], "summary": {}, "finished": true}')
    fails = {"a": ("import sys; sys.exit(1)", 20)}
    part = next(part for part in gpu.PARTS if part.name == "scaling")
    result, _ = run(fails, a={"read": part.read, "file": part.file})
    assert result["parts"]["a"]["status"] == "failed"
    assert result["parts"]["a"]["points"] == []
    assert json.loads((tmp_path / "gpu-scaling.json~").read_text())["points"] == [{"old": 1}]
    first = file.read_text()
    run({"a": (GOOD, 20)})
    kept = tmp_path / "gpu.json~"
    assert kept.read_text() == first
    file.write_text(file.read_text().replace('"finished": true', '"finished": false'))
    run({"a": (GOOD, 20)})
    assert kept.read_text() == first
    file.write_text("mine")
    run({"a": (GOOD, 20)})
    assert kept.read_text() == "mine"


def test_the_file_is_there_while_a_part_still_runs(run, tmp_path):
    look = (
        "import json\nprint('{\"i\": 1}', flush=True)\nimport time\ntime.sleep(0.5)\n"
        f"found = json.load(open({str(tmp_path / 'gpu.json')!r}))\n"
        "print(json.dumps({'saw': found['parts']['a']['points'], 'finished': found['finished']}), flush=True)\n"
    )
    result, _ = run({"a": (look, 20)})
    assert result["parts"]["a"]["points"][1] == {"saw": [{"i": 1}], "finished": False}


def test_the_outcome_of_tests_is_read_even_where_some_fail(run):
    text = "FAILED tests/test_x.py::test_y - assert 1 == 2\n3 failed, 10 passed, 2 skipped in 4.21s\n"
    code = f"import sys\nprint({text!r})\nsys.exit(1)\n"
    result, _ = run({"tests on the card": (code, 20)}, **{"tests on the card": {"read": gpu._tests}})
    part = result["parts"]["tests on the card"]
    assert part["status"] == "failed"
    assert part["points"][0] | {"last_line": ""} == {
        "failed": 3, "passed": 10, "skipped": 2, "failures": ["tests/test_x.py::test_y"], "last_line": "",
    }  # fmt: skip
    assert "tests on the card: 10 passed, 3 failed, 2 skipped" in gpu.lines(result)


def test_a_single_error_is_among_the_errors(run):
    code = "print('1 passed, 1 error in 0.10s')\n"
    result, _ = run({"other tests": (code, 20)}, **{"other tests": {"read": gpu._tests}})
    assert "other tests: 1 passed, 1 errors" in gpu.lines(result)


def test_tests_that_are_cut_off_say_how_far_they_came(run):
    said = [
        "tests/test_x.py::test_a PASSED [ 10%]",
        "tests/test_x.py::test_b[a FAILED b] PASSED [ 20%]",
        "tests/test_x.py::test_c[1.5-x y] FAILED [ 30%]",
        "tests/test_x.py::test_d SKIPPED (no GPU) [ 40%]",
        "tests/test_x.py::test_e ERROR [ 50%]",
    ]
    last = "tests/test_x.py::test_slow "
    code = f"import time\nprint(*{said!r}, sep='\\n')\nprint({last!r}, end='', flush=True)\ntime.sleep(60)\n"
    result, _ = run({"other tests": (code, 2)}, **{"other tests": {"read": gpu._tests}})
    part = result["parts"]["other tests"]
    assert part["status"] == "out of time"
    assert part["points"] == [{
        "passed": 2, "failed": 1, "skipped": 1, "errors": 1, "last_line": last.strip(), "cut_off": True,
        "failures": ["tests/test_x.py::test_c[1.5-x y]", "tests/test_x.py::test_e"],
    }]  # fmt: skip
    words = "other tests: 2 passed, 1 failed, 1 errors, 1 skipped; cut off at tests/test_x.py::test_slow"
    assert words in gpu.lines(result)


def test_the_words_of_pytest_itself_are_understood(tmp_path):
    """Its own output, whole and without its end; a file that cannot be imported, and a warning, end nothing."""
    (tmp_path / "test_good.py").write_text(
        "import pytest, warnings\n"
        "def test_a(): warnings.warn('old', DeprecationWarning)\n"
        "@pytest.mark.parametrize('x', ['1 2'])\ndef test_b(x): assert not x\n"
        "def test_c(): pytest.skip('no')\n"
    )
    (tmp_path / "test_bad.py").write_text("import no_such_module\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = subprocess.run(
        [sys.executable, "-m", *gpu.PYTEST, "-c", "pytest.ini", "."],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    [whole] = gpu._tests(done.stdout, tmp_path)
    assert {**whole, "last_line": "", "failures": []} == {
        "failed": 1, "passed": 1, "skipped": 1, "errors": 1, "failures": [], "last_line": "",
    }  # fmt: skip
    [part] = gpu._tests(done.stdout[: done.stdout.index("= ERRORS =")], tmp_path)
    assert {word: part.get(word) for word in ("passed", "failed", "skipped")} == dict.fromkeys(
        ("passed", "failed", "skipped"), 1
    )
    assert part["failures"] == ["test_good.py::test_b[1 2]"]


def invented():
    """The parts of a run, as a card might answer."""
    timing = {"median": 0.01}
    scaling = [
        {"backend": name, "shape": "28-64-1", "m": m, "seconds": {"median": m * rate}}
        for name, rate in (("native", 1e-8), ("cupy", 1e-9))
        for m in (1000, 10**6)
    ]
    crossover = {"crossover": [{"shape": "28-64-1", "m": 5000, "top_m": 20_000_000, "top_ratio": 31.0}]}
    ours = {"case": "28-64-1", "m": 11_010_048, "seconds": 0.005}
    streaming = {"rate": 4e10, "share": 0.9, "pinned": 5e10, "host": 4.5e10, "same_bits": True}
    points = {
        "steps": [
            {**ours, "step": "onepass", "chosen": True},
            {**ours, "step": "array", "chosen": False, "seconds": 0.05},
            {"case": "x", "error": "no"},
        ],
        "PyTorch eager": [{"package": "torch"}, {**ours, "seconds": 0.02}],
        "PyTorch compiled": [{"error": "torch is not installed"}],
        "scaling": [*scaling, {"backend": "cupy", "shape": "28-64-1", "m": 7, "seconds": None}, {"summary": crossover}],
        "streaming": [{"what": "copies"}, streaming],
        "precision": [{"case": "28-64-1", "float32": 1e-6, "tf32": 3e-4}, {"case": "y", "error": "no"}],
    }
    assert timing
    return {name: {"status": "done", "error": "", "points": own} for name, own in points.items()}


def test_what_follows_from_the_points_and_the_picture(tmp_path):
    parts = invented()
    result = {"parts": parts, "summary": gpu.summary(parts)}
    [case] = result["summary"]["cases"]
    assert case["ms"] == 5.0
    assert case["PyTorch eager over ours"] == 4.0
    assert case["PyTorch compiled over ours"] is case["JAX over ours"] is None
    text = "\n".join(gpu.lines(result))
    for part in ("28-64-1, m = 11,010,048, onepass: 5.00 ms; PyTorch eager 4.00 times", "90 %", "31.0 times at m = ",
                 "same bits as resident: True", "of TF32 3.0e-04"):  # fmt: skip
        assert part in text
    result["summary"]["crossover"] = [{"shape": "28-64-1", "m": None, "top_m": 20_000_000, "top_ratio": 0.8}]
    assert "28-64-1: not faster than the CPU; 0.8 times at m = 20,000,000" in gpu.lines(result)
    pytest.importorskip("matplotlib")
    assert gpu.draw(result, tmp_path / "gpu.png").stat().st_size > 10_000
    empty = {"parts": {}, "summary": gpu.summary({})}
    assert gpu.lines(empty) == []
    gpu.draw(empty, tmp_path / "empty.png")


def test_figures_come_first_and_tests_last_within_nine_minutes():
    names = [part.name for part in gpu.PARTS]
    assert names[-2:] == ["tests on the card", "other tests"]
    assert gpu.SECONDS <= 540
    figures = [part.seconds for part in gpu.PARTS[:-2]]
    assert sum(figures) + 30 <= gpu.SECONDS, "even if each takes all of its time, the tests on the card begin"
    for part in gpu.PARTS:
        if part.command[0] == "bench.gpu_parts":
            assert part.command[1] in gpu_parts.PARTS


def test_the_further_parts_are_listed_in_the_order_of_their_worth_each_within_ten_minutes(capsys):
    for part in gpu.FURTHER:
        assert part.seconds <= gpu.SECONDS
        module, name = part.command[:2]
        known = {"bench.gpu_more": gpu_more.PARTS, "bench.gpu_parts": gpu_parts.PARTS, "bench": ["scaling"]}
        assert name in known[module]
    names = [part.name for part in gpu.FURTHER if part.what]
    assert len(names) == len(gpu.FURTHER)
    assert command.main(["gpu", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert [printed.index(name + " (") for name in names] == sorted(printed.index(name + " (") for name in names)


def test_a_further_part_runs_alone_and_has_a_file_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(places, "place", lambda device: Place("cuda:0", np))
    (tmp_path / "gpu.json").write_text("{}")
    monkeypatch.setattr(gpu, "FURTHER", (Part("hashes", ("bench.gpu_more", "none of these"), 20),))
    assert command.main(["gpu", "--part", "hashes", "--out", str(tmp_path)]) == 0
    assert "hashes: failed: status 1" in capsys.readouterr().out
    assert json.loads((tmp_path / "gpu-hashes.json").read_text())["finished"] is True
    assert (tmp_path / "gpu.json").read_text() == "{}"
    assert command.main(["gpu", "--part", "nothing", "--out", str(tmp_path)]) == 2
    assert "unknown part 'nothing'; the known ones are hashes" in capsys.readouterr().err


def test_the_scaling_part_is_a_command_that_bench_knows(tmp_path):
    part = next(part for part in gpu.PARTS if part.name == "scaling")
    assert part.command[:2] == ("bench", "scaling")
    words = [str(tmp_path) if word == "FOLDER" else word for word in part.command[1:]]
    words = [word for word in words if word != "cupy"]
    words.pop(len(words) - 1 - words[::-1].index("--backend"))  # cupy's: here it is the CPU alone
    words[words.index("--to") + 1] = "2000"
    words.append("--quick")
    assert command.main(words) == 0
    points = part.read("", tmp_path)
    assert {"backend", "m", "seconds"} <= points[0].keys()
    assert "crossover" in points[-1]["summary"]


def test_the_parts_timings_and_errors():
    calls = []
    timed = gpu_parts.seconds_of(lambda: calls.append(1), untimed=2, rounds=4)
    assert len(calls) == 6
    assert timed["rounds"] == 4
    assert gpu_parts.attempt({"a": 1}, lambda: {"b": 2}) == {"a": 1, "b": 2}
    failed = gpu_parts.attempt({"a": 1}, lambda: {"b": 1 / 0})
    assert failed == {"a": 1, "error": "ZeroDivisionError: division by zero"}
    shape = Shape.parse("28-64-1")
    assert gpu_parts.bytes_moved(shape, "fused") == 1252 + 15, "as steps/cuda/kernels.py counts"
    assert gpu_parts.bytes_moved(shape, "onepass") == 116 + 30, "as steps/cuda/onepass.py counts"
    assert gpu_parts.bytes_moved(shape, "array") is None


@pytest.mark.parametrize("package", ["torch", "jax"])
def test_a_peer_computes_the_same(package, monkeypatch):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.setattr(gpu_parts, "CASES", {"28-64-1": 1})
    monkeypatch.setattr(gpu_parts, "ROWS", 1000)
    peer = gpu_parts.jax_peer if package == "jax" else partial(gpu_parts.torch_peer, compiled=False)
    points = list(peer(device="cpu"))
    assert "package" in points[0]
    assert points[1]["error_of_gradient"] < 1e-5
    assert points[1]["seconds"] > 0


def test_a_jax_without_cuda_is_no_peer_on_the_card():
    """It would compute on the CPU, and stand in the summary as slow as that."""
    jax = pytest.importorskip("jax")
    if jax.devices()[0].platform != "cpu":
        pytest.skip("this JAX sees a GPU")
    points = []
    with pytest.raises(RuntimeError, match="JAX sees no GPU"):
        points.extend(gpu_parts.jax_peer())
    assert not any("seconds" in point for point in points)


@fake_cupy.pretended
def test_each_part_of_ours_on_a_card_that_is_pretended(monkeypatch):
    """Figures of no meaning; but each call is one that a card would get, and each outcome is compared."""
    fake_cupy.install(monkeypatch)
    monkeypatch.setattr(gpu_parts, "CASES", {"5-7-1": 2})
    monkeypatch.setattr(gpu_parts, "ROWS", 100)
    real = gpu_parts.seconds_of
    monkeypatch.setattr(gpu_parts, "seconds_of", lambda call, **options: real(call, untimed=0, rounds=2))
    network, on_card = fb.Network([5, 7, 1]), sys.modules["cupy"].empty((5, 0), "float32")
    points = {
        "card": list(gpu_parts.card(1e-5)),
        "steps": list(gpu_parts.ours()),
        "pieces": list(gpu_parts.pieces()),
        "streaming": list(gpu_parts.streaming(6e-5, limit=650_000)),
        "precision": list(gpu_parts.precision()),
    }
    assert not [point for part in points.values() for point in part if "error" in point]
    assert [point["step"] for point in points["steps"]] == ["onepass", "tensor", "fused", "inplace", "array"]
    assert [point["chosen"] for point in points["steps"]] == [True, False, False, False, False]
    assert all(point["error_of_gradient"] < 1e-5 for point in points["steps"])
    result = {"parts": {name: {"status": "done", "points": own} for name, own in points.items()}}
    result["summary"] = gpu.summary(result["parts"])
    assert result["summary"]["streaming"]["same_bits"] is True
    assert [row["m"] for row in result["summary"]["cases"]] == [200]
    assert [point["piece"] for point in points["pieces"]] == [
        "Z1 = X W1^T", "tail", "dW1 = dZ1^T X", "dW1 = (X^T dZ1)^T", "dW1 by segments", "all of the step",
        *(f"one pass, registers for {warps} warps" for warps in (12, 8, 10, 16)),
    ]  # fmt: skip
    assert all(point["m"] == 200 and point["seconds"] == 0.001 for point in points["pieces"])
    assert all(point["error_of_dW1"] < 1e-6 for point in points["pieces"] if point["piece"].startswith("dW1"))
    [point] = points["precision"]
    assert point["block of float32"] == blocks.block_size(network, on_card)
    assert point["block of tf32"] == blocks.block_size(network, on_card, precision="tf32")
    assert point["block of tf32"] != blocks.block_size(network, np.empty((5, 0), "float32")), "not the CPU's"
    assert len(gpu.lines(result)) == 13
    json.dumps(result, allow_nan=False)


def test_no_shape_loses_its_figures_to_the_counting_of_its_bytes():
    """Which comes after the timing: bytes are counted of one hidden layer and one output unit alone."""
    counted = {name: gpu_parts.bytes_moved(Shape.parse(name), "fused") for name in (*gpu_parts.CASES, *gpu_more.FORMS)}
    assert [name for name, each in counted.items() if each is None] == ["28-1", "784-100-10", "28-64-64-1"]
    assert gpu_parts.bytes_moved(Shape.parse("28-64-1"), "onepass") < counted["28-64-1"]


@fake_cupy.pretended
def test_the_further_parts_on_a_card_that_is_pretended(monkeypatch):
    fake_cupy.install(monkeypatch)
    monkeypatch.setattr(gpu_more, "EPOCHS", {"5-7-1": 60})
    monkeypatch.setattr(gpu_more, "BATCHES", (20,))
    real = gpu_parts.seconds_of
    monkeypatch.setattr(gpu_more, "seconds_of", lambda call, **options: real(call, untimed=0, rounds=2))
    monkeypatch.setattr(gpu_more, "torch_epochs", lambda *given, compiled: 1 / 0)
    ours = [point for point in gpu_more.epochs_of_adam() if point["who"] == "fullbatch"]
    assert [point["updates"] for point in ours] == [3]
    assert all(point["last_cost"] < point["first_cost"] for point in ours)
    monkeypatch.setattr(gpu_more, "OF_HASHES", ("5-7-1",))
    found = list(gpu_more.hashes(runs=2, m=70))
    assert {point["step"] for point in found} == {
        "onepass",
        "tensor",
        "fused",
        "inplace",
        "array",
        "coded",
        "two epochs of Adam",
    }
    assert all(point["different"] == 1 for point in found)
    monkeypatch.setattr(gpu_more, "OF_KERNELS", ("5-7-1",))
    monkeypatch.setattr(gpu_more, "DTYPES", ("float32",))
    assert {point["step"] for point in gpu_more.kernels(450)} == {point["step"] for point in found}


@fake_cupy.pretended
def test_a_table_of_codes_there_and_streamed_beside_its_ones(monkeypatch):
    fake_cupy.install(monkeypatch)
    monkeypatch.setattr(gpu_more, "ROWS", 90)
    monkeypatch.setattr(gpu_more, "BATCHES", (40,))
    monkeypatch.setattr(gpu_more, "LEVELS", (3, 21))
    real = gpu_parts.seconds_of
    for module in (gpu_more, gpu_parts):
        monkeypatch.setattr(module, "seconds_of", lambda call, **options: real(call, untimed=0, rounds=1))
    points = list(gpu_more.codes(scale=1 / 84))
    assert [point.get("step") for point in points] == ["coded", "onepass"] * 2 + [None, None]
    assert [point["X"] for point in points[:4]] == ["codes, there", "ones, there", "codes, streamed", "ones, streamed"]
    assert all(point["apart"] < 1e-5 for point in points[:4])
    assert points[2]["apart"] == 0
    assert all(point["seconds"] > 0 for point in points)


@pytest.mark.parametrize("name", ["5-4-3", "5-7-1"])
def test_pytorch_s_epoch_learns_the_same(name):
    pytest.importorskip("torch")
    p, costs = gpu_more.problem.make(Shape.parse(name), 60), []
    epoch = gpu_more.torch_epochs(p, 20, None, compiled=False, device="cpu")
    costs = [epoch() for _ in range(3)]
    first = fb.cost(p.network, p.params, p.X, p.Y)
    assert costs[0] == pytest.approx(first, rel=0.02)
    assert costs[2] < costs[0]


def test_without_a_sanitizer_its_part_says_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    [point] = gpu_more.PARTS["memcheck"]()
    assert "comes with NVIDIA's CUDA toolkit" in point["error"]
    program = tmp_path / "compute-sanitizer"
    program.write_text("#!/bin/sh\n/bin/echo '{\"case\": 1}'\n/bin/echo '========= ERROR SUMMARY: 0 errors'\nexit 0\n")
    program.chmod(0o755)
    [point] = gpu_more.sanitized("racecheck")
    assert (point["exit"], point["said"], point["ran"]) == (0, "ERROR SUMMARY: 0 errors", 1)


def test_a_part_whose_package_is_missing_says_so():
    code = "import sys\nsys.modules['cupy'] = None\nfrom bench import gpu_parts\nsys.exit(gpu_parts.main('card'))"
    root = Path(gpu.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"error": "cupy is not installed"}
