"""Accuracy as a figure: the reference in float64, the errors of gradients, and where they are told."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench import accuracy, backends, contest, minibatch, peers, problem, readme, render, scaling
from bench.command import main
from bench.problem import Shape
from bench.results import Result
from bench.tests.test_bench import TINY, _full_results
from bench.timing import Rules
from fullbatch import cost_and_gradients
from fullbatch.core.parameters import Layer


def _shown(result: Result) -> str:
    out = io.StringIO()
    render.show(result, Console(file=out, width=240, color_system=None))
    return out.getvalue()


@pytest.mark.parametrize("m", [100, 3 * problem.DISTINCT + 7])
def test_the_reference_is_the_gradient_in_float64_of_all_rows(m: int) -> None:
    p = problem.make(Shape((4, 3, 2)), m)
    J, gradients = problem.exact(p)
    params = tuple(Layer(W.astype(np.float64), b.astype(np.float64)) for W, b in p.params)
    cost, wanted = cost_and_gradients(p.network, params, p.X.astype(np.float64), p.Y.astype(np.float64))
    assert pytest.approx(cost, rel=1e-12) == J
    for layer, true in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(layer.W, true.W, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(layer.b, true.b, rtol=1e-9, atol=1e-12)


def test_a_block_that_repeats_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def counted(network: Any, params: Any, X: Any, Y: Any) -> Any:
        rows.append(X.shape[1])
        return cost_and_gradients(network, params, X, Y)

    monkeypatch.setattr(problem, "cost_and_gradients", counted)
    p = problem.make(Shape((4, 1)), 3 * problem.DISTINCT + 7)
    before = problem.exact(p)[1][0].W
    assert rows == [problem.DISTINCT, 7]
    p.table[problem.DISTINCT] += 1  # another second block, and so another third
    assert not np.array_equal(problem.exact(p)[1][0].W, before)
    assert rows[2:] == [problem.DISTINCT] * 3 + [7]


def test_the_error_is_the_worst_of_the_arrays_each_by_its_own_largest() -> None:
    wanted = (Layer(np.array([[100.0, -400.0]]), np.array([[2.0]])),)
    off = problem.error_of_gradient([(np.array([[100.0, -404.0]]), np.array([2.0]))], wanted)
    assert off == pytest.approx(0.01)
    assert problem.error_of_gradient([(wanted[0].W, np.array([2.2]))], wanted) == pytest.approx(0.1)
    assert problem.error_of_gradient([(wanted[0].W.T, wanted[0].b)], wanted) == math.inf
    assert problem.error_of_gradient([(math.nan * wanted[0].W, wanted[0].b)], wanted) == math.inf
    zero = np.zeros(2)
    assert problem.error(zero, zero) == 0
    assert problem.error(zero + 1, zero) == math.inf


def test_a_sum_in_one_go_is_seen_to_be_off_on_the_column_that_hardly_varies() -> None:
    p = problem.make(Shape((28, 1)), 2**19)
    exact = problem.exact(p)[1]
    dZ = (1 / (1 + np.exp(-(p.params[0].W @ p.X + p.params[0].b))) - p.Y).astype(np.float32)
    running = np.cumsum(dZ * p.X[-1:], axis=1, dtype=np.float32)[0, -1] / np.float32(p.m)  # one example after another
    one_go = (Layer(np.append(exact[0].W[:, :-1], [[running]], axis=1), exact[0].b),)
    ours = cost_and_gradients(p.network, p.params, p.X, p.Y)[1]
    assert problem.error_of_gradient(ours, exact) < 1e-5
    assert problem.error_of_gradient(one_go, exact) > 3 * problem.error_of_gradient(ours, exact)


def _off_by_one_per_cent(p: problem.Problem) -> Any:
    def step() -> Any:
        J, gradients = peers.ours(p)()
        return J, [(1.01 * W, b) for W, b in gradients]

    return step


def test_a_peer_that_is_off_by_one_per_cent_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    off = contest.Entry(_off_by_one_per_cent, "numpy", "as used")
    monkeypatch.setattr(peers, "PEERS", {peers.OURS: peers.PEERS[peers.OURS], "off": off})
    point = peers.case("4-3-1", 300, ["fullbatch", "off"], Rules.quick(), contest.Span.from_now(60.0, 60.0))
    assert point["error_of_gradient"]["off"] == pytest.approx(0.01, rel=1e-2)
    assert point["error_of_gradient"]["fullbatch"] < 1e-5
    result = _full_results()["peers"]
    result.points[0]["error_of_gradient"] = {"fullbatch": 6e-7, "scikit-learn": 0.01}
    text = _shown(result)
    assert "off by" in text
    assert "1e-02" in text
    assert "Gradient off by at most, against float64: fullbatch 6e-07, scikit-learn 1e-02." in text


def test_an_epoch_has_no_gradient_and_shows_none() -> None:
    point = minibatch.case(400, 200, ["fullbatch"], Rules.quick(), contest.Span.from_now(60.0, 60.0))
    assert point["errors"]
    assert point["error_of_gradient"] == {}
    assert render.off_by(None) == ""
    assert "off by" not in _shown(_full_results()["peers"])
    assert "Gradient" not in _shown(_full_results()["scaling"])


def test_scaling_tells_each_backends_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = backends.OnCPU.step

    def off(self: Any, p: problem.Problem) -> Any:
        return lambda: (lambda J, gradients: (J, [(1.01 * W, b) for W, b in gradients]))(*step(self, p)())

    monkeypatch.setattr(backends.OnCPU, "step", off)
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    points = Result.load(tmp_path / "scaling.json").points
    assert [p["error_of_gradient"] for p in points] == pytest.approx([0.01, 0.01], rel=1e-2)
    assert "gradient off by" in (out := capsys.readouterr().out)
    assert "Gradient off by at most, against float64: numpy 1e-02." in out


def test_a_gradient_that_is_not_finite_is_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = (0.5, [Layer(np.full((4, 5), np.nan), np.zeros((4, 1)))])
    monkeypatch.setattr(scaling.own, "other_than", lambda value, ran: None)
    monkeypatch.setattr(backends.OnCPU, "step", lambda self, p: lambda: nothing)
    assert main([*TINY, "--out", str(tmp_path)]) == 2
    assert "numpy: its gradient is not finite" in capsys.readouterr().err


def test_each_has_a_process_of_its_own_and_who_fails_or_does_not_fit_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def answered(work: Any, name: str, *arguments: Any, env: Any) -> Any:
        asked.append(name)
        if name == "scikit-learn":
            raise accuracy.children.ChildError("its process ended with SIGKILL (was it out of memory?)")
        return {"step": "native", "error_of_gradient": 6e-8}

    monkeypatch.setattr(accuracy.children, "call", answered)
    monkeypatch.setattr(accuracy, "free_memory", lambda: 200_000)  # not enough for whole layers of 65 units
    who = [word for name in ("fullbatch", "NumPy, whole arrays", "JAX, blocks by hand") for word in ("--peer", name)]
    command = ["accuracy", "--rows", "600", *who, "--out", str(tmp_path)]
    assert main(command) == 0
    assert asked == ["fullbatch", "JAX, blocks by hand"]
    result = Result.load(tmp_path / "accuracy.json")
    assert result.left_out == ["NumPy, whole arrays: left out: 763,200 bytes are needed, 200,000 are free"]
    assert "6e-08" in capsys.readouterr().out
    monkeypatch.setattr(accuracy, "free_memory", lambda: None)
    assert main([*command, "--resume"]) == 0
    assert asked[2:] == ["NumPy, whole arrays"]  # the others are there
    assert main(["accuracy", "--peer", "scikit-learn", "--name", "dies", "--out", str(tmp_path)]) == 2
    assert "scikit-learn: left out: its process ended with SIGKILL" in capsys.readouterr().err
    page = tmp_path / "page.md"
    page.write_text("<!-- bench:accuracy --><!-- /bench:accuracy --><!-- bench:front --><!-- /bench:front -->")
    source = readme.Source(tmp_path, [(tmp_path / "accuracy.json", Result.load(tmp_path / "accuracy.json"))], tmp_path)
    text = readme.rewritten(page.read_text(), source)
    assert "| fullbatch (native) | 28-64-1 | 600 | 6e-08 |" in text
    assert "| float32 gradient over 600 rows, 28-64-1, off by | 6e-08 |  |  | " in text


def test_its_process_compares_with_float64_where_one_class_is_rare() -> None:
    assert problem.make(Shape((3, 2, 1)), 1000, rare=accuracy.RARE).targets.mean() == pytest.approx(0.1, abs=0.002)
    answer = accuracy.measured("NumPy, whole arrays", "5-4-1", 1000)
    assert answer["error_of_gradient"] < 1e-5
