"""The benchmark harness: its arithmetic, its refusals, and each command once at a tiny size. Nothing here is timed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import backends, datasets, memory, minibatch, peers, problem, readme, roofline, scaling, timing, training
from bench.__main__ import main
from bench.machine import describe
from bench.problem import Shape
from bench.results import Result
from bench.roofline import Limits
from bench.timing import Contender, Gauge, Rules, take_turns

import fullbatch as fb
from fullbatch.errors import DeviceError, InputError
from fullbatch.sources.encoded import EncodedTable

# --- Arithmetic -----------------------------------------------------------------------------------------------


def test_flops_and_roofline_of_a_step() -> None:
    shape = Shape((28, 64, 10, 1))
    forward = 28 * 64 + 64 * 10 + 10 * 1
    assert roofline.flops(shape) == 2 * (2 * forward + 64 * 10 + 10 * 1)  # dA of the layers but the first
    shape = Shape((28, 64, 1))
    by_product = roofline.flops(shape) * 1000 / 1e9
    assert roofline.seconds_at_best(shape, 1000, 4, Limits(1e9, 1e12)) == (by_product, "product")
    assert roofline.seconds_at_best(shape, 1000, 4, Limits(1e15, 1e9)) == (1000 * 29 * 4 / 1e9, "copy")


@pytest.mark.parametrize("name", ["28", "28-", "a-b", "28-0-1", "28-64-1 ", "-28-1", ""])
def test_a_wrong_shape_lists_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match="28-64-1, 28-300-1"):
        Shape.parse(name)


def test_problem_repeats_its_examples_and_labels_have_both_classes() -> None:
    m = problem.DISTINCT + 10
    p = problem.make(Shape((3, 2, 1)), m)
    assert p.X.shape == (3, m)
    assert p.Y.shape == (1, m)
    np.testing.assert_array_equal(p.table[:10], p.table[problem.DISTINCT :])
    assert 0.2 < p.targets.mean() < 0.8
    several = problem.make(Shape((3, 2, 4)), 100)
    np.testing.assert_array_equal(several.targets.sum(axis=1), 1)
    np.testing.assert_array_equal(several.targets[np.arange(100), several.codes], 1)


def _point(backend: str, m: int, seconds: float, extra: int | None = 1000) -> dict[str, Any]:
    return {
        "backend": backend, "shape": "28-64-1", "m": m, "extra_bytes": extra,
        "seconds": {"median": seconds, "min": seconds, "max": seconds, "samples": [seconds]},
    }  # fmt: skip


def test_crossover_lies_where_the_lines_cross_on_log_log_paper() -> None:
    cpu = [_point("numpy", m, m * 1e-6) for m in (10**3, 10**4, 10**5)]
    gpu = [_point("cupy", m, seconds) for m, seconds in ((10**3, 1e-2), (10**4, 1e-2), (10**5, 1e-2))]
    (row,) = scaling.crossover(cpu + gpu)
    assert row == {"shape": "28-64-1", "m": 10**4, "top_m": 10**5, "top_ratio": pytest.approx(10)}
    gpu = [_point("cupy", 10**3, 1e-1), _point("cupy", 10**5, 1e-3)]  # ratio 1/100, then 100: it is 1 half way
    assert scaling.crossover(cpu + gpu)[0]["m"] == pytest.approx(10**4, rel=1e-3)
    assert scaling.crossover(cpu + [_point("cupy", m, 1.0) for m in (10**3, 10**5)])[0]["m"] is None
    assert scaling.crossover(cpu) == []


def test_growth_compares_time_with_proportion_and_memory_with_nothing() -> None:
    points = [_point("numpy", 10**5, 1.0), _point("numpy", 10**6, 11.0, 1500), _point("numpy", 10**7, 110.0, None)]
    first, second = scaling.growth(points)
    assert first["time_over_proportional"] == pytest.approx(1.1)
    assert first["extra_bytes_more"] == 500
    assert second["time_over_proportional"] == pytest.approx(1.0)
    assert second["extra_bytes_more"] is None


# --- Turns ----------------------------------------------------------------------------------------------------


def _recorder(calls: list[str], name: str) -> Contender:
    return Contender(lambda: calls.append(name), lambda call: (call(), 1.0)[1])


def test_contenders_take_turns_and_each_starts_a_round() -> None:
    calls: list[str] = []
    rules = Rules(pause=0, untimed=0, rounds=3, least=1, shortest=0)
    rounds = take_turns({name: _recorder(calls, name) for name in "abc"}, rules, seconds=60)
    assert "".join(calls) == "abcbcacab"
    assert rounds.kept == 3
    assert rounds.timing("a") == {"median": 1.0, "min": 1.0, "max": 1.0, "samples": [1.0, 1.0, 1.0]}


def test_untimed_calls_come_before_each_timed_one() -> None:
    calls: list[str] = []
    contender = _recorder(calls, "x")._replace(warm=lambda: calls.append("w"))
    take_turns({"x": contender}, Rules(pause=0, untimed=2, rounds=2, least=1, shortest=0), seconds=60)
    assert "".join(calls) == "wwxwwx"


def test_a_short_call_is_timed_several_times_in_a_row() -> None:
    def clock(call: Any) -> float:
        before = len(calls)
        call()
        return 1e-4 * (len(calls) - before)

    calls: list[int] = []
    contender = Contender(lambda: calls.append(1), clock)
    rules = Rules(pause=0, untimed=0, rounds=1, least=1, shortest=1e-3)
    assert take_turns({"x": contender}, rules, seconds=60).samples["x"] == [pytest.approx(1e-4)]
    assert len(calls) == 1 + 1 + 10


def test_a_disturbed_round_is_dropped_and_counted() -> None:
    gauges = iter([Gauge(2.0, 1.0), Gauge(1.5, 1.0), Gauge(1.9, 1.0)])
    rules = Rules(pause=0, untimed=0, rounds=2, least=1, quiet=1.6, shortest=0)
    rounds = take_turns({"x": _recorder([], "x")}, rules, seconds=60, gauge=lambda: next(gauges))
    assert (rounds.kept, rounds.dropped) == (2, 1)
    assert rounds.summary()["two_threads_over_one"] == [2.0, 1.5, 1.9]
    assert len(rounds.samples["x"]) == 2


def test_where_no_round_is_quiet_there_is_no_time() -> None:
    rules = Rules(pause=0, untimed=0, rounds=3, least=2, shortest=0)
    rounds = take_turns({"x": _recorder([], "x")}, rules, seconds=0, gauge=lambda: Gauge(1.0, 1.0))
    assert (rounds.kept, rounds.dropped) == (0, 4)  # twice as many as at least, in the hope of a quiet one
    assert rounds.timing("x") is None


def test_the_time_that_is_up_ends_the_rounds() -> None:
    rules = Rules(pause=0, untimed=0, rounds=50, least=2, shortest=0)
    assert take_turns({"x": _recorder([], "x")}, rules, seconds=0).kept == 2


# --- Peers ----------------------------------------------------------------------------------------------------

COMPILES = "PyTorch compiled"  # for many seconds; bench peers itself checks it before it times it


@pytest.mark.filterwarnings("ignore")  # other projects' code
@pytest.mark.parametrize("shape", ["5-7-1", "6-5-4-3"])
@pytest.mark.parametrize("name", [name for name in peers.PEERS if name != COMPILES])
def test_each_peer_computes_the_same(name: str, shape: str) -> None:
    if reason := peers.missing(peers.PEERS[name].package):
        pytest.skip(reason)
    p = problem.make(Shape.parse(shape), 4 * 4096 + 3)  # several blocks and a rest
    assert peers.error(peers.PEERS[name].make(p)(), peers.reference(p)) < 1e-5


def _without_mean(p: problem.Problem) -> Any:
    def step() -> Any:
        J, gradients = peers.ours(p)()
        return J, [(p.m * W, b) for W, b in gradients]

    return step


def _of_other_shape(p: problem.Problem) -> Any:
    return lambda: (0.5, [(W.T, b) for W, b in p.params])


def _failing(p: problem.Problem) -> Any:
    raise RuntimeError("two\nlines")


def test_a_peer_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"slip": _without_mean, "shape": _of_other_shape, "failing": _failing}
    others = {name: peers.Peer(make, "numpy", True) for name, make in wrong.items()}
    absent = peers.Peer(peers.ours, "no_such_package", True)
    monkeypatch.setattr(peers, "PEERS", {peers.OURS: peers.PEERS[peers.OURS], **others, "absent": absent})
    p = problem.make(Shape((4, 3, 1)), 200)
    steps, errors, left_out = peers.prepared(p, list(peers.PEERS))
    assert list(steps) == list(errors) == [peers.OURS]
    assert "does not compute the same" in left_out["slip"]
    assert "does not compute the same" in left_out["shape"]
    assert left_out["failing"] == "RuntimeError: two lines"
    assert left_out["absent"] == "no_such_package is not installed"


@pytest.mark.filterwarnings("ignore")
def test_mini_batch_contenders_train_alike() -> None:
    p = problem.make(minibatch.SHAPE, 600)
    epochs, errors, left_out = minibatch.prepared(p, 100, list(minibatch.CONTENDERS))
    assert {"fullbatch", "scikit-learn"} <= set(epochs)
    assert not {reason for reason in left_out.values() if not reason.endswith("is not installed")}
    assert errors["scikit-learn"] < 1e-4
    before = [W.copy() for W, _ in epochs["fullbatch"].weights()]
    epochs["fullbatch"].run(600)
    assert any((old != W).any() for (W, _), old in zip(epochs["fullbatch"].weights(), before, strict=True))


def test_summary_of_peers_takes_the_fastest_as_people_use_it() -> None:
    def time(seconds: float) -> dict[str, float]:
        return {"median": seconds}

    points = [
        {
            "part": "step", "case": case, "allocator": "default",
            "times": {
                "fullbatch": time(1.0), "scikit-learn": time(2.0 * factor), "JAX jit": time(3.0 * factor),
                "JAX, blocks by hand": time(0.1), "PyTorch eager": None,
            },
        }
        for case, factor in zip(peers.CASES, (1, 2, 4, 8), strict=False)
    ]  # fmt: skip
    summary = peers.summary(points)
    assert [row["ratio"] for row in summary["ratios"]] == [2.0, 4.0, 8.0, 16.0]
    assert {row["fastest"] for row in summary["ratios"]} == {"scikit-learn"}
    (mean,) = summary["geometric_means"]
    assert mean == {"allocator": "default", "cases": 4, "ratio": pytest.approx(math.sqrt(32)), "least": 2.0}


# --- Real data, and its forms ---------------------------------------------------------------------------------


def test_the_forms_of_an_encoded_table_hold_the_same_numbers() -> None:
    numbers = np.array([[0.5, 0.0], [0.0, 0.0], [-1.0, 2.0]], np.float32)
    ones = np.array([[2, 5], [0, 4], [3, 0]], np.uint8)  # 0 stands for none
    X = EncodedTable(numbers, ones, 6)
    dense = datasets.as_dense(X)
    np.testing.assert_array_equal(dense, [[0.5, 0, 1, 0, 0, 1], [0, 0, 0, 0, 1, 0], [-1, 2, 0, 1, 0, 0]])
    csr = datasets.as_csr(X)
    np.testing.assert_array_equal(csr.toarray(), dense)
    assert csr.nnz == 7
    assert csr.dtype == np.float32


def test_summary_of_training_takes_the_worst_seeds_best_loss_as_the_mark() -> None:
    def point(contender: str, seed: int, losses: list[float]) -> dict[str, Any]:
        seconds = [0.5 * (i + 1) for i in range(len(losses))]
        return {"data": "d", "contender": contender, "seed": seed, "losses": losses, "seconds": seconds}

    points = [
        point("scikit-learn", 0, [0.9, 0.5, 0.6]), point("scikit-learn", 1, [0.9, 0.8, 0.7]),
        point("fullbatch", 0, [0.7, 0.6]), point("fullbatch", 1, [0.8, 0.6]),
        point("PyTorch", 0, [0.9, 0.9]), point("PyTorch", 1, [0.9, 0.8]),
    ]  # fmt: skip
    summary = training.summary(points)
    assert summary["targets"] == {"d": pytest.approx(0.7 * training.MARGIN)}
    rows = {row["contender"]: row for row in summary["times"]}
    assert rows["scikit-learn"]["seconds"] == 1.25
    assert rows["fullbatch"]["seconds"] == 0.75
    assert rows["scikit-learn"]["ratio"] == pytest.approx(1.25 / 0.75)
    assert (rows["PyTorch"]["reached"], rows["PyTorch"]["seconds"], rows["PyTorch"]["ratio"]) == (0, None, None)


# --- Memory ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")
def test_peak_memory_is_seen() -> None:
    size = 50 * 2**20
    seen = memory.peak_beyond(lambda: np.ones(size, dtype=np.uint8).sum())
    assert 0.9 * size < seen < 2 * size


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")
def test_the_step_takes_no_memory_that_grows_with_m() -> None:
    shape = Shape((28, 64, 1))
    small, large = (memory.of_step(shape, m, "float32", 2) for m in (100_000, 400_000))
    assert small is not None
    assert large is not None
    assert large < small + 2**22
    assert large < shape.data_bytes(400_000, 4) / 2


# --- The commands ---------------------------------------------------------------------------------------------

TINY = ["scaling", "--quick", "--no-memory", "--backend", "numpy", "--shape", "5-4-1", "--to", "3e3"]


def _load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_scaling_writes_points_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main([*TINY, "--out", str(tmp_path / "new" / "folder")]) == 0
    files = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert files == ["scaling.json", "scaling.png", "scaling.svg"]
    result = _load(tmp_path / "new" / "folder" / "scaling.json")
    assert result["finished"]
    assert [point["m"] for point in result["points"]] == [1000, 3000]
    point = result["points"][0]
    assert point["examples_per_second"] == pytest.approx(1000 / point["seconds"]["median"])
    assert point["gflops"] == pytest.approx(roofline.flops(Shape((5, 4, 1))) * point["examples_per_second"] / 1e9)
    assert point["fraction"] == pytest.approx(point["roofline"]["seconds"] / point["seconds"]["median"])
    assert result["machine"]["versions"]["numpy"] == np.__version__
    assert result["machine"]["blas"]
    captured = capsys.readouterr()
    assert "M examples/s" in captured.out
    assert "5-4-1" in captured.out


def test_a_backend_that_cannot_be_used_is_left_out_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable(*arguments: Any) -> Any:
        raise DeviceError("no card")

    monkeypatch.setitem(backends.BACKENDS, "cupy", unusable)
    arguments = [*TINY, "--backend", "cupy", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert "cupy: left out: no card" in capsys.readouterr().err
    assert _load(tmp_path / "scaling.json")["left_out"] == ["cupy: left out: no card"]


def test_points_beyond_the_budget_are_left_out_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = scaling.Settings(
        shapes=("5-4-1",), backends=("numpy",), last=10**6, budget=1e-6, memory=False, quick=True, rules=Rules.quick()
    )
    result = Result("scaling", "", describe(), {})
    scaling.run(settings, result, save=lambda: None, say=lambda line: None)
    assert result.points == []
    assert len(result.left_out) == len(settings.counts())
    assert "beyond the budget" in result.left_out[0]


def test_points_beyond_memory_are_left_out_and_an_explicit_range_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 1_000_000
    for module in (scaling, backends):
        monkeypatch.setattr(module, "free_memory", lambda: int(room / backends.SHARE))
    arguments = ["scaling", "--quick", "--no-memory", "--backend", "numpy", "--shape", "99-4-1", "--out", str(tmp_path)]
    assert main([*arguments, "--to", "1e4"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "10,000 examples of 99-4-1 take 4,000,000 bytes" in error
    assert not (tmp_path / "scaling.json").exists()
    result = Result("scaling", "", describe(), {})
    settings = scaling.Settings(
        shapes=("99-4-1",), backends=("numpy",), memory=False, quick=True, rules=Rules.quick(), budget=60
    )
    scaling.run(settings, result, save=lambda: None, say=lambda line: None)
    assert [point["m"] for point in result.points] == [1000]
    assert "1,200,000 bytes of data" in result.left_out[0]


def test_ctrl_c_keeps_the_points_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = iter([True])

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if next(once, False):
            return take_turns(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(scaling, "take_turns", interrupted)
    assert main([*TINY, "--out", str(tmp_path)]) == 130
    result = _load(tmp_path / "scaling.json")
    assert [point["m"] for point in result["points"]] == [1000]
    assert not result["finished"]


def test_peers_run_in_a_process_with_the_allocator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["peers", "--quick", "--part", "step", "--peer", "NumPy, whole arrays", "--out", str(tmp_path)]
    assert main(arguments) == 0
    result = _load(tmp_path / "peers.json")
    assert [point["allocator"] for point in result["points"]] == ["default", "keeping"]
    for point in result["points"]:
        assert set(point["times"]) == {"fullbatch", "NumPy, whole arrays"}
        assert max(point["errors"].values()) < 1e-5
    assert {row["fastest"] for row in result["summary"]["ratios"]} == {"NumPy, whole arrays"}
    assert "keeping: ratio" in capsys.readouterr().out


def test_training_follows_scikit_learn_and_finds_the_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["training", "--seeds", "1", "--contender", "fullbatch", "--out", str(tmp_path)]
    assert main(arguments) == 0
    result = _load(tmp_path / "training.json")
    theirs, ours = (next(p for p in result["points"] if p["contender"] == c) for c in ("scikit-learn", "fullbatch"))
    # From the same weights, in the same batches: the losses agree epoch by epoch.
    np.testing.assert_allclose(ours["losses"][: len(theirs["losses"])], theirs["losses"], rtol=1e-2)
    assert len(ours["losses"]) > len(theirs["losses"])
    assert all(a < b for a, b in zip(ours["seconds"], ours["seconds"][1:], strict=False))
    assert {row["contender"] for row in result["summary"]["times"]} == {"scikit-learn", "fullbatch"}
    assert "held-out log-loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["scaling", "--backend", "jax"], "unknown backend 'jax'; the known ones are numpy, cupy"),
        (["scaling", "--shape", "wide"], "the known ones are 28-64-1"),
        (["scaling", "--dtype", "float16"], "the known ones are float32, float64"),
        (["scaling", "--to", "lots"], "'lots' is no count of examples"),
        (["scaling", "--from", "1e6", "--to", "1e3"], "from 1,000,000 to 1,000"),
        (["scaling", "--budget", "-1"], "larger than 0"),
        (["scaling", "--threads", "0"], "threads"),
        (["scaling", "--no-such-option"], "--no-such-option"),
        (["peers", "--peer", "keras"], "unknown peer 'keras'; the known ones are fullbatch, NumPy"),
        (["peers", "--case", "1-2-3"], "unknown case '1-2-3'; the known ones are 28-64-1"),
        (["peers", "--allocator", "fast"], "the known ones are default, keeping"),
        (["training", "--dataset", "iris"], "the known ones are nyc-late, mnist, flights-late, digits"),
        (["training", "--dataset", "mnist"], "give the folder that has mnist-train.parquet with --data"),
        (["training", "--data", "/nowhere"], "no such file: /nowhere/nyc-late-train.csv.gz"),
        (["training", "--contender", "keras"], "unknown contender 'keras'"),
        (["readme", "--results", "/nowhere", "--check"], "no results"),
        (["sailing"], "sailing"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "README.md").write_text("<!-- bench:peers --><!-- /bench:peers -->")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert not list(tmp_path.glob("bench-results/*.json"))


@pytest.mark.parametrize("command", ["scaling", "peers", "training"])
def test_an_output_folder_that_cannot_be_written_is_said_first(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([command, "--out", str(tmp_path / "file" / "folder")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot write into" in error


# --- The README -----------------------------------------------------------------------------------------------

MARKS = """before
<!-- bench:scaling -->
old
<!-- /bench:scaling -->
between <!-- bench:peers --><!-- /bench:peers -->
"""


def test_readme_is_made_from_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    results, file = tmp_path / "results", tmp_path / "README.md"
    file.write_text(MARKS)
    assert main([*TINY, "--out", str(results)]) == 0
    arguments = ["readme", "--results", str(results), "--readme", str(file)]
    assert main([*arguments, "--check"]) == 1
    assert file.read_text() == MARKS
    assert main(arguments) == 0
    text = file.read_text()
    assert text.startswith("before\n<!-- bench:scaling -->\n`python -m bench")
    assert "| 5-4-1 | numpy | 3,000 |" in text
    assert "](results/scaling.png)" in text
    assert "old" not in text
    assert "Not measured yet: `python -m bench peers" in text
    assert main([*arguments, "--check"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", "has no marks"),
        ("<!-- bench:speed --><!-- /bench:speed -->", "unknown mark bench:speed; the known ones are scaling"),
        ("<!-- bench:peers -->", "has no end"),
    ],
)
def test_readme_with_wrong_marks(text: str, words: str, tmp_path: Path) -> None:
    Result("peers", "", describe(), {}).save(tmp_path / "peers.json")
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(InputError, match=words):
        readme.update(tmp_path / "README.md", tmp_path, check=False)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "scaling"}'])
def test_a_foreign_file_among_the_results(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match="is not a result of this harness"):
        Result.load(tmp_path / "x.json")


# --- A GPU ----------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not any(d.name == "cuda:0" and d.usable for d in fb.devices()), reason="no usable NVIDIA GPU")
def test_scaling_on_a_gpu(tmp_path: Path) -> None:
    assert main(["scaling", "--quick", "--shape", "28-64-1", "--out", str(tmp_path)]) == 0
    result = _load(tmp_path / "scaling.json")
    assert {point["backend"] for point in result["points"]} == {"numpy", "cupy"}
    assert result["summary"]["crossover"]
    assert all(point["extra_bytes"] for point in result["points"])


def test_a_gauge_tells_one_thread_from_two() -> None:
    gauge = timing.two_threads(64)
    if gauge is None:
        pytest.skip("one core")
    assert gauge().ratio > 0
