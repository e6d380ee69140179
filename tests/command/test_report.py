"""What a person sees: numbers, tables at 80 columns, progress, the drawing."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from fullbatch.command import progress as progresses
from fullbatch.command import report
from fullbatch.errors import InputError


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7.4, "7"), (999, "999"), (1000, "1k"), (12_345, "12.3k"), (1_250_000, "1.25M"), (2e9, "2G")],
)
def test_count(value, text):
    assert report.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.312, "0.31 s"), (9.4, "9.4 s"), (12.4, "12 s"), (61, "1 min 1 s"), (200, "3 min 20 s")]
)
def test_seconds(value, text):
    assert report.seconds(value) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 0.98765, "98.77 %"),
        ("auc", 0.98765, "0.9877"),
        ("mae", 123_456.7, "123,457"),
        ("auc", float("nan"), "not defined"),
    ],
)
def test_score(name, value, text):
    assert report.score(name, value) == text


def shown(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=terminal, highlight=False, _environ={})


def test_scores_fit_80_columns_beside_the_guess():
    out = shown()
    scores = {"m": 9, "cost": 0.1, "accuracy": 0.9, "auc": 0.99, "log_loss": 0.1}
    report.print_scores(out, "t" * 70, {"model": scores, "majority guess": {**scores, "accuracy": 0.5}})
    lines = out.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("accuracy" in line and "90.00 %" in line and "50.00 %" in line for line in lines)
    assert not any("R²" in line for line in lines)


def test_the_confusion_matrix_is_printed_for_few_classes():
    out = shown()
    scores = {"accuracy": 0.75, "confusion_matrix": [[5, 1], [1, 123456]]}
    report.print_scores(out, "t", {"model": scores, "majority guess": {"accuracy": 0.5}}, ["no", "[yes]"])
    lines = [line.split() for line in out.file.getvalue().splitlines()]
    assert ["no", "5", "1"] in lines
    assert ["[yes]", "1", "123,456"] in lines
    out = shown()
    many = [str(i) for i in range(9)]
    report.print_scores(out, "t", {"model": {"accuracy": 0.75, "confusion_matrix": np.eye(9).tolist()}}, many)
    assert "predicted as" not in out.file.getvalue()


def test_names_in_brackets_are_not_markup():
    out = shown()
    report.print_scores(out, "[bold]", {"[red]": {"accuracy": 1.0}})
    out.print(report.facts([("model", "[blue]x.model[/blue]")]))
    text = out.file.getvalue()
    assert "[bold]" in text
    assert "[red]" in text
    assert "[blue]x.model[/blue]" in text


def train(progress: progresses.TrainingProgress, epochs: int) -> None:
    """Call the hooks as an estimator does."""
    root = SimpleNamespace(max_subtasks=epochs)
    record = {"chosen": {"epochs": epochs}}
    estimator = SimpleNamespace(loss_curve_=[], validation_costs_=[], t_=0, record_=record)
    progress.setup(estimator, root)
    progress.on_fit_task_begin(estimator, root)
    for epoch in range(epochs):
        estimator.loss_curve_.append(1 / (epoch + 1))
        estimator.validation_costs_.append(2 / (epoch + 1))
        estimator.t_ += 10
        progress.on_fit_task_end(estimator, SimpleNamespace(max_subtasks=0))
    progress.on_fit_task_end(estimator, root)
    progress.teardown(estimator, root)


def test_plain_lines_where_there_is_no_terminal():
    out = shown()
    progress = progresses.TrainingProgress(out)
    train(progress, 3)
    lines = out.file.getvalue().splitlines()
    assert [line.split("  ")[:3] for line in lines] == [
        ["epoch 1/3", "cost 1.0000", "validation 2.0000"],
        ["epoch 2/3", "cost 0.5000", "validation 1.0000"],
        ["epoch 3/3", "cost 0.3333", "validation 0.6667"],
    ]
    assert all(line.endswith("examples/s") for line in lines)
    assert (progress.epochs, progress.examples) == (3, 30)
    assert progress.examples_per_second == 30 / progress.seconds


def test_many_epochs_are_few_lines_and_the_last_is_there():
    out = shown()
    train(progresses.TrainingProgress(out), 1009)
    lines = out.file.getvalue().splitlines()
    assert len(lines) <= progresses.MOST_LINES + 2
    assert lines[0].startswith("epoch 1/1009 ")
    assert lines[-1].startswith("epoch 1009/1009 ")


def test_a_bar_on_a_terminal_fits_80_columns():
    out = shown(terminal=True)
    train(progresses.TrainingProgress(out), 12)
    text = out.file.getvalue()
    assert "\x1b[" in text
    assert "epoch 12/12" in text
    assert "cost 0.0833  validation 0.1667" in text
    assert "examples/s" in text


def test_quiet_is_quiet():
    for terminal in (False, True):
        out = shown(terminal)
        progress = progresses.TrainingProgress(out, quiet=True)
        train(progress, 3)
        assert out.file.getvalue() == ""
        assert progress.epochs == 3


def test_progress_follows_scikit_learns_protocol():
    from sklearn.callback import FitCallback

    assert isinstance(progresses.TrainingProgress(shown()), FitCallback)


@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_drawing_is_of_its_kind(form, start):
    pytest.importorskip("matplotlib")
    for validation in ([], [0.6, 0.5, 0.55]):
        file = io.BytesIO()
        report.draw_costs(file, form, "late of flights", [0.7, 0.5, 0.4], validation)
        assert file.getvalue().startswith(start)


def test_a_plot_that_cannot_be_drawn_is_said_before(monkeypatch):
    with pytest.raises(InputError, match=r"\.png, \.pdf, \.svg"):
        report.check_plot("costs.gif")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'fullbatch\[plot\]'"):
        report.check_plot("costs.png")
