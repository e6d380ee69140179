"""Asking a model: each contender says the same, and the figures are in the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import readme, serving
from bench.command import main
from bench.results import Result


def test_all_parts_are_measured_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers otherwise than the others would raise AssertionError."""
    monkeypatch.setattr(serving, "BULK", {"3-4-5-1": 500_000})
    monkeypatch.setattr(serving, "GRAPHS", {name: serving.GRAPHS[name] for name in ("multi-label", "logistic")})
    assert main(["serving", "--quick", "--out", str(tmp_path)]) == 0
    result = Result.load(tmp_path / "serving.json")
    parts = [(point["part"], point["m"]) for point in result.points]
    page = tmp_path / "page.md"
    page.write_text("<!-- bench:serving -->\n<!-- /bench:serving -->")
    assert readme.update(page, tmp_path, check=False) is False
    assert "| many rows | 3-4-5-1 | fullbatch | 500 |" in page.read_text()
    if serving.without_onnx():
        assert parts == [("bulk", 500), ("row", 1)]
        assert "onnxruntime: left out" in result.left_out[0]
    else:
        assert parts == [("bulk", 500), ("row", 1), ("graph", 10), ("graph", 10)]
        assert "| ONNX graph | logistic | exported | 10 |" in page.read_text()


def test_another_answer_is_no_contender() -> None:
    with pytest.raises(AssertionError, match="Not equal"):
        serving.agreed({"one": lambda: [0.25], "other": lambda: [0.5]})


@pytest.mark.parametrize("name", ["text classes", "26 classes", "gelu, silu, leaky_relu"])
def test_the_other_graphs_by_hand_say_the_same(name: str) -> None:
    pytest.importorskip("ndonnx", reason="ndonnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    assert set(serving.graphs(name, 50)) == {serving.EXPORTED, serving.BY_HAND}
