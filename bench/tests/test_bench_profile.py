"""``bench profile``: the parts add up to the whole, each is the same call without it, and the table says how."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fullbatch as fb
from bench import minibatch, problem, profile, readme, render, roofline, timing
from bench.command import main
from bench.contest import Span
from bench.forms import Limits
from bench.problem import Shape
from bench.results import Result
from bench.tests.test_bench import _load, _measured_by, _result
from bench.timing import Rules
from fullbatch.errors import InputError
from fullbatch.machine import native_library


def _measured(batch: int | None = None, m: int = 100_000, threads: int = 2, **seconds: float) -> dict[str, Any]:
    times = {name.replace("_", " "): timing.timing([value]) for name, value in seconds.items()}
    return {
        "shape": "28-64-1", "m": m, "batch": batch, "threads": threads, "times": times, "left_out": {},
        "steps": {"all": "native, avx512"}, "rounds": {"kept": 3, "dropped": 1, "cut": False},
    }  # fmt: skip


WHOLE = {"all": 0.1, "one_thread": 0.18, "call": 0.002, "activation": 0.08}


def test_the_parts_of_a_step_are_differences_and_add_up_to_the_whole() -> None:
    flops = roofline.flops(Shape((28, 64, 1))) * 100_000
    split = profile.split(_measured(**WHOLE, reading_X=0.01), Limits(flops / 0.05, 1e9))
    parts = split["parts"]
    assert parts["call"] == pytest.approx(0.002 - 0.1 * 2 * profile.FEW / 100_000)
    assert parts["products"] == pytest.approx(0.05)
    assert parts["activation"] == pytest.approx(0.02)
    assert parts["reading X"] is None  # hidden behind the products
    assert split["reading"] == 0.01
    assert sum(filter(None, parts.values())) == pytest.approx(split["whole"]) == pytest.approx(0.1)
    assert split["one_thread"] == 0.18


def test_where_reading_takes_longer_than_the_products_it_is_in_the_sum() -> None:
    flops = roofline.flops(Shape((28, 64, 1))) * 100_000
    parts = profile.split(_measured(**WHOLE, reading_X=0.06), Limits(flops / 0.05, 1e9))["parts"]
    assert (parts["products"], parts["reading X"]) == (None, pytest.approx(0.06))
    assert sum(filter(None, parts.values())) == pytest.approx(0.1)


def test_the_parts_of_an_epoch() -> None:
    one = _measured(batch=200, **WHOLE, optimiser=0.09, order=0.11)
    parts = profile.split(one, Limits(1e12, 1e9))["parts"]
    assert parts["call"] == pytest.approx(0.002 - 0.1 * 200 / 100_000)
    assert (parts["optimiser"], parts["order"]) == (pytest.approx(0.01), pytest.approx(-0.01))
    assert sum(filter(None, parts.values())) == pytest.approx(0.1)
    one["times"]["call"] = None  # no quiet round
    assert profile.summary([one], {"cpu": Limits(1e12, 1e9)})["splits"] == []


def test_each_call_of_a_step_is_the_same_but_for_its_part() -> None:
    p = problem.make(Shape((5, 4, 1)), 5000)
    calls = profile.step_without(p)
    exact = fb.cost(p.network, p.params, p.X, p.Y)
    assert calls["all"]()[0] == pytest.approx(exact, rel=1e-5)
    assert calls["one thread"]()[0] == pytest.approx(exact, rel=1e-5)
    identity = fb.Network((5, 4, 1), hidden="identity", output="sigmoid")
    assert calls["activation"]()[0] == pytest.approx(fb.cost(identity, p.params, p.X, p.Y), rel=1e-5)
    few = p.head(profile.FEW * min(profile.thread_count(None), 4))
    assert calls["call"]()[0] == pytest.approx(fb.cost(p.network, p.params, few.X, few.Y), rel=1e-5)
    assert "activation" not in profile.step_without(problem.make(Shape((5, 1)), 5000))


def test_reading_reads_all_of_x(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(profile.np, "dot", lambda a, b: seen.append(a.size))
    profile._read(np.ones((101, 3), np.float32))
    assert sum(seen) == 303


def test_each_call_of_an_epoch_is_the_same_but_for_its_part() -> None:
    p = problem.make(minibatch.SHAPE, 400)
    calls = profile.epoch_without(p, 200)
    models = {name: call.func.__self__.model for name, call in calls.items()}  # type: ignore[attr-defined]
    assert {name: call.args for name, call in calls.items()} == {  # type: ignore[attr-defined]
        **dict.fromkeys(models, (400,)), "call": (200,)
    }  # fmt: skip
    usual = models["all"].get_params()
    changed = {
        name: {key: value for key, value in model.get_params().items() if value != usual[key] and key != "random_state"}
        for name, model in models.items()
    }
    assert changed == {
        "all": {}, "call": {}, "one thread": {"n_jobs": 1}, "activation": {"activation": "identity"},
        "optimiser": {"solver": "sgd", "momentum": 0.0}, "order": {"shuffle": False},
    }  # fmt: skip
    for call in calls.values():
        call()


@pytest.mark.parametrize("native", [None, "off"])
def test_the_command_takes_apart_whatever_step_there_is(
    native: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if native:
        monkeypatch.setenv("FULLBATCH_NATIVE", native)
    arguments = ["profile", "--quick", "--shape", "5-4-1", "--shape", "9-1", "--out", str(tmp_path)]
    assert main(arguments) == 0
    result = _load(tmp_path / "profile.json")
    assert [(p["shape"], p["batch"]) for p in result["points"]] == [("5-4-1", None), ("9-1", None), ("784-100-10", 200)]
    wanted = "inplace" if native or native_library.isa() is None else "native"
    for split in result["summary"]["splits"]:
        assert split["step"].startswith(wanted)
        assert math.isclose(sum(filter(None, split["parts"].values())), split["whole"])
    printed = capsys.readouterr().out
    assert "where the time goes" in printed
    assert "by difference" in printed
    assert "optimiser" in printed
    assert main([*arguments, "--resume"]) == 0
    assert len(_load(tmp_path / "profile.json")["points"]) == 3
    file = tmp_path / "README.md"
    file.write_text("<!-- bench:profile --><!-- /bench:profile -->")
    assert main(["readme", "--results", str(tmp_path), "--readme", str(file)]) == 0
    assert "| 5-4-1 |" in file.read_text()
    assert "| 784-100-10, batches of 200 |" in file.read_text()
    assert "by difference" in file.read_text()


def test_what_is_beyond_budget_or_memory_is_left_out_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lines(budget: float) -> list[str]:
        result = _result("profile")
        settings = profile.Settings(("5-4-1",), (), budget, 0.01, Rules.quick())
        _measured_by(profile, settings, result)
        assert not result.points
        return result.left_out

    assert lines(1e-6) == ["5-4-1: left out: beyond the budget of 1e-06 s"]
    monkeypatch.setattr(profile.Span, "from_now", lambda share, left: Span(0.0, -1.0, -1.0))
    assert lines(60) == ["5-4-1: left out: the budget of 60 s was used up before its first round"]
    monkeypatch.setattr(profile, "free_memory", lambda: 1000)
    assert lines(60) == ["5-4-1: left out: 394,376 bytes are needed, 1,000 are free"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shape", "wide"], "unknown shape 'wide'; the known ones are 28-64-1"),
        (["--batch", "60001"], "a batch of 60,001 is more than"),
        (["--part", "all"], "unknown part 'all'; the known ones are step; epoch; both."),
        (["--out", "/proc/x"], "cannot write into /proc/x"),
        (["--budget", "0"], "larger than 0"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


def test_the_words_of_the_table_are_of_what_was_measured() -> None:
    one = _measured(**WHOLE, reading_X=0.01)
    result = Result(
        "profile", "", _result().machine, {}, [one], summary=profile.summary([one], {"cpu": Limits(1e12, 1e9)})
    )
    (grid,) = render.profile(result.typed())
    assert "optimiser" not in grid.columns
    assert dict(zip(grid.columns, grid.rows[0], strict=True))["activation"] == "20 %"
    assert dict(zip(grid.columns, grid.rows[0], strict=True))["one thread over all"] == "1.80"
    assert "profile" in readme.SECTIONS


def test_a_file_without_the_time_of_the_whole_is_one_line(tmp_path: Path) -> None:
    one = _measured(**WHOLE)
    limits = Limits(1e12, 1e9, 1e9)
    for name in ("all", "one thread", "call", None):
        result = _result("profile", [one], **profile.summary([one], {"cpu": limits}))
        if name is not None:
            result.points = [{**one, "times": {k: v for k, v in one["times"].items() if k != name}}]
        result.save(tmp_path / "x.json")
        if name is None:
            assert len(Result.load(tmp_path / "x.json").points) == 1
            continue
        with pytest.raises(InputError, match=r"points\[0\]: it is not with times of all, one thread and call"):
            Result.load(tmp_path / "x.json")
