"""The plots of an explanation as PNG: scikit-learn's displays, and bars and lines where it has none."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.explaining.asked import names_of
from fullbatch.tables.scores import decide

if TYPE_CHECKING:
    from fullbatch.explaining.explanation import Explanation

SERIES = 5  # classes that are drawn as lines of one plot
MATRIX = 40  # classes whose confusion is drawn
BARS = 25
DPI = 110
Figures = dict[str, tuple[str, bytes]]


def figures(found: Explanation) -> Figures:
    """Each plot by its file's name: what it shows, in a sentence, and the PNG."""
    drawn: Figures = {}

    def add(name: str, text: str, size: tuple[float, float], draw: Callable[[Any], None]) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=DPI, metadata={"Software": None})
        drawn[name] = text, image.getvalue()

    if found.importance is not None:
        shown = found.importance[:BARS]
        text = f"How much {found.worsening} when a column is permuted; the bars' ends: one standard deviation."
        add("importance", text, (8, 1 + 0.32 * len(shown)), lambda figure: _importance(figure, found))
    if found.dependence:
        text = "The mean prediction when all rows get one value of a column; texts by what they lead to."
        high = math.ceil(len(found.dependence) / 2)
        add("dependence", text, (10, 3.2 * high), lambda figure: _dependence(figure, found))
    if found.true is None:
        return drawn
    if not found.classes:
        text = "Predictions against the truth, and what is left."
        add("errors", text, (10, 4.4), lambda figure: _errors(figure, found))
        text = "Calibration: the mean of the target in tenths of the rows, by their prediction."
        add("calibration", text, (5, 4.4), lambda figure: _calibration_of_numbers(figure, found))
        return drawn
    add("scores", "ROC, precision and recall, and how the scores are spread.", (12, 4), lambda f: _scores(f, found))
    text = "Calibration: how often a class is true where the model says so with this probability (tenths of the rows)."
    add("calibration", text, (5, 4.4), lambda figure: _calibration(figure, found))
    if len(found.classes) <= MATRIX:
        size = 3.4 + 0.34 * len(found.classes)
        add("confusion", "True classes against predicted ones.", (size + 1, size), lambda f: _confusion(f, found))
    return drawn


def _importance(figure: Any, found: Explanation) -> None:
    ax, shown = figure.subplots(), (found.importance or ())[:BARS][::-1]
    ax.barh([one.column for one in shown], [one.mean for one in shown], xerr=[one.spread for one in shown], color="C0")
    ax.set_xlabel(f"fall of {found.metric}")
    ax.axvline(0, color="0.4", linewidth=0.8)


def _dependence(figure: Any, found: Explanation) -> None:
    dependence = found.dependence
    axes = np.ravel(figure.subplots(math.ceil(len(dependence) / 2), 2, squeeze=False))
    for ax in axes[len(dependence) :]:
        ax.remove()
    for ax, one in zip(axes, dependence, strict=False):
        widest = np.argsort(-np.ptp(one.means, axis=1), kind="stable")[:SERIES]
        order = np.arange(len(one.labels))
        if one.values is None and not all(_is_short(label) for label in one.labels):
            order = np.argsort(one.means[widest[0]], kind="stable")
        labels = [one.labels[i] for i in order]
        for i in sorted(widest.tolist()):
            places = range(len(labels)) if one.values is None else one.values
            marks: dict[str, Any] = {"linestyle": "none", "marker": "o"} if one.values is None else {"marker": "."}
            ax.plot(places, one.means[i, order], label=one.series[i], **marks)
        if one.values is None or not all(_is_short(label) for label in one.labels):
            few = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), 20)).astype(int))
            at = few if one.values is None else [one.values[i] for i in few[:: max(1, len(few) // 5)]]
            names = [labels[i] for i in (few if one.values is None else few[:: max(1, len(few) // 5)])]
            ax.set_xticks(at, names, rotation=60 if one.values is None else 20, ha="right")
        ax.set_xlabel(one.column)
        ax.set_ylabel("mean probability" if found.classes else "mean prediction")
        ax.legend(fontsize="small")


def _is_short(label: str) -> bool:
    """Whether it is a number and not a date, which has a name of its own on the axis."""
    try:
        float(label)
    except ValueError:
        return False
    return True


def _scores(figure: Any, found: Explanation) -> None:
    from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

    roc, precision, spread = figure.subplots(1, 3)
    true, proba = _known(found)
    names, counts = names_of(found.classes), np.bincount(true, minlength=len(found.classes))
    shown = [1] if len(names) == 2 else np.argsort(-counts, kind="stable")[:SERIES].tolist()
    for j in shown:
        if 0 < counts[j] < len(true):
            more = {"plot_chance_level": j == shown[-1]}
            weighed = {"sample_weight": found.weight, "name": names[j]}
            RocCurveDisplay.from_predictions(true == j, proba[:, j], ax=roc, **weighed, **more)
            PrecisionRecallDisplay.from_predictions(true == j, proba[:, j], ax=precision, **weighed)
    # scikit-learn adds "(Positive label: 1)", which is not the name of a class.
    for ax, across, up in ((roc, "false positive rate", "true positive rate"), (precision, "recall", "precision")):
        ax.set(xlabel=across, ylabel=up)
        ax.legend(fontsize="x-small")
    bins = np.linspace(0, 1, 31)
    if len(names) == 2:
        for j, name in enumerate(names):
            own = None if found.weight is None else found.weight[true == j]
            spread.hist(proba[true == j, 1], bins, weights=own, alpha=0.6, label=f"truly {name}")
        spread.set_xlabel(f"probability of {names[1]}")
    else:
        own = np.take_along_axis(proba, true[:, np.newaxis], axis=1)[:, 0]
        spread.hist(own, bins, weights=found.weight, label="all rows")
        spread.set_xlabel("probability of the true class")
    spread.set_ylabel("rows" if found.weight is None else "weight of the rows")
    spread.legend(fontsize="small")


def _calibration(figure: Any, found: Explanation) -> None:
    from sklearn.calibration import CalibrationDisplay

    true, proba = _known(found)
    ax, names = figure.subplots(), names_of(found.classes)
    if len(names) == 2:
        hit, said, name = true == 1, proba[:, 1], names[1]
    else:
        hit, said, name = true == proba.argmax(axis=1), proba.max(axis=1), "the most probable class"
    if hit.all() or not hit.any():
        ax.plot([np.average(said, weights=found.weight)], [float(hit[0])], "s", label=name)
    else:
        said = np.clip(said.astype(np.float64), 0, 1)
        if found.weight is None:
            CalibrationDisplay.from_predictions(hit, said, n_bins=10, strategy="quantile", name=name, ax=ax)
        else:
            shares, means = _tenths(said, hit, found.weight)
            CalibrationDisplay(np.array(shares), np.array(means), said, estimator_name=name).plot(ax=ax)
    ax.set_xlabel("probability that the model says")
    ax.set_ylabel("share for which it is true")
    ax.legend(fontsize="small")


def _confusion(figure: Any, found: Explanation) -> None:
    from sklearn.metrics import ConfusionMatrixDisplay

    true, proba = _known(found)
    k, few = len(found.classes), len(found.classes) <= 12
    ConfusionMatrixDisplay.from_predictions(
        true, decide(proba, found.threshold), labels=np.arange(k), display_labels=names_of(found.classes),
        include_values=few, sample_weight=found.weight, xticks_rotation="horizontal" if k < 5 else "vertical",
        values_format=",d" if found.weight is None else ",.4g", cmap="Blues", ax=figure.subplots(),
    )  # fmt: skip


def _errors(figure: Any, found: Explanation) -> None:
    from sklearn.metrics import PredictionErrorDisplay

    for ax, kind in zip(figure.subplots(1, 2), ("actual_vs_predicted", "residual_vs_predicted"), strict=True):
        PredictionErrorDisplay.from_predictions(
            found.true, found.predicted, kind=kind, subsample=2000, random_state=0, ax=ax,
            scatter_kwargs={"alpha": 0.3, "s": 8},
        )  # fmt: skip


def _tenths(said: np.ndarray, true: np.ndarray, weight: np.ndarray | None) -> tuple[list[float], list[float]]:
    """The means of what is true and of what is said, in tenths of the rows' weight, by what is said."""
    order = np.argsort(said, kind="stable")
    if weight is None:
        parts = np.array_split(order, 10)
    else:
        share = np.cumsum(weight[order])
        parts = np.split(order, np.searchsorted(share, share[-1] * np.arange(1, 10) / 10, side="right"))
    parts = [part for part in parts if len(part)]

    def means(values: np.ndarray) -> list[float]:
        return [float(np.average(values[p], weights=None if weight is None else weight[p])) for p in parts]

    return means(true.astype(np.float64)), means(said.astype(np.float64))


def _calibration_of_numbers(figure: Any, found: Explanation) -> None:
    true, predicted = _known(found)
    ax, (seen, said) = figure.subplots(), _tenths(predicted, true, found.weight)
    ax.plot(said, seen, "s-", label=found.target)
    ax.axline((said[0], said[0]), slope=1, color="0.4", linestyle=":", label="as it should be")
    ax.set_xlabel("mean prediction")
    ax.set_ylabel("mean of the target")
    ax.legend(fontsize="small")


def _known(found: Explanation) -> tuple[np.ndarray, np.ndarray]:
    assert found.true is not None
    assert found.predicted is not None
    return found.true, found.predicted
