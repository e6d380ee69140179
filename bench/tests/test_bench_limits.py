"""The machine's limits: the best of the ways to measure them, and what is said where a step passes them."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from bench import children, forced, render, roofline, scaling
from bench.forms import Limits
from bench.problem import Shape
from bench.tests.test_bench import _full_results


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Faked measurements, which a test may change; the fake child notes its environment."""
    here: dict[str, Any] = {"blas": Limits(1e9, 5e9, 6e9), "child": Limits(2e9, 4e9, 7e9), "native": 5e8, "env": None}

    def call(work: Any, *arguments: Any, env: dict[str, Any]) -> Any:
        assert arguments == ("float32", None, False)
        here["env"] = env
        if here["child"] is None:
            raise children.ChildError("no luck")
        return msgspec.to_builtins(here["child"])

    monkeypatch.setattr(roofline, "as_it_is", lambda *arguments: here["blas"])
    monkeypatch.setattr(roofline, "native_product", lambda *arguments: here["native"])
    monkeypatch.setattr(children, "call", call)
    for name in forced.FORCING:
        monkeypatch.delenv(name, raising=False)
    return here


def test_the_limit_is_the_best_of_blas_and_native_product(timings: dict[str, Any]) -> None:
    assert roofline.cpu_limits() == Limits(1e9, 5e9, 6e9)
    assert timings["env"] is None  # nothing forces kernels, and another process would have the same
    timings["native"] = 3e9
    assert roofline.cpu_limits() == Limits(3e9, 5e9, 6e9)


def test_where_kernels_are_forced_a_process_without_that_is_asked(
    timings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert roofline.cpu_limits() == Limits(2e9, 5e9, 7e9)
    assert timings["env"] == dict.fromkeys(forced.FORCING)
    timings["child"] = None
    assert roofline.cpu_limits() == Limits(1e9, 5e9, 6e9)


def test_the_process_that_is_asked_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    limits = roofline.not_forced("float32", None, quick=True)
    assert 1e8 < limits.product < 1e14
    assert limits.memory > 1e7


def test_the_native_product_is_that_of_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def best(call: Any, tries: int) -> float:
        seen.append(len(call()))
        return 0.5

    monkeypatch.setattr(roofline, "_best", best)
    if roofline.native_library.isa() is None:
        pytest.skip(roofline.native_library.why_not())
    rate = roofline.native_product("float32", 1, quick=True)
    assert rate == roofline.flops(Shape((256, 256, 1))) * 1024 / 0.5
    assert seen == [2]
    monkeypatch.setattr(roofline.native_library, "isa", lambda: None)
    assert roofline.native_product("float32", 1, quick=True) == 0


def test_what_is_taken_away_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in forced.FORCING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(forced.TAKEN_AWAY, "")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    forced.take_away()
    assert os.environ[forced.TAKEN_AWAY] == "OPENBLAS_CORETYPE=Haswell, MKL_CBWR=COMPATIBLE"
    assert "OPENBLAS_CORETYPE" not in os.environ


def test_a_share_above_the_limit_is_said_to_be_of_a_wrong_one() -> None:
    assert roofline.wrong(None) == roofline.wrong(1.0) == ""
    result = _full_results()["scaling"]
    point = next(p for p in result.points if p["backend"] == "native")
    assert "wrong limit" not in scaling.describe(scaling.derive(point, Limits(1e15, 1e15)))
    scaling.derive(point, Limits(1e7, 1e7))
    assert "% of the roofline (wrong limit)" in scaling.describe(point)
    (grid,) = render.SHOWN["scaling"][0](result.typed())
    assert [cell for row in grid.rows for cell in row if "wrong limit" in cell]
    assert render._of_limit({"limit": "sgemm", "of_limit": 1.18}) == "118 % of sgemm (wrong limit)"
