"""The benchmark harness: its arithmetic, its refusals, and each command once at a tiny size. Nothing here is timed."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import itertools
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pytest
import threadpoolctl
from rich.console import Console

import fullbatch as fb
from bench import (
    backends,
    children,
    contest,
    datasets,
    forms,
    gpu,
    machine,
    memory,
    minibatch,
    own,
    peers,
    plots,
    problem,
    readme,
    render,
    roofline,
    scaling,
    timing,
    training,
)
from bench.command import main
from bench.forms import Limits
from bench.problem import Shape
from bench.results import Result
from bench.runs import Run
from bench.timing import Contender, Gauge, Rules, take_turns
from fullbatch.core.parameters import Layer
from fullbatch.errors import DeviceError, InputError
from fullbatch.machine import native_library, threads
from fullbatch.sources.encoded import EncodedTable

# --- Arithmetic -----------------------------------------------------------------------------------------------


def test_flops_and_roofline_of_a_step() -> None:
    shape = Shape((28, 64, 10, 1))
    forward = 28 * 64 + 64 * 10 + 10 * 1
    assert roofline.flops(shape) == 2 * (2 * forward + 64 * 10 + 10 * 1)  # dA of the layers but the first
    shape = Shape((28, 64, 1))
    by_product = roofline.flops(shape) * 1000 / 1e9
    assert roofline.seconds_at_best(shape, 1000, 4, Limits(1e9, 1e12)) == (by_product, "product")
    assert roofline.seconds_at_best(shape, 1000, 4, Limits(1e15, 1e9)) == (1000 * 29 * 4 / 1e9, "memory")
    assert roofline.seconds_at_best(shape, 1000, 4, Limits(1e15, 1e9, 2e9)) == (1000 * 29 * 4 / 2e9, "memory")
    assert roofline.flops(Shape((28, 1))) == 2 * 2 * 28  # logistic regression: Z and dW


def test_limits_are_the_highest_of_all_that_were_measured_and_survive_json() -> None:
    limits = Limits(3.0, 1.0, 2.0).best(Limits(2.0, 4.0, 1.0))
    assert limits == Limits(3.0, 4.0, 2.0)
    assert limits.memory == 4.0
    assert roofline.from_json(json.loads(json.dumps(roofline.to_json({"cpu": limits})))) == {"cpu": limits}


def test_the_limits_of_this_machine_are_plausible() -> None:
    limits = roofline.cpu_limits(quick=True)
    assert 1e8 < limits.product < 1e14
    assert 1e8 < limits.copy < 1e13
    assert 1e8 < limits.read < 1e13


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
    assert p.table[:, -1].mean() == pytest.approx(problem.MEAN, rel=1e-3)
    assert p.table[:, -1].std() == pytest.approx(problem.SPREAD, rel=0.02)
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
    assert row == {"shape": "28-64-1", "cpu": "numpy", "m": 10**4, "top_m": 10**5, "top_ratio": pytest.approx(10)}
    gpu = [_point("cupy", 10**3, 1e-1), _point("cupy", 10**5, 1e-3)]  # ratio 1/100, then 100: it is 1 half way
    assert scaling.crossover(cpu + gpu)[0]["m"] == pytest.approx(10**4, rel=1e-3)
    assert scaling.crossover(cpu + [_point("cupy", m, 1.0) for m in (10**3, 10**5)])[0]["m"] is None
    assert scaling.crossover(cpu) == []
    native = [_point("native", 10**5, 1e-3)]  # where it was measured it stands for the CPU
    (row,) = scaling.crossover(cpu + native + [_point("cupy", 10**5, 1e-2)])
    assert (row["cpu"], row["m"], row["top_ratio"]) == ("native", None, pytest.approx(0.1))


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
    rules = Rules(pause=0, warm=0, untimed=0, rounds=3, least=1, shortest=0)
    rounds = take_turns({name: _recorder(calls, name) for name in "abc"}, rules, seconds=60)
    assert "".join(calls) == "abcbcacab"
    assert rounds.kept == 3
    assert rounds.timing("a") == {"median": 1.0, "min": 1.0, "max": 1.0, "calls": 1, "samples": [1.0, 1.0, 1.0]}


def test_untimed_calls_come_before_each_timed_one() -> None:
    calls: list[str] = []
    contender = _recorder(calls, "x")._replace(warm=lambda: calls.append("w"))
    take_turns({"x": contender}, Rules(pause=0, warm=0, untimed=2, rounds=2, least=1, shortest=0), seconds=60)
    assert "".join(calls) == "wwxwwx"


def test_untimed_calls_go_on_until_a_core_is_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: 0.01 * next(seconds))
    calls: list[str] = []
    contender = _recorder(calls, "x")._replace(warm=lambda: calls.append("w"))
    take_turns({"x": contender}, Rules(pause=0, untimed=1, warm=0.085, rounds=1, least=1, shortest=0), seconds=60)
    assert "".join(calls) == "wwwx"  # the clock is read three times for each


def test_a_short_call_is_timed_several_times_in_a_row() -> None:
    def clock(call: Any) -> float:
        before = len(calls)
        call()
        return 1e-4 * (len(calls) - before)

    calls: list[int] = []
    contender = Contender(lambda: calls.append(1), clock)
    rules = Rules(pause=0, warm=0, untimed=0, rounds=2, least=1, shortest=1e-3)
    rounds = take_turns({"x": contender}, rules, seconds=60)
    assert rounds.samples["x"] == [pytest.approx(1e-4)] * 2
    assert rounds.calls == {"x": 10}
    assert (rounds.timing("x") or {})["calls"] == 10
    assert len(calls) == 1 + 10 + 10  # the first says how many
    assert Rules().shortest >= 0.02


def test_a_call_whose_untimed_ones_are_long_is_not_called_to_find_that_out() -> None:
    calls: list[str] = []

    def slow() -> None:
        calls.append("x")
        time.sleep(0.02)

    rules = Rules(pause=0, warm=0, untimed=2, rounds=1, least=1, shortest=0.01)
    assert take_turns({"x": Contender(slow, timing.wall)}, rules, seconds=60).calls == {"x": 1}
    assert len(calls) == 3


def test_a_disturbed_round_is_dropped_and_counted() -> None:
    ratios = [2.0, 2.0, 1.5, 2.0, 2.0, 2.5, 1.9, 1.9]  # before and after each of four rounds
    gauges = iter([Gauge(ratio, 1.0) for ratio in ratios])
    rules = Rules(pause=0, warm=0, untimed=0, rounds=2, least=1, quiet=1.6, shortest=0)
    rounds = take_turns({"x": _recorder([], "x")}, rules, seconds=60, gauge=lambda: next(gauges))
    assert (rounds.kept, rounds.dropped) == (2, 2)
    assert rounds.summary()["two_threads_over_one"] == ratios
    assert len(rounds.samples["x"]) == 2


def test_where_no_round_is_quiet_the_least_disturbed_count_and_are_marked() -> None:
    ratios = [1.0, 1.0, 1.5, 1.5, 1.0, 1.2, 1.4, 1.5]  # before and after each of four rounds
    gauges = iter([Gauge(ratio, 1.0) for ratio in ratios])
    rules = Rules(pause=0, warm=0, untimed=0, rounds=3, least=2, shortest=0)
    rounds = take_turns({"x": _recorder([], "x")}, rules, seconds=0, gauge=lambda: next(gauges))
    assert (rounds.kept, rounds.dropped) == (0, 4)  # twice as many as at least, in the hope of a quiet one
    assert rounds.used == [1, 3]
    assert rounds.summary()["disturbed"] == 2
    made = rounds.timing("x")
    assert made is not None
    assert made["disturbed"]
    assert render.ms(msgspec.convert(made, forms.Timing)).endswith(" disturbed")


def test_a_scaling_on_a_busy_machine_gives_figures_and_a_plot_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(scaling, "two_threads", lambda: lambda: Gauge(1.0, 1.0))
    busy = dataclasses.replace(Rules.quick(), quiet=1.6)
    monkeypatch.setattr(Rules, "quick", classmethod(lambda cls: busy))
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    result = Result.load(tmp_path / "scaling.json")
    assert all(p["seconds"]["disturbed"] and p["rounds"]["kept"] == 0 for p in result.points)
    assert "disturbed" in capsys.readouterr().out
    assert "disturbed" in {
        label for axes in plots._scaling(result).axes for label in axes.get_legend_handles_labels()[1]
    }


def test_resume_measures_again_what_was_disturbed_and_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = itertools.chain([1.0] * 4, itertools.repeat(2.0))  # of the first point both rounds are disturbed
    monkeypatch.setattr(scaling, "two_threads", lambda: lambda: Gauge(next(quiet), 1.0))
    rules = dataclasses.replace(Rules.quick(), quiet=1.6, rounds=1)
    monkeypatch.setattr(Rules, "quick", classmethod(lambda cls: rules))
    arguments = [*TINY, "--out", str(tmp_path)]
    assert main(arguments) == 0
    before = Result.load(tmp_path / "scaling.json").points
    assert [(p["m"], "disturbed" in p["rounds"]) for p in before] == [(1000, True), (3000, False)]
    assert main([*arguments, "--resume"]) == 0
    after = {p["m"]: p for p in Result.load(tmp_path / "scaling.json").points}
    assert after[3000]["seconds"] == before[1]["seconds"]
    assert after[1000]["rounds"]["kept"]
    assert "disturbed" not in after[1000]["rounds"]


def test_a_pause_comes_before_each_timed_call_and_before_the_gauge(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(timing.time, "sleep", lambda seconds: calls.append(f"{seconds:g} "))

    def gauge() -> Gauge:
        calls.append("g")
        return Gauge(2.0, 1.0)

    rules = Rules(pause=0.2, warm=0, untimed=1, rounds=1, least=1, shortest=0)
    take_turns({name: _recorder(calls, name) for name in "ab"}, rules, seconds=60, gauge=gauge)
    assert "".join(calls) == "0.2 g0.2 aa0.2 bb0.2 g"


def test_the_time_that_is_up_ends_the_rounds() -> None:
    rules = Rules(pause=0, untimed=0, rounds=50, least=2, shortest=0)
    rounds = take_turns({"x": _recorder([], "x")}, rules, seconds=0)
    assert (rounds.kept, rounds.cut) == (2, False)


@pytest.mark.parametrize(("left", "kept"), [(-1.0, 0), (0.5, 1), (2.5, 2), (60.0, 3)])
def test_no_round_is_begun_that_would_end_after_the_budget(
    left: float, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def call() -> None:
        now[0] += 1.0  # a second each: of the first nobody knows how long it will take

    rules = Rules(pause=0, warm=0, untimed=0, rounds=5, least=3, shortest=0)
    rounds = take_turns({"x": Contender(call, timing.wall)}, rules, seconds=0.0, left=left)
    assert rounds.kept == kept
    assert rounds.cut == rounds.summary()["cut"] == (kept < rules.least)
    assert now[0] <= max(0.0, left) + 1.0
    assert timing.not_begun(rounds.summary()) == (kept == 0)


# --- Peers ----------------------------------------------------------------------------------------------------

ROUNDS = {"kept": 1, "dropped": 0, "cut": False}
COMPILES = "PyTorch compiled"  # for many seconds; bench peers itself checks it before it times it


@pytest.mark.filterwarnings("ignore")  # other projects' code
@pytest.mark.parametrize("shape", ["5-7-1", "6-5-4-3", "9-1"])
@pytest.mark.parametrize("name", [name for name in peers.PEERS if name != COMPILES])
def test_each_peer_computes_the_same(name: str, shape: str) -> None:
    peer = peers.PEERS[name]
    if reason := own.not_installed(peer.package) or own.missing(peer.native):
        pytest.skip(reason)
    p = problem.make(Shape.parse(shape), 4 * 4096 + 3)  # several blocks and a rest
    assert problem.error_of_gradient(peers.PEERS[name].make(p)()[1], problem.exact(p)[1]) < 1e-5


def _without_mean(p: problem.Problem) -> Any:
    def step() -> Any:
        J, gradients = peers.ours(p)()
        return J, [(p.m * W, b) for W, b in gradients]

    return step


def _of_other_shape(p: problem.Problem) -> Any:
    return lambda: (0.5, [(W.T, b) for W, b in p.params])


def _not_finite(p: problem.Problem) -> Any:
    return lambda: (math.nan, peers.ours(p)()[1])


def _failing(p: problem.Problem) -> Any:
    raise RuntimeError("two\nlines")


def test_a_peer_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"slip": _without_mean, "shape": _of_other_shape, "nan": _not_finite, "failing": _failing}
    others = {name: contest.Entry(make, "numpy", "as used") for name, make in wrong.items()}
    absent = contest.Entry(peers.ours, "no_such_package", "as used")
    monkeypatch.setattr(peers, "PEERS", {peers.OURS: peers.PEERS[peers.OURS], **others, "absent": absent})
    p = problem.make(Shape((4, 3, 1)), 200)
    found = peers.prepared(p, list(peers.PEERS))
    assert list(found.contenders) == list(found.errors) == list(found.ran) == [peers.OURS]
    assert "does not compute the same" in found.left_out["slip"]
    assert "does not compute the same" in found.left_out["shape"]
    assert "does not compute the same" in found.left_out["nan"]
    assert found.left_out["failing"] == "RuntimeError: two lines"
    assert found.left_out["absent"] == "no_such_package is not installed"


@pytest.mark.filterwarnings("ignore")
def test_mini_batch_contenders_train_alike() -> None:
    p = problem.make(minibatch.SHAPE, 600)
    found = minibatch.prepared(p, 100, list(minibatch.CONTENDERS))
    assert {"fullbatch", "scikit-learn"} <= set(found.contenders)
    for name, reason in found.left_out.items():
        assert reason in (own.not_installed(minibatch.CONTENDERS[name].package), own.missing(own.WAYS.get(name)))
    assert found.errors["fullbatch"] < 1e-3
    assert set(found.ran) == set(found.contenders) & set(own.WAYS)
    for name, ran in found.ran.items():
        asked = own.WAYS[name] or (native_library.isa() or ("", "off"))[1]
        assert ran == ("inplace" if asked == "off" else f"native, {asked}, whole epochs")
    ours = found.contenders["fullbatch"]
    before = [W.copy() for W, _ in ours.weights()]
    ours.run(600)
    assert any((old != W).any() for (W, _), old in zip(ours.weights(), before, strict=True))


def test_an_epoch_that_trains_otherwise_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Faster(minibatch.Ours):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.model.set_params(learning_rate_init=2 * minibatch.LEARNING_RATE)

    class Failing(minibatch.Ours):
        def run(self, rows: int) -> None:
            raise RuntimeError("two\nlines")

    kinds = {name: contest.Entry(kind, "numpy", "by hand") for name, kind in (("fast", Faster), ("fails", Failing))}
    monkeypatch.setattr(minibatch, "CONTENDERS", kinds)
    found = minibatch.prepared(problem.make(minibatch.SHAPE, 200), 100, list(kinds))
    assert not found.contenders
    assert "does not compute the same" in found.left_out["fast"]
    assert found.left_out["fails"] == "RuntimeError: two lines"


def _step_point(case: str, factor: float, allocator: str = "default") -> dict[str, Any]:
    times = {
        "fullbatch": 1.0, "fullbatch, NumPy alone": 4.0, "scikit-learn": 2.0 * factor, "JAX jit": 3.0 * factor,
        "JAX, blocks by hand": 0.5 * factor,
    }  # fmt: skip
    return {
        "part": "step", "case": case, "shape": case, "m": 1000, "allocator": allocator,
        "steps": {"fullbatch": "native, avx512", "fullbatch, NumPy alone": "inplace"},
        "times": {**{name: {"median": t} for name, t in times.items()}, "PyTorch eager": None},
    }  # fmt: skip


def test_summary_of_peers_takes_the_fastest_of_each_kind_for_each_own_way() -> None:
    points = [_step_point(case, factor) for case, factor in zip(peers.CASES, (1, 2, 4, 8), strict=False)]
    summary = peers.summary(points, {"cpu": Limits(1e9, 1e9, 2e9)})
    rows = [row for row in summary["rows"] if row["own"] == "fullbatch"]
    assert [row["as_used"] for row in rows] == [{"name": "scikit-learn", "ratio": 2.0 * f} for f in (1, 2, 4, 8)]
    assert [row["by_hand"]["ratio"] for row in rows] == [0.5, 1.0, 2.0, 4.0]
    assert rows[0]["step"] == "native, avx512"
    assert rows[0]["gflops"] == pytest.approx(roofline.flops(Shape((28, 64, 1))) * 1000 / 1e9)
    assert (rows[0]["limit"], rows[0]["of_limit"]) == ("sgemm", pytest.approx(rows[0]["gflops"]))
    assert "fullbatch, NumPy alone" not in rows[0]["over"]
    mean, alone = summary["geometric_means"]
    assert (mean["own"], mean["allocator"], mean["cases"]) == ("fullbatch", "default", 4)
    assert mean["as_used"] == {"ratio": pytest.approx(2 * math.sqrt(8)), "least": 2.0}
    assert mean["by_hand"] == {"ratio": pytest.approx(math.sqrt(8) / 2), "least": 0.5}
    assert alone["as_used"]["least"] == 0.5
    assert not peers.summary(points[:3], {"cpu": Limits(1e9, 1e9, 2e9)})["geometric_means"]


def test_logistic_regression_is_held_against_the_read_bandwidth() -> None:
    (row, _) = peers.summary([_step_point("28-1", 1)], {"cpu": Limits(1e12, 1e6, 2e6)})["rows"]
    assert (row["limit"], row["of_limit"]) == ("read", pytest.approx(1000 * 29 * 4 / 2e6))


# --- fullbatch's own ways -------------------------------------------------------------------------------------


def test_what_ran_is_seen_and_a_way_that_ran_otherwise_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem.make(Shape((4, 3, 1)), 200)
    with own.seen() as labels:
        peers.ours(p, "off")()
    assert list(labels) == ["inplace"]
    assert own.other_than("off", "inplace") is None
    assert own.other_than("off", "native, avx512") == "it ran the step 'native, avx512'"
    assert own.other_than("avx2", "native, avx2") is None
    assert own.other_than("avx2", "native, avx2, whole epochs") is None
    assert own.other_than("avx2", "native, avx512") == "it ran the step 'native, avx512'"
    assert own.other_than(None, "anything") is None
    monkeypatch.setattr(own, "missing", lambda value: None)
    monkeypatch.setattr(own, "other_than", lambda value, ran: "it ran another" if value == "off" else None)
    found = peers.prepared(p, ["fullbatch", "fullbatch, NumPy alone"])
    assert list(found.contenders) == ["fullbatch"]
    assert found.left_out == {"fullbatch, NumPy alone": "it ran another"}


def test_the_environment_variable_is_set_within_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in ("portable", None):
        monkeypatch.delenv("FULLBATCH_NATIVE", raising=False)
        if before:
            monkeypatch.setenv("FULLBATCH_NATIVE", before)
        with own.forced("off"):
            assert os.environ["FULLBATCH_NATIVE"] == "off"
        assert os.environ.get("FULLBATCH_NATIVE") == before
        with own.forced(None):
            assert os.environ.get("FULLBATCH_NATIVE") == before


@pytest.mark.parametrize(
    ("usual", "value", "words"),
    [
        (None, "avx2", "the native step is not compiled"),
        (None, "off", "the native step is not compiled; fullbatch is NumPy alone"),
        (None, None, None),
        ((0, "avx512"), "avx2", None),
        ((0, "avx512"), "off", None),
        ((1, "avx2"), "avx2", "it is what fullbatch runs here"),
        ((2, "neon"), "avx2", "this machine can use neon"),
    ],
)
def test_a_way_that_cannot_take_part_says_why(
    usual: Any, value: str | None, words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own.native_library, "isa", lambda: usual)
    monkeypatch.setattr(
        own.native_library, "isas", lambda: [(0, "avx512"), (1, "avx2")] if usual != (2, "neon") else [usual]
    )
    monkeypatch.setattr(own.native_library, "why_not", lambda: "not compiled")
    assert own.missing(value) == words


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
        return {"data": "d", "contender": contender, "seed": seed, "step": "", "losses": losses, "seconds": seconds}

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
@pytest.mark.skipif(not machine.describe().libc.startswith("glibc"), reason="glibc can be told to give memory back")
def test_peak_memory_is_seen_where_an_earlier_call_left_room() -> None:
    def take() -> None:
        blocks = [b"x" * 65_000 for _ in range(500)]  # small enough to come from the heap
        pins.append(blocks[-1])  # the heap cannot shrink below it

    pins: list[bytes] = []
    take()
    assert memory.peak_beyond(take) > 0.9 * 500 * 65_000


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


def _measured_by(module: Any, settings: Any, result: Result) -> Result:
    """The result, once the module's run has measured into it."""
    module.run(settings, Run(result, settings.budget, save=lambda: None, say=lambda line: None))
    return result


def _load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_scaling_writes_points_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main([*TINY, "--out", str(tmp_path / "new" / "folder")]) == 0
    files = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert files == ["scaling.json", "scaling.png"]
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


def test_a_shape_that_is_given_twice_is_measured_once(tmp_path: Path) -> None:
    assert main([*TINY, "--shape", "5-4-1", "--out", str(tmp_path)]) == 0
    assert [point["m"] for point in _load(tmp_path / "scaling.json")["points"]] == [1000, 3000]


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


def test_no_backend_that_works_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable(*arguments: Any) -> Any:
        raise DeviceError("no card")

    monkeypatch.setitem(backends.BACKENDS, "cupy", unusable)
    assert main(["scaling", "--quick", "--backend", "cupy", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "bench: no backend can be used: cupy: left out: no card\n"


def test_points_beyond_the_budget_are_left_out_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = scaling.Settings(
        shapes=("5-4-1",), backends=("numpy",), last=10**6, budget=1e-6, memory=False, quick=True, rules=Rules.quick()
    )
    result = Result("scaling", "", machine.describe(), {})
    _measured_by(scaling, settings, result)
    assert result.points == []
    assert len(result.left_out) == len(settings.counts())
    assert "beyond the budget" in result.left_out[0]


def test_what_the_machines_limits_do_not_allow_within_the_budget_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "cpu_limits", lambda *a, **o: Limits(1e8, 1e9, 1e9))
    rules = Rules.quick()
    settings = scaling.Settings(("50-400-1",), ("numpy",), last=10**5, budget=60, memory=False, quick=True, rules=rules)
    result = _result()
    _measured_by(scaling, settings, result)
    seconds = (scaling.CALLS + rules.least) * 10**5 * roofline.flops(Shape((50, 400, 1))) / 1e8
    words = f"it would take about {seconds:,.0f} s, more than is left of the budget of 60 s"
    assert result.left_out == [f"50-400-1 at m = 100,000: left out: {words}"]  # it is the first in turn
    assert [point["m"] for point in result.points] == [1_000, 10_000, 3_000, 30_000]


def test_the_most_telling_points_come_first_and_the_first_and_the_last_are_telling() -> None:
    counts = scaling.Settings(last=2 * 10**6).counts()
    assert scaling.in_order(counts) == [10**5, 10**6, 2 * 10**6, 10**3, 10**4, 3 * 10**3, 3 * 10**4, 3 * 10**5]
    assert scaling.in_order([2000, 3000, 10_000, 20_000]) == [2000, 10_000, 20_000, 3000]


def test_what_a_point_takes_grows_with_m_from_what_was_measured() -> None:
    rules = Rules(least=3, untimed=2)
    cost = scaling.Cost(m=10**5, fixed=5.0, call=1e-7, make=1e-8)
    assert cost.of(10**6, rules) == pytest.approx(5 + 0.01 + 0.1 * (scaling.CALLS + 3 * 3))
    # A long call's untimed ones are of a few rows.
    assert cost.of(10**7, rules) == pytest.approx(5 + 0.1 + 1.0 * (scaling.CALLS + 3))


def test_a_small_point_does_not_unlearn_what_a_large_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    costs: list[dict[str, scaling.Cost]] = []
    point = scaling._point

    def noted(this: Any, *arguments: Any, **options: Any) -> None:
        point(this, *arguments, **options)
        costs.append(dict(this.costs))

    monkeypatch.setattr(scaling, "_point", noted)
    settings = scaling.Settings(
        ("3-2-1",), ("numpy",), 1000, 10**5, budget=60, memory=False, rules=Rules.quick(), quick=True
    )
    _measured_by(scaling, settings, _result())
    assert len(costs) == 5
    assert {known["3-2-1"].m for known in costs} == {10**5}  # it came first


def test_the_untimed_call_before_a_long_one_is_of_the_first_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.BACKENDS["numpy"]("float32", 1)
    data = problem.make(Shape((3, 2, 1)), scaling.HEAD + 1)
    monkeypatch.setattr(backend, "clock", lambda call: scaling.LONG / 2)
    assert scaling._contender(backend, data, print).warm is None
    monkeypatch.setattr(backend, "clock", lambda call: 2 * scaling.LONG)
    warm = scaling._contender(backend, data, print).warm
    assert warm is not None
    assert warm()[0] == pytest.approx(
        fb.cost(data.network, data.params, data.X[:, : scaling.HEAD], data.Y[:, : scaling.HEAD])
    )
    assert scaling._contender(backend, data.head(scaling.HEAD), print).warm is None


def test_a_point_without_a_round_is_left_out_and_one_with_too_few_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(contenders: Any, rules: Rules, **options: Any) -> timing.Rounds:
        if len(seen) == 1:
            return timing.Rounds({name: [] for name in contenders}, cut=True)
        seen.append(options["left"])
        return dataclasses.replace(take_turns(contenders, rules, **options), cut=True)

    seen: list[float] = []
    monkeypatch.setattr(scaling, "take_turns", late)
    assert main([*TINY, "--out", str(tmp_path), "--budget", "60"]) == 0
    result = _load(tmp_path / "scaling.json")
    assert [point["m"] for point in result["points"]] == [1000]
    assert result["left_out"] == ["5-4-1 at m = 3,000: left out: the budget of 60 s was used up before its first round"]
    assert 0 < seen[0] < 60
    captured = capsys.readouterr()
    assert "% of the roofline, cut short by the budget" in captured.err
    assert "Rounds: 2 kept, 0 dropped. 1 of 1 points have fewer than they should" in captured.out


def test_points_beyond_memory_are_left_out_and_an_explicit_range_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 1_000_000
    for module in (scaling, backends):
        monkeypatch.setattr(module, "free_memory", lambda: int(room / backends.SHARE))
    arguments = ["scaling", "--quick", "--no-memory", "--backend", "numpy", "--shape", "99-4-1", "--out", str(tmp_path)]
    assert main([*arguments, "--to", "1e4"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "10,000 examples of 99-4-1 take 4,016,200 bytes" in error
    assert not (tmp_path / "scaling.json").exists()
    result = Result("scaling", "", machine.describe(), {})
    settings = scaling.Settings(
        shapes=("99-4-1",), backends=("numpy",), memory=False, quick=True, rules=Rules.quick(), budget=60
    )
    _measured_by(scaling, settings, result)
    assert [point["m"] for point in result.points] == [1000]
    assert any("1,216,200 bytes are needed, 1,000,000 can be used" in line for line in result.left_out)


def test_an_explicit_range_beyond_the_memory_of_a_gpu_is_an_error_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(backends.OnCPU):
        device = "cuda:0"

        def room(self) -> int:
            return 50_000

    monkeypatch.setitem(backends.BACKENDS, "cupy", functools.partial(Small, "cupy", "off"))
    monkeypatch.setattr(scaling, "_measure", _interrupt)
    arguments = [*TINY, "--backend", "cupy", "--out", str(tmp_path)]
    assert main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "3,000 examples of 5-4-1 take 73,160 bytes and 50,000 can be used on cuda:0" in error
    arguments[arguments.index("--to") + 1] = "1e3"
    assert main(arguments) == 130


def test_a_backend_that_runs_another_step_than_its_name_says_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "label", lambda step: "native, avx512")
    assert main([*TINY, "--out", str(tmp_path)]) == 2
    assert "numpy: it ran the step 'native, avx512'" in capsys.readouterr().err


def test_a_point_that_runs_out_of_memory_is_left_out_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = problem.make

    def scarce(shape: Shape, m: int, dtype: str) -> Any:
        if m == 1000:
            raise MemoryError("12 bytes")
        return make(shape, m, dtype)

    monkeypatch.setattr(problem, "make", scarce)
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    result = _load(tmp_path / "scaling.json")
    assert [point["m"] for point in result["points"]] == [3000]
    assert result["left_out"] == ["5-4-1 at m = 1,000: left out: out of memory (12 bytes)"]


def _interrupt(*arguments: Any, **options: Any) -> Any:
    raise KeyboardInterrupt


def _end(*arguments: Any, **options: Any) -> Any:
    os.kill(os.getpid(), signal.SIGTERM)  # docker stop
    time.sleep(60)


@pytest.mark.parametrize("ended", [_interrupt, _end])
def test_ctrl_c_keeps_the_points_so_far_and_resume_goes_on(
    ended: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = iter([True])
    arguments = [*TINY, "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(scaling, "take_turns", lambda *a, **o: (take_turns if next(once, False) else ended)(*a, **o))
        assert main(arguments) == 130
    before = _load(tmp_path / "scaling.json")
    assert [point["m"] for point in before["points"]] == [1000]
    assert not before["finished"]
    error = capsys.readouterr().err
    assert "1 points kept: " in error
    assert error.endswith("bench: interrupted.\n")
    assert main([*arguments, "--resume", "--budget", "60"]) == 0
    after = _load(tmp_path / "scaling.json")
    assert [point["m"] for point in after["points"]] == [1000, 3000]
    assert after["points"][0]["seconds"] == before["points"][0]["seconds"]
    assert after["finished"]
    assert len(after["resumed"]) == 1
    assert after["machine"]["date"] == before["machine"]["date"]
    assert all(
        after["summary"]["limits"]["cpu"][name] >= value for name, value in before["summary"]["limits"]["cpu"].items()
    )


def test_ctrl_c_before_the_measuring_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "describe", _interrupt)
    assert main([*TINY, "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "bench: interrupted.\n"


def test_ctrl_c_before_the_first_point_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "take_turns", _interrupt)
    assert main([*TINY, "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("nothing was measured yet\nbench: interrupted.\n")
    assert not list(tmp_path.iterdir())


def _result(kind: str = "scaling", points: Any = (), **summary: Any) -> Result:
    return Result(kind, "python -m bench", machine.describe(), {"budget": 1.0}, points=list(points), summary=summary)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "training"}, "its kind is 'training' and now it is 'scaling'"),
        ({"settings": {"budget": 1.0, "dtype": "float64"}}, "its dtype is 'float64' and now it is 'float32'"),
        ({"revision": "abc"}, "its revision is 'abc' and now it is"),
        ({"cpu": "another"}, "its cpu is 'another' and now it is"),
    ],
)
def test_another_run_is_not_gone_on_with(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    old = _result()
    old.settings["dtype"] = "float32"
    raw = {name: change.pop(name) for name in ("kind", "settings") if name in change}
    old = dataclasses.replace(old, **raw, machine=dataclasses.replace(old.machine, **change))
    old.save(tmp_path / "x.json")
    new = _result()
    new.settings.update(dtype="float32", budget=2.0)
    with pytest.raises(InputError, match=re.escape(words)):
        new.go_on(tmp_path / "x.json")


def test_a_point_without_a_quiet_round_is_measured_again(tmp_path: Path) -> None:
    old = _full_results()["scaling"]
    assert old.points[-1]["seconds"] is None
    old.save(tmp_path / "x.json")
    new = _result()
    new.go_on(tmp_path / "x.json")
    assert new.has(m=10**5, backend="numpy")
    assert not new.has(m=3 * 10**6)
    assert len(new.points) == len(old.points) - 1


def test_a_disk_that_is_full_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *arguments: Any, **options: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert main([*TINY, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"bench: cannot write {tmp_path}/scaling.json: No space")


def test_without_matplotlib_there_is_a_line_and_no_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["scaling.json"]
    assert "no plot: matplotlib is not installed (pip install 'fullbatch[bench]')" in capsys.readouterr().err
    for command in ("plot", "readme"):
        assert main([command, "--results", str(tmp_path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_no_arguments_is_the_help_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "scaling" in captured.out
    assert captured.err == ""


# --- Parts in processes of their own --------------------------------------------------------------------------


def _child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Any:
    """A function with this code, of a module that a child can import."""
    body = textwrap.indent(textwrap.dedent(code), "    ")
    name = f"a_child_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(f"import os, pathlib, signal, sys, time\n\ndef work(x):\n{body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name).work


def test_a_child_answers_and_what_it_prints_besides_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
        print("noise")
        os.system("echo more noise")
        return {"x": x + 1, "variable": os.environ.get("THIS"), "gone": os.environ.get("THAT")}
    """
    monkeypatch.setenv("THAT", "1")
    answer = children.call(_child(tmp_path, monkeypatch, code), 1, env={"THIS": "here", "THAT": None})
    assert answer == {"x": 2, "variable": "here", "gone": None}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("sys.exit(3)", "its process ended with status 3"),
        ("raise ValueError", "its process ended with status 1"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL (was it out of memory?)"),
    ],
)
def test_a_child_that_fails_says_how(code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(children.ChildError, match=re.escape(words)):
        children.call(_child(tmp_path, monkeypatch, code), {})


def test_a_child_ends_with_whoever_wanted_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "pid"
    work = _child(tmp_path, monkeypatch, f"pathlib.Path({str(told)!r}).write_text(str(os.getpid())); time.sleep(1e6)")

    def ctrl_c(*arguments: Any) -> None:
        if told.exists() and told.read_text():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ctrl_c)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            children.call(work, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
    # And where its parent is killed, which can close nothing, the end of stdin tells it.
    with children.process(["bench.children"], {}, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.write(json.dumps([work.__module__, "work", [0]]) + "\n")
        child.stdin.close()
        assert child.wait(60) == 1


def test_a_case_whose_process_dies_is_left_out_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = peers._measured

    def one_dies(work: peers.Work, *arguments: Any) -> Any:
        if work.allocator == "default":
            raise children.ChildError("its process ended with SIGKILL (was it out of memory?)")
        return measured(work, *arguments)

    monkeypatch.setattr(peers, "_measured", one_dies)
    arguments = ["peers", "--quick", "--part", "step", "--peer", "NumPy, whole arrays", "--out", str(tmp_path)]
    assert main(arguments) == 0
    result = _load(tmp_path / "peers.json")
    assert [point["allocator"] for point in result["points"]] == ["keeping"]
    assert result["left_out"][0] == (
        "28-64-1 at m = 5,000, default allocator: left out: its process ended with SIGKILL (was it out of memory?)"
    )


@pytest.mark.parametrize(
    ("module", "name", "value", "words"),
    [
        (peers.platform, "libc_ver", lambda: ("musl", "1"), "only glibc can be told to keep memory"),
        (peers, "free_memory", lambda: 1000, "bytes are needed, 1,000 are free"),
        (time, "perf_counter", itertools.count(0, 50).__next__, "beyond the budget of 60 s"),
    ],
)
def test_cases_that_cannot_be_measured_are_left_out_with_a_line(
    module: Any, name: str, value: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = peers.Settings(cases=("28-64-1",), batches=(200,), scale=0.01, rules=Rules.quick(), budget=60)
    done: list[peers.Work] = []

    def measured(work: peers.Work, *arguments: Any) -> Any:
        done.append(work)
        return {**_step_point("28-64-1", 1, work.allocator), "left_out": {}, "rounds": ROUNDS, "least_seconds": 1.0}

    monkeypatch.setattr(peers, "_measured", measured)
    monkeypatch.setattr(peers.roofline, "cpu_limits", lambda quick: Limits(1.0, 1.0, 1.0))
    monkeypatch.setattr(module, name, value)
    result = Result("peers", "", machine.describe(), {})
    _measured_by(peers, settings, result)
    assert result.left_out
    assert all(words in line for line in result.left_out)
    assert len(result.left_out) + len(done) == 4


def test_a_case_that_takes_longer_than_is_left_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = peers.Settings(cases=("28-64-1", "28-1"), batches=(), scale=0.01, rules=Rules.quick(), budget=60)
    point = {**_step_point("28-64-1", 1), "left_out": {}, "rounds": ROUNDS, "least_seconds": 1e6}
    monkeypatch.setattr(peers, "_measured", lambda work, *arguments: {**point, "case": work.name})
    result = Result("peers", "", machine.describe(), {})
    _measured_by(peers, settings, result)
    where, words = "keeping allocator: left out", "it takes about 1,000,000 s, more than is left of the budget of 60 s"
    assert result.left_out == [f"28-64-1 at m = 5,000, {where}: {words}", f"28-1 at m = 40,000, {where}: {words}"]


def test_a_case_without_a_round_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = peers.Settings(cases=("28-64-1",), batches=(), allocators=("default",), scale=0.01, rules=Rules.quick())
    rounds = {"kept": 0, "dropped": 0, "cut": True}
    point = {**_step_point("28-64-1", 1), "left_out": {"JAX jit": "late"}, "rounds": rounds, "least_seconds": 1.0}
    monkeypatch.setattr(peers, "_measured", lambda *arguments: point)
    result = Result("peers", "", machine.describe(), {})
    _measured_by(peers, settings, result)
    assert not result.points
    where = "28-64-1 at m = 5,000, default allocator"
    assert result.left_out == [
        f"{where}: JAX jit: left out: late",
        f"{where}: left out: the budget of 480 s was used up before its first round",
    ]


def test_once_the_time_is_up_no_peer_is_tried_and_no_round_begun() -> None:
    for found in (
        peers.case("28-64-1", 300, list(peers.PEERS), Rules.quick(), contest.Span.from_now(0.0, -1.0)),
        minibatch.case(400, 200, list(minibatch.CONTENDERS), Rules.quick(), contest.Span.from_now(0.0, -1.0)),
    ):
        assert not found["times"]
        assert "the time was up before it was tried" in found["left_out"].values()
        assert timing.not_begun(found["rounds"])


def test_a_case_runs_with_its_allocator_and_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def call(work: Any, *asked: Any, env: dict[str, Any]) -> Any:
        seen.append((asked, env))
        return {"case": asked[0]}

    monkeypatch.setattr(children, "call", call)
    for work in peers.work_of(peers.Settings(cases=("28-1",), batches=())):
        assert peers._measured(work, peers.Settings(), 1.0, 2.0) == {"case": "28-1", "allocator": work.allocator}
    assert [env["GLIBC_TUNABLES"] for _, env in seen] == [None, peers.ALLOCATORS["keeping"]]
    assert {env["JAX_PLATFORMS"] for _, env in seen} == {"cpu"}
    assert {(asked[1], *asked[-2:]) for asked, _ in seen} == {(4_000_000, 1.0, 2.0)}


def test_the_limits_are_measured_again_at_the_end_and_the_highest_count(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([Limits(1e9, 2e12, 3e12), Limits(2e9, 1e12, 4e12)])
    point = {**_step_point("28-64-1", 1), "left_out": {}, "rounds": ROUNDS, "least_seconds": 1.0}
    monkeypatch.setattr(peers, "_measured", lambda *arguments: point)
    monkeypatch.setattr(peers.roofline, "cpu_limits", lambda quick: next(seen))
    result = Result("peers", "", machine.describe(), {})
    settings = peers.Settings(cases=("28-64-1",), batches=(), allocators=("default",), scale=0.01)
    _measured_by(peers, settings, result)
    assert result.summary["limits"] == {"cpu": {"product": 2e9, "copy": 2e12, "read": 4e12}}
    assert result.summary["rows"][0]["of_limit"] == pytest.approx(result.summary["rows"][0]["gflops"] / 2)


def test_all_cases_come_under_one_allocator_before_the_other() -> None:
    work = peers.work_of(peers.Settings(cases=("28-64-1", "28-1"), batches=(200,)))
    names = ["28-64-1", "28-1", "784-100-10, batches of 200"]
    assert [(w.name, w.allocator) for w in work] == [(name, a) for a in ("default", "keeping") for name in names]
    assert [w.m for w in work[:3]] == [500_000, 4_000_000, 60_000]


def test_quick_leaves_cases_that_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[peers.Settings] = []

    def stop(settings: peers.Settings, here: Run) -> None:
        seen.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(peers, "run", stop)
    for arguments in ([], ["--case", "28-64-1", "--case", "28-1"], ["--peer", "JAX, one scan"]):
        assert main(["peers", "--quick", "--out", str(tmp_path), *arguments]) == 130
    assert [s.cases for s in seen] == [("28-64-1",), ("28-64-1", "28-1"), ()]
    assert [s.batches for s in seen] == [(200,), (200,), (200,)]


def test_peers_run_in_a_process_with_the_allocator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["peers", "--quick", "--part", "step", "--peer", "NumPy, whole arrays", "--out", str(tmp_path)]
    assert main(arguments) == 0
    result = _load(tmp_path / "peers.json")
    assert [point["allocator"] for point in result["points"]] == ["default", "keeping"]
    for point in result["points"]:
        assert set(point["times"]) == {"fullbatch", "NumPy, whole arrays"}
        assert max(point["errors"].values()) < 1e-5
        assert point["steps"]["fullbatch"]
        assert point["threads"] >= 1
    assert {row["as_used"]["name"] for row in result["summary"]["rows"]} == {"NumPy, whole arrays"}
    assert result["summary"]["limits"]["cpu"]["product"] > 0
    assert "over the fastest as people use it" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")  # other projects' code
def test_training_follows_scikit_learn_and_finds_the_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["training", "--seeds", "1", "--quiet", "0", "--out", str(tmp_path)]
    assert main([*arguments, *(word for name in ("fullbatch", "PyTorch") for word in ("--contender", name))]) == 0
    result = _load(tmp_path / "training.json")
    points = {p["contender"]: p for p in result["points"]}
    assert {"scikit-learn", "fullbatch"} <= set(points) <= {"scikit-learn", "fullbatch", "PyTorch"}
    theirs = points["scikit-learn"]["losses"]
    for name in set(points) - {"scikit-learn"}:
        # From the same weights, in the same order, in the same batches: the losses agree epoch by epoch.
        np.testing.assert_allclose(points[name]["losses"][: len(theirs)], theirs, rtol=1e-2, err_msg=name)
        assert len(points[name]["losses"]) > len(theirs)
        seconds = points[name]["seconds"]
        assert all(a < b for a, b in itertools.pairwise(seconds))
    assert points["fullbatch"]["step"]
    assert {row["contender"] for row in result["summary"]["times"]} == set(points)
    assert "held-out log-loss" in capsys.readouterr().out


class _Trainer:
    """A contender of ``training``: what it gives by seed, and the calls that it got."""

    def __init__(self, losses: float | Exception = 1.0, native: str | None = None) -> None:
        self.losses, self.calls = losses, []
        self.contender = training.Contender(self, "numpy", native)

    def __call__(self, data: datasets.Encoded, seed: int, epochs: int) -> training.Trace:
        self.calls: list[tuple[str, int, int, int]]
        self.calls.append((data.name, seed, data.X.m, epochs))
        if isinstance(self.losses, Exception):
            raise self.losses
        weights = tuple(Layer(W * self.losses, b) for W, b in Shape(data.sizes).network.init(seed, dtype="float32"))
        return training.Trace([0.5 * (i + 1) for i in range(epochs)], [weights] * epochs, "inplace")


def _trained(monkeypatch: pytest.MonkeyPatch, budget: float = 60, gauge: Any = None, **trainers: _Trainer) -> Result:
    names = {"sklearn": training.SKLEARN, "ours": training.OURS, "other": "PyTorch"}
    everyone = {names[key]: trainer.contender for key, trainer in trainers.items()}
    monkeypatch.setattr(training, "CONTENDERS", everyone)
    monkeypatch.setattr(training, "two_threads", lambda: gauge)
    result = Result("training", "", machine.describe(), {})
    rules = dataclasses.replace(training.RULES, pause=0.0)
    settings = training.Settings(("digits",), None, tuple(everyone), 2, budget, rules)
    _measured_by(training, settings, result)
    return result


def test_a_training_comes_after_a_short_one_and_seeds_are_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    trainers = {"sklearn": _Trainer(), "ours": _Trainer()}
    result = _trained(monkeypatch, **trainers)
    rows, few = 1438, 4 * datasets.DATASETS["digits"].batch
    assert [call[1:] for call in trainers["sklearn"].calls] == [(0, few, 1), (0, rows, 20), (1, few, 1), (1, rows, 20)]
    assert [call[3] for call in trainers["ours"].calls] == [1, 27, 1, 27]
    order = [(p["seed"], p["contender"]) for p in result.points]
    assert order == [(0, "scikit-learn"), (0, "fullbatch"), (1, "fullbatch"), (1, "scikit-learn")]


@pytest.mark.parametrize(
    ("losses", "native", "words"),
    [
        (math.nan, None, "its held-out loss becomes nan"),
        (ValueError("a\nb"), None, "ValueError: a b"),
        (1.0, "avx2", "it ran the step 'inplace'"),
    ],
)
def test_a_training_that_is_not_what_it_should_be_is_left_out(
    losses: Any, native: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "missing", lambda value: None)
    other = _Trainer(losses, native)
    result = _trained(monkeypatch, sklearn=_Trainer(), other=other)
    assert result.left_out == [f"digits: PyTorch: left out: {words}"]
    assert [p["contender"] for p in result.points] == ["scikit-learn"] * 2
    assert {call[1] for call in other.calls} == {0}  # and it is not tried again


def test_seeds_beyond_the_budget_are_left_out_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    result = _trained(monkeypatch, budget=1e-9, sklearn=_Trainer())
    assert result.left_out == ["digits: left out: the budget of 1e-09 s was used up before it was read"]
    assert not result.points
    now, trainer = [0.0], _Trainer()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def ten_seconds(*arguments: Any) -> training.Trace:
        now[0] += 10 * (arguments[2] > 1)
        return trainer(*arguments)

    trainer.contender = training.Contender(ten_seconds, "numpy")
    result = _trained(monkeypatch, budget=15, sklearn=trainer, ours=_Trainer())
    # The first says how long it takes, and nobody is begun who would end too late.
    assert [(p["contender"], p["seed"]) for p in result.points] == [
        ("scikit-learn", 0), ("fullbatch", 0), ("fullbatch", 1)
    ]  # fmt: skip
    late = "it takes about 10 s, more than is left of the budget of 15 s"
    assert result.left_out == [f"digits, seed 1: scikit-learn: left out: {late}"]


def test_a_training_around_which_it_was_not_quiet_is_dropped_counted_and_done_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ratios = [2.0, 1.5, 2.0, 2.0, 1.5, 2.0, 2.0, 1.0]  # before and after: of seed 0 the second is quiet, of seed 1 none
    gauges = iter([Gauge(ratio, 1.0) for ratio in ratios])
    trainer = _Trainer()
    result = _trained(monkeypatch, gauge=lambda: next(gauges), sklearn=trainer)
    assert [call[1] for call in trainer.calls if call[3] > 1] == [0, 0, 1, 1]
    quiet, spoilt = result.points
    assert quiet["rounds"] == {"kept": 1, "dropped": 1, "cut": False, "two_threads_over_one": ratios[:4]}
    assert spoilt["rounds"]["disturbed"] == 1
    assert result.left_out == []
    assert render.rounds(result.typed().points) == (
        "Rounds: 1 kept, 3 dropped. "
        "1 of 2 points are disturbed: no round was quiet, and the least disturbed ones count."
    )


def test_the_head_of_a_data_set_has_all_its_classes() -> None:
    table = EncodedTable(np.arange(10, dtype=np.float32)[:, None], np.zeros((10, 0), np.uint8), 1)
    y = np.array([0, 0, 0, 0, 1, 0, 0, 2, 0, 0])
    data = datasets.Encoded("d", datasets.DATASETS["digits"], 3, table, y, table, y, table.numbers, table.numbers)
    head = data.head(2)
    assert head.y.tolist() == [0, 0, 1, 2]
    assert head.X.numbers[:, 0].tolist() == head.matrix[:, 0].tolist() == head.dense[:, 0].tolist() == [0, 1, 4, 7]
    assert data.head(100).X.m == 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["scaling", "--backend", "jax"],
            "unknown backend 'jax'; the known ones are native; native-avx2; numpy; cupy.",
        ),
        (["scaling", "--backend", "native,numpy"], "unknown backend 'native,numpy'"),
        (["scaling", "--shape", "wide"], "the known ones are 28-64-1"),
        (["scaling", "--dtype", "float16"], "the known ones are float32; float64"),
        (["scaling", "--to", "lots"], "'lots' is no count of examples"),
        (["scaling", "--from", "1e6", "--to", "1e3"], "from 1,000,000 to 1,000"),
        (["scaling", "--from", "1e8"], "from 100,000,000 to 10,000,000"),
        (["scaling", "--from", "0"], "'0' is no count of examples"),
        (["scaling", "--to", "1e400"], "'1e400' is no count of examples"),
        (["scaling", "--to", "nan"], "'nan' is no count of examples"),
        (["scaling", "--to", ""], "'' is no count of examples"),
        (["scaling", "--budget", "-1"], "larger than 0"),
        (["scaling", "--budget", "0"], "larger than 0"),
        (["scaling", "--budget", "nan"], "larger than 0"),
        (["scaling", "--budget", "inf"], "larger than 0"),
        (["scaling", "--budget", "long"], "'--budget'"),
        (["scaling", "--quiet", "inf"], "'--quiet'"),
        (["scaling", "--quiet", "nan"], "'--quiet'"),
        (["scaling", "--rounds", "0"], "'--rounds'"),
        (["scaling", "--out", ""], "'--out': the name is empty"),
        (["scaling", "--name", ""], "'' is no name for the files"),
        (["scaling", "--name", "../x"], "'../x' is no name for the files"),
        (["scaling", "--name", "/x"], "'/x' is no name for the files"),
        (["scaling", "--name", "x" * 300], "is no name for the files"),
        (["scaling", "--name", "漢" * 34], "at most 100 bytes"),
        (["scaling", "--resume"], "there is no bench-results/scaling.json to go on with"),
        (["scaling", "--threads", "1000000"], "1000000 threads are more than the"),
        (["scaling", "--to", "1e12"], "1,000,000,000,000 examples of 28-64-1 take 116,000,000,"),
        (["scaling", "--shape", "1000000-1000000-1", "--to", "1e3"], "examples of 1000000-1000000-1 take 40,0"),
        (["scaling", "--threads", "0"], "threads"),
        (["scaling", "--no-such-option"], "--no-such-option"),
        (["peers", "--peer", "keras"], "unknown peer 'keras'; the known ones are fullbatch; "),
        (["peers", "--batch", "1"], "'--batch'"),
        (["peers", "--batch", "60001"], "a batch of 60,001 is more than the 60,000 examples of an epoch"),
        (["peers", "--part", "all"], "unknown part 'all'; the known ones are step; epoch; both."),
        (
            ["peers", "--part", "step", "--peer", "JAX, one scan"],
            "none of the chosen peers takes part in the step; these do: fullb",
        ),
        (
            ["peers", "--part", "epoch", "--peer", "JAX jit"],
            "none of the chosen peers takes part in the epoch; these do: fullb",
        ),
        (["peers", "--case", "1-2-3"], "unknown case '1-2-3'; the known ones are 28-64-1"),
        (["peers", "--part", "epoch", "--case", "1-2-3"], "unknown case '1-2-3'; the known ones are 28-64-1"),
        (["peers", "--allocator", "fast"], "the known ones are default; keeping"),
        (["training", "--dataset", "iris"], "the known ones are nyc-late; mnist; flights-late; digits"),
        (["training", "--dataset", "mnist"], "give the folder that has mnist-train.parquet with --data"),
        (["training", "--data", "/nowhere"], "no such file: /nowhere/nyc-late-train.csv.gz"),
        (["training", "--data", ""], "'--data': the name is empty"),
        (["training", "--seeds", "0"], "'--seeds'"),
        (["training", "--contender", "keras"], "unknown contender 'keras'"),
        (["readme", "--results", "/nowhere", "--check"], "no results"),
        (["plot", "--results", "new"], "no results"),
        (["show", "--results", "new"], "no results"),
        (["scaling", "extra"], "extra"),
        (["scaling", "--out"], "'--out' requires an argument"),
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
    assert not (tmp_path / "new").exists()


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
        ("<!-- bench:speed --><!-- /bench:speed -->", "unknown mark bench:speed; the known ones are front"),
        ("<!-- bench:peers -->", "has no end"),
        ("<!-- /bench:peers --> <!-- bench:peers --> the rest", "has no end of its own after it"),
        (
            "<!-- bench:peers --><!-- bench:epochs --><!-- /bench:peers --><!-- /bench:epochs -->",
            "has no end of its own",
        ),
        ("<!-- bench:peers --><!-- /bench:peers -->" * 2, "more than once; leave one"),
    ],
)
def test_readme_with_wrong_marks(text: str, words: str, tmp_path: Path) -> None:
    Result("peers", "", machine.describe(), {}).save(tmp_path / "peers.json")
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(InputError, match=words):
        readme.update(tmp_path / "README.md", tmp_path, check=False)
    assert (tmp_path / "README.md").read_text() == text


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "1", '{"kind": "scaling"}', '{"kind": ["scaling"], "schema": 2}', "[" * 100_000, '{"kind": NaN}'],
)
def test_a_foreign_file_among_the_results(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match="is not a result of this harness"):
        Result.load(tmp_path / "x.json")


@pytest.mark.parametrize(("kind", "point"), [("scaling", {"m": 1}), ("peers", {}), ("training", {"seed": 0})])
def test_a_result_whose_points_lack_something(kind: str, point: dict[str, Any], tmp_path: Path) -> None:
    _result(kind, [point]).save(tmp_path / "x.json")
    with pytest.raises(
        InputError, match=r"is not a result of this harness \(points\[0\]: Object missing required field "
    ):
        Result.load(tmp_path / "x.json")


def test_a_result_of_an_older_form_says_what_to_do(tmp_path: Path) -> None:
    raw = dataclasses.asdict(dataclasses.replace(_result(), schema=1))
    del raw["machine"]["threads"]
    (tmp_path / "x.json").write_text(json.dumps(raw))
    with pytest.raises(InputError, match=r"schema 1; known: .* measure again, or move it elsewhere"):
        Result.load(tmp_path / "x.json")


def _full_results() -> dict[str, Result]:
    """A result of each kind with all that the tables and pictures can show, and with what may be missing."""
    rounds = {"kept": 3, "dropped": 1, "cut": False}
    limits = Limits(2e11, 2e10, 3e10)
    speed = {"native": 1e-8, "native-avx2": 1.4e-8, "numpy": 4e-8, "cupy": 1e-9}
    scale = []
    for shape, backend, m in itertools.product(("28-64-1", "28-1"), speed, (10**5, 10**6)):
        on_gpu = backend == "cupy"
        point = {
            **_point(backend, m, m * speed[backend] + 2e-3 * on_gpu, None if on_gpu else 0), "shape": shape,
            "dtype": "float32", "device": "cuda:0" if on_gpu else "cpu", "step": "native, avx512", "threads": 2,
            "rounds": rounds, "data_bytes": 116 * m,
        }  # fmt: skip
        scale.append(scaling.derive(point, limits))
    scale.append(scaling.derive({**scale[0], "m": 3 * 10**6, "seconds": None}, limits))
    common = {"errors": {}, "rounds": rounds, "left_out": {"JAX jit": "jax is not installed"}, "threads": 2}
    steps = [
        {**_step_point(case, factor, allocator), **common}
        for case, factor in zip(peers.CASES, (1, 2, 4, 8, 1, 2), strict=True)
        for allocator in peers.ALLOCATORS
    ]
    for point in steps:
        point["times"] = {name: t and timing.timing([t["median"]]) for name, t in point["times"].items()}
    epochs = [{**p, "part": "epoch", "case": "784-100-10, batches of 200", "shape": "784-100-10"} for p in steps[:2]]
    trained = [
        {"data": data, "contender": who, "seed": seed, "step": "", "losses": [0.9, 0.7], "seconds": [1.0, 2.0 + seed]}
        for data in ("nyc-late", "mnist") for who in training.CONTENDERS for seed in range(2)
    ]  # fmt: skip
    results = {
        "scaling": _result(
            "scaling", scale, growth=scaling.growth(scale), crossover=scaling.crossover(scale),
            limits=roofline.to_json({"cpu": limits, "cuda:0": limits}),
        ),
        "peers": _result("peers", steps + epochs, **peers.summary(steps + epochs, {"cpu": limits})),
        "training": _result("training", trained, **training.summary(trained)),
    }  # fmt: skip
    return results


@pytest.mark.parametrize("width", [20, 40, 80, 300, None])
@pytest.mark.parametrize("kind", ["scaling", "peers", "training"])
def test_no_number_is_cut_however_narrow_the_terminal(kind: str, width: int | None) -> None:
    result = _full_results()[kind]
    out = io.StringIO()
    render.show(result, Console(file=out, width=width, force_terminal=width is not None, color_system=None))
    assert "…" not in out.getvalue()
    said = " ".join(out.getvalue().split())
    wanted = {"scaling": "28-64-1", "peers": "4.00", "training": "2 of 2"}[kind]
    assert wanted in said
    lines = out.getvalue().splitlines()
    assert all(len(line) <= (width or render.WIDTH) for line in lines[1:])


def test_the_readme_has_all_sections_of_full_results(tmp_path: Path) -> None:
    for kind, result in _full_results().items():
        result.save(tmp_path / f"{kind}-cpu.v1.json")
    names = ("scaling", "peers", "epochs", "training")
    file = tmp_path / "README.md"
    file.write_text("".join(f"<!-- bench:{name} --><!-- /bench:{name} -->\n" for name in names))
    pytest.importorskip("matplotlib")
    assert main(["readme", "--results", str(tmp_path), "--readme", str(file)]) == 0
    text = file.read_text()
    for words in (
        "| 28-64-1 | native | 1,000,000 | 10 | 100 |",
        "| 28-1 | cupy | 1,000,000 |",
        "28-64-1: the GPU overtakes the CPU (native) at m = ",
        "What ran: native: the native, avx512 step on 2 threads; ",
        "cupy: the native, avx512 step on cuda:0",
        "| **fullbatch** | 1,000 / 1,000 |",
        "| PyTorch eager | - / - |",
        "| 28-64-1 | fullbatch | native, avx512 | 0 % of sgemm / 0 % of sgemm | 2.00 (scikit-learn) / 2.00 (scikit-l",
        "| 28-1 | fullbatch, NumPy alone | inplace | 0 % of read / 0 % of read |",
        "Geometric mean of the first 4 (and the least); default / keeping allocator:",
        "| fullbatch | 5.66 (2.00) / 5.66 (2.00) |",
        "| 784-100-10, batches of 200 | fullbatch | native, avx512 |",
        "over scikit-learn |",
        "Left out: JAX jit: jax is not installed.",
        "matrix product 200 GFLOP/s, copy 20 GB/s, read 30 GB/s",
        "| nyc-late | 0.7070 | scikit-learn |",
        "worst seed, and 1 % above it.",
        "](peers-cpu.v1.png)",
    ):
        assert words in text, words
    assert {path.name for path in tmp_path.iterdir()} == {"README.md"} | {
        f"{kind}-cpu.v1.{ending}" for kind in ("scaling", "peers", "training") for ending in ("json", "png")
    }


def test_the_readme_goes_by_m_in_whatever_order_it_was_measured(tmp_path: Path) -> None:
    result = _full_results()["scaling"]
    file = tmp_path / "README.md"
    tables = set()
    for points in (result.points, result.points[::-1]):
        result.points = points
        result.save(tmp_path / "scaling.json")
        file.write_text("<!-- bench:scaling --><!-- /bench:scaling -->")
        readme.update(file, tmp_path, check=False)
        rows = [line for line in file.read_text().splitlines() if line.startswith("| 28-64-1 | native |")]
        tables.add(tuple(rows))
    assert len(tables) == 1
    assert len(tables.pop()) > 1


def test_where_dropped_rounds_leave_no_median_it_is_said(tmp_path: Path) -> None:
    result = _full_results()["peers"]
    for point, kept, dropped in zip(result.points, (0, 1, 3, 2), (6, 5, 3, 0), strict=False):
        point["rounds"] = {"kept": kept, "dropped": dropped, "cut": False}
    wanted = [
        "28-64-1, default allocator: none of 6 rounds kept.", "28-64-1, keeping allocator: 1 of 6 rounds kept."
    ]  # fmt: skip
    assert render.few(result.typed().points) == wanted
    assert render.SHOWN["peers"][1](result.typed())[1:] == wanted
    assert " ".join(wanted) in readme._times(result.typed(), "step")
    assert "rounds kept" not in readme._times(result.typed(), "epoch")


def test_the_readme_shows_what_a_run_prints_with_dots_for_the_rest(tmp_path: Path) -> None:
    result = _full_results()["scaling"]
    result.points = [p for p in result.points if p["device"] == "cpu"]
    result.save(tmp_path / "scaling.json")
    file = tmp_path / "README.md"
    file.write_text("<!-- bench:printed --><!-- /bench:printed -->")
    readme.update(file, tmp_path, check=False)
    lines = file.read_text().splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[2] == "$ python -m bench"
    table = lines[[line.strip("─ ") for line in lines].index("", 6) + 1 :]
    assert [line.split()[:3] for line in table[:4]] == [
        ["28-1", name, "100,000"] for name in ("native", "native-avx2", "numpy")
    ] + [["28-1", "native", "1,000,000"]]
    assert table[4] == f" ... ({len(result.points) - 8} more)"
    assert table[8].split()[:3] == ["28-64-1", "native", "3,000,000"]
    assert file.read_text().count("```") == 2


def test_the_readme_tells_of_a_gpu_once_one_was_measured(tmp_path: Path) -> None:
    _full_results()["training"].save(tmp_path / "training.json")
    file = tmp_path / "README.md"
    file.write_text("<!-- bench:gpu --><!-- /bench:gpu -->")
    readme.update(file, tmp_path, check=False)
    assert "Not measured yet: `python -m bench gpu" in file.read_text()
    over = [f"{peer} over ours" for peer in gpu.PEERS]
    case = {"case": "28-64-1", "m": 10**7, "step": "onepass", "ms": 1.5, **dict.fromkeys(over, 2.0)}
    raw = {
        "kind": "gpu", "command": "python -m bench gpu", "machine": dataclasses.asdict(machine.describe()),
        "parts": {"card": {"status": "failed", "error": "no luck"}},
        "summary": {"cases": [case]},
    }  # fmt: skip
    (tmp_path / "gpu.json").write_text(json.dumps(raw))
    readme.update(file, tmp_path, check=False)
    assert "- 28-64-1, m = 10,000,000, onepass: 1.50 ms; PyTorch eager 2.00 times" in file.read_text()
    assert "- card: failed: no luck" in file.read_text()


def test_a_readme_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _full_results()["training"].save(tmp_path / "training.json")
    (tmp_path / "README.md").write_text("<!-- bench:training --><!-- /bench:training -->")

    def refuse(self: Path, *arguments: Any, **options: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(InputError, match=r"cannot write .*README.md: Permission denied"):
        readme.update(tmp_path / "README.md", tmp_path, check=False)


def test_who_has_no_time_has_no_line_in_the_picture() -> None:
    points = [p for p in _full_results()["peers"].typed().points if p.part == "step"]
    assert "PyTorch eager" in points[0].times
    assert plots._timed(points) == ["fullbatch, NumPy alone", "scikit-learn", "JAX jit", "JAX, blocks by hand"]


@pytest.mark.parametrize("kind", ["scaling", "peers", "training"])
def test_a_result_of_one_point_and_of_none_can_be_drawn(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = _full_results()[kind]
    del result.points[1:]
    assert [path.suffix for path in plots.draw(result, tmp_path / "x")] == [".png"]
    result.points.clear()
    assert plots.draw(result, tmp_path / "y") == []


# --- The machine ----------------------------------------------------------------------------------------------


def test_the_json_says_what_it_was_measured_on(tmp_path: Path) -> None:
    assert main([*TINY, "--out", str(tmp_path), "--dtype", "float64", "--threads", "1"]) == 0
    result = _load(tmp_path / "scaling.json")
    seen = result["machine"]
    assert {"numpy", "scikit-learn", "fullbatch"} <= set(seen["versions"])
    assert {"library", "version", "kernels", "threads"} <= set(seen["blas"][0])
    assert {"cpu", "cores", "memory", "system", "libc", "python", "gpus", "revision", "date", "load"} <= set(seen)
    assert {"isa", "usable", "why_not", "forced"} <= set(seen["native"])
    for point in result["points"]:
        assert (point["dtype"], point["threads"], point["device"], point["step"]) == ("float64", 1, "cpu", "inplace")
    assert set(result["summary"]["limits"]["cpu"]) == {"product", "copy", "read"}
    assert (
        result["command"]
        == f"python -m bench {shlex.join([*TINY, '--out', str(tmp_path)])} --dtype float64 --threads 1"
    )
    assert result["settings"]["rules"]["rounds"] == Rules.quick().rounds


def _repository(folder: Path) -> str:
    """A checkout with a file under src; its revision."""
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "a.py").write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True).strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_revision_is_this_checkouts_own_and_says_what_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def revision(root: Path) -> str | None:
        monkeypatch.setattr(machine, "ROOT", root)
        machine.revision.cache_clear()
        return machine.revision()

    monkeypatch.delenv("FULLBATCH_REVISION", raising=False)
    root = tmp_path / "checkout"
    clean = _repository(root)
    assert revision(root) == clean
    (root / "results").mkdir()
    (root / "results" / "x").touch()
    assert revision(root) == clean
    (root / "src" / "b.py").touch()
    assert revision(root) == clean + "+"
    inner = root / "unpacked"  # no checkout of its own
    (inner / "src").mkdir(parents=True)
    assert revision(inner) is None
    monkeypatch.setenv("FULLBATCH_REVISION", "from outside")
    assert revision(inner) == "from outside"
    monkeypatch.delenv("FULLBATCH_REVISION")
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert revision(root) is None
    machine.revision.cache_clear()


def test_without_proc_and_with_one_core_it_measures_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_lines", lambda path: [])
    monkeypatch.setattr(memory.Path, "exists", lambda self: False)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)
    monkeypatch.setattr(threads, "_cpu_count", lambda affinity, limit: 1)
    arguments = [word for word in TINY if word not in ("--quick", "--no-memory")]
    assert main([*arguments, "--rounds", "1", "--out", str(tmp_path)]) == 0
    result = _load(tmp_path / "scaling.json")
    assert (result["machine"]["memory"], result["machine"]["cores"]) == (None, 1)
    assert not result["summary"]["rounds_are_checked"]
    assert [(p["extra_bytes"], p["rounds"]["kept"], p["threads"]) for p in result["points"]] == [(None, 1, 1)] * 2
    assert "note: one thread: no round can be checked by a second one" in capsys.readouterr().err


def test_what_a_reader_should_doubt_is_said() -> None:
    def doubts(**change: Any) -> list[str]:
        base = {"revision": "abc", "load": 0.1, "threads": 2, "native": {"library": {"older_than_its_sources": False}}}
        return dataclasses.replace(machine.describe(), **{**base, **change}).doubts

    assert doubts() == []
    assert "note: files differ from revision abc+" in doubts(revision="abc+")[0]
    assert "older than src/native" in doubts(native={"library": {"older_than_its_sources": True}})[0]
    assert "FULLBATCH_NATIVE=off is set" in doubts(environment={"FULLBATCH_NATIVE": "off"})[0]
    assert "load of the last minute was 1.5" in doubts(load=1.5)[0]
    assert doubts(load=None, revision=None) == []


def test_what_forces_kernels_is_taken_away_before_numpy_is_loaded_and_told() -> None:
    """With OPENBLAS_CORETYPE set the limit was that of older kernels, and the native step passed it by 78 %."""
    code = (
        "import os, sys; from bench import __main__ as b; assert 'numpy' not in sys.modules\n"
        "b.take_away(); assert 'OPENBLAS_CORETYPE' not in os.environ\n"
        "from bench import machine; m = machine.describe(); print(m.short); print(*m.doubts, m.environment)"
    )
    modules = os.pathsep.join([str(machine.ROOT), *filter(None, sys.path)])
    environment = {**os.environ, "OPENBLAS_CORETYPE": "Haswell", "PYTHONPATH": modules}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    short, rest = done.stdout.split("\n", 1)
    assert short.endswith(", OPENBLAS_CORETYPE=Haswell taken away")
    assert "OPENBLAS_CORETYPE=Haswell forced kernels on the BLAS" in rest
    assert "'taken away': 'OPENBLAS_CORETYPE=Haswell'" in rest


def test_the_conftest_of_the_cases_leaves_numpy_to_who_settles_the_environment() -> None:
    code = "import bench.conftest, sys; sys.exit('numpy' in sys.modules)"
    modules = os.pathsep.join([str(machine.ROOT), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": modules}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=120).returncode == 0


def test_the_libraries_of_the_blas_come_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = {"user_api": "blas", "internal_api": "openblas", "version": "1", "num_threads": 2}
    pools = [{**pool, "filepath": f"/x/{of}.libs/{of}.so"} for of in ("numpy", "scipy")]
    seen = []
    for told in (pools, pools[::-1]):
        monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda told=told: told)
        seen.append(machine._blas())
    assert [library["of"] for library in seen[0]] == ["numpy", "scipy"]
    assert seen[0] == seen[1]


def test_the_blas_of_the_caption_is_numpys() -> None:
    blas = [{"library": "OpenBLAS", "version": version, "of": of} for version, of in (("1", "scipy"), ("2", "numpy"))]
    assert "with OpenBLAS 2" in dataclasses.replace(machine.describe(), blas=blas).short
    assert machine._owner(Path("/x/site-packages/numpy.libs/libscipy_openblas64_.so")) == "numpy"
    assert machine._owner(Path("/usr/lib/libblas.so")) == ""


# --- A GPU ----------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not any(d.name == "cuda:0" and d.usable for d in fb.devices()), reason="no usable NVIDIA GPU")
def test_scaling_on_a_gpu(tmp_path: Path) -> None:
    backends = ("--backend", "numpy", "--backend", "cupy")
    assert main(["scaling", "--quick", "--shape", "28-64-1", *backends, "--out", str(tmp_path)]) == 0
    result = _load(tmp_path / "scaling.json")
    assert {point["backend"] for point in result["points"]} == {"numpy", "cupy"}
    assert result["summary"]["crossover"]
    assert all(point["extra_bytes"] for point in result["points"])


def test_a_gauge_tells_one_thread_from_two() -> None:
    gauge = timing.two_threads(64)
    if gauge is None:
        pytest.skip("one core")
    assert gauge().ratio > 0
