"""The files of the benchmark harness: what is in them, what replaces what, and that a damaged one is a line."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from bench import forms, machine, plots, readme, render, results, scaling, timing
from bench.command import main
from bench.results import Result
from bench.tests.test_bench import TINY, _full_results, _interrupt, _load, _result
from fullbatch.errors import InputError

# --- A damaged file -------------------------------------------------------------------------------------------

ANYTHING: tuple[Any, ...] = (None, "x", -1, 0, 0.5, True, [], {}, [1], {"a": 1}, 10**400)
WITH_MARKS = "".join(f"<!-- bench:{name} --><!-- /bench:{name} -->\n" for name in readme.SECTIONS)


# A part of the points, of each sort one: a table is drawn for each damage, and most of it says the same of other cases.
PART = {"scaling": slice(8), "peers": slice(10, None), "training": slice(12)}


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each table or list with each of its keys, all the way down."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


@pytest.mark.parametrize("kind", ["scaling", "peers", "training"])
def test_whatever_is_damaged_in_a_result_is_one_line_or_does_no_harm(kind: str, tmp_path: Path) -> None:
    whole = dataclasses.asdict(_full_results()[kind])
    whole["points"] = whole["points"][PART[kind]]
    path, file = tmp_path / "x.json", tmp_path / "README.md"
    file.write_text(WITH_MARKS)
    draws = random.Random(0)
    refused = 0
    for _ in range(300):
        raw = copy.deepcopy(whole)
        inside, key = draws.choice(list(_places(raw)))
        if draws.random() < 0.3:
            del inside[key]
        else:
            inside[key] = draws.choice(ANYTHING)
        path.write_text(json.dumps(raw))
        try:
            result = Result.load(path)
        except InputError:
            refused += 1
            continue
        render.show(result, Console(file=io.StringIO()))
        readme.update(file, tmp_path, check=True)
    assert refused > 60


@pytest.mark.parametrize("kind", ["scaling", "peers", "training"])
def test_what_follows_is_made_of_the_points_and_not_read(kind: str, tmp_path: Path) -> None:
    result, path = _full_results()[kind], tmp_path / "x.json"
    whole = result.typed()
    assert all(result.summary[name] == value for name, value in whole.summary.items())
    result.summary = {"limits": result.summary.get("limits", {})}
    result.save(path)
    assert Result.load(path).typed() == whole


@pytest.mark.parametrize("kind", ["scaling", "peers", "training"])
def test_a_file_that_was_cut_off_is_one_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, file = tmp_path / f"{kind}.json", tmp_path / "README.md"
    _full_results()[kind].save(path)
    path.write_text(path.read_text()[:-200])
    file.write_text(WITH_MARKS)
    places = ["--results", str(tmp_path)]
    for arguments in (
        ["readme", *places, "--readme", str(file)], ["readme", *places, "--readme", str(file), "--check"],
        ["plot", *places], ["show", *places],
        [kind, "--resume", "--out", str(tmp_path), *(["--quick"] if kind != "training" else [])],
    ):  # fmt: skip
        assert main(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"{path} is not a result of this harness" in error
    assert file.read_text() == WITH_MARKS


@pytest.mark.parametrize(
    ("form", "value", "words"),
    [
        (forms.Number, 1, None),
        (forms.Whole, 1.5, "Expected `int`, got `float`"),
        (forms.Whole, True, "Expected `int`, got `bool`"),
        (forms.Whole, 10**400, "Expected `int` <= 4611686018427387904"),
        (forms.Number, 10**400, "Number out of range"),
        (str | None, None, None),
        (str | None, 1, "Expected `str | null`, got `int`"),
        (list[int], [1, "x"], "[1]: Expected `int`, got `str`"),
        (forms.Roofline, {"seconds": "x"}, "seconds: Expected `float`, got `str`"),
        (forms.Rounds, {"kept": 1, "dropped": 0}, None),
        (forms.Rounds, {"kept": 1, "dropped": 0, "cut": "x"}, "cut: Expected `bool`, got `str`"),
        (forms.Rounds, {"kept": 1}, "Object missing required field `dropped`"),
        (forms.Rounds, {"kept": -1, "dropped": 0}, "kept: Expected `int` >= 0"),
        (dict[str, int], {"x": 1, "y": None}, "[...]: Expected `int`, got `null`"),
        (forms.Positive, 0, "Expected `float` > 0.0"),
        (dict[str, int], [], "Expected `object`, got `array`"),
    ],
)
def test_a_misfit_is_told_by_its_place(form: Any, value: Any, words: str | None) -> None:
    if words is None:
        msgspec.convert(value, form)
        return
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, form)
    assert forms.misfit(caught.value) == words


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("scaling", lambda raw: raw["points"][0].update(gflops=None), "points[0]: it is not with all rates where"),
        ("scaling", lambda raw: raw["points"][-1].update(gflops=1.0), "points[16]: it is not with all rates where"),
        ("scaling", lambda raw: raw["points"][1].update(shape="wide"), "points[1]: unknown shape 'wide'"),
        ("scaling", lambda raw: raw["points"][1].update(dtype="float16"), "points[1].dtype: Invalid enum value"),
        ("peers", lambda raw: raw.pop("command"), "Object missing required field `command`"),
        ("peers", lambda raw: raw["machine"].update(cores="2"), "machine.cores: Expected `int`, got `str`"),
        ("peers", lambda raw: raw["machine"].pop("cpu"), "machine: Object missing required field `cpu`"),
        ("peers", lambda raw: raw["machine"].update(blas=[{}]), "machine.blas[0]: Object missing required field"),
        ("peers", lambda raw: raw["summary"].pop("limits"), "summary.limits has no cpu"),
        ("training", lambda raw: raw["points"][0]["losses"].pop(), "points[0]: it is not with one loss for each"),
    ],
)
def test_what_no_type_says_of_a_result_is_checked_too(kind: str, change: Any, words: str, tmp_path: Path) -> None:
    raw = dataclasses.asdict(_full_results()[kind])
    change(raw)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(InputError, match=re.escape(f"{path} is not a result of this harness ({words}")):
        Result.load(path)


# --- A result that is there already ---------------------------------------------------------------------------


def test_a_run_again_keeps_the_finished_result_it_replaces_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*TINY, "--out", str(tmp_path)]
    path, kept = tmp_path / "scaling.json", tmp_path / "scaling.json~"
    assert main(arguments) == 0
    first = path.read_text()
    assert "replaces" not in capsys.readouterr().err
    with monkeypatch.context() as patch:  # nothing was measured: nothing is touched
        patch.setattr(scaling, "take_turns", _interrupt)
        assert main(arguments) == 130
    assert path.read_text() == first
    assert not kept.exists()
    once = iter([True])
    with monkeypatch.context() as patch:  # one point was: the finished one stays, under another name
        patch.setattr(
            scaling, "take_turns", lambda *a, **o: (timing.take_turns if next(once, False) else _interrupt)(*a, **o)
        )
        assert main(arguments) == 130
    assert kept.read_text() == first
    date = _load(kept)["machine"]["date"]
    assert f"this run replaces {path} of {date}; the old one is scaling.json~ now\n" in capsys.readouterr().err
    assert main(arguments) == 0  # and an interrupted one does not push it out
    assert kept.read_text() == first
    assert "which was interrupted\n" in capsys.readouterr().err
    assert len(_load(path)["points"]) == 2
    assert [name for name, _ in results.load_all(tmp_path)] == [path]  # what is kept is no result of the folder


def test_what_is_no_result_is_not_lost_either_and_resume_replaces_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scaling.json"
    path.write_text("mine")
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "scaling.json~").read_text() == "mine"
    assert f"replaces {path}, which is no result of this harness; the old one is" in capsys.readouterr().err
    assert main([*TINY, "--out", str(tmp_path), "--resume"]) == 0
    assert (tmp_path / "scaling.json~").read_text() == "mine"
    assert "replaces" not in capsys.readouterr().err


# --- What was set from outside --------------------------------------------------------------------------------


def test_variables_that_change_a_run_are_written_down_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in machine.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(os.cpu_count() or 1)), raising=False)
    assert machine.describe().environment == {}
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_max=0")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {2, 0})
    seen = machine.describe()
    assert seen.environment == {
        "OPENBLAS_NUM_THREADS": "1", "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0", "affinity": "0,2"
    }  # fmt: skip
    said = "OPENBLAS_NUM_THREADS=1, GLIBC_TUNABLES=glibc.malloc.mmap_max=0, affinity=0,2"
    assert f"note: {said} is set" in seen.doubts
    assert f", with {said}" in readme._source(dataclasses.replace(_result(), machine=seen))


def test_a_run_under_other_variables_is_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    capsys.readouterr()
    assert main([*TINY, "--out", str(tmp_path), "--resume"]) == 2
    error = capsys.readouterr().err
    assert re.search(r"its environment is {.*} and now it is {.*'OPENBLAS_CORETYPE': 'Haswell'", error)
    assert error.count("\n") == 1


def test_a_damaged_file_of_a_card_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gpu.json").write_text('{"kind": "gpu", "summary": {"cases": [{"case": 1}]}}')
    _full_results()["training"].save(tmp_path / "training.json")
    file = tmp_path / "README.md"
    file.write_text(WITH_MARKS)
    places = ["--results", str(tmp_path)]
    for arguments in (["readme", *places, "--readme", str(file), "--check"], ["plot", *places]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert "gpu.json is not what bench gpu writes" in error
        assert error.count("\n") == 1


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    _full_results()["training"].save(tmp_path / "training.json")
    (tmp_path / "training.png").mkdir()
    assert main(["plot", "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"cannot write {tmp_path}/training.png: Is a directory" in error
    assert error.count("\n") == 1


def test_what_a_file_says_in_brackets_is_printed_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = _full_results()["scaling"]
    result.points = [{**p, "backend": "[/b]"} for p in result.points if p["device"] == "cpu"]
    result.machine = dataclasses.replace(result.machine, cpu="A [red] CPU [/b] :smile:")
    result.save(tmp_path / "x.json")
    assert main(["show", "--results", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "A [red] CPU [/b] :smile:," in said
    assert " [/b] " in said.split("M examples/s")[1]
    file = tmp_path / "README.md"
    file.write_text("<!-- bench:printed --><!-- /bench:printed -->")
    readme.update(file, tmp_path, check=False)
    assert "A [red] CPU [/b] :smile:," in file.read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"budget": "1e400"}},  # a number as it stands: JSON has no end of them
        {"points": [], "summary": {"limits": {"cpu": {"speed": 1.0}}}},
        {"summary": {"limits": {"cuda:1": {"product": 1.0, "copy": 1.0, "read": 1.0}}, "growth": [], "crossover": []}},
    ],
)
def test_what_only_a_picture_or_a_run_that_goes_on_would_find_is_one_line_too(
    change: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    raw = {**dataclasses.asdict(_full_results()["scaling"]), **change}
    path.write_text(json.dumps(raw).replace('"1e400"', "1e400"))
    with pytest.raises(InputError, match="is not a result of this harness"):
        Result.load(path)


@pytest.mark.parametrize(
    "path", sorted((machine.ROOT / "bench" / "results").glob("*.json")), ids=lambda path: path.stem
)
def test_nothing_of_the_results_here_is_cut_at_any_width(path: Path) -> None:
    result = Result.load(path)
    for width in range(20, 200, 20):
        out = io.StringIO()
        render.show(result, render.console(file=out, width=width, force_terminal=True, color_system=None))
        assert "…" not in out.getvalue(), width


# --- The pictures ---------------------------------------------------------------------------------------------


def test_a_picture_of_another_result_is_found_and_the_same_result_gives_the_same_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    result, path, file = _full_results()["training"], tmp_path / "training.json", tmp_path / "README.md"
    result.save(path)
    file.write_text(WITH_MARKS)
    arguments = ["readme", "--results", str(tmp_path), "--readme", str(file)]
    assert main(arguments) == 0
    picture = tmp_path / "training.png"
    first = picture.read_bytes()
    assert main([*arguments, "--check"]) == 0
    assert main(["plot", "--results", str(tmp_path)]) == 0
    assert picture.read_bytes() == first
    path.write_text(json.dumps(_load(path)))  # laid out otherwise, the same content
    assert main([*arguments, "--check"]) == 0
    result.points[0]["losses"][0] += 0.01  # no table shows it
    result.save(path)
    capsys.readouterr()
    assert main([*arguments, "--check"]) == 1
    assert capsys.readouterr().err == (
        f"bench: not drawn from the results beside them: {picture}; run: python -m bench readme\n"
    )
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0


def test_the_pictures_of_this_repository_are_drawn_from_its_results() -> None:
    found = sorted((machine.ROOT / "bench" / "results").glob("*.json"))
    assert [path.name for path in found if not results.is_drawn_from(path)] == []


def test_each_dot_beside_the_peers_is_in_the_legend() -> None:
    pytest.importorskip("matplotlib")
    figure = plots.FIGURES["peers"](_full_results()["peers"])
    told = {text.get_text() for text in figure.legends[0].get_texts()}
    drawn = {
        (line.get_color(), line.get_markerfacecolor() != "none")
        for axes in figure.axes for line in axes.get_lines() if len(line.get_xdata()) == 1
    }  # fmt: skip
    assert len(drawn) == 4  # two kinds under two allocators
    assert told == {label for label, _, _ in plots.DOTS}
    assert {colour for colour, _ in drawn} == {colour for _, colour, full in plots.DOTS if full}
    assert [label for label, _, full in plots.DOTS if not full] == ["either, with an allocator that keeps memory"]


def test_ticks_are_plain_numbers_and_enough_of_them() -> None:
    pytest.importorskip("matplotlib")
    figure = plots.FIGURES["scaling"](_full_results()["scaling"])
    for axes in figure.axes:
        low, high = axes.get_ylim()
        written = axes.yaxis.get_major_formatter()
        shown = [written(tick) for tick in axes.get_yticks() if low <= tick <= high]
        assert len(shown) >= 3
        assert all(re.fullmatch(r"\d{1,3} [kMG]?B?", text) for text in shown), shown
