"""What a person sees while a model trains, with the bars of rich, which take longer to import than its tables."""

from __future__ import annotations

import math
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from fullbatch.command.printing import plural
from fullbatch.command.report import count
from fullbatch.tables.epochs import best_epoch

MOST_LINES = 25  # So many lines of progress at most are printed where the output is not a terminal.


class TrainingProgress:
    """A callback of scikit-learn's protocol: a bar on a terminal, plain lines elsewhere, nothing if ``quiet``.

    It is set up before the first epoch and told of each epoch's end, when the estimator's ``loss_curve_``,
    ``validation_costs_`` and ``t_`` are up to date. ``epochs`` are all of the training, ``before`` those of them that
    were over when a checkpoint was gone on with, ``planned`` those that are known to be wanted; ``examples`` (seen
    since, each as often as it was seen) and ``seconds`` are new.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self.planned = 0
        self.epochs = self.before = 0
        self.examples = 0
        self.seconds = 0.0
        self._quiet = quiet
        self._bar: Progress | None = None
        self._start = 0.0

    # The next four methods are the protocol of sklearn.callback.

    def setup(self, estimator: Any, context: Any) -> None:
        self._start = time.perf_counter()
        self.planned = estimator.record_["chosen"]["epochs"]
        if self.console.is_terminal and not self._quiet:
            self._bar = _bar(self.console)
            self._bar.add_task("", total=self.planned, cost="", rate="")
            self._bar.start()

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        again = getattr(estimator, "retraining_", None)
        if context.max_subtasks != 0 or again is None or self.planned == sum(again):
            return
        after, epochs = again
        self.planned = after + epochs
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], total=self.planned)
        best = best_epoch(estimator.validation_costs_[:after])
        line = (
            f"epoch {best} of {after} was the best on held-out rows: training once more, for {plural(epochs, 'epoch')}"
        )
        self.console.print(line, highlight=False, soft_wrap=True)

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        if context.max_subtasks != 0:  # The whole fit has its epochs as subtasks; an epoch has none.
            return
        first = not self.epochs
        self.epochs = len(estimator.loss_curve_)
        if first:
            self.before = self.epochs - 1
        self.examples = int(estimator.t_) * (self.epochs - self.before) // self.epochs
        self.seconds = time.perf_counter() - self._start
        if not self._quiet:
            self._show(estimator)

    def teardown(self, estimator: Any, context: Any) -> None:
        self.seconds = time.perf_counter() - self._start
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @property
    def examples_per_second(self) -> float:
        return self.examples / self.seconds if self.seconds else 0.0

    def _show(self, estimator: Any) -> None:
        cost = f"cost {_last(estimator, 'loss_curve_')}"
        if getattr(estimator, "validation_costs_", None):
            cost += f"  validation {_last(estimator, 'validation_costs_')}"
        rate = f"{count(self.examples_per_second)} examples/s"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.epochs, cost=cost, rate=rate)
            return
        every = math.ceil(self.planned / MOST_LINES)
        if self.epochs % every == 0 or self.epochs in (self.before + 1, self.planned):
            print(f"epoch {self.epochs}/{self.planned}  {cost}  {rate}", file=self.console.file, flush=True)


def _last(estimator: Any, name: str) -> str:
    return f"{float(getattr(estimator, name)[-1]):.4f}"


class _Epochs(ProgressColumn):
    """The number of epochs that are done, of all, so wide that the bar does not move."""

    def render(self, task: Task) -> Text:
        total = str(int(task.total or 0))
        return Text(f"epoch {int(task.completed):>{len(total)}}/{total}")


class _Left(ProgressColumn):
    """Minutes and seconds that are left; the time taken, once all is done."""

    def render(self, task: Task) -> Text:
        seconds = task.elapsed if task.finished else task.time_remaining
        if seconds is None:
            return Text("-:--")
        minutes, rest = divmod(int(seconds + 0.5), 60)
        return Text(f"{minutes}:{rest:02d}", style="" if task.finished else "cyan")


def _bar(console: Console) -> Progress:
    return Progress(
        _Epochs(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[cost]}", markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        _Left(),
        console=console,
        expand=True,
        refresh_per_second=4,
    )
